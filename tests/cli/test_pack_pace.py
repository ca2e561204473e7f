"""`pack --limit`, and what progress tells of the stages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from onggi.archive.progress import Busy, Progress
from onggi.cli import output

MIB = 1 << 20
SMALL = ("--blocks", 32, "--frame-size", "64K")  # units of 128 KiB


def make(folder: Path, kind: str) -> Path:
    """Make 1.5 MiB of content that does not compress, as a file or in a folder."""
    path = folder / "source"
    if kind == "tree":
        path.mkdir()
        for number in range(24):
            (path / f"{number:02}").write_bytes(os.urandom(MIB // 16))
    else:
        path.write_bytes(os.urandom(3 * MIB // 2))
    return path


@pytest.mark.parametrize("kind", ["volume", "stream", "tree"])
def test_a_limited_pack_takes_as_long_as_the_limit_says_and_tells_its_stages(
    kind: str, onggi: Any, tmp_path: Path
) -> None:
    source = make(tmp_path, kind)
    words = ("pack", "-" if kind == "stream" else source, "a.onggi", *SMALL, "--json", "--verify")
    stdin = source.read_bytes() if kind == "stream" else None
    began = time.monotonic()
    ran = onggi.ok(*words, "--limit", "1M", stdin=stdin)
    assert time.monotonic() - began >= 1.5
    assert ran.result["elapsed_s"] >= 1.5
    progress = [record for record in ran.records if record["type"] == "progress"]
    assert progress
    for record in progress:
        if record["phase"] == "pack":
            assert list(record["busy_s"]) == ["read", "compress", "write", "held"]
            assert all(seconds >= 0 for seconds in record["busy_s"].values())
            # Held back is not busy: all of it together takes a moment.
            held_s = record["busy_s"].pop("held")
            assert sum(record["busy_s"].values()) < record["elapsed_s"]
        else:
            assert "busy_s" not in record
    assert held_s >= 0.5


def test_a_slow_source_is_seen_as_the_stage_that_takes_the_time(onggi: Any, tmp_path: Path) -> None:
    slow = ["sh", "-c", "for n in 1 2 3 4 5 6; do head -c 300000 /dev/zero; sleep 0.4; done"]
    with subprocess.Popen(slow, stdout=subprocess.PIPE) as source:
        ran = subprocess.run(
            [*onggi.command, "pack", "-", "a.onggi", "--json", "--blocks", "64"],
            stdin=source.stdout, capture_output=True, cwd=tmp_path, check=True,
        )  # fmt: skip
    lines = ran.stdout.decode().splitlines()
    last = [line for line in lines if '"type": "progress"' in line][-1]
    busy = json.loads(last)["busy_s"]
    assert busy["read"] >= 0.5
    assert busy["read"] > 2 * (busy["compress"] + busy["write"])


def test_progress_has_stages_only_where_they_are_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "_JSON_EVERY_S", 0.0)
    with output.Reporter(output.OutputOptions("pack", as_json=True, quiet=False)) as reporter:
        reporter.progress(Progress("pack", 1, None, 1, Busy(1.23456, 2.0, 0.0004)))
        reporter.progress(Progress("verify", 1, 1, 1))
    packed, verified = map(json.loads, capsys.readouterr().out.splitlines())
    assert packed["busy_s"] == {"read": 1.235, "compress": 2.0, "write": 0.0, "held": 0.0}
    assert "busy_s" not in verified


@pytest.mark.parametrize("limit", ["0", "1024G", "999999999999999999"])
def test_a_limit_that_is_none_or_large_changes_nothing(
    limit: str, onggi: Any, tmp_path: Path
) -> None:
    source = make(tmp_path, "volume")
    fixed = ("--uuid", "6f6e6767-6921-4a61-b272-6f6620746573", "--created", 1)
    onggi.ok("pack", source, "a.onggi", *fixed)
    onggi.ok("pack", source, "b.onggi", *fixed, "--limit", limit)
    assert (tmp_path / "a.onggi").read_bytes() == (tmp_path / "b.onggi").read_bytes()


@pytest.mark.parametrize("limit", ["-1", "fast", "1.5M", "80MB", ""])
def test_a_limit_that_is_no_size_is_refused(limit: str, onggi: Any, tmp_path: Path) -> None:
    onggi.fails(2, "pack", make(tmp_path, "volume"), "a.onggi", "--limit", limit)
    assert not (tmp_path / "a.onggi").exists()


@pytest.mark.parametrize("kind", ["volume", "stream", "tree"])
def test_a_pack_that_is_held_back_ends_at_once_when_it_is_told_to(
    kind: str, onggi: Any, tmp_path: Path
) -> None:
    """At this limit, the next piece is hours away."""
    source = make(tmp_path, kind)
    out = tmp_path / "out"
    out.mkdir()
    given = "-" if kind == "stream" else os.fspath(source)
    with (
        (source if kind != "tree" else source / "00").open("rb") as file,
        subprocess.Popen(
            [*onggi.command, "pack", given, "out/a.onggi", "--limit", "10"],
            stdin=file, cwd=tmp_path, stderr=subprocess.PIPE,
        ) as child,
    ):  # fmt: skip
        try:
            deadline = time.monotonic() + 30
            # A thread of its own at least: it packs.
            while len(os.listdir(f"/proc/{child.pid}/task")) < 2 or not list(out.iterdir()):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(0.3)
            began = time.monotonic()
            child.send_signal(signal.SIGTERM)
            _, err = child.communicate(timeout=30)
        finally:
            child.kill()
    assert child.returncode == 143
    assert time.monotonic() - began < 10
    assert err == b"onggi: terminated\n"
    assert list(out.iterdir()) == []
