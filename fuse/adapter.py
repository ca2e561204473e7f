"""Between the kernel's library and nodes: one call of the kernel is one call of a node.

Owns: how mfusepy is told, in the cheapest way, what nodes say: structures are filled in place, the
kernel keeps names, attributes and pages as long as it likes, and nothing is kept for open files.
Must not know how anything is stored. Its callbacks run in many threads, which are libfuse's own.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import mfusepy

from ..archive.accelerate import native
from ..archive.errors import BadUseError, OnggiError
from .nodes import Node
from .status import STATUS_BYTES

log = logging.getLogger("onggi.mount")

_FOREVER_S = 10.0**9
_SOON_S = 1.0
_CAP_READDIRPLUS_AUTO = 1 << 14
_CAP_POSIX_ACL = 1 << 19
_CAP_CACHE_SYMLINKS = 1 << 23
_READDIR_PLUS = 1
_FILL_DIR_PLUS = 2
_READ_AHEAD_BYTES = 16 * 1024 * 1024
_MOST_BACKGROUND = 64
_BLOCK_BYTES = 4096
_MOST_NAME_BYTES = 255
_NAMESPACES = (b"user.", b"trusted.", b"security.", b"system.")  # of attributes, see xattr(7)
_MAX_THREADS_SINCE = 12
_THREADS = "10"
_DOTS = 2  # `.` and `..` come before all children
_MOST_LOGGED = 1000  # different lines
_PROBE_EVERY = 32  # answers with names
_MOST_UNASKED = 4 * _PROBE_EVERY

_stat_type = ctypes.c_char * STATUS_BYTES


class Root(Protocol):
    """Where paths are looked up."""

    @property
    def is_fixed(self) -> bool:
        """Whether what there is never changes."""
        ...

    def find(self, path: bytes) -> Node | None:
        """Return what stands at a path from the root, without slashes at its ends; or None."""
        ...

    def label(self, path: bytes) -> str:
        """Return which archive a path leads to, as a log names it; empty if there is one alone."""
        ...


class _Operations(mfusepy.Operations):
    """Says which callbacks there are; `Mount` has them."""

    use_ns = True

    def __init__(self, root: Root, ready: Callable[[], None]) -> None:
        self._root = root
        self._ready = ready

    def init_with_config(self, conn: Any, config: Any) -> None:
        """Set what is asked of the kernel; the mount is up by now."""
        config.use_ino = 1
        if self._root.is_fixed:
            config.kernel_cache = 1
            config.attr_timeout = config.entry_timeout = config.negative_timeout = _FOREVER_S
        else:  # what the kernel keeps of an archive is wrong once another one has its name
            config.attr_timeout = config.entry_timeout = _SOON_S
            config.negative_timeout = 0.0
        conn.max_readahead = _READ_AHEAD_BYTES
        conn.max_background = _MOST_BACKGROUND
        conn.congestion_threshold = _MOST_BACKGROUND
        conn.want |= conn.capable & (_CAP_POSIX_ACL | _CAP_CACHE_SYMLINKS)
        # Or it would ask for each name apart once a directory takes more than one answer.
        conn.want &= ~_CAP_READDIRPLUS_AUTO
        self._ready()

    # Below is only what makes mfusepy register a callback.
    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        raise NotImplementedError

    readdir = read = readlink = getxattr = listxattr = statfs = lseek = open = getattr


def _copy(to: int, size: int, pieces: list[memoryview]) -> int:
    """Copy pieces to an address, as `accelerate.Native.copy`, but with the interpreter's lock."""
    view = memoryview((ctypes.c_char * size).from_address(to)).cast("B")
    done = 0
    for piece in pieces:
        taken = piece[: size - done]
        view[done : done + len(taken)] = taken
        done += len(taken)
    return done


class _Take:
    """Gives names to libfuse; belongs to one thread.

    Attributes:
        filler, buffer: addresses of its function and of what that wants to be given.
        flags: whether the kernel takes all that `stat` would tell.
    """

    def __init__(self) -> None:
        self.filler = self.buffer = self.flags = 0
        self._filler: Any = None
        raw = _stat_type()
        self._status = ctypes.byref(mfusepy.c_stat.from_buffer(raw))
        self._view = memoryview(raw).cast("B")

    def begin(self, filler: Any, buffer: Any, flags: int) -> None:
        """Give names to this function, which wants to be given this buffer."""
        self.filler = ctypes.cast(filler, ctypes.c_void_p).value or 0
        self.buffer = int(buffer or 0)
        self.flags = flags
        self._filler = filler

    def offset_of(self, number: int) -> int:
        """Return what libfuse calls the place of a child."""
        return number + _DOTS

    def __call__(self, name: bytes, status: bytes, following: int, /) -> bool:
        """Give a name, its struct stat, and the number of the next; tell whether that was all."""
        self._view[:] = status
        return bool(self._filler(self.buffer, name, self._status, following + _DOTS, self.flags))

    def dots(self, name: bytes, status: bytes, following: int) -> bool:
        """Give the name of the directory itself, or of that above it."""
        self._view[:] = status
        return bool(self._filler(self.buffer, name, self._status, following, 0))


class Mount(mfusepy.FUSE):
    """A mount. Making one mounts, serves the kernel, and returns when it was unmounted.

    Args:
        root: what is shown.
        totals: content length in bytes, and number of entries, for `statfs`.
        folder: where it is mounted.
        options: of the mount, as `mount -o` has them.
        ready: called once the mount is up.

    Raises:
        RuntimeError: it can't be mounted; libfuse has told why on standard error.
    """

    def __init__(
        self,
        root: Root,
        totals: Callable[[], tuple[int, int]],
        folder: str,
        options: Sequence[str],
        ready: Callable[[], None],
    ) -> None:
        self._root = root
        self._totals = totals
        compiled = native()
        self._copy = _copy if compiled is None else compiled.copy
        self._told: set[str] = set()
        self._answers = self._unasked = 0
        self._threads: set[int] = set()
        self._local = threading.local()
        given: dict[str, str | bool] = {}
        if mfusepy.fuse_version_minor >= _MAX_THREADS_SINCE:
            # Or libfuse 3.14 complains of its own defaults.
            given["max_threads"] = given["max_idle_threads"] = _THREADS
        for option in options:
            key, _, value = option.partition("=")
            given[key] = value or True
        super().__init__(
            _Operations(root, ready), folder, foreground=True,
            **given,
        )  # fmt: skip

    # --- callbacks ---------------------------------------------------------------------------

    def getattr_fuse_3(self, path: bytes, buf: Any, fip: Any) -> int:
        """Fill in a struct stat."""
        node = self._root.find(path.strip(b"/"))
        if node is None:
            name = path[path.rfind(b"/") + 1 :]
            return -errno.ENAMETOOLONG if len(name) > _MOST_NAME_BYTES else -errno.ENOENT
        if not node.is_directory:
            self._unasked = 0
        ctypes.memmove(buf, node.status(), ctypes.sizeof(mfusepy.c_stat))
        return 0

    def fgetattr(self, path: bytes, buf: Any, fip: Any) -> int:
        """Fill in a struct stat."""
        return self.getattr_fuse_3(path, buf, fip)

    def open(self, path: bytes, fip: Any) -> int:
        """Ask the kernel not to tell of files that are opened and closed, if none ever changes."""
        if self._root.is_fixed:
            return -errno.ENOSYS
        node = self._root.find(path.strip(b"/"))
        if node is None:
            return -errno.ENOENT
        fip.contents.fh = node.serial
        return 0

    def readdir_fuse_3(
        self, path: bytes, buf: Any, filler: Any, offset: int, fip: Any, flags: int
    ) -> int:
        """Give names, and all that `stat` would tell, as many as the kernel takes at a time."""
        node = self._root.find(path.strip(b"/"))
        if node is None:
            return -errno.ENOENT
        take = self._take()
        take.begin(filler, buf, _FILL_DIR_PLUS if flags & _READDIR_PLUS and self._tells() else 0)
        if offset < _DOTS:
            status = node.status()
            for number, name in enumerate((b".", b"..")[offset:], offset):
                if take.dots(name, status, number + 1):
                    return 0
        node.give(max(offset - _DOTS, 0), take)
        return 0

    def _tells(self) -> bool:
        """Tell whether the next answer with names also has what `stat` would tell.

        Whoever wants that gets it at once: a call for each file takes ten times as long. But what
        the kernel was told of a file stays in its memory and in libfuse's, 200 bytes each. So one
        answer of many has the names alone, and once nobody asked about any file in them, all have.
        """
        self._answers += 1
        self._unasked += 1
        return self._unasked <= _MOST_UNASKED and self._answers % _PROBE_EVERY != 0

    def _take(self) -> _Take:
        """Return what gives names to libfuse in this thread."""
        try:
            return self._local.take  # type: ignore[no-any-return]
        except AttributeError:
            take = self._local.take = _Take()
            return take

    def read(self, path: bytes, buf: Any, size: int, offset: int, fip: Any) -> int:
        """Copy bytes of a file to where the kernel wants them."""
        node = self._root.find(path.strip(b"/"))
        if node is None:
            return -errno.ENOENT
        if fip.contents.fh != node.serial:  # another archive has its place by now
            return -errno.ESTALE
        # What is read past the kernel's cache may be wanted again, by others too.
        once = not fip.contents.flags & os.O_DIRECT
        pieces = node.pieces(offset, size, once=once)
        return self._copy(ctypes.addressof(buf.contents), size, pieces) if pieces else 0

    def lseek(self, path: bytes, offset: int, whence: int, fip: Any) -> int:
        """Find data or a hole."""
        node = self._root.find(path.strip(b"/"))
        if node is None:
            return -errno.ENOENT
        if fip.contents.fh != node.serial:
            return -errno.ESTALE
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            return -errno.EINVAL
        return node.seek(offset, whence)

    def readlink(self, path: bytes, buf: Any, bufsize: int) -> int:
        """Copy the target of a symbolic link."""
        node = self._root.find(path.strip(b"/"))
        if node is None:
            return -errno.ENOENT
        target = node.target()[: bufsize - 1] + b"\0"
        ctypes.memmove(buf, target, len(target))
        return 0

    def getxattr(self, path: bytes, name: bytes, value: Any, size: int, *_: Any) -> int:
        """Copy an extended attribute, or tell its length."""
        node = self._root.find(path.strip(b"/"))
        if node is None:
            return -errno.ENOENT
        for found, content in node.attributes():
            if found == name:
                return _give(content, value, size)
        return -errno.ENODATA if name.startswith(_NAMESPACES) else -errno.EOPNOTSUPP

    def listxattr(self, path: bytes, namebuf: Any, size: int) -> int:
        """Copy the names of extended attributes, or tell their length."""
        node = self._root.find(path.strip(b"/"))
        if node is None:
            return -errno.ENOENT
        names = [name for name, _ in node.attributes()]
        # As any file system has it, or what copies attributes would fail at those.
        if any(map(_is_trusted, names)) and mfusepy.fuse_get_context()[0]:
            names = [name for name in names if not _is_trusted(name)]
        return _give(b"".join(name + b"\0" for name in names), namebuf, size)

    def statfs(self, path: bytes, buf: Any) -> int:
        """Tell how much there is, and that nothing is free."""
        content_bytes, entries = self._totals()
        found = buf.contents
        found.f_bsize = found.f_frsize = _BLOCK_BYTES
        found.f_blocks = -(-content_bytes // _BLOCK_BYTES)
        found.f_files = entries
        found.f_namemax = _MOST_NAME_BYTES
        return 0

    # --- errors ------------------------------------------------------------------------------

    def _wrapper(self, func: Callable[..., int], *args: Any) -> int:
        """Call a callback; what it raises becomes an error of the one call."""
        if (thread := threading.get_ident()) not in self._threads:
            # Once more than is released at the end of the call, so that Python keeps what it made
            # for this thread of libfuse: to make it anew takes longer than most calls.
            ctypes.pythonapi.PyGILState_Ensure()
            self._threads.add(thread)
        try:
            return func(*args) or 0
        except OSError as error:
            return -(error.errno or errno.EIO)
        except BadUseError:
            return -errno.ENOENT
        except OnggiError as error:
            self._tell(self._root.label(args[0].strip(b"/")) + str(error))
            return -errno.EIO
        except Exception as error:
            self._tell(f"a defect in Onggi: {func.__name__}: {type(error).__name__}: {error}")
            return -errno.EIO

    def _tell(self, line: str) -> None:
        """Log a line, once: a damaged frame is asked for again and again."""
        if line not in self._told and len(self._told) < _MOST_LOGGED:
            self._told.add(line)
            log.error("%s", line)


def _is_trusted(name: bytes) -> bool:
    """Tell whether root alone may see an attribute."""
    return name.startswith(b"trusted.")


def _give(content: bytes, to: Any, size: int) -> int:
    if size == 0:
        return len(content)
    if len(content) > size:
        return -errno.ERANGE
    ctypes.memmove(to, content, len(content))
    return len(content)
