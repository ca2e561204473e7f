"""Rows of a tree: every rule that one row alone can break, at its bounds."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.archive import layout
from onggi.archive.entry import (
    TYPE_WORDS,
    Counter,
    Entry,
    Owner,
    Summary,
    decode_attribute_set,
    decode_attributes,
    decode_entry,
    decode_owners,
    encode_attributes,
    encode_entry,
    encode_owner,
    is_entry_name,
)
from onggi.archive.errors import DamagedError

FILE, DIRECTORY, SYMLINK = layout.ENTRY_FILE, layout.ENTRY_DIRECTORY, layout.ENTRY_SYMLINK
CHARACTER, BLOCK = layout.ENTRY_CHARACTER_DEVICE, layout.ENTRY_BLOCK_DEVICE
FIFO, HARD_LINK = layout.ENTRY_FIFO, layout.ENTRY_HARD_LINK

_BASE: dict[str, int] = {
    "type": FILE, "flags": 0, "mode": 0o644, "uid": 1, "gid": 2, "file_flags": 3, "mtime_ns": -4,
    "parent": 3, "name_offset": 10, "name_bytes": 5, "attributes": 1, "member_bytes": 0, "first": 0,
    "total": 0, "link_count": 1,
}  # fmt: skip
_LINK: dict[str, int] = dict.fromkeys(_BASE, 0) | {
    "type": HARD_LINK, "parent": 3, "name_offset": 10, "name_bytes": 5, "first": 6,
}  # fmt: skip
_OF_TYPE: dict[int, dict[str, int]] = {
    FILE: {},
    DIRECTORY: {},
    SYMLINK: {"member_bytes": 1},
    CHARACTER: {"first": 1, "total": 3},
    BLOCK: {"first": 8},
    FIFO: {},
}


def entry(kind: int, row: int = 7, **fields: int) -> Entry:
    """Return an entry of a type, good but for the fields that are given."""
    known = _LINK if kind == HARD_LINK else _BASE | _OF_TYPE[kind] | {"type": kind}
    return Entry(row=row, **(known | fields))


def decoded(one: Entry) -> Entry:
    """Return what the row of an entry says."""
    return decode_entry(one.row, encode_entry(one))


@pytest.mark.parametrize("kind", sorted(TYPE_WORDS))
def test_an_entry_of_each_type_is_read_as_it_was_written(kind: int) -> None:
    assert decoded(entry(kind)) == entry(kind)


def test_a_root_is_read_as_it_was_written() -> None:
    for flags in (0, layout.FLAG_MADE):
        root = entry(
            DIRECTORY, 0, parent=0, name_offset=0, name_bytes=0, first=1, total=2, flags=flags
        )  # fmt: skip
        assert decoded(root) == root


GOOD: list[tuple[int, dict[str, int]]] = [
    (FILE, {"mode": 0}),
    (FILE, {"mode": 0o7777, "uid": 2**32 - 1, "gid": 2**32 - 1, "file_flags": 2**32 - 1}),
    (FILE, {"mtime_ns": -(2**63)}),
    (FILE, {"mtime_ns": 2**63 - 1}),
    (FILE, {"name_bytes": 1}),
    (FILE, {"name_bytes": 255, "name_offset": 2**64 - 1}),
    (FILE, {"parent": 6}),
    (FILE, {"parent": 0}),
    (FILE, {"link_count": 2**32 - 1}),
    (FILE, {"attributes": 2**32 - 1}),
    (FILE, {"member_bytes": 1, "first": 0}),
    (FILE, {"member_bytes": 2**63 - 1, "first": 2**64 - 1}),
    (FILE, {"flags": 7, "member_bytes": 5}),
    (FILE, {"flags": 11, "member_bytes": 5, "first": 2**64 - 1, "total": 2**64 - 1}),
    (FILE, {"flags": 8, "first": 9}),
    (DIRECTORY, {"first": 8, "total": 1}),
    (DIRECTORY, {"first": 2**64 - 1, "total": 2**64 - 1}),
    (SYMLINK, {"member_bytes": 4095, "first": 2**64 - 1}),
    (CHARACTER, {"first": 2**32 - 1, "total": 2**32 - 1}),
    (BLOCK, {"first": 0, "total": 0}),
    (HARD_LINK, {"first": 0}),
    (HARD_LINK, {"name_bytes": 255, "parent": 0}),
]


@pytest.mark.parametrize(("kind", "fields"), GOOD)
def test_what_stands_at_a_bound_is_good(kind: int, fields: dict[str, int]) -> None:
    assert decoded(entry(kind, **fields)) == entry(kind, **fields)


BAD: list[tuple[int, dict[str, int], str]] = [
    *((FILE, {"type": kind}, "unknown type") for kind in (0, 1, 9, 255)),
    *((FILE, {"flags": 1 << bit}, "flag") for bit in range(4, 8)),
    *((DIRECTORY, {"flags": 1 << bit}, "flag") for bit in (0, 1, 2, 3, 5, 6, 7)),
    *(
        (kind, {"flags": 1 << bit}, "flag")
        for kind in (SYMLINK, CHARACTER, BLOCK, FIFO, HARD_LINK)
        for bit in range(8)
    ),
    *((kind, {"mode": 0o10000}, "mode") for kind in TYPE_WORDS),
    (FILE, {"flags": 12, "member_bytes": 5}, "shared"),
    (DIRECTORY, {"flags": 16}, "only the root"),
    *((kind, {"name_bytes": size}, "name") for kind in TYPE_WORDS for size in (0, 256, 65_535)),
    *((kind, {"parent": row}, "before its directory") for kind in TYPE_WORDS for row in (7, 8)),
    (FILE, {"parent": 2**64 - 1}, "before its directory"),
    *(
        (HARD_LINK, {name: 1}, "metadata of its own")
        for name in ("mode", "uid", "gid", "file_flags", "mtime_ns", "attributes", "member_bytes",
                     "total", "link_count")
    ),
    (HARD_LINK, {"mtime_ns": -1}, "metadata of its own"),
    (HARD_LINK, {"first": 7}, "before its target"),
    (HARD_LINK, {"first": 2**64 - 1}, "before its target"),
    *((kind, {"link_count": 0}, "links is 0") for kind in TYPE_WORDS if kind != HARD_LINK),
    (DIRECTORY, {"member_bytes": 1}, "children"),
    (DIRECTORY, {"first": 1}, "children"),
    (DIRECTORY, {"total": 1}, "children"),
    (DIRECTORY, {"first": 7, "total": 1}, "children"),
    (DIRECTORY, {"first": 6, "total": 1}, "children"),
    (SYMLINK, {"member_bytes": 0}, "target"),
    (SYMLINK, {"member_bytes": 4096}, "target"),
    (SYMLINK, {"total": 1}, "target"),
    *(
        (kind, fields, "device number")
        for kind in (CHARACTER, BLOCK)
        for fields in ({"first": 2**32}, {"total": 2**32}, {"member_bytes": 1})
    ),
    (FIFO, {"first": 1}, "FIFO"),
    (FIFO, {"total": 1}, "FIFO"),
    (FIFO, {"member_bytes": 1}, "FIFO"),
    (FILE, {"member_bytes": 2**63}, "length"),
    (FILE, {"flags": 8, "member_bytes": 2**63}, "length"),
    (FILE, {"member_bytes": 5, "total": 1}, "content"),
    (FILE, {"first": 1}, "content"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fields", "words"), BAD)
def test_what_a_row_can_not_say_is_damage(kind: int, fields: dict[str, int], words: str) -> None:
    with pytest.raises(DamagedError, match=words) as caught:
        decoded(entry(kind, **fields))
    assert "entry 7" in str(caught.value)
    assert caught.value.part == "catalogue"


@pytest.mark.parametrize(
    "fields",
    [{"type": FILE}, {"type": HARD_LINK}, {"name_bytes": 1}, {"name_offset": 1}, {"parent": 1}],
)
def test_a_root_that_is_none_is_damage(fields: dict[str, int]) -> None:
    root = {"parent": 0, "name_offset": 0, "name_bytes": 0} | fields
    with pytest.raises(DamagedError, match="root"):
        decoded(entry(DIRECTORY, 0, **root))


@pytest.mark.parametrize("at", [42, 43, 76, 77, 78, 79])
def test_reserved_bytes_of_an_entry_are_zero(at: int) -> None:
    raw = bytearray(encode_entry(entry(FILE)))
    raw[at] = 1
    with pytest.raises(DamagedError, match="reserved"):
        decode_entry(7, bytes(raw))


@given(raw=st.binary(min_size=80, max_size=80), row=st.integers(0, 2**40))
def test_any_row_is_read_as_it_stands_or_is_damage(raw: bytes, row: int) -> None:
    try:
        found = decode_entry(row, raw)
    except DamagedError:
        return
    assert encode_entry(found) == raw


@given(
    kind=st.sampled_from(sorted(TYPE_WORDS)), name=st.sampled_from(sorted(_BASE)),
    number=st.integers(0, 2**64 - 1), row=st.integers(0, 9),
)  # fmt: skip
def test_what_is_read_can_be_written_again(kind: int, name: str, number: int, row: int) -> None:
    widths = {"type": 8, "flags": 8, "mode": 16, "name_bytes": 16, "mtime_ns": 63, "parent": 64,
              "name_offset": 64, "member_bytes": 64, "first": 64, "total": 64}  # fmt: skip
    one = entry(kind, row, **{name: number % 2 ** widths.get(name, 32)})
    with suppress(DamagedError):
        assert decoded(one) == one


def test_an_entry_tells_what_it_is() -> None:
    kinds = {kind: entry(kind) for kind in TYPE_WORDS}
    assert [kind for kind, one in kinds.items() if one.is_directory] == [DIRECTORY]
    assert [kind for kind, one in kinds.items() if one.is_file] == [FILE]
    assert [kind for kind, one in kinds.items() if one.is_device] == [CHARACTER, BLOCK]
    assert entry(FILE, flags=8).is_mapped
    assert not entry(FILE, flags=7).is_mapped


@pytest.mark.parametrize(
    ("name", "good"),
    [(b"a", True), (b"...", True), (b"n" * 255, True), (b"\n", True), (b"\xff", True), (b" ", True),
     (b"", False), (b".", False), (b"..", False), (b"n" * 256, False), (b"a/b", False),
     (b"/", False), (b"a\0", False), (b"\0", False)],
)  # fmt: skip
def test_a_name_is_one_component_of_a_path(name: bytes, good: bool) -> None:
    assert is_entry_name(name) is good


# --- attributes ----------------------------------------------------------------------------------

_NAMES = st.binary(min_size=1, max_size=255).filter(lambda name: 0 not in name)


@given(attributes=st.dictionaries(_NAMES, st.binary(max_size=40), max_size=6))
def test_attributes_are_read_as_they_were_written(attributes: dict[bytes, bytes]) -> None:
    pairs = list(attributes.items())
    assert encode_attributes(pairs) == encode_attributes(reversed(pairs))
    assert decode_attributes(encode_attributes(pairs)) == sorted(pairs)


@given(data=st.binary(max_size=60))
def test_any_bytes_are_attributes_or_damage(data: bytes) -> None:
    try:
        found = decode_attributes(data)
    except DamagedError:
        return
    assert encode_attributes(found) == data


def attribute(
    name: bytes, value: bytes, *, name_bytes: int | None = None, value_bytes: int | None = None
) -> bytes:
    """Return an attribute with lengths that need not be right."""
    lengths = (
        len(name) if name_bytes is None else name_bytes,
        len(value) if value_bytes is None else value_bytes,
    )
    return layout.ATTRIBUTE.pack(*lengths) + name + value


@pytest.mark.parametrize(
    "data",
    [
        b"\0", b"\0" * 6, attribute(b"a", b"")[:-1], attribute(b"", b""), attribute(b"", b"x"),
        attribute(b"n" * 256, b""), attribute(b"a", b"v", value_bytes=2),
        attribute(b"a", b"v", name_bytes=3),
        attribute(b"a", b"v", value_bytes=2**32 - 1), attribute(b"a", b"v", value_bytes=0),
        attribute(b"b", b"") + attribute(b"a", b""), attribute(b"a", b"") + attribute(b"a", b"x"),
        attribute(b"a\0", b""), attribute(b"a", b"") + b"\0\0\0",
        attribute(b"a", b"", name_bytes=65_535),
    ],
)  # fmt: skip
def test_attributes_that_can_not_be_are_damage(data: bytes) -> None:
    with pytest.raises(DamagedError, match="attribute"):
        decode_attributes(data)


def test_a_long_name_and_an_empty_value_are_good() -> None:
    pairs = [(b"n" * 255, b""), (b"o", b"v" * 70_000)]
    assert decode_attributes(encode_attributes(pairs)) == pairs
    assert decode_attributes(b"") == []


@pytest.mark.parametrize(
    ("offset", "size", "reserved", "good"),
    [(0, 1, 0, True), (2**64 - 1, 2**24, 0, True), (0, 0, 0, False), (0, 2**24 + 1, 0, False),
     (0, 2**32 - 1, 0, False), (0, 1, 1, False), (0, 1, 2**31, False)],
)  # fmt: skip
def test_a_set_has_bounds(offset: int, size: int, reserved: int, good: bool) -> None:
    raw = layout.ATTRIBUTE_SET_ROW.pack(offset, size, reserved.to_bytes(4, "little"))
    if good:
        assert decode_attribute_set(raw) == (offset, size)
        return
    with pytest.raises(DamagedError, match="out of bounds"):
        decode_attribute_set(raw)


# --- owners --------------------------------------------------------------------------------------


def test_owners_are_read_as_they_were_written_in_any_pages() -> None:
    owners = [Owner(1, 0, 5, 1), Owner(1, 2**32 - 1, 2**64 - 1, 255), Owner(2, 0, 0, 4),
              Owner(2, 7, 9, 1)]  # fmt: skip
    raw = b"".join(map(encode_owner, owners))
    for size in (16, 32, 48, 64):
        pages = [raw[at : at + size] for at in range(0, len(raw), size)]
        assert list(decode_owners(pages)) == owners
    assert list(decode_owners([])) == []


@pytest.mark.parametrize(
    ("owners", "words"),
    [
        ([Owner(0, 1, 0, 1)], "wrong"),
        ([Owner(3, 1, 0, 1)], "wrong"),
        ([Owner(1, 1, 0, 0)], "wrong"),
        ([Owner(1, 1, 0, 1), Owner(1, 1, 0, 1)], "order"),
        ([Owner(1, 1, 0, 1), Owner(1, 0, 0, 1)], "order"),
        ([Owner(2, 0, 0, 1), Owner(1, 5, 0, 1)], "order"),
    ],
)
def test_owners_that_can_not_be_are_damage(owners: list[Owner], words: str) -> None:
    with pytest.raises(DamagedError, match=words):
        list(decode_owners([encode_owner(owner) for owner in owners]))


@pytest.mark.parametrize("at", [2, 3])
def test_reserved_bytes_of_an_owner_are_zero(at: int) -> None:
    raw = bytearray(encode_owner(Owner(1, 1, 0, 1)))
    raw[at] = 1
    with pytest.raises(DamagedError, match="wrong"):
        list(decode_owners([bytes(raw)]))


# --- totals --------------------------------------------------------------------------------------


def test_a_counter_counts_each_type_in_its_place() -> None:
    counter = Counter()
    kinds = [FILE] * 2 + [DIRECTORY] * 3 + [SYMLINK] * 4 + [HARD_LINK] * 5 + [CHARACTER, BLOCK] * 3
    for kind in [*kinds, *[FIFO] * 7]:
        counter.add(kind, 10)
    summary = counter.summary(31)
    assert summary == Summary(
        captured=31, files=2, directories=3, symlinks=4, hard_links=5, devices=6, fifos=7,
        file_bytes=20,
    )  # fmt: skip
    assert summary.entries == 27


def test_the_sum_of_the_lengths_of_files_has_a_bound() -> None:
    """The files of a tree may share content, so that they are longer than an archive can be."""
    counter = Counter()
    counter.add(FILE, 2**63 - 2)
    assert counter.summary(0).file_bytes == 2**63 - 2
    for _ in range(3):
        counter.add(FILE, 1)
        assert counter.summary(0).file_bytes == 2**63 - 1


def test_the_words_for_types_are_all_different() -> None:
    words: Any = TYPE_WORDS.values()
    assert len(set(words)) == len(TYPE_WORDS) == 7
