"""`onggi mount`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..archive.errors import SourceError, StoreError
from ..fuse.library import find_library
from .exits import Exit
from .options import output_options, size, threads_option
from .output import OutputOptions, Reporter
from .session import run_command

if TYPE_CHECKING:
    from ..fuse.mount import Mountable

_LOGGER = "onggi.mount"


@click.command(
    epilog="""\b
Example: onggi mount files.onggi /mnt && ls /mnt && onggi umount /mnt
         onggi mount backups/ /mnt -o allow_other
Exit codes: 0 mounted (with --foreground: and unmounted), 2 usage, 3 no archive, 4 damaged,
5 ARCHIVE can't be read, 6 can't be mounted, 7 DIR is not empty; all: docs/commands.md"""
)
@click.argument("archive", type=click.Path(path_type=Path, readable=False))
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, readable=False))
@click.option("-o", "option_texts", multiple=True, metavar="OPTIONS",
              help="Options of the mount: allow_other, uid=N, gid=N, nonempty, ...")  # fmt: skip
@click.option("--cache", type=size, default="256M", show_default=True, metavar="SIZE",
              help="How much decoded content is kept.")  # fmt: skip
@click.option("--foreground", "-f", is_flag=True, help="Serve it in this process.")
@click.option("--log", "log_file", type=click.Path(path_type=Path, dir_okay=False),
              help="Where damage is told; else the system's log.")  # fmt: skip
@threads_option("Threads that decode ahead of those who read in order.")
@output_options
def command(
    archive: Path,
    folder: Path,
    option_texts: tuple[str, ...],
    cache: int,
    foreground: bool,
    log_file: Path | None,
    threads: int,
    quiet: bool,
    as_json: bool,
) -> int:
    """Show ARCHIVE, or a folder of archives, on the folder DIR, read-only.

    A tree is shown as it was, a volume as `volume.img`, a folder of archives with a folder for
    each. ARCHIVE may be the name of a plan (`onggi plan`), all of whose archives are shown, by
    time. Returns when the mount is up, and serves it in the background until `onggi umount`.
    """
    options = OutputOptions("mount", as_json, quiet)

    def action(reporter: Reporter) -> int:
        from ..fuse import background

        _find_libfuse()
        from ..fuse.mount import Mountable, MountOptions, check_folder, split_options

        given = split_options(option_texts)
        check_folder(folder, given)
        shown = _of_plan(archive) or archive
        mountable = Mountable(shown, MountOptions(given, cache, threads))
        place = Path(os.path.realpath(folder))
        serve = _serve(mountable, place)

        def told() -> None:
            facts = {"folder": str(place), "elapsed_s": reporter.elapsed_s}
            if foreground:
                if not as_json and not quiet:
                    print(f"{archive} is mounted on {folder}", file=sys.stderr)
                return
            reporter.result(facts, Exit.OK, [])

        if log_file is not None:
            _check_log(log_file)
        absolute = None if log_file is None else log_file.absolute()
        if foreground:
            _log_to(absolute, logging.StreamHandler)
            wrong = background.in_foreground(serve, told)
        else:
            wrong = background.in_background(serve, lambda: _log_to(absolute, _SystemLog))
        if wrong:
            raise StoreError(f"can't mount on {folder}: {' '.join(wrong.split())}")
        if not foreground:
            told()
        return Exit.OK

    return run_command(options, action)


def _of_plan(name: Path) -> Path | None:
    """Return the folder of the archives of a plan, if this is the name of one, and no path."""
    if len(name.parts) != 1 or os.path.lexists(name):
        return None
    from ..control.client import Client, part
    from ..control.errors import ControlError
    from .places import socket_path

    try:
        plan = Client(socket_path()).get(f"/api/plans/{part(str(name))}")["plan"]
    except ControlError:
        return None
    return Path(plan["target"]) / str(plan["name"])


def _serve(mountable: Mountable, place: Path) -> Callable[[Callable[[], None]], None]:
    return lambda ready: mountable.serve(place, ready)


def _find_libfuse() -> None:
    """Have mfusepy take the library that is there.

    Raises:
        SourceError: there is none.
    """
    name = find_library()
    if name is None:
        raise SourceError("libfuse 3 is not installed; on Debian and Ubuntu: apt install fuse3")
    os.environ.setdefault("FUSE_LIBRARY_PATH", name)


def _check_log(path: Path) -> None:
    try:
        with path.open("a"):
            pass
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise StoreError(f"can't write the log {path}: {reason}") from None


def _log_to(path: Path | None, other: Callable[[], logging.Handler]) -> None:
    handler = other() if path is None else logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s onggi mount: %(message)s"))
    logger = logging.getLogger(_LOGGER)
    logger.addHandler(handler)
    logger.propagate = False


class _SystemLog(logging.Handler):
    """The log of the system."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log a line."""
        import syslog

        syslog.openlog("onggi", syslog.LOG_PID, syslog.LOG_DAEMON)
        syslog.syslog(syslog.LOG_ERR, record.getMessage())
