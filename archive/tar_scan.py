"""Reads the headers of a tar stream that may be damaged: what is left without a catalogue.

Owns: decoding of what `pax` encodes, and finding the next header behind damage. Must not know
units or files. Pure; safe in any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from . import pax

_PAX_TYPES = (b"x", b"g")
_MOST_PAX_BYTES = 64 * 1024 * 1024
_SCAN_BYTES = 1024 * 1024
_MAGIC_AT = 257
_CHECKSUM = slice(148, 156)
_BLANK = b"        "
_SPARSE_MOST_RUNS = 1_000_000
_MOST_DIGITS = 20

ReadContent = Callable[[int, int], tuple[bytes, bool]]
"""Gives `size` bytes of content from an offset on, and whether all of them are intact."""


@dataclass(slots=True)
class Scanned:
    """A member that was found; lengths in bytes, times in ns.

    Attributes:
        path: as the header has it, without slashes at its ends.
        type: one of the types of `pax`.
        mode, uid, gid, user, group, mtime_ns, link, device: as `pax.TarMember` has them.
        size: length of the file, holes included.
        runs: (offset in the file, content offset, length) of its data.
        attributes: extended attributes, sorted by name, ACLs among them.
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


def scan_tar(read: ReadContent, content_bytes: int) -> Iterator[Scanned]:
    """Yield the members whose headers are intact, in the order of the content.

    Where a header is damaged, goes on at the next block that is one. A file of the tree that is a
    tar itself may be taken for a part of the stream there, if its own header is lost.

    Args:
        read: reads content.
        content_bytes: length of the content.
    """
    at = 0
    records: dict[bytes, bytes] = {}
    while at + pax.BLOCK_BYTES <= content_bytes:
        block, intact = read(at, pax.BLOCK_BYTES)
        if not intact or not is_header(block):
            records = {}
            at = _next_header(read, at + (pax.BLOCK_BYTES if intact else 1), content_bytes)
            continue
        size = _number(block[124:136])
        kind = block[156:157]
        at += pax.BLOCK_BYTES
        if kind in _PAX_TYPES:
            data, intact = read(at, size) if size <= _MOST_PAX_BYTES else (b"", False)
            records = _records(data) if intact and kind == b"x" else {}
            if intact:
                at += size + pax.padding(size)
            continue
        stored = _decimal(records.get(b"size"), size)
        member = _member(block, records)
        if b"GNU.sparse.major" in records:
            if not _sparse(read, at, stored, member, records):
                member.runs = []
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
    if block[_MAGIC_AT : _MAGIC_AT + 6] != b"ustar\0":
        return False
    try:
        said = int(block[_CHECKSUM].strip(b" \0"), 8)
    except ValueError:
        return False
    return said == sum(block) - sum(block[_CHECKSUM]) + sum(_BLANK)


def _next_header(read: ReadContent, at: int, content_bytes: int) -> int:
    """Return where the next block that is a header stands, at `at` or behind."""
    at += pax.padding(at)
    while at < content_bytes:
        data, _ = read(at, min(_SCAN_BYTES, content_bytes - at))
        found = -1
        while (found := data.find(b"ustar\0", found + 1)) >= 0:
            start = found - _MAGIC_AT
            block = data[start : start + pax.BLOCK_BYTES] if start >= 0 else b""
            if not start % pax.BLOCK_BYTES and len(block) == pax.BLOCK_BYTES and is_header(block):
                return at + start
        at += len(data)
    return content_bytes


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
        mtime_ns=_time(records.get(b"mtime"), seconds * 10**9),
        link=records.get(b"linkpath", _text(block[157:257])),
        device=(_number(block[329:337]) % 2**32, _number(block[337:345]) % 2**32),
        attributes=sorted(_attributes(records)),
    )


def _sparse(
    read: ReadContent, at: int, stored: int, member: Scanned, records: dict[bytes, bytes]
) -> bool:
    """Fill in the runs of a sparse file from its map; return whether that is intact."""
    member.type = pax.TYPE_FILE
    member.size = _decimal(records.get(b"GNU.sparse.realsize"), 0)
    numbers: list[int] = []
    left = b""
    where = at
    while where < at + stored:
        block, intact = read(where, pax.BLOCK_BYTES)
        where += pax.BLOCK_BYTES
        if not intact:
            return False
        *lines, left = (left + block).split(b"\n")
        numbers += [_decimal(line, -1) for line in lines]
        if numbers and (len(numbers) > 2 * numbers[0] or numbers[0] > _SPARSE_MOST_RUNS):
            break
    if not numbers or min(numbers) < 0 or len(numbers) != 1 + 2 * numbers[0]:
        return False
    end = 0
    for offset, length in zip(numbers[1::2], numbers[2::2], strict=True):
        if offset < end or offset + length > member.size or where + length > at + stored + 512:
            return False
        if length:
            member.runs.append((offset, where, length))
        where += length
        end = offset + length
    return True


def _records(data: bytes) -> dict[bytes, bytes]:
    """Return the records of a pax header; none of them if they are not well formed."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        length = _decimal(data[at:space], 0) if space > 0 else 0
        record = data[space + 1 : at + length]
        keyword, equals, value = record.partition(b"=")
        if length < 5 or at + length > len(data) or not equals or value[-1:] != b"\n":
            return {}
        found[keyword] = value[:-1]
        at += length
    return found


def _text(field_bytes: bytes) -> bytes:
    return field_bytes.partition(b"\0")[0]


def _number(field_bytes: bytes) -> int:
    if field_bytes[:1] == b"\x80":  # base 256, for numbers that are too long
        return int.from_bytes(field_bytes[1:], "big")
    try:
        return int(field_bytes.strip(b" \0") or b"0", 8)
    except ValueError:
        return 0


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
    return max(-(2**63), min(ns, 2**63 - 1))


def _attributes(records: dict[bytes, bytes]) -> Iterator[tuple[bytes, bytes]]:
    for keyword, value in records.items():
        if keyword.startswith(b"SCHILY.xattr."):
            yield _unescaped(keyword[len(b"SCHILY.xattr.") :]), value
    for name, keyword in pax.ACL_KEYWORDS.items():
        if keyword in records and (acl := pax.acl_value(records[keyword])):
            yield name, acl


def _unescaped(name: bytes) -> bytes:
    return name.replace(b"%3D", b"=").replace(b"%25", b"%")
