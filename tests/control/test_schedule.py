"""When plans are due: tables made by hand, where clocks change and years end."""

from __future__ import annotations

import time

import pytest
from tests.control.schedule_helpers import (
    APIA,
    BERLIN,
    DAY_S,
    HOUR_S,
    KOLKATA,
    LORD_HOWE,
    NEW_YORK,
    ST_JOHNS,
    moment,
    plan,
    shown,
)

from onggi.control.errors import BadPlanError
from onggi.control.plan import Plan
from onggi.control.plan_check import check_plan
from onggi.control.schedule import check_schedule, due_between, next_due


def times(
    given: Plan, start: str, number: int, anchor: str = "2011-01-01 00:00+00:00"
) -> list[str]:
    """Return the next times after a moment, which `next_due` and `due_between` must agree on."""
    after_s, found = moment(start), list[float]()
    for _ in range(number):
        due_s = next_due(given, after_s, moment(anchor))
        assert due_s is not None
        found.append(due_s)
        after_s = due_s
    assert due_between(given, moment(start), after_s, moment(anchor)) == found
    return shown(found, given.timezone)


@pytest.mark.parametrize(
    ("timezone", "at", "anchor", "expected"),
    [
        (BERLIN, "02:30", "2026-03-27 12:00+01:00",
         ["2026-03-28 02:30+01:00", "2026-03-29 03:00+02:00", "2026-03-30 02:30+02:00"]),
        (BERLIN, "02:30", "2026-10-23 12:00+02:00",
         ["2026-10-24 02:30+02:00", "2026-10-25 02:30+02:00", "2026-10-26 02:30+01:00"]),
        (BERLIN, "03:00", "2026-10-23 12:00+02:00",
         ["2026-10-24 03:00+02:00", "2026-10-25 03:00+01:00", "2026-10-26 03:00+01:00"]),
        (NEW_YORK, "02:00", "2026-03-06 12:00-05:00",
         ["2026-03-07 02:00-05:00", "2026-03-08 03:00-04:00", "2026-03-09 02:00-04:00"]),
        (NEW_YORK, "01:59", "2026-10-30 12:00-04:00",
         ["2026-10-31 01:59-04:00", "2026-11-01 01:59-04:00", "2026-11-02 01:59-05:00"]),
        (LORD_HOWE, "02:15", "2026-10-02 12:00+10:30",
         ["2026-10-03 02:15+10:30", "2026-10-04 02:30+11:00", "2026-10-05 02:15+11:00"]),
        (LORD_HOWE, "01:45", "2026-04-03 12:00+11:00",
         ["2026-04-04 01:45+11:00", "2026-04-05 01:45+11:00", "2026-04-06 01:45+10:30"]),
        (KOLKATA, "02:30", "2026-03-27 12:00+05:30",
         ["2026-03-28 02:30+05:30", "2026-03-29 02:30+05:30", "2026-03-30 02:30+05:30"]),
        # The day that Samoa did not have: its backup is due as the next one begins.
        (APIA, "02:30", "2011-12-28 12:00-10:00",
         ["2011-12-29 02:30-10:00", "2011-12-31 00:00+14:00", "2011-12-31 02:30+14:00"]),
        (APIA, "00:00", "2011-12-28 12:00-10:00",
         ["2011-12-29 00:00-10:00", "2011-12-31 00:00+14:00", "2012-01-01 00:00+14:00"]),
    ],
)  # fmt: skip
def test_every_day_is_due_once_a_day_where_clocks_change(
    timezone: str, at: str, anchor: str, expected: list[str]
) -> None:
    daily = plan(every="1d", at=at, timezone=timezone)
    assert times(daily, anchor, 3, anchor) == expected
    cron = plan(cron=f"{at[3:]} {at[:2]} * * *", timezone=timezone)
    assert times(cron, anchor, 3) == expected


@pytest.mark.parametrize(
    ("every", "at", "expected"),
    [
        ("3d", "02:30", ["2026-03-26 02:30+01:00", "2026-03-29 03:00+02:00",
                         "2026-04-01 02:30+02:00"]),
        ("2w", "23:00", ["2026-03-23 23:00+01:00", "2026-04-06 23:00+02:00",
                         "2026-04-20 23:00+02:00"]),
        ("6h", "00:00", ["2026-03-23 12:00+01:00", "2026-03-23 18:00+01:00",
                         "2026-03-24 00:00+01:00"]),
    ],
)  # fmt: skip
def test_every_counts_from_the_day_when_the_plan_was_made(
    every: str, at: str, expected: list[str]
) -> None:
    given = plan(every=every, at=at, timezone=BERLIN)
    anchor = "2026-03-23 12:00+01:00"
    assert times(given, "2026-03-23 11:59+01:00", 3, anchor) == expected
    assert times(given, "2020-01-01 00:00+00:00", 3, anchor) == expected
    assert times(given, expected[0], 2, anchor) == expected[1:]


def test_days_are_counted_in_the_zone_of_the_plan() -> None:
    anchor = "2026-06-01 23:30+00:00"  # June 2 in Berlin already
    given = plan(every="2d", at="06:00", timezone=BERLIN)
    assert times(given, anchor, 2, anchor) == ["2026-06-02 06:00+02:00", "2026-06-04 06:00+02:00"]


def test_a_day_that_has_begun_and_is_taken_back_is_not_due_again() -> None:
    # At one minute past midnight it was 23:01 of the day before once more.
    given, anchor = plan(every="1d", timezone=ST_JOHNS), "2010-11-01 12:00-02:30"
    expected = ["2010-11-07 00:00-02:30", "2010-11-08 00:00-03:30"]
    assert times(given, "2010-11-06 12:00-02:30", 2, anchor) == expected
    again_s = moment("2010-11-06 23:30-03:30")
    assert next_due(given, again_s, moment(anchor)) == moment(expected[1])
    found = due_between(given, moment("2010-11-06 12:00-02:30"), again_s, moment(anchor))
    assert shown(found, ST_JOHNS) == expected[:1]


def test_hours_are_those_that_pass() -> None:
    given = plan(every="6h", timezone=BERLIN)
    assert times(given, "2026-03-28 21:00+00:00", 3, "2026-03-01 00:00+00:00") == [
        "2026-03-29 01:00+01:00", "2026-03-29 08:00+02:00", "2026-03-29 14:00+02:00",
    ]  # fmt: skip
    assert times(given, "2026-10-24 21:00+00:00", 2, "2026-03-01 00:00+00:00") == [
        "2026-10-25 02:00+02:00", "2026-10-25 07:00+01:00",
    ]  # fmt: skip


# From 2**31 on, in 2038, numbers are coarser: what is added to the second one is rounded.
@pytest.mark.parametrize("anchor_s", [1_764_000_000.123456, 2_147_480_000.0000002])
def test_hours_count_on_from_an_anchor_that_is_no_whole_second(anchor_s: float) -> None:
    given = plan(every="7h")
    due_s = anchor_s
    for number in range(1, 2000):
        following_s = next_due(given, due_s, anchor_s)
        assert following_s == anchor_s + number * 7 * HOUR_S
        assert due_between(given, due_s, following_s, anchor_s) == [following_s]
        due_s = following_s


@pytest.mark.parametrize("fields", [{"every": "6h"}, {"every": "1d"}, {"cron": "*/5 * * * *"}])
def test_nothing_is_due_before_the_plan_was_made(fields: dict[str, str]) -> None:
    given, anchor_s = plan(**fields), moment("2030-01-01 12:00+00:00")
    due_s = next_due(given, moment("2026-01-01 00:00+00:00"), anchor_s)
    assert due_s is not None
    assert anchor_s <= due_s <= anchor_s + DAY_S
    assert due_between(given, 0.0, anchor_s - 1, anchor_s) == []
    assert due_between(given, 0.0, due_s, anchor_s) == [due_s]


def test_a_plan_that_is_made_at_its_time_is_due_at_once() -> None:
    anchor_s = moment("2026-06-01 06:00+02:00")
    given = plan(every="1d", at="06:00", timezone=BERLIN)
    assert next_due(given, anchor_s - 1, anchor_s) == anchor_s
    assert next_due(given, anchor_s, anchor_s) == anchor_s + DAY_S


@pytest.mark.parametrize(
    ("cron", "start", "expected"),
    [
        ("0 0 29 2 *", "2026-01-01 00:00+00:00",
         ["2028-02-29 00:00+00:00", "2032-02-29 00:00+00:00", "2036-02-29 00:00+00:00"]),
        ("0 0 29 2 *", "2096-03-01 00:00+00:00",  # 2100 is no leap year
         ["2104-02-29 00:00+00:00", "2108-02-29 00:00+00:00"]),
        ("59 23 31 12 *", "2026-01-01 00:00+00:00",
         ["2026-12-31 23:59+00:00", "2027-12-31 23:59+00:00"]),
        ("*/20 23-23 31 12 *", "2026-12-31 23:39+00:00",
         ["2026-12-31 23:40+00:00", "2027-12-31 23:00+00:00"]),
        ("0 0 31 * *", "2026-01-31 00:00+00:00",
         ["2026-03-31 00:00+00:00", "2026-05-31 00:00+00:00"]),
        ("30 2 * * 1-5", "2026-11-20 03:00+00:00",
         ["2026-11-23 02:30+00:00", "2026-11-24 02:30+00:00"]),
        ("0 4 1 * 0", "2026-11-20 00:00+00:00",  # a day of both, as crontab(5) has it
         ["2026-11-22 04:00+00:00", "2026-11-29 04:00+00:00", "2026-12-01 04:00+00:00"]),
        ("0 4 */2 * 7", "2026-11-20 00:00+00:00",  # a star: only Sundays that are odd days
         ["2026-11-29 04:00+00:00", "2026-12-13 04:00+00:00"]),
        ("15 1 1 JAN,jul *", "2026-11-20 00:00+00:00",
         ["2027-01-01 01:15+00:00", "2027-07-01 01:15+00:00"]),
    ],
)  # fmt: skip
def test_cron_means_what_crontab_says(cron: str, start: str, expected: list[str]) -> None:
    assert times(plan(cron=cron), start, len(expected)) == expected


@pytest.mark.parametrize(
    ("timezone", "cron", "start", "expected"),
    [
        # Hours without a star: what is skipped is due once, when the clocks go on ...
        (BERLIN, "0,20,40 1-3 * * *", "2026-03-29 01:30+01:00",
         ["01:40+01:00", "03:00+02:00", "03:20+02:00", "03:40+02:00"]),
        (LORD_HOWE, "10,20,40 2 * * *", "2026-10-04 00:00+10:30", ["02:30+11:00", "02:40+11:00"]),
        # ... and what comes twice is due the first time.
        (BERLIN, "0,30 2,3 * * *", "2026-10-25 00:00+02:00",
         ["02:00+02:00", "02:30+02:00", "03:00+01:00", "03:30+01:00"]),
        (BERLIN, "0,30 2,3 * * *", "2026-10-25 02:15+01:00", ["03:00+01:00", "03:30+01:00"]),
        (NEW_YORK, "0,30 1,2 * * *", "2026-11-01 01:15-04:00",
         ["01:30-04:00", "02:00-05:00", "02:30-05:00"]),
        (LORD_HOWE, "0,45 1,2 * * *", "2026-04-05 00:00+11:00",
         ["01:00+11:00", "01:45+11:00", "02:00+10:30", "02:45+10:30"]),
        # With a star: whenever the clocks show it.
        (BERLIN, "*/30 * * * *", "2026-03-29 01:15+01:00",
         ["01:30+01:00", "03:00+02:00", "03:30+02:00"]),
        (BERLIN, "*/30 * * * *", "2026-10-25 02:15+02:00",
         ["02:30+02:00", "02:00+01:00", "02:30+01:00", "03:00+01:00"]),
        (BERLIN, "*/30 * * * *", "2026-10-25 02:15+01:00", ["02:30+01:00", "03:00+01:00"]),
        (BERLIN, "30 */2 * * *", "2026-10-25 01:00+02:00",
         ["02:30+02:00", "02:30+01:00", "04:30+01:00"]),
        (BERLIN, "30 */2 * * *", "2026-03-29 00:00+01:00", ["00:30+01:00", "04:30+02:00"]),
        (LORD_HOWE, "*/10 1 * * *", "2026-04-05 01:45+11:00",
         ["01:50+11:00", "01:30+10:30", "01:40+10:30", "01:50+10:30"]),
        (LORD_HOWE, "*/10 2 * * *", "2026-04-05 00:00+11:00",
         ["02:00+10:30", "02:10+10:30", "02:20+10:30", "02:30+10:30"]),
        (LORD_HOWE, "*/20 3 * * *", "2026-10-04 00:00+10:30",
         ["03:00+11:00", "03:20+11:00", "03:40+11:00"]),
        ("Asia/Beirut", "*/30 0,1 * * *", "2026-03-28 12:00+02:00", ["01:00+03:00", "01:30+03:00"]),
    ],
)  # fmt: skip
def test_cron_where_clocks_change(
    timezone: str, cron: str, start: str, expected: list[str]
) -> None:
    found = times(plan(cron=cron, timezone=timezone), start, len(expected))
    assert [each.split()[1] for each in found] == expected
    day = start[:10] if timezone != "Asia/Beirut" else "2026-03-29"
    assert {each.split()[0] for each in found} == {day}


def test_a_plan_without_a_schedule_is_never_due() -> None:
    assert next_due(plan(), 0.0, 0.0) is None
    assert due_between(plan(), 0.0, 1e9, 0.0) == []


def test_the_start_is_not_included_and_the_end_is() -> None:
    given, anchor_s = plan(every="1d", at="06:00"), moment("2026-06-01 00:00+00:00")
    first_s, third_s = moment("2026-06-01 06:00+00:00"), moment("2026-06-03 06:00+00:00")
    assert due_between(given, first_s, third_s, anchor_s) == [third_s - DAY_S, third_s]
    assert due_between(given, first_s, third_s - 0.001, anchor_s) == [third_s - DAY_S]
    assert due_between(given, first_s - 0.001, first_s, anchor_s) == [first_s]
    assert due_between(given, third_s, third_s, anchor_s) == []
    assert due_between(given, third_s, first_s, anchor_s) == []


@pytest.mark.parametrize(
    "fields",
    [{"every": "1h"}, {"every": "1d"}, {"cron": "* * * * *"}, {"cron": "0-59 0-23 * * *"}],
)
def test_after_an_outage_of_a_lifetime_only_the_last_times_are_looked_at(
    fields: dict[str, str],
) -> None:
    given = plan(timezone=BERLIN, **fields)
    end_s = moment("2070-06-01 12:00+00:00")
    began_s = time.perf_counter()
    found = due_between(given, 0.0, end_s, 0.0, most=1000)
    # One after the other from 1970 on, the 52 million times of the last two would take an hour.
    assert time.perf_counter() - began_s < 2
    assert len(found) == 1000
    assert found == due_between(given, found[0] - 1, end_s, 0.0, most=5000)
    assert next_due(given, found[-1], 0.0) == found[-1] + (found[-1] - found[-2])


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("@daily", "five fields"),
        ("0 30 2 * * *", "five fields"),
        ("* * * *", "five fields"),
        ("60 2 * * *", "bad minute"),
        ("0 24 * * *", "bad hour"),
        ("0 2 0 * *", "bad day-of-month"),
        ("0 2 * 13 *", "bad month"),
        ("0 2 * * 8", "bad day-of-week"),
        ("0 2 * * MOON", "bad day-of-week"),
        ("*/0 2 * * *", "bad minute"),
        ("5-1 2 * * *", "bad minute"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("0 0 */15 * MON#2", "never due"),
        (f"{'9' * 5000} 2 * * *", "bad number"),
    ],
)
def test_a_cron_expression_that_means_nothing_is_refused_in_one_line(cron: str, said: str) -> None:
    with pytest.raises(BadPlanError) as caught:
        check_schedule(plan(cron=cron))
    assert said in str(caught.value)
    assert str(caught.value).startswith("plan p: cron is '")
    assert len(str(caught.value)) < 250


def test_a_timezone_that_is_not_known_is_refused_with_the_name_of_the_plan() -> None:
    with pytest.raises(
        BadPlanError, match=r"^plan p: timezone is 'Europe/Berln', .* Europe/Berlin"
    ):
        check_schedule(plan(timezone="Europe/Berln"))


@pytest.mark.parametrize(
    "cron", ["30 2 * * 1-5", "*/5 * * * *", "0 0 29 2 *", "0 0 L * *", "0 0 LW * *", "0 3 * * 5#2",
             "0 3 * * 5L", "0 22 * JAN-MAR mon,THU"],
)  # fmt: skip
def test_cron_expressions_that_mean_something_are_taken(cron: str) -> None:
    check_schedule(check_plan(plan(cron=cron, timezone=BERLIN)))
    assert next_due(plan(cron=cron, timezone=BERLIN), 1.7e9, 0.0) is not None
