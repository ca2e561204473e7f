"""What `_native.c` gives; its twins are the functions of `files` and `restore`."""

from collections.abc import Sequence

from .accelerate import Look
from .files import Wanted

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
