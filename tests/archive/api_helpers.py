"""What the tests of the library share: a real folder, and its archive.

Fixtures are imported from here as themselves (`folder as folder`): so they do not look unused.
"""

from __future__ import annotations

import bisect
import os
import random
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from onggi import archive
from onggi.archive.reader import Archive
from onggi.archive.store import FileStore, Store

FIXTURES = Path(__file__).parents[2] / "fixtures/archives"
FRAME = 4096
UNIT = 16_384
IDENTITY = UUID("6f6e6767-6921-4a61-b272-6f6620746573")
SIZES = {"below": FRAME - 1, "at": FRAME, "above": FRAME + 1, "units": 2 * UNIT + 77}
NO_UTF8 = b"caf\xe9 \xff"


class CountingStore:
    """Remembers where it was read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reads: list[tuple[int, int]] = []

    @property
    def size(self) -> int:
        return self._store.size

    def read_at(self, archive_offset: int, size: int, /) -> bytes:
        self.reads.append((archive_offset, size))
        return self._store.read_at(archive_offset, size)

    def read_into(self, archive_offset: int, view: memoryview, /) -> int:
        self.reads.append((archive_offset, len(view)))
        return self._store.read_into(archive_offset, view)


class Frames:
    """Where the frames of an archive stand, and which of them reads have touched."""

    def __init__(self, path: Path) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []
        with FileStore(path) as store:
            opened = Archive(store)
            for unit in opened.index.units():
                at = unit.payload_offset
                for frame in opened.index.frames(unit):
                    self.starts.append(at)
                    at += frame.stored_bytes
                    self.ends.append(at)

    def touched(self, store: CountingStore) -> set[int]:
        """Return the numbers of the frames of which a byte was read."""
        numbers: set[int] = set()
        for at, size in store.reads:
            number = bisect.bisect_right(self.ends, at)
            while number < len(self.starts) and self.starts[number] < at + size:
                numbers.add(number)
                number += 1
        return numbers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A real folder with one of each thing that any user can make."""
    source = tmp_path / "source"
    (source / "data/deep").mkdir(parents=True)
    (source / "empty folder").mkdir()
    noise = random.Random(7)
    for name, size in SIZES.items():
        (source / "data" / name).write_bytes(noise.randbytes(size))
    (source / "empty").touch()
    (source / "text").write_text("one\ntwo\nthree\n")
    os.link(source / "data/units", source / "data/deep/again")
    (source / "link").symlink_to("data/units")
    os.mkfifo(source / "pipe", 0o640)
    Path(os.fsdecode(os.fsencode(source) + b"/" + NO_UTF8)).write_bytes(b"named in Latin-1")
    with (source / "sparse").open("wb") as file:
        file.seek(64 * 1024)
        file.write(b"in the middle" * 1000)
        file.truncate(1024 * 1024)
    os.chmod(source / "text", 0o4640)
    os.utime(source / "text", ns=(0, 1_234_567_890_123_456_789))
    return source


@pytest.fixture(name="path")
def packed_path(folder: Path, tmp_path: Path) -> Path:
    """An archive of the folder, in frames of 4 KiB and units of 16 KiB."""
    place = tmp_path / "packed.onggi"
    archive.pack_folder(folder, place, frame_bytes=FRAME, unit_bytes=UNIT, dedup=False)
    return place


@pytest.fixture
def opened(path: Path) -> Iterator[archive.OpenArchive]:
    with archive.open(path) as opened:
        yield opened


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the regular files below a folder: path and content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
