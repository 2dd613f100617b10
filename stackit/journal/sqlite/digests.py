"""The bodies that came before, by their digests; ``deliveries`` decides what is a duplicate.

Digests are random, so each one that goes into a large index has a page of it written anew. Those of the newest events
are kept in memory instead, and read back from the events after a start. Every 2,048 events they go into the index
together, in order: many to a page.
"""

from __future__ import annotations

from collections.abc import Sequence

from stackit.journal.sqlite import rows
from stackit.journal.sqlite.schema import Connection

_START = 8
"""Bytes of a digest in the index; the whole of it is compared with that of the event."""

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
    """Return the digests that the journal has, and perhaps some that only begin like one that it has."""
    fresh = _recent(connection)
    found = {each for each in digests if each in fresh}
    starts = [each[:_START] for each in digests]
    found.update(digest for (digest,) in connection.execute(rows.marked(_SEEN, len(starts)), starts))
    return found


def first_delivery(connection: Connection, digest: bytes) -> str | None:
    """Return the delivery id under which a body with this digest came first; None for a new one."""
    where = (digest[:_START], _recent(connection).get(digest), digest)
    found = connection.execute(_FIRST, where).fetchone()
    return found[0] if found else None


def add(connection: Connection, events: Sequence[tuple[int, bytes]]) -> None:
    """Recognise the bodies of new events (rows and digests) from now on."""
    fresh = _recent(connection)
    for event_id, digest in events:
        fresh.setdefault(digest, event_id)


def index_when_complete(connection: Connection, event_ids: Sequence[int]) -> None:
    """Move digests from memory into the index, where these new events (rows that follow each other) complete a set."""
    before, after = _settled(connection, event_ids[0] - 1), _settled(connection, event_ids[-1])
    if after > before:
        connection.execute(_SETTLE, (before, after))
        connection.recent_digests = None


def index_one(connection: Connection, event_id: int) -> None:
    """Recognise the body of one event, which may be older than those in memory."""
    connection.execute(_SETTLE, (event_id - 1, event_id))


def forget(connection: Connection, event_id: int) -> None:
    """Stop recognising the body of an event, which is still there."""
    connection.execute(_FORGET, (event_id,))
    connection.recent_digests = None


def _recent(connection: Connection) -> dict[bytes, int]:
    """Return the digests in memory, each with the first event that has it."""
    if connection.recent_digests is None:
        (newest,) = connection.execute("SELECT MAX(id) FROM events").fetchone()
        connection.recent_digests = dict(connection.execute(_FRESH, (_settled(connection, newest or 0),)))
    return connection.recent_digests


def _settled(connection: Connection, event_id: int) -> int:
    """Return the last event up to which the index is complete, if this is the newest event."""
    together = connection.sizes.digests
    return event_id // together * together
