"""The page's files and login over a real socket: who gets in, and what browsers are promised."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

import onggi.control
from onggi.control.pages import page_middleware, page_routes

from .fake_api import TOKEN, Fake, served, twelve
from .page_helpers import Client

WEB = Path(onggi.control.__file__).parent / "web"
FILES = sorted(path.name for path in WEB.iterdir())


@pytest.fixture
def client() -> Iterator[Client]:
    with served(twelve().app()) as url:
        yield Client(url)


# --- who gets in ----------------------------------------------------------------------------------


def test_who_has_no_token_sees_the_login_and_nothing_else(client: Client) -> None:
    answer = client("GET", "/")
    assert (answer.status, answer.headers["Location"]) == (303, "/login")
    for path in ("/api/status", "/api/runs/1/log", "/metrics", "/nothing", "/loginx", "/staticx"):
        refused = client("GET", path)
        assert refused.status == 401, path
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert "error" in refused.text
        assert "mail" not in refused.text
    for path in ("/api/plans/mail/run", "/logout", "/"):
        assert client("POST", path).status == 401, path
    assert client("GET", "/login").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/../api/status", "/static/..%2fapi/status", "/login/../api/status",
        "//api/status", "/api/status/", "/./api/status", "/static%2f../api/status",
        "/STATIC/../api/status", "/login/", "/login%2f..%2fapi%2fstatus",
    ],
)  # fmt: skip
def test_no_spelling_of_a_path_gets_around_the_token(client: Client, path: str) -> None:
    answer = client("GET", path)
    assert answer.status in (401, 404)
    assert "volumes" not in answer.text


@pytest.mark.parametrize("path", ["../pages.py", "..%2fpages.py", "%2e%2e/pages.py", "/etc/passwd"])
def test_static_files_are_those_of_the_page_alone(client: Client, path: str) -> None:
    assert client("GET", f"/static/{path}").status == 404


def test_the_token_gives_a_cookie_that_scripts_and_other_pages_do_not_get(client: Client) -> None:
    answer = client.log_in()
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert TOKEN not in cookie
    words = {word.strip().lower() for word in cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/", "max-age=2592000"} <= words
    assert "secure" not in words  # it would be lost over HTTP
    reader = client.logged_in()
    assert reader("GET", "/").status == 200
    assert '"volumes"' in reader("GET", "/api/status").text
    assert reader("POST", "/api/plans/mail/run").status == 200


def test_behind_a_proxy_that_speaks_tls_the_cookie_is_secure(client: Client) -> None:
    answer = client.log_in(X_Forwarded_Proto="https")
    assert "secure" in answer.headers["Set-Cookie"].lower()


def test_programs_send_the_token_itself(client: Client) -> None:
    program = Client(client.url, {"Authorization": f"Bearer {TOKEN}"})
    assert program("GET", "/metrics").status == 200
    # Their requests are no browser's, and have no origin.
    assert program("POST", "/api/plans/mail/run", origin=None).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer"},
        {"Cookie": f"onggi_http={TOKEN}"},
        {"Cookie": "x=y"},
    ],
)
def test_what_is_not_the_token_is_refused(client: Client, headers: dict[str, str]) -> None:
    assert Client(client.url, headers)("GET", "/api/status").status == 401


def test_a_wrong_token_is_told_on_the_login(client: Client) -> None:
    answer = client.log_in("wrong")
    assert answer.status == 401
    assert "This is not the token." in answer.text
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "body", ["", "token", "token=", "x=1", "token=%ff", "a=" + "x" * 9000, "&" * 99]
)
def test_a_form_that_is_odd_is_a_wrong_token(client: Client, body: str) -> None:
    assert client("POST", "/login", body).status == 401


def test_logging_out_takes_the_cookie_away(client: Client) -> None:
    answer = client.logged_in()("POST", "/logout")
    assert (answer.status, answer.headers["Location"]) == (303, "/login")
    assert re.search(r'="?"?; .*Max-Age=0', answer.headers["Set-Cookie"])


def test_the_cookie_of_another_server_on_this_host_is_not_taken(client: Client) -> None:
    reader = client.logged_in()
    with served(Fake().app(token="another")) as url:
        other = Client(url, reader.headers)
        assert other("GET", "/api/status").status == 401
        name = other.log_in("another").headers["Set-Cookie"].partition("=")[0]
        assert name not in reader.headers["Cookie"]


def test_without_a_token_the_page_is_closed() -> None:
    with served(Fake().app(token="")) as url:
        client = Client(url)
        assert client.log_in("").status == 401
        assert client("GET", "/api/status", Authorization="Bearer ").status == 401


# --- from where -----------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", None])
def test_another_page_can_have_nothing_done(client: Client, origin: str | None) -> None:
    reader = client.logged_in()
    for path in ("/api/plans/mail/run", "/api/runs/1/cancel", "/logout"):
        assert reader("POST", path, origin=origin).status == 403
    assert reader("DELETE", "/api/plans/mail", origin=origin).status == 403
    assert reader("PUT", "/api/plans/mail", "{}", origin=origin).status == 403


def test_another_page_can_log_nobody_in(client: Client) -> None:
    answer = client.log_in(origin="http://evil.example")
    assert answer.status == 403
    assert "Set-Cookie" not in answer.headers


# --- how often ------------------------------------------------------------------------------------


def test_who_guesses_is_stopped_and_who_is_in_is_not(client: Client) -> None:
    reader = client.logged_in()
    assert [client.log_in(f"guess {each}").status for each in range(10)] == [401] * 10
    stopped = client.log_in()
    assert stopped.status == 429, "not even the right one: it would be a guess"
    assert stopped.headers["Retry-After"] == "300"
    assert "too many wrong tokens" in stopped.text
    assert "<form" in stopped.text
    bearer = client("GET", "/api/status", Authorization=f"Bearer {TOKEN}")
    assert bearer.status == 429
    assert reader("GET", "/api/status").status == 200


def test_guesses_of_programs_count_too(client: Client) -> None:
    for each in range(10):
        answer = client("GET", "/metrics", Authorization=f"Bearer guess{each}")
        assert answer.status == 401
    assert client("GET", "/metrics", Authorization="Bearer guess").status == 429
    assert client.log_in().status == 429


def test_right_tokens_may_be_sent_as_often_as_one_likes(client: Client) -> None:
    for _ in range(30):
        answer = client("GET", "/login", Authorization=f"Bearer {TOKEN}")
        assert answer.status == 200
        assert client("GET", "/metrics", Authorization=f"Bearer {TOKEN}").status == 200
        assert client.log_in().status == 303


# --- what is promised to the browser --------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/login", "/api/status", "/static/app.js", "/nothing"])
def test_every_answer_has_a_strict_policy(client: Client, path: str) -> None:
    for asked in (client.logged_in(), client):
        headers = asked("GET", path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cache-Control"] == ("no-cache" if "static" in path else "no-store")


def test_the_page_is_kept_by_browsers_until_it_changes(client: Client) -> None:
    first = client("GET", "/static/app.js")
    again = client("GET", "/static/app.js", If_None_Match=first.headers["ETag"])
    assert (again.status, again.text) == (304, "")


def test_long_answers_are_compressed_for_those_who_can_read_that(client: Client) -> None:
    reader = client.logged_in()
    assert reader("GET", "/api/status").headers["Content-Encoding"] is None
    packed = reader("GET", "/api/status", Accept_Encoding="gzip")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(json.loads(gzip.decompress(packed.data))["volumes"]) == 12


def test_a_problem_of_the_login_can_not_bring_markup_along() -> None:
    assert "<!-- problem -->" in (WEB / "login.html").read_text()
    assert (WEB / "login.html").read_text().count("<!-- problem -->") == 1


@pytest.mark.parametrize("name", FILES)
def test_files_need_nobody_else_and_no_inline_scripts(client: Client, name: str) -> None:
    text = (WEB / name).read_text(encoding="utf-8")
    answer = client("GET", f"/static/{name}")
    assert (answer.status, answer.text) == (200, text)
    kinds = {".js": "javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg"}
    assert kinds[Path(name).suffix] in answer.headers["Content-Type"]
    without_names = text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|//cdn|@import", without_names)
    if name.endswith(".html"):
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", text)
    if name.endswith(".js"):
        dangerous = r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|Function\(|srcdoc"
        assert not re.search(dangerous, text)


def test_every_module_is_fetched_ahead() -> None:
    """One after the other they would take as many round trips as they are deep."""
    index = (WEB / "index.html").read_text()
    ahead = set(re.findall(r'modulepreload" href="/static/(\w+\.js)"', index))
    assert ahead == {name for name in FILES if name.endswith(".js")} - {"app.js", "login.js"}


def test_modules_of_the_page_stay_small() -> None:
    long = {
        name: len((WEB / name).read_text().splitlines())
        for name in FILES
        if name.endswith(".js") and len((WEB / name).read_text().splitlines()) > 400
    }
    assert long == {}


def test_the_routes_stand_beside_those_of_an_interface() -> None:
    routes = [*page_routes("x"), Route("/api/one", lambda _: JSONResponse({"one": 1}))]
    app = Starlette(routes=routes, middleware=page_middleware("x"))
    with served(app) as url:
        assert Client(url)("GET", "/api/one", Authorization="Bearer x").text == '{"one":1}'
        assert Client(url)("GET", "/api/one", Authorization="Bearer y").status == 401
