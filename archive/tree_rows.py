"""The catalogue of a tree as it is written: rows, strings, attribute sets, owners, summary.

Owns: the tables 5 to 11 of one archive while it is made. Must not know files, threads or content.
One owner at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from . import layout
from .entry import (
    Counter,
    Entry,
    Owner,
    decode_attribute_set,
    decode_entry,
    encode_owner,
)
from .files import Found
from .table import TableWriter

_SETS_KEPT = 4096
_SCAN_ROWS = 1024
_NO_2 = bytes(2)
_NO_4 = bytes(4)


class Tables(Protocol):
    """What has the tables of an archive that is made: an assembler."""

    def table(self, number: int) -> TableWriter:
        """Return the table that takes the catalogue's rows of one kind."""
        ...


class TreeRows:
    """Takes the entries of a tree in the order of spec section 6.6.

    Args:
        assembler: whose tables take the rows.
        owner_name: gives the name of (layout.OWNER_USER or OWNER_GROUP, number); empty if unknown.
    """

    def __init__(self, assembler: Tables, owner_name: Callable[[int, int], bytes]) -> None:
        self._entries = assembler.table(layout.TABLE_ENTRIES)
        self._runs = assembler.table(layout.TABLE_RUNS)
        self._strings = assembler.table(layout.TABLE_STRINGS)
        self._sets = assembler.table(layout.TABLE_ATTRIBUTE_SETS)
        self._set_bytes = assembler.table(layout.TABLE_ATTRIBUTE_BYTES)
        self._owners = assembler.table(layout.TABLE_OWNERS)
        self._summary = assembler.table(layout.TABLE_SUMMARY)
        self._counter = Counter()
        self._owner_name = owner_name
        self._seen_owners: set[tuple[int, int]] = set()
        self._last_owners: tuple[int, int] | None = None
        self._known_sets: OrderedDict[bytes, int] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of rows so far."""
        return self._entries.rows

    @property
    def string_bytes(self) -> int:
        """The length of all names and targets so far."""
        return self._strings.rows

    @property
    def run_count(self) -> int:
        """The number of runs so far."""
        return self._runs.rows

    def add(
        self, kind: int, name: bytes, parent: int, *, flags: int = 0, mode: int = 0, uid: int = 0,
        gid: int = 0, file_flags: int = 0, mtime_ns: int = 0, attributes: int = 0,
        member_bytes: int = 0, first: int = 0, total: int = 0, link_count: int = 1,
    ) -> None:  # fmt: skip
        """Add the next row; the fields are those of spec section 6.5."""
        self._counter.add(kind, member_bytes)
        owners = (uid, gid)
        if owners != self._last_owners and kind != layout.ENTRY_HARD_LINK:
            self._see(owners)
        name_offset = 0
        if name:
            name_offset = self._strings.rows
            self._strings.append(name)
        self._entries.append(
            layout.ENTRY_ROW.pack(
                kind, flags, mode, uid, gid, file_flags, mtime_ns, parent, name_offset, len(name),
                _NO_2, attributes, member_bytes, first, total, link_count, _NO_4,
            )
        )  # fmt: skip

    def add_plain(self, found: Found, parent: int, first: int) -> None:
        """Add the row of a file without attributes, holes or other names, as `add` would."""
        self._counter.add(layout.ENTRY_FILE, found.size)
        name = found.name
        owners = (found.uid, found.gid)
        if owners != self._last_owners:
            self._see(owners)
        name_offset = self._strings.rows
        self._strings.append(name)
        self._entries.append(
            layout.ENTRY_ROW.pack(
                layout.ENTRY_FILE, 0, found.mode & layout.MODE_BITS, found.uid, found.gid,
                found.file_flags, found.mtime_ns, parent, name_offset, len(name), _NO_2, 0,
                found.size, first, 0, 1, _NO_4,
            )
        )  # fmt: skip

    def add_encoded(
        self, rows: bytes, names: bytes, owners: tuple[int, int], file_bytes: int
    ) -> None:
        """Add rows as `add_plain` makes them, whose files have one owner and `file_bytes`."""
        self._counter.add_files(len(rows) // layout.ENTRY_ROW_BYTES, file_bytes)
        if owners != self._last_owners:
            self._see(owners)
        self._strings.append(names)
        self._entries.append(rows)

    def _see(self, owners: tuple[int, int]) -> None:
        self._last_owners = owners
        self._seen_owners.add((layout.OWNER_USER, owners[0]))
        self._seen_owners.add((layout.OWNER_GROUP, owners[1]))

    def add_string(self, text: bytes) -> int:
        """Add a name or a target; return its place."""
        at = self._strings.rows
        self._strings.append(text)
        return at

    def add_runs(self, runs: Sequence[tuple[int, int, int]]) -> int:
        """Add (offset in the member, content offset, length) of a sparse file; return the row."""
        first = self._runs.rows
        if runs:
            self._runs.append(b"".join(layout.EXTENT_ROW.pack(*run, 0, bytes(4)) for run in runs))
        return first

    def attribute_set(self, encoded: bytes) -> int:
        """Return the number by which an entry refers to an attribute set; 0 for an empty one."""
        if not encoded:
            return 0
        known = self._known_sets.get(encoded)
        if known is None:
            self._sets.append(
                layout.ATTRIBUTE_SET_ROW.pack(self._set_bytes.rows, len(encoded), bytes(4))
            )
            self._set_bytes.append(encoded)
            known = self._sets.rows
            if len(encoded) > layout.MAX_PAGE_BYTES:  # large ones are not alike
                return known
            self._known_sets[encoded] = known
            if len(self._known_sets) > _SETS_KEPT:
                self._known_sets.popitem(last=False)
        else:
            self._known_sets.move_to_end(encoded)
        return known

    def set_children(self, row: int, first: int, count: int) -> None:
        """Say where the children of a directory stand, once they do."""
        if count:
            raw = first.to_bytes(8, "little") + count.to_bytes(8, "little")
            self._entries.patch(row, layout.ENTRY_FIRST_AT, raw)

    def set_links(self, row: int, link_count: int) -> None:
        """Say how many names an entry has by now."""
        raw = min(link_count, 2**32 - 1).to_bytes(4, "little")
        self._entries.patch(row, layout.ENTRY_LINK_COUNT_AT, raw)

    def set_flags(self, row: int, flags: int) -> None:
        """Set the flags of an entry."""
        self._entries.patch(row, layout.ENTRY_FLAGS_AT, bytes([flags]))

    def entry(self, row: int) -> Entry:
        """Return an entry that was added."""
        return decode_entry(row, self._entries.read(row, 1))

    def attributes(self, entry: Entry) -> bytes:
        """Return the encoded attribute set of an entry that was added; empty for none."""
        if not entry.attributes:
            return b""
        offset, size = decode_attribute_set(self._sets.read(entry.attributes - 1, 1))
        return self._set_bytes.read(offset, size)

    def path(self, row: int) -> bytes:
        """Return the path of an entry that was added, from the root."""
        parts: list[bytes] = []
        while row:
            entry = self.entry(row)
            parts.append(self._strings.read(entry.name_offset, entry.name_bytes))
            row = entry.parent
        return b"/".join(reversed(parts))

    def shared_with(self, content_offsets: frozenset[int]) -> Iterator[Entry]:
        """Yield the entries with the flag shared whose content begins at one of these offsets."""
        for first in range(0, len(self), _SCAN_ROWS):
            count = min(_SCAN_ROWS, len(self) - first)
            raw = self._entries.read(first, count)
            for n in range(count):
                size = layout.ENTRY_ROW_BYTES
                if raw[n * size + layout.ENTRY_FLAGS_AT] & layout.FLAG_SHARED:
                    entry = decode_entry(first + n, raw[n * size : (n + 1) * size])
                    if entry.first in content_offsets:
                        yield entry

    def finish(self, captured: int) -> None:
        """Add owners and summary: the tree is complete.

        Args:
            captured: kinds of metadata that were looked for (spec section 6.10).
        """
        for kind, number in sorted(self._seen_owners):
            name = self._owner_name(kind, number)[:255]
            if name:
                owner = Owner(kind, number, self.add_string(name), len(name))
                self._owners.append(encode_owner(owner))
        self._summary.append(layout.SUMMARY_ROW.pack(*self._counter.summary(captured)))
