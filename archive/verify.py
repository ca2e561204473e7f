"""Verifies an archive at three levels, and against its source; collects every finding.

Owns: the order of the checks and the threads they run in. Must not know command lines. `verify` is
called in one thread, and starts its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from blake3 import blake3

from . import layout
from .errors import DamagedError, Finding, Severity
from .index import UnitRow
from .pool import OrderedPool
from .progress import Progress, Report, silent
from .reader import Archive, Content, UnitReader
from .salvage import Salvaged, as_finding, salvage
from .source import Source
from .store import Store
from .structure import check_structure
from .tree import Tree
from .unit import Frame, FrameDecoder
from .zeros import zero_digest, zero_frame


class Level(StrEnum):
    """How deep a verification goes; each level includes the ones before it."""

    STRUCTURE = "structure"
    STORED = "stored"
    CONTENT = "content"


Found = Callable[[Finding], None]


@dataclass(slots=True)
class Verified:
    """What a verification came to.

    Attributes:
        content_bytes: length of the content, as far as it is known.
        units: units that were looked at.
        damaged: numbers of the units with a finding of damage.
        findings: number of findings, by severity.
        archive: the archive, or None if it could not be opened and was walked over instead.
    """

    content_bytes: int = 0
    units: int = 0
    damaged: set[int] = field(default_factory=set[int])
    findings: dict[Severity, int] = field(default_factory=lambda: dict.fromkeys(Severity, 0))
    archive: Archive | None = None

    @property
    def damaged_units(self) -> int:
        """How many units have a finding of damage."""
        return len(self.damaged)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged."""
        return not self.findings[Severity.DAMAGE]


def verify(
    store: Store,
    level: Level,
    *,
    threads: int,
    against: Source | None = None,
    found: Found = lambda _: None,
    report: Report = silent,
) -> Verified:
    """Verify the archive in `store`.

    Args:
        store: where it is.
        level: how deep.
        threads: checkers.
        against: what to compare the content with, or None.
        found: told of each finding, as soon as it is known.
        report: told after each unit.

    Raises:
        NotAnArchiveError, UnsupportedError: there is nothing to verify.
        SourceError: archive or source can't be read.
    """
    run = _Run(store, threads, found, report)
    content = run.structure()
    if content is not None:
        if level is not Level.STRUCTURE:
            run.units(content, decompress=level is Level.CONTENT)
        if against is not None:
            run.against(content, against)
    return run.result


class _Run:
    def __init__(self, store: Store, threads: int, found: Found, report: Report) -> None:
        self._store = store
        self._threads = threads
        self._tell = found
        self._report = report
        self.result = Verified()

    def structure(self) -> Content | None:
        """Check the structure; return what the next levels can read, None if that is nothing."""
        try:
            archive = Archive(self._store)
        except DamagedError as error:
            self._found(as_finding(error))
            return self._walk()
        self.result.archive = archive
        self.result.content_bytes = archive.content_bytes
        index_good = check_structure(archive, self._found, self._count_unit)
        if archive.footer.unreadable_bytes:
            self._found(
                Finding(
                    "source-unreadable", Severity.WARNING,
                    f"{archive.footer.unreadable_bytes} bytes of the source could not be read when "
                    "the archive was made; they read as zeros",
                    content_bytes=archive.footer.unreadable_bytes,
                )
            )  # fmt: skip
        with suppress(DamagedError):  # the structure check has told of it
            if archive.header.kind == layout.KIND_TREE:
                self._entries(archive)
            elif archive.member().changed:
                self._found(
                    Finding(
                        "source-changed", Severity.WARNING,
                        "the source changed while the archive was made; two states may be mixed",
                    )
                )  # fmt: skip
        return archive if index_good else self._walk()

    def _entries(self, archive: Archive) -> None:
        """Tell which files changed, or could not be read, when the archive was made."""
        tree = Tree(archive.tables, archive.content_bytes)
        for entry in tree.entries():
            if not entry.flags & (layout.FLAG_CHANGED | layout.FLAG_INCOMPLETE):
                continue
            path = os.fsdecode(tree.path(entry))
            incomplete = entry.flags & layout.FLAG_INCOMPLETE
            what = "could not be read in whole, and has zeros" if incomplete else "changed"
            self._found(
                Finding(
                    "source-incomplete" if incomplete else "source-changed", Severity.WARNING,
                    f"{path}: it {what} when the archive was made", path=path,
                )
            )  # fmt: skip

    def units(self, content: Content, *, decompress: bool) -> None:
        """Check the stored bytes of every unit, and what they decompress to."""
        units = content.index.units()
        done = stored = 0

        def consume(result: tuple[UnitRow, list[Finding]]) -> None:
            nonlocal done, stored
            unit, findings = result
            for finding in findings:
                self._found(finding)
            done += unit.content_bytes
            stored += unit.stored_bytes
            self._report(Progress("verify", done, content.content_bytes, stored))

        def work(unit: UnitRow, reader: UnitReader) -> tuple[UnitRow, list[Finding]]:
            return unit, check_unit(content, unit, reader, decompress=decompress)

        pool: OrderedPool[UnitReader, UnitRow, tuple[UnitRow, list[Finding]]] = OrderedPool(
            self._threads, lambda: UnitReader(content), lambda _: next(units, None), work
        )
        pool.run(consume)

    def against(self, content: Content, source: Source) -> None:
        """Compare the content with a source, by the digests of its frames."""
        comparison = _Comparison(content, source)
        total = content.content_bytes
        size = source.content_bytes
        if size is not None and size != total:
            self._found(_difference(f"the source has {size} bytes, the archive {total}"))
        pool: OrderedPool[memoryview, _Span, list[tuple[int, int]]] = OrderedPool(
            self._threads, comparison.new_buffer, comparison.take, comparison.work,
            on_stop=source.cancel,
        )  # fmt: skip
        run = [0, 0]
        done = 0

        def consume(differing: list[tuple[int, int]]) -> None:
            nonlocal done
            for offset, length in differing:
                if offset != sum(run):
                    self._differs(run)
                    run[:] = [offset, 0]
                run[1] += length
            done = min(done + content.geometry.unit_bytes, total)
            self._report(Progress("compare", done, total, done))

        pool.run(consume)
        self._differs(run)
        if size is None and comparison.streamed != total:
            more = "more" if comparison.streamed > total else "fewer"
            self._found(_difference(f"the source has {more} than the {total} bytes of the archive"))
        if changed := source.changed():
            self._found(
                Finding("source-changed", Severity.WARNING, f"the source changed: {changed}")
            )

    def _walk(self) -> Salvaged | None:
        """Go on with what a walk over the records finds."""
        try:
            salvaged = salvage(self._store)
        except DamagedError as error:
            self._found(as_finding(error))
            return None
        for finding in salvaged.findings:
            self._found(finding)
        for number in range(salvaged.index.unit_count):
            try:
                salvaged.index.unit(number)
            except DamagedError as error:
                self._found(as_finding(error))
        self.result.content_bytes = salvaged.content_bytes
        self.result.units = salvaged.index.unit_count
        return salvaged

    def _count_unit(self, _: UnitRow) -> None:
        self.result.units += 1

    def _found(self, finding: Finding) -> None:
        self.result.findings[finding.severity] += 1
        if finding.severity is Severity.DAMAGE and finding.unit is not None:
            self.result.damaged.add(finding.unit)
        self._tell(finding)

    def _differs(self, run: list[int]) -> None:
        if run[1]:
            self._found(
                _difference(
                    f"{run[1]} bytes at byte {run[0]} lie in frames that differ", run[0], run[1]
                )
            )


def check_unit(
    content: Content, unit: UnitRow, reader: UnitReader, *, decompress: bool
) -> list[Finding]:
    """Return what is wrong with the stored bytes of a unit, and with what they decompress to.

    Raises:
        SourceError: the archive can't be read.
    """
    try:
        frames = content.index.frames(unit)
    except DamagedError as error:
        return [as_finding(error.located(unit.number))]
    lengths = content.geometry.frame_lengths(unit.content_bytes)
    decoder = FrameDecoder()
    stored_hash = blake3()
    findings: list[Finding] = []
    offset = unit.number * content.geometry.unit_bytes
    for number, stored, at in reader.stored(unit, frames):
        stored_hash.update(stored)
        length = lengths[number]
        if problem := _frame_problem(decoder, frames[number], stored, length, decompress):
            findings.append(
                Finding(
                    "frame", Severity.DAMAGE,
                    f"unit {unit.number}, frame {number}: {problem}",
                    unit=unit.number, frame=number, content_offset=offset,
                    content_bytes=length, archive_offset=at,
                )
            )  # fmt: skip
        offset += length
    if unit.end_offset > content.store.size:
        findings.append(_stored_finding(unit, "the archive ends inside it"))
    elif stored_hash.digest() != unit.stored_digest:
        findings.append(_stored_finding(unit, "its stored bytes do not match their digest"))
    return findings


def _frame_problem(
    decoder: FrameDecoder, frame: Frame, stored: memoryview, length: int, decompress: bool
) -> str | None:
    if frame.kind != layout.FRAME_DATA:
        return None if stored.tobytes() == zero_frame(length) else "its zero frame is damaged"
    if decompress:
        try:
            decoder.verify(frame, stored, length)
        except DamagedError as error:
            return error.problem
    return None


def _stored_finding(unit: UnitRow, problem: str) -> Finding:
    return Finding(
        "unit", Severity.DAMAGE, f"unit {unit.number}: {problem}",
        unit=unit.number, archive_offset=unit.payload_offset,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Span:
    """One unit to compare; a stream has filled the buffer with `content_bytes` by now."""

    unit: UnitRow
    content_offset: int
    content_bytes: int
    holes: list[bool]


class _Comparison:
    """Compares a source with an archive, unit by unit; stops where the shorter one ends."""

    def __init__(self, content: Content, source: Source) -> None:
        self._content = content
        self._source = source
        self._units: Iterator[UnitRow] = content.index.units()
        self._ended = False
        self.streamed = 0

    def new_buffer(self) -> memoryview:
        return memoryview(bytearray(self._content.geometry.unit_bytes))

    def take(self, buffer: memoryview) -> _Span | None:
        size = self._source.content_bytes
        unit = next(self._units, None)
        if unit is None:
            if size is None:
                self._skip_to(self._content.content_bytes, buffer)
                self._stream(buffer[:1])
            return None
        geometry = self._content.geometry
        offset = unit.number * geometry.unit_bytes
        if size is None:
            self._skip_to(offset, buffer)
            length = self._stream(buffer[: unit.content_bytes])
            return _Span(unit, offset, length, []) if length else None
        length = min(unit.content_bytes, size - offset)
        if length <= 0:
            return None
        holes: list[bool] = []
        at = offset
        for frame_bytes in geometry.frame_lengths(unit.content_bytes):
            holes.append(self._source.hole_end(at) >= at + frame_bytes)
            at += frame_bytes
        return _Span(unit, offset, length, holes)

    def _skip_to(self, content_offset: int, buffer: memoryview) -> None:
        """Read a stream past units that are lost."""
        while left := max(content_offset - self.streamed, 0):
            if not self._stream(buffer[:left]):
                break

    def _stream(self, view: memoryview) -> int:
        """Read on in a stream; return how many bytes there were."""
        if self._ended:
            return 0
        got, _ = self._source.read_into(view, self.streamed)
        self._ended = got < len(view)
        self.streamed += got
        return got

    def work(self, span: _Span, buffer: memoryview) -> list[tuple[int, int]]:
        """Return (content offset, length) of the frames that differ."""
        differing: list[tuple[int, int]] = []
        lengths = self._content.geometry.frame_lengths(span.unit.content_bytes)
        at = 0
        for number, frame in enumerate(self._content.index.frames(span.unit)):
            here = min(lengths[number], span.content_bytes - at)
            if here <= 0:
                break
            if here < lengths[number] or self._digest(span, number, at, here, buffer) != (
                frame.digest
            ):
                differing.append((span.content_offset + at, here))
            at += lengths[number]
        return differing

    def _digest(self, span: _Span, number: int, at: int, length: int, buffer: memoryview) -> bytes:
        if span.holes and span.holes[number]:
            return zero_digest(length)
        piece = buffer[at : at + length]
        if span.holes:
            offset = span.content_offset + at
            _, unreadable = self._source.read_into(piece, offset)
            self._source.done_with(offset, length)
            if unreadable:
                return b""  # what can't be read is not the same
        return blake3(piece).digest()


def _difference(
    message: str, content_offset: int | None = None, content_bytes: int | None = None
) -> Finding:
    return Finding(
        "source-differs", Severity.DIFFERENCE, message,
        content_offset=content_offset, content_bytes=content_bytes,
    )  # fmt: skip
