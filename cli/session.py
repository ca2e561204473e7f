"""The frame around every command: signals, a reporter, and errors told in the way asked for."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable

from ..archive.accelerate import disable
from ..archive.errors import OnggiError
from .exits import Exit, exit_for
from .output import OutputOptions, Reporter, tell_error
from .signals import Stopped, install

_GARBAGE_AT = 100_000  # objects


def run_command(options: OutputOptions, action: Callable[[Reporter], int], threads: int = 1) -> int:
    """Run `action` with a reporter; return the exit code, that of an error included.

    An error is told in one line, or as a JSON object; a defect is told as one, without a traceback
    unless the environment has ONGGI_TRACEBACK.
    """
    install()
    # Files are told of by tuples, a hundred thousand at a time, in which there is no cycle to find.
    gc.freeze()
    gc.set_threshold(_GARBAGE_AT)
    gc.enable()
    if os.environ.get("ONGGI_PURE"):
        disable()
    try:
        with Reporter(options, threads) as reporter:
            return action(reporter)
    except Stopped as stop:
        tell_error(options, stop.word + stop.note, stop.word, stop.exit_code)
        return stop.exit_code
    except OnggiError as error:
        code = exit_for(error)
        tell_error(options, str(error), error.code, code)
        return code
    except BrokenPipeError:  # who reads what it prints has enough of it; not a finding
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return Exit.OUTPUT
    except Exception as error:
        if os.environ.get("ONGGI_TRACEBACK"):
            raise
        text = (
            f"a defect in Onggi: {type(error).__name__}: {error}; please report it "
            "(ONGGI_TRACEBACK=1 shows where it happened)"
        )
        tell_error(options, text, "internal", Exit.INTERNAL)
        return Exit.INTERNAL
