"""The reader: the thread that answers questions, so that they never hold up a commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from stackit.api.errors import JournalError
from stackit.api.reactor import Reactor
from stackit.journal.sqlite.opening import Opening
from stackit.journal.sqlite.schema import connect, open_log

T = TypeVar("T")
Question = Callable[[sqlite3.Connection], T]


_PATIENCE = 10.0
"""Seconds that the writer waits for the present question to be answered."""


class Reader:
    """Answers questions one by one, in the order asked; a checkpoint is one of them.

    ``steps`` grows with every piece of work of the thread. ``on_failure`` is called, in the reactor's thread, for a
    question that failed because the journal cannot be read.
    """

    def __init__(self, opening: Opening, reactor: Reactor, *, on_failure: Callable[[], object]) -> None:
        self.steps = 0
        self._on_failure = on_failure
        self._opening = opening
        self._reactor = reactor
        self._closed: Deferred[None] | None = None
        self._waiting: SimpleQueue[tuple[Question[Any], Deferred[Any]] | Event | None] = SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._keeps_connection = False
        self._thread = Thread(target=self._run, name="journal reader", daemon=True)

    def connect(self) -> sqlite3.Connection:
        """Open the connection, and return it. In the reader's thread, or before there is one. Raises JournalError."""
        if not self._opening.is_done:
            raise JournalError(f"the journal {self._opening.path} is not open yet")
        try:
            connection = connect(self._opening.path, self._opening.sizes)
            connection.execute("PRAGMA query_only = ON")
            open_log(connection)
        except sqlite3.Error as problem:
            raise self._opening.explained(problem) from None
        self._connection = connection
        return connection

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    @property
    def lives(self) -> bool:
        """Return False once the thread has ended."""
        return self._thread.is_alive()

    def ask(self, question: Question[T]) -> Deferred[T]:
        """Return the answer; fails with JournalError where the journal cannot be read, or as the question does."""
        answer: Deferred[T] = Deferred()
        if self._closed is not None:
            answer.errback(JournalError("the journal is closed"))
        else:
            self._waiting.put((question, answer))
        return answer

    def answer_now(self, question: Question[T]) -> T:
        """Return the answer by a connection of its own. Blocks. Raises JournalError, or as the question does."""
        if not self._opening.is_done:
            raise JournalError(f"the journal {self._opening.path} is not open yet")
        try:
            with closing(connect(self._opening.path, self._opening.sizes)) as connection:
                return question(connection)
        except sqlite3.Error as problem:
            raise JournalError(f"the journal cannot read {self._opening.path}: {problem}") from None

    def beat(self, done: Callable[[object], object]) -> None:
        """Call ``done`` when all that was asked for before is answered."""
        self.ask(lambda _: None).addBoth(done)

    def release_connection(self) -> bool:
        """Close the connection until the next question; return False if that takes too long. Blocks."""
        if not self._thread.is_alive():
            return self._connection is None
        gone = Event()
        self._waiting.put(gone)
        return gone.wait(_PATIENCE)

    async def close(self, *, keep_connection: bool = False) -> None:
        """Answer what waits, then end the thread."""
        if self._closed is None:
            self._keeps_connection = keep_connection
            self._closed = Deferred()
            if not self._thread.is_alive():
                return
            self._waiting.put(None)
            await self._closed
            if not keep_connection:
                self._thread.join()

    def _deliver(self, answer: Deferred[Any], result: Any) -> None:
        if isinstance(result, Failure) and result.check(JournalError):
            self._on_failure()
        answer.callback(result)

    # -- in the reader's thread ---------------------------------------------------------

    def _run(self) -> None:
        while (next_one := self._waiting.get()) is not None:
            self.steps += 1
            if isinstance(next_one, Event):
                self._disconnect()
                next_one.set()
                continue
            question, answer = next_one
            self._reactor.callFromThread(self._deliver, answer, self._answer(question))
        if not self._keeps_connection:
            self._disconnect()
        self._reactor.callFromThread(self._ended)
        if self._keeps_connection:
            Event().wait()  # until the process ends: see Writer

    def _answer(self, question: Question[Any]) -> Any:
        try:
            return question(self._connection or self.connect())
        except (sqlite3.Error, MemoryError) as error:
            reason = str(error) or "there is no memory"
            return Failure(JournalError(f"the journal cannot read {self._opening.path}: {reason}"))
        except BaseException:  # noqa: BLE001 - it belongs to whoever asked, not to this thread
            return Failure()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error, MemoryError):
                connection.close()

    def _ended(self) -> None:
        assert self._closed is not None  # noqa: S101 - for the type checker
        self._closed.callback(None)
