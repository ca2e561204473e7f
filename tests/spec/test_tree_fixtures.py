"""Every archive of a tree in fixtures/ has the outcome that fixtures/outcomes.json says.

In the package, in the command line, in the mini decoder, and with GNU tar. What is restored is held
against the tree that the archive was built from.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onggi.archive import layout
from onggi.archive.errors import Finding, Severity
from onggi.archive.reader import Archive
from onggi.archive.store import FileStore, MemoryStore
from onggi.archive.verify import Level, verify
from onggi.cli.main import run

from .fixture_tools import (
    ERRORS,
    MOST_SECONDS,
    OUTCOMES,
    TREES,
    digest_of,
    few,
    folder,
    mini,
    one_line,
    path_of,
    small,
    taken,
    tree,
)

pytestmark = pytest.mark.usefixtures("no_hang")

GOOD = [name for name in TREES if OUTCOMES[name]["kind"] == "ok"]
SMALL = [name for name in GOOD if name != "ok-tree-largest-files"]  # what file systems can hold
BAD = [name for name in TREES if OUTCOMES[name]["kind"] != "ok"]

TYPES = {
    "file": stat.S_ISREG, "directory": stat.S_ISDIR, "symlink": stat.S_ISLNK,
    "character-device": stat.S_ISCHR, "block-device": stat.S_ISBLK, "fifo": stat.S_ISFIFO,
}  # fmt: skip
OTHERS = {
    "bytes": lambda path, found: found.st_size,
    "device": lambda path, found: [os.major(found.st_rdev), os.minor(found.st_rdev)],
    "target": lambda path, found: shown(os.readlink(path)),
    "attributes": lambda path, found: attributes_of(path),
    "mode": lambda path, found: stat.S_IMODE(found.st_mode),
    "uid": lambda path, found: found.st_uid,
    "gid": lambda path, found: found.st_gid,
    "mtime_ns": lambda path, found: found.st_mtime_ns,
}  # fmt: skip


def each(names: list[str]) -> pytest.MarkDecorator:
    """Run a test for some fixtures."""
    return pytest.mark.parametrize("name", names)


def shown(name: bytes) -> str:
    """Return bytes as the listing of a tree has them."""
    return name.decode("utf-8", "backslashreplace")


def listed(name: str, scenarios: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the entries that an archive was built from."""
    return [json.loads(line) for line in scenarios[name].tree]


# --- a restored tree -----------------------------------------------------------------------------


def attributes_of(path: bytes) -> list[list[str]]:
    """Return the attributes of a file that a tree archive holds: no labels of the system."""
    names = sorted(os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False))
    return [
        [shown(name), os.getxattr(path, name, follow_symlinks=False).hex()]
        for name in names
        if name.startswith((b"user.", b"system.posix_acl"))
    ]


def walked(folder: Path) -> dict[str, bytes]:
    """Return the path of each thing in a folder, by its name in a listing."""
    top = os.fsencode(folder)
    found = {".": top}
    for where, folders, files in os.walk(top):
        for name in folders + files:
            path = os.path.join(where, name)
            found[shown(path[len(top) + 1 :])] = path
    return found


def differences(
    folder: Path, entries: list[dict[str, Any]], skip: dict[str, set[str]]
) -> Iterator[str]:
    """Yield in what a restored tree differs from its listing.

    `skip` names facts that are not compared, by path; the path `*` stands for all.
    """
    found = walked(folder)
    if sorted(found) != sorted(entry["path"] for entry in entries):
        yield f"other paths: {sorted(found)}"
        return
    for entry in entries:
        path = found[entry["path"]]
        facts = os.lstat(path)
        if entry["type"] == "hard-link":
            if not os.path.samestat(facts, os.lstat(found[entry["target"]])):
                yield f"{entry['path']}: no hard link"
            continue
        if not TYPES[entry["type"]](facts.st_mode):
            yield f"{entry['path']}: no {entry['type']}"
            continue
        left = skip.get(entry["path"], set()) | skip.get("*", set())
        for fact, told in entry.items():
            if fact in OTHERS and fact not in left:
                got = OTHERS[fact](path, facts)
                if got != told:
                    yield f"{entry['path']}: {fact} {got}, not {told}"
        if entry.get("sha256") and "sha256" not in left:
            got = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
            if got != entry["sha256"]:
                yield f"{entry['path']}: other content"


def has_attributes(folder: Path) -> bool:
    """Tell whether a file system can hold attributes of users."""
    try:
        os.setxattr(folder, "user.test", b"1")
        os.removexattr(folder, "user.test")
    except OSError:
        return False
    return True


@pytest.fixture
def skip(name: str, tmp_path: Path) -> dict[str, set[str]]:
    """What can't be compared here: what a root that is made means, what this file system lacks."""
    facts: dict[str, set[str]] = {"*": set() if has_attributes(tmp_path) else {"attributes"}}
    if name == "ok-tree-made":
        facts["."] = set(OTHERS)
    return facts


# --- the package ---------------------------------------------------------------------------------


@each(TREES)
def test_opening_gives_the_kind_of_the_fault_or_an_archive(name: str) -> None:
    outcome = OUTCOMES[name]
    with FileStore(path_of(name)) as store:
        if outcome["found"] == "open":
            with pytest.raises(ERRORS[outcome["kind"]]) as caught:
                Archive(store)
            assert type(caught.value) is ERRORS[outcome["kind"]]
        else:
            assert Archive(store).content_bytes == outcome["salvage"]["bytes"]


@each(TREES)
def test_verify_finds_what_is_wrong_at_the_level_that_looks_for_it(name: str) -> None:
    outcome = OUTCOMES[name]
    levels = list(Level)
    for level in levels:
        if level is Level.STORED and outcome["level"] in (None, "structure"):
            continue  # it comes between two that tell the same
        findings: list[Finding] = []
        with FileStore(path_of(name)) as store:
            result = verify(store, level, threads=1, found=findings.append)
        damage = [finding for finding in findings if finding.severity is Severity.DAMAGE]
        assert result.is_whole is not bool(damage)
        expected = outcome["level"] and levels.index(level) >= levels.index(outcome["level"])
        assert bool(damage) is bool(expected), (level, damage)


# --- the command line ----------------------------------------------------------------------------


@each(TREES)
def test_onggi_verify_ends_with_its_exit_code(name: str, capfd: Any) -> None:
    code = run(["verify", "--threads", "2", str(path_of(name))])
    captured = capfd.readouterr()
    assert code == OUTCOMES[name]["exits"]["verify"], captured.err
    if code:
        one_line(captured)


@each(GOOD)
@pytest.mark.needs("root")
@pytest.mark.parametrize("how", ["unpack", "salvage"])
def test_onggi_unpack_restores_the_tree(
    name: str,
    how: str,
    tmp_path: Path,
    capfd: Any,
    scenarios: dict[str, Any],
    skip: dict[str, set[str]],
) -> None:
    out = tmp_path / "out"
    options = ["--threads", "2", "--numeric-owner", *(["--salvage"] if how == "salvage" else [])]
    code = run(["unpack", *options, str(path_of(name)), str(out)])
    captured = capfd.readouterr()
    told = OUTCOMES[name]["exits"][how]
    assert code == told if told is not None else code in (0, 1, 6), captured.err
    if code:
        one_line(captured)
    if code in (0, 1) and name != "ok-tree-largest-files":
        assert list(differences(out, listed(name, scenarios), skip)) == []


@each(BAD)
def test_onggi_unpack_of_a_lie_fails_and_leaves_nothing_outside(
    name: str, tmp_path: Path, capfd: Any
) -> None:
    out = tmp_path / "outer" / "inner" / "out"
    out.parent.mkdir(parents=True)
    code = run(["unpack", "--threads", "2", str(path_of(name)), str(out)])
    captured = capfd.readouterr()
    told = OUTCOMES[name]["exits"]["unpack"]
    assert code == told if told is not None else code in (0, 1, 4), captured.err
    if code:
        one_line(captured)
    assert list(tmp_path.iterdir()) == [tmp_path / "outer"]
    assert list((tmp_path / "outer").iterdir()) == [out.parent]
    assert set(out.parent.iterdir()) <= {out}


@each(TREES)
def test_onggi_unpack_to_a_pipe_gives_the_tar_stream(name: str, capfdbinary: Any) -> None:
    outcome = OUTCOMES[name]
    code = run(["unpack", "-q", "--threads", "2", str(path_of(name)), "-"])
    out = capfdbinary.readouterr().out
    if outcome["kind"] == "ok" or not code:
        # It may give the content whatever the catalogue says, but no other bytes.
        assert (code, digest_of(out)) == (0, content_of(outcome))
    else:
        assert code == 4


def content_of(outcome: dict[str, Any]) -> dict[str, Any]:
    """Return length and digest of the content, if none of it is lost."""
    assert outcome["salvage"]["lost"] == []
    return {key: outcome["salvage"][key] for key in ("bytes", "sha256")}


@each(TREES)
def test_onggi_ls_cat_and_info_tell_what_they_can(
    name: str, capfdbinary: Any, scenarios: dict[str, Any]
) -> None:
    outcome = OUTCOMES[name]
    path = str(path_of(name))
    good = outcome["kind"] == "ok"
    for command in (["ls", "-R"], ["ls", "-l"], ["info"]):
        code = run([*command, path])
        captured = capfdbinary.readouterr()
        assert code in ((0,) if good else (4,) if outcome["found"] == "open" else (0, 4)), command
        if code:
            lines = captured.err.splitlines()
            assert lines
            assert all(line.startswith(b"onggi: ") for line in lines)
        if command[-1] == "-R" and good:
            assert captured.out.count(b"\n") == len(listed(name, scenarios)) - 1
        assert b"\x1b" not in captured.out
    if not good:
        return
    for entry in listed(name, scenarios):
        if entry["type"] != "file" or "\\x" in entry["path"] or not entry["sha256"]:
            continue
        assert run(["cat", "--", path, entry["path"]]) == 0
        out = capfdbinary.readouterr().out
        assert digest_of(out) == {key: entry[key] for key in ("bytes", "sha256")}


@each([name for name in few(BAD, 2) if OUTCOMES[name]["exits"]["salvage"] is not None])
@pytest.mark.needs("root")
def test_onggi_unpack_salvage_gives_back_what_was_packed(
    name: str, tmp_path: Path, capfd: Any, scenarios: dict[str, Any], skip: dict[str, set[str]]
) -> None:
    outcome = OUTCOMES[name]
    out = tmp_path / "outer" / "inner" / "out"
    out.parent.mkdir(parents=True)
    options = ["--salvage", "--numeric-owner", "--threads", "2"]
    code = run(["unpack", *options, str(path_of(name)), str(out)])
    captured = capfd.readouterr()
    assert code == outcome["exits"]["salvage"], captured.err
    one_line(captured)
    if outcome["salvage"]["lost"]:
        skip["*"].add("sha256")
    assert list(differences(out, listed(name, scenarios), skip)) == []
    assert list(tmp_path.iterdir()) == [tmp_path / "outer"]
    assert list((tmp_path / "outer").iterdir()) == [out.parent]
    assert list(out.parent.iterdir()) == [out]


@each([name for name in BAD if name.startswith(("tree-name-", "tree-folder-", "tree-symlink-"))])
def test_a_hostile_name_never_leaves_the_folder(name: str, tmp_path: Path, capfd: Any) -> None:
    folder = tmp_path / "outer" / "inner"
    folder.mkdir(parents=True)
    assert run(["unpack", "-q", "--force", str(path_of(name)), str(folder)]) == 4
    capfd.readouterr()
    assert list(tmp_path.iterdir()) == [folder.parent]
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.needs("root")
def test_links_that_lead_out_are_not_followed_when_a_tree_is_restored_again(
    tmp_path: Path, capfd: Any, scenarios: dict[str, Any]
) -> None:
    """The second time its symbolic links stand in the folder already."""
    name = "ok-tree-links-out"
    folder = tmp_path / "outer" / "inner"
    folder.parent.mkdir()
    for _ in range(2):
        assert run(["unpack", "-q", "--force", str(path_of(name)), str(folder)]) == 0
        assert list(differences(folder, listed(name, scenarios), {})) == []
    capfd.readouterr()
    assert list(tmp_path.iterdir()) == [folder.parent]
    assert list(folder.parent.iterdir()) == [folder]


def test_the_process_stays_small_whatever_number_it_is_given(tmp_path: Path) -> None:
    """All in one process, with a bound on its memory that the kernel keeps."""
    signal.alarm(0)  # it has a time limit of its own
    words = ("huge", "most", "2-63", "16-mib", "rows-", "long", "beyond", "outside")
    names = [name for name in BAD if any(word in name for word in words)]
    assert len(names) > 40
    script = (
        "import os, resource, shutil, sys\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (512 << 20, 512 << 20))\n"
        "from onggi.cli.main import run\n"
        "out, paths = sys.argv[1], sys.argv[2:]\n"
        "for path in paths:\n"
        "    for command in (['verify'], ['ls', '-lR'], ['unpack', '--salvage', '--force']):\n"
        "        target = [out] if command[0] == 'unpack' else []\n"
        "        code = run([*command, '-q', path, *target])\n"
        "        assert code in (0, 1, 4), (code, command, path)\n"
        "    shutil.rmtree(out, ignore_errors=True)\n"
        "    os.path.exists(out) and os.remove(out)\n"
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "out"), *map(str, map(path_of, names))],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert int(done.stderr.splitlines()[-1]) < 200 * 1024


# --- the second reader ---------------------------------------------------------------------------


@each(TREES)
def test_the_mini_decoder_comes_to_the_same(
    name: str, scenarios: dict[str, Any], fast_hash: None
) -> None:
    outcome = OUTCOMES[name]
    data = path_of(name).read_bytes()
    got, kind = taken(mini.chunks(data))
    assert kind == outcome["kind"]
    assert scenarios[name].content.startswith(got)
    if kind == "ok":
        assert digest_of(got) == outcome["content"]
        lines = list(mini_listing(data))
        assert lines == scenarios[name].tree
        sha256 = hashlib.sha256("".join(lines).encode()).hexdigest()
        assert outcome["tree"] == {"entries": len(lines), "sha256": sha256}
    else:
        assert taken(mini.listing(data)) == (b"", kind) or outcome["level"] != "structure"


def mini_listing(data: bytes) -> Iterator[str]:
    """Yield the lines of the listing that fixtures/make.py describes, by the mini decoder."""
    tree = mini.tree_of(mini.Archive(data).open())
    for row, line in enumerate(mini.listing(data)):
        told = json.loads(line)
        facts = {key: told[key] for key in ("path", "type")}
        if told["type"] != "hard-link":
            facts |= {key: told[key] for key in ("mode", "uid", "gid", "mtime_ns")}
            facts["attributes"] = told.get("attributes", [])
        if told["type"] == "file":
            small = told["member_bytes"] <= 2**24
            content = b"".join(mini.cat(data, tree.path(row))) if small else b""
            assert not small or len(content) == told["member_bytes"]
            sha256 = hashlib.sha256(content).hexdigest() if small else None
            facts |= {"bytes": told["member_bytes"], "sha256": sha256}
        facts |= {key: told[key] for key in ("target", "device") if key in told}
        yield json.dumps(facts) + "\n"


@each(TREES)
def test_the_mini_decoder_walks_to_the_first_loss(
    name: str, scenarios: dict[str, Any], fast_hash: None
) -> None:
    outcome = OUTCOMES[name]
    got, kind = taken(mini.chunks(path_of(name).read_bytes(), walk=True))
    assert scenarios[name].content.startswith(got)
    if outcome["kind"] == "ok":
        assert (digest_of(got), kind) == (outcome["content"], "ok")
    elif not outcome["salvage"]["lost"]:
        assert digest_of(got) == content_of(outcome)


# --- both readers --------------------------------------------------------------------------------


def verdicts(archive: bytes) -> tuple[bool, bool]:
    """Return whether the mini decoder, and the package, call an archive whole."""
    _, kind = taken(mini.chunks(archive))
    findings: list[Finding] = []
    verify(MemoryStore(archive), Level.CONTENT, threads=1, found=findings.append)
    return kind == "ok", not [each for each in findings if each.severity is Severity.DAMAGE]


@each(SMALL)
@pytest.mark.needs("root")
def test_what_the_package_packs_is_what_the_second_reader_reads(
    name: str, tmp_path: Path, capfd: Any, scenarios: dict[str, Any], fast_hash: None
) -> None:
    """With units of 16 KiB, so that the content of some ends right where a unit does."""
    source, archive = tmp_path / "source", tmp_path / "archive.onggi"
    assert run(["unpack", "-q", "--numeric-owner", str(path_of(name)), str(source)]) in (0, 1)
    sizes = ["--block-size", "4096", "--blocks", "4", "--frame-size", "4096"]
    assert run(["pack", "-q", *sizes, str(source), str(archive)]) == 0
    captured = capfd.readouterr()
    data = archive.read_bytes()
    content, kind = taken(mini.chunks(data))
    assert kind == "ok", captured.err
    first = name == "ok-tree-made"  # its root was none of the source's
    assert list(mini_listing(data))[first:] == scenarios[name].tree[first:]
    assert content.endswith(bytes(1024))


ROWS = {
    layout.TABLE_ENTRIES: layout.ENTRY_ROW, layout.TABLE_RUNS: layout.EXTENT_ROW,
    layout.TABLE_ATTRIBUTE_SETS: layout.ATTRIBUTE_SET_ROW, layout.TABLE_OWNERS: layout.OWNER_ROW,
    layout.TABLE_SUMMARY: layout.SUMMARY_ROW,
}  # fmt: skip
VALUES = (0, 1, 2, 3, 4, 8, 11, 12, 255, 256, 4096, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)


def changed_rows(rows: bytes, row: struct.Struct | None, noise: random.Random) -> bytes:
    """Return the rows of a table with one of them, one of its fields, or one byte changed."""
    if row is None or noise.random() < 0.4:
        at = noise.randrange(len(rows))
        return rows[:at] + bytes([noise.choice([0, 1, 255, rows[at] ^ 1])]) + rows[at + 1 :]
    each_row = [rows[at : at + row.size] for at in range(0, len(rows), row.size)]
    at, other = (noise.randrange(len(each_row)) for _ in range(2))
    if noise.random() < 0.3:
        each_row[at], each_row[other] = each_row[other], each_row[at]
        return b"".join(each_row)
    fields = list(row.unpack(each_row[at]))
    place = noise.randrange(len(fields))
    values = [*VALUES, row.unpack(each_row[other])[place]]
    if isinstance(fields[place], int):
        values += [fields[place] + 1, fields[place] - 1]
    fields[place] = noise.choice(values)
    try:
        each_row[at] = row.pack(*fields)
    except struct.error:  # a number that has no place in this field
        return rows
    return b"".join(each_row)


@pytest.mark.parametrize("seed", range(8))
def test_both_readers_say_the_same_of_any_change_of_a_row(seed: int, fast_hash: None) -> None:
    """The digests hide the rules from damage; here they are made anew after each change."""
    noise = random.Random(seed)
    tables = [layout.TABLE_ENTRIES] * 9 + sorted(small().recipe().catalogue)
    seen: set[bool] = set()
    for _ in range(40):
        recipe = small().recipe()
        table = noise.choice(tables)
        rows = changed_rows(recipe.catalogue[table], ROWS.get(table), noise)
        recipe.catalogue[table] = rows
        by_mini, by_package = verdicts(recipe.build().archive)
        assert by_mini is by_package, (table, rows)
        seen.add(by_mini)
    assert seen == {True, False}


@pytest.mark.parametrize(("more", "good"), [(0, True), (2, False)])
def test_the_depth_of_a_tree_is_bounded(more: int, good: bool, fast_hash: None) -> None:
    """A chain of directories; the deepest, without children, is no directory on the way."""
    rows = layout.MAX_DEPTH + more
    recipe = tree(folder(b"", folder(b"d"))).recipe()
    fields = layout.ENTRY_ROW.unpack(recipe.catalogue[layout.TABLE_ENTRIES][-80:])
    entries: list[bytes] = []
    for row in range(rows):
        chained = list(fields)
        chained[7:10] = (max(row - 1, 0), 0, 1 if row else 0)  # parent, name_offset, name_bytes
        chained[13:15] = (row + 1, 1) if row < rows - 1 else (0, 0)  # first, count
        entries.append(layout.ENTRY_ROW.pack(*chained))
    recipe.catalogue[layout.TABLE_ENTRIES] = b"".join(entries)
    recipe.catalogue[layout.TABLE_SUMMARY] = layout.SUMMARY_ROW.pack(0, 0, rows, 0, 0, 0, 0, 0)
    assert verdicts(recipe.build().archive) == (good, good)


# --- zstd and GNU tar ----------------------------------------------------------------------------


@each(BAD)
@pytest.mark.needs("zstd")
def test_zstd_gives_the_content_of_what_lies(name: str, scenarios: dict[str, Any]) -> None:
    with path_of(name).open("rb") as archive:
        done = subprocess.run(
            ["zstd", "-dc"], stdin=archive, capture_output=True, check=False, timeout=MOST_SECONDS
        )
    content: bytes = scenarios[name].content
    how = "fails" if done.returncode else "content" if done.stdout == content else "other"
    assert how == OUTCOMES[name]["zstd"], done.stderr


def tar(name: str, *options: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    """Run GNU tar on what zstd gives of an archive."""
    with path_of(name).open("rb") as archive:
        content = subprocess.run(
            ["zstd", "-dcq"], stdin=archive, capture_output=True, check=True
        ).stdout
    return subprocess.run(
        ["tar", *options], input=content, capture_output=True, check=False, timeout=MOST_SECONDS,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"}, **more,
    )  # fmt: skip


def tar_names(data: bytes) -> Iterator[bytes]:
    """Yield the paths of the members of a tree's content in their order: section 6.11."""
    tree = mini.tree_of(mini.Archive(data).open())
    waiting = [0]
    while waiting:
        row = waiting.pop()
        entry = tree.entries[row]
        if not entry.flags & mini.MADE:
            yield tree.path(row) + b"/"
        children = range(entry.first, entry.first + entry.count)
        folders = [child for child in children if tree.entries[child].type == mini.DIRECTORY]
        yield from (tree.path(child) for child in children if child not in folders)
        waiting += reversed(folders)


@each(GOOD)
@pytest.mark.needs("zstd", "tar")
def test_gnu_tar_lists_what_the_catalogue_lists(name: str, fast_hash: None) -> None:
    done = tar(name, "-t", "--quoting-style=literal", "--show-transformed-names")
    if OUTCOMES[name]["tar"] == "fails":
        assert done.returncode
        return
    assert (done.returncode, done.stderr) == (0, b"")
    names = list(tar_names(path_of(name).read_bytes()))
    assert done.stdout == b"".join(each_name + b"\n" for each_name in names)


@each([name for name in SMALL if OUTCOMES[name]["tar"] == "names"])
@pytest.mark.needs("root", "zstd", "tar")
def test_gnu_tar_restores_what_the_catalogue_describes(
    name: str, tmp_path: Path, scenarios: dict[str, Any], skip: dict[str, set[str]], fast_hash: None
) -> None:
    options = ("-xp", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls")
    done = tar(name, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # A shared file has the metadata of the one that it shares with: to tar it is a hard link.
    entries = mini.tree_of(mini.Archive(path_of(name).read_bytes()).open()).entries
    facts = listed(name, scenarios)
    for entry, told in zip(entries, facts, strict=True):
        if entry.flags & mini.SHARED:
            skip[told["path"]] = {"mode", "uid", "gid", "mtime_ns", "attributes"}
    assert list(differences(tmp_path, facts, skip)) == []
