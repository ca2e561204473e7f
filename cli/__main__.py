"""Starts the command line: as `onggi`, and as `python -m onggi.cli`."""

import gc
import signal

# While Python loads, the system's way to end is good enough; Python's own prints a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)

# Nothing that is made while Python loads becomes garbage.
gc.disable()

from onggi.cli.main import main  # noqa: E402

if __name__ == "__main__":
    main()
