"""Units: content in, unit header and frames out; and back.

Owns: unit headers, frame rows, frames (spec section 4). Must not know where a unit stands in a
file, or in which thread it is made. Pure; a `UnitEncoder` or `FrameDecoder` belongs to one thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

import zstandard
from blake3 import blake3

from . import layout
from .errors import DamagedError
from .plan import Geometry
from .record import check_digest, check_length, check_reserved, parse_fields, record_digest
from .zeros import is_zero, zero_digest, zero_frame

_RESERVED_3 = bytes(3)

# RFC 8878, section 3.1.1.1.1: the frame header descriptor, and its content checksum flag.
_DESCRIPTOR_AT = 4
_CHECKSUM_FLAG = 0x04
_CHECKSUM_BYTES = 4


class Frame(NamedTuple):
    """One row of the frame table (spec section 4.2): lengths in bytes, digest of the content."""

    stored_bytes: int
    kind: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class EncodedUnit:
    """A unit ready to be appended.

    Attributes:
        number: unit number.
        content_bytes: its content length.
        record: the unit header record, frame rows included.
        payload: the stored frames in order; together `stored_bytes` long.
        stored_bytes: length of the payload.
        stored_digest: BLAKE3 of the payload.
        zero_frames, hole_frames: how many frames are of these kinds.
        zero_bytes, hole_bytes: how much content is in them.
        unreadable: (content offset, length) of runs that the source failed to give; sorted.
    """

    number: int
    content_bytes: int
    record: bytes
    payload: Sequence[bytes]
    stored_bytes: int
    stored_digest: bytes
    zero_frames: int
    hole_frames: int
    zero_bytes: int
    hole_bytes: int
    unreadable: Sequence[tuple[int, int]] = ()

    @property
    def rows(self) -> bytes:
        """The frame rows as bytes, as both the unit header and the index hold them."""
        return self.record[layout.UNIT_HEADER_BYTES :]


@dataclass(frozen=True, slots=True)
class UnitHeader:
    """A unit header as read from an archive; `rows` are its frame rows as bytes."""

    uuid: UUID
    number: int
    content_bytes: int
    stored_bytes: int
    frame_count: int
    stored_digest: bytes
    rows: bytes

    @property
    def record_bytes(self) -> int:
        """Length of the unit header record."""
        return layout.UNIT_HEADER_BYTES + len(self.rows)


class UnitEncoder:
    """Compresses units of one archive; belongs to one thread.

    Args:
        uuid: identity of the archive.
        geometry: how content is cut.
        level: zstd level, 1 to 19.
    """

    def __init__(self, uuid: UUID, geometry: Geometry, level: int) -> None:
        self._uuid = uuid.bytes
        self._geometry = geometry
        self._compressor = zstandard.ZstdCompressor(
            level=level, write_checksum=True, write_content_size=True
        )
        self._hole_units: dict[int, tuple[bytes, list[bytes], int, bytes]] = {}

    def encode(
        self,
        number: int,
        content_bytes: int,
        frames: Iterable[memoryview | None],
        unreadable: Sequence[tuple[int, int]] = (),
    ) -> EncodedUnit:
        """Compress one unit.

        Args:
            number: unit number.
            content_bytes: its content length.
            frames: the content of each frame in order; None where the source says it is a hole. A
                view is only read until the next one is asked for, so that one buffer of a frame,
                which stays in the processor's cache, is enough.
            unreadable: (content offset, length) of runs that the source failed to give; looked at
                after the last frame.
        """
        lengths = self._geometry.frame_lengths(content_bytes)
        payload: list[bytes] = []
        rows: list[bytes] = []
        stored = blake3()
        zero_frames = hole_frames = zero_bytes = hole_bytes = 0
        for length, piece in zip(lengths, frames, strict=True):
            if piece is None:
                kind, digest, data = layout.FRAME_HOLE, zero_digest(length), zero_frame(length)
                hole_frames += 1
                hole_bytes += length
            elif is_zero(piece):
                kind, digest, data = layout.FRAME_ZERO, zero_digest(length), zero_frame(length)
                zero_frames += 1
                zero_bytes += length
            else:
                kind, digest = layout.FRAME_DATA, blake3(piece).digest()
                data = self._compressor.compress(piece)
            stored.update(data)
            payload.append(data)
            rows.append(layout.FRAME_ROW.pack(len(data), kind, _RESERVED_3, digest))
        stored_bytes = sum(map(len, payload))
        stored_digest = stored.digest()
        return EncodedUnit(
            number=number,
            content_bytes=content_bytes,
            record=self._record(number, content_bytes, stored_bytes, stored_digest, b"".join(rows)),
            payload=payload,
            stored_bytes=stored_bytes,
            stored_digest=stored_digest,
            zero_frames=zero_frames,
            hole_frames=hole_frames,
            zero_bytes=zero_bytes,
            hole_bytes=hole_bytes,
            unreadable=tuple(unreadable),
        )

    def encode_hole(self, number: int, content_bytes: int) -> EncodedUnit:
        """Return a unit that is one hole: only its number and digest differ from the next."""
        if content_bytes not in self._hole_units:
            lengths = self._geometry.frame_lengths(content_bytes)
            frames = [zero_frame(length) for length in lengths]
            rows = b"".join(
                layout.FRAME_ROW.pack(
                    len(data), layout.FRAME_HOLE, _RESERVED_3, zero_digest(length)
                )
                for data, length in zip(frames, lengths, strict=True)
            )
            joined = b"".join(frames)
            self._hole_units[content_bytes] = (
                rows, [joined], len(joined), blake3(joined).digest(),
            )  # fmt: skip
        rows, payload, stored_bytes, stored_digest = self._hole_units[content_bytes]
        return EncodedUnit(
            number=number,
            content_bytes=content_bytes,
            record=self._record(number, content_bytes, stored_bytes, stored_digest, rows),
            payload=payload,
            stored_bytes=stored_bytes,
            stored_digest=stored_digest,
            zero_frames=0,
            hole_frames=len(rows) // layout.FRAME_ROW_BYTES,
            zero_bytes=0,
            hole_bytes=content_bytes,
        )

    def _record(
        self, number: int, content_bytes: int, stored_bytes: int, stored_digest: bytes, rows: bytes
    ) -> bytes:
        return unit_record(self._uuid, number, content_bytes, stored_bytes, stored_digest, rows)


def unit_record(
    uuid: bytes,
    number: int,
    content_bytes: int,
    stored_bytes: int,
    stored_digest: bytes,
    rows: bytes,
) -> bytes:
    """Return a unit header record (spec section 4.1).

    Its digest follows from the fields, so the record that an index row describes can be built
    again and compared as a whole.
    """
    fields = (
        layout.SKIPPABLE_MAGIC,
        layout.UNIT_HEADER_BYTES - layout.SKIP_FROM + len(rows),
        layout.TAG_UNIT,
        uuid,
        number,
        content_bytes,
        stored_bytes,
        len(rows) // layout.FRAME_ROW_BYTES,
        bytes(12),
        stored_digest,
    )
    blank = layout.UNIT_HEADER_STRUCT.pack(*fields, bytes(layout.DIGEST_BYTES)) + rows
    digest = record_digest(blank, layout.UNIT_HEADER_DIGEST_AT)
    return layout.UNIT_HEADER_STRUCT.pack(*fields, digest) + rows


def decode_unit_header(record: bytes) -> UnitHeader:
    """Return the unit header that `record`, frame rows included, holds.

    The lengths are not compared with the header's geometry: the caller may not have one.

    Raises:
        DamagedError: it is no unit header, its digest does not match, or its parts disagree.
    """
    fields = parse_fields(layout.UNIT_HEADER, record, "unit header")
    check_digest(record, layout.UNIT_HEADER_DIGEST_AT, "unit header")
    check_reserved(fields, "unit header")
    check_length(record, fields["skip_bytes"], "unit header")
    rows = record[layout.UNIT_HEADER_BYTES :]
    unit = UnitHeader(
        uuid=UUID(bytes=fields["uuid"]),
        number=fields["unit_number"],
        content_bytes=fields["content_bytes"],
        stored_bytes=fields["stored_bytes"],
        frame_count=fields["frame_count"],
        stored_digest=fields["stored_digest"],
        rows=rows,
    )
    if unit.frame_count * layout.FRAME_ROW_BYTES != len(rows) or not unit.frame_count:
        raise DamagedError("unit header", "its number of frames is wrong")
    if not 1 <= unit.content_bytes <= layout.MAX_UNIT_BYTES:
        raise DamagedError("unit header", "its content length is out of bounds")
    if sum(frame.stored_bytes for frame in decode_rows(rows)) != unit.stored_bytes:
        raise DamagedError("unit header", "its frames do not add up to its stored length")
    return unit


def decode_rows(rows: bytes) -> list[Frame]:
    """Return the frame rows that `rows` holds.

    Raises:
        DamagedError: an unknown kind, or a reserved byte that is not zero.
    """
    frames: list[Frame] = []
    for stored_bytes, kind, reserved, digest in layout.FRAME_ROW.iter_unpack(rows):
        if kind > layout.FRAME_HOLE or reserved != _RESERVED_3:
            raise DamagedError("frame row", f"frame {len(frames)} has an unknown kind")
        frames.append(Frame(stored_bytes, kind, digest))
    return frames


def check_frames(frames: Sequence[Frame], lengths: Sequence[int]) -> None:
    """Check that frame rows fit the content lengths that arithmetic gives.

    Raises:
        DamagedError: their number, a stored length (spec section 2.2) or the row of a zero frame
            (spec section 4.3) is wrong.
    """
    if len(frames) != len(lengths):
        raise DamagedError("frame row", f"{len(frames)} frames, where {len(lengths)} belong")
    for number, ((stored_bytes, kind, digest), length) in enumerate(
        zip(frames, lengths, strict=True)
    ):
        if not 1 <= stored_bytes <= layout.max_stored_bytes(length):
            raise DamagedError("frame row", f"frame {number} has a stored length out of bounds")
        if kind != layout.FRAME_DATA and (
            digest != zero_digest(length) or stored_bytes != len(zero_frame(length))
        ):
            raise DamagedError("frame row", f"frame {number} is no zero frame")


class FrameDecoder:
    """Decompresses and checks frames; belongs to one thread."""

    def __init__(self) -> None:
        self._decompressor = zstandard.ZstdDecompressor()

    def decode(self, frame: Frame, stored: memoryview, content_bytes: int) -> bytes:
        """Return the content of a frame, which is `content_bytes` long, checked by its digest.

        The content checksum that zstd put at the end is left out, because BLAKE3 tells more:
        computing it takes a tenth of the time. `stored` is writable, and not the same afterwards.

        Raises:
            DamagedError: the stored bytes are not what the writer wrote.
        """
        self._check_declared(frame, stored, content_bytes)
        stored[_DESCRIPTOR_AT] &= ~_CHECKSUM_FLAG & 0xFF
        return self._decompress(frame, stored[:-_CHECKSUM_BYTES])

    def verify(self, frame: Frame, stored: memoryview, content_bytes: int) -> None:
        """Check a frame by its digest and by zstd's own checksum, which other readers rely on.

        Raises:
            DamagedError: the stored bytes are not what the writer wrote.
        """
        self._check_declared(frame, stored, content_bytes)
        self._decompress(frame, stored)

    def _check_declared(self, frame: Frame, stored: memoryview, content_bytes: int) -> None:
        """Check what a frame says of itself, before anything is allocated by it.

        python-zstandard takes the size that a frame declares over any bound that it is given.
        """
        if len(stored) != frame.stored_bytes:
            raise DamagedError("frame", "the archive ends inside it or before it")
        try:
            declared = zstandard.get_frame_parameters(stored)
        except zstandard.ZstdError:
            raise DamagedError("frame", "it is no zstd frame") from None
        if declared.content_size != content_bytes:
            raise DamagedError("frame", "it declares another length than the index")
        if declared.dict_id or not declared.has_checksum:
            raise DamagedError("frame", "it needs a dictionary or has no checksum")
        if declared.window_size > layout.MAX_WINDOW_BYTES:
            raise DamagedError("frame", "its window is too large")

    def _decompress(self, frame: Frame, stored: memoryview) -> bytes:
        try:
            content = self._decompressor.decompress(stored, allow_extra_data=False)
        except zstandard.ZstdError:
            raise DamagedError("frame", "zstd can't decompress it") from None
        if blake3(content).digest() != frame.digest:
            raise DamagedError("frame", "its content does not match its digest")
        return content
