"""Retention: the events that are too old, and the oldest while the journal is too large."""

from __future__ import annotations

import sqlite3

# A step holds up the commits behind it, for some 10 ms at these bounds.
_MAX_EVENTS = 100
_MAX_BYTES = 8 * 2**20
_PER_EVENT = 512  # bytes that an event takes besides its body, roughly

_NO_LONGER_OPEN = """
    SELECT id,
        (SELECT LENGTH(body) FROM bodies WHERE event_id = e.id), (SELECT LENGTH(bodies) FROM bundles WHERE first = e.id)
    FROM events AS e
    WHERE id < ? AND NOT EXISTS (
        SELECT 1 FROM handlings AS h WHERE h.event_id = e.id AND h.state <> 'done' AND h.state = 'pending')
    ORDER BY id LIMIT ?
"""


def outdated(connection: sqlite3.Connection, before: float, keep_bytes: int) -> list[int]:
    """Return a few events to delete: those received before ``before``, and the oldest beyond ``keep_bytes``.

    None of them has a pending handling.
    """
    # In the order of ids, which is that of receipt, so the walk ends at the first young one.
    young = connection.execute("SELECT id FROM events WHERE received_at >= ? ORDER BY id LIMIT 1", (before,)).fetchone()
    excess = used_bytes(connection) - keep_bytes
    first_young = young[0] if young else 2**63 - 1
    last = 2**63 - 1 if excess > 0 else first_young
    chosen = []
    size = 0
    for event_id, body, bundle in connection.execute(_NO_LONGER_OPEN, (last, _MAX_EVENTS)):
        if size > _MAX_BYTES or (event_id >= first_young and size >= excess):
            break
        chosen.append(event_id)
        size += (body or bundle or 0) + _PER_EVENT
    return chosen


def used_bytes(connection: sqlite3.Connection) -> int:
    """Return the bytes that the content takes in the journal's file, without pages that are free."""
    pages, free, page_size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * page_size)
