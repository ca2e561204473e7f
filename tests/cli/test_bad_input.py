"""Bad input: each ends with its documented code and one clear line, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

SMALL = ("--block-size", "4096", "--blocks", "4", "--frame-size", "4096", "--threads", "2")
UNIT = 4 * 4096
HEADER, FOOTER = 128, 328
READERS = (("info",), ("verify",), ("unpack",), ("unpack", "--salvage"))
OLD = b"what stood here before"

Unchanged = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def unchanged(onggi: Any) -> Unchanged:
    """Hold that a block of tests changes nothing in the test's folder."""

    @contextmanager
    def hold() -> Iterator[None]:
        before = state(onggi.folder)
        yield
        assert state(onggi.folder) == before

    return hold


def state(folder: Path) -> dict[str, tuple[int, object]]:
    """Return what stands in a folder: kinds, rights, links and digests of content."""
    found: dict[str, tuple[int, object]] = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        what: object = None
        if stat.S_ISLNK(mode):
            what = os.readlink(path)
        elif stat.S_ISREG(mode):
            with contextlib.suppress(PermissionError):
                what = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(folder))] = (mode, what)
    return found


@pytest.fixture(scope="module")
def packed() -> dict[str, bytes]:
    """The files `source` and `a.onggi`, once they were made."""
    return {}


@pytest.fixture
def archive(onggi: Any, content: Callable[..., bytes], packed: dict[str, bytes]) -> Path:
    """A small archive `a.onggi` of the file `source`."""
    source, made = onggi.folder / "source", Path(onggi.folder / "a.onggi")
    if packed:
        source.write_bytes(packed["source"])
        made.write_bytes(packed["a.onggi"])
    else:
        source.write_bytes(content(5 * UNIT + 5000))
        onggi.ok("pack", source, made, *SMALL)
        packed.update({path.name: path.read_bytes() for path in (source, made)})
    return made


def read_words(command: tuple[str, ...], archive: object) -> list[object]:
    """Return the command line that reads an archive."""
    name, *options = command
    return [name, archive, *(["back"] if name == "unpack" else []), *options]


# --- what is no archive, or of another kind ------------------------------------------------------

NO_ARCHIVES: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"\x5c",
    "text": b"This is the recipe, not the jar.\n" * 200,
    "noise": random.Random(9).randbytes(50_000),
    "zeros": bytes(50_000),
    "only the magic": b"\x5c\x2a\x4d\x18",
    "another skippable frame": b"\x5c\x2a\x4d\x18" + (4000).to_bytes(4, "little") + bytes(4000),
    "a gzip file": b"\x1f\x8b\x08" + random.Random(9).randbytes(5000),
}


@pytest.mark.parametrize("what", NO_ARCHIVES)
def test_a_file_that_is_no_archive_is_called_that(
    what: str, onggi: Any, unchanged: Unchanged
) -> None:
    (onggi.folder / "thing").write_bytes(NO_ARCHIVES[what])
    with unchanged():
        for command in READERS if what in ("empty", "noise", "zeros") else READERS[:1]:
            ran = onggi.fails(3, *read_words(command, "thing"))
            assert "not an Onggi archive" in ran.err


@pytest.mark.needs("zstd")
@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_a_plain_zstd_file_is_no_archive(
    command: tuple[str, ...], onggi: Any, unchanged: Unchanged
) -> None:
    (onggi.folder / "plain").write_bytes(b"soy" * 9999)
    subprocess.run(["zstd", "-q", "plain"], cwd=onggi.folder, check=True)
    with unchanged():
        onggi.fails(3, *read_words(command, "plain.zst"))


def patched(archive: Path, offset: int, data: bytes) -> None:
    """Overwrite some bytes of an archive."""
    with archive.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def repacked(archive: Path, offset: int, data: bytes) -> None:
    """Overwrite some bytes of a header, and make its digest match."""
    whole = bytearray(archive.read_bytes())
    length = 8 + int.from_bytes(whole[4:8], "little")
    whole[offset : offset + len(data)] = data
    whole[96:128] = bytes(32)
    whole[96:128] = blake3(bytes(whole[:length])).digest()
    archive.write_bytes(whole)


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_another_version_is_refused_and_named(
    command: tuple[str, ...], onggi: Any, archive: Path, unchanged: Unchanged
) -> None:
    for major, minor in ((0, 2), (0, 0), (1, 0), (0xFFFF, 0xFFFF)):
        repacked(archive, 16, major.to_bytes(2, "little") + minor.to_bytes(2, "little"))
        with unchanged():
            ran = onggi.fails(3, *read_words(command, archive))
        assert f"{major}.{minor}" in ran.err


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_an_unknown_required_feature_is_refused_and_named(
    command: tuple[str, ...], onggi: Any, archive: Path, unchanged: Unchanged
) -> None:
    for bit, name in ((0, "base"), (1, "encryption"), (2, "split"), (63, "63")):
        repacked(archive, 24, (1 << bit).to_bytes(8, "little"))
        with unchanged():
            ran = onggi.fails(3, *read_words(command, archive))
        assert name in ran.err


@pytest.mark.parametrize("offset", [8, 15, 16, 18, 24, 31, 96])
def test_salvage_restores_all_where_only_the_header_is_damaged(
    offset: int, onggi: Any, archive: Path
) -> None:
    # Damage can look like another format, version or feature.
    patched(archive, offset, bytes([archive.read_bytes()[offset] ^ 0x80]))
    ran = onggi("unpack", archive, "back", "--salvage", "--json")
    assert ran.code == 1, ran.err
    assert ran.result["lost_bytes"] == 0
    assert (onggi.folder / "back").read_bytes() == (onggi.folder / "source").read_bytes()


def test_an_error_is_also_a_json_object(onggi: Any, archive: Path) -> None:
    (onggi.folder / "text").write_text("no jar")
    patched(archive, 24, b"\x02")
    for words, code, name in (
        (("info", "text"), 3, "not-an-archive"),
        (("verify", archive), 3, "unsupported"),
        (("unpack", "nowhere", "back"), 5, "source-unreadable"),
        (("pack", "source", archive), 6, "target-failed"),
        (("pack", "source", "source"), 7, "refused"),
    ):
        ran = onggi.fails(code, *words, "--json")
        (record,) = ran.records
        assert record["type"] == "error"
        assert record["command"] == words[0]
        assert record["exit_code"] == code
        assert record["code"] == name
        assert record["message"] in ran.err


# --- damage --------------------------------------------------------------------------------------


def test_an_archive_that_is_cut_off_anywhere_is_damaged_and_nothing_is_written(
    onggi: Any, archive: Path
) -> None:
    whole = archive.read_bytes()
    cut = onggi.folder / "cut.onggi"
    noise = random.Random(3)
    lengths = [HEADER - 1, HEADER, len(whole) - 1, len(whole) - FOOTER, len(whole) - FOOTER - 1]
    lengths += [noise.randrange(HEADER, len(whole)) for _ in range(6)]
    names = {"source", "a.onggi", "cut.onggi"}
    for length in lengths:
        cut.write_bytes(whole[:length])
        for command in (("info",), ("unpack",)):
            ran = onggi.fails(4, *read_words(command, cut))
            assert "Traceback" not in ran.err
        ran = onggi("verify", cut)
        assert ran.code == 4, length
        assert ran.err.count("onggi: damaged: ") == len(ran.err.splitlines()) >= 1
        assert set(os.listdir(onggi.folder)) == names, length


@pytest.mark.parametrize("length", [7, 8, 15])
def test_a_file_too_short_for_the_tag_is_no_archive(length: int, onggi: Any, archive: Path) -> None:
    (onggi.folder / "cut").write_bytes(archive.read_bytes()[:length])
    for command in READERS:
        onggi.fails(3, *read_words(command, "cut"))


@pytest.mark.parametrize("length", [16, 40, 127])
def test_a_file_that_is_cut_off_in_the_header_is_damaged(
    length: int, onggi: Any, archive: Path
) -> None:
    (onggi.folder / "cut").write_bytes(archive.read_bytes()[:length])
    for command in READERS:
        ran = onggi(*read_words(command, "cut"))
        assert ran.code == 4, f"{command}: {ran.code} {ran.err}"
        assert ran.err
        assert not (onggi.folder / "back").exists()


@pytest.mark.parametrize("length", [1, 4096, 100_000])
def test_bytes_behind_the_footer_are_damage(length: int, onggi: Any, archive: Path) -> None:
    with archive.open("ab") as file:
        file.write(random.Random(1).randbytes(length))
    ran = onggi.fails(4, "info", archive)
    assert f"{length} bytes follow the footer" in ran.err
    onggi.fails(4, "unpack", archive, "back")
    assert not (onggi.folder / "back").exists()
    assert onggi("verify", archive).code == 4
    # Nothing is lost: all units are there.
    ran = onggi("unpack", archive, "back", "--salvage")
    assert ran.code == 1
    assert (onggi.folder / "back").read_bytes() == (onggi.folder / "source").read_bytes()


def test_damage_in_one_unit_ends_an_unpack_and_salvage_restores_the_rest(
    onggi: Any, archive: Path
) -> None:
    data = (onggi.folder / "source").read_bytes()
    rows = onggi.ok("info", archive, "--units", "--json").records
    unit = next(each for each in rows if each["type"] == "unit" and each["number"] == 2)
    patched(archive, unit["unit_offset"] + 128 + 40 * unit["frame_count"] + 30, b"\xff" * 40)
    ran = onggi.fails(4, "unpack", archive, "back")
    assert "unit 2" in ran.err
    assert "--salvage" in ran.err
    assert sorted(os.listdir(onggi.folder)) == ["a.onggi", "source"]
    ran = onggi("unpack", archive, "back", "--salvage", "--json")
    assert ran.code == 1
    lost = [(each["content_offset"], each["content_bytes"]) for each in ran.findings]
    expected = bytearray(data)
    for offset, length in lost:
        assert 2 * UNIT <= offset < 3 * UNIT
        expected[offset : offset + length] = bytes(length)
    assert ran.result["lost_bytes"] == sum(length for _, length in lost) > 0
    assert (onggi.folder / "back").read_bytes() == expected


# --- sources and archives that can't be read -----------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("pack", "nowhere", "b.onggi"),
        ("pack", "nowhere/deeper", "b.onggi"),
        ("pack", "", "b.onggi"),
        ("pack", "loop", "b.onggi"),
        ("pack", "source/below", "b.onggi"),
        ("pack", "fifo", "b.onggi"),
        ("pack", "/dev/null", "b.onggi"),
        ("pack", "x" * 300, "b.onggi"),
        ("unpack", "nowhere", "back"),
        ("unpack", "folder", "back"),
        ("unpack", "fifo", "back"),
        ("unpack", "-", "back"),
        ("info", "nowhere"),
        ("info", "folder"),
        ("info", "fifo"),
        ("info", "/dev/null"),
        ("verify", "nowhere"),
        ("verify", "folder"),
        ("verify", "fifo"),
        ("verify", "a.onggi", "--against", "nowhere"),
        ("verify", "a.onggi", "--against", "folder"),
        ("verify", "a.onggi", "--against", "fifo"),
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_what_cannot_be_read_is_an_input_error(
    words: tuple[str, ...], onggi: Any, archive: Path, unchanged: Unchanged
) -> None:
    (onggi.folder / "folder").mkdir()
    (onggi.folder / "loop").symlink_to("loop")
    os.mkfifo(onggi.folder / "fifo")
    with unchanged():
        # A FIFO that nobody writes to must not keep the command waiting.
        onggi.fails(5, *words, timeout_s=20)


def without_rights() -> tuple[str, ...]:
    """Return a prefix under which even root needs the rights that a file's mode gives."""
    if os.geteuid():
        return ()
    return ("setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--")


@pytest.mark.needs("setpriv")
def test_what_may_not_be_read_is_an_input_error(
    onggi: Any, archive: Path, unchanged: Unchanged
) -> None:
    locked = onggi.folder / "locked"
    locked.mkdir()
    (locked / "source").write_bytes(b"soy")
    (onggi.folder / "source").chmod(0)
    archive.chmod(0)
    locked.chmod(0)
    try:
        with unchanged():
            for words in (
                ("pack", "source", "b.onggi"),
                ("pack", "locked/source", "b.onggi"),
                ("unpack", "a.onggi", "back"),
                ("info", "a.onggi"),
                ("verify", "a.onggi"),
            ):
                ran = onggi.fails(5, *words, prefix=without_rights())
                assert "Permission denied" in ran.err
    finally:
        locked.chmod(0o700)


@pytest.mark.needs("strace")
@pytest.mark.parametrize("force", [(), ("--force",)], ids=" ".join)
def test_a_source_that_shrinks_while_it_is_packed_leaves_nothing(
    force: tuple[str, ...], onggi: Any, archive: Path
) -> None:
    """It really shrinks: the command is stopped after its second read, and the file is cut."""
    target = onggi.folder / ("a.onggi" if force else "b.onggi")
    before = archive.read_bytes()
    log = onggi.folder.parent / f"{onggi.folder.name}.log"
    process = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", log, "-e", "trace=?preadv,?preadv2",
         "-e", "inject=?preadv,?preadv2:signal=SIGSTOP:when=2", "--",
         *onggi.command, "pack", "source", target, *force, *SMALL, "--threads", "1"],
        cwd=onggi.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        child = stopped_child(process, log)
        os.truncate(onggi.folder / "source", 3 * UNIT + 100)
        os.kill(child, signal.SIGCONT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
        log.unlink(missing_ok=True)
    assert process.returncode == 5, err
    (line,) = err.decode().splitlines()
    assert line.startswith("onggi: source ends at byte 49252")
    assert sorted(os.listdir(onggi.folder)) == ["a.onggi", "source"]
    assert archive.read_bytes() == before


def stopped_child(process: subprocess.Popen[bytes], log: Path) -> int:
    """Wait until the process under strace has stopped; return its number."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        assert process.poll() is None
        if log.exists() and "stopped by SIGSTOP" in log.read_text(errors="replace"):
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            return int(children.split()[0])
        time.sleep(0.02)
    pytest.fail("the command did not come to its second read")


@pytest.mark.needs("strace")
def test_a_read_that_ends_too_early_leaves_nothing(onggi: Any, archive: Path) -> None:
    for number in (1, 2, 3):
        rule = f"inject=?preadv,?preadv2:retval=0:when={number}"
        prefix = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=?preadv,?preadv2",
                  "-e", rule, "--")  # fmt: skip
        ran = onggi.fails(5, "pack", "source", "b.onggi", *SMALL, "--threads", "1", prefix=prefix)
        assert "ends at byte" in ran.err
        assert sorted(os.listdir(onggi.folder)) == ["a.onggi", "source"]


# --- targets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("pack", "source", "nowhere/b.onggi"),
        ("pack", "source", "source/b.onggi"),
        ("pack", "source", "folder"),
        ("pack", "source", "folder", "--force"),
        ("pack", "source", "folder/"),
        ("pack", "source", "."),
        ("pack", "source", "fifo"),
        ("pack", "source", "fifo", "--force"),
        ("pack", "source", "/dev/null", "--force"),
        ("pack", "source", ""),
        ("pack", "source", "x" * 300),
        ("pack", "source", "dangling/b.onggi"),
        ("unpack", "a.onggi", "nowhere/back"),
        ("unpack", "a.onggi", "nowhere/"),
        ("unpack", "a.onggi", "fifo"),
        ("unpack", "a.onggi", "fifo", "--force"),
        ("unpack", "a.onggi", "/dev/null", "--force"),
        ("unpack", "a.onggi", ""),
        ("unpack", "a.onggi", "x" * 300),
        ("unpack", "a.onggi", "full"),
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_what_cannot_be_written_is_an_output_error(
    words: tuple[str, ...], onggi: Any, archive: Path, unchanged: Unchanged
) -> None:
    (onggi.folder / "folder").mkdir()
    (onggi.folder / "folder" / "kept").write_bytes(OLD)
    (onggi.folder / "full").mkdir()
    (onggi.folder / "full" / "source").mkdir()
    (onggi.folder / "dangling").symlink_to("nowhere")
    os.mkfifo(onggi.folder / "fifo")
    with unchanged():
        onggi.fails(6, *words, timeout_s=20)


@pytest.mark.needs("setpriv")
def test_a_folder_that_may_not_be_written_is_an_output_error(
    onggi: Any, archive: Path, unchanged: Unchanged
) -> None:
    folder = onggi.folder / "locked"
    folder.mkdir()
    (folder / "old").write_bytes(OLD)
    folder.chmod(0o500)
    try:
        with unchanged():
            for words in (
                ("pack", "source", "locked/b.onggi"),
                ("pack", "source", "locked/old", "--force"),
                ("unpack", "a.onggi", "locked/back"),
                ("unpack", "a.onggi", "locked"),
                ("unpack", "a.onggi", "locked/old", "--force"),
            ):
                ran = onggi.fails(6, *words, prefix=without_rights())
                assert "Permission denied" in ran.err
            folder.chmod(0o600)
            for words in (
                ("pack", "source", "locked/b.onggi"),
                ("unpack", "a.onggi", "locked/back"),
            ):
                ran = onggi.fails(6, *words, prefix=without_rights())
                assert "Permission denied" in ran.err
            folder.chmod(0o500)
    finally:
        folder.chmod(0o700)


def test_a_file_that_exists_is_kept_unless_force_is_given(
    onggi: Any, archive: Path, unchanged: Unchanged
) -> None:
    folder = onggi.folder / "folder"
    folder.mkdir()
    (folder / "source").write_bytes(OLD)
    (onggi.folder / "old").write_bytes(OLD)
    (onggi.folder / "link").symlink_to("old")
    with unchanged():
        for words in (
            ("pack", "source", "a.onggi"),
            ("pack", "source", "old"),
            ("pack", "source", "link"),
            ("unpack", "a.onggi", "old"),
            ("unpack", "a.onggi", "link"),
            ("unpack", "a.onggi", "folder"),
        ):
            ran = onggi.fails(6, *words)
            assert "exists" in ran.err
            assert "--force" in ran.err


def test_force_replaces_a_file_as_a_whole(onggi: Any, archive: Path) -> None:
    data = (onggi.folder / "source").read_bytes()
    for words, whole in (
        (("pack", "source", "old", *SMALL), None),
        (("unpack", "a.onggi", "old"), data),
    ):
        old = onggi.folder / "old"
        old.write_bytes(OLD)
        (onggi.folder / "other").unlink(missing_ok=True)
        os.link(old, onggi.folder / "other")
        onggi.ok(*words, "--force")
        # Who had the old file open goes on to read the old bytes.
        assert (onggi.folder / "other").read_bytes() == OLD
        assert not os.path.samefile(old, onggi.folder / "other")
        if whole is not None:
            assert old.read_bytes() == whole
        else:
            onggi.ok("verify", old, "--against", "source")
        assert sorted(os.listdir(onggi.folder)) == ["a.onggi", "old", "other", "source"]


def test_force_replaces_what_a_link_leads_to_and_keeps_the_link(onggi: Any, archive: Path) -> None:
    folder = onggi.folder / "folder"
    folder.mkdir()
    (folder / "old").write_bytes(OLD)
    (onggi.folder / "link").symlink_to("folder/old")
    onggi.ok("unpack", archive, "link", "--force")
    assert (onggi.folder / "link").is_symlink()
    assert (folder / "old").read_bytes() == (onggi.folder / "source").read_bytes()
    assert os.listdir(folder) == ["old"]


def test_a_failure_with_force_keeps_the_old_file(
    onggi: Any, archive: Path, unchanged: Unchanged
) -> None:
    (onggi.folder / "old").write_bytes(OLD)
    (onggi.folder / "bad.onggi").write_bytes(archive.read_bytes()[:-1000])
    (onggi.folder / "folder").mkdir()
    with unchanged():
        onggi.fails(4, "unpack", "bad.onggi", "old", "--force")
        onggi.fails(7, "pack", "old", "source", "old", "--force")
        onggi.fails(5, "pack", "nowhere", "old", "--force")
        onggi.fails(2, "pack", "source", "old", "--force", "--name", "a/b")


# --- source and target are the same --------------------------------------------------------------


@pytest.mark.parametrize("force", [(), ("--force",)], ids=" ".join)
@pytest.mark.parametrize("way", ["name", "path", "symlink", "hard link"])
def test_source_and_target_that_are_the_same_are_refused(
    way: str, force: tuple[str, ...], onggi: Any, archive: Path, unchanged: Unchanged
) -> None:
    def same(name: str) -> object:
        path = onggi.folder / name
        if way == "symlink":
            (onggi.folder / f"{name}-2").symlink_to(path)
        elif way == "hard link":
            os.link(path, onggi.folder / f"{name}-2")
        elif way == "path":
            return f"../{onggi.folder.name}/./{name}"
        else:
            return name
        return f"{name}-2"

    source, other = same("source"), same("a.onggi")
    with unchanged():
        for words in (
            ("pack", "source", source),
            ("pack", source, "source"),
            ("unpack", "a.onggi", other),
            ("unpack", other, "a.onggi"),
        ):
            ran = onggi.fails(7, *words, *force)
            assert "same" in ran.err


def test_a_folder_in_which_the_archive_has_the_name_of_its_volume_is_refused(
    onggi: Any, archive: Path, unchanged: Unchanged
) -> None:
    folder = onggi.folder / "folder"
    folder.mkdir()
    (folder / "source").write_bytes(archive.read_bytes())
    with unchanged():
        onggi.fails(7, "unpack", "folder/source", "folder")
        onggi.fails(7, "unpack", "folder/source", "folder", "--force")


# --- the command line ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("pack",),
        ("pack", "source"),
        ("pack", "source", "b.onggi", "--name", "x", "--mode", "tree"),
        ("nothing",),
        ("pack", "source", "b.onggi", "--nothing"),
        ("pack", "source", "b.onggi", "--level", "0"),
        ("pack", "source", "b.onggi", "--level", "20"),
        ("pack", "source", "b.onggi", "--level", "-1"),
        ("pack", "source", "b.onggi", "--level", "best"),
        ("pack", "source", "b.onggi", "--level"),
        ("pack", "source", "b.onggi", "--threads", "0"),
        ("pack", "source", "b.onggi", "--threads", "-2"),
        ("pack", "source", "b.onggi", "--threads", "many"),
        ("pack", "source", "b.onggi", "--threads", "100000"),
        ("pack", "source", "b.onggi", "--block-size", "0"),
        ("pack", "source", "b.onggi", "--block-size", "256"),
        ("pack", "source", "b.onggi", "--block-size", "5000"),
        ("pack", "source", "b.onggi", "--block-size", "32M"),
        ("pack", "source", "b.onggi", "--block-size", "4096.5"),
        ("pack", "source", "b.onggi", "--block-size", "4T"),
        ("pack", "source", "b.onggi", "--block-size", "9" * 400),
        ("pack", "source", "b.onggi", "--blocks", "0"),
        ("pack", "source", "b.onggi", "--blocks", "-1"),
        ("pack", "source", "b.onggi", "--blocks", "65537"),
        ("pack", "source", "b.onggi", "--blocks", "9" * 30),
        ("pack", "source", "b.onggi", "--frame-size", "0"),
        ("pack", "source", "b.onggi", "--frame-size", "4095"),
        ("pack", "source", "b.onggi", "--frame-size", "5000"),
        ("pack", "source", "b.onggi", "--frame-size", "17M"),
        ("pack", "source", "b.onggi", "--uuid", "mine"),
        ("pack", "source", "b.onggi", "--created", "today"),
        ("pack", "source", "b.onggi", "--created", str(1 << 63)),
        ("pack", "source", "b.onggi", "--created", str(-(1 << 63) - 1)),
        ("pack", "source", "b.onggi", "--name", ""),
        ("pack", "source", "b.onggi", "--name", "."),
        ("pack", "source", "b.onggi", "--name", ".."),
        ("pack", "source", "b.onggi", "--name", "a/b"),
        ("pack", "source", "b.onggi", "--name", "x" * 70_000),
        ("pack", "source", "-", "--verify"),
        ("pack", "source", "-", "--force"),
        ("unpack", "a.onggi"),
        ("unpack", "a.onggi", "-", "--force"),
        ("unpack", "a.onggi", "-", "--to-device"),
        ("unpack", "a.onggi", "back", "--to-device"),
        ("unpack", "a.onggi", "folder", "--to-device"),
        ("unpack", "a.onggi", "back", "--overwrite", "sda"),
        ("unpack", "a.onggi", "back", "--threads", "0"),
        ("verify",),
        ("verify", "a.onggi", "--level", "deep"),
        ("verify", "a.onggi", "--threads", "0"),
        ("info",),
        ("info", "a.onggi", "b.onggi"),
    ],
    ids=lambda words: " ".join(words)[:60],
)
def test_a_wrong_command_line_is_told_so_and_leaves_nothing(
    words: tuple[str, ...], onggi: Any, archive: Path, unchanged: Unchanged
) -> None:
    (onggi.folder / "folder").mkdir()
    with unchanged():
        ran = onggi.fails(2, *words)
    assert len(ran.err) < 1000
    assert ran.out == b""


def test_the_extremes_of_every_option_are_taken(onggi: Any, archive: Path) -> None:
    for number, options in enumerate(
        (
            ("--level", "1", "--threads", "1"),
            ("--level", "19", "--threads", "256", "--blocks", "16"),
            ("--block-size", "512", "--blocks", "1"),
            ("--block-size", "16M", "--blocks", "1", "--frame-size", "16M", "--threads", "1"),
            ("--block-size", "16m", "--blocks", "16", "--threads", "1"),
            ("--frame-size", "4k"),
            ("--created", str((1 << 63) - 1)),
            ("--created", str(-(1 << 63))),
            ("--name", "x" * 65_535),
            ("--uuid", "00000000-0000-0000-0000-000000000000"),
        )
    ):
        target = f"{number}.onggi"
        onggi.ok("pack", "source", target, *options)
        onggi.ok("verify", target, "--against", "source")
        if options[0] == "--created":
            onggi.ok("info", target)


def test_what_an_archive_says_does_not_steer_the_terminal(onggi: Any, archive: Path) -> None:
    onggi.ok("pack", "source", "b.onggi", "--name", "two\nlines \x1b[31m")
    (onggi.folder / "folder").mkdir()
    info = onggi.ok("info", "b.onggi")
    assert b"\x1b" not in info.out
    assert not any(line.startswith(b"lines") for line in info.out.splitlines())
    assert b"\x1b" not in onggi.ok("unpack", "b.onggi", "folder").out
    assert "\x1b" not in onggi.fails(6, "unpack", "b.onggi", "folder").err
    assert b"\x1b" not in onggi.ok("unpack", "b.onggi", "folder", "--force", "--json").out


# --- standard streams ----------------------------------------------------------------------------


def shell(text: str) -> tuple[str, ...]:
    """Return a prefix that runs the command as `"$@"` in a shell command."""
    return ("sh", "-c", text, "sh")


def test_a_closed_standard_input_makes_no_archive(
    onggi: Any, archive: Path, unchanged: Unchanged
) -> None:
    with unchanged():
        onggi.fails(5, "pack", "-", "b.onggi", prefix=shell('exec "$@" <&-'))


def test_a_closed_standard_output_is_an_output_error(
    onggi: Any, archive: Path, unchanged: Unchanged
) -> None:
    with unchanged():
        for words in (("pack", "source", "-"), ("unpack", archive, "-")):
            onggi.fails(6, *words, prefix=shell('exec "$@" >&-'))


def test_a_full_standard_output_is_an_output_error(
    onggi: Any, archive: Path, unchanged: Unchanged
) -> None:
    with unchanged():
        for words in (
            ("pack", "source", "-"),
            ("unpack", archive, "-"),
            ("info", archive),
            ("info", archive, "--units"),
            ("info", archive, "--json"),
            ("verify", archive),
        ):
            ran = onggi.fails(6, *words, prefix=shell('exec "$@" >/dev/full'))
            assert "No space left" in ran.err


def test_names_that_are_no_text_are_taken(onggi: Any) -> None:
    name = os.fsdecode(b"ja\xff r")
    (onggi.folder / name).write_bytes(b"soy" * 999)
    prefix = ("env", "PYTHONIOENCODING=utf-8:strict")
    archive = os.fsdecode(b"a\xfe.onggi")
    onggi.ok("pack", name, archive, prefix=prefix)
    onggi.ok("info", archive, prefix=prefix)
    onggi.ok("verify", archive, prefix=prefix)
    (onggi.folder / "folder").mkdir()
    onggi.ok("unpack", archive, "folder", prefix=prefix)
    assert os.listdir(os.fsencode(onggi.folder / "folder")) == [b"ja\xff r"]
    onggi.fails(6, "pack", name, archive, prefix=prefix)


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["people", "programs"])
def test_who_has_read_enough_gets_no_message(onggi: Any, tmp_path: Path, options: Any) -> None:
    for number in range(4000):
        (tmp_path / "tree" / f"{number:0100}").parent.mkdir(exist_ok=True)
        (tmp_path / "tree" / f"{number:0100}").touch()
    onggi.ok("pack", tmp_path / "tree", "a.onggi", "--mode", "tree")
    with subprocess.Popen(
        [*onggi.command, "ls", "a.onggi", *options],
        cwd=onggi.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as listing:  # fmt: skip
        assert listing.stdout is not None
        assert listing.stderr is not None
        assert listing.stdout.readline()
        listing.stdout.close()
        assert listing.stderr.read() == b""
    assert listing.returncode == 6
