"""A server for a benchmark: its life, what it takes, and asking it over HTTP.

Owns the process, from its start until it has ended, and the figures that the kernel has of it and
of its children. Knows nothing about plans and bars. One server for a folder at a time.
"""

from __future__ import annotations

import dataclasses
import gzip
import http.client
import os
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from harness import CommandError, environment

_UP_S = 60.0
_GONE_S = 30.0
_POLL_S = 0.01


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its children take: memory now, CPU time since they started."""

    cpu_s: float
    rss_bytes: int
    pss_bytes: int
    processes: int


class BenchServer:
    """A server that listens at a socket in its folder, and at a port of 127.0.0.1.

    As a context manager it starts it, and ends it. Raises `CommandError` if that can't be.
    """

    def __init__(self, onggi: str, state: Path) -> None:
        self.socket = state / "onggi.sock"
        self._onggi = onggi
        self._state = state
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.ready_s = 0.0

    def __enter__(self) -> BenchServer:
        self._port = _free_port()
        argv = [self._onggi, "serve", "--state", str(self._state), "--socket", str(self.socket),
                "--http", f"127.0.0.1:{self._port}", "--json"]  # fmt: skip
        start = time.monotonic()
        with tempfile.TemporaryFile() as said:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment()
            )
            # The shared offset is where the server writes, so it is read by position.
            while b'"ready"' not in os.pread(said.fileno(), 1 << 16, 0):
                is_late = time.monotonic() - start > _UP_S
                if is_late or self._process.poll() is not None:
                    text = os.pread(said.fileno(), 1 << 16, 0).decode(errors="replace")
                    code = self._process.returncode or 0
                    self._stop()
                    raise CommandError("onggi serve", code, text or "it does not come up")
                time.sleep(_POLL_S)
        self.ready_s = time.monotonic() - start
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_GONE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def usage(self) -> Usage:
        """Return what it takes, with all processes below it; raises `CommandError` if it is gone.

        CPU time of children that have ended counts as well.
        """
        assert self._process is not None
        if self._process.poll() is not None:
            raise CommandError("onggi serve", self._process.returncode, "it has ended")
        cpu_s, rss_bytes, pss_bytes, count = 0.0, 0, 0, 0
        pids = [self._process.pid]
        while pids:
            pid = pids.pop()
            with suppress(OSError):  # a child that has ended meanwhile
                cpu_s += _cpu_s(pid)
                memory = _memory(pid)
                rss_bytes += memory["Rss"]
                pss_bytes += memory["Pss"]
                count += 1
                for task in Path(f"/proc/{pid}/task").iterdir():
                    pids += [int(child) for child in (task / "children").read_text().split()]
        return Usage(cpu_s, rss_bytes, pss_bytes, count)

    def peak_bytes(self) -> int:
        """Return the most that was resident of it since it started."""
        assert self._process is not None
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise CommandError("onggi serve", 0, "its peak memory can't be told")

    def browser(self) -> Browser:
        """Return one who has the token, with a new connection."""
        return Browser(self._port, (self._state / "token").read_text().strip())


class Browser:
    """Asks over HTTP, as a browser does: one connection, and answers may be packed."""

    def __init__(self, port: int, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "gzip"}

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, path: str) -> tuple[float, bytes]:
        """Return how long it took until all of an answer was there, and what it says.

        Raises `CommandError` if that is an error.
        """
        start = time.perf_counter()
        self._connection.request("GET", path, headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        took_s = time.perf_counter() - start
        if answer.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if answer.status != 200:
            raise CommandError(f"GET {path}", answer.status, body.decode(errors="replace"))
        return took_s, body


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _cpu_s(pid: int) -> float:
    """Return user and system time of a process, and of its children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    pairs = (line.split() for line in lines)
    return {name.rstrip(":"): int(kib) * 1024 for name, kib, _ in pairs}
