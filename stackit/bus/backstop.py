"""The backstop: asks every plugin, on an interval, to look for what was missed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.python.failure import Failure

from stackit.api.faults import FaultDescriber
from stackit.api.hookspecs import stackit_backstop
from stackit.api.nodes import Nodes
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Reactor, looping_call
from stackit.bus.bus import Bus
from stackit.bus.timeouts import wait_or_cancel

_TRIES = 20
"""How often in an interval a node of a fleet asks whether a round is due that one of them is to begin."""
_SHORTEST, _LONGEST = 1.0, 30.0
"""Bounds of the seconds between two of these questions."""


class Backstop(Service):
    """A LoopingCall over ``stackit_backstop``: at start, and every ``interval`` seconds (0: never).

    A plugin whose last round still runs is not asked again until that has ended. The others do not wait for it.

    In a fleet, one node asks a plugin in each interval. One that says ``needs_mirror=True`` is asked at each node,
    about its mirrors.
    """

    def __init__(
        self,
        *,
        reactor: Reactor,
        bus: Bus,
        interval: float,
        grace: float,
        nodes: Nodes | None = None,
    ) -> None:
        """``nodes`` is the fleet, None without one."""
        self._reactor = reactor
        self._bus = bus
        self._interval = interval
        self._grace = grace
        self._nodes = nodes
        self._asking: Deferred[None] = succeed(None)
        self._once = looping_call(reactor, self._ask_fleet)
        self._faults = FaultDescriber(bus.redact)
        self._running: dict[str, Deferred[bool]] = {}
        self._stopped = False
        self._loop = looping_call(reactor, self._look)

    def startService(self) -> None:
        Service.startService(self)
        if self._interval:
            self._loop.start(self._interval, now=True)
            if self._is_fleet:
                self._once.start(min(max(self._interval / _TRIES, _SHORTEST), _LONGEST), now=True)

    def rounds(self) -> list[str]:
        """Return the plugins whose round runs."""
        return list(self._running)

    async def stop(self) -> None:
        """Start no more rounds, and wait within the grace for those that run. Cancelling cancels them."""
        self._stopped = True
        for loop in (self._loop, self._once):
            if loop.running:
                loop.stop()
        self._asking.cancel()
        await wait_or_cancel(self._reactor, list(self._running.values()), self._grace)

    @property
    def _is_fleet(self) -> bool:
        return self._nodes is not None and bool(self._nodes.here)

    def _look(self) -> None:
        self._round(self._bus.needing_mirrors(stackit_backstop) if self._is_fleet else None)

    def _ask_fleet(self) -> Deferred[None]:
        self._asking = Deferred.fromCoroutine(self._look_once())
        return self._asking.addErrback(lambda failure: failure.trap(CancelledError) and None)

    async def _look_once(self) -> None:
        """Have each other plugin look whose round no node has begun in this interval."""
        if self._nodes is None:
            return
        everywhere = self._bus.needing_mirrors(stackit_backstop)
        for plugin, _ in self._bus.ask(stackit_backstop, self._reactor, timeout=0):
            if plugin in everywhere or plugin in self._running:
                continue
            if await self._nodes.round(f"backstop of {plugin}", self._interval) and not self._stopped:
                self._round([plugin])

    async def compare(self) -> bool:
        """Have every plugin look now, or wait for a look that runs; return whether all of them ended without an error.

        In a fleet, the leader has all of them look, and any other node those that look after its mirrors. Nothing is
        looked at once the backstop was stopped.
        """
        if self._stopped:
            return False
        leads = self._nodes is None or self._nodes.leads()
        wanted = None if leads else self._bus.needing_mirrors(stackit_backstop)
        outcomes: list[Deferred[Any]] = [_outcome(each) for each in self._round(wanted)]
        return all(await gatherResults(outcomes))

    def _round(self, wanted: Collection[str] | None = None) -> list[Deferred[bool]]:
        """Return the round of each plugin (None: all), which has begun or runs still; whether it ended well."""
        asked = self._bus.ask(stackit_backstop, self._reactor, timeout=0)
        return [
            self._running.get(plugin) or self._start(plugin, look)
            for plugin, look in asked
            if wanted is None or plugin in wanted
        ]

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
