"""What the tests of plans and runs share: a real server in a place of its own, and who asks it.

What a test is about is done by commands, as people do it; what leads there, and what only waits,
through a `Client`, which is quicker.

Fixtures are imported from here as themselves (`site as site`): so they do not look unused.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from onggi.archive.store import FileStore
from onggi.archive.verify import Level, verify
from onggi.control.client import Client

from ..conftest import Onggi
from .mount_helpers import NOBODY, ONGGI_AS_NOBODY
from .tree_corpus import noisy

MIB = 1 << 20
MOST_S = 60.0
MARKER = ".onggi-target"
# Bytes a second: with the content, so slow that whatever a test does comes before the end.
SLOW, BIG = MIB, noisy(20 * MIB, 5)
# As of the mounts, with what a server imports.
AS_NOBODY = (
    sys.executable, "-c", f"import onggi.control.server\n{ONGGI_AS_NOBODY[2]}", str(NOBODY),
)  # fmt: skip

Json = dict[str, Any]


def until(condition: Callable[[], Any], most_s: float = MOST_S, every_s: float = 0.03) -> Any:
    """Wait until a condition holds; return what it gives then."""
    end_s = time.monotonic() + most_s
    while not (found := condition()):
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(every_s)
    return found


def is_alive(pid: int) -> bool:
    """Tell whether there is a process that is not dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def said_by(ran: Any, code: int) -> str:
    """Return the error that a command with --json told, which standard error must say too."""
    error = ran.result
    assert (error["type"], error["exit_code"], ran.code) == ("error", code, code)
    assert ran.err == f"onggi: {error['message']}\n"
    return str(error["message"])


def free_port() -> int:
    """Return a port of this host that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@dataclass
class Site:
    """A place with a server: its state, its socket, and sources and targets of plans.

    Args:
        folder: which is empty, and has a short path: that of a socket may have 107 bytes.
    """

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list[Any])
    said_files: list[Path] = field(default_factory=list[Path])

    def __post_init__(self) -> None:
        self.state = self.folder / "state"
        self.socket = self.folder / "socket"
        variables = (f"ONGGI_STATE={self.state}", f"ONGGI_SOCKET={self.socket}")
        self.command = ["env", *variables, sys.executable, "-m", "onggi.cli"]
        self.onggi = Onggi(self.folder, self.command)
        self.client = Client(self.socket)

    # --- the server ---------------------------------------------------------------------------

    def serve(self, *options: object, prefix: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        """Start a server; return it once it answers. The prefix runs it under another program."""
        said = self.folder / f"said-{len(self.said_files)}"
        words = [*prefix, *self.command, "serve", "--first-pause", "0.1", *map(str, options)]
        with said.open("wb") as out:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.folder
            )
        self.processes.append(process)
        self.said_files.append(said)
        until(lambda: "serving at" in self.said or process.poll() is not None)
        assert process.poll() is None, self.said
        return process

    @property
    def said(self) -> str:
        """What the latest server has said so far, to people."""
        return self.said_files[-1].read_text()

    @property
    def server(self) -> subprocess.Popen[bytes]:
        """The latest server."""
        return self.processes[-1]

    def stop(self) -> str:
        """Tell the server to end, which must go well; return what it has said."""
        self.server.send_signal(signal.SIGTERM)
        assert self.server.wait(MOST_S) == 0, self.said
        assert "Traceback" not in self.said, self.said
        assert not self.socket.exists()
        return self.said

    def kill(self) -> None:
        """End the server so that it notices nothing."""
        self.server.kill()
        self.server.wait(MOST_S)

    def close(self) -> None:
        """End all servers, and the work that they may have left; they must have kept their form."""
        left = [self.pid(int(path.stem)) for path in self.state.glob("journal/*.json")]
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(20)
                process.kill()
                process.wait()
        for pid in left:
            if pid is not None and is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        for said in self.said_files:
            assert "Traceback" not in said.read_text(), said.read_text()
            assert "a defect" not in said.read_text(), said.read_text()

    # --- plans --------------------------------------------------------------------------------

    def source(self, name: str) -> Path:
        """Return the folder that the plan of a name packs."""
        return self.folder / f"{name}-source"

    def target(self, name: str) -> Path:
        """Return the folder that its archives go to."""
        return self.folder / f"{name}-target"

    def fill(self, name: str, content: bytes = b"kimchi") -> None:
        """Make the source, of one file."""
        self.source(name).mkdir(exist_ok=True)
        (self.source(name) / "file").write_bytes(content)

    def add(self, name: str, content: bytes = b"kimchi", **fields: object) -> None:
        """Make a plan, its source and its target; unless told otherwise, nothing is verified."""
        self.fill(name, content)
        self.target(name).mkdir(exist_ok=True)
        places = {"source": str(self.source(name)), "target": str(self.target(name))}
        self.client.send(
            "POST", "/api/plans", {"name": name, "verify": "never", **places, **fields}
        )

    def files(self, name: str) -> list[str]:
        """Return what is in the target, but for the marker, which must be there."""
        found = sorted(
            str(path.relative_to(self.target(name))) for path in self.target(name).rglob("*")
        )
        assert MARKER in found
        return [each for each in found if each not in (MARKER, name)]

    def parts(self, name: str) -> list[str]:
        """Return the temporary files in the target."""
        return [each for each in self.files(name) if each.endswith(".onggi-part")]

    # --- runs ---------------------------------------------------------------------------------

    def start(self, name: str) -> int:
        """Have a plan run; return the number of the run."""
        return int(self.client.send("POST", f"/api/plans/{name}/run")["run"]["run_id"])

    def succeed(self, name: str) -> None:
        """Have a plan run, which must go well."""
        run = self.ended(self.start(name))
        assert run["state"] == "succeeded", run

    def run(self, run_id: int) -> Json:
        """Return a run as it is."""
        found: Json = self.client.get(f"/api/runs/{run_id}")["run"]
        return found

    def ended(self, run_id: int) -> Json:
        """Return a run once it is over."""
        until(lambda: self.run(run_id)["ended_s"] is not None)
        return self.run(run_id)

    def history(self, name: str) -> list[Json]:
        """Return the runs of a plan, the oldest first."""
        found: list[Json] = self.client.get("/api/runs", plan=name, limit=1000)["runs"]
        return found[::-1]

    def states(self, name: str) -> list[tuple[str, str, str]]:
        """Return kind, reason and state of the runs of a plan, the oldest first."""
        return [(run["kind"], run["reason"], run["state"]) for run in self.history(name)]

    def all_over(self, name: str) -> list[tuple[str, str, str]]:
        """Return `states` once no run of the plan waits or is at work."""
        until(lambda: all(run["ended_s"] is not None for run in self.history(name)))
        return self.states(name)

    def pid(self, run_id: int) -> int | None:
        """Return the process that works for a run; None if none does."""
        with suppress(FileNotFoundError):
            entry = json.loads((self.state / "journal" / f"{run_id}.json").read_text())
            return entry["process"] and int(entry["process"]["pid"])
        return None

    def at_work(self, name: str, run_id: int) -> int:
        """Return the process that works for a run, once it has begun to write an archive."""
        until(lambda: self.parts(name))
        pid = self.pid(run_id)
        assert pid is not None
        assert is_alive(pid)
        return pid

    def check(self, name: str) -> None:
        """Check that what is told of a plan is so: archives, target, the last run, logs.

        No run may wait or be at work.
        """
        runs = {run["run_id"]: run for run in self.history(name)}
        assert all(run["ended_s"] is not None for run in runs.values())
        archives = self.client.get(f"/api/plans/{name}/archives")["archives"]
        assert self.files(name) == sorted(
            os.path.relpath(each["path"], self.target(name)) for each in archives
        ), "what is in the target is not what is known of it"
        for each in archives:
            run = runs[each["run_id"]]
            assert each["exists"]
            assert (run["archive"], run["kind"]) == (each["path"], "backup")
            assert each["archive_bytes"] == os.path.getsize(each["path"])
            with FileStore(each["path"]) as store:
                assert verify(store, Level.CONTENT, threads=1).is_whole
        made = {
            run["run_id"]
            for run in runs.values()
            if run["kind"] == "backup" and run["state"] in ("succeeded", "warned")
        }
        if not any(run["kind"] == "prune" for run in runs.values()):
            assert made <= {each["run_id"] for each in archives}, "a good run has no archive"
        [volume] = [
            each for each in self.client.get("/api/status")["volumes"] if each["plan"] == name
        ]
        backups = [
            run for run in runs.values() if run["kind"] == "backup" and run["state"] != "missed"
        ]
        last = max(backups, key=lambda run: float(run["ended_s"]), default=None)
        assert volume["last"] == last
        assert volume["archives"] == len(archives)
        until(lambda: not [*self.state.glob("journal/*")])
        for run in runs.values():
            if run["started_s"] is not None:
                assert (self.state / "logs" / f"{run['run_id']}.jsonl").exists()


def new_site() -> Iterator[Site]:
    """Make a place, and take it away again."""
    folder = Path(tempfile.mkdtemp(prefix="onggi-site-"))
    made = Site(folder)
    try:
        yield made
        made.close()
    finally:
        for process in made.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def site() -> Iterator[Site]:
    """A place whose server the test starts by itself."""
    yield from new_site()
