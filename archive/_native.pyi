"""What `_native.c` gives; its twins are functions of `files`, `restore` and `tree_plan`."""

from collections.abc import Callable, Collection, Sequence

from .accelerate import Look, PlannedFiles
from .files import Found, Wanted

REVISION: int

def scan(fd: int, names: Sequence[bytes], wanted: int, /) -> list[Look | None]: ...
def read_files(fd: int, wanted: Sequence[Wanted], view: memoryview, /) -> list[int]: ...
def restore_rows(
    folder: int,
    raw: bytes,
    first: int,
    end: int,
    number: int,
    parent: int,
    strings: bytes,
    strings_offset: int,
    content: bytes,
    content_offset: int,
    owners: dict[tuple[int, int], tuple[int, int]] | None,
    prefix: bytes,
    noreplace: bool,
    mode_bits: int,
    /,
) -> tuple[int, list[int], int, int]: ...
def fill_rows(
    filler: int,
    buffer: int,
    raw: bytes,
    first: int,
    number: int,
    strings: bytes,
    strings_offset: int,
    position: int,
    flags: int,
    parent: int,
    content_bytes: int,
    rows: int,
    sets: int,
    first_inode: int,
    uid: int,
    gid: int,
    /,
) -> tuple[int, bool]: ...
def copy(to: int, size: int, pieces: list[memoryview], /) -> int: ...
def plan_files(
    found: Sequence[Found],
    first: int,
    prefix: bytes,
    parent: int,
    row: int,
    name_offset: int,
    unit_start: int,
    at: int,
    zeros: int,
    room: int,
    owner: tuple[int, int, bytes, bytes],
    least_large: int,
    is_new: Callable[[Found, int, int], bool] | None,
    leave_out: Collection[tuple[int, int]],
    /,
) -> PlannedFiles: ...
