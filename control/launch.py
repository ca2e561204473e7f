"""What a process does between its birth and its work: a file for Python to run, not to import.

Owns: the bond to the one who started it (the process is told to end when that one dies, however it
dies), standing back behind others, and waiting until it may begin. Must not know what it becomes.
Has a process of its own: the same, done between fork and exec, can hang where there are threads.

    python -I -S launch.py NICE COMMAND [ARGUMENT...]

NICE is 1 or 0. It waits for a byte on standard input, and then becomes COMMAND, with nothing on
standard input; where that ends before, it ends too.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

_PR_SET_PDEATHSIG = 1  # prctl(2)
_NICE = 19
_CAN_NOT_RUN = 127  # as a shell has it


def main() -> NoReturn:
    """Become what the command line says, once told to."""
    is_nice, *command = sys.argv[1:]
    # First of all: who dies after this ends us by a signal, who dies before it by closing the pipe.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM))
    if is_nice == "1":
        _stand_back()
    if not os.read(0, 1):
        os._exit(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # What a server ignores or blocks is its own matter; Python itself ignores SIGPIPE.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"can't run {command[0]}: {os.strerror(error.errno or 0)}\n".encode())
    os._exit(_CAN_NOT_RUN)


def _stand_back() -> None:
    """Let others go first, at the processors and, where the scheduler of a disk has it, there too.

    The kernel takes the priority at disks from this one, as long as nobody sets another.
    """
    with suppress(OSError):
        os.nice(_NICE)
    # A session may be a group of its own (sched(7)), in which alone the above counts.
    with suppress(OSError), open("/proc/self/autogroup", "w") as autogroup:
        autogroup.write(str(_NICE))


if __name__ == "__main__":
    main()
