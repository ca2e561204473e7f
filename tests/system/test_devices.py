"""Volumes on real loop devices: packed, restored, refused, and with real read errors."""

from __future__ import annotations

import errno
import os
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.needs("root", "loop")

MIB = 1 << 20
GARBAGE = 0xA5
SMALL = ("--block-size", "4096", "--blocks", "16", "--frame-size", "4096")


def plant_tree(folder: Path) -> None:
    """Make files of many sizes, a sparse one, links and an empty folder."""
    noise = random.Random(7)
    folder.mkdir()
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


def delete_some(folder: Path) -> None:
    """Delete every fifth file, so that the volume holds content that no file has."""
    for number in range(0, 60, 5):
        (folder / f"folder-{number % 7}" / f"deeper-{number % 3}" / f"file-{number}").unlink()


FILE_SYSTEMS = {
    "ext4": (64 * MIB, ["mkfs.ext4", "-q", "-F"], [], ["e2fsck", "-fn"]),
    "xfs": (320 * MIB, ["mkfs.xfs", "-q"], ["-o", "nouuid"], ["xfs_repair", "-n"]),
    "btrfs": (128 * MIB, ["mkfs.btrfs", "-q"], [], ["btrfs", "check", "--readonly"]),
}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("ext4", marks=pytest.mark.needs("mkfs.ext4", "e2fsck", "mount")),
        pytest.param("xfs", marks=pytest.mark.needs("mkfs.xfs", "xfs_repair", "mount")),
        pytest.param("btrfs", marks=pytest.mark.needs("mkfs.btrfs", "btrfs", "mount")),
    ],
)
def test_a_file_system_comes_back_on_another_device(
    kind: str, onggi: Any, disks: Any, loops: Any, mounts: Any, tool: Any, tmp_path: Path
) -> None:
    size, make, mount_options, check = FILE_SYSTEMS[kind]
    image = disks("source.img", size)
    source = loops(image)
    tool(*make, source)
    tree = tmp_path / "tree"
    plant_tree(tree)
    place = mounts(source, *mount_options)
    tool("cp", "-a", f"{tree}/.", place)
    os.sync()  # what is deleted below was on the disk
    delete_some(place)
    delete_some(tree)
    mounts.unmount(place)
    target = loops(disks("target.img", size, GARBAGE))

    packed = onggi.ok("pack", source, "volume.onggi", "--verify", "--json").result
    assert packed["content_bytes"] == size
    assert packed["findings"] == 0
    info = onggi.ok("info", "volume.onggi", "--json").result
    assert info["facts"]["source"]["type"] == "block-device"
    assert info["name"] == source.name
    onggi.ok("unpack", "volume.onggi", target, "--to-device")

    tool("cmp", source, target)
    onggi.ok("verify", "volume.onggi", "--against", target)
    # Two devices with the same identity at once confuse btrfs.
    tool("losetup", "-d", source)
    loops.devices.remove(str(source))
    tool(*check, target)
    place = mounts(target, *mount_options)
    tool("diff", "-r", "--no-dereference", "-x", "lost+found", tree, place)
    assert (place / "sparse").stat().st_nlink == 2
    assert (place / "sparse").read_bytes()[3 * MIB :][:6] == b"island"
    shutil.rmtree(tree)


def test_zeros_of_the_volume_replace_what_stood_on_the_device(
    onggi: Any, disks: Any, loops: Any, content: Callable[..., bytes]
) -> None:
    data = content(300_000) + bytes(MIB) + content(5_000, 2) + bytes(400_000)
    image = disks("source.img", 0)
    image.write_bytes(data)
    with image.open("r+b") as file:
        file.truncate(4 * MIB)
    target = disks("target.img", 5 * MIB, GARBAGE)
    device = loops(target)
    onggi.ok("pack", image, "a.onggi", *SMALL)
    onggi.ok("unpack", "a.onggi", device, "--to-device")
    after = device.read_bytes()
    assert after[: 4 * MIB] == data.ljust(4 * MIB, b"\0")
    assert after[4 * MIB :] == bytes([GARBAGE]) * MIB, "beyond the volume nothing is written"


# --- what must be refused ------------------------------------------------------------------------


@pytest.fixture
def archive(onggi: Any, disks: Any) -> Path:
    """An archive of a volume of 2 MiB."""
    source = disks("volume.img", 0)
    source.write_bytes(random.Random(1).randbytes(2 * MIB))
    onggi.ok("pack", source, "volume.onggi")
    return Path(onggi.folder / "volume.onggi")


@contextmanager
def untouched(*files: Path) -> Iterator[None]:
    """Hold that no byte of the files changes."""
    os.sync()
    before = [file.read_bytes() for file in files]
    yield
    os.sync()
    assert [file.read_bytes() for file in files] == before


@pytest.mark.needs("mkfs.ext4", "mount")
@pytest.mark.parametrize("mode", ["rw", "ro"])
def test_a_mounted_device_is_refused(
    mode: str, onggi: Any, archive: Path, disks: Any, loops: Any, mounts: Any, tool: Any
) -> None:
    image = disks("target.img", 8 * MIB)
    device = loops(image)
    # Else the kernel goes on to write tables after the mount.
    tool("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", device)
    place = mounts(device, "-o", mode)
    with untouched(image):
        ran = onggi.fails(7, "unpack", archive, device, "--to-device")
        assert str(place) in ran.err
        # Not even its name makes that good.
        onggi.fails(7, "unpack", archive, device, "--to-device", "--overwrite", device.name)
        onggi.fails(7, "unpack", archive, device, "--to-device", "--force")


@pytest.fixture
def partition(disks: Any, loops: Any, tool: Any) -> Iterator[Path]:
    """The first partition of a loop device on `target.img`."""
    image = disks("target.img", 16 * MIB)
    with image.open("r+b") as file:
        file.write(mbr_sector(sectors=(16 * MIB >> 9) - 2048))
    device = loops(image)
    # Told by hand: not every kernel reads the tables of loop devices.
    tool("addpart", device, 1, 2048, (16 * MIB >> 9) - 2048)
    yield Path(f"{device}p1")
    tool("delpart", device, 1)


@pytest.mark.needs("mkfs.ext4", "mount", "addpart", "delpart")
def test_a_device_with_a_mounted_partition_is_refused(
    onggi: Any, archive: Path, partition: Path, mounts: Any, tool: Any
) -> None:
    device = partition.with_name(partition.name.removesuffix("p1"))
    tool("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", partition)
    mounts(partition)
    with untouched(onggi.folder / "target.img"):
        onggi.fails(7, "unpack", archive, device, "--to-device")
        # The name overrules the table, not the mount.
        onggi.fails(7, "unpack", archive, device, "--to-device", "--overwrite", device.name)
        onggi.fails(7, "unpack", archive, partition, "--to-device")


@pytest.mark.needs("addpart", "delpart")
def test_a_partition_that_nothing_uses_is_overwritten(
    onggi: Any, archive: Path, partition: Path
) -> None:
    table = (onggi.folder / "target.img").read_bytes()[:MIB]
    onggi.ok("unpack", archive, partition, "--to-device")
    os.sync()
    image = (onggi.folder / "target.img").read_bytes()
    assert image[:MIB] == table
    assert image[MIB : 3 * MIB] == (onggi.folder / "volume.img").read_bytes()


@pytest.mark.needs("mkfs.ext4", "mount")
def test_a_device_under_a_mounted_loop_device_is_refused(
    onggi: Any, archive: Path, disks: Any, loops: Any, mounts: Any, tool: Any
) -> None:
    image = disks("target.img", 8 * MIB)
    lower = loops(image)
    upper = loops(lower)
    tool("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", upper)
    mounts(upper)
    with untouched(image):
        onggi.fails(7, "unpack", archive, lower, "--to-device")


def test_a_device_that_another_process_holds_is_refused(
    onggi: Any, archive: Path, disks: Any, loops: Any
) -> None:
    image = disks("target.img", 4 * MIB, GARBAGE)
    device = loops(image)
    holder = os.open(device, os.O_RDONLY | os.O_EXCL)
    try:
        with untouched(image):
            ran = onggi.fails(7, "unpack", archive, device, "--to-device")
    finally:
        os.close(holder)
    assert "in use" in ran.err
    onggi.ok("unpack", archive, device, "--to-device")


def test_a_device_that_is_too_small_is_refused(
    onggi: Any, archive: Path, disks: Any, loops: Any
) -> None:
    image = disks("target.img", 2 * MIB - 512, GARBAGE)
    device = loops(image)
    with untouched(image):
        ran = onggi.fails(7, "unpack", archive, device, "--to-device")
    assert str(2 * MIB) in ran.err
    assert str(2 * MIB - 512) in ran.err


def mbr_sector(sectors: int, kind: int = 0x83) -> bytes:
    """Return a boot sector with one partition of `kind`, 2,048 sectors from the start."""
    entry = struct.pack("<B3sB3sII", 0x80, b"\0\2\0", kind, b"\xfe\xff\xff", 2048, sectors)
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"


def gpt_start(size: int, sector_bytes: int) -> bytes:
    """Return a protective MBR and a GPT header behind it."""
    last = size // sector_bytes - 1
    start = struct.pack("<8sIIIIQQQQ", b"EFI PART", 0x10000, 92, 0, 0, 1, last, 6, last - 5)
    start += random.Random(3).randbytes(16) + struct.pack("<QIII", 2, 128, 128, 0)
    return mbr_sector(last, 0xEE).ljust(sector_bytes, b"\0") + start.ljust(sector_bytes, b"\0")


TABLES: dict[str, tuple[bytes, int]] = {
    "mbr": (mbr_sector(4096), 512),
    "gpt": (gpt_start(4 * MIB, 512), 512),
    "gpt whose protective mbr is gone": (bytes(512) + gpt_start(4 * MIB, 512)[512:], 512),
    "gpt on sectors of 4096": (gpt_start(4 * MIB, 4096), 4096),
}


@pytest.mark.parametrize("table", TABLES)
def test_a_partition_table_is_overwritten_only_by_name(
    table: str, onggi: Any, archive: Path, disks: Any, loops: Any
) -> None:
    start, sector_bytes = TABLES[table]
    image = disks("target.img", 4 * MIB, GARBAGE)
    with image.open("r+b") as file:
        file.write(start)
    device = loops(image, "--sector-size", str(sector_bytes))
    with untouched(image):
        ran = onggi.fails(7, "unpack", archive, device, "--to-device")
        assert f"--overwrite {device.name}" in ran.err
        for wrong in ("loop", "sda", f"{device.name}p1", "yes"):
            onggi.fails(7, "unpack", archive, device, "--to-device", "--overwrite", wrong)
        onggi.fails(7, "unpack", archive, device, "--to-device", "--force")
    onggi.ok("unpack", archive, device, "--to-device", "--overwrite", device.name)
    assert device.read_bytes()[: 2 * MIB] == (onggi.folder / "volume.img").read_bytes()


def test_the_name_to_overwrite_may_be_the_whole_path(
    onggi: Any, archive: Path, disks: Any, loops: Any
) -> None:
    image = disks("target.img", 4 * MIB)
    with image.open("r+b") as file:
        file.write(mbr_sector(4096))
    device = loops(image)
    onggi.ok("unpack", archive, device, "--to-device", "--overwrite", device)
    assert device.read_bytes()[: 2 * MIB] == (onggi.folder / "volume.img").read_bytes()


@pytest.mark.needs("mkfs.vfat")
@pytest.mark.parametrize("bits", ["12", "16", "32"])
def test_a_fat_file_system_is_not_taken_for_a_partition_table(
    bits: str, onggi: Any, archive: Path, disks: Any, loops: Any, tool: Any
) -> None:
    image = disks("target.img", {"12": 4, "16": 20, "32": 64}[bits] * MIB)
    tool("mkfs.vfat", "-F", bits, "-n", "JAR", image)
    assert image.read_bytes()[510:512] == b"\x55\xaa"
    device = loops(image)
    onggi.ok("pack", device, "fat.onggi")
    onggi.ok("unpack", archive, device, "--to-device")
    assert device.read_bytes()[: 2 * MIB] == (onggi.folder / "volume.img").read_bytes()


def test_a_device_is_not_overwritten_unless_told_so(
    onggi: Any, archive: Path, disks: Any, loops: Any
) -> None:
    image = disks("target.img", 4 * MIB, GARBAGE)
    device = loops(image)
    link = onggi.folder / "link"
    link.symlink_to(device)
    with untouched(image):
        ran = onggi.fails(7, "unpack", archive, device)
        assert "--to-device" in ran.err
        onggi.fails(7, "unpack", archive, device, "--force")
        onggi.fails(7, "unpack", archive, link, "--force")
        onggi.fails(2, "unpack", archive, device, "--overwrite", device.name)
        onggi.fails(6, "pack", onggi.folder / "volume.img", device)
        onggi.fails(6, "pack", onggi.folder / "volume.img", device, "--force")


def test_a_loop_device_on_the_archive_itself_is_refused(
    onggi: Any, archive: Path, loops: Any
) -> None:
    # The archive of noise is longer than the volume, so that the device is long enough.
    device = loops(archive)
    with untouched(archive):
        onggi.fails(7, "unpack", archive, device, "--to-device")
        onggi.fails(7, "unpack", archive, device, "--to-device", "--overwrite", device.name)
    onggi.ok("verify", archive)


def test_a_device_is_not_packed_into_the_file_it_stands_on(
    onggi: Any, disks: Any, loops: Any
) -> None:
    image = disks("source.img", 4 * MIB, GARBAGE)
    device = loops(image)
    with untouched(image):
        onggi.fails(6, "pack", device, image)
        onggi.fails(7, "pack", device, image, "--force")


@pytest.mark.needs("strace")
def test_a_failure_while_a_device_is_written_says_that_it_is_partly_overwritten(
    onggi: Any, archive: Path, disks: Any, loops: Any, faults: Any
) -> None:
    device = loops(disks("target.img", 4 * MIB, GARBAGE))
    prefix = faults.prefix("pwrite64:error=EIO:when=1")
    ran = onggi.fails(6, "unpack", archive, device, "--to-device", "-T", "1", prefix=prefix)
    assert faults.hits() == 1
    assert "partly overwritten" in ran.err
    assert os.strerror(errno.EIO) in ran.err
    ran = onggi.fails(
        6, "unpack", archive, device, "--to-device", prefix=faults.prefix("fsync:error=EIO:when=1")
    )
    assert faults.hits() == 1
    assert "partly overwritten" in ran.err


# --- sources that are off ------------------------------------------------------------------------


@pytest.mark.needs("mkfs.ext4", "mount")
def test_packing_a_device_that_is_mounted_for_writing_is_a_finding(
    onggi: Any, disks: Any, loops: Any, mounts: Any, tool: Any
) -> None:
    device = loops(disks("source.img", 8 * MIB))
    tool("mkfs.ext4", "-q", "-F", device)
    place = mounts(device)
    ran = onggi("pack", device, "a.onggi", "--json")
    assert ran.code == 1
    assert [(each["code"], each["severity"]) for each in ran.findings] == [
        ("source-mounted", "warning")
    ]
    assert str(place) in ran.findings[0]["message"]
    assert ran.result["findings"] == 1
    onggi.ok("verify", "a.onggi")
    tool("mount", "-o", "remount,ro", place)
    onggi.ok("pack", device, "b.onggi")


def test_real_read_errors_are_recorded_and_read_as_zeros(
    onggi: Any, disks: Any, loops: Any, content: Callable[..., bytes]
) -> None:
    size, readable = 24 * MIB + 8192, 21 * MIB + 12_288
    data = content(1_000_000) + bytes(3 * MIB) + random.Random(2).randbytes(MIB)
    data = (data * 8)[:size]
    image = disks("source.img", 0)
    image.write_bytes(data)
    source = loops(image)
    # The device keeps its length, and its kernel driver reports I/O errors behind the cut.
    os.truncate(image, readable)
    descriptor = os.open(source, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            os.pread(descriptor, 4096, readable)
    finally:
        os.close(descriptor)

    ran = onggi("pack", source, "a.onggi", "--verify", "--json")
    assert ran.code == 1
    assert ran.result["content_bytes"] == size
    assert ran.result["unreadable_bytes"] == size - readable
    assert [each["code"] for each in ran.findings] == ["source-unreadable"]
    info = onggi.ok("info", "a.onggi", "--json").result
    assert info["unreadable"] == [[readable, size - readable]]
    checked = onggi("verify", "a.onggi", "--json")
    assert checked.code == 1
    assert [(each["code"], each["severity"]) for each in checked.findings] == [
        ("source-unreadable", "warning")
    ]
    expected = data[:readable].ljust(size, b"\0")
    assert onggi.ok("unpack", "a.onggi", "-").out == expected
    target = loops(disks("target.img", size, GARBAGE))
    onggi.ok("unpack", "a.onggi", target, "--to-device")
    assert target.read_bytes() == expected
    # Against the same bad device: what can't be read is not the same.
    against = onggi("verify", "a.onggi", "--against", source)
    assert against.code == 1
    assert "differ" in against.err


@pytest.mark.parametrize("readable", [0, 4096, 65_536 - 4096, 65_536, 3 * 65_536 + 20_480])
def test_unreadable_runs_are_exact_wherever_they_begin(
    readable: int, onggi: Any, disks: Any, loops: Any, content: Callable[..., bytes]
) -> None:
    data = content(10 * 65_536 + 4096)
    image = disks("source.img", 0)
    image.write_bytes(data)
    source = loops(image)
    os.truncate(image, readable)
    ran = onggi("pack", source, "a.onggi", *SMALL, "--threads", "3")
    assert ran.code == 1
    assert f"{len(data) - readable} bytes" in ran.err
    info = onggi.ok("info", "a.onggi", "--json").result
    assert info["unreadable"] == [[readable, len(data) - readable]]
    assert onggi.ok("unpack", "a.onggi", "-").out == data[:readable].ljust(len(data), b"\0")
