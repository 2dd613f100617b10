"""The backstop's schedule: all repositories at once at the start, later spread over the interval."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

from twisted.internet.defer import CancelledError, Deferred, DeferredList

from stackit import StackitError, Timers, sleep
from stackit.plugins.mirror.sync.stagger import phase
from stackit.plugins.mirror.sync.worker import MirrorWorker

SPREAD = 0.95
"""The part of the interval over which the checks are spread. The rest is for the last ones to end."""
ENOUGH = 0.98
"""The part of the interval after which a run is over, so that the next one can start."""

GRAIN = 1 / 20
"""Checks due within this part of the interval, at most a second, start together: the machine wakes once."""


def _place(turn: tuple[float, MirrorWorker]) -> float:
    return turn[0]


class BackstopSchedule:
    """Checks every repository once in ``interval`` seconds (0: only when asked)."""

    def __init__(self, reactor: Timers, workers: Sequence[MirrorWorker], interval: float) -> None:
        self._reactor = reactor
        self._turns = sorted(((phase(each.managed.repo.key), each) for each in workers), key=_place)
        self._workers = set(workers)
        self._interval = interval
        self._has_run = False
        self._checks: dict[str, Deferred[None]] = {}
        self._syncing: set[str] = set()  # of the checks, those that a round is asked for
        self._stopped = False
        self._walking: Deferred[None] | None = None

    def add(self, worker: MirrorWorker) -> None:
        """Check one more repository, from the next run on."""
        insort(self._turns, (phase(worker.managed.repo.key), worker), key=_place)
        self._workers.add(worker)

    def remove(self, worker: MirrorWorker) -> None:
        """Check a repository no more."""
        at = bisect_left(self._turns, phase(worker.managed.repo.key), key=_place)
        while at < len(self._turns) and self._turns[at][1] is not worker:
            at += 1
        del self._turns[at : at + 1]
        self._workers.discard(worker)
        check = self._checks.get(worker.managed.repo.key)
        if check is not None:
            check.cancel()

    def check_now(self, worker: MirrorWorker) -> None:
        """Check a repository as at the start, if it is not being checked."""
        if worker.managed.repo.key not in self._checks:
            self._start(worker, "start", 0.0)

    async def run(self) -> None:
        """Check every repository, and wait for all, but no longer than the interval.

        A large first clone may take longer, and goes on while the next run checks the others. A failure of a remote
        is not raised: the sync reports it, and the repository's state keeps the reason. Raises CancelledError once
        stopped: not every repository was checked.
        """
        if self._stopped:
            raise CancelledError
        over = SPREAD * self._interval if self._has_run else 0.0
        cause = "backstop" if self._has_run else "start"
        self._has_run = True
        if self._walking is not None:
            self._walking.cancel()  # an earlier run that was held up: this one checks the rest
        self._walking = walking = Deferred.fromCoroutine(self._walk(cause, over))
        waited: Deferred[None] = Deferred()

        def all_started(_: object) -> None:
            everyone = DeferredList(list(self._checks.values()))
            everyone.addCallback(lambda _: None if waited.called else waited.callback(None))

        walking.addBoth(all_started)
        enough = None
        if self._interval:
            enough = self._reactor.callLater(ENOUGH * self._interval, waited.callback, None)
        try:
            await waited
        except CancelledError:
            walking.cancel()
            for check in list(self._checks.values()):
                check.cancel()
            raise
        finally:
            if enough is not None and enough.active():
                enough.cancel()
        if self._stopped:
            raise CancelledError

    def stop(self) -> None:
        """Start no more checks, and end those that no round runs for. Calls after the first do nothing."""
        self._stopped = True
        if self._walking is not None:
            self._walking.cancel()
        for key, check in tuple(self._checks.items()):
            if key not in self._syncing:
                check.cancel()

    async def _walk(self, cause: str, over: float) -> None:
        """Start each check when it is due."""
        grain = min(1.0, GRAIN * self._interval)
        began = self._reactor.seconds()
        until = 0.0
        for place, worker in tuple(self._turns):  # repositories may come and go meanwhile
            due = over * place
            if due > until:
                wait = began + due - self._reactor.seconds()
                if wait > 0:
                    await sleep(self._reactor, wait)
                until = due + grain
            if worker in self._workers and worker.managed.repo.key not in self._checks:
                self._start(worker, cause, over * place)

    def _start(self, worker: MirrorWorker, cause: str, place: float) -> None:
        key = worker.managed.repo.key
        check = Deferred.fromCoroutine(self._check(worker, cause, place))
        if check.called:
            return
        self._checks[key] = check

        def ended(_: object) -> None:
            del self._checks[key]

        check.addBoth(ended)

    async def _check(self, worker: MirrorWorker, cause: str, place: float) -> None:
        while not worker.status.paused() and worker.quiet_until > (now := self._reactor.seconds()):
            # The checks that became due meanwhile are spread again, or all would start when the silence ends.
            await sleep(self._reactor, worker.quiet_until - now + place)
        if worker.status.paused():
            return
        key = worker.managed.repo.key
        try:
            if cause == "start" or not await worker.is_unchanged():
                self._syncing.add(key)
                await worker.sync(cause)
        except StackitError:
            return  # the sync has reported it
        finally:
            self._syncing.discard(key)
