"""The committer: the connection that writes, the checks of its files, and the way out where a commit fails."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.errors import JournalError
from stackit.journal.sqlite.batch import PendingWrite, beat, run_batch
from stackit.journal.sqlite.checkpoints import UNDER_WAY, behind, checkpoint, checkpoint_now
from stackit.journal.sqlite.files import FilesChanged, JournalFiles, JournalTruncated, LogMissing
from stackit.journal.sqlite.opening import Opening
from stackit.journal.sqlite.rescue import Rescue, is_sound
from stackit.journal.sqlite.schema import Connection, connect, open_log

_log = Logger(namespace="stackit")


class Committer:
    """Commits batches of writes, one after the other. All of it is run in the writer's thread.

    ``before_commit`` is called when a commit has nothing left to do but to wait for the disk. ``release_reader`` has
    the reader close its connection: see ``Rescue``. ``steps`` grows with every piece of work. ``behind`` is the reason
    why the log cannot be copied into the journal's file, if it cannot. ``files_changed`` is True while the files are
    changed from outside, which a person has to mend. ``catch_up`` has the next commit followed by a checkpoint.
    """

    def __init__(
        self, opening: Opening, *, before_commit: Callable[[], None], release_reader: Callable[[], bool]
    ) -> None:
        self.connection: Connection | None = None
        self.steps = 0
        self.behind: str | None = None
        self.files_changed = False
        self.catch_up = False
        self._opening = opening
        self._path = opening.path
        self._sizes = opening.sizes
        self._before_commit = before_commit
        self._files = JournalFiles(opening.path)
        self._rescue = Rescue(opening.path, self._files, release_reader, self.count_step)
        self._problem: str | None = None
        self._checkpoint_requested = False

    def start(self, problem: str | None) -> None:
        """Take over the reason why nothing can be written yet, if there is one."""
        self._problem = problem

    def connect(self) -> Connection:
        """Open the connection: in the writer's thread, or before that is started.

        Raises JournalError, and FilesChanged for files that are not those that were opened first.
        """
        self._opening.attempt()
        self._files.check_name()
        try:
            self.connection = self._connect()
        except sqlite3.Error as problem:
            raise self._opening.explained(problem) from None
        return self.connection

    def run(self, batch: list[PendingWrite]) -> tuple[list[Any], str | None, bool]:
        """Return the results, the problem (None: all is well), and whether the log is worth a checkpoint."""
        self.count_step()
        is_beat = len(batch) == 1 and batch[0].batch_operation is beat
        results: list[Any] = [None]
        try:
            if is_beat:
                self._check_without_commit()
            else:
                results = self._commit(batch)
        except BaseException as error:  # noqa: BLE001 - also of a MemoryError this commit fails, and not the thread
            self._problem = self._explained(error)
            return [Failure(JournalError(self._problem)) for _ in batch], self._problem, False
        if is_beat and (self._problem is not None or not (self.catch_up or self.behind)):
            return results, self._problem, False
        self._problem = None
        return results, None, self._log_has_grown()

    def close(self) -> None:
        """Close the connection, unless a last look shows that the files were changed from outside."""
        if self.connection is not None and not self.files_changed:
            try:
                self._check_files(self.connection)
            except FilesChanged as change:
                _log.error("{problem}", problem=self._explained(change))
        if not self.files_changed:
            self._disconnect()

    def count_step(self) -> None:
        """Show that the thread moves."""
        self.steps += 1

    def _check_without_commit(self) -> None:
        """Check both files without a commit: they may be gone, or there again."""
        if self.connection is not None and (self.files_changed or self._problem is None):
            self._check_files(self.connection)
            if self.files_changed:
                self.files_changed, self._problem = False, None

    def _commit(self, batch: list[PendingWrite]) -> list[Any]:
        connection = self.connection or self.connect()
        self._files.check_before_commit()
        if self.files_changed:
            self._check_files(connection)  # nothing is added until both files are as they were
            self.files_changed = False
        if self._files.log_size > self._sizes.log:
            reason = checkpoint_now(connection)
            if reason is not None:
                raise JournalError(behind(self._path, reason, self._files.log_size, self._sizes))
        results = run_batch(connection, batch, self._before_commit)
        self.count_step()
        self._check_after_commit(connection)
        return results

    def _check_files(self, connection: Connection) -> None:
        """Raise FilesChanged unless both files are those that were opened, between two commits."""
        self._files.check_before_commit()
        self._check_after_commit(connection)

    def _check_after_commit(self, connection: Connection) -> None:
        try:
            self._files.check_after_commit()
        except JournalTruncated as cut:
            if not is_sound(connection):
                raise
            self._files.accept_size(cut.size)

    def _explained(self, error: BaseException) -> str:
        """Do what can be done about a failed commit, and return the problem as a line for people. Never raises."""
        try:
            reason = self._explain(error)
        except BaseException as another:  # noqa: BLE001 - a fault of the rescue must not end the thread
            reason = f"{str(error) or type(error).__name__} ({str(another) or type(another).__name__})"
        return f"the journal cannot write to {self._path.parent}: {reason}"

    def _explain(self, error: BaseException) -> str:
        if isinstance(error, LogMissing) and self.connection is not None:
            self.files_changed = True
            problem = self._rescue.bring_log_in(error, self.connection)
            if problem is not None:
                return problem
            self.files_changed = False
            self._disconnect()
            self._files.forget_log()
            return f"{error}; all of it was brought into {self._path}, and a new one is begun"
        if isinstance(error, FilesChanged):
            self.files_changed = True
            return self._rescue.explain(error, self.connection)
        if not isinstance(error, JournalError):
            # A fresh connection for the next commit: after an I/O error this one's state is not worth a guess.
            self._disconnect()
        return str(error) or type(error).__name__

    def _connect(self) -> Connection:
        connection = connect(self._path, self._sizes)
        try:
            open_log(connection)
            self._files.opened()
        except BaseException:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        self._files.close()
        connection, self.connection = self.connection, None
        if connection is not None:
            was_there = self._files.log_is_there()
            with suppress(sqlite3.Error, MemoryError):
                connection.close()
            if was_there and not self._files.log_is_there():
                self._files.forget_log()  # this connection was the last one, and has folded it up

    def _log_has_grown(self) -> bool:
        """Return True where the write-ahead log is worth a checkpoint now, and none is under way.

        The reader makes it, beside commits. What those add meanwhile is brought in here, between two
        commits: little, but else the log would never be caught up with under load, and never start anew.
        """
        if self.catch_up and self.connection is not None:
            self.catch_up = self._checkpoint_requested = False
            reason = checkpoint(self.connection)
            if reason != UNDER_WAY:
                self.behind = None if reason is None else behind(self._path, reason, self._files.log_size, self._sizes)
        elif not self._checkpoint_requested and self._files.log_size > self._sizes.checkpoint:
            self._checkpoint_requested = True
            return True
        return False
