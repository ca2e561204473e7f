"""The compiled `scan` gives what its twin in Python gives, or leaves it to that."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import stat
import struct
from pathlib import Path
from typing import Any

import pytest

from onggi.archive import restore
from onggi.archive.files import WANT_ATTRIBUTES, WANT_FILE_FLAGS, Found, Wanted

from .native_helpers import (
    ALL,
    NATIVE,
    NOATIME,
    NOBODY,
    NODUMP,
    ODD_NAMES,
    TIMES_NS,
    ext4,
    in_child,
    look,
    mounted,
    opened,
    scan_differences,
    wanted_of,
)
from .native_helpers import no_descriptor_stays as no_descriptor_stays
from .native_helpers import open_place as open_place
from .native_helpers import place as place

_GETFLAGS, _SETFLAGS = 0x80086601, 0x40086602


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
            set_file_flags(path, noise.choice([NODUMP, NOATIME, NODUMP | NOATIME]))
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
        set_file_flags(os.fsencode(folder / "flags"), NODUMP | 0x10 | 0x20)
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
        assert flags[12] == NODUMP | 0x10 | 0x20
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
