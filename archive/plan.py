"""The arithmetic of units and frames: content offset -> unit, frame, and back.

Owns: sizes, bounds and counts (spec section 2.2). Knows no bytes. Pure; safe in any thread.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import layout
from .errors import BadUseError


def ceil_div(amount: int, by: int) -> int:
    """Return `amount / by`, rounded up."""
    return -(-amount // by)


@dataclass(frozen=True, slots=True)
class Geometry:
    """How content is cut: sizes in bytes, as the header holds them."""

    unit_bytes: int
    frame_bytes: int
    block_bytes: int

    def problem(self) -> str | None:
        """Return what is out of bounds (section 2.2), or None."""
        block, unit, frame = self.block_bytes, self.unit_bytes, self.frame_bytes
        if not layout.MIN_BLOCK_BYTES <= block <= layout.MAX_BLOCK_BYTES or block & (block - 1):
            return f"block size {block} is no power of two from 512 to 16 MiB"
        if not block <= unit <= layout.MAX_UNIT_BYTES or unit % block:
            return f"unit size {unit} is no multiple of the block size up to 256 MiB"
        if not layout.MIN_FRAME_BYTES <= frame <= layout.MAX_FRAME_BYTES or frame % 4096:
            return f"frame size {frame} is no multiple of 4096 up to 16 MiB"
        return None

    def checked(self) -> Geometry:
        """Return self.

        Raises:
            BadUseError: a size is out of bounds.
        """
        if problem := self.problem():
            raise BadUseError(problem)
        return self

    @property
    def frames_per_unit(self) -> int:
        """Number of frames in a full unit."""
        return ceil_div(self.unit_bytes, self.frame_bytes)

    def unit_count(self, content_bytes: int) -> int:
        """Return the number of units of a content."""
        return ceil_div(content_bytes, self.unit_bytes)

    def unit_length(self, unit: int, content_bytes: int) -> int:
        """Return the content length of unit `unit`, which must exist."""
        return min(self.unit_bytes, content_bytes - unit * self.unit_bytes)

    def frame_count(self, unit_length: int) -> int:
        """Return the number of frames of a unit of `unit_length` content bytes."""
        return ceil_div(unit_length, self.frame_bytes)

    def total_frames(self, content_bytes: int) -> int:
        """Return the number of frames of a whole content."""
        full, rest = divmod(content_bytes, self.unit_bytes)
        return full * self.frames_per_unit + self.frame_count(rest)

    def frame_lengths(self, unit_length: int) -> list[int]:
        """Return the content length of each frame of a unit, in order."""
        full, rest = divmod(unit_length, self.frame_bytes)
        return [self.frame_bytes] * full + ([rest] if rest else [])

    def locate(self, content_offset: int) -> tuple[int, int, int]:
        """Return (unit, frame in the unit, offset in the frame) of a content offset."""
        unit, in_unit = divmod(content_offset, self.unit_bytes)
        frame, in_frame = divmod(in_unit, self.frame_bytes)
        return unit, frame, in_frame
