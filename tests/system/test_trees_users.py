"""Trees of users: without the rights of root, and under other names of owners."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .tree_corpus import EXT4, differences, filesystem, make_corpus, noisy, snapshot
from .tree_helpers import NEEDS, Corpus, hold_same, names_in
from .tree_helpers import corpus as corpus
from .tree_helpers import target as target

pytestmark = NEEDS

USER = 1000


# --- as another user -----------------------------------------------------------------------------

# All of Onggi is imported before the rights go, and what it imports late: the interpreter may stand
# where only root can read.
# The last call makes /proc/self readable again, as it is for a process that began as that user.
_AS_USER = """
import ctypes, importlib, os, pkgutil, sys, tempfile
import onggi, onggi.archive, onggi.cli
for package in (onggi.archive, onggi.cli):
    for each in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if not each.name.endswith("__main__"):
            importlib.import_module(each.name)
os.setgroups([]); os.setresgid(*[int(sys.argv[1])] * 3); os.setresuid(*[int(sys.argv[1])] * 3)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
sys.argv[1:] = sys.argv[2:]
onggi.cli.main.main()
"""


@pytest.fixture
def home(onggi: Any) -> Iterator[Path]:
    """Give a folder of a user without rights; the command runs there, and as that user.

    pytest's own folders are root's alone.
    """
    folder = Path(tempfile.mkdtemp(prefix="onggi-test-"))
    os.chown(folder, USER, USER)
    onggi.folder = folder
    onggi.command = [sys.executable, "-c", _AS_USER, str(USER)]
    yield folder
    shutil.rmtree(folder)


def as_user(action: Callable[[], None]) -> None:
    """Do something in a child that has no rights."""
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(USER, USER, USER)
            os.setresuid(USER, USER, USER)
            action()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_any_user_packs_and_unpacks_what_is_his(home: Path, onggi: Any) -> None:
    with filesystem(home / "ext4", EXT4) as place:
        os.chown(place, USER, USER)
        (place / "source").mkdir()
        os.chown(place / "source", USER, USER)
        as_user(lambda: make_corpus(place / "source", EXT4, privileged=False))
        expected = snapshot(place / "source")
        assert len(expected) > 200
        ran = onggi.ok("pack", place / "source", "a.onggi", "--json")
        assert ran.findings == []
        onggi.ok("verify", "a.onggi", "--against", place / "source")
        ran = onggi.ok("unpack", "a.onggi", place / "back", "--same-owner", "--json")
        assert ran.findings == []
        hold_same(place / "source", place / "back", expected)
        # Without owners, no file is setuid: it could be so for another user than it was.
        ran = onggi("unpack", "a.onggi", place / "safe", "--json")
        told = {os.fsencode(finding["path"]) for finding in ran.findings}
        found = snapshot(place / "safe")
        changed = {path for path, entry in expected.items() if found[path] != entry}
        assert changed == told
        assert b"modes/file-4755" in told
        for path in told:
            assert found[path].mode == expected[path].mode & ~0o6000


def test_what_a_user_may_not_read_is_told_and_all_else_is_packed(home: Path, onggi: Any) -> None:
    tree = home / "tree"
    for name in ("closed/inside", "open/mine", "secret", "plain"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(noisy(20_000, len(name)))
    (tree / "closed").chmod(0o700)
    (tree / "secret").chmod(0o600)
    ran = onggi("pack", tree, "a.onggi", "--json")
    assert ran.code == 1, ran.err
    assert sorted(finding["path"] for finding in ran.findings) == ["closed", "secret"]
    assert onggi("verify", "a.onggi").code in (0, 1)
    # The folder is there, without what is in it; the file is not, or is marked as incomplete.
    assert names_in("a.onggi", home) - {"secret"} == {"closed", "open", "open/mine", "plain"}
    onggi("unpack", "a.onggi", "back")
    assert (home / "back" / "plain").read_bytes() == noisy(20_000, 5)
    ran = onggi.fails(5, "pack", tree / "closed", "b.onggi")
    assert os.strerror(errno.EACCES) in ran.err


def test_what_a_user_may_not_restore_is_told_by_path_and_kind(
    corpus: Corpus, home: Path, onggi: Any
) -> None:
    archive = home / "corpus.onggi"
    shutil.copy(corpus.archive(onggi_as_root(onggi)), archive)
    archive.chmod(0o644)
    with filesystem(home / "ext4", EXT4) as place:
        os.chown(place, USER, USER)
        ran = onggi("unpack", archive, place / "back", "--json")
        assert ran.code == 1, ran.err
        found = snapshot(place / "back")
        told: dict[bytes, str] = {}
        for finding in ran.findings:
            path = os.fsencode(finding["path"])
            told[path] = told.get(path, "") + finding["message"]
        lost = {path for path, e in corpus.entries.items() if e.device}
        # What can't be made at all, and only that.
        assert set(corpus.entries) - set(found) == lost
        assert lost <= set(told)
        for path, entry in corpus.entries.items():
            names = {name for name, _ in entry.attributes if not name.startswith("user.")}
            names -= {"system.posix_acl_access", "system.posix_acl_default"}
            for name in names if path not in lost and not entry.same_as else ():
                assert name in told[path], path
            if entry.flags & 0x30 and not entry.same_as:
                assert "flags" in told[path], path
        # Owners are no finding: nobody but root restores them. Nor are they changed into setuid
        # programs of somebody else.
        expected = {path: entry for path, entry in corpus.entries.items() if path not in lost}
        ignored = ("uid", "gid", "flags", "attributes", "mode", "same_as")
        assert differences(expected, found, ignore=ignored) == []
        for path, entry in expected.items():
            assert (found[path].uid, found[path].gid) == (USER, USER)
            assert found[path].mode & 0o777 == entry.mode & 0o777, path
            mine = [(name, value) for name, value in entry.attributes if name[:5] == "user."]
            kept = [(name, value) for name, value in found[path].attributes if name[:5] == "user."]
            assert mine == kept, path


def onggi_as_root(onggi: Any) -> Any:
    """Return the same command, as root."""
    return type(onggi)(onggi.folder)


# --- owners --------------------------------------------------------------------------------------


@pytest.mark.needs("mount", "unshare")
def test_owners_are_found_by_name_where_the_target_knows_it(onggi: Any, target: Path) -> None:
    tree = onggi.folder / "tree"
    tree.mkdir()
    for name, (uid, gid) in {"known": (5001, 5002), "unknown": (5003, 5004)}.items():
        (tree / name).write_bytes(b"x")
        os.chown(tree / name, uid, gid)

    def system(uid: int, gid: int) -> tuple[str, ...]:
        """Run under a system that knows a user and a group by other numbers."""
        for file, line in (("passwd", f"kimchi:x:{uid}:{gid}::/:/bin/false"),
                           ("group", f"jars:x:{gid}:")):  # fmt: skip
            text = Path(f"/etc/{file}").read_text()
            (onggi.folder / f"{file}-{uid}").write_text(f"{text.rstrip()}\n{line}\n")
        mount = f"mount --bind passwd-{uid} /etc/passwd && mount --bind group-{uid} /etc/group"
        return ("unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh")

    onggi.ok("pack", tree, "a.onggi", prefix=system(5001, 5002))
    cases = {
        ("by-name",): ((6001, 6002), (5003, 5004)),
        ("by-number", "--numeric-owner"): ((5001, 5002), (5003, 5004)),
        ("nobody", "--no-same-owner"): ((0, 0), (0, 0)),
    }
    for (name, *options), owners in cases.items():
        onggi.ok("unpack", "a.onggi", target / name, *options, prefix=system(6001, 6002))
        found = [(target / name / file).stat() for file in ("known", "unknown")]
        assert tuple((each.st_uid, each.st_gid) for each in found) == owners, name
    # GNU tar does the same.
    (target / "tar").mkdir()
    tar = ("tar", "-C", str(target / "tar"), "--zstd", "-xpf", str(onggi.folder / "a.onggi"))
    subprocess.run([*system(6001, 6002), *tar], check=True, cwd=onggi.folder)
    assert ((target / "tar" / "known").stat().st_uid, 6002) == (6001, 6002)
