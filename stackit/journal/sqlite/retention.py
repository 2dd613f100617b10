"""Retention: the events that are too old, and the oldest while the journal is too large."""

from __future__ import annotations

import sqlite3

# A step holds up the commits behind it, for some 10 ms at these bounds.
_MAX_EVENTS = 100
_MAX_BYTES = 8 * 2**20
_PER_EVENT = 512  # bytes that an event takes besides its body, roughly

_MAX_ID = 2**63 - 1
# Ids are in the order of receipt, so both searches end soon. An event that is yet to come was received while the clock
# was ahead: it is no sign that what comes after it is young.
_FIRST_YOUNG = "SELECT id FROM events WHERE received_at BETWEEN ? AND ? ORDER BY id LIMIT 1"
_LAST_OLD = "SELECT id FROM events WHERE id < ? AND received_at < ? ORDER BY id DESC LIMIT 1"
_NO_LONGER_OPEN = """
    SELECT id,
        (SELECT LENGTH(body) FROM bodies WHERE event_id = e.id), (SELECT LENGTH(bodies) FROM bundles WHERE first = e.id)
    FROM events AS e
    WHERE id <= ? AND NOT EXISTS (
        SELECT 1 FROM handlings AS h WHERE h.event_id = e.id AND h.state <> 'done' AND h.state = 'pending')
    ORDER BY id LIMIT ?
"""


def outdated(connection: sqlite3.Connection, now: float, keep_for: float, keep_bytes: int) -> list[int]:
    """Return a few events to delete: those received ``keep_for`` seconds ago, and the oldest beyond ``keep_bytes``.

    None of them has a pending handling.
    """
    last_old = _last_old(connection, now - keep_for, now)
    excess = used_bytes(connection) - keep_bytes
    last = _MAX_ID if excess > 0 else last_old
    chosen = []
    size = 0
    for event_id, body, bundle in connection.execute(_NO_LONGER_OPEN, (last, _MAX_EVENTS)):
        if size > _MAX_BYTES or (event_id > last_old and size >= excess):
            break
        chosen.append(event_id)
        size += (body or bundle or 0) + _PER_EVENT
    return chosen


def _last_old(connection: sqlite3.Connection, since: float, now: float) -> int:
    """Return the id of the last event that is older than that, of those before the first one that is not; 0 for none.

    What lies before it is as old, whatever its own time says.
    """
    young = connection.execute(_FIRST_YOUNG, (since, now)).fetchone()
    old = connection.execute(_LAST_OLD, (_MAX_ID if young is None else young[0], since)).fetchone()
    return 0 if old is None else int(old[0])


def used_bytes(connection: sqlite3.Connection) -> int:
    """Return the bytes that the content takes in the journal's file, without pages that are free."""
    pages, free, page_size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * page_size)
