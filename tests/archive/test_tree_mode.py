"""The choice of how a source is packed, and its reason in words."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from onggi.archive import mode
from onggi.archive.errors import BadUseError, SourceError
from onggi.archive.mode import MANY_FILES, Choice, choose
from onggi.archive.source import Mount

NUMBER = os.makedev(259, 7)


@dataclass
class Mounted:
    """A folder that looks as if a device were mounted there.

    Attributes:
        folder: the folder.
        device: what the device must be called.
        files: inodes in use.
        writable: for each of its mounts, whether it is one for writing.
        node: `st_mode` and `st_rdev` of the device's node; None if it can't be looked at.
        readable: whether the device can be read.
    """

    folder: str
    name: str = "loop7"
    device: str = "/dev/loop7"
    files: int = 10
    writable: tuple[bool, ...] = (False,)
    node: tuple[int, int] | None = (stat.S_IFBLK | 0o600, NUMBER)
    readable: bool = True
    is_mount: bool = True


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mounted:
    """Let a folder look mounted; what is changed later is seen."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    fake = Mounted(os.fspath(folder))
    real_stat, real_path, real_access = os.stat, os.path.realpath, os.access

    def look(path: Any, **options: Any) -> Any:
        if path == fake.folder:
            return SimpleNamespace(st_mode=stat.S_IFDIR | 0o755, st_dev=NUMBER)
        if path == fake.device:
            if fake.node is None:
                raise FileNotFoundError(path)
            return SimpleNamespace(st_mode=fake.node[0], st_rdev=fake.node[1])
        return real_stat(path, **options)

    def realpath(path: Any, **options: Any) -> Any:
        if path == "/sys/dev/block/259:7":
            return f"/sys/devices/virtual/block/{fake.name}"
        return real_path(path, **options)

    def access(path: Any, how: int, **options: Any) -> bool:
        if path == fake.device:
            assert how == os.R_OK
            return fake.readable
        return real_access(path, how, **options)

    def mounts_of(number: str) -> list[Any]:
        assert number == "259:7"
        return [Mount(fake.folder, writable) for writable in fake.writable]

    monkeypatch.setattr(os, "stat", look)
    monkeypatch.setattr(os.path, "realpath", realpath)
    monkeypatch.setattr(os.path, "ismount", lambda path: path == fake.folder and fake.is_mount)
    monkeypatch.setattr(os, "access", access)
    monkeypatch.setattr(
        os, "statvfs",
        lambda path: SimpleNamespace(f_files=10_000_000, f_ffree=10_000_000 - fake.files),
    )  # fmt: skip
    monkeypatch.setattr(mode, "mounts_of", mounts_of)
    return fake


# --- without a mount -----------------------------------------------------------------------------


def test_a_plain_folder_is_a_tree_for_no_special_reason(tmp_path: Path) -> None:
    for wanted in ("auto", "tree"):
        assert choose([os.fspath(tmp_path)], wanted) == Choice(None)


def test_a_plain_folder_is_no_volume(tmp_path: Path) -> None:
    with pytest.raises(BadUseError, match="no mount point of a device"):
        choose([os.fspath(tmp_path)], "volume")


def test_a_file_is_a_volume_unless_a_tree_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.touch()
    name = os.fspath(path)
    assert choose([name], "auto") == choose([name], "volume") == Choice(name)
    assert choose([name], "tree") == Choice(None)
    os.mkfifo(tmp_path / "fifo")
    assert choose([os.fspath(tmp_path / "fifo")], "auto").volume is not None


def test_a_device_is_a_volume() -> None:
    assert choose(["/dev/null"], "auto") == Choice("/dev/null")


def test_a_link_is_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "folder").symlink_to("/")
    (tmp_path / "real").touch()
    (tmp_path / "file").symlink_to("real")
    assert choose([os.fspath(tmp_path / "file")], "auto").volume == os.fspath(tmp_path / "file")
    assert choose([os.fspath(tmp_path / "folder")], "tree") == Choice(None)


@pytest.mark.parametrize("wanted", ["auto", "volume", "tree"])
def test_a_source_that_is_not_there_is_an_error(wanted: str, tmp_path: Path) -> None:
    for name in ("missing", "dangling"):
        if name == "dangling":
            (tmp_path / name).symlink_to("nowhere")
        with pytest.raises(SourceError, match=f"can't open .*{name}: No such file"):
            choose([os.fspath(tmp_path / name)], wanted)


def test_several_sources_are_a_tree(tmp_path: Path) -> None:
    for wanted in ("auto", "tree"):
        assert choose([os.fspath(tmp_path), "whatever"], wanted) == Choice(None)
    with pytest.raises(BadUseError, match="one source"):
        choose([os.fspath(tmp_path), "whatever"], "volume")


def test_standard_input_is_a_volume_alone() -> None:
    assert choose(["-"], "auto") == choose(["-"], "volume") == Choice("-")
    for sources, wanted in ((["-"], "tree"), (["-", "x"], "auto"), (["x", "-"], "volume")):
        with pytest.raises(BadUseError, match="standard input"):
            choose(sources, wanted)


# --- with a mount --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "is_volume"),
    [(0, False), (MANY_FILES - 1, False), (MANY_FILES, False), (MANY_FILES + 1, True)],
)
def test_a_mount_with_many_files_is_a_volume(files: int, is_volume: bool, mounted: Mounted) -> None:
    mounted.files = files
    choice = choose([mounted.folder], "auto")
    assert choice.volume == (mounted.device if is_volume else None)
    assert f"{files:,} files" in choice.reason
    assert f"{MANY_FILES:,}" in choice.reason
    assert mounted.device in choice.reason


def test_a_mount_is_the_tree_that_is_asked_for(mounted: Mounted) -> None:
    mounted.files = MANY_FILES * 10
    assert choose([mounted.folder], "tree") == Choice(None)


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize("files", [1, MANY_FILES * 2])
def test_a_mount_is_the_volume_that_is_asked_for(
    files: int, writable: bool, mounted: Mounted
) -> None:
    mounted.files, mounted.writable = files, (writable,)
    choice = choose([mounted.folder], "volume")
    assert choice.volume == mounted.device
    assert "asked for" in choice.reason


@pytest.mark.parametrize(
    ("writable", "is_volume"),
    [
        ((False,), True),
        ((True,), False),
        ((False, True), False),
        ((True, False), False),
    ],
)
def test_a_volume_that_is_written_to_anywhere_is_not_chosen(
    writable: tuple[bool, ...], is_volume: bool, mounted: Mounted
) -> None:
    mounted.files, mounted.writable = MANY_FILES * 2, writable
    choice = choose([mounted.folder], "auto")
    assert (choice.volume == mounted.device) is is_volume
    assert ("mounted for writing" in choice.reason) is not is_volume


def test_a_mount_that_the_kernel_does_not_list_is_a_tree(mounted: Mounted) -> None:
    mounted.files, mounted.writable = MANY_FILES * 2, ()
    assert choose([mounted.folder], "auto") == Choice(None)


def test_a_device_that_can_not_be_read_is_not_chosen(mounted: Mounted) -> None:
    mounted.files, mounted.readable = MANY_FILES * 2, False
    choice = choose([mounted.folder], "auto")
    assert choice.volume is None
    assert f"{mounted.device} can't be read" in choice.reason


@pytest.mark.parametrize(
    "node",
    [None, (stat.S_IFCHR | 0o600, NUMBER), (stat.S_IFREG | 0o600, NUMBER),
     (stat.S_IFBLK | 0o600, NUMBER + 1)],
)  # fmt: skip
def test_a_mount_without_a_device_of_its_own_is_a_tree(
    node: tuple[int, int] | None, mounted: Mounted
) -> None:
    """A network, memory, or a file system of several devices."""
    mounted.files, mounted.node = MANY_FILES * 2, node
    assert choose([mounted.folder], "auto") == Choice(None)
    with pytest.raises(BadUseError, match="no mount point"):
        choose([mounted.folder], "volume")


def test_a_folder_inside_of_a_mount_is_a_tree(mounted: Mounted) -> None:
    mounted.files, mounted.is_mount = MANY_FILES * 2, False
    assert choose([mounted.folder], "auto") == Choice(None)


def test_a_device_in_a_folder_of_its_kind_has_its_name(mounted: Mounted) -> None:
    """The kernel writes the slash of `/dev/cciss/c0d0` as an exclamation mark."""
    mounted.name, mounted.device = "cciss!c0d0p1", "/dev/cciss/c0d0p1"
    mounted.files = MANY_FILES + 1
    assert choose([mounted.folder], "auto").volume == "/dev/cciss/c0d0p1"
