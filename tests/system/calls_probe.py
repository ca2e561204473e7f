"""Makes every system call that takes a path on every path below a folder; prints how each ended.

Runs as a program of its own, of root: calls_probe.py FOLDER UID; it becomes that user. It tries
whatever would change something, too: so it refuses folders that are not mounted read-only, and
makes the folder its root, or symbolic links would lead it out of there. Prints JSON: {path: {call:
outcome}}, with an error's name or what a successful call returned, as far as it does not depend on
where the folder is mounted.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator

_MOST_NAMES = 40  # of a directory
_LONG = b"n" * 255


def main() -> None:
    """Print the outcomes below the folder that is named on the command line."""
    if not os.statvfs(sys.argv[1]).f_flag & os.ST_RDONLY:
        raise SystemExit(f"{sys.argv[1]} is not mounted read-only")
    os.chroot(sys.argv[1])
    os.chdir("/")
    if user := int(sys.argv[2]):
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    found = {
        path.decode("utf-8", "surrogateescape"): {
            name: _outcome(call) for name, call in _calls(path)
        }
        for path in _paths()
    }
    json.dump(found, sys.stdout)


def _paths() -> Iterator[bytes]:
    yield b"."
    folders = [b"."]
    while folders:
        folder = folders.pop()
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue  # the outcome of listing is compared too
        for name in names[:_MOST_NAMES]:
            path = folder + b"/" + name
            yield path
            try:
                if stat.S_ISDIR(os.lstat(path).st_mode):
                    folders.append(path)
            except OSError:
                continue
        # What is not there, in each directory: names that are missing, or too long.
        yield folder + b"/missing"
        yield folder + b"/missing/below"
        yield folder + b"/" + _LONG
        yield folder + b"/" + _LONG + b"n"


def _outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))


def _calls(path: bytes) -> Iterator[tuple[str, Callable[[], object]]]:
    fd_flags = os.O_NONBLOCK | os.O_CLOEXEC

    def opened(flags: int) -> Callable[[], object]:
        def call() -> object:
            file = os.open(path, flags | fd_flags, 0o600)
            os.close(file)
            return "opened"

        return call

    def seek(whence: int, offset: int) -> Callable[[], object]:
        def call() -> object:
            file = os.open(path, os.O_RDONLY | fd_flags)
            try:
                return os.lseek(file, offset, whence)
            finally:
                os.close(file)

        return call

    def size(follow: bool) -> Callable[[], object]:
        def call() -> object:
            found = os.stat(path, follow_symlinks=follow)
            is_file = stat.S_ISREG(found.st_mode)
            return [found.st_mode, found.st_uid, found.st_gid, is_file and found.st_size]

        return call

    yield "stat", size(True)
    yield "lstat", size(False)
    yield "stat of it/", lambda: os.stat(path + b"/").st_mode
    yield "stat of it/.", lambda: os.stat(path + b"/.").st_mode
    yield "stat of it/x", lambda: os.stat(path + b"/x").st_mode
    yield "listdir", lambda: sorted(os.fsdecode(name) for name in os.listdir(path))
    yield "readlink", lambda: os.readlink(path).hex()
    for mode in (os.F_OK, os.R_OK, os.W_OK, os.X_OK, os.R_OK | os.X_OK):
        yield f"access {mode}", lambda mode=mode: os.access(path, mode)
    for name in ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_PATH"):
        yield name, opened(getattr(os, name))
    for name in ("O_TRUNC", "O_CREAT", "O_APPEND", "O_DIRECTORY", "O_NOFOLLOW", "O_TMPFILE"):
        yield f"{name} O_RDONLY", opened(getattr(os, name))
        yield f"{name} O_RDWR", opened(getattr(os, name) | os.O_RDWR)
    yield "O_CREAT O_EXCL", opened(os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    if stat.S_ISREG(_mode(path)):
        for whence in (os.SEEK_DATA, os.SEEK_HOLE, os.SEEK_END):
            for offset in (0, 1, -1, 1 << 40):
                yield f"lseek {whence} {offset}", seek(whence, offset)
    for follow in (True, False):
        how = "" if follow else " of the link"
        yield f"listxattr{how}", lambda f=follow: sorted(os.listxattr(path, follow_symlinks=f))
        for name in ("user.missing", "trusted.missing", "security.capability", "nonsense"):
            yield (
                f"getxattr {name}{how}",
                lambda n=name, f=follow: os.getxattr(path, n, follow_symlinks=f).hex(),
            )
        yield (
            f"setxattr{how}",
            lambda f=follow: os.setxattr(path, "user.new", b"1", follow_symlinks=f),
        )
        yield (
            f"removexattr{how}",
            lambda f=follow: os.removexattr(path, "user.missing", follow_symlinks=f),
        )
        yield f"chown{how}", lambda f=follow: os.chown(path, 1, 1, follow_symlinks=f)
        yield f"utime{how}", lambda f=follow: os.utime(path, ns=(0, 0), follow_symlinks=f)
        yield f"link{how}", lambda f=follow: os.link(path, b"./linked", follow_symlinks=f)
    yield "chmod", lambda: os.chmod(path, 0o777)
    yield "truncate", lambda: os.truncate(path, 1)
    yield "unlink", lambda: os.unlink(path)
    yield "rmdir", lambda: os.rmdir(path)
    yield "mkdir", lambda: os.mkdir(path)
    yield "mkdir below", lambda: os.mkdir(path + b"/new")
    yield "symlink", lambda: os.symlink(b"target", path)
    yield "symlink below", lambda: os.symlink(b"target", path + b"/new")
    yield "mkfifo", lambda: os.mkfifo(path)
    yield "mknod below", lambda: os.mknod(path + b"/new", stat.S_IFREG | 0o600)
    yield "rename away", lambda: os.rename(path, b"./renamed")
    yield "rename onto itself", lambda: os.rename(path, path)
    yield "rename onto the root", lambda: os.rename(path, b".")
    yield "chdir and back", lambda: _there_and_back(path)
    yield "statvfs", lambda: os.statvfs(path).f_flag & os.ST_RDONLY


def _mode(path: bytes) -> int:
    try:
        return os.stat(path).st_mode
    except OSError:
        return 0


def _there_and_back(path: bytes) -> None:
    here = os.open(b".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chdir(path)
        os.fchdir(here)
    finally:
        os.close(here)


if __name__ == "__main__":
    main()
