"""Entries as the library gives them: with str paths, and words for types.

Owns: what of an entry Python code sees. Must not know how entries are looked up. Safe in many
threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from . import layout
from .entry import TYPE_WORDS, Entry
from .tree import Visited


class Catalogue(Protocol):
    """What `Tree` and `VolumeView` both are: where entries hang."""

    def lookup(self, path: bytes) -> Entry | None:
        """Return the entry at a path, or None."""
        ...

    def primary(self, entry: Entry) -> Entry:
        """Return what a hard link names; any other entry itself."""
        ...

    def path(self, entry: Entry) -> bytes:
        """Return the path of an entry from the root."""
        ...

    def target(self, entry: Entry) -> bytes:
        """Return the target of a symbolic link."""
        ...

    def attributes(self, entry: Entry) -> list[tuple[bytes, bytes]]:
        """Return the extended attributes of an entry, sorted by name."""
        ...

    def owner_names(self) -> dict[tuple[int, int], bytes]:
        """Return the names of owners by (layout.OWNER_USER or OWNER_GROUP, number)."""
        ...

    def children(self, directory: Entry) -> Iterator[tuple[bytes, Entry]]:
        """Yield (name, entry) of what is in a directory, sorted by name."""
        ...

    def walk(self, top: Entry, path: bytes = b"") -> Iterator[Visited]:
        """Yield an entry and all below it."""
        ...


class Details(Protocol):
    """Where an entry finds what is read only when it is asked for; an open archive."""

    def owner_name(self, kind: int, number: int) -> str | None:
        """Return the name of a user or a group; None if it had none."""
        ...

    def attributes_of(self, entry: Entry) -> dict[str, bytes]:
        """Return the extended attributes of an entry."""
        ...


@dataclass(frozen=True, slots=True)
class EntryInfo:
    """One thing in an archive. A hard link is told as the file that it names.

    Safe in any thread. Methods and the names of owners read the archive, which must be open then;
    they raise DamagedError where that part of it is damaged.

    Attributes:
        path: from the root of the archive, without a slash at its ends; empty for the root. Bytes
            that are no UTF-8 are in it as `os.fsdecode` has them.
        type: file, directory, symlink, character-device, block-device or fifo.
        size: bytes of a file, holes included; of a symbolic link the length of its target; else 0.
        mode: permission bits, with setuid, setgid and sticky.
        uid: owner.
        gid: group.
        mtime_ns: last change of the content, ns since 1970-01-01 UTC.
        target: where a symbolic link leads to, else None.
        device: (major, minor) of a device, else None.
        hard_link_to: path of the first name of a file, if this is another one; else None.
        link_count: how many names it had where it was packed.
        is_sparse: whether it has holes that were kept.
        changed: whether it changed while it was packed.
        incomplete: whether some of it could not be read when it was packed, and is zeros.
    """

    path: str
    type: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    target: str | None
    device: tuple[int, int] | None
    hard_link_to: str | None
    link_count: int
    is_sparse: bool
    changed: bool
    incomplete: bool
    _archive: Details = field(repr=False, compare=False)
    _entry: Entry = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """Last component of the path."""
        return self.path.rpartition("/")[2]

    @property
    def is_file(self) -> bool:
        """Whether it is a file, or a hard link to one."""
        return self.type == "file"

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return self.type == "directory"

    @property
    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return self.type == "symlink"

    @property
    def user(self) -> str | None:
        """Name of the owner where it was packed; None if it had none."""
        return self._archive.owner_name(layout.OWNER_USER, self.uid)

    @property
    def group(self) -> str | None:
        """Name of the group where it was packed; None if it had none."""
        return self._archive.owner_name(layout.OWNER_GROUP, self.gid)

    def xattrs(self) -> dict[str, bytes]:
        """Return the extended attributes, POSIX ACLs among them, sorted by name."""
        return self._archive.attributes_of(self._entry)


def entry_info(catalogue: Catalogue, entry: Entry, path: bytes, details: Details) -> EntryInfo:
    """Return what Python code sees of an entry at a path.

    Raises:
        DamagedError: the catalogue is damaged.
    """
    primary = catalogue.primary(entry)
    kind = primary.type
    target = os.fsdecode(catalogue.target(primary)) if kind == layout.ENTRY_SYMLINK else None
    return EntryInfo(
        path=os.fsdecode(path),
        type=TYPE_WORDS[kind],
        size=primary.member_bytes,
        mode=primary.mode,
        uid=primary.uid,
        gid=primary.gid,
        mtime_ns=primary.mtime_ns,
        target=target,
        device=(primary.first, primary.total) if primary.is_device else None,
        hard_link_to=None if primary is entry else os.fsdecode(catalogue.path(primary)),
        link_count=primary.link_count,
        is_sparse=primary.is_mapped,
        changed=bool(primary.flags & layout.FLAG_CHANGED),
        incomplete=bool(primary.flags & layout.FLAG_INCOMPLETE),
        _archive=details,
        _entry=primary,
    )
