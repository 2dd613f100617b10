"""The one reader of the journal: a thread for questions, which never stand in a commit's way."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from stackit.errors import JournalError
from stackit.journal.schema import connect

if TYPE_CHECKING:
    Reactor = Any
else:
    Reactor = object

T = TypeVar("T")
Question = Callable[[sqlite3.Connection], T]


class Reader:
    """Answers questions one by one, in the order asked; a checkpoint is one of them."""

    def __init__(self, path: Path, reactor: Reactor) -> None:
        self._path = path
        self._reactor = reactor
        self._closed: Deferred[None] | None = None
        self._waiting: SimpleQueue[tuple[Question[Any], Deferred[Any]] | None] = SimpleQueue()
        self._connection = connect(path)
        self._connection.execute("PRAGMA query_only = ON")
        self._thread = Thread(target=self._run, name="journal reader", daemon=True)
        self._thread.start()

    def ask(self, question: Question[T]) -> Deferred[T]:
        """The answer; fails with JournalError where the journal cannot be read, else with what was raised."""
        answer: Deferred[T] = Deferred()
        if self._closed is not None:
            answer.errback(JournalError("the journal is closed"))
        else:
            self._waiting.put((question, answer))
        return answer

    async def close(self) -> None:
        """Answer what waits, then end the thread."""
        if self._closed is None:
            self._closed = Deferred()
            self._waiting.put(None)
            await self._closed
            self._thread.join()

    def _run(self) -> None:
        while (next_one := self._waiting.get()) is not None:
            question, answer = next_one
            self._reactor.callFromThread(answer.callback, self._answer(question))
        self._connection.close()
        self._reactor.callFromThread(self._ended)

    def _answer(self, question: Question[Any]) -> Any:
        try:
            return question(self._connection)
        except sqlite3.Error as error:
            return Failure(JournalError(f"the journal cannot read {self._path}: {error}"))
        except Exception:  # noqa: BLE001 - it belongs to whoever asked, not to this thread
            return Failure()

    def _ended(self) -> None:
        assert self._closed is not None  # noqa: S101 - for the type checker
        self._closed.callback(None)
