"""All connections at once: which has to go when there are too many, or when they hold too much."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class LimitedConnection(Protocol):
    """A connection, as the limiter sees it: the network that it counts for, and its bytes of body in memory."""

    client_network: str
    held: int

    def evict(self) -> None:
        """Give up the request that has not arrived whole, and call ``ConnectionLimiter.leave``."""


class ConnectionLimiter:
    """Bounds the number of connections, and the bytes of bodies that they hold in memory.

    Only a connection that waits for a request, or for the rest of one, is ever evicted. When there are too many
    connections, the network with the most waiting ones loses the one that has waited longest. When bodies are too large
    in sum, the network that holds the most loses its largest. So a client that sends many slow or large requests delays
    itself, and not others.
    """

    __slots__ = ("_connections", "_held", "_most", "_waiting", "held", "memory")

    def __init__(self, *, connections: int, memory: int) -> None:
        """``memory`` is in bytes."""
        self._most = connections
        self.memory = memory
        self._connections: set[LimitedConnection] = set()
        self._waiting: dict[str, dict[LimitedConnection, None]] = {}  # by network, the longest waiting first
        self._held: dict[str, int] = {}  # by network
        self.held = 0

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[LimitedConnection]:
        return iter(tuple(self._connections))

    def enter(self, connection: LimitedConnection) -> bool:
        """Let a new connection in; False where all others are busy with whole requests."""
        while len(self._connections) >= self._most:
            if not self._waiting:
                return False
            # Looking at every network is slow only while connections of very many fill all places.
            most = max(self._waiting.values(), key=len)
            next(iter(most)).evict()
        self._connections.add(connection)
        self.wait(connection)
        return True

    def leave(self, connection: LimitedConnection) -> None:
        """Forget a connection that is gone, or only drains. Calling it again does nothing."""
        self._connections.discard(connection)
        self.release(connection)
        self.arrived(connection)

    def wait(self, connection: LimitedConnection) -> None:
        """Note that the connection waits for a request from now on."""
        waiting = self._waiting.get(connection.client_network)
        if waiting is None:
            self._waiting[connection.client_network] = {connection: None}
        else:
            waiting.pop(connection, None)
            waiting[connection] = None

    def arrived(self, connection: LimitedConnection) -> None:
        """Note that the request of a connection has arrived whole."""
        waiting = self._waiting.get(connection.client_network)
        if waiting is not None:
            waiting.pop(connection, None)
            if not waiting:
                del self._waiting[connection.client_network]

    def hold(self, connection: LimitedConnection, size: int) -> None:
        """Note that ``size`` more bytes of body are in memory. May evict, also ``connection`` itself."""
        connection.held += size
        self.held += size
        self._held[connection.client_network] = self._held.get(connection.client_network, 0) + size
        while self.held > self.memory:
            largest = self._largest_waiting()
            if largest is None:
                break  # what is held belongs to whole requests, and goes with their responses
            largest.evict()

    def _largest_waiting(self) -> LimitedConnection | None:
        """Return the waiting connection to evict for memory: None where no waiting one holds any."""
        for network in sorted(self._waiting, key=lambda network: self._held.get(network, 0), reverse=True):
            largest = max(self._waiting[network], key=lambda connection: connection.held)
            if largest.held:
                return largest
        return None

    def release(self, connection: LimitedConnection) -> None:
        """Note that the body of the connection's request is no longer in memory."""
        self.held -= connection.held
        left = self._held.get(connection.client_network, 0) - connection.held
        if left > 0:
            self._held[connection.client_network] = left
        else:
            self._held.pop(connection.client_network, None)
        connection.held = 0
