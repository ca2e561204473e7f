"""Headers of the tar stream: every field around what fits, as two other readers read them."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.archive import pax
from onggi.archive.pax import (
    FileHeaders,
    TarMember,
    acl_text,
    acl_value,
    encode_member,
    encode_sparse,
)

from .tree_helpers import NS, open_tar, tar_time_ns

BLOCK = 512
MOST_ID = 8**7 - 1
MOST_SIZE = 8**11 - 1
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.environ["PATH"]}


def member(path: bytes = b"name", type: bytes = pax.TYPE_FILE, **fields: object) -> TarMember:
    """Return a member; an empty file if nothing else is said."""
    known: dict[str, object] = {
        "mode": 0o644, "uid": 1, "gid": 2, "user": b"user", "group": b"group", "size": 0,
        "mtime_ns": 5 * NS,
    }  # fmt: skip
    return TarMember(path, type, **(known | fields))  # type: ignore[arg-type]


def first(data: bytes) -> tarfile.TarInfo:
    """Return the first member that Python reads."""
    with open_tar(data + pax.END) as tar:
        found = tar.next()
    assert found is not None
    return found


def records(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the pax records before a header, read as POSIX says, with every rule checked."""
    if data[156:157] != b"x":
        return []
    size = int(data[124:135], 8)
    rest = data[BLOCK : BLOCK + size]
    assert not any(data[BLOCK + size : -BLOCK]), "padding is zeros"
    assert len(data) == 2 * BLOCK + size + pax.padding(size)
    found: list[tuple[bytes, bytes]] = []
    while rest:
        digits, space, _ = rest.partition(b" ")
        assert space
        assert not digits.startswith(b"0")
        record, rest = rest[: int(digits)], rest[int(digits) :]
        assert len(record) == int(digits)
        assert record.endswith(b"\n")
        keyword, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        assert equals
        found.append((keyword, value))
    return found


def checked(header: bytes) -> bytes:
    """Return a ustar header whose checksum and fixed fields were checked."""
    assert len(header) == BLOCK
    blanked = header[:148] + b" " * 8 + header[156:]
    assert int(header[148:154], 8) == sum(blanked)
    assert header[154:156] == b"\0 "
    assert header[257:265] == b"ustar\x0000"
    return header


def keywords(data: bytes) -> list[bytes]:
    """Return the keywords of the pax records of a member; its headers are well formed."""
    checked(data[-BLOCK:])
    if len(data) > BLOCK:
        checked(data[:BLOCK])
    return [keyword for keyword, _ in records(data)]


def listed(tmp_path: Path, data: bytes, *options: str, size: int = 0) -> list[bytes]:
    """Return what GNU tar lists of one member, whose content is a hole of `size` bytes."""
    file = tmp_path / "x.tar"
    file.write_bytes(data)
    os.truncate(file, len(data) + size + pax.padding(size) + len(pax.END))
    command = ["tar", "--numeric-owner", "--full-time", "--quoting-style=literal", *options]
    done = subprocess.run(
        [*command, "-tvvf", file], capture_output=True, check=True, env=ENVIRONMENT
    )
    assert done.stderr == b""
    return done.stdout.splitlines()


# --- paths ---------------------------------------------------------------------------------------

PATHS = [
    (b"n" * 100, True),
    (b"n" * 101, False),
    (b"d/" + b"n" * 98, True),  # 100 in one piece
    (b"d/" + b"n" * 99, True),  # the prefix is `d`
    (b"d/" + b"n" * 100, True),
    (b"d/" + b"n" * 101, False),
    (b"p" * 154 + b"/" + b"n" * 100, True),
    (b"p" * 155 + b"/" + b"n" * 99, True),
    (b"p" * 155 + b"/" + b"n" * 100, True),
    (b"p" * 155 + b"/" + b"n" * 101, False),
    (b"p" * 156 + b"/" + b"n" * 100, False),
    (b"p" * 156 + b"/n", False),
    (b"p/" * 77 + b"q/" + b"n" * 100, True),  # 155 before the slash, which is the last that fits
    (b"p/" * 78 + b"q/" + b"n" * 98, True),
    (b"p/" * 78 + b"q/" + b"n" * 99, False),
    (b"p/" * 128, True),
    (b"p/" * 127 + b"pp", True),
    (b"p/" * 128 + b"p", False),
    (b"d/" * 50, True),
    (b"d/" * 50 + b"d", True),
    (b"n" * 99 + b"/", True),
    (b"n" * 100 + b"/", False),  # the only slash is the last one
    (b"d/" + b"n" * 99 + b"/", True),
    (b"d/" + b"n" * 100 + b"/", False),
    (b"p" * 155 + b"/" + b"n" * 99 + b"/", True),
    (b"p" * 155 + b"/" + b"n" * 100 + b"/", False),
    (b"./", True),
    ("\u00e9".encode() * 50, True),
    (b"\xff" * 101, False),
    (b"line\nbreak = 5 %", True),
    (b"\n12 path=x\n" * 10, False),
]


@pytest.mark.parametrize(("path", "fits"), PATHS, ids=lambda value: f"{str(value)[:12]}")
def test_a_path_stands_in_the_header_where_it_fits(path: bytes, fits: bool) -> None:
    kind = pax.TYPE_DIRECTORY if path.endswith(b"/") else pax.TYPE_FILE
    data = encode_member(member(path, kind))
    assert keywords(data) == ([] if fits else [b"path"])
    assert os.fsencode(first(data).name) == path.rstrip(b"/")
    if fits:
        name, prefix = data[:100].rstrip(b"\0"), data[345:500].rstrip(b"\0")
        assert (prefix + b"/" + name if prefix else name) == path
    assert data[500:BLOCK] == bytes(12)


@pytest.mark.needs("tar")
def test_gnu_tar_reads_the_same_paths(tmp_path: Path) -> None:
    whole = b""
    for path, _ in PATHS:
        kind = pax.TYPE_DIRECTORY if path.endswith(b"/") else pax.TYPE_FILE
        whole += encode_member(member(path, kind))
    (tmp_path / "x.tar").write_bytes(whole + pax.END)
    done = subprocess.run(
        ["tar", "--quoting-style=literal", "-tf", tmp_path / "x.tar"],
        capture_output=True, check=True, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.stdout == b"".join(path + b"\n" for path, _ in PATHS)


@given(parts=st.lists(st.integers(1, 130), min_size=1, max_size=8), is_folder=st.booleans())
def test_a_path_of_any_shape_is_read_as_it_was(parts: list[int], is_folder: bool) -> None:
    path = b"/".join(bytes([97 + n]) * size for n, size in enumerate(parts))
    data = encode_member(
        member(path + b"/" * is_folder, pax.TYPE_DIRECTORY if is_folder else pax.TYPE_FILE)
    )
    assert os.fsencode(first(data).name) == path
    whole = path + b"/" * is_folder
    splits = [at for at, byte in enumerate(whole) if byte == 47]
    possible = len(whole) <= 100 or any(
        0 < at <= 155 and 1 <= len(whole) - at - 1 <= 100 for at in splits
    )
    assert keywords(data) == ([] if possible else [b"path"])


# --- numbers, names, times -----------------------------------------------------------------------


@pytest.mark.needs("tar")
@pytest.mark.parametrize(
    ("field", "number", "keyword"),
    [
        ("size", 0, None),
        ("size", MOST_SIZE - 1, None),
        ("size", MOST_SIZE, None),
        ("size", MOST_SIZE + 1, b"size"),
        ("uid", MOST_ID - 1, None),
        ("uid", MOST_ID, None),
        ("uid", MOST_ID + 1, b"uid"),
        ("uid", 2**32 - 1, b"uid"),
        ("gid", MOST_ID - 1, None),
        ("gid", MOST_ID, None),
        ("gid", MOST_ID + 1, b"gid"),
        ("gid", 2**32 - 2, b"gid"),
    ],
)
def test_a_number_stands_in_the_header_where_it_fits(
    field: str, number: int, keyword: bytes | None, tmp_path: Path
) -> None:
    item = replace(member(), **{field: number})  # type: ignore[arg-type]
    data = encode_member(item)
    assert keywords(data) == ([keyword] if keyword else [])
    assert getattr(first(data), field) == number
    line = listed(tmp_path, data, size=item.size)[0].split()
    assert line[1] == b"%d/%d" % (item.uid, item.gid)
    assert int(line[2]) == item.size


@pytest.mark.parametrize("mode", [0, 0o644, 0o4755, 0o7777])
def test_a_mode_stands_in_the_header(mode: int) -> None:
    data = encode_member(member(mode=mode))
    assert keywords(data) == []
    assert first(data).mode == mode


@pytest.mark.parametrize(
    ("field", "keyword", "shown"), [("user", b"uname", "uname"), ("group", b"gname", "gname")]
)
@pytest.mark.parametrize(
    ("name", "fits"),
    [(b"", True), (b"n" * 31, True), (b"n" * 32, False), (b"n" * 255, False),
     ("\u4e2d".encode() * 10, True), (b"\xff" * 33, False)],
)  # fmt: skip
def test_an_owner_stands_in_the_header_where_it_fits(
    field: str, keyword: bytes, shown: str, name: bytes, fits: bool
) -> None:
    data = encode_member(member(**{field: name}))
    assert keywords(data) == ([] if fits else [keyword])
    assert os.fsencode(getattr(first(data), shown)) == name
    at = 265 if field == "user" else 297
    assert data[-BLOCK:][at + 31] == 0, "some tars take the field for a string with its end"


@pytest.mark.parametrize(
    ("link", "fits"),
    [(b"t", True), (b"t" * 99, True), (b"t" * 100, True), (b"t" * 101, False), (b"../" * 40, False),
     (b"t" * 4095, False), (b"/a/" + b"\xfe" * 200, False)],
)  # fmt: skip
@pytest.mark.parametrize("kind", [pax.TYPE_SYMLINK, pax.TYPE_HARD_LINK])
def test_a_link_stands_in_the_header_where_it_fits(kind: bytes, link: bytes, fits: bool) -> None:
    data = encode_member(member(type=kind, link=link))
    assert keywords(data) == ([] if fits else [b"linkpath"])
    assert os.fsencode(first(data).linkname) == link


@pytest.mark.needs("tar")
@pytest.mark.parametrize("kind", [pax.TYPE_CHARACTER_DEVICE, pax.TYPE_BLOCK_DEVICE])
@pytest.mark.parametrize("device", [(0, 0), (8, 1), (4095, 2**20 - 1), (MOST_ID, MOST_ID)])
def test_a_device_stands_in_the_header(
    kind: bytes, device: tuple[int, int], tmp_path: Path
) -> None:
    data = encode_member(member(type=kind, device=device))
    assert keywords(data) == []
    found = first(data)
    assert (found.devmajor, found.devminor) == device
    assert found.type == kind
    assert listed(tmp_path, data)[0].split()[2] == b"%d,%d" % device


def test_a_device_beyond_the_header_is_in_base_256() -> None:
    """Linux has none of them: 12 bits and 20 bits are all. Pax has no keyword for it."""
    for device in ((MOST_ID + 1, 0), (0, MOST_ID + 1), (2**31, 2**32 - 1)):
        data = encode_member(member(type=pax.TYPE_BLOCK_DEVICE, device=device))
        assert keywords(data) == []
        found = first(data)
        assert (found.devmajor, found.devminor) == device


@pytest.mark.needs("tar")
@pytest.mark.parametrize(
    ("mtime_ns", "text"),
    [
        (0, None),
        (NS, None),
        (1, b"0.000000001"),
        (NS + 500_000_000, b"1.5"),
        (999_999_999, b"0.999999999"),
        (10 * NS + 10, b"10.00000001"),
        (100 * NS, None),
        (-1, b"-0.000000001"),
        (-NS + 1, b"-0.999999999"),
        (-NS, b"-1"),
        (-NS - 1, b"-1.000000001"),
        (-100 * NS, b"-100"),
        (2**31 * NS - 1, b"2147483647.999999999"),
        (2**31 * NS, None),
        (MOST_SIZE * NS, None),
        (MOST_SIZE * NS + 1, b"8589934591.000000001"),
        ((MOST_SIZE + 1) * NS, b"8589934592"),
        (2**63 - 1, b"9223372036.854775807"),
        (-(2**63), b"-9223372036.854775808"),
        (2**66 * NS, b"73786976294838206464"),
    ],
)
def test_a_time_stands_in_the_header_where_it_fits(
    mtime_ns: int, text: bytes | None, tmp_path: Path
) -> None:
    data = encode_member(member(mtime_ns=mtime_ns))
    assert dict(records(data)).get(b"mtime") == text
    assert tar_time_ns(first(data)) == mtime_ns
    # The ustar field holds the nearest time for those that know no pax.
    assert int(data[-BLOCK:][136:147], 8) == min(max(mtime_ns // NS, 0), MOST_SIZE)
    if -(2**31) <= mtime_ns // NS < 2**31:  # what every file system has
        subprocess.run(
            ["tar", "-C", tmp_path, "-xf", "-"],
            input=data + pax.END, check=True, env=ENVIRONMENT, capture_output=True,
        )  # fmt: skip
        assert (tmp_path / "name").stat().st_mtime_ns == mtime_ns


@given(mtime_ns=st.integers(-(2**63), 2**63 - 1))
def test_any_time_is_read_as_it_was(mtime_ns: int) -> None:
    assert tar_time_ns(first(encode_member(member(mtime_ns=mtime_ns)))) == mtime_ns


def test_many_fields_that_do_not_fit_are_all_given() -> None:
    item = member(
        b"n" * 300, pax.TYPE_SYMLINK, uid=2**31, gid=2**30, user=b"u" * 99, group=b"g" * 98,
        mtime_ns=-5, link=b"t" * 500, attributes=[(b"user.a", b"b")],
    )  # fmt: skip
    data = encode_member(item)
    expected = [b"path", b"linkpath", b"mtime", b"uid", b"gid", b"uname", b"gname"]
    assert keywords(data) == [*expected, b"SCHILY.xattr.user.a"]
    found = first(data)
    assert (found.name, found.linkname) == ("n" * 300, "t" * 500)
    assert (found.uid, found.gid, found.uname, found.gname) == (2**31, 2**30, "u" * 99, "g" * 98)
    assert tar_time_ns(found) == -5


@pytest.mark.parametrize(
    "length", [*range(1, 30), *range(80, 110), *range(980, 1010), 9990, 99_990]
)
def test_a_record_of_any_length_counts_itself(length: int) -> None:
    """The length has more digits from 10, 100, 1000 on, and counts them too."""
    for more in range(12):
        value = b"v" * (length + more)
        data = encode_member(member(), [(b"a", value)])
        assert records(data) == [(b"a", value)]
        assert first(data).pax_headers == {"a": value.decode()}


# --- attributes and ACLs -------------------------------------------------------------------------

ATTRIBUTES = [
    (b"user.plain", b"value"),
    (b"user.empty", b""),
    (b"user.a=b", b"c=d"),
    (b"user.50%", b"%25%"),
    (b"user.%3D=%25", b"\n12 path=other\n"),
    (b"security.capability", b"\1\0\0\2" + bytes(16)),
    (b"user." + "\u4e2d".encode(), b"\xff\0\xfe"),
    (b"user.long", b"x" * 65_536),
]


def test_attributes_have_names_without_equals_signs() -> None:
    data = encode_member(member(attributes=ATTRIBUTES))
    assert keywords(data) == [
        b"SCHILY.xattr.user.plain",
        b"SCHILY.xattr.user.empty",
        b"SCHILY.xattr.user.a%3Db",
        b"SCHILY.xattr.user.50%25",
        b"SCHILY.xattr.user.%253D%3D%2525",
        b"SCHILY.xattr.security.capability",
        b"SCHILY.xattr.user." + "\u4e2d".encode(),
        b"SCHILY.xattr.user.long",
    ]
    assert [value for _, value in records(data)] == [value for _, value in ATTRIBUTES]
    read = first(data).pax_headers
    assert read["SCHILY.xattr.user.a%3Db"] == "c=d"
    assert read["SCHILY.xattr.user.long"] == "x" * 65_536
    assert first(data).name == "name"


@pytest.mark.needs("tar")
def test_gnu_tar_lists_the_attributes_by_their_names(tmp_path: Path) -> None:
    data = encode_member(member(attributes=ATTRIBUTES[:7]))
    lines = listed(tmp_path, data, "--xattrs", "--xattrs-include=*")
    assert [line.split(b"x: ")[1] for line in lines[1:]] == [
        b"%d %b" % (len(value), name) for name, value in ATTRIBUTES[:7]
    ]


@pytest.mark.needs("tar")
def test_gnu_tar_restores_the_attributes(tmp_path: Path) -> None:
    probe = tmp_path / "probe"
    probe.touch()
    kept = [(name, value) for name, value in ATTRIBUTES[:5] if _has_attribute(probe, name, value)]
    (tmp_path / "x.tar").write_bytes(encode_member(member(attributes=kept)) + pax.END)
    subprocess.run(
        ["tar", "--xattrs", "--xattrs-include=*", "-xf", "x.tar"],
        cwd=tmp_path, check=True, env=ENVIRONMENT,
    )  # fmt: skip
    found = tmp_path / "name"
    assert [
        (os.fsencode(name), os.getxattr(found, name)) for name in sorted(os.listxattr(found))
    ] == (sorted(kept))


def _has_attribute(probe: Path, name: bytes, value: bytes) -> bool:
    try:
        os.setxattr(probe, name, value)
    except OSError:
        return False
    return True


def acl(*entries: tuple[int, int, int], version: int = 2) -> bytes:
    """Return an ACL as the kernel gives it: (tag, rights, number)."""
    return struct.pack("<I", version) + b"".join(struct.pack("<HHI", *each) for each in entries)


NONE = 2**32 - 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (acl((1, 6, NONE), (4, 4, NONE), (32, 0, NONE)), b"user::rw-,group::r--,other::---"),
        (
            acl((1, 7, NONE), (2, 5, 0), (2, 1, 2**32 - 2), (4, 0, NONE), (8, 2, 100),
                (16, 7, NONE), (32, 4, NONE)),
            b"user::rwx,user:0:r-x,user:4294967294:--x,group::---,group:100:-w-,mask::rwx,"
            b"other::r--",
        ),
        (acl((1, 0xFFFF, NONE)), b"user::rwx"),
        (acl(), b""),
        (b"", b""),
        (b"\2\0\0", b""),
        (acl((1, 6, NONE))[:-1], b""),
        (acl((1, 6, NONE)) + b"\0", b""),
        (acl((1, 6, NONE), version=1), b""),
        (acl((1, 6, NONE), version=3), b""),
        (acl((64, 6, NONE)), b""),
        (acl((1, 6, NONE), (3, 6, 1)), b""),
    ],
)  # fmt: skip
def test_an_acl_has_the_text_of_getfacl(value: bytes, text: bytes) -> None:
    assert acl_text(value) == text
    for name, keyword in (
        (b"system.posix_acl_access", b"SCHILY.acl.access"),
        (b"system.posix_acl_default", b"SCHILY.acl.default"),
    ):
        data = encode_member(member(attributes=[(name, value), (b"user.z", b"")]))
        expected = [(keyword, text)] if text else []
        assert records(data) == [*expected, (b"SCHILY.xattr.user.z", b"")]


_ENTRIES = st.one_of(
    st.tuples(st.sampled_from([1, 4, 16, 32]), st.integers(0, 7), st.just(NONE)),
    st.tuples(st.sampled_from([2, 8]), st.integers(0, 7), st.integers(0, NONE)),
)


@given(entries=st.lists(_ENTRIES, min_size=1, max_size=9))
def test_an_acl_is_read_back_from_its_text(entries: list[tuple[int, int, int]]) -> None:
    assert acl_value(acl_text(acl(*entries))) == acl(*entries)


@pytest.mark.parametrize(
    "text",
    [
        b"", b",", b"user", b"user:", b"user::rwx,", b"user::rwx:", b"nobody::rwx", b"USER::r--",
        b"user:root:rwx", b"user:-1:rwx", b"user:0x1:rwx", b"user:12345678901:rwx",
        b"user:\xb2:rwx", b"mask:5:rwx", b"other:0:rwx", b"user: 1:rwx",
    ],
)  # fmt: skip
def test_a_text_that_is_no_acl_gives_nothing(text: bytes) -> None:
    assert acl_value(text) == b""


def test_a_number_in_the_text_of_an_acl_is_bounded() -> None:
    assert acl_value(b"user:9999999999:r--") == acl((2, 4, NONE))


def test_a_member_whose_only_attribute_is_no_acl_has_no_record() -> None:
    data = encode_member(member(attributes=[(b"system.posix_acl_access", b"?")]))
    assert len(data) == BLOCK


@pytest.mark.needs("setfacl", "getfacl")
@pytest.mark.parametrize(
    "rules",
    [
        "u::rw,g::r,o::-",
        "u::rwx,u:0:rx,u:12345:-,u:4294967294:w,g::x,g:54321:rwx,m::rx,o::r",
        "u::-,g::-,g:7:r,m::-,o::-",
    ],
)
@pytest.mark.parametrize("default", [False, True])
def test_real_acls_have_the_text_of_getfacl(rules: str, default: bool, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    kind = ["-d"] if default else []
    subprocess.run(["setfacl", *kind, "-m", rules, folder], check=True)
    shown = subprocess.run(
        ["getfacl", "-n", "-c", "-E", "-p", *(kind or ["-a"]), folder],
        capture_output=True, check=True,
    )  # fmt: skip
    lines = [line.removeprefix(b"default:") for line in shown.stdout.split(b"\n") if line]
    name = "system.posix_acl_default" if default else "system.posix_acl_access"
    try:
        value = os.getxattr(folder, name)
    except OSError:
        # An ACL that a mode can say is kept in the mode alone.
        assert not default
        assert rules.startswith("u::rw,g::r,o::-")
        return
    assert acl_text(value) == b",".join(lines)


@pytest.mark.needs("tar")
def test_gnu_tar_lists_acls(tmp_path: Path) -> None:
    value = acl((1, 6, NONE), (2, 4, 1234), (4, 4, NONE), (16, 4, NONE), (32, 0, NONE))
    data = encode_member(member(attributes=[(b"system.posix_acl_access", value)]))
    lines = listed(tmp_path, data, "--acls")
    assert lines[1].split() == [b"a:", b"user::rw-,user:1234:r--,group::r--,mask::r--,other::---"]


# --- files in bulk -------------------------------------------------------------------------------


_FILES = st.builds(
    lambda path, mode, uid, gid, size, mtime_ns: member(
        path, mode=mode, uid=uid, gid=gid, user=names_of(uid, gid)[0], group=names_of(uid, gid)[1],
        size=size, mtime_ns=mtime_ns,
    ),
    path=st.one_of(st.binary(min_size=1, max_size=120), st.sampled_from([p for p, _ in PATHS])),
    mode=st.sampled_from([0, 0o644, 0o7777]),
    uid=st.sampled_from([0, 1, MOST_ID, MOST_ID + 1, 2**32 - 1]),
    gid=st.sampled_from([0, 1000, MOST_ID, MOST_ID + 1]),
    size=st.one_of(
        st.integers(0, 99_999), st.sampled_from([MOST_SIZE - 1, MOST_SIZE, MOST_SIZE + 1, 2**62])
    ),
    mtime_ns=st.one_of(
        st.sampled_from([0, 1, -1, 5 * NS, MOST_SIZE * NS, (MOST_SIZE + 1) * NS]),
        st.integers(-(2**63), 2**63 - 1),
    ),
)  # fmt: skip


def names_of(uid: int, gid: int) -> tuple[bytes, bytes]:
    """Return the names of a user and a group; some are too long for a header."""
    return b"u%d" % uid * (uid % 9), b"g%d" % gid


def plain(headers: FileHeaders, file: TarMember) -> bytes:
    """Return the header of a file as it is made in bulk."""
    return headers.plain(file.path, file.size, file.mode, file.uid, file.gid, file.mtime_ns)


@given(files=st.lists(_FILES, max_size=8), order=st.randoms(use_true_random=False))
def test_headers_of_files_in_bulk_are_the_same(
    files: list[TarMember], order: random.Random
) -> None:
    headers = FileHeaders(names_of)
    # Also with what else was asked for before, for the first, second and third time.
    mixed = [replace(one, path=other.path, size=other.size) for one in files for other in files]
    for file in order.sample(mixed * 3, k=len(mixed) * 3):
        assert plain(headers, file) == encode_member(file)


def test_headers_of_files_are_the_same_after_more_kinds_of_them_than_are_kept() -> None:
    headers = FileHeaders(names_of)
    chance = random.Random(1)
    user, group = names_of(1, 2)
    for number in [*range(1500), *range(1500), *range(2100)]:
        file = member(
            b"f%d" % number, mtime_ns=number * NS, size=chance.randrange(9000), user=user,
            group=group,
        )  # fmt: skip
        assert plain(headers, file) == encode_member(file)


# --- sparse files --------------------------------------------------------------------------------


def sparse(
    size: int, runs: Sequence[tuple[int, int]], path: bytes = b"d/name"
) -> tuple[bytes, bytes]:
    """Return the tar of a file with holes, and its content."""
    content = bytearray(size)
    stored = b""
    for number, (offset, length) in enumerate(runs):
        content[offset : offset + length] = data = bytes([65 + number % 26]) * length
        stored += data
    header = encode_sparse(member(path, size=size, mtime_ns=7 * NS + 1), runs)
    assert len(header) % BLOCK == 0
    after = encode_member(member(b"after"))
    return header + stored + bytes(pax.padding(len(stored))) + after + pax.END, bytes(content)


@st.composite
def _maps(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    at = 0
    runs: list[tuple[int, int]] = []
    for hole, length in draw(
        st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 3000)), max_size=40)
    ):
        hole = max(hole, bool(runs))
        runs.append((at + hole, length))
        at += hole + length
    return at + draw(st.sampled_from([0, 1, 511, 512, 5000])), runs


@given(shape=_maps())
def test_python_reads_a_file_with_holes(shape: tuple[int, list[tuple[int, int]]]) -> None:
    size, runs = shape
    data, content = sparse(size, runs)
    with open_tar(data) as tar:
        found, after = tar.getmembers()
        assert (found.name, found.size, after.name) == ("d/name", size, "after")
        assert tar_time_ns(found) == 7 * NS + 1
        file = tar.extractfile(found)
        assert file is not None
        assert file.read() == content


SHAPES: list[tuple[int, list[tuple[int, int]]]] = [
    (0, []),
    (1, []),
    (5000, []),
    (5000, [(0, 1)]),
    (5000, [(4999, 1)]),
    (5000, [(0, 512), (4608, 392)]),
    (100_000, [(at, 512) for at in range(0, 100_000, 1024)]),  # a map of more than one block
    (8**11 + 5, [(8**11, 5)]),
]


@pytest.mark.needs("tar")
@pytest.mark.parametrize(("size", "runs"), SHAPES, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize(
    "path",
    [b"name", b"d/name", b"d/" * 60 + b"n" * 99, b"n" * 200],
    ids=["plain", "in", "deep", "long"],
)
def test_gnu_tar_restores_a_file_with_holes(
    size: int, runs: list[tuple[int, int]], path: bytes, tmp_path: Path
) -> None:
    header = encode_sparse(member(path, size=size, mtime_ns=7 * NS + 1), runs)
    stored = b"".join(bytes([65 + n % 26]) * length for n, (_, length) in enumerate(runs))
    data = header + stored + bytes(pax.padding(len(stored))) + pax.END
    subprocess.run(["tar", "-C", tmp_path, "-xf", "-"], input=data, check=True, env=ENVIRONMENT)
    found = tmp_path / os.fsdecode(path)
    assert found.stat().st_size == size
    assert found.stat().st_mtime_ns == 7 * NS + 1
    with found.open("rb") as file:
        for number, (offset, length) in enumerate(runs):
            file.seek(offset)
            assert file.read(length) == bytes([65 + number % 26]) * length
    if size < 1_000_000:
        assert sum(found.read_bytes()) == sum(stored)


def test_the_stored_name_of_a_file_with_holes_tells_what_it_is() -> None:
    """A tar that does not know the format gives it under this name, with its map."""
    for path, stored in ((b"name", b"GNUSparseFile.0/name"), (b"a/b/n", b"a/b/GNUSparseFile.0/n")):
        data = encode_sparse(member(path, size=9, mode=0o600), [(3, 2)])
        header = data[-2 * BLOCK : -BLOCK]
        assert header[:100].rstrip(b"\0") == stored
        assert int(header[124:135], 8) == BLOCK + 2
        assert data[-BLOCK:].rstrip(b"\0") == b"2\n3\n2\n9\n0\n"


def test_a_file_with_holes_keeps_its_attributes() -> None:
    item = member(b"name", size=9, attributes=[(b"user.a", b"b")])
    data = encode_sparse(item, [(0, 1)])
    assert b"SCHILY.xattr.user.a" in keywords(data[:-BLOCK])


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1024, 2**40 + 1])
def test_padding_fills_a_block(size: int) -> None:
    assert (size + pax.padding(size)) % BLOCK == 0
    assert 0 <= pax.padding(size) < BLOCK
