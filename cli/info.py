"""`onggi info`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ..archive import layout
from ..archive.errors import DamagedError
from ..archive.reader import Archive
from ..archive.store import FileStore
from ..archive.view import open_tree
from .exits import Exit
from .options import output_options
from .output import OutputOptions, Reporter
from .session import run_command
from .text import human, share
from .volume_map import MapBuilder, print_map

_UNREADABLE_SHOWN = 20
_CAPTURED = {
    layout.CAPTURED_OWNER_NAMES: "names of owners",
    layout.CAPTURED_ATTRIBUTES: "extended attributes",
    layout.CAPTURED_ACLS: "ACLs",
    layout.CAPTURED_FILE_FLAGS: "file flags",
    layout.CAPTURED_HOLES: "holes",
}


@click.command(
    epilog="""\b
Example: onggi info sdb1.onggi --map
Exit codes: 0 done, 2 usage, 3 no archive, 4 damaged, 5 ARCHIVE can't be read;
all: docs/commands.md"""
)
@click.argument("archive", type=click.Path(path_type=Path, readable=False))
@click.option("--units", is_flag=True, help="The unit table.")
@click.option("--map", "show_map", is_flag=True, help="A picture of the volume.")
@output_options
def command(archive: Path, units: bool, show_map: bool, quiet: bool, as_json: bool) -> int:
    """Tell what is in ARCHIVE, from its header, footer and index."""
    options = OutputOptions("info", as_json, quiet)

    def action(reporter: Reporter) -> int:
        with FileStore(archive) as store:
            return _run(store, reporter)

    def _run(store: FileStore, reporter: Reporter) -> int:
        try:
            opened = Archive(store)
            facts, lines = _facts(archive, opened)
        except DamagedError as error:
            if not show_map:
                hint = "; `onggi verify` lists all that is damaged"
                raise type(error)(
                    error.part, error.problem + hint, archive_offset=error.archive_offset
                ) from None
            print_map(reporter, store, MapBuilder())
            raise
        if units:
            _print_units(reporter, opened)
        if show_map:
            print_map(reporter, store, MapBuilder())
        if not (units or show_map) or as_json:
            reporter.result(facts, Exit.OK, lines)
        return Exit.OK

    return run_command(options, action)


def _facts(path: Path, archive: Archive) -> tuple[dict[str, Any], list[str]]:
    header, footer = archive.header, archive.footer
    held, held_rows, warnings = _held(archive)
    geometry = header.geometry
    unreadable = list(archive.unreadable())
    created = datetime.fromtimestamp(header.created_ns // 10**9, UTC).isoformat()
    facts: dict[str, Any] = {
        "archive": str(path),
        "format_version": ".".join(map(str, layout.VERSION)),
        **held,
        "created": created,
        "created_ns": header.created_ns,
        "level": header.level,
        **asdict(geometry),
        "facts": dict(header.facts),
        **{
            key: value.hex() if isinstance(value, bytes) else value
            for key, value in asdict(footer).items()
            if key not in ("kind", "digest", "uuid")
        },
        "uuid": str(header.uuid),
        "archive_digest": footer.digest.hex(),
        "unreadable": unreadable,
    }
    whole = footer.content_bytes
    data = whole - footer.zero_bytes - footer.hole_bytes
    rows = [
        ("archive", f"{path}, {human(footer.archive_bytes)}, format {facts['format_version']}"),
        *held_rows,
        ("source", _source_text(header.facts)),
        ("created", f"{created}, zstd level {header.level}"),
        ("stored", f"{human(footer.stored_bytes)}, {share(footer.stored_bytes, whole)} of the "
         f"content, {share(footer.stored_bytes, data)} of its data"),
        ("holes, zeros", f"{human(footer.hole_bytes)} ({share(footer.hole_bytes, whole)}), "
         f"{human(footer.zero_bytes)} ({share(footer.zero_bytes, whole)})"),
        ("units", f"{footer.unit_count} of {human(geometry.unit_bytes)}, {footer.frame_count} "
         f"frames of {human(geometry.frame_bytes)}"),
        ("uuid", str(header.uuid)),
        ("archive digest", footer.digest.hex()),
        ("content digest", footer.content_digest.hex()),
    ]  # fmt: skip
    rows += warnings
    if unreadable:
        rows.append(
            ("warning", f"{human(footer.unreadable_bytes)} of the source could not be read, and "
             "read as zeros:")
        )  # fmt: skip
        shown = unreadable[:_UNREADABLE_SHOWN]
        rows += [("", f"{length} bytes at byte {offset}") for offset, length in shown]
        if len(unreadable) > len(shown):
            rows.append(("", f"and {len(unreadable) - len(shown)} more (--json lists all)"))
    return facts, [f"{key:<15} {value}" for key, value in rows]


def _held(
    archive: Archive,
) -> tuple[dict[str, Any], list[tuple[str, str]], list[tuple[str, str]]]:
    """Return facts, lines and warnings on what the archive holds: a volume or a tree."""
    if archive.header.kind == layout.KIND_TREE:
        return _held_tree(archive)
    member, whole = archive.member(), archive.content_bytes
    name = member.name.decode(errors="backslashreplace")
    warnings = [("warning", "the source changed while it was read")] if member.changed else []
    facts = {"kind": "volume", "name": name, "changed_while_read": member.changed}
    return facts, [("volume", f"{name}, {human(whole)} ({whole} bytes)")], warnings


def _held_tree(
    archive: Archive,
) -> tuple[dict[str, Any], list[tuple[str, str]], list[tuple[str, str]]]:
    summary = open_tree(archive).summary
    captured = [word for bit, word in _CAPTURED.items() if summary.captured & bit]
    facts = {"kind": "tree", **summary._asdict(), "captured": captured}
    counts = [
        f"{number:,} {word}"
        for number, word in (
            (summary.files, "files"), (summary.directories, "directories"),
            (summary.symlinks, "symbolic links"), (summary.hard_links, "hard links"),
            (summary.devices, "devices"), (summary.fifos, "FIFOs"),
        )
        if number
    ]  # fmt: skip
    rows = [
        ("tree", f"{', '.join(counts)}; {human(summary.file_bytes)} in files"),
        ("captured", ", ".join(["modes", "owners", "times", *captured])),
    ]
    return facts, rows, []


def _source_text(facts: Any) -> str:
    """Say where the volume came from, as far as the archive tells: any of it may be missing."""
    source = facts.get("source")
    if not isinstance(source, dict):
        return "unknown"
    known: dict[str, Any] = source  # pyright: ignore[reportUnknownVariableType]
    paths = known.get("paths")
    words = [str(path) for path in paths] if isinstance(paths, list) else []  # pyright: ignore
    words += [str(known.get("path", "")), str(known.get("type", "")), str(known.get("model", ""))]
    host = facts.get("host")
    where = f" on {host}" if isinstance(host, str) else ""
    return ", ".join(word for word in words if word) + where


def _print_units(reporter: Reporter, archive: Archive) -> None:
    reporter.item_header(
        f"{'unit':>8} {'at byte':>16} {'content':>12} {'stored':>12} {'ratio':>8} "
        f"{'frames':>7} {'zeros':>6} {'holes':>6}  stored digest"
    )
    for unit in archive.index.units():
        facts = asdict(unit)
        facts["stored_digest"] = unit.stored_digest.hex()
        line = (
            f"{unit.number:>8} {unit.unit_offset:>16} {unit.content_bytes:>12} "
            f"{unit.stored_bytes:>12} {share(unit.stored_bytes, unit.content_bytes):>8} "
            f"{unit.frame_count:>7} {unit.zero_frames:>6} {unit.hole_frames:>6}  "
            f"{unit.stored_digest.hex()[:16]}"
        )
        reporter.item("unit", facts, line)
