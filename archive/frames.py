"""Frames that were decoded last, shared by all who read an archive, or several.

Owns: which frames are kept, bounded in bytes; that none is decoded twice at a time; and which are
decoded ahead of those who read in order. Must not know what the content is. Safe in many threads,
and in threads that Python did not start.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

from .reader import Content, PlacedFrames, UnitReader, place_frames

CACHE_BYTES = 64 * 1024 * 1024
_CROSSINGS = 64  # ends of frames that are remembered, to tell who reads in order
_LATE_BYTES = 2 * 1024 * 1024  # how far behind who reads in order a late read may be
_MOST_PLACED = 4096  # frames whose places are remembered, at 280 bytes
_EDGE = 16  # one part of so many of a frame is near its end, or its start

_Key = tuple[object, int, int]  # whose it is, unit, frame
_Decode = Callable[[int, int], bytes]  # a frame, from its unit and number


class _Slot:
    """A frame that is kept, or will be once the one who claimed it has decoded it."""

    __slots__ = ("content", "error", "is_claimed", "waiting")

    def __init__(self) -> None:
        self.content: bytes | None = None  # once it is decoded
        self.error: Exception | None = None  # if it can't be
        self.is_claimed = False
        self.waiting: threading.Event | None = None  # if somebody waits for it


class FrameStore:
    """Keeps frames of any number of archives.

    Args:
        cache_bytes: how much content is kept; one frame is, at the least.
        ahead: how many frames are decoded ahead of one who reads in order; 0 for none.
        threads: that decode ahead.
    """

    def __init__(self, cache_bytes: int = CACHE_BYTES, *, ahead: int = 0, threads: int = 1) -> None:
        self.ahead = ahead
        self.cache_bytes = cache_bytes
        self._thread_count = threads if ahead else 0
        self._threads: list[threading.Thread] = []
        self._wanted: SimpleQueue[tuple[_Key, _Slot, _Decode] | None] = SimpleQueue()
        self._held: OrderedDict[_Key, _Slot] = OrderedDict()
        self._held_bytes = 0
        self._lock = threading.Lock()

    def get(self, key: _Key, decode: _Decode) -> bytes:
        """Return a frame, which is decoded if it is not kept."""
        while True:
            with self._lock:
                slot = self._held.get(key)
                if slot is None:
                    slot = self._held[key] = _Slot()
                else:
                    self._held.move_to_end(key)
                    if slot.content is not None:
                        return slot.content
                other = None
                if slot.is_claimed:
                    other = slot.waiting = slot.waiting or threading.Event()
                slot.is_claimed = True
            if other is None:
                return self._decoded(key, slot, decode)
            other.wait()
            if slot.content is not None:
                return slot.content
            if slot.error is not None:
                raise slot.error
            # The other one was interrupted, which is no matter of this one.

    def prefetch(self, keys: list[_Key], decode: _Decode) -> None:
        """Have frames decoded soon, unless they are kept; who wants one sooner does it himself."""
        with self._lock:
            self._start_threads()
            for key in keys if self._threads else ():
                if key not in self._held:
                    slot = self._held[key] = _Slot()
                    self._wanted.put((key, slot, decode))

    def _start_threads(self) -> None:
        while len(self._threads) < self._thread_count:
            thread = threading.Thread(target=self._run, name="onggi-ahead", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system has no more: who wants a frame decodes it
                return
            self._threads.append(thread)

    def drop(self, key: _Key) -> None:
        """Keep a frame no longer, if it is kept."""
        with self._lock:
            slot = self._held.get(key)
            if slot is not None and slot.content is not None:
                del self._held[key]
                self._held_bytes -= len(slot.content)

    def close(self) -> None:
        """End the threads that decode ahead; nothing is decoded ahead from then on."""
        with self._lock:
            self._thread_count = 0
            threads, self._threads = self._threads, []
        for _ in threads:
            self._wanted.put(None)
        for thread in threads:
            thread.join()

    def forget(self, owner: object) -> None:
        """Keep no frame of an owner, the first part of its keys, which nobody reads any more."""
        with self._lock:
            for key in [key for key in self._held if key[0] is owner]:
                slot = self._held.pop(key)
                self._held_bytes -= len(slot.content or b"")

    def _run(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            key, slot, decode = wanted
            with self._lock:
                if not self._thread_count or slot.is_claimed or self._held.get(key) is not slot:
                    continue
                slot.is_claimed = True
            # An error is told to who reads the frame, which is decoded again for him.
            with suppress(Exception):
                self._decoded(key, slot, decode)

    def _decoded(self, key: _Key, slot: _Slot, decode: _Decode) -> bytes:
        """Decode a frame for all who wait for it."""
        _, unit, frame = key
        try:
            content = decode(unit, frame)
        except BaseException as error:
            with self._lock:
                if self._held.get(key) is slot:
                    del self._held[key]
                if isinstance(error, Exception):
                    slot.error = error
                self._tell(slot)
            raise
        with self._lock:
            slot.content = content
            if self._held.get(key) is slot:
                self._held_bytes += len(content)
                self._shrink(key)
            self._tell(slot)
        return content

    def _tell(self, slot: _Slot) -> None:
        if slot.waiting is not None:
            slot.waiting.set()

    def _shrink(self, keep: _Key) -> None:
        while self._held_bytes > self.cache_bytes:
            oldest = next(
                (key for key, slot in self._held.items() if key != keep and slot.content), None
            )
            if oldest is None:
                return
            self._held_bytes -= len(self._held.pop(oldest).content or b"")


class FrameCache:
    """Gives out content by content offset.

    Args:
        content: an archive, or what was salvaged of one.
        cache: how much content is kept in bytes; or what keeps it, for others too.
    """

    def __init__(self, content: Content, cache: int | FrameStore = CACHE_BYTES) -> None:
        self._content = content
        self._owner = object()  # of its frames; not itself, or who forgets it would not free it
        self._store = FrameStore(cache) if isinstance(cache, int) else cache
        # Not one for each thread: those of a mount are new to Python at each call.
        self._readers: deque[UnitReader] = deque()
        self._units: OrderedDict[int, PlacedFrames] = OrderedDict()  # that were read last
        self._units_frames = 0
        self._units_lock = threading.Lock()
        self._edges: OrderedDict[int, None] = OrderedDict()  # that were read: 2 n and 2 n + 1
        self._edges_lock = threading.Lock()
        geometry = content.geometry
        self._per_unit = -(-geometry.unit_bytes // geometry.frame_bytes)
        units, rest = divmod(content.content_bytes, geometry.unit_bytes)
        self._frame_count = units * self._per_unit - (-rest // geometry.frame_bytes)
        most = self._store.cache_bytes // 2 // geometry.frame_bytes
        self._ahead = min(self._store.ahead, most)
        self._edge_bytes = geometry.frame_bytes // _EDGE
        self._behind = 2 + _LATE_BYTES // geometry.frame_bytes

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

    def pieces(self, content_offset: int, size: int, *, once: bool = False) -> list[memoryview]:
        """Return the same as `read` in pieces, which are not copied.

        With `once`, who asks keeps it, and does not come back for it soon.

        Raises:
            DamagedError, SourceError: as `read`.
        """
        end = min(content_offset + size, self._content.content_bytes)
        found: list[memoryview] = []
        while content_offset < end:
            unit, frame, at = self._content.geometry.locate(content_offset)
            if self._ahead:
                self._look_ahead(unit * self._per_unit + frame, at, at + end - content_offset, once)
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

    def close(self) -> None:
        """Let what keeps the frames forget those of this content."""
        self._store.forget(self._owner)

    def _frame(self, unit: int, frame: int) -> bytes:
        return self._store.get((self._owner, unit, frame), self._decode)

    def _look_ahead(self, position: int, start: int, end: int, once: bool) -> None:
        """Have the next frames decoded, if somebody reads over the edge of a frame.

        Reads of the kernel come in any order, so that the end of a frame may be read after the
        start of the next. That two neighbours are read tells nothing: it happens by chance, too.
        """
        if start < self._edge_bytes:
            self._reach(2 * position, 2 * position - 1, position + 1, once)
        if end > self._content.geometry.frame_bytes - self._edge_bytes:
            self._reach(2 * position + 1, 2 * position + 2, position + 2, once)

    def _reach(self, edge: int, beyond: int, position: int, once: bool) -> None:
        """Remember that an edge was read; if what is beyond was too, decode from a frame on."""
        edges = self._edges
        with self._edges_lock:
            if edge in edges:
                return
            edges[edge] = None
            if len(edges) > 2 * _CROSSINGS:
                edges.popitem(last=False)
            if beyond not in edges:
                return
        if once:  # what is decoded into its memory finds that in the processor's cache
            behind = position - 1 - self._behind
            self._store.drop((self._owner, *divmod(behind, self._per_unit)))
        end = min(position + self._ahead, self._frame_count)
        keys = [(self._owner, *divmod(each, self._per_unit)) for each in range(position, end)]
        self._store.prefetch(keys, self._decode)

    def _decode(self, unit: int, frame: int) -> bytes:
        placed = self._placed(unit)
        try:
            reader = self._readers.pop()
        except IndexError:
            reader = UnitReader(self._content)
        try:
            return reader.frame(placed, frame)
        finally:
            self._readers.append(reader)

    def _placed(self, number: int) -> PlacedFrames:
        """Return where the frames of a unit stand: to look that up takes a twentieth of a read."""
        with self._units_lock:
            placed = self._units.get(number)
            if placed is not None:
                self._units.move_to_end(number)
                return placed
        placed = place_frames(self._content, self._content.index.unit(number))
        with self._units_lock:
            if number not in self._units:
                self._units[number] = placed
                self._units_frames += len(placed.frames)
            while self._units_frames > _MOST_PLACED and len(self._units) > 1:
                _, oldest = self._units.popitem(last=False)
                self._units_frames -= len(oldest.frames)
        return placed
