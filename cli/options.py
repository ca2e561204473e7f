"""Options that commands share, and the types of their values."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

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
