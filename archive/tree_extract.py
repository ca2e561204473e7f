"""Unpacks a tree: one place makes folders and hands out files, N threads decode and write them.

Owns: the threads, and what they do with files. Writes only below the folder that it is given: every
step goes from an open folder to a plain name in it. Must not know command lines. `unpack_tree` is
called in one thread, and starts its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from threading import Lock

from .accelerate import native
from .destination import Destination, RestoreOptions, failures_of
from .errors import DamagedError, Finding, Severity, StoreError
from .folders import Folders
from .frames import FrameCache
from .pool import OrderedPool
from .progress import Progress, Report, silent
from .reader import Content
from .restore import FATAL, NewEntryFile, gives_acl
from .restore_plan import (
    Done,
    File,
    FlagsLater,
    Part,
    PlainFiles,
    Restored,
    RestorePlanner,
    Task,
    selected,
)
from .tree import Tree


def unpack_tree(
    tree: Tree,
    content: Content,
    dest: str,
    *,
    threads: int,
    paths: Sequence[bytes] = (),
    options: RestoreOptions | None = None,
    found: Callable[[Finding], None] = lambda _: None,
    report: Report = silent,
) -> Restored:
    """Restore a tree, or parts of it, below the folder `dest`.

    Each thing appears under its name when it is whole. What was restored stays if this fails.

    Args:
        tree: the catalogue.
        content: the archive, or what was salvaged of it.
        dest: a folder; made if it does not exist. What is in it stays, unless it is to be replaced.
        threads: decoders.
        paths: what to restore, with all that is below it; everything if there are none.
        options: how.
        found: told of each thing that could not be restored, in whole or in part.
        report: told after each task.

    Raises:
        DamagedError: something is damaged, and `salvage` is false.
        BadUseError: a path is not in the archive, or holds `..`.
        StoreError: `dest` can't be written.
        SourceError: the archive can't be read.
    """
    options = options or RestoreOptions()
    tops = selected(tree, paths)
    restored = Restored()
    flags_later: list[FlagsLater] = []
    done = 0

    def consume(result: Done) -> None:
        nonlocal done
        for finding in result.findings:
            found(finding)
        for name in Restored.__slots__:
            setattr(restored, name, getattr(restored, name) + getattr(result.restored, name))
        flags_later.extend(result.flags_later)
        planner.failed |= result.failed
        done += result.content_bytes
        report(Progress("unpack", done, total, done))

    total = None if paths else tree.summary.file_bytes
    # A frame may be wanted by the task that ends in it and by the one that begins in it.
    cache = FrameCache(content, 2 * (threads + 1) * content.geometry.frame_bytes)
    with Folders() as folders:
        destination = Destination(tree, folders, dest, options)
        writer = _Writer(destination, cache)
        planner = RestorePlanner(destination, tops, writer.release)
        pool: OrderedPool[None, Task, Done] = OrderedPool(
            threads, lambda: None, lambda _: planner.take(), lambda task, _: writer.work(task),
            on_stop=writer.stop,
        )  # fmt: skip
        try:
            pool.run(consume)
            consume(planner.finish(flags_later))
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise StoreError(f"can't write below {dest}: {reason}") from None
        finally:
            writer.discard_open()
    return restored


class _Writer:
    """Does tasks: decodes files, and writes them; shared by all threads."""

    def __init__(self, destination: Destination, frames: FrameCache) -> None:
        self._to = destination
        self._frames = frames
        self._open: set[File] = set()
        self._lock = Lock()
        self._stopped = False
        # What a damaged frame costs has to be told file by file.
        self._native = None if destination.options.salvage else native()

    def stop(self) -> None:
        """End tasks under way early, between two files: nobody waits for them."""
        self._stopped = True

    def _check_stopped(self) -> None:
        if self._stopped:  # nobody hears of this error
            raise StoreError("unpacking was stopped")

    def work(self, task: Task) -> Done:
        """Write the files, and parts of files, of a task."""
        done = task.done
        for item in task.items:
            self._check_stopped()
            folder = item.folder if isinstance(item, PlainFiles) else item.file.folder
            try:
                fd = self._to.folders.pin(folder)
            except OSError as error:
                self._fail_all(item, error, done)
                continue
            try:
                if isinstance(item, PlainFiles):
                    self._plain_files(fd, item, done)
                else:
                    self._part(fd, item, done)
            finally:
                self._to.folders.unpin(folder)
        return done

    # --- plain files -------------------------------------------------------------------------

    def _plain_files(self, fd: int, files: PlainFiles, done: Done) -> None:
        """Restore many files: what is common by the compiled helper, if it is there."""
        at = files.first
        by_native = self._native is not None and files.rows.strings and not gives_acl(fd)
        while at < files.end:
            stop = at + 1
            if by_native:
                stop, left = self._by_native(fd, files, at, done)
            else:
                left = [at]
            for number in left:
                self._check_stopped()
                entry = files.rows.entry(number)
                file = File(entry, entry.row, files.folder, files.rows.name(entry))
                self._write(
                    fd, file, 0, self._pieces(file, 0, entry.first, entry.member_bytes, done), done
                )
                self.release(file, done, fd)
            at = stop

    def _by_native(self, fd: int, files: PlainFiles, at: int, done: Done) -> tuple[int, list[int]]:
        """Restore files from row `at` on, as far as the frame goes that the first of them is in.

        Returns the first row that was not looked at, and the rows that were left: what is not
        common about them is for `_write`.
        """
        assert self._native is not None
        rows, content, start = files.rows, b"", 0
        offset = rows.first_content(at, files.end)
        if offset is not None and offset < self._frames.content_bytes:
            content, start = self._frames.frame_at(offset)
        options, placing = self._to.options, self._to.placing
        stop, left, count, size = self._native.restore_rows(
            fd, rows.raw, at, files.end, rows.first, rows.parent, rows.strings,
            rows.strings_offset, content, start, self._to.owners, placing.prefix,
            not options.force, self._to.mode_bits,
        )  # fmt: skip
        done.restored.entries += count
        done.restored.files += count
        done.restored.file_bytes += size
        done.content_bytes += size
        if stop == at:  # its row says what can't be
            return at + 1, [at]
        return stop, left

    def _pieces(
        self, file: File, member_offset: int, content_offset: int, length: int, done: Done
    ) -> Iterator[memoryview]:
        """Yield the content of a run of a file's bytes."""
        end = content_offset + length
        while content_offset < end:
            take = end - content_offset
            try:
                content, start = self._frames.frame_at(content_offset)
            except DamagedError as error:
                if not self._to.options.salvage:
                    raise
                take = min(take, self._frames.frame_end(content_offset) - content_offset)
                done.findings.append(_lost(file, member_offset, take, error))
                done.restored.lost_bytes += take
                piece = memoryview(bytes(take))
            else:
                within = content_offset - start
                piece = memoryview(content)[within : within + take]
            yield piece
            content_offset += len(piece)
            member_offset += len(piece)

    # --- one file ----------------------------------------------------------------------------

    def _part(self, fd: int, part: Part, done: Done) -> None:
        file, member_offset, content_offset, length = part
        pieces = self._pieces(file, member_offset, content_offset, length, done)
        self._write(fd, file, member_offset, pieces, done)
        self.release(file, done, fd)

    def _write(
        self, fd: int, file: File, member_offset: int, pieces: Iterator[memoryview], done: Done
    ) -> None:
        try:
            new = self._opened(fd, file)
            if new is not None:
                done.content_bytes += new.write_at(member_offset, pieces)
        except OSError as error:
            self._fail(fd, file, error, done)

    def _opened(self, fd: int, file: File) -> NewEntryFile | None:
        """Return the new file, made by the first who asks; None if it could not be made."""
        with file.lock:
            if file.failed:
                return None
            if file.new is None:
                entry = file.entry
                part = self._to.placing.part(file.row)
                file.new = NewEntryFile(fd, part, entry.member_bytes if entry.is_mapped else None)
                with self._lock:
                    self._open.add(file)
            return file.new

    def release(self, file: File, done: Done, fd: int | None = None) -> None:
        """Say that a task, or the planner, is through with a file; the last one finishes it."""
        with file.lock:
            file.waiting -= 1
            if file.waiting or file.new is None:
                return
        if fd is not None:
            self._end(fd, file, done)
            return
        with self._to.folders.use(file.folder) as folder:
            self._end(folder, file, done)

    def _end(self, fd: int, file: File, done: Done) -> None:
        """Finish a file, or remove one that failed; nobody writes to it any more."""
        if file.failed:
            self._close(fd, file)
        else:
            self._finish(fd, file, done)

    def _finish(self, fd: int, file: File, done: Done) -> None:
        assert file.new is not None
        path = file.path
        with self._lock:
            self._open.discard(file)
        done.findings += self._to.limits(file.entry, path)
        later = 0
        try:
            metadata = self._to.metadata(file.entry)
            if metadata.file_flags and file.entry.link_count > 1:
                later, metadata = metadata.file_flags, metadata._replace(file_flags=0)
            failures = file.new.finish(fd, file.name, metadata, self._to.placing)
        except OSError as error:
            if error.errno in FATAL:
                raise
            done.failed.add(file.row)
            done.findings.append(self._to.failed(path, error))
            return
        except BaseException:
            file.new.discard(fd)
            raise
        if later:
            done.flags_later.append(FlagsLater(file.folder, file.name, later))
        done.findings += failures_of(path, failures)
        done.restored.entries += 1
        done.restored.files += 1
        done.restored.file_bytes += file.entry.member_bytes

    # --- failures ----------------------------------------------------------------------------

    def _fail(self, fd: int, file: File, error: OSError, done: Done) -> None:
        """Give up a file, and tell so once; or give up all.

        It stays open until all who write to it are through: its descriptor must not become that of
        another file meanwhile.
        """
        if error.errno in FATAL:
            raise error
        with file.lock:
            told, file.failed = file.failed, True
        done.failed.add(file.row)
        if not told:
            done.findings.append(self._to.failed(file.path, error))

    def _fail_all(self, item: Part | PlainFiles, error: OSError, done: Done) -> None:
        """Tell that the folder of something can't be entered."""
        if error.errno in FATAL:
            raise error
        if isinstance(item, PlainFiles):
            for number in range(item.first, item.end):
                path = item.folder.path_of(item.rows.name(item.rows.entry(number)))
                done.findings.append(self._to.failed(path, error))
            return
        file = item.file
        with file.lock:
            told, file.failed = file.failed, True
        if not told:
            done.findings.append(self._to.failed(file.path, error))

    def _close(self, fd: int, file: File) -> None:
        with file.lock:
            file.failed = True
            new, file.new = file.new, None
        with self._lock:
            self._open.discard(file)
        if new is not None:
            new.discard(fd)

    def discard_open(self) -> None:
        """Remove files that were begun and not finished; no thread runs any more."""
        for file in list(self._open):
            # Its folder may be gone, and it with it.
            with suppress(OSError), self._to.folders.use(file.folder) as fd:
                self._close(fd, file)


def _lost(file: File, member_offset: int, length: int, error: DamagedError) -> Finding:
    shown = os.fsdecode(file.path)
    return Finding(
        "lost-content", Severity.DAMAGE,
        f"{shown}: {length} bytes at byte {member_offset} are lost ({error})",
        unit=error.unit, frame=error.frame, content_offset=member_offset, content_bytes=length,
        archive_offset=error.archive_offset, path=shown,
    )  # fmt: skip
