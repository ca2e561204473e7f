"""Sends one message to many places through apprise; a process: `python -m` with this module's name.

Owns: all that is known of apprise. Standard input is a JSON object: `urls`; `limit_s`; and
`is_check`, or `subject`, `body` and `type`. Standard output gets a JSON object for each URL as soon
as that is known: its `number` from 0, and the `error`, which is empty if there was none. Messages
never hold a URL as it is: there are passwords in it.

A process of its own, since apprise takes long to be imported and much memory, and no timeout of its
services is sure to end a conversation. A thread for each URL.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import sys
import threading
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

_MOST_ERROR = 500


def main() -> None:
    """Do what standard input says."""
    order: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    signal.alarm(int(order["limit_s"]) + 5)  # if nobody is left to end this process
    try:
        apprise: Any = importlib.import_module("apprise")
    except ImportError:
        for number in range(len(order["urls"])):
            _tell(number, "messages to URLs need apprise; install onggi[control]")
        return
    said = _Said()
    asset = apprise.AppriseAsset(app_id="Onggi", app_desc="Onggi", app_url="")
    threads: list[threading.Thread] = []
    for number, url in enumerate(order["urls"]):
        service = apprise.Apprise.instantiate(url, asset=asset)
        if service is None:
            _tell(number, f"apprise can't take this {url.partition('://')[0]}:// URL")
        elif order.get("is_check"):
            _tell(number, "")
        else:
            sender = apprise.Apprise(asset=asset)
            sender.add(service)
            to = _safe(service.url(privacy=True))
            threads.append(threading.Thread(target=_send, args=(number, sender, to, order, said)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class _Said(logging.Handler):
    """Keeps the last warning of each message; apprise tells reasons in no other way."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.of: ContextVar[list[str]] = ContextVar("said")  # apprise has threads of its own
        logger = logging.getLogger("apprise")
        logger.addHandler(self)
        logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.of.get([])[:] = [record.getMessage()]


def _send(number: int, sender: Any, to: str, order: dict[str, Any], said: _Said) -> None:
    warnings = ["not delivered"]
    said.of.set(warnings)
    try:
        is_sent = sender.notify(
            title=order["subject"],
            body=order["body"],
            notify_type=order["type"],
            body_format="text",
        )
    except Exception as error:  # of any of a hundred plugins
        is_sent, warnings = False, [type(error).__name__]
    _tell(number, "" if is_sent else f"{to}: {warnings[-1]}")


def _safe(url: str) -> str:
    """Return scheme, host and port of a URL in which apprise has masked what is secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _tell(number: int, error: str) -> None:
    line = " ".join(error.split())[:_MOST_ERROR]
    os.write(1, json.dumps({"number": number, "error": line}).encode() + b"\n")


if __name__ == "__main__":
    main()
