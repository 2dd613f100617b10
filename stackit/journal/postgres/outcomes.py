"""What became of handlings: only the word of the owner counts, in the epoch in which it took the work up."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stackit.journal.packing import packed
from stackit.journal.postgres.arrays import Bytes, Chars, Floats, Int2s, Int8s, Texts
from stackit.journal.postgres.batch import Results, pieces
from stackit.journal.postgres.commit import Commit
from stackit.journal.postgres.dead_letters import GIVE_UP, RECORD_DEAD
from stackit.journal.postgres.ids import storable
from stackit.journal.postgres.ownership import handling_row, row_of
from stackit.journal.records import HandlingId

# Of a handling ``t`` whose row is ``w``: it was taken up in the epoch of now, and this process still owns its shard.
_IS_OWN = """
    t.epoch = (SELECT s.epoch FROM shards AS s WHERE s.space = w.space AND s.shard = w.shard AND s.owner = %b::int8)
"""
_FINISH = f"""
WITH ended AS MATERIALIZED (SELECT * FROM unnest(%b::int8[], %b::int8[], %b::float8[]) AS t (id, epoch, at)
), gone AS (
    DELETE FROM work AS w USING ended AS t
    WHERE w.id = t.id AND {_IS_OWN}
    RETURNING w.id, w.attempts, w.repo_key, w.space, w.shard, t.at
)
INSERT INTO outcomes (id, state, attempts, repo_key, space, shard, finished_at, node)
SELECT id, 'd', attempts + 1, repo_key, space, shard, at, %b::int8 FROM gone
ON CONFLICT (id) DO UPDATE SET state = 'd', attempts = excluded.attempts, error = NULL, traceback = NULL,
    finished_at = excluded.finished_at, node = excluded.node
"""
_FAIL = f"""
UPDATE work AS w SET attempts = w.attempts + 1, error = t.error, traceback = t.traceback, next_at = t.next_at
FROM unnest(%b::int8[], %b::int8[], %b::text[], %b::bytea[], %b::float8[]) AS t (id, epoch, error, traceback, next_at)
WHERE w.id = t.id AND {_IS_OWN}
    -- In doubt, what is there already is not counted twice.
    AND NOT (%b::bool AND w.next_at = t.next_at AND w.error IS NOT DISTINCT FROM t.error)
"""
_DIE = f"""
WITH ended AS MATERIALIZED (
    SELECT * FROM unnest(%b::int8[], %b::int8[], %b::text[], %b::bytea[], %b::float8[])
        AS t (id, epoch, error, traceback, at)
), gone AS (
    DELETE FROM work AS w USING ended AS t
    WHERE w.id = t.id AND {_IS_OWN}
    RETURNING w.id, w.attempts, w.repo_key, w.space, w.shard, t.error, t.traceback, t.at, %b::int8 AS node
)
{RECORD_DEAD}
"""
_VISIBLE = """
UPDATE events AS e SET visible_at = t.at FROM unnest(%b::int8[], %b::float8[]) AS t (id, at)
WHERE e.id = t.id AND e.visible_at IS NULL RETURNING e.id
"""
# A process that stood still may not know yet that others own its shards: their retries are planned by the right time,
# and must not be moved by what it missed.
_MOVE = """
UPDATE work AS w
SET next_at = CASE WHEN attempts = 0 OR next_at + %(step)b::float8 > %(now)b::float8 + %(longest)b::float8
    THEN %(now)b::float8 ELSE next_at + %(step)b::float8 END
FROM unnest(%(spaces)b::"char"[], %(shards)b::int2[]) AS o (space, shard)
    JOIN shards AS s ON s.space = o.space AND s.shard = o.shard AND s.owner = %(me)b::int8
WHERE w.space = o.space AND w.shard = o.shard
    AND (next_at > %(now)b::float8 OR (attempts > 0 AND %(step)b::float8 <> 0))
"""
# Only what changes, and by the index of retries: whoever takes work over asks for it each time. What was never tried is
# due in any case (``due.EARLY``).
_BRING_BACK = """
WITH far AS MATERIALIZED (
    SELECT id FROM work WHERE attempts > 0 AND next_at > %(now)b::float8 + %(longest)b::float8 ORDER BY next_at
)
UPDATE work AS w SET next_at = %(now)b::float8
FROM far, unnest(%(spaces)b::"char"[], %(shards)b::int2[]) AS o (space, shard)
WHERE w.id = far.id AND w.space = o.space AND w.shard = o.shard
"""


class Failed(msgspec.Struct, frozen=True):
    """An attempt that failed: as ``fail`` of the protocol has it."""

    handling: HandlingId
    at: float
    error: str
    next_at: float | None
    traceback: str | None


def finish(commit: Commit, ended: Sequence[tuple[HandlingId, float]]) -> Results:
    """Mark handlings (id and time) as done."""
    me = commit.snapshot.me
    values = []
    for piece in pieces(ended):
        rows = [handling_row(handling) for handling, _ in piece]
        columns = Int8s([row for row, _ in rows]), Int8s([epoch for _, epoch in rows]), Floats([at for _, at in piece])
        values.append((*columns, me, me))
    yield len(values)
    for each in values:
        commit.connection.execute(_FINISH, each, binary=True)
    yield 0
    return [None] * len(ended)


def fail(commit: Commit, failed: Sequence[Failed]) -> Results:
    """Record failed attempts: each handling is pending until its next time, or dead."""
    me = commit.snapshot.me
    again = [each for each in failed if each.next_at is not None]
    dead = [each for each in failed if each.next_at is None]
    statements: list[tuple[str, tuple[object, ...]]] = [
        (_FAIL, (*_columns(piece), Floats([each.next_at for each in piece]), me, commit.in_doubt))
        for piece in pieces(again)
    ]
    statements += [(_DIE, (*_columns(piece), Floats([each.at for each in piece]), me, me)) for piece in pieces(dead)]
    yield len(statements)
    for statement, values in statements:
        commit.connection.execute(statement, values, binary=True)
    yield 0
    return [None] * len(failed)


def give_up(commit: Commit, *, event: int, subscriber: str, at: float, error: str) -> bool:
    """Make a pending handling dead, whoever owns it: that may be ended by it, or take it up next.

    Returns False where it is not pending.
    """
    values = {
        "subscriber": storable(subscriber),
        "event": event,
        "owner": None,
        "error": storable(error),
        "traceback": None,
        "at": float(at),
        "node": commit.snapshot.me,
    }
    return bool(commit.connection.execute(GIVE_UP, values, binary=True).fetchall())


def visible(commit: Commit, events: Sequence[tuple[int, float]]) -> Results:
    """Record the times at which pushed commits became visible; False for one that was recorded before."""
    firsts = list(dict(reversed(events)).items())
    values = [(Int8s([row for row, _ in piece]), Floats([at for _, at in piece])) for piece in pieces(firsts)]
    yield len(values)
    cursors = [commit.connection.execute(_VISIBLE, each, binary=True) for each in values]
    yield 0
    changed = {row for cursor in cursors for (row,) in cursor.fetchall()}
    results = []
    for row, _ in events:
        results.append(row in changed)
        changed.discard(row)
    return results


def move_retries(commit: Commit, step: float, now: float, longest: float) -> None:
    """Move the retries of this process by ``step`` seconds, or to now where they would be too far away."""
    places = [row_of(shard) for shard in commit.snapshot.epochs]
    values = {
        "step": float(step),
        "now": float(now),
        "longest": float(longest),
        "spaces": Chars([space for space, _ in places]),
        "shards": Int2s([number for _, number in places]),
        "me": commit.snapshot.me,
    }
    commit.connection.execute(_MOVE if step else _BRING_BACK, values, binary=True)


def _columns(failed: Sequence[Failed]) -> tuple[Int8s, Int8s, Texts, Bytes]:
    rows = [handling_row(each.handling) for each in failed]
    tracebacks = [
        packed(each.traceback.encode("utf-8", "backslashreplace")) if each.traceback else None for each in failed
    ]
    return (
        Int8s([row for row, _ in rows]),
        Int8s([epoch for _, epoch in rows]),
        Texts([storable(each.error) for each in failed]),
        Bytes(tracebacks),
    )
