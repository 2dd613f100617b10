"""The nodes of a fleet: which processes there are, and which of them has the mirror of a repository."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, Protocol

import msgspec

from stackit.api.events import Repo

# ruff: noqa: ARG002 - where there is one node, nothing depends on what is asked for

NodeState = Literal["up", "draining", "leaving", "away"]


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a fleet, as it was last seen.

    ``incarnation`` is another number after each start, ``address`` the URL of its admin side, ``roles`` what it does
    (``receive``, ``handle``, ``mirror``), ``since`` its start in seconds since the epoch. ``state`` is ``up``,
    ``draining`` (an operator takes its work away), ``leaving`` (it stops) or ``away`` (it is not there: ``away_for``
    tells for how many seconds).
    """

    name: str
    incarnation: int = 0
    address: str = ""
    version: str = ""
    roles: tuple[str, ...] = ()
    state: NodeState = "up"
    since: float = 0.0
    away_for: float = 0.0


class Nodes(Protocol):
    """The fleet, as plugins see it. Each method is called in the reactor's thread, and answers at once.

    A mirror has one node as its home: only there may it be fetched, and its changes be announced. What is asked for
    a repository counts until ``when_changed`` calls.
    """

    @property
    def here(self) -> str:
        """Return the name of this node."""

    def nodes(self) -> Sequence[Node]:
        """Return the nodes by name, also those that are away."""

    def home(self, repo: Repo) -> Node | None:
        """Return the node that has the mirror of a repository, or had it and is away; None where none is chosen yet."""

    def is_here(self, repo: Repo) -> bool:
        """Return whether this node has the mirror of a repository, and so does its work."""

    def copies(self, repo: Repo) -> Sequence[Node]:
        """Return the nodes that keep a further copy of a mirror, by ``copies`` of the configuration."""

    def leads(self) -> bool:
        """Return whether this node is the one that does what is done at one node only."""

    def leader(self) -> Node | None:
        """Return the node that does what is done at one node only; None while there is none."""

    def when_changed(self, callback: Callable[[], object]) -> None:
        """Have a function called whenever an answer of the other methods may have changed."""

    def shard(self, repo: Repo) -> int:
        """Return the number of the shard in which a repository is: its mirrors move together."""

    def arriving(self) -> Mapping[int, Node]:
        """Return the shards that shall have their home here, with the node that has them now, or had them."""

    def when_arriving(self, prepare: Callable[[Mapping[int, Node]], object]) -> None:
        """Have a function called with ``arriving()`` whenever that changes, which gets the mirrors in them ready.

        A shard moves here only when ``prepared`` was called for it. Without such a function it moves at once.
        """

    def prepared(self, shards: Collection[int]) -> None:
        """Tell that copies of all mirrors of these arriving shards are here: their node may hand them over."""

    async def round(self, name: str, interval: float) -> bool:
        """Begin what is done once in an interval (seconds) in the whole fleet.

        Returns False where any node began it less than the interval ago, and while the database is away.
        """


class Alone:
    """The one node that there is without a fleet: everything is here, at the node whose name is ""."""

    here = ""
    _node = Node(name="")

    def nodes(self) -> Sequence[Node]:
        return (self._node,)

    def home(self, repo: Repo) -> Node | None:
        return self._node

    def is_here(self, repo: Repo) -> bool:
        return True

    def copies(self, repo: Repo) -> Sequence[Node]:
        return ()

    def leads(self) -> bool:
        return True

    def leader(self) -> Node | None:
        return self._node

    def when_changed(self, callback: Callable[[], object]) -> None:
        """Never call it: nothing changes."""

    def shard(self, repo: Repo) -> int:
        return 0

    def arriving(self) -> Mapping[int, Node]:
        return MappingProxyType({})

    def when_arriving(self, prepare: Callable[[Mapping[int, Node]], object]) -> None:
        """Never call it: nothing moves."""

    def prepared(self, shards: Collection[int]) -> None:
        """Do nothing: nothing moves."""

    async def round(self, name: str, interval: float) -> bool:
        """Return True: whoever asks has a timer, and nobody else asks."""
        return True
