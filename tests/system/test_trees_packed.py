"""What is packed: sources and their names, what is left out, and whether as a tree."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .tree_corpus import EXT4, MIB, differences, filesystem, run, snapshot
from .tree_helpers import NEEDS, Corpus, names_in
from .tree_helpers import corpus as corpus
from .tree_helpers import plain_tree as plain_tree
from .tree_helpers import target as target

pytestmark = NEEDS


# --- sources -------------------------------------------------------------------------------------


def test_several_sources_stand_under_their_last_component(
    corpus: Corpus, onggi: Any, target: Path
) -> None:
    sources = [corpus.root / "links", f"{corpus.root / 'files'}/", corpus.root / "at-the-top"]
    ran = onggi.ok("pack", *sources, "a.onggi", "--json")
    assert ran.findings == []
    against = [word for source in sources for word in ("--against", source)]
    assert onggi.ok("verify", "a.onggi", *against, "--json").findings == []
    (target / "back").mkdir()
    (target / "back").chmod(0o751)
    onggi.ok("unpack", "a.onggi", target / "back")
    assert stat.S_IMODE((target / "back").stat().st_mode) == 0o751, "the root was made up"
    tops = (b"links", b"files", b"at-the-top")
    expected = {path: e for path, e in corpus.entries.items() if path.split(b"/")[0] in tops}
    found = snapshot(target / "back")
    del found[b"."]
    assert differences(expected, found) == []
    tar = target / "tar"
    tar.mkdir()
    before = tar.stat().st_mode
    run("tar", "-C", tar, "--zstd", "-xpf", onggi.folder / "a.onggi")
    assert (tar.stat().st_mode, tar.stat().st_uid) == (before, 0), "the root is no member"
    assert sorted(os.listdir(tar)) == ["at-the-top", "files", "links"]


def test_two_sources_of_one_name_are_refused(onggi: Any) -> None:
    for name in ("a/jar", "b/jar"):
        (onggi.folder / name).mkdir(parents=True)
    ran = onggi.fails(2, "pack", "a/jar", "b/jar", "x.onggi")
    assert "jar" in ran.err
    assert not (onggi.folder / "x.onggi").exists()


def test_a_single_file_is_a_volume_unless_a_tree_is_asked_for(
    corpus: Corpus, onggi: Any, target: Path
) -> None:
    big = corpus.root / "files" / "big"
    onggi.ok("pack", big, "volume.onggi")
    onggi.ok("pack", big, "tree.onggi", "--mode", "tree")
    assert onggi.ok("info", "volume.onggi", "--json").result["kind"] == "volume"
    assert onggi.ok("info", "tree.onggi", "--json").result["kind"] == "tree"
    onggi.ok("unpack", "tree.onggi", target / "back")
    assert differences(
        {b"big": corpus.entries[b"files/big"]},
        {path: e for path, e in snapshot(target / "back").items() if path != b"."},
    ) == []  # fmt: skip


def test_a_symlink_among_the_sources_is_packed_as_one_unless_it_leads_to_a_folder(
    onggi: Any, target: Path
) -> None:
    (onggi.folder / "real").mkdir()
    (onggi.folder / "real" / "file").write_bytes(b"soy")
    (onggi.folder / "to-folder").symlink_to("real")
    onggi.ok("pack", "to-folder", "a.onggi")
    onggi.ok("unpack", "a.onggi", target / "back")
    assert (target / "back" / "file").read_bytes() == b"soy"


def test_an_archive_inside_its_own_source_does_not_hold_itself(
    plain_tree: Path, onggi: Any
) -> None:
    tree = onggi.folder / "tree"
    shutil.copytree(plain_tree, tree)
    for _ in range(2):
        onggi.ok("pack", tree, tree / "a.onggi", "--force")
        held = names_in(tree / "a.onggi", onggi.folder)
        assert not [name for name in held if "onggi" in name]
        onggi.ok("verify", tree / "a.onggi")


# --- what is left out ----------------------------------------------------------------------------

PATTERNS: list[tuple[str, ...]] = [
    ("*.o",), ("./build",), ("docs/*.txt",), ("a?c",), ("er/file",), ("*~",), (r"\*",), ("sub/",),
    ("**/deep",), ("!keep",), ("/build",), ("[!a]bc",), ("[^a]bc",), ("[a-c]bc",), ("*.o", "docs"),
    ("de*le",), ("caf*",), ("bra[ck",), (r"back\\slash",), ("*/",), ("x1 ",), ("deep//er",),
    ("docs/./a.txt",), ("[[:digit:]]*",), ("x[[:digit:]]",), ("{a,b}c",), ("", "with space"),
]  # fmt: skip


def tar_leaves(tree: Path, *options: str) -> set[str]:
    """Return the paths that GNU tar packs of a tree with the same options."""
    with (
        subprocess.Popen(
            ["tar", "-C", tree, *options, "-cf", "-", "."], stdout=subprocess.PIPE
        ) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as tar,
    ):
        names = {member.name.removeprefix("./").rstrip("/") for member in tar}
    assert process.returncode == 0
    return names - {".", ""}


@pytest.mark.needs("tar")
def test_exclude_leaves_out_what_gnu_tar_leaves_out(plain_tree: Path, onggi: Any) -> None:
    differ: dict[tuple[str, ...], set[str]] = {}
    left_out = 0
    everything = tar_leaves(plain_tree)
    for patterns in PATTERNS:
        options = [f"--exclude={pattern}" for pattern in patterns]
        expected = tar_leaves(plain_tree, *options)
        left_out += expected != everything
        onggi.ok("pack", plain_tree, "a.onggi", "--force", *options)
        if different := names_in("a.onggi", onggi.folder) ^ expected:
            differ[patterns] = different
    assert differ == {}
    assert left_out > 15


@pytest.mark.needs("tar")
def test_exclude_from_a_file_leaves_out_what_gnu_tar_leaves_out(
    plain_tree: Path, onggi: Any
) -> None:
    file = onggi.folder / "patterns"
    file.write_bytes(b"*.o\n\n#x\ndocs/*.txt\n  \ncaf\xe9\nx1 \nold~")
    expected = tar_leaves(plain_tree, f"--exclude-from={file}")
    onggi.ok("pack", plain_tree, "a.onggi", "--exclude-from", file)
    assert names_in("a.onggi", onggi.folder) == expected
    assert expected < tar_leaves(plain_tree)
    missing = onggi.fails(5, "pack", plain_tree, "b.onggi", "--exclude-from", "missing")
    assert "missing" in missing.err


@pytest.mark.needs("tar")
def test_caches_are_left_out_as_gnu_tar_leaves_them_out(plain_tree: Path, onggi: Any) -> None:
    tree = onggi.folder / "tree"
    shutil.copytree(plain_tree, tree)
    tag = b"Signature: 8a477f597d28d172789f06886806bc55\n# a comment\n"
    (tree / "cache" / "CACHEDIR.TAG").write_bytes(tag)
    (tree / "docs" / "CACHEDIR.TAG").write_bytes(tag[:43])
    (tree / "deep" / "CACHEDIR.TAG").write_bytes(b"Signature: of something else")
    (tree / "de" / "CACHEDIR.TAG").write_bytes(b"")
    (tree / "build" / "CACHEDIR.TAG").mkdir()
    (tree / "sub" / "CACHEDIR.TAG").symlink_to("../cache/CACHEDIR.TAG")
    expected = tar_leaves(tree, "--exclude-caches")
    onggi.ok("pack", tree, "a.onggi", "--exclude-caches")
    found = names_in("a.onggi", onggi.folder)
    # GNU tar follows a tag that is a symbolic link; the definition of these tags says that it
    # must not be one, and Onggi follows nothing.
    assert {name for name in found ^ expected if not name.startswith("sub/")} == set()
    assert "cache/z" not in found
    assert {"cache", "cache/CACHEDIR.TAG", "deep/file"} <= found


@pytest.mark.needs("tar", "mount")
def test_one_file_system_leaves_out_what_gnu_tar_leaves_out(
    plain_tree: Path, onggi: Any, mounts: Any
) -> None:
    tree = onggi.folder / "tree"
    shutil.copytree(plain_tree, tree)
    place = mounts("none", "-t", "tmpfs", "-o", "mode=711", name="tree/docs")
    (place / "inside").write_bytes(b"of another file system")
    os.chown(place, 1234, 4321)
    onggi.ok("pack", tree, "a.onggi", "--one-file-system")
    expected = tar_leaves(tree, "--one-file-system")
    assert names_in("a.onggi", onggi.folder) == expected
    assert "docs" in expected
    assert "docs/inside" not in expected
    onggi.ok("pack", tree, "b.onggi")
    assert "docs/inside" in names_in("b.onggi", onggi.folder)


# --- the choice between tree and volume ----------------------------------------------------------


def test_a_mount_point_is_packed_as_a_tree_or_as_its_volume(onggi: Any, tmp_path: Path) -> None:
    with filesystem(tmp_path / "many", EXT4, "-N", "210000", size=256 * MIB) as place:
        (place / "few").write_bytes(b"soy")
        ran = onggi.ok("pack", place, "few.onggi", "--json")
        assert kind_of("few.onggi", onggi) == "tree"
        assert "files" in reason(ran)
        (place / "sub").mkdir()
        with opened(place / "sub") as here:
            for number in range(200_001):
                os.mknod(f"{number}", stat.S_IFREG | 0o600, dir_fd=here)
        ran = onggi.ok("pack", place, "written.onggi", "--json", "--exclude", "sub")
        assert kind_of("written.onggi", onggi) == "tree"
        assert "mounted for writing" in reason(ran)
        run("mount", "-o", "remount,ro", place)
        ran = onggi.ok("pack", place, "many.onggi", "--json")
        assert kind_of("many.onggi", onggi) == "volume"
        assert "200,0" in reason(ran)
        ran = onggi.ok("pack", place, "many.onggi", "--force")
        assert "volume" in ran.err + ran.out.decode()
        ran = onggi.ok("pack", place / "sub", "sub.onggi", "--json", "--exclude", "[0-9]*")
        assert kind_of("sub.onggi", onggi) == "tree"
        onggi.ok("pack", place, "volume.onggi", "--mode", "volume")
        assert kind_of("volume.onggi", onggi) == "volume"
        onggi.ok("pack", place, "tree.onggi", "--mode", "tree", "--exclude", "sub")
        assert kind_of("tree.onggi", onggi) == "tree"
        onggi.fails(2, "pack", place / "sub", "x.onggi", "--mode", "volume")
        # What it chose to pack is the file system that is mounted.
        device = run("findmnt", "-no", "SOURCE", place).decode().strip()
        onggi.ok("verify", "many.onggi", "--against", device)


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    """Give a folder's descriptor."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def reason(ran: Any) -> str:
    """Return why a source was packed as it was."""
    return str(next(each["reason"] for each in ran.records if each["type"] == "mode"))


def kind_of(archive: str, onggi: Any) -> str:
    """Return whether an archive holds a tree or a volume."""
    return str(onggi.ok("info", archive, "--json").result["kind"])
