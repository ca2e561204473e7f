"""Trees whose catalogue is lost, as their tar stream tells them: all that is left, and no more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onggi.archive import layout, pax
from onggi.archive.destination import RestoreOptions
from onggi.archive.entry import Entry
from onggi.archive.errors import DamagedError, Severity, SourceError
from onggi.archive.pax import TarMember, encode_member, encode_sparse, padding
from onggi.archive.plan import Geometry
from onggi.archive.reader import Archive
from onggi.archive.salvage import Salvaged, salvage
from onggi.archive.salvage_tree import holds_tree, rebuild_tree, salvage_tree
from onggi.archive.selection import TreeOptions
from onggi.archive.store import MemoryStore
from onggi.archive.tree import Tree
from onggi.archive.tree_check import check_tree
from onggi.archive.tree_extract import unpack_tree
from onggi.archive.view import View

from . import tree_helpers as trees
from .conftest import pack_bytes, unpack_bytes
from .tree_helpers import MTIME_NS, NS, TINIEST, TINY, Fact, Packed, noise, pack_path

NO_DEDUP = TreeOptions(dedup=False)
MADE = 0o700
BLOCK = 512


class Rescue(View):
    """What was made of an archive, as a view of it."""

    def __init__(self, salvaged: Salvaged) -> None:
        self.salvaged = salvaged
        self.tree, self.findings = salvage_tree(salvaged)

    @cached_property
    def content(self) -> bytes:
        """What is left of the content, zeros where it is lost."""
        return unpack_bytes(self.salvaged, salvage=True)[0]

    @property
    def facts(self) -> dict[bytes, Fact]:
        """What is in the tree, by path."""
        return trees.facts_in_archive(self)

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        yield self.body(self.tree, entry)

    def body(self, tree: Tree, entry: Entry) -> bytes:
        """Return what is left of a file, as one catalogue or another says where it stands."""
        body = bytearray(entry.member_bytes)
        for run in tree.runs(entry):
            piece = self.content[run.content_offset : run.content_offset + run.run_bytes]
            body[run.member_offset : run.member_offset + len(piece)] = piece
        return bytes(body)

    def told(self, code: str | None = None) -> list[bytes]:
        """Return the paths in the findings, sorted; those of one code alone."""
        found = [each for each in self.findings if code in (None, each.code)]
        return sorted(os.fsencode(each.path) for each in found if each.path is not None)

    @property
    def gaps(self) -> list[range]:
        """The parts of the content that were told to have no headers."""
        found = [(each.content_offset, each.content_bytes or 0) for each in self.findings]
        return [range(at, at + size) for at, size in found if at is not None]


def rescue(data: bytes) -> Rescue:
    """Salvage an archive, and check the catalogue that comes of it by all rules."""
    found = Rescue(salvage(MemoryStore(data)))
    check_tree(found.tree)
    assert {each.severity for each in found.findings} <= {Severity.DAMAGE}
    assert {each.code for each in found.findings} <= {"catalogue", "lost-entry", "lost-content"}
    return found


def without_catalogue(*parts: bytes, geometry: Geometry = TINY) -> bytes:
    """Return the start of an archive of a tree that has this content, up to its catalogue."""
    catalogue = trees.Catalogue()
    catalogue.rows.add(layout.ENTRY_DIRECTORY, b"", 0)
    catalogue.rows.finish(0)
    data = trees.archive_of(catalogue.raw(), b"".join(parts) + pax.END, geometry)
    return data[: units_end(data)]


def rescue_stream(*parts: bytes, geometry: Geometry = TINY) -> Rescue:
    """Rescue a tree that has this content, and no catalogue any more."""
    found = rescue(without_catalogue(*parts, geometry=geometry))
    assert found.findings.pop(0).code == "catalogue"
    return found


def member(path: bytes = b"name", type: bytes = pax.TYPE_FILE, **fields: Any) -> bytes:
    """Return a header, with more pax records if `records` are given."""
    records = fields.pop("records", ())
    known = TarMember(path, type, 0o640, 11, 22, b"user", b"group", 0, MTIME_NS)
    return encode_member(replace(known, **fields), records)


def file_of(path: bytes, body: bytes = b"", **fields: Any) -> bytes:
    """Return a file: header, content and padding."""
    return member(path, size=len(body), **fields) + body + bytes(padding(len(body)))


def units_end(data: bytes) -> int:
    """Return where the units of an archive end: all behind it is the catalogue."""
    return [unit.end_offset for unit in Archive(MemoryStore(data)).index.units()][-1]


def flipped(data: bytes, at: int) -> bytes:
    """Return bytes of which one is another."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def meet(one: range, other: range) -> bool:
    """Tell whether two ranges have something in common."""
    return max(one.start, other.start) < min(one.stop, other.stop)


class Whole:
    """What an archive held before something of it was lost: facts, and where headers stand."""

    def __init__(self, packed: Packed) -> None:
        self.packed, self.view, self.tree = packed, packed.view, packed.tree
        self.data = packed.data[: units_end(packed.data)]
        self.content_bytes = len(packed.content)
        self.facts = trees.facts_in_archive(packed.view)
        self.units = [*packed.archive.index.units()]
        self.spans = {
            b"" if each.name == "." else os.fsencode(each.name): range(
                each.offset, each.offset_data
            )
            for each in trees.tar_members(packed.content)  # data stands behind the map
        }
        assert self.spans.keys() == self.facts.keys()

    def compare(self, found: Rescue, dark: range) -> bool:
        """Check that all but what is dark is given, and loss told; return if headers are dark."""
        facts = found.facts
        told, odd = {*found.told()}, facts.keys() - self.facts.keys()
        assert odd <= told, "what never was there is told to be odd"
        hits = {path for path, span in self.spans.items() if meet(span, dark)}
        for path, fact in self.facts.items():
            if path not in facts:
                was_cut = dark.stop == self.content_bytes
                is_told = path in told or any(meet(gap, self.spans[path]) for gap in found.gaps)
                assert is_told or was_cut or odd, path
                assert path in hits or path in found.told("lost-entry"), path
            elif path in hits:
                assert path in told or not path, path
            elif not told & fact.names:
                wanted = fact._replace(names=fact.names & facts.keys())
                if fact.kind == layout.ENTRY_FILE:
                    wanted = wanted._replace(content=found.body(self.tree, self.view.entry(path)))
                assert facts[path] == wanted, path
        return bool(hits)

    def lost_bytes(self, path: bytes, end: int) -> int:
        """Return how much of a file is lost if the content ends early, or within its map."""
        entry = self.view.entry(path)
        if self.spans[path].stop > end:
            return entry.member_bytes
        runs = self.tree.runs(entry)
        ends = [(run.run_bytes, run.content_offset + run.run_bytes - end) for run in runs]
        return sum(max(0, min(size, beyond)) for size, beyond in ends)


# --- a tree of everything that needs no root -----------------------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hard links lead up, down and across."""
    root = tmp_path_factory.mktemp("source")
    deep = root / "b" / "deep" / ("d" * 110)
    for folder in (deep, root / "a" / "deep", root / "empty"):
        folder.mkdir(parents=True)
    bodies = {"a/deep/one": noise(1500, 1), "b/two": b"2", "z": noise(600, 3), "nothing": b""}
    bodies |= {"a/same": noise(700, 5), "b/same": noise(700, 5)}
    for name, body in bodies.items():
        (root / name).write_bytes(body)
    (deep / ("f" * 120)).write_bytes(noise(700, 4))
    for new, old in {"b/one": "a/deep/one", "a/two": "b/two", "b/deep/z": "z", "a/z": "z"}.items():
        os.link(root / old, root / new)
    (root / "link").symlink_to("a/" * 80)
    os.mkfifo(root / "b" / "fifo")
    trees.write_sparse(root / "holes", 300_000, {8192: noise(600, 6), 200_704: noise(100, 7)})
    trees.write_sparse(root / "a" / "hole", 5000, {})
    with suppress(OSError):  # a file system may have none
        os.setxattr(root / "z", b"user.onggi=%", noise(600, 8))
    for number, path in enumerate(sorted(root.rglob("*"))):
        os.utime(path, ns=(0, MTIME_NS + number * 1_000_000_007), follow_symlinks=False)
    os.utime(root, ns=(0, 5))
    return root


@pytest.fixture(scope="module")
def whole(source: Path) -> Whole:
    """Its archive, in which each block of the content is a unit of its own."""
    return Whole(pack_path(source, TINIEST, options=NO_DEDUP))


@pytest.mark.parametrize("geometry", [TINIEST, TINY, Geometry(65_536, 4096, 4096)])
def test_without_its_catalogue_a_tree_comes_back_whole(source: Path, geometry: Geometry) -> None:
    whole = Whole(pack_path(source, geometry, options=NO_DEDUP))
    found = rescue(whole.data)
    assert found.facts == whole.facts == trees.facts_on_disk(source)
    assert found.tree.owner_names() == whole.tree.owner_names()
    assert found.tree.summary[1:] == whole.tree.summary[1:]
    assert [each.code for each in found.findings] == ["catalogue"]
    assert "names and metadata come from the tar stream" in found.findings[0].message
    runs = found.tree.runs(found.entry(b"holes"))
    assert [run.member_offset for run in runs] == [8192, 200_704]


def test_shared_content_comes_back_as_a_hard_link(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(noise(20_000, 1))
    packed = pack_path(tmp_path, TINY)
    assert packed.flags(b"b") == layout.FLAG_SHARED
    facts = rescue(packed.data[: units_end(packed.data)]).facts
    wanted = trees.facts_on_disk(tmp_path)[b"a"]._replace(names=frozenset([b"a", b"b"]))
    assert facts[b"a"] == facts[b"b"] == wanted


@pytest.mark.parametrize("places", [(50,), (-50,), (50, -50), (8,)], ids=str)
def test_a_damaged_header_or_footer_costs_nothing(places: tuple[int, ...], whole: Whole) -> None:
    data = whole.packed.data
    for at in places:
        data = flipped(data, at % len(data))
    assert holds_tree(salvage(MemoryStore(data)))
    found = rescue(data)
    assert found.salvaged.findings
    assert found.facts == whole.facts


def test_a_damaged_page_of_the_catalogue_costs_nothing(whole: Whole) -> None:
    """But that the rest of the catalogue is not used, which is told."""
    data, start = whole.packed.data, len(whole.data)
    pages = [at for at in range(start, len(data)) if data.startswith(b"\x8eOnggiPG", at)]
    found = [rescue(flipped(data, at + 60)) for at in pages]
    assert all(each.facts == whole.facts for each in found)
    assert all(each.findings for each in found[:-3])
    told = [bool(each.findings) for each in found[-3:]]
    assert told == [False, False, True], "a walk makes up for pages of the index, not for its root"


def test_a_whole_catalogue_is_used_whatever_is_lost_of_the_content(whole: Whole) -> None:
    found = rescue(flipped(whole.packed.data, whole.units[2].payload_offset + 15))
    assert ([*found.tree.entries()], found.findings) == ([*whole.tree.entries()], [])
    assert found.tree.summary == whole.tree.summary, "no stream tells what was captured"
    assert found.tree.summary.captured


def test_a_catalogue_that_lies_is_not_used(whole: Whole) -> None:
    raw, content = trees.raw_of(whole.packed.archive), whole.packed.content
    for fields in ({"link_count": 9}, {"parent": 1}, {"type": 99}, {"first": 2**63}):
        data = trees.archive_of(trees.patched(raw, 5, **fields), content)
        with pytest.raises(DamagedError):
            check_tree(View(Archive(MemoryStore(data))).tree)
        found = rescue(data)
        assert found.facts == whole.facts
        assert [each.code for each in found.findings] == ["catalogue"]


@settings(max_examples=25)
@given(plan=trees.steps(most=12))
def test_any_tree_comes_back_from_its_stream(
    plan: list[trees.Step], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("any")
    trees.grow(root, plan)
    found = rescue(Whole(pack_path(root, TINY, options=NO_DEDUP)).data)
    assert found.facts == trees.facts_on_disk(root)
    assert [each.code for each in found.findings] == ["catalogue"]


# --- what is lost --------------------------------------------------------------------------------


def test_an_archive_may_be_cut_anywhere(whole: Whole) -> None:
    """What was cut off is missing; a file that is cut is told, with how much is lost of it."""
    cut_files = set[bytes]()
    for unit in whole.units:
        end = (unit.number + 1) * BLOCK
        found = rescue(whole.data[: unit.end_offset + unit.number % 3])
        assert found.salvaged.content_bytes == end
        whole.compare(found, range(end, whole.content_bytes))
        assert "footer" in {each.code for each in found.salvaged.findings}
        told, *rest = found.findings
        assert (told.code, found.gaps) == ("catalogue", [])
        for finding in rest:
            path = os.fsencode(finding.path or "")
            cut_files.add(path)
            assert finding.code == "lost-content"
            assert finding.content_bytes == whole.lost_bytes(path, end) > 0
    assert len(cut_files) >= 5


@pytest.mark.parametrize("count", [1, 9])
def test_any_units_may_be_lost(count: int, whole: Whole) -> None:
    """Their headers are damaged, so that nobody knows what they held."""
    units = whole.units[:-3]  # else the end is cut off
    for first in range(0, len(units) - count, (count + 1) // 2):
        data = whole.data
        for unit in units[first : first + count]:
            data = flipped(data, unit.unit_offset + 9)
        found = rescue(data)
        dark = range(first * BLOCK, (first + count) * BLOCK)
        assert not any(found.content[dark.start : dark.stop])
        assert whole.compare(found, dark) is (len(found.findings) > 1)


def test_a_damaged_frame_costs_the_headers_in_it_and_no_more(source: Path) -> None:
    """Frames of 4 KiB hold headers of some members, and ends of others."""
    packed = pack_path(source, Geometry(16_384, 4096, 4096), options=NO_DEDUP)
    whole = Whole(packed)
    count = 0
    for unit in whole.units:
        at = unit.payload_offset
        for number, frame in enumerate(packed.archive.index.frames(unit)):
            start = unit.number * 16_384 + number * 4096
            at += frame.stored_bytes
            if frame.kind == layout.FRAME_DATA:
                found = rescue(flipped(whole.data, at - 6))
                assert not any(found.content[start : start + 4096])
                count += whole.compare(found, range(start, start + 4096))
    assert count > 3


def test_a_directory_whose_header_is_lost_is_made_and_told() -> None:
    root = member(b"./", pax.TYPE_DIRECTORY, mode=0o711)
    found = rescue_stream(root, file_of(b"d/e/f", b"f"), member(b"d/g/", pax.TYPE_DIRECTORY))
    made = Fact(layout.ENTRY_DIRECTORY, MADE, 0, 0, 0, None, (), frozenset([b"d"]))
    assert found.facts[b"d"] == made
    assert found.facts[b"d/e"] == made._replace(names=frozenset([b"d/e"]))
    assert found.facts[b"d/e/f"].content == b"f"
    assert found.facts[b"d/g"].mode == 0o640
    assert (found.facts[b""].mode, found.tree.root.flags) == (0o711, 0)
    assert found.told() == found.told("catalogue") == [b"d", b"d/e"]
    late = rescue_stream(file_of(b"d/f"), member(b"d/", pax.TYPE_DIRECTORY, mode=0o751))
    assert (late.facts[b"d"].mode, late.findings) == (0o751, [])


def test_a_root_whose_header_is_lost_is_made() -> None:
    for parts in ([], [file_of(b"f")]):
        found = rescue_stream(*parts)
        assert (found.tree.root.flags, found.tree.root.mode) == (layout.FLAG_MADE, MADE)
        assert (found.findings, len(found.facts)) == ([], 1 + len(parts))
        with pytest.raises(DamagedError, match="there is no row"):
            found.tree.entry(1 + len(parts))


# --- members of other kinds, and those that can't be ---------------------------------------------


def test_devices_come_back() -> None:
    kinds = ((b"3", layout.ENTRY_CHARACTER_DEVICE), (b"4", layout.ENTRY_BLOCK_DEVICE))
    for letter, kind in kinds:
        found = rescue_stream(member(b"d", letter, device=(2**32 - 1, 2**21)))
        content, names = (2**32 - 1, 2**21), frozenset([b"d"])
        assert found.facts[b"d"] == Fact(kind, 0o640, 11, 22, MTIME_NS, content, (), names)
        assert found.findings == []


def link(path: bytes, target: bytes) -> bytes:
    return member(path, pax.TYPE_HARD_LINK, link=target)


def test_hard_links_lead_to_what_stands_anywhere() -> None:
    found = rescue_stream(
        link(b"a", b"z/deep/file"), link(b"b", b"a"), link(b"c", b"/sym/"), link(b"y/d", b"b"),
        file_of(b"z/deep/file", b"body"), member(b"sym", pax.TYPE_SYMLINK, link=b"to"),
    )  # fmt: skip
    names = frozenset([b"a", b"b", b"y/d", b"z/deep/file"])
    assert {path for path, fact in found.facts.items() if fact.names == names} == names
    assert all(found.facts[path].content == b"body" for path in names)
    assert found.facts[b"c"].names == {b"c", b"sym"}
    assert found.told() == [b"y", b"z", b"z/deep"], "directories without headers"


@pytest.mark.parametrize(
    "target", [b"", b"/", b"a", b"gone", b"d", b"f/x", b"d/gone", b"..", b"../f", b"b", b"d/../f"]
)
def test_a_hard_link_to_what_can_not_have_one_is_lost(target: bytes) -> None:
    found = rescue_stream(
        link(b"a", target), link(b"b", b"a"), file_of(b"f", b"body"),
        member(b"d/", pax.TYPE_DIRECTORY), link(b"d/good", b"f"),
    )  # fmt: skip
    assert [*found.facts] == [b"", b"f", b"d", b"d/good"]
    assert found.told("lost-entry") == found.told() == [b"a", b"b"]
    assert found.facts[b"f"].names == {b"f", b"d/good"}
    assert "what it is a link to is lost" in found.findings[0].message


@pytest.mark.parametrize("path", [
    b"..", b"../out", b"a/../../out", b"a/..", b".", b"./x", b"a/./b", b"a//b", b"/", b"//", b"",
    b"a\0b", b"a/\0", b"n" * 256, b"d/" + b"n" * 256 + b"/x",
], ids=lambda path: str(path)[:20])  # fmt: skip
def test_a_path_that_can_not_be_is_lost_and_told(path: bytes) -> None:
    is_root = path.strip(b"/") in (b"", b".")
    for kind in (b"0", b"1", b"2", b"3", b"6") + (b"5",) * (not is_root):
        bad = member(b"x", kind, link=b"good", records=[(b"path", path)])
        found = rescue_stream(bad, file_of(b"good", b"body"))
        assert [*found.facts] == [b"", b"good"]
        assert found.told() == found.told("lost-entry") == [path.strip(b"/")]


def test_hostile_members_never_leave_the_destination(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_bytes(b"mine")
    over = [(b"path", b"%b/over" % os.fsencode(outside))]
    found = rescue_stream(
        file_of(b"x", b"evil", records=over), file_of(b"x", b"evil", records=[(b"path", b"../e")]),
        member(b"out", pax.TYPE_SYMLINK, link=os.fsencode(outside)), file_of(b"out/mine", b"evil"),
        member(b"up", pax.TYPE_SYMLINK, link=b"../outside"), file_of(b"up/new", b"evil"),
        link(b"got", os.fsencode(outside / "mine")), link(b"mine", b"out/mine"),
        member(b"a/..", pax.TYPE_DIRECTORY, records=[(b"path", b"a/../../outside/new")]),
        file_of(b"good", b"good"),
    )  # fmt: skip
    dest = tmp_path / "dest"
    options = RestoreOptions(salvage=True)
    unpack_tree(found.tree, found.salvaged, os.fspath(dest), threads=1, options=options)
    assert sorted(os.listdir(tmp_path)) == ["dest", "outside"]
    assert os.listdir(outside) == ["mine"]
    assert (outside / "mine").read_bytes() == b"mine"
    assert (dest / "good").read_bytes() == b"good"
    inside = os.fsencode(outside).strip(b"/") + b"/over"  # an absolute path is below the root
    assert (dest / os.fsdecode(inside)).read_bytes() == b"evil"
    assert {b"../e", b"out/mine", b"up/new", b"got", b"mine"} <= {*found.told("lost-entry")}


def test_of_members_with_the_same_path_the_first_counts() -> None:
    folder = member(b"d/", pax.TYPE_DIRECTORY)
    found = rescue_stream(
        folder, file_of(b"d/f", b"first"), file_of(b"g", b"first"), file_of(b"h/i", b"first"),
        file_of(b"d/f", b"second"), file_of(b"d", b"second"), member(b"g/", pax.TYPE_DIRECTORY),
        file_of(b"g/below", b"second"), link(b"g", b"d/f"), file_of(b"h", b"second"),
        member(b"d/", pax.TYPE_DIRECTORY, mode=0), member(b"./", pax.TYPE_DIRECTORY), file_of(b"."),
    )  # fmt: skip
    assert [*found.facts] == [b"", b"g", b"d", b"d/f", b"h", b"h/i"]
    assert found.facts[b"d/f"].content == found.facts[b"g"].content == b"first"
    assert found.facts[b"d"].mode == 0o640
    wanted = [b".", b"d", b"d", b"d/f", b"g", b"g", b"g/below", b"h"]
    assert found.told("lost-entry") == wanted


@pytest.mark.parametrize("kind", [b"7", b"D", b"K", b"L", b"S", b"V", b"A", b"9", b"\xff"])
def test_a_member_of_an_unknown_kind_is_lost_and_told(kind: bytes) -> None:
    found = rescue_stream(member(b"odd", kind), file_of(b"good"), member(b"good/x", kind))
    assert [*found.facts] == [b"", b"good"]
    assert found.told("lost-entry") == [b"good/x", b"odd"]


@pytest.mark.parametrize(("target", "good"), [
    (b"", False), (b"t", True), (b"t" * 4095, True), (b"t" * 4096, False), (b"t\0u", False),
    (b"../../etc", True), (b"\xff", True),
], ids=str)  # fmt: skip
def test_a_target_is_as_it_was_or_the_link_is_lost(target: bytes, good: bool) -> None:
    found = rescue_stream(
        member(b"l", pax.TYPE_SYMLINK, link=b"x", records=[(b"linkpath", target)])
    )
    assert found.told() == ([] if good else [b"l"])
    if good:
        assert found.facts[b"l"].content == target


@pytest.mark.parametrize("size", [2**63 - 1, 2**63, 2**64, 10**20 - 1])
@pytest.mark.parametrize("keyword", [b"size", b"GNU.sparse.realsize"])
def test_a_file_is_as_long_as_a_catalogue_can_say_or_lost(size: int, keyword: bytes) -> None:
    records = [(keyword, b"%d" % size), (b"GNU.sparse.major", b"1")][: 1 + (keyword != b"size")]
    found = rescue_stream(member(b"huge", records=records, size=BLOCK), b"1\n0\n1\n".ljust(BLOCK))
    if size < 2**63:
        assert found.told() == found.told("lost-content") == [b"huge"]
        assert found.entry(b"huge").member_bytes == size
    else:
        assert found.told() == found.told("lost-entry") == [b"huge"]
        assert [*found.facts] == [b""]


def test_a_file_whose_map_is_lost_is_a_hole_and_told() -> None:
    said = TarMember(b"s", b"0", 0o640, 1, 2, b"", b"", 9000, NS)
    header = encode_sparse(said, [(512, 512)])
    stream = header.replace(b"2\n512\n512\n", b"2\n512\n5x2\n") + b"D" * BLOCK
    found = rescue_stream(stream, file_of(b"z", b"z"))
    assert found.facts[b"s"].content == bytes(9000)
    (finding,) = found.findings
    assert (finding.code, finding.path, finding.content_bytes) == ("lost-content", "s", 9000)
    assert "map of its holes" in finding.message


@pytest.mark.parametrize(("names", "kept"), [
    ([b""], []), ([b"n" * 255], [b"n" * 255]), ([b"n" * 256], []), ([b"n" * 70_000], []),
    ([b"a\0b"], []), ([b"a%", b"a%25"], [b"a%"]), ([b"user.ok", b"x" * 300], [b"user.ok"]),
])  # fmt: skip
def test_attributes_that_can_not_be_are_told(names: list[bytes], kept: list[bytes]) -> None:
    records = [(b"SCHILY.xattr." + name, b"value") for name in names]
    found = rescue_stream(file_of(b"f", b"body", records=records))
    assert found.facts[b"f"].attributes == tuple((name, b"value") for name in kept)
    assert found.facts[b"f"].content == b"body"
    assert found.told("catalogue") == ([] if len(kept) == len({*names} - {b"a%25"}) else [b"f"])


@pytest.mark.parametrize("over", [0, 1])
def test_a_set_of_attributes_has_a_bound(over: int) -> None:
    value = bytes(layout.MAX_ATTRIBUTES_BYTES // 2 - 7)
    records = [(b"SCHILY.xattr.a", value), (b"SCHILY.xattr.b", value + bytes(over))]
    found = rescue_stream(file_of(b"f", records=records), geometry=Geometry(2**24, 2**24, 4096))
    assert [name for name, _ in found.facts[b"f"].attributes] == [b"a", b"b"][: 2 - over]
    assert found.told() == [b"f"] * over


def test_names_of_owners_are_as_long_as_they_may_be() -> None:
    records = [(b"uname", b"u\0v"), (b"gname", b"g\0h")]
    odd, long = file_of(b"a", uid=1, gid=3, records=records), file_of(b"b", uid=2, user=b"u" * 300)
    found = rescue_stream(odd, long, file_of(b"c", uid=1, gid=3, user=b"", group=b""))
    wanted = {(1, 1): b"u", (1, 2): b"u" * 255, (2, 3): b"g", (2, 22): b"group"}
    assert found.tree.owner_names() == wanted


def test_a_tree_may_be_larger_than_what_waits_in_memory() -> None:
    names = [b"%04d" % number for number in range(1500)]
    files = [file_of(name, mtime_ns=5 * NS) for name in names]
    found = rescue_stream(*files, link(b"z", names[0]), geometry=Geometry(2**20, 2**20, 4096))
    assert [*found.facts] == [b"", *names, b"z"]
    assert found.facts[b"z"].names == found.facts[names[0]].names == {names[0], b"z"}
    assert (found.tree.root.total, found.findings) == (1501, [])


def test_directories_are_as_deep_as_they_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MAX_DEPTH", 50)
    good, deep = b"d/" * 49 + b"f", b"e/" * 50 + b"f"
    found = rescue_stream(file_of(good, b"body"), file_of(deep))
    assert found.facts[good].content == b"body"
    assert (found.told("lost-entry"), len(found.facts)) == ([deep], 51)


# --- what is asked first, and what fails ---------------------------------------------------------


def test_a_volume_is_no_tree() -> None:
    tar = file_of(b"inner", b"a tar on a tape") + pax.END
    data = pack_bytes(tar)
    for bad in (data, flipped(data, 50), flipped(data, len(data) - 50)):
        assert not holds_tree(salvage(MemoryStore(bad)))
    data = pack_bytes(noise(10_000, 1))
    assert not holds_tree(salvage(MemoryStore(flipped(data[:-400], 50))))
    assert not holds_tree(salvage(MemoryStore(pack_bytes(b""))))
    short = salvage(MemoryStore(flipped(pack_bytes(tar[:500])[:-400], 50)))
    assert not holds_tree(short), "no header is that short"


def test_what_can_not_be_read_is_no_loss(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise SourceError("can't read")

    salvaged = salvage(MemoryStore(whole.packed.data))
    monkeypatch.setattr(MemoryStore, "read_at", fail)
    for step in (salvage_tree, rebuild_tree):
        with pytest.raises(SourceError):
            step(salvaged)


def _parts() -> Iterator[bytes]:
    yield from (pax.END, noise(BLOCK, 1), member(b"x", b"x", size=300))
    for name in (b"a", b"b", b"a/b", b"a/c", b"b/a/d", b"./", b"a/", b"../x", b"n" * 150):
        yield from (member(name, kind, link=b"a/b") for kind in (b"5", b"2", b"1", b"6"))
        yield from (file_of(name, noise(600, 1)), link(name, b"a"))
        yield member(name, records=[(b"SCHILY.xattr.user.a", b"1" * 600)])
        yield member(name, records=[(b"size", b"%d" % 2**62)])
        said = TarMember(name, b"0", 0, 1, 2, b"u", b"g", 9000, NS)
        yield encode_sparse(said, [(0, 512), (4096, 100)]) + bytes(1024)


@settings(max_examples=70)
@given(st.lists(st.sampled_from([*_parts()]), max_size=12), st.lists(st.integers(0, 30)))
def test_any_stream_gives_a_good_catalogue(parts: list[bytes], lost: list[int]) -> None:
    data = without_catalogue(*parts, geometry=TINIEST)
    units = [*salvage(MemoryStore(data)).index.units()]
    for unit in [units[number] for number in lost if number < len(units) - 1]:
        data = flipped(data, unit.unit_offset + 9)
    found = rescue(data)  # which checks the rules
    paths = {each.path for each in found.walk(found.tree.root)}
    names = {b"", b"a", b"b", b"a/b", b"a/c", b"b/a", b"b/a/d", b"n" * 150}
    assert paths - names <= {*found.told()}
