"""Restoring owners, modes, times, attributes and file flags."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from onggi.archive import (
    accelerate,
    destination,
    files,
    folders,
    restore,
    restore_plan,
    tree_extract,
    tree_plan,
)
from onggi.archive.entry import encode_attributes
from onggi.archive.errors import Finding
from onggi.archive.files import Found
from onggi.archive.tree_extract import unpack_tree

from .tree_helpers import facts_on_disk, noise, pack_path
from .tree_restore_helpers import codes, fail, unpack
from .tree_restore_helpers import no_sync as no_sync
from .tree_restore_helpers import python as python
from .tree_restore_helpers import tree as tree
from .tree_restore_helpers import twin as twin


def look_otherwise(patch: pytest.MonkeyPatch, change: Callable[[Found], Found]) -> None:
    """Let all that is packed look otherwise than it is, but for the root."""
    patch.setattr(
        tree_plan, "scan",
        lambda *arguments: [change(each) for each in files.scan(*arguments)],
    )  # fmt: skip


# --- owners and modes ----------------------------------------------------------------------------


@pytest.mark.usefixtures("twin")
def test_without_owners_nothing_gets_setuid(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "folder").mkdir(parents=True)
    for name, mode in (("suid", 0o4755), ("sgid", 0o2750), ("both", 0o6711), ("sticky", 0o1644)):
        (source / name).write_bytes(b"x")
        (source / name).chmod(mode)
    (source / "folder").chmod(0o2770)
    _, findings = unpack(pack_path(source), tmp_path / "dest", same_owner=False)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "dest").iterdir()}
    assert modes == {
        "suid": 0o755, "sgid": 0o750, "both": 0o711, "sticky": 0o1644, "folder": 0o2770
    }  # fmt: skip
    assert codes(findings) == {name: ["not-restored-mode"] for name in ("suid", "sgid", "both")}
    assert all("--same-owner" in finding.message for finding in findings)


@pytest.mark.needs("root")
@pytest.mark.usefixtures("twin")
@pytest.mark.parametrize("same_owner", [False, True])
def test_owners_are_restored_if_they_are_wanted(same_owner: bool, tmp_path: Path) -> None:
    source, dest = tmp_path / "source", tmp_path / "dest"
    (source / "folder").mkdir(parents=True)
    (source / "file").write_bytes(b"x")
    (source / "suid").write_bytes(b"x")
    (source / "link").symlink_to("x")
    os.mkfifo(source / "fifo")
    os.mknod(source / "null", 0o20666, os.makedev(1, 3))
    for number, path in enumerate([source, *sorted(source.iterdir())]):
        os.chown(path, 40_000 + number, 50_000 + number, follow_symlinks=False)
    (source / "suid").chmod(0o6711)
    (source / "null").chmod(0o666)
    packed = pack_path(source)
    _, findings = unpack(packed, dest, same_owner=same_owner)
    expected = facts_on_disk(source)
    if same_owner:
        assert findings == []
        assert facts_on_disk(dest) == expected
        return
    assert codes(findings) == {"suid": ["not-restored-mode"]}
    assert facts_on_disk(dest) == {
        path: fact._replace(
            uid=os.geteuid(), gid=os.getegid(),
            mode=fact.mode & 0o1777 if path == b"suid" else fact.mode,
        )
        for path, fact in expected.items()
    }  # fmt: skip


@pytest.mark.needs("root")
@pytest.mark.usefixtures("twin")
def test_owners_are_found_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for uid in (4001, 4002):
        (source / f"{uid}").touch()
        os.chown(source / f"{uid}", uid, uid)

    class Account:
        def __init__(self, number: int, name: str) -> None:
            self.pw_uid, self.pw_name = number, name

    monkeypatch.setattr(pwd, "getpwuid", lambda number: Account(number, f"user-{number}"))
    packed = pack_path(source)
    assert packed.tree.owner_names()[1, 4001] == b"user-4001"

    def getpwnam(name: str) -> Account:
        if name != "user-4001":
            raise KeyError(name)
        return Account(77, name)

    monkeypatch.setattr(pwd, "getpwnam", getpwnam)
    destination._number_of.cache_clear()
    unpack(packed, tmp_path / "named")
    unpack(packed, tmp_path / "numeric", numeric_owner=True)
    destination._number_of.cache_clear()
    owners = {
        folder: {path.name: path.stat().st_uid for path in (tmp_path / folder).iterdir()}
        for folder in ("named", "numeric")
    }
    assert owners == {
        "named": {"4001": 77, "4002": 4002}, "numeric": {"4001": 4001, "4002": 4002}
    }  # fmt: skip


@pytest.mark.needs("root")
def test_folders_that_nobody_may_write_to_are_filled_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by somebody who is not root, and where what is inside can't be reached any more then."""
    source = tmp_path / "source"
    (source / "closed/deep").mkdir(parents=True)
    (source / "closed/deep/file").write_bytes(b"x")
    os.link(source / "closed/deep/file", source / "closed/link")
    modes = {"closed/deep": 0o000, "closed": 0o444, ".": 0o555}
    for name, mode in modes.items():
        (source / name).chmod(mode)
    packed = pack_path(source)
    (tmp_path / "mine").mkdir()
    os.chown(tmp_path / "mine", 65_534, 65_534)
    monkeypatch.chdir(tmp_path / "mine")
    monkeypatch.setattr(tree_extract, "Folders", lambda: folders.Folders(most_open=0))
    os.setegid(65_534)
    os.seteuid(65_534)
    try:
        findings: list[Finding] = []
        unpack_tree(packed.tree, packed.archive, "dest", threads=2, found=findings.append)
    finally:
        os.seteuid(0)
        os.setegid(0)
    assert findings == []
    dest = tmp_path / "mine/dest"
    for name, mode in modes.items():
        assert stat.S_IMODE((dest / name).stat().st_mode) == mode
    assert (dest / "closed/link").stat().st_nlink == 2
    assert (dest / "closed/deep/file").read_bytes() == b"x"


@pytest.mark.needs("setfacl")
@pytest.mark.usefixtures("twin")
def test_what_is_restored_gets_no_acl_from_the_folder(tree: Path, tmp_path: Path) -> None:
    """It would open to others what was closed to them."""
    dest = tmp_path / "dest"
    dest.mkdir()
    subprocess.run(["setfacl", "-d", "-m", "u:12345:rwx", dest], check=True)
    packed = pack_path(tree)
    _, findings = unpack(packed, dest)
    assert findings == []
    assert facts_on_disk(dest) == facts_on_disk(tree)


@pytest.mark.usefixtures("twin")
def test_more_owners_than_are_remembered_are_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(destination, "_OWNERS_KEPT", 0)
    (tmp_path / "source").mkdir()
    (tmp_path / "source/f").write_bytes(b"x")
    packed = pack_path(tmp_path / "source")
    _, findings = unpack(packed, tmp_path / "dest", same_owner=True)
    assert findings == []
    assert facts_on_disk(tmp_path / "dest") == facts_on_disk(tmp_path / "source")


# --- what can't be set ---------------------------------------------------------------------------


@pytest.mark.needs("root")
@pytest.mark.usefixtures("python")
@pytest.mark.parametrize(
    ("function", "kind"), [("chown", "owner"), ("setxattr", "attribute"), ("setxattr", "acl")]
)
def test_metadata_that_can_not_be_set_is_told(
    function: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, dest = tmp_path / "source", tmp_path / "dest"
    (source / "d").mkdir(parents=True)
    for path in ("d/f", "d/g"):
        (source / path).write_bytes(noise(100, 1))
    os.symlink("x", source / "link")
    name = b"system.posix_acl_access" if kind == "acl" else b"user.x"
    with monkeypatch.context() as patch:
        if kind != "owner":
            encoded = encode_attributes([(name, b"1")])
            look_otherwise(patch, lambda each: each._replace(attributes=encoded))
        packed = pack_path(source)
    with monkeypatch.context() as patch:
        met = fail(patch, function, errno.EPERM, lambda args: True)
        _, findings = unpack(packed, dest)
    paths = {"d", "d/f", "d/g", "link"} | ({"."} if kind == "owner" else set())
    assert len(met) == len(paths)
    assert codes(findings) == {path: [f"not-restored-{kind}"] for path in paths}
    assert (dest / "d/f").read_bytes() == noise(100, 1)


def test_many_attributes_that_fail_are_told_a_few_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    path.touch()
    fail(monkeypatch, "setxattr", errno.ENOTSUP, lambda args: True)
    fd = os.open(path, os.O_RDWR)
    attributes = [(b"user.%03d" % number, b"") for number in range(100)]
    failures = restore.set_metadata(fd, restore.Metadata(0o600, -1, -1, 5, 0, attributes))
    os.close(fd)
    assert len(failures) == 16
    assert failures[0] == restore.Failure("attribute user.000", errno.ENOTSUP)


@pytest.mark.parametrize("mtime_ns", [2**63 - 1, -(2**63), 2**62])
def test_a_time_that_no_file_system_has_is_a_failure_at_most(mtime_ns: int, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.touch()
    fd = os.open(path, os.O_RDWR)
    failures = restore.set_metadata(fd, restore.Metadata(0o640, -1, -1, mtime_ns))
    os.close(fd)
    assert {failure.kind for failure in failures} <= {"time"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


# --- file flags ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "wanted", "set_to"), [(0, 0x10, 0x10), (0x80000, 0x10, 0x80010), (0x10, 0x10, None)]
)
def test_file_flags_are_added_to_those_that_are_there(
    own: int, wanted: int, set_to: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, int]] = []

    def ioctl(fd: int, request: int, data: bytes) -> bytes:
        calls.append((request, int.from_bytes(data, "little")))
        return own.to_bytes(8, "little")

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    assert restore.set_file_flags(5, wanted) == []
    assert [value for request, value in calls if request == 0x40086602] == (
        [] if set_to is None else [set_to]
    )


def test_file_flags_that_can_not_be_set_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def ioctl(*_: object) -> bytes:
        raise OSError(errno.ENOTTY, "no")

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    assert restore.set_file_flags(5, 0x10) == [restore.Failure("file flags", errno.ENOTTY)]


def test_file_flags_of_files_and_folders_are_set_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An immutable file could not be renamed, an immutable folder not be filled."""
    source, dest = tmp_path / "source", tmp_path / "dest"
    (source / "d").mkdir(parents=True)
    (source / "d/f").write_bytes(b"x")
    look_otherwise(monkeypatch, lambda each: each._replace(file_flags=0x10))
    packed = pack_path(source)
    assert packed.view.entry(b"d/f").file_flags == 0x10
    monkeypatch.setattr(accelerate, "_module", None)
    names: list[str] = []

    def ioctl(fd: int, request: int, data: bytes) -> bytes:
        names.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        assert names[-1] != "d" or (dest / "d/f").exists()
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    _, findings = unpack(packed, dest)
    assert names == ["f", "d"]
    assert codes(findings) == {"d/f": ["not-restored-file"], "d": ["not-restored-file"]}


def test_file_flags_of_a_file_with_several_names_are_set_when_it_has_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An immutable file can't get another name."""
    source, dest = tmp_path / "source", tmp_path / "dest"
    source.mkdir()
    (source / "a").write_bytes(b"x")
    os.link(source / "a", source / "b")
    look_otherwise(monkeypatch, lambda each: each._replace(file_flags=0x10 * (each.name != b".")))
    packed = pack_path(source)
    monkeypatch.setattr(accelerate, "_module", None)
    failing = False
    calls: list[int] = []

    def ioctl(fd: int, request: int, data: bytes) -> bytes:
        calls.append(request)
        assert os.fstat(fd).st_nlink == 2
        if failing:
            raise OSError(errno.EPERM, "no")
        return bytes(8)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    _, findings = unpack(packed, dest)
    assert findings == []
    assert len(calls) == 2
    failing = True
    _, findings = unpack(packed, tmp_path / "failing")
    assert codes(findings) == {"a": ["not-restored-file"]}
    with monkeypatch.context() as patch:
        patch.setattr(restore_plan, "make_hard_link", lambda *_: (dest.parent / "z/a").unlink())
        _, findings = unpack(packed, tmp_path / "z")
    assert codes(findings) == {"a": ["not-restored-file"]}
