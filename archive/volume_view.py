"""A volume archive as a tree: a root, and in it one file of the volume's name.

Owns: what a volume looks like where trees are expected. Must not write anything. Safe in many
threads.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import layout
from .entry import Entry
from .errors import BadUseError
from .frames import CACHE_BYTES, FrameCache
from .reader import Archive
from .tree import Visited

_ROOT_MODE = 0o700
_FILE_MODE = 0o600  # as onggi unpack makes it


class VolumeView:
    """The part of what `Tree` and `View` have that has a meaning for a volume.

    A volume has no owner, so that root is given as one. Every method raises DamagedError where what
    it needs is damaged.

    Args:
        archive: of kind volume.
        cache_bytes: how much decoded content is kept.

    Raises:
        DamagedError: the catalogue is damaged.
    """

    def __init__(self, archive: Archive, cache_bytes: int = CACHE_BYTES) -> None:
        self._frames = FrameCache(archive, cache_bytes)
        member = archive.member()
        flags = layout.FLAG_CHANGED if member.changed else 0
        if archive.footer.unreadable_bytes:
            flags |= layout.FLAG_INCOMPLETE
        self.name = member.name
        self.root = Entry(
            0, layout.ENTRY_DIRECTORY, layout.FLAG_MADE, _ROOT_MODE, 0, 0, 0, member.mtime_ns, 0, 0,
            0, 0, 0, 1, 1, 1,
        )  # fmt: skip
        self.file = Entry(
            1, layout.ENTRY_FILE, flags, _FILE_MODE, 0, 0, 0, member.mtime_ns, 0, 0,
            len(member.name), 0, member.member_bytes, 0, 0, 1,
        )  # fmt: skip

    def lookup(self, path: bytes) -> Entry | None:
        """Return the entry at a path from the root, or None.

        Raises:
            BadUseError: the path has a component `..`.
        """
        parts = [part for part in path.split(b"/") if part not in (b"", b".")]
        if b".." in parts:
            raise BadUseError("a path inside an archive can't hold `..`")
        if not parts:
            return self.root
        return self.file if parts == [self.name] else None

    def primary(self, entry: Entry) -> Entry:
        """Return the entry itself: there are no hard links."""
        return entry

    def path(self, entry: Entry) -> bytes:
        """Return the path of an entry from the root."""
        return self.name if entry.row else b""

    def target(self, entry: Entry) -> bytes:
        """Return nothing: there are no symbolic links."""
        return b""

    def attributes(self, entry: Entry) -> list[tuple[bytes, bytes]]:
        """Return nothing: a volume has no extended attributes."""
        return []

    def owner_names(self) -> dict[tuple[int, int], bytes]:
        """Return nothing: a volume has no owner."""
        return {}

    def children(self, directory: Entry) -> Iterator[tuple[bytes, Entry]]:
        """Yield (name, entry) of the file."""
        yield self.name, self.file

    def walk(self, top: Entry, path: bytes = b"") -> Iterator[Visited]:
        """Yield an entry and all below it."""
        if not top.row:
            yield Visited(top, b"", b"")
        yield Visited(self.file, b"", self.name)

    def read(self, entry: Entry, member_offset: int, size: int) -> bytes:
        """Return `size` bytes of the volume from `member_offset` on, fewer at its end.

        Decompresses the frames that the span touches, and no others; holes are zeros.

        Raises:
            BadUseError: it is no file, or the offset or the size is negative.
        """
        if not entry.is_file or member_offset < 0 or size < 0:
            raise BadUseError("only files can be read, from 0 on")
        return self._frames.read(member_offset, size)
