"""Draw line charts as SVG text, without any dependency.

Owns geometry and looks. Pure: numbers in, text out. The colours differ in lightness too, so that a
chart is readable in grey and by the colour-blind.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from html import escape

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
_WIDTH, _HEIGHT = 460, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 18, 44, 52
_TICKS = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One line: a value for each place on the x axis, with the range it was seen in."""

    label: str
    values: tuple[float, ...]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Panel:
    """One chart. Places on the x axis are evenly spaced; the y axis starts at 0."""

    title: str
    x_label: str
    y_label: str
    places: tuple[str, ...]
    lines: tuple[Line, ...]


def nice_step(highest: float, ticks: int = _TICKS) -> float:
    """Return a round step (1, 2, 2.5 or 5 x 10^n) that reaches `highest` in `ticks` steps."""
    if highest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(highest / ticks))
    return next(f * power for f in (1, 2, 2.5, 5, 10) if f * power * ticks >= highest * (1 - 1e-9))


def draw(panels: Sequence[Panel]) -> str:
    """Return an SVG document with the panels side by side."""
    width = _WIDTH * len(panels)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" '
        f'width="{width}" height="{_HEIGHT}" font-family="sans-serif" font-size="12">'
    )
    parts = [head, f'<rect width="{width}" height="{_HEIGHT}" fill="#fff"/>']
    for number, panel in enumerate(panels):
        parts.append(f'<g transform="translate({number * _WIDTH} 0)">')
        parts += _panel(panel)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel) -> list[str]:
    step = nice_step(max(value for line in panel.lines for value in line.highest))
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    gap = inner_width / max(1, len(panel.places) - 1)

    def x_of(place: int) -> float:
        return _LEFT + place * gap

    def y_of(value: float) -> float:
        return _TOP + inner_height * (1 - value / (step * _TICKS))

    parts = [_text(_WIDTH / 2, 18, panel.title, weight="bold")]
    for tick in range(_TICKS + 1):
        y = y_of(tick * step)
        parts.append(_stroke(_LEFT, y, _WIDTH - _RIGHT, y, "#ddd"))
        parts.append(_text(_LEFT - 6, y + 4, f"{tick * step:g}", anchor="end"))
    for place, name in enumerate(panel.places):
        parts.append(_text(x_of(place), _HEIGHT - _BOTTOM + 17, name))
    parts.append(_text(_LEFT + inner_width / 2, _HEIGHT - 14, panel.x_label))
    middle = _TOP + inner_height / 2
    parts.append(
        f'<text transform="translate(15 {middle:.1f}) rotate(-90)" text-anchor="middle">'
        f"{escape(panel.y_label)}</text>"
    )
    for number, line in enumerate(panel.lines):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [(x_of(place), y_of(value)) for place, value in enumerate(line.values)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for (x, y), low, high in zip(points, line.lowest, line.highest, strict=True):
            parts.append(_stroke(x, y_of(low), x, y_of(high), colour))
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
        left = _LEFT + number * inner_width / len(panel.lines)
        parts.append(_stroke(left, 32, left + 18, 32, colour, 3))
        parts.append(_text(left + 23, 36, line.label, anchor="start"))
    return parts


def _text(x: float, y: float, text: str, anchor: str = "middle", weight: str = "normal") -> str:
    style = f'text-anchor="{anchor}" font-weight="{weight}" fill="#222"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _stroke(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width:g}"/>'
