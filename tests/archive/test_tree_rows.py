"""The catalogue as it is written: what is kept once, what is filled in later."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.archive import layout, tree_rows
from onggi.archive.entry import encode_attributes
from onggi.archive.exclude import Excludes
from onggi.archive.files import Found
from onggi.archive.selection import TreeOptions
from onggi.archive.tree_check import check_tree

from .tree_helpers import Catalogue

FILE, DIRECTORY, HARD_LINK = layout.ENTRY_FILE, layout.ENTRY_DIRECTORY, layout.ENTRY_HARD_LINK


def attributes(number: int) -> bytes:
    """Return an attribute set."""
    return encode_attributes([(b"user.n", b"%d" % number)])


def test_attribute_sets_are_kept_once() -> None:
    rows = Catalogue().rows
    assert rows.attribute_set(b"") == 0
    assert [rows.attribute_set(attributes(number)) for number in (5, 6, 5, 7, 6, 5)] == (
        [1, 2, 1, 3, 2, 1]
    )


def test_of_many_attribute_sets_those_used_last_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_rows, "_SETS_KEPT", 2)
    rows = Catalogue().rows
    numbers = [rows.attribute_set(attributes(number)) for number in (1, 2, 1, 3, 1, 2)]
    assert numbers == [1, 2, 1, 3, 1, 4]  # 2 was used before 1, and is forgotten
    assert rows.attribute_set(attributes(3)) == 5


def test_a_large_attribute_set_is_not_kept_in_memory() -> None:
    rows = Catalogue().rows
    large = encode_attributes([(b"user.large", bytes(layout.MAX_PAGE_BYTES))])
    assert [rows.attribute_set(large) for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("names", [True, False])
def test_owners_are_those_of_entries_that_have_one(names: bool) -> None:
    asked: list[tuple[int, int]] = []

    def name(kind: int, number: int) -> bytes:
        asked.append((kind, number))
        return b"%d-%d" % (kind, number) * 100 if names else b""

    catalogue = Catalogue(name)
    catalogue.rows.add(DIRECTORY, b"", 0, uid=5, gid=6)
    for number, (uid, gid) in enumerate([(5, 6), (4, 6), (5, 6), (2**32 - 1, 0)]):
        catalogue.rows.add(FILE, b"f%d" % number, 0, uid=uid, gid=gid)
    catalogue.rows.add(HARD_LINK, b"h", 0, uid=0, gid=0, first=1, link_count=0)
    catalogue.rows.set_links(1, 2)
    catalogue.rows.set_children(0, 1, 5)
    catalogue.rows.finish(1)
    users = [(layout.OWNER_USER, number) for number in (4, 5, 2**32 - 1)]
    groups = [(layout.OWNER_GROUP, number) for number in (0, 6)]
    assert asked == users + groups
    tree = catalogue.tree()
    check_tree(tree)
    expected = {key: (b"%d-%d" % key * 100)[:255] for key in users + groups}
    assert tree.owner_names() == (expected if names else {})


def test_what_was_added_is_found_again_before_the_end() -> None:
    """Also what has been given to the spool by then."""
    catalogue = Catalogue()
    rows = catalogue.rows
    rows.add(DIRECTORY, b"", 0)
    number = rows.attribute_set(attributes(1))
    rows.add(DIRECTORY, b"dir", 0, attributes=number, mode=0o711)
    for count in range(2000):
        rows.add(FILE, b"%04d" % count, 1, member_bytes=count)
    rows.add(DIRECTORY, b"z", 1)
    rows.add(FILE, b"deep", 2002)
    assert len(rows) == 2004
    assert rows.path(0) == b""
    assert rows.path(1) == b"dir"
    assert rows.path(700) == b"dir/0698"
    assert rows.path(2003) == b"dir/z/deep"
    assert rows.entry(1).mode == 0o711
    assert rows.attributes(rows.entry(1)) == attributes(1)
    assert rows.attributes(rows.entry(700)) == b""
    assert rows.entry(2001).member_bytes == 1999


def test_what_is_filled_in_later_changes_that_alone() -> None:
    catalogue = Catalogue()
    rows = catalogue.rows
    rows.add(DIRECTORY, b"", 0)
    for count in range(2000):  # more than wait in memory
        rows.add(FILE, b"%04d" % count, 0, member_bytes=5, flags=1)
    for row in (1, 500, 2000):
        before = rows.entry(row)
        rows.set_links(row, 7)
        rows.set_flags(row, 3)
        assert rows.entry(row) == before._replace(link_count=7, flags=3)
        rows.set_links(row, 2**40)
        assert rows.entry(row).link_count == 2**32 - 1
    before = rows.entry(0)
    rows.set_children(0, 0, 0)
    assert rows.entry(0) == before
    rows.set_children(0, 1, 2000)
    assert rows.entry(0) == before._replace(first=1, total=2000)
    assert rows.entry(499) == rows.entry(498)._replace(row=499, name_offset=4 * 498)


def test_a_plain_file_has_the_row_that_any_file_has() -> None:
    one, other = Catalogue(), Catalogue()
    for catalogue in (one, other):
        catalogue.rows.add(DIRECTORY, b"", 0, uid=1)
    for number, (uid, size) in enumerate([(1, 5), (1, 0), (2, 700), (2, 1)]):
        found = Found(
            b"f%d" % number, stat.S_IFREG | 0o4751, uid, 3, size, -5, 6, 7, 8, 1, 0, 0, 16, b"", 0
        )
        first = 512 * (number + 1) if size else 0
        one.rows.add_plain(found, 0, first)
        other.rows.add(
            FILE, found.name, 0, mode=0o4751, uid=uid, gid=3, file_flags=16, mtime_ns=-5,
            member_bytes=size, first=first,
        )  # fmt: skip
    for catalogue in (one, other):
        catalogue.rows.set_children(0, 1, 4)
        catalogue.rows.finish(0)
    assert one.raw() == other.raw()


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 3000])
def test_entries_that_share_content_are_found_by_its_place(count: int) -> None:
    rows = Catalogue().rows
    rows.add(DIRECTORY, b"", 0)
    for number in range(count):
        flags = layout.FLAG_SHARED if number % 3 else 0
        rows.add(
            FILE, b"%d" % number, 0, flags=flags, member_bytes=9, first=number % 50 * 512 + 512
        )
    wanted = frozenset({512, 512 * 7, 99})
    assert [entry.row for entry in rows.shared_with(wanted)] == [
        number + 1 for number in range(count) if number % 3 and number % 50 in (0, 6)
    ]
    assert list(rows.shared_with(frozenset())) == []


@given(
    runs=st.lists(
        st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9)), max_size=5),
        max_size=6,
    )
)
def test_runs_of_files_stand_one_after_the_other(
    runs: list[list[tuple[int, int, int]]],
) -> None:
    catalogue = Catalogue()
    total = 0
    for one in runs:
        assert catalogue.rows.add_runs(one) == total
        total += len(one)
        assert catalogue.rows.run_count == total
    raw = catalogue.raw()[layout.TABLE_RUNS]
    found = [row[:3] for row in layout.EXTENT_ROW.iter_unpack(raw)]
    assert found == [run for one in runs for run in one]


# --- which names of a folder are meant -----------------------------------------------------------


def names(
    folder: Path, options: TreeOptions, path: bytes = b"", device: int | None = None
) -> object:
    """Return the names in a folder that are not left out."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        return options.names_in(fd, path, folder.stat().st_dev if device is None else device)
    finally:
        os.close(fd)


def test_names_are_sorted_as_bytes(tmp_path: Path) -> None:
    expected = [b"A", b"Z", b"_", b"a", b"a b", b"a.", b"ab", b"\xc3\xa9", b"\xff"]
    for name in reversed(expected):
        (tmp_path / os.fsdecode(name)).touch()
    assert names(tmp_path, TreeOptions()) == expected


def test_names_are_left_out_by_their_path_from_the_root(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).touch()
    options = TreeOptions(Excludes([b"./a", b"d/b"]))
    assert names(tmp_path, options) == [b"b", b"c"]
    assert names(tmp_path, options, b"d") == [b"a", b"c"]
    assert names(tmp_path, options, b"x/d") == [b"a", b"c"]
    assert options.is_left_out(b"a")
    assert options.is_left_out(b"x/d/b")
    assert not options.is_left_out(b"x/a")


def test_a_folder_of_another_file_system_is_empty_if_that_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    other = tmp_path.stat().st_dev + 1
    assert names(tmp_path, TreeOptions(one_file_system=True), device=other) == []
    assert names(tmp_path, TreeOptions(one_file_system=True)) == [b"x"]
    assert names(tmp_path, TreeOptions(), device=other) == [b"x"]
