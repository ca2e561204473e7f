"""Compares every table of spec/format.md, and the numbers in its text, with archive/layout.py.

`problems` takes the text and returns each difference as one line, so that the last tests can change
the text and see that it is told.
"""

from __future__ import annotations

import re
import runpy
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import construct
import pytest

from onggi.archive import layout
from onggi.archive.plan import Geometry
from onggi.archive.record import seal
from onggi.archive.table import section_of
from onggi.archive.unit import decode_unit_header, unit_record
from onggi.archive.zeros import zero_frame

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "spec" / "format.md").read_text()

FIELD_TABLE = ["offset", "size", "type", "name", "meaning"]

# Section: what declares its record or row. A struct format has no names.
DECLARED: dict[str, list[Any]] = {
    "2.1": [layout.RECORD_START],
    "3": [layout.HEADER],
    "4.1": [layout.UNIT_HEADER, layout.UNIT_HEADER_STRUCT],
    "4.2": [layout.FRAME_ROW],
    "5.1": [layout.PAGE],
    "5.2": [layout.DIRECTORY_ROW],
    "5.3": [layout.TABLE_DESCRIPTOR],
    "6.1": [layout.MEMBER_ROW],
    "6.2": [layout.EXTENT_ROW],
    "6.3": [layout.UNREADABLE_ROW],
    "6.4": [layout.UNIT_ROW],
    "6.5": [layout.ENTRY_ROW],
    "6.7": [layout.ATTRIBUTE_SET_ROW],
    "6.8": [layout.ATTRIBUTE],
    "6.9": [layout.OWNER_ROW],
    "6.10": [layout.SUMMARY_ROW],
    "7": [layout.FOOTER],
}
RECORD_BYTES = {
    "3": (layout.HEADER_BYTES, layout.HEADER_DIGEST_AT),
    "4.1": (layout.UNIT_HEADER_BYTES, layout.UNIT_HEADER_DIGEST_AT),
    "5.1": (layout.PAGE_BYTES, layout.PAGE_DIGEST_AT),
    "7": (layout.FOOTER_BYTES, layout.FOOTER_DIGEST_AT),
}
TAGS = {
    "header": layout.TAG_HEADER,
    "unit header": layout.TAG_UNIT,
    "page, section root": layout.TAG_PAGE,
    "footer": layout.TAG_FOOTER,
}
TAG_OF = {"3": "header", "4.1": "unit header", "5.1": "page, section root", "7": "footer"}
TABLE_TABLE = ["table", "section", "kind", "name", "rows"]
FLAG_TABLE = ["flag", "name", "meaning"]
PLACE_TABLE = ["type", "first", "count"]

# Section 6.5: the words of the text, and what the code calls them.
ENTRY_TYPES = {
    "file": layout.ENTRY_FILE, "directory": layout.ENTRY_DIRECTORY,
    "symbolic link": layout.ENTRY_SYMLINK, "character device": layout.ENTRY_CHARACTER_DEVICE,
    "block device": layout.ENTRY_BLOCK_DEVICE, "FIFO": layout.ENTRY_FIFO,
    "hard link": layout.ENTRY_HARD_LINK,
}  # fmt: skip
# Fields that are patched into rows, or used by name: their places are constants.
PLACES = {
    "6.5": {
        "flags": layout.ENTRY_FLAGS_AT, "first": layout.ENTRY_FIRST_AT,
        "count": layout.ENTRY_COUNT_AT, "link_count": layout.ENTRY_LINK_COUNT_AT,
    },
}  # fmt: skip
CODES = {"B": ("u8", 1), "H": ("u16", 2), "L": ("u32", 4), "I": ("u32", 4), "Q": ("u64", 8)}
CODES |= {"h": ("i16", 2), "l": ("i32", 4), "q": ("i64", 8)}


@dataclass(frozen=True)
class Field:
    """One field of a record; `name` is empty where the declaration has none."""

    offset: int
    size: int
    type: str
    name: str


# --- reading the text ----------------------------------------------------------------------------


def sections(text: str) -> dict[str, str]:
    """Return the text of each section by its number, without that of its subsections."""
    parts = re.split(r"^##+ ([\d.]+?)\.? .*$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def tables(section: str) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Yield heading and rows of each table of a section."""
    for block in re.findall(r"(?:^\|.*\|\n)+", section, flags=re.MULTILINE):
        rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in block.splitlines()]
        assert set("".join(rows[1])) == {"-"}, rows[1]
        yield rows[0], rows[2:]


def the_table(text: str, section: str, *heading: str) -> list[list[str]]:
    """Return the rows of the one table of a section that has this heading."""
    found = [rows for head, rows in tables(sections(text)[section]) if head == list(heading)]
    assert len(found) == 1, f"section {section} has {len(found)} tables of {heading}"
    return found[0]


def number(text: str) -> int:
    """Return what a number in the text stands for: 65,536, 16 MiB, 2^63 - 1, 0x184D2A5C."""
    text = text.replace(",", "")
    if match := re.fullmatch(r"2\^(\d+) - (\d+)", text):
        return 2 ** int(match[1]) - int(match[2])
    if match := re.fullmatch(r"(\d+) MiB", text):
        return int(match[1]) * 2**20
    return int(text, 0)


# --- reading the declarations --------------------------------------------------------------------


def struct_fields(declared: struct.Struct) -> list[Field]:
    """Return the fields of a struct format."""
    assert declared.format.startswith("<")
    fields: list[Field] = []
    at = 0
    for count, code in re.findall(r"(\d*)(\w)", declared.format[1:]):
        if code == "s":
            kinds = [(f"bytes[{int(count)}]", int(count))]
        else:
            kinds = [CODES[code]] * int(count or 1)
        for kind, size in kinds:
            fields.append(Field(at, size, kind, ""))
            at += size
    assert at == declared.size
    return fields


def construct_fields(declared: Any) -> list[Field]:
    """Return the fields of a construct declaration."""
    fields: list[Field] = []
    at = 0
    for renamed in declared.subcons:
        inner = renamed.subcon
        if isinstance(inner, construct.Const):
            inner = inner.subcon
        size = renamed.sizeof()
        if isinstance(inner, construct.FormatField):
            assert inner.fmtstr[0] == "<"
            kind = CODES[inner.fmtstr[1:]][0]
        else:
            assert isinstance(inner, construct.Bytes)
            kind = f"bytes[{size}]"
        fields.append(Field(at, size, kind, renamed.name))
        at += size
    assert at == declared.sizeof()
    return fields


# --- the comparisons -----------------------------------------------------------------------------


def field_problems(text: str) -> Iterator[str]:
    """Compare each field table with what declares the record."""
    found: set[str] = set()
    for section, body in sections(text).items():
        for heading, rows in tables(body):
            if heading != FIELD_TABLE:
                continue
            if section not in DECLARED or section in found:
                yield f"section {section}: a field table that nothing is compared with"
                continue
            found.add(section)
            said = [Field(int(row[0]), int(row[1]), row[2], row[3]) for row in rows]
            for declared in DECLARED[section]:
                named = not isinstance(declared, struct.Struct)
                fields = construct_fields(declared) if named else struct_fields(declared)
                yield from _differences(section, said, fields, named)
            names = [field.name for field in said]
            if len(set(names)) != len(names):
                yield f"section {section}: a name stands twice"
            yield from _reserved(section, rows)
    for section in sorted(set(DECLARED) - found):
        yield f"section {section}: no field table"


def _differences(
    section: str, said: list[Field], declared: list[Field], named: bool
) -> Iterator[str]:
    if len(said) != len(declared):
        yield f"section {section}: {len(said)} fields, {len(declared)} in the code"
    for one, other in zip(said, declared, strict=False):
        for name in ("offset", "size", "type", "name"):
            if name == "name" and not named:
                continue
            if getattr(one, name) != getattr(other, name):
                yield f"section {section}, {one.name}: {name} {getattr(one, name)}, not " + str(
                    getattr(other, name)
                )


def _reserved(section: str, rows: list[list[str]]) -> Iterator[str]:
    """Fields are checked for zeros by their name, so name and meaning must say the same."""
    for row in rows:
        if row[3].startswith("reserved") is not (row[4] == "reserved"):
            yield f"section {section}, {row[3]}: the meaning says {row[4]}"


def place_problems(text: str) -> Iterator[str]:
    """Compare the places of fields that the code names by themselves."""
    for section, places in PLACES.items():
        rows = {row[3]: int(row[0]) for row in the_table(text, section, *FIELD_TABLE)}
        for name, at in places.items():
            if rows.get(name) != at:
                yield f"section {section}, {name}: it stands at {rows.get(name)}, not {at}"


def record_problems(text: str) -> Iterator[str]:
    """Compare magic, tags, skip_bytes, digests and the lengths that the text repeats."""
    parts = sections(text)
    start = {row[3]: row for row in the_table(text, "2.1", *FIELD_TABLE)}
    if number(start["skippable_magic"][4]) != layout.SKIPPABLE_MAGIC:
        yield "section 2.1: skippable_magic"
    if int(start["skip_bytes"][0]) + int(start["skip_bytes"][1]) != layout.SKIP_FROM:
        yield "section 2.1: skip_bytes counts from elsewhere"
    said = the_table(text, "2.1", "record", "tag (hex)", "tag (text)")
    if [row[0] for row in said] != list(TAGS):
        yield "section 2.1: the records"
    for name, tag_hex, tag_text in said:
        if TAGS.get(name) != bytes.fromhex(tag_hex) or _tag(tag_text) != bytes.fromhex(tag_hex):
            yield f"section 2.1: tag of {name}"
    for section, (size, digest_at) in RECORD_BYTES.items():
        rows = {row[3]: row for row in the_table(text, section, *FIELD_TABLE)}
        if _tag(rows["tag"][4]) != TAGS[TAG_OF[section]]:
            yield f"section {section}: tag"
        if int(rows["skip_bytes"][4].split(" + ")[0]) != size - layout.SKIP_FROM:
            yield f"section {section}: skip_bytes"
        if int(rows["digest"][0]) != digest_at:
            yield f"section {section}: place of the digest"
        behind = re.findall(r"After these (\d+) bytes", parts[section])
        behind += re.findall(r"the last (\d+) bytes of the file", parts[section])
        if behind != [str(size)]:
            yield f"section {section}: {behind} bytes in the text, not {size}"
    rows = {row[3]: row for row in the_table(text, "4.1", *FIELD_TABLE)}
    if f"+ {layout.FRAME_ROW_BYTES} x frame_count" not in rows["skip_bytes"][4]:
        yield "section 4.1: skip_bytes: length of a frame row"
    rows = {row[3]: row for row in the_table(text, "3", *FIELD_TABLE)}
    if (rows["version_major"][4], rows["version_minor"][4]) != tuple(map(str, layout.VERSION)):
        yield "section 3: version"
    if f"Version {layout.VERSION[0]}.{layout.VERSION[1]}." not in text.split("## 1.")[0]:
        yield "the version at the top"
    for last in re.findall(r"last (\d+) bytes", text):
        if int(last) != layout.FOOTER_BYTES:
            yield f"the footer has {last} bytes in the text"


def _tag(text: str) -> bytes:
    match = re.fullmatch(r"`\\x([0-9a-f]{2})(\w+)`", text)
    assert match, text
    return bytes.fromhex(match[1]) + match[2].encode()


def bound_problems(text: str) -> Iterator[str]:
    """Compare section 2.2, and where other sections repeat its numbers."""
    said = {row[0]: row[1] for row in the_table(text, "2.2", "name", "value", "bounds")}
    for name, value in said.items():
        if getattr(layout, name, None) != number(value):
            yield f"section 2.2: {name} is {value}, not {getattr(layout, name, None)}"
    in_code = {name for name in vars(layout) if re.fullmatch(r"(MAX|MIN)_[A-Z_]+", name)}
    for name in set(re.findall(r"\b(?:MAX|MIN)_[A-Z_]+", text)) - set(said):
        yield f"section 2.2: {name} is not there"
    for name in sorted(in_code - set(said) - {"MAX_NAME_BYTES"}):
        yield f"section 2.2: {name} is not there"
    body = sections(text)
    yield from _numbers("2.2", body["2.2"], r"at most ([\d,]+) frames", _most_frames())
    yield from _numbers("5.2", body["5.2"], r"holds ([\d,]+) of them", layout.DIRECTORY_PAGE_ROWS)
    yield from _numbers("6.1", body["6.1"], r"1 to ([\d,]+) ", layout.MAX_NAME_BYTES)
    mode = {row[3]: row[4] for row in the_table(text, "6.5", *FIELD_TABLE)}["mode"]
    octal = re.findall(r"at most (\d+) \(octal\)", mode)
    if [int(most, 8) for most in octal] != [layout.MODE_BITS]:
        yield f"section 6.5: a mode is at most {octal}"
    if layout.MAX_PAGE_BYTES // layout.DIRECTORY_ROW.size != layout.DIRECTORY_PAGE_ROWS:
        yield "section 2.2: DIRECTORY_PAGE_ROWS does not fit the rows"
    match = re.search(r"must not be more than n \+ n / (\d+) \+ (\d+)", body["2.2"])
    for n in (1, 255, 256, 4096, layout.MAX_FRAME_BYTES):
        most = n + n // int(match[1]) + int(match[2]) if match else 0
        if layout.max_stored_bytes(n) != most:
            yield f"section 2.2: the stored length of {n} bytes is up to {most}"
    # The zero frame: bytes and edges that section 4.3 names.
    edges = [(number(edge), tag) for edge, tag in re.findall(
        r"n < ([\d,]+): byte ([0-9a-f]{2}) \(hex\)", body["4.3"]
    )]  # fmt: skip
    edges.append((2**24, re.findall(r"else byte ([0-9a-f]{2})", body["4.3"].replace("\n", " "))[0]))
    below = 1
    for edge, tag in edges:
        for n in (below, edge - 1):
            if zero_frame(n)[4:5] != bytes.fromhex(tag):
                yield f"section 4.3: the zero frame of {n} bytes has no descriptor {tag}"
        below = edge
    yield from _numbers("4.3", body["4.3"], r"each of ([\d,]+) bytes", 131_072)


def _most_frames() -> int:
    return Geometry(layout.MAX_UNIT_BYTES, layout.MIN_FRAME_BYTES, 4096).checked().frames_per_unit


def _numbers(section: str, body: str, pattern: str, expected: int) -> Iterator[str]:
    found = [number(text) for text in re.findall(pattern, body)]
    if found != [expected]:
        yield f"section {section}: {found} in the text, not {expected}"


def value_problems(text: str) -> Iterator[str]:
    """Compare table numbers, kinds and feature bits."""
    said = the_table(text, "6", *TABLE_TABLE)
    kinds: dict[str, set[int]] = {"volume": set(), "tree": set()}
    for table, section, kind, name, rows in said:
        known = int(table)
        for one in kinds if kind == "all" else [kind]:
            kinds[one].add(known)
        if getattr(layout, f"TABLE_{name.upper()}", None) != known:
            yield f"section 6: table {table} is not {name}"
            continue
        if getattr(layout, f"SECTION_{section.upper()}") != section_of(known):
            yield f"section 6: table {table} is in another section"
        match = re.fullmatch(r"section ([\d.]+)|bytes: row_bytes is (\d+)", rows)
        assert match, rows
        width = DECLARED[match[1]][0].size if match[1] else int(match[2])
        if layout.ROW_BYTES[known] != width:
            yield f"section 6: rows of table {table} have {width} bytes"
    if [int(row[0]) for row in said] != list(layout.ROW_BYTES):
        yield "section 6: the numbers of the tables"
    for kind, numbers in kinds.items():
        in_code = layout.TABLES_OF_KIND[getattr(layout, f"KIND_{kind.upper()}")]
        if sorted(numbers) != list(in_code):
            yield f"section 6: tables of a {kind}: {sorted(numbers)}, not {list(in_code)}"
    values = (
        ("3", "kind", {"volume": layout.KIND_VOLUME, "tree": layout.KIND_TREE}),
        ("4.2", "kind", {
            "data": layout.FRAME_DATA, "zero": layout.FRAME_ZERO, "hole": layout.FRAME_HOLE
        }),
        ("5.1", "codec", {"the": layout.CODEC_STORED, "one": layout.CODEC_ZSTD}),
        ("6.1", "type", {"volume": layout.MEMBER_VOLUME}),
        ("6.5", "type", ENTRY_TYPES),
        ("6.9", "owner_kind", {"user": layout.OWNER_USER, "group": layout.OWNER_GROUP}),
    )  # fmt: skip
    for section, name, expected in values:
        meaning = {row[3]: row[4] for row in the_table(text, section, *FIELD_TABLE)}[name]
        words = r"(\d+) ([A-Za-z ]+)" if section == "6.5" else r"(\d+) ([a-z]+)"
        found = {word: int(value) for value, word in re.findall(words, meaning)}
        if found != expected:
            yield f"section {section}: {name}: {found}, not {expected}"
    meaning = {row[3]: row[4] for row in the_table(text, "5.1", *FIELD_TABLE)}
    roots = f"{layout.SECTION_CATALOGUE} for the catalogue, {layout.SECTION_INDEX} for the index"
    if roots not in meaning["page_number"]:
        yield "section 5.1: page_number of a section root"
    if not meaning["table"].endswith(f"; {layout.TABLE_ROOT} in a section root"):
        yield "section 5.1: table of a section root"
    flags = {row[3]: row[4] for row in the_table(text, "6.1", *FIELD_TABLE)}["flags"]
    bit = re.match(r"bit (\d+): the source changed", flags)
    if bit is None or 1 << int(bit[1]) != layout.MEMBER_CHANGED:
        yield "section 6.1: flags"
    yield from _tree_values(text)
    features = [
        {int(row[0]): row[1] for row in rows}
        for heading, rows in tables(sections(text)["8"])
        if heading == ["bit", "name", "meaning"]
    ]
    for said_bits, known_bits in zip(
        features, (layout.REQUIRED_FEATURE_NAMES, layout.OPTIONAL_FEATURE_NAMES), strict=True
    ):
        if said_bits != known_bits:
            yield f"section 8: features {said_bits}, not {known_bits}"


def _tree_values(text: str) -> Iterator[str]:
    """Compare what sections 6.5, 6.10 and 7 say beside the fields."""
    for flag, name, _ in the_table(text, "6.5", *FLAG_TABLE):
        bit = re.fullmatch(r"bit (\d+)", flag)
        if bit is None or getattr(layout, f"FLAG_{name.upper()}", None) != 1 << int(bit[1]):
            yield f"section 6.5: flag {name}"
    said = {row[1] for row in the_table(text, "6.5", *FLAG_TABLE)}
    if said != {name[5:].lower() for name in vars(layout) if name.startswith("FLAG_")}:
        yield f"section 6.5: flags {sorted(said)}"
    body = sections(text)["6.5"]
    if "Bits 0 to 3 are for files only, bit 4 for the root only" not in body:
        yield "section 6.5: which types may have which flag"
    places = [
        word.split(",")[0] if "mapped" in word else word
        for row in the_table(text, "6.5", *PLACE_TABLE)
        for word in ([row[0]] if "mapped" in row[0] else row[0].split(", "))
    ]
    if list(dict.fromkeys(places)) != list(ENTRY_TYPES):
        yield f"section 6.5: first and count of {places}"
    captured = {
        "names of owners": layout.CAPTURED_OWNER_NAMES,
        "extended attributes": layout.CAPTURED_ATTRIBUTES, "POSIX ACLs": layout.CAPTURED_ACLS,
        "file flags": layout.CAPTURED_FILE_FLAGS, "holes of sparse files": layout.CAPTURED_HOLES,
    }  # fmt: skip
    body = sections(text)["6.10"].replace("\n", " ")
    found = {what: 1 << int(bit) for bit, what in re.findall(r"bit (\d+) ([\w ]+)", body)}
    if found != captured:
        yield f"section 6.10: captured: {found}"
    meaning = {row[3]: row[4] for row in the_table(text, "7", *FIELD_TABLE)}["member_count"]
    counted = {kind: name for name, kind in re.findall(r"(\w+) \((\w+)\)", meaning)}
    for kind, number in (("volume", layout.KIND_VOLUME), ("tree", layout.KIND_TREE)):
        name = counted.get(kind, "")
        if getattr(layout, f"TABLE_{name.upper()}", None) != layout.MEMBER_TABLES[number]:
            yield f"section 7: member_count of a {kind} counts {name}"


def problems(text: str) -> list[str]:
    """Return every difference between the text and the code."""
    checks = (field_problems, place_problems, record_problems, bound_problems, value_problems)
    return [problem for check in checks for problem in check(text)]


# --- tests ---------------------------------------------------------------------------------------


def test_the_tables_of_the_spec_are_what_the_code_declares() -> None:
    assert problems(TEXT) == []


def test_every_table_of_the_spec_is_of_a_kind_that_is_compared() -> None:
    known = {
        ("word", "meaning"), tuple(FIELD_TABLE), ("record", "tag (hex)", "tag (text)"),
        ("name", "value", "bounds"), tuple(TABLE_TABLE),
        ("bit", "name", "meaning"), tuple(FLAG_TABLE), tuple(PLACE_TABLE),
    }  # fmt: skip
    found = [tuple(head) for body in sections(TEXT).values() for head, _ in tables(body)]
    assert set(found) == known
    assert len(found) == TEXT.count("|---|---|---") + 1
    assert found.count(tuple(FIELD_TABLE)) == len(DECLARED)


def test_every_declaration_of_the_code_is_compared() -> None:
    declared = {
        name for name, value in vars(layout).items()
        if isinstance(value, (struct.Struct, construct.Struct))
    }  # fmt: skip
    compared = {id(each) for section in DECLARED.values() for each in section}
    assert {name for name in declared if id(getattr(layout, name)) not in compared} == set()


def test_both_declarations_of_the_unit_header_give_the_same_bytes() -> None:
    values: dict[str, Any] = {
        "skip_bytes": 120 + 80, "uuid": bytes(range(16)), "unit_number": 0x0102030405060708,
        "content_bytes": 0x0A0B0C, "stored_bytes": 30, "frame_count": 2, "reserved": bytes(12),
        "stored_digest": b"\x11" * 32, "digest": b"\x22" * 32,
    }  # fmt: skip
    by_construct = layout.UNIT_HEADER.build(values)
    by_struct = layout.UNIT_HEADER_STRUCT.pack(
        layout.SKIPPABLE_MAGIC, values["skip_bytes"], layout.TAG_UNIT, *list(values.values())[1:]
    )
    assert by_construct == by_struct
    parsed = layout.UNIT_HEADER.parse(by_struct)
    fields = [parsed[renamed.name] for renamed in layout.UNIT_HEADER.subcons]
    assert fields == list(layout.UNIT_HEADER_STRUCT.unpack(by_struct))


def test_a_unit_header_that_is_packed_reads_as_it_was_made() -> None:
    rows = b"".join(layout.FRAME_ROW.pack(15, 0, bytes(3), bytes([n]) * 32) for n in range(2))
    record = unit_record(bytes(range(16)), 7, 5000, 30, b"\x11" * 32, rows)
    unit = decode_unit_header(record)
    assert (unit.uuid.bytes, unit.number, unit.content_bytes) == (bytes(range(16)), 7, 5000)
    assert (unit.stored_bytes, unit.frame_count, unit.rows) == (30, 2, rows)
    built = layout.UNIT_HEADER.build(
        {**layout.UNIT_HEADER.parse(record[:128]), "digest": bytes(32)}
    )
    assert seal(built + rows, layout.UNIT_HEADER_DIGEST_AT) == record


def test_the_mini_decoder_has_the_bounds_of_the_spec() -> None:
    names = runpy.run_path(str(ROOT / "spec" / "mini_decoder.py"))
    said = the_table(TEXT, "2.2", "name", "value", "bounds")
    assert {row[0]: names.get(row[0]) for row in said} == {row[0]: number(row[1]) for row in said}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("| 56 | 8 | u64 | unit_bytes |", "| 57 | 8 | u64 | unit_bytes |", "3, unit_bytes: offset"),
        ("| 64 | 4 | u32 | frame_bytes |", "| 64 | 8 | u32 | frame_bytes |", "frame_bytes: size"),
        ("| 72 | 8 | i64 | created_ns |", "| 72 | 8 | u64 | created_ns |", "created_ns: type"),
        ("| u32 | block_bytes |", "| u32 | block_size |", "block_size: name"),
        ("| 4 | 1 | u8 | kind |", "| 4 | 1 | i8 | kind |", "4.2, kind: type"),
        ("| 5 | 3 | bytes[3] | reserved |", "| 5 | 2 | bytes[2] | reserved |", "4.2, reserved"),
        ("| 32 | 8 | u64 | unit_number |", "| 32 | 8 | i64 | unit_number |", "4.1, unit_number"),
        ("| 21 | 3 | bytes[3] | reserved | reserved |\n", "", "section 7: 26 fields"),
        ("| 16 | 8 | u64 | run_bytes |", "| 16 | 8 | i64 | run_bytes |", "6.2, run_bytes: type"),
        ("| 28 | 4 | bytes[4] | reserved | reserved |", "| 28 | 4 | bytes[4] | reserved | unused |",
         "the meaning says unused"),
        ("0x184D2A5C", "0x184D2A50", "skippable_magic"),
        ("8e 4f 6e 67 67 69 55 4e", "8e 4f 6e 67 67 69 55 4f", "tag of unit header"),
        ("| `\\x8eOnggiFT` |\n| 16", "| `\\x8eOnggiFF` |\n| 16", "section 7: tag"),
        ("120 + 40 x frame_count", "120 + 48 x frame_count", "length of a frame row"),
        ("88 + stored_bytes", "96 + stored_bytes", "5.1: skip_bytes"),
        ("After these 96 bytes", "After these 100 bytes", "section 5.1: ['100']"),
        ("the last 328 bytes of the file", "the last 320 bytes of the file", "section 7: ['320']"),
        ("in whose last 328 bytes", "in whose last 382 bytes", "382 bytes"),
        ("| version_minor | 1 |", "| version_minor | 2 |", "section 3: version"),
        ("| 16 MiB | block_bytes |", "| 32 MiB | block_bytes |", "MAX_BLOCK_BYTES is 32 MiB"),
        ("| MAX_TABLES | 64 |", "| MOST_TABLES | 64 |", "MAX_TABLES is not there"),
        ("2^63 - 1", "2^64 - 1", "MAX_CONTENT_BYTES"),
        ("n + n / 256 + 64", "n + n / 255 + 64", "the stored length of 255"),
        ("at most 65,536 frames", "at most 65,535 frames", "section 2.2: [65535]"),
        ("holds 1,365 of them", "holds 1,366 of them", "section 5.2: [1366]"),
        ("n < 65,792: byte 64", "n < 65,536: byte 64", "zero frame of 65536"),
        ("| 4 | catalogue | all | unreadable |", "| 5 | catalogue | all | unreadable |",
         "table 5 is not"),
        ("| 16 | index | all | units |", "| 16 | catalogue | all | units |", "in another section"),
        ("| catalogue | tree | runs |", "| catalogue | volume | runs |", "tables of a volume"),
        ("| catalogue | tree | owners |", "| catalogue | all | owners |", "tables of a volume"),
        ("| catalogue | all | unreadable |", "| catalogue | tree | unreadable |", "of a volume"),
        ("| catalogue | volume | names |", "| catalogue | all | names |", "tables of a tree"),
        ("| 10 | catalogue | tree | owners |", "| 12 | catalogue | tree | owners |",
         "table 12 is not owners"),
        ("| attribute_sets | section 6.7 |", "| attribute_sets | section 6.2 |",
         "rows of table 8"),
        ("| runs | section 6.2 |", "| runs | section 6.3 |", "rows of table 6"),
        ("| MAX_ENTRY_NAME_BYTES | 255 |", "| MAX_ENTRY_NAME_BYTES | 256 |",
         "MAX_ENTRY_NAME_BYTES is 256"),
        ("| MAX_LINK_TARGET_BYTES | 4095 |", "| MAX_LINK_TARGET_BYTES | 4096 |",
         "MAX_LINK_TARGET_BYTES is 4096"),
        ("| MAX_ATTRIBUTES_BYTES | 16 MiB |", "| MAX_ATTRIBUTES_BYTES | 1 MiB |",
         "MAX_ATTRIBUTES_BYTES is 1 MiB"),
        ("| MAX_DEPTH | 65,536 |", "| MAX_DEPTH | 65,535 |", "MAX_DEPTH is 65,535"),
        ("A target has 1 to MAX_LINK_TARGET_BYTES", "A target has 1 to MAX_TARGET_BYTES",
         "MAX_TARGET_BYTES is not there"),
        ("2 file, 3 directory", "3 file, 2 directory", "section 6.5: type"),
        ("7 FIFO, 8 hard link", "7 hard link, 8 FIFO", "section 6.5: type"),
        ("at most 7777 (octal)", "at most 777 (octal)", "a mode is at most"),
        ("| 16 | 8 | i64 | mtime_ns | time of last change, ns since 1970-01-01 UTC |\n| 24",
         "| 16 | 8 | u64 | mtime_ns | time of last change, ns since 1970-01-01 UTC |\n| 24",
         "6.5, mtime_ns: type"),
        ("| 40 | 2 | u16 | name_bytes |", "| 40 | 4 | u32 | name_bytes |", "6.5, name_bytes"),
        ("| 56 | 8 | u64 | first |", "| 56 | 8 | u64 | start |", "6.5, first: it stands at None"),
        ("| 72 | 4 | u32 | link_count |", "| 72 | 4 | i32 | link_count |", "6.5, link_count: type"),
        ("| bit 3 | mapped |", "| bit 5 | mapped |", "section 6.5: flag mapped"),
        ("| bit 4 | made |", "| bit 4 | faked |", "section 6.5: flag faked"),
        ("Bits 0 to 3 are for files only", "Bits 0 to 4 are for files only", "which types"),
        ("| symbolic link | place", "| link | place", "section 6.5: first and count"),
        ("| 0 | 8 | u64 | set_offset |", "| 0 | 4 | u32 | set_offset |", "6.7, set_offset"),
        ("| 2 | 4 | u32 | value_bytes |", "| 4 | 4 | u32 | value_bytes |", "6.8, value_bytes"),
        ("| 1 | 1 | u8 | owner_name_bytes |", "| 1 | 1 | i8 | owner_name_bytes |",
         "6.9, owner_name_bytes"),
        ("1 user, 2 group", "2 user, 1 group", "section 6.9: owner_kind"),
        ("| 48 | 8 | u64 | fifos |", "| 48 | 4 | u32 | fifos |", "6.10, fifos: size"),
        ("bit 1 extended attributes", "bit 5 extended attributes", "section 6.10: captured"),
        ("rows of table members (volume)", "rows of table extents (volume)", "member_count of a"),
        ("or entries (tree)", "or runs (tree)", "member_count of a tree"),
        ("| frames | section 4.2 |", "| frames | section 6.4 |", "rows of table 17"),
        ("row_bytes is 1 |", "row_bytes is 2 |", "rows of table 3"),
        ("1 zero, 2 hole", "1 hole, 2 zero", "4.2: kind"),
        ("1 for the catalogue, 2 for", "2 for the catalogue, 1 for", "page_number"),
        ("| 2 | split |", "| 2 | spilt |", "section 8: features"),
        ("| 0 | parity |", "| 1 | parity |", "section 8: features"),
    ],
)  # fmt: skip
def test_a_changed_number_of_the_spec_is_told(old: str, new: str, told: str) -> None:
    assert old in TEXT
    found = problems(TEXT.replace(old, new, 1))
    assert any(told in problem for problem in found), found


def test_a_field_table_that_is_new_or_gone_is_told() -> None:
    table = "\n| offset | size | type | name | meaning |\n|---|---|---|---|---|\n"
    more = TEXT.replace("### 4.3 Frame\n", f"### 4.3 Frame\n{table}| 0 | 4 | u32 | x | y |\n")
    assert problems(more) == ["section 4.3: a field table that nothing is compared with"]
    gone = TEXT.replace("### 5.2 Directory row\n\n| offset |", "### 5.2 Directory row\n\n| from |")
    assert "section 5.2: no field table" in problems(gone)
