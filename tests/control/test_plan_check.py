"""Plans: those that may be stay what they are; any other is refused with one clear line."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onggi.control.errors import BadPlanError
from onggi.control.plan import Keep, Plan
from onggi.control.plan_check import check_plan, plan_from, word_for

from .plan_helpers import ANYTHING, checked, is_one_line, made_or_refused, plan, valid_plans

FIELDS = [field.name for field in fields(Plan)]
RULES = [field.name for field in fields(Keep)]


@settings(deadline=None)
@given(valid_plans())
def test_a_valid_plan_is_itself_after_the_check_and_after_json(drawn: Plan) -> None:
    assert check_plan(drawn) == drawn
    assert plan_from(json.loads(json.dumps(drawn.as_dict()))) == drawn


@settings(deadline=None, max_examples=300)
@given(valid_plans(), st.sampled_from([*FIELDS, "verify_bye", ""]), ANYTHING, st.booleans())
def test_any_field_of_json_may_be_mangled(
    drawn: Plan, key: str, value: object, is_gone: bool
) -> None:
    given_fields = drawn.as_dict()
    if is_gone:
        given_fields.pop(key, None)
    else:
        given_fields[key] = value
    made = made_or_refused(lambda: plan_from(given_fields))
    if made is not None:
        assert plan_from(made.as_dict()) == check_plan(made) == made


@settings(deadline=None, max_examples=300)
@given(valid_plans(), st.sampled_from(FIELDS), ANYTHING)
def test_any_field_of_a_plan_may_be_mangled(drawn: Plan, key: str, value: Any) -> None:
    mangled = replace(drawn, **{key: tuple(value) if isinstance(value, list) else value})
    made = made_or_refused(lambda: check_plan(mangled))
    if made is not None:
        assert check_plan(made) == made


@settings(deadline=None)
@given(valid_plans(), st.sampled_from([*RULES, "dayly"]), ANYTHING)
def test_any_rule_of_keep_may_be_mangled(drawn: Plan, rule: str, value: object) -> None:
    given_fields = drawn.as_dict()
    given_fields["keep"][rule] = value
    made = made_or_refused(lambda: plan_from(given_fields))
    assert made is None or made.as_dict()["keep"][rule] == value


@pytest.mark.parametrize("key", ["name", "source", "target"])
def test_a_plan_needs_name_source_and_target(key: str) -> None:
    given_fields = plan().as_dict()
    del given_fields[key]
    with pytest.raises(BadPlanError, match=f"has no {key}; write one"):
        plan_from(given_fields)


def test_what_is_not_said_has_its_default() -> None:
    assert plan_from({"name": "photos", "source": "/srv/photos", "target": "/mnt/backup"}) == plan()
    assert plan_from({**plan().as_dict(), "keep": {"daily": 3}}).keep == Keep(daily=3)


def test_slashes_that_mean_nothing_are_taken_away() -> None:
    assert checked(source="//srv///photos/", target="/mnt/backup//") == plan()


@pytest.mark.parametrize("name", ["a", "0", "A.b-c_d", "x" * 64, "a..b", "plan"])
def test_names_that_are_fine(name: str) -> None:
    assert checked(name=name).name == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".a", "-a", "_a", "a/b", "/a", "a\n", "\na", "a\0", "a b", "x" * 65, "ä",
     "a\\b", "../../etc", "٣", "a\ud800", None, 7, ["a"], True],
)  # fmt: skip
def test_hostile_names_are_refused(name: Any) -> None:
    for make in (lambda: checked(name=name), lambda: plan_from(plan(name=name).as_dict())):
        with pytest.raises(BadPlanError, match="name") as refused:
            make()
        assert is_one_line(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "/mnt/backup2"},
        {"source": "/mnt/backup/image", "mode": "volume"},
        {"source": "/srv/..photos"},
        {"source": "/srv/ä b'\"\\"},
        {"every": "1h"},
        {"every": "9999w", "at": "23:59"},
        {"every": "1d", "at": "00:00"},
        {"cron": "*/5 1,2 1-7 JAN-MAR mon#1"},
        {"timezone": "America/Argentina/Ushuaia"},
        {"timezone": "Etc/GMT+5"},
        {"window": "23:00-05:00"},
        {"window": "00:00-23:59"},
        {"retries": 0},
        {"retries": 20},
        {"level": 1},
        {"level": 19},
        {"limit_bytes_per_s": 1024},
        {"limit_bytes_per_s": 1 << 40},
        {"keep": Keep(last=100_000)},
        {"exclude": ("*.tmp",)},
        {"exclude": ("*",) * 1000, "mode": "tree"},
    ],
)
def test_what_may_be(changes: dict[str, Any]) -> None:
    assert checked(**changes) == plan(**changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source": ""}, "source is ''; write a whole path"),
        ({"source": "photos"}, "source is 'photos'; write a whole path"),
        ({"source": "~/photos"}, "source is '~/photos'; write a whole path"),
        ({"target": "mnt"}, "target is 'mnt'; write a whole path"),
        ({"source": "/srv/../etc"}, "source is '/srv/../etc'; write it without . and .."),
        ({"target": "/mnt/."}, "target is '/mnt/.'; write it without"),
        ({"source": "/srv\n/x"}, r"source has '\\n' in it; write it without"),
        ({"source": "/srv\0"}, r"source has '\\x00' in it"),
        ({"target": "/srv\udcff"}, r"target has '\\udcff' in it"),
        ({"source": "/" + "ä" * 2048}, "source is longer than 4095 bytes"),
        ({"target": "/"}, "target is /; write a folder below it"),
        ({"target": "/srv/photos"}, "source and target are both '/srv/photos'; write another"),
        ({"target": "/srv/photos/", "mode": "volume"}, "source and target are both"),
        (
            {"target": "/srv/photos/b"},
            "target '/srv/photos/b' is below source '/srv/photos'.*outside",
        ),
        ({"target": "/srv/photos/b", "exclude": ("b",)}, "is below source"),
        ({"source": "/"}, "target '/mnt/backup' is below source '/'.*write a target outside of it"),
        ({"source": "/", "mode": "volume"}, "is below source '/'.*write the device as source"),
        ({"source": "/mnt/backup/x"}, "source '/mnt/backup/x' is below target.*or mode volume if"),
        ({"source": "/mnt//backup//x", "mode": "tree"}, "source '/mnt/backup/x' is below target"),
        ({"mode": "files"}, "mode is 'files'; write auto, tree or volume"),
        ({"mode": None}, "mode is None; write text, in quotes"),
        ({"every": "1d", "cron": "0 0 * * *"}, "every and cron are both set; write one of them"),
        ({"at": "03:00"}, "at is 03:00 without days or weeks to start at it; write every"),
        ({"at": "03:00", "every": "6h"}, "at is 03:00 without days or weeks"),
        ({"at": "03:00", "cron": "0 0 * * *"}, "at is 03:00 without days or weeks"),
        ({"at": "24:00", "every": "1d"}, "at is '24:00'; write HH:MM"),
        ({"at": "3:00", "every": "1d"}, "at is '3:00'; write HH:MM"),
        ({"at": "", "every": "1d"}, "at is ''; write HH:MM"),
        ({"every": "0d"}, "every is '0d'; write 6h, 3d or 2w"),
        ({"every": "daily"}, "every is 'daily'; write 6h, 3d or 2w"),
        ({"every": "1.5h"}, "every is '1.5h'"),
        ({"every": "10000h"}, "every is '10000h'"),
        ({"every": "٣d"}, "every is '٣d'"),
        ({"cron": "@daily"}, "cron is '@daily'; write five fields, such as 30 2"),
        ({"cron": "* * * *"}, "cron is '. . . .'; write five fields"),
        ({"cron": "* * * * * *"}, "write five fields"),
        ({"timezone": ""}, "timezone is ''; write UTC or Europe/Berlin"),
        ({"timezone": "../etc/passwd"}, "timezone is '../etc/passwd'; write UTC or"),
        ({"timezone": "/etc/localtime"}, "timezone is '/etc/localtime'; write UTC or"),
        ({"window": "22:00"}, "window is '22:00'; write HH:MM-HH:MM with two different times"),
        ({"window": "22:00 - 23:00"}, "window is '22:00 - 23:00'; write"),
        ({"window": "22:00-24:00"}, "window is '22:00-24:00'; write"),
        (
            {"window": "22:00-22:00"},
            "window is '22:00-22:00'; write HH:MM-HH:MM with two different",
        ),
        ({"retries": -1}, "retries is -1; write 0 to 20"),
        ({"retries": 21}, "retries is 21; write 0 to 20"),
        ({"retries": 10**5000}, "retries is something too long to show; write 0 to 20"),
        ({"exclude": ([10**5000],)}, "exclude has something too long to show in it"),
        ({"retries": True}, "retries is True; write a whole number"),
        ({"retries": 3.0}, "retries is 3.0; write a whole number"),
        ({"level": 0}, "level is 0; write 1 to 19"),
        ({"level": 20}, "level is 20; write 1 to 19"),
        ({"level": "3"}, "level is '3'; write a whole number"),
        ({"limit_bytes_per_s": -1}, "limit is -1 bytes a second; write 1K to 1024G"),
        ({"limit_bytes_per_s": 80}, "limit is 80 bytes a second; write 1K to 1024G"),
        ({"limit_bytes_per_s": (1 << 40) + 1}, "limit is 1099511627777 bytes a second"),
        ({"nice": 1}, "nice is 1; write true or false"),
        ({"is_paused": "yes"}, "paused is 'yes'; write true or false"),
        ({"keep": Keep(daily=-1)}, "keep daily is -1; write 0 to 100000"),
        ({"keep": Keep(within_days=100_001)}, "keep within-days is 100001; write 0 to 100000"),
        ({"keep": Keep(yearly=True)}, "keep yearly is True; write a whole number"),
        ({"keep": 7}, "keep is 7; write a table of numbers"),
        ({"verify": "after"}, "verify is 'after'; write after, weekly or never"),  # not of its type
        ({"exclude": "*.tmp"}, r"exclude is '\*.tmp'; write a list of texts"),
        ({"exclude": ("",)}, "exclude has '' in it; write patterns"),
        ({"exclude": (7,)}, "exclude has 7 in it; write patterns"),
        ({"exclude": ("a\nb",)}, "exclude has .* in it, which matches no path"),
        ({"exclude": ("*",) * 1001}, "exclude has 1001 patterns; write 1000 at most"),
        (
            {"exclude": ("*",), "mode": "volume"},
            "exclude is for trees; leave it out, or write mode",
        ),
    ],
)
def test_what_can_not_be_is_refused_with_one_clear_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadPlanError, match=f"^plan photos: .*{said}") as refused:
        checked(**changes)
    assert is_one_line(refused.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"retry": 3}, "plan photos: there is no key 'retry'; did you mean retries"),
        ({"created_s": 3}, "plan photos: there is no key 'created_s'"),
        ({"verify": "daily"}, "plan photos: verify is 'daily'; write after, weekly or never"),
        ({"verify": None}, "plan photos: verify is None; write after, weekly or never"),
        ({"verify_by": []}, "plan photos: verify-by is .*; write content, source or restore"),
        ({"keep": {"dayly": 3}}, "plan photos: keep: there is no key 'dayly'; did you mean daily"),
        ({"keep": {"daily": "3"}}, "plan photos: keep daily is '3'; write a whole number"),
        ({"keep": [3]}, "plan photos: keep is .*; write a table of numbers"),
        ({"exclude": None}, "plan photos: exclude is None; write a list of texts"),
        ({"source": ["/a", "/b"]}, "plan photos: source is .*; write text, in quotes"),
    ],
)
def test_fields_that_can_not_be_are_refused_with_one_clear_line(
    changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadPlanError, match=f"^{said}") as refused:
        plan_from({**plan().as_dict(), **changes})
    assert is_one_line(refused.value)


def test_words_for_people_are_those_of_the_file_of_plans() -> None:
    assert [word_for(field) for field in ("limit_bytes_per_s", "is_paused", "verify_by", "at")] == [
        "limit", "paused", "verify-by", "at",
    ]  # fmt: skip
