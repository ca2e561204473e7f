"""Restoring trees: what is there stays, what is made is whole, and every failure has a name."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import itertools
import os
import pwd
import stat
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onggi.archive import (
    accelerate,
    destination,
    files,
    folders,
    layout,
    restore,
    restore_plan,
    tree_extract,
    tree_plan,
    tree_writer,
)
from onggi.archive.destination import RestoreOptions
from onggi.archive.entry import encode_attributes
from onggi.archive.errors import (
    BadUseError,
    DamagedError,
    Finding,
    OnggiError,
    Severity,
    SourceError,
    StoreError,
)
from onggi.archive.files import Found
from onggi.archive.index import UnitRow
from onggi.archive.plan import Geometry
from onggi.archive.progress import Progress
from onggi.archive.reader import Archive, UnitReader
from onggi.archive.restore_plan import Restored
from onggi.archive.selection import TreeOptions
from onggi.archive.store import MemoryStore
from onggi.archive.tree_extract import unpack_tree
from onggi.archive.view import open_tree

from .tree_helpers import (
    LARGE,
    MTIME_NS,
    ROWS,
    TINY,
    Fact,
    Packed,
    Step,
    archive_of,
    everything,
    facts_on_disk,
    grow,
    noise,
    pack_path,
    pack_paths,
    patched,
    steps,
    write_sparse,
)

IS_ROOT = os.geteuid() == 0
NS = 10**9


def unpack(
    packed: Packed, dest: Path | str, *paths: bytes, threads: int = 1, **options: bool
) -> tuple[Restored, list[Finding]]:
    """Restore an archive, or parts of it; return the totals and the findings."""
    findings: list[Finding] = []
    known = {"same_owner": IS_ROOT} | options
    restored = unpack_tree(
        packed.tree, packed.archive, os.fspath(dest), threads=threads, paths=paths,
        options=RestoreOptions(**known), found=findings.append,
    )  # fmt: skip
    assert parts(Path(dest)) == []
    return restored, findings


def parts(dest: Path) -> list[str]:
    """Return what was begun and not finished."""
    return [str(path) for path in dest.rglob(".onggi-*")]


def codes(findings: Sequence[Finding]) -> dict[str, list[str]]:
    """Return the codes of the findings of each path."""
    found: dict[str, list[str]] = {}
    for finding in findings:
        found.setdefault(str(finding.path), []).append(finding.code)
    return found


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for disks, of which others may make much use."""
    monkeypatch.setattr(restore_plan, "sync_file_system", lambda fd: None)


@pytest.fixture(params=["compiled", "python"])
def twin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Restore with the compiled helper, if it is built, and without it."""
    if request.param == "python":
        monkeypatch.setattr(accelerate, "_module", None)
    return str(request.param)


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore without the compiled helper: what is patched here, it would not see."""
    monkeypatch.setattr(accelerate, "_module", None)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("restore")


# --- good restores -------------------------------------------------------------------------------


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


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with one of everything that needs no rights."""
    root = tmp_path / "tree"
    (root / "d/e").mkdir(parents=True)
    for name, size in (("a", 100), ("d/b", 5000), ("d/e/c", 0), ("d/e/large", 50_000)):
        (root / name).write_bytes(noise(size, len(name)))
    write_sparse(root / "holes", 300_000, {8192: noise(4096, 2), 200_704: noise(4096, 3)})
    os.symlink("target", root / "link")
    os.mkfifo(root / "fifo")
    os.link(root / "a", root / "d/a2")
    (root / "d/same").write_bytes(noise(50_000, len("d/e/large")))
    for path in [*root.rglob("*"), root]:
        os.utime(path, ns=(0, MTIME_NS), follow_symlinks=False)
    return root


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


# --- what is there already -----------------------------------------------------------------------

EXISTING = ["file", "link", "dangling", "link-to-folder", "fifo", "empty", "full"]
ARCHIVED = ["file", "none", "sparse", "large", "link", "fifo", "folder", "second"]


def _archived(root: Path, kind: str) -> None:
    it = root / "it"
    if kind == "file":
        it.write_bytes(b"archived")
    elif kind == "none":
        it.touch()
    elif kind == "sparse":
        write_sparse(it, 100_000, {8192: b"archived" * 512})
    elif kind == "large":
        it.write_bytes(noise(60_000, 1))
    elif kind == "link":
        it.symlink_to("archived")
    elif kind == "fifo":
        os.mkfifo(it)
    elif kind == "second":
        (root / "a-first").write_bytes(b"archived")
        os.link(root / "a-first", it)
    else:
        it.mkdir()
        (it / "below").write_bytes(b"archived")


def _existing(dest: Path, kind: str) -> None:
    it = dest / "it"
    (dest / "outside").mkdir()
    (dest / "outside/below").write_bytes(b"mine")
    (dest / "target").write_bytes(b"mine")
    if kind == "file":
        it.write_bytes(b"mine")
    elif kind == "link":
        it.symlink_to("target")
    elif kind == "dangling":
        it.symlink_to("nowhere")
    elif kind == "link-to-folder":
        it.symlink_to("outside")
    elif kind == "fifo":
        os.mkfifo(it)
    else:
        it.mkdir()
        if kind == "full":
            (it / "mine").write_bytes(b"mine")


@pytest.mark.usefixtures("twin")
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("existing", EXISTING)
@pytest.mark.parametrize("archived", ARCHIVED)
def test_what_stands_in_the_way_stays_unless_it_is_to_be_replaced(
    archived: str, existing: str, force: bool, tmp_path: Path
) -> None:
    source, dest = tmp_path / "source", tmp_path / "dest"
    for folder in (source, dest):
        folder.mkdir()
    _archived(source, archived)
    (source / "z-other").write_bytes(b"archived")
    _existing(dest, existing)
    before, mine = facts_on_disk(source), facts_on_disk(dest)
    packed = pack_path(source, TINY)
    _, findings = unpack(packed, dest, force=force)
    after = facts_on_disk(dest)

    def same(path: bytes, expected: Mapping[bytes, Fact]) -> bool:
        return after.get(path) == expected.get(path)

    both_folders = archived == "folder" and existing in ("empty", "full")
    in_the_way = existing in ("empty", "full") and archived != "folder"
    if both_folders:
        assert findings == []
        assert after[b"it"][:5] == before[b"it"][:5]
        assert same(b"it/below", before)
        assert same(b"it/mine", mine)
    elif force and not in_the_way:
        assert findings == []
        assert same(b"it", before)
        assert same(b"it/below", before)
    else:
        assert codes(findings) == {"it": ["not-restored-entry" if force else "exists"]}
        assert same(b"it", mine)
        assert after.get(b"it/below") is None
        assert same(b"it/mine", mine)
    # Nothing was written through a link, and the others are there.
    for path in (b"outside", b"outside/below", b"target"):
        assert same(path, mine)
    assert b"nowhere" not in after
    assert same(b"z-other", before)
    assert [finding.severity for finding in findings] == [Severity.WARNING] * len(findings)


@pytest.mark.usefixtures("twin")
def test_restoring_twice_finds_everything_there(tree: Path, tmp_path: Path) -> None:
    packed = pack_path(tree)
    unpack(packed, tmp_path / "dest")
    before = facts_on_disk(tmp_path / "dest")
    restored, findings = unpack(packed, tmp_path / "dest")
    paths = {os.fsdecode(path) for path in before if path not in (b"", b"d", b"d/e")}
    assert codes(findings) == {path: ["exists"] for path in paths}
    assert restored.entries == restored.files == 0
    assert facts_on_disk(tmp_path / "dest") == before
    (tmp_path / "dest/d/b").write_bytes(b"changed")
    restored, findings = unpack(packed, tmp_path / "dest", force=True)
    assert findings == []
    assert restored.entries == len(paths)
    assert facts_on_disk(tmp_path / "dest") == facts_on_disk(tree)


def test_what_stands_in_the_way_of_a_folder_above_is_told(tree: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    (dest / "outside/e").mkdir(parents=True)
    (dest / "d").symlink_to("outside")
    _, findings = unpack(pack_path(tree), dest, b"d/e/c", b"a")
    told = codes(findings)
    assert told["d"] == ["exists"]
    assert told.keys() <= {"d", "d/e", "d/e/c"}
    assert list((dest / "outside/e").iterdir()) == []
    assert (dest / "a").read_bytes() == noise(100, 1)


# --- parts of a tree -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "link", "fifo", "sparse", "large"])
def test_the_names_of_one_thing_are_linked_whichever_are_restored(
    kind: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    names = ["b/one", "a/two", "c/d/three", "z"]
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
    _archived(source, kind)
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


# --- failures ------------------------------------------------------------------------------------


class Stopped(BaseException):
    """What a signal handler raises."""


def fail(
    monkeypatch: pytest.MonkeyPatch, function: str, code: int, only: Callable[[Any], bool]
) -> list[Any]:
    """Let a function of `os` fail where `only` says so of its arguments; return what it met."""
    real = getattr(os, function)
    met: list[Any] = []

    def fails(*arguments: Any, **named: Any) -> Any:
        if only(arguments):
            met.append(arguments)
            raise OSError(code, os.strerror(code))
        return real(*arguments, **named)

    monkeypatch.setattr(os, function, fails)
    return met


def is_part(what: object) -> bool:
    """Tell whether a file or a path is one that is being made."""
    if isinstance(what, int):
        try:
            return ".onggi-" in os.readlink(f"/proc/self/fd/{what}")
        except OSError:
            return False
    return isinstance(what, bytes) and b".onggi-" in what


ENTRY = "not-restored-entry"
FILES = {"a", "d/b", "d/e/c", "d/e/large", "d/same", "holes"}
LINKED = {"d/a2"}  # to `a`


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


def look_otherwise(patch: pytest.MonkeyPatch, change: Callable[[Found], Found]) -> None:
    """Let all that is packed look otherwise than it is, but for the root."""
    patch.setattr(
        tree_plan, "scan",
        lambda *arguments: [change(each) for each in files.scan(*arguments)],
    )  # fmt: skip


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


# --- damage --------------------------------------------------------------------------------------


def damage(monkeypatch: pytest.MonkeyPatch, *bad: tuple[int, int]) -> None:
    """Let frames be damaged: (unit, frame)."""
    real = UnitReader.frame

    def frame(self: UnitReader, unit: UnitRow, number: int) -> bytes:
        if (unit.number, number) in bad:
            raise DamagedError("frame", "broken", unit=unit.number, frame=number, archive_offset=99)
        return real(self, unit, number)

    monkeypatch.setattr(UnitReader, "frame", frame)


@pytest.mark.usefixtures("twin")
@pytest.mark.parametrize("threads", [1, 3])
def test_what_is_lost_is_told_and_reads_as_zeros(
    threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, dest = tmp_path / "source", tmp_path / "dest"
    source.mkdir()
    for name in "abc":
        (source / name).write_bytes(noise(20_000, ord(name)))
    (source / "d").touch()
    write_sparse(source / "e", 500_000, {0: noise(8192, 1), 400_000 // 4096 * 4096: noise(8192, 2)})
    geometry = Geometry(16_384, 4096, 512)
    packed = pack_path(source, geometry, options=TreeOptions(dedup=False))
    b, e = packed.view.entry(b"b"), packed.view.entry(b"e")
    runs = list(packed.tree.runs(e))
    lost = [b.first + 9000, b.first + 19_999, runs[1].content_offset + 5000]
    bad = {geometry.locate(at)[:2] for at in lost}
    dark = bytearray(packed.content)
    for unit, frame in bad:
        at = unit * geometry.unit_bytes + frame * geometry.frame_bytes
        dark[at : at + 4096] = bytes(4096)
    damage(monkeypatch, *bad)
    with pytest.raises(DamagedError, match="broken"):
        unpack(packed, dest, threads=threads)
    assert parts(dest) == []
    assert not (dest / "b").exists()

    restored, findings = unpack(packed, tmp_path / "salvaged", threads=threads, salvage=True)
    expected = facts_on_disk(source)
    found = facts_on_disk(tmp_path / "salvaged")
    assert found.keys() == expected.keys()
    lost_bytes = 0
    for visited in packed.view.walk(packed.tree.root):
        entry, path = visited.entry, visited.path
        if not entry.is_file:
            continue
        whole = bytearray(entry.member_bytes)
        for run in packed.tree.runs(entry):
            start, size = run.content_offset, run.run_bytes
            whole[run.member_offset : run.member_offset + size] = dark[start : start + size]
        assert found[path].content == whole, path
        assert found[path][:5] == expected[path][:5]
        told = [f for f in findings if os.fsencode(str(f.path)) == path]
        gone = 0
        for finding in told:
            assert finding.code == "lost-content"
            assert finding.severity is Severity.DAMAGE
            assert (finding.unit, finding.frame) in bad
            assert finding.archive_offset == 99
            assert finding.content_offset is not None
            assert finding.content_bytes is not None
            span = slice(finding.content_offset, finding.content_offset + finding.content_bytes)
            assert not any(whole[span])
            gone += finding.content_bytes
        lost_bytes += gone
        if bytes(whole) != expected[path].content:
            assert told
    assert restored.lost_bytes == lost_bytes > 8000
    assert restored.files == 5


def test_what_was_not_read_when_it_was_packed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in "ab":
        (source / name).write_bytes(noise(3000, 1))

    def read_files(*arguments: Any) -> Any:
        os.truncate(source / "a", 1000)
        return files.read_files(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(tree_writer, "read_files", read_files)
        packed = pack_path(source)
    _, findings = unpack(packed, tmp_path / "dest")
    assert codes(findings) == {"a": ["not-restored-content"]}
    assert (tmp_path / "dest/a").read_bytes() == noise(3000, 1)[:1000] + bytes(2000)


def test_an_archive_that_can_not_be_read_is_an_error(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack_path(tree)

    def frame(*_: object) -> bytes:
        raise SourceError("the archive ends")

    monkeypatch.setattr(UnitReader, "frame", frame)
    for salvage in (False, True):
        with pytest.raises(SourceError):
            unpack(packed, tmp_path / f"dest{salvage}", salvage=salvage)
        assert parts(tmp_path / f"dest{salvage}") == []


def test_a_catalogue_that_is_damaged_is_an_error(tree: Path, tmp_path: Path) -> None:
    packed = pack_path(tree)
    real = packed.tree.target

    def target(entry: Any) -> bytes:
        raise DamagedError("catalogue", "its target has a NUL")

    packed.tree.target = target  # type: ignore[method-assign]
    with pytest.raises(OnggiError, match="NUL"):
        unpack(packed, tmp_path / "dest")
    assert parts(tmp_path / "dest") == []
    packed.tree.target = real  # type: ignore[method-assign]


# --- single steps --------------------------------------------------------------------------------


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


@pytest.mark.usefixtures("twin")
def test_entries_that_are_in_no_folder_are_an_error_at_the_end(tmp_path: Path) -> None:
    raw = everything()
    raw = patched(raw, ROWS["deep"], total=1)
    for name in ("block", "char"):
        raw = patched(raw, ROWS[name], type=layout.ENTRY_FIFO, first=0, total=0)
    archive = Archive(MemoryStore(archive_of(raw, noise(5000, 1))))
    dest = tmp_path / "dest"
    with pytest.raises(DamagedError, match="1 entries are in no directory"):
        unpack_tree(open_tree(archive), archive, os.fspath(dest), threads=1)
    assert parts(dest) == []
    assert (dest / "dir/deep/more-holes").stat().st_size == 700
    assert not (dest / "dir/deep/zz").exists()
    unpack_tree(open_tree(archive), archive, os.fspath(dest / "part"), threads=1, paths=[b"dir"])


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
