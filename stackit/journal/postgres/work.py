"""Rows of work: new ones of an event, those that are to be done again, and those that an earlier attempt has made.

Whoever makes rows here has their events locked, so that nobody prunes them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stackit.journal.postgres.arrays import Bytes, Chars, Int2s, Int8s, Texts
from stackit.journal.postgres.commit import Commit
from stackit.journal.postgres.due import EARLIER, is_due
from stackit.journal.postgres.ownership import row_of, shard_at
from stackit.journal.postgres.subscribers import MOST
from stackit.journal.records import DueHandling, Shard

_ADD = """
    INSERT INTO work (id, repo_key, space, shard, error, traceback, next_at)
    SELECT i.id, i.repo_key, i.space, i.shard, i.error, i.traceback, %b
    FROM unnest(%b::int8[], %b::text[], %b::"char"[], %b::int2[], %b::text[], %b::bytea[])
        AS i (id, repo_key, space, shard, error, traceback)
    ORDER BY i.id
    ON CONFLICT (id) DO UPDATE
    SET attempts = 0, error = excluded.error, traceback = excluded.traceback, next_at = excluded.next_at
    RETURNING id, space, shard
"""
_TAKE_DEAD = """
    DELETE FROM outcomes WHERE id BETWEEN %b AND %b AND state = 'x' RETURNING id & 4095, error, traceback
"""
_TAKE_ENDED = "DELETE FROM outcomes WHERE id = ANY (%b::int8[])"
_HURRY = """
    UPDATE work SET next_at = %b WHERE id BETWEEN %b AND %b AND attempts > 0 RETURNING id, space, shard, attempts
"""
_FRESH = "SELECT id, space, shard, attempts FROM work WHERE id BETWEEN %b AND %b AND attempts = 0 ORDER BY id"
_EARLIER = f"""
    SELECT i.id, o.id FROM unnest(%b::int8[], %b::text[], %b::"char"[], %b::int2[]) AS i (id, repo_key, space, shard)
    CROSS JOIN LATERAL (
        SELECT w.id FROM work AS w WHERE w.space = i.space AND w.shard = i.shard AND w.repo_key = i.repo_key
            AND w.id < i.id AND w.id & 4095 = i.id & 4095 AND {is_due("w", "%b::float8")}
        ORDER BY w.id DESC LIMIT {EARLIER}
    ) AS o ORDER BY 2
"""


class Row(msgspec.Struct, frozen=True):
    """A handling to be made pending: its event, with its group and its size, and the last fault, if that is kept."""

    event: int
    subscriber: str
    group: str
    size: int
    error: str | None = None
    traceback: bytes | None = None


def add(commit: Commit, rows: Sequence[Row], at: float) -> list[DueHandling]:
    """Make handlings pending from the first attempt on, due at ``at``; return those that are this process's."""
    if not rows:
        return []
    numbers = commit.numbers(row.subscriber for row in rows)
    places = [row_of(commit.shard(row.subscriber, row.group, row.event)) for row in rows]
    ids = [row.event * MOST + numbers[row.subscriber] for row in rows]
    values = (
        float(at),
        Int8s(ids),
        Texts([row.group for row in rows]),
        Chars([space for space, _ in places]),
        Int2s([number for _, number in places]),
        Texts([row.error for row in rows]),
        Bytes([row.traceback for row in rows]),
    )
    added = commit.connection.execute(_ADD, values, binary=True).fetchall()
    # Behind it: whoever was about to record an outcome was waited for.
    commit.connection.execute(_TAKE_ENDED, (Int8s(ids),), binary=True)
    shards = {id_: shard_at(space, number) for id_, space, number in added}
    return _due(commit, [(row, id_, shards[id_], 0) for row, id_ in zip(rows, ids, strict=True)], at)


def revive(commit: Commit, event: int, group: str, size: int, at: float) -> tuple[list[DueHandling], int]:
    """Make the dead handlings of an event pending from the first attempt on; each keeps its error until then.

    Returns those that are this process's, and how many there were.
    """
    dead = commit.connection.execute(_TAKE_DEAD, handlings_of(event), binary=True).fetchall()
    rows = [
        Row(event, commit.subscribers.key(commit.connection, number), group, size, error, traceback)
        for number, error, traceback in sorted(dead)
    ]
    return add(commit, rows, at), len(rows)


def hurry(commit: Commit, event: int, group: str, size: int, at: float) -> tuple[list[DueHandling], int]:
    """Make those handlings of an event due that wait for a retry; return what is this process's, and their number."""
    rows = commit.connection.execute(_HURRY, (float(at), *handlings_of(event)), binary=True).fetchall()
    return _of_event(commit, event, group, size, sorted(rows), at), len(rows)


def recorded(commit: Commit, event: int, group: str, size: int, at: float) -> list[DueHandling]:
    """Return the handlings of an event that an earlier attempt of this process has recorded and told nobody of."""
    rows = commit.connection.execute(_FRESH, handlings_of(event), binary=True).fetchall()
    return _of_event(commit, event, group, size, rows, at)


def handlings_of(event: int) -> tuple[int, int]:
    """Return the ids of the first and the last handling that an event may have."""
    return event * MOST, event * MOST + MOST - 1


def _of_event(
    commit: Commit, event: int, group: str, size: int, rows: Sequence[tuple[int, str, int, int]], at: float
) -> list[DueHandling]:
    works = [
        (
            Row(event, commit.subscribers.key(commit.connection, id_ % MOST), group, size),
            id_,
            shard_at(space, number),
            attempts,
        )
        for id_, space, number, attempts in rows
    ]
    return _due(commit, works, at)


def _due(commit: Commit, works: Sequence[tuple[Row, int, Shard, int]], at: float) -> list[DueHandling]:
    """Return those handlings (row, id, shard, attempts) that are this process's, and have the others' owners told."""
    asked = [
        (id_, row.group, row_of(shard)) for row, id_, shard, _ in works if row.group and shard in commit.snapshot.epochs
    ]
    earlier: dict[int, list[int]] = {}
    if asked:
        values = (
            Int8s([id_ for id_, _, _ in asked]),
            Texts([group for _, group, _ in asked]),
            Chars([space for _, _, (space, _) in asked]),
            Int2s([number for _, _, (_, number) in asked]),
            float(at),
        )
        for id_, before in commit.connection.execute(_EARLIER, values, binary=True).fetchall():
            earlier.setdefault(id_, []).append(before)
    due = [
        commit.due(
            row.event, row.subscriber, shard, row.group, row.size, attempts=attempts, earlier=earlier.get(id_, ())
        )
        for row, id_, shard, attempts in works
    ]
    return [each for each in due if each is not None]
