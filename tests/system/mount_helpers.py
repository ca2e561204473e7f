"""What the tests of the mount share: mounts that always go away again, and who serves them.

Nothing here knows how a mount is made. A test that hangs because of the process behind a mount is
ended by killing that process: what waits for it then gets an error.

Fixtures are imported from here as themselves (`shows as shows`): so they do not look unused.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

KIB, MIB = 1 << 10, 1 << 20
COMMAND = (sys.executable, "-m", "onggi.cli")
NOBODY = 65_534
MOST_S = 90  # of a test that mounts
LONG = bool(os.environ.get("ONGGI_LONG"))


# --- what the system says ------------------------------------------------------------------------


def mountinfo(place: Path) -> list[list[str]]:
    """Return the fields of each mount on a folder, from the lowest to the uppermost."""
    found: list[list[str]] = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        fields = line.split(b" ")
        where = fields[4]
        for code in (b" ", b"\t", b"\n", b"\\", b"#"):
            where = where.replace(b"\\%03o" % code[0], code)
        if where == os.fsencode(place):
            found.append([os.fsdecode(each) for each in fields])
    return found


def is_mounted(place: Path) -> bool:
    """Tell whether something is mounted on a folder; asks nothing of the file system there."""
    return bool(mountinfo(place))


def servers_of(place: Path) -> list[int]:
    """Return the processes that were told to mount on a folder, but for those that trace them."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if os.fsencode(place) in words and b"mount" in words and b"strace" not in words[0]:
                    found.append(int(entry.name))
    return found


def wait_for(condition: Callable[[], object], most_s: float = 15) -> bool:
    """Wait until a condition holds; tell whether it does."""
    end = time.monotonic() + most_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def error_of(action: Callable[[], object]) -> int:
    """Return the errno of what an action raises; 0 if nothing."""
    try:
        action()
    except OSError as error:
        return error.errno or -1
    return 0


def error_name(action: Callable[[], object]) -> str:
    """Return the name of the error of an action, as EIO; "" if there is none."""
    number = error_of(action)
    return errno.errorcode.get(number, str(number)) if number else ""


def run(*words: object, timeout_s: float = MOST_S, **options: Any) -> bytes:
    """Run a tool that must end with 0 and say nothing on standard error; return what it prints."""
    done = tried(*words, timeout_s=timeout_s, **options)
    assert done.returncode == 0, f"{words}: {done.returncode} {done.stderr[-2000:]!r}"
    assert not done.stderr, f"{words}: {done.stderr[-2000:]!r}"
    return done.stdout


def tried(
    *words: object, timeout_s: float = MOST_S, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run a tool, however it ends."""
    strings = [os.fspath(each) if isinstance(each, os.PathLike) else str(each) for each in words]
    return subprocess.run(
        strings, capture_output=True, check=False, timeout=timeout_s, stdin=subprocess.DEVNULL,
        **options,
    )  # fmt: skip


# --- mounts --------------------------------------------------------------------------------------


@dataclass
class Server:
    """A mount, and the process behind it."""

    place: Path
    pid: int
    log_file: Path

    @property
    def log(self) -> list[str]:
        """The lines of its log."""
        return self.log_file.read_text().splitlines() if self.log_file.exists() else []

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        with suppress(OSError):
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        return False

    @property
    def files(self) -> list[str]:
        """What its descriptors are."""
        found: list[str] = []
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(OSError):
                found.append(os.readlink(entry))
        return found

    @property
    def peak_bytes(self) -> int:
        """How much memory it had resident at most."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(text.split("VmHWM:")[1].split()[0]) * KIB

    @property
    def read_bytes(self) -> int:
        """How much it has read so far, of archives and of what the kernel asks."""
        return int(Path(f"/proc/{self.pid}/io").read_text().split("rchar:")[1].split()[0])

    def kill(self) -> None:
        """Kill the process, and wait for its end."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        assert wait_for(lambda: not self.is_alive)


@dataclass
class Shows:
    """Mounts archives on new folders, and takes all of them away again, whatever happens."""

    folder: Path
    places: list[Path] = field(default_factory=list[Path])
    children: list[subprocess.Popen[bytes]] = field(default_factory=list[Any])
    _kept: dict[Path, Server] = field(default_factory=dict[Path, Server])
    _number: int = 0
    _timer: threading.Timer | None = None
    _late: bool = False

    def __call__(self, archive: Path, *options: str, place: Path | None = None) -> Server:
        """Mount an archive with the options; it must work, and say nothing of an error."""
        server = self._place(place)
        words = ("mount", archive, server.place, "--quiet", "--log", server.log_file, *options)
        run(*COMMAND, *words, timeout_s=30)
        assert is_mounted(server.place), "it says that it is mounted, and it is not"
        pids = servers_of(server.place)
        assert len(pids) == 1, pids
        server.pid = pids[0]
        self.watch()
        return server

    def once(self, archive: Path) -> Server:
        """Mount an archive, if this was not done before; the test after this one gets the same."""
        if archive not in self._kept or not self._kept[archive].is_alive:
            self._kept[archive] = self(archive)
        self.watch()
        return self._kept[archive]

    def in_foreground(
        self, archive: Path, *options: str, prefix: tuple[str, ...] = ()
    ) -> tuple[Server, subprocess.Popen[bytes]]:
        """Mount with `--foreground`; return once the mount is up. With `prefix`, the process is of
        the program that is put before.
        """
        server = self._place(None)
        words = ("mount", archive, server.place, "--foreground", "--log", server.log_file)
        child = subprocess.Popen(
            [*prefix, *COMMAND, *words, *options], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.children.append(child)
        assert wait_for(lambda: is_mounted(server.place) or child.poll() is not None, 30)
        assert child.poll() is None, child.stderr and child.stderr.read()
        server.pid = child.pid
        self.watch()
        return server, child

    def expect(self, place: Path) -> Path:
        """Take away what will be mounted on a folder, too."""
        self.places.append(place)
        return place

    def umount(self, server: Server) -> None:
        """Unmount as people do; the process must end."""
        run(*COMMAND, "umount", server.place, timeout_s=30)
        assert not is_mounted(server.place)
        assert wait_for(lambda: not server.is_alive), "the process goes on"

    def watch(self, most_s: float = MOST_S) -> None:
        """Kill all that serves a mount, unless this is called again in time."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(most_s, self._end_all)
        self._timer.daemon = True
        self._timer.start()

    def close(self) -> None:
        """Take all mounts away."""
        if self._timer is not None:
            self._timer.cancel()
        for place in reversed(self.places):
            take_away(place)
        for child in self.children:
            with suppress(subprocess.TimeoutExpired):
                child.wait(5)
            child.kill()
            child.communicate()
        assert not self._late, f"something hung for {MOST_S} s"

    def _place(self, place: Path | None) -> Server:
        self._number += 1
        chosen = self.folder / f"shown-{self._number}" if place is None else place
        chosen.mkdir(exist_ok=True)
        self.places.append(chosen)
        return Server(chosen, 0, self.folder / f"log-{self._number}")

    def _end_all(self) -> None:
        self._late = True
        for place in self.places:
            for pid in servers_of(place):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def take_away(place: Path) -> None:
    """Unmount all that is mounted on a folder, now, and end the processes behind it."""
    for _ in range(10):
        if not is_mounted(place):
            break
        subprocess.run(["umount", "-l", place], check=False, capture_output=True, timeout=30)
    if not wait_for(lambda: not servers_of(place), 5):
        for pid in servers_of(place):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not servers_of(place), 5)
    assert not is_mounted(place)


@pytest.fixture
def shows(tmp_path: Path) -> Iterator[Shows]:
    """Mounts of one test; ask for them before `loops` and `mounts`, which may stand on them."""
    made = Shows(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shows]:
    """Mounts that stay for all tests of a module."""
    made = Shows(tmp_path_factory.mktemp("kept"))
    yield made
    made.close()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that anyone may enter: pytest's own are root's alone. Ask for it before `shows`."""
    folder = Path(tempfile.mkdtemp(prefix="onggi-mount-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


# --- other users ---------------------------------------------------------------------------------

# All of Onggi, and what it imports late, is imported before the rights go: the interpreter may
# stand where only root can read.
_AS_USER = """
import codecs, ctypes, difflib, importlib, os, pkgutil, sys, syslog, tempfile
import onggi, onggi.archive, onggi.cli, onggi.fuse
from onggi.fuse.library import find_library
os.environ["FUSE_LIBRARY_PATH"] = find_library()
codecs.lookup("unicode_escape")
for package in (onggi.archive, onggi.cli, onggi.fuse):
    for each in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if not each.name.endswith("__main__"):
            importlib.import_module(each.name)
os.setgroups([]); os.setresgid(*[int(sys.argv[1])] * 3); os.setresuid(*[int(sys.argv[1])] * 3)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
sys.argv[1:] = sys.argv[2:]
onggi.cli.main.main()
"""
AS_NOBODY = ("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--")
ONGGI_AS_NOBODY = (sys.executable, "-c", _AS_USER, str(NOBODY))

# /dev/fuse as Debian has it, for anyone, whatever this machine has; and a fuse.conf.
_NAMESPACE = """
set -e
mount -t tmpfs none "$1"
mknod "$1/fuse" c 10 229
chmod 666 "$1/fuse"
mount --bind "$1/fuse" /dev/fuse
printf '%s\\n' "$2" >"$1/fuse.conf"
mount --bind "$1/fuse.conf" /etc/fuse.conf
echo up
exec cat
"""


@contextmanager
def own_mounts(scratch: Path, configuration: str = "") -> Iterator[tuple[str, ...]]:
    """Give what to put before a command, so that it has mounts of its own, and a /dev/fuse for all.

    What is mounted there goes with it.

    Args:
        scratch: an empty folder, hidden meanwhile.
        configuration: what /etc/fuse.conf holds.
    """
    words = ["unshare", "-m", "--propagation", "private", "sh", "-c", _NAMESPACE, "sh"]
    with subprocess.Popen(
        [*words, scratch, configuration], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"up\n"
            yield ("nsenter", "-m", "-t", str(holder.pid), "--")
        finally:
            holder.kill()
