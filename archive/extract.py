"""Unpacks a volume: N decoders take units in order, check every digest, and write what they get.

Owns: the way from an archive to a file, a device or a stream. Must not know command lines. `unpack`
is called in one thread, and starts its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from .device import DeviceTarget
from .errors import DamagedError, Finding, Severity
from .index import UnitRow
from .pool import OrderedPool
from .progress import Progress, Report, silent
from .reader import Content, UnitReader
from .salvage import as_finding
from .store import NewFile, StreamTarget
from .zeros import data_runs, zeros

_ZERO_UNITS = 256  # wholly empty units that are handed over together
_ZERO_PIECE = 1024 * 1024


class Sink(Protocol):
    """Where content goes. `put` and `put_zeros` are safe in many threads, unless `in_order`."""

    in_order: bool
    """Whether content must be put in order, by one thread."""

    def put(self, content_offset: int, content: bytes) -> None:
        """Write content that is not all zeros."""
        ...

    def put_zeros(self, content_offset: int, length: int) -> None:
        """Make a span read as zeros."""
        ...

    def commit(self) -> None:
        """Make it safe and visible."""
        ...

    def discard(self) -> None:
        """Give up; does nothing after `commit`."""
        ...


class FileSink:
    """A new file.

    Args:
        file: where to write.
        content_bytes: length of the volume.
        sparse: whether blocks of zeros are left out, as holes.
    """

    in_order = False

    def __init__(self, file: NewFile, content_bytes: int, *, sparse: bool) -> None:
        self._file = file
        self._sparse = sparse
        try:
            file.set_length(content_bytes)
        except BaseException:
            file.discard()
            raise

    def put(self, content_offset: int, content: bytes) -> None:
        """Write content; blocks of zeros in it become holes if the file is sparse."""
        if not self._sparse:
            self._file.write_at(content_offset, content)
            return
        view = memoryview(content)
        for start, end in data_runs(content):
            self._file.write_at(content_offset + start, view[start:end])

    def put_zeros(self, content_offset: int, length: int) -> None:
        """Leave a hole, or write zeros if the file is not sparse."""
        if self._sparse:
            return
        for at in range(content_offset, content_offset + length, _ZERO_PIECE):
            self._file.write_at(at, zeros(min(_ZERO_PIECE, content_offset + length - at)))

    def commit(self) -> None:
        """Make the file safe, and publish it."""
        self._file.commit()

    def discard(self) -> None:
        """Remove it."""
        self._file.discard()


class DeviceSink:
    """A block device; zeros are written too, since something else may stand there."""

    in_order = False

    def __init__(self, target: DeviceTarget) -> None:
        self._target = target

    def put(self, content_offset: int, content: bytes) -> None:
        """Write content."""
        self._target.write_at(content_offset, content)

    def put_zeros(self, content_offset: int, length: int) -> None:
        """Punch a hole, or write zeros."""
        self._target.zero(content_offset, length)

    def commit(self) -> None:
        """Make it safe."""
        self._target.commit()

    def discard(self) -> None:
        """Close the device."""
        self._target.discard()


class StreamSink:
    """Standard output or a pipe."""

    in_order = True

    def __init__(self, target: StreamTarget) -> None:
        self._target = target

    def put(self, content_offset: int, content: bytes) -> None:
        """Write content."""
        self._target.append([content])

    def put_zeros(self, content_offset: int, length: int) -> None:
        """Write zeros."""
        for at in range(0, length, _ZERO_PIECE):
            self._target.append([zeros(min(_ZERO_PIECE, length - at))])

    def commit(self) -> None:
        """Do nothing."""

    def discard(self) -> None:
        """Do nothing."""


@dataclass(slots=True)
class _Done:
    """One task that was done: totals, findings, and spans still to be put in order, if any."""

    content_bytes: int = 0
    stored_bytes: int = 0
    lost_bytes: int = 0
    findings: list[Finding] = field(default_factory=list[Finding])
    pieces: list[tuple[int, int, bytes | None]] = field(
        default_factory=list[tuple[int, int, "bytes | None"]]
    )


Found = Callable[[Finding], None]
"""Takes a finding in the thread that runs the operation, as soon as it is known."""


def unpack(
    content: Content,
    sink: Sink,
    *,
    threads: int,
    salvage: bool = False,
    found: Found = lambda _: None,
    report: Report = silent,
) -> int:
    """Write the whole content into `sink`, and commit it.

    Args:
        content: an archive, or what was salvaged of one.
        sink: where it goes; discarded if anything fails, also by a signal.
        threads: decoders.
        salvage: go on where something is damaged; it reads as zeros, and is a finding.
        found: told of each finding, in order; only called with `salvage`.
        report: told after each unit.

    Returns:
        How many bytes were lost; 0 without `salvage`.

    Raises:
        DamagedError: something is damaged, and `salvage` is false.
        SourceError: the archive can't be read.
        StoreError: the sink failed.
    """
    lost = done = stored = 0

    def consume(result: _Done) -> None:
        nonlocal lost, done, stored
        for offset, length, data in result.pieces:
            if data is None:
                sink.put_zeros(offset, length)
            else:
                sink.put(offset, data)
        for finding in result.findings:
            found(finding)
        lost += result.lost_bytes
        done += result.content_bytes
        stored += result.stored_bytes
        report(Progress("unpack", done, content.content_bytes, stored))

    try:
        job = _Job(content, sink, salvage)
        pool: OrderedPool[UnitReader, list[UnitRow | int], _Done] = OrderedPool(
            threads, lambda: UnitReader(content), job.take, job.work
        )
        pool.run(consume)
        sink.commit()
    except BaseException:
        sink.discard()
        raise
    return lost


class _Job:
    """Cuts the content into tasks, and does them."""

    def __init__(self, content: Content, sink: Sink, salvage: bool) -> None:
        self._content = content
        self._sink = sink
        self._salvage = salvage
        self._units = self._tolerant_units() if salvage else content.index.units()
        self._next: UnitRow | int | None = next(self._units, None)

    def take(self, _: UnitReader) -> list[UnitRow | int] | None:
        """Return the next unit, or a run of units that are all zeros; None at the end."""
        task: list[UnitRow | int] = []
        while self._next is not None:
            # A stream gets its zeros unit by unit: a run of them is no more than memory there.
            batch = _is_empty(self._next) and not self._sink.in_order
            if task and (not batch or len(task) >= _ZERO_UNITS):
                break
            task.append(self._next)
            self._next = next(self._units, None)
            if not batch:
                break
        return task or None

    def work(self, task: list[UnitRow | int], reader: UnitReader) -> _Done:
        """Decode the units of a task; write them, unless that must be done in order."""
        done = _Done()
        for unit in task:
            if isinstance(unit, int):
                self._lose_unit(unit, done)
            else:
                self._unit(unit, reader, done)
        return done

    def _unit(self, unit: UnitRow, reader: UnitReader, done: _Done) -> None:
        offset = unit.number * self._content.geometry.unit_bytes
        done.content_bytes += unit.content_bytes
        done.stored_bytes += unit.stored_bytes
        if _is_empty(unit):
            self._put(done, offset, unit.content_bytes, None)
            return
        zeros_from = offset
        for number, length, data in reader.contents(unit):
            if isinstance(data, bytes):
                if zeros_from < offset:
                    self._put(done, zeros_from, offset - zeros_from, None)
                self._put(done, offset, length, data)
                zeros_from = offset + length
            elif data is not None:
                if not self._salvage:
                    raise data
                done.lost_bytes += length
                done.findings.append(_lost(data, unit.number, number, offset, length))
            offset += length
        if zeros_from < offset:
            self._put(done, zeros_from, offset - zeros_from, None)

    def _lose_unit(self, number: int, done: _Done) -> None:
        geometry = self._content.geometry
        offset = number * geometry.unit_bytes
        length = geometry.unit_length(number, self._content.content_bytes)
        self._put(done, offset, length, None)
        done.content_bytes += length
        done.lost_bytes += length
        problem = DamagedError("unit", "it is lost", unit=number)
        done.findings.append(_lost(problem, number, None, offset, length))

    def _put(self, done: _Done, offset: int, length: int, data: bytes | None) -> None:
        if self._sink.in_order:
            done.pieces.append((offset, length, data))
        elif data is None:
            self._sink.put_zeros(offset, length)
        else:
            self._sink.put(offset, data)

    def _tolerant_units(self) -> Iterator[UnitRow | int]:
        """Yield each unit, or its number where its row can't be had."""
        for number in range(self._content.index.unit_count):
            try:
                unit = self._content.index.unit(number)
                self._content.index.frames(unit)
                yield unit
            except DamagedError:
                yield number


def _is_empty(unit: UnitRow | int) -> bool:
    return not isinstance(unit, int) and unit.zero_frames + unit.hole_frames == unit.frame_count


def _lost(
    error: DamagedError, unit: int, frame: int | None, content_offset: int, length: int
) -> Finding:
    base = as_finding(error)
    place = f"unit {unit}" if frame is None else f"unit {unit}, frame {frame}"
    return Finding(
        "lost-content",
        Severity.DAMAGE,
        f"{place}: {length} bytes at byte {content_offset} of the volume are lost ({error})",
        unit=unit,
        frame=frame,
        content_offset=content_offset,
        content_bytes=length,
        archive_offset=base.archive_offset,
    )
