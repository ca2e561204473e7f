"""The compiled functions in a process: wrong arguments, leaks, threads, signals and faults."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from onggi.archive import files, layout
from onggi.archive.files import Found, Wanted

from .native_helpers import (
    ALL,
    CONTENT_OFFSET,
    FIRST_ROW,
    NATIVE,
    PARENT,
    STRINGS_OFFSET,
    Rows,
    compare_found,
    opened,
    some_files,
    wanted_of,
)
from .native_helpers import no_descriptor_stays as no_descriptor_stays

# --- arguments -----------------------------------------------------------------------------------


def wrong_arguments(fd: int, found: Found) -> list[tuple[str, tuple[Any, ...]]]:
    view = memoryview(bytearray(100))
    good = wanted_of(found)
    rows = Rows().add(b"new", b"1").add(b"new too", b"1", uid=7, gid=7)
    call = (
        fd, bytes(rows.raw), 0, 2, FIRST_ROW, PARENT, bytes(rows.strings), STRINGS_OFFSET,
        bytes(rows.content), CONTENT_OFFSET, {(0, 0): (-1, -1)}, b"part", True, 0o7777,
    )  # fmt: skip

    def but(at: int, value: Any) -> tuple[str, tuple[Any, ...]]:
        return "restore_rows", (*call[:at], value, *call[at + 1 :])

    wrong: list[tuple[str, tuple[Any, ...]]] = [
        ("scan", ()), ("scan", (fd, [b"f0"])), ("scan", (fd, [b"f0"], 0, 0)),
        ("scan", ("x", [b"f0"], 0)), ("scan", (fd, 5, 0)), ("scan", (fd, b"f0", 0)),
        ("scan", (fd, "f0", 0)), ("scan", (fd, [b"f0", "f0"], 0)), ("scan", (fd, [None], 0)),
        ("scan", (fd, [bytearray(b"f0")], 0)), ("scan", (fd, [b"f0"], "x")),
        ("read_files", (fd, [good], b"1234")), ("read_files", (fd, [good], view.toreadonly())),
        ("read_files", (fd, [good], None)), ("read_files", (fd, 5, view)),
        ("read_files", (fd, [5], view)), ("read_files", (fd, [()], view)),
        ("read_files", (fd, [good, None], view)), ("read_files", (fd, [tuple(good)[:3]], view)),
        ("read_files", (fd, [list(good)], view)), ("read_files", (fd, [(5, 0, 1, 0)], view)),
        ("read_files", (fd, [(tuple(found)[:8], 0, 1, 0)], view)),
        ("read_files", (fd, [(found, 0, 1.0, 0)], view)),
        ("read_files", (fd, [(found, None, 1, 0)], view)),
        ("read_files", (fd, [(found._replace(name="f0"), 0, 1, 0)], view)),
        ("read_files", (fd, [(found._replace(ino=1.5), 0, 1, 0)], view)),
        ("read_files", (fd, [(found._replace(dev="x"), 0, 1, 0)], view)),
        ("restore_rows", call[:-1]), ("restore_rows", (*call, 0)),
    ]  # fmt: skip
    for at, values in {
        0: ["x", None], 1: ["x", None, 5], 2: [-1, 3, "x"], 3: [-1, 3, 2**62, 0.5], 4: ["x"],
        5: [None], 6: ["x", None], 7: [b""], 8: [None, "x"], 9: [0.5], 11: ["x", None], 13: ["x"],
        10: [
            5, [], {(7, 7): 5, (0, 0): (0, 0)}, {(0, 0): (0,)}, {(0, 0): [0, 0]},
            {(0, 0): (0, 0), (7, 7): (0, "x")}, {(0, 0): (None, 0)},
        ],
    }.items():  # fmt: skip
        wrong += [but(at, value) for value in values]
    show = (4711, 0, bytes(layout.ENTRY_ROW_BYTES), 0, 1, b"", 0, 0, 0, 0, 0, 1, 0, 1, -1, -1)
    wrong += [("fill_rows", ()), ("fill_rows", show[:-1]), ("fill_rows", (*show, 0))]
    for at, values in {
        0: [0, "x", None], 2: ["x", None, 5], 3: [-1, 2, "x"], 5: ["x", None], 8: [None], 14: ["x"],
    }.items():  # fmt: skip
        wrong += [("fill_rows", (*show[:at], value, *show[at + 1 :])) for value in values]
    wrong += [
        ("plan_files", ()), ("copy", ()), ("copy", (0, 1)), ("copy", (0, 1, [], 0)),
        ("copy", ("x", 1, [])), ("copy", (0, "x", [])), ("copy", (0, 1, (b"1",))),
        ("copy", (0, 1, [5])), ("copy", (0, 1, ["x"])), ("copy", (0, 1, None)),
    ]  # fmt: skip
    return wrong


def test_only_wrong_types_raise_and_then_nothing_was_done(tmp_path: Path) -> None:
    some_files(tmp_path, 100)
    with opened(tmp_path) as fd:
        (found,) = files.scan(fd, [b"f0"], ALL)
        wrong = wrong_arguments(fd, found)
        for function, arguments in wrong:
            with pytest.raises(TypeError):
                getattr(NATIVE, function)(*arguments)
        striped = memoryview(bytearray(200))[::2]
        with pytest.raises((TypeError, BufferError)):
            NATIVE.read_files(fd, [wanted_of(found)], striped)
        call = list(
            next(each for name, each in wrong if name == "restore_rows" and len(each) == 15)
        )
        call[11] = b"a\0b"  # no file name, whatever is behind it
        with pytest.raises(ValueError, match="null"):
            NATIVE.restore_rows(*call[:14])
    assert os.listdir(tmp_path) == ["f0"]


def test_a_bad_folder_or_none_left_to_open_is_left_to_python(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    view = memoryview(bytearray(1))
    with opened(tmp_path) as fd:
        item = wanted_of(files.scan(fd, [b"a"], ALL)[0])
        rows = Rows().add(b"b", b"1")
        for bad in (-1, 2**31 - 1, os.open(tmp_path / "a", os.O_RDONLY)):
            assert NATIVE.scan(bad, [b"a"], ALL) == [None]
            assert NATIVE.read_files(bad, [item], view) == [0]
            assert rows.left(bad) == [0]
        os.close(bad)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (fd + 1, limits[1]))
        try:
            given = (
                NATIVE.scan(fd, [b"a"], ALL),
                NATIVE.read_files(fd, [item], view),
                rows.restore(NATIVE, fd),
            )
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert given == ([None], [0], (1, [0], 0, 0))
    assert os.listdir(tmp_path) == ["a"]


def test_nothing_is_kept_and_nothing_leaks(tmp_path: Path) -> None:
    some_files(tmp_path, 100, 0)
    with opened(tmp_path) as fd:
        found = files.scan(fd, [b"f0"], ALL)[0]
        names = [b"f0", b"f1", b"missing", b"a\0b"]
        buffer = bytearray(200)
        wanted = [wanted_of(found), wanted_of(found, at=2**70), wanted_of(found._replace(ino=1))]
        owners = {(0, 0): (-1, -1), (1, 1): (2**70, 0)}
        rows = Rows(owners).add(b"new", b"1").add(b"f1").add(b"x", uid=1, gid=1).add(b"y", uid=9)
        raw, strings, content = rows.raw, rows.strings, rows.content
        wrong = wrong_arguments(fd, found)
        pieces = [memoryview(strings), memoryview(b"12345678")]
        target = ctypes.create_string_buffer(3)
        address = ctypes.addressof(target)

        def once() -> None:
            assert [each is None for each in NATIVE.scan(fd, names, ALL)] == [0, 0, 1, 1]
            assert NATIVE.read_files(fd, wanted, memoryview(buffer)) == [1, 2]
            given = NATIVE.restore_rows(
                fd, raw, 0, 4, FIRST_ROW, PARENT, strings, STRINGS_OFFSET, content, CONTENT_OFFSET,
                owners, b"part", True, 0o7777,
            )  # fmt: skip
            assert given == (4, [1, 2, 3], 1, 1)
            os.unlink(b"new", dir_fd=fd)
            assert NATIVE.copy(address, 3, pieces) == 3
            for function, arguments in wrong:
                with contextlib.suppress(TypeError):
                    getattr(NATIVE, function)(*arguments)

        held: tuple[Any, ...] = (
            *names, *wanted, found, *found, raw, strings, content, owners, *owners.values(), None,
            (), b"", pieces, *pieces,
        )  # fmt: skip
        for _ in range(20):
            once()
        tracemalloc.start()
        try:
            once()
            counts = [sys.getrefcount(each) for each in held]
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(500):
                once()
            after = tracemalloc.get_traced_memory()[0]
            # Small numbers are shared by all.
            more = [sys.getrefcount(each) - n for each, n in zip(held, counts, strict=True)]
        finally:
            tracemalloc.stop()
        assert max(map(abs, more)) < 50
        assert after - before < 2000
        pieces[0].release()
        for each in (buffer, raw, strings, content):
            each.append(1)  # nobody holds them any more


def test_the_leak_test_sees_a_leak_of_one_object_in_each_round() -> None:
    kept: list[Any] = []
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(500):
            kept.append(bytes(8))
        assert tracemalloc.get_traced_memory()[0] - before > 2000
    finally:
        tracemalloc.stop()


# --- threads and signals -------------------------------------------------------------------------


def test_many_threads_at_once_give_what_one_gives(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    names = some_files(tmp_path, *(100 * n for n in range(60)))
    with opened(tmp_path) as fd, opened(tmp_path / "out") as out:
        expected = files.scan(fd, names, ALL)
        wanted: list[Wanted] = []
        at = 0
        for found in expected:
            wanted.append(wanted_of(found, at=at))
            at += found.size
        whole = b"".join((tmp_path / os.fsdecode(name)).read_bytes() for name in names)

        def work(number: int) -> bool:
            view = memoryview(bytearray(at))
            for turn in range(10):
                if compare_found(names, NATIVE.scan(fd, names, ALL), expected):
                    return False
                if NATIVE.read_files(fd, wanted, view) or view != whole:
                    return False
                rows = Rows()
                for n in range(20):
                    rows.add(b"%d-%d-%d" % (number, turn, n), bytes(view[: 50 * n]))
                prefix = b"part-%d-" % number
                if rows.restore(NATIVE, out, prefix=prefix)[:2] != (20, []):
                    return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(8)))
    assert len(os.listdir(tmp_path / "out")) == 8 * 10 * 20


def test_a_signal_ends_a_long_scan(tmp_path: Path) -> None:
    names = [b"missing"] * 400_000

    def interrupt(_: int, __: object) -> None:
        raise TimeoutError

    with opened(tmp_path) as fd:
        started = time.monotonic()
        NATIVE.scan(fd, names, 0)
        whole_s = time.monotonic() - started
        before = signal.signal(signal.SIGALRM, interrupt)
        started = time.monotonic()
        try:
            signal.setitimer(signal.ITIMER_REAL, whole_s / 10)
            with pytest.raises(TimeoutError):
                NATIVE.scan(fd, names, 0)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert time.monotonic() - started < whole_s * 0.75


# --- faults --------------------------------------------------------------------------------------

_CHILD = """
import importlib.util, json, os, sys, threading, time
folder, action, built = sys.argv[1:]
name = "onggi.archive._native"
spec = importlib.util.spec_from_file_location(name, built)
native = sys.modules[name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(native)
from onggi.archive import files, layout, restore
from onggi.archive.files import Wanted

fd = os.open(folder, os.O_RDONLY)
found = files.scan(fd, [b"f0", b"f1", b"f2"], 0)
view = memoryview(bytearray(300))
# Another one's, so that the owner has to be set, if this is root; but that of the last one.
others = (4711, 4712) if os.getuid() == 0 else (-1, -1)
owners = {(1, 1): others, (2, 2): (-1, -1)}
raw = b"".join(
    layout.ENTRY_ROW.pack(
        2, 0, 0o640, owner, owner, 0, 7, 0, 2 * n, 2, bytes(2), 0, 4, 4 * n, 0, 1, bytes(4)
    )
    for n, owner in enumerate((1, 1, 2))
)
strings, content = b"n0n1n2", b"012345678901"

def scan():
    return [n for n, each in enumerate(native.scan(fd, [b"f0", b"f1", b"f2"], 3)) if each is None]

def read():
    wanted = [Wanted(each, 0, each.size, 100 * n) for n, each in enumerate(found)]
    return native.read_files(fd, wanted, view)

def restored(noreplace):
    stop, left, made, size = native.restore_rows(
        fd, raw, 0, 3, 0, 0, strings, 0, content, 0, owners, b".p", noreplace, 0o7777
    )
    assert (stop, made, size) == (3, 3 - len(left), 4 * (3 - len(left)))
    return left

def write():
    return restored(True)

def replace():
    return restored(False)

def twin():
    placing = restore.Placing(b"x", False)
    for n in range(3):
        file = restore.NewEntryFile(fd, b".p%d.part" % n, None)
        file.write_at(0, [memoryview(content)[4 * n : 4 * n + 4]])
        owner = owners[1 + n // 2, 1 + n // 2]
        file.finish(fd, b"n%d" % n, restore.Metadata(0o640, *owner, 7), placing)

def ticks():
    done = threading.Thread(target=globals()[os.path.basename(folder)])
    done.start()
    seen = 0
    while done.is_alive():
        time.sleep(0.005)
        seen += 1
    return seen

os.getppid()  # where the trace begins to count
result = globals()[action]()
os.getppid()
print(json.dumps([result, len(os.listdir("/proc/self/fd"))]))
"""


def traced(folder: Path, action: str, *options: str, log: Path = Path("/dev/null")) -> Any:
    """Do something in a child under strace; return its result, and how many files it left open."""
    trace = next((option for option in options if option.startswith("trace=")), None)
    flags = [word for option in options for word in ("-e", option)]
    if trace is None:
        calls = {option.split("=")[1].split(":")[0] for option in options}
        flags = ["-e", f"trace={','.join(sorted(calls))}", *flags]
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", str(log), *flags, "--",
         sys.executable, "-c", _CHILD, str(folder), action, NATIVE.__file__],
        stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.needs("strace")
@pytest.mark.parametrize(
    ("action", "call"), [("scan", "flistxattr"), ("read", "preadv"), ("write", "fchmod")]
)
def test_other_threads_run_while_the_kernel_takes_its_time(
    tmp_path: Path, action: str, call: str
) -> None:
    folder = tmp_path / action
    folder.mkdir()
    some_files(folder, 100, 100, 100)
    assert traced(folder, "ticks", f"inject={call}:delay_enter=200000")[0] > 30


@pytest.mark.needs("strace")
@pytest.mark.parametrize(
    ("action", "call"),
    [
        ("scan", "flistxattr"), ("read", "preadv"), ("write", "pwrite64"),
        pytest.param("write", "fchown", marks=pytest.mark.needs("root")),
        ("write", "fchmod"), ("write", "utimensat"), ("write", "renameat2"),
    ],
)  # fmt: skip
def test_a_call_that_is_interrupted_is_made_again(tmp_path: Path, action: str, call: str) -> None:
    some_files(tmp_path, 100, 100, 100)
    left, opened_now = traced(tmp_path, action, f"inject={call}:error=EINTR:when=1..2")
    assert left == []
    # And one that is interrupted for ever is left to Python, which can do something about it.
    for path in tmp_path.glob("n*"):
        path.unlink()
    again = traced(tmp_path, action, f"inject={call}:error=EINTR")
    whole = ["n2"] if call == "fchown" else []  # its owner is left as it is
    assert again == [[0, 1] if whole else [0, 1, 2], opened_now]
    assert sorted(os.listdir(tmp_path)) == ["f0", "f1", "f2", *whole]


@pytest.mark.needs("strace")
@pytest.mark.parametrize("action", ["write", "replace"])
@pytest.mark.parametrize(
    "fault",
    [
        "pwrite64:error=EIO:when=2",
        "pwrite64:error=ENOSPC:when=2",
        "pwrite64:retval=0:when=2",
        pytest.param("fchown:error=EPERM:when=2", marks=pytest.mark.needs("root")),
        "fchmod:error=EPERM:when=2",
        "utimensat:error=EPERM:when=2",
        "renameat2:error=EACCES:when=2",
    ],
)  # fmt: skip
def test_of_a_file_that_meets_a_fault_nothing_stays(
    tmp_path: Path, action: str, fault: str
) -> None:
    some_files(tmp_path, 1, 1, 1)
    (tmp_path / "n1").write_bytes(b"old")
    if action == "write":
        (tmp_path / "n1").unlink()
    _, opened_now = traced(tmp_path, "scan", "trace=none")
    assert traced(tmp_path, action, f"inject={fault}") == [[1], opened_now]
    stays = [] if action == "write" else ["n1"]
    assert sorted(os.listdir(tmp_path)) == ["f0", "f1", "f2", "n0", *stays, "n2"]
    if stays:
        assert (tmp_path / "n1").read_bytes() == b"old"
    assert (tmp_path / "n2").read_bytes() == b"8901"


@pytest.mark.needs("strace")
def test_a_file_that_can_not_be_closed_well_is_left_to_python(tmp_path: Path) -> None:
    """Some file systems tell only then that they lost what was written."""
    some_files(tmp_path, 1, 1, 1)
    log = tmp_path.parent / "log"
    traced(tmp_path, "write", "trace=close,renameat2,getppid", log=log)
    calls = [line.split()[1].split("(")[0] for line in log.read_text().splitlines()]
    second = [n for n, call in enumerate(calls) if call == "renameat2"][1]
    closes = calls[: second + 1].count("close") + 1
    for path in tmp_path.glob("n*"):
        path.unlink()
    left, _ = traced(tmp_path, "write", f"inject=close:error=EIO:when={closes}")
    assert left == [1]
    assert sorted(os.listdir(tmp_path)) == ["f0", "f1", "f2", "n0", "n2"]


@pytest.mark.needs("strace")
@pytest.mark.parametrize("error", ["EINVAL", "ENOSYS"])
def test_where_names_can_not_be_kept_the_rest_is_left_to_python_at_once(
    tmp_path: Path, error: str
) -> None:
    some_files(tmp_path, 1, 1, 1)
    log = tmp_path.parent / "log"
    trace = "trace=renameat2,pwrite64"
    left, _ = traced(tmp_path, "write", trace, f"inject=renameat2:error={error}", log=log)
    assert left == [0, 1, 2]
    assert log.read_text().count("renameat2") == 1
    assert log.read_text().count("pwrite64") == 1
    assert sorted(os.listdir(tmp_path)) == ["f0", "f1", "f2"]


@pytest.mark.needs("strace")
def test_a_file_is_made_by_the_calls_of_the_twin_in_their_order(tmp_path: Path) -> None:
    some_files(tmp_path, 1, 1, 1)
    seen: list[list[str]] = []
    for action in ("write", "twin"):
        log = tmp_path.parent / f"log-{action}"
        traced(tmp_path, action, "trace=all", log=log)
        text = log.read_text().split("getppid()")[1]
        names = [line.split(maxsplit=1)[1].split("(")[0] for line in text.splitlines()[1:-1]]
        ours = {
            "openat", "pwrite64", "fchown", "fchmod", "utimensat", "renameat2", "close", "fstat",
            "newfstatat", "unlinkat", "ftruncate", "renameat", "rename", "write", "lseek", "ioctl",
        }  # fmt: skip
        # Python's own: none of these but for the files.
        seen.append([name for name in names if name in ours])
        for path in tmp_path.glob("n*"):
            path.unlink()
    kept = ["openat", "pwrite64", "fchmod", "utimensat", "renameat2", "close"]
    if os.getuid():
        assert seen == [3 * kept, 3 * kept]
        return
    given = ["openat", "pwrite64", "fchown", "fchmod", "utimensat", "renameat2", "close"]
    assert seen[1] == 2 * given + kept
    # It asks first whose the file is.
    assert [call for call in seen[0] if "stat" not in call] == seen[1]
    assert len(seen[0]) == len(seen[1]) + 2
