"""The numbers that stand for subscribers in ids of handlings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stackit.api.errors import JournalError
from stackit.journal.postgres.arrays import Texts
from stackit.journal.postgres.connection import Connection

MOST = 4096
"""One more than the largest number of a subscriber: the id of a handling's row is ``event * MOST + number``.

In statements, ``id >> 12`` is its event, and ``id & 4095`` the number of its subscriber.
"""

_KNOWN = "SELECT key, no FROM subscribers"
_ADD = """
    INSERT INTO subscribers (no, key)
    SELECT coalesce((SELECT max(no) FROM subscribers), 0) + row_number() OVER (ORDER BY n), key
    FROM unnest(%b::text[]) WITH ORDINALITY AS g (key, n) WHERE key NOT IN (SELECT key FROM subscribers)
"""


class Subscribers:
    """The numbers of subscribers, as far as they were read: they never change, and every thread may ask."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._keys: dict[int, str] = {}

    def numbers(self, connection: Connection, keys: Iterable[str]) -> Mapping[str, int]:
        """Return the numbers of all subscribers that are known; those of ``keys`` are among them.

        One that is new gets one, in a transaction of its own. Raises JournalError where there are too many.
        """
        missing = [key for key in dict.fromkeys(keys) if key not in self._numbers]
        if missing:
            self._read(connection)
            missing = [key for key in missing if key not in self._numbers]
        if missing:
            with connection.transaction():
                connection.execute("LOCK TABLE subscribers IN EXCLUSIVE MODE")
                if len(self._numbers) + len(missing) >= MOST:
                    raise JournalError(
                        f"the fleet has had {MOST - 1} subscribers, and no number is left for another: stop all nodes, "
                        "and copy the journal to SQLite and from there into a new database (stackit journal copy), "
                        "which keeps those with events"
                    )
                connection.execute(_ADD, (Texts(missing),), binary=True)
            self._read(connection)
        return self._numbers

    def key(self, connection: Connection, number: int) -> str:
        """Return the subscriber of a number that was found in the database."""
        if number not in self._keys:
            self._read(connection)
        return self._keys[number]

    def _read(self, connection: Connection) -> None:
        rows = connection.execute(_KNOWN).fetchall()
        self._keys = {number: key for key, number in rows}
        self._numbers = dict(rows)
