"""Block devices as targets: what must be refused, how spans are zeroed, how writing ends.

Owns: everything that protects a device from being overwritten by mistake. Must not know the format.
A `DeviceTarget` takes writes from many threads.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from pathlib import Path

from .errors import RefusedError, StoreError
from .source import device_bytes, mounts_of
from .zeros import zeros

_BLKZEROOUT = 0x127F
_FALLOC_PUNCH = 0x01 | 0x02  # KEEP_SIZE | PUNCH_HOLE: on a device, zeros without storage
_NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.ENODEV)
_MBR_ENTRY = struct.Struct("<B3sB3sII")
_ZERO_PIECE = 1024 * 1024


def is_block_device(path: Path) -> bool:
    """Tell whether `path` leads to a block device."""
    try:
        return stat.S_ISBLK(path.stat().st_mode)
    except OSError:
        return False


class DeviceTarget:
    """A block device that is being overwritten; nothing else may use it meanwhile.

    Args:
        path: the device.
        content_bytes: how much will be written.
        archive: the archive's file, which must not lie on the device.
        overwrite: the name of the device once more, if its partition table may go.

    Raises:
        RefusedError: it is mounted or in use, too small, holds a partition table, or the archive.
        StoreError: it can't be opened.
    """

    def __init__(
        self, path: Path, content_bytes: int, archive: Path | None, overwrite: str | None
    ) -> None:
        self.path = path
        self.started = False
        rdev = path.stat().st_rdev
        number = f"{os.major(rdev)}:{os.minor(rdev)}"
        _refuse_mounted(path, number)
        _refuse_loop_below(path, rdev)
        if archive is not None:
            _refuse_own_archive(path, number, archive)
        try:
            # A plain O_RDWR writes through to a file system that is mounted; O_EXCL fails then.
            self.fd = os.open(path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise RefusedError(
                    f"{path} is in use (mounted, or part of a RAID, LVM or swap)"
                ) from None
            raise _failure("open", path, error) from None
        try:
            size = device_bytes(self.fd)
            if size < content_bytes:
                raise RefusedError(f"{path} has {size} bytes; the volume needs {content_bytes}")
            if overwrite not in (path.name, str(path)) and _has_partitions(self.fd, number):
                raise RefusedError(
                    f"{path} holds a partition table; to overwrite it, add --overwrite {path.name}"
                )
        except BaseException:
            os.close(self.fd)
            raise

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write `data` at `offset`."""
        self.started = True
        view = memoryview(data)
        try:
            while view:
                got = os.pwrite(self.fd, view, offset)
                if not got:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                offset += got
                view = view[got:]
        except OSError as error:
            raise _failure("write", self.path, error) from None

    def zero(self, offset: int, length: int) -> None:
        """Make a span zeros: without storage if the device can, else by writing them."""
        self.started = True
        if _punch(self.fd, offset, length):
            return
        try:
            fcntl.ioctl(self.fd, _BLKZEROOUT, struct.pack("=QQ", offset, length))
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise _failure("write", self.path, error) from None
            for at in range(offset, offset + length, _ZERO_PIECE):
                self.write_at(at, zeros(min(_ZERO_PIECE, offset + length - at)))

    def commit(self) -> None:
        """Make everything safe on the device, and close it."""
        try:
            os.fsync(self.fd)
            os.close(self.fd)
        except OSError as error:
            raise _failure("finish", self.path, error) from None
        self.fd = -1

    def discard(self) -> None:
        """Close it; what was written can't be taken back. Does nothing after `commit`."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _punch(fd: int, offset: int, length: int) -> bool:
    """Punch a hole; return False where the device can't."""
    import ctypes  # few need it, and it takes 6 ms

    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.fallocate(
        ctypes.c_int(fd), ctypes.c_int(_FALLOC_PUNCH), ctypes.c_int64(offset),
        ctypes.c_int64(length),
    )  # fmt: skip
    return bool(result == 0)


def _refuse_mounted(path: Path, number: str) -> None:
    for mount in mounts_of(number):
        raise RefusedError(f"{path} is mounted on {mount.place}; unmount it first")


def _refuse_loop_below(path: Path, rdev: int) -> None:
    """Refuse a device that a loop device stands on: the kernel does not call that in use."""
    for loop in Path("/sys/block").glob("loop*"):
        below = _backing_file(loop)
        try:
            same = below is not None and os.stat(below).st_rdev == rdev
        except OSError:
            continue
        if same:
            raise RefusedError(f"{path} is in use by the loop device {loop.name}")


def _refuse_own_archive(path: Path, number: str, archive: Path) -> None:
    """Refuse a loop device whose file is the archive."""
    if _is_backing_file(number, archive):
        raise RefusedError(f"{path} is a loop device on {archive} itself")


def refuse_backing_file(source: Path, target: Path) -> None:
    """Raise RefusedError if `source` is a loop device that stands on the file `target`."""
    try:
        found = source.stat()
    except OSError:
        return  # opening it will tell
    number = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    if stat.S_ISBLK(found.st_mode) and _is_backing_file(number, target):
        raise RefusedError(f"{source} is a loop device on {target} itself")


def _is_backing_file(number: str, file: Path) -> bool:
    below = _backing_file(Path(f"/sys/dev/block/{number}"))
    try:
        return below is not None and os.path.samefile(below, file)
    except OSError:
        return False


def _backing_file(block: Path) -> str | None:
    """Return the file or device that a loop device stands on, by its folder in sysfs."""
    try:
        return (block / "loop/backing_file").read_text(errors="surrogateescape").rstrip("\n")
    except OSError:
        return None


def _has_partitions(fd: int, number: str) -> bool:
    if any(Path(f"/sys/dev/block/{number}").glob("*/partition")):
        return True
    start = os.pread(fd, 8192, 0)
    if b"EFI PART" in (start[512:520], start[4096:4104]):
        return True
    if start[510:512] != b"\x55\xaa":
        return False
    # FAT and NTFS boot sectors end with the same mark; their code makes no sense as entries.
    entries = [_MBR_ENTRY.unpack_from(start, 446 + 16 * n) for n in range(4)]
    plausible = all(entry[0] in (0, 0x80) for entry in entries)
    return plausible and any(entry[2] and entry[5] for entry in entries)


def _failure(action: str, path: Path, error: OSError) -> StoreError:
    return StoreError(f"can't {action} {path}: {os.strerror(error.errno or 0)}")
