"""Since when something is wrong: a look at the problems every few seconds, whoever asks."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from twisted.internet.defer import CancelledError, Deferred

from stackit.api.periodic import Periodic
from stackit.api.reactor import Timers

INTERVAL = 15.0
"""Seconds between two looks."""
_NUMBERS = re.compile(r"\d+(?:[.,:]\d+)*")


class ProblemWatch(Periodic):
    """Remembers for each problem when it was first seen. One that ends, and comes again, begins anew."""

    def __init__(
        self, checks: Callable[[], Awaitable[Sequence[str]]], *, reactor: Timers, now: Callable[[], float]
    ) -> None:
        """``checks`` returns the problems of now, a line each; ``now`` is the wall clock."""
        super().__init__(reactor, INTERVAL, self._look_in_turn)
        self._checks = checks
        self._now = now
        self._seen: dict[str, float] = {}
        self._looking: Deferred[None] | None = None

    def stopService(self) -> None:
        """Look no more, and give up a look that is under way."""
        super().stopService()
        if self._looking is not None:
            self._looking.cancel()

    async def look(self) -> list[tuple[str, float]]:
        """Return the problems of now, each with the time, in seconds since the epoch, since which it is known."""
        problems = list(await self._checks())
        now = self._now()
        # A problem whose numbers change, such as how long it lasts, is the same problem.
        keys = [_NUMBERS.sub("#", each) for each in problems]
        self._seen = {key: self._seen.get(key, now) for key in keys}
        return [(problem, self._seen[key]) for problem, key in zip(problems, keys, strict=True)]

    def _look_in_turn(self) -> Deferred[None]:
        self._looking = Deferred.fromCoroutine(self._look_once())
        return self._looking

    async def _look_once(self) -> None:
        with suppress(CancelledError):
            await self.look()
