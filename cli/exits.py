"""Exit codes, and which error leads to which: docs/commands.md, section Exit codes."""

from __future__ import annotations

from enum import IntEnum

from ..archive.errors import (
    BadUseError,
    DamagedError,
    NotAnArchiveError,
    OnggiError,
    RefusedError,
    SourceError,
    StoreError,
    UnsupportedError,
)
from ..control.errors import (
    BadPlanError,
    ConflictError,
    NotFoundError,
    StateError,
    UnreachableError,
)


class Exit(IntEnum):
    """What the process ends with."""

    OK = 0
    FINDINGS = 1
    USAGE = 2
    FORMAT = 3
    DAMAGED = 4
    INPUT = 5
    OUTPUT = 6
    REFUSED = 7
    UNREACHABLE = 8
    INTERNAL = 70
    INTERRUPTED = 130
    TERMINATED = 143


_TABLE: tuple[tuple[type[OnggiError], Exit], ...] = (
    (BadUseError, Exit.USAGE),
    (NotAnArchiveError, Exit.FORMAT),
    (UnsupportedError, Exit.FORMAT),
    (DamagedError, Exit.DAMAGED),
    (SourceError, Exit.INPUT),
    (StoreError, Exit.OUTPUT),
    (RefusedError, Exit.REFUSED),
    (BadPlanError, Exit.USAGE),
    (NotFoundError, Exit.USAGE),
    (ConflictError, Exit.REFUSED),
    (UnreachableError, Exit.UNREACHABLE),
    (StateError, Exit.OUTPUT),
)


def exit_for(error: OnggiError) -> Exit:
    """Return the exit code of an error."""
    return next((code for kind, code in _TABLE if isinstance(error, kind)), Exit.INTERNAL)
