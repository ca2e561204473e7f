"""Pack a volume directly and as a run of a plan, in turns, and tell what the server adds.

Owns both command lines, what of a run is compared with what of a process, and how far other
programs disturbed that. Knows no bar.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from control_server import BenchServer
from harness import Command, CommandError, Ratio, Sample, environment, log_to_stderr, run_once

from onggi.control.client import Client

_NAME = "benchmark"
# The output of a process is kept, and it is this process that is measured: no shell stays.
_KEEP_OUTPUT = 'out=$1; shift; exec "$@" >"$out"'
_CALM = 0.05  # of the CPUs, that other programs may take
_MOST_TRIES = 3  # as often as there are rounds
_LOOK_S, _MOST_WAIT_S = 0.5, 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """One round. Times are in seconds.

    Attributes:
        direct_s: `onggi pack`, from its start to its end.
        direct_pack_s: what it says itself, which leaves out the start of Python.
        direct_cpu_s: CPU time of it.
        run_s: of the run, from its start to its end, as the history has it.
        run_pack_s: what the pack in it says itself.
        run_cpu_s: CPU time of the server meanwhile, and of all processes below it.
        waited_s: `onggi run --wait`, which looks every half second.
        others: the share of the CPUs that other programs took, of the worse of both.
    """

    direct_s: float
    direct_pack_s: float
    direct_cpu_s: float
    run_s: float
    run_pack_s: float
    run_cpu_s: float
    waited_s: float
    others: float

    @property
    def added_s(self) -> float:
        """How much longer a run takes than a process, besides packing itself."""
        return (self.run_s - self.run_pack_s) - (self.direct_s - self.direct_pack_s)


class Runs:
    """Packs an image, with a server, below a folder that is its own."""

    def __init__(
        self, onggi: str, image: Path, work: Path, server: BenchServer, level: int
    ) -> None:
        self._onggi = onggi
        self._image = image.absolute()
        self._server = server
        self._client = Client(server.socket)
        self._said = work / "direct.json"
        self._target = work / "target"
        self._target.mkdir(parents=True)
        packing = ("--mode", "volume", "--level", str(level))
        out = work / "direct.onggi"
        direct = (onggi, "pack", "--json", *packing, str(self._image), str(out))
        argv = ("sh", "-c", _KEEP_OUTPUT, "sh", str(self._said), *direct)
        run = (onggi, "run", _NAME, "--wait", "--quiet", "--socket", str(server.socket))
        made, inputs = self._target / _NAME, (self._image,)
        self._direct = Command("onggi pack", argv, inputs, (out,))
        self._run = Command("onggi run --wait", run, inputs, (made,), check=_has_archive(made))
        self._add_plan(packing)

    def measure(self, rounds: int) -> list[Pair]:
        """Measure pairs, after one that does not count.

        Pairs that other programs disturbed are measured again, a few times; the least disturbed
        ones count. Raises `CommandError` if a command fails, or a run is not what it should be.
        """
        self._pair(0, check=True)
        pairs: list[Pair] = []
        tries = 0
        while sum(pair.others < _CALM for pair in pairs) < rounds and tries < _MOST_TRIES * rounds:
            tries += 1
            wait_for_calm()
            pair = self._pair(tries)
            pairs.append(pair)
            log_to_stderr(
                f"pair {tries}: pack {pair.direct_s:.3f} s, run {pair.run_s:.3f} s, "
                f"others took {100 * pair.others:.0f} % of the CPUs"
            )
        return sorted(pairs, key=lambda pair: pair.others)[:rounds]

    def _add_plan(self, packing: tuple[str, ...]) -> None:
        argv = [self._onggi, "plan", "add", _NAME, str(self._image), str(self._target.absolute()),
                *packing, "--verify", "never", "--retries", "0",
                "--socket", str(self._server.socket)]  # fmt: skip
        done = subprocess.run(argv, capture_output=True, text=True, env=environment())
        if done.returncode:
            raise CommandError("onggi plan add", done.returncode, done.stderr)

    def _pair(self, number: int, *, check: bool = False) -> Pair:
        """Measure a pair; the one goes first in one round, and the other in the next."""
        one, other = (self._measure_direct, self._measure_run)[:: 1 if number % 2 else -1]
        known = one(check) | other(check)
        others = max(known.pop("others_direct"), known.pop("others_run"))
        return Pair(others=others, **known)

    def _measure_direct(self, check: bool) -> dict[str, float]:
        sample, others, _ = self._measured(self._direct, check)
        result = json.loads(self._said.read_text().splitlines()[-1])
        return {
            "direct_s": sample.wall_s, "direct_pack_s": result["elapsed_s"],
            "direct_cpu_s": sample.cpu_s, "others_direct": others,
        }  # fmt: skip

    def _measure_run(self, check: bool) -> dict[str, float]:
        sample, others, server_cpu_s = self._measured(self._run, check)
        run: dict[str, Any] = self._client.get("/api/runs", plan=_NAME, limit=1)["runs"][0]
        if run["content_bytes"] != self._image.stat().st_size:
            raise CommandError("onggi run", 0, f"it is not what was to be packed: {run}")
        return {
            "run_s": run["ended_s"] - run["started_s"],
            "run_pack_s": self._pack_s(run["run_id"]),
            "run_cpu_s": server_cpu_s, "waited_s": sample.wall_s, "others_run": others,
        }  # fmt: skip

    def _measured(self, command: Command, check: bool) -> tuple[Sample, float, float]:
        """Run a command; return the sample, the share of others, and the CPU time of the server."""
        before, ours_s = Busy.now(), self._ours_s()
        server_s = self._server.usage().cpu_s
        sample = run_once(command, check=check)
        others = Busy.now().share_since(before, self._ours_s() - ours_s)
        return sample, others, self._server.usage().cpu_s - server_s

    def _ours_s(self) -> float:
        """Return the CPU time of this process, of what it has waited for, and of the server."""
        return sum(os.times()[:4]) + self._server.usage().cpu_s

    def _pack_s(self, run_id: int) -> float:
        for line in self._client.get(f"/api/runs/{run_id}/log")["lines"]:
            if line.get("type") == "result":
                return float(line["elapsed_s"])
        raise CommandError(f"run {run_id}", 0, "its log does not have the result")


@dataclasses.dataclass(frozen=True, slots=True)
class Busy:
    """How long the CPUs of the machine have been busy, at a moment; what a host took counts."""

    busy_s: float
    moment_s: float

    @classmethod
    def now(cls) -> Busy:
        """Return how it is now."""
        user, nice, system, _, _, *interrupts = map(int, _cpu_line()[1:9])
        ticks = user + nice + system + sum(interrupts)
        return cls(ticks / os.sysconf("SC_CLK_TCK"), time.monotonic())

    def share_since(self, before: Busy, ours_s: float) -> float:
        """Return the share of all CPUs that others than those who took `ours_s` have had."""
        length_s = (self.moment_s - before.moment_s) * (os.cpu_count() or 1)
        return max(self.busy_s - before.busy_s - ours_s, 0) / length_s


def wait_for_calm() -> None:
    """Wait until nobody else uses the CPUs, though not for long."""
    end_s = time.monotonic() + _MOST_WAIT_S
    while time.monotonic() < end_s:
        before = Busy.now()
        time.sleep(_LOOK_S)
        if Busy.now().share_since(before, 0) < _CALM:
            return


def ratio_of(pairs: list[Pair], above: str, below: str) -> Ratio:
    """Compare two times, pair by pair."""
    ratios = [getattr(pair, above) / getattr(pair, below) for pair in pairs]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def _cpu_line() -> list[str]:
    with open("/proc/stat") as file:
        return file.readline().split()


def _has_archive(folder: Path) -> Callable[[], None]:
    def check() -> None:
        if len(list(folder.glob("*.onggi"))) != 1:
            raise CommandError("onggi run", 0, "there is no archive")

    return check
