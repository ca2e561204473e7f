"""A tree archive as a file system: bytes of files from anywhere, holes as zeros."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.archive.errors import BadUseError, DamagedError
from onggi.archive.reader import Archive, PlacedFrames, UnitReader
from onggi.archive.store import FileStore, MemoryStore
from onggi.archive.view import View, open_tree

from .conftest import pack_bytes
from .tree_helpers import TINY, Packed, noise, pack_path, write_sparse

HOLES = {4096: noise(4096, 2), 20_480: noise(12_288, 3), 61_440: noise(5000, 4)}
FILES: dict[bytes, bytes] = {
    b"empty": b"", b"one": b"1", b"large": noise(50_000, 1), b"d/same": noise(50_000, 1)
}  # fmt: skip


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    root = tmp_path_factory.mktemp("view")
    (root / "d").mkdir()
    for name, content in FILES.items():
        (root / os.fsdecode(name)).write_bytes(content)
    write_sparse(root / "holes", 66_440, HOLES)
    write_sparse(root / "hole-at-end", 70_000, HOLES)
    write_sparse(root / "nothing", 30_000, {})
    os.link(root / "holes", root / "d/linked")
    (root / "link").symlink_to("one")
    return pack_path(root, TINY)


def content_of(name: bytes) -> bytes:
    """Return what a file holds."""
    if name in FILES:
        return FILES[name]
    if name == b"nothing":
        return bytes(30_000)
    content = bytearray(70_000)
    for offset, data in HOLES.items():
        content[offset : offset + len(data)] = data
    return bytes(content if name == b"hole-at-end" else content[:66_440])


NAMES = [*FILES, b"holes", b"hole-at-end", b"nothing", b"d/linked"]


@given(
    name=st.sampled_from(NAMES), offset=st.integers(0, 71_000),
    size=st.one_of(st.integers(0, 9000), st.sampled_from([0, 1, 4096, 80_000])),
    cache_bytes=st.sampled_from([0, 10_000, 10**6]),
)  # fmt: skip
def test_a_file_is_read_from_anywhere(
    name: bytes, offset: int, size: int, cache_bytes: int, packed: Packed
) -> None:
    view = View(packed.archive, cache_bytes)
    assert view.read(view.entry(name), offset, size) == content_of(name)[offset : offset + size]


@pytest.mark.parametrize("name", [b"holes", b"hole-at-end"])
def test_around_each_end_of_a_hole_the_right_bytes_are_read(name: bytes, packed: Packed) -> None:
    content = content_of(name)
    entry = packed.view.entry(name)
    bounds = [edge for at, data in HOLES.items() for edge in (at, at + len(data))]
    for one in bounds:
        for start in (one - 1, one, one + 1):
            for end in (start + 1, start + 2, *(each for each in bounds if each > start)):
                assert packed.view.read(entry, start, end - start) == content[start:end]


def test_a_file_is_read_in_pieces(packed: Packed) -> None:
    for name in NAMES:
        assert b"".join(packed.view.chunks(packed.view.entry(name))) == content_of(name)
    assert list(packed.view.chunks(packed.view.entry(b"empty"))) == []


def test_names_lead_to_what_they_name(packed: Packed) -> None:
    view = packed.view
    assert view.entry(b"d/linked") == view.entry(b"holes")
    assert view.entry(b"/") == view.entry(b"") == view.tree.root
    assert [name for name, _ in view.children(view.entry(b"d"))] == [b"linked", b"same"]
    assert [each.path for each in view.walk(view.entry(b"d"), b"d")] == [
        b"d", b"d/linked", b"d/same",
    ]  # fmt: skip


@pytest.mark.parametrize("path", [b"missing", b"d/missing", b"one/x", b"link/x", b"\xff"])
def test_what_is_not_there_is_said(path: bytes, packed: Packed) -> None:
    with pytest.raises(BadUseError, match="is not in the archive"):
        packed.view.entry(path)


@pytest.mark.parametrize(
    ("path", "offset", "size"),
    [(b"d", 0, 1), (b"link", 0, 1), (b"one", -1, 1), (b"one", 0, -1)],
)
def test_what_is_no_file_can_not_be_read(
    path: bytes, offset: int, size: int, packed: Packed
) -> None:
    with pytest.raises(BadUseError, match="only files"):
        packed.view.read(packed.view.entry(path), offset, size)


def test_only_the_frames_that_are_touched_are_decoded(
    packed: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    real = UnitReader.frame

    def frame(self: UnitReader, placed: PlacedFrames, number: int) -> bytes:
        decoded.append(placed.unit.number)
        if placed.unit.number in bad:
            raise DamagedError("frame", "broken")
        return real(self, placed, number)

    bad: set[int] = set()
    monkeypatch.setattr(UnitReader, "frame", frame)
    view = View(packed.archive)
    entry = view.entry(b"large")
    view.read(entry, 20_000, 1)
    assert decoded == [(entry.first + 20_000) // TINY.unit_bytes]
    view.read(view.entry(b"nothing"), 0, 30_000)
    view.read(view.entry(b"holes"), 0, 4096)
    view.read(entry, 10, 0)
    assert len(decoded) == 1
    bad.add(entry.first // TINY.unit_bytes)
    with pytest.raises(DamagedError):
        view.read(entry, 0, 1)
    assert view.read(entry, 30_000, 10) == FILES[b"large"][30_000:30_010]


def test_a_volume_is_no_tree() -> None:
    archive = Archive(MemoryStore(pack_bytes(b"volume")))
    for make in (open_tree, View):
        with pytest.raises(BadUseError, match="holds a volume"):
            make(archive)


def test_a_tree_in_a_file_is_read_as_one_in_memory(packed: Packed, tmp_path: Path) -> None:
    (tmp_path / "x.onggi").write_bytes(packed.data)
    with FileStore(tmp_path / "x.onggi") as store:
        view = View(Archive(store))
        for name in NAMES:
            assert view.read(view.entry(name), 0, 80_000) == content_of(name)
