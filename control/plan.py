"""Plans: which data, to which target, when, and what of the archives is kept.

A plan is the reservation of the patent that the method comes from. Owns: the record. What its
fields may hold is in `plan_check`. Pure: must not know files of plans, databases or clocks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

MODES = ("auto", "tree", "volume")


class Verify(StrEnum):
    """When archives of a plan are proven right."""

    AFTER = "after"
    WEEKLY = "weekly"
    NEVER = "never"


class VerifyBy(StrEnum):
    """How: digests of the archive; archive against source; or a restore against source."""

    CONTENT = "content"
    SOURCE = "source"
    RESTORE = "restore"


@dataclass(frozen=True, slots=True)
class Keep:
    """Which archives of a plan are kept: one that any of these rules keeps. None at all: all are.

    Attributes:
        last: the newest so many.
        hourly, daily, weekly, monthly, yearly: the newest of each of the newest so many periods
            that have one.
        within_days: those that are not older, counted from the newest one.
    """

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within_days: int = 0

    @property
    def keeps_all(self) -> bool:
        """Whether there is no rule."""
        return not any(asdict(self).values())


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan. Its archives are TARGET/NAME/*.onggi.

    Attributes:
        name: of letters, digits and `_.-`.
        source: absolute path of a folder, a volume or a disk image.
        target: absolute path of a folder, which holds a marker file once it is in use.
        mode: auto, tree or volume.
        every: 6h, 3d or 2w; empty if there is a cron expression, or none of both.
        at: HH:MM at which those of days and weeks start.
        cron: five fields, as crontab(5) has them.
        timezone: IANA name; in which `at`, `cron` and `window` are told.
        keep: which archives are kept.
        verify, verify_by: when and how archives are proven right.
        window: HH:MM-HH:MM, outside of which no run starts, and one that is running is stopped;
            may span midnight; empty for always.
        retries: how often a run that failed is tried again.
        limit_bytes_per_s: of reading the source; 0 for no limit.
        nice: whether the work stands back behind other processes.
        level: of zstd.
        exclude: patterns of what is left out of a tree.
        is_paused: whether it starts no runs by itself.
    """

    name: str
    source: str
    target: str
    mode: str = "auto"
    every: str = ""
    at: str = "00:00"
    cron: str = ""
    timezone: str = "UTC"
    keep: Keep = field(default_factory=Keep)
    verify: Verify = Verify.AFTER
    verify_by: VerifyBy = VerifyBy.CONTENT
    window: str = ""
    retries: int = 3
    limit_bytes_per_s: int = 0
    nice: bool = False
    level: int = 3
    exclude: tuple[str, ...] = ()
    is_paused: bool = False

    @property
    def folder(self) -> str:
        """The folder of its archives."""
        return f"{self.target.rstrip('/')}/{self.name}"

    @property
    def is_scheduled(self) -> bool:
        """Whether it has times at which it is due."""
        return bool(self.every or self.cron)

    def as_dict(self) -> dict[str, Any]:
        """Return its fields as JSON has them; `plan_check.plan_from` takes them."""
        return asdict(self) | {"exclude": list(self.exclude)}
