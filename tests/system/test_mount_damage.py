"""Damaged and hostile archives, mounted: errors where something is lost, and never other bytes."""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from onggi.archive import layout
from onggi.archive.entry import Entry
from onggi.archive.errors import DamagedError, OnggiError
from onggi.archive.reader import Archive
from onggi.archive.store import FileStore
from onggi.archive.view import View
from onggi.archive.volume_view import VolumeView

from ..spec.fixture_tools import FOLDER, OUTCOMES, TREES, VOLUMES, digest_of, few, mini, path_of
from .mount_helpers import COMMAND, KIB, MIB, Server, Shows, error_name, is_mounted, run, tried
from .mount_helpers import kept as kept
from .mount_helpers import shows as shows
from .tree_corpus import noisy

pytestmark = pytest.mark.needs("root", "fuse", "mount")

FRAME, PAGE = 64 * KIB, 4096
SMALL = ("--block-size", "4096", "--blocks", "256", "--frame-size", str(FRAME))
MOST_BYTES = 400 * MIB
MOST_READ = 16 * MIB  # of one file; some say that they hold 2^63 - 1


# --- damage that is made -------------------------------------------------------------------------


def frame_places(archive: Path) -> list[tuple[int, int]]:
    """Return (offset in the archive, stored length) of all frames, in order."""
    places: list[tuple[int, int]] = []
    with FileStore(archive) as store:
        index = Archive(store).index
        for number in range(index.unit_count):
            unit = index.unit(number)
            at = unit.payload_offset
            for frame in index.frames(unit):
                places.append((at, frame.stored_bytes))
                at += frame.stored_bytes
    return places


def flip(archive: Path, offset: int) -> None:
    """Change a bit of an archive."""
    with archive.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def damage_frames(archive: Path, *numbers: int) -> None:
    places = frame_places(archive)
    for number in numbers:
        offset, length = places[number]
        flip(archive, offset + length // 2)


class Volume(NamedTuple):
    """A mounted volume with damaged frames, and what it should hold."""

    server: Server
    file: Path
    data: bytes
    damaged: set[int]

    def is_damaged(self, offset: int, length: int) -> bool:
        """Tell whether a span touches what is damaged."""
        return any(number * FRAME < offset + length and offset < (number + 1) * FRAME
                   for number in self.damaged)  # fmt: skip


@pytest.fixture
def volume(onggi: Any, shows: Shows, tmp_path: Path) -> Volume:
    """A volume of 64 frames, some of which are damaged."""
    data = noisy(64 * FRAME - 5000, 6)
    (tmp_path / "disk.img").write_bytes(data)
    onggi.ok("pack", "disk.img", "a.onggi", *SMALL)
    damaged = {10, 11, 40, 63}
    damage_frames(tmp_path / "a.onggi", *damaged)
    server = shows(tmp_path / "a.onggi", "--threads", "2")
    return Volume(server, server.place / "volume.img", data, damaged)


def hold_reads(volume: Volume, file: int, step: int, offsets: range) -> None:
    """Hold that each read gives what is there, up to what is damaged, or else an error."""
    buffer = mmap.mmap(-1, step)
    for offset in offsets:
        got: list[int] = []
        error = error_name(lambda at=offset, got=got: got.append(os.preadv(file, [buffer], at)))
        wanted = min(step, len(volume.data) - offset)
        if volume.is_damaged(offset, wanted):
            if error:
                assert error == "EIO", offset
                continue
            assert not volume.is_damaged(offset, got[0]), offset
        else:
            assert not error, (offset, error)
            assert got == [wanted], offset
        assert buffer[: got[0]] == volume.data[offset : offset + got[0]], offset


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "buffered"])
@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("step", [PAGE, 5 * PAGE, FRAME])
def test_only_reads_that_touch_a_damaged_frame_fail(
    step: int, backwards: bool, direct: bool, volume: Volume
) -> None:
    file = os.open(volume.file, os.O_RDONLY | (os.O_DIRECT if direct else 0))
    offsets = range(0, len(volume.data), step)
    try:
        hold_reads(volume, file, step, offsets[::-1] if backwards else offsets)
    finally:
        os.close(file)
    assert volume.server.is_alive
    assert len(volume.server.log) == len(volume.damaged), volume.server.log


def test_a_damaged_frame_is_told_once_however_many_ask_for_it(volume: Volume) -> None:
    def read(number: int) -> str:
        file = os.open(volume.file, os.O_RDONLY | os.O_DIRECT)
        buffer = mmap.mmap(-1, PAGE)
        try:
            return error_name(lambda: os.preadv(file, [buffer], 10 * FRAME + number % 16 * PAGE))
        finally:
            os.close(file)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(200))) == {"EIO"}
    assert len(volume.server.log) == 1
    assert "frame" in volume.server.log[0]
    with volume.file.open("rb") as file:
        assert file.read(1000) == volume.data[:1000]


def test_programs_get_all_that_is_not_damaged(volume: Volume, tmp_path: Path) -> None:
    assert run("cmp", "-n", 10 * FRAME, volume.file, tmp_path / "disk.img") == b""
    done = tried("cat", volume.file)
    assert done.returncode == 1
    assert b"Input/output error" in done.stderr
    assert volume.data.startswith(done.stdout)
    assert len(done.stdout) >= 10 * FRAME
    words = ("bs=4096", "conv=noerror,sync", "status=none")
    done = tried("dd", f"if={volume.file}", f"of={tmp_path / 'saved'}", *words)
    expected = bytearray(volume.data.ljust(len(volume.data) + -len(volume.data) % PAGE, b"\0"))
    for number in volume.damaged:
        end = min((number + 1) * FRAME, len(expected))
        expected[number * FRAME : end] = bytes(end - number * FRAME)
    saved = (tmp_path / "saved").read_bytes()
    # It asks for the last piece, which is short, as for any other; it may get less of it.
    assert saved[: 63 * FRAME] == expected[: 63 * FRAME]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of files of many lengths."""
    root = tmp_path / "tree"
    for number in range(60):
        path = root / f"folder-{number % 5}" / f"file-{number:02}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noisy(number * number * 37, number))
    with (root / "sparse").open("wb") as file:
        for at in (0, 500_000, 900_001):
            file.seek(at)
            file.write(noisy(100_000, at + 1))
    return root


def content_spans(archive: Path) -> dict[str, list[tuple[int, int]]]:
    """Return the runs (offset, end) of content of each file that is in an archive."""
    spans: dict[str, list[tuple[int, int]]] = {}
    with FileStore(archive) as store:
        view = View(Archive(store))
        for visited in view.walk(view.root):
            entry = visited.entry
            if entry.is_mapped:
                runs = view.tree.runs_from(entry, 0)
                found = [(run.content_offset, run.content_offset + run.run_bytes) for run in runs]
            else:
                found = [(entry.first, entry.first + entry.member_bytes)] if entry.is_file else []
            spans[visited.path.decode()] = found
    return spans


def test_files_that_are_not_in_a_damaged_frame_are_whole(
    tree: Path, onggi: Any, shows: Shows, tmp_path: Path
) -> None:
    onggi.ok("pack", tree, "a.onggi", *SMALL)
    archive = tmp_path / "a.onggi"
    damaged = (3, 20, 21, 40)
    spans = content_spans(archive)
    damage_frames(archive, *damaged)
    server = shows(archive)
    hit = 0
    for path, runs in spans.items():
        touched = any(
            number * FRAME < end and at < (number + 1) * FRAME
            for at, end in runs
            for number in damaged
        )
        if not (tree / path).is_file():
            continue
        hit += touched
        expected = (tree / path).read_bytes()
        with (server.place / path).open("rb", buffering=0) as file:
            read: list[bytes] = []
            error = error_name(lambda file=file, read=read: read.append(file.read()))
            assert error == "" or touched, path
            # What the system can give before the damage, it gives.
            assert error == "EIO" or b"".join(read) == expected[: len(read[0])], path
            assert touched or read == [expected]
            whole = not touched
            for at in range(0, len(expected), PAGE) if touched else ():
                got: list[bytes] = []
                error = error_name(lambda at=at, got=got, file=file: got.append(
                    os.pread(file.fileno(), PAGE, at)
                ))  # fmt: skip
                assert error in ("", "EIO")
                assert error or got == [expected[at : at + PAGE]], (path, at)
                whole |= bool(error)
            assert whole, path
    assert 3 < hit < 30
    assert len(server.log) == len(damaged), server.log
    assert server.is_alive


@pytest.mark.needs("rsync")
def test_a_copy_of_a_damaged_tree_has_all_that_is_not_damaged(
    tree: Path, onggi: Any, shows: Shows, tmp_path: Path
) -> None:
    onggi.ok("pack", tree, "a.onggi", *SMALL)
    damage_frames(tmp_path / "a.onggi", 20)
    server = shows(tmp_path / "a.onggi")
    done = tried("rsync", "-a", f"{server.place}/", f"{tmp_path / 'copy'}/")
    assert done.returncode == 23, done.stderr  # some files were not copied
    copied = {path.relative_to(tmp_path / "copy") for path in (tmp_path / "copy").rglob("*")}
    paths = {path.relative_to(tree) for path in tree.rglob("*")}
    assert copied < paths
    assert len(paths - copied) < 8
    for path in copied:
        if (tree / path).is_file():
            assert (tmp_path / "copy" / path).read_bytes() == (tree / path).read_bytes()
    assert len(server.log) == 1


def test_in_a_folder_of_archives_the_log_tells_which_one_is_damaged(
    tree: Path, onggi: Any, shows: Shows, tmp_path: Path
) -> None:
    onggi.ok("pack", tree, "a.onggi", *SMALL)
    damage_frames(tmp_path / "a.onggi", 20)
    (tmp_path / "vault").mkdir()
    for name in ("monday", "tuesday"):
        shutil.copy(tmp_path / "a.onggi", tmp_path / "vault" / f"{name}.onggi")
    server = shows(tmp_path / "vault")
    for name in ("monday", "tuesday"):
        assert tried("diff", "-r", tree, server.place / name).returncode == 2
    assert len(server.log) == 2, server.log
    assert "monday" in server.log[0]
    assert "tuesday" in server.log[1]


# --- damage of the catalogue ---------------------------------------------------------------------

Told = dict[str, Any]


def survey(root: Path) -> tuple[Told, Counter[str]]:
    """Return all that can be told of a tree, and how often there were errors instead."""
    told: Told = {}
    errors: Counter[str] = Counter()

    def ask(what: str, path: str, question: Callable[[], Any]) -> Any:
        try:
            told[f"{what} {path}"] = answer = question()
        except OSError as error:
            errors[errno.errorcode[error.errno or 0]] += 1
            return None
        return answer

    waiting = ["."]
    while waiting:
        path = waiting.pop()
        place = root / path
        found = ask("stat", path, lambda place=place: facts(place.lstat()))
        mode = found[0] if found else 0
        ask("attributes", path, lambda place=place: attributes_of(place))
        if stat.S_ISREG(mode):
            ask("bytes", path, lambda place=place: hashlib.sha256(place.read_bytes()).digest())
        elif stat.S_ISLNK(mode):
            ask("target", path, lambda place=place: os.readlink(place))
        elif stat.S_ISDIR(mode):
            names = ask("names", path, lambda place=place: sorted(os.listdir(place)))
            waiting += [f"{path}/{name}" for name in names or ()]
    return told, errors


def facts(found: os.stat_result) -> tuple[int, ...]:
    size = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
    return (found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, size)


def attributes_of(path: Path) -> list[tuple[str, bytes]]:
    return [
        (name, os.getxattr(path, name, follow_symlinks=False))
        for name in sorted(os.listxattr(path, follow_symlinks=False))
    ]


def test_damage_of_the_catalogue_is_an_error_to_those_who_need_it_alone(
    onggi: Any, shows: Shows, tmp_path: Path
) -> None:
    root = tmp_path / "tree"
    for number in range(1800):
        path = root / f"folder-{number % 30}" / f"{number}-{'n' * 150}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % 7 == 0:
            path.symlink_to(f"target-of-{number}" * 10)
            continue
        path.write_bytes(noisy(number, number))
        if number % 5 == 0:
            os.setxattr(path, "user.jar", b"%d" % number)
        if number % 11 == 0:
            with path.open("r+b") as file:
                file.truncate(100_000 + number)
    onggi.ok("pack", root, "a.onggi", "--json")
    expected, errors = survey(root)
    assert not errors
    archive = tmp_path / "a.onggi"
    whole = archive.read_bytes()
    with FileStore(archive) as store:
        index = Archive(store).index
        first = index.unit(index.unit_count - 1).end_offset
    end = len(whole) - layout.FOOTER_BYTES
    seen: Counter[str] = Counter()
    flips = 20
    for number in range(flips):
        archive.write_bytes(whole)
        offset = first + (end - first) * (2 * number + 1) // (2 * flips)
        flip(archive, offset)
        place = shows.expect(tmp_path / f"flipped-{number}")
        place.mkdir()
        log = tmp_path / f"flipped-{number}.log"
        ran = onggi("mount", archive, place, "--log", log)
        if ran.code:
            onggi.fails(4, "mount", archive, place)
            seen["refused"] += 1
            continue
        shows.watch()
        told, errors = survey(place)
        assert set(errors) <= {"EIO"}, (offset, errors)
        assert {what: told[what] for what in told if told[what] != expected.get(what)} == {}, offset
        lines = log.read_text().splitlines() if log.exists() else []
        assert bool(lines) is bool(errors), (offset, lines, errors)
        assert not [line for line in lines if "defect" in line]
        assert len(lines) <= 3, lines
        seen["all is there" if len(told) == len(expected) else "some is lost"] += 1
        onggi.ok("umount", place)
    print(f"flipped bits of the catalogue: {dict(seen)}")
    assert seen["some is lost"] >= flips // 3


# --- hostile archives ----------------------------------------------------------------------------


@pytest.fixture
def hostile(kept: Shows) -> Server:
    """All archives of fixtures/, mounted as one folder."""
    return kept.once(FOLDER / "archives")


def opened(name: str) -> Iterator[View | VolumeView]:
    """Give what the engine shows of an archive; nothing if it can't show its root."""
    with FileStore(path_of(name)) as store:
        try:
            archive = Archive(store)
            is_tree = archive.header.kind == layout.KIND_TREE
            view = View(archive) if is_tree else VolumeView(archive, name=b"volume.img")
            assert view.root.is_directory
        except OnggiError:
            return
        yield view


def read_file(path: bytes | Path) -> bytes | str:
    """Return the bytes of a file, or the name of the error."""
    read: list[bytes] = []
    error = error_name(lambda: read.append(Path(os.fsdecode(path)).read_bytes()))
    return error or read[0]


def disagreements(view: View | VolumeView, place: bytes) -> Iterator[str]:
    """Yield where a mount shows something else than the engine gives, which is no error."""
    waiting: list[tuple[Entry, bytes]] = [(view.root, place)]
    seen = 0
    while waiting:
        directory, path = waiting.pop()
        shown: list[bytes] = []
        if error := error_name(lambda path=path, shown=shown: shown.extend(os.listdir(path))):
            if error != "EIO":
                yield f"{path!r}: {error}"
            continue
        try:
            children = dict(view.children_from(directory, 0))
        except DamagedError as damage:
            yield f"{path!r} is listed: {damage}"
            continue
        if sorted(shown) != sorted(children):
            yield f"{path!r}: other names"
            continue
        for name, entry in children.items():
            below = path + b"/" + name
            seen += 1
            assert seen < 5000
            found: list[os.stat_result] = []
            error = error_name(lambda below=below, found=found: found.append(os.lstat(below)))
            if error:
                if error != "EIO":
                    yield f"{below!r}: {error}"
                continue
            if entry.is_directory:
                waiting.append((entry, below))
            elif found[0].st_size != entry.member_bytes:
                yield f"{below!r}: of another length"
            elif entry.is_file and entry.member_bytes <= MOST_READ:
                got = read_file(below)
                if isinstance(got, str):
                    if got != "EIO":
                        yield f"{below!r}: {got}"
                elif got != view.read(entry, 0, entry.member_bytes):
                    yield f"{below!r}: other bytes"


def test_find_and_cat_of_all_hostile_archives_end_and_break_nothing(hostile: Server) -> None:
    for words in (
        ("find", hostile.place, "-ls"),
        ("find", hostile.place, "-type", "f", "-size", "-32768", "-exec", "cat", "{}", "+"),
        ("du", "-s", hostile.place),
        ("getfattr", "-R", "-P", "-h", "-d", "-m", "-", "--absolute-names", hostile.place),
    ):
        done = tried(*words, timeout_s=60)
        assert done.returncode in (0, 1), words
        lines = done.stderr.decode(errors="replace").splitlines()
        assert {line.rsplit(": ", 1)[-1] for line in lines} <= {"Input/output error"}, words
    assert hostile.is_alive
    assert [line for line in hostile.log if "defect" in line or "Traceback" in line] == []
    print(f"{len(OUTCOMES)} archives: peak of memory {hostile.peak_bytes / MIB:.0f} MiB")
    assert hostile.peak_bytes < MOST_BYTES


@pytest.mark.parametrize("kind", ["trees", "volumes"])
def test_hostile_archives_show_what_the_engine_gives_or_an_error(
    kind: str, hostile: Server
) -> None:
    wrong: list[str] = []
    entered = 0
    for name in TREES if kind == "trees" else VOLUMES:
        place = hostile.place / name
        views = 0
        for view in opened(name):
            views += 1
            wrong += [f"{name}: {line}" for line in disagreements(view, os.fsencode(place))]
        error = error_name(lambda place=place: os.listdir(place))
        assert error == "EIO" if not views else error in ("", "EIO"), name
        entered += not error
    assert wrong == []
    assert entered > 100
    assert hostile.is_alive


def test_a_volume_that_can_be_read_whole_is_the_one_that_was_packed(hostile: Server) -> None:
    read = 0
    for name in VOLUMES:
        outcome = OUTCOMES[name]
        if outcome["found"] == "open" or outcome["salvage"]["bytes"] > MOST_READ:
            continue
        got = read_file(hostile.place / name / "volume.img")
        if isinstance(got, bytes):
            # Known also where a reader that checks everything refuses it.
            good = outcome["content"] or outcome["salvage"]
            assert digest_of(got) == {key: good[key] for key in ("bytes", "sha256")}, name
            read += 1
        else:
            assert got == "EIO"
            assert outcome["kind"] != "ok", name
    assert read > 60


GOOD_TREES = [name for name in TREES if OUTCOMES[name]["kind"] == "ok"]
TYPES = {
    "file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK, "fifo": stat.S_IFIFO,
    "character-device": stat.S_IFCHR, "block-device": stat.S_IFBLK,
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD_TREES)
def test_a_tree_is_shown_as_the_second_reader_lists_it(name: str, hostile: Server) -> None:
    """`spec/mini_decoder.py` shares no code with the package."""
    data = path_of(name).read_bytes()
    tree = mini.tree_of(mini.Archive(data).open())
    told = list(mini.listing(data, hashing=False))
    root = os.fsencode(hostile.place / name)
    for row, line in enumerate(told):
        path = tree.path(row)
        place = root if path in (b"", b".") else root + b"/" + path
        found = os.lstat(place)
        entry = json.loads(line)
        if entry["type"] == "hard-link":
            target = tree.entries[row].first
            assert found.st_ino == os.lstat(root + b"/" + tree.path(target)).st_ino
            continue
        assert stat.S_IFMT(found.st_mode) == TYPES[entry["type"]], place
        if row:  # the root of an archive in a folder of archives is a folder of that one
            for key in ("mode", "uid", "gid", "mtime_ns"):
                fact = stat.S_IMODE(found.st_mode) if key == "mode" else getattr(found, f"st_{key}")
                assert fact == entry[key], (place, key)
        if entry["type"] == "file":
            assert found.st_size == entry["member_bytes"]
            if found.st_size <= MOST_READ:
                assert read_file(place) == b"".join(mini.cat(data, path, hashing=False)), place
        elif entry["type"] == "symlink":
            assert os.readlink(place).decode("utf-8", "backslashreplace") == entry["target"]
        elif "device" in entry:
            assert [os.major(found.st_rdev), os.minor(found.st_rdev)] == entry["device"]
    listed = run("find", os.fsdecode(root), "-printf", "x").count(b"x")
    assert listed == len(told)


def test_files_that_are_one_hole_of_all_that_can_be_are_shown(hostile: Server) -> None:
    name = "ok-tree-largest-files"
    paths = [path for path in (hostile.place / name).rglob("*") if path.is_file()]
    assert paths
    for path in paths:
        found = path.stat()
        assert (found.st_size, found.st_blocks) == (2**63 - 1, 0)
        with path.open("rb", buffering=0) as file:
            assert file.read(10_000) == bytes(10_000)
            assert os.pread(file.fileno(), 10_000, 2**62 + 1) == bytes(10_000)
            assert error_name(lambda file=file: os.lseek(file.fileno(), 0, os.SEEK_DATA)) == "ENXIO"
            assert os.lseek(file.fileno(), 5, os.SEEK_HOLE) == 5


def test_few_archives_stay_open_also_if_they_are_broken(shows: Shows) -> None:
    server = shows(FOLDER / "archives")
    tried("find", server.place, "-type", "f", "-size", "-32768", "-exec", "cat", "{}", "+")
    opened = [file for file in server.files if file.endswith(".onggi")]
    print(f"{len(opened)} of {len(OUTCOMES)} archives stay open")
    assert len(opened) <= 64


CODES = {"not-an-archive": 3, "unsupported": 3, "truncated": 4, "corrupt": 4}


@pytest.mark.parametrize(
    "name",
    few([name for name in sorted(OUTCOMES) if OUTCOMES[name]["found"] == "open"], 1)[::2],
)
def test_what_cannot_be_opened_is_not_mounted(name: str, onggi: Any, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    onggi.fails(CODES[OUTCOMES[name]["kind"]], "mount", path_of(name), "place", timeout_s=20)
    assert not is_mounted(tmp_path / "place")


@pytest.mark.parametrize(
    "name",
    few([name for name in TREES if OUTCOMES[name]["found"] == "read"], 1)[::2],
)
def test_a_hostile_tree_is_mounted_by_itself(name: str, shows: Shows) -> None:
    server = shows(path_of(name))
    shows.watch(40)
    done = tried("tar", "cf", "-", "-C", server.place, "--xattrs", "--acls", ".", timeout_s=30)
    assert done.returncode in (0, 1, 2)
    for view in opened(name):
        assert list(disagreements(view, os.fsencode(server.place))) == []
    assert [line for line in server.log if "defect" in line] == []
    run(*COMMAND, "umount", server.place)
    assert not server.log or all(" onggi mount: " in line for line in server.log)
