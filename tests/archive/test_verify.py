"""Verification: levels, all findings, and the comparison with a source."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onggi.archive.errors import Finding, NotAnArchiveError, Severity, SourceError
from onggi.archive.plan import Geometry
from onggi.archive.progress import Progress
from onggi.archive.reader import Archive
from onggi.archive.store import MemoryStore
from onggi.archive.verify import Level, Verified, verify

UNIT = 16_384
FRAME = 4096


def check(
    data: bytes, level: Level = Level.CONTENT, source: Any = None, threads: int = 2
) -> tuple[Verified, list[Finding]]:
    """Verify; return what it came to, and the findings."""
    findings: list[Finding] = []
    result = verify(
        MemoryStore(data), level, threads=threads, against=source, found=findings.append
    )
    assert sum(result.findings.values()) == len(findings)
    return result, findings


@pytest.fixture
def content(letters: Callable[..., bytes]) -> bytes:
    """Three units, the last one short."""
    return letters("abcdefgh0i", tail=100)


@pytest.fixture
def data(packed: Callable[..., bytes], content: bytes) -> bytes:
    """The archive of `content`."""
    return packed(content)


# --- Levels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", list(Level))
@pytest.mark.parametrize("threads", [1, 3])
def test_a_good_archive_is_whole(level: Level, threads: int, data: bytes) -> None:
    result, findings = check(data, level, threads=threads)
    assert findings == []
    assert result.is_whole
    assert (result.units, result.damaged_units) == (3, 0)
    assert result.content_bytes == 10 * FRAME + 100
    assert result.archive is not None


def test_each_level_finds_what_it_looks_at(data: bytes) -> None:
    archive = Archive(MemoryStore(data))
    unit = archive.index.unit(1)
    place = unit.payload_offset + archive.index.frames(unit)[0].stored_bytes
    bad = bytearray(data)
    bad[place + 30] ^= 1
    assert check(bytes(bad), Level.STRUCTURE)[1] == []
    stored = check(bytes(bad), Level.STORED)[1]
    assert [(each.code, each.unit, each.frame) for each in stored] == [("unit", 1, None)]
    content = check(bytes(bad), Level.CONTENT)[1]
    assert [(each.code, each.unit, each.frame) for each in content] == [
        ("frame", 1, 1), ("unit", 1, None),
    ]  # fmt: skip
    frame = content[0]
    assert (frame.content_offset, frame.content_bytes) == (UNIT + FRAME, FRAME)
    assert frame.archive_offset == place
    assert check(bytes(bad))[0].damaged_units == 1


@pytest.mark.parametrize("frames", [15, 16, 17, 40])
def test_headers_of_small_and_of_large_units_are_checked(
    frames: int, packed: Callable[..., bytes]
) -> None:
    """Around 64 KiB of stored bytes, from where on each is read for itself."""
    noise = random.Random(frames).randbytes(3 * frames * FRAME)
    data = packed(noise, Geometry(frames * FRAME, FRAME, FRAME))
    assert check(data, Level.STRUCTURE)[1] == []
    for unit in Archive(MemoryStore(data)).index.units():
        bad = bytearray(data)
        bad[unit.payload_offset - 1] ^= 1
        _, findings = check(bytes(bad), Level.STRUCTURE)
        assert [(each.code, each.unit) for each in findings] == [("unit-header", unit.number)]


def test_every_finding_is_told_not_only_the_first(data: bytes) -> None:
    archive = Archive(MemoryStore(data))
    bad = bytearray(data)
    for unit in archive.index.units():
        bad[unit.unit_offset + 100] ^= 1
        bad[unit.end_offset - 1] ^= 1
    bad[archive.index.unit(2).end_offset + 100] ^= 1  # the first page of the catalogue
    result, findings = check(bytes(bad))
    assert result.damaged == {0, 1, 2}
    codes = [each.code for each in findings]
    assert codes.count("unit-header") == codes.count("unit") == codes.count("frame") == 3
    assert sum("page" in code for code in codes) == 2  # the page, and the member that it holds


def test_without_unit_headers_and_footer_nothing_is_left(data: bytes) -> None:
    bad = bytearray(data)
    for unit in Archive(MemoryStore(data)).index.units():
        bad[unit.unit_offset + 100] ^= 1
    bad[-1] ^= 1
    result, findings = check(bytes(bad))
    assert [each.code for each in findings] == ["footer", "file"]
    assert result.archive is None
    assert not result.is_whole


def test_findings_come_in_the_order_of_the_content(
    packed: Callable[..., bytes], letters: Callable[..., bytes]
) -> None:
    data = packed(letters("abcdefghijklmnop" * 4))
    bad = bytearray(data)
    for unit in Archive(MemoryStore(data)).index.units():
        bad[unit.payload_offset + 30] ^= 1
    _, findings = check(bytes(bad), threads=5)
    assert [each.unit for each in findings if each.code == "unit"] == list(range(16))


def test_what_the_source_failed_to_give_is_a_warning_and_the_archive_is_whole(
    packed: Callable[..., bytes], memory_source: Any
) -> None:
    data = packed(memory_source(bytes(9000), unreadable=[(0, 512), (8192, 100)]))
    result, findings = check(data)
    assert result.is_whole
    assert [(each.code, each.severity) for each in findings] == [
        ("source-unreadable", Severity.WARNING)
    ]
    assert findings[0].content_bytes == 612


def test_progress_goes_up_to_the_end(data: bytes, content: bytes) -> None:
    told: list[Progress] = []
    verify(MemoryStore(data), Level.CONTENT, threads=2, report=told.append)
    assert [each.content_bytes for each in told] == [UNIT, 2 * UNIT, len(content)]
    assert told[-1].total_bytes == len(content)
    assert told[-1].stored_bytes == Archive(MemoryStore(data)).footer.stored_bytes


def test_what_is_no_archive_can_not_be_verified() -> None:
    with pytest.raises(NotAnArchiveError):
        check(b"x" * 1000)


def test_an_archive_without_one_intact_unit_is_one_finding_more(data: bytes) -> None:
    result, findings = check(data[:200])
    assert not result.is_whole
    assert [each.code for each in findings] == ["file", "file"]


def test_a_unit_that_is_cut_off_is_told(data: bytes) -> None:
    unit = Archive(MemoryStore(data)).index.unit(2)
    result, findings = check(data[: unit.payload_offset + 20])
    assert "unit 2: the archive ends inside it" in [each.message for each in findings]
    assert result.damaged == {2}


def test_units_that_are_lost_are_told_one_by_one(data: bytes) -> None:
    spans = [(u.unit_offset, u.end_offset) for u in Archive(MemoryStore(data)).index.units()]
    result, findings = check(data[: spans[1][0]] + data[spans[1][1] :])
    assert result.damaged == {1}
    assert (result.units, result.content_bytes) == (3, 10 * FRAME + 100)
    assert any(each.unit == 1 and "no intact unit header" in each.message for each in findings)


# --- Against a source ----------------------------------------------------------------------------


def differences(findings: list[Finding]) -> list[tuple[int | None, int | None]]:
    """Return (offset, length) of what differs; (None, None) for lengths that do."""
    assert all(each.severity is Severity.DIFFERENCE for each in findings)
    assert all(each.code == "source-differs" for each in findings)
    return [(each.content_offset, each.content_bytes) for each in findings]


@pytest.fixture(params=["volume", "stream"])
def stream(request: pytest.FixtureRequest) -> bool:
    """Whether the source is a stream."""
    return bool(request.param == "stream")


@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_source_does_not_differ(
    stream: bool, threads: int, data: bytes, content: bytes, memory_source: Any
) -> None:
    for level in Level:
        result, findings = check(data, level, memory_source(content, stream=stream), threads)
        assert findings == []
        assert result.is_whole


def test_progress_of_a_comparison_goes_up_to_the_end(
    stream: bool, data: bytes, content: bytes, memory_source: Any
) -> None:
    told: list[Progress] = []
    verify(
        MemoryStore(data), Level.STRUCTURE, threads=2, report=told.append,
        against=memory_source(content, stream=stream),
    )  # fmt: skip
    assert {each.phase for each in told} == {"compare"}
    assert [each.content_bytes for each in told] == [UNIT, 2 * UNIT, len(content)]
    assert {each.total_bytes for each in told} == {len(content)}


def test_an_empty_source_is_the_same_as_an_empty_archive(
    stream: bool, packed: Callable[..., bytes], memory_source: Any
) -> None:
    assert check(packed(b""), source=memory_source(b"", stream=stream))[1] == []
    _, findings = check(packed(b""), source=memory_source(b"x", stream=stream))
    assert differences(findings) == [(None, None)]
    _, findings = check(packed(b"x"), source=memory_source(b"", stream=stream))
    assert differences(findings) == [(None, None)]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ([0], [(0, FRAME)]),
        ([FRAME - 1], [(0, FRAME)]),
        ([FRAME], [(FRAME, FRAME)]),
        ([3 * FRAME, 4 * FRAME], [(3 * FRAME, 2 * FRAME)]),
        ([0, 2 * FRAME], [(0, FRAME), (2 * FRAME, FRAME)]),
        ([2 * FRAME, 3 * FRAME, 9 * FRAME], [(2 * FRAME, 2 * FRAME), (9 * FRAME, FRAME)]),
        ([8 * FRAME + 5], [(8 * FRAME, FRAME)]),
        ([10 * FRAME + 99], [(10 * FRAME, 100)]),
        (list(range(0, 11 * FRAME, FRAME)), [(0, 10 * FRAME + 100)]),
    ],
)
def test_frames_that_differ_are_told_as_runs(
    changed: list[int],
    expected: list[tuple[int, int]],
    stream: bool,
    data: bytes,
    content: bytes,
    memory_source: Any,
) -> None:
    other = bytearray(content)
    for at in changed:
        if at < len(other):
            other[at] ^= 1
    result, findings = check(data, source=memory_source(bytes(other), stream=stream))
    assert differences(findings) == expected
    assert result.is_whole


@pytest.mark.parametrize("length", [0, 1, FRAME, FRAME + 1, UNIT - 1, UNIT, UNIT + 1, 2 * UNIT,
                                    2 * UNIT + FRAME, 10 * FRAME, 10 * FRAME + 99])  # fmt: skip
def test_a_shorter_source_differs_in_its_length_and_in_the_frame_where_it_ends(
    length: int, stream: bool, data: bytes, content: bytes, memory_source: Any
) -> None:
    _, findings = check(data, source=memory_source(content[:length], stream=stream))
    start = length - length % FRAME
    partial = [(start, length - start)] if length % FRAME else []
    assert sorted(differences(findings), key=str) == sorted([*partial, (None, None)], key=str)
    word = "fewer" if stream else f"the source has {length} bytes"
    assert any(word in each.message for each in findings)


@pytest.mark.parametrize("more", [1, FRAME, UNIT, 5 * UNIT])
def test_a_longer_source_differs_in_its_length(
    more: int, stream: bool, data: bytes, content: bytes, memory_source: Any
) -> None:
    _, findings = check(data, source=memory_source(content + bytes(more), stream=stream))
    assert differences(findings) == [(None, None)]
    word = "more than" if stream else f"the source has {len(content) + more} bytes"
    assert word in findings[0].message


def test_holes_of_the_source_are_compared_without_being_read(
    packed: Callable[..., bytes], memory_source: Any
) -> None:
    content = b"a" * UNIT + bytes(2 * UNIT) + b"b" * FRAME
    holes = [(UNIT, 3 * UNIT)]
    data = packed(content)
    source = memory_source(content, holes=holes)
    assert check(data, source=source)[1] == []
    assert source.reads <= 5
    other = b"a" * UNIT + bytes(UNIT) + b"c" * UNIT + b"b" * FRAME
    _, findings = check(packed(other), source=memory_source(content, holes=holes))
    assert differences(findings) == [(2 * UNIT, UNIT)]


def test_what_the_source_can_not_give_now_is_not_the_same(
    data: bytes, content: bytes, memory_source: Any
) -> None:
    source = memory_source(content, unreadable=[(FRAME + 5, 100)])
    assert differences(check(data, source=source)[1]) == [(FRAME, FRAME)]


def test_a_source_that_changes_meanwhile_is_a_warning(
    data: bytes, content: bytes, memory_source: Any
) -> None:
    result, findings = check(data, source=memory_source(content, change="it was written to"))
    assert [(each.code, each.severity) for each in findings] == [
        ("source-changed", Severity.WARNING)
    ]
    assert result.is_whole


def test_a_source_that_fails_ends_the_run(
    stream: bool, data: bytes, content: bytes, memory_source: Any
) -> None:
    source = memory_source(content, stream=stream, fail_at=1, error=SourceError("gone"))
    with pytest.raises(SourceError, match="gone"):
        check(data, source=source)
    assert source.cancelled == 1


def test_with_a_lost_unit_all_others_are_compared(
    stream: bool, data: bytes, content: bytes, memory_source: Any
) -> None:
    """A stream must be read past what can't be compared."""
    spans = [(u.unit_offset, u.end_offset) for u in Archive(MemoryStore(data)).index.units()]
    for number in range(3):
        start, end = spans[number]
        bad = data[:start] + data[end:]
        _, findings = check(bad, source=memory_source(content, stream=stream))
        assert [each for each in findings if each.severity is Severity.DIFFERENCE] == []
        other = bytearray(content)
        elsewhere = (number + 1) % 3 * UNIT
        other[elsewhere] ^= 1
        other[number * UNIT] ^= 1
        _, findings = check(bad, source=memory_source(bytes(other), stream=stream))
        found = [each for each in findings if each.severity is Severity.DIFFERENCE]
        assert differences(found) == [(elsewhere, FRAME)]


@given(seed=st.integers(0, 10_000), size=st.integers(0, 60_000), stream=st.booleans(),
       places=st.lists(st.integers(0, 59_999), max_size=4))  # fmt: skip
@settings(max_examples=60)
def test_any_change_is_told_in_its_frame_and_nowhere_else(
    seed: int,
    size: int,
    stream: bool,
    places: list[int],
    packed: Callable[..., bytes],
    memory_source: Any,
) -> None:
    content = bytes(n * seed % 256 for n in range(251)) * (size // 251 + 1)
    content = content[:size]
    other = bytearray(content)
    frames: set[int] = set()
    for at in set(places):
        if at < size:
            other[at] ^= 0xFF
            frames.add(at // FRAME)
    _, findings = check(packed(content), source=memory_source(bytes(other), stream=stream))
    told: set[int] = set()
    for offset, length in differences(findings):
        assert offset is not None
        assert length is not None
        told |= set(range(offset // FRAME, -(-(offset + length) // FRAME)))
    assert told == frames
