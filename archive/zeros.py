"""Zeros: the frame that stands for them, its digest, and how they are found.

Owns: the zero frame (spec section 4.3) and zero tests. Pure; safe in any thread (the caches are
the interpreter's own, and filled with values that are always the same).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import zstandard
from blake3 import blake3

_ZSTD_MAGIC = bytes.fromhex("28b52ffd")
_RAW, _RLE = 0, 1
_MAX_BLOCK_BYTES = 131_072

SPARSE_BLOCK_BYTES = 4096  # what file systems can leave out of a file
_SPARSE_BLOCK = bytes(SPARSE_BLOCK_BYTES)


@lru_cache(maxsize=16)
def zeros(length: int) -> bytes:
    """Return `length` zero bytes, shared between callers."""
    return bytes(length)


@lru_cache(maxsize=1024)
def zero_digest(length: int) -> bytes:
    """Return the BLAKE3 of `length` zero bytes."""
    return blake3(bytes(length)).digest()


@lru_cache(maxsize=1024)
def zero_frame(length: int) -> bytes:
    """Return the one zstd frame that stands for `length` zero bytes; `length` is at least 1."""
    if length < 256:
        head = b"\x24" + length.to_bytes(1, "little")
    elif length < 65_792:
        head = b"\x64" + (length - 256).to_bytes(2, "little")
    else:
        head = b"\xa4" + length.to_bytes(4, "little")
    # The first block is raw: zstd before 1.4.4 can't read a frame that begins with an RLE block.
    blocks = [(_RAW, 1)]
    left = length - 1
    while left:
        size = min(left, _MAX_BLOCK_BYTES)
        blocks.append((_RLE, size))
        left -= size
    body = b""
    for number, (block_type, size) in enumerate(blocks):
        last = number == len(blocks) - 1
        body += (last | block_type << 1 | size << 3).to_bytes(3, "little") + b"\0"
    # zstd ends a frame with the low 4 bytes of its content's XXH64: let it compute them.
    checksummed = zstandard.ZstdCompressor(level=1, write_checksum=True).compress(bytes(length))
    return _ZSTD_MAGIC + head + body + checksummed[-4:]


def is_zero(content: memoryview) -> bool:
    """Tell whether `content` holds only zeros.

    Nearly all data is told by its first bytes; what is left is one copy and one memcmp, because
    comparing a memoryview runs element by element.
    """
    length = len(content)
    if content[: min(64, length)].tobytes().strip(b"\0"):
        return False
    return content.tobytes() == zeros(length)


def data_runs(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of the runs of `content` that are not whole blocks of 4,096 zeros.

    Blocks count from the start of `content`; the last one may be short. Runs are sorted, and do
    not touch. Looks only at blocks that begin with a zero, so plain data costs next to nothing.
    """
    length = len(content)
    start = 0
    # A block can only be zero if its first byte is: one strided copy finds the candidates.
    firsts = content[::SPARSE_BLOCK_BYTES]
    candidate = firsts.find(0)
    while candidate >= 0:
        at = candidate * SPARSE_BLOCK_BYTES
        end = min(at + SPARSE_BLOCK_BYTES, length)
        if content[at:end] == _SPARSE_BLOCK[: end - at]:
            if start < at:
                yield start, at
            start = end
        candidate = firsts.find(0, candidate + 1)
    if start < length:
        yield start, length
