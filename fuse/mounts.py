"""What is mounted on a folder, as the kernel lists it; asks nothing of what is mounted there.

Owns: the format of /proc/self/mountinfo (proc(5)). Needs no libfuse.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Mounted(NamedTuple):
    """A mount: `major:minor` of its file system, and the type of that."""

    device: str
    kind: bytes


def mounts_on(place: str) -> Iterator[Mounted]:
    """Yield the mounts on a folder, whose path has no symbolic link in it; the uppermost last."""
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        fields = line.split(b" ")
        if fields[4].decode("unicode_escape").encode("latin-1") == os.fsencode(place):
            yield Mounted(fields[2].decode(), fields[fields.index(b"-") + 1])
