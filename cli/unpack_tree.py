"""The part of `onggi unpack` that restores trees."""

from __future__ import annotations

from collections.abc import Sequence

from ..archive.destination import RestoreOptions
from ..archive.errors import DamagedError
from ..archive.reader import Archive, Content
from ..archive.salvage import Salvaged
from ..archive.salvage_tree import salvage_tree
from ..archive.tree import Tree
from ..archive.tree_extract import unpack_tree
from ..archive.view import open_tree
from .exits import Exit
from .output import Reporter
from .text import human, rate


def unpack_to_folder(
    content: Content,
    dest: str,
    paths: Sequence[bytes],
    options: RestoreOptions,
    threads: int,
    reporter: Reporter,
) -> int:
    """Restore a tree, or parts of it, below a folder; return the exit code.

    `content` is an archive, or what was salvaged of one.

    Raises:
        OnggiError: as `unpack_tree`.
    """
    try:
        restored = unpack_tree(
            _tree_of(content, reporter), content, dest, threads=threads, paths=paths,
            options=options,
            found=reporter.finding, report=reporter.progress,
        )  # fmt: skip
    except DamagedError as error:
        hint = "; what was restored stays; --salvage restores all that is intact"
        raise type(error)(
            error.part, error.problem + hint, archive_offset=error.archive_offset,
            unit=error.unit, frame=error.frame,
        ) from None  # fmt: skip
    code = Exit.FINDINGS if reporter.findings else Exit.OK
    facts = {
        "destination": dest,
        "entries": restored.entries,
        "files": restored.files,
        "content_bytes": restored.file_bytes,
        "lost_bytes": restored.lost_bytes,
        "owners": options.same_owner,
        "elapsed_s": reporter.elapsed_s,
        "findings": reporter.findings,
    }
    lost = f", {human(restored.lost_bytes)} of it lost" if restored.lost_bytes else ""
    owners = "" if options.same_owner else ", owners left as they are"
    line = (
        f"{dest}: {restored.entries:,} entries, {human(restored.file_bytes)}{lost} in "
        f"{reporter.elapsed_s:.1f} s, {rate(restored.file_bytes, reporter.elapsed_s)}{owners}"
    )
    reporter.result(facts, code, [line])
    return code


def _tree_of(content: Content, reporter: Reporter) -> Tree:
    """Return the catalogue of a content, and tell what is lost of it."""
    if isinstance(content, Archive):
        return open_tree(content)
    assert isinstance(content, Salvaged)
    tree, findings = salvage_tree(content)
    for finding in findings:
        reporter.finding(finding)
    return tree
