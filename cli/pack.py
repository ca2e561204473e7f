"""`onggi pack`."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from onggi import __version__

from ..archive import layout
from ..archive.device import refuse_backing_file
from ..archive.errors import BadUseError, Finding, OnggiError, Severity, StoreError
from ..archive.footer import Footer
from ..archive.header import Header
from ..archive.mode import Choice, choose
from ..archive.pace import Pace
from ..archive.plan import Geometry
from ..archive.selection import TreeOptions
from ..archive.source import Source, VolumeSource, open_source
from ..archive.store import (
    FileSpool,
    FileStore,
    NewFile,
    StreamTarget,
    Target,
    refuse_same_file,
)
from ..archive.tree_writer import TreeSource, pack_tree
from ..archive.verify import Level, verify
from ..archive.writer import PackResult, pack
from .exits import Exit
from .options import output_options, read_excludes, size, threads_option, tree_options
from .output import OutputOptions, Reporter
from .outputs import Outputs, check_stdin, stdout_for_data
from .session import run_command
from .text import human, rate, share

_VOLUME_FRAME_BYTES = 640 * 1024
_TREE_FRAME_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Order:
    """What was asked for, as far as volumes and trees share it."""

    archive: str
    level: int
    threads: int
    block_bytes: int
    blocks: int
    frame_bytes: int | None
    verify_after: bool
    force: bool
    identity: uuid.UUID | None
    created_ns: int | None
    bytes_per_s: int

    def pace(self) -> Pace:
        """Return what holds this run to its limit, and measures it, from now on."""
        return Pace(time.monotonic, self.bytes_per_s)

    def header(self, kind: int, frame_bytes: int, source: dict[str, object]) -> Header:
        """Return the header of the archive to be made."""
        frame = frame_bytes if self.frame_bytes is None else self.frame_bytes
        geometry = Geometry(self.block_bytes * self.blocks, frame, self.block_bytes)
        return Header(
            uuid=self.identity or uuid.uuid4(),
            geometry=geometry.checked(),
            created_ns=time.time_ns() if self.created_ns is None else self.created_ns,
            level=self.level,
            kind=kind,
            facts={
                "host": socket.gethostname(),
                "source": source,
                "writer": f"onggi {__version__}",
            },
        )


@click.command(
    epilog="""\b
Example: onggi pack /dev/sdb1 /backup/sdb1.onggi --verify
         onggi pack ~/photos /etc /backup/files.onggi --exclude '*.tmp'
         pg_dump shop | onggi pack - shop.onggi --name shop.sql
Exit codes: 0 done, 1 done with findings, 2 usage, 5 SOURCE can't be read,
6 ARCHIVE can't be written, 7 refused; all: docs/commands.md"""
)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.argument("archive")
@click.option("--mode", type=click.Choice(["auto", "tree", "volume"]), default="auto",
              show_default=True, help="The files of a folder, or its volume.")  # fmt: skip
@click.option("--level", type=click.IntRange(1, 19), default=3, show_default=True,
              help="zstd level.")  # fmt: skip
@threads_option("Compressors.")
@click.option("--limit", type=size, default="0", metavar="RATE",
              help="Most bytes to read from SOURCE in a second, as 80M  [no limit]")  # fmt: skip
@tree_options
@click.option("--dedup/--no-dedup", default=True, show_default=True,
              help="Store content that several files have once.")  # fmt: skip
@click.option("--block-size", type=size, default="4096", show_default=True,
              help="A power of two from 512 to 16M.")  # fmt: skip
@click.option("--blocks", type=click.IntRange(1), default=5120, show_default=True,
              help="Blocks in a unit.")  # fmt: skip
@click.option("--frame-size", type=size, show_default="640K, for trees 4M",
              help="What one random read decompresses; a multiple of 4096 up to 16M.")  # fmt: skip
@click.option("--verify", "verify_after", is_flag=True,
              help="Read the archive back from disk, and compare digests.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace ARCHIVE if it exists.")
@click.option("--name", help="Name of a volume inside the archive.")
@click.option("--uuid", "identity", type=click.UUID, help="Identity of the archive  [random]")
@click.option(
    "--created",
    type=click.IntRange(-(2**63), 2**63 - 1),
    help="Time of creation, ns since 1970 UTC  [now]",
)
@output_options
def command(
    sources: tuple[str, ...],
    archive: str,
    mode: str,
    level: int,
    threads: int,
    limit: int,
    patterns: tuple[str, ...],
    pattern_files: tuple[str, ...],
    exclude_caches: bool,
    one_file_system: bool,
    dedup: bool,
    block_size: int,
    blocks: int,
    frame_size: int | None,
    verify_after: bool,
    force: bool,
    name: str | None,
    identity: uuid.UUID | None,
    created: int | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Pack each SOURCE into ARCHIVE.

    SOURCE is a block device, a regular file (a disk image) or - for standard input, packed as a
    volume; or a folder, or several folders and files, packed as a tree. ARCHIVE is a file or - for
    standard output. It appears under its name only when it is whole.
    """
    options = OutputOptions("pack", as_json, quiet, data_on_stdout=archive == "-")
    order = _Order(
        archive, level, threads, block_size, blocks, frame_size, verify_after, force, identity,
        created, limit,
    )  # fmt: skip

    def action(reporter: Reporter) -> int:
        if archive == "-" and (verify_after or force):
            raise BadUseError("--verify and --force need an ARCHIVE with a name")
        choice = choose(sources, mode)
        if choice.reason:
            reporter.note("mode", {"reason": choice.reason}, f"packing {choice.reason}")
        if choice.volume is not None:
            if patterns or pattern_files or exclude_caches or one_file_system:
                raise BadUseError("--exclude and its kin, and --one-file-system, are for trees")
            return _pack_volume(choice.volume, order, name, reporter)
        if name is not None:
            raise BadUseError("--name is for volumes; a tree has the names of its files")
        tree = TreeOptions(
            read_excludes(patterns, pattern_files), exclude_caches, one_file_system, dedup
        )
        return _pack_tree(sources, order, tree, choice, reporter)

    return run_command(options, action, threads)


def _pack_volume(path: str, order: _Order, name: str | None, reporter: Reporter) -> int:
    if path == "-":
        check_stdin()
    else:
        if order.archive != "-":
            refuse_same_file(Path(path), Path(order.archive))
        if order.force:
            refuse_backing_file(Path(path), Path(order.archive))
    source = open_source(path)
    try:
        header = order.header(layout.KIND_VOLUME, _VOLUME_FRAME_BYTES, dict(source.facts()))
        warnings = list(_mounted_warning(source))
        volume_name = None if name is None else os.fsencode(name)
        with _Out(order, reporter) as out:
            result = pack(
                source, out.target, header, threads=order.threads, new_spool=out.new_spool,
                report=reporter.progress, name=volume_name, check=out.check, pace=order.pace(),
            )  # fmt: skip
    finally:
        source.close()
    for finding in (*warnings, *result.findings):
        reporter.finding(finding)
    return _tell(reporter, order, result, {})


def _pack_tree(
    sources: Sequence[str],
    order: _Order,
    options: TreeOptions,
    choice: Choice,
    reporter: Reporter,
) -> int:
    facts: dict[str, object] = {
        "paths": [os.fsencode(os.path.abspath(path)).decode(errors="replace") for path in sources],
        "type": "tree",
    }
    if order.archive != "-":
        for path in sources:
            refuse_same_file(Path(path), Path(order.archive))
    header = order.header(layout.KIND_TREE, _TREE_FRAME_BYTES, facts)
    with TreeSource(sources) as source, _Out(order, reporter) as out:
        # The archive, and one that it replaces, are not part of its own tree.
        source.leave_out.update(out.identities())
        result = pack_tree(
            source, out.target, header, threads=order.threads, new_spool=out.new_spool,
            options=options, report=reporter.progress, found=reporter.finding, check=out.check,
            pace=order.pace(),
        )  # fmt: skip
    more: dict[str, object] = {
        "entries": result.footer.member_count,
        "sockets": result.sockets,
        "mode": choice.reason or None,
    }
    return _tell(reporter, order, result, more)


class _Out:
    """Where the archive goes; use it as a context, so that no half-written file stays."""

    target: Target

    def __init__(self, order: _Order, reporter: Reporter) -> None:
        self._order = order
        self._reporter = reporter
        self._outputs = Outputs()
        self._file: NewFile | None = None

    def __enter__(self) -> _Out:
        order = self._order
        if order.archive == "-":
            self.target = StreamTarget(stdout_for_data())
        else:
            self._file = self._outputs.new_file(Path(order.archive), force=order.force)
            self.target = self._file
        return self

    def __exit__(self, *error: object) -> None:
        self._outputs.close()

    def identities(self) -> Iterator[tuple[int, int]]:
        """Yield device and inode of the file that is written, and of the one it shall replace."""
        if self._file is None:
            return
        found = os.fstat(self._file.fd)
        yield found.st_dev, found.st_ino
        with suppress(OSError):  # there is none
            found = os.stat(self._file.path)
            yield found.st_dev, found.st_ino

    def new_spool(self) -> FileSpool:
        """Return a place for rows, beside the archive."""
        return FileSpool(self._file.path.parent if self._file else None)

    @property
    def check(self) -> partial[None] | None:
        """What reads the archive back, if that was asked for."""
        if self._file is None or not self._order.verify_after:
            return None
        return partial(_check, self._file, self._order.threads, self._reporter)


def _check(target: NewFile, threads: int, reporter: Reporter, footer: Footer) -> None:
    """Read the archive back from the disk, before it gets its name."""
    assert target.part is not None
    damage: list[Finding] = []
    try:
        with FileStore(target.part) as store:
            store.drop_cache()
            verified = verify(
                store, Level.CONTENT, threads=threads, report=reporter.progress,
                found=lambda f: damage.append(f) if f.severity is Severity.DAMAGE else None,
            )  # fmt: skip
    except OnggiError as error:  # whatever it is: the target does not hold what was written
        raise StoreError(f"{target.path}: what was written can't be read back: {error}") from None
    same = verified.archive is not None and verified.archive.footer.digest == footer.digest
    if damage or not same:
        what = damage[0].message if damage else "another archive digest"
        raise StoreError(
            f"{target.path}: what was read back from the disk differs from what was written: {what}"
        )


def _mounted_warning(source: Source) -> list[Finding]:
    """Warn where a device is mounted for writing: the archive may hold two states of it mixed."""
    if not isinstance(source, VolumeSource) or not source.is_device:
        return []
    place = source.mounted_for_writing()
    if place is None:
        return []
    return [
        Finding(
            "source-mounted", Severity.WARNING,
            f"{source.path} is mounted for writing on {place}; the archive may be inconsistent: "
            "unmount it, or pack a snapshot",
        )
    ]  # fmt: skip


def _tell(reporter: Reporter, order: _Order, result: PackResult, more: dict[str, object]) -> int:
    footer = result.footer
    code = Exit.FINDINGS if reporter.findings else Exit.OK
    facts = {
        "archive": order.archive,
        "uuid": str(result.header.uuid),
        "content_bytes": footer.content_bytes,
        "archive_bytes": footer.archive_bytes,
        "stored_bytes": footer.stored_bytes,
        "zero_bytes": footer.zero_bytes,
        "hole_bytes": footer.hole_bytes,
        "unreadable_bytes": footer.unreadable_bytes,
        "units": footer.unit_count,
        "frames": footer.frame_count,
        "archive_digest": footer.digest.hex(),
        "content_digest": footer.content_digest.hex(),
        "elapsed_s": reporter.elapsed_s,
        "findings": reporter.findings,
        "verified": order.verify_after,
        **more,
    }
    size, whole = footer.archive_bytes, footer.content_bytes
    entries = f"{footer.member_count:,} entries, " if "entries" in more else ""
    sockets = f", {more['sockets']} sockets left out" if more.get("sockets") else ""
    line = (
        f"{order.archive}: {entries}{human(whole)} -> {human(size)} ({share(size, whole)}) "
        f"in {reporter.elapsed_s:.1f} s, {rate(whole, reporter.elapsed_s)}{sockets}"
        f"{', read back and verified' if order.verify_after else ''}"
    )
    reporter.result(facts, code, [line])
    return code
