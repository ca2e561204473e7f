"""The frames that were decoded last: bounded in bytes, and none is decoded twice at a time."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.archive.errors import DamagedError
from onggi.archive.frames import FrameCache, FrameStore
from onggi.archive.index import UnitRow
from onggi.archive.plan import Geometry
from onggi.archive.reader import Archive, PlacedFrames, UnitReader, place_frames
from onggi.archive.store import MemoryStore

FRAME = 4096
PER_UNIT = 3
UNITS = 4
TAIL = 1000
SIZE = FRAME * PER_UNIT * UNITS + TAIL
CONTENT = random.Random(3).randbytes(SIZE)
KEYS = [(at // PER_UNIT, at % PER_UNIT) for at in range(PER_UNIT * UNITS + 1)]


class Decodes:
    """Counts what is decoded; `before` is called first, with the key, and may fail or wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: Counter[tuple[int, int]] = Counter()
        self.before: Callable[[tuple[int, int]], object] = lambda key: None
        self._lock = threading.Lock()
        real = UnitReader.frame

        def frame(reader: UnitReader, placed: PlacedFrames, number: int) -> bytes:
            key = (placed.unit.number, number)
            with self._lock:
                self.counts[key] += 1
            self.before(key)
            return real(reader, placed, number)

        monkeypatch.setattr(UnitReader, "frame", frame)


@pytest.fixture(scope="module")
def archive(packed: Callable[..., bytes]) -> Archive:
    data = packed(CONTENT, Geometry(FRAME * PER_UNIT, FRAME, 4096))
    return Archive(MemoryStore(data))


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> Decodes:
    return Decodes(monkeypatch)


def touch(cache: FrameCache, *numbers: int) -> None:
    """Read one byte of each of some frames, which are counted through all units."""
    for number in numbers:
        assert cache.read(number * FRAME, 1) == CONTENT[number * FRAME : number * FRAME + 1]


@given(data=st.data(), cache_frames=st.integers(0, 5))
def test_content_is_read_from_anywhere(
    data: st.DataObject, cache_frames: int, archive: Archive
) -> None:
    cache = FrameCache(archive, cache_frames * FRAME)
    assert cache.content_bytes == SIZE
    for _ in range(5):
        offset = data.draw(st.integers(0, SIZE + 10))
        size = data.draw(st.one_of(st.integers(0, 9000), st.sampled_from([0, 1, FRAME, SIZE * 2])))
        assert cache.read(offset, size) == CONTENT[offset : offset + size]
        pieces = cache.pieces(offset, size)
        assert b"".join(pieces) == CONTENT[offset : offset + size]
        assert all(pieces)


def test_a_frame_is_found_by_any_offset_in_it(archive: Archive) -> None:
    cache = FrameCache(archive)
    for number in range(PER_UNIT * UNITS + 1):
        start, end = number * FRAME, min((number + 1) * FRAME, SIZE)
        for offset in (start, start + 1, end - 1):
            assert cache.frame_at(offset) == (CONTENT[start:end], start)
            assert cache.frame_end(offset) == end


def test_a_frame_that_is_held_is_not_decoded_again(archive: Archive, decodes: Decodes) -> None:
    cache = FrameCache(archive)
    for _ in range(3):
        cache.read(0, SIZE)
    assert decodes.counts == Counter(KEYS)


def test_the_frames_that_were_used_last_are_held(archive: Archive, decodes: Decodes) -> None:
    cache = FrameCache(archive, 3 * FRAME)
    touch(cache, 0, 1, 2, 0)
    touch(cache, 3)  # 1 goes: 0 was used after it
    assert decodes.counts == Counter(KEYS[:4])
    touch(cache, 0, 2, 3)
    assert decodes.counts == Counter(KEYS[:4])
    touch(cache, 1)
    assert decodes.counts == Counter(KEYS[:4]) + Counter([KEYS[1]])


@pytest.mark.parametrize(
    ("cache_bytes", "held"),
    [(0, 1), (1, 1), (FRAME - 1, 1), (FRAME, 1), (2 * FRAME - 1, 1), (2 * FRAME, 2),
     (5 * FRAME + 7, 5), (100 * FRAME, 12)],
)  # fmt: skip
def test_so_many_bytes_are_held_but_one_frame_at_least(
    cache_bytes: int, held: int, archive: Archive, decodes: Decodes
) -> None:
    cache = FrameCache(archive, cache_bytes)
    everything = [*range(12)]
    touch(cache, *everything)
    decodes.counts.clear()
    touch(cache, *reversed(everything[-held:]))
    assert not decodes.counts
    if held < 12:
        touch(cache, everything[-held - 1])
        assert sum(decodes.counts.values()) == 1


def test_short_frames_count_by_their_length(archive: Archive, decodes: Decodes) -> None:
    cache = FrameCache(archive, 2 * FRAME + TAIL)
    touch(cache, 0, 1, 12)
    touch(cache, 0, 1, 12)
    assert sum(decodes.counts.values()) == 3
    touch(cache, 2)
    touch(cache, 1, 12)
    assert sum(decodes.counts.values()) == 4


# --- threads -------------------------------------------------------------------------------------


def run(*works: Callable[[], object]) -> list[Any]:
    """Run things in threads of their own; return what each gave or raised."""
    results: list[Any] = [None] * len(works)

    def call(number: int) -> None:
        try:
            results[number] = works[number]()
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=call, args=[number]) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    return results


def test_two_threads_that_want_one_frame_decode_it_once(archive: Archive, decodes: Decodes) -> None:
    cache = FrameCache(archive)
    inside, go_on = threading.Event(), threading.Event()

    def before(key: tuple[int, int]) -> None:
        inside.set()
        assert go_on.wait(20)

    decodes.before = before

    def second() -> bytes:
        assert inside.wait(20)
        threading.Timer(0.05, go_on.set).start()
        return cache.read(10, 100)

    results = run(lambda: cache.read(0, 50), second, second)
    assert results == [CONTENT[:50], CONTENT[10:110], CONTENT[10:110]]
    assert decodes.counts == Counter([(0, 0)])


def test_two_threads_that_want_two_frames_do_not_wait_for_each_other(
    archive: Archive, decodes: Decodes
) -> None:
    cache = FrameCache(archive, 0)
    both = threading.Barrier(2, timeout=20)
    decodes.before = lambda key: both.wait()
    results = run(lambda: cache.read(0, 5), lambda: cache.read(FRAME, 5))
    assert results == [CONTENT[:5], CONTENT[FRAME : FRAME + 5]]


@pytest.mark.parametrize("error", [DamagedError("frame", "broken"), OSError("odd"), MemoryError()])
def test_an_error_is_given_to_all_who_wait_and_is_not_held(
    error: BaseException, archive: Archive, decodes: Decodes
) -> None:
    cache = FrameCache(archive)
    inside, go_on = threading.Event(), threading.Event()

    def fails(key: tuple[int, int]) -> None:
        inside.set()
        assert go_on.wait(20)
        raise error

    decodes.before = fails

    def second() -> bytes:
        assert inside.wait(20)
        threading.Timer(0.05, go_on.set).start()
        return cache.read(10, 100)

    assert run(lambda: cache.read(0, 50), second) == [error, error]
    assert decodes.counts == Counter([(0, 0)])
    with pytest.raises(type(error)):
        cache.read(0, 1)
    assert decodes.counts == Counter({(0, 0): 2})
    decodes.before = lambda key: None
    assert cache.read(0, FRAME) == CONTENT[:FRAME]
    assert cache.read(0, FRAME) == CONTENT[:FRAME]
    assert decodes.counts == Counter({(0, 0): 3})


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()])
def test_an_interruption_of_one_thread_is_no_matter_of_another(
    error: BaseException, archive: Archive, decodes: Decodes
) -> None:
    """Who waits for the frame decodes it then."""
    cache = FrameCache(archive)
    inside, go_on = threading.Event(), threading.Event()

    def interrupted(key: tuple[int, int]) -> None:
        decodes.before = lambda key: None
        inside.set()
        assert go_on.wait(20)
        raise error

    decodes.before = interrupted

    def second() -> bytes:
        assert inside.wait(20)
        threading.Timer(0.05, go_on.set).start()
        return cache.read(10, 100)

    assert run(lambda: cache.read(0, 50), second) == [error, CONTENT[10:110]]
    assert decodes.counts == Counter({(0, 0): 2})
    assert cache.read(0, 50) == CONTENT[:50]
    assert decodes.counts == Counter({(0, 0): 2})


def test_errors_do_not_use_up_the_cache(archive: Archive, decodes: Decodes) -> None:
    cache = FrameCache(archive, 2 * FRAME)

    def fails(key: tuple[int, int]) -> None:
        raise DamagedError("frame", "broken")

    touch(cache, 0, 1)
    decodes.before = fails
    for number in range(2, 9):
        with pytest.raises(DamagedError):
            touch(cache, number)
    touch(cache, 0, 1)


def test_a_frame_that_is_being_decoded_is_not_let_go(archive: Archive, decodes: Decodes) -> None:
    """Others come and go meanwhile; who waits for it gets it."""
    cache = FrameCache(archive, 0)
    inside, go_on = threading.Event(), threading.Event()

    def before(key: tuple[int, int]) -> None:
        if key == (0, 0):
            inside.set()
            assert go_on.wait(20)

    decodes.before = before

    def others() -> None:
        assert inside.wait(20)
        touch(cache, 1, 2, 3, 4)
        threading.Timer(0.05, go_on.set).start()
        touch(cache, 0)

    assert run(lambda: cache.read(0, 5), others) == [CONTENT[:5], None]
    assert decodes.counts[0, 0] == 1


@pytest.mark.parametrize("cache_frames", [0, 2, 100])
def test_many_threads_read_what_stands_there(cache_frames: int, archive: Archive) -> None:
    cache = FrameCache(archive, cache_frames * FRAME)

    def work(seed: int) -> int:
        chance = random.Random(seed)
        wrong = 0
        for _ in range(150):
            offset, size = chance.randrange(SIZE), chance.randrange(9000)
            wrong += cache.read(offset, size) != CONTENT[offset : offset + size]
        return wrong

    assert run(*(lambda seed=seed: work(seed) for seed in range(4))) == [0] * 4


# --- ahead of those who read in order ------------------------------------------------------------

AHEAD = 3


class Ahead:
    """A cache that decodes ahead, and what it has decoded once all its threads are idle."""

    def __init__(self, archive: Archive, decodes: Decodes) -> None:
        self.store = FrameStore(SIZE * 2, ahead=AHEAD, threads=2)
        self.cache = FrameCache(archive, self.store)
        self._decodes = decodes

    def read(self, number: int, at: int, size: int = 1, *, once: bool = False) -> None:
        """Read from a place in a frame on."""
        offset = number * FRAME + at
        found = b"".join(self.cache.pieces(offset, size, once=once))
        assert found == CONTENT[offset : offset + size]

    def decoded(self) -> set[int]:
        """Return the numbers of the frames that were decoded, each of them once."""
        while True:
            with self.store._lock:
                slots = list(self.store._held.values())
            if all(slot.content is not None for slot in slots):
                break
        assert set(self._decodes.counts.values()) <= {1}
        return {unit * PER_UNIT + frame for unit, frame in self._decodes.counts}


@pytest.fixture
def ahead(archive: Archive, decodes: Decodes) -> Iterator[Ahead]:
    made = Ahead(archive, decodes)
    yield made
    made.store.close()


def test_who_reads_over_the_end_of_a_frame_finds_the_next_ones_decoded(ahead: Ahead) -> None:
    ahead.read(0, 0, FRAME)
    assert ahead.decoded() == {0}
    ahead.read(1, 0)
    assert ahead.decoded() == {0, 1, 2, 3, 4}
    for number in range(1, UNITS * PER_UNIT):
        ahead.read(number, 0, FRAME)
        assert ahead.decoded() == set(range(min(number + AHEAD + 1, len(KEYS))))


@pytest.mark.parametrize("once", [True, False])
def test_frames_far_behind_who_reads_in_order_once_are_not_kept(
    archive: Archive, decodes: Decodes, monkeypatch: pytest.MonkeyPatch, once: bool
) -> None:
    monkeypatch.setattr("onggi.archive.frames._LATE_BYTES", 2 * FRAME)
    made = Ahead(archive, decodes)
    made.read(0, 10)  # by chance, some time before
    for number in range(5, 12):
        made.read(number, 0, FRAME, once=once)
    assert made.decoded() == {0, *range(5, len(KEYS))}
    kept = {unit * PER_UNIT + frame for _, unit, frame in made.store._held}
    assert kept == {0, *range(8 if once else 5, len(KEYS))}
    assert made.store._held_bytes == sum(
        len(slot.content or b"") for slot in made.store._held.values()
    )
    made.store.close()


def test_the_start_of_a_frame_may_be_read_before_the_end_of_the_one_before(ahead: Ahead) -> None:
    ahead.read(5, 0)
    ahead.read(4, FRAME // 2)
    assert ahead.decoded() == {4, 5}
    ahead.read(4, FRAME - 1)
    assert ahead.decoded() == {4, 5, 6, 7, 8}


def test_one_read_may_span_the_edge(ahead: Ahead) -> None:
    ahead.read(2, FRAME - 10, 20)
    assert ahead.decoded() == {2, 3, 4, 5, 6}


@pytest.mark.parametrize(
    "places",
    [
        [(3, FRAME // 2), (4, FRAME // 2)],
        [(3, FRAME // 2), (4, 0)],
        [(3, FRAME - 1), (4, FRAME // 2)],
        [(3, 0), (4, FRAME - 1)],
        [(3, FRAME - 1), (5, 0)],
        [(4, 0), (3, 0)],
    ],
)
def test_neighbours_that_are_read_by_chance_have_nothing_decoded_ahead(
    places: list[tuple[int, int]], ahead: Ahead
) -> None:
    for number, at in places:
        ahead.read(number, at)
    assert ahead.decoded() == {number for number, _ in places}


def test_an_edge_that_was_read_long_ago_tells_nothing(archive: Archive, decodes: Decodes) -> None:
    made = Ahead(archive, decodes)
    made.read(3, FRAME - 1)
    made.cache._edges.update((number, None) for number in range(1000, 1000 + 128))
    made.read(0, 0)  # lets the oldest go
    made.read(4, 0)
    assert made.decoded() == {0, 3, 4}
    made.store.close()


def test_without_threads_who_wants_a_frame_decodes_it(
    archive: Archive, decodes: Decodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    made = Ahead(archive, decodes)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        for number in range(5):
            made.read(number, 0, FRAME)
        assert made.decoded() == {0, 1, 2, 3, 4}
    made.read(5, 0, FRAME)
    assert made.decoded() == set(range(5 + AHEAD + 1))
    made.store.close()
    made.store.close()


def test_the_places_of_frames_are_looked_up_once_for_the_units_that_were_read_last(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[int] = []

    def place(content: Archive, unit: UnitRow) -> PlacedFrames:
        looked_up.append(unit.number)
        return place_frames(content, unit)

    monkeypatch.setattr("onggi.archive.frames.place_frames", place)
    monkeypatch.setattr("onggi.archive.frames._MOST_PLACED", 2 * PER_UNIT)
    cache = FrameCache(archive, 0)  # no content is kept, so that each read decodes
    touch(cache, 0, 1, 2, PER_UNIT, 0, PER_UNIT + 1)
    assert looked_up == [0, 1]
    touch(cache, 0, 2 * PER_UNIT, 1)
    assert looked_up == [0, 1, 2], "unit 1 went, since unit 0 was read after it"
    touch(cache, PER_UNIT)
    assert looked_up == [0, 1, 2, 1]
    assert sorted(cache._units) == [0, 1]
    assert cache._units_frames == 2 * PER_UNIT


def test_the_places_of_one_unit_are_remembered_however_many_they_are(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onggi.archive.frames._MOST_PLACED", 1)
    cache = FrameCache(archive, 0)
    touch(cache, 0, PER_UNIT)
    assert list(cache._units) == [1]
