"""Rows of entries that stand together, and the bytes of their names, read at once.

Owns: how children of one directory are found, listed and told apart without decoding each. Must not
know how tables are paged. Pure; safe in many threads.
"""

from __future__ import annotations

import struct
from typing import Protocol

from . import layout
from .entry import Entry, decode_entry, is_entry_name
from .errors import DamagedError

_NAME_OFFSET_AT = 32
_NAME_PLACE = struct.Struct("<32xQH38x")
assert _NAME_PLACE.size == layout.ENTRY_ROW_BYTES
_MEMBER_BYTES_AT = 48


class Catalogue(Protocol):
    """Where rows and names stand: a `Tree`."""

    def raw_rows(self, first: int, count: int) -> bytes:
        """Return rows of the table entries as they stand, unchecked."""
        ...

    def raw_strings(self, offset: int, size: int) -> bytes:
        """Return bytes of the table strings, unchecked."""
        ...

    def checked(self, entry: Entry) -> Entry:
        """Return an entry whose references lie inside the tables and the content."""
        ...

    def name(self, entry: Entry) -> bytes:
        """Return the name of an entry."""
        ...


class RowSpan:
    """Rows that stand together: children of one directory, and the bytes of their names.

    Args:
        tree: the catalogue.
        parent: row of their directory.
        first: number of the first row.
        count: how many they are, at least 1.

    Raises:
        DamagedError: a page is damaged.
    """

    __slots__ = ("_tree", "first", "parent", "raw", "strings", "strings_offset")

    def __init__(self, tree: Catalogue, parent: int, first: int, count: int) -> None:
        self._tree = tree
        self.parent = parent
        self.first = first
        self.raw = tree.raw_rows(first, count)
        # A writer of ours puts the names of a directory one behind the other; any others are
        # looked up one by one.
        self.strings_offset = int.from_bytes(
            self.raw[_NAME_OFFSET_AT : _NAME_OFFSET_AT + 8], "little"
        )
        last = (count - 1) * layout.ENTRY_ROW_BYTES + _NAME_OFFSET_AT
        end = int.from_bytes(self.raw[last : last + 8], "little")
        end += int.from_bytes(self.raw[last + 8 : last + 10], "little")
        size = end - self.strings_offset
        together = 0 < size <= count * layout.MAX_ENTRY_NAME_BYTES * 2
        self.strings = tree.raw_strings(self.strings_offset, size) if together else b""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.raw) // layout.ENTRY_ROW_BYTES

    def entry(self, number: int) -> Entry:
        """Return the entry in a row, which counts from the start of the span."""
        at = number * layout.ENTRY_ROW_BYTES
        entry = decode_entry(self.first + number, self.raw[at : at + layout.ENTRY_ROW_BYTES])
        if entry.parent != self.parent:
            raise DamagedError("catalogue", f"entry {entry.row}: it is not in its place")
        return self._tree.checked(entry)

    def name(self, entry: Entry) -> bytes:
        """Return the name of one of the entries."""
        at = entry.name_offset - self.strings_offset
        if at < 0 or at + entry.name_bytes > len(self.strings):
            return self._tree.name(entry)
        return checked_name(entry, self.strings[at : at + entry.name_bytes])

    def find(self, name: bytes) -> Entry | None:
        """Return the entry of that name, or None: a binary search."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            found = self._raw_name(middle)
            if found == name:
                return self.entry(middle)
            if found < name:
                low = middle + 1
            else:
                high = middle
        return None

    def _raw_name(self, number: int) -> bytes:
        """Return the name in a row, of which nothing else is looked at."""
        at, size = _NAME_PLACE.unpack_from(self.raw, number * layout.ENTRY_ROW_BYTES)
        at -= self.strings_offset
        name = self.strings[at : at + size] if at >= 0 else b""
        return name if len(name) == size and size else self.name(self.entry(number))

    def first_content(self, first: int, end: int) -> int | None:
        """Return where the first bytes of plain files in rows stand; None if they have none."""
        width = layout.ENTRY_ROW_BYTES
        for at in range(first * width, end * width, width):
            if any(self.raw[at + _MEMBER_BYTES_AT : at + layout.ENTRY_FIRST_AT]):
                raw = self.raw[at + layout.ENTRY_FIRST_AT : at + layout.ENTRY_COUNT_AT]
                return int.from_bytes(raw, "little")
        return None

    def content_bytes(self, first: int, end: int) -> int:
        """Return about how much content plain files in rows hold, from first to end - 1.

        For planning; what a hostile row says is bounded.
        """
        width = layout.ENTRY_ROW_BYTES
        low = first * width + layout.ENTRY_FIRST_AT
        high = (end - 1) * width + layout.ENTRY_FIRST_AT
        size = int.from_bytes(self.raw[high : high + 8], "little") - int.from_bytes(
            self.raw[low : low + 8], "little"
        )
        return max(size, 0)

    def check_order(self, before: bytes) -> bytes:
        """Check that the names of the rows are sorted, and come after `before`; return the last.

        Raises:
            DamagedError: they do not, or one can't be a name.
        """
        offset, strings = self.strings_offset, self.strings
        for number, (at, size) in enumerate(_NAME_PLACE.iter_unpack(self.raw)):
            at -= offset
            name = strings[at : at + size] if at >= 0 else b""
            if len(name) != size or not size:
                name = self._raw_name(number)
            if name <= before:
                raise DamagedError(
                    "catalogue", f"entry {self.first + number}: it is not in its place"
                )
            before = name
        return before

    def special(self, most_bytes: int) -> list[int]:
        """Return the numbers of the rows that are no plain files.

        A plain file has no flags, and fewer than `most_bytes` bytes, a power of 256.
        """
        width = layout.ENTRY_ROW_BYTES
        raw = self.raw
        kinds, flags = raw[0::width], raw[layout.ENTRY_FLAGS_AT :: width]
        large = [
            raw[_MEMBER_BYTES_AT + byte :: width]
            for byte in range((most_bytes.bit_length() - 1) // 8, 8)
        ]
        plain = bytes([layout.ENTRY_FILE]) * len(self)
        if kinds == plain and not any(map(any, (flags, *large))):
            return []
        return [
            number
            for number, (kind, *others) in enumerate(zip(kinds, flags, *large, strict=True))
            if kind != layout.ENTRY_FILE or any(others)
        ]


def checked_name(entry: Entry, name: bytes) -> bytes:
    """Return the name of an entry.

    Raises:
        DamagedError: it can't be one.
    """
    if not is_entry_name(name):
        raise DamagedError("catalogue", f"entry {entry.row}: its name can't be one")
    return name
