"""Restoring trees: all of one, or a part, by any number of threads."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onggi.archive import accelerate, destination, restore_plan
from onggi.archive.destination import RestoreOptions
from onggi.archive.errors import BadUseError, Finding, StoreError
from onggi.archive.plan import Geometry
from onggi.archive.progress import Progress
from onggi.archive.restore_plan import Restored
from onggi.archive.tree_extract import unpack_tree

from .tree_helpers import (
    LARGE,
    MTIME_NS,
    TINY,
    Packed,
    Step,
    facts_on_disk,
    grow,
    noise,
    pack_path,
    pack_paths,
    steps,
    write_sparse,
)
from .tree_restore_helpers import ENTRY, IS_ROOT, codes, make_it, parts, unpack
from .tree_restore_helpers import no_sync as no_sync
from .tree_restore_helpers import python as python
from .tree_restore_helpers import tree as tree
from .tree_restore_helpers import twin as twin

# --- whole trees ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("restore")


@given(
    plan=steps(), threads=st.sampled_from([1, 3]), geometry=st.sampled_from([LARGE, TINY]),
    large_bytes=st.sampled_from([256, 65_536, 2**24]), files_of_task=st.sampled_from([1, 3, 2048]),
    python=st.booleans(),
)  # fmt: skip
@settings(max_examples=40)
def test_a_restored_tree_is_the_tree(
    plan: list[Step], threads: int, geometry: Geometry, large_bytes: int, files_of_task: int,
    python: bool, base: Path,
) -> None:  # fmt: skip
    """Also with tasks, and parts of files, as small as they never are."""
    with tempfile.TemporaryDirectory(dir=base) as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(restore_plan, "LARGE_BYTES", large_bytes)
        patch.setattr(restore_plan, "_MOST_FILES", files_of_task)
        if python:
            patch.setattr(accelerate, "_module", None)
        source, dest = Path(name) / "source", Path(name) / "dest"
        source.mkdir()
        grow(source, plan)
        if not IS_ROOT:
            for each in source.rglob("*"):
                if not each.is_symlink():
                    each.chmod(each.stat().st_mode & 0o777)
        packed = pack_path(source, geometry)
        restored, findings = unpack(packed, dest, threads=threads)
        assert findings == []
        expected = facts_on_disk(source)
        assert facts_on_disk(dest) == expected
        assert restored.entries == len(expected) - 1
        assert restored.files == packed.tree.summary.files
        assert restored.file_bytes == packed.tree.summary.file_bytes
        for path in expected:
            now, was = (os.lstat(os.fsencode(top) + b"/" + path) for top in (dest, source))
            if stat.S_ISREG(was.st_mode) and was.st_blocks * 512 < was.st_size:
                assert now.st_blocks <= was.st_blocks, "holes stay holes"


@pytest.mark.usefixtures("twin")
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("exists", [False, True])
def test_everything_is_restored(exists: bool, threads: int, tree: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    if exists:
        dest.mkdir()
        (dest / "other").touch()
    restored, findings = unpack(pack_path(tree, TINY), dest, threads=threads)
    assert findings == []
    (dest / "other").unlink(missing_ok=True)
    os.utime(dest, ns=(0, MTIME_NS))
    assert facts_on_disk(dest) == facts_on_disk(tree)
    assert restored.lost_bytes == 0


def test_a_root_that_is_made_changes_nothing_of_the_folder(tree: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    dest.mkdir(0o751)
    os.utime(dest, ns=(5, 5))
    packed = pack_paths([tree / "d", tree / "a"])
    _, findings = unpack(packed, dest)
    assert findings == []
    assert stat.S_IMODE(dest.stat().st_mode) == 0o751
    assert {path for path in facts_on_disk(dest) if b"/" not in path} == {b"", b"a", b"d"}


def test_a_folder_to_restore_to_may_be_named_by_a_link(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "named").symlink_to("real")
    unpack(pack_path(tree), tmp_path / "named")
    assert facts_on_disk(tmp_path / "real") == facts_on_disk(tree)


@pytest.mark.parametrize("kind", ["file", "dangling", "missing/deep"])
def test_a_folder_to_restore_to_that_can_not_be_made_is_refused(
    kind: str, tree: Path, tmp_path: Path
) -> None:
    dest = tmp_path / kind
    if kind == "file":
        dest.touch()
    elif kind == "dangling":
        dest.symlink_to("nowhere")
    with pytest.raises(StoreError, match="can't write to"):
        unpack(pack_path(tree), dest)
    assert not (tmp_path / "nowhere").exists()


def test_more_folders_than_are_remembered_are_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(destination, "_FOLDERS_KEPT", 3)
    source = tmp_path / "source"
    for one, two, three in itertools.product("abc", "de", "fg"):
        (source / one / two / three).mkdir(parents=True)
        (source / one / two / three / "file").write_bytes((one + two + three).encode())
        (source / one / two / "f").touch()
    packed = pack_path(source)
    unpack(packed, tmp_path / "dest", threads=2)
    assert facts_on_disk(tmp_path / "dest") == facts_on_disk(source)


def test_a_path_longer_than_the_kernel_takes_is_restored(tmp_path: Path) -> None:
    source, names = tmp_path / "source", [b"n" * 200] * 30
    source.mkdir()
    fd = os.open(source, os.O_RDONLY)
    for name in names:
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    file = os.open(b"file", os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=fd)
    os.write(file, b"deep")
    os.link(b"file", b"other", src_dir_fd=fd, dst_dir_fd=fd)
    os.close(file)
    os.close(fd)
    packed = pack_path(source)
    path = b"/".join(names)
    for paths in ((), (path + b"/other",)):
        dest = tmp_path / f"dest{len(paths)}"
        _, findings = unpack_tree_only(packed, dest, *paths)
        assert findings == []
        fd = os.open(dest, os.O_RDONLY)
        for name in names:
            below = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = below
        file = os.open(b"other", os.O_RDONLY, dir_fd=fd)
        assert os.read(file, 10) == b"deep"
        assert os.fstat(file).st_nlink == 2 - len(paths)
        os.close(file)
        os.close(fd)


def unpack_tree_only(packed: Packed, dest: Path, *paths: bytes) -> tuple[Restored, list[Finding]]:
    """Restore where a look at what is there takes paths that are too long."""
    findings: list[Finding] = []
    restored = unpack_tree(
        packed.tree, packed.archive, os.fspath(dest), threads=2, paths=paths,
        found=findings.append,
    )  # fmt: skip
    return restored, findings


# --- parts of a tree -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "link", "fifo", "sparse", "large"])
def test_the_names_of_one_thing_are_linked_whichever_are_restored(
    kind: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    names = ["b/one", "a/two", "c/d/three", "z"]
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
    make_it(source, kind)
    for name in names:
        os.link(source / "it", source / name, follow_symlinks=False)
    (source / "it").unlink()
    (source / "other").touch()
    packed = pack_path(source, TINY)
    everything = facts_on_disk(source)
    number = 0
    paths = [*names, "a", "c"]  # files, and folders that hold some of them
    for count in range(1, 4):
        for chosen in itertools.permutations(paths, count):
            dest = tmp_path / f"dest{(number := number + 1)}"
            restored, findings = unpack(packed, dest, *map(os.fsencode, chosen))
            assert findings == []
            found = facts_on_disk(dest)
            wanted = frozenset(
                os.fsencode(name)
                for name in names
                if any(name == path or name.startswith(path + "/") for path in chosen)
            )
            for path in wanted:
                assert found[path] == everything[path]._replace(names=wanted)
            above = {os.path.dirname(path) for path in wanted} | {b"", b"c"}
            assert found.keys() <= wanted | above
            for path in found.keys() - wanted - {b""}:
                assert found[path] == everything[path]
            assert restored.entries == len(found) - 1


def test_a_part_of_a_tree_is_restored_with_all_below_it(tree: Path, tmp_path: Path) -> None:
    packed = pack_path(tree)
    everything = facts_on_disk(tree)
    cases: list[tuple[list[bytes], set[bytes]]] = [
        ([b"d/e"], {b"d", b"d/e", b"d/e/c", b"d/e/large"}),
        ([b"/d/e/", b"d/./e/c", b"d/e"], {b"d", b"d/e", b"d/e/c", b"d/e/large"}),
        ([b"d/e/c"], {b"d", b"d/e", b"d/e/c"}),
        ([b"holes", b"link", b"fifo"], {b"holes", b"link", b"fifo"}),
        ([b"d/same"], {b"d", b"d/same"}),
        ([b"d/e/c", b"a", b"d/b"], {b"d", b"d/e", b"d/e/c", b"a", b"d/b"}),
        ([b"."], set(everything) - {b""}),
        ([b"a", b"", b"d"], set(everything) - {b""}),
    ]
    for number, (paths, expected) in enumerate(cases):
        dest = tmp_path / f"dest{number}"
        _, findings = unpack(packed, dest, *paths, threads=2)
        assert findings == []
        found = facts_on_disk(dest)
        assert found.keys() - {b""} == expected
        for path in expected:
            names = everything[path].names & found.keys()
            assert found[path] == everything[path]._replace(names=names)


def test_folders_on_the_way_get_their_metadata_if_they_are_new(tmp_path: Path) -> None:
    source, dest = tmp_path / "source", tmp_path / "dest"
    (source / "old/new").mkdir(parents=True)
    (source / "old/new/f").touch()
    for path in (source / "old/new", source / "old"):
        path.chmod(0o750)
        os.utime(path, ns=(7, 7))
    (dest / "old").mkdir(parents=True, mode=0o711)
    packed = pack_path(source)
    unpack(packed, dest, b"old/new/f")
    assert stat.S_IMODE((dest / "old").stat().st_mode) == 0o711
    assert stat.S_IMODE((dest / "old/new").stat().st_mode) == 0o750
    assert (dest / "old/new").stat().st_mtime_ns == 7
    unpack(packed, dest, b"old", force=True)
    assert stat.S_IMODE((dest / "old").stat().st_mode) == 0o750


@pytest.mark.parametrize(
    ("paths", "words"),
    [([b"missing"], "missing"), ([b"a", b"d/missing"], "d/missing"), ([b"a/below"], "a/below"),
     ([b"d/../a"], r"\.\."), ([b"\xff"], "xff"), ([b"link/x"], "link/x")],
)  # fmt: skip
def test_a_path_that_is_not_there_is_refused_before_anything_is_made(
    paths: list[bytes], words: str, tree: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadUseError, match=words):
        unpack(pack_path(tree), tmp_path / "dest", *paths)
    assert not (tmp_path / "dest").exists()


# --- files that many threads write ---------------------------------------------------------------


@pytest.fixture
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files of 64 KiB be large, and tasks be small."""
    monkeypatch.setattr(restore_plan, "LARGE_BYTES", 65_536)
    monkeypatch.setattr(restore_plan, "_MOST_BYTES", 65_536)
    monkeypatch.setattr(restore_plan, "_MOST_FILES", 3)


@pytest.fixture
def large_files(tmp_path: Path) -> Path:
    """Files of lengths around those of parts; small ones between them."""
    root = tmp_path / "large"
    root.mkdir()
    for number, size in enumerate((65_535, 65_536, 65_537, 131_072, 500_001, 900_000)):
        (root / f"{number}-large").write_bytes(noise(size, number))
        (root / f"{number}-small").write_bytes(noise(number * 100, number))
    write_sparse(
        root / "sparse", 2_000_000, {at: noise(50_000, at) for at in range(0, 2_000_000, 200_704)}
    )
    write_sparse(root / "sparse-large", 900_000, {200_704: noise(400_000, 5)})
    os.link(root / "4-large", root / "again")
    return root


@pytest.mark.usefixtures("small_tasks", "twin")
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_large_files_are_written_in_parts_by_several_threads(
    threads: int, large_files: Path, tmp_path: Path
) -> None:
    packed = pack_path(large_files, Geometry(100_352, 8192, 512))
    reports: list[Progress] = []
    findings: list[Finding] = []
    restored = unpack_tree(
        packed.tree, packed.archive, os.fspath(tmp_path / "dest"), threads=threads,
        options=RestoreOptions(same_owner=IS_ROOT), found=findings.append, report=reports.append,
    )  # fmt: skip
    assert findings == []
    assert facts_on_disk(tmp_path / "dest") == facts_on_disk(large_files)
    assert len(reports) > 20
    done = [report.content_bytes for report in reports]
    assert done == sorted(done)
    assert restored.files == 14
    assert reports[-1].total_bytes == packed.tree.summary.file_bytes


@pytest.mark.usefixtures("small_tasks", "python")
@pytest.mark.parametrize("code", [errno.EFBIG, errno.ENOSPC])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_large_file_that_fails_midway_leaves_nothing(
    code: int, threads: int, large_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack_path(large_files, Geometry(100_352, 8192, 512))
    real = os.pwrite

    def pwrite(fd: int, data: Any, offset: int) -> int:
        if offset >= 700_000 and ".part" in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(code, os.strerror(code))
        return real(fd, data, offset)

    dest = tmp_path / "dest"
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        if code == errno.ENOSPC:
            with pytest.raises(StoreError, match="No space"):
                unpack(packed, dest, threads=threads)
            assert parts(dest) == []
            assert not (dest / "5-large").exists()
            return
        _, findings = unpack(packed, dest, threads=threads)
    assert codes(findings).keys() == {"5-large", "sparse"}
    assert {code for each in codes(findings).values() for code in each} == {ENTRY}
    left = facts_on_disk(large_files).keys() - facts_on_disk(dest).keys()
    assert left == {b"5-large", b"sparse"}
    assert (dest / "4-large").read_bytes() == noise(500_001, 4)
