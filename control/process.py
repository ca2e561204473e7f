"""Processes that another one left behind: which they are, and how they are ended.

Owns: what tells a process from a later one with the same number; ending one that is no child of
ours. Must not know what it does. For asyncio.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_LOOK_EVERY_S = 0.05
_UNTIL_KILLED_S = 10.0  # what the kernel may take; more only if it waits for a disk


@dataclass(frozen=True, slots=True)
class Identity:
    """A process: numbers come again, but not with the same start in the same boot.

    Attributes:
        pid: its number, and that of its group.
        start_ticks: when it started, in clock ticks since the system did (proc(5)).
        boot: the kernel's name for the time since the system started.
    """

    pid: int
    start_ticks: int
    boot: str


def identity_of(pid: int) -> Identity | None:
    """Return the identity of a process that there is, even if it is dead and not yet buried."""
    found = _stat(pid)
    return None if found is None else Identity(pid, int(found[19]), _boot())


def is_running(identity: Identity) -> bool:
    """Tell whether there is this very process, and it is not dead."""
    found = _stat(identity.pid)
    if found is None or found[0] in (b"Z", b"X") or identity.pid == os.getpid():
        return False
    return int(found[19]) == identity.start_ticks and _boot() == identity.boot


async def end(identity: Identity, grace_s: float) -> bool:
    """End a process and its group, if it is still there; return whether it is gone.

    Args:
        identity: which.
        grace_s: how long it may take to end well; then it is killed.
    """
    for number, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, _UNTIL_KILLED_S)):
        if not is_running(identity):
            return True
        signal_group(identity.pid, number)
        signal_group(identity.pid, signal.SIGCONT)  # one that was stopped would not hear
        loop = asyncio.get_running_loop()
        until_s = loop.time() + patience_s
        while is_running(identity) and loop.time() < until_s:
            await asyncio.sleep(_LOOK_EVERY_S)
    return not is_running(identity)


def signal_group(pid: int, number: int) -> None:
    """Send a signal to the group of a process that leads one; nothing happens if it does not."""
    found = _stat(pid)
    if pid > 1 and found is not None and int(found[2]) == pid:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)


def _stat(pid: int) -> list[bytes] | None:
    """Return the fields of proc(5) from the state on, or None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name before is in parentheses, and may hold anything.
    return text[text.rindex(b")") + 2 :].split()


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
