"""For whom the page is: narrow windows, dark rooms, keyboards, screen readers, other languages."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from .fake_api import Fake, twelve
from .page_helpers import Reader, browsing, reading, until

pytestmark = pytest.mark.needs("chromium")

ALL_SHOWN = "performance.getEntriesByName('onggi-all-shown').length > 0"
# What is clipped, or scrolled over, makes no page wider, but can't be read.
STICK_OUT = """
    [...document.querySelectorAll("main :is(td, p, h1, h2, dd, dt, li, button, input, select)")]
        .filter((each) => each.getBoundingClientRect().right > document.body.clientWidth)
        .map((each) => each.outerHTML)
"""
WIDTHS = (1280, 1024, 850, 768, 480, 360, 320)
NAMES = ("volumes", "plan", "failing", "history", "running", "failed", "archive", "nowhere")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as started:
        yield started


def places(fake: Fake) -> dict[str, str]:
    """Return the address of one page of each kind."""
    failed = next(run for run in reversed(fake.runs) if run.plan == "web")
    running = fake.volumes["home"].run
    assert running is not None
    path = quote(fake.archives["mail"][0]["path"], safe="")
    found = (
        "#/", "#/plan/home", "#/plan/web", "#/history", f"#/run/{running.run_id}",
        f"#/run/{failed.run_id}", f"#/plan/mail/archive/{path}", "#/nowhere",
    )  # fmt: skip
    return dict(zip(NAMES, found, strict=True))


def show(reader: Reader, place: str) -> None:
    """Open a page, and wait until it is complete."""
    reader.open(place)
    until(lambda: reader.page.evaluate(ALL_SHOWN))
    if place != "#/nowhere":
        reader.page.wait_for_selector(":is(.rows tbody tr, .lines li, canvas):not([hidden])")


@pytest.mark.parametrize("name", NAMES)
def test_no_page_is_wider_than_its_window(browser: Browser, name: str) -> None:
    fake = twelve()
    with reading(browser, fake) as reader:
        show(reader, places(fake)[name])
        for width in WIDTHS:
            reader.page.set_viewport_size({"width": width, "height": 800})
            assert reader.width() <= width
            assert reader.page.evaluate(STICK_OUT) == []


def test_on_a_phone_a_question_and_a_message_fit(browser: Browser) -> None:
    with reading(browser, twelve(), width=360) as reader:
        reader.page.get_by_role("button", name="Cancel the run of home").click()
        for box in ("dialog", ".notice"):
            if box == ".notice":
                reader.page.get_by_role("dialog").get_by_role(
                    "button", name="Cancel the run"
                ).click()
            found = reader.page.locator(box).first.bounding_box()
            assert found is not None
            assert found["x"] >= 0
            assert found["x"] + found["width"] <= 360


@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1280)])
def test_axe_finds_nothing_to_complain_of(browser: Browser, scheme: str, width: int) -> None:
    """It knows about contrast, names of controls, roles, and much more."""
    fake = twelve()
    with reading(browser, fake, width=width, color_scheme=scheme) as reader:
        for place in places(fake).values():
            show(reader, place)
            found = Axe().run(reader.page)
            assert found.violations_count == 0, f"{place}: {found.generate_report()}"
        reader.open("#/")
        reader.page.get_by_role("button", name="Cancel the run of home").click()
        assert Axe().run(reader.page).violations_count == 0
        reader.page.context.clear_cookies()
        reader.page.goto(f"{reader.url}/login")
        assert Axe().run(reader.page).violations_count == 0


def test_the_page_is_light_or_dark_as_the_reader_has_it(browser: Browser) -> None:
    sums: dict[str, int] = {}
    for scheme in ("light", "dark"):
        with reading(browser, twelve(), color_scheme=scheme) as reader:
            colour = reader.page.evaluate(
                "getComputedStyle(document.documentElement).backgroundColor"
            )
            sums[scheme] = sum(map(int, re.findall(r"\d+", colour)[:3]))
    assert sums["light"] > 700
    assert sums["dark"] < 100


def test_everything_can_be_reached_and_done_with_the_keyboard(browser: Browser) -> None:
    with reading(browser, twelve()) as reader:
        page = reader.page
        page.wait_for_selector(reader.row("mail"))
        page.keyboard.press("Tab")
        expect(page.locator("#skip")).to_be_focused()
        expect(page.locator("#skip")).to_be_in_viewport()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name=re.compile("^All"))).to_be_focused()
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        reached: set[str] = set()
        for _ in range(60):
            page.keyboard.press("Tab")
            reached.add(
                page.evaluate(
                    "document.activeElement.getAttribute('aria-label')"
                    " ?? document.activeElement.innerText"
                )
            )
        assert {"Run mail now", "Cancel the run of home", "mail", "web"} <= reached
        page.locator(reader.row("mail")).locator("a").first.focus()
        page.keyboard.press("Enter")
        heading = page.get_by_role("heading", level=1, name="mail")
        expect(heading).to_be_focused()
        page.go_back()
        expect(page.get_by_role("heading", level=1, name="Volumes")).to_be_focused()


def test_times_are_in_the_locale_and_zone_of_the_reader(browser: Browser) -> None:
    fake = twelve()
    ended_s = fake.archives["mail"][0]["made_s"]
    for locale, zone, form in (
        ("de-DE", "Europe/Berlin", "%d.%m.%Y, %H:%M"),
        ("sv-SE", "Asia/Tokyo", "%H:%M"),
        ("en-GB", "America/New_York", "%Y, %H:%M"),
    ):
        expected = datetime.fromtimestamp(ended_s, ZoneInfo(zone)).strftime(form)
        with reading(browser, fake, locale=locale, timezone_id=zone) as reader:
            reader.open("#/plan/mail")
            expect(reader.page.locator(".rows.archives tbody .made").first).to_contain_text(
                expected
            )
            assert reader.page.locator("tbody .old").first.inner_text() == "4 hours ago"


def test_who_wants_no_motion_gets_none(browser: Browser) -> None:
    with reading(browser, twelve(), reduced_motion="reduce") as reader:
        reader.open("#/plan/home")
        reader.page.wait_for_selector(".rows.runs .shape")
        names = reader.page.locator(".shape").evaluate_all(
            "all => all.map((each) => getComputedStyle(each).animationName)"
        )
        assert set(names) == {"none"}


def test_a_link_in_a_mail_leads_to_its_page_for_one_who_is_logged_in(browser: Browser) -> None:
    """The browser sends no cookie along then, as another site asks."""
    with reading(browser, twelve()) as reader, elsewhere(f"{reader.url}/#/plan/home") as url:
        reader.page.goto(url)
        reader.page.click("a")
        expect(reader.page.locator("h1")).to_have_text("home")
        assert reader.page.url == f"{reader.url}/#/plan/home"


def elsewhere(link: str) -> _Elsewhere:
    """Serve a page of another site with a link."""
    return _Elsewhere(link)


class _Elsewhere:
    def __init__(self, link: str) -> None:
        page = f'<link rel="icon" href="data:,"><a href="{link}">a plan</a>'.encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> str:
        self._thread.start()
        # Another name is another site, though it is the same machine.
        assert socket.gethostbyname("localhost") == "127.0.0.1"
        return f"http://localhost:{self._server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
