"""Trees restored and read by other programs: GNU tar, bsdtar and Python's tarfile."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from .tree_corpus import (
    DEEP,
    GIANT,
    SECOND,
    Snapshot,
    differences,
    rsync_differences,
    run,
    snapshot,
)
from .tree_helpers import NEEDS, Corpus, members_of, stream_of
from .tree_helpers import corpus as corpus
from .tree_helpers import target as target

pytestmark = NEEDS


def without(entries: Snapshot, *tops: str) -> Snapshot:
    """Return a snapshot without some paths and all below them."""
    gone = tuple(os.fsencode(top) for top in tops)
    return {
        path: entry
        for path, entry in entries.items()
        if path not in gone and not path.startswith(tuple(top + b"/" for top in gone))
    }


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
