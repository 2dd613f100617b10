"""The rescue of a journal whose files were changed from outside: all of it is in open descriptors still."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from stackit.journal import directory
from stackit.journal.sqlite.copying import copy
from stackit.journal.sqlite.files import (
    FilesChanged,
    Identity,
    JournalFiles,
    JournalMissing,
    JournalTruncated,
    LogMissing,
)


class Rescue:
    """Saves what can be saved, once, and tells people the way out.

    ``release_reader`` has the reader close its connection, and returns False where it does not. ``moved`` is called now
    and then while a copy is made.
    """

    __slots__ = ("_files", "_moved", "_path", "_release_reader", "_saved")

    def __init__(
        self, path: Path, files: JournalFiles, release_reader: Callable[[], bool], moved: Callable[[], None]
    ) -> None:
        self._path = path
        self._files = files
        self._release_reader = release_reader
        self._moved = moved
        self._saved: str | None = None

    def explain(self, change: FilesChanged, connection: sqlite3.Connection | None) -> str:
        """Save what can be saved, and return a line with the cause and the way out."""
        if isinstance(change, JournalTruncated):
            return f"{change}; stop stackit, and restore the journal from a copy"
        if isinstance(change, JournalMissing):
            place = present_path(self._files.journal_is)
            if place is not None:
                return f"{change}; it was moved to {place}: move it back, and stackit goes on by itself"
        if self._saved is None:
            self._saved = self._save(connection)
        return f"{change}; {self._saved}"

    def bring_log_in(self, gone: LogMissing, connection: sqlite3.Connection) -> str | None:
        """Copy a log that has lost its name into the journal's file; return None, or the reason why that failed.

        The connection is the last one then, and has to be closed: the next one begins a new log.
        """
        try:
            busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as problem:
            return f"{gone}, and it cannot be brought into {self._path}: {problem}"
        if busy:
            return f"{gone}, and it cannot be brought into {self._path} while somebody reads it"
        # A log from elsewhere would be applied to the journal.
        with suppress(FileNotFoundError):
            self._files.log.replace(self._files.log.with_name(f"{self._files.log.name}.replaced"))
        return None if self._release_reader() else f"{gone}, and the journal's reader does not let go of it"

    def _save(self, connection: sqlite3.Connection | None) -> str:
        log = self._files.log
        try:
            if connection is None:
                raise sqlite3.OperationalError("it is not open any more")
            saved = _copy(connection, self._path, self._moved)
        except (OSError, sqlite3.Error) as problem:
            return (
                f"what was confirmed could not be saved ({problem}): keep this process and both files as they are "
                f"while you look for a copy; stackit goes on with what is left at its next start"
            )
        return (
            f"all that was confirmed is saved in {saved}: stop stackit, remove {log} and {self._path.name}-shm, "
            f"move {saved.name} to {self._path}, and start it again"
        )


def present_path(identity: Identity | None) -> Path | None:
    """Return the present path of a file that this process has open; None where it has none any more."""
    with suppress(FileNotFoundError):  # there need not be a /proc
        for link in Path("/proc/self/fd").iterdir():
            # Not opened: closing a descriptor of the journal's file would drop all locks that SQLite has on it.
            with suppress(OSError):
                status = link.stat()
                if (status.st_dev, status.st_ino) == identity:
                    return link.readlink() if status.st_nlink else None
    return None


def is_sound(connection: sqlite3.Connection) -> bool:
    """Return True for a file that is whole: it may be shorter after a VACUUM. Reads all of it."""
    try:
        return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.Error:
        return False


def _copy(connection: sqlite3.Connection, path: Path, moved: Callable[[], None]) -> Path:
    """Copy the database of a connection to a new file beside ``path``, and return its path.

    The copy is the same page by page, so a log that is still there may be applied to it once more.
    """
    new = path.with_name(f"{path.name}.saving")
    new.unlink(missing_ok=True)
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        copy(connection, new, lambda _done, _total: moved())
        saved = _unused(path)
        directory.make_durable(new, saved)
    finally:
        new.unlink(missing_ok=True)
    return saved


def _unused(path: Path) -> Path:
    saved, number = path.with_name(f"{path.name}.saved"), 1
    while saved.exists():
        number += 1
        saved = path.with_name(f"{path.name}.saved-{number}")
    return saved
