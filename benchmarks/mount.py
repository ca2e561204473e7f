"""Hold Onggi's mounts against decoding in memory, squashfuse and ratarmount.

Owns the bars and what is held against what. `mount_archives.py` makes archives and knows how they
are mounted, `mount_commands.py` what is run on mounts, `mounting.py` the life of a mount. Every run
has a mount of its own, made before and unmounted after it. Needs an image made by `corpus.py`
and, without `--tree`, unpacks Debian's Linux source below WORK once.

    python benchmarks/mount.py --work /dev/shm/onggi-bench
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from commands import add_run_arguments
from harness import CommandError
from mount_archives import Archives, Mountable, install_ratarmount
from mount_commands import MountSetup
from mount_frames import FRAME_SIZES, KINDS, measure_frames
from mount_results import MountResults
from mounting import MountPlace
from report import (
    Bar,
    filesystem_of,
    machine,
    megabytes,
    parse_size,
    version_of,
    warn_if_memory_is_short,
)
from tree_source import take_census, unpack_tree

DECODE_RATE = Bar(0.85, at_most=False, unit="x")
SQUASHFS_RATE = Bar(1.5, at_most=False, unit="x")
RANDOM_P50 = Bar(1.2, at_most=True, unit="ms")
RANDOM_P99 = Bar(5, at_most=True, unit="ms")
RANDOM_RATE = Bar(1, at_most=False, unit="x")
FIND_WALL = Bar(0.5, at_most=True, unit="x")
TAR_WALL = Bar(0.8, at_most=True, unit="x")
# On top of what the mount was told to keep.
MEMORY_BYTES = 100_000_000

SECTIONS = ("sequential", "random", "find", "tar", "memory", "frames")
PEERS = ("squashfuse_ll", "ratarmount")
PROGRAMS = {
    "bash": "bash",
    "cmp": "diffutils",
    "find": "findutils",
    "fusermount3": "fuse3",
    "tar": "tar",
    "umount": "mount",
    "zstd": "zstd",
}
SQUASHFS_PROGRAMS = {"mksquashfs": "squashfs-tools", "squashfuse_ll": "squashfuse"}


def measure_sequential(setup: MountSetup, peers: list[str], results: MountResults) -> None:
    """Compare reading a volume from start to end with decoding it in memory, and squashfuse."""
    ours = volume(setup)
    probes = [setup.dd(ours), setup.decode(ours), setup.dd_holes()]
    if "squashfuse_ll" in peers:
        probes.append(setup.dd(setup.archives.squashfs(setup.image, "volume")))
    measured = setup.run(probes)
    results.add(measured, probes)
    mine, decode, holes, *squashfuse = [one.series for one in measured]
    for one in (mine, decode, *squashfuse):
        results.rate(one, setup.image.stat().st_size)
    results.times_as_fast(mine, decode, DECODE_RATE)
    results.limit(decode, holes)
    for other in squashfuse:
        results.times_as_fast(mine, other, SQUASHFS_RATE)


def measure_random(setup: MountSetup, peers: list[str], results: MountResults) -> None:
    """Compare reads at random places of a volume, cold and warm, with squashfuse.

    Warm ones are also held beside the image itself, which is in the page cache.
    """
    probes = [setup.random(volume(setup), setup.image), setup.random_unmounted(setup.image)]
    if "squashfuse_ll" in peers:
        archive = setup.archives.squashfs(setup.image, "volume")
        probes.append(setup.random(archive, setup.image))
    measured = setup.run(probes)
    results.add(measured, probes)
    mine, image, *squashfuse = measured
    for state, one in (
        *(("cold", one) for one in (mine, *squashfuse)),
        *(("warm", one) for one in (mine, *squashfuse, image)),
    ):
        is_held = one is mine and state == "cold"
        bars = (RANDOM_P50, RANDOM_P99) if is_held else (None, None)
        results.figure(one, f"{state}_p50_ms", f"{state}, p50", "ms", bars[0])
        results.figure(one, f"{state}_p99_ms", f"{state}, p99", "ms", bars[1])
        results.figure(one, f"{state}_reads_per_s", f"{state}, rate", "reads/s", None)
    for other in squashfuse:
        mine_cold, other_cold = (one.as_wall("cold_s", "cold") for one in (mine, other))
        results.times_as_fast(mine_cold, other_cold, RANDOM_RATE)
    for other in (*squashfuse, image):
        # All of them take some ms, so that a single interruption would decide over their sum.
        mine_warm, other_warm = (one.as_wall("warm_p50_ms", "warm, p50") for one in (mine, other))
        results.times_as_fast(mine_warm, other_warm, None)


def measure_find(setup: MountSetup, peers: list[str], results: MountResults) -> None:
    """Compare a find over a tree with squashfuse."""
    mountables = [tree(setup)]
    if "squashfuse_ll" in peers:
        mountables.append(setup.archives.squashfs(setup.tree, "tree"))
    probes = [setup.find(one) for one in mountables]
    measured = setup.run(probes)
    results.add(measured, probes)
    mine, *others = [one.series for one in measured]
    for other in others:
        results.compare(f"{mine.name} / {other.name}", mine, other, "wall_s", FIND_WALL)


def measure_tar(setup: MountSetup, peers: list[str], results: MountResults) -> None:
    """Compare a tar of a whole tree with squashfuse and ratarmount."""
    mountables = [tree(setup)]
    if "squashfuse_ll" in peers:
        mountables.append(setup.archives.squashfs(setup.tree, "tree"))
    if setup.ratarmount is not None:
        mountables.append(setup.archives.ratarmount(setup.ratarmount, setup.tree, "tree"))
    probes = [setup.tar(one) for one in mountables]
    measured = setup.run(probes)
    results.add(measured, probes)
    mine, *others = [one.series for one in measured]
    for other in others:
        results.compare(f"{mine.name} / {other.name}", mine, other, "wall_s", TAR_WALL)


def measure_memory(setup: MountSetup, cache_bytes: int, results: MountResults) -> None:
    """Hold the peak memory of Onggi's mounts against the bar.

    Of those of the other sections the highest; and of mounts that live through several commands.
    """
    bar = Bar(round((cache_bytes + MEMORY_BYTES) / 1e6, 1), at_most=True, unit="MB")
    if results.ours:
        highest = max(results.ours, key=lambda one: one.highest("peak_bytes"))
        results.memory(dataclasses.replace(highest, name=f"{highest.name}, the most of all"), bar)
    on_volume, on_tree = volume(setup), tree(setup)
    probes = [
        setup.all_of(
            [setup.dd(on_volume), setup.random(on_volume, setup.image), setup.dd(on_volume)],
            "dd, random reads and dd, one mount, onggi",
        ),
        setup.all_of(
            [setup.find(on_tree), setup.random(on_tree, setup.tree), setup.tar(on_tree)],
            "find, random reads and tar, one mount, onggi",
        ),
    ]
    measured = setup.run(probes, rounds=1)
    results.add(measured, probes)
    for one in measured:
        results.memory(one.series, bar)


def volume(setup: MountSetup) -> Mountable:
    """Return Onggi's archive of the volume."""
    return setup.archives.onggi(setup.image, "volume")


def tree(setup: MountSetup) -> Mountable:
    """Return Onggi's archive of the tree."""
    return setup.archives.onggi(setup.tree, "tree")


def missing_programs(sections: list[str], peers: list[str]) -> list[str]:
    """Return the packages that must be installed for these sections and peers."""
    needed = dict(PROGRAMS)
    if "squashfuse_ll" in peers and not set(sections).isdisjoint(SECTIONS[:4]):
        needed |= SQUASHFS_PROGRAMS
    return sorted({package for name, package in needed.items() if shutil.which(name) is None})


def facts(args: argparse.Namespace, setup: MountSetup, missing: str) -> dict[str, str]:
    """Return what the numbers depend on, for the head of the report."""
    cached = "in the page cache" if args.cache == "warm" else "dropped from the page cache"
    about = {**machine(), "onggi": version_of(args.onggi), "fuse": version_of("fusermount3")}
    if "squashfuse_ll" in args.peers and shutil.which("squashfuse_ll"):
        told = subprocess.run(["mksquashfs", "-version"], capture_output=True, text=True)
        about["mksquashfs"] = told.stdout.partition("\n")[0]
        told = subprocess.run(["squashfuse_ll", "-V"], capture_output=True, text=True)
        # It tells its version, and then how it is used, on two streams and with any exit code.
        lines = (told.stdout + told.stderr).splitlines()
        about["squashfuse"] = next((line for line in lines if "squashfuse" in line), "unknown")
    if setup.ratarmount is not None:
        about["ratarmount"] = version_of(str(setup.ratarmount))
    elif missing:
        about["ratarmount"] = f"left out: {missing}"
    if uses_volume(args):
        size_bytes = setup.image.stat().st_size
        about["image"] = f"{setup.image.name}, {size_bytes} bytes, {on(setup.image)}"
    if uses_tree(args):
        census = take_census(setup.tree)
        size = f"{census.files} files of {megabytes(census.content_bytes)}"
        about["tree"] = f"{setup.tree.name}, {census.entries} entries, {size}, {on(setup.tree)}"
    about["archives"] = f"level {args.level}, {on(args.work)}"
    about["mounts"] = f"--cache {args.mount_cache} --threads {args.threads}, a new one for each run"
    about["rounds"] = f"{args.rounds} after 1 warm-up, interleaved; archives {cached}"
    return about


def on(path: Path) -> str:
    """Tell what filesystem something is on."""
    return f"on {filesystem_of(path)}"


def uses_volume(args: argparse.Namespace) -> bool:
    """Tell whether a volume is needed."""
    kinds = {"sequential", "random", "memory"}
    return not kinds.isdisjoint(args.sections) or (
        "frames" in args.sections and "volume" in args.kinds
    )


def uses_tree(args: argparse.Namespace) -> bool:
    """Tell whether a tree is needed."""
    kinds = {"find", "tar", "memory"}
    return not kinds.isdisjoint(args.sections) or (
        "frames" in args.sections and "tree" in args.kinds
    )


def measure(args: argparse.Namespace, setup: MountSetup) -> MountResults:
    """Run the sections that were asked for."""
    results = MountResults()
    if "sequential" in args.sections:
        measure_sequential(setup, args.peers, results)
    if "random" in args.sections:
        measure_random(setup, args.peers, results)
    if "find" in args.sections:
        measure_find(setup, args.peers, results)
    if "tar" in args.sections:
        measure_tar(setup, args.peers, results)
    if "memory" in args.sections:
        measure_memory(setup, parse_size(args.mount_cache), results)
    if "frames" in args.sections:
        results.frames = measure_frames(setup, args.kinds, args.frame_sizes)
    return results


def main() -> int:
    """Find image and tree, run the sections, print the tables, write the results."""
    args = _arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    args.work = args.work.resolve()
    if packages := missing_programs(args.sections, args.peers):
        print(f"missing: sudo apt-get install {' '.join(packages)}", file=sys.stderr)
        return 2
    image: Path = (args.image or args.work / "corpus.img").resolve()
    if uses_volume(args) and not image.is_file():
        print(f"{image}: no such image; make one with corpus.py", file=sys.stderr)
        return 2
    folder: Path = args.tree or args.work / args.package
    if uses_tree(args) and args.tree is None:
        folder = unpack_tree(args.package, args.deb, args.work)
    folder = folder.resolve()
    if uses_tree(args) and not folder.is_dir():
        print(f"{folder}: no such folder", file=sys.stderr)
        return 2
    ratarmount, missing = find_ratarmount(args)
    # Not every program has an option for the number of threads; all of them see this.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    # Or what is mounted would stay there.
    signal.signal(signal.SIGTERM, _end)
    scratch: Path = args.work / "mount"
    scratch.mkdir(exist_ok=True)
    at = scratch / "at"
    archives = Archives(scratch, at, args.onggi, args.level, args.threads, args.mount_cache)
    try:
        with MountPlace(at) as place:
            setup = MountSetup(
                image,
                folder,
                scratch,
                place,
                archives,
                ratarmount,
                args.threads,
                args.rounds,
                args.reads,
                args.cache,
            )
            if uses_volume(args):
                warn_if_memory_is_short(3 * image.stat().st_size)
            about = facts(args, setup, missing)
            results = measure(args, setup)
    except CommandError as error:
        print(error, file=sys.stderr)
        return 1
    results.write(about, args.work / "mount.md", args.json or args.work / "mount.json")
    missed = [row.what for row in results.rows if row.verdict == "FAIL"]
    return 1 if missed and args.check else 0


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End in an orderly way on a signal."""
    raise SystemExit(128 + number)


def find_ratarmount(args: argparse.Namespace) -> tuple[Path | None, str]:
    """Return ratarmount, installed if need be; or None, and why, if it is left out."""
    if "tar" not in args.sections:
        return None, ""
    if "ratarmount" not in args.peers:
        return None, "not asked for"
    try:
        return install_ratarmount(args.work), ""
    except CommandError as error:
        print(f"ratarmount is left out, since it can't be installed: {error}", file=sys.stderr)
        return None, str(error).strip().splitlines()[-1]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare Onggi's mounts with their peers.")
    add_run_arguments(parser, rounds=5)
    parser.add_argument("--image", type=Path, help="volume image (default: WORK/corpus.img)")
    parser.add_argument("--tree", type=Path, help="a folder (default: the package, unpacked)")
    parser.add_argument("--package", default="linux-source-6.1", help="default: %(default)s")
    parser.add_argument("--deb", type=Path, help="the package, if it is already there")
    parser.add_argument("--level", type=int, default=3, help="zstd level (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="cores (default: %(default)s)")
    parser.add_argument(
        "--reads", type=int, default=2000, help="random reads of a run: %(default)s"
    )
    parser.add_argument(
        "--mount-cache", default="256M", help="--cache of Onggi's mounts (default: %(default)s)"
    )
    parser.add_argument(
        "--peers", nargs="*", choices=PEERS, default=list(PEERS), help="default: both"
    )
    parser.add_argument(
        "--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="what to measure"
    )
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="archives of which frames"
    )
    parser.add_argument(
        "--frame-sizes", nargs="+", default=list(FRAME_SIZES), metavar="SIZE", help="to compare"
    )
    parser.add_argument("--json", type=Path, help="results (default: WORK/mount.json)")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bar is missed")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
