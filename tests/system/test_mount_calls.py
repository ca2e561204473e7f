"""Every call on a mounted tree ends as it does on the tree itself, mounted read-only."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from .mount_helpers import NOBODY, Server, Shows, run
from .mount_helpers import kept as kept
from .tree_corpus import SOCKET
from .tree_helpers import NEEDS, Corpus
from .tree_helpers import corpus as corpus

pytestmark = [NEEDS, pytest.mark.needs("root", "fuse", "mount")]

PROBE = Path(__file__).with_name("calls_probe.py")


@pytest.fixture
def shown(corpus: Corpus, onggi: Any, kept: Shows) -> Server:
    """The corpus, mounted for all users."""
    return kept(corpus.archive(onggi), "-o", "allow_other")


@pytest.fixture
def original(corpus: Corpus, mounts: Any) -> Path:
    """The corpus itself, mounted a second time in a way that nothing can be changed there."""
    place: Path = mounts(corpus.root, "--bind")
    run("mount", "-o", "remount,bind,ro,nosuid,nodev", place)
    return place


def outcomes(folder: Path, user: int) -> dict[str, dict[str, object]]:
    """Return how each call on each path below a folder ends for a user."""
    told: dict[str, dict[str, object]] = json.loads(run(sys.executable, PROBE, folder, user))
    return told


@pytest.mark.parametrize("user", [0, NOBODY, 1])
def test_every_call_ends_as_on_the_tree_itself(user: int, shown: Server, original: Path) -> None:
    expected, found = outcomes(original, user), outcomes(shown.place, user)
    # Sockets are not packed.
    folder, _, name = SOCKET.rpartition("/")
    del expected[f"./{SOCKET}"]
    if isinstance(names := expected[f"./{folder}"]["listdir"], list):
        names.remove(name)
    assert len(expected) > 200
    assert sorted(found) == sorted(expected)
    differing = [
        f"{path!r}: {call}: {found[path].get(call)!r}, not {outcome!r}"
        for path, calls in expected.items()
        for call, outcome in calls.items()
        if found[path].get(call) != outcome
    ]
    assert differing == []
    assert shown.log == []
