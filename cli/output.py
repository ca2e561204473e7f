"""What a command tells: progress, findings, a result; as text for people or as JSON lines.

Owns: the shapes of docs/commands.md, section JSON. A `Reporter` belongs to the main thread.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from ..archive.errors import Finding, Severity, StoreError
from ..archive.progress import Progress
from .text import printable

_JSON_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """How a command shall tell things; `data_on_stdout` keeps standard output free of them."""

    command: str
    as_json: bool
    quiet: bool
    data_on_stdout: bool = False


class _Display(Protocol):
    def update(self, progress: Progress, /) -> None: ...

    def note(self, line: str, /) -> None: ...

    def stop(self) -> None: ...


class Reporter:
    """Tells what a command does; use it as a context, so that the progress line goes away."""

    def __init__(self, options: OutputOptions, threads: int = 1) -> None:
        self._options = options
        self._threads = threads
        self._started_s = time.monotonic()
        self._last_s = self._started_s
        self._display: _Display | None = None
        self._out = sys.stderr if options.data_on_stdout else sys.stdout
        self.findings = 0

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop_display()

    @property
    def as_json(self) -> bool:
        """Whether programs listen, not people."""
        return self._options.as_json

    @property
    def elapsed_s(self) -> float:
        """Seconds since the command began."""
        return round(time.monotonic() - self._started_s, 3)

    def progress(self, progress: Progress) -> None:
        """Tell how far it is: a line on a terminal, or a JSON object about once a second."""
        if self._options.as_json:
            now = time.monotonic()
            if now - self._last_s >= _JSON_EVERY_S:
                self._last_s = now
                self._json("progress", _facts(progress) | self._pace())
        elif not self._options.quiet and sys.stderr.isatty():
            if self._display is None:
                from .progress import TerminalProgress  # rich takes 0.1 s to import

                self._display = TerminalProgress(self._threads)
            self._display.update(progress)

    def finding(self, finding: Finding) -> None:
        """Tell one finding."""
        self.findings += 1
        if self._options.as_json:
            self._json("finding", asdict(finding))
            return
        word = {Severity.WARNING: "warning", Severity.DAMAGE: "damaged"}.get(
            finding.severity, "differs"
        )
        line = f"onggi: {word}: {finding.message}"
        if self._display is not None:
            self._display.note(printable(line))
        else:
            print(printable(line), file=sys.stderr)

    def _line(self, line: str, out: TextIO) -> None:
        """Print a line; what an archive says of itself must not steer the terminal."""
        try:
            print(printable(line), file=out)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _output_error(error) from None

    def result(self, facts: Mapping[str, Any], exit_code: int, lines: Sequence[str]) -> None:
        """Tell how it ended: `facts` for programs, `lines` for people."""
        self._stop_display()
        if self._options.as_json:
            self._json("result", {"exit_code": int(exit_code), **facts})
        elif not self._options.quiet:
            for line in lines:
                self._line(line, self._out)
        self._flush()

    def item(self, kind: str, facts: Mapping[str, Any], line: str) -> None:
        """Tell one of many: a row of a table."""
        if self._options.as_json:
            self._json(kind, facts)
        else:
            self._line(line, self._out)

    def note(self, kind: str, facts: Mapping[str, Any], line: str) -> None:
        """Tell something on the way: people read it on standard error, unless they want quiet."""
        if self._options.as_json:
            self._json(kind, facts)
        elif not self._options.quiet:
            print(printable(f"onggi: {line}"), file=sys.stderr)

    def item_header(self, line: str) -> None:
        """Tell people what the columns of the items are."""
        if not self._options.as_json:
            self._line(line, self._out)

    def _pace(self) -> dict[str, Any]:
        return {"elapsed_s": self.elapsed_s, "threads": self._threads}

    def _json(self, kind: str, facts: Mapping[str, Any]) -> None:
        record = {"type": kind, "command": self._options.command, **facts}
        self._line(json.dumps(record), self._out)
        self._flush()

    def _flush(self) -> None:
        try:
            if self._out is not None:  # pyright: ignore[reportUnnecessaryComparison]
                self._out.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _output_error(error) from None

    def _stop_display(self) -> None:
        if self._display is not None:
            self._display.stop()
            self._display = None


def _facts(progress: Progress) -> dict[str, Any]:
    """Return progress as JSON has it: `busy_s` only where it was measured, in ms."""
    facts = asdict(progress)
    busy_s = facts.pop("busy_s")
    if busy_s is not None:
        facts["busy_s"] = {stage: round(seconds, 3) for stage, seconds in busy_s.items()}
    return facts


def tell_error(options: OutputOptions, error: str, code: str, exit_code: int) -> None:
    """Tell why a command failed: one line on standard error, and a JSON object where asked for.

    Where standard output carries data, the JSON object takes the place of the line.
    """
    if options.as_json:
        record = {
            "type": "error", "command": options.command, "exit_code": int(exit_code),
            "code": code, "message": error,
        }  # fmt: skip
        out = sys.stderr if options.data_on_stdout else sys.stdout
        with suppress(OSError):  # it may be what the error is about
            print(json.dumps(record), file=out, flush=True)
        if options.data_on_stdout:
            return
    print(printable(f"onggi: {error}"), file=sys.stderr)


def _output_error(error: OSError) -> StoreError:
    return StoreError(f"can't write to standard output: {os.strerror(error.errno or 0)}")


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0))
