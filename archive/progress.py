"""What a long operation tells while it runs.

Owns: one record. Must not know clocks, terminals or formats of output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an operation is.

    Attributes:
        phase: pack, unpack or verify.
        content_bytes: content done.
        total_bytes: content in all; None if that is not known.
        stored_bytes: stored bytes of the content done.
    """

    phase: str
    content_bytes: int
    total_bytes: int | None
    stored_bytes: int


Report = Callable[[Progress], None]
"""Takes progress in the thread that runs the operation, once for each unit or so; must be quick."""


def silent(_: Progress) -> None:
    """Take progress and do nothing."""
