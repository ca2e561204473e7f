"""What a master and a manager say to each other.

Owns: the messages. They hold nothing but numbers, texts and lists, so that they can go through a
queue of one process, or over a network as JSON. Pure.

A master sends commands, a manager events. Delivery is at least once: a manager that is told to
start a run that it has, or had, says what became of it and starts nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Step:
    """A command of Onggi that is a part of some work.

    Attributes:
        name: pack, verify, unpack or compare.
        arguments: of `onggi`, without `--json`.
        expected_findings: whether findings are warnings (exit code 1), not a failure.
        remove_after: path of what the step made, and is not to stay; empty if there is none.
    """

    name: str
    arguments: tuple[str, ...]
    expected_findings: bool = False
    remove_after: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """What a run does.

    Attributes:
        run_id: of the run.
        attempt: of the run, from 1.
        steps: one after the other; the first that fails ends the work.
        target: folder whose marker must be there; empty if no target is written to.
        marker: what the marker must hold.
        makes: path of the archive that it makes; empty if none.
        removes: paths of archives to remove, after the steps.
        nice: whether it stands back behind other processes.
    """

    run_id: int
    attempt: int
    steps: tuple[Step, ...] = ()
    target: str = ""
    marker: str = ""
    makes: str = ""
    removes: tuple[str, ...] = ()
    nice: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """Command: do some work."""

    work: Work


@dataclass(frozen=True, slots=True)
class Cancel:
    """Command: end the work of a run, if there is any."""

    run_id: int


@dataclass(frozen=True, slots=True)
class Started:
    """Event: the work of a run has begun."""

    run_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Progressed:
    """Event: how far the work is, about once a second.

    Attributes:
        step: name of the step.
        content_bytes, total_bytes: of the step; the latter is None if it is not known.
        stored_bytes: of what was written or read of the archive.
        bytes_per_s: of content, over the last seconds.
        left_s: how long the step will take; None if that is not known.
        bottleneck: read, compress, write, or held (to a rate); empty if it is not known.
    """

    run_id: int
    step: str
    content_bytes: int
    total_bytes: int | None
    stored_bytes: int
    bytes_per_s: float
    left_s: float | None
    bottleneck: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """Event: the work of a run is over.

    Attributes:
        outcome: done, findings, failed, stopped or vanished (found dead).
        exit_code: of the step that was last; None if it has none.
        message: one line; empty where there is nothing to tell.
        archive: path of the archive that is there now because of it; empty if none.
        content_bytes, archive_bytes: of that archive.
        findings: how many there were.
        verified: whether an archive was proven right; None if that was not part of the work.
        removed: paths of archives that are gone now.
        is_final: whether it is of no use to try again.
    """

    run_id: int
    attempt: int
    outcome: str
    exit_code: int | None = None
    message: str = ""
    archive: str = ""
    content_bytes: int = 0
    archive_bytes: int = 0
    findings: int = 0
    verified: bool | None = None
    removed: tuple[str, ...] = ()
    is_final: bool = False


DONE, FINDINGS, FAILED, STOPPED, VANISHED = "done", "findings", "failed", "stopped", "vanished"

Command = Start | Cancel
Event = Started | Progressed | Ended


def as_json(message: Command | Event) -> dict[str, Any]:
    """Return a message as JSON has it, with its `type`."""
    return {"type": type(message).__name__.lower(), **asdict(message)}
