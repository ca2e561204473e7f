"""The layout of every record and row of the format, each declared once (spec/format.md).

Owns: constants, bounds, field order and widths. Must not know what the fields mean together,
nor open, hash or compress anything. Immutable; safe in any thread.

Records (header, unit header, page, footer, table descriptor) are declared with construct. Rows,
of which there are millions, are declared with struct, which is 400 times as fast; so is a second
form of the unit header, which a sparse volume writes by the hundred thousand. Tests compare both
with the field tables of the spec and with each other.
"""

from __future__ import annotations

import struct

from construct import Bytes, Const, Int8ul, Int16sl, Int16ul, Int32ul, Int64sl, Int64ul, Struct

KIB = 1024
MIB = 1024 * 1024

VERSION = (0, 1)
SKIPPABLE_MAGIC = 0x184D2A5C

KIND_VOLUME = 1
KIND_TREE = 2

FRAME_DATA = 0
FRAME_ZERO = 1
FRAME_HOLE = 2

CODEC_STORED = 0
CODEC_ZSTD = 1

SECTION_CATALOGUE = 1
SECTION_INDEX = 2

TABLE_ROOT = 0
TABLE_MEMBERS = 1
TABLE_EXTENTS = 2
TABLE_NAMES = 3
TABLE_UNREADABLE = 4
TABLE_ENTRIES = 5
TABLE_RUNS = 6
TABLE_STRINGS = 7
TABLE_ATTRIBUTE_SETS = 8
TABLE_ATTRIBUTE_BYTES = 9
TABLE_OWNERS = 10
TABLE_SUMMARY = 11
TABLE_UNITS = 16
TABLE_FRAMES = 17

MEMBER_VOLUME = 1
MEMBER_CHANGED = 1  # member flag, bit 0

# Section 6.5
ENTRY_FILE = 2
ENTRY_DIRECTORY = 3
ENTRY_SYMLINK = 4
ENTRY_CHARACTER_DEVICE = 5
ENTRY_BLOCK_DEVICE = 6
ENTRY_FIFO = 7
ENTRY_HARD_LINK = 8

FLAG_CHANGED = 1
FLAG_INCOMPLETE = 2
FLAG_SHARED = 4
FLAG_MAPPED = 8
FLAG_MADE = 16

OWNER_USER = 1
OWNER_GROUP = 2

# Section 6.10
CAPTURED_OWNER_NAMES = 1
CAPTURED_ATTRIBUTES = 2
CAPTURED_ACLS = 4
CAPTURED_FILE_FLAGS = 8
CAPTURED_HOLES = 16

# Section 2.2
MAX_CONTENT_BYTES = 2**63 - 1
MIN_BLOCK_BYTES = 512
MAX_BLOCK_BYTES = 16 * MIB
MAX_UNIT_BYTES = 256 * MIB
MIN_FRAME_BYTES = 4096
MAX_FRAME_BYTES = 16 * MIB
MAX_FACTS_BYTES = 65_536
MAX_PAGE_BYTES = 65_536
MAX_STORED_PAGE_BYTES = 66_560
MAX_LEVELS = 8
MAX_TABLES = 64
MAX_NAME_BYTES = 65_535
MAX_WINDOW_BYTES = 32 * MIB
MAX_ENTRY_NAME_BYTES = 255
MAX_LINK_TARGET_BYTES = 4095
MAX_ATTRIBUTES_BYTES = 16 * MIB
MAX_DEPTH = 65_536
MODE_BITS = 0o7777

# Section 8: bits that are kept for what is planned, so that a refusal can name them.
REQUIRED_FEATURE_NAMES = {0: "base", 1: "encryption", 2: "split", 3: "signature"}
OPTIONAL_FEATURE_NAMES = {0: "parity"}

DIGEST_BYTES = 32

TAG_HEADER = b"\x8eOnggiHD"
TAG_UNIT = b"\x8eOnggiUN"
TAG_PAGE = b"\x8eOnggiPG"
TAG_FOOTER = b"\x8eOnggiFT"


def max_stored_bytes(content_bytes: int) -> int:
    """Return the largest stored length, in bytes, of a frame of `content_bytes` (section 2.2)."""
    return content_bytes + content_bytes // 256 + 64


# Section 2.1
RECORD_START = Struct(
    "skippable_magic" / Int32ul,
    "skip_bytes" / Int32ul,
    "tag" / Bytes(8),
)
RECORD_START_BYTES = 16
assert RECORD_START.sizeof() == RECORD_START_BYTES
SKIP_FROM = 8  # skip_bytes counts from here

# Section 3
HEADER = Struct(
    "skippable_magic" / Const(SKIPPABLE_MAGIC, Int32ul),
    "skip_bytes" / Int32ul,
    "tag" / Const(TAG_HEADER),
    "version_major" / Int16ul,
    "version_minor" / Int16ul,
    "kind" / Int8ul,
    "reserved_1" / Bytes(3),
    "required_features" / Int64ul,
    "optional_features" / Int64ul,
    "uuid" / Bytes(16),
    "unit_bytes" / Int64ul,
    "frame_bytes" / Int32ul,
    "block_bytes" / Int32ul,
    "created_ns" / Int64sl,
    "level" / Int16sl,
    "reserved_2" / Bytes(6),
    "facts_bytes" / Int32ul,
    "reserved_3" / Bytes(4),
    "digest" / Bytes(32),
)
HEADER_BYTES = 128
HEADER_DIGEST_AT = 96
assert HEADER.sizeof() == HEADER_BYTES

# Section 4.1
UNIT_HEADER = Struct(
    "skippable_magic" / Const(SKIPPABLE_MAGIC, Int32ul),
    "skip_bytes" / Int32ul,
    "tag" / Const(TAG_UNIT),
    "uuid" / Bytes(16),
    "unit_number" / Int64ul,
    "content_bytes" / Int32ul,
    "stored_bytes" / Int32ul,
    "frame_count" / Int32ul,
    "reserved" / Bytes(12),
    "stored_digest" / Bytes(32),
    "digest" / Bytes(32),
)
UNIT_HEADER_BYTES = 128
UNIT_HEADER_DIGEST_AT = 96
UNIT_HEADER_STRUCT = struct.Struct("<II8s16sQIII12s32s32s")
assert UNIT_HEADER.sizeof() == UNIT_HEADER_STRUCT.size == UNIT_HEADER_BYTES

# Section 4.2
FRAME_ROW = struct.Struct("<IB3s32s")
FRAME_ROW_BYTES = 40
assert FRAME_ROW.size == FRAME_ROW_BYTES

# Section 5.1
PAGE = Struct(
    "skippable_magic" / Const(SKIPPABLE_MAGIC, Int32ul),
    "skip_bytes" / Int32ul,
    "tag" / Const(TAG_PAGE),
    "uuid" / Bytes(16),
    "table" / Int16ul,
    "level" / Int8ul,
    "codec" / Int8ul,
    "raw_bytes" / Int32ul,
    "page_number" / Int64ul,
    "stored_bytes" / Int32ul,
    "reserved" / Bytes(12),
    "digest" / Bytes(32),
)
PAGE_BYTES = 96
PAGE_DIGEST_AT = 64
assert PAGE.sizeof() == PAGE_BYTES

# Section 5.2
DIRECTORY_ROW = struct.Struct("<QI4s32s")
DIRECTORY_ROW_BYTES = 48
DIRECTORY_PAGE_ROWS = MAX_PAGE_BYTES // DIRECTORY_ROW_BYTES
assert DIRECTORY_ROW.size == DIRECTORY_ROW_BYTES
assert DIRECTORY_PAGE_ROWS == 1365

# Section 5.3
TABLE_DESCRIPTOR = Struct(
    "table" / Int16ul,
    "row_bytes" / Int16ul,
    "page_rows" / Int32ul,
    "rows" / Int64ul,
    "levels" / Int8ul,
    "reserved_1" / Bytes(7),
    "top_offset" / Int64ul,
    "top_record_bytes" / Int32ul,
    "reserved_2" / Bytes(4),
    "digest" / Bytes(32),
)
TABLE_DESCRIPTOR_BYTES = 72
assert TABLE_DESCRIPTOR.sizeof() == TABLE_DESCRIPTOR_BYTES

# Section 6.1
MEMBER_ROW = struct.Struct("<BB2sIQQqQQ16s")
MEMBER_ROW_BYTES = 64
assert MEMBER_ROW.size == MEMBER_ROW_BYTES

# Section 6.2
EXTENT_ROW = struct.Struct("<QQQI4s")
EXTENT_ROW_BYTES = 32
assert EXTENT_ROW.size == EXTENT_ROW_BYTES

# Section 6.3
UNREADABLE_ROW = struct.Struct("<QQ")
UNREADABLE_ROW_BYTES = 16
assert UNREADABLE_ROW.size == UNREADABLE_ROW_BYTES

# Section 6.4
UNIT_ROW = struct.Struct("<QIIIII4s32s")
UNIT_ROW_BYTES = 64
assert UNIT_ROW.size == UNIT_ROW_BYTES

# Section 6.5
ENTRY_ROW = struct.Struct("<BBHIIIqQQH2sIQQQI4s")
ENTRY_ROW_BYTES = 80
ENTRY_FLAGS_AT = 1
ENTRY_FIRST_AT = 56
ENTRY_COUNT_AT = 64
ENTRY_LINK_COUNT_AT = 72
assert ENTRY_ROW.size == ENTRY_ROW_BYTES

# Section 6.7
ATTRIBUTE_SET_ROW = struct.Struct("<QI4s")
ATTRIBUTE_SET_ROW_BYTES = 16
assert ATTRIBUTE_SET_ROW.size == ATTRIBUTE_SET_ROW_BYTES

# Section 6.8
ATTRIBUTE = struct.Struct("<HI")
ATTRIBUTE_BYTES = 6
assert ATTRIBUTE.size == ATTRIBUTE_BYTES

# Section 6.9
OWNER_ROW = struct.Struct("<BB2sIQ")
OWNER_ROW_BYTES = 16
assert OWNER_ROW.size == OWNER_ROW_BYTES

# Section 6.10
SUMMARY_ROW = struct.Struct("<8Q")
SUMMARY_ROW_BYTES = 64
assert SUMMARY_ROW.size == SUMMARY_ROW_BYTES

# Section 6: width of the rows of each table that this version knows.
ROW_BYTES = {
    TABLE_MEMBERS: MEMBER_ROW_BYTES,
    TABLE_EXTENTS: EXTENT_ROW_BYTES,
    TABLE_NAMES: 1,
    TABLE_UNREADABLE: UNREADABLE_ROW_BYTES,
    TABLE_ENTRIES: ENTRY_ROW_BYTES,
    TABLE_RUNS: EXTENT_ROW_BYTES,
    TABLE_STRINGS: 1,
    TABLE_ATTRIBUTE_SETS: ATTRIBUTE_SET_ROW_BYTES,
    TABLE_ATTRIBUTE_BYTES: 1,
    TABLE_OWNERS: OWNER_ROW_BYTES,
    TABLE_SUMMARY: SUMMARY_ROW_BYTES,
    TABLE_UNITS: UNIT_ROW_BYTES,
    TABLE_FRAMES: FRAME_ROW_BYTES,
}

# Section 7: the table whose rows member_count counts.
MEMBER_TABLES = {KIND_VOLUME: TABLE_MEMBERS, KIND_TREE: TABLE_ENTRIES}

# Section 6: the tables that an archive of a kind has, in rising order.
_IN_ALL = (TABLE_UNREADABLE, TABLE_UNITS, TABLE_FRAMES)
TABLES_OF_KIND = {
    KIND_VOLUME: tuple(sorted((TABLE_MEMBERS, TABLE_EXTENTS, TABLE_NAMES, *_IN_ALL))),
    KIND_TREE: tuple(
        sorted(
            (
                TABLE_ENTRIES, TABLE_RUNS, TABLE_STRINGS, TABLE_ATTRIBUTE_SETS,
                TABLE_ATTRIBUTE_BYTES, TABLE_OWNERS, TABLE_SUMMARY, *_IN_ALL,
            )
        )
    ),
}  # fmt: skip

# Section 7
FOOTER = Struct(
    "skippable_magic" / Const(SKIPPABLE_MAGIC, Int32ul),
    "skip_bytes" / Int32ul,
    "tag" / Const(TAG_FOOTER),
    "version_major" / Int16ul,
    "version_minor" / Int16ul,
    "kind" / Int8ul,
    "reserved" / Bytes(3),
    "uuid" / Bytes(16),
    "archive_bytes" / Int64ul,
    "content_bytes" / Int64ul,
    "unit_count" / Int64ul,
    "frame_count" / Int64ul,
    "stored_bytes" / Int64ul,
    "zero_bytes" / Int64ul,
    "hole_bytes" / Int64ul,
    "unreadable_bytes" / Int64ul,
    "member_count" / Int64ul,
    "catalogue_offset" / Int64ul,
    "catalogue_record_bytes" / Int32ul,
    "index_record_bytes" / Int32ul,
    "index_offset" / Int64ul,
    "header_digest" / Bytes(32),
    "units_digest" / Bytes(32),
    "content_digest" / Bytes(32),
    "catalogue_digest" / Bytes(32),
    "index_digest" / Bytes(32),
    "digest" / Bytes(32),
)
FOOTER_BYTES = 328
FOOTER_DIGEST_AT = 296
assert FOOTER.sizeof() == FOOTER_BYTES
