"""Runs a mount in the background, and tells the one who asked for it when it is up, or why not.

Owns: the child process, its streams, and the word between the two. Must not know what is mounted.
`run` is called in a process that has one thread.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

_READY = b"\0ready\0"
_ENDED = "libfuse does not say why"
_MOST_SAID = 4096


def in_foreground(serve: Callable[[Callable[[], None]], None], ready: Callable[[], None]) -> str:
    """Serve a mount in this process, until it is unmounted or a signal comes.

    Args:
        serve: mounts, calls what it is given once the mount is up, and returns after the end.
        ready: called then.

    Returns:
        As `in_background`, but after the end.
    """
    _let_libfuse_have_signals()
    # What libfuse says of a failure becomes part of one line.
    said, errors = os.memfd_create("said"), os.dup(2)
    os.dup2(said, 2)
    silent = True

    def up() -> None:
        nonlocal silent
        os.dup2(errors, 2)
        silent = False
        ready()

    try:
        _serve_until_unmounted(serve, up)
    except RuntimeError:
        return os.pread(said, _MOST_SAID, 0).decode(errors="replace").strip() or _ENDED
    finally:
        if silent:
            os.dup2(errors, 2)
        os.close(errors)
        os.close(said)
    return ""


def _serve_until_unmounted(
    serve: Callable[[Callable[[], None]], None], ready: Callable[[], None]
) -> None:
    was_up = False

    def up() -> None:
        nonlocal was_up
        was_up = True
        ready()

    try:
        serve(up)
    except RuntimeError:
        if not was_up:  # else it is how libfuse tells of the signal that ended it
            raise


def in_background(serve: Callable[[Callable[[], None]], None], log: Callable[[], None]) -> str:
    """Serve a mount in a process of its own; return once it is up.

    Args:
        serve: as in `in_foreground`; called in the new process.
        log: called there before: sends the log to where it shall go from then on.

    Returns:
        An empty string; or what was wrong, in which case nothing is mounted.
    """
    read_end, write_end = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # pyright: ignore[reportUnnecessaryComparison]
            stream.flush()
    child = os.fork()
    if not child:
        os.close(read_end)
        _serve_and_end(serve, log, write_end)
    os.close(write_end)
    said = b""
    with os.fdopen(read_end, "rb") as pipe:
        while _READY not in said and (piece := os.read(pipe.fileno(), 4096)):
            said += piece
    if _READY in said:
        return ""
    os.waitpid(child, 0)
    return said.decode(errors="replace").strip() or _ENDED


def _serve_and_end(
    serve: Callable[[Callable[[], None]], None], log: Callable[[], None], write_end: int
) -> None:
    """Be the process in the background. Never returns."""
    code = 1
    try:
        os.setsid()
        os.chdir("/")
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1):
            os.dup2(nothing, stream)
        os.dup2(write_end, 2)  # libfuse and fusermount3 say there what is wrong

        def ready() -> None:
            os.write(write_end, _READY)
            os.dup2(nothing, 2)
            os.close(write_end)

        log()
        _let_libfuse_have_signals()
        _serve_until_unmounted(serve, ready)
        code = 0
    except RuntimeError:  # libfuse has said why
        pass
    except BaseException as error:
        with suppress(OSError):
            os.write(2, f"{error}\n".encode())
    finally:
        os._exit(code)


def _let_libfuse_have_signals() -> None:
    """Undo handlers of Python: libfuse unmounts on these signals where nobody else handles them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
