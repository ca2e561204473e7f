"""The house: where packages live, what they may import."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
FOLDERS = {
    name.removeprefix("onggi."): folder
    for name, folder in SETUPTOOLS["package-dir"].items()
    if name != "onggi"
}

PURE = {
    "errors", "layout", "record", "plan", "zeros", "header", "footer", "page", "table", "unit",
    "index", "catalogue", "assemble", "progress", "entry", "exclude", "pax", "tar_scan", "tree",
    "tree_check", "row_span",
}  # fmt: skip
ENGINE_OUTER = {"cli", "fuse", "control"}
NO_IO = {"os", "pathlib", "io", "time", "socket", "subprocess", "tempfile", "fcntl", "select"}
CLOCKS = {"time", "datetime"}
CALENDARS = {"filesystem"}  # fsspec wants a datetime; what may not be is to ask for the time


def imports_of(source: str) -> Iterator[tuple[int, str]]:
    """Yield (number of dots, module) for everything that a module imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield 0, alias.name
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [alias.name for alias in node.names]
            if module in ("onggi", "onggi.archive"):  # what is imported may be a module
                names = [f"{module}.{name}" for name in names]
            elif module:
                names = [module]
            for name in names:
                yield node.level, name


def problems(folder: str, module: str, source: str) -> list[str]:
    """Return which import rules a module breaks."""
    found: list[str] = []
    for dots, name in imports_of(source):
        top = name.split(".")[0]
        if dots == 0 and top in FOLDERS:
            found.append(f"imports the folder {top} as a module")
        if folder == "archive":
            if (dots >= 2 or (dots == 0 and top == "onggi")) and (
                name.removeprefix("onggi.").split(".")[0] in ENGINE_OUTER
            ):
                found.append(f"imports {name}, which is above it")
            if top in CLOCKS and dots == 0 and (top == "time" or module not in CALENDARS):
                found.append(f"reads a clock: {name}")
            if module in PURE:
                inner = name.removeprefix("onggi.archive.").split(".")[0]
                near = dots == 1 or (dots == 0 and top == "onggi")
                if dots > 1 or (near and inner not in PURE):
                    found.append(f"is pure, but imports {name}")
                if dots == 0 and top in NO_IO | ({"threading"} if module != "table" else set()):
                    found.append(f"is pure, but imports {name}")
    if module in CALENDARS and re.search(r"\b(now|utcnow|today)\b", source):
        found.append("reads a clock")
    if folder != "cli" and re.search(r"\b(environb?|getenvb?)\b", source):
        found.append("reads the environment")
    return found


def modules() -> list[tuple[str, str, Path]]:
    return [
        (folder, path.stem, path)
        for folder in FOLDERS.values()
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]


def links(root: Path) -> dict[str, Path]:
    """Return the links in src/onggi, and where they lead."""
    return {
        path.name: path.resolve() for path in (root / "src/onggi").iterdir() if path.is_symlink()
    }


def packages(root: Path, folders: dict[str, str]) -> set[str]:
    """Return the packages that stand in the folders, by their import names."""
    return {
        ".".join(["onggi", name, *init.parent.relative_to(root / folder).parts])
        for name, folder in folders.items()
        for init in (root / folder).rglob("__init__.py")
    }


def test_the_map_for_pip_and_the_links_for_tools_agree() -> None:
    assert links(ROOT) == {name: ROOT / folder for name, folder in FOLDERS.items()}
    for path in (ROOT / "src/onggi").iterdir():
        if path.is_symlink():
            assert not path.readlink().is_absolute(), "a checkout may stand anywhere"


def test_every_package_is_shipped() -> None:
    assert packages(ROOT, FOLDERS) | {"onggi"} == set(SETUPTOOLS["packages"])


def test_a_link_or_a_package_that_is_wrong_is_seen(tmp_path: Path) -> None:
    for folder in ("src/onggi", "archive/deep", "cli"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "archive/__init__.py").touch()
    (tmp_path / "src/onggi/archive").symlink_to("../../cli")
    assert links(tmp_path) == {"archive": tmp_path / "cli"}
    found = packages(tmp_path, {"archive": "archive", "cli": "cli"})
    assert found == {"onggi.archive", "onggi.archive.deep", "onggi.cli"}


@pytest.mark.parametrize(
    ("folder", "module", "path"), modules(), ids=lambda value: getattr(value, "name", value)
)
def test_a_module_imports_only_what_its_layer_may(folder: str, module: str, path: Path) -> None:
    assert problems(folder, module, path.read_text()) == []


@pytest.mark.parametrize(
    ("folder", "module", "source", "said"),
    [
        ("cli", "pack", "import archive", "as a module"),
        ("archive", "writer", "from ..cli import output", "above it"),
        ("archive", "writer", "from onggi.cli import output", "above it"),
        ("archive", "writer", "from onggi import cli", "above it"),
        ("archive", "writer", "from .. import cli", "above it"),
        ("archive", "writer", "from datetime import datetime", "clock"),
        ("archive", "writer", "from os import environ", "environment"),
        ("archive", "writer", "import os\nos.getenv('X')", "environment"),
        ("archive", "writer", "import time", "clock"),
        ("archive", "unit", "from .store import NewFile", "is pure"),
        ("archive", "unit", "from . import reader", "is pure"),
        ("archive", "unit", "from onggi.archive import store", "is pure"),
        ("archive", "unit", "from onggi.archive.store import NewFile", "is pure"),
        ("archive", "unit", "from ..archive import store", "is pure"),
        ("archive", "unit", "import os.path", "is pure"),
        ("archive", "unit", "def f() -> None:\n    import pathlib", "is pure"),
        ("archive", "unit", "import socket, subprocess", "is pure"),
        ("archive", "unit", "import threading", "is pure"),
        ("archive", "writer", "import os\nos.environ['X']", "environment"),
        ("archive", "filesystem", "import time", "clock"),
        ("archive", "filesystem", "from datetime import datetime\ndatetime.now()", "clock"),
    ],
)
def test_the_rules_can_fail(folder: str, module: str, source: str, said: str) -> None:
    assert any(said in problem for problem in problems(folder, module, source))


def test_the_rules_know_modules_that_exist() -> None:
    """A module that is renamed must not escape them."""
    assert {module for folder, module, _ in modules() if folder == "archive"} >= PURE


def test_what_the_rules_allow_passes() -> None:
    assert problems("archive", "table", "import threading\nfrom .page import PageKey") == []
    assert problems("cli", "pack", "import time\nfrom ..archive import errors") == []


def test_modules_stay_small() -> None:
    long = {
        path.name: len(path.read_text().splitlines())
        for _, _, path in modules()
        if len(path.read_text().splitlines()) > 500
    }
    assert long == {}
