"""What a read costs: how many bytes, how many frames, whatever the size of the archive."""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from blake3 import blake3

from onggi.archive import layout
from onggi.archive.catalogue import decode_volume, encode_extents, encode_member, volume_member
from onggi.archive.errors import BadUseError, DamagedError, SourceError
from onggi.archive.footer import Footer, encode_footer
from onggi.archive.header import Header, decode_header, encode_header
from onggi.archive.page import PageKey, PlacedRecord, page_digest
from onggi.archive.plan import Geometry
from onggi.archive.reader import Archive, UnitReader
from onggi.archive.store import MemoryStore
from onggi.archive.table import (
    Descriptor,
    PageCache,
    Table,
    TableWriter,
    encode_root,
    level_count,
)
from onggi.archive.unit import FrameDecoder, UnitEncoder

MIB = 2**20


class CountingStore:
    """A store that counts what is read from it."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.size = store.size
        self.reads = 0
        self.read_bytes = 0

    def read_at(self, archive_offset: int, size: int, /) -> bytes:
        data: bytes = self._store.read_at(archive_offset, size)
        self.reads += 1
        self.read_bytes += len(data)
        return data

    def read_into(self, archive_offset: int, view: memoryview, /) -> int:
        data = self.read_at(archive_offset, len(view))
        view[: len(data)] = data
        return len(data)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The content lengths of all frames that are decompressed."""
    lengths: list[int] = []
    decode = FrameDecoder.decode

    def counting(self: FrameDecoder, frame: Any, stored: memoryview, content_bytes: int) -> bytes:
        lengths.append(content_bytes)
        return decode(self, frame, stored, content_bytes)

    monkeypatch.setattr(FrameDecoder, "decode", counting)
    return lengths


def test_a_small_read_costs_one_frame(
    packed: Callable[..., bytes], content: Callable[..., bytes], decoded: list[int]
) -> None:
    """Of a volume of 24 MiB in the default geometry."""
    noise = content(MIB, seed=9)
    whole = noise * 24
    store = CountingStore(MemoryStore(packed(whole, Geometry(20 * MIB, MIB, 4096), threads=2)))
    archive = Archive(store)
    assert store.read_bytes < 10_000
    store.read_bytes = 0
    assert archive.read(21 * MIB + 8192, 4096) == noise[8192:12_288]
    assert decoded == [MIB]
    assert store.read_bytes < 3 * MIB
    # Where frames meet, two.
    assert archive.read(MIB - 1, 2) == noise[-1:] + noise[:1]
    assert decoded == [MIB] * 3


def test_zeros_and_holes_cost_no_frame(
    packed: Callable[..., bytes],
    unpacked: Callable[..., Any],
    memory_source: Any,
    decoded: list[int],
) -> None:
    data = packed(memory_source(bytes(40_000), holes=[(16_384, 32_768)]))
    archive = Archive(MemoryStore(data))
    assert archive.read(0, 40_000) == bytes(40_000)
    assert unpacked(archive)[0] == bytes(40_000)
    assert decoded == []


@pytest.mark.parametrize(("offset", "size"), [(-1, 5), (5, -1), (-1, -1)])
def test_a_negative_offset_or_size_is_bad_use(
    offset: int, size: int, packed: Callable[..., bytes]
) -> None:
    with pytest.raises(BadUseError):
        Archive(MemoryStore(packed(b"x"))).read(offset, size)


def test_a_damaged_frame_is_an_error_for_reads_that_touch_it_and_for_no_others(
    packed: Callable[..., bytes], letters: Callable[..., bytes]
) -> None:
    content = letters("abcd")
    data = bytearray(packed(content))
    archive = Archive(MemoryStore(bytes(data)))
    unit = archive.index.unit(0)
    lengths = [frame.stored_bytes for frame in archive.index.frames(unit)]
    data[unit.payload_offset + sum(lengths[:2]) + 9] ^= 1
    archive = Archive(MemoryStore(bytes(data)))
    assert archive.read(0, 8192) == content[:8192]
    assert archive.read(12_288, 4096) == content[12_288:]
    for offset, size in ((8192, 1), (12_287, 1), (8191, 2), (0, 16_384)):
        with pytest.raises(DamagedError) as caught:
            archive.read(offset, size)
        error = caught.value
        assert (error.part, error.unit, error.frame) == ("frame", 0, 2)
        assert error.archive_offset == unit.payload_offset + sum(lengths[:2])


def test_an_archive_that_becomes_shorter_while_it_is_read_is_an_error_of_the_source(
    packed: Callable[..., bytes], letters: Callable[..., bytes]
) -> None:
    """Not damage: it was whole when it was opened."""
    whole = packed(letters("abcd"))

    class Shrinking(MemoryStore):
        def read_into(self, archive_offset: int, view: memoryview, /) -> int:
            return super().read_into(archive_offset, view[:3])

    with pytest.raises(SourceError, match="cut off"):
        Archive(Shrinking(whole)).read(0, 4096)


def test_an_archive_may_be_read_by_many_threads(
    packed: Callable[..., bytes], content: Callable[..., bytes]
) -> None:
    whole = content(200_000, seed=4)
    archive = Archive(MemoryStore(packed(whole, Geometry(4096, 4096, 4096))))
    wrong: list[int] = []

    def read(seed: int) -> None:
        for n in range(60):
            offset = (seed * 7919 + n * 3331) % 200_000
            if archive.read(offset, 5000) != whole[offset : offset + 5000]:
                wrong.append(offset)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []


def test_stored_frames_are_read_in_pieces_of_a_bounded_length(
    packed: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onggi.archive.reader._CHUNK_BYTES", 5000)
    whole = random.Random(2).randbytes(16_384)
    store = CountingStore(MemoryStore(packed(whole)))
    archive = Archive(store)
    unit = archive.index.unit(0)
    frames = archive.index.frames(unit)
    store.reads = 0
    got = [(n, len(stored), at) for n, stored, at in UnitReader(archive).stored(unit, frames)]
    assert [length for _, length, _ in got] == [frame.stored_bytes for frame in frames]
    expected = [unit.payload_offset]
    for frame in frames[:-1]:
        expected.append(expected[-1] + frame.stored_bytes)
    assert [at for _, _, at in got] == expected
    assert store.reads == 4


# --- 10 TiB --------------------------------------------------------------------------------------


class RepeatedRows:
    """A spool that gives the same rows again and again, without keeping them."""

    def __init__(self, rows: bytes, times: int) -> None:
        self._rows = rows
        self._bytes = len(rows) * times

    def write(self, data: bytes, /) -> object:
        raise AssertionError

    def chunks(self, size: int, /) -> Iterator[bytes]:
        width = len(self._rows)
        enough = self._rows * (size // width + 2)
        for at in range(0, self._bytes, size):
            start = at % width
            yield enough[start : start + min(size, self._bytes - at)]


class ListedRows:
    """A spool in memory."""

    def __init__(self, rows: bytes) -> None:
        self._rows = rows

    def write(self, data: bytes, /) -> object:
        raise AssertionError

    def chunks(self, size: int, /) -> Iterator[bytes]:
        for at in range(0, len(self._rows), size):
            yield self._rows[at : at + size]


class HugeStore:
    """An archive of 10 TiB, of which all units are the same; they exist while they are read."""

    size: int

    def __init__(self, header: bytes, unit: bytes, units: int, tail: bytes) -> None:
        self._header, self._unit, self._tail = header, unit, tail
        self._units_end = len(header) + len(unit) * units
        self.size = self._units_end + len(tail)

    def read_at(self, archive_offset: int, size: int, /) -> bytes:
        if archive_offset >= self._units_end:
            at = archive_offset - self._units_end
            return self._tail[at : at + size]
        if archive_offset < len(self._header):
            return self._header[archive_offset : archive_offset + size]
        at = (archive_offset - len(self._header)) % len(self._unit)
        return (self._unit + self._unit)[at : at + size]

    def read_into(self, archive_offset: int, view: memoryview, /) -> int:
        data = self.read_at(archive_offset, len(view))
        view[: len(data)] = data
        return len(data)


@pytest.fixture(scope="module")
def huge(header_of: Callable[[Geometry], Header]) -> tuple[HugeStore, bytes]:
    """An archive of 524,288 units of 20 MiB, and the content of each frame."""
    geometry = Geometry(20 * MIB, MIB, 4096)
    units = 10 * MIB * MIB // geometry.unit_bytes
    header = decode_header(encode_header(header_of(geometry)))
    frame = b"the same everywhere. " * (MIB // 21) + b"0123456789abcdef"[: MIB % 21]
    encoded = UnitEncoder(header.uuid, geometry, 1).encode(
        0, geometry.unit_bytes, [memoryview(frame)] * 20
    )
    unit = encoded.record + b"".join(encoded.payload)
    row = struct.Struct("<QIIIII4s32s")
    first = header.record_bytes
    rows = [
        row.pack(
            first + number * len(unit), encoded.content_bytes, encoded.stored_bytes, 20, 0, 0,
            bytes(4), encoded.stored_digest,
        )
        for number in range(units)
    ]  # fmt: skip
    content_bytes = units * geometry.unit_bytes
    member = volume_member(b"huge", content_bytes, 0, changed=False)
    spools = {
        1: ListedRows(encode_member(member)),
        2: ListedRows(encode_extents(member)),
        3: ListedRows(b"huge"),
        4: ListedRows(b""),
        16: ListedRows(b"".join(rows)),
        17: RepeatedRows(encoded.rows, units),
    }
    counts = {1: 1, 2: 1, 3: 4, 4: 0, 16: units, 17: units * 20}
    tail = bytearray()
    start = first + units * len(unit)
    places: list[PlacedRecord] = []
    for section, tables in ((1, (1, 2, 3, 4)), (2, (16, 17))):
        described: list[Descriptor] = []
        for number in tables:
            writer = TableWriter(number, spools[number])
            writer.rows = counts[number]
            pages = writer.pages(header.uuid, start + len(tail))
            while True:
                try:
                    tail += next(pages)
                except StopIteration as end:
                    described.append(end.value)
                    break
        root = encode_root(header.uuid, section, described)
        places.append(PlacedRecord(start + len(tail), len(root), page_digest(root)))
        tail += root
    footer = Footer(
        uuid=header.uuid, archive_bytes=start + len(tail) + layout.FOOTER_BYTES,
        content_bytes=content_bytes, unit_count=units, frame_count=units * 20,
        stored_bytes=units * encoded.stored_bytes, zero_bytes=0, hole_bytes=0, unreadable_bytes=0,
        member_count=1, catalogue_offset=places[0].offset,
        catalogue_record_bytes=places[0].record_bytes, index_offset=places[1].offset,
        index_record_bytes=places[1].record_bytes, header_digest=header.digest,
        units_digest=bytes(32), content_digest=bytes(32), catalogue_digest=places[0].digest,
        index_digest=places[1].digest,
    )  # fmt: skip
    tail += encode_footer(footer)
    return HugeStore(encode_header(header), unit, units, bytes(tail)), frame


def test_ten_tebibytes_are_opened_with_little_reading(
    huge: tuple[HugeStore, bytes], decoded: list[int]
) -> None:
    store = CountingStore(huge[0])
    archive = Archive(store)
    assert archive.content_bytes == 10 * MIB * MIB
    assert archive.index.unit_count == 524_288
    assert archive.member().name == b"huge"
    assert archive.tables[layout.TABLE_FRAMES].descriptor.levels == 3
    assert store.read_bytes < 10_000
    for offset in (0, 5 * MIB * MIB + 12_345, 10 * MIB * MIB - 4096):
        store.read_bytes = 0
        at = offset % MIB
        assert archive.read(offset, 4096) == huge[1][at : at + 4096]
        assert store.read_bytes < 3 * MIB
    assert decoded == [MIB] * 3


def test_the_pages_of_ten_tebibytes_do_not_stay_in_memory(huge: tuple[HugeStore, bytes]) -> None:
    archive = Archive(huge[0])
    for number in range(0, 524_288, 5003):
        unit = archive.index.unit(number)
        assert len(archive.index.frames(unit)) == 20
    caches = {id(table._cache): table._cache for table in archive.tables.values()}
    for cache in caches.values():
        assert len(cache._held) <= 64


# --- Tables --------------------------------------------------------------------------------------


def written(rows: bytes, page_rows: int, table: int = 3) -> tuple[bytes, Descriptor]:
    """Return the pages of a table that begins at byte 0, and its descriptor."""
    writer = TableWriter(table, ListedRows(rows), page_rows)
    writer.rows = len(rows) // writer.row_bytes
    out = bytearray()
    pages = writer.pages(UUID(int=1), 0)
    while True:
        try:
            out += next(pages)
        except StopIteration as end:
            return bytes(out), end.value


@pytest.mark.parametrize(
    ("rows", "page_rows", "levels"),
    [(0, 1, 0), (1, 1, 1), (2, 2, 1), (3, 2, 2), (1365, 1, 2), (1366, 1, 3), (2730, 1, 3),
     (2731, 2, 3), (2730, 2, 2)],
)  # fmt: skip
def test_a_table_has_as_many_levels_as_its_rows_need(
    rows: int, page_rows: int, levels: int
) -> None:
    content = bytes(n % 251 for n in range(rows))
    out, descriptor = written(content, page_rows)
    assert descriptor.levels == levels == level_count(rows, page_rows)
    table = Table(MemoryStore(out).read_at, UUID(int=1), descriptor, PageCache(3))
    assert len(table) == rows
    assert b"".join(table.spans()) == content
    assert table.span(0, rows) == content
    for first in range(0, rows, 97):
        count = min(5, rows - first)
        assert table.span(first, count) == content[first : first + count]
    keys = list(table.keys())
    assert len(keys) == len(set(keys))
    assert [key.level for key in keys] == sorted((key.level for key in keys), reverse=True)
    assert sum(table.place(key).record_bytes for key in keys) == len(out)


def test_a_row_that_does_not_exist_is_damage_of_what_refers_to_it() -> None:
    out, descriptor = written(b"abc", 2)
    table = Table(MemoryStore(out).read_at, UUID(int=1), descriptor, PageCache())
    for first, count in ((0, 4), (3, 1), (4, 0), (-1, 1), (2, -1)):
        with pytest.raises(DamagedError, match="no row"):
            table.span(first, count)


def test_a_volume_has_one_member(packed: Callable[..., bytes]) -> None:
    """The footer is held against that too; this is the catalogue's own rule."""
    tables = Archive(MemoryStore(packed(b"x"))).tables
    with pytest.raises(DamagedError, match="one member"):
        decode_volume(tables[layout.TABLE_UNREADABLE], tables[2], tables[3], 1)


def test_a_cache_lets_go_what_was_not_used_for_longest() -> None:
    cache = PageCache(2)
    keys = [PageKey(1, 0, n) for n in range(3)]
    cache.put(keys[0], b"a")
    cache.put(keys[1], b"b")
    assert cache.get(keys[0]) == b"a"
    cache.put(keys[2], b"c")
    assert [cache.get(key) for key in keys] == [b"a", None, b"c"]


def test_the_names_of_pages_are_for_people() -> None:
    assert str(PageKey(0, 0, 1)) == "catalogue root"
    assert str(PageKey(0, 0, 2)) == "index root"
    assert str(PageKey(17, 1, 3)) == "page 3 of table 17, level 1"


def test_the_content_digest_is_that_of_the_digests_of_frames(
    packed: Callable[..., bytes], letters: Callable[..., bytes]
) -> None:
    content = letters("ab0", tail=5)
    archive = Archive(MemoryStore(packed(content)))
    pieces = [content[at : at + 4096] for at in range(0, len(content), 4096)]
    expected = blake3(b"".join(blake3(piece).digest() for piece in pieces)).digest()
    assert archive.footer.content_digest == expected
