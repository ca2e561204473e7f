"""The library: the bytes of files, read in any part and by many threads, until it is closed."""

from __future__ import annotations

import io
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from onggi import archive
from onggi.archive.store import FileStore

from .api_helpers import FIXTURES, FRAME, SIZES, UNIT, CountingStore, Frames, files_of
from .api_helpers import folder as folder
from .api_helpers import opened as opened
from .api_helpers import packed_path as packed_path

# --- content -------------------------------------------------------------------------------------


def test_files_read_as_they_were(opened: archive.OpenArchive, folder: Path) -> None:
    expected = files_of(folder)
    assert len(expected) == len(SIZES) + 5
    for path, content in expected.items():
        assert opened.read(path) == content
        with opened.open(path) as file:
            assert file.read() == content
            assert file.size == len(content)


EDGES = [0, 1, FRAME - 1, FRAME, FRAME + 1, UNIT - 1, UNIT, UNIT + 1, 2 * UNIT + 76, 2 * UNIT + 77]


@pytest.mark.parametrize("inner", ["data/units", "data/deep/again"])
def test_parts_are_read_around_each_border(
    opened: archive.OpenArchive, folder: Path, inner: str
) -> None:
    content = (folder / inner).read_bytes()
    with opened.open(inner, buffer_bytes=64) as file:
        for start in [*EDGES, len(content) + 1]:
            for end in [*EDGES, len(content) + 9]:
                size = max(end - start, 0)
                assert opened.read(inner, start, size) == content[start : start + size]
                file.seek(start)
                assert file.read(size) == content[start : start + size]
            assert opened.read(inner, start) == content[start:]


def test_holes_read_as_zeros(opened: archive.OpenArchive, folder: Path) -> None:
    content = (folder / "sparse").read_bytes()
    data = 64 * 1024
    end = data + 13_000
    for at in (0, data - 1, data, data + 1, end - 1, end, end + 1, len(content) - 1):
        for size in (0, 1, 2, 5000, len(content)):
            assert opened.read("sparse", at, size) == content[at : at + size]


def test_a_file_larger_than_any_memory_is_read_in_parts() -> None:
    with archive.open(FIXTURES / "ok-tree-largest-files.onggi") as opened:
        size = opened.stat("a").size
        assert size == 2**63 - 1
        assert opened.read("a", size - 10) == bytes(10)
        with pytest.raises(archive.BadUseError, match="too many for one read"):
            opened.read("a")
        with opened.open("a") as file:
            assert file.seek(-3, os.SEEK_END) == size - 3
            assert file.read() == bytes(3)
            file.seek(0)
            with pytest.raises(archive.BadUseError, match="too many"):
                file.read()


def test_a_negative_number_is_refused(opened: archive.OpenArchive) -> None:
    for offset, size in ((-1, 5), (0, -1), (-1, None)):
        with pytest.raises(archive.BadUseError):
            opened.read("text", offset, size)


def test_an_open_file_is_a_file_of_python(opened: archive.OpenArchive, folder: Path) -> None:
    content = (folder / "data/units").read_bytes()
    with opened.open("data/units") as file:
        assert isinstance(file, io.BufferedReader)
        assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
        assert (file.mode, file.name) == ("rb", "data/units")
        into = bytearray(10_000)
        assert file.readinto(into) == 10_000
        assert into == content[:10_000]
        assert file.tell() == 10_000
        assert file.seek(-5, os.SEEK_CUR) == 9995
        assert file.peek(3)[:3] == content[9995:9998]
        assert file.seek(5, os.SEEK_END) == len(content) + 5
        assert (file.read(1), file.read()) == (b"", b"")
        with pytest.raises(ValueError, match="negative"):
            file.seek(-1)
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
    with opened.open("text") as file, io.TextIOWrapper(file) as text:
        assert list(text) == ["one\n", "two\n", "three\n"]
    assert file.closed
    with pytest.raises(ValueError, match="closed"):
        file.read()


def test_a_file_without_a_buffer_fills_what_it_is_given(
    opened: archive.OpenArchive, folder: Path
) -> None:
    content = (folder / "data/units").read_bytes()
    raw = opened.open("data/units").detach()
    words = memoryview(bytearray(8000)).cast("I")
    assert raw.readinto(words) == 8000
    assert words.tobytes() == content[:8000]
    assert raw.readall() == content[8000:]
    assert (raw.readall(), raw.read(5)) == (b"", b"")
    raw.seek(len(content) - 4)
    rest = bytearray(b"........")
    assert raw.readinto(rest) == 4
    assert rest == content[-4:] + b"...."
    with pytest.raises(ValueError, match="whence"):
        raw.seek(0, 7)
    raw.close()
    for use in (raw.tell, raw.readall, lambda: raw.seek(0), lambda: raw.readinto(rest)):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_only_the_frames_that_hold_the_bytes_are_read(path: Path, folder: Path) -> None:
    """A file begins anywhere in a frame: which frames are its own, single bytes tell."""
    frames = Frames(path)
    content = (folder / "data/units").read_bytes()
    with FileStore(path) as file:
        store = CountingStore(file)
        with archive.open(store, cache_bytes=0) as opened:
            opened.stat("data/units")
            assert frames.touched(store) == set()
            store.reads.clear()
            assert opened.read("data/units", 0, 1) == content[:1]
            (first,) = frames.touched(store)
            seen = {first}
            for at in [*range(0, len(content), 1000), len(content) - 1]:
                store.reads.clear()
                assert opened.read("data/units", at, 1) == content[at : at + 1]
                touched = frames.touched(store)
                assert len(touched) <= 1, "the frame that was read last is kept"
                seen |= touched
            assert seen == set(range(first, first + len(seen)))
            assert len(seen) in (9, 10)
            store.reads.clear()
            assert opened.read("data/units", 2 * FRAME, FRAME) == content[2 * FRAME : 3 * FRAME]
            assert frames.touched(store) <= {first + 2, first + 3}
        assert file.read_at(0, 4), "a store of the caller stays open"


def test_what_was_decoded_is_kept(path: Path, folder: Path) -> None:
    with FileStore(path) as file:
        store = CountingStore(file)
        with archive.open(store) as opened:
            content = opened.read("data/units")
            store.reads.clear()
            assert opened.read("data/units") == content == (folder / "data/units").read_bytes()
            with opened.open("data/deep/again") as again:
                assert again.read() == content
            assert store.reads == []


# --- threads and closing -------------------------------------------------------------------------


def test_threads_share_an_archive_and_its_files(opened: archive.OpenArchive, folder: Path) -> None:
    expected = files_of(folder)
    whole = expected["data/units"]

    def work(seed: int) -> None:
        noise = random.Random(seed)
        for _ in range(60):
            path = noise.choice(list(expected))
            at, size = noise.randrange(70_000), noise.randrange(9000)
            assert opened.read(path, at, size) == expected[path][at : at + size]
            assert opened.stat(path).size == len(expected[path])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    with opened.open("data/units", buffer_bytes=16) as shared, ThreadPoolExecutor(8) as pool:
        pieces = list(pool.map(lambda _: shared.read(7), range(len(whole) // 7 + 1)))
    assert sum(map(len, pieces)) == len(whole)
    assert sorted(pieces) == sorted(whole[at : at + 7] for at in range(0, len(whole), 7))


def test_a_closed_archive_can_t_be_read(path: Path) -> None:
    with archive.open(path) as opened:
        file, raw = opened.open("text"), opened.open("text").detach()
        entry = opened.stat("text")
        walk, scan = opened.walk(), opened.scandir()
        next(walk), next(scan)
        opened.read("data/at")
        cached = opened.open("text").detach()
        assert cached.read(3) == b"one"
    opened.close()
    assert opened.is_closed
    for use in (
        lambda: opened.read("data/at"), lambda: opened.stat("text"), lambda: opened.exists("text"),
        opened.listdir, opened.scandir, opened.walk, lambda: opened.open("text"), opened.verify,
        lambda: opened.extract(path.parent / "out"), lambda: next(walk), lambda: next(scan),
        file.read, raw.readall, cached.readall, entry.xattrs, lambda: entry.user,
    ):  # fmt: skip
        with pytest.raises(archive.ArchiveClosedError, match="the archive was closed") as caught:
            use()
        assert isinstance(caught.value, ValueError)
    file.close()
    assert not (path.parent / "out").exists()
    assert (entry.path, entry.size) == ("text", 14)


class SlowStore:
    """Holds each read of content until it is let go, once it was told to; counts its closing."""

    def __init__(self, path: Path) -> None:
        self.file = FileStore(path)
        self.slow = False
        self.entered, self.go = threading.Event(), threading.Event()

    @property
    def size(self) -> int:
        return self.file.size

    def read_at(self, archive_offset: int, size: int, /) -> bytes:
        return self.file.read_at(archive_offset, size)

    def read_into(self, archive_offset: int, view: memoryview, /) -> int:
        if self.slow:
            self.entered.set()
            assert self.go.wait(10)
        return self.file.read_into(archive_offset, view)


def test_closing_waits_for_nobody_and_breaks_no_read_that_is_under_way(
    path: Path, folder: Path
) -> None:
    from onggi.archive.api import open_guarded
    from onggi.archive.guarded_store import GuardedStore

    store = SlowStore(path)
    closed: list[bool] = []

    def close() -> None:
        closed.append(True)
        store.file.close()

    opened = open_guarded(GuardedStore(store, close), 0)
    opened.stat("data/below")
    store.slow = True
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(opened.read, "data/below", 0, 1)
        assert store.entered.wait(10)
        opened.close()
        assert not closed, "the file stays open for the read"
        with pytest.raises(archive.ArchiveClosedError):
            opened.read("data/at")
        store.go.set()
        assert reading.result(10) == (folder / "data/below").read_bytes()[:1]
    assert closed == [True]
    opened.close()
    assert closed == [True]


def test_an_archive_that_is_forgotten_closes_its_file(path: Path) -> None:
    def descriptors() -> int:
        return sum(
            1
            for link in Path("/proc/self/fd").iterdir()
            if os.path.exists(link) and os.path.samefile(link, path)
        )

    opened = archive.open(path)
    file = opened.open("text")
    assert descriptors() == 1
    del opened
    assert file.read() == b"one\ntwo\nthree\n", "a file keeps its archive"
    del file
    assert descriptors() == 0
    path.write_bytes(b"no archive any more")
    with pytest.raises(archive.NotAnArchiveError) as caught:
        archive.open(path)
    assert descriptors() == 0, "not even while the error is looked at"
    assert caught.value.code == "not-an-archive"
    with pytest.raises(archive.SourceError):
        archive.open(path.parent)
