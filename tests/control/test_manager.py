"""A manager with the real command: what each end of a step is for its run."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from onggi.control.messages import Started, Step
from onggi.control.run_log import log_path, read_log

from .manager_helpers import MARKER, Node, Place, in_loop, script, soon


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@in_loop
async def test_a_backup_makes_an_archive_and_tells_of_it(place: Place) -> None:
    async with Node(place.state) as node:
        end = await node.do(place.pack())
    assert node.events == [Started(1, 1), end]
    assert (end.outcome, end.exit_code, end.message) == ("done", 0, "")
    assert end.archive == str(place.archive)
    assert end.archive_bytes == place.archive.stat().st_size
    assert end.content_bytes > 70_000
    assert end.verified is None
    assert place.files() == [".onggi-target", "plan", f"plan/{place.archive.name}"]
    assert list((place.state / "journal").iterdir()) == []


@in_loop
async def test_a_backup_that_is_proven_right_says_so(place: Place) -> None:
    proof = place.verify("--against", str(place.source))
    pack = place.pack()
    async with Node(place.state) as node:
        end = await node.do(replace(pack, steps=(*pack.steps, proof)))
    assert (end.outcome, end.verified, end.findings) == ("done", True, 0)
    assert end.archive == str(place.archive)


@in_loop
async def test_packing_that_reads_back_what_it_wrote_is_a_proof(place: Place) -> None:
    async with Node(place.state) as node:
        end = await node.do(place.pack("--verify"))
    assert (end.outcome, end.verified) == ("done", True)


@pytest.mark.parametrize("kind", ["tree", "image"])
@in_loop
async def test_a_restore_is_compared_with_the_archive_and_its_scratch_goes(
    place: Place, kind: str
) -> None:
    pack = place.pack()
    if kind == "image":
        image = place.folder / "disk.img"
        image.write_bytes(os.urandom(300_000))
        words = ("pack", str(image), str(place.archive))
        pack = replace(pack, steps=(Step("pack", words),))
    proof = place.verify("--against", str(place.scratch))
    async with Node(place.state) as node:
        end = await node.do(replace(pack, steps=(*pack.steps, place.unpack(), proof)))
    assert (end.outcome, end.message, end.verified) == ("done", "", True)
    assert place.files() == [".onggi-target", "plan", f"plan/{place.archive.name}"]


@in_loop
async def test_scratch_of_before_is_not_taken_for_what_was_restored(place: Place) -> None:
    place.scratch.mkdir(parents=True)
    (place.scratch / "stale").write_text("old")
    pack = place.pack()
    proof = place.verify("--against", str(place.scratch))
    async with Node(place.state) as node:
        end = await node.do(replace(pack, steps=(*pack.steps, place.unpack(), proof)))
    assert (end.outcome, end.verified) == ("done", True)
    assert not place.scratch.exists()


@in_loop
async def test_findings_that_are_expected_are_warnings_and_the_work_goes_on(place: Place) -> None:
    pack = place.pack()
    (place.source / "more").write_text("new")
    async with Node(place.state) as node:
        await node.do(pack)
        (place.source / "more").write_text("changed")
        (place.source / "another").write_text("new")
        steps = (place.verify("--against", str(place.source), expected=True), place.verify())
        end = await node.do(place.work(*steps, run_id=2))
    assert end.outcome == "findings"
    assert end.findings >= 2
    assert end.message.endswith(f"(and {end.findings - 1} more)")
    assert end.verified is False, "it is not what the source is"
    assert end.exit_code == 0, "the last step was done"


@in_loop
async def test_findings_that_are_not_expected_are_a_failure(place: Place) -> None:
    async with Node(place.state) as node:
        await node.do(place.pack())
        (place.source / "folder" / "file").write_bytes(b"doenjang")
        steps = (place.verify("--against", str(place.source)), place.verify())
        end = await node.do(place.work(*steps, run_id=2))
    assert (end.outcome, end.exit_code, end.verified) == ("failed", 1, False)
    assert end.message.startswith("folder/file: ")
    assert not end.is_final


@in_loop
async def test_what_was_off_when_an_archive_was_made_does_not_make_it_wrong(place: Place) -> None:
    busy = place.source / "busy"
    busy.write_bytes(os.urandom(30 << 20))
    pack = place.pack()
    is_over = threading.Event()

    def write() -> None:
        while not is_over.is_set():
            os.utime(busy)

    writer = threading.Thread(target=write)
    writer.start()
    async with Node(place.state) as node:
        await node.start(replace(pack, steps=(*pack.steps, place.verify())))
        await soon(place.archive.exists)
        is_over.set()
        writer.join()
        end = await node.end()
        assert (end.outcome, end.exit_code) == ("findings", 1), end.message
        assert end.findings == 1, "it is not counted once more by who reads the archive"
        assert end.message.startswith("busy: ")
        assert end.verified is True
        end = await node.do(place.work(place.verify(), run_id=2))
        assert (end.outcome, end.findings, end.verified) == ("findings", 1, True)


@in_loop
async def test_damage_is_final_and_the_archive_is_not_verified(place: Place) -> None:
    async with Node(place.state) as node:
        await node.do(place.pack())
        data = bytearray(place.archive.read_bytes())
        data[len(data) // 2] ^= 1
        place.archive.write_bytes(data)
        end = await node.do(place.work(place.verify(), run_id=2))
    assert (end.outcome, end.exit_code, end.verified) == ("failed", 4, False)
    assert end.is_final
    assert end.message
    assert end.findings


@in_loop
async def test_what_is_no_archive_is_final(place: Place) -> None:
    place.archive.parent.mkdir()
    place.archive.write_bytes(b"no archive at all " * 1000)
    async with Node(place.state) as node:
        end = await node.do(place.work(place.verify()))
    assert (end.outcome, end.verified, end.is_final) == ("failed", False, True)
    assert end.exit_code in (3, 4)


@in_loop
async def test_an_archive_that_exists_is_left_alone_and_that_is_final(place: Place) -> None:
    place.archive.parent.mkdir()
    place.archive.write_text("somebody's")
    async with Node(place.state) as node:
        end = await node.do(place.pack())
    assert (end.outcome, end.is_final, end.exit_code) == ("failed", True, None)
    assert end.message == f"{place.archive} exists already"
    assert end.archive == ""
    assert place.archive.read_text() == "somebody's"


@in_loop
async def test_a_source_that_is_not_there_may_come(place: Place) -> None:
    words = ("pack", str(place.folder / "nothing"), str(place.archive))
    async with Node(place.state) as node:
        end = await node.do(place.work(Step("pack", words), makes=True))
    assert (end.outcome, end.exit_code, end.is_final) == ("failed", 5, False)
    assert "nothing" in end.message


@pytest.mark.parametrize(
    ("words", "code"),
    [(("pack", "--no-such-option"), 2), (("pack", "{archive}", "{archive}"), 7)],
)
@in_loop
async def test_a_wrong_command_is_final(place: Place, words: tuple[str, ...], code: int) -> None:
    image = place.folder / "disk.img"
    image.write_bytes(b"x" * 100_000)
    filled = tuple(word.format(archive=image) for word in words)
    async with Node(place.state) as node:
        end = await node.do(place.work(Step("pack", filled), makes=True))
    assert (end.outcome, end.exit_code, end.is_final) == ("failed", code, True)
    assert end.message


@in_loop
async def test_a_later_step_that_fails_keeps_the_archive(place: Place) -> None:
    pack = place.pack()
    wrong = Step("verify", ("verify", str(place.folder / "nothing.onggi")))
    async with Node(place.state) as node:
        end = await node.do(replace(pack, steps=(*pack.steps, wrong, place.verify())))
    assert (end.outcome, end.exit_code, end.verified) == ("failed", 5, False)
    assert end.archive == str(place.archive)
    assert end.archive_bytes == place.archive.stat().st_size


@in_loop
async def test_archives_are_removed_and_those_that_are_gone_count_too(place: Place) -> None:
    folder = place.archive.parent
    folder.mkdir()
    for name in ("a.onggi", "b.onggi", "kept.onggi"):
        (folder / name).write_text(name)
    removes = tuple(str(folder / name) for name in ("a.onggi", "gone.onggi", "b.onggi"))
    async with Node(place.state) as node:
        end = await node.do(place.work(removes=removes))
        again = await node.do(place.work(removes=(f"{place.target}/none/x.onggi",), run_id=2))
    assert (end.outcome, end.removed) == ("done", removes)
    assert again.removed == (f"{place.target}/none/x.onggi",)
    assert place.files() == [".onggi-target", "plan", "plan/kept.onggi"]


@pytest.mark.parametrize(
    "path",
    [
        "{target}/plan/file.txt", "{target}/plan/sub/x.onggi", "{target}/x.onggi",
        "{target}/plan/../plan/x.onggi", "{target}/../other/x.onggi", "{target}//plan/x.onggi",
        "/etc/x.onggi", "x.onggi", "", "{target}/plan/.", "{target}2/plan/x.onggi",
    ],
)  # fmt: skip
@in_loop
async def test_nothing_but_archives_of_plans_is_removed(place: Place, path: str) -> None:
    for name in ("target/plan/sub", "target2/plan", "other"):
        (place.folder / name).mkdir(parents=True)
        (place.folder / name / "x.onggi").write_text("x")
    (place.target / "plan" / "x.onggi").write_text("x")
    (place.target / "plan" / "file.txt").write_text("x")
    (place.target / "x.onggi").write_text("x")
    before = sorted(place.folder.rglob("*.onggi"))
    good = str(place.target / "plan" / "x.onggi")
    async with Node(place.state) as node:
        end = await node.do(place.work(removes=(good, path.format(target=place.target))))
    assert (end.outcome, end.is_final, end.removed) == ("failed", True, ())
    assert sorted(place.folder.rglob("*.onggi")) == before
    assert (place.target / "plan" / "file.txt").exists()


@in_loop
async def test_a_folder_that_is_a_link_is_not_followed(place: Place) -> None:
    other = place.folder / "other"
    other.mkdir()
    (other / "x.onggi").write_text("x")
    (place.target / "plan").symlink_to(other)
    async with Node(place.state) as node:
        removal = await node.do(place.work(removes=(f"{place.target}/plan/x.onggi",)))
        backup = await node.do(place.pack(run_id=2))
    assert removal.outcome == backup.outcome == "failed"
    assert removal.removed == ()
    assert [path.name for path in other.iterdir()] == ["x.onggi"]


@pytest.mark.parametrize(
    "scratch", ["", "plan", "plan/2026-11-24T02-00-00Z.onggi", ".onggi-target"]
)
@in_loop
async def test_scratch_that_is_around_something_else_is_refused(place: Place, scratch: str) -> None:
    pack = place.pack()
    path = f"{place.target}/{scratch}".rstrip("/")
    steps = (replace(pack.steps[0], remove_after=path),)
    (place.target / "plan").mkdir()
    (place.target / "plan" / "old.onggi").write_text("x")
    async with Node(place.state) as node:
        end = await node.do(replace(pack, steps=steps))
    assert (end.outcome, end.is_final) == ("failed", True)
    assert place.files() == [".onggi-target", "plan", "plan/old.onggi"]


@pytest.mark.parametrize(
    ("marker", "said"), [(None, "is not mounted: its marker file is missing"), ("x", "another")]
)
@in_loop
async def test_nothing_is_written_to_a_target_without_its_marker(
    place: Place, marker: str | None, said: str
) -> None:
    file = place.target / ".onggi-target"
    file.unlink()
    if marker is not None:
        file.write_text(marker)
    before = place.files()
    async with Node(place.state) as node:
        end = await node.do(place.pack())
        assert (end.outcome, end.is_final, end.exit_code) == ("failed", False, None)
        assert said in end.message
        assert str(place.target) in end.message
        assert place.files() == before
        file.write_text(MARKER)
        assert (await node.do(place.pack(attempt=2))).outcome == "done"


@in_loop
async def test_no_step_begins_without_the_marker(place: Place) -> None:
    (place.target / ".onggi-target").unlink()
    said = place.folder / "said"
    async with Node(place.state, script(place.folder, "note(words[0])\nresult()")) as node:
        end = await node.do(place.work(Step("verify", (str(said),))))
    assert end.outcome == "failed"
    assert not said.exists()


@in_loop
async def test_an_archive_that_appears_meanwhile_is_somebody_elses(place: Place) -> None:
    body = """
note(words[0], "somebody's")
tell("error", exit_code=6, message=f"can't finish {words[0]}: File exists")
sys.exit(6)
"""
    async with Node(place.state, script(place.folder, body)) as node:
        end = await node.do(place.work(Step("pack", (str(place.archive),)), makes=True))
    assert (end.outcome, end.is_final, end.archive) == ("failed", True, "")
    assert place.archive.read_text() == "somebody's\n"


@in_loop
async def test_progress_is_told_with_rate_time_left_and_bottleneck(place: Place) -> None:
    place.big(48)
    small = ("--blocks", "128", "--level", "17", "--threads", "1", "--no-dedup")
    async with Node(place.state) as node:
        await node.start(place.pack(*small))
        await soon(lambda: len(node.progress) >= 3 or node.ends)
        await node.cancel(1)
        await node.end()
    assert len(node.progress) >= 3
    first, *_, last = node.progress
    assert (last.run_id, last.step) == (1, "pack")
    assert first.content_bytes < last.content_bytes
    assert last.total_bytes is None or last.total_bytes >= 48 << 20
    assert last.bytes_per_s > 0
    assert (last.left_s is None) == (last.total_bytes is None)
    assert last.bottleneck == "compress"


@in_loop
async def test_work_that_stands_back_runs_with_the_lowest_priority(place: Place) -> None:
    body = "result(); note(words[0], f'{os.nice(0)} {open(\"/proc/self/autogroup\").read()}')"
    if not Path("/proc/self/autogroup").exists():
        body = "result(); note(words[0], f'{os.nice(0)} /autogroup- nice 19')"
    said = place.folder / "said"
    async with Node(place.state, script(place.folder, body)) as node:
        await node.do(place.work(Step("verify", (str(said),)), nice=True))
        await node.do(place.work(Step("verify", (str(said) + "2",)), run_id=2))
    assert said.read_text().startswith("19 /autogroup-")
    assert said.read_text().rstrip().endswith("nice 19")
    assert (place.folder / "said2").read_text().startswith(f"{os.nice(0)} ")


@in_loop
async def test_the_log_has_what_the_commands_said(place: Place) -> None:
    async with Node(place.state) as node:
        await node.do(place.pack())
        await node.do(place.work(Step("pack", ("pack", "/nothing/at/all", "x")), run_id=2))
    lines, _ = read_log(log_path(place.state / "logs", 1))
    results = [line for line in lines if line.get("type") == "result"]
    assert results[0]["archive"] == str(place.archive)
    assert all({"time_s", "step", "stream"} <= set(line) for line in lines)
    lines, _ = read_log(log_path(place.state / "logs", 2))
    assert any(line["stream"] == "stderr" and "onggi: " in line["text"] for line in lines)
    assert lines[-1]["stream"] == "master"
    assert lines[-1]["text"].startswith("failed: ")
