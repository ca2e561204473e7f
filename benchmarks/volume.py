"""Hold Onggi's volume commands against zstd: pack, unpack, verify, memory, start-up time.

Owns the bars and what is held against what. `commands.py` knows the command lines, `harness.py`
runs and measures them. Needs an image made by `corpus.py` (any other volume image will do) and an
installed `onggi`.

    python benchmarks/volume.py --image corpus.img --work /dev/shm/onggi-bench
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from commands import Setup, add_common_arguments
from harness import (
    Command,
    CommandError,
    Quantity,
    Series,
    ratio,
    run_once,
    series_table,
)
from report import (
    Bar,
    Row,
    facts_list,
    filesystem_of,
    machine,
    megabytes,
    verdict_table,
    version_of,
    warn_if_memory_is_short,
    write_json,
)

PACK_WALL = Bar(0.95, at_most=True, unit="x")
PACK_CPU = Bar(1.00, at_most=True, unit="x")
PACK_SIZE = Bar(1.04, at_most=True, unit="x")
DECODE_SPEED = Bar(1.7, at_most=False, unit="x")
STORED_SPEED = Bar(5.0, at_most=False, unit="x")
MEMORY = Bar(250, at_most=True, unit="MB")
VERSION_WALL = Bar(120, at_most=True, unit="ms")

LABELS: dict[Quantity, str] = {
    "wall_s": "wall",
    "cpu_s": "CPU",
    "peak_bytes": "memory",
    "output_bytes": "size",
}
SECTIONS = ("pack", "unpack", "verify", "version")


@dataclasses.dataclass(slots=True)
class Results:
    """Rows and series gathered from the sections, in the order measured."""

    rows: list[Row] = dataclasses.field(default_factory=list[Row])
    series: list[Series] = dataclasses.field(default_factory=list[Series])

    def compare(self, what: str, a: Series, b: Series, quantity: Quantity, bar: Bar | None) -> None:
        """Add the ratio a / b. For "times as fast" of b, pass the slower one as a."""
        result = ratio(a, b, quantity)
        label = f"{what}: {LABELS[quantity]}"
        self.rows.append(Row(label, result.median, str(result), bar))

    def memory(self, series: Series, bar: Bar | None = MEMORY) -> None:
        """Add the highest peak memory of all rounds."""
        peak_bytes = series.highest("peak_bytes")
        self.rows.append(
            Row(f"{series.name}: memory", peak_bytes / 1e6, megabytes(peak_bytes), bar)
        )


def measure_pack(setup: Setup, level: int, results: Results) -> None:
    """Compare wall time, CPU time and size of packing at one level."""
    commands = [setup.onggi_pack(level), setup.zstd_pack(level)]
    if setup.fsync:
        commands.append(setup.zstd_pack(level, fsync=True))
    onggi, zstd, *synced = series = setup.run(commands)
    results.series += series
    what = f"{onggi.name} / {zstd.name}"
    results.compare(what, onggi, zstd, "wall_s", PACK_WALL)
    for other in synced:
        results.compare(f"{onggi.name} / {other.name}", onggi, other, "wall_s", PACK_WALL)
    results.compare(what, onggi, zstd, "cpu_s", PACK_CPU)
    results.compare(what, onggi, zstd, "output_bytes", PACK_SIZE)
    results.memory(onggi)
    results.memory(zstd, bar=None)


def measure_unpack(setup: Setup, level: int, results: Results) -> None:
    """Compare the speed of unpacking with zstd: on the same archive, and on its own .zst."""
    prepare_archives(setup, level)
    sources = [(setup.archive(level), "same archive"), (setup.peer(level), "its own .zst")]
    commands = [setup.onggi_unpack(level), *(setup.zstd_unpack(*source) for source in sources)]
    if setup.fsync:
        commands += [setup.zstd_unpack(*source, fsync=True) for source in sources]
    onggi, *others = series = setup.run(commands)
    results.series += series
    for other in others:
        results.compare(
            f"{onggi.name}, times as fast as {other.name}", other, onggi, "wall_s", DECODE_SPEED
        )
    results.memory(onggi)
    results.memory(others[0], bar=None)


def measure_verify(setup: Setup, level: int, results: Results) -> None:
    """Compare the speed of both verify levels with `zstd -t`: same archive, and its own .zst."""
    prepare_archives(setup, level)
    archive, peer = setup.archive(level), setup.peer(level)
    threads = str(setup.threads)
    verify = [
        Command(
            f"onggi verify --level {depth}",
            (
                setup.onggi,
                "verify",
                "--quiet",
                "--level",
                depth,
                "--threads",
                threads,
                str(archive),
            ),
            (archive,),
        )
        for depth in ("content", "stored")
    ]
    test = [
        Command(f"zstd -t, {what}", (setup.zstd, "-q", "-t", str(path)), (path,))
        for path, what in ((archive, "same archive"), (peer, "its own .zst"))
    ]
    content, stored, *others = series = setup.run([*verify, *test])
    results.series += series
    for mine, bar in ((content, DECODE_SPEED), (stored, STORED_SPEED)):
        for other in others:
            results.compare(
                f"{mine.name}, times as fast as {other.name}", other, mine, "wall_s", bar
            )
        results.memory(mine)
    results.memory(others[0], bar=None)


def measure_version(setup: Setup, results: Results) -> None:
    """Measure how long `onggi --version` takes; short, so with more rounds."""
    command = Command("onggi --version", (setup.onggi, "--version"))
    series = setup.run([command], rounds=max(20, setup.rounds))
    results.series += series
    wall_ms = series[0].median("wall_s") * 1e3
    results.rows.append(Row("onggi --version: wall", wall_ms, f"{wall_ms:.0f} ms", VERSION_WALL))


def prepare_archives(setup: Setup, level: int) -> None:
    """Make the archives to decode, unmeasured, if the pack section has not left them."""
    for command in (setup.onggi_pack(level), setup.zstd_pack(level)):
        if not command.outputs[0].exists():
            run_once(command)


def facts(setup: Setup) -> dict[str, str]:
    """Return what the numbers depend on, for the head of the report."""
    size_bytes = setup.image.stat().st_size
    cached = "in the page cache" if setup.cache == "warm" else "dropped from the page cache"
    return {
        **machine(),
        "onggi": version_of(setup.onggi),
        "zstd": version_of(setup.zstd),
        "image": f"{setup.image.name}, {size_bytes} bytes, on {filesystem_of(setup.image)}",
        "outputs": f"on {filesystem_of(setup.work)}",
        "rounds": f"{setup.rounds} after 1 warm-up, interleaved; inputs {cached} before each run",
        "durability": "Onggi syncs its output, zstd does not; `+ fsync`: zstd, then `sync OUTPUT`"
        if setup.fsync
        else "not compared (outputs on tmpfs, or switched off): a sync costs nothing here",
    }


def main() -> int:
    """Run the sections asked for, print the tables, and write the results."""
    args = _arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    if not args.image.is_file():
        print(f"{args.image}: no such image; make one with corpus.py", file=sys.stderr)
        return 2
    fsync = args.fsync == "yes" or (args.fsync == "auto" and filesystem_of(args.work) != "tmpfs")
    setup = Setup(
        args.image, args.work, args.onggi, args.zstd, args.threads, args.rounds, args.cache, fsync
    )
    warn_if_memory_is_short(3 * args.image.stat().st_size)
    about = facts(setup)
    results = Results()
    # Archives of an earlier run may come from another version of the program.
    for level in {*args.levels, args.decode_level}:
        setup.archive(level).unlink(missing_ok=True)
        setup.peer(level).unlink(missing_ok=True)
    try:
        if "pack" in args.sections:
            for level in args.levels:
                measure_pack(setup, level, results)
        if "unpack" in args.sections:
            measure_unpack(setup, args.decode_level, results)
        if "verify" in args.sections:
            measure_verify(setup, args.decode_level, results)
        if "version" in args.sections:
            measure_version(setup, results)
    except CommandError as error:
        print(error, file=sys.stderr)
        return 1
    text = "\n".join((facts_list(about), verdict_table(results.rows), series_table(results.series)))
    print(text)
    (args.work / "volume.md").write_text(text)
    rows = [{**dataclasses.asdict(row), "verdict": row.verdict} for row in results.rows]
    out: Path = args.json or args.work / "volume.json"
    write_json(out, facts=about, rows=rows, series=results.series)
    missed = [row.what for row in results.rows if row.verdict == "FAIL"]
    return 1 if missed and args.check else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare Onggi's volume commands with zstd.")
    add_common_arguments(parser, rounds=5)
    parser.add_argument("--zstd", default="zstd", help="the peer (default: %(default)s)")
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 3], help="levels to pack at")
    parser.add_argument("--decode-level", type=int, default=3, help="level to unpack and verify")
    parser.add_argument("--threads", type=int, default=2, help="threads (default: %(default)s)")
    parser.add_argument(
        "--fsync",
        choices=("auto", "yes", "no"),
        default="auto",
        help="also run zstd with a sync of its output (auto: unless WORK is a tmpfs)",
    )
    parser.add_argument(
        "--sections", nargs="+", choices=SECTIONS, default=SECTIONS, help="what to measure"
    )
    parser.add_argument("--json", type=Path, help="results (default: WORK/volume.json)")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bar is missed")
    args = parser.parse_args()
    args.image = args.image or args.work / "corpus.img"
    return args


if __name__ == "__main__":
    sys.exit(main())
