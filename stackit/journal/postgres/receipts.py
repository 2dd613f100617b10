"""Events and what became of them: one, or a page of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType
from typing import Any

from stackit.journal.packing import unpacked
from stackit.journal.postgres.connection import Connection
from stackit.journal.postgres.ids import NO_ROW, event_id, event_row, storable
from stackit.journal.postgres.schema import EVENT_IDS
from stackit.journal.records import (
    REFS_EVENT,
    EventId,
    EventKind,
    HandlingRow,
    Page,
    Receipt,
    State,
    repo_key,
    state_of,
)

KINDS: Mapping[str, EventKind] = MappingProxyType({"d": "delivery", "r": "refs"})
STATES: Mapping[str, State] = MappingProxyType({"p": "pending", "d": "done", "x": "dead"})
_MAX_PAGE = 500
"""Receipts of one page, at most, whatever is asked for."""

# One statement gives the events and their handlings as they were at one moment: a handling goes from one table to the
# other when it ends.
_RECEIPTS = """
    SELECT e.id, e.kind, e.hook, e.delivery, e.event, e.action, e.repo, e.received_at, e.signer, e.via, e.size,
        e.replay_of, e.visible_at, k.key, h.state, h.attempts, h.error, h.next_at, h.finished_at
    FROM ({}) AS chosen JOIN events AS e ON e.id = chosen.id
    LEFT JOIN LATERAL (
        SELECT w.id, 'p'::"char" AS state, w.attempts, w.error, w.next_at, NULL::float8 AS finished_at
        FROM work AS w WHERE w.id BETWEEN e.id << 12 AND e.id << 12 | 4095
        UNION ALL
        SELECT d.id, d.state, d.attempts, d.error, NULL, d.finished_at
        FROM outcomes AS d WHERE d.id BETWEEN e.id << 12 AND e.id << 12 | 4095
    ) AS h ON true
    LEFT JOIN subscribers AS k ON k.no = (h.id & 4095)
    ORDER BY e.id DESC, h.id
"""
_TRACEBACKS = """
    SELECT k.key, h.traceback FROM (
        SELECT id, traceback FROM work WHERE id BETWEEN %(row)s::int8 << 12 AND %(row)s::int8 << 12 | 4095
        UNION ALL
        SELECT id, traceback FROM outcomes WHERE id BETWEEN %(row)s::int8 << 12 AND %(row)s::int8 << 12 | 4095
    ) AS h JOIN subscribers AS k ON k.no = (h.id & 4095) WHERE h.traceback IS NOT NULL ORDER BY h.id
"""

# Three ways to walk the events from the newest on: all of them, those that are pending somewhere, or those dead
# somewhere. Of the work of one event, the last row that passes stands for it.
_ALL = "SELECT e.id FROM events AS e WHERE e.id < %(before)s {event} ORDER BY e.id DESC LIMIT %(limit)s"
_PENDING = """
    SELECT e.id FROM work AS h JOIN events AS e ON e.id = h.id >> 12
    WHERE h.id < %(before)s::int8 << 12 {handling} {event}
        AND NOT EXISTS (SELECT 1 FROM work AS n WHERE n.id > h.id AND n.id <= h.id | 4095 {next})
    ORDER BY h.id DESC LIMIT %(limit)s
"""
_DEAD = """
    SELECT e.id FROM (
        SELECT DISTINCT h.id >> 12 AS id FROM outcomes AS h
        WHERE h.state = 'x' AND h.id < %(before)s::int8 << 12 {handling}
    ) AS h JOIN events AS e ON e.id = h.id
    WHERE true {event} ORDER BY e.id DESC LIMIT %(limit)s
"""
_NUMBER = "(SELECT no FROM subscribers WHERE key = %(subscriber)s)"
_BY = f"AND {{}}.id & 4095 = {_NUMBER}"
_PENDING_BY = f"EXISTS (SELECT 1 FROM work AS h WHERE h.id = e.id << 12 | {_NUMBER})"
_ENDED_BY = f"EXISTS (SELECT 1 FROM outcomes AS h WHERE h.id = e.id << 12 | {_NUMBER})"
_DONE_BY = f"EXISTS (SELECT 1 FROM outcomes AS h WHERE h.id = e.id << 12 | {_NUMBER} AND h.state = 'd')"
_OF_EVENT = "h.id BETWEEN e.id << 12 AND e.id << 12 | 4095"
_DONE_OR_UNHANDLED = f"""(
    EXISTS (SELECT 1 FROM outcomes AS h WHERE {_OF_EVENT} AND h.state = 'd')
    OR NOT EXISTS (SELECT 1 FROM outcomes AS h WHERE {_OF_EVENT})
    AND NOT EXISTS (SELECT 1 FROM work AS h WHERE {_OF_EVENT}))"""


def receipt(connection: Connection, row: int) -> Receipt | None:
    """Return an event, and its outcome at every subscriber."""
    rows = connection.execute(_RECEIPTS.format("SELECT %(row)s::int8 AS id"), {"row": row})
    return next(_receipts(rows), None)


def tracebacks(connection: Connection, row: int) -> dict[str, str]:
    """Return the tracebacks of an event, by subscriber. One that is damaged is left out."""
    found = {}
    for subscriber, stored in connection.execute(_TRACEBACKS, {"row": row}):
        with suppress(RuntimeError):
            found[subscriber] = unpacked(stored).decode("utf-8", "replace")
    return found


def listing(
    connection: Connection,
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
    if state is not None and state not in STATES.values():
        raise ValueError(f"not a state: {state[:40]!r} (expected one of {', '.join(STATES.values())})")
    values = {
        "before": EVENT_IDS - 1 if cursor is None else parse_cursor(cursor),
        "delivery": None if delivery is None else storable(delivery),
        "event": None if event is None else storable(event),
        "repo": storable(repo_key(repo)),
        "subscriber": None if subscriber is None else storable(subscriber),
        "since": since,
        "until": until,
        "limit": limit + 1,
    }
    conditions = [*_of_event(delivery, event, repo), *_of_time(since, until), *_of_state(state, subscriber)]
    walk = {"pending": _PENDING, "dead": _DEAD}.get(state or "", _ALL).format(
        event=" ".join(f"AND {condition}" for condition in conditions),
        handling="" if subscriber is None else _BY.format("h"),
        next="" if subscriber is None else _BY.format("n"),
    )
    receipts = list(_receipts(connection.execute(_RECEIPTS.format(walk), values)))
    return Page(receipts[:limit], receipts[limit - 1].id if len(receipts) > limit else None)


def parse_cursor(cursor: str) -> int:
    """Return the row below which a page begins. Raises ValueError for a cursor that no page gave out."""
    row = event_row(EventId(cursor))
    if row == NO_ROW:
        raise ValueError("not a cursor: use the value of next, as the previous page gave it")
    return row


def _of_event(delivery: str | None, event: str | None, repo: str | None) -> Iterator[str]:
    """Yield the conditions on the event itself."""
    yield "e.kind = 'r'" if event == REFS_EVENT else "e.kind = 'd'"
    if event is not None:
        yield "e.event = %(event)s"
    if delivery is not None:
        yield "e.delivery = %(delivery)s"
    if repo is not None:
        yield "e.repo_key = %(repo)s"


def _of_time(since: float | None, until: float | None) -> Iterator[str]:
    """Yield the conditions on the time at which the event was received."""
    if since is not None:
        yield "e.received_at >= %(since)s"
    if until is not None:
        yield "e.received_at < %(until)s"


def _of_state(state: str | None, subscriber: str | None) -> Iterator[str]:
    """Yield the conditions on the handlings of the event, as far as the walk is not by them."""
    if subscriber is not None and state is None:
        yield f"({_PENDING_BY} OR {_ENDED_BY})"
    elif subscriber is not None and state == "done":
        yield _DONE_BY
    elif state == "done":
        yield _DONE_OR_UNHANDLED


def _receipts(rows: Iterable[tuple[Any, ...]]) -> Iterator[Receipt]:
    """Yield the receipts of rows of ``_RECEIPTS``."""
    for _, group in groupby(rows, key=itemgetter(0)):
        of_event = list(group)
        number, kind, hook, delivery, event, action, repo, received_at, signer, via, size, replay_of, visible_at = (
            of_event[0][:13]
        )
        handlings = tuple(
            HandlingRow(
                subscriber=subscriber,
                state=STATES[state],
                attempts=attempts,
                error=error,
                next_at=next_at,
                finished_at=finished_at,
            )
            for *_, subscriber, state, attempts, error, next_at, finished_at in of_event
            if subscriber is not None
        )
        yield Receipt(
            id=event_id(number),
            kind=KINDS[kind],
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
