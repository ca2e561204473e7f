"""Trees looked into: `ls`, `cat` and `info` tell what is there."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from .tree_corpus import DEEP, FLAGS, noisy, run
from .tree_helpers import NEEDS, SMALL, Corpus, entries_of
from .tree_helpers import corpus as corpus
from .tree_helpers import plain_tree as plain_tree

pytestmark = NEEDS

KIND_WORDS = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character-device", stat.S_IFBLK: "block-device", stat.S_IFIFO: "fifo",
}  # fmt: skip


def test_ls_tells_all_that_there_is_to_know(corpus: Corpus, onggi: Any) -> None:
    told = entries_of(onggi.ok("ls", corpus.archive(onggi), "-R", "--json"))
    assert set(told) == set(corpus.entries) - {b"."}
    for path, record in told.items():
        entry = corpus.entries[path]
        assert record["kind"] == KIND_WORDS[entry.kind], path
        found = (record["mode"], record["uid"], record["gid"], record["mtime_ns"])
        assert found == (entry.mode, entry.uid, entry.gid, entry.mtime_ns), path
        assert record["member_bytes"] == entry.size, path
        assert record["file_flags"] & sum(FLAGS.values()) == entry.flags, path
        expected = {name: value.hex() for name, value in entry.attributes}
        assert record["attributes"] == expected, path
        assert os.fsencode(record.get("target", "")) == entry.target, path
        assert os.makedev(*record.get("device", (0, 0))) == entry.device, path
        one = os.fsencode(record.get("hard_link_to", "")) or path
        assert (corpus.entries[one].same_as or one) == (entry.same_as or path)


def test_ls_lists_what_is_in_a_folder_in_the_order_of_names(corpus: Corpus, onggi: Any) -> None:
    archive = corpus.archive(onggi)
    for path in ("", "order", "names", "links/sub/", "./files", "folders/empty"):
        words = ("ls", archive, path, "--json") if path else ("ls", archive, "--json")
        prefix = os.path.normpath(path) if path else "."
        names = sorted(os.listdir(os.fsencode(corpus.root / path)))
        expected = [os.path.normpath(os.fsencode(prefix) + b"/" + name) for name in names]
        assert list(entries_of(onggi.ok(*words))) == expected
    assert onggi.ok("ls", archive, "order").out.splitlines() == [
        b"order/" + name for name in sorted(os.listdir(os.fsencode(corpus.root / "order")))
        if name != b"\x01low"
    ] or b"\x01" not in onggi.ok("ls", archive, "order").out  # fmt: skip
    assert list(entries_of(onggi.ok("ls", archive, "files/big", "--json"))) == [b"files/big"]
    for path in ("no/such/thing", "files/big/below", ".."):
        onggi.fails(2, "ls", archive, path)


def test_ls_l_tells_what_ls_l_tells(
    corpus: Corpus, onggi: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Seoul")
    archive = corpus.archive(onggi)
    for folder in ("modes", "owners", "special", "acls"):
        told = long_lines(onggi.ok("ls", archive, "-l", folder).out, f"{folder}/")
        expected = long_lines(
            run("ls", "-lA", "--time-style=+%Y-%m-%d %H:%M", corpus.root / folder), ""
        )
        assert told == {name: line for name, line in expected.items() if line[0][0] != "s"}


def long_lines(out: bytes, prefix: str) -> dict[str, list[str]]:
    """Return what `ls -l` says of each name, but for links and sizes of directories."""
    found: dict[str, list[str]] = {}
    for line in out.decode().splitlines():
        before, _, target = line.partition(" -> ")
        *words, name = before.split()
        if len(words) < 7:
            continue  # the total
        mode, _, user, group, *size, day, minute = words
        size = [] if mode[0] == "d" else size
        found[name.removeprefix(prefix)] = [mode, user, group, *size, day, minute, target]
        assert name.startswith(prefix)
    return found


@pytest.mark.needs("find")
def test_ls_finds_what_find_finds(corpus: Corpus, plain_tree: Path, onggi: Any) -> None:
    onggi.ok("pack", plain_tree, "plain.onggi")
    names = ("*.o", "?bc", "[ab]bc", "[!a]bc", "[^a]bc", "*", r"\**", "x[[:digit:]]", ".*", "caf*")
    cases: list[tuple[Path, tuple[str, ...], tuple[str, ...]]]
    cases = [(plain_tree, ("--name", name), ("-name", name)) for name in names]
    cases += [
        (plain_tree, ("--path", f"{path}"), ("-path", f"./{path}"))
        for path in ("docs/*", "*er*", "*/build/*", "de?p/er")
    ]
    cases += [
        (corpus.root, ("-R", "--type", kind), ("-type", kind))
        for kind in ("f", "d", "l", "c", "b", "p")
    ]
    differ: dict[tuple[str, ...], set[bytes]] = {}
    for root, ours, theirs in cases:
        archive = "plain.onggi" if root == plain_tree else corpus.archive(onggi)
        out = run("find", ".", "-mindepth", "1", *theirs, "-printf", r"%P\0", cwd=root)
        found = set(entries_of(onggi.ok("ls", archive, *ours, "--json")))
        if different := found ^ (set(out.split(b"\0")) - {b""}):
            differ[ours] = different
    assert differ == {}


def test_cat_gives_the_bytes_of_files(corpus: Corpus, onggi: Any) -> None:
    archive = corpus.archive(onggi, *SMALL)
    paths = [
        "files/big", "files/0-bytes", "files/513-bytes", "./sparse/many-runs", "sparse/all-hole",
        "sparse/hole-last-odd", "links/sub/across", "same/second", "names/new\nline",
        os.fsdecode(b"names/caf\xe9"), "names/-dash",
    ]  # fmt: skip
    expected = [(corpus.root / path).read_bytes() for path in paths]
    assert onggi.ok("cat", archive, *paths).out == b"".join(expected)
    deep = next(path for path in corpus.entries if path.startswith(DEEP.encode()) and
                path.endswith(b"/link"))  # fmt: skip
    assert onggi.ok("cat", archive, os.fsdecode(deep)).out == noisy(20_000, 11)
    for path in ("files", "symlinks/dangling", "special/fifo", "special/null-character", "nothing"):
        ran = onggi.fails(2, "cat", archive, "files/512-bytes", path)
        assert ran.out == b"", "all paths are looked at first"


def test_commands_for_trees_say_so_where_there_is_a_volume(onggi: Any) -> None:
    (onggi.folder / "disk.img").write_bytes(noisy(50_000, 1))
    onggi.ok("pack", "disk.img", "a.onggi")
    for words in (("ls", "a.onggi"), ("cat", "a.onggi", "x"), ("diff", "a.onggi", "a.onggi"),
                  ("verify", "a.onggi", "--against", onggi.folder)):  # fmt: skip
        ran = onggi(*words)
        assert ran.code in (2, 5), words
        assert len(ran.err.splitlines()) == 1


def test_info_counts_what_is_in_a_tree(corpus: Corpus, onggi: Any) -> None:
    info = onggi.ok("info", corpus.archive(onggi), "--json").result
    first = [entry for entry in corpus.entries.values() if not entry.same_as]
    kinds = [entry.kind for entry in first]
    assert info["kind"] == "tree"
    assert info["member_count"] == len(corpus.entries)
    assert info["files"] == kinds.count(stat.S_IFREG)
    assert info["directories"] == kinds.count(stat.S_IFDIR)
    assert info["symlinks"] == kinds.count(stat.S_IFLNK)
    assert info["hard_links"] == len(corpus.entries) - len(first)
    assert info["devices"] == kinds.count(stat.S_IFCHR) + kinds.count(stat.S_IFBLK)
    assert info["fifos"] == kinds.count(stat.S_IFIFO)
    size = sum(entry.size for entry in first if entry.kind == stat.S_IFREG)
    assert info["file_bytes"] == size
