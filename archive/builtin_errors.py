"""Errors of the library that are built-in ones too, so that code which handles files handles them.

Owns: which errno and which built-in class stand for what. Pure; safe in any thread.
"""

from __future__ import annotations

import errno
from typing import Self

from .errors import BadUseError, SourceError


def shown(path: bytes) -> str:
    """Return a path for a message, in quotes."""
    return repr(path.decode(errors="backslashreplace"))


class PathError(BadUseError, OSError):
    """A path does not lead to what was asked for.

    Attributes:
        errno: as the system has it for a folder.
        filename: the path, as bytes.
    """

    _number = errno.EINVAL

    @classmethod
    def of(cls, place: bytes, problem: str, path: bytes | None = None) -> Self:
        """Return the error that what stands at `place` is a problem.

        Args:
            place: a path inside the archive.
            problem: what follows it in the message.
            path: what was asked for, if that is another path.
        """
        return cls(cls._number, f"{shown(place)} {problem}", place if path is None else path)

    def __str__(self) -> str:
        return str(self.strerror)


class EntryNotFoundError(PathError, FileNotFoundError):
    """Nothing stands at the path."""

    _number = errno.ENOENT


class IsDirectoryError(PathError, IsADirectoryError):
    """A directory stands at the path, where a file was asked for."""

    _number = errno.EISDIR


class NotDirectoryError(PathError, NotADirectoryError):
    """Something else than a directory stands at the path, or above it."""

    _number = errno.ENOTDIR


class NoFileError(PathError):
    """A symbolic link, a device or a FIFO stands at the path, where a file was asked for."""


class ReadOnlyError(PathError):
    """An archive can't be written to."""

    _number = errno.EROFS


class ArchiveMissingError(SourceError, FileNotFoundError):
    """There is no archive at that path."""

    def __str__(self) -> str:
        return str(self.strerror)


class ArchiveClosedError(BadUseError, ValueError):
    """The archive was closed, and can't be read any more."""
