"""The writer: the thread that commits all writes that wait, together.

Writes gather while the reactor's turns bring more of them, and while the commit before waits for the disk; then they
become one commit. Under load a hundred deliveries share one fsync, and a lone one waits for nobody.

SQLite has the disk take a commit before ``COMMIT`` returns (``synchronous = FULL``). While it does, the reactor's
thread tells the results that nobody waits for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.errors import JournalError
from stackit.api.reactor import Reactor
from stackit.journal.sqlite.batch import BatchOperation, Operation, PendingWrite, beat
from stackit.journal.sqlite.committer import Committer
from stackit.journal.sqlite.opening import Opening

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
    ``release_reader`` has the reader close its connection: see ``Rescue``.
    """

    __slots__ = (
        "_batches",
        "_busy",
        "_closed",
        "_committer",
        "_gather_until",
        "_gathered",
        "_on_behind",
        "_on_change",
        "_on_log",
        "_probing",
        "_reactor",
        "_thread",
        "_to_notify",
        "_waiting",
        "behind",
        "problem",
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
        self._committer = Committer(opening, before_commit=self._before_commit, release_reader=release_reader)
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

    def start(self, problem: str | None) -> None:
        """Start the thread. ``problem`` is the reason why nothing can be written yet, if there is one."""
        self.problem = problem
        self._committer.start(problem)
        self._thread.start()

    @property
    def lives(self) -> bool:
        """Return False once the thread has ended."""
        return self._thread.is_alive()

    @property
    def steps(self) -> int:
        """Return a number that grows with every piece of work of the thread."""
        return self._committer.steps

    @property
    def files_changed(self) -> bool:
        """Return True while the files are changed from outside, which a person has to mend."""
        return self._committer.files_changed

    def connect(self) -> None:
        """Open the connection, before the thread is started. Raises JournalError, or FilesChanged."""
        self._committer.connect()

    def beat(self, done: Callable[[object], object]) -> None:
        """Call ``done`` when all earlier writes are through; costs no commit of its own."""
        self._ask(PendingWrite(beat, None, 0, done))

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
        self._committer.catch_up = True

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
        behind_changed, self.behind = (behind is None) != (self.behind is None), behind
        later: list[tuple[PendingWrite, Any]] = []
        in_order = any([write.alone for write in batch])  # noqa: C419 - what is alone may count what came before it
        try:
            if behind_changed:
                self._on_behind(behind)  # before those hear of it whose writes are refused for it
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
            results, problem, grown = self._committer.run(batch)
            self._reactor.callFromThread(self._deliver_results, batch, results, problem, grown, self._committer.behind)
            # Not kept while this thread waits for the next batch: up to 64 MiB of bodies, and whoever sent them.
            del batch, results
        self._committer.close()
        self._reactor.callFromThread(self._ended)
        if self.files_changed:
            # The last connection that is closed removes the log by its name, whosever that is by now: so none is.
            Event().wait()

    def _before_commit(self) -> None:
        if self._to_notify:
            self._reactor.callFromThread(self._notify)


def _tell(write: PendingWrite, result: Any) -> None:
    try:
        write.done(result)
    except BaseException:  # noqa: BLE001 - the fault of one who asked must not keep their results from the others
        _log.failure("what came of an operation of the journal was not taken")
