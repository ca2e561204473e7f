"""Sources: block devices, disk images and byte streams, read unit by unit.

Owns: opening and reading what is backed up, its holes, its read errors, its facts. Must not know
the format, nor write anything. `read_into` of a volume is safe in many threads; `hole_end`,
`data_end` and all of a stream belong to the one thread that may take the next unit.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .bad_blocks import Runs, read_around
from .errors import SourceChangedError, SourceError

_BLKGETSIZE64 = 0x80081272


class Source(Protocol):
    """What the writer and the verifier read from."""

    @property
    def name(self) -> bytes:
        """Last component of its path."""
        ...

    @property
    def content_bytes(self) -> int | None:
        """Its length in bytes; None for a stream, which ends where it ends."""
        ...

    @property
    def mtime_ns(self) -> int:
        """When it was last changed, ns since 1970-01-01 UTC; 0 if it has no such time."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """Return what people want to know of it later, as JSON values."""
        ...

    def hole_end(self, content_offset: int) -> int:
        """Return where the hole at this offset ends; the offset itself if there is none."""
        ...

    def data_end(self, content_offset: int) -> int:
        """Return where the data at this offset ends; the offset itself if there is none."""
        ...

    def read_into(self, view: memoryview, content_offset: int) -> tuple[int, Runs]:
        """Fill `view` from the source.

        Returns how many bytes were read, fewer than `view` has only at the end of a stream, and
        the runs that could not be read and are zeros in `view`.
        """
        ...

    def will_need(self, content_offset: int, length: int) -> None:
        """Say that a span will be read soon."""
        ...

    def done_with(self, content_offset: int, length: int) -> None:
        """Say that a span was read and is not needed again."""
        ...

    def changed(self) -> str | None:
        """Return how the source changed since it was opened, or None."""
        ...

    def cancel(self) -> None:
        """End a read that waits, soon; callable in any thread."""
        ...

    def close(self) -> None:
        """Close it; no read may be under way."""
        ...


def open_source(path: str, stdin_fd: int = 0) -> Source:
    """Open a block device, a regular file, or `-` for standard input.

    Args:
        path: where it is.
        stdin_fd: the file descriptor that `-` stands for.

    Raises:
        SourceError: it can't be opened, or is nothing that can be packed.
    """
    if path == "-":
        return StreamSource(stdin_fd)
    return VolumeSource(Path(path))


class VolumeSource:
    """A block device or a regular file, by positional reads.

    Raises:
        SourceError: it can't be opened, or is neither.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # O_NONBLOCK: opening a FIFO must not wait for a writer that never comes.
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise _source_error("open", path, error) from None
        try:
            self._stat = os.fstat(self._fd)
            self.is_device = stat.S_ISBLK(self._stat.st_mode)
            if self.is_device:
                self._size = device_bytes(self._fd)
            elif stat.S_ISREG(self._stat.st_mode):
                self._size = self._stat.st_size
            else:
                raise SourceError(f"{path} is neither a block device nor a regular file")
        except OSError as error:
            os.close(self._fd)
            raise _source_error("read", path, error) from None
        except SourceError:
            os.close(self._fd)
            raise
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        self._data = (0, self._size if self.is_device else 0)  # the run of data found last

    @property
    def name(self) -> bytes:
        """Last component of its path."""
        return os.fsencode(Path(os.path.abspath(self.path)).name)

    @property
    def content_bytes(self) -> int:
        """Its length in bytes when it was opened."""
        return self._size

    @property
    def mtime_ns(self) -> int:
        """When a file was last changed, ns since 1970-01-01 UTC; 0 for a device."""
        return 0 if self.is_device else self._stat.st_mtime_ns

    def facts(self) -> Mapping[str, Any]:
        """Return path, kind, size, and what the kernel says of a device."""
        path = os.path.abspath(self.path)
        facts: dict[str, Any] = {
            "path": os.fsencode(path).decode(errors="replace"),
            "type": "block-device" if self.is_device else "image",
            "bytes": self._size,
        }
        if self.is_device:
            facts.update(_device_facts(self._stat.st_rdev))
        return facts

    def mounted_for_writing(self) -> str | None:
        """Return where a device is mounted for writing, or None."""
        number = f"{os.major(self._stat.st_rdev)}:{os.minor(self._stat.st_rdev)}"
        for mount in mounts_of(number):
            if mount.writable:
                return mount.place
        return None

    def hole_end(self, content_offset: int) -> int:
        """Return where the hole at this offset ends; the offset itself if there is none."""
        self._find(content_offset)
        start, end = self._data
        return content_offset if start <= content_offset < end else max(start, content_offset)

    def data_end(self, content_offset: int) -> int:
        """Return where the data at this offset ends; the offset itself if there is none."""
        self._find(content_offset)
        start, end = self._data
        return end if start <= content_offset < end else content_offset

    def read_into(self, view: memoryview, content_offset: int) -> tuple[int, Runs]:
        """Fill `view`; what can't be read is zeros in it, and returned as runs.

        Raises:
            SourceChangedError: the source ends before `view` is full.
            SourceError: reading fails in another way than by bad blocks.
        """
        try:
            done, unreadable = read_around(self._fd, view, content_offset)
        except OSError as error:
            raise _source_error("read", self.path, error) from None
        if done < len(view):
            raise SourceChangedError(
                f"{self.path} ends at byte {content_offset + done}, but had {self._size} bytes "
                "when it was opened; pack it while nothing changes it, or pack a snapshot"
            )
        return done, unreadable

    def will_need(self, content_offset: int, length: int) -> None:
        """Let the kernel start to read a span, while other threads are at other places."""
        os.posix_fadvise(self._fd, content_offset, length, os.POSIX_FADV_WILLNEED)

    def done_with(self, content_offset: int, length: int) -> None:
        """Let the kernel drop the pages of a span, so that other programs keep theirs."""
        os.posix_fadvise(self._fd, content_offset, length, os.POSIX_FADV_DONTNEED)

    def changed(self) -> str | None:
        """Return how a file changed since it was opened, or None; None for a device."""
        if self.is_device:
            return None
        now = os.fstat(self._fd)
        if now.st_size != self._stat.st_size:
            return f"its length went from {self._stat.st_size} to {now.st_size} bytes"
        if now.st_mtime_ns != self._stat.st_mtime_ns:
            return "it was written to"
        return None

    def cancel(self) -> None:
        """Do nothing: reads of a volume do not wait for anybody."""

    def close(self) -> None:
        """Close it; no read may be under way."""
        os.close(self._fd)

    def _find(self, content_offset: int) -> None:
        """Make `_data` the run of data at the offset, or the next one behind it."""
        if self.is_device or content_offset < self._data[1] or self._data[0] >= self._size:
            return
        try:
            start = os.lseek(self._fd, content_offset, os.SEEK_DATA)
            self._data = (start, min(os.lseek(self._fd, start, os.SEEK_HOLE), self._size))
        except OSError as error:
            shrank = os.fstat(self._fd).st_size < self._size
            if error.errno == errno.ENXIO and not shrank:  # no data from here to the end
                self._data = (self._size, self._size)
            else:  # a file system without SEEK_DATA: all of it is data; or reading will tell
                self._data = (content_offset, self._size)


class StreamSource:
    """A pipe or the like: read once, from the start, of unknown length."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._cancelled = False
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        if os.isatty(fd):
            raise SourceError("standard input is a terminal; send the data through a pipe")

    @property
    def name(self) -> bytes:
        """A stream has no name: `stdin`."""
        return b"stdin"

    @property
    def content_bytes(self) -> None:
        """Not known."""
        return

    @property
    def mtime_ns(self) -> int:
        """A stream has no such time: 0."""
        return 0

    def facts(self) -> Mapping[str, Any]:
        """Return that it is a stream."""
        return {"path": "-", "type": "stream"}

    def hole_end(self, content_offset: int) -> int:
        """Return the offset itself: a stream has no holes."""
        return content_offset

    def data_end(self, content_offset: int) -> int:
        """Return an offset beyond any stream."""
        return 2**63 - 1

    def read_into(self, view: memoryview, content_offset: int) -> tuple[int, Runs]:
        """Fill `view`, as far as the stream goes.

        Raises:
            SourceError: reading fails.
        """
        done = 0
        try:
            while done < len(view) and not self._cancelled:
                # A silent pipe must not keep a thread from ending.
                if not self._poll.poll(200):
                    continue
                got = os.readv(self._fd, [view[done:]])
                if not got:
                    break
                done += got
        except OSError as error:
            raise _source_error("read", Path("standard input"), error) from None
        return done, []

    def will_need(self, content_offset: int, length: int) -> None:
        """Do nothing: a stream is read in turn."""

    def done_with(self, content_offset: int, length: int) -> None:
        """Do nothing: a stream is not read twice."""

    def changed(self) -> str | None:
        """Return None: a stream is what was read."""
        return None

    def cancel(self) -> None:
        """End a read that waits within a fifth of a second; callable in any thread."""
        self._cancelled = True

    def close(self) -> None:
        """Do nothing: the stream was not opened here."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the kernel's mount table; `root` is what of the device is seen there."""

    place: str
    writable: bool
    root: str = "/"


def mounts_of(number: str) -> list[Mount]:
    """Return where the device `number` (`major:minor`) is mounted."""
    table = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    found: list[Mount] = []
    for line in table.splitlines():
        fields = line.split()
        if len(fields) > 9 and fields[2] == number:
            # Both the mount and the file system can be read-only.
            rw = "rw" in fields[5].split(",") and "rw" in fields[-1].split(",")
            found.append(Mount(_unescaped(fields[4]), rw, _unescaped(fields[3])))
    return found


def _unescaped(field: str) -> str:
    """Return a path of the mount table, which has blanks and backslashes in octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def device_bytes(fd: int) -> int:
    """Return the length in bytes of an open block device."""
    raw = fcntl.ioctl(fd, _BLKGETSIZE64, bytes(8))
    return int(struct.unpack("=Q", raw)[0])


def _device_facts(rdev: int) -> Mapping[str, Any]:
    """Return what sysfs says of a device: sector sizes, model, serial number."""
    base = Path(f"/sys/dev/block/{os.major(rdev)}:{os.minor(rdev)}")
    whole = base if (base / "queue").exists() else base.resolve().parent
    wanted = {
        "logical_block_bytes": whole / "queue/logical_block_size",
        "physical_block_bytes": whole / "queue/physical_block_size",
        "model": whole / "device/model",
        "serial": whole / "device/serial",
        "backing_file": whole / "loop/backing_file",
    }
    facts: dict[str, Any] = {}
    for key, path in wanted.items():
        try:
            text = path.read_bytes().decode(errors="replace").strip()
        except OSError:
            continue
        facts[key] = int(text) if key.endswith("_bytes") else text
    return facts


def _source_error(action: str, path: Path, error: OSError) -> SourceError:
    return SourceError(f"can't {action} {path}: {os.strerror(error.errno or 0)}")
