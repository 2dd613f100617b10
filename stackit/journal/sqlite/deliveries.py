"""Appending deliveries: a batch in a handful of statements, and each delivery exactly once."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from stackit.api.errors import Permanent
from stackit.journal.records import AppendResult, DueHandling, EventId, HandlingId, NewDelivery, repo_key
from stackit.journal.sqlite import bodies, digests, rows
from stackit.journal.sqlite.ids import event_id
from stackit.journal.sqlite.schema import Connection

_EVENTS = """events (
    kind, hook, delivery, event, action, repo, repo_key, digest, size, signer, via, received_at, replay_of
)"""
MAKE_DUE = """
    UPDATE handlings SET state = 'pending', attempts = ?1, error = ?2, next_at = ?3, finished_at = NULL,
        traceback = CASE WHEN ?2 IS NULL THEN NULL ELSE traceback END
    WHERE id = ?4
"""

_HANDLINGS = "handlings (event_id, subscriber, repo_key, state, next_at)"
_SEEN_IDS = "SELECT delivery, hook FROM events WHERE kind = 'delivery' AND delivery IN ({})"
_SEEN_ID = "SELECT id, digest, size, via FROM events WHERE kind = 'delivery' AND delivery = ? AND hook = ? ORDER BY id"
_SEEN_BODY = f"SELECT {bodies.STORED} FROM events e WHERE e.id = ?"  # noqa: S608 - a constant
_SEEN_COPY = "SELECT id FROM events WHERE kind = 'delivery' AND delivery = ? AND digest = ? ORDER BY id LIMIT 1"
_COMPARED = 8
"""Events of one id whose bodies are compared, the latest ones. A sender can make any number of them: an earlier one is
known by its digest alone, which is another one under another secret.
"""
_CHANGE_EVENT = """
    UPDATE events SET event = ?, action = ?, repo = ?, repo_key = ?, digest = ?, size = ?, signer = ?, via = ?,
        replay_of = ?
    WHERE id = ?
"""


def append(connection: Connection, records: Sequence[NewDelivery]) -> list[AppendResult]:
    """Append deliveries in their order; for one that came before, return the handlings that are left to do."""
    ids, known = _seen(connection, records)
    appended: list[AppendResult] = []
    fresh: list[NewDelivery] = []
    for record in records:
        identity = _identity(record)
        if identity in ids or record.digest in known:
            appended += _append_new(connection, fresh)
            appended.append(_append_seen(connection, record))
            fresh = []
        else:
            fresh.append(record)
            ids.add(identity)
            known.add(record.digest)
    return appended + _append_new(connection, fresh)


def _seen(connection: Connection, records: Sequence[NewDelivery]) -> tuple[set[tuple[str, str]], set[bytes]]:
    """Return the ids (delivery and hook) and digests of these deliveries that the journal may have already."""
    ids: set[tuple[str, str]] = set()
    known: set[bytes] = set()
    for piece in rows.pieces(records):
        ids.update(connection.execute(rows.marked(_SEEN_IDS, len(piece)), [storable(each.delivery) for each in piece]))
        known |= digests.seen(connection, [each.digest for each in piece])
    return ids, known


def _append_new(connection: Connection, records: Sequence[NewDelivery]) -> list[AppendResult]:
    """Append deliveries with an id and a body that are both new."""
    if not records:
        return []
    events = []
    for each in records:
        delivery, hook = _identity(each)
        events.append(("delivery", hook, delivery, *_what(each), each.received_at, None))
    ids = insert_events(connection, events)
    digests.add(connection, [(ids[at], each.digest) for at, each in enumerate(records)])
    handlings = _add_handlings(connection, [(ids[at], each, each.subscribers) for at, each in enumerate(records)])
    return [AppendResult(each, "new", handlings.get(each, ())) for each in map(event_id, ids)]


def _append_seen(connection: Connection, record: NewDelivery) -> AppendResult:
    """Append a delivery whose id or body may have come before."""
    delivery, hook = _identity(record)
    of_that_id = connection.execute(_SEEN_ID, (delivery, hook)).fetchall()
    known = next((number for number, digest, *_ in of_that_id if digest == record.digest), None)
    if known is None:
        latest = of_that_id[-_COMPARED:]
        known = next((row[0] for row in latest if _is_same(connection, row, record)), None)
    first = digests.first_delivery(connection, record.digest)
    if first == delivery:
        # One event by two hooks (an organization's, and a repository's) that have one secret: no replay. Whoever has
        # seen a delivery could say another hook, though: where replays are refused, it is handled once.
        first = None
        if known is None and record.refuse_replay:
            known, *_ = connection.execute(_SEEN_COPY, (delivery, record.digest)).fetchone() or (None,)
    if known is not None:
        return _append_again(connection, known, record, first)
    event = ("delivery", hook, delivery, *_what(record), record.received_at, first)
    (row,) = insert_events(connection, [event])
    digests.add(connection, [(row, record.digest)])
    handlings = _add_handlings(connection, [(row, record, _wanted(record, first))])
    id_ = event_id(row)
    return AppendResult(id_, "new", handlings.get(id_, ()), first, reused=bool(of_that_id))


def _is_same(connection: Connection, row: tuple[int, bytes, int, str], record: NewDelivery) -> bool:
    """Return True for a delivery with the body of an event (a row of ``_SEEN_ID``), as far as that can be told.

    The digest is that of a signature: under another secret, the same body has another one. A body that the API gave
    is the same payload in other bytes.
    """
    number, digest, size, via = row
    if "api" in (via, record.via):
        return True
    if digest == record.digest or size != len(record.body):
        return digest == record.digest
    try:
        stored = bodies.load(number, *connection.execute(_SEEN_BODY, (number,)).fetchone())
    except Permanent:
        return False  # damaged, and this one is not
    return stored is None or stored == record.body


def _append_again(connection: Connection, row: int, record: NewDelivery, first: str | None) -> AppendResult:
    """Append a delivery that came before as this event. ``first`` is the other delivery id of its body, if any."""
    key, size, digest, replay_of = connection.execute(
        "SELECT repo_key, size, digest, replay_of FROM events WHERE id = ?", (row,)
    ).fetchone()
    if record.via == "api":
        return AppendResult(event_id(row), "duplicate", (), replay_of)
    handlings = connection.execute(
        "SELECT id, subscriber, state, attempts, error FROM handlings WHERE event_id = ? ORDER BY id", (row,)
    ).fetchall()
    if not handlings:
        if replay_of is None and digest != record.digest:
            replay_of = first
        subscribers = _wanted(record, replay_of)
        if not subscribers:
            return AppendResult(event_id(row), "duplicate", (), replay_of)
        # Nobody wanted it the first time, so its body was not kept. What is at hand is what will be handled, and
        # as what it comes now: the header that names the event is not signed, and may have been another one.
        digests.forget(connection, row)
        connection.execute(_CHANGE_EVENT, (*_what(record), replay_of, row))
        digests.index_one(connection, row)
        connection.execute("DELETE FROM bodies WHERE event_id = ?", (row,))
        added = _add_handlings(connection, [(row, record, subscribers)])
        return AppendResult(event_id(row), "again", added[event_id(row)], replay_of)
    reopened = []
    for handling, subscriber, state, attempts, error in handlings:
        if state == "done" or (state == "pending" and not attempts):
            continue  # done, or still to be tried for the first time: nothing failed that could be done again
        tried = 0 if state == "dead" else attempts
        connection.execute(MAKE_DUE, (tried, error, record.received_at, handling))
        reopened.append(DueHandling(handling, event_id(row), subscriber, key, tried, size))
    return AppendResult(event_id(row), "again" if reopened else "duplicate", tuple(reopened), replay_of)


def insert_events(connection: Connection, events: Sequence[Sequence[object]]) -> list[int]:
    """Insert rows of ``_EVENTS``, and return their ids."""
    ids = rows.insert(connection, _EVENTS, events)
    digests.index_when_complete(connection, ids)
    return ids


def _identity(record: NewDelivery) -> tuple[str, str]:
    """Return the delivery id and the hook, as they are stored."""
    delivery, hook = record.delivery, record.hook
    return (delivery, hook) if delivery.isascii() and hook.isascii() else (storable(delivery), storable(hook))


def _what(record: NewDelivery) -> tuple[object, ...]:
    """Return the values of a delivery in the order of ``_EVENTS`` and ``_CHANGE_EVENT``."""
    action = None if record.action is None else storable(record.action)
    repo = (record.repo, repo_key(record.repo))
    return storable(record.event), action, *repo, record.digest, len(record.body), storable(record.signer), record.via


def _wanted(record: NewDelivery, replay_of: str | None) -> tuple[str, ...]:
    """Return the subscribers of a delivery: none for a replay where replays are refused."""
    return () if record.refuse_replay and replay_of is not None else record.subscribers


def _add_handlings(
    connection: sqlite3.Connection, wanted: Sequence[tuple[int, NewDelivery, Sequence[str]]]
) -> dict[EventId, tuple[DueHandling, ...]]:
    """Store the bodies of events that have subscribers, insert their handlings, and return these by event."""
    bodies.store(connection, [(row, record.body) for row, record, subscribers in wanted if subscribers])
    due = [
        (row, subscriber, repo_key(record.repo), record.received_at, len(record.body))
        for row, record, subscribers in wanted
        for subscriber in subscribers
    ]
    handlings: dict[EventId, tuple[DueHandling, ...]] = {}
    for due_handling in make_due(connection, due):
        handlings[due_handling.event_id] = (*handlings.get(due_handling.event_id, ()), due_handling)
    return handlings


def make_due(connection: sqlite3.Connection, due: Sequence[tuple[int, str, str, float, int]]) -> list[DueHandling]:
    """Insert handlings, each given as event, subscriber, group, time at which it is due, and size of the body."""
    handlings = [(row, subscriber, group, "pending", at) for row, subscriber, group, at, _ in due]
    ids = rows.insert(connection, _HANDLINGS, handlings)
    return [
        DueHandling(HandlingId(handling), event_id(row), subscriber, group, 0, size)
        for handling, (row, subscriber, group, _, size) in zip(ids, due, strict=True)
    ]


def storable(text: str) -> str:
    """Return text of foreign origin, with surrogates, which UTF-8 cannot hold, escaped."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")
