"""Where a server keeps things, and where it is asked: of root, or of a user."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from ..archive.errors import BadUseError
from ..control.client import Client

_Function = TypeVar("_Function", bound=Callable[..., Any])
_SOCKET = "onggi.sock"


def state_folder() -> Path:
    """Return the folder of what is kept: ONGGI_STATE, or the usual place."""
    given = os.environ.get("ONGGI_STATE") or os.environ.get("STATE_DIRECTORY")
    if given:
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/lib/onggi")
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local/state") / "onggi"


def socket_path() -> Path:
    """Return the path of the socket: ONGGI_SOCKET, or below the runtime folder."""
    given = os.environ.get("ONGGI_SOCKET")
    if given:
        return Path(given)
    if os.geteuid() == 0:
        return Path("/run/onggi") / _SOCKET
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "onggi" / _SOCKET if base else state_folder() / _SOCKET


@contextmanager
def control_extra() -> Generator[None]:
    """Import inside of this what only the control plane needs.

    Raises:
        BadUseError: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise BadUseError(
            f"this needs more than is installed ({error.name}): pip install 'onggi[control]'"
        ) from None


def socket_option(function: _Function) -> _Function:
    """Add `--socket`, as `client`: who asks the server."""
    return click.option(
        "--socket", "client", type=click.Path(path_type=Path), metavar="PATH",
        callback=_client, help="Of the server.  [default: ONGGI_SOCKET, or the runtime folder's]",
    )(function)  # fmt: skip


def _client(_: click.Context, __: click.Parameter, value: Path | None) -> Client:
    return Client(value or socket_path())
