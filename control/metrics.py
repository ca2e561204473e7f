"""What Prometheus reads: how old backups are, what became of runs, what is at work.

Owns: names, types and meanings of the metrics. Pure: takes what the interface says of the status,
and counts; must not know databases or clocks. They are made anew each time, so that a plan that is
gone is gone here too; safe in many threads.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from .model import ACTIVE, Kind, State

_FAILED = frozenset((State.FAILED, State.MISSED, State.LOST))

_Value = Callable[[Mapping[str, Any]], float | None]
RunsSummary = Iterable[tuple[str, Kind, State, int]]


def render(status: Mapping[str, Any], runs_summary: RunsSummary) -> bytes:
    """Return all metrics in the text format 0.0.4.

    Args:
        status: as `GET /api/status` has it.
        runs_summary: (plan, kind, final state, number of such runs), in any order.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Metrics(status, runs_summary))
    return generate_latest(registry)


class _Metrics(Collector):
    def __init__(self, status: Mapping[str, Any], runs_summary: RunsSummary) -> None:
        self._status = status
        self._volumes: Sequence[Mapping[str, Any]] = status["volumes"]
        self._runs_summary = runs_summary

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily(
            "onggi_build", "What runs here.", value={"version": self._status["version"]}
        )
        yield GaugeMetricFamily(
            "onggi_start_time_seconds", "When the server started.", value=self._status["started_s"]
        )
        yield from self._ages()
        yield from self._last_runs()
        yield from self._now()
        yield from self._counts()

    def _ages(self) -> Iterator[Metric]:
        yield self._gauge(
            "last_success_timestamp_seconds",
            "When the last backup that succeeded ended; 0 if none ever did.",
            lambda volume: volume["last_success_s"] or 0.0,
        )
        # Not left out where there was none: an alert on what is too old must see it.
        yield self._gauge(
            "last_success_age_seconds",
            "Time since the last backup that succeeded ended; +Inf if none ever did.",
            lambda volume: math.inf if volume["age_s"] is None else volume["age_s"],
        )

    def _last_runs(self) -> Iterator[Metric]:
        yield self._gauge(
            "last_duration_seconds", "How long the last run that ended took.", _duration_s
        )
        yield self._gauge(
            "last_archive_bytes",
            "Size of the newest archive; missing if there is none.",
            lambda volume: _of_newest(volume, "archive_bytes"),
        )
        yield self._gauge(
            "last_content_bytes",
            "Size of what is in the newest archive; missing if there is none.",
            lambda volume: _of_newest(volume, "content_bytes"),
        )
        yield self._gauge(
            "last_archive_ratio",
            "Size of that archive, as a share of what is in it.",
            _ratio,
        )
        yield self._gauge(
            "last_archive_verified_timestamp_seconds",
            "When that archive was last proven right; 0 if it never was, or is damaged.",
            lambda volume: volume["newest"] and (volume["newest"]["verified_s"] or 0.0),
        )

    def _now(self) -> Iterator[Metric]:
        yield self._gauge(
            "consecutive_failures",
            "Backups in a row that did not succeed.",
            lambda volume: volume["failures"],
        )
        yield self._gauge(
            "running",
            "Whether a run is at work.",
            lambda volume: volume["run"] is not None and volume["run"]["state"] in ACTIVE,
        )
        yield self._gauge(
            "next_due_timestamp_seconds",
            "When the next backup is due; missing if none is.",
            lambda volume: volume["next_due_s"],
        )
        yield self._gauge(
            "paused", "Whether it starts no runs by itself.", lambda volume: volume["is_paused"]
        )
        yield self._gauge(
            "archives", "How many archives there are.", lambda volume: volume["archives"]
        )

    def _counts(self) -> Iterator[Metric]:
        # From 0 on, or the first failure would be no increase.
        failures: Counter[tuple[str, Kind]] = Counter()
        for volume in self._volumes:
            failures.update({(volume["plan"], kind): 0 for kind in Kind})
        runs = CounterMetricFamily(
            "onggi_runs",
            "Runs that ended, by the state that they ended in.",
            labels=("plan", "kind", "state"),
        )
        for plan, kind, state, count in sorted(self._runs_summary):
            runs.add_metric((plan, kind.value, state.value), count)
            if state in _FAILED:
                failures[plan, kind] += count
        yield runs
        failed = CounterMetricFamily(
            "onggi_run_failures",
            "Runs that failed, were missed or were lost.",
            labels=("plan", "kind"),
        )
        for (plan, kind), count in failures.items():
            failed.add_metric((plan, kind.value), count)
        yield failed

    def _gauge(self, name: str, meaning: str, value: _Value) -> GaugeMetricFamily:
        """Return a metric of each plan that has it."""
        family = GaugeMetricFamily(f"onggi_plan_{name}", meaning, labels=("plan",))
        for volume in self._volumes:
            number = value(volume)
            if number is not None:
                family.add_metric((volume["plan"],), float(number))
        return family


def _duration_s(volume: Mapping[str, Any]) -> float | None:
    last = volume["last"]
    if last is None or last["started_s"] is None or last["ended_s"] is None:
        return None
    return max(float(last["ended_s"]) - float(last["started_s"]), 0.0)


def _of_newest(volume: Mapping[str, Any], key: str) -> float | None:
    newest = volume["newest"]
    return None if newest is None else float(newest[key])


def _ratio(volume: Mapping[str, Any]) -> float | None:
    newest = volume["newest"]
    if newest is None or not newest["content_bytes"]:
        return None
    return float(newest["archive_bytes"] / newest["content_bytes"])
