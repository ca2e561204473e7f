"""Looks at single files, and reads of them, where the file system says no."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from onggi.archive import accelerate, files
from onggi.archive.entry import decode_attributes
from onggi.archive.exclude import CACHE_TAG_NAME, CACHE_TAG_START
from onggi.archive.files import (
    FILE_FLAGS,
    WANT_ATTRIBUTES,
    WANT_FILE_FLAGS,
    Found,
    Wanted,
    data_runs_of,
    is_cache,
    list_names,
    open_quietly,
    read_files,
    scan,
)

from .tree_helpers import noise, write_sparse

EVERYTHING = WANT_ATTRIBUTES | WANT_FILE_FLAGS


@pytest.fixture(autouse=True)
def _python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use Python alone: what is patched here, the compiled helper would not see."""
    monkeypatch.setattr(accelerate, "_module", None)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    """An open folder with one of everything that needs no rights."""
    (tmp_path / "file").write_bytes(noise(5000, 1))
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "fifo")
    fd = os.open(tmp_path, os.O_RDONLY | os.O_CLOEXEC)
    yield fd
    os.close(fd)


def look(fd: int, name: bytes, wanted: int = EVERYTHING) -> Found:
    """Look at one thing."""
    (found,) = scan(fd, [name], wanted)
    return found


def refuse(
    monkeypatch: pytest.MonkeyPatch, module: Any, function: str, code: int,
    only: Callable[..., bool] = lambda *_: True,
) -> None:  # fmt: skip
    """Let a function fail where `only` says so of its arguments."""
    real = getattr(module, function)

    def fails(*arguments: Any, **named: Any) -> Any:
        if only(*arguments):
            raise OSError(code, os.strerror(code))
        return real(*arguments, **named)

    monkeypatch.setattr(module, function, fails)


def test_a_look_tells_what_lstat_does(folder: int, tmp_path: Path) -> None:
    for path in tmp_path.iterdir():
        found, expected = look(folder, os.fsencode(path.name)), path.lstat()
        assert (found.mode, found.uid, found.gid, found.size, found.mtime_ns, found.ctime_ns) == (
            expected.st_mode, expected.st_uid, expected.st_gid, expected.st_size,
            expected.st_mtime_ns, expected.st_ctime_ns,
        )  # fmt: skip
        assert found.identity == (expected.st_dev, expected.st_ino)
        assert (found.nlink, found.rdev, found.blocks, found.error) == (
            expected.st_nlink, expected.st_rdev, expected.st_blocks, 0
        )  # fmt: skip
    assert list_names(folder) == [b"dir", b"fifo", b"file", b"link"]


@pytest.mark.parametrize("name", [b"file", b"dir"])
@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_what_can_not_be_opened_is_known_with_its_type(
    name: bytes, code: int, folder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, os, "open", code, lambda path, *_: path == name)
    found = look(folder, name)
    assert found.error == code
    assert found.mode == os.stat(name, dir_fd=folder).st_mode


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EACCES])
def test_what_can_not_be_looked_at_has_no_type(
    code: int, folder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, os, "stat", code, lambda path, *_: path == b"file")
    found = look(folder, b"file")
    assert found == Found(b"file", *(0,) * 12, b"", code)
    assert look(folder, b"missing").error == errno.ENOENT


def test_who_may_not_spare_the_access_time_opens_all_the_same(
    folder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, os, "open", errno.EPERM, lambda path, flags: bool(flags & os.O_NOATIME))
    fd = open_quietly(folder, b"file")
    assert os.pread(fd, 10, 0) == noise(10, 1)
    os.close(fd)


def test_a_link_is_not_opened_and_a_fifo_does_not_wait(folder: int) -> None:
    with pytest.raises(OSError, match="symbolic links"):
        open_quietly(folder, b"link")
    os.close(open_quietly(folder, b"fifo"))


@pytest.mark.parametrize(
    ("code", "error"),
    [(errno.ENOTTY, 0), (errno.EOPNOTSUPP, 0), (errno.EINVAL, 0), (errno.ENOSYS, 0),
     (errno.EIO, errno.EIO)],
)  # fmt: skip
def test_file_flags_that_a_file_system_does_not_have_are_none(
    code: int, error: int, folder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, fcntl, "ioctl", code)
    found = look(folder, b"file")
    assert (found.file_flags, found.error) == (0, error)
    assert look(folder, b"file", WANT_ATTRIBUTES).error == 0
    assert look(folder, b"link").error == 0


def test_only_file_flags_that_can_be_set_are_kept(
    folder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "ioctl", lambda *_: b"\xff" * 8)
    assert look(folder, b"file").file_flags == look(folder, b"dir").file_flags == FILE_FLAGS
    assert look(folder, b"fifo").file_flags == 0


@pytest.mark.parametrize("name", [b"file", b"dir", b"link", b"fifo"])
@pytest.mark.parametrize(
    ("code", "error"),
    [(errno.ENOTSUP, 0), (errno.EPERM, 0), (errno.EACCES, 0), (errno.ENOSYS, 0),
     (errno.EIO, errno.EIO)],
)  # fmt: skip
def test_attributes_that_can_not_be_listed_are_none(
    name: bytes, code: int, error: int, folder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, os, "listxattr", code)
    found = look(folder, name)
    assert (found.attributes, found.error) == (b"", error)
    assert look(folder, name, WANT_FILE_FLAGS).error == 0


@pytest.mark.parametrize(("code", "error"), [(errno.ENODATA, 0), (errno.EIO, errno.EIO)])
def test_an_attribute_that_vanishes_is_none(
    code: int, error: int, folder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "listxattr", lambda *_, **__: ["user.b", "user.gone", "user.a"])
    monkeypatch.setattr(os, "getxattr", lambda _, name, **__: name.encode())
    refuse(monkeypatch, os, "getxattr", code, lambda _, name: name == "user.gone")
    found = look(folder, b"file")
    assert found.error == error
    if not error:
        assert decode_attributes(found.attributes) == [
            (b"user.a", b"user.a"),
            (b"user.b", b"user.b"),
        ]


# --- reading -------------------------------------------------------------------------------------


def test_spans_are_read_to_where_they_belong(folder: int) -> None:
    found = look(folder, b"file")
    view = memoryview(bytearray(b"." * 100))
    wanted = [Wanted(found, 4990, 10, 5), Wanted(found, 0, 20, 50), Wanted(found, 7, 1, 99)]
    assert read_files(folder, wanted, view) == []
    content = noise(5000, 1)
    expected = bytearray(b"." * 100)
    expected[5:15], expected[50:70], expected[99:] = content[4990:], content[:20], content[7:8]
    assert view == expected


@pytest.mark.parametrize("step", ["preadv", "fstat"])
def test_a_read_that_fails_leaves_zeros(
    step: str, folder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = look(folder, b"file")
    view = memoryview(bytearray(b"." * 30))
    with monkeypatch.context() as patch:
        refuse(patch, os, step, errno.EBADMSG)
        (problem,) = read_files(folder, [Wanted(found, 5, 10, 10)], view)
    assert (problem.number, problem.code) == (0, "unreadable")
    assert problem.runs == [(10, 10)]
    assert view == b"." * 10 + bytes(10) + b"." * 10


# --- holes and caches ----------------------------------------------------------------------------


def test_a_file_without_holes_has_no_map(folder: int) -> None:
    assert data_runs_of(folder, look(folder, b"file")) is None


def test_a_map_ends_where_the_file_ended_when_it_was_found(folder: int, tmp_path: Path) -> None:
    write_sparse(tmp_path / "holes", 100_000, {8192: noise(8192, 1)})
    found = look(folder, b"holes")
    assert data_runs_of(folder, found) == [(8192, 8192)]
    assert data_runs_of(folder, found._replace(size=12_000)) == [(8192, 12_000 - 8192)]
    assert data_runs_of(folder, found._replace(size=8192)) == []
    assert data_runs_of(folder, found._replace(size=100)) == []
    os.truncate(tmp_path / "holes", 10_000)
    assert data_runs_of(folder, found) in ([(8192, 2048)], [(8192, 4096)])
    os.truncate(tmp_path / "holes", 100)
    assert data_runs_of(folder, found) == []


def test_a_map_of_another_file_is_refused(folder: int, tmp_path: Path) -> None:
    write_sparse(tmp_path / "holes", 100_000, {})
    found = look(folder, b"holes")
    (tmp_path / "holes").rename(tmp_path / "moved")
    (tmp_path / "holes").write_bytes(b"x")
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        data_runs_of(folder, found)
    with pytest.raises(FileNotFoundError):
        data_runs_of(folder, found._replace(name=b"missing"))


def test_a_cache_tag_that_can_not_be_read_is_none(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_cache(folder)
    (tmp_path / os.fsdecode(CACHE_TAG_NAME)).write_bytes(CACHE_TAG_START)
    assert is_cache(folder)
    refuse(monkeypatch, os, "pread", errno.EIO)
    assert not is_cache(folder)


def test_a_found_thing_knows_its_identity() -> None:
    found = Found(b"x", stat.S_IFREG, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, b"", 0)
    assert found.identity == (6, 7)
    assert files.FILE_FLAGS & 0x30 == 0x30, "append-only and immutable"
