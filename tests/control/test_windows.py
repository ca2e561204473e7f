"""When windows of plans are open: tables made by hand, where clocks change."""

from __future__ import annotations

import pytest
from tests.control.schedule_helpers import (
    APIA,
    BERLIN,
    KOLKATA,
    LORD_HOWE,
    NEW_YORK,
    ST_JOHNS,
    moment,
    plan,
    shown,
)

from onggi.control.schedule import in_window, window_closes, window_opens


def test_without_a_window_it_is_always_open() -> None:
    assert in_window(plan(), 1e9)
    assert window_opens(plan(), 1e9) == 1e9
    assert window_closes(plan(), 1e9) is None


@pytest.mark.parametrize(
    ("now", "opens", "closes"),
    [
        ("2026-06-01 08:59", "2026-06-01 09:00", "2026-06-01 17:30"),
        ("2026-06-01 09:00", "2026-06-01 09:00", "2026-06-01 17:30"),
        ("2026-06-01 17:29", "2026-06-01 17:29", "2026-06-01 17:30"),
        ("2026-06-01 17:30", "2026-06-02 09:00", "2026-06-02 17:30"),
        ("2026-12-31 23:59", "2027-01-01 09:00", "2027-01-01 17:30"),
    ],
)
def test_a_window_of_the_day(now: str, opens: str, closes: str) -> None:
    given, now_s = plan(window="09:00-17:30"), moment(now + "+00:00")
    assert window_opens(given, now_s) == moment(opens + "+00:00")
    assert window_closes(given, now_s) == moment(closes + "+00:00")
    assert in_window(given, now_s) == (now == opens)


@pytest.mark.parametrize(
    ("timezone", "now", "opens", "closes"),
    [
        # Over the nights when clocks change: seven hours, or nine.
        (BERLIN, "2026-03-28 12:00+01:00", "2026-03-28 22:00+01:00", "2026-03-29 06:00+02:00"),
        (BERLIN, "2026-03-29 05:59+02:00", "2026-03-29 05:59+02:00", "2026-03-29 06:00+02:00"),
        (BERLIN, "2026-10-25 02:30+01:00", "2026-10-25 02:30+01:00", "2026-10-25 06:00+01:00"),
        (BERLIN, "2026-10-24 12:00+02:00", "2026-10-24 22:00+02:00", "2026-10-25 06:00+01:00"),
        (NEW_YORK, "2026-03-08 01:59-05:00", "2026-03-08 01:59-05:00", "2026-03-08 06:00-04:00"),
        (NEW_YORK, "2026-11-01 06:00-05:00", "2026-11-01 22:00-05:00", "2026-11-02 06:00-05:00"),
        (LORD_HOWE, "2026-10-03 21:59+10:30", "2026-10-03 22:00+10:30", "2026-10-04 06:00+11:00"),
        (KOLKATA, "2026-12-31 23:59+05:30", "2026-12-31 23:59+05:30", "2027-01-01 06:00+05:30"),
        # Without December 30, two nights stand side by side.
        (APIA, "2011-12-29 22:00-10:00", "2011-12-29 22:00-10:00", "2011-12-31 06:00+14:00"),
        (APIA, "2011-12-31 00:00+14:00", "2011-12-31 00:00+14:00", "2011-12-31 06:00+14:00"),
    ],
)
def test_a_window_of_the_night(timezone: str, now: str, opens: str, closes: str) -> None:
    given, now_s = plan(window="22:00-06:00", timezone=timezone), moment(now)
    assert shown([window_opens(given, now_s), window_closes(given, now_s) or 0.0], timezone) == [
        opens, closes,
    ]  # fmt: skip
    assert in_window(given, now_s) == (now == opens)


@pytest.mark.parametrize(
    ("timezone", "window", "now", "opens", "closes"),
    [
        # An edge that is skipped is where the clocks go on.
        (BERLIN, "02:30-05:00", "2026-03-29 01:59+01:00", "03:00+02:00", "05:00+02:00"),
        (BERLIN, "01:00-02:30", "2026-03-29 01:59+01:00", "01:59+01:00", "03:00+02:00"),
        (LORD_HOWE, "02:15-05:00", "2026-10-04 01:59+10:30", "02:30+11:00", "05:00+11:00"),
        # An edge that comes twice is there the first time, and what is between is open or closed.
        (BERLIN, "02:30-05:00", "2026-10-25 02:00+02:00", "02:30+02:00", "05:00+01:00"),
        (BERLIN, "02:30-05:00", "2026-10-25 02:00+01:00", "02:00+01:00", "05:00+01:00"),
        (BERLIN, "01:00-02:30", "2026-10-25 02:29+02:00", "02:29+02:00", "02:30+02:00"),
        (NEW_YORK, "00:30-01:30", "2026-11-01 00:00-04:00", "00:30-04:00", "01:30-04:00"),
        (LORD_HOWE, "01:40-04:00", "2026-04-05 01:35+10:30", "01:35+10:30", "04:00+10:30"),
        (ST_JOHNS, "00:00-06:00", "2010-11-06 23:30-03:30", "23:30-03:30", "06:00-03:30"),
        # Both edges come twice: it is open once, for as long as it is.
        (BERLIN, "02:10-02:50", "2026-10-25 02:00+02:00", "02:10+02:00", "02:50+02:00"),
    ],
)
def test_a_window_with_an_edge_where_clocks_change(
    timezone: str, window: str, now: str, opens: str, closes: str
) -> None:
    given, now_s = plan(window=window, timezone=timezone), moment(now)
    found = shown([window_opens(given, now_s), window_closes(given, now_s) or 0.0], timezone)
    assert [each[11:] for each in found] == [opens, closes]
    assert in_window(given, now_s) == (now[11:] == opens)


@pytest.mark.parametrize(
    ("window", "now", "opens"),
    [
        ("01:00-02:30", "2026-10-25 02:00+01:00", "2026-10-26 01:00+01:00"),  # is not open again
        ("02:10-02:50", "2026-10-25 02:20+01:00", "2026-10-26 02:10+01:00"),
        ("02:10-02:50", "2026-03-28 12:00+01:00", "2026-03-30 02:10+02:00"),  # the gap swallows it
    ],
)
def test_a_window_that_does_not_open_again_that_day(window: str, now: str, opens: str) -> None:
    given, now_s = plan(window=window, timezone=BERLIN), moment(now)
    assert shown([window_opens(given, now_s)], BERLIN) == [opens]


def test_windows_with_nothing_but_a_gap_between_them_are_one() -> None:
    given = plan(window="03:00-02:30", timezone=BERLIN)
    now_s = moment("2026-03-28 12:00+01:00")
    assert shown([window_closes(given, now_s) or 0.0], BERLIN) == ["2026-03-30 02:30+02:00"]
    assert in_window(given, moment("2026-03-29 03:00+02:00"))
