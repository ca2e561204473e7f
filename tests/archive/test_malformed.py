"""Whatever the bytes are, only the engine's own errors leave it, and soon."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from onggi.archive import layout
from onggi.archive.errors import OnggiError
from onggi.archive.extract import unpack
from onggi.archive.reader import Archive, Content
from onggi.archive.salvage import salvage
from onggi.archive.store import MemoryStore
from onggi.archive.verify import Level, verify

_SOON_S = 20


class _Nowhere:
    """A sink that keeps nothing, but sees that nothing is put beyond the end."""

    in_order = False

    def __init__(self, content_bytes: int) -> None:
        self._content_bytes = content_bytes

    def put(self, content_offset: int, content: bytes) -> None:
        self.put_zeros(content_offset, len(content))

    def put_zeros(self, content_offset: int, length: int) -> None:
        assert 0 <= content_offset < content_offset + length <= self._content_bytes

    def commit(self) -> None:
        pass

    def discard(self) -> None:
        pass


def try_all(data: bytes) -> None:
    """Do everything that can be done with an archive; errors of the engine are fine."""
    began_s = time.monotonic()
    store = MemoryStore(data)
    steps: list[Callable[[], object]] = [
        lambda: _read(Archive(store)),
        lambda: _unpack(Archive(store)),
        lambda: Archive(store).member(),
        lambda: list(Archive(store).unreadable()),
        lambda: _unpack_salvaged(salvage(store)),
        *(lambda level=level: verify(store, level, threads=1) for level in Level),
    ]
    for step in steps:
        try:
            step()
        except OnggiError:
            continue
    assert time.monotonic() - began_s < _SOON_S


def _read(archive: Archive) -> None:
    for offset in (0, 4095, 16_384, archive.content_bytes - 1):
        try:
            archive.read(max(offset, 0), 5000)
        except OnggiError:
            continue


def _unpack(archive: Content) -> None:
    unpack(archive, _Nowhere(archive.content_bytes), threads=1)


def _unpack_salvaged(salvaged: Content) -> None:
    assert 0 <= salvaged.content_bytes <= layout.MAX_CONTENT_BYTES
    unpack(salvaged, _Nowhere(salvaged.content_bytes), threads=1, salvage=True)


@pytest.fixture(scope="module")
def good(packed: Callable[..., bytes], letters: Callable[..., bytes], memory_source: Any) -> bytes:
    content = letters("ab00cd", tail=5)
    source = memory_source(content, holes=[(12_288, 16_384)], unreadable=[(0, 512)])
    return packed(source, facts={"host": "h"})


@pytest.fixture(scope="module")
def other(packed: Callable[..., bytes], letters: Callable[..., bytes]) -> bytes:
    return packed(letters("xyz"), facts={"more": "facts"}, name=b"other")


@given(head=st.sampled_from([b"", b"\x5c\x2a\x4d\x18", b"\x5c\x2a\x4d\x18\x78\0\0\0\x8eOnggiHD"]),
       tail=st.sampled_from([b"", b"\x5c\x2a\x4d\x18\x40\1\0\0\x8eOnggiFT" + bytes(312)]),
       middle=st.binary(max_size=700))  # fmt: skip
@settings(max_examples=200)
def test_random_bytes(head: bytes, tail: bytes, middle: bytes) -> None:
    try_all(head + middle + tail)


@given(data=st.data())
@settings(max_examples=200)
def test_random_changes_of_a_good_archive(data: st.DataObject, good: bytes) -> None:
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(bad) - 1))
        new = data.draw(st.binary(min_size=1, max_size=9))
        bad[at : at + len(new)] = new
    try_all(bytes(bad))


@given(data=st.data())
@settings(max_examples=100)
def test_random_cuts_of_a_good_archive(data: st.DataObject, good: bytes) -> None:
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(0, len(good)))
    try_all(good[:end])
    try_all(good[start:])
    try_all(good[:start] + good[end:])


@given(data=st.data())
@settings(max_examples=100)
def test_random_splices_of_good_archives(data: st.DataObject, good: bytes, other: bytes) -> None:
    spliced = b""
    for _ in range(data.draw(st.integers(1, 4))):
        whole = data.draw(st.sampled_from([good, other]))
        bounds = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
        spliced += whole[bounds[0] : bounds[1]]
    try_all(spliced + data.draw(st.sampled_from([b"", good[-328:], other[-328:]])))


# What follows has right digests: the checks that digests hide meet it.

_NUMBERS = st.one_of(
    st.sampled_from(
        [0, 1, 2, 511, 512, 4096, 2**16, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
    ),
    st.integers(0, 2**64 - 1),
    st.integers(0, 100_000),
)
_HEADER = {"version_major": 2, "version_minor": 2, "kind": 1, "required_features": 8,
           "optional_features": 8, "unit_bytes": 8, "frame_bytes": 4, "block_bytes": 4,
           "facts_bytes": 4, "skip_bytes": 4}  # fmt: skip
_FOOTER = {"kind": 1, "version_minor": 2, "archive_bytes": 8, "content_bytes": 8, "unit_count": 8,
           "frame_count": 8, "stored_bytes": 8, "zero_bytes": 8, "hole_bytes": 8,
           "unreadable_bytes": 8, "member_count": 8, "catalogue_offset": 8, "index_offset": 8,
           "catalogue_record_bytes": 4, "index_record_bytes": 4, "skip_bytes": 4}  # fmt: skip
_DESCRIPTOR = {"table": 2, "row_bytes": 2, "page_rows": 4, "rows": 8, "levels": 1, "top_offset": 8,
               "top_record_bytes": 4}  # fmt: skip
_PAGE = {"table": 2, "level": 1, "codec": 1, "raw_bytes": 4, "page_number": 8, "stored_bytes": 4,
         "skip_bytes": 4}  # fmt: skip
_PAGES = [(1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0), (16, 0, 0), (17, 0, 0), (17, 0, 1),
          (17, 1, 0), (0, 0, 1), (0, 0, 2)]  # fmt: skip


def _overrides(data: st.DataObject, fields: dict[str, int], most: int) -> dict[str, int]:
    names = data.draw(st.lists(st.sampled_from(sorted(fields)), max_size=most, unique=True))
    return {name: data.draw(_NUMBERS) % 256 ** fields[name] for name in names}


@given(data=st.data())
@settings(max_examples=400)
def test_forged_fields_under_right_digests(data: st.DataObject, forge: Any) -> None:
    """Each record of an archive says what it likes."""
    forged = forge(_CONTENT, holes=[3], unreadable=[(0, 512)], name=b"name")
    forged.page_rows[layout.TABLE_FRAMES] = 5
    kind = data.draw(st.sampled_from(["header", "footer", "descriptor", "page", "rows", "unit"]))
    if kind == "header":
        forged.header = _overrides(data, _HEADER, 3)
    elif kind == "footer":
        forged.footer = _overrides(data, _FOOTER, 4)
    elif kind == "descriptor":
        forged.descriptors[data.draw(st.sampled_from(sorted(layout.ROW_BYTES)))] = _overrides(
            data, _DESCRIPTOR, 3
        )
    elif kind == "page":
        forged.pages[data.draw(st.sampled_from(_PAGES))] = _overrides(data, _PAGE, 3)
    elif kind == "rows":
        forged.pages[data.draw(st.sampled_from(_PAGES))] = {"raw": _edit(data)}
    else:
        unit = data.draw(st.sampled_from(forged.units))
        unit["rows"] = _edit(data)(unit["rows"])
        unit["payload"] = _edit(data)(unit["payload"])
        for name, bytes_of in (("number", 8), ("content_bytes", 4)):
            if data.draw(st.booleans()):
                unit[name] = data.draw(_NUMBERS) % 256**bytes_of
    whole = forged.build()
    cut = data.draw(st.sampled_from([0, 0, 1, 329, len(whole) // 3]))
    assume(cut < len(whole))
    try_all(whole[: len(whole) - cut])


_CONTENT = b"".join(random.Random(n).randbytes(8) * 512 for n in range(3)) + bytes(8192) + b"end"


def _edit(data: st.DataObject) -> Callable[[bytes], bytes]:
    """Return a function that puts a number somewhere into rows, or cuts them."""
    number = data.draw(_NUMBERS)
    width = data.draw(st.sampled_from([1, 2, 4, 8]))
    place = data.draw(st.integers(0, 2**16))
    cut = data.draw(st.sampled_from([0, 0, 0, 1, 40]))

    def edit(rows: bytes) -> bytes:
        at = place % max(len(rows), 1)
        new = (number % 256**width).to_bytes(width, "little")
        edited = (rows[:at] + new + rows[at + width :])[: max(len(rows) - cut, 1)]
        return edited[: layout.MAX_PAGE_BYTES]

    return edit
