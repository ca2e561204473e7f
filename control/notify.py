"""Tells people how a run ended: by mail, chat, webhook, or a command of their own.

Owns: who is told (`Notify`), the words of the message, and what a command is given. Must not know
the environment, nor databases. The functions are safe in any thread; `notify` and `check_urls`
wait for other processes, `LIMIT_S` at most for each.
"""

from __future__ import annotations

import json
import re
import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from .errors import BadPlanError
from .model import Kind, Run, State
from .plan import Plan
from .plan_check import CONTROL_CHARACTERS, shown, unknown
from .short_process import Outcome, run_short

LIMIT_S = 30.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_MOST_URLS = 50
_MOST_TEXT = 4096
_MOST_MESSAGE = 2000
_STATES = tuple(state.value for state in State if state.is_final)
_SENDER = (sys.executable, "-P", "-m", "onggi.control.notify_send")
_TYPES = {State.SUCCEEDED: "success", State.WARNED: "warning", State.CANCELLED: "info",
          State.MISSED: "warning"}  # fmt: skip
_WORDS = {
    State.SUCCEEDED: "succeeded",
    State.WARNED: "succeeded with warnings",
    State.FAILED: "failed",
    State.CANCELLED: "was cancelled",
    State.MISSED: "was missed",
    State.LOST: "was lost",
}
_NAMES = {Kind.BACKUP: "backup", Kind.VERIFY: "verification", Kind.PRUNE: "pruning"}


@dataclass(frozen=True, slots=True)
class Notify:
    """Who is told how runs end.

    Attributes:
        urls: of services, as apprise has them: mailto://, json://, ntfy:// and many more. They may
            hold passwords, so they are in no text that this gives.
        command: a command line, run without a shell.
        on: the states of which is told, out of those in which a run can end.
    """

    urls: tuple[str, ...] = field(default=(), repr=False)
    command: str = ""
    on: tuple[str, ...] = ("failed", "warned", "lost", "missed")

    def as_dict(self) -> dict[str, Any]:
        """Return its fields as JSON has them; `from_dict` takes them."""
        return {"urls": list(self.urls), "command": self.command, "on": list(self.on)}

    @classmethod
    def from_dict(cls, given: Mapping[str, object]) -> Notify:
        """Return what has these fields; one that is missing has its default.

        Raises:
            BadPlanError: a key is unknown, or a field can't be.
        """
        known = [each.name for each in fields(cls)]
        values: dict[str, Any] = dict(given)
        for key, value in given.items():
            if key not in known:
                raise BadPlanError(f"notify: {unknown(key, known)}")
            if isinstance(value, list):
                values[key] = tuple(value)  # pyright: ignore[reportUnknownArgumentType]
        return check_notify(cls(**values))


def check_notify(notify: Notify) -> Notify:
    """Return it, if it may be used. Whether apprise knows its URLs is asked by `check_urls`.

    Raises:
        BadPlanError: a field can't be; the line says which, and what to write instead.
    """
    for word, texts in (("urls", notify.urls), ("on", notify.on)):
        if not _are_texts(texts):
            raise BadPlanError(f"notify: {word} must be a list of texts, in quotes")
    if len(notify.urls) > _MOST_URLS:
        raise BadPlanError(f"notify: there are {len(notify.urls)} urls; write {_MOST_URLS} at most")
    for number, url in enumerate(notify.urls, 1):
        if not _URL.fullmatch(url) or _is_unfit(url):
            raise BadPlanError(
                f"notify: number {number} of urls is no URL; write one such as json://host/path or "
                "mailto://user:password@host"
            )
    for state in notify.on:
        if state not in _STATES:
            raise BadPlanError(f"notify: on has {shown(state)} in it; write {', '.join(_STATES)}")
    _command(notify)
    return notify


def check_urls(notify: Notify) -> None:
    """Refuse URLs that apprise can't take; sends nothing.

    Raises:
        BadPlanError: it does not know one, or is not installed.
    """
    if notify.urls:
        errors = _send(notify.urls, {"is_check": True})
        if errors:
            raise BadPlanError(f"notify: {errors[0]}")


def notify(
    run: Run,
    plan: Plan | None,
    notify: Notify,
    environment: Mapping[str, str] | None = None,
    limit_s: float = LIMIT_S,
) -> list[str]:
    """Tell of a run that has ended; of one in another state than `notify.on` has, do nothing.

    All URLs are sent to at the same time, then the command runs, in the folder /.

    Args:
        run: that has ended.
        plan: its plan; None if that is gone.
        notify: who is told.
        environment: of the command, next to ONGGI_*; None for a PATH and nothing else.
        limit_s: how long the URLs may take, and then the command; it is killed after that.

    Returns:
        What did not work, a line each. Never raises for what others do.
    """
    if run.state not in notify.on:
        return []
    subject, body = message(run, plan, socket.gethostname())
    errors: list[str] = []
    if notify.urls:
        more = {"subject": subject, "body": body, "type": _TYPES.get(run.state, "failure")}
        errors += _send(notify.urls, more, limit_s)
    if notify.command:
        told = _variables(run, subject)
        given = json.dumps(asdict(run)).encode()
        errors += _call(notify, given, {**(environment or {"PATH": PATH}), **told}, limit_s)
    return errors


def message(run: Run, plan: Plan | None, host: str) -> tuple[str, str]:
    """Return subject and body of what people are told of a run that has ended."""
    what = f"{_NAMES[run.kind]} of {run.plan} {_WORDS.get(run.state, run.state)}"
    lines = [f"The {what}, on {host}."]
    if run.message:
        lines += ["", _clean(run.message, _MOST_MESSAGE)]
    lines.append("")
    zone = _zone(plan)
    facts: list[tuple[str, str]] = []
    if plan is not None:
        facts += [("source", plan.source), ("target", plan.target)]
    facts.append(("due", _time(run.due_s, zone)))
    if run.started_s is not None:
        facts.append(("started", _time(run.started_s, zone)))
    if run.ended_s is not None:
        facts.append(("ended", _time(run.ended_s, zone)))
    if run.archive:
        size = f", {_size(run.archive_bytes)}" if run.archive_bytes else ""
        facts.append(("archive", f"{_clean(run.archive)}{size}"))
    if run.verified is not None:
        facts.append(("verified", "yes" if run.verified else "no"))
    if run.findings:
        facts.append(("findings", f"{run.findings}"))
    attempt = f", attempt {run.attempt}" if run.attempt > 1 else ""
    code = "" if run.exit_code is None else f", exit code {run.exit_code}"
    facts.append(("run", f"{run.run_id}{attempt}{code}"))
    lines += [f"{word + ':':<10}{said}" for word, said in facts]
    return f"Onggi on {host}: {what}", "\n".join(lines) + "\n"


def _send(urls: Sequence[str], more: Mapping[str, object], limit_s: float = LIMIT_S) -> list[str]:
    """Have a process of its own send to all URLs: apprise is heavy, and must not hang us."""
    order = {"urls": list(urls), "limit_s": limit_s, **more}
    try:
        outcome = run_short(_SENDER, json.dumps(order).encode(), limit_s)
    except OSError as error:
        return [f"can't send messages: {error.strerror}"]
    said: dict[int, str] = {}
    for line in outcome.lines:
        if line.startswith('{"number": '):
            answer = json.loads(line)
            said[answer["number"]] = answer["error"]
    errors: list[str] = []
    for number in range(len(urls)):
        if problem := said.get(number, _reason(outcome, limit_s)):
            errors.append(f"number {number + 1} of urls: {problem}")
    return errors


def _call(
    notify: Notify, given: bytes, environment: Mapping[str, str], limit_s: float
) -> list[str]:
    try:
        arguments = _command(notify)
        outcome = run_short(arguments, given, limit_s, environment)
    except (OSError, BadPlanError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return [f"can't run the command {shown(notify.command)}: {reason}"]
    if outcome.code == 0:
        return []
    return [f"the command {shown(notify.command)}: {_reason(outcome, limit_s)}"]


def _command(notify: Notify) -> list[str]:
    """Return the words of the command line; none if there is none."""
    command = notify.command
    if not _are_texts((command,)) or _is_unfit(command):
        raise BadPlanError(f"notify: command is {shown(command)}; write text, in quotes")
    try:
        words = shlex.split(command)
    except ValueError as error:
        reason = str(error).lower()
        raise BadPlanError(f"notify: command is {shown(command)}; it has {reason}") from None
    if command and not (words and words[0]):
        raise BadPlanError(f"notify: command is {shown(command)}; write a program's name first")
    return words


def _reason(outcome: Outcome, limit_s: float) -> str:
    if outcome.code is None:
        return f"no answer within {limit_s:g} s"
    last = next((line for line in reversed(outcome.lines) if line.strip()), "it does not say why")
    return f"it ended with {outcome.code}: {_clean(last.strip(), 300)}"


def _variables(run: Run, subject: str) -> dict[str, str]:
    """Return what a command is told in its environment."""
    return {
        "ONGGI_RUN": f"{run.run_id}",
        "ONGGI_PLAN": _clean(run.plan),
        "ONGGI_KIND": run.kind.value,
        "ONGGI_STATE": run.state.value,
        "ONGGI_SUBJECT": _clean(subject),
        "ONGGI_MESSAGE": _clean(run.message, _MOST_MESSAGE),
        "ONGGI_ARCHIVE": _clean(run.archive),
    }


def _clean(text: str, most: int = _MOST_TEXT) -> str:
    """Return a line that can be put anywhere."""
    return CONTROL_CHARACTERS.sub("?", text[:most])


def _are_texts(texts: object) -> bool:
    return isinstance(texts, tuple) and all(isinstance(text, str) for text in texts)  # pyright: ignore


def _is_unfit(text: str) -> bool:
    return len(text) > _MOST_TEXT or CONTROL_CHARACTERS.search(text) is not None


def _zone(plan: Plan | None) -> tzinfo:
    if plan is None:
        return UTC
    try:
        return ZoneInfo(plan.timezone)
    except (OSError, ValueError, LookupError):  # this computer does not know it
        return UTC


def _time(seconds: float, zone: tzinfo) -> str:
    return f"{datetime.fromtimestamp(seconds, zone):%Y-%m-%d %H:%M:%S %Z}"


def _size(size_bytes: int) -> str:
    amount, units = float(size_bytes), ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    while amount >= 1023.95 and len(units) > 1:
        amount /= 1024
        del units[0]
    return f"{amount:.0f} B" if units[0] == "B" else f"{amount:.1f} {units[0]}"
