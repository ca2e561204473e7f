"""What a manager has under way, and how runs ended of which nobody has taken note yet, on disk.

Owns: STATE/journal/RUN.json, one file for each run, which is whole and on the disk when a method
returns. Must not know processes, nor what becomes of a run. The files of different runs may be
written in several threads at a time; the folder belongs to one manager.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, cast

from .errors import StateError
from .messages import VANISHED, Ended
from .process import Identity

_NAME = re.compile(r"(0|[1-9][0-9]{0,17})\.json")
_PART_SUFFIX = ".part"
_ATTEMPT = re.compile(rb'"attempt": ?([0-9]{1,9})\b')
_MOST_BYTES = 8 << 20

_Record = TypeVar("_Record", "Entry", Ended, Identity)


@dataclass(frozen=True, slots=True)
class Entry:
    """A run, as the journal has it.

    Attributes:
        end: how it ended; before that, what is known already, as if the work were found dead.
        is_over: whether the work has ended.
        is_taken: whether the master has taken note of that.
        target, marker: of the work.
        makes: path of the archive that it makes; empty if none.
        parts_of: paths of files next to which there may be temporary files.
        scratch: paths of what is not to stay.
        is_clean: whether there are none of these any more.
        process: what works for it now; None before the first step.
    """

    end: Ended
    is_over: bool = False
    is_taken: bool = False
    target: str = ""
    marker: str = ""
    makes: str = ""
    parts_of: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()
    is_clean: bool = False
    process: Identity | None = None

    @property
    def run_id(self) -> int:
        """Number of the run."""
        return self.end.run_id


class Journal:
    """A journal.

    Args:
        folder: which is made if there is none; the one that it is in must exist.

    Raises:
        StateError: it can't be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _failure(folder, error) from None

    def read(self) -> list[Entry]:
        """Return all entries, in order of their runs.

        Of one that can't be read no more is known than its run, and maybe the attempt (or else 0):
        it vanished.

        Raises:
            StateError: the folder, or a file in it, can't be read.
        """
        entries: list[Entry] = []
        try:
            for path in sorted(self._folder.iterdir()):
                if path.name.endswith(_PART_SUFFIX):  # of a crash in `write`
                    path.unlink()
                elif found := _NAME.fullmatch(path.name):
                    with path.open("rb") as file:
                        entries.append(_entry(int(found[1]), file.read(_MOST_BYTES)))
        except OSError as error:
            raise _failure(self._folder, error) from None
        return sorted(entries, key=lambda entry: entry.run_id)

    def write(self, entry: Entry) -> None:
        """Put an entry in the place of the one that its run had.

        Raises:
            StateError: it can't be written; then the one before still stands.
        """
        path = self._path(entry.run_id)
        part = path.with_name(path.name + _PART_SUFFIX)
        try:
            with part.open("wb") as file:
                file.write(json.dumps(asdict(entry)).encode())
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            self._sync()
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise _failure(path, error) from None

    def forget(self, run_id: int) -> None:
        """Remove the entry of a run. Not made safe: after a crash it may be there again."""
        with suppress(OSError):
            self._path(run_id).unlink()

    def _path(self, run_id: int) -> Path:
        return self._folder / f"{run_id}.json"

    def _sync(self) -> None:
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _entry(run_id: int, data: bytes) -> Entry:
    """Return the entry that a file holds."""
    try:
        entry = _from_json(json.loads(data))
        if entry.run_id == run_id:
            return entry
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    attempt = _ATTEMPT.search(data)
    message = "its entry in the journal is damaged, so nothing more is known of it"
    end = Ended(run_id, int(attempt[1]) if attempt else 0, VANISHED, message=message)
    return Entry(end, is_over=True, is_clean=True)


def _from_json(found: dict[str, Any]) -> Entry:
    """Return an entry from its JSON form; what does not fit raises one of several errors."""
    end, process = found["end"], found["process"]
    end = _made(Ended, end | {"removed": tuple(end["removed"])})
    if process is not None:
        process = _made(Identity, process)
    lists = {name: tuple(found[name]) for name in ("parts_of", "scratch")}
    return _made(Entry, found | lists | {"end": end, "process": process})


def _made(kind: type[_Record], values: dict[str, Any]) -> _Record:
    """Return a record, if the values are those that it is to have."""
    for field in fields(kind):
        value: Any = values[field.name]
        name = "None" if value is None else type(value).__name__
        if name not in str(field.type).replace("[str, ...]", "").split(" | "):
            raise TypeError(field.name)
        if isinstance(value, tuple) and set(map(type, cast(tuple[object], value))) - {str}:
            raise TypeError(field.name)
    return kind(**values)


def _failure(path: Path, error: OSError) -> StateError:
    return StateError(f"the journal {path} can't be used: {os.strerror(error.errno or 0)}")
