"""The catalogue: members, their names and extents, and what the source failed to give.

Owns: the rows of spec sections 6.1 to 6.3. Must not know how tables are paged. Pure; a `Catalogue`
may be shared by threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from . import layout
from .errors import DamagedError
from .table import Table


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of a member that maps to a run of content, in bytes."""

    member_offset: int
    content_offset: int
    run_bytes: int


@dataclass(frozen=True, slots=True)
class Member:
    """One named thing in an archive.

    Attributes:
        name: as bytes, without a slash; see `is_safe_name`.
        member_bytes: its length.
        mtime_ns: last change of the source, ns since 1970-01-01 UTC; 0 if it has none.
        changed: whether the source changed while it was read.
        extents: sorted by member offset, without a gap.
    """

    name: bytes
    member_bytes: int
    mtime_ns: int
    changed: bool
    extents: tuple[Extent, ...]


def is_safe_name(name: bytes) -> bool:
    """Tell whether `name` is one plain component of a path (spec section 6.1)."""
    return (
        1 <= len(name) <= layout.MAX_NAME_BYTES
        and name not in (b".", b"..")
        and not any(byte in name for byte in (b"/", b"\0"))
    )


def volume_member(name: bytes, content_bytes: int, mtime_ns: int, *, changed: bool) -> Member:
    """Return the one member of a full archive of a volume: one extent, all of the content."""
    extents = (Extent(0, 0, content_bytes),) if content_bytes else ()
    return Member(name, content_bytes, mtime_ns, changed, extents)


def encode_member(member: Member) -> bytes:
    """Return the member row of the only member of an archive."""
    flags = layout.MEMBER_CHANGED if member.changed else 0
    # Some file systems keep times beyond the year 2262: the nearest must do.
    mtime_ns = max(-(2**63), min(member.mtime_ns, 2**63 - 1))
    return layout.MEMBER_ROW.pack(
        layout.MEMBER_VOLUME, flags, bytes(2), len(member.name), 0, member.member_bytes,
        mtime_ns, 0, len(member.extents), bytes(16),
    )  # fmt: skip


def encode_extents(member: Member) -> bytes:
    """Return the extent rows of a member."""
    return b"".join(
        layout.EXTENT_ROW.pack(e.member_offset, e.content_offset, e.run_bytes, 0, bytes(4))
        for e in member.extents
    )


def decode_volume(members: Table, extents: Table, names: Table, content_bytes: int) -> Member:
    """Return the one member of a full archive of a volume.

    Raises:
        DamagedError: a page is damaged, or the rows are not those of a volume.
    """
    if len(members) != 1:
        raise DamagedError("catalogue", "a volume archive has one member")
    fields = layout.MEMBER_ROW.unpack(members.row(0))
    (kind, flags, reserved_1, name_bytes, name_offset, size, mtime_ns, first, count, reserved_2) = (
        fields
    )
    if kind != layout.MEMBER_VOLUME or flags & ~layout.MEMBER_CHANGED:
        raise DamagedError("catalogue", "the member is of an unknown type")
    if any(reserved_1) or any(reserved_2):
        raise DamagedError("catalogue", "a reserved field is not zero")
    if not 1 <= name_bytes <= layout.MAX_NAME_BYTES:
        raise DamagedError("catalogue", "the length of a name is out of bounds")
    name = names.span(name_offset, name_bytes)
    if not is_safe_name(name):
        raise DamagedError("catalogue", "the name of the volume is no plain file name")
    changed = bool(flags & layout.MEMBER_CHANGED)
    member = volume_member(name, content_bytes, mtime_ns, changed=changed)
    if (size, first, count, len(extents)) != (
        content_bytes, 0, len(member.extents), len(member.extents),
    ):  # fmt: skip
        raise DamagedError("catalogue", "the member does not fit the content")
    if extents.span(0, count) != encode_extents(member):
        raise DamagedError("catalogue", "the extent does not map the volume to the content")
    return member


def iter_unreadable(table: Table, content_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield (content offset, length) of the runs that the source failed to give, in order.

    Raises:
        DamagedError: a page is damaged, or runs overlap, touch or lie outside the content.
    """
    before = -1
    for span in table.spans():
        for offset, run_bytes in layout.UNREADABLE_ROW.iter_unpack(span):
            if offset <= before or not 1 <= run_bytes <= content_bytes - offset:
                raise DamagedError("catalogue", "the unreadable runs are wrong")
            yield offset, run_bytes
            before = offset + run_bytes
