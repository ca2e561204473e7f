"""The master's memory: what is written stays, what must not be can't, many runs are no burden."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from onggi.control.database import Database
from onggi.control.errors import ConflictError, NotFoundError, StateError
from onggi.control.model import Happening, Kind, Reason, Run, State
from onggi.control.plan import Keep, Plan

from .master_helpers import T0, make_plan

WAITING = Run(0, "home", Kind.BACKUP, Reason.MANUAL, State.PENDING, T0, T0)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "onggi.db")
    made.change_plans([make_plan(), make_plan("other")], [], T0)
    yield made
    made.close()


def test_plans_come_back_as_they_were(tmp_path: Path) -> None:
    plan = Plan(
        "a.b-c_d", "/söurce", "/tärget", "tree", "2w", "23:59", keep=Keep(daily=3), retries=0,
        exclude=("*.tmp", "a'b\"c"), limit_bytes_per_s=5000, nice=True, window="22:00-06:00",
    )  # fmt: skip
    with closing(Database(tmp_path / "x.db")) as one:
        one.change_plans([plan], [], T0)
        one.put_setting("notify", {"on": ["failed"]})
    with closing(Database(tmp_path / "x.db")) as again:
        (stored,) = again.plans()
        assert (stored.plan, stored.created_s, stored.last_success_s) == (plan, T0, None)
        assert again.setting("notify") == {"on": ["failed"]}
        assert again.setting("nothing") is None


def test_plans_that_were_read_before_are_read_as_they_are_now(database: Database) -> None:
    before = {stored.plan.name: stored for stored in database.plans()}
    changed = replace(make_plan(), source="/elsewhere", is_paused=True)
    database.change_plans([changed, make_plan("third")], ["other"], T0 + 1)
    (run,) = database.add_runs([(WAITING, changed)])
    database.happen(database.happen(run, Happening.START, T0 + 2), Happening.FAIL, T0 + 3)
    now = {stored.plan.name: stored for stored in database.plans()}
    assert list(now) == ["home", "third"]
    assert (now["home"].plan, now["home"].failures) == (changed, 1)
    assert before["home"].plan == make_plan()
    database.change_plans([make_plan()], [], T0 + 4)
    assert database.plans()[0].plan == database.plan("home").plan == make_plan()


def test_two_runs_can_never_work_on_a_volume(database: Database) -> None:
    plan = make_plan()
    same = replace(make_plan("other"), source=plan.source)
    runs = [(WAITING, plan), (replace(WAITING, plan="other"), same)]
    first, second = database.add_runs(runs)
    started = database.happen(first, Happening.START, T0)
    assert (started.attempt, started.started_s) == (1, T0)
    with pytest.raises(ConflictError, match="another run is at work on what other packs"):
        database.happen(second, Happening.START, T0)
    database.happen(started, Happening.DONE, T0)
    assert database.happen(second, Happening.START, T0).state is State.RUNNING


def test_what_waits_or_was_due_is_not_added_again(database: Database) -> None:
    plan = make_plan()
    due = replace(WAITING, reason=Reason.SCHEDULE)
    assert len(database.add_runs([(due, plan), (due, plan), (WAITING, plan)])) == 1
    (run,) = database.open_runs()
    database.happen(run, Happening.CANCEL, T0)
    assert database.add_runs([(due, plan)]) == [], "there was a run for this time"
    assert len(database.add_runs([(replace(due, due_s=T0 + 1), plan)])) == 1


def test_a_run_that_has_changed_meanwhile_is_not_changed_by_who_did_not_see_it(
    database: Database,
) -> None:
    (run,) = database.add_runs([(WAITING, make_plan())])
    database.happen(run, Happening.START, T0)
    with pytest.raises(ConflictError, match="is not pending any more"):
        database.happen(run, Happening.CANCEL, T0)


def test_what_fails_halfway_leaves_nothing(database: Database) -> None:
    with pytest.raises(NotFoundError):
        database.change_plans([make_plan("new")], ["nobody"], T0)
    assert [stored.plan.name for stored in database.plans()] == ["home", "other"]


_KILLED = """
import os, sys
from pathlib import Path
from onggi.control.database import Database
from onggi.control.plan import Plan
database = Database(Path(sys.argv[1]))
for number in range(10**6):
    database.change_plans([Plan(f"p{number}", "/a", "/b")], [], 0.0)
    print(number, flush=True)
"""


def test_what_was_said_to_be_written_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with subprocess.Popen([sys.executable, "-c", _KILLED, path], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        for _ in range(20):
            last = int(child.stdout.readline())
        child.kill()
        last = max([last, *map(int, child.stdout.read().split(b"\n")[:-1])])
    with closing(Database(path)) as again:
        assert {f"p{number}" for number in range(last + 1)} <= {
            stored.plan.name for stored in again.plans()
        }


def test_it_is_on_disk_when_it_says_so(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "x.db")) as one:
        sql = one._sql
        assert sql.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert sql.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_a_database_of_a_newer_onggi_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    Database(path).close()
    with closing(sqlite3.connect(path)) as sql, sql:
        sql.execute(
            "INSERT INTO _yoyo_migration (migration_hash, migration_id, applied_at_utc)"
            " VALUES ('ff', '9999.later', '2030-01-01 00:00:00')"
        )
    with pytest.raises(StateError, match="was made by a newer Onggi; update this one"):
        Database(path)


def test_a_lock_that_a_killed_server_left_stops_nobody(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    Database(path).close()
    with closing(sqlite3.connect(path)) as sql, sql:
        sql.execute("INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, '2020-01-01', 1)")
    Database(path).close()


def test_what_is_no_database_is_told_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StateError, match="not a database"):
        Database(path)
    assert path.read_bytes() == b"no database" * 1000
    with pytest.raises(StateError, match="unable to open"):
        Database(tmp_path / "nothing" / "x.db")


def test_the_newest_archive_of_each_plan_is_known(database: Database) -> None:
    def made(path: str, start_s: float, *removed: str, plan: str = "home") -> None:
        (run,) = database.add_runs([(replace(WAITING, plan=plan), make_plan(plan))])
        run = database.happen(run, Happening.START, start_s)
        known = {"archive": path, "content_bytes": 70, "archive_bytes": 7, "verified": True}
        database.end(
            run, Happening.DONE, start_s + 9, made=True, removed=removed, known=known
        )  # fmt: skip

    assert database.newest_archives() == {}
    made("/a", T0)
    made("/b", T0 + 100)
    made("/other", T0 + 50, plan="other")
    newest = database.newest_archives()
    assert sorted(newest) == ["home", "other"]
    assert newest["home"] == database.archives("home")[0] == database.archive_at("/b")
    assert newest["home"].verified_s == T0 + 109
    made("/c", T0 + 200, "/b", "/c")
    assert database.newest_archives()["home"].path == "/a"
