"""The master: which runs there are to be, which may start, and what became of them.

Owns: the order of things. Must not know processes, sockets or people. It is told the time, and
who works (through messages); what it decides is in the database before anyone acts on it. Belongs
to one thread.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from . import messages, retention, schedule, work
from .database import Database, StoredArchive, StoredPlan
from .errors import ConflictError, NotFoundError, StateError, TransitionError
from .messages import Cancel, Command, Ended, Event, Progressed, Start
from .model import ACTIVE, Happening, Kind, Reason, Run, State
from .plan import Plan

_LATE_S = 300.0  # a run that starts later than this is made up
_SET_BACK_S = 60.0  # the clock was
_FIRST_PAUSE_S, _MOST_PAUSE_S = 60.0, 3600.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How a master does.

    Attributes:
        per_target: how many runs work on a target at a time.
        first_pause_s: before the second attempt; before later ones it is four times as long each.
    """

    per_target: int = 1
    first_pause_s: float = _FIRST_PAUSE_S


class Master:
    """A master.

    Args:
        database: what it remembers.
        send: takes commands for managers.
        taken: told the number of a run once its end is on disk.
        over: told of each run that has reached its end, with its plan if there still is one.
        settings: how it does.
    """

    def __init__(
        self,
        database: Database,
        send: Callable[[Command], None],
        taken: Callable[[int], None],
        over: Callable[[Run, Plan | None], None],
        settings: Settings | None = None,
    ) -> None:
        self.database = database
        self._send = send
        self._taken = taken
        self._over = over
        self._settings = settings or Settings()
        self._due: list[tuple[float, str]] = []
        self._stored: dict[str, StoredPlan] = {}
        self._progress: dict[int, Progressed | None] = {}  # of runs at work
        self._stopping: dict[int, str] = {}  # why, of runs that were told to end
        self._last_s = float("-inf")

    # --- time --------------------------------------------------------------------------------

    def reload(self, now_s: float) -> None:
        """Read the plans anew; to be called at first, and whenever they have changed."""
        self._stored = {stored.plan.name: stored for stored in self.database.plans()}
        ahead = {
            name: now_s
            for name, stored in self._stored.items()
            if stored.scheduled_s > now_s + _SET_BACK_S
        }
        if ahead:  # the clock was set back: or nothing would be due until it is there again
            self.database.look_no_further_back(ahead)
            for name in ahead:
                self._stored[name] = replace(self._stored[name], scheduled_s=now_s)
        self._due = []
        for name, stored in self._stored.items():
            self._push(name, stored)
        heapq.heapify(self._due)

    def next_due(self, name: str) -> float | None:
        """Return when a plan is due next; None for never."""
        stored = self._stored[name]
        if stored.plan.is_paused or not stored.plan.is_scheduled:
            return None
        return schedule.next_due(stored.plan, stored.scheduled_s, stored.created_s)

    def next_look(self, now_s: float) -> float:
        """Return when the next tick is of use, if nothing happens until then."""
        looks = [run.not_before_s for run in self.database.open_runs() if run.not_before_s > now_s]
        if self._due:
            looks.append(self._due[0][0])
        return min(looks, default=float("inf"))

    def tick(self, now_s: float) -> None:
        """Do what is due by now. To be called every few seconds, and after each event."""
        if now_s < self._last_s - _SET_BACK_S:
            self.reload(now_s)
        self._last_s = now_s
        self._make_due(now_s)
        open_runs = self.database.open_runs()
        self._close_windows(open_runs, now_s)
        self._start(open_runs, now_s)

    def _push(self, name: str, stored: StoredPlan) -> None:
        plan = stored.plan
        if plan.is_paused or not plan.is_scheduled:
            return
        due_s = schedule.next_due(plan, stored.scheduled_s, stored.created_s)
        if due_s is not None:
            heapq.heappush(self._due, (due_s, name))

    def _make_due(self, now_s: float) -> None:
        """Add a run for each plan that is due; the latest time of those that went by."""
        runs: list[tuple[Run, Plan]] = []
        looked: dict[str, float] = {}
        while self._due and self._due[0][0] <= now_s:
            name = heapq.heappop(self._due)[1]
            stored = self._stored[name]
            times = schedule.due_between(stored.plan, stored.scheduled_s, now_s, stored.created_s)
            self._stored[name] = replace(stored, scheduled_s=now_s)
            looked[name] = now_s
            self._push(name, self._stored[name])
            *missed, latest = times
            if missed:
                runs.append((_missed(name, missed, now_s), stored.plan))
            reason = Reason.MADE_UP if now_s - latest > _LATE_S else Reason.SCHEDULE
            run = Run(0, name, Kind.BACKUP, reason, State.PENDING, latest, now_s)
            waiting = [run.kind for run in self.database.runs_waiting(name)]
            if Kind.BACKUP in waiting:
                text = "the run before it has not started yet"
                run = replace(run, state=State.MISSED, ended_s=now_s, message=text)
            runs.append((run, stored.plan))
        if runs:
            try:
                added = self.database.add_runs(runs)
            except StateError:  # they stay due
                self.reload(now_s)
                raise
            for run in added:
                if run.state is State.MISSED:
                    self._over(run, self._stored[run.plan].plan)
            self.database.look_no_further_back(looked)

    def _close_windows(self, open_runs: Sequence[Run], now_s: float) -> None:
        for run in open_runs:
            stored = self._stored.get(run.plan)
            if run.state is not State.RUNNING or stored is None or run.reason is Reason.MANUAL:
                continue
            if not schedule.in_window(stored.plan, now_s):
                self._stop(run, now_s, f"its window {stored.plan.window} has closed")

    def _start(self, open_runs: Sequence[Run], now_s: float) -> None:
        """Start what may start, those that are due longest first."""
        on_target: Counter[str] = Counter()
        volumes: set[str] = set()
        for run in open_runs:
            stored = self._stored.get(run.plan)
            if run.state in ACTIVE and stored is not None:
                on_target[stored.plan.target] += 1
                volumes.add(stored.plan.source)
        for run in open_runs:
            if run.state is not State.PENDING or run.not_before_s > now_s:
                continue
            stored = self._stored.get(run.plan)
            if stored is None:
                continue
            plan = stored.plan
            is_asked = run.reason is Reason.MANUAL
            if not is_asked and not schedule.in_window(plan, now_s):
                continue
            if plan.source in volumes or on_target[plan.target] >= self._settings.per_target:
                continue
            try:
                self._launch(run, plan, now_s)
            except ConflictError:
                continue
            volumes.add(plan.source)
            on_target[plan.target] += 1

    def _launch(self, run: Run, plan: Plan, now_s: float) -> None:
        archives = self.database.archives(plan.name)
        verified = [each.verified_s for each in archives if each.verified_s is not None]
        named_s, taken = now_s, {each.path for each in archives}
        while work.archive_path(plan, named_s) in taken:  # the one before is of the same second
            named_s += 1.0
        order = work.work_for(
            run, plan, self.database.marker(plan.target) or "",
            started_s=named_s,
            verified_s=max(verified, default=None),
            removes=tuple(
                decision.archive.path
                for decision in decide(archives, plan)
                if not decision.rules
            ) if run.kind is Kind.PRUNE else (),
        )  # fmt: skip
        known = {"archive": order.makes} if order.makes else {}
        self.database.happen(run, Happening.START, now_s, message="", **known)
        self._progress[run.run_id] = None
        self._send(Start(order))

    # --- what is asked for -------------------------------------------------------------------

    def ask(self, name: str, kind: Kind, now_s: float, archive: str = "") -> Run:
        """Add a run of a plan now; return it, or the one that waits already.

        Raises:
            NotFoundError: there is no such plan, or none of its archives to verify.
        """
        stored = self.database.plan(name)
        if kind is Kind.VERIFY and not archive:
            archives = self.database.archives(name)
            if not archives:
                raise NotFoundError(f"{name} has no archive to verify")
            archive = archives[0].path
        run = Run(0, name, kind, Reason.MANUAL, State.PENDING, now_s, now_s, archive=archive)
        added = self.database.add_runs([(run, stored.plan)])
        if added:
            return added[0]
        waiting = [each for each in self.database.runs_waiting(name) if each.kind is kind]
        return waiting[0]

    def cancel(self, run_id: int, now_s: float, why: str = "") -> Run:
        """Have a run end; return it as it is then.

        Raises:
            NotFoundError: there is no such run.
            TransitionError: it is over, or ending.
        """
        run = self.database.run(run_id)
        if run.state.is_final or run.state is State.CANCELLING:
            is_what = f"over ({run.state})" if run.state.is_final else "ending already"
            raise TransitionError(f"run {run_id} is {is_what}")
        if run.state is State.RUNNING:
            return self._stop(run, now_s, why or "by hand")
        run = self.database.happen(
            run, Happening.CANCEL, now_s, message=why or "by hand, before it started"
        )
        self._finish(run)
        return run

    def progress(self, run_id: int) -> Progressed | None:
        """Return how far a run is; None if it is not at work."""
        return self._progress.get(run_id)

    def _stop(self, run: Run, now_s: float, why: str) -> Run:
        run = self.database.happen(run, Happening.CANCEL, now_s, message=why)
        self._stopping[run.run_id] = why
        self._send(Cancel(run.run_id))
        return run

    # --- what happens ------------------------------------------------------------------------

    def hear(self, event: Event, now_s: float) -> None:
        """Take what a manager tells. The same may be told several times."""
        if isinstance(event, Progressed):
            if event.run_id in self._progress:
                self._progress[event.run_id] = event
        elif isinstance(event, Ended):
            try:
                run = self.database.run(event.run_id)
            except NotFoundError:
                self._taken(event.run_id)
                return
            if run.state in ACTIVE and run.attempt == event.attempt:
                self._end(run, event, now_s)
            self._taken(event.run_id)

    def lose_others(self, known: set[int], now_s: float) -> None:
        """End the runs that are at work by the database, and of which no manager knows."""
        for run in self.database.open_runs():
            if run.state in ACTIVE and run.run_id not in known:
                event = Ended(run.run_id, run.attempt, messages.VANISHED, message="found dead")
                self._end(run, event, now_s)

    def _end(self, run: Run, event: Ended, now_s: float) -> None:
        self._progress.pop(run.run_id, None)
        why = self._stopping.pop(run.run_id, run.message)
        happening, message = _happening(run, event, self._retries(run))
        archive = event.archive or (run.archive if run.kind is Kind.VERIFY else "")
        known: dict[str, object] = {
            "archive": archive,
            "content_bytes": event.content_bytes,
            "archive_bytes": event.archive_bytes,
            "findings": event.findings,
            "verified": event.verified if archive else None,
            "exit_code": event.exit_code,
            "message": why if happening is Happening.STOPPED else message,
        }
        if happening is Happening.RETRY:
            pause_s = 0.0
            if event.outcome == messages.FAILED:
                pause_s = self._settings.first_pause_s * 4.0 ** (run.attempt - 1)
            known["not_before_s"] = now_s + min(pause_s, _MOST_PAUSE_S)
        made = run.kind is Kind.BACKUP and bool(event.archive)
        with self.database.together():  # or a crash could come between an end and what follows
            try:
                then = self.database.end(
                    run, happening, now_s, made=made, removed=event.removed, known=known
                )
            except ConflictError:  # another run of it waits already: that is the next attempt
                then = self.database.end(
                    run, Happening.FAIL, now_s, made=made, removed=event.removed, known=known
                )
            if then.state.is_final:
                self._follow(then, now_s)
        if then.state.is_final:
            self._finish(then)

    def _retries(self, run: Run) -> int:
        stored = self._stored.get(run.plan)
        return 0 if stored is None else stored.plan.retries

    def _finish(self, run: Run) -> None:
        stored = self._stored.get(run.plan)
        self._over(run, None if stored is None else stored.plan)

    def _follow(self, run: Run, now_s: float) -> None:
        """Add what follows from the end of a run."""
        stored = self._stored.get(run.plan)
        if stored is None:
            return
        if run.state is State.LOST and run.kind is Kind.BACKUP and run.reason is not Reason.MADE_UP:
            again = Run(
                0, run.plan, Kind.BACKUP, Reason.MADE_UP, State.PENDING, now_s, now_s,
                message=f"run {run.run_id} was lost",
            )  # fmt: skip
            self.database.add_runs([(again, stored.plan)])
        if run.state.is_good and run.kind is Kind.BACKUP and not stored.plan.keep.keeps_all:
            decisions = decide(self.database.archives(run.plan), stored.plan)
            if any(not decision.rules for decision in decisions):
                prune = Run(
                    0, run.plan, Kind.PRUNE, Reason.AFTER_BACKUP, State.PENDING, now_s, now_s
                )
                self.database.add_runs([(prune, stored.plan)])


def decide(archives: Sequence[StoredArchive], plan: Plan) -> list[retention.Decision]:
    """Return what the rules of a plan say of its archives, the newest first."""
    kept = [
        retention.Kept(each.path, each.made_s, each.verified_s is not None, each.damaged_s is None)
        for each in archives
    ]
    return retention.decide(kept, plan.keep, plan.timezone)


def _missed(name: str, times: Sequence[float], now_s: float) -> Run:
    """Return the one run that stands for times that went by while nobody looked."""
    text = "the server did not run"
    if len(times) > 1:
        text = f"{len(times)} times went by while the server did not run"
    return Run(
        0, name, Kind.BACKUP, Reason.SCHEDULE, State.MISSED, times[-1], times[-1], ended_s=now_s,
        message=text,
    )  # fmt: skip


def _happening(run: Run, event: Ended, retries: int) -> tuple[Happening, str]:
    """Return what the end of some work is for its run, and what to tell of it."""
    outcome, message = event.outcome, event.message
    if outcome == messages.DONE:
        return Happening.DONE, message
    if outcome == messages.FINDINGS:
        return Happening.DONE_WITH_WARNINGS, message
    if outcome == messages.VANISHED:
        return Happening.VANISH, message
    if run.state is State.CANCELLING:
        return Happening.STOPPED, message
    if outcome == messages.STOPPED:  # the server was told to end, and not the run
        return Happening.RETRY, "the server was stopped; it starts anew"
    if not event.is_final and run.attempt <= retries:
        return Happening.RETRY, f"attempt {run.attempt} failed: {message}"
    return Happening.FAIL, message
