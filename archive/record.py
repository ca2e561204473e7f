"""Records as bytes: how one begins, how it is sealed with its digest, how it is checked.

Owns: the start of each record and the record digest (spec sections 1 and 2.1). Must not know
what a record means. Pure; safe in any thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blake3 import blake3
from construct import ConstructError, Struct

from . import layout
from .errors import DamagedError

_NO_DIGEST = bytes(layout.DIGEST_BYTES)


def record_digest(record: bytes | memoryview, digest_at: int) -> bytes:
    """Return the BLAKE3 of `record` with the 32 bytes at `digest_at` taken as zeros."""
    view = memoryview(record)
    hasher = blake3(view[:digest_at])
    hasher.update(_NO_DIGEST)
    hasher.update(view[digest_at + layout.DIGEST_BYTES :])
    return hasher.digest()


def seal(record: bytes, digest_at: int) -> bytes:
    """Return `record` with its digest filled in at `digest_at`."""
    digest = record_digest(record, digest_at)
    return record[:digest_at] + digest + record[digest_at + layout.DIGEST_BYTES :]


def record_length(start: bytes) -> int | None:
    """Return the whole length in bytes of the record that begins with `start`.

    `start` holds at least 16 bytes. Returns None where no Onggi record of any kind begins.
    """
    fields = layout.RECORD_START.parse(start)
    known = (layout.TAG_HEADER, layout.TAG_UNIT, layout.TAG_PAGE, layout.TAG_FOOTER)
    if fields["skippable_magic"] != layout.SKIPPABLE_MAGIC or fields["tag"] not in known:
        return None
    return int(fields["skip_bytes"]) + layout.SKIP_FROM


def parse_fields(declared: Struct, record: bytes | memoryview, part: str) -> Mapping[str, Any]:
    """Parse the fixed fields of a record, and check its magic and tag.

    Raises:
        DamagedError: the record is short, or another one begins here.
    """
    size = declared.sizeof()
    if len(record) < size:
        raise DamagedError(part, f"only {len(record)} of its bytes are there")
    try:
        return declared.parse(bytes(record[:size]))
    except ConstructError:  # a constant did not match
        raise DamagedError(part, "no such record begins here") from None


def check_reserved(fields: Mapping[str, Any], part: str) -> None:
    """Raise DamagedError unless all reserved fields are zero (section 1)."""
    for name, value in fields.items():
        if name.startswith("reserved") and any(value):
            raise DamagedError(part, f"the field {name} is not zero")


def check_digest(record: bytes | memoryview, digest_at: int, part: str) -> None:
    """Raise DamagedError unless the record holds its own digest at `digest_at`."""
    stored = bytes(memoryview(record)[digest_at : digest_at + layout.DIGEST_BYTES])
    if record_digest(record, digest_at) != stored:
        raise DamagedError(part, "its digest does not match")


def check_length(record: bytes | memoryview, skip_bytes: int, part: str) -> None:
    """Raise DamagedError unless `skip_bytes` leads to the end of the record."""
    if skip_bytes + layout.SKIP_FROM != len(record):
        raise DamagedError(part, f"it says it has {skip_bytes + layout.SKIP_FROM} bytes")
