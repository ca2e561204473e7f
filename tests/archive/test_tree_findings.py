"""Trees that change, or can't be read, while they are packed: each thing is told, once.

What changes between plan and read is changed in the first call of `read_files`: by then all of a
tree that fits into one unit is planned, and none of it is read.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from onggi.archive import accelerate, files, layout, tree_plan, tree_writer
from onggi.archive.dedup import LEAST_BYTES
from onggi.archive.errors import Severity
from onggi.archive.files import Found
from onggi.archive.folders import Folders
from onggi.archive.plan import Geometry
from onggi.archive.selection import TreeOptions
from onggi.archive.store import MemoryStore
from onggi.archive.tree_check import check_tree
from onggi.archive.verify import Level, verify

from .tree_helpers import (
    LARGE,
    TINY,
    Packed,
    facts_in_archive,
    facts_in_tar,
    noise,
    pack_path,
    pack_paths,
    tar_members,
    write_sparse,
)

CHANGED, INCOMPLETE, SHARED = layout.FLAG_CHANGED, layout.FLAG_INCOMPLETE, layout.FLAG_SHARED
SIZE = 5000
Meanwhile = Callable[[Callable[[], object]], None]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Do something between plan and read."""

    def register(change: Callable[[], object]) -> None:
        real = files.read_files
        done = False

        def read_files(*arguments: Any) -> Any:
            nonlocal done
            if not done:
                done = True
                change()
            return real(*arguments)

        monkeypatch.setattr(tree_writer, "read_files", read_files)

    return register


@pytest.fixture(params=["compiled", "python"])
def twin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Read with the compiled helper, if it is built, and without it."""
    if request.param == "python":
        monkeypatch.setattr(accelerate, "_module", None)
    return str(request.param)


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read without the compiled helper: what is patched here, it would not see."""
    monkeypatch.setattr(accelerate, "_module", None)


def checked(packed: Packed) -> Packed:
    """Return an archive that is whole, and whose tar stream holds what its catalogue says."""
    told: list[Any] = []
    verified = verify(MemoryStore(packed.data), Level.CONTENT, threads=1, found=told.append)
    assert verified.is_whole
    check_tree(packed.tree)
    tar = facts_in_tar(packed.content)
    for path, fact in facts_in_archive(packed.view).items():
        if path in tar:
            assert tar[path].content == fact.content
    assert all(finding.severity is Severity.WARNING for finding in packed.findings)
    # A later look at the archive tells the same.
    flagged = {
        os.fsdecode(packed.tree.path(entry))
        for entry in packed.tree.entries()
        if entry.flags & (CHANGED | INCOMPLETE)
    }
    assert {finding.path for finding in told if finding.path} == flagged
    assert flagged <= packed.codes.keys()
    return packed


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files in three folders, of which those named `victim` are changed."""
    root = tmp_path / "root"
    for folder in ("a", "b", "b/c"):
        (root / folder).mkdir(parents=True)
        for number, name in enumerate(("before", "victim", "zafter")):
            (root / folder / name).write_bytes(noise(SIZE, number))
            os.utime(root / folder / name, ns=(1, 1))
    return root


def others_are_whole(packed: Packed) -> bool:
    """Tell whether the files that nobody touched are as they were."""
    for folder in (b"a", b"b", b"b/c"):
        assert packed.bytes_of(folder + b"/before") == noise(SIZE, 0)
        assert packed.bytes_of(folder + b"/zafter") == noise(SIZE, 2)
        assert packed.flags(folder + b"/before") == packed.flags(folder + b"/zafter") == 0
    return True


def remove(path: Path) -> None:
    path.unlink()


def replace_by_file(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(noise(SIZE, 9))
    other.rename(path)


def replace_by_link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


def replace_by_folder(path: Path) -> None:
    path.rename(path.with_name("moved"))  # so that no other one can get its inode
    path.mkdir()


def replace_by_fifo(path: Path) -> None:
    path.rename(path.with_name("moved"))
    os.mkfifo(path)


def touch(path: Path) -> None:
    os.utime(path, ns=(5, 5))


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(noise(path.stat().st_size, 8))


def truncate(size: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, size)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


ORIGINAL = noise(SIZE, 1)
CASES: dict[str, tuple[Callable[[Path], None], str, int, bytes]] = {
    "vanished": (remove, "vanished", CHANGED | INCOMPLETE, bytes(SIZE)),
    "replaced": (replace_by_file, "vanished", CHANGED | INCOMPLETE, bytes(SIZE)),
    "link": (replace_by_link, "vanished", CHANGED | INCOMPLETE, bytes(SIZE)),
    "folder": (replace_by_folder, "vanished", CHANGED | INCOMPLETE, bytes(SIZE)),
    "fifo": (replace_by_fifo, "vanished", CHANGED | INCOMPLETE, bytes(SIZE)),
    "touched": (touch, "changed", CHANGED, ORIGINAL),
    "rewritten": (rewrite, "changed", CHANGED, noise(SIZE, 8)),
    "grew": (append, "grew", CHANGED, ORIGINAL),
    "shrank": (truncate(1000), "shrank", CHANGED | INCOMPLETE,
               ORIGINAL[:1000] + bytes(SIZE - 1000)),
    "by one": (truncate(SIZE - 1), "shrank", CHANGED | INCOMPLETE, ORIGINAL[:-1] + b"\0"),
    "emptied": (truncate(0), "shrank", CHANGED | INCOMPLETE, bytes(SIZE)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("geometry", [LARGE, Geometry(131_072, 4096, 4096)])
def test_a_file_that_changes_before_it_is_read_is_told_once(
    case: str, geometry: Geometry, tree: Path, meanwhile: Meanwhile, twin: str
) -> None:
    """Both where files are planned in bulk, and where units are too small for that."""
    change, code, flags, content = CASES[case]
    meanwhile(lambda: change(tree / "b/victim"))
    packed = checked(pack_path(tree, geometry))
    assert packed.codes == {"b/victim": [code]}
    assert packed.flags(b"b/victim") == flags
    assert packed.bytes_of(b"b/victim") == content
    assert packed.view.entry(b"b/victim").mtime_ns == 1
    assert others_are_whole(packed)
    assert packed.archive.footer.unreadable_bytes == (
        SIZE - len(content.rstrip(b"\0")) if flags & INCOMPLETE else 0
    )


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_a_file_of_many_units_that_changes_is_told_once(
    case: str, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, twin: str
) -> None:
    change, code, flags, _ = CASES[case]
    size = 60_000
    for name in ("a", "victim", "z"):
        (tmp_path / name).write_bytes(noise(size, 1 + ord(name[0])))
    real = files.read_files

    def read_files(fd: int, wanted: Sequence[Any], view: memoryview) -> Any:
        for each in wanted:
            if each.found.name == b"victim" and each.member_offset > 20_000:
                once()
        return real(fd, wanted, view)

    done: list[int] = []

    def once() -> None:
        if not done:
            done.append(1)
            change(tmp_path / "victim")

    monkeypatch.setattr(tree_writer, "read_files", read_files)
    packed = checked(pack_path(tmp_path, TINY, threads=threads))
    # Another thread may be in an earlier unit just then, and sees a change of the inode.
    (told,) = packed.codes["victim"]
    assert packed.codes.keys() == {"victim"}
    assert told in ([code] if threads == 1 else [code, "changed"])
    assert packed.flags(b"victim") | CHANGED == flags | CHANGED
    if threads == 1:  # then what stands before was read before
        assert packed.bytes_of(b"victim")[:16_000] == noise(16_000, 1 + ord("v"))
    for other in (b"a", b"z"):
        assert packed.bytes_of(other) == noise(size, 1 + other[0])
        assert packed.flags(other) == 0


@pytest.mark.parametrize("case", ["vanished", "touched", "shrank", "grew"])
def test_a_file_with_holes_that_changes_is_told_once(
    case: str, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    change, code, flags, _ = CASES[case]
    data = noise(4096, 3)
    write_sparse(tmp_path / "victim", 200_000, {8192: data, 131_072: data})
    meanwhile(lambda: change(tmp_path / "victim"))
    packed = checked(pack_path(tmp_path))
    assert packed.codes == {"victim": [code]}
    assert packed.flags(b"victim") == flags | layout.FLAG_MAPPED
    content = bytearray(200_000)
    if not flags & INCOMPLETE:
        content[8192 : 8192 + 4096] = content[131_072 : 131_072 + 4096] = data
    assert packed.bytes_of(b"victim") == content


def test_of_a_file_with_several_kinds_of_trouble_the_first_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It grows, and shrinks again in a later unit."""
    (tmp_path / "victim").write_bytes(noise(60_000, 1))
    real = files.read_files
    sizes = iter([60_001, 59_999, 60_001])

    def read_files(*arguments: Any) -> Any:
        size = next(sizes, None)
        if size is not None:
            os.truncate(tmp_path / "victim", size)
        return real(*arguments)

    monkeypatch.setattr(tree_writer, "read_files", read_files)
    packed = checked(pack_path(tmp_path, TINY))
    assert packed.codes == {"victim": ["grew"]}
    assert packed.flags(b"victim") == CHANGED | INCOMPLETE


def few_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no folder stay open while nobody uses it."""
    monkeypatch.setattr(tree_writer, "Folders", lambda: Folders(most_open=0))


def test_every_file_of_a_folder_that_is_gone_is_told(
    tree: Path, meanwhile: Meanwhile, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_open(monkeypatch)
    meanwhile(lambda: (tree / "b").rename(tree / "moved"))
    packed = checked(pack_path(tree))
    gone = [
        f"{folder}/{name}" for folder in ("b", "b/c") for name in ("before", "victim", "zafter")
    ]
    assert packed.codes == {path: ["vanished"] for path in gone}
    for path in map(os.fsencode, gone):
        assert packed.bytes_of(path) == bytes(SIZE)
        assert packed.flags(path) == CHANGED | INCOMPLETE
    assert packed.bytes_of(b"a/victim") == ORIGINAL


@pytest.mark.parametrize("what", ["link", "file", "folder", "nothing"])
def test_a_folder_that_is_swapped_is_not_entered(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing from outside of the tree gets into the archive."""
    root = tmp_path / "root"
    (root / "b").mkdir(parents=True)
    (root / "b/file").write_bytes(noise(SIZE, 1))
    (root / "a").write_bytes(noise(SIZE, 2))
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/file").write_bytes(b"s" * SIZE)
    real = files.read_files

    def read_files(*arguments: Any) -> Any:
        if (root / "b/file").exists():
            (root / "b").rename(tmp_path / "moved")
            if what == "link":
                (root / "b").symlink_to("../secret")
            elif what == "file":
                (root / "b").touch()
            elif what == "folder":
                (tmp_path / "secret").rename(root / "b")
        return real(*arguments)

    monkeypatch.setattr(tree_writer, "read_files", read_files)
    few_open(monkeypatch)
    packed = checked(pack_path(root))
    assert packed.codes == {"b/file": ["vanished"]}
    assert packed.bytes_of(b"b/file") == bytes(SIZE)
    assert packed.bytes_of(b"a") == noise(SIZE, 2)
    assert b"ssss" not in packed.content


# --- content that is shared ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code", "flags"),
    [(touch, "changed", CHANGED), (remove, "vanished", CHANGED | INCOMPLETE),
     (truncate(1000), "shrank", CHANGED | INCOMPLETE), (append, "grew", CHANGED)],
)  # fmt: skip
def test_those_that_share_content_with_a_file_that_changes_are_told_too(
    change: Callable[[Path], None], code: str, flags: int, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(noise(LEAST_BYTES, 1))
    (tmp_path / "other").write_bytes(noise(LEAST_BYTES, 2))
    (tmp_path / "other2").write_bytes(noise(LEAST_BYTES, 2))
    os.link(tmp_path / "b", tmp_path / "b-too")
    meanwhile(lambda: change(tmp_path / "a"))
    packed = checked(pack_path(tmp_path))
    # Of the names of one file the first is told.
    assert packed.codes == {"a": [code], "b": ["changed"], "c": ["changed"]}
    assert packed.flags(b"a") == flags
    assert packed.flags(b"b") == packed.flags(b"c") == flags | SHARED
    assert packed.flags(b"other2") == SHARED
    assert packed.bytes_of(b"b") == packed.bytes_of(b"a")
    assert packed.bytes_of(b"other2") == noise(LEAST_BYTES, 2)


def test_a_copy_that_changes_later_does_no_harm(tmp_path: Path, meanwhile: Meanwhile) -> None:
    """It was compared, and is not read again."""
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(noise(LEAST_BYTES, 1))
    meanwhile(lambda: rewrite(tmp_path / "b"))
    packed = checked(pack_path(tmp_path))
    assert packed.findings == []
    assert packed.bytes_of(b"b") == noise(LEAST_BYTES, 1)


# --- what can't be read --------------------------------------------------------------------------


def fail_open(monkeypatch: pytest.MonkeyPatch, name: bytes, code: int, after: int = 0) -> None:
    """Let opening a name fail, from the n-th time on."""
    real = files.open_quietly
    count = 0

    def open_quietly(fd: int, opened: bytes) -> int:
        nonlocal count
        if opened == name:
            count += 1
            if count > after:
                raise OSError(code, os.strerror(code))
        return real(fd, opened)

    monkeypatch.setattr(files, "open_quietly", open_quietly)


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ENXIO])
def test_a_file_that_can_not_be_opened_is_left_out(
    code: int, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_open(monkeypatch, b"victim", code)
    packed = checked(pack_path(tree))
    paths = ("a/victim", "b/victim", "b/c/victim")
    assert packed.codes == {path: ["unreadable"] for path in paths}
    assert os.strerror(code) in packed.findings[0].message
    assert not any(os.fsencode(path) in packed.paths() for path in paths)
    assert others_are_whole(packed)


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize(
    ("code", "told", "flags"),
    [(errno.EACCES, "unreadable", INCOMPLETE), (errno.EIO, "unreadable", INCOMPLETE),
     (errno.ENOENT, "vanished", CHANGED | INCOMPLETE), (errno.ESTALE, "vanished", 3)],
)  # fmt: skip
def test_a_file_that_can_not_be_opened_any_more_is_zeros(
    code: int, told: str, flags: int, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_open(monkeypatch, b"victim", code, after=3)
    packed = checked(pack_path(tree))
    assert packed.codes == {path: [told] for path in ("a/victim", "b/victim", "b/c/victim")}
    assert packed.bytes_of(b"a/victim") == bytes(SIZE)
    assert packed.flags(b"a/victim") == flags
    assert others_are_whole(packed)


@pytest.mark.usefixtures("python")
def test_bad_blocks_of_a_file_are_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = noise(20_000, 1)
    (tmp_path / "victim").write_bytes(content)
    (tmp_path / "zafter").write_bytes(content)
    inode = (tmp_path / "victim").stat().st_ino

    def bad(fd: int, offset: int, size: int) -> bool:
        return os.fstat(fd).st_ino == inode and offset < 8192 and offset + size > 4096

    preadv, pread = os.preadv, os.pread

    def broken_preadv(fd: int, buffers: Any, offset: int) -> int:
        if bad(fd, offset, len(buffers[0])):
            if offset >= 4096:
                raise OSError(errno.EIO, "bad")
            return preadv(fd, [buffers[0][: 4096 - offset]], offset)
        return preadv(fd, buffers, offset)

    def broken_pread(fd: int, size: int, offset: int) -> bytes:
        if bad(fd, offset, size):
            raise OSError(errno.EIO, "bad")
        return pread(fd, size, offset)

    monkeypatch.setattr(os, "preadv", broken_preadv)
    monkeypatch.setattr(os, "pread", broken_pread)
    packed = pack_path(tmp_path, options=TreeOptions(dedup=False))
    monkeypatch.undo()
    checked(packed)
    assert packed.codes == {"victim": ["unreadable"]}
    assert packed.flags(b"victim") == INCOMPLETE
    assert packed.bytes_of(b"victim") == content[:4096] + bytes(4096) + content[8192:]
    assert packed.bytes_of(b"zafter") == content
    first = packed.view.entry(b"victim").first
    assert list(packed.archive.unreadable()) == [(first + 4096, 4096)]


def change_found(
    monkeypatch: pytest.MonkeyPatch, changes: dict[bytes, Callable[[Found], Found]]
) -> None:
    """Let things look otherwise than they are."""
    real = files.scan

    def scan(fd: int, names: Sequence[bytes], wanted: int) -> list[Found]:
        looks = real(fd, names, wanted)
        return [changes[each.name](each) if each.name in changes else each for each in looks]

    monkeypatch.setattr(tree_plan, "scan", scan)


@pytest.mark.parametrize(
    ("code", "told"),
    [(errno.ENOENT, "vanished"), (errno.ESTALE, "vanished"), (errno.EACCES, "unreadable"),
     (errno.EIO, "unreadable")],
)  # fmt: skip
def test_what_can_not_even_be_looked_at_is_left_out(
    code: int, told: str, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_found(
        monkeypatch, {b"victim": lambda each: Found(each.name, *(0,) * 12, b"", code)}
    )  # fmt: skip
    packed = checked(pack_path(tree))
    assert packed.codes == {path: [told] for path in ("a/victim", "b/victim", "b/c/victim")}
    assert b"a/victim" not in packed.paths()
    assert others_are_whole(packed)


def test_a_folder_that_can_not_be_looked_at_is_packed_empty(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_found(monkeypatch, {b"b": lambda each: each._replace(error=errno.EACCES)})
    packed = checked(pack_path(tree))
    assert packed.codes == {"b": ["unreadable"]}
    assert packed.paths() == [b"", b"a", b"a/before", b"a/victim", b"a/zafter", b"b"]
    assert packed.view.entry(b"b").mode == stat.S_IMODE((tree / "b").stat().st_mode)
    assert sorted(member.name for member in tar_members(packed.content)) == [
        ".", "a", "a/before", "a/victim", "a/zafter", "b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("step", "code", "told"),
    [("pin", errno.ENOENT, "vanished"), ("pin", errno.ESTALE, "vanished"),
     ("pin", errno.ENOTDIR, "vanished"), ("list", errno.EACCES, "unreadable"),
     ("list", errno.EIO, "unreadable")],
)  # fmt: skip
def test_a_folder_that_can_not_be_entered_is_packed_empty(
    step: str, code: int, told: str, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OSError(code, os.strerror(code))

    class Options(TreeOptions):
        def names_in(self, fd: int, path: bytes, device: int) -> list[bytes]:
            if path == b"b" and step == "list":
                raise error
            return super().names_in(fd, path, device)

    real = Folders.pin

    def pin(self: Any, folder: Any) -> int:
        if folder.path() == b"b" and step == "pin":
            raise error
        return real(self, folder)

    monkeypatch.setattr(Folders, "pin", pin)
    packed = checked(pack_path(tree, options=Options()))
    assert packed.codes == {"b": [told]}
    assert packed.paths() == [b"", b"a", b"a/before", b"a/victim", b"a/zafter", b"b"]
    assert [member.name for member in tar_members(packed.content)] == [
        ".", "a", "a/before", "a/victim", "a/zafter", "b",
    ]  # fmt: skip


def test_what_vanishes_between_its_listing_and_its_look_is_left_out(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files.scan

    def scan(fd: int, names: Sequence[bytes], wanted: int) -> list[Found]:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/b"):
            (tree / "b/victim").unlink(missing_ok=True)
        return real(fd, names, wanted)

    monkeypatch.setattr(tree_plan, "scan", scan)
    packed = checked(pack_path(tree))
    assert packed.codes == {"b/victim": ["vanished"]}
    assert b"b/victim" not in packed.paths()
    assert others_are_whole(packed)


def test_a_link_that_vanishes_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        os.symlink("target", tmp_path / name)
    real = os.readlink

    def readlink(name: Any, *, dir_fd: int | None = None) -> Any:
        if name == b"a":
            raise OSError(errno.ENOENT, "gone")
        return real(name, dir_fd=dir_fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "readlink", readlink)
        packed = pack_path(tmp_path)
    assert checked(packed).codes == {"a": ["vanished"]}
    assert packed.paths() == [b"", b"b"]


@pytest.mark.parametrize(("change", "told"), [(remove, "vanished"), (replace_by_file, "vanished")])
def test_a_file_with_holes_that_is_gone_before_its_map_is_read_is_left_out(
    change: Callable[[Path], None], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sparse(tmp_path / "victim", 200_000, {8192: noise(4096, 1)})
    real = files.data_runs_of

    def data_runs_of(fd: int, found: Found) -> Any:
        change(tmp_path / "victim")
        return real(fd, found)

    monkeypatch.setattr(tree_plan, "data_runs_of", data_runs_of)
    packed = checked(pack_path(tmp_path))
    assert packed.codes == {"victim": [told]}
    assert packed.paths() == [b""]


def test_a_file_system_that_does_not_tell_of_holes_gives_files_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sparse(tmp_path / "f", 200_000, {8192: noise(4096, 1)})
    content = (tmp_path / "f").read_bytes()
    real = os.lseek

    def lseek(fd: int, offset: int, how: int) -> int:
        if how in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(errno.EINVAL, "no")
        return real(fd, offset, how)

    with monkeypatch.context() as patch:
        patch.setattr(os, "lseek", lseek)
        packed = pack_path(tmp_path)
    assert checked(packed).findings == []
    assert packed.flags(b"f") == 0
    assert packed.bytes_of(b"f") == content


# --- what the format can't hold ------------------------------------------------------------------


def test_attributes_that_are_too_long_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "f").write_bytes(b"x")
    long = layout.ATTRIBUTE.pack(6, 50) + b"user.a" + bytes(50)
    monkeypatch.setattr(layout, "MAX_ATTRIBUTES_BYTES", 61)
    change_found(
        monkeypatch,
        {name: lambda each: each._replace(attributes=long) for name in (b"d", b"f")},
    )
    packed = pack_path(tmp_path)
    monkeypatch.undo()
    assert checked(packed).codes == {"d": ["attributes"], "f": ["attributes"]}
    for name in (b"d", b"f"):
        assert packed.tree.attributes(packed.view.entry(name)) == []
    assert all("SCHILY" not in str(each.pax_headers) for each in tar_members(packed.content))


@pytest.mark.parametrize("kind", ["file", "folder", "link", "plain"])
def test_a_name_that_is_too_long_is_left_out(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("n" * 20)
    if kind == "folder":
        long.mkdir()
    elif kind == "link":
        long.symlink_to("x")
    else:
        long.write_bytes(noise(LEAST_BYTES * (kind == "file") + 5, 1))
    (tmp_path / ("m" * 19)).touch()
    monkeypatch.setattr(layout, "MAX_ENTRY_NAME_BYTES", 19)
    monkeypatch.setattr(tree_plan, "native", lambda: None)  # what is compiled knows 255 alone
    packed = checked(pack_path(tmp_path))
    assert packed.codes == {"n" * 20: ["name"]}
    assert packed.paths() == [b"", b"m" * 19]


def test_a_target_that_is_too_long_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").symlink_to("t" * 30)
    (tmp_path / "b").symlink_to("t" * 29)
    monkeypatch.setattr(layout, "MAX_LINK_TARGET_BYTES", 29)
    packed = checked(pack_path(tmp_path))
    assert packed.codes == {"a": ["name"]}
    assert packed.paths() == [b"", b"b"]


@pytest.mark.parametrize("size", [100, LEAST_BYTES])
def test_a_time_beyond_the_format_is_the_nearest(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("early", "late"):
        (tmp_path / name).write_bytes(noise(size, ord(name[0])))
    change_found(
        monkeypatch,
        {
            b"early": lambda each: each._replace(mtime_ns=-(2**70)),
            b"late": lambda each: each._replace(mtime_ns=2**70),
        },
    )
    packed = pack_path(tmp_path)
    monkeypatch.undo()
    for name in ("early", "late"):
        assert packed.codes[name][0] == "time"
        assert set(packed.codes[name]) <= {"time", "changed"}
    assert packed.view.entry(b"early").mtime_ns == -(2**63) + 1
    assert packed.view.entry(b"late").mtime_ns == 2**63 - 1
    assert verify(MemoryStore(packed.data), Level.CONTENT, threads=1).is_whole


def test_folders_that_are_too_deep_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a/b/c/d").mkdir(parents=True)
    (tmp_path / "a/f").touch()
    (tmp_path / "z").mkdir()
    monkeypatch.setattr(layout, "MAX_DEPTH", 3)
    packed = pack_path(tmp_path)
    assert packed.codes == {"a/b/c": ["too-deep"]}
    assert packed.tree.lookup(b"a/b/c") is not None
    assert packed.tree.lookup(b"a/b/c/d") is None
    assert [member.name for member in tar_members(packed.content)] == [
        ".", "a", "a/f", "a/b", "a/b/c", "z",
    ]  # fmt: skip


def test_findings_tell_the_path_from_the_root_as_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = os.fsencode(tmp_path) + b"/one/\xff\n"
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with open(path, "wb"):
        pass
    change_found(monkeypatch, {b"\xff\n": lambda each: each._replace(error=errno.EIO)})
    packed = pack_paths([tmp_path / "one", tmp_path / "two"])
    (finding,) = packed.findings
    assert finding.path is not None
    assert os.fsencode(finding.path) == b"one/\xff\n"
    assert finding.code == "unreadable"
    assert finding.message.startswith("one/")
