"""Subscribers that stand still: events are due for them, and none begins or ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.application.service import Service
from twisted.internet.task import LoopingCall

from stackit.api.reactor import Reactor
from stackit.dispatch.dispatch import Dispatch
from stackit.dispatch.queues import SubscriberQueue

INTERVAL = 5.0
"""Seconds between two looks."""
LOOK_AGAIN = 60.0
"""Seconds of a stall after which the journal is asked what is due, and between two such questions."""
BOUND = 300.0
"""Seconds, beyond the timeout of its handler, after which a stall is a problem that people are told of."""


class StallDetector(Service):
    """Watches whether the queues move.

    One that stands still while its handlers hang is told of. Where it is due to a fault of ours, that something was
    lost on its way from the journal, a look into the journal mends it.
    """

    def __init__(
        self,
        *,
        reactor: Reactor,
        dispatch: Dispatch,
        display: Callable[[str], str],
        notice: Callable[[str], None],
    ) -> None:
        """``display`` gives the name of a subscriber (by its key) for people, ``notice`` tells them a line."""
        self._reactor = reactor
        self._dispatch = dispatch
        self._display = display
        self._notice = notice
        self._moves: dict[str, int] = {}
        self._since: dict[str, float] = {}  # when each was last seen to move, or to have nothing due
        self._told: set[str] = set()
        self._looked_again = 0.0
        self._loop = LoopingCall(self._watch)
        self._loop.clock = reactor  # type: ignore[assignment]  # Twisted asks for a zope interface

    def startService(self) -> None:
        Service.startService(self)
        self._loop.start(INTERVAL, now=True)

    def stopService(self) -> None:
        Service.stopService(self)
        if self._loop.running:
            self._loop.stop()

    def seconds(self) -> Mapping[str, float]:
        """For how long each subscriber, by its name for people, has had something due and moved none of it."""
        return {self._display(key): stalled for key, stalled in self._seconds().items()}

    def problems(self) -> list[str]:
        """Stalls that have lasted too long, one line each."""
        stalled = self._seconds()
        return [
            self._problem(queue, stalled[key])
            for key, queue in self._dispatch.queues().items()
            if stalled[key] > BOUND + self._dispatch.timeout(queue.subscriber)
        ]

    def _seconds(self) -> dict[str, float]:
        now = self._reactor.seconds()
        for key, queue in self._dispatch.queues().items():
            if self._moves.get(key) != queue.moves or not self._dispatch.has_due(queue):
                self._moves[key] = queue.moves
                self._since[key] = now
        return {key: now - self._since[key] for key in self._dispatch.queues()}

    def _problem(self, queue: SubscriberQueue, seconds: float) -> str:
        name = self._display(queue.subscriber.key)
        waiting = self._dispatch.pending()[name]
        return (
            f"{name}: {waiting} events are due or in hand, and none has begun or ended for {seconds:.0f} seconds: "
            "see whether its handlers hang, and restart stackit"
        )

    def _watch(self) -> None:
        problems = self.problems()
        for problem in problems:
            if problem.partition(":")[0] not in self._told:
                self._notice(problem)
        self._told = {problem.partition(":")[0] for problem in problems}
        now = self._reactor.seconds()
        if max(self._seconds().values(), default=0.0) >= LOOK_AGAIN <= now - self._looked_again:
            self._looked_again = now
            self._dispatch.look_again()
