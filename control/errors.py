"""Errors of the control plane, named for what the one who gets them does next."""

from __future__ import annotations

from ..archive.errors import OnggiError


class ControlError(OnggiError):
    """Root of what the control plane raises on purpose; its text is one line for people."""

    code = "control"


class BadPlanError(ControlError):
    """A plan, a file of plans, or what is asked, says what can't be."""

    code = "bad-plan"


class NotFoundError(ControlError):
    """There is no plan, run or archive of that name."""

    code = "not-found"


class ConflictError(ControlError):
    """What is asked for does not go together with what is there."""

    code = "conflict"


class TransitionError(ConflictError):
    """That can't happen to a run in its state."""


class UnreachableError(ControlError):
    """Nobody answers at the server's socket, or it may not be used."""

    code = "no-server"


class StateError(ControlError):
    """What the server keeps can't be read or written."""

    code = "state"
