"""Asks a server at its Unix socket.

Owns: the way there and back. Must not know what is asked. Imports little: a command line that asks
for the status is to be quick. Belongs to one thread.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlencode

from .errors import (
    BadPlanError,
    ConflictError,
    ControlError,
    NotFoundError,
    StateError,
    UnreachableError,
)

_ERRORS: dict[int, type[ControlError]] = {
    400: BadPlanError,
    404: NotFoundError,
    409: ConflictError,
    500: StateError,
}
_PATIENCE_S = 90.0


class Client:
    """Asks a server.

    Args:
        path: of its socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, path: str, **asked: object) -> dict[str, Any]:
        """Return what is there.

        Raises:
            NotFoundError, ConflictError, BadPlanError, StateError: the server says so.
            UnreachableError: there is none, or it may not be asked.
        """
        query = urlencode({key: value for key, value in asked.items() if value is not None})
        return self._ask("GET", f"{path}?{query}" if query else path, None)

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Have something done; return what the server says of it.

        Raises:
            As `get`.
        """
        return self._ask(method, path, body or {})

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        connection = _Connection(self._path)
        try:
            text = None if body is None else json.dumps(body).encode()
            connection.request(method, path, text, {"Content-Type": "application/json"})
            response = connection.getresponse()
            found = _answer(response)
        except PermissionError:
            raise UnreachableError(
                f"you may not use {self._path}; ask as the user who runs the server, or with sudo"
            ) from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise UnreachableError(
                f"no server listens at {self._path}; start one: onggi serve"
            ) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnreachableError(f"the server at {self._path} does not answer: {error}") from None
        finally:
            connection.close()
        if response.status >= 400:
            kind = _ERRORS.get(response.status, ControlError)
            raise kind(str(found.get("error", f"the server says: {response.reason}")))
        return found


def part(name: str) -> str:
    """Return a name as a part of a path.

    Raises:
        NotFoundError: nothing has such a name.
    """
    if not name or "/" in name:
        raise NotFoundError(f"there is no plan {name!r}; `onggi plan ls` lists them")
    return quote(name, safe="")


def _answer(response: http.client.HTTPResponse) -> dict[str, Any]:
    """Return what was answered. An error that did not come from us has no words of ours."""
    text = response.read()
    try:
        return cast(dict[str, Any], json.loads(text))
    except ValueError:
        if response.status < 400:
            raise
        return {}


class _Connection(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connected.settimeout(self.timeout)
        try:
            connected.connect(str(self._path))
        except BaseException:
            connected.close()
            raise
        self.sock = connected
