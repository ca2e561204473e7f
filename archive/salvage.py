"""Rebuilds the index of a damaged archive with one forward walk over its records.

Owns: the walk (spec section 9.4) and the index that comes of it. Must not decompress content, nor
write anything. A `Salvaged` may be shared by threads once it is made.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

import zstandard

from . import layout
from .errors import DamagedError, Finding, NotAnArchiveError, Severity, UnsupportedError
from .footer import Footer, decode_footer
from .header import Header
from .index import TableIndex, UnitRow
from .plan import Geometry, ceil_div
from .reader import Archive, read_header
from .record import check_digest, record_length
from .store import Store
from .unit import Frame, UnitHeader, check_frames, decode_rows, decode_unit_header

_SCAN_BYTES = 4 * layout.MIB
_MOST_RECORD = layout.UNIT_HEADER_BYTES + layout.FRAME_ROW_BYTES * (
    layout.MAX_UNIT_BYTES // layout.MIN_FRAME_BYTES
)
_MOST_OTHER = layout.PAGE_BYTES + layout.MAX_STORED_PAGE_BYTES  # headers and footers are shorter
_DIGEST_AT = {
    layout.TAG_HEADER: layout.HEADER_DIGEST_AT,
    layout.TAG_PAGE: layout.PAGE_DIGEST_AT,
    layout.TAG_FOOTER: layout.FOOTER_DIGEST_AT,
}
_ABSENT = 2**64 - 1  # no unit stands there; at byte 0 one may, where the header was cut off


class WalkedIndex:
    """The units that a walk found; 8 bytes of memory each, the rest is read again when needed."""

    def __init__(self, store: Store, geometry: Geometry, offsets: array[int]) -> None:
        self._store = store
        self._geometry = geometry
        self._offsets = offsets

    @property
    def unit_count(self) -> int:
        """Number of units, those that are lost between others included."""
        return len(self._offsets)

    def unit(self, number: int) -> UnitRow:
        """Return the row of a unit.

        Raises:
            DamagedError: the unit is lost.
        """
        return _unit_row(self._header(number), self._offsets[number])

    def frames(self, unit: UnitRow) -> list[Frame]:
        """Return the frames of a unit, in order.

        Raises:
            DamagedError: the unit is lost, or its frames don't fit the content.
        """
        frames = decode_rows(self._header(unit.number).rows)
        try:
            check_frames(frames, self._geometry.frame_lengths(unit.content_bytes))
        except DamagedError as error:
            raise error.located(unit.number) from None
        return frames

    def units(self) -> Iterator[UnitRow]:
        """Yield the rows of the units that were found, in order."""
        for number, offset in enumerate(self._offsets):
            if offset != _ABSENT:
                yield self.unit(number)

    def _header(self, number: int) -> UnitHeader:
        offset = self._offsets[number]
        if offset == _ABSENT:
            raise DamagedError("unit", "no intact unit header was found for it", unit=number)
        return load_unit_header(self._store, offset)


class CombinedIndex:
    """The archive's own index, and what a walk found for units that it has lost."""

    def __init__(self, tables: TableIndex, walked: WalkedIndex) -> None:
        self._tables = tables
        self._walked = walked

    @property
    def unit_count(self) -> int:
        """Number of units."""
        return self._tables.unit_count

    def unit(self, number: int) -> UnitRow:
        """Return the row of a unit.

        Raises:
            DamagedError: the unit is lost.
        """
        try:
            unit = self._tables.unit(number)
            self._tables.frames(unit)
        except DamagedError:
            return self._walked.unit(number)
        return unit

    def frames(self, unit: UnitRow) -> list[Frame]:
        """Return the frames of a unit, in order.

        Raises:
            DamagedError: the unit is lost.
        """
        try:
            return self._tables.frames(unit)
        except DamagedError:
            return self._walked.frames(unit)

    def units(self) -> Iterator[UnitRow]:
        """Yield the rows of the units that can be had, in order."""
        for number in range(self.unit_count):
            try:
                yield self.unit(number)
            except DamagedError:
                continue


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What a walk found; gives out content as an `Archive` does.

    Attributes:
        store: where the archive is.
        header: the header, or None if it is damaged.
        footer: the footer, or None if it is damaged or missing.
        uuid: identity of the archive.
        geometry: how the content is cut.
        content_bytes: length of the content, as the footer has it, or else the end of the last unit
            that was found: then there may have been more.
        index: the units that were found.
        findings: what is damaged.
    """

    store: Store
    header: Header | None
    footer: Footer | None
    uuid: UUID
    geometry: Geometry
    content_bytes: int
    index: WalkedIndex | CombinedIndex
    findings: list[Finding] = field(default_factory=list[Finding])


def salvage(store: Store) -> Salvaged:
    """Walk over the archive in `store`, and return what is intact.

    Raises:
        NotAnArchiveError: there is neither a header nor a unit.
        UnsupportedError: the header is of another version.
        DamagedError: no unit is intact, and there is no good footer.
        SourceError: the archive can't be read.
    """
    findings: list[Finding] = []
    header, not_an_archive = _header(store, findings)
    walk = _Walk(store, header, findings)
    walk.run()
    if not_an_archive and not walk.found:
        raise not_an_archive
    if walk.uuid is None or (not walk.found and walk.footer is None):
        raise DamagedError("file", "no intact unit was found")
    geometry = header.geometry if header else _guess_geometry(store, walk)
    units = walk.numbered(geometry)
    archive, whole = _own_index(store, findings) if walk.footer else (None, False)
    # What the whole index says, a plain unpack gives: one unit header must not outweigh it.
    fits = walk.footer is not None and (whole or walk.fits(walk.footer, geometry))
    footer = walk.footer if fits else None
    if footer:
        content_bytes = footer.content_bytes
    else:
        content_bytes = walk.content_end(geometry)
        findings.append(
            Finding("footer", Severity.DAMAGE, "there is no intact footer: units may be missing")
        )
    count = min(geometry.unit_count(content_bytes), store.size // layout.UNIT_HEADER_BYTES)
    units.extend([_ABSENT] * (count - len(units)))
    walked = WalkedIndex(store, geometry, units)
    index = CombinedIndex(archive.table_index, walked) if archive and footer else walked
    return Salvaged(store, header, footer, walk.uuid, geometry, content_bytes, index, findings)


def _header(
    store: Store, findings: list[Finding]
) -> tuple[Header | None, NotAnArchiveError | None]:
    """Return the header, or None and a finding if it is damaged.

    A version or a feature that is unknown is damage too, unless the header's digest says that
    it was written so: spec section 9.4.
    """
    try:
        return read_header(store), None
    except NotAnArchiveError as error:
        findings.append(Finding("header", Severity.DAMAGE, "header: its tag is damaged"))
        return None, error
    except DamagedError as error:
        findings.append(as_finding(error))
    except UnsupportedError:
        start = store.read_at(0, layout.HEADER_BYTES)
        length = record_length(start) or 0
        record = store.read_at(0, min(length, layout.HEADER_BYTES + layout.MAX_FACTS_BYTES))
        try:
            check_digest(record, layout.HEADER_DIGEST_AT, "header")
        except DamagedError as damage:
            findings.append(as_finding(damage))
        else:
            raise
    return None, None


def _own_index(store: Store, findings: list[Finding]) -> tuple[Archive | None, bool]:
    """Return the archive, if it opens, and whether its own index is whole.

    That index knows units whose header is damaged. Where it is not whole, there is a finding at
    least: what is rebuilt must be said to be, spec section 9.4.
    """
    archive: Archive | None = None
    try:
        archive = Archive(store)
        for unit in archive.table_index.units():
            archive.table_index.frames(unit)
        return archive, True
    except (NotAnArchiveError, UnsupportedError):  # a damaged tag or version, which is a finding
        pass
    except DamagedError as error:
        if not findings:
            findings.append(as_finding(error))
    return archive, False


def as_finding(error: DamagedError) -> Finding:
    """Return an error as the finding that it is."""
    return Finding(
        error.part.replace(" ", "-"),
        Severity.DAMAGE,
        str(error),
        unit=error.unit,
        frame=error.frame,
        archive_offset=error.archive_offset,
    )


def load_unit_header(store: Store, archive_offset: int) -> UnitHeader:
    """Return the unit header that stands at an offset.

    Raises:
        DamagedError: none that is intact does.
    """
    start = store.read_at(archive_offset, layout.UNIT_HEADER_BYTES)
    length = record_length(start) if len(start) == layout.UNIT_HEADER_BYTES else None
    if length is None or not layout.UNIT_HEADER_BYTES <= length <= _MOST_RECORD:
        raise DamagedError("unit header", "none stands here", archive_offset=archive_offset)
    try:
        return decode_unit_header(store.read_at(archive_offset, length))
    except DamagedError as error:
        raise DamagedError(error.part, error.problem, archive_offset=archive_offset) from None


def _unit_row(unit: UnitHeader, offset: int) -> UnitRow:
    kinds = [frame.kind for frame in decode_rows(unit.rows)]
    return UnitRow(
        unit.number, offset, unit.content_bytes, unit.stored_bytes, unit.frame_count,
        kinds.count(layout.FRAME_ZERO), kinds.count(layout.FRAME_HOLE), unit.stored_digest,
    )  # fmt: skip


class _Walk:
    """One walk; collects places of intact unit headers, and the footer."""

    def __init__(self, store: Store, header: Header | None, findings: list[Finding]) -> None:
        self.store = store
        self.uuid = header.uuid if header else _uuid_at_end(store)
        self.found: dict[int, tuple[int, int]] = {}  # number: (archive offset, content length)
        self.footer: Footer | None = None
        self._at = header.record_bytes if header else 0
        self._findings = findings
        self._last = -1

    def run(self) -> None:
        while self._at < self.store.size:
            if not self._step():
                lost_at = self._at
                self._at = self._next_record(lost_at + 1)
                self._findings.append(
                    Finding(
                        "lost-bytes", Severity.DAMAGE,
                        f"{self._at - lost_at} bytes at byte {lost_at} belong to no intact record",
                        archive_offset=lost_at,
                    )
                )  # fmt: skip

    def _step(self) -> bool:
        """Take the record at the current offset; return False if no intact one stands here."""
        start = self.store.read_at(self._at, layout.RECORD_START_BYTES)
        length = record_length(start) if len(start) == layout.RECORD_START_BYTES else None
        if length is None or self._at + length > self.store.size:
            return False
        tag = start[8:16]
        if tag == layout.TAG_UNIT:
            return self._step_unit()
        if length > _MOST_OTHER:
            return False
        record = self.store.read_at(self._at, length)
        try:
            # A record that is not intact must not lead the walk over units that are.
            check_digest(record, _DIGEST_AT[tag], "record")
            footer = decode_footer(record) if tag == layout.TAG_FOOTER else None
        except DamagedError:
            return False
        if footer and self.uuid in (None, footer.uuid):
            self.footer, self.uuid = footer, footer.uuid
        self._at += length
        return True

    def _step_unit(self) -> bool:
        try:
            unit = load_unit_header(self.store, self._at)
        except DamagedError:
            return False
        if self.uuid not in (None, unit.uuid) or unit.number <= self._last:
            return False
        self.uuid = unit.uuid
        self._last = unit.number
        self.found[unit.number] = (self._at, unit.content_bytes)
        end = self._at + unit.record_bytes + unit.stored_bytes
        if end < self.store.size and not self._stands_record(end):
            # Something was cut out of the payload: look for the next record inside it.
            self._at += unit.record_bytes
            self._at = min(self._next_record(self._at), end)
            return True
        self._at = min(end, self.store.size)
        return True

    def _stands_record(self, archive_offset: int) -> bool:
        return record_length(self.store.read_at(archive_offset, 16).ljust(16, b"\0")) is not None

    def _next_record(self, archive_offset: int) -> int:
        """Return where the next record seems to begin, or the end of the file."""
        magic = layout.SKIPPABLE_MAGIC.to_bytes(4, "little")
        while archive_offset < self.store.size:
            chunk = self.store.read_at(archive_offset, _SCAN_BYTES)
            at = -1
            while (at := chunk.find(magic, at + 1)) >= 0:
                if self._stands_record(archive_offset + at):
                    return archive_offset + at
            if len(chunk) < _SCAN_BYTES:
                break
            archive_offset += len(chunk) - len(magic) + 1
        return self.store.size

    def numbered(self, geometry: Geometry) -> array[int]:
        """Return the archive offset of each unit by number, up to the last that was found."""
        most = self.store.size // layout.UNIT_HEADER_BYTES
        last = max((n for n in self.found if n < most), default=-1)
        offsets = array("Q", [_ABSENT]) * (last + 1)
        for number, (offset, content_bytes) in self.found.items():
            short = number < last and content_bytes != geometry.unit_bytes
            if number <= last and content_bytes <= geometry.unit_bytes and not short:
                offsets[number] = offset
        return offsets

    def fits(self, footer: Footer, geometry: Geometry) -> bool:
        """Tell whether what the footer says of the content fits the units and the file.

        A hostile one must not make the content longer than the units that the file could hold.
        """
        content = footer.content_bytes
        count = geometry.unit_count(content)
        if count != footer.unit_count or count > self.store.size // layout.UNIT_HEADER_BYTES:
            return False
        if max(self.found, default=-1) >= count:
            return False
        last = self.found.get(count - 1)
        return last is None or last[1] == geometry.unit_length(count - 1, content)

    def content_end(self, geometry: Geometry) -> int:
        """Return where the last unit that was found ends in the content."""
        units = self.numbered(geometry)
        last = len(units) - 1
        if last < 0:
            return 0
        return last * geometry.unit_bytes + self.found[last][1]


def _uuid_at_end(store: Store) -> UUID | None:
    """Return the uuid of a good footer at the end, or None.

    Without a header, the first unit that is found may belong to an archive in the content.
    """
    at = max(store.size - layout.FOOTER_BYTES, 0)
    try:
        return decode_footer(store.read_at(at, layout.FOOTER_BYTES)).uuid
    except DamagedError:
        return None


def _guess_geometry(store: Store, walk: _Walk) -> Geometry:
    """Return the geometry that unit headers show (spec section 9.4)."""
    if not walk.found:
        raise DamagedError("header", "it is damaged, and there is no unit that shows the sizes")
    last = max(walk.found)
    first = min(walk.found)
    offset, unit_bytes = walk.found[first]
    if first == last and first:
        raise DamagedError("header", "it is damaged, and one unit alone does not show the sizes")
    unit = load_unit_header(store, offset)
    start = store.read_at(offset + unit.record_bytes, 32)
    try:
        frame_bytes = zstandard.get_frame_parameters(start).content_size
    except zstandard.ZstdError:
        raise DamagedError("header", "it is damaged, and so is the first frame") from None
    # The block size is only informational; any that divides the unit will do.
    block = next((b for b in (4096, 512) if not unit_bytes % b), 0)
    if first == last:  # a lone short unit: round up, so that the sizes are in bounds
        block = 512
        unit_bytes = ceil_div(unit_bytes, 512) * 512
    if unit.frame_count == 1:  # any frame size from here on means the same
        frame_bytes = ceil_div(max(frame_bytes, 1), 4096) * 4096
    geometry = Geometry(unit_bytes, frame_bytes, block)
    if problem := geometry.problem():
        raise DamagedError("header", f"it is damaged, and the units show no sizes: {problem}")
    return geometry
