"""Restoring from damaged archives: what is lost is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from onggi.archive import files, layout, tree_writer
from onggi.archive.errors import DamagedError, OnggiError, Severity, SourceError
from onggi.archive.plan import Geometry
from onggi.archive.reader import Archive, PlacedFrames, UnitReader
from onggi.archive.selection import TreeOptions
from onggi.archive.store import MemoryStore
from onggi.archive.tree_extract import unpack_tree
from onggi.archive.view import open_tree

from .tree_helpers import (
    ROWS,
    archive_of,
    everything,
    facts_on_disk,
    noise,
    pack_path,
    patched,
    write_sparse,
)
from .tree_restore_helpers import codes, parts, unpack
from .tree_restore_helpers import no_sync as no_sync
from .tree_restore_helpers import tree as tree
from .tree_restore_helpers import twin as twin


def damage(monkeypatch: pytest.MonkeyPatch, *bad: tuple[int, int]) -> None:
    """Let frames be damaged: (unit, frame)."""
    real = UnitReader.frame

    def frame(self: UnitReader, placed: PlacedFrames, number: int) -> bytes:
        at = (placed.unit.number, number)
        if at in bad:
            raise DamagedError("frame", "broken", unit=at[0], frame=number, archive_offset=99)
        return real(self, placed, number)

    monkeypatch.setattr(UnitReader, "frame", frame)


@pytest.mark.usefixtures("twin")
@pytest.mark.parametrize("threads", [1, 3])
def test_what_is_lost_is_told_and_reads_as_zeros(
    threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, dest = tmp_path / "source", tmp_path / "dest"
    source.mkdir()
    for name in "abc":
        (source / name).write_bytes(noise(20_000, ord(name)))
    (source / "d").touch()
    write_sparse(source / "e", 500_000, {0: noise(8192, 1), 400_000 // 4096 * 4096: noise(8192, 2)})
    geometry = Geometry(16_384, 4096, 512)
    packed = pack_path(source, geometry, options=TreeOptions(dedup=False))
    b, e = packed.view.entry(b"b"), packed.view.entry(b"e")
    runs = list(packed.tree.runs(e))
    lost = [b.first + 9000, b.first + 19_999, runs[1].content_offset + 5000]
    bad = {geometry.locate(at)[:2] for at in lost}
    dark = bytearray(packed.content)
    for unit, frame in bad:
        at = unit * geometry.unit_bytes + frame * geometry.frame_bytes
        dark[at : at + 4096] = bytes(4096)
    damage(monkeypatch, *bad)
    with pytest.raises(DamagedError, match="broken"):
        unpack(packed, dest, threads=threads)
    assert parts(dest) == []
    assert not (dest / "b").exists()

    restored, findings = unpack(packed, tmp_path / "salvaged", threads=threads, salvage=True)
    expected = facts_on_disk(source)
    found = facts_on_disk(tmp_path / "salvaged")
    assert found.keys() == expected.keys()
    lost_bytes = 0
    for visited in packed.view.walk(packed.tree.root):
        entry, path = visited.entry, visited.path
        if not entry.is_file:
            continue
        whole = bytearray(entry.member_bytes)
        for run in packed.tree.runs(entry):
            start, size = run.content_offset, run.run_bytes
            whole[run.member_offset : run.member_offset + size] = dark[start : start + size]
        assert found[path].content == whole, path
        assert found[path][:5] == expected[path][:5]
        told = [f for f in findings if os.fsencode(str(f.path)) == path]
        gone = 0
        for finding in told:
            assert finding.code == "lost-content"
            assert finding.severity is Severity.DAMAGE
            assert (finding.unit, finding.frame) in bad
            assert finding.archive_offset == 99
            assert finding.content_offset is not None
            assert finding.content_bytes is not None
            span = slice(finding.content_offset, finding.content_offset + finding.content_bytes)
            assert not any(whole[span])
            gone += finding.content_bytes
        lost_bytes += gone
        if bytes(whole) != expected[path].content:
            assert told
    assert restored.lost_bytes == lost_bytes > 8000
    assert restored.files == 5


def test_what_was_not_read_when_it_was_packed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in "ab":
        (source / name).write_bytes(noise(3000, 1))

    def read_files(*arguments: Any) -> Any:
        os.truncate(source / "a", 1000)
        return files.read_files(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(tree_writer, "read_files", read_files)
        packed = pack_path(source)
    _, findings = unpack(packed, tmp_path / "dest")
    assert codes(findings) == {"a": ["not-restored-content"]}
    assert (tmp_path / "dest/a").read_bytes() == noise(3000, 1)[:1000] + bytes(2000)


def test_an_archive_that_can_not_be_read_is_an_error(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack_path(tree)

    def frame(*_: object) -> bytes:
        raise SourceError("the archive ends")

    monkeypatch.setattr(UnitReader, "frame", frame)
    for salvage in (False, True):
        with pytest.raises(SourceError):
            unpack(packed, tmp_path / f"dest{salvage}", salvage=salvage)
        assert parts(tmp_path / f"dest{salvage}") == []


def test_a_catalogue_that_is_damaged_is_an_error(tree: Path, tmp_path: Path) -> None:
    packed = pack_path(tree)
    real = packed.tree.target

    def target(entry: Any) -> bytes:
        raise DamagedError("catalogue", "its target has a NUL")

    packed.tree.target = target  # type: ignore[method-assign]
    with pytest.raises(OnggiError, match="NUL"):
        unpack(packed, tmp_path / "dest")
    assert parts(tmp_path / "dest") == []
    packed.tree.target = real  # type: ignore[method-assign]


@pytest.mark.usefixtures("twin")
def test_entries_that_are_in_no_folder_are_an_error_at_the_end(tmp_path: Path) -> None:
    raw = everything()
    raw = patched(raw, ROWS["deep"], total=1)
    for name in ("block", "char"):
        raw = patched(raw, ROWS[name], type=layout.ENTRY_FIFO, first=0, total=0)
    archive = Archive(MemoryStore(archive_of(raw, noise(5000, 1))))
    dest = tmp_path / "dest"
    with pytest.raises(DamagedError, match="1 entries are in no directory"):
        unpack_tree(open_tree(archive), archive, os.fspath(dest), threads=1)
    assert parts(dest) == []
    assert (dest / "dir/deep/more-holes").stat().st_size == 700
    assert not (dest / "dir/deep/zz").exists()
    unpack_tree(open_tree(archive), archive, os.fspath(dest / "part"), threads=1, paths=[b"dir"])
