"""Cuts content that is not there yet into units: literal bytes, and spans of files to be read.

Owns: the arithmetic of where the next byte of content stands. Must not know what it means, nor read
anything. One owner at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .errors import Finding
from .files import Found, Wanted
from .folders import Folder


class FolderSpans(NamedTuple):
    """Spans of files of one folder; `rows` has the row of each of `wanted`.

    Their `view_offset` counts from the start of the unit.
    """

    folder: Folder
    wanted: list[Wanted]
    rows: list[int]


@dataclass(slots=True)
class UnitPlan:
    """What a unit holds; literals and spans together are all of it.

    Attributes:
        number: unit number.
        content_bytes: its content length.
        literals: (offset in the unit, bytes).
        spans: of files, in order.
        findings: what was found while it was planned.
    """

    number: int
    content_bytes: int = 0
    literals: list[tuple[int, bytes]] = field(default_factory=list[tuple[int, bytes]])
    spans: list[FolderSpans] = field(default_factory=list[FolderSpans])
    findings: list[Finding] = field(default_factory=list[Finding])


class Cutter:
    """Takes content in order; `ready` holds the units that are complete.

    Args:
        unit_bytes: as the archive's header has it.
    """

    def __init__(self, unit_bytes: int) -> None:
        self.ready: deque[UnitPlan] = deque()
        self.unit = UnitPlan(0)
        self._unit_bytes = unit_bytes
        self._zeros = 0  # to stand before the next literal: padding and header become one

    @property
    def offset(self) -> int:
        """Where the next byte of content stands."""
        return self.unit.number * self._unit_bytes + self.unit.content_bytes + self._zeros

    def literal(self, data: bytes) -> None:
        """Take bytes as they are."""
        if self._zeros:
            data = bytes(self._zeros) + data
            self._zeros = 0
        unit = self.unit
        room = self._unit_bytes - unit.content_bytes
        if len(data) < room:
            unit.literals.append((unit.content_bytes, data))
            unit.content_bytes += len(data)
            return
        unit.literals.append((unit.content_bytes, data[:room]))
        self._next(room)
        for at in range(room, len(data), self._unit_bytes):
            piece = data[at : at + self._unit_bytes]
            self.unit.literals.append((0, piece))
            self._next(len(piece))

    def pad(self, zeros: int) -> None:
        """Leave fewer than 512 zeros; something follows in any case."""
        self._zeros = zeros

    def span(
        self, folder: Folder, found: Found, row: int, member_offset: int, length: int
    ) -> Iterator[None]:
        """Take a span of a file; yields whenever a unit is complete."""
        if self._zeros:
            self.literal(b"")
        end = member_offset + length
        while member_offset < end:
            take = min(end - member_offset, self._unit_bytes - self.unit.content_bytes)
            self.small_span(folder, found, row, member_offset, take)
            member_offset += take
            if self.ready:
                yield

    def room_for(self, length: int) -> bool:
        """Tell whether a span of this length, and all that waits, fits into the current unit."""
        return length + self._zeros < self._unit_bytes - self.unit.content_bytes

    def small_span(
        self, folder: Folder, found: Found, row: int, member_offset: int, length: int
    ) -> None:
        """Take a span of a file that fits into the current unit."""
        unit = self.unit
        wanted = Wanted(found, member_offset, length, unit.content_bytes)
        if unit.spans and unit.spans[-1].folder is folder:
            group = unit.spans[-1]
            group.wanted.append(wanted)
            group.rows.append(row)
        else:
            unit.spans.append(FolderSpans(folder, [wanted], [row]))
        self._next(length)

    def place(self) -> tuple[int, int, int, int]:
        """Return where the current unit begins, what it has, the zeros behind that, its room."""
        unit = self.unit
        return unit.number * self._unit_bytes, unit.content_bytes, self._zeros, self._unit_bytes

    def take(
        self,
        folder: Folder,
        literals: Iterable[tuple[int, bytes]],
        spans: Sequence[Sequence[Any]],
        rows: Sequence[int],
        end: tuple[int, int],
    ) -> None:
        """Take many literals, and spans of files of a folder, all of which fit into the unit.

        Args:
            folder: the folder.
            literals: as in `UnitPlan`.
            spans: the fields of `Wanted`, for each of `rows`.
            rows: as in `FolderSpans`.
            end: how long the content of the unit is then, and how many zeros are to follow.
        """
        unit = self.unit
        unit.literals += literals
        wanted = list(map(Wanted._make, spans))
        if unit.spans and unit.spans[-1].folder is folder:
            unit.spans[-1].wanted.extend(wanted)
            unit.spans[-1].rows.extend(rows)
        elif wanted:
            unit.spans.append(FolderSpans(folder, wanted, list(rows)))
        unit.content_bytes, self._zeros = end
        assert unit.content_bytes < self._unit_bytes, "a unit that is full is another's work"

    def _next(self, length: int) -> None:
        unit = self.unit
        unit.content_bytes += length
        if unit.content_bytes == self._unit_bytes:
            self.ready.append(unit)
            self.unit = UnitPlan(unit.number + 1)
