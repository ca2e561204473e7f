"""The log of a run: what is written is read, and it does not get too long."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from onggi.control.run_log import MASTER, STDERR, RunLog, log_path, read_log, remove_old_logs

from .manager_helpers import mounted


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return log_path(tmp_path / "logs", 17)


def test_what_is_written_is_read(path: Path) -> None:
    before = time.time()
    log = RunLog(path)
    log.event("pack", {"type": "finding", "message": "김치 \ud800", "step": "x", "time_s": 5})
    log.text("pack", STDERR, "words")
    log.text("", MASTER, "it is tried again")
    lines, following = read_log(path)
    assert [line.pop("time_s") for line in lines] == pytest.approx([before] * 3, abs=5)
    assert lines == [
        {"step": "pack", "stream": "event", "type": "finding", "message": "김치 \ud800"},
        {"step": "pack", "stream": "stderr", "text": "words"},
        {"step": "", "stream": "master", "text": "it is tried again"},
    ]
    assert following == path.stat().st_size
    assert read_log(path, following) == ([], following)
    log.text("", MASTER, "more")
    assert [line["text"] for line in read_log(path, following)[0]] == ["more"]
    log.close()
    log.text("", MASTER, "nobody hears this")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.name == "17.jsonl"


def test_another_attempt_goes_on_in_the_same_log(path: Path) -> None:
    for text in ("first", "second"):
        log = RunLog(path)
        log.text("", MASTER, text)
        log.close()
    assert [line["text"] for line in read_log(path)[0]] == ["first", "second"]


def test_a_line_that_a_crash_has_cut_short_spoils_no_other(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b'{"text": "whole"}\n{"text": "cut sh')
    assert [line["text"] for line in read_log(path)[0]] == ["whole"]
    log = RunLog(path)
    log.text("", MASTER, "after")
    log.close()
    assert [line["text"] for line in read_log(path)[0]] == ["whole", "after"]


def test_a_log_does_not_get_too_long_but_its_end_is_in_it(path: Path) -> None:
    log = RunLog(path, 10_000)
    for number in range(1000):
        log.text("pack", STDERR, f"line {number}")
    log.event("pack", {"type": "result"}, matters=True)
    log.close()
    log = RunLog(path, 10_000)
    log.text("pack", STDERR, "x" * 500)
    log.text("", MASTER, "the end", matters=True)
    log.close()
    lines = read_log(path)[0]
    texts = [line.get("text", line.get("type")) for line in lines]
    number = texts.index("the log is full: what is not of importance is left out from here on")
    assert texts[:number] == [f"line {each}" for each in range(number)]
    assert texts[number + 1] == "result"
    assert texts[-1] == "the end"
    assert path.stat().st_size < 10_500


def test_even_what_matters_does_not_fill_the_disk(path: Path) -> None:
    log = RunLog(path, 1000)
    for _ in range(5000):
        log.event("pack", {"type": "result", "text": "x" * 1000}, matters=True)
    log.close()
    assert path.stat().st_size < 1_100_000


def test_a_long_log_is_read_in_pieces(path: Path) -> None:
    log = RunLog(path)
    for number in range(3000):
        log.text("pack", STDERR, f"{number} " + "x" * 300)
    log.event("pack", {"type": "finding", "message": "y" * 900_000})
    log.text("pack", STDERR, "3001 last")
    log.close()
    found: list[dict[str, Any]] = []
    start, pieces = 0, 0
    while True:
        lines, following = read_log(path, start)
        if following == start:
            break
        assert len(json.dumps(lines)) < 1_000_000
        found += lines
        start, pieces = following, pieces + 1
    assert pieces > 3
    assert len(found) == 3002
    assert [int(line["text"].split()[0]) for line in found if "text" in line] == [
        *range(3000), 3001,
    ]  # fmt: skip


@pytest.mark.parametrize("start", [-1, 10**9, 10**30, 3])
def test_a_start_that_is_none_gives_nothing_wrong(path: Path, start: int) -> None:
    log = RunLog(path)
    log.text("", MASTER, "one")
    log.text("", MASTER, "two")
    log.close()
    lines, _ = read_log(path, start)
    assert [line["text"] for line in lines] in ([], ["two"])


def test_a_log_that_is_not_there_is_empty(path: Path) -> None:
    assert read_log(path) == ([], 0)


@pytest.mark.parametrize("what", ["link", "folder"])
def test_what_is_no_log_is_not_written_to(path: Path, what: str) -> None:
    path.parent.mkdir()
    other = path.with_name("other")
    if what == "link":
        other.write_text("x")
        path.symlink_to(other)
    else:
        path.mkdir()
    log = RunLog(path)
    log.text("", MASTER, "words")
    log.close()
    assert what == "folder" or other.read_text() == "x"


@pytest.mark.needs("root", "mount")
def test_a_full_disk_stops_the_log_and_nothing_else(path: Path) -> None:
    path.parent.mkdir()
    with mounted(path.parent, "-o", "size=8k"):
        log = RunLog(path)
        for number in range(1000):
            log.text("", MASTER, f"line {number}")
        log.close()
        lines = read_log(path)[0]
        assert lines[0]["text"] == "line 0"
        assert len(lines) < 200
        assert os.statvfs(path.parent).f_bavail == 0
        subprocess.run(["sync"], check=True)


def test_logs_of_runs_long_ago_are_removed_and_nothing_else(path: Path) -> None:
    logs = path.parent
    logs.mkdir()
    for number in range(1, 8):
        log_path(logs, number).write_text("{}\n")
    (logs / "notes.txt").touch()
    remove_old_logs(logs, 7, most=3)
    assert sorted(each.name for each in logs.iterdir()) == [
        "5.jsonl", "6.jsonl", "7.jsonl", "notes.txt"
    ]  # fmt: skip
    remove_old_logs(logs / "nothing", 7)
