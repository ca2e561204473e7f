"""What is mounted in the comparison, and how: Onggi's archives, and those of its peers.

Owns the making of archives (not measured; once for each run of the benchmark, since an old one may
come from another version), the installation of ratarmount, and the command lines that mount.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import Command, CommandError, environment, log_to_stderr, run_once
from tree_commands import pipeline

VOLUME_NAME = "volume.img"  # what Onggi's mount calls a volume
_SQUASHFS_BLOCK = "1M"


@dataclasses.dataclass(frozen=True, slots=True)
class Mountable:
    """An archive, and the command that mounts it in the background.

    `program` is whose mount it is, as tables name it. `volume` is the name of the volume in the
    mount, where it holds one.
    """

    program: str
    archive: Path
    argv: tuple[str, ...]
    volume: str = VOLUME_NAME


class Archives:
    """Makes archives below a folder, each once, and tells how they are mounted.

    `place` is the folder that they are mounted on. `cache` is what Onggi's mounts get as such.
    """

    def __init__(
        self, folder: Path, place: Path, onggi: str, level: int, threads: int, cache: str
    ) -> None:
        self._folder = folder
        self._place = str(place)
        self._onggi = onggi
        self._level = str(level)
        self._threads = str(threads)
        self._cache = cache
        self._made: set[Path] = set()

    def onggi(self, source: Path, name: str, frame_size: str | None = None) -> Mountable:
        """Pack a volume or a tree with Onggi."""
        out = self._folder / f"{name}.onggi"
        frames = () if frame_size is None else ("--frame-size", frame_size)
        options = ("--quiet", "--level", self._level, "--threads", self._threads, *frames)
        self._make(out, (self._onggi, "pack", *options, str(source), str(out)))
        options = ("--quiet", "--cache", self._cache, "--threads", self._threads)
        return Mountable(
            "onggi", out, (self._onggi, "mount", *options, str(out), self._place), VOLUME_NAME
        )

    def squashfs(self, source: Path, name: str) -> Mountable:
        """Make a squashfs of a tree, or one that holds a volume as a file of its own name."""
        out = self._folder / f"{name}.squashfs"
        codec = ("-comp", "zstd", "-Xcompression-level", self._level, "-b", _SQUASHFS_BLOCK)
        options = ("-processors", self._threads, "-noappend", "-no-progress", "-quiet")
        self._make(out, ("mksquashfs", str(source), str(out), *codec, *options))
        argv = ("squashfuse_ll", str(out), self._place)
        return Mountable("squashfuse_ll", out, argv, source.name)

    def ratarmount(self, program: Path, tree: Path, name: str) -> Mountable:
        """Pack a tree with tar and zstd, and have ratarmount make its index beforehand."""
        out = self._folder / f"{name}.tar.zst"
        script = f'tar -C "$1" -cf - . | zstd -q -{self._level} -T{self._threads} > "$2"'
        self._make(out, pipeline(script, tree, out))
        index = self._folder / f"{name}.index.sqlite"
        argv = (str(program), "--index-file", str(index), "-P", self._threads)
        self._make(index, (*argv, "--no-mount", str(out)))
        return Mountable("ratarmount", out, (*argv, str(out), self._place))

    def discard(self, mountable: Mountable) -> None:
        """Remove an archive."""
        mountable.archive.unlink(missing_ok=True)
        self._made.discard(mountable.archive)

    def _make(self, out: Path, argv: tuple[str, ...]) -> None:
        if out in self._made:
            return
        log_to_stderr(f"making {out.name}")
        run_once(Command(f"making {out.name}", argv, outputs=(out,), keep=True))
        if not out.exists():
            raise CommandError(" ".join(argv), 0, f"there is no {out}")
        self._made.add(out)


def install_ratarmount(work: Path) -> Path:
    """Return the program of ratarmount, installed into a virtual environment of its own if missing.

    Raises `CommandError` if it can't be installed, or does not run.
    """
    folder = work / "ratarmount"
    program = folder / "bin" / "ratarmount"
    if not program.exists():
        log_to_stderr("installing ratarmount")
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        _run([str(folder / "bin" / "python"), *pip, "ratarmount"])
    _run([str(program), "--version"])
    return program


def _run(argv: Sequence[str]) -> None:
    done = subprocess.run(argv, capture_output=True, env=environment())
    if done.returncode:
        error = done.stderr.decode(errors="replace")
        raise CommandError(" ".join(argv), done.returncode, error)
