"""Runs a command that is short, or is made so: its time is limited, and what it says is too.

Owns: the process, its pipe, its end. Must not know what it is for. Safe in any thread.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

_MOST_SAID_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended.

    Attributes:
        code: exit code, or minus the number of the signal that ended it; None if its time was over.
        lines: the last that it said, on standard output and standard error.
    """

    code: int | None
    lines: list[str]


def run_short(
    arguments: Sequence[str],
    given: bytes,
    limit_s: float,
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    """Run a command in the folder /, until it ends or its time is over.

    Then it is killed, with all processes that it started and that are still in its process group.
    What a command that ends leaves in the background may stay.

    Args:
        arguments: program, and its arguments.
        given: its standard input.
        limit_s: its time.
        environment: of the command; None for that of this process.

    Raises:
        OSError: it can't be started.
    """
    end_s = time.monotonic() + limit_s
    stdin = os.memfd_create("input")  # whoever does not read it blocks nobody
    try:
        with os.fdopen(os.dup(stdin), "wb") as file:
            file.write(given)
        os.lseek(stdin, 0, os.SEEK_SET)
        process = subprocess.Popen(
            arguments, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/",
            env=environment, start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(stdin)
    with process:
        try:
            is_over, said = _listen(process, end_s)
        except BaseException:
            _kill(process)
            raise
        if not is_over:
            _kill(process)
    lines = said.decode(errors="replace").splitlines()
    return Outcome(process.returncode if is_over else None, lines)


def _listen(process: subprocess.Popen[bytes], end_s: float) -> tuple[bool, bytes]:
    """Wait for the end; return whether it came in time, and the last that was said.

    The pipe's end is not the process's: one may close it, or leave it to another process.
    """
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    os.set_blocking(pipe, False)
    said, is_over = b"", False
    handle = os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(handle, selectors.EVENT_READ)
            selector.register(pipe, selectors.EVENT_READ)
            while not is_over and (left_s := end_s - time.monotonic()) > 0:
                ready = {key.fd for key, _ in selector.select(left_s)}
                is_over = handle in ready
                if pipe in ready:
                    with suppress(BlockingIOError):
                        piece = os.read(pipe, _MOST_SAID_BYTES)  # all that a pipe holds
                        said = (said + piece)[-_MOST_SAID_BYTES:]
                        if not piece:
                            selector.unregister(pipe)
    finally:
        os.close(handle)
    return is_over, said


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
