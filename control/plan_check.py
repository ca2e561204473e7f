"""What the fields of a plan may hold, and the way from fields to a plan.

Owns: the checks that need nothing but the plan, and their words, which are those of files of plans
and of the command line. Pure: must not know files of plans, databases or clocks. What cron and
timezones are is known to `schedule`. Whether a path is a link to elsewhere can't be seen here.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, fields, replace
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, TypeVar

from .errors import BadPlanError
from .plan import MODES, Keep, Plan, Verify, VerifyBy

_Enum = TypeVar("_Enum", bound=StrEnum)

CONTROL_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # and what no UTF-8 has

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_SYNTAX = {
    "every": (r"[1-9][0-9]{0,3}[hdw]|", "6h, 3d or 2w"),
    "at": (_TIME, "HH:MM, from 00:00 to 23:59"),
    "cron": (r"[0-9A-Za-z*/,#-]+(?: +[0-9A-Za-z*/,#-]+){4}|", "five fields, such as 30 2 * * 1-5"),
    "timezone": (r"[A-Za-z0-9+_-]{1,64}(?:/[A-Za-z0-9+_-]{1,64}){0,2}", "UTC or Europe/Berlin"),
    "window": (rf"({_TIME})-(?!\1)(?:{_TIME})|", "HH:MM-HH:MM with two different times"),
}
_LIMITS = {"retries": (0, 20), "level": (1, 19)}
_LEAST_RATE_BYTES, _MOST_RATE_BYTES = 1 << 10, 1 << 40
_MOST_KEPT = 100_000
_MOST_PATTERNS = 1000
_MOST_PATH_BYTES = 4095  # PATH_MAX, without the byte that ends it
_KINDS: dict[str, tuple[type, str]] = {
    "str": (str, "text, in quotes"),
    "int": (int, "a whole number"),
    "bool": (bool, "true or false"),
    "Keep": (Keep, "a table of numbers"),
    "Verify": (Verify, "after, weekly or never"),
    "VerifyBy": (VerifyBy, "content, source or restore"),
    "tuple[str, ...]": (tuple, "a list of texts"),
}


def word_for(field: str) -> str:
    """Return what people call a field of a plan, in files and on the command line."""
    words = {"limit_bytes_per_s": "limit", "is_paused": "paused"}
    return words.get(field) or field.replace("_", "-")


def shown(value: object) -> str:
    """Return a value that may be anything as a short piece of one line."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    try:
        return short.repr(value)
    except ValueError:  # a number of thousands of digits
        return "something too long to show"


def unknown(key: object, known: Collection[str]) -> str:
    """Return what to say of a key that nobody knows."""
    near = get_close_matches(str(key)[:64], known, 1)
    return f"there is no key {shown(key)}" + (f"; did you mean {near[0]}?" if near else "")


def check_name(name: object) -> None:
    """Refuse what can't be the name of a plan.

    Raises:
        BadPlanError: it can't.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadPlanError(
            f"{shown(name)} can't be the name of a plan; write up to 64 letters, digits and _.-, "
            "the first a letter or a digit"
        )


def check_plan(plan: Plan) -> Plan:
    """Return a plan that may be used: this one, its paths in their plain form.

    Raises:
        BadPlanError: a field can't be; the line says which, and what to write instead.
    """
    check_name(plan.name)
    for problem in _problems(plan):
        raise BadPlanError(f"plan {plan.name}: {problem}")
    return replace(plan, source=_plain(plan.source), target=_plain(plan.target))


def plan_from(given: Mapping[str, object]) -> Plan:
    """Return the plan that has these fields, as `Plan.as_dict` gives them.

    Raises:
        BadPlanError: a key is unknown or missing, or a field can't be.
    """
    name = given.get("name")
    if name is None:
        raise BadPlanError("a plan has no name; write one")
    check_name(name)
    try:
        plan = Plan(**_values(given))
    except BadPlanError as error:
        raise BadPlanError(f"plan {name}: {error}") from None
    return check_plan(plan)


def _values(given: Mapping[str, object]) -> dict[str, Any]:
    """Return fields as a plan has them; those of simple types are not looked at."""
    known = {field.name: field for field in fields(Plan)}
    for key in given:
        if key not in known:
            raise BadPlanError(unknown(key, known))
    for key, field in known.items():
        if key not in given and field.default is MISSING and field.default_factory is MISSING:
            raise BadPlanError(f"it has no {word_for(key)}; write one")
    values: dict[str, Any] = dict(given)
    for key, enum in (("verify", Verify), ("verify_by", VerifyBy)):
        if key in values:
            values[key] = _member(enum, values[key], word_for(key))
    if isinstance(values.get("exclude"), list):
        values["exclude"] = tuple(values["exclude"])
    keep = values.get("keep")
    if isinstance(keep, Mapping):
        rules: dict[str, Any] = {str(key): value for key, value in keep.items()}  # pyright: ignore
        names = [field.name for field in fields(Keep)]
        for key in rules:
            if key not in names:
                raise BadPlanError(f"keep: {unknown(key, names)}")
        values["keep"] = Keep(**rules)
    return values


def _member(enum: type[_Enum], value: object, word: str) -> _Enum:
    try:
        return enum(str(value))
    except ValueError:
        raise BadPlanError(f"{word} is {shown(value)}; write {_choice(list(enum))}") from None


def _problems(plan: Plan) -> Iterator[str]:
    """Yield what is wrong. Only the first is sure: the others take what is before for granted."""
    for field in fields(Plan):
        value = getattr(plan, field.name)
        kind, said = _KINDS[str(field.type)]
        # For Python true is a number.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            yield f"{word_for(field.name)} is {shown(value)}; write {said}"
        if isinstance(value, str) and (found := CONTROL_CHARACTERS.search(value)):
            yield f"{word_for(field.name)} has {found[0]!r} in it; write it without"
    yield from _problems_of_paths(plan)
    if plan.mode not in MODES:
        yield f"mode is {shown(plan.mode)}; write {_choice(MODES)}"
    yield from _problems_of_times(plan)
    yield from _problems_of_numbers(plan)
    yield from _problems_of_patterns(plan)


def _problems_of_paths(plan: Plan) -> Iterator[str]:
    for word, path in (("source", plan.source), ("target", plan.target)):
        if not path.startswith("/"):
            yield f"{word} is {shown(path)}; write a whole path, which starts with /"
        if not {".", ".."}.isdisjoint(path.split("/")):
            yield f"{word} is {shown(path)}; write it without . and .."
        if len(path.encode()) > _MOST_PATH_BYTES:
            yield f"{word} is longer than {_MOST_PATH_BYTES} bytes, so there can't be such a path"
    source, target = _plain(plan.source), _plain(plan.target)
    if target == "/":
        yield "target is /; write a folder below it"
    if source == target:
        yield f"source and target are both {shown(source)}; write another target"
    if _is_below(target, source):
        other = "the device as source" if plan.mode == "volume" else "a target outside of it"
        yield (
            f"target {shown(target)} is below source {shown(source)}, so archives would hold "
            f"archives; write {other}"
        )
    if plan.mode != "volume" and _is_below(source, target):  # an image may lie near its archives
        yield (
            f"source {shown(source)} is below target {shown(target)}; write another target, or "
            "mode volume if source is a disk image"
        )


def _problems_of_times(plan: Plan) -> Iterator[str]:
    for field, (syntax, said) in _SYNTAX.items():
        value = str(getattr(plan, field))
        if not re.fullmatch(syntax, value):
            yield f"{field} is {shown(value)}; write {said}"
    if plan.every and plan.cron:
        yield "every and cron are both set; write one of them"
    if plan.at != "00:00" and plan.every[-1:] not in ("d", "w"):
        yield f"at is {plan.at} without days or weeks to start at it; write every, such as 1d, too"


def _problems_of_numbers(plan: Plan) -> Iterator[str]:
    for field, (least, most) in _LIMITS.items():
        value = getattr(plan, field)
        if not least <= value <= most:
            yield f"{field} is {shown(value)}; write {least} to {most}"
    rate = plan.limit_bytes_per_s
    if rate and not _LEAST_RATE_BYTES <= rate <= _MOST_RATE_BYTES:
        yield f"limit is {shown(rate)} bytes a second; write 1K to 1024G, or 0 for none"
    for rule in fields(Keep):
        value = getattr(plan.keep, rule.name)
        word = f"keep {word_for(rule.name)}"
        if not isinstance(value, int) or isinstance(value, bool):
            yield f"{word} is {shown(value)}; write a whole number"
        if not 0 <= value <= _MOST_KEPT:
            yield f"{word} is {shown(value)}; write 0 to {_MOST_KEPT}"


def _problems_of_patterns(plan: Plan) -> Iterator[str]:
    if len(plan.exclude) > _MOST_PATTERNS:
        yield f"exclude has {len(plan.exclude)} patterns; write {_MOST_PATTERNS} at most"
    for pattern in plan.exclude:
        if not isinstance(pattern, str) or not pattern:  # pyright: ignore
            yield f"exclude has {shown(pattern)} in it; write patterns, in quotes"
        if CONTROL_CHARACTERS.search(pattern) or len(pattern.encode()) > _MOST_PATH_BYTES:
            yield f"exclude has {shown(pattern)} in it, which matches no path; leave it out"
    if plan.exclude and plan.mode == "volume":
        yield "exclude is for trees; leave it out, or write mode tree"


def _plain(path: str) -> str:
    """Return a path without slashes that mean nothing."""
    return "/" + "/".join(part for part in path.split("/") if part)


def _is_below(path: str, folder: str) -> bool:
    return path != folder and path.startswith(folder.rstrip("/") + "/")


def _choice(words: Collection[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}"
