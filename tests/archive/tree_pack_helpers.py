"""What the tests of packing trees share: archives that were checked in every way."""

from __future__ import annotations

import os
from pathlib import Path

from onggi.archive import dedup
from onggi.archive.store import MemoryStore
from onggi.archive.tree_check import check_tree
from onggi.archive.verify import Level, verify

from .tree_helpers import Packed, facts_in_archive, facts_in_tar, facts_on_disk, tar_matches

KEPT_ONCE = dedup.LEAST_BYTES


def checked(packed: Packed) -> Packed:
    """Return an archive that was verified in every way."""
    assert verify(MemoryStore(packed.data), Level.CONTENT, threads=1).is_whole
    check_tree(packed.tree)
    assert packed.content.endswith(bytes(1024))
    return packed


def matches(packed: Packed, root: Path) -> bool:
    """Tell whether catalogue and tar stream hold what is in a folder."""
    tree = facts_on_disk(root)
    assert facts_in_archive(packed.view) == tree
    assert tar_matches(facts_in_tar(packed.content), tree)
    return True


def descriptors() -> int:
    """Return how many descriptors are open."""
    return len(os.listdir("/proc/self/fd"))
