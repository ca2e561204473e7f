"""Removing restored trees: all of it goes, whatever it is, and nothing else."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from onggi.control import scratch
from onggi.control.errors import ConflictError
from onggi.control.scratch import remove_tree
from onggi.control.target import Target

from .manager_helpers import MARKER, descriptors


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    before = descriptors()
    yield fd
    assert descriptors() == before
    os.close(fd)


def test_a_tree_of_all_kinds_of_things_goes(folder: int, tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "a" / "b" / "c").mkdir(parents=True)
    (top / "a" / "file").write_text("x")
    (top / "a" / "b" / "c" / "file").write_text("x")
    os.mkfifo(top / "fifo")
    (top / "empty").mkdir()
    (top / b"\xff\n".decode(errors="surrogateescape")).write_text("x")
    os.link(top / "a" / "file", tmp_path / "kept")
    remove_tree(folder, "top")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_text() == "x"


def test_links_are_removed_and_not_followed(folder: int, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (kept / "inner").mkdir(parents=True)
    (kept / "inner" / "file").write_text("x")
    top = tmp_path / "top"
    (top / "a").mkdir(parents=True)
    (top / "to-folder").symlink_to(kept)
    (top / "a" / "to-folder").symlink_to("../../kept/inner")
    (top / "a" / "dangling").symlink_to("nothing")
    remove_tree(folder, "top")
    (tmp_path / "link").symlink_to("kept")
    remove_tree(folder, "link")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "kept", "kept/inner", "kept/inner/file",
    ]  # fmt: skip


def test_a_file_goes_and_nothing_is_no_error(folder: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    remove_tree(folder, "file")
    remove_tree(folder, "file")
    assert not list(tmp_path.iterdir())


def test_neither_depth_nor_length_of_paths_matters(folder: int, tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    fd = os.open(tmp_path / "top", os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("n" * 200, dir_fd=fd)
        inner = os.open("n" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=inner))
        os.close(fd)
        fd = inner
    os.close(fd)
    remove_tree(folder, "top")
    assert not list(tmp_path.iterdir())


def test_a_wide_tree_goes_too(folder: int, tmp_path: Path) -> None:
    for number in range(300):
        path = tmp_path / "top" / f"{number}" / "same name"
        path.mkdir(parents=True)
        for each in range(10):
            (path / str(each)).touch()
    remove_tree(folder, "top")
    assert not list(tmp_path.iterdir())


@pytest.mark.needs("setpriv")
def test_modes_do_not_matter(tmp_path: Path) -> None:
    """For root they never do, so this is done without its rights over files."""
    top = tmp_path / "top"
    for name, mode in (("none", 0), ("read", 0o500), ("write", 0o200), ("x", 0o100)):
        (top / "in" / name / "deep").mkdir(parents=True)
        (top / "in" / name / "file").write_text("x")
        (top / "in" / name / "deep" / "file").write_text("x")
        (top / "in" / name / "deep").chmod(mode)
        (top / "in" / name).chmod(mode)
    (top / "in").chmod(0)
    top.chmod(0o400)
    body = (
        "import os, sys; from onggi.control.scratch import remove_tree;"
        "remove_tree(os.open(sys.argv[1], os.O_RDONLY), 'top')"
    )
    less = "-dac_override,-dac_read_search,-fowner"
    command = [sys.executable, "-c", body, str(tmp_path)]
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set", less, "--inh-caps", less, *command]
    subprocess.run(command, check=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.needs("root", "loop", "mkfs.ext4", "mount", "chattr")
def test_flags_that_lock_files_and_folders_do_not_matter(tmp_path: Path, loops: object) -> None:
    image, place = tmp_path / "disk", tmp_path / "place"
    image.write_bytes(b"")
    os.truncate(image, 16 << 20)
    place.mkdir()
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    device = loops(image)  # type: ignore[operator]
    subprocess.run(["mount", device, place], check=True)
    try:
        for name in ("+i", "+a"):
            inner = place / "top" / name / "inner"
            inner.mkdir(parents=True)
            (inner / "file").write_text("x")
            (place / "top" / name / "file").write_text("x")
            for path in (inner / "file", inner, place / "top" / name / "file", inner.parent):
                subprocess.run(["chattr", name, path], check=True)
        subprocess.run(["chattr", "+i", place / "top"], check=True)
        fd = os.open(place, os.O_RDONLY)
        try:
            remove_tree(fd, "top")
        finally:
            os.close(fd)
        assert [path.name for path in place.iterdir()] == ["lost+found"]
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.needs("root", "mount")
@pytest.mark.parametrize("at", ["", "inner", "inner/deep/er"])
@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_what_is_mounted_in_it_is_not_entered(
    folder: int, tmp_path: Path, at: str, kind: str
) -> None:
    place = tmp_path / "top" / at
    place.mkdir(parents=True)
    kept = tmp_path / "kept"
    kept.mkdir()
    kind_words = ("--bind", kept) if kind == "bind" else ("-t", "tmpfs", "none")
    subprocess.run(["mount", *kind_words, place], check=True)
    try:
        (place / "file").write_text("x")
        inside = os.open(place, os.O_RDONLY)
        (tmp_path / "top" / "file").touch()
        try:
            with pytest.raises(OSError, match="busy") as caught:
                remove_tree(folder, "top")
            assert caught.value.errno == errno.EBUSY
            assert "file" in os.listdir(inside)
        finally:
            os.close(inside)
    finally:
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if line.split()[4].startswith(str(tmp_path)):  # it may have been moved
                subprocess.run(["umount", line.split()[4]], check=True)


@pytest.mark.parametrize("at", ["top", "a", "b"])
def test_a_link_in_the_place_of_a_folder_that_was_just_looked_at_leads_nowhere(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Somebody exchanges them at the worst moment."""
    for name in ("kept", "top/a", "top/a/b"):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "file").write_text("x")
    remove_empty = scratch._remove_empty

    def exchange(parent: int, name: str) -> bool:
        found = remove_empty(parent, name)
        if (name == at or at == "b") and not found:
            os.rename(name, "was", src_dir_fd=parent, dst_dir_fd=parent)
            os.symlink(tmp_path / "kept", name, dir_fd=parent)
        return found

    monkeypatch.setattr(scratch, "_remove_empty", exchange)
    with suppress(OSError):
        remove_tree(folder, "top")
    assert (tmp_path / "kept" / "inner" / "file").exists()


# --- by way of a target ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["{target}", "{target}/", "{target}/..", "{target}/../other", "/etc", "other", "",
     "{target}/a/../../other", "{target}/./a", "{target}2", "{target}//a"],
)  # fmt: skip
def test_only_what_is_below_the_target_is_removed(tmp_path: Path, path: str) -> None:
    for name in ("target/a", "other", "target2"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text("x")
    (tmp_path / "target" / ".onggi-target").write_text(MARKER)
    target = Target(str(tmp_path / "target"), MARKER)
    with pytest.raises(ConflictError):
        target.remove_scratch(path.format(target=tmp_path / "target"))
    assert len(list(tmp_path.rglob("file"))) == 3


def test_a_link_on_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "other" / "scratch").mkdir(parents=True)
    (tmp_path / "other" / "scratch" / "file").write_text("x")
    (tmp_path / "target" / ".onggi-target").write_text(MARKER)
    (tmp_path / "target" / "plan").symlink_to("../other")
    target = Target(str(tmp_path / "target"), MARKER)
    with pytest.raises(ConflictError, match="Not a directory"):
        target.remove_scratch(str(tmp_path / "target" / "plan" / "scratch"))
    assert (tmp_path / "other" / "scratch" / "file").exists()


def test_nothing_is_removed_without_the_marker(tmp_path: Path) -> None:
    for name, marker in (("none", None), ("other", "x"), ("longer", MARKER + "x"), ("fifo", "")):
        scratch = tmp_path / name / "scratch"
        scratch.mkdir(parents=True)
        if name == "fifo":
            os.mkfifo(tmp_path / name / ".onggi-target")
        elif marker is not None:
            (tmp_path / name / ".onggi-target").write_text(marker)
        with pytest.raises(ConflictError):
            Target(str(tmp_path / name), MARKER).remove_scratch(str(scratch))
        assert scratch.exists()
    with pytest.raises(ConflictError, match="No such file"):
        Target(str(tmp_path / "gone"), MARKER).check()


def test_a_marker_that_is_a_link_is_none(tmp_path: Path) -> None:
    (tmp_path / "marker").write_text(MARKER)
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / ".onggi-target").symlink_to("../marker")
    with pytest.raises(ConflictError, match="marker"):
        Target(str(tmp_path / "target"), MARKER).check()
