"""An agent: one command of Onggi at work as a process, and what it tells.

Owns: the process, its group and its pipes, how it is started and ended, and the reading of what it
writes. Must not know runs, targets or what follows from an end. For asyncio. `start` must be called
in a thread that lives as long as the process shall: the bond of `launch` is to that thread.

What a command writes is read as something that anybody may have written: in any amount, of any
length, or nothing at all.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from .errors import StateError
from .messages import Step
from .process import Identity, identity_of
from .run_log import EVENT, STDERR, RunLog

_CHUNK_BYTES = 64 << 10
_MOST_LINE_BYTES = 1 << 20
_MOST_SAID = 1000  # characters
_EVERY_S = 1.0
SEVERITIES = ("damage", "difference", "warning")  # the worst first
_LAUNCH = Path(__file__).with_name("launch.py")


@dataclass(slots=True)
class StepEnd:
    """How a command ended.

    Attributes:
        exit_code: None if a signal has ended it.
        signal: that one.
        result: its result object; None if it told none.
        error: what it told that went wrong; empty if it told nothing.
        said: the last line of standard error.
        findings: how many findings there were of each severity.
        first: what the first of the worst findings says.
        was_killed: whether it did not end when it was told to.
    """

    exit_code: int | None = None
    signal: int | None = None
    result: dict[str, Any] | None = None
    error: str = ""
    said: str = ""
    findings: Counter[str] = field(default_factory=Counter[str])
    first: str = ""
    was_killed: bool = False


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds.

    Attributes:
        grace_s: for a process that was told to end, until it is killed.
        drain_s: for the rest of what a process wrote that has ended: others may hold its pipes.
    """

    grace_s: float = 30.0
    drain_s: float = 5.0


class Agent:
    """Runs one step.

    Args:
        command: what `onggi` is run as; not relative to a folder.
        step: what to run.
        log: takes what it writes.
        hear: takes its progress objects, at most one a second.
        is_nice: whether it stands back behind other processes.
        patience: how long to wait.
    """

    def __init__(
        self,
        command: Sequence[str],
        step: Step,
        log: RunLog,
        hear: Callable[[dict[str, Any]], None],
        *,
        is_nice: bool = False,
        patience: Patience | None = None,
    ) -> None:
        self._words = [*command, *step.arguments, "--json"]
        self._step = step
        self._log = log
        self._hear = hear
        self._is_nice = is_nice
        self._patience = patience or Patience()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_cancelled = False
        self._kill_timer: asyncio.TimerHandle | None = None
        self._latest: dict[str, Any] | None = None
        self._tell_timer: asyncio.TimerHandle | None = None
        self._next_s = 0.0
        self._end = StepEnd()

    def start(self) -> Identity:
        """Start the process, which does nothing yet; return its identity. `run` must follow.

        Raises:
            StateError: it can't be started.
        """
        nice = "1" if self._is_nice else "0"
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_LAUNCH), nice, *self._words],
                bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe, cwd="/", start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:  # a NUL in an argument
            raise StateError(f"can't start {self._step.name}: {error}") from None
        found = identity_of(self._process.pid)
        if found is None:  # a child is there until it is waited for, so /proc is not
            self._signal(signal.SIGKILL)
            self._process.communicate()
            raise StateError(f"can't start {self._step.name}: /proc can't be read")
        return found

    def cancel(self) -> None:
        """Have the process end: well if it can, or else after a time. May be called at any time."""
        if self._is_cancelled:
            return
        self._is_cancelled = True
        if self._process is None or self._process.returncode is not None:
            return
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # one that was stopped would not hear
        loop = asyncio.get_running_loop()
        self._kill_timer = loop.call_later(self._patience.grace_s, self._kill)

    async def run(self) -> StepEnd:
        """Let the process begin, and wait for its end. If this is cancelled, it is killed."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        readers: list[asyncio.Task[None]] = []
        try:
            _when_dead(process.pid, exited)
            for pipe, take in ((process.stdout, self._take), (process.stderr, self._take_stderr)):
                readers.append(asyncio.create_task(_each_line(pipe, take)))
                readers[-1].add_done_callback(partial(_pass_on, exited))
            if not self._is_cancelled:
                with suppress(OSError):  # it is dead already
                    process.stdin.write(b"\n")
            process.stdin.close()
            await exited
            self._signal(signal.SIGKILL)  # what it has left behind in its group
            await asyncio.wait(readers, timeout=self._patience.drain_s)
        finally:
            self._signal(signal.SIGKILL)
            for timer in (self._kill_timer, self._tell_timer):
                if timer is not None:
                    timer.cancel()
            for reader in readers:
                reader.cancel()
            process.wait()  # it is dead, or as good as dead
            await asyncio.gather(*readers, return_exceptions=True)
            await asyncio.sleep(0)  # what reads the pipes has let go of them then
            for pipe in (process.stdin, process.stdout, process.stderr):
                pipe.close()
        code = process.returncode
        self._end.exit_code, self._end.signal = (code, None) if code >= 0 else (None, -code)
        return self._end

    async def abandon(self) -> None:
        """End a process that was started, and is not to run."""
        self._is_cancelled = True
        await self.run()

    def _signal(self, number: int) -> None:
        """Send a signal to the group, whose number is not given to others before `wait`."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _kill(self) -> None:
        self._end.was_killed = True
        self._signal(signal.SIGKILL)

    def _take(self, line: bytes) -> None:
        """Take a line of standard output."""
        record = _record(line)
        if record is None:
            self._log.text(self._step.name, EVENT, line.decode(errors="replace"))
            return
        kind = record.get("type")
        if kind == "progress":
            self._progress(record)
            return
        if kind == "result":
            self._end.result = record
        elif kind == "error":
            self._end.error = one_line(record.get("message")) or "it does not say why"
        elif kind == "finding":
            self._finding(record)
        self._log.event(self._step.name, record, matters=kind in ("result", "error"))

    def _take_stderr(self, line: bytes) -> None:
        text = line.decode(errors="replace")
        self._end.said = one_line(text)
        self._log.text(self._step.name, STDERR, text)

    def _finding(self, record: dict[str, Any]) -> None:
        severity = record.get("severity")
        if severity not in SEVERITIES:
            severity = SEVERITIES[-1]
        findings = self._end.findings
        if not any(findings[worse] for worse in SEVERITIES[: SEVERITIES.index(severity) + 1]):
            self._end.first = one_line(record.get("message"))
        findings[severity] += 1

    def _progress(self, record: dict[str, Any]) -> None:
        """Tell the latest progress, now or a second after the one before."""
        self._latest = record
        if self._tell_timer is None:
            loop = asyncio.get_running_loop()
            self._tell_timer = loop.call_at(max(loop.time(), self._next_s), self._tell)

    def _tell(self) -> None:
        self._tell_timer = None
        self._next_s = asyncio.get_running_loop().time() + _EVERY_S
        if self._latest is not None:
            self._hear(self._latest)


def one_line(text: object) -> str:
    """Return what may be any text as a line for people; empty if it is no text."""
    if not isinstance(text, str):
        return ""
    return "".join(each if each.isprintable() else "?" for each in text[:_MOST_SAID]).strip()


def _record(line: bytes) -> dict[str, Any] | None:
    """Return the object that a line is, or None if it is none."""
    if not line.startswith(b"{"):
        return None
    try:
        found: dict[str, Any] = json.loads(line)  # nothing else starts like this
    except (ValueError, RecursionError):
        return None
    return found


async def _each_line(pipe: IO[bytes], take: Callable[[bytes], None]) -> None:
    """Read a pipe to its end, and close it; of a line that is too long, only the start is told."""
    reader = asyncio.StreamReader(_CHUNK_BYTES)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    rest = bytearray()
    try:
        while data := await reader.read(_CHUNK_BYTES):
            *whole, start = data.split(b"\n")
            for piece in whole:
                rest += piece[: _MOST_LINE_BYTES - len(rest)]
                if rest:
                    take(bytes(rest))
                rest.clear()
            rest += start[: _MOST_LINE_BYTES - len(rest)]
        if rest:
            take(bytes(rest))
    finally:
        transport.close()


def _when_dead(pid: int, exited: asyncio.Future[None]) -> None:
    """Set a future once a child is dead, and leave it to be buried.

    A thread, since a descriptor of a process can't be had everywhere. While nobody has waited for
    the child, its number and that of its group are nobody else's, and may be sent signals.
    """
    loop = exited.get_loop()

    def told() -> None:
        if not exited.done():
            exited.set_result(None)

    def wait() -> None:
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(told)

    threading.Thread(target=wait, name=f"onggi-wait-{pid}", daemon=True).start()


def _pass_on(exited: asyncio.Future[None], reader: asyncio.Task[None]) -> None:
    """A reader that fails must not leave the process waiting for it for ever."""
    if not reader.cancelled() and (error := reader.exception()) and not exited.done():
        exited.set_exception(error)
