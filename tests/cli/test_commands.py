"""What the commands tell when all goes well, to people and to programs."""

from __future__ import annotations

import os
import re
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

SMALL = ("--block-size", 4096, "--blocks", 4, "--frame-size", 4096)  # units of 16 KiB
UUID = str(uuid.UUID(int=7))


@pytest.fixture
def image(tmp_path: Path, content: Any) -> Path:
    """A file of five units and a bit, with a hole of more than a unit in it."""
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.write(content(40_000))
        file.seek(40_000 + 30_000)
        file.write(content(20_001, seed=2))
    return path


def test_pack_and_unpack_tell_the_same_facts_to_people_and_programs(
    onggi: Any, image: Path
) -> None:
    told = onggi.ok("pack", image, "a.onggi", *SMALL)
    assert re.fullmatch(
        rb"a\.onggi: 87\.9 KiB -> [\d.]+ KiB \([\d.]+ %\) in [\d.]+ s, [\d.]+ .*/s\n", told.out
    )
    assert told.err == ""
    result = onggi.ok("pack", image, "b.onggi", *SMALL, "--json", "--verify").result
    assert result["type"] == "result"
    assert result["content_bytes"] == image.stat().st_size == 90_001
    assert result["archive_bytes"] == (onggi.folder / "b.onggi").stat().st_size
    assert (result["units"], result["frames"]) == (6, 22)
    assert result["hole_bytes"] > 0
    assert result["verified"] is True
    assert result["findings"] == 0
    unpacked = onggi.ok("unpack", "b.onggi", "out.img", "--json").result
    assert unpacked["lost_bytes"] == 0
    assert (onggi.folder / "out.img").read_bytes() == image.read_bytes()


def test_new_files_can_be_read_by_their_owner_only(onggi: Any, image: Path) -> None:
    onggi.ok("pack", image, "a.onggi", prefix=("sh", "-c", 'umask 0; exec "$@"', "sh"))
    onggi.ok("unpack", "a.onggi", "out.img", prefix=("sh", "-c", 'umask 0; exec "$@"', "sh"))
    modes = [(onggi.folder / name).stat().st_mode & 0o777 for name in ("a.onggi", "out.img")]
    assert modes == [0o600, 0o600]


def test_quiet_says_nothing(onggi: Any, image: Path) -> None:
    for line in (
        ("pack", image, "a.onggi"),
        ("verify", "a.onggi"),
        ("info", "a.onggi"),
        ("unpack", "a.onggi", "out.img"),
    ):
        ran = onggi.ok(*line, "--quiet")
        assert (ran.out, ran.err) == (b"", "")


def test_the_bytes_of_an_archive_do_not_depend_on_threads(onggi: Any, image: Path) -> None:
    archives = []
    for threads in (1, 2, 7):
        name = f"{threads}.onggi"
        onggi.ok("pack", image, name, *SMALL, "--uuid", UUID, "--created", 5, "-T", threads)
        archives.append((onggi.folder / name).read_bytes())
    assert archives[0] == archives[1] == archives[2]


def test_a_piped_archive_has_the_same_bytes_as_one_in_a_file(onggi: Any, image: Path) -> None:
    fixed = (*SMALL, "--uuid", UUID, "--created", 5)
    onggi.ok("pack", image, "a.onggi", *fixed)
    piped = onggi.ok("pack", image, "-", *fixed)
    assert piped.out == (onggi.folder / "a.onggi").read_bytes()
    assert "90001 B" in piped.err or "87.9 KiB" in piped.err


def test_unpack_into_a_folder_uses_the_name_of_the_source(onggi: Any, image: Path) -> None:
    onggi.ok("pack", image, "a.onggi")
    (onggi.folder / "restored").mkdir()
    onggi.ok("unpack", "a.onggi", "restored")
    assert (onggi.folder / "restored" / "disk.img").read_bytes() == image.read_bytes()


def test_unpack_to_a_pipe_gives_the_content(onggi: Any, image: Path) -> None:
    onggi.ok("pack", image, "a.onggi", *SMALL)
    ran = onggi.ok("unpack", "a.onggi", "-", "--json", "-T", 3)
    assert ran.out == image.read_bytes()
    assert '"type": "result"' in ran.err


def test_a_restored_file_has_holes_where_the_source_had_them(onggi: Any, tmp_path: Path) -> None:
    image = tmp_path / "sparse.img"
    with image.open("wb") as file:
        file.write(os.urandom(4096))
        file.seek(50 << 20)
        file.write(os.urandom(4096))
    onggi.ok("pack", image, "a.onggi")
    onggi.ok("unpack", "a.onggi", "sparse")
    onggi.ok("unpack", "a.onggi", "full", "--no-sparse")
    assert (
        (tmp_path / "sparse").read_bytes() == image.read_bytes() == (tmp_path / "full").read_bytes()
    )
    assert (tmp_path / "sparse").stat().st_blocks * 512 < 1 << 20
    assert (tmp_path / "full").stat().st_blocks * 512 >= 50 << 20


def test_a_stream_has_the_name_it_is_given(onggi: Any, content: Any) -> None:
    data = content(123_457)
    onggi.ok("pack", "-", "a.onggi", "--name", "shop.sql", stdin=data)
    info = onggi.ok("info", "a.onggi", "--json").result
    assert info["name"] == "shop.sql"
    assert info["facts"]["source"] == {"path": "-", "type": "stream"}
    (onggi.folder / "to").mkdir()
    onggi.ok("unpack", "a.onggi", "to")
    assert (onggi.folder / "to" / "shop.sql").read_bytes() == data


def test_info_tells_where_a_volume_came_from(onggi: Any, image: Path) -> None:
    onggi.ok("pack", image, "a.onggi", "--uuid", UUID, "--created", 10**18, "--level", 7)
    info = onggi.ok("info", "a.onggi", "--json").result
    assert info["facts"]["source"]["path"] == str(image)
    assert info["facts"]["source"]["type"] == "image"
    assert (info["uuid"], info["level"], info["created_ns"]) == (UUID, 7, 10**18)
    assert info["created"] == "2001-09-09T01:46:40+00:00"
    text = onggi.ok("info", "a.onggi").out.decode()
    assert info["archive_digest"] in text
    assert UUID in text
    assert str(image) in text


def test_the_digests_say_which_archives_hold_the_same(onggi: Any, image: Path) -> None:
    first = onggi.ok("pack", image, "a.onggi", "--json", "--level", 1).result
    second = onggi.ok("pack", image, "b.onggi", "--json", "--level", 9).result
    image.write_bytes(image.read_bytes()[:-1] + b"?")
    third = onggi.ok("pack", image, "c.onggi", "--json").result
    assert first["content_digest"] == second["content_digest"] != third["content_digest"]
    assert len({r["archive_digest"] for r in (first, second, third)}) == 3


def test_info_lists_every_unit(onggi: Any, image: Path) -> None:
    onggi.ok("pack", image, "a.onggi", *SMALL)
    records = onggi.ok("info", "a.onggi", "--units", "--json").records
    units = [record for record in records if record["type"] == "unit"]
    assert [unit["number"] for unit in units] == list(range(6))
    assert sum(unit["content_bytes"] for unit in units) == 90_001
    data = (onggi.folder / "a.onggi").read_bytes()
    for unit in units:
        start = unit["unit_offset"] + 128 + 40 * unit["frame_count"]
        assert data[unit["unit_offset"] + 8 : unit["unit_offset"] + 16] == b"\x8eOnggiUN"
        assert start + unit["stored_bytes"] <= len(data)
    lines = onggi.ok("info", "a.onggi", "--units").out.decode().splitlines()
    assert len(lines) == 7


def test_the_map_shows_data_holes_and_zeros(onggi: Any, tmp_path: Path) -> None:
    image = tmp_path / "three.img"
    with image.open("wb") as file:
        file.write(os.urandom(16_384))  # unit 0: does not compress
        file.seek(32_768)  # unit 1: a hole
        file.write(bytes(16_384))  # unit 2: zeros that were written
        file.write(b"text " * 3276 + b"end.")  # unit 3: compresses well
    onggi.ok("pack", image, "a.onggi", *SMALL)
    picture = onggi.ok("info", "a.onggi", "--map").out.decode().splitlines()
    assert picture[0] == " █·0░"
    cells = onggi.ok("info", "a.onggi", "--map", "--json").records
    assert [cell["sign"] for cell in cells if cell["type"] == "cell"] == list("█·0░")


def test_the_map_shows_what_verify_found(onggi: Any, tmp_path: Path) -> None:
    (tmp_path / "noise.img").write_bytes(os.urandom(4 * 16_384))
    onggi.ok("pack", "noise.img", "a.onggi", *SMALL)
    unit = onggi.ok("info", "a.onggi", "--units", "--json").records[2]
    damaged = bytearray((tmp_path / "a.onggi").read_bytes())
    damaged[unit["unit_offset"] + 1000] ^= 1
    (tmp_path / "a.onggi").write_bytes(damaged)
    ran = onggi("verify", "a.onggi", "--map")
    assert ran.code == 4
    assert " ██X█" in ran.out.decode().splitlines()
    found = onggi("verify", "a.onggi", "--json").findings
    assert {finding["unit"] for finding in found} == {2}
    frame = next(finding for finding in found if finding["frame"] is not None)
    assert frame["content_offset"] == 2 * 16_384 + frame["frame"] * 4096
    assert frame["archive_offset"] > unit["unit_offset"]
    # Headers alone are whole, so the map that reads only those shows no damage.
    assert " ████" in onggi.ok("info", "a.onggi", "--map").out.decode().splitlines()


def test_verify_against_the_source_finds_the_frame_that_changed(onggi: Any, image: Path) -> None:
    onggi.ok("pack", image, "a.onggi", *SMALL)
    onggi.ok("verify", "a.onggi", "--against", image)
    onggi.ok("verify", "a.onggi", "--against", "-", stdin=image.read_bytes())
    changed = bytearray(image.read_bytes())
    changed[20_000] ^= 1
    image.write_bytes(changed)
    ran = onggi("verify", "a.onggi", "--against", image, "--json")
    assert ran.code == 1
    [finding] = ran.findings
    assert (finding["code"], finding["severity"]) == ("source-differs", "difference")
    assert (finding["content_offset"], finding["content_bytes"]) == (16_384, 4096)


def test_progress_comes_about_once_a_second_as_json(onggi: Any, tmp_path: Path) -> None:
    slow = ["sh", "-c", "for n in 1 2 3 4 5 6; do head -c 300000 /dev/zero; sleep 0.4; done"]
    with subprocess.Popen(slow, stdout=subprocess.PIPE) as source:
        began = time.monotonic()
        ran = subprocess.run(
            [*onggi.command, "pack", "-", "a.onggi", "--json", "--blocks", "64"],
            stdin=source.stdout, capture_output=True, cwd=tmp_path, check=True,
        )  # fmt: skip
        seconds = time.monotonic() - began
    lines = ran.stdout.decode().splitlines()
    progress = [line for line in lines if '"type": "progress"' in line]
    assert 1 <= len(progress) <= seconds
    assert '"total_bytes": null' in progress[0]
    assert '"phase": "pack"' in progress[0]


@pytest.mark.needs("script")
def test_a_terminal_sees_a_progress_line_and_a_pipe_does_not(onggi: Any, tmp_path: Path) -> None:
    (tmp_path / "noise.img").write_bytes(os.urandom(30 << 20))
    line = " ".join([*onggi.command, "pack", "noise.img", "a.onggi", "--level", "12"])
    shown = subprocess.run(
        ["script", "-qec", line, "/dev/null"], capture_output=True, cwd=tmp_path, check=True
    )
    assert b" threads" in shown.stdout
    assert b"%" in shown.stdout
    assert onggi.ok("pack", "noise.img", "b.onggi").err == ""


def test_version_and_help_do_not_load_the_engine(onggi: Any) -> None:
    script = (
        "import sys; from onggi.cli.main import run; code = run(['--version']);"
        "sys.exit(code or any(m.startswith('onggi.archive') for m in sys.modules))"
    )
    ran = subprocess.run([onggi.command[0], "-c", script], capture_output=True, check=False)
    assert (ran.returncode, ran.stdout.startswith(b"onggi ")) == (0, True)
    for command in ("pack", "unpack", "verify", "info"):
        text = onggi.ok(command, "--help").out.decode()
        assert "Example: onggi" in text
        assert "Exit codes: 0" in text
