"""The interface over HTTP: paths and methods, and what they ask of the service.

Owns: which path asks what, and which error is which status. Must not know what anything means.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from .errors import BadPlanError, ConflictError, ControlError, NotFoundError
from .model import Kind
from .pages import page_middleware, page_routes
from .service import Service

_STATUS: tuple[tuple[type[ControlError], int], ...] = (
    (NotFoundError, 404),
    (BadPlanError, 400),
    (ConflictError, 409),
)
_MOST_BODY_BYTES = 8 * 1024 * 1024
_MOST_NUMBER = 2**63 - 1  # that the database has
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_Ask = Callable[[Request, Any], Any]


def make_app(service: Service, token: str | None) -> Starlette:
    """Return the application.

    Args:
        service: who answers.
        token: who knows it may ask, and there is a page; None where the socket lets in only those
            who may ask anyway, and there is none.
    """
    routes = _routes(service)
    if token is None:
        return Starlette(routes=routes)
    return Starlette(routes=[*page_routes(token), *routes], middleware=page_middleware(token))


def _routes(service: Service) -> list[BaseRoute]:
    async def metrics(request: Request) -> Response:
        return Response(service.metrics(), media_type=_METRICS_TYPE)

    def name(request: Request) -> str:
        return str(request.path_params["name"])

    def number(request: Request) -> int:
        found = int(request.path_params["run"])
        if found > _MOST_NUMBER:
            raise NotFoundError(f"there is no run {found}; `onggi history` lists them")
        return found

    def flag(body: Any, key: str) -> bool:
        value = body.get(key, False)
        if not isinstance(value, bool):
            raise BadPlanError(f"{key} must be true or false")
        return value

    def apply(_: Request, body: Any) -> Any:
        plans: Any = body.get("plans")
        notify: Any = body.get("notify")
        if not _is(list, plans) or not all(_is(dict, each) for each in plans):
            raise BadPlanError("plans must be a list of plans")
        if notify is not None and not _is(dict, notify):
            raise BadPlanError("notify must be an object")
        return service.apply(plans, notify, flag(body, "dry_run"))

    def runs(request: Request, _: Any) -> Any:
        asked = request.query_params
        return service.runs(
            asked.get("plan", ""),
            asked.get("failed", "0") == "1",
            _number(asked["before"]) if "before" in asked else None,
            _number(asked.get("limit", "50")),
        )

    def log(request: Request, _: Any) -> Any:
        start = _number(request.query_params.get("from", "0"))
        return service.log(number(request), start)

    get: dict[str, _Ask] = {
        "/api/status": lambda _, __: service.status(),
        "/api/plans": lambda _, __: service.plans(),
        "/api/plans/{name}": lambda asked, _: service.plan(name(asked)),
        "/api/plans/{name}/archives": lambda asked, _: service.archives(name(asked)),
        "/api/runs": runs,
        "/api/runs/{run:int}": lambda asked, _: service.run(number(asked)),
        "/api/runs/{run:int}/log": log,
        "/api/archive-map": lambda asked, _: service.archive_map(
            asked.query_params.get("path", "")
        ),
        "/api/calendar": lambda asked, _: service.calendar(
            _number(asked.query_params.get("days", "30"))
        ),
    }
    post: dict[str, _Ask] = {
        "/api/apply": apply,
        "/api/plans/{name}/pause": lambda asked, _: service.pause(name(asked), True),
        "/api/plans/{name}/resume": lambda asked, _: service.pause(name(asked), False),
        "/api/plans/{name}/run": lambda asked, _: service.start(name(asked), Kind.BACKUP),
        "/api/plans/{name}/verify": lambda asked, _: service.start(name(asked), Kind.VERIFY),
        "/api/plans/{name}/prune": lambda asked, body: service.prune(
            name(asked), flag(body, "dry_run")
        ),
        "/api/plans/{name}/mount": lambda asked, _: service.mount(name(asked)),
        "/api/plans/{name}/umount": lambda asked, _: service.umount(name(asked)),
        "/api/runs/{run:int}/cancel": lambda asked, _: service.cancel(number(asked)),
    }
    return [
        Route("/metrics", metrics),
        *(Route(path, _answer(ask), methods=["GET"]) for path, ask in get.items()),
        *(Route(path, _answer(ask), methods=["POST"]) for path, ask in post.items()),
        Route("/api/plans", _answer(lambda _, body: service.add(body), 201), methods=["POST"]),
        Route(
            "/api/plans/{name}",
            _answer(lambda asked, body: service.edit(name(asked), body)),
            methods=["PUT"],
        ),
        Route(
            "/api/plans/{name}",
            _answer(lambda asked, _: service.remove(name(asked))),
            methods=["DELETE"],
        ),
    ]


def _answer(ask: _Ask, status: int = 200) -> Callable[[Request], Awaitable[Response]]:
    """Return what asks, and makes a response of the answer or the error."""

    async def respond(request: Request) -> Response:
        try:
            found: Any = ask(request, await _body(request))
            if inspect.isawaitable(found):
                found = await found
        except ControlError as error:
            code = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
            return _json({"error": str(error)}, code)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except asyncio.CancelledError:  # the request did not come to its end before the server did
            return _json({"error": "the server ends"}, 503)
        return _json(found, status)

    return respond


def _json(value: object, status: int) -> Response:
    """Return a response; paths and lines that are no UTF-8 are lone surrogates, escaped in it."""
    return Response(json.dumps(value), status, media_type="application/json")


async def _body(request: Request) -> dict[str, Any]:
    """Return the JSON object that was sent; an empty one if there is none."""
    if request.method in ("GET", "HEAD", "DELETE"):
        return {}
    text = bytearray()
    async for chunk in request.stream():
        text += chunk
        if len(text) > _MOST_BODY_BYTES:
            raise BadPlanError("the request is too long")
    if not text:
        return {}
    try:
        body: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise BadPlanError("the request is no JSON") from None
    if not _is(dict, body):
        raise BadPlanError("the request is no JSON object")
    return cast(dict[str, Any], body)


def _is(kind: type, value: Any) -> bool:
    return isinstance(value, kind)


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise BadPlanError(f"{text!r} is no number")
    return int(text)
