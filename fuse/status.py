"""What `stat` tells of something, as the bytes that the kernel's library takes as they are.

Owns: the layout of struct stat on this machine, and what an entry looks like there. Must not know
paths, nor how anything is stored. Safe in many threads.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import NamedTuple

import mfusepy

from ..archive import layout
from ..archive.entry import Entry

STATUS_BYTES = 144  # no struct stat of Linux is longer
BLOCK_BYTES = 512  # what st_blocks counts in
BEST_READ_BYTES = 131_072
_NS = 10**9

_TYPES: Mapping[int, int] = {
    layout.ENTRY_FILE: stat.S_IFREG,
    layout.ENTRY_DIRECTORY: stat.S_IFDIR,
    layout.ENTRY_SYMLINK: stat.S_IFLNK,
    layout.ENTRY_CHARACTER_DEVICE: stat.S_IFCHR,
    layout.ENTRY_BLOCK_DEVICE: stat.S_IFBLK,
    layout.ENTRY_FIFO: stat.S_IFIFO,
}


class Owners(NamedTuple):
    """Who owns everything; None for those that the archive has."""

    uid: int | None = None
    gid: int | None = None


class Status(NamedTuple):
    """The fields of struct stat that differ; lengths in bytes, times in ns."""

    inode: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    links: int = 1
    size: int = 0
    data_bytes: int = 0
    device: int = 0


def _packing() -> tuple[struct.Struct, Callable[[tuple[int, ...]], tuple[int, ...]]]:
    """Return how struct stat is packed here, and what puts the values below into its order."""
    places: list[tuple[int, int, int]] = []
    for number, name in enumerate(_FIELDS):
        field = getattr(mfusepy.c_stat, name)
        places.append((field.offset, field.size, number))
    for name in ("st_atimespec", "st_mtimespec", "st_ctimespec"):
        field = getattr(mfusepy.c_stat, name)
        half = field.size // 2
        places += [(field.offset, half, _SECONDS), (field.offset + half, half, _SECONDS + 1)]
    text, at = "=", 0
    for offset, size, number in sorted(places):
        text += f"{offset - at}x" + {4: "I", 8: "q" if number >= _SECONDS else "Q"}[size]
        at = offset + size
    order = itemgetter(*(number for _, _, number in sorted(places)))
    return struct.Struct(f"{text}{STATUS_BYTES - at}x"), order


_FIELDS = (
    "st_ino", "st_mode", "st_uid", "st_gid", "st_nlink", "st_size", "st_blocks", "st_blksize",
    "st_rdev",
)  # fmt: skip
_SECONDS = len(_FIELDS)
_STAT, _in_order = _packing()


def pack_status(status: Status) -> bytes:
    """Return a struct stat, filled up with zeros; access and change are as old as the content."""
    inode, mode, uid, gid, mtime_ns, links, size, data_bytes, device = status
    values = (
        inode, mode, uid, gid, links, size, -(-data_bytes // BLOCK_BYTES), BEST_READ_BYTES, device,
        *divmod(mtime_ns, _NS),
    )  # fmt: skip
    return _STAT.pack(*_in_order(values))


def entry_status(entry: Entry, inode: int, data_bytes: int, owners: Owners) -> bytes:
    """Return the struct stat of an entry.

    Args:
        entry: it; no hard link.
        inode: its number.
        data_bytes: length of a file without its holes.
        owners: who owns it.
    """
    kind = entry.type
    uid, gid = owners
    return pack_status(
        Status(
            inode,
            _TYPES[kind] | entry.mode,
            entry.uid if uid is None else uid,
            entry.gid if gid is None else gid,
            entry.mtime_ns,
            entry.link_count,
            entry.member_bytes,  # 0 for all but files and links
            data_bytes,
            os.makedev(entry.first, entry.total) if entry.is_device else 0,
        )
    )
