"""What the tests of the engine share: sources, targets, sinks and archives in memory.

Everything is given through fixtures of the session, so that hypothesis may use them too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
import zstandard
from blake3 import blake3

from onggi.archive import layout
from onggi.archive.catalogue import encode_extents, encode_member, volume_member
from onggi.archive.errors import Finding
from onggi.archive.extract import unpack
from onggi.archive.header import Header
from onggi.archive.page import PageKey, encode_page, page_digest
from onggi.archive.plan import Geometry, ceil_div
from onggi.archive.reader import Content
from onggi.archive.record import seal
from onggi.archive.store import FileSpool
from onggi.archive.table import level_count, section_of
from onggi.archive.unit import UnitEncoder, unit_record
from onggi.archive.writer import pack

IDENTITY = UUID("6f6e6767-6921-4a61-b272-6f6620746573")
SMALL = Geometry(16_384, 4096, 4096)


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    """Fail a test that leaves a thread of the engine behind."""
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("onggi-")]
    assert not left


class MemoryTarget:
    """A target in memory; fails at append number `fail_at`, counted from 0."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.parts: list[bytes] = []
        self.calls: list[str] = []
        self.appends = 0
        self._fail_at = fail_at

    @property
    def data(self) -> bytes:
        """All that was appended."""
        return b"".join(self.parts)

    def append(self, parts: Sequence[bytes], /) -> None:
        """Keep copies of the parts."""
        self.appends += 1
        if self.appends - 1 == self._fail_at:
            raise TargetFailed
        self.parts += [bytes(part) for part in parts]

    def sync(self) -> None:
        """Remember the call."""
        self.calls.append("sync")

    def commit(self) -> None:
        """Remember the call."""
        self.calls.append("commit")

    def discard(self) -> None:
        """Remember the call, and forget the bytes."""
        self.calls.append("discard")
        self.parts.clear()


class TargetFailed(Exception):
    """What `MemoryTarget` raises."""


@dataclass
class MemorySource:
    """A source in memory.

    Attributes:
        content: what it holds.
        holes: (start, end) of holes, sorted; what stands in `content` there must be zeros.
        unreadable: (start, length) of runs that can't be read, sorted; zeros in `content`.
        stream: whether it is a stream, of unknown length.
        fail_at: number of the read that raises `error`.
    """

    content: bytes
    holes: Sequence[tuple[int, int]] = ()
    unreadable: Sequence[tuple[int, int]] = ()
    stream: bool = False
    fail_at: int | None = None
    error: BaseException = field(default_factory=lambda: ValueError("the source failed"))
    name: bytes = b"volume.img"
    mtime_ns: int = 12345
    change: str | None = None
    reads: int = 0
    cancelled: int = 0
    position: int = 0

    @property
    def content_bytes(self) -> int | None:
        """Length, or None for a stream."""
        return None if self.stream else len(self.content)

    def facts(self) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    def hole_end(self, content_offset: int) -> int:
        """Return where the hole at this offset ends."""
        found = (end for start, end in self.holes if start <= content_offset < end)
        return next(found, content_offset)

    def data_end(self, content_offset: int) -> int:
        """Return where the data at this offset ends."""
        if self.hole_end(content_offset) != content_offset:
            return content_offset
        later = (start for start, _ in self.holes if start > content_offset)
        return next(later, max(content_offset, len(self.content)))

    def read_into(self, view: memoryview, content_offset: int) -> tuple[int, list[tuple[int, int]]]:
        """Fill `view`; nobody may read what lies in a hole as a whole."""
        self.reads += 1
        if self.reads - 1 == self.fail_at:
            raise self.error
        if self.stream:
            content_offset = self.position
        piece = self.content[content_offset : content_offset + len(view)]
        self.position = content_offset + len(piece)
        view[: len(piece)] = piece
        end = content_offset + len(piece)
        assert not piece or self.hole_end(content_offset) < end, "it reads a hole"
        clipped = [
            (max(start, content_offset), min(start + length, end))
            for start, length in self.unreadable
        ]
        return len(piece), [(start, stop - start) for start, stop in clipped if start < stop]

    def will_need(self, content_offset: int, length: int) -> None:
        """Nothing."""

    def done_with(self, content_offset: int, length: int) -> None:
        """Nothing."""

    def changed(self) -> str | None:
        """Return what the test says."""
        return self.change

    def cancel(self) -> None:
        """Count the call."""
        self.cancelled += 1

    def close(self) -> None:
        """Nothing."""


class MemorySink:
    """A sink in memory; what nobody puts stays 0xEE, so that it is seen."""

    def __init__(self, content_bytes: int, *, in_order: bool = False) -> None:
        self.data = bytearray(b"\xee" * content_bytes)
        self.in_order = in_order
        self.calls: list[str] = []
        self.position = 0

    def put(self, content_offset: int, content: bytes) -> None:
        """Keep a copy; many threads may do so, where it need not be in order."""
        if self.in_order:
            assert content_offset == self.position
        end = content_offset + len(content)
        assert end <= len(self.data), "beyond the end of the volume"
        self.data[content_offset:end] = content
        self.position = end

    def put_zeros(self, content_offset: int, length: int) -> None:
        """Write zeros."""
        self.put(content_offset, bytes(length))

    def commit(self) -> None:
        """Remember the call."""
        self.calls.append("commit")

    def discard(self) -> None:
        """Remember the call."""
        self.calls.append("discard")


def pack_bytes(
    content: bytes | MemorySource,
    geometry: Geometry = SMALL,
    *,
    threads: int = 1,
    level: int = 1,
    facts: Mapping[str, Any] | None = None,
    name: bytes | None = None,
) -> bytes:
    """Return the archive of a content or of a source in memory."""
    source = content if isinstance(content, MemorySource) else MemorySource(content)
    target = MemoryTarget()
    header = Header(IDENTITY, geometry, 1, level, facts=facts or {})
    pack(source, target, header, threads=threads, new_spool=FileSpool, name=name)
    assert target.calls == ["sync", "commit"]
    return target.data


def unpack_bytes(
    content: Content, *, threads: int = 1, salvage: bool = False, in_order: bool = False
) -> tuple[bytes, list[Finding]]:
    """Return the whole content, and the findings."""
    sink = MemorySink(content.content_bytes, in_order=in_order)
    findings: list[Finding] = []
    unpack(content, sink, threads=threads, salvage=salvage, found=findings.append)
    assert sink.calls == ["commit"]
    return bytes(sink.data), findings


def varied(frames: Sequence[str], frame_bytes: int = 4096, tail: int = 0) -> bytes:
    """Return content: one frame for each letter, `0` for zeros, and a short frame of `tail`.

    Frames compress to a few bytes, so that a test can afford to damage each byte of an archive.
    """
    parts = [
        bytes(frame_bytes) if letter == "0" else (letter.encode() * 7 + b"\n") * (frame_bytes // 8)
        for letter in frames
    ]
    return b"".join(parts) + b"tail of the volume "[:tail].ljust(tail, b".")


def raw_frame(content: bytes) -> bytes:
    """Return a zstd frame that holds its content as it is, in raw blocks; at least 256 bytes."""
    tail = zstandard.ZstdCompressor(write_checksum=True).compress(content)[-4:]
    size = len(content)
    head = b"\x64" + (size - 256).to_bytes(2, "little")
    if size >= 65_792:
        head = b"\xa4" + size.to_bytes(4, "little")
    blocks = b""
    for at in range(0, size, 131_072):
        block = content[at : at + 131_072]
        blocks += (int(at + 131_072 >= size) | len(block) << 3).to_bytes(3, "little") + block
    return b"\x28\xb5\x2f\xfd" + head + blocks + tail


class Forge:
    """Builds archives whose digests are right and whose fields are what a test says.

    Start from a good archive of `content`, of which frames are stored as they are if `raw`. Change
    the attributes; call `build`.

    Attributes:
        header, footer: fields of spec sections 3 and 7 to be overridden.
        facts: the bytes after the header's fields.
        units: for each unit the fields `number`, `content_bytes`, `rows`, `payload`; also `record`
            (the whole unit header) and `row` (of the table of units) to be overridden.
        rows: the rows of each table.
        page_rows: for each table.
        descriptors: for each table the fields of spec section 5.3 to be overridden.
        pages: for each (table, level, number) the fields of spec section 5.1 to be overridden, or
            `raw`: a function from rows to rows, or `data`: the stored data.
        before: bytes to be put before a page or a section root: a gap.
    """

    def __init__(
        self,
        content: bytes = b"",
        geometry: Geometry = SMALL,
        *,
        holes: Sequence[int] = (),
        unreadable: Sequence[tuple[int, int]] = (),
        name: bytes = b"v",
        raw: bool = False,
    ) -> None:
        self.geometry = geometry
        self.content_bytes = len(content)
        self.header: dict[str, Any] = {}
        self.footer: dict[str, Any] = {}
        self.facts = b"{}"
        self.page_rows = {n: layout.MAX_PAGE_BYTES // w for n, w in layout.ROW_BYTES.items()}
        self.descriptors: dict[int, dict[str, Any]] = {n: {} for n in layout.ROW_BYTES}
        self.pages: dict[tuple[int, int, int], dict[str, Any]] = {}
        self.before: dict[tuple[int, int, int], bytes] = {}
        encoder = UnitEncoder(IDENTITY, geometry, 1)
        self.units: list[dict[str, Any]] = []
        self._zero_bytes = self._hole_bytes = 0
        for number in range(geometry.unit_count(len(content))):
            at = number * geometry.unit_bytes
            piece = memoryview(content)[at : at + geometry.unit_bytes]
            first = number * geometry.frames_per_unit
            frames = [
                None if first + n in holes else piece[n * geometry.frame_bytes :][:length]
                for n, length in enumerate(geometry.frame_lengths(len(piece)))
            ]
            unit = encoder.encode(number, len(piece), frames)
            payload = list(unit.payload)
            rows = bytearray(unit.rows)
            for n, frame in enumerate(frames if raw else []):
                if frame is not None and any(frame):
                    payload[n] = raw_frame(bytes(frame))
                    rows[40 * n : 40 * n + 4] = len(payload[n]).to_bytes(4, "little")
            self._zero_bytes += unit.zero_bytes
            self._hole_bytes += unit.hole_bytes
            self.units.append(
                {
                    "number": number,
                    "content_bytes": len(piece),
                    "rows": bytes(rows),
                    "payload": b"".join(payload),
                    "zero_frames": unit.zero_frames,
                    "hole_frames": unit.hole_frames,
                }
            )
        member = volume_member(name, len(content), 5, changed=False)
        self.rows: dict[int, bytes | None] = {
            layout.TABLE_MEMBERS: encode_member(member),
            layout.TABLE_EXTENTS: encode_extents(member),
            layout.TABLE_NAMES: name,
            layout.TABLE_UNREADABLE: b"".join(layout.UNREADABLE_ROW.pack(*r) for r in unreadable),
            layout.TABLE_UNITS: None,
            layout.TABLE_FRAMES: None,
        }
        self._unreadable_bytes = sum(length for _, length in unreadable)

    def build(self) -> bytes:
        """Return the archive."""
        head = self._header()
        out = bytearray(head)
        unit_rows, stored_digests = b"", b""
        for unit in self.units:
            digest = blake3(unit["payload"]).digest()
            record = unit.get("record") or unit_record(
                IDENTITY.bytes, unit["number"], unit["content_bytes"], len(unit["payload"]),
                digest, unit["rows"],
            )  # fmt: skip
            row = (
                len(out), unit["content_bytes"], len(unit["payload"]),
                len(unit["rows"]) // layout.FRAME_ROW_BYTES, unit["zero_frames"],
                unit["hole_frames"], bytes(4), digest,
            )  # fmt: skip
            unit_rows += unit.get("row") or layout.UNIT_ROW.pack(*row)
            stored_digests += digest
            out += record + unit["payload"]
        frame_rows = b"".join(unit["rows"] for unit in self.units)
        rows = dict(self.rows)
        rows[layout.TABLE_UNITS] = unit_rows if rows[16] is None else rows[16]
        rows[layout.TABLE_FRAMES] = frame_rows if rows[17] is None else rows[17]
        places = {
            section: self._section(out, section, rows)
            for section in (layout.SECTION_CATALOGUE, layout.SECTION_INDEX)
        }
        digests = [frame_rows[at + 8 : at + 40] for at in range(0, len(frame_rows), 40)]
        footer: dict[str, Any] = {
            "skip_bytes": layout.FOOTER_BYTES - 8,
            "version_major": 0,
            "version_minor": 1,
            "kind": 1,
            "reserved": bytes(3),
            "uuid": IDENTITY.bytes,
            "archive_bytes": len(out) + layout.FOOTER_BYTES,
            "content_bytes": self.content_bytes,
            "unit_count": len(self.units),
            "frame_count": len(frame_rows) // layout.FRAME_ROW_BYTES,
            "stored_bytes": sum(len(unit["payload"]) for unit in self.units),
            "zero_bytes": self._zero_bytes,
            "hole_bytes": self._hole_bytes,
            "unreadable_bytes": self._unreadable_bytes,
            "member_count": 1,
            "catalogue_offset": places[1][0],
            "catalogue_record_bytes": places[1][1],
            "index_record_bytes": places[2][1],
            "index_offset": places[2][0],
            "header_digest": head[layout.HEADER_DIGEST_AT : layout.HEADER_BYTES],
            "units_digest": blake3(stored_digests).digest(),
            "content_digest": blake3(b"".join(digests)).digest(),
            "catalogue_digest": places[1][2],
            "index_digest": places[2][2],
            "digest": bytes(32),
        }
        footer.update(self.footer)
        return bytes(out) + seal(layout.FOOTER.build(footer), layout.FOOTER_DIGEST_AT)

    def _header(self) -> bytes:
        fields: dict[str, Any] = {
            "skip_bytes": 120 + len(self.facts),
            "version_major": 0,
            "version_minor": 1,
            "kind": 1,
            "reserved_1": bytes(3),
            "required_features": 0,
            "optional_features": 0,
            "uuid": IDENTITY.bytes,
            "unit_bytes": self.geometry.unit_bytes,
            "frame_bytes": self.geometry.frame_bytes,
            "block_bytes": self.geometry.block_bytes,
            "created_ns": 1,
            "level": 1,
            "reserved_2": bytes(6),
            "facts_bytes": len(self.facts),
            "reserved_3": bytes(4),
            "digest": bytes(32),
        }
        fields.update(self.header)
        return seal(layout.HEADER.build(fields) + self.facts, layout.HEADER_DIGEST_AT)

    def _section(
        self, out: bytearray, section: int, rows: Mapping[int, bytes | None]
    ) -> tuple[int, int, bytes]:
        described = b""
        for number in sorted(rows):
            known = number in layout.ROW_BYTES
            if known and section_of(number) != section:
                continue
            if not known and section != layout.SECTION_CATALOGUE:
                continue
            described += self._table(out, number, rows[number] or b"")
        key = PageKey(layout.TABLE_ROOT, 0, section)
        return self._page(out, key, described)

    def _table(self, out: bytearray, number: int, rows: bytes) -> bytes:
        width = layout.ROW_BYTES.get(number) or self.descriptors[number]["row_bytes"]
        per_page = self.page_rows[number]
        count = len(rows) // width
        fields: dict[str, Any] = {
            "table": number,
            "row_bytes": width,
            "page_rows": per_page,
            "rows": count,
            "reserved_1": bytes(7),
            "top_offset": 0,
            "top_record_bytes": 0,
            "reserved_2": bytes(4),
            "digest": bytes(32),
        }
        level = 0
        while rows:
            directory = b""
            for page in range(ceil_div(len(rows), width * per_page)):
                raw = rows[page * width * per_page : (page + 1) * width * per_page]
                place = self._page(out, PageKey(number, level, page), raw)
                directory += layout.DIRECTORY_ROW.pack(place[0], place[1], bytes(4), place[2])
                fields |= dict(
                    zip(("top_offset", "top_record_bytes", "digest"), place, strict=True)
                )
            if len(directory) == layout.DIRECTORY_ROW_BYTES:
                break
            rows, width, per_page = directory, layout.DIRECTORY_ROW_BYTES, 1365
            level += 1
        fields |= self.descriptors[number]
        fields.setdefault("levels", level_count(fields["rows"], fields["page_rows"] or 1) % 256)
        return layout.TABLE_DESCRIPTOR.build(fields)

    def _page(self, out: bytearray, key: PageKey, raw: bytes) -> tuple[int, int, bytes]:
        where = (key.table, key.level, key.number)
        override = dict(self.pages.get(where, {}))
        out += self.before.get(where, b"")
        raw = override.pop("raw", lambda rows: rows)(raw)
        record = encode_page(IDENTITY, key, raw)
        fields = dict(layout.PAGE.parse(record)) | {"digest": bytes(32)}
        data = record[layout.PAGE_BYTES :]
        if "data" in override:
            data = override.pop("data")
            fields |= {"stored_bytes": len(data), "skip_bytes": 88 + len(data)}
        fields |= override
        fields.pop("_io", None)
        record = seal(layout.PAGE.build(fields) + data, layout.PAGE_DIGEST_AT)
        place = (len(out), len(record), page_digest(record))
        out += record
        return place


@pytest.fixture(scope="session")
def small() -> Geometry:
    """Units of 16 KiB, frames of 4 KiB."""
    return SMALL


@pytest.fixture(scope="session")
def memory_target() -> type[MemoryTarget]:
    """The class `MemoryTarget`."""
    return MemoryTarget


@pytest.fixture(scope="session")
def target_failed() -> type[TargetFailed]:
    """What `MemoryTarget` raises."""
    return TargetFailed


@pytest.fixture(scope="session")
def memory_source() -> type[MemorySource]:
    """The class `MemorySource`."""
    return MemorySource


@pytest.fixture(scope="session")
def memory_sink() -> type[MemorySink]:
    """The class `MemorySink`."""
    return MemorySink


@pytest.fixture(scope="session")
def packed() -> Callable[..., bytes]:
    """The function `pack_bytes`."""
    return pack_bytes


@pytest.fixture(scope="session")
def unpacked() -> Callable[..., tuple[bytes, list[Finding]]]:
    """The function `unpack_bytes`."""
    return unpack_bytes


@pytest.fixture(scope="session")
def letters() -> Callable[..., bytes]:
    """The function `varied`."""
    return varied


@pytest.fixture(scope="session")
def forge() -> type[Forge]:
    """The class `Forge`."""
    return Forge


@pytest.fixture(scope="session")
def header_of() -> Callable[[Geometry], Header]:
    """Give a header for a geometry."""
    return lambda geometry: Header(IDENTITY, geometry, 1, 1)
