"""Hold Onggi's tree commands against tar and zstd, mksquashfs, restic and borg, on one tree.

Owns the bars and what is held against what; `tree_cat.py` does for single files. `tree_commands.py`
knows the command lines, `tree_source.py` the tree, `harness.py` runs and measures. Without
`--tree`, the tree is Debian's Linux source, which is downloaded and unpacked below WORK once.

    python benchmarks/tree.py --work /dev/shm/onggi-bench
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

from commands import add_run_arguments
from harness import Command, CommandError, series_table
from report import (
    Bar,
    facts_list,
    filesystem_of,
    machine,
    megabytes,
    verdict_table,
    version_of,
    warn_if_memory_is_short,
    write_json,
)
from tree_cat import CAT_FILES, measure_cat
from tree_commands import PEERS, VARIANTS, TreeSetup, named, pipeline, restic_version
from tree_source import pick_files, take_census, unpack_tree
from volume import Results

PACK_WALL = {
    "tar": Bar(1.1, at_most=True, unit="x"),
    "mksquashfs": Bar(0.9, at_most=True, unit="x"),
    "restic": Bar(0.4, at_most=True, unit="x"),
    "borg": Bar(0.4, at_most=True, unit="x"),
}
# Against the others the size is only told: mksquashfs, restic and borg also look for duplicates.
PACK_SIZE = {"tar": Bar(1.02, at_most=True, unit="x")}
UNPACK_WALL = Bar(0.8, at_most=True, unit="x")

SECTIONS = ("pack", "unpack", "cat", "read")
PROGRAMS = {
    "tar": "tar",
    "zstd": "zstd",
    "mksquashfs": "squashfs-tools",
    "restic": "restic",
    "borg": "borgbackup",
    "strace": "strace",
}


def measure_pack(setup: TreeSetup, variants: list[str], peers: list[str], results: Results) -> None:
    """Compare wall time, CPU time and size of packing with every peer, and tell the memory."""
    ours = [setup.onggi_pack(variant) for variant in variants]
    series = setup.run([*ours, *(setup.peer(name) for name in peers)])
    results.series += series
    others = dict(zip(peers, series[len(ours) :], strict=True))
    for onggi in series[: len(ours)]:
        for name, peer in others.items():
            what = f"{onggi.name} / {peer.name}"
            results.compare(what, onggi, peer, "wall_s", PACK_WALL[name])
            results.compare(what, onggi, peer, "cpu_s", None)
            results.compare(what, onggi, peer, "output_bytes", PACK_SIZE.get(name))
    for one in series:
        results.memory(one, bar=None)


def measure_unpack(setup: TreeSetup, variants: list[str], results: Results) -> None:
    """Compare unpacking with zstd and tar: on their own archive, and on Onggi's."""
    setup.prepare_archives(variants[0])
    ours = [setup.onggi_unpack(variant) for variant in variants]
    theirs = [
        setup.tar_unpack(setup.tarball, "its own .tar.zst"),
        setup.tar_unpack(setup.archive, "same archive"),
    ]
    series = setup.run([*ours, *theirs])
    results.series += series
    for onggi in series[: len(ours)]:
        for other in series[len(ours) :]:
            what = f"{onggi.name} / {other.name}"
            results.compare(what, onggi, other, "wall_s", UNPACK_WALL)
            results.compare(what, onggi, other, "cpu_s", None)
    for one in series:
        results.memory(one, bar=None)


def measure_read(setup: TreeSetup, variants: list[str], results: Results) -> None:
    """Measure verifying and listing beside what comes nearest to them; without bars."""
    setup.prepare_archives(variants[0])
    archive, tarball, tree = setup.archive, setup.tarball, setup.tree
    threads = ("--threads", str(setup.threads))
    pairs: list[tuple[str, tuple[str | Path, ...], tuple[Path, ...], Command]] = [
        (
            "verify --level content",
            ("--quiet", "--level", "content", *threads, archive),
            (archive,),
            Command("zstd -t, its own .tar.zst", ("zstd", "-q", "-t", str(tarball)), (tarball,)),
        ),
        (
            "verify --against",
            ("--quiet", *threads, "--against", tree, archive),
            (archive, tree),
            Command(
                "zstd -dc | tar d, its own .tar.zst",
                pipeline('zstd -q -dc "$1" | tar -C "$2" -df -', tarball, tree),
                (tarball, tree),
            ),
        ),
        (
            "ls -R",
            ("-R", archive),
            (archive,),
            Command(
                "zstd -dc | tar t, its own .tar.zst",
                pipeline('zstd -q -dc "$1" | tar -tf -', tarball),
                (tarball,),
            ),
        ),
    ]
    for name, rest, inputs, peer in pairs:
        verb = name.split()[0]
        ours = [
            Command(named(f"onggi {name}", variant), setup.onggi_argv(variant, verb, *rest), inputs)
            for variant in variants
        ]
        *measured, other = series = setup.run([*ours, peer])
        results.series += series
        for onggi in measured:
            results.compare(f"{onggi.name} / {other.name}", onggi, other, "wall_s", None)
            results.memory(onggi, bar=None)


def missing_programs(sections: list[str], peers: list[str]) -> list[str]:
    """Return the packages that must be installed for these sections and peers."""
    needed = {"tar", "zstd", *(peers if "pack" in sections else ())}
    if "cat" in sections:
        needed.add("strace")
    return sorted(PROGRAMS[name] for name in needed if shutil.which(name) is None)


def facts(setup: TreeSetup, peers: list[str]) -> dict[str, str]:
    """Return what the numbers depend on, for the head of the report."""
    census = setup.census
    cached = "in the page cache" if setup.cache == "warm" else "dropped from the page cache"
    versions = {"tar": version_of("tar"), "zstd": version_of("zstd")}
    if "mksquashfs" in peers:
        told = subprocess.run(["mksquashfs", "-version"], capture_output=True, text=True)
        versions["mksquashfs"] = told.stdout.partition("\n")[0]
    if "restic" in peers:
        versions["restic"] = restic_version()
    if "borg" in peers:
        versions["borg"] = version_of("borg")
    return {
        **machine(),
        "onggi": version_of(setup.onggi),
        **versions,
        "tree": f"{setup.tree.name}, {census.entries} entries, {census.files} files of "
        f"{megabytes(census.content_bytes)}, on {filesystem_of(setup.tree)}",
        "outputs": f"on {filesystem_of(setup.work)}",
        "rounds": f"{setup.rounds} after 1 warm-up, interleaved; inputs {cached} before each run",
    }


def measure(args: argparse.Namespace, setup: TreeSetup) -> Results:
    """Run the sections that were asked for."""
    results = Results()
    # Archives of an earlier run may come from another version of the program, or of the tree.
    setup.archive.unlink(missing_ok=True)
    setup.tarball.unlink(missing_ok=True)
    if "pack" in args.sections:
        measure_pack(setup, args.variants, args.peers, results)
    if "unpack" in args.sections:
        measure_unpack(setup, args.variants, results)
    if "cat" in args.sections:
        names = args.cat or pick_files(setup.tree, CAT_FILES)
        measure_cat(setup, args.variants, names, results)
    if "read" in args.sections:
        measure_read(setup, args.variants, results)
    return results


def main() -> int:
    """Make the tree if none is given, run the sections, print the tables, write the results."""
    args = _arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    args.work = args.work.resolve()
    if packages := missing_programs(args.sections, args.peers):
        print(f"missing: sudo apt-get install {' '.join(packages)}", file=sys.stderr)
        return 2
    tree: Path = (args.tree or unpack_tree(args.package, args.deb, args.work)).resolve()
    if not tree.is_dir():
        print(f"{tree}: no such folder", file=sys.stderr)
        return 2
    # Not every peer has an option for the number of threads; all of them see this.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    setup = TreeSetup(
        tree,
        take_census(tree),
        args.work,
        args.onggi,
        args.level,
        args.threads,
        args.rounds,
        args.cache,
    )
    warn_if_memory_is_short(3 * setup.census.content_bytes)
    about = facts(setup, args.peers if "pack" in args.sections else [])
    try:
        results = measure(args, setup)
    except CommandError as error:
        print(error, file=sys.stderr)
        return 1
    text = "\n".join((facts_list(about), verdict_table(results.rows), series_table(results.series)))
    print(text)
    (args.work / "tree.md").write_text(text)
    rows = [{**dataclasses.asdict(row), "verdict": row.verdict} for row in results.rows]
    out: Path = args.json or args.work / "tree.json"
    write_json(out, facts=about, rows=rows, series=results.series)
    missed = [row.what for row in results.rows if row.verdict == "FAIL"]
    return 1 if missed and args.check else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare Onggi's tree commands with its peers.")
    add_run_arguments(parser, rounds=5)
    parser.add_argument("--tree", type=Path, help="a folder (default: the package, unpacked)")
    parser.add_argument("--package", default="linux-source-6.1", help="default: %(default)s")
    parser.add_argument("--deb", type=Path, help="the package, if it is already there")
    parser.add_argument("--level", type=int, default=3, help="zstd level (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="cores (default: %(default)s)")
    parser.add_argument(
        "--peers", nargs="*", choices=PEERS, default=list(PEERS), help="what to pack with"
    )
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=tuple(VARIANTS),
        default=list(VARIANTS),
        help="Onggi as it is, and without its compiled helper (default: both)",
    )
    parser.add_argument(
        "--cat", nargs="+", metavar="PATH", help="files in the tree to read (default: a choice)"
    )
    parser.add_argument(
        "--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="what to measure"
    )
    parser.add_argument("--json", type=Path, help="results (default: WORK/tree.json)")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bar is missed")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
