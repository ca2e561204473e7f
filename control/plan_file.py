"""Files of plans: TOML, for people, to be kept under version control.

Owns: the file's form, and how the plans that are differ from those that a file wants. Its keys are
the words of `plan_check.word_for`; what may stand behind them is checked there. Pure: must not know
where files are, nor databases.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import tomlkit
from tomlkit.items import Table

from .errors import BadPlanError
from .notify import Notify
from .plan import Keep, Plan
from .plan_check import check_name, plan_from, shown, unknown, word_for

_SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30}


@dataclass(frozen=True, slots=True)
class PlanFile:
    """What a file says: plans, in its order, and who is told of runs."""

    plans: list[Plan] = field(default_factory=list[Plan])
    notify: Notify = field(default_factory=Notify)


@dataclass(frozen=True, slots=True)
class Change:
    """How a plan would have to change.

    Attributes:
        name: of the plan.
        kind: add, remove or change.
        fields: key, what is, what is wanted; in the words and forms of a file, a rule of `keep` as
            `keep.daily`. None is what a plan has that is not there. Of a plan that is added or
            removed, only what is no default.
    """

    name: str
    kind: str
    fields: tuple[tuple[str, object, object], ...] = ()


def read_plan_file(text: str) -> PlanFile:
    """Return what a file of plans says.

    Raises:
        BadPlanError: it is no TOML, has a key that is not known, or says what can't be.
    """
    try:
        document: dict[str, object] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadPlanError(f"this is no TOML: {' '.join(str(error).split())}") from None
    for key in document:
        if key not in ("plan", "notify"):
            raise BadPlanError(unknown(key, ("plan", "notify")))
    tables = _table(document.get("plan", {}), "plan", "[plan.NAME]")
    plans = [_plan(name, _table(table, name, "[plan.NAME]")) for name, table in tables.items()]
    notify = Notify.from_dict(_table(document.get("notify", {}), "notify", "[notify]"))
    return PlanFile(plans, notify)


def write_plan_file(file: PlanFile) -> str:
    """Return a file that says this, without what is a default; `read_plan_file` takes it."""
    document = tomlkit.document()
    if file.notify != Notify():
        table = tomlkit.table()
        for key, value in file.notify.as_dict().items():
            if value != Notify().as_dict()[key]:
                table.add(key, value)
        document.add("notify", table)
    plans = tomlkit.table(is_super_table=True)
    for plan in file.plans:
        plans.append(tomlkit.key(plan.name), _plan_table(plan))
    if file.plans:
        document.add("plan", plans)
    return tomlkit.dumps(document)


def differences(have: Sequence[Plan], wanted: Sequence[Plan]) -> list[Change]:
    """Return what to do so that the plans are as wanted: first the wanted ones, in their order.

    Raises:
        BadPlanError: two of the wanted ones have the same name.
    """
    there = {plan.name: plan for plan in have}
    changes: list[Change] = []
    for name, times in Counter(plan.name for plan in wanted).items():
        if times > 1:
            raise BadPlanError(f"plan {name} is wanted {times} times; write it once")
    for plan in wanted:
        old = there.pop(plan.name, None)
        changed = _changed(old, plan)
        if old is None:
            changes.append(Change(plan.name, "add", changed))
        elif changed:
            changes.append(Change(plan.name, "change", changed))
    gone = [Change(plan.name, "remove", _changed(plan, None)) for plan in there.values()]
    return changes + gone


def parse_bytes(text: str) -> int:
    """Return a size in bytes; K, M and G are powers of 1024.

    Raises:
        BadPlanError: this is no size.
    """
    match = re.fullmatch(r"([0-9]{1,18})([KMG]?)", text, re.IGNORECASE)
    if not match:
        raise BadPlanError(f"{shown(text)} is no size; write 4096, 64K or 1M")
    return int(match[1]) << _SHIFTS[match[2].upper()]


def bytes_text(size: int) -> str:
    """Return the shortest text from which `parse_bytes` makes this size."""
    letter = max((one for one, shift in _SHIFTS.items() if size % (1 << shift) == 0 and size),
                 key=lambda one: _SHIFTS[one], default="")  # fmt: skip
    return f"{size >> _SHIFTS[letter]}{letter}"


def _table(value: object, name: str, header: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadPlanError(f"{shown(name)} is no table; write {header}, and its keys below")
    return value  # pyright: ignore[reportUnknownVariableType]


def _plan(name: str, table: Mapping[str, object]) -> Plan:
    check_name(name)
    try:
        given = _fields(table, Plan, "name")
        if (rate := given.get("limit_bytes_per_s")) is not None:
            if not isinstance(rate, str):
                raise BadPlanError(f'limit is {shown(rate)}; write text, such as "80M"')
            given["limit_bytes_per_s"] = parse_bytes(rate)
        if isinstance(keep := given.get("keep"), dict):
            given["keep"] = _fields(keep, Keep)  # pyright: ignore[reportUnknownArgumentType]
    except BadPlanError as error:
        raise BadPlanError(f"plan {name}: {error}") from None
    return plan_from({"name": name, **given})


def _fields(table: Mapping[str, object], kind: type[Plan | Keep], *but: str) -> dict[str, object]:
    """Return what stands in a table by the names of fields."""
    field_of = {word_for(each.name): each.name for each in fields(kind) if each.name not in but}
    for key in table:
        if key not in field_of:
            raise BadPlanError(unknown(key, field_of))
    return {field_of[key]: value for key, value in table.items()}


def _said(plan: Plan) -> dict[str, object]:
    """Return all that a file can say of a plan, by key; a rule of keep is `keep.RULE`."""
    said: dict[str, object] = {}
    for key, value in plan.as_dict().items():
        if key == "limit_bytes_per_s":
            said[word_for(key)] = bytes_text(value)
        elif key == "keep":
            said |= {f"keep.{word_for(rule)}": number for rule, number in value.items()}
        elif key != "name":
            said[word_for(key)] = str(value) if isinstance(value, str) else value
    return said


def _changed(old: Plan | None, new: Plan | None) -> tuple[tuple[str, object, object], ...]:
    """Return what differs; if there is only one of them, what is no default of it."""
    default = _said(Plan("", "", ""))
    have, wanted = (default if plan is None else _said(plan) for plan in (old, new))
    return tuple(
        (key, None if old is None else have[key], None if new is None else wanted[key])
        for key in default
        if have[key] != wanted[key]
    )


def _plan_table(plan: Plan) -> Table:
    table = tomlkit.table()
    keep = tomlkit.inline_table()
    for key, _, value in _changed(None, plan):
        if key.startswith("keep."):
            if not keep:
                table.add("keep", keep)  # where the first of its rules stands
            table["keep"].add(key.removeprefix("keep."), value)
        else:
            table.add(key, value)
    return table
