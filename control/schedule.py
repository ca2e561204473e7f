"""When plans are due, and when their windows are open.

Owns: the times of a schedule. Must not know clocks, runs or databases: it is told the moments.
Pure, but for the zone files that `zone` speaks of. Takes plans that `check_plan` and
`check_schedule` let pass.

All moments are seconds since 1970 in UTC. Local times are told in the plan's timezone, and stand
for moments as `zone` says. No plan is due before its anchor, the moment when it was made.

- Hours: at the anchor, and every so many hours that pass, whatever the clocks do.
- Days and weeks: at a local time, every so many days of the calendar, from the anchor's day on.
- Cron: as Debian's cron has it. If neither minute nor hour begins with `*`, each local time that
  matches is due once, also where the clocks change. If one does, every moment at which the clocks
  show a match is due: both of a local time that comes twice, none of one that is skipped.
- A window opens and closes at a local time each day, and is open in between, whatever the clocks
  show there. One that a gap swallows does not open that day.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from heapq import merge
from itertools import count, dropwhile, groupby, islice, takewhile, tee
from math import floor, inf, nextafter

from cronsim import CronSim, CronSimError
from whenever import Time

from .errors import BadPlanError
from .plan import Plan
from .plan_check import shown
from .zone import check_timezone, first_moment, local_time, real_moments

_HOUR_S = 3600.0
_ANY_DAY = datetime(2000, 1, 1)


def check_schedule(plan: Plan) -> None:
    """Refuse a timezone that is not known, and a cron expression that means nothing.

    Raises:
        BadPlanError: the plan has one; the line says what is wrong, and what to write instead.
    """
    try:
        check_timezone(plan.timezone)
        if plan.cron:
            _check_cron(plan.cron)
    except BadPlanError as error:
        raise BadPlanError(f"plan {plan.name}: {error}") from None


def next_due(plan: Plan, after_s: float, anchor_s: float) -> float | None:
    """Return the first moment at which a plan is due, strictly after another one.

    Args:
        plan: which; whether it is paused is not looked at.
        after_s: the other moment.
        anchor_s: when the plan was made.

    Returns:
        The moment; None if the plan has no schedule, or cron finds none within 50 years.
    """
    start_s = max(after_s, _just_before(anchor_s))
    due = (moment_s for moment_s in _times(plan, start_s, anchor_s, 1) if moment_s > start_s)
    return next(due, None)


def due_between(
    plan: Plan, start_s: float, end_s: float, anchor_s: float, most: int = 1000
) -> list[float]:
    """Return when a plan is due after a moment and up to another, the last of these times.

    The time that it takes does not depend on how many there are before those.

    Args:
        plan: which; whether it is paused is not looked at.
        start_s: not included.
        end_s: included.
        anchor_s: when the plan was made.
        most: how many to return at most.

    Returns:
        Moments that rise; the same as `next_due` gives one after the other.
    """
    start_s = max(start_s, _just_before(anchor_s))
    if start_s >= end_s:
        return []
    backwards = dropwhile(lambda moment_s: moment_s > end_s, _times(plan, end_s, anchor_s, -1))
    within = takewhile(lambda moment_s: moment_s > start_s, backwards)
    once = (moment_s for moment_s, _ in groupby(within))
    return list(islice(once, most))[::-1]


def in_window(plan: Plan, now_s: float) -> bool:
    """Return whether the window of a plan is open, as it always is where there is none."""
    return window_opens(plan, now_s) == now_s


def window_opens(plan: Plan, now_s: float) -> float:
    """Return the moment from which the window of a plan is open next: now, if it is open."""
    window = _window(plan, now_s)
    return now_s if window is None else max(now_s, window[0])


def window_closes(plan: Plan, now_s: float) -> float | None:
    """Return the first moment at which the open window, or else the next, is no more open.

    None if there is no window.
    """
    window = _window(plan, now_s)
    return None if window is None else window[1]


def _check_cron(cron: str) -> None:
    # Names of moments such as @daily, and six fields, mean something to others, and to cronsim.
    if len(cron.split()) != 5:
        raise BadPlanError(f"cron is {shown(cron)}; write five fields, such as 30 2 * * 1-5")
    try:
        times = CronSim(cron, _ANY_DAY)
    except (CronSimError, ValueError) as error:  # the latter for numbers of thousands of digits
        what = str(error).lower() if isinstance(error, CronSimError) else "bad number"
        raise BadPlanError(
            f"cron is {shown(cron)}, {what}; write minute, hour, day of month, month and day of "
            "week, such as 30 2 * * 1-5"
        ) from None
    if next(times, None) is None:
        raise BadPlanError(f"cron is {shown(cron)}, which is never due; write a day that there is")


def _just_before(moment_s: float) -> float:
    return nextafter(moment_s, -inf)


def _times(plan: Plan, edge_s: float, anchor_s: float, step: int) -> Iterator[float]:
    """Yield when a plan is due, onwards (step 1) or backwards (-1) from about a moment on.

    The first few may lie on the other side of it; neighbours may be the same. It goes on before the
    anchor.
    """
    if plan.cron:
        return _times_of_cron(plan, edge_s, step)
    if plan.every.endswith("h"):
        return _times_of_hours(plan, edge_s, anchor_s, step)
    if plan.every:
        return _times_of_days(plan, edge_s, anchor_s, step)
    return iter(())


def _times_of_hours(plan: Plan, edge_s: float, anchor_s: float, step: int) -> Iterator[float]:
    length_s = int(plan.every[:-1]) * _HOUR_S
    # From one earlier on, or later: what is divided may be rounded.
    for number in count(floor((edge_s - anchor_s) / length_s) - step, step):
        yield anchor_s + number * length_s


def _times_of_days(plan: Plan, edge_s: float, anchor_s: float, step: int) -> Iterator[float]:
    days = int(plan.every[:-1]) * (7 if plan.every.endswith("w") else 1)
    at = Time(plan.at)
    first = local_time(anchor_s, plan.timezone).date()
    passed = local_time(edge_s, plan.timezone).date().since(first, total="days")
    # From one earlier on, or later: clocks that went back over midnight have shown that day before.
    for number in count(floor(passed / days) - step, step):
        yield first_moment(first.add(days=number * days).at(at), plan.timezone)


def _times_of_cron(plan: Plan, edge_s: float, step: int) -> Iterator[float]:
    # Only the local times are cronsim's: what it makes of zones leaves out moments where clocks
    # change by half an hour.
    local = local_time(edge_s, plan.timezone).to_plain().to_stdlib()
    real = real_moments(local, plan.timezone)
    assert real is not None
    # In an hour that comes twice, what the clocks show is no order: look at all of it.
    slack = timedelta(seconds=1 + real[1] - real[0])
    candidates = CronSim(plan.cron, local - step * slack, reverse=step < 0)
    minute, hour, *_ = plan.cron.split()
    if not minute.startswith("*") and not hour.startswith("*"):
        return (first_moment(each, plan.timezone) for each in candidates)
    # Where times come twice, the first moments of all of them are before the last ones.
    shown_at = (real_moments(each, plan.timezone) for each in candidates)
    first, last = tee(each for each in shown_at if each is not None)
    return merge((each[0] for each in first), (each[1] for each in last), reverse=step < 0)


def _window(plan: Plan, now_s: float) -> tuple[float, float] | None:
    """Return when the window that is open, or else the next, opens and closes; None if always."""
    if not plan.window:
        return None
    return next(window for window in _windows(plan, now_s) if window[1] > now_s)


def _windows(plan: Plan, now_s: float) -> Iterator[tuple[float, float]]:
    """Yield when windows open and close, in order, from that of yesterday on."""
    opens, closes = map(Time, plan.window.split("-"))
    today = local_time(now_s, plan.timezone).date()
    start_s = end_s = -inf
    for number in count(-1):
        day = today.add(days=number)
        from_s = first_moment(day.at(opens), plan.timezone)
        last_day = day if opens < closes else day.next_day()
        to_s = first_moment(last_day.at(closes), plan.timezone)
        if from_s > end_s:  # or a gap swallowed the time between both
            if end_s > start_s:
                yield start_s, end_s
            start_s = from_s
        end_s = to_s
