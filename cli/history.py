"""`onggi history`."""

from __future__ import annotations

import click

from ..control.client import Client, part
from .control_text import RUN_HEADER, run_line, table
from .exits import Exit
from .options import output_options
from .output import OutputOptions, Reporter
from .places import socket_option
from .session import run_command


@click.command(
    epilog="""\b
Example: onggi history disk --failed
Exit codes: 0 done, 2 usage, or there is no such plan, 8 no server; all: docs/commands.md"""
)
@click.argument("name", required=False)
@click.option("--failed", is_flag=True, help="Only what failed, was missed or lost.")
@click.option("--limit", "-n", type=click.IntRange(1, 1000), default=30, show_default=True,
              help="At most so many, the newest.")  # fmt: skip
@socket_option
@output_options
def command(
    name: str | None, failed: bool, limit: int, client: Client, quiet: bool, as_json: bool
) -> int:
    """List runs, the newest first: of the plan NAME, or of all."""

    def action(reporter: Reporter) -> int:
        asked = {"plan": name, "failed": 1 if failed else None, "limit": limit}
        runs = client.get("/api/runs", **asked)["runs"]
        if name and not runs:
            client.get(f"/api/plans/{part(name)}")  # says so if there is none
        lines = table(RUN_HEADER, [run_line(run) for run in runs]) if runs else ["no runs"]
        reporter.result({"runs": runs}, Exit.OK, lines)
        return Exit.OK

    return run_command(OutputOptions("history", as_json, quiet), action)
