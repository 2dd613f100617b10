"""The writes besides deliveries: each function is one operation inside a commit of the writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain

from stackit.api.events import RefChange
from stackit.api.refs import ref_bytes
from stackit.journal.packing import packed
from stackit.journal.records import (
    REFS_EVENT,
    SMALL_ANNOUNCEMENT,
    AppendResult,
    DueHandling,
    HandlingId,
    encode_changes,
    repo_key,
)
from stackit.journal.sqlite import bodies, digests, rows
from stackit.journal.sqlite.deliveries import MAKE_DUE, insert_events, make_due, storable
from stackit.journal.sqlite.ids import event_id
from stackit.journal.sqlite.schema import Connection

_FINISH = """
    WITH ended (id, at) AS (VALUES {})
    UPDATE handlings SET state = 'done', attempts = attempts + 1, error = NULL, traceback = NULL, next_at = NULL,
        finished_at = ended.at
    FROM ended WHERE handlings.id = ended.id
"""
_FAIL = """
    UPDATE handlings SET state = ?, attempts = attempts + 1, error = ?, traceback = ?, next_at = ?, finished_at = ?
    WHERE id = ?
"""
_GIVE_UP = """
    UPDATE handlings SET state = 'dead', attempts = attempts + 1, error = ?, traceback = NULL, next_at = NULL,
        finished_at = ?
    WHERE event_id = ? AND subscriber = ? AND state = 'pending'
"""
_SET_REF = """
    INSERT INTO refs (repo_key, ref, oid) VALUES (?, ?, ?) ON CONFLICT (repo_key, ref) DO UPDATE SET oid = excluded.oid
"""


def announce(
    connection: Connection,
    repo: str,
    changes: Sequence[RefChange],
    cause: str,
    delivery: str | None,
    received_at: float,
    subscribers: Sequence[str],
) -> AppendResult:
    """Update the announced refs of a repository, and insert the event of it."""
    key = repo_key(repo)
    gone = [change.ref for change in changes if change.kind == "deleted"]
    connection.executemany("DELETE FROM refs WHERE repo_key = ? AND ref = ?", ((key, ref_bytes(ref)) for ref in gone))
    there = ((key, ref_bytes(change.ref), change.new) for change in changes if change.kind != "deleted")
    connection.executemany(_SET_REF, there)
    body = encode_changes(changes, cause)
    event = ("refs", "", delivery, REFS_EVENT, None, repo, key, None, len(body), "", "webhook", received_at, None)
    (row,) = insert_events(connection, [event])
    if subscribers or len(body) <= SMALL_ANNOUNCEMENT:
        bodies.store(connection, [(row, body)])
    due = [(row, subscriber, key, received_at, len(body)) for subscriber in subscribers]
    return AppendResult(event_id(row), "new", tuple(make_due(connection, due)))


def finish(connection: sqlite3.Connection, ended: Sequence[tuple[int, float]]) -> list[None]:
    """Mark handlings (id and time) as done."""
    for piece in rows.pieces(ended):
        connection.execute(rows.marked(_FINISH, len(piece), "(?,?)"), list(chain.from_iterable(piece)))
    return [None] * len(ended)


def fail(
    connection: sqlite3.Connection,
    handling: int,
    at: float,
    error: str,
    next_at: float | None,
    traceback: str | None,
) -> None:
    """Record a failed attempt: the handling is pending until ``next_at``, or dead."""
    dead = next_at is None
    kept = packed(storable(traceback).encode()) if traceback else None
    values = ("dead" if dead else "pending", storable(error), kept, next_at, at if dead else None, handling)
    connection.execute(_FAIL, values)


def give_up(connection: sqlite3.Connection, row: int, subscriber: str, at: float, error: str) -> bool:
    """Make a pending handling dead; return False where it is not pending."""
    return connection.execute(_GIVE_UP, (storable(error), at, row, subscriber)).rowcount > 0


def move_retries(connection: sqlite3.Connection, step: float, now: float, longest: float) -> None:
    """Move retries by ``step`` seconds, or to now where they would be more than ``longest`` seconds away."""
    connection.execute(
        "UPDATE handlings SET next_at = CASE WHEN attempts = 0 OR next_at + ?1 > ?2 + ?3 THEN ?2 ELSE next_at + ?1 END"
        " WHERE state = 'pending' AND (next_at > ?2 OR (attempts > 0 AND ?1 <> 0))",
        (step, now, longest),
    )


def visible(connection: sqlite3.Connection, row: int, at: float) -> bool:
    """Record the time at which a pushed commit became visible; return False where one was recorded before."""
    changed = connection.execute("UPDATE events SET visible_at = ? WHERE id = ? AND visible_at IS NULL", (at, row))
    return changed.rowcount > 0


def replay(
    connection: sqlite3.Connection, row: int, subscribers: Sequence[str] | None, now: float
) -> list[DueHandling]:
    """Make handlings of an event pending from the first attempt on.

    Raises LookupError for an unknown event, ValueError for one that never had a handling, and so has no body.
    """
    event = connection.execute("SELECT repo_key, size FROM events WHERE id = ?", (row,)).fetchone()
    if event is None:
        raise LookupError("there is no such delivery")
    key, size = event
    there = dict(connection.execute("SELECT subscriber, id FROM handlings WHERE event_id = ? ORDER BY id", (row,)))
    if not there:
        raise ValueError(f"the payload of delivery {row} is not kept: nothing handled it when it came")
    handlings = []
    for subscriber in there if subscribers is None else dict.fromkeys(subscribers):
        if subscriber in there:
            connection.execute(MAKE_DUE, (0, None, now, there[subscriber]))
            handlings.append(DueHandling(HandlingId(there[subscriber]), event_id(row), subscriber, key, 0, size))
        else:
            handlings += make_due(connection, [(row, subscriber, key, now, size)])
    return handlings


def replay_dead(
    connection: sqlite3.Connection, subscriber: str, now: float, after: int, limit: int
) -> list[DueHandling]:
    """Make dead handlings of a subscriber pending: the oldest of those behind the event ``after``."""
    dead = connection.execute(
        "SELECT h.id, h.event_id, h.repo_key, e.size FROM handlings AS h CROSS JOIN events AS e ON e.id = h.event_id"
        " WHERE h.state <> 'done' AND h.state = 'dead' AND h.event_id > ? AND h.subscriber = ?"
        " ORDER BY h.event_id LIMIT ?",
        (after, subscriber, limit),
    ).fetchall()
    connection.executemany(MAKE_DUE, [(0, None, now, handling) for handling, _, _, _ in dead])
    return [
        DueHandling(HandlingId(handling), event_id(row), subscriber, key, 0, size) for handling, row, key, size in dead
    ]


def remove(connection: Connection, events: Sequence[int]) -> int:
    """Delete events with all that belongs to them, but none with a pending handling; return their number."""
    removed = 0
    for row in events:
        pending = "SELECT 1 FROM handlings WHERE event_id = ? AND state = 'pending'"
        if connection.execute(pending, (row,)).fetchone() is None:
            connection.execute("DELETE FROM handlings WHERE event_id = ?", (row,))
            connection.execute("DELETE FROM bodies WHERE event_id = ?", (row,))
            digests.forget(connection, row)
            removed += connection.execute("DELETE FROM events WHERE id = ?", (row,)).rowcount
    bodies.delete_bundles(connection, events)
    return removed
