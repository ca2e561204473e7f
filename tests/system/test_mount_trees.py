"""Mounted trees are the trees that were packed, whatever looks at them."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .mount_helpers import Server, Shows, error_name, run, tried
from .mount_helpers import kept as kept
from .mount_helpers import shows as shows
from .tree_corpus import (
    DEEP,
    GIANT,
    SOCKET,
    allocated,
    differences,
    find_listing,
    noisy,
    rsync_differences,
    snapshot,
    walk,
)
from .tree_helpers import NEEDS, SMALL, Corpus
from .tree_helpers import corpus as corpus

pytestmark = [NEEDS, pytest.mark.needs("fuse", "mount")]

# What no mount shows: chattr's flags are not asked for through FUSE.
UNSEEN = ("flags",)


@pytest.fixture
def shown(corpus: Corpus, onggi: Any, kept: Shows) -> Server:
    """The corpus, mounted."""
    return kept.once(corpus.archive(onggi))


# --- all of it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), SMALL], ids=["default", "small-units"])
@pytest.mark.parametrize("helper", ["compiled", "pure"])
def test_every_kind_of_entry_is_shown_as_it_was(
    helper: str,
    options: tuple[str, ...],
    corpus: Corpus,
    onggi: Any,
    shows: Shows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive = corpus.archive(onggi, *options)
    if helper == "pure":
        monkeypatch.setenv("ONGGI_PURE", "1")
    server = shows(archive)
    for _ in range(2):  # what the kernel asks for, and then what it remembers
        assert differences(corpus.entries, snapshot(server.place), UNSEEN) == []
    assert rsync_differences(corpus.root, server.place) == ""
    assert set(find_listing(corpus.root)) ^ set(find_listing(server.place)) == set()
    assert server.log == []


def test_what_a_mount_shows_can_be_packed_again(corpus: Corpus, shown: Server, onggi: Any) -> None:
    ran = onggi.ok("pack", shown.place, "again.onggi", "--mode", "tree", "--json")
    assert ran.findings == []
    ran = onggi("diff", corpus.archive(onggi), "again.onggi", "--json")
    # The flags of files are not seen; all else is the same.
    assert all("flags" in finding["message"] for finding in ran.findings), ran.findings
    assert all(finding["path"].startswith("flags/") for finding in ran.findings)


def test_diff_finds_no_difference(corpus: Corpus, shown: Server) -> None:
    # For diff two FIFOs differ, as devices do; the giant takes it long, the deep path is beyond it.
    kinds = (stat.S_ISFIFO, stat.S_ISCHR, stat.S_ISBLK, stat.S_ISSOCK)
    special = {
        visit.name.decode()
        for visit in walk(corpus.root)
        if any(is_kind(visit.status.st_mode) for is_kind in kinds)
    }
    names = {*special, DEEP, Path(GIANT).name}
    exclude = [word for name in sorted(names) for word in ("-x", name)]
    assert run("diff", "-r", "--no-dereference", *exclude, corpus.root, shown.place) == b""


TAR = (
    "tar", "--create", "--format=posix", "--sort=name", "--sparse", "--xattrs",
    "--xattrs-include=*", "--acls", "--numeric-owner",
    "--pax-option=delete=atime,delete=ctime",
)  # fmt: skip


class TarMember(NamedTuple):
    """What a tar tells of a member."""

    name: str
    type: bytes
    mode: int
    owner: tuple[int, int]
    mtime: str
    size: int
    target: str
    device: tuple[int, int]
    more: tuple[tuple[str, str], ...]  # attributes, ACLs, ...
    runs: tuple[tuple[int, int], ...]
    digest: str  # of the bytes of all runs


def members_of(path: Path) -> list[TarMember]:
    found: list[TarMember] = []
    with tarfile.open(path) as tar, path.open("rb") as raw:
        for each in tar:
            runs: Any = each.sparse or [(0, each.size if each.isreg() else 0)]
            content = os.pread(raw.fileno(), sum(length for _, length in runs), each.offset_data)
            found.append(
                TarMember(
                    each.name, each.type, each.mode, (each.uid, each.gid),
                    each.pax_headers.get("mtime", str(each.mtime)), each.size, each.linkname,
                    (each.devmajor, each.devminor), tuple(sorted(each.pax_headers.items())),
                    tuple(runs), hashlib.sha256(content).hexdigest(),
                )
            )  # fmt: skip
    return found


def hold_same_tars(source: Path, shown: Path, folder: Path, *exclude: str) -> None:
    """Hold that tar makes the same members of two folders."""
    options = [f"--exclude=./{name}" for name in exclude]
    tars = (folder / "of-source.tar", folder / "of-mount.tar")
    for root, path in zip((source, shown), tars, strict=True):
        run(*TAR, *options, "-C", root, "-f", path, ".")
    before, after = map(members_of, tars)
    assert [each.name for each in before] == [each.name for each in after]
    assert [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]] == []
    for path in tars:
        path.unlink()


def test_tar_makes_the_same_of_both(corpus: Corpus, shown: Server, tmp_path: Path) -> None:
    hold_same_tars(corpus.root, shown.place, tmp_path, SOCKET)


# --- a tree that people have ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The first 6,000 entries of the Linux sources."""
    archives = sorted(Path("/usr/src").glob("linux-source-*.tar.xz"))
    assert archives, "./test installs the package linux-source"
    root = tmp_path_factory.mktemp("linux") / "source"
    with tarfile.open(archives[-1], "r|xz") as tar:
        for number, member in enumerate(tar):
            tar.extract(member, root, filter="tar")
            if number == 6000:
                break
    yield root
    shutil.rmtree(root)


def test_linux_sources_are_shown_as_they_were(
    sources: Path, onggi: Any, shows: Shows, tmp_path: Path
) -> None:
    onggi.ok("pack", sources, "linux.onggi")
    server = shows(tmp_path / "linux.onggi", "--cache", "8M")
    assert run("diff", "-r", "--no-dereference", sources, server.place) == b""
    assert rsync_differences(sources, server.place) == ""
    assert rsync_differences(server.place, sources) == ""
    hold_same_tars(sources, server.place, tmp_path)
    assert set(find_listing(sources)) == set(find_listing(server.place))
    run("cp", "-a", server.place, tmp_path / "copied")
    assert rsync_differences(sources, tmp_path / "copied") == ""
    shutil.rmtree(tmp_path / "copied")
    assert server.log == []


def test_many_who_read_a_tree_at_once_read_the_same(
    sources: Path, onggi: Any, shows: Shows, tmp_path: Path
) -> None:
    onggi.ok("pack", sources, "linux.onggi", "--frame-size", "64K")
    server = shows(tmp_path / "linux.onggi", "--cache", "2M", "--threads", "3")
    script = "find . -type f -print0 | sort -zR | xargs -0 sha256sum | sort -k2"
    expected = run("sh", "-c", script, cwd=sources)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: run("sh", "-c", script, cwd=server.place), range(4)))
    assert all(each == expected for each in found)
    assert server.log == []


# --- links, holes, times -------------------------------------------------------------------------


def test_hard_links_share_a_number_and_are_counted(corpus: Corpus, shown: Server) -> None:
    groups: dict[tuple[int, int], set[bytes]] = defaultdict(set)
    for visit in walk(corpus.root):
        groups[visit.status.st_dev, visit.status.st_ino].add(visit.path)
    found: dict[int, set[bytes]] = defaultdict(set)
    links: dict[bytes, int] = {}
    for visit in walk(shown.place):
        found[visit.status.st_ino].add(visit.path)
        links[visit.path] = visit.status.st_nlink
    expected = [names for names in groups.values() if names != {SOCKET.encode()}]
    assert sorted(map(sorted, found.values())) == sorted(map(sorted, expected))
    assert sum(len(names) > 1 for names in found.values()) > 5
    for names in found.values():
        assert {links[name] for name in names} == {len(names)}
    # What readdir tells is what stat tells.
    with os.scandir(shown.place / "links") as entries:
        for entry in entries:
            assert entry.inode() == entry.stat(follow_symlinks=False).st_ino


def test_the_blocks_of_sparse_files_are_those_of_their_data(corpus: Corpus, shown: Server) -> None:
    found = allocated(shown.place)
    for path, entry in corpus.entries.items():
        if stat.S_ISREG(entry.kind) and not path.startswith(DEEP.encode()):
            data_bytes = sum(length for _, length in entry.data)
            assert found[path] == -(-data_bytes // 512) * 512, path
    assert found[GIANT.encode()] < 32_768
    assert found[b"sparse/all-hole"] == 0


def seeks(path: Path, offsets: list[int]) -> list[object]:
    """Return where data and holes begin from offsets on, or the error."""
    found: list[object] = []
    file = os.open(path, os.O_RDONLY)
    try:
        for offset in offsets:
            for whence in (os.SEEK_DATA, os.SEEK_HOLE):
                try:
                    found.append(os.lseek(file, offset, whence))
                except OSError as error:
                    found.append(errno.errorcode[error.errno or 0])
    finally:
        os.close(file)
    return found


def test_data_and_holes_are_found_from_any_offset_as_in_the_original(
    corpus: Corpus, shown: Server
) -> None:
    for path in sorted((corpus.root / "sparse").iterdir()):
        size = path.stat().st_size
        edges = [edge for run in corpus.entries[b"sparse/" + os.fsencode(path.name)].data
                 for edge in (run[0], sum(run))][:60]  # fmt: skip
        offsets = {0, 1, size // 2, size - 1, size, size + 1, *edges}
        offsets |= {edge - 1 for edge in edges if edge} | {edge + 1 for edge in edges}
        near = sorted(offsets)
        assert seeks(shown.place / "sparse" / path.name, near) == seeks(path, near), path.name
    assert seeks(shown.place / "files" / "0-bytes", [0]) == ["ENXIO", "ENXIO"]


def test_reads_across_holes_and_ends_give_what_the_original_gives(
    corpus: Corpus, shown: Server
) -> None:
    for name in ("many-runs", "uneven-runs", "one-byte", "hole-last-odd", "giant"):
        one, two = corpus.root / "sparse" / name, shown.place / "sparse" / name
        size = one.stat().st_size
        places = [(0, 70_000), (size - 70_001, 80_000), (size, 10), (size + 5, 10)]
        places += [(at * 9973, 4096 * 3 + at) for at in range(60)]
        with one.open("rb") as first, two.open("rb") as second:
            for offset, length in places:
                expected = os.pread(first.fileno(), length, offset)
                assert os.pread(second.fileno(), length, offset) == expected, (name, offset)


# --- attributes ----------------------------------------------------------------------------------


@pytest.mark.needs("getfattr", "getfacl")
def test_getfattr_and_getfacl_tell_the_same(corpus: Corpus, shown: Server) -> None:
    for words in (
        ("getfacl", "-R", "-n", "-P", "acls"),
        ("getfattr", "-R", "-P", "-h", "-d", "-m", "-", "-e", "hex", "attributes"),
    ):
        # Each goes by the order in which it finds the files.
        told = [sorted(run(*words, cwd=root).split(b"\n\n")) for root in (corpus.root, shown.place)]
        assert told[0] == told[1], words
    assert b"user:54321:r--" in run("getfacl", "-n", "file", cwd=shown.place / "acls")


def test_an_attribute_is_given_in_whole_or_not_at_all(shown: Server) -> None:
    path = os.fsencode(shown.place / "attributes" / "long-value")
    libc = ctypes.CDLL(None, use_errno=True)
    length = len(os.getxattr(path, "user.long"))
    assert length == 60_000

    def get(size: int) -> tuple[int, int]:
        buffer = ctypes.create_string_buffer(length)
        got = libc.getxattr(path, b"user.long", buffer, ctypes.c_size_t(size))
        return got, ctypes.get_errno() if got < 0 else 0

    assert get(0) == get(length) == (length, 0)
    assert get(length - 1) == get(1) == (-1, errno.ERANGE)
    names = b"".join(name.encode() + b"\0" for name in os.listxattr(path))
    assert libc.listxattr(path, None, 0) == len(names)
    assert libc.listxattr(path, ctypes.create_string_buffer(8), 1) == -1
    assert ctypes.get_errno() == errno.ERANGE
    assert error_name(lambda: os.getxattr(path, "user.none")) == "ENODATA"
    assert os.listxattr(shown.place / "at-the-top") == []


# --- names and folders ---------------------------------------------------------------------------


def test_what_is_not_there_is_not_there(shown: Server) -> None:
    place = shown.place
    for _ in range(2):
        assert error_name((place / "none").stat) == "ENOENT"
        assert error_name((place / "files" / "none" / "below").stat) == "ENOENT"
        assert error_name((place / "at-the-top" / "below").stat) == "ENOTDIR"
        assert error_name((place / "AT-THE-TOP").stat) == "ENOENT"
        assert error_name((place / ("n" * 256)).stat) in ("ENAMETOOLONG", "ENOENT")
    assert error_name(lambda: os.listdir(place / "at-the-top")) == "ENOTDIR"
    assert error_name((place / "files").read_bytes) == "EISDIR"
    assert error_name(lambda: os.readlink(place / "at-the-top")) == "EINVAL"


def test_a_folder_of_very_many_names_is_listed_whole_from_anywhere(
    onggi: Any, shows: Shows, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    (tree / "folder").mkdir(parents=True)
    names = [f"{number * 7919 % 20_011}-{'n' * (number % 97)}" for number in range(20_000)]
    for name in names:
        (tree / "folder" / name).touch()
    onggi.ok("pack", tree, "a.onggi")
    server = shows(tmp_path / "a.onggi")
    folder = server.place / "folder"
    with ThreadPoolExecutor(4) as pool:  # at once, while the kernel knows nothing yet
        for listed in pool.map(lambda _: os.listdir(folder), range(4)):
            assert sorted(listed) == sorted(names)
    assert sorted(os.listdir(folder)) == sorted(names)
    # What telldir told brings seekdir back, in any order.
    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = libc.readdir64.restype = ctypes.c_void_p
    libc.telldir.restype = ctypes.c_long
    opened = ctypes.c_void_p(libc.opendir(os.fsencode(folder)))
    told: list[tuple[int, bytes]] = []
    while True:
        where = libc.telldir(opened)
        entry = libc.readdir64(opened)
        if not entry:
            break
        told.append((where, ctypes.string_at(entry + 19)))
    assert len(told) == len(names) + 2
    for number in (len(told) - 1, 0, 1, 2, 3, 15_000, 5000, 5001):
        libc.seekdir(opened, ctypes.c_long(told[number][0]))
        assert ctypes.string_at(libc.readdir64(opened) + 19) == told[number][1]
    libc.closedir(opened)


# --- read-only -----------------------------------------------------------------------------------


def test_whatever_would_change_something_is_refused(shown: Server) -> None:
    place = shown.place
    file, folder = place / "files" / "4096-bytes", place / "folders" / "empty"
    before = file.read_bytes()
    changes: list[Callable[[], object]] = [
        lambda: os.open(file, os.O_WRONLY),
        lambda: os.open(file, os.O_RDWR | os.O_TRUNC),
        lambda: os.open(place / "new", os.O_WRONLY | os.O_CREAT),
        lambda: os.truncate(file, 0),
        lambda: os.unlink(file),
        lambda: os.rename(file, place / "renamed"),
        lambda: os.link(file, place / "linked"),
        lambda: os.symlink("x", place / "symlink"),
        lambda: os.mkdir(place / "new"),
        lambda: os.rmdir(folder),
        lambda: os.mknod(place / "fifo", stat.S_IFIFO | 0o600),
        lambda: os.chmod(file, 0o777),
        lambda: os.chown(file, 1, 1),
        lambda: os.utime(file, ns=(0, 0)),
        lambda: os.setxattr(file, "user.new", b"1"),
        lambda: os.removexattr(place / "attributes" / "binary-value", "user.binary"),
    ]
    assert [error_name(change) for change in changes] == ["EROFS"] * len(changes)
    assert not os.access(file, os.W_OK)
    assert file.read_bytes() == before


def test_devices_are_shown_and_are_none(corpus: Corpus, shown: Server) -> None:
    for name in ("null-character", "null-block", "most-character"):
        found = (shown.place / "special" / name).lstat()
        assert found.st_rdev == (corpus.root / "special" / name).lstat().st_rdev
        assert error_name((shown.place / "special" / name).read_bytes) == "EACCES"


def test_a_file_system_tells_that_it_is_full_and_read_only(corpus: Corpus, shown: Server) -> None:
    found = os.statvfs(shown.place)
    assert found.f_flag & os.ST_RDONLY
    assert found.f_flag & os.ST_NOSUID
    assert (found.f_bfree, found.f_bavail, found.f_ffree) == (0, 0, 0)
    assert found.f_files == len(corpus.entries)
    assert found.f_blocks * found.f_frsize >= 5 << 20
    assert found.f_namemax == 255
    shown_by_df = run("df", "--output=fstype,pcent", shown.place).split()
    assert shown_by_df[-2:] == [b"fuse.onggi", b"100%"]


# --- programs that use what is there -------------------------------------------------------------

_MAP = """
import hashlib, mmap, sys
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
    whole = hashlib.sha256(view).hexdigest()
    parts = hashlib.sha256(b"".join(view[at : at + 100] for at in range(0, len(view), 4999)))
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE) as view:
    view[:5] = b"mine!"
    assert view[:5] == b"mine!"
print(whole, parts.hexdigest())
"""


@contextmanager
def tree_of(tmp_path: Path, onggi: Any, shows: Shows, *sources: Path) -> Iterator[Server]:
    """Mount an archive of files, in small frames."""
    onggi.ok("pack", *sources, "files.onggi", "--mode", "tree", "--frame-size", "64K")
    yield shows(tmp_path / "files.onggi")


def test_files_are_mapped_into_memory(onggi: Any, shows: Shows, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    data = noisy(3_000_001, 4)
    (tree / "file").write_bytes(data)
    with tree_of(tmp_path, onggi, shows, tree) as server:
        # In a process of its own: a page that can't be read ends it.
        said = run(sys.executable, "-c", _MAP, server.place / "file").decode().split()
        parts = b"".join(data[at : at + 100] for at in range(0, len(data), 4999))
        assert said == [hashlib.sha256(each).hexdigest() for each in (data, parts)]
        assert (server.place / "file").read_bytes() == data


def test_programs_run_from_a_mount(onggi: Any, shows: Shows, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    program = shutil.which("sha256sum")
    assert program
    shutil.copy(program, tree / "program")
    (tree / "script").write_text("#!/bin/sh\necho kimchi $1\n")
    (tree / "script").chmod(0o755)
    (tree / "plain").write_text("#!/bin/sh\n")
    with tree_of(tmp_path, onggi, shows, tree) as server:
        place = server.place
        assert run(place / "program", place / "plain").startswith(
            hashlib.sha256(b"#!/bin/sh\n").hexdigest().encode()
        )
        assert run(place / "script", "jar") == b"kimchi jar\n"
        assert error_name(lambda: subprocess.run([place / "plain"], check=False)) == "EACCES"


@pytest.mark.parametrize("mode", ["mode=ro", "immutable=1", "mode=ro&immutable=1"])
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_sqlite_reads_a_database(
    mode: str, journal: str, onggi: Any, shows: Shows, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    made = sqlite3.connect(tree / "jars.db")
    made.execute(f"pragma journal_mode={journal}")
    made.execute("create table jars (id integer primary key, name text)")
    made.executemany(
        "insert into jars (name) values (?)", ((f"jar {number * 7}",) for number in range(30_000))
    )
    made.execute("create index by_name on jars (name)")
    made.commit()
    expected = made.execute("select sum(id), count(distinct name) from jars").fetchone()
    made.close()
    assert [each.name for each in tree.iterdir()] == ["jars.db"]
    with tree_of(tmp_path, onggi, shows, tree) as server:
        opened = sqlite3.connect(f"file:{server.place / 'jars.db'}?{mode}", uri=True)
        try:
            if journal == "wal" and mode == "mode=ro":
                # Without a shared memory file that can be made, SQLite itself refuses.
                with pytest.raises(sqlite3.OperationalError):
                    opened.execute("select 1 from jars").fetchone()
                return
            query = "select sum(id), count(distinct name) from jars"
            assert opened.execute(query).fetchone() == expected
            assert opened.execute("pragma integrity_check").fetchone() == ("ok",)
            found = opened.execute("select id from jars where name = 'jar 70000'").fetchone()
            assert found == (10_001,)
            with pytest.raises(sqlite3.OperationalError):
                opened.execute("delete from jars")
        finally:
            opened.close()
    assert tried("mountpoint", "-q", server.place).returncode == 0
