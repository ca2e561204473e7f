"""Sources: holes of real files, bad blocks, files that shrink, streams that wait."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onggi.archive.errors import SourceChangedError, SourceError
from onggi.archive.plan import Geometry
from onggi.archive.reader import Archive
from onggi.archive.source import StreamSource, VolumeSource, mounts_of, open_source
from onggi.archive.store import FileSpool, MemoryStore
from onggi.archive.writer import pack

BLOCK = 4096
MIB = 2**20


@pytest.fixture
def opened() -> Iterator[Callable[[Path], VolumeSource]]:
    """Open sources, and close them at the end."""
    sources: list[VolumeSource] = []

    def open_one(path: Path) -> VolumeSource:
        sources.append(VolumeSource(path))
        return sources[-1]

    yield open_one
    for source in sources:
        source.close()


# --- Holes ---------------------------------------------------------------------------------------


def sparse(path: Path, blocks: str, tail: int = 0) -> bytes:
    """Write a file: one block for each letter, `.` for a hole; return its content."""
    content = bytearray()
    with path.open("wb") as file:
        for letter in blocks:
            piece = bytes(BLOCK) if letter == "." else letter.encode() * BLOCK
            if letter == ".":
                file.seek(BLOCK, os.SEEK_CUR)
            else:
                file.write(piece)
            content += piece
        if tail:
            file.write(b"t" * tail)
        else:
            file.truncate(len(content))
    return bytes(content) + b"t" * tail


@pytest.mark.parametrize(
    "blocks", ["", "a", ".", "a.", ".a", "..aa..", "a.a.a", "aaaa", "....", ".a..aa...b"]
)
def test_holes_and_data_are_told_apart(
    blocks: str, tmp_path: Path, opened: Callable[[Path], VolumeSource]
) -> None:
    content = sparse(tmp_path / "x", blocks)
    source = opened(tmp_path / "x")
    assert source.content_bytes == len(content)
    for number, letter in enumerate(blocks):
        for offset in (number * BLOCK, number * BLOCK + 1, (number + 1) * BLOCK - 1):
            rest = blocks[number:]
            run = len(rest) - len(rest.lstrip("." if letter == "." else "ab"))
            end = (number + run) * BLOCK
            assert source.hole_end(offset) == (end if letter == "." else offset)
            assert source.data_end(offset) == (offset if letter == "." else end)
    assert source.hole_end(len(content)) == len(content)


def test_the_end_of_a_file_need_not_be_that_of_a_block(
    tmp_path: Path, opened: Callable[[Path], VolumeSource]
) -> None:
    sparse(tmp_path / "x", "..", tail=5)
    source = opened(tmp_path / "x")
    assert source.hole_end(0) == 8192
    assert source.data_end(8192) == 8197
    os.truncate(tmp_path / "y", 5000) if (tmp_path / "y").exists() else None
    with (tmp_path / "y").open("wb") as file:
        file.truncate(5000)
    assert opened(tmp_path / "y").hole_end(0) == 5000


@given(blocks=st.text("a.b", max_size=24), tail=st.sampled_from([0, 1, 4095]),
       frame=st.sampled_from([1, 2, 4]))  # fmt: skip
@settings(max_examples=60)
def test_a_sparse_file_is_packed_with_its_holes(
    blocks: str,
    tail: int,
    frame: int,
    tmp_path_factory: pytest.TempPathFactory,
    memory_target: Any,
    header_of: Any,
    unpacked: Callable[..., Any],
) -> None:
    """A frame is a hole where all of it is one; a frame that is one in part is data."""
    path = tmp_path_factory.getbasetemp() / "sparse"
    content = sparse(path, blocks, tail)
    source = VolumeSource(path)
    target = memory_target()
    geometry = Geometry(BLOCK * 6, BLOCK * frame, BLOCK)
    pack(source, target, header_of(geometry), threads=2, new_spool=FileSpool)
    source.close()
    archive = Archive(MemoryStore(target.data))
    got, findings = unpacked(archive)
    assert got == content
    assert findings == []
    letters = [*blocks, *("t" if tail else "")]
    expected = 0
    for unit in range(0, len(letters), 6):
        for first in range(0, min(6, len(letters) - unit), frame):
            piece = letters[unit:][:6][first : first + frame]
            expected += BLOCK * len(piece) * (set(piece) == {"."})
    assert archive.footer.hole_bytes == expected


def test_a_file_system_that_knows_no_holes_has_only_data(
    tmp_path: Path, opened: Callable[[Path], VolumeSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    sparse(tmp_path / "x", "..a")

    def lseek(fd: int, offset: int, how: int) -> int:
        raise OSError(errno.EINVAL, "no holes here")

    source = opened(tmp_path / "x")
    monkeypatch.setattr(os, "lseek", lseek)
    assert source.hole_end(0) == 0
    assert source.data_end(0) == 3 * BLOCK


# --- Reading -------------------------------------------------------------------------------------


class Disk:
    """Makes 4 KiB blocks of files unreadable, and counts the calls."""

    def __init__(self, bad: set[int], number: int = errno.EIO) -> None:
        self.bad = bad
        self.calls = 0
        self._error = OSError(number, os.strerror(number))
        self._preadv, self._pread = os.preadv, os.pread

    def _good_bytes(self, offset: int, size: int) -> int:
        """Return how much of a span can be read before a bad block."""
        self.calls += 1
        for block in range(offset // BLOCK, (offset + size - 1) // BLOCK + 1):
            if block in self.bad:
                size = block * BLOCK - offset
                break
        if size <= 0:
            raise OSError(self._error.errno, self._error.strerror)
        return size

    def preadv(self, fd: int, views: list[memoryview], offset: int) -> int:
        return self._preadv(fd, [views[0][: self._good_bytes(offset, len(views[0]))]], offset)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return self._pread(fd, self._good_bytes(offset, size), offset)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Disk]:
    """Make blocks unreadable."""

    def make(bad: set[int], number: int = errno.EIO) -> Disk:
        made = Disk(bad, number)
        monkeypatch.setattr(os, "preadv", made.preadv)
        monkeypatch.setattr(os, "pread", made.pread)
        return made

    return make


def runs_of(bad: set[int], end: int) -> list[tuple[int, int]]:
    """Return the runs of bad blocks as (offset, length)."""
    runs: list[tuple[int, int]] = []
    for block in sorted(bad):
        if runs and sum(runs[-1]) == block * BLOCK:
            runs[-1] = (runs[-1][0], runs[-1][1] + BLOCK)
        else:
            runs.append((block * BLOCK, BLOCK))
    return [(at, min(length, end - at)) for at, length in runs]


@pytest.mark.parametrize(
    "bad",
    [
        {0}, {1}, {9}, {10}, {0, 10}, {3, 4}, set(range(11)), set(range(5)), set(range(4, 11)),
        set(range(2, 9)), {0, 5}, {1, 9},
    ],
    ids=lambda bad: "-".join(map(str, sorted(bad))),
)  # fmt: skip
@pytest.mark.parametrize("number", [errno.EIO, errno.EREMOTEIO, errno.ENODATA, errno.EILSEQ])
def test_unreadable_blocks_are_runs_of_zeros_and_nothing_more(
    bad: set[int],
    number: int,
    tmp_path: Path,
    opened: Callable[[Path], VolumeSource],
    disk: Callable[..., Disk],
) -> None:
    content = bytearray(random.Random(1).randbytes(10 * BLOCK + 100))
    (tmp_path / "x").write_bytes(content)
    source = opened(tmp_path / "x")
    disk(bad, number)
    view = memoryview(bytearray(b"\xee" * len(content)))
    got, unreadable = source.read_into(view, 0)
    expected = runs_of(bad, len(content))
    for at, length in expected:
        content[at : at + length] = bytes(length)
    assert got == len(content)
    assert unreadable == expected
    assert view == content


@pytest.mark.parametrize("blocks", [1, 2, 3, 100, 1024, 5120, 5121])
@pytest.mark.parametrize("before", [0, 1, 777])
def test_a_bad_area_is_found_exactly_with_few_calls(
    blocks: int,
    before: int,
    tmp_path: Path,
    opened: Callable[[Path], VolumeSource],
    disk: Callable[..., Disk],
) -> None:
    """Each call that fails can take a disk many seconds: 5,120 blocks are 20 MiB."""
    total = 32 * MIB
    with (tmp_path / "x").open("wb") as file:
        file.truncate(total)
    source = opened(tmp_path / "x")
    made = disk(set(range(before, before + blocks)))
    view = memoryview(bytearray(total))
    assert source.read_into(view, 0) == (total, [(before * BLOCK, blocks * BLOCK)])
    assert made.calls <= 30


def test_a_read_that_ends_inside_a_bad_area_stays_inside(
    tmp_path: Path, opened: Callable[[Path], VolumeSource], disk: Callable[..., Disk]
) -> None:
    (tmp_path / "x").write_bytes(b"x" * 40 * BLOCK)
    source = opened(tmp_path / "x")
    disk(set(range(3, 40)))
    view = memoryview(bytearray(5 * BLOCK))
    assert source.read_into(view, 0) == (5 * BLOCK, [(3 * BLOCK, 2 * BLOCK)])
    assert source.read_into(view, 5 * BLOCK) == (5 * BLOCK, [(5 * BLOCK, 5 * BLOCK)])


def test_unreadable_blocks_of_a_packed_file_are_listed(
    tmp_path: Path,
    opened: Callable[[Path], VolumeSource],
    disk: Callable[..., Disk],
    memory_target: Any,
    header_of: Any,
    small: Geometry,
) -> None:
    (tmp_path / "x").write_bytes(b"x" * 20 * BLOCK)
    source = opened(tmp_path / "x")
    disk({1, 3, 4, 5, 19})
    target = memory_target()
    result = pack(source, target, header_of(small), threads=2, new_spool=FileSpool)
    archive = Archive(MemoryStore(target.data))
    expected = [(BLOCK, BLOCK), (3 * BLOCK, 3 * BLOCK), (19 * BLOCK, BLOCK)]
    assert list(archive.unreadable()) == expected
    assert result.footer.unreadable_bytes == 5 * BLOCK
    assert archive.read(BLOCK, 2 * BLOCK) == bytes(BLOCK) + b"x" * BLOCK


def test_other_errors_of_reading_end_it(
    tmp_path: Path, opened: Callable[[Path], VolumeSource], disk: Callable[..., Disk]
) -> None:
    (tmp_path / "x").write_bytes(b"x" * 100)
    source = opened(tmp_path / "x")
    disk({0}, errno.EACCES)
    with pytest.raises(SourceError, match="Permission denied"):
        source.read_into(memoryview(bytearray(100)), 0)


def test_short_reads_are_taken_on(
    tmp_path: Path, opened: Callable[[Path], VolumeSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = random.Random(2).randbytes(1000)
    (tmp_path / "x").write_bytes(content)
    source = opened(tmp_path / "x")
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, views, at: preadv(fd, [views[0][:33]], at))
    view = memoryview(bytearray(900))
    assert source.read_into(view, 50) == (900, [])
    assert view == content[50:950]


@pytest.mark.parametrize("length", [0, 1, 16_384, 20_000, 65_535])
@pytest.mark.parametrize("blocks", ["a" * 16, "." * 16, "aaaa........aaaa"])
def test_a_file_that_shrinks_is_an_error_whether_it_has_holes_or_not(
    length: int,
    blocks: str,
    tmp_path: Path,
    opened: Callable[[Path], VolumeSource],
    memory_target: Any,
    header_of: Any,
    small: Geometry,
) -> None:
    """What is cut off looks like a hole to SEEK_DATA."""
    sparse(tmp_path / "x", blocks)
    source = opened(tmp_path / "x")
    os.truncate(tmp_path / "x", length)
    target = memory_target()
    with pytest.raises(SourceChangedError, match="when it was opened"):
        pack(source, target, header_of(small), threads=2, new_spool=FileSpool)
    assert target.calls == ["discard"]


def test_changes_of_a_file_are_told(tmp_path: Path, opened: Callable[[Path], VolumeSource]) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x" * 100)
    source = opened(path)
    assert source.changed() is None
    os.utime(path, ns=(1, 1))
    assert source.changed() == "it was written to"
    os.truncate(path, 120)
    assert source.changed() == "its length went from 100 to 120 bytes"
    source.will_need(0, 100)
    source.done_with(0, 100)
    source.cancel()


def test_a_file_that_grows_is_packed_as_long_as_it_was(
    tmp_path: Path,
    opened: Callable[[Path], VolumeSource],
    memory_target: Any,
    header_of: Any,
    small: Geometry,
) -> None:
    (tmp_path / "x").write_bytes(b"x" * 20_000)
    source = opened(tmp_path / "x")
    with (tmp_path / "x").open("ab") as file:
        file.write(b"y" * 50_000)
    target = memory_target()
    result = pack(source, target, header_of(small), threads=2, new_spool=FileSpool)
    archive = Archive(MemoryStore(target.data))
    assert archive.read(0, 99_999) == b"x" * 20_000
    assert archive.member().changed
    assert [finding.code for finding in result.findings] == ["source-changed"]


def test_what_is_known_of_a_file(tmp_path: Path, opened: Callable[[Path], VolumeSource]) -> None:
    path = tmp_path / "ü\udcff.img"
    path.write_bytes(b"x" * 10)
    os.utime(path, ns=(5, 123_456_789))
    source = opened(path)
    assert source.name == os.fsencode(path.name)
    assert source.mtime_ns == 123_456_789
    facts = source.facts()
    assert (facts["type"], facts["bytes"]) == ("image", 10)
    assert facts["path"].startswith(str(tmp_path))
    assert not source.is_device
    assert source.mounted_for_writing() is None


def test_what_can_not_be_packed_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "missing", Path("/dev/null")):
        with pytest.raises(SourceError):
            open_source(str(path))


def test_the_kernels_table_tells_where_a_device_is_mounted() -> None:
    root = os.stat("/")
    number = f"{os.major(root.st_dev)}:{os.minor(root.st_dev)}"
    assert mounts_of("0:99999") == []
    assert any(mount.place == "/" for mount in mounts_of(number))


# --- Streams -------------------------------------------------------------------------------------


def test_a_stream_fills_each_unit_however_slowly_it_comes() -> None:
    read_end, write_end = os.pipe()
    source = open_source("-", read_end)
    content = random.Random(3).randbytes(50_000)

    def feed() -> None:
        for at in range(0, len(content), 999):
            os.write(write_end, content[at : at + 999])
        os.close(write_end)

    thread = threading.Thread(target=feed)
    thread.start()
    view = memoryview(bytearray(20_000))
    got: list[bytes] = []
    while done := source.read_into(view, 0)[0]:
        got.append(bytes(view[:done]))
    thread.join()
    os.close(read_end)
    assert [len(piece) for piece in got] == [20_000, 20_000, 10_000]
    assert b"".join(got) == content


def test_a_stream_from_a_file_is_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * 1000)
    with (tmp_path / "x").open("rb") as file:
        source = StreamSource(file.fileno())
        view = memoryview(bytearray(4000))
        assert source.read_into(view, 0) == (1000, [])
        assert source.read_into(view, 0) == (0, [])


def test_a_silent_stream_can_be_cancelled() -> None:
    read_end, write_end = os.pipe()
    source = StreamSource(read_end)
    timer = threading.Timer(0.1, source.cancel)
    timer.start()
    began_s = time.monotonic()
    assert source.read_into(memoryview(bytearray(10)), 0) == (0, [])
    assert time.monotonic() - began_s < 5
    timer.join()
    os.close(read_end)
    os.close(write_end)


def test_a_pack_of_a_silent_stream_ends_when_it_is_stopped(
    memory_target: Any, target_failed: Any, header_of: Any, small: Geometry
) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"x" * 16_384)
    with pytest.raises(target_failed):
        pack(
            StreamSource(read_end), memory_target(1), header_of(small), threads=2,
            new_spool=FileSpool,
        )  # fmt: skip
    os.close(read_end)
    os.close(write_end)


def test_a_stream_that_is_closed_is_an_error() -> None:
    read_end, write_end = os.pipe()
    os.close(write_end)
    source = StreamSource(read_end)
    os.close(read_end)
    with pytest.raises(SourceError, match="can't read standard input"):
        source.read_into(memoryview(bytearray(10)), 0)


def test_a_stream_without_blocking_is_waited_for() -> None:
    read_end, write_end = os.pipe()
    flags = fcntl.fcntl(read_end, fcntl.F_GETFL)
    fcntl.fcntl(read_end, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    timer = threading.Timer(0.1, lambda: (os.write(write_end, b"late"), os.close(write_end)))
    timer.start()
    view = memoryview(bytearray(10))
    assert StreamSource(read_end).read_into(view, 0) == (4, [])
    timer.join()
    os.close(read_end)


def test_a_terminal_is_no_stream() -> None:
    leader, follower = pty.openpty()
    try:
        with pytest.raises(SourceError, match="terminal"):
            StreamSource(follower)
    finally:
        os.close(leader)
        os.close(follower)


def test_what_is_known_of_a_stream() -> None:
    read_end, write_end = os.pipe()
    source = open_source("-", read_end)
    assert (source.name, source.content_bytes, source.mtime_ns) == (b"stdin", None, 0)
    assert source.facts() == {"path": "-", "type": "stream"}
    assert source.hole_end(5) == 5
    assert source.data_end(5) > 2**62
    assert source.changed() is None
    source.will_need(0, 1)
    source.done_with(0, 1)
    source.close()
    os.close(read_end)
    os.close(write_end)
