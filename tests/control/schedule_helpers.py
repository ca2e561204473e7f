"""Times as people write them, and a second opinion on schedules: slow, plain, by another library.

The second opinion knows zones from `zoneinfo` alone, and looks at every minute one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from onggi.control.plan import Plan

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
KOLKATA, APIA, ST_JOHNS = "Asia/Kolkata", "Pacific/Apia", "America/St_Johns"
# Besides: gaps and folds at midnight, a minute after it, by two hours, against the year, of the
# whole zone.
ZONES = (
    BERLIN, NEW_YORK, LORD_HOWE, KOLKATA, APIA, ST_JOHNS, "UTC", "Asia/Beirut", "America/Havana",
    "Antarctica/Troll", "Europe/Dublin", "Africa/Casablanca", "America/Caracas", "Asia/Pyongyang",
)  # fmt: skip
_MINUTE = timedelta(minutes=1)
MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0


def plan(**fields: object) -> Plan:
    """Return a plan with these fields; the others do not matter."""
    return Plan(**{"name": "p", "source": "/s", "target": "/t", **fields})  # type: ignore[arg-type]


def moment(text: str) -> float:
    """Return the moment that `2026-03-29 03:00+02:00` means."""
    return datetime.fromisoformat(text).timestamp()


def shown(moments: Iterable[float], timezone: str) -> list[str]:
    """Return moments as `2026-03-29 03:00+02:00`."""
    zone = ZoneInfo(timezone)
    times = [datetime.fromtimestamp(each, zone).isoformat(" ") for each in moments]
    assert all(time[16:19] == ":00" for time in times)
    return [time[:16] + time[19:] for time in times]


def clock(moment_s: float, timezone: str) -> datetime:
    """Return what the clocks show at a moment."""
    return datetime.fromtimestamp(moment_s, _zone(timezone)).replace(tzinfo=None, fold=0)


_zone = cache(ZoneInfo)


def _offset_s(moment_s: float, zone: ZoneInfo) -> float:
    offset = datetime.fromtimestamp(moment_s, zone).utcoffset()
    assert offset is not None
    return offset.total_seconds()


@cache
def changes(timezone: str, first_year: int = 1985, last_year: int = 2037) -> tuple[float, ...]:
    """Return the moments at which the clocks of a zone are changed."""
    zone = ZoneInfo(timezone)
    found: list[float] = []
    start = datetime(first_year, 1, 1, tzinfo=UTC).timestamp()
    days = (date(last_year, 1, 1) - date(first_year, 1, 1)).days
    for low, high in pairwise(start + number * DAY_S for number in range(days)):
        before = _offset_s(low, zone)
        if before == _offset_s(high, zone):
            continue
        while high - low > 1:
            middle = (low + high) // 2
            if _offset_s(middle, zone) == before:
                low = middle
            else:
                high = middle
        found.append(high)
    return tuple(found)


def _minutes(start_s: float, end_s: float) -> Iterator[float]:
    """Yield the whole minutes after a moment and up to another."""
    first = int(start_s // MINUTE_S) + 1
    for number in range(first, int(end_s // MINUTE_S) + 1):
        yield number * MINUTE_S


def _numbers_of(field: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        if span == "*":
            numbers = range(low, high + 1)
        else:
            numbers = range(int(first), int(last or (high if step else first)) + 1)
        found.update(numbers[:: int(step or 1)])
    return found


class PlainCron:
    """What crontab(5) says of a local time, for expressions of numbers, `*`, `-`, `,` and `/`."""

    def __init__(self, cron: str) -> None:
        limits = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
        self.fields = cron.split()
        self.sets = [
            _numbers_of(field, *limit) for field, limit in zip(self.fields, limits, strict=True)
        ]
        self.is_wild = self.fields[0].startswith("*") or self.fields[1].startswith("*")

    def matches(self, local: datetime) -> bool:
        """Tell whether it is due at a local time."""
        minutes, hours, days, months, weekdays = self.sets
        day = local.day in days
        weekday = local.isoweekday() in weekdays or local.isoweekday() % 7 in weekdays
        is_both = self.fields[2].startswith("*") or self.fields[4].startswith("*")
        return (
            local.minute in minutes and local.hour in hours and local.month in months
            and (day and weekday if is_both else day or weekday)
        )  # fmt: skip


class Daily:
    """The local times of every so many days."""

    def __init__(self, days: int, at: str, first: date) -> None:
        self.days, self.at, self.first = days, at, first
        self.is_wild = False

    def matches(self, local: datetime) -> bool:
        """Tell whether it is due at a local time."""
        passed = (local.date() - self.first).days
        return f"{local:%H:%M}" == self.at and passed >= 0 and passed % self.days == 0


def plainly_due(given: Plan, start_s: float, end_s: float, anchor_s: float) -> list[float]:
    """Return when a plan is due after a moment and up to another."""
    if given.every.endswith("h"):
        length_s = int(given.every[:-1]) * HOUR_S
        number = max(0, int((start_s - anchor_s) / length_s) - 2)
        found: list[float] = []
        while anchor_s + number * length_s <= end_s:
            found.append(anchor_s + number * length_s)
            number += 1
        return [each for each in found if each > start_s]
    times: PlainCron | Daily
    if given.cron:
        times = PlainCron(given.cron)
    else:
        days = int(given.every[:-1]) * (7 if given.every.endswith("w") else 1)
        times = Daily(days, given.at, clock(anchor_s, given.timezone).date())
    found = []
    begin_s = start_s - 2 * DAY_S  # to know up to where the clocks have been
    reached = clock(begin_s, given.timezone).replace(second=0, microsecond=0)
    for each in _minutes(begin_s, end_s):
        local = clock(each, given.timezone)
        if times.is_wild:
            is_due = times.matches(local)
        else:
            is_due = False
            while reached < local:
                reached += _MINUTE
                is_due = is_due or times.matches(reached)
        if is_due:
            found.append(each)
    return [each for each in found if each > start_s and each >= anchor_s]


def plainly_open(window: str, now_s: float, timezone: str) -> bool:
    """Tell whether a window is open at a moment: by the last edge that the clocks passed."""
    opens, closes = [tuple(map(int, time.split(":"))) for time in window.split("-")]
    is_open = False
    begin_s = now_s - 2.5 * DAY_S  # the day that Samoa did not have, and that before
    reached = clock(begin_s, timezone).replace(second=0, microsecond=0)
    for each in _minutes(begin_s, now_s):
        local = clock(each, timezone)
        while reached < local:
            reached += _MINUTE
            time = (reached.hour, reached.minute)
            is_open = time == opens or (is_open and time != closes)
    return is_open
