"""A look at the other nodes from time to time: whether they can be asked is known before somebody needs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, succeed

from stackit.api.admin import AdminRequest, Response, Route
from stackit.api.nodes import Node, Nodes
from stackit.api.reactor import Reactor, looping_call

PATH = "{prefix}/nodes/here"
EVERY = 10.0
"""Seconds between two looks."""
ENOUGH = 3
"""Looks without an answer after which it is told."""


class Here(msgspec.Struct, frozen=True):
    """The node that answers."""

    node: str


def here_route(nodes: Nodes) -> Route:
    """Return the route that a node asks of another one, to see whether that answers."""

    def here(_: AdminRequest) -> Response:
        return Response(body=Here(nodes.here))

    return Route("GET", PATH, here, query=(), summary="Tell which node of a fleet this is.", returns=Here)


class PeerWatch(Service):
    """Asks each node that is at work, and tells which do not answer again and again. ``ask`` is that of ``Peers``."""

    def __init__(
        self,
        ask: Callable[[Node, AdminRequest], Awaitable[Response]],
        *,
        nodes: Nodes,
        reactor: Reactor,
        prefix: str,
        every: float = EVERY,
    ) -> None:
        self._ask = ask
        self._nodes = nodes
        self._request = AdminRequest(
            method="GET",
            path=PATH.format(prefix=prefix),
            args={},
            query={},
            body=b"",
            by=f"node {nodes.here}",
            role="viewer",
        )
        self._every = every
        self._loop = looping_call(reactor, self._look)
        self._looking: Deferred[None] = succeed(None)
        self._failed: Mapping[str, tuple[int, str]] = {}

    def problems(self) -> list[str]:
        """Return which nodes are at work and cannot be asked, one line each."""
        there = {each.name for each in self._nodes.nodes() if each.state != "away"}
        failed = self._failed.items()
        return [line for name, (times, line) in failed if name in there and times >= ENOUGH]

    def startService(self) -> None:
        Service.startService(self)
        self._loop.start(self._every, now=False)

    def stopService(self) -> Deferred[None]:
        """Look no more. What is under way ends when the connections to other nodes are closed."""
        Service.stopService(self)
        if self._loop.running:
            self._loop.stop()
        return self._looking

    def _look(self) -> Deferred[None]:
        self._looking = Deferred.fromCoroutine(self._look_at_all())
        return self._looking

    async def _look_at_all(self) -> None:
        others = [each for each in self._nodes.nodes() if each.state != "away" and each.name != self._nodes.here]
        asking = [Deferred.fromCoroutine(self._look_at(each)) for each in others]
        lines = await gatherResults(asking)
        self._failed = {
            node.name: (self._failed.get(node.name, (0, ""))[0] + 1, line)
            for node, line in zip(others, lines, strict=True)
            if line is not None
        }

    async def _look_at(self, node: Node) -> str | None:
        """Return what is wrong with a node; None where it answers."""
        response = await self._ask(node, self._request)
        if response.status == 200:
            return None
        body = response.body
        if isinstance(body, dict):
            return str(body.get("error"))
        return f"node {node.name} at {node.address} answers with status {response.status}; see stackit fleet"
