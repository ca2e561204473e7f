"""Files: new ones appear whole or not at all; writes and reads of any length are taken on."""

from __future__ import annotations

import errno
import os
import random
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onggi.archive import store as store_module
from onggi.archive.errors import RefusedError, SourceError, StoreError
from onggi.archive.store import (
    FileSpool,
    FileStore,
    MemoryStore,
    NewFile,
    StreamTarget,
    refuse_same_file,
    write_all,
)


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def raises_errno(number: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


# --- NewFile -------------------------------------------------------------------------------------


def test_a_new_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new.onggi"
    file = NewFile(path)
    file.append([b"one", b"", b"two"])
    file.append([])
    assert not path.exists()
    (part,) = names(tmp_path)
    assert part.startswith(".new.onggi.")
    assert part.endswith(".onggi-part")
    file.sync()
    assert file.part is not None
    assert file.part.read_bytes() == b"onetwo"
    file.commit()
    assert file.part is None
    assert names(tmp_path) == ["new.onggi"]
    assert path.read_bytes() == b"onetwo"
    file.discard()
    assert path.read_bytes() == b"onetwo"


def test_what_was_on_a_disk_is_not_for_everybody(tmp_path: Path) -> None:
    NewFile(tmp_path / "x").commit()
    assert (tmp_path / "x").stat().st_mode & 0o077 == 0


def test_a_discarded_file_leaves_nothing(tmp_path: Path) -> None:
    file = NewFile(tmp_path / "x")
    file.append([b"data"])
    file.discard()
    file.discard()
    assert names(tmp_path) == []
    with pytest.raises(StoreError, match="failed before"):
        file.append([b"more"])
    with pytest.raises(StoreError, match="failed before"):
        file.commit()


def test_two_writers_of_one_name_do_not_meet(tmp_path: Path) -> None:
    first, second = NewFile(tmp_path / "x"), NewFile(tmp_path / "x")
    first.append([b"first"])
    second.append([b"second"])
    second.commit()
    with pytest.raises(StoreError, match="--force"):
        first.commit()
    first.discard()
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == b"second"


def test_a_file_that_exists_is_not_replaced_without_force(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(StoreError, match="exists; --force"):
        NewFile(path)
    file = NewFile(path, force=True)
    file.append([b"new"])
    assert path.read_bytes() == b"old"
    file.commit()
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["x"]


def test_with_force_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    file = NewFile(path, force=True)
    file.append([b"new"])
    file.discard()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_a_symbolic_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to("there/target")
    file = NewFile(link)
    file.append([b"x"])
    file.commit()
    assert link.is_symlink()
    assert (tmp_path / "there/target").read_bytes() == b"x"
    with pytest.raises(StoreError, match="exists"):
        NewFile(link)
    again = NewFile(link, force=True)
    again.append([b"y"])
    again.commit()
    assert link.is_symlink()
    assert link.read_bytes() == b"y"


def test_what_can_not_be_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for name, words in [
        ("folder", "is a folder"),
        ("fifo", "no regular file"),
        ("missing/x", "can't create"),
        ("n" * 300, "can't create"),
        ("fifo/x", "can't create"),
    ]:
        for force in (False, True):
            with pytest.raises(StoreError, match=words):
                NewFile(tmp_path / name, force=force)
    with pytest.raises(StoreError):
        NewFile(tmp_path / "loop")
    assert names(tmp_path) == ["fifo", "folder", "loop"]


def test_the_longest_name_has_room_for_a_temporary_one(tmp_path: Path) -> None:
    for name in ("n" * 255, "ü" * 127):
        file = NewFile(tmp_path / name)
        file.append([b"x"])
        file.commit()
        assert names(tmp_path) == [name]
        (tmp_path / name).unlink()


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def test_without_hard_links_a_file_is_published_by_renaming(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", raises_errno(number))
    file = NewFile(tmp_path / "x")
    file.append([b"x"])
    late = NewFile(tmp_path / "x")
    file.commit()
    assert names(tmp_path) == sorted(["x", late.part.name if late.part else ""])
    with pytest.raises(StoreError, match="--force"):
        late.commit()
    late.discard()
    assert names(tmp_path) == ["x"]


def test_a_link_that_fails_otherwise_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", raises_errno(errno.EIO))
    file = NewFile(tmp_path / "x")
    with pytest.raises(StoreError, match="can't finish"):
        file.commit()
    file.discard()
    assert names(tmp_path) == []


def test_a_temporary_name_that_stays_takes_the_new_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither or both: a file with two names is not what was asked for."""
    unlink = os.unlink
    failures = iter([errno.EIO])

    def failing(path: Any, *args: Any, **options: Any) -> None:
        for number in failures:
            raise OSError(number, os.strerror(number))
        unlink(path, *args, **options)

    file = NewFile(tmp_path / "x")
    monkeypatch.setattr(os, "unlink", failing)
    with pytest.raises(StoreError, match="can't finish"):
        file.commit()
    monkeypatch.undo()
    assert not (tmp_path / "x").exists()
    file.discard()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("function", "number", "words"),
    [
        ("writev", errno.ENOSPC, "free some space"),
        ("writev", errno.EDQUOT, "quota"),
        ("writev", errno.EIO, "can't write"),
        ("fsync", errno.EIO, "can't finish"),
    ],
)
def test_after_a_failure_nothing_more_is_written(
    function: str, number: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = NewFile(tmp_path / "x")
    monkeypatch.setattr(os, function, raises_errno(number))
    fails = file.sync if function == "fsync" else lambda: file.append([b"x"])
    with pytest.raises(StoreError, match=words):
        fails()
    monkeypatch.undo()
    for again in (lambda: file.append([b"y"]), file.sync, file.commit,
                  lambda: file.write_at(0, b"z")):  # fmt: skip
        with pytest.raises(StoreError, match="failed before"):
            again()
    file.discard()
    assert names(tmp_path) == []


def test_a_folder_that_can_not_be_made_safe_is_told_and_the_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = NewFile(tmp_path / "x")
    file.append([b"x"])
    file.sync()
    monkeypatch.setattr(os, "fsync", raises_errno(errno.EIO))
    with pytest.raises(StoreError, match="is whole and stays"):
        file.commit()
    file.discard()
    assert (tmp_path / "x").read_bytes() == b"x"
    assert names(tmp_path) == ["x"]


def test_discarding_never_hides_the_first_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that became read-only does not even let the temporary file go."""
    file = NewFile(tmp_path / "x")
    monkeypatch.setattr(os, "unlink", raises_errno(errno.EROFS))
    file.discard()
    monkeypatch.undo()
    assert len(names(tmp_path)) == 1


def test_a_length_that_is_not_what_was_written_is_found(tmp_path: Path) -> None:
    file = NewFile(tmp_path / "x")
    file.append([b"12345"])
    os.ftruncate(file.fd, 4)
    with pytest.raises(StoreError, match="another length"):
        file.commit()
    file.discard()
    assert names(tmp_path) == []


def test_pieces_are_written_from_many_threads(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(100_000)
    file = NewFile(tmp_path / "x")
    file.set_length(len(content))

    def write(first: int) -> None:
        for at in range(first * 1000, len(content), 4000):
            file.write_at(at, memoryview(content)[at : at + 1000])

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    file.commit()
    assert (tmp_path / "x").read_bytes() == content


def test_short_positional_writes_are_taken_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, bytes(data[:3]), at))
    file = NewFile(tmp_path / "x")
    file.set_length(20)
    file.write_at(5, b"0123456789")
    file.commit()
    assert (tmp_path / "x").read_bytes() == bytes(5) + b"0123456789" + bytes(5)


def test_a_positional_write_of_nothing_is_an_error_and_no_endless_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = NewFile(tmp_path / "x")
    monkeypatch.setattr(os, "pwrite", lambda *_: 0)
    with pytest.raises(StoreError):
        file.write_at(0, b"x")
    file.discard()


@pytest.mark.parametrize("function", ["pwrite", "ftruncate"])
def test_a_failed_positional_write_or_length_is_an_error(
    function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = NewFile(tmp_path / "x")
    monkeypatch.setattr(os, function, raises_errno(errno.ENOSPC))
    fails = (
        (lambda: file.set_length(9)) if function == "ftruncate" else lambda: file.write_at(0, b"x")
    )
    with pytest.raises(StoreError, match="free some space"):
        fails()
    file.discard()
    assert names(tmp_path) == []


def test_write_back_is_started_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spans: list[tuple[int, int]] = []
    monkeypatch.setattr(store_module, "_WRITEBACK_BYTES", 1000)
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, at, length, _: spans.append((at, length)))
    file = NewFile(tmp_path / "x")
    for _ in range(5):
        file.append([b"x" * 600])
    file.commit()
    assert spans == [(0, 1200), (1200, 1200)]


# --- write_all and StreamTarget ------------------------------------------------------------------


@given(
    parts=st.lists(st.binary(max_size=20), max_size=12),
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=5),
)
@settings(max_examples=200)
def test_short_vectored_writes_are_taken_on(parts: list[bytes], counts: list[int]) -> None:
    written = bytearray()
    steps = iter(range(10**6))

    def short(fd: int, buffers: list[bytes]) -> int:
        joined = b"".join(buffers)
        assert joined, "nothing is written where nothing is left"
        count = min(counts[next(steps) % len(counts)], len(joined))
        written.extend(joined[:count])
        return count

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "writev", short)
        assert write_all(7, parts) == sum(map(len, parts))
    assert written == b"".join(parts)


def test_more_parts_than_one_call_takes_are_written(tmp_path: Path) -> None:
    parts = [bytes([n % 256]) for n in range(5000)]
    with (tmp_path / "x").open("wb") as file:
        assert write_all(file.fileno(), parts) == 5000
    assert (tmp_path / "x").read_bytes() == b"".join(parts)


def test_a_vectored_write_of_nothing_is_an_error_and_no_endless_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "writev", lambda *_: 0)
    with pytest.raises(OSError, match="Input/output"):
        write_all(7, [b"x"])


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The ends of the smallest pipe there is: (to read, to write)."""
    read_end, write_end = os.pipe()
    # F_SETPIPE_SZ is 1031.
    import fcntl

    fcntl.fcntl(write_end, 1031, 4096)
    yield read_end, write_end
    for fd in (read_end, write_end):
        try:
            os.close(fd)
        except OSError:
            continue


def test_a_small_pipe_gets_all_bytes(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    parts = [random.Random(n).randbytes(7001) for n in range(20)]
    got: list[bytes] = []

    def drain() -> None:
        while piece := os.read(read_end, 1000):
            got.append(piece)

    thread = threading.Thread(target=drain)
    thread.start()
    target = StreamTarget(write_end, "a pipe")
    target.append(parts[:10])
    target.append([memoryview(part) for part in parts[10:]])
    target.sync()
    target.commit()
    target.discard()
    os.close(write_end)
    thread.join()
    assert b"".join(got) == b"".join(parts)


def test_a_pipe_that_nobody_reads_is_an_error_once_and_for_all(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    os.close(read_end)
    target = StreamTarget(write_end, "the pipe")
    with pytest.raises(StoreError, match="can't write to the pipe: Broken pipe"):
        target.append([b"x"])
    with pytest.raises(StoreError, match="failed before"):
        target.append([b"x"])


# --- FileSpool -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 100, 4 * 2**20, 4 * 2**20 + 1, 9 * 2**20])
@pytest.mark.parametrize("chunk", [65_520, 65_536])
def test_a_spool_gives_back_what_it_got(size: int, chunk: int, tmp_path: Path) -> None:
    content = random.Random(size).randbytes(size)
    spool = FileSpool(tmp_path)
    for at in range(0, size, 100_000):
        spool.write(content[at : at + 100_000])
    chunks = list(spool.chunks(chunk))
    assert b"".join(chunks) == content
    assert all(len(each) == chunk for each in chunks[:-1])
    assert names(tmp_path) == []


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """Bound how long a file of this process may become, as a full disk would.

    The bound holds for what the test run writes too, so it must be gone before anything is told.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 4 * 2**20, 4 * 2**20 + 5000])
def test_a_spool_without_space_is_an_error_of_the_target(room: int, tmp_path: Path) -> None:
    """The last bytes are still in a buffer when all is written."""

    def use() -> None:
        spool = FileSpool(tmp_path)
        spool.write(bytes(4 * 2**20 + 1))
        spool.write(bytes(6000))
        list(spool.chunks(65_536))

    with pytest.raises(StoreError, match="temporary file"), file_limit(room):
        use()


# --- FileStore and MemoryStore -------------------------------------------------------------------


@pytest.fixture(params=["file", "memory"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A store of the bytes 0 to 99."""
    data = bytes(range(100))
    if request.param == "memory":
        yield MemoryStore(data)
        return
    (tmp_path / "x").write_bytes(data)
    with FileStore(tmp_path / "x") as store:
        yield store


@pytest.mark.parametrize(
    ("offset", "size"),
    [(0, 0), (0, 1), (0, 100), (0, 101), (50, 50), (50, 51), (99, 1), (99, 9), (100, 1), (2**63, 5),
     (2**64 - 1, 2**32), (0, 2**40)],
)  # fmt: skip
def test_a_read_gives_what_there_is(stored: Any, offset: int, size: int) -> None:
    """Whatever a damaged archive asks for, no more is allocated than the file has."""
    expected = bytes(range(100))[offset : offset + size]
    assert stored.size == 100
    assert stored.read_at(offset, size) == expected
    if size < 1000 and offset < 2**63:
        buffer = bytearray(b"\xee" * size)
        assert stored.read_into(offset, memoryview(buffer)) == len(expected)
        assert buffer == expected.ljust(size, b"\xee")


def test_short_reads_are_taken_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(bytes(range(100)))
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, views, at: preadv(fd, [views[0][:7]], at))
    with FileStore(tmp_path / "x") as store:
        assert store.read_at(3, 90) == bytes(range(3, 93))


def test_a_file_that_becomes_shorter_gives_fewer_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(100))
    with FileStore(tmp_path / "x") as store:
        os.truncate(tmp_path / "x", 40)
        assert store.size == 100
        assert store.read_at(30, 20) == bytes(10)


def test_what_is_no_regular_file_is_no_archive(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/null"), tmp_path / "missing"):
        with pytest.raises(SourceError):
            FileStore(path)


def test_an_error_of_a_read_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(bytes(100))
    with FileStore(tmp_path / "x") as store:
        store.drop_cache()
        monkeypatch.setattr(os, "preadv", raises_errno(errno.EIO))
        with pytest.raises(SourceError, match="at byte 5: Input/output"):
            store.read_at(5, 5)
        assert os.fstat(store.fileno()).st_size == 100
    store.close()


def test_source_and_target_may_not_be_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    (tmp_path / "link").symlink_to("x")
    os.link(tmp_path / "x", tmp_path / "hard")
    for other in ("x", "link", "hard"):
        with pytest.raises(RefusedError):
            refuse_same_file(tmp_path / "x", tmp_path / other)
    (tmp_path / "y").write_bytes(b"x")
    refuse_same_file(tmp_path / "x", tmp_path / "y")
    refuse_same_file(tmp_path / "x", tmp_path / "missing")
    refuse_same_file(tmp_path / "missing", tmp_path / "missing")
