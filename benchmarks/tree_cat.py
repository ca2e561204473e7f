"""Hold the reading of single files from a tree's archive against its bars: time, and bytes read.

Owns these bars. The time is that of the whole process. The bytes are counted in runs of their own,
under strace, in which the output is compared with the file as well.
"""

from __future__ import annotations

from pathlib import Path

from harness import Command, CommandError, Series
from report import Bar, Row
from traced_reads import Reads, count_reads
from tree_commands import TreeSetup, named
from volume import Results

CAT_WALL = Bar(200, at_most=True, unit="ms")
CAT_READS = Bar(3, at_most=True, unit="MiB")

# A `cat` is short, so that it takes more rounds to tell it from noise.
CAT_ROUNDS = 20
CAT_FILES = 3


def measure_cat(setup: TreeSetup, variants: list[str], names: list[str], results: Results) -> None:
    """Measure reading single files, and count what that reads from the archive."""
    setup.prepare_archives(variants[0])
    commands = {
        variant: [
            Command(
                named(f"onggi cat {Path(name).name}", variant),
                setup.onggi_argv(variant, "cat", setup.archive, name),
                (setup.archive,),
            )
            for name in names
        ]
        for variant in variants
    }
    series = setup.run(
        [one for several in commands.values() for one in several],
        rounds=max(CAT_ROUNDS, setup.rounds),
    )
    results.series += series
    walls = {one.argv: one for one in series}
    for variant, several in commands.items():
        what = named("onggi cat", variant)
        what = f"{what}, the slowest of {len(names)} files" if len(names) > 1 else what
        slowest = max((walls[one.argv] for one in several), key=lambda one: one.median("wall_s"))
        results.rows.append(wall_row(what, slowest))
        results.rows.append(reads_row(setup, several, names, named("onggi cat", variant)))
        results.memory(slowest, bar=None)


def wall_row(what: str, series: Series) -> Row:
    """Return the median wall time against the bar of `cat`, with the range behind it."""
    wall_ms = [value * 1e3 for value in series.values("wall_s")]
    median_ms = series.median("wall_s") * 1e3
    shown = f"{median_ms:.0f} ms ({min(wall_ms):.0f}-{max(wall_ms):.0f})"
    return Row(f"{what}: wall", median_ms, shown, CAT_WALL)


def reads_row(setup: TreeSetup, commands: list[Command], names: list[str], what: str) -> Row:
    """Return the most bytes that any of the commands reads from the archive.

    Raises `CommandError` if one of them does not give the file's bytes.
    """
    counted: list[Reads] = []
    for command, name in zip(commands, names, strict=True):
        reads = count_reads(command.argv, setup.archive)
        if reads.stdout != (setup.tree / name).read_bytes():
            raise CommandError(command.name, 0, f"{name}: what it gives differs from the file")
        counted.append(reads)
    most = max(counted, key=lambda reads: reads.read_bytes)
    if not most.calls:
        raise CommandError(what, 0, f"no read of {setup.archive} was seen: the count is wrong")
    read_mib = most.read_bytes / (1 << 20)
    shown = f"{read_mib:.2f} MiB in {most.calls} reads"
    return Row(
        f"{what}, most of {len(names)} files: read from the archive", read_mib, shown, CAT_READS
    )
