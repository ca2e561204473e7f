"""Turn an Onggi archive into its content, and check it.

This is a second reader, written from format.md alone. It shares no code with the
archiver, so where the two disagree, one of them or the text is wrong. Read it beside format.md. It
stops at the first finding (a verifier must go on: section 9.5) and keeps the tables in memory.
By a walk it gives the units before the first one that is lost (an archiver may give more).

    python mini_decoder.py ARCHIVE > content     decode; check everything on the way
    python mini_decoder.py --check ARCHIVE       check everything, write nothing
    python mini_decoder.py --walk ARCHIVE        find the units without the index (section 9.4)
    python mini_decoder.py --list ARCHIVE        the entries of a tree: a JSON object a line
    python mini_decoder.py --cat PATH ARCHIVE    the bytes of one file of a tree, holes as zeros

Exit codes: 0 good; 1 not readable or damaged, or no such file (one line on stderr says what, and
at which offset).
What was written before an error is right, but it is not all of the content.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import zstandard

# --- BLAKE3, default hash mode -------------------------------------------------------------------
#
# Chunks of 1,024 bytes, and then pairs of nodes of the tree, are independent of each other. So many
# of them are computed at once: a "packed" integer holds one 32-bit word per lane, one lane every 64
# bits. The upper half of each lane catches carries and shifts, until `mask` clears it.

CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
CHUNK_BYTES, BLOCK_BYTES, MAX_LANES = 1024, 64, 1024
IV = (
    *(0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A),
    *(0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19),
)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
COLUMNS_THEN_DIAGONALS = (
    *((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)),
    *((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)),
)


def _pack(values: tuple[int, ...] | list[int]) -> int:
    return int.from_bytes(struct.pack(f"<{len(values)}Q", *values), "little")


def _unpack(packed: int, lanes: int) -> list[int]:
    return list(struct.unpack(f"<{lanes}Q", packed.to_bytes(8 * lanes, "little")))


def _compress(
    key: list[int], words: list[int], counter: int, length: int, flags: int, lanes: int
) -> list[int]:
    """Return the 8 words of the next chaining value; all words are packed."""
    ones = _pack([1] * lanes)
    mask = ones * 0xFFFFFFFF
    v = [*key, *(ones * word for word in IV[:4])]
    v += [counter & mask, counter >> 32 & mask, ones * length, ones * flags]
    for _ in range(7):
        for i, (ia, ib, ic, id_) in enumerate(COLUMNS_THEN_DIAGONALS):
            a, b, c, d = v[ia], v[ib], v[ic], v[id_]
            a = (a + b + words[2 * i]) & mask
            d ^= a
            d = (d >> 16 | d << 16) & mask
            c = (c + d) & mask
            b ^= c
            b = (b >> 12 | b << 20) & mask
            a = (a + b + words[2 * i + 1]) & mask
            d ^= a
            d = (d >> 8 | d << 24) & mask
            c = (c + d) & mask
            b ^= c
            b = (b >> 7 | b << 25) & mask
            v[ia], v[ib], v[ic], v[id_] = a, b, c, d
        words = [words[p] for p in PERMUTATION]
    return [v[i] ^ v[i + 8] for i in range(8)]


def _chunks(data: bytes, first: int, lanes: int, root: bool) -> list[int]:
    """Return the packed chaining value of `lanes` chunks of equal length, back to back in data."""
    size = len(data) // lanes
    blocks = max(1, -(-size // BLOCK_BYTES))
    words = struct.unpack(
        f"<{16 * blocks * lanes}I", data.ljust(BLOCK_BYTES * blocks * lanes, b"\0")
    )
    cv = [_pack([word] * lanes) for word in IV]
    counter = _pack(list(range(first, first + lanes)))
    for block in range(blocks):
        last = block == blocks - 1
        flags = (block == 0) * CHUNK_START | last * (CHUNK_END | root * ROOT)
        length = size - BLOCK_BYTES * block if last else BLOCK_BYTES
        message = [_pack(words[16 * block + i :: 16 * blocks]) for i in range(16)]
        cv = _compress(cv, message, counter, length, flags, lanes)
    return cv


def blake3(data: bytes) -> bytes:
    """Return the 32-byte BLAKE3 of data."""
    full = max(len(data) - 1, 0) // CHUNK_BYTES  # all chunks but the last, which may be shorter
    spans = [(at, min(MAX_LANES, full - at)) for at in range(0, full, MAX_LANES)] + [(full, 1)]
    columns: list[list[int]] = [[] for _ in range(8)]  # word i of each node of one level
    for first, lanes in spans:
        span = data[first * CHUNK_BYTES : (first + lanes) * CHUNK_BYTES]
        for column, packed in zip(columns, _chunks(span, first, lanes, full == 0), strict=True):
            column += _unpack(packed, lanes)
    while (nodes := len(columns[0])) > 1:
        pairs = nodes // 2  # a node without a partner moves up as it is
        children = [_pack(c[half : 2 * pairs : 2]) for half in (0, 1) for c in columns]
        key = [_pack([word] * pairs) for word in IV]
        flags = PARENT | (nodes == 2) * ROOT
        parents = _compress(key, children, 0, BLOCK_BYTES, flags, pairs)
        columns = [
            _unpack(p, pairs) + c[2 * pairs :] for p, c in zip(parents, columns, strict=True)
        ]
    return struct.pack("<8I", *(column[0] for column in columns))


# --- Numbers of the format -----------------------------------------------------------------------

SKIPPABLE_MAGIC = 0x184D2A5C  # section 2.1
ZSTD_MAGIC = struct.pack("<I", 0xFD2FB528)
TAG_START = b"\x8eOnggi"
HEADER, UNIT, PAGE, FOOTER = (TAG_START + end for end in (b"HD", b"UN", b"PG", b"FT"))

MAX_CONTENT_BYTES = 2**63 - 1  # section 2.2
MIN_BLOCK_BYTES, MAX_BLOCK_BYTES = 512, 2**24
MAX_UNIT_BYTES = 2**28
MIN_FRAME_BYTES, MAX_FRAME_BYTES = 4096, 2**24
MAX_FACTS_BYTES = 65_536
MAX_PAGE_BYTES, MAX_STORED_PAGE_BYTES = 65_536, 66_560
MAX_LEVELS, MAX_TABLES = 8, 64
DIRECTORY_PAGE_ROWS = 1365
MAX_WINDOW_BYTES = 2**25
MAX_ENTRY_NAME_BYTES, MAX_LINK_TARGET_BYTES = 255, 4095
MAX_ATTRIBUTES_BYTES = 2**24
MAX_DEPTH = 65_536

# Fixed part of each record, place of its digest, and the most that may follow the fixed part.
RECORDS = {
    HEADER: (128, 96, MAX_FACTS_BYTES),
    UNIT: (128, 96, 40 * (MAX_UNIT_BYTES // MIN_FRAME_BYTES)),
    PAGE: (96, 64, MAX_STORED_PAGE_BYTES),
    FOOTER: (328, 296, 0),
}
DIRECTORY_ROW = struct.Struct("<QI4s32s")  # section 5.2
DESCRIPTOR = struct.Struct("<HHIQB7sQI4s32s")  # section 5.3
KIND_VOLUME, KIND_TREE = 1, 2
INDEX_TABLES = {16: 64, 17: 40}  # section 6: table number to row_bytes
CATALOGUE_TABLES = {
    KIND_VOLUME: {1: 64, 2: 32, 3: 1, 4: 16},
    KIND_TREE: {4: 16, 5: 80, 6: 32, 7: 1, 8: 16, 9: 1, 10: 16, 11: 64},
}
MEMBER_ROW = struct.Struct("<BB2sIQQqQQ16s")
EXTENT_ROW = struct.Struct("<QQQI4s")
UNREADABLE_ROW = struct.Struct("<QQ")
UNIT_ROW = struct.Struct("<QIIIII4s32s")
FRAME_ROW = struct.Struct("<IB3s32s")
ENTRY_ROW = struct.Struct("<BBHIIIqQQH2sIQQQI4s")
ATTRIBUTE_SET_ROW = struct.Struct("<QI4s")
ATTRIBUTE = struct.Struct("<HI")
OWNER_ROW = struct.Struct("<BB2sIQ")
SUMMARY_ROW = struct.Struct("<8Q")
FRAME_DATA, FRAME_ZERO, FRAME_HOLE = 0, 1, 2
FEATURES = {0: "base", 1: "encryption", 2: "split", 3: "signature"}  # section 8


class FormatError(Exception):
    """The archive can't be read; `kind` is one of the four of section 9.3."""

    def __init__(self, kind: str, offset: int, what: str) -> None:
        super().__init__(f"{kind}: offset {offset}: {what}")
        self.kind = kind
        self.offset = offset


def need(good: bool, offset: int, what: str, kind: str = "corrupt") -> None:
    """Raise FormatError unless good."""
    if not good:
        raise FormatError(kind, offset, what)


class Header(NamedTuple):
    """What the later records are held against."""

    uuid: bytes
    unit_bytes: int
    frame_bytes: int
    end: int  # offset of unit 0
    version: bytes = b""  # version and kind, as the footer repeats them
    digest: bytes = b""

    @property
    def kind(self) -> int:
        """What the archive holds."""
        return self.version[4]


class Unit(NamedTuple):
    """One unit header; `rows` are its frame rows as they stand."""

    offset: int
    number: int
    content_bytes: int
    stored_bytes: int
    frame_count: int
    stored_digest: bytes
    rows: bytes
    frames_offset: int
    end: int

    def frames(self, frame_bytes: int) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield content length, stored length, kind and digest of each frame."""
        for i, (stored, kind, _, digest) in enumerate(FRAME_ROW.iter_unpack(self.rows)):
            yield min(frame_bytes, self.content_bytes - i * frame_bytes), stored, kind, digest


class Opened(NamedTuple):
    """What is known of an archive of which all but the stored bytes of frames is checked."""

    header: Header
    units: list[Unit]
    tree: Tree | None  # None in the archive of a volume


def pieces(total: int, piece: int) -> int:
    """Return the number of pieces, the last of which may be shorter."""
    return -(-total // piece)


@lru_cache(maxsize=64)
def zero_frame(n: int) -> bytes:
    """Return the one zstd frame that stands for n zero bytes (section 4.3)."""
    if n < 256:
        head = b"\x24" + struct.pack("<B", n)
    elif n < 65_792:
        head = b"\x64" + struct.pack("<H", n - 256)
    else:
        head = b"\xa4" + struct.pack("<I", n)
    sizes = [131_072] * ((n - 1) // 131_072) + [(n - 1) % 131_072] * ((n - 1) % 131_072 > 0)
    blocks = b"".join(
        (size << 3 | 1 << 1 | (i == len(sizes) - 1)).to_bytes(3, "little") + b"\0"
        for i, size in enumerate(sizes)
    )
    raw_block = (1 << 3 | (not sizes)).to_bytes(3, "little") + b"\0"
    checksum = zstandard.ZstdCompressor(write_checksum=True).compress(bytes(n))[-4:]
    return ZSTD_MAGIC + head + raw_block + blocks + checksum


@lru_cache(maxsize=64)
def zero_digest(n: int) -> bytes:
    """Return the digest of a frame of n zero bytes."""
    return blake3(bytes(n))


def expand(stored: bytes, n: int, offset: int, checksum: bool) -> bytes:
    """Decompress one zstd frame that must declare, and give, n bytes (sections 4.3 and 5.1)."""
    need(stored[:4] == ZSTD_MAGIC, offset, "not a zstd frame")
    try:
        declared = zstandard.get_frame_parameters(stored)
        need(declared.content_size == n, offset, "declared content size is wrong")
        need(declared.window_size <= MAX_WINDOW_BYTES, offset, "zstd frame's window is too large")
        need(declared.dict_id == 0, offset, "zstd frame needs a dictionary")
        need(declared.has_checksum or not checksum, offset, "zstd frame has no checksum")
        data = zstandard.ZstdDecompressor().decompress(stored, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FormatError("corrupt", offset, f"zstd: {error}") from None
    need(len(data) == n, offset, "content has the wrong length")
    return data


class Archive:
    """One archive in memory (or in a memory map), with its checks."""

    def __init__(self, data: bytes | mmap.mmap, hashing: bool = True) -> None:
        self.data = data
        self.hashing = hashing

    def need_digest(self, digest: bytes, data: bytes, offset: int, what: str) -> None:
        """Raise FormatError unless digest is the BLAKE3 of data."""
        need(not self.hashing or blake3(data) == digest, offset, f"{what}: digest does not match")

    # --- records ---

    def record(self, at: int, tag: bytes, uuid: bytes | None = None) -> bytes:
        """Return the record of this tag at this offset, its digest checked (sections 1 and 2.1)."""
        fixed, digest_at, most = RECORDS[tag]
        name = tag[6:].decode()
        start = self.data[at : at + 16] if at >= 0 else b""
        need(len(start) == 16, at, f"no {name} record here")
        magic, skip_bytes, found = struct.unpack("<II8s", start)
        need(magic == SKIPPABLE_MAGIC and found == tag, at, f"no {name} record here")
        need(fixed <= skip_bytes + 8 <= fixed + most, at, f"{name} record: skip_bytes")
        raw = self.data[at : at + 8 + skip_bytes]
        need(len(raw) == 8 + skip_bytes, at, f"{name} record goes beyond the end of the file")
        without = raw[:digest_at] + bytes(32) + raw[digest_at + 32 :]
        self.need_digest(raw[digest_at : digest_at + 32], without, at, f"{name} record")
        if uuid is not None:
            uuid_at = 24 if tag == FOOTER else 16
            need(raw[uuid_at : uuid_at + 16] == uuid, at, f"{name} record of another archive")
        return raw

    def header(self) -> Header:
        """Read the header (section 3)."""
        start = self.data[:128]
        need(start[8:16] == HEADER, 0, "no header here", "not-an-archive")  # section 9.3
        need(len(start) == 128, 0, "the file ends in the header", "truncated")
        major, minor, kind, reserved_1, required = struct.unpack_from("<HHB3sQ", start, 16)
        # Before the digest, so that a later version is called that, not corrupt: section 8.
        need((major, minor) == (0, 1), 16, f"version {major}.{minor}", "unsupported")
        bits = [f"{b} ({FEATURES.get(b, 'unknown')})" for b in range(64) if required >> b & 1]
        need(not bits, 24, f"required feature bits {', '.join(bits)}", "unsupported")
        unit_bytes, frame_bytes, block_bytes = struct.unpack_from("<QII", start, 56)
        reserved_2, facts_bytes, reserved_3 = struct.unpack_from("<6sI4s", start, 82)
        need(facts_bytes <= MAX_FACTS_BYTES, 88, "facts_bytes")  # section 2.2
        need(start[:8] == struct.pack("<II", SKIPPABLE_MAGIC, 120 + facts_bytes), 0, "skip_bytes")
        need(len(self.data) >= 128 + facts_bytes, 0, "the file ends in the header", "truncated")
        raw = self.record(0, HEADER)
        need(kind in CATALOGUE_TABLES, 20, f"archive of kind {kind}", "unsupported")
        need(not any(reserved_1 + reserved_2 + reserved_3), 0, "header: reserved bytes")
        need(MIN_BLOCK_BYTES <= block_bytes <= MAX_BLOCK_BYTES, 68, "block_bytes")
        need(block_bytes & (block_bytes - 1) == 0, 68, "block_bytes is not a power of two")
        need(block_bytes <= unit_bytes <= MAX_UNIT_BYTES, 56, "unit_bytes")
        need(unit_bytes % block_bytes == 0, 56, "unit_bytes is not whole blocks")
        need(MIN_FRAME_BYTES <= frame_bytes <= MAX_FRAME_BYTES, 64, "frame_bytes")
        need(frame_bytes % 4096 == 0, 64, "frame_bytes is not a multiple of 4,096")
        return Header(raw[40:56], unit_bytes, frame_bytes, len(raw), raw[16:21], raw[96:128])

    def footer(self, header: Header) -> bytes:
        """Return the footer record, or tell a cut file from a damaged one (sections 7 and 9.3)."""
        at = len(self.data) - 328
        if at < 0 or self.data[at + 8 : at + 16] != FOOTER:
            found = self.data.rfind(FOOTER, max(0, len(self.data) - 2**20))
            while found >= 0:
                if self.is_record(found - 8, FOOTER, header.uuid):
                    raise FormatError("corrupt", found + 320, "bytes follow the footer")
                found = self.data.rfind(FOOTER, max(0, len(self.data) - 2**20), found)
            raise FormatError("truncated", len(self.data), "the file ends before the footer")
        raw = self.record(at, FOOTER, header.uuid)
        need(not any(raw[21:24]), at, "footer: reserved bytes")
        if header.digest:  # no header was rebuilt by a walk
            same = raw[16:21] == header.version
            need(same, at, "footer: version or kind differ from the header")
            need(raw[136:168] == header.digest, at, "footer: header_digest")
        return raw

    def is_record(self, at: int, tag: bytes, uuid: bytes | None) -> bool:
        """Tell whether a good record stands here."""
        try:
            self.record(at, tag, uuid)
        except FormatError:
            return False
        return True

    def unit_header(self, at: int, uuid: bytes | None) -> Unit:
        """Read the unit header at this offset (section 4.1)."""
        raw = self.record(at, UNIT, uuid)
        number, content, stored, count, reserved = struct.unpack_from("<QIII12s", raw, 32)
        need(not any(reserved), at, "unit header: reserved bytes")
        need(1 <= content <= MAX_UNIT_BYTES, at, "unit header: content_bytes")
        need(len(raw) == 128 + 40 * count, at, "unit header: frame_count")
        end = at + len(raw)
        return Unit(at, number, content, stored, count, raw[64:96], raw[128:], end, end + stored)

    def check_unit(self, unit: Unit, number: int, content: int, frame_bytes: int) -> None:
        """Hold a unit header against the arithmetic of section 2.2 and the rules of section 4."""
        at = unit.offset
        need(unit.number == number, at, f"unit {unit.number} where unit {number} belongs")
        need(unit.content_bytes == content, at, f"unit {number}: content_bytes")
        count = pieces(content, frame_bytes)
        need(unit.frame_count == count, at, f"unit {number}: frame_count")
        stored_bytes = 0
        for i, (n, stored, kind, digest) in enumerate(unit.frames(frame_bytes)):
            what = f"unit {number}: frame {i}"
            need(1 <= stored <= n + n // 256 + 64, at, f"{what}: stored_bytes")  # section 2.2
            need(kind in (FRAME_DATA, FRAME_ZERO, FRAME_HOLE), at, f"{what}: kind")
            need(not any(unit.rows[40 * i + 5 : 40 * i + 8]), at, f"{what}: reserved bytes")
            if kind != FRAME_DATA:
                need(stored == len(zero_frame(n)), at, f"{what}: stored_bytes of a zero frame")
                zero = not self.hashing or digest == zero_digest(n)
                need(zero, at, f"{what}: digest of a zero frame")
            stored_bytes += stored
        need(unit.stored_bytes == stored_bytes, at, f"unit {number}: stored_bytes")

    def unit_content(self, unit: Unit, frame_bytes: int) -> Iterator[bytes]:
        """Yield the content of each frame, its digest checked (section 4.3)."""
        at = unit.frames_offset
        for i, (n, stored_bytes, kind, digest) in enumerate(unit.frames(frame_bytes)):
            what = f"unit {unit.number}: frame {i}"
            stored = self.data[at : at + stored_bytes]
            need(len(stored) == stored_bytes, at, f"{what}: the file ends in it", "truncated")
            if kind == FRAME_DATA:
                content = expand(stored, n, at, checksum=True)
                self.need_digest(digest, content, at, what)
            else:
                need(stored == zero_frame(n), at, f"{what}: not the zero frame")
                content = bytes(n)
            yield content
            at += stored_bytes
        stored = self.data[unit.frames_offset : unit.end]
        self.need_digest(unit.stored_digest, stored, unit.offset, f"unit {unit.number}: stored")

    # --- tables ---

    def page(self, at: int, uuid: bytes, table: int, level: int, number: int) -> tuple[bytes, int]:
        """Return the rows and the end of one page (section 5.1)."""
        raw = self.record(at, PAGE, uuid)
        found = struct.unpack_from("<HBBIQI12s", raw, 32)
        found_table, found_level, codec, raw_bytes, found_number, stored_bytes, reserved = found
        what = f"page {number} of level {level} of table {table}"
        place = (found_table, found_level, found_number)
        need(place == (table, level, number), at, f"another page where {what} belongs")
        need(1 <= raw_bytes <= MAX_PAGE_BYTES, at, f"{what}: raw_bytes")  # sections 5.1 and 2.2
        need(len(raw) == 96 + stored_bytes, at, f"{what}: stored_bytes")
        need(not any(reserved), at, f"{what}: reserved bytes")
        need(codec in (0, 1), at, f"{what}: codec")
        rows = raw[96:] if codec == 0 else expand(raw[96:], raw_bytes, at + 96, checksum=False)
        need(len(rows) == raw_bytes, at, f"{what}: raw_bytes")
        return rows, at + len(raw)

    def section(
        self, start: int, root: tuple[int, int, bytes], number: int, header: Header
    ) -> dict[int, bytes]:
        """Return the rows of each table of the catalogue (1) or the index (2) (section 5).

        `root` is the offset, the length and the digest of the section root, as the footer says.
        """
        root_at, root_bytes, root_digest = root
        known = CATALOGUE_TABLES[header.kind] if number == 1 else INDEX_TABLES
        # Known tables of the other section or of another kind of archive: section 5.3.
        every = {**INDEX_TABLES, **CATALOGUE_TABLES[KIND_VOLUME], **CATALOGUE_TABLES[KIND_TREE]}
        foreign = every.keys() - known.keys()
        descriptors, end = self.page(root_at, header.uuid, 0, 0, number)
        need(end - root_at == root_bytes, root_at, "section root: length differs from the footer")
        root_found = self.data[root_at + 64 : root_at + 96]
        need(root_found == root_digest, root_at, "section root: digest differs from the footer")
        whole = len(descriptors) % DESCRIPTOR.size == 0
        need(whole and len(descriptors) <= MAX_TABLES * DESCRIPTOR.size, root_at, "section root")

        tables: dict[int, bytes] = {}
        at, before = start, 0  # a table number 0 is wrong: section 5.3
        for descriptor in DESCRIPTOR.iter_unpack(descriptors):
            table, row_bytes, page_rows, rows, levels, reserved_1 = descriptor[:6]
            top_offset, top_bytes, reserved_2, digest = descriptor[6:]
            what = f"descriptor of table {table}"
            need(table > before and table not in foreign, root_at, f"{what}: not its place")
            need(not any(reserved_1 + reserved_2), root_at, f"{what}: reserved bytes")
            need(row_bytes == known.get(table, row_bytes), root_at, f"{what}: row_bytes")
            need(1 <= row_bytes * page_rows <= MAX_PAGE_BYTES, root_at, f"{what}: page_rows")
            places: list[bytes] = []  # directory rows of the level below
            tables[table] = b""
            level, width, per_page, count = 0, row_bytes, page_rows, rows
            while count and not (level and len(places) == 1):
                need(level < min(levels, MAX_LEVELS), root_at, f"{what}: levels")
                got: list[bytes] = []
                below, places = b"".join(places), []
                for page in range(pieces(count, per_page)):
                    raw, end = self.page(at, header.uuid, table, level, page)
                    fits = len(raw) == width * min(per_page, count - page * per_page)
                    need(fits, at, f"page {page} of level {level} of table {table}: rows")
                    page_digest = self.data[at + 64 : at + 96]
                    places.append(DIRECTORY_ROW.pack(at, end - at, bytes(4), page_digest))
                    got.append(raw)
                    at = end
                if level == 0:
                    tables[table] = b"".join(got)
                else:  # Section 5.2, and its reserved bytes.
                    need(b"".join(got) == below, at, f"directory {level} of table {table}")
                level += 1
                width, per_page, count = DIRECTORY_ROW.size, DIRECTORY_PAGE_ROWS, len(places)
            need(level == levels, root_at, f"{what}: levels")
            top = DIRECTORY_ROW.pack(top_offset, top_bytes, bytes(4), digest)
            place = places[0] if places else bytes(DIRECTORY_ROW.size)
            need(top == place, root_at, f"{what}: place or digest of its top page")
            before = table
        need(at == root_at, at, "gap before the section root")  # section 5.1
        for table in known:
            need(table in tables, root_at, f"no descriptor of table {table}")
        return tables

    def check_members(self, tables: dict[int, bytes], content_bytes: int, at: int) -> None:
        """Check the catalogue of a volume archive (sections 6.1 and 6.2)."""
        members, extents, names = tables[1], tables[2], tables[3]
        need(len(members) == MEMBER_ROW.size, at, "not one member")
        member = MEMBER_ROW.unpack(members)
        kind, flags, reserved_1, name_bytes, name_offset, member_bytes = member[:6]
        first_extent, extent_count, reserved_2 = member[7:]
        need(kind == 1 and flags <= 1, at, "member: type or flags")
        need(not any(reserved_1 + reserved_2), at, "member: reserved bytes")
        need(1 <= name_bytes <= 65_535, at, "member: name_bytes")
        need(name_offset + name_bytes <= len(names), at, "member: name_offset")
        name = names[name_offset : name_offset + name_bytes]
        plain = b"/" not in name and b"\0" not in name and name not in (b".", b"..")
        need(plain, at, "member: name is not one component of a path")
        need(member_bytes == content_bytes, at, "member: member_bytes")
        whole = EXTENT_ROW.pack(0, 0, content_bytes, 0, bytes(4)) if content_bytes else b""
        need(extents == whole, at, "extents do not map the whole member to the whole content")
        need(first_extent == 0, at, "member: first_extent")
        need(extent_count == len(extents) // EXTENT_ROW.size, at, "member: extent_count")

    # --- the two ways through an archive ---

    def content(self) -> Iterator[bytes]:
        """Check all records, then yield the content frame by frame."""
        opened = self.open()
        for unit in opened.units:
            yield from self.unit_content(unit, opened.header.frame_bytes)

    def span(self, opened: Opened, start: int, end: int) -> Iterator[bytes]:
        """Yield the content from one offset to another."""
        unit_bytes = opened.header.unit_bytes
        for unit in opened.units[start // unit_bytes : pieces(end, unit_bytes)]:
            at = unit.number * unit_bytes
            for frame in self.unit_content(unit, opened.header.frame_bytes):
                yield frame[max(start - at, 0) : max(end - at, 0)]
                at += len(frame)

    def open(self) -> Opened:
        """Check all records and rows."""
        header = self.header()
        footer = self.footer(header)
        at = len(self.data) - len(footer)
        totals = list(struct.unpack_from("<9Q", footer, 40))
        archive_bytes, content_bytes, unit_count, frame_count, stored_bytes = totals[:5]
        places = struct.unpack_from("<QIIQ", footer, 112)
        catalogue_at, catalogue_bytes, index_bytes, index_at = places
        need(archive_bytes == len(self.data), at, "footer: archive_bytes")
        need(content_bytes <= MAX_CONTENT_BYTES, at, "footer: content_bytes")
        need(index_at + index_bytes == at, at, "footer: index_offset")
        need(unit_count == pieces(content_bytes, header.unit_bytes), at, "footer: unit_count")

        index_root = (index_at, index_bytes, footer[264:296])
        index = self.section(catalogue_at + catalogue_bytes, index_root, 2, header)
        rows, frame_rows = index[16], index[17]
        need(len(rows) == UNIT_ROW.size * unit_count, index_at, "table units: rows")
        need(len(frame_rows) == FRAME_ROW.size * frame_count, index_at, "table frames: rows")

        units: list[Unit] = []
        end, first_frame = header.end, 0
        bytes_of_kind = [0, 0, 0]
        for number, row in enumerate(UNIT_ROW.iter_unpack(rows)):  # section 6.4
            offset, _, _, _, zero_frames, hole_frames, reserved, stored_digest = row
            need(offset == end, index_at, f"unit row {number}: unit_offset")
            need(not any(reserved), index_at, f"unit row {number}: reserved bytes")
            unit = self.unit_header(offset, header.uuid)
            length = min(header.unit_bytes, content_bytes - number * header.unit_bytes)
            self.check_unit(unit, number, length, header.frame_bytes)
            need(row[1:4] == unit[2:5], offset, f"unit {number}: header and index differ")
            need(stored_digest == unit.stored_digest, offset, f"unit {number}: stored_digest")
            last_frame = first_frame + unit.frame_count
            same = frame_rows[40 * first_frame : 40 * last_frame] == unit.rows
            need(same, offset, f"unit {number}: frame rows of header and index differ")
            kinds = [0, 0, 0]
            for n, _, kind, _ in unit.frames(header.frame_bytes):
                kinds[kind] += 1
                bytes_of_kind[kind] += n
            need(kinds[1:] == [zero_frames, hole_frames], index_at, f"unit row {number}: kinds")
            units.append(unit)
            end, first_frame = unit.end, last_frame
        need(first_frame == frame_count, at, "footer: frame_count")

        catalogue_root = (catalogue_at, catalogue_bytes, footer[232:264])
        catalogue = self.section(end, catalogue_root, 1, header)
        if header.kind == KIND_VOLUME:
            tree, members = None, len(catalogue[1]) // MEMBER_ROW.size
            self.check_members(catalogue, content_bytes, catalogue_at)
        else:
            tree = Tree(catalogue, content_bytes, catalogue_at)
            members = len(tree.entries)
        unreadable_bytes, free = 0, 0
        for offset, length in UNREADABLE_ROW.iter_unpack(catalogue[4]):  # section 6.3
            need(length >= 1 and offset >= free, catalogue_at, "unreadable runs: order")
            need(offset + length <= content_bytes, catalogue_at, "unreadable runs: beyond the end")
            unreadable_bytes += length
            free = offset + length + 1  # one more, because runs must not touch
        found = [*bytes_of_kind[1:], unreadable_bytes, members]
        need(totals[5:] == found, at, "footer: totals")
        need(stored_bytes == sum(u.stored_bytes for u in units), at, "footer: stored_bytes")
        all_stored = b"".join(unit.stored_digest for unit in units)
        self.need_digest(footer[168:200], all_stored, at, "footer: units_digest")
        all_frames = b"".join(row[3] for row in FRAME_ROW.iter_unpack(frame_rows))
        self.need_digest(footer[200:232], all_frames, at, "footer: content_digest")
        return Opened(header, units, tree)

    def walk(self) -> Iterator[bytes]:
        """Yield the content without the index (section 9.4).

        It goes on to the end of the last unit before a gap; then a gap is an error. So is the want
        of a good footer: it alone says that no unit is missing at the end.
        """
        try:
            header: Header | FormatError = self.header()
        except FormatError as error:
            # Its tag, version and features too may be damaged; then its digest does not match.
            if error.kind == "unsupported" and self.is_record(0, HEADER, None):
                raise
            header = error
        at, uuid = (header.end, header.uuid) if isinstance(header, Header) else (0, None)
        units: list[Unit] = []
        while not (uuid and self.is_record(at, PAGE, uuid)):  # no unit stands after a page
            try:
                unit = self.unit_header(at, uuid)
                # The content may hold a copy of an earlier part of this archive.
                need(not units or unit.number > units[-1].number, at, "an earlier unit")
            except FormatError:
                at = self.data.find(TAG_START, at + 9) - 8
                if at < 0:
                    break
                continue
            uuid = self.data[unit.offset + 16 : unit.offset + 32]
            units.append(unit)
            at = unit.end

        if isinstance(header, FormatError):
            if not units:
                raise header
            header = self.header_of(units)
        given = 0
        for number, unit in enumerate(units):
            need(unit.number == number, unit.offset, f"unit {number} is lost")
            last = number == len(units) - 1
            length = min(header.unit_bytes, unit.content_bytes) if last else header.unit_bytes
            self.check_unit(unit, number, length, header.frame_bytes)
            yield from self.unit_content(unit, header.frame_bytes)
            given += length
        footer = self.footer(header)
        at = len(self.data) - len(footer)
        content_bytes, unit_count = struct.unpack_from("<QQ", footer, 48)
        need((content_bytes, unit_count) == (given, len(units)), at, "units after here are lost")

    def header_of(self, units: list[Unit]) -> Header:
        """Return what a damaged header said, as far as the units show it (section 9.4)."""
        at = units[0].frames_offset
        need(len(units) > 1 or units[0].number == 0, units[0].offset, "too few units are left")
        try:  # A zstd frame header has at most 18 bytes.
            frame_bytes = zstandard.get_frame_parameters(self.data[at : at + 18]).content_size
        except zstandard.ZstdError:
            frame_bytes = 0
        need(1 <= frame_bytes <= MAX_FRAME_BYTES, at, "first frame declares no size")
        uuid = self.data[units[0].offset + 16 : units[0].offset + 32]
        return Header(uuid, units[0].content_bytes, frame_bytes, 0)


# --- trees: sections 6.5 to 6.10 -----------------------------------------------------------------

FILE, DIRECTORY, SYMLINK, CHARACTER_DEVICE, BLOCK_DEVICE, FIFO, HARD_LINK = range(2, 9)
TYPES = {
    FILE: "file",
    DIRECTORY: "directory",
    SYMLINK: "symlink",
    CHARACTER_DEVICE: "character-device",
    BLOCK_DEVICE: "block-device",
    FIFO: "fifo",
    HARD_LINK: "hard-link",
}
CHANGED, INCOMPLETE, SHARED, MAPPED, MADE = (1 << bit for bit in range(5))
FLAGS = {
    CHANGED: "changed", INCOMPLETE: "incomplete", SHARED: "shared", MAPPED: "mapped", MADE: "made"
}  # fmt: skip
FLAGS_OF_TYPE = {FILE: CHANGED | INCOMPLETE | SHARED | MAPPED, DIRECTORY: MADE}
OWNER_KINDS = (1, 2)


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the table entries."""

    type: int
    flags: int
    mode: int
    uid: int
    gid: int
    file_flags: int
    mtime_ns: int
    parent: int
    name_offset: int
    name_bytes: int
    reserved_1: bytes
    attributes: int
    member_bytes: int
    first: int
    count: int
    link_count: int
    reserved_2: bytes


class Tree:
    """The catalogue of a tree archive; its rules are checked when it is made."""

    def __init__(self, tables: dict[int, bytes], content_bytes: int, at: int) -> None:
        self.content_bytes = content_bytes
        self.at = at  # offset of the catalogue's section root, for errors
        self.entries = [Entry(*row) for row in ENTRY_ROW.iter_unpack(tables[5])]
        self.runs = list(EXTENT_ROW.iter_unpack(tables[6]))
        self.strings = tables[7]
        self.sets = self.read_sets(tables[8], tables[9])
        self.need(len(self.entries) >= 1, "no root")
        self.names: list[bytes] = []
        for row, entry in enumerate(self.entries):
            self.check_entry(row, entry)
        self.check_walk()
        self.check_links()
        self.check_runs()
        self.check_owners(tables[10])
        self.check_summary(tables[11])

    def need(self, good: bool, what: str) -> None:
        """Raise FormatError unless good."""
        need(good, self.at, what)

    def string(self, offset: int, length: int) -> bytes:
        """Return a span of the table strings."""
        self.need(offset + length <= len(self.strings), "a place behind the table strings")
        return self.strings[offset : offset + length]

    # --- rules ---

    def check_entry(self, row: int, e: Entry) -> None:
        """Check what one row alone, and what it leads to, can break (sections 6.5 and 6.6)."""
        what = f"entry {row}"
        self.need(e.type in TYPES, f"{what}: type {e.type}")
        self.need(not any(e.reserved_1 + e.reserved_2), f"{what}: reserved bytes")
        self.need(e.mode <= 0o7777, f"{what}: mode")
        self.need(not e.flags & ~FLAGS_OF_TYPE.get(e.type, 0), f"{what}: flags")
        self.need(not (e.flags & MADE and row), f"{what}: made, but not the root")
        both = SHARED | MAPPED
        self.need(e.flags & both != both, f"{what}: shared and mapped")
        self.need(e.attributes <= len(self.sets), f"{what}: attributes")
        if row == 0:
            plain = e.type == DIRECTORY and e.name_bytes == e.name_offset == e.parent == 0
            self.need(plain, "the root is not what a root is")
            self.names.append(b"")
        else:
            self.need(1 <= e.name_bytes <= MAX_ENTRY_NAME_BYTES, f"{what}: name_bytes")
            name = self.string(e.name_offset, e.name_bytes)
            self.names.append(name)
            plain = b"/" not in name and b"\0" not in name and name not in (b".", b"..")
            self.need(plain, f"{what}: name is not one component of a path")

        if e.type in (FILE, SYMLINK):
            self.need(e.member_bytes <= MAX_CONTENT_BYTES, f"{what}: member_bytes")
        else:
            self.need(e.member_bytes == 0, f"{what}: member_bytes")
        if e.type == FILE and e.flags & MAPPED:
            pass  # check_runs
        elif e.type == FILE:
            inside = e.first + e.member_bytes <= self.content_bytes
            self.need(inside if e.member_bytes else e.first == 0, f"{what}: first")
            self.need(e.count == 0, f"{what}: count")
        elif e.type == SYMLINK:
            self.need(1 <= e.member_bytes <= MAX_LINK_TARGET_BYTES, f"{what}: length of target")
            self.need(b"\0" not in self.string(e.first, e.member_bytes), f"{what}: NUL in target")
            self.need(e.count == 0, f"{what}: count")
        elif e.type in (CHARACTER_DEVICE, BLOCK_DEVICE):
            self.need(max(e.first, e.count) < 2**32, f"{what}: device number")
        elif e.type == FIFO:
            self.need(e.first == e.count == 0, f"{what}: first or count")
        elif e.type == HARD_LINK:
            self.need(e.count == 0, f"{what}: count")
            own = any((e.mode, e.uid, e.gid, e.file_flags, e.mtime_ns, e.attributes))
            self.need(not own, f"{what}: a hard link with metadata of its own")

    def check_walk(self) -> None:
        """Check that the walk of section 6.6 gives exactly the rows of the table."""
        end = 1  # rows that have their place
        waiting = [(0, 1)]  # a directory, and the directories on the way to its children
        while waiting:
            row, depth = waiting.pop()
            directory = self.entries[row]
            expected = end if directory.count else 0
            self.need(directory.first == expected, f"entry {row}: first child")
            left = len(self.entries) - end
            self.need(directory.count <= left, f"entry {row}: children behind the table")
            self.need(depth <= MAX_DEPTH or not directory.count, f"entry {row}: too deep")
            children = range(end, end + directory.count)
            end = children.stop
            for child in children:
                self.need(self.entries[child].parent == row, f"entry {child}: parent")
            for child, other in pairwise(children):
                self.need(self.names[child] < self.names[other], f"entry {other}: order of names")
            directories = [c for c in children if self.entries[c].type == DIRECTORY]
            waiting += [(child, depth + 1) for child in reversed(directories)]
        self.need(end == len(self.entries), "entries that are in no directory")

    def check_links(self) -> None:
        """Check hard links, and that link_count counts them (section 6.5)."""
        links: Counter[int] = Counter()
        for row, entry in enumerate(self.entries):
            if entry.type == HARD_LINK:
                self.need(entry.first < row, f"entry {row}: a hard link to a later entry")
                named = self.entries[entry.first].type
                self.need(named not in (DIRECTORY, HARD_LINK), f"entry {row}: not to be linked to")
                links[entry.first] += 1
        for row, entry in enumerate(self.entries):
            count = 0 if entry.type == HARD_LINK else 1 + links[row]
            self.need(entry.link_count == count, f"entry {row}: link_count")

    def check_runs(self) -> None:
        """Check the runs of all mapped files, and that all of them belong to one (section 6.5)."""
        end = 0
        for row, entry in enumerate(self.entries):
            if not entry.flags & MAPPED:
                continue
            self.need(entry.first == end, f"entry {row}: first run")
            self.need(entry.count <= len(self.runs) - end, f"entry {row}: runs behind the table")
            end += entry.count
            free = 0
            for member_offset, content_offset, run_bytes, base, reserved in self.runs_of(entry):
                what = f"entry {row}: a run"
                self.need(not any(reserved) and base == 0, f"{what}: base or reserved bytes")
                self.need(run_bytes >= 1 and member_offset >= free, f"{what}: order")
                free = member_offset + run_bytes
                self.need(free <= entry.member_bytes, f"{what} behind the end of the file")
                inside = content_offset + run_bytes <= self.content_bytes
                self.need(inside, f"{what} behind the end of the content")
        self.need(end == len(self.runs), "runs of no file")

    def read_sets(self, rows: bytes, data: bytes) -> list[list[tuple[bytes, bytes]]]:
        """Return the attributes of each set (sections 6.7 and 6.8)."""
        sets: list[list[tuple[bytes, bytes]]] = []
        end = 0
        for number, row in enumerate(ATTRIBUTE_SET_ROW.iter_unpack(rows)):
            set_offset, set_bytes, reserved = row
            what = f"attribute set {number}"
            self.need(not any(reserved), f"{what}: reserved bytes")
            self.need(1 <= set_bytes <= MAX_ATTRIBUTES_BYTES, f"{what}: set_bytes")
            self.need(set_offset == end, f"{what}: set_offset")
            at, end = end, end + set_bytes
            self.need(end <= len(data), f"{what}: behind the table attribute_bytes")
            attributes: list[tuple[bytes, bytes]] = []
            while at < end:
                self.need(at + ATTRIBUTE.size <= end, f"{what}: cut off")
                name_bytes, value_bytes = ATTRIBUTE.unpack_from(data, at)
                value_at = at + ATTRIBUTE.size + name_bytes
                name = data[at + ATTRIBUTE.size : value_at]
                at = value_at + value_bytes
                self.need(at <= end, f"{what}: an attribute is longer than the set")
                plain = 1 <= name_bytes <= 255 and b"\0" not in name
                self.need(plain, f"{what}: name of an attribute")
                attributes.append((name, data[value_at:at]))
            for (name, _), (other, _) in pairwise(attributes):
                self.need(name < other, f"{what}: order of names")
            sets.append(attributes)
        self.need(end == len(data), "attributes of no set")
        return sets

    def check_owners(self, rows: bytes) -> None:
        """Check the names of users and groups (section 6.9)."""
        last = (0, 0)
        for kind, name_bytes, reserved, number, name_offset in OWNER_ROW.iter_unpack(rows):
            what = f"owner {kind}, {number}"
            self.need(kind in OWNER_KINDS, f"{what}: kind")
            self.need(not any(reserved), f"{what}: reserved bytes")
            self.need((kind, number) > last, f"{what}: order")
            self.need(name_bytes >= 1, f"{what}: no name")
            self.need(b"\0" not in self.string(name_offset, name_bytes), f"{what}: NUL in name")
            last = (kind, number)

    def check_summary(self, rows: bytes) -> None:
        """Hold the one row of totals against the entries (section 6.10)."""
        self.need(len(rows) == SUMMARY_ROW.size, "not one summary")
        of_type = Counter(entry.type for entry in self.entries)
        devices = of_type[CHARACTER_DEVICE] + of_type[BLOCK_DEVICE]
        file_bytes = sum(entry.member_bytes for entry in self.entries if entry.type == FILE)
        counts = [of_type[FILE], of_type[DIRECTORY], of_type[SYMLINK], of_type[HARD_LINK], devices]
        found = [*counts, of_type[FIFO], min(file_bytes, MAX_CONTENT_BYTES)]
        self.need(list(SUMMARY_ROW.unpack(rows)[1:]) == found, "the summary's totals")

    # --- use ---

    def runs_of(self, entry: Entry) -> list[tuple[Any, ...]]:
        """Return the extent rows of a file; what is between them is a hole."""
        if entry.flags & MAPPED:
            return self.runs[entry.first : entry.first + entry.count]
        whole = (0, entry.first, entry.member_bytes, 0, b"")
        return [whole] if entry.type == FILE and entry.member_bytes else []

    def path(self, row: int) -> bytes:
        """Return the path of an entry from the root, which itself is `.`."""
        parts: list[bytes] = []
        while row:
            parts.append(self.names[row])
            row = self.entries[row].parent
        return b"/".join(reversed(parts)) or b"."

    def file(self, path: bytes) -> Entry:
        """Return the file at a path; follows hard links, but no symbolic ones.

        Raises FileNotFoundError if there is none.
        """
        row = 0
        for part in path.split(b"/"):
            entry = self.entries[row]
            if part not in (b"", b"."):
                children = range(entry.first, entry.first + entry.count)
                in_it = children if entry.type == DIRECTORY else range(0)
                row = next((child for child in in_it if self.names[child] == part), 0)
                if not row:
                    break
        entry = self.entries[row]
        entry = self.entries[entry.first] if entry.type == HARD_LINK else entry
        if entry.type != FILE:
            raise FileNotFoundError(f"no file {shown(path)} in the archive")
        return entry

    def describe(self, row: int) -> dict[str, Any]:
        """Return an entry as `--list` prints it."""
        entry = self.entries[row]
        told: dict[str, Any] = {"path": shown(self.path(row)), "type": TYPES[entry.type]}
        names = ("mode", "uid", "gid", "file_flags", "mtime_ns", "member_bytes", "link_count")
        told |= {name: getattr(entry, name) for name in names}
        told["flags"] = [name for flag, name in FLAGS.items() if entry.flags & flag]
        if entry.attributes:
            attributes = self.sets[entry.attributes - 1]
            told["attributes"] = [[shown(name), value.hex()] for name, value in attributes]
        if entry.type == FILE:
            told["runs"] = [list(run[:3]) for run in self.runs_of(entry)]
        elif entry.type == SYMLINK:
            told["target"] = shown(self.string(entry.first, entry.member_bytes))
        elif entry.type == HARD_LINK:
            told["target"] = shown(self.path(entry.first))
        elif entry.type in (CHARACTER_DEVICE, BLOCK_DEVICE):
            told["device"] = [entry.first, entry.count]
        return told


def shown(name: bytes) -> str:
    """Return bytes as text; those that are no UTF-8 get a backslash and their hex digits."""
    return name.decode("utf-8", "backslashreplace")


def tree_of(opened: Opened) -> Tree:
    """Return the tree that an archive holds."""
    if opened.tree is None:
        raise FormatError("unsupported", 20, "not the archive of a tree")
    return opened.tree


def listing(data: bytes | mmap.mmap, *, hashing: bool = True) -> Iterator[bytes]:
    """Yield one line of JSON for each entry of a tree archive, in the order of its rows."""
    tree = tree_of(Archive(data, hashing).open())
    for row in range(len(tree.entries)):
        yield json.dumps(tree.describe(row)).encode() + b"\n"


def zeros(length: int) -> Iterator[bytes]:
    """Yield zeros in pieces."""
    for at in range(0, length, 2**20):
        yield bytes(min(2**20, length - at))


def cat(data: bytes | mmap.mmap, path: bytes, *, hashing: bool = True) -> Iterator[bytes]:
    """Yield the bytes of one file of a tree archive, holes as zeros."""
    archive = Archive(data, hashing)
    opened = archive.open()
    tree = tree_of(opened)
    entry = tree.file(path)
    at = 0
    for member_offset, content_offset, run_bytes, *_ in tree.runs_of(entry):
        yield from zeros(member_offset - at)
        yield from archive.span(opened, content_offset, content_offset + run_bytes)
        at = member_offset + run_bytes
    yield from zeros(entry.member_bytes - at)


def chunks(data: bytes | mmap.mmap, *, walk: bool = False, hashing: bool = True) -> Iterator[bytes]:
    """Yield the content of an archive in pieces, each of them checked.

    Raises FormatError at the first finding; the pieces before it are good.
    """
    archive = Archive(data, hashing)
    return archive.walk() if walk else archive.content()


def decode(data: bytes, *, walk: bool = False, hashing: bool = True) -> bytes:
    """Return the whole content of an archive, or raise FormatError."""
    return b"".join(chunks(data, walk=walk, hashing=hashing))


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description="Write the content of an Onggi archive to stdout.")
    parser.add_argument("archive")
    parser.add_argument("--check", action="store_true", help="check everything, write nothing")
    parser.add_argument("--walk", action="store_true", help="ignore footer and index")
    parser.add_argument("--list", action="store_true", help="print the entries of a tree")
    parser.add_argument("--cat", metavar="PATH", help="write one file of a tree")
    parser.add_argument("--no-blake3", action="store_true", help="skip BLAKE3 (slow in Python)")
    args = parser.parse_args()
    note = " (index rebuilt by a forward walk)" if args.walk else ""
    try:
        with open(args.archive, "rb") as file:
            try:
                data: bytes | mmap.mmap = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError):  # a pipe, an empty file
                data = file.read()
        with open(sys.stdout.fileno(), "wb", closefd=False) as out:
            hashing = not args.no_blake3
            if args.list:
                given = listing(data, hashing=hashing)
            elif args.cat is not None:
                given = cat(data, os.fsencode(args.cat), hashing=hashing)
            else:
                given = chunks(data, walk=args.walk, hashing=hashing)
            for piece in given:
                if not args.check:
                    out.write(piece)
    except (FormatError, OSError) as error:
        print(f"mini_decoder: {error}{note}", file=sys.stderr)
        return 1
    if note:
        print(f"mini_decoder: done{note}", file=sys.stderr)  # section 9.4: must say so
    return 0


if __name__ == "__main__":
    sys.exit(main())
