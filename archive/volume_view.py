"""A volume archive as a tree: a root, and in it one file of the volume's name.

Owns: what a volume looks like where trees are expected. Must not write anything. Safe in many
threads.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import layout
from .entry import Entry
from .errors import BadUseError
from .frames import CACHE_BYTES, FrameCache, FrameStore
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
        cache: how much decoded content is kept in bytes; or what keeps it, for others too.
        name: what the file is called; None for the name of the volume.

    Raises:
        DamagedError: the catalogue is damaged.
    """

    def __init__(
        self,
        archive: Archive,
        cache: int | FrameStore = CACHE_BYTES,
        name: bytes | None = None,
    ) -> None:
        self._archive = archive
        self._frames = FrameCache(archive, cache)
        member = archive.member()
        flags = layout.FLAG_CHANGED if member.changed else 0
        if archive.footer.unreadable_bytes:
            flags |= layout.FLAG_INCOMPLETE
        self.name = member.name if name is None else name
        self.root = Entry(
            0, layout.ENTRY_DIRECTORY, layout.FLAG_MADE, _ROOT_MODE, 0, 0, 0, member.mtime_ns, 0, 0,
            0, 0, 0, 1, 1, 1,
        )  # fmt: skip
        self.file = Entry(
            1, layout.ENTRY_FILE, flags, _FILE_MODE, 0, 0, 0, member.mtime_ns, 0, 0,
            len(self.name), 0, member.member_bytes, 0, 0, 1,
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
        return self._frames.pieces(member_offset, size, once=once)

    def data(self, entry: Entry, member_offset: int) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) of the data that ends behind an offset, in order.

        Between them are the holes that the source had; zeros that it held are data.
        """
        geometry = self._archive.geometry
        start = end = 0
        for number in range(member_offset // geometry.unit_bytes, self._archive.index.unit_count):
            unit = self._archive.index.unit(number)
            at = number * geometry.unit_bytes
            lengths = geometry.frame_lengths(unit.content_bytes)
            if unit.hole_frames in (0, unit.frame_count):
                runs = [(unit.content_bytes, not unit.hole_frames)]
            else:
                kinds = [
                    frame.kind != layout.FRAME_HOLE for frame in self._archive.index.frames(unit)
                ]
                runs = list(zip(lengths, kinds, strict=True))
            for length, is_data in runs:
                if is_data and at != end:
                    if start < end and end > member_offset:
                        yield start, end - start
                    start = at
                at += length
                if is_data:
                    end = at
        if start < end and end > member_offset:
            yield start, end - start

    def data_bytes(self, entry: Entry) -> int:
        """Return the length of the volume without the holes that its source had."""
        return entry.member_bytes - self._archive.footer.hole_bytes

    def child(self, directory: Entry, name: bytes) -> Entry | None:
        """Return the file, if that is its name."""
        return self.file if name == self.name else None

    def children_from(self, directory: Entry, number: int) -> Iterator[tuple[bytes, Entry]]:
        """Yield (name, entry) of the file, unless it is before the number."""
        if not number:
            yield self.name, self.file

    def close(self) -> None:
        """Keep none of its content, which nobody reads any more."""
        self._frames.close()
