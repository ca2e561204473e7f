"""Archives of trees whose rows lie under right digests: named errors only, and no escape."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onggi.archive import accelerate, layout, restore, restore_plan
from onggi.archive.compare import compare
from onggi.archive.destination import RestoreOptions
from onggi.archive.errors import BadUseError, DamagedError, OnggiError
from onggi.archive.reader import Archive
from onggi.archive.sides import ArchiveSide
from onggi.archive.store import MemoryStore
from onggi.archive.tree_check import check_tree
from onggi.archive.tree_extract import unpack_tree
from onggi.archive.verify import Level, verify
from onggi.archive.view import View

from .tree_helpers import ENTRY_FIELDS, ROWS, archive_of, everything, noise, patched

CONTENT = noise(5000, 1)
_SOON_S = 20


@pytest.fixture(autouse=True)
def _harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore no file flags, which make files immutable; do not wait for disks."""
    for module in (restore, restore_plan):
        monkeypatch.setattr(module, "set_file_flags", lambda fd, flags: [])
    monkeypatch.setattr(restore_plan, "sync_file_system", lambda fd: None)


@pytest.fixture(scope="module")
def good() -> dict[int, bytes]:
    """Rows of one of everything, but for devices: they need root."""
    raw = everything()
    for name in ("block", "char"):
        raw = patched(raw, ROWS[name], type=layout.ENTRY_FIFO, first=0, total=0)
    summary = list(layout.SUMMARY_ROW.unpack(raw[layout.TABLE_SUMMARY]))
    summary[5:7] = [0, 3]
    return raw | {layout.TABLE_SUMMARY: layout.SUMMARY_ROW.pack(*summary)}


class Sandbox:
    """A folder to restore to, with neighbours that must stay as they are."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "neighbour").write_bytes(b"mine")

    def restore(self, data: bytes, salvage: bool) -> None:
        """Restore an archive; everything is below `dest`."""
        dest = self.root / "dest"
        archive = Archive(MemoryStore(data))
        try:
            unpack_tree(
                View(archive).tree, archive, os.fspath(dest), threads=1,
                options=RestoreOptions(salvage=salvage),
            )  # fmt: skip
        finally:
            assert sorted(os.listdir(self.root)) in (["dest", "neighbour"], ["neighbour"])
            assert (self.root / "neighbour").read_bytes() == b"mine"
            shutil.rmtree(dest, ignore_errors=True)
            assert not dest.exists()


def verdict(data: bytes) -> bool:
    """Return whether an archive is whole, the same at all levels."""
    whole = {verify(MemoryStore(data), level, threads=1).is_whole for level in Level}
    assert len(whole) == 1
    return whole.pop()


def view_of(data: bytes) -> View:
    """Open an archive."""
    return View(Archive(MemoryStore(data)))


def use(data: bytes, other: bytes, sandbox: Sandbox) -> None:
    """Do everything that can be done with an archive; errors of the engine are fine."""
    began_s = time.monotonic()
    steps: list[Callable[[], object]] = [
        lambda: _read_all(view_of(data)),
        lambda: _compare(data, data),
        lambda: _compare(data, other),
        lambda: _compare(other, data),
        lambda: sandbox.restore(data, salvage=False),
        lambda: sandbox.restore(data, salvage=True),
        lambda: view_of(data).entry(b"dir/deep/zz"),
        lambda: view_of(data).entry(b"many"),
    ]
    for step in steps:
        with suppress(OnggiError):
            step()
    assert time.monotonic() - began_s < _SOON_S


def _compare(one: bytes, other: bytes) -> None:
    sides = (ArchiveSide(view_of(one)), ArchiveSide(view_of(other)))
    compare(*sides, threads=1, found=lambda _: None)


def _read_all(view: View) -> None:
    for visited in view.walk(view.tree.root):
        with suppress(DamagedError):
            entry = view.tree.primary(visited.entry)
            if entry.is_file:
                for offset in (0, entry.member_bytes // 2, max(entry.member_bytes - 10, 0)):
                    assert len(view.read(entry, offset, 10)) <= 10


def variants(raw: dict[int, bytes]) -> Iterator[tuple[str, dict[int, bytes]]]:
    """Yield (what, rows): each field of each entry, and bytes of the other tables, changed."""
    entries = raw[layout.TABLE_ENTRIES]
    at = 0
    count = 0
    while at < len(entries):
        for name, size in ENTRY_FIELDS:
            count += 1
            place = at if count % 2 else at + size - 1
            mask = (1, 255, 128)[count % 3]
            yield (
                f"entry {at // 80} {name}",
                raw | {layout.TABLE_ENTRIES: _flip(entries, place, mask)},
            )
            at += size
    for number in sorted(raw):
        if number != layout.TABLE_ENTRIES:
            for place in range(0, len(raw[number]), 5):
                changed = _flip(raw[number], place, (1, 255, 128)[place % 3])
                yield f"table {number} byte {place}", raw | {number: changed}


def _flip(rows: bytes, at: int, mask: int) -> bytes:
    return rows[:at] + bytes([rows[at] ^ mask]) + rows[at + 1 :]


def test_the_archive_itself_is_whole(good: dict[int, bytes], tmp_path: Path) -> None:
    data = archive_of(good, CONTENT)
    assert verdict(data)
    check_tree(view_of(data).tree)
    (tmp_path / "sandbox").mkdir()
    Sandbox(tmp_path / "sandbox").restore(data, salvage=False)
    assert view_of(data).read(view_of(data).entry(b"dir/deep/more-holes"), 595, 10) == (
        CONTENT[4096 + 595 : 4096 + 600] + bytes(5)
    )


@pytest.mark.parametrize("twin", ["compiled", "python"])
def test_rows_that_lie_lead_to_errors_of_the_engine_alone(
    twin: str, good: dict[int, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if twin == "python":
        monkeypatch.setattr(accelerate, "_module", None)
    sandbox = Sandbox(tmp_path)
    plain = archive_of(good, CONTENT)
    found = whole = 0
    for number, (what, raw) in enumerate(variants(good)):
        if number % 4 != (1 if twin == "python" else 3):
            continue
        data = archive_of(raw, CONTENT)
        try:
            check_tree(view_of(data).tree)
        except DamagedError:
            found += 1
            assert not verdict(data), what
        else:
            whole += 1
            assert verdict(data), what
        use(data, plain, sandbox)
    assert found > 15
    assert whole > 15


@given(data=st.data())
@settings(max_examples=40)
def test_random_rows_lead_to_errors_of_the_engine_alone(
    data: st.DataObject, good: dict[int, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw = dict(good)
    for _ in range(data.draw(st.integers(1, 3))):
        number = data.draw(st.sampled_from(sorted(number for number in raw if raw[number])))
        rows = raw[number]
        size = data.draw(st.sampled_from([1, 2, 4, 8]))
        at = data.draw(st.integers(0, len(rows) // size - 1)) * size
        value = data.draw(
            st.one_of(st.integers(0, 20), st.sampled_from([2**16 - 1, 2**32 - 1, 2**63, 2**64 - 1]))
        )
        raw[number] = rows[:at] + (value % 256**size).to_bytes(size, "little") + rows[at + size :]
    sandbox = Sandbox(tmp_path_factory.mktemp("random"))
    forged = archive_of(raw, CONTENT)
    with suppress(OnggiError):
        verdict(forged)
    use(forged, archive_of(good, CONTENT), sandbox)


@pytest.mark.parametrize("target", [b"..", b"/etc", b"../neighbour", b".", b"to/../../neighbour"])
def test_nothing_is_written_through_a_link_of_the_archive(
    target: bytes, good: dict[int, bytes], tmp_path: Path
) -> None:
    """A folder that a hostile archive lists twice, first as a link, stays what it was first."""
    strings = good[layout.TABLE_STRINGS]
    place = len(strings)
    raw = good | {layout.TABLE_STRINGS: strings + target}
    raw = patched(raw, ROWS["link"], first=place, member_bytes=len(target))
    # `char` and `dir` change places with `link`: a link `dir` comes before the folder `dir`.
    named = layout.ENTRY_ROW.unpack(good[layout.TABLE_ENTRIES][80 * ROWS["dir"] :][:80])
    raw = patched(raw, ROWS["char"], type=layout.ENTRY_SYMLINK, first=place,
                  member_bytes=len(target), name_offset=named[8], name_bytes=named[9])  # fmt: skip
    data = archive_of(raw, CONTENT)
    assert not verdict(data)
    sandbox = Sandbox(tmp_path)
    use(data, archive_of(good, CONTENT), sandbox)


@pytest.mark.parametrize("name", [b"..", b".", b"a/b", b"/x", b"x\0"])
def test_a_name_that_climbs_is_damage(name: bytes, good: dict[int, bytes], tmp_path: Path) -> None:
    strings = good[layout.TABLE_STRINGS]
    raw = good | {layout.TABLE_STRINGS: strings + name}
    for row in ("attributes", "dir", "link", "many", "zz", "h1"):
        forged = patched(raw, ROWS[row], name_offset=len(strings), name_bytes=len(name))
        data = archive_of(forged, CONTENT)
        assert not verdict(data)
        with pytest.raises(OnggiError):
            Sandbox(tmp_path).restore(data, salvage=False)
        with suppress(BadUseError, DamagedError):
            view_of(data).entry(name)
