"""Tar headers of what was found in a tree.

Owns: which tar member stands for what (spec section 6.11). Must not know units, nor read files. One
owner at a time.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence

from . import layout, pax
from .entry import decode_attributes
from .files import Found
from .tree_rows import TreeRows


class Headers:
    """Makes headers.

    Args:
        owner_name: gives the name of (layout.OWNER_USER or OWNER_GROUP, number); empty if unknown.
    """

    def __init__(self, owner_name: Callable[[int, int], bytes]) -> None:
        self._owner_name = owner_name
        self._files = pax.FileHeaders(self.owner_names)

    def owner_names(self, uid: int, gid: int) -> tuple[bytes, bytes]:
        """Return the names of a user and a group; empty for those that are unknown."""
        return self._owner_name(layout.OWNER_USER, uid), self._owner_name(layout.OWNER_GROUP, gid)

    def of(
        self, found: Found, path: bytes, kind: bytes, *, size: int = 0, link: bytes = b"",
        device: tuple[int, int] = (0, 0),
    ) -> bytes:  # fmt: skip
        """Return the header of what was found, as a member of a kind."""
        return pax.encode_member(self._member(found, path, kind, size, link, device))

    def plain(self, found: Found, path: bytes) -> bytes:
        """Return the header of a file without attributes."""
        return self._files.plain(
            path, found.size, found.mode & layout.MODE_BITS, found.uid, found.gid, found.mtime_ns
        )

    def sparse(self, found: Found, path: bytes, runs: Sequence[tuple[int, int]]) -> bytes:
        """Return header and map of a file with holes; `runs` are (offset, length) of its data."""
        member = self._member(found, path, pax.TYPE_FILE, found.size, b"", (0, 0))
        return pax.encode_sparse(member, runs)

    def directory(self, rows: TreeRows, row: int, path: bytes) -> bytes:
        """Return the header of a directory, from what its row says."""
        entry = rows.entry(row)
        return pax.encode_member(
            pax.TarMember(
                path + b"/", pax.TYPE_DIRECTORY, entry.mode, entry.uid, entry.gid,
                self._owner_name(layout.OWNER_USER, entry.uid),
                self._owner_name(layout.OWNER_GROUP, entry.gid), 0, entry.mtime_ns,
                attributes=decode_attributes(rows.attributes(entry)),
            )
        )  # fmt: skip

    def hard_link(self, rows: TreeRows, found: Found, path: bytes, row: int) -> bytes:
        """Return the header of another name of an entry that was added."""
        plain = found._replace(attributes=b"")
        return self.of(plain, path, pax.TYPE_HARD_LINK, link=rows.path(row))

    def _member(
        self, found: Found, path: bytes, kind: bytes, size: int, link: bytes,
        device: tuple[int, int],
    ) -> pax.TarMember:  # fmt: skip
        attributes: Sequence[tuple[bytes, bytes]] = ()
        if found.attributes and len(found.attributes) <= layout.MAX_ATTRIBUTES_BYTES:
            attributes = decode_attributes(found.attributes)
        return pax.TarMember(
            path, kind, stat.S_IMODE(found.mode), found.uid, found.gid,
            self._owner_name(layout.OWNER_USER, found.uid),
            self._owner_name(layout.OWNER_GROUP, found.gid), size, found.mtime_ns, link, device,
            attributes,
        )  # fmt: skip
