"""The thread and the connection of membership, which wait for nothing else: no write holds up a beat."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from stackit.api.errors import JournalError
from stackit.api.reactor import Reactor
from stackit.fleet.statements import LISTEN, SETTINGS
from stackit.journal.postgres.connection import Connection, Server, unreachable
from stackit.journal.postgres.readable import readable
from stackit.journal.postgres.socket_cutter import SocketCutter

_T = TypeVar("_T")
_Job = tuple[Callable[["Link"], Any], "Deferred[Any]"]


class Link:
    """An open connection, as what is asked of the database has it. ``connected_for`` tells for how long.

    Readings of the database's clock are timed by ``seconds``; time in which this machine was suspended is no time for
    which it was connected.
    """

    def __init__(self, connection: Connection, seconds: Callable[[], float]) -> None:
        self.seconds = seconds
        self._connection = connection
        self._since = time.monotonic()

    @property
    def connected_for(self) -> float:
        """Return the seconds since it was opened."""
        return time.monotonic() - self._since

    def rows(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        """Return the rows that a statement gives. It is committed then."""
        rows = self._connection.execute(statement.encode(), values).fetchall()
        self._connection.check_confirmed()
        return rows


class Session:
    """Answers questions about the database, one after the other, in a thread of its own.

    It connects when it is asked something, and again after a cut. ``bound`` is how many seconds a statement may take.
    ``seconds`` is that of ``Link``. ``notified`` is called in the reactor's thread when another member told that
    something changed. ``guard`` is called in this one every few moments, at least every ``every`` seconds unless it
    waits for an answer: what it returns is asked at once, and ``guarded`` called with the answer, in the reactor's
    thread. ``reconnected`` is called there when there is another connection.
    """

    def __init__(
        self,
        server: Server,
        *,
        reactor: Reactor,
        seconds: Callable[[], float],
        bound: float,
        notified: Callable[[], object],
        every: float,
        guard: Callable[[], Callable[[Link], _T] | None],
        guarded: Callable[[_T], object],
        reconnected: Callable[[], object],
    ) -> None:
        self._server = server
        self._reactor = reactor
        self._seconds = seconds
        self._bound = bound
        self._notified = notified
        self._every = every
        self._guard: Callable[[], Callable[[Link], Any] | None] = guard
        self._guarded = guarded
        self._reconnected = reconnected
        self._was_connected = False
        self._jobs: deque[_Job] = deque()
        self._ending = False
        self._ended: Deferred[None] = Deferred()
        self._connection: Connection | None = None
        self._link: Link | None = None
        self._cutter = SocketCutter()

    def start(self) -> None:
        """Start the thread."""
        self._wake, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="stackit-fleet", daemon=True)
        self._thread.start()

    def ask(self, question: Callable[[Link], _T]) -> Deferred[_T]:
        """Return a Deferred of what ``question`` returns, which is called in the thread, with the connection.

        Fails with JournalError where the database does not answer.
        """
        answer: Deferred[_T] = Deferred()
        self._jobs.append((question, answer))
        self._waker.send(b"\0")
        return answer

    def cut(self) -> None:
        """Close the connection under whatever waits for an answer: that fails, and the next question connects anew."""
        self._cutter.cut()

    def stop(self) -> Deferred[None]:
        """Answer what was asked, close the connection, and end the thread."""
        self._ending = True
        self._waker.send(b"\0")
        return self._ended

    # -- in the thread ------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._wait():
                if (urgent := self._guard()) is not None:
                    answer: Deferred[Any] = Deferred()
                    answer.addCallback(self._guarded).addErrback(_not_answered)
                    self._answer(urgent, answer)
                while self._jobs:
                    self._answer(*self._jobs.popleft())
        finally:
            self._disconnect()
            self._reactor.callFromThread(self._close)

    def _close(self) -> None:
        self._thread.join()
        self._wake.close()
        self._waker.close()
        self._ended.callback(None)

    def _wait(self) -> bool:
        """Wait for something to do; returns False at the end."""
        if self._ending and not self._jobs:
            return False
        connection = self._connection
        ready = readable([each.fileno() for each in (self._wake, connection) if each is not None], self._every)
        if self._wake.fileno() in ready:
            self._wake.recv(4096)
        if connection is not None and connection.fileno() in ready:
            self._hear()
        return not self._ending or bool(self._jobs)

    def _hear(self) -> None:
        """Tell of what other members told, or may have told over a connection that was cut."""
        if self._connection is None:
            return
        try:
            is_told = bool(list(self._connection.notifies(timeout=0)))
        except psycopg.Error:
            self._disconnect()  # whoever asks next learns of it; what was answered before stands
            is_told = True
        if is_told:
            self._reactor.callFromThread(self._notified)

    def _answer(self, question: Callable[[Link], Any], answer: Deferred[Any]) -> None:
        result: Any
        try:
            result = question(self._link or self._connect())
        except JournalError:
            result = Failure()
        except psycopg.Error as problem:
            if not isinstance(problem, psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable):
                self._disconnect()
            result = Failure(unreachable(problem))
        except BaseException:  # noqa: BLE001 - a fault of ours, for the one who asked: the thread goes on
            result = Failure()
        self._reactor.callFromThread(answer.callback, result)
        self._hear()

    def _connect(self) -> Link:
        connection = self._server.connect("fleet", by_indexes=False)
        try:
            timeout = int(self._bound * 1000)
            # A lock that somebody has is given up a little before, so that it is named.
            connection.execute(SETTINGS, {"timeout": f"{timeout}ms", "lock": f"{timeout * 9 // 10}ms"})
            connection.execute(LISTEN)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._link = Link(connection, self._seconds)
        self._cutter.watch(connection)
        if self._was_connected:
            self._reactor.callFromThread(self._reconnected)
        self._was_connected = True
        return self._link

    def _disconnect(self) -> None:
        self._cutter.watch(None)
        if self._connection is not None:
            self._connection.close()
        self._connection = self._link = None


def _not_answered(failure: Failure) -> None:
    failure.trap(JournalError)  # it is looked at again, or others have taken the work
