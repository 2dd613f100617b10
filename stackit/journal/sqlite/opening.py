"""The steps before the journal's file is opened: the directory, its lock, the tables."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from pathlib import Path

from stackit.api.errors import JournalError, is_full_disk
from stackit.journal import directory as state_directory
from stackit.journal.sqlite import schema
from stackit.journal.sqlite.sizes import Sizes

_ROOM = 2**20
"""Free bytes that a new journal needs."""


class Full(JournalError):
    """The journal could not be opened because the disk is full: a later attempt may succeed."""


class Opening:
    """The preparation of a journal, once for all connections; on a full disk by a later attempt.

    ``path`` is the journal's file, ``sizes`` are for its connections. ``is_done`` is True once it can be opened.
    """

    __slots__ = ("_directory", "_lock", "is_done", "path", "sizes")

    def __init__(self, directory: Path, sizes: Sizes) -> None:
        self.path = directory / schema.NAME
        self.sizes = sizes
        self.is_done = False
        self._directory = directory
        self._lock: state_directory.DirectoryLock | None = None

    def attempt(self) -> None:
        """Do the steps that are left. Raises JournalError, and Full where the disk has no room for them."""
        if self.is_done:
            return
        try:
            if self._lock is None:
                state_directory.prepare(self._directory)
                self._lock = state_directory.DirectoryLock(self._directory)
            schema.prepare(self.path)
        except (state_directory.Unusable, sqlite3.Error) as problem:
            raise self.explained(problem) from None
        self.is_done = True

    def explained(self, problem: Exception) -> JournalError:
        """Return the error for people: Full on a full disk, else one with the text of the problem."""
        text = str(problem)
        if isinstance(problem, sqlite3.Error):
            text = f"the journal {self.path} cannot be opened: {text}"
        return Full(f"the disk is full: {text}") if is_full(self._directory) else JournalError(text)

    def release(self) -> None:
        """Release the lock of the directory."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()


def is_full(directory: Path) -> bool:
    """Return True where the disk below ``directory`` (which may be missing) takes no new file of a megabyte."""
    place = next((each for each in (directory, *directory.absolute().parents) if each.is_dir()), None)
    if place is None:
        return False
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(_ROOM))
            file.flush()
            os.fsync(file.fileno())
    except OSError as problem:
        return is_full_disk(problem)
    return False
