"""How fast some work is, when it will be done, and what holds it up.

Owns: the arithmetic from the progress objects of a command to what a manager tells. Pure; takes
objects that anybody may have written. Belongs to one thread.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from .messages import Progressed

_WINDOW_S = 10.0
_STAGES = ("read", "compress", "write", "held")


@dataclass(frozen=True, slots=True)
class _Point:
    elapsed_s: float
    content_bytes: int
    busy_s: Mapping[str, float]


class Pace:
    """The pace of one step.

    Args:
        run_id: of the run.
        step: name of the step.
    """

    def __init__(self, run_id: int, step: str) -> None:
        self._run_id = run_id
        self._step = step
        self._phase: object = None
        self._points: deque[_Point] = deque()

    def take(self, record: Mapping[str, object]) -> Progressed | None:
        """Take a progress object; return what there is to tell, or None if it makes no sense."""
        content_bytes = _count(record.get("content_bytes"))
        stored_bytes = _count(record.get("stored_bytes"))
        total_bytes = _count(record.get("total_bytes"))
        elapsed_s = _seconds(record.get("elapsed_s"))
        if content_bytes is None or stored_bytes is None or elapsed_s is None:
            return None
        point = _Point(elapsed_s, content_bytes, _busy(record.get("busy_s")))
        self._note(point, record.get("phase"))
        first, rate = self._points[0], 0.0
        if point.elapsed_s > first.elapsed_s:
            rate = (content_bytes - first.content_bytes) / (point.elapsed_s - first.elapsed_s)
        left_s = None
        if total_bytes is not None and rate > 0:
            left_s = max(0, total_bytes - content_bytes) / rate
        return Progressed(
            self._run_id, self._step, content_bytes, total_bytes, stored_bytes, rate, left_s,
            self._bottleneck(record.get("threads")),
        )  # fmt: skip

    def _note(self, point: _Point, phase: object) -> None:
        """Add a point, and forget those that are too old, or of another phase."""
        points = self._points
        if points and (
            phase != self._phase
            or point.elapsed_s < points[-1].elapsed_s
            or point.content_bytes < points[-1].content_bytes
        ):
            points.clear()
        self._phase = phase
        points.append(point)
        # The oldest stays outside of the window, so that the rate is over all of it.
        while len(points) > 2 and points[1].elapsed_s <= point.elapsed_s - _WINDOW_S:
            points.popleft()

    def _bottleneck(self, threads: object) -> str:
        """Return the stage that was busiest since the object before, for the threads that it has.

        One thread writes; `threads` read and compress, and are held to a rate.
        """
        if len(self._points) < 2:
            return ""
        before, now = self._points[-2].busy_s, self._points[-1].busy_s
        workers = _count(threads) or 1
        shares = {
            stage: (now[stage] - before[stage]) / (1 if stage == "write" else workers)
            for stage in _STAGES
            if stage in now and stage in before
        }
        busiest = max(shares, key=lambda stage: shares[stage], default="")
        return busiest if busiest and shares[busiest] > 0 else ""


def _count(value: object) -> int | None:
    """Return a number of things, or None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < 1 << 64 else None


def _seconds(value: object) -> float | None:
    """Return a number of seconds, or None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _busy(value: object) -> dict[str, float]:
    """Return those of the stages that something has, with the seconds that they were busy."""
    if not isinstance(value, dict):
        return {}
    seconds = cast(dict[object, object], value)
    found = {stage: _seconds(seconds.get(stage)) for stage in _STAGES}
    return {stage: number for stage, number in found.items() if number is not None}
