"""Compare frame sizes: how large the archive is, how fast a mount of it is read, in order and not.

Owns the table that the default frame sizes are chosen from. It has no bars. All archives of a kind
exist at a time, so that their runs can be interleaved; they are removed afterwards.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from harness import Series
from mount_archives import Mountable
from mount_commands import Measured, MountSetup
from report import markdown_table, megabytes, parse_size, spread
from tree_source import take_census

FRAME_SIZES = ("128K", "256K", "512K", "640K", "1M", "2M", "4M")
KINDS = ("volume", "tree")


@dataclasses.dataclass(frozen=True, slots=True)
class FramePoint:
    """What was measured for a kind of archive and a frame size, on mounts of it."""

    kind: str
    frame_bytes: int
    archive_bytes: int
    content_bytes: int
    in_order: Series
    at_random: Measured


def measure_frames(setup: MountSetup, kinds: list[str], sizes: list[str]) -> list[FramePoint]:
    """Measure every frame size of every kind; the sizes of a kind are interleaved."""
    points: list[FramePoint] = []
    for kind in kinds:
        points += _measure_kind(setup, kind, sizes)
    return points


def frames_table(points: list[FramePoint]) -> str:
    """Return a Markdown table: a row per kind and frame size, medians and ranges."""
    rows: list[tuple[str, ...]] = []
    for point in points:
        rates = [point.content_bytes / 1e6 / wall for wall in point.in_order.values("wall_s")]
        rate = point.content_bytes / 1e6 / point.in_order.median("wall_s")
        random = point.at_random
        peaks = [point.in_order.highest("peak_bytes"), random.series.highest("peak_bytes")]
        rows.append(
            (
                point.kind,
                f"{point.frame_bytes >> 10} KiB",
                megabytes(point.archive_bytes),
                f"{rate:.0f} ({spread(min(rates), max(rates), 0)})",
                *(_with_range(random, key) for key in ("cold_p50_ms", "cold_p99_ms")),
                f"{random.median('cold_reads_per_s'):.0f}",
                megabytes(max(peaks)),
            )
        )
    header = ("archive of a", "frames", "size", "in order, MB/s", "p50, ms", "p99, ms", "reads/s")
    return markdown_table((*header, "memory"), rows)


def _measure_kind(setup: MountSetup, kind: str, sizes: list[str]) -> list[FramePoint]:
    source = setup.image if kind == "volume" else setup.tree
    content_bytes = _content_bytes(source)
    made: list[Mountable] = []
    try:
        for size in sizes:
            made.append(setup.archives.onggi(source, f"{kind}-{size}", size))
        labels = [f"{kind}, {size} frames" for size in sizes]
        in_order = setup.tar if source.is_dir() else setup.dd
        pairs = list(zip(made, labels, strict=True))
        probes = [in_order(one, label) for one, label in pairs]
        probes += [setup.random(one, source, f"random reads, {label}") for one, label in pairs]
        measured = setup.run(probes)
        return [
            FramePoint(
                kind,
                parse_size(size),
                one.archive.stat().st_size,
                content_bytes,
                ordered.series,
                random,
            )
            for size, one, ordered, random in zip(
                sizes, made, measured[: len(made)], measured[len(made) :], strict=True
            )
        ]
    finally:
        for one in made:
            setup.archives.discard(one)


def _content_bytes(source: Path) -> int:
    return take_census(source).content_bytes if source.is_dir() else source.stat().st_size


def _with_range(measured: Measured, key: str) -> str:
    values = measured.values(key)
    return f"{measured.median(key):.2f} ({spread(min(values), max(values))})"
