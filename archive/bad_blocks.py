"""Reads that go around bad blocks: one costs its 4 KiB, not all that was asked for.

Owns: what is done about a read error. Must not know what is read. Safe in many threads.
"""

from __future__ import annotations

import errno
import os

from .pace import PIECE_BYTES, Hold

PROBE_BYTES = 4096  # what one bad spot costs at least

Runs = list[tuple[int, int]]  # (offset, length) in bytes, sorted

_BAD_BLOCK = (errno.EIO, errno.EREMOTEIO, errno.ENODATA, errno.EILSEQ)


def read_around(
    fd: int, view: memoryview, offset: int, hold: Hold | None = None
) -> tuple[int, Runs]:
    """Fill `view` from `offset` of a file or device on; with `hold` in pieces, each held by it.

    Returns how many bytes there were, fewer than `view` has only where the file ends, and the runs
    that can't be read, which are zeros in `view`.

    Raises:
        OSError: reading fails in another way than by bad blocks.
    """
    done = 0
    retried = -1
    unreadable: Runs = []
    while done < len(view):
        piece = view[done:]
        if hold is not None:
            piece = piece[:PIECE_BYTES]
            hold(len(piece))
        try:
            got = os.preadv(fd, [piece], offset + done)
        except OSError as error:
            if error.errno not in _BAD_BLOCK:
                raise
            if retried != done:
                # Read-ahead fills pages of many blocks, and such a page fails as one: a good
                # block beside a bad one would be lost. So read again, block by block.
                retried = done
                _forget(fd, offset + done, len(view) - done)
                continue
            bad = _bad_run(fd, offset + done, offset + len(view))
            view[done : done + bad] = bytes(bad)
            unreadable.append((offset + done, bad))
            done += bad
            continue
        if not got:
            break
        done += got
    return done, unreadable


def _forget(fd: int, offset: int, length: int) -> None:
    """Drop cached pages of a span, and read no more ahead, so that pages are single blocks."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    os.posix_fadvise(fd, offset, length, os.POSIX_FADV_DONTNEED)


def _bad_run(fd: int, start: int, end: int) -> int:
    """Return the length of the unreadable run at `start`, which ends at `end` at the latest.

    Probes forward by doubling until a block can be read, then bisects back: 22 calls for 20 MiB.
    Good blocks between two bad probes count as bad.
    """
    last_bad, step = start, PROBE_BYTES
    while last_bad + step < end and not _is_readable(fd, last_bad + step, end):
        last_bad += step
        step *= 2
    first_good = min(last_bad + step, end)
    while first_good - last_bad > PROBE_BYTES:
        blocks = (first_good - last_bad) // PROBE_BYTES
        middle = last_bad + max(1, blocks // 2) * PROBE_BYTES
        if _is_readable(fd, middle, end):
            first_good = middle
        else:
            last_bad = middle
    return first_good - start


def _is_readable(fd: int, offset: int, end: int) -> bool:
    try:
        os.pread(fd, min(PROBE_BYTES, end - offset), offset)
    except OSError:
        return False
    return True
