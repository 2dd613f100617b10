"""The state of the database that the nodes share, as one of them sees it every few seconds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from twisted.internet.defer import Deferred

from stackit.api.errors import JournalError
from stackit.api.periodic import Periodic
from stackit.api.reactor import Timers
from stackit.fleet.answers import DatabaseState
from stackit.fleet.session import Link
from stackit.text.units import counted

INTERVAL = 5.0
"""Seconds between two looks."""

_T = TypeVar("_T")
Ask = Callable[[Callable[[Link], _T]], Awaitable[_T]]

# The columns of a standby are empty for who may not see them. Its lag is None when it has nothing to catch up with.
_STATE = """
SELECT current_setting('server_version'), pg_database_size(current_database()), count(s.pid),
    count(s.state), count(*) FILTER (WHERE s.sync_state IN ('sync', 'quorum')),
    extract(epoch FROM max(s.replay_lag) FILTER (WHERE s.sync_state IN ('sync', 'quorum')))::float8
FROM (SELECT 1) AS one LEFT JOIN pg_stat_replication s ON true
"""


def look(link: Link) -> DatabaseState:
    """Return the state of now. Runs in the thread of the session."""
    ((server, size, connected, seen, waited_for, lag),) = link.rows(_STATE)
    return DatabaseState(server, size, None if connected > seen else waited_for, lag)


class DatabaseWatch(Periodic):
    """Looks at the database every few seconds. ``state`` is what it saw last; None before, and while it is away."""

    def __init__(self, ask: Ask[DatabaseState], *, required: int, reactor: Timers) -> None:
        """``ask`` has a function run with the connection of the session, ``required`` are the standbys to be there."""
        super().__init__(reactor, INTERVAL, self.look)
        self.state: DatabaseState | None = None
        self._ask = ask
        self._required = required

    def look_again(self) -> None:
        """Look now, if nothing is known: the database may answer again."""
        if self.running and self.state is None:
            Deferred.fromCoroutine(self.look())

    async def look(self) -> None:
        """Look now."""
        try:
            self.state = await self._ask(look)
        except JournalError:
            self.state = None  # membership and the journal say so

    def problems(self) -> list[str]:
        """Return what is wrong with the standbys, a line each."""
        if self.state is None or not self._required:
            return []
        if self.state.standbys is None:
            return [
                "the user of the database may not see whether there is a standby: GRANT pg_monitor to it, or leave "
                "fleet.replicas_required out"
            ]
        if self.state.standbys < self._required:
            return [
                f"the database waits for {counted(self.state.standbys, 'synchronous standby')}, and "
                f"fleet.replicas_required is "
                f"{self._required}: what it takes now may be lost with it"
            ]
        return []
