"""Turn measurements into Markdown, JSON and verdicts, and describe the machine they were made on.

Owns wording and number formats. Runs nothing that is measured.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Bar:
    """A limit that a measured value is held against; `at_most` tells which side is good."""

    limit: float
    at_most: bool
    unit: str

    def holds(self, value: float) -> bool:
        """Tell whether the value is on the good side (the limit itself is)."""
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        """Give the bar as it is written in a table."""
        sign = "<=" if self.at_most else ">="
        return (
            f"{sign} {self.limit:.2f}x"
            if self.unit == "x"
            else f"{sign} {self.limit:g} {self.unit}"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One line of a verdict table: `value` is held against the bar, `shown` is what people read."""

    what: str
    value: float
    shown: str
    bar: Bar | None

    @property
    def verdict(self) -> str:
        """`pass`, `FAIL`, or `-` where there is no bar."""
        if self.bar is None:
            return "-"
        return "pass" if self.bar.holds(self.value) else "FAIL"


def verdict_table(rows: Iterable[Row]) -> str:
    """Return a Markdown table of measured values, bars and verdicts."""
    cells = [(row.what, row.shown, str(row.bar or "-"), row.verdict) for row in rows]
    return markdown_table(("what", "measured", "bar", "verdict"), cells)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose columns line up in plain text, ending with an empty line."""
    lines = [tuple(header), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text) + "\n"


def spread(lowest: float, highest: float, digits: int = 2) -> str:
    """Return a range, for example `0.81-0.92`."""
    return f"{lowest:.{digits}f}-{highest:.{digits}f}"


def megabytes(size_bytes: float) -> str:
    """Return a size in units of 10^6 bytes."""
    return f"{size_bytes / 1e6:.1f} MB"


def parse_size(text: str) -> int:
    """Read a size with an optional K, M or G (powers of 1024); `ValueError` on anything else."""
    factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:].upper(), 1)
    number = text[:-1] if factor > 1 else text
    return int(float(number) * factor)


def write_json(path: Path, **parts: Any) -> None:
    """Write results as JSON; dataclasses become objects."""

    def plain(value: object) -> object:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.asdict(value)
        return str(value)

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(parts, indent=1, default=plain) + "\n")


def filesystem_of(path: Path) -> str:
    """Return the type of the filesystem that holds an existing path: `ext4`, `tmpfs`, ..."""
    best, kind = Path("/"), "unknown"
    target = path.resolve()
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mounted_on, fstype, *_ = line.split(" ")
        folder = Path(mounted_on.replace("\\040", " "))
        # Later lines are mounted over earlier ones, so an equal length replaces.
        if target.is_relative_to(folder) and len(folder.parts) >= len(best.parts):
            best, kind = folder, fstype
    return kind


def machine() -> dict[str, str]:
    """Return what a reader must know about the machine to judge the numbers."""
    memory = _colon_file("/proc/meminfo")
    model = _colon_file("/proc/cpuinfo").get("model name", platform.machine())
    return {
        "cpu": f"{model}, {len(os.sched_getaffinity(0))} usable",
        "memory": f"{memory['MemTotal']} ({memory['MemAvailable']} available at the start)",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def available_memory_bytes() -> int:
    """Return how much memory the kernel could still give, page cache included."""
    return int(_colon_file("/proc/meminfo")["MemAvailable"].split()[0]) * 1024


def warn_if_memory_is_short(needed_bytes: int) -> None:
    """Say on standard error that a warm cache can't be kept: the numbers would measure the disk."""
    if available_memory_bytes() < needed_bytes:
        print(
            f"warning: less than {megabytes(needed_bytes)} of memory are available, "
            "so inputs and outputs do not stay in the page cache",
            file=sys.stderr,
        )


def version_of(tool: str) -> str:
    """Return the first line that `TOOL --version` prints."""
    done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[0].strip("* ")


def facts_list(facts: dict[str, str]) -> str:
    """Return facts as a Markdown list, ending with an empty line."""
    return "".join(f"- {name}: {value}\n" for name, value in facts.items())


def _colon_file(path: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in Path(path).read_text().splitlines() if ":" in line)
    facts: dict[str, str] = {}
    for name, _, value in pairs:
        facts.setdefault(name.strip(), value.strip())
    return facts
