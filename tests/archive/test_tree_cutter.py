"""Content cut into units: nothing is lost, nothing is twice, and all stands where it was said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.archive.files import Found
from onggi.archive.folders import Folder
from onggi.archive.unit_plan import Cutter, UnitPlan

from .tree_helpers import noise

FOLDERS = [Folder(None, b"%d" % number) for number in range(3)]


def found(number: int) -> Found:
    """Return a file whose content is `noise(size, number)`."""
    return Found(b"f%d" % number, *(0,) * 7, number, *(0,) * 4, b"", 0)


@dataclass
class Taken:
    """A cutter, and what its content must be.

    Attributes:
        content: all that it was given.
        spans: (row, member offset, content offset, length) of the spans as they were given.
        units: what it gave out.
    """

    unit_bytes: int
    content: bytearray = field(default_factory=bytearray)
    spans: list[tuple[int, int, int, int]] = field(default_factory=list[tuple[int, int, int, int]])
    units: list[UnitPlan] = field(default_factory=list[UnitPlan])

    def __post_init__(self) -> None:
        self.cutter = Cutter(self.unit_bytes)

    def drain(self) -> None:
        """Take the units that are ready."""
        while self.cutter.ready:
            self.units.append(self.cutter.ready.popleft())

    def literal(self, data: bytes) -> None:
        """Give bytes as they are."""
        self.cutter.literal(data)
        self.content += data
        self.check()

    def pad(self, zeros: int) -> None:
        """Give zeros."""
        self.cutter.pad(zeros)
        self.content += bytes(zeros)
        self.check()

    def span(self, row: int, folder: int, member_offset: int, length: int, lazy: bool) -> None:
        """Give a span; drain at each step, or, if `lazy`, not yet."""
        data = noise(member_offset + length, row)[member_offset:]
        self.spans.append((row, member_offset, self.cutter.offset, length))
        for _ in self.cutter.span(FOLDERS[folder], found(row), row, member_offset, length):
            assert self.cutter.ready
            if not lazy:
                self.drain()
        self.content += data
        self.check()

    def small_span(self, row: int, folder: int, length: int) -> None:
        """Give the whole of a file that fits, as files in bulk are given."""
        self.spans.append((row, 0, self.cutter.offset, length))
        self.cutter.small_span(FOLDERS[folder], found(row), row, 0, length)
        self.content += noise(length, row)
        self.check()

    def check(self) -> None:
        """Check where the next byte stands, and that no unit is too long."""
        assert self.cutter.offset == len(self.content)
        assert self.cutter.unit.content_bytes < self.unit_bytes
        assert all(unit.content_bytes == self.unit_bytes for unit in self.cutter.ready)

    def finish(self) -> None:
        """End the content, and check that the units hold it."""
        self.drain()
        if self.cutter.unit.content_bytes:
            self.units.append(self.cutter.unit)
        assert [unit.number for unit in self.units] == list(range(len(self.units)))
        assert b"".join(map(filled, self.units)) == self.content
        pieces = [
            (
                row, wanted.member_offset,
                unit.number * self.unit_bytes + wanted.view_offset, wanted.length,
            )
            for unit in self.units
            for group in unit.spans
            for row, wanted in zip(group.rows, group.wanted, strict=True)
        ]  # fmt: skip
        assert _joined(pieces) == _joined(self.spans)


def _continues(last: tuple[int, int, int, int], then: tuple[int, int, int, int]) -> bool:
    return last[0] == then[0] and (last[1] + last[3], last[2] + last[3]) == then[1:3]


def _joined(spans: Sequence[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Return spans where those that continue each other are one."""
    joined: list[tuple[int, int, int, int]] = []
    for span in spans:
        if joined and _continues(joined[-1], span):
            row, member, content, length = joined.pop()
            span = (row, member, content, length + span[3])
        joined.append(span)
    return joined


def filled(unit: UnitPlan) -> bytes:
    """Return the bytes of a unit; each of them comes from one literal or span."""
    view = bytearray(unit.content_bytes)
    seen = bytearray(unit.content_bytes)

    def fill(at: int, data: bytes) -> None:
        assert at + len(data) <= unit.content_bytes
        assert not any(seen[at : at + len(data)]), "two things in one place"
        view[at : at + len(data)] = data
        seen[at : at + len(data)] = b"\1" * len(data)

    for at, data in unit.literals:
        fill(at, data)
    for group in unit.spans:
        assert len(group.wanted) == len(group.rows) > 0
        for row, wanted in zip(group.rows, group.wanted, strict=True):
            assert wanted.found == found(row)
            assert wanted.length > 0
            end = wanted.member_offset + wanted.length
            fill(wanted.view_offset, noise(end, row)[wanted.member_offset :])
    assert all(seen), "a gap"
    for one, other in zip(unit.spans, unit.spans[1:], strict=False):
        assert one.folder is not other.folder, "one folder is opened once"
    return bytes(view)


_SIZES = st.one_of(st.integers(1, 40), st.sampled_from([7, 8, 9, 15, 16, 17, 63, 64, 65, 200]))
_STEPS = st.one_of(
    st.tuples(st.just("literal"), _SIZES, st.integers(0, 2), st.booleans()),
    st.tuples(st.just("pad"), st.integers(0, 30), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("span"), _SIZES, st.integers(0, 2), st.booleans()),
    st.tuples(st.just("small"), _SIZES, st.integers(0, 2), st.booleans()),
)


@given(
    unit_bytes=st.sampled_from([1, 2, 7, 8, 16, 17, 64, 10_000]),
    steps=st.lists(_STEPS, max_size=40),
)
def test_units_hold_what_was_given_in_order(
    unit_bytes: int, steps: list[tuple[str, int, int, bool]]
) -> None:
    taken = Taken(unit_bytes)
    padded = False
    for row, (kind, size, folder, lazy) in enumerate(steps):
        if kind == "pad":
            if padded:
                continue  # something follows a padding
            taken.pad(size)
        elif kind == "literal":
            taken.literal(noise(size, 100))
        elif kind == "small" and not padded and taken.cutter.room_for(size):
            taken.small_span(row, folder, size)
        else:
            taken.span(row, folder, size % 5, size, lazy)
        padded = kind == "pad"
        if not lazy:
            taken.drain()
    taken.literal(b"the end follows a padding in any case")
    taken.finish()


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 127, 128, 129, 1000])
@pytest.mark.parametrize("before", [0, 1, 62, 63])
def test_a_literal_fills_units_up_to_their_end(size: int, before: int) -> None:
    taken = Taken(64)
    taken.literal(bytes(before))
    taken.literal(noise(size, 1))
    assert len(taken.cutter.ready) == (before + size) // 64
    taken.finish()


@pytest.mark.parametrize("size", [1, 63, 64, 65, 128, 1000])
@pytest.mark.parametrize("zeros", [0, 1, 63, 64, 65])
def test_a_span_follows_its_padding(size: int, zeros: int) -> None:
    taken = Taken(64)
    taken.literal(b"x")
    taken.pad(zeros)
    taken.span(5, 0, 3, size, lazy=False)
    taken.finish()


@pytest.mark.parametrize(
    ("before", "zeros", "length", "fits"),
    [(0, 0, 63, True), (0, 0, 64, False), (10, 0, 53, True), (10, 0, 54, False), (10, 20, 33, True),
     (10, 20, 34, False), (0, 64, 0, False), (63, 0, 0, True)],
)  # fmt: skip
def test_what_fits_leaves_room_for_one_more_byte(
    before: int, zeros: int, length: int, fits: bool
) -> None:
    """So a unit is never complete behind the back of who gives a small span."""
    cutter = Cutter(64)
    cutter.literal(bytes(before))
    cutter.pad(zeros)
    assert cutter.room_for(length) is fits


def test_spans_of_one_folder_stand_together_and_those_of_others_apart() -> None:
    taken = Taken(1000)
    for row, folder in enumerate([0, 0, 1, 0, 0]):
        taken.small_span(row, folder, 9)
    assert [len(group.rows) for group in taken.cutter.unit.spans] == [2, 1, 2]
    taken.finish()
