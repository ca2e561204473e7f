"""The compiled functions and their twins in Python do the same to the same folders.

`scan` and `read_files` are compared by what they give, `restore_rows` by what is there afterwards;
what they leave to Python is left for a reason. Needs the compiled part: there is no skip for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import random
import re
import resource
import signal
import stat
import struct
import subprocess
import sys
import sysconfig
import textwrap
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from onggi.archive import accelerate, files, layout, restore
from onggi.archive.entry import Entry, decode_entry, is_entry_name
from onggi.archive.errors import DamagedError
from onggi.archive.files import WANT_ATTRIBUTES, WANT_FILE_FLAGS, Found, Wanted
from onggi.archive.restore import Failure, Metadata, NewEntryFile, Placing

_built = accelerate.native()
assert _built is not None, "archive/_native.c is not built: .ci/install --native builds it"
NATIVE = _built

ROOT = Path(__file__).parents[2]
ALL = WANT_ATTRIBUTES | WANT_FILE_FLAGS
NOBODY = 65_534
SECRET = b"what must not be read"
FILL = 0xA5

_GETFLAGS, _SETFLAGS = 0x80086601, 0x40086602
_NODUMP, _NOATIME = 0x40, 0x80
_PR_SET_DUMPABLE = 4

ODD_NAMES = [
    b"plain", b" ", b"-rf", b"new\nline", b"tab\t", b"\xff\xfe\x80", b"%s%n%d", b"\\", b"'\"",
    "옹기 ø".encode(), b"n" * 255, b".hidden", b"...", b"*", b"~", b"\x01", b"$(x)", b"a:b",
]  # fmt: skip
TIMES_NS = [
    0, 1, -1, -(10**9), -1_500_000_001, 1_700_000_000_123_456_789, 2**31 * 10**9, -(2**31) * 10**9,
    2**32 * 10**9 + 5, 253_402_300_799 * 10**6, 2**63 - 1, -(2**63),
]  # fmt: skip


@contextlib.contextmanager
def in_python() -> Iterator[None]:
    """Switch the compiled functions off meanwhile; not for use beside other threads."""
    kept = accelerate._module
    accelerate.disable()
    try:
        yield
    finally:
        accelerate._module = kept


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[int]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.fixture(autouse=True)
def _no_descriptor_stays() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert os.listdir("/proc/self/fd") == before


# --- places -------------------------------------------------------------------------------------


@contextlib.contextmanager
def mounted(where: Path, *what: object) -> Iterator[Path]:
    where.mkdir()
    subprocess.run(["mount", *map(str, what), str(where)], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)


def ext4(tmp_path: Path, loops: Any, size: int = 32 << 20) -> Path:
    """Return a loop device with a file system on it."""
    image = tmp_path / "image"
    with image.open("xb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-I", "256", str(image)], check=True)
    return Path(loops(image))


PLACES = [
    "here",
    pytest.param("tmpfs", marks=pytest.mark.needs("root", "mount")),
    pytest.param("ext4", marks=pytest.mark.needs("loop", "mkfs.ext4")),
]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path, loops: Any) -> Iterator[Path]:
    """A folder on a file system of each kind."""
    if request.param == "here":
        yield tmp_path
    elif request.param == "tmpfs":
        with mounted(tmp_path / "tmpfs", "-t", "tmpfs", "-o", "size=64m", "none") as folder:
            yield folder
    else:
        with mounted(tmp_path / "ext4", ext4(tmp_path, loops)) as folder:
            yield folder


@pytest.fixture
def open_place(tmp_path: Path) -> Iterator[Path]:
    """A folder that anyone may enter and write, whatever is above it."""
    with mounted(tmp_path / "open", "-t", "tmpfs", "-o", "size=8m,mode=777", "none") as folder:
        yield folder


def in_child(action: Callable[[], Any], *, as_nobody: bool = False) -> Any:
    """Do something in a child; return what it gives, which must fit into JSON.

    What limits it puts on itself, and the rights that it gives up, end with it.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(reading)
            if as_nobody:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
                # Otherwise /proc/self is root's.
                ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
            os.write(writing, json.dumps(action()).encode())
            code = 0
        except BaseException as error:
            os.write(writing, json.dumps(f"{type(error).__name__}: {error}").encode())
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = json.loads(pipe.read() or b"null")
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == 0, said
    return said


# --- looking ------------------------------------------------------------------------------------


def look(fd: int, name: bytes, wanted: int) -> Found | None:
    """Return what Python finds; None if it can't be asked for."""
    try:
        with in_python():
            return files.scan(fd, [name], wanted)[0]
    except ValueError:  # it holds a NUL
        return None


def is_common(found: Found | None) -> bool:
    if found is None or found.error or found.attributes:
        return False
    return all(-(2**63) <= ns < 2**63 for ns in (found.mtime_ns, found.ctime_ns))


def scan_differences(native: Any, fd: int, names: Sequence[bytes], wanted: int) -> list[str]:
    """Return how the compiled `scan` differs from its twin, name by name."""
    return compare_found(
        names, native.scan(fd, names, wanted), [look(fd, name, wanted) for name in names]
    )


def compare_found(
    names: Sequence[bytes], ones: Sequence[Any], twos: Sequence[Found | None]
) -> list[str]:
    if len(ones) != len(names):
        return ["there are more or fewer of them"]
    differences: list[str] = []
    for name, one, two in zip(names, ones, twos, strict=True):
        if one is None:
            if is_common(two):
                differences.append(f"{name!r} is common, and was left to Python")
        elif two is None or not is_common(two):
            differences.append(f"{name!r} is not common, and was not left to Python")
        elif type(one) is not tuple or list(map(type, one)) != list(map(type, two)):
            differences.append(f"{name!r} is of other types")
        elif one != tuple(two):
            fields = [f for f, a, b in zip(two._fields, one, two, strict=True) if a != b]
            differences.append(f"{name!r} differs in {', '.join(fields)}")
    return differences


def set_file_flags(path: bytes, flags: int) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        own = struct.unpack_from("=I", fcntl.ioctl(fd, _GETFLAGS, bytes(8)))[0]
        fcntl.ioctl(fd, _SETFLAGS, struct.pack("=Q", own | flags))
    finally:
        os.close(fd)


def make_thing(folder: bytes, name: bytes, noise: random.Random) -> None:
    """Make something of a random kind, with random metadata as far as the place has such."""
    path = folder + b"/" + name
    kinds = ["file", "file", "file", "empty", "sparse", "folder", "link", "fifo", "socket", "hard"]
    if os.geteuid() == 0:
        kinds += ["char", "block"]
    kind = noise.choice(kinds)
    if kind in ("file", "empty", "sparse"):
        with open(path, "xb") as file:
            if kind == "sparse":
                file.truncate(noise.randrange(1 << 20))
            if kind != "empty":
                file.write(noise.randbytes(noise.choice([1, 511, 512, 4095, 4096, 4097, 70_000])))
    elif kind == "folder":
        os.mkdir(path)
    elif kind == "link":
        os.symlink(noise.choice([b"plain", b"/nowhere", b"x" * 1000, b"."]), path)
    elif kind == "hard":
        others = [
            entry.path for entry in os.scandir(folder) if not entry.is_dir(follow_symlinks=False)
        ]
        if not others:
            return
        os.link(noise.choice(sorted(others)), path, follow_symlinks=False)
        return
    else:
        types = {
            "fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK, "char": stat.S_IFCHR,
            "block": stat.S_IFBLK,
        }  # fmt: skip
        device = os.makedev(noise.randrange(1 << 12), noise.randrange(1 << 20))
        os.mknod(path, types[kind] | 0o600, device)
    if noise.random() < 0.2:
        for attribute in ("user.x", "trusted.x"):
            with contextlib.suppress(OSError):
                os.setxattr(path, attribute, noise.randbytes(5), follow_symlinks=False)
    if kind in ("file", "empty", "sparse", "folder") and noise.random() < 0.3:
        with contextlib.suppress(OSError):
            set_file_flags(path, noise.choice([_NODUMP, _NOATIME, _NODUMP | _NOATIME]))
    if os.geteuid() == 0 and noise.random() < 0.5:
        owners = [0, 1, 1000, NOBODY, 2**31, 2**32 - 2]
        os.chown(path, noise.choice(owners), noise.choice(owners), follow_symlinks=False)
    if kind != "link":
        os.chmod(path, noise.randrange(0o10000) | (0o700 if kind == "folder" else 0))
    mtime_ns = noise.choice(TIMES_NS)
    with contextlib.suppress(OSError):
        os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)


def make_things(folder: Path, seed: int) -> list[bytes]:
    """Fill a folder; return the names, and some that are not there or can't be."""
    noise = random.Random(seed)
    raw = os.fsencode(folder)
    names = [*ODD_NAMES, *(b"%d" % n for n in range(40))]
    noise.shuffle(names)
    for name in names:
        make_thing(raw, name, noise)
    with opened(folder) as fd:
        restore.sync_file_system(fd)  # so that the number of blocks is known
    names += [b"missing", b"", b"a\0b", b"plain\0", b"x" * 256, b"plain/", b".", b"..", b"/"]
    return names + names[:3]


@pytest.mark.parametrize("seed", range(4))
def test_scan_gives_what_its_twin_gives(place: Path, seed: int) -> None:
    (place / "things").mkdir()
    names = make_things(place / "things", seed)
    with opened(place / "things") as fd:
        for wanted in (0, WANT_ATTRIBUTES, WANT_FILE_FLAGS, ALL):
            assert scan_differences(NATIVE, fd, names, wanted) == []
            if os.geteuid() == 0:  # who may read all
                common = [each for each in NATIVE.scan(fd, names, wanted) if each is not None]
                assert len(common) > 30


@pytest.mark.needs("loop", "mkfs.ext4")
def test_flags_and_attributes_are_seen_where_they_are(tmp_path: Path, loops: Any) -> None:
    with mounted(tmp_path / "ext4", ext4(tmp_path, loops)) as folder, opened(folder) as fd:
        for name in ("plain", "flags", "user", "acl"):
            (folder / name).touch()
        set_file_flags(os.fsencode(folder / "flags"), _NODUMP | 0x10 | 0x20)
        os.setxattr(folder / "user", "user.x", b"")
        acl = struct.pack("<I" + "HHI" * 4, 2, 1, 6, 2**32 - 1, 2, 4, 1000, 4, 4, 2**32 - 1, 32, 0,
                          2**32 - 1)  # fmt: skip
        with contextlib.suppress(OSError):  # four entries, but no mask: refused by some
            os.setxattr(folder / "acl", "system.posix_acl_access", acl)
        os.symlink("plain", folder / "link")
        os.setxattr(folder / "link", "trusted.x", b"1", follow_symlinks=False)
        os.mkfifo(folder / "fifo")
        os.setxattr(folder / "fifo", "trusted.x", b"1")
        names = [b"plain", b"flags", b"user", b"link", b"fifo"]
        assert [each is None for each in NATIVE.scan(fd, names, ALL)] == [
            False, False, True, True, True,
        ]  # fmt: skip
        assert None not in NATIVE.scan(fd, names, WANT_FILE_FLAGS)
        flags = NATIVE.scan(fd, [b"flags"], ALL)[0]
        assert flags is not None
        assert flags[12] == _NODUMP | 0x10 | 0x20
        assert scan_differences(NATIVE, fd, [*names, b"acl"], ALL) == []
        set_all = os.open(folder / "flags", os.O_RDONLY)
        fcntl.ioctl(set_all, _SETFLAGS, bytes(8))  # not immutable any more, so that it can go
        os.close(set_all)


@pytest.mark.needs("root", "mount")
def test_a_time_beyond_64_bits_is_left_to_python(open_place: Path) -> None:
    far_ns = 2**34 * 10**9
    (open_place / "far").touch()
    os.utime(open_place / "far", ns=(far_ns, far_ns))
    with opened(open_place) as fd:
        found = look(fd, b"far", ALL)
        assert found is not None
        assert found.mtime_ns == far_ns
        assert NATIVE.scan(fd, [b"far"], ALL) == [None]


@pytest.mark.needs("root", "mount")
def test_who_may_not_read_a_thing_leaves_it_to_python(open_place: Path) -> None:
    """Nor may who is not the owner ask for O_NOATIME: he reads without."""
    for name, mode in (("open", 0o644), ("closed", 0o600), ("folder", 0o700)):
        path = open_place / name
        path.mkdir() if name == "folder" else path.write_bytes(b"1234")
        path.chmod(mode)
    names = [b"open", b"closed", b"folder"]
    with opened(open_place) as fd:

        def both() -> list[Any]:
            found = NATIVE.scan(fd, names, ALL)
            view = memoryview(bytearray(4))
            read = NATIVE.read_files(fd, [Wanted(Found(*found[0] or ()), 0, 4, 0)], view)
            left = [each is None for each in found]
            return [scan_differences(NATIVE, fd, names, ALL), left, read, bytes(view).decode()]

        assert in_child(both, as_nobody=True) == [[], [False, True, True], [], "1234"]


@pytest.mark.needs("loop", "mkfs.ext4")
def test_looking_and_reading_leave_access_times_alone(tmp_path: Path, loops: Any) -> None:
    device = ext4(tmp_path, loops)
    with mounted(tmp_path / "ext4", "-o", "strictatime", device) as folder, opened(folder) as fd:
        (folder / "file").write_bytes(b"1234")
        (folder / "inner").mkdir()
        for name in ("file", "inner"):
            os.utime(folder / name, ns=(1, 2))
        found = NATIVE.scan(fd, [b"file", b"inner"], ALL)[0]
        assert found is not None
        assert NATIVE.read_files(fd, [wanted_of(Found(*found))], memoryview(bytearray(4))) == []
        assert [(folder / name).stat().st_atime_ns for name in ("file", "inner")] == [1, 1]
        (folder / "file").read_bytes()  # or the file system would not tell
        assert (folder / "file").stat().st_atime_ns > 1


def test_many_names_are_looked_at_in_their_order(tmp_path: Path) -> None:
    names = [b"%d" % n for n in range(1500)]
    for name in names[::2]:
        (tmp_path / os.fsdecode(name)).touch()
    with opened(tmp_path) as fd:
        found = NATIVE.scan(fd, names, 0)
        assert [each and each[0] for each in found[::2]] == names[::2]
        assert set(found[1::2]) == {None}
        assert NATIVE.scan(fd, [], ALL) == []
        assert NATIVE.scan(fd, tuple(names), 0) == found


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


# --- reading ------------------------------------------------------------------------------------


def wanted_of(found: Found, member_offset: int = 0, length: int | None = None, at: int = 0) -> Any:
    return Wanted(found, member_offset, found.size if length is None else length, at)


def read_differences(native: Any, fd: int, wanted: Sequence[Wanted], size: int) -> list[str]:
    """Return how the compiled `read_files`, and its twin for the rest, differ from the twin."""
    one, two = (memoryview(bytearray([FILL]) * size) for _ in range(2))
    with in_python():
        expected = [problem.number for problem in files.read_files(fd, wanted, two)]
    left = native.read_files(fd, wanted, one)
    differences: list[str] = []
    if left != expected:
        differences.append(f"{left} were left to Python, {expected} have problems")
    with in_python():
        files.read_files(fd, [wanted[number] for number in left], one)
    if one != two:
        at = next(n for n in range(size) if one[n] != two[n])
        differences.append(f"byte {at} differs")
    return differences


def some_files(folder: Path, *sizes: int) -> list[bytes]:
    for n, size in enumerate(sizes):
        (folder / f"f{n}").write_bytes(random.Random(size).randbytes(size))
    time.sleep(0.03)  # what is done to them now gets another ctime, however coarse the clock
    return [b"f%d" % n for n in range(len(sizes))]


@pytest.mark.parametrize("seed", range(6))
def test_read_files_reads_what_its_twin_reads(place: Path, seed: int) -> None:
    noise = random.Random(seed)
    sizes = [0, 1, 4095, 4096, 4097, 300_000, *(noise.randrange(20_000) for _ in range(20))]
    with opened(place) as fd:
        names = some_files(place, *sizes)
        wanted: list[Wanted] = []
        at = 0
        for found in files.scan(fd, noise.choices(names, k=60), ALL):
            member_offset = noise.choice([0, noise.randrange(found.size + 1)])
            length = noise.choice(
                [0, found.size - member_offset, noise.randrange(found.size - member_offset + 1)]
            )
            if noise.random() < 0.1:  # beyond the end
                length += 1
            at += noise.randrange(3)  # what is between them must stay
            wanted.append(Wanted(found, member_offset, length, at))
            at += length
        assert read_differences(NATIVE, fd, wanted, at + 5) == []
        assert len(NATIVE.read_files(fd, wanted, memoryview(bytearray(at)))) < 30


def swap(path: Path) -> Path:
    """Take a file away, under a name that the tests do not use."""
    path.rename(path.with_name("old"))
    return path


def _by_another(path: Path) -> None:
    times = path.stat()
    other = path.with_name("other")
    other.write_bytes(SECRET)
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.rename(path)


def _by_its_hard_link(path: Path) -> None:
    path.with_name("again").hardlink_to(path)  # the same file, but its ctime


def _by_a_link_to_it(path: Path) -> None:
    swap(path).symlink_to("old")


def _by_a_link_to_another(path: Path) -> None:
    path.with_name("other").write_bytes(SECRET)
    swap(path).symlink_to("other")


def _grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"1")


def _rewritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"1")


def _touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def _rewritten_with_its_time(path: Path) -> None:
    times = path.stat()
    _rewritten(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "replaced": _by_another,
    "removed": lambda path: path.unlink(),
    "grown": _grown,
    "shrunk": lambda path: os.truncate(path, 1),
    "emptied": lambda path: os.truncate(path, 0),
    "rewritten": _rewritten,
    "rewritten with its time": _rewritten_with_its_time,
    "touched": _touched,
    "with another mode": lambda path: path.chmod(0o640),
    "with another name": _by_its_hard_link,
    "a link to it": _by_a_link_to_it,
    "a link to another": _by_a_link_to_another,
    "a folder": lambda path: swap(path).mkdir(),
    "a fifo": lambda path: os.mkfifo(swap(path)),
    "a socket": lambda path: os.mknod(swap(path), stat.S_IFSOCK | 0o600),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changed_since_it_was_found_is_left_to_python(place: Path, change: str) -> None:
    with opened(place) as fd:
        names = some_files(place, 5000, len(SECRET), 5000)
        wanted: list[Wanted] = []
        at = 0
        for found in files.scan(fd, names, ALL):
            wanted.append(Wanted(found, 0, found.size, at))
            at += found.size
        assert NATIVE.read_files(fd, wanted, memoryview(bytearray(at))) == []
        CHANGES[change](place / "f1")
        view = memoryview(bytearray(at))
        assert NATIVE.read_files(fd, wanted, view) == [1]
        assert SECRET not in bytes(view)
        assert read_differences(NATIVE, fd, wanted, at) == []


@pytest.mark.parametrize("field", ["size", "mtime_ns", "ctime_ns", "dev", "ino"])
@pytest.mark.parametrize(
    "value", [lambda n: n + 1, lambda n: n - 1, lambda _: -1, lambda n: n + 2**64, lambda _: 2**80]
)
def test_each_thing_that_identifies_a_file_counts(
    tmp_path: Path, field: str, value: Callable[[int], int]
) -> None:
    with opened(tmp_path) as fd:
        (found,) = files.scan(fd, some_files(tmp_path, 100), ALL)
        wrong = found._replace(**{field: value(getattr(found, field))})
        view = memoryview(bytearray(100))
        assert NATIVE.read_files(fd, [wanted_of(wrong), wanted_of(found)], view) == [0]


@pytest.mark.parametrize(
    ("member_offset", "length", "view_offset"),
    [
        (0, 101, 10), (1, 100, 10), (101, 0, 500), (0, 100, 901), (0, 100, 1000), (0, 100, 1001),
        (0, 1, 1000), (0, 1, -1), (0, -1, 10), (-1, 10, 10), (0, -(2**63), 10), (0, 10, 2**63 - 1),
        (0, 2**63 - 1, 1), (2**63 - 1, 1, 0), (2**63 - 1, 2**63 - 1, 0), (0, 1, -(2**63)),
        (2**64, 1, 0), (0, 2**64, 0), (0, 1, 2**64), (0, 2**62, 2**62), (-(2**64), 1, 0),
    ],
)  # fmt: skip
def test_a_span_that_does_not_fit_touches_nothing_outside(
    tmp_path: Path, member_offset: int, length: int, view_offset: int
) -> None:
    with opened(tmp_path) as fd:
        (found,) = files.scan(fd, some_files(tmp_path, 100), ALL)
        whole = bytearray([FILL]) * 3000
        view = memoryview(whole)[1000:2000]
        wanted = [Wanted(found, member_offset, length, view_offset), wanted_of(found, at=10)]
        left = NATIVE.read_files(fd, wanted, view)
        assert left == ([] if (member_offset, length) == (101, 0) else [0])
        assert view[10:110] == (tmp_path / "f0").read_bytes()
        del view, wanted
        whole[1010:1110] = bytes([FILL]) * 100
        inside = whole[1000:2000].count(FILL)
        assert whole.count(FILL) - inside == 2000
        assert inside >= 900


def test_a_link_is_not_read_though_it_leads_to_the_very_file(tmp_path: Path) -> None:
    with opened(tmp_path) as fd:
        (found,) = files.scan(fd, some_files(tmp_path, 100), ALL)
        (tmp_path / "link").symlink_to("f0")
        wanted = [wanted_of(found._replace(name=b"link")), wanted_of(found, at=100)]
        assert NATIVE.read_files(fd, wanted, memoryview(bytearray(200))) == [0]
        assert read_differences(NATIVE, fd, wanted, 200) == []


def test_an_empty_view_and_no_items_are_no_trouble(tmp_path: Path) -> None:
    with opened(tmp_path) as fd:
        (found,) = files.scan(fd, some_files(tmp_path, 0), ALL)
        assert NATIVE.read_files(fd, [], memoryview(bytearray())) == []
        assert NATIVE.read_files(fd, [wanted_of(found)], memoryview(bytearray())) == []
        assert NATIVE.read_files(fd, [wanted_of(found, 0, 1)], memoryview(bytearray())) == [0]
        assert Rows().restore(NATIVE, fd) == (0, [], 0, 0)


# --- restoring ----------------------------------------------------------------------------------

PARENT, FIRST_ROW = 5, 100
STRINGS_OFFSET, CONTENT_OFFSET = 1000, 10_000_000
MTIME_NS = 1_700_000_000_123_456_789


class Rows:
    """Rows of one directory, their names and their content, as a catalogue holds them.

    Attributes:
        owners: as `restore_rows` takes them.
        mode_bits: so too.
    """

    def __init__(self, owners: Any = None, mode_bits: int = layout.MODE_BITS) -> None:
        self.owners = owners
        self.mode_bits = mode_bits
        self.raw = bytearray()
        self.strings = bytearray()
        self.content = bytearray()

    def __len__(self) -> int:
        return len(self.raw) // layout.ENTRY_ROW_BYTES

    def add(self, name: bytes, content: bytes = b"", **fields: Any) -> Rows:
        """Add a file; `fields` of its row may be what they can't be."""
        row = {
            "type": layout.ENTRY_FILE, "flags": 0, "mode": 0o644, "uid": 0, "gid": 0,
            "file_flags": 0, "mtime_ns": MTIME_NS, "parent": PARENT,
            "name_offset": STRINGS_OFFSET + len(self.strings), "name_bytes": len(name),
            "reserved_1": bytes(2), "attributes": 0, "member_bytes": len(content),
            "first": CONTENT_OFFSET + len(self.content) if content else 0, "total": 0,
            "link_count": 1, "reserved_2": bytes(4),
        }  # fmt: skip
        assert fields.keys() <= row.keys()
        self.raw += layout.ENTRY_ROW.pack(*(row | fields).values())
        self.strings += name
        self.content += content
        return self

    def entry(self, number: int) -> Entry | None:
        """Return the entry in a row; None if there can be no such one."""
        at = number * layout.ENTRY_ROW_BYTES
        raw = bytes(self.raw[at : at + layout.ENTRY_ROW_BYTES])
        try:
            return decode_entry(FIRST_ROW + number, raw)
        except DamagedError:
            return None

    def name(self, entry: Entry) -> bytes:
        """Return a name; empty if it is not among the strings, or can't be one."""
        at = entry.name_offset - STRINGS_OFFSET
        name = bytes(self.strings[max(at, 0) : max(at, 0) + entry.name_bytes])
        good = at >= 0 and len(name) == entry.name_bytes and is_entry_name(name)
        return name if good else b""

    def is_behind(self, number: int) -> bool:
        """Tell whether a row is that of a file whose bytes lie behind the content."""
        entry = self.entry(number)
        end = CONTENT_OFFSET + len(self.content)
        return entry is not None and is_plain(entry) and entry.member_bytes > 0 <= entry.first - end

    def restore(
        self, native: Any, folder: int, first: int = 0, *, end: int | None = None,
        noreplace: bool = True, prefix: bytes | None = None,
    ) -> tuple[int, list[int], int, int]:  # fmt: skip
        """Call `restore_rows`."""
        return native.restore_rows(
            folder, bytes(self.raw), first, len(self) if end is None else end, FIRST_ROW, PARENT,
            bytes(self.strings), STRINGS_OFFSET, bytes(self.content), CONTENT_OFFSET, self.owners,
            Placing(b"x", False).prefix if prefix is None else prefix, noreplace, self.mode_bits,
        )  # fmt: skip

    def left(self, folder: int, **options: Any) -> list[int]:
        """Call the compiled `restore_rows`; return what it left to Python."""
        before = os.listdir("/proc/self/fd")
        stop, left, made, _ = self.restore(NATIVE, folder, **options)
        assert stop == len(self)
        assert made == len(self) - len(left)
        assert os.listdir("/proc/self/fd") == before
        return left


def is_plain(entry: Entry) -> bool:
    special = (entry.flags, entry.file_flags, entry.attributes, entry.total)
    return entry.is_file and not any(special) and entry.parent == PARENT


class Made(NamedTuple):
    """What the twin did for a row; `failures` is None if nothing is there."""

    name: bytes
    failures: list[Failure] | None


def make_in_python(folder: int, rows: Rows, number: int, noreplace: bool) -> Made:
    """Make the file of a row as Python does, if it is one that can be made from these rows."""
    entry = rows.entry(number)
    if entry is None or not is_plain(entry):
        return Made(b"", None)
    name, at = rows.name(entry), entry.first - CONTENT_OFFSET
    content = memoryview(rows.content)[max(at, 0) : max(at, 0) + entry.member_bytes]
    if not name or (entry.member_bytes and at < 0) or len(content) < entry.member_bytes:
        return Made(name, None)
    uid = gid = -1
    if rows.owners is not None:
        if (entry.uid, entry.gid) not in rows.owners:
            return Made(name, None)
        uid, gid = rows.owners[entry.uid, entry.gid]
    placing = Placing(b"x", not noreplace)
    try:
        new = NewEntryFile(folder, placing.part(FIRST_ROW + number), None)
        try:
            new.write_at(0, [content])
        except BaseException:
            new.discard(folder)
            raise
        metadata = Metadata(entry.mode & rows.mode_bits, uid, gid, entry.mtime_ns)
        failures = new.finish(folder, name, metadata, placing)
    except (OSError, OverflowError):
        return Made(name, None)
    if entry.mode & ~rows.mode_bits:
        failures.append(Failure("mode", 0))
    return Made(name, failures)


def state_of(folder: Path, without_times: Sequence[bytes] = ()) -> dict[bytes, Any]:
    """Return all that is in a folder."""
    found: dict[bytes, Any] = {}
    for name in os.listdir(os.fsencode(folder)):
        path = os.fsencode(folder) + b"/" + name
        known = os.lstat(path)
        content: Any = None
        if stat.S_ISREG(known.st_mode):
            readable = os.geteuid() == 0 or known.st_mode & 0o400
            if not readable:
                os.chmod(path, 0o600)
            with open(path, "rb") as file:
                content = file.read()
            if not readable:
                os.chmod(path, stat.S_IMODE(known.st_mode))
        elif stat.S_ISLNK(known.st_mode):
            content = os.readlink(path)
        mtime_ns = known.st_mtime_ns if stat.S_ISREG(known.st_mode) else 0
        found[name] = (
            known.st_mode, known.st_uid, known.st_gid, known.st_nlink, content,
            None if name in without_times else mtime_ns,
        )  # fmt: skip
    return found


def restore_differences(
    native: Any, one: Path, two: Path, rows: Rows, *, first: int = 0, noreplace: bool = True
) -> list[str]:
    """Return how `restore_rows`, and its twin for the rest, differ from the twin.

    Args:
        native: what is tried.
        one: a folder.
        two: another, in the same state.
        rows: what to restore; each name once.
        first: row to begin with.
        noreplace: as `restore_rows` has it.
    """
    before = state_of(one)
    stop = next((n for n in range(first, len(rows)) if rows.is_behind(n)), len(rows))
    with opened(one) as ours, opened(two) as theirs:
        given = rows.restore(native, ours, first, noreplace=noreplace)
        middle = state_of(one)
        made = {n: make_in_python(theirs, rows, n, noreplace) for n in range(first, stop)}
        expected = [n for n, each in made.items() if each.failures is None or each.failures]
        whole = [rows.entry(n) for n in made if n not in expected]
        size = sum(entry.member_bytes for entry in whole if entry)
        differences: list[str] = []
        if given != (stop, expected, len(whole), size):
            differences.append(f"{given} was given, not {(stop, expected, len(whole), size)}")
        for number in given[1]:
            name = made[number].name if number in made else b""
            if middle.get(name) != before.get(name):
                differences.append(f"something of row {number} stayed, or took something away")
            make_in_python(ours, rows, number, noreplace)
        prefix = Placing(b"x", False).prefix
        if {name for name in middle.keys() - before.keys() if name.startswith(prefix)}:
            differences.append("a temporary name stayed")
    timeless = [
        each.name
        for each in made.values()
        if each.failures and any(failure.kind == "time" for failure in each.failures)
    ]
    ours_now, theirs_now = state_of(one, timeless), state_of(two, timeless)
    for name in sorted(ours_now.keys() | theirs_now.keys()):
        if ours_now.get(name) != theirs_now.get(name):
            differences.append(f"{name!r} differs")
    return differences


def two_folders(place: Path) -> tuple[Path, Path]:
    """Return two folders with the same things in the way."""
    made: list[Path] = []
    for name in ("one", "two"):
        folder = place / name
        folder.mkdir()
        (folder / "file").write_bytes(b"old")
        (folder / "file").chmod(0o604)
        os.utime(folder / "file", ns=(5, 5))
        (folder / "link").symlink_to("file")
        (folder / "dangling").symlink_to("nowhere")
        (folder / "inner").mkdir()
        (folder / "inner" / "x").touch()
        (folder / "empty").mkdir()
        os.mkfifo(folder / "fifo")
        made.append(folder)
    return made[0], made[1]


IN_THE_WAY = [b"file", b"link", b"dangling", b"inner", b"empty", b"fifo"]

# Fields of rows that make them special, that other rules forbid, or that lie somewhere else.
ODD_FIELDS: list[dict[str, Any]] = [
    *({"type": kind} for kind in range(10) if kind != layout.ENTRY_FILE),
    *({"flags": 1 << bit} for bit in range(8)),
    {"flags": layout.FLAG_MAPPED, "total": 1}, {"mode": 0o10000}, {"mode": 0xFFFF},
    {"file_flags": _NODUMP}, {"attributes": 1}, {"total": 1}, {"total": 2**64 - 1},
    {"link_count": 0}, {"parent": PARENT - 1}, {"parent": 0}, {"parent": 2**64 - 1},
    {"reserved_1": b"\0\1"}, {"reserved_2": b"\0\0\0\1"},
    {"name_bytes": 0}, {"name_bytes": 256}, {"name_bytes": 65_535}, {"name_offset": 0},
    {"name_offset": STRINGS_OFFSET - 1}, {"name_offset": 2**63}, {"name_offset": 2**64 - 1},
    {"name_offset": 2**64 - 1 - STRINGS_OFFSET}, {"first": 0}, {"first": CONTENT_OFFSET - 1},
    {"member_bytes": 2**40}, {"member_bytes": 2**63 - 1}, {"member_bytes": 2**64 - 1},
    {"member_bytes": 2**64 - CONTENT_OFFSET}, {"member_bytes": 0}, {"uid": 2**32 - 1},
    {"gid": 2**32 - 1}, {"uid": 4711}, {"gid": 4711}, {"link_count": 2**32 - 1}, {"link_count": 2},
]  # fmt: skip


def some_owners() -> dict[tuple[int, int], tuple[int, int]] | None:
    """Return whose the files are, where that may be chosen; hostile ones are left to Python."""
    if os.geteuid():
        return None
    numbers = [0, 1000, 2**31, 2**32 - 1]
    owners = {(uid, gid): (uid, gid) for uid in numbers for gid in numbers if max(uid, gid) < 2**31}
    owners[2**31, 2**31] = (2**32 - 2, 2**32 - 2)
    owners[0, 2**31] = (-1, 1)
    owners[2**31, 0] = (1, -1)
    owners[1000, 2**31] = (-1, -1)
    return owners


def random_rows(noise: random.Random, owners: Any) -> Rows:
    """Return rows of all kinds; most of them common."""
    rows = Rows(owners, noise.choice([0o7777, 0o1777]))
    names = [
        *ODD_NAMES, *IN_THE_WAY, b"", b".", b"..", b"n" * 256, b"a\0b", b"inner/new", b"/new",
        *(b"x%d" % n for n in range(60)),
    ]  # fmt: skip
    noise.shuffle(names)
    for name in names:
        fields: dict[str, Any] = {
            "mode": noise.choice([0o644, 0o600, noise.randrange(0o10000)]),
            "mtime_ns": noise.choice([*TIMES_NS, 10**18, -(10**18)]),
            "uid": noise.choice([0, 0, 0, 1000, 2**31]),
            "gid": noise.choice([0, 0, 0, 1000, 2**31]),
        }
        if noise.random() < 0.2:
            fields |= noise.choice(ODD_FIELDS)
        rows.add(name, noise.randbytes(noise.choice([0, 1, 10, 4096, 5000, 70_000])), **fields)
    if noise.random() < 0.5:  # the last ones lie behind the content
        del rows.content[-noise.randrange(150_000) :]
    return rows


@pytest.mark.parametrize("noreplace", [True, False], ids=["keeping", "replacing"])
@pytest.mark.parametrize("seed", range(6))
def test_restore_rows_makes_what_its_twin_makes(place: Path, seed: int, noreplace: bool) -> None:
    one, two = two_folders(place)
    noise = random.Random(seed)
    rows = random_rows(noise, noise.choice([None, some_owners()]))
    first = noise.choice([0, 0, 3])
    umask = os.umask(0o027)
    try:
        differences = restore_differences(NATIVE, one, two, rows, first=first, noreplace=noreplace)
    finally:
        os.umask(umask)
    assert differences == []
    assert len(os.listdir(one)) > 30


@pytest.mark.parametrize("fields", ODD_FIELDS, ids=str)
def test_a_row_that_is_not_that_of_a_plain_file_is_left_to_python(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    rows = Rows(some_owners()).add(b"a", b"12").add(b"odd", b"34", **fields).add(b"z", b"56")
    one, two = two_folders(tmp_path)
    assert restore_differences(NATIVE, one, two, rows) == []
    assert (one / "z").read_bytes() == b"56"


@pytest.mark.parametrize("seed", range(3))
def test_rows_of_any_bytes_do_no_harm(tmp_path: Path, seed: int) -> None:
    """Most of each row is good, but for some bytes; then nothing is."""
    noise = random.Random(seed)
    one, two = two_folders(tmp_path)
    for turn in range(30):
        rows = Rows(some_owners())
        for n in range(20):
            rows.add(b"%d-%d" % (turn, n), noise.randbytes(noise.randrange(100)))
        for _ in range(noise.randrange(30)):
            at = noise.randrange(len(rows.raw))
            rows.raw[at] = noise.choice([rows.raw[at] ^ 1 << noise.randrange(8), 0, 0x80, 0xFF])
        names = [rows.name(entry) for n in range(20) if (entry := rows.entry(n))]
        if len({*names, b""}) == len([*filter(None, names), b""]):  # each is there once
            assert restore_differences(NATIVE, one, two, rows) == []
        rows.raw[:] = noise.randbytes(len(rows.raw))
        assert restore_differences(NATIVE, one, two, rows) == []


def test_names_and_content_may_be_anywhere_in_what_is_given(tmp_path: Path) -> None:
    rows = Rows()
    for name, first, length in ((2, 3, 3), (0, 0, 6), (1, 5, 1)):
        rows.add(
            b"", name_offset=STRINGS_OFFSET + name, name_bytes=1, first=CONTENT_OFFSET + first,
            member_bytes=length,
        )  # fmt: skip
    rows.strings += b"abc"
    rows.content += b"123456"
    with opened(tmp_path) as fd:
        assert rows.left(fd) == []
    made = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    assert made == {"a": b"123456", "b": b"6", "c": b"456"}


def test_nothing_is_taken_from_behind_what_is_given(tmp_path: Path) -> None:
    """What is given is a part of something larger here, so that it would be seen."""
    rows = Rows().add(b"a", b"1").add(b"bc", b"2").add(b"behind", b"3")

    def restore_rows(end: int, strings: int, content: int) -> Any:
        return NATIVE.restore_rows(
            fd, memoryview(rows.raw)[: end * layout.ENTRY_ROW_BYTES], 0, end, FIRST_ROW, PARENT,
            memoryview(rows.strings)[:strings], STRINGS_OFFSET,
            memoryview(rows.content)[:content], CONTENT_OFFSET, None, b"part", True, 0o7777,
        )  # fmt: skip

    with opened(tmp_path) as fd:
        assert restore_rows(2, 2, 3) == (2, [1], 1, 1)
        assert restore_rows(2, 1, 3) == (2, [0, 1], 0, 0)
        assert restore_rows(2, 3, 1) == (1, [0], 0, 0)
        with pytest.raises(TypeError, match="rows"):
            NATIVE.restore_rows(
                fd, memoryview(rows.raw)[:-1], 0, 3, FIRST_ROW, PARENT, b"", 0, b"", 0, None, b"p",
                True, 0o7777,
            )  # fmt: skip
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("length", [256, 257, 300, 65_535])
def test_a_name_that_is_too_long_is_left_to_python(tmp_path: Path, length: int) -> None:
    rows = Rows().add(b"a", b"1").add(b"n" * length, b"2").add(b"b", b"3")
    with opened(tmp_path) as fd:
        assert rows.left(fd) == [1]
    assert state_of(tmp_path).keys() == {b"a", b"b"}


@pytest.mark.needs("root")
@pytest.mark.parametrize("odd", [-2, -(2**63), 2**32 - 1, 2**32, 2**63, -(2**70), 2**70])
def test_owners_that_can_not_be_are_left_to_python(tmp_path: Path, odd: int) -> None:
    rows = Rows({(0, 0): (odd, 0), (1, 1): (0, odd), (2, 2): (2**32 - 2, 2**32 - 2)})
    for number in range(3):
        rows.add(b"%d" % number, b"1", uid=number, gid=number)
    with opened(tmp_path) as fd:
        assert rows.left(fd) == [0, 1]
    assert os.listdir(tmp_path) == ["2"]


def test_it_stops_at_the_first_file_behind_the_content_and_goes_on_from_there(
    tmp_path: Path,
) -> None:
    rows = Rows().add(b"a", b"12").add(b"empty").add(b"b", b"34").add(b"c", b"56").add(b"last")
    whole = bytes(rows.content)
    with opened(tmp_path) as fd:
        del rows.content[4:]
        assert rows.restore(NATIVE, fd) == (3, [], 3, 4)
        assert sorted(os.listdir(tmp_path)) == ["a", "b", "empty"]
        assert rows.restore(NATIVE, fd, 3) == (3, [], 0, 0)
        rows.content[:] = whole
        assert rows.restore(NATIVE, fd, 3) == (5, [], 2, 2)
        assert rows.restore(NATIVE, fd, 5) == (5, [], 0, 0)
        # One that is in the content in part is for Python, which gets the rest.
        (tmp_path / "b").unlink()
        del rows.content[3:]
        assert rows.restore(NATIVE, fd, 2) == (3, [2], 0, 0)
        assert rows.restore(NATIVE, fd, 4, end=4) == (4, [], 0, 0)
    assert (tmp_path / "c").read_bytes() == b"56"


@pytest.mark.parametrize("name", [name.decode() for name in IN_THE_WAY])
def test_what_stands_there_stays_unless_it_may_be_replaced(tmp_path: Path, name: str) -> None:
    one, _ = two_folders(tmp_path)
    before = state_of(one)
    rows = Rows().add(name.encode(), b"new")
    with opened(one) as fd:
        assert rows.left(fd) == [0]
        assert state_of(one) == before
        is_folder = name in ("inner", "empty")
        assert rows.left(fd, noreplace=False) == ([0] if is_folder else [])
    after = state_of(one)
    if is_folder:
        assert after == before
    else:
        assert after.pop(name.encode())[4] == b"new"
        before.pop(name.encode())
        assert after == before  # no link was followed


@pytest.mark.parametrize("name", ["file", "link", "dangling", "inner", "fifo"])
def test_a_temporary_name_of_others_is_not_touched(tmp_path: Path, name: str) -> None:
    one, _ = two_folders(tmp_path)
    (one / name).rename(one / f"taken-{FIRST_ROW}.part")
    before = state_of(one)
    with opened(one) as fd:
        rows = Rows().add(b"new", b"1")
        for noreplace in (True, False):
            assert rows.left(fd, prefix=b"taken-", noreplace=noreplace) == [0]
            assert state_of(one) == before


def test_temporary_names_that_are_too_long_are_left_to_python(tmp_path: Path) -> None:
    suffix = len(b"%d.part" % FIRST_ROW)
    rows = Rows().add(b"a", b"1")
    with opened(tmp_path) as fd:
        for length in (256 - suffix, 257 - suffix, 10_000):
            assert rows.left(fd, prefix=b"p" * length) == [0]
        assert os.listdir(tmp_path) == []
        assert rows.left(fd, prefix=b"p" * (255 - suffix)) == []
    assert os.listdir(tmp_path) == ["a"]


def test_of_two_of_the_same_name_the_first_stays(tmp_path: Path) -> None:
    with opened(tmp_path) as fd:
        assert Rows().add(b"x", b"1").add(b"x", b"2").add(b"y", b"3").left(fd) == [1]
    assert state_of(tmp_path).keys() == {b"x", b"y"}
    assert (tmp_path / "x").read_bytes() == b"1"


def test_the_access_time_is_that_of_the_change_too(tmp_path: Path) -> None:
    with opened(tmp_path) as fd:
        assert Rows().add(b"x", b"", mtime_ns=-1).left(fd) == []
    known = os.lstat(tmp_path / "x")
    assert (known.st_atime_ns, known.st_mtime_ns) == (-1, -1)


@pytest.mark.needs("root")
def test_setuid_is_not_lost_when_the_owner_is_set(tmp_path: Path) -> None:
    rows = Rows({(0, 0): (1000, 1000)}).add(b"x", b"1", mode=0o6755).add(b"y", b"", mode=0o755)
    with opened(tmp_path) as fd:
        assert rows.left(fd) == []
        rows.mode_bits = 0o1777  # that a file loses these is told by Python
        assert rows.left(fd, noreplace=False) == [0]
    known = os.lstat(tmp_path / "x")
    assert (stat.S_IMODE(known.st_mode), known.st_uid, known.st_gid) == (0o6755, 1000, 1000)


@pytest.mark.needs("root")
def test_the_group_of_a_folder_that_gives_it_to_files_is_not_kept(tmp_path: Path) -> None:
    one, two = two_folders(tmp_path)
    owners = {(0, 0): (0, 0), (1, 1): (1000, 1000), (2, 2): (-1, -1), (3, 3): (0, 1000)}
    rows = Rows(owners)
    for number, _ in owners:
        rows.add(b"%d" % number, b"1", uid=number, gid=number)
    for folder in (one, two):
        os.chown(folder, -1, 1000)
        folder.chmod(0o2755)
    assert restore_differences(NATIVE, one, two, rows) == []
    assert [(one / str(n)).stat().st_gid for n in range(4)] == [0, 1000, 1000, 1000]


@pytest.mark.needs("root", "mount")
def test_that_new_files_are_of_another_owner_than_the_process_is_seen(open_place: Path) -> None:
    """As on a server that makes root a nobody, or where the mount says whose all files are."""
    owners = {(n, n): (n, n) for n in (0, NOBODY)}
    rows = Rows(owners)
    for number in (0, NOBODY):
        rows.add(b"%d" % number, b"1", uid=number, gid=number)
    with opened(open_place) as fd:

        def write() -> list[Any]:
            libc = ctypes.CDLL(None)
            libc.setfsgid(NOBODY)
            libc.setfsuid(NOBODY)
            left = rows.left(fd)
            made = make_in_python(fd, rows, 0, noreplace=True)
            return [left, [failure.kind for failure in made.failures or ()]]

        assert in_child(write) == [[0], ["owner"]]
    found = {path.name: path.stat() for path in open_place.iterdir()}
    assert {name: (each.st_uid, each.st_gid) for name, each in found.items()} == {
        "0": (NOBODY, NOBODY), str(NOBODY): (NOBODY, NOBODY),
    }  # fmt: skip


@pytest.mark.needs("root", "mount")
def test_what_a_user_may_not_do_is_left_to_python(open_place: Path) -> None:
    closed, mine = open_place / "closed", open_place / "mine"
    closed.mkdir(mode=0o755)
    mine.mkdir()
    mine.chmod(0o777)
    rows = Rows({(0, 0): (0, -1), (1, 1): (NOBODY, NOBODY), (2, 2): (-1, 0), (3, 3): (-1, -1)})
    for number, name in enumerate((b"root's", b"mine", b"of root's group", b"as it comes")):
        rows.add(name, b"1", uid=number, gid=number)
    with opened(closed) as other, opened(mine) as fd:

        def write() -> list[Any]:
            refused, left = rows.left(other), rows.left(fd)
            again = [make_in_python(fd, rows, number, noreplace=True) for number in left]
            kinds = [[failure.kind for failure in each.failures or ()] for each in again]
            return [refused, left, kinds]

        assert in_child(write, as_nobody=True) == [[0, 1, 2, 3], [0, 2], [["owner"], ["owner"]]]
    assert os.listdir(closed) == []
    assert sorted(os.listdir(mine)) == ["as it comes", "mine", "of root's group", "root's"]


@pytest.mark.needs("root", "mount")
def test_a_read_only_file_system_takes_nothing(open_place: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(open_place)], check=True)
    with opened(open_place) as fd:
        assert Rows().add(b"x", b"1").add(b"y").left(fd, noreplace=False) == [0, 1]
    assert os.listdir(open_place) == []


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("tmpfs", marks=pytest.mark.needs("root", "mount")),
        pytest.param("ext4", marks=pytest.mark.needs("loop", "mkfs.ext4")),
    ],
)
def test_of_what_a_full_file_system_does_not_take_nothing_stays(
    tmp_path: Path, loops: Any, kind: str
) -> None:
    what: tuple[object, ...] = ("-t", "tmpfs", "-o", "size=1m", "none")
    if kind == "ext4":
        what = (ext4(tmp_path, loops, 2 << 20),)
    with mounted(tmp_path / "small", *what) as folder, opened(folder) as fd:
        free = os.statvfs(folder).f_bavail
        rows = Rows().add(b"first", b"1" * 10_000).add(b"too long", bytes(3 << 20))
        assert rows.add(b"last", b"2" * 10_000).left(fd) == [1]
        assert state_of(folder).keys() - {b"lost+found"} == {b"first", b"last"}
        assert (folder / "last").read_bytes() == b"2" * 10_000
        for name in ("first", "last"):
            (folder / name).unlink()
        restore.sync_file_system(fd)
        assert os.statvfs(folder).f_bavail == free


def test_of_a_file_that_grows_beyond_a_limit_nothing_stays(tmp_path: Path) -> None:
    """The write that meets the limit is short."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    rows = Rows().add(b"a", b"1" * 18_000).add(b"b", b"2" * 10_000)

    def write() -> list[int]:
        with opened(tmp_path) as fd:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
            return rows.left(fd)

    try:
        assert in_child(write) == [0]
    finally:
        signal.signal(signal.SIGXFSZ, before)
    assert state_of(tmp_path)[b"b"][4] == b"2" * 10_000
    assert os.listdir(tmp_path) == ["b"]


# --- arguments ----------------------------------------------------------------------------------


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

        def once() -> None:
            assert [each is None for each in NATIVE.scan(fd, names, ALL)] == [0, 0, 1, 1]
            assert NATIVE.read_files(fd, wanted, memoryview(buffer)) == [1, 2]
            given = NATIVE.restore_rows(
                fd, raw, 0, 4, FIRST_ROW, PARENT, strings, STRINGS_OFFSET, content, CONTENT_OFFSET,
                owners, b"part", True, 0o7777,
            )  # fmt: skip
            assert given == (4, [1, 2, 3], 1, 1)
            os.unlink(b"new", dir_fd=fd)
            for function, arguments in wrong:
                with contextlib.suppress(TypeError):
                    getattr(NATIVE, function)(*arguments)

        held: tuple[Any, ...] = (
            *names, *wanted, found, *found, raw, strings, content, owners, *owners.values(), None,
            (), b"",
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


# --- threads, signals, faults -------------------------------------------------------------------


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


# --- the tests are able to fail -----------------------------------------------------------------


class Wrong:
    """Compiled functions with a mistake."""

    def __init__(self, **functions: Callable[..., Any]) -> None:
        self.__dict__.update(functions)


@pytest.mark.parametrize("field", range(15))
def test_a_scan_with_a_wrong_field_is_caught(tmp_path: Path, field: int) -> None:
    some_files(tmp_path, 5)

    def scan(fd: int, names: Sequence[bytes], wanted: int) -> list[Any]:
        (found,) = NATIVE.scan(fd, names, wanted)
        assert found is not None
        value: Any = found[field]
        wrong = value + 1 if isinstance(value, int) else value + b"x"
        return [(*found[:field], wrong, *found[field + 1 :])]

    with opened(tmp_path) as fd:
        said = scan_differences(Wrong(scan=scan), fd, [b"f0"], ALL)
        assert said == [f"b'f0' differs in {Found._fields[field]}"]
        for give, expected in (
            ([], "more or fewer"), ([None], "is common"), ([[*Found._fields]], "other types"),
        ):  # fmt: skip
            wrong = Wrong(scan=lambda *_, give=give: give)
            assert expected in scan_differences(wrong, fd, [b"f0"], ALL)[0]
        wrong = Wrong(scan=lambda *_: [(b"missing",)])
        assert "not left to Python" in scan_differences(wrong, fd, [b"missing"], ALL)[0]


def test_a_wrong_read_is_caught(tmp_path: Path) -> None:
    def shifted(fd: int, wanted: Sequence[Wanted], view: memoryview) -> list[int]:
        left = NATIVE.read_files(fd, wanted, view)
        view[-1] ^= 1
        return left

    with opened(tmp_path) as fd:
        (found,) = files.scan(fd, some_files(tmp_path, 100), ALL)
        for function in (shifted, lambda *_: [], lambda *_: [0]):
            wrong = Wrong(read_files=function)
            assert read_differences(wrong, fd, [wanted_of(found)], 100) != []


def test_a_wrong_restore_is_caught(tmp_path: Path) -> None:
    def but(**fields: Any) -> Callable[..., Any]:
        wrong = Rows().add(b"x", b"1", **fields)
        return lambda fd, *_: wrong.restore(NATIVE, fd)

    def halfway(fd: int, *_: Any) -> Any:
        name = Placing(b"x", False).part(FIRST_ROW)
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=fd))
        return 1, [0], 0, 0

    def though(given: Any) -> Callable[..., Any]:
        def restore_rows(*arguments: Any) -> Any:
            NATIVE.restore_rows(*arguments)
            return given

        return restore_rows

    wrongs = [
        but(mode=0o600), but(mtime_ns=8), but(member_bytes=0, first=0), halfway,
        *map(though, [(0, [], 1, 1), (1, [0], 1, 1), (1, [], 0, 1), (1, [], 1, 0)]),
        lambda *_: (1, [], 1, 1),
    ]  # fmt: skip
    for n, function in enumerate([NATIVE.restore_rows, *wrongs]):
        (tmp_path / str(n)).mkdir()
        one, two = two_folders(tmp_path / str(n))
        said = restore_differences(Wrong(restore_rows=function), one, two, Rows().add(b"x", b"1"))
        assert (said == []) == (n == 0), n


# --- the module ---------------------------------------------------------------------------------


def in_another(code: str) -> None:
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)


def test_the_compiled_functions_are_used_until_they_are_switched_off() -> None:
    in_another("""
        from onggi.archive import _native, accelerate
        assert accelerate.native() is _native
        accelerate.disable()
        assert accelerate.native() is None
        accelerate.disable()
        assert accelerate.native() is None
    """)


def test_without_them_or_with_those_of_another_revision_python_does_all() -> None:
    in_another("""
        import sys
        sys.modules["onggi.archive._native"] = None
        from onggi.archive import accelerate
        assert accelerate.native() is None
    """)
    in_another("""
        import sys, types
        old = types.ModuleType("onggi.archive._native")
        old.REVISION = 0
        sys.modules["onggi.archive._native"] = old
        from onggi.archive import accelerate
        assert accelerate.native() is None
    """)


def test_source_and_package_say_the_same_revision() -> None:
    source = (ROOT / "archive/_native.c").read_text()
    assert re.findall(r"^#define REVISION (\d+)", source, re.M) == [str(accelerate.REVISION)]


def compiled(to: Path, *flags: str) -> Path:
    """Compile the source as setuptools would, with more flags."""
    include = sysconfig.get_path("include")
    subprocess.run(
        ["gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-fPIC",
         "-shared", f"-I{include}", *flags, str(ROOT / "archive/_native.c"), "-o", str(to)],
        check=True,
    )  # fmt: skip
    return to


@pytest.mark.needs("gcc")
def test_the_compiler_has_nothing_to_say(tmp_path: Path) -> None:
    compiled(tmp_path / "_native.abi3.so", "-O2")


@pytest.mark.needs("gcc")
def test_no_address_and_no_number_goes_astray(tmp_path: Path) -> None:
    """All of these tests once more, under the sanitizers of the compiler."""
    made = compiled(
        tmp_path / "_native.abi3.so", "-O1", "-g", "-fno-omit-frame-pointer",
        "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
    )  # fmt: skip
    libraries = [
        subprocess.run(
            ["gcc", f"-print-file-name={name}"], capture_output=True, check=True, text=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    script = f"""
        import importlib.util, sys
        import pytest
        name = "onggi.archive._native"
        spec = importlib.util.spec_from_file_location(name, {str(made)!r})
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
        from onggi.archive import accelerate
        assert accelerate.native() is sys.modules[name]
        sys.exit(pytest.main([
            {str(Path(__file__))!r}, "-q", "-p", "no:cacheprovider", "--no-cov",
            "--basetemp", {str(tmp_path / "inner")!r},
            "-k", "not astray and not compiler and not switched_off and not another_revision",
        ]))
    """
    # The interpreter keeps what it has at its end, so leaks are left to a test above.
    options = f"detect_leaks=0:handle_segv=0:log_path={tmp_path}/said:print_stacktrace=1"
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=900,
        env={
            **os.environ, "LD_PRELOAD": ":".join(libraries), "PYTHONMALLOC": "malloc",
            "ASAN_OPTIONS": options, "UBSAN_OPTIONS": options,
        },
    )  # fmt: skip
    said = "".join(path.read_text() for path in sorted(tmp_path.glob("said*")))
    assert said == ""
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-1000:]
    assert " passed" in ran.stdout
