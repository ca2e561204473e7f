"""`onggi verify`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from ..archive import layout
from ..archive.compare import compare
from ..archive.errors import BadUseError, DamagedError, Finding, Severity
from ..archive.reader import read_header
from ..archive.selection import TreeOptions
from ..archive.sides import ArchiveSide, LiveSide
from ..archive.source import open_source
from ..archive.store import FileStore
from ..archive.tree_writer import TreeSource
from ..archive.verify import Level, Verified, verify
from ..archive.view import View
from .exits import Exit
from .options import output_options, read_excludes, threads_option, tree_options
from .output import OutputOptions, Reporter
from .session import run_command
from .text import human, rate
from .volume_map import MapBuilder, print_map


@click.command(
    epilog="""\b
Example: onggi verify sdb1.onggi --against /dev/sdb1
         onggi verify files.onggi --against ~/photos
Exit codes: 0 whole, 1 whole but the source differs or warnings, 2 usage, 3 no archive,
4 damaged, 5 can't be read; all: docs/commands.md"""
)
@click.argument("archive", type=click.Path(path_type=Path, readable=False))
@click.option("--level", type=click.Choice([str(level) for level in Level]), default="content",
              show_default=True,
              help="The records; also the stored bytes; also what they decompress to.")  # fmt: skip
@click.option("--against", metavar="SOURCE", multiple=True,
              help="Compare with a device, a file, - for standard input, or a folder; "
                   "as often as there were SOURCEs.")  # fmt: skip
@tree_options
@click.option("--map", "show_map", is_flag=True, help="Show where the damage is.")
@threads_option("Checkers.")
@output_options
def command(
    archive: Path,
    level: str,
    against: tuple[str, ...],
    patterns: tuple[str, ...],
    pattern_files: tuple[str, ...],
    exclude_caches: bool,
    one_file_system: bool,
    show_map: bool,
    threads: int,
    quiet: bool,
    as_json: bool,
) -> int:
    """Prove that ARCHIVE is whole. Every finding is told, not only the first."""
    options = OutputOptions("verify", as_json, quiet)

    def action(reporter: Reporter) -> int:
        builder = MapBuilder()

        def found(finding: Finding) -> None:
            builder.note(finding)
            reporter.finding(finding)

        selected = TreeOptions(
            read_excludes(patterns, pattern_files), exclude_caches, one_file_system
        )
        with FileStore(archive) as store:
            is_tree = _kind(store) == layout.KIND_TREE
            source = open_source(_only(against)) if against and not is_tree else None
            try:
                result = verify(
                    store, Level(level), threads=threads, against=source, found=found,
                    report=reporter.progress,
                )  # fmt: skip
            finally:
                if source is not None:
                    source.close()
            if against and is_tree and result.archive is not None and result.is_whole:
                _against_tree(result, against, selected, threads, found, reporter)
            code = _exit_code(result)
            if show_map:
                print_map(reporter, store, builder)
            _tell(reporter, archive, level, against, result, code)
        return code

    return run_command(options, action, threads)


def _kind(store: FileStore) -> int:
    """Return the kind of an archive; that of a volume where its header is damaged."""
    try:
        return read_header(store).kind
    except DamagedError:
        return layout.KIND_VOLUME


def _only(against: tuple[str, ...]) -> str:
    if len(against) > 1:
        raise BadUseError("a volume is compared with one SOURCE")
    return next(iter(against))


def _against_tree(
    result: Verified,
    against: tuple[str, ...],
    selected: TreeOptions,
    threads: int,
    found: Callable[[Finding], None],
    reporter: Reporter,
) -> None:
    """Compare an archive that is whole with the folders that it was made from."""
    assert result.archive is not None

    def count(finding: Finding) -> None:
        result.findings[finding.severity] += 1
        found(finding)

    with TreeSource(against) as source:
        compare(
            ArchiveSide(View(result.archive)), LiveSide(source, selected), threads=threads,
            found=count, report=reporter.progress,
        )  # fmt: skip


def _exit_code(result: Verified) -> Exit:
    if not result.is_whole:
        return Exit.DAMAGED
    return Exit.FINDINGS if any(result.findings.values()) else Exit.OK


def _tell(
    reporter: Reporter,
    archive: Path,
    level: str,
    against: tuple[str, ...],
    result: Verified,
    code: Exit,
) -> None:
    footer = result.archive.footer if result.archive else None
    facts = {
        "archive": str(archive),
        "level": level,
        "against": list(against) if len(against) > 1 else next(iter(against), None),
        "content_bytes": result.content_bytes,
        "units": result.units,
        "damaged_units": result.damaged_units,
        "elapsed_s": reporter.elapsed_s,
        "findings": sum(result.findings.values()),
        "archive_digest": footer.digest.hex() if footer else None,
        "content_digest": footer.content_digest.hex() if footer else None,
    }
    words: list[str] = []
    for severity, word in (
        (Severity.DAMAGE, "damage"), (Severity.DIFFERENCE, "differences"),
        (Severity.WARNING, "warnings"),
    ):  # fmt: skip
        if number := result.findings[severity]:
            words.append(f"{word}: {number}")
    verdict = ", ".join(words) if words else "whole"
    same = f" and the same as {', '.join(against)}" if against and code is Exit.OK else ""
    line = (
        f"{archive}: {verdict}{same} (level {level}, {result.units} units, "
        f"{human(result.content_bytes)}, {rate(result.content_bytes, reporter.elapsed_s)})"
    )
    reporter.result(facts, code, [line])
