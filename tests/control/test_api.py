"""The interface over HTTP, asked as a server asks it: what it makes of requests and of errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, cast

import pytest

from onggi.control.api import make_app
from onggi.control.errors import BadPlanError, ConflictError, NotFoundError, StateError
from onggi.control.service import Service


class Stub:
    """Answers what a test says, or raises it."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self.asked: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        def answer(*given: Any) -> Any:
            self.asked.append((name, *given))
            if isinstance(self._answer, Exception):
                raise self._answer
            return self._answer

        return answer


def ask(
    stub: Stub, method: str, path: str, body: bytes = b"", query: bytes = b""
) -> tuple[int, Any]:
    """Ask the application; return status and JSON."""
    sent: list[Mapping[str, Any]] = []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": query,
        "headers": [(b"host", b"localhost")], "server": ("localhost", 80), "client": None,
        "root_path": "",
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    app = make_app(cast(Service, stub), None)
    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    text = b"".join(each.get("body", b"") for each in sent[1:])
    return sent[0]["status"], json.loads(text)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFoundError("nobody"), 404),
        (BadPlanError("no"), 400),
        (ConflictError("busy"), 409),
        (StateError("full"), 500),
    ],
)
def test_an_error_is_a_status_and_a_line(error: Exception, status: int) -> None:
    assert ask(Stub(error), "GET", "/api/status") == (status, {"error": str(error)})


def test_what_is_no_utf_8_goes_through() -> None:
    answer = {"lines": [{"text": "caf\udce9"}], "next": 9}
    assert ask(Stub(answer), "GET", "/api/runs/1/log") == (200, answer)


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    stub = Stub({})
    status, told = ask(stub, "POST", "/api/plans", body)
    assert status == 400
    assert told["error"].startswith("the request is no JSON")
    assert stub.asked == []


def test_a_body_without_end_is_not_read_to_its_end() -> None:
    stub = Stub({})
    assert ask(stub, "POST", "/api/plans", b" " * (9 << 20))[0] == 400
    assert stub.asked == []


@pytest.mark.parametrize(
    "query", [b"limit=x", b"before=-1", b"limit=" + b"9" * 400, b"limit=%C2%B2"]
)
def test_what_is_no_number_is_refused(query: bytes) -> None:
    status, told = ask(Stub({}), "GET", "/api/runs", query=query)
    assert status == 400
    assert "is no number" in told["error"]


def test_names_may_have_anything_in_them_but_a_slash() -> None:
    stub = Stub({})
    ask(stub, "GET", "/api/plans/a b%2e\udce9".encode("ascii", "replace").decode())
    assert stub.asked[0][0] == "plan"


def test_flags_must_be_true_or_false() -> None:
    status, told = ask(Stub({}), "POST", "/api/plans/x/prune", b'{"dry_run": 1}')
    assert (status, told) == (400, {"error": "dry_run must be true or false"})
