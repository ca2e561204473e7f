"""The work of one run: its steps, one after the other, and what comes of them.

Owns: the order of a work's parts, what each end of a command means, and that nothing half-made
stays. Must not know which other works there are, nor who wants to know. For asyncio; what waits for
disks is done in threads.

After a command has begun, whatever happens, temporary files and scratch are removed at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from .agent import Agent, Patience, StepEnd, one_line
from .errors import ConflictError, ControlError
from .journal import Entry, Journal
from .messages import DONE, FAILED, FINDINGS, STOPPED, VANISHED, Ended, Event, Started, Step, Work
from .pace import Pace
from .run_log import MASTER, RunLog
from .target import Target

_PROOFS = ("verify", "compare")
# Exit codes of docs/commands.md.
_WARNED, _USAGE, _FORMAT, _DAMAGED, _OUTPUT, _REFUSED = 1, 2, 3, 4, 6, 7
_TERMINATED = (130, 143)

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Means:
    """What a worker works with.

    Attributes:
        command: what `onggi` is run as.
        journal: where it notes what it does.
        threads: for what waits for disks.
        tell: takes events.
        patience: how long to wait for processes.
    """

    command: Sequence[str]
    journal: Journal
    threads: Executor
    tell: Callable[[Event], None]
    patience: Patience

    async def waits(self, call: Callable[..., _Result], *arguments: object) -> _Result:
        """Call what may wait for disks, in another thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, partial(call, *arguments))


class _Over(Exception):
    """The work ends here, and its other parts are not done."""

    def __init__(self, outcome: str, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message
        self.is_final = is_final


class Worker:
    """Does some work, once.

    Args:
        work: what to do.
        means: what with.
        log: takes what commands say.
        litter: works of before that have left something in the same target.
    """

    def __init__(self, work: Work, means: Means, log: RunLog, litter: Sequence[Entry] = ()) -> None:
        self._work = work
        self._means = means
        self._log = log
        self._target = Target(work.target, work.marker)
        self._agent: Agent | None = None
        self._is_cancelled = False
        self._has_begun = False
        self._may_have_made = False
        self._differs = False
        self._first = ""
        self._litter = litter
        self._scratch = tuple(step.remove_after for step in work.steps if step.remove_after)
        self._wrong = self._what_is_wrong()
        parts_of = [path for each in litter for path in each.parts_of]
        scratch = [path for each in litter for path in each.scratch]
        if not self._wrong:
            parts_of += [work.makes] if work.makes else []
            scratch += self._scratch
        self._entry = Entry(
            Ended(work.run_id, work.attempt, VANISHED),
            target=work.target,
            marker=work.marker,
            makes=work.makes,
            parts_of=tuple(dict.fromkeys(parts_of)),
            scratch=tuple(dict.fromkeys(scratch)),
        )

    @property
    def attempt(self) -> int:
        """Which attempt of the run it is."""
        return self._work.attempt

    def cancel(self) -> None:
        """Have the work end soon."""
        self._is_cancelled = True
        if self._agent is not None:
            self._agent.cancel()

    async def run(self) -> Entry:
        """Do the work; return how it ended. Not in the journal yet."""
        self._learn(verified=False if any(map(_is_proof, self._work.steps)) else None)
        try:
            await self._note()
            for entry in self._litter:  # this entry has it now
                if entry.run_id != self._work.run_id:
                    self._means.journal.forget(entry.run_id)
            self._means.tell(Started(self._work.run_id, self._work.attempt))
            await self._do()
            findings = self._entry.end.findings
            over = _Over(FINDINGS if findings else DONE, _summary(self._first, findings))
            if self._entry.end.verified is not None:
                self._learn(verified=not self._differs)
        except _Over as caught:
            over = caught
        except ControlError as error:
            over = _Over(FAILED, str(error))
        self._learn(outcome=over.outcome, message=over.message, is_final=over.is_final)
        await self._claim()
        await self._clean()
        end = self._entry.end
        self._log.text("", MASTER, f"{end.outcome}: {end.message}".rstrip(": "), matters=True)
        return replace(self._entry, is_over=True, process=None)

    def broken(self, message: str) -> Entry:
        """Return how work ended that a defect has cut off."""
        self._learn(outcome=FAILED, message=one_line(message))
        return replace(self._entry, is_over=True)

    async def _do(self) -> None:
        if self._wrong:
            raise _Over(FAILED, self._wrong, is_final=True)
        waits = self._means.waits
        if self._work.target:
            self._stop_if_cancelled()
            await waits(self._target.check)
            self._has_begun = True
            await waits(remove_litter, self._entry)
            for path in self._scratch:  # or what is there would be taken for what is made
                await waits(self._target.remove_scratch, path)
        if self._work.makes and await self._is_there_already():
            raise _Over(FAILED, f"{self._work.makes} exists already", is_final=True)
        for step in self._work.steps:
            await self._step(step)
        for path in self._work.removes:
            self._stop_if_cancelled()
            await waits(self._target.remove_archive, path)
            self._learn(removed=(*self._entry.end.removed, path))

    async def _is_there_already(self) -> bool:
        return await self._means.waits(self._target.prepare, self._work.makes)

    def _what_is_wrong(self) -> str:
        """Return what can't be about the paths of the work; empty if it may be done."""
        work = self._work
        archives = (work.makes, *work.removes) if work.makes else work.removes
        try:
            for path in archives:
                self._target.check_archive(path)
            for path in self._scratch:
                self._target.check_scratch(path, archives)
        except ConflictError as error:
            return str(error)
        return f"{work.makes} is to be made and removed" if work.makes in work.removes else ""

    def _stop_if_cancelled(self) -> None:
        if self._is_cancelled:
            raise _Over(STOPPED, "")

    async def _step(self, step: Step) -> None:
        self._stop_if_cancelled()
        pace = Pace(self._work.run_id, step.name)

        def hear(record: dict[str, Any]) -> None:
            if (progress := pace.take(record)) is not None:
                self._means.tell(progress)

        agent = Agent(
            self._means.command, step, self._log, hear,
            is_nice=self._work.nice, patience=self._means.patience,
        )  # fmt: skip
        self._log.text(step.name, MASTER, "onggi " + " ".join(step.arguments), matters=True)
        identity = agent.start()
        self._agent = agent
        try:
            # Before the process does anything, the journal has it: or nobody would ever end it.
            await self._note(identity)
        except BaseException:
            await agent.abandon()
            raise
        self._may_have_made = step.name == "pack"
        end = await agent.run()
        self._agent = None
        self._may_have_made &= end.exit_code is None or end.exit_code in _TERMINATED
        self._learn(exit_code=end.exit_code)
        await self._judge(step, end)

    async def _judge(self, step: Step, end: StepEnd) -> None:
        """Learn what there is to learn from the end of a command; raise if it is the last one."""
        code, result = end.exit_code, end.result
        bad = end.findings["damage"] + end.findings["difference"]
        # What was off when an archive was made is told again by whoever reads it.
        is_told = _is_proof(step) and bool(self._entry.end.archive)
        found = bad if is_told else sum(end.findings.values())
        self._learn(findings=self._entry.end.findings + found)
        self._first = self._first or (end.first if found else "")
        if result is None or code not in (0, _WARNED):
            raise await self._failure(step, end)
        if step.name == "pack":
            self._learn(
                archive=self._work.makes,
                content_bytes=_number(result, "content_bytes"),
                archive_bytes=_number(result, "archive_bytes"),
            )
        if step.name in _PROOFS:
            self._differs |= bad > 0
        elif _is_proof(step):
            self._differs |= result.get("verified") is not True
        # An archive that is right, though its source was not, is no failure of a proof.
        is_right = step.name in _PROOFS and not bad and end.findings["warning"] > 0
        if code == _WARNED and not (step.expected_findings or is_right):
            raise _Over(FAILED, _summary(end.first, sum(end.findings.values())) or "findings")
        if end.findings["damage"]:
            raise _Over(FAILED, _summary(end.first, bad), is_final=True)

    async def _failure(self, step: Step, end: StepEnd) -> _Over:
        """Return what the end of a command that failed is for the work."""
        code = end.exit_code
        if self._is_cancelled and (code in _TERMINATED or not end.error):
            late = f"{step.name} did not end when it was told to, and was killed"
            return _Over(STOPPED, late if end.was_killed else "")
        if code is None:
            return _Over(FAILED, f"{step.name} was killed by signal {end.signal}")
        message = end.error or end.said
        if end.result is None and code in (0, _WARNED):
            said = f": {message}" if message else ""
            return _Over(FAILED, f"{step.name} ended without a word of what it has done{said}")
        if end.result is not None:
            message = _summary(end.first, sum(end.findings.values()))
        message = message or f"{step.name} ended with exit code {code}"
        is_final = code in (_USAGE, _FORMAT, _DAMAGED, _REFUSED)
        if code == _OUTPUT and self._work.target:
            try:
                is_final = await self._is_made(step)
                free = await self._means.waits(self._target.free_bytes)
                message += f" ({free:,} bytes are free on {self._work.target})"
            except ConflictError as error:  # it is gone
                message += f"; {error}"
        return _Over(FAILED, message, is_final=is_final)

    async def _is_made(self, step: Step) -> bool:
        """Tell whether the archive is there that a step was to make: somebody else's, then."""
        if step.name != "pack" or not self._work.makes:
            return False
        return await self._means.waits(self._target.archive_bytes, self._work.makes) is not None

    async def _claim(self) -> None:
        """Tell of an archive that is there though its maker was killed: it was done by then."""
        if self._may_have_made and not self._entry.end.archive:
            self._entry = await self._means.waits(claimed, self._entry)

    async def _clean(self) -> None:
        if not self._has_begun:
            litter = self._entry.parts_of or self._entry.scratch
            self._entry = replace(self._entry, is_clean=not litter)
            return
        problem = await self._means.waits(remove_litter, self._entry)
        self._entry = replace(self._entry, is_clean=not problem)
        if problem:
            end = self._entry.end
            outcome = FINDINGS if end.outcome == DONE else end.outcome
            message = f"{end.message}; {problem}" if end.message else problem
            self._learn(outcome=outcome, message=message, findings=end.findings + 1)

    def _learn(self, **known: Any) -> None:
        self._entry = replace(self._entry, end=replace(self._entry.end, **known))

    async def _note(self, process: Any = None) -> None:
        self._entry = replace(self._entry, process=process)
        await self._means.waits(self._means.journal.write, self._entry)


def remove_litter(entry: Entry) -> str:
    """Remove what a work has left behind; return why that can't be done now, or nothing."""
    if not entry.target or not (entry.parts_of or entry.scratch):
        return ""
    target = Target(entry.target, entry.marker)
    try:
        for path in entry.parts_of:
            target.remove_parts(path)
        for path in entry.scratch:
            target.remove_scratch(path)
    except ConflictError as error:
        return str(error)
    return ""


def claimed(entry: Entry) -> Entry:
    """Return an entry with the archive that its work has made, if that is there.

    There was none of that name before, and it gets its name only once it is whole.
    """
    try:
        archive_bytes = Target(entry.target, entry.marker).archive_bytes(entry.makes)
    except ConflictError:
        return entry
    if archive_bytes is None:
        return entry
    end = replace(entry.end, archive=entry.makes, archive_bytes=archive_bytes)
    return replace(entry, end=end)


def _is_proof(step: Step) -> bool:
    return step.name in _PROOFS or (step.name == "pack" and "--verify" in step.arguments)


def _summary(first: str, findings: int) -> str:
    return f"{first} (and {findings - 1} more)" if first and findings > 1 else first


def _number(result: dict[str, Any], key: str) -> int:
    value = result.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
