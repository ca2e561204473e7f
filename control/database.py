"""The master's memory: plans, runs, archives, in SQLite.

Owns: all SQL but that of the schema, which is `schema`'s. Must not know what is due, nor who
works. Belongs to one thread. What can't be undone by a crash: every method that changes something
is one transaction, on disk when it returns.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from .errors import ConflictError, NotFoundError, StateError
from .model import ACTIVE, BEGINNINGS, Happening, Kind, Reason, Run, State, after
from .plan import Plan
from .plan_check import plan_from
from .schema import open_database

_FIELDS = tuple(field.name for field in fields(Run))
_COLUMNS = ", ".join(_FIELDS)
_FAILED = "('failed', 'lost', 'missed')"
_OPEN = "('pending', 'running', 'cancelling')"
_ACTIVE = tuple(sorted(ACTIVE))
# The fields of a StoredArchive.
_ARCHIVE = (
    "archives.path, archives.plan, archives.made_s, archives.content_bytes,"
    " archives.archive_bytes, archives.run_id, archives.verified_s, archives.damaged_s"
)


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A plan, and what is remembered of it. Times are seconds since 1970 UTC.

    Attributes:
        plan: as it is now.
        created_s: when it was made; its days are counted from then on.
        scheduled_s: up to when what was due was looked for.
        last_success_s: when a backup was last done; None for never.
        last_run: the backup that ended last.
        failures: how many backups in a row did not succeed.
    """

    plan: Plan
    created_s: float
    scheduled_s: float
    last_success_s: float | None
    last_run: int | None
    failures: int


@dataclass(frozen=True, slots=True)
class StoredArchive:
    """An archive that a run made. Times are seconds since 1970 UTC.

    Attributes:
        path: absolute.
        plan: name of the plan.
        made_s: when the run started that made it.
        content_bytes, archive_bytes: its lengths.
        run_id: of that run.
        verified_s: when it was last proven right; None for never.
        damaged_s: when it was found damaged; None if it was not, or was proven right since.
    """

    path: str
    plan: str
    made_s: float
    content_bytes: int
    archive_bytes: int
    run_id: int
    verified_s: float | None
    damaged_s: float | None = None


class Database:
    """An open database.

    Args:
        path: of its file, which is made if there is none; its folder must exist.

    Raises:
        StateError: it can't be opened, or a newer Onggi has made it.
    """

    def __init__(self, path: Path) -> None:
        self._sql = open_database(path)
        self._read: dict[str, Plan] = {}  # by their text: to check it takes a while

    def close(self) -> None:
        """Close it."""
        self._sql.close()

    @contextmanager
    def together(self) -> Generator[None]:
        """Have all that is changed meanwhile be one transaction."""
        with self._change():
            yield

    # --- plans -------------------------------------------------------------------------------

    def plans(self) -> list[StoredPlan]:
        """Return all plans, sorted by name."""
        rows = self._sql.execute("SELECT * FROM plans ORDER BY name").fetchall()
        found = [_plan(row, self._read.get(row["fields"])) for row in rows]
        self._read = {row["fields"]: each.plan for row, each in zip(rows, found, strict=True)}
        return found

    def plan(self, name: str) -> StoredPlan:
        """Return a plan.

        Raises:
            NotFoundError: there is none of that name.
        """
        row = self._sql.execute("SELECT * FROM plans WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise NotFoundError(f"there is no plan {name!r}; `onggi plan ls` lists them")
        return _plan(row)

    def change_plans(
        self, put: Iterable[Plan], remove: Iterable[str], now_s: float, notify: object = None
    ) -> None:
        """Make or change plans, and remove others, all or nothing.

        A plan whose times change is not due for what was before. Runs that wait are cancelled with
        their plan; its history and archives stay.

        Args:
            put: plans as they are to be.
            remove: names.
            now_s: the time.
            notify: a setting to keep as well, if it is not None.
        """
        with self._change():
            for plan in put:
                text = json.dumps(plan.as_dict())
                old = self._sql.execute(
                    "SELECT * FROM plans WHERE name = ?", (plan.name,)
                ).fetchone()
                if old is None:
                    self._sql.execute(
                        "INSERT INTO plans VALUES (?, ?, ?, ?, NULL, NULL, 0)",
                        (plan.name, text, now_s, now_s),
                    )
                    continue
                self._sql.execute("UPDATE plans SET fields = ? WHERE name = ?", (text, plan.name))
                if _times(_plan(old).plan) != _times(plan):
                    self._sql.execute(
                        "UPDATE plans SET scheduled_s = ? WHERE name = ?", (now_s, plan.name)
                    )
            for name in remove:
                self.plan(name)
                if self._one(
                    "SELECT 1 FROM runs WHERE plan = ? AND state IN (?, ?)", name, *_ACTIVE
                ):
                    raise ConflictError(f"{name} has a run at work; cancel it first")
                for run in self.runs_waiting(name):
                    self._happen(run, Happening.CANCEL, now_s, message="the plan was removed")
                self._sql.execute("DELETE FROM plans WHERE name = ?", (name,))
            if notify is not None:
                self._put_setting("notify", notify)

    def look_no_further_back(self, times: Mapping[str, float]) -> None:
        """Remember for plans, by name, up to when what was due was looked for."""
        with self._change():
            self._sql.executemany(
                "UPDATE plans SET scheduled_s = ? WHERE name = ?",
                [(time_s, name) for name, time_s in times.items()],
            )

    def marker(self, target: str) -> str | None:
        """Return what the marker file in a target holds, if it was ever used."""
        row = self._one("SELECT marker FROM targets WHERE path = ?", target)
        return None if row is None else str(row[0])

    def put_marker(self, target: str, marker: str) -> None:
        """Remember what the marker file in a target holds."""
        with self._change():
            self._sql.execute("INSERT OR REPLACE INTO targets VALUES (?, ?)", (target, marker))

    # --- runs --------------------------------------------------------------------------------

    def run(self, run_id: int) -> Run:
        """Return a run.

        Raises:
            NotFoundError: there is none of that number.
        """
        row = self._one(f"SELECT {_COLUMNS} FROM runs WHERE run_id = ?", run_id)
        if row is None:
            raise NotFoundError(f"there is no run {run_id}; `onggi history` lists them")
        return _run(row)

    def runs(
        self, plan: str = "", *, failed: bool = False, before: int | None = None, limit: int = 50
    ) -> list[Run]:
        """Return runs, the newest first.

        Args:
            plan: only of that name.
            failed: only those that failed, were missed or lost.
            before: only those that are older than the run of that number.
            limit: at most so many.
        """
        where, given = ["1"], list[object]()
        if plan:
            where.append("plan = ?")
            given.append(plan)
        if failed:
            where.append(f"state IN {_FAILED}")
        if before is not None:
            where.append("run_id < ?")
            given.append(before)
        query = f"SELECT {_COLUMNS} FROM runs WHERE {' AND '.join(where)}"
        rows = self._sql.execute(f"{query} ORDER BY run_id DESC LIMIT ?", (*given, limit))
        return [_run(row) for row in rows]

    def open_runs(self) -> list[Run]:
        """Return runs that wait or are at work, those that are due longest first."""
        rows = self._sql.execute(
            f"SELECT {_COLUMNS} FROM runs WHERE state IN {_OPEN} ORDER BY due_s, run_id"
        )
        return [_run(row) for row in rows]

    def runs_waiting(self, plan: str) -> list[Run]:
        """Return the runs of a plan that wait."""
        rows = self._sql.execute(
            f"SELECT {_COLUMNS} FROM runs WHERE plan = ? AND state = 'pending'", (plan,)
        )
        return [_run(row) for row in rows]

    def runs_by_number(self, numbers: Iterable[int]) -> dict[int, Run]:
        """Return those of some runs that there are, by number."""
        found: dict[int, Run] = {}
        wanted = list(numbers)
        for at in range(0, len(wanted), 500):
            some = wanted[at : at + 500]
            marks = ", ".join("?" * len(some))
            query = f"SELECT {_COLUMNS} FROM runs WHERE run_id IN ({marks})"
            found |= {run.run_id: run for run in map(_run, self._sql.execute(query, some))}
        return found

    def add_runs(self, runs: Sequence[tuple[Run, Plan]]) -> list[Run]:
        """Add runs, whose numbers are given here; leave out what there is already.

        A run that waits while another one of the same plan and kind does, and one for a time that
        there is a run for, are the same as that one.
        """
        assert all(run.state in BEGINNINGS for run, _ in runs)
        added: list[Run] = []
        with self._change():
            for run, plan in runs:
                cursor = self._sql.execute(
                    "INSERT INTO runs (plan, volume, target, kind, reason, state, due_s,"
                    " not_before_s, ended_s, archive, message) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?,"
                    " ?, ?) ON CONFLICT DO NOTHING",
                    (
                        run.plan, plan.source, plan.target, run.kind, run.reason, run.state,
                        run.due_s, run.not_before_s, run.ended_s, run.archive, run.message,
                    ),
                )  # fmt: skip
                if cursor.rowcount == 1 and cursor.lastrowid is not None:
                    added.append(replace(run, run_id=cursor.lastrowid))
        return added

    def happen(self, run: Run, happening: Happening, now_s: float, **known: Any) -> Run:
        """Let something happen to a run; return it as it is then.

        Args:
            run: as the database has it.
            happening: what happens.
            now_s: the time.
            known: fields of the run that are known now.

        Raises:
            TransitionError: it can't happen to a run in its state.
            ConflictError: another run is at work on the same volume.
        """
        with self._change():
            return self._happen(run, happening, now_s, **known)

    def _happen(self, run: Run, happening: Happening, now_s: float, **known: Any) -> Run:
        state = after(run.state, happening)
        then = replace(run, state=state, **known)
        if happening is Happening.START:
            then = replace(then, started_s=now_s, attempt=run.attempt + 1)
        if state.is_final:
            then = replace(then, ended_s=now_s)
        values = [getattr(then, field.name) for field in fields(Run)]
        sets = ", ".join(f"{field.name} = ?" for field in fields(Run))
        try:
            cursor = self._sql.execute(
                f"UPDATE runs SET {sets} WHERE run_id = ? AND state = ?",
                (*values, run.run_id, run.state),
            )
        except sqlite3.IntegrityError:
            raise ConflictError(f"another run is at work on what {run.plan} packs") from None
        if cursor.rowcount != 1:
            raise ConflictError(f"run {run.run_id} is not {run.state} any more")
        if state.is_final and then.kind is Kind.BACKUP and state is not State.MISSED:
            self._remember_end(then)
        return then

    def _remember_end(self, run: Run) -> None:
        if run.state.is_good:
            self._sql.execute(
                "UPDATE plans SET last_success_s = ?, last_run = ?, failures = 0 WHERE name = ?",
                (run.ended_s, run.run_id, run.plan),
            )
        elif run.state is State.CANCELLED:
            self._sql.execute(
                "UPDATE plans SET last_run = ? WHERE name = ?", (run.run_id, run.plan)
            )
        else:
            self._sql.execute(
                "UPDATE plans SET last_run = ?, failures = failures + 1 WHERE name = ?",
                (run.run_id, run.plan),
            )

    # --- archives ----------------------------------------------------------------------------

    def end(
        self,
        run: Run,
        happening: Happening,
        now_s: float,
        *,
        made: bool,
        removed: Sequence[str],
        known: Mapping[str, Any],
    ) -> Run:
        """Let a run end, and remember which archives there are because of it.

        Args:
            run: as `happen` takes it.
            happening: the same.
            now_s: the time.
            made: whether `known` names an archive that is new.
            removed: paths of archives that are gone.
            known: fields of the run.
        """
        with self._change():
            then = self._happen(run, happening, now_s, **known)
            if made:
                self._sql.execute(
                    "INSERT OR REPLACE INTO archives VALUES (?, ?, ?, ?, ?, ?, NULL, NULL, NULL)",
                    (
                        then.archive, then.plan, then.started_s, then.content_bytes,
                        then.archive_bytes, then.run_id,
                    ),
                )  # fmt: skip
            if then.archive and then.verified is not None:
                self._sql.execute(
                    "UPDATE archives SET verified_s = ?, damaged_s = ? WHERE path = ?",
                    (
                        now_s if then.verified else None,
                        None if then.verified else now_s,
                        then.archive,
                    ),
                )
            self._sql.executemany(
                "UPDATE archives SET removed_s = ? WHERE path = ?",
                [(now_s, path) for path in removed],
            )
            return then

    def archives(self, plan: str) -> list[StoredArchive]:
        """Return the archives of a plan that were not removed, the newest first."""
        rows = self._sql.execute(
            f"SELECT {_ARCHIVE} FROM archives WHERE plan = ? AND removed_s IS NULL"
            " ORDER BY made_s DESC",
            (plan,),
        )
        return [StoredArchive(*row) for row in rows]

    def archive_counts(self) -> dict[str, int]:
        """Return how many archives each plan has, by name."""
        return dict(
            self._sql.execute(
                "SELECT plan, count(*) FROM archives WHERE removed_s IS NULL GROUP BY plan"
            )
        )

    def newest_archives(self) -> dict[str, StoredArchive]:
        """Return the newest archive of each plan that has one, by name."""
        rows = self._sql.execute(
            f"SELECT {_ARCHIVE} FROM plans JOIN archives ON archives.rowid = ("
            "SELECT rowid FROM archives WHERE plan = plans.name AND removed_s IS NULL"
            " ORDER BY made_s DESC LIMIT 1)"
        )
        return {row[1]: StoredArchive(*row) for row in rows}

    def archive_at(self, path: str) -> StoredArchive | None:
        """Return what is known of an archive that was not removed."""
        row = self._one(
            f"SELECT {_ARCHIVE} FROM archives WHERE path = ? AND removed_s IS NULL",
            path,
        )
        return None if row is None else StoredArchive(*row)

    # --- counts ------------------------------------------------------------------------------

    def ends_since(self, since_s: float) -> list[tuple[str, float, State]]:
        """Return (plan, when it ended, state) of backups that ended since, in order of number."""
        rows = self._sql.execute(
            "SELECT plan, ended_s, state FROM runs WHERE ended_s >= ? AND kind = 'backup'"
            " ORDER BY run_id",
            (since_s,),
        )
        return [(plan, ended_s, State(state)) for plan, ended_s, state in rows]

    def counts(self) -> list[tuple[str, Kind, State, int]]:
        """Return how many runs there are of each plan, kind and final state."""
        rows = self._sql.execute(
            "SELECT plan, kind, state, count(*) FROM runs"
            f" WHERE state NOT IN {_OPEN} GROUP BY plan, kind, state"
        )
        return [(plan, Kind(kind), State(state), count) for plan, kind, state, count in rows]

    # --- settings ----------------------------------------------------------------------------

    def setting(self, name: str) -> Any:
        """Return a setting; None if there is none."""
        row = self._one("SELECT value FROM settings WHERE name = ?", name)
        return None if row is None else json.loads(row[0])

    def put_setting(self, name: str, value: object) -> None:
        """Keep a setting, which JSON can have."""
        with self._change():
            self._put_setting(name, value)

    def _put_setting(self, name: str, value: object) -> None:
        self._sql.execute(
            "INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, json.dumps(value))
        )

    # --- inside ------------------------------------------------------------------------------

    def _one(self, query: str, *given: object) -> Any:
        return self._sql.execute(query, given).fetchone()

    @contextmanager
    def _change(self) -> Generator[None]:
        if self._sql.in_transaction:  # of `together`
            yield
            return
        try:
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._sql.execute("ROLLBACK")
                raise
            self._sql.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if self._sql.in_transaction:
                self._sql.execute("ROLLBACK")
            raise StateError(f"the server's database can't be written: {error}") from None


def _times(plan: Plan) -> tuple[object, ...]:
    return (plan.every, plan.at, plan.cron, plan.timezone, plan.is_paused)


def _plan(row: sqlite3.Row, plan: Plan | None = None) -> StoredPlan:
    return StoredPlan(
        plan or plan_from(json.loads(row["fields"])), row["created_s"], row["scheduled_s"],
        row["last_success_s"], row["last_run"], row["failures"],
    )  # fmt: skip


def _run(row: sqlite3.Row) -> Run:
    known: dict[str, Any] = dict(zip(_FIELDS, row, strict=True))
    known["kind"], known["reason"] = Kind(known["kind"]), Reason(known["reason"])
    known["state"] = State(known["state"])
    known["verified"] = None if known["verified"] is None else bool(known["verified"])
    return Run(**known)
