"""Checks the catalogue of a tree as a whole: every row, and how rows hang together.

Owns: the rules of spec sections 6.5 to 6.10 that take more than one row. Must not read content.
Called in one thread.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

from . import layout
from .entry import Counter, Entry
from .errors import DamagedError
from .tree import Tree, check_depth


def check_tree(tree: Tree, visited: Callable[[Entry], None] = lambda _: None) -> None:
    """Check all rules of spec sections 6.5 to 6.10; takes time by the number of rows.

    Args:
        tree: the catalogue.
        visited: told of each entry but the root.

    Raises:
        DamagedError: the first rule that is broken.
    """
    totals = _Totals(tree)
    totals.add(tree.root)
    expected = 1
    stack = [array("Q", [0])]
    while stack:
        if not stack[-1]:
            stack.pop()
            continue
        directory = tree.entry(stack[-1].pop())
        if directory.total and directory.first != expected:
            raise DamagedError(
                "catalogue", f"entry {directory.row}: its children are not where a walk is"
            )
        expected += directory.total
        waiting = array("Q")
        for _, entry in tree.children(directory):
            totals.add(entry)
            visited(entry)
            if entry.is_directory:
                waiting.append(entry.row)
        waiting.reverse()
        stack.append(waiting)
        if directory.total:
            check_depth(len(stack) - 1)
    if expected != len(tree):
        raise DamagedError("catalogue", f"{len(tree) - expected} entries are in no directory")
    totals.finish()
    for _ in tree.attribute_set_sizes():
        pass
    tree.owner_names()


class _Totals:
    """What a check of all entries adds up; its memory does not grow with their number."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._counter = Counter()
        self._runs = 0
        # Names of entries, less the hard links to them: nothing is left if all counts are right.
        # Weighted by a hash that nobody can foresee, so that two wrong ones do not cancel out.
        self._links = 0

    def add(self, entry: Entry) -> None:
        self._counter.add(entry.type, entry.member_bytes)
        if entry.type == layout.ENTRY_HARD_LINK:
            self._tree.primary(entry)
            self._links -= _weight(entry.first)
        elif entry.link_count > 1:
            self._links += (entry.link_count - 1) * _weight(entry.row)
            if entry.is_directory:
                raise DamagedError("catalogue", f"entry {entry.row}: a directory has hard links")
        if entry.type == layout.ENTRY_SYMLINK:
            self._tree.target(entry)
        if entry.is_mapped:
            if entry.first != self._runs:
                raise DamagedError("catalogue", f"entry {entry.row}: its runs are not in order")
            self._runs += entry.total
            for _ in self._tree.runs(entry):
                pass

    def finish(self) -> None:
        summary = self._tree.summary
        if summary != self._counter.summary(summary.captured):
            raise DamagedError("catalogue", "the summary does not fit the entries")
        if self._links:
            raise DamagedError("catalogue", "the numbers of links do not fit the hard links")
        if self._runs != self._tree.run_count:
            raise DamagedError("catalogue", "there are runs that belong to no file")


def _weight(row: int) -> int:
    return hash(row.to_bytes(8, "little"))
