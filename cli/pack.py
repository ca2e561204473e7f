"""`onggi pack`."""

from __future__ import annotations

import os
import socket
import time
import uuid
from functools import partial
from pathlib import Path

import click

from onggi import __version__

from ..archive.device import refuse_backing_file
from ..archive.errors import BadUseError, Finding, OnggiError, Severity, StoreError
from ..archive.footer import Footer
from ..archive.header import Header
from ..archive.plan import Geometry
from ..archive.source import Source, VolumeSource, open_source
from ..archive.store import FileSpool, FileStore, NewFile, StreamTarget, refuse_same_file
from ..archive.verify import Level, verify
from ..archive.writer import PackResult, pack
from .exits import Exit
from .options import output_options, size, threads_option
from .output import OutputOptions, Reporter
from .outputs import Outputs, check_stdin, stdout_for_data
from .session import run_command
from .text import human, rate, share


@click.command(
    epilog="""\b
Example: onggi pack /dev/sdb1 /backup/sdb1.onggi --verify
         pg_dump shop | onggi pack - shop.onggi --name shop.sql
Exit codes: 0 done, 1 done with findings, 2 usage, 5 SOURCE can't be read,
6 ARCHIVE can't be written, 7 refused; all: docs/commands.md"""
)
@click.argument("source")
@click.argument("archive")
@click.option("--level", type=click.IntRange(1, 19), default=3, show_default=True,
              help="zstd level.")  # fmt: skip
@threads_option("Compressors.")
@click.option("--block-size", type=size, default="4096", show_default=True,
              help="A power of two from 512 to 16M.")  # fmt: skip
@click.option("--blocks", type=click.IntRange(1), default=5120, show_default=True,
              help="Blocks in a unit.")  # fmt: skip
@click.option("--frame-size", type=size, default="1M", show_default=True,
              help="What one random read decompresses; a multiple of 4096 up to 16M.")  # fmt: skip
@click.option("--verify", "verify_after", is_flag=True,
              help="Read the archive back from disk, and compare digests.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace ARCHIVE if it exists.")
@click.option("--name", help="Name of the volume inside the archive.")
@click.option("--uuid", "identity", type=click.UUID, help="Identity of the archive  [random]")
@click.option(
    "--created",
    type=click.IntRange(-(2**63), 2**63 - 1),
    help="Time of creation, ns since 1970 UTC  [now]",
)
@output_options
def command(
    source: str,
    archive: str,
    level: int,
    threads: int,
    block_size: int,
    blocks: int,
    frame_size: int,
    verify_after: bool,
    force: bool,
    name: str | None,
    identity: uuid.UUID | None,
    created: int | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Pack SOURCE into ARCHIVE.

    SOURCE is a block device, a regular file (a disk image) or - for standard input. ARCHIVE is a
    file or - for standard output. It appears under its name only when it is whole.
    """
    options = OutputOptions("pack", as_json, quiet, data_on_stdout=archive == "-")

    def action(reporter: Reporter) -> int:
        if archive == "-" and (verify_after or force):
            raise BadUseError("--verify and --force need an ARCHIVE with a name")
        geometry = Geometry(block_size * blocks, frame_size, block_size).checked()
        if source != "-" and archive != "-":
            refuse_same_file(Path(source), Path(archive))
        if source == "-":
            check_stdin()
        elif force:
            refuse_backing_file(Path(source), Path(archive))
        opened = open_source(source)
        try:
            header = Header(
                uuid=identity or uuid.uuid4(),
                geometry=geometry,
                created_ns=time.time_ns() if created is None else created,
                level=level,
                facts=_facts(opened),
            )
            warnings = list(_mounted_warning(opened))
            result = _pack(opened, archive, header, threads, reporter, name, verify_after, force)
        finally:
            opened.close()
        for finding in (*warnings, *result.findings):
            reporter.finding(finding)
        code = Exit.FINDINGS if reporter.findings else Exit.OK
        _tell(reporter, archive, result, code, verified=verify_after)
        return code

    return run_command(options, action, threads)


def _pack(
    source: Source,
    archive: str,
    header: Header,
    threads: int,
    reporter: Reporter,
    name: str | None,
    verify_after: bool,
    force: bool,
) -> PackResult:
    volume_name = None if name is None else os.fsencode(name)
    if archive == "-":
        return pack(
            source, StreamTarget(stdout_for_data()), header, threads=threads,
            new_spool=FileSpool, report=reporter.progress, name=volume_name,
        )  # fmt: skip
    with Outputs() as outputs:
        target = outputs.new_file(Path(archive), force=force)
        check = partial(_check, target, threads, reporter) if verify_after else None
        return pack(
            source, target, header, threads=threads,
            new_spool=partial(FileSpool, target.path.parent), report=reporter.progress,
            name=volume_name, check=check,
        )  # fmt: skip


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


def _facts(source: Source) -> dict[str, object]:
    return {
        "host": socket.gethostname(),
        "source": dict(source.facts()),
        "writer": f"onggi {__version__}",
    }


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


def _tell(
    reporter: Reporter, archive: str, result: PackResult, code: Exit, *, verified: bool
) -> None:
    footer = result.footer
    facts = {
        "archive": archive,
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
        "verified": verified,
    }
    size, whole = footer.archive_bytes, footer.content_bytes
    line = (
        f"{archive}: {human(whole)} -> {human(size)} ({share(size, whole)}) "
        f"in {reporter.elapsed_s:.1f} s, {rate(whole, reporter.elapsed_s)}"
        f"{', read back and verified' if verified else ''}"
    )
    reporter.result(facts, code, [line])
