"""The committer: the connection that writes, and what is done where the database does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import Any

import psycopg
from twisted.python.failure import Failure

from stackit.api.errors import JournalError
from stackit.journal.postgres.batch import Step, do_nothing, run_step
from stackit.journal.postgres.commit import Bundles, Changes, Commit, Snapshot
from stackit.journal.postgres.connection import Connection, Server, reason, takes_writes
from stackit.journal.postgres.subscribers import Subscribers

_QUIET = 1.0
"""Seconds for which the database may be away before anybody is told of it."""
_PAUSE = 0.1
"""Seconds until a step is tried again that the database did not take."""

_TRANSIENT = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
)
"""What fails a transaction and leaves its connection as it was: nothing of it is there."""


class Committer:
    """Commits steps of writes, one after the other. All of it is run in the writer's thread.

    ``on_failure`` is called, in that thread, at the first failure of the database since a step went through,
    ``on_problem`` while it is away and a step is tried again, and ``on_reconnected`` when there is another connection.
    ``stopping`` ends these attempts. ``steps`` grows with every piece of work.
    """

    def __init__(
        self,
        server: Server,
        purpose: str,
        subscribers: Subscribers,
        *,
        on_failure: Callable[[], object],
        on_problem: Callable[[str], object],
        on_reconnected: Callable[[], object],
    ) -> None:
        self.steps = 0
        self.connection: Connection | None = None
        self.stopping = Event()
        self._server = server
        self._purpose = purpose
        self._subscribers = subscribers
        self._bundles = Bundles()
        self._on_failure = on_failure
        self._on_problem = on_problem
        self._on_reconnected = on_reconnected
        self._is_in_doubt = False
        self._away_since: float | None = None
        self._problem: str | None = None

    def connect(self) -> Connection:
        """Open the connection: in the writer's thread, or before that is started. Raises JournalError."""
        self.connection = self._server.connect(self._purpose)
        return self.connection

    def doubt(self) -> None:
        """See before the next step whether the server still takes writes. From any thread."""
        self._is_in_doubt = True

    def run(self, step: Step, snapshot: Snapshot) -> tuple[list[Any], Changes, str | None]:
        """Return the results of a step, its changes, and the problem (None: all is well)."""
        if step[0].operation is do_nothing:
            self.steps += 1
            return [None], Changes(), self._problem
        results, changes, self._problem = self._run(step, snapshot)
        return results, changes, self._problem

    def _run(self, step: Step, snapshot: Snapshot) -> tuple[list[Any], Changes, str | None]:
        in_doubt = False
        while True:
            self.steps += 1
            try:
                connection = self._current() or self._reconnect()
                commit = Commit(connection, snapshot, self._subscribers, self._bundles, in_doubt=in_doubt)
                results = run_step(commit, step)
            except _TRANSIENT as error:
                in_doubt = True  # another transaction of the step may be there
                problem = reason(error)
            except psycopg.Error as error:
                in_doubt = True
                problem = reason(error)
                self.disconnect()
            except JournalError as error:
                problem = str(error)
            except BaseException as error:  # noqa: BLE001 - also of a MemoryError this step fails, and not the thread
                self.disconnect()
                problem = reason(error)
                self._away_since = self._away_since or time.monotonic() - self._server.patience
            else:
                self._away_since = None
                return results, commit.changes, None
            if not self._try_again(problem):
                said = f"the journal cannot be written to the database: {problem}"
                return [Failure(JournalError(said)) for _ in step], Changes(), said

    def _current(self) -> Connection | None:
        """Return the connection; None where there is none, or its server takes no writes any more."""
        if self._is_in_doubt and self.connection is not None:
            self._is_in_doubt = False
            if not takes_writes(self.connection):
                self.disconnect()
        return self.connection

    def _reconnect(self) -> Connection:
        connection = self.connect()
        self._on_reconnected()
        return connection

    def disconnect(self) -> None:
        """Close the connection; the next step makes another one."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _try_again(self, problem: str) -> bool:
        """Wait a moment; return False where the database has been away for too long."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
            self._on_failure()
        away = now - self._away_since
        if away >= self._server.patience or self.stopping.wait(_PAUSE):
            return False
        if away >= _QUIET:
            self._on_problem(f"the journal cannot be written to the database: {problem}")
        return True
