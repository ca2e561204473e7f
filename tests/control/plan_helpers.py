"""Plans for tests: any that may be, and values that no field should trust."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import strategies as st

from onggi.control.errors import BadPlanError
from onggi.control.notify import Notify
from onggi.control.plan import MODES, Keep, Plan, Verify, VerifyBy
from onggi.control.plan_check import check_plan

TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True)
_PART = TEXT.map(lambda text: text.replace("/", "_")).filter(
    lambda text: text not in ("", ".", "..")
)
_PATHS = st.lists(_PART, min_size=1, max_size=4).map("/".join)
_TIMES = st.times().map(lambda time: f"{time:%H:%M}")
_COUNTS = st.integers(0, 100_000)
_CRON = st.lists(
    st.from_regex(r"[0-9A-Za-z*/,#-]{1,8}", fullmatch=True), min_size=5, max_size=5
).map(" ".join)
_WHEN = st.one_of(
    st.just({}),
    st.builds(lambda number: {"every": f"{number}h"}, st.integers(1, 9999)),
    st.builds(
        lambda number, unit, at: {"every": f"{number}{unit}", "at": at},
        st.integers(1, 9999), st.sampled_from("dw"), _TIMES,
    ),
    st.builds(lambda cron: {"cron": cron}, _CRON),
)  # fmt: skip


@st.composite
def valid_plans(draw: st.DrawFn) -> Plan:
    """Draw a plan that may be used."""
    mode = draw(st.sampled_from(MODES))
    begin, end = draw(st.tuples(_TIMES, _TIMES))
    target = "/t" + draw(_PATHS)
    below = mode == "volume" and draw(st.booleans())
    return Plan(
        name=draw(NAMES),
        source=f"{target}/{draw(_PATHS)}" if below else "/s" + draw(_PATHS),
        target=target,
        mode=mode,
        timezone=draw(st.sampled_from(["UTC", "Europe/Berlin", "America/Argentina/Ushuaia"])),
        keep=draw(st.builds(Keep, *[_COUNTS] * 7)),
        verify=draw(st.sampled_from(Verify)),
        verify_by=draw(st.sampled_from(VerifyBy)),
        window=f"{begin}-{end}" if begin != end else "",
        retries=draw(st.integers(0, 20)),
        limit_bytes_per_s=draw(st.just(0) | st.integers(1 << 10, 1 << 40)),
        nice=draw(st.booleans()),
        level=draw(st.integers(1, 19)),
        exclude=() if mode == "volume" else tuple(draw(st.lists(TEXT.filter(bool), max_size=4))),
        is_paused=draw(st.booleans()),
        **draw(_WHEN),
    )


NOTIFIES = st.builds(
    Notify,
    urls=st.lists(
        st.from_regex(r"[a-z]{1,9}s?://[!-~]{1,30}", fullmatch=True), max_size=4
    ).map(tuple),
    command=st.sampled_from(["", "true", "/bin/echo 'a  \"b' \\\\ ü"]),
    on=st.lists(st.sampled_from(["succeeded", "failed", "missed"]), max_size=4).map(tuple),
)  # fmt: skip

ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.binary(max_size=8),
        st.text(max_size=80), st.times(), st.dates(), st.just("x" * 100_000),
        st.just("\ud800"), st.just("/a/../b"), st.just(datetime.datetime.min),
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip


def is_one_line(error: BaseException) -> bool:
    """Tell whether an error is one line that can be shown to people."""
    return str(error).isprintable() and 0 < len(str(error)) < 600


_Made = TypeVar("_Made")


def made_or_refused(make: Callable[[], _Made]) -> _Made | None:
    """Return what is made; None if that was refused as bad, in one line."""
    try:
        return make()
    except BadPlanError as error:
        refused = error
    assert is_one_line(refused), repr(refused)
    return None


def plan(**changes: Any) -> Plan:
    """Return a usual plan, with some changes."""
    return Plan(**{"name": "photos", "source": "/srv/photos", "target": "/mnt/backup", **changes})


def checked(**changes: Any) -> Plan:
    """Return a usual plan with some changes, if it may be used."""
    return check_plan(plan(**changes))
