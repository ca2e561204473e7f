"""Headers of a tar stream that may be damaged: ours, those of other tars, cut, flipped, hostile."""

from __future__ import annotations

import io
import os
import random
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onggi.archive import pax, tar_scan
from onggi.archive.pax import TarMember, encode_member, encode_sparse, padding
from onggi.archive.tar_scan import Scanned, is_header, scan_tar

from .tree_helpers import MTIME_NS, NS, facts_on_disk, noise, write_sparse

BLOCK = 512
MOST_ID, MOST_SIZE, MOST_NS = 8**7 - 1, 8**11 - 1, 2**63 - 1
ACCESS = b"system.posix_acl_access"


def member(path: bytes = b"name", type: bytes = pax.TYPE_FILE, **fields: Any) -> TarMember:
    """Return a member whose fields all have a value of their own."""
    return replace(TarMember(path, type, 0o640, 11, 22, b"user", b"group", 0, 5 * NS), **fields)


def file_of(path: bytes, body: bytes, **fields: Any) -> bytes:
    return encode_member(member(path, size=len(body), **fields)) + body + bytes(padding(len(body)))


def with_text(text: bytes) -> bytes:
    return file_of(b"PaxHeaders/0", text, type=b"x") + encode_member(member())


def with_records(*records: tuple[bytes, bytes], **fields: Any) -> bytes:
    return encode_member(member(**fields), records)


def patched(block: bytes, at: int, data: bytes) -> bytes:
    """Return a header with other bytes at a place, and the checksum that fits them."""
    changed = bytearray(block)
    changed[at : at + len(data)] = data
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed)
    return bytes(changed)


Seen = tuple[Scanned, bytes]


@dataclass
class Scan:
    """What a scan of a content gave, of which some is damaged: `dark` are (offset, length).

    `gaps` are (offset, length) of what it told to be no member, `reads` of what it read.
    """

    content: bytes
    dark: Sequence[tuple[int, int]] = ()
    members: list[Scanned] = field(default_factory=list[Scanned])
    gaps: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    reads: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def __post_init__(self) -> None:
        end = len(self.content)
        self.members += scan_tar(self.read, end, lambda at, size: self.gaps.append((at, size)))
        assert all(size > 0 for _, size in self.gaps)
        edges = [0, *(edge for at, size in self.gaps for edge in (at, at + size)), end]
        assert edges == sorted(edges)

    def read(self, at: int, size: int) -> tuple[bytes, bool]:
        """Read content; what is dark is zeros, and not intact."""
        assert min(at, size) >= 0
        self.reads.append((at, size))
        got = bytearray(self.content[at : at + size])
        dark = {n - at for start, length in self.dark for n in range(start, start + length)}
        for n in (hit := dark & {*range(len(got))}):
            got[n] = 0
        return bytes(got), not hit

    @property
    def seen(self) -> list[Seen]:
        """All members without their runs, and what those hold, zeros between them."""
        return [(replace(each, runs=[]), self._body(each)) for each in self.members]

    def _body(self, found: Scanned) -> bytes:
        pieces: list[bytes] = []
        last = 0
        for offset, content_offset, length in found.runs:
            assert last <= offset < offset + length <= found.size
            pieces += [bytes(offset - last), self.content[content_offset:][:length]]
            last = offset + length
        return b"".join([*pieces, bytes(found.size - last)])


def only(content: bytes) -> Scanned:
    (found,) = Scan(content + pax.END).members
    return found


def expected(said: TarMember, body: bytes = b"", **fields: Any) -> Seen:
    """Return what a scan must give of a member; `fields` are what it must give of it otherwise."""
    known: dict[str, Any] = {name: getattr(said, name) for name in TarMember.__slots__}
    known.update(path=said.path.strip(b"/"), attributes=sorted(said.attributes), size=len(body))
    known.update(fields)
    return Scanned(**known), body


# --- streams of ours -----------------------------------------------------------------------------

ACL = (
    b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x02\0\x05\0\xe8\x03\0\0"
    b"\x04\0\x04\0\xff\xff\xff\xff\x10\0\x05\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff"
)
TIMES = (
    0, 1, -1, NS - 1, NS, -NS, 5 * NS + 120, MTIME_NS, 1 - NS, 2**31 * NS, 2**33 * NS,
    MOST_SIZE * NS, (MOST_SIZE + 1) * NS, MOST_NS, -MOST_NS - 1,
)  # fmt: skip
ONES = [
    *(member(b"n" * length) for length in (99, 100, 101)),
    *(member(b"p" * length + b"/" + b"n" * 100) for length in (155, 156)),
    member(b"./", pax.TYPE_DIRECTORY), member(b"p/" * 300 + b"q/", pax.TYPE_DIRECTORY),
    member(b"\xff\xfe \n = \t" * 20), member(b"fifo", pax.TYPE_FIFO),
    *(member(b"l", pax.TYPE_SYMLINK, link=link) for link in (b"t" * 100, b"/../" * 1000)),
    member(b"h", pax.TYPE_HARD_LINK, link=b"d/" * 60 + b"x"),
    member(b"c", pax.TYPE_CHARACTER_DEVICE, device=(MOST_ID, MOST_ID + 1)),
    member(b"b", pax.TYPE_BLOCK_DEVICE, device=(2**32 - 1, 0)),
    member(uid=MOST_ID, gid=MOST_ID + 1), member(uid=MOST_ID + 1, gid=2**32 - 1),
    member(mode=0o7777, user=b"", group=b""), member(user=b"u" * 31, group=b"g" * 32),
    *(member(mtime_ns=time) for time in TIMES),
    member(attributes=[(b"user.b", b""), (b"user.a", b"\0\n=%" * 9)]),
    member(attributes=[(b"user.%3D=%25%", b"1"), (b"user.=", b"2"), (b"user.%", b"3")]),
    member(attributes=[(b"user." + b"n" * 250, b"v" * 65_536)]),
    member(b"d/", pax.TYPE_DIRECTORY, attributes=[(ACCESS, ACL), (b"user.z", b"z")]),
]  # fmt: skip


@pytest.mark.parametrize("said", ONES, ids=lambda said: f"{said.type.decode()}-{said.path[:6]!r}")
def test_a_member_is_read_as_it_was_written(said: TarMember) -> None:
    scan = Scan(encode_member(said) + pax.END)
    assert scan.seen == [expected(said)]
    assert scan.gaps == []


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1024, 70_000])
@pytest.mark.parametrize("kind", [b"0", b"\0"])
def test_the_bytes_of_a_file_stand_behind_its_header(size: int, kind: bytes) -> None:
    body = noise(size, 1)
    scan = Scan(BEFORE + file_of(b"d/f", body, type=kind) + AFTER + pax.END)
    assert scan.seen == [*same(BEFORE), expected(member(b"d/f"), body), *same(AFTER)]
    assert scan.members[1].runs == ([(0, len(BEFORE) + BLOCK, size)] if size else [])
    assert scan.gaps == []


@pytest.mark.parametrize("size", [MOST_SIZE, MOST_SIZE + 1, 2**63 - 1, 10**20 - 1])
def test_a_file_may_be_longer_than_the_header_can_say(size: int) -> None:
    header = encode_member(member(size=size))
    assert only(header) == replace(expected(member(), size=size)[0], runs=[(0, len(header), size)])


@pytest.mark.parametrize(("size", "runs"), [
    (0, []), (9000, []), (9000, [(0, 9000)]), (9000, [(4096, 4096)]),
    (9000, [(0, 512), (4096, 512), (8704, 296)]), (2**62, [(2**62 - 512, 512)]),
    (100_000, [(n * 1024, 512) for n in range(97)]),  # the map takes more than one block
], ids=lambda value: str(value)[:20])  # fmt: skip
def test_a_file_with_holes_has_its_runs(size: int, runs: list[tuple[int, int]]) -> None:
    said = member(b"d" * 120 + b"/s", size=size, attributes=[(b"user.a", b"1")], mtime_ns=7)
    header = encode_sparse(said, runs)
    data = noise(sum(length for _, length in runs), 1)
    content = header + data + bytes(padding(len(data))) + AFTER + pax.END
    found, after = (scan := Scan(content)).members
    bare_of_runs = expected(said, size=size)[0]
    assert replace(found, runs=[]) == bare_of_runs
    assert [(offset, length) for offset, _, length in found.runs] == runs
    stored = b"".join(content[at : at + length] for _, at, length in found.runs)
    assert (stored, scan.gaps, after.path) == (data, [], b"z")
    for at in range(header.rindex(b"ustar\0") - 257 + BLOCK, len(header)):
        lost = replace(bare_of_runs, has_no_map=True)
        assert Scan(content, [(at, 1)]).members == [lost, after]


_names = st.binary(min_size=1, max_size=140).filter(
    lambda name: not {0, 47} & {*name} and name not in (b".", b"..")
)
_members = st.builds(
    TarMember, path=st.lists(_names, min_size=1, max_size=4).map(b"/".join),
    type=st.sampled_from([b"0", b"1", b"2", b"3", b"4", b"5", b"6"]),
    mode=st.integers(0, 0o7777), uid=st.integers(0, 2**32 - 1), gid=st.integers(0, 2**32 - 1),
    user=_names, group=_names, size=st.just(0), mtime_ns=st.integers(-(2**63), 2**63 - 1),
    link=_names, device=st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    attributes=st.dictionaries(_names.map(lambda name: b"user." + name), st.binary(max_size=600))
    .map(lambda found: sorted(found.items())),
)  # fmt: skip
_given = st.tuples(_members, st.sampled_from([0, 1, 511, 512, 513, 3000]), st.booleans())


@settings(max_examples=60)
@given(st.lists(_given, max_size=6))
def test_any_members_are_read_as_they_were_written(
    members: list[tuple[TarMember, int, bool]],
) -> None:
    content = file_of(b"g", b"12 path=all\n" * 50, type=b"g") + BEFORE  # it is passed over
    wanted = same(BEFORE)
    for said, size, has_holes in members:
        body = noise(size, 1) if said.type == pax.TYPE_FILE else b""
        if body and has_holes:
            whole = bytes(1000) + body + bytes(77)
            content += encode_sparse(replace(said, size=len(whole)), [(1000, size)])
            wanted.append(expected(said, whole, link=b"", device=(0, 0)))  # a file has neither
        else:
            content += encode_member(replace(said, size=len(body)))
            wanted.append(expected(said, body))
        content += body + bytes(padding(len(body)))
    scan = Scan(content + pax.END)
    assert (scan.seen, scan.gaps) == (wanted, [])


# --- streams of other tars -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source")
    deep = root / "long" / ("d" * 120) / ("e" * 90)
    deep.mkdir(parents=True)
    (deep / ("f" * 130)).write_bytes(noise(3000, 2))
    (root / "empty").write_bytes(b"")
    (root / "odd = %\nname").write_bytes(noise(513, 3))
    (root / "link").symlink_to("t/" * 90)
    os.link(root / "odd = %\nname", root / "other name")
    os.mkfifo(root / "fifo")
    write_sparse(root / "sparse", 300_000, {8192: noise(5000, 4), 200_704: noise(700, 5)})
    write_sparse(root / "tail", 100_000, {0: noise(512, 6)})
    for number, path in enumerate(sorted(root.rglob("*"))):
        os.utime(path, ns=(0, MTIME_NS + number * 1_000_000_007), follow_symlinks=False)
    os.utime(root, ns=(0, 1))
    return root


def _same_as_disk(content: bytes, source: Path, has_ns: bool, missing: int = 0) -> None:
    scan = Scan(content)
    assert scan.gaps == []
    facts = facts_on_disk(source)
    found = {each.path.removeprefix(b"./").strip(b"."): (each, body) for each, body in scan.seen}
    assert len(found) == len(scan.members) == len(facts) - missing
    for path, (each, body) in found.items():
        fact = facts[path]
        if each.type == pax.TYPE_HARD_LINK:
            assert each.link.removeprefix(b"./") in fact.names - {path}
            continue
        kind = {b"0": 2, b"5": 3, b"2": 4, b"6": 7}[each.type]
        assert (kind, each.mode, each.uid, each.gid) == fact[:4], path
        assert each.mtime_ns == (fact.mtime_ns if has_ns else fact.mtime_ns // NS * NS)
        assert {b"0": body, b"2": each.link}.get(each.type) == fact.content


@pytest.mark.parametrize("command", [
    "tar --format=pax", "tar --format=pax --sparse", "tar --format=pax --pax-option=delete=atime",
    "tar --format=ustar --exclude=./long --exclude=./link",
    pytest.param("bsdtar --format pax --read-sparse", marks=pytest.mark.needs("bsdtar")),
    pytest.param("bsdtar --format pax --no-read-sparse", marks=pytest.mark.needs("bsdtar")),
])  # fmt: skip
def test_a_stream_of_another_tar_is_read(command: str, source: Path) -> None:
    content = subprocess.check_output([*command.split(), "-C", f"{source}", "-cf", "-", "."])
    assert (b"GNU.sparse.major=1" in content) is command.endswith((" --sparse", " --read-sparse"))
    has_ns = "ustar" not in command
    _same_as_disk(content, source, has_ns, missing=0 if has_ns else 5)


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_a_stream_of_python_is_read(format: int, source: Path) -> None:
    has_ns = format == tarfile.PAX_FORMAT

    def exact(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        info.mtime, ns = divmod((source / info.name).lstat().st_mtime_ns, NS)
        info.pax_headers = {"mtime": f"{info.mtime}.{ns:09}"}
        return info if has_ns or not info.name.startswith(("./long", "./link")) else None

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        tar.add(source, ".", filter=exact)
    _same_as_disk(out.getvalue(), source, has_ns, missing=0 if has_ns else 5)


@pytest.mark.parametrize("format", ["gnu", "oldgnu", "v7"])
def test_a_stream_without_ustar_headers_is_told_to_be_none(format: str, source: Path) -> None:
    command = f"tar --format={format} -C {source} -cf - empty tail"
    scan = Scan(subprocess.check_output(command.split()))
    assert (scan.members, scan.gaps) == ([], [(0, len(scan.content))])


# --- damage --------------------------------------------------------------------------------------

BEFORE, MIDDLE = file_of(b"a", noise(700, 1)), file_of(b"d/" + b"m" * 60, noise(600, 2))
LONG = file_of(b"d/" + b"m" * 120, noise(600, 2), mtime_ns=MTIME_NS)
AFTER = file_of(b"z", noise(29, 3))


def same(content: bytes) -> list[Seen]:
    scan = Scan(content)
    assert scan.gaps == []
    return scan.seen


def bare(seen: Seen, **fields: Any) -> Seen:
    return replace(seen[0], is_bare=True, **fields), seen[1]


def flips(content: bytes, first: int, count: int, *masks: int) -> Iterator[tuple[int, bytes]]:
    """Yield (n, a content with bits of byte `first + n` flipped), for each n in turn."""
    for n in range(count):
        before, byte, after = content[: first + n], content[first + n], content[first + n + 1 :]
        for mask in masks:
            yield n, before + bytes([byte ^ mask]) + after


@pytest.mark.parametrize("part", [MIDDLE, LONG], ids=["alone", "pax"])
def test_a_header_with_any_byte_flipped_is_the_same_or_none(part: bytes) -> None:
    content = BEFORE + part + AFTER + pax.END
    before, middle, after = same(content)
    cut_off = bare(middle, path=middle[0].path[:100], mtime_ns=MTIME_NS // NS * NS)
    left = [before, cut_off, after] if part == LONG else [before, bare(after)]
    gap = (len(BEFORE), 1024 if part == LONG else len(part))
    for n, bad in flips(content, len(BEFORE), BLOCK, 1, 0x10, 0x20, 0x80, 0xFF):
        scan = Scan(bad)
        if scan.gaps or not 148 <= n < 156:  # in the checksum, spaces and zeros mean the same
            assert (scan.seen, scan.gaps) == (left, [gap])
        else:
            assert scan.seen == [before, middle, after]


def test_a_checksum_is_right_or_the_header_is_none() -> None:
    header = encode_member(member())
    good = int(header[148:154], 8)
    for _, bad in flips(header, 148, 8, *range(1, 256)):
        digits = bad[148:156].strip(b" \0")
        says_good = digits.isdigit() and not set(b"89") & {*digits} and int(digits, 8) == good
        assert is_header(bad) is says_good
    for text in (b"", b"-0000001", b"+%o", b"0o%o", b"%o_", b"0x1f", b"%o.", b"\xff%o", b"%o\0 1"):
        said = (text % good if b"%" in text else text).ljust(8, b"\0")[:8]
        assert not is_header(header[:148] + said + header[156:])
    assert is_header(header[:148] + (b"%o" % good).rjust(8) + header[156:])
    magics = (b"ustar ", b"USTAR\0", b"\0" * 6, b"ustar0")
    bad_ones = [header[:-1], header + b"\0", *(patched(header, 257, magic) for magic in magics)]
    assert not any(map(is_header, bad_ones))


def test_pax_data_that_is_damaged_is_passed_over_whatever_it_holds() -> None:
    for before in range(BLOCK):
        value = bytes(before) + encode_member(member(b"inner"))
        content = encode_member(member(attributes=[(b"user.a", value)])) + AFTER + pax.END
        scan = Scan(content, [(BLOCK, 1)])
        assert (scan.seen, scan.gaps) == ([bare(expected(member())), *same(AFTER)], [])


def test_any_blocks_that_are_dark_cost_what_they_hold_and_no_more() -> None:
    parts = [file_of(b"f%d" % n, noise(n * 400, n)) for n in range(7)]
    content = b"".join(parts) + pax.END
    whole = same(content)
    starts = [sum(map(len, parts[:n])) for n in range(7)]
    for first in range(0, len(content), BLOCK):
        for start, size in ((first, BLOCK), (first, 3 * BLOCK), (first + BLOCK - 1, 1)):
            scan = Scan(content, [(start, size)])
            lost = {n for n, at in enumerate(starts) if first <= at < start + size}
            kept = [n for n in range(7) if n not in lost]
            assert scan.seen == [bare(whole[n]) if n - 1 in lost else whole[n] for n in kept]
            gaps = [range(at, at + length) for at, length in scan.gaps]
            assert {n for n, at in enumerate(starts) for gap in gaps if at in gap} == lost


def test_a_stream_may_be_cut_anywhere() -> None:
    sparse = encode_sparse(member(b"holes", size=9000), [(1024, 600)]) + noise(600, 7) + bytes(424)
    content = BEFORE + LONG + sparse + AFTER + pax.END
    whole = Scan(content).members
    heads = [each.runs[0][1] for each in whole]  # where their headers end
    map_at, map_end = content.index(b"2\n1024\n600\n"), heads[2]
    heads[2] = map_at
    assert map_end == map_at + BLOCK
    for end in range(len(content)):
        scan = Scan(content[:end])
        wanted = [each for each, at in zip(whole, heads, strict=True) if at <= end]
        if map_at <= end < map_end:
            wanted[2] = replace(whole[2], runs=[], has_no_map=True)
        assert (scan.members, scan.gaps) == (wanted, [])


@pytest.mark.parametrize("piece", [512, 1024, 1536, 1024 * 1024])
def test_the_next_header_begins_a_block(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_scan, "_SCAN_BYTES", piece)
    rubbish = random.Random(1).randbytes(3000) + encode_member(member(b"in two blocks"))
    for at in (0, 100, 256, 257, 258, 700, 1024, 2000, 2559):
        rubbish = rubbish[:at] + b"ustar\0" + rubbish[at + 6 :]
    for blocks in range(1, 10):
        scan = Scan(rubbish[: blocks * BLOCK].ljust(blocks * BLOCK) + AFTER + BEFORE + pax.END)
        assert scan.seen == [bare(*same(AFTER)), *same(BEFORE)]
        assert scan.gaps == [(0, blocks * BLOCK)]


def test_a_tar_in_a_file_is_its_content_while_the_header_is_intact() -> None:
    content = file_of(b"inner.tar", BEFORE + AFTER + pax.END) + MIDDLE + pax.END
    assert [each.path for each in Scan(content).members] == [b"inner.tar", b"d/" + b"m" * 60]
    lost = Scan(content, [(0, 1)])  # documented: nothing tells it from the stream
    assert (lost.seen[0], lost.gaps[0]) == (bare(*same(BEFORE)), (0, BLOCK))


@pytest.mark.parametrize("blocks", [0, 1, 2, 20])
def test_zeros_at_the_end_are_not_lost(blocks: int) -> None:
    zeros, end = bytes(blocks * BLOCK), len(BEFORE)
    assert Scan(BEFORE + zeros).gaps == Scan(BEFORE + zeros + bytes(511)).gaps == []
    for last in (b"x", b"ustar\0"):
        assert Scan(BEFORE + zeros + last.rjust(BLOCK, b"\0")).gaps == [(end, len(zeros) + BLOCK)]
    for dark in range(blocks):
        assert Scan(BEFORE + zeros, [(end + dark * BLOCK, 1)]).gaps == [(end, len(zeros))]


def test_only_headers_are_read_and_each_of_them_once() -> None:
    scan = Scan(file_of(b"big", noise(100_000, 1)) + LONG + AFTER + pax.END)
    assert all(at + size <= later for (at, size), (later, _) in pairwise(scan.reads))
    assert sum(size for _, size in scan.reads) < 7 * BLOCK
    header = encode_member(member(b"x", b"x", size=2**20))  # each says that it holds the others
    scan = Scan(header * 2000, [(2000 * BLOCK - 1, 1)])
    assert sum(size for _, size in scan.reads) < 3 * 2**20


# --- hostile -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    b"x", b" ", b"\0", b"\n", b"5", b"5 ", b" a=b\n", b"0 a=\n", b"-6 a=b\n", b"+6 a=b\n",
    b"6_0 a=b\n", b"5 a=b\n", b"7 a=b\n", b"6 a=bx", b"4 =\n", b"6 abc\n", b"x6 a=b\n",
    b"999 a=b\n", b"9" * 19 + b" a=b\n", b"9" * 30 + b" a=b\n", b"0x6 a=b\n", b"6\0a=b\n",
    b"6 a=b\n" + b"6 a=b", b"6 a=b\n\0", "\u0666 a=b\n".encode(), b"7 a=b\n\n"[:6], b"3 \n",
    b"6 a=b\n" + b"9" * 400, b"2 ", b"6  a=b\n", b"06 a=b\n" + b"1",
])  # fmt: skip
def test_pax_records_that_lie_are_worth_nothing(text: bytes) -> None:
    assert Scan(with_text(text) + pax.END).seen == [bare(expected(member()))]
    for odd in (b"", b"9 uid=11\n", b"010 uid=7\n9 uid=11\n", b"05 =\n6 a=b\n"):
        assert Scan(with_text(odd) + pax.END).seen == [expected(member())]


def test_a_pax_header_that_is_too_long_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    content = with_records((b"comment", b"c" * 2000), (b"uid", b"7")) + AFTER + pax.END
    size = int(content[124:135], 8)
    for most, wanted in ((size, expected(member(uid=7))), (size - 1, bare(expected(member())))):
        monkeypatch.setattr(tar_scan, "_MOST_PAX_BYTES", most)
        scan = Scan(content)
        assert scan.seen == [wanted, *same(AFTER)]
        assert ((BLOCK, size) in scan.reads) is (most == size)


@pytest.mark.parametrize(("at", "text", "name", "value"), [
    (108, b"-000001\0", "uid", 0), (108, b"+000001\0", "uid", 0),
    (108, b"1_00_1\0\0", "uid", 0), (108, b"0o17\0\0\0\0", "uid", 0),
    (108, b"000008\0\0", "uid", 0), (108, b"  17 \0\0 ", "uid", 15),
    (108, b"77777777", "uid", 8**8 - 1), (108, b"\0" * 8, "uid", 0),
    (108, b"1\0 2\0\0\0\0", "uid", 0), (108, b"\x80\0\0\0\0\0\x01\x02", "uid", 258),
    (108, b"\x80\0\0" + b"\xff" * 5, "uid", 2**32 - 1), (116, b"\xff" * 8, "gid", 0),
    (116, b"\x80" + b"\xff" * 7, "gid", 2**32 - 1), (100, b"-1\0\0\0\0\0\0", "mode", 0),
    (100, b"77777777", "mode", 0o7777), (100, b"\x80" + b"\xff" * 7, "mode", 0o7777),
    (136, b"777777777777", "mtime_ns", MOST_NS), (136, b"-1\0".ljust(12), "mtime_ns", 0),
    (136, b"\x80" + b"\xff" * 11, "mtime_ns", MOST_NS),
    (329, b"\x80" + b"\xff" * 7, "device", (2**32 - 1, 0)),
    (337, b"\x80\0\0\0\x01\0\0\0", "device", (0, 2**24)),
    (337, b"-1\0\0\0\0\0\0", "device", (0, 0)), (124, b"-0000001000\0", "size", 0),
    (124, b"\x80" + b"\0" * 9 + b"\x01\0", "size", 256),
    (124, b"\x80" + b"\xff" * 11, "size", 2**88 - 1),
])  # fmt: skip
def test_a_number_in_a_header_is_in_bounds(at: int, text: bytes, name: str, value: object) -> None:
    assert getattr(only(patched(encode_member(member()), at, text)), name) == value


@pytest.mark.parametrize(("text", "ns"), [
    (b"0", 0), (b"-0", 0), (b"1.", NS), (b"1.5", 3 * NS // 2), (b"-1.5", -3 * NS // 2),
    (b"-0.000000001", -1), (b"1.0000000019", NS + 1), (b"9" * 20, MOST_NS),
    (b"-" + b"9" * 20, -MOST_NS - 1), (b"9223372036.854775807", MOST_NS),
    (b"9223372036.854775808", MOST_NS), (b"00000000000000000001", NS),
    (b"9" * 21, None), (b".5", None), (b"", None), (b"-", None), (b"1e9", None),
    (b"1.-5", None), (b"1.5.5", None), (b" 1", None), (b"nan", None), (b"+1", None),
    (b"1.5\0", None), (b"1_0", None),
])  # fmt: skip
def test_a_time_that_is_none_leaves_that_of_the_header(text: bytes, ns: int | None) -> None:
    assert only(with_records((b"mtime", text))).mtime_ns == (5 * NS if ns is None else ns)


@pytest.mark.parametrize("text", [b"-1", b"", b"1" * 21, b"0x1", b"1.0", b" 5", b"\xb2", b"1_0"])
@pytest.mark.parametrize("keyword", [b"size", b"uid", b"gid"])
def test_a_number_that_is_none_leaves_that_of_the_header(keyword: bytes, text: bytes) -> None:
    content = with_records((keyword, text), size=3) + b"abc" + bytes(509) + AFTER
    assert Scan(content).seen == [expected(member(), b"abc"), *same(AFTER)]


def test_records_hold_any_bytes_and_the_last_of_a_keyword_counts() -> None:
    name = b"a\0b/../" + bytes(range(1, 256))
    found = only(
        with_records(
            (b"path", b"first"), (b"path", name), (b"linkpath", b"\0"), (b"uname", b"\xff\0"),
            (b"uid", b"9" * 20), (b"gid", b"%d" % 2**32), (b"SCHILY.xattr.", b"3"),
            (b"SCHILY.xattr.user.a%", b"1"), (b"SCHILY.xattr.user.a%25", b"2"),
            (b"SCHILY.acl.access", pax.acl_text(ACL)), (b"SCHILY.xattr." + ACCESS, b"less"),
            (b"SCHILY.acl.default", b"nonsense"),
        )
    )  # fmt: skip
    assert (found.path, found.link, found.user) == (name.strip(b"/"), b"\0", b"\xff\0")
    assert (found.uid, found.gid) == (2**32 - 1, 2**32 - 1)
    assert found.attributes == [(b"", b"3"), (ACCESS, ACL), (b"user.a%", b"2")]


@pytest.mark.parametrize(("realsize", "text"), [
    (1000, b""), (1000, b"1"), (1000, b"1\n"), (1000, b"1\n0\n"), (1000, b"1\n0\n9"),
    (1000, b"\n"), (1000, b"x\n"), (1000, b"-1\n"), (1000, b"2\n0\n1\n"),
    (1000, b"1\n0\n1\n1\n"), (1000, b"1\nx\n1\n"), (1000, b"1\n-1\n1\n"),
    (1000, b"1\n0\n1001\n"), (1000, b"1\n999\n2\n"), (1000, b"2\n10\n10\n19\n10\n"),
    (1000, b"2\n10\n10\n0\n1\n"), (1000, b"1000001\n"), (1000, b"9" * 20 + b"\n"),
    (1000, b"9" * 21 + b"\n"), (10**6, b"1\n0\n513\n"), (10**6, b"2\n0\n512\n600\n1\n"),
    (0, b"1\n0\n1\n"), (2**62, b"1\n0\n%d\n" % 2**62), (1000, b"0\n0\n0\n"),
    (1000, b"1\n0\n1\n\n"), (1000, b"1" * 511 + b"\n"), (1000, b"1" * 300),
])  # fmt: skip
def test_a_map_that_lies_leaves_a_file_without_runs(realsize: int, text: bytes) -> None:
    records = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"%d" % realsize)]

    def scanned(text: bytes) -> list[Scanned]:
        header = with_records(*records, size=2 * BLOCK)
        return Scan(header + text.ljust(BLOCK, b"\0") + b"D" * BLOCK + AFTER).members

    found, after = scanned(text)
    assert found == expected(member(), size=realsize, has_no_map=True)[0]
    assert after.path == b"z"
    found, _ = scanned(b"1\n%d\n1\n" % (realsize - 1) if realsize else b"0\n")
    assert (len(found.runs), found.has_no_map) == (min(realsize, 1), False)


def test_a_number_of_a_map_may_stand_in_a_block_of_its_own() -> None:
    runs = [(n * 100, 50) for n in range(13)]
    texts = [b"%0*d\n" % (20 - (n >= 9), number) for n, number in enumerate(chain(*runs))]
    stored = b"".join([b"13\n", *texts]).ljust(2 * BLOCK, b"\0") + bytes(13 * 50)
    assert stored[BLOCK - 1 : BLOCK + 20] == b"\n" + texts[-1]
    records = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"9000")]
    found = only(with_records(*records, size=len(stored)) + stored + bytes(padding(len(stored))))
    assert [(at, length) for at, _, length in found.runs] == runs


@pytest.mark.parametrize("start", [b"5\n", b"", b"1" * 9, b"1\n0\n"])
@pytest.mark.parametrize("has_more", [False, True])
def test_a_map_without_an_end_is_not_read_for_long(start: bytes, has_more: bool) -> None:
    records = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"9")]
    content = with_records(*records, size=2**62) + start.ljust(BLOCK, b"1" if has_more else b"\0")

    def read(at: int, length: int) -> tuple[bytes, bool]:
        assert at < len(content) + 20 * BLOCK
        piece = content[at : at + length]
        return piece.ljust(length, b"1") if has_more else piece, True

    end = 2**62 + BLOCK if has_more else len(content)
    (found,) = scan_tar(read, end, lambda at, _: pytest.fail(f"no gap is at {at}"))
    assert (found.size, found.runs, found.has_no_map) == (9, [], True)


def test_a_map_has_no_more_runs_than_memory_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_scan, "_SPARSE_MOST_RUNS", 50)
    for runs in (50, 51):
        said = member(size=runs * 1024 - 512)
        content = encode_sparse(said, [(n * 1024, 512) for n in range(runs)])
        assert only(content + bytes(runs * 512)).has_no_map is (runs == 51)


@settings(max_examples=150)
@given(st.data())
def test_bytes_of_any_kind_give_members_in_bounds(data: st.DataObject) -> None:
    """Headers that are sealed again after any change of their fields, and data that is changed."""
    sparse = encode_sparse(member(b"s", size=9000), [(0, 512)]) + bytes(512)
    whole = BEFORE + LONG + sparse + AFTER
    blocks = [whole[at : at + BLOCK] for at in range(0, len(whole), BLOCK)]
    for number in data.draw(st.lists(st.integers(0, len(blocks) - 1), max_size=6)):
        at, text = data.draw(st.tuples(st.integers(0, 340), st.binary(max_size=20)))
        block = blocks[number]
        changed = block[:at] + text + block[at + len(text) :]
        blocks[number] = patched(block, at, text) if is_header(block) else changed
    dark = data.draw(st.lists(st.tuples(st.integers(0, len(whole)), st.just(1)), max_size=2))
    scan = Scan(b"".join(blocks), dark)
    assert len(scan.seen) == len(scan.members), "runs are in order, and in the file"
    last = 0
    for found in scan.members:
        assert all(0 <= number < 2**32 for number in (found.uid, found.gid, *found.device))
        assert 0 <= found.mode <= 0o7777
        assert found.size >= 0
        assert -MOST_NS - 1 <= found.mtime_ns <= MOST_NS
        names = [name for name, _ in found.attributes]
        assert names == sorted(set(names))
        for _, content_offset, length in found.runs:
            assert content_offset >= last, "no two files have the same content"
            last = content_offset + length
