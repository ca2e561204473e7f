"""The file system of fsspec: pandas, DuckDB and others read members of archives in place."""

from __future__ import annotations

import bisect
import errno
import gc
import gzip
import hashlib
import io
import os
import pickle
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pandas
import pytest
from fsspec.core import OpenFile
from fsspec.implementations.memory import MemoryFileSystem

from onggi import archive
from onggi.archive.filesystem import FileObjectStore, OnggiFileSystem
from onggi.archive.reader import Archive
from onggi.archive.store import FileStore, MemoryStore, Store

FIXTURES = Path(__file__).parents[2] / "fixtures/archives"
FRAME = 4096
UNIT = 16_384
ROWS = 20_000
NO_UTF8 = b"caf\xe9"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tables in it."""
    source = tmp_path_factory.mktemp("tables") / "source"
    (source / "inner/deep").mkdir(parents=True)
    noise = random.Random(5)
    lines = [f"{n},{noise.random()},{noise.choice(['kimchi', 'soy', 'salt'])}" for n in range(ROWS)]
    (source / "inner/a.csv").write_text("n,weight,what\n" + "\n".join(lines) + "\n")
    for year in (2023, 2024):
        (source / f"inner/deep/{year}.csv").write_text(f"year,jars\n{year},{year % 100}\n")
    (source / "inner/deep/notes.txt").write_text("first line\nsecond line\n")
    (source / "link").symlink_to("inner/a.csv")
    (source / "hollow").mkdir()
    Path(os.fsdecode(os.fsencode(source) + b"/" + NO_UTF8)).write_bytes(b"named in Latin-1")
    table = duckdb.sql(
        "select range as n, md5(range::text) as a, md5((range + 7)::text) as b from range(20_000)"
    )
    table.write_parquet(str(source / "inner/wide.parquet"), row_group_size=2048)
    os.utime(source / "inner/a.csv", ns=(0, 1_600_000_000_123_456_789))
    return source


@pytest.fixture(scope="module")
def place(folder: Path) -> Path:
    """An archive of the folder, in frames of 4 KiB."""
    path = folder.parent / "a.onggi"
    archive.pack_folder(folder, path, frame_bytes=FRAME, unit_bytes=UNIT)
    return path


@pytest.fixture
def system(place: Path) -> Iterator[OnggiFileSystem]:
    system = OnggiFileSystem(place)
    yield system
    system.close()


def connect(fo: Any) -> duckdb.DuckDBPyConnection:
    """Return DuckDB that knows an archive."""
    connection = duckdb.connect(config={"threads": 4})
    connection.register_filesystem(OnggiFileSystem(fo, thread_positions=True))
    return connection


class CountingStore:
    """Remembers how much of the frames of a file was read."""

    def __init__(self, path: Path) -> None:
        self._store = FileStore(path)
        self.reads: list[tuple[int, int]] = []
        opened = Archive(self._store)
        self.starts: list[int] = []
        self.lengths: list[int] = []
        for unit in opened.index.units():
            at = unit.payload_offset
            for frame in opened.index.frames(unit):
                self.starts.append(at)
                self.lengths.append(frame.stored_bytes)
                at += frame.stored_bytes

    @property
    def size(self) -> int:
        return self._store.size

    def read_at(self, archive_offset: int, size: int, /) -> bytes:
        self.reads.append((archive_offset, size))
        return self._store.read_at(archive_offset, size)

    def read_into(self, archive_offset: int, view: memoryview, /) -> int:
        self.reads.append((archive_offset, len(view)))
        return self._store.read_into(archive_offset, view)

    def close(self) -> None:
        self._store.close()

    def frames(self) -> list[int]:
        """Return the number of each frame that was read, as often as it was; reset."""
        numbers: list[int] = []
        for at, size in self.reads:
            number = bisect.bisect_left(self.starts, at)
            if number < len(self.starts) and self.starts[number] == at:
                assert size == self.lengths[number], "a frame is read alone"
                numbers.append(number)
            else:  # a page or a record: none of it may be in a frame
                last = bisect.bisect_right(self.starts, at) - 1
                assert last < 0 or self.starts[last] + self.lengths[last] <= at
        self.reads.clear()
        return numbers


@pytest.fixture
def counted(place: Path) -> Iterator[CountingStore]:
    store = CountingStore(place)
    yield store
    store.close()


# --- URLs and what an archive may be in ----------------------------------------------------------


def test_a_chained_url_leads_into_an_archive(place: Path, folder: Path) -> None:
    for url in (
        f"onggi://inner/deep/notes.txt::file://{place}",
        f"onggi://inner/deep/notes.txt::{place}",
        f"onggi:///inner/deep/notes.txt::local://{place}",
    ):
        with fsspec.open(url) as file:
            assert file.read() == (folder / "inner/deep/notes.txt").read_bytes()
        with fsspec.open(url, "rt") as text:
            assert text.readline() == "first line\n"
    with fsspec.open(f"onggi://inner/a.csv::file://{place}", cache_bytes=0) as file:
        assert file.size == (folder / "inner/a.csv").stat().st_size
    files = fsspec.open_files(f"onggi://inner/deep/*.csv::file://{place}")
    assert [file.path for file in files] == ["inner/deep/2023.csv", "inner/deep/2024.csv"]
    with files as opened:
        assert [file.read()[:5] for file in opened] == [b"year,", b"year,"]


def test_it_is_registered_for_its_protocol() -> None:
    assert fsspec.get_filesystem_class("onggi") is OnggiFileSystem
    with pytest.raises(archive.BadUseError, match="name the archive too"):
        fsspec.open("onggi://inner/a.csv")


def test_an_archive_may_be_in_any_file_system(place: Path, folder: Path, tmp_path: Path) -> None:
    MemoryFileSystem().pipe_file("/far/a.onggi", place.read_bytes())
    inner = "inner/deep/notes.txt"
    content = (folder / inner).read_bytes()
    url = f"onggi://{inner}::memory://far/a.onggi"
    with fsspec.open(url) as file:
        assert file.read() == content
    cached = f"onggi://{inner}::filecache::memory://far/a.onggi"
    with fsspec.open(cached, filecache={"cache_storage": str(tmp_path / "cache")}) as file:
        assert file.read() == content
    # An archive in an archive.
    archive.pack([place], tmp_path / "outer.onggi")
    nested = f"onggi://{inner}::onggi://a.onggi::file://{tmp_path}/outer.onggi"
    with fsspec.open(nested) as file:
        assert file.read() == content
    (tmp_path / "a.gz").write_bytes(gzip.compress(place.read_bytes()))
    compressed = OnggiFileSystem(fsspec.open(str(tmp_path / "a.gz"), compression="gzip"))
    assert compressed.cat_file(inner) == content
    MemoryFileSystem().rm("/far", recursive=True)
    with pytest.raises(FileNotFoundError):
        fsspec.open(url)


def test_an_archive_may_be_an_open_file_a_store_or_open_already(place: Path, folder: Path) -> None:
    content = (folder / "inner/a.csv").read_bytes()
    with place.open("rb") as file, archive.open(place) as opened:
        for fo in (
            os.fspath(place), place, os.fsencode(place), file, fsspec.open(str(place)),
            fsspec.open(str(place), compression="infer"), MemoryStore(place.read_bytes()),
            io.BytesIO(place.read_bytes()), opened,
        ):  # fmt: skip
            system = OnggiFileSystem(fo)
            assert system.cat_file("inner/a.csv") == content
            system.close()
        assert file.tell() >= 0
        assert not opened.is_closed
        assert system.fsid == f"onggi_{opened.uuid}"
    with pytest.raises(archive.ArchiveClosedError):
        system.ls("")
    system = OnggiFileSystem(str(place), target_protocol="file", target_options={})
    system.close()
    with pytest.raises(ValueError, match="closed"):
        system.cat_file("inner/a.csv")


def test_a_file_may_give_less_than_it_is_asked_for(place: Path, folder: Path) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 1000))

    system = OnggiFileSystem(Slow(place.read_bytes()))
    assert system.cat_file("inner/a.csv") == (folder / "inner/a.csv").read_bytes()


def test_what_is_no_archive_is_refused_and_left_open_by_nobody(place: Path) -> None:
    def descriptors() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    with pytest.raises(archive.NotAnArchiveError):
        OnggiFileSystem(__file__)
    with pytest.raises(FileNotFoundError):
        OnggiFileSystem(place.parent / "nothing.onggi")
    MemoryFileSystem().pipe_file("/text", b"no archive at all" * 100)
    with pytest.raises(archive.NotAnArchiveError):
        OnggiFileSystem("memory://text")
    assert descriptors() == before
    with fsspec.open(f"onggi://inner/a.csv::file://{place}") as file:
        assert file.read(1) == b"n"
        assert descriptors() == before + 1
    del file
    assert descriptors() == before


def test_it_goes_to_other_processes_as_its_address(place: Path, folder: Path) -> None:
    system = OnggiFileSystem(str(place))
    again = pickle.loads(pickle.dumps(system))
    assert again.cat_file("inner/a.csv") == (folder / "inner/a.csv").read_bytes()
    with fsspec.open(f"onggi://inner/a.csv::file://{place}") as file:
        first = file.read(5)
    there = pickle.loads(pickle.dumps(fsspec.open(f"onggi://inner/a.csv::file://{place}")))
    with there as file:
        assert file.read(5) == first


# --- entries -------------------------------------------------------------------------------------


def test_directories_are_listed(system: OnggiFileSystem, folder: Path) -> None:
    assert system.ls("", detail=False) == [os.fsdecode(NO_UTF8), "hollow", "inner", "link"]
    assert system.ls("/inner/", detail=False) == ["inner/a.csv", "inner/deep", "inner/wide.parquet"]
    assert system.ls("hollow") == []
    table, deep, _ = system.ls("inner")
    real = (folder / "inner/a.csv").stat()
    assert table == {
        "name": "inner/a.csv", "size": real.st_size, "type": "file",
        "mode": real.st_mode & 0o7777, "uid": real.st_uid, "gid": real.st_gid, "nlink": 1,
        "mtime": 1_600_000_000.1234567, "mtime_ns": 1_600_000_000_123_456_789, "islink": False,
    }  # fmt: skip
    assert (deep["name"], deep["type"], deep["size"]) == ("inner/deep", "directory", 0)
    assert system.ls("inner/a.csv") == [table] == [system.info("onggi://inner/a.csv")]
    assert system.ls("inner/a.csv", detail=False) == ["inner/a.csv"]
    link = system.info("link")
    assert (link["type"], link["islink"], link["destination"]) == ("link", True, "inner/a.csv")
    assert (system.info("")["name"], system.info("/")["type"]) == ("", "directory")
    for bad, error in (("nothing", FileNotFoundError), ("link/x", NotADirectoryError)):
        for call in (system.ls, system.info, system.size, system.modified, system.cat_file):
            with pytest.raises(error):
                call(bad)


def test_what_exists_is_told(system: OnggiFileSystem) -> None:
    here = ("", "/", "inner", "inner/a.csv", "onggi://inner/a.csv", "link", os.fsdecode(NO_UTF8))
    assert all(system.exists(path) for path in here)
    assert not any(system.exists(path) for path in ("nothing", "inner/a.csv/x", "inner/a"))
    assert (system.isdir("inner"), system.isdir("inner/a.csv"), system.isdir("no")) == (
        True, False, False,
    )  # fmt: skip
    assert (system.isfile("inner"), system.isfile("inner/a.csv"), system.isfile("no")) == (
        False, True, False,
    )  # fmt: skip


def test_trees_are_walked_found_and_globbed(system: OnggiFileSystem, folder: Path) -> None:
    every = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    folders = {path for path in every if (folder / path).is_dir()}
    assert system.find("") == sorted(every - folders)
    assert system.find("", withdirs=True) == sorted(every)
    assert system.find("inner", maxdepth=1) == ["inner/a.csv", "inner/wide.parquet"]
    assert system.find("inner/a.csv") == ["inner/a.csv"]
    walked = {(top, tuple(dirs), tuple(files)) for top, dirs, files in system.walk("inner")}
    assert walked == {
        ("inner", ("deep",), ("a.csv", "wide.parquet")),
        ("inner/deep", (), ("2023.csv", "2024.csv", "notes.txt")),
    }
    every_table = ["inner/a.csv", "inner/deep/2023.csv", "inner/deep/2024.csv"]
    assert system.glob("inner/**/*.csv") == every_table
    assert system.glob("inner/deep/202[34].csv") == ["inner/deep/2023.csv", "inner/deep/2024.csv"]
    assert system.glob("/*/*.csv") == ["inner/a.csv"]
    assert system.glob("nothing*") == []
    assert system.du("inner/deep") == sum(
        path.stat().st_size for path in (folder / "inner/deep").iterdir()
    )


def test_times_are_those_of_the_files(system: OnggiFileSystem) -> None:
    expected = datetime(2020, 9, 13, 12, 26, 40, 123_456, tzinfo=UTC)
    assert system.modified("inner/a.csv") == expected
    with archive.open(FIXTURES / "ok-tree-times.onggi") as opened:
        times = OnggiFileSystem(opened)
        assert times.modified("2") == datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
        assert times.modified("7").year == 2262


def test_a_path_is_not_missing_because_it_can_t_be_looked_up() -> None:
    with archive.open(FIXTURES / "tree-flip-strings.onggi") as opened:
        system = OnggiFileSystem(opened)
        for call in (system.exists, system.info, system.ls):
            with pytest.raises(archive.DamagedError):
                call("a-file")


def test_a_key_stands_for_a_file_of_one_archive(place: Path, folder: Path) -> None:
    one, same = OnggiFileSystem(place), OnggiFileSystem(str(place))
    archive.pack_folder(folder, place.parent / "other.onggi")
    other = OnggiFileSystem(place.parent / "other.onggi")
    assert one.ukey("inner/a.csv") == same.ukey("/inner/a.csv")
    keys = {one.ukey("inner/a.csv"), other.ukey("inner/a.csv"), one.ukey("inner/wide.parquet")}
    assert len(keys) == 3


def test_hostile_and_odd_archives_list_without_other_errors() -> None:
    with archive.open(FIXTURES / "ok-tree-names.onggi") as opened:
        system = OnggiFileSystem(opened)
        names = system.ls("", detail=False)
        assert len(names) == len(opened.listdir())
        for info in system.ls(""):
            if info["type"] == "file":
                assert system.cat_file(info["name"]) == opened.read(info["name"])
        assert {"*", "a=b", "%41", "..x", "c:"} <= set(names)
    with archive.open(FIXTURES / "ok-tree-types.onggi") as opened:
        types = {info["name"]: info["type"] for info in OnggiFileSystem(opened).ls("")}
    assert types == {
        "disk": "other", "file": "file", "folder": "directory", "link": "link", "pipe": "other",
        "tty": "other",
    }  # fmt: skip


# --- content -------------------------------------------------------------------------------------


def test_bytes_are_given_as_slices_give_them(system: OnggiFileSystem, folder: Path) -> None:
    content = (folder / "inner/a.csv").read_bytes()
    borders = [None, 0, 1, FRAME - 1, FRAME, FRAME + 1, UNIT, -1, -FRAME, -len(content) - 5, 10**9]
    for start in borders:
        for end in borders:
            assert system.cat_file("inner/a.csv", start, end) == content[start:end]
    both = system.cat(["inner/deep/2023.csv", "inner/deep/2024.csv"])
    assert both["inner/deep/2024.csv"] == b"year,jars\n2024,24\n"
    ranges = system.cat_ranges(["inner/a.csv"] * 2, [0, 500], [10, 700])
    assert ranges == [content[:10], content[500:700]]
    assert system.head("inner/a.csv", 20) == content[:20]
    assert system.tail("inner/a.csv", 20) == content[-20:]
    assert system.read_block("inner/a.csv", 100, 50, b"\n").endswith(b"\n")
    assert system.read_text("inner/deep/notes.txt") == "first line\nsecond line\n"
    assert system.cat_file(os.fsdecode(NO_UTF8)) == b"named in Latin-1"
    for path, error in (("inner", IsADirectoryError), ("link", OSError)):
        with pytest.raises(error):
            system.cat_file(path)


def test_files_are_copied_out(system: OnggiFileSystem, folder: Path, tmp_path: Path) -> None:
    system.get("inner", str(tmp_path / "out"), recursive=True)
    for name in ("a.csv", "deep/2023.csv", "wide.parquet"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / "inner" / name).read_bytes()
    mapping = system.get_mapper("inner/deep")
    assert sorted(mapping) == ["2023.csv", "2024.csv", "notes.txt"]
    assert mapping["2023.csv"] == b"year,jars\n2023,23\n"
    assert "2025.csv" not in mapping
    with pytest.raises(KeyError):
        mapping["2025.csv"]
    with pytest.raises(KeyError):
        del mapping["2023.csv"]
    assert "2023.csv" in mapping


def test_one_frame_is_read_for_bytes_in_one_frame(counted: CountingStore, folder: Path) -> None:
    content = (folder / "inner/a.csv").read_bytes()
    whole = len(content) // FRAME
    system = OnggiFileSystem(counted, cache_bytes=0)
    system.ls("inner")
    assert counted.frames() == []
    for at in (0, 50_000, 20_000, len(content) - 10):
        assert system.cat_file("inner/a.csv", at, at + 1) == content[at : at + 1]
        assert len(counted.frames()) == 1
    assert system.cat_file("inner/a.csv", 0, 3 * FRAME) == content[: 3 * FRAME]
    assert len(counted.frames()) in (3, 4)
    with system.open("inner/a.csv", block_size=512) as file:
        file.seek(-100, os.SEEK_END)
        assert file.read() == content[-100:]
    assert len(counted.frames()) <= 2
    assert system.cat_file("inner/a.csv") == content
    numbers = counted.frames()
    assert whole <= len(numbers) == len(set(numbers)) <= whole + 2


# --- what would write ----------------------------------------------------------------------------

WRITES: list[Callable[[OnggiFileSystem], Any]] = [
    lambda system: system.open("new", "wb"),
    lambda system: system.open("inner/a.csv", "ab"),
    lambda system: system.open("inner/a.csv", "r+b"),
    lambda system: system.open("new", "w"),
    lambda system: system.open("new", "xb"),
    lambda system: system.pipe("new", b"data"),
    lambda system: system.pipe({"new": b"data"}),
    lambda system: system.pipe_file("inner/a.csv", b"data"),
    lambda system: system.write_text("new", "data"),
    lambda system: system.touch("new"),
    lambda system: system.touch("inner/a.csv", truncate=False),
    lambda system: system.mkdir("new"),
    lambda system: system.makedir("new"),
    lambda system: system.makedirs("inner", exist_ok=True),
    lambda system: system.mkdirs("new"),
    lambda system: system.rmdir("hollow"),
    lambda system: system.rm("inner/a.csv"),
    lambda system: system.rm(["inner/a.csv"], recursive=True),
    lambda system: system.rm_file("inner/a.csv"),
    lambda system: system._rm("inner/a.csv"),
    lambda system: system.delete("inner/a.csv"),
    lambda system: system.mv("inner/a.csv", "new"),
    lambda system: system.move("inner/a.csv", "new"),
    lambda system: system.rename("inner/a.csv", "new"),
    lambda system: system.cp("inner/a.csv", "new"),
    lambda system: system.copy("inner/a.csv", "new"),
    lambda system: system.cp_file("inner/a.csv", "new"),
    lambda system: system.put(__file__, "new"),
    lambda system: system.put_file(__file__, "inner/new"),
    lambda system: system.upload(__file__, "new"),
    lambda system: system.get_mapper("inner").__setitem__("new", b"data"),
]


@pytest.mark.parametrize("write", WRITES)
def test_nothing_is_written(system: OnggiFileSystem, write: Callable[..., Any]) -> None:
    before = system.archive.archive_bytes
    with pytest.raises(archive.ReadOnlyError, match="can't be written to") as caught:
        write(system)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == errno.EROFS
    assert system.archive.archive_bytes == before


# --- others --------------------------------------------------------------------------------------


def test_pandas_reads_a_member_in_place(place: Path, folder: Path) -> None:
    url = f"onggi://inner/a.csv::file://{place}"
    expected = pandas.read_csv(folder / "inner/a.csv")
    assert len(expected) == ROWS
    pandas.testing.assert_frame_equal(pandas.read_csv(url), expected)
    with archive.open(place) as opened, opened.open("inner/a.csv") as file:
        pandas.testing.assert_frame_equal(pandas.read_csv(file), expected)
    options = {"cache_bytes": 2**20}
    some = pandas.read_csv(url, nrows=3, storage_options=options)
    pandas.testing.assert_frame_equal(some, expected.head(3))
    with pytest.raises(FileNotFoundError):
        pandas.read_csv(f"onggi://inner/b.csv::file://{place}")
    with pytest.raises(OSError, match="can't be written to"):
        expected.to_csv(f"onggi://inner/b.csv::file://{place}")


def test_pandas_reads_the_frames_it_needs_alone(counted: CountingStore, folder: Path) -> None:
    system = OnggiFileSystem(counted)
    frames = (folder / "inner/a.csv").stat().st_size // FRAME
    with system.open("inner/a.csv") as file:
        chunks = pandas.read_csv(file, chunksize=100)
        assert len(next(iter(chunks))) == 100
    read = counted.frames()
    assert 0 < len(read) < frames // 2, "pandas reads 256 KiB ahead"
    with system.open("inner/a.csv") as file:
        file.seek(-FRAME * 4, os.SEEK_END)
        file.readline()
        tail = pandas.read_csv(file, names=["n", "weight", "what"])
    assert tail["n"].iloc[-1] == ROWS - 1
    assert len(counted.frames()) <= 5


def test_duckdb_reads_members_in_place(place: Path, folder: Path) -> None:
    count = "select count(*), sum(n), min(weight), count(distinct what) from '{}'"
    digest = "select count(*), sum(hash(a))::text, sum(hash(b))::text from '{}'"
    with connect(place) as lake:
        here = lake.sql(count.format("onggi://inner/a.csv")).fetchall()
        assert here == duckdb.sql(count.format(folder / "inner/a.csv")).fetchall()
        assert here[0][:2] == (ROWS, ROWS * (ROWS - 1) // 2)
        expected = duckdb.sql(digest.format(folder / "inner/wide.parquet")).fetchall()
        for _ in range(20):  # its threads read side by side
            assert lake.sql(digest.format("onggi://inner/wide.parquet")).fetchall() == expected
        years = lake.sql("select year, jars from 'onggi://inner/deep/*.csv' order by year")
        assert years.fetchall() == [(2023, 23), (2024, 24)]
        joined = "'onggi://inner/wide.parquet' join 'onggi://inner/a.csv' using (n)"
        assert lake.sql(f"select count(*) from {joined}").fetchall() == [(ROWS,)]
        with pytest.raises(duckdb.Error):
            lake.sql("select * from 'onggi://inner/nothing.parquet'").fetchall()
        with pytest.raises(duckdb.Error):
            lake.sql("copy (select 1) to 'onggi://new.csv'")


def test_duckdb_reads_the_frames_it_needs_alone(counted: CountingStore, folder: Path) -> None:
    frames = (folder / "inner/wide.parquet").stat().st_size // FRAME
    assert frames > 200
    with connect(counted) as lake:
        counted.reads.clear()
        found = lake.sql("select a from 'onggi://inner/wide.parquet' where n = 12345").fetchall()
        assert found == [(hashlib.md5(b"12345").hexdigest(),)]
        assert 0 < len(set(counted.frames())) < frames // 4
        found = lake.sql("select min(n), max(n) from 'onggi://inner/wide.parquet'").fetchall()
        assert found == [(0, ROWS - 1)]
        assert len(set(counted.frames())) < frames // 4


def test_damage_is_told_and_all_else_is_read(place: Path, folder: Path) -> None:
    counted = CountingStore(place)
    system = OnggiFileSystem(counted)
    system.info("inner/wide.parquet")
    counted.reads.clear()
    system.cat_file("inner/wide.parquet", 300_000, 300_001)
    (bad,) = counted.frames()
    counted.close()
    data = bytearray(place.read_bytes())
    data[counted.starts[bad] + 30] ^= 1
    system = OnggiFileSystem(MemoryStore(bytes(data)))
    content = (folder / "inner/wide.parquet").read_bytes()
    with pytest.raises(archive.DamagedError):
        system.cat_file("inner/wide.parquet")
    assert system.cat_file("inner/wide.parquet", 0, 200_000) == content[:200_000]
    assert system.cat_file("inner/wide.parquet", -1000) == content[-1000:]
    assert len(pandas.read_csv(io.BytesIO(system.cat_file("inner/a.csv")))) == ROWS
    with connect(MemoryStore(bytes(data))) as lake:
        with pytest.raises(Exception, match="frame at byte"):
            lake.sql("select sum(hash(a)), sum(hash(b)) from 'onggi://inner/wide.parquet'").show()
        assert lake.sql("select count(*) from 'onggi://inner/a.csv'").fetchall() == [(ROWS,)]


def test_threads_that_seek_first_share_a_file_without_turns(place: Path, folder: Path) -> None:
    content = (folder / "inner/a.csv").read_bytes()
    system = OnggiFileSystem(place, thread_positions=True)
    with (
        system.open("inner/a.csv") as file,
        ThreadPoolExecutor(1) as one,
        ThreadPoolExecutor(1) as two,
    ):
        for pool, at in ((one, 1000), (two, 5000)):
            assert pool.submit(file.seek, at).result() == at
        assert one.submit(file.tell).result() == 1000
        assert one.submit(file.seek, 7, os.SEEK_CUR).result() == 1007
        assert one.submit(file.read, 10).result() == content[1007:1017]
        assert two.submit(file.read, 10).result() == content[5000:5010]
        # Without a seek, threads read on in turns.
        assert one.submit(file.read, 5).result() == content[5010:5015]
        assert file.tell() == 5015
        assert two.submit(file.read, 5).result() == content[5015:5020]
        one.submit(file.seek, 100).result()
        assert two.submit(file.read, 5).result() == content[100:105]
        assert one.submit(file.read, 5).result() == content[105:110]
        file.seek(-4, os.SEEK_END)
        into = bytearray(b"......")
        assert file.readinto(into) == 4
        assert into == content[-4:] + b".."
        assert file.read() == b""
        assert file.seek(0) == 0
        assert file.read() == file.read(-1) + content
        file.seek(-20, os.SEEK_END)
        assert file.readall() == content[-20:]
        with pytest.raises(ValueError, match="negative"):
            file.seek(-1)
    for use in (file.read, file.tell, lambda: file.seek(0)):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_threads_share_a_file_system_over_one_file(place: Path, folder: Path) -> None:
    content = (folder / "inner/a.csv").read_bytes()
    with place.open("rb") as file:
        system = OnggiFileSystem(file, cache_bytes=0)

        def work(seed: int) -> None:
            noise = random.Random(seed)
            for _ in range(40):
                at = noise.randrange(len(content))
                assert system.cat_file("inner/a.csv", at, at + 999) == content[at : at + 999]

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))


def test_a_file_that_fails_is_a_source_that_can_t_be_read(place: Path) -> None:
    class Failing(io.BytesIO):
        fails = False

        def read(self, size: int | None = -1, /) -> bytes:
            if self.fails:
                raise OSError(errno.EIO, "the wire is cut")
            return super().read(size)

    file = Failing(place.read_bytes())
    system = OnggiFileSystem(file)
    file.fails = True
    with pytest.raises(archive.SourceError, match="the wire is cut"):
        system.cat_file("inner/a.csv")
    file.fails = False
    assert system.cat_file("inner/a.csv", 0, 1) == b"n"
    store: Store = FileObjectStore(file)
    assert store.read_at(store.size - 3, 10) == place.read_bytes()[-3:]
    assert store.read_at(store.size + 3, 10) == b""


def test_a_file_that_can_t_seek_is_refused_and_closed() -> None:
    class Pipe(io.BytesIO):
        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation("a pipe can't seek")

    class Pipes(fsspec.AbstractFileSystem):
        protocol = "pipes"
        opened = Pipe()

        def _open(self, *_: Any, **__: Any) -> Pipe:
            return self.opened

    system = Pipes()
    with pytest.raises(archive.SourceError, match="can't seek"):
        OnggiFileSystem(OpenFile(system, "a.onggi"))
    assert system.opened.closed
    with pytest.raises(archive.SourceError, match="can't seek"):
        OnggiFileSystem(Pipe())
