"""What the master starts, and when; what becomes of runs; clocks that jump, servers that die."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onggi.control import messages
from onggi.control.errors import ConflictError, NotFoundError, StateError, TransitionError
from onggi.control.messages import Ended, Progressed
from onggi.control.model import Kind, Reason, State
from onggi.control.plan import Keep, Verify

from .master_helpers import DAY, HOUR, NOON, T0, Desk, make_plan

S, F, M, L, C, P, R = (
    State.SUCCEEDED, State.FAILED, State.MISSED, State.LOST, State.CANCELLED, State.PENDING,
    State.RUNNING,
)  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make(*plans: Any, **more: Any) -> Desk:
        made.append(Desk(tmp_path, *plans, **more))
        return made[-1]

    yield make
    for each in made:
        each.close()


# --- what is due ---------------------------------------------------------------------------------


def test_a_plan_runs_when_it_is_due_and_not_before(desk: Callable[..., Desk]) -> None:
    one = desk(make_plan())
    one.master.tick(NOON - 1)
    assert one.works() == []
    assert one.master.next_look(NOON - 1) == NOON
    one.master.tick(NOON + 2)
    (work,) = one.works()
    run = one.database.run(work.run_id)
    assert (run.state, run.reason, run.due_s, run.started_s) == (R, Reason.SCHEDULE, NOON, NOON + 2)
    assert work.makes == "/backup/home/2026-11-24T12-00-02Z.onggi"
    one.master.tick(NOON + 3)
    assert one.works() == []
    run = one.end(work, NOON + 100)
    assert (run.state, run.ended_s, run.archive) == (S, NOON + 100, work.makes)
    assert one.taken == [run.run_id]
    assert [archive.path for archive in one.database.archives("home")] == [work.makes]
    assert one.database.plan("home").last_success_s == NOON + 100


@pytest.mark.parametrize(
    "fields", [{"is_paused": True}, {"every": ""}], ids=["paused", "only when asked"]
)
def test_a_plan_without_times_runs_when_it_is_asked_for(
    fields: dict[str, Any], desk: Callable[..., Desk]
) -> None:
    one = desk(make_plan(**fields))
    one.master.tick(NOON + 30 * DAY)
    assert one.works() == []
    run = one.master.ask("home", Kind.BACKUP, NOON)
    assert one.master.ask("home", Kind.BACKUP, NOON + 1) == run, "one waits already"
    one.master.tick(NOON + 1)
    assert [work.run_id for work in one.works()] == [run.run_id]


def test_a_plan_that_is_resumed_does_not_make_up_for_its_pause(desk: Callable[..., Desk]) -> None:
    one = desk(make_plan(is_paused=True))
    one.put(make_plan(), now_s=T0 + 10 * DAY)
    one.master.tick(T0 + 10 * DAY)
    assert one.works() == []
    one.master.tick(NOON + 10 * DAY)
    assert len(one.works()) == 1


# --- servers that did not run --------------------------------------------------------------------


def test_what_was_missed_is_made_up_once(desk: Callable[..., Desk]) -> None:
    one = desk(make_plan())
    one.crash(NOON + 9 * DAY + HOUR)
    one.master.tick(NOON + 9 * DAY + HOUR)
    missed, made_up = reversed(one.database.runs("home"))
    assert (missed.state, missed.due_s) == (M, NOON + 8 * DAY)
    assert missed.message == "9 times went by while the server did not run"
    assert (made_up.state, made_up.reason, made_up.due_s) == (R, Reason.MADE_UP, NOON + 9 * DAY)
    assert [run.state for run in one.over] == [M]
    one.crash(NOON + 9 * DAY + 2 * HOUR, knows=frozenset({made_up.run_id}))
    one.master.tick(NOON + 9 * DAY + 2 * HOUR)
    assert one.works() == []
    assert one.states() == [M, R]


def test_a_run_that_is_found_dead_is_lost_and_made_up_once(desk: Callable[..., Desk]) -> None:
    one = desk(make_plan())
    one.master.tick(NOON)
    one.crash(NOON + HOUR)
    assert one.states() == [L, P]
    one.master.tick(NOON + HOUR)
    assert one.states() == [L, R]
    one.crash(NOON + 2 * HOUR)
    one.master.tick(NOON + 2 * HOUR)
    assert one.states() == [L, L], "a machine that it brings down is not brought down for ever"
    assert one.database.plan("home").failures == 2


def test_an_end_that_is_told_twice_or_too_late_changes_nothing(desk: Callable[..., Desk]) -> None:
    one = desk(make_plan())
    one.master.tick(NOON)
    (work,) = one.works()
    ended = one.end(work, NOON + 10)
    assert one.end(work, NOON + 20, messages.FAILED) == ended
    assert one.taken == [work.run_id] * 2
    one.master.hear(Ended(4711, 1, messages.DONE), NOON)
    assert one.taken[-1] == 4711, "or the manager would tell it for ever"


def test_an_end_of_an_earlier_attempt_does_not_end_this_one(desk: Callable[..., Desk]) -> None:
    one = desk(make_plan())
    one.master.tick(NOON)
    (first,) = one.works()
    one.end(first, NOON + 10, messages.FAILED)
    one.master.tick(NOON + 100)
    assert len(one.works()) == 1
    one.end(first, NOON + 101, messages.FAILED)
    assert one.states() == [R]


# --- clocks --------------------------------------------------------------------------------------


def test_a_clock_that_is_set_back_runs_nothing_twice(desk: Callable[..., Desk]) -> None:
    one = desk(make_plan())
    one.master.tick(NOON + 1)
    (work,) = one.works()
    one.end(work, NOON + 30)
    for now in (NOON - HOUR, NOON - 1, NOON + 1, NOON + HOUR):
        one.master.tick(now)
        assert one.works() == []
    one.master.tick(NOON + DAY)
    assert len(one.works()) == 1


@pytest.mark.parametrize("restarts", [False, True])
def test_a_clock_that_was_years_ahead_does_not_stop_a_plan_for_years(
    restarts: bool, desk: Callable[..., Desk]
) -> None:
    one = desk(make_plan())
    one.master.tick(NOON + 4000 * DAY)
    (work,) = one.works()
    one.end(work, NOON + 4000 * DAY + 9)
    if restarts:
        one.crash(NOON - HOUR)
    one.master.tick(NOON - HOUR)
    one.master.tick(NOON)
    (work,) = one.works()
    one.end(work, NOON + 9)
    one.master.tick(NOON + DAY)
    assert len(one.works()) == 1


# --- what may start ------------------------------------------------------------------------------


def test_one_run_works_on_a_volume_whatever_it_does(desk: Callable[..., Desk]) -> None:
    one = desk(make_plan(), replace(make_plan("other"), source="/data/home"), per_target=9)
    one.backup("home", T0)
    one.master.ask("home", Kind.VERIFY, T0 + 100)
    one.master.ask("other", Kind.BACKUP, T0 + 101)
    one.master.tick(T0 + 102)
    (work,) = one.works()
    one.master.tick(T0 + 103)
    assert one.works() == []
    one.end(work, T0 + 104)
    one.master.tick(T0 + 105)
    (other,) = one.works()
    assert one.database.run(other.run_id).plan == "other"


@pytest.mark.parametrize("most", [1, 3])
def test_so_many_runs_work_on_a_target_in_the_order_in_which_they_were_due(
    most: int, desk: Callable[..., Desk]
) -> None:
    plans = [make_plan(f"p{number}", at=f"12:0{9 - number}") for number in range(6)]
    one = desk(*plans, per_target=most)
    for seconds in range(0, 700, 10):
        one.master.tick(NOON + seconds)
    started: list[str] = []
    while works := one.works():
        assert len(works) <= most
        for work in works:
            started.append(one.database.run(work.run_id).plan)
            one.end(work, NOON + 800)
        one.master.tick(NOON + 801)
    assert started == [f"p{number}" for number in reversed(range(6))]


def test_five_hundred_plans_at_once_lose_nothing_and_do_nothing_twice(
    desk: Callable[..., Desk],
) -> None:
    one = desk(*(make_plan(f"p{number}") for number in range(500)), per_target=4)
    now, seen = NOON, list[str]()
    one.master.tick(now)
    while works := one.works():
        assert len(works) <= 4
        for work in works:
            now += 1
            seen.append(one.end(work, now).plan)
        one.master.tick(now)
        if len(seen) == 200:
            one.crash(now)
            lost = [run.plan for run in one.database.runs(limit=1000) if run.state is L]
            one.master.tick(now)
    assert sorted(set(seen)) == sorted(f"p{number}" for number in range(500))
    assert len(seen) == 500
    assert one.states().count(S) == 500
    assert one.states().count(L) == len(lost)


def test_runs_start_in_their_window_and_are_stopped_when_it_closes(
    desk: Callable[..., Desk],
) -> None:
    one = desk(make_plan(at="20:00", window="22:00-06:00"))
    eight = NOON + 8 * HOUR
    one.master.tick(eight)
    assert one.states() == [P]
    one.master.tick(eight + 2 * HOUR - 1)
    assert one.works() == []
    one.master.tick(eight + 2 * HOUR)
    (work,) = one.works()
    one.master.tick(eight + 10 * HOUR - 1)
    assert one.cancels() == []
    one.master.tick(eight + 10 * HOUR)
    assert one.cancels() == [work.run_id]
    run = one.end(work, eight + 10 * HOUR + 5, messages.STOPPED, archive="")
    assert (run.state, run.message) == (C, "its window 22:00-06:00 has closed")
    asked = one.master.ask("home", Kind.BACKUP, NOON)
    one.master.tick(NOON + DAY)
    assert [work.run_id for work in one.works()] == [asked.run_id], "what is asked for runs now"
    assert one.cancels() == []


def test_a_time_that_comes_while_a_run_waits_is_missed(desk: Callable[..., Desk]) -> None:
    one = desk(make_plan(every="6h", window="13:00-13:30"))
    one.master.tick(T0 + 6 * HOUR)
    one.master.tick(T0 + 12 * HOUR)
    assert one.states() == [P, M]
    assert one.database.runs()[0].message == "the run before it has not started yet"


# --- ends ----------------------------------------------------------------------------------------


def test_a_run_that_failed_is_tried_again_later_each_time(desk: Callable[..., Desk]) -> None:
    one = desk(make_plan(retries=2))
    one.master.tick(NOON)
    now = NOON
    for attempt, pause in ((1, 60), (2, 240)):
        (work,) = one.works()
        assert work.attempt == attempt
        run = one.end(work, now, messages.FAILED, message="no space", exit_code=6, archive="")
        assert (run.state, run.not_before_s) == (P, now + pause)
        assert run.message == f"attempt {attempt} failed: no space"
        one.master.tick(now + pause - 1)
        assert one.works() == []
        now += pause
        assert one.master.next_look(now - 1) == now
        one.master.tick(now)
    (work,) = one.works()
    run = one.end(work, now, messages.FAILED, message="no space", exit_code=6, archive="")
    assert (run.state, run.message, run.exit_code) == (F, "no space", 6)
    assert [each.state for each in one.over] == [F]
    assert one.database.plan("home").failures == 1


def test_what_is_of_no_use_to_try_again_is_not(desk: Callable[..., Desk]) -> None:
    one = desk(make_plan())
    run = one.backup("home", T0, outcome=messages.FAILED, is_final=True, message="no such source")
    assert (run.state, run.attempt) == (F, 1)


def test_findings_are_warnings(desk: Callable[..., Desk]) -> None:
    one = desk(make_plan())
    run = one.backup("home", T0, outcome=messages.FINDINGS, findings=3, message="3 files changed")
    assert (run.state, run.findings, run.message) == (State.WARNED, 3, "3 files changed")
    assert one.database.plan("home").last_success_s == run.ended_s


def test_a_run_is_cancelled_while_it_waits_and_while_it_works(desk: Callable[..., Desk]) -> None:
    one = desk(make_plan())
    waiting = one.master.ask("home", Kind.BACKUP, T0)
    assert one.master.cancel(waiting.run_id, T0).state is C
    run = one.master.ask("home", Kind.BACKUP, T0)
    one.master.tick(T0)
    (work,) = one.works()
    assert one.master.cancel(run.run_id, T0 + 1).state is State.CANCELLING
    assert one.cancels() == [run.run_id]
    with pytest.raises(TransitionError):
        one.master.cancel(run.run_id, T0 + 2)
    assert one.end(work, T0 + 3, messages.STOPPED, archive="").state is C
    with pytest.raises(TransitionError):
        one.master.cancel(run.run_id, T0 + 4)
    with pytest.raises(NotFoundError):
        one.master.cancel(99, T0)


def test_a_run_that_was_done_before_it_heard_of_its_end_has_succeeded(
    desk: Callable[..., Desk],
) -> None:
    one = desk(make_plan())
    run = one.master.ask("home", Kind.BACKUP, T0)
    one.master.tick(T0)
    (work,) = one.works()
    one.master.cancel(run.run_id, T0 + 1)
    assert one.end(work, T0 + 2).state is S
    assert len(one.database.archives("home")) == 1


def test_a_server_that_is_stopped_starts_its_runs_anew_without_counting(
    desk: Callable[..., Desk],
) -> None:
    one = desk(make_plan(retries=0))
    one.master.tick(NOON)
    (work,) = one.works()
    run = one.end(work, NOON + 5, messages.STOPPED, archive="")
    assert (run.state, run.message) == (P, "the server was stopped; it starts anew")
    one.crash(NOON + 60)
    one.master.tick(NOON + 60)
    assert [work.run_id for work in one.works()] == [run.run_id]


def test_progress_is_kept_while_a_run_is_at_work(desk: Callable[..., Desk]) -> None:
    one = desk(make_plan())
    one.master.tick(NOON)
    (work,) = one.works()
    told = Progressed(work.run_id, "pack", 10, 100, 5, 1.5, 60.0, "read")
    one.master.hear(told, NOON + 1)
    assert one.master.progress(work.run_id) == told
    one.end(work, NOON + 2)
    one.master.hear(told, NOON + 3)
    assert one.master.progress(work.run_id) is None


# --- proofs and retention ------------------------------------------------------------------------


def test_archives_are_verified_as_the_plan_says(desk: Callable[..., Desk]) -> None:
    one = desk(make_plan(verify=Verify.WEEKLY))
    names: list[list[str]] = []
    for day in range(9):
        one.master.tick(NOON + day * DAY)
        (work,) = one.works()
        steps = [step.name for step in work.steps]
        names.append(steps)
        one.end(work, NOON + day * DAY + 60, verified=True if "verify" in steps else None)
    assert [len(steps) for steps in names] == [2, 1, 1, 1, 1, 1, 1, 1, 2]
    proven = [archive.verified_s for archive in one.database.archives("home")]
    assert [each is not None for each in proven] == [True, *[False] * 7, True]


def test_a_verification_that_fails_takes_the_proof_away(desk: Callable[..., Desk]) -> None:
    one = desk(make_plan(verify=Verify.AFTER))
    one.backup("home", T0, verified=True)
    (archive,) = one.database.archives("home")
    assert archive.verified_s is not None
    run = one.backup(
        "home", T0 + HOUR, kind=Kind.VERIFY, outcome=messages.FAILED, verified=False,
        is_final=True, message="unit 3 is damaged",
    )  # fmt: skip
    assert (run.state, run.archive, run.verified) == (F, archive.path, False)
    (archive,) = one.database.archives("home")
    assert archive.verified_s is None
    assert one.database.plan("home").failures == 0, "the backup was none of it"


def test_there_must_be_an_archive_to_verify(desk: Callable[..., Desk]) -> None:
    one = desk(make_plan())
    with pytest.raises(NotFoundError, match="home has no archive to verify"):
        one.master.ask("home", Kind.VERIFY, T0)


def test_after_a_backup_what_no_rule_keeps_is_removed_by_a_run_of_its_own(
    desk: Callable[..., Desk],
) -> None:
    one = desk(make_plan(keep=Keep(last=2)))
    made = []
    for number in range(3):
        made.append(one.backup("home", T0 + number * HOUR).archive)
        one.master.tick(T0 + number * HOUR + 90)
        works = one.works()
        assert [work.removes for work in works] == ([] if number < 2 else [(made[0],)])
    (work,) = works
    run = one.end(work, T0 + 4 * HOUR, removed=work.removes, content_bytes=0, archive_bytes=0)
    assert (run.kind, run.reason, run.state) == (Kind.PRUNE, Reason.AFTER_BACKUP, S)
    assert [archive.path for archive in one.database.archives("home")] == [made[2], made[1]]


def test_the_last_verified_archive_is_never_removed(desk: Callable[..., Desk]) -> None:
    one = desk(make_plan(keep=Keep(last=1)))
    proven = one.backup("home", T0, verified=True).archive
    for number in range(1, 5):
        one.backup("home", T0 + number * HOUR)
        one.master.tick(T0 + number * HOUR + 90)
        for work in one.works():
            assert proven not in work.removes
            one.end(work, T0 + number * HOUR + 91, removed=work.removes)
    left = [archive.path for archive in one.database.archives("home")]
    assert len(left) == 2
    assert left[1] == proven


# --- plans that change ---------------------------------------------------------------------------


def test_a_plan_at_work_is_not_removed_and_one_that_waits_is(desk: Callable[..., Desk]) -> None:
    one = desk(make_plan(), make_plan("other"), per_target=1)
    one.master.tick(NOON)
    (work,) = one.works()
    busy = one.database.run(work.run_id).plan
    idle = "other" if busy == "home" else "home"
    with pytest.raises(ConflictError, match="has a run at work; cancel it first"):
        one.database.change_plans([], [idle, busy], NOON + 1)
    assert len(one.database.plans()) == 2, "all or nothing"
    one.database.change_plans([], [idle], NOON + 1)
    one.master.reload(NOON + 1)
    assert sorted(one.states(idle)) == [C]
    one.end(work, NOON + 5)
    one.master.tick(NOON + DAY)
    assert [one.database.run(each.run_id).plan for each in one.works()] == [busy]


def test_an_end_and_what_follows_from_it_are_one(
    desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = desk(make_plan())
    one.master.tick(NOON)

    def full(*_: object) -> None:
        raise StateError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(one.database, "add_runs", full)
        with pytest.raises(StateError):
            one.master.lose_others(set(), NOON + 1)
    assert one.states() == [R], "or it would be lost, and nothing made up for it"
    assert one.over == []
    one.master.lose_others(set(), NOON + 2)
    assert one.states() == [L, P]
    assert [run.state for run in one.over] == [L]
