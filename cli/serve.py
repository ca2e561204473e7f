"""`onggi serve`."""

from __future__ import annotations

import grp
import logging
import os
import secrets
import socket
import sys
from pathlib import Path

import click

from ..archive.errors import BadUseError
from .exits import Exit
from .options import output_options
from .output import OutputOptions, Reporter
from .places import control_extra, socket_path, state_folder
from .session import run_command

_TOKEN_NAME = "token"
# To commands that tell people how runs end.
_PASSED_ON = ("HOME", "LANG", "LOGNAME", "PATH", "TZ", "USER")


@click.command(
    epilog="""\b
Example: onggi serve --http 127.0.0.1:8710
Exit codes: 0 it was told to end, 2 usage, 6 what it keeps can't be read or written,
7 another one is running; all: docs/commands.md"""
)
@click.option("--state", type=click.Path(path_type=Path), metavar="FOLDER",
              help="What it keeps.  [default: ONGGI_STATE, or /var/lib/onggi]")  # fmt: skip
@click.option("--socket", "path", type=click.Path(path_type=Path), metavar="PATH",
              help="Where it is asked.  [default: ONGGI_SOCKET, or /run/onggi's]")  # fmt: skip
@click.option("--group", metavar="NAME", help="Whose members may ask, too.")
@click.option("--http", metavar="HOST:PORT", help="Serve the page there as well.")
@click.option("--per-target", type=click.IntRange(1), default=1, show_default=True,
              help="Runs at a time that write to one target.")  # fmt: skip
@click.option("--first-pause", type=click.FloatRange(0), default=60.0, hidden=True)  # for tests
@output_options
def command(
    state: Path | None, path: Path | None, group: str | None, http: str | None, per_target: int,
    first_pause: float, quiet: bool, as_json: bool,
) -> int:  # fmt: skip
    """Run what is due, until it is told to end; answer `onggi status` and the others."""

    def action(reporter: Reporter) -> int:
        with control_extra():
            from ..control.master import Settings
            from ..control.server import Options, serve
        logging.basicConfig(format="onggi: %(message)s", level=logging.WARNING)
        folder = (state or state_folder()).absolute()
        address = None if http is None else _address(http)
        token = "" if address is None else _token(folder)
        listening = (path or socket_path()).absolute()

        def ready() -> None:
            facts = {"state": str(folder), "socket": str(listening), "http": http}
            line = f"serving at {listening}"
            if address is not None:
                line += f" and http://{http}/ (its token is in {folder / _TOKEN_NAME})"
            reporter.note("ready", facts, line)
            _notify_systemd("READY=1")

        command = (sys.executable, "-m", "onggi.cli")
        serve(
            Options(
                folder, listening, command, address, token,
                None if group is None else _group(group), Settings(per_target, first_pause),
                {name: os.environ[name] for name in _PASSED_ON if name in os.environ}, ready,
            )
        )  # fmt: skip
        return Exit.OK

    return run_command(OutputOptions("serve", as_json, quiet), action)


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise BadUseError(f"--http {text}: write HOST:PORT, as 127.0.0.1:8710")
    return host.strip("[]") or "127.0.0.1", int(port)


def _group(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise BadUseError(f"there is no group {name}") from None


def _token(folder: Path) -> str:
    """Return what who uses the page must know; made at first, and kept where only we can read."""
    path = folder / _TOKEN_NAME
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(24) + "\n")
    except FileExistsError:
        pass
    except OSError as error:
        raise BadUseError(f"can't keep a token in {folder}: {error.strerror}") from None
    token = path.read_text().strip()
    if len(token) < 16:
        raise BadUseError(f"the token in {path} is too short; remove the file to get a new one")
    return token


def _notify_systemd(state: str) -> None:
    """Tell systemd how we are, if it has asked (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        try:
            told.connect("\0" + address[1:] if address.startswith("@") else address)
            told.send(state.encode())
        except OSError as error:
            logging.warning("can't tell systemd at %s: %s", address, error)
