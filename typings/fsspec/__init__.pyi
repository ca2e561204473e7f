"""Stub of exactly what Onggi uses of fsspec."""

from typing import Any

from .core import OpenFile as OpenFile
from .core import open as open

class AbstractFileSystem:
    protocol: str | tuple[str, ...]
    root_marker: str
    cachable: bool
    def __init__(self, **storage_options: Any) -> None: ...
    @classmethod
    def _strip_protocol(cls, path: Any) -> Any: ...
