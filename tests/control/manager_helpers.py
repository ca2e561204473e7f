"""Managers and agents at real work: commands as real processes, and nothing may be left of them."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from onggi.control.agent import Patience
from onggi.control.manager import Manager
from onggi.control.messages import (
    Cancel,
    Ended,
    Event,
    Progressed,
    Start,
    Started,
    Step,
    Work,
)

ONGGI = (sys.executable, "-m", "onggi.cli")
MARKER = "the marker of the target"
MOST_S = 60.0
SHORT = Patience(grace_s=0.3, drain_s=0.3)

_PRELUDE = """
import json, os, signal, subprocess, sys, time

def tell(type, **record):
    print(json.dumps({"type": type, **record}), flush=True)

def result(**record):
    tell("result", exit_code=0, **record)

def note(path, text=""):
    with open(path, "a") as file:
        file.write(text + "\\n")

words = sys.argv[1:-1]
assert sys.argv[-1] == "--json"
"""


def script(folder: Path, body: str, name: str = "script.py") -> tuple[str, ...]:
    """Write a script that is run in place of Onggi; return the command."""
    path = folder / name
    path.write_text(_PRELUDE + body)
    return (sys.executable, str(path))


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in an event loop; no descriptor, task, thread or child may be left of it."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: complaints.append(context))
            await test(*arguments, **named)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            assert not others, "tasks are left"

        complaints: list[dict[str, Any]] = []
        before = descriptors()
        asyncio.run(main())
        assert not complaints
        assert descriptors() == before, "descriptors are left"
        until(lambda: not [each for each in threading.enumerate() if "onggi" in each.name])
        assert not children(), "children are left"

    return run


def descriptors() -> dict[str, str]:
    """Return what the descriptors of this process are."""
    found: dict[str, str] = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the one of the listing
            continue
    return found


def children() -> list[int]:
    """Return the children of this process, zombies too."""
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found += map(int, (task / "children").read_text().split())
    return found


def until(condition: Callable[[], Any], most_s: float = MOST_S) -> Any:
    """Wait until a condition holds; return what it gives then."""
    end_s = time.monotonic() + most_s
    while not (found := condition()):
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.01)
    return found


async def soon(condition: Callable[[], Any], most_s: float = MOST_S) -> Any:
    """As `until`, in an event loop."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + most_s
    while not (found := condition()):
        assert loop.time() < end_s, "it did not happen in time"
        await asyncio.sleep(0.01)
    return found


def is_alive(pid: int) -> bool:
    """Tell whether there is a process that is not dead."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text[text.rindex(")") + 2] not in "ZX"


class Node:
    """A manager, and what it tells. It ends with the context.

    Args:
        state: its folder.
        command: what is run as `onggi`.
        takes: whether the ends of runs are taken.
    """

    def __init__(
        self, state: Path, command: Sequence[str] = ONGGI, *, takes: bool = True, **options: Any
    ) -> None:
        state.mkdir(exist_ok=True)
        self.state = state
        self.events: list[Event] = []
        self.takes = takes
        self.manager = Manager(state, command, self._tell, **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.manager.close()

    def _tell(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Ended) and self.takes:
            self.manager.taken(event.run_id)

    @property
    def started(self) -> list[Started]:
        """What was told of starts."""
        return [event for event in self.events if isinstance(event, Started)]

    @property
    def progress(self) -> list[Progressed]:
        """What was told of progress."""
        return [event for event in self.events if isinstance(event, Progressed)]

    @property
    def ends(self) -> list[Ended]:
        """What was told of ends."""
        return [event for event in self.events if isinstance(event, Ended)]

    async def start(self, work: Work) -> None:
        """Have some work started."""
        await self.manager.take(Start(work))

    async def cancel(self, run_id: int) -> None:
        """Have a run ended."""
        await self.manager.take(Cancel(run_id))

    async def end(self, run_id: int = 1, attempt: int = 1) -> Ended:
        """Return the end of a run, once it is told."""

        def told() -> list[Ended]:
            return [each for each in self.ends if (each.run_id, each.attempt) == (run_id, attempt)]

        found: list[Ended] = await soon(told)
        return found[-1]

    async def do(self, work: Work) -> Ended:
        """Have some work done; return its end."""
        await self.start(work)
        return await self.end(work.run_id, work.attempt)

    def journal(self, run_id: int = 1) -> dict[str, Any] | None:
        """Return the entry of a run in the journal."""
        try:
            found: dict[str, Any] = json.loads(
                (self.state / "journal" / f"{run_id}.json").read_text()
            )
        except FileNotFoundError:
            return None
        return found

    async def pid(self, run_id: int = 1) -> int:
        """Return the number of the process that works for a run, once there is one."""

        def known() -> Any:
            entry = self.journal(run_id)
            return entry and entry["process"] and entry["process"]["pid"]

        return int(await soon(known))


class Place:
    """A folder with a target that has its marker, a source, and the state of a manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.target = folder / "target"
        self.source = folder / "source"
        self.archive = self.target / "plan" / "2026-11-24T02-00-00Z.onggi"
        self.scratch = self.archive.with_suffix(".restored")
        self.target.mkdir()
        (self.target / ".onggi-target").write_text(MARKER + "\n")
        (self.source / "folder").mkdir(parents=True)
        (self.source / "folder" / "file").write_bytes(b"kimchi " * 10_000)
        (self.source / "link").symlink_to("folder/file")

    def big(self, mib: int = 24) -> None:
        """Let packing at a high level take long."""
        words = [b"onggi %d keeps food for years;" % number for number in range(40_000)]
        (self.source / "big").write_bytes((b"".join(words) * mib)[: mib << 20])

    def pack(self, *more: str, **fields: Any) -> Work:
        """Return the work of a backup."""
        words = ("pack", str(self.source), str(self.archive), *more)
        return self.work(Step("pack", words, expected_findings=True), makes=True, **fields)

    def work(self, *steps: Step, makes: bool = False, **fields: Any) -> Work:
        """Return work in the target."""
        known: dict[str, Any] = {
            "run_id": 1, "attempt": 1, "target": str(self.target), "marker": MARKER,
            "makes": str(self.archive) if makes else "",
        }  # fmt: skip
        return Work(steps=steps, **(known | fields))

    def verify(self, *more: str, expected: bool = False) -> Step:
        """Return the step that verifies the archive."""
        return Step("verify", ("verify", str(self.archive), *more), expected)

    def unpack(self) -> Step:
        """Return the step that restores the archive to scratch."""
        words = ("unpack", str(self.archive), str(self.scratch))
        return Step("unpack", words, remove_after=str(self.scratch))

    def files(self) -> list[str]:
        """Return what is in the target."""
        return sorted(str(path.relative_to(self.target)) for path in self.target.rglob("*"))

    def parts(self) -> list[Path]:
        """Return the temporary files in the target."""
        return list(self.target.rglob(".*.onggi-part"))


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[None]:
    """Have a file system in memory mounted on a folder."""
    subprocess.run(["mount", "-t", "tmpfs", *options, "none", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)


_MANAGER = """
import asyncio, json, sys
from pathlib import Path
from onggi.control.agent import Patience
from onggi.control.manager import Manager
from onggi.control.messages import Start, Step, Work, as_json

async def main():
    state, command, work = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
    work["steps"] = tuple(Step(**step) for step in work["steps"])
    manager = Manager(state, command, lambda event: print(json.dumps(as_json(event)), flush=True))
    await manager.recover()
    await manager.take(Start(Work(**work)))
    await asyncio.sleep(1000)

asyncio.run(main())
"""


@contextmanager
def manager_process(
    state: Path, work: Work, command: Sequence[str] = ONGGI
) -> Iterator[subprocess.Popen[bytes]]:
    """Have a manager do some work in a process of its own; it may be killed, and is at the end."""
    state.mkdir(exist_ok=True)
    words = [str(state), json.dumps(command), json.dumps(asdict(work))]
    with subprocess.Popen(
        [sys.executable, "-c", _MANAGER, *words], stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def journal_of(state: Path, run_id: int = 1) -> dict[str, Any]:
    """Return the entry of a run at work, once it has a process."""

    def known() -> Any:
        with suppress(FileNotFoundError):
            found = json.loads((state / "journal" / f"{run_id}.json").read_text())
            return found if found["process"] else None

    found: dict[str, Any] = until(known)
    return found
