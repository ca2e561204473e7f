"""Entries of a tree as rows: encoding, decoding, and every rule that one row alone can break.

Owns: the rows of spec sections 6.5 to 6.10. Must not know how tables are paged, nor how rows hang
together (`tree` does). Pure; safe in any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from . import layout
from .errors import DamagedError

_NO_2 = bytes(2)
_NO_4 = bytes(4)
_MAX_ATTRIBUTE_NAME_BYTES = 255
_LEAST_SET_BYTES = layout.ATTRIBUTE_BYTES + 1

_FILE_FLAGS = layout.FLAG_CHANGED | layout.FLAG_INCOMPLETE | layout.FLAG_SHARED | layout.FLAG_MAPPED
_EXCLUSIVE = layout.FLAG_SHARED | layout.FLAG_MAPPED
_FLAGS_OF_TYPE = {layout.ENTRY_FILE: _FILE_FLAGS, layout.ENTRY_DIRECTORY: layout.FLAG_MADE}
_DEVICES = (layout.ENTRY_CHARACTER_DEVICE, layout.ENTRY_BLOCK_DEVICE)

TYPE_WORDS: Mapping[int, str] = {
    layout.ENTRY_FILE: "file",
    layout.ENTRY_DIRECTORY: "directory",
    layout.ENTRY_SYMLINK: "symlink",
    layout.ENTRY_CHARACTER_DEVICE: "character-device",
    layout.ENTRY_BLOCK_DEVICE: "block-device",
    layout.ENTRY_FIFO: "fifo",
    layout.ENTRY_HARD_LINK: "hard-link",
}


class Entry(NamedTuple):
    """One row of the table entries (spec section 6.5), and its number.

    A named tuple, because millions of them are made, and a frozen dataclass takes six times as
    long. Lengths in bytes, times in ns since 1970-01-01 UTC. `total` is the spec's field `count`.
    """

    row: int
    type: int
    flags: int
    mode: int
    uid: int
    gid: int
    file_flags: int
    mtime_ns: int
    parent: int
    name_offset: int
    name_bytes: int
    attributes: int
    member_bytes: int
    first: int
    total: int
    link_count: int

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.type == layout.ENTRY_DIRECTORY

    @property
    def is_file(self) -> bool:
        """Whether it is a file."""
        return self.type == layout.ENTRY_FILE

    @property
    def is_device(self) -> bool:
        """Whether it is a character or a block device."""
        return self.type in _DEVICES

    @property
    def is_mapped(self) -> bool:
        """Whether its content is in runs: a sparse file."""
        return bool(self.flags & layout.FLAG_MAPPED)


def encode_entry(entry: Entry) -> bytes:
    """Return the row of an entry."""
    return layout.ENTRY_ROW.pack(
        entry.type, entry.flags, entry.mode, entry.uid, entry.gid, entry.file_flags,
        entry.mtime_ns, entry.parent, entry.name_offset, entry.name_bytes, _NO_2,
        entry.attributes, entry.member_bytes, entry.first, entry.total, entry.link_count, _NO_4,
    )  # fmt: skip


def decode_entry(row: int, raw: bytes) -> Entry:
    """Return the entry in a row of 80 bytes.

    Raises:
        DamagedError: it breaks a rule of section 6.5 or 6.6 that concerns this row alone.
    """
    (
        kind, flags, mode, uid, gid, file_flags, mtime_ns, parent, name_offset, name_bytes,
        reserved_1, attributes, member_bytes, first, count, link_count, reserved_2,
    ) = layout.ENTRY_ROW.unpack(raw)  # fmt: skip
    entry = Entry(
        row, kind, flags, mode, uid, gid, file_flags, mtime_ns, parent, name_offset, name_bytes,
        attributes, member_bytes, first, count, link_count,
    )  # fmt: skip
    if reserved_1 != _NO_2 or reserved_2 != _NO_4:
        raise _damaged(row, "a reserved field is not zero")
    if problem := _problem(entry):
        raise _damaged(row, problem)
    return entry


def _problem(entry: Entry) -> str | None:
    """Return which rule a row breaks by itself, or None."""
    kind = entry.type
    if kind not in TYPE_WORDS:
        return f"it is of the unknown type {kind}"
    if entry.flags & ~_FLAGS_OF_TYPE.get(kind, 0) or entry.mode & ~layout.MODE_BITS:
        return "a flag or a bit of its mode is unknown"
    if entry.flags & layout.FLAG_MADE and entry.row:
        return "only the root can be made up"
    if entry.flags & _EXCLUSIVE == _EXCLUSIVE:
        return "a sparse file can't be shared"
    if entry.row == 0:
        if kind != layout.ENTRY_DIRECTORY or entry.name_bytes or entry.name_offset or entry.parent:
            return "the root is no directory without a name"
    elif not 1 <= entry.name_bytes <= layout.MAX_ENTRY_NAME_BYTES or entry.parent >= entry.row:
        return "its name is too long or empty, or it stands before its directory"
    if kind == layout.ENTRY_HARD_LINK:
        inherited = (
            entry.mode, entry.uid, entry.gid, entry.file_flags, entry.mtime_ns, entry.attributes,
            entry.member_bytes, entry.total, entry.link_count,
        )  # fmt: skip
        good = not any(inherited) and entry.first < entry.row
        return None if good else "a hard link has metadata of its own, or stands before its target"
    if not entry.link_count:
        return "its number of links is 0"
    return _content_problem(entry)


def _content_problem(entry: Entry) -> str | None:
    kind = entry.type
    if kind == layout.ENTRY_DIRECTORY:
        empty = not entry.total and not entry.first
        if entry.member_bytes or not (empty or (entry.total and entry.first > entry.row)):
            return "its children are not where they can be"
    elif kind == layout.ENTRY_SYMLINK:
        if not 1 <= entry.member_bytes <= layout.MAX_LINK_TARGET_BYTES or entry.total:
            return "the length of its target is out of bounds"
    elif kind in _DEVICES:
        if entry.member_bytes or max(entry.first, entry.total) >= 2**32:
            return "its device number is out of bounds"
    elif kind == layout.ENTRY_FIFO:
        if entry.member_bytes or entry.first or entry.total:
            return "a FIFO has content"
    elif entry.member_bytes > layout.MAX_CONTENT_BYTES:
        return "its length is out of bounds"
    elif not entry.is_mapped and (entry.total or (entry.first and not entry.member_bytes)):
        return "its content is not where it can be"
    return None


def _damaged(row: int, problem: str) -> DamagedError:
    return DamagedError("catalogue", f"entry {row}: {problem}")


def is_entry_name(name: bytes) -> bool:
    """Tell whether `name` can be the name of an entry (spec section 6.6)."""
    return (
        1 <= len(name) <= layout.MAX_ENTRY_NAME_BYTES
        and b"/" not in name
        and b"\0" not in name
        and name not in (b".", b"..")
    )


# --- attributes, owners, summary ----------------------------------------------------------------


def encode_attributes(attributes: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the attribute set (spec section 6.7) of (name, value) pairs, in any order."""
    return b"".join(
        layout.ATTRIBUTE.pack(len(name), len(value)) + name + value
        for name, value in sorted(attributes)
    )


def decode_attributes(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the (name, value) pairs of an attribute set, sorted by name.

    Raises:
        DamagedError: it is no attribute set.
    """
    found: list[tuple[bytes, bytes]] = []
    at = 0
    last = b""
    while at < len(data):
        if len(data) - at < _LEAST_SET_BYTES:
            raise DamagedError("catalogue", "an attribute set is cut off")
        name_bytes, value_bytes = layout.ATTRIBUTE.unpack_from(data, at)
        at += layout.ATTRIBUTE_BYTES
        name = data[at : at + name_bytes]
        at += name_bytes
        if not 1 <= name_bytes <= _MAX_ATTRIBUTE_NAME_BYTES or value_bytes > len(data) - at:
            raise DamagedError("catalogue", "an attribute is longer than its set")
        if name <= last or b"\0" in name:
            raise DamagedError("catalogue", "the names of attributes are out of order, or wrong")
        found.append((name, data[at : at + value_bytes]))
        at += value_bytes
        last = name
    return found


def decode_attribute_set(raw: bytes) -> tuple[int, int]:
    """Return (offset, length) of an attribute set from its row (spec section 6.7).

    Raises:
        DamagedError: a field is out of bounds.
    """
    offset, set_bytes, reserved = layout.ATTRIBUTE_SET_ROW.unpack(raw)
    if not 1 <= set_bytes <= layout.MAX_ATTRIBUTES_BYTES or reserved != _NO_4:
        raise DamagedError("catalogue", "the row of an attribute set is out of bounds")
    return offset, set_bytes


class Owner(NamedTuple):
    """One row of the table owners (spec section 6.9)."""

    kind: int
    id: int
    name_offset: int
    name_bytes: int


def encode_owner(owner: Owner) -> bytes:
    """Return the row of an owner."""
    return layout.OWNER_ROW.pack(owner.kind, owner.name_bytes, _NO_2, owner.id, owner.name_offset)


def decode_owners(spans: Iterable[bytes]) -> Iterator[Owner]:
    """Yield the owners in the pages of their table, in order.

    Raises:
        DamagedError: a field is out of bounds, or they are not in order.
    """
    last = (0, 0)
    for span in spans:
        for kind, name_bytes, reserved, number, name_offset in layout.OWNER_ROW.iter_unpack(span):
            known = kind in (layout.OWNER_USER, layout.OWNER_GROUP)
            if not known or not name_bytes or reserved != _NO_2:
                raise DamagedError("catalogue", "the row of an owner is wrong")
            if last[0] and (kind, number) <= last:
                raise DamagedError("catalogue", "the owners are not in order")
            last = (kind, number)
            yield Owner(kind, number, name_offset, name_bytes)


class Summary(NamedTuple):
    """The one row of the table summary (spec section 6.10)."""

    captured: int = 0
    files: int = 0
    directories: int = 0
    symlinks: int = 0
    hard_links: int = 0
    devices: int = 0
    fifos: int = 0
    file_bytes: int = 0

    @property
    def entries(self) -> int:
        """Number of all entries."""
        return sum(self[1:7])


class Counter:
    """Counts entries for a summary."""

    _PLACE: Mapping[int, int] = {
        layout.ENTRY_FILE: 0,
        layout.ENTRY_DIRECTORY: 1,
        layout.ENTRY_SYMLINK: 2,
        layout.ENTRY_HARD_LINK: 3,
        layout.ENTRY_CHARACTER_DEVICE: 4,
        layout.ENTRY_BLOCK_DEVICE: 4,
        layout.ENTRY_FIFO: 5,
    }

    def __init__(self) -> None:
        self._counts = [0] * 6
        self._file_bytes = 0

    def add(self, kind: int, member_bytes: int) -> None:
        """Count an entry of a type, which has `member_bytes`."""
        self._counts[self._PLACE[kind]] += 1
        if kind == layout.ENTRY_FILE:
            self._file_bytes += member_bytes

    def add_files(self, count: int, file_bytes: int) -> None:
        """Count so many files, which have `file_bytes` together."""
        self._counts[self._PLACE[layout.ENTRY_FILE]] += count
        self._file_bytes += file_bytes

    def summary(self, captured: int) -> Summary:
        """Return what was counted."""
        most = layout.MAX_CONTENT_BYTES
        return Summary._make((captured, *self._counts, min(self._file_bytes, most)))
