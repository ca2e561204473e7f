"""What once went wrong in the tree engine, and must not again."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from onggi.archive import (
    accelerate,
    files,
    folders,
    mode,
    pax,
    restore_plan,
    tree_extract,
    tree_plan,
)
from onggi.archive.compare import compare
from onggi.archive.entry import encode_attributes
from onggi.archive.errors import DamagedError, Finding, SourceError, StoreError
from onggi.archive.plan import Geometry
from onggi.archive.selection import TreeOptions
from onggi.archive.sides import LiveSide
from onggi.archive.tree import Tree
from onggi.archive.tree_writer import TreeSource

from .test_compare import MemorySide, differences, file, folder
from .tree_helpers import noise, pack_path, tar_members
from .tree_restore_helpers import parts, unpack


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerate, "_module", None)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore_plan, "LARGE_BYTES", 65_536)
    monkeypatch.setattr(restore_plan, "_MOST_BYTES", 65_536)


# 1. restore: wrong data, silently


@pytest.mark.usefixtures("python", "small_parts")
def test_a_part_that_fails_does_not_send_another_one_into_a_strange_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A descriptor must not be closed while another thread writes: its number is used again."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"A" * 131_072)
    (source / "b").write_bytes(b"B" * 1000)
    packed = pack_path(source)
    clobbered, written, real = threading.Event(), threading.Event(), os.pwrite
    first: list[int] = []

    def pwrite(fd: int, data: Any, offset: int) -> int:
        if len(data) > 1000 and offset < 65_536 and not first:
            first.append(fd)
            written.wait(2)
            try:
                return real(fd, data, offset)
            finally:
                clobbered.set()
        if offset >= 65_536:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        size = real(fd, data, offset)
        if bytes(data[:1]) == b"B":
            written.set()
            clobbered.wait(2)
        return size

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        _, findings = unpack(packed, tmp_path / "dest", threads=2)
    assert (tmp_path / "dest/b").read_bytes() == b"B" * 1000
    assert [finding.path for finding in findings] == ["a"]  # and it is told once


def test_a_hard_link_is_not_made_to_what_was_there_before(tmp_path: Path) -> None:
    source, dest = tmp_path / "source", tmp_path / "dest"
    source.mkdir()
    dest.mkdir()
    (source / "a").write_bytes(b"archived")
    os.link(source / "a", source / "b")
    (dest / "a").write_bytes(b"mine")
    unpack(pack_path(source), dest)
    assert not (dest / "b").exists() or (dest / "b").read_bytes() == b"archived"


def test_file_flags_are_not_set_on_what_was_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, dest = tmp_path / "source", tmp_path / "dest"
    source.mkdir()
    dest.mkdir()
    (source / "a").write_bytes(b"archived")
    os.link(source / "a", source / "b")
    (dest / "a").write_bytes(b"mine")
    inode = (dest / "a").stat().st_ino
    with monkeypatch.context() as patch:
        patch.setattr(
            tree_plan, "scan",
            lambda *arguments: [
                each._replace(file_flags=0x10 * (each.name != b"."))
                for each in files.scan(*arguments)
            ],
        )  # fmt: skip
        packed = pack_path(source)
    touched: list[int] = []

    def ioctl(fd: int, request: int, data: bytes) -> bytes:
        if os.fstat(fd).st_ino == inode:
            touched.append(request)
        return bytes(8)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    unpack(packed, dest)
    assert touched == []


# 2. restore: what errors leave


@pytest.mark.usefixtures("python")
def test_attributes_that_are_damaged_leave_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"x")
    encoded = encode_attributes([(b"user.x", b"1")])
    with monkeypatch.context() as patch:
        patch.setattr(
            tree_plan, "scan",
            lambda *arguments: [
                each._replace(attributes=encoded) for each in files.scan(*arguments)
            ],
        )  # fmt: skip
        packed = pack_path(source)

    def attributes(self: Tree, entry: Any) -> list[tuple[bytes, bytes]]:
        raise DamagedError("catalogue", "broken")

    monkeypatch.setattr(Tree, "attributes", attributes)
    with pytest.raises(DamagedError):
        unpack(packed, tmp_path / "dest")
    assert parts(tmp_path / "dest") == []


@pytest.mark.usefixtures("python", "small_parts")
def test_a_folder_that_is_moved_away_is_an_error_with_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`discard_open` raises a bare OSError."""
    monkeypatch.setattr(tree_extract, "Folders", lambda: folders.Folders(most_open=0))
    source, dest = tmp_path / "source", tmp_path / "dest"
    for name in ("d/a", "z/f"):
        (source / name).parent.mkdir(parents=True)
        (source / name).write_bytes(noise(300_000, 1))
    packed = pack_path(source)
    real = os.pwrite

    def pwrite(fd: int, data: Any, offset: int) -> int:
        size = real(fd, data, offset)
        if offset >= 65_536 and (dest / "d").exists():
            (dest / "d").rename(tmp_path / "moved")
        return size

    monkeypatch.setattr(os, "pwrite", pwrite)
    with suppress(StoreError):
        unpack(packed, dest)


# 3. pack


def test_a_path_as_long_as_a_unit_is_packed(tmp_path: Path) -> None:
    """A plain file whose header has more than `_MOST_PLAIN_HEADER` bytes overflows its unit."""
    name, fd = b"d" * 250, os.open(tmp_path, os.O_RDONLY)
    for _ in range(540):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    made = os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.write(made, b"x" * 16_000)
    os.close(made)
    os.close(fd)
    whole = pack_path(tmp_path, Geometry(2**20, 2**20, 512))
    entry = whole.tree.lookup(b"/".join([name] * 540) + b"/file")
    assert entry is not None
    unit_bytes = (entry.first + 12_000) // 512 * 512
    assert pack_path(tmp_path, Geometry(unit_bytes, 2**20, 512)).content == whole.content


def test_a_socket_as_a_source_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(tmp_path / "s"))
        with pytest.raises(SourceError):
            TreeSource([os.fspath(tmp_path / "s")])
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_folder_that_can_not_be_looked_at_stands_behind_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spec 6.11; its header is written among the files of its parent."""
    (tmp_path / "a_dir").mkdir()
    (tmp_path / "b_file").touch()
    monkeypatch.setattr(
        tree_plan, "scan",
        lambda *arguments: [
            each._replace(error=errno.EACCES) if each.name == b"a_dir" else each
            for each in files.scan(*arguments)
        ],
    )  # fmt: skip
    packed = pack_path(tmp_path)
    walked = [each.path.decode() or "." for each in packed.tree.walk(packed.tree.root)]
    assert [member.name for member in tar_members(packed.content)] == walked


# 4. the tar stream


def _sparse(path: bytes, runs: list[tuple[int, int]], stored: bytes) -> bytes:
    member = pax.TarMember(path, pax.TYPE_FILE, 0o644, 0, 0, b"", b"", 5000, 0)
    return pax.encode_sparse(member, runs) + stored + bytes(-len(stored) % 512) + pax.END


def test_python_knows_the_name_of_a_file_with_holes_that_is_long() -> None:
    """The record `path` (the stored name) must stand before `GNU.sparse.name`."""
    (member,) = tar_members(_sparse(b"n" * 200, [(512, 512)], b"x" * 512))
    assert member.name == "n" * 200


def test_runs_are_whole_blocks_since_gnu_tar_begins_each_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEEK_DATA of some file systems (FUSE) knows no blocks."""
    (tmp_path / "f").write_bytes(bytes(20_000))
    places = {(0, os.SEEK_DATA): 5, (5, os.SEEK_HOLE): 10, (512, os.SEEK_DATA): 4990}
    places |= {(4990, os.SEEK_HOLE): 5000, (5120, os.SEEK_DATA): 5130, (5130, os.SEEK_HOLE): 5131}
    places |= {(5632, os.SEEK_DATA): 19_990, (19_990, os.SEEK_HOLE): 20_000}
    monkeypatch.setattr(os, "lseek", lambda fd, at, how: places[at, how])
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        found = files.scan(fd, [b"f"], 0)[0]
        assert files.data_runs_of(fd, found) == [(0, 512), (4608, 1024), (19_968, 32)]
    finally:
        os.close(fd)


# 5. compare


def test_a_time_before_1970_is_shown_right() -> None:
    found = differences(file(b"", mtime_ns=0), file(b"", mtime_ns=-1))
    assert found == {"x": "x: time -0.000000001, not 0.000000000"}


@pytest.mark.parametrize("problem", ["", "Permission denied"])
def test_a_folder_that_can_not_be_listed_is_told_once_and_nothing_in_it_is_missing(
    problem: str,
) -> None:
    findings: list[Finding] = []
    inside = {b"a": file(b""), b"b": file(b"")}
    broken: Any = {b"a": OSError(errno.EACCES, "no")}
    compare(
        MemorySide(folder({b"d": folder(inside)})),
        MemorySide(folder({b"d": folder(broken, problem=problem)})),
        threads=1, found=findings.append,
    )  # fmt: skip
    assert [finding.path for finding in findings] == ["d"]


def test_a_file_is_closed_if_its_counterpart_can_not_be_opened() -> None:
    one = MemorySide(folder({b"f": file(b"same")}))
    other = MemorySide(folder({b"f": file(b"same")._replace(handle=DamagedError("page", "gone"))}))
    with pytest.raises(DamagedError):
        compare(one, other, threads=1, found=lambda _: None)
    assert one.opened == [b"same"]
    assert one.is_open == 0


def test_each_source_has_a_file_system_of_its_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x")
    with TreeSource([str(tmp_path / "a"), str(tmp_path / "b")]) as source:
        second = source.roots[1]
        elsewhere = second.found._replace(dev=second.found.dev + 1)
        source.roots[1] = second._replace(found=elsewhere)
        side = LiveSide(source, TreeOptions(one_file_system=True))
        inside = {
            name: [each for each, _ in side.children(item)]
            for name, item in side.children(side.root())
        }
    assert inside == {b"a": [b"file"], b"b": []}


# 6. mode


def test_a_folder_of_a_volume_that_is_bound_elsewhere_is_not_the_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mount --bind /mnt/disk/sub /here`: the device holds more than /here does.

    The fourth field of /proc/self/mountinfo tells: `/sub`, not `/`.
    """
    number, here = os.makedev(259, 7), os.fspath(tmp_path)
    real = os.stat

    def look(path: Any, **options: Any) -> Any:
        if path == here:
            return SimpleNamespace(st_mode=stat.S_IFDIR, st_dev=number)
        if path == "/dev/x":
            return SimpleNamespace(st_mode=stat.S_IFBLK, st_rdev=number)
        return real(path, **options)

    table = (
        f"50 1 259:7 / /mnt/disk ro - ext4 /dev/x ro\n51 1 259:7 /sub {here} ro - ext4 /dev/x ro\n"
    )
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", look)
        patch.setattr(os.path, "realpath", lambda path: "/sys/devices/x")
        patch.setattr(os.path, "ismount", lambda path: path == here)
        patch.setattr(os, "access", lambda *_: True)
        patch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_files=10**7, f_ffree=0))
        patch.setattr(Path, "read_text", lambda self, **_: table)
        choice = mode.choose([here], "auto")
    assert choice.volume is None
