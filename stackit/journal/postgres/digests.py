"""The bodies that came before, by their digests: the first event of each, and the echoes of it.

In a transaction of one delivery; that of many new ones enters their digests by itself.
"""

from __future__ import annotations

from stackit.journal.postgres.connection import Connection

_ENTER = "INSERT INTO digests (digest, event) VALUES (%b, %b) ON CONFLICT DO NOTHING"
_OWNER = """
    SELECT d.event, e.delivery FROM digests AS d LEFT JOIN events AS e ON e.id = d.event WHERE d.digest = %b
    FOR UPDATE OF d
"""
_TAKE = "UPDATE digests SET event = %b WHERE digest = %b"
_SET_ECHO = "UPDATE events SET echo = %b WHERE id = %b"
_NEXT_ECHO = "SELECT min(id) FROM events WHERE digest = %b AND echo AND id <> %b"
_DELETE = "DELETE FROM digests WHERE digest = %b AND event = %b"
_FIRST = "SELECT d.event, e.delivery FROM digests AS d LEFT JOIN events AS e ON e.id = d.event WHERE d.digest = %b"


def first_delivery(connection: Connection, digest: bytes) -> str | None:
    """Return the delivery id under which a body with this digest came first; None for a new one."""
    found = connection.execute(_FIRST, (digest,), binary=True).fetchone()
    if found is None:
        return None
    event, delivery = found
    if delivery is None:  # entered for an event that turned out to be known
        connection.execute(_DELETE, (digest, event), binary=True)
        return None
    return str(delivery)


def enter(connection: Connection, digest: bytes, event: int) -> str | None:
    """Recognise the body of an event; return the delivery id of the event that had it first, None where this one did.

    The event itself may not be there yet. Whoever enters the same digest waits for the end of this transaction.
    """
    while True:
        connection.execute(_ENTER, (digest, event), binary=True)
        found = connection.execute(_OWNER, (digest,), binary=True).fetchone()
        if found is not None:  # else it was pruned in between
            break
    owner, delivery = found
    if owner == event:
        return None
    if delivery is not None and owner < event:
        return str(delivery)
    connection.execute(_TAKE, (event, digest), binary=True)
    connection.execute(_SET_ECHO, (True, owner), binary=True)
    return None


def forget(connection: Connection, digest: bytes, event: int) -> None:
    """Stop recognising the body of an event by its digest, and have the next event with it be the first."""
    found = connection.execute(_OWNER, (digest,), binary=True).fetchone()
    if found is None or found[0] != event:
        return
    ((heir,),) = connection.execute(_NEXT_ECHO, (digest, event), binary=True).fetchall()
    if heir is None:
        connection.execute(_DELETE, (digest, event), binary=True)
    else:
        connection.execute(_TAKE, (heir, digest), binary=True)
        connection.execute(_SET_ECHO, (False, heir), binary=True)
