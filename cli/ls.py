"""`onggi ls`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from ..archive import layout
from ..archive.errors import BadUseError
from ..archive.exclude import wildcard
from ..archive.reader import Archive
from ..archive.store import FileStore
from ..archive.tree import Tree, Visited
from ..archive.view import open_tree
from .entries import entry_facts, long_line
from .exits import Exit
from .options import output_options
from .output import OutputOptions, Reporter
from .session import run_command

_TYPES = {
    "f": (layout.ENTRY_FILE,),
    "d": (layout.ENTRY_DIRECTORY,),
    "l": (layout.ENTRY_SYMLINK,),
    "c": (layout.ENTRY_CHARACTER_DEVICE,),
    "b": (layout.ENTRY_BLOCK_DEVICE,),
    "p": (layout.ENTRY_FIFO,),
}


@click.command(
    epilog="""\b
Example: onggi ls files.onggi -l home/ann
         onggi ls files.onggi -R --name '*.jpg' --type f
Exit codes: 0 done, 2 usage, or PATH is not in the archive, 3 no archive, 4 damaged,
5 ARCHIVE can't be read; all: docs/commands.md"""
)
@click.argument("archive", type=click.Path(path_type=Path, readable=False))
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("-l", "long", is_flag=True, help="Mode, links, owner, size and time too.")
@click.option("-R", "recursive", is_flag=True, help="All that is below too.")
@click.option("--name", "names", multiple=True, metavar="PATTERN",
              help="Only what has a name like this; looks at all that is below.")  # fmt: skip
@click.option("--path", "patterns", multiple=True, metavar="PATTERN",
              help="Only what has a path like this; looks at all that is below.")  # fmt: skip
@click.option("--type", "kinds", type=click.Choice(list(_TYPES)), multiple=True,
              help="Only files, directories, symbolic links, devices or FIFOs.")  # fmt: skip
@output_options
def command(
    archive: Path,
    paths: tuple[str, ...],
    long: bool,
    recursive: bool,
    names: tuple[str, ...],
    patterns: tuple[str, ...],
    kinds: tuple[str, ...],
    quiet: bool,
    as_json: bool,
) -> int:
    """List what is in the tree in ARCHIVE, at each PATH or at its top.

    PATTERN is as find has it: * and ? match slashes too. Paths are those inside the archive.
    """
    options = OutputOptions("ls", as_json, quiet)
    wanted = _filter(names, patterns, kinds)
    deep = recursive or bool(names or patterns)

    def action(reporter: Reporter) -> int:
        listed = 0
        with FileStore(archive) as store:
            tree = open_tree(Archive(store))
            owners = tree.owner_names() if long else {}
            for path in paths or ("",):
                for visited in _listed(tree, os.fsencode(path), deep):
                    if not wanted(tree, visited):
                        continue
                    facts = entry_facts(tree, visited.entry, visited.path) if as_json else {}
                    line = os.fsdecode(visited.path)
                    if long and not as_json:
                        line = long_line(tree, visited.entry, visited.path, owners)
                    reporter.item("entry", facts, line)
                    listed += 1
        if as_json:
            reporter.result({"archive": str(archive), "entries": listed}, Exit.OK, [])
        return Exit.OK

    return run_command(options, action)


def _listed(tree: Tree, path: bytes, deep: bool) -> Iterator[Visited]:
    """Yield what is listed for a path: its children, or all below it, or itself."""
    top = tree.lookup(path)
    if top is None:
        shown = path.decode(errors="backslashreplace")
        raise BadUseError(f"{shown!r} is not in the archive")
    path = tree.path(top)
    if not top.is_directory:
        prefix, slash, name = path.rpartition(b"/")
        yield Visited(top, prefix + slash, name)
    elif deep:
        below = tree.walk(top, path)
        next(below)
        yield from below
    else:
        prefix = path + b"/" if path else b""
        for name, entry in tree.children(top):
            yield Visited(entry, prefix, name)


def _filter(
    names: tuple[str, ...], patterns: tuple[str, ...], kinds: tuple[str, ...]
) -> Callable[[Tree, Visited], bool]:
    """Return what tells whether an entry is listed."""
    types = {each for kind in kinds for each in _TYPES[kind]}
    of_names = [wildcard(os.fsencode(pattern)) for pattern in names]
    of_paths = [wildcard(os.fsencode(pattern)) for pattern in patterns]

    def wanted(tree: Tree, visited: Visited) -> bool:
        if types and tree.primary(visited.entry).type not in types:
            return False
        if names and not any(each.match(visited.name) for each in of_names):
            return False
        return not patterns or any(each.match(visited.path) for each in of_paths)

    return wanted
