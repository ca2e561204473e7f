"""Plans, runs and archives by their commands, as people and programs use them."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import socket
import stat
import subprocess
import time
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from .control_helpers import (
    BIG,
    MARKER,
    MIB,
    MOST_S,
    SLOW,
    Site,
    new_site,
    said_by,
    until,
)
from .control_helpers import site as site
from .mount_helpers import is_mounted, take_away
from .tree_corpus import noisy

EXPLAINED = Path(__file__).parents[2] / "docs" / "plans.toml"


@pytest.fixture(scope="module")
def shared() -> Iterator[Site]:
    """A place with a server for tests that each make plans of their own in it."""
    for made in new_site():
        made.serve()
        yield made


def lines(ran: Any) -> list[str]:
    """Return what a command told people."""
    found: list[str] = ran.out.decode().splitlines()
    return found


# --- nobody there, nothing said ------------------------------------------------------------------

ASKING = (
    ("plan", "ls"),
    ("plan", "add", "x", "/x", "/y"),
    ("plan", "apply", "plans.toml"),
    ("run", "x"),
    ("cancel", "1"),
    ("status",),
    ("status", "--watch"),
    ("history",),
    ("logs", "1", "-f"),
    ("restore", "x", "out"),
)


def test_without_a_server_each_command_says_how_to_start_one(site: Site) -> None:
    (site.folder / "plans.toml").touch()
    for words in ASKING:
        ran = site.onggi.fails(8, *words)
        assert ran.err.endswith("socket; start one: onggi serve\n"), words
        assert ran.out == b""
    assert "onggi serve" in said_by(site.onggi("plan", "ls", "--json"), 8)
    assert not (site.folder / "out").exists()


def test_what_answers_and_is_no_server_is_told_in_one_line(site: Site) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(site.socket))
        listening.listen()
        asked = subprocess.Popen(
            [*site.command, "status"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        listening.accept()[0].close()
        said = asked.communicate(timeout=MOST_S)[1]
    assert asked.returncode == 8
    assert re.fullmatch(rb"onggi: the server at \S+ does not answer: .*\n", said)
    long = site.folder / ("x" * 120)
    assert "too long" in site.onggi.fails(8, "status", "--socket", long).err


@pytest.mark.parametrize(
    "words",
    [
        ("plan",),
        ("plan", "add", "x"),
        ("plan", "add", "x", "/x", "/y", "--every"),
        ("plan", "add", "x", "/x", "/y", "--keep", "-1"),
        ("plan", "add", "x", "/x", "/y", "--verify", "often"),
        ("plan", "add", "x", "/x", "/y", "--limit", "much"),
        ("run",),
        ("run", "x", "-n"),
        ("cancel", "0"),
        ("cancel", "x"),
        ("logs", "0"),
        ("history", "-n", "0"),
        ("restore", "x"),
        ("serve", "--per-target", "0"),
        ("serve", "--http", "localhost"),
        ("serve", "--http", "localhost:0"),
        ("serve", "--group", "there-is-no-such-group"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_told_before_anybody_is_asked(
    words: tuple[str, ...], site: Site
) -> None:
    ran = site.onggi(*words)
    assert ran.code == 2, ran
    if words != ("plan",):  # a group without a command shows its help
        assert len(ran.err.splitlines()) == 1, ran.err
        assert ran.err.startswith("onggi: ")
    assert not site.state.exists()


# --- plans ---------------------------------------------------------------------------------------


def test_a_plan_is_made_shown_changed_and_removed(shared: Site) -> None:
    name, onggi = "made", shared.onggi
    shared.fill(name)
    shared.target(name).mkdir()
    words = ("--every", "2d", "--at", "02:30", "--timezone", "Europe/Berlin", "--keep", 3,
             "--keep-daily", 14, "--verify-by", "source", "--window", "22:00-06:00", "--retries", 0,
             "--limit", "80M", "--nice", "--level", 7, "--exclude", "*.tmp", "--exclude", "cache/*",
             "--mode", "tree")  # fmt: skip
    # From a folder of its own, the paths are relative to that.
    ran = onggi.ok("plan", "add", name, f"{name}-source", f"{name}-target", *words)
    wanted = [
        f"made: {shared.source(name)} -> {shared.target(name)}/made/",
        "  when    every 2d at 02:30 (Europe/Berlin)",
        "  keep    3 last, 14 daily",
        "  verify  after, by source",
        "  window  22:00-06:00",
        "  limit   80.0 MiB/s",
        "  exclude *.tmp cache/*",
    ]
    assert lines(ran) == wanted
    assert lines(onggi.ok("plan", "show", name)) == wanted
    shown = onggi.ok("plan", "show", name, "--json").result
    assert (shown["type"], shown["command"], shown["exit_code"]) == ("result", "plan show", 0)
    assert shown["archives"] == []
    plan = shown["plan"]
    assert plan["source"] == str(shared.source(name))
    assert (plan["every"], plan["at"], plan["timezone"]) == ("2d", "02:30", "Europe/Berlin")
    assert (plan["keep"]["last"], plan["keep"]["daily"], plan["keep"]["weekly"]) == (3, 14, 0)
    assert (plan["limit_bytes_per_s"], plan["nice"], plan["level"]) == (80 * MIB, True, 7)
    assert (plan["retries"], plan["exclude"]) == (0, ["*.tmp", "cache/*"])
    assert plan in onggi.ok("plan", "ls", "--json").result["plans"]
    [row] = [line for line in lines(onggi.ok("plan", "ls")) if line.startswith("made ")]
    assert row.endswith("every 2d at 02:30")
    assert (shared.target(name) / MARKER).read_text().strip()

    edited = onggi.ok("plan", "edit", name, "--keep-weekly", 8, "--no-nice", "--json").result
    assert edited["plan"]["keep"] == plan["keep"] | {"weekly": 8}
    assert edited["plan"] == plan | {"keep": edited["plan"]["keep"], "nice": False}
    told = lines(onggi.ok("plan", "edit", name, "--every", "", "--at", "00:00",
                          "--cron", "30 2 * * 1-5"))  # fmt: skip
    assert told[1] == "  when    cron 30 2 * * 1-5 (Europe/Berlin)"

    assert lines(onggi.ok("plan", "pause", name)) == ["made is paused"]
    assert lines(onggi.ok("plan", "show", name))[1].endswith(", paused")
    [row] = [line for line in lines(onggi.ok("plan", "ls")) if line.startswith("made ")]
    assert row.endswith("paused")
    assert onggi.ok("plan", "pause", name, "--json").result["plan"]["is_paused"] is True
    assert lines(onggi.ok("plan", "resume", name)) == ["made is resumed"]
    assert onggi.ok("plan", "resume", name, "--json").result["plan"]["is_paused"] is False

    assert onggi.ok("plan", "rm", name, "--json").result["plan"] == name
    onggi.fails(2, "plan", "rm", name)
    assert name not in onggi.ok("plan", "ls").out.decode()


def test_a_plan_has_the_zone_of_this_machine_unless_told_otherwise(shared: Site) -> None:
    shared.fill("zone")
    shared.target("zone").mkdir()
    words = ("plan", "add", "zone", shared.source("zone"), shared.target("zone"), "--json")
    ran = shared.onggi.ok(*words, prefix=("env", "TZ=Asia/Seoul"))
    assert ran.result["plan"]["timezone"] == "Asia/Seoul"


@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        (2, ("../up", "{s}", "{t}"), "can't be the name of a plan"),
        (2, ("bad", "{s}", "{s}"), "source and target are both"),
        (2, ("bad", "{s}", "{s}/below"), "archives would hold archives"),
        (2, ("bad", "{s}", "{f}/none"), "there is no folder"),
        (7, ("bad", "{s}", "{f}/a-file"), "can't use"),
        (2, ("bad", "{s}", "{t}", "--every", "1x"), "every is '1x'"),
        (2, ("bad", "{s}", "{t}", "--every", "1d", "--cron", "* * * * *"), "write one of them"),
        (2, ("bad", "{s}", "{t}", "--cron", "61 * * * *"), "cron"),
        (2, ("bad", "{s}", "{t}", "--every", "1d", "--timezone", "Moon/Base"), "timezone"),
        (2, ("bad", "{s}", "{t}", "--every", "6h", "--at", "02:00"), "at is 02:00"),
        (2, ("bad", "{s}", "{t}", "--window", "22:00"), "window is '22:00'"),
        (2, ("bad", "{s}", "{t}", "--retries", "21"), "retries is 21"),
        (7, ("whole", "{s}", "{t}"), "there is a plan whole already"),
    ],
    ids=lambda value: " ".join(value[3:]) if isinstance(value, tuple) else None,
)
def test_a_plan_that_cannot_be_is_refused_in_one_line(
    code: int, words: tuple[str, ...], said: str, shared: Site
) -> None:
    if not shared.source("whole").exists():
        shared.add("whole")
        (shared.folder / "a-file").touch()
    places = {
        "f": shared.folder, "s": shared.source("whole"), "t": shared.target("whole"),
    }  # fmt: skip
    given = [word.format(**places) for word in words]
    assert said in shared.onggi.fails(code, "plan", "add", *given).err
    names = [plan["name"] for plan in shared.client.get("/api/plans")["plans"]]
    assert "bad" not in names
    assert sorted(os.listdir(shared.source("whole"))) == ["file"]


def test_what_is_asked_of_a_plan_or_a_run_that_there_is_not(shared: Site) -> None:
    for words in (
        ("plan", "show", "none"), ("plan", "edit", "none", "--keep", "1"), ("plan", "rm", "none"),
        ("plan", "pause", "none"), ("plan", "show", "a/b c?d"), ("run", "none", "--wait"),
        ("run", "none", "--verify"), ("run", "none", "--prune", "-n"), ("history", "none"),
        ("status", "none"), ("restore", "none", "out"),
    ):  # fmt: skip
        ran = shared.onggi.fails(2, *words)
        assert f"there is no plan {words[-1 if words[1] == 'show' else 1]!r}" in ran.err or (
            "there is no plan 'none'" in ran.err
        ), words
    bad = ("plan", "add", "../up", "/x", "/y", "--json")
    assert "can't be the name of a plan" in said_by(shared.onggi(*bad), 2)
    for command in ("cancel", "logs"):
        assert "there is no run 999999" in shared.onggi.fails(2, command, 999_999).err
        assert "no run 999999" in said_by(shared.onggi(command, 999_999, "--json"), 2)


def test_a_plan_with_a_run_at_work_is_not_removed_and_its_history_stays(shared: Site) -> None:
    shared.add("busy", limit_bytes_per_s=SLOW, content=BIG)
    run = shared.start("busy")
    shared.at_work("busy", run)
    assert "cancel it first" in shared.onggi.fails(7, "plan", "rm", "busy").err
    shared.onggi.ok("cancel", run)
    shared.ended(run)
    assert lines(shared.onggi.ok("plan", "rm", "busy")) == ["busy is removed; its archives are not"]
    [listed] = shared.onggi.ok("history", "busy", "--json").result["runs"]
    assert (listed["run_id"], listed["state"]) == (run, "cancelled")


PLANS = """
[plan.one]
source = "{folder}/one-source"
target = "{folder}/one-target"
every = "1d"
keep = {{ daily = 7 }}

[plan.two]
source = "{folder}/two-source"
target = "{folder}/one-target"

[notify]
command = "/bin/true"
"""


def test_a_file_of_plans_is_applied_and_first_tried(site: Site) -> None:
    site.serve()
    assert lines(site.onggi.ok("plan", "ls")) == ["there is no plan yet"]
    assert "onggi plan add" in lines(site.onggi.ok("status"))[0]
    assert lines(site.onggi.ok("history")) == ["no runs"]
    site.add("old")
    (site.folder / "one-target").mkdir()
    file = site.folder / "plans.toml"
    file.write_text(PLANS.format(folder=site.folder))
    tried_first = site.onggi.ok("plan", "apply", file, "--dry-run")
    told = lines(tried_first)
    assert [line for line in told if not line.startswith("    ")] == ["+ one", "+ two", "- old"]
    assert "    every: None -> '1d'" in told
    assert "    keep.daily: None -> 7" in told
    assert lines(site.onggi.ok("plan", "ls"))[1].startswith("old ")
    assert not (site.folder / "one-target" / MARKER).exists()

    result = site.onggi.ok("plan", "apply", file, "--json").result
    assert result["dry_run"] is False
    kinds = [(change["name"], change["kind"]) for change in result["changes"]]
    assert kinds == [("one", "add"), ("two", "add"), ("old", "remove")]
    plans = site.onggi.ok("plan", "ls", "--json").result["plans"]
    assert [plan["name"] for plan in plans] == ["one", "two"]
    assert lines(site.onggi.ok("plan", "apply", file)) == ["nothing changes"]

    text = file.read_text().replace('"1d"', '"2d"')
    ran = site.onggi.ok("plan", "apply", "-", "-n", stdin=text.encode())
    assert lines(ran) == ["~ one", "    every: '1d' -> '2d'"]
    file.write_text(text)
    site.onggi.ok("plan", "apply", file, "-q")
    assert site.client.get("/api/plans/one")["plan"]["every"] == "2d"

    for bad, said in (
        ("[plan.x", "this is no TOML"),
        ('[plan.one]\nsource = "/x"\ntarget = "/y"\neverry = "1d"', "did you mean every?"),
        ('[plan.one]\nsource = "x"\ntarget = "/y"', "a whole path"),
        ("[plan.one]\n", "write one"),
        ('[notify]\non = ["always"]', "always"),
        ("[plans]\n", "did you mean plan?"),
    ):
        file.write_text(bad)
        for more in ((), ("--dry-run",)):
            assert said in site.onggi.fails(2, "plan", "apply", file, *more).err
    file.write_bytes(b"\xff\xfe")
    site.onggi.fails(5, "plan", "apply", file)
    site.onggi.fails(5, "plan", "apply", site.folder / "none.toml")
    file.write_text(PLANS.format(folder=site.folder / "elsewhere"))  # all or nothing
    assert "there is no folder" in site.onggi.fails(2, "plan", "apply", file).err
    plans = site.onggi.ok("plan", "ls", "--json").result["plans"]
    assert [(plan["name"], plan["every"]) for plan in plans] == [("one", "2d"), ("two", "")]


def test_the_file_of_plans_that_explains_them_can_be_read(shared: Site) -> None:
    file = EXPLAINED
    told = lines(shared.onggi.ok("plan", "apply", file, "--dry-run"))
    assert [line for line in told if line.startswith("+")] == [
        f"+ {name}" for name in tomllib.loads(file.read_text())["plan"]
    ]


# --- runs ----------------------------------------------------------------------------------------


def test_a_run_packs_verifies_and_is_told_of(shared: Site) -> None:
    name, onggi = "packed", shared.onggi
    shared.add(name, verify="after", every="1d")
    ran = onggi.ok("run", name)
    run = int(re.fullmatch(r"run (\d+) of packed; `onggi logs \1` tells more", lines(ran)[0])[1])  # type: ignore[index]
    shared.ended(run)
    [archive] = [shared.target(name) / each for each in shared.files(name)]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ\.onggi", archive.name)
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert stat.S_IMODE(archive.parent.stat().st_mode) == 0o700

    # Two in the same second have two names.
    started = onggi.ok("run", name, "--wait")
    assert lines(started)[1:] == ["succeeded"]
    result = onggi.ok("run", name, "--wait", "--json").result
    told = result["run"]
    assert (result["command"], result["exit_code"]) == ("run", 0)
    assert (told["state"], told["reason"], told["kind"]) == ("succeeded", "manual", "backup")
    assert (told["verified"], told["findings"], told["exit_code"]) == (True, 0, 0)
    assert told["archive_bytes"] == os.path.getsize(told["archive"])
    assert len(shared.files(name)) == 3
    shared.check(name)

    told = lines(onggi.ok("plan", "show", name))
    assert told[0].startswith("packed: ")
    assert len([line for line in told if line.endswith("  verified")]) == 3
    archives = onggi.ok("plan", "show", name, "--json").result["archives"]
    assert archives[-1]["path"] == str(archive)
    assert all(each["is_verified"] and each["exists"] for each in archives)

    header, row = lines(onggi.ok("status", name))
    assert header.split() == [
        "plan", "last", "success", "age", "next", "run", "archives", "state",
    ]  # fmt: skip
    assert row.startswith("packed  20")
    assert row.endswith("  3         succeeded")
    [volume] = onggi.ok("status", name, "--json").result["volumes"]
    assert (volume["plan"], volume["archives"], volume["failures"]) == (name, 3, 0)
    newest = volume["newest"]
    assert newest == {key: archives[0][key] for key in newest}
    assert newest["path"] == archives[0]["path"]
    assert volume["last"]["run_id"] == run + 2
    assert volume["next_due_s"] > time.time()
    assert volume["last_success_s"] <= time.time()


def test_the_newest_archive_is_verified_when_asked(shared: Site) -> None:
    name, onggi = "proven", shared.onggi
    shared.add(name)
    ran = onggi.fails(2, "run", name, "--verify")
    assert "no archive to verify" in ran.err
    backup = onggi.ok("run", name, "--wait", "--json").result["run"]
    assert backup["verified"] is None
    told = onggi.ok("run", name, "--verify", "--wait", "--json").result["run"]
    assert (told["kind"], told["state"], told["verified"]) == ("verify", "succeeded", True)
    assert told["archive"] == backup["archive"]
    shared.check(name)

    path = Path(backup["archive"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-200] + bytes(100) + whole[-100:])
    ran = onggi("run", name, "--verify", "--wait")
    assert ran.code == 1
    assert lines(ran)[1].startswith("failed: ")
    failed = onggi.ok("history", name, "--failed", "--json").result["runs"]
    assert [run["kind"] for run in failed] == ["verify"]
    assert failed[0]["verified"] is False


def test_what_no_rule_keeps_is_removed_when_asked_and_told_before(shared: Site) -> None:
    name, onggi = "pruned", shared.onggi
    shared.add(name)
    for _ in range(3):
        shared.succeed(name)
    assert lines(onggi.ok("run", name, "--prune")) == ["there is nothing to remove"]
    onggi.ok("plan", "edit", name, "--keep", 1, "-q")
    before = shared.files(name)
    told = lines(onggi.ok("run", name, "--prune", "-n"))
    assert [line.split()[0] for line in told] == ["keep", "remove", "remove"]
    assert "last 1" in told[0]
    assert [line.rsplit("/", 1)[1].split()[0] for line in told] == [
        each.split("/")[-1] for each in reversed(before)
    ]
    decisions = onggi.ok("run", name, "--prune", "--dry-run", "--json").result
    assert decisions["run"] is None
    assert [bool(each["rules"]) for each in decisions["decisions"]] == [True, False, False]
    assert shared.files(name) == before
    run = onggi.ok("run", name, "--prune", "--wait", "--json").result["run"]
    assert (run["kind"], run["state"]) == ("prune", "succeeded")
    assert shared.files(name) == before[-1:]
    shared.check(name)

    # And after each backup, by itself.
    shared.succeed(name)
    assert shared.all_over(name)[-1] == ("prune", "after backup", "succeeded")
    assert len(shared.files(name)) == 1
    shared.check(name)


def test_a_run_that_fails_is_told_with_1_and_listed(shared: Site) -> None:
    name, onggi = "failing", shared.onggi
    shared.add(name, retries=0)
    shutil.rmtree(shared.source(name))
    ran = onggi("run", name, "--wait")
    assert (ran.code, ran.err) == (1, "")
    first, last = lines(ran)
    run = int(first.split()[1])
    assert last.startswith("failed: ")
    assert str(shared.source(name)) in last
    ran = onggi("run", name, "--wait", "--json")
    assert ran.code == ran.result["exit_code"] == 1
    assert ran.result["run"]["exit_code"] == 5
    ran = onggi("status", name)
    assert ran.code == 1
    assert "(2 times in a row)" in lines(ran)[1]
    assert onggi("status", name, "--json").result["exit_code"] == 1

    shared.fill(name)
    shared.succeed(name)
    onggi.ok("status", name)
    listed = lines(onggi.ok("history", name))
    assert listed[0].split() == [
        "run", "plan", "kind", "state", "when", "took", "size", "message",
    ]  # fmt: skip
    assert [line.split()[3] for line in listed[1:]] == ["succeeded", "failed", "failed"]
    failed = lines(onggi.ok("history", name, "--failed"))[1:]
    assert [line.split()[0] for line in failed] == [str(run + 1), str(run)]
    assert str(shared.source(name)) in failed[0]
    assert len(lines(onggi.ok("history", name, "-n", 1))) == 2
    runs = onggi.ok("history", name, "--failed", "--json").result["runs"]
    assert [each["run_id"] for each in runs] == [run + 1, run]
    everything = onggi.ok("history", "--json", "--limit", 1000).result["runs"]
    assert [each["run_id"] for each in everything] == sorted(
        (each["run_id"] for each in everything), reverse=True
    )
    shared.check(name)


def test_a_run_with_findings_is_warned_of(shared: Site) -> None:
    """What differs from the source is one, as the source may have changed."""
    name, onggi = "warned", shared.onggi
    shared.add(name, verify="after", verify_by="source")
    shared.succeed(name)
    shared.fill(name, b"brine")
    ran = onggi.ok("run", name, "--verify", "--wait")
    assert lines(ran)[1].startswith("warned: ")
    run = onggi.ok("run", name, "--verify", "--wait", "--json").result["run"]
    assert (run["state"], run["exit_code"]) == ("warned", 1)
    assert run["findings"] > 0


def test_a_run_is_cancelled_at_work_and_while_it_waits(shared: Site) -> None:
    name, onggi = "ended", shared.onggi
    shared.add(name, limit_bytes_per_s=SLOW, content=BIG)
    shared.fill("waiting")
    onggi.ok("plan", "add", "waiting", shared.source("waiting"), shared.target(name), "-q")
    run = shared.start(name)
    pid = shared.at_work(name, run)
    second = shared.start("waiting")  # one run works on a target at a time
    assert shared.run(second)["state"] == "pending"
    assert shared.start("waiting") == second, "there is one that waits already"
    assert lines(onggi.ok("cancel", second)) == [f"run {second} is cancelled"]
    assert onggi.ok("cancel", run, "--json").result["run"]["state"] == "cancelling"
    found = shared.ended(run)
    assert (found["state"], found["message"]) == ("cancelled", "by hand")
    assert not Path(f"/proc/{pid}").exists()
    assert shared.files(name) == []
    for number in (run, second):
        assert "is over (cancelled)" in onggi.fails(7, "cancel", number).err
    assert "is over" in said_by(onggi("cancel", run, "--json"), 7)
    onggi.ok("status", name)  # nothing has failed
    shared.fill(name)
    shared.succeed(name)
    shared.check(name)
    onggi.ok("plan", "rm", "waiting", "-q")


def test_waiting_for_a_run_can_be_given_up(shared: Site) -> None:
    shared.add("left", limit_bytes_per_s=SLOW, content=noisy(2 * MIB, 1))
    waiting = subprocess.Popen(
        [*shared.command, "run", "left", "--wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    until(lambda: shared.history("left"))
    [run] = shared.history("left")
    shared.at_work("left", run["run_id"])
    waiting.send_signal(signal.SIGINT)
    out, err = waiting.communicate(timeout=MOST_S)
    assert (waiting.returncode, err) == (130, b"onggi: interrupted\n"), out
    assert shared.ended(run["run_id"])["state"] == "succeeded"  # it goes on all the same


# --- status --watch and logs ---------------------------------------------------------------------


class Terminal:
    """A command that runs in a terminal, and what that shows."""

    def __init__(self, *words: str, lines: int = 24) -> None:
        self._leader, follower = pty.openpty()
        variables = dict(os.environ, TERM="xterm", COLUMNS="160", LINES=str(lines))
        self.process = subprocess.Popen(
            words, stdin=follower, stdout=follower, stderr=follower, env=variables,
            start_new_session=True,
        )  # fmt: skip
        os.close(follower)
        os.set_blocking(self._leader, False)
        self.shown = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._leader)

    def read(self) -> str:
        """Return all that was shown so far."""
        with suppress(OSError):  # nothing more now, or for ever
            while True:
                self.shown += os.read(self._leader, 1 << 16).decode()
        return self.shown

    def shows(self, pattern: str) -> bool:
        """Tell whether something was shown so far."""
        return re.search(pattern, self.read()) is not None

    def end(self) -> int:
        """Press Ctrl-C; return the exit code."""
        self.process.send_signal(signal.SIGINT)
        until(lambda: [self.read(), self.process.poll()][1] is not None)
        self.read()
        assert "Traceback" not in self.shown
        return int(self.process.returncode)


def test_status_is_watched_in_a_terminal_until_ctrl_c(site: Site) -> None:
    site.serve()
    site.source("watched").write_bytes(os.urandom(100 * MIB))  # five units
    site.target("watched").mkdir()
    for name in ("watched", *(f"z{number}" for number in range(8))):
        body = {
            "name": name, "source": str(site.source("watched")), "mode": "volume",
            "target": str(site.target("watched")), "limit_bytes_per_s": 20 * MIB,
        }  # fmt: skip
        site.client.send("POST", "/api/plans", body)
    with Terminal(*site.command, "status", "--watch", lines=8) as terminal:
        until(lambda: terminal.shows("watched +- +- +- +0 +never ran"))
        assert terminal.shows(r"and \d+ more; name some plans")
        run = site.start("watched")
        pace = "[0-9]+ %, [0-9.]+ MiB/s, [0-9]+ s left, held up by its limit"
        until(lambda: terminal.shows(rf"running {run}: pack, {pace}"))
        until(lambda: terminal.shows("watched .* 1 +succeeded"))
        assert terminal.end() == 130
        assert terminal.shown.rstrip().endswith("onggi: interrupted")
        assert "\x1b[?1049l" in terminal.shown, "the screen of before is not back"
    with Terminal(*site.command, "status", "--watch", "watched") as terminal:
        until(lambda: terminal.shows("succeeded"))
        assert not terminal.shows("z0")
        site.stop()
        until(lambda: [terminal.read(), terminal.process.poll()][1] is not None)
        assert terminal.process.returncode == 8
        assert terminal.read().rstrip().endswith("start one: onggi serve")
        assert "Traceback" not in terminal.shown


def test_the_log_of_a_run_is_followed_to_its_end(shared: Site) -> None:
    shared.add("logged", verify="after", limit_bytes_per_s=SLOW, content=noisy(MIB, 1))
    run = shared.start("logged")
    following = [
        subprocess.Popen([*shared.command, "logs", str(run), "-f", *more], stdout=subprocess.PIPE)
        for more in ((), ("--json",))
    ]
    texts = [each.communicate(timeout=MOST_S)[0].decode() for each in following]
    assert [each.returncode for each in following] == [0, 0]
    assert shared.run(run)["state"] == "succeeded"
    text, records = texts[0], [json.loads(line) for line in texts[1].splitlines()]
    assert f"onggi pack {shared.source('logged')}" in text
    assert "onggi verify" in text
    assert len(text.splitlines()) == len(records)
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", line) for line in text.splitlines())
    assert {(record["type"], record["command"]) for record in records} == {("log", "logs")}
    told = [record["line"] for record in records]
    assert {"pack", "verify"} <= {line["step"] for line in told}
    results = [line["step"] for line in told if line.get("type") == "result"]
    assert results == ["pack", "verify"]
    assert re.search(r"  pack +done, content 1\.0 MiB, archive ", text)
    again = shared.onggi.ok("logs", run)
    assert again.out.decode() == text
    assert again.out == shared.onggi.ok("logs", run, "-f").out


def test_the_log_of_a_run_that_failed_says_why(shared: Site) -> None:
    shared.add("why", retries=1)
    shutil.rmtree(shared.source("why"))
    run = shared.onggi("run", "why", "--wait", "--json").result["run"]
    assert run["attempt"] == 2
    text = shared.onggi.ok("logs", run["run_id"]).out.decode()
    assert text.count("onggi pack ") == 2
    assert text.count(f"failed: {run['message']}") == 2


# --- archives ------------------------------------------------------------------------------------


def test_an_archive_is_restored_as_it_was_then(shared: Site) -> None:
    name, onggi, out = "back", shared.onggi, shared.folder / "back"
    shared.add(name)
    assert "has no archive yet" in onggi.fails(2, "restore", name, "back").err
    for content in (b"first", b"second"):
        shared.fill(name, content)
        shared.succeed(name)
    newest, oldest = shared.client.get(f"/api/plans/{name}/archives")["archives"]

    ran = onggi.ok("restore", name, "back")
    assert ran.err.startswith(f"onggi: {newest['path']}, of 20")
    assert (out / "file").read_bytes() == b"second"
    ran = onggi("restore", name, "back", "--quiet")
    assert (ran.code, len(ran.err.splitlines())) == (1, 1), "what is there is not replaced"
    shutil.rmtree(out)

    then = datetime.fromtimestamp(newest["made_s"] - 0.001).isoformat(" ")
    records = onggi.ok("restore", name, "--at", then, "back", "--json").records
    assert (records[0]["type"], records[0]["archive"]) == ("archive", oldest["path"])
    assert (records[-1]["type"], records[-1]["command"]) == ("result", "unpack")
    assert (out / "file").read_bytes() == b"first"
    shutil.rmtree(out)

    before = datetime.fromtimestamp(oldest["made_s"] - 0.001).isoformat()
    assert "no archive that old" in onggi.fails(2, "restore", name, "--at", before, "back").err
    for at in ("yesterday", "2026-13-01", ""):
        assert "is no time" in onggi.fails(2, "restore", name, "--at", at, "back").err

    Path(newest["path"]).unlink()  # the one before it is there
    onggi.ok("restore", name, "back", "--quiet")
    assert (out / "file").read_bytes() == b"first"
    shutil.rmtree(out)
    Path(oldest["path"]).unlink()
    assert "is its target mounted?" in onggi.fails(5, "restore", name, "back").err
    assert not out.exists()
    assert lines(onggi.ok("plan", "show", name))[-1].endswith(", not there")


def test_archives_of_a_plan_that_was_removed_are_restored(shared: Site) -> None:
    shared.add("gone")
    shared.succeed("gone")
    shared.onggi.ok("plan", "rm", "gone", "-q")
    shared.onggi.ok("restore", "gone", "gone-back", "-q")
    assert (shared.folder / "gone-back" / "file").read_bytes() == b"kimchi"


@pytest.mark.needs("root", "fuse", "mount")
def test_all_archives_of_a_plan_are_mounted_by_its_name(shared: Site) -> None:
    name, onggi, place = "shown", shared.onggi, shared.folder / "place"
    shared.add(name)
    place.mkdir()
    for content in (b"first", b"second"):
        shared.fill(name, content)
        shared.succeed(name)
    try:
        onggi.ok("mount", name, "place")
        seen = sorted(path.relative_to(place).as_posix() for path in place.glob("*/*"))
        assert len(seen) == 2
        assert [(place / each).read_bytes() for each in seen] == [b"first", b"second"]
        onggi.ok("umount", "place")
        onggi.fails(5, "mount", "no-plan", "place")
        (shared.folder / name).mkdir()  # what is there comes first
        onggi.ok("mount", name, "place", "-q")
        assert os.listdir(place) == []
        onggi.ok("umount", "place", "-q")
    finally:
        take_away(place)
    # As the page does it.
    folder = Path(shared.client.send("POST", f"/api/plans/{name}/mount")["folder"])
    try:
        assert shared.client.send("POST", f"/api/plans/{name}/mount")["folder"] == str(folder)
        assert len([*folder.glob("*/file")]) == 2
        shared.client.send("POST", f"/api/plans/{name}/umount")
        assert not is_mounted(folder)
    finally:
        take_away(folder)
