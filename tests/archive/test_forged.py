"""Each rule of the format, broken under digests that are right."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from typing import Any

import pytest
import zstandard
from blake3 import blake3

from onggi.archive import layout
from onggi.archive.errors import DamagedError, Severity, UnsupportedError
from onggi.archive.reader import Archive, UnitReader, place_frames
from onggi.archive.record import seal
from onggi.archive.store import MemoryStore
from onggi.archive.verify import Level, verify
from onggi.archive.zeros import zero_digest, zero_frame

FRAME = struct.Struct("<IB3s32s")
UNIT = struct.Struct("<QIIIII4s32s")
Change = Callable[[Any], object]


def problems(data: bytes, level: Level = Level.CONTENT) -> list[str]:
    """Return the messages of the damage that `verify` finds."""
    told: list[str] = []
    verify(
        MemoryStore(data), level, threads=1,
        found=lambda f: told.append(f.message) if f.severity is Severity.DAMAGE else None,
    )  # fmt: skip
    return told


@pytest.fixture
def forged(forge: Any, letters: Callable[..., bytes]) -> Any:
    """Five frames in two units; the third frame is zero, the fourth a hole."""
    made = forge(letters("ab00", tail=700) + b"end", holes=[3], unreadable=[(0, 512), (600, 1)])
    made.page_rows[layout.TABLE_FRAMES] = 2
    return made


def test_an_archive_that_is_forged_without_a_change_is_whole(forged: Any) -> None:
    archive = Archive(MemoryStore(forged.build()))
    assert archive.tables[layout.TABLE_FRAMES].descriptor.levels == 2
    assert problems(forged.build()) == []


def test_the_smallest_archive_has_no_units(forge: Any) -> None:
    data = forge().build()
    assert problems(data) == []
    assert Archive(MemoryStore(data)).read(0, 10) == b""


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"version_major": 1}, "format version 1.1"),
        ({"version_minor": 2}, "format version 0.2"),
        ({"kind": 3}, "kind 3"),
        ({"kind": 0}, "kind 0"),
        ({"required_features": 1}, "feature base;"),
        ({"required_features": 0b1010}, "encryption, signature"),
        ({"required_features": 1 << 63}, "bit 63"),
    ],
)
def test_an_archive_of_later_times_is_unsupported(
    forged: Any, fields: dict[str, int], words: str
) -> None:
    forged.header = fields
    store = MemoryStore(forged.build())
    with pytest.raises(UnsupportedError, match=words):
        Archive(store)
    with pytest.raises(UnsupportedError, match=words):
        verify(store, Level.CONTENT, threads=1)


def test_what_a_reader_must_ignore_is_ignored(forged: Any) -> None:
    forged.header = {"optional_features": 1 << 40, "created_ns": -5, "level": -7}
    forged.rows[200] = b"unknown" * 20
    forged.page_rows[200] = 3
    forged.descriptors[200] = {"row_bytes": 7}
    assert problems(forged.build()) == []


def test_a_section_may_have_64_tables(forged: Any) -> None:
    forged.pages[0, 0, 1] = {"raw": lambda rows: many_tables(rows, 60)}
    assert problems(forged.build()) == []


def test_the_pages_of_tables_that_nobody_knows_are_checked(forged: Any) -> None:
    """They are checked as any others: spec section 5.3."""
    forged.rows[200] = b"unknown" * 20
    forged.page_rows[200] = 3
    forged.descriptors[200] = {"row_bytes": 7}
    forged.pages[200, 0, 1] = {"page_number": 9}
    assert any("table 200" in each for each in problems(forged.build()))


@pytest.mark.parametrize("facts", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 9000, b"1" * 9000])
def test_facts_that_can_not_be_parsed_are_empty(forged: Any, facts: bytes) -> None:
    forged.facts = facts
    assert Archive(MemoryStore(forged.build())).header.facts == {}
    assert problems(forged.build()) == []


def test_facts_of_the_greatest_length_are_read(forged: Any) -> None:
    forged.facts = b'{"a":"%s"}' % (b"x" * (65_536 - 8))
    assert len(Archive(MemoryStore(forged.build())).header.facts["a"]) == 65_528


def set_header(**fields: Any) -> Change:
    return lambda forged: forged.header.update(fields)


def set_footer(**fields: Any) -> Change:
    return lambda forged: forged.footer.update(fields)


def set_page(table: int, level: int, number: int, /, **fields: Any) -> Change:
    return lambda forged: forged.pages.update({(table, level, number): fields})


def set_table(number: int, /, **fields: Any) -> Change:
    return lambda forged: forged.descriptors[number].update(fields)


def set_rows(table: int, rows: bytes) -> Change:
    return lambda forged: forged.rows.update({table: rows})


def raw(table: int, level: int, number: int, change: Callable[[bytes], bytes]) -> Change:
    return set_page(table, level, number, raw=change)


def at(offset: int, new: bytes) -> Callable[[bytes], bytes]:
    return lambda rows: rows[:offset] + new + rows[offset + len(new) :]


def longer_facts(forged: Any) -> None:
    forged.facts = b" " * 65_537


def member(**fields: int) -> Change:
    """Change fields of the member row."""
    places = {"type": (0, 1), "flags": (1, 1), "reserved_1": (2, 2), "name_bytes": (4, 4),
              "name_offset": (8, 8), "member_bytes": (16, 8), "first_extent": (32, 8),
              "extent_count": (40, 8), "reserved_2": (48, 8)}  # fmt: skip

    def change(forged: Any) -> None:
        for name, value in fields.items():
            offset, width = places[name]
            new = value.to_bytes(width, "little")
            forged.rows[1] = at(offset, new)(forged.rows[1])

    return change


def named(name: bytes) -> Change:
    def change(forged: Any) -> None:
        forged.rows[layout.TABLE_NAMES] = name
        member(name_bytes=len(name))(forged)

    return change


def no_members(forged: Any) -> None:
    forged.rows[layout.TABLE_MEMBERS] = b""
    forged.footer["member_count"] = 0


def two_members(forged: Any) -> None:
    forged.rows[layout.TABLE_MEMBERS] *= 2
    forged.footer["member_count"] = 2


def drop_first_table(rows: bytes) -> bytes:
    return rows[72:]


def swap_tables(rows: bytes) -> bytes:
    return rows[72:144] + rows[:72] + rows[144:]


def many_tables(rows: bytes, count: int = 61) -> bytes:
    """Add empty tables that nobody knows; there are four others."""
    more = [struct.pack("<HHIQ", 300 + n, 1, 1, 0) + bytes(56) for n in range(count)]
    return rows + b"".join(more)


def bomb(forged: Any) -> None:
    """A page of 3 KiB that unfolds to 16 MiB."""
    data = zero_frame(2**24)
    forged.pages[3, 0, 0] = {"raw": lambda _: b"x" * 70, "data": data, "raw_bytes": 2**24}
    forged.pages[3, 0, 0]["codec"] = 1


def window_page(forged: Any) -> None:
    forged.pages[1, 0, 0] = {"data": wide_frame(forged.rows[1]), "codec": 1}


def wide_frame(content: bytes, *, checksum: bool = False, window: int = 16 << 3) -> bytes:
    """Return a frame that declares a window of 64 MiB; 15 << 3 is 32 MiB, one more is 36 MiB."""
    descriptor = 0b1000_0000 | 0b100 * checksum  # 4 bytes of content size, no single segment
    block = (1 | len(content) << 3).to_bytes(3, "little") + content
    tail = zstandard.ZstdCompressor(write_checksum=True).compress(content)[-4:]
    size = len(content).to_bytes(4, "little")
    return b"\x28\xb5\x2f\xfd" + bytes([descriptor, window]) + size + block + tail * checksum


def dictionary_page(forged: Any) -> None:
    made = zstandard.ZstdCompressor(dict_data=_dictionary()).compress(forged.rows[1])
    forged.pages[1, 0, 0] = {"data": made, "codec": 1}


def _dictionary() -> zstandard.ZstdCompressionDict:
    samples = [b"sample %d of what is to be compressed " % n * 9 for n in range(300)]
    return zstandard.train_dictionary(8192, samples)


PACKED = zstandard.compress(bytes(64))

BROKEN: list[tuple[str, Change, str]] = [
    # Section 2.2 and 3
    ("unit_bytes 0", set_header(unit_bytes=0), "unit size 0"),
    ("unit_bytes over", set_header(unit_bytes=2**28 + 4096), "unit size"),
    ("unit_bytes odd", set_header(unit_bytes=16_385), "unit size"),
    ("frame_bytes small", set_header(frame_bytes=512), "frame size"),
    ("frame_bytes odd", set_header(frame_bytes=4097), "frame size"),
    ("frame_bytes over", set_header(frame_bytes=2**24 + 4096), "frame size"),
    ("block_bytes small", set_header(block_bytes=256), "block size"),
    ("block_bytes odd", set_header(block_bytes=1536), "block size"),
    ("block_bytes over", set_header(block_bytes=2**25), "block size"),
    ("header reserved_1", set_header(reserved_1=b"\0\1\0"), "reserved_1"),
    ("header reserved_2", set_header(reserved_2=b"\0" * 5 + b"\1"), "reserved_2"),
    ("header reserved_3", set_header(reserved_3=b"\1\0\0\0"), "reserved_3"),
    ("header skip_bytes", set_header(skip_bytes=123), "it says it has 131 bytes"),
    ("facts too long", longer_facts, "facts are longer"),
    # Section 7
    ("footer version", set_footer(version_minor=0), "another format version"),
    ("footer kind", set_footer(kind=2), "another kind"),
    ("footer reserved", set_footer(reserved=b"\1\0\0"), "reserved"),
    ("footer skip_bytes", set_footer(skip_bytes=321), "it says it has 329 bytes"),
    ("footer uuid", set_footer(uuid=bytes(16)), "another archive"),
    ("header_digest", set_footer(header_digest=bytes(32)), "another header"),
    ("archive_bytes", set_footer(archive_bytes=5), "not 5"),
    ("content_bytes over", set_footer(content_bytes=2**63), "longer than 2"),
    ("unit_count", set_footer(unit_count=3), "number of units"),
    ("content_bytes", set_footer(content_bytes=40_000), "number of units"),
    ("frame_count", set_footer(frame_count=6), "number of frames"),
    ("too many units",
     set_footer(content_bytes=16_384 * 99, unit_count=99, frame_count=396), "more units"),
    ("stored_bytes over", set_footer(stored_bytes=2**40), "more units"),
    ("zeros and holes", set_footer(zero_bytes=2**20), "totals"),
    ("unreadable over", set_footer(unreadable_bytes=2**20), "totals"),
    ("member_count", set_footer(member_count=2), "one member"),
    ("catalogue before header", set_footer(catalogue_offset=1), "places"),
    ("index before catalogue", set_footer(catalogue_record_bytes=2**20), "places"),
    ("index_offset", set_footer(index_offset=2**40), "does not end at it"),
    ("root length", set_footer(index_record_bytes=7), "does not end at it"),
    ("catalogue_digest", set_footer(catalogue_digest=bytes(32)), "not the page"),
    ("index_digest", set_footer(index_digest=bytes(32)), "not the page"),
    ("stored_bytes", set_footer(stored_bytes=1), "stored bytes"),
    ("zero_bytes", set_footer(zero_bytes=0), "sum of zeros"),
    ("hole_bytes", set_footer(hole_bytes=0), "sum of holes"),
    ("unreadable_bytes", set_footer(unreadable_bytes=0), "unreadable bytes"),
    ("units_digest", set_footer(units_digest=bytes(32)), "digest of the units"),
    ("content_digest", set_footer(content_digest=bytes(32)), "content digest"),
    # Section 5.1
    ("page skip_bytes", set_page(1, 0, 0, skip_bytes=1), "it says it has 9 bytes"),
    ("page uuid", set_page(1, 0, 0, uuid=bytes(16)), "another page"),
    ("page table", set_page(1, 0, 0, table=2), "another page"),
    ("page level", set_page(17, 0, 1, level=1), "another page"),
    ("page number", set_page(17, 0, 1, page_number=2), "another page"),
    ("page reserved", set_page(1, 0, 0, reserved=bytes(11) + b"\1"), "reserved"),
    ("page codec", set_page(1, 0, 0, codec=2), "codec"),
    ("page raw_bytes 0", set_page(1, 0, 0, raw_bytes=0), "lengths"),
    ("page raw_bytes over", set_page(1, 0, 0, raw_bytes=65_537), "lengths"),
    ("page raw_bytes", set_page(1, 0, 0, raw_bytes=63), "lengths"),
    ("page that unfolds", bomb, "lengths"),
    ("page stored_bytes", set_page(1, 0, 0, stored_bytes=1), "lengths"),
    ("page stored plainly", set_page(1, 0, 0, codec=0, data=b"x" * 63), "codec"),
    ("page no zstd", set_page(1, 0, 0, codec=1, data=b"x" * 70), "zstd"),
    ("page cut", set_page(1, 0, 0, codec=1, data=PACKED[:-1]), "zstd"),
    ("page and more", set_page(1, 0, 0, codec=1, data=PACKED + b"x"), "zstd"),
    ("page window", window_page, "window"),
    ("page dictionary", dictionary_page, "zstd"),
    ("page rows", raw(17, 0, 0, lambda rows: rows[:40]), "another number of rows"),
    ("page half a row", raw(17, 0, 0, lambda rows: rows[:79]), "another number of rows"),
    # Section 5.2
    ("directory record_bytes", raw(17, 1, 0, at(8, b"\xff\xff\xff\xff")), "out of bounds"),
    ("directory record_bytes small", raw(17, 1, 0, at(8, b"\x60\0\0\0")), "out of bounds"),
    ("directory offset", raw(17, 1, 0, at(7, b"\xff")), "out of bounds"),
    ("directory offset beyond the end", raw(17, 1, 0, at(5, b"\xff")), "only 0 of its bytes"),
    ("directory reserved", raw(17, 1, 0, at(12, b"\1")), "out of bounds"),
    ("directory digest", raw(17, 1, 0, at(16, b"\1\1")), "not the page"),
    ("directory rows", raw(17, 1, 0, lambda rows: rows[:96]), "another number of rows"),
    ("one page twice", raw(17, 1, 0, lambda rows: rows[48:96] * 2 + rows[96:]), "another page"),
    # Section 5.3
    ("root cut", raw(0, 0, 1, lambda rows: rows[:71]), "length"),
    ("root without members", raw(0, 0, 1, drop_first_table), "table 1 is missing"),
    ("root without a table", raw(0, 0, 1, lambda rows: rows[144:]), "table 1 is missing"),
    ("root of no known table", raw(0, 0, 2, lambda rows: rows[:0] or at(0, b"\x63")(rows[:72])),
     "missing"),
    ("root in another order", raw(0, 0, 1, swap_tables), "not in order"),
    ("root with one table twice", raw(0, 0, 1, lambda rows: rows[:72] + rows), "not in order"),
    ("root with too many tables", raw(0, 0, 1, many_tables), "length"),
    ("table number 0", set_table(1, table=0), "not in order"),
    ("table in the wrong section", set_table(4, table=16), "other section"),
    ("table row_bytes", set_table(1, row_bytes=32), "rows of 32 bytes"),
    ("unknown table without width", set_table(4, table=12, row_bytes=0), "rows of 0 bytes"),
    ("table page_rows 0", set_table(1, page_rows=0, levels=1), "pages of 0 rows"),
    ("table page_rows over", set_table(1, page_rows=1025), "pages of 1025 rows"),
    ("table levels", set_table(1, levels=2), "2 levels for 1 rows"),
    ("table levels 0", set_table(1, levels=0), "0 levels for 1 rows"),
    ("too many levels", set_table(3, rows=2**64 - 1, page_rows=1, levels=9), "levels for"),
    ("table reserved_1", set_table(1, reserved_1=b"\1" + bytes(6)), "reserved_1"),
    ("table reserved_2", set_table(1, reserved_2=b"\1\0\0\0"), "reserved_2"),
    ("top_record_bytes", set_table(1, top_record_bytes=96), "top page"),
    ("top_record_bytes over", set_table(1, top_record_bytes=66_657), "top page"),
    ("top_offset", set_table(1, top_offset=2**64 - 1), "bytes are there"),
    ("top digest", set_table(1, digest=bytes(32)), "not the page"),
    ("more rows than the file can hold", set_table(3, rows=2**63), "more rows"),
    ("more rows than there are", set_table(3, rows=2), "another number of rows"),
    ("rows of members", set_table(1, rows=2), "has 2 rows, not 1"),
    ("rows of units", set_table(16, rows=3), "has 3 rows, not 2"),
    ("rows of frames", set_table(17, rows=4), "has 4 rows, not 5"),
    # Section 6.1
    ("no members", no_members, "one member"),
    ("two members", two_members, "one member"),
    ("member type", member(type=2), "unknown type"),
    ("member flags", member(flags=2), "unknown type"),
    ("member reserved_1", member(reserved_1=1), "reserved"),
    ("member reserved_2", member(reserved_2=1), "reserved"),
    ("name_bytes 0", member(name_bytes=0), "length of a name"),
    ("name_bytes over", member(name_bytes=65_536), "length of a name"),
    ("name_offset", member(name_offset=1), "no row"),
    ("name_offset over", member(name_offset=2**64 - 1), "no row"),
    ("member_bytes", member(member_bytes=9), "does not fit"),
    ("first_extent", member(first_extent=1), "does not fit"),
    ("extent_count", member(extent_count=0), "does not fit"),
    ("name with a slash", named(b"a/b"), "plain file name"),
    ("name with a NUL", named(b"a\0b"), "plain file name"),
    ("name .", named(b"."), "plain file name"),
    ("name ..", named(b".."), "plain file name"),
    # Section 6.2
    ("no extents", set_rows(2, b""), "does not fit"),
    ("two extents", set_rows(2, bytes(64)), "does not fit"),
    ("extent elsewhere", raw(2, 0, 0, at(8, b"\1")), "does not map"),
    ("extent base", raw(2, 0, 0, at(24, b"\1")), "does not map"),
    ("extent reserved", raw(2, 0, 0, at(28, b"\1")), "does not map"),
    # Section 6.3
    ("unreadable of no bytes", set_rows(4, struct.pack("<QQ", 5, 0)), "unreadable runs"),
    ("unreadable beyond the end", set_rows(4, struct.pack("<QQ", 2**40, 1)), "unreadable runs"),
    ("unreadable over the end", set_rows(4, struct.pack("<QQ", 0, 2**40)), "unreadable runs"),
    ("unreadable that overlap", set_rows(4, struct.pack("<4Q", 0, 9, 8, 9)), "unreadable runs"),
    ("unreadable that touch", set_rows(4, struct.pack("<4Q", 0, 9, 9, 9)), "unreadable runs"),
    ("unreadable in no order", set_rows(4, struct.pack("<4Q", 9, 9, 0, 1)), "unreadable runs"),
    # Section 6.4
    ("unit_offset", raw(16, 0, 0, at(64, b"\xff")), "should stand at"),
    ("unit_offset before", raw(16, 0, 0, at(64, bytes(8))), "outside the units"),
    ("unit_offset beyond", raw(16, 0, 0, at(70, b"\1")), "outside the units"),
    ("unit content_bytes", raw(16, 0, 0, at(8, b"\1")), "lengths are wrong"),
    ("unit stored_bytes", raw(16, 0, 0, at(12, b"\xff\0")), "does not fit its frames"),
    ("unit stored_bytes 0", raw(16, 0, 0, at(12, bytes(4))), "stored length"),
    ("unit stored_bytes over", raw(16, 0, 0, at(12, b"\xff\xff")), "stored length"),
    ("unit frame_count", raw(16, 0, 0, at(16, b"\1")), "lengths are wrong"),
    ("unit zero_frames", raw(16, 0, 0, at(20, b"\5")), "zero frames"),
    ("unit zero_frames 0", raw(16, 0, 0, at(20, b"\0")), "does not fit its frames"),
    ("unit hole_frames", raw(16, 0, 0, at(24, b"\2")), "does not fit its frames"),
    ("unit reserved", raw(16, 0, 0, at(28, b"\1")), "zero frames"),
    ("unit stored_digest", raw(16, 0, 0, at(32, b"\1\1")), "differs from the index"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"), [each[1:] for each in BROKEN], ids=[each[0] for each in BROKEN]
)
def test_a_broken_rule_is_found(forged: Any, change: Change, words: str) -> None:
    change(forged)
    data = forged.build()
    assert any(words in each for each in problems(data, Level.STRUCTURE)), problems(data)
    with contextlib.suppress(DamagedError):
        archive = Archive(MemoryStore(data))
        archive.member()
        list(archive.unreadable())
        archive.read(0, archive.content_bytes)


def edit_unit(unit: int, **fields: Any) -> Change:
    return lambda forged: forged.units[unit].update(fields)


def edit_frame(unit: int, frame: int, **fields: Any) -> Change:
    """Change a frame row, in the unit header and the index alike."""

    def change(forged: Any) -> None:
        rows = bytearray(forged.units[unit]["rows"])
        values = dict(
            zip(("stored", "kind", "reserved", "digest"), FRAME.unpack_from(rows, 40 * frame),
                strict=True)
        )  # fmt: skip
        FRAME.pack_into(rows, 40 * frame, *(values | fields).values())
        forged.units[unit]["rows"] = bytes(rows)

    return change


def store_frame(stored: bytes, content: bytes | None = None, kind: int = 0) -> Change:
    """Store other bytes as the first frame of unit 1."""

    def change(forged: Any) -> None:
        unit = forged.units[1]
        digest = blake3(content).digest() if content is not None else unit["rows"][8:40]
        unit["payload"] = stored
        unit["rows"] = FRAME.pack(len(stored), kind, bytes(3), digest)
        unit["zero_frames"] = int(kind == 1)
        if kind:
            forged.footer["zero_bytes"] = 4096 + 703

    return change


TAIL = b"tail of the volume ".ljust(700, b".") + b"end"
CHECKED = zstandard.ZstdCompressor(write_checksum=True)


def unsized(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress(content)


FRAMES: list[tuple[str, Change, str, Level]] = [
    ("kind", edit_frame(0, 1, kind=3), "unknown kind", Level.STRUCTURE),
    ("reserved", edit_frame(0, 1, reserved=b"\1\0\0"), "unknown kind", Level.STRUCTURE),
    ("stored 0", edit_frame(0, 1, stored=0), "out of bounds", Level.STRUCTURE),
    ("stored over", edit_frame(0, 1, stored=4096 + 16 + 65), "out of bounds", Level.STRUCTURE),
    ("stored other", edit_frame(0, 1, stored=9), "does not fit its frames", Level.STRUCTURE),
    ("zero digest", edit_frame(0, 2, digest=bytes(32)), "no zero frame", Level.STRUCTURE),
    ("zero length", edit_frame(0, 2, stored=5), "no zero frame", Level.STRUCTURE),
    ("digest", edit_frame(0, 1, digest=bytes(32)), "does not match its digest", Level.CONTENT),
    ("data as zeros", store_frame(CHECKED.compress(bytes(703)), bytes(703), kind=1),
     "no zero frame", Level.STRUCTURE),
    ("zero frame damaged", store_frame(zero_frame(703)[:-1] + b"x", bytes(703), kind=1),
     "zero frame is damaged", Level.STORED),
    ("no frame", store_frame(b"x" * 50), "no zstd frame", Level.CONTENT),
    ("cut frame", store_frame(CHECKED.compress(TAIL)[:-5]), "can't decompress", Level.CONTENT),
    ("two frames", store_frame(CHECKED.compress(TAIL) + CHECKED.compress(b"x")),
     "can't decompress", Level.CONTENT),
    ("frame and more", store_frame(CHECKED.compress(TAIL) + b"x"), "can't decompress",
     Level.CONTENT),
    ("other length", store_frame(CHECKED.compress(TAIL[:-1]), TAIL[:-1]), "another length",
     Level.CONTENT),
    ("no length", store_frame(unsized(TAIL)), "another length", Level.CONTENT),
    ("no checksum", store_frame(zstandard.ZstdCompressor().compress(TAIL)), "no checksum",
     Level.CONTENT),
    ("wrong checksum", store_frame(CHECKED.compress(TAIL)[:-4] + b"xxxx"), "can't decompress",
     Level.CONTENT),
    ("window", store_frame(wide_frame(TAIL, checksum=True), TAIL), "window", Level.CONTENT),
    ("skippable", store_frame(b"\x5c\x2a\x4d\x18\xbf\2\0\0" + bytes(703)), "checksum",
     Level.CONTENT),
    ("dictionary",
     store_frame(zstandard.ZstdCompressor(dict_data=_dictionary(), write_checksum=True)
                 .compress(TAIL)), "dictionary", Level.CONTENT),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words", "level"), [each[1:] for each in FRAMES], ids=[each[0] for each in FRAMES]
)
def test_a_frame_that_breaks_a_rule_is_found(
    forged: Any, change: Change, words: str, level: Level
) -> None:
    change(forged)
    data = forged.build()
    assert any(words in each for each in problems(data, level)), problems(data, level)
    shallower = [each for each in Level if list(Level).index(each) < list(Level).index(level)]
    for each in shallower:
        assert problems(data, each) == []
    if level is not Level.STORED and words != "can't decompress":
        with pytest.raises(DamagedError):
            Archive(MemoryStore(data)).read(0, 20_000)


def test_a_zstd_checksum_that_is_wrong_keeps_nobody_from_the_content(forged: Any) -> None:
    """BLAKE3 says that the content is right; only `verify` cares for what other readers check."""
    store_frame(CHECKED.compress(TAIL)[:-4] + b"xxxx", TAIL)(forged)
    assert Archive(MemoryStore(forged.build())).read(16_384, 703) == TAIL


@pytest.mark.parametrize(
    "fields",
    [
        {"number": 5}, {"content_bytes": 1}, {"payload": b"x"},
        {"record": seal(b"\x5c\x2a\x4d\x18\x78\0\0\0\x8eOnggiUN" + bytes(112), 96)},
    ],
    ids=["number", "content_bytes", "payload", "record"],
)  # fmt: skip
def test_a_unit_header_that_differs_from_the_index_is_found(
    forged: Any, fields: dict[str, Any]
) -> None:
    unit = forged.units[1]
    row = list(UNIT.unpack(Archive(MemoryStore(forged.build())).tables[16].row(1)))
    unit["row"] = UNIT.pack(*row)
    unit.update(fields)
    assert problems(forged.build(), Level.STRUCTURE) != []


@pytest.mark.parametrize(
    "where", [(1, 0, 0), (4, 0, 0), (17, 0, 1), (17, 1, 0), (0, 0, 1), (0, 0, 2)]
)
def test_a_gap_between_records_is_found(forged: Any, where: tuple[int, int, int]) -> None:
    forged.before[where] = b"\x5c\x2a\x4d\x18\x01\0\0\0x"
    told = problems(forged.build(), Level.STRUCTURE)
    assert len(told) == 1
    assert "but the record before it ends at" in told[0]
    assert Archive(MemoryStore(forged.build())).read(0, 4096)


def test_a_damaged_directory_is_one_finding_for_each_page_that_is_lost(forged: Any) -> None:
    forged.pages[17, 1, 0] = {"raw": at(12, b"\1")}
    told = problems(forged.build(), Level.STRUCTURE)
    assert any("page 0 of table 17" in each for each in told)
    assert not any("page 1 of table 17" in each for each in told)


def test_a_frame_that_a_unit_does_not_have_is_damage(forged: Any) -> None:
    archive = Archive(MemoryStore(forged.build()))
    unit = archive.index.unit(1)
    with pytest.raises(DamagedError, match="no such frame"):
        UnitReader(archive).frame(place_frames(archive, unit), 1)


def test_the_greatest_window_is_read_and_the_next_is_not(forged: Any) -> None:
    """MAX_WINDOW_BYTES is 32 MiB."""
    widest, wider = 15 << 3, 15 << 3 | 1
    store_frame(wide_frame(TAIL, checksum=True, window=widest), TAIL)(forged)
    forged.pages[1, 0, 0] = {"data": wide_frame(forged.rows[1], window=widest), "codec": 1}
    assert problems(forged.build()) == []
    store_frame(wide_frame(TAIL, checksum=True, window=wider), TAIL)(forged)
    assert any("window" in each for each in problems(forged.build()))
    forged.pages[1, 0, 0] = {"data": wide_frame(forged.rows[1], window=wider), "codec": 1}
    assert any("window" in each for each in problems(forged.build(), Level.STRUCTURE))


def test_the_smallest_and_greatest_stored_length_of_a_frame(forge: Any, small: Any) -> None:
    """n + n / 256 + 64: a frame of exactly that length is read."""
    content = bytes(range(1, 251)) * 17
    content = content[:4096]
    block = (1 | len(content) << 3).to_bytes(3, "little") + content
    size = (len(content) - 256).to_bytes(2, "little")
    tail = CHECKED.compress(content)[-4:]
    frame = b"\x28\xb5\x2f\xfd\x64" + size
    # Empty raw blocks make it longer without making it another content.
    most = layout.max_stored_bytes(len(content))
    assert most == 4096 + 16 + 64
    empty = (most - len(frame) - len(block) - 4) // 3
    forged = forge(content)
    stored = frame + b"\0\0\0" * empty + block + tail
    forged.units[0]["payload"] = stored
    forged.units[0]["rows"] = FRAME.pack(len(stored), 0, bytes(3), blake3(content).digest())
    assert len(stored) in range(most - 2, most + 1)
    assert Archive(MemoryStore(forged.build())).read(0, 4096) == content
    assert problems(forged.build()) == []


def test_zero_frames_are_known_by_their_digest(forge: Any) -> None:
    data = forge(bytes(5000)).build()
    archive = Archive(MemoryStore(data))
    frames = archive.index.frames(archive.index.unit(0))
    assert [frame.digest for frame in frames] == [zero_digest(4096), zero_digest(904)]
    assert archive.footer.zero_bytes == 5000
