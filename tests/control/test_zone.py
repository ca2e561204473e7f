"""What becomes of local times where clocks are changed."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta

import pytest
from tests.control.schedule_helpers import (
    APIA,
    BERLIN,
    KOLKATA,
    LORD_HOWE,
    NEW_YORK,
    ZONES,
    changes,
    clock,
    moment,
    shown,
)

from onggi.control.errors import BadPlanError
from onggi.control.zone import check_timezone, first_moment, local_time, real_moments


@pytest.mark.parametrize(
    ("timezone", "local", "stands_for"),
    [
        (BERLIN, "2026-03-29 01:59", "2026-03-29 01:59+01:00"),
        (BERLIN, "2026-03-29 02:00", "2026-03-29 03:00+02:00"),
        (BERLIN, "2026-03-29 02:59", "2026-03-29 03:00+02:00"),
        (BERLIN, "2026-03-29 03:00", "2026-03-29 03:00+02:00"),
        (BERLIN, "2026-10-25 02:00", "2026-10-25 02:00+02:00"),
        (BERLIN, "2026-10-25 02:59", "2026-10-25 02:59+02:00"),
        (BERLIN, "2026-10-25 03:00", "2026-10-25 03:00+01:00"),
        (NEW_YORK, "2026-03-08 02:30", "2026-03-08 03:00-04:00"),
        (NEW_YORK, "2026-11-01 01:30", "2026-11-01 01:30-04:00"),
        (LORD_HOWE, "2026-10-04 02:10", "2026-10-04 02:30+11:00"),
        (LORD_HOWE, "2026-04-05 01:40", "2026-04-05 01:40+11:00"),
        (LORD_HOWE, "2026-04-05 02:00", "2026-04-05 02:00+10:30"),
        (KOLKATA, "2026-03-29 02:30", "2026-03-29 02:30+05:30"),
        (APIA, "2011-12-30 00:00", "2011-12-31 00:00+14:00"),
        (APIA, "2011-12-30 23:59", "2011-12-31 00:00+14:00"),
        ("Asia/Beirut", "2026-03-29 00:00", "2026-03-29 01:00+03:00"),
        (BERLIN, "2071-03-29 02:30", "2071-03-29 03:00+02:00"),  # the zone file ends before
    ],
)
def test_a_local_time_stands_for_the_first_moment_at_which_it_is_reached(
    timezone: str, local: str, stands_for: str
) -> None:
    assert shown([first_moment(datetime.fromisoformat(local), timezone)], timezone) == [stands_for]


@pytest.mark.parametrize("timezone", ZONES)
def test_at_every_change_of_the_clocks_another_library_says_the_same(timezone: str) -> None:
    for change_s in changes(timezone):
        before = clock(change_s - 1, timezone) + timedelta(seconds=1)
        after = clock(change_s, timezone)
        least, most = min(before, after), max(before, after)
        length_s = (most - least).total_seconds()
        middle = (least + (most - least) / 2).replace(microsecond=0)
        for local in (least, middle, most - timedelta(seconds=1)):
            into_s = (local - least).total_seconds()
            if after > before:
                assert first_moment(local, timezone) == change_s
                assert real_moments(local, timezone) is None
            else:
                first_s = change_s - length_s + into_s
                assert first_moment(local, timezone) == first_s
                assert real_moments(local, timezone) == (first_s, change_s + into_s)
        for sure in (least - timedelta(seconds=1), most):
            found = first_moment(sure, timezone)
            assert real_moments(sure, timezone) == (found, found)
            assert clock(found, timezone) == sure


def test_the_zones_of_these_tests_have_what_they_are_there_for() -> None:
    assert {len(changes(zone)) > 50 for zone in (BERLIN, NEW_YORK, LORD_HOWE)} == {True}
    assert changes(KOLKATA) == ()
    assert moment("2011-12-31 00:00+14:00") in changes(APIA)


@pytest.mark.parametrize(
    ("timezone", "advice"),
    [
        ("Europe/Berln", "did you mean Europe/Berlin?"),
        ("europe/berlin", "write Europe/Berlin"),
        ("", "write UTC or Europe/Berlin"),
        ("Nowhere/0", "write UTC or Europe/Berlin"),
        ("../etc/passwd", "UTC"),
        ("Europe", "Europe/"),
        ("x\ny\0" * 1000, "UTC"),
    ],
)
def test_what_is_no_timezone_is_refused_with_advice(timezone: str, advice: str) -> None:
    with pytest.raises(BadPlanError) as caught:
        check_timezone(timezone)
    assert advice in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_timezone_that_is_gone_is_a_bad_plan_too() -> None:
    with pytest.raises(BadPlanError):
        local_time(0.0, "Europe/Atlantis")


@pytest.mark.parametrize("timezone", [*ZONES, "Etc/GMT+5", "EST5EDT"])
def test_timezones_by_their_names_are_taken(timezone: str) -> None:
    check_timezone(timezone)


def test_a_computer_without_timezones_is_told_to_install_them() -> None:
    source = (
        "import sys; sys.modules['tzdata'] = None\n"
        "from onggi.control.zone import check_timezone; check_timezone('UTC')"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], env={"PYTHONTZPATH": ""}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("install the package tzdata")
