"""`mount.fuse.onggi`: what mount(8) calls for `mount -t fuse.onggi`, and so for /etc/fstab.

It must be found as /usr/sbin/mount.fuse.onggi; docs/mount.md says how.
"""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)

import sys  # noqa: E402
from typing import NoReturn  # noqa: E402

from onggi.cli.main import run  # noqa: E402

_OURS = ("cache", "threads", "log")  # options of `onggi mount` that fstab can give too
_UNLESS_ASKED = "rw"  # what mount(8) says where fstab does not say ro
_WITH_VALUE = ("-o", "-N", "-t")


def words_for(arguments: list[str]) -> list[str]:
    """Return the words of `onggi mount` for those that mount(8) gives: SOURCE DIR [-sfnv] [-o ...].

    Raises:
        ValueError: SOURCE or DIR is missing.
    """
    places: list[str] = []
    options: list[str] = []
    given = iter(arguments)
    for word in given:
        if word in _WITH_VALUE:
            value = next(given, "")
            options += value.split(",") if word == "-o" else []
        elif not word.startswith("-"):
            places.append(word)
    if len(places) != 2:
        raise ValueError("usage: mount.fuse.onggi ARCHIVE DIR [-o OPTIONS]")
    words = ["mount", "--quiet"]
    for option in options:
        key, _, value = option.partition("=")
        if key in _OURS:
            words += [f"--{key}", value]
        elif option and option != _UNLESS_ASKED:
            words += ["-o", option]
    return [*words, "--", *places]


def main() -> NoReturn:
    """Mount, as mount(8) wants it, and end."""
    try:
        words = words_for(sys.argv[1:])
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(1)  # of mount(8): wrong usage
    if "-f" in sys.argv[1:]:  # of mount(8): do all but mount
        sys.exit(0)
    # 32 is what mount(8) calls a failed mount.
    sys.exit(32 if run(words) else 0)
