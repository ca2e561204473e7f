"""Plans, runs and changes as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from .text import human

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


def local_time(seconds: float | None) -> str:
    """Return a time for people, in the zone of this machine; `-` for none."""
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def span(seconds: float | None) -> str:
    """Return a length of time for people: `3 d 4 h`; `-` for none."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // 60} min"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S} h {whole % _HOUR_S // 60} min"
    return f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S} h"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of columns that stand below each other."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]


def plan_lines(plan: Mapping[str, Any]) -> list[str]:
    """Return a plan as lines: what is not as usual, and what is most asked for."""
    when = f"every {plan['every']} at {plan['at']}" if plan["every"] else f"cron {plan['cron']}"
    if plan["every"].endswith("h"):
        when = f"every {plan['every']}"
    if not plan["every"] and not plan["cron"]:
        when = "when asked"
    else:
        when += f" ({plan['timezone']})"
    keep = ", ".join(f"{count} {name}" for name, count in plan["keep"].items() if count)
    lines = [
        f"{plan['name']}: {plan['source']} -> {plan['target']}/{plan['name']}/",
        f"  when    {when}{', paused' if plan['is_paused'] else ''}",
        f"  keep    {keep.replace('_', ' ') or 'all'}",
        f"  verify  {plan['verify']}, by {plan['verify_by']}",
    ]
    if plan["window"]:
        lines.append(f"  window  {plan['window']}")
    if plan["limit_bytes_per_s"]:
        lines.append(f"  limit   {human(plan['limit_bytes_per_s'])}/s")
    if plan["exclude"]:
        lines.append(f"  exclude {' '.join(plan['exclude'])}")
    return lines


def change_lines(changes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what a file of plans changes, as lines."""
    lines: list[str] = []
    for change in changes:
        sign = {"add": "+", "remove": "-"}.get(change["kind"], "~")
        lines.append(f"{sign} {change['name']}")
        if change["kind"] != "remove":
            lines += [f"    {field}: {old!r} -> {new!r}" for field, old, new in change["fields"]]
    return lines or ["nothing changes"]


def run_line(run: Mapping[str, Any]) -> list[str]:
    """Return the cells of a run: number, plan, kind, state, when, how long, size, message."""
    took = None
    if run["started_s"] is not None and run["ended_s"] is not None:
        took = run["ended_s"] - run["started_s"]
    return [
        str(run["run_id"]), run["plan"], run["kind"], run["state"],
        local_time(run["started_s"] or run["due_s"]), span(took),
        human(run["archive_bytes"]) if run["archive_bytes"] else "-", run["message"],
    ]  # fmt: skip


RUN_HEADER = ["run", "plan", "kind", "state", "when", "took", "size", "message"]
