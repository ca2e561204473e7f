"""Short processes: no command, however it behaves, holds up the one who runs it."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from onggi.control.short_process import run_short

PATH = {"PATH": os.defpath}


def shell(script: str, limit_s: float = 20, given: bytes = b"") -> tuple[int | None, list[str]]:
    outcome = run_short(["sh", "-c", script], given, limit_s, PATH)
    return outcome.code, outcome.lines


def ends(pid: int, within_s: float = 10) -> bool:
    """Tell whether a process is gone, or a zombie, before long."""
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        try:
            if ") Z " in Path(f"/proc/{pid}/stat").read_text():
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


def test_code_and_words_come_back() -> None:
    assert shell("echo one; echo two >&2; exit 3") == (3, ["one", "two"])
    assert shell("kill -9 $$") == (-9, [])


def test_what_is_given_is_its_standard_input_however_long() -> None:
    assert shell("wc -c", given=b"x" * 1_000_000) == (0, ["1000000"])


def test_a_command_need_not_read_what_it_is_given() -> None:
    assert shell("exit 0", given=b"x" * 1_000_000) == (0, [])


def test_it_runs_in_the_root_folder_with_the_environment_that_is_given() -> None:
    assert shell("pwd; /usr/bin/env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD=") == (
        0,
        ["/", f"PATH={os.defpath}"],
    )
    code = "import os; print('HOME' in os.environ)"
    assert run_short([sys.executable, "-c", code], b"", 20).lines == [str("HOME" in os.environ)]


def test_time_that_is_over_ends_it_and_what_it_started(tmp_path: Path) -> None:
    started_s = time.monotonic()
    script = f"trap '' TERM INT HUP; sleep 1000 & echo $! > {tmp_path}/pid; echo started; wait"
    assert shell(script, limit_s=0.5) == (None, ["started"])
    assert time.monotonic() - started_s < 10
    assert ends(int((tmp_path / "pid").read_text()))


def test_a_command_that_never_stops_talking_needs_no_memory() -> None:
    code, lines = shell("yes 'a long line'", limit_s=0.5)
    assert code is None
    assert sum(map(len, lines)) <= 64 * 1024
    code, lines = shell("head -c 10000000 /dev/zero; echo; echo last")
    assert (code, lines[-1]) == (0, "last")
    assert sum(map(len, lines)) <= 64 * 1024


def test_a_process_left_behind_with_the_pipe_holds_up_nobody(tmp_path: Path) -> None:
    started_s = time.monotonic()
    script = f"setsid sleep 1000 & echo $! > {tmp_path}/pid; echo done"
    try:
        assert shell(script) == (0, ["done"])
        assert time.monotonic() - started_s < 10
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_closed_pipe_is_not_the_end() -> None:
    assert shell("exec >&- 2>&-; sleep 0.3; exit 4") == (4, [])
    before_s = time.process_time()
    assert shell("exec >&- 2>&-; sleep 1000", limit_s=1) == (None, [])
    assert time.process_time() - before_s < 0.3, "nothing turns in circles"


def test_nothing_stays_open() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    shell("exit 1")
    shell("sleep 1000", limit_s=0.1)
    with pytest.raises(FileNotFoundError):
        run_short(["/nowhere/program"], b"", 20)
    assert sorted(os.listdir("/proc/self/fd")) == before
