"""Which archives of a plan are kept, and by which rules.

Owns: what the rules mean. Must not know files, runs or databases, nor what time it is. Pure, but
for the zone files that `zone` speaks of.

Rules are judged each for itself, as restic does: an archive counts for every rule that it meets,
and one that any rule keeps stays. (With borg, what one rule keeps does not count for the next.)

- `last` keeps the newest so many.
- `hourly` to `yearly` keep the newest archive of each of the newest so many periods that have one.
  Periods are those of the clocks and calendars of the plan's timezone; weeks are those of ISO 8601;
  an hour that comes twice is one. Where there are fewer periods than a rule asks for, it keeps the
  oldest archive too, so that the history does not get shorter before it is full.
- `within_days` keeps what is not older than so many days of the calendar, counted from the newest
  archive: when nothing new is made, nothing gets too old.

Beyond the rules, the newest archive is kept, and the last one that was proven right, so the rules
remove the last of either at no time.

An archive that is known to be damaged takes no place of a whole one: a rule keeps it beside those
that it counts, where no newer whole one stands for its period, and as long as places are left. The
newest whole one is kept like the newest.

What is kept is kept again, by the same rules, when only that is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from whenever import ZonedDateTime

from .plan import Keep
from .zone import first_moment, local_time


@dataclass(frozen=True, slots=True)
class Kept:
    """An archive that may be kept.

    Attributes:
        path: its path.
        made_s: when it was made.
        is_verified: whether it was ever proven right.
        is_whole: false if it is known to be damaged, whatever was proven before.
    """

    path: str
    made_s: float
    is_verified: bool
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of an archive.

    Attributes:
        archive: which.
        rules: those that keep it, in the words of people; without any it goes.
    """

    archive: Kept
    rules: tuple[str, ...]


_PERIODS: dict[str, Callable[[ZonedDateTime], str]] = {
    "hourly": lambda made: f"{made.date()} {made.hour:02}:00",
    "daily": lambda made: str(made.date()),
    "weekly": lambda made: "{0.year:04}-W{0.week:02}".format(made.date().iso_week_date()),
    "monthly": lambda made: str(made.date().year_month()),
    "yearly": lambda made: f"{made.year:04}",
}


def decide(archives: Sequence[Kept], keep: Keep, timezone: str) -> list[Decision]:
    """Return what becomes of the archives of a plan, the newest first.

    Of archives that were made at the same moment, the one whose path sorts last counts as newest.

    Args:
        archives: all of the plan, in any order.
        keep: the rules; without any, all stay.
        timezone: of the plan.

    Raises:
        BadPlanError: there is no such timezone.
    """
    ordered = sorted(archives, key=lambda archive: (archive.made_s, archive.path), reverse=True)
    if keep.keeps_all:
        return [Decision(archive, ("all",)) for archive in ordered]
    rules: list[list[str]] = [[] for _ in ordered]
    for number, rule in _kept(ordered, keep, timezone):
        rules[number].append(rule)
    return [Decision(*each) for each in zip(ordered, map(tuple, rules), strict=True)]


def _kept(ordered: Sequence[Kept], keep: Keep, timezone: str) -> Iterator[tuple[int, str]]:
    """Yield (number of an archive, rule that keeps it), rule by rule."""
    yield from _kept_last(ordered, keep.last)
    made = [local_time(archive.made_s, timezone) for archive in ordered]
    for rule, period_of in _PERIODS.items():
        periods = [period_of(each) for each in made]
        yield from _kept_of_periods(ordered, rule, getattr(keep, rule), periods)
    if keep.within_days and ordered:
        # The calendar's days: the same local time, so many days ago.
        edge = made[0].to_plain().subtract(days=keep.within_days)
        edge_s = first_moment(edge, timezone)
        for number, archive in enumerate(ordered):
            if archive.made_s >= edge_s:
                yield number, f"within {keep.within_days} days"
    yield from _kept_always(ordered)


def _kept_last(ordered: Sequence[Kept], places: int) -> Iterator[tuple[int, str]]:
    taken = 0
    for number, archive in enumerate(ordered):
        if taken == places:
            return
        taken += archive.is_whole
        yield number, f"last {taken}" if archive.is_whole else "last, damaged"


def _kept_of_periods(
    ordered: Sequence[Kept], rule: str, places: int, periods: Sequence[str]
) -> Iterator[tuple[int, str]]:
    taken: set[str] = set()
    damaged: set[str] = set()
    oldest = None  # the last whole one so far, if no place was given to it
    for number, (archive, period) in enumerate(zip(ordered, periods, strict=True)):
        if len(taken) == places:
            return
        if not archive.is_whole:
            if period not in taken and period not in damaged:
                damaged.add(period)
                yield number, f"{rule} {period}, damaged"
        elif period in taken:
            oldest = number
        else:
            oldest = None
            taken.add(period)
            yield number, f"{rule} {period}"
    if oldest is not None:  # then there are places left, too
        yield oldest, f"{rule}, the oldest"


def _kept_always(ordered: Sequence[Kept]) -> Iterator[tuple[int, str]]:
    whole = [number for number, archive in enumerate(ordered) if archive.is_whole]
    for number in whole:
        if ordered[number].is_verified:
            yield number, "the last verified"
            break
    if ordered:
        yield 0, "the newest"
    if whole and whole[0] != 0:
        yield whole[0], "the newest whole one"
