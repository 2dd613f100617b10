"""Retention: the events that are too old, and the oldest while the journal is too large, in small steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from stackit.journal.postgres.arrays import Bytes, Int8s
from stackit.journal.postgres.commit import Commit
from stackit.journal.postgres.schema import EVENT_IDS

_MOST_EVENTS = 500
"""Events that one step deletes."""
_PER_EVENT = 1024
"""Bytes that an event takes besides its body, with its outcomes and its places in the indexes, roughly."""

# A node whose clock is ahead, by a year perhaps, must not have all that the fleet keeps go.
_NOW = "SELECT least(%b::float8, extract(epoch FROM clock_timestamp())::float8)"
# Ids are in the order of receipt, so both searches end soon. An event that is yet to come is of a receiver whose clock
# was ahead: it is no sign that what comes after it is young.
_FIRST_YOUNG = "SELECT id FROM events WHERE received_at BETWEEN %b AND %b ORDER BY id LIMIT 1"
_LAST_OLD = "SELECT id FROM events WHERE id < %b AND received_at < %b ORDER BY id DESC LIMIT 1"
_OLD = """
    SELECT e.id, e.size FROM events AS e
    WHERE e.id > %b AND e.id <= %b AND (e.received_at < %b OR e.received_at > %b)
        AND NOT EXISTS (SELECT 1 FROM work AS w WHERE w.id BETWEEN e.id * 4096 AND e.id * 4096 + 4095)
    ORDER BY e.id LIMIT %b FOR UPDATE OF e SKIP LOCKED
"""
# Asked again under the lock: a replay may have had the event, and its handlings are seen only from here on.
_DELETE = """
    DELETE FROM events AS e WHERE e.id = ANY (%b::int8[])
        AND NOT EXISTS (SELECT 1 FROM work AS w WHERE w.id BETWEEN e.id * 4096 AND e.id * 4096 + 4095)
    RETURNING e.id, e.digest, e.bundle
"""
_DELETE_OUTCOMES = """
    DELETE FROM outcomes AS o USING unnest(%b::int8[]) AS g (id)
    WHERE o.id BETWEEN g.id * 4096 AND g.id * 4096 + 4095
"""
_DELETE_DIGESTS = """
    DELETE FROM digests AS d USING unnest(%b::bytea[], %b::int8[]) AS g (digest, id)
    WHERE d.digest = g.digest AND d.event = g.id RETURNING d.digest
"""
_HEIRS = """
    WITH heirs AS (
        UPDATE events SET echo = false WHERE id IN (
            SELECT min(e.id) FROM unnest(%b::bytea[]) AS g (digest) JOIN events AS e ON e.digest = g.digest AND e.echo
            GROUP BY g.digest)
        RETURNING digest, id
    )
    INSERT INTO digests (digest, event) SELECT digest, id FROM heirs ORDER BY digest ON CONFLICT DO NOTHING
"""
_DELETE_BUNDLES = """
    DELETE FROM bundles AS b WHERE b.id = ANY (%b::int8[])
        AND NOT EXISTS (SELECT 1 FROM events AS e WHERE e.id BETWEEN b.first AND b.last AND e.bundle = b.id)
    RETURNING octet_length(b.bodies)
"""
_BODIES = "SELECT coalesce(sum(octet_length(bodies)), 0) FROM bundles"
_EVENTS = "SELECT count(*) FROM events"


class Retention:
    """What goes, and when: steps until one finds nothing, which is a round. Used in the thread of the upkeep alone.

    A search for old events goes through their ids; it begins anew behind a step that was not full.
    """

    def __init__(self) -> None:
        self._excess: int | None = None  # bytes beyond what may be kept; None: to be counted, as a round begins
        self._last: int | None = None  # the last old event before the first young one, when the search began
        self._after = 0  # up to here all old events are gone, or have work

    def step(self, commit: Commit, *, now: float, keep_for: float, keep_bytes: int) -> int:
        """Delete a few events with all that belongs to them, but none with a pending handling; return their number.

        ``now`` is in seconds since the epoch, ``keep_for`` in seconds.
        """
        if self._excess is None:
            self._excess = used_bytes(commit) - keep_bytes
        ((now,),) = commit.connection.execute(_NOW, (float(now),), binary=True).fetchall()
        since = now - keep_for
        if self._last is None:
            self._last = _last_old(commit, since, now)
        chosen = _old(commit, self._after, self._last, since, now)
        if not chosen and self._excess > 0:
            chosen = _oldest(_old(commit, self._after, EVENT_IDS, math.inf, now), self._excess)
        removed, freed = _remove(commit, [event for event, _ in chosen])
        self._excess = self._excess - freed if removed else None
        # Where there is more, the next step goes on behind it: the rows that went are still in the way of a search.
        if removed and len(chosen) == _MOST_EVENTS:
            self._after = chosen[-1][0]
        else:
            self._last, self._after = None, 0
        return removed


def used_bytes(commit: Commit) -> int:
    """Return the bytes that the events take, roughly: tables do not shrink, so their own sizes say nothing."""
    ((bodies,),) = commit.connection.execute(_BODIES).fetchall()
    ((events,),) = commit.connection.execute(_EVENTS).fetchall()
    return int(bodies) + _PER_EVENT * int(events)


def _last_old(commit: Commit, since: float, now: float) -> int:
    """Return the id of the last event that is older than that, of those before the first one that is not; 0 for none.

    What lies before it is as old, whatever its own time says.
    """
    execute = commit.connection.execute
    young = execute(_FIRST_YOUNG, (float(since), float(now)), binary=True).fetchone()
    old = execute(_LAST_OLD, (EVENT_IDS if young is None else young[0], float(since)), binary=True).fetchone()
    return 0 if old is None else int(old[0])


def _old(commit: Commit, after: int, last: int, since: float, now: float) -> list[tuple[int, int]]:
    values = (after, last, float(since), float(now), _MOST_EVENTS)
    return [(event, size) for event, size in commit.connection.execute(_OLD, values, binary=True).fetchall()]


def _oldest(events: Sequence[tuple[int, int]], excess: int) -> list[tuple[int, int]]:
    """Return the first of these events (ids and sizes), whose bytes would be enough if nothing were packed."""
    chosen = []
    for event, size in events:
        if excess <= 0:
            break
        chosen.append((event, size))
        excess -= size + _PER_EVENT
    return chosen


def _remove(commit: Commit, events: Sequence[int]) -> tuple[int, int]:
    """Delete events that are locked; return how many went, and the bytes that are free now, roughly."""
    if not events:
        return 0, 0
    execute = commit.connection.execute
    gone: Sequence[tuple[Any, ...]] = execute(_DELETE, (Int8s(sorted(events)),), binary=True).fetchall()
    ids = Int8s([event for event, _, _ in gone])
    execute(_DELETE_OUTCOMES, (ids,), binary=True)
    digests = execute(_DELETE_DIGESTS, (Bytes([digest for _, digest, _ in gone]), ids), binary=True).fetchall()
    execute(_HEIRS, (Bytes([digest for (digest,) in digests]),), binary=True)
    bundles = Int8s(sorted({bundle for _, _, bundle in gone if bundle is not None}))
    freed = execute(_DELETE_BUNDLES, (bundles,), binary=True).fetchall()
    return len(gone), _PER_EVENT * len(gone) + sum(size for (size,) in freed)
