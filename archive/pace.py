"""How fast a source is read, and which stage of packing takes the time.

Owns: the bucket that holds reading to a rate, and the stop watches of the stages. Must not read a
clock by itself, nor know what is read. A `Pace` is safe in many threads; a `Watch` belongs to one
at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from .errors import SourceError
from .progress import Busy

PIECE_BYTES = 1024 * 1024  # what is read at a time, at most, where reading is held to a rate
_KEPT_S = 0.25  # how much of the time in which nothing was read can be made up for

Clock = Callable[[], float]
"""Gives seconds from some moment on, never fewer than before; cheap, and safe in many threads."""

Wait = Callable[[float], object]
"""Returns after so many seconds."""

Hold = Callable[[int], None]
"""Returns when so many bytes more may be read."""


def at_once(_: int) -> None:
    """Hold nobody."""


class Pace:
    """Holds the threads of a run to a rate, and adds up how long its stages take.

    One for each run, made when it begins.

    Args:
        clock: what the time is; None if nobody asks how long stages take.
        bytes_per_s: most bytes of content to be read from the source in a second; 0 for no limit,
            anything else needs a clock.
        wait: waits; None for a wait that `stop` ends. For tests.

    Raises:
        ValueError: the rate is negative, or there is no clock for it.
    """

    def __init__(
        self, clock: Clock | None = None, bytes_per_s: int = 0, wait: Wait | None = None
    ) -> None:
        if bytes_per_s < 0 or (bytes_per_s and clock is None):
            raise ValueError("a rate is 0, or positive and has a clock")
        self._clock = clock
        self._bucket = (
            _Bucket(bytes_per_s, clock, wait) if bytes_per_s and clock is not None else None
        )
        self._watches: list[Watch] = []

    @property
    def is_limited(self) -> bool:
        """Whether reading is held to a rate."""
        return self._bucket is not None

    def new_watch(self) -> Watch:
        """Return a stop watch that counts for this run."""
        watch = Watch(self._clock or _still, self._bucket)
        self._watches.append(watch)
        return watch

    def busy(self) -> Busy | None:
        """Return how long the stages took so far, over all watches; None without a clock."""
        if self._clock is None:
            return None
        watches = tuple(self._watches)
        return Busy(
            sum(watch.read_s for watch in watches),
            sum(watch.compress_s for watch in watches),
            sum(watch.write_s for watch in watches),
            sum(watch.held_s for watch in watches),
        )

    def stop(self) -> None:
        """End all waiting, now and from now on, with an error; callable in any thread."""
        if self._bucket is not None:
            self._bucket.stop()


class Watch:
    """How long one thread was busy with what, and how long it was held, in seconds.

    Call `begin`, and after each stretch of work what it was.
    """

    __slots__ = ("_at_s", "_bucket", "_clock", "compress_s", "held_s", "read_s", "write_s")

    def __init__(self, clock: Clock, bucket: _Bucket | None) -> None:
        self._clock = clock
        self._bucket = bucket
        self._at_s = 0.0
        self.read_s = 0.0
        self.compress_s = 0.0
        self.write_s = 0.0
        self.held_s = 0.0

    def begin(self) -> None:
        """Forget the time since the last stretch of work."""
        self._at_s = self._clock()

    def did_read(self) -> None:
        """Note that the time since the last call went into reading."""
        now = self._clock()
        self.read_s += now - self._at_s
        self._at_s = now

    def did_compress(self) -> None:
        """Note that the time since the last call went into hashing and compressing."""
        now = self._clock()
        self.compress_s += now - self._at_s
        self._at_s = now

    def did_write(self) -> None:
        """Note that the time since the last call went into writing."""
        now = self._clock()
        self.write_s += now - self._at_s
        self._at_s = now

    def hold(self, length: int) -> None:
        """Return when `length` bytes more may be read; at once where there is no limit.

        Raises:
            SourceError: the run was stopped; nobody hears of it.
        """
        if self._bucket is not None:
            held_s = self._bucket.take(length)
            self.held_s += held_s
            self._at_s += held_s


class _Bucket:
    """A token bucket, empty at first: bytes flow in at a rate, and readers take them in turn.

    Who takes more than there is gets it all the same, and waits until it has flowed in: so a piece
    may be longer than the bucket is large.
    """

    def __init__(self, bytes_per_s: int, clock: Clock, wait: Wait | None) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._stopped = threading.Event()
        self._wait = wait or self._stopped.wait
        self._lock = threading.Lock()
        self._due_s = clock()  # when all that was taken has flowed in

    def take(self, length: int) -> float:
        """Take `length` bytes; return, when they have flowed in, how many seconds that took."""
        with self._lock:
            now = self._clock()
            due = max(self._due_s, now - _KEPT_S) + length / self._bytes_per_s
            self._due_s = due
        if due > now:
            self._wait(due - now)
        if self._stopped.is_set():
            raise SourceError("packing was stopped")
        return self._clock() - now

    def stop(self) -> None:
        """End all waiting."""
        self._stopped.set()


def _still() -> float:
    """Stand still, as a clock for those who do not care."""
    return 0.0
