"""The two files of the journal: checks that they are still those that were opened.

SQLite writes to the files that it has open. Files can be moved, removed, replaced or cut while they are open, so only a
check of their names tells that the next start will find a commit there.
"""

from __future__ import annotations

import os
from pathlib import Path

Identity = tuple[int, int]
"""Device and inode."""

_SALTS = (8, 16)
"""Length and place of what is another in the log's header whenever SQLite begins it anew
(https://www.sqlite.org/fileformat2.html#walformat)."""
_HEADER = 32
_BLOCK = 512  # bytes, whatever a file system's own blocks are


def log_of(journal: Path) -> Path:
    """Return the path of the write-ahead log of a journal's file."""
    return journal.with_name(f"{journal.name}-wal")


class FilesChanged(Exception):
    """The files were changed from outside; the text says how."""


class JournalMissing(FilesChanged):
    """The journal's file is not where it was, or another one is there."""


class LogMissing(FilesChanged):
    """The write-ahead log is not where it was, or another one is there."""


class LogTruncated(FilesChanged):
    """The write-ahead log is shorter than it was."""


class JournalTruncated(FilesChanged):
    """The journal's file is shorter than it was: it was vacuumed, or cut."""

    def __init__(self, text: str, size: int) -> None:
        super().__init__(text)
        self.size = size


class JournalFiles:
    """The journal's file and its log, as the writer saw them last.

    ``log_size`` is the size of the log in bytes, after the last commit.
    """

    __slots__ = (
        "_counts_blocks",
        "_descriptor",
        "_emptied",
        "_journal",
        "_journal_is",
        "_journal_size",
        "_log",
        "_log_is",
        "_salts",
        "log_size",
    )

    def __init__(self, path: Path) -> None:
        self._journal = path
        self._log = log_of(path)
        self._descriptor: int | None = None
        self._journal_is: Identity | None = None
        self._journal_size = 0
        self._log_is: Identity | None = None
        self._salts = b""
        self._emptied = False
        self._counts_blocks = True
        self.log_size = 0

    @property
    def journal_is(self) -> Identity | None:
        """Return the identity of the journal's file that was opened first; any other file is not this journal."""
        return self._journal_is

    @property
    def log(self) -> Path:
        """Return the path of the log."""
        return self._log

    def check_name(self) -> None:
        """Raise FilesChanged unless a new connection will open the file that was opened first."""
        status = _look(self._journal, JournalMissing)
        if self._journal_is is not None and _identity(status) != self._journal_is:
            raise JournalMissing(f"another file is in the place of {self._journal}")
        if self._log_is is not None and not self.log_is_there():
            raise LogMissing(f"its log {self._log} is not there any more")

    def log_is_there(self) -> bool:
        """Return True where the name of the log leads to the file that was opened."""
        try:
            return _identity(self._log.stat()) == self._log_is
        except OSError:
            return False

    def forget_log(self) -> None:
        """Let the next connection begin another log, as all of this one is in the journal's file."""
        self._log_is = None

    def opened(self) -> None:
        """Remember the identities and sizes of both files, which a connection has just opened."""
        self.close()
        self._descriptor = os.open(self._log, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(self._descriptor)
        self._log_is, self.log_size = _identity(status), status.st_size
        journal = self._journal.stat()
        if self._journal_is is None:  # not before: to be opened makes another inode of a file in some file systems
            self._journal_is = _identity(journal)
        self._journal_size = journal.st_size
        self._salts = os.pread(self._descriptor, *_SALTS)
        self._emptied = False

    def check_before_commit(self) -> None:
        """Raise LogTruncated where the log was cut since the last commit: what follows a hole is never found again.

        Neither our own commits nor checkpoints shorten it in between. Another process may have emptied it by a
        checkpoint, and have begun it anew.
        """
        assert self._descriptor is not None  # noqa: S101 - opened by now
        size = os.fstat(self._descriptor).st_size
        if size < self.log_size:
            if 0 < size < _HEADER or os.pread(self._descriptor, *_SALTS) == self._salts:
                raise LogTruncated(f"its log {self._log} was cut from {self.log_size} to {size} bytes")
            self._emptied = True

    def check_after_commit(self) -> None:
        """Raise FilesChanged unless the commit is in files that the next start will find."""
        assert self._descriptor is not None  # noqa: S101 - opened by now
        journal = _look(self._journal, JournalMissing)
        if _identity(journal) != self._journal_is:
            raise JournalMissing(f"another file is in the place of {self._journal}")
        log = _look(self._log, LogMissing)
        if _identity(log) != self._log_is:
            raise LogMissing(f"another file is in the place of its log {self._log}")
        salts = os.pread(self._descriptor, *_SALTS)
        if self._emptied and not log.st_size:
            salts = self._salts  # nothing was added yet
        elif self._emptied:
            if not any(salts) or salts == self._salts:  # the commit went behind a hole
                raise LogTruncated(f"its log {self._log} was cut from {self.log_size} to 0 bytes")
            self._emptied = False
        else:
            self._check_whole(log, salts)
        if journal.st_size < self._journal_size:
            raise JournalTruncated(f"{self._journal} was cut to {journal.st_size} bytes", journal.st_size)
        self.log_size, self._journal_size, self._salts = log.st_size, journal.st_size, salts

    def _check_whole(self, log: os.stat_result, salts: bytes) -> None:
        """Raise LogTruncated where the log was cut while the commit was written: it is shorter, or it has a hole."""
        if log.st_size < self.log_size and salts == self._salts:
            raise LogTruncated(f"its log {self._log} was cut from {self.log_size} to {log.st_size} bytes")
        if self._counts_blocks and log.st_blocks * _BLOCK < log.st_size:
            hole = os.lseek(self._descriptor or 0, 0, os.SEEK_HOLE)
            if hole < log.st_size:
                raise LogTruncated(f"its log {self._log} was cut from {self.log_size} to {hole} bytes")
            self._counts_blocks = False  # this file system compresses, or counts later

    def accept_size(self, size: int) -> None:
        """Take the journal's file for whole at this size."""
        self._journal_size = size

    def close(self) -> None:
        """Close the log."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _look(path: Path, gone: type[FilesChanged]) -> os.stat_result:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise gone(f"{path} is not there any more") from None


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino
