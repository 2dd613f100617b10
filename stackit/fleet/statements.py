"""What membership asks the database: each statement is one transaction. All leases are by the database's clock.

Whatever changes the members or the owners tells the others on ``CHANNEL``, as it is committed.
"""

from __future__ import annotations

from stackit.journal.postgres.clock import CLOCK

# ruff: noqa: S608 - they are put together from constants

CHANNEL = "stackit_fleet"

# No beat waits for a standby: who owns what is as true on one that is promoted, only a little older. What must never
# be older is said below.
SETTINGS = """
SELECT set_config('statement_timeout', %(timeout)s, false), set_config('lock_timeout', %(lock)s, false),
    set_config('synchronous_commit', 'local', false), set_config('jit', 'off', false)
"""
LISTEN = f"LISTEN {CHANNEL}"
_TELL = f"pg_notify('{CHANNEL}', '')"

# A new incarnation, which nobody counts as there until it enters: its lease is as long as nothing. A standby has it, or
# else its number could be given out again after a promotion.
REGISTER = """
INSERT INTO nodes (name, address, version, schema, roles, state, started_at, until)
SELECT %(name)s, %(address)s, %(version)s, %(schema)s, %(roles)s, 'dead', at, at
FROM clock_timestamp() AS at, set_config('synchronous_commit', 'on', true) RETURNING incarnation
"""
# An older one of the same name is dead from here on: there is one node of a name. Those of former days are forgotten.
ENTER = f"""
WITH older AS (
    UPDATE nodes SET state = 'dead', until = least(until, clock_timestamp())
    WHERE state <> 'dead' AND name = %(name)s AND incarnation < %(me)s
), forgotten AS (
    DELETE FROM nodes n WHERE state = 'dead' AND until < clock_timestamp() - interval '1 day' AND EXISTS (
        SELECT 1 FROM nodes o WHERE o.name = n.name AND o.incarnation > n.incarnation AND o.until > o.started_at)
)
UPDATE nodes SET state = %(state)s, until = clock_timestamp() + %(lease)s * interval '1 s'
WHERE incarnation = %(me)s RETURNING {CLOCK}, {_TELL}
"""

# Renewing and burying exclude each other by the row's lock: the second of them sees what the first did.
# Of two that entered with one name at the same moment, the newer stays.
BEAT = f"""
UPDATE nodes n SET until = clock_timestamp() + %(lease)s * interval '1 s'
WHERE incarnation = %(me)s AND state <> 'dead' AND NOT EXISTS (
    SELECT 1 FROM nodes o WHERE o.name = n.name AND o.incarnation > n.incarnation AND o.state <> 'dead')
RETURNING {CLOCK}
"""
BURY = f"""
WITH buried AS (
    UPDATE nodes SET state = 'dead' WHERE state <> 'dead' AND until < clock_timestamp() RETURNING name
)
SELECT name, {_TELL} FROM buried
"""
# The one that took a name over, for one that is out of the fleet: it learns the time from this, and not from a beat.
NAMESAKE = f"""
SELECT {CLOCK}, (
    SELECT address FROM nodes
    WHERE name = %(name)s AND incarnation > %(me)s AND state <> 'dead' AND until > clock_timestamp() LIMIT 1)
"""

# One incarnation of each name, the one that is there, or was last: of the last week, or while it is a home.
MEMBERS = """
SELECT incarnation, name, address, version, roles, state, extract(epoch FROM started_at)::float8,
    extract(epoch FROM until - clock_timestamp())::float8
FROM (
    SELECT DISTINCT ON (name) * FROM nodes WHERE until > started_at
    ORDER BY name, state <> 'dead' DESC, incarnation DESC
) AS newest
WHERE state <> 'dead' OR until > clock_timestamp() - interval '7 days'
    OR name IN (SELECT home FROM shards WHERE home IS NOT NULL)
"""
# Changes with every change of an owner (epochs grow) or of an heir: the rows are read only then.
SHARDS_STAMP = "SELECT sum(epoch)::text || ' ' || coalesce(sum(heir::numeric * (shard + 1)), 0)::text FROM shards"
SHARDS = "SELECT space, shard, owner, epoch, extract(epoch FROM since)::float8, home, heir FROM shards"

_FREE = "(owner IS NULL OR NOT EXISTS (SELECT 1 FROM nodes n WHERE n.incarnation = owner AND n.state <> 'dead'))"
_ALIVE = "EXISTS (SELECT 1 FROM nodes n WHERE n.incarnation = %(me)s AND n.state <> 'dead')"
TAKE = f"""
WITH free AS (
    SELECT space, shard FROM shards
    WHERE (space, shard) IN (SELECT * FROM unnest(%(spaces)s::"char"[], %(numbers)s::int2[])) AND {_FREE} AND {_ALIVE}
    FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE shards t SET owner = %(me)s, epoch = t.epoch + 1, since = clock_timestamp(), heir = NULL,
        home = CASE WHEN t.space = 'm' THEN %(name)s END
    FROM free WHERE t.space = free.space AND t.shard = free.shard RETURNING t.space, t.shard, t.epoch
)
SELECT space, shard, epoch, {_TELL} FROM taken
"""
# To one that is still there, or to nobody. What nobody gets keeps its home.
GIVE = f"""
WITH given AS (
    UPDATE shards t SET owner = n.incarnation, epoch = t.epoch + 1, since = clock_timestamp(), heir = NULL,
        home = CASE WHEN t.space = 'm' THEN coalesce(n.name, t.home) END
    FROM unnest(%(spaces)s::"char"[], %(numbers)s::int2[], %(heirs)s::int8[]) AS g (space, shard, heir)
        LEFT JOIN nodes n ON n.incarnation = g.heir AND n.state IN ('up', 'draining')
    WHERE t.space = g.space AND t.shard = g.shard AND t.owner = %(me)s RETURNING t.space, t.shard, t.owner
)
SELECT space, shard, owner, {_TELL} FROM given
"""
PREPARED = f"""
WITH prepared AS (
    UPDATE shards SET heir = %(me)s WHERE space = 'm' AND shard = ANY (%(numbers)s::int2[])
        AND heir IS DISTINCT FROM %(me)s AND owner IS DISTINCT FROM %(me)s RETURNING shard
)
SELECT shard, {_TELL} FROM prepared
"""
UNPREPARED = f"""
WITH changed AS (
    UPDATE shards SET heir = NULL WHERE space = 'm' AND shard = ANY (%(numbers)s::int2[]) AND heir = %(me)s
    RETURNING shard
)
SELECT shard, {_TELL} FROM changed
"""

_SET_STATE = f"""
WITH changed AS (UPDATE nodes SET state = %(state)s WHERE {{}} RETURNING incarnation)
SELECT incarnation, {_TELL} FROM changed
"""
LEAVE = _SET_STATE.format("incarnation = %(me)s AND state IN ('up', 'draining')")
DRAIN = _SET_STATE.format("name = %(name)s AND state IN ('up', 'draining')")
GONE = f"""
WITH gone AS (
    UPDATE nodes SET state = 'dead', until = least(until, clock_timestamp())
    WHERE incarnation = %(me)s AND state <> 'dead' RETURNING incarnation
)
SELECT incarnation, {_TELL} FROM gone
"""
# One that stops while it drains has been taken out: it is a member no more, unless mirrors had to stay with it.
TAKEN_OUT = f"""
WITH gone AS (
    UPDATE nodes SET until = started_at
    WHERE name = %(name)s AND state = 'dead' AND NOT EXISTS (SELECT 1 FROM shards WHERE home = %(name)s)
    RETURNING incarnation
)
SELECT incarnation, {_TELL} FROM gone
"""

# What is done once in an interval in the whole fleet.
ROUND = """
INSERT INTO rounds (name, began_at, owner) VALUES (%(name)s, clock_timestamp(), %(me)s)
ON CONFLICT (name) DO UPDATE SET began_at = excluded.began_at, owner = excluded.owner
WHERE rounds.began_at <= clock_timestamp() - %(interval)s * interval '1 s' RETURNING name
"""
