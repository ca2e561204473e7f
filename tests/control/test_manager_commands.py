"""Commands to a manager: the same twice, in the wrong order, too late, or very many at once."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from onggi.control.agent import Patience
from onggi.control.errors import ConflictError
from onggi.control.manager import Manager
from onggi.control.messages import Ended, Event, Start, Started, Step, Work

from .manager_helpers import SHORT, Node, Place, in_loop, is_alive, script, soon

WAITS = """
note(words[0], str(os.getpid()))
while not os.path.exists(words[1]):
    time.sleep(0.01)
result()
"""
SLEEPS = """
note(words[0], str(os.getpid()))
time.sleep(120)
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


class Waiting:
    """Work that goes on until it may end."""

    def __init__(self, place: Place, run_id: int = 1, attempt: int = 1) -> None:
        self.begun = place.folder / f"begun{run_id}"
        self.may_end = place.folder / f"may-end{run_id}"
        step = Step("verify", (str(self.begun), str(self.may_end)))
        self.work = Work(run_id, attempt, (step,))

    @property
    def times(self) -> int:
        """How often it was begun."""
        return len(self.begun.read_text().splitlines()) if self.begun.exists() else 0


# --- the same command again ------------------------------------------------------------------


@in_loop
async def test_a_run_that_is_started_twice_is_done_once(place: Place) -> None:
    waiting = Waiting(place)
    async with Node(place.state, script(place.folder, WAITS)) as node:
        await asyncio.gather(*(node.start(waiting.work) for _ in range(5)))
        await soon(waiting.begun.exists)
        await node.start(waiting.work)
        assert set(node.events) == {Started(1, 1)}
        waiting.may_end.touch()
        end = await node.end()
        await node.start(waiting.work)
        assert node.events[-1] == end, "what became of it is told again"
        assert waiting.times == 1
    assert end.outcome == "done"


@in_loop
async def test_an_attempt_that_was_is_not_done_again_and_the_next_one_is(place: Place) -> None:
    waiting = Waiting(place)
    waiting.may_end.touch()
    for takes in (True, False):
        async with Node(place.state, script(place.folder, WAITS), takes=takes) as node:
            await node.do(replace(waiting.work, attempt=2 if takes else 5))
            await node.start(replace(waiting.work, attempt=1))
            assert node.ends[-1].attempt == (2 if takes else 5)
            assert waiting.times == (1 if takes else 3)
            end = await node.do(replace(waiting.work, attempt=3 if takes else 6))
            assert (end.outcome, end.attempt) == ("done", 3 if takes else 6)
            node.manager.taken(1)
    assert waiting.times == 4
    assert not list((place.state / "journal").iterdir())


@in_loop
async def test_while_an_attempt_is_at_work_no_other_one_is_begun(place: Place) -> None:
    waiting = Waiting(place)
    async with Node(place.state, script(place.folder, WAITS)) as node:
        await node.start(waiting.work)
        await soon(waiting.begun.exists)
        await node.start(replace(waiting.work, attempt=2))
        assert node.events[-1] == Started(1, 1)
        waiting.may_end.touch()
        await node.end()
        assert waiting.times == 1


@in_loop
async def test_a_master_that_fails_does_not_stop_the_work(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Event] = []

    def tell(event: Event) -> None:
        heard.append(event)
        if len(heard) < 4:
            raise OSError("the database is full")

    place.state.mkdir()
    manager = Manager(place.state, script(place.folder, "result()"), tell, retell_s=0.02)
    with caplog.at_level(logging.CRITICAL, "onggi.manager"):
        await manager.take(Start(Work(1, 1, (Step("verify", ()),))))
        await soon(lambda: len(heard) >= 5)
    manager.taken(1)
    await manager.close()
    assert [type(event) for event in heard[:3]] == [Started, Ended, Ended]


# --- cancel ----------------------------------------------------------------------------------


@in_loop
async def test_a_run_that_is_cancelled_before_it_is_started_is_not_begun(place: Place) -> None:
    waiting = Waiting(place)
    waiting.may_end.touch()
    async with Node(place.state, script(place.folder, WAITS)) as node:
        await node.cancel(1)
        assert node.events == []
        end = await node.do(waiting.work)
        assert (end.outcome, waiting.times) == ("stopped", 0)
        assert (await node.do(replace(waiting.work, attempt=2))).outcome == "done"


@in_loop
async def test_a_run_that_is_cancelled_at_once_does_nothing(place: Place) -> None:
    async with Node(place.state) as node:
        await node.start(place.pack())
        await node.cancel(1)
        end = await node.end()
    assert end.outcome == "stopped"
    assert place.files() == [".onggi-target"]


@in_loop
async def test_a_run_that_is_cancelled_ends_well_and_leaves_nothing(place: Place) -> None:
    place.big()
    async with Node(place.state) as node:
        await node.start(place.pack("--level", "19", "--threads", "1"))
        pid = await node.pid()
        await soon(place.parts)
        for _ in range(3):
            await node.cancel(1)
        end = await node.end()
    assert (end.outcome, end.exit_code, end.message) == ("stopped", 143, "")
    assert place.files() == [".onggi-target", "plan"]
    assert not is_alive(pid)


@in_loop
async def test_a_run_that_is_cancelled_between_steps_does_no_more(place: Place) -> None:
    """The first step ends well though it was told to stop: what it has made is there."""
    body = """
def end(*_):
    note(words[1], "x")
    result(archive_bytes=1)
    sys.exit(0)

signal.signal(signal.SIGTERM, end)
note(words[0], "begun")
time.sleep(120)
"""
    place.archive.parent.mkdir()
    begun = place.folder / "begun"
    first = Step("pack", (str(begun), str(place.archive)))
    second = Step("verify", (str(place.folder / "second"), ""))
    async with Node(place.state, script(place.folder, body)) as node:
        await node.start(place.work(first, second, makes=True))
        await soon(begun.exists)
        await node.cancel(1)
        end = await node.end()
    assert (end.outcome, end.archive, end.verified) == ("stopped", str(place.archive), False)
    assert not (place.folder / "second").exists()


@in_loop
async def test_work_that_is_done_before_it_hears_is_done(place: Place) -> None:
    body = """
signal.signal(signal.SIGTERM, lambda *_: (result(), sys.exit(0)))
note(words[0], "begun")
time.sleep(120)
"""
    begun = place.folder / "begun"
    async with Node(place.state, script(place.folder, body)) as node:
        await node.start(Work(1, 1, (Step("verify", (str(begun),)),)))
        await soon(begun.exists)
        await node.cancel(1)
        assert (await node.end()).outcome == "done"


@in_loop
async def test_a_run_that_is_cancelled_after_its_end_tells_it_again(place: Place) -> None:
    command = script(place.folder, "result()")
    work = Work(1, 1, (Step("verify", ()),))
    async with Node(place.state, command, takes=False) as node:
        end = await node.do(work)
        await node.cancel(1)
        assert node.ends == [end, end]
        node.manager.taken(1)
        await node.cancel(1)
        assert node.ends == [end, end]
        again = await node.do(replace(work, attempt=2))
        assert again.outcome == "done", "the cancel was for the attempt before"
        node.manager.taken(1)


@pytest.mark.parametrize("state", ["deaf", "stopped"])
@in_loop
async def test_work_that_does_not_hear_is_killed_after_the_grace_period(
    place: Place, state: str
) -> None:
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEPS
    begun = place.folder / "begun"
    async with Node(place.state, script(place.folder, body), patience=SHORT) as node:
        await node.start(place.work(Step("pack", (str(begun),)), makes=True))
        await soon(begun.exists)
        part = place.archive.parent / f".{place.archive.name}.0123abcd.onggi-part"
        part.write_text("half")
        pid = int(begun.read_text())
        if state == "stopped":
            os.kill(pid, signal.SIGSTOP)
        start_s = time.monotonic()
        await node.cancel(1)
        end = await node.end()
        took_s = time.monotonic() - start_s
    assert end.outcome == "stopped"
    assert end.message == "pack did not end when it was told to, and was killed"
    assert SHORT.grace_s <= took_s < SHORT.grace_s + 5
    assert not is_alive(pid)
    assert not part.exists()


@in_loop
async def test_work_that_was_suspended_still_ends_well(place: Place) -> None:
    begun = place.folder / "begun"
    body = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n" + SLEEPS
    patience = Patience(grace_s=20)
    async with Node(place.state, script(place.folder, body), patience=patience) as node:
        await node.start(Work(1, 1, (Step("pack", (str(begun),)),)))
        await soon(begun.exists)
        os.kill(int(begun.read_text()), signal.SIGSTOP)
        start_s = time.monotonic()
        await node.cancel(1)
        end = await node.end()
        assert time.monotonic() - start_s < 10
    assert (end.outcome, end.exit_code) == ("stopped", 143)


@in_loop
async def test_work_that_somebody_else_ends_has_failed(place: Place) -> None:
    begun = place.folder / "begun"
    body = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n" + SLEEPS
    async with Node(place.state, script(place.folder, body)) as node:
        await node.start(Work(1, 1, (Step("pack", (str(begun),)),)))
        await soon(begun.exists)
        os.kill(int(begun.read_text()), signal.SIGTERM)
        end = await node.end()
    assert (end.outcome, end.exit_code, end.is_final) == ("failed", 143, False)
    assert end.message == "pack ended with exit code 143"


@in_loop
async def test_children_of_work_end_with_it(place: Place) -> None:
    body = """
child = subprocess.Popen(["sleep", "120"])
note(words[0], str(child.pid))
time.sleep(120) if words[1] == "wait" else result()
"""
    patience = Patience(drain_s=100)  # they hold the pipes
    async with Node(place.state, script(place.folder, body), patience=patience) as node:
        for run_id, how in ((1, "wait"), (2, "end")):
            begun = place.folder / how
            await node.start(Work(run_id, 1, (Step("verify", (str(begun), how)),)))
            await soon(lambda begun=begun: begun.exists() and begun.read_text().endswith("\n"))
            await node.cancel(run_id) if how == "wait" else None
            end = await node.end(run_id)
            assert end.outcome == ("stopped" if how == "wait" else "done")
            pid = int(begun.read_text())
            await soon(lambda pid=pid: not is_alive(pid), 5)


# --- close -----------------------------------------------------------------------------------


@in_loop
async def test_close_ends_all_work_and_then_nothing_is_taken(place: Place) -> None:
    begun = [place.folder / f"begun{run_id}" for run_id in range(6)]
    node = Node(place.state, script(place.folder, SLEEPS), takes=False)
    for run_id, path in enumerate(begun):
        await node.start(Work(run_id, 1, (Step("verify", (str(path),)),)))
    await soon(lambda: all(path.exists() and path.read_text() for path in begun[:5]))
    await node.start(Work(9, 1, (Step("verify", (str(place.folder / "late"),)),)))
    await node.manager.close()
    assert {end.run_id: end.outcome for end in node.ends} == dict.fromkeys(
        [*range(6), 9], "stopped"
    )
    assert not (place.folder / "late").exists()
    with pytest.raises(ConflictError, match="closed"):
        await node.start(Work(10, 1))
    await node.manager.close()
    async with Node(place.state) as after:
        await after.manager.recover()
        assert sorted(end.run_id for end in after.ends) == [*range(6), 9], "and it is told again"


def test_a_loop_that_is_torn_down_leaves_no_process(place: Place) -> None:
    """As by Ctrl-C, without `close`; what was at work is found by the next manager."""
    begun = place.folder / "begun"

    async def main() -> None:
        node = Node(place.state, script(place.folder, SLEEPS))
        await node.start(Work(1, 1, (Step("verify", (str(begun),)),)))
        await soon(lambda: begun.exists() and begun.read_text())

    asyncio.run(main())
    gc.collect()  # and the threads with the manager
    assert not is_alive(int(begun.read_text()))

    @in_loop
    async def recover() -> None:
        async with Node(place.state) as node:
            await node.manager.recover()
            assert [end.outcome for end in node.ends] == ["vanished"]

    recover()


# --- very many -------------------------------------------------------------------------------

COUNTS = """
note(words[0] + "/" + words[1])
time.sleep(0.05)
note(words[0] + "/max", str(len([x for x in os.listdir(words[0]) if x.isdigit()])))
os.unlink(words[0] + "/" + words[1])
result()
"""


@in_loop
async def test_two_hundred_runs_at_once_are_all_done(place: Place) -> None:
    shell = place.folder / "script.sh"
    shell.write_text('echo x >> "$1"\necho \'{"type": "result", "exit_code": 0}\'\n')
    said = place.folder / "said"
    async with Node(place.state, ("/bin/sh", str(shell))) as node:
        works = [Work(run_id, 1, (Step("verify", (str(said),)),)) for run_id in range(200)]
        await asyncio.gather(*map(node.start, works))
        await soon(lambda: len(node.ends) == 200)
    assert {end.outcome for end in node.ends} == {"done"}
    assert len({end.run_id for end in node.ends}) == 200
    assert said.read_text() == "x\n" * 200
    assert not list((place.state / "journal").iterdir())


@in_loop
async def test_as_many_work_at_a_time_as_the_master_starts(place: Place) -> None:
    """The limit is the master's: it starts the next one when one has ended."""
    counts = place.folder / "counts"
    counts.mkdir()
    most, waiting = 4, list(range(60))
    async with Node(place.state, script(place.folder, COUNTS)) as node:
        while len(node.ends) < 60:
            while waiting and 60 - len(waiting) - len(node.ends) < most:
                run_id = waiting.pop()
                step = Step("verify", (str(counts), str(run_id)))
                await node.start(Work(run_id, 1, (step,)))
            told = len(node.ends)
            await soon(lambda told=told: len(node.ends) > told)
    assert {end.outcome for end in node.ends} == {"done"}
    at_a_time = [int(line) for line in (counts / "max").read_text().split()]
    assert 1 < max(at_a_time) <= most
