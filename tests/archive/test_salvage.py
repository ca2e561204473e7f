"""Salvage: what a walk finds where header, footer, index or units are damaged."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from onggi.archive import layout
from onggi.archive import salvage as salvage_module
from onggi.archive.errors import (
    DamagedError,
    Finding,
    NotAnArchiveError,
    SourceError,
    UnsupportedError,
)
from onggi.archive.header import Header
from onggi.archive.plan import Geometry
from onggi.archive.reader import Archive
from onggi.archive.record import seal
from onggi.archive.salvage import Salvaged, salvage
from onggi.archive.store import FileSpool, MemoryStore
from onggi.archive.unit import UnitEncoder, decode_unit_header
from onggi.archive.verify import Level, verify
from onggi.archive.writer import pack

UNIT = 16_384


@pytest.fixture
def content(letters: Callable[..., bytes]) -> bytes:
    """Five units, the last one short."""
    return letters("abcdefgh00ijklmnop", tail=100)


@pytest.fixture
def data(packed: Callable[..., bytes], content: bytes) -> bytes:
    """The archive of `content`."""
    return packed(content, facts={"host": "h"})


def places(data: bytes) -> list[tuple[int, int, int]]:
    """Return (start, start of the frames, end) of each unit."""
    units = Archive(MemoryStore(data)).index.units()
    return [(unit.unit_offset, unit.payload_offset, unit.end_offset) for unit in units]


@pytest.fixture
def rescued(
    unpacked: Callable[..., tuple[bytes, list[Finding]]],
) -> Callable[..., tuple[Salvaged, bytes, list[tuple[int, int]]]]:
    """Salvage bytes: (what was salvaged, content, (offset, length) of what is lost)."""

    def rescue(data: bytes, threads: int = 1) -> tuple[Salvaged, bytes, list[tuple[int, int]]]:
        salvaged = salvage(MemoryStore(data))
        got, lost = unpacked(salvaged, salvage=True, threads=threads)
        in_order, again = unpacked(salvaged, salvage=True, in_order=True)
        assert (in_order, again) == (got, lost)
        assert {finding.code for finding in lost} <= {"lost-content"}
        spans = [(each.content_offset or 0, each.content_bytes or 0) for each in lost]
        return salvaged, got, spans

    return rescue


def without(content: bytes, lost: list[tuple[int, int]]) -> bytes:
    """Return content with zeros where it is lost."""
    left = bytearray(content)
    for offset, length in lost:
        left[offset : offset + length] = bytes(length)
    return bytes(left)


def codes(salvaged: Salvaged) -> set[str]:
    return {finding.code for finding in salvaged.findings}


def test_a_walk_skips_what_stands_in_the_units(packed: Callable[..., bytes]) -> None:
    """10 TiB of frames must not be read to find the units."""
    data = packed(random.Random(1).randbytes(2**21), Geometry(2**18, 2**18, 4096))
    read_bytes = 0

    class Counting(MemoryStore):
        def read_at(self, archive_offset: int, size: int, /) -> bytes:
            nonlocal read_bytes
            got = super().read_at(archive_offset, size)
            read_bytes += len(got)
            return got

    assert salvage(Counting(data)).index.unit_count == 8
    assert read_bytes < 50_000
    assert salvage(Counting(data[:-1])).index.unit_count == 8
    assert read_bytes < 100_000


# --- Header and footer ---------------------------------------------------------------------------


def test_a_good_archive_has_no_findings(data: bytes, content: bytes, rescued: Any) -> None:
    salvaged, got, lost = rescued(data)
    assert (got, lost, salvaged.findings) == (content, [], [])
    assert salvaged.header is not None
    assert salvaged.footer is not None
    assert salvaged.uuid == salvaged.header.uuid


@pytest.mark.parametrize("how", ["zeros", "noise", "gone", "half gone", "more before it"])
def test_without_a_header_nothing_is_lost(
    how: str, data: bytes, content: bytes, rescued: Any
) -> None:
    first = places(data)[0][0]
    rest = data[first:]
    bad = {
        "zeros": bytes(first) + rest,
        "noise": random.Random(1).randbytes(first) + rest,
        "gone": rest,
        "half gone": data[first // 2 :],
        "more before it": b"before" + data,
    }[how]
    with pytest.raises((NotAnArchiveError, DamagedError)):
        Archive(MemoryStore(bad))
    salvaged, got, lost = rescued(bad)
    assert (got, lost) == (content, [])
    assert "header" in codes(salvaged)
    assert salvaged.geometry.unit_bytes == UNIT
    assert salvaged.geometry.frame_bytes == 4096


def test_without_header_and_footer_nothing_is_lost(
    data: bytes, content: bytes, rescued: Any
) -> None:
    first, end = places(data)[0][0], places(data)[-1][2]
    salvaged, got, lost = rescued(data[first:end])
    assert (got, lost) == (content, [])
    assert codes(salvaged) == {"header", "footer"}
    assert salvaged.header is salvaged.footer is None


@pytest.mark.parametrize("cut", [1, 100, 328, 329, 1000])
def test_without_a_footer_nothing_is_lost_but_it_is_said(
    cut: int, data: bytes, content: bytes, rescued: Any
) -> None:
    salvaged, got, lost = rescued(data[:-cut])
    assert (got, lost) == (content, [])
    assert "footer" in codes(salvaged)


def test_a_damaged_footer_is_a_finding(data: bytes, content: bytes, rescued: Any) -> None:
    bad = data[:-40] + b"x" + data[-39:]
    salvaged, got, lost = rescued(bad)
    assert (got, lost) == (content, [])
    assert {"footer", "lost-bytes"} <= codes(salvaged)


@pytest.mark.parametrize(
    ("content_bytes", "geometry"),
    [
        (1, Geometry(UNIT, 4096, 4096)),
        (4096, Geometry(UNIT, 4096, 4096)),
        (4097, Geometry(UNIT, 4096, 4096)),
        (5000, Geometry(UNIT, 8192, 4096)),
        (6144, Geometry(6144, 8192, 512)),
        (13_000, Geometry(6144, 8192, 512)),
        (3000, Geometry(1024, 4096, 512)),
        (700, Geometry(512, 4096, 512)),
        (100, Geometry(512, 4096, 512)),
        (40_000, Geometry(12_288, 8192, 4096)),
    ],
)
def test_the_sizes_are_found_without_a_header(
    content_bytes: int,
    geometry: Geometry,
    packed: Callable[..., bytes],
    rescued: Any,
) -> None:
    whole = random.Random(content_bytes).randbytes(content_bytes)
    data = packed(whole, geometry)
    for end in (len(data), places(data)[-1][2]):
        salvaged, got, lost = rescued(bytes(128) + data[128:end])
        assert (got == whole, lost) == (True, [])
        assert salvaged.geometry.problem() is None


def test_a_lone_unit_that_is_not_the_first_does_not_show_the_sizes(data: bytes) -> None:
    start, _, end = places(data)[2]
    with pytest.raises(DamagedError, match="one unit alone"):
        salvage(MemoryStore(data[start:end]))
    # With another one it does.
    salvaged = salvage(MemoryStore(data[start : places(data)[3][2]]))
    assert salvaged.content_bytes == 4 * UNIT


def test_a_header_and_a_first_frame_that_are_damaged_hide_the_sizes(data: bytes) -> None:
    payload = places(data)[0][1]
    with pytest.raises(DamagedError, match="first frame"):
        salvage(MemoryStore(bytes(128) + data[128:payload] + bytes(30) + data[payload + 30 :]))


def test_a_first_frame_that_lies_about_the_sizes_gives_no_wrong_bytes(
    data: bytes, content: bytes, rescued: Any
) -> None:
    """Without a header its declared size is all there is."""
    payload = places(data)[0][1]
    for at in range(payload + 4, payload + 12):
        for mask in (1, 0x10, 0x80):
            bad = bytearray(bytes(128) + data[128:])
            bad[at] ^= mask
            try:
                _, got, lost = rescued(bytes(bad))
            except DamagedError:
                continue
            assert got == without(content, lost)


def test_an_empty_archive_has_nothing_to_salvage_but_is_no_error(
    packed: Callable[..., bytes], rescued: Any
) -> None:
    data = packed(b"")
    salvaged, got, lost = rescued(data)
    assert (got, lost, salvaged.findings) == (b"", [], [])
    for bad in (data[:-1], data[:200], data[:128]):
        with pytest.raises(DamagedError, match="no intact unit"):
            salvage(MemoryStore(bad))


@pytest.mark.parametrize("bad", [b"", b"x" * 15, b"x" * 5000, bytes(5000)])
def test_what_is_no_archive_is_told_so(bad: bytes) -> None:
    with pytest.raises(NotAnArchiveError):
        salvage(MemoryStore(bad))


@pytest.mark.parametrize("fields", [{"version_minor": 7}, {"required_features": 2}, {"kind": 3}])
def test_an_archive_of_later_times_is_unsupported_and_not_walked(
    fields: dict[str, int], forge: Any, content: bytes
) -> None:
    forged = forge(content)
    forged.header = fields
    with pytest.raises(UnsupportedError):
        salvage(MemoryStore(forged.build()))


@pytest.mark.parametrize("at", [16, 18, 24, 31])
def test_a_version_that_is_damaged_is_no_later_version(
    at: int, data: bytes, content: bytes, rescued: Any
) -> None:
    bad = bytearray(data)
    bad[at] ^= 4
    salvaged, got, lost = rescued(bytes(bad))
    assert (got, lost) == (content, [])
    assert "header" in codes(salvaged)


def test_a_sealed_header_with_bad_sizes_is_as_good_as_none(
    forge: Any, content: bytes, rescued: Any
) -> None:
    forged = forge(content)
    forged.header = {"frame_bytes": 1}
    salvaged, got, lost = rescued(forged.build())
    assert (got, lost) == (content, [])
    assert salvaged.header is None


# --- Units ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(5))
def test_a_damaged_unit_header_costs_nothing_while_the_index_is_whole(
    number: int, data: bytes, content: bytes, rescued: Any
) -> None:
    start = places(data)[number][0]
    for at in (start, start + 5, start + 9, start + 33, start + 100, start + 130):
        bad = bytearray(data)
        bad[at] ^= 1
        salvaged, got, lost = rescued(bytes(bad))
        assert (got, lost) == (content, [])
        assert codes(salvaged) == {"lost-bytes"}


@pytest.mark.parametrize("number", range(4))
def test_a_damaged_unit_header_without_an_index_costs_its_unit(
    number: int, data: bytes, content: bytes, rescued: Any
) -> None:
    start = places(data)[number][0]
    bad = data[: start + 9] + b"x" + data[start + 10 : -1]
    salvaged, got, lost = rescued(bad)
    assert lost == [(number * UNIT, UNIT)]
    assert got == without(content, lost)
    assert {"footer", "lost-bytes"} <= codes(salvaged)


def test_a_last_unit_that_is_lost_without_a_footer_is_said_to_be_missing_maybe(
    data: bytes, content: bytes, rescued: Any
) -> None:
    start = places(data)[4][0]
    salvaged, got, lost = rescued(data[: start + 9] + b"x" + data[start + 10 : -1])
    assert (got, lost) == (content[: 4 * UNIT], [])
    assert "footer" in codes(salvaged)


def test_a_last_unit_that_is_lost_with_a_footer_is_lost_content(
    data: bytes, content: bytes, rescued: Any
) -> None:
    start, _, end = places(data)[4]
    _, got, lost = rescued(data[:start] + data[end:])
    assert lost == [(4 * UNIT, len(content) - 4 * UNIT)]
    assert got == without(content, lost)


@pytest.mark.parametrize(("first", "count"), [(0, 1), (1, 1), (1, 3), (0, 4), (3, 2)])
def test_units_that_are_cut_out_are_lost_and_no_others(
    first: int, count: int, data: bytes, content: bytes, rescued: Any
) -> None:
    spans = places(data)
    bad = data[: spans[first][0]] + data[spans[first + count - 1][2] :]
    salvaged, got, lost = rescued(bad)
    assert sum(length for _, length in lost) == len(content[first * UNIT :][: count * UNIT])
    assert got == without(content, lost)
    assert got != content
    assert verify(MemoryStore(bad), Level.CONTENT, threads=1).damaged == set(
        range(first, first + count)
    )
    assert salvaged.content_bytes == len(content)


@pytest.mark.parametrize("cut", [1, 5, 100, 200])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_bytes_cut_out_of_the_frames_cost_what_follows_in_the_unit(
    cut: int, number: int, data: bytes, content: bytes, rescued: Any
) -> None:
    _, payload, end = places(data)[number]
    cut = min(cut, end - payload - 60)
    bad = data[: payload + 50] + data[payload + 50 + cut :]
    _, got, lost = rescued(bad, threads=3)
    assert got == without(content, lost)
    assert 0 < sum(length for _, length in lost) <= UNIT
    assert all(number * UNIT <= offset < (number + 1) * UNIT for offset, _ in lost)


def test_bytes_cut_across_two_units_cost_the_end_of_one_and_the_other(
    data: bytes, content: bytes, rescued: Any
) -> None:
    spans = places(data)
    bad = data[: spans[1][2] - 10] + data[spans[2][0] + 50 :]
    _, got, lost = rescued(bad)
    assert got == without(content, lost)
    assert lost[-1] == (2 * UNIT, UNIT)
    assert all(UNIT <= offset < 3 * UNIT for offset, _ in lost)
    assert sum(length for _, length in lost) == UNIT + 4096


@pytest.mark.parametrize("more", [b"x", b"x" * 1000, bytes(20_000)])
@pytest.mark.parametrize("where", ["frames", "between", "unit header", "facts", "catalogue"])
def test_inserted_bytes_cost_at_most_their_unit(
    more: bytes, where: str, data: bytes, content: bytes, rescued: Any
) -> None:
    start, payload, _ = places(data)[2]
    at = {
        "frames": payload + 50,
        "between": start,
        "unit header": start + 60,
        "facts": 130,
        "catalogue": places(data)[-1][2] + 100,
    }[where]
    salvaged, got, lost = rescued(data[:at] + more + data[at:])
    assert got == without(content, lost)
    if where in ("frames", "unit header"):
        assert 0 < sum(length for _, length in lost) <= UNIT
    else:
        assert lost == []
    assert "lost-bytes" in codes(salvaged)


def test_units_that_stand_twice_are_taken_once(data: bytes, content: bytes, rescued: Any) -> None:
    spans = places(data)
    bad = data[: spans[2][0]] + data[spans[1][0] :]
    salvaged, got, lost = rescued(bad)
    assert (got, lost) == (content, [])
    assert "lost-bytes" in codes(salvaged)


def test_both_index_and_unit_header_lost_cost_one_unit_only(
    data: bytes, content: bytes, rescued: Any
) -> None:
    """The index is whole for the others, which is not needed."""
    start = places(data)[1][0]
    pages = [at for at in range(len(data)) if data.startswith(b"\x8eOnggiPG", at)]
    bad = bytearray(data)
    bad[start + 20] ^= 1
    bad[pages[-3] + 60] ^= 1  # a page of the table of units
    salvaged, got, lost = rescued(bytes(bad))
    assert lost == [(UNIT, UNIT)]
    assert got == without(content, lost)
    assert salvaged.index.unit_count == 5
    with pytest.raises(DamagedError, match="no intact unit header"):
        salvaged.index.unit(1)
    assert [unit.number for unit in salvaged.index.units()] == [0, 2, 3, 4]
    assert not verify(MemoryStore(bytes(bad)), Level.CONTENT, threads=1).is_whole


def test_a_page_of_the_index_that_is_lost_is_told_though_nothing_else_is(
    data: bytes, content: bytes, rescued: Any
) -> None:
    """What works on a rebuilt index must say so: spec section 9.4."""
    pages = [at for at in range(len(data)) if data.startswith(b"\x8eOnggiPG", at)]
    bad = bytearray(data)
    bad[pages[-2] + 100] ^= 1
    salvaged, got, lost = rescued(bytes(bad))
    assert (got, lost) == (content, [])
    assert salvaged.findings != []


def test_a_long_scan_sees_a_record_across_the_edge_of_a_piece(
    data: bytes, content: bytes, rescued: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = places(data)[1][0]
    for piece in (20, 21, 64, 4096):
        monkeypatch.setattr(salvage_module, "_SCAN_BYTES", piece)
        for gap in range(18):
            bad = data[:start] + b"x" * (40 + gap) + data[start:]
            _, got, lost = rescued(bad)
            assert (got, lost) == (content, [])


# --- Archives inside archives --------------------------------------------------------------------


def noisy(*parts: bytes, seed: int = 1) -> bytes:
    """Return noise with parts in it."""
    noise = random.Random(seed)
    return b"".join(noise.randbytes(700) + part for part in parts) + noise.randbytes(700)


def test_units_of_other_archives_in_the_content_are_not_taken(
    forge: Any, memory_target: Any, memory_source: Any, small: Geometry, rescued: Any
) -> None:
    """A backup of a disk that holds a backup."""
    inner = memory_target()
    header = Header(UUID(int=7), small, 1, 1)
    pack(memory_source(b"i" * 5 * UNIT), inner, header, threads=1, new_spool=FileSpool)
    whole = (
        random.Random(2).randbytes(UNIT) + inner.data.ljust(UNIT, b".") + bytes(UNIT) + b"end" * 99
    )
    data = forge(whole, Geometry(UNIT, UNIT, 4096), raw=True).build()
    assert inner.data in data
    starts = places(data)
    for damaged in (starts[0][0], starts[1][0], starts[1][1]):
        bad = bytearray(data)
        bad[damaged + 9] ^= 1
        for end in (len(bad), len(bad) - 1):
            _, got, lost = rescued(bytes(bad[:end]))
            assert got == without(whole, lost)
            assert len(lost) <= 1
    # The start of the file is gone: the first unit that the walk meets is a stranger's.
    _, got, lost = rescued(bytes(starts[1][1]) + data[starts[1][1] :])
    assert lost == [(0, 2 * UNIT)] or lost == [(0, UNIT), (UNIT, UNIT)]
    assert got == without(whole, lost)


def test_a_record_that_is_not_intact_does_not_lead_the_walk_over_units(
    forge: Any, rescued: Any
) -> None:
    """It stands in content, and says that it is as long as the units behind it."""
    lengths = {b"PG": 66_000, b"HD": 60_000, b"FT": 70_000, b"UN": 120 + 40 * 700}
    for tag, length in lengths.items():
        fake = b"\x5c\x2a\x4d\x18" + length.to_bytes(4, "little") + b"\x8eOnggi" + tag
        whole = noisy(fake, fake) + random.Random(3).randbytes(20 * 4096)
        data = forge(whole, Geometry(4096, 4096, 4096), raw=True).build()
        assert fake in data
        bad = bytearray(data)
        bad[places(data)[0][0] + 9] ^= 1
        _, got, lost = rescued(bytes(bad[:-1]))
        assert lost == [(0, 4096)]
        assert got == without(whole, lost)


def test_without_a_header_the_first_unit_says_which_archive_it_is(
    data: bytes, content: bytes, small: Geometry, rescued: Any
) -> None:
    foreign = UnitEncoder(UUID(int=9), small, 1).encode(3, 4096, [memoryview(b"f" * 4096)])
    stranger = foreign.record + b"".join(foreign.payload)
    start, end = places(data)[1][0], places(data)[-1][2]
    bad = bytes(128) + data[140:start] + stranger + data[start:end]
    _, got, lost = rescued(bad)
    assert (got, lost) == (content, [])


# --- Hostile -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"content_bytes": 2**64 - 1, "unit_count": 2**50},
        {"content_bytes": 2**62, "unit_count": 2**48},
        {"content_bytes": 0, "unit_count": 0},
        {"content_bytes": UNIT, "unit_count": 1},
        {"content_bytes": 5 * UNIT, "unit_count": 5},
        {"content_bytes": 70_000, "unit_count": 5},
        {"content_bytes": 90 * UNIT, "unit_count": 90},
    ],
)
def test_a_footer_that_lies_makes_the_content_no_longer_than_the_units(
    fields: dict[str, int], forge: Any, content: bytes, rescued: Any
) -> None:
    forged = forge(content)
    forged.footer = fields
    salvaged, got, lost = rescued(forged.build())
    assert salvaged.content_bytes <= 100 * UNIT
    assert got == without(content.ljust(len(got), b"\0")[: len(got)], lost)


@pytest.mark.parametrize("number", [5, 2**20, 2**63, 2**64 - 1])
def test_a_unit_number_that_can_not_be_costs_no_memory(
    number: int, forge: Any, content: bytes, rescued: Any
) -> None:
    forged = forge(content)
    forged.units[4]["number"] = number
    for cut in (0, 1):
        data = forged.build()
        salvaged, got, _ = rescued(data[: len(data) - cut])
        assert salvaged.index.unit_count <= 6
        assert got[: 4 * UNIT] == content[: 4 * UNIT]


@pytest.mark.parametrize("content_bytes", [1, UNIT - 1, UNIT + 1, 2**28])
def test_a_unit_of_another_length_is_not_taken(
    content_bytes: int, forge: Any, content: bytes, rescued: Any
) -> None:
    forged = forge(content)
    forged.units[2]["content_bytes"] = content_bytes
    data = forged.build()
    _, got, lost = rescued(data[:-1])
    assert lost == [(2 * UNIT, UNIT)]
    assert got == without(content, lost)


def sealed_unit(good: bytes, **fields: Any) -> bytes:
    """Return a unit header with other fields, and the digest that fits them."""
    values = dict(layout.UNIT_HEADER.parse(good)) | fields | {"digest": bytes(32)}
    values.pop("_io", None)
    rows = good[layout.UNIT_HEADER_BYTES :]
    return seal(layout.UNIT_HEADER.build(values) + rows, layout.UNIT_HEADER_DIGEST_AT)


@pytest.mark.parametrize(
    "fields",
    [
        {"content_bytes": 0},
        {"content_bytes": 2**28 + 1},
        {"stored_bytes": 1},
        {"frame_count": 3},
        {"frame_count": 5},
        {"frame_count": 0},
        {"reserved": bytes(11) + b"\1"},
        {"skip_bytes": 120},
        {"skip_bytes": 2**31 - 1},
        {"skip_bytes": 0},
        {"uuid": bytes(16)},
    ],
    ids=str,
)
def test_a_unit_header_that_is_sealed_but_wrong_is_none(
    fields: dict[str, Any], forge: Any, content: bytes, data: bytes
) -> None:
    """It is no unit; the others are found."""
    start, payload, _ = places(data)[2]
    good = data[start:payload]
    assert sealed_unit(good) == good
    forged = forge(content)
    forged.units[2]["record"] = sealed_unit(good, **fields)
    salvaged = salvage(MemoryStore(forged.build()[:-1]))
    assert [unit.number for unit in salvaged.index.units()] == [0, 1, 3, 4]


def test_a_unit_header_without_frames_is_none(data: bytes) -> None:
    start, payload, _ = places(data)[2]
    fields = {"frame_count": 0, "stored_bytes": 0, "skip_bytes": 120}
    with pytest.raises(DamagedError, match="number of frames"):
        decode_unit_header(sealed_unit(data[start:payload][:128], **fields))


@pytest.mark.parametrize("content_bytes", [1, 2**28])
def test_a_unit_of_the_smallest_and_of_the_greatest_length_is_one(
    content_bytes: int, data: bytes
) -> None:
    start, payload, _ = places(data)[2]
    unit = decode_unit_header(sealed_unit(data[start:payload], content_bytes=content_bytes))
    assert unit.content_bytes == content_bytes


def test_an_archive_that_can_not_be_read_is_an_error_of_the_source(data: bytes) -> None:
    class Broken(MemoryStore):
        def read_at(self, archive_offset: int, size: int, /) -> bytes:
            if archive_offset > 1000:
                raise SourceError("can't read")
            return super().read_at(archive_offset, size)

    with pytest.raises(SourceError):
        salvage(Broken(data))


def test_frames_that_do_not_fit_the_content_are_lost(forge: Any, content: bytes) -> None:
    forged = forge(content)
    unit = forged.units[1]
    half = len(unit["rows"]) // 2
    row = layout.FRAME_ROW.unpack(unit["rows"][half : half + 40])
    unit["rows"] = unit["rows"][: half // 40 * 40]
    unit["payload"] = unit["payload"][: sum(
        each[0] for each in layout.FRAME_ROW.iter_unpack(unit["rows"])
    )]  # fmt: skip
    assert row
    salvaged = salvage(MemoryStore(forged.build()[:-1]))
    with pytest.raises(DamagedError) as caught:
        salvaged.index.frames(salvaged.index.unit(1))
    assert caught.value.unit == 1


def test_of_a_footer_alone_that_claims_more_than_fits_nothing_is_left(
    packed: Callable[..., bytes], rescued: Any
) -> None:
    data = packed(bytes(UNIT * 1000))
    footer = data[-layout.FOOTER_BYTES :]
    start = data[: places(data)[0][0]]
    salvaged, got, lost = rescued(start + footer)
    assert (got, lost, salvaged.content_bytes, salvaged.footer) == (b"", [], 0, None)
    assert "footer" in {finding.code for finding in salvaged.findings}
