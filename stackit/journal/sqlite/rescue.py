"""What is done when the journal's files were hurt under the process: all of it is in open descriptors still."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from stackit.journal import directory
from stackit.journal.sqlite.files import Files, Hurt, Identity, JournalCut, JournalGone, LogGone

_PAGES = 4096
"""Pages that are copied between two signs of life."""


class Rescue:
    """Saves what can be saved, once, and says what a person has to do.

    ``let_go`` has the reader close its connection, and returns whether it did. ``moved`` is called now and then while
    a copy is made.
    """

    __slots__ = ("_files", "_let_go", "_moved", "_path", "_saved")

    def __init__(self, path: Path, files: Files, let_go: Callable[[], bool], moved: Callable[[], None]) -> None:
        self._path = path
        self._files = files
        self._let_go = let_go
        self._moved = moved
        self._saved: str | None = None

    def explain(self, hurt: Hurt, connection: sqlite3.Connection | None) -> str:
        """What happened, and the way out. Anything that can be saved is."""
        if isinstance(hurt, JournalCut):
            return f"{hurt}; stop stackit, and restore the journal from a copy"
        if isinstance(hurt, JournalGone):
            place = whereabouts(self._files.journal_is)
            if place is not None:
                return f"{hurt}; it was moved to {place}: move it back, and stackit goes on by itself"
        if self._saved is None:
            self._saved = self._save(connection)
        return f"{hurt}; {self._saved}"

    def bring_log_in(self, gone: LogGone, connection: sqlite3.Connection) -> str | None:
        """Bring a log that has lost its name into the journal's file, which has its own; why that fails, if it does.

        The connection is the last one then, and is to be closed: the next one begins a new log.
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
        return None if self._let_go() else f"{gone}, and the journal's reader does not let go of it"

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


def whereabouts(identity: Identity | None) -> Path | None:
    """Where an open file of this process is now; None where no name leads to it any more."""
    with suppress(FileNotFoundError):  # there need not be a /proc
        for link in Path("/proc/self/fd").iterdir():
            # Not opened: closing a descriptor of the journal's file would drop all locks that SQLite has on it.
            with suppress(OSError):
                status = link.stat()
                if (status.st_dev, status.st_ino) == identity:
                    return link.readlink() if status.st_nlink else None
    return None


def is_sound(connection: sqlite3.Connection) -> bool:
    """Whether the journal's file is whole: it may be shorter because somebody vacuumed it. Reads all of it."""
    try:
        return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.Error:
        return False


def _copy(connection: sqlite3.Connection, path: Path, moved: Callable[[], None]) -> Path:
    """Copy what a connection has open to a new file beside ``path``: that file, on disk.

    It is the same page by page, so that a log that is still there may be applied to it once more.
    """
    new = path.with_name(f"{path.name}.saving")
    new.unlink(missing_ok=True)
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        copy = sqlite3.connect(new, isolation_level=None)
        try:
            connection.backup(copy, pages=_PAGES, progress=lambda *_: moved())
            verdict = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
        finally:
            copy.close()
        if verdict != "ok":
            raise sqlite3.DatabaseError(f"the copy is damaged: {verdict}")
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
