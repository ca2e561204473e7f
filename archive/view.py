"""A tree archive as a file system that can be read: look-up, lists, bytes of files, targets.

Owns: what `ls`, `cat`, `diff`, the library and a mount share. Must not know command lines, nor
write anything. Safe in many threads.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import layout
from .entry import Entry
from .errors import BadUseError
from .frames import CACHE_BYTES, FrameCache, FrameStore
from .reader import Archive
from .tree import Tree, Visited

_CHUNK_BYTES = 4 * 1024 * 1024


def open_tree(archive: Archive) -> Tree:
    """Return the catalogue of a tree archive.

    Raises:
        BadUseError: it holds a volume.
    """
    if archive.header.kind != layout.KIND_TREE:
        raise BadUseError("the archive holds a volume, not a tree of files")
    return Tree(archive.tables, archive.content_bytes)


class View:
    """A tree archive as a file system.

    Every method raises DamagedError where what it needs is damaged.

    Args:
        archive: of kind tree.
        cache: how much decoded content is kept in bytes; or what keeps it, for others too.

    Raises:
        BadUseError: the archive holds a volume.
    """

    def __init__(self, archive: Archive, cache: int | FrameStore = CACHE_BYTES) -> None:
        self.archive = archive
        self.tree = open_tree(archive)
        self._frames = FrameCache(archive, cache)

    def entry(self, path: bytes) -> Entry:
        """Return what stands at a path; a hard link as what it names. Follows no symbolic link.

        Raises:
            BadUseError: nothing stands there.
        """
        entry = self.tree.lookup(path)
        if entry is None:
            shown = path.decode(errors="backslashreplace")
            raise BadUseError(f"{shown!r} is not in the archive; `onggi ls` tells what is")
        return self.tree.primary(entry)

    def children(self, directory: Entry) -> Iterator[tuple[bytes, Entry]]:
        """Yield (name, entry) of all children of a directory, sorted by name."""
        return self.tree.children(directory)

    def walk(self, top: Entry, path: bytes = b"") -> Iterator[Visited]:
        """Yield an entry and all below it; see `Tree.walk`."""
        return self.tree.walk(top, path)

    def read(self, entry: Entry, member_offset: int, size: int) -> bytes:
        """Return `size` bytes of a file from `member_offset` on, fewer at its end; holes as zeros.

        Decompresses the frames that the span touches, and no others.

        Raises:
            BadUseError: it is no file, or the offset or the size is negative.
        """
        pieces = self.pieces(entry, member_offset, size)
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def pieces(
        self, entry: Entry, member_offset: int, size: int, *, once: bool = False
    ) -> list[memoryview]:
        """Return the same as `read` in pieces, which are not copied.

        With `once`, who asks keeps them, and does not come back for them soon.

        Raises:
            BadUseError: as `read`.
        """
        if not entry.is_file or member_offset < 0 or size < 0:
            raise BadUseError("only files can be read, from 0 on")
        end = min(member_offset + size, entry.member_bytes)
        if member_offset >= end:
            return []
        if not entry.is_mapped:
            return self._frames.pieces(entry.first + member_offset, end - member_offset, once=once)
        pieces: list[memoryview] = []
        at = member_offset
        for run in self.tree.runs_from(entry, member_offset):
            if run.member_offset >= end:
                break
            start = max(run.member_offset, at)
            stop = min(run.member_offset + run.run_bytes, end)
            if start > at:
                pieces.append(memoryview(bytes(start - at)))
            within = start - run.member_offset
            pieces += self._frames.pieces(run.content_offset + within, stop - start, once=once)
            at = stop
        if at < end:
            pieces.append(memoryview(bytes(end - at)))
        return pieces

    def data(self, entry: Entry, member_offset: int) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) of the data of a file that ends behind an offset, in order.

        Between them are holes.
        """
        if entry.is_mapped:
            for run in self.tree.runs_from(entry, member_offset):
                yield run.member_offset, run.run_bytes
        elif member_offset < entry.member_bytes:
            yield 0, entry.member_bytes

    def data_bytes(self, entry: Entry) -> int:
        """Return the length of the data of a file, without its holes."""
        if not entry.is_mapped:
            return entry.member_bytes
        return sum(length for _, length in self.data(entry, 0))

    @property
    def root(self) -> Entry:
        """The root directory."""
        return self.tree.root

    def child(self, directory: Entry, name: bytes) -> Entry | None:
        """Return the child of that name; a hard link as what it names."""
        entry = self.tree.child(directory, name)
        return None if entry is None else self.tree.primary(entry)

    def children_from(self, directory: Entry, number: int) -> Iterator[tuple[bytes, Entry]]:
        """Yield (name, entry) of the children from one on; hard links as what they name."""
        for name, entry in self.tree.children(directory, number):
            yield name, self.tree.primary(entry)

    def target(self, entry: Entry) -> bytes:
        """Return the target of a symbolic link."""
        return self.tree.target(entry)

    def attributes(self, entry: Entry) -> list[tuple[bytes, bytes]]:
        """Return the extended attributes of an entry, sorted by name."""
        return self.tree.attributes(entry)

    def close(self) -> None:
        """Keep none of its content, which nobody reads any more."""
        self._frames.close()

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """Yield the bytes of a file in order, up to 4 MiB at a time."""
        for at in range(0, entry.member_bytes, _CHUNK_BYTES):
            yield self.read(entry, at, _CHUNK_BYTES)
