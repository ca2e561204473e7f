"""Trees compared: each path that differs is told once, with all that differs; else nothing is."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onggi.archive import layout, sides
from onggi.archive.compare import Compared, compare
from onggi.archive.errors import DamagedError, Finding, Severity
from onggi.archive.exclude import Excludes
from onggi.archive.files import Found
from onggi.archive.progress import Progress
from onggi.archive.selection import TreeOptions
from onggi.archive.sides import ArchiveSide, Item, LiveSide, Read
from onggi.archive.tree_writer import TreeSource

from .tree_helpers import (
    MTIME_NS,
    TINY,
    Packed,
    Step,
    grow,
    noise,
    pack_path,
    pack_paths,
    steps,
    write_sparse,
)

FILE, DIRECTORY, SYMLINK = layout.ENTRY_FILE, layout.ENTRY_DIRECTORY, layout.ENTRY_SYMLINK


def told(one: Any, other: Any, threads: int = 1) -> tuple[dict[str, str], Compared]:
    """Return the finding of each path, in words, and the totals."""
    findings: list[Finding] = []
    compared = compare(one, other, threads=threads, found=findings.append)
    paths = [finding.path for finding in findings]
    assert len(set(paths)) == len(paths), "a path is told once"
    assert all(finding.severity is Severity.DIFFERENCE for finding in findings)
    codes = [finding.code for finding in findings]
    assert (compared.missing, compared.new, compared.differing) == (
        codes.count("missing"), codes.count("new"), codes.count("differs")
    )  # fmt: skip
    assert compared.is_same is (not findings)
    return {str(finding.path): finding.message for finding in findings}, compared


def against(
    packed: Packed, *paths: Path, options: TreeOptions | None = None, threads: int = 1
) -> dict[str, str]:
    """Compare an archive with what is on the disk."""
    with TreeSource([os.fspath(path) for path in paths]) as source:
        live = LiveSide(source, options or TreeOptions())
        return told(ArchiveSide(packed.view), live, threads)[0]


def between(one: Packed, other: Packed, threads: int = 1) -> dict[str, str]:
    """Compare two archives."""
    return told(ArchiveSide(one.view), ArchiveSide(other.view), threads)[0]


# --- sides of a test -----------------------------------------------------------------------------


def item(kind: int = FILE, **fields: Any) -> Item:
    """Return something in a tree."""
    known: dict[str, Any] = {
        "kind": kind, "mode": 0o644, "uid": 1, "gid": 2, "mtime_ns": 5, "file_flags": 0, "size": 0,
        "device": (0, 0), "target": b"", "attributes": (), "identity": None, "made": False,
        "problem": "", "handle": None,
    }  # fmt: skip
    return Item(**(known | fields))


def file(content: bytes, **fields: Any) -> Item:
    """Return a file."""
    return item(size=len(content), handle=content, **fields)


def folder(children: Mapping[bytes, Item], **fields: Any) -> Item:
    """Return a directory."""
    return item(DIRECTORY, mode=0o755, handle=children, **fields)


@dataclass
class MemorySide:
    """A tree in memory; `open` of a file whose content is an error raises it."""

    top: Item
    is_open: int = 0
    opened: list[bytes] = field(default_factory=list[bytes])

    def root(self) -> Item:
        """Return the root."""
        return self.top

    def children(self, item: Item) -> Iterator[tuple[bytes, Item]]:
        """Yield what is in a directory."""
        assert isinstance(item.handle, Mapping)
        for name in sorted(item.handle):
            if isinstance(item.handle[name], Exception):
                raise item.handle[name]
            yield name, item.handle[name]

    def data(self, item: Item) -> Iterator[tuple[int, int]]:
        """Yield where a file has data: all of it."""
        if item.size:
            yield 0, item.size

    def open(self, item: Item) -> tuple[Read, Callable[[], None]]:
        """Return what reads a file."""
        content = item.handle
        if isinstance(content, Exception):
            raise content
        assert isinstance(content, bytes)
        self.is_open += 1
        self.opened.append(content[:10])

        def read(offset: int, size: int) -> bytes:
            if content.startswith(b"can't be read"):
                raise OSError(errno.EIO, "I/O")
            if content == b"damaged":
                raise DamagedError("frame", "broken")
            return content[offset : offset + size]

        return read, self._close

    def _close(self) -> None:
        self.is_open -= 1


def differences(one: Item, other: Item, name: bytes = b"x") -> dict[str, str]:
    """Compare two trees in memory that hold one thing."""
    first, second = (MemorySide(folder({name: each})) for each in (one, other))
    found, _ = told(first, second)
    assert (first.is_open, second.is_open) == (0, 0)
    return found


LINK, FIFO = item(SYMLINK, target=b"t"), item(layout.ENTRY_FIFO)
BLOCK = item(layout.ENTRY_BLOCK_DEVICE, device=(8, 1))
CHANGES: list[tuple[Item, Item, str]] = [
    (file(b"a"), file(b"a", mode=0o600), "mode 0600, not 0644"),
    (file(b"a"), file(b"a", mode=0o4644), "mode 4644, not 0644"),
    (file(b"a"), file(b"a", uid=7), "owner 7:2, not 1:2"),
    (file(b"a"), file(b"a", gid=7), "owner 1:7, not 1:2"),
    (file(b"a"), file(b"a", mtime_ns=6), "time 0.000000006, not 0.000000005"),
    (file(b"a"), file(b"a", mtime_ns=3 * 10**9), "time 3.000000000, not 0.000000005"),
    (file(b"a"), file(b"a", file_flags=16), "file flags 0x10, not 0x0"),
    (file(b"abc"), file(b"ab"), "2 bytes, not 3"),
    (file(b"abc"), file(b""), "0 bytes, not 3"),
    (file(b"abc"), file(b"abd"), "its content differs from byte 2 on"),
    (file(b"abc"), file(b"xbc"), "its content differs from byte 0 on"),
    (file(b"a"), file(b"a", attributes=((b"user.x", b"1"),)), "attributes: user.x"),
    (file(b"a", attributes=((b"user.x", b"1"),)), file(b"a"), "attributes: user.x"),
    (
        file(b"a", attributes=((b"user.a", b"1"), (b"user.b", b"1"), (b"user.c", b"1"))),
        file(b"a", attributes=((b"user.a", b"1"), (b"user.b", b"2"), (b"user.d", b"1"))),
        "attributes: user.b, user.c, user.d",
    ),
    (file(b"a"), folder({}), "it is a directory, not a file"),
    (folder({}), file(b"a"), "it is a file, not a directory"),
    (LINK, FIFO, "it is a fifo, not a symlink"),
    (BLOCK, item(layout.ENTRY_CHARACTER_DEVICE), "it is a character-device, not a block-device"),
    (file(b"a"), item(0), "it is a socket, not a file"),
    (BLOCK, BLOCK._replace(device=(8, 2)), "device 8,2, not 8,1"),
    (BLOCK, BLOCK._replace(device=(7, 1)), "device 7,1, not 8,1"),
    (LINK, LINK._replace(target=b"u/v"), "it leads to u/v, not to t"),
    (file(b"a", identity=1), file(b"a"), "it is no hard link"),
    (file(b"a"), file(b"a", problem="Permission denied"), "can't be looked at: Permission denied"),
    (file(b"a"), item(0, problem="gone"), "it can't be looked at: gone"),
]


@pytest.mark.parametrize(("one", "other", "words"), CHANGES, ids=[each[2] for each in CHANGES])
def test_each_kind_of_difference_is_told_in_words(one: Item, other: Item, words: str) -> None:
    (message,) = differences(one, other, b"a\nb\xff").values()
    assert message.startswith("a\nb\udcff: ")
    assert words in message
    assert ";" not in message


@pytest.mark.parametrize("one", [one for one, _, _ in CHANGES])
def test_what_is_equal_is_not_told(one: Item) -> None:
    assert differences(one, one) == {}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LINK, LINK._replace(mode=0o700)),  # Linux has no modes of symbolic links
        (file(b"a"), file(b"a", identity=1)),  # its other names are outside of the tree
        (folder({}), folder({}, made=True, uid=9, mtime_ns=9)),
        (folder({}, made=True, uid=9, mtime_ns=9), folder({})),
        (file(b"a", identity=1), file(b"a", identity="other")),
    ],
)
def test_what_means_nothing_is_not_told(one: Item, other: Item) -> None:
    assert differences(one, other) == {}


def test_all_that_differs_of_a_path_is_told_together() -> None:
    one, other = file(b"abc", identity=1), file(b"xbc", mode=0o600, uid=3, gid=4, mtime_ns=7)
    (message,) = differences(one, other).values()
    assert message == (
        "x: mode 0600, not 0644; owner 3:4, not 1:2; time 0.000000007, not 0.000000005; it is no "
        "hard link; its content differs from byte 0 on"
    )


def test_the_roots_are_compared_too() -> None:
    one, other = MemorySide(folder({})), MemorySide(folder({}, uid=9))
    assert told(one, other)[0] == {".": ".: owner 9:2, not 1:2"}


def test_what_one_side_has_alone_is_missing_or_new() -> None:
    inner = folder({b"deep": file(b"")})
    one = MemorySide(folder({b"a": file(b""), b"c": inner, b"e": file(b""), b"d": folder({})}))
    other = MemorySide(folder({b"b": file(b""), b"d": inner, b"f": inner, b"e": file(b"")}))
    found, compared = told(one, other)
    # What is in a folder that is missing or new is not told one by one.
    assert found == {
        "a": "a is missing", "b": "b is new", "c": "c is missing", "d/deep": "d/deep is new",
        "f": "f is new",
    }  # fmt: skip
    assert compared.entries == 3  # the root, d and e


@given(
    names=st.dictionaries(
        st.binary(min_size=1, max_size=3).filter(lambda name: not {0, 47} & {*name}),
        st.sampled_from(["one", "other", "both", "differs"]),
        max_size=20,
    )
)
def test_names_are_merged_in_order(names: dict[bytes, str]) -> None:
    one = {name: file(b"1") for name, where in names.items() if where != "other"}
    other = {
        name: file(b"2" if where == "differs" else b"1")
        for name, where in names.items()
        if where != "one"
    }
    findings: list[Finding] = []
    compare(MemorySide(folder(one)), MemorySide(folder(other)), threads=1, found=findings.append)
    codes = {"one": "missing", "other": "new", "differs": "differs"}
    assert {os.fsencode(str(finding.path)): finding.code for finding in findings} == {
        name: codes[where] for name, where in names.items() if where != "both"
    }
    by_walk = [finding.path for finding in findings if finding.code != "differs"]
    assert by_walk == [os.fsdecode(n) for n in sorted(names) if names[n] in ("one", "other")]


@pytest.mark.parametrize(
    ("one", "other", "different"),
    [
        ("aab", "xxy", ""),  # numbers of any kind, if they are the same
        ("aab", "xyy", "bc"),  # c: its thing is one of b here
        ("aaa", "xxy", "c"),
        ("abc", "xxz", "b"),
        ("aabb", "xyxy", "bcd"),
        ("ab", "xx", "b"),
    ],
)
def test_hard_links_lead_to_the_same_things(one: str, other: str, different: str) -> None:
    first, second = (
        MemorySide(folder({b"%c" % (97 + n): file(b"", identity=c) for n, c in enumerate(letters)}))
        for letters in (one, other)
    )
    found, _ = told(first, second)
    assert set(found) == set(different)
    assert all(message.endswith("its hard links are others") for message in found.values())


# --- content -------------------------------------------------------------------------------------

MIB = 1024 * 1024


@pytest.mark.parametrize("at", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB - 1, 2 * MIB, 2 * MIB + 4])
def test_the_first_byte_that_differs_is_told(at: int) -> None:
    content = bytes(2 * MIB + 5)
    changed = bytearray(content)
    changed[at] = changed[-1] = 1
    (message,) = differences(file(content), file(bytes(changed))).values()
    assert message == f"x: its content differs from byte {at} on"


def test_a_file_that_is_shorter_than_it_was_found_differs_from_its_end_on() -> None:
    one, other = file(b"abcdef"), file(b"abc")._replace(size=6)
    assert differences(one, other) == {"x": "x: its content differs from byte 3 on"}


def test_a_file_that_grew_since_it_was_found_differs_from_there_on() -> None:
    grown = file(b"abcdef")._replace(size=3)
    assert differences(file(b"abc"), grown) == {"x": "x: its content differs from byte 3 on"}


@pytest.mark.parametrize(
    "other",
    [file(b"can't be read!"), file(b"x" * 14)._replace(handle=OSError(errno.EIO, "I/O"))],
)
def test_a_file_that_can_not_be_read_is_told(other: Item) -> None:
    found = differences(file(b"x" * 14), other)
    assert found == {"x": "x: it can't be read: Input/output error"}


class HoleySide(MemorySide):
    """A tree whose files have holes where they have zeros, ten bytes at a time."""

    reads: list[tuple[int, int]]

    def data(self, item: Item) -> Iterator[tuple[int, int]]:
        """Yield where a file has data."""
        assert isinstance(item.handle, bytes)
        for at in range(0, item.size, 10):
            piece = item.handle[at : at + 10]
            if any(piece):
                yield at, len(piece)

    def open(self, item: Item) -> tuple[Read, Callable[[], None]]:
        """Return what reads a file, and remember where."""
        read, close = super().open(item)
        self.reads = []

        def noted(offset: int, size: int) -> bytes:
            self.reads.append((offset, size))
            return read(offset, size)

        return noted, close


_HOLEY = st.lists(st.sampled_from([bytes(10), b"0123456789", b"012345678!", bytes(9) + b"!"]))


@given(one=_HOLEY, other=_HOLEY, tail=st.binary(max_size=9))
def test_files_with_holes_are_compared_where_either_has_data(
    one: list[bytes], other: list[bytes], tail: bytes
) -> None:
    size = min(len(one), len(other)) * 10
    mine = b"".join(one)[:size] + tail
    theirs = b"".join(other)[:size] + tail
    sides = [HoleySide(folder({b"x": file(content)})) for content in (mine, theirs)]
    found, compared = told(sides[0], sides[1])
    if mine == theirs:
        assert found == {}
        assert compared.content_bytes == len(mine)
    else:
        at = next(n for n, pair in enumerate(zip(mine, theirs, strict=True)) if pair[0] != pair[1])
        assert found == {"x": f"x: its content differs from byte {at} on"}
    for offset, length in sides[0].reads:
        for at in range(offset // 10 * 10, offset + length, 10):
            assert any(mine[at : at + 10] + theirs[at : at + 10]), "a hole on both sides is read"


def test_holes_without_end_take_no_time(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    size = 2**42
    write_sparse(root / "huge", size, {2**41: noise(4096, 1)})
    packed = pack_path(root)
    assert against(packed, root) == {}
    _write("huge", 2**40, b"?")(root)
    os.utime(root / "huge", ns=(0, packed.view.entry(b"huge").mtime_ns))
    assert "differs from byte 1099511627776 on" in against(packed, root)["huge"]
    assert "differs from byte 1099511627776 on" in between(packed, pack_path(root))["huge"]


def test_a_file_of_another_length_is_not_read() -> None:
    one, other = MemorySide(folder({b"x": file(b"a")})), MemorySide(folder({b"x": file(b"ab")}))
    told(one, other)
    assert one.opened == other.opened == []


@pytest.mark.parametrize("is_other", [False, True])
def test_damage_of_an_archive_ends_a_comparison(is_other: bool) -> None:
    both = [
        MemorySide(folder({b"x": file(b"damaged")})),
        MemorySide(folder({b"x": file(b"1234567")})),
    ]
    if is_other:
        both.reverse()
    with pytest.raises(DamagedError, match="broken"):
        compare(*both, threads=2, found=lambda _: None)
    assert [side.is_open for side in both] == [0, 0]


@pytest.mark.parametrize("threads", [1, 4])
def test_many_files_are_compared_in_batches(threads: int) -> None:
    contents = {b"%04d" % number: noise(number % 40, 1) for number in range(1000)}
    one = MemorySide(folder({name: file(content) for name, content in contents.items()}))
    other = MemorySide(
        folder(
            {
                name: file(content + b"x" if int(name) % 100 == 7 else content)
                for name, content in contents.items()
                if int(name) % 100 != 50
            }
        )
    )
    reports: list[Progress] = []
    findings: list[Finding] = []
    compared = compare(one, other, threads=threads, found=findings.append, report=reports.append)
    assert (compared.missing, compared.new, compared.differing) == (10, 0, 10)
    assert compared.entries == 991
    same = [c for name, c in contents.items() if int(name) % 100 not in (7, 50)]
    assert compared.content_bytes == sum(map(len, same))
    assert len(reports) > 7
    assert [each.content_bytes for each in reports] == sorted(
        each.content_bytes for each in reports
    )
    assert reports[-1].content_bytes == compared.content_bytes
    # The same, in the same order, for any number of threads.
    assert [finding.path for finding in findings] == [
        finding.path for finding in findings_of(one, other)
    ]


def findings_of(one: Any, other: Any) -> list[Finding]:
    """Compare in one thread."""
    findings: list[Finding] = []
    compare(one, other, threads=1, found=findings.append)
    return findings


class Stopped(BaseException):
    """What a signal handler raises."""


def test_a_comparison_that_is_stopped_ends() -> None:
    files = {b"%04d" % number: file(b"1") for number in range(1000)}
    side = MemorySide(folder(files))

    def report(progress: Progress) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        compare(side, MemorySide(folder(files)), threads=2, found=lambda _: None, report=report)
    assert len(side.opened) < 1000


# --- an archive and a disk -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compare")


@given(plan=steps(most=14))
@settings(max_examples=25)
def test_a_tree_is_the_same_as_its_archive(plan: list[Step], base: Path) -> None:
    with tempfile.TemporaryDirectory(dir=base) as name:
        grow(Path(name), plan)
        packed = pack_path(Path(name))
        assert against(packed, Path(name)) == {}
        assert between(packed, pack_path(Path(name))) == {}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of several kinds of things, all of the same time."""
    root = tmp_path / "tree"
    (root / "d/e").mkdir(parents=True)
    for name, size in (("a", 100), ("d/b", 5000), ("d/e/c", 0)):
        (root / name).write_bytes(noise(size, 1))
    write_sparse(root / "holes", 300_000, {8192: noise(4096, 2), 200_704: noise(4096, 3)})
    os.symlink("target", root / "link")
    os.mkfifo(root / "fifo")
    os.link(root / "a", root / "d/a2")
    for path in [*root.rglob("*"), root]:
        os.utime(path, ns=(0, MTIME_NS), follow_symlinks=False)
    return root


def _write(path: str, at: int, data: bytes) -> Callable[[Path], object]:
    def write(root: Path) -> None:
        with (root / path).open("r+b") as file:
            file.seek(at)
            file.write(data)
        os.utime(root / path, ns=(0, MTIME_NS))

    return write


def _retarget(root: Path) -> None:
    (root / "link").unlink()
    os.symlink("other", root / "link")
    os.utime(root / "link", ns=(0, MTIME_NS), follow_symlinks=False)
    os.utime(root, ns=(0, MTIME_NS))


def _unlink(root: Path) -> None:
    (root / "d/a2").unlink()
    shutil.copy2(root / "a", root / "d/a2")
    os.utime(root / "d", ns=(0, MTIME_NS))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda root: (root / "d/b").chmod(0o600), {"d/b": "mode 0600"}),
        (lambda root: (root / "d/e").chmod(0o711), {"d/e": "mode 0711"}),
        (lambda root: (root / "fifo").chmod(0o600), {"fifo": "mode 0600"}),
        (lambda root: os.utime(root / "d/b", ns=(0, MTIME_NS + 1)), {"d/b": "time"}),
        (lambda root: os.utime(root, ns=(0, MTIME_NS + 1)), {".": "time"}),
        (
            lambda root: os.utime(root / "link", ns=(0, 1), follow_symlinks=False),
            {"link": "time 0.000000001"},
        ),
        (_write("d/b", 4097, b"?"), {"d/b": "from byte 4097 on"}),
        (_write("holes", 8192, b"?"), {"holes": "from byte 8192 on"}),
        (_write("holes", 100_000, b"?"), {"holes": "from byte 100000 on"}),
        (_write("holes", 100_000, b"\0"), {}),  # data or a hole: the bytes are the same
        (_write("d/b", 5000, b"?"), {"d/b": "5001 bytes, not 5000"}),
        (_retarget, {"link": "leads to other, not to target"}),
        (_unlink, {"a": "no hard link", "d/a2": "no hard link"}),
        (lambda root: os.setxattr(root / "d/b", b"user.x", b"1"), {"d/b": "attributes: user.x"}),
    ],
)
def test_a_change_on_the_disk_is_told(
    change: Callable[[Path], object], expected: dict[str, str], tree: Path
) -> None:
    packed = pack_path(tree, TINY)
    assert against(packed, tree) == {}
    change(tree)
    found = against(packed, tree, threads=2)
    assert found.keys() == expected.keys()
    for path, words in expected.items():
        assert words in found[path]
    again = between(packed, pack_path(tree))
    assert again == found


def test_what_comes_and_goes_on_the_disk_is_told(tree: Path) -> None:
    packed = pack_path(tree)
    (tree / "d/b").unlink()
    (tree / "d/new").mkdir()
    (tree / "d/new/below").touch()
    shutil.rmtree(tree / "d/e")
    (tree / "d/e").touch()
    found = against(packed, tree)
    assert found.keys() == {"d", "d/b", "d/new", "d/e"}
    assert found["d/b"] == "d/b is missing"
    assert found["d/new"] == "d/new is new"
    assert "it is a file, not a directory" in found["d/e"]


def test_a_socket_is_as_nothing(tree: Path) -> None:
    packed = pack_path(tree)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(tree / "d/socket"))
        os.utime(tree / "d", ns=(0, MTIME_NS))
        assert against(packed, tree) == {}
        (tree / "fifo").unlink()
        (tree / "d/socket").rename(tree / "fifo")
        for path in (tree, tree / "d"):
            os.utime(path, ns=(0, MTIME_NS))
        assert against(packed, tree) == {"fifo": "fifo is missing"}


def test_what_is_left_out_of_both_is_not_told(tree: Path) -> None:
    options = TreeOptions(Excludes([b"d"]))
    packed = pack_path(tree, options=options)
    found = against(packed, tree, options=options)
    assert found == {}
    assert against(packed, tree) == {"d": "d is new"}
    everything = pack_path(tree)
    assert against(everything, tree, options=options) == {"d": "d is missing"}


def test_several_sources_are_compared_under_their_names(tree: Path) -> None:
    sources = [tree / name for name in ("d", "a", "link")]
    packed = pack_paths(sources)
    assert against(packed, *sources) == {}
    assert against(packed, *reversed(sources)) == {}
    assert against(packed, tree / "d", tree / "link") == {"a": "a is missing"}
    options = TreeOptions(Excludes([b"./a"]))
    assert against(packed, *sources, options=options) == {"a": "a is missing"}
    (tree / "d/e/c").write_bytes(b"!")
    assert "1 bytes, not 0" in against(packed, *sources)["d/e/c"]
    one = pack_path(tree / "a")
    assert against(one, tree / "a") == {}
    (tree / "a").chmod(0o600)
    assert against(one, tree / "a") == {"a": "a: mode 0600, not 0644"}


@pytest.mark.needs("root")
def test_devices_and_owners_are_compared(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    os.mknod(root / "null", 0o20666, os.makedev(1, 3))
    packed = pack_path(root)
    assert against(packed, root) == {}
    (root / "null").unlink()
    os.mknod(root / "null", 0o20666, os.makedev(1, 5))
    os.chown(root / "null", 4, 5)
    assert "owner 4:5, not 0:0" in against(packed, root)["null"]
    assert "device 1,5, not 1,3" in against(packed, root)["null"]


# --- what can't be read --------------------------------------------------------------------------


def change_found(
    monkeypatch: pytest.MonkeyPatch, name: bytes, change: Callable[[Found], Found]
) -> None:
    """Let something look otherwise than it is."""
    from onggi.archive.files import scan as real

    monkeypatch.setattr(
        sides, "scan",
        lambda fd, names, wanted: [
            change(each) if each.name == name else each for each in real(fd, names, wanted)
        ],
    )  # fmt: skip


@pytest.mark.parametrize("known", [True, False])
def test_a_file_that_can_not_be_looked_at_is_told(
    known: bool, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack_path(tree)

    def change(each: Found) -> Found:
        return (
            each._replace(error=errno.EACCES)
            if known
            else Found(each.name, *(0,) * 12, b"", errno.EACCES)
        )

    change_found(monkeypatch, b"b", change)
    assert against(packed, tree) == {"d/b": "d/b: it can't be looked at: Permission denied"}


def test_a_file_that_can_not_be_opened_any_more_is_told(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack_path(tree)

    def open_quietly(fd: int, name: bytes) -> int:
        raise OSError(errno.ENOENT, "gone")

    monkeypatch.setattr(sides, "open_quietly", open_quietly)
    found = against(packed, tree)
    assert found["d/b"] == "d/b: it can't be read: No such file or directory"
    assert found.keys() <= {"a", "d/a2", "d/b", "d/e/c", "holes"}


def test_a_link_that_can_not_be_read_is_told(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack_path(tree)

    def readlink(name: Any, *, dir_fd: int | None = None) -> bytes:
        raise OSError(errno.ENOENT, "gone")

    with monkeypatch.context() as patch:
        patch.setattr(os, "readlink", readlink)
        found = against(packed, tree)
    assert found == {"link": "link: it can't be looked at: No such file or directory"}


def test_a_folder_that_can_not_be_listed_is_told(tree: Path) -> None:
    packed = pack_path(tree)

    class Options(TreeOptions):
        def names_in(self, fd: int, path: bytes, device: int) -> list[bytes]:
            if path == b"d/e":
                raise OSError(errno.EIO, "I/O")
            return super().names_in(fd, path, device)

    found = against(packed, tree, options=Options())
    assert found["d/e"] == "d/e: can't be listed: Input/output error"
    assert found.keys() <= {"d/e", "d/e/c"}
