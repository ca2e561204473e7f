"""What a manager does itself in the folder that archives go to, around the work of commands.

Owns: the marker, the folder of a plan, temporary files and scratch that killed work left, and the
removal of archives. Must not know runs. Nothing here follows a symbolic link below the target, or
touches what is elsewhere. All of it may wait for disks; safe in any thread.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress

from .errors import ConflictError
from .scratch import remove_tree
from .work import MARKER_NAME

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOST_MARKER_BYTES = 4096
_SUFFIX = ".onggi"
_STEM_BYTES = 200  # a longer name is cut in that of its temporary file: archive.store.NewFile


class Target:
    """A target.

    Whatever is done in it is done in the folder that has the right marker at that moment, even if
    something else is mounted there meanwhile.

    Args:
        path: of its folder.
        marker: what its marker file must hold.

    All methods raise ConflictError if the marker is not there, or if the system refuses; and if a
    path is not where it must be.
    """

    def __init__(self, path: str, marker: str) -> None:
        self.path = os.path.normpath(path)
        self._marker = marker

    def check(self) -> None:
        """Check that it is there, and the one that it was."""
        with self._opened():
            pass

    def prepare(self, archive: str) -> bool:
        """Make the folder that an archive is to be in; return whether the archive is there."""
        folder = self._place(archive)[0]
        with self._opened() as target, _said("make a folder in", self.path):
            try:
                os.mkdir(folder, 0o700, dir_fd=target)
                os.fsync(target)
            except FileExistsError:
                pass
            with self._parent(target, archive) as fd:
                return _status(fd, archive) is not None

    def archive_bytes(self, archive: str) -> int | None:
        """Return how long an archive is, or None if there is none."""
        self._place(archive)
        with self._opened() as target, _said("read", archive):
            try:
                with self._parent(target, archive) as fd:
                    found = _status(fd, archive)
            except FileNotFoundError:
                return None
        return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else None

    def remove_archive(self, archive: str) -> None:
        """Remove an archive; one that is not there is removed."""
        self._place(archive)
        with (
            self._opened() as target,
            _said("remove", archive),
            suppress(FileNotFoundError),
            self._parent(target, archive) as fd,
        ):
            os.unlink(os.path.basename(archive), dir_fd=fd)
            os.fsync(fd)

    def remove_parts(self, path: str) -> None:
        """Remove temporary files of a file that was to be made, and whose writer is dead."""
        with self._opened() as target, _said("remove temporary files of", path):
            self._remove_parts(target, path)

    def remove_scratch(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it, and temporary files of it."""
        with self._opened() as target, _said("remove", path):
            with suppress(FileNotFoundError), self._parent(target, path) as fd:
                remove_tree(fd, os.path.basename(path))
            self._remove_parts(target, path)

    def free_bytes(self) -> int:
        """Return how many bytes are free for who asks."""
        with _said("look at", self.path):
            found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def check_archive(self, path: str) -> None:
        """Check that something may be an archive of a plan: TARGET/PLAN/NAME.onggi."""
        self._place(path)

    def check_scratch(self, path: str, archives: tuple[str, ...]) -> None:
        """Check that something may be scratch: below the target, and not around an archive."""
        self._below(path)
        for kept in (*archives, os.path.join(self.path, MARKER_NAME)):
            if f"{kept}/".startswith(f"{path}/"):
                raise ConflictError(f"{path} can't be scratch: {kept} is there")

    @contextmanager
    def _opened(self) -> Generator[int, None, None]:
        with _said("use the target", self.path):
            fd = os.open(self.path, _FOLDER)
        try:
            self._check_marker(fd)
            yield fd
        finally:
            os.close(fd)

    def _check_marker(self, target: int) -> None:
        found: bytes | None = None
        with _said("read the marker file of the target", self.path), suppress(FileNotFoundError):
            fd = os.open(MARKER_NAME, _FILE, dir_fd=target)
            try:
                found = os.read(fd, _MOST_MARKER_BYTES)
            finally:
                os.close(fd)
        if found is None:
            raise ConflictError(
                f"the target {self.path} is not mounted: its marker file is missing"
            )
        if found.strip() != os.fsencode(self._marker).strip():
            raise ConflictError(
                f"something else is mounted on the target {self.path}: its marker file is another"
            )

    def _place(self, archive: str) -> tuple[str, str]:
        """Return the folder of an archive, in the target, and its name in there."""
        names = self._below(archive)
        if len(names) != 2 or not names[1].endswith(_SUFFIX):
            raise ConflictError(
                f"{archive} can't be an archive of a plan: it is not {self.path}/PLAN/NAME{_SUFFIX}"
            )
        return names[0], names[1]

    def _below(self, path: str) -> list[str]:
        """Return the names of a path from the target on."""
        start = self.path.rstrip("/") + "/"
        names = path.removeprefix(start).split("/")
        if not path.startswith(start) or not {"", ".", ".."}.isdisjoint(names):
            raise ConflictError(f"{path} is not below the target {self.path}")
        return names

    @contextmanager
    def _parent(self, target: int, path: str) -> Generator[int, None, None]:
        """Open the folder that something below the target is in."""
        fd = os.dup(target)
        try:
            for name in self._below(path)[:-1]:
                inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
                os.close(fd)
                fd = inner
            yield fd
        finally:
            os.close(fd)

    def _remove_parts(self, target: int, path: str) -> None:
        stem = re.escape(os.fsencode(os.path.basename(path))[:_STEM_BYTES])
        part = re.compile(rb"\.%b\.[0-9a-f]{8}\.onggi-part" % stem, re.DOTALL)
        with suppress(FileNotFoundError), self._parent(target, path) as fd:
            for name in os.listdir(fd):
                if part.fullmatch(os.fsencode(name)):
                    os.unlink(name, dir_fd=fd)


def _status(folder: int, path: str) -> os.stat_result | None:
    """Return what is known of a file in a folder, or None if there is none."""
    try:
        return os.stat(os.path.basename(path), dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


@contextmanager
def _said(what: str, path: str) -> Generator[None, None, None]:
    """Turn an error of the system into ours."""
    try:
        yield
    except OSError as error:
        raise ConflictError(f"can't {what} {path}: {os.strerror(error.errno or 0)}") from None
