"""A server whose plans, runs and archives are made up: what the page is tested with.

Speaks the interface as the real one does. Progress goes on with real time; commands have effects.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from onggi.control.metrics import render
from onggi.control.model import Kind, Reason, Run, State
from onggi.control.pages import page_middleware, page_routes
from onggi.control.plan import Keep, Plan

TOKEN = "correct-horse-battery-staple"
EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
LONG = "the-photographs-of-the-family-since-1987-and-all-of-the-films-too"
DAY_S, GIB, MIB = 86_400.0, 1 << 30, 1 << 20
Handler = Callable[[Request], Any]


class FakeError(Exception):
    """What the interface answers instead."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass
class Volume:
    """A plan and how it is."""

    plan: Plan
    last_success_s: float | None = None
    next_due_s: float | None = None
    failures: int = 0
    last: Run | None = None
    run: Run | None = None
    days: dict[int, str] = field(default_factory=dict[int, str])  # days ago: state


class Fake:
    """The state of the made-up server. `problems` are paths that answer an error, and which."""

    def __init__(self) -> None:
        self.started_s = time.time() - 9 * DAY_S
        self.volumes: dict[str, Volume] = {}
        self.runs: list[Run] = []
        self.archives: dict[str, list[dict[str, Any]]] = {}
        self.maps: dict[str, list[dict[str, Any]]] = {}
        self.logs: dict[int, list[dict[str, Any]]] = {}
        self.asked: list[str] = []
        self.problems: dict[str, tuple[int, str]] = {}

    # --- making ------------------------------------------------------------------------------

    def add(self, name: str, source: str, **fields: Any) -> Volume:
        """Add a plan that never ran."""
        given: dict[str, Any] = {"target": "/backup/vault", "every": "1d", "at": "02:00", **fields}
        volume = Volume(Plan(name, source, timezone="Europe/Berlin", **given))
        if not volume.plan.is_paused:
            volume.next_due_s = time.time() + 5.4 * 3600
        self.volumes[name] = volume
        self.archives[name] = []
        return volume

    def ran(self, volume: Volume, ago_s: float, state: State, **fields: Any) -> Run:
        """Add a backup that ended."""
        ended_s = time.time() - ago_s
        run = Run(
            len(self.runs) + 1, volume.plan.name, Kind.BACKUP, Reason.SCHEDULE, state,
            ended_s - 1300, ended_s - 1300, ended_s - 1250, ended_s, 1,
        )  # fmt: skip
        if state.is_good:
            stamp = datetime.fromtimestamp(ended_s, UTC)
            path = f"{volume.plan.folder}/{stamp:%Y-%m-%dT%H%M%SZ}.onggi"
            run = replace(
                run, archive=path, content_bytes=212 * GIB, archive_bytes=80 * GIB,
                findings=3 if state is State.WARNED else 0, verified=True, exit_code=0,
            )  # fmt: skip
            volume.last_success_s, volume.failures = ended_s, 0
            self.archives[volume.plan.name].insert(
                0,
                {
                    "path": path, "made_s": run.started_s,
                    "content_bytes": fields.get("content_bytes", 212 * GIB),
                    "archive_bytes": 80 * GIB, "is_verified": True, "verified_s": ended_s,
                    "damaged_s": None, "run_id": run.run_id, "exists": True,
                },
            )  # fmt: skip
        elif state is not State.CANCELLED:
            volume.failures += 1
            run = replace(run, exit_code=6)
        run = replace(run, **fields)
        self.runs.append(run)
        volume.last = run
        volume.days[int(ago_s // DAY_S)] = state.value
        return run

    def month(self, volume: Volume, skip: int = 0) -> None:
        """Add a month of backups that succeeded, up to `skip` days ago."""
        for ago in range(29, skip - 1, -1):
            self.ran(volume, ago * DAY_S + 4 * 3600, State.SUCCEEDED)

    def start(self, volume: Volume, reason: Reason, state: State = State.RUNNING) -> Run:
        """Add a run that waits, or is at work."""
        now_s = time.time()
        is_active = state is not State.PENDING
        run = Run(
            len(self.runs) + 1, volume.plan.name, Kind.BACKUP, reason, state, now_s, now_s,
            now_s - 700 if is_active else None, None, int(is_active),
        )  # fmt: skip
        self.runs.append(run)
        volume.run = run
        return run

    def put(self, run: Run) -> Run:
        """Have a run be as it is given."""
        self.runs[run.run_id - 1] = run
        volume = self.volumes[run.plan]
        if volume.run is not None and volume.run.run_id == run.run_id:
            volume.run = None if run.state.is_final else run
            volume.last = run if run.state.is_final else volume.last
        return run

    # --- answers -----------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Return what /api/status has."""
        now_s = time.time()
        volumes = [self._volume(each, now_s) for each in self.volumes.values()]
        return {
            "now_s": now_s, "version": "0.1.0", "started_s": self.started_s, "volumes": volumes,
        }  # fmt: skip

    def _volume(self, volume: Volume, now_s: float) -> dict[str, Any]:
        plan, success_s = volume.plan, volume.last_success_s
        return {
            "plan": plan.name, "source": plan.source, "target": plan.target,
            "is_paused": plan.is_paused, "last_success_s": success_s,
            "age_s": None if success_s is None else now_s - success_s,
            "next_due_s": volume.next_due_s, "failures": volume.failures,
            "archives": len(self.archives[plan.name]),
            "newest": next(iter(self.archives[plan.name]), None),
            "last": volume.last and asdict(volume.last), "run": volume.run and asdict(volume.run),
            "progress": volume.run and self.progress(volume.run),
        }  # fmt: skip

    def progress(self, run: Run) -> dict[str, Any] | None:
        """Return how far a run is: 80 MiB more each second."""
        if run.state not in (State.RUNNING, State.CANCELLING) or run.started_s is None:
            return None
        total = 188 * GIB
        done = min(int((time.time() - run.started_s) * 80 * MIB), total)
        return {
            "run_id": run.run_id, "step": "pack", "content_bytes": done, "total_bytes": total,
            "stored_bytes": done // 3, "bytes_per_s": 81.3 * MIB,
            "left_s": (total - done) / (80 * MIB), "bottleneck": "read",
        }  # fmt: skip

    def find(self, name: str) -> Volume:
        """Return a plan, or answer 404."""
        if name not in self.volumes:
            raise FakeError(404, f"there is no plan {name}; `onggi plan list` lists them")
        return self.volumes[name]

    def find_run(self, run_id: int) -> Run:
        """Return a run, or answer 404."""
        if not 1 <= run_id <= len(self.runs):
            raise FakeError(404, f"there is no run {run_id}; `onggi history` lists them")
        return self.runs[run_id - 1]

    def calendar(self, count: int) -> dict[str, Any]:
        """Return what /api/calendar has."""
        today = datetime.now().date()
        plans = {
            name: [
                {"day": (today - timedelta(days=ago)).isoformat(), "state": state, "runs": 1}
                for ago, state in sorted(volume.days.items(), reverse=True)
                if ago < count
            ]
            for name, volume in self.volumes.items()
        }
        days = [(today - timedelta(days=ago)).isoformat() for ago in reversed(range(count))]
        return {"days": days, "plans": plans}

    def history(self, request: Request) -> dict[str, Any]:
        """Return what /api/runs has."""
        asked = request.query_params
        bad = (State.FAILED, State.MISSED, State.LOST)
        found = [
            asdict(run)
            for run in reversed(self.runs)
            if asked.get("plan", "") in ("", run.plan)
            and (asked.get("failed") != "1" or run.state in bad)
            and ("before" not in asked or run.run_id < int(asked["before"]))
        ]
        return {"runs": found[: int(asked.get("limit", "50"))]}

    def log(self, request: Request) -> dict[str, Any]:
        """Return lines of a log: at most 200 at once."""
        lines = self.logs.get(self.find_run(request.path_params["run"]).run_id, [])
        start = int(request.query_params.get("from", "0"))
        some = lines[start : start + 200]
        return {"lines": some, "next": start + len(some)}

    def archive_map(self, request: Request) -> dict[str, Any]:
        """Return the units of an archive."""
        path = request.query_params["path"]
        if all(each["path"] != path for some in self.archives.values() for each in some):
            raise FakeError(404, f"{path} is no archive of a plan")
        return {"units": self.maps.get(path, units(900))}

    # --- commands ----------------------------------------------------------------------------

    def ask(self, name: str, kind: Kind) -> dict[str, Any]:
        """Have a plan run, or be verified."""
        volume = self.find(name)
        if kind is Kind.VERIFY and not self.archives[name]:
            raise FakeError(404, f"{name} has no archive to verify")
        if volume.run is None:
            self.start(volume, Reason.MANUAL, State.PENDING)
            assert volume.run is not None
            self.put(replace(volume.run, kind=kind))
        return {"run": asdict(volume.run)}

    def cancel(self, run_id: int) -> dict[str, Any]:
        """Have a run end."""
        run = self.find_run(run_id)
        if run.state.is_final:
            raise FakeError(409, f"a run that is {run.state} can't cancel")
        state = State.CANCELLING if run.state is State.RUNNING else State.CANCELLED
        return {"run": asdict(self.put(replace(run, state=state, message="it was cancelled")))}

    def pause(self, name: str, is_paused: bool) -> dict[str, Any]:
        """Have a plan start no runs by itself, or start them again."""
        volume = self.find(name)
        volume.plan = replace(volume.plan, is_paused=is_paused)
        volume.next_due_s = None if is_paused else time.time() + 3600
        return {"plan": volume.plan.as_dict()}

    # --- the application ---------------------------------------------------------------------

    def app(self, token: str = TOKEN) -> Starlette:
        """Return the application: the page, and the interface."""
        get: dict[str, Handler] = {
            "/api/status": lambda _: self.status(),
            "/api/plans": lambda _: {
                "plans": [
                    each.plan.as_dict() | {"created_s": self.started_s}
                    for each in self.volumes.values()
                ]
            },
            "/api/plans/{name}/archives": lambda asked: {
                "archives": self.archives[self.find(asked.path_params["name"]).plan.name]
            },
            "/api/runs": self.history,
            "/api/runs/{run:int}": lambda asked: {
                "run": asdict(self.find_run(asked.path_params["run"])),
                "progress": self.progress(self.find_run(asked.path_params["run"])),
            },
            "/api/runs/{run:int}/log": self.log,
            "/api/archive-map": self.archive_map,
            "/api/calendar": lambda asked: self.calendar(int(asked.query_params["days"])),
        }
        post: dict[str, Handler] = {
            "run": lambda asked: self.ask(asked.path_params["name"], Kind.BACKUP),
            "verify": lambda asked: self.ask(asked.path_params["name"], Kind.VERIFY),
            "pause": lambda asked: self.pause(asked.path_params["name"], True),
            "resume": lambda asked: self.pause(asked.path_params["name"], False),
            "mount": lambda asked: {"folder": f"/run/onggi/mounts/{asked.path_params['name']}"},
            "umount": lambda _: {},
        }
        routes = [Route(path, self._route(handler)) for path, handler in get.items()]
        routes += [
            Route(f"/api/plans/{{name}}/{word}", self._route(handler), methods=["POST"])
            for word, handler in post.items()
        ]
        cancel = self._route(lambda asked: self.cancel(asked.path_params["run"]))
        routes.append(Route("/api/runs/{run:int}/cancel", cancel, methods=["POST"]))
        routes.append(Route("/metrics", self._metrics))
        return Starlette(routes=[*page_routes(token), *routes], middleware=page_middleware(token))

    def _route(self, handler: Handler) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            path = request.url.path
            self.asked.append(f"{request.method} {path}")
            try:
                if path in self.problems:
                    raise FakeError(*self.problems[path])
                # Paths may have lone surrogates in them, which JSON can have, and UTF-8 can't.
                return Response(json.dumps(handler(request)), media_type="application/json")
            except FakeError as error:
                return JSONResponse({"error": str(error)}, error.status)

        return answer

    async def _metrics(self, _: Request) -> Response:
        return Response(render(self.status(), []), media_type="text/plain")


def units(number: int, damaged: tuple[int, ...] = (17, 230)) -> list[dict[str, Any]]:
    """Return the units of an archive: data that compresses more or less, zeros, holes, damage."""
    found: list[dict[str, Any]] = []
    for each in range(number):
        state = "hole" if each % 97 > 80 else "zero" if each % 61 > 54 else "data"
        share = (each * 37 % 100) / 100
        stored = int(20 * MIB * share) if state == "data" else 0
        if each in damaged:
            state = "damaged"
        found.append(
            {"number": each, "state": state, "content_bytes": 20 * MIB, "stored_bytes": stored}
        )
    return found


def log_lines(count: int) -> list[dict[str, Any]]:
    """Return a log: progress, findings, lines of standard error, and markup that must stay text."""
    start_s = time.time() - 900
    lines: list[dict[str, Any]] = [
        {"time_s": start_s, "step": "pack", "stream": "master", "text": "attempt 1 starts"}
    ]
    for each in range(count):
        event: dict[str, Any] = {
            "type": "progress", "command": "pack", "phase": "pack",
            "content_bytes": (each + 1) * 80 * MIB, "total_bytes": 188 * GIB, "stored_bytes": 1,
        }  # fmt: skip
        if each % 5 == 4:
            event = {
                "type": "finding", "code": "changed", "severity": "warning",
                "message": f"srv/mail/box{each}: it changed while it was read",
            }  # fmt: skip
        lines.append({"time_s": start_s + each, "step": "pack", "stream": "event"} | event)
    lines.append({"time_s": start_s, "step": "pack", "stream": "stderr", "text": EVIL})
    return lines


def twelve() -> Fake:
    """Return a server with twelve plans, each of another kind."""
    fake = Fake()
    fake.month(fake.add("mail", "/srv/mail"))
    fake.month(fake.add("databases", "/var/lib/postgresql", every="6h", nice=True))
    photos = fake.add(LONG, "/srv/pictures/of/the/family/since/1987/and/films", every="1w")
    for weeks in (4, 3, 2, 1, 0):
        fake.ran(photos, weeks * 7 * DAY_S + 3 * 3600, State.SUCCEEDED)

    home = fake.add("home", "/home", keep=Keep(last=7, daily=14, weekly=8, monthly=12))
    fake.month(home, skip=1)
    fake.logs[fake.start(home, Reason.SCHEDULE).run_id] = log_lines(40)
    images = fake.add("vm-images", "/var/lib/libvirt/images", cron="30 1 * * 1-5", every="")
    fake.month(images)
    fake.start(images, Reason.MANUAL, State.PENDING)

    web = fake.add("web", "/srv/www", exclude=("*.tmp", "cache/*"))
    fake.month(web, skip=3)
    for days in (2, 1, 0):
        failed = fake.ran(
            web, days * DAY_S + 7200, State.FAILED,
            message="the target /backup/vault is not mounted: its marker file is missing",
        )  # fmt: skip
        fake.logs[failed.run_id] = log_lines(30)
    evil = fake.add("scratch", f"/srv/{EVIL}")
    fake.month(evil, skip=1)
    lost = fake.ran(evil, 5 * 3600, State.LOST, message=f"found dead: {EVIL}")
    fake.logs[lost.run_id] = log_lines(3)

    warned = fake.add("documents", "/srv/documents")
    fake.month(warned, skip=1)
    fake.ran(warned, 3 * 3600, State.WARNED, message="3 files changed while they were read")
    laptop = fake.add("laptop", "/dev/mapper/laptop", mode="volume", is_paused=True)
    fake.month(laptop, skip=11)
    fake.add("new-disk", "/dev/sdc")
    late = fake.add("archive-of-2019", "/srv/2019")
    fake.month(late, skip=6)
    late.days |= dict.fromkeys(range(6), "missed")
    missed = fake.add("music", "/srv/music")
    fake.month(missed, skip=1)
    fake.ran(missed, 3600, State.CANCELLED, message="it was cancelled")
    return fake


def many(count: int) -> Fake:
    """Return a server with a lot of plans; one in ten fails, one in fifty is at work."""
    fake = Fake()
    for number in range(count):
        volume = fake.add(f"volume-{number:04}", f"/srv/data/{number:04}")
        fake.ran(volume, 9 * 3600 + number, State.SUCCEEDED)
        volume.days = dict.fromkeys(range(30), "succeeded")
        if number % 10 == 3:
            fake.ran(volume, 3600, State.FAILED, message="the target is full: 0 bytes are free")
        if number % 50 == 7:
            fake.start(volume, Reason.SCHEDULE)
    return fake


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def served(app: Starlette) -> Iterator[str]:
    """Serve an application on a real socket, in a thread; yield its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http="h11", ws="none", lifespan="off", log_config=None, access_log=False,
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = _Quiet(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listening.close()
        assert not thread.is_alive()
