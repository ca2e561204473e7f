"""`onggi diff`."""

from __future__ import annotations

from pathlib import Path

import click

from ..archive.compare import compare
from ..archive.reader import Archive
from ..archive.sides import ArchiveSide
from ..archive.store import FileStore
from ..archive.view import View
from .exits import Exit
from .options import output_options, threads_option
from .output import OutputOptions, Reporter
from .session import run_command


@click.command(
    epilog="""\b
Example: onggi diff monday.onggi tuesday.onggi
Exit codes: 0 the same, 1 they differ, 2 usage, 3 no archive, 4 damaged,
5 an archive can't be read; all: docs/commands.md"""
)
@click.argument("archive", type=click.Path(path_type=Path, readable=False))
@click.argument("other", type=click.Path(path_type=Path, readable=False))
@threads_option("Comparers.")
@output_options
def command(archive: Path, other: Path, threads: int, quiet: bool, as_json: bool) -> int:
    """Tell how the tree in OTHER differs from that in ARCHIVE.

    A finding for each path that is missing, is new, or differs: in type, metadata or bytes.
    """
    options = OutputOptions("diff", as_json, quiet)

    def action(reporter: Reporter) -> int:
        with FileStore(archive) as one, FileStore(other) as two:
            compared = compare(
                ArchiveSide(View(Archive(one))), ArchiveSide(View(Archive(two))), threads=threads,
                found=reporter.finding, report=reporter.progress,
            )  # fmt: skip
        code = Exit.OK if compared.is_same else Exit.FINDINGS
        facts = {
            "archive": str(archive),
            "other": str(other),
            "entries": compared.entries,
            "content_bytes": compared.content_bytes,
            "missing": compared.missing,
            "new": compared.new,
            "differing": compared.differing,
            "elapsed_s": reporter.elapsed_s,
            "findings": reporter.findings,
        }
        line = f"{other}: the same as {archive} ({compared.entries:,} entries)"
        if not compared.is_same:
            line = (
                f"{other}: missing: {compared.missing}, new: {compared.new}, "
                f"differing: {compared.differing}"
            )
        reporter.result(facts, code, [line])
        return code

    return run_command(options, action, threads)
