"""The manager of a node: takes commands, has them done, and tells what becomes of them.

Owns: which works there are, and that each is done once, that its end is told until the master has
taken note, and that nothing of a manager that died goes on. Must not know what is due, nor how a
work is done. For asyncio, in one thread; one manager for a node and a folder, which the caller has
for itself alone. How many works there are at a time is the master's matter.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from . import process
from .agent import Patience
from .errors import ConflictError, ControlError, StateError
from .journal import Entry, Journal
from .messages import STOPPED, VANISHED, Cancel, Command, Ended, Event, Start, Started, Work
from .run_log import RunLog, log_path
from .worker import Means, Worker, claimed, remove_litter

log = logging.getLogger("onggi.manager")

_THREADS = 16
_MOST_REMEMBERED = 10_000
_RETELL_S = 60.0

_Value = TypeVar("_Value")


class Manager:
    """A manager.

    Args:
        state: folder of what is kept, which must exist.
        command: what `onggi` is run as; a program that does not leave the work to a child.
        tell: takes events, in the thread of the event loop. An end is told again from time to time
            until `taken` is called, which `tell` itself may do.
        patience: how long to wait for processes.
        retell_s: after how long an end is told again.

    Raises:
        StateError: what is kept can't be used.
    """

    def __init__(
        self,
        state: Path,
        command: Sequence[str],
        tell: Callable[[Event], None],
        *,
        patience: Patience | None = None,
        retell_s: float = _RETELL_S,
    ) -> None:
        self._logs = state / "logs"
        self._tell_master = tell
        self._retell_s = retell_s
        self._journal = Journal(state / "journal")
        self._patience = patience or Patience()
        self._threads = ThreadPoolExecutor(_THREADS, "onggi-manager")
        self._means = Means(command, self._journal, self._threads, self._tell, self._patience)
        self._workers: dict[int, Worker] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._ended: dict[int, Entry] = {}  # and not taken
        self._litter: dict[int, Entry] = {}  # what could not be removed yet
        self._taken: OrderedDict[int, Ended] = OrderedDict()
        self._cancelled: OrderedDict[int, None] = OrderedDict()  # before they were started
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._is_closed = False

    async def recover(self) -> None:
        """Find out what a manager before this one left, end it, and tell of it; call it first.

        Raises:
            StateError: the journal can't be read.
        """
        entries = await self._means.waits(self._journal.read)
        await asyncio.gather(*(self._take_over(entry) for entry in entries))

    async def take(self, command: Command) -> None:
        """Take a command; returns at once. The same command may come several times.

        Raises:
            ConflictError: the manager is closed.
        """
        if self._is_closed:
            raise ConflictError("the manager is closed")
        if isinstance(command, Start):
            self._start(command.work)
        else:
            self._cancel(command)

    def taken(self, run_id: int) -> None:
        """Forget the end of a run, of which the master has taken note."""
        entry = self._ended.pop(run_id, None)
        if entry is None:
            return
        if (timer := self._timers.pop(run_id, None)) is not None:
            timer.cancel()
        _remember(self._taken, run_id, entry.end)
        if entry.is_clean:
            self._journal.forget(run_id)
            return
        self._litter[run_id] = replace(entry, is_taken=True)
        try:
            self._journal.write(self._litter[run_id])
        except StateError as error:  # then it is told once more after a crash
            self._complain(error)

    async def close(self) -> None:
        """End all work, and wait for that."""
        self._is_closed = True
        for worker in self._workers.values():
            worker.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks.values())
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._threads.shutdown()

    def _start(self, work: Work) -> None:
        run_id = work.run_id
        if (worker := self._workers.get(run_id)) is not None:
            self._tell(Started(run_id, worker.attempt))
            return
        entry = self._ended.get(run_id)
        end = self._taken.get(run_id) if entry is None else entry.end
        if end is not None and end.attempt >= work.attempt:
            self._tell(end)
            return
        if run_id in self._cancelled:
            del self._cancelled[run_id]
            self._end(Entry(Ended(run_id, work.attempt, STOPPED), is_over=True, is_clean=True))
            return
        # Its master would not try again if it had not taken note.
        self.taken(run_id)
        log = RunLog(log_path(self._logs, run_id))
        self._workers[run_id] = worker = Worker(work, self._means, log, self._litter_for(work))
        self._tasks[run_id] = asyncio.create_task(self._run(worker, log), name=f"run {run_id}")

    def _litter_for(self, work: Work) -> list[Entry]:
        """Give what earlier works left to one that can remove it."""
        place = (work.target, work.marker)
        found = [each for each in self._litter.values() if (each.target, each.marker) == place]
        for each in found:
            del self._litter[each.run_id]
        # What this run has left in another target is forgotten: it has one entry in the journal.
        self._litter.pop(work.run_id, None)
        return found

    def _cancel(self, command: Cancel) -> None:
        run_id = command.run_id
        if (worker := self._workers.get(run_id)) is not None:
            worker.cancel()
        elif (entry := self._ended.get(run_id)) is not None:
            self._tell(entry.end)
        elif run_id not in self._taken:
            _remember(self._cancelled, run_id, None)

    async def _run(self, worker: Worker, log: RunLog) -> None:
        try:
            entry = await worker.run()
        except Exception as error:  # or nobody would ever hear of this run
            self._complain(error)
            entry = worker.broken(f"a defect in Onggi: {type(error).__name__}: {error}")
        finally:
            log.close()
        try:
            await self._means.waits(self._journal.write, entry)
        except StateError as error:
            self._complain(error)
        del self._workers[entry.run_id], self._tasks[entry.run_id]
        self._end(entry)

    def _end(self, entry: Entry) -> None:
        """Tell how a run ended, until that is taken."""
        self._ended[entry.run_id] = entry
        self._tell_end(entry.run_id)

    def _tell_end(self, run_id: int) -> None:
        loop = asyncio.get_running_loop()
        if not self._is_closed:
            self._timers[run_id] = loop.call_later(self._retell_s, self._tell_end, run_id)
        self._tell(self._ended[run_id].end)

    async def _take_over(self, entry: Entry) -> None:
        """Take over what another manager has written into the journal."""
        waits, run_id = self._means.waits, entry.run_id
        if not entry.is_over:
            entry = await self._bury(entry)
        elif not entry.is_clean:
            entry = replace(entry, is_clean=not await waits(remove_litter, entry))
        if not entry.is_taken:
            try:
                await waits(self._journal.write, entry)
            except StateError as error:
                self._complain(error)
            self._end(entry)
        elif entry.is_clean:
            self._journal.forget(run_id)
        else:
            self._litter[run_id] = entry

    async def _bury(self, entry: Entry) -> Entry:
        """End what works for a manager that is dead, and clean up after it."""
        waits, left = self._means.waits, entry.process
        message = "the server ended while it was at work"
        if left is not None and not await process.end(left, self._patience.grace_s):
            problem = f"its process {left.pid} is there still, and can't be ended"
        else:
            if left is not None and entry.makes and not entry.end.archive:
                entry = await waits(claimed, entry)
            problem = await waits(remove_litter, entry)
            left = None
        message = f"{message}; {problem}" if problem else message
        end = replace(entry.end, outcome=VANISHED, message=message)
        return replace(entry, end=end, is_over=True, is_clean=not problem, process=left)

    def _tell(self, event: Event) -> None:
        try:
            self._tell_master(event)
        except Exception as error:  # it is told again; no work must suffer from it
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        """Say what the manager goes on after; of a defect, also where it is."""
        log.error("%s", error, exc_info=None if isinstance(error, ControlError) else error)


def _remember(memory: OrderedDict[int, _Value], run_id: int, value: _Value) -> None:
    """Put something into a memory that forgets the oldest."""
    memory[run_id] = value
    memory.move_to_end(run_id)
    if len(memory) > _MOST_REMEMBERED:
        memory.popitem(last=False)
