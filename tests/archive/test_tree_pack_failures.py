"""Packing trees: whatever fails discards the archive, and what is committed was checked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onggi.archive import files, tree_plan, tree_writer
from onggi.archive.errors import BadUseError, SourceError, StoreError
from onggi.archive.plan import Geometry
from onggi.archive.progress import Progress
from onggi.archive.reader import Archive
from onggi.archive.store import FileSpool, MemoryStore
from onggi.archive.tree_writer import TreeSource, pack_tree
from onggi.archive.unit import UnitEncoder

from .tree_helpers import TINY, noise, pack_path, tree_header


class Stopped(BaseException):
    """What a signal handler raises."""


ERRORS = [OSError("odd"), SourceError("gone"), KeyboardInterrupt(), Stopped(), MemoryError()]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Some files in two folders: about 30 tiny units."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for number in range(12):
            (tmp_path / folder / f"f{number}").write_bytes(noise(4000, number))
    return tmp_path


def packs_no_more(
    root: Path, target: Any, error: BaseException | type[BaseException], **more: Any
) -> None:
    """Check that a pack fails with an error, and leaves nothing."""
    kind = error if isinstance(error, type) else type(error)
    options: Any = {"threads": 2, "new_spool": FileSpool} | more
    with TreeSource([os.fspath(root)]) as source, pytest.raises(kind) as caught:
        pack_tree(source, target, tree_header(TINY), **options)
    if isinstance(error, BaseException):
        assert caught.value is error
    assert target.calls[-1] == "discard"
    assert "commit" not in target.calls


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", ["read_files", "scan"])
@pytest.mark.parametrize("fail_at", [0, 1])
def test_an_error_in_a_thread_discards_the_archive(
    error: BaseException, place: str, fail_at: int, tree: Path, memory_target: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    module = tree_writer if place == "read_files" else tree_plan
    real = getattr(module, place)
    calls = 0

    def fails(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > fail_at * 2:
            raise error
        return real(*arguments)

    monkeypatch.setattr(module, place, fails)
    if place == "read_files" and isinstance(error, OSError):
        # Then the folder could not be entered; that is for the files in it alone.
        packed = pack_path(tree, TINY)
        assert {code for codes in packed.codes.values() for code in codes} == {"vanished"}
        return
    packs_no_more(tree, memory_target(), error)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_of_the_compressor_discards_the_archive(
    error: BaseException, tree: Path, memory_target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(*arguments: Any) -> Any:
        raise error

    monkeypatch.setattr(UnitEncoder, "encode", encode)
    packs_no_more(tree, memory_target(), error)


def test_an_error_of_the_target_at_any_append_discards_the_archive(
    tree: Path, memory_target: Any, target_failed: Any
) -> None:
    whole = memory_target()
    with TreeSource([os.fspath(tree)]) as source:
        pack_tree(source, whole, tree_header(TINY), threads=2, new_spool=FileSpool)
    assert whole.appends > 30 + 9
    for fail_at in range(0, whole.appends, 3):
        target = memory_target(fail_at)
        packs_no_more(tree, target, target_failed)
        assert target.appends == fail_at + 1


def test_an_error_of_who_is_told_discards_the_archive(tree: Path, memory_target: Any) -> None:
    def report(progress: Progress) -> None:
        if progress.content_bytes > 20_000:
            raise Stopped

    def found(finding: object) -> None:
        raise Stopped

    def check(footer: object) -> None:
        raise StoreError("not what was written")

    packs_no_more(tree, memory_target(), Stopped, report=report)
    packs_no_more(tree, memory_target(), StoreError, check=check)
    (tree / "one/f3").chmod(0o644)
    real = files.scan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tree_plan, "scan",
            lambda fd, names, wanted: [each._replace(error=5) for each in real(fd, names, wanted)],
        )  # fmt: skip
        packs_no_more(tree, memory_target(), Stopped, found=found)


def test_what_is_committed_was_synced_and_checked(tree: Path, memory_target: Any) -> None:
    target = memory_target()

    def check(footer: object) -> None:
        assert target.calls == ["sync"]
        assert Archive(MemoryStore(target.data)).footer == footer

    with TreeSource([os.fspath(tree)]) as source:
        pack_tree(
            source, target, tree_header(TINY), threads=2, new_spool=FileSpool, check=check
        )  # fmt: skip
    assert target.calls == ["sync", "commit"]


@pytest.mark.parametrize("geometry", [Geometry(1, 1, 1), Geometry(4096, 4095, 4096)])
def test_a_size_that_can_not_be_is_refused(
    geometry: Geometry, tree: Path, memory_target: Any
) -> None:
    target = memory_target()
    with TreeSource([os.fspath(tree)]) as source, pytest.raises(BadUseError, match="size"):
        pack_tree(source, target, tree_header(geometry), threads=1, new_spool=FileSpool)
    assert target.calls == ["discard"]


class BrokenSpool:
    """A place for rows that has no space."""

    def write(self, data: bytes, /) -> object:
        raise StoreError("no space")

    def patch(self, spool_offset: int, data: bytes, /) -> None:
        raise StoreError("no space")

    def read(self, spool_offset: int, size: int, /) -> bytes:
        raise StoreError("no space")

    def chunks(self, size: int, /) -> Iterator[bytes]:
        raise StoreError("no space")


def test_a_spool_that_fails_discards_the_archive(tree: Path, memory_target: Any) -> None:
    packs_no_more(tree, memory_target(), StoreError, new_spool=BrokenSpool)


def test_a_pack_that_is_stopped_does_not_read_on(
    tree: Path, memory_target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    real = files.read_files

    def read_files(*arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        return real(*arguments)

    def report(_: Progress) -> None:
        raise Stopped

    monkeypatch.setattr(tree_writer, "read_files", read_files)
    packs_no_more(tree, memory_target(), Stopped, report=report)
    assert reads <= 6  # two threads, and what they may be ahead


def test_progress_is_told_in_order_up_to_the_end(tree: Path) -> None:
    told: list[Progress] = []
    packed = pack_path(tree, TINY, threads=3, report=told.append)
    assert [each.content_bytes for each in told] == [
        *range(4096, packed.archive.content_bytes, 4096), packed.archive.content_bytes,
    ]  # fmt: skip
    assert told[-1].stored_bytes == packed.archive.footer.stored_bytes
