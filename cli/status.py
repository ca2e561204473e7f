"""`onggi status`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import click

from ..control.client import Client
from ..control.errors import NotFoundError
from .control_text import local_time, span, table
from .exits import Exit
from .options import output_options
from .output import OutputOptions, Reporter
from .places import socket_option
from .session import run_command
from .text import human

_EVERY_S = 1.0
_STAGES = {
    "read": "reading", "compress": "compressing", "write": "writing", "held": "its limit",
}  # fmt: skip
_HEADER = ["plan", "last success", "age", "next run", "archives", "state"]


@click.command(
    epilog="""\b
Example: onggi status --watch
Exit codes: 0 all is well, 1 a plan's last backup failed or was lost, 2 usage, or there is
no such plan, 8 no server; all: docs/commands.md"""
)
@click.argument("names", nargs=-1, metavar="[PLAN]...")
@click.option("--watch", "-w", is_flag=True, help="Go on telling, until Ctrl-C.")
@socket_option
@output_options
def command(names: tuple[str, ...], watch: bool, client: Client, quiet: bool, as_json: bool) -> int:
    """Tell of each plan when it last succeeded, when it runs next, and how far it is."""

    def action(reporter: Reporter) -> int:
        if watch and not as_json:
            _watch(client, names)
        status = _ask(client, names)
        bad = any(volume["failures"] for volume in status["volumes"])
        code = Exit.FINDINGS if bad else Exit.OK
        reporter.result(status, code, _lines(status))
        return code

    return run_command(OutputOptions("status", as_json, quiet), action)


def _ask(client: Client, names: tuple[str, ...]) -> dict[str, Any]:
    status = client.get("/api/status")
    known = {volume["plan"] for volume in status["volumes"]}
    for name in names:
        if name not in known:
            raise NotFoundError(f"there is no plan {name!r}; `onggi plan ls` lists them")
    if names:
        status["volumes"] = [each for each in status["volumes"] if each["plan"] in names]
    return status


def _watch(client: Client, names: tuple[str, ...]) -> None:
    """Show it again every second; ends with the exception that Ctrl-C is."""
    from rich.console import Console  # takes a while to import
    from rich.live import Live
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False)
    with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while True:
            lines = _lines(_ask(client, names))
            if console.is_terminal and len(lines) > console.height - 1:
                hidden = len(lines) - console.height + 2
                lines = [*lines[: console.height - 2], f"... and {hidden} more; name some plans"]
            live.update(Text("\n".join(lines), no_wrap=True, overflow="ellipsis"), refresh=True)
            time.sleep(_EVERY_S)


def _lines(status: Mapping[str, Any]) -> list[str]:
    volumes = status["volumes"]
    if not volumes:
        return ["there is no plan yet; make one: onggi plan add NAME SOURCE TARGET --every 1d"]
    rows = [
        [
            volume["plan"], local_time(volume["last_success_s"]), span(volume["age_s"]),
            _next(volume), str(volume["archives"]), _state(volume),
        ]
        for volume in volumes
    ]  # fmt: skip
    return table(_HEADER, rows)


def _next(volume: Mapping[str, Any]) -> str:
    if volume["is_paused"]:
        return "paused"
    return local_time(volume["next_due_s"])


def _state(volume: Mapping[str, Any]) -> str:
    run, last = volume["run"], volume["last"]
    if run is not None and run["state"] != "pending":
        return f"{run['state']} {run['run_id']}: {_progress(run, volume['progress'])}"
    text = "never ran"
    if last is not None:
        text = f"{last['state']}{': ' + last['message'] if last['message'] else ''}"
    if volume["failures"] > 1:
        text += f" ({volume['failures']} times in a row)"
    return f"{text}; run {run['run_id']} waits" if run is not None else text


def _progress(run: Mapping[str, Any], progress: Mapping[str, Any] | None) -> str:
    if progress is None:
        return str(run["kind"])
    done, total = progress["content_bytes"], progress["total_bytes"]
    parts = [progress["step"]]
    parts.append(f"{100 * done / total:.0f} %" if total else human(done))
    if progress["bytes_per_s"]:
        parts.append(f"{human(int(progress['bytes_per_s']))}/s")
    if progress["left_s"] is not None:
        parts.append(f"{span(progress['left_s'])} left")
    if progress["bottleneck"]:
        parts.append(f"held up by {_STAGES[progress['bottleneck']]}")
    return ", ".join(parts)
