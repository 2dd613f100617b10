"""The backstop: asks every plugin, on an interval, to look for what was missed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from stackit.api.faults import FaultDescriber
from stackit.api.hookspecs import stackit_backstop
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Reactor
from stackit.bus.bus import Bus
from stackit.bus.timeouts import wait_or_cancel


class Backstop(Service):
    """A LoopingCall over ``stackit_backstop``: at start, and every ``interval`` seconds (0: never).

    A plugin whose last round still runs is not asked again until that has ended. The others do not wait for it.
    """

    def __init__(self, *, reactor: Reactor, bus: Bus, interval: float, grace: float) -> None:
        self._reactor = reactor
        self._bus = bus
        self._interval = interval
        self._grace = grace
        self._faults = FaultDescriber(bus.redact)
        self._running: dict[str, Deferred[bool]] = {}
        self._stopped = False
        self._loop = LoopingCall(self._look)
        self._loop.clock = reactor  # type: ignore[assignment]  # Twisted asks for a zope interface

    def startService(self) -> None:
        Service.startService(self)
        if self._interval:
            self._loop.start(self._interval, now=True)

    def rounds(self) -> list[str]:
        """Return the plugins whose round runs."""
        return list(self._running)

    async def stop(self) -> None:
        """Start no more rounds, and wait within the grace for those that run. Cancelling cancels them."""
        self._stopped = True
        if self._loop.running:
            self._loop.stop()
        await wait_or_cancel(self._reactor, list(self._running.values()), self._grace)

    def _look(self) -> None:
        self._round()

    async def compare(self) -> bool:
        """Have every plugin look now, or wait for a look that runs; return whether all of them ended without an error.

        Nothing is looked at once the backstop was stopped.
        """
        if self._stopped:
            return False
        outcomes: list[Deferred[Any]] = [_outcome(each) for each in self._round()]
        return all(await gatherResults(outcomes))

    def _round(self) -> list[Deferred[bool]]:
        """Return the round of each plugin, which has begun or runs still; whether it ended well."""
        asked = self._bus.ask(stackit_backstop, self._reactor, timeout=0)
        return [self._running.get(plugin) or self._start(plugin, look) for plugin, look in asked]

    def _start(self, plugin: str, look: Callable[[], Deferred[Any]]) -> Deferred[bool]:
        began = self._reactor.seconds()

        def ended(result: object) -> bool:
            self._running.pop(plugin, None)
            seconds = self._reactor.seconds() - began
            if not isinstance(result, Failure):
                self._bus.observe(Occurrence(name="backstop", plugin=plugin, outcome="done", seconds=seconds))
                return True
            if not self._stopped or not result.check(CancelledError):
                fault = self._faults.describe(result.value)
                self._bus.observe(
                    Occurrence(
                        name="backstop",
                        plugin=plugin,
                        outcome="failed",
                        seconds=seconds,
                        error=fault.error,
                        traceback=fault.new_traceback,
                    )
                )
            return False

        running = look()
        self._running[plugin] = running
        return running.addBoth(ended)


def _outcome(running: Deferred[bool]) -> Deferred[bool]:
    """Return a Deferred of a result that stays with the one that is waited for elsewhere, too."""
    outcome: Deferred[bool] = Deferred()

    def ended(result: bool) -> bool:
        if not outcome.called:
            outcome.callback(result)
        return result

    running.addCallback(ended)
    return outcome
