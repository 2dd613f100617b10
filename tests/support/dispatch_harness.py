"""A dispatch over a real journal, with a clock that the test moves."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest_twisted
from clocks import as_reactor
from outcomes import outcome
from places import without_place
from plugin_maker import bus_with, plugin
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from waiting import PATIENCE

from stackit import Event, Occurrence, Repo, hookimpl, on
from stackit.api.events import DeliveryResult, Via
from stackit.api.forge import Forges
from stackit.bus.bus import Bus
from stackit.dispatch.backoff import Backoff
from stackit.dispatch.dispatch import Dispatch, HandlerLimits
from stackit.dispatch.step_file import StepFile
from stackit.forges import restore
from stackit.github import GitHub
from stackit.github.payloads import decode
from stackit.journal import EventId, Receipt
from stackit.journal.sqlite import SQLiteJournal

GITHUB = Forges([GitHub()])
START = 1_000_000.0
GRACE = 10.0
TIMEOUT = 60.0


class Longest(Random):
    """No jitter: the n-th retry comes after 2**(n-1) seconds."""

    def uniform(self, _a: float, b: float) -> float:
        return b


class HandClock(Clock):
    """Time that the test moves, and threads that reach the real reactor."""

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self.rightNow = START
        self.callFromThread = reactor.callFromThread


class Harness:
    """stackit without the web: plugins, bus, journal and dispatch."""

    def __init__(
        self,
        directory: Path,
        *,
        concurrency: int = 4,
        retry_for: float = 3.0,
        journal: type[SQLiteJournal] = SQLiteJournal,
        start: bool = True,
        refuse_replays: bool = False,
        steps: StepFile | None = None,
        **plugins: object,
    ) -> None:
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        @hookimpl
        def stackit_observe(occurrence: Occurrence) -> None:
            self.seen.append(occurrence)
            self.look()

        self.reactor: Any = reactor
        self.clock = HandClock(reactor)
        self.ahead = 0.0  # of the clock: seconds by which the wall clock was set
        self.seen: list[Occurrence] = []
        self._awaited: list[tuple[Callable[[], bool], Deferred[None]]] = []
        self.bus: Bus = bus_with(**plugins)
        self.bus.register("the_observer", plugin(stackit_observe))
        self.journal = journal.open(directory / "state", reactor=reactor)
        self.dispatch = Dispatch(
            reactor=as_reactor(self.clock),
            now=self.wall,
            bus=self.bus,
            journal=self.journal,
            backoff=Backoff(retry_for, Longest()),
            limits=HandlerLimits(timeout=TIMEOUT, concurrency=concurrency, grace=GRACE, refuse_replays=refuse_replays),
            restore=partial(restore, GITHUB),
            is_ping=GITHUB.is_ping,
            steps=steps,
        )
        self.dispatch.open_queues()
        self._recovered = self.recover() if start else None
        self._deliveries = 0

    def recover(self) -> Deferred[None]:
        """Begin to hand on what the last process left."""
        return Deferred.fromCoroutine(self.dispatch.recover())

    async def close(self) -> None:
        """Stop as a SIGTERM does. What still runs is out of grace at once; nothing is left behind."""
        stopped = Deferred.fromCoroutine(self.dispatch.stop())
        self.clock.advance(GRACE)
        await stopped
        await self.journal.close()
        assert self.clock.getDelayedCalls() == []
        gc.collect()  # a failure that was not handled is logged now, and fails the test

    async def take(
        self,
        repo: str = "Octo/Widget",
        *,
        name: str = "issues",
        delivery: str | None = None,
        signer: str = "",
        via: Via = "webhook",
        **payload: Any,
    ) -> DeliveryResult:
        """A delivery comes in; ``payload`` is added to its body, in which ``mark`` is the delivery id by default."""
        if self._recovered is not None:
            await self._recovered
        self._deliveries += 1
        delivery = delivery or f"d{self._deliveries}"
        owner, _, short = repo.partition("/")
        body = msgspec.json.encode(
            {
                "action": "opened",
                "mark": delivery,
                "issue": {},
                "starred_at": None,
                "repository": {"name": short, "full_name": repo, "owner": {"login": owner}},
                **payload,
            }
        )
        event = decode(name, body, id="", delivery=delivery, hook="7", received_at=self.wall())
        assert isinstance(event, Event)
        event = msgspec.structs.replace(event, signer=signer, via=via)
        taken: DeliveryResult = await outcome(self.dispatch.take, event, hashlib.sha256(body).digest())
        return taken

    def wall(self) -> float:
        """The wall clock."""
        return self.clock.seconds() + self.ahead

    async def announce(self, repo: str, *changes: Any) -> None:
        """Refs of a mirror moved."""
        await self.dispatch.announce(Repo.parse(repo), changes, "push", None)

    def look(self) -> None:
        """See whether what a test waits for has come."""
        for each in list(self._awaited):
            if each[0]():
                self._awaited.remove(each)
                # Not from within: what the test does next must not run inside of what it waited for.
                self.reactor.callLater(0, each[1].callback, None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something to have happened; it is looked at after each occurrence and each ``look``."""
        if condition():
            return
        come: Deferred[None] = Deferred()
        self._awaited.append((condition, come))
        await come.addTimeout(PATIENCE, self.reactor)

    async def quiet(self) -> None:
        """Wait until what is under way has gone as far as it goes without time passing."""
        for _ in range(12):  # more hops through the journal than any handling makes
            await self.journal.pending()
            await self.journal.announced("")

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, and wait for what comes of it."""
        self.clock.advance(seconds)
        await self.quiet()

    def outcomes(self, name: str, subscriber: str | None = None) -> list[Occurrence]:
        """Return the occurrences of this name, of one subscriber or of all."""
        return [each for each in self.seen if each.name == name and subscriber in (None, each.subscriber)]

    async def receipt(self, taken: DeliveryResult) -> Receipt:
        """Return the journal's receipt of a delivery."""
        found = await self.journal.receipt(EventId(taken.id))
        assert found is not None
        return found

    async def states(self, taken: DeliveryResult) -> dict[str, tuple[str, int, str | None]]:
        """State, attempts and error (without its place) of one delivery, by subscriber key."""
        return {
            each.subscriber: (each.state, each.attempts, without_place(each.error))
            for each in (await self.receipt(taken)).handlings
        }


Open = Callable[..., Harness]
"""The fixture ``harness``: opens one with these arguments."""


@pytest_twisted.async_yield_fixture
async def harness(tmp_path: Path) -> AsyncIterator[Open]:
    """Open harnesses over one state directory; those that a test leaves open are closed afterwards."""
    opened: list[Harness] = []

    def open_one(**arguments: Any) -> Harness:
        opened.append(Harness(tmp_path, **arguments))
        return opened[-1]

    yield open_one
    for each in opened:
        if each.journal._opening is not None:
            await each.close()


def noting(seen: list[str]) -> Callable[[Any], None]:
    """A handler that notes the deliveries it is given."""

    @on("*")
    def handle(event: Any) -> None:
        seen.append(event.delivery)

    return handle


class ByHand:
    """A handler whose runs end when the test says so."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.running: dict[str, Deferred[None]] = {}

    @on("*")
    def handle(self, event: Any) -> Deferred[None]:
        self.started.append(event.delivery)
        self.running[event.delivery] = Deferred()
        return self.running[event.delivery]

    def end(self, delivery: str) -> None:
        self.running.pop(delivery).callback(None)


class UnorderedByHand(ByHand):
    """The same, without order."""

    @on("*", ordered=False)
    def handle(self, event: Any) -> Deferred[None]:
        return super().handle(event)


def failing(fault: Exception) -> Callable[[Any], None]:
    @on("*")
    def handle(event: object) -> None:
        raise fault

    return handle
