"""The command `onggi`: finds the command, runs it, turns what comes out into an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, NoReturn

import click

from onggi import __version__

_COMMANDS = {
    "pack": "Pack a volume, or files and folders, into an archive.",
    "unpack": "Restore what is in an archive, or parts of it.",
    "verify": "Prove that an archive is whole, and is what its source is.",
    "info": "Tell what an archive is.",
    "ls": "List the files in an archive.",
    "cat": "Write a file in an archive to standard output.",
    "diff": "Tell how the trees in two archives differ.",
    "mount": "Show an archive, or a folder of them, as a file system.",
    "umount": "Unmount what was mounted.",
    "plan": "Say what is packed when, and what is kept.",
    "serve": "Run what is due, and answer those who ask.",
    "run": "Run a plan now, or verify or prune its archives.",
    "cancel": "End a run.",
    "status": "Tell how all volumes are.",
    "history": "List runs.",
    "logs": "Print the log of a run.",
    "restore": "Restore an archive of a plan.",
}


class _Commands(click.Group):
    """Imports a command only when it is used, so that `--version` and `--help` are quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, or None if there is none of that name."""
        if cmd_name not in _COMMANDS:
            return None
        command = importlib.import_module(f".{cmd_name}", __package__).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_Commands,
    epilog="Exit codes and JSON: docs/commands.md. Example: onggi pack /dev/sdb1 sdb1.onggi",
)
@click.version_option(__version__, prog_name="onggi", message="%(prog)s %(version)s")
def cli() -> None:
    """Backup archives that you can mount: pack, unpack, verify, look inside."""


def main() -> NoReturn:
    """Run the command line of this process, and end it."""
    _fill_standard_streams()
    code = run(sys.argv[1:])
    try:
        if sys.stdout is not None:  # pyright: ignore[reportUnnecessaryComparison]
            sys.stdout.flush()
    except OSError:
        # What a reader did not want, or a full disk could not take, was told by now or is nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = code or 6
    sys.exit(code)


def _fill_standard_streams() -> None:
    """Open those of the descriptors 0, 1 and 2 that are closed, so that no file of ours gets one.

    `sys.stdin` and the like stay None for them, which is how commands know.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def run(arguments: list[str]) -> int:
    """Run one command; return its exit code. Writes one line to standard error if it fails."""
    try:
        result: Any = cli.main(arguments, prog_name="onggi", standalone_mode=False)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "onggi"
        print(f"onggi: {error.format_message()} (see `{path} --help`)", file=sys.stderr)
        return 2
    return int(result or 0)
