"""Mounted volumes are the devices that were packed; folders of archives are a folder for each."""

from __future__ import annotations

import os
import random
import re
import shutil
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from .mount_helpers import COMMAND, KIB, LONG, MIB, Shows, error_name, run, tried, wait_for
from .mount_helpers import shows as shows
from .tree_corpus import noisy

pytestmark = pytest.mark.needs("root", "loop", "fuse", "mount")

READERS = 8
READ_S = 60 if LONG else 4
FRAME = 64 * KIB
SMALL = ("--block-size", "4096", "--blocks", "256", "--frame-size", str(FRAME))


def image_of(path: Path, size: int, *runs: tuple[int, int]) -> Path:
    """Make an image of that size with data in runs of (offset, length), and holes elsewhere."""
    with path.open("xb") as file:
        file.truncate(size)
        for offset, length in runs:
            file.seek(offset)
            file.write(noisy(length, offset + 1))
    return path


# --- file systems in volumes ---------------------------------------------------------------------


def plant_tree(folder: Path) -> None:
    """Make files of many sizes, a sparse one, links and an empty folder."""
    noise = random.Random(7)
    for number in range(60):
        place = folder / f"folder-{number % 7}" / f"deeper-{number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        size = noise.choice([0, 1, 100, 4096, 70_000, 400_000])
        data = noise.randbytes(size) if number % 2 else (b"soy sauce, " * size)[:size]
        (place / f"file-{number}").write_bytes(data)
    with (folder / "sparse").open("wb") as file:
        file.seek(3 * MIB)
        file.write(b"island")
        file.truncate(5 * MIB)
    (folder / "link").symlink_to("folder-1/deeper-1")
    os.link(folder / "sparse", folder / "second name")
    (folder / "empty").mkdir()
    os.setxattr(folder / "link", "trusted.jar", b"lid", follow_symlinks=False)


# Size, how it is made, and how it is mounted from what can't be written to.
FILE_SYSTEMS = {
    "ext4": (64 * MIB, ("mkfs.ext4", "-q", "-F"), "ro,noload"),
    "xfs": (320 * MIB, ("mkfs.xfs", "-q", "-f"), "ro,norecovery,nouuid"),
    "btrfs": (128 * MIB, ("mkfs.btrfs", "-q", "-f"), "ro"),
}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(name, marks=pytest.mark.needs(f"mkfs.{name}", "rsync")) for name in FILE_SYSTEMS],
)
def test_a_file_system_is_mounted_out_of_a_mounted_volume(
    kind: str, onggi: Any, shows: Shows, disks: Any, loops: Any, mounts: Any, tmp_path: Path
) -> None:
    size, make, options = FILE_SYSTEMS[kind]
    image = disks("source.img", size)
    device = loops(image)
    run(*make, device)
    place = mounts(device, name="original")
    plant_tree(place)
    mounts.unmount(place)
    onggi.ok("pack", device, "volume.onggi")
    server = shows(tmp_path / "volume.onggi")
    volume = server.place / "volume.img"
    assert os.listdir(server.place) == ["volume.img"]
    assert volume.stat().st_size == size
    run("cmp", volume, device)

    # What is compared with comes from a copy: two devices of one identity at once confuse btrfs.
    original = tmp_path / "tree"
    place = mounts(device, "-o", options, name="original")
    run("cp", "-a", place, original)
    mounts.unmount(place)
    run("losetup", "-d", device)
    loops.devices.remove(str(device))

    inner = loops(volume, "--read-only")
    assert run("blockdev", "--getsize64", inner).strip() == b"%d" % size
    place = mounts(inner, "-o", options, name="inner")
    assert run("diff", "-r", "--no-dereference", original, place) == b""
    words = ("rsync", "-naiHAXS", "-@-1", "--checksum", "--delete", "--numeric-ids")
    assert run(*words, f"{original}/", f"{place}/") == b""
    assert (place / "sparse").stat().st_nlink == 2

    # A mount that others stand on is in use.
    onggi.fails(6, "umount", server.place)
    assert (place / "second name").read_bytes()[3 * MIB :][:6] == b"island"
    mounts.unmount(place)
    run("losetup", "-d", inner)
    loops.devices.remove(str(inner))
    assert wait_for(lambda: tried("losetup", inner).returncode)
    shows.umount(server)
    shutil.rmtree(original)


# --- holes ---------------------------------------------------------------------------------------


def test_the_holes_of_a_volume_are_holes_and_its_zeros_are_data(
    onggi: Any, shows: Shows, tmp_path: Path
) -> None:
    size = 40 * MIB + 5000
    data = [(0, 4096), (3 * MIB, 200_000), (17 * MIB - 1, 2), (30 * MIB, MIB), (40 * MIB, 5000)]
    image = image_of(tmp_path / "source.img", size, *data)
    with image.open("r+b") as file:
        file.seek(20 * MIB + 2 * FRAME)
        file.write(bytes(2 * MIB))  # zeros that were written
    data.append((20 * MIB + 2 * FRAME, 2 * MIB))
    onggi.ok("pack", image, "volume.onggi", *SMALL)
    volume = shows(tmp_path / "volume.onggi").place / "volume.img"
    # A hole is shown where a frame holds nothing else.
    frames = sorted(
        {frame for at, length in data for frame in range(at // FRAME, -(-(at + length) // FRAME))}
    )
    data_bytes = sum(min(FRAME, size - frame * FRAME) for frame in frames)
    found = volume.stat()
    assert found.st_size == size
    assert found.st_blocks == -(-data_bytes // 512)
    expected = [(frame * FRAME, min((frame + 1) * FRAME, size)) for frame in frames]
    runs: list[tuple[int, int]] = []
    for start, end in expected:
        if runs and runs[-1][1] == start:
            start = runs.pop()[0]
        runs.append((start, end))
    with volume.open("rb") as file:
        at, seen = 0, []
        while at < size:
            start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            seen.append((start, at))
        assert seen == runs
        for start, end in runs:  # from within them
            assert os.lseek(file.fileno(), start + 7, os.SEEK_DATA) == start + 7
            assert os.lseek(file.fileno(), end - 1, os.SEEK_HOLE) == end
            assert os.lseek(file.fileno(), end - 1, os.SEEK_DATA) == end - 1
    run("cmp", image, volume)
    run("cp", "--sparse=auto", volume, tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_blocks <= found.st_blocks + 16 * len(runs)


def test_a_volume_that_is_one_hole_and_a_volume_of_nothing(
    onggi: Any, shows: Shows, tmp_path: Path
) -> None:
    for name, size in (("hole", 1 << 40), ("empty", 0)):
        image_of(tmp_path / name, size)
        onggi.ok("pack", name, f"{name}.onggi", "--blocks", "4096", "--frame-size", "4M")
        volume = shows(tmp_path / f"{name}.onggi").place / "volume.img"
        found = volume.stat()
        assert (found.st_size, found.st_blocks) == (size, 0)
        with volume.open("rb") as file:
            assert error_name(lambda file=file: os.lseek(file.fileno(), 0, os.SEEK_DATA)) == "ENXIO"
            assert os.pread(file.fileno(), 4096, size // 2) == bytes(4096 if size else 0)
            assert os.pread(file.fileno(), 4096, size - 10 if size else 0) == bytes(10 * bool(size))
            assert os.pread(file.fileno(), 10, size + 1) == b""


# --- many readers --------------------------------------------------------------------------------

# Reads at random, buffered or past the page cache, and counts what differs from the original.
_READER = """
import mmap, os, random, sys, time
volume, original, seed, most_s = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
noise, direct = random.Random(seed), seed % 2
file = os.open(volume, os.O_RDONLY | (os.O_DIRECT if direct else 0))
truth = os.open(original, os.O_RDONLY)
size = os.fstat(truth).st_size
buffer = mmap.mmap(-1, 1 << 21)
reads = read_bytes = differences = 0
end = time.monotonic() + most_s
while time.monotonic() < end:
    length = noise.choice([1, 511, 4096, 5000, 65536, 70001, 1 << 20, (1 << 20) + 4096])
    offset = noise.randrange(size)
    if noise.random() < 0.05:
        offset = size - noise.randrange(length)
    if direct:
        offset, length = offset // 4096 * 4096, -(-length // 4096) * 4096
    for _ in range(noise.choice([1, 1, 6])):  # sometimes in order
        got = os.preadv(file, [memoryview(buffer)[:length]], offset)
        expected = os.pread(truth, length, offset)
        differences += buffer[:got] != expected
        reads, read_bytes, offset = reads + 1, read_bytes + got, offset + length
    if not direct and noise.random() < 0.2:  # ask the mount again
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
print(reads, read_bytes, differences)
"""


def readers(volume: Path, original: Path, most_s: float) -> list[list[int]]:
    """Run 8 processes that read at once; return the reads, bytes and differences of each."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _READER, volume, original, str(seed), str(most_s)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for seed in range(READERS)
    ]  # fmt: skip
    found: list[list[int]] = []
    try:
        for child in children:
            out, err = child.communicate(timeout=most_s + 60)
            assert child.returncode == 0, err.decode()
            found.append([int(word) for word in out.split()])
    finally:
        for child in children:
            child.kill()
    return found


@pytest.mark.parametrize(
    "options", [("--cache", "1M", "-T", "3"), ()], ids=["small-cache", "default"]
)
def test_eight_who_read_at_random_all_read_what_the_original_holds(
    options: tuple[str, ...],
    content: Callable[..., bytes],
    onggi: Any,
    shows: Shows,
    tmp_path: Path,
) -> None:
    image = image_of(tmp_path / "source.img", 70 * MIB + 12_345, (50 * MIB, MIB))
    with image.open("r+b") as file:
        file.write(content(12 * MIB))
        file.seek(20 * MIB + 123)
        file.write(content(20 * MIB, 2))
    onggi.ok("pack", image, "volume.onggi", "--frame-size", "256K")
    server = shows(tmp_path / "volume.onggi", *options)
    shows.watch(READ_S + 60)
    found = readers(server.place / "volume.img", image, READ_S)
    reads, read_bytes, differences = map(sum, zip(*found, strict=True))
    print(f"{READERS} readers: {reads} reads, {read_bytes / MIB / READ_S:.0f} MiB/s, {options}")
    assert differences == 0
    assert all(each[0] > 20 for each in found), "one of them did not get on"
    assert server.log == []
    assert server.is_alive


_READ_ALL = """
import mmap, os, sys
file = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
buffer = mmap.mmap(-1, 1 << 16)
at = 0
while got := os.preadv(file, [buffer], at):
    at += got
"""


@pytest.mark.needs("strace")
def test_a_frame_is_decoded_once_though_eight_read_it_at_once(
    onggi: Any, shows: Shows, faults: Any, tmp_path: Path
) -> None:
    frames = 64
    image = image_of(tmp_path / "source.img", frames * FRAME, (0, frames * FRAME))
    onggi.ok("pack", image, "volume.onggi", *SMALL)
    server, child = shows.in_foreground(
        tmp_path / "volume.onggi", "-T", "2", prefix=faults.prefix("preadv", "preadv2")
    )
    words = (sys.executable, "-c", _READ_ALL, str(server.place / "volume.img"))
    children = [subprocess.Popen(words) for _ in range(READERS)]
    assert [each.wait(60) for each in children] == [0] * READERS
    run(*words)  # nor when one comes late
    run(*COMMAND, "umount", server.place)
    child.wait(20)
    # Where in the archive it read, and how much; pages of the index are small.
    text = faults.log.read_text(errors="replace")
    calls = re.findall(r"iov_len=(\d+)\}\], 1, (\d+)(?:, 0)?\) = \d+$", text, re.MULTILINE)
    frames_read = Counter(int(offset) for length, offset in calls if int(length) > FRAME // 4)
    assert len(frames_read) == frames
    assert {offset: times for offset, times in frames_read.items() if times > 1} == {}


# --- folders of archives -------------------------------------------------------------------------


@pytest.fixture
def vault(onggi: Any, tmp_path: Path) -> Path:
    """A folder with archives of two trees and of a volume, a broken one, and what is no archive."""
    folder = tmp_path / "vault"
    folder.mkdir()
    for name in ("monday", "tuesday"):
        (tmp_path / name / "jars").mkdir(parents=True)
        (tmp_path / name / "jars" / "kimchi").write_bytes(noisy(200_000, len(name)))
        (tmp_path / name / "day").write_text(name)
        onggi.ok("pack", name, folder / f"{name}.onggi", "--mode", "tree")
    image_of(tmp_path / "disk.img", 3 * MIB, (MIB, 70_000))
    onggi.ok("pack", "disk.img", folder / "disk.onggi")
    whole = (folder / "monday.onggi").read_bytes()
    (folder / "broken.onggi").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("no archive")
    (folder / "folder.onggi").mkdir()
    (folder / ".hidden.onggi").write_bytes(whole)
    return folder


def test_a_folder_of_archives_is_a_folder_for_each(
    vault: Path, shows: Shows, tmp_path: Path
) -> None:
    server = shows(vault)
    place = server.place
    good = {"disk", "monday", "tuesday"}
    assert good <= set(os.listdir(place)) <= good | {"broken"}
    for name in ("monday", "tuesday"):
        assert run("diff", "-r", tmp_path / name, place / name) == b""
    run("cmp", tmp_path / "disk.img", place / "disk" / "volume.img")
    assert os.path.isdir(place / "monday")
    for name in ("notes", "notes.txt", "folder", "hidden", "monday.onggi", "wednesday"):
        assert error_name((place / name).stat) == "ENOENT", name
    # No two things in it have the same number.
    paths = [path for name in sorted(good) for path in (place / name).rglob("*")]
    numbers = [path.lstat().st_ino for path in (place, *(place / name for name in good), *paths)]
    assert len(numbers) == 1 + 3 + 2 * 3 + 1
    assert len(numbers) == len(set(numbers))
    assert server.log == []


def test_what_is_not_listed_in_a_folder_of_archives_is_not_found_either(
    vault: Path, shows: Shows
) -> None:
    server = shows(vault)
    assert ".hidden" not in os.listdir(server.place)
    assert error_name((server.place / ".hidden").stat) == "ENOENT"


def test_archives_are_opened_when_they_are_entered(vault: Path, shows: Shows) -> None:
    server = shows(vault)

    def opened() -> set[str]:
        return {Path(file).name for file in server.files if file.endswith(".onggi")}

    assert opened() == set()
    os.listdir(server.place)
    (server.place / "monday").stat()
    assert opened() == set()
    assert (server.place / "monday" / "day").read_text() == "monday"
    assert opened() == {"monday.onggi"}
    assert os.listdir(server.place / "disk") == ["volume.img"]
    assert opened() == {"monday.onggi", "disk.onggi"}


def test_a_broken_archive_is_an_error_to_those_who_enter_it_alone(
    vault: Path, shows: Shows, tmp_path: Path
) -> None:
    server = shows(vault)
    for _ in range(3):
        assert error_name(lambda: os.listdir(server.place / "broken")) == "EIO"
        assert error_name((server.place / "broken" / "day").read_bytes) == "EIO"
    assert run("diff", "-r", tmp_path / "monday", server.place / "monday") == b""
    assert len(server.log) == 1, server.log
    assert server.is_alive


def test_the_log_says_which_archive_is_broken(vault: Path, shows: Shows) -> None:
    server = shows(vault)
    assert error_name(lambda: os.listdir(server.place / "broken")) == "EIO"
    assert "broken" in server.log[0]


def test_an_archive_that_comes_is_shown(vault: Path, shows: Shows, tmp_path: Path) -> None:
    server = shows(vault)
    new = server.place / "wednesday"
    assert "wednesday" not in os.listdir(server.place)
    assert error_name(new.stat) == "ENOENT"
    shutil.copy(vault / "monday.onggi", vault / "wednesday.onggi")
    assert run("diff", "-r", tmp_path / "monday", new) == b""
    assert "wednesday" in os.listdir(server.place)


def test_an_archive_that_goes_is_no_longer_shown(vault: Path, shows: Shows) -> None:
    server = shows(vault)
    assert (server.place / "monday" / "day").read_text() == "monday"
    assert (server.place / "tuesday").is_dir()
    for name in ("monday", "tuesday"):
        (vault / f"{name}.onggi").unlink()
    assert {"monday", "tuesday"} & set(os.listdir(server.place)) == set()
    for name in ("tuesday", "monday"):
        gone = server.place / name
        assert wait_for(lambda gone=gone: error_name(gone.stat) == "ENOENT")  # within a second
        assert error_name(lambda gone=gone: os.listdir(gone)) == "ENOENT"
    assert error_name((server.place / "monday" / "day").read_bytes) == "ENOENT"
    assert os.listdir(server.place / "disk") == ["volume.img"]


def test_a_file_that_is_open_when_its_archive_goes_gives_its_bytes_or_an_error(
    vault: Path, shows: Shows
) -> None:
    server = shows(vault)
    read: list[bytes] = []
    with (server.place / "monday" / "jars" / "kimchi").open("rb") as file:
        (vault / "monday.onggi").unlink()
        error = error_name(lambda: read.append(file.read()))
    assert error in ("ENOENT", "EIO", "ESTALE") or read == [noisy(200_000, len("monday"))]
    assert server.is_alive


def test_an_archive_that_is_replaced_is_shown_as_it_is_now(vault: Path, shows: Shows) -> None:
    """As a backup that is made anew each day under one name."""
    server = shows(vault)
    day = server.place / "monday" / "day"
    assert day.read_text() == "monday"
    assert (server.place / "monday" / "jars" / "kimchi").stat().st_size == 200_000
    (vault / "monday.onggi").unlink()
    os.replace(vault / "tuesday.onggi", vault / "monday.onggi")
    assert wait_for(lambda: day.stat().st_size == len("tuesday"))  # within a second
    assert day.read_text() == "tuesday"
    kimchi = (server.place / "monday" / "jars" / "kimchi").read_bytes()
    assert kimchi == noisy(200_000, len("tuesday"))


def test_a_volume_that_is_replaced_by_one_as_long_and_as_old_is_shown_as_it_is_now(
    vault: Path, onggi: Any, shows: Shows, tmp_path: Path
) -> None:
    """As the disk of which a backup is made anew each day: it has one length."""
    for name, seed in (("old", 3), ("new", 4)):
        (tmp_path / name).write_bytes(noisy(MIB, seed))
        os.utime(tmp_path / name, ns=(0, 10**18))
        onggi.ok("pack", name, f"{name}.onggi")
    shutil.copy(tmp_path / "old.onggi", vault / "now.onggi")
    server = shows(vault)
    volume = server.place / "now" / "volume.img"
    assert volume.read_bytes() == noisy(MIB, 3)
    os.replace(tmp_path / "new.onggi", vault / "now.onggi")
    time.sleep(1.2)  # what the kernel remembers for a second
    assert os.listdir(server.place / "now") == ["volume.img"]
    assert volume.read_bytes() == noisy(MIB, 4)


def test_a_file_that_is_read_while_its_archive_is_replaced_is_never_a_mixture(
    vault: Path, onggi: Any, shows: Shows, tmp_path: Path
) -> None:
    versions = {name: noisy(8 * MIB, seed) for seed, name in enumerate(("old", "new"), 3)}
    for name, data in versions.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(data)
        onggi.ok("pack", name, f"{name}.onggi", "--mode", "tree", "--frame-size", "64K")
    shutil.copy(tmp_path / "old.onggi", vault / "now.onggi")
    server = shows(vault)
    read: list[bytes] = []
    with (server.place / "now" / "file").open("rb", buffering=0) as file:
        read.append(os.pread(file.fileno(), MIB, 0))
        os.replace(tmp_path / "new.onggi", vault / "now.onggi")
        time.sleep(1.2)  # what the kernel remembers for a second
        error = error_name(lambda: read.append(os.pread(file.fileno(), MIB, 6 * MIB)))
    assert read[0] == versions["old"][:MIB]
    assert error in ("ESTALE", "EIO", "ENOENT") or read[1] == versions["old"][6 * MIB : 7 * MIB]
    assert (server.place / "now" / "file").read_bytes() == versions["new"]


@pytest.mark.parametrize("cache", ["1M", "256M"])
def test_of_very_many_archives_few_are_open_at_a_time(
    cache: str, vault: Path, shows: Shows, tmp_path: Path
) -> None:
    names = link_many(vault)
    server = shows(vault, "--cache", cache)
    before = len(server.files)
    expected = (tmp_path / "tuesday" / "jars" / "kimchi").read_bytes()

    def looks_good(name: str) -> bool:
        return (server.place / name / "jars" / "kimchi").read_bytes() == expected

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(looks_good, names))
    assert server.log == []
    assert len(server.files) - before < 60


def test_what_a_folder_of_archives_holds_is_not_counted_again_and_again(
    vault: Path, shows: Shows
) -> None:
    names = link_many(vault)
    server = shows(vault)
    for name in names:
        assert sorted(os.listdir(server.place / name)) == ["day", "jars"]
    entries = os.statvfs(server.place).f_files
    assert entries >= 4 * len(names)
    for name in names:  # opened once more, since the first ones were closed meanwhile
        os.listdir(server.place / name)
    assert os.statvfs(server.place).f_files == entries


def link_many(vault: Path) -> list[str]:
    """Give an archive a hundred names more; return them."""
    names = [f"day-{number:03}" for number in range(100)]
    for name in names:
        os.link(vault / "tuesday.onggi", vault / f"{name}.onggi")
    return names


def test_an_empty_folder_is_mounted_and_filled_later(
    vault: Path, onggi: Any, shows: Shows, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    server = shows(tmp_path / "empty")
    assert os.listdir(server.place) == []
    assert stat.S_ISDIR(server.place.stat().st_mode)
    started = time.monotonic()
    onggi.ok("pack", tmp_path / "monday", tmp_path / "empty" / "first.onggi", "--mode", "tree")
    assert (server.place / "first" / "day").read_text() == "monday"
    assert time.monotonic() - started < 20


def test_memory_is_bounded_by_the_cache(onggi: Any, shows: Shows, tmp_path: Path) -> None:
    """Frames that go must make room for those that come, whichever thread decodes them."""
    image = tmp_path / "image"
    image.write_bytes(random.Random(7).randbytes(64 * MIB))
    onggi.ok("pack", image, tmp_path / "image.onggi", "--level", "1")
    server = shows(tmp_path / "image.onggi", "--cache", "32M")
    with (server.place / "volume.img").open("rb") as file:
        places = [number * 4096 for number in random.Random(8).sample(range(16_384), 1500)]
        with ThreadPoolExecutor(8) as pool:
            pieces = pool.map(lambda at: os.pread(file.fileno(), 4096, at), places)
            with image.open("rb") as original:
                for at, piece in zip(places, pieces, strict=True):
                    assert piece == os.pread(original.fileno(), 4096, at)
    status = Path(f"/proc/{server.pid}/status").read_text()
    peak_kib = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])
    assert peak_kib < 80 * 1024, peak_kib  # with a heap for each thread it is 87 MiB and more
