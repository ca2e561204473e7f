"""What the system tests share: images, mounts, fault injection, measured runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_RUN_TIMEOUT_S = 120


def run(*command: object) -> str:
    """Run a tool that must end with 0; return what it printed."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, check=False, timeout=_RUN_TIMEOUT_S
    )
    text = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
    assert done.returncode == 0, f"{command} ended with {done.returncode}: {text}"
    return text


@pytest.fixture
def tool() -> Callable[..., str]:
    """Give `run`."""
    return run


@dataclass
class Disks:
    """Makes disk images, and removes them again: they are too long to be kept."""

    folder: Path
    files: list[Path] = field(default_factory=list[Path])

    def __call__(self, name: str, size: int, fill: int | None = None) -> Path:
        """Return a new image: sparse, or full of the byte `fill`."""
        path = self.folder / name
        self.files.append(path)
        with path.open("xb") as file:
            if fill is None:
                file.truncate(size)
            else:
                piece = bytes([fill]) * (1 << 20)
                for _ in range(size >> 20):
                    file.write(piece)
                file.write(piece[: size & 0xFFFFF])
        return path

    def close(self) -> None:
        """Remove all images."""
        for path in self.files:
            path.unlink(missing_ok=True)


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Disks]:
    """Disk images that go when the test ends; ask for them before `loops`."""
    made = Disks(tmp_path)
    yield made
    made.close()


@dataclass
class Mounts:
    """Mounts file systems, and unmounts them again."""

    folder: Path
    places: list[Path] = field(default_factory=list[Path])

    def __call__(self, what: str | Path, *options: str, name: str = "mounted") -> Path:
        """Mount a device on a new folder; return the folder."""
        place = self.folder / name
        place.mkdir(exist_ok=True)
        run("mount", *options, what, place)
        self.places.append(place)
        return place

    def unmount(self, place: Path) -> None:
        """Unmount one again."""
        run("umount", place)
        self.places.remove(place)

    def close(self) -> None:
        """Unmount all."""
        for place in reversed(self.places):
            for _ in range(20):
                if not subprocess.run(["umount", place], check=False).returncode:
                    break
                time.sleep(0.1)


@pytest.fixture
def mounts(tmp_path: Path, loops: object) -> Iterator[Mounts]:
    """Mounts that are gone before the loop devices go."""
    made = Mounts(tmp_path)
    yield made
    made.close()


def state(folder: Path) -> dict[str, bytes | str]:
    """Return what is in a folder: names, content of files, targets of links, kind of the rest."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_file():
            found[name] = path.read_bytes()
        else:
            found[name] = oct(path.lstat().st_mode)
    return found


@pytest.fixture
def folder_state() -> Callable[[Path], dict[str, bytes | str]]:
    """Give `state`."""
    return state


# An own process between the tests and the command: a child's peak memory, as the kernel counts it,
# begins with the peak of the process that forked it.
_MEASURE = """
import json, resource, subprocess, sys, time
started = time.monotonic()
code = subprocess.run(sys.argv[2:]).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
with open(sys.argv[1], "w") as report:
    json.dump({"seconds": time.monotonic() - started, "peak_bytes": peak}, report)
sys.exit(code)
"""


@dataclass
class Meter:
    """Measures a run: use `prefix` for it, then read `seconds` and `peak_bytes`."""

    report: Path

    @property
    def prefix(self) -> tuple[str, ...]:
        """What to put before the command."""
        return (sys.executable, "-c", _MEASURE, os.fspath(self.report))

    @property
    def seconds(self) -> float:
        """How long the last run took."""
        return float(json.loads(self.report.read_text())["seconds"])

    @property
    def peak_bytes(self) -> int:
        """How much memory the last run had resident at most."""
        return int(json.loads(self.report.read_text())["peak_bytes"])


@pytest.fixture(scope="session")
def new_meter(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Meter]:
    """Measures time and memory of runs: gives a new `Meter` each time."""
    return lambda: Meter(tmp_path_factory.mktemp("meter") / "report.json")


_CALL = re.compile(r"^(\d+) +(\w+)\((.*)$", re.MULTILINE)


@dataclass
class Faults:
    """Runs commands under strace: counts their system calls, and makes chosen ones fail."""

    log: Path

    def prefix(self, *rules: str) -> tuple[str, ...]:
        """Return the command that puts `rules` to work, as `fsync:error=EIO:when=1`."""
        # The question mark: not every machine has every call.
        calls = ",".join("?" + rule.split(":")[0] for rule in rules)
        inject = [word for rule in rules if ":" in rule for word in ("-e", f"inject=?{rule}")]
        # Not --seccomp-bpf, though it is quicker: injected signals get lost with it.
        command = ("strace", "-f", "-qq", "-o", str(self.log))
        return (*command, "-e", f"trace={calls}", *inject, "--")

    def hits(self) -> int:
        """Return how many calls were tampered with in the last run."""
        text = self.log.read_text(errors="replace")
        return text.count("(INJECTED)") + text.count("(DELAYED)")

    def calls(self, name: str, *mentions: str) -> list[int]:
        """Return the numbers of the calls of a name in the last run, as `when=` takes them.

        Each thread counts its own calls. With `mentions` only the calls count in that say one of
        the words, as a path.
        """
        seen: Counter[str] = Counter()
        numbers: set[int] = set()
        for thread, call, rest in _CALL.findall(self.log.read_text(errors="replace")):
            if call == name:
                seen[thread] += 1
                if not mentions or any(word in rest for word in mentions):
                    numbers.add(seen[thread])
        return sorted(numbers)


@pytest.fixture
def faults(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    """Fault injection; a test that uses it is marked `needs("strace")`."""
    return Faults(tmp_path_factory.mktemp("strace") / "log")
