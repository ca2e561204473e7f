"""Packing as the library has it: folders and files into a new archive, with sensible defaults.

Owns: these defaults, and the record of what was packed. Must not read clocks: the time of an
archive is that which the file system gives its file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack
from uuid import UUID, uuid4

from onggi import __version__

from . import layout
from .arguments import AnyPath, path_bytes, system_path, worker_count
from .builtin_errors import NotDirectoryError
from .errors import BadUseError, Finding
from .exclude import Excludes
from .header import Header
from .plan import Geometry
from .progress import Report, silent
from .selection import TreeOptions
from .store import FileSpool, NewFile, refuse_same_file
from .tree_writer import TreePackResult, TreeSource, pack_tree

_BLOCK_BYTES = 4096
_UNIT_BYTES = 5120 * _BLOCK_BYTES
_FRAME_BYTES = 4 * layout.MIB
_LEVELS = range(1, 20)


@dataclass(frozen=True, slots=True)
class Packed:
    """What was packed.

    Attributes:
        uuid: identity of the archive.
        created_ns: when it was made, ns since 1970-01-01 UTC.
        archive_digest: BLAKE3 of its footer, which all of the archive hangs on.
        entries: number of its entries, the root included.
        content_bytes: length of its content, a tar stream.
        archive_bytes: length of the archive.
        sockets: how many sockets were left out.
        findings: files that changed, vanished or could not be read; the archive is valid all the
            same. Empty if `found` was given.
    """

    uuid: UUID
    created_ns: int
    archive_digest: bytes
    entries: int
    content_bytes: int
    archive_bytes: int
    sockets: int
    findings: tuple[Finding, ...]


class PackOptions(TypedDict, total=False):
    """Keyword arguments of `pack` and `pack_folder`, all of which may be left out.

    Attributes:
        exclude: patterns of what is left out, as `--exclude` of GNU tar takes them; none.
        exclude_caches: leave out what is in folders with a cache tag, but for the tag; False.
        one_file_system: leave out what is in folders on other file systems; False.
        dedup: store content that several files have once; True.
        level: of zstd, 1 to 19; 3.
        frame_bytes: what one random read decompresses, a multiple of 4096 up to 16 MiB; 4 MiB.
            Smaller frames are read faster at random, and take more space.
        unit_bytes: what a thread packs at a time, a multiple of 4096 up to 256 MiB; 20 MiB.
        threads: compressors; None for one for each processor that may be used; None.
        force: replace the archive if it exists; False.
        uuid: identity of the archive; None for a random one; None.
        created_ns: when it was made, ns since 1970-01-01 UTC; None for when the file system says
            that its file was made; None.
        facts: JSON values for people, about the source; None for host, paths and writer; None.
        found: told of each finding at once; None to collect them; None.
        report: told how far it is, in the thread that packs; nobody.
    """

    exclude: Iterable[AnyPath]
    exclude_caches: bool
    one_file_system: bool
    dedup: bool
    level: int
    frame_bytes: int
    unit_bytes: int
    threads: int | None
    force: bool
    uuid: UUID | None
    created_ns: int | None
    facts: Mapping[str, Any] | None
    found: Callable[[Finding], None] | None
    report: Report


def pack_folder(source: AnyPath, archive: AnyPath, **options: Unpack[PackOptions]) -> Packed:
    """Pack a folder: what is in it becomes the top of the archive.

    The archive appears under its name when it is whole, and is not part of itself. The same
    folder, options, `uuid`, `created_ns` and `facts` give the same bytes, however many threads.

    Args:
        source: a folder.
        archive: path of the new archive.
        **options: see `PackOptions`.

    Raises:
        NotDirectoryError: the source is no folder.
        SourceError: it can't be read at all.
        StoreError: the archive can't be written, or exists.
        RefusedError: source and archive are the same.
        BadUseError: a size or a level can't be.
    """
    path = system_path(source)
    if os.path.lexists(path) and not os.path.isdir(path):
        raise NotDirectoryError.of(os.fsencode(path), "is no folder; `pack` takes files too")
    return pack([path], archive, **options)


def pack(sources: Sequence[AnyPath], archive: AnyPath, **options: Unpack[PackOptions]) -> Packed:
    """Pack files and folders as a tree, each under its last component.

    One folder alone is packed as `pack_folder` does.

    Args:
        sources: paths of files and folders.
        archive: path of the new archive.
        **options: see `PackOptions`.

    Raises:
        SourceError: a source can't be opened.
        StoreError, RefusedError: as `pack_folder`.
        BadUseError: there is no source, two have the same name, or a size or a level can't be.
    """
    if isinstance(sources, (str, bytes)) or not sources:
        raise BadUseError("name the sources in a list, one at the least")
    level = options.get("level", 3)
    if level not in _LEVELS:
        raise BadUseError(f"the level {level} is none from 1 to 19")
    paths = [system_path(path) for path in sources]
    place = Path(system_path(archive))
    geometry = Geometry(
        options.get("unit_bytes", _UNIT_BYTES), options.get("frame_bytes", _FRAME_BYTES),
        _BLOCK_BYTES,
    ).checked()  # fmt: skip
    tree = TreeOptions(
        Excludes(path_bytes(pattern) for pattern in options.get("exclude", ())),
        options.get("exclude_caches", False),
        options.get("one_file_system", False),
        options.get("dedup", True),
    )
    workers = worker_count(options.get("threads"))
    facts = _facts(paths, options.get("facts"))
    created_ns, found = options.get("created_ns"), options.get("found")
    findings: list[Finding] = []
    for path in paths:
        refuse_same_file(Path(path), place)
    with TreeSource(paths) as source:
        target = NewFile(place, force=options.get("force", False))
        try:
            file = os.fstat(target.fd)
            source.leave_out.add((file.st_dev, file.st_ino))
            header = Header(
                uuid=options.get("uuid") or uuid4(),
                geometry=geometry,
                created_ns=file.st_mtime_ns if created_ns is None else created_ns,
                level=level,
                kind=layout.KIND_TREE,
                facts=facts,
            )
            result = pack_tree(
                source, target, header, threads=workers,
                new_spool=lambda: FileSpool(target.path.parent), options=tree,
                found=findings.append if found is None else found,
                report=options.get("report", silent),
            )  # fmt: skip
        except BaseException:
            target.discard()
            raise
    return _packed(result, findings)


def _facts(paths: Sequence[str], given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the facts that were given; else those that the command notes too."""
    if given is not None:
        try:
            json.dumps(dict(given))
        except (TypeError, ValueError) as error:
            raise BadUseError(f"the facts are no JSON values: {error}") from None
        return given
    shown = [os.fsencode(os.path.abspath(path)).decode(errors="replace") for path in paths]
    return {
        "host": os.uname().nodename,
        "source": {"paths": shown, "type": "tree"},
        "writer": f"onggi {__version__}",
    }


def _packed(result: TreePackResult, findings: Sequence[Finding]) -> Packed:
    header, footer = result.header, result.footer
    return Packed(
        uuid=header.uuid,
        created_ns=header.created_ns,
        archive_digest=footer.digest,
        entries=footer.member_count,
        content_bytes=footer.content_bytes,
        archive_bytes=footer.archive_bytes,
        sockets=result.sockets,
        findings=tuple(findings),
    )
