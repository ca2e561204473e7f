"""Trees that are large in some way: a million files, gigabytes of holes, vast and deep folders."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .tree_corpus import GIB, MIB, SECOND, differences, noisy, snapshot, walk

pytestmark = pytest.mark.needs("root", "mount")

FOLDERS, FILES = 1000, 1000
MOST_BYTES = 300 * MIB
TIMEOUT_S = 300


def content_of(folder: int, file: int) -> bytes:
    """Return the few bytes of one of very many files."""
    return b"%d" % (folder * FILES + file * 7)


def make_very_many(root: Path) -> None:
    """Make a million files in a thousand folders."""
    for folder in range(FOLDERS):
        os.mkdir(root / f"{folder:04}")
        with opened(root / f"{folder:04}") as here:
            for file in range(FILES):
                new = os.open(
                    f"file-{file}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640, dir_fd=here
                )
                os.write(new, content_of(folder, file))
                os.close(new)


def hold_very_many(root: Path) -> None:
    """Hold that the million files have their content."""
    for folder in range(FOLDERS):
        with opened(root / f"{folder:04}") as here:
            for file in range(FILES):
                found = os.open(f"file-{file}", os.O_RDONLY, dir_fd=here)
                assert os.read(found, 100) == content_of(folder, file)
                os.close(found)


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    """Give a folder's descriptor."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def list_all(root: Path, listing: Path) -> None:
    """Write a sorted list of all that find knows of the entries, but for their content."""
    shell = (
        "set -o pipefail; find . -type d -printf '%P\\t%y %m %U %G %T@\\n' "
        "-o -printf '%P\\t%y %m %U %G %T@ %s %l\\n' | LC_ALL=C sort >\"$1\""
    )
    subprocess.run(["bash", "-c", shell, "bash", listing], check=True, cwd=root)


def test_a_million_small_files(onggi: Any, mounts: Any, new_meter: Any) -> None:
    # On a tmpfs, where a million files take 5 GB: the source goes before its copy comes.
    source = mounts("none", "-t", "tmpfs", "-o", "nr_inodes=0", name="source")
    make_very_many(source)
    list_all(source, onggi.folder / "before")
    meter = new_meter()
    packed = onggi.ok(
        "pack", source, "a.onggi", "--json", prefix=meter.prefix, timeout_s=TIMEOUT_S
    ).result
    assert packed["findings"] == 0
    print(f"pack: {meter.seconds:.1f} s, {meter.peak_bytes / MIB:.0f} MiB")
    assert meter.peak_bytes < MOST_BYTES
    mounts.unmount(source)
    onggi.ok("verify", "a.onggi", prefix=meter.prefix, timeout_s=TIMEOUT_S)
    print(f"verify: {meter.seconds:.1f} s, {meter.peak_bytes / MIB:.0f} MiB")
    assert meter.peak_bytes < MOST_BYTES
    target = mounts("none", "-t", "tmpfs", "-o", "nr_inodes=0", name="target")
    onggi.ok("unpack", "a.onggi", target, prefix=meter.prefix, timeout_s=TIMEOUT_S)
    print(f"unpack: {meter.seconds:.1f} s, {meter.peak_bytes / MIB:.0f} MiB")
    assert meter.peak_bytes < MOST_BYTES
    list_all(target, onggi.folder / "after")
    subprocess.run(["cmp", onggi.folder / "before", onggi.folder / "after"], check=True)
    lines = subprocess.run(
        ["wc", "-l", onggi.folder / "after"], capture_output=True, check=True
    ).stdout.split()[0]
    assert int(lines) == FOLDERS * FILES + FOLDERS + 1
    hold_very_many(target)


@pytest.mark.needs("tar", "zstd")
def test_a_sparse_file_of_eight_gibibytes(onggi: Any, new_meter: Any) -> None:
    # 8 GiB is also the first length that the field of a tar header can't hold.
    tree = onggi.folder / "tree"
    tree.mkdir()
    with (tree / "sparse").open("xb") as file:
        for at, length in ((4096, 100), (3 * GIB + 12_288, 70_000), (8 * GIB - 4096, 4096 + 17)):
            file.seek(at)
            file.write(noisy(length, at))
        file.truncate(8 * GIB + 12_345)
    expected = snapshot(tree)
    assert sum(length for _, length in expected[b"sparse"].data) < MIB
    meter = new_meter()
    packed = onggi.ok("pack", tree, "a.onggi", "--json", "--verify", prefix=meter.prefix).result
    assert packed["content_bytes"] < MIB
    assert (onggi.folder / "a.onggi").stat().st_size < MIB
    assert meter.seconds < 30
    assert meter.peak_bytes < MOST_BYTES
    onggi.ok("verify", "a.onggi", "--against", tree)
    onggi.ok("unpack", "a.onggi", "back", prefix=meter.prefix)
    assert meter.seconds < 30
    assert meter.peak_bytes < MOST_BYTES
    assert differences(expected, snapshot(onggi.folder / "back")) == []
    (onggi.folder / "tar").mkdir()
    subprocess.run(
        ["tar", "-C", onggi.folder / "tar", "--zstd", "-xpf", onggi.folder / "a.onggi"], check=True
    )
    assert differences(expected, snapshot(onggi.folder / "tar")) == []


def test_a_folder_with_very_many_entries(onggi: Any, mounts: Any, new_meter: Any) -> None:
    place = mounts("none", "-t", "tmpfs")
    (place / "tree" / "vast").mkdir(parents=True)
    with opened(place / "tree" / "vast") as here:
        for number in range(190_000):
            os.mknod(f"entry-{number}", stat.S_IFREG | 0o600, dir_fd=here)
        for number in range(190_000, 200_000):
            os.mkdir(f"entry-{number}", dir_fd=here)
        os.utime("entry-7", ns=(0, 7 * SECOND), dir_fd=here)
    meter = new_meter()
    onggi.ok("pack", place / "tree", "a.onggi", prefix=meter.prefix)
    print(f"pack: {meter.seconds:.1f} s, {meter.peak_bytes / MIB:.0f} MiB")
    assert meter.peak_bytes < MOST_BYTES
    onggi.ok("verify", "a.onggi", "--against", place / "tree")
    listed = onggi.ok("ls", "a.onggi", "vast").out.splitlines()
    assert listed == sorted(b"vast/entry-%d" % number for number in range(200_000))
    onggi.ok("unpack", "a.onggi", place / "back", prefix=meter.prefix)
    print(f"unpack: {meter.seconds:.1f} s, {meter.peak_bytes / MIB:.0f} MiB")
    assert meter.peak_bytes < MOST_BYTES
    for name in ("tree", "back"):
        list_all(place / name, onggi.folder / name)
    subprocess.run(["cmp", onggi.folder / "tree", onggi.folder / "back"], check=True)


def test_a_path_of_two_thousand_folders(onggi: Any, mounts: Any, new_meter: Any) -> None:
    # Its length is several times what the kernel takes as one path.
    depth, name = 2000, "folder-below"
    place = mounts("none", "-t", "tmpfs")
    (place / "tree").mkdir()
    here = os.open(place / "tree", os.O_RDONLY | os.O_DIRECTORY)
    for level in range(depth):
        if level % 100 == 0:
            file = os.open("file", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=here)
            os.write(file, noisy(level * 7, level))
            os.close(file)
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    file = os.open("bottom", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=here)
    os.write(file, noisy(50_000, depth))
    os.close(file)
    os.link("bottom", "linked", src_dir_fd=here, dst_dir_fd=here)
    os.symlink("bottom", "symlink", dir_fd=here)
    os.close(here)
    for number, visit in enumerate(walk(place / "tree")):
        if stat.S_ISDIR(visit.status.st_mode):
            os.utime(visit.name, ns=(0, number * SECOND + 1), dir_fd=visit.folder)
    expected = snapshot(place / "tree")
    assert max(map(len, expected)) > 5 * 4096
    meter = new_meter()
    onggi.ok("pack", place / "tree", "a.onggi", prefix=meter.prefix)
    assert meter.peak_bytes < MOST_BYTES
    onggi.ok("verify", "a.onggi")
    onggi.ok("verify", "a.onggi", "--against", place / "tree")
    onggi.ok("unpack", "a.onggi", place / "back", prefix=meter.prefix)
    assert meter.peak_bytes < MOST_BYTES
    assert differences(expected, snapshot(place / "back")) == []
    bottom = "/".join([name] * depth) + "/linked"
    assert onggi.ok("cat", "a.onggi", bottom).out == noisy(50_000, depth)
