"""The schema of the master's database: migrations, which are applied when it is opened.

Owns: how a database file is opened. Must not know what is in it.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from yoyo import get_backend, read_migrations

from .errors import StateError

_MIGRATIONS = Path(__file__).parent / "migrations"


def open_database(path: Path) -> sqlite3.Connection:
    """Return a connection to a database, which is made, or brought up to date, where need be.

    What is written by it is on disk when a transaction ends (WAL, synchronous FULL).

    Raises:
        StateError: it can't be opened, or a newer Onggi has made it.
    """
    _migrate(path)
    return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    try:
        sql = sqlite3.connect(path, isolation_level=None, timeout=10)
        sql.row_factory = sqlite3.Row
        sql.execute("PRAGMA journal_mode = WAL")
        sql.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as error:
        raise StateError(f"{path}: {error}") from None
    return sql


def _migrate(path: Path) -> None:
    """Bring the schema of a database up to date, or make it."""
    try:
        with suppress(OSError):  # of which SQLite tells
            path.touch(mode=0o600)  # it has what messages are sent by, passwords too
        backend = get_backend(f"sqlite:///{quote(str(path.absolute()))}")
        try:
            migrations = read_migrations(str(_MIGRATIONS))
            # The lock of a process that was killed stays; whoever calls this has the folder alone.
            backend.break_lock()
            with backend.lock():
                known = {migration.hash for migration in migrations}
                if set(backend.get_applied_migration_hashes()) - known:
                    raise StateError(f"{path} was made by a newer Onggi; update this one")
                backend.apply_migrations(backend.to_apply(migrations))
        finally:
            backend.connection.close()
    except sqlite3.Error as error:
        raise StateError(f"{path}: {error}") from None
