"""Trees on real file systems: packed, restored by Onggi and by other programs, and compared."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .tree_corpus import (
    BLOCK,
    DEEP,
    EXT4,
    FLAGS,
    GIANT,
    KINDS,
    MIB,
    SECOND,
    SOCKET,
    Snapshot,
    allocated,
    clear_flags,
    differences,
    filesystem,
    find_listing,
    flags_listing,
    make_corpus,
    noisy,
    rsync_differences,
    run,
    snapshot,
    walk,
)

pytestmark = pytest.mark.needs("root", "loop", "mkfs.ext4", "rsync", "setfacl", "setcap", "zstd")

SMALL = ("--block-size", "4096", "--blocks", "4", "--frame-size", "4096")
SAME = ("--uuid", "0f8c3a52-b1d6-4e7f-9a20-c4d5e6f70819", "--created", "1")
USER = 1000


# --- the corpus, packed once for each set of options ---------------------------------------------


@dataclass
class Corpus:
    """The corpus on an ext4 of its own, mounted read-only, and archives of it."""

    root: Path
    folder: Path
    entries: Snapshot
    _packed: dict[tuple[str, ...], Path] = field(default_factory=dict[tuple[str, ...], Path])

    def archive(self, onggi: Any, *options: str) -> Path:
        """Return an archive of it, packed with `options`; the next call gives the same one."""
        if options not in self._packed:
            path = self.folder / f"{len(self._packed)}.onggi"
            ran = onggi.ok("pack", self.root, path, "--json", *options)
            assert ran.findings == []
            assert ran.err == ""
            self._packed[options] = path
        return self._packed[options]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    """Make the corpus, once."""
    folder = tmp_path_factory.mktemp("corpus")
    with filesystem(folder / "ext4", EXT4) as place:
        (place / "source").mkdir()
        make_corpus(place / "source", EXT4)
        run("mount", "-o", "remount,ro", place)
        yield Corpus(place / "source", folder, snapshot(place / "source"))


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    """Give an empty folder on another new ext4."""
    with filesystem(tmp_path / "target", EXT4) as place:
        yield place


def without(entries: Snapshot, *tops: str) -> Snapshot:
    """Return a snapshot without some paths and all below them."""
    gone = tuple(os.fsencode(top) for top in tops)
    return {
        path: entry
        for path, entry in entries.items()
        if path not in gone and not path.startswith(tuple(top + b"/" for top in gone))
    }


def hold_same(source: Path, target: Path, entries: Snapshot) -> None:
    """Hold that two trees are the same, whoever is asked."""
    assert differences(entries, snapshot(target)) == []
    assert rsync_differences(source, target) == ""
    assert set(find_listing(source)) ^ set(find_listing(target)) == set()
    assert set(flags_listing(source)) ^ set(flags_listing(target)) == set()
    before, after = allocated(source), allocated(target)
    # A list of more than four extents takes a block of its own, also before they are joined.
    more = {path: after[path] - size for path, size in before.items()}
    assert {path: size for path, size in more.items() if size > 2 * BLOCK} == {}


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


# --- restored by other programs ------------------------------------------------------------------


@pytest.mark.needs("tar")
@pytest.mark.parametrize("way", ["zstd | tar", "tar --zstd"])
def test_gnu_tar_restores_all_that_it_can(
    way: str, corpus: Corpus, onggi: Any, target: Path
) -> None:
    # What GNU tar can't do: file flags, which its format has no place for; paths of 4,096 bytes
    # and more, which it gives to the kernel in one piece. And without --no-dedup it makes hard
    # links of what are two files (below).
    archive = corpus.archive(onggi, "--no-dedup")
    back = target / "back"
    back.mkdir()
    options = (
        "--xattrs", "--xattrs-include=*", "--acls", f"--exclude={DEEP}",
        "--warning=no-timestamp", "-xpf",
    )  # fmt: skip
    if way == "tar --zstd":
        run("tar", "-C", back, "--zstd", *options, archive)
    else:
        stream = 'set -o pipefail; archive=$1; shift; zstd -dcq "$archive" | tar "$@" -'
        run("bash", "-c", stream, "bash", archive, "-C", back, *options)
    expected, found = without(corpus.entries, DEEP), snapshot(back)
    assert differences(expected, found, ignore=("flags",)) == []
    assert rsync_differences(corpus.root, back) == ""


@pytest.mark.needs("tar")
def test_files_of_the_same_content_are_stored_once(
    corpus: Corpus, onggi: Any, target: Path
) -> None:
    # With the same rights, the tar stream has a hard link in place of the second; Onggi makes two
    # files of them.
    archive, plain = corpus.archive(onggi), corpus.archive(onggi, "--no-dedup")
    members = {member.name: member for member in members_of(archive)}
    shared = {
        "same/second": "same/first", "same/other-time": "same/first", "same/linked": "same/first",
    }  # fmt: skip
    group = {"same/first", "same/linked", "same/linked-too", "same/other-time", "same/second"}
    first = min(group)
    for name in group - {first, "same/linked-too"}:
        assert members[name].islnk(), name
        assert members[name].linkname in group
    assert members[first].isreg()
    assert set(shared) < group
    for name in ("other-mode", "other-attributes", "other-owner", "almost", "16383-two"):
        assert members[f"same/{name}"].isreg(), name
    assert members["same/16384-two"].islnk()
    assert {members["same/b/two"].type, members["same/a/deep/one"].type} == {b"0", b"1"}
    assert not [member for member in members_of(plain) if member.islnk() and "same/" in member.name
                and member.name != "same/linked-too"]  # fmt: skip
    assert archive.stat().st_size < plain.stat().st_size
    back = target / "back"
    onggi.ok("unpack", archive, back)
    assert (back / "same" / "first").stat().st_nlink == 1
    assert not (back / "same" / "first").samefile(back / "same" / "second")
    assert (back / "same" / "linked").samefile(back / "same" / "linked-too")
    assert (back / "same" / "linked").stat().st_nlink == 2
    tar = target / "tar"
    tar.mkdir()
    run("tar", "-C", tar, "--zstd", f"--exclude={DEEP}", "--warning=no-timestamp", "-xpf", archive)
    assert (tar / "same" / "first").samefile(tar / "same" / "second")
    for name in os.listdir(corpus.root / "same"):
        if (corpus.root / "same" / name).is_file():
            source, copy = corpus.root / "same" / name, tar / "same" / name
            assert copy.read_bytes() == source.read_bytes()
            assert copy.stat().st_mode == source.stat().st_mode
            assert (copy.stat().st_uid, copy.stat().st_gid) == (
                source.stat().st_uid, source.stat().st_gid,
            )  # fmt: skip


@contextmanager
def stream_of(archive: Path) -> Iterator[Any]:
    """Give the content of an archive, as zstd gives it."""
    with subprocess.Popen(["zstd", "-dcq", archive], stdout=subprocess.PIPE) as process:
        yield process.stdout
    assert process.returncode == 0


def members_of(archive: Path) -> list[tarfile.TarInfo]:
    """Return the members of a stream as Python's tarfile reads them."""
    with stream_of(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        return list(tar)


def names_in(archive: str | Path, folder: Path) -> set[str]:
    """Return the paths in an archive, but for the root, as tarfile reads them."""
    names = {member.name.removeprefix("./").rstrip("/") for member in members_of(folder / archive)}
    return names - {".", ""}


def test_pythons_tarfile_reads_every_member(corpus: Corpus, onggi: Any) -> None:
    kinds = {
        stat.S_IFREG: tarfile.TarInfo.isreg, stat.S_IFDIR: tarfile.TarInfo.isdir,
        stat.S_IFLNK: tarfile.TarInfo.issym, stat.S_IFCHR: tarfile.TarInfo.ischr,
        stat.S_IFBLK: tarfile.TarInfo.isblk, stat.S_IFIFO: tarfile.TarInfo.isfifo,
    }  # fmt: skip
    seen: dict[bytes, tarfile.TarInfo] = {}
    archive = corpus.archive(onggi, "--no-dedup")
    with stream_of(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            path = os.fsencode(member.name.removeprefix("./").rstrip("/")) or b"."
            assert path not in seen
            seen[path] = member
            entry = corpus.entries[path]
            if member.islnk():
                other = os.fsencode(member.linkname.removeprefix("./"))
                assert other in seen
                group = {entry.same_as or path, corpus.entries[other].same_as or other}
                assert len(group) == 1, "a hard link to another file"
                continue
            assert kinds[entry.kind](member), path
            assert (member.mode, member.uid, member.gid) == (entry.mode, entry.uid, entry.gid)
            assert member.size == entry.size or not member.isreg()
            assert abs(member.mtime * SECOND - entry.mtime_ns) < 1e4, path
            if entry.kind == stat.S_IFLNK:
                assert os.fsencode(member.linkname) == entry.target
            if entry.kind in (stat.S_IFCHR, stat.S_IFBLK):
                assert os.makedev(member.devmajor, member.devminor) == entry.device
            if member.isreg() and path != os.fsencode(GIANT):
                file = tar.extractfile(member)
                assert file
                data = file.read()
                if not path.startswith(DEEP.encode()):
                    assert data == (corpus.root / os.fsdecode(path)).read_bytes(), path
                assert len(data) == entry.size
    assert set(seen) == set(corpus.entries)
    first = next(iter(seen))
    assert first == b"."


@pytest.mark.needs("bsdtar")
@pytest.mark.parametrize("way", ["zstd | bsdtar", "bsdtar", "bsdtar --zstd"])
def test_bsdtar_restores_names_sizes_and_content(
    way: str, corpus: Corpus, onggi: Any, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What libarchive 3.6 can't do without complaint: names that are not in the encoding of the
    # locale. What it does wrong: fractions of seconds before 1970; numbers of 2^31 and more in
    # ACLs; `=` and `%` in the names of extended attributes. What it does not do: file flags, and
    # paths of 4,096 bytes and more.
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    archive, back = corpus.archive(onggi, "--no-dedup"), target / "back"
    back.mkdir()
    if way == "zstd | bsdtar":
        stream = 'zstd -dcq "$1" | bsdtar -C "$2" --exclude "$3" -xpf -'
        command = ["bash", "-c", stream, "bash", archive, back, DEEP]
    else:
        command = [*way.split(), "-C", back, "--exclude", DEEP, "-xpf", archive]
    done = subprocess.run(command, capture_output=True, check=False)
    complaints = {line for line in done.stderr.splitlines() if b"current locale" not in line}
    assert complaints <= {b"bsdtar: Error exit delayed from previous errors."}, done.stderr
    expected, found = without(corpus.entries, DEEP), snapshot(back)
    lines = differences(expected, found, ignore=("flags", "mtime_ns", "attributes"))
    assert lines == []


# --- what is packed ------------------------------------------------------------------------------


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


PATTERNS: list[tuple[str, ...]] = [
    ("*.o",), ("./build",), ("docs/*.txt",), ("a?c",), ("er/file",), ("*~",), (r"\*",), ("sub/",),
    ("**/deep",), ("!keep",), ("/build",), ("[!a]bc",), ("[^a]bc",), ("[a-c]bc",), ("*.o", "docs"),
    ("de*le",), ("caf*",), ("bra[ck",), (r"back\\slash",), ("*/",), ("x1 ",), ("deep//er",),
    ("docs/./a.txt",), ("[[:digit:]]*",), ("x[[:digit:]]",), ("{a,b}c",), ("", "with space"),
]  # fmt: skip


@pytest.fixture(scope="module")
def plain_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plant a tree whose names patterns may or may not match."""
    root = tmp_path_factory.mktemp("plain") / "root"
    names = (
        "main.o", "main.c", "build/out", "build/main.o", "sub/build/x", "docs/a.txt",
        "docs/old/b.txt", "docs/c.md", "docs.txt", "cache/z", "sub/cache/z", "abc", "bbc", "zbc",
        "aXc", "x1", "y2", "deep/er/file", "deep/er/other", "file", "deep/file", "old~", "*", "**",
        "a*b", ".git/config", ".hidden", "with space", "!keep", "/sub/sub/f", "bra[ck",
        "back\\slash", "#x", "x1 ", "{a,b}c", "7up", "deep/.git/HEAD", "caf\udce9", "de/tab/le",
    )  # fmt: skip
    for name in names:
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


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


# --- what is unpacked, and over what -------------------------------------------------------------


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


# --- looked into ---------------------------------------------------------------------------------

KIND_WORDS = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character-device", stat.S_IFBLK: "block-device", stat.S_IFIFO: "fifo",
}  # fmt: skip


def entries_of(ran: Any) -> dict[bytes, dict[str, Any]]:
    """Return the entries that a run tells as JSON, by path."""
    told = [record for record in ran.records if record["type"] == "entry"]
    found = {os.fsencode(record["path"]): record for record in told}
    assert len(found) == len(told)
    return found


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


# --- as another user -----------------------------------------------------------------------------

# All of Onggi is imported before the rights go, and what it imports late: the interpreter may stand
# where only root can read.
# The last call makes /proc/self readable again, as it is for a process that began as that user.
_AS_USER = """
import ctypes, importlib, os, pkgutil, sys, tempfile
import onggi, onggi.archive, onggi.cli
for package in (onggi.archive, onggi.cli):
    for each in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if not each.name.endswith("__main__"):
            importlib.import_module(each.name)
os.setgroups([]); os.setresgid(*[int(sys.argv[1])] * 3); os.setresuid(*[int(sys.argv[1])] * 3)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
sys.argv[1:] = sys.argv[2:]
onggi.cli.main.main()
"""


@pytest.fixture
def home(onggi: Any) -> Iterator[Path]:
    """Give a folder of a user without rights; the command runs there, and as that user.

    pytest's own folders are root's alone.
    """
    folder = Path(tempfile.mkdtemp(prefix="onggi-test-"))
    os.chown(folder, USER, USER)
    onggi.folder = folder
    onggi.command = [sys.executable, "-c", _AS_USER, str(USER)]
    yield folder
    shutil.rmtree(folder)


def as_user(action: Callable[[], None]) -> None:
    """Do something in a child that has no rights."""
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(USER, USER, USER)
            os.setresuid(USER, USER, USER)
            action()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_any_user_packs_and_unpacks_what_is_his(home: Path, onggi: Any) -> None:
    with filesystem(home / "ext4", EXT4) as place:
        os.chown(place, USER, USER)
        (place / "source").mkdir()
        os.chown(place / "source", USER, USER)
        as_user(lambda: make_corpus(place / "source", EXT4, privileged=False))
        expected = snapshot(place / "source")
        assert len(expected) > 200
        ran = onggi.ok("pack", place / "source", "a.onggi", "--json")
        assert ran.findings == []
        onggi.ok("verify", "a.onggi", "--against", place / "source")
        ran = onggi.ok("unpack", "a.onggi", place / "back", "--same-owner", "--json")
        assert ran.findings == []
        hold_same(place / "source", place / "back", expected)
        # Without owners, no file is setuid: it could be so for another user than it was.
        ran = onggi("unpack", "a.onggi", place / "safe", "--json")
        told = {os.fsencode(finding["path"]) for finding in ran.findings}
        found = snapshot(place / "safe")
        changed = {path for path, entry in expected.items() if found[path] != entry}
        assert changed == told
        assert b"modes/file-4755" in told
        for path in told:
            assert found[path].mode == expected[path].mode & ~0o6000


def test_what_a_user_may_not_read_is_told_and_all_else_is_packed(home: Path, onggi: Any) -> None:
    tree = home / "tree"
    for name in ("closed/inside", "open/mine", "secret", "plain"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(noisy(20_000, len(name)))
    (tree / "closed").chmod(0o700)
    (tree / "secret").chmod(0o600)
    ran = onggi("pack", tree, "a.onggi", "--json")
    assert ran.code == 1, ran.err
    assert sorted(finding["path"] for finding in ran.findings) == ["closed", "secret"]
    assert onggi("verify", "a.onggi").code in (0, 1)
    # The folder is there, without what is in it; the file is not, or is marked as incomplete.
    assert names_in("a.onggi", home) - {"secret"} == {"closed", "open", "open/mine", "plain"}
    onggi("unpack", "a.onggi", "back")
    assert (home / "back" / "plain").read_bytes() == noisy(20_000, 5)
    ran = onggi.fails(5, "pack", tree / "closed", "b.onggi")
    assert os.strerror(errno.EACCES) in ran.err


def test_what_a_user_may_not_restore_is_told_by_path_and_kind(
    corpus: Corpus, home: Path, onggi: Any
) -> None:
    archive = home / "corpus.onggi"
    shutil.copy(corpus.archive(onggi_as_root(onggi)), archive)
    archive.chmod(0o644)
    with filesystem(home / "ext4", EXT4) as place:
        os.chown(place, USER, USER)
        ran = onggi("unpack", archive, place / "back", "--json")
        assert ran.code == 1, ran.err
        found = snapshot(place / "back")
        told: dict[bytes, str] = {}
        for finding in ran.findings:
            path = os.fsencode(finding["path"])
            told[path] = told.get(path, "") + finding["message"]
        lost = {path for path, e in corpus.entries.items() if e.device}
        # What can't be made at all, and only that.
        assert set(corpus.entries) - set(found) == lost
        assert lost <= set(told)
        for path, entry in corpus.entries.items():
            names = {name for name, _ in entry.attributes if not name.startswith("user.")}
            names -= {"system.posix_acl_access", "system.posix_acl_default"}
            for name in names if path not in lost and not entry.same_as else ():
                assert name in told[path], path
            if entry.flags & 0x30 and not entry.same_as:
                assert "flags" in told[path], path
        # Owners are no finding: nobody but root restores them. Nor are they changed into setuid
        # programs of somebody else.
        expected = {path: entry for path, entry in corpus.entries.items() if path not in lost}
        ignored = ("uid", "gid", "flags", "attributes", "mode", "same_as")
        assert differences(expected, found, ignore=ignored) == []
        for path, entry in expected.items():
            assert (found[path].uid, found[path].gid) == (USER, USER)
            assert found[path].mode & 0o777 == entry.mode & 0o777, path
            mine = [(name, value) for name, value in entry.attributes if name[:5] == "user."]
            kept = [(name, value) for name, value in found[path].attributes if name[:5] == "user."]
            assert mine == kept, path


def onggi_as_root(onggi: Any) -> Any:
    """Return the same command, as root."""
    return type(onggi)(onggi.folder)


# --- owners --------------------------------------------------------------------------------------


@pytest.mark.needs("mount", "unshare")
def test_owners_are_found_by_name_where_the_target_knows_it(onggi: Any, target: Path) -> None:
    tree = onggi.folder / "tree"
    tree.mkdir()
    for name, (uid, gid) in {"known": (5001, 5002), "unknown": (5003, 5004)}.items():
        (tree / name).write_bytes(b"x")
        os.chown(tree / name, uid, gid)

    def system(uid: int, gid: int) -> tuple[str, ...]:
        """Run under a system that knows a user and a group by other numbers."""
        for file, line in (("passwd", f"kimchi:x:{uid}:{gid}::/:/bin/false"),
                           ("group", f"jars:x:{gid}:")):  # fmt: skip
            text = Path(f"/etc/{file}").read_text()
            (onggi.folder / f"{file}-{uid}").write_text(f"{text.rstrip()}\n{line}\n")
        mount = f"mount --bind passwd-{uid} /etc/passwd && mount --bind group-{uid} /etc/group"
        return ("unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh")

    onggi.ok("pack", tree, "a.onggi", prefix=system(5001, 5002))
    cases = {
        ("by-name",): ((6001, 6002), (5003, 5004)),
        ("by-number", "--numeric-owner"): ((5001, 5002), (5003, 5004)),
        ("nobody", "--no-same-owner"): ((0, 0), (0, 0)),
    }
    for (name, *options), owners in cases.items():
        onggi.ok("unpack", "a.onggi", target / name, *options, prefix=system(6001, 6002))
        found = [(target / name / file).stat() for file in ("known", "unknown")]
        assert tuple((each.st_uid, each.st_gid) for each in found) == owners, name
    # GNU tar does the same.
    (target / "tar").mkdir()
    tar = ("tar", "-C", str(target / "tar"), "--zstd", "-xpf", str(onggi.folder / "a.onggi"))
    subprocess.run([*system(6001, 6002), *tar], check=True, cwd=onggi.folder)
    assert ((target / "tar" / "known").stat().st_uid, 6002) == (6001, 6002)
