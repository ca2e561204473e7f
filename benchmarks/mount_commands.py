"""The command lines that run on a mount, and how one is measured: each on a mount of its own.

Owns their options, the checks that they did the whole job, and the rounds: mount, run, ask what the
process behind the mount took, unmount. Knows nothing about bars and tables.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import Cache, Command, CommandError, Sample, Series, log_to_stderr, run_once
from mount_archives import Archives, Mountable
from mounting import MountPlace
from tree_commands import pipeline

_HERE = Path(__file__).parent
# The shell waits for both; what tar says goes to a file, since its last line is checked.
_TAR = (
    'export LC_ALL=C; tar -C "$1" --totals -cf - . 2> "$2" | cat > /dev/null'
    ' || { cat "$2" >&2; exit 1; }'
)
_TOTAL = re.compile(r"Total bytes written: (\d+)")


@dataclasses.dataclass(frozen=True, slots=True)
class Probe:
    """A command, and what is mounted for it.

    `result` is a file into which the command writes figures as JSON. `wall_s`, `user_s` and
    `system_s` must be among them, and replace what the harness measured: the start of a script is
    no part of its work.
    """

    command: Command
    mountable: Mountable | None = None
    result: Path | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """All counted runs of a probe, in order of rounds.

    CPU time is that of the command and of the process behind the mount, peak memory that of the
    latter alone. `figures` is what the command told itself, per round.
    """

    series: Series
    figures: tuple[dict[str, float], ...]

    def values(self, key: str) -> list[float]:
        """Return one figure per round."""
        return [one[key] for one in self.figures]

    def median(self, key: str) -> float:
        """Return the median of a figure over the rounds."""
        return statistics.median(self.values(key))

    def as_wall(self, key: str, what: str) -> Series:
        """Return the series with a time that the command told in the place of the wall time.

        For ratios: the time keeps its unit.
        """
        samples = tuple(
            dataclasses.replace(sample, wall_s=value)
            for sample, value in zip(self.series.samples, self.values(key), strict=True)
        )
        return Series(f"{self.series.name}, {what}", self.series.argv, samples)


@dataclasses.dataclass(frozen=True, slots=True)
class MountSetup:
    """What every section needs to know; `scratch` is for files that are gone after a run."""

    image: Path
    tree: Path
    scratch: Path
    place: MountPlace
    archives: Archives
    ratarmount: Path | None
    threads: int
    rounds: int
    reads: int
    cache: Cache

    def run(self, probes: Sequence[Probe], rounds: int | None = None) -> list[Measured]:
        """Measure the probes, interleaved, after a warm-up round in which they are checked."""
        count = self.rounds if rounds is None else rounds
        samples: list[list[Sample]] = [[] for _ in probes]
        figures: list[list[dict[str, float]]] = [[] for _ in probes]
        for index in range(-1, count):
            label = f"round {index + 1}/{count}" if index >= 0 else "warm-up"
            for number, probe in enumerate(probes):
                sample, told = self._run_once(probe, check=index < 0)
                name = probe.command.name
                log_to_stderr(f"{label}: {name}: {sample.wall_s:.3f} s, CPU {sample.cpu_s:.3f} s")
                if index >= 0:
                    samples[number].append(sample)
                    figures[number].append(told)
        return [
            Measured(Series(probe.command.name, probe.command.argv, tuple(counted)), tuple(told))
            for probe, counted, told in zip(probes, samples, figures, strict=True)
        ]

    def dd(self, mountable: Mountable, what: str = "dd", image: Path | None = None) -> Probe:
        """Read a mounted volume, the image unless told which, from start to end."""
        file = self.place.folder / mountable.volume
        argv = ("dd", f"if={file}", "of=/dev/null", "bs=1M")
        check = _SameFile(file, image or self.image)
        return self._mounted(mountable, Command(f"{what}, {mountable.program}", argv, check=check))

    def dd_holes(self) -> Probe:
        """Read a mounted volume as large as the image, in which there is nothing to decode."""
        image = self.scratch / "holes.img"
        with image.open("wb") as file:
            file.truncate(self.image.stat().st_size)
        return self.dd(self.archives.onggi(image, "holes"), "dd of holes", image)

    def decode(self, mountable: Mountable) -> Probe:
        """Decode the frames of an archive in memory, without a mount."""
        result = self.scratch / "decode.json"
        argv = (
            *(sys.executable, str(_HERE / "decode_frames.py"), str(mountable.archive)),
            *("--threads", str(self.threads), "--out", str(result)),
        )
        check = _SameLength(result, self.image)
        name = f"decode in {self.threads} threads, no mount"
        command = Command(name, argv, (mountable.archive,), check=check)
        return Probe(command, result=result)

    def random(self, mountable: Mountable, source: Path, what: str = "random reads") -> Probe:
        """Read at random in a mounted volume or tree, twice; compared with the source each time."""
        target = self.place.folder
        target = target if source.is_dir() else target / mountable.volume
        name = f"{what}, {mountable.program}"
        probe = self._random(name, target, source)
        return dataclasses.replace(self._mounted(mountable, probe.command), result=probe.result)

    def random_unmounted(self, source: Path) -> Probe:
        """Read at random in the volume itself, which is in the page cache."""
        probe = self._random("random reads, the image itself", source, source)
        command = dataclasses.replace(probe.command, inputs=(source,))
        return dataclasses.replace(probe, command=command)

    def find(self, mountable: Mountable) -> Probe:
        """List the files that are not empty of a mounted tree."""
        argv = ("find", str(self.place.folder), "-size", "+0")
        check = _SameCounts(self.place.folder, self.tree)
        return self._mounted(mountable, Command(f"find, {mountable.program}", argv, check=check))

    def tar(self, mountable: Mountable, what: str = "tar") -> Probe:
        """Read a whole mounted tree."""
        totals = self.scratch / "tar.totals"
        argv = pipeline(_TAR, self.place.folder, totals)
        check = _SameTotal(totals, self.tree)
        return self._mounted(mountable, Command(f"{what}, {mountable.program}", argv, check=check))

    def all_of(self, probes: Sequence[Probe], name: str) -> Probe:
        """Run the commands of several probes one after the other on a single mount."""
        steps = [word for probe in probes for word in (*probe.command.argv, ";;")]
        script = (
            'step=(); for word; do if [ "$word" = ";;" ];'
            ' then "${step[@]}" || exit; step=(); else step+=("$word"); fi; done'
        )
        inputs = tuple({path: None for probe in probes for path in probe.command.inputs})
        command = Command(name, pipeline(script, *steps), inputs)
        return Probe(command, probes[0].mountable)

    def _random(self, name: str, target: Path, source: Path) -> Probe:
        result = self.scratch / "random.json"
        argv = (
            *(sys.executable, str(_HERE / "random_reads.py"), str(target)),
            *("--source", str(source), "--reads", str(self.reads), "--out", str(result)),
        )
        return Probe(Command(name, argv), result=result)

    def _mounted(self, mountable: Mountable, command: Command) -> Probe:
        """Return a probe of a command that reads a mount."""
        return Probe(dataclasses.replace(command, inputs=(mountable.archive,)), mountable)

    def _run_once(self, probe: Probe, *, check: bool) -> tuple[Sample, dict[str, float]]:
        command, mountable = probe.command, probe.mountable
        if mountable is not None:
            prepare = functools.partial(self.place.mount, mountable.argv)
            command = dataclasses.replace(command, prepare=prepare)
        if probe.result is not None:
            probe.result.unlink(missing_ok=True)
        try:
            sample = run_once(command, self.cache, check=check)
            told: dict[str, float] = {}
            if probe.result is not None:
                told = json.loads(probe.result.read_text())
                sample = dataclasses.replace(
                    sample,
                    wall_s=told["wall_s"],
                    user_s=told["user_s"],
                    system_s=told["system_s"],
                )
            if mountable is not None:
                use = self.place.use()
                sample = dataclasses.replace(
                    sample,
                    user_s=sample.user_s + use.user_s,
                    system_s=sample.system_s + use.system_s,
                    peak_bytes=use.peak_bytes,
                )
        finally:
            self.place.unmount()
        return sample, told


@dataclasses.dataclass(frozen=True, slots=True)
class _SameFile:
    """A check that a file in a mount holds the same bytes as the image, and ends where it ends."""

    file: Path
    image: Path

    def __call__(self) -> None:
        if subprocess.run(["cmp", "--silent", self.file, self.image]).returncode:
            raise CommandError(f"cmp {self.file} {self.image}", 1, "the content differs")


@dataclasses.dataclass(frozen=True, slots=True)
class _SameLength:
    """A check that as much was decoded as there is in the image."""

    result: Path
    image: Path

    def __call__(self) -> None:
        decoded = json.loads(self.result.read_text())["content_bytes"]
        expected = self.image.stat().st_size
        if decoded != expected:
            raise CommandError("decode", 0, f"{decoded} bytes, not {expected}")


@dataclasses.dataclass(frozen=True, slots=True)
class _SameCounts:
    """A check that as many entries, and as many files that are not empty, are found as there are.

    Of files only, since the length of a folder is the filesystem's own affair.
    """

    mounted: Path
    tree: Path

    def __call__(self) -> None:
        for tests in ((), ("-type", "f", "-size", "+0")):
            found, expected = _count(self.mounted, tests), _count(self.tree, tests)
            if found != expected:
                text = f"{found} entries, not {expected}"
                raise CommandError(" ".join(("find", str(self.mounted), *tests)), 0, text)


@dataclasses.dataclass(frozen=True, slots=True)
class _SameTotal:
    """A check that tar wrote as many bytes as it does for the tree itself."""

    totals: Path
    tree: Path

    def __call__(self) -> None:
        found = _total(self.totals)
        subprocess.run(pipeline(_TAR, self.tree, self.totals), check=True)
        expected = _total(self.totals)
        if found != expected:
            raise CommandError("tar", 0, f"{found} bytes, not {expected}")


def _count(folder: Path, tests: Sequence[str]) -> int:
    """Count what find finds: a letter each, since a name may hold a line feed."""
    argv = ["find", os.fspath(folder), *tests, "-printf", "x"]
    return len(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout)


def _total(path: Path) -> int:
    match = _TOTAL.search(path.read_text(errors="replace"))
    if match is None:
        raise CommandError("tar", 0, "it does not say how much it wrote")
    return int(match[1])
