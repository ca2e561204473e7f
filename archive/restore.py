"""Makes single things in a folder, with their metadata, under their name only once they are whole.

Owns: system calls that create entries of a restored tree, relative to an open folder. Nothing is
followed: what stands in the way is replaced or left, never written through. Must not know
archives. Safe in many threads, for different names.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_RENAME_NOREPLACE = 1
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_ATTRIBUTE_FAILURES = 16
_ACL = b"system.posix_acl_"
ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")

# What ends a restore, since the next file would meet it too.
FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE)

_libc = ctypes.CDLL(None, use_errno=True)


class Metadata(NamedTuple):
    """What a new thing shall have; `uid` and `gid` are -1 where they are left as they are."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    file_flags: int = 0
    attributes: Sequence[tuple[bytes, bytes]] = ()


class Failure(NamedTuple):
    """One kind of metadata that could not be restored, and why."""

    kind: str
    error: int


@dataclass(frozen=True, slots=True)
class Placing:
    """How names are given.

    Attributes:
        token: what makes temporary names unlike any others.
        force: replace what stands under a name, unless it is a folder.
    """

    token: bytes
    force: bool

    @property
    def prefix(self) -> bytes:
        """What all temporary names begin with."""
        return b".onggi-%b-" % self.token

    def part(self, row: int) -> bytes:
        """Return the temporary name for an entry."""
        return b"%b%d.part" % (self.prefix, row)

    def publish(self, folder: int, part: bytes, name: bytes) -> None:
        """Give something its own name.

        Raises:
            OSError: something stands there, and is not to be replaced (EEXIST), or can't be.
        """
        if self.force:
            os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
            return
        if _libc.renameat2(folder, part, folder, name, _RENAME_NOREPLACE) == 0:
            return
        error = ctypes.get_errno()
        if error not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(error, os.strerror(error))
        # A file system that can't: what appears right now would be lost.
        if exists(folder, name):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)


def exists(folder: int, name: bytes) -> bool:
    """Tell whether anything stands under a name."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


class NewEntryFile:
    """A file that is being written, by many threads perhaps; `finish` gives it its name.

    Args:
        folder: descriptor of its folder; used by this call alone.
        part: its temporary name.
        size: its length in bytes, where it has holes; None for what is written.

    Raises:
        OSError: it can't be made.
    """

    def __init__(self, folder: int, part: bytes, size: int | None) -> None:
        self._part = part
        self.fd = os.open(part, _NEW_FILE, 0o600, dir_fd=folder)
        try:
            if size is not None:
                os.ftruncate(self.fd, size)
        except BaseException:
            self.discard(folder)
            raise

    def write_at(self, offset: int, pieces: Iterable[memoryview]) -> int:
        """Write `pieces`, one behind the other; return their length.

        Raises:
            OSError: from the system.
        """
        start = offset
        for piece in pieces:
            view = piece
            while view:
                got = os.pwrite(self.fd, view, offset)
                if not got:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                offset += got
                view = view[got:]
        return offset - start

    def finish(
        self, folder: int, name: bytes, metadata: Metadata, placing: Placing
    ) -> list[Failure]:
        """Give it its metadata, then its name; return what could not be restored.

        Raises:
            OSError: it can't get its name; then it is gone.
        """
        try:
            failures = set_metadata(self.fd, metadata)
            placing.publish(folder, self._part, name)
            if metadata.file_flags:  # an immutable file could not be renamed
                failures += set_file_flags(self.fd, metadata.file_flags)
        except BaseException:
            self.discard(folder)
            raise
        os.close(self.fd)
        self.fd = -1
        return failures

    def discard(self, folder: int) -> None:
        """Remove it; does nothing after `finish`."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            _remove(folder, self._part)


def _remove(folder: int, name: bytes) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        return  # nothing more can be done


# --- metadata -----------------------------------------------------------------------------------


def set_metadata(file: int | bytes, metadata: Metadata, *, link: bool = False) -> list[Failure]:
    """Set owner, mode, attributes and times of something; return what could not be set.

    Args:
        file: descriptor, or a path whose last component is not followed.
        metadata: what to set, but for the file flags.
        link: it is a symbolic link, which has no mode.
    """
    failures: list[Failure] = []
    follow = isinstance(file, int)
    if metadata.uid >= 0 or metadata.gid >= 0:
        try:
            os.chown(file, metadata.uid, metadata.gid, follow_symlinks=follow)
        except OSError as error:
            failures.append(Failure("owner", error.errno or 0))
    if not link:
        _drop_inherited(file, metadata.attributes, follow)
        try:  # after the owner: changing that takes setuid away
            _chmod(file, metadata.mode)
        except OSError as error:
            failures.append(Failure("mode", error.errno or 0))
    if metadata.attributes:
        failures += _set_attributes(file, metadata.attributes, follow)
    try:
        os.utime(file, ns=(metadata.mtime_ns, metadata.mtime_ns), follow_symlinks=follow)
    except (OSError, OverflowError) as error:
        code = error.errno if isinstance(error, OSError) else None
        failures.append(Failure("time", code or errno.EINVAL))
    return failures


def _drop_inherited(
    file: int | bytes, attributes: Sequence[tuple[bytes, bytes]], follow: bool
) -> None:
    """Take away the ACLs that a folder gave to what was made in it."""
    own = {name for name, _ in attributes}
    for name in ACLS:
        if name not in own:
            with suppress(OSError):  # there is none, as a rule
                os.removexattr(file, name, follow_symlinks=follow)


def gives_acl(folder: int) -> bool:
    """Tell whether what is made in a folder gets an ACL from it."""
    try:
        os.getxattr(folder, ACLS[1])
    except OSError:
        return False
    return True


def _chmod(file: int | bytes, mode: int) -> None:
    """Set the mode; a path is that of a device or a FIFO, which is not opened for it."""
    if isinstance(file, int):
        os.fchmod(file, mode)
        return
    handle = os.open(file, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.chmod(b"/proc/self/fd/%d" % handle, mode)
    finally:
        os.close(handle)


def _set_attributes(
    file: int | bytes, attributes: Sequence[tuple[bytes, bytes]], follow: bool
) -> list[Failure]:
    failures: list[Failure] = []
    for name, value in attributes:
        try:
            os.setxattr(file, name, value, follow_symlinks=follow)
        except OSError as error:
            kind = "acl" if name.startswith(_ACL) else f"attribute {os.fsdecode(name)}"
            failures.append(Failure(kind, error.errno or 0))
            if len(failures) >= _MOST_ATTRIBUTE_FAILURES:
                break
    return failures


def set_file_flags(fd: int, file_flags: int) -> list[Failure]:
    """Set the flags that chattr sets, on top of those that the file system gave."""
    try:
        own = struct.unpack_from("=I", fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(8)))[0]
        if own | file_flags != own:
            fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("=Q", own | file_flags))
    except OSError as error:
        return [Failure("file flags", error.errno or 0)]
    return []


# --- things without content ---------------------------------------------------------------------


def make_symlink(
    folder: int, name: bytes, target: bytes, metadata: Metadata, placing: Placing, row: int
) -> list[Failure]:
    """Make a symbolic link.

    Raises:
        OSError: it can't be made, or something stands there.
    """
    part = placing.part(row)
    os.symlink(target, part, dir_fd=folder)
    return _finish(folder, part, name, metadata, placing, link=True)


def make_node(
    folder: int, name: bytes, kind: int, device: int, metadata: Metadata, placing: Placing, row: int
) -> list[Failure]:
    """Make a device or a FIFO; `kind` is its part of `st_mode`.

    Raises:
        OSError: it can't be made, or something stands there.
    """
    part = placing.part(row)
    os.mknod(part, kind | 0o600, device, dir_fd=folder)
    return _finish(folder, part, name, metadata, placing, link=False)


def _finish(
    folder: int, part: bytes, name: bytes, metadata: Metadata, placing: Placing, *, link: bool
) -> list[Failure]:
    try:
        path = b"/proc/self/fd/%d/%b" % (folder, part)
        failures = set_metadata(path, metadata, link=link)
        placing.publish(folder, part, name)
    except BaseException:
        _remove(folder, part)
        raise
    return failures


def make_hard_link(
    from_folder: int, from_name: bytes, folder: int, name: bytes, placing: Placing, row: int
) -> None:
    """Give something that was restored another name.

    Raises:
        OSError: it can't be made, or something stands there.
    """
    if not placing.force:
        os.link(from_name, name, src_dir_fd=from_folder, dst_dir_fd=folder, follow_symlinks=False)
        return
    part = placing.part(row)
    os.link(from_name, part, src_dir_fd=from_folder, dst_dir_fd=folder, follow_symlinks=False)
    try:
        placing.publish(folder, part, name)
    finally:
        _remove(folder, part)  # renaming a name of a file over another of it does nothing


def make_directory(folder: int, name: bytes, *, force: bool) -> bool:
    """Make a directory that only its owner may enter for now; return False if one is there.

    Raises:
        OSError: it can't be made, or something else stands there.
    """
    try:
        os.mkdir(name, 0o700, dir_fd=folder)
        return True
    except FileExistsError:
        try:
            os.close(os.open(name, _OPEN_DIRECTORY, dir_fd=folder))
            return False
        except NotADirectoryError:
            pass
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
        if not force:
            raise
    os.unlink(name, dir_fd=folder)
    os.mkdir(name, 0o700, dir_fd=folder)
    return True


def sync_file_system(fd: int) -> None:
    """Make all that was written to the file system of `fd` safe on its disk.

    Raises:
        OSError: from the system: something was lost.
    """
    if _libc.syncfs(fd):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
