"""Packing: what is committed, what is discarded, and what a stopped pack leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from onggi.archive import layout
from onggi.archive.errors import BadUseError, SourceChangedError, SourceError, StoreError
from onggi.archive.footer import Footer
from onggi.archive.header import Header
from onggi.archive.plan import Geometry
from onggi.archive.progress import Progress
from onggi.archive.reader import Archive
from onggi.archive.store import FileSpool, FileStore, MemoryStore, NewFile
from onggi.archive.verify import Level, verify
from onggi.archive.writer import pack


@pytest.fixture
def header(header_of: Callable[[Geometry], Header], small: Geometry) -> Header:
    return header_of(small)


class Stopped(BaseException):
    """What a signal handler raises."""


def run(source: Any, target: Any, header: Header, **options: Any) -> Any:
    options = {"threads": 2, "new_spool": FileSpool} | options
    return pack(source, target, header, **options)


@pytest.mark.parametrize(
    "error",
    [
        SourceError("gone"), SourceChangedError("shrank"), OSError("odd"), KeyboardInterrupt(),
        Stopped(),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fail_at", [0, 3])
def test_an_error_of_the_source_discards_the_archive(
    error: BaseException,
    stream: bool,
    fail_at: int,
    memory_source: Any,
    memory_target: Any,
    header: Header,
) -> None:
    content = b"x" * 16_384 * 9
    source = memory_source(content, stream=stream, fail_at=fail_at, error=error)
    target = memory_target()
    with pytest.raises(type(error)) as caught:
        run(source, target, header)
    assert caught.value is error
    assert target.calls == ["discard"]
    assert source.cancelled == 1


def test_an_error_of_the_target_at_any_append_discards_the_archive(
    memory_source: Any, memory_target: Any, target_failed: Any, header: Header
) -> None:
    content = b"x" * 16_384 * 3
    whole = memory_target()
    run(memory_source(content), whole, header)
    assert whole.appends >= 3 + 1 + 6 + 1
    for fail_at in range(whole.appends):
        target = memory_target(fail_at)
        with pytest.raises(target_failed):
            run(memory_source(content), target, header)
        assert target.calls == ["discard"], fail_at
        assert target.appends == fail_at + 1


def test_an_error_of_the_report_discards_the_archive(
    memory_source: Any, memory_target: Any, header: Header
) -> None:
    def report(progress: Progress) -> None:
        if progress.content_bytes > 40_000:
            raise Stopped

    target = memory_target()
    with pytest.raises(Stopped):
        run(memory_source(b"x" * 16_384 * 9), target, header, report=report)
    assert target.calls == ["discard"]


def test_what_the_check_raises_discards_the_archive(
    memory_source: Any, memory_target: Any, header: Header
) -> None:
    def check(footer: Footer) -> None:
        assert target.calls == ["sync"]
        assert Archive(MemoryStore(target.data)).footer == footer
        raise StoreError("not what was written")

    target = memory_target()
    with pytest.raises(StoreError, match="not what"):
        run(memory_source(b"x" * 99), target, header, check=check)
    assert target.calls == ["sync", "discard"]


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0b", b"n" * 65_536])
def test_a_name_that_can_not_be_is_refused_and_leaves_nothing(
    name: bytes, memory_source: Any, header: Header, tmp_path: Path
) -> None:
    target = NewFile(tmp_path / "x.onggi")
    with pytest.raises(BadUseError, match="--name"):
        run(memory_source(b"x"), target, header, name=name)
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_can_not_be_is_refused_and_leaves_nothing(
    memory_source: Any, header_of: Any, tmp_path: Path
) -> None:
    for geometry in (Geometry(4096, 4095, 4096), Geometry(2**29, 4096, 4096), Geometry(1, 1, 1)):
        with pytest.raises(BadUseError, match="size"):
            run(memory_source(b"x"), NewFile(tmp_path / "x"), header_of(geometry))
        assert list(tmp_path.iterdir()) == []


def test_facts_that_are_too_long_are_refused_and_leave_nothing(
    memory_source: Any, header: Header, tmp_path: Path
) -> None:
    long = Header(header.uuid, header.geometry, 1, 1, facts={"a": "x" * 65_536})
    with pytest.raises(BadUseError, match="facts"):
        run(memory_source(b"x"), NewFile(tmp_path / "x"), long)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("created_ns", [2**63, -(2**63) - 1, 10**30])
def test_a_time_of_creation_that_can_not_be_is_refused(
    created_ns: int, memory_source: Any, memory_target: Any, header: Header
) -> None:
    late = Header(header.uuid, header.geometry, created_ns, 1)
    target = memory_target()
    with pytest.raises(BadUseError, match="time"):
        run(memory_source(b"x"), target, late)
    assert target.calls == ["discard"]


@pytest.mark.parametrize("mtime_ns", [-(2**63), -1, 0, 2**63 - 1])
def test_the_time_of_the_source_is_kept(
    mtime_ns: int, memory_source: Any, packed: Callable[..., bytes]
) -> None:
    data = packed(memory_source(b"x", mtime_ns=mtime_ns))
    assert Archive(MemoryStore(data)).member().mtime_ns == mtime_ns


@pytest.mark.parametrize(("mtime_ns", "kept"), [(2**63, 2**63 - 1), (-(2**70), -(2**63))])
def test_a_time_of_the_source_beyond_the_format_is_the_nearest(
    mtime_ns: int, kept: int, memory_source: Any, packed: Callable[..., bytes]
) -> None:
    """A file of the year 5138 must not fail after hours of work."""
    data = packed(memory_source(b"x", mtime_ns=mtime_ns))
    assert Archive(MemoryStore(data)).member().mtime_ns == kept


def test_an_archive_in_a_file_is_that_in_memory(
    memory_source: Any, memory_target: Any, header: Header, tmp_path: Path, content: Any
) -> None:
    whole = content(100_000)
    target = memory_target()
    run(memory_source(whole), target, header)
    result = run(memory_source(whole), NewFile(tmp_path / "x.onggi"), header, threads=3)
    assert (tmp_path / "x.onggi").read_bytes() == target.data
    assert [each.name for each in tmp_path.iterdir()] == ["x.onggi"]
    assert result.findings == []
    with FileStore(tmp_path / "x.onggi") as store:
        assert Archive(store).footer == result.footer
        assert Archive(store).read(0, 100_000) == whole


def test_unreadable_runs_are_joined_across_frames_and_units_and_are_a_finding(
    memory_source: Any, memory_target: Any, header: Header
) -> None:
    runs = [(4096, 4096), (12_288, 8192), (30_000, 1), (40_000, 9_152)]
    target = memory_target()
    source = memory_source(bytes(49_152), unreadable=runs)
    result = run(source, target, header)
    archive = Archive(MemoryStore(target.data))
    assert list(archive.unreadable()) == runs
    assert result.footer.unreadable_bytes == sum(length for _, length in runs)
    assert [finding.code for finding in result.findings] == ["source-unreadable"]
    assert result.findings[0].content_bytes == result.footer.unreadable_bytes


def test_a_source_that_changes_is_a_finding_and_a_flag(
    memory_source: Any, memory_target: Any, header: Header
) -> None:
    target = memory_target()
    result = run(memory_source(b"x", change="it was written to"), target, header)
    assert [finding.code for finding in result.findings] == ["source-changed"]
    assert Archive(MemoryStore(target.data)).member().changed
    assert verify(MemoryStore(target.data), Level.CONTENT, threads=1).is_whole


@pytest.mark.parametrize(
    ("holes", "kinds"),
    [
        ([(0, 16_384)], "hhhh zzzz z"),
        ([(16_384, 33_000)], "zzzz hhhh h"),
        ([(0, 33_000)], "hhhh hhhh h"),
        ([(4096, 8192)], "zhzz zzzz z"),
        ([(4095, 8191)], "zzzz zzzz z"),
        ([(4095, 12_289)], "zhhz zzzz z"),
        ([(12_288, 20_480)], "zzzh hzzz z"),
        ([(32_768, 32_999)], "zzzz zzzz z"),
        ([(0, 4096), (8192, 12_288), (32_768, 33_000)], "hzhz zzzz h"),
    ],
)
def test_frames_are_holes_where_all_of_them_is(
    holes: list[tuple[int, int]], kinds: str, memory_source: Any, packed: Callable[..., bytes]
) -> None:
    data = packed(memory_source(bytes(33_000), holes=holes))
    archive = Archive(MemoryStore(data))
    found = [
        "".join("dzh"[frame.kind] for frame in archive.index.frames(unit))
        for unit in archive.index.units()
    ]
    assert " ".join(found) == kinds
    hole_bytes = sum(
        archive.geometry.frame_lengths(unit.content_bytes)[n]
        for unit in archive.index.units()
        for n, frame in enumerate(archive.index.frames(unit))
        if frame.kind == layout.FRAME_HOLE
    )
    assert archive.footer.hole_bytes == hole_bytes
    assert archive.footer.zero_bytes == 33_000 - hole_bytes
    assert verify(MemoryStore(data), Level.CONTENT, threads=1).is_whole


def test_a_hole_of_many_units_is_packed_in_pieces(
    memory_source: Any, packed: Callable[..., bytes]
) -> None:
    """More than the 1,024 units that are handed over together."""
    size = 512 * 2500 + 100
    source = memory_source(bytes(size), holes=[(512, size)])
    data = packed(source, Geometry(512, 4096, 512), threads=2)
    archive = Archive(MemoryStore(data))
    assert (archive.footer.unit_count, archive.footer.hole_bytes) == (2501, size - 512)
    assert source.reads == 1
    assert verify(MemoryStore(data), Level.CONTENT, threads=2).is_whole


def test_progress_is_told_in_order_up_to_the_end(
    memory_source: Any, memory_target: Any, header: Header
) -> None:
    told: list[Progress] = []
    result = run(memory_source(b"x" * 50_000), memory_target(), header, report=told.append)
    assert [each.content_bytes for each in told] == [16_384, 32_768, 49_152, 50_000]
    assert {each.total_bytes for each in told} == {50_000}
    assert told[-1].stored_bytes == result.footer.stored_bytes
    streamed: list[Progress] = []
    run(memory_source(b"x", stream=True), memory_target(), header, report=streamed.append)
    assert [each.total_bytes for each in streamed] == [None]


def test_a_stream_that_ends_at_the_end_of_a_unit_gives_no_empty_unit(
    memory_source: Any, packed: Callable[..., bytes]
) -> None:
    for units in (0, 1, 2):
        data = packed(memory_source(b"x" * 16_384 * units, stream=True))
        assert Archive(MemoryStore(data)).footer.unit_count == units


def test_a_pack_that_is_stopped_does_not_read_on(
    memory_source: Any, memory_target: Any, header: Header
) -> None:
    """Units under way end at their next frame."""

    def report(_: Progress) -> None:
        raise Stopped

    source = memory_source(b"x" * 16_384 * 500)
    with pytest.raises(Stopped):
        run(source, memory_target(), header, report=report)
    assert source.reads < 100


class BrokenSpool:
    """A place for rows that has no space."""

    def __init__(self, fail_on: str) -> None:
        self._fail_on = fail_on
        self._data = b""

    def write(self, data: bytes, /) -> object:
        if self._fail_on == "write":
            raise StoreError("no space")
        self._data += data
        return None

    def chunks(self, size: int, /) -> Iterator[bytes]:
        if self._fail_on == "chunks":
            raise StoreError("no space")
        for at in range(0, len(self._data), size):
            yield self._data[at : at + size]


@pytest.mark.parametrize("fail_on", ["write", "chunks"])
def test_a_spool_that_fails_discards_the_archive(
    fail_on: str, memory_source: Any, memory_target: Any, header: Header
) -> None:
    target = memory_target()
    with pytest.raises(StoreError, match="no space"):
        run(memory_source(b"x"), target, header, new_spool=lambda: BrokenSpool(fail_on))
    assert target.calls == ["discard"]
