"""`onggi umount`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import click

from ..archive.errors import BadUseError, StoreError
from ..fuse.mounts import mounts_on
from .exits import Exit
from .options import output_options
from .output import OutputOptions, Reporter
from .session import run_command


@click.command(
    epilog="""\b
Example: onggi umount /mnt
Exit codes: 0 unmounted, 2 usage, or DIR is no mount, 6 it is in use, or can't be unmounted;
all: docs/commands.md"""
)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, readable=False))
@click.option("--lazy", "-z", is_flag=True, help="Now, even if it is in use; the rest follows.")
@output_options
def command(folder: Path, lazy: bool, quiet: bool, as_json: bool) -> int:
    """Unmount what `onggi mount` mounted on the folder DIR."""
    options = OutputOptions("umount", as_json, quiet)

    def action(reporter: Reporter) -> int:
        place = os.path.realpath(folder)
        # Also one whose process has died.
        if all(mounted.kind != b"fuse.onggi" for mounted in mounts_on(place)):
            raise BadUseError(f"nothing of Onggi is mounted on {folder}")
        program = shutil.which("fusermount3") if os.geteuid() else None
        words = [program, "-u"] if program else ["umount"]
        done = subprocess.run(
            [*words, *(["-z" if program else "-l"] if lazy else []), "--", place],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            raise StoreError(f"can't unmount {folder}: {said}")
        reporter.result({"folder": place}, Exit.OK, [])
        return Exit.OK

    return run_command(options, action)
