"""The library: folders packed, and what is left out or refused."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from onggi import archive
from onggi.archive import layout

from .api_helpers import FRAME, IDENTITY, UNIT
from .api_helpers import folder as folder


def test_the_same_folder_and_facts_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    options: archive.PackOptions = {"uuid": IDENTITY, "created_ns": 1, "frame_bytes": FRAME}
    one = archive.pack_folder(folder, tmp_path / "1", threads=1, **options)
    two = archive.pack_folder(os.fsencode(folder), tmp_path / "2", threads=3, **options)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert one == two
    other = archive.pack_folder(folder, tmp_path / "3")
    assert other.uuid not in (IDENTITY, archive.pack_folder(folder, tmp_path / "4").uuid)


def test_an_archive_is_as_old_as_its_file(folder: Path, tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.touch()
    packed = archive.pack_folder(folder, tmp_path / "a")
    after = tmp_path / "after"
    after.touch()
    assert before.stat().st_mtime_ns <= packed.created_ns <= after.stat().st_mtime_ns


def test_an_archive_is_not_part_of_itself(folder: Path) -> None:
    packed = archive.pack_folder(folder, folder / "self.onggi", facts={"note": "inside"})
    assert packed.findings == ()
    with archive.open(folder / "self.onggi") as opened:
        assert not [name for name in opened.listdir() if "self" in name]
        assert opened.facts == {"note": "inside"}


def test_several_sources_are_packed_each_under_its_name(folder: Path, tmp_path: Path) -> None:
    archive.pack([folder / "data", folder / "text"], tmp_path / "a", exclude=["un*", b"deep"])
    with archive.open(tmp_path / "a") as opened:
        assert opened.listdir() == ["data", "text"]
        assert opened.listdir("data") == ["above", "at", "below"]
    archive.pack([folder / "text"], tmp_path / "b")
    with archive.open(tmp_path / "b") as opened:
        assert opened.listdir() == ["text"]


def test_what_can_t_be_packed_is_told_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "a.onggi"
    for problem, call in (
        (NotADirectoryError, lambda: archive.pack_folder(folder / "text", place)),
        (archive.SourceError, lambda: archive.pack_folder(folder / "nothing", place)),
        (archive.BadUseError, lambda: archive.pack([], place)),
        (archive.BadUseError, lambda: archive.pack(str(folder), place)),
        (archive.BadUseError, lambda: archive.pack([folder, folder], place)),
        (archive.BadUseError, lambda: archive.pack_folder(folder, place, level=20)),
        (archive.BadUseError, lambda: archive.pack_folder(folder, place, frame_bytes=5)),
        (archive.BadUseError, lambda: archive.pack_folder(folder, place, threads=0)),
        (archive.BadUseError, lambda: archive.pack_folder(folder, place, created_ns=2**63)),
        (archive.BadUseError, lambda: archive.pack_folder(folder, place, facts={"a": object()})),
        (archive.StoreError, lambda: archive.pack_folder(folder, tmp_path / "no/a.onggi")),
        (archive.RefusedError, lambda: archive.pack([folder / "text"], folder / "text")),
    ):
        with pytest.raises(problem):
            call()
    assert sorted(os.listdir(tmp_path)) == ["source"]
    place.write_bytes(b"something else")
    with pytest.raises(archive.StoreError, match="exists"):
        archive.pack_folder(folder, place)
    assert place.read_bytes() == b"something else"
    archive.pack_folder(folder, place, force=True)
    assert archive.verify_archive(place).is_whole


def test_an_interrupted_pack_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onggi.archive import packing

    def interrupted() -> UUID:
        raise KeyboardInterrupt

    monkeypatch.setattr(packing, "uuid4", interrupted)
    with pytest.raises(KeyboardInterrupt):
        archive.pack_folder(folder, tmp_path / "a.onggi")
    assert os.listdir(tmp_path) == ["source"]


def test_options_leave_out_what_they_say(folder: Path, tmp_path: Path) -> None:
    tag = b"Signature: 8a477f597d28d172789f06886806bc55"
    (folder / "data/CACHEDIR.TAG").write_bytes(tag)
    (folder / "data/copy").write_bytes((folder / "data/units").read_bytes())

    def pack(name: str, **options: Any) -> archive.Packed:
        return archive.pack_folder(folder, tmp_path / name, frame_bytes=FRAME, **options)

    whole, single = pack("whole"), pack("single", dedup=False)
    assert whole.entries == single.entries
    assert single.content_bytes - whole.content_bytes > 2 * UNIT
    pack("caches", exclude_caches=True)
    with archive.open(tmp_path / "caches") as opened:
        assert opened.listdir("data") == ["CACHEDIR.TAG"]
    assert pack("fast", level=1).archive_bytes != pack("small", level=19).archive_bytes


@pytest.mark.needs("mount")
def test_other_file_systems_can_be_left_out(folder: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", folder / "data"], check=True)
    try:
        (folder / "data/elsewhere").touch()
        archive.pack_folder(folder, tmp_path / "all")
        archive.pack_folder(folder, tmp_path / "one", one_file_system=True)
    finally:
        subprocess.run(["umount", folder / "data"], check=True)
    for name, expected in (("all", ["elsewhere"]), ("one", [])):
        with archive.open(tmp_path / name) as opened:
            assert opened.listdir("data") == expected


def test_findings_are_told_or_collected(folder: Path, tmp_path: Path) -> None:
    """A file that grows under the eyes of the packer: its length is that of the walk."""

    def grow(_: archive.Progress) -> None:
        with (folder / "zz-last").open("ab") as file:
            file.write(b"more")

    (folder / "zz-last").write_bytes(bytes(64 * 1024 * 1024))
    options: archive.PackOptions = {"unit_bytes": UNIT, "threads": 1, "report": grow}
    packed = archive.pack_folder(folder, tmp_path / "a", **options)
    assert {finding.path for finding in packed.findings} == {"zz-last"}
    told: list[archive.Finding] = []
    packed = archive.pack_folder(folder, tmp_path / "b", found=told.append, **options)
    assert packed.findings == ()
    assert {finding.path for finding in told} == {"zz-last"}
    with archive.open(tmp_path / "b") as opened:
        assert opened.stat("zz-last").changed


def test_only_the_root_is_captured_of_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    packed = archive.pack_folder(tmp_path / "nothing", tmp_path / "a")
    assert packed.entries == 1
    with archive.open(tmp_path / "a") as opened:
        assert [entry.type for entry in opened.walk()] == ["directory"]
        assert opened.listdir() == []
        assert opened._archive.header.kind == layout.KIND_TREE
