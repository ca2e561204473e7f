"""What may be asked of a server, and what it answers: the interface, as values that JSON has.

Owns: answers, and what is checked before something is changed. Must not know sockets or HTTP.
Belongs to the thread of the server.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from onggi import __version__

from .database import StoredArchive, StoredPlan
from .errors import BadPlanError, ConflictError, NotFoundError
from .master import Master, decide
from .messages import Progressed
from .metrics import render
from .model import Kind, Run, State
from .notify import Notify, check_urls
from .plan import Plan
from .plan_check import plan_from
from .plan_file import differences
from .run_log import log_path, read_log
from .schedule import check_schedule
from .work import MARKER_NAME

_MOST_RUNS = 1000
_MOST_DAYS = 366
_DAY_S = 86_400.0
_HELPER_S = 60.0
_FACTS = tuple(field.name for field in fields(Run))

Answer = dict[str, Any]


class Service:
    """What may be asked of a server.

    Every method raises NotFoundError, ConflictError, BadPlanError or StateError where the answer
    is no.

    Args:
        master: who decides.
        state: folder of what the server keeps.
        command: what `onggi` is run as.
        changed: called when there is something new to look at.
        clock: tells the time, in seconds since 1970 UTC.
    """

    def __init__(
        self,
        master: Master,
        state: Path,
        command: Sequence[str],
        changed: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._master = master
        self._database = master.database
        self._state = state
        self._command = command
        self._changed = changed
        self._clock = clock
        self._started_s = clock()

    # --- seeing ------------------------------------------------------------------------------

    def status(self) -> Answer:
        """Return how all volumes are."""
        now_s = self._clock()
        plans = self._database.plans()
        counts = self._database.archive_counts()
        newest = self._database.newest_archives()
        last = self._database.runs_by_number(
            stored.last_run for stored in plans if stored.last_run is not None
        )
        at_work: dict[str, Run] = {}
        for run in self._database.open_runs():
            if run.plan not in at_work or run.state is not State.PENDING:
                at_work[run.plan] = run
        volumes = [
            self._volume(
                stored, now_s, counts, newest.get(stored.plan.name), last,
                at_work.get(stored.plan.name),
            )
            for stored in plans
        ]  # fmt: skip
        return {
            "now_s": now_s, "version": __version__, "started_s": self._started_s,
            "volumes": volumes,
        }  # fmt: skip

    def _volume(
        self, stored: StoredPlan, now_s: float, counts: Mapping[str, int],
        newest: StoredArchive | None, last: Mapping[int, Run], run: Run | None,
    ) -> Answer:  # fmt: skip
        plan = stored.plan
        success_s = stored.last_success_s
        ended = last.get(stored.last_run or 0)
        return {
            "plan": plan.name, "source": plan.source, "target": plan.target,
            "is_paused": plan.is_paused,
            "last_success_s": success_s,
            "age_s": None if success_s is None else max(now_s - success_s, 0.0),
            "next_due_s": self._master.next_due(plan.name),
            "failures": stored.failures,
            "archives": counts.get(plan.name, 0),
            "newest": None if newest is None else {
                name: getattr(newest, name) for name in _NEWEST
            },
            "last": _facts(ended),
            "run": _facts(run),
            "progress": None if run is None else self._progress(run.run_id),
        }  # fmt: skip

    def _progress(self, run_id: int) -> Answer | None:
        progress: Progressed | None = self._master.progress(run_id)
        return None if progress is None else asdict(progress)

    def runs(
        self, plan: str = "", failed: bool = False, before: int | None = None, limit: int = 50
    ) -> Answer:
        """Return the history, the newest first."""
        limit = min(max(limit, 1), _MOST_RUNS)
        found = self._database.runs(plan, failed=failed, before=before, limit=limit)
        return {"runs": [_facts(run) for run in found]}

    def run(self, run_id: int) -> Answer:
        """Return a run, and how far it is."""
        run = self._database.run(run_id)
        return {"run": _facts(run), "progress": self._progress(run_id)}

    def log(self, run_id: int, start: int) -> Answer:
        """Return what is in the log of a run from a place on, which an answer gave as `next`."""
        self._database.run(run_id)
        lines, following = read_log(log_path(self._state / "logs", run_id), start)
        return {"lines": lines, "next": following}

    def calendar(self, days: int) -> Answer:
        """Return what became of the backups of each plan on each of the last days."""
        days = min(max(days, 1), _MOST_DAYS)
        today = datetime.fromtimestamp(self._clock()).date()
        wanted = [(today - timedelta(days=back)).isoformat() for back in reversed(range(days))]
        plans: dict[str, dict[str, list[State]]] = {
            stored.plan.name: {} for stored in self._database.plans()
        }
        for name, ended_s, state in self._database.ends_since(self._clock() - days * _DAY_S):
            day = datetime.fromtimestamp(ended_s).date().isoformat()
            if name in plans and day >= wanted[0]:
                plans[name].setdefault(day, []).append(state)
        return {
            "days": wanted,
            "plans": {
                name: [
                    {"day": day, "state": _worst(states), "runs": len(states)}
                    for day, states in sorted(found.items())
                ]
                for name, found in plans.items()
            },
        }

    def metrics(self) -> bytes:
        """Return what Prometheus reads."""
        return render(self.status(), self._database.counts())

    # --- plans -------------------------------------------------------------------------------

    def plans(self) -> Answer:
        """Return all plans."""
        return {"plans": [_fields(stored) for stored in self._database.plans()]}

    def plan(self, name: str) -> Answer:
        """Return a plan."""
        return {"plan": _fields(self._database.plan(name))}

    def add(self, given: Mapping[str, Any]) -> Answer:
        """Add a plan."""
        plan = plan_from(given)
        if any(stored.plan.name == plan.name for stored in self._database.plans()):
            raise ConflictError(
                f"there is a plan {plan.name} already; change it with `onggi plan edit`"
            )
        self._put([plan], [])
        return self.plan(plan.name)

    def edit(self, name: str, given: Mapping[str, Any]) -> Answer:
        """Change fields of a plan."""
        if given.get("name", name) != name:
            raise BadPlanError("a plan keeps its name, which its archives have too")
        stored = self._database.plan(name)
        self._put([plan_from(stored.plan.as_dict() | dict(given))], [])
        return self.plan(name)

    def remove(self, name: str) -> Answer:
        """Remove a plan; its archives and its history stay."""
        self._database.plan(name)
        self._put([], [name])
        return {}

    async def apply(
        self, given: Sequence[Mapping[str, Any]], notify: Mapping[str, Any] | None, dry_run: bool
    ) -> Answer:
        """Make the plans what is given, and tell what that changes."""
        wanted = [plan_from(each) for each in given]
        told = None if notify is None else Notify.from_dict(notify)
        for plan in wanted:
            check_schedule(plan)
        if told is not None:
            await asyncio.to_thread(check_urls, told)
        have = [stored.plan for stored in self._database.plans()]
        changes = differences(have, wanted)
        if not dry_run:
            changed = {change.name for change in changes if change.kind != "remove"}
            self._put(
                [plan for plan in wanted if plan.name in changed],
                [change.name for change in changes if change.kind == "remove"],
                told,
            )
        return {
            "changes": [
                {"name": change.name, "kind": change.kind, "fields": [*change.fields]}
                for change in changes
            ]
        }

    def _put(
        self, put: Sequence[Plan], remove: Sequence[str], notify: Notify | None = None
    ) -> None:
        for plan in put:
            check_schedule(plan)
        for target in sorted({plan.target for plan in put}):
            self._mark(target)
        setting = None if notify is None else notify.as_dict()
        self._database.change_plans(put, remove, self._clock(), setting)
        self._master.reload(self._clock())
        self._changed()

    def _mark(self, target: str) -> None:
        """See to it that a target has a marker file, which tells that it is mounted."""
        path = Path(target) / MARKER_NAME
        known = self._database.marker(target)
        try:
            found = path.read_text().strip()
        except FileNotFoundError:
            found = ""
        except (OSError, ValueError) as error:
            raise ConflictError(f"can't use {target}: {error}") from None
        if known is not None:
            if found and found != known:
                raise ConflictError(f"{target} is another place than it was: {path} differs")
            return  # it may not be mounted now
        if not os.path.isdir(target):
            raise BadPlanError(f"there is no folder {target}; make it, or mount it, first")
        if not found:
            found = str(uuid4())
            try:
                with path.open("x") as file:
                    file.write(found + "\n")
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise ConflictError(f"can't write to {target}: {error.strerror}") from None
        self._database.put_marker(target, found)

    def pause(self, name: str, is_paused: bool) -> Answer:
        """Have a plan start no runs by itself, or start them again."""
        return self.edit(name, {"is_paused": is_paused})

    # --- runs --------------------------------------------------------------------------------

    def start(self, name: str, kind: Kind) -> Answer:
        """Have a plan run, or its newest archive verified, as soon as may be."""
        run = self._master.ask(name, kind, self._clock())
        self._changed()
        return {"run": _facts(run)}

    def prune(self, name: str, dry_run: bool) -> Answer:
        """Remove the archives that no rule keeps; or only tell which."""
        plan = self._database.plan(name).plan
        decisions = decide(self._database.archives(name), plan)
        run: Run | None = None
        if not dry_run and any(not decision.rules for decision in decisions):
            run = self._master.ask(name, Kind.PRUNE, self._clock())
            self._changed()
        return {
            "decisions": [
                {
                    "path": each.archive.path, "made_s": each.archive.made_s,
                    "rules": list(each.rules),
                }
                for each in decisions
            ],
            "run": _facts(run),
        }  # fmt: skip

    def cancel(self, run_id: int) -> Answer:
        """Have a run end."""
        run = self._master.cancel(run_id, self._clock())
        self._changed()
        return {"run": _facts(run)}

    # --- archives ----------------------------------------------------------------------------

    def archives(self, name: str) -> Answer:
        """Return the archives of a plan, the newest first. Those of a removed plan are, too."""
        found = self._database.archives(name)
        if not found:
            self._database.plan(name)
        return {
            "archives": [
                {
                    **asdict(archive), "exists": os.path.exists(archive.path),
                    "is_verified": archive.verified_s is not None,
                }
                for archive in found
            ]
        }  # fmt: skip

    async def archive_map(self, path: str) -> Answer:
        """Return the units of an archive of a plan."""
        if self._database.archive_at(path) is None:
            raise NotFoundError(f"{path} is no archive of a plan")
        lines = await self._ask_onggi("info", path, "--units")
        return {"units": [_unit(each) for each in lines if each.get("type") == "unit"]}

    async def mount(self, name: str) -> Answer:
        """Mount the archives of a plan; return where."""
        plan = self._database.plan(name).plan
        folder = self._state / "mounts" / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.path.ismount(folder):
            await self._ask_onggi("mount", plan.folder, os.fspath(folder))
        return {"folder": os.fspath(folder)}

    async def umount(self, name: str) -> Answer:
        """Unmount them."""
        await self._ask_onggi("umount", os.fspath(self._state / "mounts" / name))
        return {}

    async def _ask_onggi(self, *words: str) -> list[Answer]:
        """Run a short command; return its JSON objects."""
        process = await asyncio.create_subprocess_exec(
            *self._command, *words, "--json",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            out, _ = await asyncio.wait_for(process.communicate(), _HELPER_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise ConflictError(f"onggi {words[0]} took longer than a minute") from None
        lines = [json.loads(line) for line in out.splitlines()]
        if not lines or lines[-1].get("type") == "error":
            text = lines[-1]["message"] if lines else f"onggi {words[0]} told nothing"
            raise ConflictError(text)
        return lines


def _facts(run: Run | None) -> Answer | None:
    """Return a run as JSON has it; `asdict`, which copies, takes ten times as long."""
    return None if run is None else {name: getattr(run, name) for name in _FACTS}


_NEWEST = ("path", "made_s", "content_bytes", "archive_bytes", "verified_s", "damaged_s")


def _fields(stored: StoredPlan) -> Answer:
    return stored.plan.as_dict() | {"created_s": stored.created_s}


_BADNESS = (
    State.SUCCEEDED, State.WARNED, State.CANCELLED, State.MISSED, State.LOST, State.FAILED,
)  # fmt: skip


def _worst(states: Sequence[State]) -> State:
    return max(states, key=_BADNESS.index)


def _unit(row: Mapping[str, Any]) -> Answer:
    empty = row["zero_frames"] + row["hole_frames"]
    state = "data" if empty < row["frame_count"] else "zero"
    if row["hole_frames"] == row["frame_count"]:
        state = "hole"
    return {
        "number": row["number"], "state": state, "content_bytes": row["content_bytes"],
        "stored_bytes": row["stored_bytes"],
    }  # fmt: skip
