"""Packing trees: what may be a source, under which name it stands, and what is left out."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from onggi.archive import layout
from onggi.archive.errors import BadUseError, SourceError
from onggi.archive.exclude import Excludes
from onggi.archive.plan import Geometry
from onggi.archive.selection import TreeOptions
from onggi.archive.tree_writer import TreeSource

from .tree_helpers import (
    TINY,
    facts_in_archive,
    facts_in_tar,
    facts_on_disk,
    noise,
    pack_path,
    pack_paths,
    tar_matches,
    tar_members,
    write_sparse,
)
from .tree_pack_helpers import KEPT_ONCE, checked, descriptors, matches


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
    before = descriptors()
    with pytest.raises(BadUseError, match="the name same"):
        TreeSource([os.fspath(tmp_path / name / "same") for name in ("a", "b")])
    with pytest.raises(BadUseError, match="the name same"):
        TreeSource([os.fspath(tmp_path / "a/same")] * 2)
    assert descriptors() == before


def test_a_source_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    before = descriptors()
    for path in ("missing", "missing/deep", "good/missing"):
        with pytest.raises(SourceError, match=r"can't open .*missing"):
            TreeSource([os.fspath(tmp_path / "good"), os.fspath(tmp_path / path)])
    assert descriptors() == before


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
