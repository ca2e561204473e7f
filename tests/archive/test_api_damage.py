"""The library: damaged and hostile archives, and the check of whole ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from onggi import archive
from onggi.archive.store import FileStore, MemoryStore

from .api_helpers import FIXTURES, FRAME, UNIT, CountingStore, Frames, files_of
from .api_helpers import folder as folder
from .api_helpers import opened as opened
from .api_helpers import packed_path as packed_path


def is_lost(opened: archive.OpenArchive, path: str, at: int) -> bool:
    """Tell whether the byte at an offset is damaged."""
    try:
        opened.read(path, at, 1)
    except archive.DamagedError:
        return True
    return False


def test_a_damaged_frame_spoils_the_reads_that_need_it_alone(path: Path, folder: Path) -> None:
    frames = Frames(path)
    content = (folder / "data/units").read_bytes()
    with FileStore(path) as file:
        store = CountingStore(file)
        with archive.open(store) as opened:
            opened.stat("data/units")
            store.reads.clear()
            opened.read("data/units", UNIT, 1)
            (bad,) = frames.touched(store)
    data = bytearray(path.read_bytes())
    data[frames.ends[bad] - 20] ^= 1
    path.write_bytes(data)
    with archive.open(path) as opened:
        lost = {at for at in range(0, len(content), 512) if is_lost(opened, "data/units", at)}
        for at in set(range(0, len(content), 512)) - lost:
            assert opened.read("data/units", at, 1) == content[at : at + 1]
        assert lost
        assert max(lost) - min(lost) < FRAME
        assert UNIT in lost
        with opened.open("data/units") as handle:
            handle.seek(0, os.SEEK_END)
            handle.seek(0)
            assert handle.read(100) == content[:100]
            handle.seek(UNIT)
            for _ in range(2):
                with pytest.raises(archive.DamagedError):
                    handle.read(10)
            handle.seek(len(content) - 100)
            assert handle.read() == content[-100:]
        for other in ("text", "sparse", "data/at"):
            assert opened.read(other) == (folder / other).read_bytes()
        verified = opened.verify()
        assert (verified.is_whole, verified.damaged_units) == (False, 1)
        assert {finding.code for finding in verified.findings} == {"frame", "unit"}
        assert opened.verify("structure").is_whole
        assert not opened.verify("stored").is_whole
        with pytest.raises(archive.DamagedError):
            opened.extract(path.parent / "strict")
        restored = opened.extract(path.parent / "out", salvage=True)
        assert 0 < restored.lost_bytes <= FRAME
        (finding,) = restored.findings
        assert (finding.code, finding.path) == ("lost-content", "data/units")
    expected, found = files_of(folder), files_of(path.parent / "out")
    spoiled = found.pop("data/units")
    assert spoiled != expected.pop("data/units")
    assert spoiled[: min(lost) - 511] == content[: min(lost) - 511]
    assert found.pop("data/deep/again") == spoiled
    del expected["data/deep/again"]
    assert found == expected


def test_an_archive_that_can_t_be_opened_can_be_verified(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(archive.TruncatedError):
        archive.open(path)
    verified = archive.verify_archive(path)
    assert not verified.is_whole
    assert verified.units > 0
    assert verified.findings
    told: list[archive.Finding] = []
    silent = archive.verify_archive(MemoryStore(path.read_bytes()), "stored", found=told.append)
    assert silent.findings == ()
    assert {finding.code for finding in told} == {finding.code for finding in verified.findings}
    with pytest.raises(FileNotFoundError) as caught:
        archive.open(path.parent / "nowhere.onggi")
    assert isinstance(caught.value, archive.SourceError)


def test_a_whole_archive_is_found_whole(opened: archive.OpenArchive) -> None:
    for level in archive.Level:
        verified = opened.verify(level, threads=2)
        assert (verified.is_whole, verified.level, verified.findings) == (True, level, ())
    with pytest.raises(archive.BadUseError, match="no level 'deep'"):
        opened.verify("deep")
    with pytest.raises(archive.BadUseError, match="0 threads"):
        opened.verify(threads=0)


HOSTILE = sorted(FIXTURES.glob("*.onggi"))


def test_hostile_archives_raise_the_errors_of_the_package_alone() -> None:
    outcomes: set[str] = set()
    for path in HOSTILE:
        try:
            with archive.open(path) as opened:
                for entry in opened.walk():
                    assert (entry.user, entry.group, entry.xattrs()) is not None
                    assert opened.exists(entry.path)
                    if entry.is_file:
                        opened.read(entry.path, 0, 10)
                        opened.read(entry.path, max(entry.size - 10, 0))
                        with opened.open(entry.path) as file:
                            file.read(FRAME)
                    if entry.is_dir:
                        opened.listdir(entry.path)
            outcomes.add("whole")
        except archive.OnggiError as error:
            outcomes.add(error.code)
    assert {"whole", "corrupt", "truncated", "unsupported", "not-an-archive"} <= outcomes
