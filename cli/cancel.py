"""`onggi cancel`."""

from __future__ import annotations

import click

from ..control.client import Client
from .exits import Exit
from .options import output_options
from .output import OutputOptions, Reporter
from .places import socket_option
from .session import run_command


@click.command(
    epilog="""\b
Example: onggi cancel 17
Exit codes: 0 it ends, 2 usage, or there is no such run, 7 it is over, 8 no server;
all: docs/commands.md"""
)
@click.argument("run", type=click.IntRange(1))
@socket_option
@output_options
def command(run: int, client: Client, quiet: bool, as_json: bool) -> int:
    """End the run RUN; no half-written archive stays."""

    def action(reporter: Reporter) -> int:
        found = client.send("POST", f"/api/runs/{run}/cancel")["run"]
        reporter.result({"run": found}, Exit.OK, [f"run {run} is {found['state']}"])
        return Exit.OK

    return run_command(OutputOptions("cancel", as_json, quiet), action)
