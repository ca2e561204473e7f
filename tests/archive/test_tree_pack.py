"""Packing trees: the content, the catalogue and the disk say the same, however they are cut."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onggi.archive import dedup, files, layout, store, tree_plan, tree_writer
from onggi.archive.errors import BadUseError, SourceError, StoreError
from onggi.archive.exclude import Excludes
from onggi.archive.files import Found
from onggi.archive.folders import Folder
from onggi.archive.plan import Geometry
from onggi.archive.progress import Progress
from onggi.archive.reader import Archive
from onggi.archive.selection import TreeOptions
from onggi.archive.store import FileSpool, MemoryStore
from onggi.archive.tree_check import check_tree
from onggi.archive.tree_writer import TreeSource, pack_tree
from onggi.archive.unit import UnitEncoder
from onggi.archive.verify import Level, verify

from .tree_helpers import (
    LARGE,
    TINIEST,
    TINY,
    Packed,
    Step,
    facts_in_archive,
    facts_in_tar,
    facts_on_disk,
    grow,
    noise,
    pack_path,
    pack_paths,
    raw_of,
    steps,
    tar_matches,
    tar_members,
    tree_header,
    write_sparse,
)

KEPT_ONCE = dedup.LEAST_BYTES
GEOMETRIES = [
    TINIEST, TINY, Geometry(1536, 4096, 512), Geometry(8192, 4096, 4096),
    Geometry(20_480, 8192, 4096),
]  # fmt: skip
NO_DEDUP = TreeOptions(dedup=False)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trees")


def checked(packed: Packed) -> Packed:
    """Return an archive that was verified in every way."""
    assert verify(MemoryStore(packed.data), Level.CONTENT, threads=1).is_whole
    check_tree(packed.tree)
    assert packed.content.endswith(bytes(1024))
    return packed


def matches(packed: Packed, root: Path) -> bool:
    """Tell whether catalogue and tar stream hold what is in a folder."""
    tree = facts_on_disk(root)
    assert facts_in_archive(packed.view) == tree
    assert tar_matches(facts_in_tar(packed.content), tree)
    return True


# --- random trees --------------------------------------------------------------------------------


@given(plan=steps())
@settings(max_examples=40)
def test_an_archive_holds_what_is_in_the_folder(plan: list[Step], base: Path) -> None:
    with tempfile.TemporaryDirectory(dir=base) as name:
        root = Path(name)
        grow(root, plan)
        packed = checked(pack_path(root))
        assert packed.findings == []
        assert matches(packed, root)
        apart = checked(pack_path(root, options=NO_DEDUP))
        assert matches(apart, root)
        assert not any(entry.flags & layout.FLAG_SHARED for entry in apart.tree.entries())
        walked = apart.tree.walk(apart.tree.root)
        assert [visited.path for visited in walked] == [
            os.fsencode(member.name) if member.name != "." else b""
            for member in tar_members(packed.content)
        ]


@given(plan=steps(most=12), geometry=st.sampled_from(GEOMETRIES))
@settings(max_examples=30)
def test_an_archive_is_the_same_for_any_number_of_threads_and_its_content_for_any_units(
    plan: list[Step], geometry: Geometry, base: Path
) -> None:
    with tempfile.TemporaryDirectory(dir=base) as name:
        root = Path(name)
        grow(root, plan)
        whole = pack_path(root)
        packed = checked(pack_path(root, geometry))
        assert packed.content == whole.content
        assert raw_of(packed.archive) == raw_of(whole.archive)
        for threads in (2, 5):
            assert pack_path(root, geometry, threads=threads).data == packed.data
        assert pack_path(root, threads=3).data == whole.data


@given(
    plan=steps(kinds=("file", "link", "link", "link", "folder", "symlink", "sparse", "fifo")),
    pattern=st.sampled_from([b"a", b"[a-n]*", b"?", b"*x", b"folder*"]),
)
@settings(max_examples=30)
def test_of_a_part_of_a_tree_the_names_that_are_in_it_are_linked(
    plan: list[Step], pattern: bytes, base: Path
) -> None:
    """Other names of a file may be left out, or be outside of the tree."""
    with tempfile.TemporaryDirectory(dir=base) as name:
        root = Path(name)
        inside, outside = root / "in", root / "out"
        inside.mkdir()
        outside.mkdir()
        grow(inside, plan)
        for number, each in enumerate(sorted(inside.rglob("*"))):
            if not each.is_dir() and number % 2:
                os.link(each, outside / str(number), follow_symlinks=False)
        options = TreeOptions(Excludes([pattern]))
        packed = checked(pack_path(inside, options=options))
        found = facts_in_archive(packed.view)
        everything = facts_on_disk(inside)
        kept = {
            path
            for path in everything
            if not any(
                options.is_left_out(b"/".join(path.split(b"/")[: depth + 1]))
                for depth in range(path.count(b"/") + 1)
            )
        }
        assert found.keys() == kept | {b""}
        for path, fact in found.items():
            names = everything[path].names & found.keys()
            assert fact == everything[path]._replace(names=names)
        assert tar_matches(facts_in_tar(packed.content), found)


# --- sizes around every bound --------------------------------------------------------------------


@pytest.mark.parametrize("geometry", [TINIEST, TINY, Geometry(8192, 4096, 4096)])
@pytest.mark.parametrize("kind", ["file", "sparse"])
def test_a_file_of_any_length_is_cut_where_units_end(
    geometry: Geometry, kind: str, tmp_path: Path
) -> None:
    unit = geometry.unit_bytes
    sizes = {0, 1, 511, 512, 513}
    sizes |= {
        unit * n + more for n in (1, 2) for more in (-1537, -1536, -1024, -512, -1, 0, 1, 512)
    }
    for size in sorted(size for size in sizes if size >= 0):
        root = tmp_path / f"{size}"
        root.mkdir()
        data = noise(size, 1)
        if kind == "file":
            (root / "f").write_bytes(data)
        else:
            write_sparse(root / "f", 65_536 + size, {65_536: data})
            data = bytes(65_536) + data
        packed = checked(pack_path(root, geometry))
        assert packed.bytes_of(b"f") == data
        (_, member) = tar_members(packed.content)
        assert member.size == len(data)
        assert facts_in_tar(packed.content)[b"f"].content == data


@pytest.mark.parametrize("count", [0, 511, 512, 513, 1025])
def test_a_folder_of_more_names_than_are_looked_at_together_is_packed(
    count: int, tmp_path: Path
) -> None:
    assert tree_plan._SCAN_NAMES == 512
    for number in range(count):
        (tmp_path / f"{number:04}").write_bytes(b"x" * (number % 3))
    for number in range(0, count, 200):
        (tmp_path / f"{number:04}d").mkdir()
    packed = checked(pack_path(tmp_path))
    assert matches(packed, tmp_path)
    assert packed.tree.root.total == len(list(tmp_path.iterdir()))


def test_a_path_longer_than_the_kernel_takes_is_packed(tmp_path: Path) -> None:
    names = [f"{number:03}".encode() * 33 for number in range(60)]
    fd = os.open(tmp_path, os.O_RDONLY)
    for name in names:
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    file = os.open(b"file", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=fd)
    os.write(file, b"deep down")
    os.symlink(b"target", b"link", dir_fd=fd)
    os.close(file)
    os.close(fd)
    packed = checked(pack_path(tmp_path))
    path = b"/".join(names)
    assert len(path) > 4096
    assert packed.findings == []
    assert packed.bytes_of(path + b"/file") == b"deep down"
    assert facts_in_tar(packed.content)[path + b"/file"].content == b"deep down"
    assert facts_in_tar(packed.content)[path + b"/link"].content == b"target"


def test_an_empty_folder_is_a_root_alone(tmp_path: Path) -> None:
    packed = checked(pack_path(tmp_path))
    assert packed.paths() == [b""]
    assert [member.name for member in tar_members(packed.content)] == ["."]
    assert len(packed.content) == 512 + 1024 + 512 * 2 * bool(tmp_path.stat().st_mtime_ns % 10**9)


# --- content that is stored once -----------------------------------------------------------------


def shared(packed: Packed) -> dict[bytes, bool]:
    """Return which files of a tree share content with an earlier one."""
    return {
        visited.path: bool(visited.entry.flags & layout.FLAG_SHARED)
        for visited in packed.tree.walk(packed.tree.root)
        if visited.entry.is_file
    }


@pytest.mark.parametrize(
    ("size", "is_shared"),
    [(KEPT_ONCE - 1, False), (KEPT_ONCE, True), (KEPT_ONCE + 1, True), (3_000_000, True)],
)
@pytest.mark.parametrize("geometry", [LARGE, Geometry(20_480, 4096, 512)])
def test_content_of_some_length_is_stored_once(
    size: int, is_shared: bool, geometry: Geometry, tmp_path: Path
) -> None:
    (tmp_path / "d").mkdir()
    for name in ("a", "b", "d/c"):
        (tmp_path / name).write_bytes(noise(size, 1))
    packed = checked(pack_path(tmp_path, geometry))
    assert shared(packed) == {b"a": False, b"b": is_shared, b"d/c": is_shared}
    assert matches(packed, tmp_path)
    rows = [packed.view.entry(name) for name in (b"a", b"b", b"d/c")]
    assert (len({row.first for row in rows}) == 1) is is_shared
    copies = 1 if is_shared else 3
    assert copies * size < packed.archive.content_bytes < copies * size + 12_000
    assert [member.islnk() for member in tar_members(packed.content) if not member.isdir()] == (
        [False, is_shared, is_shared]
    )


def test_content_that_differs_anywhere_is_not_stored_once(tmp_path: Path) -> None:
    size = 50_000
    whole = noise(size, 1)
    for at in (0, 4095, 4096, size - 1):
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        (tmp_path / f"at-{at}").write_bytes(changed)
    (tmp_path / "longer").write_bytes(whole + b"x")
    (tmp_path / "whole").write_bytes(whole)
    packed = checked(pack_path(tmp_path))
    assert not any(shared(packed).values())
    assert matches(packed, tmp_path)
    (tmp_path / "z").write_bytes(whole)
    (tmp_path / "at-4095-too").write_bytes((tmp_path / "at-4095").read_bytes())
    packed = checked(pack_path(tmp_path))
    assert [path for path, is_shared in shared(packed).items() if is_shared] == [
        b"at-4095-too", b"z",
    ]  # fmt: skip
    assert matches(packed, tmp_path)


def _attribute(path: Path) -> None:
    os.setxattr(path, b"user.onggi", b"x")


@pytest.mark.parametrize(
    "change",
    [lambda path: path.chmod(0o600), _attribute,
     pytest.param(lambda path: os.chown(path, 5, 0), marks=pytest.mark.needs("root")),
     pytest.param(lambda path: os.chown(path, 0, 5), marks=pytest.mark.needs("root"))],
    ids=["mode", "attribute", "owner", "group"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a", "b"])
def test_content_under_other_rights_is_not_stored_once(
    name: str, change: Callable[[Path], object], tmp_path: Path
) -> None:
    """Another tar makes one file of both; that must not open what was closed."""
    for each in ("a", "b"):
        (tmp_path / each).write_bytes(noise(KEPT_ONCE, 1))
        (tmp_path / each).chmod(0o644)
    change(tmp_path / name)
    packed = checked(pack_path(tmp_path))
    assert shared(packed) == {b"a": False, b"b": False}
    assert matches(packed, tmp_path)


def test_content_with_other_times_is_stored_once(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        (tmp_path / name).write_bytes(noise(KEPT_ONCE, 1))
        os.utime(tmp_path / name, ns=(0, number))
    packed = checked(pack_path(tmp_path))
    assert shared(packed) == {b"a": False, b"b": True}
    assert [packed.view.entry(name).mtime_ns for name in (b"a", b"b")] == [0, 1]


def test_content_of_a_file_with_several_names_is_stored_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(noise(KEPT_ONCE, 1))
        os.link(tmp_path / name, tmp_path / f"{name}2")
    packed = checked(pack_path(tmp_path))
    assert matches(packed, tmp_path)
    assert packed.flags(b"b") == layout.FLAG_SHARED
    assert [packed.view.entry(name).row for name in (b"a2", b"b2")] == [
        packed.view.entry(name).row for name in (b"a", b"b")
    ]


def test_of_many_files_those_seen_last_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is forgotten, the content is right."""
    monkeypatch.setattr(dedup, "_KEPT", 8)
    for number in range(40):  # each content twice in a row, and again much later
        (tmp_path / f"{number:02}").write_bytes(noise(KEPT_ONCE, number % 20 // 2))
    packed = checked(pack_path(tmp_path))
    assert matches(packed, tmp_path)
    assert 0 < sum(shared(packed).values()) < 40 - 10


@pytest.mark.parametrize("change", ["grow", "shrink", "touch", "replace", "remove"])
@pytest.mark.parametrize("victim", ["a", "b"])
def test_a_file_that_changes_while_it_is_compared_is_stored_apart(
    change: str, victim: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(noise(KEPT_ONCE, 1))
    path = tmp_path / victim
    real = files.open_quietly
    opened = 0

    def open_quietly(fd: int, name: bytes) -> int:
        nonlocal opened
        opened += 1
        if opened == 1:
            if change == "grow":
                os.truncate(path, KEPT_ONCE + 1)
            elif change == "shrink":
                os.truncate(path, 100)
            elif change == "touch":
                os.utime(path, ns=(5, 5))
            else:
                path.rename(tmp_path.parent / f"{tmp_path.name}-moved")
            if change == "replace":
                path.write_bytes(noise(KEPT_ONCE, 1))
        return real(fd, name)

    monkeypatch.setattr(dedup, "open_quietly", open_quietly)
    packed = checked(pack_path(tmp_path))
    assert opened
    assert not any(shared(packed).values())
    assert packed.codes.keys() == {victim}
    other = b"b" if victim == "a" else b"a"
    assert packed.bytes_of(other) == noise(KEPT_ONCE, 1)


# --- sources -------------------------------------------------------------------------------------


def test_several_sources_stand_under_their_names_in_a_root_that_is_made(tmp_path: Path) -> None:
    (tmp_path / "one/in").mkdir(parents=True)
    (tmp_path / "one/in/f").write_bytes(b"1")
    (tmp_path / "two").mkdir(0o700)
    (tmp_path / "file").write_bytes(b"2")
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    sources = [tmp_path / name for name in ("two", "file", "one", "link", "fifo")]
    packed = checked(pack_paths(sources))
    assert packed.paths() == [
        b"", b"fifo", b"file", b"link", b"one", b"one/in", b"one/in/f", b"two",
    ]  # fmt: skip
    assert packed.tree.root.flags == layout.FLAG_MADE
    expected = facts_on_disk(tmp_path)
    found = facts_in_archive(packed.view)
    assert {path: found[path] for path in found if path} == {
        path: expected[path] for path in expected if path
    }
    assert "." not in [member.name for member in tar_members(packed.content)]
    assert tar_matches(
        facts_in_tar(packed.content), {path: fact for path, fact in found.items() if path}
    )
    assert packed.data == pack_paths(list(reversed(sources))).data


@pytest.mark.parametrize("kind", ["file", "symlink", "fifo", "dangling"])
def test_one_source_that_is_no_folder_stands_under_its_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "it"
    if kind == "file":
        path.write_bytes(b"x")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        (tmp_path / "real").touch()
        path.symlink_to("real" if kind == "symlink" else "nowhere")
    packed = checked(pack_path(path))
    assert packed.paths() == [b"", b"it"]
    assert packed.tree.root.flags == layout.FLAG_MADE
    assert facts_in_archive(packed.view)[b"it"] == facts_on_disk(tmp_path)[b"it"]


def test_one_folder_is_the_root_itself(tmp_path: Path) -> None:
    root = tmp_path / "named"
    root.mkdir(0o750)
    (root / "f").touch()
    packed = checked(pack_path(root))
    assert packed.paths() == [b"", b"f"]
    assert packed.tree.root.flags == 0
    assert packed.tree.root.mode == 0o750
    for same in (f"{root}/", f"{root}/.", f"{root}/../named", f"{tmp_path}//named"):
        assert pack_paths([same]).data == packed.data


def test_a_symbolic_link_to_a_folder_stands_for_it_if_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/f").touch()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "other").mkdir()
    assert pack_path(tmp_path / "link").data == pack_path(tmp_path / "real").data
    packed = checked(pack_paths([tmp_path / "link", tmp_path / "other"]))
    assert packed.paths() == [b"", b"link", b"link/f", b"other"]
    assert packed.view.entry(b"link").is_directory
    inside = checked(pack_path(tmp_path))
    assert inside.view.entry(b"link").type == layout.ENTRY_SYMLINK


def test_patterns_leave_out_sources_by_their_names(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").touch()
    (tmp_path / "file").touch()
    sources = [tmp_path / name for name in ("one", "two", "file")]
    options = TreeOptions(Excludes([b"./one", b"two/f"]))
    assert pack_paths(sources, options=options).paths() == [b"", b"file", b"two"]
    everything = TreeOptions(Excludes([b"*"]))
    empty = checked(pack_paths(sources, options=everything))
    assert empty.paths() == [b""]
    assert empty.content == bytes(1024)


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a/same", "b/same"):
        (tmp_path / name).mkdir(parents=True)
    before = _descriptors()
    with pytest.raises(BadUseError, match="the name same"):
        TreeSource([os.fspath(tmp_path / name / "same") for name in ("a", "b")])
    with pytest.raises(BadUseError, match="the name same"):
        TreeSource([os.fspath(tmp_path / "a/same")] * 2)
    assert _descriptors() == before


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_source_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    before = _descriptors()
    for path in ("missing", "missing/deep", "good/missing"):
        with pytest.raises(SourceError, match=r"can't open .*missing"):
            TreeSource([os.fspath(tmp_path / "good"), os.fspath(tmp_path / path)])
    assert _descriptors() == before


def test_a_socket_is_no_source(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(tmp_path / "s"))
        with pytest.raises(SourceError, match="socket"):
            TreeSource([os.fspath(tmp_path / "s")])


def test_sockets_in_a_tree_are_counted_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    servers = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    for name, server in zip(("a", "d/b", "d/c"), servers, strict=True):
        server.bind(os.fspath(tmp_path / name))
        server.close()
    (tmp_path / "f").touch()
    packed = checked(pack_path(tmp_path))
    assert packed.paths() == [b"", b"d", b"f"]
    assert packed.result.sockets == 3
    assert packed.findings == []


@pytest.mark.needs("root")
def test_devices_and_owners_are_packed(tmp_path: Path) -> None:
    os.mknod(tmp_path / "null", stat.S_IFCHR | 0o620, os.makedev(1, 3))
    os.mknod(tmp_path / "disk", stat.S_IFBLK | 0o600, os.makedev(259, 1_000_000))
    os.symlink("x", tmp_path / "link")
    for number, name in enumerate(("null", "disk", "link")):
        os.chown(tmp_path / name, 12_345 + number, 2**31 + number, follow_symlinks=False)
    packed = checked(pack_path(tmp_path))
    assert matches(packed, tmp_path)
    assert packed.tree.summary.devices == 2


def test_the_archive_itself_is_left_out_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    archive = tmp_path / "d/archive.onggi"
    archive.write_bytes(noise(100, 1))
    large = tmp_path / "large.onggi"
    large.write_bytes(noise(KEPT_ONCE * 2, 1))
    os.link(archive, tmp_path / "linked")
    (tmp_path / "same").write_bytes(noise(100, 1))
    packed = checked(pack_path(tmp_path, leave_out=[archive, large]))
    assert packed.paths() == [b"", b"d", b"same"]
    assert packed.findings == []
    for geometry in (TINY, Geometry(262_144, 4096, 512)):
        assert pack_path(tmp_path, geometry, leave_out=[archive, large]).paths() == packed.paths()


def test_the_summary_counts_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "d/e").mkdir(parents=True)
    for name, size in (("a", 10), ("d/b", 0), ("d/e/c", 5000)):
        (tmp_path / name).write_bytes(noise(size, 1))
    write_sparse(tmp_path / "s", 100_000, {})
    os.link(tmp_path / "a", tmp_path / "d/a")
    os.symlink("x", tmp_path / "l")
    os.mkfifo(tmp_path / "p")
    packed = checked(pack_path(tmp_path))
    assert packed.tree.summary == (31, 4, 3, 1, 1, 0, 1, 105_010)


# --- failures ------------------------------------------------------------------------------------


class Stopped(BaseException):
    """What a signal handler raises."""


ERRORS = [OSError("odd"), SourceError("gone"), KeyboardInterrupt(), Stopped(), MemoryError()]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Some files in two folders: about 30 tiny units."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for number in range(12):
            (tmp_path / folder / f"f{number}").write_bytes(noise(4000, number))
    return tmp_path


def packs_no_more(
    root: Path, target: Any, error: BaseException | type[BaseException], **more: Any
) -> None:
    """Check that a pack fails with an error, and leaves nothing."""
    kind = error if isinstance(error, type) else type(error)
    options: Any = {"threads": 2, "new_spool": FileSpool} | more
    with TreeSource([os.fspath(root)]) as source, pytest.raises(kind) as caught:
        pack_tree(source, target, tree_header(TINY), **options)
    if isinstance(error, BaseException):
        assert caught.value is error
    assert target.calls[-1] == "discard"
    assert "commit" not in target.calls


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", ["read_files", "scan"])
@pytest.mark.parametrize("fail_at", [0, 1])
def test_an_error_in_a_thread_discards_the_archive(
    error: BaseException, place: str, fail_at: int, tree: Path, memory_target: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    module = tree_writer if place == "read_files" else tree_plan
    real = getattr(module, place)
    calls = 0

    def fails(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > fail_at * 2:
            raise error
        return real(*arguments)

    monkeypatch.setattr(module, place, fails)
    if place == "read_files" and isinstance(error, OSError):
        # Then the folder could not be entered; that is for the files in it alone.
        packed = pack_path(tree, TINY)
        assert {code for codes in packed.codes.values() for code in codes} == {"vanished"}
        return
    packs_no_more(tree, memory_target(), error)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_of_the_compressor_discards_the_archive(
    error: BaseException, tree: Path, memory_target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(*arguments: Any) -> Any:
        raise error

    monkeypatch.setattr(UnitEncoder, "encode", encode)
    packs_no_more(tree, memory_target(), error)


def test_an_error_of_the_target_at_any_append_discards_the_archive(
    tree: Path, memory_target: Any, target_failed: Any
) -> None:
    whole = memory_target()
    with TreeSource([os.fspath(tree)]) as source:
        pack_tree(source, whole, tree_header(TINY), threads=2, new_spool=FileSpool)
    assert whole.appends > 30 + 9
    for fail_at in range(0, whole.appends, 3):
        target = memory_target(fail_at)
        packs_no_more(tree, target, target_failed)
        assert target.appends == fail_at + 1


def test_an_error_of_who_is_told_discards_the_archive(tree: Path, memory_target: Any) -> None:
    def report(progress: Progress) -> None:
        if progress.content_bytes > 20_000:
            raise Stopped

    def found(finding: object) -> None:
        raise Stopped

    def check(footer: object) -> None:
        raise StoreError("not what was written")

    packs_no_more(tree, memory_target(), Stopped, report=report)
    packs_no_more(tree, memory_target(), StoreError, check=check)
    (tree / "one/f3").chmod(0o644)
    real = files.scan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tree_plan, "scan",
            lambda fd, names, wanted: [each._replace(error=5) for each in real(fd, names, wanted)],
        )  # fmt: skip
        packs_no_more(tree, memory_target(), Stopped, found=found)


def test_what_is_committed_was_synced_and_checked(tree: Path, memory_target: Any) -> None:
    target = memory_target()

    def check(footer: object) -> None:
        assert target.calls == ["sync"]
        assert Archive(MemoryStore(target.data)).footer == footer

    with TreeSource([os.fspath(tree)]) as source:
        pack_tree(
            source, target, tree_header(TINY), threads=2, new_spool=FileSpool, check=check
        )  # fmt: skip
    assert target.calls == ["sync", "commit"]


@pytest.mark.parametrize("geometry", [Geometry(1, 1, 1), Geometry(4096, 4095, 4096)])
def test_a_size_that_can_not_be_is_refused(
    geometry: Geometry, tree: Path, memory_target: Any
) -> None:
    target = memory_target()
    with TreeSource([os.fspath(tree)]) as source, pytest.raises(BadUseError, match="size"):
        pack_tree(source, target, tree_header(geometry), threads=1, new_spool=FileSpool)
    assert target.calls == ["discard"]


class BrokenSpool:
    """A place for rows that has no space."""

    def write(self, data: bytes, /) -> object:
        raise StoreError("no space")

    def patch(self, spool_offset: int, data: bytes, /) -> None:
        raise StoreError("no space")

    def read(self, spool_offset: int, size: int, /) -> bytes:
        raise StoreError("no space")

    def chunks(self, size: int, /) -> Iterator[bytes]:
        raise StoreError("no space")


def test_a_spool_that_fails_discards_the_archive(tree: Path, memory_target: Any) -> None:
    packs_no_more(tree, memory_target(), StoreError, new_spool=BrokenSpool)


def test_a_pack_that_is_stopped_does_not_read_on(
    tree: Path, memory_target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    real = files.read_files

    def read_files(*arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        return real(*arguments)

    def report(_: Progress) -> None:
        raise Stopped

    monkeypatch.setattr(tree_writer, "read_files", read_files)
    packs_no_more(tree, memory_target(), Stopped, report=report)
    assert reads <= 6  # two threads, and what they may be ahead


def test_progress_is_told_in_order_up_to_the_end(tree: Path) -> None:
    told: list[Progress] = []
    packed = pack_path(tree, TINY, threads=3, report=told.append)
    assert [each.content_bytes for each in told] == [
        *range(4096, packed.archive.content_bytes, 4096), packed.archive.content_bytes,
    ]  # fmt: skip
    assert told[-1].stored_bytes == packed.archive.footer.stored_bytes


# --- memory --------------------------------------------------------------------------------------


class Nowhere:
    """A target that keeps nothing."""

    def append(self, parts: Sequence[bytes], /) -> None:
        pass

    def sync(self) -> None:
        pass

    def commit(self) -> None:
        pass

    def discard(self) -> None:
        pass


def test_memory_does_not_grow_with_the_number_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that are not there are as good: nobody reads one but `read_files`."""
    monkeypatch.setattr(store, "_SPOOL_IN_MEMORY", 4096)

    def scan(fd: int, names: Sequence[bytes], wanted: int) -> list[Found]:
        kinds = (stat.S_IFREG | 0o644, stat.S_IFREG | 0o600)
        return [
            Found(name, kinds[number % 2], 1, 2, 600, number, 5, 6, number + 10, 1, 0, 8, 0, b"", 0)
            for number, name in enumerate(names)
        ]

    monkeypatch.setattr(tree_plan, "scan", scan)
    monkeypatch.setattr(tree_writer, "read_files", lambda fd, wanted, view: [])

    def peak(count: int) -> int:
        names = [b"%06d" % number for number in range(count)]

        class Options(TreeOptions):
            def names_in(self, fd: int, path: bytes, device: int) -> list[bytes]:
                return names

        geometry = Geometry(262_144, 65_536, 4096)
        with TreeSource([os.fspath(tmp_path)]) as source:
            tracemalloc.start()
            try:
                result = pack_tree(
                    source, Nowhere(), tree_header(geometry), threads=2, new_spool=FileSpool,
                    options=Options(),
                )  # fmt: skip
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
                assert result.footer.member_count == count + 1

    small, large = peak(2000), peak(16_000)
    assert large - small < 600_000  # what is under way differs; each file has 2 KiB of content


def test_folders_are_not_kept_open(tmp_path: Path) -> None:
    """More of them than may be open at once."""
    for number in range(400):
        (tmp_path / f"{number:03}").mkdir()
        (tmp_path / f"{number:03}" / "f").write_bytes(b"%d" % number)
    most = 0
    real = os.open

    def count(*arguments: Any, **named: Any) -> int:
        nonlocal most
        most = max(most, _descriptors())
        return real(*arguments, **named)

    before = _descriptors()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", count)
        packed = checked(pack_path(tmp_path, threads=2))
    assert matches(packed, tmp_path)
    assert most - before < 280
    assert _descriptors() == before


def test_a_folder_is_known_by_its_place() -> None:
    top = Folder(None, b"whatever")
    deep = Folder(Folder(top, b"a"), b"b")
    assert (top.path(), deep.path()) == (b"", b"a/b")
    assert (top.path_of(b"x"), deep.path_of(b"x")) == (b"x", b"a/b/x")
