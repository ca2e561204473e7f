"""A picture of a volume in the terminal: one cell per run of units.

Shade shows how far the data compressed; holes and damage have signs of their own. Memory is that of
the cells, not of the units.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field

from ..archive.errors import DamagedError, Finding, Severity
from ..archive.index import UnitRow
from ..archive.reader import Archive, Content
from ..archive.salvage import salvage
from ..archive.store import FileStore
from ..archive.structure import check_structure
from .output import Reporter

_ROWS = 16
_SHADES = "░▒▓█"  # data, from what compressed well to what did not compress
_HOLE = "·"
_ZERO = "0"
_DAMAGED = "X"
LEGEND = "· hole  0 zeros  ░ up to 25 %  ▒ 50 %  ▓ 75 %  █ more of its size stored  X damaged"


@dataclass(slots=True)
class Cell:
    """A run of units: what they hold in all, in bytes and frames."""

    first_unit: int = 0
    units: int = 0
    content_bytes: int = 0
    stored_bytes: int = 0
    frames: int = 0
    zero_frames: int = 0
    hole_frames: int = 0
    damaged_units: int = 0

    @property
    def sign(self) -> str:
        """The one character that stands for it."""
        if self.damaged_units:
            return _DAMAGED
        if self.hole_frames == self.frames:
            return _HOLE
        if self.zero_frames + self.hole_frames == self.frames:
            return _ZERO
        ratio = self.stored_bytes / max(self.content_bytes, 1)
        return _SHADES[min(int(ratio * 4), 3)]


@dataclass(slots=True)
class MapBuilder:
    """Remembers which units have a finding."""

    damaged: set[int] = field(default_factory=set[int])

    def note(self, finding: Finding) -> None:
        """Take a finding."""
        if finding.unit is not None and finding.severity is Severity.DAMAGE:
            self.damaged.add(finding.unit)


def print_map(reporter: Reporter, store: FileStore, builder: MapBuilder) -> None:
    """Print the map of the archive in `store`, with the damage that `builder` knows of.

    Raises:
        DamagedError: there is nothing left to show.
    """
    content = _content(store, builder)
    width = max(20, min(shutil.get_terminal_size((80, 24)).columns, 120) - 2)
    cells = build_cells(content, builder.damaged, width * _ROWS)
    for number, cell in enumerate(cells):
        facts = {
            name: getattr(cell, name) for name in Cell.__dataclass_fields__
        } | {"sign": cell.sign}  # fmt: skip
        if reporter.as_json:
            reporter.item("cell", facts, "")
        elif not number % width:
            row = "".join(cell.sign for cell in cells[number : number + width])
            reporter.item("cell", facts, f" {row}")
    if not reporter.as_json and cells:
        most = max(cell.units for cell in cells)
        reporter.item("legend", {}, f" {LEGEND}")
        reporter.item("legend", {}, f" a cell is {most} unit{'s' if most > 1 else ''}")


def build_cells(content: Content, damaged: set[int], most: int) -> list[Cell]:
    """Return up to `most` cells that cover all units in order."""
    count = content.index.unit_count
    per_cell = max(1, -(-count // most))
    cells = [
        Cell(first_unit=n * per_cell, units=min(per_cell, count - n * per_cell))
        for n in range(-(-count // per_cell))
    ]
    missing = bytearray(b"\1") * count
    for unit in content.index.units():
        missing[unit.number] = 0
        _add(cells[unit.number // per_cell], unit)
    for number, absent in enumerate(missing):
        if absent or number in damaged:
            cells[number // per_cell].damaged_units += 1
    return cells


def _add(cell: Cell, unit: UnitRow) -> None:
    cell.content_bytes += unit.content_bytes
    cell.stored_bytes += unit.stored_bytes
    cell.frames += unit.frame_count
    cell.zero_frames += unit.zero_frames
    cell.hole_frames += unit.hole_frames


def _content(store: FileStore, builder: MapBuilder) -> Content:
    try:
        archive = Archive(store)
        if check_structure(archive, builder.note):
            return archive
    except DamagedError:
        pass
    return salvage(store)
