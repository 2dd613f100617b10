"""A load balancer without stickiness: each connection goes to another node in turn."""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint

from stackit.testing.relay import Relay


class RoundRobin(Relay):
    """Relays a free port of 127.0.0.1, each connection to the next of the ports there that it has been given."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor, 0)
        self._reactor = reactor
        self._ports: deque[int] = deque()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def balance(self, ports: list[int]) -> None:
        """Have new connections go to these ports from now on."""
        self._ports = deque(ports)

    def connect(self, end: Any) -> Deferred[Any]:
        self._target = TCP4ClientEndpoint(self._reactor, "127.0.0.1", self._ports[0])
        self._ports.rotate(-1)
        return super().connect(end)
