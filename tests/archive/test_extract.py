"""Unpacking: into files and streams, and what a stopped unpack leaves."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onggi.archive import extract
from onggi.archive.errors import DamagedError, Severity, StoreError
from onggi.archive.extract import FileSink, StreamSink, unpack
from onggi.archive.plan import Geometry
from onggi.archive.progress import Progress
from onggi.archive.reader import Archive
from onggi.archive.salvage import salvage
from onggi.archive.store import MemoryStore, NewFile, StreamTarget

UNIT = 16_384


class Stopped(BaseException):
    """What a signal handler raises."""


@pytest.fixture
def content(letters: Callable[..., bytes]) -> bytes:
    return letters("ab0c0000000000de0f", tail=100)


@pytest.fixture
def archive(packed: Callable[..., bytes], content: bytes) -> Archive:
    return Archive(MemoryStore(packed(content)))


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("threads", [1, 4])
def test_a_file_gets_the_content_and_holes_if_it_may(
    sparse: bool, threads: int, archive: Archive, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    lost = unpack(archive, FileSink(NewFile(path), len(content), sparse=sparse), threads=threads)
    assert lost == 0
    assert path.read_bytes() == content
    stored = path.stat().st_blocks * 512
    if sparse:
        assert stored <= 7 * 4096 + 4096
    else:
        assert stored >= len(content)
    assert [each.name for each in tmp_path.iterdir()] == ["x"]


def test_blocks_of_zeros_inside_frames_become_holes_too(
    packed: Callable[..., bytes], tmp_path: Path
) -> None:
    content = (b"x" * 4096 + bytes(4096)) * 8
    archive = Archive(MemoryStore(packed(content, Geometry(65_536, 65_536, 4096))))
    assert archive.footer.zero_bytes == 0
    unpack(archive, FileSink(NewFile(tmp_path / "x"), 65_536, sparse=True), threads=1)
    assert (tmp_path / "x").read_bytes() == content
    assert (tmp_path / "x").stat().st_blocks * 512 <= 9 * 4096


def test_a_pipe_gets_the_content_in_order(archive: Archive, content: bytes) -> None:
    read_end, write_end = os.pipe()
    got: list[bytes] = []

    def drain() -> None:
        while piece := os.read(read_end, 5000):
            got.append(piece)

    thread = threading.Thread(target=drain)
    thread.start()
    sink = StreamSink(StreamTarget(write_end))
    assert unpack(archive, sink, threads=4) == 0
    sink.discard()
    os.close(write_end)
    thread.join()
    os.close(read_end)
    assert b"".join(got) == content


def test_long_zeros_are_written_piece_by_piece(
    packed: Callable[..., bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "_ZERO_PIECE", 5000)
    archive = Archive(MemoryStore(packed(bytes(40_001))))
    unpack(archive, FileSink(NewFile(tmp_path / "x"), 40_001, sparse=False), threads=2)
    assert (tmp_path / "x").read_bytes() == bytes(40_001)
    with (tmp_path / "y").open("wb") as file:
        unpack(archive, StreamSink(StreamTarget(file.fileno())), threads=2)
    assert (tmp_path / "y").read_bytes() == bytes(40_001)


def test_many_empty_units_are_handed_over_together_and_progress_reaches_the_end(
    packed: Callable[..., bytes], memory_sink: Any
) -> None:
    archive = Archive(MemoryStore(packed(bytes(512 * 700) + b"x", Geometry(512, 4096, 512))))
    told: list[Progress] = []
    sink = memory_sink(512 * 700 + 1)
    unpack(archive, sink, threads=3, report=told.append)
    assert sink.data == bytes(512 * 700) + b"x"
    assert [each.content_bytes for each in told] == [256 * 512, 512 * 512, 700 * 512, 700 * 512 + 1]
    assert told[-1].stored_bytes == archive.footer.stored_bytes


@pytest.mark.parametrize("in_order", [False, True])
def test_damage_ends_it_and_discards_what_was_written(
    in_order: bool, archive: Archive, content: bytes, memory_sink: Any
) -> None:
    unit = archive.index.unit(0)
    bad = bytearray(archive.store.read_at(0, archive.store.size))
    bad[unit.payload_offset + 20] ^= 1
    sink = memory_sink(len(content), in_order=in_order)
    with pytest.raises(DamagedError) as caught:
        unpack(Archive(MemoryStore(bytes(bad))), sink, threads=2)
    assert (caught.value.unit, caught.value.frame) == (0, 0)
    assert sink.calls == ["discard"]


@pytest.mark.parametrize("error", [StoreError("no space"), KeyboardInterrupt(), Stopped()])
@pytest.mark.parametrize("in_order", [False, True])
def test_an_error_of_the_sink_discards_it(
    error: BaseException, in_order: bool, archive: Archive, content: bytes, memory_sink: Any
) -> None:
    class Failing(memory_sink):  # type: ignore[misc]
        def put(self, content_offset: int, content: bytes) -> None:
            if content_offset > UNIT:
                raise error
            super().put(content_offset, content)

    sink = Failing(len(content), in_order=in_order)
    with pytest.raises(type(error)):
        unpack(archive, sink, threads=2)
    assert sink.calls == ["discard"]


def test_an_error_of_the_commit_discards_it(
    archive: Archive, content: bytes, memory_sink: Any
) -> None:
    class Failing(memory_sink):  # type: ignore[misc]
        def commit(self) -> None:
            raise StoreError("no")

    sink = Failing(len(content))
    with pytest.raises(StoreError):
        unpack(archive, sink, threads=2)
    assert sink.calls == ["discard"]


def test_a_file_that_can_not_be_so_long_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="length"):
        FileSink(NewFile(tmp_path / "x"), 2**63 - 1, sparse=True)
    assert list(tmp_path.iterdir()) == []


def test_an_index_that_is_damaged_ends_it_unless_it_is_salvaged(
    archive: Archive, content: bytes, memory_sink: Any
) -> None:
    bad = bytearray(archive.store.read_at(0, archive.store.size))
    bad[archive.footer.index_offset - 5] ^= 1  # in a page of the table of frames
    sink = memory_sink(len(content))
    with pytest.raises(DamagedError, match="page"):
        unpack(Archive(MemoryStore(bytes(bad))), sink, threads=1)
    assert sink.calls == ["discard"]
    sink = memory_sink(len(content))
    assert unpack(salvage(MemoryStore(bytes(bad))), sink, threads=1, salvage=True) == 0
    assert sink.data == content


def test_what_is_lost_reads_as_zeros_and_is_told_with_its_place(
    archive: Archive, content: bytes, unpacked: Callable[..., Any]
) -> None:
    unit = archive.index.unit(0)
    bad = bytearray(archive.store.read_at(0, archive.store.size))
    bad[unit.payload_offset + 20] ^= 1
    got, findings = unpacked(salvage(MemoryStore(bytes(bad))), salvage=True, threads=3)
    assert got == bytes(4096) + content[4096:]
    (finding,) = findings
    assert (finding.code, finding.severity) == ("lost-content", Severity.DAMAGE)
    assert (finding.unit, finding.frame) == (0, 0)
    assert (finding.content_offset, finding.content_bytes) == (0, 4096)
    assert finding.archive_offset == unit.payload_offset
