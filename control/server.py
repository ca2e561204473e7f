"""The server of one computer: a master and a manager in one process, and those who may ask them.

Owns: how they live together: the folder of what is kept, the loop that looks at the clock, sockets,
signals, and the order in which all that starts and ends. Must not know command lines, nor the
environment. Runs in one thread with asyncio; only messages to people are sent from others.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from .api import make_app
from .database import Database
from .errors import ConflictError, ControlError, StateError
from .manager import Manager
from .master import Master, Settings
from .messages import Command, Event
from .model import Run
from .notify import Notify, notify
from .plan import Plan
from .run_log import remove_old_logs
from .service import Service

log = logging.getLogger("onggi.server")

_LOOK_S = 15.0  # how long nothing is looked at, at most: clocks jump
_SOONEST_S = 0.05
_SWEEP_RUNS = 100  # that are new
_MOST_UNTOLD = 1000


@dataclass(frozen=True, slots=True)
class Options:
    """How a server is.

    Attributes:
        state: folder of what is kept; made if there is none.
        socket: path of the Unix socket; its folder is made.
        command: what `onggi` is run as.
        http: host and port of the page; None for none.
        token: who knows it may use the page.
        group: whose members may use the socket as well; None for nobody else.
        settings: of the master.
        environment: of commands that tell people how runs end.
        ready: told once the server answers.
    """

    state: Path
    socket: Path
    command: Sequence[str]
    http: tuple[str, int] | None = None
    token: str = ""
    group: int | None = None
    settings: Settings = field(default_factory=Settings)
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    ready: Callable[[], None] = lambda: None


def serve(options: Options) -> None:
    """Run a server until SIGTERM or SIGINT.

    Raises:
        ConflictError: another one uses the folder, or the address.
        StateError: what is kept can't be read.
    """
    with _alone(options.state):
        asyncio.run(_Server(options).run())


@contextlib.contextmanager
def _alone(state: Path) -> Generator[None]:
    """Have the folder of what is kept alone."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateError(f"{state}: {os.strerror(error.errno or 0)}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise ConflictError(f"another server uses {state}") from None
    try:
        yield
    finally:
        os.close(lock)


class _Server:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._swept = 0
        self._tasks: set[asyncio.Future[Any]] = set()
        self._has_socket = False
        self._database = Database(options.state / "onggi.db")
        self._manager = Manager(
            options.state, options.command, self._hear, retell_s=options.settings.first_pause_s
        )
        self._master = Master(
            self._database, self._send, self._manager.taken, self._over, options.settings
        )

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        service = Service(
            self._master, self._options.state, self._options.command, self._wake.set, time.time
        )
        servers: list[_Uvicorn] = []
        try:
            self._master.reload(time.time())
            await self._manager.recover()
            self._master.lose_others(set(), time.time())
            servers = await self._listen(service)
            self._options.ready()
            await self._look_at_the_clock()
        finally:
            for server in servers:
                server.should_exit = True
            await self._manager.close()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=10)
            await asyncio.sleep(0)
            self._database.close()
            if self._has_socket:
                with contextlib.suppress(OSError):
                    self._options.socket.unlink()

    async def _look_at_the_clock(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                self._master.tick(time.time())
                pause_s = self._master.next_look(time.time()) - time.time()
                self._sweep()
            except ControlError as error:  # a full disk, say: what is due stays due
                log.error("%s", error)
                pause_s = _LOOK_S
            waits = [asyncio.ensure_future(each.wait()) for each in (self._wake, self._stop)]
            await asyncio.wait(
                waits,
                timeout=min(max(pause_s, _SOONEST_S), _LOOK_S),
                return_when=asyncio.FIRST_COMPLETED,
            )
            for each in waits:
                each.cancel()

    def _sweep(self) -> None:
        """Remove old logs, now and then."""
        newest = max((run.run_id for run in self._database.runs(limit=1)), default=0)
        if newest >= self._swept + _SWEEP_RUNS:
            remove_old_logs(self._options.state / "logs", newest)
            self._swept = newest

    # --- messages ----------------------------------------------------------------------------

    def _send(self, command: Command) -> None:
        self._keep(asyncio.ensure_future(self._manager.take(command)))

    def _hear(self, event: Event) -> None:
        self._master.hear(event, time.time())
        self._wake.set()

    def _over(self, run: Run, plan: Plan | None) -> None:
        wanted = Notify.from_dict(self._database.setting("notify") or {})
        if run.state not in wanted.on or not (wanted.urls or wanted.command):
            return
        if len(self._tasks) > _MOST_UNTOLD:
            log.error("run %d: too many messages wait to be sent", run.run_id)
            return
        self._keep(asyncio.ensure_future(self._tell(run, plan, wanted)))

    async def _tell(self, run: Run, plan: Plan | None, wanted: Notify) -> None:
        for error in await asyncio.to_thread(notify, run, plan, wanted, self._options.environment):
            log.error("run %d: %s", run.run_id, error)

    def _keep(self, task: asyncio.Future[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a defect in Onggi: %s: %s", type(error).__name__, error)

    # --- sockets -----------------------------------------------------------------------------

    async def _listen(self, service: Service) -> list[_Uvicorn]:
        options = self._options
        listening = _unix_socket(options)
        self._has_socket = True
        servers = [_Uvicorn(make_app(service, token=None), listening)]
        if options.http is not None:
            app = make_app(service, token=options.token)
            servers.append(_Uvicorn(app, _tcp_socket(*options.http)))
        for server in servers:
            self._keep(asyncio.ensure_future(server.serve(server.sockets)))
        while not all(server.started for server in servers):
            await asyncio.sleep(0.01)
        return servers


class _Uvicorn(uvicorn.Server):
    """One socket; signals are the matter of the whole server."""

    def __init__(self, app: object, listening: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                app,  # type: ignore[arg-type]
                loop="asyncio", http="h11", ws="none", lifespan="off", log_config=None,
                access_log=False, server_header=False, timeout_graceful_shutdown=5,
            )
        )  # fmt: skip
        self.sockets = [listening]

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals alone."""
        yield


def _unix_socket(options: Options) -> socket.socket:
    """Open the socket, which nobody without rights can open, not even for a moment."""
    path = options.socket
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _remove_dead(path)
        before = os.umask(0o177)
        try:
            listening.bind(os.fspath(path))
        finally:
            os.umask(before)
        if options.group is not None:
            os.chown(path, -1, options.group)
            path.chmod(0o660)
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise ConflictError(f"can't listen at {path}: {error.strerror or error}") from None
    return listening


def _remove_dead(path: Path) -> None:
    """Remove the socket of a server that was killed; leave alone whatever else is there."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise ConflictError(f"can't listen at {path}: it is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asking:
        asking.setblocking(False)
        try:
            asking.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:  # many wait to be heard
            pass
    raise ConflictError(f"can't listen at {path}: another server does")


def _tcp_socket(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family)
        # asyncio does so for its own sockets alone; or each answer waits 40 ms for the next.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise ConflictError(f"can't listen at {host}:{port}: {error.strerror or error}") from None
    return listening
