"""Run commands interleaved and measure each as a whole process.

Owns how a command is run and measured: page-cache state, rounds, wall time, CPU time, peak memory,
medians and ratios. Knows nothing about what the commands do. Single-threaded: one command runs at a
time.

Commands are run A B A B ... (round-robin for more than two), so that a slow minute of the machine
hits all of them. A ratio is taken inside each round and the median of these ratios is the result; a
median of A over a median of B would mix rounds. Before each run the outputs are removed, dirty
pages of earlier runs are written out (`os.sync`), and the inputs are read into the page cache (or
dropped from it), the same for every command. Inputs and outputs are files or whole folders.

As a script it compares any commands:

    python benchmarks/harness.py --rounds 5 --input FILE "gzip -c FILE" "zstd -c FILE"
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from report import markdown_table, megabytes, spread

Cache = Literal["warm", "cold"]
Quantity = Literal["wall_s", "cpu_s", "peak_bytes", "output_bytes"]

# Small on purpose: the harness's own memory is a lower limit of `Sample.peak_bytes`.
_READ_BYTES = 1 << 20


class CommandError(RuntimeError):
    """A command ended with an exit code that is not 0; carries name, code and standard error."""

    def __init__(self, name: str, code: int, stderr: str) -> None:
        super().__init__(f"{name}: exit code {code}\n{stderr.strip()}")
        self.name = name
        self.code = code
        self.stderr = stderr


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """What to run, what it reads and what it writes.

    `outputs` are removed before each run, and after it unless `keep` is set. `prepare` is called
    before each run, after that removal, and is not measured: it makes what the command expects,
    such as an empty repository. `check` is called once, after the warm-up run and while the outputs
    still exist; it raises if the command did not do its job.
    """

    name: str
    argv: tuple[str, ...]
    inputs: tuple[Path, ...] = ()
    outputs: tuple[Path, ...] = ()
    keep: bool = False
    check: Callable[[], None] | None = None
    prepare: Callable[[], None] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One run. CPU time is user + system, of the process and all descendants that it waited for.

    `peak_bytes` is the largest resident size of any one process in that tree (not their sum). Linux
    counts the harness's own pages between fork and exec, so nothing below about 20 MB can be told
    apart.
    """

    wall_s: float
    user_s: float
    system_s: float
    peak_bytes: int
    output_bytes: int

    @property
    def cpu_s(self) -> float:
        """User and system time together."""
        return self.user_s + self.system_s


@dataclasses.dataclass(frozen=True, slots=True)
class Series:
    """All counted runs of one command, in order of rounds (the warm-up is not among them)."""

    name: str
    argv: tuple[str, ...]
    samples: tuple[Sample, ...]

    def values(self, quantity: Quantity) -> list[float]:
        """Return one number per round."""
        return [float(getattr(sample, quantity)) for sample in self.samples]

    def median(self, quantity: Quantity) -> float:
        """Return the median over the rounds."""
        return statistics.median(self.values(quantity))

    def highest(self, quantity: Quantity) -> float:
        """Return the largest value of any round; what a memory limit must be held against."""
        return max(self.values(quantity))


@dataclasses.dataclass(frozen=True, slots=True)
class Ratio:
    """Median, lowest and highest of the per-round ratios of two series."""

    median: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        """Give the median, and the range behind it."""
        return f"{self.median:.2f}x ({spread(self.lowest, self.highest)})"


def ratio(numerator: Series, denominator: Series, quantity: Quantity) -> Ratio:
    """Compare two series of one `interleave` call, round by round."""
    pairs = zip(numerator.values(quantity), denominator.values(quantity), strict=True)
    ratios = [a / b for a, b in pairs]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def interleave(
    commands: Sequence[Command],
    rounds: int,
    *,
    warmup: int = 1,
    cache: Cache = "warm",
    log: Callable[[str], None] | None = None,
) -> list[Series]:
    """Run every command once per round, in the order given.

    Returns one series per command, in that order. Raises `CommandError` at the first run that
    fails: a benchmark of a failing command means nothing.
    """
    samples: list[list[Sample]] = [[] for _ in commands]
    for index in range(-warmup, rounds):
        for command, counted in zip(commands, samples, strict=True):
            sample = run_once(command, cache, check=index == -warmup)
            label = f"round {index + 1}/{rounds}" if index >= 0 else "warm-up"
            if log is not None:
                log(f"{label}: {command.name}: {sample.wall_s:.3f} s, CPU {sample.cpu_s:.3f} s")
            if index >= 0:
                counted.append(sample)
    return [
        Series(command.name, command.argv, tuple(counted))
        for command, counted in zip(commands, samples, strict=True)
    ]


def environment() -> dict[str, str]:
    """Return what commands see: Python keeps its bytecode, as where it was installed."""
    return {key: os.environ[key] for key in os.environ if key != "PYTHONDONTWRITEBYTECODE"}


def run_once(command: Command, cache: Cache = "warm", *, check: bool = False) -> Sample:
    """Bring the page cache into the wanted state, run the command, and measure it.

    Standard output is discarded. Raises `CommandError` if the exit code is not 0.
    """
    _remove(command.outputs)
    if command.prepare is not None:
        command.prepare()
    os.sync()
    for path in command.inputs:
        read_into_cache(path) if cache == "warm" else drop_from_cache(path)
    with tempfile.TemporaryFile() as stderr:
        start = time.perf_counter()
        process = subprocess.Popen(
            command.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
            env=environment(),
        )  # fmt: skip
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            _remove(command.outputs)
            raise
        wall_s = time.perf_counter() - start
        # wait4 has reaped the process; Popen must not wait for that number again.
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            stderr.seek(0)
            text = stderr.read().decode(errors="replace")
            raise CommandError(command.name, process.returncode, text)
    output_bytes = sum(os.stat(file).st_size for out in command.outputs for file in _files_of(out))
    if check and command.check is not None:
        command.check()
    if not command.keep:
        _remove(command.outputs)
    return Sample(wall_s, usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024, output_bytes)


def read_into_cache(path: Path) -> None:
    """Read a file, or all files of a folder, so that the pages are cached when a command starts."""
    buffer = bytearray(_READ_BYTES)
    for name in _files_of(path):
        with open(name, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def drop_from_cache(path: Path) -> None:
    """Drop the clean pages of a file, or of a folder's files, from the page cache.

    On tmpfs this has no effect, and names and attributes of files stay cached everywhere.
    """
    for name in _files_of(path):
        with open(name, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def then_fsync(argv: Iterable[str], output: Path) -> tuple[str, ...]:
    """Return a command that runs `argv` and then syncs `output` and its folder."""
    script = 'out=$1; dir=$2; shift 2; "$@" && sync -- "$out" "$dir"'
    return ("sh", "-c", script, "sh", str(output), str(output.parent), *argv)


def series_table(series: Iterable[Series]) -> str:
    """Return a Markdown table of absolute values: medians, and the highest memory of all rounds."""
    rows: list[tuple[str, ...]] = []
    for one in series:
        walls = one.values("wall_s")
        rows.append(
            (
                one.name,
                f"{one.median('wall_s'):.3f} ({spread(min(walls), max(walls), 3)})",
                f"{one.median('cpu_s'):.3f}",
                megabytes(one.highest("peak_bytes")),
                megabytes(one.median("output_bytes")) if one.median("output_bytes") else "-",
            )
        )
    return markdown_table(("command", "wall, s", "CPU, s", "peak memory", "output"), rows)


def log_to_stderr(message: str) -> None:
    """Print a progress line where it does not mix with a table."""
    print(message, file=sys.stderr, flush=True)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _files_of(path: Path) -> Iterator[str]:
    """Yield the path of a file, or the regular files below a folder; links are not followed."""
    if not path.is_dir():
        yield str(path)
        return
    folders = [str(path)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry.path


def _main() -> int:
    parser = argparse.ArgumentParser(
        description="Compare commands, interleaved; the first is the numerator."
    )
    parser.add_argument(
        "commands", nargs="+", metavar="COMMAND", help="a command line, as one argument"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="counted rounds (default: %(default)s)"
    )
    parser.add_argument(
        "--input", type=Path, action="append", default=[], help="a file they read (repeatable)"
    )
    parser.add_argument(
        "--cache", choices=("warm", "cold"), default="warm", help="state of the inputs"
    )
    args = parser.parse_args()
    commands = [
        Command(line, tuple(shlex.split(line)), tuple(args.input)) for line in args.commands
    ]
    try:
        series = interleave(commands, args.rounds, cache=args.cache, log=log_to_stderr)
    except CommandError as error:
        print(error, file=sys.stderr)
        return 1
    print(series_table(series))
    rows = [
        (
            f"`{series[0].name}` / `{other.name}`",
            *(str(ratio(series[0], other, q)) for q in ("wall_s", "cpu_s")),
        )
        for other in series[1:]
    ]
    if rows:
        print(markdown_table(("ratio", "wall", "CPU"), rows))
    return 0


if __name__ == "__main__":
    sys.exit(_main())
