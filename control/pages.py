"""The page for browsers: its files, and how one gets in with the token.

Owns: the routes of the page, which asks the interface (api.py) for all that it shows. Must not know
what that is. Belongs to the thread of the server; files are read in others.
"""

from __future__ import annotations

import time
from html import escape
from pathlib import Path
from urllib.parse import parse_qs

from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from .access import (
    COOKIE_S,
    LOGIN,
    LOGOUT,
    STATIC,
    TOO_MANY,
    Access,
    cookie_name,
    is_same,
    new_session,
)

_WEB = Path(__file__).parent / "web"
_PROBLEM = "<!-- problem -->"
_MOST_FORM_BYTES = 4096


def page_middleware(token: str) -> list[Middleware]:
    """Return what stands before all routes, those of the interface too.

    Args:
        token: who knows it may ask; with an empty one, nobody may.
    """
    return [
        Middleware(Access, token=token, too_many=_too_many),
        Middleware(GZipMiddleware, minimum_size=1024, compresslevel=1),
    ]


def page_routes(token: str) -> list[BaseRoute]:
    """Return the routes of the page. Without `page_middleware`, they are open to all.

    Args:
        token: for which a browser gets a cookie.
    """

    async def index(_: Request) -> Response:
        return FileResponse(_WEB / "index.html")

    async def show_login(_: Request) -> Response:
        return _login_page()

    async def login(request: Request) -> Response:
        given = await _token_of_form(request)
        if not is_same(given, token):
            return _login_page("This is not the token.", 401)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            cookie_name(request), new_session(token, time.time()), max_age=COOKIE_S, path="/",
            secure=request.url.scheme == "https", httponly=True, samesite="strict",
        )  # fmt: skip
        return answer

    async def logout(request: Request) -> Response:
        answer = RedirectResponse(LOGIN, 303)
        answer.delete_cookie(cookie_name(request), httponly=True, samesite="strict")
        return answer

    return [
        Route("/", index),
        Route(LOGIN, show_login),
        Route(LOGIN, login, methods=["POST"]),
        Route(LOGOUT, logout, methods=["POST"]),
        Mount(STATIC, StaticFiles(directory=_WEB)),
    ]


def _login_page(problem: str = "", status: int = 200) -> Response:
    page = (_WEB / "login.html").read_text(encoding="utf-8")
    return HTMLResponse(page.replace(_PROBLEM, escape(problem)), status)


def _too_many() -> Response:
    return _login_page(f"There were {TOO_MANY}.", 429)


async def _token_of_form(request: Request) -> str:
    """Return the token that a form sends; empty if it sends none."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_FORM_BYTES:
            return ""
    try:
        fields = parse_qs(body.decode("ascii"), max_num_fields=10)
    except ValueError:
        return ""
    return fields.get("token", [""])[0].strip()
