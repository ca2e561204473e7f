"""The journal: what is written is there, whole, whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from onggi.control.errors import StateError
from onggi.control.journal import Entry, Journal
from onggi.control.messages import FINDINGS, VANISHED, Ended
from onggi.control.process import Identity

from .manager_helpers import mounted

FULL = Entry(
    Ended(
        17, 3, FINDINGS, 1, "one \ud800 line", "/target/plan/김치.onggi", 5, 4, 3, False,
        ("/target/plan/old.onggi",), True,
    ),
    True, True, "/target", "marker", "/target/plan/a.onggi", ("/target/plan/a.onggi",),
    ("/target/plan/a.restored", "b"), True, Identity(12, 34, "boot"),
)  # fmt: skip


def test_what_is_written_is_read_in_order_of_runs(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    entries = [Entry(Ended(number, 1, VANISHED)) for number in (9, 100, 1)]
    for entry in (FULL, *entries):
        journal.write(entry)
    assert Journal(tmp_path / "journal").read() == [entries[2], entries[0], FULL, entries[1]]
    journal.write(replace(FULL, is_taken=False))
    journal.forget(9)
    journal.forget(9)
    assert journal.read() == [entries[2], replace(FULL, is_taken=False), entries[1]]
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o700


def test_a_journal_that_can_not_be_made_or_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="No such file"):
        Journal(tmp_path / "nothing" / "journal")
    journal = Journal(tmp_path / "journal")
    (tmp_path / "journal").rmdir()
    with pytest.raises(StateError, match="No such file"):
        journal.read()
    with pytest.raises(StateError, match="No such file"):
        journal.write(FULL)
    journal.forget(17)


@pytest.mark.needs("root", "mount")
def test_an_entry_that_can_not_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    with mounted(tmp_path / "journal", "-o", "size=16k"):
        journal.write(FULL)
        big = replace(FULL, scratch=("x" * 100_000,))
        with pytest.raises(StateError, match="No space left"):
            journal.write(big)
        assert journal.read() == [FULL]
        assert [path.name for path in (tmp_path / "journal").iterdir()] == ["17.json"]


@pytest.mark.needs("strace")
def test_an_entry_is_on_the_disk_before_it_has_its_name_and_then_its_folder(tmp_path: Path) -> None:
    body = (
        "import sys; from pathlib import Path; from onggi.control.journal import *;"
        "journal = Journal(Path(sys.argv[1]));"
        "journal.write(Entry(Ended(5, 1, 'vanished')))"
    )
    log = tmp_path / "calls"
    calls = "trace=fsync,rename,renameat,renameat2,link,linkat"
    command = ["strace", "-f", "-y", "-e", calls, "-o", log, sys.executable, "-c", body]
    subprocess.run([*command, str(tmp_path / "journal")], check=True)
    lines = [line for line in log.read_text().splitlines() if str(tmp_path) in line]
    assert len(lines) == 3, lines
    assert "fsync" in lines[0]
    assert "5.json.part>" in lines[0]
    assert "rename" in lines[1]
    assert "fsync" in lines[2]
    assert f"{tmp_path}/journal>" in lines[2]
    assert os.path.exists(tmp_path / "journal" / "5.json")
