"""Packs a file tree: one place plans units, N threads read and compress them, one appends them.

Owns: the way from sources to a target. Must not parse anything, nor know command lines or clocks.
`pack_tree` is called in one thread, and starts its own.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from . import layout
from .assemble import Assembler
from .errors import BadUseError, Finding, Severity, SourceError
from .files import (
    WANT_ATTRIBUTES,
    WANT_FILE_FLAGS,
    Found,
    ReadProblem,
    read_files,
    read_files_held,
    scan,
)
from .folders import Folders
from .footer import Footer
from .header import Header
from .pace import Pace, Watch
from .pool import OrderedPool
from .progress import Progress, Report, silent
from .selection import TreeOptions
from .store import Target
from .table import Spool
from .tree_plan import Root, TreePlanner
from .tree_rows import TreeRows
from .unit import EncodedUnit, UnitEncoder
from .unit_plan import FolderSpans, UnitPlan
from .writer import PackResult, append_all

_CAPTURED = (
    layout.CAPTURED_OWNER_NAMES
    | layout.CAPTURED_ATTRIBUTES
    | layout.CAPTURED_ACLS
    | layout.CAPTURED_FILE_FLAGS
    | layout.CAPTURED_HOLES
)
_ABSENT = ("vanished", "unreadable", "shrank")


@dataclass(frozen=True, slots=True)
class TreePackResult(PackResult):
    """What `pack_tree` did; `sockets` is the number of sockets that were left out."""

    sockets: int = 0


@dataclass(frozen=True, slots=True)
class _Problem:
    """What was off about a file, in which row."""

    row: int
    path: bytes
    problem: ReadProblem


@dataclass(frozen=True, slots=True)
class _Packed:
    unit: EncodedUnit
    problems: Sequence[_Problem]
    findings: Sequence[Finding]


@dataclass(slots=True)
class _State:
    """What one thread owns: a compressor, a buffer for a unit, and a watch."""

    view: memoryview
    encoder: UnitEncoder
    watch: Watch


class TreeSource:
    """The folders and files that a tree is made of, opened.

    Use it as a context: leaving closes all.

    Attributes:
        leave_out: (device, inode) of files that are not packed: the archive itself.

    Args:
        paths: one folder, whose content becomes the tree; or several folders and files, each of
            which gets its last component as its name in the tree.

    Raises:
        SourceError: one can't be opened.
        BadUseError: two would have the same name.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.folders = Folders()
        self.roots: list[Root] = []
        self.leave_out: set[tuple[int, int]] = set()
        try:
            for path in paths:
                self.roots.append(self._root(os.fsencode(path), alone=len(paths) == 1))
        except OSError as error:
            self.folders.close()
            reason = os.strerror(error.errno or 0)
            raise SourceError(f"can't open {os.fsdecode(error.filename)}: {reason}") from None
        except BaseException:
            self.folders.close()
            raise
        names = [root.found.name for root in self.roots]
        for name in names:
            if names.count(name) > 1:
                self.folders.close()
                shown = os.fsdecode(name)
                raise BadUseError(f"two sources have the name {shown}; pack the folder above them")

    def __enter__(self) -> TreeSource:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        self.folders.close()

    def _root(self, path: bytes, *, alone: bool) -> Root:
        whole = os.path.abspath(path)
        name = os.path.basename(whole) or b"root"
        # A symbolic link that leads to a folder stands for it, as for find -H.
        if os.path.isdir(path):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            folder = self.folders.top(fd)
            found = scan(fd, [b"."], WANT_ATTRIBUTES | WANT_FILE_FLAGS)[0]
            if not alone:
                folder = self.folders.below_top(folder, name)
            return Root(folder, _checked(found._replace(name=name), path), is_top=True)
        fd = os.open(os.path.dirname(whole), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        folder = self.folders.top(fd)
        found = scan(fd, [name], WANT_ATTRIBUTES | WANT_FILE_FLAGS)[0]
        if stat.S_ISSOCK(found.mode):
            raise SourceError(f"{os.fsdecode(path)} is a socket")
        return Root(folder, _checked(found, path), is_top=False)


def _checked(found: Found, path: bytes) -> Found:
    if found.error:
        raise OSError(found.error, os.strerror(found.error), path)
    return found


def pack_tree(
    source: TreeSource,
    target: Target,
    header: Header,
    *,
    threads: int,
    new_spool: Callable[[], Spool],
    options: TreeOptions | None = None,
    report: Report = silent,
    found: Callable[[Finding], None] = lambda _: None,
    check: Callable[[Footer], None] | None = None,
    pace: Pace | None = None,
) -> TreePackResult:
    """Pack a tree into `target`, and commit it.

    The bytes that are written depend on the tree, the header and the options alone, not on the
    number of threads. Memory does not grow with the tree, but for folders with very many folders
    in them, and for files with names outside of the tree (hard links).

    Args:
        source: what to pack; closed by the caller.
        target: where the archive goes; discarded if anything fails, also by a signal.
        header: identity, geometry, level and facts; of kind tree.
        threads: compressors.
        new_spool: where the rows of the catalogue and the index wait until the units are written.
        options: what is left out.
        report: told after each unit.
        found: told of each finding, as soon as it is known: files that changed, vanished or could
            not be read. The archive is valid all the same.
        check: called when the archive is safe on the disk, before it gets its name; what it raises
            is raised.
        pace: how fast files are read, and what measures the stages; None for neither.

    Raises:
        BadUseError: a size can't be.
        SourceError: a source can't be read at all.
        StoreError: the target failed.
    """
    try:
        header.geometry.checked()
        assembler = Assembler(header, new_spool)
        rows = TreeRows(assembler, owner_name)
        pace = pace or Pace()
        plan_watch, write_watch = pace.new_watch(), pace.new_watch()
        planner = TreePlanner(
            source.roots, source.folders, rows, header.geometry, owner_name,
            options or TreeOptions(), source.leave_out, plan_watch.hold,
        )  # fmt: skip
        packer = _Packer(source.folders, header, pace)
        ledger = _Ledger(found)

        def take(_: _State) -> UnitPlan | None:
            plan_watch.begin()
            plan = planner.take()
            plan_watch.did_read()
            return plan

        def consume(packed: _Packed) -> None:
            write_watch.begin()
            target.append(assembler.add(packed.unit))
            write_watch.did_write()
            ledger.take(packed)
            totals = assembler.totals
            busy = pace.busy()
            report(Progress("pack", totals.content_bytes, None, totals.stored_bytes, busy))

        pool: OrderedPool[_State, UnitPlan, _Packed] = OrderedPool(
            threads, packer.new_state, take, packer.work, threads + 2, packer.stop
        )

        target.append([assembler.begin()])
        pool.run(consume)
        for finding in planner.last_findings:
            ledger.tell(finding)
        ledger.finish(rows)
        rows.finish(_CAPTURED)
        footer = append_all(target, assembler.finish())
        target.sync()
        if check:
            check(footer)
        target.commit()
    except BaseException:
        target.discard()
        raise
    return TreePackResult(header, footer, (), planner.sockets)


class _Packer:
    """Does the work of the threads; shared by all, which only read it."""

    def __init__(self, folders: Folders, header: Header, pace: Pace) -> None:
        self._folders = folders
        self._header = header
        self._pace = pace
        self._stopped = False

    def stop(self) -> None:
        """End units under way early: at a high level, one takes many seconds."""
        self._stopped = True
        self._pace.stop()

    def new_state(self) -> _State:
        header = self._header
        encoder = UnitEncoder(header.uuid, header.geometry, header.level)
        view = memoryview(bytearray(header.geometry.unit_bytes))
        return _State(view, encoder, self._pace.new_watch())

    def work(self, plan: UnitPlan, state: _State) -> _Packed:
        """Read and encode a unit."""
        watch = state.watch
        watch.begin()
        view = state.view[: plan.content_bytes]
        for at, data in plan.literals:
            view[at : at + len(data)] = data
        problems: list[_Problem] = []
        for spans in plan.spans:
            problems += self._read(spans, view, watch)
        watch.did_read()
        start = plan.number * self._header.geometry.unit_bytes
        lost = [(start + at, size) for problem in problems for at, size in problem.problem.runs]
        unit = state.encoder.encode(plan.number, plan.content_bytes, self._frames(view), lost)
        watch.did_compress()
        return _Packed(unit, problems, plan.findings)

    def _read(self, spans: FolderSpans, view: memoryview, watch: Watch) -> Iterator[_Problem]:
        folder, wanted, rows = spans
        try:
            with self._folders.use(folder) as fd:
                if self._pace.is_limited:
                    found = read_files_held(fd, wanted, view, watch.hold)
                else:
                    found = read_files(fd, wanted, view)
        except OSError as error:
            reason = f"its folder can't be entered: {os.strerror(error.errno or 0)}"
            found = list[ReadProblem]()
            for number, each in enumerate(wanted):
                view[each.view_offset : each.view_offset + each.length] = bytes(each.length)
                runs = [(each.view_offset, each.length)]
                found.append(ReadProblem(number, "vanished", reason, runs))
        for problem in found:
            path = folder.path_of(wanted[problem.number].found.name)
            yield _Problem(rows[problem.number], path, problem)

    def _frames(self, view: memoryview) -> Iterator[memoryview]:
        at = 0
        for length in self._header.geometry.frame_lengths(len(view)):
            if self._stopped:  # nobody waits for the unit, nor hears of this error
                raise SourceError("packing was stopped")
            yield view[at : at + length]
            at += length


class _Ledger:
    """Tells findings, each once, and keeps which entries they concern."""

    def __init__(self, found: Callable[[Finding], None]) -> None:
        self._found = found
        self._flags: dict[int, int] = {}
        self._told = -1
        self.findings = 0

    def take(self, packed: _Packed) -> None:
        for finding in packed.findings:
            self.tell(finding)
        for each in packed.problems:
            problem = each.problem
            flags = layout.FLAG_CHANGED
            if problem.code in _ABSENT:
                flags = layout.FLAG_INCOMPLETE
                if problem.code != "unreadable":
                    flags |= layout.FLAG_CHANGED
            self._flags[each.row] = self._flags.get(each.row, 0) | flags
            # A file in many units has the same trouble in all of them.
            if self._told != each.row:
                self._told = each.row
                self._tell(problem.code, each.path, problem.message)

    def tell(self, finding: Finding) -> None:
        self.findings += 1
        self._found(finding)

    def finish(self, rows: TreeRows) -> None:
        """Mark the entries that changed, and those that share content with one that did."""
        spoiled: dict[int, int] = {}
        for row, flags in self._flags.items():
            entry = rows.entry(row)
            rows.set_flags(row, entry.flags | flags)
            if not entry.is_mapped:
                spoiled[entry.first] = row
        for entry in rows.shared_with(frozenset(spoiled)) if spoiled else ():
            flags = self._flags[spoiled[entry.first]]
            rows.set_flags(entry.row, entry.flags | flags)
            other = os.fsdecode(rows.path(spoiled[entry.first]))
            self._tell(
                "changed", rows.path(entry.row),
                f"its content was to be stored with that of {other}, which changed meanwhile",
            )  # fmt: skip

    def _tell(self, code: str, path: bytes, message: str) -> None:
        shown = os.fsdecode(path)
        self.tell(Finding(code, Severity.WARNING, f"{shown}: {message}", path=shown))


@lru_cache(maxsize=4096)
def owner_name(kind: int, number: int) -> bytes:
    """Return the name of a user or a group of this system, empty if it has none."""
    try:
        if kind == layout.OWNER_USER:
            return os.fsencode(pwd.getpwuid(number).pw_name)
        return os.fsencode(grp.getgrgid(number).gr_name)
    except (KeyError, OverflowError):
        return b""
