"""Where the data of a command goes: standard output, or files that do not stay half-written."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from ..archive.errors import SourceError, StoreError
from ..archive.store import NewFile
from .signals import Held, Stopped


class OutputFile(NewFile):
    """A new file whose last step a signal comes too late for."""

    def commit(self) -> None:
        """Publish the file; a signal meanwhile is forgotten, since the work is done."""
        with Held():
            super().commit()

    def discard(self) -> None:
        """Remove the temporary file; does nothing after `commit`."""
        with Held():
            super().discard()


def stdout_for_data() -> int:
    """Return the descriptor of standard output, to which data shall go.

    Raises:
        StoreError: it is closed, or a terminal.
    """
    fd = stdout_for_bytes()
    if sys.stdout.isatty():
        raise StoreError("standard output is a terminal; name a file, or use a pipe")
    return fd


def stdout_for_bytes() -> int:
    """Return the descriptor of standard output, which may be a terminal.

    Raises:
        StoreError: it is closed.
    """
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise StoreError("standard output is closed")
    return sys.stdout.fileno()


def check_stdin() -> None:
    """Raise SourceError if standard input is closed."""
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise SourceError("standard input is closed")


class Outputs:
    """Makes new files, and removes those that were not committed when it ends."""

    def __init__(self) -> None:
        self._files: list[OutputFile] = []

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the files that were not committed."""
        for file in self._files:
            file.discard()

    def new_file(self, path: Path, *, force: bool) -> OutputFile:
        """Return a new file.

        Raises:
            StoreError: it can't be made.
        """
        with Held() as held:
            file = OutputFile(path, force=force)
            self._files.append(file)
        if held.pending is not None:
            raise Stopped(held.pending)
        return file
