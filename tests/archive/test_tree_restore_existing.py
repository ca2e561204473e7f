"""Restoring trees over what is there already: it stays, unless it is to be replaced."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from onggi.archive.errors import Severity

from .tree_helpers import TINY, Fact, facts_on_disk, noise, pack_path
from .tree_restore_helpers import codes, make_it, unpack
from .tree_restore_helpers import no_sync as no_sync
from .tree_restore_helpers import tree as tree
from .tree_restore_helpers import twin as twin

EXISTING = ["file", "link", "dangling", "link-to-folder", "fifo", "empty", "full"]
ARCHIVED = ["file", "none", "sparse", "large", "link", "fifo", "folder", "second"]


def _existing(dest: Path, kind: str) -> None:
    it = dest / "it"
    (dest / "outside").mkdir()
    (dest / "outside/below").write_bytes(b"mine")
    (dest / "target").write_bytes(b"mine")
    if kind == "file":
        it.write_bytes(b"mine")
    elif kind == "link":
        it.symlink_to("target")
    elif kind == "dangling":
        it.symlink_to("nowhere")
    elif kind == "link-to-folder":
        it.symlink_to("outside")
    elif kind == "fifo":
        os.mkfifo(it)
    else:
        it.mkdir()
        if kind == "full":
            (it / "mine").write_bytes(b"mine")


@pytest.mark.usefixtures("twin")
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("existing", EXISTING)
@pytest.mark.parametrize("archived", ARCHIVED)
def test_what_stands_in_the_way_stays_unless_it_is_to_be_replaced(
    archived: str, existing: str, force: bool, tmp_path: Path
) -> None:
    source, dest = tmp_path / "source", tmp_path / "dest"
    for folder in (source, dest):
        folder.mkdir()
    make_it(source, archived)
    (source / "z-other").write_bytes(b"archived")
    _existing(dest, existing)
    before, mine = facts_on_disk(source), facts_on_disk(dest)
    packed = pack_path(source, TINY)
    _, findings = unpack(packed, dest, force=force)
    after = facts_on_disk(dest)

    def same(path: bytes, expected: Mapping[bytes, Fact]) -> bool:
        return after.get(path) == expected.get(path)

    both_folders = archived == "folder" and existing in ("empty", "full")
    in_the_way = existing in ("empty", "full") and archived != "folder"
    if both_folders:
        assert findings == []
        assert after[b"it"][:5] == before[b"it"][:5]
        assert same(b"it/below", before)
        assert same(b"it/mine", mine)
    elif force and not in_the_way:
        assert findings == []
        assert same(b"it", before)
        assert same(b"it/below", before)
    else:
        assert codes(findings) == {"it": ["not-restored-entry" if force else "exists"]}
        assert same(b"it", mine)
        assert after.get(b"it/below") is None
        assert same(b"it/mine", mine)
    # Nothing was written through a link, and the others are there.
    for path in (b"outside", b"outside/below", b"target"):
        assert same(path, mine)
    assert b"nowhere" not in after
    assert same(b"z-other", before)
    assert [finding.severity for finding in findings] == [Severity.WARNING] * len(findings)


@pytest.mark.usefixtures("twin")
def test_restoring_twice_finds_everything_there(tree: Path, tmp_path: Path) -> None:
    packed = pack_path(tree)
    unpack(packed, tmp_path / "dest")
    before = facts_on_disk(tmp_path / "dest")
    restored, findings = unpack(packed, tmp_path / "dest")
    paths = {os.fsdecode(path) for path in before if path not in (b"", b"d", b"d/e")}
    assert codes(findings) == {path: ["exists"] for path in paths}
    assert restored.entries == restored.files == 0
    assert facts_on_disk(tmp_path / "dest") == before
    (tmp_path / "dest/d/b").write_bytes(b"changed")
    restored, findings = unpack(packed, tmp_path / "dest", force=True)
    assert findings == []
    assert restored.entries == len(paths)
    assert facts_on_disk(tmp_path / "dest") == facts_on_disk(tree)


def test_what_stands_in_the_way_of_a_folder_above_is_told(tree: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    (dest / "outside/e").mkdir(parents=True)
    (dest / "d").symlink_to("outside")
    _, findings = unpack(pack_path(tree), dest, b"d/e/c", b"a")
    told = codes(findings)
    assert told["d"] == ["exists"]
    assert told.keys() <= {"d", "d/e", "d/e/c"}
    assert list((dest / "outside/e").iterdir()) == []
    assert (dest / "a").read_bytes() == noise(100, 1)
