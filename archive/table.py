"""Tables: fixed-width rows, cut into pages, found through a tree of directory pages.

Owns: the tree, its digests and its arithmetic (spec sections 5.2 and 5.3). Must not know what a row
means. A `TableWriter` belongs to one thread; `Table` and `PageCache` may be shared by threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from . import layout
from .errors import DamagedError
from .page import PageKey, PlacedRecord, decode_page, encode_page, page_digest
from .plan import ceil_div
from .record import check_reserved

_WAITING_BYTES = 65_536


class Spool(Protocol):
    """Where a writer keeps rows until all units are written, so that memory stays bounded."""

    def write(self, data: bytes, /) -> object:
        """Append `data`."""
        ...

    def patch(self, spool_offset: int, data: bytes, /) -> None:
        """Overwrite bytes that were written before with `data`."""
        ...

    def read(self, spool_offset: int, size: int, /) -> bytes:
        """Return bytes that were written before."""
        ...

    def chunks(self, size: int, /) -> Iterator[bytes]:
        """Yield all that was written, from the start, `size` bytes at a time."""
        ...


class ReadAt(Protocol):
    """Reads of the archive; safe in any thread."""

    def __call__(self, archive_offset: int, size: int, /) -> bytes:
        """Return `size` bytes from `archive_offset` on, fewer at the end of the archive."""
        ...


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a section root says of one table (spec section 5.3); `top` is None if it has no rows."""

    table: int
    row_bytes: int
    page_rows: int
    rows: int
    levels: int
    top: PlacedRecord | None


def section_of(table: int) -> int:
    """Return the section that a known table belongs to (spec section 6)."""
    return layout.SECTION_INDEX if table >= layout.TABLE_UNITS else layout.SECTION_CATALOGUE


def level_count(rows: int, page_rows: int) -> int:
    """Return the number of levels of a table of `rows` rows (0 for none)."""
    if not rows:
        return 0
    pages, levels = ceil_div(rows, page_rows), 1
    while pages > 1:
        pages, levels = ceil_div(pages, layout.DIRECTORY_PAGE_ROWS), levels + 1
    return levels


class TableWriter:
    """Takes the rows of one table, and turns them into pages once they are all there.

    Args:
        table: table number.
        spool: where rows wait; read once, by `pages`.
        page_rows: rows of a page; None for as many as fit.
    """

    def __init__(self, table: int, spool: Spool, page_rows: int | None = None) -> None:
        self.table = table
        self.row_bytes = layout.ROW_BYTES[table]
        self.page_rows = page_rows or layout.MAX_PAGE_BYTES // self.row_bytes
        self.rows = 0
        self._spool = spool
        self._waiting = bytearray()  # rows come one by one, and a spool takes many as easily

    def append(self, rows: bytes) -> None:
        """Add one or more whole rows."""
        self._waiting += rows
        self.rows += len(rows) // self.row_bytes
        if len(self._waiting) >= _WAITING_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand the rows that wait over to the spool."""
        if self._waiting:
            self._spool.write(bytes(self._waiting))
            self._waiting.clear()

    def patch(self, row: int, at: int, data: bytes) -> None:
        """Overwrite bytes of a row that was appended, `at` bytes behind its start."""
        offset = row * self.row_bytes + at
        waiting_from = self.rows * self.row_bytes - len(self._waiting)
        if offset >= waiting_from:
            self._waiting[offset - waiting_from : offset - waiting_from + len(data)] = data
        else:
            self._spool.patch(offset, data)

    def read(self, first: int, count: int) -> bytes:
        """Return rows that were appended."""
        offset, size = first * self.row_bytes, count * self.row_bytes
        waiting_from = self.rows * self.row_bytes - len(self._waiting)
        if offset >= waiting_from:
            return bytes(self._waiting[offset - waiting_from : offset - waiting_from + size])
        self.flush()
        return self._spool.read(offset, size)

    def pages(self, uuid: UUID, archive_offset: int) -> Generator[bytes, None, Descriptor]:
        """Yield the page records, the first of which will stand at `archive_offset`.

        Returns the descriptor. Memory: one page, and 48 bytes for each page of the table.
        """
        self.flush()
        chunks: Iterable[bytes] = self._spool.chunks(self.page_rows * self.row_bytes)
        level = 0
        top: PlacedRecord | None = None
        while True:
            directory = bytearray()
            for number, raw in enumerate(chunks):
                record = encode_page(uuid, PageKey(self.table, level, number), raw)
                top = PlacedRecord(archive_offset, len(record), page_digest(record))
                directory += layout.DIRECTORY_ROW.pack(
                    archive_offset, len(record), bytes(4), top.digest
                )
                archive_offset += len(record)
                yield record
            level += 1
            step = layout.DIRECTORY_PAGE_ROWS * layout.DIRECTORY_ROW_BYTES
            more = len(directory) > layout.DIRECTORY_ROW_BYTES
            chunks = [bytes(directory[i : i + step]) for i in range(0, len(directory), step)]
            if not more:
                break
        levels = level if top else 0
        return Descriptor(self.table, self.row_bytes, self.page_rows, self.rows, levels, top)


def encode_root(uuid: UUID, section: int, descriptors: Iterable[Descriptor]) -> bytes:
    """Return the section root record of tables in rising order of their number."""
    rows = b"".join(
        layout.TABLE_DESCRIPTOR.build(
            {
                "table": each.table,
                "row_bytes": each.row_bytes,
                "page_rows": each.page_rows,
                "rows": each.rows,
                "levels": each.levels,
                "reserved_1": bytes(7),
                "top_offset": each.top.offset if each.top else 0,
                "top_record_bytes": each.top.record_bytes if each.top else 0,
                "reserved_2": bytes(4),
                "digest": each.top.digest if each.top else bytes(layout.DIGEST_BYTES),
            }
        )
        for each in descriptors
    )
    return encode_page(uuid, PageKey(layout.TABLE_ROOT, 0, section), rows)


def decode_root(rows: bytes, section: int, kind: int) -> dict[int, Descriptor]:
    """Return the descriptors in the rows of a section root, by table number, in rising order.

    Raises:
        DamagedError: an order, a width, a bound or the number of levels is wrong, a known table
            does not belong here, or one that an archive of this kind has is missing.
    """
    part = str(PageKey(layout.TABLE_ROOT, 0, section))
    size = layout.TABLE_DESCRIPTOR_BYTES
    if len(rows) % size or len(rows) > layout.MAX_TABLES * size:
        raise DamagedError(part, "its length is wrong")
    found: dict[int, Descriptor] = {}
    last = 0
    for at in range(0, len(rows), size):
        fields = layout.TABLE_DESCRIPTOR.parse(rows[at : at + size])
        check_reserved(fields, part)
        each = _descriptor(fields)
        if each.table <= last:
            raise DamagedError(part, "its tables are not in order")
        if each.table in layout.ROW_BYTES and section_of(each.table) != section:
            raise DamagedError(part, f"table {each.table} belongs to the other section")
        if each.table in layout.ROW_BYTES and each.table not in layout.TABLES_OF_KIND[kind]:
            raise DamagedError(part, f"table {each.table} belongs to another kind of archive")
        last = each.table
        if problem := _descriptor_problem(each):
            raise DamagedError(part, f"table {each.table}: {problem}")
        found[each.table] = each
    for number in layout.TABLES_OF_KIND[kind]:
        if section_of(number) == section and number not in found:
            raise DamagedError(part, f"table {number} is missing")
    return found


def _descriptor(fields: Any) -> Descriptor:
    top = None
    if fields["rows"]:
        top = PlacedRecord(fields["top_offset"], fields["top_record_bytes"], fields["digest"])
    elif fields["top_offset"] or fields["top_record_bytes"] or any(fields["digest"]):
        raise DamagedError("section root", "an empty table has a page")
    return Descriptor(
        fields["table"], fields["row_bytes"], fields["page_rows"], fields["rows"],
        fields["levels"], top,
    )  # fmt: skip


def _descriptor_problem(each: Descriptor) -> str | None:
    known = layout.ROW_BYTES.get(each.table, each.row_bytes)
    if each.row_bytes != known or not each.row_bytes:
        return f"rows of {each.row_bytes} bytes"
    if not 1 <= each.page_rows * each.row_bytes <= layout.MAX_PAGE_BYTES:
        return f"pages of {each.page_rows} rows"
    if each.levels != level_count(each.rows, each.page_rows) or each.levels > layout.MAX_LEVELS:
        return f"{each.levels} levels for {each.rows} rows"
    if each.top and not layout.PAGE_BYTES < each.top.record_bytes <= _MAX_PAGE_RECORD:
        return "its top page has a wrong length"
    return None


_MAX_PAGE_RECORD = layout.PAGE_BYTES + layout.MAX_STORED_PAGE_BYTES


class PageCache:
    """The decoded pages that were used last, at most `pages` of 64 KiB each."""

    def __init__(self, pages: int = 64) -> None:
        self._pages = pages
        self._held: OrderedDict[PageKey, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: PageKey) -> bytes | None:
        """Return a page, or None if it is not held."""
        with self._lock:
            if raw := self._held.get(key):
                self._held.move_to_end(key)
            return raw

    def put(self, key: PageKey, raw: bytes) -> None:
        """Hold a page, and let go the one that was not used for longest."""
        with self._lock:
            self._held[key] = raw
            self._held.move_to_end(key)
            if len(self._held) > self._pages:
                self._held.popitem(last=False)


class Table:
    """Reads rows of one table; may be shared by threads.

    Every method raises DamagedError where a page on the way is not what the writer wrote.

    Args:
        read_at: positional reads of the archive.
        uuid: identity of the archive.
        descriptor: what the section root says.
        cache: shared between the tables of an archive.
    """

    def __init__(
        self, read_at: ReadAt, uuid: UUID, descriptor: Descriptor, cache: PageCache
    ) -> None:
        self.descriptor = descriptor
        self.row_bytes = descriptor.row_bytes
        self.rows = descriptor.rows
        self._read_at = read_at
        self._uuid = uuid
        self._cache = cache

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.rows

    def row(self, number: int) -> bytes:
        """Return row `number`, from 0 to rows - 1."""
        return self.span(number, 1)

    def span(self, first: int, count: int) -> bytes:
        """Return `count` rows from `first` on; all of them must exist."""
        if not 0 <= first <= first + count <= self.rows:
            raise DamagedError(f"table {self.descriptor.table}", f"it has no row {first + count}")
        page_rows, size = self.descriptor.page_rows, self.row_bytes
        pieces: list[bytes] = []
        while count:
            page, at = divmod(first, page_rows)
            take = min(count, page_rows - at)
            raw = self._page(0, page)
            pieces.append(raw[at * size : (at + take) * size])
            first += take
            count -= take
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def spans(self) -> Iterator[bytes]:
        """Yield all rows in order, the rows of one page at a time."""
        for number in range(ceil_div(self.rows, self.descriptor.page_rows)):
            yield self._page(0, number)

    def keys(self) -> Iterator[PageKey]:
        """Yield the key of every page, the top first."""
        for level in range(self.descriptor.levels - 1, -1, -1):
            for number in range(self._pages_of(level)):
                yield PageKey(self.descriptor.table, level, number)

    def place(self, key: PageKey) -> PlacedRecord:
        """Return where a page stands, as its directory says."""
        top = self.descriptor.top
        assert top is not None, "an empty table has no pages"
        if key.level == self.descriptor.levels - 1:
            return top
        parent, at = divmod(key.number, layout.DIRECTORY_PAGE_ROWS)
        rows = self._page(key.level + 1, parent)
        offset, record_bytes, reserved, digest = layout.DIRECTORY_ROW.unpack_from(
            rows, at * layout.DIRECTORY_ROW_BYTES
        )
        bad_length = not layout.PAGE_BYTES < record_bytes <= _MAX_PAGE_RECORD
        if any(reserved) or bad_length or offset > layout.MAX_CONTENT_BYTES:
            raise DamagedError(str(key), "its directory row is out of bounds")
        return PlacedRecord(offset, record_bytes, digest)

    def load(self, key: PageKey) -> bytes:
        """Return the rows of one page, read afresh."""
        place = self.place(key)
        record = self._read_at(place.offset, place.record_bytes)
        try:
            raw = decode_page(record, self._uuid, key, place.digest)
        except DamagedError as error:
            raise DamagedError(error.part, error.problem, archive_offset=place.offset) from None
        if len(raw) != self._page_rows(key) * self._width(key.level):
            raise DamagedError(
                str(key), "it has another number of rows", archive_offset=place.offset
            )
        return raw

    def _page(self, level: int, number: int) -> bytes:
        key = PageKey(self.descriptor.table, level, number)
        raw = self._cache.get(key)
        if raw is None:
            raw = self.load(key)
            self._cache.put(key, raw)
        return raw

    def _width(self, level: int) -> int:
        return layout.DIRECTORY_ROW_BYTES if level else self.row_bytes

    def _capacity(self, level: int) -> int:
        return layout.DIRECTORY_PAGE_ROWS if level else self.descriptor.page_rows

    def _rows_of(self, level: int) -> int:
        rows = self.rows
        for below in range(level):
            rows = ceil_div(rows, self._capacity(below))
        return rows

    def _pages_of(self, level: int) -> int:
        return ceil_div(self._rows_of(level), self._capacity(level))

    def _page_rows(self, key: PageKey) -> int:
        capacity = self._capacity(key.level)
        return min(capacity, self._rows_of(key.level) - key.number * capacity)
