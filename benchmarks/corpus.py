"""Build the volume that the benchmarks pack: an ext4 image of real, mixed, public material.

Owns what is on the volume and in which shares. Needs no root and no loop device (`mkfs.ext4 -d`).
What goes in:

    45 %  source text and small files: the Linux source (a Debian package), Python's library
    25 %  binaries: ELF files and static libraries of this machine
    15 %  an SQLite database, SQL text, log text: generated
    15 %  compressed already: the Linux source's .tar.xz, files of this machine, unused source

Where the machine has too few binaries, source takes their share. The files fill 84 % of the volume.
The rest is tables, journal and free space: zeros that are really written, because a device has no
holes (`--sparse` keeps them). Which file is taken is decided by a digest of its path, so the same
machine and package give the same files. Binaries differ on another machine: compare ratios between
machines, not sizes.

    python benchmarks/corpus.py --out corpus.img --size 2.5G
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from files import BLOCK_BYTES, copy_files, folder_bytes, on_disk_bytes, regular_files, select
from generated import write_database, write_dump, write_log
from report import megabytes, parse_size, write_json

FILL = 0.84
SHARES = {"source": 0.45, "binaries": 0.25, "data": 0.15, "compressed": 0.15}

# A fixed moment for everything made here: 2024-01-01.
EPOCH_S = 1_704_067_200
SEED = 20_240_101

COMPRESSED_SUFFIXES = (
    *(".bz2", ".deb", ".gz", ".jar", ".jpg", ".png", ".svgz"),
    *(".tgz", ".webp", ".whl", ".woff2", ".xz", ".zip", ".zst"),
)
BINARY_MAGICS = (b"\x7fELF", b"!<arch>\n")
BINARY_ROOTS = (Path("/usr/bin"), Path("/usr/lib"))
COMPRESSED_ROOTS = (Path("/usr/share"), Path("/usr/lib"))


def is_binary(path: Path) -> bool:
    """Tell an ELF file or a static library by its first bytes; what can't be read is none."""
    try:
        with path.open("rb") as file:
            return file.read(8).startswith(BINARY_MAGICS)
    except OSError:
        return False


def add_binaries(stage: Path, budget_bytes: int) -> None:
    """Copy binaries of this machine."""
    copy_files(select(filter(is_binary, regular_files(BINARY_ROOTS)), budget_bytes), stage)


def fetch_package(package: str, work: Path) -> Path:
    """Download a Debian package into the work folder, unless it is there, and return its path."""
    found = sorted(work.glob(f"{package}_*.deb"))
    if not found:
        subprocess.run(["apt-get", "download", package], cwd=work, check=True)
        found = sorted(work.glob(f"{package}_*.deb"))
    return found[-1]


def unpack_source(deb: Path, work: Path) -> tuple[Path, Path]:
    """Unpack the package and the tarball in it; return the tarball and its content's folder."""
    box = work / "package"
    subprocess.run(["dpkg-deb", "-x", deb, box], check=True)
    tarballs = sorted(box.glob("usr/src/*.tar.*"))
    if not tarballs:
        raise SystemExit(f"{deb}: there is no tarball in usr/src")
    tree = work / "tree"
    tree.mkdir()
    argv = ["tar", "--extract", "--no-same-owner", "--file", str(tarballs[0])]
    subprocess.run(argv, cwd=tree, check=True)
    return tarballs[0], tree


def add_source(stage: Path, tree: Path, budget_bytes: int) -> list[Path]:
    """Copy Python's library and move source files to the stage; return the unused source files."""
    library = Path(sysconfig.get_path("stdlib"))
    small = (
        path
        for path in regular_files((library,))
        if "site-packages" not in path.parts and "dist-packages" not in path.parts
    )
    place = stage / "opt" / "python"
    for path in select(small, budget_bytes // 10, library):
        target = place / path.relative_to(library)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        os.utime(target, (EPOCH_S, EPOCH_S))
    paths = list(regular_files((tree,)))
    chosen = select(paths, budget_bytes - folder_bytes(place), tree)
    for path in chosen:
        target = stage / "usr" / "src" / path.relative_to(tree)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    return sorted(set(paths) - set(chosen))


def add_data(stage: Path, budget_bytes: int, prose: list[str]) -> None:
    """Generate a database, SQL text and logs, a third each."""
    share_bytes = budget_bytes // 3
    makers: dict[str, Callable[[Path, int, int, list[str]], None]] = {
        "var/lib/app/app.sqlite": write_database,
        "var/backups/app.sql": write_dump,
        "var/log/app.log": write_log,
    }
    for number, (name, make) in enumerate(makers.items()):
        path = stage / name
        path.parent.mkdir(parents=True)
        make(path, share_bytes, SEED + number, prose)
        os.utime(path, (EPOCH_S, EPOCH_S))


def read_prose(tree: Path) -> list[str]:
    """Return lines of real text for remarks and messages, from the source's documentation."""
    pages = sorted(tree.glob("*/Documentation/**/*.rst"))
    lines = (
        line.strip() for page in pages for line in page.read_text(errors="replace").splitlines()
    )
    prose = [line.replace("\t", " ") for line in lines if 30 < len(line) < 90 and line[0].isalpha()]
    random.Random(SEED).shuffle(prose)
    return prose[:20_000] or ["delivered to the neighbour, as was asked by telephone"]


def add_compressed(stage: Path, budget_bytes: int, tarball: Path, unused: list[Path]) -> None:
    """Add what is compressed already: the tarball (at most 40 %), own files, unused source."""
    place = stage / "srv" / "archive"
    place.mkdir(parents=True)
    with tarball.open("rb") as source, (place / tarball.name).open("wb") as target:
        target.write(source.read(budget_bytes * 2 // 5))
    os.utime(place / tarball.name, (EPOCH_S, EPOCH_S))
    left_bytes = budget_bytes - folder_bytes(place)
    found = (p for p in regular_files(COMPRESSED_ROOTS) if p.suffix in COMPRESSED_SUFFIXES)
    chosen = select((path for path in found if os.access(path, os.R_OK)), left_bytes)
    copy_files(chosen, stage)
    left_bytes -= sum(on_disk_bytes(path.stat().st_size) for path in chosen)
    if left_bytes > 1 << 20:
        pack_unused(place / "unused.tar.gz", unused, left_bytes)


def pack_unused(target: Path, paths: list[Path], budget_bytes: int) -> None:
    """Write a .tar.gz of the files, and stop when it has the wanted size."""
    with (
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, EPOCH_S) as packed,
        tarfile.open(fileobj=packed, mode="w|") as archive,
    ):
        for path in paths:
            archive.add(path, path.name, recursive=False)
            if raw.tell() >= budget_bytes:
                break
    os.utime(target, (EPOCH_S, EPOCH_S))


def make_image(stage: Path, out: Path, size_bytes: int, sparse: bool) -> None:
    """Make the ext4 image from the stage, its identity and times fixed as far as mkfs allows."""
    for folder, _, _ in os.walk(stage, topdown=False):
        os.utime(folder, (EPOCH_S, EPOCH_S))
    uuid = "6f6e6767-6900-4000-8000-000000000001"
    options = ["-q", "-F", "-b", str(BLOCK_BYTES), "-i", "16384", "-U", uuid, "-L", "bench"]
    extended = ["-E", f"hash_seed={uuid},root_owner=0:0"]
    out.unlink(missing_ok=True)
    fixed = {"E2FSPROGS_FAKE_TIME": str(EPOCH_S), "SOURCE_DATE_EPOCH": str(EPOCH_S)}
    # mkfs lives where the PATH of an ordinary user does not look.
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    subprocess.run(
        ["mkfs.ext4", *options, *extended, "-d", stage, out, f"{size_bytes // 1024}k"],
        env={**os.environ, **fixed, "PATH": path},
        check=True,
    )
    if not sparse:
        fill_holes(out)


def fill_holes(path: Path) -> None:
    """Write zeros wherever the file has a hole, so that it reads like a device."""
    zeros = bytes(1 << 20)
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        position = os.lseek(file.fileno(), 0, os.SEEK_HOLE)
        while position < end:
            try:
                data = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError:  # ENXIO: the hole reaches to the end
                data = end
            while position < data:
                position += os.pwrite(file.fileno(), zeros[: data - position], position)
            if position < end:
                position = os.lseek(file.fileno(), position, os.SEEK_HOLE)
        os.fsync(file.fileno())


def build(args: argparse.Namespace) -> None:
    """Gather the files in a stage, make the image, and note its content in `IMAGE.json`."""
    budgets = {name: int(args.size * FILL * share) for name, share in SHARES.items()}
    deb = (args.deb or fetch_package(args.package, args.work)).resolve()
    out = args.out.resolve()
    used: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="corpus-", dir=args.work.resolve()) as scratch:
        work = Path(scratch)
        stage = work / "stage"
        stage.mkdir()

        def account(name: str, before: int) -> None:
            used[name] = folder_bytes(stage) - before
            print(f"{name}: {megabytes(used[name])}", file=sys.stderr, flush=True)

        tarball, tree = unpack_source(deb, work)
        prose = read_prose(tree)
        add_binaries(stage, budgets["binaries"])
        account("binaries", 0)
        short_bytes = budgets["binaries"] - used["binaries"]
        unused = add_source(stage, tree, budgets["source"] + short_bytes)
        account("source", sum(used.values()))
        add_data(stage, budgets["data"], prose)
        account("data", sum(used.values()))
        add_compressed(stage, budgets["compressed"], tarball, unused)
        account("compressed", sum(used.values()))
        make_image(stage, out, args.size, args.sparse)
    with out.open("rb") as image:
        digest = hashlib.file_digest(image, "sha256").hexdigest()
    filled = sum(used.values()) / args.size
    print(f"{out}: {args.size} bytes, {filled:.0%} filled, SHA-256 {digest}")
    if filled < 0.82:
        print("warning: too little material on this machine to fill it as planned", file=sys.stderr)
    facts = {"size_bytes": args.size, "package": deb.name, "sha256": digest}
    write_json(out.with_suffix(out.suffix + ".json"), **facts, class_bytes=used)


def main() -> int:
    """Read the command line and build the image."""
    work = Path(tempfile.gettempdir()) / "onggi-bench"
    parser = argparse.ArgumentParser(description="Build the volume image that the benchmarks use.")
    parser.add_argument(
        "--work", type=Path, default=work, help="scratch folder (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, help="the image (default: WORK/corpus.img)")
    parser.add_argument("--size", type=parse_size, default=parse_size("2.5G"), help="default: 2.5G")
    parser.add_argument("--package", default="linux-source-6.1", help="default: %(default)s")
    parser.add_argument("--deb", type=Path, help="the package, if it is already there")
    parser.add_argument("--sparse", action="store_true", help="leave free space as holes")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    args.out = args.out or args.work / "corpus.img"
    args.size -= args.size % BLOCK_BYTES
    build(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
