"""A folder of archives as one file system: a folder for each archive, opened when it is entered.

Owns: which archives there are, and which of them are open. Must not know how the kernel asks. Safe
in many threads.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from ..archive.errors import SourceError
from .nodes import Node, ShownArchive, Take
from .status import Owners, Status, pack_status

SUFFIX = b".onggi"
_MOST_OPEN = 32
_INODES = 2**40  # of one archive
_FOLDER_MODE = stat.S_IFDIR | 0o755


class Vault:
    """A folder of archives; those that come and go while it is mounted do so in the mount too.

    Args:
        folder: where they are; those whose names end with `.onggi` are shown, without that.
        opens: opens one, whose root gets an inode number. It is closed by what is done when nobody
            refers to it any more.
        owners: who owns everything.
    """

    def __init__(
        self, folder: Path, opens: Callable[[Path, int], ShownArchive], owners: Owners
    ) -> None:
        self._folder = folder
        self._opens = opens
        self._owners = owners
        # What the file was when it was opened, and what is in it.
        self._open: OrderedDict[bytes, tuple[tuple[int, ...], ShownArchive]] = OrderedDict()
        self._inodes: dict[bytes, int] = {}
        self._serials: dict[tuple[bytes, tuple[int, ...]], int] = {}
        self._lock = threading.Lock()

    @property
    def is_fixed(self) -> bool:
        """Whether what it holds never changes; false."""
        return False

    def find(self, path: bytes) -> Node | None:
        """Return what stands at a path from the root, without slashes at its ends; or None.

        Raises:
            OnggiError: an archive on the way can't be opened.
        """
        if not path:
            return _Root(self)
        name, _, below = path.partition(b"/")
        try:
            status = self.status_of(name)
        except OSError:
            return None
        if not below:
            return _Folder(self, name, status)
        return self.shown(name).find(below)

    def label(self, path: bytes) -> str:
        """Return the archive that a path leads to, as a log names it."""
        name = path.partition(b"/")[0]
        return os.fsdecode(self._file(name)) + ": " if name else ""

    def names(self) -> list[bytes]:
        """Return the names of the archives, sorted."""
        found = [
            name.removesuffix(SUFFIX)
            for name in os.listdir(os.fsencode(self._folder))
            if name.endswith(SUFFIX) and name != SUFFIX and not name.startswith(b".")
        ]
        return sorted(found)

    def status_of(self, name: bytes) -> Status:
        """Return what `stat` tells of the folder of an archive, which need not be opened for it.

        Raises:
            OSError: there is no such archive.
        """
        return self._status(self._inode(name), self._stat(name))

    def root_status(self) -> Status:
        """Return what `stat` tells of the root."""
        return self._status(1, self._folder.stat())

    def shown(self, name: bytes) -> ShownArchive:
        """Return an archive, which is opened if it is not yet.

        Raises:
            OnggiError: it can't be.
        """
        with self._lock:
            try:
                found = self._stat(name)
            except OSError as error:
                raise SourceError(f"can't open the archive: {error.strerror}") from None
            state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
            known = self._open.get(name)
            if known and known[0] == state:
                self._open.move_to_end(name)
                return known[1]
            path = Path(os.fsdecode(self._file(name)))
            shown = self._opens(path, self._inode(name))
            shown.serial = self._serials.setdefault((name, state), len(self._serials) + 1)
            self._open[name] = (state, shown)
            if len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
            return shown

    def _stat(self, name: bytes) -> os.stat_result:
        found = os.stat(self._file(name))
        if not stat.S_ISREG(found.st_mode) or name.startswith(b"."):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return found

    def _file(self, name: bytes) -> bytes:
        return os.path.join(os.fsencode(self._folder), name + SUFFIX)

    def _inode(self, name: bytes) -> int:
        number = self._inodes.setdefault(name, len(self._inodes) + 1)
        return number * _INODES

    def _status(self, inode: int, found: os.stat_result) -> Status:
        uid, gid = self._owners
        return Status(
            inode, _FOLDER_MODE, found.st_uid if uid is None else uid,
            found.st_gid if gid is None else gid, found.st_mtime_ns,
        )  # fmt: skip


class _Directory:
    """What all directories of a vault are: no file, no link."""

    serial = 0
    is_directory = True

    def pieces(self, offset: int, size: int, *, once: bool) -> list[memoryview]:
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))

    def seek(self, offset: int, whence: int) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def target(self) -> bytes:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def attributes(self) -> list[tuple[bytes, bytes]]:
        return []


class _Root(_Directory):
    """The folder that holds all archives."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def status(self) -> bytes:
        return pack_status(self._vault.root_status())

    def give(self, number: int, take: Take) -> None:
        for name in self._vault.names()[number:]:
            number += 1
            try:
                status = self._vault.status_of(name)
            except OSError:  # it vanished just now
                continue
            if take(name, pack_status(status), number):
                return


class _Folder(_Directory):
    """The folder of an archive, whose content is the content of its root."""

    def __init__(self, vault: Vault, name: bytes, status: Status) -> None:
        self._vault = vault
        self._name = name
        self._status = status

    def status(self) -> bytes:
        return pack_status(self._status)

    def give(self, number: int, take: Take) -> None:
        root = self._vault.shown(self._name).find(b"")
        assert root is not None, "every archive has a root"
        root.give(number, take)
