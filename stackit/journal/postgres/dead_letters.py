"""How a row of work becomes a dead letter, whoever says so."""

from __future__ import annotations

RECORD_DEAD = """
INSERT INTO outcomes (id, state, attempts, error, traceback, repo_key, space, shard, finished_at, node)
SELECT id, 'x', attempts + 1, error, traceback, repo_key, space, shard, at, node FROM gone
ON CONFLICT (id) DO UPDATE SET state = 'x', attempts = excluded.attempts, error = excluded.error,
    traceback = excluded.traceback, finished_at = excluded.finished_at, node = excluded.node
RETURNING id
"""
"""The end of a statement: what its ``gone`` has deleted from the work becomes a dead letter."""

GIVE_UP = f"""
WITH gone AS (
    DELETE FROM work AS w USING subscribers AS u
    WHERE u.key = %(subscriber)b AND w.id = %(event)b::int8 * 4096 + u.no AND (%(owner)b::int8 IS NULL OR EXISTS (
        SELECT 1 FROM shards AS s WHERE s.space = w.space AND s.shard = w.shard AND s.owner = %(owner)b::int8))
    RETURNING w.id, w.attempts, w.repo_key, w.space, w.shard, %(error)b::text AS error,
        %(traceback)b::bytea AS traceback, %(node)b::int8 AS node,
        coalesce(%(at)b::float8, extract(epoch FROM clock_timestamp())::float8) AS at
)
{RECORD_DEAD}
"""
"""Make one handling dead while it is pending, and return its id then: in whatever epoch it was taken up.

``owner`` is the incarnation that has to own it, NULL where any may. ``at`` is NULL for now, ``node`` is who says so.
"""
