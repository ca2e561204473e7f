"""Schedules of any kind, zone and time, next to a second opinion that looks at every minute."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.control.schedule_helpers import (
    DAY_S,
    HOUR_S,
    ZONES,
    changes,
    plainly_due,
    plainly_open,
    plan,
)

from onggi.control.errors import BadPlanError
from onggi.control.plan import Plan
from onggi.control.schedule import (
    check_schedule,
    due_between,
    in_window,
    next_due,
    window_closes,
    window_opens,
)

_LEAST_S = datetime(1986, 1, 1, tzinfo=UTC).timestamp()
_MOST_S = datetime(2036, 1, 1, tzinfo=UTC).timestamp()
_TIMES = st.one_of(
    st.times().map(lambda time: f"{time:%H:%M}"),
    st.builds("{:02}:{:02}".format, st.integers(0, 4), st.sampled_from([0, 1, 15, 30, 45, 59])),
)


def _listed(low: int, high: int) -> st.SearchStrategy[str]:
    numbers = st.lists(st.integers(low, high), min_size=1, max_size=4, unique=True)
    return numbers.map(lambda chosen: ",".join(map(str, chosen)))


def _spans(low: int, high: int) -> st.SearchStrategy[str]:
    # Of two numbers: 3-3/2 means what 3/2 does for cronsim, and 3 for others.
    return st.lists(st.integers(low, high), min_size=2, max_size=2, unique=True).map(
        lambda ends: f"{min(ends)}-{max(ends)}"
    )


def _fields(low: int, high: int) -> st.SearchStrategy[str]:
    steps = st.integers(2, high)
    return st.one_of(
        st.just("*"),
        _listed(low, high),
        _spans(low, high),
        steps.map(lambda step: f"*/{step}"),
        st.builds("{}/{}".format, _spans(low, high), steps),
    )


def _rarely(fields: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.integers(0, 3).flatmap(lambda number: st.just("*") if number else fields)


_HOURS = st.one_of(_fields(0, 23), _listed(0, 4), _spans(0, 4))
_CRON = st.builds(
    "{} {} {} {} {}".format, _fields(0, 59), _HOURS, _rarely(_fields(1, 31)), st.just("*"),
    _rarely(_fields(0, 7)),
)  # fmt: skip


@st.composite
def _moments(draw: st.DrawFn, timezone: str, around_s: float) -> float:
    """Draw a moment, most often one near a change of the clocks."""
    near = changes(timezone)
    if near and draw(st.integers(0, 4)):
        about_s = draw(st.sampled_from(near)) + draw(st.floats(-around_s, around_s))
    else:
        about_s = draw(st.floats(_LEAST_S, _MOST_S))
    return about_s if draw(st.booleans()) else round(about_s / 60) * 60.0


class Case(NamedTuple):
    """A plan, when it was made, and a span of time."""

    plan: Plan
    anchor_s: float
    start_s: float
    end_s: float


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a schedule, and a span of time of a few dozen times at most, as a rule."""
    timezone = draw(st.sampled_from(ZONES))
    start_s = draw(_moments(timezone, DAY_S))
    before_s = draw(st.one_of(st.floats(-2 * DAY_S, 3 * DAY_S), st.floats(0, 9000 * DAY_S)))
    kind = draw(st.sampled_from(["h", "d", "d", "w", "cron", "cron", "cron"]))
    span_s = draw(st.floats(0, 3 * DAY_S))
    if kind == "cron":
        made = plan(cron=draw(_CRON), timezone=timezone)
    else:
        every = f"{draw(st.integers(1, {'h': 90, 'd': 4, 'w': 1}[kind]))}{kind}"
        made = plan(every=every, at=draw(_TIMES), timezone=timezone)
        span_s *= 2
    return Case(made, start_s - before_s, start_s, start_s + span_s)


def _one_by_one(case: Case) -> list[float]:
    found: list[float] = []
    after_s = case.start_s
    while True:
        due_s = next_due(case.plan, after_s, case.anchor_s)
        if due_s is None or due_s > case.end_s:
            return found
        assert due_s > after_s
        found.append(due_s)
        after_s = due_s


@settings(max_examples=150, deadline=None)
@given(cases())
def test_due_between_gives_what_next_due_gives_one_by_one_and_a_second_opinion_too(
    case: Case,
) -> None:
    everything = due_between(case.plan, case.start_s, case.end_s, case.anchor_s, most=100_000)
    assert everything == plainly_due(case.plan, case.start_s, case.end_s, case.anchor_s)
    assert everything == _one_by_one(case)


@settings(max_examples=200, deadline=None)
@given(cases(), st.integers(0, 20), st.floats(0, 40 * 365 * DAY_S))
def test_the_last_times_do_not_depend_on_how_long_the_outage_was(
    case: Case, most: int, longer_s: float
) -> None:
    start_s = case.start_s - longer_s
    last = due_between(case.plan, start_s, case.end_s, case.anchor_s, most)
    assert len(last) <= most
    assert last == sorted(set(last))
    if last:
        following = [next_due(case.plan, each, case.anchor_s) for each in last]
        assert following[:-1] == last[1:]
        assert following[-1] is None or following[-1] > case.end_s
    if len(last) < most:  # they are all
        first_s = next_due(case.plan, start_s, case.anchor_s)
        assert last[:1] == ([first_s] if first_s is not None and first_s <= case.end_s else [])


@settings(max_examples=300, deadline=None)
@given(cases(), st.floats(0, 2 * DAY_S))
def test_the_next_time_is_later_and_never_goes_back(case: Case, later_s: float) -> None:
    due_s = next_due(case.plan, case.start_s, case.anchor_s)
    due_later_s = next_due(case.plan, case.start_s + later_s, case.anchor_s)
    if due_s is None:
        assert due_later_s is None
        return
    assert due_s > case.start_s
    assert due_s >= case.anchor_s
    assert due_later_s is None or due_later_s >= due_s
    if due_s > case.start_s + later_s:
        assert due_later_s == due_s
    assert due_between(case.plan, case.start_s, due_s, case.anchor_s) == [due_s]


@st.composite
def windows(draw: st.DrawFn) -> tuple[Plan, float]:
    """Draw a plan with a window, and a moment."""
    timezone = draw(st.sampled_from(ZONES))
    opens = draw(_TIMES)
    closes = draw(_TIMES.filter(lambda time: time != opens))
    made = plan(window=f"{opens}-{closes}", timezone=timezone)
    return made, draw(_moments(timezone, 5 * HOUR_S))


@settings(max_examples=200, deadline=None)
@given(windows())
def test_a_window_is_open_when_a_second_opinion_says_so(drawn: tuple[Plan, float]) -> None:
    made, now_s = drawn
    assert in_window(made, now_s) == plainly_open(made.window, now_s, made.timezone)


@settings(max_examples=300, deadline=None)
@given(windows(), st.floats(0, 1))
def test_a_window_is_open_from_when_it_opens_until_it_closes(
    drawn: tuple[Plan, float], part: float
) -> None:
    made, now_s = drawn
    opens_s, closes_s = window_opens(made, now_s), window_closes(made, now_s)
    assert closes_s is not None
    assert now_s <= opens_s < closes_s
    assert in_window(made, now_s) == (opens_s == now_s)
    within_s = min(opens_s + part * (closes_s - opens_s), closes_s - 0.001)
    assert in_window(made, within_s)
    assert window_closes(made, within_s) == closes_s
    assert not in_window(made, closes_s)
    if opens_s > now_s:
        assert not in_window(made, now_s + part * (opens_s - now_s) * 0.999)
        assert window_opens(made, opens_s) == opens_s


@settings(max_examples=500, deadline=None)
@given(st.text("0123456789*/,-#LWMON @", max_size=30) | st.text(max_size=30))
def test_any_text_for_cron_is_taken_or_refused_as_a_bad_plan(cron: str) -> None:
    with contextlib.suppress(BadPlanError):
        made = plan(cron=cron, timezone="Europe/Berlin")
        check_schedule(made)
        assert not cron or next_due(made, 1.7e9, 0.0) is not None
