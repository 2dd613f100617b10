"""Recovery over lists in memory, with a simulated clock."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from delivery_list import ListedHook, Recorded
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from stackit.api.events import Event
from stackit.api.occurrences import Occurrence
from stackit.github.recovery.recovery import Recovery
from stackit.github.recovery.source import DeliverySource
from stackit.github.recovery.taking import Taker

NOW = 1_795_000_000.0


class RecoveryHarness:
    """A recovery, and what it told. ``seen`` are its occurrences; ``compared`` counts comparisons of everything."""

    def __init__(self, *hooks: ListedHook, interval: float = 300, pause: float = 1) -> None:
        self.clock = Clock()
        self.journal = Recorded()
        self.hooks: list[DeliverySource] = [*hooks]
        self.seen: list[Occurrence] = []
        self.interval, self.pause = interval, pause
        self.unwanted = {"star"}
        self.foreign: set[str] = set()
        self.comparison: Deferred[bool] | bool = True
        self.compared = 0
        self.max_body = 25 * 2**20
        self.signatures: dict[bytes, str] = {}
        self.recovery = self._make()

    def now(self) -> float:
        return NOW + self.clock.seconds()

    def _make(self) -> Recovery:
        taker = Taker(
            take=self.journal.take,
            observe=self.seen.append,
            now=self.now,
            speaks_for=self._speaks_for,
            verify=lambda _body, digest: self.signatures.get(digest),
            max_body=lambda: self.max_body,
        )
        return Recovery(
            reactor=self.clock,
            now=self.now,
            journal=self.journal,
            taker=taker,
            wanted=lambda name, _action: name not in self.unwanted,
            sources=self._sources,
            reconcile=self._reconcile,
            observe=self.seen.append,
            interval=self.interval,
            pause=self.pause,
        )

    def _speaks_for(self, _signer: str, event: Event) -> bool:
        return event.delivery not in self.foreign

    async def _sources(self) -> list[DeliverySource]:
        return list(self.hooks)

    async def _reconcile(self) -> bool:
        self.compared += 1
        comparison = self.comparison
        return await comparison if isinstance(comparison, Awaitable) else comparison

    def start(self) -> None:
        self.recovery.start()

    def stop(self) -> None:
        assert Deferred.fromCoroutine(self.recovery.stop()).called

    def restart(self) -> None:
        """Stop, and start with what the journal kept."""
        self.stop()
        self.seen.clear()
        self.recovery = self._make()
        self.start()

    def ask(self, *given: Any, **named: Any) -> list[Any]:
        """Ask for a recovery; return the list of reports, once it is there."""
        results: list[Any] = []
        Deferred.fromCoroutine(self.recovery.recover(*given, **named)).addCallback(results.extend)
        return results

    def notices(self) -> list[str]:
        return [str(each.reason) for each in self.seen if each.name == "notice"]

    def taken(self) -> list[str]:
        return [guid for _, guid in self.journal.taken]
