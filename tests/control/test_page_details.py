"""The pages of a plan, a run, an archive, and the history, in a real browser."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from onggi.control.model import Kind, State

from .fake_api import EVIL, Fake, log_lines, twelve, units
from .page_helpers import FAILED_REQUEST, Reader, browsing, reading, until

pytestmark = pytest.mark.needs("chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as started:
        yield started


@pytest.fixture
def fake() -> Fake:
    return twelve()


@pytest.fixture
def reader(browser: Browser, fake: Fake) -> Iterator[Reader]:
    with reading(browser, fake) as found:
        yield found


def archive_place(plan: str, path: str) -> str:
    return f"#/plan/{plan}/archive/{quote(path, safe='')}"


def state_of(fake: Fake, run_id: int) -> State:
    return fake.find_run(run_id).state


# --- a plan ---------------------------------------------------------------------------------------


def test_a_plan_tells_what_it_is(reader: Reader) -> None:
    reader.open("#/plan/home")
    facts = reader.page.locator(".facts")
    expect(facts).to_contain_text("every day at 02:00, Europe/Berlin")
    expect(facts).to_contain_text("7 last, 14 daily, 8 weekly, 12 monthly")
    expect(facts).to_contain_text("after each backup, against its digests")
    expect(reader.page.locator("h1 + .path")).to_have_text("/home→/backup/vault")
    expect(reader.page.locator(".work .figures")).to_contain_text("reading is the bottleneck")
    reader.open("#/plan/web")
    expect(facts).to_contain_text("*.tmp\ncache/*", use_inner_text=True)
    expect(reader.page.locator(".plan > .problem")).to_contain_text("is not mounted")
    reader.open("#/plan/vm-images")
    expect(facts).to_contain_text("cron 30 1 * * 1-5, Europe/Berlin")


def test_each_of_the_last_30_days_can_be_read(reader: Reader) -> None:
    reader.open("#/plan/web")
    days = reader.page.locator("ol.days li")
    expect(days).to_have_count(30)
    expect(days.nth(28)).to_contain_text("failed, 1 run")
    expect(days.nth(3)).to_contain_text("succeeded, 1 run")
    reader.open("#/plan/new-disk")
    expect(days.nth(29)).to_contain_text("no run")


def test_archives_are_listed_the_newest_first_and_more_on_demand(
    reader: Reader, fake: Fake
) -> None:
    found = fake.archives["mail"]
    found[1]["exists"] = False
    found[2] |= {"is_verified": False, "verified_s": None}
    reader.open("#/plan/mail")
    rows = reader.page.locator(".rows.archives tbody tr")
    expect(rows).to_have_count(10)
    expect(rows.nth(0)).to_contain_text("80.0 GiB of 212.0 GiB, 38 %")
    expect(rows.nth(0)).to_contain_text("verified 4 hours ago")
    expect(rows.nth(1)).to_contain_text("the file is gone")
    expect(rows.nth(2)).to_contain_text("not verified")
    reader.page.get_by_role("button", name="Show 20 older archives").click()
    expect(rows).to_have_count(30)
    expect(reader.page.get_by_role("heading", name="30 archives")).to_be_visible()


def test_a_path_that_is_no_unicode_breaks_no_page(reader: Reader, fake: Fake) -> None:
    fake.archives["mail"][0]["path"] = "/backup/\udcff/mail/odd.onggi"
    fake.logs[1] = [{"time_s": 1.0, "step": "pack", "stream": "stderr", "text": "\udcff"}]
    reader.open("#/plan/mail")
    expect(reader.page.locator(".rows.archives tbody tr")).to_have_count(10)
    expect(reader.page.locator(".rows.archives tbody tr").first).to_contain_text("odd.onggi")
    reader.open("#/run/1")
    expect(reader.page.get_by_role("log").locator("li")).to_have_count(1)


def test_a_plan_that_never_ran_says_so(reader: Reader) -> None:
    reader.open("#/plan/new-disk")
    expect(reader.page.get_by_text("No archive yet. The first backup makes one.")).to_be_visible()
    expect(reader.page.get_by_text("Nothing has run yet.")).to_be_visible()
    expect(reader.page.locator(".lead")).to_contain_text("no backup has succeeded yet")


def test_a_plan_is_paused_and_resumed(reader: Reader, fake: Fake) -> None:
    reader.open("#/plan/mail")
    reader.page.get_by_role("button", name="Pause mail").click()
    resume = reader.page.get_by_role("button", name="Resume mail")
    expect(resume).to_be_visible()
    expect(reader.page.locator(".lead .word")).to_have_text("paused")
    assert fake.volumes["mail"].plan.is_paused
    resume.click()
    expect(reader.page.get_by_role("button", name="Pause mail")).to_be_visible()
    assert not fake.volumes["mail"].plan.is_paused


def test_a_verification_is_asked_for(reader: Reader, fake: Fake) -> None:
    reader.open("#/plan/mail")
    reader.page.get_by_role("button", name="Verify the newest archive of mail").click()
    expect(reader.page.locator(".rows.runs tbody tr").first).to_contain_text(
        "verification, asked for"
    )
    run = fake.volumes["mail"].run
    assert run is not None
    assert run.kind is Kind.VERIFY


def test_archives_are_mounted_and_unmounted_after_a_question(reader: Reader, fake: Fake) -> None:
    reader.open("#/plan/mail")
    reader.page.get_by_role("button", name="Mount the archives of mail", exact=True).click()
    expect(
        reader.page.get_by_role("status").filter(has_text="/run/onggi/mounts/mail")
    ).to_be_visible()
    unmount = reader.page.get_by_role("button", name="Unmount the archives of mail")
    unmount.click()
    reader.page.keyboard.press("Escape")
    assert "POST /api/plans/mail/umount" not in fake.asked
    unmount.click()
    dialog = reader.page.get_by_role("dialog")
    expect(dialog).to_contain_text("Programs that read from them will fail.")
    dialog.get_by_role("button", name="Unmount").click()
    until(lambda: "POST /api/plans/mail/umount" in fake.asked)


def test_what_of_a_plan_can_not_be_shown_is_told(browser: Browser) -> None:
    fake = twelve()
    fake.problems["/api/plans/mail/archives"] = (500, "the disk is gone")
    with reading(browser, fake, allowed=(FAILED_REQUEST,)) as reader:
        reader.open("#/plan/mail")
        alert = reader.page.get_by_role("alert").filter(has_text="The archives can't be shown")
        expect(alert).to_contain_text("the disk is gone")
        expect(reader.page.locator(".rows.runs tbody tr")).to_have_count(10)


def test_a_plan_that_is_not_there_is_told(browser: Browser) -> None:
    with reading(browser, twelve(), allowed=(FAILED_REQUEST,)) as reader:
        reader.open("#/plan/nobody")
        expect(reader.page.locator(".lead")).to_contain_text("There is no plan of this name.")
        expect(reader.page.locator(".plan .buttons").first).to_be_hidden()


# --- the history ----------------------------------------------------------------------------------


def test_the_history_shows_those_that_failed_alone_on_demand(reader: Reader) -> None:
    reader.page.get_by_role("link", name="History").click()
    rows = reader.page.locator(".rows.runs tbody tr")
    expect(rows).to_have_count(50)
    reader.page.get_by_role("link", name="Failed, missed or lost").click()
    expect(rows).to_have_count(4)
    assert reader.page.url.endswith("#/history?failed=1")
    expect(rows.nth(0)).to_contain_text("lost")
    expect(rows.nth(0)).to_contain_text(EVIL)
    reader.page.get_by_label("Runs of which plan").select_option("web")
    expect(rows).to_have_count(3)
    assert reader.page.url.endswith("#/history?plan=web&failed=1")
    reader.page.get_by_label("Runs of which plan").select_option("mail")
    expect(reader.page.locator(".empty")).to_have_text("No run has failed, was missed or lost.")


def test_older_runs_are_shown_on_demand_down_to_the_first(reader: Reader, fake: Fake) -> None:
    reader.open("#/history")
    rows = reader.page.locator(".rows.runs tbody tr")
    older = reader.page.get_by_role("button", name="Show older runs")
    shown = 50
    while shown < len(fake.runs):
        expect(rows).to_have_count(shown)
        older.click()
        shown = min(shown + 50, len(fake.runs))
    expect(rows).to_have_count(len(fake.runs))
    expect(older).to_be_hidden()
    links = rows.locator(".state a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert links == [f"#/run/{each}" for each in range(len(fake.runs), 0, -1)]


def test_the_history_grows_while_one_looks(reader: Reader, fake: Fake) -> None:
    reader.open("#/history")
    rows = reader.page.locator(".rows.runs tbody tr")
    expect(rows).to_have_count(50)
    for _ in range(60):  # more than are shown: what is between must not be left out
        fake.ran(fake.volumes["mail"], 0, State.SUCCEEDED)
    newest = f"#/run/{len(fake.runs)}"
    expect(rows.nth(0).locator(".state a")).to_have_attribute("href", newest)
    links = rows.locator(".state a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    numbers = [int(link.rpartition("/")[2]) for link in links]
    assert numbers == list(range(numbers[0], numbers[-1] - 1, -1))
    expect(reader.page.get_by_role("button", name="Show older runs")).to_be_visible()


# --- a run ----------------------------------------------------------------------------------------


def test_the_log_of_a_run_follows_while_it_is_at_work(reader: Reader, fake: Fake) -> None:
    run = fake.volumes["home"].run
    assert run is not None
    fake.logs[run.run_id] = log_lines(900)
    reader.open(f"#/run/{run.run_id}")
    log = reader.page.get_by_role("log")
    expect(log).to_contain_text("attempt 1 starts")
    expect(log).to_contain_text("warning: srv/mail/box899: it changed while it was read")
    fake.logs[run.run_id].append(
        {"time_s": time.time(), "step": "pack", "stream": "stderr", "text": "the newest line"}
    )
    log.evaluate("log => log.scrollIntoView({ block: 'end' })")
    newest = log.locator("li").last
    expect(newest).to_contain_text("the newest line")
    expect(newest).to_be_in_viewport()
    follow = reader.page.get_by_label("Follow")
    expect(follow).to_be_checked()
    log.evaluate("log => log.scrollTo(0, 0)")
    expect(follow).not_to_be_checked()
    fake.logs[run.run_id].append(
        {"time_s": time.time(), "step": "pack", "stream": "stderr", "text": "one more"}
    )
    expect(log.locator("li").last).to_contain_text("one more")
    assert log.evaluate("log => log.scrollTop") == 0, "one who reads is not led away"
    follow.check()
    expect(log.locator("li").last).to_be_in_viewport()

    fake.put(replace(run, state=State.FAILED, ended_s=time.time(), message="the disk broke"))
    expect(reader.page.locator(".end")).to_have_text("the disk broke")
    expect(follow).to_be_hidden()
    fake.asked.clear()
    reader.page.wait_for_timeout(1500)
    assert not any(f"runs/{run.run_id}" in each for each in fake.asked), "it is over"


def test_progress_in_a_log_takes_one_line(reader: Reader, fake: Fake) -> None:
    fake.logs[1] = log_lines(4)
    reader.open("#/run/1")
    expect(reader.page.get_by_role("log").locator("li")).to_have_count(2)  # first, standard error


def test_a_log_is_text_whatever_is_in_it(reader: Reader, fake: Fake) -> None:
    odd: list[dict[str, object]] = [
        {"time_s": 1.0, "step": "pack", "stream": "stderr", "text": EVIL},
        {"time_s": 2.0, "step": "pack", "stream": "event", "type": EVIL},
        {"time_s": 3.0, "step": EVIL, "stream": "event", "type": "result"},
        {"time_s": 4.0, "step": "pack", "stream": "event", "type": "finding"},
        {"time_s": 5.0, "step": "pack", "stream": "event"},
        {"time_s": 6.0, "step": "pack", "stream": "event", "type": "progress"},
        {"time_s": 7.0, "step": "pack", "stream": "master"},
    ]
    fake.logs[1] = odd
    reader.open("#/run/1")
    expect(reader.page.get_by_role("log").locator("li")).to_have_count(6)
    expect(reader.page.get_by_role("log").locator("li").first).to_contain_text(EVIL)
    assert reader.page.evaluate("window.hacked") is None


def test_of_a_very_long_log_the_end_is_shown(reader: Reader, fake: Fake) -> None:
    fake.logs[1] = [
        {"time_s": float(each), "step": "pack", "stream": "stderr", "text": f"line {each}"}
        for each in range(12_345)
    ]
    reader.open("#/run/1")
    log = reader.page.get_by_role("log")
    expect(log.locator("li").last).to_contain_text("line 12344", timeout=30_000)
    assert log.locator("li").count() == 5000
    expect(reader.page.locator(".above")).to_contain_text("The last 5,000 lines. All: onggi logs 1")


def test_a_run_tells_what_became_of_it(reader: Reader, fake: Fake) -> None:
    run = fake.ran(fake.volumes["mail"], 60, State.WARNED, message="3 files changed", exit_code=1)
    reader.open(f"#/run/{run.run_id}")
    page = reader.page
    expect(page.locator(".lead")).to_contain_text("with warnings")
    expect(page.locator(".lead")).to_contain_text("backup of mail")
    expect(page.locator(".end")).to_have_text("3 files changed")
    for text in ("on schedule", "20 min", "80.0 GiB of 212.0 GiB", "yes, it was proven right"):
        expect(page.locator(".facts")).to_contain_text(text)
    expect(page.get_by_text("There is nothing in it.")).to_be_visible()
    page.locator(".facts a").click()
    expect(page.locator("h1")).to_contain_text(".onggi")


def test_a_run_that_waits_can_be_cancelled_from_its_page(reader: Reader, fake: Fake) -> None:
    run = fake.volumes["vm-images"].run
    assert run is not None
    reader.open(f"#/run/{run.run_id}")
    expect(reader.page.locator(".work .figures")).to_have_text("waiting to start")
    reader.page.get_by_role("button", name="Cancel the run of vm-images").click()
    reader.page.get_by_role("dialog").get_by_role("button", name="Cancel the run").click()
    expect(reader.page.locator(".lead .word")).to_have_text("cancelled")
    assert state_of(fake, run.run_id) is State.CANCELLED


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("#/run/99999", "There is no run 99999"),
        ("#/plan/mail/archive/%2Fno.onggi", "/no.onggi is no archive of a plan"),
        ("#/nothing", "There is no such page."),
        ("#/plan/%E0%A4%A", "There is no such page."),
        ("#/run/x", "There is no such page."),
    ],
)
def test_an_address_that_leads_nowhere_says_so(browser: Browser, place: str, said: str) -> None:
    with reading(browser, twelve(), allowed=(FAILED_REQUEST,)) as reader:
        reader.open(place)
        expect(reader.page.locator("main")).to_contain_text(said)


# --- an archive -----------------------------------------------------------------------------------


def test_the_map_of_an_archive_can_be_walked_over_with_keys(reader: Reader, fake: Fake) -> None:
    path = fake.archives["mail"][0]["path"]
    reader.open(archive_place("mail", path))
    expect(reader.page.get_by_role("heading", name="900 units")).to_be_visible()
    canvas = reader.page.locator("canvas")
    expect(canvas).to_have_attribute("aria-label", re.compile("Map of 900 units: .*2 damaged"))
    expect(reader.page.get_by_text("Damaged: 2 units: 17, 230.")).to_be_visible()
    canvas.focus()
    told = reader.page.locator(".told")
    for _ in range(18):
        reader.page.keyboard.press("ArrowRight")
    expect(told).to_have_text(re.compile(r"unit 17: damaged; 20.0 MiB of content"))
    reader.page.keyboard.press("End")
    expect(told).to_contain_text("unit 899")
    reader.page.keyboard.press("ArrowDown")
    expect(told).to_contain_text("unit 899")
    reader.page.keyboard.press("Home")
    reader.page.keyboard.press("ArrowUp")
    expect(told).to_contain_text("unit 0: data")


def test_the_map_shows_each_unit_where_one_points(reader: Reader, fake: Fake) -> None:
    path = fake.archives["mail"][0]["path"]
    fake.maps[path] = units(10, damaged=(3,))
    reader.open(archive_place("mail", path))
    canvas = reader.page.locator("canvas")
    canvas.hover(position={"x": 3 * 14 + 6, "y": 6})
    expect(reader.page.locator(".told")).to_contain_text("unit 3: damaged")
    reader.page.mouse.move(0, 0)
    colours = canvas.evaluate(
        """canvas => {
            const scale = canvas.width / canvas.clientWidth;
            const { data } = canvas.getContext("2d").getImageData(0, 3 * scale, canvas.width, 1);
            return [2, 3].map((cell) => [...data.slice(4 * (cell * 14 + 7) * scale).slice(0, 4)]);
        }"""
    )
    assert colours[0] != colours[1]
    red, green, blue, _ = colours[1]
    assert red > 150 > max(green, blue)


def test_a_map_of_very_many_units_is_quick_and_hides_no_damage(reader: Reader, fake: Fake) -> None:
    path = fake.archives["mail"][0]["path"]
    fake.maps[path] = units(100_000, damaged=(77_777,))
    started_s = time.monotonic()
    reader.open(archive_place("mail", path))
    expect(reader.page.get_by_role("heading", name="100,000 units")).to_be_visible()
    assert time.monotonic() - started_s < 6
    expect(reader.page.locator(".legend").last).to_contain_text("a cell is 5 units")
    expect(reader.page.locator(".legend").last).to_contain_text("damaged (1)")
    canvas = reader.page.locator("canvas")
    canvas.focus()
    reader.page.keyboard.press("End")
    told = reader.page.locator(".told")
    expect(told).to_contain_text("units 99,995 to 99,999")
    row, column = divmod(77_777 // 5, int(canvas.evaluate("each => each.clientWidth")) // 8)
    canvas.hover(position={"x": column * 8 + 3, "y": row * 8 + 3})
    expect(told).to_contain_text("units 77,775 to 77,779: damaged")


def test_an_archive_without_units_says_so(reader: Reader, fake: Fake) -> None:
    path = fake.archives["mail"][0]["path"]
    fake.maps[path] = []
    reader.open(archive_place("mail", path))
    expect(reader.page.locator(".empty")).to_contain_text("The archive has no units")
