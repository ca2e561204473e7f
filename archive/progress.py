"""What a long operation tells while it runs.

Owns: its records. Must not know clocks, terminals or formats of output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Busy:
    """How long the stages of packing were at work, in seconds, summed over threads.

    Attributes:
        read: planning, and reading the source; waiting for a slow one counts, being held to a rate
            does not.
        compress: looking for zeros, hashing and compressing.
        write: putting units together, and writing them; one thread does that.
        held: being held to a rate.
    """

    read: float
    compress: float
    write: float
    held: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an operation is.

    Attributes:
        phase: pack, unpack or verify.
        content_bytes: content done.
        total_bytes: content in all; None if that is not known.
        stored_bytes: stored bytes of the content done.
        busy_s: how long each stage of packing was at work so far; None if nobody measures it.
    """

    phase: str
    content_bytes: int
    total_bytes: int | None
    stored_bytes: int
    busy_s: Busy | None = None


Report = Callable[[Progress], None]
"""Takes progress in the thread that runs the operation, once for each unit or so; must be quick."""


def silent(_: Progress) -> None:
    """Take progress and do nothing."""
