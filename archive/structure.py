"""Checks the structure of an archive: every record but the frames, and that they agree.

Owns: the level `structure` of spec section 9.5. Must not decompress content. Called in one thread.
"""

from __future__ import annotations

from collections.abc import Callable

from blake3 import blake3

from . import layout
from .errors import DamagedError, Finding, Severity
from .footer import Footer
from .index import UnitRow
from .plan import Geometry
from .reader import Archive, section_places
from .salvage import as_finding
from .store import Store
from .table import Table
from .tree import Tree
from .tree_check import check_tree
from .unit import check_frames, decode_rows, unit_record

_WINDOW_BYTES = layout.MIB
_SMALL_UNIT_BYTES = 65_536


def check_structure(
    archive: Archive,
    found: Callable[[Finding], None],
    progress: Callable[[UnitRow], None] = lambda _: None,
) -> bool:
    """Check everything but the stored bytes of the units; return whether the index can be used.

    Args:
        archive: opened, so its header, footer and section roots are known to be good.
        found: told of each finding.
        progress: told of each unit.
    """
    check = _Check(archive, found)
    index_good = check.units(progress)
    check.pages()
    check.catalogue()
    return index_good


class _Check:
    def __init__(self, archive: Archive, found: Callable[[Finding], None]) -> None:
        self._archive = archive
        self._found = found
        self._units_end: int | None = archive.header.record_bytes

    def units(self, progress: Callable[[UnitRow], None]) -> bool:
        """Compare unit table, frame table, unit headers and totals."""
        archive = self._archive
        window = _Window(archive.store)
        totals = _Totals(archive.geometry)
        frames = _FrameCheck(archive.geometry)
        try:
            for unit in archive.table_index.units():
                rows = archive.table_index.frame_rows(unit)
                frames.check(unit, rows)
                totals.add(unit, rows)
                expected = unit_record(
                    archive.header.uuid.bytes, unit.number, unit.content_bytes,
                    unit.stored_bytes, unit.stored_digest, rows,
                )  # fmt: skip
                if window.read(unit) != expected:
                    self._damage(
                        "unit-header",
                        f"unit {unit.number}: its header at byte {unit.unit_offset} is damaged, or "
                        "differs from the index",
                        unit=unit.number,
                        archive_offset=unit.unit_offset,
                    )
                self._units_end = unit.end_offset
                progress(unit)
        except DamagedError as error:
            self._found(as_finding(error))
            self._units_end = None
            return False
        for problem in totals.problems(archive.footer):
            self._damage("footer", f"footer: {problem}")
        return True

    def pages(self) -> None:
        """Read every page once, and see that records stand without a gap."""
        archive = self._archive
        at = self._units_end
        for section, place in section_places(archive.footer).items():
            for table in archive.sections[section].values():
                at = self._table(table, at)
            self._chain(at, place.offset, "section root")
            at = place.offset + place.record_bytes

    def catalogue(self) -> None:
        """Decode the member, or all entries, and add up what was unreadable."""
        archive = self._archive
        try:
            if archive.header.kind == layout.KIND_TREE:
                check_tree(Tree(archive.tables, archive.content_bytes))
            else:
                archive.member()
            unreadable = sum(length for _, length in archive.unreadable())
        except DamagedError as error:
            self._found(as_finding(error))
            return
        if unreadable != archive.footer.unreadable_bytes:
            self._damage("footer", "footer: its sum of unreadable bytes is wrong")

    def _table(self, table: Table, at: int | None) -> int | None:
        """Check the pages of one table; return where the last one ends, None if not known."""
        # Keys come top level first, pages stand lowest level first.
        for key in sorted(table.keys(), key=lambda key: (key.level, key.number)):
            try:
                place = table.place(key)
            except DamagedError as error:
                self._found(as_finding(error))
                at = None
                continue
            self._chain(at, place.offset, str(key))
            try:
                table.load(key)
            except DamagedError as error:
                self._found(as_finding(error))
            at = place.offset + place.record_bytes
        return at

    def _chain(self, expected: int | None, offset: int, part: str) -> None:
        if expected is not None and expected != offset:
            self._damage(
                "gap",
                f"{part} stands at byte {offset}, but the record before it ends at {expected}",
                archive_offset=expected,
            )

    def _damage(
        self,
        code: str,
        message: str,
        unit: int | None = None,
        archive_offset: int | None = None,
    ) -> None:
        self._found(
            Finding(code, Severity.DAMAGE, message, unit=unit, archive_offset=archive_offset)
        )


class _FrameCheck:
    """Checks frame rows; remembers the last good ones, since holes come by the thousand."""

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._good: tuple[int, int, int, int, bytes] | None = None

    def check(self, unit: UnitRow, rows: bytes) -> None:
        key = (unit.content_bytes, unit.stored_bytes, unit.zero_frames, unit.hole_frames, rows)
        if key == self._good:
            return
        try:
            frames = decode_rows(rows)
            check_frames(frames, self._geometry.frame_lengths(unit.content_bytes))
        except DamagedError as error:
            raise error.located(unit.number) from None
        kinds = [frame.kind for frame in frames]
        counted = (kinds.count(layout.FRAME_ZERO), kinds.count(layout.FRAME_HOLE))
        stored = sum(frame.stored_bytes for frame in frames)
        if counted != (unit.zero_frames, unit.hole_frames) or stored != unit.stored_bytes:
            raise DamagedError("unit row", "it does not fit its frames", unit=unit.number)
        self._good = key


class _Totals:
    """What the units add up to, to be compared with the footer."""

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._stored_bytes = self._zero_bytes = self._hole_bytes = 0
        self._units_hash = blake3()
        self._frames_hash = blake3()
        self._rows = b""
        self._summary = (b"", 0, 0)

    def add(self, unit: UnitRow, rows: bytes) -> None:
        if rows != self._rows:  # holes come by the thousand, and all alike
            self._rows = rows
            self._summary = self._summarise(unit, rows)
        digests, zero_bytes, hole_bytes = self._summary
        self._stored_bytes += unit.stored_bytes
        self._zero_bytes += zero_bytes
        self._hole_bytes += hole_bytes
        self._units_hash.update(unit.stored_digest)
        self._frames_hash.update(digests)

    def problems(self, footer: Footer) -> list[str]:
        checks = [
            (footer.stored_bytes == self._stored_bytes, "its sum of stored bytes is wrong"),
            (footer.zero_bytes == self._zero_bytes, "its sum of zeros is wrong"),
            (footer.hole_bytes == self._hole_bytes, "its sum of holes is wrong"),
            (footer.units_digest == self._units_hash.digest(), "its digest of the units is wrong"),
            (footer.content_digest == self._frames_hash.digest(), "its content digest is wrong"),
        ]
        return [problem for good, problem in checks if not good]

    def _summarise(self, unit: UnitRow, rows: bytes) -> tuple[bytes, int, int]:
        lengths = self._geometry.frame_lengths(unit.content_bytes)
        frames = decode_rows(rows)
        of_kind = {layout.FRAME_DATA: 0, layout.FRAME_ZERO: 0, layout.FRAME_HOLE: 0}
        for frame, length in zip(frames, lengths, strict=True):
            of_kind[frame.kind] += length
        digests = b"".join(frame.digest for frame in frames)
        return digests, of_kind[layout.FRAME_ZERO], of_kind[layout.FRAME_HOLE]


class _Window:
    """Reads unit headers; many at once where units are small, since holes take 2 KiB each."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._at = 0
        self._held = b""

    def read(self, unit: UnitRow) -> bytes:
        """Return the bytes where the header of a unit must be, fewer at the end of the archive."""
        if unit.end_offset - unit.unit_offset > _SMALL_UNIT_BYTES:
            return self._store.read_at(unit.unit_offset, unit.record_bytes)
        start = unit.unit_offset - self._at
        if start < 0 or start + unit.record_bytes > len(self._held):
            self._at, start = unit.unit_offset, 0
            self._held = self._store.read_at(self._at, _WINDOW_BYTES)
        return self._held[start : start + unit.record_bytes]
