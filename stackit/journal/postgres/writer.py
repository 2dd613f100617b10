"""The writer: the thread that commits all writes that wait, together.

Writes gather while the reactor's turns bring more of them, and while the commit before is under way; then they become
one transaction, sent in one go. Under load a hundred deliveries share one commit, and a lone one waits for nobody.

A thread that waits for the database cannot give up: who cancels the wait for a standby is told that the commit
succeeded. So what is urgent is given up here, in the reactor's thread, and may be there all the same.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.errors import JournalError
from stackit.api.reactor import Reactor
from stackit.journal.postgres.batch import BatchOperation, Operation, PendingWrite, Step, do_nothing, steps
from stackit.journal.postgres.commit import Changes, Commit, Snapshot
from stackit.journal.postgres.committer import Committer
from stackit.journal.postgres.connection import Server
from stackit.journal.postgres.ownership import Ownership
from stackit.journal.postgres.subscribers import Subscribers
from stackit.journal.records import Space

_log = Logger(namespace="stackit")

T = TypeVar("T")
Item = TypeVar("Item")

_MAX_OPERATIONS = 512
_MAX_BYTES = 64 * 2**20
"""What goes into one commit: so many writes, and as many of them as bring so many bytes."""
_GATHER = 0.002
"""Seconds for which a commit waits at most, while every turn of the reactor brings more for it."""
_LOOK = 0.25
"""Seconds between two looks at how long a commit takes."""
_SLOW = 1.0
"""Seconds without an answer to a commit after which people are told."""
_PROBE = 1.0
"""Seconds between two tries to write while there is a problem and nothing else to write."""
# A commit alone needs the disk of the log, and rows may find room in a table that cannot grow.
_MAY_TRY_ROOM = "SELECT has_database_privilege(current_database(), 'TEMPORARY')"
_TRY_ROOM = "CREATE TEMPORARY TABLE room (filler text) ON COMMIT DROP"
_FILL_ROOM = "INSERT INTO room SELECT repeat('x', 2000) FROM generate_series(1, 512)"
_SILENT = "the journal cannot be written to the database: it does not answer"


class Writer:
    """Runs operations in the writer thread; each result comes once it is durable.

    ``on_change`` is called with the problem that keeps the journal from being written, and with None once it is over;
    ``on_hold`` with True as soon as a commit is refused, or is not answered, and with False once one went through;
    ``on_commit`` with what other processes are to be told of each commit. All in the reactor's thread;
    ``on_reconnected`` in the writer's, when there is another connection. ``purpose`` names the thread and its
    connection. ``written`` and ``commits`` are the writes and commits so far, and
    ``commit_seconds`` is the time that these took.
    """

    def __init__(
        self,
        server: Server,
        reactor: Reactor,
        ownership: Ownership,
        subscribers: Subscribers,
        *,
        on_commit: Callable[[Changes], object],
        purpose: str = "journal writer",
        on_change: Callable[[str | None], object] = lambda _: None,
        on_hold: Callable[[bool], object] = lambda _: None,
        on_reconnected: Callable[[], object] = lambda: None,
    ) -> None:
        self.problem: str | None = None
        self.written = 0
        self.commits = 0
        self.commit_seconds = 0.0
        self.spaces: Mapping[str, Space] = {}
        self._patience = server.patience
        self._reactor = reactor
        self._ownership = ownership
        self._on_change = on_change
        self._on_hold = on_hold
        self._on_commit = on_commit
        self._committer = Committer(
            server,
            purpose,
            subscribers,
            on_failure=self._failed,
            on_problem=self._trouble,
            on_reconnected=on_reconnected,
        )
        self._holds = False
        self._told: set[str] = set()
        self._closed: Deferred[None] | None = None
        self._waiting: deque[PendingWrite] = deque()
        self._in_hand: deque[PendingWrite] = deque()
        self._busy = False
        self._busy_since = 0.0
        self._look: DelayedCall | None = None
        self._probing = False
        self._gathered = 0
        self._gather_until = 0.0
        self._batches: SimpleQueue[tuple[list[PendingWrite], Snapshot] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name=purpose, daemon=True)

    def connect(self) -> None:
        """Open the connection, before the thread is started. Raises JournalError."""
        self._committer.connect()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def lives(self) -> bool:
        """Return False once the thread has ended."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Return how many writes are in hand or wait."""
        return len(self._in_hand) + len(self._waiting)

    @property
    def steps(self) -> int:
        """Return a number that grows with every piece of work of the thread."""
        return self._committer.steps

    def beat(self, done: Callable[[object], object]) -> None:
        """Call ``done`` when all earlier writes are through; costs no commit of its own."""
        self._ask(PendingWrite(done, asked=self._reactor.seconds(), operation=do_nothing, transaction=False))

    def submit(self, operation: Operation[T], size: int = 0, *, transaction: bool = True) -> Deferred[T]:
        """Run ``operation`` in a transaction of its own; ``size`` is roughly how many bytes it writes.

        Without ``transaction``, each of its statements is one. Fails with JournalError where that cannot be made
        durable, else with what it raised itself. It may be run again where an attempt failed.
        """
        result: Deferred[T] = Deferred()
        self._ask(
            PendingWrite(
                result.callback,
                asked=self._reactor.seconds(),
                operation=operation,
                transaction=transaction,
                size=size,
            )
        )
        return result

    def join(
        self,
        batch_operation: BatchOperation[Item],
        item: Item,
        done: Callable[[Any], object],
        size: int = 0,
        *,
        is_urgent: bool = False,
        goes_first: bool = False,
    ) -> None:
        """Have ``item`` worked on in the next commit, together with all others that came for the same operation.

        What was submitted meanwhile keeps its place among them. ``done`` gets the result, or a Failure of what
        ``submit`` fails with: these are so many that a Deferred for each would be seen. What ``is_urgent`` fails after
        a few seconds, and may be there later. What ``goes_first`` is sent before the others of its commit.
        """
        self._ask(
            PendingWrite(
                done,
                asked=self._reactor.seconds(),
                batch_operation=batch_operation,
                item=item,
                size=size,
                is_urgent=is_urgent,
                goes_first=goes_first,
            )
        )

    def doubt(self) -> None:
        """See before the next commit whether the server still takes writes, or another one does."""
        self._committer.doubt()

    def probe(self) -> None:
        """While there is a problem, try a write, so that its end is noticed without any other."""
        if self.problem is None or self._probing or self._closed is not None:
            return
        self._probing = True

        def probed(_: object) -> None:
            self._probing = False

        self.submit(_try_out).addBoth(probed)

    async def close(self) -> None:
        """Commit the writes that wait, as far as the database takes them, then end the thread."""
        if self._closed is None:
            self._closed = Deferred()
            self._committer.stopping.set()
            if not self._thread.is_alive():
                self._committer.disconnect()
                return
            if not self._busy:
                self._batches.put(None)
            await self._closed
            self._thread.join()

    def _ask(self, write: PendingWrite) -> None:
        if self._closed is not None:
            _tell(write, Failure(JournalError("the journal is closed")))
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
        now = self._reactor.seconds()
        if before < self._gathered < _MAX_OPERATIONS and now < self._gather_until:
            self._reactor.callFromThread(self._begin)
            return
        batch: list[PendingWrite] = []
        size = 0
        while self._waiting and len(batch) < _MAX_OPERATIONS and size < _MAX_BYTES:
            write = self._waiting.popleft()
            if write.done is not None:  # given up before it was begun
                batch.append(write)
                size += write.size
        self._in_hand.extend(batch)
        self._busy_since = now
        if self._look is None:
            self._look = self._reactor.callLater(_LOOK, self._look_at_time)
        owned = self._ownership
        self._batches.put((batch, Snapshot(owned.me, owned.working(), self.spaces, owned.shards)))

    def _look_at_time(self) -> None:
        """Tell people that the database does not answer, and give up what is urgent; see whether a problem is over."""
        self._look = None
        now = self._reactor.seconds()
        silent = now - self._busy_since
        if not self._busy:
            if self.problem is not None:
                self._look = self._reactor.callLater(_LOOK, self._look_at_time)
                if silent >= _PROBE:
                    self.probe()
            return
        if silent >= _SLOW:
            self._hold(True)
            self._change(self.problem or _SILENT)
        for write in (*self._in_hand, *self._waiting):
            if write.is_urgent and write.done is not None and now - write.asked >= self._patience:
                _tell(write, Failure(JournalError(self.problem or _SILENT)))
        self._look = self._reactor.callLater(_LOOK, self._look_at_time)

    def _deliver_results(
        self, step: Step, results: list[Any], changes: Changes, problem: str | None, seconds: float
    ) -> None:
        """Hand out the results of one step, which took so many seconds, and tell of changes."""
        self._busy_since = self._reactor.seconds()
        self.written += len(step)
        if step[0].operation is not do_nothing:
            self.commits += 1
            self.commit_seconds += seconds
        for write, result in zip(step, results, strict=True):
            self._in_hand.popleft()
            _tell(write, result)
        if changes:
            self._on_commit(changes)
        if problem is None and self.problem is not None and not _is_proof(step):
            self.probe()
            return
        self._hold(problem is not None)
        self._change(problem)

    def _batch_is_done(self) -> None:
        self._busy = False
        self._begin_soon()
        if self._closed is not None and not self._busy:
            self._batches.put(None)

    def _hold(self, holds: bool) -> None:
        changed, self._holds = holds != self._holds, holds
        if changed:
            self._on_hold(holds)

    def _change(self, problem: str | None) -> None:
        """Take over the problem of now. While it lasts, each way in which it shows is told once."""
        is_new = problem not in self._told if problem is not None else self.problem is not None
        self.problem = problem
        if problem is None:
            self._told.clear()
        else:
            self._told.add(problem)
        if is_new:
            self._on_change(problem)

    def _ended(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None
        assert self._closed is not None  # noqa: S101 - for the type checker
        self._closed.callback(None)

    # -- in the writer's thread ---------------------------------------------------------

    def _run(self) -> None:
        while (next_one := self._batches.get()) is not None:
            batch, snapshot = next_one
            for step in steps(batch):
                began = time.monotonic()
                results, changes, problem = self._committer.run(step, snapshot)
                seconds = time.monotonic() - began
                self._reactor.callFromThread(self._deliver_results, step, results, changes, problem, seconds)
            self._reactor.callFromThread(self._batch_is_done)
            # Not kept while this thread waits for the next batch: up to 64 MiB of bodies, and whoever sent them.
            next_one = batch = step = results = None  # type: ignore[assignment]
        self._committer.disconnect()
        self._reactor.callFromThread(self._ended)

    def _failed(self) -> None:
        self._reactor.callFromThread(self._hold, True)

    def _trouble(self, problem: str) -> None:
        self._reactor.callFromThread(self._change, problem)


def _try_out(commit: Commit) -> None:
    """Write what needs room on the disk, and the disk and the standby have to take; nothing of it is left behind."""
    connection = commit.connection
    if connection.execute(_MAY_TRY_ROOM).fetchone() == (True,):
        connection.execute(_TRY_ROOM)
        connection.execute(_FILL_ROOM)
    commit.touch()


def _is_proof(step: Step) -> bool:
    """Return whether a step that went through shows that deliveries can be taken: others may need no room."""
    return any(write.is_urgent or write.operation is _try_out for write in step)


def _tell(write: PendingWrite, result: Any) -> None:
    done, write.done = write.done, None
    if done is None:
        return
    try:
        done(result)
    except BaseException:  # noqa: BLE001 - the fault of one who asked must not keep their results from the others
        _log.failure("what came of an operation of the journal was not taken")
