"""Restores that fail: what is made is whole, and every failure has a name."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from onggi.archive import folders, layout, restore, restore_plan
from onggi.archive.errors import SourceError, StoreError
from onggi.archive.reader import UnitReader
from onggi.archive.tree_extract import unpack_tree

from .tree_helpers import TINY, facts_on_disk, noise, pack_path
from .tree_restore_helpers import ENTRY, codes, fail, parts, unpack
from .tree_restore_helpers import no_sync as no_sync
from .tree_restore_helpers import python as python
from .tree_restore_helpers import tree as tree


class Stopped(BaseException):
    """What a signal handler raises."""


def is_part(what: object) -> bool:
    """Tell whether a file or a path is one that is being made."""
    if isinstance(what, int):
        try:
            return ".onggi-" in os.readlink(f"/proc/self/fd/{what}")
        except OSError:
            return False
    return isinstance(what, bytes) and b".onggi-" in what


FILES = {"a", "d/b", "d/e/c", "d/e/large", "d/same", "holes"}
LINKED = {"d/a2"}  # to `a`


def test_layout_and_names_agree_with_the_archive(tree: Path) -> None:
    """What this file holds about the tree is what is in it."""
    packed = pack_path(tree)
    files = {
        os.fsdecode(visited.path)
        for visited in packed.tree.walk(packed.tree.root)
        if visited.entry.is_file
    }
    assert files == FILES
    assert packed.flags(b"d/same") == 0
    assert packed.flags(b"d/e/large") == layout.FLAG_SHARED


# --- what concerns one thing ---------------------------------------------------------------------


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize(
    ("function", "only", "expected"),
    [
        (
            "open", lambda args: is_part(args[0]) and args[1] & os.O_CREAT,
            dict.fromkeys(FILES | LINKED, ENTRY),
        ),
        (
            "pwrite", lambda args: is_part(args[0]),
            dict.fromkeys(FILES - {"d/e/c"} | LINKED, ENTRY),
        ),
        ("ftruncate", lambda args: is_part(args[0]), {"holes": ENTRY}),
        ("symlink", lambda args: True, {"link": ENTRY}),
        ("mknod", lambda args: True, {"fifo": ENTRY}),
        ("link", lambda args: True, {"d/a2": ENTRY}),
        ("mkdir", lambda args: args[0] == b"e", {"d/e": ENTRY}),
        ("fchmod", lambda args: is_part(args[0]), dict.fromkeys(FILES, "not-restored-mode")),
        (
            "utime", lambda args: is_part(args[0]),
            dict.fromkeys(FILES | {"link", "fifo"}, "not-restored-time"),
        ),
        ("chmod", lambda args: True, {"fifo": "not-restored-mode"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_each_failure_is_told_by_the_name_of_what_it_concerns(
    function: str, only: Any, expected: dict[str, str], tree: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    packed = pack_path(tree)
    dest = tmp_path / "dest"
    with monkeypatch.context() as patch:
        met = fail(patch, function, errno.EPERM, only)
        _, findings = unpack(packed, dest, same_owner=False)
    assert met
    assert codes(findings) == {path: [code] for path, code in expected.items()}
    said = ("Operation not permitted", "No such", "what it is a link to was not restored")
    assert all(any(words in f.message for words in said) for f in findings)
    found, everything = facts_on_disk(dest), facts_on_disk(tree)
    lost = {os.fsencode(path) for path, code in expected.items() if code == ENTRY}
    below = {path for path in everything if path.startswith(b"d/e/") and b"d/e" in lost}
    assert everything.keys() - found.keys() == lost | below
    for path, fact in found.items():
        assert fact.content == everything[path].content


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_a_name_that_can_not_be_given_leaves_nothing(
    code: int, force: bool, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack_path(tree)
    dest = tmp_path / "dest"

    class Libc:
        def __getattr__(self, name: str) -> Any:
            return getattr(restore_libc, name)

        def renameat2(self, *_: object) -> int:
            ctypes.set_errno(code)
            return -1

    restore_libc = restore._libc
    with monkeypatch.context() as patch:
        patch.setattr(restore, "_libc", Libc())
        if force:
            fail(patch, "rename", code, lambda args: True)
        if code == errno.EIO:
            with pytest.raises(StoreError, match="Input/output error"):
                unpack(packed, dest, force=force)
            assert parts(dest) == []
            return
        _, findings = unpack(packed, dest, force=force)
    told = codes(findings)
    assert told == {path: [ENTRY] for path in FILES | LINKED | {"link", "fifo"}}
    assert facts_on_disk(dest).keys() == {b"", b"d", b"d/e"}


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize("code", [errno.EACCES, errno.ELOOP])
def test_a_folder_that_is_there_but_can_not_be_opened_is_told(
    code: int, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack_path(tree)
    dest = tmp_path / "dest"
    (dest / "d").mkdir(parents=True)
    with monkeypatch.context() as patch:
        fail(patch, "open", code, lambda args: args[0] == b"d")
        _, findings = unpack(packed, dest)
    told = "exists" if code == errno.ELOOP else ENTRY
    assert codes(findings) == {"d": [told]}
    assert list((dest / "d").iterdir()) == []


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS])
def test_where_a_rename_can_not_spare_what_is_there_it_is_looked_at_before(
    code: int, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack_path(tree)
    dest = tmp_path / "dest"
    (dest / "d").mkdir(parents=True)
    (dest / "d/b").write_bytes(b"mine")
    (dest / "link").symlink_to("nowhere")

    class Libc:
        def __getattr__(self, name: str) -> Any:
            return getattr(restore_libc, name)

        def renameat2(self, *_: object) -> int:
            ctypes.set_errno(code)
            return -1

    restore_libc = restore._libc
    with monkeypatch.context() as patch:
        patch.setattr(restore, "_libc", Libc())
        _, findings = unpack(packed, dest)
    assert codes(findings) == {"d/b": ["exists"], "link": ["exists"]}
    assert (dest / "d/b").read_bytes() == b"mine"
    assert os.readlink(dest / "link") == "nowhere"
    everything = facts_on_disk(tree)
    assert facts_on_disk(dest).keys() == everything.keys()
    assert (dest / "a").read_bytes() == everything[b"a"].content


def test_a_folder_that_vanishes_meanwhile_is_told(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack_path(tree)
    dest = tmp_path / "dest"
    (tmp_path / "outside").mkdir()
    real = restore.make_directory

    def make_directory(fd: int, name: bytes, *, force: bool) -> bool:
        made = real(fd, name, force=force)
        if name == b"e":
            (dest / "d/e").rmdir()
            (dest / "d/e").symlink_to(tmp_path / "outside")
        return made

    monkeypatch.setattr(restore_plan, "make_directory", make_directory)
    _, findings = unpack(packed, dest)
    assert codes(findings).keys() == {"d/e", "d/e/c", "d/e/large"}
    assert {code for each in codes(findings).values() for code in each} == {ENTRY}
    assert list((tmp_path / "outside").iterdir()) == []
    assert stat.S_IMODE((dest / "d").stat().st_mode) == stat.S_IMODE((tree / "d").stat().st_mode)


# --- what ends a restore -------------------------------------------------------------------------


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize("step", ["rename", "pin"])
@pytest.mark.parametrize("large", [False, True])
def test_what_ends_a_restore_in_a_thread_leaves_nothing(
    step: str, large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, dest = tmp_path / "source", tmp_path / "dest"
    source.mkdir()
    (source / "a").write_bytes(noise(200_000, 1))
    if large:
        monkeypatch.setattr(restore_plan, "LARGE_BYTES", 65_536)
        monkeypatch.setattr(restore_plan, "_MOST_BYTES", 65_536)
    packed = pack_path(source)
    code = errno.EIO if step == "rename" else errno.EMFILE
    error = OSError(code, os.strerror(code))

    def fails(*_: object) -> Any:
        raise error

    with monkeypatch.context() as patch:
        if step == "rename":
            patch.setattr(restore.Placing, "publish", fails)
        else:
            patch.setattr(folders.Folders, "pin", fails)
        with pytest.raises(StoreError, match=os.strerror(code)):
            unpack(packed, dest, threads=2)
    assert parts(dest) == []
    assert list(dest.iterdir()) == []


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize(
    "function", ["open", "pwrite", "symlink", "mknod", "link", "mkdir", "ftruncate"]
)
@pytest.mark.parametrize("code", restore.FATAL)
def test_what_the_next_file_would_meet_too_ends_a_restore(
    function: str, code: int, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack_path(tree)
    dest = tmp_path / "dest"
    dest.mkdir()
    with monkeypatch.context() as patch:
        fail(
            patch, function, code,
            lambda args: is_part(args[0]) if function in ("open", "pwrite", "ftruncate") else True,
        )  # fmt: skip
        with pytest.raises(StoreError, match="can't write below") as caught:
            unpack(packed, dest, threads=2)
    assert os.strerror(code) in str(caught.value)
    assert parts(dest) == []


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize("error", [Stopped(), KeyboardInterrupt(), MemoryError(), SourceError("x")])
@pytest.mark.parametrize("where", ["pwrite", "fchmod", "frame", "report", "found"])
def test_whatever_ends_a_restore_leaves_no_half_of_a_file(
    where: str, error: BaseException, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack_path(tree, TINY)
    dest = tmp_path / "dest"
    (dest / "d").mkdir(parents=True)
    (dest / "d/b").touch()
    monkeypatch.setattr(restore_plan, "_MOST_FILES", 2)

    def stop(*_: object, **__: object) -> Any:
        raise error

    with monkeypatch.context() as patch:
        if where == "frame":
            patch.setattr(UnitReader, "frame", stop)
        elif where in ("pwrite", "fchmod"):
            patch.setattr(os, where, stop)
        with pytest.raises(type(error)) as caught:
            unpack_tree(
                packed.tree, packed.archive, os.fspath(dest), threads=2,
                report=stop if where == "report" else lambda _: None,
                found=stop if where == "found" else lambda _: None,
            )  # fmt: skip
    assert caught.value is error
    assert parts(dest) == []
    everything = facts_on_disk(tree)
    for path, fact in facts_on_disk(dest).items():
        assert fact.content in (everything[path].content, b"")


def test_what_was_restored_is_synced_at_the_end(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest = tmp_path / "dest"
    synced: list[str] = []

    def sync_file_system(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        assert facts_on_disk(dest) == facts_on_disk(tree)

    monkeypatch.setattr(restore_plan, "sync_file_system", sync_file_system)
    unpack(pack_path(tree), dest)
    assert synced == [os.fspath(dest)]
    fd = os.open(dest, os.O_RDONLY)
    restore.sync_file_system(fd)
    os.close(fd)


def test_a_sync_that_fails_is_an_error(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack_path(tree)

    class Libc:
        def __getattr__(self, name: str) -> Any:
            return getattr(restore_libc, name)

        def syncfs(self, fd: int) -> int:
            ctypes.set_errno(errno.EIO)
            return -1

    restore_libc = restore._libc
    monkeypatch.setattr(restore, "_libc", Libc())
    monkeypatch.setattr(restore_plan, "sync_file_system", restore.sync_file_system)
    with pytest.raises(StoreError, match="Input/output error"):
        unpack(packed, tmp_path / "dest")


# --- single writes -------------------------------------------------------------------------------


def test_a_part_of_a_file_that_can_not_be_written_at_all_is_an_error(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    new = restore.NewEntryFile(fd, b"part", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", lambda *_: 0)
        with pytest.raises(OSError, match="Input/output error"):
            new.write_at(0, [memoryview(b"x")])
    new.discard(fd)
    new.discard(fd)
    os.close(fd)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_is_short_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:7], offset))
    fd = os.open(tmp_path, os.O_RDONLY)
    new = restore.NewEntryFile(fd, b"part", 3000)
    content = noise(1000, 1)
    new.write_at(500, [memoryview(content[:400]), memoryview(content[400:])])
    placing = restore.Placing(b"token", force=False)
    assert new.finish(fd, b"name", restore.Metadata(0o640, -1, -1, 7), placing) == []
    os.close(fd)
    assert (tmp_path / "name").read_bytes() == bytes(500) + content + bytes(1500)
    assert [path.name for path in tmp_path.iterdir()] == ["name"]
