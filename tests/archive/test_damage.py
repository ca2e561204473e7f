"""Damage anywhere in an archive is found, and never gives out wrong bytes."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from onggi.archive.errors import (
    DamagedError,
    Finding,
    NotAnArchiveError,
    TruncatedError,
    UnsupportedError,
)
from onggi.archive.plan import Geometry
from onggi.archive.reader import Archive
from onggi.archive.salvage import salvage
from onggi.archive.store import MemoryStore
from onggi.archive.verify import Level, verify

HEADER_BYTES, UNIT_HEADER_BYTES, PAGE_BYTES, FOOTER_BYTES = 128, 128, 96, 328


@dataclass
class Judge:
    """Tries all ways to read bytes that should have been an archive of `content`."""

    content: bytes
    frame_bytes: int
    unpacked: Callable[..., tuple[bytes, list[Finding]]]

    def is_found(self, data: bytes) -> bool:
        """Tell whether `verify` finds damage."""
        try:
            return not verify(MemoryStore(data), Level.CONTENT, threads=1).is_whole
        except (NotAnArchiveError, UnsupportedError):
            return True

    def reads_right(self, data: bytes, *, whole: bool = True) -> None:
        """Assert that no read gives out wrong bytes, nor unpacking if `whole`."""
        try:
            archive = Archive(MemoryStore(data))
        except (NotAnArchiveError, UnsupportedError, DamagedError):
            return
        assert archive.content_bytes == len(self.content)
        for at in range(0, len(self.content), self.frame_bytes):
            try:
                got = archive.read(at, self.frame_bytes)
            except DamagedError:
                continue
            assert got == self.content[at : at + self.frame_bytes]
        if whole:
            with contextlib.suppress(DamagedError):
                assert self.unpacked(archive)[0] == self.content

    def salvages_right(self, data: bytes) -> int | None:
        """Assert that salvage gives right bytes, or reports what is lost.

        Returns how many bytes were lost, None for all.
        """
        try:
            salvaged = salvage(MemoryStore(data))
        except (NotAnArchiveError, UnsupportedError, DamagedError):
            return None
        got, lost = self.unpacked(salvaged, salvage=True)
        expected = bytearray(self.content[: len(got)])
        for finding in lost:
            assert finding.content_offset is not None
            assert finding.content_bytes is not None
            end = finding.content_offset + finding.content_bytes
            assert end <= len(got)
            expected[finding.content_offset : end] = bytes(finding.content_bytes)
        assert got == expected, f"{lost}"
        if len(got) < len(self.content):
            assert any(finding.code == "footer" for finding in salvaged.findings)
        return len(self.content) - len(got) + sum(each.content_bytes or 0 for each in lost)


@pytest.fixture(scope="module", params=["two units", "one short unit", "frames over units"])
def judged(
    request: pytest.FixtureRequest,
    packed: Callable[..., bytes],
    unpacked: Callable[..., Any],
    letters: Callable[..., bytes],
    memory_source: Any,
) -> tuple[Judge, bytes]:
    """A judge, and the good archive of its content."""
    if request.param == "two units":
        content = letters("a00b", tail=9)
        source = memory_source(content, holes=[(8192, 12_288)], unreadable=[(4096, 512)])
        geometry = Geometry(12_288, 4096, 4096)
    elif request.param == "one short unit":
        content = letters("a", tail=9)
        source, geometry = content, Geometry(16_384, 4096, 4096)
    else:
        content = letters("ab", frame_bytes=512, tail=9)
        source, geometry = content, Geometry(512, 4096, 512)
    data = packed(source, geometry, facts={"host": "h"})
    return Judge(content, geometry.frame_bytes, unpacked), data


def records(data: bytes) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, what) of each span of an archive; all of it, in order."""
    at = 0
    fixed = {b"HD": HEADER_BYTES, b"UN": UNIT_HEADER_BYTES, b"PG": PAGE_BYTES, b"FT": FOOTER_BYTES}
    while at < len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little") + 8
        tag = data[at + 14 : at + 16]
        yield at, at + fixed[tag], tag.decode()
        if length > fixed[tag]:
            yield at + fixed[tag], at + length, f"rest of {tag.decode()}"
        at += length
        if tag == b"UN":
            stored = int.from_bytes(data[at - length + 44 : at - length + 48], "little")
            yield at, at + stored, "frames"
            at += stored


def test_the_spans_cover_the_archive(judged: tuple[Judge, bytes]) -> None:
    spans = list(records(judged[1]))
    assert [start for start, _, _ in spans[1:]] == [end for _, end, _ in spans[:-1]]
    assert spans[0][0] == 0
    assert spans[-1][1] == len(judged[1])
    assert {what for _, _, what in spans} == {
        "HD", "rest of HD", "UN", "rest of UN", "frames", "PG", "rest of PG", "FT",
    }  # fmt: skip


def test_a_good_archive_is_judged_good(judged: tuple[Judge, bytes]) -> None:
    judge, data = judged
    assert not judge.is_found(data)
    judge.reads_right(data)
    assert judge.salvages_right(data) == 0


def noted(error: BaseException, note: str) -> None:
    """Say in a failure which of thousands of cases it was."""
    error.add_note(note)


def test_each_flipped_byte_is_found_and_gives_no_wrong_bytes(
    judged: tuple[Judge, bytes], request: pytest.FixtureRequest
) -> None:
    """Each bit of header and unit headers; elsewhere, and in the lesser archives, fewer.

    The pages of the lesser archives are as those of the first.
    """
    judge, data = judged
    thorough = "two units" in request.node.callspec.id
    for start, end, what in records(data):
        if what.endswith("PG") and not thorough:
            continue
        for at in range(start, end):
            masks = [0xFF] if thorough else [1 << at % 8]
            if thorough and what in ("HD", "UN"):
                masks = [1 << n for n in range(8)]
            for mask in masks:
                bad = bytearray(data)
                bad[at] ^= mask
                try:
                    assert judge.is_found(bytes(bad)), "verify says that it is whole"
                    judge.reads_right(bytes(bad), whole=mask == masks[0])
                    if mask != masks[0] and what == "UN":
                        continue  # the record is not intact, whatever is wrong in it
                    lost = judge.salvages_right(bytes(bad))
                    # Both index and unit headers hold the places of units: only content is lost.
                    assert lost is not None
                    assert lost <= (judge.frame_bytes if what == "frames" else 0)
                except BaseException as error:
                    noted(error, f"byte {at} ({what}) is {bad[at]:02x}, not {data[at]:02x}")
                    raise


def test_each_cut_is_found_and_gives_no_wrong_bytes(
    judged: tuple[Judge, bytes], request: pytest.FixtureRequest
) -> None:
    judge, data = judged
    step = 1 if "two units" in request.node.callspec.id else 3
    spans = list(records(data))
    unit_ends = [end for _, end, what in spans if what == "frames"]
    for length in range(0, len(data), step):
        cut = data[:length]
        try:
            with pytest.raises(NotAnArchiveError if length < 16 else TruncatedError):
                Archive(MemoryStore(cut))
            assert judge.is_found(cut)
            lost = judge.salvages_right(cut)
            if length >= unit_ends[-1]:
                assert lost == 0
            elif length >= unit_ends[0]:
                assert lost is not None
                assert lost < len(judge.content)
        except BaseException as error:
            noted(error, f"cut after {length} of {len(data)} bytes")
            raise


@pytest.mark.parametrize("more", [b"\0", b"x" * 500, bytes(2**20 - 328), b"\x5c\x2a\x4d\x18" * 4])
def test_bytes_after_the_footer_are_found(judged: tuple[Judge, bytes], more: bytes) -> None:
    judge, data = judged
    with pytest.raises(DamagedError, match="bytes follow the footer"):
        Archive(MemoryStore(data + more))
    assert judge.is_found(data + more)
    assert judge.salvages_right(data + more) == 0


def test_the_place_where_bytes_follow_the_footer_is_told(packed: Callable[..., bytes]) -> None:
    for size in (1000, 2**20, 3 * 2**20):
        data = packed(random.Random(1).randbytes(size), Geometry(2**20, 2**20, 4096))
        with pytest.raises(DamagedError, match="5 bytes follow the footer") as caught:
            Archive(MemoryStore(data + b"after"))
        assert caught.value.archive_offset == len(data)


def test_a_footer_too_far_from_the_end_is_not_looked_for(judged: tuple[Judge, bytes]) -> None:
    judge, data = judged
    with pytest.raises(TruncatedError):
        Archive(MemoryStore(data + bytes(2**20)))
    assert judge.salvages_right(data + bytes(2**20)) == 0


def test_a_copy_of_the_tag_after_the_footer_is_no_footer(judged: tuple[Judge, bytes]) -> None:
    _, data = judged
    for tail in (b"x" * 8 + b"\x8eOnggiFT", b"\x8eOnggiFT" * 3, data[-328:-1]):
        with pytest.raises(DamagedError, match="bytes follow the footer"):
            Archive(MemoryStore(data + tail))
    with pytest.raises(TruncatedError):
        Archive(MemoryStore(data[:-1] + b"\x8eOnggiFT" * 3))


def test_a_footer_of_another_archive_is_no_footer(judged: tuple[Judge, bytes], forge: Any) -> None:
    _, data = judged
    other = forge(b"other")
    other.footer["uuid"] = bytes(16)
    with pytest.raises(TruncatedError):
        Archive(MemoryStore(data[:-328] + other.build()[-328:] + b"x"))


def test_a_block_lost_from_the_middle_or_doubled_is_found(judged: tuple[Judge, bytes]) -> None:
    """As a disk would do it: at any place, in blocks of 64 bytes."""
    judge, data = judged
    for at in range(0, len(data), 16):
        for bad in (
            data[:at] + data[at + 64 :],
            data[:at] + data[max(at - 64, 0) : at] + data[at:],
            data[:at] + bytes(64) + data[at + 64 :],
        ):
            if bad == data:
                continue
            try:
                assert judge.is_found(bad)
                judge.reads_right(bad)
                judge.salvages_right(bad)
            except BaseException as error:
                noted(error, f"at byte {at} of {len(data)}: {len(bad) - len(data)} bytes")
                raise
