"""Finds files whose content an earlier file of the same tree has.

Owns: which files have been seen, and how two are told to be the same. A file is read only if one
of its length was seen before: first its start, then, if that is known too, all of it. Must not know
archives. One owner at a time.
"""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

from blake3 import blake3

from .files import Found, open_quietly
from .folders import Folder, Folders
from .pace import PIECE_BYTES, Hold, at_once

LEAST_BYTES = 16 * 1024  # shorter files are left to the compressor
_START_BYTES = 4096
_KEPT = 65_536


class Candidate(NamedTuple):
    """A file that is in the archive, and where.

    Attributes:
        folder: the folder that holds it.
        found: what it was when it was planned.
        row: its row in the catalogue.
        content_offset: where its bytes stand.
        attributes: number of its attribute set.
    """

    folder: Folder
    found: Found
    row: int
    content_offset: int
    attributes: int

    def may_stand_for(self, other: Candidate) -> bool:
        """Tell whether both have the same owner, mode and attributes.

        In the tar stream both are one file, and who may read it must not change by that.
        """
        one, two = self.found, other.found
        return (one.uid, one.gid, stat.S_IMODE(one.mode), one.file_flags, self.attributes) == (
            two.uid, two.gid, stat.S_IMODE(two.mode), two.file_flags, other.attributes
        )  # fmt: skip


class Seen:
    """The files seen last, at most 65,536 of them, so that memory stays bounded.

    Args:
        folders: opens folders.
        hold: called before each piece that is read.
    """

    def __init__(self, folders: Folders, hold: Hold = at_once) -> None:
        self._folders = folders
        self._hold = hold
        # By length; by length and digest of the start; by length and digest of all. None: more
        # than one file is meant, look further down.
        self._known: OrderedDict[Hashable, Candidate | None] = OrderedDict()

    def is_new(self, candidate: Candidate) -> bool:
        """Tell whether no file of this length is known, and remember this one then."""
        key = (candidate.found.size,)
        if key in self._known:
            return False
        self._keep(key, candidate)
        return True

    def same_as(self, new: Candidate) -> Candidate | None:
        """Return an earlier file of the same content and rights; None, and remember this one."""
        size = new.found.size
        key: tuple[Hashable, ...] = (size,)
        for step in (self._start, self._all, None):
            if key not in self._known:
                self._keep(key, new)
                return None
            first = self._known[key]
            if step is None:
                return first if first and first.may_stand_for(new) else None
            if first is not None:
                digest = step(first)
                self._known[key] = None
                if digest is not None:
                    self._keep((*key, digest), first)
            digest = step(new)
            if digest is None:  # it changes right now
                return None
            key = (*key, digest)
        raise AssertionError("the last step returns")

    def _keep(self, key: Hashable, candidate: Candidate) -> None:
        self._known[key] = candidate
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)

    def _start(self, candidate: Candidate) -> bytes | None:
        return self._digest(candidate, min(_START_BYTES, candidate.found.size))

    def _all(self, candidate: Candidate) -> bytes | None:
        return self._digest(candidate, candidate.found.size)

    def _digest(self, candidate: Candidate, size: int) -> bytes | None:
        """Return the digest of the first `size` bytes; None if it is not the file it was."""
        found = candidate.found
        try:
            with self._folders.use(candidate.folder) as folder:
                fd = open_quietly(folder, found.name)
            try:
                hasher = blake3()
                done = 0
                while done < size:
                    length = min(PIECE_BYTES, size - done)
                    self._hold(length)
                    piece = os.pread(fd, length, done)
                    if not piece:
                        return None
                    hasher.update(piece)
                    done += len(piece)
                now = os.fstat(fd)
            finally:
                os.close(fd)
        except OSError:
            return None
        same = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        if same != (found.dev, found.ino, found.size, found.mtime_ns, found.ctime_ns):
            return None
        return hasher.digest()
