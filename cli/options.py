"""Options that commands share, and the types of their values."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from ..archive.errors import SourceError
from ..archive.exclude import Excludes
from .output import usable_cpus

_Function = TypeVar("_Function", bound=Callable[..., Any])
_SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30}
_MOST_THREADS = 256


def size(text: str) -> int:
    """Return a size in bytes; K, M and G are powers of 1024. For `type=` of an option."""
    match = re.fullmatch(r"(\d{1,18})([KMG]?)", text, re.IGNORECASE)
    if not match:
        raise click.BadParameter(f"{text!r} is no size; write 4096, 64K or 1M")
    return int(match[1]) << _SHIFTS[match[2].upper()]


def output_options(function: _Function) -> _Function:
    """Add `--quiet` and `--json`."""
    function = click.option("--quiet", "-q", is_flag=True, help="No progress and no summary.")(
        function
    )
    return click.option(
        "--json", "as_json", is_flag=True, help="JSON objects on standard output, one a line."
    )(function)


def threads_option(help_text: str) -> Callable[[_Function], _Function]:
    """Add `--threads`."""
    return click.option(
        "--threads", "-T",
        type=click.IntRange(1, _MOST_THREADS),
        default=usable_cpus,
        show_default="usable CPUs",
        help=help_text,
    )  # fmt: skip


def tree_options(function: _Function) -> _Function:
    """Add what leaves parts of a tree out: `patterns`, `pattern_files`, and two flags."""
    for option in (
        click.option("--one-file-system", is_flag=True, help="Do not enter other file systems."),
        click.option(
            "--exclude-caches", is_flag=True, help="Leave out what is in folders of caches."
        ),
        click.option(
            "--exclude-from", "pattern_files", multiple=True, metavar="FILE",
            help="Patterns from a file, one a line.",
        ),
        click.option(
            "--exclude", "patterns", multiple=True, metavar="PATTERN",
            help="Leave out what matches, as GNU tar does.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def read_excludes(patterns: Sequence[str], files: Sequence[str]) -> Excludes:
    """Return what these patterns, and those in these files, leave out.

    Raises:
        SourceError: a file can't be read.
    """
    found = [os.fsencode(pattern) for pattern in patterns]
    for file in files:
        try:
            lines = Path(file).read_bytes().split(b"\n")
            found += [line.rstrip() for line in lines if line.strip()]  # as GNU tar reads it
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise SourceError(f"can't read the patterns in {file}: {reason}") from None
    return Excludes(found)
