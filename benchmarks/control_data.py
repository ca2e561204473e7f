"""Fill the database of a server that does not run: many plans, and the history of months.

Owns what such a database looks like: how often plans run, how their runs end, which archives are
left. Everything comes from one seed, so that two databases made at the same time are the same.
Writes SQL in one transaction, for the sake of speed; the schema is that of the installed Onggi.

No plan is due in the next hours, so that a server that has it is idle.

    python benchmarks/control_data.py --state /dev/shm/onggi-bench/state
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from heapq import merge
from itertools import islice
from pathlib import Path

from onggi.control.database import Database
from onggi.control.plan import Keep, Plan
from onggi.control.schedule import next_due

_HOUR_S, _DAY_S = 3600.0, 86_400.0
_QUIET_S = 3 * _HOUR_S
_TARGETS = 40
_SIZE_BYTES = 1 << 30
# How often a schedule is chosen, and how long it is from one run to the next.
_SCHEDULES = (
    (60, "1d", _DAY_S),
    (10, "6h", 6 * _HOUR_S),
    (5, "3d", 3 * _DAY_S),
    (10, "1w", 7 * _DAY_S),
    (15, "cron", _DAY_S),
)
_ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Seoul", "Australia/Sydney")
# How backups end, in thousandths.
_ENDS = (
    (955, "succeeded", ""),
    (20, "warned", "var/log/messages: the file became shorter while it was read"),
    (10, "failed", "the target is not mounted: its marker file is missing"),
    (5, "missed", "the server did not run"),
    (4, "cancelled", "it was cancelled"),
    (6, "lost", "the server ended while it was at work"),
)
_GOOD = ("succeeded", "warned")
_RUN_COLUMNS = (
    "run_id, plan, volume, target, kind, reason, state, due_s, not_before_s, started_s, ended_s,"
    " attempt, archive, content_bytes, archive_bytes, findings, verified, exit_code, message"
)
_ARCHIVE_COLUMNS = "path, plan, made_s, content_bytes, archive_bytes, run_id, verified_s, removed_s"
_PLAN_COLUMNS = "name, fields, created_s, scheduled_s, last_success_s, last_run, failures"


@dataclasses.dataclass(frozen=True, slots=True)
class Amount:
    """How much is in a database: `archives` of each plan are the most that were not removed."""

    plans: int = 1000
    runs: int = 100_000
    archives: int = 20


@dataclasses.dataclass(frozen=True, slots=True)
class _Kept:
    """A plan, and what goes with it."""

    plan: Plan
    created_s: float
    period_s: float
    content_bytes: int


def fill(state: Path, folder: Path, amount: Amount, now_s: float, seed: int = 1) -> list[str]:
    """Make the database of a server, and fill it; return the names of the plans.

    `state` must exist and have no database yet; sources and targets are named below `folder`, where
    nothing is made.
    """
    path = state / "onggi.db"
    if path.exists():
        raise ValueError(f"{path} exists already")
    Database(path).close()
    chance = random.Random(seed)
    kept = [_keep(chance, number, folder, now_s) for number in range(amount.plans)]
    newest = islice(merge(*(_times(each, now_s) for each in kept), reverse=True), amount.runs)
    runs = sorted(newest)
    targets = {each.plan.target for each in kept}
    with closing(sqlite3.connect(path, isolation_level=None)) as sql:
        sql.execute("BEGIN")
        rows = _Rows(kept, chance, amount)
        for run_id, (ended_s, number, kind) in enumerate(runs, 1):
            rows.add(run_id, number, kind, ended_s)
        for table, columns, found in (
            ("runs", _RUN_COLUMNS, rows.runs),
            ("archives", _ARCHIVE_COLUMNS, rows.archives()),
            ("plans", _PLAN_COLUMNS, rows.plans(now_s)),
            ("targets", "path, marker", ((each, each) for each in targets)),
        ):
            marks = ", ".join("?" * len(columns.split(",")))
            sql.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", found)
        sql.execute("COMMIT")
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return [each.plan.name for each in kept]


class _Rows:
    """The rows of the tables, which follow from the runs in their order."""

    def __init__(self, kept: Sequence[_Kept], chance: random.Random, amount: Amount) -> None:
        self._kept = kept
        self._chance = chance
        self._most = amount.archives
        self._archives: list[list[list[object]]] = [[] for _ in kept]
        self._last: list[tuple[float | None, int | None, int]] = [(None, None, 0) for _ in kept]
        self.runs: list[tuple[object, ...]] = []

    def add(self, run_id: int, number: int, kind: str, ended_s: float) -> None:
        """Add a run of a plan."""
        if kind == "backup":
            self._add_backup(run_id, number, ended_s)
            return
        reason, state = "after backup", "succeeded"
        archive = ""
        took_s = self._chance.uniform(1, 20)
        if kind == "verify":
            reason, took_s = "manual", self._chance.uniform(60, 600)
            if self._archives[number]:
                newest = self._archives[number][-1]
                archive, newest[6] = str(newest[0]), ended_s
        verified = 1 if archive else None
        self._run(run_id, number, kind, reason, state, ended_s - took_s, ended_s, archive=archive,
                  verified=verified)  # fmt: skip

    def _add_backup(self, run_id: int, number: int, ended_s: float) -> None:
        one, chance = self._kept[number], self._chance
        ((_, state, message),) = chance.choices(_ENDS, [share for share, *_ in _ENDS])
        started_s = ended_s - chance.uniform(60, 1800)
        success_s, _, failures = self._last[number]
        if state == "missed":
            self._run(run_id, number, "backup", "schedule", state, None, ended_s, message=message)
            return
        archive, content_bytes, archive_bytes = "", 0, 0
        if state in _GOOD:
            time = datetime.fromtimestamp(started_s, UTC)
            archive = f"{one.plan.folder}/{time:%Y-%m-%dT%H-%M-%SZ}.onggi"
            content_bytes = int(one.content_bytes * chance.uniform(0.95, 1.05))
            archive_bytes = int(content_bytes * chance.uniform(0.3, 0.5))
            self._archives[number].append(
                [archive, one.plan.name, started_s, content_bytes, archive_bytes, run_id, ended_s,
                 None]
            )  # fmt: skip
            self._last[number] = (ended_s, run_id, 0)
        else:
            counted = failures + (state != "cancelled")
            self._last[number] = (success_s, run_id, counted)
        verified = 1 if archive else None
        self._run(
            run_id, number, "backup", "schedule", state, started_s, ended_s, archive=archive,
            content_bytes=content_bytes, archive_bytes=archive_bytes, verified=verified,
            message=message,
        )  # fmt: skip

    def _run(
        self, run_id: int, number: int, kind: str, reason: str, state: str,
        started_s: float | None, ended_s: float, *, archive: str = "", content_bytes: int = 0,
        archive_bytes: int = 0, verified: int | None = None, message: str = "",
    ) -> None:  # fmt: skip
        plan = self._kept[number].plan
        due_s = ended_s if started_s is None else started_s
        code = {"succeeded": 0, "warned": 1, "failed": 6}.get(state)
        self.runs.append(
            (
                run_id, plan.name, plan.source, plan.target, kind, reason, state, due_s, due_s,
                started_s, ended_s, 0 if started_s is None else 1, archive, content_bytes,
                archive_bytes, int(state == "warned"), verified, code, message,
            )
        )  # fmt: skip

    def archives(self) -> Iterator[list[object]]:
        """Yield the rows of archives: the newest of each plan are there still."""
        for made in self._archives:
            for age, archive in enumerate(reversed(made)):
                if age >= self._most:
                    archive[7] = made[-1][6]
                yield archive

    def plans(self, now_s: float) -> Iterator[tuple[object, ...]]:
        """Yield the rows of plans."""
        for one, (success_s, run_id, failures) in zip(self._kept, self._last, strict=True):
            fields = json.dumps(one.plan.as_dict())
            yield one.plan.name, fields, one.created_s, now_s, success_s, run_id, failures


def _keep(chance: random.Random, number: int, folder: Path, now_s: float) -> _Kept:
    """Return a plan that is not due soon."""
    ((_, every, period_s),) = chance.choices(_SCHEDULES, [share for share, *_ in _SCHEDULES])
    while True:
        at = f"{chance.randrange(24):02}:{chance.randrange(60):02}"
        hour, minute = map(int, at.split(":"))
        is_cron = every == "cron"
        plan = Plan(
            name=f"volume-{number:04}",
            source=str(folder / f"sources/volume-{number:04}"),
            target=str(folder / f"targets/{number % _TARGETS:02}"),
            every="" if is_cron else every,
            at=at if every[-1] in "dw" else "00:00",
            cron=f"{minute} {hour} * * 1-5" if is_cron else "",
            timezone=chance.choice(_ZONES),
            keep=Keep(last=7, daily=14, weekly=8, monthly=12) if number % 5 else Keep(),
            window="20:00-08:00" if number % 10 == 0 else "",
            exclude=("*.tmp", "var/cache/*") if number % 3 == 0 else (),
            is_paused=number % 50 == 0,
        )
        created_s = now_s - chance.uniform(300, 400) * _DAY_S
        due_s = next_due(plan, now_s, created_s)
        assert due_s is not None
        if due_s > now_s + _QUIET_S:
            return _Kept(plan, created_s, period_s, int(_SIZE_BYTES * chance.lognormvariate(2, 1)))


def _times(one: _Kept, now_s: float) -> Iterator[tuple[float, int, str]]:
    """Yield when runs of a plan ended, the number of the plan, and their kind; the newest first."""
    number = int(one.plan.name.rpartition("-")[2])
    chance = random.Random(number)
    ended_s = now_s - chance.uniform(0, one.period_s)
    while True:
        if number % 7 == 0 and chance.random() < 0.2:
            yield ended_s, number, "verify"
            ended_s -= _HOUR_S
        if not one.plan.keep.keeps_all:
            yield ended_s, number, "prune"
            ended_s -= 60
        yield ended_s, number, "backup"
        ended_s -= one.period_s


def main() -> int:
    """Fill a folder, and tell how."""
    parser = argparse.ArgumentParser(description="Fill the database of a server.")
    parser.add_argument("--state", type=Path, required=True, help="folder of what it keeps")
    parser.add_argument("--plans", type=int, default=Amount().plans)
    parser.add_argument("--runs", type=int, default=Amount().runs)
    args = parser.parse_args()
    args.state.mkdir(parents=True, exist_ok=True)
    fill(args.state, args.state / "data", Amount(args.plans, args.runs), time.time())
    return 0


if __name__ == "__main__":
    sys.exit(main())
