"""A verification as the library gives it: a record, with its findings.

Owns: the record of a verification. Must not know how anything is verified.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .arguments import worker_count
from .errors import BadUseError, Finding
from .progress import Report
from .store import Store
from .verify import Level, verify


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verification came to.

    Attributes:
        level: how deep it went.
        is_whole: whether nothing is damaged. There may still be findings, of what was off when the
            archive was made.
        content_bytes: length of the content, as far as it is known.
        units: units that were looked at.
        damaged_units: units with a finding of damage.
        findings: all findings; empty if `found` was given.
    """

    level: Level
    is_whole: bool
    content_bytes: int
    units: int
    damaged_units: int
    findings: tuple[Finding, ...]


def run_verification(
    store: Store,
    level: str,
    threads: int | None,
    found: Callable[[Finding], None] | None,
    report: Report,
) -> Verification:
    """Verify what is in a store; arguments and errors are those of `api.verify_archive`."""
    if level not in list(Level):
        raise BadUseError(f"there is no level {level!r}, but {', '.join(Level)}")
    findings: list[Finding] = []
    verified = verify(
        store, Level(level), threads=worker_count(threads),
        found=findings.append if found is None else found, report=report,
    )  # fmt: skip
    return Verification(
        Level(level), verified.is_whole, verified.content_bytes, verified.units,
        verified.damaged_units, tuple(findings),
    )  # fmt: skip
