"""The archive format and the engine: pure format code first, then the code that does I/O.

What Python code needs of it is listed in `__all__`, and described in docs/library.md:

    from onggi import archive

    with archive.open("photos.onggi") as opened:
        data = opened.read("2024/sea.jpg")

It is imported when it is asked for: every start of the command imports this package.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .api import OpenArchive, open, verify_archive
    from .builtin_errors import (
        ArchiveClosedError,
        ArchiveMissingError,
        EntryNotFoundError,
        IsDirectoryError,
        NoFileError,
        NotDirectoryError,
        PathError,
        ReadOnlyError,
    )
    from .entry_info import EntryInfo
    from .errors import (
        BadUseError,
        DamagedError,
        Finding,
        NotAnArchiveError,
        OnggiError,
        RefusedError,
        Severity,
        SourceError,
        StoreError,
        TruncatedError,
        UnsupportedError,
    )
    from .extraction import Extracted
    from .member_file import MemberFile
    from .packing import Packed, PackOptions, pack, pack_folder
    from .progress import Progress
    from .store import Store
    from .verification import Verification
    from .verify import Level
else:
    _HOMES = {
        "api": ("OpenArchive", "open", "verify_archive"),
        "builtin_errors": (
            "ArchiveClosedError", "ArchiveMissingError", "EntryNotFoundError", "IsDirectoryError",
            "NoFileError", "NotDirectoryError", "PathError", "ReadOnlyError",
        ),
        "entry_info": ("EntryInfo",),
        "errors": (
            "BadUseError", "DamagedError", "Finding", "NotAnArchiveError", "OnggiError",
            "RefusedError", "Severity", "SourceError", "StoreError", "TruncatedError",
            "UnsupportedError",
        ),
        "extraction": ("Extracted",),
        "member_file": ("MemberFile",),
        "packing": ("PackOptions", "Packed", "pack", "pack_folder"),
        "progress": ("Progress",),
        "store": ("Store",),
        "verification": ("Verification",),
        "verify": ("Level",),
    }  # fmt: skip

    def __getattr__(name):
        for module, names in _HOMES.items():
            if name in names:
                from importlib import import_module

                value = getattr(import_module(f".{module}", __name__), name)
                globals()[name] = value  # the next access comes here no more
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = [
    "ArchiveClosedError",
    "ArchiveMissingError",
    "BadUseError",
    "DamagedError",
    "EntryInfo",
    "EntryNotFoundError",
    "Extracted",
    "Finding",
    "IsDirectoryError",
    "Level",
    "MemberFile",
    "NoFileError",
    "NotAnArchiveError",
    "NotDirectoryError",
    "OnggiError",
    "OpenArchive",
    "PackOptions",
    "Packed",
    "PathError",
    "Progress",
    "ReadOnlyError",
    "RefusedError",
    "Severity",
    "SourceError",
    "Store",
    "StoreError",
    "TruncatedError",
    "UnsupportedError",
    "Verification",
    "open",
    "pack",
    "pack_folder",
    "verify_archive",
]
