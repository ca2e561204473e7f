"""What the tests of fixtures/ share: the outcomes, the generator, and the second reader."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from onggi.archive import errors

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "fixtures"
RECORDED: dict[str, Any] = json.loads((FOLDER / "outcomes.json").read_text())
OUTCOMES: dict[str, dict[str, Any]] = RECORDED["archives"]
VOLUMES = sorted(name for name in OUTCOMES if "tree" not in OUTCOMES[name])
TREES = sorted(name for name in OUTCOMES if "tree" in OUTCOMES[name])

MOST_MEMORY = 64 * 2**20
MOST_SECONDS = 30

ERRORS = {
    "not-an-archive": errors.NotAnArchiveError,
    "unsupported": errors.UnsupportedError,
    "truncated": errors.TruncatedError,
    "corrupt": errors.DamagedError,
}


def load(name: str, path: Path, package: Path | None = None) -> ModuleType:
    """Import a module from its file; `package` is its folder, if it is a package."""
    spec = importlib.util.spec_from_file_location(
        name, path, submodule_search_locations=None if package is None else [str(package)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


mini: Any = load("mini_decoder_for_fixtures", ROOT / "spec" / "mini_decoder.py")
load("onggi_fixtures", FOLDER / "__init__.py", FOLDER)
make: Any = importlib.import_module("onggi_fixtures.make")
builder: Any = importlib.import_module("onggi_fixtures.builder")
plain: Any = importlib.import_module("onggi_fixtures.good").plain
small: Any = importlib.import_module("onggi_fixtures.tree_good").small
tree: Any = importlib.import_module("onggi_fixtures.tree_builder").Tree
folder: Any = importlib.import_module("onggi_fixtures.tree_builder").folder


def few(names: list[str], most: int) -> list[str]:
    """Return the first names of each group; a group has the first two words in common."""
    seen: Counter[str] = Counter()
    kept: list[str] = []
    for name in names:
        group = "-".join(name.split("-")[:2])
        seen[group] += 1
        if seen[group] <= most:
            kept.append(name)
    return kept


def path_of(name: str) -> Path:
    """Return where an archive is."""
    return FOLDER / "archives" / f"{name}.onggi"


def digest_of(content: bytes) -> dict[str, Any]:
    """Return length and SHA-256, as outcomes.json has them."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def one_line(captured: Any) -> None:
    """Check that a command that failed says why, and gives no trace of the code."""
    lines = captured.err.splitlines()
    assert lines
    assert all(line.startswith("onggi: ") for line in lines), captured.err


def taken(pieces: Iterator[bytes]) -> tuple[bytes, str]:
    """Return what the mini decoder gave, and the kind of the error that ended it."""
    got: list[bytes] = []
    try:
        got.extend(pieces)
    except mini.FormatError as error:
        return b"".join(got), error.kind
    return b"".join(got), "ok"
