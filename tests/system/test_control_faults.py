"""The server and its work when something goes wrong for real: kills, full disks, lost mounts."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from .control_helpers import BIG, MARKER, MIB, SLOW, Json, Site, is_alive, until
from .control_helpers import site as site

MANUAL = ("backup", "manual")
MADE_UP = ("backup", "made up")


@contextmanager
def tmpfs(place: Path, size: str = "4M") -> Iterator[None]:
    """Have a small file system in memory on a folder."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)


def fill_up(folder: Path) -> Path:
    """Leave no byte free where a folder is; return the file that takes them."""
    path = folder / "filler"
    with path.open("ab", buffering=0) as file:
        for length in (1 << 16, 1):
            with suppress(OSError):
                while file.write(bytes(length)):
                    pass
    assert os.statvfs(folder).f_bavail == 0
    return path


# --- kills ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_work_killed", [False, True], ids=["server", "server-and-work"])
def test_a_run_whose_server_was_killed_is_lost_and_made_up_once(
    is_work_killed: bool, site: Site
) -> None:
    site.serve()
    site.add("home", limit_bytes_per_s=SLOW, content=BIG)
    run = site.start("home")
    pid = site.at_work("home", run)
    if is_work_killed:  # nothing that happens to the server makes it clean up any more
        os.kill(pid, signal.SIGSTOP)
    site.kill()
    if is_work_killed:
        os.kill(pid, signal.SIGKILL)
        until(lambda: not is_alive(pid))
        assert site.parts("home")
    else:  # it ends with its server, and takes what was half-written with it
        until(lambda: not is_alive(pid), 10)
        assert site.files("home") == []
    site.onggi.fails(8, "status")
    site.fill("home")
    site.serve()
    assert site.all_over("home") == [(*MANUAL, "lost"), (*MADE_UP, "succeeded")]
    lost, again = site.history("home")
    assert lost["message"] == "the server ended while it was at work"
    assert (lost["archive"], lost["attempt"]) == ("", 1)
    assert again["message"] == ""
    site.check("home")
    site.stop()
    site.serve()
    assert len(site.states("home")) == 2
    site.check("home")


def test_work_that_is_killed_is_tried_again(site: Site) -> None:
    site.serve()
    site.add("home", limit_bytes_per_s=SLOW, content=BIG)
    run = site.start("home")
    pid = site.at_work("home", run)
    site.fill("home")
    os.kill(pid, signal.SIGKILL)
    assert site.ended(run)["state"] == "succeeded"
    assert site.run(run)["attempt"] == 2
    assert site.states("home") == [(*MANUAL, "succeeded")]
    site.check("home")


def test_work_that_is_killed_each_time_fails_and_is_told_of(site: Site) -> None:
    site.serve()
    site.add("home", retries=1, limit_bytes_per_s=SLOW, content=BIG)
    run = site.start("home")
    for attempt in (1, 2):
        until(lambda: site.run(run)["attempt"] == attempt)  # noqa: B023
        os.kill(site.at_work("home", run), signal.SIGKILL)
        until(lambda: site.run(run)["state"] != "running")
    found = site.ended(run)
    assert (found["state"], found["attempt"]) == ("failed", 2)
    assert found["message"] == "pack was killed by signal 9"
    site.check("home")
    ran = site.onggi("status")
    assert ran.code == 1
    assert b"pack was killed by signal 9" in ran.out


def test_a_server_that_is_told_to_end_ends_its_work_and_does_it_when_it_is_back(
    site: Site,
) -> None:
    site.serve()
    # It is no failure of the run: nothing is counted as an attempt that went wrong.
    site.add("home", retries=0, limit_bytes_per_s=SLOW, content=BIG)
    run = site.start("home")
    pid = site.at_work("home", run)
    started_s = time.monotonic()
    site.stop()
    assert time.monotonic() - started_s < 10
    assert not is_alive(pid)
    assert site.files("home") == []
    site.fill("home")
    site.serve()
    found = site.ended(run)
    assert (found["state"], found["attempt"]) == ("succeeded", 2)
    assert site.states("home") == [(*MANUAL, "succeeded")]
    site.check("home")


# --- targets -------------------------------------------------------------------------------------


@pytest.mark.needs("root", "mount")
def test_a_run_for_which_there_is_no_room_fails_and_leaves_nothing(site: Site) -> None:
    site.serve()
    with tmpfs(site.target("home")):
        site.add("home", retries=1, content=os.urandom(8 * MIB))
        ran = site.onggi("run", "home", "--wait", "--json")
        assert ran.code == 1
        run = ran.result["run"]
        assert (run["state"], run["exit_code"], run["attempt"]) == ("failed", 6, 2)
        assert re.search(
            r"No space left on device.* \([0-9,]+ bytes are free on \S+\)$", run["message"]
        )
        assert site.files("home") == []
        site.check("home")
        site.fill("home", os.urandom(MIB))
        site.onggi.ok("run", "home", "--wait")
        site.check("home")


@pytest.mark.needs("root", "mount")
def test_nothing_is_written_where_a_target_is_not_mounted(site: Site) -> None:
    site.serve()
    target = site.target("home")
    said = f"the target {target} is not mounted: its marker file is missing"
    with tmpfs(target):
        site.add("home", retries=0)
        site.onggi.ok("run", "home", "--wait")
        [archive] = site.files("home")
        # A mount of the same file system elsewhere keeps it alive.
        kept = site.folder / "kept"
        kept.mkdir()
        subprocess.run(["mount", "--bind", target, kept], check=True)
        try:
            subprocess.run(["umount", target], check=True)
            ran = site.onggi("run", "home", "--wait")
            assert (ran.code, ran.out.decode().splitlines()[1]) == (1, f"failed: {said}")
            for words in (("--prune",), ("--verify",)):
                site.onggi("run", "home", "--wait", *words)
            site.onggi.ok("plan", "edit", "home", "--retries", 20, "-q")
            assert os.listdir(target) == []
            run = site.start("home")
            until(lambda: said in site.run(run)["message"])
            assert os.listdir(target) == []
            subprocess.run(["mount", "--bind", kept, target], check=True)
        finally:
            subprocess.run(["umount", kept], check=True)
        # It is tried again, and works, without anybody's help.
        assert site.ended(run)["state"] == "succeeded"
        site.onggi.ok("verify", target / archive, "-q")
        site.check("home")


@pytest.mark.needs("root", "mount")
def test_nothing_is_written_to_what_else_is_mounted_on_a_target(site: Site) -> None:
    site.serve()
    target = site.target("home")
    site.add("home", retries=0)
    with tmpfs(target):
        (target / MARKER).write_text("of another disk\n")
        ran = site.onggi("run", "home", "--wait")
        assert ran.code == 1
        assert b"something else is mounted" in ran.out
        ran = site.onggi.fails(7, "plan", "edit", "home", "--nice")
        assert "is another place than it was" in ran.err
        assert os.listdir(target) == [MARKER]
    site.succeed("home")
    site.check("home")


@pytest.mark.needs("root", "mount")
def test_a_target_that_is_lost_while_work_writes_to_it(site: Site) -> None:
    """Unmounted lazily, as a disk that is pulled: the work fails, or ends where nobody sees it."""
    site.serve()
    target = site.target("home")
    with tmpfs(target, "64M"):
        site.add("home", retries=0, limit_bytes_per_s=SLOW, content=BIG)
        run = site.start("home")
        site.at_work("home", run)
        site.fill("home")
        subprocess.run(["umount", "--lazy", target], check=True)
        found = site.ended(run)
        assert found["state"] == "failed", found
        assert os.listdir(target) == []
    (target / MARKER).write_text("none of its own")


# --- what the server keeps -----------------------------------------------------------------------


@pytest.mark.needs("root", "mount")
def test_with_a_full_disk_the_server_goes_on_says_so_and_loses_nothing(site: Site) -> None:
    with tmpfs(site.state):
        site.serve()
        site.add("before")
        site.add("home", limit_bytes_per_s=SLOW, content=BIG)
        site.add("due", every="1h")
        site.succeed("before")
        site.stop()
        with sqlite3.connect(site.state / "onggi.db") as sql:  # due in a moment
            at_s = time.time() + 3
            sql.execute(
                "UPDATE plans SET created_s = ?, scheduled_s = ? WHERE name = 'due'",
                (at_s - 3600, at_s - 60),
            )
        sql.close()
        site.serve()
        run = site.start("home")
        pid = site.at_work("home", run)
        assert site.states("due") == [], "this machine is too slow for this test"
        filler = fill_up(site.state)
        site.fill("home")
        os.kill(pid, signal.SIGKILL)  # the end of it can't be noted now
        for words in (("run", "before"), ("plan", "pause", "before"), ("plan", "rm", "before")):
            ran = site.onggi.fails(6, *words)
            assert "the server's database can't be written" in ran.err
        for line in ("status", "history", "plan show home", "logs 1"):
            site.onggi.ok(*line.split())
        until(lambda: time.time() > at_s)
        until(lambda: site.said.count("the server's database can't be written") > 1)
        assert site.run(run)["state"] == "running"
        assert len(site.said) < 20_000, "it says so again and again"
        filler.unlink()
        # Asking for something has it look again; else that takes a few seconds.
        site.succeed("before")
        assert site.all_over("due") == [("backup", "schedule", "succeeded")]
        assert site.ended(run)["state"] == "succeeded"
        assert site.run(run)["attempt"] == 2
        for name in ("before", "home", "due"):
            site.check(name)
        site.stop()


@pytest.mark.needs("root", "mount")
def test_a_disk_that_is_full_when_work_ends_and_the_server_too_costs_no_archive(
    site: Site,
) -> None:
    with tmpfs(site.state):
        site.serve()
        site.add("home", limit_bytes_per_s=SLOW, content=BIG[:MIB])
        run = site.start("home")
        pid = site.at_work("home", run)
        filler = fill_up(site.state)
        until(lambda: not is_alive(pid))
        until(lambda: "can't be written" in site.said)
        assert site.run(run)["state"] == "running"
        site.kill()
        filler.unlink()
        site.serve()
        found = site.ended(run)
        assert found["archive"], found
        site.all_over("home")
        site.check("home")
        site.stop()


def test_sixty_plans_that_are_due_at_once_are_each_made_up_once(site: Site) -> None:
    count = 60
    names = [f"p{number:02}" for number in range(count)]
    targets = [site.folder / f"t{number}" for number in range(6)]
    for target in targets:
        target.mkdir()
    plans = ""
    for number, name in enumerate(names):
        site.fill(name)
        target = targets[number % len(targets)]
        plans += (
            f'[plan.{name}]\nsource = "{site.source(name)}"\ntarget = "{target}"\n'
            'every = "1h"\nverify = "never"\n'
        )
    site.serve()
    site.onggi.ok("plan", "apply", "-", "-q", stdin=plans.encode())
    site.stop()
    now_s = time.time()
    with sqlite3.connect(site.state / "onggi.db") as sql:  # three times went by
        sql.execute(
            "UPDATE plans SET created_s = ?, scheduled_s = ?",
            (now_s - 9 * 3600 - 1800, now_s - 3 * 3600),
        )
    sql.close()

    def runs() -> list[Json]:
        found: list[Json] = site.client.get("/api/runs", limit=1000)["runs"]
        return found

    site.serve()
    until(lambda: sum(run["state"] == "succeeded" for run in runs()) > count // 4, every_s=0.2)
    site.kill()  # in the middle of it
    site.serve()
    until(lambda: all(run["ended_s"] is not None for run in runs()), every_s=0.2)
    ended: Counter[str] = Counter()
    for name in names:
        missed, made = (run for run in reversed(runs()) if run["plan"] == name)
        assert (missed["reason"], missed["state"]) == ("schedule", "missed")
        assert missed["message"].startswith("2 times went by")
        assert made["reason"] == "made up"
        assert made["due_s"] == pytest.approx(missed["due_s"] + 3600)
        ended[made["state"]] += 1
    # What was at work when the server was killed; of what is made up, no more is made up.
    assert ended["lost"] <= len(targets)
    assert ended["lost"] + ended["succeeded"] == count, ended
    there = [str(path) for target in targets for path in target.glob("*/*") if path.name != MARKER]
    assert sorted(there) == sorted(run["archive"] for run in runs() if run["archive"])
    assert len(there) >= ended["succeeded"]
    site.stop()
    site.serve()
    assert len(runs()) == 2 * count
