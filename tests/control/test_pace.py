"""Rate, time left and bottleneck, from the progress objects of a command."""

from __future__ import annotations

from typing import Any

import pytest

from onggi.control.messages import Progressed
from onggi.control.pace import Pace

MB = 1_000_000


def record(elapsed_s: float, content: Any, **more: Any) -> dict[str, Any]:
    return {
        "type": "progress", "phase": "pack", "content_bytes": content, "total_bytes": 100 * MB,
        "stored_bytes": 5, "elapsed_s": elapsed_s, "threads": 2,
    } | more  # fmt: skip


def take(pace: Pace, *arguments: Any, **more: Any) -> Progressed:
    progress = pace.take(record(*arguments, **more))
    assert progress is not None
    return progress


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    pace = Pace(3, "pack")
    assert take(pace, 1.0, 0) == Progressed(3, "pack", 0, 100 * MB, 5, 0.0, None)
    for second in range(2, 12):
        progress = take(pace, float(second), (second - 1) * MB)
    assert progress.bytes_per_s == pytest.approx(MB)
    assert progress.left_s == pytest.approx(90)
    for second in range(12, 22):
        progress = take(pace, float(second), (10 + (second - 11) * 2) * MB)
    assert progress.bytes_per_s == pytest.approx(2 * MB), "what was before is forgotten"
    assert progress.left_s == pytest.approx(35)


def test_objects_that_come_seldom_still_have_a_rate() -> None:
    pace = Pace(1, "pack")
    take(pace, 1.0, 0)
    assert take(pace, 61.0, 60 * MB).bytes_per_s == pytest.approx(MB)
    assert take(pace, 121.0, 180 * MB).bytes_per_s == pytest.approx(2 * MB)


def test_without_a_total_or_a_rate_nobody_knows_how_long() -> None:
    pace = Pace(1, "pack")
    take(pace, 1.0, 0, total_bytes=None)
    assert take(pace, 2.0, MB, total_bytes=None).left_s is None
    assert take(pace, 3.0, MB).left_s is not None
    stuck = Pace(1, "pack")
    take(stuck, 1.0, MB)
    assert take(stuck, 2.0, MB).left_s is None
    assert take(stuck, 3.0, 101 * MB).left_s == 0.0, "more than there was to be"


def test_another_phase_starts_anew() -> None:
    pace = Pace(1, "pack")
    take(pace, 1.0, 0)
    assert take(pace, 2.0, 50 * MB).bytes_per_s == pytest.approx(50 * MB)
    assert take(pace, 3.0, 50 * MB, phase="verify").bytes_per_s == 0
    assert take(pace, 4.0, 51 * MB, phase="verify").bytes_per_s == pytest.approx(MB)
    assert take(pace, 5.0, 0, phase="verify").bytes_per_s == 0, "it went back"


def test_the_bottleneck_is_the_stage_that_was_busiest_for_its_threads() -> None:
    pace = Pace(1, "pack")
    stages = [
        ({"read": 0.0, "compress": 0.0, "write": 0.0}, ""),
        ({"read": 1.4, "compress": 1.0, "write": 0.1}, "read"),  # 0.7, 0.5, 0.1
        ({"read": 1.5, "compress": 2.9, "write": 0.9}, "compress"),  # 0.05, 0.95, 0.8
        ({"read": 1.8, "compress": 3.0, "write": 1.2}, "write"),  # 0.15, 0.05, 0.3
        ({"read": 1.8, "compress": 3.0, "write": 1.2}, ""),  # nobody did anything
        (None, ""),
        ({"read": 2.0, "compress": 3.0, "write": 1.2}, ""),  # since when?
        ({"read": 2.5, "compress": "much", "write": 1.2}, "read"),
        ({"read": -1, "compress": None, "write": float("nan")}, ""),
        ([1, 2], ""),
        ({"read": 3.0, "compress": 3.0, "write": 1.2, "held": 0.0}, ""),
        ({"read": 3.2, "compress": 3.1, "write": 1.3, "held": 1.5}, "held"),
    ]
    for second, (busy_s, bottleneck) in enumerate(stages):
        more = {} if busy_s is None else {"busy_s": busy_s}
        progress = take(pace, float(second), second * MB, **more)
        assert progress.bottleneck == bottleneck, second
    assert take(pace, 50.0, 50 * MB, threads="many").bottleneck == ""


@pytest.mark.parametrize(
    "wrong",
    [
        {"content_bytes": None}, {"content_bytes": "5"}, {"content_bytes": -1},
        {"content_bytes": True}, {"content_bytes": 1.5}, {"content_bytes": 10**30},
        {"stored_bytes": []}, {"elapsed_s": None}, {"elapsed_s": float("inf")},
        {"elapsed_s": float("nan")}, {"elapsed_s": -1}, {"elapsed_s": 10**400},
        {"elapsed_s": True},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_not_told(wrong: dict[str, Any]) -> None:
    assert Pace(1, "pack").take(record(1.0, 5) | wrong) is None
    assert Pace(1, "pack").take({}) is None


@pytest.mark.parametrize("total", ["x", -1, True, 1.5])
def test_a_total_that_makes_no_sense_is_not_known(total: Any) -> None:
    assert take(Pace(1, "pack"), 1.0, 5, total_bytes=total).total_bytes is None
