"""Folders of a file system by descriptor, however many and however deep.

Owns: opening folders one component at a time, from a top that is trusted, never through a symbolic
link; and how many are open at once. So a path may be longer than the kernel takes, and what others
do to a tree meanwhile can't lead out of it. Must not know archives. Safe in many threads.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager

_OPEN_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_OPEN = 256


class Folder:
    """A folder: its place below another one. Opened by `Folders`.

    Attributes:
        parent: the folder that holds it; None for a top.
        name: its name there; for a top, what paths begin with.
        identity: (device, inode) that it must have; None for whatever is there.
    """

    __slots__ = ("fd", "identity", "name", "parent", "pins")

    def __init__(
        self, parent: Folder | None, name: bytes, identity: tuple[int, int] | None = None
    ) -> None:
        self.parent = parent
        self.name = name
        self.identity = identity
        self.fd = -1
        self.pins = 0

    def path(self) -> bytes:
        """Return its path below the top, whose own name is left out; no slash at the ends."""
        parts: list[bytes] = []
        folder = self
        while folder.parent is not None:
            parts.append(folder.name)
            folder = folder.parent
        return b"/".join(reversed(parts))

    def path_of(self, name: bytes) -> bytes:
        """Return the path below the top of something in this folder."""
        path = self.path()
        return path + b"/" + name if path else name


class Folders:
    """Opens folders, and keeps those open that were used last.

    Use it as a context: leaving closes all.

    Args:
        most_open: how many stay open while nobody uses them.
    """

    def __init__(self, most_open: int = _MOST_OPEN) -> None:
        self._most_open = most_open
        self._open: OrderedDict[Folder, None] = OrderedDict()
        self._tops: list[Folder] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Folders:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def top(self, fd: int, name: bytes = b"") -> Folder:
        """Return a folder that is open already; its descriptor is closed by `close`."""
        folder = Folder(None, name)
        folder.fd = fd
        self._tops.append(folder)
        return folder

    def below_top(self, top: Folder, name: bytes) -> Folder:
        """Return a top as a folder of that name: what paths in it begin with."""
        folder = Folder(Folder(None, b""), name)
        folder.fd = top.fd
        return folder

    @contextmanager
    def use(self, folder: Folder) -> Generator[int, None, None]:
        """Give the descriptor of a folder, which stays open meanwhile.

        Raises:
            OSError: it can't be opened, is no folder any more, or is another one (ESTALE).
        """
        fd = self.pin(folder)
        try:
            yield fd
        finally:
            self.unpin(folder)

    def pin(self, folder: Folder) -> int:
        """Open a folder if it is not open, and keep it so until `unpin`; return its descriptor.

        Raises:
            OSError: as `use`.
        """
        with self._lock:
            if folder.fd < 0:
                self._open_chain(folder)
            elif folder in self._open:
                self._open.move_to_end(folder)
            folder.pins += 1
            return folder.fd

    def unpin(self, folder: Folder) -> None:
        """Let a folder be closed again."""
        with self._lock:
            folder.pins -= 1
            self._shrink()

    def close(self) -> None:
        """Close all; nobody uses any."""
        with self._lock:
            for folder in (*self._open, *self._tops):
                os.close(folder.fd)
                folder.fd = -1
            self._open.clear()
            self._tops.clear()

    def _open_chain(self, folder: Folder) -> None:
        """Open a folder from the nearest one above it that is open."""
        chain: list[Folder] = []
        above: Folder | None = folder
        while above is not None and above.fd < 0:
            chain.append(above)
            above = above.parent
        for each in reversed(chain):
            assert each.parent is not None, "a top is open until the end"
            fd = os.open(each.name, _OPEN_FLAGS, dir_fd=each.parent.fd)
            try:
                if each.identity is not None:
                    found = os.fstat(fd)
                    if (found.st_dev, found.st_ino) != each.identity:
                        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            except BaseException:
                os.close(fd)
                raise
            each.fd = fd
            self._open[each] = None
            # Those on the way are not needed beyond the next step.
            self._shrink(keep=each)

    def _shrink(self, keep: Folder | None = None) -> None:
        if len(self._open) <= self._most_open:
            return
        for folder in self._open:
            if not folder.pins and folder is not keep:
                del self._open[folder]
                os.close(folder.fd)
                folder.fd = -1
                return
