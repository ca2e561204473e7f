"""What Prometheus reads, as its own parser has it."""

from __future__ import annotations

import math
import re
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from onggi.control.metrics import render
from onggi.control.model import Kind, Reason, State

from .fake_api import GIB, Fake, many, twelve

COUNTS = [
    ("mail", Kind.BACKUP, State.SUCCEEDED, 30),
    ("web", Kind.BACKUP, State.FAILED, 3),
    ("web", Kind.BACKUP, State.LOST, 2),
    ("web", Kind.VERIFY, State.FAILED, 1),
    ("gone", Kind.BACKUP, State.MISSED, 4),
    ("gone", Kind.PRUNE, State.CANCELLED, 7),
]
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(fake: Fake, counts: list[tuple[str, Kind, State, int]] | None = None) -> Samples:
    """Return all values, by name and labels."""
    text = render(fake.status(), COUNTS if counts is None else counts).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((f"onggi_{name}", tuple(sorted(labels.items()))))


def test_ages_are_told_and_never_is_infinitely_old() -> None:
    found = samples(twelve())
    age_s = of(found, "plan_last_success_age_seconds", plan="mail")
    assert age_s is not None
    assert age_s == pytest.approx(4 * 3600, abs=60)
    assert of(found, "plan_last_success_age_seconds", plan="new-disk") == math.inf
    assert of(found, "plan_last_success_timestamp_seconds", plan="new-disk") == 0


def test_the_last_run_is_told() -> None:
    found = samples(twelve())
    assert of(found, "plan_last_duration_seconds", plan="mail") == pytest.approx(1250)
    assert of(found, "plan_last_archive_bytes", plan="mail") == 80 * GIB
    assert of(found, "plan_last_content_bytes", plan="mail") == 212 * GIB
    assert of(found, "plan_last_archive_ratio", plan="mail") == pytest.approx(80 / 212)


def test_the_newest_archive_is_told_whatever_became_of_later_runs() -> None:
    found = samples(twelve())
    assert of(found, "plan_consecutive_failures", plan="web") == 3
    assert of(found, "plan_last_archive_bytes", plan="web") == 80 * GIB
    assert of(found, "plan_last_archive_ratio", plan="web") == pytest.approx(80 / 212)
    age_s = of(found, "plan_last_success_age_seconds", plan="mail")
    proven_s = of(found, "plan_last_archive_verified_timestamp_seconds", plan="mail")
    assert proven_s is not None
    assert age_s is not None
    assert proven_s == pytest.approx(time.time() - age_s, abs=60)


def test_an_archive_that_was_never_proven_right_is_zero() -> None:
    fake = twelve()
    fake.archives["mail"][0]["verified_s"] = None
    found = samples(fake)
    assert of(found, "plan_last_archive_verified_timestamp_seconds", plan="mail") == 0
    assert of(found, "plan_last_archive_verified_timestamp_seconds", plan="new-disk") is None


def test_a_plan_without_archives_has_no_sizes() -> None:
    found = samples(twelve())
    assert of(found, "plan_last_archive_bytes", plan="new-disk") is None
    assert of(found, "plan_last_archive_ratio", plan="new-disk") is None
    assert of(found, "plan_last_duration_seconds", plan="web") is not None
    assert of(found, "plan_last_duration_seconds", plan="new-disk") is None


def test_an_archive_of_nothing_has_no_ratio() -> None:
    fake = Fake()
    fake.ran(fake.add("empty", "/srv/empty"), 60, State.SUCCEEDED, content_bytes=0)
    found = samples(fake)
    assert of(found, "plan_last_archive_ratio", plan="empty") is None
    assert of(found, "plan_last_content_bytes", plan="empty") == 0


def test_what_is_now_is_told() -> None:
    fake = twelve()
    found = samples(fake)
    assert of(found, "plan_running", plan="home") == 1
    assert of(found, "plan_running", plan="vm-images") == 0, "it waits"
    assert of(found, "plan_running", plan="mail") == 0
    assert of(found, "plan_next_due_timestamp_seconds", plan="mail") == pytest.approx(
        fake.volumes["mail"].next_due_s
    )
    assert of(found, "plan_next_due_timestamp_seconds", plan="laptop") is None
    assert of(found, "plan_paused", plan="laptop") == 1
    assert of(found, "plan_consecutive_failures", plan="web") == 3
    assert of(found, "plan_archives", plan="mail") == 30


def test_failures_are_counted_by_plan_and_kind_from_zero_on() -> None:
    found = samples(twelve())
    assert of(found, "run_failures_total", plan="web", kind="backup") == 5
    assert of(found, "run_failures_total", plan="web", kind="verify") == 1
    assert of(found, "run_failures_total", plan="mail", kind="backup") == 0
    assert of(found, "run_failures_total", plan="mail", kind="prune") == 0
    assert of(found, "run_failures_total", plan="gone", kind="backup") == 4
    assert of(found, "run_failures_total", plan="gone", kind="prune") is None
    assert of(found, "runs_total", plan="mail", kind="backup", state="succeeded") == 30


def test_the_server_tells_of_itself() -> None:
    fake = Fake()
    found = samples(fake, [])
    assert of(found, "build_info", version="0.1.0") == 1
    assert of(found, "start_time_seconds") == pytest.approx(fake.started_s)


def test_names_are_as_prometheus_wants_them() -> None:
    text = render(twelve().status(), COUNTS).decode()
    for family in text_string_to_metric_families(text):
        assert re.fullmatch(r"onggi_[a-z_]+", family.name)
        assert family.documentation
        assert family.type in ("gauge", "counter")
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter")
            assert set(sample.labels) <= {"plan", "kind", "state", "version"}
    assert "python_info" not in text, "the registry is our own"
    assert "_created" not in text


def test_nothing_is_left_of_a_plan_that_is_gone() -> None:
    fake = twelve()
    before = render(fake.status(), []).decode()
    del fake.volumes["mail"]
    after = render(fake.status(), []).decode()
    assert 'plan="mail"' in before
    assert 'plan="mail"' not in after


def test_any_text_can_be_a_label() -> None:
    fake = Fake()
    name = 'a"b\\c\nd'
    fake.add(name, "/srv")
    assert of(samples(fake, []), "plan_running", plan=name) == 0


def test_a_run_that_is_being_cancelled_is_at_work() -> None:
    fake = Fake()
    fake.start(fake.add("x", "/srv"), Reason.MANUAL, State.CANCELLING)
    assert of(samples(fake), "plan_running", plan="x") == 1


def test_a_thousand_plans_are_told_at_once() -> None:
    fake = many(1000)
    found = samples(fake, [])
    assert sum(1 for name, _ in found if name == "onggi_plan_running") == 1000
