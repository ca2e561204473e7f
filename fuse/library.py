"""Finds the kernel's library for file systems in user space, which mfusepy binds.

Owns: its names. Must be asked before `adapter` or `status` are imported, since they need it.
"""

from __future__ import annotations

import ctypes

# libfuse 3.17 changed its number; what is used here is the same in both.
_NAMES = ("libfuse3.so.4", "libfuse3.so.3")


def find_library() -> str | None:
    """Return the name under which libfuse 3 can be loaded; None if it is not installed."""
    for name in _NAMES:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return name
    return None
