"""A fleet under test: nodes as real processes on one PostgreSQL, which can be killed, frozen and cut off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.error import ConnectError
from twisted.internet.threads import deferToThread
from twisted.web.client import RequestTransmissionFailed, ResponseFailed

from stackit.api.reactor import Reactor, sleep
from stackit.fleet.placement import place
from stackit.testing.deliveries import SignedDelivery, delivery
from stackit.testing.fleet_node import FleetNode
from stackit.testing.http_client import Answer, Client
from stackit.testing.process import PATIENCE, SECRET, StackitFailed
from stackit.testing.relay import Relay

GITHUB_WAITS = 10.0
"""Seconds that a sender waits for an answer."""

_OUT = 1.0
"""Seconds for which a node that did not take a delivery is asked last."""

_PAUSE = 0.05
_UNANSWERED = (ConnectError, RequestTransmissionFailed, ResponseFailed, CancelledError)
_ROLES = {"e": "handle", "m": "mirror"}
"""The role that a node needs for the shards of a space."""
_OWNERS = """
SELECT s.space::text, s.shard, n.name
FROM shards s LEFT JOIN nodes n ON n.incarnation = s.owner AND n.state = 'up' AND n.until > clock_timestamp()
"""

Result = TypeVar("Result")


class RunningFleet:
    """Some nodes on the database ``postgres``, each with ports and a state directory of its own.

    ``postgres`` is a conninfo as ``PostgresServer`` returns it; it may have several hosts, each with its port. The
    table ``[fleet]`` of all nodes is ``fleet``, and ``each`` has what differs, by the name of the node: ``{"c":
    {"roles": ["receive"]}}``. A node reaches a port of the database by its own ``way(reactor, port)``. The other
    arguments are those of ``RunningStackit``, for all. ``fleet["a"]`` is a node.
    """

    def __init__(
        self,
        reactor: Reactor,
        directory: Path,
        postgres: str,
        *,
        nodes: Sequence[str] = ("a", "b", "c"),
        fleet: Mapping[str, Any] | None = None,
        each: Mapping[str, Mapping[str, Any]] | None = None,
        way: Callable[[Reactor, int], Relay] = Relay,
        **settings: Any,
    ) -> None:
        self.nodes: dict[str, FleetNode] = {}
        self._reactor = reactor
        self._directory = directory
        self._postgres = postgres
        self._secret: str = settings.get("secret") or SECRET
        self._table = {"lease": "2s", **(fleet or {})}
        self._each = each or {}
        self._way = way
        self._settings = settings
        self._relays: list[Relay] = []
        self._client = Client(reactor, GITHUB_WAITS)
        self._turn = count()
        self._out: dict[str, float] = {}
        for name in nodes:
            self.add(name)

    def __getitem__(self, name: str) -> FleetNode:
        return self.nodes[name]

    # Their life

    def add(self, name: str, **settings: Any) -> FleetNode:
        """Return another node, which is to be started. ``settings`` replace those of the others."""
        parts = dict(part.split("=", 1) for part in self._postgres.split())
        relays = [self._way(self._reactor, int(port)) for port in parts["port"].split(",")]
        self._relays += relays
        parts["host"] = ",".join(relay.host for relay in relays)
        parts["port"] = ",".join(str(relay.port) for relay in relays)
        through = " ".join(f"{key}={value}" for key, value in parts.items())
        table = {**self._table, **self._each.get(name, {}), "postgres": through}
        chosen = {**self._settings, **settings}
        node = FleetNode(self._reactor, self._directory / name, name=name, relays=relays, fleet=table, **chosen)
        self.nodes[name] = node
        return node

    async def start(self) -> None:
        """Start all nodes at once, and wait until the work is divided among them. Raises StackitFailed."""
        await _all(node.start() for node in self.nodes.values())
        await self.settled()

    async def stop(self) -> None:
        """End all nodes, also those that are frozen or cut off. Raises StackitFailed where one does not end."""
        for node in self.nodes.values():
            node.heal()
            node.resume()
        try:
            await _all(node.stop() for node in self.nodes.values() if node.is_running)
        finally:
            await self._client.close()
            for relay in self._relays:
                await relay.close()

    async def settled(self, within: float = PATIENCE) -> None:
        """Wait until the work and the mirrors are divided among the nodes that run as they stay, and none moves."""

        async def is_settled() -> bool:
            owners = {(space, number): name for space, number, name in await self.query(_OWNERS)}
            leader = owners.pop(("l", 0))
            return leader is not None and owners == self._places(len(owners) // len(_ROLES))

        await self.until(is_settled, "the work to be divided among the nodes", within)

    # What they are asked

    async def deliver(
        self,
        event: str,
        payload: Mapping[str, Any] | bytes | None = None,
        *,
        action: str | None = None,
        guid: str | None = None,
        first: str | None = None,
    ) -> Answer:
        """Send a signed delivery as a load balancer does: to each node in turn, until one takes or refuses it.

        ``first`` is the node that is asked first; one that just took nothing is asked last. Raises StackitFailed where
        none answers in twice the time that GitHub has.
        """
        signed = delivery(event, payload, secret=self._secret, action=action, guid=guid)
        return await self.post(signed, first=first)

    async def post(self, signed: SignedDelivery, *, first: str | None = None) -> Answer:
        """Send a delivery as it is, likewise."""
        names = list(self.nodes)
        turn = names.index(first) if first is not None else next(self._turn) % len(names)
        deadline = self._reactor.seconds() + 2 * GITHUB_WAITS
        while self._reactor.seconds() < deadline:
            for name in sorted(names[turn:] + names[:turn], key=self._is_out):
                answer = await self._try(self.nodes[name], signed)
                if answer is not None:
                    return answer
                self._out[name] = self._reactor.seconds() + _OUT
            await sleep(self._reactor, _PAUSE)
        raise StackitFailed(f"no node took the delivery {signed.guid}:\n{self.log[-8000:]}")

    async def wait_for(self, guid: str, state: str = "done", **more: Any) -> dict[str, Any]:
        """Wait as ``RunningStackit.wait_for`` does, at any node that runs."""
        asked = next(node for node in self._running() if not node.is_frozen)
        return await asked.wait_for(guid, state, **more)

    async def until(self, found: Callable[[], Awaitable[Result | None]], what: str, within: float = PATIENCE) -> Result:
        """Ask again and again until the result is true, and return it. Raises StackitFailed after ``within``."""
        deadline = self._reactor.seconds() + within
        while not (result := await found()):
            if self._reactor.seconds() > deadline:
                raise StackitFailed(f"waited {within:g} s in vain for {what}:\n{self.log[-8000:]}")
            await sleep(self._reactor, _PAUSE)
        return result

    async def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the database, not through a relay, and return the rows."""
        return await deferToThread(_query, self._postgres, statement, values)

    @property
    def log(self) -> str:
        """The end of the log of each node."""
        return "\n".join(f"-- {node.name}\n{node.log[-2500:]}" for node in self.nodes.values())

    # Inside

    def _is_out(self, name: str) -> bool:
        return self._out.get(name, 0.0) > self._reactor.seconds()

    async def _try(self, node: FleetNode, signed: SignedDelivery) -> Answer | None:
        """Return a node's answer; None where another node is to be asked."""
        if not node.is_running:
            return None
        try:
            answer = await self._client.ask("POST", node.webhook_url, body=signed.body, headers=signed.headers)
        except _UNANSWERED:
            return None
        return None if answer.status == 404 or answer.status >= 500 else answer

    def _places(self, shards: int) -> dict[tuple[str, int], str | None]:
        """Return the node that should own each shard, None where no node that runs has the role for it."""
        places: dict[tuple[str, int], str | None] = {}
        for space, role in _ROLES.items():
            placed = place(sorted(node.name for node in self._running() if role in self._roles(node)), shards)
            places |= {(space, number): placed.get(number) for number in range(shards)}
        return places

    def _running(self) -> list[FleetNode]:
        return [node for node in self.nodes.values() if node.is_running]

    def _roles(self, node: FleetNode) -> Sequence[str]:
        table = {**self._table, **self._each.get(node.name, {})}
        roles: Sequence[str] = table.get("roles", ("receive", "handle", "mirror"))
        return roles


async def _all(coroutines: Any) -> None:
    """Wait for all, and raise the first failure only then: what one started must be known when the others fail."""
    waiting = [Deferred.fromCoroutine(each) for each in coroutines]
    results = gatherResults([each.addBoth(_kept) for each in waiting])
    for problem in await results:
        if problem is not None:
            raise problem


def _kept(result: Any) -> BaseException | None:
    return getattr(result, "value", None)


def _query(conninfo: str, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    import psycopg  # noqa: PLC0415 - only a fleet needs it

    with psycopg.connect(conninfo, autocommit=True) as connection:
        return connection.execute(statement.encode(), values or None).fetchall()
