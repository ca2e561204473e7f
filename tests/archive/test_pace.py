"""Holding a pack to a rate, and telling which stage takes the time; on clocks of the tests' own."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from onggi.archive import accelerate, files, unit
from onggi.archive.bad_blocks import read_around
from onggi.archive.dedup import LEAST_BYTES
from onggi.archive.errors import SourceError
from onggi.archive.files import Wanted, read_files, read_files_held, scan
from onggi.archive.header import Header
from onggi.archive.pace import PIECE_BYTES, Pace
from onggi.archive.plan import Geometry
from onggi.archive.progress import Busy, Progress
from onggi.archive.selection import TreeOptions
from onggi.archive.store import FileSpool
from onggi.archive.writer import pack

from .tree_helpers import noise, pack_path

MOMENT_S = 0.25  # what can be made up for


class Time:
    """Time that passes only while somebody waits, or says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.waits: list[float] = []
        self._lock = threading.Lock()

    def clock(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        assert seconds > 0
        with self._lock:
            self.waits.append(seconds)
            self.now_s += seconds

    def pace(self, bytes_per_s: int) -> Pace:
        return Pace(self.clock, bytes_per_s, self.wait)

    @property
    def passed_s(self) -> float:
        return self.now_s - 1000.0


class OwnTime(threading.local):
    """Time that each thread has for itself, so that what others do takes none."""

    now_s = 0.0

    def clock(self) -> float:
        return self.now_s

    def pass_by(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def header(header_of: Callable[[Geometry], Header], small: Geometry) -> Header:
    return header_of(small)


def run(source: Any, target: Any, header: Header, pace: Pace, **options: Any) -> Any:
    options = {"threads": 1} | options
    return pack(source, target, header, new_spool=FileSpool, pace=pace, **options)


# --- the rate ------------------------------------------------------------------------------------


def test_never_has_more_been_read_than_the_rate_allows_since_the_start() -> None:
    dice = random.Random(5)
    time = Time()
    watch = time.pace(1000).new_watch()
    total = 0
    for _ in range(500):
        length = dice.choice([0, 1, 10, 300, 5000])
        watch.hold(length)
        total += length
        assert total <= 1000 * time.passed_s + 1e-6
        time.now_s += dice.choice([0, 0, 0.001, 0.3, 4.0])


@pytest.mark.parametrize("length", [1, 999, 1000, 1001, 20_000])
def test_a_reader_that_could_be_quicker_gets_the_rate_and_no_less(length: int) -> None:
    time = Time()
    watch = time.pace(1000).new_watch()
    for _ in range(50):
        watch.hold(length)
        time.now_s += min(0.001, length / 2000)  # the reading itself
    assert time.passed_s == pytest.approx(50 * length / 1000, abs=0.002)


def test_what_was_not_read_is_made_up_for_but_only_that_of_a_moment() -> None:
    time = Time()
    watch = time.pace(1000).new_watch()
    time.now_s += 3600
    watch.hold(int(1000 * MOMENT_S))
    assert time.waits == []
    watch.hold(1000)
    assert time.waits == [pytest.approx(1.0)]


def test_threads_share_one_rate_and_are_served_in_turn() -> None:
    asked: list[float] = []
    pace = Pace(lambda: 0.0, 100, asked.append)
    threads = [
        threading.Thread(target=lambda: [pace.new_watch().hold(50) for _ in range(5)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(asked) == pytest.approx([0.5 * n for n in range(1, 21)])


def test_without_a_limit_nobody_waits() -> None:
    time = Time()
    pace = time.pace(0)
    assert not pace.is_limited
    pace.new_watch().hold(2**60)
    pace.stop()
    pace.new_watch().hold(2**60)
    assert time.waits == []


def test_a_wait_ends_when_the_run_is_stopped() -> None:
    began, ended = threading.Event(), threading.Event()
    errors: list[SourceError] = []

    def clock() -> float:
        began.set()
        return 0.0

    pace = Pace(clock, 1)
    began.clear()

    def reader() -> None:
        try:
            pace.new_watch().hold(10**6)
        except SourceError as error:
            errors.append(error)
        ended.set()

    thread = threading.Thread(target=reader)
    thread.start()
    assert began.wait(10)
    assert not ended.wait(0.05)
    pace.stop()
    assert ended.wait(10)
    thread.join()
    assert len(errors) == 1
    with pytest.raises(SourceError):
        pace.new_watch().hold(0)


@pytest.mark.parametrize(("clock", "rate"), [(None, 1), (lambda: 0.0, -1)])
def test_a_rate_that_can_not_be_is_refused(clock: Any, rate: int) -> None:
    with pytest.raises(ValueError, match="rate"):
        Pace(clock, rate)


# --- packing at a rate ---------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("stream", [False, True])
def test_a_limited_pack_takes_as_long_as_its_bytes_and_makes_the_same_archive(
    stream: bool, threads: int, memory_source: Any, memory_target: Any, header: Header,
    content: Any,
) -> None:  # fmt: skip
    whole = content(100_000)
    time = Time()
    limited, free = memory_target(), memory_target()
    pace = time.pace(10_000)
    run(memory_source(whole, stream=stream), limited, header, pace, threads=threads)
    if threads == 1:
        assert time.passed_s == pytest.approx(10.0)
    else:  # each waits for itself, and all at once
        assert time.passed_s >= 9.999
    run(memory_source(whole, stream=stream), free, header, Pace())
    assert limited.data == free.data


def test_a_volume_is_read_frame_by_frame_as_the_rate_allows(
    memory_source: Any, memory_target: Any, header: Header
) -> None:
    time = Time()
    reads: list[tuple[float, int]] = []

    class Source(memory_source):  # type: ignore[misc]
        def read_into(self, view: memoryview, content_offset: int) -> Any:
            reads.append((time.passed_s, len(view)))
            return super().read_into(view, content_offset)

        def will_need(self, content_offset: int, length: int) -> None:
            raise AssertionError("the kernel would read a unit at once")

    run(Source(b"x" * 40_000), memory_target(), header, time.pace(4096))
    assert [length for _, length in reads] == [4096] * 9 + [40_000 - 9 * 4096]
    assert [at for at, _ in reads[:9]] == pytest.approx([1.0 * n for n in range(1, 10)])


def test_a_stream_is_read_in_pieces_of_the_rate(
    memory_source: Any, memory_target: Any, header_of: Callable[[Geometry], Header]
) -> None:
    time = Time()
    reads: list[tuple[float, int]] = []

    class Source(memory_source):  # type: ignore[misc]
        def read_into(self, view: memoryview, content_offset: int) -> Any:
            reads.append((time.passed_s, len(view)))
            return super().read_into(view, content_offset)

    geometry = Geometry(4 * PIECE_BYTES, PIECE_BYTES, 4096)
    size = 6 * PIECE_BYTES + 10
    run(
        Source(b"x" * size, stream=True), memory_target(), header_of(geometry),
        time.pace(PIECE_BYTES),
    )  # fmt: skip
    assert {length for _, length in reads} == {PIECE_BYTES}
    assert [at for at, _ in reads[:7]] == pytest.approx([1.0 * n for n in range(7)])
    assert time.passed_s == pytest.approx(size / PIECE_BYTES)


def test_holes_do_not_count(memory_source: Any, memory_target: Any, header: Header) -> None:
    time = Time()
    content = b"x" * 4096 + bytes(16_384 * 20) + b"y" * 4096
    source = memory_source(content, holes=[(4096, 4096 + 16_384 * 20)])
    run(source, memory_target(), header, time.pace(4096))
    assert time.passed_s == pytest.approx(2.0)


def test_an_error_elsewhere_ends_a_pack_whose_readers_wait(
    memory_source: Any, memory_target: Any, target_failed: Any, header: Header
) -> None:
    """The first unit can't be written, while the readers would have to wait for days."""
    pace = Pace(monotonic, 1_000_000)
    greedy = threading.Thread(target=lambda: held_for_days(pace))

    class Source(memory_source):  # type: ignore[misc]
        def read_into(self, view: memoryview, content_offset: int) -> Any:
            if self.reads == 3:
                greedy.start()
            return super().read_into(view, content_offset)

    source = Source(b"x" * 16_384 * 500)
    target = memory_target(fail_at=1)
    with pytest.raises(target_failed):
        run(source, target, header, pace)
    greedy.join(10)
    assert not greedy.is_alive()
    assert source.reads < 400
    assert target.calls == ["discard"]


def held_for_days(pace: Pace) -> None:
    """Take so much that all others wait behind it."""
    with pytest.raises(SourceError):
        pace.new_watch().hold(10**12)


@pytest.mark.parametrize("compiled", [True, False])
def test_of_a_tree_the_bytes_of_files_count(
    compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(accelerate, "_module", None)
    for number in range(40):
        (tmp_path / f"{number:02}").write_bytes(noise(1000, number))
    (tmp_path / "large").write_bytes(noise(300_000, 99))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(noise(60_000, 100))
    time = Time()
    packed = pack_path(tmp_path, Geometry(65_536, 4096, 4096), pace=time.pace(100_000))
    assert time.passed_s == pytest.approx(4.0)
    assert packed.data == pack_path(tmp_path, Geometry(65_536, 4096, 4096)).data


def test_of_a_tree_the_bytes_that_are_read_to_find_duplicates_count_too(tmp_path: Path) -> None:
    size = 2 * LEAST_BYTES
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(noise(size, 1))
    time = Time()
    pack_path(tmp_path, pace=time.pace(1000))
    # Of both the start, and all; and once what is packed.
    assert time.passed_s == pytest.approx((2 * 4096 + 3 * size) / 1000)
    time = Time()
    pack_path(tmp_path, pace=time.pace(1000), options=TreeOptions(dedup=False))
    assert time.passed_s == pytest.approx(2 * size / 1000)


@pytest.mark.parametrize("compiled", [True, False])
def test_files_that_are_held_are_read_as_others_are_and_in_pieces(
    compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(accelerate, "_module", None)
    sizes = [10, 400_000, 700_000, 0, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 5, 6, 7]
    names = [b"%d" % number for number in range(len(sizes))]
    for name, size in zip(names, sizes, strict=True):
        (tmp_path / os.fsdecode(name)).write_bytes(noise(size, size))
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        wanted: list[Wanted] = []
        at = 0
        for found in scan(folder, names, 0):
            wanted.append(Wanted(found, 0, found.size, at))
            at += found.size
        (tmp_path / "2").unlink()
        (tmp_path / "6").write_bytes(noise(2 * PIECE_BYTES, 3))
        (tmp_path / "8").write_bytes(b"longer than it was")
        views = [memoryview(bytearray(b"?" * at)) for _ in range(2)]
        pieces: list[int] = []
        problems = read_files(folder, wanted, views[0])
        assert read_files_held(folder, wanted, views[1], pieces.append) == problems
    finally:
        os.close(folder)
    assert [problem.number for problem in problems] == [2, 6, 8]
    assert [problem.code for problem in problems] == ["vanished", "shrank", "grew"]
    assert views[0] == views[1]
    assert max(pieces) == PIECE_BYTES
    assert pieces[:3] == [400_010, 700_000, PIECE_BYTES]
    # A file that shrank: it is asked for more, until it says that there is no more.
    assert sum(pieces) == sum(sizes)


def test_what_can_not_be_read_is_the_same_if_reading_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where runs end depends on what was asked for, which is all, not the pieces."""
    path = tmp_path / "file"
    path.write_bytes(noise(3 * PIECE_BYTES, 1))
    bad = range(PIECE_BYTES - 9000, PIECE_BYTES + 70_000)
    real_v, real = os.preadv, os.pread

    def good_bytes(offset: int, size: int) -> int:
        if offset in bad:
            raise OSError(5, "bad block")
        return size if offset >= bad.stop else min(size, bad.start - offset)

    monkeypatch.setattr(
        os,
        "preadv",
        lambda fd, views, at: real_v(fd, [views[0][: good_bytes(at, len(views[0]))]], at),
    )
    monkeypatch.setattr(os, "pread", lambda fd, size, at: real(fd, good_bytes(at, size), at))
    fd = os.open(path, os.O_RDONLY)
    try:
        views = [memoryview(bytearray(3 * PIECE_BYTES)) for _ in range(2)]
        one = read_around(fd, views[0], 0)
        held: list[int] = []
        assert read_around(fd, views[1], 0, held.append) == one
    finally:
        os.close(fd)
    assert one[1]
    assert views[0] == views[1]
    assert max(held) == PIECE_BYTES


# --- which stage takes the time ------------------------------------------------------------------


def test_a_watch_stands_still_while_its_thread_is_held() -> None:
    time = Time()
    pace = time.pace(10)
    watch = pace.new_watch()
    watch.begin()
    watch.hold(1000)
    time.now_s += 2
    watch.did_read()
    time.now_s += 3
    watch.did_compress()
    watch.hold(1000)
    watch.begin()
    time.now_s += 4
    watch.did_write()
    assert time.passed_s == pytest.approx(200.0, abs=10)
    busy = pace.busy()
    assert busy is not None
    assert (busy.read, busy.compress, busy.write) == pytest.approx((2, 3, 4))


def test_how_long_a_watch_was_held_is_told() -> None:
    time = Time()
    pace = time.pace(100)
    watch = pace.new_watch()
    watch.begin()
    time.now_s += 1
    watch.hold(250)
    time.now_s += 2
    watch.did_read()
    # What flowed in during the last quarter of a second before was there at once.
    assert pace.busy() == Busy(read=3, compress=0, write=0, held=2.25)


def test_what_all_watches_say_is_added_up() -> None:
    time = Time()
    pace = time.pace(0)
    for seconds in (1, 10, 100):
        watch = pace.new_watch()
        watch.begin()
        time.now_s += seconds
        watch.did_compress()
    assert pace.busy() == Busy(0, 111, 0)
    assert Pace().busy() is None


class SlowTarget:
    """Keeps nothing; takes 100 s for an append."""

    def __init__(self, time: OwnTime) -> None:
        self._time = time

    def append(self, parts: Sequence[bytes], /) -> None:
        self._time.pass_by(100)

    def sync(self) -> None:
        pass

    def commit(self) -> None:
        pass

    def discard(self) -> None:
        pass


@pytest.fixture
def slow_compressor(monkeypatch: pytest.MonkeyPatch) -> OwnTime:
    """Time, of which each frame takes 3 s to be looked at for zeros."""
    time = OwnTime()
    real = unit.is_zero

    def is_zero(piece: memoryview) -> bool:
        time.pass_by(3)
        return real(piece)

    monkeypatch.setattr(unit, "is_zero", is_zero)
    return time


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("stream", [False, True])
def test_progress_tells_how_long_the_stages_of_a_volume_took(
    stream: bool, threads: int, memory_source: Any, header: Header, slow_compressor: OwnTime
) -> None:
    time = slow_compressor

    class Source(memory_source):  # type: ignore[misc]
        def read_into(self, view: memoryview, content_offset: int) -> Any:
            time.pass_by(20)
            return super().read_into(view, content_offset)

        def done_with(self, content_offset: int, length: int) -> None:
            time.pass_by(0.5)

    told: list[Progress] = []
    source = Source(b"x" * 16_384 * 5, stream=stream)
    run(
        source, SlowTarget(time), header, Pace(time.clock), threads=threads, report=told.append
    )  # fmt: skip
    all_busy = [each.busy_s for each in told]
    assert None not in all_busy
    last = all_busy[-1]
    assert isinstance(last, Busy)
    assert last.compress == 3 * 20
    assert last.write == 100 * 5
    if stream:  # the last read tells that there is no more, and may come after the last unit
        assert last.read - 0.5 * 5 in (20 * 5, 20 * 6)
    else:
        assert last.read == 20 * 20 + 0.5 * 5
    writes = [busy.write for busy in all_busy if busy is not None]
    assert writes == [100, 200, 300, 400, 500]


@pytest.mark.parametrize("threads", [1, 3])
def test_progress_tells_how_long_the_stages_of_a_tree_took(
    threads: int, tmp_path: Path, slow_compressor: OwnTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = slow_compressor
    for number in range(20):
        (tmp_path / f"{number:02}").write_bytes(noise(3000, number))
    real_read, real_scan = files.read_files, files.scan

    def read_slowly(*arguments: Any) -> Any:
        time.pass_by(20)
        return real_read(*arguments)

    def scan_slowly(*arguments: Any) -> Any:
        time.pass_by(0.5)
        return real_scan(*arguments)

    monkeypatch.setattr("onggi.archive.tree_writer.read_files", read_slowly)
    monkeypatch.setattr("onggi.archive.tree_plan.scan", scan_slowly)
    told: list[Progress] = []
    packed = pack_path(
        tmp_path, Geometry(16_384, 4096, 4096), threads=threads, report=told.append,
        pace=Pace(time.clock),
    )  # fmt: skip
    last = told[-1].busy_s
    assert isinstance(last, Busy)
    footer = packed.result.footer
    assert last.read == 20 * footer.unit_count + 0.5
    assert last.compress == 3 * footer.frame_count
    assert last.write == 0


def test_without_a_clock_progress_tells_nothing_of_stages(
    memory_source: Any, memory_target: Any, header: Header, tmp_path: Path
) -> None:
    told: list[Progress] = []
    run(memory_source(b"x" * 50_000), memory_target(), header, Pace(), report=told.append)
    pack_path(tmp_path, report=told.append)
    assert {each.busy_s for each in told} == {None}
