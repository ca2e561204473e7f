"""What runs do, as commands: what a plan says must be in them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onggi.control import work
from onggi.control.messages import Step, Work
from onggi.control.model import Kind, Reason, Run, State
from onggi.control.plan import Plan, Verify, VerifyBy

from .master_helpers import DAY, T0

PLAN = Plan("home", "/data/home", "/backup", verify=Verify.NEVER)
RUN = Run(7, "home", Kind.BACKUP, Reason.SCHEDULE, State.PENDING, T0, T0, attempt=1)
ARCHIVE = "/backup/home/2026-11-24T06-00-00Z.onggi"


def made(plan: Plan, run: Run = RUN, verified_s: float | None = None, **more: Any) -> Work:
    return work.work_for(
        run, plan, "mark", started_s=T0, verified_s=verified_s, removes=more.get("removes", ())
    )


def test_a_backup_packs_to_a_name_that_sorts_by_time_on_a_target_that_is_marked() -> None:
    assert made(PLAN) == Work(
        7, 2,
        (Step("pack", ("pack", "/data/home", ARCHIVE, "--mode", "auto", "--level", "3"), True),),
        "/backup", "mark", ARCHIVE,
    )  # fmt: skip
    names = [work.archive_path(PLAN, T0 + seconds) for seconds in (0, 1, DAY, 40 * DAY)]
    assert names == sorted(names)


def test_what_a_plan_says_of_packing_is_said_to_pack() -> None:
    plan = replace(
        PLAN, mode="auto", level=9, limit_bytes_per_s=5000, nice=True, exclude=("*.tmp", "-x")
    )
    order = made(plan)
    words = order.steps[0].arguments
    assert order.nice
    assert words[3:] == (
        "--mode", "tree", "--level", "9", "--limit", "5000", "--exclude", "*.tmp", "--exclude", "-x"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("verify", "verified_s", "is_proven"),
    [
        (Verify.NEVER, None, False),
        (Verify.AFTER, T0, True),
        (Verify.WEEKLY, None, True),
        (Verify.WEEKLY, T0 - 7 * DAY, True),
        (Verify.WEEKLY, T0 - 7 * DAY + 1, False),
    ],
)
def test_a_backup_is_proven_when_the_plan_says_so(
    verify: Verify, verified_s: float | None, is_proven: bool
) -> None:
    steps = made(replace(PLAN, verify=verify), verified_s=verified_s).steps
    assert [step.name for step in steps] == ["pack", "verify"][: 1 + is_proven]


def test_a_restore_is_compared_and_does_not_stay() -> None:
    run = replace(RUN, kind=Kind.VERIFY, archive=ARCHIVE)
    order = made(replace(PLAN, verify_by=VerifyBy.RESTORE), run)
    unpack, verify = order.steps
    scratch = "/backup/home/2026-11-24T06-00-00Z.restored"
    assert unpack.arguments == ("unpack", ARCHIVE, scratch)
    assert unpack.remove_after == scratch
    assert verify.arguments == ("verify", ARCHIVE, "--against", scratch)
    assert not verify.expected_findings, "a restore that differs is a failure"
    assert (order.target, order.marker) == ("/backup", "mark"), "the scratch is written there"


def test_what_differs_from_the_source_is_a_warning_since_sources_change() -> None:
    run = replace(RUN, kind=Kind.VERIFY, archive=ARCHIVE)
    order = made(replace(PLAN, verify_by=VerifyBy.SOURCE), run)
    assert order.steps == (Step("verify", ("verify", ARCHIVE, "--against", "/data/home"), True),)
    assert order.target == "", "nothing is written"


def test_what_no_rule_keeps_is_removed_by_paths() -> None:
    order = made(PLAN, replace(RUN, kind=Kind.PRUNE), removes=("/backup/home/a.onggi",))
    assert (order.steps, order.removes, order.makes) == ((), ("/backup/home/a.onggi",), "")


@pytest.mark.parametrize("verify_by", [*VerifyBy])
@pytest.mark.parametrize("kind", ["tree", "volume"])
def test_the_commands_are_what_onggi_takes(kind: str, verify_by: VerifyBy, tmp_path: Path) -> None:
    source = tmp_path / "source"
    if kind == "tree":
        source.mkdir()
        (source / "file").write_text("soy")
    else:
        source.write_bytes(b"soy" * 5000)
    (tmp_path / "target/home").mkdir(parents=True)
    plan = replace(
        PLAN, source=str(source), target=str(tmp_path / "target"), verify=Verify.AFTER,
        verify_by=verify_by, limit_bytes_per_s=10**8,
    )  # fmt: skip
    for step in made(plan).steps:
        words = [sys.executable, "-m", "onggi.cli", *step.arguments, "--quiet"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), step
