"""Reads an archive: opens it, looks things up, gives out content that was checked.

Owns: the way from a store to header, footer, index, catalogue and frames. Must not write anything,
nor know command lines. An `Archive` may be shared by threads; a `UnitReader` belongs to one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple, Protocol

from . import layout
from .catalogue import Member, decode_volume, iter_unreadable
from .errors import BadUseError, DamagedError, SourceError, TruncatedError
from .footer import Footer, check_footer, decode_footer
from .header import Header, decode_header, header_length
from .index import Index, TableIndex, UnitRow
from .page import PageKey, PlacedRecord, decode_page
from .plan import Geometry, ceil_div
from .store import Store
from .table import PageCache, Table, decode_root, section_of
from .unit import Frame, FrameDecoder
from .zeros import zeros

_TAIL_BYTES = layout.MIB  # how far from the end a footer is looked for, if it is not last
_CHUNK_BYTES = layout.MIB  # stored bytes that are read at once: they stay in the processor's cache


class Content(Protocol):
    """Content that can be read unit by unit: of a whole archive, or of what is left of one."""

    @property
    def store(self) -> Store:
        """Where the archive is."""
        ...

    @property
    def geometry(self) -> Geometry:
        """How the content is cut."""
        ...

    @property
    def content_bytes(self) -> int:
        """Length of the content."""
        ...

    @property
    def index(self) -> Index:
        """Where the units are."""
        ...


def read_header(store: Store) -> Header:
    """Return the header of the archive in `store`.

    Raises:
        NotAnArchiveError, UnsupportedError, DamagedError: as `decode_header`.
    """
    start = store.read_at(0, layout.HEADER_BYTES)
    return decode_header(store.read_at(0, header_length(start)))


def read_footer(store: Store, header: Header) -> Footer:
    """Return the footer of the archive in `store`.

    Raises:
        TruncatedError: there is none.
        DamagedError: it is damaged, or does not fit the header or the length of the file.
    """
    at = max(store.size - layout.FOOTER_BYTES, 0)
    record = store.read_at(at, layout.FOOTER_BYTES)
    if record[8:16] != layout.TAG_FOOTER:
        raise _no_footer(store, header)
    try:
        footer = decode_footer(record)
    except DamagedError as error:
        raise DamagedError("footer", error.problem, archive_offset=at) from None
    check_footer(footer, header, store.size)
    return footer


def _no_footer(store: Store, header: Header) -> DamagedError:
    """Tell what a file is that does not end with a footer (spec section 9.3)."""
    start = max(store.size - _TAIL_BYTES, 0)
    tail = store.read_at(start, _TAIL_BYTES)
    at = len(tail)
    while (at := tail.rfind(layout.TAG_FOOTER, 0, at)) >= 8:
        try:
            footer = decode_footer(tail[at - 8 : at - 8 + layout.FOOTER_BYTES])
        except DamagedError:
            continue
        end = start + at - 8 + layout.FOOTER_BYTES
        if footer.uuid == header.uuid:
            return DamagedError(
                "file", f"{store.size - end} bytes follow the footer", archive_offset=end
            )
    return TruncatedError(
        "file",
        "no footer at the end: it is cut off, or its end is damaged",
        archive_offset=store.size,
    )


class Archive:
    """An archive that is whole as far as opening it tells.

    Opening reads header, footer and the two section roots; pages and units are read, and their
    digests checked, when they are needed. Memory does not depend on the length of the archive.

    Args:
        store: where it is; closed by the caller.

    Raises:
        NotAnArchiveError, UnsupportedError, DamagedError, SourceError: it can't be opened.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.header = read_header(store)
        self.footer = read_footer(store, self.header)
        self.sections = open_tables(store, self.header, self.footer)
        self.tables = {n: table for tables in self.sections.values() for n, table in tables.items()}
        self.table_index = TableIndex(
            self.tables[layout.TABLE_UNITS],
            self.tables[layout.TABLE_FRAMES],
            self.header.geometry,
            self.footer.content_bytes,
            self.header.record_bytes,
            self.footer.catalogue_offset,
        )

    @property
    def geometry(self) -> Geometry:
        """How the content is cut."""
        return self.header.geometry

    @property
    def content_bytes(self) -> int:
        """Length of the content."""
        return self.footer.content_bytes

    @property
    def index(self) -> Index:
        """Where the units are."""
        return self.table_index

    def member(self) -> Member:
        """Return the volume in the archive.

        Raises:
            DamagedError: the catalogue is damaged.
        """
        return decode_volume(
            self.tables[layout.TABLE_MEMBERS],
            self.tables[layout.TABLE_EXTENTS],
            self.tables[layout.TABLE_NAMES],
            self.content_bytes,
        )

    def unreadable(self) -> Iterator[tuple[int, int]]:
        """Yield (content offset, length) of what the source failed to give, in order.

        Raises:
            DamagedError: the catalogue is damaged.
        """
        return iter_unreadable(self.tables[layout.TABLE_UNREADABLE], self.content_bytes)

    def read(self, content_offset: int, size: int) -> bytes:
        """Return `size` bytes of content from `content_offset` on, fewer at the end.

        Decompresses the frames that the span touches, and no others.

        Raises:
            BadUseError: the offset or the size is negative.
            DamagedError: a frame or a page on the way is damaged.
        """
        if content_offset < 0 or size < 0:
            raise BadUseError("an offset or a size is negative")
        end = min(content_offset + size, self.content_bytes)
        reader = UnitReader(self)
        placed: PlacedFrames | None = None
        pieces: list[bytes] = []
        while content_offset < end:
            unit_number, frame, at = self.geometry.locate(content_offset)
            if placed is None or placed.unit.number != unit_number:
                placed = place_frames(self, self.index.unit(unit_number))
            content = reader.frame(placed, frame)
            pieces.append(content[at : at + end - content_offset])
            content_offset += len(pieces[-1])
        return b"".join(pieces)


def open_tables(store: Store, header: Header, footer: Footer) -> dict[int, dict[int, Table]]:
    """Return the tables of each section by number, in rising order, those of unknown number too.

    Raises:
        DamagedError: a section root is damaged, a table that must be there is not, or the tables
            have other numbers of rows than the footer says.
    """
    tables: dict[int, dict[int, Table]] = {}
    for section, place in section_places(footer).items():
        record = store.read_at(place.offset, place.record_bytes)
        key = PageKey(layout.TABLE_ROOT, 0, section)
        try:
            rows = decode_page(record, header.uuid, key, place.digest)
            descriptors = decode_root(rows, section, header.kind)
        except DamagedError as error:
            raise DamagedError(error.part, error.problem, archive_offset=place.offset) from None
        # A page has 97 bytes at least; so a small file can't claim many rows.
        for number, each in descriptors.items():
            pages = ceil_div(each.rows, each.page_rows)
            if pages * (layout.PAGE_BYTES + 1) > store.size:
                raise DamagedError(str(key), f"table {number} has more rows than the file can hold")
        cache = PageCache()
        tables[section] = {
            number: Table(store.read_at, header.uuid, each, cache)
            for number, each in descriptors.items()
        }
    expected = {
        layout.TABLE_UNITS: footer.unit_count,
        layout.TABLE_FRAMES: footer.frame_count,
        layout.MEMBER_TABLES[header.kind]: footer.member_count,
    }
    for number, rows_expected in expected.items():
        found = len(tables[section_of(number)][number])
        if found != rows_expected:
            raise DamagedError("footer", f"table {number} has {found} rows, not {rows_expected}")
    return tables


def section_places(footer: Footer) -> dict[int, PlacedRecord]:
    """Return where the section roots stand, by section number."""
    return {
        layout.SECTION_CATALOGUE: PlacedRecord(
            footer.catalogue_offset, footer.catalogue_record_bytes, footer.catalogue_digest
        ),
        layout.SECTION_INDEX: PlacedRecord(
            footer.index_offset, footer.index_record_bytes, footer.index_digest
        ),
    }


class PlacedFrames(NamedTuple):
    """The frames of a unit, where each stands in the archive, and their content lengths."""

    unit: UnitRow
    frames: list[Frame]
    places: list[int]
    lengths: list[int]


def place_frames(content: Content, unit: UnitRow) -> PlacedFrames:
    """Return where the frames of a unit stand.

    Raises:
        DamagedError: the frame table of the unit is damaged.
        SourceError: the archive can't be read.
    """
    frames = content.index.frames(unit)
    places = accumulate((frame.stored_bytes for frame in frames), initial=unit.payload_offset)
    return PlacedFrames(
        unit, frames, list(places), content.geometry.frame_lengths(unit.content_bytes)
    )


class UnitReader:
    """Gives out checked content of units; belongs to one thread, and keeps one buffer."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._decoder = FrameDecoder()
        self._buffer = bytearray(0)

    def frame(self, placed: PlacedFrames, number: int) -> bytes:
        """Return the content of one frame of a unit.

        Raises:
            DamagedError: the frame is damaged, or the unit has no such frame.
            SourceError: the archive can't be read.
        """
        unit, frames, places, lengths = placed
        if not 0 <= number < len(frames):
            raise DamagedError("index", "no such frame", unit=unit.number, frame=number)
        if frames[number].kind != layout.FRAME_DATA:
            return zeros(lengths[number])
        at = places[number]
        stored = self._load(at, frames[number].stored_bytes)
        return self._decode(unit, number, frames[number], stored, lengths[number], at)

    def contents(self, unit: UnitRow) -> Iterator[tuple[int, int, bytes | DamagedError | None]]:
        """Yield (frame number, content length, content) of all frames of a unit, in order.

        The content is None for a hole or zeros; where the frame is damaged it is the error,
        which is not raised.

        Raises:
            DamagedError: the frame table of the unit is damaged.
            SourceError: the archive can't be read.
        """
        frames = self._content.index.frames(unit)
        lengths = self._content.geometry.frame_lengths(unit.content_bytes)
        for number, stored, at in self.stored(unit, frames):
            frame, length = frames[number], lengths[number]
            if frame.kind != layout.FRAME_DATA:
                yield number, length, None
                continue
            try:
                yield number, length, self._decode(unit, number, frame, stored, length, at)
            except DamagedError as error:
                yield number, length, error

    def stored(self, unit: UnitRow, frames: list[Frame]) -> Iterator[tuple[int, memoryview, int]]:
        """Yield (frame number, stored bytes, archive offset) of all frames of a unit, in order.

        The stored bytes lie in a buffer that the next step overwrites. There are fewer of them, or
        none, where the archive ends before the unit does.

        Raises:
            SourceError: the archive can't be read.
        """
        first = 0
        at = unit.payload_offset
        while first < len(frames):
            last, size = first, 0
            while last < len(frames) and (
                not size or size + frames[last].stored_bytes <= _CHUNK_BYTES
            ):
                size += frames[last].stored_bytes
                last += 1
            chunk = self._load(at, size)
            within = 0
            for number in range(first, last):
                stored_bytes = frames[number].stored_bytes
                yield number, chunk[within : within + stored_bytes], at + within
                within += stored_bytes
            at += size
            first = last

    def _load(self, archive_offset: int, size: int) -> memoryview:
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        view = memoryview(self._buffer)[:size]
        got = self._content.store.read_into(archive_offset, view)
        if archive_offset + got < min(archive_offset + size, self._content.store.size):
            # The file became shorter since it was opened.
            raise SourceError(f"the archive ends at byte {archive_offset + got}; it was cut off")
        return view[:got]

    def _decode(
        self, unit: UnitRow, number: int, frame: Frame, stored: memoryview, length: int, at: int
    ) -> bytes:
        try:
            return self._decoder.decode(frame, stored, length)
        except DamagedError as error:
            raise DamagedError(
                error.part, error.problem, archive_offset=at, unit=unit.number, frame=number
            ) from None
