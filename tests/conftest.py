"""What all tests share: capabilities of the machine, the command, real loop devices.

A test that needs something of the machine says so: `@pytest.mark.needs("loop", "mkfs.ext4")`. Where
the machine lacks it, the test is skipped, and the end of the run says so. With `--strict-skips`
(CI) every other skip is a failure.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Or their assertions would not say what differs.
pytest.register_assert_rewrite(
    "tests.archive.api_helpers",
    "tests.archive.native_helpers",
    "tests.archive.tree_pack_helpers",
    "tests.archive.tree_restore_helpers",
    "tests.control.master_helpers",
    "tests.control.page_helpers",
    "tests.control.plan_helpers",
    "tests.control.notify_helpers",
    "tests.control.schedule_helpers",
    "tests.system.control_helpers",
    "tests.system.tree_helpers",
)

settings.register_profile("ci", derandomize=True, deadline=None, database=None)
settings.register_profile("long", deadline=None, max_examples=2000)

_SKIPS = pytest.StashKey[list[tuple[str, str]]]()


def _has_loop() -> bool:
    if os.geteuid() or not Path("/dev/loop-control").exists():
        return False
    found = subprocess.run(["losetup", "--find"], capture_output=True, check=False)
    return found.returncode == 0


def _has_tmpfs() -> bool:
    """Tell whether this process may mount: a container's root may not."""
    if os.geteuid():
        return False
    command = "mount -t tmpfs none /mnt && umount /mnt"
    run = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, check=False)
    return run.returncode == 0


def _has_strace() -> bool:
    if not shutil.which("strace"):
        return False
    command = ["strace", "-qq", "-e", "inject=getcwd:error=EIO", "-o", "/dev/null", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _has_fuse() -> bool:
    return Path("/dev/fuse").exists() and shutil.which("fusermount3") is not None


def _has_chromium() -> bool:
    """Tell whether it starts: some systems have a command that only says how to install it."""
    if not shutil.which("chromium"):
        return False
    return (
        subprocess.run(["chromium", "--version"], capture_output=True, check=False).returncode == 0
    )


_CAPABILITIES: dict[str, Callable[[], bool]] = {
    "root": lambda: os.geteuid() == 0,
    "loop": _has_loop,
    "mount": _has_tmpfs,
    "strace": _has_strace,
    "fuse": _has_fuse,
    "chromium": _has_chromium,
}
_known: dict[str, bool] = {}


def capable(name: str) -> bool:
    """Tell whether the machine has a capability, or a program of that name."""
    if name not in _known:
        check = _CAPABILITIES.get(name)
        _known[name] = check() if check else shutil.which(name) is not None
    return _known[name]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--strict-skips", action="store_true", help="fail if a test is skipped without need"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*names): what the machine must have")
    config.stash[_SKIPS] = []
    # The fixed seed, unless another profile is asked for.
    if not config.getoption("--hypothesis-profile"):
        settings.load_profile("ci")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            if not capable(name):
                item.config.stash[_SKIPS].append((item.nodeid, name))
                pytest.skip(f"this machine has no {name}")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    skipped = len(terminalreporter.stats.get("skipped", []))
    needed = config.stash[_SKIPS]
    terminalreporter.section("skips")
    terminalreporter.line(f"skipped: {skipped}, of them for what this machine lacks: {len(needed)}")
    for name in sorted({name for _, name in needed}):
        tests = sum(1 for _, each in needed if each == name)
        terminalreporter.line(f"NOT TESTED: {tests} tests need {name}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if not session.config.getoption("--strict-skips") or exitstatus:
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = len(reporter.stats.get("skipped", [])) if reporter else 0
    if skipped != len(session.config.stash[_SKIPS]):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@dataclass
class Ran:
    """What one run of the command gave."""

    code: int
    out: bytes
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """The JSON objects on standard output."""
        return [json.loads(line) for line in self.out.decode().splitlines()]

    @property
    def result(self) -> dict[str, Any]:
        """The last JSON object: the result or the error."""
        return self.records[-1]

    @property
    def findings(self) -> list[dict[str, Any]]:
        """The JSON objects of type finding."""
        return [record for record in self.records if record["type"] == "finding"]


@dataclass
class Onggi:
    """Runs the command `onggi` as a process, as people do."""

    folder: Path
    command: list[str] = field(default_factory=lambda: [sys.executable, "-m", "onggi.cli"])

    def __call__(
        self,
        *arguments: object,
        stdin: bytes | None = None,
        timeout_s: float = 120,
        prefix: tuple[str, ...] = (),
    ) -> Ran:
        """Run one command line in the test's folder; `prefix` runs it under another program."""
        done = subprocess.run(
            [*prefix, *self.command, *map(os.fspath, map(_text, arguments))],
            input=stdin if stdin is not None else b"",
            capture_output=True,
            cwd=self.folder,
            timeout=timeout_s,
            check=False,
        )
        err = done.stderr.decode(errors="replace")
        assert "Traceback" not in err, err
        return Ran(done.returncode, done.stdout, err)

    def ok(self, *arguments: object, **options: Any) -> Ran:
        """Run one command line that must end with 0."""
        ran = self(*arguments, **options)
        assert ran.code == 0, ran.err + ran.out.decode(errors="replace")[-2000:]
        return ran

    def fails(self, code: int, *arguments: object, **options: Any) -> Ran:
        """Run one command line that must end with `code` and one clear line on standard error."""
        ran = self(*arguments, **options)
        assert ran.code == code, f"{ran.code}: {ran.err}"
        lines = ran.err.splitlines()
        assert len(lines) == 1, ran.err
        assert lines[0].startswith("onggi: ")
        return ran


def _text(argument: object) -> str | os.PathLike[str]:
    return argument if isinstance(argument, (str, os.PathLike)) else str(argument)


@pytest.fixture
def onggi(tmp_path: Path) -> Onggi:
    """The command, run in the test's own folder."""
    return Onggi(tmp_path)


@dataclass
class Loops:
    """Makes real loop devices, and takes them away again."""

    devices: list[str] = field(default_factory=list[str])

    def __call__(self, file: Path, *options: str) -> Path:
        """Return a new loop device on `file`."""
        made = subprocess.run(
            ["losetup", "--find", "--show", *options, os.fspath(file)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        self.devices.append(made.stdout.strip())
        return Path(self.devices[-1])

    def close(self) -> None:
        """Detach all devices."""
        for device in self.devices:
            subprocess.run(["losetup", "-d", device], check=False, capture_output=True)


@pytest.fixture
def loops() -> Iterator[Loops]:
    """Real loop devices; a test that uses them is marked `needs("loop")`."""
    made = Loops()
    yield made
    made.close()


def mixed_content(size: int, seed: int = 1) -> bytes:
    """Return content with text, noise and zeros in turns; the same for the same arguments."""
    noise = random.Random(seed)
    pieces: list[bytes] = []
    left = size
    while left > 0:
        length = min(left, noise.choice([1, 500, 4096, 9000, 40_000]))
        kind = noise.randrange(3)
        if kind == 0:
            pieces.append((b"onggi keeps food for years; " * (length // 28 + 1))[:length])
        elif kind == 1:
            pieces.append(noise.randbytes(length))
        else:
            pieces.append(bytes(length))
        left -= length
    return b"".join(pieces)


@pytest.fixture
def content() -> Callable[..., bytes]:
    """Give `mixed_content`."""
    return mixed_content
