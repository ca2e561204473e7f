"""What is in a folder, and what is in its files: many at once, relative to an open folder.

Owns: system calls on single files of a source tree. Nothing is followed: a symbolic link is looked
at, never through. Must not know archives. Safe in many threads.

`scan` and `read_files` have compiled twins in `_native`, which do the common case; what is not
common is left to the code here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Sequence
from typing import NamedTuple

from .accelerate import native
from .bad_blocks import Runs, read_around
from .entry import encode_attributes
from .exclude import CACHE_TAG_NAME, CACHE_TAG_START
from .pace import PIECE_BYTES, Hold

_LOOK_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FS_IOC_GETFLAGS = 0x80086601
# The flags that chattr can set; the others tell how a file system stores a file.
FILE_FLAGS = 0xFF | 0x4000 | 0x8000 | 0x1_0000 | 0x2_0000 | 0x80_0000 | 0x200_0000
_NO_FLAGS = (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_NO_ATTRIBUTES = (errno.ENOTSUP, errno.ENOSYS, errno.EPERM, errno.EACCES)

_FOREIGN = "trusted.SGI_ACL_"  # XFS shows root how it stores ACLs, which are there as such too

STAT_BLOCK_BYTES = 512  # what `blocks` counts in

WANT_ATTRIBUTES = 1
WANT_FILE_FLAGS = 2


class Found(NamedTuple):
    """One thing in a folder, as `lstat` and its kin tell. Lengths in bytes, times in ns.

    `attributes` is an encoded set (spec section 6.7), empty for none. `error` is the errno with
    which it could not be looked at; then `mode` is 0 if not even its type is known.
    """

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    ctime_ns: int
    dev: int
    ino: int
    nlink: int
    rdev: int
    blocks: int
    file_flags: int
    attributes: bytes
    error: int

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode."""
        return self.dev, self.ino


def found_by_mode(name: bytes, mode: int, error: int = 0) -> Found:
    """Return something of which no more is known, or that is made up."""
    return Found(
        name, mode, uid=0, gid=0, size=0, mtime_ns=0, ctime_ns=0, dev=0, ino=0, nlink=0, rdev=0,
        blocks=0, file_flags=0, attributes=b"", error=error,
    )  # fmt: skip


def list_names(fd: int) -> list[bytes]:
    """Return the names in a folder, sorted.

    Raises:
        OSError: it can't be read.
    """
    return sorted(os.listdir(b"/proc/self/fd/%d" % fd))


def scan(fd: int, names: Sequence[bytes], wanted: int) -> list[Found]:
    """Look at things in a folder.

    Args:
        fd: the folder.
        names: of what to look at.
        wanted: WANT_ATTRIBUTES and WANT_FILE_FLAGS, or either, or 0.
    """
    compiled = native()
    if compiled is None:
        return [_look(fd, name, wanted) for name in names]
    return [
        _look(fd, name, wanted) if look is None else Found._make(look)
        for name, look in zip(names, compiled.scan(fd, names, wanted), strict=True)
    ]


def _look(fd: int, name: bytes, wanted: int) -> Found:
    try:
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except OSError as error:
        return found_by_mode(name, 0, error.errno or errno.EIO)
    file_flags, attributes, problem = 0, b"", 0
    try:
        if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
            # Opened in any case, so that what can't be read is known before it is planned.
            file = open_quietly(fd, name)
            try:
                if wanted & WANT_FILE_FLAGS:
                    file_flags = _file_flags(file)
                if wanted & WANT_ATTRIBUTES:
                    attributes = _attributes(file)
            finally:
                os.close(file)
        elif wanted & WANT_ATTRIBUTES:
            # Opening a device or a FIFO may do something; so it is reached by its name.
            attributes = _attributes(b"/proc/self/fd/%d/%b" % (fd, name))
    except OSError as error:
        problem = error.errno or errno.EIO
    return Found(
        name, found.st_mode, found.st_uid, found.st_gid, found.st_size, found.st_mtime_ns,
        found.st_ctime_ns, found.st_dev, found.st_ino, found.st_nlink, found.st_rdev,
        found.st_blocks, file_flags, attributes, problem,
    )  # fmt: skip


def open_quietly(fd: int, name: bytes) -> int:
    """Open a file for reading, without a change of its access time where that is allowed.

    Raises:
        OSError: it can't be opened, or is a symbolic link.
    """
    try:
        return os.open(name, _LOOK_FLAGS | os.O_NOATIME, dir_fd=fd)
    except PermissionError:
        return os.open(name, _LOOK_FLAGS, dir_fd=fd)


def _file_flags(fd: int) -> int:
    try:
        raw = fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(8))
    except OSError as error:
        if error.errno in _NO_FLAGS:
            return 0
        raise
    return int(struct.unpack_from("=I", raw)[0]) & FILE_FLAGS


def _attributes(file: int | bytes) -> bytes:
    """Return the encoded attribute set of a file."""
    follow = isinstance(file, int)
    try:
        names = os.listxattr(file, follow_symlinks=follow)
    except OSError as error:
        if error.errno in _NO_ATTRIBUTES:
            return b""
        raise
    found: list[tuple[bytes, bytes]] = []
    for name in names:
        if name.startswith(_FOREIGN):
            continue
        try:
            found.append((os.fsencode(name), os.getxattr(file, name, follow_symlinks=follow)))
        except OSError as error:
            if error.errno != errno.ENODATA:  # it vanished meanwhile
                raise
    return encode_attributes(found)


# --- reading ------------------------------------------------------------------------------------


class Wanted(NamedTuple):
    """A span of a file to read: where from, and where to; lengths in bytes."""

    found: Found
    member_offset: int
    length: int
    view_offset: int


class ReadProblem(NamedTuple):
    """What was off about a span.

    `code` is `changed`, `grew`, `shrank`, `vanished` or `unreadable`; `runs` are (offset in the
    view, length) of what could not be read, and is zeros there.
    """

    number: int
    code: str
    message: str
    runs: Runs


def read_files(fd: int, wanted: Sequence[Wanted], view: memoryview) -> list[ReadProblem]:
    """Fill spans of `view` with what files in a folder hold; return what was off.

    A file that is not the one that was found, or not as long, leaves zeros.
    """
    compiled = native()
    left = range(len(wanted)) if compiled is None else compiled.read_files(fd, wanted, view)
    problems: list[ReadProblem] = []
    for number in left:
        if problem := _read(fd, number, wanted[number], view):
            problems.append(problem)
    return problems


def read_files_held(
    fd: int, wanted: Sequence[Wanted], view: memoryview, hold: Hold
) -> list[ReadProblem]:
    """Do as `read_files`, but read in pieces of at most PIECE_BYTES, each held by `hold` before.

    Short files are a piece together.
    """
    problems: list[ReadProblem] = []
    number = 0
    while number < len(wanted):
        first, length = number, 0
        while number < len(wanted) and length + wanted[number].length <= PIECE_BYTES:
            length += wanted[number].length
            number += 1
        if number > first:
            hold(length)
            for problem in read_files(fd, wanted[first:number], view):
                problems.append(problem._replace(number=first + problem.number))
            continue
        if long := _read(fd, number, wanted[number], view, hold):
            problems.append(long)
        number += 1
    return problems


def _read(
    fd: int, number: int, wanted: Wanted, view: memoryview, hold: Hold | None = None
) -> ReadProblem | None:
    found, length = wanted.found, wanted.length
    span = view[wanted.view_offset : wanted.view_offset + length]
    everything = [(wanted.view_offset, length)]
    try:
        file = open_quietly(fd, found.name)
    except OSError as error:
        span[:] = bytes(length)
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ESTALE):
            return ReadProblem(number, "vanished", "it vanished before it was read", everything)
        return _unreadable(number, error, everything)
    try:
        before = os.fstat(file)
        if (before.st_dev, before.st_ino) != found.identity:
            span[:] = bytes(length)
            return ReadProblem(number, "vanished", "another one has taken its place", everything)
        got, bad = read_around(file, span, wanted.member_offset, hold)
        runs = [(wanted.view_offset + at - wanted.member_offset, size) for at, size in bad]
        if got < length:
            span[got:] = bytes(length - got)
            runs.append((wanted.view_offset + got, length - got))
        after = os.fstat(file)
    except OSError as error:
        span[:] = bytes(length)
        return _unreadable(number, error, everything)
    finally:
        os.close(file)
    if bad:
        lost = sum(size for _, size in bad)
        return ReadProblem(number, "unreadable", f"{lost} bytes can't be read", runs)
    sizes = f"from {found.size} to {after.st_size} bytes"
    if after.st_size < found.size or got < length:
        return ReadProblem(number, "shrank", f"it shrank {sizes} while it was read", runs)
    if after.st_size > found.size:
        return ReadProblem(number, "grew", f"it grew {sizes}: only the first are packed", runs)
    if (after.st_mtime_ns, after.st_ctime_ns) != (found.mtime_ns, found.ctime_ns):
        return ReadProblem(number, "changed", "it was changed while it was read", runs)
    return None


def _unreadable(number: int, error: OSError, runs: Runs) -> ReadProblem:
    return ReadProblem(
        number, "unreadable", f"it can't be read: {os.strerror(error.errno or 0)}", runs
    )


def data_runs_of(fd: int, found: Found) -> list[tuple[int, int]] | None:
    """Return (offset, length) of the data of a file that has holes; None if it has none.

    Raises:
        OSError: it can't be opened or looked at, or is another file by now (ESTALE).
    """
    file = open_quietly(fd, found.name)
    try:
        now = os.fstat(file)
        if (now.st_dev, now.st_ino) != found.identity:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        runs: list[tuple[int, int]] = []
        at = 0
        while at < found.size:
            try:
                start = os.lseek(file, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # a hole up to the end
                    break
                return None  # a file system that does not tell
            if start >= found.size:
                break
            at = min(os.lseek(file, start, os.SEEK_HOLE), found.size)
            # GNU tar reads each run from a block on; file systems in user space may know others.
            start -= start % STAT_BLOCK_BYTES
            at = min(at + -at % STAT_BLOCK_BYTES, found.size)
            if runs and start <= sum(runs[-1]):
                start = runs.pop()[0]
            runs.append((start, at - start))
        return None if runs == [(0, found.size)] else runs
    finally:
        os.close(file)


def is_cache(fd: int) -> bool:
    """Tell whether a folder has a cache tag."""
    try:
        tag = open_quietly(fd, CACHE_TAG_NAME)
    except OSError:
        return False
    try:
        return os.pread(tag, len(CACHE_TAG_START), 0) == CACHE_TAG_START
    except OSError:
        return False
    finally:
        os.close(tag)
