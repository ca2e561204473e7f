"""What the tests of trees share: trees on a disk, their archives in memory, and what both hold.

A `Fact` says what something in a tree is, in the same words for a disk, a catalogue and a tar
stream, so that any two of them can be compared.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

from onggi.archive import layout
from onggi.archive.assemble import Assembler
from onggi.archive.entry import encode_attributes
from onggi.archive.errors import Finding
from onggi.archive.header import Header
from onggi.archive.page import PageKey
from onggi.archive.plan import Geometry
from onggi.archive.reader import Archive
from onggi.archive.selection import TreeOptions
from onggi.archive.store import FileSpool, MemoryStore, Target
from onggi.archive.table import Descriptor, PageCache, Table, level_count
from onggi.archive.tree import Tree
from onggi.archive.tree_rows import TreeRows
from onggi.archive.tree_writer import TreePackResult, TreeSource, pack_tree
from onggi.archive.unit import UnitEncoder
from onggi.archive.view import View

from .conftest import IDENTITY, MemoryTarget

NS = 10**9
MTIME_NS = 1_234_567_890_123_456_789
LARGE = Geometry(1024 * 1024, 4096, 4096)  # a whole tree of a test in one unit
TINY = Geometry(4096, 4096, 512)
TINIEST = Geometry(512, 4096, 512)

_KINDS = {
    stat.S_IFREG: layout.ENTRY_FILE,
    stat.S_IFDIR: layout.ENTRY_DIRECTORY,
    stat.S_IFLNK: layout.ENTRY_SYMLINK,
    stat.S_IFCHR: layout.ENTRY_CHARACTER_DEVICE,
    stat.S_IFBLK: layout.ENTRY_BLOCK_DEVICE,
    stat.S_IFIFO: layout.ENTRY_FIFO,
}
_TAR_KINDS = {
    tarfile.REGTYPE: layout.ENTRY_FILE,
    tarfile.DIRTYPE: layout.ENTRY_DIRECTORY,
    tarfile.SYMTYPE: layout.ENTRY_SYMLINK,
    tarfile.CHRTYPE: layout.ENTRY_CHARACTER_DEVICE,
    tarfile.BLKTYPE: layout.ENTRY_BLOCK_DEVICE,
    tarfile.FIFOTYPE: layout.ENTRY_FIFO,
}


def tree_header(geometry: Geometry) -> Header:
    """Return the header of a tree archive."""
    return Header(IDENTITY, geometry, 1, 1, kind=layout.KIND_TREE)


# --- archives ------------------------------------------------------------------------------------


@dataclass
class Packed:
    """An archive in memory, and what was told while it was made."""

    data: bytes
    findings: list[Finding]
    result: TreePackResult
    archive: Archive = field(init=False)
    view: View = field(init=False)

    def __post_init__(self) -> None:
        self.archive = Archive(MemoryStore(self.data))
        self.view = View(self.archive)

    @property
    def tree(self) -> Tree:
        """Its catalogue."""
        return self.view.tree

    @property
    def content(self) -> bytes:
        """Its content: a tar stream."""
        return self.archive.read(0, self.archive.content_bytes)

    @property
    def codes(self) -> dict[str, list[str]]:
        """The codes of the findings of each path."""
        found: dict[str, list[str]] = {}
        for finding in self.findings:
            found.setdefault(str(finding.path), []).append(finding.code)
        return found

    def flags(self, path: bytes) -> int:
        """Return the flags of an entry."""
        entry = self.tree.lookup(path)
        assert entry is not None
        return entry.flags

    def bytes_of(self, path: bytes) -> bytes:
        """Return the bytes of a file."""
        entry = self.view.entry(path)
        return self.view.read(entry, 0, entry.member_bytes)

    def paths(self) -> list[bytes]:
        """Return the paths of all entries, sorted; that of the root is empty."""
        return sorted(each.path for each in self.tree.walk(self.tree.root))


def pack_paths(
    paths: Sequence[Path | str],
    geometry: Geometry = LARGE,
    *,
    threads: int = 1,
    options: TreeOptions | None = None,
    leave_out: Sequence[Path] = (),
    target: Target | None = None,
    **more: Any,
) -> Packed:
    """Pack sources into memory; `more` goes to `pack_tree`."""
    memory = MemoryTarget()
    findings: list[Finding] = []
    with TreeSource([os.fspath(path) for path in paths]) as source:
        for path in leave_out:
            found = path.stat()
            source.leave_out.add((found.st_dev, found.st_ino))
        result = pack_tree(
            source, target or memory, tree_header(geometry), threads=threads,
            new_spool=FileSpool, options=options, found=findings.append, **more,
        )  # fmt: skip
    assert memory.calls == ["sync", "commit"]
    return Packed(memory.data, findings, result)


def pack_path(path: Path, geometry: Geometry = LARGE, **more: Any) -> Packed:
    """Pack one source into memory; see `pack_paths`."""
    return pack_paths([path], geometry, **more)


# --- what a tree holds ---------------------------------------------------------------------------


class Fact(NamedTuple):
    """What something is.

    `content` are the bytes of a file, the target of a link, the numbers of a device. `names` are
    all paths in the tree that lead to it.
    """

    kind: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    content: object
    attributes: tuple[tuple[bytes, bytes], ...]
    names: frozenset[bytes]


def facts_on_disk(root: Path) -> dict[bytes, Fact]:
    """Return what is in a folder, by path; the folder itself has an empty path."""
    found: dict[bytes, Fact] = {}
    names: dict[tuple[int, int], set[bytes]] = {}
    inodes: dict[bytes, tuple[int, int]] = {}
    top = os.fsencode(root)
    waiting = [b""]
    while waiting:
        path = waiting.pop()
        whole = os.path.join(top, path) if path else top
        at = os.lstat(whole)
        kind = _KINDS[stat.S_IFMT(at.st_mode)]
        content: object = None
        if kind == layout.ENTRY_DIRECTORY:
            waiting += [os.path.join(path, name) for name in os.listdir(whole)]
        elif kind == layout.ENTRY_FILE:
            content = Path(os.fsdecode(whole)).read_bytes()
        elif kind == layout.ENTRY_SYMLINK:
            content = os.readlink(whole)
        elif kind != layout.ENTRY_FIFO:
            content = (os.major(at.st_rdev), os.minor(at.st_rdev))
        attributes: list[tuple[bytes, bytes]] = []
        with suppress(OSError):
            for name in os.listxattr(whole, follow_symlinks=False):
                value = os.getxattr(whole, name, follow_symlinks=False)
                attributes.append((os.fsencode(name), value))
        if kind != layout.ENTRY_DIRECTORY:
            inodes[path] = (at.st_dev, at.st_ino)
            names.setdefault(inodes[path], set()).add(path)
        found[path] = Fact(
            kind, stat.S_IMODE(at.st_mode), at.st_uid, at.st_gid, at.st_mtime_ns, content,
            tuple(sorted(attributes)), frozenset([path]),
        )  # fmt: skip
    return {
        path: fact._replace(names=frozenset(names[inodes[path]])) if path in inodes else fact
        for path, fact in found.items()
    }


def facts_in_archive(view: View) -> dict[bytes, Fact]:
    """Return what the catalogue says, by path."""
    found: dict[bytes, Fact] = {}
    names: dict[int, set[bytes]] = {}
    rows: dict[bytes, int] = {}
    for visited in view.walk(view.tree.root):
        entry = view.tree.primary(visited.entry)
        content: object = None
        if entry.is_file:
            content = b"".join(view.chunks(entry))
        elif entry.type == layout.ENTRY_SYMLINK:
            content = view.tree.target(entry)
        elif entry.is_device:
            content = (entry.first, entry.total)
        if not entry.is_directory:
            rows[visited.path] = entry.row
            names.setdefault(entry.row, set()).add(visited.path)
        found[visited.path] = Fact(
            entry.type, entry.mode, entry.uid, entry.gid, entry.mtime_ns, content,
            tuple(view.tree.attributes(entry)), frozenset([visited.path]),
        )  # fmt: skip
    for path, row in rows.items():
        assert view.tree.entry(row).link_count == len(names[row])
        found[path] = found[path]._replace(names=frozenset(names[row]))
    return found


class TarFact(NamedTuple):
    """What Python's tarfile says of a member; `link` is the path that a hard link names."""

    kind: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    content: object
    link: bytes | None


def tar_members(content: bytes) -> list[tarfile.TarInfo]:
    """Return the members of a tar stream, as Python's tarfile reads them."""
    with open_tar(content) as tar:
        return tar.getmembers()


def open_tar(content: bytes) -> tarfile.TarFile:
    """Open a tar stream in memory."""
    return tarfile.open(
        fileobj=io.BytesIO(content), mode="r:", encoding="utf-8", errors="surrogateescape"
    )


def tar_time_ns(member: tarfile.TarInfo) -> int:
    """Return the time of a member, as exactly as it was written."""
    return int(Decimal(member.pax_headers.get("mtime", str(int(member.mtime)))) * NS)


def facts_in_tar(content: bytes) -> dict[bytes, TarFact]:
    """Return what a tar stream holds, by path; `./` has an empty path."""
    found: dict[bytes, TarFact] = {}
    with open_tar(content) as tar:
        for member in tar:
            path = os.fsencode(member.name)
            path = b"" if path == b"." else path
            assert path not in found
            kind = layout.ENTRY_FILE if member.issparse() else _TAR_KINDS.get(member.type, 0)
            body: object = None
            link: bytes | None = None
            if member.islnk():
                link = os.fsencode(member.linkname)
                kind, body = found[link].kind, found[link].content
            elif kind == layout.ENTRY_FILE:
                file = tar.extractfile(member)
                assert file is not None
                body = file.read()
            elif kind == layout.ENTRY_SYMLINK:
                body = os.fsencode(member.linkname)
            elif member.isdev() and kind != layout.ENTRY_FIFO:
                body = (member.devmajor, member.devminor)
            found[path] = TarFact(
                kind, member.mode, member.uid, member.gid, tar_time_ns(member), body, link
            )
    return found


def tar_matches(tar: Mapping[bytes, TarFact], tree: Mapping[bytes, Fact]) -> bool:
    """Tell whether a tar stream holds a tree; times of hard links aside, since one wins."""
    assert tar.keys() == tree.keys()
    for path, member in tar.items():
        fact = tree[path]
        assert (member.kind, member.content) == (fact.kind, fact.content), path
        if member.link is None:
            assert member[1:5] == fact[1:5], path
        else:
            assert member[1:4] == fact[1:4], path
            assert tree[member.link][:4] == fact[:4], path
    return True


# --- random trees --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One thing to be made: what, in which of the folders so far, and how."""

    kind: str
    where: int
    name: bytes
    size: int
    seed: int
    mode: int
    mtime_ns: int


_SIZES = (0, 1, 100, 511, 512, 513, 1024, 3000, 4095, 4096, 4097, 9000, 16_384, 17_000, 40_000)
_NAMES = (
    b"a", b"b", b"B", b"a.b", b"-dash", b".hidden", b"with space", b"line\nbreak", b"tab\t%=",
    "\u00e9\u4e2d".encode(), b"\xff\xfe", b"x" * 99, b"y" * 100, b"z" * 101, b"n" * 255,
)  # fmt: skip
KINDS = ("file", "file", "file", "folder", "folder", "symlink", "fifo", "link", "sparse", "same")


def steps(kinds: Sequence[str] = KINDS, most: int = 20) -> st.SearchStrategy[list[Step]]:
    """Return what makes random trees."""
    names = st.one_of(
        st.sampled_from(_NAMES),
        st.binary(min_size=1, max_size=12).filter(
            lambda name: not {0, 47} & {*name} and name not in (b".", b"..")
        ),
    )
    step = st.builds(
        Step,
        kind=st.sampled_from(kinds),
        where=st.integers(0, 30),
        name=names,
        size=st.sampled_from(_SIZES),
        seed=st.integers(0, 3),
        mode=st.sampled_from([0o644, 0o600, 0o755, 0o4755, 0o1777, 0o2750]),
        mtime_ns=st.one_of(
            st.sampled_from([0, 1, NS, MTIME_NS, 2**31 * NS, 2**31 * NS - 1]),
            st.integers(0, 2**33 * NS),
        ),
    )
    return st.lists(step, max_size=most)


def noise(size: int, seed: int) -> bytes:
    """Return content that says where it stands; a shorter one is the start of a longer one."""
    words = (b"%d of %d;" % (word, seed) for word in range(size // 7 + 1))
    return b"".join(words)[:size]


def grow(root: Path, plan: Sequence[Step]) -> None:
    """Make a random tree; a step that can't be made is left out."""
    top = os.fsencode(root)
    folders, files, made = [top], list[bytes](), list[tuple[bytes, Step]]()
    for step in plan:
        path = os.path.join(folders[step.where % len(folders)], step.name)
        if os.path.lexists(path):
            continue
        if step.kind == "folder":
            os.mkdir(path)
            folders.append(path)
        elif step.kind == "symlink":
            os.symlink(b"to/" * min(step.size // 10, 1300) + b"x", path)
        elif step.kind == "fifo":
            os.mkfifo(path)
        elif step.kind == "link":
            if not files:
                continue
            os.link(files[step.seed % len(files)], path, follow_symlinks=False)
            continue  # its metadata is that of the other
        else:
            files.append(path)
            _write(path, step)
        if step.kind != "symlink" and step.seed == 1:
            with suppress(OSError):  # a file system may have none
                os.setxattr(path, b"user.onggi=%", noise(step.size % 99, 1))
                os.setxattr(path, b"user.a", b"")
        made.append((path, step))
    own = 0 if os.geteuid() == 0 else 0o700  # who is not root must be able to read it
    for path, step in reversed(made):
        if step.kind != "symlink":
            os.chmod(path, step.mode | own)
        os.utime(path, ns=(0, step.mtime_ns), follow_symlinks=False)
    os.utime(top, ns=(0, MTIME_NS))


def _write(path: bytes, step: Step) -> None:
    with open(path, "xb") as file:
        if step.kind == "sparse":
            os.truncate(file.fileno(), step.size * 3)
            for run in range(step.seed):
                data = noise(min(step.size, 5000), step.seed)
                os.pwrite(file.fileno(), data, step.size * run)
        else:
            seed = 7 if step.kind == "same" else step.where
            file.write(noise(step.size, seed))


def write_sparse(path: Path, size: int, runs: Mapping[int, bytes]) -> None:
    """Make a file that has data at some offsets, and else holes."""
    with path.open("xb") as file:
        os.truncate(file.fileno(), size)
        for offset, data in runs.items():
            os.pwrite(file.fileno(), data, offset)


# --- catalogues without a disk -------------------------------------------------------------------


def no_owner_name(kind: int, number: int) -> bytes:
    """Know no owner."""
    return b""


@dataclass
class Catalogue:
    """A catalogue that is made row by row, in memory.

    Attributes:
        assembler: has the tables.
        rows: takes the entries.
    """

    owner_name: Callable[[int, int], bytes] = no_owner_name
    assembler: Assembler = field(init=False)
    rows: TreeRows = field(init=False)

    def __post_init__(self) -> None:
        self.assembler = Assembler(tree_header(LARGE), FileSpool)
        self.rows = TreeRows(self.assembler, self.owner_name)

    def raw(self) -> dict[int, bytes]:
        """Return the rows of each table of a tree; the catalogue is finished."""
        return {
            number: self.assembler.table(number).read(0, self.assembler.table(number).rows)
            for number in layout.TABLES_OF_KIND[layout.KIND_TREE]
        }

    def tree(self, content_bytes: int = 0, page_rows: int | None = None) -> Tree:
        """Return the tree, whose catalogue is finished."""
        return tree_of(self.raw(), content_bytes, page_rows)


def tables_of(raw: Mapping[int, bytes], page_rows: int | None = None) -> dict[int, Table]:
    """Return tables whose pages hold these rows, under digests that are right."""
    pages: dict[int, Table] = {}
    cache = PageCache(1_000_000)
    for number, rows in raw.items():
        width = layout.ROW_BYTES[number]
        per_page = page_rows or layout.MAX_PAGE_BYTES // width
        for page, at in enumerate(range(0, len(rows), width * per_page)):
            cache.put(PageKey(number, 0, page), rows[at : at + width * per_page])
        count = len(rows) // width
        descriptor = Descriptor(number, width, per_page, count, level_count(count, per_page), None)
        pages[number] = Table(_no_read, IDENTITY, descriptor, cache)
    return pages


def tree_of(raw: Mapping[int, bytes], content_bytes: int, page_rows: int | None = None) -> Tree:
    """Return the tree that rows describe."""
    return Tree(tables_of(raw, page_rows), content_bytes)


def _no_read(archive_offset: int, size: int) -> bytes:
    raise AssertionError("all pages are in memory")


def raw_of(archive: Archive) -> dict[int, bytes]:
    """Return the rows of the tables of an archive's catalogue."""
    return {
        number: b"".join(table.spans())
        for number, table in archive.tables.items()
        if number < layout.TABLE_UNITS
    }


Nested = Mapping[bytes, "Nested | int"]
"""A folder: names, each of which is a folder or a file of that many bytes."""


def nested(most_names: int = 6) -> st.SearchStrategy[Any]:
    """Return random nested folders; see `Nested`."""
    names = st.binary(min_size=1, max_size=4).filter(
        lambda name: not {0, 47} & {*name} and name not in (b".", b"..")
    )
    return st.recursive(
        st.dictionaries(names, st.integers(0, 9), max_size=most_names),
        lambda below: st.dictionaries(names, st.one_of(st.integers(0, 9), below), max_size=6),
        max_leaves=12,
    )


def add_nested(rows: TreeRows, folder: Nested, row: int) -> None:
    """Add all that is below a folder in the order of spec section 6.6."""
    first = len(rows)
    below: list[tuple[int, Nested]] = []
    for name in sorted(folder):
        content = folder[name]
        if isinstance(content, int):
            rows.add(layout.ENTRY_FILE, name, row, member_bytes=content, first=10 * bool(content))
        else:
            below.append((len(rows), content))
            rows.add(layout.ENTRY_DIRECTORY, name, row)
    rows.set_children(row, first, len(folder))
    for child, content in below:
        add_nested(rows, content, child)


def paths_of(folder: Nested, prefix: bytes = b"") -> Iterator[tuple[bytes, Nested | int]]:
    """Yield (path, folder or length) of all below a folder, in the order of spec section 6.11."""
    for name in sorted(folder):
        if isinstance(folder[name], int):
            yield prefix + name, folder[name]
    for name in sorted(folder):
        content = folder[name]
        if not isinstance(content, int):
            yield prefix + name, content
            yield from paths_of(content, prefix + name + b"/")


def archive_of(raw: Mapping[int, bytes], content: bytes, geometry: Geometry = TINY) -> bytes:
    """Return an archive of any content, whose catalogue has any rows, under right digests."""
    assembler = Assembler(tree_header(geometry), FileSpool)
    out = [assembler.begin()]
    encoder = UnitEncoder(IDENTITY, geometry, 1)
    for number, at in enumerate(range(0, len(content), geometry.unit_bytes)):
        unit = memoryview(content)[at : at + geometry.unit_bytes]
        lengths = geometry.frame_lengths(len(unit))
        ends = list(accumulate(lengths))
        frames = [unit[end - size : end] for size, end in zip(lengths, ends, strict=True)]
        out += assembler.add(encoder.encode(number, len(unit), frames))
    for table, rows in raw.items():
        if rows:
            assembler.table(table).append(rows)
    return b"".join([*map(bytes, out), *assembler.finish()])


ROWS: dict[str, int] = {}
"""The rows of what `everything` has, by name."""


def everything() -> dict[int, bytes]:
    """Return the rows of a tree that has one of everything, and 5,000 bytes of content."""

    def owner(kind: int, number: int) -> bytes:
        letter = b"u" if kind == layout.OWNER_USER else b"g"
        return b"" if number == 9 else letter + b"%d" % number

    catalogue = Catalogue(owner)
    rows = catalogue.rows
    ROWS.clear()

    def add(kind: int, name: bytes, parent: int, **fields: int) -> None:
        ROWS[name.decode()] = len(rows)
        rows.add(kind, name, parent, **({"mode": 0o644, "mtime_ns": 77} | fields))

    sets = [
        rows.attribute_set(encode_attributes(pairs))
        for pairs in ([(b"user.a", b"1"), (b"user.b", b"")], [(b"user.c", b"23")])
    ]
    file, folder = layout.ENTRY_FILE, layout.ENTRY_DIRECTORY
    mapped = layout.FLAG_MAPPED
    add(folder, b"", 0, uid=1, gid=2, mode=0o755)
    add(file, b"attributes", 0, attributes=sets[0], member_bytes=100, first=1536, uid=5)
    add(layout.ENTRY_BLOCK_DEVICE, b"block", 0, first=8, total=1)
    add(layout.ENTRY_CHARACTER_DEVICE, b"char", 0, first=1, total=3, attributes=sets[1])
    add(folder, b"dir", 0, attributes=sets[1], gid=7, mode=0o755)
    add(file, b"empty", 0, link_count=1, uid=9)
    add(layout.ENTRY_FIFO, b"fifo", 0)
    add(file, b"holes", 0, flags=mapped, member_bytes=9000, total=2,
        first=rows.add_runs([(0, 2048, 512), (4096, 2560, 100)]))  # fmt: skip
    add(layout.ENTRY_SYMLINK, b"link", 0, first=rows.add_string(b"to/there"), member_bytes=8)
    add(file, b"many", 0, member_bytes=50, first=3072, link_count=3)
    add(file, b"nothing-but-holes", 0, flags=mapped, member_bytes=5, first=rows.add_runs([]))
    add(file, b"same", 0, flags=layout.FLAG_SHARED, member_bytes=100, first=1536)
    rows.set_children(0, 1, len(rows) - 1)
    first = len(rows)
    add(folder, b"deep", ROWS["dir"], mode=0o755)
    for name in (b"h1", b"h2"):
        ROWS[name.decode()] = len(rows)
        rows.add(layout.ENTRY_HARD_LINK, name, ROWS["dir"], first=ROWS["many"], link_count=0)
    rows.set_children(ROWS["dir"], first, 3)
    first = len(rows)
    add(file, b"more-holes", ROWS["deep"], flags=mapped, member_bytes=700, total=1,
        first=rows.add_runs([(0, 4096, 600)]))  # fmt: skip
    add(file, b"zz", ROWS["deep"], member_bytes=1, first=4999)
    rows.set_children(ROWS["deep"], first, 2)
    rows.finish(31)
    return catalogue.raw()


ENTRY_FIELDS = (
    ("type", 1), ("flags", 1), ("mode", 2), ("uid", 4), ("gid", 4), ("file_flags", 4),
    ("mtime_ns", 8), ("parent", 8), ("name_offset", 8), ("name_bytes", 2), ("reserved_1", 2),
    ("attributes", 4), ("member_bytes", 8), ("first", 8), ("total", 8), ("link_count", 4),
    ("reserved_2", 4),
)  # fmt: skip
"""The fields of the row of an entry, and their widths."""


def patched(raw: Mapping[int, bytes], row: int, **fields: int) -> dict[int, bytes]:
    """Return rows with fields of one entry changed."""
    entries = raw[layout.TABLE_ENTRIES]
    width = layout.ENTRY_ROW_BYTES
    one = entries[row * width : (row + 1) * width]
    names = [name for name, _ in ENTRY_FIELDS]
    known: dict[str, Any] = dict(zip(names, layout.ENTRY_ROW.unpack(one), strict=True))
    changed = layout.ENTRY_ROW.pack(*(known | fields).values())
    return dict(raw) | {
        layout.TABLE_ENTRIES: entries[: row * width] + changed + entries[(row + 1) * width :]
    }
