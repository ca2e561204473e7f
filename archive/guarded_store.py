"""A store that can be closed while other threads read from it.

Owns: when the store beneath is closed: with the last read that is under way, never before. Must not
know the format. Safe in many threads.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from .builtin_errors import ArchiveClosedError
from .store import Store


class GuardedStore:
    """Reads from a store until it is closed; closes the store beneath once, also when forgotten.

    Args:
        store: where the bytes are.
        close_store: closes it; None where that is left to its owner.
    """

    def __init__(self, store: Store, close_store: Callable[[], None] | None = None) -> None:
        self._store = store
        self._close_store = close_store
        self._size = store.size
        self._lock = Lock()
        self._reads = 0
        self._closed = False

    @property
    def size(self) -> int:
        """Length of the archive in bytes."""
        return self._size

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def check(self) -> None:
        """Raise ArchiveClosedError if it was closed."""
        if self._closed:
            raise ArchiveClosedError("the archive was closed")

    def read_at(self, archive_offset: int, size: int, /) -> bytes:
        """Return `size` bytes from `archive_offset` on, fewer at the end of the archive.

        Raises:
            ArchiveClosedError: it was closed.
        """
        self._begin()
        try:
            return self._store.read_at(archive_offset, size)
        finally:
            self._end()

    def read_into(self, archive_offset: int, view: memoryview, /) -> int:
        """Fill `view` from `archive_offset` on; return how many bytes there were.

        Raises:
            ArchiveClosedError: it was closed.
        """
        self._begin()
        try:
            return self._store.read_into(archive_offset, view)
        finally:
            self._end()

    def close(self) -> None:
        """Refuse reads from now on; those under way end well."""
        with self._lock:
            self._closed = True
            close = self._taken_close()
        if close is not None:
            close()

    def __del__(self) -> None:
        if hasattr(self, "_closed"):
            self.close()

    def _begin(self) -> None:
        with self._lock:
            self.check()
            self._reads += 1

    def _end(self) -> None:
        with self._lock:
            self._reads -= 1
            close = self._taken_close()
        if close is not None:
            close()

    def _taken_close(self) -> Callable[[], None] | None:
        """Return what closes the store beneath if it is time to; to nobody twice."""
        if not self._closed or self._reads:
            return None
        close, self._close_store = self._close_store, None
        return close
