"""A tree with one of each kind of entry, and the means to compare two trees.

Nothing here knows Onggi. Two ways to compare that know nothing of each other: `rsync`, `find` and
`lsattr` as anyone has them, and `snapshot`, which also sees what they can't: paths longer than
PATH_MAX, and where the holes of files are.
"""

from __future__ import annotations

import array
import errno
import fcntl
import hashlib
import os
import random
import stat
import subprocess
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SECOND = 10**9
BLOCK = 4096
PATH_MAX = 4096
LAST_S = 9_223_372_035  # the last second whose ns fit into 64 bits: in the year 2262

# FS_IOC_GETFLAGS and FS_IOC_SETFLAGS of 64-bit Linux, and the flags that chattr can set.
_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
FLAGS = {
    "c": 0x4, "S": 0x8, "i": 0x10, "a": 0x20, "d": 0x40, "A": 0x80, "j": 0x4000, "t": 0x8000,
    "D": 0x10000, "T": 0x20000, "C": 0x800000,
}  # fmt: skip
_SETTABLE = sum(FLAGS.values())

# What rsync and lsattr are not asked about: sockets are never packed, and of the giant file the
# holes alone would take them seconds. `snapshot` looks at the second; the deep path is beyond them.
SOCKET, GIANT, DEEP = "special/socket", "sparse/giant", "beyond-path-max"


# --- file systems --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """What a file system can hold."""

    name: str
    mkfs: tuple[str, ...]
    image_bytes: int
    target_bytes: int
    attribute_bytes: int
    file_flags: str
    folder_flags: str
    times_s: tuple[int, int]
    last_device: tuple[int, int]


EXT4 = Kind(
    name="ext4",
    mkfs=("mkfs.ext4", "-q", "-F", "-b", "4096", "-I", "256", "-O", "ea_inode", "-N", "20000"),
    image_bytes=400 * MIB,
    target_bytes=4000,
    attribute_bytes=60_000,
    file_flags="iadAS",
    folder_flags="iadASDT",
    times_s=(-(2**31), LAST_S),
    last_device=(4095, 2**20 - 1),
)
XFS = Kind(
    name="xfs",
    mkfs=("mkfs.xfs", "-q", "-f", "-m", "bigtime=1"),
    image_bytes=400 * MIB,
    target_bytes=1000,
    attribute_bytes=60_000,
    file_flags="iadAS",
    folder_flags="iadAS",
    times_s=(-(2**31), LAST_S),
    last_device=(511, 2**18 - 1),
)
BTRFS = Kind(
    name="btrfs",
    mkfs=("mkfs.btrfs", "-q", "-f"),
    image_bytes=400 * MIB,
    target_bytes=2000,
    attribute_bytes=10_000,
    file_flags="iadASc",
    folder_flags="iadASDc",
    times_s=(-LAST_S, LAST_S),
    last_device=(4095, 2**20 - 1),
)
KINDS = {kind.name: kind for kind in (EXT4, XFS, BTRFS)}


def run(*command: object, cwd: Path | None = None, data: bytes | None = None) -> bytes:
    """Run a tool that must end with 0 and have nothing to say on standard error."""
    words = [word if isinstance(word, bytes) else str(word) for word in command]
    done = subprocess.run(words, input=data, capture_output=True, check=False, cwd=cwd)
    assert done.returncode == 0, f"{words} ended with {done.returncode}: {done.stderr!r}"
    assert not done.stderr, f"{words}: {done.stderr!r}"
    return done.stdout


@contextmanager
def filesystem(folder: Path, kind: Kind, *mkfs_options: str, size: int = 0) -> Iterator[Path]:
    """Give a new file system on a loop device, mounted in `folder`; then take it away."""
    image, place = folder / f"{kind.name}.img", folder / "mounted"
    place.mkdir(parents=True)
    with image.open("xb") as file:
        file.truncate(size or kind.image_bytes)
    try:
        subprocess.run([*kind.mkfs, *mkfs_options, image], check=True, capture_output=True)
        run("mount", "-o", "loop,noatime", image, place)
        try:
            yield place
        finally:
            run("umount", place)
    finally:
        image.unlink()


# --- a walk without bounds -----------------------------------------------------------------------


@dataclass(frozen=True)
class Visit:
    """An entry that a walk has come to; `folder` is open only until the walk goes on."""

    path: bytes
    folder: int
    name: bytes
    status: os.stat_result

    @property
    def place(self) -> bytes:
        """A path that names the entry itself, however deep it is."""
        return b"/proc/self/fd/%d/%s" % (self.folder, self.name)


def walk(root: Path) -> Iterator[Visit]:
    """Visit a tree from its root, `.`, in the order of names. Takes one descriptor at any depth."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Visit(b".", folder, b".", os.stat(folder))
        todo, paths = [_names(folder)], [b""]
        while todo:
            if not todo[-1]:
                todo.pop()
                paths.pop()
                folder = _step(folder, b"..") if todo else folder
                continue
            name = todo[-1].pop()
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            path = paths[-1] + name
            yield Visit(path, folder, name, status)
            if stat.S_ISDIR(status.st_mode):
                folder = _step(folder, name)
                todo.append(_names(folder))
                paths.append(path + b"/")
    finally:
        os.close(folder)


def _names(folder: int) -> list[bytes]:
    return sorted(map(os.fsencode, os.listdir(folder)), reverse=True)


def _step(folder: int, name: bytes) -> int:
    there = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    os.close(folder)
    return there


# --- what a tree is ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """All that a backup has to bring back of an entry."""

    kind: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    device: int
    target: bytes
    same_as: bytes  # the first path of the inode: empty for the first itself
    attributes: tuple[tuple[str, bytes], ...]
    flags: int
    digest: bytes
    data: tuple[tuple[int, int], ...]  # runs that are no holes


Snapshot = dict[bytes, Entry]


def snapshot(root: Path, *, content: bool = True) -> Snapshot:
    """Return what a tree is, without its sockets. Without `content` files are not read."""
    found: Snapshot = {}
    first: dict[tuple[int, int], bytes] = {}
    for visit in walk(root):
        if not stat.S_ISSOCK(visit.status.st_mode):
            found[visit.path] = _entry(visit, first, content=content)
    return found


def _entry(visit: Visit, first: dict[tuple[int, int], bytes], *, content: bool) -> Entry:
    status, kind = visit.status, stat.S_IFMT(visit.status.st_mode)
    same_as = b""
    if kind != stat.S_IFDIR and status.st_nlink > 1:
        earlier = first.setdefault((status.st_dev, status.st_ino), visit.path)
        same_as = b"" if earlier == visit.path else earlier
    attributes = tuple(
        (name, os.getxattr(visit.place, name, follow_symlinks=False))
        for name in sorted(os.listxattr(visit.place, follow_symlinks=False))
        # How XFS stores ACLs, which root sees beside the ACLs.
        if not name.startswith("trusted.SGI_ACL_")
    )
    flags, digest = 0, b""
    data: tuple[tuple[int, int], ...] = ()
    if kind in (stat.S_IFREG, stat.S_IFDIR):
        opened = os.open(visit.name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=visit.folder)
        try:
            flags = get_flags(opened) & _SETTABLE
            if kind == stat.S_IFREG and content:
                data = _data_runs(opened, status.st_size)
                digest = _digest(opened, data)
        finally:
            os.close(opened)
    return Entry(
        kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns,
        status.st_size if kind in (stat.S_IFREG, stat.S_IFLNK) else 0,
        status.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0,
        os.readlink(visit.name, dir_fd=visit.folder) if kind == stat.S_IFLNK else b"",
        same_as, attributes, flags, digest, data,
    )  # fmt: skip


def _data_runs(file: int, size: int) -> tuple[tuple[int, int], ...]:
    runs: list[tuple[int, int]] = []
    at = 0
    while at < size:
        try:
            start = os.lseek(file, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        at = os.lseek(file, start, os.SEEK_HOLE)
        runs.append((start, at - start))
    return tuple(runs)


def _digest(file: int, runs: tuple[tuple[int, int], ...]) -> bytes:
    """Return a digest of the content that does not tell holes from zeros."""
    total, zeros = hashlib.blake2b(), bytes(BLOCK)
    for start, length in runs:
        for at in range(start // BLOCK * BLOCK, start + length, BLOCK):
            block = os.pread(file, BLOCK, at)
            if block != zeros[: len(block)]:
                total.update(b"%d " % at + block)
    return total.digest()


def differences(expected: Snapshot, found: Snapshot, ignore: Collection[str] = ()) -> list[str]:
    """Return a line for each difference; `ignore` names fields of `Entry`."""
    lines = [f"{path!r} is missing" for path in expected if path not in found]
    lines += [f"{path!r} is too much" for path in found if path not in expected]
    names = [each.name for each in fields(Entry) if each.name not in ignore]
    for path, entry in expected.items():
        if path in found:
            lines += [
                f"{path!r}: {name} {_shown(getattr(found[path], name))}, "
                f"not {_shown(getattr(entry, name))}"
                for name in names
                if getattr(entry, name) != getattr(found[path], name)
            ]
    return lines


def _shown(value: object) -> str:
    text = oct(value) if isinstance(value, int) and value < 0o200000 else repr(value)
    return text if len(text) < 300 else f"{text[:300]}..."


# --- what the tools say --------------------------------------------------------------------------


def rsync_differences(source: Path, target: Path, *exclude: str, options: str = "HAXS") -> str:
    """Return what rsync would have to do to make `target` the same as `source`; "" if nothing.

    `-@-1` compares times to the nanosecond, which -a does not. Paths of 4,096 bytes are too long
    for rsync.
    """
    out = run(
        "rsync", f"-nai{options}", "-@-1", "--checksum", "--delete", "--devices", "--specials",
        "--numeric-ids", *(f"--exclude=/{name}" for name in (SOCKET, GIANT, DEEP, *exclude)),
        f"{source}/", f"{target}/",
    )  # fmt: skip
    return out.decode(errors="backslashreplace")


def find_listing(root: Path) -> list[bytes]:
    """Return what find says of each entry but sockets: kind, mode, owner, times in ns, target."""
    common, size = r"%P\t%y %m %U %G %T@", r" %s %l"
    out = run(
        "find", ".", "-type", "s", "-o",
        "-type", "d", "-printf", rf"{common}\0", "-o", "-printf", rf"{common}{size}\0",
        cwd=root,
    )  # fmt: skip
    return sorted(out.split(b"\0"))


def flags_listing(root: Path) -> list[bytes]:
    """Return what lsattr says of each file and directory, but for what chattr can't set."""
    out = run(
        "sh", "-c",
        f"find . -path ./{DEEP} -prune -o '(' -type f -o -type d ')' -print0 | sort -z | "
        "xargs -0r lsattr -d --",
        cwd=root,
    )  # fmt: skip
    unset = bytes.maketrans(b"eEIN", b"----")  # extents, encrypted, indexed, inline
    lines = []
    for line in out.splitlines():  # names may hold newlines: their lines stay as they are
        flags, space, path = line.partition(b" ./")
        lines.append(flags.translate(unset) + space + path if space else line)
    return lines


def allocated(root: Path) -> dict[bytes, int]:
    """Return how many bytes of the disk each file takes, as find counts them."""
    out = run("find", ".", "-type", "f", "-printf", r"%P\t%b\0", cwd=root)
    found = (record.rsplit(b"\t", 1) for record in out.split(b"\0") if record)
    return {path: int(blocks) * 512 for path, blocks in found}


def get_flags(file: int) -> int:
    """Return the flags of an open file or directory; 0 where its file system has none."""
    value = array.array("I", [0, 0])
    with suppress(OSError):
        fcntl.ioctl(file, _GET_FLAGS, value)
    return value[0]


def set_flags(path: Path, letters: str) -> None:
    """Set flags of a file or directory as chattr does."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        value = array.array("I", [get_flags(file) | sum(FLAGS[letter] for letter in letters), 0])
        fcntl.ioctl(file, _SET_FLAGS, value)
    finally:
        os.close(file)


def clear_flags(root: Path) -> None:
    """Take all flags that chattr sets away, so that a tree can be changed and removed."""
    for visit in walk(root):
        if stat.S_ISDIR(visit.status.st_mode) or stat.S_ISREG(visit.status.st_mode):
            file = os.open(visit.name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=visit.folder)
            try:
                flags = get_flags(file)
                if flags & _SETTABLE:
                    fcntl.ioctl(file, _SET_FLAGS, array.array("I", [flags & ~_SETTABLE, 0]))
            finally:
                os.close(file)


# --- the corpus ----------------------------------------------------------------------------------

NAMES = (
    b"caf\xe9", b"\xff\xfe\x80", "나박김치".encode(), b"cafe\xcc\x81", "café".encode(),
    b"new\nline", b"\n", b" space ", b"tab\there", b"-dash", b"--checkpoint-action=exec=false",
    b"back\\slash", b"back\\nslash", b"\\", b"*", b"?", b"[a-z]", b"{a,b}", b"~", b"$HOME", b"%s",
    b"a=b", b"'quote'", b'"double"', b"...", b"#hash", b"!", b"\x01\x1b[31m\x7f", b"|;&",
    b"x" * 255, b"\xe9" * 255, b"y" * 100, b"y" * 101,
)  # fmt: skip
MODES = (0, 0o444, 0o600, 0o755, 0o4755, 0o2755, 0o1644, 0o6711, 0o7777)
OWNERS = (
    (1, 1),
    (12_345, 54_321),
    (2_097_151, 2_097_152),
    (3_000_000_000, 4_294_967_294),
    (0, 65_534),
)
SIZES = (0, 1, 511, 512, 513, 4095, 4096, 4097)


def noisy(size: int, seed: int) -> bytes:
    """Return content that does not compress to nothing: the same for the same arguments."""
    piece = random.Random(seed).randbytes(min(size, 40_000))
    piece += b"a jar keeps food for years; " * 1500
    return (piece * (size // len(piece) + 1))[:size]


def make_corpus(root: Path, kind: Kind, *, privileged: bool = True) -> None:
    """Fill `root` with one of each kind of entry that a file system of `kind` can hold.

    Without `privileged`, only of those that any user can make. Everything is the same in each call.
    """
    makers: list[Callable[[Path, Kind], None]] = [
        _files, _modes, _times, _links, _symlinks, _special, _sparse, _attributes, _names_and_paths,
        _directories, _same_content, _order,
    ]  # fmt: skip
    if privileged:
        makers += [_owners, _devices, _privileged_attributes, _acls]
    for make in makers:
        make(root, kind)
    flagged = _flagged(root, kind, privileged=privileged)
    _date(root)
    for path, letters in flagged:
        set_flags(path, letters)


def _new(path: Path, content: bytes = b"soy") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(content)
    return path


def _files(root: Path, kind: Kind) -> None:
    for size in SIZES:
        _new(root / "files" / f"{size}-bytes", noisy(size, size))
    _new(root / "files" / "zeros", bytes(100_000))
    _new(root / "files" / "big", noisy(5 * MIB + 123, 5))
    _new(root / "at-the-top", b"gochujang\n")


def _modes(root: Path, kind: Kind) -> None:
    for mode in MODES:
        if not mode and os.geteuid():
            continue  # nobody else could read it
        _new(root / "modes" / f"file-{mode:04o}").chmod(mode)
    for mode in (0o700, 0o1777, 0o2775, 0o3711):
        folder = root / "modes" / f"folder-{mode:04o}"
        _new(folder / "inside")
        folder.chmod(mode)


def _times(root: Path, kind: Kind) -> None:
    first, last = kind.times_s
    seconds = [first, -86_400, -2, -1, 0, 1, 2**31 - 1, 2**31, 2**32, 2**33, last]
    for second in seconds:
        for ns in (0, 1, 500_000_000, 999_999_999):
            path = _new(root / "times" / f"{second}-{ns}")
            os.utime(path, ns=(second * SECOND + ns, second * SECOND + ns))
    os.symlink("nowhere", root / "times" / "symlink")
    os.utime(root / "times" / "symlink", ns=(0, 123_456_789_012_345_678), follow_symlinks=False)
    os.mkfifo(root / "times" / "fifo")
    os.utime(root / "times" / "fifo", ns=(0, -1))


def _links(root: Path, kind: Kind) -> None:
    links = root / "links"
    first = _new(links / "a-file", noisy(70_000, 7))
    os.link(first, links / "b-same-folder")
    (links / "sub").mkdir()
    os.link(first, links / "sub" / "across")
    # The rows of an archive are in another order than its stream: both have a first one.
    (links / "a" / "deeper").mkdir(parents=True)
    (links / "b").mkdir()
    late = _new(links / "b" / "shallow", noisy(50_000, 8))
    os.link(late, links / "a" / "deeper" / "deep")
    os.link(_new(links / "z" / ("l" * 120), b"long"), links / "z" / "link-to-long-name")
    os.link(_new(links / "empty", b""), links / "empty-too")
    os.symlink("a-file", links / "symlink")
    os.link(links / "symlink", links / "sub" / "symlink-too", follow_symlinks=False)
    os.mkfifo(links / "fifo")
    os.link(links / "fifo", links / "sub" / "fifo-too")
    # Another name of this one is outside of the tree.
    outside = root.parent / f"{root.name}-outside"
    os.link(_new(outside, b"known by a name that is not packed"), links / "half-outside")


def _symlinks(root: Path, kind: Kind) -> None:
    folder = root / "symlinks"
    folder.mkdir()
    targets = {
        "dangling": b"no/such/place", "absolute": b"/etc/passwd", "up": b"../../..",
        "self": b"self", "folder": b"../files/", "dot": b".",
        "not-utf8": b"caf\xe9", "newline": b"a\nb", "percent": b"%s=1", "one-hundred": b"t" * 100,
        "one-hundred-one": b"t" * 101, "long": (b"d" * 199 + b"/") * (kind.target_bytes // 200),
    }  # fmt: skip
    for name, target in targets.items():
        os.symlink(target, os.fsencode(folder / name))


def _special(root: Path, kind: Kind) -> None:
    folder = root / "special"
    folder.mkdir()
    os.mkfifo(folder / "fifo", 0o640)
    os.mknod(root / SOCKET, stat.S_IFSOCK | 0o755)


def _devices(root: Path, kind: Kind) -> None:
    numbers = {"null": (1, 3), "most": kind.last_device, "odd": (240, 70_000)}
    for name, number in numbers.items():
        for mode in (stat.S_IFCHR, stat.S_IFBLK):
            path = root / "special" / f"{name}-{'character' if mode == stat.S_IFCHR else 'block'}"
            os.mknod(path, mode | 0o660, os.makedev(*number))
            os.chown(path, 0, 6)
    os.link(root / "special" / "null-character", root / "special" / "null-too")


def _sparse(root: Path, kind: Kind) -> None:
    folder = root / "sparse"
    folder.mkdir()

    def sparse(name: str, size: int, *runs: tuple[int, int]) -> None:
        with (folder / name).open("xb") as file:
            for at, length in runs:
                file.seek(at)
                file.write(noisy(length, at + 1))
            file.truncate(size)

    sparse("hole-first", 200_000, (131_072, 68_928))
    sparse("hole-last", 300_000, (0, 8192))
    sparse("hole-last-odd", 300_001, (0, 65_537))
    sparse("all-hole", 8 * MIB)
    sparse("one-byte", MIB, (MIB - 1, 1))
    sparse("many-runs", 160 * 65_536, *((number * 65_536, 4096) for number in range(0, 160)))
    sparse("uneven-runs", 3 * MIB, *((number * 24_576, 4096 + number) for number in range(100)))
    sparse(Path(GIANT).name, 4 * GIB + 12_289, (0, 4096), (3 * GIB, 10_000), (4 * GIB + 8192, 4097))


def _set(path: Path, name: bytes | str, value: bytes) -> None:
    os.setxattr(path, name, value, follow_symlinks=False)


def _attributes(root: Path, kind: Kind) -> None:
    folder = root / "attributes"
    _set(_new(folder / "empty-value"), "user.empty", b"")
    _set(_new(folder / "binary-value"), "user.binary", bytes(range(256)))
    _set(_new(folder / "newline-value"), "user.newline", b"one\ntwo\n\n")
    odd = _new(folder / "odd-names")
    for name in (
        b"a=b",
        b"100%",
        b"%3D",
        b"=",
        b"%",
        b"with space",
        b"caf\xe9",
        b"new\nline",
        b"n" * 200,
    ):
        _set(odd, b"user." + name, b"value of " + name)
    many = _new(folder / "many")
    for number in range(30):
        _set(many, f"user.number-{number}", b"%d" % number)
    _set(_new(folder / "long-value"), "user.long", noisy(kind.attribute_bytes, 9))
    (folder / "folder").mkdir()
    _set(folder / "folder", "user.folder", b"jar")
    for twin in ("same-1", "same-2"):  # a set that entries may share
        _set(_new(folder / twin), "user.same", b"set")


def _owners(root: Path, kind: Kind) -> None:
    folder = root / "owners"
    for uid, gid in OWNERS:
        path = _new(folder / f"{uid}-{gid}")
        os.chown(path, uid, gid)
        path.chmod(0o6755)  # changing the owner takes these bits away
    os.symlink("x", folder / "symlink")
    os.chown(folder / "symlink", 1234, 4321, follow_symlinks=False)
    (folder / "folder").mkdir()
    os.chown(folder / "folder", 1234, 4321)
    os.mkfifo(folder / "fifo")
    os.chown(folder / "fifo", 3_000_000_000, 3_000_000_001)


def _privileged_attributes(root: Path, kind: Kind) -> None:
    folder = root / "attributes"
    _set(_new(folder / "trusted"), "trusted.onggi", b"\0jar\0")
    _set(_new(folder / "security"), "security.onggi", b"lid")
    run("setcap", "cap_net_raw,cap_net_bind_service+ep", _new(folder / "capable"))
    capable = _new(folder / "capable-of-another")
    os.chown(capable, 1234, 4321)
    run("setcap", "cap_chown+p", capable)
    os.symlink("trusted", folder / "symlink")
    os.mkfifo(folder / "fifo")
    os.mknod(folder / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    for name in ("symlink", "fifo", "device", "folder"):
        _set(folder / name, "trusted.onggi", name.encode())
    _set(folder / "long-value", "trusted.also", b"another name space")


def _acls(root: Path, kind: Kind) -> None:
    folder = root / "acls"
    _new(folder / "file")
    run("setfacl", "-m", "u:daemon:rw,u:54321:r,g:12345:rwx,m::r-x", folder / "file")
    (folder / "with-default" / "sub").mkdir(parents=True)
    _new(folder / "with-default" / "has-none").chmod(0o604)
    run("setfacl", "-d", "-m", "u:1:rwx,g:3000000000:---,o::---", folder / "with-default")
    _new(folder / "with-default" / "inherited")
    (folder / "with-default" / "sub-inherited").mkdir()
    run(
        "setfacl", "-m", "u:2:rwx", "-d", "-m", "u:3:r-x", folder / "with-default" / "sub-inherited"
    )
    os.mkfifo(folder / "fifo")
    run("setfacl", "-m", "u:1:rw", folder / "fifo")


def _names_and_paths(root: Path, kind: Kind) -> None:
    folder = root / "names"
    folder.mkdir()
    for name in NAMES:
        with open(os.fsencode(folder) + b"/" + name, "xb") as file:
            file.write(name)
    for name in (b"caf\xe9", b"new\nline", b"-dash", b"z" * 255):
        place = os.fsencode(folder) + b"/in-" + name[:250]
        os.mkdir(place)
        os.symlink(name, place + b"/" + name)
    for length in (99, 100, 101, 155, 156, 157, 254, 255, 256, 257, 258, 300, 1000):
        _long_path(root, length)
    # Deeper than any path can say.
    here, below, length = os.open(root, os.O_RDONLY | os.O_DIRECTORY), DEEP.encode(), 0
    try:
        while length < PATH_MAX + 500:
            os.mkdir(below, dir_fd=here)
            here = _step(here, below)
            below, length = b"d" * 200, length + len(below) + 1
        _fill_bottom(here)
    finally:
        os.close(here)


def _long_path(root: Path, length: int) -> None:
    """Make a file whose path in the tree has a length."""
    path = f"long/{length}"
    while length - len(path) > 256:
        path += "/" + "p" * 100
    left = length - len(path) - 1
    if left > 200:
        path, left = path + "/" + "q" * 100, left - 101
    if left > 0:
        _new(root / path / ("f" * left))


def _fill_bottom(folder: int) -> None:
    for name, content in ((b"file", noisy(20_000, 11)), (b"other", b"bottom")):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640, dir_fd=folder)
        os.write(file, content)
        os.setxattr(file, "user.deep", b"down here")
        os.close(file)
    os.link(b"file", b"link", src_dir_fd=folder, dst_dir_fd=folder)
    os.symlink(b"../file", b"symlink", dir_fd=folder)
    os.mkfifo(b"fifo", dir_fd=folder)
    os.mkdir(b"empty", dir_fd=folder)


def _directories(root: Path, kind: Kind) -> None:
    folder = root / "folders"
    (folder / "empty").mkdir(parents=True)
    (folder / "nested" / "empty" / "too").mkdir(parents=True)
    _new(folder / "read-only" / "file")
    _new(folder / "read-only" / "sub" / "file")
    _new(folder / "closed" / "file")
    (folder / "read-only" / "sub").chmod(0o555)
    (folder / "read-only").chmod(0o555)
    if not os.geteuid():  # nobody else could read it
        (folder / "closed").chmod(0)


def _same_content(root: Path, kind: Kind) -> None:
    folder, content = root / "same", noisy(40_000, 12)
    _new(folder / "first", content)
    _new(folder / "second", content)
    _new(folder / "other-mode", content).chmod(0o4711)
    _new(folder / "other-time", content)
    _set(_new(folder / "other-attributes", content), "user.other", b"1")
    if not os.geteuid():
        os.chown(_new(folder / "other-owner", content), 77, 78)
    os.link(_new(folder / "linked", content), folder / "linked-too")
    for name in ("a/deep/one", "b/two"):  # the second in the stream is the first in the rows
        _new(folder / name, noisy(40_001, 13))
    for size in (16_383, 16_384):
        for name in ("one", "two"):
            _new(folder / f"{size}-{name}", noisy(size, 14))
    other = bytearray(content)
    other[-1] ^= 1
    _new(folder / "almost", bytes(other))


def _order(root: Path, kind: Kind) -> None:
    """Make names whose order as paths is another one than as names of one folder."""
    folder = root / "order"
    for name in ("a/z", "a-b/z", "a.b/z", "a0/z", "ab", "A", "b/a", "\x01low", "a!"):
        _new(folder / name, name.encode())


def _flagged(root: Path, kind: Kind, *, privileged: bool) -> list[tuple[Path, str]]:
    """Make what will get flags; return which. Flags come last: no time can be set after `i`."""
    folder = root / "flags"
    flagged: list[tuple[Path, str]] = []
    for letter in kind.file_flags:
        if privileged or letter not in "iaj":
            flagged.append((_new(folder / f"file-{letter}", noisy(9000, ord(letter))), letter))
    for letter in kind.folder_flags:
        if privileged or letter not in "iaj":
            inside = _new(folder / f"folder-{letter}" / "inside")
            (inside.parent / "sub").mkdir()
            flagged.append((inside.parent, letter))
    if privileged and "i" in kind.file_flags:
        os.link(_new(folder / "linked"), folder / "linked-too")
        _set(folder / "linked", "user.kept", b"before the flag")
        flagged.append((folder / "linked", "id"))
        flagged.append((_new(folder / "log", b"only longer\n"), "aA"))
    return flagged


def _date(root: Path) -> None:
    """Give everything that has no chosen time one of its own."""
    for number, visit in enumerate(walk(root)):
        if not visit.path.startswith(b"times/"):
            time_ns = 1_300_000_000 * SECOND + number * 1_000_000_007
            os.utime(visit.name, ns=(time_ns, time_ns), dir_fd=visit.folder, follow_symlinks=False)
