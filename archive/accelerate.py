"""The compiled twins of functions in `files`, `restore`, `tree_plan` and `fuse`, where built.

Owns: whether they are used; they are at first. What they do not do is left to Python, so nothing
but time depends on them. `disable` is called before any thread needs one; safe in many otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .files import Found, Wanted

# Of the functions below; one that was built from an older source is not used.
REVISION = 4

# The fields of `files.Found`.
Look = tuple[bytes, int, int, int, int, int, int, int, int, int, int, int, int, bytes, int]

# What `plan_files` gives: the number of the first that was not planned; the rows, and their names;
# the literals, (offset in the unit, bytes); the fields of a `files.Wanted` for each file that is
# not empty, and their rows; the next place in the unit, and the zeros before it; the bytes of all.
PlannedFiles = tuple[
    int, bytes, bytes, list[tuple[int, bytes]], list[tuple["Found", int, int, int]], list[int],
    int, int, int,
]  # fmt: skip


class Native(Protocol):
    """What is compiled. All run without the interpreter's lock; only wrong types raise."""

    @property
    def REVISION(self) -> int:
        """What must be equal to that of this module."""
        ...

    def scan(self, fd: int, names: Sequence[bytes], wanted: int, /) -> list[Look | None]:
        """Look at things in a folder, as `files.scan`.

        None stands for what `files.scan` must look at: what has attributes, or can't be opened.
        """
        ...

    def read_files(self, fd: int, wanted: Sequence[Wanted], view: memoryview, /) -> list[int]:
        """Fill spans of `view`, as `files.read_files`.

        Returns the numbers of the items that `files.read_files` must read, sorted: something is
        off about them. Their spans may hold anything; nothing else of `view` is changed.
        """
        ...

    def restore_rows(
        self, folder: int, raw: bytes, first: int, end: int, number: int, parent: int,
        strings: bytes, strings_offset: int, content: bytes, content_offset: int,
        owners: dict[tuple[int, int], tuple[int, int]] | None, prefix: bytes, noreplace: bool,
        mode_bits: int, /,
    ) -> tuple[int, list[int], int, int]:  # fmt: skip
        """Make the files of rows `first` to `end` - 1, whose bytes are in `content`.

        As `restore.NewEntryFile` makes one. `raw` are rows of one directory (spec section 6.5), the
        first of which has that `number`; `parent` is the directory. `strings` and `content` begin
        at these offsets of the table strings and of the content. `owners` gives (uid, gid) for
        those of a row; None leaves owners as they are. What `noreplace` says is the opposite of
        `Placing.force`. A file whose mode has more than `mode_bits` is left.

        Returns the first row that was not looked at, since its bytes lie behind `content`; the
        rows before it that must be made in Python, sorted: of these nothing is there; how many
        were made; and their length in bytes.
        """
        ...

    def plan_files(
        self, found: Sequence[Found], first: int, prefix: bytes, parent: int, row: int,
        name_offset: int, unit_start: int, at: int, zeros: int, room: int,
        owner: tuple[int, int, bytes, bytes], least_large: int,
        is_new: Callable[[Found, int, int], bool] | None, leave_out: Collection[tuple[int, int]], /,
    ) -> PlannedFiles:  # fmt: skip
        """Plan files in a folder from `first` on, up to one that is not common.

        As `TreePlanner` plans them one by one. `prefix` is the path of the folder with a slash, and
        `parent` its row; the first file gets `row`, and its name stands at `name_offset`. The next
        byte of content stands behind `zeros` zeros, from `at` on in the unit that begins at
        `unit_start` and takes `room` bytes, all of which are never used. Common are files of
        this `owner`, (uid, gid, user, group), whose (device, inode) is not in `leave_out`. Of one
        that is not shorter than `least_large` `is_new` is asked, with its row and its content
        offset; if it says no, or there is none, the file is not common.
        """
        ...

    def fill_rows(
        self, filler: int, buffer: int, raw: bytes, first: int, number: int, strings: bytes,
        strings_offset: int, position: int, flags: int, parent: int, content_bytes: int, rows: int,
        sets: int, first_inode: int, uid: int, gid: int, /,
    ) -> tuple[int, bool]:  # fmt: skip
        """Give libfuse what a mount shows of rows from `first` on, as `fuse.nodes` does.

        `filler` and `buffer` are addresses: of the function that takes one name more, and of what
        it wants to be given; `flags` too. `raw`, `number`, `parent` and the strings are as
        `restore_rows` has them. The first row is the one at `position` in its directory. What
        `content_bytes`, `rows` (entries) and `sets` (of attributes) bound is not beyond them. A
        `uid` or `gid` that is not -1 is shown instead.

        Returns the first row that was not taken, and whether libfuse takes no more. Otherwise it
        is not common, or its name not behind the one before, or there is none.
        """
        ...

    def copy(self, to: int, size: int, pieces: list[memoryview], /) -> int:
        """Copy pieces, one behind the other, to an address; at most `size` bytes.

        Returns how many. The memory there must be able to take them; a piece must be contiguous.
        """
        ...


_module: Native | None = None
try:
    from . import _native

    if _native.REVISION == REVISION:
        _module = _native
except ImportError:  # not built: no compiler, or another machine
    pass


def native() -> Native | None:
    """Return the compiled functions; None if they are not built, or switched off."""
    return _module


def disable() -> None:
    """Switch them off for good: Python does all."""
    global _module
    _module = None
