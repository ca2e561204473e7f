"""What is left out: the same as GNU tar leaves out on the same tree."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from onggi.archive.exclude import CACHE_TAG_START, Excludes, wildcard
from onggi.archive.selection import TreeOptions

from .tree_helpers import pack_path

FILES = [
    "a", "b", "abc", "A", "a.txt", "b.txt", ".hidden", ".hidden.txt", "x y", "a*b", "a?b",
    "[ab]", "a[b", "a]b", "a\\b", "-a", "!a", "^a", "a-c", "}", "a,b",
    "d/a", "d/b", "d/ab", "d/.hidden", "d/a.txt", "d/d/a", "d/d/b.txt", "d/d/d/a", "d.txt/a",
    "ab/a", "ab/b", "ab/ab", "ab/cd/a", "cache/x", "cache/keep/x", "d/cache/x", "e/.git/config",
    "e/src/a.o", "e/src/a.c", "e/src/deep/b.o", "longer/name/of/a/file.tar.gz", "n/1", "n/12",
    "n/123",
]  # fmt: skip
RAW = [b"raw/\xff\xfe", b"raw/\xe9.txt", b"raw/a\x80b", "raw/\u00e9".encode()]
EMPTY = ["empty", "d/empty", "a.d"]

PATTERNS = [
    # plain names match from any component on
    "a", "b", "ab", "d", "d/a", "d/d", "d/d/a", "cache", "cache/x", "empty", "x y", ".git",
    "./a", "./d", "./d/a", "/a", "/d", "d/", "a/", "./", "//a", "d//a", "./d/d", "nothing",
    "src/a.o", "e/src", "rc/a.o", "",
    # wildcards, of which `*` matches slashes too
    "*.txt", "*.o", "*/a", "d/*", "d*", "*d", "*a*", "??", "???", "?.txt", "*.*", "**",
    "*/*", "*/*/*", "*/*/*/*", "./*", "./?", "./*/a", "*a", "a*", "a*b", "d*a", "*.tar.*",
    "*t*x*t*",
    "d/?", "?/?", "e/*/*.o", "e*o", "*[", "*]", "****a", "a**", ".*", "./.*",
    # sets
    "[ab]", "[a-b]", "[!a]?", "[!a-b]*", "[a-c]*", "[ab].txt", "*[0-9]", "n/[0-9]", "n/[0-9][0-9]",
    "[]]", "[]a]", "[!]a]*", "[-a]*", "[a-]*", "[!-]*", "[b-a]", "[.]*", "[*]", "[?]", "a[*]b",
    "a[[]b", "[/]", "d[/]a", "[a", "[", "[]", "[!", "[!]", "a[b", "a]b", "[[]ab]", "[,}]", "a[,]b",
    "[^a]*", "[^ab]?", "[^]a]*", "[a^]*", "[[:digit:]]", "n/[[:digit:]]*", "[[:alpha:]][[:alpha:]]",
    "[![:alnum:]]*", "[[:upper:][:punct:]]*", "[[:space:]]", "*[[:blank:]]*", "[[:lower:]-]*",
    "[\\]]", "[a\\]b]", "[\\a]", "[a\\-c]", "a[\\*]b", "[!\\a]b", "[z\\-a]", "[]-a]", "[a\\",
    "[[:x",     "[[:digit:]", "[a-[:digit:]]", "[[:none:]a]", "*[[:none:]]", "[+--]a", "[--a]*",
    # escapes
    "\\a", "a\\*b", "a\\?b", "\\[ab\\]", "\\[ab]", "a\\\\b", "\\*", "\\?", "\\[*", "*\\.txt",
    "\\d/\\a",
    "a\\[b", "a\\]b", "\\-a", "\\!a", "a\\\\*", "*\\**", "d\\/a",
    # what stands for itself
    "}", "{a,b}", "a,b", "^a", "!a", "-a", "a-c", "a+", "(a)", "a|b", "$", "a.b", "a.txt|b.txt",
]  # fmt: skip
# They match the root `.` too. GNU tar then packs nothing at all, if the root is named so; here the
# root is packed whatever the patterns are, and they mean what they mean for the names in it.
ROOT_PATTERNS = [".", "?", "*.", "[!a]", "[.]", "[!-~]", "[+-/]", "[^ab]"]
RAW_PATTERNS = [
    b"\xff\xfe", b"\xff*", b"*\xe9*", b"raw/?", b"raw/??", b"a[\x80]b", b"a[\x01-\x7f]b",
    b"[\xe0-\xef].txt", b"*[\x80-\xff]", b"a[!\x80]b", "\u00e9".encode(),
]  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = os.fsencode(tmp_path_factory.mktemp("exclude"))
    for name in [*map(os.fsencode, FILES), *RAW]:
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "x"):
            pass
    for folder in EMPTY:
        os.mkdir(os.path.join(root, os.fsencode(folder)))
    return Path(os.fsdecode(root))


def by_tar(root: Path, patterns: Sequence[bytes], prefix: bytes = b"./") -> list[bytes]:
    """Return what GNU tar packs of what is in a folder, when the locale is that of bytes."""
    top = os.fsencode(root)
    command = [b"tar", b"--quoting-style=literal", b"--no-unquote", b"-cvf", b"/dev/null"]
    command += [b"--exclude=" + pattern for pattern in patterns]
    command += [b"-C", top, b"--"]
    command += [prefix + name for name in os.listdir(top)]
    environment = {"LC_ALL": "C", "PATH": os.environ["PATH"]}
    done = subprocess.run(command, capture_output=True, check=True, env=environment)
    return sorted(line.removeprefix(b"./").rstrip(b"/") for line in done.stdout.splitlines())


def by_onggi(root: Path, patterns: Sequence[bytes]) -> list[bytes]:
    """Return what is not left out of what is in a folder."""
    options = TreeOptions(Excludes(patterns))

    def below(path: bytes) -> Iterator[bytes]:
        whole = os.path.join(os.fsencode(root), path) if path else os.fsencode(root)
        if not os.path.isdir(whole):
            return
        fd = os.open(whole, os.O_RDONLY)
        try:
            names = options.names_in(fd, path, 0)
        finally:
            os.close(fd)
        for name in names:
            inner = path + b"/" + name if path else name
            yield inner
            yield from below(inner)

    return sorted(below(b""))


@pytest.mark.needs("tar")
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_leaves_out_what_gnu_tar_does(pattern: str, tree: Path) -> None:
    patterns = [os.fsencode(pattern)]
    assert by_onggi(tree, patterns) == by_tar(tree, patterns)


@pytest.mark.needs("tar")
@pytest.mark.parametrize("pattern", RAW_PATTERNS)
def test_a_pattern_of_bytes_leaves_out_what_gnu_tar_does(pattern: bytes, tree: Path) -> None:
    assert by_onggi(tree, [pattern]) == by_tar(tree, [pattern])


@pytest.mark.needs("tar")
@pytest.mark.parametrize("pattern", ROOT_PATTERNS)
def test_a_pattern_that_matches_the_root_concerns_what_is_in_it_alone(
    pattern: str, tree: Path
) -> None:
    patterns = [os.fsencode(pattern)]
    assert by_onggi(tree, patterns) == by_tar(tree, patterns, prefix=b"")
    assert by_tar(tree, patterns) == []


def test_the_table_of_patterns_is_worth_something(tree: Path) -> None:
    """Most patterns leave something out, but not all; no two of most do the same."""
    everything = by_onggi(tree, [])
    assert len(everything) > 70
    left = {pattern: tuple(by_onggi(tree, [os.fsencode(pattern)])) for pattern in PATTERNS}
    assert sum(len(found) < len(everything) for found in left.values()) > 80
    assert sum(len(found) > 0 for found in left.values()) > 100
    assert len(set(left.values())) > 50


_TOKENS = ["a", "b", "d", "ab", ".txt", ".", "/", "/", "*", "*", "**", "?", "[ab]", "[!a]", "[a-c]",
           "[!b-d]", "[^a]", "[\\]a]", "[[:digit:]]", "[]a]", "[", "]", "-", "!", "\\*",
           "\\a", "\\[", "./"]  # fmt: skip


@pytest.mark.needs("tar")
def test_random_patterns_leave_out_what_gnu_tar_does(tree: Path) -> None:
    chance = random.Random(20)
    everything = by_onggi(tree, [])
    partly = 0
    for _ in range(200):
        patterns = [
            os.fsencode("".join(chance.choices(_TOKENS, k=chance.randint(1, 5))))
            for _ in range(chance.choice([1, 1, 1, 2, 5]))
        ]
        if any(Excludes([pattern]).matches(b".") for pattern in patterns):
            continue  # see ROOT_PATTERNS
        expected = by_tar(tree, patterns)
        assert by_onggi(tree, patterns) == expected, patterns
        partly += 0 < len(expected) < len(everything)
    assert partly > 40


@pytest.mark.needs("tar")
def test_many_patterns_leave_out_what_any_of_them_does(tree: Path) -> None:
    patterns = [b"*.txt", b"d/d", b"./e/src/*.o", b"[!a-z]*", b"n/??"]
    assert by_onggi(tree, patterns) == by_tar(tree, patterns)
    assert by_onggi(tree, patterns * 500) == by_tar(tree, patterns)


def test_no_pattern_leaves_out_nothing() -> None:
    excludes = Excludes([])
    assert not excludes
    assert not excludes.matches(b"./a")
    assert Excludes([b"a"])


def test_a_pattern_that_could_take_forever_does_not() -> None:
    excludes = Excludes([b"*a" * 30 + b"b", b"a*" * 30 + b"z", b"*" * 50 + b"b"])
    assert not excludes.matches(b"./" + b"a" * 5000 + b"c" * 5)
    assert excludes.matches(b"./" + b"xa" * 100 + b"b")


def test_a_line_break_in_a_name_is_a_character_like_others() -> None:
    assert Excludes([b"a?b"]).matches(b"./a\nb")
    assert Excludes([b"a*"]).matches(b"./a\n/x\n")
    assert not Excludes([b"a"]).matches(b"./a\n")
    assert not Excludes([b"b"]).matches(b"./a\nb")


def test_a_pattern_with_a_line_break_matches_one() -> None:
    assert Excludes([b"a\nb"]).matches(b"./d/a\nb")
    assert not Excludes([b"a\nb"]).matches(b"./a")


@pytest.mark.parametrize(
    ("pattern", "text", "does"),
    [(b"a*", b"a/b", True), (b"*", b"", True), (b"b", b"a/b", False), (b"a", b"ab", False),
     (b"a", b"a\n", False), (b"[^a]", b"b", True), (b"", b"", True), (b"", b"a", False)],
)  # fmt: skip
def test_a_wildcard_matches_all_of_a_text(pattern: bytes, text: bytes, does: bool) -> None:
    assert bool(wildcard(pattern).match(text)) is does


# --- folders of caches ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "is_cache"),
    [
        (CACHE_TAG_START, True),
        (CACHE_TAG_START + b"\n# made by a test", True),
        (CACHE_TAG_START[:-1], False),
        (CACHE_TAG_START[:-1] + b"4", False),
        (b" " + CACHE_TAG_START, False),
        (b"", False),
    ],
)
def test_of_a_folder_with_a_cache_tag_only_the_tag_is_packed(
    tag: bytes, is_cache: bool, tmp_path: Path
) -> None:
    inside = tmp_path / "cache/inside"
    inside.mkdir(parents=True)
    (inside / "deep").touch()
    (tmp_path / "cache/other").touch()
    (tmp_path / "cache/CACHEDIR.TAG").write_bytes(tag)
    left = [b"", b"cache", b"cache/CACHEDIR.TAG"]
    rest = [b"cache/inside", b"cache/inside/deep", b"cache/other"]
    packed = pack_path(tmp_path, options=TreeOptions(exclude_caches=True))
    assert packed.paths() == sorted(left + rest * (not is_cache))
    assert packed.findings == []
    assert pack_path(tmp_path).paths() == sorted(left + rest)


@pytest.mark.parametrize("kind", ["folder", "symlink", "fifo", "dangling"])
def test_a_cache_tag_is_a_file(kind: str, tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(CACHE_TAG_START)
    tag = tmp_path / "CACHEDIR.TAG"
    if kind == "folder":
        tag.mkdir()
    elif kind == "fifo":
        os.mkfifo(tag)
    else:
        tag.symlink_to("real" if kind == "symlink" else "nowhere")
    packed = pack_path(tmp_path, options=TreeOptions(exclude_caches=True))
    assert packed.paths() == [b"", b"CACHEDIR.TAG", b"real"]


def test_a_cache_tag_may_itself_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "CACHEDIR.TAG").write_bytes(CACHE_TAG_START)
    (tmp_path / "x").touch()
    options = TreeOptions(Excludes([b"*.TAG"]), exclude_caches=True)
    assert pack_path(tmp_path, options=options).paths() == [b""]
