"""Faults of the system while a file is written: it appears whole under its name, or not at all."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

MIB = 1 << 20
SMALL = ("--block-size", "4096", "--blocks", "4", "--frame-size", "4096", "--threads", "1")
UNIT = 4 * 4096
OLD = b"what stood here before"
MOST_S = 15  # from a signal to the end
# What the commands write with, and what publishes the file.
WRITING = ("writev", "pwrite64", "ftruncate")
LINKING = ("link", "linkat")
RENAMING = ("rename", "renameat", "renameat2")
PUBLISHING = ("fsync", *LINKING, *RENAMING, "unlink", "unlinkat")


@dataclass
class Case:
    """One command that makes one file."""

    onggi: Any
    faults: Any
    command: tuple[str, ...]
    target: Path
    whole: Callable[[], bool]
    before: bytes | None
    known: dict[str, list[int]]
    rules: tuple[str, ...] = ()

    def reset(self) -> None:
        """Put the folder back to how it was."""
        for part in self.parts():
            part.unlink()
        self.target.unlink(missing_ok=True)
        if self.before is not None:
            self.target.write_bytes(self.before)

    def parts(self) -> list[Path]:
        """Return the temporary files that are left."""
        return list(self.target.parent.glob(".*.onggi-part"))

    def run(self, *rules: str) -> Any:
        """Run the command with faults; with none, only record its system calls."""
        self.reset()
        self.rules = rules
        return self.onggi(*self.command, prefix=self.faults.prefix(*rules))

    def calls(self, name: str) -> list[int]:
        """Return the numbers of all calls of a name that the command makes for its work."""
        if not self.known:
            ran = self.run(*WRITING, *PUBLISHING, "openat", "preadv", "preadv2")
            assert ran.code == 0, ran.err
            for call in (*WRITING, *PUBLISHING, "preadv", "preadv2"):
                self.known[call] = self.faults.calls(call)
            # The interpreter opens its own files too.
            self.known["openat"] = self.faults.calls("openat", '"source"', '"good.', "/target")
        return self.known[name]

    def unchanged(self) -> bool:
        """Tell whether nothing stands under the name that was not there before."""
        if self.before is None:
            return not os.path.lexists(self.target)
        return self.target.read_bytes() == self.before

    def clean(self, ran: Any, *codes: int) -> None:
        """Hold that the run was done and left a whole file, or failed and left nothing."""
        what = f"{self.rules}: {ran.code} {ran.err}"
        assert not self.parts(), what
        if ran.code == 0:
            assert self.whole(), what
            assert ran.err == "", what
            return
        assert ran.code in codes, what
        assert len(ran.err.splitlines()) == 1, what
        assert ran.err.startswith("onggi: "), what
        assert self.unchanged(), what


@pytest.fixture(scope="module")
def known_calls() -> dict[str, dict[str, list[int]]]:
    """System calls of the commands, once they were counted: they are the same each time."""
    return {}


@pytest.fixture(params=["pack", "pack --force", "unpack", "unpack --force"])
def case(
    request: pytest.FixtureRequest,
    onggi: Any,
    faults: Any,
    known_calls: dict[str, dict[str, list[int]]],
) -> Case:
    """Each command that makes a file, with and without a file that it replaces."""
    data = random.Random(5).randbytes(2 * UNIT + 5000)
    (onggi.folder / "source").write_bytes(data)
    command, *force = request.param.split()
    folder = onggi.folder / "target"
    folder.mkdir()
    before = OLD if force else None
    known = known_calls.setdefault(request.param, {})
    if command == "pack":
        target = folder / "a.onggi"
        return Case(
            onggi, faults, ("pack", "source", str(target), *SMALL, "--quiet", *force), target,
            lambda: onggi("verify", target, "--against", "source").code == 0, before, known,
        )  # fmt: skip
    onggi.ok("pack", "source", "good.onggi", *SMALL)
    target = folder / "back"
    return Case(
        onggi, faults,
        ("unpack", "good.onggi", str(target), "--threads", "1", "--quiet", *force), target,
        lambda: target.read_bytes() == data, before, known,
    )  # fmt: skip


# The last step alone depends on whether a file is replaced.
WRITERS = pytest.mark.parametrize("case", ["pack", "unpack"], indirect=True)


def some(numbers: list[int]) -> list[int]:
    """Return the first, one in the middle and the last."""
    return sorted({*numbers[:1], *numbers[len(numbers) // 2 :][:1], *numbers[-1:]})


@pytest.mark.needs("strace")
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@WRITERS
def test_an_error_of_any_write_leaves_nothing(error: str, case: Case) -> None:
    tried = 0
    for call in WRITING:
        numbers = case.calls(call)
        # Every write for one error, some for the other.
        for number in numbers if error == "EIO" else some(numbers):
            ran = case.run(f"{call}:error={error}:when={number}")
            assert case.faults.hits()
            assert ran.code == 6, f"{call} {number}: {ran.err}"
            assert os.strerror(getattr(errno, error)) in ran.err
            case.clean(ran, 6)
            tried += 1
    assert tried >= 3


@pytest.mark.needs("strace")
@WRITERS
def test_errors_that_go_on_leave_nothing(case: Case) -> None:
    for call in (*WRITING, "fsync"):
        if numbers := case.calls(call):
            ran = case.run(f"{call}:error=EIO:when={numbers[0]}+")
            assert ran.code == 6, call
            case.clean(ran, 6)


@pytest.mark.needs("strace")
def test_an_interrupted_call_is_done_again_or_fails_cleanly(case: Case) -> None:
    calls = (*WRITING, "openat", "preadv", "preadv2", *PUBLISHING)
    for call in PUBLISHING if case.before else calls:
        for number in some(case.calls(call)):
            ran = case.run(f"{call}:error=EINTR:when={number}")
            assert case.faults.hits()
            case.clean(ran, 6)
            if call not in (*LINKING, *RENAMING, "unlink", "unlinkat"):
                assert ran.code == 0, f"{call} {number}: {ran.err}"


@pytest.mark.needs("strace")
@WRITERS
def test_a_write_that_claims_more_than_it_did_makes_no_archive(case: Case) -> None:
    # The system call is not done at all, and yet returns that it wrote something.
    numbers = case.calls("writev")
    if case.command[0] == "unpack":
        assert numbers == []  # a lying pwrite can be found only by reading back
        return
    lies = [(100, number) for number in numbers]
    lies += [(lie, number) for lie in (0, 1) for number in some(numbers)]
    for lie, number in lies:
        ran = case.run(f"writev:retval={lie}:when={number}")
        assert case.faults.hits()
        assert ran.code == 6, f"writev {number}: {ran.err}"
        case.clean(ran, 6)


@pytest.mark.needs("strace")
@WRITERS
def test_a_write_that_never_gets_on_ends_with_an_error(case: Case) -> None:
    for call in ("writev", "pwrite64"):
        if numbers := case.calls(call):
            case.reset()
            rule = f"{call}:retval=0:when={numbers[-1]}+"
            prefix = ("timeout", "-k1", "5", *case.faults.prefix(rule))
            ran = case.onggi(*case.command, prefix=prefix)
            assert ran.code == 6, f"{call}: {ran.code} {ran.err}"
            case.clean(ran, 6)


@pytest.mark.needs("strace")
def test_an_error_of_publishing_leaves_nothing(case: Case) -> None:
    tried = 0
    for call in PUBLISHING:
        numbers = case.calls(call)
        # The last fsync is the folder's: see below.
        for number in numbers[:-1] if call == "fsync" else numbers:
            ran = case.run(f"{call}:error=EIO:when={number}")
            assert case.faults.hits()
            case.clean(ran, 6)
            tried += 1
    assert tried >= 2


@pytest.mark.needs("strace")
@WRITERS
def test_a_file_system_without_hard_links_takes_the_file_too(case: Case) -> None:
    for call in LINKING:
        for number in case.calls(call):
            for error in ("EPERM", "EOPNOTSUPP", "EMLINK"):
                ran = case.run(f"{call}:error={error}:when={number}")
                assert case.faults.hits()
                assert ran.code == 0, ran.err
                case.clean(ran)
    assert any(case.calls(call) for call in (*LINKING, *RENAMING))


@pytest.mark.needs("strace")
def test_where_only_the_sync_of_the_folder_fails_the_whole_file_stays_and_it_is_said(
    case: Case,
) -> None:
    number = case.calls("fsync")[-1]
    folder = case.calls("openat")[-1]
    for rule in (f"fsync:error=EIO:when={number}", f"openat:error=EIO:when={folder}"):
        ran = case.run(rule)
        assert case.faults.hits()
        assert ran.code == 6, rule
        assert len(ran.err.splitlines()) == 1
        assert case.whole()
        assert case.parts() == []
        assert "folder" in ran.err
        assert "whole" in ran.err or "complete" in ran.err


@pytest.mark.needs("strace")
@WRITERS
def test_an_error_of_any_open_leaves_nothing(case: Case) -> None:
    numbers = case.calls("openat")
    assert len(numbers) >= 3  # what is read, the new file, its folder
    for error in ("EIO", "EMFILE"):
        for number in numbers[:-1]:
            ran = case.run(f"openat:error={error}:when={number}")
            assert case.faults.hits()
            assert ran.code == 5 if number == numbers[0] else 6
            case.clean(ran, 5, 6)


@pytest.mark.needs("strace")
def test_a_kill_at_any_call_leaves_nothing_or_a_whole_file(case: Case) -> None:
    tried = 0
    for call in (*WRITING, *PUBLISHING):
        numbers = case.calls(call)
        for number in numbers if call in PUBLISHING else some(numbers):
            ran = case.run(f"{call}:signal=SIGKILL:when={number}")
            assert ran.code == -signal.SIGKILL
            assert case.unchanged() or case.whole(), f"killed at {call} {number}"
            assert len(case.parts()) <= 1
            tried += 1
    assert tried >= 6
    # What a killed run has left is in nobody's way.
    if case.unchanged():
        assert case.onggi(*case.command).code == 0
        assert case.whole()


@pytest.mark.needs("strace")
def test_an_archive_that_cannot_be_read_back_is_not_kept(onggi: Any, faults: Any) -> None:
    # From a pipe, so that all positional reads are those that read back.
    data = random.Random(5).randbytes(2 * UNIT + 5000)
    words = ("pack", "-", "a.onggi", "--verify", *SMALL)
    onggi.ok(*words, stdin=data, prefix=faults.prefix("preadv", "preadv2"))
    call = "preadv2" if faults.calls("preadv2") else "preadv"
    (onggi.folder / "a.onggi").unlink()
    for number in some(faults.calls(call)):
        for fault in ("error=EIO", "retval=0"):
            prefix = faults.prefix(f"{call}:{fault}:when={number}")
            ran = onggi.fails(6, *words, stdin=data, prefix=prefix)
            assert faults.hits()
            assert "a.onggi: what was" in ran.err
            assert os.listdir(onggi.folder) == []


@pytest.mark.needs("strace")
def test_a_signal_while_the_command_starts_leaves_no_traceback(onggi: Any, faults: Any) -> None:
    (onggi.folder / "source").write_bytes(b"soy")
    onggi.ok("pack", "source", "-", prefix=faults.prefix("openat"))
    # Before the first line of the command, Python does as it likes.
    source = faults.calls("openat", "onggi/cli/main")
    cached = faults.calls("openat", "onggi/cli/__pycache__/main")
    first, last = (source or cached)[0], faults.calls("openat", '"source"')[0]
    for number in range(first + 5, last, (last - first) // 5):
        prefix = faults.prefix(f"openat:signal=SIGINT:when={number}")
        ran = onggi("pack", "source", "a.onggi", prefix=prefix)
        # Before the command has its own way to end, the system's is good enough.
        assert ran.code in (130, -signal.SIGINT)
        assert len(ran.err.splitlines()) <= 1
        assert os.listdir(onggi.folder) == ["source"]


@pytest.mark.needs("strace")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_at_any_call_leaves_nothing_or_comes_too_late(name: str, case: Case) -> None:
    code = {"SIGINT": 130, "SIGTERM": 143}[name]
    # The calls of the main thread, which gets the signals of a terminal.
    calls = ("writev", *PUBLISHING) if case.command[0] == "pack" else PUBLISHING
    for call in calls:
        numbers = case.calls(call)
        if call == "writev":
            numbers = [numbers[0], numbers[2], numbers[-1]]
        for number in numbers:
            ran = case.run(f"{call}:signal={name}:when={number}")
            assert ran.code in (0, code), f"{call} {number}: {ran.code} {ran.err}"
            case.clean(ran, code)


@pytest.mark.needs("strace")
@WRITERS
def test_an_archive_that_cannot_be_read_ends_an_unpack_and_leaves_nothing(case: Case) -> None:
    if case.command[0] == "pack":
        return
    call = "preadv2" if case.calls("preadv2") else "preadv"
    numbers = case.calls(call)
    assert numbers
    for number in numbers:
        ran = case.run(f"{call}:error=EIO:when={number}")
        assert case.faults.hits()
        assert ran.code == 5, f"{number}: {ran.code} {ran.err}"
        case.clean(ran, 5)


# --- a source that can't be read -----------------------------------------------------------------


@pytest.fixture
def source(onggi: Any, content: Callable[..., bytes]) -> bytes:
    """Plant a source of six units, and return its bytes."""
    data = content(5 * UNIT + 8192, 3)
    (onggi.folder / "source").write_bytes(data)
    return data


def read_call(onggi: Any, faults: Any) -> str:
    """Return which system call reads a source on this machine."""
    onggi.ok("pack", "source", "-", *SMALL, prefix=faults.prefix("preadv", "preadv2"))
    return "preadv2" if faults.calls("preadv2") else "preadv"


@pytest.mark.needs("strace")
def test_blocks_that_fail_for_good_are_zeros_and_findings(
    onggi: Any, faults: Any, source: bytes
) -> None:
    call = read_call(onggi, faults)
    # Four reads in a row fail, so that one that is done again fails again.
    prefix = faults.prefix(f"{call}:error=EIO:when=3..6")
    ran = onggi("pack", "source", "a.onggi", *SMALL, "--json", prefix=prefix)
    assert faults.hits() == 4
    assert ran.code == 1
    assert [each["code"] for each in ran.findings] == ["source-unreadable"]
    info = onggi.ok("info", "a.onggi", "--json").result
    lost = info["unreadable"]
    assert lost
    assert all(offset % 4096 == length % 4096 == 0 for offset, length in lost)
    assert sum(length for _, length in lost) <= 4 * 4096, "no more than the blocks that failed"
    assert info["unreadable_bytes"] == sum(length for _, length in lost)
    expected = bytearray(source)
    for offset, length in lost:
        expected[offset : offset + length] = bytes(length)
    assert onggi.ok("unpack", "a.onggi", "-").out == expected
    assert onggi("verify", "a.onggi").code == 1


@pytest.mark.needs("strace")
@pytest.mark.parametrize("error", ["EACCES", "ENOMEM", "EINVAL"])
def test_another_error_of_a_read_ends_the_command_and_leaves_nothing(
    error: str, onggi: Any, faults: Any, source: bytes
) -> None:
    call = read_call(onggi, faults)
    for number in (1, 3, 6):
        prefix = faults.prefix(f"{call}:error={error}:when={number}")
        ran = onggi.fails(5, "pack", "source", "a.onggi", *SMALL, prefix=prefix)
        assert faults.hits() == 1
        assert os.strerror(getattr(errno, error)) in ran.err
        assert sorted(os.listdir(onggi.folder)) == ["source"]


@pytest.mark.needs("strace")
def test_an_interrupted_or_short_read_of_the_source_is_gone_on_with(
    onggi: Any, faults: Any, source: bytes
) -> None:
    call = read_call(onggi, faults)
    prefix = faults.prefix(f"{call}:error=EINTR:when=2")
    onggi.ok("pack", "source", "a.onggi", *SMALL, prefix=prefix)
    assert faults.hits() == 1
    onggi.ok("verify", "a.onggi", "--against", "source")


# --- a disk that is full -------------------------------------------------------------------------


@pytest.mark.needs("root", "mount")
def test_a_full_disk_ends_a_pack_and_leaves_nothing(onggi: Any, mounts: Any) -> None:
    place = mounts("none", "-t", "tmpfs", "-o", "size=1m")
    noise = random.Random(1).randbytes(3 * MIB)
    (onggi.folder / "source").write_bytes(noise)
    (place / "old.onggi").write_bytes(OLD)
    free = os.statvfs(place).f_bavail
    for arguments in (("a.onggi",), ("old.onggi", "--force")):
        for unit in (SMALL, ()):
            target, *force = arguments
            ran = onggi.fails(6, "pack", "source", place / target, *unit, *force)
            assert os.strerror(errno.ENOSPC) in ran.err
            assert os.listdir(place) == ["old.onggi"]
    assert (place / "old.onggi").read_bytes() == OLD
    assert os.statvfs(place).f_bavail == free
    # What fits still goes.
    (onggi.folder / "source").write_bytes(noise[: MIB // 2])
    onggi.ok("pack", "source", place / "old.onggi", "--force")
    onggi.ok("verify", place / "old.onggi", "--against", "source")


@pytest.mark.needs("root", "mount")
@pytest.mark.parametrize("options", [(), ("--no-sparse",), ("--threads", "4")], ids=" ".join)
def test_a_full_disk_ends_an_unpack_and_leaves_nothing(
    options: tuple[str, ...], onggi: Any, mounts: Any
) -> None:
    place = mounts("none", "-t", "tmpfs", "-o", "size=1m")
    (onggi.folder / "source").write_bytes(random.Random(1).randbytes(3 * MIB))
    onggi.ok("pack", "source", "a.onggi", *SMALL)
    (place / "old").write_bytes(OLD)
    for arguments in ((place / "new",), (place / "old", "--force"), (place,)):
        ran = onggi.fails(6, "unpack", "a.onggi", *arguments, *options)
        assert os.strerror(errno.ENOSPC) in ran.err
        assert os.listdir(place) == ["old"]
    assert (place / "old").read_bytes() == OLD


@pytest.mark.needs("root", "mount")
def test_a_disk_that_is_full_when_the_index_waits_on_it_leaves_nothing(
    onggi: Any, mounts: Any
) -> None:
    # Rows of the index beyond 4 MiB wait in a temporary file beside the archive.
    with (onggi.folder / "source").open("wb") as file:
        file.truncate(480 * MIB)
    geometry = ("--frame-size", "4096", "--blocks", "1024")
    onggi.ok("pack", "source", "whole.onggi", *geometry)
    need = (onggi.folder / "whole.onggi").stat().st_size
    (onggi.folder / "whole.onggi").unlink()
    place = mounts("none", "-t", "tmpfs")
    codes = set()
    for size in (*range(need - 5 * MIB, need + 8 * MIB, MIB), need + 16 * MIB):
        subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)
        ran = onggi("pack", "source", place / "a.onggi", *geometry)
        codes.add(ran.code)
        if ran.code:
            assert ran.code == 6, ran.err
            assert len(ran.err.splitlines()) == 1
            assert os.strerror(errno.ENOSPC) in ran.err
            assert os.listdir(place) == []
        else:
            onggi.ok("verify", place / "a.onggi", "--level", "structure")
            (place / "a.onggi").unlink()
    assert codes == {0, 6}


@pytest.mark.needs("prlimit")
def test_a_limit_on_the_length_of_files_ends_the_command_and_leaves_nothing(onggi: Any) -> None:
    # A real short write, then EFBIG.
    (onggi.folder / "source").write_bytes(random.Random(1).randbytes(300_000))
    onggi.ok("pack", "source", "a.onggi")
    limit = ("prlimit", "--fsize=100001", "--")
    for words in (("pack", "source", "b.onggi", *SMALL), ("unpack", "a.onggi", "back")):
        ran = onggi.fails(6, *words, prefix=limit)
        assert os.strerror(errno.EFBIG) in ran.err
        assert sorted(os.listdir(onggi.folder)) == ["a.onggi", "source"]


# --- signals -------------------------------------------------------------------------------------


@dataclass
class Started:
    """A command that runs, and what is watched of it."""

    process: subprocess.Popen[bytes]
    folder: Path

    def until_part(self, least_bytes: int = 0) -> None:
        """Wait until the temporary file is there, and has some length."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            for part in self.folder.glob(".*.onggi-part"):
                if part.stat().st_size >= least_bytes:
                    return
            time.sleep(0.01)
        pytest.fail("no temporary file was made")

    def ends(self, pid: int, number: signal.Signals, code: int) -> bytes:
        """Send a signal; hold that the command ends soon, with its code and one line."""
        started = time.monotonic()
        os.kill(pid, number)
        try:
            out, err = self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        seconds = time.monotonic() - started
        lines = err.decode().splitlines()
        assert self.process.returncode == code, err
        word = "interrupted" if number == signal.SIGINT else "terminated"
        assert len(lines) == 1
        assert lines[0].startswith(f"onggi: {word}")
        assert seconds < MOST_S
        return out


@pytest.fixture
def start(onggi: Any) -> Any:
    """Start the command in the background."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*words: object, prefix: tuple[str, ...] = ()) -> Started:
        process = subprocess.Popen(
            [*prefix, *onggi.command, *map(str, words)], cwd=onggi.folder, bufsize=0,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        return Started(process, onggi.folder)

    yield begin
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:
                pipe.close()


SIGNALS = pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]
)


@SIGNALS
def test_a_signal_while_a_slow_pipe_is_packed_leaves_nothing(
    number: signal.Signals, code: int, start: Any, onggi: Any
) -> None:
    (onggi.folder / "a.onggi").write_bytes(OLD)
    running = start("pack", "-", "a.onggi", "--force", *SMALL)
    assert running.process.stdin
    running.process.stdin.write(random.Random(1).randbytes(10 * UNIT + 5))
    running.process.stdin.flush()
    running.until_part(9 * UNIT)
    # The pipe stays open, and gives nothing more.
    running.ends(running.process.pid, number, code)
    assert os.listdir(onggi.folder) == ["a.onggi"]
    assert (onggi.folder / "a.onggi").read_bytes() == OLD


@SIGNALS
def test_a_signal_while_a_big_file_is_packed_at_level_19_leaves_nothing(
    number: signal.Signals, code: int, start: Any, onggi: Any
) -> None:
    noise = random.Random(1)
    words = [noise.randbytes(noise.randrange(3, 12)) for _ in range(3000)]
    with (onggi.folder / "source").open("wb") as file:
        for _ in range(8):
            file.write(b" ".join(noise.choice(words) for _ in range(60_000)) * 16)
    assert (onggi.folder / "source").stat().st_size > 40 * MIB
    running = start("pack", "source", "a.onggi", "--level", "19")
    running.until_part(100)
    time.sleep(0.5)  # all threads are inside the compressor
    running.ends(running.process.pid, number, code)
    assert os.listdir(onggi.folder) == ["source"]


@pytest.mark.needs("strace")
@SIGNALS
def test_a_signal_while_a_file_is_unpacked_leaves_nothing(
    number: signal.Signals, code: int, start: Any, onggi: Any, faults: Any
) -> None:
    (onggi.folder / "source").write_bytes(random.Random(1).randbytes(200 * UNIT))
    onggi.ok("pack", "source", "a.onggi", *SMALL)
    (onggi.folder / "back").write_bytes(OLD)
    # A slow disk: 0.2 s for each write.
    prefix = faults.prefix("pwrite64:delay_enter=200000")
    running = start("unpack", "a.onggi", "back", "--force", prefix=prefix)
    running.until_part(200 * UNIT)
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")
    running.ends(int(children.read_text().split()[0]), number, code)
    assert sorted(os.listdir(onggi.folder)) == ["a.onggi", "back", "source"]
    assert (onggi.folder / "back").read_bytes() == OLD


@SIGNALS
def test_a_signal_while_a_reader_lets_an_unpack_wait_ends_it(
    number: signal.Signals, code: int, start: Any, onggi: Any
) -> None:
    data = random.Random(1).randbytes(8 * MIB)
    (onggi.folder / "source").write_bytes(data)
    onggi.ok("pack", "source", "a.onggi", *SMALL)
    running = start("unpack", "a.onggi", "-")
    assert running.process.stdout
    first = running.process.stdout.read(100_000)
    out = running.ends(running.process.pid, number, code)
    assert data.startswith(first + out)
    assert len(out) < len(data) - 100_000


@pytest.mark.needs("strace", "root", "loop")
def test_a_signal_while_a_device_is_overwritten_says_so(
    start: Any, onggi: Any, faults: Any, disks: Any, loops: Any
) -> None:
    (onggi.folder / "source").write_bytes(random.Random(1).randbytes(200 * UNIT))
    onggi.ok("pack", "source", "a.onggi", *SMALL)
    device = loops(disks("target.img", 200 * UNIT))
    prefix = faults.prefix("pwrite64:delay_enter=100000")
    running = start("unpack", "a.onggi", device, "--to-device", prefix=prefix)
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")
    end = time.monotonic() + 30
    while device.read_bytes()[:4096] == bytes(4096):
        assert time.monotonic() < end
        time.sleep(0.05)
    os.kill(int(children.read_text().split()[0]), signal.SIGINT)
    _, err = running.process.communicate(timeout=60)
    assert running.process.returncode == 130
    assert len(err.splitlines()) == 1
    assert b"partly overwritten" in err
