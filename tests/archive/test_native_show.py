"""`fill_rows`, `copy` and their twins, nodes of any archive and of the adapter, do the same."""

from __future__ import annotations

import ctypes
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.archive import layout
from onggi.archive.entry import Entry, decode_entry, encode_entry

from .native_helpers import NATIVE
from .tree_helpers import pack_path

CONTENT_BYTES = 10_000
ROWS, SETS = 1000, 3
PARENT, NUMBER = 4, 20
INODE = 1

FILL = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
)


class Taken:
    """Takes names as libfuse does, up to `most`.

    Attributes:
        names: (name, what `stat` gives, offset of the next, flags).
    """

    def __init__(self, most: int = 1000) -> None:
        self.names: list[tuple[bytes, bytes, int, int]] = []
        self.most = most
        self.function = FILL(self._take)
        self.address = ctypes.cast(self.function, ctypes.c_void_p).value

    def _take(self, buffer: int, name: bytes, status: int, following: int, flags: int) -> int:
        assert buffer == 4711
        if len(self.names) >= self.most:
            return 1
        self.names.append((name, ctypes.string_at(status, 144), following, flags))
        return 0


def row(name: bytes, offset: int, **fields: Any) -> bytes:
    """Return the row of a file like most others, or another one."""
    usual = Entry(
        NUMBER, layout.ENTRY_FILE, 0, 0o644, 5, 6, 0, 1_700_000_000_123_456_789, PARENT, offset,
        len(name), 0, 700, 100, 0, 1,
    )  # fmt: skip
    return encode_entry(usual._replace(**fields))


def fill(taken: Taken, raw: bytes, strings: bytes, **changed: Any) -> tuple[int, bool]:
    """Call the compiled function; `changed` names arguments that are not the usual ones."""
    usual: dict[str, Any] = {
        "filler": taken.address, "buffer": 4711, "raw": raw, "first": 0, "number": NUMBER,
        "strings": strings, "strings_offset": 0, "position": 2, "flags": 2, "parent": PARENT,
        "content_bytes": CONTENT_BYTES, "rows": ROWS, "sets": SETS, "first_inode": INODE,
        "uid": -1, "gid": -1,
    }  # fmt: skip
    return NATIVE.fill_rows(*{**usual, **changed}.values())


def one(**fields: Any) -> int:
    """Return how many rows are taken of one with these fields."""
    return fill(Taken(), row(b"name", 0, **fields), b"name")[0]


def looks(raw: bytes) -> Any:
    """Return a struct stat as mfusepy has it."""
    os.environ.setdefault("FUSE_LIBRARY_PATH", "libfuse3.so.3")
    import mfusepy

    return mfusepy.c_stat.from_buffer_copy(raw)


def test_a_file_is_shown_with_all_that_its_row_says() -> None:
    taken = Taken()
    assert fill(taken, row(b"name", 0, mode=0o4751, link_count=3), b"name") == (1, False)
    ((name, raw, following, flags),) = taken.names
    assert (name, following, flags) == (b"name", 3, 2)
    found = looks(raw)
    assert found.st_ino == INODE + NUMBER
    assert found.st_mode == stat.S_IFREG | 0o4751
    assert (found.st_nlink, found.st_uid, found.st_gid) == (3, 5, 6)
    assert (found.st_size, found.st_blocks, found.st_blksize) == (700, 2, 131_072)
    assert (found.st_mtimespec.tv_sec, found.st_mtimespec.tv_nsec) == (1_700_000_000, 123_456_789)


@pytest.mark.parametrize(
    ("fields", "mode"),
    [
        (
            {"type": layout.ENTRY_DIRECTORY, "member_bytes": 0, "first": 30, "total": 4},
            stat.S_IFDIR,
        ),
        ({"type": layout.ENTRY_DIRECTORY, "member_bytes": 0, "first": 0}, stat.S_IFDIR),
        ({"type": layout.ENTRY_SYMLINK, "member_bytes": 9}, stat.S_IFLNK),
        ({"type": layout.ENTRY_FIFO, "member_bytes": 0, "first": 0}, stat.S_IFIFO),
        ({"flags": layout.FLAG_SHARED | layout.FLAG_CHANGED}, stat.S_IFREG),
    ],
    ids=str,
)
def test_what_is_common_is_shown_as_the_twin_shows_it(fields: dict[str, Any], mode: int) -> None:
    looks(bytes(144))
    from onggi.fuse.status import Owners, entry_status

    taken = Taken()
    raw = row(b"name", 0, **fields)
    assert fill(taken, raw, b"name")[0] == 1
    entry = decode_entry(NUMBER, raw)
    data = entry.member_bytes if entry.is_file else 0
    expected = entry_status(entry, INODE + NUMBER, data, Owners())
    assert taken.names[0][1] == expected
    assert stat.S_IFMT(looks(expected).st_mode) == mode
    other = Taken()
    assert fill(other, raw, b"name", uid=77, gid=88)[0] == 1
    assert other.names[0][1] == entry_status(entry, INODE + NUMBER, data, Owners(77, 88))


@pytest.mark.parametrize(
    "fields",
    [
        {"type": 0}, {"type": 1}, {"type": 9}, {"type": layout.ENTRY_HARD_LINK},
        {"type": layout.ENTRY_BLOCK_DEVICE, "member_bytes": 0, "first": 8},
        {"type": layout.ENTRY_DIRECTORY, "member_bytes": 1},
        {"type": layout.ENTRY_DIRECTORY, "member_bytes": 0, "first": NUMBER, "total": 1},
        {"type": layout.ENTRY_DIRECTORY, "member_bytes": 0, "first": 999, "total": 2},
        {"type": layout.ENTRY_DIRECTORY, "member_bytes": 0, "first": 30, "total": 2**64 - 1},
        {"type": layout.ENTRY_DIRECTORY, "member_bytes": 0, "first": 30, "total": 0},
        {"type": layout.ENTRY_SYMLINK, "member_bytes": 0},
        {"type": layout.ENTRY_SYMLINK, "member_bytes": 4096},
        {"type": layout.ENTRY_FIFO, "member_bytes": 0, "first": 1},
        {"flags": layout.FLAG_MAPPED}, {"flags": layout.FLAG_MADE}, {"flags": 32},
        {"mode": 0o10000}, {"parent": PARENT + 1}, {"attributes": SETS + 1}, {"link_count": 0},
        {"total": 1}, {"member_bytes": 0}, {"first": CONTENT_BYTES}, {"first": 2**64 - 1},
        {"member_bytes": 2**64 - 1}, {"name_bytes": 5}, {"name_bytes": 0}, {"name_offset": 1},
        {"name_bytes": 256}, {"name_offset": 2**64 - 1},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_common_is_left_to_python(fields: dict[str, Any]) -> None:
    assert one() == 1
    assert one(**fields) == 0


@pytest.mark.parametrize("reserved", [42, 43, 76, 79])
def test_a_reserved_byte_that_is_not_zero_is_left_to_python(reserved: int) -> None:
    raw = bytearray(row(b"name", 0))
    raw[reserved] = 1
    assert fill(Taken(), bytes(raw), b"name") == (0, False)


@pytest.mark.parametrize("name", [b".", b"..", b"a/b", b"a\0b"])
def test_a_name_that_can_not_be_is_left_to_python(name: bytes) -> None:
    assert fill(Taken(), row(name, 0), name) == (0, False)


@given(names=st.lists(st.binary(min_size=1, max_size=8), min_size=1, max_size=12),
       most=st.integers(0, 12), first=st.integers(0, 12))  # fmt: skip
def test_names_are_taken_while_they_rise_and_there_is_room(
    names: list[bytes], most: int, first: int
) -> None:
    raw, strings = b"", b""
    for name in names:
        raw += row(name, len(strings))
        strings += name
    first = min(first, len(names))
    expected: list[bytes] = []
    last = b""
    for name in names[first:]:
        if name <= last or b"/" in name or b"\0" in name or name in (b".", b".."):
            break
        expected.append(name)
        last = name
    taken = Taken(most)
    end, full = fill(taken, raw, strings, first=first)
    assert [name for name, *_ in taken.names] == expected[:most]
    assert end == first + min(len(expected), most)
    assert full is (len(expected) > most)


@pytest.mark.parametrize(
    "change",
    [{"filler": 0}, {"first": -1}, {"first": 2}, {"raw": "text"}, {"strings": None},
     {"number": "1"}], ids=str,
)  # fmt: skip
def test_only_wrong_types_raise(change: dict[str, Any]) -> None:
    taken = Taken()
    with pytest.raises(TypeError):
        fill(taken, change.pop("raw", row(b"name", 0)), change.pop("strings", b"name"), **change)
    assert taken.names == []


def test_a_whole_tree_is_listed_the_same_with_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All kinds, more than stand together in rows, from any place on."""
    looks(bytes(144))
    from onggi.fuse import tree_nodes
    from onggi.fuse.status import Owners

    for number in range(600):
        (tmp_path / f"f{number:04}").write_bytes(b"x" * number)
    os.link(tmp_path / "f0007", tmp_path / "g-link")
    (tmp_path / "h").symlink_to("f0001")
    with (tmp_path / "i-sparse").open("wb") as file:
        file.truncate(1 << 20)
        file.seek(300_000)
        file.write(b"x")
    os.mkfifo(tmp_path / "j")
    (tmp_path / "k").mkdir()
    (tmp_path / "k/l").write_bytes(b"")

    packed = pack_path(tmp_path)

    class Collect(Taken):
        flags = 2
        buffer = 4711

        @property
        def filler(self) -> int:
            return self.address or 0

        def offset_of(self, number: int) -> int:
            return number

        def __call__(self, name: bytes, status: bytes, following: int, /) -> bool:
            if len(self.names) >= self.most:
                return True
            self.names.append((name, status, following, 2))
            return False

    def listed(number: int, most: int) -> list[tuple[bytes, bytes, int, int]]:
        shown = tree_nodes.ShownTree(packed.view, Owners())
        collect = Collect(most)
        shown.give(packed.view.root, number, collect)
        return collect.names

    def lists() -> list[list[tuple[bytes, bytes, int, int]]]:
        return [listed(number, most) for number in (0, 1, 255, 256, 257, 599, 605, 606)
                for most in (0, 1, 300, 1000)]  # fmt: skip

    compiled = lists()
    monkeypatch.setattr(tree_nodes, "native", lambda: None)
    assert lists() == compiled
    assert len(compiled[3]) == 605
    names = [name for name, *_ in compiled[3]]
    assert names == sorted(os.listdir(os.fsencode(tmp_path)))


@given(st.lists(st.binary(max_size=50), max_size=5), st.integers(0, 120), st.integers(0, 5))
def test_pieces_are_copied_as_the_twin_copies_them(
    pieces: list[bytes], size: int, skipped: int
) -> None:
    looks(bytes(144))
    from onggi.fuse.adapter import _copy

    views = [memoryview(each)[skipped:] for each in pieces]
    expected = b"".join(each[skipped:] for each in pieces)[:size]
    for function in (NATIVE.copy, _copy):
        target = bytearray(b"-" * (size + 10))
        to = ctypes.addressof(ctypes.c_char.from_buffer(target))
        assert function(to, size, views) == len(expected)
        assert bytes(target) == expected + b"-" * (size + 10 - len(expected))


def test_a_piece_that_is_not_contiguous_is_refused() -> None:
    target = bytearray(b"-" * 10)
    to = ctypes.addressof(ctypes.c_char.from_buffer(target))
    with pytest.raises(BufferError):
        NATIVE.copy(to, 10, [memoryview(b"abcdefgh")[::2]])
    assert target == b"-" * 10
