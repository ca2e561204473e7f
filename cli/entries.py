"""Entries as people and programs see them: a line as of `ls -l`, a JSON object."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ..archive import layout
from ..archive.entry import TYPE_WORDS, Entry
from ..archive.tree import Tree

_STAT_KINDS = {
    layout.ENTRY_FILE: stat.S_IFREG,
    layout.ENTRY_DIRECTORY: stat.S_IFDIR,
    layout.ENTRY_SYMLINK: stat.S_IFLNK,
    layout.ENTRY_CHARACTER_DEVICE: stat.S_IFCHR,
    layout.ENTRY_BLOCK_DEVICE: stat.S_IFBLK,
    layout.ENTRY_FIFO: stat.S_IFIFO,
}
_NS = 10**9


def entry_facts(tree: Tree, entry: Entry, path: bytes) -> dict[str, Any]:
    """Return what is known of an entry, as JSON values; a hard link as what it names.

    Raises:
        DamagedError: the catalogue is damaged.
    """
    primary = tree.primary(entry)
    facts: dict[str, Any] = {
        "path": os.fsdecode(path),
        "kind": TYPE_WORDS[primary.type],
        "mode": primary.mode,
        "uid": primary.uid,
        "gid": primary.gid,
        "mtime_ns": primary.mtime_ns,
        "member_bytes": primary.member_bytes,
        "file_flags": primary.file_flags,
        "link_count": primary.link_count,
        "attributes": {os.fsdecode(name): value.hex() for name, value in tree.attributes(primary)},
        "changed": bool(primary.flags & layout.FLAG_CHANGED),
        "incomplete": bool(primary.flags & layout.FLAG_INCOMPLETE),
        "sparse": primary.is_mapped,
        "shared": bool(primary.flags & layout.FLAG_SHARED),
    }
    if primary is not entry:
        facts["hard_link_to"] = os.fsdecode(tree.path(primary))
    if primary.type == layout.ENTRY_SYMLINK:
        facts["target"] = os.fsdecode(tree.target(primary))
    if primary.is_device:
        facts["device"] = [primary.first, primary.total]
    return facts


def long_line(
    tree: Tree, entry: Entry, path: bytes, owners: Mapping[tuple[int, int], bytes]
) -> str:
    """Return the line of `ls -l`.

    Raises:
        DamagedError: the catalogue is damaged.
    """
    primary = tree.primary(entry)
    mode = stat.filemode(_STAT_KINDS[primary.type] | primary.mode)
    acl = any(name.startswith(b"system.posix_acl") for name, _ in tree.attributes(primary))
    user = _owner(owners, layout.OWNER_USER, primary.uid)
    group = _owner(owners, layout.OWNER_GROUP, primary.gid)
    size = str(primary.member_bytes)
    if primary.is_device:
        size = f"{primary.first}, {primary.total}"
    arrow = ""
    if primary.type == layout.ENTRY_SYMLINK:
        arrow = f" -> {os.fsdecode(tree.target(primary))}"
    return (
        f"{mode}{'+' if acl else ' '} {primary.link_count:>2} {user:<8} {group:<8} {size:>12} "
        f"{_time(primary.mtime_ns)} {os.fsdecode(path)}{arrow}"
    )


def _owner(owners: Mapping[tuple[int, int], bytes], kind: int, number: int) -> str:
    name = owners.get((kind, number))
    return str(number) if name is None else os.fsdecode(name)


def _time(ns: int) -> str:
    try:
        return datetime.fromtimestamp(ns // _NS).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, OSError, ValueError):  # beyond what a calendar has
        return f"{ns // _NS:>16}"
