"""Chooses how a source is packed: as the tree that is in it, or as the volume that it is on.

Owns: the choice of `--mode`, and its reason in words. Must not open what it chooses.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import BadUseError, SourceError
from .source import mounts_of

MANY_FILES = 200_000  # from here on, a volume is packed faster as one piece


@dataclass(frozen=True, slots=True)
class Choice:
    """What to pack.

    Attributes:
        volume: the device, image or stream to pack as a volume; None for the sources as a tree.
        reason: why, where that is not plain from what was asked for; else empty.
    """

    volume: str | None
    reason: str = ""


def choose(sources: Sequence[str], mode: str) -> Choice:
    """Choose how `sources` are packed.

    Args:
        sources: paths; `-` for standard input.
        mode: auto, tree or volume.

    Raises:
        BadUseError: the mode can't be had for these sources.
        SourceError: a source can't be looked at.
    """
    first = sources[0]
    if "-" in sources:
        if len(sources) > 1 or mode == "tree":
            raise BadUseError("standard input is packed alone, and as a volume")
        return Choice(first)
    if len(sources) > 1:
        if mode == "volume":
            raise BadUseError("a volume is packed alone; name one source")
        return Choice(None)
    try:
        found = os.stat(first)
    except OSError as error:
        raise SourceError(f"can't open {first}: {os.strerror(error.errno or 0)}") from None
    if not stat.S_ISDIR(found.st_mode):
        return Choice(None) if mode == "tree" else Choice(first)
    if mode == "tree":
        return Choice(None)
    mount = _Mount(first, found)
    if mode == "volume":
        if mount.device is None:
            raise BadUseError(f"{first} is no mount point of a device, so there is no volume")
        return Choice(mount.device, f"the volume {mount.device}, since --mode volume was asked for")
    return _automatic(first, mount)


def _automatic(path: str, mount: _Mount) -> Choice:
    if mount.device is None:
        return Choice(None)
    device = mount.device
    if mount.files <= MANY_FILES:
        return Choice(
            None,
            f"the tree: {path} has {mount.files:,} files on {device}; from {MANY_FILES:,} on the "
            "volume is faster",
        )
    if not os.access(device, os.R_OK):
        files = f"{path} has {mount.files:,} files"
        return Choice(None, f"the tree: {files}, but {device} can't be read")
    if mount.writable:
        # An image of a volume that is written to meanwhile may hold nothing that can be mounted.
        return Choice(
            None,
            f"the tree: {path} has {mount.files:,} files, for which the volume is faster, but "
            f"{device} is mounted for writing; mount it read-only, or pack a snapshot of {device}",
        )
    return Choice(
        device,
        f"the volume {device}: {path} has {mount.files:,} files, more than {MANY_FILES:,}; "
        "--mode tree packs the files",
    )


class _Mount:
    """What a folder is the mount point of, if it is one.

    Attributes:
        device: the device that is mounted there; None if there is none.
        files: inodes in use.
        writable: whether it is mounted for writing anywhere.
    """

    def __init__(self, path: str, found: os.stat_result) -> None:
        self.device: str | None = None
        self.files = 0
        self.writable = False
        if not os.path.ismount(path):
            return
        number = f"{os.major(found.st_dev)}:{os.minor(found.st_dev)}"
        name = os.path.basename(os.path.realpath(f"/sys/dev/block/{number}"))
        device = "/dev/" + name.replace("!", "/")
        try:
            mounts = mounts_of(number)
            self.writable = any(mount.writable for mount in mounts)
            # A folder of the volume that is bound elsewhere is a mount point too.
            here = os.path.realpath(path)
            whole = any(mount.place == here and mount.root == "/" for mount in mounts)
            node = os.stat(device)
            usage = os.statvfs(path)
        except OSError:
            return
        if whole and stat.S_ISBLK(node.st_mode) and node.st_rdev == found.st_dev:
            self.device = device
            self.files = usage.f_files - usage.f_ffree
