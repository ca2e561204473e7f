"""Plans a tree: walks over it, writes its catalogue, and cuts its content into units.

Owns: the order of entries and content (spec sections 6.6 and 6.11), and what every byte of the
content shall be: literal, or a span of a file. Lengths are those that were found, so the bounds of
units are known before a file is read. Reads no file but for duplicates. One owner at a time.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from . import layout, pax
from .accelerate import native
from .dedup import LEAST_BYTES, Candidate, Seen
from .entry import is_entry_name
from .errors import Finding, Severity
from .files import (
    STAT_BLOCK_BYTES,
    WANT_ATTRIBUTES,
    WANT_FILE_FLAGS,
    Found,
    data_runs_of,
    found_by_mode,
    scan,
)
from .folders import Folder, Folders
from .pace import Hold, at_once
from .plan import Geometry
from .selection import TreeOptions
from .tree_headers import Headers
from .tree_rows import TreeRows
from .unit_plan import Cutter, UnitPlan

_SCAN_NAMES = 512  # things that are looked at together
_TIMES = 2**63 - 1
_KIND_BITS = 0o170000
_MOST_BYTES = 2**63 - 1
_MOST_PLAIN_HEADER = 4096  # but for the path of its folder
_GONE = (errno.ENOENT, errno.ESTALE, errno.ELOOP)

_DEVICES = {
    stat.S_IFCHR: (layout.ENTRY_CHARACTER_DEVICE, pax.TYPE_CHARACTER_DEVICE),
    stat.S_IFBLK: (layout.ENTRY_BLOCK_DEVICE, pax.TYPE_BLOCK_DEVICE),
    stat.S_IFIFO: (layout.ENTRY_FIFO, pax.TYPE_FIFO),
}


class Root(NamedTuple):
    """One of the things that a tree holds at its top.

    `folder` is the folder that `found` is in, or, where `is_top`, the folder that it is.
    """

    folder: Folder
    found: Found
    is_top: bool


class _Directory(NamedTuple):
    """A directory that is to be entered; there may be many, so it holds little."""

    folder: Folder
    row: int
    is_open: bool = True  # whether it could be looked at, and so may be entered


class TreePlanner:
    """Gives the units of a tree in order.

    Args:
        roots: what the tree holds; one that is a top folder alone becomes the root itself.
        folders: opens folders.
        rows: takes the catalogue.
        geometry: how content is cut.
        owner_name: as `TreeRows` has it.
        options: what is packed.
        leave_out: (device, inode) of files that are not packed, whatever they are called.
        hold: called before each piece of a file that is read.
    """

    def __init__(
        self,
        roots: Sequence[Root],
        folders: Folders,
        rows: TreeRows,
        geometry: Geometry,
        owner_name: Callable[[int, int], bytes],
        options: TreeOptions,
        leave_out: Collection[tuple[int, int]] = (),
        hold: Hold = at_once,
    ) -> None:
        self._roots = roots
        self._folders = folders
        self._rows = rows
        self._headers = Headers(owner_name)
        self._options = options
        self._leave_out = leave_out
        self._wanted = WANT_ATTRIBUTES | WANT_FILE_FLAGS
        self._cutter = Cutter(geometry.unit_bytes)
        self._steps = self._plan()
        # (device, inode): row, names seen, names expected. Gone once all names were seen.
        self._links: dict[tuple[int, int], tuple[int, int, int]] = {}
        self._seen = Seen(folders, hold) if options.dedup else None
        self._native = native()
        self.sockets = 0

    def take(self) -> UnitPlan | None:
        """Return the next unit; None when there are no more."""
        cutter = self._cutter
        while not cutter.ready:
            if next(self._steps, self) is self and not cutter.ready:
                last = cutter.unit
                if not last.content_bytes:
                    return None
                cutter.ready.append(last)
                cutter.unit = UnitPlan(last.number + 1)
        return cutter.ready.popleft()

    @property
    def last_findings(self) -> list[Finding]:
        """What was found behind the last unit."""
        return self._cutter.unit.findings

    # --- the walk ----------------------------------------------------------------------------

    def _plan(self) -> Iterator[None]:
        """Plan everything; yields whenever units may be ready."""
        first = self._roots[0]
        if len(self._roots) == 1 and first.is_top:
            self._row(
                first.found, b"", 0, layout.ENTRY_DIRECTORY, self._attributes(first.found, b".")
            )
            self._cutter.literal(self._headers.directory(self._rows, 0, b"."))
            top = _Directory(first.folder, 0)
            children = self._children(top)
        else:
            made = found_by_mode(b"", stat.S_IFDIR | 0o755)
            self._row(made, b"", 0, layout.ENTRY_DIRECTORY, 0, flags=layout.FLAG_MADE)
            children = self._root_children()
        yield from self._walk(children)
        self._cutter.literal(pax.END)

    def _walk(self, children: Iterator[_Directory | None]) -> Iterator[None]:
        """Plan the children of the root, and all below them; depth first."""
        stack: list[list[_Directory]] = []
        while True:
            waiting: list[_Directory] = []
            for directory in children:
                if directory is not None:
                    waiting.append(directory)
                if self._cutter.ready:
                    yield
            waiting.reverse()
            stack.append(waiting)
            while stack and not stack[-1]:
                stack.pop()
            if not stack:
                return
            directory = stack[-1].pop()
            path = directory.folder.path()
            self._cutter.literal(self._headers.directory(self._rows, directory.row, path))
            if not directory.is_open:
                children = iter(())
            elif len(stack) >= layout.MAX_DEPTH:
                self._problem("too-deep", path, "what is in it is too deep to be packed")
                children = iter(())
            else:
                children = self._children(directory)

    def _children(self, directory: _Directory) -> Iterator[_Directory | None]:
        """Plan the children of a directory; yield those that are directories, else None."""
        folder, row, _ = directory
        path = folder.path()
        try:
            fd = self._folders.pin(folder)
        except OSError as error:
            self._problem("vanished", path, f"it can't be entered: {_why(error)}")
            return
        try:
            try:
                names = self._options.names_in(fd, path, device_of(self._roots, path))
            except OSError as error:
                self._problem("unreadable", path, f"it can't be listed: {_why(error)}")
                return
            prefix = path + b"/" if path else b""
            first = len(self._rows)
            for at in range(0, len(names), _SCAN_NAMES):
                together = scan(fd, names[at : at + _SCAN_NAMES], self._wanted)
                number = 0
                while number < len(together):
                    number = self._add_files(folder, together, number, row, prefix)
                    for found in together[number : number + 1]:
                        if not self._add_plain(folder, found, row, prefix):
                            yield from self._add(fd, folder, found, row, prefix)
                    number += 1
            self._rows.set_children(row, first, len(self._rows) - first)
        finally:
            self._folders.unpin(folder)

    def _root_children(self) -> Iterator[_Directory | None]:
        """Plan the children of a root that is made of several sources."""
        for root in sorted(self._roots, key=lambda root: root.found.name):
            if self._options.is_left_out(root.found.name):
                continue
            if root.is_top:
                yield self._add_directory(root.folder, root.found, 0, root.found.name)
                continue
            with self._folders.use(root.folder) as fd:
                yield from self._add(fd, root.folder, root.found, 0, b"")
        self._rows.set_children(0, 1, len(self._rows) - 1)

    # --- one entry ---------------------------------------------------------------------------

    def _add(
        self, fd: int, folder: Folder, found: Found, parent: int, prefix: bytes
    ) -> Iterator[_Directory | None]:
        """Plan one thing; yields it if it is a directory to be entered, None for units done."""
        path = prefix + found.name
        kind = stat.S_IFMT(found.mode)
        row = len(self._rows)
        if abs(found.mtime_ns) > _TIMES:
            self._problem("time", path, "its time is beyond the year 2262, and is kept as that")
        if found.error and kind != stat.S_IFDIR:
            self._not_readable(path, found.error)
        elif not is_entry_name(found.name):
            self._problem("name", path, "its name is too long to be packed")
        elif kind == stat.S_IFDIR:
            directory = self._add_directory(
                Folder(folder, found.name, found.identity), found, parent, path
            )
            if found.error:
                self._not_readable(path, found.error)
                directory = directory._replace(is_open=False)
            yield directory
        elif kind == stat.S_IFSOCK:
            self.sockets += 1
        elif found.identity in self._leave_out:
            return
        elif found.nlink > 1 and found.identity in self._links:
            self._add_hard_link(found, parent, path)
            row = len(self._rows)
        elif kind == stat.S_IFREG:
            for _ in self._add_file(fd, folder, found, parent, path):
                yield None
        elif kind == stat.S_IFLNK:
            self._add_symlink(fd, found, parent, path)
        elif kind in _DEVICES:
            self._add_device(found, parent, path)
        if found.nlink > 1 and kind != stat.S_IFDIR and len(self._rows) > row:
            self._links[found.identity] = (row, 1, found.nlink)
        if self._cutter.ready:
            yield None

    def _add_files(
        self, folder: Folder, together: Sequence[Found], first: int, parent: int, prefix: bytes
    ) -> int:
        """Plan those that are like most files, from `first` on; return where they end.

        The same as `_add` of each, in less time. None are where nothing is compiled.
        """
        found = together[first]
        if self._native is None or found.mode & _KIND_BITS != stat.S_IFREG:
            return first
        owner = (found.uid, found.gid)
        cutter = self._cutter
        end, raw, names, literals, spans, rows, at, zeros, file_bytes = self._native.plan_files(
            together, first, prefix, parent, len(self._rows), self._rows.string_bytes,
            *cutter.place(), (*owner, *self._headers.owner_names(*owner)),
            _MOST_BYTES if self._seen is None else LEAST_BYTES,
            lambda found, row, at: self._is_new(Candidate(folder, found, row, at, attributes=0)),
            self._leave_out,
        )  # fmt: skip
        if end > first:
            self._rows.add_encoded(raw, names, owner, file_bytes)
            cutter.take(folder, literals, spans, rows, (at, zeros))
        return end

    def _is_new(self, candidate: Candidate) -> bool:
        return self._seen is None or self._seen.is_new(candidate)

    def _add_plain(self, folder: Folder, found: Found, parent: int, prefix: bytes) -> bool:
        """Plan a file that is like most files; return False if it is not.

        The same as `_add`, in less time: it is small, has one name, no holes and no attributes.
        """
        size = found.size
        if (
            found.mode & _KIND_BITS != stat.S_IFREG
            or size >= LEAST_BYTES
            or found.nlink != 1
            or found.error
            or found.attributes
            or found.blocks * STAT_BLOCK_BYTES < size
            or abs(found.mtime_ns) > _TIMES
            or not self._cutter.room_for(size + len(prefix) + _MOST_PLAIN_HEADER)
            or found.identity in self._leave_out
            or not is_entry_name(found.name)
        ):
            return False
        cutter = self._cutter
        row = len(self._rows)
        cutter.literal(self._headers.plain(found, prefix + found.name))
        self._rows.add_plain(found, parent, cutter.offset if size else 0)
        if size:
            cutter.small_span(folder, found, row, 0, size)
            cutter.pad(-size % pax.BLOCK_BYTES)
        return True

    def _add_directory(self, folder: Folder, found: Found, parent: int, path: bytes) -> _Directory:
        row = len(self._rows)
        attributes = self._attributes(found, path)
        self._row(found, found.name, parent, layout.ENTRY_DIRECTORY, attributes)
        return _Directory(folder, row)

    def _add_device(self, found: Found, parent: int, path: bytes) -> None:
        kind, tar_type = _DEVICES[stat.S_IFMT(found.mode)]
        device = (0, 0)
        if kind != layout.ENTRY_FIFO:
            device = (os.major(found.rdev), os.minor(found.rdev))
        attributes = self._attributes(found, path)
        self._row(found, found.name, parent, kind, attributes, first=device[0], total=device[1])
        self._cutter.literal(self._headers.of(found, path, tar_type, device=device))

    def _add_hard_link(self, found: Found, parent: int, path: bytes) -> None:
        """Add a further name of something that is in the archive."""
        row, seen, expected = self._links[found.identity]
        seen += 1
        if seen >= expected:
            del self._links[found.identity]
        else:
            self._links[found.identity] = (row, seen, expected)
        self._rows.set_links(row, seen)
        self._rows.add(layout.ENTRY_HARD_LINK, found.name, parent, first=row, link_count=0)
        self._cutter.literal(self._headers.hard_link(self._rows, found, path, row))

    def _add_symlink(self, fd: int, found: Found, parent: int, path: bytes) -> None:
        try:
            target = os.readlink(found.name, dir_fd=fd)
        except OSError as error:
            self._not_readable(path, error.errno or 0)
            return
        if not 1 <= len(target) <= layout.MAX_LINK_TARGET_BYTES:
            self._problem("name", path, "its target is too long to be packed")
            return
        self._row(
            found, found.name, parent, layout.ENTRY_SYMLINK, self._attributes(found, path),
            member_bytes=len(target), first=self._rows.add_string(target),
        )  # fmt: skip
        self._cutter.literal(self._headers.of(found, path, pax.TYPE_SYMLINK, link=target))

    def _add_file(
        self, fd: int, folder: Folder, found: Found, parent: int, path: bytes
    ) -> Iterator[None]:
        """Plan a file; yields whenever a unit is done."""
        if found.blocks * STAT_BLOCK_BYTES < found.size:
            try:
                runs = data_runs_of(fd, found)
            except OSError as error:
                self._not_readable(path, error.errno or 0)
                return
            if runs is not None:
                yield from self._add_sparse(folder, found, parent, path, runs)
                return
        attributes = self._attributes(found, path)
        row = len(self._rows)
        if found.attributes:
            header = self._headers.of(found, path, pax.TYPE_FILE, size=found.size)
        else:
            header = self._headers.plain(found, path)
        content_offset = self._cutter.offset + len(header) if found.size else 0
        if self._seen is not None and found.size >= LEAST_BYTES:
            candidate = Candidate(folder, found, row, content_offset, attributes)
            if same := self._seen.same_as(candidate):
                self._row(
                    found, found.name, parent, layout.ENTRY_FILE, attributes,
                    flags=layout.FLAG_SHARED, member_bytes=found.size, first=same.content_offset,
                )  # fmt: skip
                self._cutter.literal(self._headers.hard_link(self._rows, found, path, same.row))
                return
        self._row(
            found, found.name, parent, layout.ENTRY_FILE, attributes,
            member_bytes=found.size, first=content_offset,
        )  # fmt: skip
        self._cutter.literal(header)
        if found.size:
            yield from self._cutter.span(folder, found, row, 0, found.size)
            self._cutter.pad(pax.padding(found.size))

    def _add_sparse(
        self, folder: Folder, found: Found, parent: int, path: bytes, runs: list[tuple[int, int]]
    ) -> Iterator[None]:
        header = self._headers.sparse(found, path, runs)
        at = self._cutter.offset + len(header)
        places: list[tuple[int, int, int]] = []
        for member_offset, length in runs:
            places.append((member_offset, at, length))
            at += length
        row = len(self._rows)
        self._row(
            found, found.name, parent, layout.ENTRY_FILE, self._attributes(found, path),
            flags=layout.FLAG_MAPPED, member_bytes=found.size,
            first=self._rows.add_runs(places), total=len(places),
        )  # fmt: skip
        self._cutter.literal(header)
        for member_offset, length in runs:
            yield from self._cutter.span(folder, found, row, member_offset, length)
        self._cutter.pad(pax.padding(sum(length for _, length in runs)))

    def _row(
        self, found: Found, name: bytes, parent: int, kind: int, attributes: int, *,
        flags: int = 0, member_bytes: int = 0, first: int = 0, total: int = 0,
    ) -> None:  # fmt: skip
        self._rows.add(
            kind, name, parent, flags=flags, mode=stat.S_IMODE(found.mode), uid=found.uid,
            gid=found.gid, file_flags=found.file_flags,
            mtime_ns=max(-_TIMES, min(found.mtime_ns, _TIMES)), attributes=attributes,
            member_bytes=member_bytes, first=first, total=total,
        )  # fmt: skip

    def _attributes(self, found: Found, path: bytes) -> int:
        if len(found.attributes) > layout.MAX_ATTRIBUTES_BYTES:
            self._problem("attributes", path, "its attributes are too long to be packed")
            return 0
        return self._rows.attribute_set(found.attributes)

    # --- findings ----------------------------------------------------------------------------

    def _not_readable(self, path: bytes, code: int) -> None:
        if code in _GONE:
            self._problem("vanished", path, "it vanished before it was read")
        else:
            self._problem("unreadable", path, f"it can't be read: {os.strerror(code)}")

    def _problem(self, code: str, path: bytes, message: str) -> None:
        shown = os.fsdecode(path)
        self._cutter.unit.findings.append(
            Finding(code, Severity.WARNING, f"{shown}: {message}", path=shown)
        )


def device_of(roots: Sequence[Root], path: bytes) -> int:
    """Return the number of the file system that the source of a path of the tree is on."""
    if len(roots) == 1:
        return roots[0].found.dev
    top = path.partition(b"/")[0]
    return next(root.found.dev for root in roots if root.found.name == top)


def _why(error: OSError) -> str:
    return os.strerror(error.errno or 0)
