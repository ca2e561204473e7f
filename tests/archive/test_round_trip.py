"""What goes in comes out: any content, any geometry, any number of threads."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onggi.archive import layout
from onggi.archive.plan import Geometry
from onggi.archive.reader import Archive
from onggi.archive.salvage import salvage
from onggi.archive.store import MemoryStore
from onggi.archive.verify import Level, verify

# A recipe is drawn, not the bytes, so that a failure can be read.
Recipe = list[tuple[str, int]]
RECIPES = st.lists(
    st.tuples(
        st.sampled_from(["zeros", "text", "noise"]),
        st.sampled_from([1, 2, 511, 512, 4095, 4096, 4097, 8192, 20_000]),
    ),
    max_size=5,
)


def cook(recipe: Recipe) -> bytes:
    """Return the content of a recipe."""
    noise = random.Random(repr(recipe))
    parts: list[bytes] = []
    for kind, length in recipe:
        if kind == "zeros":
            parts.append(bytes(length))
        elif kind == "text":
            parts.append((b"onggi %d " % length * length)[:length])
        else:
            parts.append(noise.randbytes(length))
    return b"".join(parts)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Draw small geometries, with frames smaller and larger than units."""
    block = draw(st.sampled_from([512, 1024, 4096]))
    unit = block * draw(st.integers(1, 12))
    return Geometry(unit, 4096 * draw(st.integers(1, 4)), block)


@given(recipe=RECIPES, geometry=geometries(), stream=st.booleans())
@settings(max_examples=150)
def test_what_was_packed_is_what_is_read(
    recipe: Recipe,
    geometry: Geometry,
    stream: bool,
    packed: Callable[..., bytes],
    unpacked: Callable[..., Any],
    memory_source: Any,
) -> None:
    content = cook(recipe)
    data = packed(memory_source(content, stream=stream), geometry)
    archive = Archive(MemoryStore(data))
    assert archive.content_bytes == len(content)
    assert archive.read(0, len(content) + 1) == content
    assert unpacked(archive, threads=2) == (content, [])
    assert unpacked(archive, in_order=True) == (content, [])
    assert unpacked(archive, salvage=True) == (content, [])
    member = archive.member()
    assert (member.name, member.member_bytes) == (b"volume.img", len(content))
    assert list(archive.unreadable()) == []
    assert sum(unit.content_bytes for unit in archive.index.units()) == len(content)
    assert verify(MemoryStore(data), Level.CONTENT, threads=1).is_whole


@given(recipe=RECIPES, geometry=geometries())
@settings(max_examples=40)
def test_a_walk_finds_the_same_as_the_index(
    recipe: Recipe, geometry: Geometry, packed: Callable[..., bytes], unpacked: Callable[..., Any]
) -> None:
    content = cook(recipe)
    salvaged = salvage(MemoryStore(packed(content, geometry)))
    assert salvaged.findings == []
    assert unpacked(salvaged) == (content, [])


@given(
    recipe=RECIPES,
    geometry=geometries(),
    marks=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), max_size=4),
)
@settings(max_examples=80)
def test_the_bytes_of_an_archive_do_not_depend_on_the_number_of_threads(
    recipe: Recipe,
    geometry: Geometry,
    marks: list[tuple[int, int]],
    packed: Callable[..., bytes],
    unpacked: Callable[..., Any],
    memory_source: Any,
) -> None:
    holes: list[tuple[int, int]] = []
    content = cook(recipe)
    whole = bytearray(content)
    for first, blocks in sorted(marks):
        start, end = first * 2048, min((first + blocks) * 2048, len(content))
        if start < end and (not holes or holes[-1][1] < start):
            holes.append((start, end))
            whole[start:end] = bytes(end - start)
    sources = [memory_source(bytes(whole), holes=holes) for _ in range(3)]
    one, two, five = (
        packed(source, geometry, threads=n) for source, n in zip(sources, (1, 2, 5), strict=True)
    )
    assert one == two == five
    got, findings = unpacked(Archive(MemoryStore(one)), threads=5)
    assert got == whole
    assert findings == []


def test_a_stream_gives_the_same_content_digest_as_a_file(
    packed: Callable[..., bytes], letters: Callable[..., bytes], memory_source: Any
) -> None:
    content = letters("ab0c", tail=3)
    streamed = Archive(MemoryStore(packed(memory_source(content, stream=True))))
    read = Archive(MemoryStore(packed(content)))
    assert streamed.footer.content_digest == read.footer.content_digest


@given(data=st.data())
@settings(max_examples=100)
def test_a_read_equals_the_slice(
    data: st.DataObject, packed: Callable[..., bytes], letters: Callable[..., bytes]
) -> None:
    content = letters("ab0cd00e", tail=77)
    archive = Archive(MemoryStore(_once(packed, content)))
    for _ in range(20):
        offset = data.draw(st.integers(0, len(content) + 10))
        size = data.draw(st.integers(0, len(content)))
        assert archive.read(offset, size) == content[offset : offset + size]


_kept: dict[bytes, bytes] = {}


def _once(packed: Callable[..., bytes], content: bytes) -> bytes:
    if content not in _kept:
        _kept[content] = packed(content)
    return _kept[content]


EDGES = sorted({n + d for n in (0, 4096, 8192, 16_384, 20_480, 32_768) for d in (-1, 0, 1)} - {-1})


@pytest.mark.parametrize("length", EDGES)
def test_contents_that_end_around_the_edges_of_frames_and_units(
    length: int, packed: Callable[..., bytes], unpacked: Callable[..., Any], content: Any
) -> None:
    whole = content(length, seed=length)
    data = packed(whole)
    archive = Archive(MemoryStore(data))
    assert archive.footer.unit_count == -(-length // 16_384)
    assert archive.footer.frame_count == -(-length // 4096)
    assert unpacked(archive) == (whole, [])
    assert verify(MemoryStore(data), Level.CONTENT, threads=2).is_whole


@pytest.mark.parametrize("offset", EDGES)
def test_reads_that_begin_and_end_around_the_edges_of_frames_and_units(
    offset: int, packed: Callable[..., bytes], content: Any
) -> None:
    whole = content(33_000, seed=3)
    archive = Archive(MemoryStore(_once(packed, whole)))
    for size in (0, 1, 4095, 4096, 4097, 16_383, 16_384, 16_385, 40_000):
        assert archive.read(offset, size) == whole[offset : offset + size]


@pytest.mark.parametrize("frames", [1637, 1638, 1639, 3276, 3277])
def test_frame_tables_around_the_edges_of_a_page(
    frames: int, packed: Callable[..., bytes], unpacked: Callable[..., Any]
) -> None:
    """A page of frame rows holds 65,536 / 40 = 1,638."""
    geometry = Geometry(4096 * 64, 4096, 4096)
    whole = b"".join(n.to_bytes(4, "little") * 1024 for n in range(1, frames + 1))
    archive = Archive(MemoryStore(packed(whole, geometry)))
    assert archive.tables[layout.TABLE_FRAMES].descriptor.levels == (1 if frames <= 1638 else 2)
    assert archive.read(0, len(whole)) == whole
    assert unpacked(archive, threads=2) == (whole, [])


@pytest.mark.parametrize("units", [1023, 1024, 1025])
def test_unit_tables_around_the_edges_of_a_page(units: int, packed: Callable[..., bytes]) -> None:
    """A page of unit rows holds 65,536 / 64 = 1,024."""
    geometry = Geometry(512, 4096, 512)
    whole = b"".join(n.to_bytes(4, "little") * 128 for n in range(1, units + 1))
    data = packed(whole, geometry, threads=2)
    archive = Archive(MemoryStore(data))
    assert archive.tables[layout.TABLE_UNITS].descriptor.levels == (1 if units <= 1024 else 2)
    assert archive.read(512 * 1022, 5000) == whole[512 * 1022 : 512 * 1022 + 5000]
    assert verify(MemoryStore(data), Level.CONTENT, threads=2).is_whole


def test_one_name_of_any_allowed_length_is_kept(packed: Callable[..., bytes]) -> None:
    for length in (1, 255, 65_535):
        archive = Archive(MemoryStore(packed(b"x", name=b"n" * length)))
        assert archive.member().name == b"n" * length
