"""`onggi logs`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from ..control.client import Client
from .exits import Exit
from .options import output_options
from .output import OutputOptions, Reporter
from .places import socket_option
from .session import run_command
from .text import human, share

_EVERY_S = 1.0
_KNOWN = ("time_s", "step", "stream")


@click.command(
    epilog="""\b
Example: onggi logs 17 --follow
Exit codes: 0 done, 2 usage, or there is no such run, 8 no server; all: docs/commands.md"""
)
@click.argument("run", type=click.IntRange(1))
@click.option("--follow", "-f", is_flag=True, help="Until the run is over.")
@socket_option
@output_options
def command(run: int, follow: bool, client: Client, quiet: bool, as_json: bool) -> int:
    """Print what the work of the run RUN told."""

    def action(reporter: Reporter) -> int:
        start = 0
        while True:
            is_over = client.get(f"/api/runs/{run}")["run"]["ended_s"] is not None
            while True:
                found = client.get(f"/api/runs/{run}/log", **{"from": start})
                for line in found["lines"]:
                    # Whole, as it may be a result, with a type of its own.
                    reporter.item("log", {"line": line}, _text(line))
                if found["next"] == start:
                    break
                start = found["next"]
            if is_over or not follow:
                return Exit.OK
            time.sleep(_EVERY_S)

    return run_command(OutputOptions("logs", as_json, quiet), action)


def _text(line: Mapping[str, Any]) -> str:
    at = datetime.fromtimestamp(line["time_s"]).strftime("%Y-%m-%d %H:%M:%S")
    said = line["text"] if "text" in line else _event(line)
    return f"{at}  {line.get('step', ''):8}{said}"


def _event(event: Mapping[str, Any]) -> str:
    """Return what a command told, for people."""
    kind = event.get("type")
    if kind == "progress":
        done, total = event["content_bytes"], event["total_bytes"]
        return f"{share(done, total)} of {human(total)}" if total else human(done)
    if kind == "finding":
        return f"{event['severity']}: {event['message']}"
    if kind == "error":
        return f"{event['message']} (exit code {event['exit_code']})"
    if kind == "result":
        sizes = [
            f"{word.removesuffix('_bytes')} {human(event[word])}"
            for word in ("content_bytes", "archive_bytes")
            if event.get(word)
        ]
        return ", ".join(["done", *sizes, f"{event['elapsed_s']} s"])
    return json.dumps({key: value for key, value in event.items() if key not in _KNOWN})
