"""Sizes, shares and rates as people read them."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def printable(line: str) -> str:
    """Return a line without characters that would steer a terminal or can't be encoded."""
    if line.isprintable():  # as nearly all are, and this is quick
        return line
    return "".join(char if char.isprintable() else "?" for char in line)


def human(size: int) -> str:
    """Return a size in bytes for people: `1.5 GiB`."""
    amount, unit = float(size), 0
    while amount >= 1023.95 and unit < len(_UNITS) - 1:
        amount /= 1024
        unit += 1
    return f"{size} B" if not unit else f"{amount:.1f} {_UNITS[unit]}"


def share(part: int, whole: int) -> str:
    """Return a share for people: `41.3 %`."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def rate(size: int, seconds: float) -> str:
    """Return a rate for people: `212.4 MiB/s`."""
    return f"{human(int(size / seconds))}/s" if seconds > 0 else "-"
