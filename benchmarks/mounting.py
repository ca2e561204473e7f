"""Mount something on a folder for one run of a command, and tell what the process behind it took.

Owns the life of a mount: that nothing is mounted before, that it is up, which process serves it,
and that it is gone afterwards, whatever happens. Knows nothing about archives. One mount at a time.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from harness import CommandError, environment

_UP_S = 60.0
_BUSY_S = 5.0
_GONE_S = 20.0
_POLL_S = 0.01


@dataclasses.dataclass(frozen=True, slots=True)
class DaemonUse:
    """What the process behind a mount took: CPU since the mount was up, peak memory since ever."""

    user_s: float
    system_s: float
    peak_bytes: int


class MountPlace:
    """A folder that one thing after the other is mounted on.

    As a context manager it unmounts at the end. Nobody else may use the folder meanwhile: whoever
    has a file open there can't be told from the command that is measured.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._daemons: list[int] = []
        self._before = (0.0, 0.0)

    def __enter__(self) -> MountPlace:
        # A run that was killed may have left one.
        self.unmount()
        self.folder.mkdir(exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.unmount()
        with suppress(OSError):
            self.folder.rmdir()

    def mount(self, argv: Sequence[str]) -> None:
        """Run a command that mounts on the folder and returns; then wait until it is up.

        Raises `CommandError` if it fails, or if no process that serves the mount can be found.
        """
        self.unmount()
        # No pipe: a daemon that keeps its standard error would never let it end.
        with tempfile.TemporaryFile() as stderr:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
                env=environment(),
            )  # fmt: skip
            stderr.seek(0)
            said = stderr.read().decode(errors="replace")
        if done.returncode:
            raise CommandError(" ".join(argv), done.returncode, said)
        if not _wait(lambda: os.path.ismount(self.folder), _UP_S):
            raise CommandError(" ".join(argv), 0, f"nothing is mounted on {self.folder}\n{said}")
        self._daemons = list(_serving(self.folder))
        if not self._daemons:
            raise CommandError(" ".join(argv), 0, "no process that serves the mount was found")
        self._before = self._seconds()

    def use(self) -> DaemonUse:
        """Return what the process behind the mount has taken so far.

        Raises `CommandError` if it has ended: then it has crashed.
        """
        try:
            user_s, system_s = self._seconds()
            peak_bytes = max(map(_peak_bytes, self._daemons))
        except OSError:
            text = "the process behind the mount has ended"
            raise CommandError(f"mount on {self.folder}", 0, text) from None
        return DaemonUse(user_s - self._before[0], system_s - self._before[1], peak_bytes)

    def unmount(self) -> None:
        """Unmount whatever is on the folder, and wait until the process behind it has ended.

        What is in use is taken away nevertheless: that happens where a command was interrupted.
        Raises `CommandError` if it can't be unmounted.
        """
        start = time.monotonic()
        while is_mounted(self.folder):
            waited_s = time.monotonic() - start
            said = _unmount(self.folder, lazy=waited_s > _BUSY_S)
            if not is_mounted(self.folder):
                break
            if waited_s > 2 * _BUSY_S:
                raise CommandError(f"unmount {self.folder}", 1, said)
            time.sleep(_POLL_S)
        daemons, self._daemons = self._daemons, []
        if daemons and not _wait(lambda: not any(map(_is_alive, daemons)), _GONE_S):
            for pid in filter(_is_alive, daemons):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _seconds(self) -> tuple[float, float]:
        both = [_seconds(pid) for pid in self._daemons]
        return sum(user_s for user_s, _ in both), sum(system_s for _, system_s in both)


def is_mounted(folder: Path) -> bool:
    """Tell whether something is mounted on a folder, also where the process behind it has died."""
    wanted = os.fspath(folder)
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    places = (line.split(b" ")[4].decode("unicode_escape").encode("latin-1") for line in lines)
    return os.fsencode(wanted) in places


def _unmount(folder: Path, *, lazy: bool) -> str:
    """Try to unmount; return what the program says about it."""
    if os.geteuid():
        argv = ["fusermount3", "-u", *(["-z"] if lazy else [])]
    else:
        argv = ["umount", *(["-l"] if lazy else [])]
    done = subprocess.run([*argv, "--", os.fspath(folder)], capture_output=True, text=True)
    return done.stderr


def _serving(folder: Path) -> Iterator[int]:
    """Yield the processes that have /dev/fuse open and were told of this very folder."""
    wanted = os.fsencode(folder)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if wanted not in (process / "cmdline").read_bytes().split(b"\0"):
                continue
            if any(os.readlink(fd) == "/dev/fuse" for fd in (process / "fd").iterdir()):
                yield int(process.name)
        except OSError:  # it has ended meanwhile, or is another user's
            continue


def _is_alive(pid: int) -> bool:
    """Tell whether a process still runs; one that only waits to be reaped does not."""
    try:
        state = _stat_fields(pid)[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def _seconds(pid: int) -> tuple[float, float]:
    """Return the user and system time of a process, of all its threads."""
    fields = _stat_fields(pid)
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    return int(fields[11]) * tick_s, int(fields[12]) * tick_s


def _stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; the name before may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise CommandError(f"process {pid}", 0, "its peak memory can't be told")


def _wait(until: Callable[[], bool], most_s: float) -> bool:
    """Wait until something holds; tell whether it does."""
    give_up = time.monotonic() + most_s
    while not until():
        if time.monotonic() > give_up:
            return False
        time.sleep(_POLL_S)
    return True
