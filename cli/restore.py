"""`onggi restore`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ..archive.errors import BadUseError, SourceError
from ..control.client import Client, part
from .control_text import local_time
from .main import run as run_onggi
from .options import output_options
from .output import OutputOptions, Reporter
from .places import socket_option
from .session import run_command


@click.command(
    epilog="""\b
Example: onggi restore home --at '2026-11-20 12:00' /tmp/home
Exit codes: 2 usage, or there is no such archive, 8 no server, others as of `onggi unpack`;
all: docs/commands.md"""
)
@click.argument("name")
@click.argument("dest", type=click.Path(path_type=Path))
@click.option("--at", metavar="TIME", help="The newest archive that is no younger.  [default: now]")
@click.option("--force", is_flag=True, help="As of `onggi unpack`.")
@socket_option
@output_options
def command(
    name: str, dest: Path, at: str | None, force: bool, client: Client, quiet: bool, as_json: bool
) -> int:
    """Restore an archive of the plan NAME to DEST, as `onggi unpack` does."""
    chosen: list[str] = []

    def choose(reporter: Reporter) -> int:
        archives = client.get(f"/api/plans/{part(name)}/archives")["archives"]
        archive = _choose(name, archives, None if at is None else _time(at))
        facts = {"archive": archive["path"], "made_s": archive["made_s"]}
        reporter.note("archive", facts, f"{archive['path']}, of {local_time(archive['made_s'])}")
        chosen.append(archive["path"])
        return 0

    code = run_command(OutputOptions("restore", as_json, quiet), choose)
    if code or not chosen:
        return code
    words = ["unpack", chosen[0], str(dest)]
    words += ["--force"] * force + ["--json"] * as_json + ["--quiet"] * quiet
    return run_onggi(words)


def _choose(
    name: str, archives: Sequence[Mapping[str, Any]], at_s: float | None
) -> Mapping[str, Any]:
    """Return the newest archive that is there and not younger than a time."""
    old = [each for each in archives if at_s is None or each["made_s"] <= at_s]
    if not old:
        if not archives:
            raise BadUseError(f"{name} has no archive yet")
        first = local_time(archives[-1]["made_s"])
        raise BadUseError(f"{name} has no archive that old; the oldest is of {first}")
    for each in old:
        if each["exists"]:
            return each
    raise SourceError(f"{old[0]['path']} is not there; is its target mounted?")


def _time(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise BadUseError(f"{text!r} is no time; write 2026-11-20 or '2026-11-20 12:00'") from None
