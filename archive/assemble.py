"""Assembles an archive: encoded units in, in order; the bytes of the file out, in order.

Owns: the order of the file, offsets, totals and digests (spec sections 2, 6 and 7). Opens nothing,
writes nothing, knows no thread: the caller appends what it is given. One owner.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

from blake3 import blake3

from . import layout
from .catalogue import Member, encode_extents, encode_member
from .footer import Footer, check_footer, decode_footer, encode_footer
from .header import Header, decode_header, encode_header
from .index import encode_unit_row
from .page import PageKey, PlacedRecord, decode_page, page_digest
from .table import Descriptor, Spool, TableWriter, decode_root, encode_root, section_of
from .unit import EncodedUnit


@dataclass(slots=True)
class Totals:
    """What was assembled so far; lengths in bytes."""

    content_bytes: int = 0
    unit_count: int = 0
    frame_count: int = 0
    stored_bytes: int = 0
    zero_bytes: int = 0
    hole_bytes: int = 0
    unreadable_bytes: int = 0


class Assembler:
    """Turns units into the bytes of one archive.

    Call `begin` once, `add` for each unit in order, `finish` once, and append every byte string
    that they give, in that order.

    Args:
        header: what the first record shall say.
        new_spool: makes a place for the rows of one table; called once for each table.
        page_rows: rows of a page; None for as many as fit. For tests of deep trees.
    """

    def __init__(
        self, header: Header, new_spool: Callable[[], Spool], page_rows: int | None = None
    ) -> None:
        self._header = header
        self._offset = 0
        self._tables = {
            number: TableWriter(number, new_spool(), page_rows)
            for number in layout.TABLES_OF_KIND[header.kind]
        }
        self._units_hash = blake3()
        self._frames_hash = blake3()
        self._last_unreadable: tuple[int, int] | None = None
        self.totals = Totals()

    def table(self, number: int) -> TableWriter:
        """Return the table that takes the catalogue's rows of one kind."""
        return self._tables[number]

    def begin(self) -> bytes:
        """Return the header record."""
        record = encode_header(self._header)
        self._header = decode_header(record)
        self._offset = len(record)
        return record

    def add(self, unit: EncodedUnit) -> Sequence[bytes]:
        """Return the bytes of the next unit: its header, then its frames."""
        totals = self.totals
        assert unit.number == totals.unit_count, "units are added in order"
        rows = unit.rows
        self._tables[layout.TABLE_UNITS].append(encode_unit_row(unit, self._offset))
        self._tables[layout.TABLE_FRAMES].append(rows)
        self._units_hash.update(unit.stored_digest)
        for at in range(8, len(rows), layout.FRAME_ROW_BYTES):
            self._frames_hash.update(rows[at : at + layout.DIGEST_BYTES])
        for offset, run_bytes in unit.unreadable:
            self._add_unreadable(offset, run_bytes)
        totals.content_bytes += unit.content_bytes
        totals.unit_count += 1
        totals.frame_count += len(rows) // layout.FRAME_ROW_BYTES
        totals.stored_bytes += unit.stored_bytes
        totals.zero_bytes += unit.zero_bytes
        totals.hole_bytes += unit.hole_bytes
        self._offset += len(unit.record) + unit.stored_bytes
        return [unit.record, *unit.payload]

    def add_volume(self, member: Member) -> None:
        """Put the one member of a volume archive into the catalogue."""
        self._tables[layout.TABLE_MEMBERS].append(encode_member(member))
        self._tables[layout.TABLE_NAMES].append(member.name)
        if extents := encode_extents(member):
            self._tables[layout.TABLE_EXTENTS].append(extents)

    def finish(self) -> Generator[bytes, None, Footer]:
        """Yield the catalogue, the index and the footer; return the footer as it was encoded.

        The rows of the catalogue are in their tables by now. Section roots and footer are decoded
        again and compared before they are given out.
        """
        if self._last_unreadable:
            self._flush_unreadable(self._last_unreadable)
        catalogue = yield from self._section(layout.SECTION_CATALOGUE)
        index = yield from self._section(layout.SECTION_INDEX)
        totals = self.totals
        footer = Footer(
            uuid=self._header.uuid,
            kind=self._header.kind,
            archive_bytes=self._offset + layout.FOOTER_BYTES,
            content_bytes=totals.content_bytes,
            unit_count=totals.unit_count,
            frame_count=totals.frame_count,
            stored_bytes=totals.stored_bytes,
            zero_bytes=totals.zero_bytes,
            hole_bytes=totals.hole_bytes,
            unreadable_bytes=totals.unreadable_bytes,
            member_count=self._tables[layout.MEMBER_TABLES[self._header.kind]].rows,
            catalogue_offset=catalogue.offset,
            catalogue_record_bytes=catalogue.record_bytes,
            index_offset=index.offset,
            index_record_bytes=index.record_bytes,
            header_digest=self._header.digest,
            units_digest=self._units_hash.digest(),
            content_digest=self._frames_hash.digest(),
            catalogue_digest=catalogue.digest,
            index_digest=index.digest,
        )
        record = encode_footer(footer)
        decoded = decode_footer(record)
        assert replace(decoded, digest=b"") == footer, "the footer reads as it was written"
        check_footer(decoded, self._header, footer.archive_bytes)
        self._offset += len(record)
        yield record
        return decoded

    def _section(self, section: int) -> Generator[bytes, None, PlacedRecord]:
        descriptors: list[Descriptor] = []
        for number in sorted(n for n in self._tables if section_of(n) == section):
            pages = self._tables[number].pages(self._header.uuid, self._offset)
            descriptors.append((yield from self._counted(pages)))
        record = encode_root(self._header.uuid, section, descriptors)
        place = PlacedRecord(self._offset, len(record), page_digest(record))
        key = PageKey(layout.TABLE_ROOT, 0, section)
        rows = decode_page(record, self._header.uuid, key, place.digest)
        decoded = decode_root(rows, section, self._header.kind)
        assert list(decoded.values()) == descriptors, "the section root reads as it was written"
        self._offset += len(record)
        yield record
        return place

    def _counted(
        self, records: Generator[bytes, None, Descriptor]
    ) -> Generator[bytes, None, Descriptor]:
        while True:
            try:
                record = next(records)
            except StopIteration as end:
                descriptor: Descriptor = end.value
                return descriptor
            self._offset += len(record)
            yield record

    def _add_unreadable(self, offset: int, run_bytes: int) -> None:
        """Join runs that touch, across units too, so that the table holds none that do."""
        last = self._last_unreadable
        if last and sum(last) == offset:
            self._last_unreadable = (last[0], last[1] + run_bytes)
            return
        if last:
            self._flush_unreadable(last)
        self._last_unreadable = (offset, run_bytes)

    def _flush_unreadable(self, run: tuple[int, int]) -> None:
        self._tables[layout.TABLE_UNREADABLE].append(layout.UNREADABLE_ROW.pack(*run))
        self.totals.unreadable_bytes += run[1]
