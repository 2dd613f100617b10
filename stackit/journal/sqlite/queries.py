"""The questions: each function reads from the reader's connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from stackit.api.refs import ref_text
from stackit.journal.packing import unpacked
from stackit.journal.records import (
    REFS_EVENT,
    STATES,
    DueHandling,
    HandlingRow,
    Page,
    Receipt,
    StoredEvent,
    repo_key,
    state_of,
)
from stackit.journal.sqlite import bodies
from stackit.journal.sqlite import rows as many
from stackit.journal.sqlite.deliveries import storable
from stackit.journal.sqlite.ids import event_id

# The "+" keeps SQLite from walking by time, which would have to sort all that is due.
_DUE = """
    SELECT h.id, h.event_id, h.subscriber, h.repo_key, h.attempts, e.size
    FROM handlings AS h CROSS JOIN events AS e ON e.id = h.event_id
    WHERE h.state = 'pending' AND h.subscriber = ? AND h.repo_key = ? AND +h.next_at <= ?
    ORDER BY h.id LIMIT ?
"""
_DUE_GROUPS = """
    SELECT repo_key FROM handlings WHERE state = 'pending' AND subscriber = ? AND +next_at <= ?
    GROUP BY repo_key ORDER BY MIN(id)
"""
_NEXT_DUE = "SELECT MIN(next_at) FROM handlings WHERE state = 'pending' AND subscriber = ? AND next_at > ?"
_COLUMNS = "e.id, e.kind, e.hook, e.delivery, e.event, e.action, e.repo, e.received_at, e.signer, e.via"
_LOAD = f"SELECT {_COLUMNS}, {bodies.STORED} FROM events AS e WHERE e.id = ?"  # noqa: S608 - constants
_RECORDED = "SELECT delivery FROM events WHERE kind = 'delivery' AND delivery IN ({}) AND hook = ?"
_RECEIPT = f"SELECT {_COLUMNS}, e.size, e.replay_of, e.visible_at"

# Two ways to walk the events from the newest on: all of them, or those that are open somewhere.
_ALL = " FROM events AS e WHERE e.id < ? {} ORDER BY e.id DESC LIMIT ?"
_OPEN = """
    FROM handlings AS h INDEXED BY handlings_open CROSS JOIN events AS e ON e.id = h.event_id
    WHERE h.state <> 'done' AND h.event_id < ? {} GROUP BY h.event_id ORDER BY h.event_id DESC LIMIT ?
"""
_DONE_OR_UNHANDLED = """(
    EXISTS (SELECT 1 FROM handlings AS h WHERE h.event_id = e.id AND h.state = 'done')
    OR NOT EXISTS (SELECT 1 FROM handlings AS h WHERE h.event_id = e.id))"""
_HANDLED_BY = "EXISTS (SELECT 1 FROM handlings AS h WHERE h.event_id = e.id AND h.subscriber = ?)"
_DONE_BY = "EXISTS (SELECT 1 FROM handlings AS h WHERE h.event_id = e.id AND h.subscriber = ? AND h.state = 'done')"
_HANDLINGS = """
    SELECT subscriber, state, attempts, error, next_at, finished_at
    FROM handlings WHERE event_id = ? ORDER BY id
"""
_TRACEBACKS = "SELECT subscriber, traceback FROM handlings WHERE event_id = ? AND traceback IS NOT NULL ORDER BY id"
_MAX_ID = 2**63 - 1
_MAX_PAGE = 500


def due(connection: sqlite3.Connection, subscriber: str, now: float, group: str, limit: int) -> list[DueHandling]:
    """Return the handlings of a subscriber in a group that are due, oldest first."""
    return [
        DueHandling(handling, event_id(row), key, repo, attempts, size)
        for handling, row, key, repo, attempts, size in connection.execute(_DUE, (subscriber, group, now, limit))
    ]


def due_groups(connection: sqlite3.Connection, subscriber: str, now: float) -> list[str]:
    """Return the groups in which a subscriber has a handling due, that of the oldest first."""
    return [group for (group,) in connection.execute(_DUE_GROUPS, (subscriber, now))]


def next_due(connection: sqlite3.Connection, subscriber: str, after: float) -> float | None:
    """Return the earliest time, later than ``after``, at which a pending handling of a subscriber is due."""
    earliest: float | None = connection.execute(_NEXT_DUE, (subscriber, after)).fetchone()[0]
    return earliest


def pending(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the number of pending handlings of each subscriber."""
    return dict(
        connection.execute("SELECT subscriber, COUNT(*) FROM handlings WHERE state = 'pending' GROUP BY subscriber")
    )


def look(connection: sqlite3.Connection) -> None:
    """Read a little, to see whether that is possible."""
    connection.execute("SELECT id FROM events LIMIT 1").fetchone()


def dead(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the number of dead handlings of each subscriber."""
    return dict(
        connection.execute(
            "SELECT subscriber, COUNT(*) FROM handlings INDEXED BY handlings_open"
            " WHERE state <> 'done' AND state = 'dead' GROUP BY subscriber"
        )
    )


def subscribers(connection: sqlite3.Connection) -> set[str]:
    """Return every subscriber that has a handling."""
    return {subscriber for (subscriber,) in connection.execute("SELECT DISTINCT subscriber FROM handlings")}


def announced(connection: sqlite3.Connection, key: str) -> dict[str, str]:
    """Return the refs of a repository as they were last announced, and their object ids."""
    rows = connection.execute("SELECT ref, oid FROM refs WHERE repo_key = ?", (key,))
    return {ref_text(ref): oid for ref, oid in rows}


def documents(connection: sqlite3.Connection, collection: str) -> dict[str, bytes]:
    """Return the documents of a collection by their keys, in the order of the keys."""
    rows = connection.execute("SELECT key, document FROM documents WHERE collection = ? ORDER BY key", (collection,))
    return dict(rows.fetchall())


def recorded(connection: sqlite3.Connection, hook: str, deliveries: Sequence[str]) -> set[str]:
    """Return those of these delivery ids that are recorded for a hook."""
    wanted = {storable(each): each for each in deliveries}
    found: set[str] = set()
    for piece in many.pieces(list(wanted)):
        statement = many.marked(_RECORDED, len(piece))
        found.update(wanted[each] for (each,) in connection.execute(statement, [*piece, storable(hook)]))
    return found


def load(connection: sqlite3.Connection, row: int) -> StoredEvent | None:
    """Return an event with its body. Raises Permanent for a damaged one."""
    found = connection.execute(_LOAD, (row,)).fetchone()
    if found is None:
        return None
    number, kind, hook, delivery, event, action, repo, received_at, signer, via, alone, bundle = found
    return StoredEvent(
        id=event_id(number),
        kind=kind,
        hook=hook,
        delivery=delivery,
        event=event,
        action=action,
        repo=repo,
        received_at=received_at,
        signer=signer,
        via=via,
        body=bodies.load(number, alone, bundle),
    )


def receipt(connection: sqlite3.Connection, row: int) -> Receipt | None:
    """Return an event, and its outcome at every subscriber."""
    found = connection.execute(f"{_RECEIPT} FROM events AS e WHERE e.id = ?", (row,)).fetchone()
    return None if found is None else _receipt(connection, found)


def tracebacks(connection: sqlite3.Connection, row: int) -> dict[str, str]:
    """Return the tracebacks of an event, by subscriber. One that is damaged is left out."""
    found = {}
    for subscriber, stored in connection.execute(_TRACEBACKS, (row,)):
        with suppress(RuntimeError):
            found[subscriber] = unpacked(stored).decode("utf-8", "replace")
    return found


def listing(
    connection: sqlite3.Connection,
    *,
    delivery: str | None,
    event: str | None,
    repo: str | None,
    state: str | None,
    subscriber: str | None,
    since: float | None,
    until: float | None,
    cursor: str | None,
    limit: int,
) -> Page:
    """Return one page, newest first.

    ``state`` is that of any handling, or with ``subscriber`` of this subscriber's. Raises ValueError for an unknown
    cursor or state.
    """
    limit = min(max(limit, 1), _MAX_PAGE)
    before = _MAX_ID if cursor is None else parse_cursor(cursor)
    wanted = [*_of_event(delivery, event, repo), *_of_time(since, until), *_of_state(state, subscriber)]
    conditions = " ".join(f"AND {condition}" for condition, _ in wanted)
    values = [value for _, value in wanted if value is not None]
    walk = _OPEN if state in ("pending", "dead") else _ALL
    rows = connection.execute(_RECEIPT + walk.format(conditions), (before, *values, limit + 1)).fetchall()
    receipts = [_receipt(connection, row) for row in rows[:limit]]
    return Page(receipts, receipts[-1].id if len(rows) > limit else None)


def parse_cursor(cursor: str) -> int:
    """Return the row below which a page begins. Raises ValueError for a cursor that no page gave out."""
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < len(str(_MAX_ID))):
        raise ValueError("not a cursor: use the value of next, as the previous page gave it")
    return int(cursor)


def _of_event(delivery: str | None, event: str | None, repo: str | None) -> Iterator[tuple[str, str | None]]:
    """Yield the conditions on the event itself: constant text, and a value to bind."""
    if event == REFS_EVENT:
        yield "e.kind = 'refs'", None
    else:
        yield "e.kind = 'delivery'", None
    if event is not None:
        yield "e.event = ?", event
    if delivery is not None:
        yield "e.delivery = ?", delivery
    if repo is not None:
        yield "e.repo_key = ?", repo_key(repo)


def _of_time(since: float | None, until: float | None) -> Iterator[tuple[str, float | None]]:
    """Yield the conditions on the time at which the event was received."""
    if since is not None:
        yield "e.received_at >= ?", since
    if until is not None:
        yield "e.received_at < ?", until


def _of_state(state: str | None, subscriber: str | None) -> Iterator[tuple[str, str | None]]:
    """Yield the conditions on the handlings of the event."""
    if state is not None and state not in STATES:
        raise ValueError(f"not a state: {state[:40]!r} (expected one of {', '.join(STATES)})")
    if state in ("pending", "dead"):
        yield "h.state = ?", state
        if subscriber is not None:
            yield "h.subscriber = ?", subscriber
    elif subscriber is not None:
        yield (_HANDLED_BY if state is None else _DONE_BY), subscriber
    elif state == "done":
        yield _DONE_OR_UNHANDLED, None


def _receipt(connection: sqlite3.Connection, row: tuple[Any, ...]) -> Receipt:
    number, kind, hook, delivery, event, action, repo, received_at, signer, via, size, replay_of, visible_at = row
    handlings = tuple(
        HandlingRow(
            subscriber=subscriber,
            state=state,
            attempts=attempts,
            error=error,
            next_at=next_at,
            finished_at=finished_at,
        )
        for subscriber, state, attempts, error, next_at, finished_at in connection.execute(_HANDLINGS, (number,))
    )
    return Receipt(
        id=event_id(number),
        kind=kind,
        hook=hook,
        delivery=delivery,
        event=event,
        action=action,
        repo=repo,
        received_at=received_at,
        signer=signer,
        via=via,
        size=size,
        replay_of=replay_of,
        visible_at=visible_at,
        state=state_of(handlings),
        handlings=handlings,
    )
