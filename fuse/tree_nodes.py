"""A tree archive as nodes, in less time than nodes of any archive take.

Owns: the rows of directories that were used last, and the way to the compiled code. Shows nothing
that `nodes` would not. Safe in many threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from ..archive.accelerate import native
from ..archive.entry import Entry
from ..archive.errors import DamagedError
from ..archive.row_span import RowSpan
from ..archive.tree import SPAN_ROWS
from ..archive.view import View
from .nodes import ShownArchive, Take
from .status import Owners

_SPANS_KEPT = 64
_ANYONE = -1


class ShownTree(ShownArchive):
    """A tree archive as nodes.

    Args:
        view: what is shown.
        owners: who owns everything.
        first_inode: number of the root.
    """

    def __init__(self, view: View, owners: Owners, first_inode: int = 1) -> None:
        super().__init__(view, owners, first_inode)
        self._tree = view.tree
        self._native = native()
        self._spans: OrderedDict[tuple[int, int], RowSpan] = OrderedDict()
        self._lock = threading.Lock()

    def give(self, directory: Entry, number: int, take: Take) -> None:
        """Give away what is in a directory, from one on, until no more is taken."""
        while number < directory.total:
            if self._give_span(directory, number, take):
                return
            number += SPAN_ROWS - number % SPAN_ROWS

    def child(self, directory: Entry, name: bytes) -> Entry | None:
        """Return the child of that name, no hard link; None if there is none."""
        if not directory.total:
            return None
        low, high = 0, (directory.total - 1) // SPAN_ROWS
        while low < high:  # the last rows whose first name is not behind this one
            middle = (low + high + 1) // 2
            span = self._span(directory, middle)
            if span.name(span.entry(0)) <= name:
                low = middle
            else:
                high = middle - 1
        entry = self._span(directory, low).find(name)
        return None if entry is None else self._tree.primary(entry)

    def _give_span(self, directory: Entry, number: int, take: Take) -> bool:
        """Give away what stands together with a child; tell whether no more is taken."""
        at = number % SPAN_ROWS
        before = number - at
        span = self._span(directory, before // SPAN_ROWS)
        tree, (uid, gid) = self._tree, self.owners
        while at < len(span):
            if self._native is not None and span.strings:
                at, full = self._native.fill_rows(
                    take.filler, take.buffer, span.raw, at, span.first, span.strings,
                    span.strings_offset, take.offset_of(before + at), take.flags, directory.row,
                    tree.content_bytes, len(tree), tree.set_count, self.first_inode,
                    _ANYONE if uid is None else uid, _ANYONE if gid is None else gid,
                )  # fmt: skip
                if full:
                    return True
                if at == len(span):
                    return False
            entry = span.entry(at)
            name = span.name(entry)
            if at and name <= span.name(span.entry(at - 1)):
                raise DamagedError("catalogue", f"entry {entry.row}: it is not in its place")
            at += 1
            if take(name, self.status(tree.primary(entry)), before + at):
                return True
        return False

    def _span(self, directory: Entry, number: int) -> RowSpan:
        key = (directory.row, number)
        with self._lock:
            span = self._spans.get(key)
            if span is not None:
                self._spans.move_to_end(key)
                return span
        first = number * SPAN_ROWS
        span = RowSpan(
            self._tree, directory.row, directory.first + first,
            min(SPAN_ROWS, directory.total - first),
        )  # fmt: skip
        with self._lock:
            self._spans[key] = span
            if len(self._spans) > _SPANS_KEPT:
                self._spans.popitem(last=False)
        return span
