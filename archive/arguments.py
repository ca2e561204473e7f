"""Arguments of the library: paths as Python code has them, and how many threads do the work.

Owns: what is taken for an argument, and what that means. Safe in any thread.
"""

from __future__ import annotations

import os

from .errors import BadUseError

AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
"""A path; as text it may hold what `os.fsdecode` makes of bytes that are no UTF-8."""


def path_bytes(path: AnyPath) -> bytes:
    """Return a path as the bytes that a file system has.

    Raises:
        BadUseError: it has a character that no path can have.
    """
    try:
        return os.fsencode(path)
    except UnicodeEncodeError:
        raise BadUseError(f"{path!r} can't be a path") from None


def system_path(path: AnyPath) -> str:
    """Return a path of this system as text.

    Raises:
        BadUseError: no path can be like this.
    """
    raw = path_bytes(path)
    if not raw or b"\0" in raw:
        raise BadUseError(f"{path!r} can't be a path")
    return os.fsdecode(raw)


def worker_count(threads: int | None) -> int:
    """Return how many threads do the work: as many as asked for, or as there are processors.

    Raises:
        BadUseError: not even one was asked for.
    """
    if threads is None:
        return len(os.sched_getaffinity(0))
    if threads < 1:
        raise BadUseError(f"{threads} threads can't do anything")
    return threads
