"""Files of plans: they round-trip, say all there is to say, and refuse the rest in one line."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onggi.cli.options import size
from onggi.control.errors import BadPlanError
from onggi.control.notify import Notify
from onggi.control.plan import Keep, Plan, Verify
from onggi.control.plan_check import word_for
from onggi.control.plan_file import (
    Change,
    PlanFile,
    bytes_text,
    differences,
    parse_bytes,
    read_plan_file,
    write_plan_file,
)
from onggi.control.schedule import check_schedule

from .plan_helpers import NOTIFIES, is_one_line, made_or_refused, plan, valid_plans

EXAMPLE = Path(__file__).parents[2] / "docs" / "plans.toml"
PLANS = st.lists(valid_plans(), max_size=3, unique_by=lambda each: each.name)
HEAD = "[plan.photos]\nsource = '/srv/photos'\ntarget = '/mnt/backup'\n"


@settings(deadline=None)
@given(PLANS, NOTIFIES)
def test_any_valid_plans_round_trip(plans: list[Plan], notify: Notify) -> None:
    file = PlanFile(plans, notify)
    text = write_plan_file(file)
    assert read_plan_file(text) == file
    assert write_plan_file(read_plan_file(text)) == text


@settings(deadline=None)
@given(PLANS, NOTIFIES, st.data())
def test_any_text_may_be_mangled(plans: list[Plan], notify: Notify, data: st.DataObject) -> None:
    text = write_plan_file(PlanFile(plans, notify))
    at = data.draw(st.integers(0, len(text)))
    gone = data.draw(st.integers(0, 12))
    new = data.draw(st.sampled_from(["", "[", "]", "\n", '"', "=", "-", "9", "x = 1\n", "\0"]))
    file = made_or_refused(lambda: read_plan_file(text[:at] + new + text[at + gone :]))
    assert file is None or read_plan_file(write_plan_file(file)) == file


def test_a_file_says_what_is_no_default_and_nothing_else() -> None:
    named = plan(
        name="a.b", keep=Keep(last=2, within_days=7), limit_bytes_per_s=80 << 20, at="00:00"
    )
    assert write_plan_file(PlanFile([plan(is_paused=True), named], Notify(command="x 'y'"))) == (
        "[notify]\ncommand = \"x 'y'\"\n\n"
        '[plan.photos]\nsource = "/srv/photos"\ntarget = "/mnt/backup"\npaused = true\n\n'
        '[plan."a.b"]\nsource = "/srv/photos"\ntarget = "/mnt/backup"\n'
        'keep = {last = 2, within-days = 7}\nlimit = "80M"\n'
    )
    assert write_plan_file(PlanFile()) == ""
    assert read_plan_file("") == PlanFile([], Notify())


def test_the_example_has_every_key_and_a_word_on_each() -> None:
    text = EXAMPLE.read_text()
    document = tomllib.loads(text)
    keys = {key for table in document["plan"].values() for key in table}
    assert keys == {word_for(field.name) for field in fields(Plan)} - {"name"}
    rules = {rule for table in document["plan"].values() for rule in table.get("keep", {})}
    assert rules == {word_for(field.name) for field in fields(Keep)}
    assert set(document["notify"]) == {field.name for field in fields(Notify)}
    without: set[str] = set()
    seen: set[str] = set()
    before = ""
    for line in text.splitlines():
        match = re.match(r"([a-z-]+) = ", line)
        if match and match[1] not in seen:  # a comment behind it, or on the line above
            seen.add(match[1])
            if " # " not in line and not before.startswith("# "):
                without.add(match[1])
        before = line
    assert without == set()
    assert seen == keys | set(document["notify"])


def test_the_example_can_be_used_and_tells_defaults_as_they_are() -> None:
    text = EXAMPLE.read_text()
    file = read_plan_file(text)
    assert [each.name for each in file.plans] == ["photos", "disk", "etc.by-hand"]
    for each in file.plans:
        check_schedule(each)
    default = plan()
    for key, said in re.findall(r"^([a-z-]+) = .*; default ([^,;\n]+)", text, re.MULTILINE):
        field = {"limit": "limit_bytes_per_s", "paused": "is_paused"}.get(key, key)
        value = getattr(default, field)
        assert said == ("false" if value is False else str(value) or "always"), key
    assert file.notify.on == Notify().on
    assert default.verify is Verify.AFTER, "the example says so"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[plan", "this is no TOML: .*at line 1|this is no TOML: .*end of document"),
        ("a = 1" + "0" * 5000, "this is no TOML"),
        ("a = " + "[" * 5000, "this is no TOML"),
        ("\0", "this is no TOML"),
        (HEAD + HEAD, "this is no TOML"),
        ("[plans.photos]", "there is no key 'plans'; did you mean plan?"),
        ("plan = 3", "'plan' is no table; write \\[plan.NAME\\], and its keys below"),
        ("[[plan]]\nsource = '/x'", "'plan' is no table; write"),
        ("[plan]\nsource = '/x'", "'source' can't be|'source' is no table; write \\[plan.NAME\\]"),
        ("notify = []", "'notify' is no table; write \\[notify\\]"),
        ("[plan.'../x']", "'../x' can't be the name of a plan; write up to 64 letters"),
        ("[plan.'a\u2028b']", r"'a\\u2028b' can't be the name of a plan"),
        ("[plan.photos]\nsource = '/x'", "plan photos: it has no target; write one"),
        (HEAD + "exlude = ['x']", "plan photos: there is no key 'exlude'; did you mean exclude"),
        (HEAD + "name = 'x'", "plan photos: there is no key 'name'"),
        (HEAD + "verify_by = 'source'", "plan photos: .*'verify_by'; did you mean verify-by"),
        (HEAD + "is_paused = true", "plan photos: there is no key 'is_paused'"),
        (HEAD + "verify-by = 'x'", "plan photos: verify-by is 'x'; write content, source or"),
        (HEAD + "limit = 80", 'plan photos: limit is 80; write text, such as "80M"'),
        (HEAD + "limit = '80 MB'", "plan photos: '80 MB' is no size; write 4096, 64K or 1M"),
        (HEAD + "limit = '80'", "plan photos: limit is 80 bytes a second; write 1K to"),
        (HEAD + "limit = '-1K'", "plan photos: '-1K' is no size"),
        (HEAD + "at = 03:00:00", "plan photos: at is datetime.time.*; write text, in quotes"),
        (HEAD + "every = 3", "plan photos: every is 3; write text, in quotes"),
        (HEAD + "paused = 'no'", "plan photos: paused is 'no'; write true or false"),
        (HEAD + "keep = 7", "plan photos: keep is 7; write a table of numbers"),
        (
            HEAD + "keep = { within_days = 7 }",
            "plan photos: there is no key 'within_days'; did you",
        ),
        (HEAD + "keep = { daily = -1 }", "plan photos: keep daily is -1; write 0 to 100000"),
        (HEAD + "exclude = '*.tmp'", "plan photos: exclude is .*; write a list of texts"),
        (HEAD + "exclude = [['x']]", "plan photos: exclude has .* in it; write patterns"),
        ("[notify]\nurl = 'x'", "notify: there is no key 'url'; did you mean urls"),
        ("[notify]\nurls = 'json://x'", "notify: urls must be a list of texts, in quotes"),
        ("[notify]\non = ['fialed']", "notify: on has 'fialed' in it; write succeeded, warned"),
    ],
)
def test_what_a_file_can_not_say_is_refused_with_one_clear_line(text: str, said: str) -> None:
    with pytest.raises(BadPlanError, match=f"^(?:{said})") as refused:
        read_plan_file(text)
    assert is_one_line(refused.value)


@given(st.integers(0, 10**18 - 1))
def test_a_size_comes_back_from_its_text(number: int) -> None:
    assert parse_bytes(bytes_text(number)) == number


@pytest.mark.parametrize("number", [0, 1, 1023, 1024, 1000, 1536, 80 << 20, 1 << 30, 3 << 40])
def test_a_size_has_the_shortest_text(number: int) -> None:
    texts = [f"{number >> shift}{letter}" for letter, shift in zip("KMG", (10, 20, 30), strict=True)
             if number and number % (1 << shift) == 0]  # fmt: skip
    assert bytes_text(number) == min([str(number), *texts], key=len)


@pytest.mark.parametrize("text", ["0", "4096", "64K", "64k", "1m", "80M", "3G", "00012", "9" * 18])
def test_sizes_mean_what_they_mean_on_the_command_line(text: str) -> None:
    assert parse_bytes(text) == size(text)


def test_differences_are_in_the_words_of_the_file() -> None:
    old = plan(keep=Keep(daily=14), limit_bytes_per_s=1 << 20, every="1d", at="03:00")
    new = replace(
        old, keep=Keep(daily=7, within_days=2), limit_bytes_per_s=0, every="6h", at="00:00",
        exclude=("x",), is_paused=True, verify=Verify.NEVER,
    )  # fmt: skip
    assert differences([old], [new]) == [
        Change(
            "photos",
            "change",
            (
                ("every", "1d", "6h"),
                ("at", "03:00", "00:00"),
                ("keep.daily", 14, 7),
                ("keep.within-days", 0, 2),
                ("verify", "after", "never"),
                ("limit", "1M", "0"),
                ("exclude", [], ["x"]),
                ("paused", False, True),
            ),
        )
    ]


def test_plans_are_added_changed_and_removed_and_nothing_is_said_of_the_others() -> None:
    a, b, c, d = (plan(name=name) for name in "abcd")
    changes = differences([a, b, c], [d, replace(b, level=9), a])
    there = (("source", "/srv/photos"), ("target", "/mnt/backup"))
    assert changes == [
        Change("d", "add", tuple((key, None, value) for key, value in there)),
        Change("b", "change", (("level", 3, 9),)),
        Change("c", "remove", tuple((key, value, None) for key, value in there)),
    ]
    assert differences([a, b], [b, a]) == []
    with pytest.raises(BadPlanError, match="plan b is wanted 2 times; write it once"):
        differences([a], [b, a, b])


@settings(deadline=None)
@given(valid_plans(), valid_plans())
def test_there_are_differences_unless_plans_are_the_same(one: Plan, other: Plan) -> None:
    other = replace(other, name=one.name)
    assert bool(differences([one], [other])) == (one != other)
    assert differences([one], [one]) == []
