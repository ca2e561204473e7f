"""What the tests of restoring trees share: a tree, a restore of it, and calls that fail.

Fixtures are imported from here as themselves (`tree as tree`): so they do not look unused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from onggi.archive import accelerate, restore_plan
from onggi.archive.destination import RestoreOptions
from onggi.archive.errors import Finding
from onggi.archive.restore_plan import Restored
from onggi.archive.tree_extract import unpack_tree

from .tree_helpers import MTIME_NS, Packed, noise, write_sparse

IS_ROOT = os.geteuid() == 0
ENTRY = "not-restored-entry"


def unpack(
    packed: Packed, dest: Path | str, *paths: bytes, threads: int = 1, **options: bool
) -> tuple[Restored, list[Finding]]:
    """Restore an archive, or parts of it; return the totals and the findings."""
    findings: list[Finding] = []
    known = {"same_owner": IS_ROOT} | options
    restored = unpack_tree(
        packed.tree, packed.archive, os.fspath(dest), threads=threads, paths=paths,
        options=RestoreOptions(**known), found=findings.append,
    )  # fmt: skip
    assert parts(Path(dest)) == []
    return restored, findings


def parts(dest: Path) -> list[str]:
    """Return what was begun and not finished."""
    return [str(path) for path in dest.rglob(".onggi-*")]


def codes(findings: Sequence[Finding]) -> dict[str, list[str]]:
    """Return the codes of the findings of each path."""
    found: dict[str, list[str]] = {}
    for finding in findings:
        found.setdefault(str(finding.path), []).append(finding.code)
    return found


def fail(
    monkeypatch: pytest.MonkeyPatch, function: str, code: int, only: Callable[[Any], bool]
) -> list[Any]:
    """Let a function of `os` fail where `only` says so of its arguments; return what it met."""
    real = getattr(os, function)
    met: list[Any] = []

    def fails(*arguments: Any, **named: Any) -> Any:
        if only(arguments):
            met.append(arguments)
            raise OSError(code, os.strerror(code))
        return real(*arguments, **named)

    monkeypatch.setattr(os, function, fails)
    return met


def make_it(root: Path, kind: str) -> None:
    """Make something of a kind in a folder, under the name `it`."""
    it = root / "it"
    if kind == "file":
        it.write_bytes(b"archived")
    elif kind == "none":
        it.touch()
    elif kind == "sparse":
        write_sparse(it, 100_000, {8192: b"archived" * 512})
    elif kind == "large":
        it.write_bytes(noise(60_000, 1))
    elif kind == "link":
        it.symlink_to("archived")
    elif kind == "fifo":
        os.mkfifo(it)
    elif kind == "second":
        (root / "a-first").write_bytes(b"archived")
        os.link(root / "a-first", it)
    else:
        it.mkdir()
        (it / "below").write_bytes(b"archived")


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for disks, of which others may make much use."""
    monkeypatch.setattr(restore_plan, "sync_file_system", lambda fd: None)


@pytest.fixture(params=["compiled", "python"])
def twin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Restore with the compiled helper, if it is built, and without it."""
    if request.param == "python":
        monkeypatch.setattr(accelerate, "_module", None)
    return str(request.param)


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore without the compiled helper: what is patched here, it would not see."""
    monkeypatch.setattr(accelerate, "_module", None)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with one of everything that needs no rights."""
    root = tmp_path / "tree"
    (root / "d/e").mkdir(parents=True)
    for name, size in (("a", 100), ("d/b", 5000), ("d/e/c", 0), ("d/e/large", 50_000)):
        (root / name).write_bytes(noise(size, len(name)))
    write_sparse(root / "holes", 300_000, {8192: noise(4096, 2), 200_704: noise(4096, 3)})
    os.symlink("target", root / "link")
    os.mkfifo(root / "fifo")
    os.link(root / "a", root / "d/a2")
    (root / "d/same").write_bytes(noise(50_000, len("d/e/large")))
    for path in [*root.rglob("*"), root]:
        os.utime(path, ns=(0, MTIME_NS), follow_symlinks=False)
    return root
