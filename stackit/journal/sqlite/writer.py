"""The writer: the thread that commits all writes that wait, together.

Writes gather while the reactor's turns bring more of them, and while the commit before waits for the disk; then they
become one commit. Under load a hundred deliveries share one fsync, and a lone one waits for nobody.

SQLite has the disk take a commit before ``COMMIT`` returns (``synchronous = FULL``). While it does, the reactor's
thread tells the results that nobody waits for.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.errors import JournalError
from stackit.api.reactor import Reactor
from stackit.journal.sqlite.batch import BatchOperation, Operation, PendingWrite, run_batch
from stackit.journal.sqlite.checkpoints import UNDER_WAY, behind, checkpoint, checkpoint_now
from stackit.journal.sqlite.files import FilesChanged, JournalFiles, JournalTruncated, LogMissing
from stackit.journal.sqlite.opening import Opening
from stackit.journal.sqlite.rescue import Rescue, is_sound
from stackit.journal.sqlite.schema import Connection, connect, open_log

_log = Logger(namespace="stackit")

T = TypeVar("T")
Item = TypeVar("Item")

_MAX_OPERATIONS = 512
_MAX_BYTES = 64 * 2**20
_GATHER = 0.002
"""Seconds for which a commit waits at most, while every turn of the reactor brings more for it."""
_PROBE = "INSERT OR REPLACE INTO probe (id, filler) VALUES (1, zeroblob(65536))"


class Writer:
    """Runs operations in the writer thread; each result comes once it is durable.

    ``on_change`` is called with the problem that keeps the journal from being written, and with None once it is over;
    ``on_behind`` likewise with the reason why the write-ahead log cannot be copied into the journal's file; ``on_log``
    when the log is worth a checkpoint, after which ``catch_up`` has to be called. All in the reactor's thread.
    ``release_reader`` has the reader close its connection: see ``Rescue``. ``steps`` grows with every piece of work of
    the thread. ``files_changed`` is True while the files are changed from outside, which a person has to mend.
    """

    __slots__ = (
        "_batches",
        "_behind",
        "_busy",
        "_catch_up",
        "_checkpoint_requested",
        "_closed",
        "_connection",
        "_files",
        "_gather_until",
        "_gathered",
        "_on_behind",
        "_on_change",
        "_on_log",
        "_opening",
        "_path",
        "_probing",
        "_reactor",
        "_rescue",
        "_sizes",
        "_thread",
        "_thread_problem",
        "_to_notify",
        "_waiting",
        "behind",
        "files_changed",
        "problem",
        "steps",
    )

    def __init__(
        self,
        opening: Opening,
        reactor: Reactor,
        *,
        on_change: Callable[[str | None], None],
        on_behind: Callable[[str | None], None],
        on_log: Callable[[], None],
        release_reader: Callable[[], bool],
    ) -> None:
        self.problem: str | None = None
        self.behind: str | None = None
        self.steps = 0
        self._opening = opening
        self._path = opening.path
        self._sizes = opening.sizes
        self._files = JournalFiles(opening.path)
        self._rescue = Rescue(opening.path, self._files, release_reader, self._count_step)
        self._reactor = reactor
        self._on_change = on_change
        self._on_behind = on_behind
        self._on_log = on_log
        self._probing = False
        self._closed: Deferred[None] | None = None
        self._waiting: deque[PendingWrite] = deque()
        self._to_notify: list[tuple[PendingWrite, Any]] = []
        self._busy = False
        self._gathered = 0
        self._gather_until = 0.0
        self._batches: SimpleQueue[list[PendingWrite] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="journal writer", daemon=True)
        # What follows is the thread's.
        self._connection: Connection | None = None
        self._thread_problem: str | None = None
        self._behind: str | None = None
        self.files_changed = False
        self._checkpoint_requested = False
        self._catch_up = False

    def start(self, problem: str | None) -> None:
        """Start the thread. ``problem`` is the reason why nothing can be written yet, if there is one."""
        self.problem = self._thread_problem = problem
        self._thread.start()

    @property
    def lives(self) -> bool:
        """Return False once the thread has ended."""
        return self._thread.is_alive()

    def beat(self, done: Callable[[object], object]) -> None:
        """Call ``done`` when all earlier writes are through; costs no commit of its own."""
        self._ask(PendingWrite(_beat, None, 0, done))

    def submit(self, operation: Operation[T], size: int = 0) -> Deferred[T]:
        """Run ``operation`` in the next commit; ``size`` is roughly how many bytes it writes.

        Fails with JournalError where that cannot be made durable, else with what it raised itself.
        """
        result: Deferred[T] = Deferred()
        self._ask(PendingWrite(lambda connection, _: [operation(connection)], None, size, result.callback, alone=True))
        return result

    def join(
        self,
        batch_operation: BatchOperation[Item, T],
        item: Item,
        done: Callable[[T | Failure], object],
        size: int = 0,
        *,
        notify_later: bool = False,
    ) -> None:
        """Have ``item`` worked on in the next commit, together with all others that came for the same operation.

        What was submitted meanwhile keeps its place among them. ``done`` gets the result, or a Failure of what
        ``submit`` fails with: these are so many that a Deferred for each would be seen. With ``notify_later``, it may
        get it when the next commit, if there is one, waits for the disk.
        """
        self._ask(PendingWrite(batch_operation, item, size, done, notify_later=notify_later))

    def _ask(self, write: PendingWrite) -> None:
        if self._closed is not None:
            write.done(Failure(JournalError("the journal is closed")))
            return
        self._waiting.append(write)
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
        batch: list[PendingWrite] = []
        size = 0
        while self._waiting and len(batch) < _MAX_OPERATIONS and size < _MAX_BYTES:
            batch.append(self._waiting.popleft())
            size += batch[-1].size
        self._batches.put(batch)

    def probe(self) -> None:
        """While there is a problem, try a small write, so that its end is noticed without any other."""
        if self.problem is None or self._probing or self._closed is not None:
            return
        self._probing = True

        def probed(_: object) -> None:
            self._probing = False

        self.submit(lambda connection: connection.execute(_PROBE).rowcount).addBoth(probed)

    def catch_up(self) -> None:
        """Have the next commit followed by a checkpoint of what was written during the reader's."""
        self._catch_up = True

    async def close(self) -> None:
        """Commit the writes that wait, then end the thread."""
        if self._closed is None:
            self._closed = Deferred()
            if not self._thread.is_alive():
                return
            if not self._busy:
                self._batches.put(None)
            await self._closed
            if not self.files_changed:
                self._thread.join()

    def _deliver_results(
        self, batch: list[PendingWrite], results: list[Any], problem: str | None, grown: bool, behind: str | None
    ) -> None:
        """Hand out the results of one commit, and tell of changes."""
        changed, self.problem = problem != self.problem, problem
        told, self.behind = (behind is None) == (self.behind is None), behind
        later: list[tuple[PendingWrite, Any]] = []
        in_order = any([write.alone for write in batch])  # noqa: C419 - what is alone may count what came before it
        try:
            self._notify()  # what the commit before left, if this one never came to wait for the disk
            for write, result in zip(batch, results, strict=True):
                if write.notify_later and not in_order:
                    later.append((write, result))
                else:
                    _tell(write, result)
        finally:
            self._to_notify = later
            self._busy = False
            self._begin_soon()
        if not self._busy:
            self._notify()
        if grown:
            self._on_log()
        if changed:
            self._on_change(problem)
        if not told:
            self._on_behind(behind)
        if self._closed is not None and not self._busy:
            self._batches.put(None)

    def _notify(self) -> None:
        later, self._to_notify = self._to_notify, []
        for write, result in later:
            _tell(write, result)

    def _ended(self) -> None:
        assert self._closed is not None  # noqa: S101 - for the type checker
        self._closed.callback(None)

    # -- in the writer's thread ---------------------------------------------------------

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            results, problem, grown = self._work(batch)
            self._reactor.callFromThread(self._deliver_results, batch, results, problem, grown, self._behind)
        self._close_connection()
        self._reactor.callFromThread(self._ended)
        if self.files_changed:
            # The last connection that is closed removes the log by its name, whosever that is by now: so none is.
            Event().wait()

    def _close_connection(self) -> None:
        """Close the connection, unless a last look shows that the files were changed from outside."""
        if self._connection is not None and not self.files_changed:
            try:
                self._check_files(self._connection)
            except FilesChanged as change:
                _log.error("{problem}", problem=self._explained(change))
        if not self.files_changed:
            self._disconnect()

    def _work(self, batch: list[PendingWrite]) -> tuple[list[Any], str | None, bool]:
        """Return the results, the problem (None: all is well), and whether the log is worth a checkpoint."""
        self._count_step()
        is_beat = len(batch) == 1 and batch[0].batch_operation is _beat
        results: list[Any] = [None]
        try:
            if is_beat:
                self._check_without_commit()
            else:
                results = self._commit(batch)
        except BaseException as error:  # noqa: BLE001 - also of a MemoryError this commit fails, and not the thread
            self._thread_problem = self._explained(error)
            return [Failure(JournalError(self._thread_problem)) for _ in batch], self._thread_problem, False
        if is_beat and (self._thread_problem is not None or not (self._catch_up or self._behind)):
            return results, self._thread_problem, False
        self._thread_problem = None
        return results, None, self._log_has_grown()

    def _count_step(self) -> None:
        self.steps += 1

    def _check_without_commit(self) -> None:
        """Check both files without a commit: they may be gone, or there again."""
        if self._connection is not None and (self.files_changed or self._thread_problem is None):
            self._check_files(self._connection)
            if self.files_changed:
                self.files_changed, self._thread_problem = False, None

    def _commit(self, batch: list[PendingWrite]) -> list[Any]:
        connection = self._connection or self.connect()
        self._files.check_before_commit()
        if self.files_changed:
            self._check_files(connection)  # nothing is added until both files are as they were
            self.files_changed = False
        if self._files.log_size > self._sizes.log:
            reason = checkpoint_now(connection)
            if reason is not None:
                raise JournalError(behind(self._path, reason, self._files.log_size, self._sizes))
        results = run_batch(connection, batch, self._before_commit)
        self._count_step()
        self._check_after_commit(connection)
        return results

    def _before_commit(self) -> None:
        if self._to_notify:
            self._reactor.callFromThread(self._notify)

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
        if isinstance(error, LogMissing) and self._connection is not None:
            self.files_changed = True
            problem = self._rescue.bring_log_in(error, self._connection)
            if problem is not None:
                return problem
            self.files_changed = False
            self._disconnect()
            self._files.forget_log()
            return f"{error}; all of it was brought into {self._path}, and a new one is begun"
        if isinstance(error, FilesChanged):
            self.files_changed = True
            return self._rescue.explain(error, self._connection)
        if not isinstance(error, JournalError):
            # A fresh connection for the next commit: after an I/O error this one's state is not worth a guess.
            self._disconnect()
        return str(error) or type(error).__name__

    def connect(self) -> Connection:
        """Open the connection: in the writer's thread, or before there is one. Raises JournalError, or FilesChanged."""
        self._opening.attempt()
        self._files.check_name()
        try:
            self._connection = self._connect()
        except sqlite3.Error as problem:
            raise self._opening.explained(problem) from None
        return self._connection

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
        connection, self._connection = self._connection, None
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
        if self._catch_up and self._connection is not None:
            self._catch_up = self._checkpoint_requested = False
            reason = checkpoint(self._connection)
            if reason != UNDER_WAY:
                self._behind = None if reason is None else behind(self._path, reason, self._files.log_size, self._sizes)
        elif not self._checkpoint_requested and self._files.log_size > self._sizes.checkpoint:
            self._checkpoint_requested = True
            return True
        return False


def _tell(write: PendingWrite, result: Any) -> None:
    try:
        write.done(result)
    except BaseException:  # noqa: BLE001 - the fault of one who asked must not keep their results from the others
        _log.failure("what came of an operation of the journal was not taken")


def _beat(_connection: Connection, items: Sequence[None]) -> Sequence[None]:
    """Do nothing: the result alone counts."""
    return items
