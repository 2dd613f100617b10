"""Stalls: events are due for a subscriber, and none begins or ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stackit.api.periodic import Periodic
from stackit.api.reactor import Timers
from stackit.dispatch.dispatch import Dispatch
from stackit.dispatch.queues import SubscriberQueue

INTERVAL = 5.0
"""Seconds between two checks of all queues."""
WAKE_AFTER = 60.0
"""Seconds of a stall after which the queues are woken, and between two such wakes."""
BOUND = 300.0
"""Seconds, beyond the timeout of its handler, after which a stall is reported as a problem."""


class StallDetector(Periodic):
    """A watch over the queues, in which events have to begin and end while any are due.

    If handlers hang, the stall is reported. If stackit lost an event on its way from the journal, waking the queues
    ends the stall.
    """

    def __init__(
        self,
        *,
        reactor: Timers,
        dispatch: Dispatch,
        display: Callable[[str], str],
        notice: Callable[[str], None],
    ) -> None:
        """``display`` returns the name for people of a subscriber key; ``notice`` is called with a line for people."""
        super().__init__(reactor, INTERVAL, self._check)
        self._reactor = reactor
        self._dispatch = dispatch
        self._display = display
        self._notice = notice
        self._moves: dict[str, int] = {}
        self._since: dict[str, float] = {}  # the last check at which each had moved, or had nothing due
        self._reported: set[str] = set()
        self._woken_at = 0.0

    def seconds(self) -> Mapping[str, float]:
        """Return the seconds for which events were due and none began or ended, by the name of the subscriber."""
        return {self._display(key): stalled for key, stalled in self._seconds().items()}

    def problems(self) -> list[str]:
        """Return the stalls that have lasted too long, one line each."""
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

    def _check(self) -> None:
        problems = self.problems()
        for problem in problems:
            if problem.partition(":")[0] not in self._reported:
                self._notice(problem)
        self._reported = {problem.partition(":")[0] for problem in problems}
        now = self._reactor.seconds()
        if max(self._seconds().values(), default=0.0) >= WAKE_AFTER <= now - self._woken_at:
            self._woken_at = now
            self._dispatch.look_again()
