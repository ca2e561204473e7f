"""Trees on real file systems come back as they were."""

from __future__ import annotations

import os
import shutil
import stat
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .tree_corpus import (
    DEEP,
    EXT4,
    KINDS,
    MIB,
    SOCKET,
    allocated,
    clear_flags,
    differences,
    filesystem,
    flags_listing,
    make_corpus,
    rsync_differences,
    run,
    snapshot,
    walk,
)
from .tree_helpers import NEEDS, SMALL, Corpus, entries_of, hold_same, names_in
from .tree_helpers import corpus as corpus
from .tree_helpers import target as target

pytestmark = NEEDS

SAME = ("--uuid", "0f8c3a52-b1d6-4e7f-9a20-c4d5e6f70819", "--created", "1")


# --- the means of comparison ---------------------------------------------------------------------


def change_content(root: Path) -> None:
    path = root / "files" / "big"
    before = path.stat().st_mtime_ns
    with path.open("r+b") as file:
        file.seek(3 * MIB)
        file.write(b"!")
    os.utime(path, ns=(0, before))


def fill_hole(root: Path) -> None:
    path = root / "sparse" / "hole-first"
    before = path.stat().st_mtime_ns
    with path.open("r+b") as file:
        file.write(bytes(50_000))
    os.utime(path, ns=(0, before))


def break_hard_link(root: Path) -> None:
    path = root / "links" / "sub" / "across"
    shutil.copy2(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def change_deep_content(root: Path) -> None:
    for visit in walk(root):
        if visit.path.startswith(DEEP.encode()) and visit.name == b"other":
            file = os.open(visit.name, os.O_WRONLY, dir_fd=visit.folder)
            os.write(file, b"B")
            os.utime(file, ns=(0, visit.status.st_mtime_ns))
            os.close(file)


def change_target(root: Path) -> None:
    (root / "symlinks" / "dangling").unlink()
    (root / "symlinks" / "dangling").symlink_to("elsewhere")


def change_device(root: Path) -> None:
    (root / "special" / "odd-block").unlink()
    os.mknod(root / "special" / "odd-block", stat.S_IFBLK | 0o660, os.makedev(240, 70_001))


class Spoiler(NamedTuple):
    """A way to spoil a copy of the corpus: where, what changes, and whether rsync sees it."""

    spoil: Callable[[Path], object]
    path: str
    what: str
    seen_by_rsync: bool = True


SPOILERS = [
    Spoiler(change_content, "files/big", "digest"),
    Spoiler(fill_hole, "sparse/hole-first", "data", seen_by_rsync=False),
    Spoiler(break_hard_link, "links/sub/across", "same_as"),
    Spoiler(change_deep_content, "other", "digest", seen_by_rsync=False),
    Spoiler(change_target, "symlinks/dangling", "target"),
    Spoiler(change_device, "special/odd-block", "device"),
    Spoiler(lambda root: os.utime(root / "at-the-top", ns=(0, 1)), "at-the-top", "mtime_ns"),
    Spoiler(lambda root: (root / "modes/file-4755").chmod(0o755), "modes/file-4755", "mode"),
    Spoiler(lambda root: os.chown(root / "files", 0, 1), "files", "gid"),
    Spoiler(lambda root: (root / "folders/empty").rmdir(), "folders/empty", "missing"),
    Spoiler(lambda root: (root / "folders/more").mkdir(), "folders/more", "too much"),
    Spoiler(
        lambda root: run("chattr", "+d", root / "files/zeros"),
        "files/zeros", "flags", seen_by_rsync=False,
    ),
    Spoiler(
        lambda root: run("setfacl", "-m", "u:54321:rw", root / "acls/file"),
        "acls/file", "attributes",
    ),
    Spoiler(
        lambda root: os.setxattr(root / "attributes/fifo", "trusted.onggi", b"other"),
        "attributes/fifo", "attributes",
    ),
    Spoiler(
        lambda root: os.removexattr(root / "attributes/capable", "security.capability"),
        "attributes/capable", "attributes",
    ),
]  # fmt: skip


@pytest.mark.needs("chattr")
def test_the_comparison_itself_sees_every_kind_of_difference(corpus: Corpus, target: Path) -> None:
    for number, spoiler in enumerate(SPOILERS):
        copy = target / f"{number}"
        copy.mkdir()
        make_corpus(copy, EXT4)
        hold_same(corpus.root, copy, corpus.entries)
        spoiler.spoil(copy)
        lines = differences(corpus.entries, snapshot(copy))
        told = [line for line in lines if f"{spoiler.path}'" in line and spoiler.what in line]
        assert told, spoiler
        if spoiler.seen_by_rsync:
            assert rsync_differences(corpus.root, copy), spoiler
        with pytest.raises(AssertionError):
            hold_same(corpus.root, copy, corpus.entries)
        clear_flags(copy)
        run("rm", "-rf", copy)


@pytest.mark.needs("chattr")
def test_diff_and_verify_against_tell_every_kind_of_difference(
    corpus: Corpus, onggi: Any, target: Path
) -> None:
    archive, copy = corpus.archive(onggi), target / "copy"
    copy.mkdir()
    make_corpus(copy, EXT4)
    onggi.ok("verify", archive, "--against", copy)
    for spoiler in SPOILERS:
        spoiler.spoil(copy)
    onggi.ok("pack", copy, "other.onggi")
    # Where its holes are is no difference of a file.
    expected = {each.path for each in SPOILERS if each.what != "data"}
    # A directory has another time where something came or went.
    folders = {"links/sub", "symlinks", "special", "folders"}
    for words in (("diff", archive, "other.onggi"), ("verify", archive, "--against", copy)):
        ran = onggi(*words, "--json")
        assert ran.code == 1, ran.err
        assert {each["severity"] for each in ran.findings} == {"difference"}
        told = {each["path"] for each in ran.findings}
        deep = {path for path in told if path.startswith(DEEP) and path.endswith("/other")}
        assert len(deep) == 1
        assert told - deep == expected - {"other"} | folders, words
        assert ran.result["findings"] == len(ran.findings)


def test_archives_of_one_tree_do_not_differ_however_they_were_packed(
    corpus: Corpus, onggi: Any
) -> None:
    default = corpus.archive(onggi)
    for options in (SMALL, ("--no-dedup",)):
        ran = onggi.ok("diff", default, corpus.archive(onggi, *options), "--json")
        assert ran.findings == []


# --- restored by Onggi ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [(), SMALL, ("--no-dedup", "--level", "1", "--threads", "1"), ("--frame-size", "8K")],
    ids=["default", "small-units", "no-dedup", "small-frames"],
)
@pytest.mark.parametrize("helper", ["compiled", "pure"])
def test_every_kind_of_entry_comes_back_as_it_was(
    helper: str,
    options: tuple[str, ...],
    corpus: Corpus,
    onggi: Any,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive = corpus.archive(onggi, *options)
    if helper == "pure":
        monkeypatch.setenv("ONGGI_PURE", "1")
    else:
        for level in ("structure", "stored", "content"):
            verified = onggi.ok("verify", archive, "--level", level, "--json")
            assert verified.findings == []
            assert verified.result["damaged_units"] == 0
        against = onggi.ok("verify", archive, "--against", corpus.root, "--json")
        assert against.findings == []
    ran = onggi.ok("unpack", archive, target / "back", "--json")
    assert ran.findings == []
    assert ran.err == ""
    hold_same(corpus.root, target / "back", corpus.entries)


def test_an_archive_is_the_same_whatever_the_number_of_threads(
    corpus: Corpus, onggi: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options in (SAME, (*SAME, *SMALL)):
        first = corpus.archive(onggi, *options, "--threads", "1").read_bytes()
        for threads in (2, 5):
            other = onggi.folder / "other.onggi"
            onggi.ok("pack", corpus.root, other, *options, "--threads", threads, "--force")
            assert other.read_bytes() == first, f"{threads} threads"
        monkeypatch.setenv("ONGGI_PURE", "1")
        onggi.ok("pack", corpus.root, "pure.onggi", *options, "--force")
        assert (onggi.folder / "pure.onggi").read_bytes() == first, "without the compiled helper"
        monkeypatch.delenv("ONGGI_PURE")


def test_unpacked_with_many_threads_it_is_the_same(
    corpus: Corpus, onggi: Any, target: Path
) -> None:
    archive = corpus.archive(onggi, *SMALL)
    for threads in (1, 5):
        onggi.ok("unpack", archive, target / f"{threads}", "--threads", threads)
        assert differences(corpus.entries, snapshot(target / f"{threads}")) == []


def test_an_archive_is_unpacked_into_a_folder_that_exists(
    corpus: Corpus, onggi: Any, target: Path
) -> None:
    (target / "back").mkdir()
    (target / "back" / "here-before").write_bytes(b"stays")
    onggi.ok("unpack", corpus.archive(onggi), target / "back")
    assert (target / "back" / "here-before").read_bytes() == b"stays"
    (target / "back" / "here-before").unlink()
    found = snapshot(target / "back")
    assert differences(corpus.entries, {**found, b".": corpus.entries[b"."]}) == []


def test_the_stream_that_unpack_gives_is_the_one_that_zstd_gives(
    corpus: Corpus, onggi: Any
) -> None:
    for options in ((), SMALL):
        archive = corpus.archive(onggi, *options)
        stream = run("zstd", "-dcq", archive)
        assert onggi.ok("unpack", archive, "-").out == stream
        assert onggi.ok("unpack", archive, "-", "--threads", 5).out == stream
        assert len(stream) == onggi.ok("info", archive, "--json").result["content_bytes"]


def test_sockets_are_counted_and_not_packed(corpus: Corpus, onggi: Any) -> None:
    ran = onggi.ok("pack", corpus.root / "special", "special.onggi", "--json")
    assert ran.result["sockets"] == 1
    assert Path(SOCKET).name not in names_in("special.onggi", onggi.folder)


@pytest.mark.needs("mkfs.xfs", "mkfs.btrfs")
@pytest.mark.parametrize("name", ["xfs", "btrfs"])
def test_other_file_systems_come_back_as_they_were(name: str, onggi: Any, tmp_path: Path) -> None:
    kind = KINDS[name]
    with (
        filesystem(tmp_path / "source", kind) as source,
        filesystem(tmp_path / "target", kind) as target,
    ):
        (source / "source").mkdir()
        make_corpus(source / "source", kind)
        run("mount", "-o", "remount,ro", source)
        ran = onggi.ok("pack", source / "source", "a.onggi", "--json", "--verify")
        assert ran.findings == []
        onggi.ok("verify", "a.onggi", "--against", source / "source")
        ran = onggi.ok("unpack", "a.onggi", target / "back", "--json")
        assert ran.findings == []
        # What is a hole is up to XFS, which allocates ahead: how much is stored must be alike.
        ignored = ("data",) if name == "xfs" else ()
        expected, found = snapshot(source / "source"), snapshot(target / "back")
        assert differences(expected, found, ignore=ignored) == []
        assert (
            sum(allocated(target / "back").values())
            < sum(allocated(source / "source").values()) + MIB
        )
        assert rsync_differences(source / "source", target / "back") == ""
        assert flags_listing(source / "source") == flags_listing(target / "back")
        # What XFS shows of how it stores ACLs means nothing elsewhere.
        told = entries_of(onggi.ok("ls", "a.onggi", "-R", "--json"))
        names = {attribute for record in told.values() for attribute in record["attributes"]}
        assert {each for each in names if "SGI_ACL" in each} == set()
        assert "system.posix_acl_default" in names


@pytest.mark.needs("mkfs.xfs")
def test_what_the_target_cannot_hold_is_told_by_path_and_all_else_comes_back(
    corpus: Corpus, onggi: Any, tmp_path: Path
) -> None:
    with filesystem(tmp_path / "target", KINDS["xfs"]) as target:
        ran = onggi("unpack", corpus.archive(onggi), target / "back", "--json")
        assert ran.code == 1, ran.err
        # XFS takes no target of more than 1,024 bytes, no device numbers so high, no flags D and T.
        told = {os.fsencode(finding["path"]) for finding in ran.findings}
        lost = {b"symlinks/long", b"special/most-character", b"special/most-block"}
        assert told >= lost
        assert told - lost <= {b"flags/folder-D", b"flags/folder-T"}
        found = snapshot(target / "back")
        expected = {path: entry for path, entry in corpus.entries.items() if path not in lost}
        lines = differences(expected, found, ignore=("data",))
        assert [line for line in lines if "folder-D'" not in line and "folder-T'" not in line] == []


# --- trees that people have ----------------------------------------------------------------------


def round_trip(source: Path, folder: Path, onggi: Any) -> None:
    """Hold that a tree comes back as it was; rsync compares."""
    started = time.monotonic()
    packed = onggi.ok("pack", source, folder / "a.onggi", "--json", timeout_s=300)
    assert packed.findings == []
    packing_s = time.monotonic() - started
    onggi.ok("verify", folder / "a.onggi", "--level", "stored")
    started = time.monotonic()
    unpacked = onggi.ok("unpack", folder / "a.onggi", folder / "back", "--json", timeout_s=300)
    assert unpacked.findings == []
    print(f"packed in {packing_s:.1f} s, unpacked in {time.monotonic() - started:.1f} s")
    assert rsync_differences(source, folder / "back") == ""


@pytest.mark.needs("mount")
def test_a_python_installation_comes_back_as_it_was(onggi: Any, mounts: Any) -> None:
    place = mounts("none", "-t", "tmpfs")
    round_trip(Path(sysconfig.get_path("stdlib")), place, onggi)


@pytest.mark.needs("mount")
def test_the_linux_kernel_comes_back_as_it_was(onggi: Any, mounts: Any) -> None:
    archives = sorted(Path("/usr/src").glob("linux-source-*.tar.xz"))
    assert archives, "./test installs the package linux-source"
    place = mounts("none", "-t", "tmpfs")
    (place / "source").mkdir()
    run("tar", "-C", place / "source", "-xf", archives[-1])
    round_trip(place / "source", place, onggi)
