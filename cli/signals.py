"""Signals that end a command: the first one unwinds it, so that nothing half-written stays."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import ClassVar, Self

from .exits import Exit

_WORDS = {
    signal.SIGINT: ("interrupted", Exit.INTERRUPTED),
    signal.SIGTERM: ("terminated", Exit.TERMINATED),
    signal.SIGHUP: ("terminated", Exit.TERMINATED),
}


class Stopped(BaseException):
    """A signal came that ends the process; raised in the main thread.

    Attributes:
        word: interrupted or terminated.
        exit_code: what the process ends with.
        note: what else people must know, to be added to the word.
    """

    def __init__(self, number: int) -> None:
        self.word, self.exit_code = _WORDS[signal.Signals(number)]
        self.note = ""
        super().__init__(self.word)


class Held:
    """A stretch of the main thread that no signal may cut in two; use it as a context.

    Attributes:
        pending: the signal that came meanwhile, or None.
    """

    # A signal handler has no argument of ours, so what it must see is here.
    _innermost: ClassVar[Held | None] = None

    def __init__(self) -> None:
        self.pending: int | None = None
        self._outer: Held | None = None

    def __enter__(self) -> Self:
        """Begin the stretch."""
        self._outer = Held._innermost
        Held._innermost = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        Held._innermost = self._outer

    @classmethod
    def take(cls, number: int) -> bool:
        """Keep a signal for the stretch that is under way; return False if none is."""
        if cls._innermost is None:
            return False
        cls._innermost.pending = number
        return True


def install() -> None:
    """Turn the first of these signals into `Stopped`."""
    for number in _WORDS:
        # A command under nohup keeps ignoring what it was told to ignore.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    # Cleaning up is short, and a second signal must not cut it off.
    for each in _WORDS:
        signal.signal(each, signal.SIG_IGN)
    if not Held.take(number):
        raise Stopped(number)
