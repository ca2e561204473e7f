"""An archive as nodes that are found by their paths: what the kernel asks of a file system.

Owns: the paths that were used last, inode numbers, what is told of a node. Must not know how the
kernel asks, nor how anything is stored. Safe in many threads.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from ..archive import layout
from ..archive.entry import Entry
from .status import Owners, entry_status

_KNOWN = 8192  # paths; twice as many are kept at most


class View(Protocol):
    """What of an archive is shown; `View` and `VolumeView` of the engine.

    Every method raises DamagedError where what it needs is damaged.
    """

    @property
    def root(self) -> Entry:
        """The root directory."""
        ...

    def child(self, directory: Entry, name: bytes) -> Entry | None:
        """Return the child of that name, no hard link; None if there is none."""
        ...

    def children_from(self, directory: Entry, number: int) -> Iterator[tuple[bytes, Entry]]:
        """Yield (name, entry) of the children from one on, no hard links, in a fixed order."""
        ...

    def pieces(
        self, entry: Entry, member_offset: int, size: int, *, once: bool
    ) -> list[memoryview]:
        """Return bytes of a file in pieces, fewer at its end; `once` if who asks keeps them."""
        ...

    def data(self, entry: Entry, member_offset: int) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) of the data of a file that ends behind an offset, in order."""
        ...

    def data_bytes(self, entry: Entry) -> int:
        """Return the length of a file without its holes."""
        ...

    def target(self, entry: Entry) -> bytes:
        """Return the target of a symbolic link."""
        ...

    def attributes(self, entry: Entry) -> list[tuple[bytes, bytes]]:
        """Return the extended attributes of an entry."""
        ...


class Take(Protocol):
    """Takes the names in a directory.

    Attributes:
        filler, buffer, flags: what `accelerate.Native.fill_rows` takes as such.
    """

    filler: int
    buffer: int
    flags: int

    def offset_of(self, number: int) -> int:
        """Return what libfuse calls the place of a child."""
        ...

    def __call__(self, name: bytes, status: bytes, following: int, /) -> bool:
        """Take a name, its struct stat, and the number of the next; tell whether that was all."""
        ...


class Node(Protocol):
    """Something with a path in a mount."""

    @property
    def serial(self) -> int:
        """Tells what has the same path after an archive was replaced from what had it before."""
        ...

    @property
    def is_directory(self) -> bool:
        """Whether there are names in it."""
        ...

    def status(self) -> bytes:
        """Return its struct stat."""
        ...

    def give(self, number: int, take: Take) -> None:
        """Give away what is in it, from one on, in a fixed order, until no more is taken.

        Raises:
            OSError: it is no directory.
        """
        ...

    def pieces(self, offset: int, size: int, *, once: bool) -> list[memoryview]:
        """Return its bytes in pieces, fewer at its end; `once` if who asks keeps them.

        Raises:
            OSError: it is no file.
        """
        ...

    def seek(self, offset: int, whence: int) -> int:
        """Return where data (os.SEEK_DATA) or a hole (os.SEEK_HOLE) begins, from an offset on.

        Raises:
            OSError: there is none (ENXIO), or it is no file.
        """
        ...

    def target(self) -> bytes:
        """Return the target of a symbolic link.

        Raises:
            OSError: it is none.
        """
        ...

    def attributes(self) -> list[tuple[bytes, bytes]]:
        """Return its extended attributes."""
        ...


class EntryNode(NamedTuple):
    """An entry of an archive, as a node."""

    shown: ShownArchive
    entry: Entry

    @property
    def serial(self) -> int:
        """Tells it from what has the path once the archive was replaced."""
        return self.shown.serial

    @property
    def is_directory(self) -> bool:
        """Whether there are names in it."""
        return self.entry.is_directory

    def status(self) -> bytes:
        """Return its struct stat."""
        return self.shown.status(self.entry)

    def give(self, number: int, take: Take) -> None:
        """Give away what is in it."""
        if not self.entry.is_directory:
            raise _error(errno.ENOTDIR)
        self.shown.give(self.entry, number, take)

    def pieces(self, offset: int, size: int, *, once: bool) -> list[memoryview]:
        """Return its bytes in pieces."""
        if not self.entry.is_file:
            raise _error(errno.EISDIR if self.entry.is_directory else errno.EINVAL)
        return self.shown.view.pieces(self.entry, offset, size, once=once)

    def seek(self, offset: int, whence: int) -> int:
        """Return where data or a hole begins."""
        if not self.entry.is_file:
            raise _error(errno.EINVAL)
        size = self.entry.member_bytes
        if not 0 <= offset < size:
            raise _error(errno.ENXIO)
        at = offset
        for start, length in self.shown.view.data(self.entry, offset):
            if whence == os.SEEK_DATA:
                return max(start, offset)
            if start > at:  # a hole before it
                return at
            at = start + length
        if whence == os.SEEK_DATA:
            raise _error(errno.ENXIO)
        return min(at, size)  # there is a hole behind every end

    def target(self) -> bytes:
        """Return the target of a symbolic link."""
        if self.entry.type != layout.ENTRY_SYMLINK:
            raise _error(errno.EINVAL)
        return self.shown.view.target(self.entry)

    def attributes(self) -> list[tuple[bytes, bytes]]:
        """Return its extended attributes."""
        return self.shown.view.attributes(self.entry)


class ShownArchive:
    """An archive as nodes.

    Args:
        view: what is shown.
        owners: who owns everything.
        first_inode: number of the root; the others come behind it, by their rows.

    Attributes:
        serial: not the same for archives that have the same path one after the other.
    """

    def __init__(self, view: View, owners: Owners, first_inode: int = 1) -> None:
        self.view = view
        self.serial = 0
        self.owners = owners
        self.first_inode = first_inode
        self._known: dict[bytes, Entry] = {b"": view.root}
        self._older: dict[bytes, Entry] = {}
        self._data_bytes: dict[int, int] = {}

    @property
    def is_fixed(self) -> bool:
        """Whether what it holds never changes; true."""
        return True

    def label(self, path: bytes) -> str:
        """Return nothing: there is one archive."""
        return ""

    def find(self, path: bytes) -> EntryNode | None:
        """Return what stands at a path from the root, without slashes at its ends; or None."""
        entry = self._entry(path)
        return None if entry is None else EntryNode(self, entry)

    def status(self, entry: Entry) -> bytes:
        """Return the struct stat of an entry."""
        data_bytes = self._length(entry) if entry.is_file else 0
        inode = self.first_inode + entry.row
        return entry_status(entry, inode, data_bytes, self.owners)

    def remember(self, path: bytes, entry: Entry) -> None:
        """Keep what was used last, and a bit more: when one half is full, the other is let go."""
        if len(self._known) >= _KNOWN:
            self._older, self._known = self._known, {}
        self._known[path] = entry

    def give(self, directory: Entry, number: int, take: Take) -> None:
        """Give away what is in a directory, from one on, until no more is taken."""
        for name, entry in self.view.children_from(directory, number):
            number += 1
            if take(name, self.status(entry), number):
                return

    def child(self, directory: Entry, name: bytes) -> Entry | None:
        """Return the child of that name, no hard link; None if there is none."""
        return self.view.child(directory, name)

    def _entry(self, path: bytes) -> Entry | None:
        """Look up a path from the nearest directory above it that is known."""
        names: list[bytes] = []
        above = path
        while (entry := self._recall(above)) is None:
            above, _, name = above.rpartition(b"/")
            names.append(name)
        while names:
            name = names.pop()
            if not entry.is_directory:
                return None
            found = self.child(entry, name)
            if found is None:
                return None
            entry = found
            above = above + b"/" + name if above else name
            self.remember(above, entry)
        return entry

    def _recall(self, path: bytes) -> Entry | None:
        entry = self._known.get(path)
        if entry is None:
            entry = self._older.get(path)
            if entry is not None:
                self.remember(path, entry)
            elif not path:
                entry = self.view.root
                self.remember(path, entry)
        return entry

    def _length(self, entry: Entry) -> int:
        """Return the length of a file without its holes, which takes a while to count."""
        if not entry.is_mapped:
            return self.view.data_bytes(entry)
        known = self._data_bytes.get(entry.row)
        if known is None:
            if len(self._data_bytes) >= _KNOWN:
                self._data_bytes = {}
            known = self._data_bytes[entry.row] = self.view.data_bytes(entry)
        return known


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
