"""An archive as a file system of fsspec, so that pandas, DuckDB and others read it in place.

Owns: what fsspec calls, and URLs as `onggi://inner/path.csv::file:///data/a.onggi`. Must not know
how anything is read. Needs the extra `fsspec`; nothing else in the package imports it. A file
system may be shared by threads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from threading import Lock
from typing import Any, BinaryIO, NoReturn, cast

import fsspec
from fsspec.core import OpenFile
from fsspec.implementations.local import LocalFileSystem

from . import api
from .api import OpenArchive
from .arguments import AnyPath, path_bytes
from .builtin_errors import ReadOnlyError
from .entry_info import EntryInfo
from .errors import BadUseError, SourceError
from .frames import CACHE_BYTES
from .guarded_store import GuardedStore
from .member_file import BUFFER_BYTES, MemberFile, SharedMemberFile
from .store import Store

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TYPES = {"file": "file", "directory": "directory", "symlink": "link"}

ArchiveSource = AnyPath | OpenFile | BinaryIO | Store | OpenArchive


class FileObjectStore:
    """An archive in an open file; reads take turns, since they share its position.

    Args:
        file: can seek; closed by the caller.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = Lock()
        try:
            self._size = file.seek(0, os.SEEK_END)
        except OSError as error:
            raise SourceError(f"can't read the archive: {error}") from error

    @property
    def size(self) -> int:
        """Length of the archive in bytes when it was opened."""
        return self._size

    def read_at(self, archive_offset: int, size: int, /) -> bytes:
        """Return `size` bytes from `archive_offset` on, fewer at the end of the archive.

        Raises:
            SourceError: it can't be read.
        """
        left = max(0, min(size, self._size - archive_offset))
        pieces: list[bytes] = []
        try:
            with self._lock:
                self._file.seek(archive_offset)
                while left and (piece := self._file.read(left)):
                    pieces.append(piece)
                    left -= len(piece)
        except OSError as error:
            raise SourceError(
                f"can't read the archive at byte {archive_offset}: {error}"
            ) from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_into(self, archive_offset: int, view: memoryview, /) -> int:
        """Fill `view` from `archive_offset` on; return how many bytes there were.

        Raises:
            SourceError: it can't be read.
        """
        data = self.read_at(archive_offset, len(view))
        view[: len(data)] = data
        return len(data)


class OnggiFileSystem(fsspec.AbstractFileSystem):
    """What is in an archive, to be read only.

    Paths are those inside the archive, without a slash at their beginning; bytes that are no UTF-8
    are in them as `os.fsdecode` has them. Symbolic links are told as type `link`, and not followed.
    Errors are those of the library: FileNotFoundError and its kin, `DamagedError` for what is
    damaged, `ReadOnlyError` (an OSError) for everything that would write.

    Args:
        fo: the archive: a path or URL of any file system that fsspec knows, what `fsspec.open`
            gives, a file that can seek, a store, or an `OpenArchive`. What was opened by others is
            left open by `close`.
        target_protocol: file system of `fo`, where that is no URL.
        target_options: what that file system is to be told.
        cache_bytes: how much decoded content is kept in memory.
        thread_positions: give each thread that seeks in an open file a position of its own, as
            DuckDB 2.0 needs: its threads share a file, and do not take turns. Other programs
            do best without.
        **storage_options: as fsspec has them for all file systems.

    Raises:
        OnggiError: as `onggi.archive.open`.
        FileNotFoundError: there is no such archive.
    """

    protocol = "onggi"
    root_marker = ""
    # As for zip: an instance that fsspec keeps would keep the file open, also if it is replaced.
    cachable = False

    def __init__(
        self,
        fo: ArchiveSource = "",
        target_protocol: str | None = None,
        target_options: Mapping[str, Any] | None = None,
        cache_bytes: int = CACHE_BYTES,
        thread_positions: bool = False,
        **storage_options: Any,
    ) -> None:
        super().__init__(**storage_options)
        if isinstance(fo, str) and not fo:
            raise BadUseError("name the archive too: onggi://INNER/PATH::file://ARCHIVE")
        if isinstance(fo, (str, bytes, os.PathLike)):
            path = os.fsdecode(path_bytes(fo))
            fo = fsspec.open(path, mode="rb", protocol=target_protocol, **(target_options or {}))
        self._thread_positions = thread_positions
        self._is_mine = not isinstance(fo, OpenArchive)
        self.archive = fo if isinstance(fo, OpenArchive) else _opened(fo, cache_bytes)

    @classmethod
    def _strip_protocol(cls, path: str | os.PathLike[str] | list[Any]) -> Any:
        """Return the path inside the archive that a URL names."""
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        return super()._strip_protocol(path).lstrip("/")

    @property
    def fsid(self) -> str:
        """What tells file systems apart across processes."""
        return f"onggi_{self.archive.uuid}"

    def close(self) -> None:
        """Close the archive; files that were opened from it can't be read any more."""
        if self._is_mine:
            self.archive.close()

    # --- entries ---------------------------------------------------------------------------------

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return what is known of a path.

        Returns:
            `name`, `size` in bytes, `type` (file, directory, link, other), `mode` (permission
            bits), `uid`, `gid`, `nlink`, `mtime` (s since 1970-01-01 UTC), `mtime_ns`, `islink`,
            and for a symbolic link `destination`.

        Raises:
            FileNotFoundError, NotADirectoryError: nothing stands there.
        """
        return _info(self.archive.stat(self._strip_protocol(path)))

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Return what is in a directory, sorted by name; or what stands at the path itself.

        Args:
            path: where.
            detail: give what `info` gives, else paths.

        Raises:
            FileNotFoundError, NotADirectoryError: nothing stands there.
        """
        inner = self._strip_protocol(path)
        entry = self.archive.stat(inner)
        entries = self.archive.scandir(inner) if entry.is_dir else iter((entry,))
        return [_info(each) if detail else each.path for each in entries]

    def exists(self, path: str, **_: Any) -> bool:
        """Tell whether anything stands at a path.

        Raises:
            DamagedError: that can't be told.
        """
        return self.archive.exists(self._strip_protocol(path))

    def modified(self, path: str) -> datetime:
        """Return when a file was last changed, in UTC, cut to whole µs.

        Raises:
            BadUseError: a calendar does not go that far.
        """
        mtime_ns = self.archive.stat(self._strip_protocol(path)).mtime_ns
        try:
            return _EPOCH + timedelta(microseconds=mtime_ns // 1000)
        except OverflowError:
            raise BadUseError(f"{mtime_ns} ns since 1970 is no date") from None

    def ukey(self, path: str) -> str:
        """Return what stands for the content of a file: an archive does not change."""
        inner = path_bytes(self._strip_protocol(path))
        return sha256(self.archive.uuid.bytes + inner).hexdigest()

    # --- content ---------------------------------------------------------------------------------

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """Return bytes of a file, from `start` to before `end`, which count as those of a slice.

        Raises:
            FileNotFoundError, IsADirectoryError, DamagedError: as `OpenArchive.read`.
        """
        inner = self._strip_protocol(path)
        size = self.archive.stat(inner).size
        first, last, _step = slice(start, end).indices(size)
        return self.archive.read(inner, first, max(last - first, 0))

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        **_: Any,
    ) -> MemberFile | SharedMemberFile:
        """Open a file; `block_size` is that of the buffer in bytes."""
        if mode != "rb":
            self._refuse(path)
        if self._thread_positions:
            return self.archive.open_raw(path, SharedMemberFile)
        return self.archive.open(path, buffer_bytes=block_size or BUFFER_BYTES)

    # --- what would write ------------------------------------------------------------------------

    def _refuse(self, path: Any, *_: Any, **__: Any) -> NoReturn:
        """Raise ReadOnlyError."""
        place = "" if isinstance(path, list) else self._strip_protocol(path)
        raise ReadOnlyError.of(path_bytes(place), "is in an archive, which can't be written to")

    mkdir = makedirs = rmdir = rm = rm_file = _rm = touch = pipe_file = _refuse
    mv = copy = cp_file = _refuse

    def put_file(self, lpath: str, rpath: str, **_: Any) -> NoReturn:
        """Raise ReadOnlyError."""
        self._refuse(rpath)


def _opened(fo: Any, cache_bytes: int) -> OpenArchive:
    if isinstance(fo, OpenFile):
        if isinstance(fo.fs, LocalFileSystem) and fo.compression is None:
            return api.open(fo.path, cache_bytes=cache_bytes)  # its reads need no lock
        file = fo.open()
        try:
            guarded = GuardedStore(FileObjectStore(file), file.close)
        except BaseException:
            file.close()
            raise
        return api.open_guarded(guarded, cache_bytes)
    if hasattr(fo, "read_at"):
        return api.open(cast(Store, fo), cache_bytes=cache_bytes)
    return api.open(FileObjectStore(cast(BinaryIO, fo)), cache_bytes=cache_bytes)


def _info(entry: EntryInfo) -> dict[str, Any]:
    info: dict[str, Any] = {
        "name": entry.path,
        "size": entry.size,
        "type": _TYPES.get(entry.type, "other"),
        "mode": entry.mode,
        "uid": entry.uid,
        "gid": entry.gid,
        "nlink": entry.link_count,
        "mtime": entry.mtime_ns / 10**9,
        "mtime_ns": entry.mtime_ns,
        "islink": entry.is_symlink,
    }
    if entry.is_symlink:
        info["destination"] = entry.target
    return info
