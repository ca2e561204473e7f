"""Where a tree is unpacked to: its folders, whose things become, how failures are told.

Owns: the folder below which all is written, and what a row of the catalogue becomes there. Must not
know threads or content. Safe in many threads, but for `folder`, which belongs to the planner.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from . import layout
from .entry import Entry
from .errors import Finding, Severity, StoreError
from .folders import Folder, Folders
from .restore import Failure, Metadata, Placing
from .tree import Tree

_FOLDERS_KEPT = 4096
_OWNERS_KEPT = 65_536
_SET_ID_BITS = 0o6000


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """How a tree is unpacked.

    Attributes:
        force: replace what stands in the way, unless it is a folder.
        same_owner: give things their owners, which takes root's rights. Without it no file gets
            setuid or setgid, since it would be another owner's.
        numeric_owner: take owners by number, even if this system knows their names.
        salvage: go on where something is damaged; it reads as zeros, and is a finding.
    """

    force: bool = False
    same_owner: bool = False
    numeric_owner: bool = False
    salvage: bool = False


class Destination:
    """A folder below which a tree is restored.

    Args:
        tree: the catalogue.
        folders: opens folders.
        dest: the folder; made if it does not exist.
        options: how.

    Raises:
        StoreError: it is no folder, or can't be made.
    """

    def __init__(self, tree: Tree, folders: Folders, dest: str, options: RestoreOptions) -> None:
        self.tree = tree
        self.folders = folders
        self.options = options
        # (uid, gid) of the archive to those here, as far as they were asked for; None for all are
        # left as they are. For the compiled helper, which leaves others to `metadata`.
        self.owners: dict[tuple[int, int], tuple[int, int]] | None = (
            {} if options.same_owner else None
        )
        self.mode_bits = (
            layout.MODE_BITS if options.same_owner else ~_SET_ID_BITS & layout.MODE_BITS
        )
        self.placing = Placing(os.urandom(4).hex().encode(), options.force)
        self._owner_names = {} if options.numeric_owner else tree.owner_names()
        try:
            self.is_new = not os.path.lexists(dest)
            if self.is_new:
                os.mkdir(dest, 0o700)
            fd = os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            hint = "; name a folder" if error.errno == errno.ENOTDIR else ""
            raise StoreError(
                f"can't write to {dest}: {os.strerror(error.errno or 0)}{hint}"
            ) from None
        self.top = folders.top(fd)
        self._known: OrderedDict[int, Folder] = OrderedDict({0: self.top})

    def folder(self, row: int) -> Folder:
        """Return the folder of a directory's row, which may not exist yet.

        Raises:
            DamagedError: the catalogue is damaged.
        """
        chain: list[Entry] = []
        while row not in self._known:
            entry = self.tree.entry(row)
            chain.append(entry)
            row = entry.parent
        self._known.move_to_end(row)
        folder = self._known[row]
        for entry in reversed(chain):
            folder = Folder(folder, self.tree.name(entry))
            self._known[entry.row] = folder
        while len(self._known) > _FOLDERS_KEPT:
            oldest = next(iter(self._known))
            if not oldest:  # the top stays
                self._known.move_to_end(oldest)
                continue
            del self._known[oldest]
        return folder

    def metadata(self, entry: Entry) -> Metadata:
        """Return what an entry shall have here."""
        mode = entry.mode
        uid = gid = -1
        if self.owners is not None:
            known = self.owners.get((entry.uid, entry.gid))
            if known is None:
                known = (
                    self._owner(layout.OWNER_USER, entry.uid),
                    self._owner(layout.OWNER_GROUP, entry.gid),
                )
                if len(self.owners) < _OWNERS_KEPT:
                    self.owners[entry.uid, entry.gid] = known
            uid, gid = known
        elif not entry.is_directory:
            mode &= ~_SET_ID_BITS
        attributes = self.tree.attributes(entry) if entry.attributes else ()
        return Metadata(mode, uid, gid, entry.mtime_ns, entry.file_flags, attributes)

    def _owner(self, kind: int, number: int) -> int:
        name = self._owner_names.get((kind, number))
        found = None if name is None else _number_of(kind, name)
        return number if found is None else found

    def limits(self, entry: Entry, path: bytes) -> Iterator[Finding]:
        """Yield what an entry does not get because of how it is unpacked, or how it was packed."""
        if not self.options.same_owner and not entry.is_directory and entry.mode & _SET_ID_BITS:
            yield not_restored(path, "mode", "setuid and setgid take --same-owner")
        if entry.flags & layout.FLAG_INCOMPLETE:
            yield not_restored(
                path, "content", "some of it could not be read when it was packed, and is zeros"
            )

    def failed(self, path: bytes, error: OSError) -> Finding:
        """Return the finding that something could not be restored at all."""
        if error.errno == errno.EEXIST and not self.options.force:
            shown = os.fsdecode(path)
            return Finding(
                "exists", Severity.WARNING,
                f"{shown}: it exists, and was left as it is; --force replaces it", path=shown,
            )  # fmt: skip
        return not_restored(path, "entry", os.strerror(error.errno or 0))


def not_restored(path: bytes, kind: str, why: str) -> Finding:
    """Return the finding that one kind of thing could not be restored for a path."""
    shown = os.fsdecode(path)
    what = "it" if kind == "entry" else kind
    code = "not-restored-" + kind.split(" ")[0]
    return Finding(code, Severity.WARNING, f"{shown}: {what} is not restored: {why}", path=shown)


def failures_of(path: bytes, failures: list[Failure]) -> list[Finding]:
    """Return the findings of metadata that could not be restored."""
    return [not_restored(path, failure.kind, os.strerror(failure.error)) for failure in failures]


@lru_cache(maxsize=4096)
def _number_of(kind: int, name: bytes) -> int | None:
    """Return the number that this system has for a user or a group, or None."""
    try:
        text = os.fsdecode(name)
        if kind == layout.OWNER_USER:
            return pwd.getpwnam(text).pw_uid
        return grp.getgrnam(text).gr_gid
    except (KeyError, ValueError):
        return None
