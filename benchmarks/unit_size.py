"""Find the best unit size: pack the same volume with many unit sizes and numbers of threads.

Reruns the experiment of the source patent, which found 20 to 25 MB best. All combinations run
round-robin, so that a slow minute of the machine hits all of them. Gives a Markdown table, a
sentence and an SVG plot for docs/performance.md.

    python benchmarks/unit_size.py --image corpus.img --work /dev/shm/onggi-bench
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from commands import add_common_arguments
from harness import Command, CommandError, Series, interleave, log_to_stderr
from report import (
    facts_list,
    filesystem_of,
    machine,
    markdown_table,
    megabytes,
    spread,
    version_of,
    warn_if_memory_is_short,
    write_json,
)
from svgplot import Line, Panel, draw

UNIT_SIZES_MIB = (1, 2, 5, 10, 20, 25, 50)
THREADS = (1, 2, 4)
BLOCK_BYTES = 4096
# Two unit sizes whose medians differ by less than this are called equal.
TIE = 1.02


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """One combination and what was measured for it."""

    unit_mib: int
    threads: int
    series: Series

    @property
    def wall_s(self) -> float:
        """Median wall time."""
        return self.series.median("wall_s")


def pack_command(args: argparse.Namespace, unit_mib: int, threads: int) -> Command:
    """Return the command that packs the image with one unit size and number of threads."""
    out: Path = args.work / "unit-size.onggi"
    blocks = unit_mib * (1 << 20) // BLOCK_BYTES
    options = {
        "--level": args.level,
        "--threads": threads,
        "--block-size": BLOCK_BYTES,
        "--blocks": blocks,
    }
    flags = [text for name, value in options.items() for text in (name, str(value))]
    argv = (args.onggi, "pack", "--quiet", *flags, str(args.image), str(out))
    return Command(f"{unit_mib} MiB, {threads} threads", argv, (args.image,), (out,))


def measure(args: argparse.Namespace) -> list[Point]:
    """Measure every combination, round-robin."""
    keys = [(unit_mib, threads) for unit_mib in args.sizes for threads in args.threads]
    commands = [pack_command(args, *key) for key in keys]
    series = interleave(commands, args.rounds, cache=args.cache, log=log_to_stderr)
    return [Point(*key, one) for key, one in zip(keys, series, strict=True)]


def by_threads(points: Iterable[Point]) -> dict[int, list[Point]]:
    """Group the points by number of threads, in the order given."""
    groups: dict[int, list[Point]] = {}
    for point in points:
        groups.setdefault(point.threads, []).append(point)
    return groups


def table(points: Sequence[Point]) -> str:
    """Return a Markdown table: a row per unit size, wall time and memory per number of threads."""
    groups = by_threads(points)
    header = [
        "unit",
        *(f"wall, {count} thr., s" for count in groups),
        *(f"memory, {count} thr." for count in groups),
        "archive",
    ]
    rows: list[list[str]] = []
    for same_size in zip(*groups.values(), strict=True):
        walls = [point.series.values("wall_s") for point in same_size]
        times = [
            f"{point.wall_s:.2f} ({spread(min(wall), max(wall))})"
            for point, wall in zip(same_size, walls, strict=True)
        ]
        memory = [megabytes(point.series.highest("peak_bytes")) for point in same_size]
        archive = megabytes(same_size[0].series.median("output_bytes"))
        rows.append([f"{same_size[0].unit_mib} MiB", *times, *memory, archive])
    return markdown_table(header, rows)


def finding(points: Sequence[Point]) -> str:
    """Say in one sentence which unit size was fastest, and which ones can't be told from it."""
    parts: list[str] = []
    for count, group in by_threads(points).items():
        best = min(group, key=lambda point: point.wall_s)
        equal = [
            point.unit_mib
            for point in group
            if point is not best and point.wall_s <= best.wall_s * TIE
        ]
        others = ", ".join(str(unit_mib) for unit_mib in equal)
        tie = f" ({others} MiB within {TIE - 1:.0%})" if equal else ""
        parts.append(f"{best.unit_mib} MiB with {count} thread{'s' if count > 1 else ''}{tie}")
    return f"Fastest: {'; '.join(parts)}.\n"


def plot(points: Sequence[Point]) -> str:
    """Return an SVG: wall time and peak memory over the unit size, a line per number of threads."""
    groups = by_threads(points)
    places = tuple(str(point.unit_mib) for point in next(iter(groups.values())))

    def lines(
        values_of: Callable[[Point], list[float]], middle: Callable[[Point], float]
    ) -> list[Line]:
        return [
            Line(
                f"{count} thread{'s' if count > 1 else ''}",
                tuple(middle(point) for point in group),
                tuple(min(values_of(point)) for point in group),
                tuple(max(values_of(point)) for point in group),
            )
            for count, group in groups.items()
        ]

    walls = lines(lambda point: point.series.values("wall_s"), lambda point: point.wall_s)
    peaks = lines(
        lambda point: [value / 1e6 for value in point.series.values("peak_bytes")],
        lambda point: point.series.median("peak_bytes") / 1e6,
    )
    unit = "unit size, MiB"
    return draw(
        [
            Panel("Time to pack", unit, "wall time, s", places, tuple(walls)),
            Panel("Peak memory", unit, "MB", places, tuple(peaks)),
        ]
    )


def main() -> int:
    """Measure, print the table and the finding, and write plot and results."""
    args = _arguments()
    if not args.image.is_file():
        print(f"{args.image}: no such image; make one with corpus.py", file=sys.stderr)
        return 2
    args.work.mkdir(parents=True, exist_ok=True)
    warn_if_memory_is_short(2 * args.image.stat().st_size)
    facts = {
        **machine(),
        "onggi": version_of(args.onggi),
        "image": f"{args.image.name}, {args.image.stat().st_size} bytes",
        "outputs": f"on {filesystem_of(args.work)}",
        "method": f"level {args.level}, {args.rounds} rounds after 1 warm-up, round-robin",
    }
    try:
        points = measure(args)
    except CommandError as error:
        print(error, file=sys.stderr)
        return 1
    text = "\n".join((facts_list(facts), table(points), finding(points)))
    print(text)
    (args.work / "unit-size.md").write_text(text)
    svg: Path = args.svg or args.work / "unit-size.svg"
    svg.write_text(plot(points))
    write_json(args.json or args.work / "unit-size.json", facts=facts, points=points)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Pack with many unit sizes and thread counts.")
    add_common_arguments(parser, rounds=3)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=UNIT_SIZES_MIB, metavar="MIB", help="unit sizes"
    )
    parser.add_argument(
        "--threads", type=int, nargs="+", default=THREADS, metavar="N", help="numbers of threads"
    )
    parser.add_argument("--level", type=int, default=3, help="zstd level (default: %(default)s)")
    parser.add_argument("--svg", type=Path, help="the plot (default: WORK/unit-size.svg)")
    parser.add_argument("--json", type=Path, help="results (default: WORK/unit-size.json)")
    args = parser.parse_args()
    args.image = args.image or args.work / "corpus.img"
    return args


if __name__ == "__main__":
    sys.exit(main())
