"""Which part of a file tree is meant: what is left out of a folder.

Owns: the options of that, and how they apply to one folder. Must not walk. Safe in many threads.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from .exclude import CACHE_TAG_NAME, Excludes
from .files import is_cache, list_names


@dataclass(frozen=True, slots=True)
class TreeOptions:
    """What of a tree is meant, and how it is packed.

    Attributes:
        excludes: what is left out.
        exclude_caches: leave out what is in folders with a cache tag, but for the tag.
        one_file_system: leave out what is in folders on another file system.
        dedup: store content that an earlier file has only once.
    """

    excludes: Excludes = field(default_factory=lambda: Excludes(()))
    exclude_caches: bool = False
    one_file_system: bool = False
    dedup: bool = True

    def is_left_out(self, path: bytes) -> bool:
        """Tell whether a path from the root of the tree is left out."""
        return self.excludes.matches(b"./" + path)

    def names_in(self, fd: int, path: bytes, device: int) -> list[bytes]:
        """Return the names in a folder that are not left out, sorted.

        Args:
            fd: the folder.
            path: its path from the root of the tree; empty for the root.
            device: number of the file system that the tree begins on.

        Raises:
            OSError: it can't be read.
        """
        if self.one_file_system and os.fstat(fd).st_dev != device:
            return []
        names = list_names(fd)
        if self.exclude_caches and CACHE_TAG_NAME in names and is_cache(fd):
            names = [CACHE_TAG_NAME]
        if not self.excludes:
            return names
        prefix = path + b"/" if path else b""
        return [name for name in names if not self.is_left_out(prefix + name)]
