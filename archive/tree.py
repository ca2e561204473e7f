"""The catalogue of a tree: look-up by row, by name, by path; walks; its structure checked.

Owns: how rows hang together (spec section 6.6). Must not read content, nor know files. A `Tree` may
be shared by threads. Every method raises DamagedError where a page or a row on its way is not what
a writer writes; entries given out keep all rules that concern their own row.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from . import layout
from .catalogue import Extent
from .entry import (
    Entry,
    Summary,
    decode_attribute_set,
    decode_attributes,
    decode_entry,
    decode_owners,
)
from .errors import BadUseError, DamagedError
from .row_span import RowSpan, checked_name

SPAN_ROWS = 256  # rows that a walk decodes at once
_MOST_NAMES_KEPT = 65_536


class Visited(NamedTuple):
    """One entry of a walk.

    Its path is the prefix, which ends with a slash unless it is empty, and the name. They are not
    joined before somebody asks: paths can be much longer than names.
    """

    entry: Entry
    prefix: bytes
    name: bytes

    @property
    def path(self) -> bytes:
        """Its path from the root of the archive, without a slash at its ends."""
        return self.prefix + self.name


class Rows(Protocol):
    """A table that is read; as `Table` is."""

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def row(self, number: int, /) -> bytes:
        """Return row `number`."""
        ...

    def span(self, first: int, count: int, /) -> bytes:
        """Return `count` rows from `first` on; all of them must exist."""
        ...

    def spans(self) -> Iterator[bytes]:
        """Yield all rows in order, some at a time."""
        ...


class Tree:
    """The entries of a tree archive.

    Args:
        tables: the tables of the archive, by number.
        content_bytes: length of the content.
    """

    def __init__(self, tables: Mapping[int, Rows], content_bytes: int) -> None:
        self._entries = tables[layout.TABLE_ENTRIES]
        self._runs = tables[layout.TABLE_RUNS]
        self._strings = tables[layout.TABLE_STRINGS]
        self._sets = tables[layout.TABLE_ATTRIBUTE_SETS]
        self._set_bytes = tables[layout.TABLE_ATTRIBUTE_BYTES]
        self._owners = tables[layout.TABLE_OWNERS]
        self._summary = tables[layout.TABLE_SUMMARY]
        self._content_bytes = content_bytes

    def __len__(self) -> int:
        """Return the number of entries, the root included."""
        return len(self._entries)

    def attribute_set_sizes(self) -> Iterator[int]:
        """Yield the lengths of all attribute sets, which are decoded on the way, in order."""
        expected = 0
        size = layout.ATTRIBUTE_SET_ROW_BYTES
        for span in self._sets.spans():
            for at in range(0, len(span), size):
                offset, set_bytes = decode_attribute_set(span[at : at + size])
                if offset != expected:
                    raise DamagedError("catalogue", "the attribute sets are not in order")
                decode_attributes(self._set_bytes.span(offset, set_bytes))
                expected += set_bytes
                yield set_bytes
        if expected != len(self._set_bytes):
            raise DamagedError("catalogue", "there are attributes that belong to no set")

    @property
    def run_count(self) -> int:
        """Number of runs of all sparse files."""
        return len(self._runs)

    @property
    def summary(self) -> Summary:
        """Totals, and what metadata was captured."""
        if len(self._summary) != 1:
            raise DamagedError("catalogue", "there is not one summary")
        return Summary._make(layout.SUMMARY_ROW.unpack(self._summary.row(0)))

    # --- one entry ---------------------------------------------------------------------------

    def entry(self, row: int) -> Entry:
        """Return an entry by its row, from 0 to len - 1."""
        return self.checked(decode_entry(row, self._entries.row(row)))

    @property
    def root(self) -> Entry:
        """The root: a directory."""
        return self.entry(0)

    def entries(self) -> Iterator[Entry]:
        """Yield all entries in the order of their rows."""
        size = layout.ENTRY_ROW_BYTES
        row = 0
        for span in self._entries.spans():
            for at in range(0, len(span), size):
                yield self.checked(decode_entry(row, span[at : at + size]))
                row += 1

    def primary(self, entry: Entry) -> Entry:
        """Return the entry that a hard link names; any other entry itself."""
        if entry.type != layout.ENTRY_HARD_LINK:
            return entry
        found = self.entry(entry.first)
        if found.type in (layout.ENTRY_HARD_LINK, layout.ENTRY_DIRECTORY):
            raise DamagedError(
                "catalogue", f"entry {entry.row}: a hard link to what can't have one"
            )
        return found

    def name(self, entry: Entry) -> bytes:
        """Return the name of an entry; that of the root is empty."""
        if not entry.row:
            return b""
        return checked_name(entry, self._strings.span(entry.name_offset, entry.name_bytes))

    def path(self, entry: Entry) -> bytes:
        """Return the path of an entry from the root, without a slash at its ends."""
        parts: list[bytes] = []
        while entry.row:
            parts.append(self.name(entry))
            entry = self.entry(entry.parent)
        return b"/".join(reversed(parts))

    def target(self, entry: Entry) -> bytes:
        """Return the target of a symbolic link."""
        target = self._strings.span(entry.first, entry.member_bytes)
        if b"\0" in target:
            raise DamagedError("catalogue", f"entry {entry.row}: its target has a NUL")
        return target

    def attributes(self, entry: Entry) -> list[tuple[bytes, bytes]]:
        """Return the extended attributes of an entry, sorted by name."""
        if not entry.attributes:
            return []
        offset, set_bytes = decode_attribute_set(self._sets.row(entry.attributes - 1))
        return decode_attributes(self._set_bytes.span(offset, set_bytes))

    def runs(self, entry: Entry) -> Iterator[Extent]:
        """Yield the runs of content of a file, in order; between them are holes."""
        if not entry.is_mapped:
            if entry.member_bytes:
                yield Extent(0, entry.first, entry.member_bytes)
            return
        yield from self._runs_of(entry, entry.first)

    def runs_from(self, entry: Entry, member_offset: int) -> Iterator[Extent]:
        """Yield the runs of a sparse file that end behind an offset: a binary search for the first.

        That they do not overlap is checked among those that are given out.
        """
        low, high = entry.first, entry.first + entry.total
        while low < high:
            middle = (low + high) // 2
            run = layout.EXTENT_ROW.unpack(self._runs.row(middle))
            if run[0] + run[2] <= member_offset:
                low = middle + 1
            else:
                high = middle
        yield from self._runs_of(entry, low)

    def _runs_of(self, entry: Entry, first: int) -> Iterator[Extent]:
        end = 0
        last = entry.first + entry.total
        for at in range(first, last, SPAN_ROWS):
            span = self._runs.span(at, min(SPAN_ROWS, last - at))
            for member, content, run_bytes, base, reserved in layout.EXTENT_ROW.iter_unpack(span):
                in_member = end <= member and 1 <= run_bytes <= entry.member_bytes - member
                if not in_member or base or any(reserved):
                    raise DamagedError("catalogue", f"entry {entry.row}: its runs are wrong")
                if not self._in_content(content, run_bytes):
                    raise DamagedError("catalogue", f"entry {entry.row}: its runs are outside")
                yield Extent(member, content, run_bytes)
                end = member + run_bytes

    def owner_names(self) -> dict[tuple[int, int], bytes]:
        """Return the names of owners by (layout.OWNER_USER or OWNER_GROUP, number)."""
        names: dict[tuple[int, int], bytes] = {}
        for owner in decode_owners(self._owners.spans()):
            name = self._strings.span(owner.name_offset, owner.name_bytes)
            if b"\0" in name:
                raise DamagedError("catalogue", "the name of an owner has a NUL")
            if len(names) < _MOST_NAMES_KEPT:
                names[owner.kind, owner.id] = name
        return names

    # --- directories -------------------------------------------------------------------------

    def spans(self, directory: Entry, number: int = 0) -> Iterator[RowSpan]:
        """Yield the rows of the children of a directory from one on, up to 256 at a time."""
        first, end = directory.first + number, directory.first + directory.total
        for at in range(first, end, SPAN_ROWS):
            yield RowSpan(self, directory.row, at, min(SPAN_ROWS, end - at))

    def children(self, directory: Entry, number: int = 0) -> Iterator[tuple[bytes, Entry]]:
        """Yield (name, entry) of the children of a directory from one on, sorted by name."""
        last = b""
        for span in self.spans(directory, number):
            for at in range(len(span)):
                entry = span.entry(at)
                name = span.name(entry)
                if name <= last:
                    raise DamagedError("catalogue", f"entry {entry.row}: it is not in its place")
                last = name
                yield name, entry

    def child(self, directory: Entry, name: bytes) -> Entry | None:
        """Return the child of that name, or None: a binary search."""
        low, high = directory.first, directory.first + directory.total
        while low < high:
            middle = (low + high) // 2
            entry = self.entry(middle)
            found = self.name(entry)
            if found == name:
                if entry.parent != directory.row:
                    raise DamagedError("catalogue", f"entry {middle}: it is not in its place")
                return entry
            if found < name:
                low = middle + 1
            else:
                high = middle
        return None

    def lookup(self, path: bytes) -> Entry | None:
        """Return the entry at a path from the root, or None; follows no symbolic link.

        Slashes at the ends and `.` do not count.

        Raises:
            BadUseError: the path has a component `..`.
        """
        entry = self.root
        for part in path.split(b"/"):
            if part in (b"", b"."):
                continue
            if part == b"..":
                raise BadUseError("a path inside an archive can't hold `..`")
            found = self.child(entry, part) if entry.is_directory else None
            if found is None:
                return None
            entry = found
        return entry

    def walk(self, top: Entry, path: bytes = b"") -> Iterator[Visited]:
        """Yield `top` and all below it, in the order of the content (spec section 6.11).

        A directory comes before what is below it: first its children that are no directories, in
        the order of their names, then each directory with what is below. Memory grows with the
        depth and with the directories in one directory, not with the number of entries.

        Args:
            top: where to begin.
            path: its path.
        """
        prefix, _, name = path.rpartition(b"/")
        yield Visited(top, prefix + b"/" if prefix else b"", name)
        if not top.is_directory:
            return
        prefix = path + b"/" if path else b""
        # For each directory on the way: the length of its prefix, and the rows of the directories
        # in it that are still to be visited, the next one last.
        stack: list[tuple[int, array[int]]] = []
        directory: Entry | None = top
        while directory is not None:
            waiting = array("Q")
            for name, entry in self.children(directory):
                if entry.is_directory:
                    waiting.append(entry.row)
                else:
                    yield Visited(entry, prefix, name)
            waiting.reverse()
            stack.append((len(prefix), waiting))
            if directory.total:
                check_depth(len(stack))
            directory = None
            while stack and directory is None:
                length, waiting = stack[-1]
                if not waiting:
                    stack.pop()
                    continue
                directory = self.entry(waiting.pop())
                prefix = prefix[:length]
                name = self.name(directory)
                yield Visited(directory, prefix, name)
                prefix += name + b"/"

    # --- rows --------------------------------------------------------------------------------

    def raw_rows(self, first: int, count: int) -> bytes:
        """Return rows of the table entries as they stand, unchecked."""
        return self._entries.span(first, count)

    def raw_strings(self, offset: int, size: int) -> bytes:
        """Return bytes of the table strings, unchecked."""
        return self._strings.span(offset, size)

    @property
    def content_bytes(self) -> int:
        """Length of the content."""
        return self._content_bytes

    @property
    def set_count(self) -> int:
        """Number of attribute sets."""
        return len(self._sets)

    def checked(self, entry: Entry) -> Entry:
        """Return an entry whose references lie inside the tables and the content."""
        kind = entry.type
        if kind == layout.ENTRY_DIRECTORY:
            good = entry.first + entry.total <= len(self._entries)
        elif kind != layout.ENTRY_FILE:
            good = True
        elif entry.is_mapped:
            good = entry.first + entry.total <= len(self._runs)
        else:
            good = self._in_content(entry.first, entry.member_bytes)
        if not good or entry.attributes > len(self._sets):
            raise DamagedError("catalogue", f"entry {entry.row}: it refers to what is not there")
        return entry

    def _in_content(self, content_offset: int, size: int) -> bool:
        return size <= self._content_bytes - content_offset and content_offset >= 0


def check_depth(depth: int) -> None:
    """Raise DamagedError if directories are deeper than spec section 2.2 lets them be."""
    if depth > layout.MAX_DEPTH:
        raise DamagedError("catalogue", f"directories are more than {layout.MAX_DEPTH} deep")
