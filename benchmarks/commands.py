"""The command lines that are compared: Onggi's, and those of zstd that do the same work.

Owns their options, inputs and outputs, and the check that an unpacked image is right. Knows nothing
about bars and tables.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import Cache, Command, CommandError, Series, interleave, log_to_stderr, then_fsync


@dataclasses.dataclass(frozen=True, slots=True)
class Setup:
    """What every section needs to know. With `fsync`, zstd also runs with a sync of its output."""

    image: Path
    work: Path
    onggi: str
    zstd: str
    threads: int
    rounds: int
    cache: Cache
    fsync: bool

    def archive(self, level: int) -> Path:
        """Return where the Onggi archive of a level is."""
        return self.work / f"level{level}.onggi"

    def peer(self, level: int) -> Path:
        """Return where zstd's own file of a level is."""
        return self.work / f"level{level}.zst"

    def onggi_pack(self, level: int) -> Command:
        """Pack with Onggi."""
        out = self.archive(level)
        options = ("--quiet", "--level", str(level), "--threads", str(self.threads))
        argv = (self.onggi, "pack", *options, str(self.image), str(out))
        return Command(f"onggi pack -{level}", argv, (self.image,), (out,), keep=True)

    def zstd_pack(self, level: int, fsync: bool = False) -> Command:
        """Pack with zstd."""
        out = self.peer(level)
        argv: tuple[str, ...] = (self.zstd, "-q", f"-T{self.threads}", f"-{level}", str(self.image))
        argv = (*argv, "-o", str(out))
        name = f"zstd -T{self.threads} -{level}"
        if fsync:
            argv, name = then_fsync(argv, out), f"{name} + fsync"
        return Command(name, argv, (self.image,), (out,), keep=True)

    def onggi_unpack(self, level: int) -> Command:
        """Unpack with Onggi to a file with holes."""
        out, archive = self.work / "onggi.out", self.archive(level)
        argv = (
            self.onggi,
            "unpack",
            "--quiet",
            "--threads",
            str(self.threads),
            str(archive),
            str(out),
        )
        check = self._same_as_image(out)
        return Command(f"onggi unpack -{level}", argv, (archive,), (out,), check=check)

    def zstd_unpack(self, archive: Path, what: str, fsync: bool = False) -> Command:
        """Unpack with zstd to a file with holes."""
        out = self.work / "zstd.out"
        argv: tuple[str, ...] = (self.zstd, "-q", "-d", "--sparse", str(archive), "-o", str(out))
        name = f"zstd -d --sparse, {what}"
        if fsync:
            argv, name = then_fsync(argv, out), f"{name} + fsync"
        return Command(name, argv, (archive,), (out,), check=self._same_as_image(out))

    def run(self, commands: list[Command], rounds: int | None = None) -> list[Series]:
        """Measure the commands, interleaved."""
        count = self.rounds if rounds is None else rounds
        return interleave(commands, count, cache=self.cache, log=log_to_stderr)

    def _same_as_image(self, out: Path) -> _SameContent:
        return _SameContent(out, self.image)


@dataclasses.dataclass(frozen=True, slots=True)
class _SameContent:
    """A check that two files hold the same bytes."""

    out: Path
    image: Path

    def __call__(self) -> None:
        if subprocess.run(["cmp", "--silent", self.out, self.image]).returncode:
            raise CommandError(f"cmp {self.out} {self.image}", 1, "unpacked content differs")


def add_common_arguments(parser: argparse.ArgumentParser, rounds: int) -> None:
    """Add the options that every volume benchmark takes."""
    add_run_arguments(parser, rounds)
    parser.add_argument("--image", type=Path, help="volume image (default: WORK/corpus.img)")


def add_run_arguments(parser: argparse.ArgumentParser, rounds: int) -> None:
    """Add the options that every benchmark takes, whatever its input is.

    The default program is the `onggi` that was installed with the running Python, so that a
    benchmark run from a virtual environment measures what is in it.
    """
    work = Path(tempfile.gettempdir()) / "onggi-bench"
    beside = Path(sys.executable).parent / "onggi"
    onggi = str(beside) if os.access(beside, os.X_OK) else shutil.which("onggi") or "onggi"
    parser.add_argument("--work", type=Path, default=work, help="outputs (default: %(default)s)")
    parser.add_argument("--onggi", default=onggi, help="the program (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=rounds, help="counted rounds (default: %(default)s)"
    )
    parser.add_argument(
        "--cache",
        choices=("warm", "cold"),
        default="warm",
        help="inputs in the page cache, or dropped from it, before each run (default: warm)",
    )
