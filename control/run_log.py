"""What a run said while it was at work, for those who want to know why.

Owns: STATE/logs/RUN.jsonl: an object a line, and how long it may get. Must not know what is in it,
but for the keys that every line has. A log belongs to one thread; `read_log` may be called in any,
while it is written.

    {"time_s": 1795550400.25, "step": "pack", "stream": "event", "type": "finding", ...}
    {"time_s": 1795550401.5, "step": "pack", "stream": "stderr", "text": "onggi: warning: ..."}

`stream` is event (what a command told as JSON: its keys follow), stderr, or master (what those who
run it have to tell). What is no JSON has `text`.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

MOST_BYTES = 16 << 20
MOST_LOGS = 2000  # of the newest runs
_MOST_TEXT = 4096  # characters
_RESERVE_BYTES = 1 << 20
_READ_BYTES = 256 << 10
EVENT, STDERR, MASTER = "event", "stderr", "master"


def log_path(logs: Path, run_id: int) -> Path:
    """Return the path of the log of a run."""
    return logs / f"{run_id}.jsonl"


class RunLog:
    """The log of a run, to which is written. That it can't be written stops no work.

    Args:
        path: of the file, which is made, or written on.
        most_bytes: how long it may get; the last word says that it is full.
    """

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._fd: int | None = None
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(path, flags, 0o600)
            self._bytes = os.fstat(self._fd).st_size
            # A line that a crash has cut short must not spoil the next one.
            if self._bytes and os.pread(self._fd, 1, self._bytes - 1) != b"\n":
                self._append(b"\n")
        except OSError:
            self.close()
        self._is_full = False

    def event(self, step: str, record: dict[str, Any], *, matters: bool = False) -> None:
        """Add an object that a command told; one that matters finds place in a full log too."""
        self._write(step, EVENT, record, matters)

    def text(self, step: str, stream: str, text: str, *, matters: bool = False) -> None:
        """Add a line of text, the end of which is cut off if it is very long."""
        self._write(step, stream, {"text": text[:_MOST_TEXT]}, matters)

    def close(self) -> None:
        """Close the file; what comes after is lost."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _write(self, step: str, stream: str, facts: dict[str, Any], matters: bool) -> None:
        if self._fd is None:
            return
        room = self._most_bytes + (_RESERVE_BYTES if matters else 0) - self._bytes
        line = _line(step, stream, facts)
        try:
            if len(line) <= room and (matters or not self._is_full):
                self._append(line)
            elif not self._is_full:
                self._is_full = True
                text = "the log is full: what is not of importance is left out from here on"
                self._append(_line(step, MASTER, {"text": text}))
        except OSError:  # a full disk, say
            self.close()

    def _append(self, data: bytes) -> None:
        if self._fd is not None:
            self._bytes += os.write(self._fd, data)


def remove_old_logs(logs: Path, newest_run: int, most: int = MOST_LOGS) -> None:
    """Remove the logs of runs that are older than the newest so many."""
    with suppress(OSError):
        for path in logs.iterdir():
            if path.stem.isdecimal() and int(path.stem) <= newest_run - most:
                path.unlink()


def read_log(path: Path, start: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Return lines of a log, and where the next ones start.

    Args:
        path: of the log; one that does not exist is empty.
        start: where to start, in bytes: 0, or what was returned before.

    Returns:
        At most so many lines as are in 256 KiB, or the one that is longer; whole ones only.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(_READ_BYTES)
            if b"\n" not in data:
                data += file.readline()
    except (OSError, ValueError):
        return [], start
    data = data[: data.rfind(b"\n") + 1]
    lines: list[dict[str, Any]] = []
    for line in data.split(b"\n"):
        with suppress(ValueError, RecursionError):  # cut short by a crash
            if line.startswith(b"{"):
                lines.append(json.loads(line))
    return lines, start + len(data)


def _line(step: str, stream: str, facts: dict[str, Any]) -> bytes:
    known = {"time_s": round(time.time(), 3), "step": step, "stream": stream}
    return json.dumps(known | facts | known).encode() + b"\n"  # ours stand first, and count
