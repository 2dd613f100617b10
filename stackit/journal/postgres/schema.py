"""The tables of the journal in PostgreSQL 14 or newer: one database, any number of nodes.

Whatever decides about leases is the database's clock: no node's clock is compared with another's.

Texts in an index have the collation "C": where a library of collations differs (a standby's, or that of a newer
system), their order would be another, in which nothing is found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

VERSION = 1
"""The version of the tables that this code writes."""
OLDEST = 1
"""The oldest version whose code may still write into tables of ``VERSION``."""
APPLICATION = "stackit"
"""Begins the names of what is the database's alone: locks and channels."""

EVENT_IDS = 2**51
"""Event ids are below this: ``id * 4096 + subscriber`` is the id of a handling."""

TABLES = (
    # ``oldest`` is the version of the oldest code that may write here, ``node_key`` is what nodes trust each other by.
    """CREATE TABLE version (
        one boolean PRIMARY KEY DEFAULT true CHECK (one), schema int NOT NULL, oldest int NOT NULL, shards int NOT NULL,
        node_key bytea NOT NULL
    )""",
    # -- events ---------------------------------------------------------------
    # CACHE 1 (the default) is what order rests on: whoever is sent after another's 202 gets the larger id.
    f"CREATE SEQUENCE event_ids MAXVALUE {EVENT_IDS - 1}",
    # ``copy``: 0 for the first event of a delivery id and hook; another body under the same id is another event.
    # ``echo``: an earlier event had the same body.
    """CREATE TABLE events (
        id bigint PRIMARY KEY,
        kind "char" NOT NULL CHECK (kind IN ('d', 'r')),
        hook text COLLATE "C" NOT NULL,
        delivery text COLLATE "C",
        copy smallint NOT NULL DEFAULT 0,
        event text NOT NULL,
        action text,
        repo text,
        repo_key text COLLATE "C" NOT NULL,
        received_at double precision NOT NULL,
        digest bytea,
        echo boolean NOT NULL DEFAULT false,
        size int NOT NULL,
        signer text NOT NULL DEFAULT '',
        via text NOT NULL DEFAULT 'webhook',
        replay_of text,
        visible_at double precision,
        bundle bigint,
        place smallint
    )""",
    # A delivery is known by its id and hook: across all receivers, whichever commits first wins.
    "CREATE UNIQUE INDEX events_by_delivery ON events (delivery, hook, copy) WHERE kind = 'd'",
    "CREATE INDEX events_by_repo ON events (repo_key, id)",
    # A body is known by its digest, likewise: the first to commit is the original, others are echoes of it. When the
    # original is pruned, the earliest echo takes its place.
    "CREATE TABLE digests (digest bytea PRIMARY KEY, event bigint NOT NULL)",
    "CREATE INDEX events_echoes ON events (digest, id) WHERE echo",
    # Bodies of one commit lie together, packed by stackit, so EXTERNAL: the server must not try again. They are of
    # events between ``first`` and ``last``. A process takes a block of ids; their order means nothing.
    "CREATE SEQUENCE bundle_ids INCREMENT 1024",
    "CREATE TABLE bundles (id bigint PRIMARY KEY, first bigint NOT NULL, last bigint NOT NULL, bodies bytea NOT NULL)",
    "ALTER TABLE bundles ALTER bodies SET STORAGE EXTERNAL",
    # -- what is to do, and what became of it ---------------------------------
    """CREATE TABLE subscribers (
        no smallint PRIMARY KEY CHECK (no BETWEEN 1 AND 4095), key text COLLATE "C" NOT NULL UNIQUE
    )""",
    # Only what is still to do: small, so that dead rows are vacuumed in milliseconds. What is done goes to outcomes.
    # id = event * 4096 + subscriber: one index finds it by handling and by event, and orders it as the events.
    """CREATE TABLE work (
        id bigint PRIMARY KEY,
        repo_key text COLLATE "C" NOT NULL,
        space "char" NOT NULL,
        shard smallint NOT NULL,
        attempts int NOT NULL DEFAULT 0,
        error text,
        traceback bytea,
        next_at double precision NOT NULL
    ) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_insert_threshold = -1,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000)""",
    "CREATE INDEX work_in_order ON work (space, shard, repo_key, id)",
    # Retries by time. What was never tried is due at once, and so costs this index nothing.
    "CREATE INDEX work_retries ON work (next_at) WHERE attempts > 0",
    """CREATE TABLE outcomes (
        id bigint PRIMARY KEY,
        state "char" NOT NULL CHECK (state IN ('d', 'x')),
        attempts int NOT NULL,
        error text,
        traceback bytea,
        repo_key text COLLATE "C" NOT NULL,
        space "char" NOT NULL,
        shard smallint NOT NULL,
        finished_at double precision NOT NULL,
        node bigint NOT NULL
    )""",
    "CREATE INDEX outcomes_dead ON outcomes ((id & 4095), id) WHERE state = 'x'",
    # -- who does it ----------------------------------------------------------
    # One row for each start of a process: an incarnation, never used again. Dead is for ever.
    """CREATE TABLE nodes (
        incarnation bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name text NOT NULL,
        address text NOT NULL,
        version text NOT NULL,
        schema int NOT NULL,
        roles text[] NOT NULL,
        state text NOT NULL DEFAULT 'up' CHECK (state IN ('up', 'draining', 'leaving', 'dead')),
        started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        until timestamptz NOT NULL
    ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200)""",
    # A shard is owned by an incarnation. ``epoch`` grows with each owner: outcomes of an earlier one do not count.
    # ``home`` (of mirrors) is the name of the node that has them on its disk, ``heir`` the incarnation that is
    # prepared to be the next.
    """CREATE TABLE shards (
        space "char" NOT NULL,
        shard smallint NOT NULL,
        owner bigint,
        epoch bigint NOT NULL DEFAULT 0,
        since timestamptz NOT NULL DEFAULT clock_timestamp(),
        home text,
        heir bigint,
        PRIMARY KEY (space, shard)
    ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200)""",
    # What is done once in the fleet and an interval: the backstop of a plugin, retention.
    'CREATE TABLE rounds (name text COLLATE "C" PRIMARY KEY, began_at timestamptz NOT NULL, owner bigint NOT NULL)',
    # -- small state ----------------------------------------------------------
    # Found by a digest: the name of a ref may be longer than what an index takes.
    'CREATE TABLE refs (repo_key text COLLATE "C" NOT NULL, ref bytea NOT NULL, oid text NOT NULL)',
    "CREATE UNIQUE INDEX refs_by_name ON refs (repo_key, sha256(ref))",
    """CREATE TABLE documents (
        collection text COLLATE "C", key text COLLATE "C", document bytea NOT NULL, PRIMARY KEY (collection, key)
    )""",
)
NAMES = (
    "version", "event_ids", "events", "digests", "bundle_ids", "bundles", "subscribers", "work", "outcomes", "nodes",
    "shards", "rounds", "refs", "documents",
)  # fmt: skip
"""The tables and sequences."""
FIRST_ROWS = (
    "INSERT INTO version (schema, oldest, shards, node_key) VALUES (%s, %s, %s, %s)",
    """INSERT INTO shards (space, shard)
       SELECT s, n FROM unnest('{e,m}'::"char"[]) AS s, generate_series(0, %s - 1) AS n
       UNION ALL SELECT 'l'::"char", 0""",
)
"""What a new database begins with: the version, the shards. Arguments: VERSION, OLDEST, shards, node key; shards."""

STEPS: Mapping[int, Sequence[str]] = MappingProxyType({})
"""The statements that make tables of each earlier version those of the version after it.

A node of the earlier version goes on writing beside them: a step only adds. What nobody needs any more is taken away by
a later step, in a release whose ``OLDEST`` refuses those that would miss it.
"""
