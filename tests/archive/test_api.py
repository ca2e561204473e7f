"""The library: the package, entries, and look-ups as Python code makes them."""

from __future__ import annotations

import ast
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from onggi import archive

from .api_helpers import FIXTURES, IDENTITY, NO_UTF8
from .api_helpers import folder as folder
from .api_helpers import opened as opened
from .api_helpers import packed_path as packed_path

# --- the package ---------------------------------------------------------------------------------


def test_importing_the_package_imports_no_module_of_it() -> None:
    code = (
        "import sys, onggi.archive as a; "
        "print(sorted(m for m in sys.modules if m.startswith('onggi'))); "
        "print(a.Severity.DAMAGE.value); "
        "print('onggi.archive.errors' in sys.modules, 'onggi.archive.api' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines() == ["['onggi', 'onggi.archive']", "damage", "True False"]


def test_all_that_the_package_promises_is_there() -> None:
    for name in archive.__all__:
        value = getattr(archive, name)
        assert value.__doc__, name
        assert value.__module__.startswith("onggi.archive."), name
        assert name in dir(archive)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        archive.nonsense  # noqa: B018


def test_what_checkers_of_types_see_is_what_is_imported_on_demand() -> None:
    tree = ast.parse((Path(__file__).parents[2] / "archive/__init__.py").read_text())
    declared = {
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    homes = {(module, name) for module, names in archive._HOMES.items() for name in names}
    assert declared == homes
    assert sorted(name for _, name in homes) == sorted(archive.__all__)


def test_no_public_name_is_that_of_a_module() -> None:
    """A module would take its place as soon as anybody imports it."""
    modules = {path.stem for path in (Path(__file__).parents[2] / "archive").glob("*.py")}
    assert not modules & set(archive.__all__)


# --- entries -------------------------------------------------------------------------------------


def test_facts_tell_what_was_packed(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.onggi"
    packed = archive.pack_folder(folder, path, uuid=IDENTITY, created_ns=5, level=1)
    with archive.open(path) as opened:
        assert (opened.kind, opened.uuid, opened.created_ns) == ("tree", IDENTITY, 5)
        assert opened.facts["source"] == {"paths": [str(folder)], "type": "tree"}
        assert opened.facts["writer"].startswith("onggi ")
        assert opened.member_count == packed.entries == sum(1 for _ in opened.walk())
        assert opened.archive_bytes == packed.archive_bytes == path.stat().st_size
        assert opened.content_bytes == packed.content_bytes
        assert "open" in repr(opened)
    assert "closed" in repr(opened)
    assert opened.uuid == IDENTITY


def test_a_walk_gives_everything_in_the_order_of_the_archive(
    opened: archive.OpenArchive, folder: Path
) -> None:
    paths = [entry.path for entry in opened.walk()]
    real = [path.relative_to(folder) for path in folder.rglob("*")]
    assert sorted(paths) == sorted(["", *map(str, real)])
    assert paths[0] == ""
    assert paths.index("data") < paths.index("data/at") < paths.index("data/deep")
    top = [os.fsencode(path) for path in paths[1:] if "/" not in path]
    assert top[: top.index(b"data")] == sorted(top[: top.index(b"data")])
    below = [entry.path for entry in opened.walk("/data/")]
    assert below == [path for path in paths if path.startswith("data")]
    assert [entry.path for entry in opened.walk(b"text")] == ["text"]


def test_entries_have_the_metadata_of_what_was_packed(
    opened: archive.OpenArchive, folder: Path
) -> None:
    for entry in opened.walk():
        real = (folder / entry.path).lstat()
        assert entry.mode == real.st_mode & 0o7777
        assert (entry.uid, entry.gid) == (real.st_uid, real.st_gid)
        assert entry.mtime_ns == real.st_mtime_ns
        if not entry.is_dir:
            assert (entry.size, entry.link_count) == (real.st_size, real.st_nlink)
        assert entry.name == entry.path.split("/")[-1]
        assert opened.stat(entry.path) == entry
    assert opened.stat("text").mtime_ns == 1_234_567_890_123_456_789
    assert opened.stat("text").mode == 0o4640


def test_entries_say_what_they_are(opened: archive.OpenArchive) -> None:
    kinds = {entry.path: entry.type for entry in opened.walk()}
    assert kinds["data"] == "directory"
    assert kinds["data/deep/again"] == kinds["sparse"] == "file"
    assert (kinds["link"], kinds["pipe"]) == ("symlink", "fifo")
    first, again = opened.stat("data/units"), opened.stat("data/deep/again")
    names = {"data/units", "data/deep/again"}
    assert {first.path, again.path} == names
    assert (first.hard_link_to, again.hard_link_to) == (None, "data/units")
    assert opened.stat("link").target == "data/units"
    assert opened.stat("link").is_symlink
    assert opened.stat("text").target is None
    assert opened.stat("sparse").is_sparse
    assert not opened.stat("text").is_sparse


def test_owners_devices_links_and_attributes_are_those_of_the_archive() -> None:
    with archive.open(FIXTURES / "ok-tree-types.onggi") as opened:
        file = opened.stat("file")
        assert (file.uid, file.user, file.gid, file.group) == (1000, "ann", 1000, "staff")
        assert opened.stat("tty").device == (5, 0)
        assert opened.stat("disk").device == (259, 2**20 - 1)
        assert opened.stat("disk").type == "block-device"
        assert file.device is None
    with archive.open(FIXTURES / "ok-tree-attributes.onggi") as opened:
        expected = {"user.one": b"first value", "user.two": b"\0binary\n\xff"}
        assert opened.stat("a").xattrs() == opened.stat("b").xattrs() == expected
        assert list(opened.stat("").xattrs()) == ["user." + "n" * 250]
        assert opened.stat("c").xattrs()[os.fsdecode(b"user.100% = \xc3\xa9\xff")] == b""
    with archive.open(FIXTURES / "ok-tree-owners.onggi") as opened:
        assert (opened.stat("b").user, opened.stat("b").group) == (None, None)
        assert opened.stat("d").user == "Jos\u00e9 \U0001f3fa"
    with archive.open(FIXTURES / "ok-tree-hard-links.onggi") as opened:
        assert opened.stat("f/c2").is_symlink
        assert (opened.stat("f/c2").target, opened.stat("f/c2").hard_link_to) == ("a", "c")
        assert opened.read("e/a3") == opened.read("a")
    with archive.open(FIXTURES / "ok-tree-changed.onggi") as opened:
        flags = {(entry.changed, entry.incomplete) for entry in opened.walk()}
        assert {(True, False), (False, True), (False, False)} <= flags


def test_directories_are_listed_in_the_order_of_their_names(
    opened: archive.OpenArchive, folder: Path
) -> None:
    for place in ("", "data", "empty folder", "/data/deep/"):
        names = opened.listdir(place)
        assert names == sorted(os.listdir(folder / place.strip("/")), key=os.fsencode)
        entries = list(opened.scandir(place))
        assert [entry.name for entry in entries] == names
        prefix = place.strip("/") + "/" if place else ""
        assert [entry.path for entry in entries] == [prefix + name for name in names]


def test_names_that_are_no_utf8_work_as_text_and_as_bytes(opened: archive.OpenArchive) -> None:
    text = os.fsdecode(NO_UTF8)
    assert text in opened.listdir()
    for path in (text, NO_UTF8, Path(text)):
        assert opened.exists(path)
        assert opened.stat(path).path == text
        assert opened.read(path) == b"named in Latin-1"
        with opened.open(path) as file:
            assert file.read() == b"named in Latin-1"
    assert not opened.exists("caf\u00e9 \u00ff")
    with pytest.raises(archive.BadUseError, match="can't be a path"):
        opened.exists("lone \ud800 surrogate")


# --- look-ups that fail --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inner", "error", "builtin", "number"),
    [
        ("nothing", archive.EntryNotFoundError, FileNotFoundError, errno.ENOENT),
        ("data/nothing/at/all", archive.EntryNotFoundError, FileNotFoundError, errno.ENOENT),
        ("text/below", archive.NotDirectoryError, NotADirectoryError, errno.ENOTDIR),
        ("text/far/below", archive.NotDirectoryError, NotADirectoryError, errno.ENOTDIR),
        ("link/at", archive.NotDirectoryError, NotADirectoryError, errno.ENOTDIR),
        ("data", archive.IsDirectoryError, IsADirectoryError, errno.EISDIR),
        ("", archive.IsDirectoryError, IsADirectoryError, errno.EISDIR),
        ("link", archive.NoFileError, OSError, errno.EINVAL),
        ("pipe", archive.NoFileError, OSError, errno.EINVAL),
    ],
)
def test_what_can_t_be_read_is_told_as_files_tell_it(
    opened: archive.OpenArchive,
    inner: str,
    error: type[archive.PathError],
    builtin: type[OSError],
    number: int,
) -> None:
    for read in (opened.read, opened.open):
        with pytest.raises(error) as caught:
            read(inner)
        assert isinstance(caught.value, builtin)
        assert isinstance(caught.value, archive.OnggiError)
        assert caught.value.errno == number
        assert caught.value.filename == inner.encode()
        assert str(caught.value).startswith("'")


def test_other_look_ups_fail_alike(opened: archive.OpenArchive) -> None:
    for lookup in (opened.stat, opened.walk, opened.scandir, opened.listdir):
        with pytest.raises(FileNotFoundError, match="'data/nothing' is not in the archive"):
            lookup("data/nothing")
        with pytest.raises(archive.BadUseError, match="can't hold"):
            lookup("data/../text")
    for listing in (opened.scandir, opened.listdir):
        with pytest.raises(NotADirectoryError, match="'text' is no directory"):
            listing("text")
    assert not opened.exists("data/nothing")
    assert not opened.exists("text/below")
    assert opened.exists("link")
    assert opened.exists("")
    with pytest.raises(archive.NoFileError, match="a symbolic link to 'data/units'"):
        opened.read("link")
