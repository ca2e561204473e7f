"""Plans how a tree is restored: folders, links and nodes at once, files in tasks for threads.

Owns: the order in which things are restored, and everything that has no content. Must not decode
anything. A `RestorePlanner` belongs to one thread at a time.
"""

from __future__ import annotations

import errno
import os
import stat
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple

from . import layout
from .destination import Destination, failures_of, not_restored
from .entry import Entry
from .errors import BadUseError, DamagedError, Finding
from .folders import Folder
from .restore import (
    FATAL,
    Failure,
    NewEntryFile,
    exists,
    make_directory,
    make_hard_link,
    make_node,
    make_symlink,
    set_file_flags,
    set_metadata,
    sync_file_system,
)
from .row_span import RowSpan
from .tree import Tree, Visited, check_depth

LARGE_BYTES = 16 * 1024 * 1024  # files from here on are written by several threads
_MOST_FILES = 2048  # of one task
_MOST_BYTES = 16 * 1024 * 1024

_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NODE_KINDS = {
    layout.ENTRY_CHARACTER_DEVICE: stat.S_IFCHR,
    layout.ENTRY_BLOCK_DEVICE: stat.S_IFBLK,
    layout.ENTRY_FIFO: stat.S_IFIFO,
}


@dataclass(slots=True)
class Restored:
    """What came of it: how many things were restored, and lengths in bytes."""

    entries: int = 0
    files: int = 0
    file_bytes: int = 0
    lost_bytes: int = 0


class File:
    """A file that is restored by itself: by one task, or, if it is large, by many."""

    __slots__ = ("entry", "failed", "folder", "lock", "name", "new", "row", "waiting")

    def __init__(self, entry: Entry, row: int, folder: Folder, name: bytes) -> None:
        self.entry = entry
        self.row = row  # of its name: that of a hard link, if that stands for the file
        self.folder = folder
        self.name = name
        self.new: NewEntryFile | None = None
        self.waiting = 1  # parts to be written, and the planner until it has planned them all
        self.lock = Lock()
        self.failed = False

    @property
    def path(self) -> bytes:
        """Its path below the folder that is restored to."""
        return self.folder.path_of(self.name)


class Part(NamedTuple):
    """A run of a file's bytes; of no bytes where the file has none."""

    file: File
    member_offset: int
    content_offset: int
    length: int


class PlainFiles(NamedTuple):
    """Files of one folder that stand in rows one after the other, none of them special."""

    folder: Folder
    rows: RowSpan
    first: int
    end: int


@dataclass(slots=True)
class Done:
    """What a task, or the planner, has done."""

    restored: Restored = field(default_factory=Restored)
    findings: list[Finding] = field(default_factory=list[Finding])
    content_bytes: int = 0
    flags_later: list[FlagsLater] = field(default_factory=list["FlagsLater"])
    failed: set[int] = field(default_factory=set[int])  # rows of what was not made


class FlagsLater(NamedTuple):
    """File flags to be set when all hard links are made: an immutable file gets no more names."""

    folder: Folder
    name: bytes
    file_flags: int


@dataclass(slots=True)
class Task:
    """Files and parts of files in the order of the content, and what the planner did meanwhile."""

    items: list[Part | PlainFiles] = field(default_factory=list["Part | PlainFiles"])
    done: Done = field(default_factory=Done)
    files: int = 0
    content_bytes: int = 0


def selected(tree: Tree, paths: Sequence[bytes]) -> list[Visited]:
    """Return where to begin, in the order of rows, nothing twice; the root if there are no paths.

    Raises:
        BadUseError: a path is not in the archive, or holds `..`.
    """
    if not paths:
        return [Visited(tree.root, b"", b"")]
    tops: dict[int, Visited] = {}
    for path in paths:
        entry = tree.lookup(path)
        if entry is None:
            shown = path.decode(errors="backslashreplace")
            raise BadUseError(f"{shown!r} is not in the archive; `onggi ls` tells what is")
        prefix, slash, name = tree.path(entry).rpartition(b"/")
        tops[entry.row] = Visited(entry, prefix + slash, name)
    outer: list[Visited] = []
    for row in sorted(tops):
        above, inside = tops[row].entry, False
        while above.row and not inside:
            above = tree.entry(above.parent)
            inside = above.row in tops
        if not inside:
            outer.append(tops[row])
    return outer


class RestorePlanner:
    """Makes all that has no content, and hands out files.

    Folders come before what is in them; hard links and the metadata of folders come last.

    Args:
        destination: where to.
        tops: what is restored, with all below; see `selected`.
        release: told that all parts of a file are planned.
    """

    def __init__(
        self,
        destination: Destination,
        tops: Sequence[Visited],
        release: Callable[[File, Done], None],
    ) -> None:
        self._to = destination
        self._tree = destination.tree
        self._release = release
        self._all = not tops[0].entry.row
        self._steps = self._plan(tops)
        self._task = Task()
        self._ready: deque[Task] = deque()
        self.failed: set[int] = set()  # rows of what was not made, as far as tasks have told
        self._left_out = False  # whether a directory could not be made
        self._seen = 1  # rows, that of the root included
        self._directories = array("Q")
        self._hard_links = array("Q")
        # Where only parts are restored: entries with several names, and the row that stands for
        # each of them here.
        self._stands_for: dict[int, int] = {}

    def take(self) -> Task | None:
        """Return the next task; None when there are no more."""
        while not self._ready:
            if next(self._steps, self) is self and not self._ready:
                if not self._task.items and not self._task.done.restored.entries:
                    return None
                self._flush()
        return self._ready.popleft()

    def finish(self, flags_later: Sequence[FlagsLater]) -> Done:
        """Make what had to wait until all files are there."""
        done = self._task.done
        self.failed |= done.failed
        for row in self._hard_links:
            self._hard_link(self._tree.entry(row), done)
        for later in (*flags_later, *done.flags_later):
            self._file_flags(later, done)
        for row in reversed(self._directories):
            self._directory_metadata(self._tree.entry(row), done)
        with self._to.folders.use(self._to.top) as fd:
            sync_file_system(fd)
        if self._all and not self._left_out and self._seen != len(self._tree):
            raise DamagedError(
                "catalogue", f"{len(self._tree) - self._seen} entries are in no directory"
            )
        return done

    # --- the walk ----------------------------------------------------------------------------

    def _plan(self, tops: Sequence[Visited]) -> Iterator[None]:
        """Plan everything; yields whenever tasks may be ready."""
        for top in tops:
            self._make_above(top.entry)
            if not top.entry.is_directory:
                yield from self._entry(top.entry, top.name)
            elif self._directory(top.entry, whole=True):
                yield from self._below(top.entry)

    def _below(self, top: Entry) -> Iterator[None]:
        """Plan all below a directory, in the order of the content: see `Tree.walk`."""
        stack: list[array[int]] = []
        directory: Entry | None = top
        while directory is not None:
            waiting = array("Q")
            last = b""
            for rows in self._tree.spans(directory):
                last = rows.check_order(last)
                self._seen += len(rows)
                yield from self._rows(rows, waiting)
            waiting.reverse()
            stack.append(waiting)
            if directory.total:
                check_depth(len(stack))
            while stack and not stack[-1]:
                stack.pop()
            directory = self._tree.entry(stack[-1].pop()) if stack else None

    def _rows(self, rows: RowSpan, waiting: array[int]) -> Iterator[None]:
        """Plan children of a directory; those that are directories are made, and then wait."""
        folder = self._to.folder(rows.parent)
        at = 0
        # With a part of the tree, each name has to be looked at: it may be one of several.
        special = rows.special(LARGE_BYTES) if self._all else range(len(rows))
        for number in special:
            yield from self._plain_files(folder, rows, at, number)
            at = number + 1
            entry = rows.entry(number)
            if not entry.is_directory:
                yield from self._entry(entry, rows.name(entry))
            elif self._directory(entry, whole=True):
                waiting.append(entry.row)
        yield from self._plain_files(folder, rows, at, len(rows))

    def _plain_files(self, folder: Folder, rows: RowSpan, first: int, end: int) -> Iterator[None]:
        if first == end:
            return
        self._task.items.append(PlainFiles(folder, rows, first, end))
        yield from self._count(end - first, rows.content_bytes(first, end))

    def _count(self, files: int, content_bytes: int) -> Iterator[None]:
        task = self._task
        task.files += files
        task.content_bytes += content_bytes
        if task.files >= _MOST_FILES or task.content_bytes >= _MOST_BYTES:
            self._flush()
            yield

    def _flush(self) -> None:
        self._ready.append(self._task)
        self._task = Task()

    def _make_above(self, entry: Entry) -> None:
        """Make the folders on the way to something that is restored alone."""
        chain: list[Entry] = []
        while entry.row:
            entry = self._tree.entry(entry.parent)
            chain.append(entry)
        for each in reversed(chain):
            if each.row:
                self._directory(each, whole=False)

    def _entry(self, entry: Entry, name: bytes) -> Iterator[None]:
        """Plan what is no directory."""
        if entry.type == layout.ENTRY_HARD_LINK:
            primary = self._tree.primary(entry)
            if self._all or primary.row in self._stands_for:
                self._hard_links.append(entry.row)
                return
            self._stands_for[primary.row] = entry.row
            yield from self._content(primary, entry, name)
        elif entry.link_count > 1 and not self._all:
            if entry.row in self._stands_for:  # one of its links came first
                self._hard_links.append(entry.row)
                return
            self._stands_for[entry.row] = entry.row
            yield from self._content(entry, entry, name)
        else:
            yield from self._content(entry, entry, name)

    def _content(self, primary: Entry, entry: Entry, name: bytes) -> Iterator[None]:
        """Restore something under the name of an entry, whose content is that of another one."""
        folder = self._to.folder(entry.parent)
        if primary.is_file:
            yield from self._parts(File(primary, entry.row, folder, name))
            return
        done = self._task.done
        path = folder.path_of(name)
        done.findings += self._to.limits(primary, path)
        metadata = self._to.metadata(primary)
        try:
            with self._to.folders.use(folder) as fd:
                if primary.type == layout.ENTRY_SYMLINK:
                    failures = make_symlink(
                        fd, name, self._tree.target(primary), metadata, self._to.placing, entry.row
                    )
                else:
                    device = os.makedev(primary.first, primary.total) if primary.is_device else 0
                    failures = make_node(
                        fd, name, _NODE_KINDS[primary.type], device, metadata, self._to.placing,
                        entry.row,
                    )  # fmt: skip
        except OSError as error:
            if error.errno in FATAL:
                raise
            done.failed.add(entry.row)
            done.findings.append(self._to.failed(path, error))
            return
        done.findings += failures_of(path, failures)
        done.restored.entries += 1

    def _parts(self, file: File) -> Iterator[None]:
        """Hand out a file in parts."""
        empty = True
        for run in self._tree.runs(file.entry):
            at, end = run.content_offset, run.content_offset + run.run_bytes
            while at < end:
                empty = False
                take = min(end - at, LARGE_BYTES)
                self._add(Part(file, run.member_offset + at - run.content_offset, at, take))
                at += take
                yield from self._count(1, take)
        if empty:
            self._add(Part(file, 0, 0, 0))
        self._release(file, self._task.done)

    def _add(self, part: Part) -> None:
        with part.file.lock:
            part.file.waiting += 1
        self._task.items.append(part)

    # --- folders and links -------------------------------------------------------------------

    def _directory(self, entry: Entry, *, whole: bool) -> bool:
        """Make a directory; return whether it is there."""
        if not entry.row:
            if not entry.flags & layout.FLAG_MADE:
                self._directories.append(0)
            return True
        done = self._task.done
        parent = self._to.folder(entry.parent)
        name = self._tree.name(entry)
        try:
            with self._to.folders.use(parent) as fd:
                is_new = make_directory(fd, name, force=self._to.options.force)
        except OSError as error:
            if error.errno in FATAL:
                raise
            done.findings.append(self._to.failed(parent.path_of(name), error))
            self._left_out = True
            return False
        if is_new or whole:
            self._directories.append(entry.row)
        done.restored.entries += is_new
        return True

    def _hard_link(self, link: Entry, done: Done) -> None:
        primary = self._tree.primary(link)
        first = self._tree.entry(self._stands_for.get(primary.row, primary.row))
        folder = self._to.folder(link.parent)
        name = self._tree.name(link)
        from_folder, from_name = self._to.folder(first.parent), self._tree.name(first)
        if first.row in self.failed:  # what stands under that name is not from the archive
            self._link_to_nothing(folder, name, from_folder.path_of(from_name), done)
            return
        try:
            with self._to.folders.use(from_folder) as source, self._to.folders.use(folder) as fd:
                make_hard_link(source, from_name, fd, name, self._to.placing, link.row)
        except OSError as error:
            if error.errno in FATAL:
                raise
            done.findings.append(self._to.failed(folder.path_of(name), error))
            return
        done.restored.entries += 1

    def _link_to_nothing(self, folder: Folder, name: bytes, target: bytes, done: Done) -> None:
        """Tell that a hard link is not made, since what it names was not restored."""
        path = folder.path_of(name)
        with self._to.folders.use(folder) as fd:
            if exists(fd, name) and not self._to.options.force:
                error = FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
                done.findings.append(self._to.failed(path, error))
                return
        why = f"what it is a link to was not restored: {os.fsdecode(target)}"
        done.findings.append(not_restored(path, "entry", why))

    def _file_flags(self, later: FlagsLater, done: Done) -> None:
        path = later.folder.path_of(later.name)
        try:
            with self._to.folders.use(later.folder) as folder:
                fd = os.open(later.name, _OPEN_FILE, dir_fd=folder)
            try:
                failures = set_file_flags(fd, later.file_flags)
            finally:
                os.close(fd)
        except OSError as error:
            failures = [Failure("file flags", error.errno or 0)]
        done.findings += failures_of(path, failures)

    def _directory_metadata(self, entry: Entry, done: Done) -> None:
        folder = self._to.folder(entry.row)
        metadata = self._to.metadata(entry)
        path = folder.path() or b"."
        try:
            with self._to.folders.use(folder) as fd:
                failures = set_metadata(fd, metadata)
                if metadata.file_flags:
                    failures += set_file_flags(fd, metadata.file_flags)
        except OSError as error:
            done.findings.append(self._to.failed(path, error))
            return
        done.findings += failures_of(path, failures)
