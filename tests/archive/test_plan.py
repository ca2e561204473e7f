"""The arithmetic of units and frames, and the two ways in which a unit header is declared."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.archive import layout
from onggi.archive.errors import BadUseError
from onggi.archive.plan import Geometry, ceil_div

KIB, MIB = 1024, 1024 * 1024


@pytest.mark.parametrize(
    ("unit", "frame", "block", "problem"),
    [
        (512, 4096, 512, None),
        (256 * MIB, 16 * MIB, 16 * MIB, None),
        (20 * MIB, MIB, 4096, None),
        (511, 4096, 512, "unit size"),
        (513, 4096, 512, "unit size"),
        (0, 4096, 512, "unit size"),
        (256 * MIB + 512, 4096, 512, "unit size"),
        (8192, 4095, 4096, "frame size"),
        (8192, 4097, 4096, "frame size"),
        (8192, 0, 4096, "frame size"),
        (8192, 16 * MIB + 4096, 4096, "frame size"),
        (8192, 4096, 511, "block size"),
        (8192, 4096, 513, "block size"),
        (8192, 4096, 256, "block size"),
        (8192, 4096, 0, "block size"),
        (8192, 4096, 1536, "block size"),
        (64 * MIB, 4096, 32 * MIB, "block size"),
        (4096, 4096, 8192, "unit size"),
    ],
)
def test_sizes_out_of_bounds_are_told(
    unit: int, frame: int, block: int, problem: str | None
) -> None:
    geometry = Geometry(unit, frame, block)
    if problem is None:
        assert geometry.problem() is None
        assert geometry.checked() is geometry
    else:
        assert problem in (geometry.problem() or "")
        with pytest.raises(BadUseError, match=problem):
            geometry.checked()


@given(
    unit=st.integers(1, 100), frame=st.integers(1, 40), content=st.integers(0, 1000)
)  # fmt: skip
def test_the_arithmetic_is_that_of_a_plain_walk(unit: int, frame: int, content: int) -> None:
    geometry = Geometry(unit, frame, 1)
    units = [min(unit, content - at) for at in range(0, content, unit)]
    frames = [[min(frame, length - at) for at in range(0, length, frame)] for length in units]
    assert geometry.unit_count(content) == len(units)
    assert geometry.total_frames(content) == sum(map(len, frames))
    assert geometry.frames_per_unit == len(range(0, unit, frame))
    for number, length in enumerate(units):
        assert geometry.unit_length(number, content) == length
        assert geometry.frame_lengths(length) == frames[number]
        assert geometry.frame_count(length) == len(frames[number])
    places = [
        (number, piece, at)
        for number, lengths in enumerate(frames)
        for piece, length in enumerate(lengths)
        for at in range(length)
    ]
    assert [geometry.locate(offset) for offset in range(content)] == places


def test_division_is_rounded_up() -> None:
    assert [ceil_div(n, 4) for n in (0, 1, 4, 5, 8)] == [0, 1, 1, 2, 2]
    assert ceil_div(2**64, 3) == (2**64 + 2) // 3


def test_a_unit_header_is_the_same_in_both_declarations() -> None:
    noise = random.Random(1)
    for _ in range(20):
        values = (
            layout.SKIPPABLE_MAGIC, noise.getrandbits(32), layout.TAG_UNIT, noise.randbytes(16),
            noise.getrandbits(64), noise.getrandbits(32), noise.getrandbits(32),
            noise.getrandbits(32), noise.randbytes(12), noise.randbytes(32), noise.randbytes(32),
        )  # fmt: skip
        record = layout.UNIT_HEADER_STRUCT.pack(*values)
        names = [each.name for each in layout.UNIT_HEADER.subcons]
        parsed = layout.UNIT_HEADER.parse(record)
        assert tuple(parsed[name] for name in names) == values
        assert layout.UNIT_HEADER.build(dict(zip(names, values, strict=True))) == record


def test_each_digest_stands_where_the_layout_says() -> None:
    for declared, digest_at in (
        (layout.HEADER, layout.HEADER_DIGEST_AT),
        (layout.UNIT_HEADER, layout.UNIT_HEADER_DIGEST_AT),
        (layout.PAGE, layout.PAGE_DIGEST_AT),
        (layout.FOOTER, layout.FOOTER_DIGEST_AT),
    ):
        offset = 0
        for each in declared.subcons:
            if each.name == "digest":
                assert offset == digest_at
            offset += each.sizeof()
