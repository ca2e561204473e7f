"""Packs a source into an archive: N threads compress units, one place appends them in order.

Owns: the way from a source to a target. Must not parse anything, nor know command lines or clocks.
`pack` is called in one thread, and starts its own.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

from .assemble import Assembler
from .bad_blocks import Runs
from .catalogue import is_safe_name, volume_member
from .errors import BadUseError, Finding, Severity, SourceError
from .footer import Footer
from .header import Header
from .pace import PIECE_BYTES, Pace, Watch
from .plan import Geometry
from .pool import OrderedPool
from .progress import Progress, Report, silent
from .source import Source
from .store import Target
from .table import Spool
from .unit import EncodedUnit, UnitEncoder

_HOLE_UNITS = 1024  # units of one hole that are handed over together


@dataclass(frozen=True, slots=True)
class PackResult:
    """What `pack` did; the footer tells lengths and digests."""

    header: Header
    footer: Footer
    findings: Sequence[Finding]


@dataclass(frozen=True, slots=True)
class _UnitTask:
    """One unit to encode. A stream has filled the buffer by now; a volume is read by the worker."""

    number: int
    content_offset: int
    content_bytes: int
    holes: list[bool] | None


@dataclass(frozen=True, slots=True)
class _HoleTask:
    """Units that are one hole: `count` of them, the last of which may be short."""

    first: int
    lengths: Sequence[int]


@dataclass(slots=True)
class _State:
    """What one thread owns: a compressor, a buffer, and a watch.

    The buffer holds a frame, which is read, hashed and compressed while it is in the cache; that of
    a stream holds a unit, because a stream must be read in turn.
    """

    view: memoryview
    encoder: UnitEncoder
    watch: Watch


@dataclass(slots=True)
class _Planner:
    """Cuts a source into tasks, in order."""

    source: Source
    geometry: Geometry
    pace: Pace
    next_unit: int = 0
    ended: bool = False

    def take(self, state: _State) -> _UnitTask | _HoleTask | None:
        """Return the next task, or None when there is no more content."""
        number = self.next_unit
        offset = number * self.geometry.unit_bytes
        total = self.source.content_bytes
        if total is None:
            return self._take_streamed(state, number, offset)
        if offset >= total:
            return None
        length = self.geometry.unit_length(number, total)
        hole_end = self.source.hole_end(offset)
        if hole_end >= offset + length:
            return self._take_hole(number, hole_end, total)
        self.next_unit += 1
        holes = None
        if self.source.data_end(offset) < offset + length:
            holes = self._frame_holes(offset, length)
        return _UnitTask(number, offset, length, holes)

    def _take_streamed(self, state: _State, number: int, offset: int) -> _UnitTask | None:
        if self.ended:
            return None
        view, watch = state.view, state.watch
        step = PIECE_BYTES if self.pace.is_limited else len(view)
        done = 0
        watch.begin()
        while done < len(view) and not self.ended:
            piece = view[done : done + step]
            got, _ = self.source.read_into(piece, offset + done)
            watch.did_read()
            watch.hold(got)  # afterwards: how much there is, is not known before
            self.ended = got < len(piece)
            done += got
        if not done:
            return None
        self.next_unit += 1
        return _UnitTask(number, offset, done, None)

    def _take_hole(self, number: int, hole_end: int, total: int) -> _HoleTask:
        lengths: list[int] = []
        while len(lengths) < _HOLE_UNITS:
            offset = self.next_unit * self.geometry.unit_bytes
            length = self.geometry.unit_length(self.next_unit, total)
            if offset >= total or offset + length > hole_end:
                break
            lengths.append(length)
            self.next_unit += 1
        return _HoleTask(number, lengths)

    def _frame_holes(self, offset: int, length: int) -> list[bool] | None:
        holes: list[bool] = []
        for frame_bytes in self.geometry.frame_lengths(length):
            holes.append(self.source.hole_end(offset) >= offset + frame_bytes)
            offset += frame_bytes
        return holes if any(holes) else None


@dataclass(slots=True)
class _Packer:
    """Does tasks; shared by all threads, which only read it."""

    source: Source
    geometry: Geometry
    header: Header
    pace: Pace
    stopped: bool = False

    def stop(self) -> None:
        """End units under way early: at a high level, one takes many seconds."""
        self.stopped = True
        self.pace.stop()
        self.source.cancel()

    def new_state(self) -> _State:
        """Make what one thread owns."""
        encoder = UnitEncoder(self.header.uuid, self.geometry, self.header.level)
        streamed = self.source.content_bytes is None
        size = self.geometry.unit_bytes if streamed else self.geometry.frame_bytes
        return _State(memoryview(bytearray(size)), encoder, self.pace.new_watch())

    def work(self, task: _UnitTask | _HoleTask, state: _State) -> list[EncodedUnit]:
        """Read and encode the units of a task."""
        watch = state.watch
        watch.begin()
        if isinstance(task, _HoleTask):
            units = [
                state.encoder.encode_hole(task.first + n, length)
                for n, length in enumerate(task.lengths)
            ]
            watch.did_compress()
            return units
        unreadable: Runs = []
        if self.source.content_bytes is None:
            frames = self._streamed_frames(task, state.view)
        else:
            frames = self._read_frames(task, state, unreadable)
        unit = state.encoder.encode(task.number, task.content_bytes, frames, unreadable)
        watch.did_compress()
        self.source.done_with(task.content_offset, task.content_bytes)
        watch.did_read()
        return [unit]

    def _streamed_frames(self, task: _UnitTask, view: memoryview) -> Iterator[memoryview | None]:
        at = 0
        for length in self.geometry.frame_lengths(task.content_bytes):
            self._check_stopped()
            yield view[at : at + length]
            at += length

    def _read_frames(
        self, task: _UnitTask, state: _State, unreadable: Runs
    ) -> Iterator[memoryview | None]:
        """Yield each frame of a unit, but None for holes; collect what can't be read."""
        view, watch = state.view, state.watch
        is_limited = self.pace.is_limited
        if not is_limited:  # or the kernel would read a whole unit at once
            self.source.will_need(task.content_offset, task.content_bytes)
            watch.did_read()
        offset = task.content_offset
        for number, length in enumerate(self.geometry.frame_lengths(task.content_bytes)):
            self._check_stopped()
            if task.holes is not None and task.holes[number]:
                yield None
            else:
                piece = view[:length]
                if is_limited:
                    watch.hold(length)
                unreadable += self.source.read_into(piece, offset)[1]
                watch.did_read()
                yield piece
                watch.did_compress()
            offset += length

    def _check_stopped(self) -> None:
        if self.stopped:  # nobody waits for the unit, nor hears of this error
            raise SourceError("packing was stopped")


def pack(
    source: Source,
    target: Target,
    header: Header,
    *,
    threads: int,
    new_spool: Callable[[], Spool],
    report: Report = silent,
    name: bytes | None = None,
    check: Callable[[Footer], None] | None = None,
    pace: Pace | None = None,
) -> PackResult:
    """Pack `source` as a volume into `target`, and commit it.

    The bytes that are written depend on the source, the header and the name alone, not on the
    number of threads.

    Args:
        source: what to pack; closed by the caller.
        target: where the archive goes; discarded if anything fails, also by a signal.
        header: identity, geometry, level and facts.
        threads: compressors.
        new_spool: where index rows wait until the units are written.
        report: told after each unit.
        name: name of the volume; None for the source's.
        check: called when the archive is safe on the disk, before it gets its name; what it raises
            is raised.
        pace: how fast the source is read, and what measures the stages; None for neither.

    Raises:
        BadUseError: a size or the name can't be.
        SourceError: the source can't be read, or shrank.
        StoreError: the target failed.
    """
    try:
        header.geometry.checked()
        volume_name = source.name if name is None else name
        if not is_safe_name(volume_name):
            shown = volume_name[:80].decode(errors="backslashreplace")
            raise BadUseError(f"{shown!r} can't be the name of a volume; give one by --name")
        assembler = Assembler(header, new_spool)
        pace = pace or Pace()
        watch = pace.new_watch()
        packer = _Packer(source, header.geometry, header, pace)
        planner = _Planner(source, header.geometry, pace)
        pool: OrderedPool[_State, _UnitTask | _HoleTask, list[EncodedUnit]] = OrderedPool(
            threads, packer.new_state, planner.take, packer.work, threads + 2, packer.stop
        )

        def consume(units: list[EncodedUnit]) -> None:
            watch.begin()
            target.append([part for unit in units for part in assembler.add(unit)])
            watch.did_write()
            totals = assembler.totals
            report(
                Progress(
                    "pack", totals.content_bytes, source.content_bytes, totals.stored_bytes,
                    pace.busy(),
                )
            )  # fmt: skip

        target.append([assembler.begin()])
        pool.run(consume)
        changed = source.changed()
        member = volume_member(
            volume_name, assembler.totals.content_bytes, source.mtime_ns,
            changed=changed is not None,
        )  # fmt: skip
        assembler.add_volume(member)
        footer = append_all(target, assembler.finish())
        target.sync()
        if check:
            check(footer)
        target.commit()
    except BaseException:
        target.discard()
        raise
    findings: list[Finding] = []
    if changed:
        findings.append(
            Finding("source-changed", Severity.WARNING, f"the source changed while read: {changed}")
        )
    if footer.unreadable_bytes:
        findings.append(
            Finding(
                "source-unreadable", Severity.WARNING,
                f"{footer.unreadable_bytes} bytes of the source can't be read; they are stored as "
                "zeros, and listed by `onggi info`",
                content_bytes=footer.unreadable_bytes,
            )
        )  # fmt: skip
    return PackResult(header, footer, findings)


def append_all(target: Target, records: Generator[bytes, None, Footer]) -> Footer:
    """Append records to `target`; return what the generator of them returns."""
    while True:
        try:
            target.append([next(records)])
        except StopIteration as end:
            footer: Footer = end.value
            return footer
