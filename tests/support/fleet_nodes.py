"""Nodes of a fleet in one process, each with its own thread and connection, on a real PostgreSQL."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from postgres_journals import patient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from stackit import Repo
from stackit.fleet.clock import FleetClock
from stackit.fleet.fleet import Fleet
from stackit.fleet.placement import place
from stackit.fleet.questions import Candidate
from stackit.journal import DueHandling, Shard, StoredEvent
from stackit.journal.postgres.clock import Reading
from stackit.journal.postgres.connection import Server
from stackit.journal.postgres.opening import prepare
from stackit.journal.postgres.ownership import Ownership, row_of
from stackit.journal.postgres.schema import VERSION

SHARDS = 16
PATIENCE = 60.0
WIDGET = Repo("octo", "widget")
_QUESTIONS = 3
"""Questions of a look, one after the other: what there is to see, to whom shards are given, and which are taken."""
ALL = ("receive", "handle", "mirror")


class Work:
    """A listener that notes what it is told, with the seconds of the reactor. ``busy`` are shards that take long.

    ``gains`` have the shards of which work may begin from then on.
    """

    def __init__(self, reactor: Any, ownership: Ownership) -> None:
        self.gains: list[tuple[float, Collection[Shard]]] = []
        self.losses: list[tuple[float, Collection[Shard]]] = []
        self.busy: dict[Shard, Deferred[None]] = {}
        self.drained: list[Shard] = []
        self._reactor = reactor
        self._ownership = ownership

    def recorded(self, works: Sequence[tuple[DueHandling, StoredEvent]]) -> None:
        raise AssertionError(f"membership records nothing: {works}")

    def gained(self) -> None:
        self.gains.append((self._reactor.seconds(), set(self._ownership.working())))

    def lost(self, shards: Collection[Shard]) -> None:
        self.losses.append((self._reactor.seconds(), tuple(shards)))

    async def drain(self, shards: Collection[Shard]) -> None:
        for shard in shards:
            if shard in self.busy:
                await self.busy[shard]
            self.drained.append(shard)


class Member:
    """One node: its ``fleet``, its ``work``, and the lines that it told.

    Its wall clock is so many seconds ``ahead``. Its machine ``slept`` so many: its timers stood still meanwhile.
    """

    def __init__(self, nodes: Nodes, name: str, server: Server, **settings: Any) -> None:
        self.name = name
        self.lines: list[str] = []
        self.ownership = Ownership(0, nodes.shards)
        self.work = Work(nodes.reactor, self.ownership)
        self.changes = 0
        self.reconnections = 0
        self.entered_with: list[int] = []  # so many shards it had each time that it entered
        self.ahead = 0.0
        self.slept = 0.0
        values = {"roles": ALL, "rehome_after": 600.0, "copies": 1, **settings}
        candidate = Candidate(
            name=name,
            address=f"https://{name}.example:8081",
            version="1",
            schema=VERSION,
            roles=values["roles"],
            lease=server.lease,
        )
        seconds = nodes.reactor.seconds()
        self.clock = FleetClock(
            Reading(seconds, time.time(), seconds),
            seconds=lambda: nodes.reactor.seconds() + self.slept,
            wall_clock=lambda: time.time() + self.ahead,
            notice=self.lines.append,
        )
        self.fleet = Fleet(
            server,
            candidate,
            self.ownership,
            clock=self.clock,
            reactor=nodes.reactor,
            rehome_after=values["rehome_after"],
            copies=values["copies"],
            notice=self.lines.append,
            entered=self._note_entered,
            reconnected=self._note_reconnected,
        )
        self.fleet.listen(self.work)
        self.fleet.when_changed(self._count)

    def _note_entered(self) -> None:
        self.entered_with.append(len(self.ownership.epochs))

    def _note_reconnected(self) -> None:
        self.reconnections += 1

    def _count(self) -> None:
        self.changes += 1

    def owns(self, space: str) -> set[int]:
        """The numbers of the shards of a space of which this node may begin work."""
        working = self.ownership.working()
        return {number for letter, number in map(row_of, working) if letter == space}

    async def look(self) -> None:
        """Have it look at the fleet, and return when it has done what follows from that."""
        for _ in range(2 * _QUESTIONS):  # one may be under way already, which shows what was before
            self.fleet.look_now()
            await self.fleet.ask(lambda _: None)  # it answers one after the other

    async def stop(self) -> None:
        """End it as a stop does: what it has is given away first."""
        await self.fleet.leave()
        await self.fleet.stopService()


class Nodes:
    """A database with the tables of a fleet, and its nodes by name."""

    def __init__(self, reactor: Any, conninfo: str, *, shards: int = SHARDS) -> None:
        self.reactor = reactor
        self.conninfo = conninfo
        self.shards = shards
        self.members: list[Member] = []
        prepare(patient(conninfo), shards)

    def start(self, name: str, *, lease: float = 60.0, conninfo: str | None = None, **settings: Any) -> Member:
        """Start a node. The lease is long: it ends in no test, unless that is what the test is about."""
        member = Member(self, name, Server(conninfo or self.conninfo, lease), **settings)
        self.members.append(member)
        member.fleet.startService()
        return member

    async def divided(self, *names: str, **settings: Any) -> list[Member]:
        """Start nodes, and wait until the work is divided among them."""
        members = [self.start(name, **settings) for name in names]
        await self.until(lambda: self.is_divided(*members))
        return members

    async def close(self) -> None:
        for member in self.members:
            await member.fleet.stopService()

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows that a statement gives, on a connection of its own."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds: it may be long on a busy machine."""
        deadline = self.reactor.seconds() + PATIENCE
        while not condition():
            lines = {member.name: member.lines[-3:] for member in self.members}
            assert self.reactor.seconds() < deadline, f"it did not come to that: {self.owners()} {lines}"
            await self.sleep(0.01)

    async def sleep(self, seconds: float) -> None:
        await deferLater(self.reactor, seconds)

    def owners(self) -> Counter[tuple[str, str | None]]:
        """The number of shards of each space and node, as the database has it."""
        return Counter(
            self.rows(
                "SELECT space::text, n.name FROM shards LEFT JOIN nodes n ON incarnation = owner AND state <> 'dead'"
            )
        )

    def is_divided(self, *members: Member) -> bool:
        """Return whether each of these nodes has the shards that it keeps while nobody joins or goes, and knows it."""
        placed = place([member.name for member in members], self.shards)
        for member in members:
            part = {number for number, name in placed.items() if name == member.name}
            if member.ownership.leaving or member.owns("e") != part or member.owns("m") != part:
                return False
        return sum(member.fleet.leads() for member in members) == 1


async def ended(waiting: Deferred[Any]) -> None:
    """Cancel what waits."""
    waiting.cancel()
    with suppress(CancelledError):
        await waiting
