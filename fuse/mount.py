"""Mounts an archive, or a folder of archives.

Owns: what is opened for that, how it is shown, and which options the kernel gets. Must not know
command lines. Import it only where `library.find_library` found something.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..archive import layout
from ..archive.errors import BadUseError, RefusedError
from ..archive.frames import FrameStore
from ..archive.guarded_store import GuardedStore
from ..archive.reader import Archive
from ..archive.store import FileStore
from ..archive.view import View
from ..archive.volume_view import VolumeView
from .adapter import Mount, Root
from .memory import keep_together
from .mounts import mounts_on
from .nodes import ShownArchive
from .status import Owners
from .tree_nodes import ShownTree
from .vault import Vault

VOLUME_NAME = b"volume.img"
_DEFAULTS: Sequence[str] = ("ro", "nosuid", "nodev", "default_permissions")
_OPPOSITES = {"suid": "nosuid", "dev": "nodev"}
_OURS = ("uid", "gid")
_REFUSED = ("rw",)
# What fstab and mount(8) say to each other, and not to a file system.
_OF_MOUNT = (
    "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev",
)  # fmt: skip
_OF_MOUNT_PREFIXES = ("x-", "X-", "comment=")
_AHEAD_FRAMES = 4
_READ_AHEAD_KB = 1024  # more gained nothing


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How something is mounted.

    Attributes:
        options: of the mount, as `mount -o` has them, split at commas.
        cache_bytes: how much decoded content is kept.
        threads: that decode ahead of those who read in order.
    """

    options: Sequence[str] = ()
    cache_bytes: int = 256 * layout.MIB
    threads: int = 1


class Mountable:
    """What is to be mounted: opened, and checked as far as can be before it is.

    Args:
        source: an archive, or a folder of archives.
        options: how.

    Raises:
        BadUseError: an option can't be.
        SourceError, NotAnArchiveError, UnsupportedError, DamagedError: it can't be opened.
    """

    def __init__(self, source: Path, options: MountOptions) -> None:
        self._source = source.absolute()
        owners, self._options = _split(options.options)
        self._frames = FrameStore(
            options.cache_bytes, ahead=_AHEAD_FRAMES * options.threads, threads=options.threads
        )
        self._known: dict[Path, tuple[int, int]] = {}  # content length, entries
        self._owners = owners
        self.root: Root
        if source.is_dir():
            self.root = Vault(self._source, self._open, owners)
        else:
            self.root = self._open(self._source, 1)

    def serve(self, folder: Path, ready: Callable[[], None]) -> None:
        """Mount it, call `ready` once it is up, and return when it was unmounted."""
        source = os.fspath(self._source).replace("\\", "\\\\").replace(",", "\\,")
        options = [f"fsname={source}", "subtype=onggi", *self._options]

        keep_together()

        def up() -> None:
            _raise_read_ahead(folder)
            ready()

        try:
            Mount(self.root, self._totals, os.fspath(folder), options, up)
        finally:
            self._frames.close()

    def _open(self, path: Path, first_inode: int) -> ShownArchive:
        store = FileStore(path)
        guarded = GuardedStore(store, store.close)
        try:
            archive = Archive(guarded)
            self._known[path] = (archive.content_bytes, archive.footer.member_count)
            owners = self._owners
            if archive.header.kind == layout.KIND_TREE:
                return ShownTree(View(archive, self._frames), owners, first_inode)
            # A volume has no owner: whoever mounts it may read it.
            owners = Owners(
                os.getuid() if owners.uid is None else owners.uid,
                os.getgid() if owners.gid is None else owners.gid,
            )
            view = VolumeView(archive, self._frames, VOLUME_NAME)
            return ShownArchive(view, owners, first_inode)
        except BaseException:
            guarded.close()
            raise

    def _totals(self) -> tuple[int, int]:
        known = list(self._known.values())
        return sum(content for content, _ in known), sum(entries for _, entries in known)


def _raise_read_ahead(folder: Path) -> None:
    """Let the kernel read more ahead than the 128 KiB that it grants; only root may do so."""
    for mounted in mounts_on(os.fspath(folder)):
        with suppress(OSError):
            place = Path(f"/sys/class/bdi/{mounted.device}/read_ahead_kb")
            place.write_text(str(_READ_AHEAD_KB))


def check_folder(folder: Path, options: Sequence[str]) -> None:
    """Check that something can be mounted on a folder.

    Raises:
        BadUseError: it is none, or can't be used.
        RefusedError: there is something in it, which would be hidden.
    """
    try:
        names = os.listdir(folder)
    except NotADirectoryError:
        raise BadUseError(f"{folder} is no folder; an archive is mounted on one") from None
    except FileNotFoundError:
        raise BadUseError(f"there is no folder {folder}; make it first") from None
    except OSError as error:
        if os.path.ismount(folder) or error.errno == errno.ENOTCONN:
            raise BadUseError(
                f"{folder} is a mount whose process has died; first `onggi umount {folder}`"
            ) from None
        reason = os.strerror(error.errno or 0)
        raise BadUseError(f"can't mount on {folder}: {reason}") from None
    if names and "nonempty" not in options:
        raise RefusedError(
            f"{folder} is not empty, and a mount would hide what is in it; "
            "choose an empty folder, or give -o nonempty"
        )


def split_options(texts: Sequence[str]) -> list[str]:
    """Return single options of what was given as `-o a,b -o c`."""
    return [option for text in texts for option in text.split(",") if option]


def _split(options: Sequence[str]) -> tuple[Owners, list[str]]:
    """Return what is ours of mount options, and what libfuse and the kernel get.

    Raises:
        BadUseError: one can't be.
    """
    wanted: list[str] = list(_DEFAULTS)
    owners = Owners()
    for option in options:
        key, _, value = option.partition("=")
        if key in _OURS:
            if not value.isdecimal() or int(value) >= 2**32 - 1:
                raise BadUseError(f"-o {option}: {key} must be a number")
            owners = owners._replace(**{key: int(value)})
        elif key in _REFUSED:
            raise BadUseError(
                f"-o {option}: an archive can't be changed, so it is mounted read-only"
            )
        elif key in _OPPOSITES:
            wanted = [each for each in wanted if each != _OPPOSITES[key]]
            wanted.append(option)
        elif option in _OF_MOUNT or option.startswith(_OF_MOUNT_PREFIXES) or key == "nonempty":
            continue
        elif option not in wanted:
            wanted.append(option)
    return owners, wanted
