"""Questions for handlings that other processes recorded: those that a notice names, and those that none did."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from stackit.journal.postgres.arrays import Int8s
from stackit.journal.postgres.commit import Snapshot
from stackit.journal.postgres.connection import Connection
from stackit.journal.postgres.due import EARLIER, EARLY, is_due
from stackit.journal.postgres.events import COLUMNS, LARGE, body_at, bundled_bodies, stored
from stackit.journal.postgres.ids import event_id
from stackit.journal.postgres.ownership import handling_id, shard_at
from stackit.journal.postgres.subscribers import MOST
from stackit.journal.records import DueHandling, StoredEvent

Works = list[tuple[DueHandling, StoredEvent]]

AT_ONCE = 128
"""Handlings that are read together, at most."""
_PAGE = 5000
"""Rows of one answer about what nobody told of; more of them are asked for page by page."""

_OWNED = "JOIN shards AS s ON s.space = w.space AND s.shard = w.shard AND s.owner = %(me)s"
# What of the same repository and subscriber is still to do, and came earlier: order does not rest on when one is told.
_NAMED = f"""
    SELECT w.id, w.repo_key, w.space, w.shard, s.epoch, w.attempts, k.key, e.size,
        CASE WHEN w.repo_key <> '' THEN ARRAY(
            SELECT o.id FROM work AS o WHERE o.space = w.space AND o.shard = w.shard AND o.repo_key = w.repo_key
                AND o.id < w.id AND o.id & 4095 = w.id & 4095 AND {is_due("o")} ORDER BY o.id DESC LIMIT {EARLIER}) END,
        e.bundle, {COLUMNS}
    FROM work AS w {_OWNED} JOIN events AS e ON e.id = w.id >> 12 JOIN subscribers AS k ON k.no = (w.id & 4095)
    WHERE w.id = ANY (%(rows)s) AND {is_due("w")} ORDER BY w.id
"""
_LATEST = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM event_ids"
_NEW = f"""
    SELECT w.id FROM work AS w {_OWNED} WHERE w.id > %(after)s AND {is_due("w")} ORDER BY w.id LIMIT {_PAGE}
"""
# Replayed by another process: an old event, and yet work that nobody has tried since.
_REVIVED = f"""
    SELECT w.id FROM work AS w {_OWNED}
    WHERE w.id <= %(before)s AND w.attempts = 0 AND w.next_at BETWEEN %(now)s - %(span)s AND %(now)s + {EARLY}
    ORDER BY w.id LIMIT {_PAGE}
"""


def named(connection: Connection, snapshot: Snapshot, rows: Collection[int], now: float) -> Works:
    """Return those of these handlings that are due and in shards of this process, in order, with their events.

    A body that is large or damaged is left out: it is read when its turn comes.
    """
    values = {"me": snapshot.me, "rows": Int8s(sorted(rows)), "now": now}
    return _works(connection, snapshot, connection.execute(_NAMED, values).fetchall())


def latest(connection: Connection) -> int:
    """Return the row of the latest handling that may be there now, or be committed yet."""
    found = connection.execute(_LATEST).fetchone()
    assert found is not None  # noqa: S101 - a sequence has one row
    return int(found[0]) * MOST + MOST - 1


def new(connection: Connection, snapshot: Snapshot, after: int, now: float) -> list[int]:
    """Return the rows of handlings behind ``after`` that are due and in shards of this process."""
    found: list[int] = []
    while True:
        rows = connection.execute(_NEW, {"me": snapshot.me, "after": after, "now": now}).fetchall()
        found += [row for (row,) in rows]
        if len(rows) < _PAGE:
            return found
        after = found[-1]


def revived(connection: Connection, snapshot: Snapshot, before: int, now: float, span: float) -> list[int]:
    """Return the rows of earlier handlings that became due anew in the last ``span`` seconds, and were not tried."""
    values = {"me": snapshot.me, "before": before, "now": now, "span": span}
    return [row for (row,) in connection.execute(_REVIVED, values)]


def _works(connection: Connection, snapshot: Snapshot, rows: Sequence[tuple[Any, ...]]) -> Works:
    kept = bundled_bodies(connection, {row[9] for row in rows if row[7] <= LARGE} - {None})
    works: Works = []
    for row, group, space, number, epoch, attempts, subscriber, size, earlier, bundle, *event, place in rows:
        shard = shard_at(space, number)
        if snapshot.epochs.get(shard) != epoch:
            continue
        before = tuple(handling_id(each, epoch) for each in reversed(earlier or ()))
        due = DueHandling(handling_id(row, epoch), event_id(event[0]), subscriber, group, attempts, size, shard, before)
        works.append((due, stored(event, body_at(kept, bundle, place))))
    return works
