"""The library: an archive as Python code reads it, with str paths and errors that it knows.

Owns: the public face of reading, exported by `onggi.archive`; what an `OSError` a failed look-up
is. Must not know command lines, nor how anything is stored. An `OpenArchive` may be shared by
threads.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from uuid import UUID

from . import layout
from .arguments import AnyPath, path_bytes, system_path, worker_count
from .builtin_errors import (
    ArchiveMissingError,
    EntryNotFoundError,
    IsDirectoryError,
    NoFileError,
    NotDirectoryError,
    shown,
)
from .destination import RestoreOptions
from .entry import TYPE_WORDS, Entry
from .entry_info import Catalogue, EntryInfo, entry_info
from .errors import BadUseError, Finding, SourceError
from .extraction import Extracted, extract
from .frames import CACHE_BYTES
from .guarded_store import GuardedStore
from .member_file import BUFFER_BYTES, MemberFile, RawMemberFile
from .progress import Report, silent
from .reader import Archive
from .store import FileStore, Store
from .tree import Tree
from .verification import Verification, run_verification
from .verify import Level
from .view import View
from .volume_view import VolumeView

Raw = TypeVar("Raw", bound=RawMemberFile)

_KINDS: Mapping[int, Literal["volume", "tree"]] = {
    layout.KIND_VOLUME: "volume",
    layout.KIND_TREE: "tree",
}


def open(archive: AnyPath | Store, *, cache_bytes: int = CACHE_BYTES) -> OpenArchive:
    """Open an archive for reading.

    Args:
        archive: path of the file; or a store, which stays open when the archive is closed.
        cache_bytes: how much decoded content is kept in memory, in bytes.

    Raises:
        ArchiveMissingError: there is no such file (a SourceError and a FileNotFoundError).
        SourceError: it can't be read.
        NotAnArchiveError, UnsupportedError: it is no archive, or needs a newer Onggi.
        DamagedError: it can't be opened; `verify_archive` tells what is left of it.
    """
    return open_guarded(_guarded(archive), cache_bytes)


def open_guarded(guarded: GuardedStore, cache_bytes: int) -> OpenArchive:
    """Open the archive in a store, which is closed with it, or at once if that fails.

    Raises:
        OnggiError: as `open`.
    """
    try:
        return OpenArchive(guarded, Archive(guarded), cache_bytes)
    except BaseException:
        guarded.close()
        raise


def verify_archive(
    archive: AnyPath | Store,
    level: str = Level.CONTENT,
    *,
    threads: int | None = None,
    found: Callable[[Finding], None] | None = None,
    report: Report = silent,
) -> Verification:
    """Verify an archive, also one that is too damaged to be opened.

    Args:
        archive: path of the file, or a store.
        level: `structure`, the records; `stored`, also the stored bytes; `content`, also what they
            decompress to.
        threads: checkers; None for one for each processor that may be used.
        found: told of each finding at once; else they are collected.
        report: told how far it is.

    Raises:
        BadUseError: there is no such level.
        SourceError: it can't be read; see also `open`.
        NotAnArchiveError, UnsupportedError: there is nothing to verify.
    """
    guarded = _guarded(archive)
    try:
        return run_verification(guarded, level, threads, found, report)
    finally:
        guarded.close()


class OpenArchive:
    """An archive that is open; made by `open`. Leaving it as a context closes it.

    A tree holds its entries. A volume reads as a tree of one file, which has the name of the
    volume. Symbolic links are not followed: `EntryInfo.target` says where they lead.

    Paths are those inside the archive; slashes at their ends do not count, and `..` is refused.
    Every method that reads raises DamagedError where what it needs is damaged, and all else can
    still be read; SourceError where the file can't be read; ArchiveClosedError after `close`.
    All methods are safe in many threads.
    """

    def __init__(self, store: GuardedStore, archive: Archive, cache_bytes: int) -> None:
        self._store = store
        self._archive = archive
        self._tree: Tree | None = None
        if archive.header.kind == layout.KIND_TREE:
            view = View(archive, cache_bytes)
            self._tree = view.tree
            self._catalogue: Catalogue = view.tree
            self._read = view.read
        else:
            volume = VolumeView(archive, cache_bytes)
            self._catalogue = volume
            self._read = volume.read
        self._owner_names: dict[tuple[int, int], bytes] | None = None

    def __enter__(self) -> Self:
        """Return self; leaving closes the archive."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "open"
        return f"<{state} Onggi archive of a {self.kind}, {self.uuid}>"

    def close(self) -> None:
        """Close it; reads under way in other threads end well, later ones fail."""
        self._store.close()

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._store.is_closed

    # --- facts, which can be had after `close` too ----------------------------------------------

    @property
    def kind(self) -> Literal["volume", "tree"]:
        """What it holds."""
        return _KINDS[self._archive.header.kind]

    @property
    def uuid(self) -> UUID:
        """Its identity."""
        return self._archive.header.uuid

    @property
    def created_ns(self) -> int:
        """When it was made, ns since 1970-01-01 UTC."""
        return self._archive.header.created_ns

    @property
    def facts(self) -> Mapping[str, Any]:
        """What its writer noted of source, host and itself, as JSON values; for people."""
        return self._archive.header.facts

    @property
    def member_count(self) -> int:
        """Number of entries of a tree, its root included; 1 for a volume."""
        return self._archive.footer.member_count

    @property
    def content_bytes(self) -> int:
        """Length of the content: of a volume, or of a tree as a tar stream."""
        return self._archive.content_bytes

    @property
    def archive_bytes(self) -> int:
        """Length of the archive."""
        return self._archive.footer.archive_bytes

    # --- entries ---------------------------------------------------------------------------------

    def walk(self, path: AnyPath = "") -> Iterator[EntryInfo]:
        """Yield what stands at a path, and all that is below it, in the order of the archive.

        That is the order in which reading the files is fastest. A directory comes before what is
        in it. Memory does not grow with the number of entries.

        Raises:
            EntryNotFoundError: nothing stands there.
        """
        top = self._found(path)
        return self._walk(top, self._catalogue.path(top))

    def _walk(self, top: Entry, path: bytes) -> Iterator[EntryInfo]:
        for visited in self._catalogue.walk(top, path):
            self._store.check()
            yield self._info(visited.entry, visited.path)

    def scandir(self, path: AnyPath = "") -> Iterator[EntryInfo]:
        """Yield what is in a directory, sorted by name as bytes.

        Raises:
            EntryNotFoundError, NotDirectoryError: there is no such directory.
        """
        directory = self._directory(path)
        prefix = self._catalogue.path(directory)
        return self._scan(directory, prefix + b"/" if prefix else b"")

    def _scan(self, directory: Entry, prefix: bytes) -> Iterator[EntryInfo]:
        for name, entry in self._catalogue.children(directory):
            self._store.check()
            yield self._info(entry, prefix + name)

    def listdir(self, path: AnyPath = "") -> list[str]:
        """Return the names in a directory, sorted as bytes.

        Raises:
            EntryNotFoundError, NotDirectoryError: there is no such directory.
        """
        directory = self._directory(path)
        return [os.fsdecode(name) for name, _ in self._catalogue.children(directory)]

    def stat(self, path: AnyPath) -> EntryInfo:
        """Return what stands at a path.

        Raises:
            EntryNotFoundError: nothing does.
        """
        entry = self._found(path)
        return self._info(entry, self._catalogue.path(entry))

    def exists(self, path: AnyPath) -> bool:
        """Tell whether anything stands at a path; True for a symbolic link, wherever it leads."""
        return self._lookup(path_bytes(path)) is not None

    def _info(self, entry: Entry, path: bytes) -> EntryInfo:
        return entry_info(self._catalogue, entry, path, self)

    def owner_name(self, kind: int, number: int) -> str | None:
        """Return the name of a user or a group, for EntryInfo; None if it had none."""
        self._store.check()
        if self._owner_names is None:  # whoever comes second finds the same
            self._owner_names = self._catalogue.owner_names()
        name = self._owner_names.get((kind, number))
        return None if name is None else os.fsdecode(name)

    def attributes_of(self, entry: Entry) -> dict[str, bytes]:
        """Return the extended attributes of an entry, for EntryInfo."""
        self._store.check()
        return {os.fsdecode(name): value for name, value in self._catalogue.attributes(entry)}

    # --- content ---------------------------------------------------------------------------------

    def read(self, path: AnyPath, offset: int = 0, size: int | None = None) -> bytes:
        """Return bytes of a file; holes are zeros.

        Decompresses the frames that hold them, and no others; each is checked by its digest first.

        Args:
            path: a file.
            offset: where in it to begin, in bytes.
            size: how many bytes, fewer at its end; None for all that follow.

        Raises:
            EntryNotFoundError, IsDirectoryError, NoFileError: there is no such file.
            BadUseError: a number is negative, or memory can't hold that much at once.
        """
        entry = self._file(path)
        wanted = max(entry.member_bytes - offset, 0) if size is None else size
        return self._read_entry(entry, offset, wanted)

    def _read_entry(self, entry: Entry, offset: int, size: int) -> bytes:
        self._store.check()
        try:
            return self._read(entry, offset, size)
        except (MemoryError, OverflowError):  # a sparse file may be larger than any memory
            raise BadUseError(f"{size:,} bytes are too many for one read") from None

    def open(self, path: AnyPath, *, buffer_bytes: int = BUFFER_BYTES) -> MemberFile:
        """Open a file for reading bytes, with all that `io.BufferedReader` can.

        It may be shared by threads, which then share its position. It needs the archive to stay
        open. Its method `detach` gives the same file without a buffer.

        Args:
            path: a file.
            buffer_bytes: size of its buffer; what is read ahead of a small read.

        Raises:
            EntryNotFoundError, IsDirectoryError, NoFileError: there is no such file.
        """
        return MemberFile(self.open_raw(path, RawMemberFile), buffer_bytes)

    def open_raw(self, path: AnyPath, kind: type[Raw]) -> Raw:
        """Open a file without a buffer, as one of the classes of `member_file`.

        Raises:
            EntryNotFoundError, IsDirectoryError, NoFileError: there is no such file.
        """
        entry = self._file(path)
        return kind(partial(self._read_entry, entry), entry.member_bytes, os.fsdecode(path))

    def extract(
        self,
        dest: AnyPath,
        paths: Sequence[AnyPath] = (),
        *,
        force: bool = False,
        same_owner: bool | None = None,
        numeric_owner: bool = False,
        salvage: bool = False,
        threads: int | None = None,
        found: Callable[[Finding], None] | None = None,
        report: Report = silent,
    ) -> Extracted:
        """Restore all that is in the archive, or parts of it, below a folder.

        Each thing appears under its name when it is whole. What was restored stays if this fails.

        Args:
            dest: a folder; made if it does not exist.
            paths: what to restore, with all that is below it; everything if there are none.
            force: replace what stands in the way, unless it is a folder. Else it stays: that is a
                finding, or a StoreError where the archive holds a volume.
            same_owner: give things their owners, and setuid with them; None: if this is root.
            numeric_owner: take owners by number, even if this system knows their names.
            salvage: go on where something is damaged; it reads as zeros, and is a finding.
            threads: decoders; None for one for each processor that may be used.
            found: told of each finding at once; else they are collected.
            report: told how far it is.

        Raises:
            EntryNotFoundError: a path is not in the archive.
            StoreError: the folder can't be written.
            DamagedError: something is damaged, and `salvage` is false.
        """
        if isinstance(paths, (str, bytes)):
            raise BadUseError("name the paths in a list")
        wanted = [path_bytes(path) for path in paths]
        for path in wanted:
            self._found(path)
        self._store.check()
        owners = os.geteuid() == 0 if same_owner is None else same_owner
        return extract(
            self._archive, self._tree, system_path(dest), wanted,
            RestoreOptions(force, owners, numeric_owner, salvage), worker_count(threads), found,
            report,
        )  # fmt: skip

    def verify(
        self,
        level: str = Level.CONTENT,
        *,
        threads: int | None = None,
        found: Callable[[Finding], None] | None = None,
        report: Report = silent,
    ) -> Verification:
        """Verify the archive; arguments and errors are those of `verify_archive`."""
        return run_verification(self._store, level, threads, found, report)

    # --- look-up ---------------------------------------------------------------------------------

    def _lookup(self, path: bytes) -> Entry | None:
        self._store.check()
        return self._catalogue.lookup(path)

    def _found(self, path: AnyPath) -> Entry:
        """Return the entry at a path, which may be a hard link."""
        raw = path_bytes(path)
        entry = self._lookup(raw)
        if entry is None:
            raise self._missing(raw)
        return entry

    def _missing(self, path: bytes) -> BadUseError:
        """Return the error that nothing stands at a path: for the reason that a system has."""
        above = path.rstrip(b"/")
        while above := above.rpartition(b"/")[0]:
            entry = self._lookup(above)
            if entry is not None:
                if not entry.is_directory:
                    return NotDirectoryError.of(above, "is no directory", path)
                break
        return EntryNotFoundError.of(path, "is not in the archive")

    def _directory(self, path: AnyPath) -> Entry:
        entry = self._found(path)
        if not entry.is_directory:
            raise NotDirectoryError.of(path_bytes(path), "is no directory")
        return entry

    def _file(self, path: AnyPath) -> Entry:
        """Return a file; of a hard link the one that it names."""
        raw = path_bytes(path)
        entry = self._catalogue.primary(self._found(raw))
        if entry.is_directory:
            raise IsDirectoryError.of(raw, "is a directory")
        if entry.type == layout.ENTRY_SYMLINK:
            target = shown(self._catalogue.target(entry))
            raise NoFileError.of(raw, f"is a symbolic link to {target}")
        if not entry.is_file:
            raise NoFileError.of(raw, f"is no file, but a {TYPE_WORDS[entry.type]}")
        return entry


def _guarded(archive: AnyPath | Store) -> GuardedStore:
    if not isinstance(archive, (str, bytes, os.PathLike)):
        return GuardedStore(archive)
    path = system_path(archive)
    try:
        store = FileStore(Path(path))
    except SourceError as error:
        try:
            os.stat(path)
        except FileNotFoundError:
            raise ArchiveMissingError(errno.ENOENT, str(error), path) from None
        except OSError:
            pass
        raise
    return GuardedStore(store, store.close)
