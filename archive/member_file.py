"""A file in an archive as a Python file object.

Owns: position and buffer. Must not know archives: bytes come from a function. A file may be shared
by threads, which share its position; each call is atomic.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from threading import Lock, local
from typing import TYPE_CHECKING

from .errors import DamagedError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BUFFER_BYTES = 128 * 1024  # small reads cost less in one of these than in the lock of a frame
_PIECE_BYTES = 4 * 1024 * 1024

ReadMember = Callable[[int, int], bytes]
"""Return (offset, size) of a member: `size` bytes from `offset` on, fewer at its end."""


class RawMemberFile(io.RawIOBase):
    """A file without a buffer.

    Args:
        read_member: reads the file; safe in any thread.
        size: its length in bytes.
        name: what it is called.
    """

    mode = "rb"

    def __init__(self, read_member: ReadMember, size: int, name: str) -> None:
        self._read_member = read_member
        self._position = 0
        self._lock = Lock()
        self.size = size
        self.name = name

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Set the position, which may be behind the end; return it.

        Raises:
            ValueError: it would be negative, or `whence` is unknown.
        """
        self._check_open()
        with self._lock:
            self._position = self._target(self._position, offset, whence)
            return self._position

    def _target(self, position: int, offset: int, whence: int) -> int:
        bases = {os.SEEK_SET: 0, os.SEEK_CUR: position, os.SEEK_END: self.size}
        if whence not in bases:
            raise ValueError(f"whence {whence} is none of 0, 1 and 2")
        target = bases[whence] + offset
        if target < 0:
            raise ValueError(f"the position {target} is negative")
        return target

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill `buffer`; return how many bytes there were, 0 at the end.

        There are fewer where the next one is damaged: what is read ahead must not spoil a read of
        what stands before it.

        Raises:
            DamagedError, SourceError: not even the first byte can be had; the position stays.
        """
        self._check_open()
        view = memoryview(buffer).cast("B")
        with self._lock:
            done = 0
            while done < len(view):
                take = min(len(view) - done, _PIECE_BYTES)
                try:
                    piece = self._read_member(self._position + done, take)
                except DamagedError:
                    piece = self._intact(self._position + done, take)
                    if not done and not piece:
                        raise
                view[done : done + len(piece)] = piece
                done += len(piece)
                if len(piece) < take:
                    break
            self._position += done
            return done

    def _intact(self, offset: int, size: int) -> bytes:
        """Return the bytes before the first one that is damaged, of `size` of which one is."""
        found = b""
        while size - len(found) > 1:
            middle = (len(found) + size) // 2
            try:
                found = self._read_member(offset, middle)
            except DamagedError:
                size = middle
        return found

    def readall(self) -> bytes:
        """Return all bytes from the position on."""
        self._check_open()
        with self._lock:
            data = self._read_member(self._position, max(self.size - self._position, 0))
            self._position += len(data)
            return data

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


class MemberFile(io.BufferedReader):
    """A file with a buffer.

    Attributes:
        size: its length in bytes.
    """

    def __init__(self, raw: RawMemberFile, buffer_bytes: int = BUFFER_BYTES) -> None:
        super().__init__(raw, buffer_bytes)
        self.size = raw.size


class SharedMemberFile(RawMemberFile):
    """A file for threads that share it without taking turns: each reads where it sought to itself.

    A thread that did not seek since its last read goes on where the last read of any thread ended.
    That is right for threads that seek before each read, as those of DuckDB 2.0, and for threads
    that read on in turns; and it is wrong for two that seek in turns before one of them reads.
    Reads of threads that sought run side by side. There is no buffer.
    """

    def __init__(self, read_member: ReadMember, size: int, name: str) -> None:
        super().__init__(read_member, size, name)
        self._own = local()  # where this thread sought to, and in which round
        self._round = 0  # a read that goes on in turns begins the next one

    def tell(self) -> int:
        """Return where this thread reads next."""
        self._check_open()
        with self._lock:
            sought = self._sought()
            return self._position if sought is None else sought

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Set where this thread reads next; return it.

        Raises:
            ValueError: it would be negative, or `whence` is unknown.
        """
        self._check_open()
        with self._lock:
            sought = self._sought()
            own = self._position if sought is None else sought
            self._position = self._target(own, offset, whence)
            self._own.place = (self._round, self._position)
            return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Return `size` bytes, fewer at the end; all that follow if it is None or negative."""
        self._check_open()
        with self._lock:
            start = self._sought()
            self._own.place = None
            if start is None:
                self._round += 1
                data = self._read_member(self._position, self._wanted(size, self._position))
                self._position += len(data)
                return data
        data = self._read_member(start, self._wanted(size, start))
        with self._lock:
            self._position = start + len(data)
        return data

    def _sought(self) -> int | None:
        """Return where this thread sought to, unless that was in an earlier round."""
        place: tuple[int, int] | None = getattr(self._own, "place", None)
        return place[1] if place is not None and place[0] == self._round else None

    def _wanted(self, size: int | None, position: int) -> int:
        return max(self.size - position, 0) if size is None or size < 0 else size

    def readall(self) -> bytes:
        """Return all bytes from the position on."""
        return self.read()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill `buffer`; return how many bytes there were, 0 at the end."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)
