"""Two kinds of trees that can be compared: one in an archive, one in a file system.

Owns: what both look like to a comparison. Must not compare anything. Safe in many threads, but for
`children`, which belongs to the one that walks.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from . import layout
from .entry import Entry, decode_attributes
from .files import (
    STAT_BLOCK_BYTES,
    WANT_ATTRIBUTES,
    WANT_FILE_FLAGS,
    Found,
    data_runs_of,
    found_by_mode,
    open_quietly,
    scan,
)
from .folders import Folder
from .selection import TreeOptions
from .tree_plan import device_of
from .tree_writer import TreeSource
from .view import View

_SCAN_NAMES = 512
_KINDS = {
    stat.S_IFREG: layout.ENTRY_FILE,
    stat.S_IFDIR: layout.ENTRY_DIRECTORY,
    stat.S_IFLNK: layout.ENTRY_SYMLINK,
    stat.S_IFCHR: layout.ENTRY_CHARACTER_DEVICE,
    stat.S_IFBLK: layout.ENTRY_BLOCK_DEVICE,
    stat.S_IFIFO: layout.ENTRY_FIFO,
}

Read = Callable[[int, int], bytes]
"""Gives `size` bytes from an offset of a file on, fewer at its end."""


class Item(NamedTuple):
    """One thing in a tree.

    `kind` is one of the entry types of the format, never a hard link: those share `identity`.
    `made` says that a directory's metadata means nothing. `handle` is for the side that made it.
    """

    kind: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    file_flags: int
    size: int
    device: tuple[int, int]
    target: bytes
    attributes: tuple[tuple[bytes, bytes], ...]
    identity: object
    made: bool
    problem: str
    handle: object


class _Handle(NamedTuple):
    """What a `LiveSide` knows of an item: the folder that it is in, or is."""

    folder: Folder
    found: Found


class Side(Protocol):
    """A tree that is compared with another one."""

    def root(self) -> Item:
        """Return the root."""
        ...

    def children(self, item: Item) -> Iterator[tuple[bytes, Item]]:
        """Yield (name, item) of all that is in a directory, sorted by name."""
        ...

    def open(self, item: Item) -> tuple[Read, Callable[[], None]]:
        """Return what reads a file, and what closes it.

        Raises:
            OSError, OnggiError: it can't be read.
        """
        ...

    def data(self, item: Item) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) of the data of a file, sorted; between them are holes.

        Raises:
            OSError, OnggiError: it can't be read.
        """
        ...


class ArchiveSide:
    """A tree in an archive."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._tree = view.tree

    def root(self) -> Item:
        """Return the root."""
        return self._item(self._tree.root)

    def children(self, item: Item) -> Iterator[tuple[bytes, Item]]:
        """Yield (name, item) of all that is in a directory, sorted by name."""
        assert isinstance(item.handle, Entry)
        for name, entry in self._tree.children(item.handle):
            yield name, self._item(self._tree.primary(entry))

    def open(self, item: Item) -> tuple[Read, Callable[[], None]]:
        """Return what reads a file, and what closes it."""
        entry = item.handle
        assert isinstance(entry, Entry)
        return lambda offset, size: self._view.read(entry, offset, size), _nothing

    def data(self, item: Item) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) of the data of a file, sorted; between them are holes."""
        assert isinstance(item.handle, Entry)
        for run in self._tree.runs(item.handle):
            yield run.member_offset, run.run_bytes

    def _item(self, entry: Entry) -> Item:
        is_link = entry.type == layout.ENTRY_SYMLINK
        return Item(
            entry.type, entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.file_flags,
            entry.member_bytes if entry.is_file else 0,
            (entry.first, entry.total) if entry.is_device else (0, 0),
            self._tree.target(entry) if is_link else b"",
            tuple(self._tree.attributes(entry)),
            entry.row if entry.link_count > 1 else None,
            bool(entry.flags & layout.FLAG_MADE), "", entry,
        )  # fmt: skip


class LiveSide:
    """A tree in a file system.

    Args:
        source: its roots, opened.
        options: what is left out.
    """

    def __init__(self, source: TreeSource, options: TreeOptions) -> None:
        self._source = source
        self._folders = source.folders
        self._options = options

    def root(self) -> Item:
        """Return the root."""
        first = self._source.roots[0]
        if len(self._source.roots) == 1 and first.is_top:
            return self._item(-1, first.folder, first.found)
        made = found_by_mode(b"", stat.S_IFDIR | 0o755)
        return self._item(-1, None, made)._replace(made=True)

    def children(self, item: Item) -> Iterator[tuple[bytes, Item]]:
        """Yield (name, item) of all that is in a directory, sorted by name; sockets are left out.

        Raises:
            OSError: it can't be listed.
        """
        if item.made:
            yield from self._roots()
            return
        folder, _ = _handle(item)
        with self._folders.use(folder) as fd:
            for batch in self._batches(fd, folder):
                for each in batch:
                    kind = stat.S_IFMT(each.mode)
                    if kind == stat.S_IFSOCK:
                        continue
                    place = folder
                    if kind == stat.S_IFDIR:
                        place = Folder(folder, each.name, each.identity)
                    yield each.name, self._item(fd, place, each)

    def open(self, item: Item) -> tuple[Read, Callable[[], None]]:
        """Return what reads a file, and what closes it.

        Raises:
            OSError: it can't be opened.
        """
        folder, found = _handle(item)
        with self._folders.use(folder) as fd:
            file = open_quietly(fd, found.name)

        def read(offset: int, size: int) -> bytes:
            pieces: list[bytes] = []
            while size and (piece := os.pread(file, size, offset)):
                pieces.append(piece)
                offset += len(piece)
                size -= len(piece)
            return b"".join(pieces)

        return read, lambda: os.close(file)

    def data(self, item: Item) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) of the data of a file, sorted; between them are holes.

        Raises:
            OSError: it can't be looked at.
        """
        folder, found = _handle(item)
        runs: list[tuple[int, int]] | None = None
        if found.blocks * STAT_BLOCK_BYTES < found.size:
            with self._folders.use(folder) as fd:
                runs = data_runs_of(fd, found)
        yield from [(0, found.size)] if runs is None else runs

    def _roots(self) -> Iterator[tuple[bytes, Item]]:
        for root in sorted(self._source.roots, key=lambda root: root.found.name):
            if self._options.is_left_out(root.found.name):
                continue
            with self._folders.use(root.folder) as fd:
                yield root.found.name, self._item(fd, root.folder, root.found)

    def _batches(self, fd: int, folder: Folder) -> Iterator[list[Found]]:
        path = folder.path()
        names = self._options.names_in(fd, path, device_of(self._source.roots, path))
        for at in range(0, len(names), _SCAN_NAMES):
            yield scan(fd, names[at : at + _SCAN_NAMES], WANT_ATTRIBUTES | WANT_FILE_FLAGS)

    def _item(self, fd: int, folder: Folder | None, found: Found) -> Item:
        kind = stat.S_IFMT(found.mode)
        is_device = kind in (stat.S_IFCHR, stat.S_IFBLK)
        target, problem = b"", os.strerror(found.error) if found.error else ""
        if kind == stat.S_IFLNK:
            try:
                target = os.readlink(found.name, dir_fd=fd)
            except OSError as error:
                problem = os.strerror(error.errno or 0)
        linked = found.nlink > 1 and kind != stat.S_IFDIR
        return Item(
            _KINDS.get(kind, 0), stat.S_IMODE(found.mode), found.uid, found.gid, found.mtime_ns,
            found.file_flags, found.size if kind == stat.S_IFREG else 0,
            (os.major(found.rdev), os.minor(found.rdev)) if is_device else (0, 0), target,
            tuple(decode_attributes(found.attributes)), found.identity if linked else None,
            False, problem, None if folder is None else _Handle(folder, found),
        )  # fmt: skip


def _handle(item: Item) -> tuple[Folder, Found]:
    assert isinstance(item.handle, _Handle)
    return item.handle.folder, item.handle.found


def _nothing() -> None:
    """Close nothing."""
