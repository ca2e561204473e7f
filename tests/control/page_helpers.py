"""What tests of the page share: a real browser, one who reads in it, plain requests."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode, urlsplit

from playwright.sync_api import Browser, Page, sync_playwright

from .fake_api import TOKEN, Fake, served

FAILED_REQUEST = "Failed to load resource"  # what Chromium says of each answer that is an error


@dataclass
class Answer:
    """What one request gave."""

    status: int
    headers: http.client.HTTPMessage
    data: bytes

    @property
    def text(self) -> str:
        """The body."""
        return self.data.decode()


@dataclass
class Client:
    """Asks a server as programs do, or as browsers, but for what they would refuse to send."""

    url: str
    headers: dict[str, str] = field(default_factory=dict[str, str])

    def __call__(
        self, method: str, path: str, body: str = "", origin: str | None = "own", **more: str
    ) -> Answer:
        """Send a request; `more` are headers, with `_` for `-`."""
        place = urlsplit(self.url)
        assert place.hostname is not None
        headers = self.headers | {name.replace("_", "-"): value for name, value in more.items()}
        if origin is not None and method not in ("GET", "HEAD"):
            headers["Origin"] = self.url if origin == "own" else origin
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=10)
        try:
            connection.request(method, path, body.encode(), headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def log_in(self, token: str = TOKEN, **options: str) -> Answer:
        """Send the form of the login."""
        body = urlencode({"token": token})
        return self("POST", "/login", body, **options)

    def logged_in(self) -> Client:
        """Return one that has a cookie."""
        answer = self.log_in()
        assert answer.status == 303, answer.text
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        return Client(self.url, {"Cookie": cookie})


@contextlib.contextmanager
def browsing() -> Iterator[Browser]:
    """Start a browser. Nothing else may use asyncio in this thread while it runs."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Reader:
    """One who reads the page. `complaints` are what the browser did not like."""

    page: Page
    url: str
    complaints: list[str]

    def open(self, place: str = "#/") -> None:
        """Open what is behind # anew, as one does who follows a link in a mail."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/{place}")

    def rows(self) -> list[str]:
        """Return the names of the volumes that are shown, in order."""
        return self.page.locator(".volumes tbody tr:not([hidden]) .plan-name").all_text_contents()

    def row(self, plan: str) -> str:
        """Return what finds the row of a volume."""
        return f'.volumes tbody tr:has(a[href="#/plan/{quote(plan)}"])'

    def width(self) -> float:
        """Return how wide the content is."""
        return float(self.page.evaluate("document.documentElement.scrollWidth"))


@contextlib.contextmanager
def reading(
    browser: Browser,
    fake: Fake,
    *,
    width: int = 1280,
    allowed: tuple[str, ...] = (),
    **options: str,
) -> Iterator[Reader]:
    """Log somebody in; in the end the browser must have complained of nothing but what is allowed.

    Args:
        browser: of the test.
        fake: the server.
        width: of the window.
        allowed: what complaints may have in them.
        options: of the browser: color_scheme, locale, timezone_id.
    """
    with served(fake.app()) as url:
        context = browser.new_context(
            viewport={"width": width, "height": 800},
            **options,  # type: ignore[arg-type]
        )
        try:
            page = context.new_page()
            page.set_default_timeout(10_000)
            complaints: list[str] = []
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on(
                "console",
                lambda said: (
                    complaints.append(said.text) if said.type in ("error", "warning") else None
                ),
            )
            page.goto(f"{url}/login")
            page.fill("#token", TOKEN)
            page.click("button[type=submit]")
            page.wait_for_selector("main h1")
            yield Reader(page, url, complaints)
            assert [each for each in complaints if not any(part in each for part in allowed)] == []
        finally:
            context.close()


def until(condition: Callable[[], object], most_s: float = 10, every_s: float = 0.05) -> None:
    """Wait until something is so; fail if it does not become so."""
    end_s = time.monotonic() + most_s
    while not condition():
        assert time.monotonic() < end_s, "it did not become so"
        time.sleep(every_s)
