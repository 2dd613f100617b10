"""The reader: the thread that answers questions by a connection of its own, so that they never hold up a commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import psycopg
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from stackit.api.errors import JournalError
from stackit.api.reactor import Reactor, overdue
from stackit.journal.postgres.connection import Connection, reason, takes_writes
from stackit.journal.postgres.socket_cutter import SocketCutter

T = TypeVar("T")
Question = Callable[[Connection], T]

PATIENCE = 30.0
"""Seconds that a question may take. The server gives it up then, or is given up a little later if it says nothing."""
GRACE = 5.0
"""Seconds beyond that, and those that a stop waits for answers."""
_LOOK = 1.0
"""Seconds between two looks at how long a question takes."""
_REFUSAL = 1.0
"""Seconds after a connection that could not be made in which no other is tried: what waits is not tried one by one."""
_SHUTTING_DOWN = (
    psycopg.errors.AdminShutdown,
    psycopg.errors.CrashShutdown,
    psycopg.errors.CannotConnectNow,
    psycopg.errors.IdleSessionTimeout,
)


class Reader:
    """Answers questions one by one, in the order asked.

    ``connect`` makes a connection in autocommit mode, or raises JournalError. One that was cut is made anew, and the
    question asked once more. ``steps`` grows with every piece of work of the thread. ``on_failure`` is called, in the
    reactor's thread, for a question that the database did not answer.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        reactor: Reactor,
        *,
        on_failure: Callable[[], object],
        patience: float = PATIENCE,
        grace: float = GRACE,
    ) -> None:
        self.steps = 0
        self._on_failure = on_failure
        self._connect = connect
        self._reactor = reactor
        self._patience = patience
        self._grace = grace
        self._closed: Deferred[None] | None = None
        self._waiting: SimpleQueue[tuple[Question[Any], Deferred[Any]] | None] = SimpleQueue()
        self._connection: Connection | None = None
        self._cutter = SocketCutter()
        self._begun: float | None = None  # when the question in hand was asked of the server
        self._asked = 0
        self._look: DelayedCall | None = None
        self._gives_up = False
        self._refused: tuple[float, str] | None = None
        self._is_in_doubt = False
        self._thread = Thread(target=self._run, name="journal reader", daemon=True)

    def connect(self) -> Connection:
        """Open the connection. In the reader's thread, or before there is one. Raises JournalError."""
        connection = self._connect()
        with _explained():
            connection.execute(
                "SELECT set_config('statement_timeout', %s, false)", (f"{int(self._patience * 1000)}ms",)
            )
        self._cutter.watch(connection)
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
        """Return the answer; fails with JournalError where the database does not give it, or as the question does."""
        answer: Deferred[T] = Deferred()
        if self._closed is not None:
            answer.errback(JournalError("the journal is closed"))
            return answer
        self._asked += 1
        if self._look is None:
            self._look = self._reactor.callLater(_LOOK, self._look_at_time)
        self._waiting.put((question, answer))
        return answer

    def doubt(self) -> None:
        """See before the next question whether the server still takes writes, or another one does. From any thread."""
        self._is_in_doubt = True

    def answer_now(self, question: Question[T]) -> T:
        """Return the answer by a connection of its own. Blocks. Raises JournalError, or as the question does."""
        if self._closed is not None:
            raise JournalError("the journal is closed")
        with closing(self._connect()) as connection, _explained():
            return question(connection)

    def beat(self, done: Callable[[object], object]) -> None:
        """Call ``done`` when all that was asked for before is answered."""
        self.ask(lambda _: None).addBoth(done)

    async def close(self) -> None:
        """Answer what waits, as far as the database does so in a few seconds, then end the thread."""
        if self._closed is None:
            self._closed = Deferred()
            if not self._thread.is_alive():
                self._disconnect()
                return
            self._waiting.put(None)
            with overdue(self._reactor, self._grace, self._give_up):
                await self._closed
            self._thread.join()
            if self._look is not None:
                self._look.cancel()

    def _look_at_time(self) -> None:
        """Cut the connection where the server has long said nothing; look again while there are questions."""
        self._look = None
        if self._asked:
            begun = self._begun
            if begun is not None and self._reactor.seconds() >= begun + self._patience + self._grace:
                self._cutter.cut()
            self._look = self._reactor.callLater(_LOOK, self._look_at_time)

    def _give_up(self) -> None:
        self._gives_up = True
        self._cutter.cut()

    def _deliver(self, answer: Deferred[Any], result: Any) -> None:
        self._asked -= 1
        if isinstance(result, Failure) and result.check(JournalError):
            self._on_failure()
        answer.callback(result)

    # -- in the reader's thread -------------------------------------------------------

    def _run(self) -> None:
        while (next_one := self._waiting.get()) is not None:
            question, answer = next_one
            self._begun = self._reactor.seconds()
            result = self._answer(question)
            self._begun = None
            self.steps += 1
            self._reactor.callFromThread(self._deliver, answer, result)
        self._disconnect()
        self._reactor.callFromThread(self._ended)

    def _answer(self, question: Question[Any]) -> Any:
        if self._is_in_doubt:
            self._look_for_server()
        was_cut = False
        while True:
            try:
                return question(self._connection or self._connect_again())
            except (psycopg.Error, MemoryError) as error:
                if not self._is_cut(error) or was_cut:
                    return Failure(_cannot_read(error))
                was_cut = True
                self._begun = self._reactor.seconds()
            except BaseException:  # noqa: BLE001 - it belongs to whoever asked, not to this thread
                return Failure()

    def _is_cut(self, error: BaseException) -> bool:
        """Return whether the connection is gone, which is closed then."""
        connection = self._connection
        if connection is None or not (connection.closed or isinstance(error, _SHUTTING_DOWN)):
            return False
        self._disconnect()
        return True

    def _look_for_server(self) -> None:
        """Move to the server that takes writes. While there is none, this one answers: nothing is newer elsewhere."""
        self._is_in_doubt = False
        before = self._connection
        try:
            if before is None or takes_writes(before):
                return
        except psycopg.Error:
            return  # whoever asks finds out
        try:
            self._connect_again()
        except JournalError:
            self._is_in_doubt = True
            return
        with suppress(psycopg.Error):
            before.close()

    def _connect_again(self) -> Connection:
        if self._gives_up:
            raise JournalError("the journal is closed, and the database does not answer")
        if self._refused is not None and self._reactor.seconds() < self._refused[0] + _REFUSAL:
            raise JournalError(self._refused[1])
        try:
            connection = self.connect()
        except JournalError as error:
            self._refused = (self._reactor.seconds(), str(error))
            raise
        self._refused = None
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._cutter.watch(None)
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _ended(self) -> None:
        assert self._closed is not None  # noqa: S101 - for the type checker
        self._closed.callback(None)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise _cannot_read(error) from None


def _cannot_read(error: BaseException) -> JournalError:
    return JournalError(f"the journal cannot be read from the database: {reason(error)}")
