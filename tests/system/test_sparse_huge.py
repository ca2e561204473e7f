"""A volume far larger than memory: 10 TiB, sparse, with a few islands of data."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from onggi.archive.reader import Archive
from onggi.archive.store import FileStore

MIB = 1 << 20
TIB = 1 << 40
SIZE = 10 * TIB
UNIT = 20 * MIB
FRAME = 640 * 1024
ISLANDS = {
    0: 4096,
    7 * UNIT - 5_000: 10_000,  # over the bound of two units
    5 * TIB + 12_288: 3 * MIB + 17,
    9 * TIB + 1: 1,
    SIZE - 70_000: 70_000,
}
COMMAND = (sys.executable, "-m", "onggi.cli")
PACK_S, OPEN_S, MOST_BYTES = 120, 30, 200 * MIB


def island(offset: int) -> bytes:
    """Return what stands at an island's offset; none of it is a zero."""
    return random.Random(offset).randbytes(ISLANDS[offset]).replace(b"\0", b"\x01")


@dataclass(frozen=True)
class Huge:
    """The archive of a huge volume, and what packing took."""

    archive: Path
    meter: Any
    result: dict[str, Any]


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory, new_meter: Any) -> Iterator[Huge]:
    """Pack a sparse file of 10 TiB, once; the 1 GB of archive goes when the tests have ended."""
    folder = tmp_path_factory.mktemp("huge")
    try:
        with (folder / "volume.img").open("wb") as file:
            file.truncate(SIZE)
            for offset in ISLANDS:
                file.seek(offset)
                file.write(island(offset))
        meter = new_meter()
        done = subprocess.run(
            [*meter.prefix, *COMMAND, "pack", "volume.img", "volume.onggi", "--json"],
            cwd=folder, capture_output=True, check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        yield Huge(folder / "volume.onggi", meter, json.loads(done.stdout.splitlines()[-1]))
    finally:
        shutil.rmtree(folder)


def test_ten_tebibytes_are_packed_in_seconds_and_little_memory(huge: Huge) -> None:
    assert huge.result["content_bytes"] == SIZE
    assert huge.result["units"] == -(-SIZE // UNIT)
    # Every frame without an island is a hole.
    frames = sum(
        (offset + length - 1) // FRAME - offset // FRAME + 1 for offset, length in ISLANDS.items()
    )
    assert huge.result["hole_bytes"] + huge.result["zero_bytes"] == SIZE - frames * FRAME
    assert huge.result["zero_bytes"] == 0
    assert huge.meter.seconds < PACK_S
    assert huge.meter.peak_bytes < MOST_BYTES


@pytest.mark.parametrize(
    "words", [("info",), ("info", "--map"), ("verify", "--level", "structure")], ids=" ".join
)
def test_it_is_opened_and_its_structure_verified_in_seconds_and_little_memory(
    words: tuple[str, ...], huge: Huge, onggi: Any, new_meter: Any
) -> None:
    meter = new_meter()
    command, *options = words
    ran = onggi.ok(command, huge.archive, *options, prefix=meter.prefix)
    assert ran.out
    assert meter.seconds < OPEN_S
    assert meter.peak_bytes < MOST_BYTES


def test_islands_are_read_at_random_without_reading_the_rest(huge: Huge) -> None:
    with FileStore(huge.archive) as file:
        store = CountingStore(file)
        archive = Archive(store)
        for offset in sorted(ISLANDS, reverse=True):
            data = island(offset)
            before = min(offset, 100)
            expected = bytes(before) + data + bytes(100)
            got = archive.read(offset - before, before + len(data) + 100)
            assert got == expected[: min(SIZE - offset + before, len(expected))]
        assert archive.read(3 * TIB, 4096) == bytes(4096)
        assert archive.read(SIZE, 4096) == b""
    assert store.read_bytes < 16 * MIB
    assert store.reads < 200


def test_it_comes_back_as_a_sparse_file(huge: Huge, onggi: Any, new_meter: Any) -> None:
    back = onggi.folder / "back.img"
    meter = new_meter()
    try:
        onggi.ok("unpack", huge.archive, back, prefix=meter.prefix)
        assert back.stat().st_size == SIZE
        assert back.stat().st_blocks * 512 < 4 * MIB + 5 * 64 * 1024
        with back.open("rb") as file:
            for offset in ISLANDS:
                before = min(offset, 100)
                file.seek(offset - before)
                data = file.read(before + ISLANDS[offset] + 100)
                expected = bytes(before) + island(offset) + bytes(100)
                assert data == expected[: len(data)]
                assert len(data) == min(len(expected), SIZE - offset + before)
        assert data_bytes(back) < 4 * MIB + 5 * 64 * 1024, "all the rest is holes"
    finally:
        back.unlink(missing_ok=True)
    assert meter.seconds < PACK_S
    assert meter.peak_bytes < MOST_BYTES


class CountingStore:
    """A store that counts what is read."""

    def __init__(self, file: FileStore) -> None:
        self._file = file
        self.reads = 0
        self.read_bytes = 0

    @property
    def size(self) -> int:
        return self._file.size

    def read_at(self, archive_offset: int, size: int, /) -> bytes:
        data = self._file.read_at(archive_offset, size)
        self.reads += 1
        self.read_bytes += len(data)
        return data

    def read_into(self, archive_offset: int, view: memoryview, /) -> int:
        self.reads += 1
        self.read_bytes += len(view)
        return self._file.read_into(archive_offset, view)


def data_bytes(path: Path) -> int:
    """Return how much of a file is data, as the file system tells."""
    found = 0
    with path.open("rb") as file:
        at = 0
        while at < SIZE:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            found += at - start
    return found
