"""What the tests of trees share: the corpus on a file system of its own, and its archives.

Fixtures are imported from here as themselves (`corpus as corpus`): so they do not look unused.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .tree_corpus import (
    BLOCK,
    EXT4,
    Snapshot,
    allocated,
    differences,
    filesystem,
    find_listing,
    flags_listing,
    make_corpus,
    rsync_differences,
    run,
    snapshot,
)

NEEDS = pytest.mark.needs("root", "loop", "mkfs.ext4", "rsync", "setfacl", "setcap", "zstd")

SMALL = ("--block-size", "4096", "--blocks", "4", "--frame-size", "4096")


# --- the corpus, packed once for each set of options ---------------------------------------------


@dataclass
class Corpus:
    """The corpus on an ext4 of its own, mounted read-only, and archives of it."""

    root: Path
    folder: Path
    entries: Snapshot
    _packed: dict[tuple[str, ...], Path] = field(default_factory=dict[tuple[str, ...], Path])

    def archive(self, onggi: Any, *options: str) -> Path:
        """Return an archive of it, packed with `options`; the next call gives the same one."""
        if options not in self._packed:
            path = self.folder / f"{len(self._packed)}.onggi"
            ran = onggi.ok("pack", self.root, path, "--json", *options)
            assert ran.findings == []
            assert ran.err == ""
            self._packed[options] = path
        return self._packed[options]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    """Make the corpus, once."""
    folder = tmp_path_factory.mktemp("corpus")
    with filesystem(folder / "ext4", EXT4) as place:
        (place / "source").mkdir()
        make_corpus(place / "source", EXT4)
        run("mount", "-o", "remount,ro", place)
        yield Corpus(place / "source", folder, snapshot(place / "source"))


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    """Give an empty folder on another new ext4."""
    with filesystem(tmp_path / "target", EXT4) as place:
        yield place


def hold_same(source: Path, target: Path, entries: Snapshot) -> None:
    """Hold that two trees are the same, whoever is asked."""
    assert differences(entries, snapshot(target)) == []
    assert rsync_differences(source, target) == ""
    assert set(find_listing(source)) ^ set(find_listing(target)) == set()
    assert set(flags_listing(source)) ^ set(flags_listing(target)) == set()
    before, after = allocated(source), allocated(target)
    # A list of more than four extents takes a block of its own, also before they are joined.
    more = {path: after[path] - size for path, size in before.items()}
    assert {path: size for path, size in more.items() if size > 2 * BLOCK} == {}


# --- small trees ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plant a tree whose names patterns may or may not match."""
    root = tmp_path_factory.mktemp("plain") / "root"
    names = (
        "main.o", "main.c", "build/out", "build/main.o", "sub/build/x", "docs/a.txt",
        "docs/old/b.txt", "docs/c.md", "docs.txt", "cache/z", "sub/cache/z", "abc", "bbc", "zbc",
        "aXc", "x1", "y2", "deep/er/file", "deep/er/other", "file", "deep/file", "old~", "*", "**",
        "a*b", ".git/config", ".hidden", "with space", "!keep", "/sub/sub/f", "bra[ck",
        "back\\slash", "#x", "x1 ", "{a,b}c", "7up", "deep/.git/HEAD", "caf\udce9", "de/tab/le",
    )  # fmt: skip
    for name in names:
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


# --- what an archive holds -----------------------------------------------------------------------


@contextmanager
def stream_of(archive: Path) -> Iterator[Any]:
    """Give the content of an archive, as zstd gives it."""
    with subprocess.Popen(["zstd", "-dcq", archive], stdout=subprocess.PIPE) as process:
        yield process.stdout
    assert process.returncode == 0


def members_of(archive: Path) -> list[tarfile.TarInfo]:
    """Return the members of a stream as Python's tarfile reads them."""
    with stream_of(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        return list(tar)


def names_in(archive: str | Path, folder: Path) -> set[str]:
    """Return the paths in an archive, but for the root, as tarfile reads them."""
    names = {member.name.removeprefix("./").rstrip("/") for member in members_of(folder / archive)}
    return names - {".", ""}


def entries_of(ran: Any) -> dict[bytes, dict[str, Any]]:
    """Return the entries that a run tells as JSON, by path."""
    told = [record for record in ran.records if record["type"] == "entry"]
    found = {os.fsencode(record["path"]): record for record in told}
    assert len(found) == len(told)
    return found
