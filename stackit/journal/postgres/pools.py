"""Whether a connection is a session of its own: behind a pool by transactions, it is another one each time."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from stackit.api.errors import JournalError
from stackit.journal.postgres.connection import Connection
from stackit.journal.postgres.schema import APPLICATION

_PID = "SELECT pg_backend_pid()"


def check_session(one: Connection, connect: Callable[[], Connection], *, patience: float = 5.0) -> None:
    """Check that a connection stays with its server process, and that another one reaches it by NOTIFY.

    ``connect`` makes another connection, which is closed again; a notice has to come within ``patience`` (seconds).
    Blocks. Raises JournalError, or psycopg.Error.
    """
    channel = f"{APPLICATION}_start_{secrets.token_hex(8)}"
    one.execute(f"LISTEN {channel}", prepare=False)
    other = connect()
    try:
        # A pool that takes turns has another server for the second question, any other the same for both connections.
        first, others, last = _pid(one), {_pid(other), _pid(other)}, _pid(one)
        if first != last or len(others) > 1 or first in others:
            raise JournalError(
                "the database of the fleet is behind a pool that shares a connection between transactions: connect to "
                "the server itself, or set pool_mode = session for it"
            )
        other.execute("SELECT pg_notify(%s, '')", (channel,), prepare=False)
        if not any(notify.channel == channel for notify in one.notifies(timeout=patience, stop_after=1)):
            raise JournalError(
                "the database of the fleet does not pass on what its clients tell each other (LISTEN and NOTIFY): "
                "connect to a PostgreSQL itself, or through a pool in session mode"
            )
        one.execute(f"UNLISTEN {channel}", prepare=False)
    finally:
        other.close()


def _pid(connection: Connection) -> int:
    ((pid,),) = connection.execute(_PID, prepare=False).fetchall()
    return int(pid)
