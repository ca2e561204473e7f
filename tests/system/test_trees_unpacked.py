"""What is unpacked of a tree, and over what."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Any

from .tree_corpus import clear_flags, differences, run, snapshot
from .tree_helpers import NEEDS, Corpus
from .tree_helpers import corpus as corpus
from .tree_helpers import plain_tree as plain_tree
from .tree_helpers import target as target

pytestmark = NEEDS


def test_chosen_paths_come_back_with_all_below_them_and_nothing_else(
    corpus: Corpus, onggi: Any, target: Path
) -> None:
    archive, back = corpus.archive(onggi), target / "back"
    # A hard link whose first name is not chosen has its content all the same.
    chosen = ("files/big", "acls", "links/sub/across", "same/second", "links/b/shallow")
    onggi.ok("unpack", archive, back, *chosen[:3], f"./{chosen[3]}", f"{chosen[4]}/")
    found = snapshot(back)
    expected = {
        path: entry
        for path, entry in corpus.entries.items()
        if path.startswith(b"acls") or os.fsdecode(path) in chosen
    }
    between = {b".", b"files", b"links", b"links/sub", b"links/b", b"same"}
    assert set(found) == set(expected) | between
    there = {path: entry for path, entry in found.items() if path not in between}
    assert differences(expected, there, ignore=("same_as",)) == []
    for path in between - {b"."}:
        assert found[path].mode == corpus.entries[path].mode
        assert found[path].mtime_ns == corpus.entries[path].mtime_ns


def test_both_names_of_a_hard_link_that_are_chosen_are_one_file(
    corpus: Corpus, onggi: Any, target: Path
) -> None:
    back = target / "back"
    onggi.ok("unpack", corpus.archive(onggi), back, "links/sub/across", "links/b-same-folder")
    assert (back / "links/sub/across").samefile(back / "links/b-same-folder")
    assert (back / "links/sub/across").stat().st_nlink == 2


def test_a_path_that_is_not_in_the_archive_is_told(
    corpus: Corpus, onggi: Any, target: Path
) -> None:
    for path in ("no/such/thing", "files/big/below", "../etc"):
        ran = onggi.fails(2, "unpack", corpus.archive(onggi), target / "back", path)
        assert path.removeprefix("../") in ran.err or ".." in ran.err
        assert not (target / "back" / "files").exists()


def test_what_is_there_stays_unless_it_is_to_be_replaced(
    onggi: Any, target: Path, plain_tree: Path
) -> None:
    onggi.ok("pack", plain_tree, "a.onggi")
    back, outside = target / "back", target / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"not to be touched")
    back.mkdir()
    (back / "file").write_bytes(b"mine")
    (back / "main.c").symlink_to(outside / "secret")
    (back / "docs").symlink_to(outside)
    (back / "abc").mkdir()
    (back / "abc" / "inside").write_bytes(b"mine too")
    os.link(outside / "secret", back / "x1")
    (back / "build").mkdir(mode=0o700)
    before, around = snapshot(back), snapshot(outside)
    ran = onggi("unpack", "a.onggi", back, "--json")
    assert ran.code == 1, ran.err
    told = {finding["path"] for finding in ran.findings}
    assert told >= {"file", "main.c", "docs", "abc", "x1"}
    assert {path for path in told if not path.startswith("docs/")} == {
        "file", "main.c", "docs", "abc", "x1",
    }  # fmt: skip
    after = snapshot(back)
    for path in (b"file", b"main.c", b"docs", b"abc", b"abc/inside", b"x1"):
        assert differences({path: before[path]}, {path: after[path]}, ("mtime_ns",)) == []
    assert (back / "build" / "main.o").read_bytes() == b"x"
    assert (back / "deep" / "er" / "file").read_bytes() == b"x"
    assert differences(around, snapshot(outside)) == []
    ran = onggi("unpack", "a.onggi", back, "--json", "--force")
    # Only a folder with something in it is not replaced by a file.
    assert ran.code == 1, ran.err
    assert {finding["path"] for finding in ran.findings} == {"abc"}
    assert (back / "abc" / "inside").read_bytes() == b"mine too"
    assert (back / "file").read_bytes() == b"x"
    assert not (back / "main.c").is_symlink()
    assert not (back / "docs").is_symlink()
    assert (back / "docs" / "a.txt").read_bytes() == b"x"
    assert differences(around, snapshot(outside)) == []
    shutil.rmtree(back / "abc")
    onggi.ok("unpack", "a.onggi", back, "--force")
    assert differences(snapshot(plain_tree), snapshot(back)) == []


def test_what_a_folder_gives_to_new_files_is_not_left_on_those_that_are_restored(
    onggi: Any, target: Path
) -> None:
    # An ACL that a file gets from its folder would let others read it.
    tree, back = onggi.folder / "tree", target / "back"
    for root in (tree, back):
        (root / "sub").mkdir(parents=True)
    (tree / "private").write_bytes(b"x")
    (tree / "private").chmod(0o640)
    (tree / "sub" / "private").write_bytes(b"x")
    (tree / "sub" / "closed").mkdir(mode=0o750)
    os.mkfifo(tree / "sub" / "fifo", 0o600)
    for folder in (back, back / "sub"):
        run("setfacl", "-d", "-m", "u:54321:rwx", folder)
    onggi.ok("pack", tree, "a.onggi")
    onggi.ok("unpack", "a.onggi", back)
    found = snapshot(back)
    for path, entry in snapshot(tree).items():
        if path not in (b".", b"sub"):
            assert differences({path: entry}, {path: found[path]}) == []


def test_the_corpus_is_unpacked_over_itself(corpus: Corpus, onggi: Any, target: Path) -> None:
    archive = corpus.archive(onggi)
    onggi.ok("unpack", archive, target / "back")
    clear_flags(target / "back")
    ran = onggi("unpack", archive, target / "back", "--json")
    assert ran.code == 1
    told = {os.fsencode(finding["path"]) for finding in ran.findings}
    assert told == {path for path, e in corpus.entries.items() if e.kind != stat.S_IFDIR}
    clear_flags(target / "back")
    onggi.ok("unpack", archive, target / "back", "--force")
    assert differences(corpus.entries, snapshot(target / "back")) == []
