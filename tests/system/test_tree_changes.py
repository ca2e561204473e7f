"""Trees that change under the hands of Onggi, and targets that fail: nothing is led astray.

What happens when is not left to chance. A `Gate` makes the kernel hold whoever reads chosen files
(permission events of fanotify) until the test has changed what it wants to change.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import select
import signal
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .tree_corpus import MIB, differences, noisy, snapshot

pytestmark = pytest.mark.needs("root", "mount")

SMALL = ("--block-size", "4096", "--blocks", "4", "--frame-size", "4096")
SECRET = b"what no archive may hold: it was never in the tree"
PART = ".*.onggi-part"

# linux/fanotify.h
_CLASS_CONTENT, _CLOEXEC, _NONBLOCK = 4, 1, 2
_MARK_ADD = 1
_OPENS, READS, OF_FOLDERS = 0x10000, 0x20000, 0x40000000
_ALLOW = 1
_EVENT, _RESPONSE = struct.Struct("=IBBHQii"), struct.Struct("=iI")
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_WAIT_S = 60
MOST_S = 15  # from a signal to the end

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Gate:
    """Holds whoever does `events` to a file, until it is let pass; leaving lets all pass.

    The process that uses it must not do so itself meanwhile: it would wait for itself.
    """

    path: Path
    events: int = READS
    _fd: int = field(default=-1, init=False)
    _held: list[int] = field(default_factory=list[int], init=False)

    def __enter__(self) -> Gate:
        self._fd = _libc.fanotify_init(_CLASS_CONTENT | _CLOEXEC | _NONBLOCK, os.O_RDONLY)
        assert self._fd >= 0, os.strerror(ctypes.get_errno())
        mask = ctypes.c_uint64(self.events)
        failed = _libc.fanotify_mark(self._fd, _MARK_ADD, mask, _AT_FDCWD, os.fsencode(self.path))
        assert not failed, os.strerror(ctypes.get_errno())
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
        for fd in self._held:
            os.close(fd)
        self._held.clear()

    def wait(self, times: int = 1) -> None:
        """Wait until somebody is held for the n-th time; all before that are let pass."""
        for _ in range(times):
            self.let_pass()
            while not self._held:
                ready, _, _ = select.select([self._fd], [], [], _WAIT_S)
                assert ready, f"nobody came to {self.path}"
                self._held += [
                    event[5] for event in _EVENT.iter_unpack(os.read(self._fd, _EVENT.size * 64))
                ]

    def let_pass(self) -> None:
        """Let those pass that are held."""
        for fd in self._held:
            os.write(self._fd, _RESPONSE.pack(fd, _ALLOW))
            os.close(fd)
        self._held.clear()


@dataclass
class Ended:
    """What a command in the background gave."""

    code: int
    out: bytes
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """The JSON objects on standard output."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def paths(self) -> list[str]:
        """The paths of its findings."""
        return [record["path"] for record in self.records if record["type"] == "finding"]


@dataclass
class Running:
    """A command in the background."""

    process: subprocess.Popen[bytes]

    def end(self) -> Ended:
        """Wait for its end; return its code and what it printed."""
        out, err = self.process.communicate(timeout=120)
        text = err.decode(errors="replace")
        assert "Traceback" not in text, text
        return Ended(self.process.returncode, out, text)


@pytest.fixture
def start(onggi: Any) -> Iterator[Callable[..., Running]]:
    """Start the command in the background; what still runs at the end is killed."""
    processes: list[subprocess.Popen[bytes]] = []

    def begin(*words: object, prefix: tuple[str, ...] = ()) -> Running:
        process = subprocess.Popen(
            [*prefix, *onggi.command, *map(str, words)], cwd=onggi.folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        processes.append(process)
        return Running(process)

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def helper(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run with the compiled helper, or without it."""
    if request.param == "pure":
        monkeypatch.setenv("ONGGI_PURE", "1")


WITH_AND_WITHOUT_HELPER = pytest.mark.parametrize("helper", ["compiled", "pure"], indirect=True)


# --- a source that changes while it is packed ----------------------------------------------------


@pytest.fixture
def tree(onggi: Any) -> Path:
    """Plant a tree: the file `jar/b-victim` is read after `jar/a-gate`, and both after the walk."""
    folder = onggi.folder / "tree"
    (folder / "jar").mkdir(parents=True)
    (folder / "jar" / "a-gate").write_bytes(noisy(5000, 1))
    (folder / "jar" / "b-victim").write_bytes(noisy(100_003, 2))
    (folder / "jar" / "c-after").write_bytes(noisy(30_000, 3))
    (folder / "z-last").write_bytes(b"the end")
    return Path(folder)


def rewrite(victim: Path) -> None:
    with victim.open("r+b") as file:
        file.seek(50_000)
        file.write(b"another state")


def shrink(victim: Path) -> None:
    os.truncate(victim, 40_001)


def empty(victim: Path) -> None:
    os.truncate(victim, 0)


def grow(victim: Path) -> None:
    with victim.open("ab") as file:
        file.write(b"more")


def replace(victim: Path) -> None:
    other = victim.parent.parent.parent / "other"
    other.write_bytes(SECRET.ljust(100_003, b"."))
    other.replace(victim)


def become_symlink(victim: Path) -> None:
    secret = victim.parent.parent.parent / "secret"
    secret.write_bytes(SECRET.ljust(100_003, b"."))
    victim.unlink()
    victim.symlink_to(secret)


def become_folder(victim: Path) -> None:
    victim.unlink()
    victim.mkdir()
    (victim / "secret").write_bytes(SECRET)


def become_fifo(victim: Path) -> None:
    victim.unlink()
    os.mkfifo(victim)


def become_device(victim: Path) -> None:
    victim.unlink()
    os.mknod(victim, 0o20666, os.makedev(1, 5))  # /dev/zero, which never ends


def folder_becomes_symlink(victim: Path) -> None:
    elsewhere = victim.parent.parent.parent / "elsewhere"
    elsewhere.mkdir()
    for path in sorted(victim.parent.iterdir()):
        (elsewhere / path.name).write_bytes(SECRET.ljust(path.stat().st_size, b"."))
    victim.parent.rename(victim.parent.parent.parent / "away")
    victim.parent.symlink_to(elsewhere)


# How each leaves the victim: how many of its first bytes are still read; None for any state of it.
CHANGES: dict[Callable[[Path], None], int | None] = {
    rewrite: None, shrink: 40_001, empty: 0, grow: 100_003, Path.unlink: 0, replace: 0,
    become_symlink: 0, become_folder: 0, become_fifo: 0, become_device: 0,
}  # fmt: skip


def valid(onggi: Any, archive: Path) -> dict[str, int]:
    """Hold that an archive is valid for Onggi, zstd and GNU tar; return its members and sizes."""
    verified = onggi("verify", archive, "--json")
    assert verified.code in (0, 1), verified.err
    assert not [each for each in verified.findings if each["severity"] == "damage"]
    assert verified.result["damaged_units"] == 0
    assert subprocess.run(["zstd", "-tq", archive], check=False).returncode == 0
    stream = subprocess.run(["zstd", "-dcq", archive], capture_output=True, check=True).stdout
    assert SECRET not in stream
    listed = subprocess.run(["tar", "-tf", "-"], input=stream, capture_output=True, check=False)
    assert listed.returncode == 0, listed.stderr
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        members = tar.getmembers()
    assert len(members) == len(listed.stdout.splitlines())
    return {member.name: member.size for member in members}


@pytest.mark.needs("zstd", "tar")
@pytest.mark.parametrize("units", [(), SMALL], ids=["one-unit", "many-units"])
@WITH_AND_WITHOUT_HELPER
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_file_that_changes_before_it_is_read_is_one_finding(
    change: Callable[[Path], None],
    units: tuple[str, ...],
    helper: None,
    tree: Path,
    onggi: Any,
    start: Any,
) -> None:
    victim, archive = tree / "jar" / "b-victim", onggi.folder / "a.onggi"
    before = victim.read_bytes()
    others = [tree / "jar" / "a-gate", tree / "jar" / "c-after", tree / "z-last"]
    expected = b"".join(path.read_bytes() for path in others)
    with Gate(tree / "jar" / "a-gate") as gate:
        running = start("pack", tree, archive, "--json", "--threads", 1, *units)
        gate.wait()
        change(victim)
    ran = running.end()
    assert ran.code == 1, ran.err
    assert ran.paths == ["jar/b-victim"]
    assert (ran.records[-1]["findings"], ran.records[-1]["exit_code"]) == (1, 1)
    assert valid(onggi, archive)["jar/b-victim"] == 100_003
    paths = [path.relative_to(tree) for path in others]
    content = onggi.ok("cat", archive, *paths, "jar/b-victim").out
    assert content.startswith(expected)
    got = content[len(expected) :]
    assert len(got) == 100_003
    kept = CHANGES[change]
    if kept is None:
        assert got == victim.read_bytes()
    else:
        assert got == before[:kept].ljust(100_003, b"\0")


@pytest.mark.needs("zstd", "tar")
def test_a_folder_that_becomes_a_symlink_is_not_followed(
    tree: Path, onggi: Any, start: Any
) -> None:
    # Many small units, so that the folder is opened again and again.
    archive = onggi.folder / "a.onggi"
    with Gate(tree / "jar" / "a-gate") as gate:
        running = start("pack", tree, archive, "--json", "--threads", 1, *SMALL)
        gate.wait()
        folder_becomes_symlink(tree / "jar" / "b-victim")
    ran = running.end()
    # Who holds the folder open reads what was there, which is right too.
    assert ran.code in (0, 1), ran.err
    valid(onggi, archive)


@pytest.mark.needs("zstd", "tar")
@pytest.mark.parametrize("change", [shrink, grow, rewrite, Path.unlink], ids=lambda c: c.__name__)
@WITH_AND_WITHOUT_HELPER
def test_a_file_that_changes_in_the_middle_of_being_read_is_one_finding(
    change: Callable[[Path], None], helper: None, tree: Path, onggi: Any, start: Any
) -> None:
    victim, archive = tree / "jar" / "b-victim", onggi.folder / "a.onggi"
    before = victim.read_bytes()
    with Gate(victim) as gate:
        # Seven units of it, each read by itself.
        running = start("pack", tree, archive, "--json", "--threads", 1, *SMALL)
        gate.wait(times=4)
        # Not before it is open: the gate would hold this process too.
        held = os.open(victim, os.O_WRONLY)
        if change is rewrite:
            os.pwrite(held, b"another state", 90_000)
        elif change is grow:
            os.pwrite(held, b"more", 100_003)
        elif change is shrink:
            os.truncate(victim, 60_000)
        else:
            victim.unlink()
        os.close(held)
    ran = running.end()
    assert ran.code == 1, ran.err
    assert ran.paths == ["jar/b-victim"]
    assert valid(onggi, archive)["jar/b-victim"] == 100_003
    got = onggi.ok("cat", archive, "jar/b-victim", "jar/c-after").out
    assert got[:32_768] == before[:32_768]
    assert got[100_003:] == (tree / "jar" / "c-after").read_bytes()


@pytest.mark.needs("zstd", "tar")
@pytest.mark.parametrize("way", ["vanishes", "becomes-symlink", "becomes-file"])
def test_a_folder_that_goes_before_it_is_entered_is_one_finding(
    way: str, tree: Path, onggi: Any, start: Any
) -> None:
    archive, early, late = onggi.folder / "a.onggi", tree / "b-early", tree / "c-late"
    elsewhere = onggi.folder / "elsewhere"
    for folder, content in ((early, b"early"), (late, b"late"), (elsewhere, SECRET)):
        folder.mkdir()
        (folder / "file").write_bytes(content)
    # Both have been listed when the first of them is read.
    with Gate(early, READS | OF_FOLDERS) as gate:
        running = start("pack", tree, archive, "--json", "--threads", 1)
        gate.wait()
        late.rename(onggi.folder / "away")
        if way == "becomes-symlink":
            late.symlink_to(elsewhere)
        elif way == "becomes-file":
            late.write_bytes(SECRET)
    ran = running.end()
    assert ran.code == 1, ran.err
    assert ran.paths == ["c-late"]
    names = valid(onggi, archive)
    assert "b-early/file" in names
    assert "c-late/file" not in names


@pytest.mark.needs("zstd", "tar")
def test_a_file_that_goes_between_listing_and_looking_is_one_finding(
    tree: Path, onggi: Any, start: Any
) -> None:
    archive = onggi.folder / "a.onggi"
    with Gate(tree / "jar", READS | OF_FOLDERS) as gate:
        running = start("pack", tree, archive, "--json", "--threads", 1)
        gate.wait(times=2)  # at the end of the list, which has its name by now
        (tree / "jar" / "b-victim").unlink()
    ran = running.end()
    assert ran.code == 1, ran.err
    assert ran.paths == ["jar/b-victim"]
    names = valid(onggi, archive)
    assert "jar/c-after" in names
    assert "jar/b-victim" not in names


def test_files_that_come_while_a_tree_is_packed_do_no_harm(
    tree: Path, onggi: Any, start: Any
) -> None:
    before = snapshot(tree)
    with Gate(tree / "jar" / "a-gate") as gate:
        running = start("pack", tree, "a.onggi", "--json", "--threads", 1)
        gate.wait()
        (tree / "jar" / "new").write_bytes(b"too late")
    ran = running.end()
    assert ran.code == 0, ran.err
    onggi.ok("unpack", "a.onggi", "back")
    assert differences(before, snapshot(onggi.folder / "back")) == []


# --- signals -------------------------------------------------------------------------------------

SIGNALS = pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)


@SIGNALS
@pytest.mark.parametrize("where", ["walk", "read"])
def test_a_signal_while_a_tree_is_packed_leaves_nothing(
    where: str, number: signal.Signals, code: int, tree: Path, onggi: Any, start: Any
) -> None:
    gate = (
        Gate(tree / "jar", READS | OF_FOLDERS) if where == "walk" else Gate(tree / "jar" / "a-gate")
    )
    with gate:
        running = start("pack", tree, "a.onggi")
        gate.wait()
        assert list(onggi.folder.glob(PART))
        running.process.send_signal(number)
        time.sleep(0.2)  # it can't end before the kernel lets it go
    ran = running.end()
    assert ran.code == code, ran.err
    assert len(ran.err.splitlines()) == 1
    assert os.listdir(onggi.folder) == ["tree"]


def make_folders(root: Path, folders: int, files: int, size: int) -> None:
    """Make folders with files, all of them known by their names."""
    for folder in range(folders):
        (root / f"folder-{folder:03}").mkdir(parents=True)
        for file in range(files):
            path = root / f"folder-{folder:03}" / f"file-{file:03}"
            path.write_bytes(noisy(size, folder * files + file))


def only_whole(expected: dict[bytes, Any], target: Path) -> int:
    """Hold that each file under a final name is whole; return how many there are."""
    whole = 0
    for path, entry in snapshot(target).items() if target.exists() else ():
        if path in expected and entry.data:
            found = (entry.kind, entry.size, entry.digest)
            assert found == (expected[path].kind, expected[path].size, expected[path].digest), path
            whole += 1
    return whole


def strangers(expected: dict[bytes, Any], target: Path) -> list[bytes]:
    """Return what is in the target and not in the archive: parts that were left."""
    return [path for path in snapshot(target) if path not in expected] if target.exists() else []


@pytest.mark.needs("strace")
@SIGNALS
def test_a_signal_while_a_tree_is_unpacked_leaves_only_whole_files(
    number: signal.Signals, code: int, onggi: Any, start: Any, faults: Any
) -> None:
    tree, target = onggi.folder / "tree", onggi.folder / "back"
    make_folders(tree, 10, 10, MIB)
    onggi.ok("pack", tree, "a.onggi")
    expected = snapshot(tree)
    # A slow disk, whatever the files are written with.
    calls = ("write", "pwrite64", "writev", "pwritev", "pwritev2")
    rules = [f"{call}:delay_enter=50000" for call in calls]
    running = start("unpack", "a.onggi", target, prefix=faults.prefix(*rules))
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")
    end = time.monotonic() + _WAIT_S
    while not (target / "folder-000").exists():
        assert running.process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    time.sleep(0.3)
    started = time.monotonic()
    os.kill(int(children.read_text().split()[0]), number)
    ran = running.end()
    assert time.monotonic() - started < MOST_S
    assert ran.code == code, ran.err
    assert len(ran.err.splitlines()) == 1
    assert only_whole(expected, target) < 100
    assert strangers(expected, target) == []


WRITING = (
    "write", "pwrite64", "pwritev", "pwritev2", "writev", "ftruncate", "fchmod", "fchown",
    "linkat", "link", "renameat", "renameat2", "rename", "utimensat", "mkdirat", "fallocate",
)  # fmt: skip


@pytest.mark.needs("strace")
@WITH_AND_WITHOUT_HELPER
def test_a_kill_while_a_tree_is_unpacked_leaves_no_half_written_file(
    helper: None, onggi: Any, faults: Any
) -> None:
    tree, target = onggi.folder / "tree", onggi.folder / "back"
    make_folders(tree, 2, 10, 50_000)
    (tree / "big").write_bytes(noisy(3 * MIB, 99))
    (tree / "small").write_bytes(b"soy")
    onggi.ok("pack", tree, "a.onggi", *SMALL)
    expected = snapshot(tree)
    words = ("unpack", "a.onggi", target, "--threads", 1)
    onggi.ok(*words, prefix=faults.prefix(*WRITING, "openat"))
    assert differences(expected, snapshot(target)) == []
    opened = faults.calls("openat", '"big', '"small"', '"file-', "folder-00")
    calls = {call: faults.calls(call) for call in WRITING}
    plans = [(call, n) for call, numbers in calls.items() for n in some(numbers)]
    plans += [("openat", number) for number in some(opened)]
    assert len(plans) > 10
    counts = set[int]()
    for call, number in plans:
        subprocess.run(["rm", "-rf", target], check=True)
        ran = onggi(*words, prefix=faults.prefix(f"{call}:signal=SIGKILL:when={number}"))
        assert ran.code == -signal.SIGKILL, f"{call} {number}: {ran.code} {ran.err}"
        try:
            counts.add(only_whole(expected, target))
        except AssertionError as error:
            raise AssertionError(f"killed at {call} {number}: {error}") from None
    assert len(counts) > 2, "kills came early and late"
    # What a killed run has left is in nobody's way.
    onggi.ok(*words, "--force")
    found = snapshot(target)
    assert [line for line in differences(expected, found) if "too much" not in line] == []


def some(numbers: list[int]) -> list[int]:
    """Return the first, one in the middle and the last."""
    return sorted({*numbers[:1], *numbers[len(numbers) // 2 :][:1], *numbers[-1:]})


# --- a target that is full -----------------------------------------------------------------------


@pytest.mark.parametrize("options", ["size=4m", "nr_inodes=20"])
@pytest.mark.parametrize("threads", [1, 4])
@WITH_AND_WITHOUT_HELPER
def test_a_full_file_system_ends_an_unpack_with_one_line(
    threads: int, options: str, helper: None, onggi: Any, mounts: Any
) -> None:
    tree = onggi.folder / "tree"
    make_folders(tree, 4, 10, 300_000)
    onggi.ok("pack", tree, "a.onggi")
    expected = snapshot(tree)
    place = mounts("none", "-t", "tmpfs", "-o", options)
    ran = onggi.fails(6, "unpack", "a.onggi", place / "back", "--threads", threads)
    assert os.strerror(28) in ran.err  # ENOSPC
    assert only_whole(expected, place / "back") < 40
    assert strangers(expected, place / "back") == []


# --- a target that others turn against us --------------------------------------------------------

_SWAP = """
import ctypes, os, sys, time
libc = ctypes.CDLL(None)
root, seconds = os.fsencode(sys.argv[1]), float(sys.argv[2])
pairs = [(root + b"/folder-%03d" % n, root + b"/evil-%03d" % n) for n in range(int(sys.argv[3]))]
swaps, end = 0, time.monotonic() + seconds
print("ready", flush=True)
while time.monotonic() < end and not os.path.exists(sys.argv[4]):
    for one, other in pairs:
        swaps += not libc.renameat2(-100, one, -100, other, 2)
print(swaps)
"""


@pytest.mark.parametrize(("threads", "there"), [(1, "before"), (3, "not-before")])
@WITH_AND_WITHOUT_HELPER
def test_who_swaps_folders_for_symlinks_while_a_tree_is_unpacked_gets_nothing_outside(
    threads: int, there: str, helper: None, onggi: Any
) -> None:
    tree, target, outside = (onggi.folder / name for name in ("tree", "back", "outside"))
    make_folders(tree, 20, 60, 500)
    onggi.ok("pack", tree, "a.onggi", *SMALL)
    target.mkdir()
    outside.mkdir()
    for number in range(20):
        (target / f"evil-{number:03}").symlink_to(outside)
        (outside / f"folder-{number:03}").mkdir()
        if there == "before":
            (target / f"folder-{number:03}").mkdir()
    before = snapshot(outside)
    stop = onggi.folder / "stop"
    swaps = 0
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", _SWAP, target, "60", "20", stop],
            stdout=subprocess.PIPE, text=True,
        ) as swapper:  # fmt: skip
            assert swapper.stdout
            assert swapper.stdout.readline() == "ready\n"
            ran = onggi("unpack", "a.onggi", target, "--force", "--threads", threads)
            stop.touch()
            swaps += int(swapper.stdout.readline())
        stop.unlink()
        assert ran.code in (0, 1, 6), ran.err
        assert differences(before, snapshot(outside)) == [], "something got outside"
    assert swaps > 1000
