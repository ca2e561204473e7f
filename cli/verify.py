"""`onggi verify`."""

from __future__ import annotations

from pathlib import Path

import click

from ..archive.errors import Finding, Severity
from ..archive.source import open_source
from ..archive.store import FileStore
from ..archive.verify import Level, Verified, verify
from .exits import Exit
from .options import output_options, threads_option
from .output import OutputOptions, Reporter
from .session import run_command
from .text import human, rate
from .volume_map import MapBuilder, print_map


@click.command(
    epilog="""\b
Example: onggi verify sdb1.onggi --against /dev/sdb1
Exit codes: 0 whole, 1 whole but the source differs or warnings, 2 usage, 3 no archive,
4 damaged, 5 can't be read; all: docs/commands.md"""
)
@click.argument("archive", type=click.Path(path_type=Path, readable=False))
@click.option("--level", type=click.Choice([str(level) for level in Level]), default="content",
              show_default=True,
              help="The records; also the stored bytes; also what they decompress to.")  # fmt: skip
@click.option("--against", metavar="SOURCE",
              help="Compare with a device, a file, or - for standard input.")  # fmt: skip
@click.option("--map", "show_map", is_flag=True, help="Show where the damage is.")
@threads_option("Checkers.")
@output_options
def command(
    archive: Path,
    level: str,
    against: str | None,
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

        with FileStore(archive) as store:
            source = open_source(against) if against is not None else None
            try:
                result = verify(
                    store, Level(level), threads=threads, against=source, found=found,
                    report=reporter.progress,
                )  # fmt: skip
            finally:
                if source is not None:
                    source.close()
            code = _exit_code(result)
            if show_map:
                print_map(reporter, store, builder)
            _tell(reporter, archive, level, against, result, code)
        return code

    return run_command(options, action, threads)


def _exit_code(result: Verified) -> Exit:
    if not result.is_whole:
        return Exit.DAMAGED
    return Exit.FINDINGS if any(result.findings.values()) else Exit.OK


def _tell(
    reporter: Reporter,
    archive: Path,
    level: str,
    against: str | None,
    result: Verified,
    code: Exit,
) -> None:
    footer = result.archive.footer if result.archive else None
    facts = {
        "archive": str(archive),
        "level": level,
        "against": against,
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
    same = f" and the same as {against}" if against and code is Exit.OK else ""
    line = (
        f"{archive}: {verdict}{same} (level {level}, {result.units} units, "
        f"{human(result.content_bytes)}, {rate(result.content_bytes, reporter.elapsed_s)})"
    )
    reporter.result(facts, code, [line])
