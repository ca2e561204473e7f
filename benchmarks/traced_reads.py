"""Count what a command reads from one file, by its system calls.

Owns the call of `strace` and the reading of its output. A count, not a measurement of time: traced
programs are slow. Covers what `TRACED` lists; a mapping counts in full, whether its pages are
touched or not.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness import CommandError

TRACED = "read,pread64,readv,preadv,preadv2,mmap,sendfile,splice,copy_file_range"

# `PID CALL(ARGS) = RESULT`, and the two halves of a call that another thread's call interrupts.
_CALL = re.compile(r"(?P<call>\w+)\((?P<args>.*)\)\s+= (?P<result>-?\w+)")
_MMAP_LENGTH = re.compile(r"[^,]*, (\d+),")


@dataclasses.dataclass(frozen=True, slots=True)
class Reads:
    """What was read from the file, in how many calls, and the command's standard output."""

    read_bytes: int
    calls: int
    stdout: bytes


def count_reads(argv: Sequence[str], path: Path) -> Reads:
    """Run a command under `strace` and add up what it and its descendants read from a file.

    Raises `CommandError` if the exit code is not 0 (strace passes the command's on).
    """
    with tempfile.NamedTemporaryFile(prefix="strace-") as log:
        options = ("-f", "-y", "-s", "0", "-e", f"trace={TRACED}", "-o", log.name)
        done = subprocess.run(["strace", *options, "--", *argv], capture_output=True)
        if done.returncode:
            error = done.stderr.decode(errors="replace")
            raise CommandError(f"strace {' '.join(argv)}", done.returncode, error)
        lines = Path(log.name).read_text(errors="surrogateescape").splitlines()
    read_bytes = calls = 0
    # strace names the file behind a descriptor as `3</path>`.
    wanted = re.compile(rf"\b\d+<{re.escape(str(path.resolve()))}>")
    for line in _whole_calls(lines):
        match = _CALL.match(line)
        if match is None or not wanted.search(match["args"]) or match["result"].startswith("-"):
            continue
        calls += 1
        if match["call"] == "mmap":
            length = _MMAP_LENGTH.match(match["args"])
            read_bytes += int(length[1]) if length else 0
        else:
            read_bytes += int(match["result"])
    return Reads(read_bytes, calls, done.stdout)


def _whole_calls(lines: Iterable[str]) -> Iterable[str]:
    """Drop the process ids, and put the halves of interrupted calls together."""
    begun: dict[str, str] = {}
    for line in lines:
        pid, _, rest = line.partition(" ")
        rest = rest.lstrip()
        if rest.endswith("<unfinished ...>"):
            begun[pid] = rest.removesuffix("<unfinished ...>")
        elif rest.startswith("<..."):
            yield begun.pop(pid, "") + rest.partition("resumed>")[2]
        else:
            yield rest
