"""The catalogue as a whole: look-ups, walks, and rows that do not hang together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onggi.archive import layout
from onggi.archive import tree as tree_module
from onggi.archive.catalogue import Extent
from onggi.archive.entry import Entry, Owner, encode_owner
from onggi.archive.errors import BadUseError, DamagedError
from onggi.archive.tree import Tree
from onggi.archive.tree_check import check_tree

from .tree_helpers import (
    ENTRY_FIELDS,
    ROWS,
    Catalogue,
    Nested,
    add_nested,
    everything,
    nested,
    patched,
    paths_of,
    tree_of,
)

FILE, DIRECTORY, SYMLINK = layout.ENTRY_FILE, layout.ENTRY_DIRECTORY, layout.ENTRY_SYMLINK
FIFO, HARD_LINK = layout.ENTRY_FIFO, layout.ENTRY_HARD_LINK
CONTENT_BYTES = 5000


def tree_with(folder: Nested, page_rows: int | None = None) -> Tree:
    """Return the tree of nested folders."""
    catalogue = Catalogue()
    catalogue.rows.add(DIRECTORY, b"", 0)
    add_nested(catalogue.rows, folder, 0)
    catalogue.rows.finish(0)
    return catalogue.tree(CONTENT_BYTES, page_rows)


# --- good trees ----------------------------------------------------------------------------------


@given(folder=nested(), page_rows=st.sampled_from([None, 1, 2, 3]))
@example(folder={b"..\x01": 0}, page_rows=None)
def test_a_look_up_finds_what_a_dictionary_does(folder: Nested, page_rows: int | None) -> None:
    tree = tree_with(folder, page_rows)
    known = dict(paths_of(folder))
    assert len(tree) == len(known) + 1
    for path, content in known.items():
        found = tree.lookup(path)
        assert found is not None
        assert tree.path(found) == path
        assert tree.name(found) == path.rpartition(b"/")[2]
        assert found.is_directory is not isinstance(content, int)
        assert tree.lookup(b"//./" + path.replace(b"/", b"/.//") + b"/.") == found
        for other in (path + b"\1", path[:-1], path + b"/x", b"\1" + path, path[:-1] + b"\xff"):
            parts = [part for part in other.split(b"/") if part not in (b"", b".")]
            if b".." in parts:
                with pytest.raises(BadUseError, match="can't hold"):
                    tree.lookup(other)
                continue
            expected = b"/".join(parts) in known or not parts
            assert (tree.lookup(other) is not None) is expected, other
    for path in (b"", b"/", b".", b"./", b"//."):
        assert tree.lookup(path) == tree.root


@given(folder=nested(), page_rows=st.sampled_from([None, 1, 3]))
def test_a_walk_gives_everything_once_in_the_order_of_the_content(
    folder: Nested, page_rows: int | None
) -> None:
    tree = tree_with(folder, page_rows)
    check_tree(tree)
    expected = [path for path, _ in paths_of(folder)]
    walked = list(tree.walk(tree.root))
    assert [visited.path for visited in walked] == [b"", *expected]
    assert [tree.path(visited.entry) for visited in walked] == [b"", *expected]
    assert sorted(visited.entry.row for visited in walked) == list(range(len(tree)))
    assert [entry.row for entry in tree.entries()] == list(range(len(tree)))
    for visited in walked:
        below = list(tree.walk(visited.entry, visited.path))
        start = walked.index(visited)
        assert below == walked[start : start + len(below)]
        inside = [path for path in expected if path.startswith(visited.path + b"/")]
        assert len(below) == (len(inside) + 1 if visited.entry.row else len(walked))
        children = list(tree.children(visited.entry))
        assert [name for name, _ in children] == sorted(name for name, _ in children)
        for name, entry in children:
            assert tree.child(visited.entry, name) == entry


def test_a_folder_of_many_spans_is_listed_in_order() -> None:
    for count in (255, 256, 257, 511, 512, 513, 2000):
        names = [b"%05d" % number for number in range(count)]
        tree = tree_with(dict.fromkeys(names, 1), page_rows=100)
        assert [name for name, _ in tree.children(tree.root)] == names
        assert [len(span) for span in tree.spans(tree.root)][:-1] == [256] * ((count - 1) // 256)
        for name in (names[0], names[-1], names[count // 2]):
            assert tree.lookup(name) is not None
        assert tree.lookup(b"00000x") is None


def test_a_path_that_climbs_is_refused() -> None:
    tree = tree_with({b"a": {b"b": 1}})
    for path in (b"..", b"a/..", b"a/b/../b", b"../a", b"./.."):
        with pytest.raises(BadUseError, match=r"\.\."):
            tree.lookup(path)
    for path in (b"...", b"a/b/c", b"nothing/.."):
        assert tree.lookup(path) is None


def test_names_that_lie_far_apart_are_found_one_by_one() -> None:
    """No writer of ours puts them so, but another one may."""
    catalogue = Catalogue()
    rows = catalogue.rows
    rows.add(DIRECTORY, b"", 0)
    for name in (b"a", b"b", b"c"):
        rows.add(FILE, name, 0)
        rows.add_string(b"." * 5000)
    rows.set_children(0, 1, 3)
    rows.finish(0)
    tree = catalogue.tree()
    assert [name for name, _ in tree.children(tree.root)] == [b"a", b"b", b"c"]
    check_tree(tree)


def test_names_that_stand_backwards_or_share_bytes_are_found() -> None:
    catalogue = Catalogue()
    rows = catalogue.rows
    rows.add(DIRECTORY, b"", 0)
    for name in (b"a", b"ab", b"b"):
        rows.add(FILE, name, 0)
    rows.set_children(0, 1, 3)
    rows.finish(0)
    raw = catalogue.raw()
    # `ab` of the second name holds the other two.
    raw = patched(raw, 1, name_offset=1, name_bytes=1)
    raw = patched(raw, 3, name_offset=2, name_bytes=1)
    raw = patched(raw, 2, name_offset=1, name_bytes=2)
    tree = tree_of(raw, 0)
    assert [name for name, _ in tree.children(tree.root)] == [b"a", b"ab", b"b"]
    raw[layout.TABLE_STRINGS] = b"bcaab"
    raw = patched(raw, 1, name_offset=2, name_bytes=1)
    raw = patched(raw, 2, name_offset=3, name_bytes=2)
    raw = patched(raw, 3, name_offset=0, name_bytes=1)
    tree = tree_of(raw, 0)
    assert [name for name, _ in tree.children(tree.root)] == [b"a", b"ab", b"b"]
    assert tree.lookup(b"ab") is not None
    assert tree.name(tree.root) == tree.path(tree.root) == b""
    check_tree(tree)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_folders_may_be_as_deep_as_the_format_says(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted are the directories on the way to an entry, the root included."""
    monkeypatch.setattr(layout, "MAX_DEPTH", most)
    for depth in range(most + 2):
        folder: dict[bytes, Any] = {b"file": 1}
        for _ in range(depth):
            folder = {b"d": folder}
        tree = tree_with(folder)
        if depth + 1 <= most:
            check_tree(tree)
            assert len(list(tree.walk(tree.root))) == depth + 2
            continue
        with pytest.raises(DamagedError, match="deep"):
            check_tree(tree)
        with pytest.raises(DamagedError, match="deep"):
            list(tree.walk(tree.root))


def test_a_chain_of_a_thousand_folders_is_walked() -> None:
    catalogue = Catalogue()
    catalogue.rows.add(DIRECTORY, b"", 0)
    for depth in range(1000):
        catalogue.rows.set_children(depth, depth + 1, 1)
        catalogue.rows.add(DIRECTORY, b"d", depth)
    catalogue.rows.finish(0)
    tree = catalogue.tree()
    check_tree(tree)
    walked = list(tree.walk(tree.root))
    assert walked[-1].path == b"d/" * 999 + b"d"
    assert tree.lookup(walked[-1].path) == walked[-1].entry
    assert tree.path(walked[-1].entry) == walked[-1].path


# --- one of everything ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good() -> dict[int, bytes]:
    return everything()


def test_one_of_everything_is_read_as_it_was_written(good: dict[int, bytes]) -> None:
    tree = tree_of(good, CONTENT_BYTES)
    visited: list[int] = []
    check_tree(tree, lambda entry: visited.append(entry.row))
    assert sorted(visited) == list(range(1, len(tree)))
    summary = tree.summary
    assert summary[:7] == (31, 8, 3, 1, 2, 2, 1)
    assert summary.file_bytes == 100 + 9000 + 50 + 5 + 100 + 700 + 1
    assert summary.entries == len(tree)
    assert tree.run_count == 3

    def at(path: bytes) -> Any:
        return tree.lookup(path)

    assert tree.attributes(at(b"attributes")) == [(b"user.a", b"1"), (b"user.b", b"")]
    assert tree.attributes(at(b"dir")) == tree.attributes(at(b"char")) == [(b"user.c", b"23")]
    assert tree.attributes(at(b"empty")) == []
    assert tree.target(at(b"link")) == b"to/there"
    assert tree.primary(at(b"dir/h1")) == tree.primary(at(b"dir/h2")) == at(b"many")
    assert tree.primary(at(b"fifo")) == at(b"fifo")
    assert list(tree.runs(at(b"holes"))) == [Extent(0, 2048, 512), Extent(4096, 2560, 100)]
    assert list(tree.runs(at(b"dir/deep/more-holes"))) == [Extent(0, 4096, 600)]
    assert list(tree.runs(at(b"nothing-but-holes"))) == list(tree.runs(at(b"empty"))) == []
    assert list(tree.runs(at(b"same"))) == [Extent(0, 1536, 100)]
    assert tree.owner_names() == {
        (1, 0): b"u0", (1, 1): b"u1", (1, 5): b"u5", (2, 0): b"g0", (2, 2): b"g2", (2, 7): b"g7",
    }  # fmt: skip


BROKEN: list[tuple[str, dict[str, int], str]] = [
    ("", {"first": 2}, "not where a walk is"),
    ("", {"total": 10}, "not where a walk is"),
    ("", {"total": 12}, "not in its place"),
    ("", {"total": 17}, "not there"),
    ("", {"first": 0, "total": 0}, "in no directory"),
    ("dir", {"first": 13}, "not where a walk is"),
    ("dir", {"total": 2}, "not where a walk is"),
    ("dir", {"total": 6}, "not there"),
    ("dir", {"link_count": 2}, "directory has hard links"),
    ("deep", {"first": 0, "total": 0}, "in no directory"),
    ("deep", {"total": 1}, "in no directory"),
    ("deep", {"total": 3}, "not there"),
    ("attributes", {"attributes": 3}, "not there"),
    ("attributes", {"member_bytes": CONTENT_BYTES - 1535}, "not there"),
    ("attributes", {"first": CONTENT_BYTES - 99}, "not there"),
    ("attributes", {"first": 2**64 - 1}, "not there"),
    ("attributes", {"member_bytes": 101}, "summary"),
    ("attributes", {"parent": 1}, "before its directory"),
    ("block", {"parent": 1}, "not in its place"),
    ("attributes", {"name_offset": 2**63}, "no row"),
    ("attributes", {"name_bytes": 255}, "no row 255"),
    ("block", {"name_offset": 0, "name_bytes": 10}, "not in its place"),
    ("block", {"name_offset": 0, "name_bytes": 1}, "not in its place"),
    ("holes", {"first": 1, "total": 1}, "runs are not in order"),
    ("holes", {"total": 1}, "not in order"),
    ("holes", {"total": 3}, "runs are wrong"),
    ("holes", {"total": 4}, "not there"),
    ("holes", {"first": 3, "total": 1}, "not there"),
    ("holes", {"member_bytes": 4195}, "runs are wrong"),
    ("nothing-but-holes", {"first": 0}, "runs are not in order"),
    ("nothing-but-holes", {"first": 3}, "runs are not in order"),
    ("more-holes", {"first": 3, "total": 0}, "not in order"),
    ("more-holes", {"total": 0}, "belong to no file"),
    ("link", {"first": 2**63}, "no row"),
    ("link", {"member_bytes": 4095}, "no row"),
    ("many", {"link_count": 2}, "numbers of links"),
    ("many", {"link_count": 4}, "numbers of links"),
    ("empty", {"link_count": 2}, "numbers of links"),
    ("zz", {"first": CONTENT_BYTES}, "not there"),
    ("fifo", {"type": HARD_LINK, "mode": 0, "mtime_ns": 0, "link_count": 0}, "can't have one"),
]


@pytest.mark.parametrize(("name", "fields", "words"), BROKEN)
def test_rows_that_do_not_hang_together_are_damage(
    name: str, fields: dict[str, int], words: str, good: dict[int, bytes]
) -> None:
    with pytest.raises(DamagedError, match=words):
        check_tree(tree_of(patched(good, ROWS[name], **fields), CONTENT_BYTES))


@pytest.mark.parametrize("target", ["dir", "h1", "h2"])
def test_a_hard_link_names_what_can_have_one(target: str, good: dict[int, bytes]) -> None:
    rows = {"dir": ROWS["dir"], "h1": ROWS["deep"] + 1, "h2": ROWS["deep"] + 2}
    raw = patched(good, rows["h2"], first=rows[target])
    tree = tree_of(raw, CONTENT_BYTES)
    words = "before its target" if target == "h2" else "can't have one"
    with pytest.raises(DamagedError, match=words):
        tree.primary(tree.entry(rows["h2"]))
    with pytest.raises(DamagedError):
        check_tree(tree)


def test_two_wrong_numbers_of_links_do_not_cancel_out(good: dict[int, bytes]) -> None:
    raw = patched(patched(good, ROWS["many"], link_count=2), ROWS["empty"], link_count=2)
    with pytest.raises(DamagedError, match="numbers of links"):
        check_tree(tree_of(raw, CONTENT_BYTES))


RUNS: list[tuple[dict[str, int], str]] = [
    ({"member": 3585}, "wrong"),  # it ends behind the start of the next one
    ({"member": 2**64 - 1}, "wrong"),
    ({"run_bytes": 0}, "wrong"),
    ({"run_bytes": 9001}, "wrong"),
    ({"run_bytes": 4097, "content": 0}, "wrong"),
    ({"base": 1}, "wrong"),
    ({"reserved": 1}, "wrong"),
    ({"content": CONTENT_BYTES - 511}, "outside"),
    ({"content": 2**64 - 1}, "outside"),
]


@pytest.mark.parametrize(("fields", "words"), RUNS)
def test_runs_that_can_not_be_are_damage(
    fields: dict[str, int], words: str, good: dict[int, bytes]
) -> None:
    known = {"member": 0, "content": 2048, "run_bytes": 512, "base": 0, "reserved": 0} | fields
    first = layout.EXTENT_ROW.pack(
        known["member"], known["content"], known["run_bytes"], known["base"],
        known["reserved"].to_bytes(4, "little"),
    )  # fmt: skip
    raw = good | {layout.TABLE_RUNS: first + good[layout.TABLE_RUNS][32:]}
    tree = tree_of(raw, CONTENT_BYTES)
    entry = tree.entry(ROWS["holes"])
    with pytest.raises(DamagedError, match=words):
        list(tree.runs(entry))
    with pytest.raises(DamagedError, match=words):
        check_tree(tree)


TABLES: list[tuple[int, Callable[[bytes], bytes], str]] = [
    (layout.TABLE_SUMMARY, lambda rows: b"", "not one summary"),
    (layout.TABLE_SUMMARY, lambda rows: rows * 2, "not one summary"),
    *(
        (
            layout.TABLE_SUMMARY,
            lambda rows, at=at: rows[: at * 8] + bytes([rows[at * 8] + 1]) + rows[at * 8 + 1 :],
            "does not fit",
        )
        for at in range(1, 8)
    ),
    (layout.TABLE_RUNS, lambda rows: rows + rows[:32], "belong to no file"),
    (layout.TABLE_RUNS, lambda rows: rows[:64], "not there"),
    (layout.TABLE_ENTRIES, lambda rows: rows + rows[-80:], "in no directory"),
    (layout.TABLE_ENTRIES, lambda rows: rows[:-80], "not there"),
    (layout.TABLE_ENTRIES, lambda rows: b"", "no row"),
    (layout.TABLE_STRINGS, lambda rows: b"", "no row"),
    (layout.TABLE_STRINGS, lambda rows: rows[:-1], "no row"),
    (layout.TABLE_STRINGS, lambda rows: rows.replace(b"to/there", b"to\0there"), "NUL"),
    (layout.TABLE_STRINGS, lambda rows: rows.replace(b"u0", b"u\0"), "NUL"),
    (layout.TABLE_STRINGS, lambda rows: rows.replace(b"fifo", b"fi/o"), "name"),
    (layout.TABLE_STRINGS, lambda rows: rows.replace(b"fifo", b"zifo"), "not in its place"),
    (layout.TABLE_ATTRIBUTE_SETS, lambda rows: rows[:16], "not there"),
    (layout.TABLE_ATTRIBUTE_SETS, lambda rows: b"\1" + rows[1:], "order|attribute"),
    (layout.TABLE_ATTRIBUTE_SETS, lambda rows: rows[16:] + rows[:16], "not in order"),
    (layout.TABLE_ATTRIBUTE_SETS, lambda rows: rows[:12] + b"\1" + rows[13:], "out of bounds"),
    (layout.TABLE_ATTRIBUTE_BYTES, lambda rows: rows + b"x", "belong to no set"),
    (layout.TABLE_ATTRIBUTE_BYTES, lambda rows: rows[:-1], "no row"),
    (layout.TABLE_ATTRIBUTE_BYTES, lambda rows: rows.replace(b"user.b", b"user.a"), "order"),
    (layout.TABLE_OWNERS, lambda rows: rows[16:32] + rows[:16], "not in order"),
    (
        layout.TABLE_OWNERS,
        lambda rows: rows + encode_owner(Owner(2, 2**32 - 1, 2**40, 1)),
        "no row",
    ),
]


@pytest.mark.parametrize(("number", "change", "words"), TABLES)
def test_tables_that_do_not_fit_each_other_are_damage(
    number: int, change: Callable[[bytes], bytes], words: str, good: dict[int, bytes]
) -> None:
    raw = good | {number: change(good[number])}
    assert raw != good
    with pytest.raises(DamagedError, match=words):
        check_tree(tree_of(raw, CONTENT_BYTES))


def test_a_look_up_sees_a_child_that_names_another_folder(good: dict[int, bytes]) -> None:
    tree = tree_of(patched(good, ROWS["deep"], parent=ROWS[""]), CONTENT_BYTES)
    with pytest.raises(DamagedError, match="not in its place"):
        tree.lookup(b"dir/deep")


def test_the_names_of_many_owners_do_not_take_much_memory(
    good: dict[int, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_module, "_MOST_NAMES_KEPT", 2)
    assert len(tree_of(good, CONTENT_BYTES).owner_names()) == 2


# --- runs of sparse files ------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 255, 256, 257, 1000])
def test_the_runs_behind_an_offset_are_those_that_a_scan_finds(count: int) -> None:
    catalogue = Catalogue()
    rows = catalogue.rows
    rows.add(DIRECTORY, b"", 0)
    runs = [(number * 10 + 3, number % 50, 1 + number % 7) for number in range(count)]
    size = count * 10 + 5
    for name in (b"a", b"b"):
        rows.add(FILE, name, 0, flags=layout.FLAG_MAPPED, member_bytes=size, total=count,
                 first=rows.add_runs(runs))  # fmt: skip
    rows.set_children(0, 1, 2)
    rows.finish(0)
    tree = catalogue.tree(60, page_rows=70)
    check_tree(tree)
    for name in (b"a", b"b"):
        entry = tree.lookup(name)
        assert entry is not None
        everything = list(tree.runs(entry))
        assert everything == [Extent(*run) for run in runs]
        for offset in [*range(30), size - 2, size - 1, size, size + 100]:
            expected = [run for run in everything if run.member_offset + run.run_bytes > offset]
            assert list(tree.runs_from(entry, offset)) == expected


# --- rows in bulk --------------------------------------------------------------------------------


@given(
    files=st.lists(
        st.tuples(
            st.sampled_from([0, 1, 255, 256, 257, 65_535, 65_536, 2**24, 2**40]),
            st.sampled_from([0, 0, 0, layout.FLAG_CHANGED, layout.FLAG_SHARED]),
            st.sampled_from([FILE, FILE, FILE, FIFO]),
        ),
        min_size=1, max_size=9,
    ),
    most=st.sampled_from([256, 65_536, 2**24]),
)  # fmt: skip
def test_a_span_of_rows_knows_which_are_no_plain_files(
    files: list[tuple[int, int, int]], most: int
) -> None:
    catalogue = Catalogue()
    rows = catalogue.rows
    rows.add(DIRECTORY, b"", 0)
    at = 100
    for number, (size, flags, kind) in enumerate(files):
        size, flags = (size, flags) if kind == FILE else (0, 0)
        rows.add(kind, b"%d" % number, 0, flags=flags, member_bytes=size, first=at * bool(size))
        at += size
    rows.set_children(0, 1, len(files))
    rows.finish(0)
    tree = catalogue.tree(at)
    (span,) = tree.spans(tree.root)
    assert len(span) == len(files)
    entries = [entry for _, entry in tree.children(tree.root)]
    assert [span.entry(number) for number in range(len(files))] == entries
    assert [span.name(entry) for entry in entries] == [b"%d" % n for n in range(len(files))]
    assert span.special(most) == [
        number
        for number, (size, flags, kind) in enumerate(files)
        if kind != FILE or flags or size >= most
    ]
    for first in range(len(files)):
        for end in range(first + 1, len(files) + 1):
            places = [entry.first for entry in entries[first:end] if entry.member_bytes]
            assert span.first_content(first, end) == (places[0] if places else None)
            assert 0 <= span.content_bytes(first, end) <= at


def test_the_content_of_a_span_of_rows_is_about_that_of_its_files() -> None:
    catalogue = Catalogue()
    catalogue.rows.add(DIRECTORY, b"", 0)
    for number in range(100):
        catalogue.rows.add(FILE, b"%03d" % number, 0, member_bytes=1000, first=5000 + number * 1536)
    catalogue.rows.set_children(0, 1, 100)
    catalogue.rows.finish(0)
    tree = catalogue.tree(10**6)
    (span,) = tree.spans(tree.root)
    assert span.content_bytes(0, 100) == 99 * 1536
    assert span.content_bytes(10, 11) == 0


def test_a_span_of_rows_that_says_nonsense_leads_nowhere(good: dict[int, bytes]) -> None:
    raw = patched(good, 1, first=2**64 - 1)
    (span,) = list(tree_of(raw, CONTENT_BYTES).spans(tree_of(raw, CONTENT_BYTES).root))
    assert span.content_bytes(0, 5) == 0
    assert span.first_content(0, 5) == 2**64 - 1
    with pytest.raises(DamagedError, match="not there"):
        span.entry(0)


# --- every byte changed --------------------------------------------------------------------------

_FIELD_AT = [name for name, size in ENTRY_FIELDS for _ in range(size)]
_NAME = {"name_offset", "name_bytes"}  # another name, in order
_PLAIN = _NAME | {"mode", "uid", "gid", "file_flags", "mtime_ns", "attributes"}
# A change of these may go unnoticed: it describes another tree, which is as good as this one.
_HARMLESS_IN_ENTRY = {
    FILE: _PLAIN | {"flags", "first"},  # another place inside of the content
    DIRECTORY: _PLAIN | {"flags"},
    SYMLINK: _PLAIN | {"first", "member_bytes"},  # another target
    layout.ENTRY_BLOCK_DEVICE: _PLAIN | {"first", "total"},
    layout.ENTRY_CHARACTER_DEVICE: _PLAIN | {"first", "total"},
    FIFO: _PLAIN,
    HARD_LINK: _NAME,
}
# The same, by place in the row.
_HARMLESS: dict[int, set[int]] = {
    layout.TABLE_ENTRIES: set(),
    layout.TABLE_RUNS: {*range(24)},  # other runs inside of all bounds
    layout.TABLE_STRINGS: {0},  # another name, in order, or target
    layout.TABLE_ATTRIBUTE_SETS: set(),
    layout.TABLE_ATTRIBUTE_BYTES: {0},  # another name, in order, or value
    layout.TABLE_OWNERS: {1, *range(4, 16)},  # another owner, in order, or name
    layout.TABLE_SUMMARY: {*range(8)},  # what was captured: unknown bits mean nothing
}


def use(tree: Tree) -> None:
    """Do all that can be done with a catalogue; each step may find damage of its own."""
    steps: list[Callable[[], object]] = [
        lambda: _look_at_all(tree, (each.entry for each in tree.walk(tree.root))),
        lambda: _look_at_all(tree, tree.entries()),
        lambda: tree.lookup(b"dir/deep/zz"),
        lambda: tree.lookup(b"many"),
        lambda: tree.lookup(b"block"),
        tree.owner_names,
        lambda: tree.summary,
        lambda: list(tree.attribute_set_sizes()),
    ]
    for step in steps:
        with suppress(DamagedError):
            step()


def _look_at_all(tree: Tree, entries: Iterable[Entry]) -> None:
    for entry in entries:
        _look(tree, entry)


def _look(tree: Tree, entry: Entry) -> None:
    with suppress(DamagedError):
        tree.path(entry)
    with suppress(DamagedError):
        tree.attributes(entry)
    with suppress(DamagedError):
        primary = tree.primary(entry)
        if primary.is_file:
            runs = list(tree.runs(primary))
            assert all(run.content_offset + run.run_bytes <= CONTENT_BYTES for run in runs)
            assert all(run.member_offset + run.run_bytes <= primary.member_bytes for run in runs)
            with suppress(DamagedError):
                list(tree.runs_from(primary, 4000) if primary.is_mapped else ())
        elif primary.type == SYMLINK:
            assert 0 not in tree.target(primary)


@pytest.mark.parametrize("number", sorted(_HARMLESS))
def test_a_changed_byte_is_found_or_does_no_harm(number: int, good: dict[int, bytes]) -> None:
    """As if somebody had sealed the changed page, so that no digest finds it."""
    width = layout.ROW_BYTES[number]
    rows = good[number]
    found = 0
    for at, byte in enumerate(rows):
        for mask in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            changed = rows[:at] + bytes([byte ^ mask]) + rows[at + 1 :]
            tree = tree_of(good | {number: changed}, CONTENT_BYTES)
            try:
                check_tree(tree)
            except DamagedError:
                found += 1
            else:
                place = at % width
                if number == layout.TABLE_ENTRIES:
                    assert _FIELD_AT[place] in _HARMLESS_IN_ENTRY[rows[at - place]]
                else:
                    assert place in _HARMLESS[number]
            if mask == 255:
                use(tree)
    assert found > len(rows), "some change of every byte, or nearly so"


@pytest.mark.parametrize("number", sorted(_HARMLESS))
def test_a_cut_or_a_doubled_row_is_found(number: int, good: dict[int, bytes]) -> None:
    width = layout.ROW_BYTES[number]
    rows = good[number]
    for at in range(0, len(rows), width):
        row = rows[at : at + width]
        for changed in (rows[:at] + row + rows[at:], rows[:at] + rows[at + width :], rows[:at]):
            tree = tree_of(good | {number: changed}, CONTENT_BYTES)
            use(tree)
            is_shorter_list_of_owners = number == layout.TABLE_OWNERS and len(changed) < len(rows)
            if width > 1 and not is_shorter_list_of_owners:
                with pytest.raises(DamagedError):
                    check_tree(tree)


@given(data=st.data())
@settings(max_examples=150)
def test_random_numbers_in_rows_lead_nowhere(data: st.DataObject, good: dict[int, bytes]) -> None:
    raw = dict(good)
    for _ in range(data.draw(st.integers(1, 4))):
        number = data.draw(st.sampled_from(sorted(_HARMLESS)))
        rows = raw[number]
        size = data.draw(st.sampled_from([1, 2, 4, 8]))
        at = data.draw(st.integers(0, max(len(rows) // size - 1, 0))) * size
        value = data.draw(
            st.one_of(
                st.integers(0, 30),
                st.sampled_from(
                    [2**8 - 1, 2**16 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
                ),
            )
        )
        raw[number] = rows[:at] + (value % 256**size).to_bytes(size, "little") + rows[at + size :]
    tree = tree_of(raw, CONTENT_BYTES)
    use(tree)
    with suppress(DamagedError):
        check_tree(tree)


@given(folder=nested(), count=st.integers(1, 5))
def test_rows_that_stand_together_are_searched_as_a_dictionary_is(
    folder: Nested, count: int
) -> None:
    tree = tree_with(folder, None)
    assert tree.content_bytes == CONTENT_BYTES
    assert tree.set_count == 0
    known = dict(paths_of(folder))
    for directory in tree.entries():
        if not directory.is_directory:
            continue
        children = list(tree.children(directory))
        for span in tree.spans(directory, len(children) // count):
            for at in range(len(span)):
                name = span.name(span.entry(at))
                assert span.find(name) == span.entry(at)
                for other in (name + b"\0", name[:-1], b"", b"\xff" * 256):
                    there = (name, other) if other == name else (other,)
                    path = tree.path(directory)
                    full = path + b"/" + other if path else other
                    expected = full in known and other in [each for each, _ in children]
                    found = span.find(other)
                    assert found is None or (expected and tree.name(found) in there)
        assert (
            list(tree.children(directory, len(children) // count))
            == (children[len(children) // count :])
        )


def test_names_that_do_not_stand_together_are_searched_too() -> None:
    """Another writer may put the names anywhere; each is read by itself then."""
    catalogue = Catalogue()
    rows = catalogue.rows
    rows.add(DIRECTORY, b"", 0)
    for name in (b"a", b"b", b"c"):
        rows.add_string(b"-" * 2000)
        rows.add(FILE, name, 0)
    rows.set_children(0, 1, 3)
    rows.finish(0)
    tree = catalogue.tree()
    (span,) = tree.spans(tree.root)
    assert span.strings == b""
    assert [span.find(name) for name in (b"a", b"b", b"c")] == [tree.entry(n) for n in (1, 2, 3)]
    assert span.find(b"bb") is None
    assert span.find(b"") is None
    span.check_order(b"")
