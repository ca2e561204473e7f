"""The index: unit number -> place, lengths, digests, frames.

Owns: unit rows (spec section 6.4) and the look-up of units. Must not know how tables are paged, nor
read units. An index may be shared by threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from . import layout
from .errors import DamagedError
from .plan import Geometry
from .table import Table
from .unit import EncodedUnit, Frame, check_frames, decode_rows

_RESERVED_4 = bytes(4)


@dataclass(frozen=True, slots=True)
class UnitRow:
    """Where a unit stands, and what it holds; lengths in bytes."""

    number: int
    unit_offset: int
    content_bytes: int
    stored_bytes: int
    frame_count: int
    zero_frames: int
    hole_frames: int
    stored_digest: bytes

    @property
    def record_bytes(self) -> int:
        """Length of the unit header record."""
        return layout.UNIT_HEADER_BYTES + self.frame_count * layout.FRAME_ROW_BYTES

    @property
    def payload_offset(self) -> int:
        """Where its first frame begins in the archive."""
        return self.unit_offset + self.record_bytes

    @property
    def end_offset(self) -> int:
        """Where the next record begins in the archive."""
        return self.payload_offset + self.stored_bytes


def encode_unit_row(unit: EncodedUnit, unit_offset: int) -> bytes:
    """Return the unit row of a unit that stands at `unit_offset`."""
    return layout.UNIT_ROW.pack(
        unit_offset,
        unit.content_bytes,
        unit.stored_bytes,
        len(unit.rows) // layout.FRAME_ROW_BYTES,
        unit.zero_frames,
        unit.hole_frames,
        _RESERVED_4,
        unit.stored_digest,
    )


class Index(Protocol):
    """Look-up of units, from the tables of the archive or from a walk over it."""

    @property
    def unit_count(self) -> int:
        """Number of units."""
        ...

    def unit(self, number: int) -> UnitRow:
        """Return the row of a unit."""
        ...

    def frames(self, unit: UnitRow) -> list[Frame]:
        """Return the frames of a unit, in order."""
        ...

    def units(self) -> Iterator[UnitRow]:
        """Yield the rows of all units, in order."""
        ...


class TableIndex:
    """The index as the archive's own tables hold it.

    Every method raises DamagedError, with the unit named, where a page is damaged or a row can't
    be: lengths are checked against arithmetic and bounds before they are given out.

    Args:
        units: table of units.
        frames: table of frames.
        geometry: how content is cut.
        content_bytes: length of the content.
        units_at: where unit 0 must begin in the archive.
        units_end: where the last unit must end.
    """

    def __init__(
        self,
        units: Table,
        frames: Table,
        geometry: Geometry,
        content_bytes: int,
        units_at: int,
        units_end: int,
    ) -> None:
        self._units = units
        self._frames = frames
        self._geometry = geometry
        self._content_bytes = content_bytes
        self._units_at = units_at
        self._units_end = units_end
        self._bound = (0, 0)

    @property
    def unit_count(self) -> int:
        """Number of units."""
        return len(self._units)

    def unit(self, number: int) -> UnitRow:
        """Return the row of a unit, from 0 to unit_count - 1."""
        try:
            return self._checked(number, layout.UNIT_ROW.unpack(self._units.row(number)))
        except DamagedError as error:
            raise error.located(number) from None

    def frames(self, unit: UnitRow) -> list[Frame]:
        """Return the frames of a unit, in order."""
        try:
            rows = self.frame_rows(unit)
            frames = decode_rows(rows)
            check_frames(frames, self._geometry.frame_lengths(unit.content_bytes))
        except DamagedError as error:
            raise error.located(unit.number) from None
        kinds = [kind for _, kind, _ in frames]
        zero, hole = kinds.count(layout.FRAME_ZERO), kinds.count(layout.FRAME_HOLE)
        stored = sum([stored_bytes for stored_bytes, _, _ in frames])
        if (zero, hole, stored) != (unit.zero_frames, unit.hole_frames, unit.stored_bytes):
            raise DamagedError("unit row", "it does not fit its frames", unit=unit.number)
        return frames

    def frame_rows(self, unit: UnitRow) -> bytes:
        """Return the frame rows of a unit as bytes, unchecked."""
        first = unit.number * self._geometry.frames_per_unit
        return self._frames.span(first, unit.frame_count)

    def units(self) -> Iterator[UnitRow]:
        """Yield the rows of all units in order, and check that they stand without a gap.

        A row that repeats or overlaps another unit is found here: spec section 6.4.
        """
        expected = self._units_at
        number = 0
        for span in self._units.spans():
            for fields in layout.UNIT_ROW.iter_unpack(span):
                try:
                    unit = self._checked(number, fields)
                except DamagedError as error:
                    raise error.located(number) from None
                if unit.unit_offset != expected:
                    raise DamagedError(
                        "unit row", f"the unit should stand at {expected}", unit=number
                    )
                yield unit
                expected = unit.end_offset
                number += 1

    def _checked(
        self, number: int, fields: tuple[int, int, int, int, int, int, bytes, bytes]
    ) -> UnitRow:
        offset, content, stored, frames, zero_frames, hole_frames, reserved, digest = fields
        length = self._geometry.unit_length(number, self._content_bytes)
        unit = UnitRow(number, offset, content, stored, frames, zero_frames, hole_frames, digest)
        if content != length or frames != self._geometry.frame_count(length):
            raise DamagedError("unit row", "its lengths are wrong")
        if zero_frames + hole_frames > frames or any(reserved):
            raise DamagedError("unit row", "its number of zero frames is wrong")
        if not frames <= stored <= self._most_stored(length):
            raise DamagedError("unit row", "its stored length is out of bounds")
        if not self._units_at <= offset or unit.end_offset > self._units_end:
            raise DamagedError("unit row", "it lies outside the units")
        return unit

    def _most_stored(self, content_bytes: int) -> int:
        """Return the largest stored length of a unit; all units but one are equally long."""
        bound = self._bound
        if bound[0] != content_bytes:
            lengths = self._geometry.frame_lengths(content_bytes)
            bound = (content_bytes, sum(map(layout.max_stored_bytes, lengths)))
            self._bound = bound
        return bound[1]
