"""Notices between processes, by LISTEN and NOTIFY.

Whoever commits something that concerns others sends notices behind the commit, and not in it: PostgreSQL lets one
transaction with a notice commit at a time. A process that dies between the two has not told, and a connection that is
cut misses what is told meanwhile: nothing may rest on a notice alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread

import msgspec
import psycopg
from twisted.internet.defer import Deferred

from stackit.api.errors import JournalError
from stackit.api.reactor import Reactor, overdue
from stackit.journal.postgres.connection import Connection, takes_writes
from stackit.journal.postgres.ids import storable
from stackit.journal.postgres.readable import readable
from stackit.journal.postgres.schema import APPLICATION
from stackit.journal.postgres.socket_cutter import SocketCutter

EVERYBODY = f"{APPLICATION}_all"
"""The channel of all processes."""
_MOST_BYTES = 7000
"""Bytes of a notice, at most: PostgreSQL takes less than 8000."""
_AGAIN = 0.5
"""Seconds between tries to connect."""
_QUIET = 5.0
"""Seconds without a notice after which it is tried whether the connection is still there."""
_GRACE = 5.0
"""Seconds that a stop waits for the database."""
_NOTIFY = "SELECT pg_notify(channel, notice) FROM unnest(%s::text[], %s::text[]) AS n (channel, notice)"


class Notice(msgspec.Struct, frozen=True, array_like=True):
    """What is told: a topic, and items of it; None for any."""

    topic: str
    items: list[int | str] | None


_ENCODE = msgspec.json.Encoder().encode
_DECODE = msgspec.json.Decoder(Notice).decode


def channel_of(incarnation: int) -> str:
    """Return the channel of one process."""
    return f"{APPLICATION}_{incarnation}"


class Notices:
    """A thread with a connection of its own, which listens and tells.

    ``taken`` is called with the notices of other processes, ``missed`` when some may have been missed since the
    connection was cut: both in the reactor's thread. ``problem`` is the reason why none come, where a cut connection
    could not be made anew at once. ``steps`` grows with every piece of work of the thread.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        reactor: Reactor,
        *,
        taken: Callable[[Sequence[Notice]], object],
        missed: Callable[[], object],
    ) -> None:
        self.steps = 0
        self.problem: str | None = None
        self._connect = connect
        self._reactor = reactor
        self._taken = taken
        self._missed = missed
        self._channels: tuple[str, ...] = (EVERYBODY,)
        self._listening: tuple[str, ...] = ()
        self._to_tell: SimpleQueue[tuple[str, Notice]] = SimpleQueue()
        self._beats: SimpleQueue[Callable[[object], object]] = SimpleQueue()
        self._heard: list[Notice] = []
        self._connection: Connection | None = None
        self._cutter = SocketCutter()
        self._own_pid = 0
        self._may_miss = False
        self._is_in_doubt = False
        self._has_ended = False
        self._closed: Deferred[None] | None = None
        self._wakeup, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = Thread(target=self._run, name="journal notices", daemon=True)

    def start(self, incarnation: int) -> None:
        """Begin to listen, as this incarnation."""
        self.listen_as(incarnation)
        self._thread.start()

    @property
    def lives(self) -> bool:
        """Return False once the thread has ended."""
        return self._thread.is_alive()

    def listen_as(self, incarnation: int) -> None:
        """Listen to what is told to this incarnation, and to everybody."""
        self._channels = (EVERYBODY, channel_of(incarnation))
        self._wake_up()

    def tell(self, channel: str, topic: str, items: Iterable[int | str] | None) -> None:
        """Tell the processes that listen to a channel, this one excepted. From any thread."""
        told = None if items is None else [storable(each) if isinstance(each, str) else each for each in items]
        self._to_tell.put((channel, Notice(storable(topic), told)))
        self._wake_up()

    def doubt(self) -> None:
        """See whether the server still takes writes: else the others tell at another one. From any thread."""
        self._is_in_doubt = True
        self._wake_up()

    def beat(self, done: Callable[[object], object]) -> None:
        """Call ``done`` in the reactor's thread when all that was to be told before is told."""
        self._beats.put(done)
        self._wake_up()

    async def close(self) -> None:
        """Tell what is to be told, then end the thread."""
        if self._closed is None:
            self._closed = Deferred()
            if self._thread.is_alive():
                self._wake_up()
                with overdue(self._reactor, _GRACE, self._cutter.cut):
                    await self._closed
                self._thread.join()
            self._has_ended = True
            os.close(self._wake)
            os.close(self._wakeup)

    def _wake_up(self) -> None:
        if not self._has_ended:
            with suppress(BlockingIOError):  # it is full: the thread wakes up anyway
                os.write(self._wake, b"\0")

    # -- in the thread ----------------------------------------------------------------

    def _run(self) -> None:
        while self._closed is None:
            try:
                self._work(self._connection or self._open())
            except (psycopg.Error, JournalError) as error:
                self._disconnect()
                self.problem = f"notices of other nodes do not come: {error}" if self._may_miss else None
                self._may_miss = True
                self._drop()
                self._wait(_AGAIN, None)
        with suppress(psycopg.Error):
            if self._connection is not None:
                self._tell(self._connection)
        self._disconnect()
        self._drop()
        self._reactor.callFromThread(self._closed.callback, None)

    def _open(self) -> Connection:
        connection = self._connect()
        self._cutter.watch(connection)
        self._connection = connection
        connection.add_notify_handler(self._hear)
        connection.execute("SET synchronous_commit = off")  # a notice is gone with the server that has it, in any case
        # What the connection has for it is another number where a pool is between.
        ((self._own_pid,),) = connection.execute("SELECT pg_backend_pid()").fetchall()
        self._listening = ()
        self._listen(connection)
        self.problem = None
        if self._may_miss:
            self._may_miss = False
            self._reactor.callFromThread(self._missed)
        return connection

    def _work(self, connection: Connection) -> None:
        if self._is_in_doubt:
            self._is_in_doubt = False
            if not takes_writes(connection):
                self._disconnect()
                self._may_miss = True
                return
        if self._channels != self._listening:
            self._listen(connection)
        self._tell(connection)
        self._hand_on()
        self._beat()
        if not self._wait(_QUIET, connection):
            connection.execute("SELECT 1")
        connection.pgconn.consume_input()
        while (notify := connection.pgconn.notifies()) is not None:
            self._hear(psycopg.Notify(notify.relname.decode(), notify.extra.decode("utf-8", "replace"), notify.be_pid))
        self._hand_on()

    def _listen(self, connection: Connection) -> None:
        wanted = self._channels
        for gone in set(self._listening) - set(wanted):
            connection.execute(f"UNLISTEN {gone}")
        for channel in wanted:
            connection.execute(f"LISTEN {channel}")
        self._listening = wanted

    def _tell(self, connection: Connection) -> None:
        notices: dict[tuple[str, str], Notice] = {}
        with suppress(Empty):
            while True:
                channel, notice = self._to_tell.get_nowait()
                before = notices.get((channel, notice.topic))
                notices[channel, notice.topic] = notice if before is None else _joined(before, notice)
        texts = [(channel, text) for (channel, _), notice in notices.items() for text in encoded(notice)]
        if texts:
            connection.execute(_NOTIFY, ([channel for channel, _ in texts], [text for _, text in texts]))

    def _hear(self, notify: psycopg.Notify) -> None:
        if self._connection is None or notify.pid == self._own_pid:
            return
        # Of a newer release, or of somebody else: who may connect to the database may tell anything.
        with suppress(msgspec.DecodeError, RecursionError):
            self._heard.append(_DECODE(notify.payload))

    def _hand_on(self) -> None:
        if self._heard:
            heard, self._heard = self._heard, []
            self._reactor.callFromThread(self._taken, heard)

    def _wait(self, seconds: float, connection: Connection | None) -> bool:
        """Wait until there is something to do; return False where there is nothing."""
        self.steps += 1
        ready = readable([self._wakeup, *([] if connection is None else [connection.fileno()])], seconds)
        with suppress(BlockingIOError):
            os.read(self._wakeup, 4096)
        return bool(ready)

    def _beat(self) -> None:
        with suppress(Empty):
            while True:
                self._reactor.callFromThread(self._beats.get_nowait(), None)

    def _drop(self) -> None:
        """Forget what cannot be told: the others find it."""
        with suppress(Empty):
            while True:
                self._to_tell.get_nowait()
        self._beat()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._heard.clear()
        self._cutter.watch(None)
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()


def _joined(one: Notice, another: Notice) -> Notice:
    if one.items is None or another.items is None:
        return Notice(one.topic, None)
    return Notice(one.topic, one.items + another.items)


def encoded(notice: Notice) -> list[str]:
    """Return a notice as texts that are small enough."""
    text = _ENCODE(notice)
    if len(text) <= _MOST_BYTES:
        return [text.decode()]
    if notice.items is None or len(notice.items) == 1:
        return [_ENCODE(Notice(notice.topic, None)).decode()]
    half = len(notice.items) // 2
    return encoded(Notice(notice.topic, notice.items[:half])) + encoded(Notice(notice.topic, notice.items[half:]))
