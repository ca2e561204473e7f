"""`onggi cat`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ..archive.errors import BadUseError
from ..archive.reader import Archive
from ..archive.store import FileStore, StreamTarget
from ..archive.view import View
from .exits import Exit
from .options import output_options
from .output import OutputOptions, Reporter
from .outputs import stdout_for_bytes
from .session import run_command


@click.command(
    epilog="""\b
Example: onggi cat files.onggi etc/fstab
Exit codes: 0 done, 2 usage, or PATH is no file in the archive, 3 no archive, 4 damaged,
5 ARCHIVE can't be read, 6 standard output can't be written; all: docs/commands.md"""
)
@click.argument("archive", type=click.Path(path_type=Path, readable=False))
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@output_options
def command(archive: Path, paths: tuple[str, ...], quiet: bool, as_json: bool) -> int:
    """Write the bytes of each file PATH in ARCHIVE to standard output.

    Only the frames that hold them are read and decompressed; each is checked by its digest first.
    """
    options = OutputOptions("cat", as_json, quiet, data_on_stdout=True)

    def action(reporter: Reporter) -> int:
        with FileStore(archive) as store:
            view = View(Archive(store))
            entries = [view.entry(os.fsencode(path)) for path in paths]
            for path, entry in zip(paths, entries, strict=True):
                if not entry.is_file:
                    raise BadUseError(f"{path!r} is no file")
            target = StreamTarget(stdout_for_bytes())
            done = 0
            for entry in entries:
                for chunk in view.chunks(entry):
                    target.append([chunk])
                    done += len(chunk)
        if as_json:
            facts = {"content_bytes": done, "elapsed_s": reporter.elapsed_s}
            reporter.result(facts, Exit.OK, [])
        return Exit.OK

    return run_command(options, action)
