"""What several tests of the format take: the fixtures as they are built now, a limit of time."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

import blake3
import pytest

from .fixture_tools import MOST_SECONDS, make, mini


@pytest.fixture(scope="session")
def scenarios() -> dict[str, Any]:
    """The scenarios as they are built now."""
    return {scenario.name: scenario for scenario in make.scenarios()}


@pytest.fixture
def no_hang() -> Iterator[None]:
    """Fail a test that takes too long, and give back the handlers that the command sets."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"took more than {MOST_SECONDS} s")

    handled = (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in handled]
    signal.signal(signal.SIGALRM, late)
    signal.alarm(MOST_SECONDS)
    yield
    signal.alarm(0)
    for number, handler in zip(handled, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def fast_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the decoder the package's BLAKE3, which is a hundred times as fast."""
    monkeypatch.setattr(mini, "blake3", lambda data: blake3.blake3(data).digest())
