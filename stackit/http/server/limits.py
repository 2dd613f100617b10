"""All connections at once: who has to go when there are too many, or when they hold too much."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from typing import Protocol

MOST_CONNECTIONS = 4096
MOST_ADMIN_CONNECTIONS = 256
_DESCRIPTORS_WANTED = 16384
_OTHER_DESCRIPTORS = 64


class Peer(Protocol):
    """A connection, as the limiter sees it: the ``client_network`` it belongs to, ``held`` bytes of body in memory."""

    client_network: str
    held: int

    def evict(self) -> None:
        """Give up the request that has not arrived whole, and call ``ConnectionLimiter.leave``."""


class ConnectionLimiter:
    """Connections, and the bytes of bodies that they hold.

    ``waiting`` are those whose request has not arrived whole; only they are ever sent away.
    When there are too many, the party with the most of them loses the one that waits
    longest; when bodies are too large in sum, the party that holds the most loses its largest.
    So whoever sends many slow or large requests gets in their own way, not in that of others.
    """

    __slots__ = (
        "_held",
        "_here",
        "_memory",
        "_most",
        "_waiting",
        "held",
    )

    def __init__(self, *, connections: int, memory: int) -> None:
        self._most = connections
        self._memory = memory
        self._here: set[Peer] = set()
        self._waiting: dict[str, dict[Peer, None]] = {}  # by party, the one that waits longest first
        self._held: dict[str, int] = {}
        self.held = 0

    def __len__(self) -> int:
        return len(self._here)

    def __iter__(self) -> Iterator[Peer]:
        return iter(tuple(self._here))

    def enter(self, peer: Peer) -> bool:
        """Let a new connection in; False where all others are busy with whole requests."""
        while len(self._here) >= self._most:
            if not self._waiting:
                return False
            # Looking at every party is slow only while a crowd of parties fills the house.
            crowded = max(self._waiting.values(), key=len)
            next(iter(crowded)).evict()
        self._here.add(peer)
        self.wait(peer)
        return True

    def leave(self, peer: Peer) -> None:
        """The connection is gone, or is only lingering. Calling it again does nothing."""
        self._here.discard(peer)
        self.release(peer)
        self.arrived(peer)

    def wait(self, peer: Peer) -> None:
        """From now on a request is being waited for."""
        waiting = self._waiting.get(peer.client_network)
        if waiting is None:
            self._waiting[peer.client_network] = {peer: None}
        else:
            waiting.pop(peer, None)
            waiting[peer] = None

    def arrived(self, peer: Peer) -> None:
        """The request has arrived whole."""
        waiting = self._waiting.get(peer.client_network)
        if waiting is not None:
            waiting.pop(peer, None)
            if not waiting:
                del self._waiting[peer.client_network]

    def hold(self, peer: Peer, size: int) -> None:
        """``size`` more bytes of body are in memory. May evict, also ``peer`` itself."""
        peer.held += size
        self.held += size
        self._held[peer.client_network] = self._held.get(peer.client_network, 0) + size
        while self.held > self._memory:
            greedy = self._greediest()
            if greedy is None:
                break  # what is held belongs to whole requests, and goes with their answers
            greedy.evict()

    def _greediest(self) -> Peer | None:
        """Who has to go for the sake of memory: None where nobody who waits holds any."""
        for each in sorted(self._waiting, key=lambda each: self._held.get(each, 0), reverse=True):
            largest = max(self._waiting[each], key=lambda peer: peer.held)
            if largest.held:
                return largest
        return None

    def release(self, peer: Peer) -> None:
        """The body of ``peer`` is no longer in memory."""
        self.held -= peer.held
        left = self._held.get(peer.client_network, 0) - peer.held
        if left > 0:
            self._held[peer.client_network] = left
        else:
            self._held.pop(peer.client_network, None)
        peer.held = 0


def room_for_connections() -> int:
    """How many connections the public side can have; asks the system for more descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = _DESCRIPTORS_WANTED if hard == unlimited else min(hard, _DESCRIPTORS_WANTED)
    if soft != unlimited and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return MOST_CONNECTIONS if soft == unlimited else room_in(soft)


def room_in(descriptors: int) -> int:
    """How many connections the public side can have where the process can have so many descriptors.

    As many again may be reading their last answer, the admin side has a quarter of that, and the rest is for files and
    children.
    """
    return max(16, min(MOST_CONNECTIONS, (descriptors - _OTHER_DESCRIPTORS) // 3))


def room_for_admin(public: int) -> int:
    """How many connections the admin side can have beside those of the public side."""
    return max(8, min(MOST_ADMIN_CONNECTIONS, public // 4))
