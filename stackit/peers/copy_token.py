"""The token of a mirror that is fetched from another node: a ticket, made anew for each use."""

from __future__ import annotations

from stackit.api.repos import AccessProblem
from stackit.peers.tickets import Tickets


class CopyToken:
    """A ``TokenSource`` whose tokens are always there: for a mirror (its repository's key) at an incarnation of a node.

    Two are equal that are for the same: one for an earlier incarnation is refused by the node since it started again.
    """

    problem: AccessProblem | None = None

    def __init__(self, tickets: Tickets, repo_key: str, incarnation: int) -> None:
        self._tickets = tickets
        self._at = repo_key, incarnation

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CopyToken) and (self._tickets, self._at) == (other._tickets, other._at)

    def __hash__(self) -> int:
        return hash(self._at)

    def current(self) -> str:
        """Return a new one."""
        return self._tickets.make(*self._at)

    async def ready(self) -> None:
        """Wait for nothing."""

    def accepted(self, token: str) -> None:
        """Keep no note of it."""

    async def rejected(self, token: str, status: int) -> bool:  # noqa: ARG002 - the protocol's
        """Return False: another ticket would be refused, too."""
        return False
