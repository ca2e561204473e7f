"""Errors and findings of the engine, named for what the caller does next.

Owns: every exception type that leaves `onggi.archive`, and the record of a finding. Knows no
exit code, no errno table and no terminal: the edge translates. Pure; safe in any thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class OnggiError(Exception):
    """Root of all errors that the engine raises on purpose."""

    code = "error"


class NotAnArchiveError(OnggiError):
    """The bytes are no Onggi archive: use another program, or another file."""

    code = "not-an-archive"


class UnsupportedError(OnggiError):
    """The archive is of a version, kind or feature that this code does not know."""

    code = "unsupported"


class DamagedError(OnggiError):
    """The archive is damaged; `verify` says where, `--salvage` restores the rest.

    Attributes:
        part: what is damaged: header, unit, frame, page, footer ...
        archive_offset: its place in the archive, in bytes, or None.
        unit: unit number, or None.
        frame: number of the frame in its unit, or None.
    """

    code = "corrupt"

    def __init__(
        self,
        part: str,
        problem: str,
        *,
        archive_offset: int | None = None,
        unit: int | None = None,
        frame: int | None = None,
    ) -> None:
        self.part = part
        self.problem = problem
        self.archive_offset = archive_offset
        self.unit = unit
        self.frame = frame
        place = "" if archive_offset is None else f" at byte {archive_offset}"
        super().__init__(f"{part}{place}: {problem}")

    def located(self, unit: int, frame: int | None = None) -> DamagedError:
        """Return the same error with its unit and frame filled in."""
        return type(self)(
            self.part, self.problem, archive_offset=self.archive_offset, unit=unit, frame=frame
        )


class TruncatedError(DamagedError):
    """The archive ends before its footer."""

    code = "truncated"


class BadUseError(OnggiError):
    """The caller asked for something that can't be: a bad size, a bad combination."""

    code = "bad-use"


class SourceError(OnggiError):
    """An input can't be opened or read."""

    code = "source-unreadable"


class SourceChangedError(SourceError):
    """The source shrank while it was read, so that the archive would be wrong."""

    code = "source-changed"


class StoreError(OnggiError):
    """The target can't be written: it exists, there is no space, no permission, an I/O error."""

    code = "target-failed"


class RefusedError(OnggiError):
    """The operation would destroy something, and was not told to."""

    code = "refused"


class Severity(StrEnum):
    """What a finding means for the reader of a report."""

    DAMAGE = "damage"  # the archive is not what its writer wrote
    DIFFERENCE = "difference"  # the archive is whole, the source differs from it
    WARNING = "warning"  # the archive is whole, but something was off when it was made


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and where.

    Attributes:
        code: short, stable name for programs.
        severity: see Severity.
        message: one sentence for people.
        unit: unit number, or None.
        frame: number of the frame in its unit, or None.
        content_offset: first content byte concerned, or None.
        content_bytes: how many content bytes are concerned, or None.
        archive_offset: place in the archive, or None.
        path: of the entry concerned, from the root of the tree, or None. Bytes that are no UTF-8
            are in it as `os.fsdecode` has them.
    """

    code: str
    severity: Severity
    message: str
    unit: int | None = None
    frame: int | None = None
    content_offset: int | None = None
    content_bytes: int | None = None
    archive_offset: int | None = None
    path: str | None = None
