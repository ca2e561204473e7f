"""The command lines that are compared on a tree: Onggi's, and those of its peers.

Owns their options and environment, the empty repositories and folders that they start from, and the
checks that they did the whole job. Knows nothing about bars and tables.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from harness import (
    Cache,
    Command,
    CommandError,
    Series,
    environment,
    interleave,
    log_to_stderr,
    run_once,
)
from tree_source import SECOND_NS, Census, SameTree

# What turns off the optional compiled helper, per variant of Onggi.
VARIANTS: dict[str, tuple[str, ...]] = {"default": (), "pure": ("env", "ONGGI_PURE=1")}
PEERS = ("tar", "mksquashfs", "restic", "borg")


@dataclasses.dataclass(frozen=True, slots=True)
class TreeSetup:
    """What every section needs to know. `census` is of the tree; all commands get `threads`."""

    tree: Path
    census: Census
    work: Path
    onggi: str
    level: int
    threads: int
    rounds: int
    cache: Cache

    @property
    def archive(self) -> Path:
        """Where the Onggi archive is."""
        return self.work / "tree.onggi"

    @property
    def tarball(self) -> Path:
        """Where the .tar.zst of tar and zstd is."""
        return self.work / "tree.tar.zst"

    def run(self, commands: list[Command], rounds: int | None = None) -> list[Series]:
        """Measure the commands, interleaved."""
        count = self.rounds if rounds is None else rounds
        return interleave(commands, count, cache=self.cache, log=log_to_stderr)

    def onggi_argv(self, variant: str, verb: str, *rest: str | Path) -> tuple[str, ...]:
        """Return a command line of Onggi."""
        return (*VARIANTS[variant], self.onggi, verb, *map(str, rest))

    def onggi_pack(self, variant: str) -> Command:
        """Pack the tree with Onggi."""
        options = ("--quiet", "--level", str(self.level), "--threads", str(self.threads))
        argv = self.onggi_argv(variant, "pack", *options, self.tree, self.archive)
        check = self._lists_all(*self.onggi_argv(variant, "ls", "-R", self.archive))
        return Command(
            named(f"onggi pack -{self.level}", variant),
            argv,
            (self.tree,),
            (self.archive,),
            keep=True,
            check=check,
        )

    def onggi_unpack(self, variant: str) -> Command:
        """Unpack Onggi's archive with Onggi into an empty folder; times must be exact."""
        out = self.work / "onggi.out"
        options = ("--quiet", "--threads", str(self.threads))
        argv = self.onggi_argv(variant, "unpack", *options, self.archive, out)
        return Command(
            named("onggi unpack", variant),
            argv,
            (self.archive,),
            (out,),
            check=SameTree(out, self.tree, time_unit_ns=1),
            prepare=out.mkdir,
        )

    def tar_unpack(self, archive: Path, what: str) -> Command:
        """Unpack with zstd and tar into an empty folder."""
        out = self.work / "tar.out"
        argv = pipeline('zstd -q -dc "$1" | tar -C "$2" -xf -', archive, out)
        check = SameTree(out, self.tree, time_unit_ns=SECOND_NS)
        return Command(
            f"zstd -dc | tar x, {what}", argv, (archive,), (out,), check=check, prepare=out.mkdir
        )

    def peer(self, name: str) -> Command:
        """Pack the tree with one of `PEERS`."""
        make: dict[str, Callable[[], Command]] = {
            "tar": self.tar_pack,
            "mksquashfs": self._mksquashfs,
            "restic": self._restic,
            "borg": self._borg,
        }
        return make[name]()

    def tar_pack(self) -> Command:
        """Pack with tar and zstd."""
        script = f'tar -C "$1" -cf - . | zstd -q -{self.level} -T{self.threads} > "$2"'
        return Command(
            f"tar | zstd -{self.level} -T{self.threads}",
            pipeline(script, self.tree, self.tarball),
            (self.tree,),
            (self.tarball,),
            keep=True,
            check=self._lists_all(*pipeline('zstd -q -dc "$1" | tar -tf -', self.tarball)),
        )

    def prepare_archives(self, variant: str) -> None:
        """Make the archives to read, unmeasured, if the pack section has not left them."""
        for command in (self.onggi_pack(variant), self.tar_pack()):
            if not command.outputs[0].exists():
                run_once(command, check=True)

    def _mksquashfs(self) -> Command:
        out = self.work / "tree.squashfs"
        codec = ("-comp", "zstd", "-Xcompression-level", str(self.level))
        options = ("-processors", str(self.threads), "-noappend", "-no-progress", "-quiet")
        argv = ("mksquashfs", str(self.tree), str(out), *codec, *options)
        check = self._lists_all("unsquashfs", "-l", str(out))
        return Command(f"mksquashfs zstd {self.level}", argv, (self.tree,), (out,), check=check)

    def _restic(self) -> Command:
        """Back up into a new repository; restic has no levels, its default is nearest to zstd's 3.

        A local cache would only cost time here, so that it is off.
        """
        out = self.work / "restic.repo"
        free = restic_needs_no_password()
        secret = () if free else ("RESTIC_PASSWORD=benchmark",)
        open_up = ("--insecure-no-password",) if free else ()
        base = ("env", f"GOMAXPROCS={self.threads}", *secret, "restic", *open_up)
        base = (*base, "--quiet", "--no-cache", "--repo", str(out))

        def prepare() -> None:
            _run(*base, "init")

        return Command(
            "restic backup",
            (*base, "backup", str(self.tree)),
            (self.tree,),
            (out,),
            check=self._lists_all(*base, "ls", "latest"),
            prepare=prepare,
        )

    def _borg(self) -> Command:
        """Back up into a new repository without encryption.

        The cache of files seen before would only cost time here, so that it is off.
        """
        out, home = self.work / "borg.repo", self.work / "borg.home"
        base = ("env", f"BORG_BASE_DIR={home}", "borg")

        def prepare() -> None:
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir()
            _run(*base, "init", "--encryption=none", str(out))

        options = ("--files-cache=disabled", "--compression", f"zstd,{self.level}")
        return Command(
            f"borg create zstd,{self.level}",
            (*base, "create", *options, f"{out}::tree", str(self.tree)),
            (self.tree,),
            (out,),
            check=self._lists_all(*base, "list", "--short", f"{out}::tree"),
            prepare=prepare,
        )

    def _lists_all(self, *argv: str) -> _ListsAll:
        return _ListsAll(argv, self.census.entries)


@dataclasses.dataclass(frozen=True, slots=True)
class _ListsAll:
    """A check that an archive lists at least as many names as the tree has entries.

    At least, because some list the root, parent folders, headings or empty lines too.
    """

    argv: tuple[str, ...]
    entries: int

    def __call__(self) -> None:
        lines = 0
        # Counted as they come: the harness's own memory is the lower limit of `peak_bytes`.
        with subprocess.Popen(
            self.argv, stdout=subprocess.PIPE, env=_plain_environment()
        ) as lister:
            assert lister.stdout is not None
            while block := lister.stdout.read(1 << 16):
                lines += block.count(b"\n")
        if lister.returncode or lines < self.entries:
            text = f"{lines} names for {self.entries} entries"
            raise CommandError(" ".join(self.argv), lister.returncode, text)


def named(name: str, variant: str) -> str:
    """Return the name of a command of Onggi, with its variant unless it is the default."""
    return name if variant == "default" else f"{name}, {variant}"


def pipeline(script: str, *arguments: str | Path) -> tuple[str, ...]:
    """Return a command that runs a shell script, and fails if any part of a pipe fails."""
    return ("bash", "-o", "pipefail", "-c", script, "bash", *map(str, arguments))


def restic_needs_no_password() -> bool:
    """Tell whether this restic (0.17 or newer) takes repositories without a password."""
    version = re.match(r"restic (\d+)\.(\d+)", restic_version())
    return version is not None and (int(version[1]), int(version[2])) >= (0, 17)


def restic_version() -> str:
    """Return what restic says about itself; older ones have no `--version`."""
    return _run("restic", "version").decode().strip()


def _run(*argv: str) -> bytes:
    done = subprocess.run(argv, capture_output=True, env=_plain_environment())
    if done.returncode:
        error = done.stderr.decode(errors="replace")
        raise CommandError(" ".join(argv), done.returncode, error)
    return done.stdout


def _plain_environment() -> dict[str, str]:
    return {**environment(), "LC_ALL": "C.UTF-8"}
