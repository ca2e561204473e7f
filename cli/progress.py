"""The progress line on a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from ..archive.progress import Progress
from .text import human


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{human(int(speed))}/s" if speed else "-")


class TerminalProgress:
    """One line on standard error: phase, bar, bytes, rate, ratio, threads, time left."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._rich = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[percent]}"),
            TextColumn("{task.fields[size]}"),
            _Speed(),
            TextColumn("{task.fields[ratio]}"),
            TextColumn("{task.fields[threads]}"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._rich.start()

    def update(self, progress: Progress, /) -> None:
        """Show how far it is."""
        done, total = progress.content_bytes, progress.total_bytes
        percent = f"{100 * done / total:.0f} %" if total else ""
        size = f"{human(done)} of {human(total)}" if total is not None else human(done)
        ratio = f"-> {100 * progress.stored_bytes / done:.0f} %" if done else ""
        fields: dict[str, Any] = {
            "percent": percent,
            "size": size,
            "ratio": "" if progress.phase == "compare" else ratio,
            "threads": f"{self._threads} threads",
        }
        if progress.phase not in self._tasks:
            self._tasks[progress.phase] = self._rich.add_task(progress.phase, total=total, **fields)
        self._rich.update(self._tasks[progress.phase], completed=done, **fields)

    def note(self, line: str, /) -> None:
        """Print a line above the progress line."""
        self._rich.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Take the line away."""
        self._rich.stop()
