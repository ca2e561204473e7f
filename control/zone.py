"""Moments, and what the clocks of a timezone show then.

Owns: what becomes of local times that a change of the clocks skips or repeats. Must not know plans,
or the time that it is. Pure, but for the zone files of the system, which `whenever` reads once and
keeps; safe in many threads.

A moment is a number of seconds since 1970 in UTC. A local time stands for the first moment at
which the clock has reached it: one that is skipped for the first moment after the gap, one that
comes twice for the first of both. So later local times never stand for earlier moments.
"""

from __future__ import annotations

from datetime import datetime
from difflib import get_close_matches
from typing import Literal

from whenever import (
    Instant,
    PlainDateTime,
    TimeZoneNotFoundError,
    ZonedDateTime,
    available_timezones,
)

from .errors import BadPlanError


def check_timezone(timezone: str) -> None:
    """Refuse what is no timezone by its full name.

    Raises:
        BadPlanError: there is none of that name.
    """
    full_name = local_time(0.0, timezone).tz_id
    if full_name != timezone:  # it was found in spite of its capitals
        raise BadPlanError(f"timezone is {timezone!r}; write {full_name}")


def local_time(moment_s: float, timezone: str) -> ZonedDateTime:
    """Return what the clocks show at a moment.

    Raises:
        BadPlanError: there is no such timezone.
    """
    try:
        # Its stub names a sentinel, which pyright can't take for a type yet; nor in _reading.
        return Instant.from_timestamp(moment_s).to_tz(timezone)  # pyright: ignore[reportUnknownMemberType]
    except TimeZoneNotFoundError:
        pass
    known = available_timezones()
    near = get_close_matches(timezone[:64], known, 1)
    advice = f"did you mean {near[0]}?" if near else "write UTC or Europe/Berlin"
    if not known:
        advice = "this computer knows no timezones at all: install the package tzdata"
    raise BadPlanError(f"timezone is {timezone[:64]!r}, which is not known; {advice}")


def first_moment(local: PlainDateTime | datetime, timezone: str) -> float:
    """Return the first moment at which the clocks have reached a local time."""
    plain = local if isinstance(local, PlainDateTime) else PlainDateTime(local)
    found = _reading(plain, timezone, "earlier")
    if found.to_plain() != plain:  # it is skipped: what was found is as long before the gap
        after_gap = found.next_transition()
        assert after_gap is not None
        found = after_gap
    return float(found.timestamp())


def real_moments(local: datetime, timezone: str) -> tuple[float, float] | None:
    """Return the first and the last moment at which the clocks show a time; None if they don't."""
    plain = PlainDateTime(local)
    first = _reading(plain, timezone, "earlier")
    if first.to_plain() != plain:
        return None
    return float(first.timestamp()), float(_reading(plain, timezone, "later").timestamp())


def _reading(
    plain: PlainDateTime, timezone: str, which: Literal["earlier", "later"]
) -> ZonedDateTime:
    return plain.assume_tz(timezone, disambiguation=which)  # pyright: ignore[reportUnknownMemberType]
