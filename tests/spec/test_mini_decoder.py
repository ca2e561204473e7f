"""The mini decoder of spec/ against the blake3 package and a small encoder written from format.md.

The encoder shares no code with the project's writer, on purpose. It writes volume archives only;
the trees are those of fixtures/.
"""

from __future__ import annotations

import importlib.util
import json
import random
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import blake3 as blake3_package
import pytest
import zstandard

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "spec" / "mini_decoder.py"
UUID = bytes.fromhex("0f8c3a52b1d64e7f9a20c4d5e6f70819")


def load_mini_decoder() -> ModuleType:
    """Import the script from its file: spec/ is no package."""
    spec = importlib.util.spec_from_file_location("mini_decoder", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


mini: Any = load_mini_decoder()


def fast_blake3(data: bytes) -> bytes:
    """Return what mini.blake3 returns, about a hundred times as fast."""
    return blake3_package.blake3(data).digest()


@pytest.fixture
def fast_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the decoder the package's BLAKE3, for tests that decode thousands of times."""
    monkeypatch.setattr(mini, "blake3", fast_blake3)


# --- a small encoder -----------------------------------------------------------------------------


def record(tag: bytes, fields: bytes, digest_at: int, rest: bytes = b"") -> bytes:
    """Put the start of a record before its fields, and fill in its digest."""
    raw = bytearray(struct.pack("<II", 0x184D2A5C, 8 + len(fields) + len(rest)))
    raw += b"\x8eOnggi" + tag + fields + rest
    assert raw[digest_at : digest_at + 32] == bytes(32)
    raw[digest_at : digest_at + 32] = fast_blake3(bytes(raw))
    return bytes(raw)


def zero_frame(n: int) -> bytes:
    """Return the zero frame of 2 to 65,791 bytes."""
    head = struct.pack("<BB", 0x24, n) if n < 256 else struct.pack("<BH", 0x64, n - 256)
    rle = ((n - 1) << 3 | 1 << 1 | 1).to_bytes(3, "little")
    xxh64 = zstandard.ZstdCompressor(write_checksum=True).compress(bytes(n))[-4:]
    return b"\x28\xb5\x2f\xfd" + head + b"\x08\0\0\0" + rle + b"\0" + xxh64


@dataclass
class Encoder:
    """Options of one archive; `encode` writes it."""

    unit_bytes: int = 4608  # a full frame and one of 512 bytes in each unit
    frame_bytes: int = 4096
    holes: set[int] = field(default_factory=set)  # numbers of frames, in all the archive
    unreadable: list[tuple[int, int]] = field(default_factory=list)
    name: bytes = b"disk.img"
    page_rows: dict[int, int] = field(default_factory=dict)
    checksum: bool = True  # zstd's own, in frames of kind data
    required: int = 0
    optional: int = 0
    more_tables: dict[int, tuple[int, bytes]] = field(default_factory=dict)  # of the catalogue
    without_table: int = -1
    kind: int = 1
    reserved: int = 0  # in the header
    window: int = 0  # if not 0: base 2 logarithm of the window that data frames declare

    def encode(self, content: bytes) -> bytes:
        """Return the archive of this content."""
        fields = struct.pack("<HHB2xB", 0, 1, self.kind, self.reserved)
        fields += struct.pack("<QQ16s", self.required, self.optional, UUID)
        facts = b'{"writer": "a test"}'
        fields += struct.pack(
            "<QIIqh6xI4x", self.unit_bytes, self.frame_bytes, 512, 1, 3, len(facts)
        )
        out = record(b"HD", fields + bytes(32), 96, facts)
        header_digest = out[96:128]

        unit_rows, frame_rows = b"", b""
        zero_bytes = hole_bytes = stored_total = 0
        for number, at in enumerate(range(0, len(content), self.unit_bytes)):
            unit = content[at : at + self.unit_bytes]
            frames, rows, counts = b"", b"", [0, 0, 0]
            for start in range(0, len(unit), self.frame_bytes):
                piece = unit[start : start + self.frame_bytes]
                kind = 0
                if not any(piece):
                    kind = 2 if (len(frame_rows + rows) // 40) in self.holes else 1
                stored = zero_frame(len(piece)) if kind else self.data_frame(piece)
                frames += stored
                rows += struct.pack("<IB3x32s", len(stored), kind, fast_blake3(piece))
                counts[kind] += 1
                zero_bytes += len(piece) * (kind == 1)
                hole_bytes += len(piece) * (kind == 2)
            fields = UUID + struct.pack("<QIII12x", number, len(unit), len(frames), sum(counts))
            fields += fast_blake3(frames) + bytes(32)
            unit_rows += struct.pack("<QIII", len(out), len(unit), len(frames), sum(counts))
            unit_rows += struct.pack("<II4x", *counts[1:]) + fast_blake3(frames)
            frame_rows += rows
            stored_total += len(frames)
            out += record(b"UN", fields, 96, rows) + frames

        member = struct.pack("<BBHIQQq", 1, 0, 0, len(self.name), 0, len(content), 7)
        member += struct.pack("<QQ16x", 0, bool(content))
        extents = struct.pack("<QQQII", 0, 0, len(content), 0, 0) if content else b""
        unreadable = b"".join(struct.pack("<QQ", *run) for run in self.unreadable)
        tables = {1: (64, member), 2: (32, extents), 3: (1, self.name), 4: (16, unreadable)}
        catalogue = self.section(len(out), 1, tables | self.more_tables)
        catalogue_root = last_page(catalogue)
        catalogue_offset = len(out) + len(catalogue) - len(catalogue_root)
        out += catalogue
        index = self.section(len(out), 2, {16: (64, unit_rows), 17: (40, frame_rows)})
        index_root = last_page(index)
        out += index

        unit_count, frame_count = len(unit_rows) // 64, len(frame_rows) // 40
        unreadable_bytes = sum(length for _, length in self.unreadable)
        fields = struct.pack("<HHB3x", 0, 1, self.kind) + UUID
        fields += struct.pack("<QQQQ", len(out) + 328, len(content), unit_count, frame_count)
        fields += struct.pack("<QQQQQ", stored_total, zero_bytes, hole_bytes, unreadable_bytes, 1)
        fields += struct.pack("<QII", catalogue_offset, len(catalogue_root), len(index_root))
        fields += struct.pack("<Q", len(out) - len(index_root)) + header_digest
        stored_digests = [unit_rows[at + 32 : at + 64] for at in range(0, len(unit_rows), 64)]
        frame_digests = [frame_rows[at + 8 : at + 40] for at in range(0, len(frame_rows), 40)]
        fields += fast_blake3(b"".join(stored_digests)) + fast_blake3(b"".join(frame_digests))
        fields += catalogue_root[64:96] + index_root[64:96] + bytes(32)
        return out + record(b"FT", fields, 296)

    def data_frame(self, piece: bytes) -> bytes:
        """Return one zstd frame."""
        if not self.window:
            return zstandard.ZstdCompressor(write_checksum=self.checksum).compress(piece)
        # One raw block; content size in 8 bytes, and a window descriptor before it.
        head = struct.pack("<BBQ", 0xC4, self.window - 10 << 3, len(piece))
        block = (len(piece) << 3 | 1).to_bytes(3, "little") + piece
        checksum = zstandard.ZstdCompressor(write_checksum=True).compress(piece)[-4:]
        return b"\x28\xb5\x2f\xfd" + head + block + checksum

    def section(self, at: int, number: int, tables: dict[int, tuple[int, bytes]]) -> bytes:
        """Return a catalogue or an index that begins at this offset of the archive."""
        out, descriptors = b"", b""
        for table, (row_bytes, rows) in sorted(tables.items()):
            if table == self.without_table:
                continue
            page_rows = self.page_rows.get(table, 65_536 // row_bytes)
            descriptors += struct.pack("<HHIQ", table, row_bytes, page_rows, len(rows) // row_bytes)
            level, width, per_page, top = 0, row_bytes, page_rows, bytes(48)
            while rows:
                directory = b""
                for page_number, start in enumerate(range(0, len(rows), width * per_page)):
                    raw = page(table, level, page_number, rows[start : start + width * per_page])
                    directory += struct.pack("<QI4x", at + len(out), len(raw)) + raw[64:96]
                    out += raw
                level += 1
                if len(directory) == 48:
                    top = directory
                    break
                rows, width, per_page = directory, 48, 1365
            descriptors += struct.pack("<B7x", level) + top
        return out + page(0, 0, number, descriptors)


def page(table: int, level: int, number: int, rows: bytes) -> bytes:
    """Return one page record, compressed where that makes it smaller."""
    data = min(rows, zstandard.ZstdCompressor(level=3).compress(rows), key=len)
    fields = UUID + struct.pack("<HBBI", table, level, data != rows, len(rows))
    fields += struct.pack("<QI12x", number, len(data)) + bytes(32)
    return record(b"PG", fields, 64, data)


def last_page(section: bytes) -> bytes:
    """Return the last record of a section: its root."""
    return section[section.rindex(b"\x8eOnggiPG") - 8 :]


# --- archives that several tests use -------------------------------------------------------------


def tiny() -> tuple[bytes, bytes]:
    """Return a content of data, zeros, holes and an odd tail, and its archive: five units."""
    noise = random.Random(5)
    content = noise.randbytes(300).ljust(4096, b"d") + b"x" * 512
    content += bytes(4096) + noise.randbytes(512)  # incompressible: a raw block in its frame
    content += bytes(4608)
    content += b"y" * 4096 + bytes(512)
    content += b"\x01\x02"
    encoder = Encoder(holes={4, 7}, unreadable=[(4608, 512), (9216, 100)])
    encoder.page_rows = {3: 3, 16: 2, 17: 3}
    return content, encoder.encode(content)


def taken(pieces: Iterator[bytes]) -> tuple[bytes, str]:
    """Return what an iterator gave, and the kind of the error that ended it."""
    got = b""
    try:
        for piece in pieces:
            got += piece
    except mini.FormatError as error:
        return got, error.kind
    return got, ""


# --- tests ---------------------------------------------------------------------------------------

EDGES = [0, 1, 2, 63, 64, 65, 127, 128, 129, 1023, 1024, 1025, 2047, 2048, 2049]
TREES = [chunks * 1024 + d for chunks in (3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31) for d in (-1, 0, 1)]
BATCHES = [1024 * 1024 + d for d in (-1, 0, 1, 1024, 1025)] + [3 * 1024 * 1024 + 5]


@pytest.mark.parametrize("length", EDGES + TREES + BATCHES)
def test_blake3_agrees_with_the_package(length: int) -> None:
    data = random.Random(length).randbytes(length)
    assert mini.blake3(data) == fast_blake3(data)


@pytest.mark.parametrize(
    "n", [1, 2, 255, 256, 257, 65_791, 65_792, 131_072, 131_073, 131_074, 262_145, 2**20, 2**24]
)
def test_a_zero_frame_is_a_zstd_frame_of_zeros(n: int) -> None:
    frame = mini.zero_frame(n)
    assert zstandard.get_frame_parameters(frame).content_size == n
    assert zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False) == bytes(n)


def test_the_zero_frames_of_decoder_and_encoder_are_the_same() -> None:
    for n in (2, 255, 256, 512, 4096, 65_791):
        assert mini.zero_frame(n) == zero_frame(n)


def test_a_tiny_archive_gives_its_content() -> None:
    content, archive = tiny()
    assert mini.decode(archive) == content
    assert mini.decode(archive, walk=True) == content
    assert mini.decode(archive, hashing=False) == content
    assert mini.decode(archive, walk=True, hashing=False) == content


def test_a_plain_zstd_decoder_gives_the_content() -> None:
    content, archive = tiny()
    reader = zstandard.ZstdDecompressor().stream_reader(archive, read_across_frames=True)
    assert reader.read() == content


@pytest.mark.parametrize(
    "length", [0, 1, 2, 511, 4095, 4096, 4097, 4607, 4608, 4609, 9215, 9216, 9217]
)
def test_contents_around_the_edges_of_frames_and_units(length: int) -> None:
    content = b"\x07" * length
    archive = Encoder().encode(content)
    assert mini.decode(archive) == content
    assert mini.decode(archive, walk=True) == content


def test_a_table_of_three_levels(fast_hash: None) -> None:
    archive = Encoder(name=b"n" * 1400, page_rows={3: 1}).encode(b"abc")
    assert mini.decode(archive) == b"abc"


def test_a_window_up_to_its_bound_is_taken() -> None:
    content = b"z" * 5000
    assert mini.decode(Encoder(window=25).encode(content)) == content


def test_what_a_reader_must_ignore_is_ignored() -> None:
    """Section 5.3: unknown tables; section 8: unknown optional features."""
    encoder = Encoder(optional=1 << 40, more_tables={200: (7, b"unknown" * 20)})
    encoder.page_rows = {200: 3}
    assert mini.decode(encoder.encode(b"abc")) == b"abc"


def test_every_flipped_byte_is_found_and_gives_no_wrong_content(fast_hash: None) -> None:
    content, archive = tiny()
    for at in range(len(archive)):
        bad = bytearray(archive)
        bad[at] ^= 1 << at % 8
        got, kind = taken(mini.chunks(bytes(bad)))
        assert kind, f"offset {at}: not found"
        assert content.startswith(got), f"offset {at}: wrong content"
        got, kind = taken(mini.chunks(bytes(bad), walk=True))
        assert content.startswith(got), f"offset {at}: wrong content by the walk"
        assert kind or got == content, f"offset {at}: the walk lost content and did not say so"


def test_without_digests_damage_raises_no_other_error(fast_hash: None) -> None:
    """The digests hide the other checks from damage; without them, these meet it."""
    _, archive = tiny()
    noise = random.Random(9)
    for at in range(len(archive)):
        bad = archive[:at] + bytes([noise.choice([0xFF, noise.randrange(256)])]) + archive[at + 1 :]
        taken(mini.chunks(bad, hashing=False))
        taken(mini.chunks(bad, walk=True, hashing=False))


def test_an_archive_cut_anywhere_is_truncated(fast_hash: None) -> None:
    content, archive = tiny()
    for size in range(len(archive)):
        got, kind = taken(mini.chunks(archive[:size]))
        assert (got, kind) == (b"", "truncated" if size >= 16 else "not-an-archive"), size
        got, kind = taken(mini.chunks(archive[:size], walk=True))
        assert content.startswith(got)
        assert kind or got == content


def test_the_walk_needs_neither_header_nor_index_but_is_complete_only_with_a_footer() -> None:
    content, archive = tiny()
    first_unit = archive.index(b"\x8eOnggiUN") - 8
    units_end = archive.index(b"\x8eOnggiPG") - 8
    damaged = bytes(first_unit) + archive[first_unit:units_end]
    assert taken(mini.chunks(damaged, walk=True)) == (content, "truncated")
    without_index = bytes(first_unit) + archive[first_unit:units_end] + bytes(99) + archive[-328:]
    assert mini.decode(without_index, walk=True) == content


@pytest.mark.parametrize("at", [8, 16, 18, 20, 24, 31, 64, 96], ids="header byte {}".format)
def test_the_walk_goes_on_where_the_header_is_damaged(at: int) -> None:
    """Its tag, version and features included: section 9.4."""
    content, archive = tiny()
    bad = archive[:at] + bytes([archive[at] ^ 2]) + archive[at + 1 :]
    assert mini.decode(bad, walk=True) == content


@pytest.mark.parametrize("encoder", [Encoder(required=4), Encoder(kind=3)], ids=repr)
def test_the_walk_refuses_what_was_written_as_unsupported(encoder: Encoder) -> None:
    assert taken(mini.chunks(encoder.encode(b"abc"), walk=True)) == (b"", "unsupported")


def test_the_walk_does_not_take_a_lone_unit_for_the_first_one() -> None:
    _, archive = tiny()
    last = archive.rindex(b"\x8eOnggiUN") - 8
    got, kind = taken(mini.chunks(b"\xff" * 128 + archive[last:], walk=True))
    assert (got, kind) == (b"", "corrupt")


def test_the_walk_passes_by_copies_of_units_in_the_content() -> None:
    """Section 9.4: unit numbers must rise. Here the content holds the archive's own unit 0."""
    first = random.Random(3).randbytes(4608)
    copied = Encoder().encode(first)
    copy = copied[copied.index(b"\x8eOnggiUN") - 8 :][:208]
    second = copy + random.Random(4).randbytes(4608 - len(copy))
    content = first + second + b"end"
    archive = Encoder().encode(content)
    assert archive.count(copy[:96]) == 2  # as a unit, and within a raw block
    assert mini.decode(archive, walk=True) == content
    at = archive.index(b"\x8eOnggiUN", archive.index(b"\x8eOnggiUN") + 1)
    bad = archive[:at] + b"X" + archive[at + 1 :]
    assert taken(mini.chunks(bad, walk=True)) == (first, "corrupt")


def test_the_walk_gives_the_units_before_a_lost_one() -> None:
    content, archive = tiny()
    third = [at for at in range(len(archive)) if archive.startswith(b"\x8eOnggiUN", at)][2]
    bad = archive[:third] + b"X" + archive[third + 1 :]
    got, kind = taken(mini.chunks(bad, walk=True))
    assert (got, kind) == (content[: 2 * 4608], "corrupt")


def edited(at: int, new: bytes) -> Callable[[bytes], bytes]:
    """Return a function that overwrites bytes of an archive."""
    return lambda archive: archive[:at] + new + archive[at + len(new) :]


@pytest.mark.parametrize(
    ("edit", "kind", "words"),
    [
        (lambda archive: b"", "not-an-archive", ""),
        (lambda archive: b"\x28\xb5\x2f\xfd" * 100, "not-an-archive", ""),
        (edited(16, b"\x01"), "unsupported", "version 1.1"),
        (edited(18, b"\x02"), "unsupported", "version 0.2"),
        (edited(24, b"\x02"), "unsupported", "1 (encryption)"),
        (edited(31, b"\x80"), "unsupported", "63 (unknown)"),
        (edited(40, b"\0"), "corrupt", "HD record: digest"),
        (lambda archive: archive + b"more", "corrupt", "bytes follow the footer"),
        (lambda archive: archive + bytes(2**20), "truncated", ""),
        (lambda archive: archive[:-1], "truncated", ""),
        (lambda archive: archive[:-1] + bytes([archive[-1] ^ 1]), "corrupt", "FT record: digest"),
        (lambda archive: archive[:-328] + b"\0" + archive[-327:], "corrupt", "no FT record"),
        (lambda archive: archive[:-320] + b"\0" + archive[-319:], "truncated", ""),
        (lambda archive: Encoder(kind=3, reserved=1).encode(b""), "unsupported", "kind 3"),
        (lambda archive: Encoder(kind=2).encode(b""), "corrupt", "table 1: not its place"),
        (lambda archive: Encoder(reserved=1).encode(b""), "corrupt", "reserved"),
    ],
)
def test_outcomes_are_told_apart(edit: Callable[[bytes], bytes], kind: str, words: str) -> None:
    _, archive = tiny()
    with pytest.raises(mini.FormatError) as caught:
        mini.decode(edit(archive))
    assert caught.value.kind == kind
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "encoder",
    [
        Encoder(unit_bytes=4609),
        Encoder(unit_bytes=256),
        Encoder(frame_bytes=4097),
        Encoder(frame_bytes=2**25),
        Encoder(name=b"a/b"),
        Encoder(name=b".."),
        Encoder(name=b""),
        Encoder(unreadable=[(0, 0)]),
        Encoder(unreadable=[(0, 2), (2, 1)]),
        Encoder(unreadable=[(4000, 2**63)]),
        Encoder(page_rows={17: 2000}),
        Encoder(checksum=False),
        Encoder(window=26),
        Encoder(window=31),
        *(Encoder(without_table=table) for table in (1, 2, 3, 4, 16, 17)),
        Encoder(more_tables={0: (1, b"x")}),
        Encoder(more_tables={16: (64, b"")}),
    ],
    ids=repr,
)
def test_a_sealed_archive_that_breaks_a_rule_is_corrupt(encoder: Encoder) -> None:
    with pytest.raises(mini.FormatError) as caught:
        mini.decode(encoder.encode(b"z" * 5000))
    assert caught.value.kind == "corrupt"


TREE = ROOT / "fixtures" / "archives" / "ok-tree-small.onggi"


def test_every_flipped_byte_of_a_catalogue_of_a_tree_is_found(fast_hash: None) -> None:
    archive = TREE.read_bytes()
    for at in range(archive.index(b"\x8eOnggiPG") - 8, len(archive)):
        bad = archive[:at] + bytes([archive[at] ^ 1 << at % 8]) + archive[at + 1 :]
        _, kind = taken(mini.chunks(bad))
        assert kind, f"offset {at}: not found"


def test_without_digests_a_damaged_tree_raises_no_other_error(fast_hash: None) -> None:
    archive = TREE.read_bytes()
    noise = random.Random(11)
    for at in range(archive.index(b"\x8eOnggiPG") - 8, len(archive)):
        bad = archive[:at] + bytes([noise.randrange(256)]) + archive[at + 1 :]
        taken(mini.listing(bad, hashing=False))


def test_a_hole_of_a_file_is_given_as_zeros_in_pieces(fast_hash: None) -> None:
    archive = (ROOT / "fixtures" / "archives" / "ok-tree-largest-files.onggi").read_bytes()
    pieces = mini.cat(archive, b"b")
    assert [next(pieces) for _ in range(3)] == [bytes(2**20)] * 3


def test_what_is_no_file_has_no_bytes(fast_hash: None) -> None:
    for path in (b"", b".", b"c-folder", b"h-symlink", b"f-pipe", b"a-file/x", b"none", b"../x"):
        with pytest.raises(FileNotFoundError):
            list(mini.cat(TREE.read_bytes(), path))
    with pytest.raises(mini.FormatError, match="not the archive of a tree"):
        list(mini.listing(tiny()[1]))


def run(*args: str | Path) -> tuple[int, bytes, bytes]:
    """Run the script; return its exit code, stdout and stderr."""
    done = subprocess.run([sys.executable, SCRIPT, *args], capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_the_script_writes_the_content_or_one_line(tmp_path: Path) -> None:
    content, archive = tiny()
    good, bad = tmp_path / "good.onggi", tmp_path / "bad.onggi"
    good.write_bytes(archive)
    bad.write_bytes(archive[:-1])
    assert run(good) == (0, content, b"")
    assert run("--check", good) == (0, b"", b"")
    assert run("--no-blake3", good) == (0, content, b"")
    code, out, err = run("--walk", good)
    assert (code, out) == (0, content)
    assert b"rebuilt" in err
    for path in (bad, tmp_path / "missing.onggi"):
        code, out, err = run(path)
        assert (code, out, err.count(b"\n")) == (1, b"", 1)
        assert err.startswith(b"mini_decoder: ")


def test_the_script_lists_a_tree_and_gives_its_files() -> None:
    code, out, err = run("--list", TREE)
    assert (code, err) == (0, b"")
    entries = {entry["path"]: entry for entry in map(json.loads, out.splitlines())}
    assert list(entries)[:3] == [".", "a-file", "b-empty"]
    first = entries["a-file"]
    assert first | {"runs": 0} == {
        "path": "a-file", "type": "file", "mode": 0o644, "uid": 1000, "gid": 1000, "file_flags": 0,
        "mtime_ns": 1_600_000_000_000_000_000, "member_bytes": 1000, "link_count": 2, "flags": [],
        "attributes": [
            ["user.one", b"first value".hex()], ["user.two", b"\0binary\n\xff".hex()]
        ],
        "runs": 0,
    }  # fmt: skip
    [[member_offset, content_offset, run_bytes]] = first["runs"]
    assert (member_offset, run_bytes) == (0, 1000)
    assert entries["d-link"]["target"] == entries["h-symlink"]["target"] == "a-file"
    assert entries["e-null"]["device"] == [1, 3]
    assert entries["g-sparse"]["flags"] == ["mapped"]
    assert [run[::2] for run in entries["g-sparse"]["runs"]] == [[4096, 512], [12_288, 3]]
    content = mini.decode(TREE.read_bytes(), hashing=False)
    expected = content[content_offset : content_offset + 1000]
    for path in ("a-file", "d-link", "./a-file"):
        assert run("--cat", path, TREE) == (0, expected, b"")
    code, out, err = run("--no-blake3", "--cat", "g-sparse", TREE)
    assert (code, len(out), out[:4096], out[12_288:12_292]) == (0, 20_000, bytes(4096), b"end\0")
    code, out, err = run("--cat", "c-folder", TREE)
    assert (code, out) == (1, b"")
    assert err == b"mini_decoder: no file c-folder in the archive\n"
