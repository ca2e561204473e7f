"""`onggi run`."""

from __future__ import annotations

import time
from typing import Any

import click

from ..control.client import Client, part
from .control_text import local_time
from .exits import Exit
from .options import output_options
from .output import OutputOptions, Reporter
from .places import socket_option
from .session import run_command

_AT_FIRST_S, _EVERY_S = 0.05, 0.5


@click.command(
    epilog="""\b
Example: onggi run disk --wait
Exit codes: 0 done, 1 with --wait: it has not succeeded, 2 usage, or there is no such plan,
7 refused, 8 no server; all: docs/commands.md"""
)
@click.argument("name")
@click.option(
    "--verify", "what", flag_value="verify", help="Prove its newest archive right instead."
)
@click.option(
    "--prune", "what", flag_value="prune", help="Remove archives that no rule keeps instead."
)
@click.option("--dry-run", "-n", is_flag=True, help="With --prune: only tell what it would remove.")
@click.option("--wait", is_flag=True, help="Return when it is over.")
@socket_option
@output_options
def command(
    name: str, what: str | None, dry_run: bool, wait: bool, client: Client, quiet: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Run the plan NAME now."""
    if dry_run and what != "prune":
        raise click.UsageError("--dry-run goes with --prune")

    def action(reporter: Reporter) -> int:
        answer = client.send(
            "POST", f"/api/plans/{part(name)}/{what or 'run'}",
            {"dry_run": dry_run} if what == "prune" else None,
        )  # fmt: skip
        run, lines = answer["run"], _decisions(answer, dry_run)
        if run is None:
            reporter.result(answer, Exit.OK, lines or ["there is nothing to remove"])
            return Exit.OK
        lines.append(f"run {run['run_id']} of {name}; `onggi logs {run['run_id']}` tells more")
        if wait:
            pause_s = _AT_FIRST_S
            while run["ended_s"] is None:
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _EVERY_S)
                run = client.get(f"/api/runs/{run['run_id']}")["run"]
            text = f": {run['message']}" if run["message"] else ""
            lines.append(f"{run['state']}{text}")
        is_bad = wait and run["state"] not in ("succeeded", "warned")
        code = Exit.FINDINGS if is_bad else Exit.OK
        reporter.result({**answer, "run": run}, code, lines)
        return code

    return run_command(OutputOptions("run", as_json, quiet), action)


def _decisions(answer: dict[str, Any], dry_run: bool) -> list[str]:
    """Return which archives stay, and why, and which go."""
    if not dry_run:
        return []
    return [
        f"{'keep  ' if each['rules'] else 'remove'}  {local_time(each['made_s'])}  {each['path']}"
        f"{'  (' + ', '.join(each['rules']) + ')' if each['rules'] else ''}"
        for each in answer.get("decisions", [])
    ]
