"""Folders by descriptor: however many, however deep, never through a symbolic link."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from onggi.archive.folders import Folder, Folders


def descriptors() -> int:
    """Return how many descriptors are open."""
    return len(os.listdir("/proc/self/fd"))


def identity(path: Path) -> tuple[int, int]:
    """Return device and inode."""
    found = path.lstat()
    return found.st_dev, found.st_ino


def opened(fd: int) -> tuple[int, int]:
    """Return device and inode of what is open."""
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


@pytest.fixture(params=[0, 1, 2, 256])
def folders(request: pytest.FixtureRequest) -> Iterator[Folders]:
    before = descriptors()
    with Folders(request.param) as made:
        yield made
    assert descriptors() == before


def top_of(folders: Folders, path: Path) -> Folder:
    """Return a folder as a top."""
    return folders.top(os.open(path, os.O_RDONLY | os.O_DIRECTORY))


def chain(top: Folder, names: list[bytes]) -> Folder:
    """Return a folder below folders below a top."""
    for name in names:
        top = Folder(top, name)
    return top


def test_a_folder_is_opened_and_found_again(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    top = top_of(folders, tmp_path)
    deep = chain(top, [b"a", b"b"])
    for _ in range(3):
        with folders.use(deep) as fd:
            assert opened(fd) == identity(tmp_path / "a/b")
        with folders.use(top) as fd:
            assert opened(fd) == identity(tmp_path)
        assert deep.parent is not None
        with folders.use(deep.parent) as fd:
            assert opened(fd) == identity(tmp_path / "a")


def test_a_folder_has_a_path_below_its_top(folders: Folders, tmp_path: Path) -> None:
    top = top_of(folders, tmp_path)
    assert top.path() == b""
    assert top.path_of(b"x") == b"x"
    deep = chain(top, [b"a", b"b\n", b"\xff"])
    assert deep.path() == b"a/b\n/\xff"
    assert deep.path_of(b"x") == b"a/b\n/\xff/x"


def test_a_top_below_a_name_has_that_in_its_paths(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    named = folders.below_top(top_of(folders, tmp_path), b"name")
    assert named.path() == b"name"
    assert chain(named, [b"d"]).path_of(b"x") == b"name/d/x"
    for _ in range(2):
        with folders.use(named) as fd:
            assert opened(fd) == identity(tmp_path)
        with folders.use(chain(named, [b"d"])) as fd:
            assert opened(fd) == identity(tmp_path / "d")


def test_more_folders_than_may_be_open_are_used_in_turn(folders: Folders, tmp_path: Path) -> None:
    paths = []
    for one in range(20):
        for two in range(20):
            paths.append(tmp_path / f"{one}/{two}")
            paths[-1].mkdir(parents=True)
    top = top_of(folders, tmp_path)
    above = [Folder(top, b"%d" % one) for one in range(20)]
    known = {path: Folder(above[int(path.parent.name)], os.fsencode(path.name)) for path in paths}
    chance = random.Random(5)
    before = descriptors()
    for path in chance.choices(paths, k=1500):
        with folders.use(known[path]) as fd:
            assert opened(fd) == identity(path)
        assert descriptors() - before <= 256 + 2


@pytest.mark.parametrize("most", [0, 1, 7, 30])
def test_no_more_folders_stay_open_than_may(most: int, tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}").mkdir()
    with Folders(most) as folders:
        top = top_of(folders, tmp_path)
        before = descriptors()
        known = [Folder(top, b"%d" % number) for number in range(40)]
        for folder in known * 2:
            with folders.use(folder):
                assert descriptors() - before <= most + 1
            assert descriptors() - before <= most
        fds = [folders.pin(folder) for folder in known]
        assert len(set(fds)) == 40
        assert [opened(fd) for fd in fds] == [identity(tmp_path / f"{n}") for n in range(40)]
        for folder in known:
            folders.unpin(folder)
        assert descriptors() - before <= most


def test_those_used_last_stay_open(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
    with Folders(2) as folders:
        top = top_of(folders, tmp_path)
        a, b, c = (Folder(top, name) for name in (b"a", b"b", b"c"))
        for folder in (a, b, a, c):
            with folders.use(folder):
                pass
        assert (a.fd >= 0, b.fd >= 0, c.fd >= 0) == (True, False, True)


def test_a_folder_in_use_stays_open_whatever_else_is_opened(
    folders: Folders, tmp_path: Path
) -> None:
    for number in range(30):
        (tmp_path / f"{number}").mkdir()
    top = top_of(folders, tmp_path)
    held = Folder(top, b"0")
    with folders.use(held) as fd, folders.use(held) as again:
        assert fd == again
        for number in range(1, 30):
            with folders.use(Folder(top, b"%d" % number)) as other:
                assert opened(other) == identity(tmp_path / f"{number}")
        assert opened(fd) == identity(tmp_path / "0")


@pytest.mark.parametrize("most", [0, 1, 256])
def test_a_chain_longer_than_a_path_may_be_is_opened(most: int, tmp_path: Path) -> None:
    depth = 300
    name = b"n" * 200
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    expected = opened(fd)
    os.close(fd)
    with Folders(most) as folders:
        before = descriptors()
        deep = chain(top_of(folders, tmp_path), [name] * depth)
        with folders.use(deep) as found:
            assert opened(found) == expected
            assert descriptors() - before <= most + 3
        assert deep.path() == b"/".join([name] * depth)
    _remove_chain(tmp_path, name, depth)


def _remove_chain(top: Path, name: bytes, depth: int) -> None:
    """Remove what others can't: each folder is moved up, and its parent removed."""
    fd = os.open(top, os.O_RDONLY)
    for number in range(depth - 1):
        os.rename(name + b"/" + name, b"%d" % number, src_dir_fd=fd, dst_dir_fd=fd)
        os.rmdir(name, dir_fd=fd)
        os.rename(b"%d" % number, name, src_dir_fd=fd, dst_dir_fd=fd)
    os.rmdir(name, dir_fd=fd)
    os.close(fd)


# --- what others do meanwhile --------------------------------------------------------------------


@pytest.mark.parametrize("where", ["a", "a/b"])
@pytest.mark.parametrize(
    ("swap", "codes"),
    [
        ("link", {errno.ENOTDIR, errno.ELOOP}),
        ("file", {errno.ENOTDIR}),
        ("nothing", {errno.ENOENT}),
        ("fifo", {errno.ENOTDIR}),
    ],
)
def test_a_folder_that_is_none_any_more_is_an_error(
    where: str, swap: str, codes: set[int], tmp_path: Path
) -> None:
    (tmp_path / "tree/a/b").mkdir(parents=True)
    (tmp_path / "secret/b").mkdir(parents=True)
    place = tmp_path / "tree" / where
    with Folders(0) as folders:
        before = descriptors()
        top = top_of(folders, tmp_path / "tree")
        deep = chain(top, [b"a", b"b"])
        with folders.use(deep):
            pass
        place.rename(tmp_path / "moved")
        if swap == "link":
            place.symlink_to(tmp_path / "secret")
        elif swap == "file":
            place.touch()
        elif swap == "fifo":
            os.mkfifo(place)
        for _ in range(2):
            with pytest.raises(OSError) as caught:  # noqa: PT011
                folders.pin(deep)
            assert caught.value.errno in codes
        assert descriptors() <= before + 2  # the top, and what was opened last on the way
        if swap != "nothing":
            place.unlink()
        (tmp_path / "moved").rename(place)
        with folders.use(deep) as fd:
            assert opened(fd) == identity(tmp_path / "tree/a/b")


def test_another_folder_in_its_place_is_an_error_if_it_must_be_the_same(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    with Folders(0) as folders:
        top = top_of(folders, tmp_path)
        whatever = chain(top, [b"a", b"b"])
        above = Folder(top, b"a", identity(tmp_path / "a"))
        same = Folder(above, b"b", identity(tmp_path / "a/b"))
        for folder in (whatever, same):
            with folders.use(folder) as fd:
                assert opened(fd) == identity(tmp_path / "a/b")
        (tmp_path / "a").rename(tmp_path / "moved")
        (tmp_path / "a/b").mkdir(parents=True)
        with folders.use(whatever) as fd:
            assert opened(fd) == identity(tmp_path / "a/b")
        before = descriptors()
        for _ in range(2):
            with pytest.raises(OSError) as caught:  # noqa: PT011
                folders.pin(same)
            assert caught.value.errno == errno.ESTALE
        assert descriptors() == before


def test_a_folder_that_is_open_is_used_wherever_it_is_by_now(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with Folders() as folders:
        folder = Folder(top_of(folders, tmp_path), b"a")
        with folders.use(folder) as fd:
            (tmp_path / "a").rename(tmp_path / "moved")
            with folders.use(folder) as again:
                assert again == fd
                assert opened(fd) == identity(tmp_path / "moved")


def test_an_error_leaves_those_on_the_way_open_or_closed_but_not_lost(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    before = descriptors()
    with Folders(256) as folders:
        missing = chain(top_of(folders, tmp_path), [b"a", b"b", b"missing", b"x"])
        for _ in range(5):
            with pytest.raises(FileNotFoundError):
                folders.pin(missing)
        assert missing.pins == 0
    assert descriptors() == before


# --- threads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [0, 3, 256])
def test_threads_use_the_same_folders(most: int, tmp_path: Path) -> None:
    paths = [tmp_path / f"{one}/{two}" for one in range(6) for two in range(6)]
    for path in paths:
        path.mkdir(parents=True)
    wanted = {path: identity(path) for path in paths}
    before = descriptors()
    with Folders(most) as folders:
        top = top_of(folders, tmp_path)
        above = [Folder(top, b"%d" % one) for one in range(6)]
        known = {
            path: Folder(above[int(path.parent.name)], os.fsencode(path.name)) for path in paths
        }
        wrong: list[object] = []
        start = threading.Barrier(4)

        def work(seed: int) -> None:
            chance = random.Random(seed)
            start.wait()
            for path in chance.choices(paths, k=300):
                try:
                    with folders.use(known[path]) as fd:
                        if opened(fd) != wanted[path]:
                            wrong.append(path)
                except OSError as error:
                    wrong.append(error)

        threads = [threading.Thread(target=work, args=[seed]) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert all(folder.pins == 0 for folder in known.values())
        assert descriptors() - before <= most + 1 + 4
    assert descriptors() == before
