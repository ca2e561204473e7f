"""A tree archive as a file system that can be read: look-up, lists, bytes of files, targets.

Owns: what `ls`, `cat`, `diff`, the library and a mount share. Must not know command lines, nor
write anything. Safe in many threads.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import layout
from .entry import Entry
from .errors import BadUseError
from .frames import CACHE_BYTES, FrameCache
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
        cache_bytes: how much decoded content is kept.

    Raises:
        BadUseError: the archive holds a volume.
    """

    def __init__(self, archive: Archive, cache_bytes: int = CACHE_BYTES) -> None:
        self.archive = archive
        self.tree = open_tree(archive)
        self._frames = FrameCache(archive, cache_bytes)

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
        if not entry.is_file or member_offset < 0 or size < 0:
            raise BadUseError("only files can be read, from 0 on")
        end = min(member_offset + size, entry.member_bytes)
        if member_offset >= end:
            return b""
        if not entry.is_mapped:
            return self._frames.read(entry.first + member_offset, end - member_offset)
        pieces: list[bytes] = []
        at = member_offset
        for run in self.tree.runs_from(entry, member_offset):
            if run.member_offset >= end:
                break
            start = max(run.member_offset, at)
            stop = min(run.member_offset + run.run_bytes, end)
            if start > at:
                pieces.append(bytes(start - at))
            within = start - run.member_offset
            pieces.append(self._frames.read(run.content_offset + within, stop - start))
            at = stop
        if at < end:
            pieces.append(bytes(end - at))
        return b"".join(pieces)

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """Yield the bytes of a file in order, up to 4 MiB at a time."""
        for at in range(0, entry.member_bytes, _CHUNK_BYTES):
            yield self.read(entry, at, _CHUNK_BYTES)
