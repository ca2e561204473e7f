"""Read 4 KiB at random places of a file, or of the files of a folder, and tell how long each took.

One thread, `os.pread`, the same places for the same seed. A first pass over the places is what the
output calls cold, a second one warm: whether they are is a matter of who calls. In a folder each
read opens and closes its file, and that counts: it is what a program does.

Names, lengths and the right bytes come from a source that is not measured, so that neither the
choice of places nor the comparison touches what is. A wrong byte ends it with exit code 1.

    python benchmarks/random_reads.py MNT/volume.img --source corpus.img --reads 2000
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

READ_BYTES = 4096

_Item = TypeVar("_Item")


class Place(NamedTuple):
    """Where to read: a path below the folder ("" for a file by itself), and an offset in it."""

    name: str
    offset: int


def choose(source: Path, reads: int, seed: int) -> list[Place]:
    """Choose places at multiples of 4 KiB; in a folder every regular file is equally likely.

    None is chosen twice as long as there are enough, since the second time it would be cached.
    """
    choice = random.Random(seed)
    if source.is_dir():
        return [
            Place(name, choice.randrange(_pages(size_bytes)) * READ_BYTES)
            for name, size_bytes in _some(choice, sorted(_files(source)), reads)
        ]
    pages = range(_pages(source.stat().st_size))
    return [Place("", page * READ_BYTES) for page in _some(choice, pages, reads)]


def _some(choice: random.Random, from_these: Sequence[_Item], count: int) -> list[_Item]:
    if count <= len(from_these):
        return choice.sample(from_these, count)
    return choice.choices(from_these, k=count)


def _pages(size_bytes: int) -> int:
    return -(-size_bytes // READ_BYTES)


def timed(read: Callable[[Place], bytes], places: Sequence[Place]) -> tuple[list[int], list[bytes]]:
    """Read at all places, one after the other; return nanoseconds and bytes of each read."""
    taken_ns: list[int] = []
    found: list[bytes] = []
    now = time.perf_counter_ns
    for place in places:
        start = now()
        data = read(place)
        taken_ns.append(now() - start)
        found.append(data)
    return taken_ns, found


def figures(taken_ns: Sequence[int], prefix: str) -> dict[str, float]:
    """Return percentiles in ms, reads a second, and seconds for all."""
    ordered = sorted(taken_ns)

    def percentile_ms(share: float) -> float:
        return ordered[math.ceil(share * len(ordered)) - 1] / 1e6

    total_s = sum(ordered) / 1e9
    return {
        f"{prefix}_p50_ms": percentile_ms(0.5),
        f"{prefix}_p99_ms": percentile_ms(0.99),
        f"{prefix}_reads_per_s": len(ordered) / total_s,
        f"{prefix}_s": total_s,
    }


def measure(target: Path, source: Path, reads: int, seed: int) -> dict[str, float]:
    """Read from a target twice and compare with the source; raises `SystemExit` if bytes differ."""
    places = choose(source, reads, seed)
    with _Reader(target) as reader:
        before = os.times()
        cold_ns, cold = timed(reader, places)
        after = os.times()
        warm_ns, warm = timed(reader, places)
    with _Reader(source) as reader:
        for place, *got in zip(places, cold, warm, strict=True):
            expected = reader(place)
            if not expected or any(data != expected for data in got):
                raise SystemExit(f"{target / place.name} differs at {place.offset}")
    return {
        **figures(cold_ns, "cold"),
        **figures(warm_ns, "warm"),
        "wall_s": sum(cold_ns) / 1e9,
        "user_s": after.user - before.user,
        "system_s": after.system - before.system,
        "reads": len(places),
    }


class _Reader:
    """Reads at places below a path; a file by itself stays open."""

    def __init__(self, path: Path) -> None:
        self._path = os.fspath(path)
        self._fd = -1 if path.is_dir() else os.open(path, os.O_RDONLY)

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def __call__(self, place: Place) -> bytes:
        if self._fd >= 0:
            return os.pread(self._fd, READ_BYTES, place.offset)
        fd = os.open(f"{self._path}/{place.name}", os.O_RDONLY)
        try:
            return os.pread(fd, READ_BYTES, place.offset)
        finally:
            os.close(fd)


def _files(folder: Path) -> list[tuple[str, int]]:
    """Return path and length of all regular files that are not empty; links are not followed."""
    found: list[tuple[str, int]] = []
    folders = [""]
    while folders:
        parent = folders.pop()
        with os.scandir(folder / parent) as entries:
            for entry in entries:
                name = f"{parent}/{entry.name}" if parent else entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(name)
                elif entry.is_file(follow_symlinks=False):
                    size_bytes = entry.stat(follow_symlinks=False).st_size
                    if size_bytes:
                        found.append((name, size_bytes))
    if not found:
        raise SystemExit(f"{folder}: there is nothing to read in it")
    return found


def main() -> int:
    """Read, and print what was measured as JSON."""
    parser = argparse.ArgumentParser(description="Read 4 KiB at random places.")
    parser.add_argument("target", type=Path, help="a file, or a folder with files")
    parser.add_argument("--source", type=Path, help="the same, unmeasured (default: the target)")
    parser.add_argument("--reads", type=int, default=2000, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--out", type=Path, help="also write it to this file")
    args = parser.parse_args()
    text = json.dumps(measure(args.target, args.source or args.target, args.reads, args.seed))
    print(text)
    if args.out is not None:
        args.out.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
