"""The compiled `read_files` reads what its twin in Python reads, and nothing else."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from onggi.archive import files
from onggi.archive.files import Wanted

from .native_helpers import ALL, FILL, NATIVE, Rows, opened, read_differences, some_files, wanted_of
from .native_helpers import no_descriptor_stays as no_descriptor_stays
from .native_helpers import place as place

SECRET = b"what must not be read"


@pytest.mark.parametrize("seed", range(6))
def test_read_files_reads_what_its_twin_reads(place: Path, seed: int) -> None:
    noise = random.Random(seed)
    sizes = [0, 1, 4095, 4096, 4097, 300_000, *(noise.randrange(20_000) for _ in range(20))]
    with opened(place) as fd:
        names = some_files(place, *sizes)
        wanted: list[Wanted] = []
        at = 0
        for found in files.scan(fd, noise.choices(names, k=60), ALL):
            member_offset = noise.choice([0, noise.randrange(found.size + 1)])
            length = noise.choice(
                [0, found.size - member_offset, noise.randrange(found.size - member_offset + 1)]
            )
            if noise.random() < 0.1:  # beyond the end
                length += 1
            at += noise.randrange(3)  # what is between them must stay
            wanted.append(Wanted(found, member_offset, length, at))
            at += length
        assert read_differences(NATIVE, fd, wanted, at + 5) == []
        assert len(NATIVE.read_files(fd, wanted, memoryview(bytearray(at)))) < 30


def swap(path: Path) -> Path:
    """Take a file away, under a name that the tests do not use."""
    path.rename(path.with_name("old"))
    return path


def _by_another(path: Path) -> None:
    times = path.stat()
    other = path.with_name("other")
    other.write_bytes(SECRET)
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.rename(path)


def _by_its_hard_link(path: Path) -> None:
    path.with_name("again").hardlink_to(path)  # the same file, but its ctime


def _by_a_link_to_it(path: Path) -> None:
    swap(path).symlink_to("old")


def _by_a_link_to_another(path: Path) -> None:
    path.with_name("other").write_bytes(SECRET)
    swap(path).symlink_to("other")


def _grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"1")


def _rewritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"1")


def _touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def _rewritten_with_its_time(path: Path) -> None:
    times = path.stat()
    _rewritten(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "replaced": _by_another,
    "removed": lambda path: path.unlink(),
    "grown": _grown,
    "shrunk": lambda path: os.truncate(path, 1),
    "emptied": lambda path: os.truncate(path, 0),
    "rewritten": _rewritten,
    "rewritten with its time": _rewritten_with_its_time,
    "touched": _touched,
    "with another mode": lambda path: path.chmod(0o640),
    "with another name": _by_its_hard_link,
    "a link to it": _by_a_link_to_it,
    "a link to another": _by_a_link_to_another,
    "a folder": lambda path: swap(path).mkdir(),
    "a fifo": lambda path: os.mkfifo(swap(path)),
    "a socket": lambda path: os.mknod(swap(path), stat.S_IFSOCK | 0o600),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changed_since_it_was_found_is_left_to_python(place: Path, change: str) -> None:
    with opened(place) as fd:
        names = some_files(place, 5000, len(SECRET), 5000)
        wanted: list[Wanted] = []
        at = 0
        for found in files.scan(fd, names, ALL):
            wanted.append(Wanted(found, 0, found.size, at))
            at += found.size
        assert NATIVE.read_files(fd, wanted, memoryview(bytearray(at))) == []
        CHANGES[change](place / "f1")
        view = memoryview(bytearray(at))
        assert NATIVE.read_files(fd, wanted, view) == [1]
        assert SECRET not in bytes(view)
        assert read_differences(NATIVE, fd, wanted, at) == []


@pytest.mark.parametrize("field", ["size", "mtime_ns", "ctime_ns", "dev", "ino"])
@pytest.mark.parametrize(
    "value", [lambda n: n + 1, lambda n: n - 1, lambda _: -1, lambda n: n + 2**64, lambda _: 2**80]
)
def test_each_thing_that_identifies_a_file_counts(
    tmp_path: Path, field: str, value: Callable[[int], int]
) -> None:
    with opened(tmp_path) as fd:
        (found,) = files.scan(fd, some_files(tmp_path, 100), ALL)
        wrong = found._replace(**{field: value(getattr(found, field))})
        view = memoryview(bytearray(100))
        assert NATIVE.read_files(fd, [wanted_of(wrong), wanted_of(found)], view) == [0]


@pytest.mark.parametrize(
    ("member_offset", "length", "view_offset"),
    [
        (0, 101, 10), (1, 100, 10), (101, 0, 500), (0, 100, 901), (0, 100, 1000), (0, 100, 1001),
        (0, 1, 1000), (0, 1, -1), (0, -1, 10), (-1, 10, 10), (0, -(2**63), 10), (0, 10, 2**63 - 1),
        (0, 2**63 - 1, 1), (2**63 - 1, 1, 0), (2**63 - 1, 2**63 - 1, 0), (0, 1, -(2**63)),
        (2**64, 1, 0), (0, 2**64, 0), (0, 1, 2**64), (0, 2**62, 2**62), (-(2**64), 1, 0),
    ],
)  # fmt: skip
def test_a_span_that_does_not_fit_touches_nothing_outside(
    tmp_path: Path, member_offset: int, length: int, view_offset: int
) -> None:
    with opened(tmp_path) as fd:
        (found,) = files.scan(fd, some_files(tmp_path, 100), ALL)
        whole = bytearray([FILL]) * 3000
        view = memoryview(whole)[1000:2000]
        wanted = [Wanted(found, member_offset, length, view_offset), wanted_of(found, at=10)]
        left = NATIVE.read_files(fd, wanted, view)
        assert left == ([] if (member_offset, length) == (101, 0) else [0])
        assert view[10:110] == (tmp_path / "f0").read_bytes()
        del view, wanted
        whole[1010:1110] = bytes([FILL]) * 100
        inside = whole[1000:2000].count(FILL)
        assert whole.count(FILL) - inside == 2000
        assert inside >= 900


def test_a_link_is_not_read_though_it_leads_to_the_very_file(tmp_path: Path) -> None:
    with opened(tmp_path) as fd:
        (found,) = files.scan(fd, some_files(tmp_path, 100), ALL)
        (tmp_path / "link").symlink_to("f0")
        wanted = [wanted_of(found._replace(name=b"link")), wanted_of(found, at=100)]
        assert NATIVE.read_files(fd, wanted, memoryview(bytearray(200))) == [0]
        assert read_differences(NATIVE, fd, wanted, 200) == []


def test_an_empty_view_and_no_items_are_no_trouble(tmp_path: Path) -> None:
    with opened(tmp_path) as fd:
        (found,) = files.scan(fd, some_files(tmp_path, 0), ALL)
        assert NATIVE.read_files(fd, [], memoryview(bytearray())) == []
        assert NATIVE.read_files(fd, [wanted_of(found)], memoryview(bytearray())) == []
        assert NATIVE.read_files(fd, [wanted_of(found, 0, 1)], memoryview(bytearray())) == [0]
        assert Rows().restore(NATIVE, fd) == (0, [], 0, 0)
