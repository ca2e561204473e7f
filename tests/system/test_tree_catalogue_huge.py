"""A catalogue of ten million entries, without the files: opened and looked up in little memory."""

from __future__ import annotations

import random
import shutil
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from onggi.archive import layout, pax
from onggi.archive.assemble import Assembler
from onggi.archive.entry import Summary
from onggi.archive.header import Header
from onggi.archive.plan import Geometry
from onggi.archive.reader import Archive
from onggi.archive.store import FileSpool, FileStore, NewFile
from onggi.archive.unit import UnitEncoder
from onggi.archive.view import View
from onggi.archive.writer import append_all

MIB = 1 << 20
TOPS, MIDDLES, FILES = 10, 1000, 999  # 10 + 10,000 + 9,990,000 entries, and the root
ENTRIES = 1 + TOPS + TOPS * MIDDLES * (1 + FILES)
COMMAND = (sys.executable, "-m", "onggi.cli")
MOST_BYTES = 200 * MIB
FILE_NAMES = [b"file-%03d.txt" % n for n in range(FILES)]


class Rows:
    """Writes the rows of spec section 6.5 for folders of folders of empty files."""

    def __init__(self, assembler: Assembler) -> None:
        self._entries = assembler.table(layout.TABLE_ENTRIES)
        self._strings = assembler.table(layout.TABLE_STRINGS)
        self._sizes = [len(name) for name in FILE_NAMES]
        self._joined = b"".join(FILE_NAMES)

    def directory(self, name: bytes, parent: int, first: int, count: int) -> None:
        at = self._strings.rows if name else 0
        self._strings.append(name)
        self._entries.append(
            layout.ENTRY_ROW.pack(
                layout.ENTRY_DIRECTORY, 0, 0o755, 1000, 1000, 0, 1_700_000_000_000_000_000, parent,
                at, len(name), bytes(2), 0, 0, first, count, 1, bytes(4),
            )
        )  # fmt: skip

    def files(self, parent: int) -> None:
        at = self._strings.rows
        self._strings.append(self._joined)
        pack = layout.ENTRY_ROW.pack
        rows: list[bytes] = []
        for size in self._sizes:
            rows.append(
                pack(
                    layout.ENTRY_FILE, 0, 0o644, 1000, 1000, 0, 1_700_000_000_000_000_000, parent,
                    at, size, bytes(2), 0, 0, 0, 0, 1, bytes(4),
                )
            )  # fmt: skip
            at += size
        self._entries.append(b"".join(rows))


def make(path: Path, tops: int = TOPS) -> None:
    """Write an archive; its content is the end of a tar alone."""
    geometry = Geometry(20 * MIB, 4 * MIB, 4096)
    header = Header(uuid.UUID(int=7), geometry, 0, 3, layout.KIND_TREE)
    assembler = Assembler(header, FileSpool)
    target = NewFile(path)
    target.append([assembler.begin()])
    encoder = UnitEncoder(header.uuid, geometry, 3)
    target.append(assembler.add(encoder.encode(0, len(pax.END), [memoryview(pax.END)])))
    rows = Rows(assembler)
    rows.directory(b"", 0, 1, tops)
    per_top = MIDDLES * (1 + FILES)
    first = 1 + tops
    for top in range(tops):
        rows.directory(b"top-%d" % top, 0, first + top * per_top, MIDDLES)
    for top in range(tops):
        start = first + top * per_top  # the folders of this top; then the files of each
        for middle in range(MIDDLES):
            name = b"folder-%04d" % middle
            rows.directory(name, 1 + top, start + MIDDLES + middle * FILES, FILES)
        for middle in range(MIDDLES):
            rows.files(start + middle)
    summary = Summary(0, tops * MIDDLES * FILES, 1 + tops + tops * MIDDLES)
    assembler.table(layout.TABLE_SUMMARY).append(layout.SUMMARY_ROW.pack(*summary))
    append_all(target, assembler.finish())
    target.commit()


@dataclass(frozen=True)
class Huge:
    """The archive."""

    path: Path


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Huge]:
    """Make the archive once."""
    folder = tmp_path_factory.mktemp("ten-million")
    try:
        make(folder / "huge.onggi")
        yield Huge(folder / "huge.onggi")
    finally:
        shutil.rmtree(folder)


class CountingStore:
    """Counts what is read of an archive."""

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self.reads = 0
        self.read_bytes = 0

    @property
    def size(self) -> int:
        return self._store.size

    def read_at(self, archive_offset: int, size: int, /) -> bytes:
        data = self._store.read_at(archive_offset, size)
        self.reads += 1
        self.read_bytes += len(data)
        return data

    def read_into(self, archive_offset: int, view: memoryview, /) -> int:
        got = self._store.read_into(archive_offset, view)
        self.reads += 1
        self.read_bytes += got
        return got


def test_opening_and_looking_up_read_a_few_pages_of_ten_million_entries(huge: Huge) -> None:
    noise = random.Random(3)
    with FileStore(huge.path) as file:
        store = CountingStore(file)
        view = View(Archive(store))
        assert len(view.tree) == ENTRIES
        assert store.reads < 10
        assert store.read_bytes < MIB
        seconds: list[float] = []
        for _ in range(200):
            names = (noise.randrange(TOPS), noise.randrange(MIDDLES), noise.choice(FILE_NAMES))
            path = b"top-%d/folder-%04d/%b" % names
            before, began = store.reads, time.perf_counter()
            entry = view.entry(path)
            seconds.append(time.perf_counter() - began)
            assert view.tree.path(entry) == path
            assert store.reads - before < 60
        print(f"a look-up takes {statistics.median(seconds) * 1000:.2f} ms")
        assert view.tree.lookup(b"top-3/folder-0500/file-999.txt") is None
        assert view.tree.lookup(b"top-3/nothing") is None


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (("info",), None),
        (("ls",), TOPS),
        (("ls", "top-7/folder-0123"), FILES),
        (("ls", "-R", "top-4"), MIDDLES * (1 + FILES)),
    ],
    ids=str,
)
def test_commands_take_little_memory(
    words: tuple[str, ...], lines: int | None, huge: Huge, onggi: Any, new_meter: Any
) -> None:
    meter = new_meter()
    command, *rest = words
    options = [word for word in rest if word.startswith("-")]
    paths = [word for word in rest if not word.startswith("-")]
    ran = onggi.ok(command, *options, huge.path, *paths, prefix=meter.prefix)
    if lines is not None:
        assert ran.out.count(b"\n") == lines
    assert meter.peak_bytes < MOST_BYTES


def test_all_rules_are_checked_in_little_memory(tmp_path: Path, new_meter: Any) -> None:
    make(tmp_path / "million.onggi", 1)
    meter = new_meter()
    done = subprocess.run(
        [*meter.prefix, *COMMAND, "verify", "--level", "structure", tmp_path / "million.onggi"],
        capture_output=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert meter.peak_bytes < MOST_BYTES
