"""Compares two trees: names, metadata and bytes; tells what is missing, what is new, what differs.

Owns: what counts as a difference. Must not know where the trees are. `compare` is called in one
thread, and starts its own.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

from . import layout
from .entry import TYPE_WORDS
from .errors import Finding, Severity
from .pool import OrderedPool
from .progress import Progress, Report, silent
from .sides import Item, Read, Side

_CHUNK_BYTES = 1024 * 1024
_BATCH_FILES = 128
_BATCH_BYTES = 32 * 1024 * 1024
_NS = 10**9


@dataclass(slots=True)
class Compared:
    """What a comparison came to."""

    entries: int = 0
    content_bytes: int = 0
    missing: int = 0
    new: int = 0
    differing: int = 0

    @property
    def is_same(self) -> bool:
        """Whether nothing differs."""
        return not (self.missing or self.new or self.differing)


class _Pair(NamedTuple):
    """What both sides have under a path, and how it differs so far."""

    path: bytes
    one: Item
    other: Item
    differences: list[str]


@dataclass(slots=True)
class _Batch:
    pairs: list[_Pair] = field(default_factory=list[_Pair])
    findings: list[Finding] = field(default_factory=list[Finding])
    content_bytes: int = 0


def compare(
    one: Side,
    other: Side,
    *,
    threads: int,
    found: Callable[[Finding], None],
    report: Report = silent,
) -> Compared:
    """Compare the tree `other` with the tree `one`.

    Args:
        one: what is held to be right: what only it has is missing.
        other: what is looked at: what only it has is new.
        threads: that read and compare files.
        found: told of each difference, one for a path.
        report: told after each batch of files.

    Raises:
        DamagedError: the catalogue, or a frame, of an archive is damaged.
        SourceError: an archive can't be read.
    """
    walk = _Walk(one, other)
    steps = walk.batches()
    total = walk.result

    def consume(batch: _Batch) -> None:
        for finding in batch.findings:
            if finding.code == "missing":
                total.missing += 1
            elif finding.code == "new":
                total.new += 1
            else:
                total.differing += 1
            found(finding)
        total.content_bytes += batch.content_bytes
        report(Progress("compare", total.content_bytes, None, total.content_bytes))

    pool: OrderedPool[None, _Batch, _Batch] = OrderedPool(
        threads, lambda: None, lambda _: next(steps, None), lambda batch, _: walk.work(batch)
    )
    pool.run(consume)
    return total


# What a directory yields, as if it were a child, where no more of it can be listed.
_UNKNOWN = (
    b"", Item(0, 0, 0, 0, 0, 0, 0, (0, 0), b"", (), None, False, "it can't be listed", None),
)  # fmt: skip


class _Walk:
    """Walks over both trees at once."""

    def __init__(self, one: Side, other: Side) -> None:
        self._one = one
        self._other = other
        self._identities: dict[object, object] = {}
        self._reverse: dict[object, object] = {}
        self.result = Compared()

    def batches(self) -> Iterator[_Batch]:
        """Yield what is to be compared, in the order of paths in each directory."""
        batch = _Batch()
        size = 0
        roots = (self._one.root(), self._other.root())
        entered = self._pair(batch, b".", *roots)
        stack = [(b"", *roots)] if entered else []
        while stack:
            path, *directories = stack.pop()
            below: list[tuple[bytes, Item, Item]] = []
            for name, one, other in self._merged(path, directories[0], directories[1], batch):
                whole = path + name
                if one is None or other is None:
                    batch.findings.append(_only(whole, one is None))
                elif self._pair(batch, whole, one, other):
                    below.append((whole + b"/", one, other))
                else:
                    size += one.size
                if len(batch.pairs) >= _BATCH_FILES or size >= _BATCH_BYTES:
                    yield batch
                    batch, size = _Batch(), 0
            stack += reversed(below)
        yield batch

    def _merged(
        self, path: bytes, one: Item, other: Item, batch: _Batch
    ) -> Iterator[tuple[bytes, Item | None, Item | None]]:
        """Yield (name, item or None, item or None) of both directories."""
        left, right = self._one.children(one), self._guarded(path, other, batch)
        mine, theirs = next(left, None), next(right, None)
        while (mine or theirs) and theirs is not _UNKNOWN:
            if theirs is None or (mine is not None and mine[0] < theirs[0]):
                assert mine is not None
                yield mine[0], mine[1], None
                mine = next(left, None)
            elif mine is None or theirs[0] < mine[0]:
                yield theirs[0], None, theirs[1]
                theirs = next(right, None)
            else:
                yield mine[0], mine[1], theirs[1]
                mine, theirs = next(left, None), next(right, None)

    def _guarded(self, path: bytes, item: Item, batch: _Batch) -> Iterator[tuple[bytes, Item]]:
        try:
            yield from self._other.children(item)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            batch.findings.append(_differs(path.rstrip(b"/") or b".", f"can't be listed: {reason}"))
            yield _UNKNOWN

    def _pair(self, batch: _Batch, path: bytes, one: Item, other: Item) -> bool:
        """Compare metadata, and plan to compare bytes; return whether both are directories."""
        self.result.entries += 1
        differences = list(_metadata_differences(one, other))
        if one.kind == other.kind:
            differences += self._link_differences(one, other)
        both_files = one.kind == other.kind == layout.ENTRY_FILE
        if both_files and one.size == other.size and not other.problem:
            batch.pairs.append(_Pair(path, one, other, differences))
        elif differences:
            batch.findings.append(_differs(path, "; ".join(differences)))
        both_directories = one.kind == other.kind == layout.ENTRY_DIRECTORY
        return both_directories and not other.problem

    def _link_differences(self, one: Item, other: Item) -> Iterator[str]:
        """Yield where names that lead to one thing on one side lead to two on the other.

        A name outside of the tree does not count, so a single name on one side may be one of many.
        """
        if one.identity is not None and other.identity is None:
            yield "it is no hard link"
        if one.identity is None or other.identity is None:
            return
        same = self._identities.setdefault(one.identity, other.identity) == other.identity
        same &= self._reverse.setdefault(other.identity, one.identity) == one.identity
        if not same:
            yield "its hard links are others"

    def work(self, batch: _Batch) -> _Batch:
        """Compare the bytes of the files of a batch."""
        for path, one, other, differences in batch.pairs:
            content, size = self._content_difference(one, other)
            batch.content_bytes += size
            if content:
                differences.append(content)
            if differences:
                batch.findings.append(_differs(path, "; ".join(differences)))
        return batch

    def _content_difference(self, one: Item, other: Item) -> tuple[str, int]:
        """Return where the bytes of two files differ first, and how many were compared."""
        with ExitStack() as opened:
            try:
                read_one, close_one = self._one.open(one)
                opened.callback(close_one)
                read_other, close_other = self._other.open(other)
                opened.callback(close_other)
            except OSError as error:
                return f"it can't be read: {os.strerror(error.errno or 0)}", 0
            return self._bytes_difference(one, other, read_one, read_other)

    def _bytes_difference(
        self, one: Item, other: Item, read_one: Read, read_other: Read
    ) -> tuple[str, int]:
        try:
            for start, end in _spans(self._one.data(one), self._other.data(other)):
                if (at := _first_difference(read_one, read_other, start, end)) is not None:
                    return f"its content differs from byte {at} on", at
            if read_other(one.size, 1):  # it grew since it was looked at
                return f"its content differs from byte {one.size} on", one.size
            return "", one.size
        except OSError as error:
            return f"it can't be read: {os.strerror(error.errno or 0)}", 0


def _spans(
    one: Iterator[tuple[int, int]], other: Iterator[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of what is data on either side; elsewhere both have holes."""
    start = end = 0
    for offset, length in heapq.merge(one, other):
        if offset > end:
            if start < end:
                yield start, end
            start = offset
        end = max(end, offset + length)
    if start < end:
        yield start, end


def _first_difference(one: Read, other: Read, start: int, end: int) -> int | None:
    """Return where two files differ first between two offsets; None if they do not."""
    for at in range(start, end, _CHUNK_BYTES):
        size = min(_CHUNK_BYTES, end - at)
        mine, theirs = one(at, size), other(at, size)
        if mine != theirs:
            pairs = enumerate(zip(mine, theirs, strict=False))
            same = next((n for n, pair in pairs if pair[0] != pair[1]), None)
            return at + (min(len(mine), len(theirs)) if same is None else same)
    return None


def _metadata_differences(one: Item, other: Item) -> Iterator[str]:
    if other.problem:
        yield f"it can't be looked at: {other.problem}"
        return
    if one.kind != other.kind:
        yield f"it is a {_word(other.kind)}, not a {_word(one.kind)}"
        return
    if one.made or other.made:
        return
    if one.mode != other.mode and one.kind != layout.ENTRY_SYMLINK:
        yield f"mode {other.mode:04o}, not {one.mode:04o}"
    if (one.uid, one.gid) != (other.uid, other.gid):
        yield f"owner {other.uid}:{other.gid}, not {one.uid}:{one.gid}"
    if one.mtime_ns != other.mtime_ns:
        yield f"time {_seconds(other.mtime_ns)}, not {_seconds(one.mtime_ns)}"
    if one.size != other.size:
        yield f"{other.size} bytes, not {one.size}"
    if one.device != other.device:
        yield f"device {other.device[0]},{other.device[1]}, not {one.device[0]},{one.device[1]}"
    if one.target != other.target:
        yield f"it leads to {os.fsdecode(other.target)}, not to {os.fsdecode(one.target)}"
    if one.file_flags != other.file_flags:
        yield f"file flags {other.file_flags:#x}, not {one.file_flags:#x}"
    if one.attributes != other.attributes:
        mine, theirs = dict(one.attributes), dict(other.attributes)
        names = sorted(name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name))
        shown = ", ".join(map(os.fsdecode, names))
        yield f"attributes: {shown}"


def _word(kind: int) -> str:
    return TYPE_WORDS.get(kind, "socket")


def _seconds(ns: int) -> str:
    seconds, rest = divmod(abs(ns), _NS)
    return f"{'-' if ns < 0 else ''}{seconds}.{rest:09d}"


def _only(path: bytes, is_new: bool) -> Finding:
    shown = os.fsdecode(path)
    code, text = ("new", "is new") if is_new else ("missing", "is missing")
    return Finding(code, Severity.DIFFERENCE, f"{shown} {text}", path=shown)


def _differs(path: bytes, what: str) -> Finding:
    shown = os.fsdecode(path)
    return Finding("differs", Severity.DIFFERENCE, f"{shown}: {what}", path=shown)
