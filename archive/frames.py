"""Frames that were decoded last, shared by all who read an archive.

Owns: which frames are kept, bounded in bytes, and that none is decoded twice at a time. Must not
know what the content is. Safe in many threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import CancelledError, Future

from .reader import Content, UnitReader

CACHE_BYTES = 64 * 1024 * 1024


class FrameCache:
    """Gives out content by content offset.

    Args:
        content: an archive, or what was salvaged of one.
        cache_bytes: how much content is kept; one frame is, at the least.
    """

    def __init__(self, content: Content, cache_bytes: int = CACHE_BYTES) -> None:
        self._content = content
        self._cache_bytes = cache_bytes
        self._held: OrderedDict[tuple[int, int], Future[bytes]] = OrderedDict()
        self._held_bytes = 0
        self._lock = threading.Lock()
        self._readers = threading.local()

    @property
    def content_bytes(self) -> int:
        """Length of the content."""
        return self._content.content_bytes

    def read(self, content_offset: int, size: int) -> bytes:
        """Return `size` bytes of content from `content_offset` on, fewer at the end.

        Raises:
            DamagedError: a frame or a page on the way is damaged.
            SourceError: the archive can't be read.
        """
        pieces = self.pieces(content_offset, size)
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def pieces(self, content_offset: int, size: int) -> list[memoryview]:
        """Return the same as `read` in pieces, which are not copied.

        Raises:
            DamagedError, SourceError: as `read`.
        """
        end = min(content_offset + size, self._content.content_bytes)
        found: list[memoryview] = []
        while content_offset < end:
            unit, frame, at = self._content.geometry.locate(content_offset)
            content = memoryview(self._frame(unit, frame))
            piece = content[at : at + end - content_offset]
            found.append(piece)
            content_offset += len(piece)
        return found

    def frame_at(self, content_offset: int) -> tuple[bytes, int]:
        """Return the frame that holds a content offset, which must exist, and where it begins.

        Raises:
            DamagedError, SourceError: as `read`.
        """
        unit, frame, at = self._content.geometry.locate(content_offset)
        return self._frame(unit, frame), content_offset - at

    def frame_end(self, content_offset: int) -> int:
        """Return where the frame that holds a content offset ends."""
        geometry, whole = self._content.geometry, self._content.content_bytes
        unit, frame, _ = geometry.locate(content_offset)
        end = min((frame + 1) * geometry.frame_bytes, geometry.unit_length(unit, whole))
        return unit * geometry.unit_bytes + end

    def _frame(self, unit: int, frame: int) -> bytes:
        key = (unit, frame)
        while True:
            with self._lock:
                held = self._held.get(key)
                mine = held is None
                if held is None:
                    held = self._held[key] = Future()
                else:
                    self._held.move_to_end(key)
            if mine:
                return self._decoded(key, held)
            try:
                return held.result()
            except CancelledError:  # the other one was interrupted, which is no matter of this one
                continue

    def _decoded(self, key: tuple[int, int], held: Future[bytes]) -> bytes:
        """Decode a frame for all who wait for it."""
        try:
            content = self._decode(*key)
        except BaseException as error:
            with self._lock:
                del self._held[key]
            if isinstance(error, Exception):
                held.set_exception(error)
            else:
                held.cancel()
            raise
        held.set_result(content)
        with self._lock:
            self._held_bytes += len(content)
            self._shrink(key)
        return content

    def _decode(self, unit: int, frame: int) -> bytes:
        reader: UnitReader | None = getattr(self._readers, "reader", None)
        if reader is None:
            reader = self._readers.reader = UnitReader(self._content)
        return reader.frame(self._content.index.unit(unit), frame)

    def _shrink(self, keep: tuple[int, int]) -> None:
        while self._held_bytes > self._cache_bytes:
            oldest = next((k for k, held in self._held.items() if k != keep and held.done()), None)
            if oldest is None:
                return
            self._held_bytes -= len(self._held.pop(oldest).result())
