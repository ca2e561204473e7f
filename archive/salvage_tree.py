"""Rebuilds the catalogue of a tree from the tar stream that is its content.

Owns: what comes of the headers that are left, where the catalogue is damaged or missing. Must not
write anything. Its memory grows with the tree. `salvage_tree` is called in one thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from . import layout, pax
from .entry import encode_attributes, is_entry_name
from .errors import DamagedError, Finding, NotAnArchiveError, Severity, UnsupportedError
from .frames import FrameCache
from .reader import Archive, Content
from .salvage import Salvaged
from .table import TableWriter
from .tar_scan import ReadContent, Scanned, is_header, scan_tar
from .tree import Tree
from .tree_check import check_tree
from .tree_rows import TreeRows

_TYPES = {
    pax.TYPE_FILE: layout.ENTRY_FILE,
    pax.TYPE_SYMLINK: layout.ENTRY_SYMLINK,
    pax.TYPE_CHARACTER_DEVICE: layout.ENTRY_CHARACTER_DEVICE,
    pax.TYPE_BLOCK_DEVICE: layout.ENTRY_BLOCK_DEVICE,
    pax.TYPE_FIFO: layout.ENTRY_FIFO,
}
_SPAN_ROWS = 1024
_UNKNOWN_MODE = 0o700  # of a directory whose header is lost
_MOST_ATTRIBUTE_NAME_BYTES = 255  # spec section 6.8


class _Node:
    """What stands at a path: `scanned` is None for a directory whose header was not found."""

    __slots__ = ("children", "row", "scanned")

    def __init__(self) -> None:
        self.scanned: Scanned | None = None
        self.children: dict[bytes, _Node] | None = None
        self.row = -1


class _MemoryRows:
    """A table in memory: takes rows as a spool, gives them as a table."""

    def __init__(self, number: int) -> None:
        self._row_bytes = layout.ROW_BYTES[number]
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data) // self._row_bytes

    def write(self, data: bytes, /) -> object:
        self._data += data
        return None

    def patch(self, spool_offset: int, data: bytes, /) -> None:
        self._data[spool_offset : spool_offset + len(data)] = data

    def read(self, spool_offset: int, size: int, /) -> bytes:
        return bytes(self._data[spool_offset : spool_offset + size])

    def chunks(self, size: int, /) -> Iterator[bytes]:
        for at in range(0, len(self._data), size):
            yield self.read(at, size)

    def row(self, number: int, /) -> bytes:
        return self.span(number, 1)

    def span(self, first: int, count: int, /) -> bytes:
        if not 0 <= first <= first + count <= len(self):
            raise DamagedError("catalogue", f"there is no row {first + count}")
        return self.read(first * self._row_bytes, count * self._row_bytes)

    def spans(self) -> Iterator[bytes]:
        return self.chunks(_SPAN_ROWS * self._row_bytes)


class _MemoryTables:
    """The tables of a tree, in memory."""

    def __init__(self) -> None:
        self.rows = {n: _MemoryRows(n) for n in layout.TABLES_OF_KIND[layout.KIND_TREE]}
        self._writers = {number: TableWriter(number, rows) for number, rows in self.rows.items()}

    def table(self, number: int) -> TableWriter:
        return self._writers[number]

    def finished(self) -> Mapping[int, _MemoryRows]:
        for writer in self._writers.values():
            writer.flush()
        return self.rows


def holds_tree(salvaged: Salvaged) -> bool:
    """Tell whether what was salvaged is of a tree, as header or footer or content say."""
    for record in (salvaged.header, salvaged.footer):
        if record is not None:
            return record.kind == layout.KIND_TREE
    return is_header(_reader(salvaged)(0, pax.BLOCK_BYTES)[0])


def salvage_tree(salvaged: Salvaged) -> tuple[Tree, list[Finding]]:
    """Return the tree of a damaged archive, and what is known to be lost of it.

    That is its catalogue, if all of that is intact, or else what the content tells.

    Raises:
        SourceError: the archive can't be read.
    """
    try:
        archive = Archive(salvaged.store)
        tree = Tree(archive.tables, salvaged.content_bytes)
        check_tree(tree)
        return tree, []
    except (DamagedError, KeyError, NotAnArchiveError, UnsupportedError):
        pass  # a finding of the walk that salvaged it
    tree, findings = rebuild_tree(salvaged)
    told = Finding(
        "catalogue", Severity.DAMAGE,
        "the catalogue is damaged: names and metadata come from the tar stream",
    )  # fmt: skip
    return tree, [told, *findings]


def rebuild_tree(content: Content) -> tuple[Tree, list[Finding]]:
    """Return the tree whose headers are left in a content, and what is known to be lost.

    Files with the flag shared come back as hard links, as a tar would restore them; file flags
    (chattr) are lost.

    Args:
        content: what was salvaged of an archive of kind tree.

    Raises:
        SourceError: the archive can't be read.
    """
    builder = _Builder(content.content_bytes)
    for scanned in scan_tar(_reader(content), content.content_bytes, builder.lost_members):
        builder.add(scanned)
    return builder.tree(), builder.findings


def _reader(content: Content) -> ReadContent:
    """Return what reads content, where damaged frames are zeros."""
    frames = FrameCache(content)

    def read(content_offset: int, size: int) -> tuple[bytes, bool]:
        pieces: list[bytes] = []
        intact = True
        at, end = content_offset, min(content_offset + size, content.content_bytes)
        while at < end:
            stop = min(frames.frame_end(at), end)
            try:
                pieces.append(frames.read(at, stop - at))
            except DamagedError:
                pieces.append(bytes(stop - at))
                intact = False
            at = stop
        return b"".join(pieces), intact

    return read


class _Builder:
    """Puts members into a tree, and the tree into tables."""

    def __init__(self, content_bytes: int) -> None:
        self.findings: list[Finding] = []
        self._content_bytes = content_bytes
        self._root = _Node()
        self._root.children = {}
        self._names: dict[tuple[int, int], bytes] = {}
        self._tables = _MemoryTables()
        self._rows = TreeRows(
            self._tables, lambda kind, number: self._names.get((kind, number), b"")
        )

    def add(self, scanned: Scanned) -> None:
        """Add a member."""
        path = b"" if scanned.path == b"." else scanned.path
        node = self._node(path) if _can_be(scanned, path) else None
        if node is None:
            self._lost(scanned.path, "its header says what can't be")
            return
        if node.scanned is not None:  # in an archive that is stored in this one, maybe
            self._lost(scanned.path, "a member before it has the same path")
            return
        if scanned.type == pax.TYPE_DIRECTORY:
            if node.children is None:
                node.children = {}
        elif node.children is not None:
            self._lost(scanned.path, "a folder has the same name")
            return
        node.scanned = scanned
        if scanned.is_bare:
            self._unsure(
                scanned.path, "its pax header may be lost: name, time, attributes may be cut off"
            )
        self._clip(scanned)
        self._check_attributes(scanned)
        for kind, number, name in (
            (layout.OWNER_USER, scanned.uid, scanned.user.partition(b"\0")[0]),
            (layout.OWNER_GROUP, scanned.gid, scanned.group.partition(b"\0")[0]),
        ):
            if name:
                self._names[kind, number] = name

    def lost_members(self, content_offset: int, length: int) -> None:
        """Say that no member begins in a part of the content where some should."""
        self.findings.append(
            Finding(
                "lost-entry", Severity.DAMAGE,
                f"{length} bytes of the tar stream at byte {content_offset} have no intact header: "
                "what was there is lost",
                content_offset=content_offset, content_bytes=length,
            )
        )  # fmt: skip

    def _check_attributes(self, scanned: Scanned) -> None:
        """Leave out attributes that a catalogue can't hold: spec sections 6.7 and 6.8."""
        left = layout.MAX_ATTRIBUTES_BYTES
        kept: list[tuple[bytes, bytes]] = []
        for name, value in scanned.attributes:
            size = layout.ATTRIBUTE_BYTES + len(name) + len(value)
            named = 1 <= len(name) <= _MOST_ATTRIBUTE_NAME_BYTES and b"\0" not in name
            if named and size <= left:
                kept.append((name, value))
                left -= size
        if len(kept) < len(scanned.attributes):
            self._unsure(scanned.path, "it has attributes that can't be")
        scanned.attributes = kept

    def _clip(self, scanned: Scanned) -> None:
        """Leave out what lies beyond the end of a content that was cut off."""
        if scanned.has_no_map:
            self._lost_content(scanned, scanned.size, "the map of its holes is damaged")
        lost = 0
        kept: list[tuple[int, int, int]] = []
        for offset, content_offset, length in scanned.runs:
            there = max(0, min(length, self._content_bytes - content_offset))
            lost += length - there
            if there:
                kept.append((offset, content_offset, there))
        scanned.runs = kept
        if lost:
            self._lost_content(scanned, lost, "the archive ends before them")

    def _node(self, path: bytes) -> _Node | None:
        """Return the node at a path, made with the folders on the way; None if it can't be."""
        node = self._root
        for name in _names(path):
            if node.children is None:
                if node.scanned is not None:
                    return None
                node.children = {}
            node = node.children.setdefault(name, _Node())
        return node

    def tree(self) -> Tree:
        """Return the tree."""
        self._add_row(self._root, b"", 0)
        stack = [self._root]
        while stack:
            directory = stack.pop()
            assert directory.children is not None
            first = len(self._rows)
            below: list[_Node] = []
            for name, node in sorted(directory.children.items()):
                if not self._add_row(node, name, directory.row):
                    continue
                if node.children is not None:
                    below.append(node)
            self._rows.set_children(directory.row, first, len(self._rows) - first)
            stack += reversed(below)
        self._rows.finish(0)
        return Tree(self._tables.finished(), self._content_bytes)

    def _add_row(self, node: _Node, name: bytes, parent: int) -> bool:
        """Add the row of a node; return False if it can't have one."""
        scanned = node.scanned
        row = len(self._rows)
        if node.children is not None:
            node.row = row
            if scanned is None:
                flags = 0 if row else layout.FLAG_MADE
                self._rows.add(
                    layout.ENTRY_DIRECTORY, name, parent, flags=flags, mode=_UNKNOWN_MODE
                )
                if row:
                    self._unsure(self._rows.path(row), "its header is lost: it has no metadata")
            else:
                self._add(layout.ENTRY_DIRECTORY, scanned, name, parent)
            return True
        assert scanned is not None, "a node has a header or children"
        if scanned.type != pax.TYPE_HARD_LINK:
            if node.row >= 0:  # a link to it came first, and stands for it
                self._add_link(node.row, name, parent)
                return True
            node.row = row
            self._add_content(scanned, name, parent)
            return True
        target = self._target(scanned)
        if target is None or target.scanned is None:
            self._lost(scanned.path, f"what it is a link to is lost: {os.fsdecode(scanned.link)}")
            return False
        if target.row >= 0:
            self._add_link(target.row, name, parent)
        else:
            target.row = row
            self._add_content(target.scanned, name, parent)
        return True

    def _target(self, scanned: Scanned) -> _Node | None:
        """Return the node that a hard link leads to: one that is none itself, nor a directory."""
        seen: set[bytes] = set()
        while True:
            path = scanned.link.strip(b"/")
            if path in seen:
                return None
            seen.add(path)
            node: _Node | None = self._root
            for name in path.split(b"/"):
                node = node.children.get(name) if node and node.children else None
            if node is None or node.scanned is None or node.children is not None:
                return None
            scanned = node.scanned
            if scanned.type != pax.TYPE_HARD_LINK:
                return node

    def _add_link(self, row: int, name: bytes, parent: int) -> None:
        entry = self._rows.entry(row)
        self._rows.set_links(row, entry.link_count + 1)
        self._rows.add(layout.ENTRY_HARD_LINK, name, parent, first=row, link_count=0)

    def _add_content(self, scanned: Scanned, name: bytes, parent: int) -> None:
        kind = _TYPES[scanned.type]
        if kind == layout.ENTRY_SYMLINK:
            self._add(
                kind, scanned, name, parent,
                member_bytes=len(scanned.link), first=self._rows.add_string(scanned.link),
            )  # fmt: skip
        elif kind == layout.ENTRY_FILE:
            whole = [(0, scanned.size)] if scanned.size else []
            if [(offset, length) for offset, _, length in scanned.runs] == whole:
                first = scanned.runs[0][1] if scanned.runs else 0
                self._add(kind, scanned, name, parent, member_bytes=scanned.size, first=first)
            else:
                self._add(
                    kind, scanned, name, parent, flags=layout.FLAG_MAPPED,
                    member_bytes=scanned.size, first=self._rows.add_runs(scanned.runs),
                    total=len(scanned.runs),
                )  # fmt: skip
        elif kind == layout.ENTRY_FIFO:
            self._add(kind, scanned, name, parent)
        else:
            major, minor = scanned.device
            self._add(kind, scanned, name, parent, first=major, total=minor)

    def _add(
        self, kind: int, scanned: Scanned, name: bytes, parent: int, *, flags: int = 0,
        member_bytes: int = 0, first: int = 0, total: int = 0,
    ) -> None:  # fmt: skip
        encoded = encode_attributes(scanned.attributes)
        self._rows.add(
            kind, name, parent, flags=flags, mode=scanned.mode, uid=scanned.uid, gid=scanned.gid,
            mtime_ns=scanned.mtime_ns, attributes=self._rows.attribute_set(encoded),
            member_bytes=member_bytes, first=first, total=total,
        )  # fmt: skip

    def _lost(self, path: bytes, why: str) -> None:
        shown = os.fsdecode(path)
        self.findings.append(
            Finding("lost-entry", Severity.DAMAGE, f"{shown} is lost: {why}", path=shown)
        )

    def _lost_content(self, scanned: Scanned, lost: int, why: str) -> None:
        shown = os.fsdecode(scanned.path)
        self.findings.append(
            Finding(
                "lost-content", Severity.DAMAGE, f"{shown}: {lost} bytes are lost: {why}",
                content_bytes=lost, path=shown,
            )
        )  # fmt: skip

    def _unsure(self, path: bytes, why: str) -> None:
        shown = os.fsdecode(path)
        self.findings.append(Finding("catalogue", Severity.DAMAGE, f"{shown}: {why}", path=shown))


_OTHER_TYPES = (pax.TYPE_DIRECTORY, pax.TYPE_HARD_LINK)


def _names(path: bytes) -> list[bytes]:
    return path.split(b"/") if path else []


def _can_be(scanned: Scanned, path: bytes) -> bool:
    """Tell whether a tree can have a member (spec sections 2.2, 6.5 and 6.6) at a path."""
    if scanned.type not in _TYPES and scanned.type not in _OTHER_TYPES:
        return False
    if scanned.size > layout.MAX_CONTENT_BYTES or path.count(b"/") >= layout.MAX_DEPTH:
        return False
    if scanned.type == pax.TYPE_SYMLINK and (
        not 1 <= len(scanned.link) <= layout.MAX_LINK_TARGET_BYTES or b"\0" in scanned.link
    ):
        return False
    return all(map(is_entry_name, _names(path)))
