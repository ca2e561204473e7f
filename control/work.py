"""What a run of a plan does, as commands of Onggi.

Owns: names of archives, and the steps of each kind of run. Pure: must not know processes or files.
"""

from __future__ import annotations

from datetime import UTC, datetime

from .messages import Step, Work
from .model import Kind, Run
from .plan import Plan, Verify, VerifyBy

MARKER_NAME = ".onggi-target"
_SUFFIX = ".onggi"
_SCRATCH_SUFFIX = ".restored"
_WEEK_S = 7 * 86_400.0


def archive_path(plan: Plan, started_s: float) -> str:
    """Return the path of the archive that a run makes; names sort by time."""
    time = datetime.fromtimestamp(started_s, UTC)
    return f"{plan.folder}/{time:%Y-%m-%dT%H-%M-%SZ}{_SUFFIX}"


def backup(run: Run, plan: Plan, marker: str, started_s: float, verified_s: float | None) -> Work:
    """Return the work of a backup.

    Args:
        run: which.
        plan: of the run.
        marker: what the marker file of the target must hold.
        started_s: when it starts.
        verified_s: when an archive of the plan was last proven right; None for never.
    """
    archive = archive_path(plan, started_s)
    # Patterns are of trees; what is packed is not to depend on where the source happens to be.
    mode = "tree" if plan.exclude and plan.mode == "auto" else plan.mode
    words = ["pack", plan.source, archive, "--mode", mode, "--level", str(plan.level)]
    if plan.limit_bytes_per_s:
        words += ["--limit", str(plan.limit_bytes_per_s)]
    for pattern in plan.exclude:
        words += ["--exclude", pattern]
    steps = [Step("pack", tuple(words), expected_findings=True)]
    is_old = verified_s is None or started_s - verified_s >= _WEEK_S
    if plan.verify is Verify.AFTER or (plan.verify is Verify.WEEKLY and is_old):
        steps += _verify(plan, archive)
    return Work(
        run.run_id, run.attempt + 1, tuple(steps), plan.target, marker, archive, (), plan.nice
    )


def verify(run: Run, plan: Plan, marker: str) -> Work:
    """Return the work of a run that proves `run.archive` right."""
    steps = _verify(plan, run.archive)
    # Only a restore needs the target: its scratch is written there.
    target = plan.target if plan.verify_by is VerifyBy.RESTORE else ""
    return Work(
        run.run_id, run.attempt + 1, tuple(steps), target, marker if target else "", "", (),
        plan.nice,
    )  # fmt: skip


def prune(run: Run, plan: Plan, marker: str, paths: tuple[str, ...]) -> Work:
    """Return the work of a run that removes archives."""
    return Work(run.run_id, run.attempt + 1, (), plan.target, marker, "", paths, plan.nice)


def work_for(
    run: Run,
    plan: Plan,
    marker: str,
    *,
    started_s: float,
    verified_s: float | None,
    removes: tuple[str, ...],
) -> Work:
    """Return the work of a run of any kind."""
    if run.kind is Kind.BACKUP:
        return backup(run, plan, marker, started_s, verified_s)
    if run.kind is Kind.VERIFY:
        return verify(run, plan, marker)
    return prune(run, plan, marker, removes)


def _verify(plan: Plan, archive: str) -> list[Step]:
    """Return the steps that prove an archive right, as the plan says.

    What differs from the source is no damage: it may have changed since. Digests are checked in
    any case.
    """
    if plan.verify_by is VerifyBy.CONTENT:
        return [Step("verify", ("verify", archive))]
    if plan.verify_by is VerifyBy.SOURCE:
        return [Step("verify", ("verify", archive, "--against", plan.source), True)]
    scratch = archive.removesuffix(_SUFFIX) + _SCRATCH_SUFFIX
    return [
        Step("unpack", ("unpack", archive, scratch), True, scratch),
        Step("verify", ("verify", archive, "--against", scratch)),
    ]
