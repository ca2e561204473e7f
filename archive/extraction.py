"""Restoring as the library has it: what came of it as one record, volumes as trees of one file.

Owns: that record. Must not know how anything is restored.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .destination import RestoreOptions
from .errors import Finding, StoreError
from .extract import FileSink, unpack
from .progress import Report
from .reader import Archive
from .store import NewFile
from .tree import Tree
from .tree_extract import unpack_tree


@dataclass(frozen=True, slots=True)
class Extracted:
    """What `OpenArchive.extract` restored.

    Attributes:
        entries: number of things that were made, files among them.
        files: number of files.
        file_bytes: bytes of all these files.
        lost_bytes: bytes of them that are damaged, and zeros; 0 without `salvage`.
        findings: what could not be restored, in whole or in part; empty if `found` was given.
    """

    entries: int
    files: int
    file_bytes: int
    lost_bytes: int
    findings: tuple[Finding, ...]


def extract(
    archive: Archive,
    tree: Tree | None,
    dest: str,
    paths: Sequence[bytes],
    options: RestoreOptions,
    threads: int,
    found: Callable[[Finding], None] | None,
    report: Report,
) -> Extracted:
    """Restore a tree, or where there is none the volume, below a folder.

    Arguments and errors are those of `OpenArchive.extract`.
    """
    findings: list[Finding] = []
    tell = findings.append if found is None else found
    if tree is None:
        lost = _extract_volume(archive, Path(dest), options, threads, tell, report)
        return Extracted(1, 1, archive.content_bytes, lost, tuple(findings))
    restored = unpack_tree(
        tree, archive, dest, threads=threads, paths=paths, options=options, found=tell,
        report=report,
    )  # fmt: skip
    return Extracted(
        restored.entries, restored.files, restored.file_bytes, restored.lost_bytes,
        tuple(findings),
    )  # fmt: skip


def _extract_volume(
    archive: Archive,
    folder: Path,
    options: RestoreOptions,
    threads: int,
    found: Callable[[Finding], None],
    report: Report,
) -> int:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise StoreError(f"can't write to {folder}: {reason}") from None
    file = NewFile(folder / os.fsdecode(archive.member().name), force=options.force)
    sink = FileSink(file, archive.content_bytes, sparse=True)
    return unpack(
        archive, sink, threads=threads, salvage=options.salvage, found=found, report=report
    )
