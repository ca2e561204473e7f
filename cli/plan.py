"""`onggi plan` and what is below it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import click

from ..archive.errors import SourceError
from ..control.client import Client, part
from ..control.plan import MODES, Verify, VerifyBy
from .control_text import change_lines, local_time, plan_lines, table
from .exits import Exit
from .options import output_options, size
from .output import OutputOptions, Reporter
from .places import control_extra, socket_option
from .session import run_command

_Function = TypeVar("_Function", bound=Callable[..., Any])
_KEEPS = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
_CODES = "Exit codes: 0 done, 2 it can't be, 7 refused, 8 no server; all: docs/commands.md"


@click.group(
    epilog="Example: onggi plan add home /home /backup --every 1d --at 02:30 --keep-daily 14"
)
def command() -> None:
    """Say what is packed when, and what is kept."""


def _plan_options(function: _Function) -> _Function:
    """Add an option for each field of a plan; those that are not given are None."""
    options = [
        click.option("--mode", type=click.Choice(MODES), help="Its files, or the volume."),
        click.option("--every", metavar="TIME", help="6h, 3d or 2w."),
        click.option("--at", metavar="HH:MM", help="When those of days and weeks start."),
        click.option("--cron", metavar="FIELDS", help="Five fields as in crontab(5)."),
        click.option("--timezone", metavar="ZONE", help="Of these times.  [default: ours]"),
        click.option("--keep", "keep_last", type=click.IntRange(0), metavar="N",
                     help="Keep the newest N archives."),
        *(
            click.option(f"--keep-{name}", type=click.IntRange(0), metavar="N",
                         help=f"Keep the newest archive of each of N {name} periods.")
            for name in _KEEPS[1:]
        ),
        click.option("--keep-within", "keep_within_days", type=click.IntRange(0), metavar="DAYS",
                     help="Keep what is no older."),
        click.option("--verify", type=click.Choice(_words(Verify)),
                     help="When archives are proven."),
        click.option("--verify-by", type=click.Choice(_words(VerifyBy)),
                     help="Their digests, the source, or a restore compared with it."),
        click.option("--window", metavar="HH:MM-HH:MM", help="When it may run."),
        click.option("--retries", type=click.IntRange(0), metavar="N", help="After a failure."),
        click.option("--limit", "limit_bytes_per_s", type=size, metavar="SIZE",
                     help="Read so many bytes a second."),
        click.option("--nice/--no-nice", default=None, help="Stand back behind other processes."),
        click.option("--level", type=click.IntRange(1, 19), help="zstd level."),
        click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out what matches."),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def _words(kind: type[StrEnum]) -> list[str]:
    return [each.value for each in kind]  # of an enum itself, click would take the names


def _fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a plan that were given on the command line."""
    fields = {key: value for key, value in given.items() if value is not None}
    if not fields.get("exclude"):
        fields.pop("exclude", None)
    else:
        fields["exclude"] = list(fields["exclude"])
    keep = {
        key.removeprefix("keep_"): fields.pop(key)
        for key in list(fields)
        if key.startswith("keep_")
    }
    if keep:
        fields["keep"] = keep
    return fields


@command.command(
    "add", epilog=f"Example: onggi plan add disk /dev/sdb /backup --every 3d\n\n{_CODES}"
)
@click.argument("name")
@click.argument("source", type=click.Path())
@click.argument("target", type=click.Path())
@_plan_options
@socket_option
@output_options
def add(
    name: str, source: str, target: str, client: Client, quiet: bool, as_json: bool, **given: Any
) -> int:
    """Make the plan NAME: pack SOURCE into archives in the folder TARGET."""

    def action(reporter: Reporter) -> int:
        fields = {"timezone": _this_timezone(), **_fields(given)}
        fields |= {"name": name, "source": _absolute(source), "target": _absolute(target)}
        plan = client.send("POST", "/api/plans", fields)["plan"]
        reporter.result({"plan": plan}, Exit.OK, plan_lines(plan))
        return Exit.OK

    return run_command(OutputOptions("plan add", as_json, quiet), action)


@command.command("edit", epilog=f"Example: onggi plan edit disk --every 1w\n\n{_CODES}")
@click.argument("name")
@click.option("--source", type=click.Path(), help="Another source.")
@click.option(
    "--target", type=click.Path(), help="Another target; its archives stay where they are."
)
@_plan_options
@socket_option
@output_options
def edit(
    name: str, source: str | None, target: str | None, client: Client, quiet: bool,
    as_json: bool, **given: Any,
) -> int:  # fmt: skip
    """Change what is given of the plan NAME."""

    def action(reporter: Reporter) -> int:
        fields = _fields(given)
        if source is not None:
            fields["source"] = _absolute(source)
        if target is not None:
            fields["target"] = _absolute(target)
        if "keep" in fields:
            old = client.get(f"/api/plans/{part(name)}")["plan"]
            fields["keep"] = old["keep"] | fields["keep"]
        plan = client.send("PUT", f"/api/plans/{part(name)}", fields)["plan"]
        reporter.result({"plan": plan}, Exit.OK, plan_lines(plan))
        return Exit.OK

    return run_command(OutputOptions("plan edit", as_json, quiet), action)


@command.command("ls", epilog=f"Example: onggi plan ls\n\n{_CODES}")
@socket_option
@output_options
def ls(client: Client, quiet: bool, as_json: bool) -> int:
    """List the plans."""

    def action(reporter: Reporter) -> int:
        plans = client.get("/api/plans")["plans"]
        rows = [
            [
                plan["name"], plan["source"], plan["target"], _when(plan),
                "paused" if plan["is_paused"] else "",
            ]
            for plan in plans
        ]  # fmt: skip
        lines = table(["plan", "source", "target", "when", ""], rows)
        reporter.result({"plans": plans}, Exit.OK, lines if plans else ["there is no plan yet"])
        return Exit.OK

    return run_command(OutputOptions("plan ls", as_json, quiet), action)


@command.command("show", epilog=f"Example: onggi plan show disk\n\n{_CODES}")
@click.argument("name")
@socket_option
@output_options
def show(name: str, client: Client, quiet: bool, as_json: bool) -> int:
    """Tell all of the plan NAME, and its archives."""

    def action(reporter: Reporter) -> int:
        plan = client.get(f"/api/plans/{part(name)}")["plan"]
        archives = client.get(f"/api/plans/{part(name)}/archives")["archives"]
        lines = plan_lines(plan)
        for archive in archives:
            proven = "verified" if archive["is_verified"] else "not verified"
            there = "" if archive["exists"] else ", not there"
            lines.append(f"  {local_time(archive['made_s'])}  {archive['path']}  {proven}{there}")
        reporter.result({"plan": plan, "archives": archives}, Exit.OK, lines)
        return Exit.OK

    return run_command(OutputOptions("plan show", as_json, quiet), action)


@command.command("rm", epilog=f"Example: onggi plan rm disk\n\n{_CODES}")
@click.argument("name")
@socket_option
@output_options
def rm(name: str, client: Client, quiet: bool, as_json: bool) -> int:
    """Remove the plan NAME; its archives and its history stay."""

    def action(reporter: Reporter) -> int:
        client.send("DELETE", f"/api/plans/{part(name)}")
        reporter.result({"plan": name}, Exit.OK, [f"{name} is removed; its archives are not"])
        return Exit.OK

    return run_command(OutputOptions("plan rm", as_json, quiet), action)


@command.command("pause", epilog=f"Example: onggi plan pause disk\n\n{_CODES}")
@click.argument("name")
@socket_option
@output_options
def pause(name: str, client: Client, quiet: bool, as_json: bool) -> int:
    """Have the plan NAME start nothing by itself."""
    return _pause(name, "pause", client, OutputOptions("plan pause", as_json, quiet))


@command.command("resume", epilog=f"Example: onggi plan resume disk\n\n{_CODES}")
@click.argument("name")
@socket_option
@output_options
def resume(name: str, client: Client, quiet: bool, as_json: bool) -> int:
    """Have the plan NAME start by itself again; what it missed is not made up."""
    return _pause(name, "resume", client, OutputOptions("plan resume", as_json, quiet))


def _pause(name: str, word: str, client: Client, options: OutputOptions) -> int:
    def action(reporter: Reporter) -> int:
        plan = client.send("POST", f"/api/plans/{part(name)}/{word}")["plan"]
        reporter.result({"plan": plan}, Exit.OK, [f"{name} is {word}d"])
        return Exit.OK

    return run_command(options, action)


@command.command("apply", epilog=f"Example: onggi plan apply plans.toml --dry-run\n\n{_CODES}")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--dry-run", "-n", is_flag=True, help="Only tell what it would change.")
@socket_option
@output_options
def apply(file: Path, dry_run: bool, client: Client, quiet: bool, as_json: bool) -> int:
    """Make the plans what FILE says; those that it does not name are removed.

    docs/plans.toml explains the file.
    """

    def action(reporter: Reporter) -> int:
        with control_extra():
            from ..control.plan_file import read_plan_file

        wanted = read_plan_file(_read(file))
        body = {
            "plans": [plan.as_dict() for plan in wanted.plans],
            "notify": wanted.notify.as_dict(),
            "dry_run": dry_run,
        }
        changes = client.send("POST", "/api/apply", body)["changes"]
        reporter.result({"changes": changes, "dry_run": dry_run}, Exit.OK, change_lines(changes))
        return Exit.OK

    return run_command(OutputOptions("plan apply", as_json, quiet), action)


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text()
    except (OSError, ValueError) as error:
        raise SourceError(f"can't read {file}: {error}") from None


def _absolute(path: str) -> str:
    return str(Path(path).absolute())


def _this_timezone() -> str:
    with control_extra():
        from tzlocal import get_localzone_name

    return str(get_localzone_name())


def _when(plan: Mapping[str, Any]) -> str:
    if plan["cron"]:
        return f"cron {plan['cron']}"
    if not plan["every"]:
        return "when asked"
    at = "" if plan["every"].endswith("h") else f" at {plan['at']}"
    return f"every {plan['every']}{at}"
