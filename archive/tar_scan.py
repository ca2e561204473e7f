"""Reads the headers of a tar stream that may be damaged: what is left without a catalogue.

Owns: decoding of what `pax` encodes, and finding the next header behind damage. Must not know
units or files. Pure; safe in any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from . import pax

_TYPE_PAX = b"x"
_PAX_TYPES = (_TYPE_PAX, b"g")
_MOST_PAX_BYTES = 64 * 1024 * 1024
_SCAN_BYTES = 1024 * 1024
_MAGIC_AT = 257
_CHECKSUM = slice(148, 156)
_BLANK = b"        "
_SPARSE_MOST_RUNS = 1_000_000
_MOST_DIGITS = 20
_OCTAL = b"01234567"
_MOST_NS = 2**63 - 1

ReadContent = Callable[[int, int], tuple[bytes, bool]]
"""Gives `size` bytes of content from an offset on, and whether all of them are intact."""
Lost = Callable[[int, int], None]
"""Told of (content offset, length) of what should be headers, and is none."""


@dataclass(slots=True)
class Scanned:
    """A member that was found; lengths in bytes, times in ns.

    Attributes:
        path: as the header has it, without slashes at its ends.
        type: one of the types of `pax`.
        mode, uid, gid, user, group, mtime_ns, link, device: as `pax.TarMember` has them.
        size: length of the file, holes included.
        runs: (offset in the file, content offset, length) of its data.
        attributes: extended attributes, sorted by name, no name twice, ACLs among them.
        is_bare: its pax header is damaged, or may be: all that is in there may be cut off or gone.
        has_no_map: the map of a sparse file is damaged, so that nobody knows its runs.
    """

    path: bytes
    type: bytes
    mode: int
    uid: int
    gid: int
    user: bytes
    group: bytes
    size: int
    mtime_ns: int
    link: bytes
    device: tuple[int, int]
    runs: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    attributes: Sequence[tuple[bytes, bytes]] = ()
    is_bare: bool = False
    has_no_map: bool = False


def scan_tar(read: ReadContent, content_bytes: int, lost: Lost) -> Iterator[Scanned]:
    """Yield the members whose headers are intact, in the order of the content.

    Where a header is damaged, goes on at the next block that is one. A file of the tree that is a
    tar itself may be taken for a part of the stream there, if its own header is lost.

    Args:
        read: reads content.
        content_bytes: length of the content.
        lost: told of each place where a member should begin and none does, up to the next one;
            zeros at the end of the content are none.
    """
    at = 0
    records: dict[bytes, bytes] | None = {}  # None: there may have been some
    while at + pax.BLOCK_BYTES <= content_bytes:
        block, intact = read(at, pax.BLOCK_BYTES)
        if not intact or not is_header(block):
            records = None
            found, is_blank = _next_header(read, at + pax.BLOCK_BYTES, content_bytes)
            if found < content_bytes or not intact or not is_blank or any(block):
                lost(at, found - at)
            at = found
            continue
        size = _number(block[124:136])
        kind = block[156:157]
        at += pax.BLOCK_BYTES
        if kind in _PAX_TYPES:
            if kind == _TYPE_PAX:
                data, intact = read(at, size) if size <= _MOST_PAX_BYTES else (b"", False)
                records = _records(data) if intact else None
            at += size + pax.padding(size)  # also if damaged: a value can hold what seems a header
            continue
        is_bare = records is None
        records = records or {}
        stored = _decimal(records.get(b"size"), size)
        member = _member(block, records)
        member.is_bare = is_bare
        if b"GNU.sparse.major" in records:
            if not _sparse(read, at, stored, member, records):
                member.runs, member.has_no_map = [], True
        elif member.type in (pax.TYPE_FILE, b"\0"):
            member.type = pax.TYPE_FILE
            member.size = stored
            member.runs = [(0, at, stored)] if stored else []
        else:
            stored = 0
        yield member
        records = {}
        at += stored + pax.padding(stored)


def is_header(block: bytes) -> bool:
    """Tell whether 512 bytes are the header of a member."""
    if len(block) != pax.BLOCK_BYTES or block[_MAGIC_AT : _MAGIC_AT + 6] != b"ustar\0":
        return False
    return _octal(block[_CHECKSUM]) == sum(block) - sum(block[_CHECKSUM]) + sum(_BLANK)


def _next_header(read: ReadContent, at: int, content_bytes: int) -> tuple[int, bool]:
    """Return where the next block that is a header stands, at `at` or behind.

    Also returns whether nothing but intact zeros stands before it, as far as it was looked at.
    """
    is_blank = True
    while at < content_bytes:
        data, intact = read(at, min(_SCAN_BYTES, content_bytes - at))
        found = -1
        while (found := data.find(b"ustar\0", found + 1)) >= 0:
            start = found - _MAGIC_AT
            if not start % pax.BLOCK_BYTES and is_header(data[start : start + pax.BLOCK_BYTES]):
                return at + start, is_blank
        is_blank = is_blank and intact and data.count(0) == len(data)
        at += len(data)
    return content_bytes, is_blank


def _member(block: bytes, records: dict[bytes, bytes]) -> Scanned:
    prefix, name = _text(block[345:500]), _text(block[:100])
    path = records.get(b"path", prefix + b"/" + name if prefix else name)
    path = records.get(b"GNU.sparse.name", path)
    seconds = _number(block[136:148])
    return Scanned(
        path=path.strip(b"/"),
        type=block[156:157],
        mode=_number(block[100:108]) & 0o7777,
        uid=min(_decimal(records.get(b"uid"), _number(block[108:116])), 2**32 - 1),
        gid=min(_decimal(records.get(b"gid"), _number(block[116:124])), 2**32 - 1),
        user=records.get(b"uname", _text(block[265:297])),
        group=records.get(b"gname", _text(block[297:329])),
        size=0,
        mtime_ns=_time(records.get(b"mtime"), min(seconds * 10**9, _MOST_NS)),
        link=records.get(b"linkpath", _text(block[157:257])),
        device=(_number(block[329:337]) % 2**32, _number(block[337:345]) % 2**32),
        attributes=sorted(dict(_attributes(records)).items()),
    )


def _sparse(
    read: ReadContent, at: int, stored: int, member: Scanned, records: dict[bytes, bytes]
) -> bool:
    """Fill in the runs of a sparse file from its map; return whether that is intact."""
    member.type = pax.TYPE_FILE
    member.size = _decimal(records.get(b"GNU.sparse.realsize"), 0)
    numbers: list[int] = []
    left = b""
    where, stored_end = at, at + stored
    while where < stored_end and (not numbers or len(numbers) <= 2 * numbers[0]):
        block, intact = read(where, pax.BLOCK_BYTES)
        where += pax.BLOCK_BYTES
        # A map that lies about its length must not be read for longer than one can be.
        if not intact or len(block) < pax.BLOCK_BYTES or len(left) > _MOST_DIGITS:
            return False
        *lines, left = (left + block).split(b"\n")
        numbers += [_decimal(line, -1) for line in lines]
        if numbers and numbers[0] > _SPARSE_MOST_RUNS:
            return False
    if not numbers or min(numbers) < 0 or len(numbers) != 1 + 2 * numbers[0]:
        return False
    end = 0
    for offset, length in zip(numbers[1::2], numbers[2::2], strict=True):
        if offset < end or offset + length > member.size or where + length > stored_end:
            return False
        if length:
            member.runs.append((offset, where, length))
        where += length
        end = offset + length
    return True


def _records(data: bytes) -> dict[bytes, bytes] | None:
    """Return the records of a pax header; None if they are not well formed."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        length = _decimal(data[at:space], 0) if space > 0 else 0
        record = data[space + 1 : at + length]
        keyword, _, value = record.partition(b"=")
        if length < 5 or at + length > len(data) or value[-1:] != b"\n":
            return None
        found[keyword] = value[:-1]
        at += length
    return found


def _text(field_bytes: bytes) -> bytes:
    return field_bytes.partition(b"\0")[0]


def _number(field_bytes: bytes) -> int:
    if field_bytes[:1] == b"\x80":  # base 256, for numbers that are too long
        return int.from_bytes(field_bytes[1:], "big")
    return _octal(field_bytes) or 0


def _octal(field_bytes: bytes) -> int | None:
    """Return an octal number, 0 for an empty field; None for what is none, like a negative one."""
    digits = field_bytes.strip(b" \0")
    return None if digits.strip(_OCTAL) else int(digits or b"0", 8)


def _decimal(value: bytes | None, otherwise: int) -> int:
    if value is None or len(value) > _MOST_DIGITS or not value.isdigit():
        return otherwise
    return int(value)


def _time(value: bytes | None, otherwise: int) -> int:
    if value is None:
        return otherwise
    whole, _, fraction = value.lstrip(b"-").partition(b".")
    if len(whole) > _MOST_DIGITS or not whole.isdigit() or not (fraction or b"0").isdigit():
        return otherwise
    ns = int(whole) * 10**9 + int(fraction[:9].ljust(9, b"0") or b"0")
    ns = -ns if value.startswith(b"-") else ns
    return max(-_MOST_NS - 1, min(ns, _MOST_NS))


def _attributes(records: dict[bytes, bytes]) -> Iterator[tuple[bytes, bytes]]:
    for keyword, value in records.items():
        if keyword.startswith(b"SCHILY.xattr."):
            yield _unescaped(keyword[len(b"SCHILY.xattr.") :]), value
    for name, keyword in pax.ACL_KEYWORDS.items():
        if keyword in records and (acl := pax.acl_value(records[keyword])):
            yield name, acl


def _unescaped(name: bytes) -> bytes:
    return name.replace(b"%3D", b"=").replace(b"%25", b"%")
