"""The process behind a mount: comes, serves, fails and goes as it should; and who may see what."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .mount_helpers import (
    AS_NOBODY,
    COMMAND,
    MIB,
    NOBODY,
    ONGGI_AS_NOBODY,
    Shows,
    error_name,
    error_of,
    is_mounted,
    mountinfo,
    own_mounts,
    run,
    servers_of,
    take_away,
    tried,
    wait_for,
)
from .mount_helpers import open_folder as open_folder
from .mount_helpers import shows as shows
from .tree_corpus import noisy

pytestmark = pytest.mark.needs("root", "fuse", "mount")

BIG = noisy(6 * MIB, 3)


@pytest.fixture
def archive(onggi: Any, tmp_path: Path) -> Path:
    """An archive of a small tree."""
    tree = tmp_path / "tree"
    (tree / "folder").mkdir(parents=True)
    (tree / "folder" / "file").write_bytes(b"kimchi")
    (tree / "big").write_bytes(BIG)
    onggi.ok("pack", tree, "a.onggi", "--frame-size", "64K")
    return tmp_path / "a.onggi"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """An empty folder, on which nothing stays mounted."""
    folder = tmp_path / "place"
    folder.mkdir()
    yield folder
    take_away(folder)


# --- it comes up, or says why not ----------------------------------------------------------------


def test_the_command_ends_when_the_mount_is_up(archive: Path, place: Path, onggi: Any) -> None:
    started = time.monotonic()
    ran = onggi.ok("mount", archive, place)
    print(f"mounted after {time.monotonic() - started:.2f} s")
    assert (place / "folder" / "file").read_bytes() == b"kimchi"
    assert ran.err == ""
    ran = onggi.ok("umount", place)
    assert ran.err == ""
    assert not is_mounted(place)
    assert os.listdir(place) == []


def test_what_was_done_is_told_as_json(archive: Path, place: Path, onggi: Any) -> None:
    told = onggi.ok("mount", archive, place, "--json").result
    assert (told["type"], told["command"], told["exit_code"]) == ("result", "mount", 0)
    assert told["folder"] == str(place)
    told = onggi.ok("umount", place, "--json").result
    assert (told["type"], told["command"], told["exit_code"]) == ("result", "umount", 0)
    for command, words, code in (("mount", ("none.onggi", place), 5), ("umount", (place,), 2)):
        ran = onggi(command, *words, "--json")
        assert ran.code == code
        error = json.loads(ran.out.splitlines()[-1])
        assert (error["type"], error["command"], error["exit_code"]) == ("error", command, code)


@pytest.fixture
def wrong(archive: Path, place: Path) -> dict[str, tuple[Path, Path]]:
    """Make pairs of what is to be mounted and where, and one of them is wrong."""
    folder = archive.parent
    whole = archive.read_bytes()
    (folder / "text").write_bytes(b"no archive at all\n" * 100)
    (folder / "nothing").write_bytes(b"")
    (folder / "cut").write_bytes(whole[:-100])
    (folder / "footer").write_bytes(whole[:-50] + b"\xff" + whole[-49:])
    (folder / "header").write_bytes(whole[:60] + bytes([whole[60] ^ 1]) + whole[61:])
    os.mkfifo(folder / "fifo")
    (folder / "full").mkdir()
    (folder / "full" / "something").touch()
    (folder / "link").symlink_to("nowhere")
    cases = {
        "missing": (folder / "none.onggi", place), "dangling": (folder / "link", place),
        "fifo": (folder / "fifo", place), "text": (folder / "text", place),
        "nothing": (folder / "nothing", place), "cut": (folder / "cut", place),
        "footer": (folder / "footer", place), "header": (folder / "header", place),
        "no-folder": (archive, folder / "none"), "a-file": (archive, folder / "text"),
        "full": (archive, folder / "full"), "below-a-file": (archive, folder / "text" / "x"),
    }  # fmt: skip
    return cases


@pytest.mark.parametrize("options", [(), ("--foreground",)], ids=["background", "foreground"])
@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("missing", 5), ("dangling", 5), ("fifo", 5), ("text", 3), ("nothing", 3), ("cut", 4),
        ("footer", 4), ("header", 4), ("no-folder", 2), ("a-file", 2), ("full", 7),
        ("below-a-file", 2),
    ],
)  # fmt: skip
def test_what_cannot_be_mounted_is_told_in_one_line(
    case: str,
    code: int,
    options: tuple[str, ...],
    wrong: dict[str, tuple[Path, Path]],
    onggi: Any,
) -> None:
    source, folder = wrong[case]
    ran = onggi.fails(code, "mount", source, folder, *options, timeout_s=20)
    if code not in (3, 4):  # of these no command tells which archive
        assert (folder if code in (2, 7) else source).name in ran.err
    assert not is_mounted(folder)
    assert servers_of(folder) == []


@pytest.mark.parametrize("foreground", [(), ("--foreground",)], ids=["background", "foreground"])
@pytest.mark.parametrize(
    ("options", "codes"),
    [
        (("-o", "nonsense"), (2, 6)),
        (("-o", "nonsense=1,ro"), (2, 6)),
        (("-o", "rw"), (2,)),
        (("-o", "uid=nobody"), (2,)),
        (("-o", "uid="), (2,)),
        (("-o", "gid=-1"), (2,)),
        (("-o", "gid=4294967296"), (2,)),
        (("--cache", "much"), (2,)),
        (("--threads", "0"), (2,)),
        (("--log", "none/log"), (6,)),
        (("--log", "place"), (2, 6)),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_bad_options_are_told_in_one_line(
    options: tuple[str, ...],
    codes: tuple[int, ...],
    foreground: tuple[str, ...],
    archive: Path,
    place: Path,
    onggi: Any,
) -> None:
    ran = onggi("mount", archive, place, *options, *foreground, timeout_s=20)
    assert ran.code in codes, ran.err
    assert len(ran.err.splitlines()) == 1, ran.err
    assert ran.err.startswith("onggi: ")
    assert not is_mounted(place)
    assert servers_of(place) == []


def test_without_fuse_it_is_told_in_one_line(archive: Path, place: Path, tmp_path: Path) -> None:
    """The device is there, and something else."""
    script = 'mount --bind /dev/null /dev/fuse && exec "$@"'
    words = ("unshare", "-m", "sh", "-c", script, "sh", *COMMAND, "mount", archive, place)
    done = tried(*words, timeout_s=20)
    assert done.returncode == 6, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert b"Traceback" not in done.stderr
    assert servers_of(place) == []


@pytest.mark.parametrize(
    "options",
    ["suid,dev", "dev,dev", "noexec", "defaults,noauto,nofail,_netdev,x-a=b", "ro,nosuid"],
)
def test_options_reach_the_kernel(options: str, archive: Path, place: Path, onggi: Any) -> None:
    onggi.ok("mount", archive, place, "-o", options)
    [fields] = mountinfo(place)
    given, wanted = set(fields[5].split(",")), set(options.split(","))
    assert "ro" in given
    assert ("nosuid" in given) is not ("suid" in wanted)
    assert ("nodev" in given) is not ("dev" in wanted)
    assert ("noexec" in given) is ("noexec" in wanted)


def test_a_folder_with_something_in_it_is_hidden_if_that_is_wanted(
    archive: Path, place: Path, onggi: Any
) -> None:
    (place / "something").touch()
    onggi.ok("mount", archive, place, "-o", "nonempty")
    assert sorted(os.listdir(place)) == ["big", "folder"]
    onggi.ok("umount", place)
    assert os.listdir(place) == ["something"]


def test_any_name_of_an_archive_and_of_a_folder_will_do(
    archive: Path, shows: Shows, onggi: Any, tmp_path: Path
) -> None:
    names = (b"a,b", b"a b", b"back\\slash", b"new\nline", b"caf\xe9", "나박".encode(), b"-dash",
             b"#a=b", b"quote'\"", b"tab\t", b"n" * 200)  # fmt: skip
    for name in names:
        path = tmp_path / os.fsdecode(name + b".onggi")
        os.link(archive, path)
        place = shows.expect(tmp_path / os.fsdecode(name))
        place.mkdir()
        onggi.ok("mount", path, place)
        assert (place / "folder" / "file").read_bytes() == b"kimchi", name
        assert is_mounted(place), name
        onggi.ok("umount", place)
        assert not is_mounted(place), name
    (tmp_path / "below").mkdir()
    onggi.ok("mount", "a.onggi", "below/../below/", "--log", "log")
    shows.expect(tmp_path / "below")
    assert is_mounted(tmp_path / "below")
    onggi.ok("umount", "./below/")
    assert not is_mounted(tmp_path / "below")


def test_a_link_to_a_folder_is_as_good_as_the_folder(
    archive: Path, place: Path, onggi: Any
) -> None:
    (place.parent / "to-place").symlink_to("place")
    onggi.ok("mount", archive, "to-place")
    assert is_mounted(place)
    onggi.ok("umount", "to-place")
    assert not is_mounted(place)


def test_one_archive_is_mounted_twice(archive: Path, shows: Shows) -> None:
    one, two = shows(archive), shows(archive)
    assert (two.place / "big").read_bytes() == BIG
    shows.umount(one)
    assert (two.place / "folder" / "file").read_bytes() == b"kimchi"


# --- it serves -----------------------------------------------------------------------------------


def test_the_process_holds_nothing_that_it_does_not_need(
    archive: Path, shows: Shows, tmp_path: Path
) -> None:
    server = shows(archive)
    for number in range(300):
        with (server.place / "big").open("rb") as file:
            file.seek(number * 16_384)
            assert file.read(100) == BIG[number * 16_384 :][:100]
        os.listdir(server.place / "folder")
        if number == 20:
            before = sorted(server.files)
    assert sorted(server.files) == before
    allowed = {os.devnull, "/dev/fuse", str(archive), str(server.log_file)}
    assert set(before) - allowed == set(), "of the one who called it, perhaps"
    assert os.readlink(f"/proc/{server.pid}/cwd") == "/"
    assert os.getsid(server.pid) == server.pid
    assert Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[1] == "1"
    children = [entry.read_text() for entry in Path(f"/proc/{server.pid}/task").glob("*/children")]
    assert "".join(children) == ""
    shows.umount(server)
    assert wait_for(lambda: not Path(f"/proc/{server.pid}").exists()), "it stays as a zombie"


def test_mounting_again_and_again_leaves_nothing(archive: Path, place: Path, onggi: Any) -> None:
    pids: set[int] = set()
    for _ in range(8):
        onggi.ok("mount", archive, place)
        pids.update(servers_of(place))
        assert (place / "folder" / "file").read_bytes() == b"kimchi"
        onggi.ok("umount", place)
    assert len(pids) == 8
    assert wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_standard_streams_may_be_closed(archive: Path, place: Path) -> None:
    words = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *COMMAND, "mount", archive, place)
    assert tried(*words, timeout_s=20).returncode == 0
    assert (place / "big").read_bytes() == BIG
    [pid] = servers_of(place)
    for number in range(3):
        assert os.readlink(f"/proc/{pid}/fd/{number}") == os.devnull


def test_an_archive_that_is_removed_can_be_read_to_the_end(archive: Path, shows: Shows) -> None:
    server = shows(archive, "--cache", "1M")
    assert os.listdir(server.place / "folder") == ["file"]
    archive.unlink()
    archive.write_bytes(b"something else")
    assert (server.place / "big").read_bytes() == BIG
    assert (server.place / "folder" / "file").read_bytes() == b"kimchi"
    assert server.log == []


def test_an_archive_that_is_cut_off_gives_errors_and_no_other_bytes(
    archive: Path, shows: Shows
) -> None:
    server = shows(archive)
    wrong = 0
    with (server.place / "big").open("rb", buffering=0) as file:
        assert file.read(10) == BIG[:10]  # so that it knows the index, which stands at the end
        os.truncate(archive, archive.stat().st_size // 2)
        for offset in range(0, len(BIG), 65_536):
            got: list[bytes] = []
            error = error_name(
                lambda at=offset, got=got: got.append(os.pread(file.fileno(), 4096, at))
            )
            assert error in ("", "EIO")
            assert error or got == [BIG[offset : offset + 4096]], offset
            wrong += bool(error)
    assert 20 < wrong < 90
    assert server.is_alive
    assert any("cut off" in line for line in server.log), server.log


# --- it ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_signal_unmounts_and_ends_well(
    name: str, busy: bool, archive: Path, shows: Shows
) -> None:
    server, child = shows.in_foreground(archive)
    file = os.open(server.place / "big", os.O_RDONLY)
    try:
        assert os.pread(file, 100, 5000) == BIG[5000:5100]
        if not busy:
            os.close(file)
        child.send_signal(getattr(signal, name))
        assert child.wait(15) == 0
    finally:
        if busy:
            error_of(lambda: os.close(file))  # which asks a file system that is gone
    assert not is_mounted(server.place)
    assert os.listdir(server.place) == []
    assert child.stdout is not None
    assert child.stderr is not None
    assert child.stdout.read() == b""
    said = child.stderr.read().splitlines()
    assert said == [b"%b is mounted on %b" % (bytes(archive), bytes(server.place))]


def test_a_mount_in_the_foreground_ends_when_it_is_unmounted(archive: Path, shows: Shows) -> None:
    server, child = shows.in_foreground(archive, "--quiet")
    assert (server.place / "folder" / "file").read_bytes() == b"kimchi"
    run(*COMMAND, "umount", server.place)
    assert child.wait(15) == 0
    assert child.stderr is not None
    assert child.stderr.read() == b""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_ends_a_mount_in_the_background(name: str, archive: Path, shows: Shows) -> None:
    server = shows(archive)
    os.kill(server.pid, getattr(signal, name))
    assert wait_for(lambda: not server.is_alive)
    assert not is_mounted(server.place)


def test_when_the_process_is_killed_nobody_hangs_and_it_can_be_unmounted(
    archive: Path, shows: Shows, onggi: Any
) -> None:
    server = shows(archive)
    file = os.open(server.place / "big", os.O_RDONLY)
    try:
        # Somebody waits for an answer that never comes.
        os.kill(server.pid, signal.SIGSTOP)
        waiting = subprocess.Popen(
            ["cat", server.place / "folder" / "file"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(file,),  # to close it there would wait too
        )
        time.sleep(0.3)
        assert waiting.poll() is None
        server.kill()
        out, err = waiting.communicate(timeout=10)
        assert waiting.returncode == 1
        assert out == b""
        assert err
        for _ in range(2):
            assert error_name(server.place.stat) in ("ENOTCONN", "")  # the kernel may know it
            assert error_name(lambda: os.listdir(server.place)) == "ENOTCONN"
            assert error_name((server.place / "folder" / "file").read_bytes) == "ENOTCONN"
            assert error_name(lambda: os.pread(file, 4096, 5 * MIB)) == "ENOTCONN"
    finally:
        error_of(lambda: os.close(file))
    for options in ((), ("--foreground",), ("-o", "nonempty")):
        ran = onggi.fails(2, "mount", archive, server.place, *options, timeout_s=20)
        assert "umount" in ran.err
    onggi.ok("umount", server.place, timeout_s=20)
    assert not is_mounted(server.place)
    again = shows(archive, place=server.place)
    assert (again.place / "big").read_bytes() == BIG


def test_a_dead_mount_that_is_in_use_is_unmounted_lazily(
    archive: Path, shows: Shows, onggi: Any
) -> None:
    server = shows(archive)
    file = os.open(server.place / "big", os.O_RDONLY)
    server.kill()
    onggi.fails(6, "umount", server.place, timeout_s=20)
    onggi.ok("umount", "--lazy", server.place, timeout_s=20)
    assert not is_mounted(server.place)
    error_of(lambda: os.close(file))


# --- umount --------------------------------------------------------------------------------------


def test_a_mount_that_is_in_use_stays(archive: Path, shows: Shows, onggi: Any) -> None:
    server = shows(archive)
    with (server.place / "big").open("rb") as file:
        ran = onggi.fails(6, "umount", server.place)
        assert "busy" in ran.err
        assert is_mounted(server.place)
        assert file.read() == BIG
    shows.umount(server)


def test_a_mount_that_is_in_use_goes_lazily_and_is_served_to_the_end(
    archive: Path, shows: Shows, onggi: Any
) -> None:
    server = shows(archive, "--cache", "1M")
    with (server.place / "big").open("rb") as file:
        onggi.ok("umount", "--lazy", server.place)
        assert not is_mounted(server.place)
        assert os.listdir(server.place) == []
        assert file.read() == BIG
        assert server.is_alive
    assert wait_for(lambda: not server.is_alive)


def test_umount_unmounts_nothing_that_is_not_its_own(
    place: Path, archive: Path, onggi: Any, mounts: Any
) -> None:
    other = mounts("none", "-t", "tmpfs")
    (other / "below").mkdir()
    for folder in (other, other / "below", place, place / "none", archive, Path("/")):
        onggi.fails(2, "umount", folder)
        onggi.fails(2, "umount", "--lazy", folder)
    assert is_mounted(other)
    onggi.ok("mount", archive, other / "below")
    onggi.fails(2, "umount", other / "below" / "folder")
    assert is_mounted(other / "below")
    onggi.ok("umount", other / "below")
    onggi.fails(2, "umount", other / "below")


# --- who may see what ----------------------------------------------------------------------------


def test_by_default_a_mount_is_read_only_and_gives_no_rights(archive: Path, shows: Shows) -> None:
    server = shows(archive)
    [fields] = mountinfo(server.place)
    assert {"ro", "nosuid", "nodev"} <= set(fields[5].split(","))
    kind, source, options = fields[-3:]
    assert kind == "fuse.onggi"
    assert source == str(archive)
    assert {"ro", "user_id=0", "group_id=0", "default_permissions"} <= set(options.split(","))
    assert "allow_other" not in options


@pytest.fixture
def private(open_folder: Path, shows: Shows) -> Path:
    """An archive, which nobody else may read, of files with several rights."""
    shows.folder = open_folder
    tree = open_folder / "tree"
    tree.mkdir()
    tree.chmod(0o755)
    rights = {"all": (0, 0o644), "root": (0, 0o600), "nobody": (NOBODY, 0o600), "acl": (0, 0o600)}
    for name, (uid, mode) in rights.items():
        (tree / name).write_bytes(b"jar")
        os.chown(tree / name, uid, uid)
        (tree / name).chmod(mode)
    run("setfacl", "-m", f"u:{NOBODY}:r", tree / "acl")
    (open_folder / "disk.img").write_bytes(bytes(5000))
    for name in ("tree", "disk.img"):
        path = open_folder / f"{name}.onggi"
        run(*COMMAND, "pack", "--quiet", open_folder / name, path)
        path.chmod(0o600)
    return open_folder


def readable(path: Path) -> bool:
    """Tell whether a user without rights can read a file."""
    done = tried(*AS_NOBODY, "cat", path)
    assert done.returncode == 0 or b"Permission denied" in done.stderr, done.stderr
    return done.returncode == 0


@pytest.mark.needs("setpriv", "setfacl")
def test_others_see_nothing_unless_they_are_allowed_to(private: Path, shows: Shows) -> None:
    mine = shows(private / "tree.onggi")
    assert not any(readable(mine.place / name) for name in ("all", "root", "nobody", "acl"))
    assert (mine.place / "nobody").read_bytes() == b"jar"
    theirs = shows(private / "tree.onggi", "-o", "allow_other")
    assert readable(theirs.place / "all")
    # And then each file has its rights, those of its ACL too.
    assert not readable(theirs.place / "root")
    assert readable(theirs.place / "nobody")
    assert readable(theirs.place / "acl")
    assert "allow_other" in mountinfo(theirs.place)[0][-1]


@pytest.mark.needs("setpriv")
def test_everything_belongs_to_whom_the_options_say(private: Path, shows: Shows) -> None:
    options = ("-o", f"allow_other,uid={NOBODY}", "-o", "gid=12345")
    server = shows(private / "tree.onggi", *options)
    for path in (server.place, *server.place.iterdir()):
        assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, 12_345)
    assert readable(server.place / "root")
    volume = shows(private / "disk.img.onggi", "-o", "allow_other").place / "volume.img"
    assert (volume.stat().st_uid, stat.S_IMODE(volume.stat().st_mode) & 0o077) == (0, 0)
    assert not readable(volume)
    volume = shows(private / "disk.img.onggi", *options).place / "volume.img"
    assert readable(volume)
    only = shows(private / "tree.onggi", "-o", "gid=4294967294")
    facts = [path.stat() for path in only.place.iterdir()]
    assert {each.st_uid for each in facts} == {0, NOBODY}
    assert {each.st_gid for each in facts} == {2**32 - 2}


def his_home(private: Path) -> Path:
    """Make a folder of a user without rights, with an archive and an empty folder."""
    home = private / "home"
    (home / "place").mkdir(parents=True)
    shutil.copy(private / "tree.onggi", home / "his.onggi")
    for path in (home, *home.iterdir()):
        os.chown(path, NOBODY, NOBODY)
    return home


@pytest.mark.needs("setpriv", "unshare", "nsenter")
def test_any_user_mounts_and_unmounts(open_folder: Path, private: Path, tmp_path: Path) -> None:
    home, scratch = his_home(private), tmp_path / "scratch"
    place = home / "place"
    for folder in (scratch, open_folder / "empty"):
        folder.mkdir()
    with own_mounts(scratch) as inside:
        words = (*inside, *ONGGI_AS_NOBODY)
        run(*words, "mount", "--quiet", home / "his.onggi", place, "--log", home / "log")
        try:
            listing = run(*inside, "cat", "/proc/self/mountinfo").decode()
            [line] = [line for line in listing.splitlines() if f" {place} " in line]
            assert {"ro", "nosuid", "nodev"} <= set(line.split()[5].split(","))
            assert f"user_id={NOBODY}" in line
            assert "fuse.onggi" in line
            inside_as_nobody = (*inside, *AS_NOBODY)
            assert run(*inside_as_nobody, "cat", place / "nobody") == b"jar"
            assert run(*inside_as_nobody, "ls", place).split() == [
                b"acl",
                b"all",
                b"nobody",
                b"root",
            ]
            assert tried(*inside_as_nobody, "cat", place / "root").returncode == 1
            # Not even root sees it.
            done = tried(*inside, "ls", place)
            assert done.returncode
            assert b"Permission denied" in done.stderr
            [pid] = servers_of(place)
            assert os.stat(f"/proc/{pid}").st_uid == NOBODY
            # Somebody opens a file: it is in use.
            with subprocess.Popen(
                [*inside_as_nobody, "sh", "-c", f"exec <{place}/all; echo up; exec sleep 30"],
                stdout=subprocess.PIPE,
            ) as user:
                assert user.stdout is not None
                assert user.stdout.readline() == b"up\n"
                done = tried(*words, "umount", place)
                assert done.returncode == 6, done.stderr
                assert len(done.stderr.splitlines()) == 1
                user.kill()
            run(*words, "umount", "--quiet", place)
            assert place.name not in run(*inside, "cat", "/proc/self/mountinfo").decode()
            assert wait_for(lambda: not servers_of(place))
            # What only root may do is told.
            for words_more, code in (
                ((home / "his.onggi", place, "-o", "allow_other"), 6),
                ((private / "tree.onggi", place), 5),
                ((home / "his.onggi", private / "tree"), 7),
                ((home / "his.onggi", open_folder / "empty"), 6),
            ):
                done = tried(*words, "mount", *words_more, timeout_s=20)
                assert done.returncode == code, done.stderr
                assert len(done.stderr.splitlines()) == 1, done.stderr
        finally:
            for pid in servers_of(place):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.needs("setpriv", "unshare", "nsenter")
def test_a_user_whose_process_was_killed_unmounts_what_is_left(
    private: Path, tmp_path: Path
) -> None:
    home, scratch = his_home(private), tmp_path / "scratch"
    place = home / "place"
    scratch.mkdir()
    with own_mounts(scratch, "user_allow_other") as inside:
        words = (*inside, *ONGGI_AS_NOBODY)
        run(*words, "mount", "--quiet", home / "his.onggi", place, "-o", "allow_other")
        assert run(*inside, "cat", place / "all") == b"jar"
        [pid] = servers_of(place)
        os.kill(pid, signal.SIGKILL)
        assert wait_for(lambda: not servers_of(place))
        # A call that the kernel takes before it knows of the end is aborted: another error.
        told = os.strerror(errno.ENOTCONN).encode()
        look = (*inside, *AS_NOBODY, "ls", place)
        assert wait_for(lambda: told in tried(*look, timeout_s=10).stderr)
        run(*words, "umount", "--quiet", place)
        assert run(*inside, *AS_NOBODY, "ls", place) == b""


# --- mount(8) and fstab --------------------------------------------------------------------------


@pytest.mark.needs("unshare")
def test_mount_and_fstab_know_it(archive: Path, place: Path, tmp_path: Path) -> None:
    """With the helper of mount(8) where it belongs, and an fstab, in a system of their own."""
    helper = Path(sys.executable).with_name("mount.fuse.onggi")
    assert helper.exists(), "the distribution has no mount.fuse.onggi"
    for name in ("sbin", "upper", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "sbin" / "mount.fuse.onggi").symlink_to(helper)
    options = "noauto,nofail,cache=8M,uid=7,_netdev"
    (tmp_path / "fstab").write_text(f"{archive} {place} fuse.onggi {options} 0 0\n")
    script = f"""
        set -e
        mount -t overlay overlay -o lowerdir={tmp_path}/sbin:/usr/sbin /usr/sbin
        mount --bind {tmp_path}/fstab /etc/fstab
        mount -t fuse.onggi {archive} {place} -o uid=5
        stat -c %u {place}/big
        findmnt -n -o FSTYPE {place}
        umount {place}
        mount {place}
        stat -c %u {place}/big
        cat {place}/folder/file
        umount {place}
        mount -t fuse.onggi {tmp_path}/none.onggi {place} && exit 1
        ! findmnt {place}
    """
    done = tried("unshare", "-m", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [b"5", b"fuse.onggi", b"7", b"kimchi"]
    assert b"none.onggi" in done.stderr
    assert b"Traceback" not in done.stderr
    assert wait_for(lambda: not servers_of(place))
