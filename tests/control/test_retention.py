"""Which archives are kept: tables made by hand, what restic and borg say, and properties."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.control.schedule_helpers import APIA, BERLIN, DAY_S, LORD_HOWE, ZONES, moment, shown

from onggi.control.errors import BadPlanError
from onggi.control.plan import Keep
from onggi.control.retention import Decision, Kept, decide


def archives(times: Sequence[str], *, verified: str = "", damaged: str = "") -> list[Kept]:
    """Return archives by the times when they were made, UTC if they don't say."""
    return [
        Kept(time, moment(time if "+" in time else f"{time}+00:00"), time == verified,
             time not in damaged.split(", "))
        for time in times
    ]  # fmt: skip


def days(first: str, last: str) -> list[str]:
    """Return noon of each day from one to another."""
    day, end = datetime.fromisoformat(first), datetime.fromisoformat(last)
    found: list[str] = []
    while day <= end:
        found.append(f"{day:%Y-%m-%d} 12:00")
        day += timedelta(days=1)
    return found


def kept(given: Sequence[Kept], keep: Keep, timezone: str = "UTC") -> list[str]:
    """Return the paths of those that are kept, the newest first."""
    return [each.archive.path for each in decide(given, keep, timezone) if each.rules]


def rules(given: Sequence[Kept], keep: Keep, timezone: str = "UTC") -> dict[str, tuple[str, ...]]:
    """Return the rules that keep each archive."""
    return {each.archive.path: each.rules for each in decide(given, keep, timezone)}


def test_without_rules_all_are_kept() -> None:
    given = archives(days("2026-01-01", "2026-03-01"))
    assert {each.rules for each in decide(given, Keep(), "UTC")} == {("all",)}


def test_without_archives_there_is_nothing_to_decide() -> None:
    assert decide([], Keep(last=1, daily=1, within_days=1), "UTC") == []


def test_each_rule_that_keeps_an_archive_is_told() -> None:
    given = archives(
        ["2026-11-22 08:00", "2026-11-23 08:00", "2026-11-24 08:00", "2026-11-24 15:30"],
        verified="2026-11-23 08:00",
    )
    keep = Keep(last=2, hourly=1, daily=2, weekly=1, monthly=1, yearly=1, within_days=1)
    assert rules(given, keep) == {
        "2026-11-24 15:30": (
            "last 1", "hourly 2026-11-24 15:00", "daily 2026-11-24", "weekly 2026-W48",
            "monthly 2026-11", "yearly 2026", "within 1 days", "the newest",
        ),
        "2026-11-24 08:00": ("last 2", "within 1 days"),
        "2026-11-23 08:00": ("daily 2026-11-23", "the last verified"),
        "2026-11-22 08:00": (),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (Keep(last=1), ["03-02 09:00"]),
        (Keep(last=3), ["03-02 09:00", "03-02 08:30", "03-02 08:00"]),
        (Keep(hourly=2), ["03-02 09:00", "03-02 08:30"]),
        (Keep(hourly=3), ["03-02 09:00", "03-02 08:30", "03-01 20:00"]),
        (Keep(daily=2), ["03-02 09:00", "03-01 20:00"]),
        (Keep(daily=3), ["03-02 09:00", "03-01 20:00", "02-27 10:00"]),  # 02-28 has none
        (Keep(weekly=2), ["03-02 09:00", "03-01 20:00"]),  # March 2 is a Monday
        (Keep(monthly=2), ["03-02 09:00", "02-27 10:00"]),
        (Keep(within_days=2), ["03-02 09:00", "03-02 08:30", "03-02 08:00", "03-01 20:00",
                               "02-28 09:00"]),
        (Keep(last=1, monthly=2), ["03-02 09:00", "02-27 10:00"]),  # counts for both
        # More periods than there are: the oldest is kept too.
        (Keep(yearly=2), ["03-02 09:00", "01-05 10:00"]),
        (Keep(yearly=1), ["03-02 09:00"]),
    ],
)  # fmt: skip
def test_the_newest_of_each_period_is_kept(keep: Keep, expected: list[str]) -> None:
    times = [
        "03-02 09:00", "03-02 08:30", "03-02 08:00", "03-01 20:00", "02-27 10:00", "02-26 10:00",
        "01-05 10:00",
    ]  # fmt: skip
    if keep.within_days:
        times[4:4] = ["02-28 09:00", "02-28 08:59"]
    given = archives([f"2026-{time}" for time in times])
    assert kept(given, keep) == [f"2026-{time}" for time in expected]
    assert kept(given[::-1], keep) == [f"2026-{time}" for time in expected]


def test_restics_example_of_backups_on_sundays_alone() -> None:
    sundays = ["2026-09-06", "2026-09-13", "2026-09-20", "2026-09-27", "2026-10-04", "2026-10-11"]
    given = archives([f"{day} 11:00" for day in sundays])
    # Days without an archive do not count; and neither weeks nor days ask for more than there are.
    assert kept(given, Keep(daily=4)) == [f"{day} 11:00" for day in sundays[:1:-1]]
    assert kept(given, Keep(weekly=4)) == kept(given, Keep(daily=4))
    assert kept(given, Keep(daily=7)) == [f"{day} 11:00" for day in sundays[::-1]]


def test_restics_example_of_a_hundred_years_of_days() -> None:
    given = archives(days("1927-01-01", "2026-11-22"))
    found = rules(given, Keep(daily=7, weekly=5, monthly=12, yearly=75))
    stay = [path for path, why in found.items() if why]
    # Seven days; four Sundays more, as one is among the days; the ends of eleven months, this one
    # being kept as a day; and of 74 years, as this year's is too.
    assert stay[:7] == days("2026-11-16", "2026-11-22")[::-1]
    sundays = ["2026-11-15", "2026-11-08", "2026-11-01", "2026-10-25"]
    months = ["2026-10-31", "2026-09-30", "2026-08-31", "2026-07-31", "2026-06-30", "2026-05-31",
              "2026-04-30", "2026-03-31", "2026-02-28", "2026-01-31", "2025-12-31"]  # fmt: skip
    years = [f"{year}-12-31" for year in range(2024, 1951, -1)]
    assert len(years) == 73  # and that of 2025 is the end of a month
    expected = sorted([*sundays, *months, *years], reverse=True)
    assert stay[7:] == [f"{day} 12:00" for day in expected]


def test_borgs_example_of_two_weeks_half_a_year_and_a_year() -> None:
    given = archives(days("2015-01-01", "2016-01-01"))
    # With borg months count where no day is kept already: 14 days, 6 months and a year keep these.
    # Here December and January are months, and 2016 and 2015 years, like any other.
    fourteen_days = days("2015-12-19", "2016-01-01")[::-1]
    months = ["2015-11-30", "2015-10-31", "2015-09-30", "2015-08-31", "2015-07-31", "2015-06-30"]
    borgs = [*fourteen_days, *(f"{day} 12:00" for day in months)]
    assert kept(given, Keep(daily=14, monthly=8, yearly=2)) == borgs
    assert kept(given, Keep(daily=14, monthly=6, yearly=1)) == borgs[:-2]
    # The first archive stays while there is no third year.
    assert kept(given, Keep(daily=14, monthly=8, yearly=3)) == [*borgs, "2015-01-01 12:00"]


def test_a_history_that_is_not_full_yet_keeps_its_oldest_archive_until_it_is() -> None:
    for last, expected in (
        ("2026-05-20", ["2026-05-20", "2026-04-30", "2026-04-10"]),
        ("2026-06-20", ["2026-06-20", "2026-05-31", "2026-04-30"]),
    ):
        given = archives(days("2026-04-10", last))
        assert kept(given, Keep(monthly=3)) == [f"{day} 12:00" for day in expected]
        why = rules(given, Keep(monthly=3))[given[0].path]
        assert why == (("monthly, the oldest",) if expected[-1] == "2026-04-10" else ())


@pytest.mark.parametrize(
    ("timezone", "rule", "expected"),
    [
        # 22:30 in UTC is another day, month and year in Berlin.
        (BERLIN, "daily", ["2027-01-01", "2026-12-31"]),
        (BERLIN, "monthly", ["2027-01", "2026-12"]),
        (BERLIN, "yearly", ["2027", "2026"]),
        (BERLIN, "weekly", ["2026-W53"]),
        ("UTC", "daily", ["2026-12-31"]),
        ("UTC", "yearly", ["2026"]),
    ],
)
def test_periods_are_those_of_the_zone_of_the_plan(
    timezone: str, rule: str, expected: list[str]
) -> None:
    given = archives(["2026-12-31 22:30", "2026-12-31 23:30"])
    found = [
        each
        for why in rules(given, Keep(**{rule: 5}), timezone).values()
        for each in why
        if each.startswith(f"{rule} ")
    ]
    assert found == [f"{rule} {period}" for period in expected]


def test_weeks_are_those_of_iso_8601() -> None:
    given = archives(
        ["2026-12-27 12:00", "2026-12-28 12:00", "2027-01-03 12:00", "2027-01-04 12:00"]
    )
    assert [why[0] for why in rules(given, Keep(weekly=3)).values() if why] == [
        "weekly 2027-W01", "weekly 2026-W53", "weekly 2026-W52",
    ]  # fmt: skip


def test_an_hour_that_comes_twice_is_one_hour() -> None:
    given = archives(["2026-10-25 01:30+02:00", "2026-10-25 02:30+02:00", "2026-10-25 02:30+01:00"])
    assert kept(given, Keep(hourly=2), BERLIN) == [
        "2026-10-25 02:30+01:00",
        "2026-10-25 01:30+02:00",
    ]
    half = archives(["2026-04-05 01:45+11:00", "2026-04-05 01:45+10:30"])
    assert kept(half, Keep(hourly=1), LORD_HOWE) == ["2026-04-05 01:45+10:30"]


@pytest.mark.parametrize(
    ("timezone", "newest", "within_days", "edge"),
    [
        (BERLIN, "2026-03-29 12:00+02:00", 1, "2026-03-28 12:00+01:00"),  # 23 hours
        (BERLIN, "2026-10-25 12:00+01:00", 1, "2026-10-24 12:00+02:00"),  # 25 hours
        (BERLIN, "2026-03-30 02:30+02:00", 1, "2026-03-29 03:00+02:00"),
        (BERLIN, "2026-10-26 02:30+01:00", 1, "2026-10-25 02:30+02:00"),
        (APIA, "2012-01-01 10:00+14:00", 2, "2011-12-31 00:00+14:00"),
        ("UTC", "2028-03-01 00:00+00:00", 366, "2027-03-01 00:00+00:00"),
        ("UTC", "2026-11-24 00:00+00:00", 100_000, "1753-02-08 00:00+00:00"),
    ],
)
def test_days_within_are_those_of_the_calendar(
    timezone: str, newest: str, within_days: int, edge: str
) -> None:
    edge_s = moment(edge)
    given = [
        Kept("newest", moment(newest), False),
        Kept("just", edge_s, False),
        Kept("not", edge_s - 1, False),
    ]
    assert kept(given, Keep(within_days=within_days), timezone) == ["newest", "just"]


def test_days_within_count_from_the_newest_so_that_nothing_goes_while_nothing_new_is_made() -> None:
    given = archives(days("2001-01-01", "2001-01-10"))
    assert kept(given, Keep(within_days=2)) == days("2001-01-08", "2001-01-10")[::-1]


def test_the_last_verified_archive_stays_however_old_it_is() -> None:
    given = archives(days("2026-01-01", "2026-03-01"), verified="2026-01-02 12:00")
    assert kept(given, Keep(last=1)) == ["2026-03-01 12:00", "2026-01-02 12:00"]
    newer = [replace(each, is_verified=each.path < "2026-02-02") for each in given]
    assert kept(newer, Keep(last=1)) == ["2026-03-01 12:00", "2026-02-01 12:00"]


def test_a_damaged_archive_takes_no_place_of_a_whole_one() -> None:
    given = archives(days("2026-01-01", "2026-01-05"), damaged="2026-01-04 12:00")
    assert kept(given, Keep(last=2)) == [
        "2026-01-05 12:00", "2026-01-04 12:00", "2026-01-03 12:00",
    ]  # fmt: skip
    assert rules(given, Keep(last=2))["2026-01-04 12:00"] == ("last, damaged",)
    assert rules(given, Keep(daily=2))["2026-01-04 12:00"] == ("daily 2026-01-04, damaged",)
    assert kept(given, Keep(daily=1)) == ["2026-01-05 12:00"]


def test_a_damaged_archive_goes_where_a_newer_whole_one_stands_for_its_period() -> None:
    times = ["2026-01-01 06:00", "2026-01-01 07:00", "2026-01-01 08:00", "2026-01-01 09:00"]
    keep = Keep(daily=9)
    assert kept(archives(times, damaged=times[2]), keep) == [times[3], times[0]]
    # The whole one before it is kept beside it.
    damaged = archives(times, damaged=times[3])
    assert kept(damaged, keep) == [times[3], times[2], times[0]]
    # Of several, the newest says enough.
    assert kept(archives(times, damaged=f"{times[3]}, {times[2]}"), keep) == [
        times[3], times[1], times[0],
    ]  # fmt: skip


def test_the_oldest_that_is_kept_is_the_oldest_whole_one() -> None:
    times = days("2026-01-01", "2026-01-09")
    given = archives(times, damaged=f"{times[0]}, {times[1]}")
    assert kept(given, Keep(yearly=2)) == [times[-1], times[2]]


def test_while_all_are_damaged_the_newest_of_each_period_stays() -> None:
    times = days("2026-01-01", "2026-01-20")
    assert kept(archives(times, damaged=", ".join(times)), Keep(daily=2)) == times[::-1]


def test_what_was_verified_and_is_damaged_now_is_not_the_last_verified() -> None:
    given = archives(days("2026-01-01", "2026-01-09"), damaged="2026-01-09 12:00")
    given = [
        replace(each, is_verified=each.path in (given[0].path, given[8].path)) for each in given
    ]
    assert rules(given, Keep(yearly=1)) | dict.fromkeys(days("2026-01-02", "2026-01-07"), ()) == {
        "2026-01-09 12:00": ("yearly 2026, damaged", "the newest"),
        "2026-01-08 12:00": ("yearly 2026", "the newest whole one"),
        **dict.fromkeys(days("2026-01-02", "2026-01-07"), ()),
        "2026-01-01 12:00": ("the last verified",),
    }


def test_archives_of_the_same_moment_have_a_fixed_order() -> None:
    given = [Kept(name, 1e9, False) for name in "cab"]
    assert [each.archive.path for each in decide(given, Keep(last=1), "UTC")] == ["c", "b", "a"]
    assert kept(given, Keep(last=1)) == ["c"]


def test_a_timezone_that_is_not_known_is_a_bad_plan() -> None:
    with pytest.raises(BadPlanError, match="Atlantis"):
        decide(archives(["2026-01-01 00:00"]), Keep(daily=1), "Europe/Atlantis")


# --- properties -------------------------------------------------------------------------------

_START_S = datetime(2025, 9, 1, tzinfo=UTC).timestamp()
_COUNTS = st.integers(0, 5) | st.just(0)
_KEEPS = st.builds(Keep, *[_COUNTS] * 6, st.sampled_from([0, 0, 1, 3, 30, 400]))
_GAPS_S = st.sampled_from(
    [0.0, 600.0, 3600.0, 7200.0, DAY_S, DAY_S, 3 * DAY_S, 20 * DAY_S, 200 * DAY_S]
)


@st.composite
def _archives(draw: st.DrawFn) -> list[Kept]:
    made_s, found = _START_S, list[Kept]()
    are_whole = st.booleans() if draw(st.booleans()) else st.just(True)
    for number, gap_s in enumerate(draw(st.lists(_GAPS_S, max_size=30))):
        made_s += gap_s
        found.append(Kept(f"{number:02}", made_s, draw(st.integers(0, 5)) == 0, draw(are_whole)))
    return draw(st.permutations(found))


_ZONES = st.sampled_from(ZONES)


def _stay(decisions: Sequence[Decision]) -> set[Kept]:
    return {each.archive for each in decisions if each.rules}


@settings(max_examples=300, deadline=None)
@given(_archives(), _KEEPS, _ZONES)
def test_the_newest_and_the_last_verified_are_never_removed(
    given: list[Kept], keep: Keep, timezone: str
) -> None:
    decisions = decide(given, keep, timezone)
    by_age = sorted(given, key=lambda each: (each.made_s, each.path))
    assert [each.archive for each in decisions] == by_age[::-1]
    stay = _stay(decisions)
    assert stay.issuperset(by_age[-1:])
    assert stay.issuperset([each for each in by_age if each.is_whole][-1:])
    assert stay.issuperset([each for each in by_age if each.is_whole and each.is_verified][-1:])


@settings(max_examples=300, deadline=None)
@given(_archives(), _KEEPS, _ZONES, st.sampled_from(sorted(asdict(Keep()))), st.integers(1, 9))
def test_another_rule_or_a_larger_one_removes_no_more(
    given: list[Kept], keep: Keep, timezone: str, rule: str, more: int
) -> None:
    assume(not keep.keeps_all)
    wider = replace(keep, **{rule: getattr(keep, rule) + more})
    assert _stay(decide(given, keep, timezone)) <= _stay(decide(given, wider, timezone))


@settings(max_examples=300, deadline=None)
@given(_archives(), _KEEPS, _ZONES)
def test_what_is_kept_is_kept_again_by_the_same_rules(
    given: list[Kept], keep: Keep, timezone: str
) -> None:
    first = [each for each in decide(given, keep, timezone) if each.rules]
    assert decide([each.archive for each in first], keep, timezone) == first


@settings(max_examples=300, deadline=None)
@given(_archives(), _KEEPS, _ZONES)
def test_rules_keep_as_many_whole_archives_as_they_say_or_all_that_there_are(
    given: list[Kept], keep: Keep, timezone: str
) -> None:
    assume(not keep.keeps_all)
    decisions = decide(given, keep, timezone)
    told = [why for each in decisions for why in each.rules]
    whole = sum(each.is_whole for each in given)
    for rule in ("last", "hourly", "daily", "weekly", "monthly", "yearly"):
        places = getattr(keep, rule)
        counted = [why for why in told if why.startswith(f"{rule} ") and "damaged" not in why]
        assert len(counted) == len(set(counted)) <= places
        is_oldest_kept = f"{rule}, the oldest" in told
        if len(counted) == places:
            assert not is_oldest_kept
        elif rule == "last":
            assert len(counted) == whole
        elif whole:
            why = next(each.rules for each in decisions[::-1] if each.archive.is_whole)
            assert sum(each.startswith(rule) for each in why) == 1
            assert is_oldest_kept == (f"{rule}, the oldest" in why)


@settings(max_examples=200, deadline=None)
@given(_archives(), st.integers(1, 400))
def test_within_days_keeps_what_is_not_older(given: list[Kept], within_days: int) -> None:
    assume(given)
    newest_s = max(each.made_s for each in given)
    told = rules(given, Keep(within_days=within_days))
    for each in given:
        is_within = newest_s - each.made_s <= within_days * DAY_S
        assert (f"within {within_days} days" in told[each.path]) == is_within


# --- the real ones ----------------------------------------------------------------------------

_MADE_BY_OTHERS = (
    "2026-10-26 20:00+01:00", "2026-10-25 20:00+01:00", "2026-10-25 03:30+01:00",
    "2026-10-25 00:30+02:00", "2026-10-24 23:30+02:00", "2026-09-30 23:30+02:00",
    "2026-09-28 00:30+02:00", "2026-09-27 23:30+02:00", "2026-07-16 10:30+02:00",
    "2026-07-16 10:05+02:00", "2026-01-01 00:30+01:00", "2025-12-31 23:30+01:00",
    "2025-12-28 12:00+01:00", "2025-12-27 12:00+01:00",
)  # fmt: skip


def _with_and_without_the_oldest(keep: Keep) -> tuple[set[str], set[str]]:
    decisions = decide(archives(_MADE_BY_OTHERS), keep, BERLIN)
    return (
        {each.archive.path for each in decisions if each.rules},
        {
            each.archive.path
            for each in decisions
            if any(not rule.endswith(", the oldest") for rule in each.rules)
        },
    )


def _by_other(tmp_path: Path, *words: str, **more: str) -> str:
    environment = {"PATH": os.environ["PATH"], "TZ": BERLIN, "HOME": str(tmp_path), **more}
    done = subprocess.run(
        words, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True
    )
    return done.stdout + done.stderr


@pytest.mark.needs("restic")
def test_restic_keeps_the_same(tmp_path: Path) -> None:
    def restic(*words: str) -> str:
        return _by_other(
            tmp_path, "restic", "--quiet", "--repo", "repository", *words, RESTIC_PASSWORD="x"
        )

    (tmp_path / "source").write_text("onggi")
    restic("init")
    for time in _MADE_BY_OTHERS:
        restic("backup", "--time", f"{time[:16]}:00", "source")
    for keep in (
        Keep(last=3),
        Keep(hourly=4, daily=2),
        Keep(weekly=20),
        Keep(daily=2, monthly=4, yearly=2),
        Keep(last=1, hourly=2, daily=3, weekly=4, monthly=5, yearly=6),
        Keep(within_days=9, monthly=3),
    ):
        options = [
            f"--keep-within={number}d" if rule == "within_days" else f"--keep-{rule}={number}"
            for rule, number in asdict(keep).items()
            if number
        ]
        (group,) = json.loads(restic("forget", "--dry-run", "--json", *options))
        stay = set(shown([moment(each["time"]) for each in group["keep"]], BERLIN))
        # Before 0.16, restic keeps no oldest snapshot for a rule that is not used up.
        assert stay in _with_and_without_the_oldest(keep)


@pytest.mark.needs("borg")
def test_borg_keeps_the_same_where_there_is_one_rule(tmp_path: Path) -> None:
    def borg(*words: str) -> str:
        return _by_other(tmp_path, "borg", *words, BORG_REPO=str(tmp_path / "repository"))

    (tmp_path / "source").write_text("onggi")
    borg("init", "--encryption=none")
    for number, time in enumerate(_MADE_BY_OTHERS):
        made = datetime.fromisoformat(time).astimezone(UTC)
        borg("create", f"--timestamp={made:%Y-%m-%dT%H:%M:%S}", f"::n{number:02}", "source")
    for rule in ("hourly", "daily", "weekly", "monthly", "yearly"):
        for places in (1, 3, 20):
            told = borg("prune", "--dry-run", "--list", f"--keep-{rule}={places}")
            lines = [line.split() for line in told.splitlines() if line.startswith("Keeping")]
            names = [word for line in lines for word in line if re.fullmatch(r"n\d\d", word)]
            stay = {_MADE_BY_OTHERS[int(name[1:])] for name in names}
            assert stay == _with_and_without_the_oldest(Keep(**{rule: places}))[0]
