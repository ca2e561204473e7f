"""A master whose manager is a list: what it was sent, and what the test lets it hear."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from onggi.control import messages
from onggi.control.database import Database
from onggi.control.master import Master, Settings
from onggi.control.messages import Cancel, Command, Ended, Start, Work
from onggi.control.model import Run, State
from onggi.control.plan import Keep, Plan, Verify

T0 = 1_795_500_000.0  # 2026-11-24 06:00 UTC
HOUR, DAY = 3600.0, 86_400.0


def make_plan(name: str = "home", **fields: Any) -> Plan:
    """Return a plan that is due at noon UTC, every day."""
    usual: dict[str, Any] = {"every": "1d", "verify": Verify.NEVER}
    if fields.get("every", "1d").endswith("d"):
        usual["at"] = "12:00"
    return Plan(name, f"/data/{name}", "/backup", **{**usual, **fields})


NOON = T0 - T0 % DAY + DAY / 2


class Desk:
    """A master, its database, and what it sent."""

    def __init__(self, folder: Path, *plans: Plan, now_s: float = T0, **settings: Any) -> None:
        self.folder = folder
        self.settings = Settings(**settings)
        self.sent: list[Command] = []
        self.taken: list[int] = []
        self.over: list[Run] = []
        self.open(now_s)
        self.put(*plans, now_s=now_s)

    def open(self, now_s: float) -> None:
        """Start a master, as after a crash if there was one."""
        self.database = Database(self.folder / "onggi.db")
        self.master = Master(
            self.database, self.sent.append, self.taken.append,
            lambda run, _: self.over.append(run), self.settings,
        )  # fmt: skip
        self.master.reload(now_s)

    def crash(self, now_s: float, *, knows: frozenset[int] = frozenset()) -> None:
        """Have the master die, and another one start."""
        self.database.close()
        self.sent.clear()
        self.open(now_s)
        self.master.lose_others(set(knows), now_s)

    def put(self, *plans: Plan, now_s: float = T0) -> None:
        """Make or change plans."""
        self.database.change_plans(plans, [], now_s)
        self.master.reload(now_s)

    def works(self) -> list[Work]:
        """Return the work that was sent since this was last asked."""
        found = [each.work for each in self.sent if isinstance(each, Start)]
        self.sent[:] = [each for each in self.sent if not isinstance(each, Start)]
        return found

    def cancels(self) -> list[int]:
        """Return the runs whose end was asked for since this was last asked."""
        found = [each.run_id for each in self.sent if isinstance(each, Cancel)]
        self.sent[:] = [each for each in self.sent if not isinstance(each, Cancel)]
        return found

    def end(self, work: Work, now_s: float, outcome: str = messages.DONE, **fields: Any) -> Run:
        """Have some work end; return the run as it is then."""
        made = outcome in (messages.DONE, messages.FINDINGS) and work.makes
        usual = {"archive": made or "", "content_bytes": 1000, "archive_bytes": 300}
        self.master.hear(Ended(work.run_id, work.attempt, outcome, **{**usual, **fields}), now_s)
        return self.database.run(work.run_id)

    def backup(self, name: str, now_s: float, **fields: Any) -> Run:
        """Have a backup of a plan done from start to end."""
        run = self.master.ask(name, fields.pop("kind", "backup"), now_s)
        self.master.tick(now_s)
        work = next(work for work in self.works() if work.run_id == run.run_id)
        return self.end(work, now_s + 60, **fields)

    def states(self, name: str = "") -> list[State]:
        """Return the states of all runs, the oldest first."""
        return [run.state for run in reversed(self.database.runs(name, limit=1000))]

    def close(self) -> None:
        """Close the database."""
        self.database.close()


__all__ = ["DAY", "HOUR", "NOON", "T0", "Desk", "Keep", "make_plan", "replace"]
