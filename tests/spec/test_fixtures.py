"""Every archive of a volume in fixtures/ has the outcome that fixtures/outcomes.json says.

(test_tree_fixtures.py does the same for trees; the generator of both is tested here.)
In the package, in the command line, in the mini decoder, and with the real zstd. Nothing may hang,
take much memory, or raise anything but the errors that are meant for it.
"""

from __future__ import annotations

import contextlib
import io
import json
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onggi.archive import errors
from onggi.archive.assemble import Assembler
from onggi.archive.catalogue import volume_member
from onggi.archive.errors import Finding, Severity
from onggi.archive.extract import unpack
from onggi.archive.header import Header
from onggi.archive.plan import Geometry
from onggi.archive.reader import Archive, Content
from onggi.archive.salvage import salvage
from onggi.archive.store import FileStore
from onggi.archive.unit import UnitEncoder
from onggi.archive.verify import Level, verify
from onggi.cli.main import run

from .fixture_tools import (
    ERRORS,
    FOLDER,
    MOST_MEMORY,
    MOST_SECONDS,
    OUTCOMES,
    RECORDED,
    ROOT,
    TREES,
    VOLUMES,
    builder,
    digest_of,
    few,
    make,
    mini,
    one_line,
    path_of,
    plain,
    taken,
)

pytestmark = pytest.mark.usefixtures("no_hang")

NAMES = [*VOLUMES, *TREES]
FEW = few(VOLUMES, 4)


def each(found: str = "") -> pytest.MarkDecorator:
    """Run a test for all volumes, or for those whose fault is met by `found`."""
    names = [name for name in VOLUMES if not found or OUTCOMES[name]["found"] == found]
    return pytest.mark.parametrize("name", names)


class MemorySink:
    """Takes a volume into memory; zeros of any length cost nothing until something is put."""

    in_order = False

    def __init__(self) -> None:
        self._out = io.BytesIO()
        self.committed = False

    def put(self, content_offset: int, content: bytes) -> None:
        self._out.seek(content_offset)
        self._out.write(content)

    def put_zeros(self, content_offset: int, length: int) -> None:
        pass

    def commit(self) -> None:
        self.committed = True

    def discard(self) -> None:
        pass

    def content(self, size: int) -> bytes:
        """Return what was put, with zeros up to `size`."""
        return self._out.getvalue().ljust(size, b"\0")


class NoSink(MemorySink):
    """Takes a volume and keeps nothing of it."""

    def put(self, content_offset: int, content: bytes) -> None:
        pass


def unpacked(content: Content, **options: Any) -> tuple[bytes, int]:
    """Return the volume, and how much of it was lost."""
    sink = MemorySink()
    lost = unpack(content, sink, threads=1, **options)
    assert sink.committed
    return sink.content(content.content_bytes), lost


def restored(archive: Archive) -> tuple[bytes, int]:
    """Return what a restore under the volume's own name gives."""
    archive.member()
    return unpacked(archive)


# --- the package ---------------------------------------------------------------------------------


@each()
def test_opening_gives_the_kind_of_the_fault_or_an_archive(name: str) -> None:
    outcome = OUTCOMES[name]
    with FileStore(path_of(name)) as store:
        if outcome["found"] == "open":
            with pytest.raises(ERRORS[outcome["kind"]]) as caught:
                Archive(store)
            assert type(caught.value) is ERRORS[outcome["kind"]]
        else:
            Archive(store)


@each()
def test_the_volume_is_given_whole_or_not_at_all(name: str) -> None:
    outcome = OUTCOMES[name]
    if outcome["found"] == "open":
        return
    with FileStore(path_of(name)) as store:
        archive = Archive(store)
        if outcome["found"] == "read":
            with pytest.raises(errors.DamagedError):
                restored(archive)
            return
        content, lost = restored(archive)
    assert not lost
    assert digest_of(content) == outcome["content"]


@each()
def test_no_wrong_byte_is_given_out(name: str, scenarios: dict[str, Any]) -> None:
    """Spec section 9.1: a frame is right, or reading it is an error."""
    if OUTCOMES[name]["found"] == "open":
        return
    true_content = scenarios[name].content
    with FileStore(path_of(name)) as store:
        archive = Archive(store)
        size = max(512, archive.content_bytes // 128)
        for at in range(0, archive.content_bytes, size):
            try:
                piece = archive.read(at, size)
            except errors.DamagedError:
                continue
            assert piece == true_content[at : at + size]


@each()
def test_verify_finds_what_is_wrong_at_the_level_that_looks_for_it(name: str) -> None:
    outcome = OUTCOMES[name]
    levels = list(Level)
    for level in levels:
        if level is Level.STORED and outcome["level"] in (None, "structure"):
            continue  # it comes between two that tell the same
        findings: list[Finding] = []
        with FileStore(path_of(name)) as store:
            if outcome["kind"] in ("not-an-archive", "unsupported"):
                with pytest.raises(ERRORS[outcome["kind"]]):
                    verify(store, level, threads=1, found=findings.append)
                continue
            result = verify(store, level, threads=1, found=findings.append)
        damage = [finding for finding in findings if finding.severity is Severity.DAMAGE]
        assert result.is_whole is not bool(damage)
        expected = outcome["level"] and levels.index(level) >= levels.index(outcome["level"])
        assert bool(damage) is bool(expected), (level, damage)


def test_verify_reports_every_finding() -> None:
    findings: list[Finding] = []
    with FileStore(path_of("flip-unit-many")) as store:
        result = verify(store, Level.CONTENT, threads=2, found=findings.append)
    found = {(each.code, each.unit, each.frame) for each in findings}
    assert {("frame", 0, 0), ("frame", 1, 2), ("unit-header", 2, None)} <= found
    assert any(each.code.startswith("page-0-of-table-4") for each in findings)
    assert result.damaged_units == 3


@each()
def test_salvage_gives_all_that_is_intact_and_names_the_rest(name: str) -> None:
    outcome = OUTCOMES[name]
    expected = outcome["salvage"]
    lost: list[list[int]] = []

    def found(finding: Finding) -> None:
        assert finding.content_offset is not None
        assert finding.content_bytes is not None
        if lost and sum(lost[-1]) == finding.content_offset:
            lost[-1][1] += finding.content_bytes
        else:
            lost.append([finding.content_offset, finding.content_bytes])

    with FileStore(path_of(name)) as store:
        if expected is None:
            # Of what was cut too short, salvage only knows that nothing is left.
            kind = "corrupt" if outcome["kind"] == "truncated" else outcome["kind"]
            with pytest.raises(ERRORS[kind]):
                salvage(store)
            return
        salvaged = salvage(store)
        content, lost_bytes = unpacked(salvaged, salvage=True, found=found)
    assert lost == expected["lost"]
    assert lost_bytes == sum(length for _, length in lost)
    assert digest_of(content) == {key: expected[key] for key in ("bytes", "sha256")}


# What says, or holds, much: these take memory, if any do.
LARGE_WORDS = (
    "huge", "most", "2-", "bomb", "declares", "window", "long", "large", "deep", "more", "ok-",
)  # fmt: skip
LARGE = [name for name in VOLUMES if any(word in name for word in LARGE_WORDS)]


@pytest.mark.parametrize("name", LARGE)
def test_no_archive_takes_much_memory(name: str) -> None:
    tracemalloc.start()
    try:
        with FileStore(path_of(name)) as store:
            for action in (
                lambda: unpack(Archive(store), NoSink(), threads=1),
                lambda: verify(store, Level.STRUCTURE, threads=1),  # unpack decodes the frames
                lambda: unpack(salvage(store), NoSink(), threads=1, salvage=True),
            ):
                with contextlib.suppress(errors.OnggiError):
                    action()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST_MEMORY


# --- the command line ----------------------------------------------------------------------------


@each()
def test_onggi_verify_ends_with_its_exit_code(name: str, capfd: Any) -> None:
    code = run(["verify", "--threads", "2", str(path_of(name))])
    captured = capfd.readouterr()
    assert code == OUTCOMES[name]["exits"]["verify"], captured.err
    if code:
        one_line(captured)


@each()
def test_onggi_unpack_ends_with_its_exit_code(name: str, tmp_path: Path, capfd: Any) -> None:
    outcome = OUTCOMES[name]
    out = tmp_path / "volume"
    code = run(["unpack", "--threads", "2", str(path_of(name)), str(out)])
    captured = capfd.readouterr()
    assert code == outcome["exits"]["unpack"], captured.err
    if code:
        one_line(captured)
        assert not list(tmp_path.iterdir())
    else:
        assert digest_of(out.read_bytes()) == outcome["content"]


@each()
def test_onggi_unpack_salvage_ends_with_its_exit_code(
    name: str, tmp_path: Path, capfd: Any
) -> None:
    outcome = OUTCOMES[name]
    out = tmp_path / "volume"
    code = run(["unpack", "--salvage", "--threads", "2", str(path_of(name)), str(out)])
    captured = capfd.readouterr()
    assert code == outcome["exits"]["salvage"], captured.err
    if code:
        one_line(captured)
    if outcome["salvage"]:
        found = digest_of(out.read_bytes())
        assert found == {key: outcome["salvage"][key] for key in ("bytes", "sha256")}
    else:
        assert not list(tmp_path.iterdir())


@each()
def test_onggi_info_tells_what_it_can(name: str, capfd: Any) -> None:
    outcome = OUTCOMES[name]
    for options in ([], ["--units"], ["--map"]) if name in FEW else ([],):
        code = run(["info", *options, str(path_of(name))])
        captured = capfd.readouterr()
        refused = {"not-an-archive": 3, "unsupported": 3}.get(outcome["kind"], 4)
        if outcome["found"] == "open":
            assert code == refused, captured.err
        else:
            assert code in (0, refused), captured.err
            assert not code or outcome["kind"] != "ok"
        if code:
            one_line(captured)
        assert "\x1b" not in captured.out


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("name-")])
@pytest.mark.parametrize("options", [[], ["--salvage"]], ids=["", "salvage"])
def test_a_hostile_name_never_leaves_the_folder(
    name: str, options: list[str], tmp_path: Path, capfd: Any
) -> None:
    folder = tmp_path / "outer" / "inner"
    folder.mkdir(parents=True)
    code = run(["unpack", *options, str(path_of(name)), str(folder)])
    assert code == OUTCOMES[name]["exits"]["salvage" if options else "unpack"]
    files = [path for path in tmp_path.rglob("*") if not path.is_dir()]
    assert files == ([folder / f"{name}.img"] if options else [])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unsupported-feature-base", ["base"]),
        ("unsupported-feature-encryption", ["encryption"]),
        ("unsupported-feature-split", ["split"]),
        ("unsupported-feature-signature", ["signature"]),
        ("unsupported-feature-63", ["63"]),
        ("unsupported-features", ["encryption", "40"]),
        ("unsupported-major", ["1.1"]),
        ("unsupported-minor", ["0.2"]),
        ("unsupported-kind-3", ["kind 3"]),
        ("unsupported-kind-0", ["kind 0"]),
    ],
)
def test_a_refusal_names_what_is_not_known(name: str, words: list[str], fast_hash: None) -> None:
    data = path_of(name).read_bytes()
    with FileStore(path_of(name)) as store, pytest.raises(errors.UnsupportedError) as caught:
        Archive(store)
    with pytest.raises(mini.FormatError) as caught_by_mini:
        mini.decode(data)
    for word in words:
        assert word in str(caught.value)
        assert word in str(caught_by_mini.value)


def test_the_process_stays_small_whatever_it_is_given(tmp_path: Path) -> None:
    """All in one process, with a bound on its memory that the kernel keeps."""
    signal.alarm(0)  # it has a time limit of its own
    script = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (512 << 20, 512 << 20))\n"
        "from onggi.cli.main import run\n"
        "for path in sys.argv[2:]:\n"
        "    for command in (['verify'], ['unpack', '--salvage', '--force']):\n"
        "        target = [] if command == ['verify'] else [sys.argv[1]]\n"
        "        code = run([*command, '-q', '--threads', '2', path, *target])\n"
        "        assert code in (0, 1, 3, 4), path\n"
        # ru_maxrss would begin with that of the test run, from which this process was forked.
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "out"), *map(str, map(path_of, LARGE))],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert int(done.stdout.splitlines()[-1]) < 200 * 1024


# --- the second reader ---------------------------------------------------------------------------


@each()
def test_the_mini_decoder_comes_to_the_same(
    name: str, scenarios: dict[str, Any], fast_hash: None
) -> None:
    outcome = OUTCOMES[name]
    got, kind = taken(mini.chunks(path_of(name).read_bytes()))
    assert kind == outcome["kind"]
    if kind == "ok":
        assert digest_of(got) == outcome["content"]
    else:
        assert scenarios[name].content.startswith(got)


@each()
def test_the_mini_decoder_walks_to_the_first_loss(
    name: str, scenarios: dict[str, Any], fast_hash: None
) -> None:
    outcome = OUTCOMES[name]
    got, kind = taken(mini.chunks(path_of(name).read_bytes(), walk=True))
    if outcome["salvage"] is None:
        assert (got, kind) == (b"", outcome["kind"])
    elif outcome["kind"] == "ok":
        assert (digest_of(got), kind) == (outcome["content"], "ok")
    else:
        assert scenarios[name].content.startswith(got)


@pytest.mark.parametrize("name", ["ok-mixed", "ok-frame-larger-than-unit", "flip-block"])
def test_the_mini_decoder_needs_no_other_blake3(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "spec" / "mini_decoder.py"), str(path_of(name))],
        capture_output=True, check=False,
    )  # fmt: skip
    outcome = OUTCOMES[name]
    assert done.returncode == (outcome["kind"] != "ok")
    if outcome["kind"] == "ok":
        assert digest_of(done.stdout) == outcome["content"]


# --- the real zstd -------------------------------------------------------------------------------


@each()
@pytest.mark.needs("zstd")
def test_zstd_does_what_is_said_of_it(name: str, scenarios: dict[str, Any]) -> None:
    with path_of(name).open("rb") as archive:
        done = subprocess.run(
            ["zstd", "-dc"], stdin=archive, capture_output=True, check=False, timeout=MOST_SECONDS
        )
    tested = subprocess.run(
        ["zstd", "-tq", str(path_of(name))], capture_output=True, check=False, timeout=MOST_SECONDS
    )
    content: bytes = scenarios[name].content
    how = "fails" if done.returncode else "content" if done.stdout == content else "other"
    assert how == OUTCOMES[name]["zstd"], done.stderr
    assert bool(tested.returncode) is bool(done.returncode), tested.stderr


# --- the generator -------------------------------------------------------------------------------


def test_the_generator_gives_the_same_again(tmp_path: Path) -> None:
    make.write(tmp_path)
    made = json.loads((tmp_path / "outcomes.json").read_text())
    assert made["archives"] == OUTCOMES
    files = {path.name: path for path in (tmp_path / "archives").iterdir()}
    assert sorted(files) == sorted(path_of(name).name for name in NAMES)
    assert sorted(path.name for path in (FOLDER / "archives").iterdir()) == sorted(files)
    if made["zstd"] == RECORDED["zstd"]:
        for name in NAMES:
            assert files[path_of(name).name].read_bytes() == path_of(name).read_bytes(), name


def test_the_fixtures_are_small_and_many() -> None:
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.suffix != ".pyc")
    assert size < 3_500_000
    kinds = [outcome["kind"] for outcome in OUTCOMES.values()]
    assert len([kind for kind in kinds if kind != "ok"]) > 400
    assert set(kinds) == {"ok", *ERRORS}


class ListSpool:
    """Keeps rows in memory."""

    def __init__(self) -> None:
        self._rows = b""

    def write(self, data: bytes, /) -> None:
        self._rows += data

    def patch(self, spool_offset: int, data: bytes, /) -> None:
        self._rows = self._rows[:spool_offset] + data + self._rows[spool_offset + len(data) :]

    def chunks(self, size: int, /) -> Iterator[bytes]:
        for at in range(0, len(self._rows), size):
            yield self._rows[at : at + size]


@pytest.mark.parametrize("name", sorted(plain()))
def test_the_writer_of_the_package_gives_the_bytes_of_the_recipe(name: str) -> None:
    _, recipe = plain()[name]
    geometry = Geometry(recipe.unit_bytes, recipe.frame_bytes, recipe.block_bytes)
    header = Header(
        uuid=builder.ARCHIVE_UUID, geometry=geometry, created_ns=builder.CREATED_NS, level=3,
        facts=json.loads(recipe.facts),
    )  # fmt: skip
    content = b"".join(each_run.data for each_run in recipe.runs)
    holes = b"".join(bytes([each_run.hole]) * len(each_run.data) for each_run in recipe.runs)
    pages = set(recipe.page_rows.values())
    if len(recipe.page_rows) == 1:  # the package's writer has one bound for all tables
        recipe.page_rows = dict.fromkeys(builder.layout.ROW_BYTES, *pages)
    assembler = Assembler(header, ListSpool, *pages)
    encoder = UnitEncoder(header.uuid, geometry, 3)
    out = [assembler.begin()]
    for number, at in enumerate(range(0, len(content), recipe.unit_bytes)):
        unit = memoryview(content)[at : at + recipe.unit_bytes]
        frames: list[memoryview | None] = []
        for start in range(0, len(unit), recipe.frame_bytes):
            piece = unit[start : start + recipe.frame_bytes]
            frames.append(None if all(holes[at + start :][: len(piece)]) else piece)
        runs = recipe.unreadable if not number else []
        out += assembler.add(encoder.encode(number, len(unit), frames, runs))
    mtime_ns = recipe.member.get("mtime_ns", builder.MTIME_NS)
    changed = bool(recipe.member.get("flags"))
    assembler.add_volume(volume_member(recipe.name, len(content), mtime_ns, changed=changed))
    out += assembler.finish()
    assert b"".join(out) == recipe.build().archive
