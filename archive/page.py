"""Pages: the records that hold rows of a table, or of a table's directory.

Owns: encoding and decoding of one page record (spec section 5.1). Must not know tables. Pure;
safe in any thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import zstandard

from . import layout
from .errors import DamagedError
from .record import check_digest, check_length, check_reserved, parse_fields, seal

_LEVEL = 3  # pages are small, and mostly digests, which no level makes smaller


@dataclass(frozen=True, slots=True)
class PlacedRecord:
    """Where a record stands, how long it is in bytes, and the digest that it must have."""

    offset: int
    record_bytes: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class PageKey:
    """Which page of an archive: table number, level, number in the level."""

    table: int
    level: int
    number: int

    def __str__(self) -> str:
        """Name the page for people."""
        if self.table == layout.TABLE_ROOT:
            return {1: "catalogue root", 2: "index root"}.get(self.number, "section root")
        return f"page {self.number} of table {self.table}, level {self.level}"


def encode_page(uuid: UUID, key: PageKey, raw: bytes) -> bytes:
    """Return the page record of `raw`, which is 1 to 65,536 bytes of rows."""
    data, codec = zstandard.ZstdCompressor(level=_LEVEL).compress(raw), layout.CODEC_ZSTD
    if len(data) >= len(raw):
        data, codec = raw, layout.CODEC_STORED
    fixed = layout.PAGE.build(
        {
            "skip_bytes": layout.PAGE_BYTES - layout.SKIP_FROM + len(data),
            "uuid": uuid.bytes,
            "table": key.table,
            "level": key.level,
            "codec": codec,
            "raw_bytes": len(raw),
            "page_number": key.number,
            "stored_bytes": len(data),
            "reserved": bytes(12),
            "digest": bytes(layout.DIGEST_BYTES),
        }
    )
    return seal(fixed + data, layout.PAGE_DIGEST_AT)


def page_digest(record: bytes) -> bytes:
    """Return the record digest that stands in a page record."""
    return record[layout.PAGE_DIGEST_AT : layout.PAGE_DIGEST_AT + layout.DIGEST_BYTES]


def decode_page(record: bytes, uuid: UUID, key: PageKey, digest: bytes) -> bytes:
    """Return the rows that a page record holds, 1 to 65,536 bytes.

    Args:
        record: the whole record.
        uuid: identity of the archive.
        key: which page it must be.
        digest: the digest that the row of its directory, or its descriptor, names.

    Raises:
        DamagedError: it is another page, or not what the writer wrote.
    """
    part = str(key)
    fields = parse_fields(layout.PAGE, record, part)
    check_digest(record, layout.PAGE_DIGEST_AT, part)
    check_reserved(fields, part)
    check_length(record, fields["skip_bytes"], part)
    if page_digest(record) != digest:
        raise DamagedError(part, "it is not the page that is referred to")
    found = PageKey(fields["table"], fields["level"], fields["page_number"])
    if fields["uuid"] != uuid.bytes or found != key:
        raise DamagedError(part, "another page stands in its place")
    data = record[layout.PAGE_BYTES :]
    raw_bytes = fields["raw_bytes"]
    if len(data) != fields["stored_bytes"] or not 1 <= raw_bytes <= layout.MAX_PAGE_BYTES:
        raise DamagedError(part, "its lengths are wrong")
    if fields["codec"] == layout.CODEC_STORED and len(data) == raw_bytes:
        return data
    if fields["codec"] != layout.CODEC_ZSTD:
        raise DamagedError(part, "its codec is wrong")
    try:
        # The declared size wins over any bound that is passed to python-zstandard.
        declared = zstandard.get_frame_parameters(data)
        if declared.content_size != raw_bytes:
            raise DamagedError(part, "its lengths are wrong")
        if declared.window_size > layout.MAX_WINDOW_BYTES:
            raise DamagedError(part, "its window is too large")
        return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    except zstandard.ZstdError:
        raise DamagedError(part, "zstd can't decompress it") from None
