"""What Onggi uses of mfusepy, which has no type information."""

from ctypes import Structure
from typing import Any

fuse_version_minor: int

class c_stat(Structure): ...
class Operations: ...

class FUSE:
    def __init__(self, operations: Operations, mountpoint: str, **kwargs: Any) -> None: ...

def fuse_get_context() -> tuple[int, int, int]: ...  # uid, gid, pid
