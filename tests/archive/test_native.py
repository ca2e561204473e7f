"""The compiled functions as a module: when they are used, and that their tests can fail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from onggi.archive import accelerate, files
from onggi.archive.files import Found, Wanted
from onggi.archive.restore import Placing

from .native_helpers import (
    ALL,
    FIRST_ROW,
    NATIVE,
    ROOT,
    Rows,
    opened,
    read_differences,
    restore_differences,
    scan_differences,
    some_files,
    two_folders,
    wanted_of,
)
from .native_helpers import no_descriptor_stays as no_descriptor_stays

# --- the tests are able to fail ------------------------------------------------------------------


class Wrong:
    """Compiled functions with a mistake."""

    def __init__(self, **functions: Callable[..., Any]) -> None:
        self.__dict__.update(functions)


@pytest.mark.parametrize("field", range(15))
def test_a_scan_with_a_wrong_field_is_caught(tmp_path: Path, field: int) -> None:
    some_files(tmp_path, 5)

    def scan(fd: int, names: Sequence[bytes], wanted: int) -> list[Any]:
        (found,) = NATIVE.scan(fd, names, wanted)
        assert found is not None
        value: Any = found[field]
        wrong = value + 1 if isinstance(value, int) else value + b"x"
        return [(*found[:field], wrong, *found[field + 1 :])]

    with opened(tmp_path) as fd:
        said = scan_differences(Wrong(scan=scan), fd, [b"f0"], ALL)
        assert said == [f"b'f0' differs in {Found._fields[field]}"]
        for give, expected in (
            ([], "more or fewer"), ([None], "is common"), ([[*Found._fields]], "other types"),
        ):  # fmt: skip
            wrong = Wrong(scan=lambda *_, give=give: give)
            assert expected in scan_differences(wrong, fd, [b"f0"], ALL)[0]
        wrong = Wrong(scan=lambda *_: [(b"missing",)])
        assert "not left to Python" in scan_differences(wrong, fd, [b"missing"], ALL)[0]


def test_a_wrong_read_is_caught(tmp_path: Path) -> None:
    def shifted(fd: int, wanted: Sequence[Wanted], view: memoryview) -> list[int]:
        left = NATIVE.read_files(fd, wanted, view)
        view[-1] ^= 1
        return left

    with opened(tmp_path) as fd:
        (found,) = files.scan(fd, some_files(tmp_path, 100), ALL)
        for function in (shifted, lambda *_: [], lambda *_: [0]):
            wrong = Wrong(read_files=function)
            assert read_differences(wrong, fd, [wanted_of(found)], 100) != []


def test_a_wrong_restore_is_caught(tmp_path: Path) -> None:
    def but(**fields: Any) -> Callable[..., Any]:
        wrong = Rows().add(b"x", b"1", **fields)
        return lambda fd, *_: wrong.restore(NATIVE, fd)

    def halfway(fd: int, *_: Any) -> Any:
        name = Placing(b"x", False).part(FIRST_ROW)
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=fd))
        return 1, [0], 0, 0

    def though(given: Any) -> Callable[..., Any]:
        def restore_rows(*arguments: Any) -> Any:
            NATIVE.restore_rows(*arguments)
            return given

        return restore_rows

    wrongs = [
        but(mode=0o600), but(mtime_ns=8), but(member_bytes=0, first=0), halfway,
        *map(though, [(0, [], 1, 1), (1, [0], 1, 1), (1, [], 0, 1), (1, [], 1, 0)]),
        lambda *_: (1, [], 1, 1),
    ]  # fmt: skip
    for n, function in enumerate([NATIVE.restore_rows, *wrongs]):
        (tmp_path / str(n)).mkdir()
        one, two = two_folders(tmp_path / str(n))
        said = restore_differences(Wrong(restore_rows=function), one, two, Rows().add(b"x", b"1"))
        assert (said == []) == (n == 0), n


# --- the module ----------------------------------------------------------------------------------


def in_another(code: str) -> None:
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)


def test_the_compiled_functions_are_used_until_they_are_switched_off() -> None:
    in_another("""
        from onggi.archive import _native, accelerate
        assert accelerate.native() is _native
        accelerate.disable()
        assert accelerate.native() is None
        accelerate.disable()
        assert accelerate.native() is None
    """)


def test_without_them_or_with_those_of_another_revision_python_does_all() -> None:
    in_another("""
        import sys
        sys.modules["onggi.archive._native"] = None
        from onggi.archive import accelerate
        assert accelerate.native() is None
    """)
    in_another("""
        import sys, types
        old = types.ModuleType("onggi.archive._native")
        old.REVISION = 0
        sys.modules["onggi.archive._native"] = old
        from onggi.archive import accelerate
        assert accelerate.native() is None
    """)


def test_source_and_package_say_the_same_revision() -> None:
    source = (ROOT / "archive/_native.c").read_text()
    assert re.findall(r"^#define REVISION (\d+)", source, re.M) == [str(accelerate.REVISION)]


def compiled(to: Path, *flags: str) -> Path:
    """Compile the source as setuptools would, with more flags."""
    include = sysconfig.get_path("include")
    subprocess.run(
        ["gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-fPIC",
         "-shared", f"-I{include}", *flags, str(ROOT / "archive/_native.c"), "-o", str(to)],
        check=True,
    )  # fmt: skip
    return to


@pytest.mark.needs("gcc")
def test_the_compiler_has_nothing_to_say(tmp_path: Path) -> None:
    compiled(tmp_path / "_native.abi3.so", "-O2")


@pytest.mark.needs("gcc")
def test_no_address_and_no_number_goes_astray(tmp_path: Path) -> None:
    """All tests of the compiled functions once more, under the sanitizers of the compiler."""
    made = compiled(
        tmp_path / "_native.abi3.so", "-O1", "-g", "-fno-omit-frame-pointer",
        "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
    )  # fmt: skip
    libraries = [
        subprocess.run(
            ["gcc", f"-print-file-name={name}"], capture_output=True, check=True, text=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    tests = [str(path) for path in sorted(Path(__file__).parent.glob("test_native*.py"))]
    script = f"""
        import importlib.util, sys
        import pytest
        name = "onggi.archive._native"
        spec = importlib.util.spec_from_file_location(name, {str(made)!r})
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
        from onggi.archive import accelerate
        assert accelerate.native() is sys.modules[name]
        sys.exit(pytest.main([
            *{tests!r}, "-q", "-p", "no:cacheprovider", "--no-cov",
            "--basetemp", {str(tmp_path / "inner")!r},
            "-k", "not astray and not compiler and not switched_off and not another_revision",
        ]))
    """
    # The interpreter keeps what it has at its end, so leaks are left to another test.
    options = f"detect_leaks=0:handle_segv=0:log_path={tmp_path}/said:print_stacktrace=1"
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=900,
        env={
            **os.environ, "LD_PRELOAD": ":".join(libraries), "PYTHONMALLOC": "malloc",
            "ASAN_OPTIONS": options, "UBSAN_OPTIONS": options,
        },
    )  # fmt: skip
    said = "".join(path.read_text() for path in sorted(tmp_path.glob("said*")))
    assert said == ""
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-1000:]
    assert " passed" in ran.stdout
