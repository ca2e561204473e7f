"""Headers of the pax tar stream that is the content of a tree archive.

Owns: the bytes that stand before and behind the content of each member (spec section 6.11; POSIX.1
pax and ustar, the GNU sparse format 1.0, the attributes as star and GNU tar have them). Must not
know rows, units or files. Pure; safe in any thread.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

BLOCK_BYTES = 512
END = bytes(2 * BLOCK_BYTES)

TYPE_FILE = b"0"
TYPE_HARD_LINK = b"1"
TYPE_SYMLINK = b"2"
TYPE_CHARACTER_DEVICE = b"3"
TYPE_BLOCK_DEVICE = b"4"
TYPE_DIRECTORY = b"5"
TYPE_FIFO = b"6"
_TYPE_PAX = b"x"

_HEADER = struct.Struct("<100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
assert _HEADER.size == BLOCK_BYTES
_SIZE_AT = 124
_CHECKSUM_AT = 148
_CHECKSUM_BLANK = b"        "
_MAGIC = b"ustar\x0000"
# What a tar that does not know pax would call the records; others never use it.
_PAX_NAME = b"PaxHeaders/0"
_TEMPLATES = 1024
_Template = tuple[bytes, bytes, bytes, bytes, int]

_NAME_BYTES = 100
_PREFIX_BYTES = 155
_OWNER_NAME_BYTES = 31
_MOST_8 = 8**7 - 1  # seven octal digits
_MOST_12 = 8**11 - 1  # eleven octal digits

_NS = 10**9

_ACL_ACCESS = b"system.posix_acl_access"
_ACL_DEFAULT = b"system.posix_acl_default"
ACL_KEYWORDS = {_ACL_ACCESS: b"SCHILY.acl.access", _ACL_DEFAULT: b"SCHILY.acl.default"}
_ACL_VERSION = 2
_ACL_ENTRY = struct.Struct("<HHI")
_ACL_WORDS = {
    0x01: "user", 0x02: "user", 0x04: "group", 0x08: "group", 0x10: "mask", 0x20: "other",
}  # fmt: skip
_ACL_NAMED = (0x02, 0x08)


@dataclass(frozen=True, slots=True)
class TarMember:
    """What a tar header says.

    Attributes:
        path: from the root of the tree, as bytes; a directory's ends with a slash.
        type: one of the constants above.
        mode: permission bits, setuid, setgid and sticky.
        uid, gid: numbers of owner and group.
        user, group: their names; empty if they are not known.
        size: bytes of content that follow the header, without padding.
        mtime_ns: ns since 1970-01-01 UTC.
        link: target of a symbolic link, or path of the member that a hard link names.
        device: major and minor number.
        attributes: extended attributes, name and value.
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
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    attributes: Sequence[tuple[bytes, bytes]] = ()


def padding(size: int) -> int:
    """Return how many zeros follow `size` bytes of content."""
    return -size % BLOCK_BYTES


def encode_member(member: TarMember, records: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """Return the header of a member, after a pax header for what does not fit.

    Args:
        member: what it says.
        records: more pax records, keyword and value.
    """
    pax: list[tuple[bytes, bytes]] = []
    prefix, name = b"", member.path
    if len(name) > _NAME_BYTES:
        prefix, name = _split(name)
        if not name:
            pax.append((b"path", member.path))
            name = member.path[:_NAME_BYTES]
    link = member.link
    if len(link) > _NAME_BYTES:
        pax.append((b"linkpath", link))
        link = link[:_NAME_BYTES]
    seconds, ns = divmod(member.mtime_ns, _NS)
    if ns or not 0 <= seconds <= _MOST_12:
        pax.append((b"mtime", _decimal(member.mtime_ns)))
        seconds = min(max(seconds, 0), _MOST_12)
    size, uid, gid = member.size, member.uid, member.gid
    if size > _MOST_12:
        pax.append((b"size", b"%d" % size))
        size = 0
    if uid > _MOST_8:
        pax.append((b"uid", b"%d" % uid))
        uid = 0
    if gid > _MOST_8:
        pax.append((b"gid", b"%d" % gid))
        gid = 0
    user, group = member.user, member.group
    if len(user) > _OWNER_NAME_BYTES:
        pax.append((b"uname", user))
        user = b""
    if len(group) > _OWNER_NAME_BYTES:
        pax.append((b"gname", group))
        group = b""
    if member.attributes:
        pax += _attribute_records(member.attributes)
    pax += records  # behind the path: a later name of a sparse file is the true one
    major, minor = member.device
    header = _seal(
        _HEADER.pack(
            name, b"%07o" % member.mode, b"%07o" % uid, b"%07o" % gid, b"%011o" % size,
            b"%011o" % seconds, _CHECKSUM_BLANK, member.type, link, _MAGIC, user, group,
            _device_number(major), _device_number(minor), prefix,
        )
    )  # fmt: skip
    return _pax_header(pax) + header if pax else header


class FileHeaders:
    """Makes headers of files; what most of them share is made once. Belongs to one thread.

    Args:
        owner_names: gives the names of (uid, gid).
    """

    def __init__(self, owner_names: Callable[[int, int], tuple[bytes, bytes]]) -> None:
        self._owner_names = owner_names
        self._known: dict[tuple[int, int, int, int], _Template | None] = {}

    def plain(self, path: bytes, size: int, mode: int, uid: int, gid: int, mtime_ns: int) -> bytes:
        """Return the same as `encode_member` for a file that has no attributes."""
        key = (mode, uid, gid, mtime_ns)
        known = self._known.get(key)
        if known is None or len(path) > _NAME_BYTES or size > _MOST_12:
            user, group = self._owner_names(uid, gid)
            member = TarMember(path, TYPE_FILE, mode, uid, gid, user, group, size, mtime_ns)
            if known is None:
                self._note(key, member)
            return encode_member(member)
        pax, before, after, rest, checksum = known
        digits = b"%011o" % size
        return b"%b%b%b%b%b%06o\0 %b" % (
            pax, path.ljust(_NAME_BYTES, b"\0"), before, digits, after,
            checksum + sum(path) + sum(digits), rest,
        )  # fmt: skip

    def _note(self, key: tuple[int, int, int, int], member: TarMember) -> None:
        """Make a template from the second file on: many a time is that of one file alone."""
        if key in self._known:
            self._known[key] = _template(member)
            return
        if len(self._known) >= _TEMPLATES:
            self._known.clear()
        self._known[key] = None


def _template(member: TarMember) -> _Template:
    """Return what headers of files share.

    That is: the pax header, the bytes between path and size, those between size and checksum,
    those behind the checksum, and the checksum without path and size.
    """
    whole = encode_member(replace(member, path=b"", size=0))
    pax, header = whole[:-BLOCK_BYTES], whole[-BLOCK_BYTES:]
    checksum = int(header[_CHECKSUM_AT : _CHECKSUM_AT + 6], 8) - sum(b"%011o" % 0)
    return (
        pax,
        header[_NAME_BYTES:_SIZE_AT],
        header[_SIZE_AT + 11 : _CHECKSUM_AT],
        header[_CHECKSUM_AT + len(_CHECKSUM_BLANK) :],
        checksum,
    )


def encode_sparse(member: TarMember, runs: Sequence[tuple[int, int]]) -> bytes:
    """Return header and map of a file with holes, in the GNU sparse format 1.0.

    Args:
        member: its `size` is that of the file, holes included.
        runs: (offset in the file, length) of its data, sorted; they follow what is returned,
            back to back.
    """
    # A last run of no bytes tells a tar where a hole at the end ends.
    listed = list(runs)
    if not listed or sum(listed[-1]) < member.size:
        listed.append((member.size, 0))
    lines = [b"%d" % len(listed)]
    for offset, length in listed:
        lines += [b"%d" % offset, b"%d" % length]
    text = b"\n".join(lines) + b"\n"
    text += bytes(padding(len(text)))
    records = [
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", member.path),
        (b"GNU.sparse.realsize", b"%d" % member.size),
    ]
    folder, _, name = member.path.rpartition(b"/")
    stored = TarMember(
        (folder + b"/" if folder else b"") + b"GNUSparseFile.0/" + name,
        member.type, member.mode, member.uid, member.gid, member.user, member.group,
        len(text) + sum(length for _, length in runs), member.mtime_ns,
        attributes=member.attributes,
    )  # fmt: skip
    return encode_member(stored, records) + text


def _device_number(number: int) -> bytes:
    """Return part of a device number; in base 256 what is too long, since pax has no keyword."""
    if number <= _MOST_8:
        return b"%07o" % number
    return b"\x80" + number.to_bytes(7, "big")


def _split(path: bytes) -> tuple[bytes, bytes]:
    """Return prefix and name of the ustar header, both empty if the path does not fit."""
    at = path.find(b"/", len(path) - _NAME_BYTES - 1, _PREFIX_BYTES + 1)
    if at <= 0 or at == len(path) - 1:
        return b"", b""
    return path[:at], path[at + 1 :]


def _seal(header: bytes) -> bytes:
    """Return a header with its checksum filled in."""
    checksum = b"%06o\0 " % sum(header)
    return header[:_CHECKSUM_AT] + checksum + header[_CHECKSUM_AT + len(checksum) :]


def _pax_header(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    data = b"".join(_record(keyword, value) for keyword, value in records)
    return _pax_block(len(data)) + data + bytes(padding(len(data)))


@lru_cache(maxsize=256)
def _pax_block(size: int) -> bytes:
    """Return the header of `size` bytes of pax records."""
    assert size <= _MOST_12, "attributes are bounded"
    return _seal(
        _HEADER.pack(
            _PAX_NAME, b"0000644", b"0000000", b"0000000", b"%011o" % size,
            b"00000000000", _CHECKSUM_BLANK, _TYPE_PAX, b"", _MAGIC, b"", b"",
            b"0000000", b"0000000", b"",
        )
    )  # fmt: skip


def _record(keyword: bytes, value: bytes) -> bytes:
    """Return one record, which begins with its own length in decimal."""
    rest = len(keyword) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) != len(str(rest)):
        length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, keyword, value)


def _decimal(ns: int) -> bytes:
    """Return a time in seconds, as pax writes it."""
    sign = b"-" if ns < 0 else b""
    seconds, rest = divmod(abs(ns), _NS)
    return sign + (b"%d.%09d" % (seconds, rest)).rstrip(b"0").rstrip(b".")


def _attribute_records(
    attributes: Iterable[tuple[bytes, bytes]],
) -> Iterable[tuple[bytes, bytes]]:
    for name, value in attributes:
        if name in ACL_KEYWORDS:
            if text := acl_text(value):
                yield ACL_KEYWORDS[name], text
            continue
        escaped = name.replace(b"%", b"%25").replace(b"=", b"%3D")
        yield b"SCHILY.xattr." + escaped, value


def acl_value(text: bytes) -> bytes:
    """Return what the kernel would give for an ACL in the text form of `acl_text`; or nothing."""
    entries: list[tuple[int, int, int]] = []
    for word in text.split(b","):
        parts = word.decode("latin-1").split(":")
        if len(parts) != 3 or not (parts[1] or "0").isdecimal() or len(parts[1]) > 10:
            return b""
        tags = [
            tag
            for tag, known in _ACL_WORDS.items()
            if known == parts[0] and (tag in _ACL_NAMED) is bool(parts[1])
        ]
        if not tags:
            return b""
        bits = sum(bit for letter, bit in (("r", 4), ("w", 2), ("x", 1)) if letter in parts[2])
        entries.append((tags[0], bits, min(int(parts[1] or 2**32 - 1), 2**32 - 1)))
    return _ACL_VERSION.to_bytes(4, "little") + b"".join(
        _ACL_ENTRY.pack(*entry) for entry in entries
    )


def acl_text(value: bytes) -> bytes:
    """Return a POSIX ACL, as the kernel gives it, in its text form with numbers.

    Empty where `value` is no ACL of the version that Linux has: then no tar could use it.
    """
    if len(value) < 4 or (len(value) - 4) % _ACL_ENTRY.size:
        return b""
    if int.from_bytes(value[:4], "little") != _ACL_VERSION:
        return b""
    words: list[str] = []
    for tag, bits, number in _ACL_ENTRY.iter_unpack(value[4:]):
        if tag not in _ACL_WORDS:
            return b""
        name = number if tag in _ACL_NAMED else ""
        rights = "".join(
            letter if bits & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1))
        )
        words.append(f"{_ACL_WORDS[tag]}:{name}:{rights}")
    return ",".join(words).encode()
