"""What the tests of the compiled functions share: the functions, places, and comparisons.

The compiled functions and their twins in Python must do the same to the same folders. `scan` and
`read_files` are compared by what they give, `restore_rows` by what is there afterwards; what they
leave to Python is left for a reason. Needs the compiled part: there is no skip for it.

Fixtures are imported from here as themselves (`place as place`): so they do not look unused.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from onggi.archive import accelerate, files, layout
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
FILL = 0xA5
NODUMP, NOATIME = 0x40, 0x80
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
def no_descriptor_stays() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert os.listdir("/proc/self/fd") == before


# --- places --------------------------------------------------------------------------------------


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


# --- looking -------------------------------------------------------------------------------------


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


# --- reading -------------------------------------------------------------------------------------


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


# --- restoring -----------------------------------------------------------------------------------

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
