"""The database's clock, read: what it showed, and between which moments of a clock of this process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import msgspec
import psycopg

from stackit.journal.postgres.connection import Server, unreachable

CLOCK = "extract(epoch FROM clock_timestamp())::float8"
"""The expression for it, in seconds since the epoch."""


class Reading(msgspec.Struct, frozen=True):
    """What the database's clock showed, in seconds since the epoch.

    ``before`` and ``after`` are when it was asked and when it had answered, by a clock of this process that nobody
    sets.
    """

    before: float
    shown: float
    after: float


def read_clock(server: Server, seconds: Callable[[], float]) -> Reading:
    """Read it, by a connection of its own; ``seconds`` is this process's. Blocks. Raises JournalError."""
    with closing(server.connect("start", by_indexes=False)) as connection:
        before = seconds()
        try:
            ((shown,),) = connection.execute(f"SELECT {CLOCK}", prepare=False).fetchall()
        except psycopg.Error as error:
            raise unreachable(error) from None
        return Reading(before, shown, seconds())
