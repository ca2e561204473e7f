"""Plain zstd reads every archive: the bytes that it gives are the volume's."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.needs("zstd", "cmp")

MIB = 1 << 20
SMALL = ("--block-size", "4096", "--blocks", "4", "--frame-size", "4096")
SMALL_FRAME, SMALL_UNIT = 4096, 4 * 4096
FRAME, UNIT = MIB, 20 * MIB


def zstd_reads(archive: Path, source: Path) -> None:
    """Hold that zstd finds the archive whole, and gives exactly the source."""
    tested = subprocess.run(["zstd", "-t", archive], capture_output=True, check=False)
    assert tested.returncode == 0, tested.stderr
    shell = 'set -o pipefail; zstd -dcq "$1" | cmp - "$2"'
    same = subprocess.run(
        ["bash", "-c", shell, "bash", archive, source], capture_output=True, check=False
    )
    assert same.returncode == 0, same.stdout + same.stderr


def noisy(size: int) -> bytes:
    """Return content quickly: noise, text and zeros, MiB by MiB."""
    noise = random.Random(size).randbytes(min(size, 300_000))
    piece = noise + b"a jar keeps for years; " * 15_000 + bytes(400_000)
    return (piece * (size // len(piece) + 1))[:size]


@pytest.mark.parametrize(
    "size",
    [
        0,
        1,
        SMALL_FRAME - 1,
        SMALL_FRAME,
        SMALL_FRAME + 1,
        SMALL_UNIT - 1,
        SMALL_UNIT,
        SMALL_UNIT + 1,
        20 * SMALL_UNIT + 777,
    ],
)
@pytest.mark.parametrize("way", ["file", "stream"])
def test_zstd_gives_the_source_at_the_bounds_of_small_frames_and_units(
    way: str, size: int, onggi: Any, content: Callable[..., bytes]
) -> None:
    source, archive = onggi.folder / "source", onggi.folder / "a.onggi"
    source.write_bytes(content(size))
    if way == "file":
        onggi.ok("pack", source, archive, *SMALL)
    else:
        onggi.ok("pack", "-", archive, *SMALL, stdin=source.read_bytes())
    zstd_reads(archive, source)
    onggi.ok("verify", archive, "--against", source)
    assert onggi.ok("unpack", archive, "-").out == source.read_bytes()


@pytest.mark.parametrize(
    "size", [0, 1, FRAME - 1, FRAME, FRAME + 1, UNIT - 1, UNIT, UNIT + 1, 2 * UNIT + FRAME + 1]
)
def test_zstd_gives_the_source_at_the_bounds_of_default_frames_and_units(
    size: int, onggi: Any, disks: Any
) -> None:
    source, archive = disks("source", 0), disks("a.onggi", 0)
    source.write_bytes(noisy(size))
    archive.unlink()
    onggi.ok("pack", source, archive)
    zstd_reads(archive, source)
    onggi.ok("unpack", archive, disks("back", 0), "--force")
    assert (onggi.folder / "back").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("level", [1, 3, 19])
def test_zstd_reads_every_level(level: int, onggi: Any) -> None:
    source, archive = onggi.folder / "source", onggi.folder / "a.onggi"
    source.write_bytes(noisy(3 * MIB + 1))
    onggi.ok("pack", source, archive, "--level", level)
    zstd_reads(archive, source)


@pytest.mark.needs("root", "mkfs.ext4")
def test_zstd_gives_an_ext4_image(onggi: Any, disks: Any, tool: Callable[..., str]) -> None:
    source, archive = disks("disk.img", 48 * MIB), onggi.folder / "a.onggi"
    tree = onggi.folder / "tree"
    tree.mkdir()
    for number in range(40):
        (tree / f"file-{number}").write_bytes(noisy(number * 9_999))
    tool("mkfs.ext4", "-q", "-F", "-d", tree, source)
    packed = onggi.ok("pack", source, archive, "--json").result
    assert packed["hole_bytes"] > 0
    zstd_reads(archive, source)


def test_zstd_gives_a_sparse_image_with_its_holes_as_zeros(onggi: Any, disks: Any) -> None:
    source, archive = disks("disk.img", 200 * MIB + 4097), onggi.folder / "a.onggi"
    with source.open("r+b") as file:
        for offset in (0, 33 * MIB - 100, 60 * MIB, 199 * MIB):
            file.seek(offset)
            file.write(noisy(150_000))
        file.seek(100 * MIB)
        file.write(bytes(2 * MIB))  # zeros that were written are no hole
    packed = onggi.ok("pack", source, archive, "--json").result
    assert packed["hole_bytes"] > 150 * MIB
    assert packed["zero_bytes"] >= 2 * MIB
    zstd_reads(archive, source)
    back = disks("back", 0)
    back.unlink()
    onggi.ok("unpack", archive, back)
    assert back.stat().st_blocks * 512 < 3 * MIB
    assert back.stat().st_size == source.stat().st_size
    onggi.ok("verify", archive, "--against", back)
    onggi.ok("unpack", archive, back, "--force", "--no-sparse")
    assert back.stat().st_blocks * 512 >= 200 * MIB
    onggi.ok("verify", archive, "--against", back)


def dump(rows: int) -> bytes:
    """Return what looks like the output of pg_dump, of odd length."""
    noise = random.Random(rows)
    lines = [
        b"--\n-- PostgreSQL database dump\n--\n\nCOPY public.jar (id, name, kept) FROM stdin;\n"
    ]
    lines += [b"%d\tjar-%d\t%x\n" % (n, n % 97, noise.getrandbits(64)) for n in range(rows)]
    text = b"".join(lines) + b"\\.\n\n-- PostgreSQL database dump complete\n--\n"
    return text if len(text) % 2 else text + b"\n"


def test_zstd_gives_a_piped_dump_of_odd_length(onggi: Any) -> None:
    text = dump(60_000)
    assert len(text) % 2 == 1
    source, archive = onggi.folder / "dump.sql", onggi.folder / "a.onggi"
    source.write_bytes(text)
    # A real pipe, written in odd pieces.
    with subprocess.Popen(
        [*onggi.command, "pack", "-", archive, "--name", "shop.sql", "--quiet"],
        stdin=subprocess.PIPE, cwd=onggi.folder,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        for at in range(0, len(text), 33_333):
            process.stdin.write(text[at : at + 33_333])
            process.stdin.flush()
        process.stdin.close()
        assert process.wait(60) == 0
    zstd_reads(archive, source)
    info = onggi.ok("info", archive, "--json").result
    assert info["name"] == "shop.sql"
    assert info["content_bytes"] == len(text)
    folder = onggi.folder / "restored"
    folder.mkdir()
    onggi.ok("unpack", archive, folder)
    assert (folder / "shop.sql").read_bytes() == text


def test_an_archive_on_standard_output_is_the_one_that_a_file_gets(onggi: Any) -> None:
    source = onggi.folder / "dump.sql"
    source.write_bytes(dump(20_000))
    same = ("--uuid", "0f8c3a52-b1d6-4e7f-9a20-c4d5e6f70819", "--created", "1")
    piped = onggi.ok("pack", source, "-", *same, *SMALL)
    onggi.ok("pack", source, "a.onggi", *same, *SMALL)
    assert piped.out == (onggi.folder / "a.onggi").read_bytes()
    (onggi.folder / "piped.onggi").write_bytes(piped.out)
    zstd_reads(onggi.folder / "piped.onggi", source)
    # From pipe to pipe, and all that is told goes to standard error.
    both = onggi.ok("pack", "-", "-", "--json", *SMALL, stdin=source.read_bytes())
    assert '"type": "result"' in both.err
    (onggi.folder / "both.onggi").write_bytes(both.out)
    zstd_reads(onggi.folder / "both.onggi", source)


def test_an_archive_without_its_footer_still_gives_all_content_to_zstd(
    onggi: Any, content: Callable[..., bytes]
) -> None:
    source, archive = onggi.folder / "source", onggi.folder / "a.onggi"
    source.write_bytes(content(200_000))
    onggi.ok("pack", source, archive, *SMALL)
    cut = onggi.folder / "cut.onggi"
    cut.write_bytes(archive.read_bytes()[:-328])
    zstd_reads(cut, source)


def test_a_reader_that_closes_the_pipe_ends_the_command(onggi: Any) -> None:
    source = onggi.folder / "source"
    source.write_bytes(noisy(30 * MIB))
    onggi.ok("pack", source, "a.onggi")
    for words in ('unpack "$A" -', 'pack "$S" -'):
        shell = f'set -o pipefail; {{ "$@" {words}; echo "ended with $?" >&2; }} | head -c 1000'
        done = subprocess.run(
            ["bash", "-c", shell, "bash", *onggi.command],
            capture_output=True, check=False, timeout=60,
            env={**os.environ, "A": "a.onggi", "S": "source"}, cwd=onggi.folder,
        )  # fmt: skip
        assert len(done.stdout) == 1000
        lines = done.stderr.decode().splitlines()
        assert lines[-1] == "ended with 6", lines
        assert len(lines) == 2
        assert lines[0].startswith("onggi: can't write to standard output")
