"""The questions about the queue and about small state: each function reads from the reader's connection."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from stackit.api.refs import ref_text
from stackit.journal.postgres.arrays import Chars, Int2s, Int8s, Texts
from stackit.journal.postgres.commit import Snapshot
from stackit.journal.postgres.connection import Connection
from stackit.journal.postgres.due import is_due
from stackit.journal.postgres.ids import event_id, storable
from stackit.journal.postgres.ownership import handling_id, row_of, shard_at, shard_of
from stackit.journal.postgres.subscribers import MOST
from stackit.journal.records import DueHandling, Shard

_OWN = """
    FROM unnest(%(spaces)s, %(numbers)s, %(epochs)s) AS o (space, shard, epoch)
    JOIN shards AS s ON s.space = o.space AND s.shard = o.shard AND s.owner = %(me)s AND s.epoch = o.epoch
"""
_NUMBER = "(SELECT no FROM subscribers WHERE key = %(subscriber)s)"
_DUE = f"""
    SELECT w.id, w.attempts, e.size, o.space, o.shard, o.epoch {_OWN}
    CROSS JOIN LATERAL (
        SELECT w.id, w.attempts FROM work AS w
        WHERE w.space = o.space AND w.shard = o.shard AND w.repo_key = %(group)s AND w.id & 4095 = {_NUMBER}
            AND {is_due("w")}
        ORDER BY w.id LIMIT %(limit)s
    ) AS w
    JOIN events AS e ON e.id = w.id >> 12
    ORDER BY w.id LIMIT %(limit)s
"""
_WORK = "JOIN work AS w ON w.space = o.space AND w.shard = o.shard"
# From group to group by the index, and of each the first that is due: a long backlog of few repositories is not read.
_DUE_GROUPS = f"""
    SELECT g.repo_key {_OWN}
    CROSS JOIN LATERAL (
        WITH RECURSIVE groups AS (
            (SELECT w.repo_key FROM work AS w WHERE w.space = o.space AND w.shard = o.shard ORDER BY w.repo_key LIMIT 1)
            UNION ALL
            SELECT (
                SELECT w.repo_key FROM work AS w
                WHERE w.space = o.space AND w.shard = o.shard AND w.repo_key > k.repo_key ORDER BY w.repo_key LIMIT 1)
            FROM groups AS k WHERE k.repo_key IS NOT NULL
        )
        SELECT k.repo_key, f.id FROM groups AS k CROSS JOIN LATERAL (
            SELECT w.id FROM work AS w
            WHERE w.space = o.space AND w.shard = o.shard AND w.repo_key = k.repo_key AND w.id & 4095 = {_NUMBER}
                AND {is_due("w")}
            ORDER BY w.id LIMIT 1
        ) AS f
    ) AS g
    GROUP BY g.repo_key ORDER BY min(g.id)
"""
_NEXT_DUE = f"SELECT min(w.next_at) {_OWN} {_WORK} WHERE w.id & 4095 = {_NUMBER}"
_NEXT_RETRY = f"""
    SELECT w.next_at FROM work AS w
    JOIN shards AS s ON s.space = w.space AND s.shard = w.shard AND s.owner = %(me)s
    WHERE w.attempts > 0 AND w.next_at > %(after)s AND w.id & 4095 = {_NUMBER} ORDER BY w.next_at LIMIT 1
"""
_PENDING = f"""
    SELECT k.key, n.number FROM (SELECT w.id & 4095 AS no, count(*) AS number {_OWN} {_WORK} GROUP BY 1) AS n
    JOIN subscribers AS k ON k.no = n.no
"""
_PENDING_ELSEWHERE = """
    SELECT k.key, n.number
    FROM (
        SELECT w.id & 4095 AS no, count(*) AS number FROM shards AS s
        JOIN work AS w ON w.space = s.space AND w.shard = s.shard
        WHERE s.owner IS DISTINCT FROM %(me)s GROUP BY 1
    ) AS n
    JOIN subscribers AS k ON k.no = n.no
"""
_DEAD = """
    SELECT k.key, n.number
    FROM (SELECT id & 4095 AS no, count(*) AS number FROM outcomes WHERE state = 'x' GROUP BY 1) AS n
    JOIN subscribers AS k ON k.no = n.no
"""
_SUBSCRIBERS = """
    SELECT key FROM subscribers WHERE EXISTS (SELECT 1 FROM work WHERE id & 4095 = no)
        OR EXISTS (SELECT 1 FROM outcomes WHERE id & 4095 = no)
"""
_DOCUMENTS = "SELECT key, document FROM documents WHERE collection = %s"
_RECORDED = "SELECT delivery FROM events WHERE kind = 'd' AND hook = %s AND delivery = ANY (%s)"


def shards_of(snapshot: Snapshot, group: str) -> dict[Shard, int]:
    """Return the shards of this process in which handlings of a group may be, and their epochs."""
    if not group:
        return dict(snapshot.epochs)
    shards = (shard_of(space, group, 0, snapshot.shards) for space in ("handlers", "mirrors"))
    return {shard: snapshot.epochs[shard] for shard in shards if shard in snapshot.epochs}


def columns(me: int, epochs: Mapping[Shard, int]) -> dict[str, object]:
    """Return the arguments that name shards of a process, and their epochs."""
    rows = [row_of(shard) for shard in epochs]
    return {
        "me": me,
        "spaces": Chars([space for space, _ in rows]),
        "numbers": Int2s([number for _, number in rows]),
        "epochs": Int8s(list(epochs.values())),
    }


def due(
    connection: Connection, snapshot: Snapshot, subscriber: str, now: float, group: str, limit: int
) -> list[DueHandling]:
    """Return the handlings of a subscriber in a group that are due, oldest first."""
    named = {"subscriber": storable(subscriber), "now": now, "group": storable(group), "limit": limit}
    rows = connection.execute(_DUE, {**columns(snapshot.me, shards_of(snapshot, group)), **named})
    return [
        DueHandling(
            handling_id(row, epoch), event_id(row // MOST), subscriber, group, attempts, size, shard_at(space, number)
        )
        for row, attempts, size, space, number, epoch in rows
    ]


def due_groups(connection: Connection, snapshot: Snapshot, subscriber: str, now: float) -> list[str]:
    """Return the groups in which a subscriber has a handling due, that of the oldest first."""
    values = {**columns(snapshot.me, snapshot.epochs), "subscriber": storable(subscriber), "now": now}
    return [group for (group,) in connection.execute(_DUE_GROUPS, values)]


def next_due(connection: Connection, snapshot: Snapshot, subscriber: str, after: float) -> float | None:
    """Return the earliest time, later than ``after``, at which a pending handling of a subscriber is due.

    After a time, retries alone are looked at. What was never tried is due then, unless the clock of its receiver is far
    ahead: a later look for what nobody told of finds that.
    """
    named = {"subscriber": storable(subscriber)}
    if after == -math.inf:
        row = connection.execute(_NEXT_DUE, {**columns(snapshot.me, snapshot.epochs), **named}).fetchone()
    else:
        row = connection.execute(_NEXT_RETRY, {"me": snapshot.me, "after": after, **named}).fetchone()
    return None if row is None else row[0]


def pending(connection: Connection, snapshot: Snapshot) -> dict[str, int]:
    """Return the number of pending handlings of each subscriber, in shards of this process."""
    return dict(connection.execute(_PENDING, columns(snapshot.me, snapshot.epochs)).fetchall())


def pending_elsewhere(connection: Connection, me: int) -> dict[str, int]:
    """Return the number of pending handlings of each subscriber in the shards that are not those of process ``me``."""
    return dict(connection.execute(_PENDING_ELSEWHERE, {"me": me}).fetchall())


def look(connection: Connection) -> None:
    """Read a little, to see whether that is possible."""
    connection.execute("SELECT id FROM events LIMIT 1").fetchone()


def dead(connection: Connection) -> dict[str, int]:
    """Return the number of dead handlings of each subscriber."""
    return dict(connection.execute(_DEAD).fetchall())


def subscribers(connection: Connection) -> set[str]:
    """Return every subscriber that has a handling."""
    return {key for (key,) in connection.execute(_SUBSCRIBERS)}


def announced(connection: Connection, key: str) -> dict[str, str]:
    """Return the refs of a repository as they were last announced, and their object ids."""
    rows = connection.execute("SELECT ref, oid FROM refs WHERE repo_key = %s", (storable(key),))
    return {ref_text(ref): oid for ref, oid in rows}


def documents(connection: Connection, collection: str, keys: Collection[str] | None = None) -> dict[str, bytes]:
    """Return the documents of a collection by their keys, in the order of the keys; with ``keys``, only these."""
    if keys is None:
        rows = connection.execute(_DOCUMENTS, (storable(collection),)).fetchall()
    else:
        rows = connection.execute(
            f"{_DOCUMENTS} AND key = ANY (%s)", (storable(collection), Texts([storable(key) for key in keys]))
        ).fetchall()
    return dict(sorted(rows))  # here, and not by the database, whose order is that of its locale


def recorded(connection: Connection, hook: str, deliveries: Sequence[str]) -> set[str]:
    """Return those of these delivery ids that are recorded for a hook."""
    wanted = {storable(each): each for each in deliveries}
    return {wanted[each] for (each,) in connection.execute(_RECORDED, (storable(hook), Texts(list(wanted))))}
