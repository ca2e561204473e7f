"""Removes a folder and all that is in it, whatever that is: restored trees are meant.

Owns: one way to do it, by descriptors of folders, that no symbolic link and no exchange of folders
meanwhile can lead astray, that any depth and any length of paths are the same to, that enters no
mount, and that modes and file flags do not stop. Safe in any thread.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import struct
from collections.abc import Generator
from contextlib import contextmanager, suppress
from itertools import count

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS = 0x80086601, 0x40086602
_LOCKING_FLAGS = 0x10 | 0x20  # chattr's i and a: immutable, append only


def remove_tree(parent: int, name: str) -> None:
    """Remove a file, or a folder with all that is in it; nothing happens if it is not there.

    Args:
        parent: descriptor of the folder that it is in.
        name: in there.

    Raises:
        OSError: from the system; some of it may be gone. EBUSY where something is mounted.
    """
    try:
        if not _remove_empty(parent, name):
            with _entered(parent, name) as top:
                _empty(top)
            os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except NotADirectoryError:  # or a symbolic link
        _unlink(parent, name)


def _empty(top: int) -> None:
    """Remove all that is in a folder.

    Folders that are in folders in it are first brought up into it, under names that nothing else
    has; so it needs two descriptors and no path, however deep they are.
    """
    mark, numbers = secrets.token_hex(8), count()
    while not _is_empty(top):
        with os.scandir(top) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    _unlink(top, entry.name)
                    continue
                if _remove_empty(top, entry.name):
                    continue
                with _entered(top, entry.name) as folder, os.scandir(folder) as below:
                    for inner in below:
                        if inner.is_dir(follow_symlinks=False):
                            _lift(folder, inner.name, top, f"{mark}-{next(numbers)}")
                        else:
                            _unlink(folder, inner.name)
                _remove_empty(top, entry.name)  # or not all of it was listed: the next time


def _remove_empty(parent: int, name: str) -> bool:
    """Remove a folder if it is empty, and tell whether it was.

    If something is mounted on it, the kernel says EBUSY, before it looks whether it is empty.
    """
    try:
        os.rmdir(name, dir_fd=parent)
        return True
    except PermissionError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise


def _is_empty(folder: int) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def _unlink(folder: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except PermissionError:
        fd = os.open(name, _FILE, dir_fd=folder)
        try:
            _clear_flags(fd)
        finally:
            os.close(fd)
        os.unlink(name, dir_fd=folder)


def _lift(folder: int, name: str, top: int, new: str) -> None:
    try:
        os.rename(name, new, src_dir_fd=folder, dst_dir_fd=top)
    except PermissionError:  # its own mode and flags count, since its entry `..` changes
        with _entered(folder, name):
            pass
        os.rename(name, new, src_dir_fd=folder, dst_dir_fd=top)


@contextmanager
def _entered(parent: int, name: str) -> Generator[int, None, None]:
    """Open a folder, and make it one in which everything may be done; no mount, though."""
    try:
        fd = os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        path = os.open(name, _PATH | os.O_DIRECTORY, dir_fd=parent)
        try:
            os.chmod(f"/proc/self/fd/{path}", 0o700)  # no call changes it by this descriptor
        finally:
            os.close(path)
        fd = os.open(name, _FOLDER, dir_fd=parent)
    try:
        if os.fstat(fd).st_dev != os.fstat(parent).st_dev:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        _clear_flags(fd)
        if os.fstat(fd).st_mode & 0o700 != 0o700:
            os.fchmod(fd, 0o700)
        yield fd
    finally:
        os.close(fd)


def _clear_flags(fd: int) -> None:
    """Take the flags away that lock a file or folder, if its file system has them."""
    with suppress(OSError):
        (flags,) = struct.unpack_from("=I", fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(8)))
        if flags & _LOCKING_FLAGS:
            fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("=II", flags & ~_LOCKING_FLAGS, 0))
