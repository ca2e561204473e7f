"""`onggi unpack`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ..archive import layout
from ..archive.destination import RestoreOptions
from ..archive.device import DeviceTarget, is_block_device
from ..archive.errors import (
    BadUseError,
    DamagedError,
    NotAnArchiveError,
    OnggiError,
    RefusedError,
    StoreError,
    UnsupportedError,
)
from ..archive.extract import DeviceSink, FileSink, Sink, StreamSink, unpack
from ..archive.reader import Archive, Content
from ..archive.salvage import Salvaged, salvage
from ..archive.salvage_tree import holds_tree
from ..archive.store import FileStore, StreamTarget, refuse_same_file
from .exits import Exit
from .options import output_options, threads_option
from .output import OutputOptions, Reporter
from .outputs import Outputs, stdout_for_data
from .session import run_command
from .signals import Stopped
from .text import human, rate
from .unpack_tree import unpack_to_folder


@click.command(
    epilog="""\b
Example: onggi unpack sdb1.onggi /restore/
         onggi unpack sdb1.onggi /dev/sdc1 --to-device
         onggi unpack files.onggi /restore/ etc/fstab home/ann
Exit codes: 0 done, 1 parts were lost or left alone, 2 usage, 3 no archive, 4 damaged,
5 ARCHIVE can't be read, 6 DEST can't be written, 7 refused; all: docs/commands.md"""
)
@click.argument("archive", type=click.Path(path_type=Path, readable=False))
@click.argument("dest")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@threads_option("Decoders.")
@click.option("--to-device", is_flag=True, help="DEST is a block device, to be overwritten.")
@click.option("--overwrite", metavar="NAME",
              help="The device's name once more: overwrite its partition table.")  # fmt: skip
@click.option("--sparse/--no-sparse", default=True, show_default=True,
              help="Leave holes in a file where the content is zeros.")  # fmt: skip
@click.option("--salvage", "tolerant", is_flag=True,
              help="Restore all that is intact from a damaged archive.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace DEST, or files in it, if they exist.")
@click.option("--same-owner/--no-same-owner", default=None,
              help="Restore owners, and setuid with them  [as root]")  # fmt: skip
@click.option("--numeric-owner", is_flag=True, help="Owners by number, not by name.")
@output_options
def command(
    archive: Path,
    dest: str,
    paths: tuple[str, ...],
    threads: int,
    to_device: bool,
    overwrite: str | None,
    sparse: bool,
    tolerant: bool,
    force: bool,
    same_owner: bool | None,
    numeric_owner: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Restore what is in ARCHIVE to DEST.

    A volume: DEST is a new file, a folder (the volume gets its name inside it), a block device
    (with --to-device), or - for standard output.

    A tree: DEST is a folder, made if it does not exist; each PATH, or everything, is restored
    below it. Or - for standard output, which gets a tar stream.

    A file appears under its name only when it is whole.
    """
    options = OutputOptions("unpack", as_json, quiet, data_on_stdout=dest == "-")

    def action(reporter: Reporter) -> int:
        with FileStore(archive) as store:
            return _run(store, reporter)

    def _run(store: FileStore, reporter: Reporter) -> int:
        if overwrite and not to_device:
            raise BadUseError("--overwrite needs --to-device")
        content, name = _open(store, tolerant, reporter)
        if dest != "-" and _is_tree(content):
            return _restore_tree(content, reporter)
        if paths:
            raise BadUseError("PATH is for trees that are unpacked to a folder")
        with Outputs() as outputs:
            if is_block_device(Path(dest)):
                if not to_device:
                    raise RefusedError(
                        f"{dest} is a block device; to overwrite it, add --to-device"
                    )
                device = DeviceTarget(Path(dest), content.content_bytes, archive, overwrite)
                sink: Sink = DeviceSink(device)
                shown = dest
            elif to_device:
                raise BadUseError(f"{dest} is no block device")
            else:
                device = None
                sink, shown = _sink(outputs, dest, name, content, archive, sparse, force)
            try:
                lost = unpack(
                    content, sink, threads=threads, salvage=tolerant, found=reporter.finding,
                    report=reporter.progress,
                )  # fmt: skip
            except (OnggiError, Stopped) as error:
                partly = f"; {shown} is partly overwritten" if device and device.started else ""
                if isinstance(error, Stopped):
                    error.note = partly
                    raise
                if isinstance(error, DamagedError):
                    raise _with_hint(error, partly) from None
                raise type(error)(f"{error}{partly}") from None
        code = Exit.FINDINGS if reporter.findings else Exit.OK
        facts = {
            "destination": shown,
            "content_bytes": content.content_bytes,
            "lost_bytes": lost,
            "elapsed_s": reporter.elapsed_s,
            "findings": reporter.findings,
        }
        lost_text = f", {human(lost)} of it lost" if lost else ""
        line = (
            f"{shown}: {human(content.content_bytes)}{lost_text} in {reporter.elapsed_s:.1f} s, "
            f"{rate(content.content_bytes, reporter.elapsed_s)}"
        )
        reporter.result(facts, code, [line])
        return code

    def _restore_tree(content: Content, reporter: Reporter) -> int:
        if to_device or overwrite:
            raise BadUseError("the archive holds a tree; --to-device is for volumes")
        owners = os.geteuid() == 0 if same_owner is None else same_owner
        return unpack_to_folder(
            content, dest, [os.fsencode(path) for path in paths],
            RestoreOptions(force, owners, numeric_owner, tolerant), threads, reporter,
        )  # fmt: skip

    return run_command(options, action, threads)


def _open(store: FileStore, tolerant: bool, reporter: Reporter) -> tuple[Content, bytes]:
    """Return what can be read, and the name of the volume."""
    if not tolerant:
        try:
            archive = Archive(store)
            if archive.header.kind == layout.KIND_TREE:
                return archive, b""
            return archive, archive.member().name
        except DamagedError as error:
            raise _with_hint(error) from None
    salvaged = salvage(store)
    for finding in salvaged.findings:
        reporter.finding(finding)
    return salvaged, _salvaged_name(store, salvaged)


def _is_tree(content: Content) -> bool:
    if isinstance(content, Archive):
        return content.header.kind == layout.KIND_TREE
    return isinstance(content, Salvaged) and holds_tree(content)


def _salvaged_name(store: FileStore, salvaged: Salvaged) -> bytes:
    if holds_tree(salvaged):
        return b""
    try:
        return Archive(store).member().name
    except (DamagedError, NotAnArchiveError, UnsupportedError):  # also a damaged tag or version
        stem = store.path.stem or "volume"
        return os.fsencode(f"{stem}.img")


def _sink(
    outputs: Outputs,
    dest: str,
    name: bytes,
    content: Content,
    archive: Path,
    sparse: bool,
    force: bool,
) -> tuple[Sink, str]:
    """Return where the volume goes, if that is no device, and what to call it."""
    if dest == "-":
        if force:
            raise BadUseError("--force needs a DEST with a name")
        return StreamSink(StreamTarget(stdout_for_data())), "standard output"
    path = Path(dest)
    if os.path.isdir(path):
        path = path / os.fsdecode(name)
    elif dest.endswith("/"):
        raise StoreError(f"the folder {dest} does not exist")
    refuse_same_file(archive, path)
    file = outputs.new_file(path, force=force)
    return FileSink(file, content.content_bytes, sparse=sparse), str(path)


def _with_hint(error: DamagedError, partly: str = "") -> DamagedError:
    """Say what to do about damage; only an unpack without --salvage ends with it."""
    hint = "; --salvage restores all that is intact"
    place = "" if error.unit is None else f"unit {error.unit}, "
    return type(error)(
        f"{place}{error.part}", f"{error.problem}{partly}{hint}",
        archive_offset=error.archive_offset, unit=error.unit, frame=error.frame,
    )  # fmt: skip
