"""The library: trees and volumes restored into folders."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onggi import archive

from .api_helpers import FRAME, NO_UTF8, UNIT, files_of
from .api_helpers import folder as folder
from .api_helpers import opened as opened
from .api_helpers import packed_path as packed_path

# --- trees ---------------------------------------------------------------------------------------


def test_all_of_a_tree_is_restored(
    opened: archive.OpenArchive, folder: Path, tmp_path: Path
) -> None:
    restored = opened.extract(tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(folder)
    assert restored.lost_bytes == 0
    assert restored.entries == opened.member_count - 1
    assert (tmp_path / "out/link").readlink() == Path("data/units")
    assert (tmp_path / "out/data/units").stat().st_nlink == 2
    assert (tmp_path / "out/text").stat().st_mtime_ns == 1_234_567_890_123_456_789
    again = opened.extract(tmp_path / "out")
    assert {finding.code for finding in again.findings} == {"exists"}
    assert again.entries == 0
    forced: list[archive.Finding] = []
    opened.extract(tmp_path / "out", force=True, found=forced.append, threads=2)
    assert [finding.code for finding in forced if finding.code == "exists"] == []


def test_parts_of_a_tree_are_restored(opened: archive.OpenArchive, tmp_path: Path) -> None:
    steps: list[archive.Progress] = []
    out = os.fsencode(tmp_path / "out")
    restored = opened.extract(out, ["data/deep", NO_UTF8], same_owner=False, report=steps.append)
    assert (restored.files, restored.findings) == (2, ())
    assert sorted(files_of(tmp_path / "out")) == sorted(["data/deep/again", os.fsdecode(NO_UTF8)])
    assert steps
    with pytest.raises(archive.EntryNotFoundError):
        opened.extract(tmp_path / "none", ["text", "nothing"])
    assert not (tmp_path / "none").exists()
    with pytest.raises(archive.StoreError, match="name a folder"):
        opened.extract(tmp_path / "out/data/deep/again")


@pytest.mark.parametrize("bad", ["", b"", "nul\0", b"\0", "lone \ud800"])
def test_what_can_t_be_a_path_is_refused(
    opened: archive.OpenArchive, folder: Path, tmp_path: Path, bad: str
) -> None:
    for call in (
        lambda: archive.open(bad), lambda: archive.verify_archive(bad),
        lambda: archive.pack_folder(bad, tmp_path / "a"), lambda: archive.pack([bad], "a"),
        lambda: archive.pack_folder(folder, bad), lambda: opened.extract(bad),
    ):  # fmt: skip
        with pytest.raises(archive.BadUseError, match="can't be a path"):
            call()
    with pytest.raises(archive.BadUseError, match="in a list"):
        opened.extract(tmp_path / "out", "text")
    assert sorted(os.listdir(tmp_path)) == ["packed.onggi", "source"]


def test_without_owners_setuid_is_left_out_and_told(
    opened: archive.OpenArchive, tmp_path: Path
) -> None:
    restored = opened.extract(tmp_path / "out", ["text"], same_owner=False)
    assert [finding.code for finding in restored.findings] == ["not-restored-mode"]
    assert (tmp_path / "out/text").stat().st_mode & 0o7777 == 0o640


# --- volumes -------------------------------------------------------------------------------------


@pytest.fixture
def volume(tmp_path: Path, onggi: Callable[..., Any]) -> Path:
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.write(random.Random(3).randbytes(3 * FRAME + 5))
        file.truncate(5 * UNIT + 1)
    ran = onggi("pack", image, "volume.onggi", "--frame-size", FRAME, "--blocks", UNIT // 4096)
    assert ran.code == 0, ran.err
    return tmp_path / "volume.onggi"


def test_a_volume_is_a_tree_of_one_file(volume: Path) -> None:
    content = (volume.parent / "disk.img").read_bytes()
    with archive.open(volume) as opened:
        assert (opened.kind, opened.member_count) == ("volume", 1)
        assert opened.listdir() == ["disk.img"]
        root, file = opened.walk()
        assert (root.path, root.type, root.size) == ("", "directory", 0)
        assert (file.path, file.type, file.size) == ("disk.img", "file", len(content))
        assert file.mtime_ns == (volume.parent / "disk.img").stat().st_mtime_ns
        assert (file.user, file.xattrs(), file.target, file.device) == (None, {}, None, None)
        assert [entry.path for entry in opened.walk("disk.img")] == ["disk.img"]
        assert opened.stat("/disk.img") == file
        assert (opened.exists("other"), opened.exists(b"disk.img")) == (False, True)
        for bad, error in (
            ("other", FileNotFoundError), ("disk.img/x", NotADirectoryError),
            ("", IsADirectoryError),
        ):  # fmt: skip
            with pytest.raises(error):
                opened.read(bad)
        with pytest.raises(archive.BadUseError, match="can't hold"):
            opened.read("../disk.img")
        for at in (0, FRAME - 1, FRAME, FRAME + 1, UNIT, 3 * UNIT + 7, len(content) - 1, 10**9):
            for size in (0, 1, FRAME, 2 * UNIT):
                assert opened.read("disk.img", at, size) == content[at : at + size]
        with opened.open("disk.img") as handle:
            assert handle.read() == content
        assert opened.verify().is_whole
        with pytest.raises(archive.BadUseError):
            opened.read("disk.img", -1)


def test_a_volume_is_restored_into_a_folder(volume: Path) -> None:
    content = (volume.parent / "disk.img").read_bytes()
    out = volume.parent / "out"
    with archive.open(volume) as opened:
        restored = opened.extract(out)
        assert restored == archive.Extracted(1, 1, len(content), 0, ())
        assert (out / "disk.img").read_bytes() == content
        with pytest.raises(archive.StoreError, match="exists"):
            opened.extract(out, ["disk.img"])
        (out / "disk.img").write_bytes(b"something else")
        opened.extract(out, ["disk.img"], force=True)
        assert (out / "disk.img").read_bytes() == content
        with pytest.raises(FileNotFoundError):
            opened.extract(out, ["other"])
        with pytest.raises(archive.StoreError):
            opened.extract(volume)
    assert os.listdir(out) == ["disk.img"]
