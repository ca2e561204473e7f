"""The footer: the last record, from which every other place in the archive is found.

Owns: the footer's fields as values, and every check that can be made on it alone or against the
header (spec section 7). Must not read anything else. Pure; safe in any thread.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from uuid import UUID

from . import layout
from .errors import DamagedError
from .header import Header
from .record import check_digest, check_length, check_reserved, parse_fields, seal


@dataclass(frozen=True, slots=True)
class Footer:
    """Totals, places and digests; the names are those of spec section 7.

    `digest` is the archive digest; it is empty until the footer was encoded.
    """

    uuid: UUID
    archive_bytes: int
    content_bytes: int
    unit_count: int
    frame_count: int
    stored_bytes: int
    zero_bytes: int
    hole_bytes: int
    unreadable_bytes: int
    member_count: int
    catalogue_offset: int
    catalogue_record_bytes: int
    index_offset: int
    index_record_bytes: int
    header_digest: bytes
    units_digest: bytes
    content_digest: bytes
    catalogue_digest: bytes
    index_digest: bytes
    kind: int = layout.KIND_VOLUME
    digest: bytes = b""


def encode_footer(footer: Footer) -> bytes:
    """Return the footer record."""
    values = asdict(footer)
    values.update(
        skip_bytes=layout.FOOTER_BYTES - layout.SKIP_FROM,
        version_major=layout.VERSION[0],
        version_minor=layout.VERSION[1],
        reserved=bytes(3),
        uuid=footer.uuid.bytes,
        digest=bytes(layout.DIGEST_BYTES),
    )
    return seal(layout.FOOTER.build(values), layout.FOOTER_DIGEST_AT)


def decode_footer(record: bytes) -> Footer:
    """Return the footer that the 328 bytes `record` hold.

    Raises:
        DamagedError: it is no footer, or its digest does not match.
    """
    fields = parse_fields(layout.FOOTER, record, "footer")
    check_digest(record, layout.FOOTER_DIGEST_AT, "footer")
    check_reserved(fields, "footer")
    check_length(record, fields["skip_bytes"], "footer")
    if (fields["version_major"], fields["version_minor"]) != layout.VERSION:
        raise DamagedError("footer", "it has another format version than the header")
    names = set(Footer.__dataclass_fields__) - {"uuid"}
    return Footer(uuid=UUID(bytes=fields["uuid"]), **{n: fields[n] for n in names})


def check_footer(footer: Footer, header: Header, file_bytes: int) -> None:
    """Check the footer against the header and the length of the file in bytes.

    Every count that a reader allocates or loops by is bounded here (spec section 2.2).

    Raises:
        DamagedError: they do not belong together, or the arithmetic is wrong.
    """
    at = file_bytes - layout.FOOTER_BYTES
    geometry = header.geometry
    content = footer.content_bytes
    if content > layout.MAX_CONTENT_BYTES:
        raise DamagedError("footer", "the content is longer than 2^63 - 1", archive_offset=at)
    zeros_fit = footer.zero_bytes + footer.hole_bytes <= content
    unreadable_fit = footer.unreadable_bytes <= content
    # A unit has a header, one row and one frame at least; so a small file can't claim many.
    least = layout.UNIT_HEADER_BYTES + layout.FRAME_ROW_BYTES
    checks = [
        (footer.uuid == header.uuid, "it belongs to another archive"),
        (footer.kind == header.kind, "it is of another kind than the header"),
        (footer.header_digest == header.digest, "it names another header"),
        (footer.archive_bytes == file_bytes, f"the file has {file_bytes} bytes, not "
         f"{footer.archive_bytes}"),
        (footer.unit_count == geometry.unit_count(content), "its number of units is wrong"),
        (footer.frame_count == geometry.total_frames(content), "its number of frames is wrong"),
        (footer.unit_count * least + footer.stored_bytes <= file_bytes, "it claims more units "
         "than the file can hold"),
        (zeros_fit and unreadable_fit, "its totals do not fit the content"),
        (footer.member_count == 1 or footer.kind != layout.KIND_VOLUME, "a volume archive has one "
         "member"),
        (footer.member_count >= 1, "a tree archive has a root"),
        (
            header.record_bytes
            <= footer.catalogue_offset
            <= footer.catalogue_offset + footer.catalogue_record_bytes
            <= footer.index_offset,
            "its places are not in order",
        ),
        (footer.index_offset + footer.index_record_bytes == at, "the index does not end at it"),
        (
            max(footer.catalogue_record_bytes, footer.index_record_bytes)
            <= layout.PAGE_BYTES + layout.MAX_STORED_PAGE_BYTES,
            "a section root is too long",
        ),
    ]  # fmt: skip
    for good, problem in checks:
        if not good:
            raise DamagedError("footer", problem, archive_offset=at)
