"""Choose and copy the files that make up the benchmark volume.

Owns the rule of choice (a digest of the path, so that it is the same on every run) and the counting
of space in blocks. Knows nothing about what the files are for.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

BLOCK_BYTES = 4096
# No single file may dominate its class.
LARGEST_BYTES = 64 << 20


def on_disk_bytes(size_bytes: int) -> int:
    """Return what a file of this size takes on the volume: whole blocks."""
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def folder_bytes(folder: Path) -> int:
    """Return what the files below a folder take on the volume."""
    return sum(on_disk_bytes(path.stat().st_size) for path in regular_files((folder,)))


def regular_files(roots: Iterable[Path]) -> Iterator[Path]:
    """Yield every regular file once (of hard links the first met), in order of paths.

    Symbolic links are not followed.
    """
    seen: set[tuple[int, int]] = set()
    for root in roots:
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                facts = path.lstat()
                if path.is_symlink() or not path.is_file() or (facts.st_dev, facts.st_ino) in seen:
                    continue
                seen.add((facts.st_dev, facts.st_ino))
                yield path


def select(paths: Iterable[Path], budget_bytes: int, base: Path = Path("/")) -> list[Path]:
    """Take files until the budget is full, in order of a digest of their path below `base`.

    That spreads the choice over all folders, and it is the same wherever `base` is.
    """

    def digest(path: Path) -> bytes:
        return hashlib.sha256(os.fsencode(path.relative_to(base))).digest()

    chosen: list[Path] = []
    for path in sorted(paths, key=digest):
        size_bytes = on_disk_bytes(path.stat().st_size)
        if size_bytes <= min(budget_bytes, LARGEST_BYTES):
            chosen.append(path)
            budget_bytes -= size_bytes
    return chosen


def copy_files(paths: Iterable[Path], stage: Path) -> None:
    """Copy files to the same absolute paths below the stage."""
    for path in paths:
        target = stage / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        shutil.copystat(path, target)
        target.chmod(target.stat().st_mode | 0o600)
