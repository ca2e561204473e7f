"""What a run is, and what may become of it.

Owns: the states of a run and the table of transitions, from which the diagram in docs/control.md is
made; what is known of a run. Pure: must not know clocks, files or processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .errors import TransitionError


class State(StrEnum):
    """Where a run is."""

    PENDING = "pending"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    WARNED = "warned"
    FAILED = "failed"
    CANCELLED = "cancelled"
    MISSED = "missed"
    LOST = "lost"

    @property
    def is_final(self) -> bool:
        """Whether nothing becomes of such a run any more."""
        return self not in _OPEN

    @property
    def is_good(self) -> bool:
        """Whether such a run has done what it was for."""
        return self in (State.SUCCEEDED, State.WARNED)


class Happening(StrEnum):
    """What happens to a run."""

    START = "start"
    RETRY = "retry"
    DONE = "done"
    DONE_WITH_WARNINGS = "done with warnings"
    FAIL = "fail"
    CANCEL = "cancel"
    STOPPED = "stopped"
    VANISH = "vanish"


class Kind(StrEnum):
    """What a run does."""

    BACKUP = "backup"
    VERIFY = "verify"
    PRUNE = "prune"


class Reason(StrEnum):
    """Why there is a run."""

    SCHEDULE = "schedule"
    MANUAL = "manual"
    MADE_UP = "made up"
    AFTER_BACKUP = "after backup"


_OPEN = frozenset((State.PENDING, State.RUNNING, State.CANCELLING))
ACTIVE = frozenset((State.RUNNING, State.CANCELLING))

# How a run begins: one that stands for a time that went by is over at once.
BEGINNINGS = (State.PENDING, State.MISSED)
# What is not here can't happen. Work that ended by itself before it was told to stop has done what
# it was for: so `cancelling` may end well.
TRANSITIONS: dict[tuple[State, Happening], State] = {
    (State.PENDING, Happening.START): State.RUNNING,
    (State.PENDING, Happening.CANCEL): State.CANCELLED,
    (State.RUNNING, Happening.DONE): State.SUCCEEDED,
    (State.RUNNING, Happening.DONE_WITH_WARNINGS): State.WARNED,
    (State.RUNNING, Happening.RETRY): State.PENDING,
    (State.RUNNING, Happening.FAIL): State.FAILED,
    (State.RUNNING, Happening.CANCEL): State.CANCELLING,
    (State.RUNNING, Happening.VANISH): State.LOST,
    (State.CANCELLING, Happening.STOPPED): State.CANCELLED,
    (State.CANCELLING, Happening.DONE): State.SUCCEEDED,
    (State.CANCELLING, Happening.DONE_WITH_WARNINGS): State.WARNED,
    (State.CANCELLING, Happening.FAIL): State.CANCELLED,
    (State.CANCELLING, Happening.VANISH): State.LOST,
}


def after(state: State, happening: Happening) -> State:
    """Return the state that follows.

    Raises:
        TransitionError: that can't happen to a run in this state.
    """
    try:
        return TRANSITIONS[state, happening]
    except KeyError:
        raise TransitionError(f"a run that is {state} can't {happening}") from None


def diagram() -> str:
    """Return the table as a state diagram in Mermaid's language."""
    lines = ["stateDiagram-v2", *(f"    [*] --> {state}" for state in BEGINNINGS)]
    lines += [f"    {one} --> {then}: {what}" for (one, what), then in TRANSITIONS.items()]
    lines += [f"    {state} --> [*]" for state in State if state.is_final]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a plan, as the database has it. Times are seconds since 1970 UTC, or None.

    Attributes:
        run_id: rises from run to run.
        plan: name of the plan, which may be gone by now.
        kind, reason, state: what, why, how far.
        due_s: when it was to start; a run that was asked for is due at once.
        not_before_s: when the next attempt may start.
        started_s, ended_s: of the last attempt.
        attempt: how often it was started.
        archive: path of the archive that it made, verified, or is about; empty if none.
        content_bytes, archive_bytes: of that archive.
        findings: how many the work had.
        verified: whether the archive was proven right in this run; None if that was not asked for.
        exit_code: of the last step of the work; None if it has none.
        message: what there is to tell of the end, in one line.
    """

    run_id: int
    plan: str
    kind: Kind
    reason: Reason
    state: State
    due_s: float
    not_before_s: float
    started_s: float | None = None
    ended_s: float | None = None
    attempt: int = 0
    archive: str = ""
    content_bytes: int = 0
    archive_bytes: int = 0
    findings: int = 0
    verified: bool | None = None
    exit_code: int | None = None
    message: str = ""
