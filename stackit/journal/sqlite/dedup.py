"""How a body is recognised that was here before: by its digest.

Digests are random, so each one that goes into a large index has a page of it written anew. Those of the newest events
are kept in memory instead, from where the journal's own rows bring them back after a start; every 2,048 events they go
into the index together, in order: many to a page.
"""

from __future__ import annotations

from collections.abc import Sequence

from stackit.journal.sqlite import rows
from stackit.journal.sqlite.schema import Connection

_START = 8
"""Bytes of a digest that the index has; the whole of it is compared then."""
_TOGETHER = 2048

_FRESH = "SELECT digest, id FROM events WHERE id > ? AND digest IS NOT NULL ORDER BY id DESC"
_SEEN = "SELECT digest FROM events WHERE id IN (SELECT event_id FROM digests WHERE start IN ({}))"
_FIRST = """
    SELECT delivery FROM events
    WHERE id IN (SELECT event_id FROM digests WHERE start = ? UNION ALL SELECT ?) AND digest = ? ORDER BY id LIMIT 1
"""
_SETTLE = f"""
    INSERT OR IGNORE INTO digests (start, event_id)
    SELECT substr(digest, 1, {_START}), id FROM events WHERE id > ? AND id <= ? AND digest IS NOT NULL ORDER BY 1, 2
"""  # noqa: S608 - a constant
_FORGET = f"""
    DELETE FROM digests
    WHERE start = (SELECT substr(digest, 1, {_START}) FROM events WHERE id = ?1) AND event_id = ?1
"""  # noqa: S608 - as above


def seen(connection: Connection, digests: Sequence[bytes]) -> set[bytes]:
    """Those of the digests that the journal has, and perhaps others that begin like them."""
    fresh = _fresh(connection)
    found = {each for each in digests if each in fresh}
    starts = [each[:_START] for each in digests]
    found.update(digest for (digest,) in connection.execute(rows.marked(_SEEN, len(starts)), starts))
    return found


def first(connection: Connection, digest: bytes) -> str | None:
    """The delivery under which a body with this digest came first."""
    where = (digest[:_START], _fresh(connection).get(digest), digest)
    found = connection.execute(_FIRST, where).fetchone()
    return found[0] if found else None


def add(connection: Connection, events: Sequence[tuple[int, bytes]]) -> None:
    """Recognise bodies from now on, by the ids of their events, which are new, and their digests."""
    fresh = _fresh(connection)
    for event_id, digest in events:
        fresh.setdefault(digest, event_id)


def came(connection: Connection, event_ids: Sequence[int]) -> None:
    """These events are new, and follow each other: if they make enough, their digests are put in order."""
    before, after = _settled(event_ids[0] - 1), _settled(event_ids[-1])
    if after > before:
        connection.execute(_SETTLE, (before, after))
        connection.fresh = None


def enter(connection: Connection, event_id: int) -> None:
    """Recognise the body of an event that may be an old one, of which the index is complete otherwise."""
    connection.execute(_SETTLE, (event_id - 1, event_id))


def forget(connection: Connection, event_id: int) -> None:
    """Recognise the body of an event no more; the event is still there."""
    connection.execute(_FORGET, (event_id,))
    connection.fresh = None


def _fresh(connection: Connection) -> dict[bytes, int]:
    """The digests of the newest events, and the first event of each."""
    if connection.fresh is None:
        (newest,) = connection.execute("SELECT MAX(id) FROM events").fetchone()
        connection.fresh = dict(connection.execute(_FRESH, (_settled(newest or 0),)))
    return connection.fresh


def _settled(event_id: int) -> int:
    """Up to which event the index is complete, where this is the newest one."""
    return event_id // _TOGETHER * _TOGETHER
