"""The one writer of the journal: a thread whose every commit carries all that waits for it.

While one commit waits for the disk, the operations that arrive queue up, and become the
next commit together: under load a hundred deliveries share one fsync, and a lone one
waits for nobody.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from stackit.errors import JournalError
from stackit.journal.schema import WAL_LIMIT, connect

if TYPE_CHECKING:
    Reactor = Any
else:
    Reactor = object

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]

_MAX_OPERATIONS = 512
_MAX_BYTES = 64 * 2**20
_CROWD = 16
"""Operations in one commit that tell of load: more are on their way, and can share the next one."""
_LONGEST_PAUSE = 0.005
_PROBE = "INSERT OR REPLACE INTO probe (id, filler) VALUES (1, zeroblob(65536))"

# Faults of one operation, which the others in its commit do not share.
_OWN_FAULTS = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError, sqlite3.InterfaceError)


class Writer:
    """Runs operations in the writer thread; each result comes once it is durable.

    ``on_change`` is called with why nothing can be written, and with None once it can be
    again; ``on_log`` when the write-ahead log is worth a checkpoint, after which ``catch_up`` is to
    be called. Both in the reactor's thread.
    """

    def __init__(
        self, path: Path, reactor: Reactor, on_change: Callable[[str | None], None], on_log: Callable[[], None]
    ) -> None:
        self.problem: str | None = None
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._log_size = 0
        self._asked = False
        self._catch_up = False
        self._reactor = reactor
        self._on_change = on_change
        self._on_log = on_log
        self._probing = False
        self._closed: Deferred[None] | None = None
        self._waiting: SimpleQueue[tuple[Operation[Any], int, Deferred[Any]] | None] = SimpleQueue()
        self._connection: sqlite3.Connection | None = connect(path)
        self._thread = Thread(target=self._run, name="journal writer", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation[T], size: int = 0) -> Deferred[T]:
        """Run ``operation`` in the next commit; ``size`` is roughly how many bytes it writes.

        Fails with JournalError where that cannot be made durable, else with what it raised itself.
        """
        done: Deferred[T] = Deferred()
        if self._closed is not None:
            done.errback(JournalError("the journal is closed"))
        else:
            self._waiting.put((operation, size, done))
        return done

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
            self._waiting.put(None)
            await self._closed
            self._thread.join()

    # Below: in the writer thread, but for _settle.

    def _run(self) -> None:
        running = True
        while running:
            batch, running = self._next_batch()
            began = time.monotonic()
            if batch:
                results, problem = self._commit([operation for operation, _, _ in batch])
                waiting = [done for _, _, done in batch]
                grown = problem is None and self._log_has_grown()
                self._reactor.callFromThread(self._settle, waiting, results, problem, grown)
            if len(batch) >= _CROWD and running:
                # Every commit writes whole pages, and takes the interpreter from the thread that brings the
                # next operations. Under load that thread gets half of the time, and the commits are larger.
                time.sleep(min(time.monotonic() - began, _LONGEST_PAUSE))
        self._disconnect()
        self._reactor.callFromThread(self._ended)

    def _next_batch(self) -> tuple[list[tuple[Operation[Any], int, Deferred[Any]]], bool]:
        """All that waits now, within bounds, at least one; and whether more will come."""
        batch = []
        size = 0
        next_one = self._waiting.get()
        while next_one is not None:
            batch.append(next_one)
            size += next_one[1]
            if len(batch) == _MAX_OPERATIONS or size > _MAX_BYTES:
                return batch, True
            try:
                next_one = self._waiting.get_nowait()
            except Empty:
                return batch, True
        return batch, False

    def _commit(self, operations: list[Operation[Any]]) -> tuple[list[Any], str | None]:
        try:
            if self._connection is None:
                self._connection = connect(self._path)
            results = _run_together(self._connection, operations)
            # A log that is gone means that the files were removed under us: nothing of this would be found again.
            self._log_size = self._log.stat().st_size
        except (sqlite3.Error, OSError) as error:
            # A fresh connection for the next commit: after an I/O error this one's state is not worth a guess.
            self._disconnect()
            problem = f"the journal cannot write to {self._path.parent}: {error}"
            return [Failure(JournalError(problem)) for _ in operations], problem
        return results, None

    def _disconnect(self) -> None:
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

    def _settle(self, waiting: list[Deferred[Any]], results: list[Any], problem: str | None, grown: bool) -> None:
        """In the reactor's thread: all results of one commit."""
        changed, self.problem = problem != self.problem, problem
        for done, result in zip(waiting, results, strict=True):
            done.callback(result)  # a Failure goes down the errbacks
        if grown:
            self._on_log()
        if changed:
            self._on_change(problem)

    def _ended(self) -> None:
        assert self._closed is not None  # noqa: S101 - for the type checker
        self._closed.callback(None)


def _run_together(connection: sqlite3.Connection, operations: list[Operation[Any]]) -> list[Any]:
    """The results of all operations, durable in one commit, a Failure for one that is at fault itself.

    The others are run once more without that one: a savepoint around each would cost a tenth
    of the throughput, for a fault that hardly ever comes.
    """
    faults: dict[int, Failure] = {}
    while True:
        connection.execute("BEGIN IMMEDIATE")
        results: list[Any] = []
        for number, operation in enumerate(operations):
            try:
                results.append(faults[number] if number in faults else operation(connection))
            except _OWN_FAULTS as error:
                faults[number] = Failure(JournalError(f"the journal refused a record: {error}"))
            except sqlite3.Error:
                raise
            except Exception:  # noqa: BLE001 - one operation's fault must not fail the others in its commit
                faults[number] = Failure()
            if len(results) == number:
                connection.execute("ROLLBACK")
                break
        else:
            connection.execute("COMMIT")
            return results


def checkpoint(connection: sqlite3.Connection) -> None:
    """Bring the log into the journal's file as far as nobody is in the way; waits for no lock."""
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error:
        # Nothing is lost: all of it is in the log, and the next commit tells of a disk that takes no writes.
        return
