from typing import Any, BinaryIO

from . import AbstractFileSystem

class OpenFile:
    fs: AbstractFileSystem
    path: str
    compression: str | None
    def open(self) -> BinaryIO: ...

def open(
    urlpath: str, mode: str = ..., protocol: str | None = ..., **storage_options: Any
) -> OpenFile: ...
