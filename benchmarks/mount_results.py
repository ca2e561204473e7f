"""What was measured on mounts, as rows of tables.

Owns wording and which quantities a row is made of. Knows no bar of its own.
"""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path

from harness import Series, ratio, series_table
from mount_commands import Measured, Probe
from mount_frames import FramePoint, frames_table
from report import Bar, Row, facts_list, spread, verdict_table, write_json
from volume import Results


@dataclasses.dataclass(slots=True)
class MountResults(Results):
    """Also keeps which series are of Onggi's own mounts, for their memory, and the frame sizes."""

    ours: list[Series] = dataclasses.field(default_factory=list[Series])
    frames: list[FramePoint] = dataclasses.field(default_factory=list[FramePoint])

    def add(self, measured: list[Measured], probes: list[Probe]) -> None:
        """Add what was measured of probes."""
        for one, probe in zip(measured, probes, strict=True):
            self.series.append(one.series)
            if probe.mountable is not None and probe.mountable.program == "onggi":
                self.ours.append(one.series)

    def rate(self, series: Series, content_bytes: int) -> None:
        """Add how fast content was read."""
        rates = [content_bytes / 1e6 / wall for wall in series.values("wall_s")]
        rate = content_bytes / 1e6 / series.median("wall_s")
        shown = f"{rate:.0f} MB/s ({spread(min(rates), max(rates), 0)})"
        self.rows.append(Row(f"{series.name}: rate", rate, shown, None))

    def times_as_fast(self, mine: Series, other: Series, bar: Bar | None) -> None:
        """Add the ratio of rates at which two commands do the same work."""
        result = ratio(other, mine, "wall_s")
        what = f"{mine.name}, times as fast as {other.name}"
        self.rows.append(Row(what, result.median, str(result), bar))

    def limit(self, decode: Series, serve: Series) -> None:
        """Add how fast this mount could be, against decoding alone, on processors that are busy.

        As if decoding and serving shared them without a gap, both as cheap as alone. It says
        nothing of what serves more cheaply: the start of the process that serves is in it, too.
        """
        shares = [
            alone / (alone + also)
            for alone, also in zip(decode.values("cpu_s"), serve.values("cpu_s"), strict=True)
        ]
        median = statistics.median(shares)
        shown = f"{median:.2f}x ({spread(min(shares), max(shares), 2)})"
        what = f"{decode.name}: CPU / (the same + {serve.name}), the most at this cost of serving"
        self.rows.append(Row(what, median, shown, None))

    def figure(self, measured: Measured, key: str, what: str, unit: str, bar: Bar | None) -> None:
        """Add a figure that a command told itself."""
        values, median = measured.values(key), measured.median(key)
        digits = 3 if unit == "ms" else 0
        shown = f"{median:.{digits}f} {unit} ({spread(min(values), max(values), digits)})"
        self.rows.append(Row(f"{measured.series.name}: {what}", median, shown, bar))

    def write(self, about: dict[str, str], text_path: Path, json_path: Path) -> None:
        """Print the tables, and write them and every single run to files."""
        parts = [facts_list(about)]
        if self.rows:
            parts += [verdict_table(self.rows), series_table(self.series)]
        if self.frames:
            parts.append(frames_table(self.frames))
        text = "\n".join(parts)
        print(text)
        text_path.write_text(text)
        rows = [{**dataclasses.asdict(row), "verdict": row.verdict} for row in self.rows]
        write_json(json_path, facts=about, rows=rows, series=self.series, frames=self.frames)
