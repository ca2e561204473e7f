"""An agent with commands that misbehave: what they write, and what they leave behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onggi.control import agent as agent_module
from onggi.control.agent import Agent, Patience, StepEnd, one_line
from onggi.control.errors import StateError
from onggi.control.messages import Step
from onggi.control.process import identity_of, is_running
from onggi.control.run_log import RunLog, read_log

from .manager_helpers import SHORT, in_loop, is_alive, script, soon

LAUNCH = Path(agent_module.__file__).with_name("launch.py")
MIB = 1 << 20


class Bench:
    """Runs an agent with a script."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "1.jsonl"
        self.heard: list[dict[str, Any]] = []
        self.heard_s: list[float] = []
        self.patience = Patience()

    def agent(self, body: str, *words: str, log: RunLog, **options: Any) -> Agent:
        """Return an agent that runs a script."""
        command = script(self.folder, body)
        step = Step("pack", words)
        return Agent(command, step, log, self._hear, patience=self.patience, **options)

    def _hear(self, record: dict[str, Any]) -> None:
        self.heard.append(record)
        self.heard_s.append(time.monotonic())

    async def run(self, body: str, *words: str, **options: Any) -> StepEnd:
        """Run a script to its end."""
        log = RunLog(self.path)
        agent = self.agent(body, *words, log=log, **options)
        try:
            agent.start()
            return await agent.run()
        finally:
            log.close()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log."""
        return read_log(self.path)[0]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# --- what is read ----------------------------------------------------------------------------


@in_loop
async def test_what_a_command_tells_is_read(bench: Bench) -> None:
    end = await bench.run(
        """
tell("mode", reason="a tree")
tell("finding", severity="warning", message="first warning")
tell("finding", severity="difference", message="a difference")
tell("finding", severity="warning", message="second warning")
tell("finding", severity="difference", message="another")
print("onggi: something", file=sys.stderr)
print("", file=sys.stderr)
tell("result", exit_code=1, content_bytes=5)
sys.exit(1)
"""
    )
    assert end.exit_code == 1
    assert end.signal is None
    assert end.result == {"type": "result", "exit_code": 1, "content_bytes": 5}
    assert end.findings == {"warning": 2, "difference": 2}
    assert end.first == "a difference", "the first of the worst"
    assert end.said == "onggi: something"
    types = [line["type"] for line in bench.lines if line["stream"] == "event"]
    assert types == ["mode", *["finding"] * 4, "result"]


@in_loop
async def test_an_error_is_told_as_one_line(bench: Bench) -> None:
    end = await bench.run(
        r"""
tell("error", exit_code=5, message="can't read \ud800 a\nb\x1b[31m")
sys.exit(5)
"""
    )
    assert (end.exit_code, end.result) == (5, None)
    assert end.error == "can't read ? a?b?[31m"
    assert end.error.encode()


@in_loop
async def test_what_is_not_json_is_no_result(bench: Bench) -> None:
    end = await bench.run(
        r"""
for text in ("hello", "{", "[1, 2]", '"result"', "null", '{"type": 5}', "{" * 50_000,
             '{"a":' * 50_000, '{"type": "result", "n": ' + "9" * 10_000 + "}", "{}", "\x00\x01"):
    print(text)
sys.stdout.buffer.write(b'{"type": "result\xff"}\n')
sys.stdout.buffer.write(b"\xff\xfe\n{'type': 'result'}\n\r\n \n")
tell("finding", severity=["x"], message=5)
tell("error", message=None)
"""
    )
    assert end.exit_code == 0
    assert end.result is None
    assert end.error == "it does not say why"
    assert end.findings == {"warning": 1}
    assert any(line.get("text") == "hello" for line in bench.lines)


@in_loop
async def test_a_line_without_its_end_is_read_too(bench: Bench) -> None:
    end = await bench.run(
        """
sys.stdout.write('{"type": "result", "exit_code": 0}')
sys.stderr.write("last words")
"""
    )
    assert end.result is not None
    assert end.said == "last words"


@in_loop
async def test_a_line_in_pieces_is_read(bench: Bench) -> None:
    end = await bench.run(
        """
for piece in ('{"type": "re', 'sult", "text"', ': "' + "x" * 200_000, '"', "}", "\\n"):
    sys.stdout.write(piece)
    sys.stdout.flush()
    time.sleep(0.01)
"""
    )
    assert end.result is not None
    assert len(end.result["text"]) == 200_000


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@in_loop
async def test_a_flood_without_line_ends_takes_no_memory(bench: Bench, stream: str) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _peak_bytes()
    end = await bench.run(
        f"""
piece = b"x" * (1 << 20)
for _ in range(2048):
    sys.{stream}.buffer.write(piece)
sys.{stream}.buffer.write(b"\\n")
result()
"""
    )
    assert end.exit_code == 0
    assert end.result is not None, "what comes after it is read"
    assert _peak_bytes() - before < 24 * MIB
    assert bench.path.stat().st_size < MIB


@in_loop
async def test_a_flood_of_lines_takes_neither_memory_nor_the_disk(bench: Bench) -> None:
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak_bytes()
    end = await bench.run(
        """
line = json.dumps({"type": "finding", "severity": "warning", "message": "m" * 900}).encode()
for _ in range(1000):
    sys.stdout.buffer.write((line + b"\\n") * 30 + b"\\n" * 30_000)
    sys.stderr.buffer.write(b"words\\n" * 100)
sys.stdout.flush()
result()
"""
    )
    assert end.findings == {"warning": 30_000}
    assert end.result is not None
    assert _peak_bytes() - before < 24 * MIB
    assert bench.path.stat().st_size < 17 * MIB
    texts = [line["text"] for line in _all_lines(bench.path) if line["stream"] == "master"]
    assert texts == ["the log is full: what is not of importance is left out from here on"]
    assert _all_lines(bench.path)[-1]["type"] == "result"


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def _all_lines(path: Path) -> list[dict[str, Any]]:
    found, start = read_log(path)
    while True:
        more, then = read_log(path, start)
        if then == start:
            return found
        found, start = found + more, then


# --- progress --------------------------------------------------------------------------------


@in_loop
async def test_progress_is_told_once_a_second_at_most_and_the_latest(bench: Bench) -> None:
    await bench.run(
        """
start = time.monotonic()
number = 0
while time.monotonic() < start + 2.5:
    number += 1
    tell("progress", number=number, at_s=time.monotonic() - start)
    time.sleep(0.002)
result()
"""
    )
    assert len(bench.heard) == 3
    assert bench.heard[0]["at_s"] < 0.3, "the first one at once"
    for before, after in zip(bench.heard_s, bench.heard_s[1:], strict=False):
        assert after - before >= 0.99
    for second, heard in enumerate(bench.heard):
        assert abs(heard["at_s"] - second) < 0.5, "the latest"
    assert all(line.get("type") != "progress" for line in bench.lines)


@in_loop
async def test_progress_a_little_early_is_told_a_little_later(bench: Bench) -> None:
    await bench.run(
        """
for number in range(4):
    tell("progress", number=number)
    time.sleep(0.9)
time.sleep(0.5)
"""
    )
    assert [heard["number"] for heard in bench.heard] == [0, 1, 2, 3]


# --- how it ends -----------------------------------------------------------------------------


@in_loop
async def test_a_command_that_closes_its_output_early_is_waited_for(bench: Bench) -> None:
    done = bench.folder / "done"
    end = await bench.run(
        """
os.close(1)
os.close(2)
time.sleep(0.3)
note(words[0])
os._exit(3)
""",
        str(done),
    )
    assert done.exists()
    assert (end.exit_code, end.result) == (3, None)


@pytest.mark.parametrize("what", ["quiet", "floods"])
@in_loop
async def test_a_grandchild_that_holds_the_pipes_holds_up_nobody(bench: Bench, what: str) -> None:
    bench.patience = SHORT
    start_s = time.monotonic()
    end = await bench.run(
        """
pid = os.fork()
if not pid:
    os.setsid()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    note(words[0], str(os.getpid()))
    while words[1] == "floods":
        os.write(1, b"x" * 1000 + b"\\n")
    time.sleep(120)
while not os.path.exists(words[0]): time.sleep(0.01)
result()
os._exit(0)
""",
        str(bench.folder / "pid"),
        what,
    )
    assert time.monotonic() - start_s < 10
    assert end.result is not None
    pid = int((bench.folder / "pid").read_text())
    if what == "floods":  # nobody reads any more
        await soon(lambda: not is_alive(pid), 5)
    else:
        assert is_alive(pid), "it has left the group, so nobody can know that it belongs to it"
        os.kill(pid, signal.SIGKILL)


@in_loop
async def test_a_signal_is_told(bench: Bench) -> None:
    end = await bench.run("os.kill(os.getpid(), signal.SIGSEGV)")
    assert (end.exit_code, end.signal) == (None, signal.SIGSEGV)


@in_loop
async def test_a_program_that_is_not_there_is_told(bench: Bench) -> None:
    log = RunLog(bench.path)
    agent = Agent(("/nothing/there",), Step("pack", ()), log, bench.heard.append)
    agent.start()
    end = await agent.run()
    log.close()
    assert (end.exit_code, end.said) == (127, "can't run /nothing/there: No such file or directory")


@in_loop
async def test_an_argument_that_can_not_be_is_told(bench: Bench) -> None:
    log = RunLog(bench.path)
    agent = bench.agent("", "a\0b", log=log)
    with pytest.raises(StateError, match="can't start pack"):
        agent.start()
    log.close()


@in_loop
async def test_a_process_that_is_abandoned_has_done_nothing(bench: Bench) -> None:
    log = RunLog(bench.path)
    agent = bench.agent("note(words[0])", str(bench.folder / "done"), log=log)
    identity = agent.start()
    assert is_running(identity)
    await asyncio.sleep(0.2)
    await agent.abandon()
    log.close()
    assert not is_running(identity)
    assert not (bench.folder / "done").exists()


@in_loop
async def test_a_reader_that_fails_ends_the_process(bench: Bench) -> None:
    """Or it would wait for ever for somebody to read, and be waited for."""
    log = RunLog(bench.path)

    def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    agent = bench.agent('print("{}\\n" * 100_000)\ntime.sleep(120)', log=log)
    log.event = fails  # type: ignore[method-assign]
    identity = agent.start()
    with pytest.raises(ZeroDivisionError):
        await agent.run()
    log.close()
    assert not is_running(identity)


@in_loop
async def test_cancelling_the_task_kills_the_process(bench: Bench) -> None:
    log = RunLog(bench.path)
    agent = bench.agent("note(words[0])\ntime.sleep(120)", str(bench.folder / "begun"), log=log)
    identity = agent.start()
    task = asyncio.create_task(agent.run())
    await soon((bench.folder / "begun").exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    log.close()
    assert not is_running(identity)


@in_loop
async def test_a_command_starts_with_nothing_of_the_server(bench: Bench) -> None:
    """No descriptors, no standard input, no ignored or blocked signals, a group of its own."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    held = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(held, True)
    try:
        end = await bench.run(
            """
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
result(
    fds=sorted(map(int, os.listdir("/proc/self/fd")))[:-1], stdin=sys.stdin.read(),
    blocked=int(status["SigBlk"], 16), hangup=str(signal.getsignal(signal.SIGHUP)),
    folder=os.getcwd(), leads=os.getpid() == os.getpgrp() == os.getsid(0),
)
"""
        )
    finally:
        os.close(held)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        signal.signal(signal.SIGHUP, before)
    assert end.result is not None
    del end.result["type"], end.result["exit_code"]
    assert end.result == {
        "fds": [0, 1, 2], "stdin": "", "blocked": 0, "hangup": "0", "folder": "/", "leads": True,
    }  # fmt: skip


# --- the bond to who started it --------------------------------------------------------------


def test_a_process_that_waits_to_begin_ends_with_who_started_it(tmp_path: Path) -> None:
    """Killed before it could say that the work may begin, which so never does."""
    done = tmp_path / "done"
    starter = f"""
import os, subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-I", "-S", {str(LAUNCH)!r}, "0", "touch", {str(done)!r}],
    stdin=subprocess.PIPE, start_new_session=True,
)
print(child.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    ran = subprocess.run([sys.executable, "-c", starter], capture_output=True, check=False)
    assert ran.returncode == -9
    pid = int(ran.stdout)
    end_s = time.monotonic() + 10
    while is_alive(pid):
        assert time.monotonic() < end_s
        time.sleep(0.01)
    assert not done.exists()


def test_the_start_of_a_process_is_known_whatever_its_name_is(tmp_path: Path) -> None:
    program = tmp_path / "a) Z 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "120"]) as process:
        try:
            known = identity_of(process.pid)
            assert known is not None
            assert is_running(known)
            assert not is_running(replace(known, start_ticks=known.start_ticks + 1))
            assert not is_running(replace(known, boot="x"))
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert not is_running(known), "it is dead, though nobody has waited for it"
            assert identity_of(process.pid) == known
        finally:
            process.kill()
    assert identity_of(process.pid) is None


def test_a_line_for_people_is_one_line_and_short() -> None:
    assert one_line("a\nb\x00\u2028c\ud800") == "a?b??c?"
    assert one_line(None) == one_line(5) == ""
    assert len(one_line("x" * 10_000)) == 1000
    assert one_line("kimchi 김치 é") == "kimchi 김치 é"
