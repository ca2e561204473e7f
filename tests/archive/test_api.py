"""The library: real archives of real folders, read as Python code reads them."""

from __future__ import annotations

import ast
import bisect
import builtins
import errno
import io
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from onggi import archive
from onggi.archive import layout
from onggi.archive.reader import Archive
from onggi.archive.store import FileStore, MemoryStore, Store

FIXTURES = Path(__file__).parents[2] / "fixtures/archives"
FRAME = 4096
UNIT = 16_384
IDENTITY = UUID("6f6e6767-6921-4a61-b272-6f6620746573")
SIZES = {"below": FRAME - 1, "at": FRAME, "above": FRAME + 1, "units": 2 * UNIT + 77}
NO_UTF8 = b"caf\xe9 \xff"


class CountingStore:
    """Remembers where it was read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reads: list[tuple[int, int]] = []

    @property
    def size(self) -> int:
        return self._store.size

    def read_at(self, archive_offset: int, size: int, /) -> bytes:
        self.reads.append((archive_offset, size))
        return self._store.read_at(archive_offset, size)

    def read_into(self, archive_offset: int, view: memoryview, /) -> int:
        self.reads.append((archive_offset, len(view)))
        return self._store.read_into(archive_offset, view)


class Frames:
    """Where the frames of an archive stand, and which of them reads have touched."""

    def __init__(self, path: Path) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []
        with FileStore(path) as store:
            opened = Archive(store)
            for unit in opened.index.units():
                at = unit.payload_offset
                for frame in opened.index.frames(unit):
                    self.starts.append(at)
                    at += frame.stored_bytes
                    self.ends.append(at)

    def touched(self, store: CountingStore) -> set[int]:
        """Return the numbers of the frames of which a byte was read."""
        numbers: set[int] = set()
        for at, size in store.reads:
            number = bisect.bisect_right(self.ends, at)
            while number < len(self.starts) and self.starts[number] < at + size:
                numbers.add(number)
                number += 1
        return numbers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A real folder with one of each thing that any user can make."""
    source = tmp_path / "source"
    (source / "data/deep").mkdir(parents=True)
    (source / "empty folder").mkdir()
    noise = random.Random(7)
    for name, size in SIZES.items():
        (source / "data" / name).write_bytes(noise.randbytes(size))
    (source / "empty").touch()
    (source / "text").write_text("one\ntwo\nthree\n")
    os.link(source / "data/units", source / "data/deep/again")
    (source / "link").symlink_to("data/units")
    os.mkfifo(source / "pipe", 0o640)
    Path(os.fsdecode(os.fsencode(source) + b"/" + NO_UTF8)).write_bytes(b"named in Latin-1")
    with (source / "sparse").open("wb") as file:
        file.seek(64 * 1024)
        file.write(b"in the middle" * 1000)
        file.truncate(1024 * 1024)
    os.chmod(source / "text", 0o4640)
    os.utime(source / "text", ns=(0, 1_234_567_890_123_456_789))
    return source


@pytest.fixture
def path(folder: Path, tmp_path: Path) -> Path:
    """An archive of the folder, in frames of 4 KiB and units of 16 KiB."""
    place = tmp_path / "packed.onggi"
    archive.pack_folder(folder, place, frame_bytes=FRAME, unit_bytes=UNIT, dedup=False)
    return place


@pytest.fixture
def opened(path: Path) -> Iterator[archive.OpenArchive]:
    with archive.open(path) as opened:
        yield opened


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the regular files below a folder: path and content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


# --- the package ---------------------------------------------------------------------------------


def test_importing_the_package_imports_no_module_of_it() -> None:
    code = (
        "import sys, onggi.archive as a; "
        "print(sorted(m for m in sys.modules if m.startswith('onggi'))); "
        "print(a.Severity.DAMAGE.value); "
        "print('onggi.archive.errors' in sys.modules, 'onggi.archive.api' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines() == ["['onggi', 'onggi.archive']", "damage", "True False"]


def test_all_that_the_package_promises_is_there() -> None:
    for name in archive.__all__:
        value = getattr(archive, name)
        assert value.__doc__, name
        assert value.__module__.startswith("onggi.archive."), name
        assert name in dir(archive)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        archive.nonsense  # noqa: B018


def test_what_checkers_of_types_see_is_what_is_imported_on_demand() -> None:
    tree = ast.parse((Path(__file__).parents[2] / "archive/__init__.py").read_text())
    declared = {
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    homes = {(module, name) for module, names in archive._HOMES.items() for name in names}
    assert declared == homes
    assert sorted(name for _, name in homes) == sorted(archive.__all__)


def test_no_public_name_is_that_of_a_module() -> None:
    """A module would take its place as soon as anybody imports it."""
    modules = {path.stem for path in (Path(__file__).parents[2] / "archive").glob("*.py")}
    assert not modules & set(archive.__all__)


# --- entries -------------------------------------------------------------------------------------


def test_facts_tell_what_was_packed(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.onggi"
    packed = archive.pack_folder(folder, path, uuid=IDENTITY, created_ns=5, level=1)
    with archive.open(path) as opened:
        assert (opened.kind, opened.uuid, opened.created_ns) == ("tree", IDENTITY, 5)
        assert opened.facts["source"] == {"paths": [str(folder)], "type": "tree"}
        assert opened.facts["writer"].startswith("onggi ")
        assert opened.member_count == packed.entries == sum(1 for _ in opened.walk())
        assert opened.archive_bytes == packed.archive_bytes == path.stat().st_size
        assert opened.content_bytes == packed.content_bytes
        assert "open" in repr(opened)
    assert "closed" in repr(opened)
    assert opened.uuid == IDENTITY


def test_a_walk_gives_everything_in_the_order_of_the_archive(
    opened: archive.OpenArchive, folder: Path
) -> None:
    paths = [entry.path for entry in opened.walk()]
    real = [path.relative_to(folder) for path in folder.rglob("*")]
    assert sorted(paths) == sorted(["", *map(str, real)])
    assert paths[0] == ""
    assert paths.index("data") < paths.index("data/at") < paths.index("data/deep")
    top = [os.fsencode(path) for path in paths[1:] if "/" not in path]
    assert top[: top.index(b"data")] == sorted(top[: top.index(b"data")])
    below = [entry.path for entry in opened.walk("/data/")]
    assert below == [path for path in paths if path.startswith("data")]
    assert [entry.path for entry in opened.walk(b"text")] == ["text"]


def test_entries_have_the_metadata_of_what_was_packed(
    opened: archive.OpenArchive, folder: Path
) -> None:
    for entry in opened.walk():
        real = (folder / entry.path).lstat()
        assert entry.mode == real.st_mode & 0o7777
        assert (entry.uid, entry.gid) == (real.st_uid, real.st_gid)
        assert entry.mtime_ns == real.st_mtime_ns
        if not entry.is_dir:
            assert (entry.size, entry.link_count) == (real.st_size, real.st_nlink)
        assert entry.name == entry.path.split("/")[-1]
        assert opened.stat(entry.path) == entry
    assert opened.stat("text").mtime_ns == 1_234_567_890_123_456_789
    assert opened.stat("text").mode == 0o4640


def test_entries_say_what_they_are(opened: archive.OpenArchive) -> None:
    kinds = {entry.path: entry.type for entry in opened.walk()}
    assert kinds["data"] == "directory"
    assert kinds["data/deep/again"] == kinds["sparse"] == "file"
    assert (kinds["link"], kinds["pipe"]) == ("symlink", "fifo")
    first, again = opened.stat("data/units"), opened.stat("data/deep/again")
    names = {"data/units", "data/deep/again"}
    assert {first.path, again.path} == names
    assert (first.hard_link_to, again.hard_link_to) == (None, "data/units")
    assert opened.stat("link").target == "data/units"
    assert opened.stat("link").is_symlink
    assert opened.stat("text").target is None
    assert opened.stat("sparse").is_sparse
    assert not opened.stat("text").is_sparse


def test_owners_devices_links_and_attributes_are_those_of_the_archive() -> None:
    with archive.open(FIXTURES / "ok-tree-types.onggi") as opened:
        file = opened.stat("file")
        assert (file.uid, file.user, file.gid, file.group) == (1000, "ann", 1000, "staff")
        assert opened.stat("tty").device == (5, 0)
        assert opened.stat("disk").device == (259, 2**20 - 1)
        assert opened.stat("disk").type == "block-device"
        assert file.device is None
    with archive.open(FIXTURES / "ok-tree-attributes.onggi") as opened:
        expected = {"user.one": b"first value", "user.two": b"\0binary\n\xff"}
        assert opened.stat("a").xattrs() == opened.stat("b").xattrs() == expected
        assert list(opened.stat("").xattrs()) == ["user." + "n" * 250]
        assert opened.stat("c").xattrs()[os.fsdecode(b"user.100% = \xc3\xa9\xff")] == b""
    with archive.open(FIXTURES / "ok-tree-owners.onggi") as opened:
        assert (opened.stat("b").user, opened.stat("b").group) == (None, None)
        assert opened.stat("d").user == "Jos\u00e9 \U0001f3fa"
    with archive.open(FIXTURES / "ok-tree-hard-links.onggi") as opened:
        assert opened.stat("f/c2").is_symlink
        assert (opened.stat("f/c2").target, opened.stat("f/c2").hard_link_to) == ("a", "c")
        assert opened.read("e/a3") == opened.read("a")
    with archive.open(FIXTURES / "ok-tree-changed.onggi") as opened:
        flags = {(entry.changed, entry.incomplete) for entry in opened.walk()}
        assert {(True, False), (False, True), (False, False)} <= flags


def test_directories_are_listed_in_the_order_of_their_names(
    opened: archive.OpenArchive, folder: Path
) -> None:
    for place in ("", "data", "empty folder", "/data/deep/"):
        names = opened.listdir(place)
        assert names == sorted(os.listdir(folder / place.strip("/")), key=os.fsencode)
        entries = list(opened.scandir(place))
        assert [entry.name for entry in entries] == names
        prefix = place.strip("/") + "/" if place else ""
        assert [entry.path for entry in entries] == [prefix + name for name in names]


def test_names_that_are_no_utf8_work_as_text_and_as_bytes(opened: archive.OpenArchive) -> None:
    text = os.fsdecode(NO_UTF8)
    assert text in opened.listdir()
    for path in (text, NO_UTF8, Path(text)):
        assert opened.exists(path)
        assert opened.stat(path).path == text
        assert opened.read(path) == b"named in Latin-1"
        with opened.open(path) as file:
            assert file.read() == b"named in Latin-1"
    assert not opened.exists("caf\u00e9 \u00ff")
    with pytest.raises(archive.BadUseError, match="can't be a path"):
        opened.exists("lone \ud800 surrogate")


# --- look-ups that fail --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inner", "error", "builtin", "number"),
    [
        ("nothing", archive.EntryNotFoundError, FileNotFoundError, errno.ENOENT),
        ("data/nothing/at/all", archive.EntryNotFoundError, FileNotFoundError, errno.ENOENT),
        ("text/below", archive.NotDirectoryError, NotADirectoryError, errno.ENOTDIR),
        ("text/far/below", archive.NotDirectoryError, NotADirectoryError, errno.ENOTDIR),
        ("link/at", archive.NotDirectoryError, NotADirectoryError, errno.ENOTDIR),
        ("data", archive.IsDirectoryError, IsADirectoryError, errno.EISDIR),
        ("", archive.IsDirectoryError, IsADirectoryError, errno.EISDIR),
        ("link", archive.NoFileError, OSError, errno.EINVAL),
        ("pipe", archive.NoFileError, OSError, errno.EINVAL),
    ],
)
def test_what_can_t_be_read_is_told_as_files_tell_it(
    opened: archive.OpenArchive,
    inner: str,
    error: type[archive.PathError],
    builtin: type[OSError],
    number: int,
) -> None:
    for read in (opened.read, opened.open):
        with pytest.raises(error) as caught:
            read(inner)
        assert isinstance(caught.value, builtin)
        assert isinstance(caught.value, archive.OnggiError)
        assert caught.value.errno == number
        assert caught.value.filename == inner.encode()
        assert str(caught.value).startswith("'")


def test_other_look_ups_fail_alike(opened: archive.OpenArchive) -> None:
    for lookup in (opened.stat, opened.walk, opened.scandir, opened.listdir):
        with pytest.raises(FileNotFoundError, match="'data/nothing' is not in the archive"):
            lookup("data/nothing")
        with pytest.raises(archive.BadUseError, match="can't hold"):
            lookup("data/../text")
    for listing in (opened.scandir, opened.listdir):
        with pytest.raises(NotADirectoryError, match="'text' is no directory"):
            listing("text")
    assert not opened.exists("data/nothing")
    assert not opened.exists("text/below")
    assert opened.exists("link")
    assert opened.exists("")
    with pytest.raises(archive.NoFileError, match="a symbolic link to 'data/units'"):
        opened.read("link")


# --- content -------------------------------------------------------------------------------------


def test_files_read_as_they_were(opened: archive.OpenArchive, folder: Path) -> None:
    expected = files_of(folder)
    assert len(expected) == len(SIZES) + 5
    for path, content in expected.items():
        assert opened.read(path) == content
        with opened.open(path) as file:
            assert file.read() == content
            assert file.size == len(content)


EDGES = [0, 1, FRAME - 1, FRAME, FRAME + 1, UNIT - 1, UNIT, UNIT + 1, 2 * UNIT + 76, 2 * UNIT + 77]


@pytest.mark.parametrize("inner", ["data/units", "data/deep/again"])
def test_parts_are_read_around_each_border(
    opened: archive.OpenArchive, folder: Path, inner: str
) -> None:
    content = (folder / inner).read_bytes()
    with opened.open(inner, buffer_bytes=64) as file:
        for start in [*EDGES, len(content) + 1]:
            for end in [*EDGES, len(content) + 9]:
                size = max(end - start, 0)
                assert opened.read(inner, start, size) == content[start : start + size]
                file.seek(start)
                assert file.read(size) == content[start : start + size]
            assert opened.read(inner, start) == content[start:]


def test_holes_read_as_zeros(opened: archive.OpenArchive, folder: Path) -> None:
    content = (folder / "sparse").read_bytes()
    data = 64 * 1024
    end = data + 13_000
    for at in (0, data - 1, data, data + 1, end - 1, end, end + 1, len(content) - 1):
        for size in (0, 1, 2, 5000, len(content)):
            assert opened.read("sparse", at, size) == content[at : at + size]


def test_a_file_larger_than_any_memory_is_read_in_parts() -> None:
    with archive.open(FIXTURES / "ok-tree-largest-files.onggi") as opened:
        size = opened.stat("a").size
        assert size == 2**63 - 1
        assert opened.read("a", size - 10) == bytes(10)
        with pytest.raises(archive.BadUseError, match="too many for one read"):
            opened.read("a")
        with opened.open("a") as file:
            assert file.seek(-3, os.SEEK_END) == size - 3
            assert file.read() == bytes(3)
            file.seek(0)
            with pytest.raises(archive.BadUseError, match="too many"):
                file.read()


def test_a_negative_number_is_refused(opened: archive.OpenArchive) -> None:
    for offset, size in ((-1, 5), (0, -1), (-1, None)):
        with pytest.raises(archive.BadUseError):
            opened.read("text", offset, size)


def test_an_open_file_is_a_file_of_python(opened: archive.OpenArchive, folder: Path) -> None:
    content = (folder / "data/units").read_bytes()
    with opened.open("data/units") as file:
        assert isinstance(file, io.BufferedReader)
        assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
        assert (file.mode, file.name) == ("rb", "data/units")
        into = bytearray(10_000)
        assert file.readinto(into) == 10_000
        assert into == content[:10_000]
        assert file.tell() == 10_000
        assert file.seek(-5, os.SEEK_CUR) == 9995
        assert file.peek(3)[:3] == content[9995:9998]
        assert file.seek(5, os.SEEK_END) == len(content) + 5
        assert (file.read(1), file.read()) == (b"", b"")
        with pytest.raises(ValueError, match="negative"):
            file.seek(-1)
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
    with opened.open("text") as file, io.TextIOWrapper(file) as text:
        assert list(text) == ["one\n", "two\n", "three\n"]
    assert file.closed
    with pytest.raises(ValueError, match="closed"):
        file.read()


def test_a_file_without_a_buffer_fills_what_it_is_given(
    opened: archive.OpenArchive, folder: Path
) -> None:
    content = (folder / "data/units").read_bytes()
    raw = opened.open("data/units").detach()
    words = memoryview(bytearray(8000)).cast("I")
    assert raw.readinto(words) == 8000
    assert words.tobytes() == content[:8000]
    assert raw.readall() == content[8000:]
    assert (raw.readall(), raw.read(5)) == (b"", b"")
    raw.seek(len(content) - 4)
    rest = bytearray(b"........")
    assert raw.readinto(rest) == 4
    assert rest == content[-4:] + b"...."
    with pytest.raises(ValueError, match="whence"):
        raw.seek(0, 7)
    raw.close()
    for use in (raw.tell, raw.readall, lambda: raw.seek(0), lambda: raw.readinto(rest)):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_only_the_frames_that_hold_the_bytes_are_read(path: Path, folder: Path) -> None:
    """A file begins anywhere in a frame: which frames are its own, single bytes tell."""
    frames = Frames(path)
    content = (folder / "data/units").read_bytes()
    with FileStore(path) as file:
        store = CountingStore(file)
        with archive.open(store, cache_bytes=0) as opened:
            opened.stat("data/units")
            assert frames.touched(store) == set()
            store.reads.clear()
            assert opened.read("data/units", 0, 1) == content[:1]
            (first,) = frames.touched(store)
            seen = {first}
            for at in [*range(0, len(content), 1000), len(content) - 1]:
                store.reads.clear()
                assert opened.read("data/units", at, 1) == content[at : at + 1]
                touched = frames.touched(store)
                assert len(touched) <= 1, "the frame that was read last is kept"
                seen |= touched
            assert seen == set(range(first, first + len(seen)))
            assert len(seen) in (9, 10)
            store.reads.clear()
            assert opened.read("data/units", 2 * FRAME, FRAME) == content[2 * FRAME : 3 * FRAME]
            assert frames.touched(store) <= {first + 2, first + 3}
        assert file.read_at(0, 4), "a store of the caller stays open"


def test_what_was_decoded_is_kept(path: Path, folder: Path) -> None:
    with FileStore(path) as file:
        store = CountingStore(file)
        with archive.open(store) as opened:
            content = opened.read("data/units")
            store.reads.clear()
            assert opened.read("data/units") == content == (folder / "data/units").read_bytes()
            with opened.open("data/deep/again") as again:
                assert again.read() == content
            assert store.reads == []


# --- threads, closing, damage --------------------------------------------------------------------


def test_threads_share_an_archive_and_its_files(opened: archive.OpenArchive, folder: Path) -> None:
    expected = files_of(folder)
    whole = expected["data/units"]

    def work(seed: int) -> None:
        noise = random.Random(seed)
        for _ in range(60):
            path = noise.choice(list(expected))
            at, size = noise.randrange(70_000), noise.randrange(9000)
            assert opened.read(path, at, size) == expected[path][at : at + size]
            assert opened.stat(path).size == len(expected[path])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    with opened.open("data/units", buffer_bytes=16) as shared, ThreadPoolExecutor(8) as pool:
        pieces = list(pool.map(lambda _: shared.read(7), range(len(whole) // 7 + 1)))
    assert sum(map(len, pieces)) == len(whole)
    assert sorted(pieces) == sorted(whole[at : at + 7] for at in range(0, len(whole), 7))


def test_a_closed_archive_can_t_be_read(path: Path) -> None:
    with archive.open(path) as opened:
        file, raw = opened.open("text"), opened.open("text").detach()
        entry = opened.stat("text")
        walk, scan = opened.walk(), opened.scandir()
        next(walk), next(scan)
        opened.read("data/at")
        cached = opened.open("text").detach()
        assert cached.read(3) == b"one"
    opened.close()
    assert opened.is_closed
    for use in (
        lambda: opened.read("data/at"), lambda: opened.stat("text"), lambda: opened.exists("text"),
        opened.listdir, opened.scandir, opened.walk, lambda: opened.open("text"), opened.verify,
        lambda: opened.extract(path.parent / "out"), lambda: next(walk), lambda: next(scan),
        file.read, raw.readall, cached.readall, entry.xattrs, lambda: entry.user,
    ):  # fmt: skip
        with pytest.raises(archive.ArchiveClosedError, match="the archive was closed") as caught:
            use()
        assert isinstance(caught.value, ValueError)
    file.close()
    assert not (path.parent / "out").exists()
    assert (entry.path, entry.size) == ("text", 14)


class SlowStore:
    """Holds each read of content until it is let go, once it was told to; counts its closing."""

    def __init__(self, path: Path) -> None:
        self.file = FileStore(path)
        self.slow = False
        self.entered, self.go = threading.Event(), threading.Event()

    @property
    def size(self) -> int:
        return self.file.size

    def read_at(self, archive_offset: int, size: int, /) -> bytes:
        return self.file.read_at(archive_offset, size)

    def read_into(self, archive_offset: int, view: memoryview, /) -> int:
        if self.slow:
            self.entered.set()
            assert self.go.wait(10)
        return self.file.read_into(archive_offset, view)


def test_closing_waits_for_nobody_and_breaks_no_read_that_is_under_way(
    path: Path, folder: Path
) -> None:
    from onggi.archive.api import open_guarded
    from onggi.archive.guarded_store import GuardedStore

    store = SlowStore(path)
    closed: list[bool] = []

    def close() -> None:
        closed.append(True)
        store.file.close()

    opened = open_guarded(GuardedStore(store, close), 0)
    opened.stat("data/below")
    store.slow = True
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(opened.read, "data/below", 0, 1)
        assert store.entered.wait(10)
        opened.close()
        assert not closed, "the file stays open for the read"
        with pytest.raises(archive.ArchiveClosedError):
            opened.read("data/at")
        store.go.set()
        assert reading.result(10) == (folder / "data/below").read_bytes()[:1]
    assert closed == [True]
    opened.close()
    assert closed == [True]


def test_an_archive_that_is_forgotten_closes_its_file(path: Path) -> None:
    def descriptors() -> int:
        return sum(
            1
            for link in Path("/proc/self/fd").iterdir()
            if os.path.exists(link) and os.path.samefile(link, path)
        )

    opened = archive.open(path)
    file = opened.open("text")
    assert descriptors() == 1
    del opened
    assert file.read() == b"one\ntwo\nthree\n", "a file keeps its archive"
    del file
    assert descriptors() == 0
    path.write_bytes(b"no archive any more")
    with pytest.raises(archive.NotAnArchiveError) as caught:
        archive.open(path)
    assert descriptors() == 0, "not even while the error is looked at"
    assert caught.value.code == "not-an-archive"
    with pytest.raises(archive.SourceError):
        archive.open(path.parent)


def is_lost(opened: archive.OpenArchive, path: str, at: int) -> bool:
    """Tell whether the byte at an offset is damaged."""
    try:
        opened.read(path, at, 1)
    except archive.DamagedError:
        return True
    return False


def test_a_damaged_frame_spoils_the_reads_that_need_it_alone(path: Path, folder: Path) -> None:
    frames = Frames(path)
    content = (folder / "data/units").read_bytes()
    with FileStore(path) as file:
        store = CountingStore(file)
        with archive.open(store) as opened:
            opened.stat("data/units")
            store.reads.clear()
            opened.read("data/units", UNIT, 1)
            (bad,) = frames.touched(store)
    data = bytearray(path.read_bytes())
    data[frames.ends[bad] - 20] ^= 1
    path.write_bytes(data)
    with archive.open(path) as opened:
        lost = {at for at in range(0, len(content), 512) if is_lost(opened, "data/units", at)}
        for at in set(range(0, len(content), 512)) - lost:
            assert opened.read("data/units", at, 1) == content[at : at + 1]
        assert lost
        assert max(lost) - min(lost) < FRAME
        assert UNIT in lost
        with opened.open("data/units") as handle:
            handle.seek(0, os.SEEK_END)
            handle.seek(0)
            assert handle.read(100) == content[:100]
            handle.seek(UNIT)
            for _ in range(2):
                with pytest.raises(archive.DamagedError):
                    handle.read(10)
            handle.seek(len(content) - 100)
            assert handle.read() == content[-100:]
        for other in ("text", "sparse", "data/at"):
            assert opened.read(other) == (folder / other).read_bytes()
        verified = opened.verify()
        assert (verified.is_whole, verified.damaged_units) == (False, 1)
        assert {finding.code for finding in verified.findings} == {"frame", "unit"}
        assert opened.verify("structure").is_whole
        assert not opened.verify("stored").is_whole
        with pytest.raises(archive.DamagedError):
            opened.extract(path.parent / "strict")
        restored = opened.extract(path.parent / "out", salvage=True)
        assert 0 < restored.lost_bytes <= FRAME
        (finding,) = restored.findings
        assert (finding.code, finding.path) == ("lost-content", "data/units")
    expected, found = files_of(folder), files_of(path.parent / "out")
    spoiled = found.pop("data/units")
    assert spoiled != expected.pop("data/units")
    assert spoiled[: min(lost) - 511] == content[: min(lost) - 511]
    assert found.pop("data/deep/again") == spoiled
    del expected["data/deep/again"]
    assert found == expected


def test_an_archive_that_can_t_be_opened_can_be_verified(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(archive.TruncatedError):
        archive.open(path)
    verified = archive.verify_archive(path)
    assert not verified.is_whole
    assert verified.units > 0
    assert verified.findings
    told: list[archive.Finding] = []
    silent = archive.verify_archive(MemoryStore(path.read_bytes()), "stored", found=told.append)
    assert silent.findings == ()
    assert {finding.code for finding in told} == {finding.code for finding in verified.findings}
    with pytest.raises(FileNotFoundError) as caught:
        archive.open(path.parent / "nowhere.onggi")
    assert isinstance(caught.value, archive.SourceError)


def test_a_whole_archive_is_found_whole(opened: archive.OpenArchive) -> None:
    for level in archive.Level:
        verified = opened.verify(level, threads=2)
        assert (verified.is_whole, verified.level, verified.findings) == (True, level, ())
    with pytest.raises(archive.BadUseError, match="no level 'deep'"):
        opened.verify("deep")
    with pytest.raises(archive.BadUseError, match="0 threads"):
        opened.verify(threads=0)


HOSTILE = sorted(FIXTURES.glob("*.onggi"))


def test_hostile_archives_raise_the_errors_of_the_package_alone() -> None:
    outcomes: set[str] = set()
    for path in HOSTILE:
        try:
            with archive.open(path) as opened:
                for entry in opened.walk():
                    assert (entry.user, entry.group, entry.xattrs()) is not None
                    assert opened.exists(entry.path)
                    if entry.is_file:
                        opened.read(entry.path, 0, 10)
                        opened.read(entry.path, max(entry.size - 10, 0))
                        with opened.open(entry.path) as file:
                            file.read(FRAME)
                    if entry.is_dir:
                        opened.listdir(entry.path)
            outcomes.add("whole")
        except archive.OnggiError as error:
            outcomes.add(error.code)
    assert {"whole", "corrupt", "truncated", "unsupported", "not-an-archive"} <= outcomes


# --- extract -------------------------------------------------------------------------------------


def test_all_of_a_tree_is_restored(
    opened: archive.OpenArchive, folder: Path, tmp_path: Path
) -> None:
    restored = opened.extract(tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(folder)
    assert restored.lost_bytes == 0
    assert restored.entries == opened.member_count - 1
    assert (tmp_path / "out/link").readlink() == Path("data/units")
    assert (tmp_path / "out/data/units").stat().st_nlink == 2
    assert (tmp_path / "out/text").stat().st_mtime_ns == 1_234_567_890_123_456_789
    again = opened.extract(tmp_path / "out")
    assert {finding.code for finding in again.findings} == {"exists"}
    assert again.entries == 0
    forced: list[archive.Finding] = []
    opened.extract(tmp_path / "out", force=True, found=forced.append, threads=2)
    assert [finding.code for finding in forced if finding.code == "exists"] == []


def test_parts_of_a_tree_are_restored(opened: archive.OpenArchive, tmp_path: Path) -> None:
    steps: list[archive.Progress] = []
    out = os.fsencode(tmp_path / "out")
    restored = opened.extract(out, ["data/deep", NO_UTF8], same_owner=False, report=steps.append)
    assert (restored.files, restored.findings) == (2, ())
    assert sorted(files_of(tmp_path / "out")) == sorted(["data/deep/again", os.fsdecode(NO_UTF8)])
    assert steps
    with pytest.raises(archive.EntryNotFoundError):
        opened.extract(tmp_path / "none", ["text", "nothing"])
    assert not (tmp_path / "none").exists()
    with pytest.raises(archive.StoreError, match="name a folder"):
        opened.extract(tmp_path / "out/data/deep/again")


@pytest.mark.parametrize("bad", ["", b"", "nul\0", b"\0", "lone \ud800"])
def test_what_can_t_be_a_path_is_refused(
    opened: archive.OpenArchive, folder: Path, tmp_path: Path, bad: str
) -> None:
    for call in (
        lambda: archive.open(bad), lambda: archive.verify_archive(bad),
        lambda: archive.pack_folder(bad, tmp_path / "a"), lambda: archive.pack([bad], "a"),
        lambda: archive.pack_folder(folder, bad), lambda: opened.extract(bad),
    ):  # fmt: skip
        with pytest.raises(archive.BadUseError, match="can't be a path"):
            call()
    with pytest.raises(archive.BadUseError, match="in a list"):
        opened.extract(tmp_path / "out", "text")
    assert sorted(os.listdir(tmp_path)) == ["packed.onggi", "source"]


def test_without_owners_setuid_is_left_out_and_told(
    opened: archive.OpenArchive, tmp_path: Path
) -> None:
    restored = opened.extract(tmp_path / "out", ["text"], same_owner=False)
    assert [finding.code for finding in restored.findings] == ["not-restored-mode"]
    assert (tmp_path / "out/text").stat().st_mode & 0o7777 == 0o640


# --- volumes -------------------------------------------------------------------------------------


@pytest.fixture
def volume(tmp_path: Path, onggi: Callable[..., Any]) -> Path:
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.write(random.Random(3).randbytes(3 * FRAME + 5))
        file.truncate(5 * UNIT + 1)
    ran = onggi("pack", image, "volume.onggi", "--frame-size", FRAME, "--blocks", UNIT // 4096)
    assert ran.code == 0, ran.err
    return tmp_path / "volume.onggi"


def test_a_volume_is_a_tree_of_one_file(volume: Path) -> None:
    content = (volume.parent / "disk.img").read_bytes()
    with archive.open(volume) as opened:
        assert (opened.kind, opened.member_count) == ("volume", 1)
        assert opened.listdir() == ["disk.img"]
        root, file = opened.walk()
        assert (root.path, root.type, root.size) == ("", "directory", 0)
        assert (file.path, file.type, file.size) == ("disk.img", "file", len(content))
        assert file.mtime_ns == (volume.parent / "disk.img").stat().st_mtime_ns
        assert (file.user, file.xattrs(), file.target, file.device) == (None, {}, None, None)
        assert [entry.path for entry in opened.walk("disk.img")] == ["disk.img"]
        assert opened.stat("/disk.img") == file
        assert (opened.exists("other"), opened.exists(b"disk.img")) == (False, True)
        for bad, error in (
            ("other", FileNotFoundError), ("disk.img/x", NotADirectoryError),
            ("", IsADirectoryError),
        ):  # fmt: skip
            with pytest.raises(error):
                opened.read(bad)
        with pytest.raises(archive.BadUseError, match="can't hold"):
            opened.read("../disk.img")
        for at in (0, FRAME - 1, FRAME, FRAME + 1, UNIT, 3 * UNIT + 7, len(content) - 1, 10**9):
            for size in (0, 1, FRAME, 2 * UNIT):
                assert opened.read("disk.img", at, size) == content[at : at + size]
        with opened.open("disk.img") as handle:
            assert handle.read() == content
        assert opened.verify().is_whole
        with pytest.raises(archive.BadUseError):
            opened.read("disk.img", -1)


def test_a_volume_is_restored_into_a_folder(volume: Path) -> None:
    content = (volume.parent / "disk.img").read_bytes()
    out = volume.parent / "out"
    with archive.open(volume) as opened:
        restored = opened.extract(out)
        assert restored == archive.Extracted(1, 1, len(content), 0, ())
        assert (out / "disk.img").read_bytes() == content
        with pytest.raises(archive.StoreError, match="exists"):
            opened.extract(out, ["disk.img"])
        (out / "disk.img").write_bytes(b"something else")
        opened.extract(out, ["disk.img"], force=True)
        assert (out / "disk.img").read_bytes() == content
        with pytest.raises(FileNotFoundError):
            opened.extract(out, ["other"])
        with pytest.raises(archive.StoreError):
            opened.extract(volume)
    assert os.listdir(out) == ["disk.img"]


# --- pack ----------------------------------------------------------------------------------------


def test_the_same_folder_and_facts_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    options: archive.PackOptions = {"uuid": IDENTITY, "created_ns": 1, "frame_bytes": FRAME}
    one = archive.pack_folder(folder, tmp_path / "1", threads=1, **options)
    two = archive.pack_folder(os.fsencode(folder), tmp_path / "2", threads=3, **options)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert one == two
    other = archive.pack_folder(folder, tmp_path / "3")
    assert other.uuid not in (IDENTITY, archive.pack_folder(folder, tmp_path / "4").uuid)


def test_an_archive_is_as_old_as_its_file(folder: Path, tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.touch()
    packed = archive.pack_folder(folder, tmp_path / "a")
    after = tmp_path / "after"
    after.touch()
    assert before.stat().st_mtime_ns <= packed.created_ns <= after.stat().st_mtime_ns


def test_an_archive_is_not_part_of_itself(folder: Path) -> None:
    packed = archive.pack_folder(folder, folder / "self.onggi", facts={"note": "inside"})
    assert packed.findings == ()
    with archive.open(folder / "self.onggi") as opened:
        assert not [name for name in opened.listdir() if "self" in name]
        assert opened.facts == {"note": "inside"}


def test_several_sources_are_packed_each_under_its_name(folder: Path, tmp_path: Path) -> None:
    archive.pack([folder / "data", folder / "text"], tmp_path / "a", exclude=["un*", b"deep"])
    with archive.open(tmp_path / "a") as opened:
        assert opened.listdir() == ["data", "text"]
        assert opened.listdir("data") == ["above", "at", "below"]
    archive.pack([folder / "text"], tmp_path / "b")
    with archive.open(tmp_path / "b") as opened:
        assert opened.listdir() == ["text"]


def test_what_can_t_be_packed_is_told_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "a.onggi"
    for problem, call in (
        (NotADirectoryError, lambda: archive.pack_folder(folder / "text", place)),
        (archive.SourceError, lambda: archive.pack_folder(folder / "nothing", place)),
        (archive.BadUseError, lambda: archive.pack([], place)),
        (archive.BadUseError, lambda: archive.pack(str(folder), place)),
        (archive.BadUseError, lambda: archive.pack([folder, folder], place)),
        (archive.BadUseError, lambda: archive.pack_folder(folder, place, level=20)),
        (archive.BadUseError, lambda: archive.pack_folder(folder, place, frame_bytes=5)),
        (archive.BadUseError, lambda: archive.pack_folder(folder, place, threads=0)),
        (archive.BadUseError, lambda: archive.pack_folder(folder, place, created_ns=2**63)),
        (archive.BadUseError, lambda: archive.pack_folder(folder, place, facts={"a": object()})),
        (archive.StoreError, lambda: archive.pack_folder(folder, tmp_path / "no/a.onggi")),
        (archive.RefusedError, lambda: archive.pack([folder / "text"], folder / "text")),
    ):
        with pytest.raises(problem):
            call()
    assert sorted(os.listdir(tmp_path)) == ["source"]
    place.write_bytes(b"something else")
    with pytest.raises(archive.StoreError, match="exists"):
        archive.pack_folder(folder, place)
    assert place.read_bytes() == b"something else"
    archive.pack_folder(folder, place, force=True)
    assert archive.verify_archive(place).is_whole


def test_an_interrupted_pack_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onggi.archive import packing

    def interrupted() -> UUID:
        raise KeyboardInterrupt

    monkeypatch.setattr(packing, "uuid4", interrupted)
    with pytest.raises(KeyboardInterrupt):
        archive.pack_folder(folder, tmp_path / "a.onggi")
    assert os.listdir(tmp_path) == ["source"]


def test_options_leave_out_what_they_say(folder: Path, tmp_path: Path) -> None:
    tag = b"Signature: 8a477f597d28d172789f06886806bc55"
    (folder / "data/CACHEDIR.TAG").write_bytes(tag)
    (folder / "data/copy").write_bytes((folder / "data/units").read_bytes())

    def pack(name: str, **options: Any) -> archive.Packed:
        return archive.pack_folder(folder, tmp_path / name, frame_bytes=FRAME, **options)

    whole, single = pack("whole"), pack("single", dedup=False)
    assert whole.entries == single.entries
    assert single.content_bytes - whole.content_bytes > 2 * UNIT
    pack("caches", exclude_caches=True)
    with archive.open(tmp_path / "caches") as opened:
        assert opened.listdir("data") == ["CACHEDIR.TAG"]
    assert pack("fast", level=1).archive_bytes != pack("small", level=19).archive_bytes


@pytest.mark.needs("mount")
def test_other_file_systems_can_be_left_out(folder: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", folder / "data"], check=True)
    try:
        (folder / "data/elsewhere").touch()
        archive.pack_folder(folder, tmp_path / "all")
        archive.pack_folder(folder, tmp_path / "one", one_file_system=True)
    finally:
        subprocess.run(["umount", folder / "data"], check=True)
    for name, expected in (("all", ["elsewhere"]), ("one", [])):
        with archive.open(tmp_path / name) as opened:
            assert opened.listdir("data") == expected


def test_findings_are_told_or_collected(folder: Path, tmp_path: Path) -> None:
    """A file that grows under the eyes of the packer: its length is that of the walk."""

    def grow(_: archive.Progress) -> None:
        with (folder / "zz-last").open("ab") as file:
            file.write(b"more")

    (folder / "zz-last").write_bytes(bytes(64 * 1024 * 1024))
    options: archive.PackOptions = {"unit_bytes": UNIT, "threads": 1, "report": grow}
    packed = archive.pack_folder(folder, tmp_path / "a", **options)
    assert {finding.path for finding in packed.findings} == {"zz-last"}
    told: list[archive.Finding] = []
    packed = archive.pack_folder(folder, tmp_path / "b", found=told.append, **options)
    assert packed.findings == ()
    assert {finding.path for finding in told} == {"zz-last"}
    with archive.open(tmp_path / "b") as opened:
        assert opened.stat("zz-last").changed


def test_only_the_root_is_captured_of_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    packed = archive.pack_folder(tmp_path / "nothing", tmp_path / "a")
    assert packed.entries == 1
    with archive.open(tmp_path / "a") as opened:
        assert [entry.type for entry in opened.walk()] == ["directory"]
        assert opened.listdir() == []
        assert opened._archive.header.kind == layout.KIND_TREE


# --- the examples of docs/library.md -------------------------------------------------------------

LIBRARY = (Path(__file__).parents[2] / "docs/library.md").read_text()


@pytest.fixture
def example_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the examples of docs/library.md run in."""
    photos = tmp_path / "photos"
    head = bytes.fromhex("ffd8ffe00010") + b"JFIF"
    for name, size in (("2023/hill", 100), ("2024/lake", 5000), ("2024/sea", 300_000)):
        picture = photos / f"{name}.jpg"
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(head.ljust(size - 2, b".") + bytes.fromhex("ffd9"))
    rows = [f"{path.relative_to(photos)},{path.stat().st_size}" for path in photos.rglob("*.jpg")]
    (photos / "index.csv").write_text("\n".join(["path,bytes", *rows]) + "\n")
    (tmp_path / "notes.txt").write_text("notes\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Promises(ast.NodeTransformer):
    """Turns each expression with a comment `# -> value` into a check of that value."""

    def __init__(self, source: str) -> None:
        self._lines = source.splitlines()
        self.found = 0

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        _, arrow, promised = self._lines[node.lineno - 1].partition("# -> ")
        if not arrow:
            return node
        self.found += 1
        value = promised.partition(";")[0].strip()
        check = f"assert repr(_) == {value!r}, repr(_)"
        checked = ast.parse(f"_ = None\n{check}").body
        checked[0].value = node.value  # type: ignore[attr-defined]
        return ast.copy_location(ast.If(ast.Constant(True), checked, []), node)


def test_the_examples_of_the_documentation_do_what_they_say(
    example_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", LIBRARY, re.MULTILINE | re.DOTALL)
    assert len(blocks) == LIBRARY.count("```") // 2
    names: dict[str, Any] = {}
    promises = 0
    for source in blocks:
        reader = Promises(source)
        tree = ast.fix_missing_locations(reader.visit(ast.parse(source)))
        exec(compile(tree, "docs/library.md", "exec"), names)
        promises += reader.found
    assert promises == LIBRARY.count("# ->")
    assert (names["end"], names["head"][6:]) == (bytes.fromhex("ffd9"), b"JFIF")
    names["duckdb"].unregister_filesystem("onggi")
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["2024", "2024/lake.jpg", "2024/sea.jpg"]


def test_the_documentation_tells_of_every_error_that_is_built_in_too() -> None:
    documented = dict(re.findall(r"^\| (`.*) \| `(\w+)` \|$", LIBRARY, re.MULTILINE))
    told = {
        name: builtin
        for names, builtin in documented.items()
        for name in re.findall("`(\\w+)`", names)
    }
    for name, builtin in told.items():
        assert issubclass(getattr(archive, name), getattr(builtins, builtin))
    real = {
        name
        for name in archive.__all__
        if isinstance(getattr(archive, name), type)
        and issubclass(getattr(archive, name), (OSError, ValueError))
    }
    assert set(told) == real - {"PathError"}
