"""Work that is killed, managers that are killed, journals that are damaged, targets that fail."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onggi.control.journal import Entry, Journal
from onggi.control.messages import VANISHED, Ended, Started, Step
from onggi.control.process import identity_of

from .manager_helpers import (
    MARKER,
    SHORT,
    Node,
    Place,
    in_loop,
    is_alive,
    journal_of,
    manager_process,
    mounted,
    script,
    soon,
    until,
)

SLOW = ("--level", "19", "--threads", "1")
STUBBORN = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
note(words[0], str(os.getpid()))
time.sleep(120)
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def innocent() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is nobody's business."""
    with subprocess.Popen(["sleep", "120"], start_new_session=True) as process:
        yield process
        process.kill()


# --- work that is killed ---------------------------------------------------------------------


@in_loop
async def test_work_that_is_killed_has_failed_leaves_nothing_and_may_be_tried_again(
    place: Place,
) -> None:
    place.big()
    async with Node(place.state) as node:
        await node.start(place.pack(*SLOW))
        pid = await node.pid()
        await soon(place.parts)
        os.kill(pid, signal.SIGKILL)
        end = await node.end()
        assert (end.outcome, end.exit_code, end.is_final) == ("failed", None, False)
        assert end.message == "pack was killed by signal 9"
        assert end.archive == ""
        assert place.files() == [".onggi-target", "plan"]
        again = await node.do(place.pack("--level", "1", attempt=2))
    assert again.outcome == "done", again.message
    assert place.archive.exists()


@in_loop
async def test_an_archive_that_was_done_when_its_maker_was_killed_is_told_of(place: Place) -> None:
    """A kill after it got its name, and before the temporary name went."""
    body = """
os.makedirs(os.path.dirname(words[0]), exist_ok=True)
part = os.path.join(os.path.dirname(words[0]), f".{os.path.basename(words[0])}.0123abcd.onggi-part")
note(part, "the archive")
os.link(part, words[0])
os.kill(os.getpid(), signal.SIGKILL)
"""
    step = Step("pack", (str(place.archive),))
    async with Node(place.state, script(place.folder, body)) as node:
        end = await node.do(place.work(step, makes=True))
    assert (end.outcome, end.message) == ("failed", "pack was killed by signal 9")
    assert (end.archive, end.archive_bytes) == (str(place.archive), 12)
    assert place.files() == [".onggi-target", "plan", f"plan/{place.archive.name}"]


@in_loop
async def test_temporary_files_of_others_are_left_alone(place: Place) -> None:
    name = place.archive.name
    others = [
        f".{name}.0123abcd.onggi-part2", f".{name}.0123abc.onggi-part", f"{name}.onggi-part",
        ".2026-11-25T02-00-00Z.onggi.0123abcd.onggi-part", f".x{name}.0123abcd.onggi-part",
    ]  # fmt: skip
    folder = place.archive.parent
    folder.mkdir()
    for other in others:
        (folder / other).write_text("x")
    (folder / f".{name}.0123abcd.onggi-part").write_text("x")
    async with Node(place.state, script(place.folder, "sys.exit(5)")) as node:
        await node.do(place.work(Step("pack", ()), makes=True))
    assert sorted(path.name for path in folder.iterdir()) == sorted(others)


# --- a manager that is killed ----------------------------------------------------------------


def test_work_ends_with_its_manager_and_the_next_one_finds_it_dead(place: Place) -> None:
    place.big()
    with manager_process(place.state, place.pack(*SLOW)) as process:
        pid = journal_of(place.state)["process"]["pid"]
        until(place.parts)
        process.kill()
        process.wait()
        until(lambda: not is_alive(pid), 10)

    @in_loop
    async def recover() -> None:
        async with Node(place.state) as node:
            await node.manager.recover()
            (end,) = node.ends
            assert (end.outcome, end.attempt, end.is_final) == ("vanished", 1, False)
            assert end.message
            assert place.files() == [".onggi-target", "plan"]
            assert not list((place.state / "journal").iterdir())
            assert (await node.do(place.pack("--level", "1", run_id=2))).outcome == "done"

    recover()


def test_work_that_says_nothing_ends_with_its_manager_too(place: Place) -> None:
    """It writes to no pipe, so that only the bond can end it."""
    begun = place.folder / "begun"
    command = script(place.folder, "note(words[0], str(os.getpid()))\ntime.sleep(120)")
    work = place.work(Step("verify", (str(begun),)))
    with manager_process(place.state, work, command) as process:
        until(lambda: begun.exists() and begun.read_text().endswith("\n"))
        process.kill()
        process.wait()
        until(lambda: not is_alive(int(begun.read_text())), 10)


def test_work_that_does_not_end_with_its_manager_is_ended_by_the_next_one(place: Place) -> None:
    said = place.folder / "said"
    folder = place.archive.parent
    folder.mkdir()
    part = folder / f".{place.archive.name}.0123abcd.onggi-part"
    part.write_text("half")
    command = script(place.folder, STUBBORN)
    step = Step("pack", (str(said),))
    with manager_process(place.state, place.work(step, makes=True), command) as process:
        until(said.exists)
        pid = journal_of(place.state)["process"]["pid"]
        part.write_text("half")
        process.kill()
        process.wait()
    assert is_alive(pid)

    @in_loop
    async def recover() -> None:
        async with Node(place.state, command, patience=SHORT) as node:
            await node.manager.recover()
            assert [end.outcome for end in node.ends] == ["vanished"]
            assert not is_alive(pid)
            assert not part.exists()

    recover()


def test_the_work_of_a_dead_manager_is_ended_all_at_a_time(place: Place) -> None:
    """And not one grace period after the other."""
    place.state.mkdir()
    command = script(place.folder, STUBBORN)
    journal = Journal(place.state / "journal")
    processes: list[subprocess.Popen[bytes]] = []
    for run_id in range(5):
        said = place.folder / f"said{run_id}"
        processes.append(subprocess.Popen([*command, said, "--json"], start_new_session=True))
        until(said.exists)
        known = identity_of(processes[-1].pid)
        journal.write(Entry(Ended(run_id, 1, VANISHED), process=known))

    @in_loop
    async def recover() -> None:
        async with Node(place.state, patience=replace(SHORT, grace_s=1.0)) as node:
            start_s = time.monotonic()
            recovery = asyncio.create_task(node.manager.recover())
            for process in processes:  # here they are children, and must be buried
                await asyncio.to_thread(process.wait)
            await recovery
            assert 1 <= time.monotonic() - start_s < 4
            assert sorted(end.run_id for end in node.ends) == list(range(5))

    try:
        recover()
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.parametrize("other", ["start", "boot"])
def test_a_process_that_has_the_number_of_a_dead_one_is_not_killed(
    place: Place, innocent: subprocess.Popen[bytes], other: str
) -> None:
    known = identity_of(innocent.pid)
    assert known is not None
    if other == "start":
        known = replace(known, start_ticks=known.start_ticks - 1)
    else:
        known = replace(known, boot="6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    place.state.mkdir()
    Journal(place.state / "journal").write(Entry(Ended(1, 3, VANISHED), process=known))

    async def recover() -> None:
        async with Node(place.state, patience=SHORT) as node:
            await node.manager.recover()
            assert [(end.outcome, end.attempt) for end in node.ends] == [("vanished", 3)]

    asyncio.run(recover())
    assert innocent.poll() is None
    assert is_alive(innocent.pid)


def test_a_manager_does_not_end_itself(place: Place) -> None:
    """Its own number may be in the journal of one before it, in a container that was restarted."""
    place.state.mkdir()
    Journal(place.state / "journal").write(
        Entry(Ended(1, 1, VANISHED), process=identity_of(os.getpid()))
    )

    async def recover() -> None:
        async with Node(place.state, patience=SHORT) as node:
            start_s = time.monotonic()
            await node.manager.recover()
            assert [end.outcome for end in node.ends] == ["vanished"]
            assert time.monotonic() - start_s < 5, "nor waits for its own end"

    asyncio.run(recover())


@in_loop
async def test_after_a_power_loss_nothing_is_left_but_the_news(place: Place) -> None:
    """An entry in the journal, and no process; of another boot."""
    folder = place.archive.parent
    folder.mkdir()
    (folder / f".{place.archive.name}.0123abcd.onggi-part").write_text("half")
    (folder / f".{place.scratch.name}.0123abcd.onggi-part").write_text("half a volume")
    place.scratch.mkdir()
    (place.scratch / "file").write_text("restored")
    place.state.mkdir()
    known = identity_of(os.getpid())
    assert known is not None
    entry = Entry(
        Ended(7, 2, VANISHED), target=str(place.target), marker=MARKER, makes=str(place.archive),
        parts_of=(str(place.archive),), scratch=(str(place.scratch),),
        process=replace(known, boot="another"),
    )  # fmt: skip
    Journal(place.state / "journal").write(entry)
    async with Node(place.state, takes=False) as node:
        await node.manager.recover()
        (end,) = node.ends
        assert (end.run_id, end.attempt, end.outcome, end.archive) == (7, 2, "vanished", "")
        assert place.files() == [".onggi-target", "plan"]
        node.manager.taken(7)
        assert node.journal(7) is None


@in_loop
async def test_an_archive_that_was_done_before_the_power_was_lost_is_told_of(place: Place) -> None:
    place.state.mkdir()
    place.archive.parent.mkdir()
    place.archive.write_bytes(b"whole")
    known = identity_of(os.getpid())
    assert known is not None
    entry = Entry(
        Ended(1, 1, VANISHED), target=str(place.target), marker=MARKER, makes=str(place.archive),
        parts_of=(str(place.archive),), process=replace(known, boot="another"),
    )  # fmt: skip
    journal = Journal(place.state / "journal")
    journal.write(entry)
    journal.write(replace(entry, end=Ended(2, 1, VANISHED), process=None))
    async with Node(place.state) as node:
        await node.manager.recover()
    ends = {end.run_id: end for end in node.ends}
    assert (ends[1].archive, ends[1].archive_bytes) == (str(place.archive), 5)
    assert ends[2].archive == "", "no step of it had begun, so it is somebody else's"
    assert place.archive.exists()


@in_loop
async def test_ends_that_were_not_taken_are_told_by_the_next_manager(place: Place) -> None:
    async with Node(place.state, takes=False) as node:
        end = await node.do(place.pack())
    async with Node(place.state, takes=False) as node:
        await node.manager.recover()
        assert node.events == [end]
        assert await node.do(place.pack()) == end, "it is not started a second time"
    async with Node(place.state) as node:
        await node.manager.recover()
        assert node.events == [end]
    async with Node(place.state) as node:
        await node.manager.recover()
        assert node.events == []


@in_loop
async def test_an_end_is_told_again_until_it_is_taken(place: Place) -> None:
    command = script(place.folder, "result()")
    async with Node(place.state, command, takes=False, retell_s=0.05) as node:
        await node.start(place.work(Step("verify", ())))
        await soon(lambda: len(node.ends) >= 3)
        assert len(set(node.ends)) == 1
        node.manager.taken(1)
        told = len(node.ends)
        await asyncio.sleep(0.2)
        assert len(node.ends) == told


# --- the journal -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "attempt"),
    [
        (lambda data: b"", 0),
        (lambda data: data[: len(data) // 2], 4),
        (lambda data: data[:10], 0),
        (lambda data: b"\0" * len(data), 0),
        (lambda data: b"\xff\xfe" + os.urandom(100), 0),
        (lambda data: b"[]", 0),
        (lambda data: b"[" * 100_000, 0),
        (lambda data: data.replace(b'"run_id": 5', b'"run_id": 6'), 4),
        (lambda data: data.replace(b'"pid": ', b'"pid": "x", "a": '), 4),
        (lambda data: data.replace(b'"target": "', b'"target": 5, "b": "'), 4),
        (lambda data: data.replace(b'"scratch": [', b'"scratch": [5, '), 4),
    ],
    ids=lambda value: "" if callable(value) else str(value),
)
@in_loop
async def test_a_damaged_journal_costs_what_it_said_and_nothing_else(
    place: Place, damage: Any, attempt: int
) -> None:
    place.state.mkdir()
    journal = Journal(place.state / "journal")
    entry = Entry(
        Ended(5, 4, VANISHED), target=str(place.target), marker=MARKER,
        process=identity_of(os.getpid()),
    )  # fmt: skip
    journal.write(entry)
    journal.write(
        replace(entry, end=Ended(6, 1, "done"), is_over=True, is_clean=True, process=None)
    )
    path = place.state / "journal" / "5.json"
    path.write_bytes(damage(path.read_bytes()))
    (place.state / "journal" / "8.json.part").write_text("{")
    (place.state / "journal" / "notes.txt").write_text("not ours")
    async with Node(place.state, takes=False) as node:
        await node.manager.recover()
        ends = {end.run_id: end for end in node.ends}
        assert (ends[5].outcome, ends[5].attempt) == ("vanished", attempt)
        assert "damaged" in ends[5].message
        assert ends[6] == Ended(6, 1, "done")
        node.manager.taken(5)
        node.manager.taken(6)
    assert [path.name for path in (place.state / "journal").iterdir()] == ["notes.txt"]


@in_loop
async def test_the_journal_has_a_process_before_it_does_anything(place: Place) -> None:
    body = """
entry = json.load(open(words[0]))
known = open(f"/proc/{os.getpid()}/stat").read().rpartition(")")[2].split()
process = entry["process"]
result(same=(process["pid"], process["start_ticks"]) == (os.getpid(), int(known[19])))
"""
    path = place.state / "journal" / "1.json"
    async with Node(place.state, script(place.folder, body)) as node:
        end = await node.do(place.work(Step("verify", (str(path),))))
    assert end.outcome == "done", end.message
    log = (place.state / "logs" / "1.jsonl").read_text()
    assert '"same": true' in log


@pytest.mark.needs("root", "mount")
@in_loop
async def test_work_whose_entry_can_not_be_written_is_not_begun(place: Place) -> None:
    said = place.folder / "said"
    place.state.mkdir()
    with mounted(place.state, "-o", "size=64k"):
        async with Node(place.state, script(place.folder, "note(words[0]); result()")) as node:
            with suppress(OSError):
                (place.state / "fill").write_bytes(b"x" * (64 << 10))
            end = await node.do(place.work(Step("verify", (str(said),))))
            assert (end.outcome, end.is_final) == ("failed", False)
            assert "No space left" in end.message
            assert not said.exists()
            (place.state / "fill").unlink()
            end = await node.do(place.work(Step("verify", (str(said),)), attempt=2))
            assert end.outcome == "done", end.message


# --- the target ------------------------------------------------------------------------------


@pytest.mark.needs("root", "mount")
@in_loop
async def test_a_full_target_is_told_with_what_is_free(place: Place) -> None:
    (place.source / "noise").write_bytes(os.urandom(3 << 20))
    with mounted(place.target, "-o", "size=1m"):
        (place.target / ".onggi-target").write_text(MARKER)
        async with Node(place.state) as node:
            end = await node.do(place.pack())
        assert (end.outcome, end.exit_code, end.is_final) == ("failed", 6, False)
        assert "No space left" in end.message
        free = os.statvfs(place.target)
        assert (
            f"({free.f_bavail * free.f_frsize:,} bytes are free on {place.target})" in end.message
        )
        assert place.files() == [".onggi-target", "plan"]


@pytest.mark.needs("root", "mount")
@in_loop
async def test_nothing_is_written_below_a_target_that_is_not_mounted(place: Place) -> None:
    (place.target / ".onggi-target").unlink()
    async with Node(place.state) as node:
        with mounted(place.target):
            (place.target / ".onggi-target").write_text(MARKER)
            assert (await node.do(place.pack())).outcome == "done"
        removal = place.work(removes=(str(place.archive),), run_id=2)
        for work in (place.pack(run_id=3), removal):
            end = await node.do(work)
            assert (end.outcome, end.is_final, end.removed) == ("failed", False, ())
            assert "is not mounted" in end.message
    assert place.files() == []


@pytest.mark.needs("root", "mount")
@in_loop
async def test_a_target_that_goes_while_it_is_written_to_is_told(place: Place) -> None:
    body = """
subprocess.run(["umount", "--lazy", words[0]], check=True)
tell("error", exit_code=6, message="can't write: it is gone")
sys.exit(6)
"""
    (place.target / ".onggi-target").unlink()
    with mounted(place.target):
        (place.target / ".onggi-target").write_text(MARKER)
        async with Node(place.state, script(place.folder, body)) as node:
            end = await node.do(place.work(Step("pack", (str(place.target),)), makes=True))
            assert (end.outcome, end.is_final, end.exit_code) == ("failed", False, 6)
            assert end.message.startswith("can't write: it is gone; the target ")
            assert node.journal() is not None, "what is there of it is removed once it is back"
    assert place.files() == []


@pytest.mark.needs("root", "mount")
@in_loop
async def test_what_can_not_be_removed_now_is_removed_once_its_target_is_back(
    place: Place,
) -> None:
    place.state.mkdir()
    entry = Entry(
        Ended(1, 1, VANISHED), target=str(place.target), marker=MARKER, makes=str(place.archive),
        parts_of=(str(place.archive),), scratch=(str(place.scratch),),
    )  # fmt: skip
    place.scratch.mkdir(parents=True)
    part = place.archive.parent / f".{place.archive.name}.0123abcd.onggi-part"
    part.write_text("half")
    (place.scratch / "file").write_text("restored")
    Journal(place.state / "journal").write(entry)
    with mounted(place.target):  # something else
        async with Node(place.state) as node:
            await node.manager.recover()
            assert [end.outcome for end in node.ends] == ["vanished"]
            assert "not mounted" in node.ends[0].message
        async with Node(place.state) as node:
            await node.manager.recover()
            assert node.ends == [], "it is taken, though there is something left"
            assert (await node.do(place.pack(run_id=2))).outcome == "failed"
        assert place.files() == []
    assert part.exists()
    async with Node(place.state) as node:
        await node.manager.recover()
        assert not part.exists()
        assert not place.scratch.exists()
        assert not list((place.state / "journal").iterdir())


@pytest.mark.needs("root", "mount")
@in_loop
async def test_a_work_removes_what_one_before_could_not(place: Place) -> None:
    place.state.mkdir()
    part = place.archive.parent / ".old.onggi.0123abcd.onggi-part"
    part.parent.mkdir()
    part.write_text("half")
    entry = Entry(
        Ended(1, 1, VANISHED), target=str(place.target), marker=MARKER,
        parts_of=(str(part.parent / "old.onggi"),),
    )  # fmt: skip
    Journal(place.state / "journal").write(entry)
    async with Node(place.state) as node:
        with mounted(place.target):
            await node.manager.recover()
            assert part.parent.exists() is False
        assert part.exists()
        assert (await node.do(place.pack(run_id=2))).outcome == "done"
        assert not part.exists()
        assert not list((place.state / "journal").iterdir())


@pytest.mark.needs("root", "mount")
@in_loop
async def test_scratch_that_can_not_be_removed_first_is_not_restored_to(place: Place) -> None:
    place.scratch.mkdir(parents=True)
    pack = place.pack()
    proof = place.verify("--against", str(place.scratch))
    with mounted(place.scratch):
        (place.scratch / "file").write_text("x")
        async with Node(place.state) as node:
            end = await node.do(replace(pack, steps=(*pack.steps, place.unpack(), proof)))
        assert (place.scratch / "file").exists()
    assert (end.outcome, end.archive, end.exit_code, end.is_final) == ("failed", "", None, False)
    assert f"can't remove {place.scratch}: Device or resource busy" in end.message


@pytest.mark.needs("root", "mount")
@in_loop
async def test_scratch_that_can_not_be_removed_last_is_a_warning(place: Place) -> None:
    """The work is done; what it has left is removed by a later one."""
    body = """
if words[0] == "unpack":
    os.mkdir(words[2])
    subprocess.run(["mount", "-t", "tmpfs", "none", words[2]], check=True)
result()
"""
    place.archive.parent.mkdir()
    async with Node(place.state, script(place.folder, body)) as node:
        try:
            end = await node.do(place.work(place.unpack(), place.verify()))
            assert (end.outcome, end.findings, end.verified) == ("findings", 1, True)
            assert end.message.startswith(f"can't remove {place.scratch}: ")
            assert node.journal() is not None, "it is taken, but not forgotten"
        finally:
            subprocess.run(["umount", place.scratch], check=True)
        end = await node.do(place.work(place.verify(), run_id=2))
        assert (end.outcome, end.message) == ("done", "")
        assert node.journal() is None
    assert place.files() == [".onggi-target", "plan"]


@in_loop
async def test_a_start_is_told_even_if_the_work_fails_at_once(place: Place) -> None:
    (place.target / ".onggi-target").unlink()
    async with Node(place.state) as node:
        end = await node.do(place.pack())
    assert node.events == [Started(1, 1), end]


@in_loop
async def test_a_command_that_can_not_be_run_fails_with_a_reason(place: Place) -> None:
    async with Node(place.state, ("/nothing/onggi",)) as node:
        end = await node.do(place.pack())
        wrong = Step("pack", ("a\0b",))
        nul = await node.do(place.work(wrong, run_id=2))
    assert (end.outcome, end.is_final) == ("failed", False)
    assert end.message == "can't run /nothing/onggi: No such file or directory"
    assert nul.outcome == "failed"
    assert json.dumps(nul.message)
