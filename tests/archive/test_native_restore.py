"""The compiled `restore_rows` makes what its twin in Python makes, or leaves it to that."""

from __future__ import annotations

import ctypes
import os
import random
import resource
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from onggi.archive import layout, restore

from .native_helpers import (
    CONTENT_OFFSET,
    FIRST_ROW,
    NATIVE,
    NOBODY,
    NODUMP,
    ODD_NAMES,
    PARENT,
    STRINGS_OFFSET,
    TIMES_NS,
    Rows,
    ext4,
    in_child,
    make_in_python,
    mounted,
    opened,
    restore_differences,
    state_of,
    two_folders,
)
from .native_helpers import no_descriptor_stays as no_descriptor_stays
from .native_helpers import open_place as open_place
from .native_helpers import place as place

IN_THE_WAY = [b"file", b"link", b"dangling", b"inner", b"empty", b"fifo"]

# Fields of rows that make them special, that other rules forbid, or that lie somewhere else.
ODD_FIELDS: list[dict[str, Any]] = [
    *({"type": kind} for kind in range(10) if kind != layout.ENTRY_FILE),
    *({"flags": 1 << bit} for bit in range(8)),
    {"flags": layout.FLAG_MAPPED, "total": 1}, {"mode": 0o10000}, {"mode": 0xFFFF},
    {"file_flags": NODUMP}, {"attributes": 1}, {"total": 1}, {"total": 2**64 - 1},
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
