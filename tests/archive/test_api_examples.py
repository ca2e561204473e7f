"""The examples and the table of errors in docs/library.md are true."""

from __future__ import annotations

import ast
import builtins
import re
from pathlib import Path
from typing import Any

import pytest

from onggi import archive

LIBRARY = (Path(__file__).parents[2] / "docs/library.md").read_text()


@pytest.fixture
def example_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the examples of docs/library.md run in."""
    photos = tmp_path / "photos"
    head = bytes.fromhex("ffd8ffe00010") + b"JFIF"
    for name, size in (("2023/hill", 100), ("2024/lake", 5000), ("2024/sea", 300_000)):
        picture = photos / f"{name}.jpg"
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(head.ljust(size - 2, b".") + bytes.fromhex("ffd9"))
    rows = [f"{path.relative_to(photos)},{path.stat().st_size}" for path in photos.rglob("*.jpg")]
    (photos / "index.csv").write_text("\n".join(["path,bytes", *rows]) + "\n")
    (tmp_path / "notes.txt").write_text("notes\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Promises(ast.NodeTransformer):
    """Turns each expression with a comment `# -> value` into a check of that value."""

    def __init__(self, source: str) -> None:
        self._lines = source.splitlines()
        self.found = 0

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        _, arrow, promised = self._lines[node.lineno - 1].partition("# -> ")
        if not arrow:
            return node
        self.found += 1
        value = promised.partition(";")[0].strip()
        check = f"assert repr(_) == {value!r}, repr(_)"
        checked = ast.parse(f"_ = None\n{check}").body
        checked[0].value = node.value  # type: ignore[attr-defined]
        return ast.copy_location(ast.If(ast.Constant(True), checked, []), node)


def test_the_examples_of_the_documentation_do_what_they_say(
    example_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", LIBRARY, re.MULTILINE | re.DOTALL)
    assert len(blocks) == LIBRARY.count("```") // 2
    names: dict[str, Any] = {}
    promises = 0
    for source in blocks:
        reader = Promises(source)
        tree = ast.fix_missing_locations(reader.visit(ast.parse(source)))
        exec(compile(tree, "docs/library.md", "exec"), names)
        promises += reader.found
    assert promises == LIBRARY.count("# ->")
    assert (names["end"], names["head"][6:]) == (bytes.fromhex("ffd9"), b"JFIF")
    names["duckdb"].unregister_filesystem("onggi")
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["2024", "2024/lake.jpg", "2024/sea.jpg"]


def test_the_documentation_tells_of_every_error_that_is_built_in_too() -> None:
    documented = dict(re.findall(r"^\| (`.*) \| `(\w+)` \|$", LIBRARY, re.MULTILINE))
    told = {
        name: builtin
        for names, builtin in documented.items()
        for name in re.findall("`(\\w+)`", names)
    }
    for name, builtin in told.items():
        assert issubclass(getattr(archive, name), getattr(builtins, builtin))
    real = {
        name
        for name in archive.__all__
        if isinstance(getattr(archive, name), type)
        and issubclass(getattr(archive, name), (OSError, ValueError))
    }
    assert set(told) == real - {"PathError"}
