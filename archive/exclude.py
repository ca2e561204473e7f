"""Which paths a pack leaves out, as GNU tar's options of the same names do.

Owns: patterns and cache tags. `--exclude=PATTERN` of GNU tar: wildcards, of which `*` matches
slashes too; not anchored, so a pattern matches a path from any component on; a folder that is left
out takes all below it along. Pure; safe in any thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

CACHE_TAG_NAME = b"CACHEDIR.TAG"
CACHE_TAG_START = b"Signature: 8a477f597d28d172789f06886806bc55"
"""How the file of that name begins in a folder of caches (bford.info/cachedir)."""


class Excludes:
    """Tells which paths are left out.

    Args:
        patterns: as GNU tar takes them, as bytes.
    """

    def __init__(self, patterns: Iterable[bytes]) -> None:
        parts = [_translate(pattern) for pattern in dict.fromkeys(patterns)]
        self._match = re.compile(b"(?:^|/)(?:" + b"|".join(parts) + rb")\Z") if parts else None

    def __bool__(self) -> bool:
        """Whether anything can match."""
        return self._match is not None

    def matches(self, path: bytes) -> bool:
        """Tell whether a path from the root of the tree, which begins with `./`, matches."""
        return self._match is not None and self._match.search(path) is not None


def wildcard(pattern: bytes) -> re.Pattern[bytes]:
    """Return what matches all of a text, as `find -name` and `find -path` do."""
    return re.compile(_translate(pattern) + rb"\Z")


def _translate(pattern: bytes) -> bytes:
    """Return a regular expression for a wildcard pattern, as fnmatch(3) without flags has it.

    A `*` matches slashes too; a set may be negated by `!` or `^`, and hold classes; a backslash
    takes the meaning from the character behind it.
    """
    out: list[bytes] = []
    between_stars: list[bytes] = []
    at = 0
    while at < len(pattern):
        char = pattern[at : at + 1]
        at += 1
        if char == b"*":
            if out or not between_stars:
                between_stars.append(b"".join(out))
                out = []
        elif char == b"?":
            out.append(b".")
        elif char == b"[" and (found := _set(pattern, at)):
            text, at = found
            out.append(text)
        else:
            if char == b"\\" and at < len(pattern):
                char = pattern[at : at + 1]
                at += 1
            out.append(re.escape(char))
    last = b"".join(out)
    if not between_stars:
        return b"(?s:%b)" % last
    # The first place where a piece matches will do, so no other is tried: many stars cost no more.
    first, *middle = between_stars
    pieces = b"".join(b"(?>.*?%b)" % piece for piece in middle)
    return b"(?s:%b%b.*%b)" % (first, pieces, last)


def _set(pattern: bytes, at: int) -> tuple[bytes, int] | None:
    """Return the regular expression of a set that begins before `at`, and where it ends.

    None if it does not end: then the bracket is a plain character.
    """
    negated = pattern[at : at + 1] in (b"!", b"^")
    at += negated
    parts: list[bytes] = []
    first = at
    while at < len(pattern) and (pattern[at : at + 1] != b"]" or at == first):
        if match := _CLASS.match(pattern, at):
            if match[1] not in _CLASSES:
                return None
            parts.append(_CLASSES[match[1]])
            at = match.end()
            continue
        low, at = _member(pattern, at)
        if pattern[at : at + 1] == b"-" and pattern[at + 1 : at + 2] not in (b"]", b""):
            high, at = _member(pattern, at + 1)
            if low <= high:  # an empty range matches nothing
                parts.append(re.escape(low) + b"-" + re.escape(high))
        else:
            parts.append(re.escape(low))
    if at >= len(pattern):
        return None
    inside = b"".join(parts)
    if not inside:
        return (b"." if negated else b"(?!)"), at + 1
    return b"[%b%b]" % (b"^" if negated else b"", inside), at + 1


def _member(pattern: bytes, at: int) -> tuple[bytes, int]:
    """Return one character of a set, and where the next one stands."""
    if pattern[at : at + 1] == b"\\" and at + 1 < len(pattern):
        at += 1
    return pattern[at : at + 1], at + 1


_CLASS = re.compile(rb"\[:([a-z]*):\]")
_CLASSES = {
    b"alnum": b"a-zA-Z0-9",
    b"alpha": b"a-zA-Z",
    b"blank": rb" \t",
    b"cntrl": rb"\x00-\x1f\x7f",
    b"digit": b"0-9",
    b"graph": rb"\x21-\x7e",
    b"lower": b"a-z",
    b"print": rb"\x20-\x7e",
    b"punct": rb"!-/:-@\[-`{-~",
    b"space": rb" \t\n\r\f\v",
    b"upper": b"A-Z",
    b"xdigit": b"0-9a-fA-F",
}
