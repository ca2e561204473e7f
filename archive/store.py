"""Storage: positional reads of archives, and new files that appear whole or not at all.

Owns: file descriptors, temporary names, fsync and publishing. Must not know the format. A
`FileStore` may be shared by threads; a `NewFile` takes `append` from one thread, and `write_at`
from many.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from .errors import RefusedError, SourceError, StoreError

_IOV_MAX = 1024
_SPOOL_IN_MEMORY = 4 * 1024 * 1024
_WRITEBACK_BYTES = 32 * 1024 * 1024


class Store(Protocol):
    """Where an archive is read from. All methods are safe in any thread."""

    @property
    def size(self) -> int:
        """Length of the archive in bytes."""
        ...

    def read_at(self, archive_offset: int, size: int, /) -> bytes:
        """Return `size` bytes from `archive_offset` on, fewer at the end of the archive."""
        ...

    def read_into(self, archive_offset: int, view: memoryview, /) -> int:
        """Fill `view` from `archive_offset` on; return how many bytes there were."""
        ...


class MemoryStore:
    """An archive in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        """Length of the archive in bytes."""
        return len(self._data)

    def read_at(self, archive_offset: int, size: int, /) -> bytes:
        """Return `size` bytes from `archive_offset` on, fewer at the end of the archive."""
        return self._data[archive_offset : archive_offset + size]

    def read_into(self, archive_offset: int, view: memoryview, /) -> int:
        """Fill `view` from `archive_offset` on; return how many bytes there were."""
        data = self.read_at(archive_offset, len(view))
        view[: len(data)] = data
        return len(data)


class FileStore:
    """An archive in a regular file.

    Raises:
        SourceError: it can't be opened or read, or is no regular file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        try:
            # O_NONBLOCK: opening a FIFO must not wait for a writer that never comes.
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            found = os.fstat(self._fd)
        except OSError as error:
            raise SourceError(f"can't open {path}: {os.strerror(error.errno or 0)}") from None
        if not stat.S_ISREG(found.st_mode):
            self.close()
            raise SourceError(f"{path} is no regular file; an archive must be one to be read")
        self._size = found.st_size

    def __enter__(self) -> Self:
        """Return self; leaving closes the file."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Length of the archive in bytes when it was opened."""
        return self._size

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._fd

    def close(self) -> None:
        """Close the file; no read may be under way."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read_at(self, archive_offset: int, size: int, /) -> bytes:
        """Return `size` bytes from `archive_offset` on, fewer at the end of the archive."""
        size = max(0, min(size, self._size - archive_offset))
        if not size:
            return b""
        buffer = bytearray(size)
        return bytes(buffer[: self.read_into(archive_offset, memoryview(buffer))])

    def read_into(self, archive_offset: int, view: memoryview, /) -> int:
        """Fill `view` from `archive_offset` on; return how many bytes there were."""
        done = 0
        try:
            while done < len(view):
                got = os.preadv(self._fd, [view[done:]], archive_offset + done)
                if not got:
                    break
                done += got
        except OSError as error:
            raise SourceError(
                f"can't read {self.path} at byte {archive_offset + done}: "
                f"{os.strerror(error.errno or 0)}"
            ) from None
        return done

    def drop_cache(self) -> None:
        """Ask the kernel to forget the file's pages, so that reads come from the disk again."""
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)


class FileSpool:
    """Rows in memory up to 4 MiB, then in an unnamed temporary file in `folder`."""

    def __init__(self, folder: Path | None = None) -> None:
        import tempfile  # only a writer needs it, and it brings 20 modules along

        self._file = tempfile.SpooledTemporaryFile(  # noqa: SIM115
            _SPOOL_IN_MEMORY, dir=None if folder is None else str(folder)
        )

    def write(self, data: bytes, /) -> object:
        """Append `data`."""
        try:
            return self._file.write(data)
        except OSError as error:
            raise self._failure(error) from None

    def patch(self, spool_offset: int, data: bytes, /) -> None:
        """Overwrite bytes that were written before with `data`."""
        try:
            self._file.seek(spool_offset)
            self._file.write(data)
            self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise self._failure(error) from None

    def read(self, spool_offset: int, size: int, /) -> bytes:
        """Return bytes that were written before."""
        try:
            self._file.seek(spool_offset)
            data = self._file.read(size)
            self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise self._failure(error) from None
        return data

    def chunks(self, size: int, /) -> Iterator[bytes]:
        """Yield all that was written, `size` bytes at a time; then the spool is closed."""
        try:
            with self._file:
                self._file.seek(0)  # writes what is still in a buffer
                while chunk := self._file.read(size):
                    yield chunk
        except OSError as error:
            raise self._failure(error) from None

    def __del__(self) -> None:
        with suppress(OSError):
            self._file.close()

    def _failure(self, error: OSError) -> StoreError:
        reason = os.strerror(error.errno or 0)
        return StoreError(f"can't keep the index in a temporary file: {reason}")


class Target(Protocol):
    """Where the bytes of a new archive go. One thread appends."""

    def append(self, parts: Sequence[bytes], /) -> None:
        """Write `parts` after what was written before."""
        ...

    def sync(self) -> None:
        """Make what was written safe; it can be read back then."""
        ...

    def commit(self) -> None:
        """Make what was written safe, and visible under its final name."""
        ...

    def discard(self) -> None:
        """Give up: nothing of it stays. Does nothing after `commit`."""
        ...


def write_all(fd: int, parts: Sequence[bytes | memoryview]) -> int:
    """Write `parts` to `fd` in order, however short the writes; return their length in bytes.

    Raises:
        OSError: from the system, after which it is unknown how much was written.
    """
    total = 0
    left = [part for part in parts if len(part)]
    while left:
        got = os.writev(fd, left[:_IOV_MAX])
        total += got
        if not got:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        taken = 0
        while taken < len(left) and got >= len(left[taken]):
            got -= len(left[taken])
            taken += 1
        left = left[taken:]
        if got:
            left[0] = memoryview(left[0])[got:]
    return total


class NewFile:
    """A file that is written under a temporary name, and gets its own name when it is whole.

    The temporary file stands in the same folder, is named `.NAME.XXXXXXXX.onggi-part`, and is
    removed by `discard`. `commit` never replaces a file unless `force` was given. If `commit`
    fails after the new name is there (only the fsync of the folder is left), the file stays: it is
    whole.

    Raises:
        StoreError: on any failure; from then on only `discard` may be called.
    """

    def __init__(self, path: Path, *, force: bool = False) -> None:
        self._force = force
        self._written = 0
        self._length: int | None = None
        self._flushed = 0
        self._failed = False
        self._synced = False
        try:
            if path.is_symlink():  # replace what it leads to, not the link
                path = Path(os.path.realpath(path))
            if path.is_dir():
                raise StoreError(f"{path} is a folder; name a file")
            if path.exists() and not path.is_file():
                raise StoreError(f"{path} is no regular file")
            if not force and os.path.lexists(path):
                raise StoreError(f"{path} exists; --force replaces it")
        except OSError as error:
            raise StoreError(f"can't create {path}: {os.strerror(error.errno or 0)}") from None
        self.path = path
        # A name of 255 bytes would have no room for the rest.
        stem = os.fsencode(path.name)[:200]
        part = b".%b.%b.onggi-part" % (stem, os.urandom(4).hex().encode())
        self._part: Path | None = path.parent / os.fsdecode(part)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            # What was on a disk may be secret: only its owner reads it, as the device before.
            self.fd = os.open(self._part, flags, 0o600)
        except OSError as error:
            raise StoreError(
                f"can't create a file in {path.parent}: {os.strerror(error.errno or 0)}"
            ) from None

    def append(self, parts: Sequence[bytes], /) -> None:
        """Write `parts` after what was appended before, and start writing it back to the disk."""
        self._check_alive()
        try:
            self._written += write_all(self.fd, parts)
        except OSError as error:
            raise self._failure("write", error) from None
        if self._written - self._flushed >= _WRITEBACK_BYTES:
            # On Linux this starts write-back and waits for nothing, so that the fsync at the end
            # finds little left to do; and the archive does not push out other programs' pages.
            span = self._written - self._flushed
            os.posix_fadvise(self.fd, self._flushed, span, os.POSIX_FADV_DONTNEED)
            self._flushed = self._written

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write `data` at `offset`; safe in many threads, with `set_length` called before."""
        self._check_alive()
        try:
            view = memoryview(data)
            while view:
                got = os.pwrite(self.fd, view, offset)
                if not got:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                offset += got
                view = view[got:]
        except OSError as error:
            raise self._failure("write", error) from None

    def set_length(self, length: int) -> None:
        """Give the file its length in bytes; what is not written at all stays a hole."""
        try:
            os.ftruncate(self.fd, length)
        except OSError as error:
            raise self._failure("set the length of", error) from None
        self._length = length

    @property
    def part(self) -> Path | None:
        """The temporary file; None once it was published or removed."""
        return self._part

    def sync(self) -> None:
        """Make the file safe on the disk, under its temporary name."""
        self._check_alive()
        length = self._written if self._length is None else self._length
        try:
            # A write that claims more than it did would go unseen otherwise.
            if os.fstat(self.fd).st_size != length:
                raise OSError(0, "the file has another length than was written")
            os.fsync(self.fd)
            self._synced = True
        except OSError as error:
            raise self._failure("finish", error) from None

    def commit(self) -> None:
        """Publish the file under its name, safe on the disk."""
        if not self._synced:
            self.sync()
        self._check_alive()
        try:
            self._publish()
        except OSError as error:
            raise self._failure("finish", error) from None
        self._part = None
        try:
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StoreError(
                f"{self.path} is whole and stays, but its folder could not be made safe on the "
                f"disk: {os.strerror(error.errno or 0)}"
            ) from None
        with suppress(OSError):  # all of it is on the disk by now
            os.close(self.fd)
        self.fd = -1

    def discard(self) -> None:
        """Remove the temporary file; does nothing after `commit`."""
        self._failed = True
        if self._part is not None:
            with suppress(OSError):
                self._part.unlink(missing_ok=True)
            self._part = None
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _publish(self) -> None:
        assert self._part is not None
        if self._force:
            os.rename(self._part, self.path)
            return
        try:
            os.link(self._part, self.path)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            # A file system without hard links, as FAT: a file that appears right now is lost.
            if os.path.lexists(self.path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
            os.rename(self._part, self.path)
            return
        try:
            os.unlink(self._part)
        except OSError:
            os.unlink(self.path)  # the link above made it: nothing stands there after a failure
            raise

    def _check_alive(self) -> None:
        if self._failed:
            raise StoreError(f"{self.path} failed before; nothing more is written to it")

    def _failure(self, action: str, error: OSError) -> StoreError:
        self._failed = True
        reason = os.strerror(error.errno) if error.errno else str(error)
        hint = {
            errno.ENOSPC: "; free some space, or choose another target",
            errno.EDQUOT: "; the quota is used up",
            errno.EEXIST: "; --force replaces it",
        }.get(error.errno or 0, "")
        return StoreError(f"can't {action} {self.path}: {reason}{hint}")


class StreamTarget:
    """Standard output or a pipe: bytes can't be taken back, so the footer is what commits."""

    def __init__(self, fd: int, name: str = "standard output") -> None:
        self._fd = fd
        self._name = name
        self._failed = False

    def append(self, parts: Sequence[bytes | memoryview], /) -> None:
        """Write `parts` after what was written before."""
        if self._failed:
            raise StoreError(f"{self._name} failed before; nothing more is written to it")
        try:
            write_all(self._fd, parts)
        except OSError as error:
            self._failed = True
            raise StoreError(
                f"can't write to {self._name}: {os.strerror(error.errno or 0)}"
            ) from None

    def sync(self) -> None:
        """Do nothing: what was written is written."""

    def commit(self) -> None:
        """Do nothing: what was written is written."""

    def discard(self) -> None:
        """Do nothing: the reader sees an archive without a footer."""


def refuse_same_file(source: Path, target: Path) -> None:
    """Raise RefusedError if both paths lead to one file or device."""
    try:
        if os.path.samestat(source.stat(), target.stat()):
            raise RefusedError(f"{source} and {target} are the same")
    except OSError:
        return  # one of them does not exist, so they differ
