"""Packing trees: content that several files have is stored once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from onggi.archive import dedup, files, layout
from onggi.archive.plan import Geometry

from .tree_helpers import LARGE, Packed, noise, pack_path, tar_members
from .tree_pack_helpers import KEPT_ONCE, checked, matches


def shared(packed: Packed) -> dict[bytes, bool]:
    """Return which files of a tree share content with an earlier one."""
    return {
        visited.path: bool(visited.entry.flags & layout.FLAG_SHARED)
        for visited in packed.tree.walk(packed.tree.root)
        if visited.entry.is_file
    }


@pytest.mark.parametrize(
    ("size", "is_shared"),
    [(KEPT_ONCE - 1, False), (KEPT_ONCE, True), (KEPT_ONCE + 1, True), (3_000_000, True)],
)
@pytest.mark.parametrize("geometry", [LARGE, Geometry(20_480, 4096, 512)])
def test_content_of_some_length_is_stored_once(
    size: int, is_shared: bool, geometry: Geometry, tmp_path: Path
) -> None:
    (tmp_path / "d").mkdir()
    for name in ("a", "b", "d/c"):
        (tmp_path / name).write_bytes(noise(size, 1))
    packed = checked(pack_path(tmp_path, geometry))
    assert shared(packed) == {b"a": False, b"b": is_shared, b"d/c": is_shared}
    assert matches(packed, tmp_path)
    rows = [packed.view.entry(name) for name in (b"a", b"b", b"d/c")]
    assert (len({row.first for row in rows}) == 1) is is_shared
    copies = 1 if is_shared else 3
    assert copies * size < packed.archive.content_bytes < copies * size + 12_000
    assert [member.islnk() for member in tar_members(packed.content) if not member.isdir()] == (
        [False, is_shared, is_shared]
    )


def test_content_that_differs_anywhere_is_not_stored_once(tmp_path: Path) -> None:
    size = 50_000
    whole = noise(size, 1)
    for at in (0, 4095, 4096, size - 1):
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        (tmp_path / f"at-{at}").write_bytes(changed)
    (tmp_path / "longer").write_bytes(whole + b"x")
    (tmp_path / "whole").write_bytes(whole)
    packed = checked(pack_path(tmp_path))
    assert not any(shared(packed).values())
    assert matches(packed, tmp_path)
    (tmp_path / "z").write_bytes(whole)
    (tmp_path / "at-4095-too").write_bytes((tmp_path / "at-4095").read_bytes())
    packed = checked(pack_path(tmp_path))
    assert [path for path, is_shared in shared(packed).items() if is_shared] == [
        b"at-4095-too", b"z",
    ]  # fmt: skip
    assert matches(packed, tmp_path)


def _attribute(path: Path) -> None:
    os.setxattr(path, b"user.onggi", b"x")


@pytest.mark.parametrize(
    "change",
    [lambda path: path.chmod(0o600), _attribute,
     pytest.param(lambda path: os.chown(path, 5, 0), marks=pytest.mark.needs("root")),
     pytest.param(lambda path: os.chown(path, 0, 5), marks=pytest.mark.needs("root"))],
    ids=["mode", "attribute", "owner", "group"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a", "b"])
def test_content_under_other_rights_is_not_stored_once(
    name: str, change: Callable[[Path], object], tmp_path: Path
) -> None:
    """Another tar makes one file of both; that must not open what was closed."""
    for each in ("a", "b"):
        (tmp_path / each).write_bytes(noise(KEPT_ONCE, 1))
        (tmp_path / each).chmod(0o644)
    change(tmp_path / name)
    packed = checked(pack_path(tmp_path))
    assert shared(packed) == {b"a": False, b"b": False}
    assert matches(packed, tmp_path)


def test_content_with_other_times_is_stored_once(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        (tmp_path / name).write_bytes(noise(KEPT_ONCE, 1))
        os.utime(tmp_path / name, ns=(0, number))
    packed = checked(pack_path(tmp_path))
    assert shared(packed) == {b"a": False, b"b": True}
    assert [packed.view.entry(name).mtime_ns for name in (b"a", b"b")] == [0, 1]


def test_content_of_a_file_with_several_names_is_stored_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(noise(KEPT_ONCE, 1))
        os.link(tmp_path / name, tmp_path / f"{name}2")
    packed = checked(pack_path(tmp_path))
    assert matches(packed, tmp_path)
    assert packed.flags(b"b") == layout.FLAG_SHARED
    assert [packed.view.entry(name).row for name in (b"a2", b"b2")] == [
        packed.view.entry(name).row for name in (b"a", b"b")
    ]


def test_of_many_files_those_seen_last_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is forgotten, the content is right."""
    monkeypatch.setattr(dedup, "_KEPT", 8)
    for number in range(40):  # each content twice in a row, and again much later
        (tmp_path / f"{number:02}").write_bytes(noise(KEPT_ONCE, number % 20 // 2))
    packed = checked(pack_path(tmp_path))
    assert matches(packed, tmp_path)
    assert 0 < sum(shared(packed).values()) < 40 - 10


@pytest.mark.parametrize("change", ["grow", "shrink", "touch", "replace", "remove"])
@pytest.mark.parametrize("victim", ["a", "b"])
def test_a_file_that_changes_while_it_is_compared_is_stored_apart(
    change: str, victim: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(noise(KEPT_ONCE, 1))
    path = tmp_path / victim
    real = files.open_quietly
    opened = 0

    def open_quietly(fd: int, name: bytes) -> int:
        nonlocal opened
        opened += 1
        if opened == 1:
            if change == "grow":
                os.truncate(path, KEPT_ONCE + 1)
            elif change == "shrink":
                os.truncate(path, 100)
            elif change == "touch":
                os.utime(path, ns=(5, 5))
            else:
                path.rename(tmp_path.parent / f"{tmp_path.name}-moved")
            if change == "replace":
                path.write_bytes(noise(KEPT_ONCE, 1))
        return real(fd, name)

    monkeypatch.setattr(dedup, "open_quietly", open_quietly)
    packed = checked(pack_path(tmp_path))
    assert opened
    assert not any(shared(packed).values())
    assert packed.codes.keys() == {victim}
    other = b"b" if victim == "a" else b"a"
    assert packed.bytes_of(other) == noise(KEPT_ONCE, 1)
