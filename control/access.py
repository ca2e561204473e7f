"""Who may ask over HTTP: those who know the token, from a page of our own, and who did not guess.

Owns: tokens and the cookies that stand for them, where requests of browsers may come from, how many
wrong tokens an address may try, and the headers that tell a browser what our pages never do. Must
not know what is asked for, but for the paths that are open to all. Belongs to the thread of the
server.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOGIN, STATIC, LOGOUT = "/login", "/static", "/logout"
TOO_MANY = "too many wrong tokens; try again in 5 minutes"
COOKIE_S = 30 * 86_400

_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
_WINDOW_S = 300.0
_MOST_WRONG = 10  # by one address, in that time
_MOST_WRONG_OF_ALL = 1000
_MOST_ADDRESSES = 4096

# Nothing but our own files, and no script that is not in one of them: what a plan, an archive or a
# log has in it stays text, even if the page has a defect. A test looks at the page under these.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not "no-referrer": with that, forms are sent with an origin of "null".
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Access:
    """The middleware that lets in those who may.

    Args:
        app: what they want to get at.
        token: what they must know. With an empty one, nobody gets in.
        too_many: makes the answer to one who may not try again now to log in.
        clock: tells seconds since 1970.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str,
        too_many: Callable[[], Response],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._app = app
        self._token = token
        self._too_many = too_many
        self._clock = clock
        self._wrong = WrongTokens()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close"})
            return
        request = Request(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                # What is static has an ETag; anything else tells of now, and to this reader alone.
                is_static = is_below(scope["path"], STATIC)
                headers["Cache-Control"] = "no-cache" if is_static else "no-store"
                if scope["path"] == LOGIN and message["status"] == 303:
                    self._wrong.forget(_address(scope))
            await send(message)

        answer = self._refuse(request)
        await (answer or self._app)(scope, receive, send_with_headers)

    def _refuse(self, request: Request) -> Response | None:
        """Return the answer to one who may not; None if they may."""
        path, address = request.url.path, _address(request.scope)
        bearer = _bearer(request.headers)
        if request.method not in _SAFE and bearer is None and not is_own_page(request.headers):
            return _error(403, "that was sent from another page")
        if is_below(path, STATIC) or (path == LOGIN and request.method in _SAFE):
            return None
        if path == LOGIN or bearer is not None:
            # An attempt counts before it is looked at: many at once are no way around.
            if not self._wrong.note(address, self._clock()):
                answer = self._too_many() if path == LOGIN else _error(429, TOO_MANY)
                answer.headers["Retry-After"] = str(int(_WINDOW_S))
                return answer
            if path == LOGIN:
                return None
            if is_same(bearer or "", self._token):
                self._wrong.forget(address)
                return None
        elif is_session(request.cookies.get(cookie_name(request), ""), self._token, self._clock()):
            return None
        elif path == "/" and request.method in _SAFE:
            return RedirectResponse(LOGIN, 303)
        answer = _error(401, "the token is missing, wrong or too old")
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer


class WrongTokens:
    """How many wrong tokens were tried, by whom, in the last minutes. Bounded."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, deque[float]] = OrderedDict()
        self._all: deque[float] = deque()

    def note(self, address: str, now_s: float) -> bool:
        """Note an attempt, which is taken as wrong; return whether it may be made."""
        times = self._times.setdefault(address, deque())
        self._times.move_to_end(address)
        if len(self._times) > _MOST_ADDRESSES:
            self._times.popitem(last=False)
        for each in (times, self._all):
            # A clock that was set back must not lock anybody out for longer than usual.
            while each and not now_s - _WINDOW_S < each[0] <= now_s:
                each.popleft()
        if len(times) >= _MOST_WRONG or len(self._all) >= _MOST_WRONG_OF_ALL:
            return False
        times.append(now_s)
        self._all.append(now_s)
        return True

    def forget(self, address: str) -> None:
        """Forget the last attempt: it was right."""
        times = self._times.get(address)
        if times:
            times.pop()
            self._all.pop()


def is_same(given: str, token: str) -> bool:
    """Tell whether a token is right, in a time that tells nothing of it."""
    return bool(token) and hmac.compare_digest(_encoded(given), _encoded(token))


def new_session(token: str, now_s: float) -> str:
    """Return what a cookie holds: when it ends, and a proof that whoever gave it knew the token."""
    stem = f"{int(now_s) + COOKIE_S}.{secrets.token_urlsafe(16)}"
    return f"{stem}.{_proof(stem, token)}"


def is_session(session: str, token: str, now_s: float) -> bool:
    """Tell whether a cookie is one of ours, for this token, and has not ended."""
    stem, _, proof = session.rpartition(".")
    end = stem.partition(".")[0]
    if not token or not hmac.compare_digest(_encoded(proof), _encoded(_proof(stem, token))):
        return False
    return end.isascii() and end.isdecimal() and now_s < int(end)


def cookie_name(request: Request) -> str:
    """Return the name of the cookie. Browsers do not tell ports of a host apart, so it does."""
    return f"onggi_{request.url.port or request.url.scheme}"


def is_own_page(headers: Mapping[str, str]) -> bool:
    """Tell whether a browser says that a page of this server asks."""
    try:
        origin = urlsplit(headers.get("origin", ""))
        own = urlsplit(f"{origin.scheme}://{headers.get('host', '')}")
        # A proxy may speak TLS for us, so the schemes may differ; then, so do the default ports.
        return origin.hostname is not None and (origin.hostname, origin.port) == (
            own.hostname, own.port,
        )  # fmt: skip
    except ValueError:
        return False


def is_below(path: str, folder: str) -> bool:
    """Tell whether a path is in a folder."""
    return path.startswith(f"{folder}/")


def _proof(stem: str, token: str) -> str:
    return hmac.digest(_encoded(token), b"onggi page\0" + _encoded(stem), "sha256").hex()


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _bearer(headers: Headers) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _address(scope: Scope) -> str:
    """Return what stands for who asks: of IPv6 the network, as a host has plenty of addresses."""
    client = scope.get("client")
    host = str(client[0]) if client else ""
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped or ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return host


def _error(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text}, status)
