"""Decode all frames of an archive in threads, and tell how long that took.

The upper limit of what a mount can give: the same frames, read from the page cache, decoded and
their digests checked by the same code, and then thrown away. Runs as a process of its own, so that
its memory and threads are not the harness's; times leave out its start.

    python benchmarks/decode_frames.py corpus.onggi --threads 2
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from onggi.archive.errors import DamagedError
from onggi.archive.reader import Archive, UnitReader
from onggi.archive.store import FileStore


class _Decoder:
    """Decodes units of one archive; safe in many threads, each of which has its own reader."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._local = threading.local()

    def __call__(self, number: int) -> int:
        """Decode a unit and return the length of its content; raises `DamagedError`."""
        try:
            reader: UnitReader = self._local.reader
        except AttributeError:
            reader = self._local.reader = UnitReader(self._archive)
        content_bytes = 0
        for _, length, content in reader.contents(self._archive.index.unit(number)):
            if isinstance(content, DamagedError):
                raise content
            content_bytes += length
        return content_bytes


def decode(path: Path, threads: int) -> dict[str, float]:
    """Decode an archive; return seconds, CPU seconds, and the content length in bytes."""
    with FileStore(path) as store:
        archive = Archive(store)
        before = os.times()
        start = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            content_bytes = sum(pool.map(_Decoder(archive), range(archive.index.unit_count)))
        wall_s = time.perf_counter() - start
        after = os.times()
    return {
        "wall_s": wall_s,
        "user_s": after.user - before.user,
        "system_s": after.system - before.system,
        "content_bytes": content_bytes,
    }


def main() -> int:
    """Decode, and print what was measured as JSON."""
    parser = argparse.ArgumentParser(description="Decode all frames of an archive.")
    parser.add_argument("archive", type=Path)
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--out", type=Path, help="also write it to this file")
    args = parser.parse_args()
    text = json.dumps(decode(args.archive, args.threads))
    print(text)
    if args.out is not None:
        args.out.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
