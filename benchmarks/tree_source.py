"""The tree that is packed: where it comes from, what is in it, and whether a copy of it is right.

Owns the unpacking of the default tree (Debian's Linux source), the counting of entries, the choice
of single files to read, and the comparison of two trees. Knows nothing about what is measured.
Keeps no list of a tree: the memory of the harness is a lower limit of what it can measure.
"""

from __future__ import annotations

import dataclasses
import filecmp
import hashlib
import heapq
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from corpus import fetch_package, unpack_source
from harness import CommandError

SECOND_NS = 1_000_000_000
# Files of an ordinary size: one that is nearly empty, or large, would say nothing about most.
PICK_BYTES = range(4 << 10, 256 << 10)


@dataclasses.dataclass(frozen=True, slots=True)
class Census:
    """How much there is in a tree; `entries` counts folders, links and so on, and not the root."""

    entries: int
    files: int
    content_bytes: int


def unpack_tree(package: str, deb: Path | None, work: Path) -> Path:
    """Return the unpacked source of a Debian package below the work folder, made if missing.

    The package is downloaded with apt-get unless `deb` names it. A tree that stands under its final
    name is complete: it is moved there as the last step.
    """
    place = work / package
    if place.is_dir():
        return place
    package_file = (deb or fetch_package(package, work)).resolve()
    with tempfile.TemporaryDirectory(prefix="tree-", dir=work) as scratch:
        _, folder = unpack_source(package_file, Path(scratch))
        (top,) = folder.iterdir()
        shutil.move(top, place)
    return place


def take_census(tree: Path) -> Census:
    """Count what is in a tree."""
    entries = files = content_bytes = 0
    for _, facts in _walk(tree):
        entries += 1
        if stat.S_ISREG(facts.st_mode):
            files += 1
            content_bytes += facts.st_size
    return Census(entries - 1, files, content_bytes)


def pick_files(tree: Path, count: int) -> list[str]:
    """Choose regular files of an ordinary size by a digest of their path: the same on every run.

    Returns paths relative to the tree. Takes any regular file where too few have such a size.
    """

    def digest(name: str) -> bytes:
        return hashlib.sha256(os.fsencode(name)).digest()

    def regular(sizes: range) -> Iterator[str]:
        for name, facts in _walk(tree):
            if stat.S_ISREG(facts.st_mode) and facts.st_size in sizes:
                yield name

    chosen = heapq.nsmallest(count, regular(PICK_BYTES), digest)
    if len(chosen) < count:
        chosen = heapq.nsmallest(count, regular(range(sys.maxsize)), digest)
    if not chosen:
        raise SystemExit(f"{tree}: there is no regular file in it")
    return chosen


@dataclasses.dataclass(frozen=True, slots=True)
class SameTree:
    """A check that two trees hold the same: names, types, modes, owners, times, links, content.

    Times may differ below `time_unit_ns`, since GNU tar's own format keeps whole seconds. Owners
    are compared for root only: nobody else can restore them.
    """

    out: Path
    tree: Path
    time_unit_ns: int

    def __call__(self) -> None:
        """Raise `CommandError` at the first difference."""
        for name, expected in _walk(self.tree):
            try:
                got = (self.out / name).lstat()
            except FileNotFoundError:
                self._fail(name, "is missing")
            if self._metadata(got) != self._metadata(expected):
                self._fail(name, "has other metadata")
            if not self._same_content(name, expected.st_mode):
                self._fail(name, "has other content")
        for name, _ in _walk(self.out):
            if not os.path.lexists(self.tree / name):
                self._fail(name, "is not in the source")

    def _metadata(self, facts: os.stat_result) -> tuple[int, ...]:
        owners = (facts.st_uid, facts.st_gid) if os.geteuid() == 0 else ()
        # The size of a folder is the filesystem's own affair.
        size = 0 if stat.S_ISDIR(facts.st_mode) else facts.st_size
        return (facts.st_mode, size, facts.st_mtime_ns // self.time_unit_ns, *owners)

    def _same_content(self, name: str, mode: int) -> bool:
        ours, theirs = self.out / name, self.tree / name
        if stat.S_ISLNK(mode):
            return ours.readlink() == theirs.readlink()
        return not stat.S_ISREG(mode) or filecmp.cmp(ours, theirs, shallow=False)

    def _fail(self, name: str, what: str) -> NoReturn:
        raise CommandError(f"compare {self.out} with {self.tree}", 1, f"{name or '.'} {what}")


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield path below the root ("" for the root itself) and attributes of every entry.

    Sockets are left out: no archive holds them.
    """
    yield "", root.lstat()
    folders = [""]
    while folders:
        parent = folders.pop()
        with os.scandir(root / parent) as entries:
            for entry in entries:
                name = f"{parent}/{entry.name}" if parent else entry.name
                facts = entry.stat(follow_symlinks=False)
                if stat.S_ISSOCK(facts.st_mode):
                    continue
                yield name, facts
                if stat.S_ISDIR(facts.st_mode):
                    folders.append(name)
