"""The header: the first record, which says what the archive is and how its content is cut.

Owns: the header's fields as values, and every check that can be made on it alone (spec sections 3
and 8). Must not read anything else. Pure; safe in any thread.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from . import layout
from .errors import BadUseError, DamagedError, NotAnArchiveError, TruncatedError, UnsupportedError
from .plan import Geometry
from .record import check_digest, check_length, check_reserved, parse_fields, seal


@dataclass(frozen=True, slots=True)
class Header:
    """What the first record says.

    Attributes:
        uuid: identity of the archive.
        geometry: unit, frame and block size.
        created_ns: ns since 1970-01-01 UTC.
        level: zstd level used by the writer; informational.
        kind: layout.KIND_VOLUME or layout.KIND_TREE.
        facts: JSON object about the source, for people; never needed to read the archive.
        digest: the record digest; empty until the header was encoded.
        record_bytes: length of the record; 0 until the header was encoded.
    """

    uuid: UUID
    geometry: Geometry
    created_ns: int
    level: int
    kind: int = layout.KIND_VOLUME
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    digest: bytes = b""
    record_bytes: int = 0


def encode_header(header: Header) -> bytes:
    """Return the header record.

    Raises:
        BadUseError: the facts are too long, or a size or the time is out of bounds.
    """
    geometry = header.geometry.checked()
    if not -(2**63) <= header.created_ns < 2**63:
        raise BadUseError(f"the time of creation {header.created_ns} is no 64-bit number")
    facts = json.dumps(dict(header.facts), sort_keys=True, separators=(",", ":")).encode()
    if len(facts) > layout.MAX_FACTS_BYTES:
        raise BadUseError(f"the facts have {len(facts)} bytes, more than 65,536")
    fixed = layout.HEADER.build(
        {
            "skip_bytes": layout.HEADER_BYTES - layout.SKIP_FROM + len(facts),
            "version_major": layout.VERSION[0],
            "version_minor": layout.VERSION[1],
            "kind": header.kind,
            "reserved_1": bytes(3),
            "required_features": 0,
            "optional_features": 0,
            "uuid": header.uuid.bytes,
            "unit_bytes": geometry.unit_bytes,
            "frame_bytes": geometry.frame_bytes,
            "block_bytes": geometry.block_bytes,
            "created_ns": header.created_ns,
            "level": header.level,
            "reserved_2": bytes(6),
            "facts_bytes": len(facts),
            "reserved_3": bytes(4),
            "digest": bytes(layout.DIGEST_BYTES),
        }
    )
    return seal(fixed + facts, layout.HEADER_DIGEST_AT)


def header_length(start: bytes) -> int:
    """Return the length in bytes of the header record that begins with `start`.

    `start` is the first 128 bytes of the file, or all of it if there are fewer.

    Raises:
        NotAnArchiveError: the tag is not there (spec section 8: checked first).
        UnsupportedError: a version, kind or feature that this code does not know.
        TruncatedError: the file ends inside the header.
        DamagedError: a length is out of bounds.
    """
    if start[8:16] != layout.TAG_HEADER:
        raise NotAnArchiveError("not an Onggi archive")
    if len(start) < layout.HEADER_BYTES:
        raise TruncatedError("file", "it ends inside the header", archive_offset=len(start))
    fields = parse_fields(layout.HEADER, start, "header")
    check_version(fields["version_major"], fields["version_minor"])
    if features := fields["required_features"]:
        raise UnsupportedError(
            f"the archive needs the feature {_feature_names(features)}; use a newer Onggi"
        )
    if fields["facts_bytes"] > layout.MAX_FACTS_BYTES:
        raise DamagedError("header", "its facts are longer than 65,536 bytes", archive_offset=0)
    return layout.HEADER_BYTES + int(fields["facts_bytes"])


def decode_header(record: bytes) -> Header:
    """Return the header that `record`, exactly as long as `header_length` says, holds.

    Raises:
        NotAnArchiveError, UnsupportedError, DamagedError: as `header_length`; also DamagedError
            where the digest does not match or a field is out of bounds.
    """
    length = header_length(record)
    if length != len(record):
        raise TruncatedError("file", "it ends inside the header", archive_offset=len(record))
    fields = parse_fields(layout.HEADER, record, "header")
    check_digest(record, layout.HEADER_DIGEST_AT, "header")
    if fields["kind"] not in layout.TABLES_OF_KIND:  # section 8: right after the digest
        raise UnsupportedError(f"an archive of kind {fields['kind']}; use a newer Onggi")
    check_reserved(fields, "header")
    check_length(record, fields["skip_bytes"], "header")
    geometry = Geometry(fields["unit_bytes"], fields["frame_bytes"], fields["block_bytes"])
    if problem := geometry.problem():
        raise DamagedError("header", problem, archive_offset=0)
    return Header(
        uuid=UUID(bytes=fields["uuid"]),
        geometry=geometry,
        created_ns=fields["created_ns"],
        level=fields["level"],
        kind=fields["kind"],
        facts=_parse_facts(record[layout.HEADER_BYTES :]),
        digest=fields["digest"],
        record_bytes=length,
    )


def check_version(major: int, minor: int) -> None:
    """Raise UnsupportedError unless this code reads version `major.minor` (spec section 8)."""
    if (major, minor) != layout.VERSION:
        known = ".".join(map(str, layout.VERSION))
        raise UnsupportedError(
            f"the archive has format version {major}.{minor}; this Onggi reads {known}"
        )


def _feature_names(bits: int) -> str:
    names = layout.REQUIRED_FEATURE_NAMES
    return ", ".join(names.get(n, f"bit {n}") for n in range(64) if bits >> n & 1)


def _parse_facts(raw: bytes) -> Mapping[str, Any]:
    """Return the facts, or nothing where they can't be parsed: no reader may need them."""
    try:
        facts: object = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return {str(k): v for k, v in facts.items()} if isinstance(facts, dict) else {}  # pyright: ignore
