"""Measure the control plane: how quick it answers, what it takes, and what it adds to a pack.

Owns the bars. `control_data.py` makes a database of many plans and of months of history,
`control_server.py` knows the life of a server, `control_runs.py` what packs. The section `pack`
needs an image made by `corpus.py` (any other volume image will do).

    python benchmarks/control.py --image corpus.img --work /dev/shm/onggi-bench
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from commands import add_run_arguments
from control_data import Amount, fill
from control_runs import Pair, Runs, ratio_of
from control_server import BenchServer, Browser, Usage
from harness import Command, CommandError, Series, environment, interleave, log_to_stderr
from report import (
    Bar,
    Row,
    facts_list,
    filesystem_of,
    machine,
    megabytes,
    spread,
    verdict_table,
    version_of,
    write_json,
)

import onggi.control

COMMAND_WALL = Bar(300, at_most=True, unit="ms")
ANSWER_WALL = Bar(1000, at_most=True, unit="ms")
IDLE_RSS = Bar(80, at_most=True, unit="MB")
IDLE_CPU = Bar(0.5, at_most=True, unit="%")
PACK_WALL = Bar(1.03, at_most=True, unit="x")

SECTIONS = ("commands", "http", "idle", "pack")
_SETTLE_S = 3.0


@dataclasses.dataclass(frozen=True, slots=True)
class Setup:
    """What every section needs to know. `state` is a server's folder, which is full already."""

    onggi: str
    work: Path
    state: Path
    image: Path
    amount: Amount
    rounds: int
    idle_s: float
    level: int

    def server(self) -> BenchServer:
        """Return the server, which is not started yet."""
        return BenchServer(self.onggi, self.state)


@dataclasses.dataclass(slots=True)
class ControlResults:
    """Rows, and the single values behind them."""

    rows: list[Row] = dataclasses.field(default_factory=list[Row])
    values: dict[str, object] = dataclasses.field(default_factory=dict[str, object])

    def wall(self, what: str, walls_s: Sequence[float], bar: Bar | None) -> None:
        """Add the median of times."""
        self.values[what] = list(walls_s)
        median_ms, lowest_ms, highest_ms = (
            1e3 * each for each in (statistics.median(walls_s), min(walls_s), max(walls_s))
        )
        shown = f"{median_ms:.0f} ms ({spread(lowest_ms, highest_ms, 0)})"
        self.rows.append(Row(f"{what}: wall", median_ms, shown, bar))

    def memory(self, what: str, size_bytes: int, bar: Bar | None) -> None:
        """Add a size."""
        self.values[what] = size_bytes
        self.rows.append(Row(what, size_bytes / 1e6, megabytes(size_bytes), bar))

    def ratio(self, what: str, pairs: list[Pair], above: str, below: str, bar: Bar | None) -> None:
        """Add what two times of each pair are to each other, with a digit more than others."""
        found = ratio_of(pairs, above, below)
        shown = f"{found.median:.3f}x ({spread(found.lowest, found.highest, 3)})"
        self.rows.append(Row(what, found.median, shown, bar))


def measure_commands(setup: Setup, results: ControlResults) -> None:
    """Measure commands that ask the server, and the start of Python beside them."""
    lines = setup.amount.plans + 1  # and a header
    with setup.server() as server:
        results.wall("onggi serve: until it answers", [server.ready_s], None)
        asked = (
            ("onggi status", ("status",), COMMAND_WALL, lines),
            ("onggi history", ("history",), COMMAND_WALL, 31),
            ("onggi history -n 1000 --failed", ("history", "-n", "1000", "--failed"), None, 2),
            ("onggi plan ls", ("plan", "ls"), COMMAND_WALL, lines),
        )
        commands = [Command("onggi --version", (setup.onggi, "--version"))]
        for name, words, _, least in asked:
            argv = (setup.onggi, *words, "--socket", str(server.socket))
            # The status of plans of which some have failed ends with 1.
            shell = ("sh", "-c", '"$@" || [ $? -eq 1 ]', "sh", *argv)
            commands.append(Command(name, shell, check=_tells(argv, least)))
        version, *series = interleave(commands, setup.rounds, log=log_to_stderr)
    for one, (name, _, bar, _) in zip(series, asked, strict=True):
        results.wall(name, one.values("wall_s"), bar)
    results.wall(version.name, version.values("wall_s"), None)
    for one in series:
        _cpu(one, results)


def _cpu(series: Series, results: ControlResults) -> None:
    median_ms = 1e3 * series.median("cpu_s")
    results.rows.append(Row(f"{series.name}: CPU", median_ms, f"{median_ms:.0f} ms", None))


def _tells(argv: Sequence[str], least: int) -> Callable[[], None]:
    """Return a check that a command tells so many lines."""

    def check() -> None:
        done = subprocess.run(argv, capture_output=True, text=True, env=environment())
        if done.stdout.count("\n") < least:
            raise CommandError(" ".join(argv), done.returncode, done.stderr or done.stdout)

    return check


def measure_http(setup: Setup, results: ControlResults) -> None:
    """Measure single answers, each over a new connection, and all that the page loads at first."""
    web = Path(onggi.control.__file__).parent / "web"
    static = [f"/static/{path.relative_to(web)}" for path in sorted(web.rglob("*.*"))]
    asked: list[tuple[str, list[str], Bar | None]] = [
        ("GET /", ["/"], ANSWER_WALL),
        ("GET /api/status", ["/api/status"], ANSWER_WALL),
        ("GET /api/calendar", ["/api/calendar"], ANSWER_WALL),
        ("GET /api/calendar?days=366", ["/api/calendar?days=366"], None),
        ("GET /api/plans", ["/api/plans"], None),
        ("GET /api/runs", ["/api/runs"], None),
        ("GET /metrics", ["/metrics"], None),
        (
            f"GET / and all that the page needs at first, {len(static) + 4} answers",
            ["/", *static, "/api/status", "/api/plans", "/api/calendar"],
            None,
        ),
    ]
    walls: list[list[float]] = [[] for _ in asked]
    with setup.server() as server:
        with server.browser() as browser:
            _check_answers(browser, setup.amount)
        for number in range(-1, setup.rounds):
            for (_, paths, _), taken in zip(asked, walls, strict=True):
                with server.browser() as browser:
                    took_s = sum(browser.get(path)[0] for path in paths)
                if number >= 0:
                    taken.append(took_s)
        usage = server.usage()
        peak_bytes = server.peak_bytes()
    for (name, _, bar), taken in zip(asked, walls, strict=True):
        results.wall(name, taken, bar)
    results.memory("server after all of these: RSS", usage.rss_bytes, IDLE_RSS)
    results.memory("server in all of these: highest RSS", peak_bytes, None)


def _check_answers(browser: Browser, amount: Amount) -> None:
    volumes = json.loads(browser.get("/api/status")[1])["volumes"]
    plans = json.loads(browser.get("/api/calendar")[1])["plans"]
    ran = sum(volume["last"] is not None for volume in volumes)
    if len(volumes) != amount.plans or len(plans) != amount.plans or ran < amount.plans * 0.9:
        raise CommandError("GET /api/status", 0, "not all plans, or runs, are in it")


def measure_idle(setup: Setup, results: ControlResults) -> None:
    """Measure memory and CPU of a server that nobody asks, and then with one page that does."""
    with setup.server() as server:
        time.sleep(_SETTLE_S)
        _observe(server, setup.idle_s, "idle server", None, (IDLE_RSS, IDLE_CPU), results)
        with server.browser() as browser:
            what = "server with a page that asks each second"
            _observe(server, setup.idle_s, what, browser, (IDLE_RSS, None), results)


def _observe(
    server: BenchServer, length_s: float, what: str, browser: Browser | None,
    bars: tuple[Bar, Bar | None], results: ControlResults,
) -> None:  # fmt: skip
    log_to_stderr(f"{what}: {length_s:.0f} s")
    seen: list[Usage] = [server.usage()]
    start = time.monotonic()
    for second in range(1, round(length_s) + 1):
        if browser is not None:
            browser.get("/api/status")
        time.sleep(max(start + second - time.monotonic(), 0))
        seen.append(server.usage())
    elapsed_s = time.monotonic() - start
    share = 100 * (seen[-1].cpu_s - seen[0].cpu_s) / elapsed_s
    results.values[what] = seen
    results.memory(f"{what}: RSS", max(each.rss_bytes for each in seen), bars[0])
    results.memory(f"{what}: PSS", max(each.pss_bytes for each in seen), None)
    shown = f"{share:.2f} % over {elapsed_s:.0f} s"
    results.rows.append(Row(f"{what}: CPU", share, shown, bars[1]))


def measure_pack(setup: Setup, results: ControlResults) -> None:
    """Measure how much longer a run of a plan takes than the same pack without a server."""
    with setup.server() as server:
        runs = Runs(setup.onggi, setup.image, setup.work / "packs", server, setup.level)
        pairs = runs.measure(setup.rounds)
    results.values["pairs"] = pairs
    results.wall("onggi pack", [pair.direct_s for pair in pairs], None)
    results.wall("run of a plan, from its start to its end", [pair.run_s for pair in pairs], None)
    results.wall("of these, what a run adds around a pack", [pair.added_s for pair in pairs], None)
    results.ratio("run of a plan / onggi pack: wall", pairs, "run_s", "direct_s", PACK_WALL)
    what = "pack in a run / onggi pack: their own elapsed_s"
    results.ratio(what, pairs, "run_pack_s", "direct_pack_s", None)
    what = "run of a plan, with the server / onggi pack: CPU"
    results.ratio(what, pairs, "run_cpu_s", "direct_cpu_s", None)
    results.ratio("onggi run --wait / onggi pack: wall", pairs, "waited_s", "direct_s", None)
    others = max(pair.others for pair in pairs)
    shown = f"{100 * others:.1f} % at most"
    results.rows.append(Row("other programs in these pairs: CPU", others, shown, None))


MEASURES: dict[str, Callable[[Setup, ControlResults], None]] = {
    "commands": measure_commands,
    "http": measure_http,
    "idle": measure_idle,
    "pack": measure_pack,
}


def facts(setup: Setup, sections: Sequence[str]) -> dict[str, str]:
    """Return what the numbers depend on, for the head of the report."""
    about = {
        **machine(),
        "onggi": version_of(setup.onggi),
        "database": f"{setup.amount.plans} plans, {setup.amount.runs} runs, "
        f"{megabytes((setup.state / 'onggi.db').stat().st_size)}, on {filesystem_of(setup.state)}",
        "rounds": f"{setup.rounds} after 1 warm-up, interleaved",
    }
    if "pack" in sections:
        size_bytes = setup.image.stat().st_size
        about["image"] = f"{setup.image.name}, {size_bytes} bytes, on {filesystem_of(setup.image)}"
        about["archives"] = f"level {setup.level}, on {filesystem_of(setup.work)}"
    return about


def main() -> int:
    """Run the sections asked for, print the tables, and write the results."""
    args = _arguments()
    if "pack" in args.sections and not args.image.is_file():
        print(f"{args.image}: no such image; make one with corpus.py", file=sys.stderr)
        return 2
    work: Path = args.work / "control"
    state: Path = (args.state or work) / "onggi-bench-state"  # it is emptied
    for folder in (work, state):
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier run
        folder.mkdir(parents=True)
    results = ControlResults()
    try:
        amount = Amount(args.plans, args.runs)
        log_to_stderr(f"filling a database with {amount.plans} plans and {amount.runs} runs")
        fill(state, work, amount, time.time())
        setup = Setup(
            args.onggi, work, state, args.image, amount, args.rounds, args.idle, args.level
        )
        about = facts(setup, args.sections)
        for section in args.sections:
            MEASURES[section](setup, results)
    except CommandError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        for folder in (work, state):
            shutil.rmtree(folder, ignore_errors=True)
    about["load"] += f" at the start, {machine()['load']} at the end"
    text = "\n".join((facts_list(about), verdict_table(results.rows)))
    print(text)
    (args.work / "control.md").write_text(text)
    rows = [{**dataclasses.asdict(row), "verdict": row.verdict} for row in results.rows]
    out: Path = args.json or args.work / "control.json"
    write_json(out, facts=about, rows=rows, values=results.values)
    missed = [row.what for row in results.rows if row.verdict == "FAIL"]
    return 1 if missed and args.check else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure Onggi's control plane.")
    add_run_arguments(parser, rounds=9)
    parser.add_argument("--image", type=Path, help="volume image (default: WORK/corpus.img)")
    parser.add_argument("--state", type=Path, help="where the server keeps things (default: WORK)")
    parser.add_argument("--plans", type=int, default=1000, help="plans (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=100_000, help="runs (default: %(default)s)")
    parser.add_argument(
        "--idle", type=float, default=60, metavar="SECONDS",
        help="how long to look at an idle server (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--level", type=int, default=3, help="level to pack at")
    parser.add_argument(
        "--sections", nargs="+", choices=SECTIONS, default=SECTIONS, help="what to measure"
    )
    parser.add_argument("--json", type=Path, help="results (default: WORK/control.json)")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bar is missed")
    args = parser.parse_args()
    args.image = args.image or args.work / "corpus.img"
    return args


if __name__ == "__main__":
    sys.exit(main())
