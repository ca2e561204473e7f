"""Packing trees: the content, the catalogue and the disk say the same, however they are cut."""

from __future__ import annotations

import os
import stat
import tempfile
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onggi.archive import layout, store, tree_plan, tree_writer
from onggi.archive.exclude import Excludes
from onggi.archive.files import Found
from onggi.archive.folders import Folder
from onggi.archive.plan import Geometry
from onggi.archive.selection import TreeOptions
from onggi.archive.store import FileSpool
from onggi.archive.tree_writer import TreeSource, pack_tree

from .tree_helpers import (
    TINIEST,
    TINY,
    Step,
    facts_in_archive,
    facts_in_tar,
    facts_on_disk,
    grow,
    noise,
    pack_path,
    raw_of,
    steps,
    tar_matches,
    tar_members,
    tree_header,
    write_sparse,
)
from .tree_pack_helpers import checked, descriptors, matches

GEOMETRIES = [
    TINIEST, TINY, Geometry(1536, 4096, 512), Geometry(8192, 4096, 4096),
    Geometry(20_480, 8192, 4096),
]  # fmt: skip
NO_DEDUP = TreeOptions(dedup=False)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trees")


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


# --- memory and descriptors ----------------------------------------------------------------------


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
        most = max(most, descriptors())
        return real(*arguments, **named)

    before = descriptors()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", count)
        packed = checked(pack_path(tmp_path, threads=2))
    assert matches(packed, tmp_path)
    assert most - before < 280
    assert descriptors() == before


def test_a_folder_is_known_by_its_place() -> None:
    top = Folder(None, b"whatever")
    deep = Folder(Folder(top, b"a"), b"b")
    assert (top.path(), deep.path()) == (b"", b"a/b")
    assert (top.path_of(b"x"), deep.path_of(b"x")) == (b"x", b"a/b/x")
