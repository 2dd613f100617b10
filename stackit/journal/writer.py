"""The one writer of the journal: a thread whose every commit carries all that waits for it.

What arrives until a turn of the reactor brings nothing more, and while the commit before waits for
the disk, becomes one commit: under load a hundred deliveries share one fsync, and a lone one waits for
nobody.

SQLite writes a commit into its log, and this thread has the disk take it. So it is known when nothing is left to do
but to wait for the disk: that is when what nobody waits for is told, in the reactor's thread.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.errors import JournalError
from stackit.journal.batch import Asked, Joint, Operation, run_together
from stackit.journal.schema import WAL_LIMIT, Connection, connect

if TYPE_CHECKING:
    Reactor = Any
else:
    Reactor = object

_log = Logger(namespace="stackit")

T = TypeVar("T")
Item = TypeVar("Item")

_MAX_OPERATIONS = 512
_MAX_BYTES = 64 * 2**20
_GATHER = 0.002
"""Seconds for which a commit waits at most, while every turn of the reactor brings more for it."""
_ORDERED = "PRAGMA synchronous = NORMAL"
"""SQLite syncs its log before a checkpoint, and not after each commit (https://www.sqlite.org/pragma.html)."""
_PROBE = "INSERT OR REPLACE INTO probe (id, filler) VALUES (1, zeroblob(65536))"


class Writer:
    """Runs operations in the writer thread; each result comes once it is durable.

    ``on_change`` is called with why nothing can be written, and with None once it can be
    again; ``on_log`` when the write-ahead log is worth a checkpoint, after which ``catch_up`` is to
    be called. Both in the reactor's thread.
    """

    __slots__ = (
        "_asked",
        "_batches",
        "_busy",
        "_catch_up",
        "_closed",
        "_connection",
        "_doubtful",
        "_gather_until",
        "_gathered",
        "_late",
        "_log",
        "_log_descriptor",
        "_log_size",
        "_on_change",
        "_on_log",
        "_path",
        "_probing",
        "_reactor",
        "_thread",
        "_waiting",
        "problem",
    )

    def __init__(
        self, path: Path, reactor: Reactor, on_change: Callable[[str | None], None], on_log: Callable[[], None]
    ) -> None:
        self.problem: str | None = None
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._log_descriptor: int | None = None
        self._log_size = 0
        self._doubtful = False
        self._asked = False
        self._catch_up = False
        self._reactor = reactor
        self._on_change = on_change
        self._on_log = on_log
        self._probing = False
        self._closed: Deferred[None] | None = None
        self._waiting: deque[Asked] = deque()
        self._late: list[tuple[Asked, Any]] = []
        self._busy = False
        self._gathered = 0
        self._gather_until = 0.0
        self._batches: SimpleQueue[list[Asked] | None] = SimpleQueue()
        self._connection: Connection | None = self._connect()
        self._thread = Thread(target=self._run, name="journal writer", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation[T], size: int = 0) -> Deferred[T]:
        """Run ``operation`` in the next commit; ``size`` is roughly how many bytes it writes.

        Fails with JournalError where that cannot be made durable, else with what it raised itself.
        """
        result: Deferred[T] = Deferred()
        self._ask(Asked(lambda connection, _: [operation(connection)], None, size, result.callback, alone=True))
        return result

    def join(
        self,
        joint: Joint[Item, T],
        item: Item,
        done: Callable[[T | Failure], object],
        size: int = 0,
        *,
        late: bool = False,
    ) -> None:
        """Have ``item`` worked on in the next commit, together with all others that came for the same operation.

        What was submitted meanwhile keeps its place among them. ``done`` gets the result, or a Failure of what
        ``submit`` fails with: these are so many that a Deferred for each would be seen. A ``late`` one may get it
        when the next commit, if there is one, waits for the disk.
        """
        self._ask(Asked(joint, item, size, done, late=late))

    def _ask(self, asked: Asked) -> None:
        if self._closed is not None:
            asked.done(Failure(JournalError("the journal is closed")))
            return
        self._waiting.append(asked)
        if not self._busy:
            self._begin_soon()

    def _begin_soon(self) -> None:
        """Begin a commit once a turn of the reactor has brought nothing more for it."""
        if self._waiting:
            self._busy = True
            self._gathered = 0
            self._gather_until = self._reactor.seconds() + _GATHER
            self._reactor.callFromThread(self._begin)

    def _begin(self) -> None:
        before, self._gathered = self._gathered, len(self._waiting)
        if before < self._gathered < _MAX_OPERATIONS and self._reactor.seconds() < self._gather_until:
            self._reactor.callFromThread(self._begin)
            return
        batch: list[Asked] = []
        size = 0
        while self._waiting and len(batch) < _MAX_OPERATIONS and size < _MAX_BYTES:
            batch.append(self._waiting.popleft())
            size += batch[-1].size
        self._batches.put(batch)

    def probe(self) -> None:
        """While there is a problem, see whether it is over, though nobody else wants to write."""
        if self.problem is None or self._probing or self._closed is not None:
            return
        self._probing = True

        def probed(_: object) -> None:
            self._probing = False

        self.submit(lambda connection: connection.execute(_PROBE).rowcount).addBoth(probed)

    def catch_up(self) -> None:
        """The checkpoint that ``on_log`` asked for is made, but for what was written since."""
        self._catch_up = True

    async def close(self) -> None:
        """Finish what waits, then end the thread."""
        if self._closed is None:
            self._closed = Deferred()
            if not self._busy:
                self._batches.put(None)
            await self._closed
            self._thread.join()

    def _settle(self, batch: list[Asked], results: list[Any], problem: str | None, grown: bool) -> None:
        """All results of one commit."""
        changed, self.problem = problem != self.problem, problem
        self._tell_late()  # what the commit before left, if this one never came to wait for the disk
        late = []
        in_order = any([asked.alone for asked in batch])  # noqa: C419 - what is alone may count what came before it
        for asked, result in zip(batch, results, strict=True):
            if asked.late and not in_order:
                late.append((asked, result))
            else:
                _tell(asked, result)
        self._late = late
        self._busy = False
        self._begin_soon()
        if not self._busy:
            self._tell_late()
        if grown:
            self._on_log()
        if changed:
            self._on_change(problem)
        if self._closed is not None and not self._busy:
            self._batches.put(None)

    def _tell_late(self) -> None:
        late, self._late = self._late, []
        for asked, result in late:
            _tell(asked, result)

    def _ended(self) -> None:
        assert self._closed is not None  # noqa: S101 - for the type checker
        self._closed.callback(None)

    # -- in the writer's thread ---------------------------------------------------------

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            results, problem = self._commit(batch)
            grown = problem is None and self._log_has_grown()
            self._reactor.callFromThread(self._settle, batch, results, problem, grown)
        self._disconnect()
        self._reactor.callFromThread(self._ended)

    def _commit(self, batch: list[Asked]) -> tuple[list[Any], str | None]:
        try:
            if self._connection is None:
                self._connection = self._connect()
            results = run_together(self._connection, batch)
            self._make_durable()
        except (sqlite3.Error, OSError) as error:
            # A fresh connection for the next commit: after an I/O error this one's state is not worth a guess.
            self._disconnect()
            problem = f"the journal cannot write to {self._path.parent}: {error}"
            return [Failure(JournalError(problem)) for _ in batch], problem
        return results, None

    def _connect(self) -> Connection:
        connection = connect(self._path)
        try:
            connection.execute(_ORDERED)
            if self._doubtful:
                # What a failed fsync did not write, no later one does: all of it has to be in the journal's file, on
                # disk, before anything more is added to the log.
                busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if busy:
                    raise sqlite3.OperationalError("its log cannot be brought in while it is read")
                self._doubtful = False
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _make_durable(self) -> None:
        """Have the disk take what is in the log, which is what SQLite does itself with ``synchronous = FULL``."""
        if self._log_descriptor is None:
            self._log_descriptor = os.open(self._log, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(self._log_descriptor)
        if not status.st_nlink:  # the files were removed under us: nothing of this would be found again
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._log))
        self._log_size = status.st_size
        if self._late:
            self._reactor.callFromThread(self._tell_late)
        try:
            os.fdatasync(self._log_descriptor)
        except OSError:
            self._doubtful = True
            raise

    def _disconnect(self) -> None:
        descriptor, self._log_descriptor = self._log_descriptor, None
        if descriptor is not None:
            os.close(descriptor)
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _log_has_grown(self) -> bool:
        """Whether the write-ahead log is worth a checkpoint now, and none is under way.

        The reader makes it, beside commits. What those add meanwhile is brought in here, between two
        commits: little, but else the log would never be caught up with under load, and never start anew.
        """
        if self._catch_up and self._connection is not None:
            self._catch_up = self._asked = False
            checkpoint(self._connection)
        elif not self._asked and self._log_size > WAL_LIMIT:
            self._asked = True
            return True
        return False


def _tell(asked: Asked, result: Any) -> None:
    try:
        asked.done(result)
    except Exception:  # noqa: BLE001 - the fault of one who asked must not keep their results from the others
        _log.failure("what came of an operation of the journal was not taken")


def checkpoint(connection: sqlite3.Connection) -> None:
    """Bring the log into the journal's file as far as nobody is in the way; waits for no lock."""
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error:
        # Nothing is lost: all of it is in the log, and the next commit tells of a disk that takes no writes.
        return
