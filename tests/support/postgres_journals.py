"""Journals in PostgreSQL, as nodes of a fleet whose membership is the test."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any

import psycopg

from stackit.journal import Shard
from stackit.journal.postgres.connection import Server
from stackit.journal.postgres.journal import PostgresJournal
from stackit.journal.postgres.ownership import shard_at, shard_of

SHARDS = 16
"""In so many parts do these tests divide the work: every test makes them anew."""

_REGISTER = """
    INSERT INTO nodes (name, address, version, schema, roles, until)
    VALUES (%s, '', '', 1, '{receive,handle,mirror}', clock_timestamp() + interval '1 hour') RETURNING incarnation
"""
_TAKE = """
    UPDATE shards SET owner = %s, epoch = epoch + 1
    WHERE %s::int[] IS NULL OR position(space IN 'eml') * 4096 - 4096 + shard = ANY (%s)
    RETURNING space, shard, epoch
"""


def open_node(
    conninfo: str, reactor: Any, *, name: str = "a", lease: float = 60.0, patience: float = 20.0, **settings: Any
) -> PostgresJournal:
    """Return the journal of a new node, which owns nothing yet. ``lease`` and ``patience`` are those of its server.

    Both are long: they end in no test, unless that is what the test is about.
    """
    settings = {"now": time.time, "shards": SHARDS, **settings}
    journal = PostgresJournal.open(patient(conninfo, lease=lease, patience=patience), reactor=reactor, **settings)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        ((journal.ownership.me,),) = connection.execute(_REGISTER, (name,)).fetchall()
    return journal


def patient(conninfo: str, *, lease: float = 60.0, patience: float = 20.0) -> Server:
    """Return a server that has a minute for each connection: a machine may stand still for longer than it has else."""
    return Server(f"{conninfo} connect_timeout=60", lease=lease, patience=patience, first_answer=60.0)


def open_sole(conninfo: str, reactor: Any, **settings: Any) -> PostgresJournal:
    """Return the journal of a fleet's only node, which owns everything."""
    journal = open_node(conninfo, reactor, **settings)
    give(conninfo, journal, [journal])
    return journal


def give(
    conninfo: str, heir: PostgresJournal, journals: Sequence[PostgresJournal], shards: Collection[Shard] | None = None
) -> None:
    """Make shards (all of them, unless given) one journal's, in the database and as all of the journals see it."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        wanted = None if shards is None else list(shards)
        taken = connection.execute(_TAKE, (heir.ownership.me, wanted, wanted)).fetchall()
    for journal in journals:
        journal.ownership.lose(shard_at(space, number) for space, number, _ in taken)
        for space, number, _ in taken:
            journal.ownership.owners[shard_at(space, number)] = heir.ownership.me
    for space, number, epoch in taken:
        heir.ownership.epochs[shard_at(space, number)] = epoch


def shards_of(repo: str) -> list[Shard]:
    """Return the shards of a repository's events, in both spaces."""
    return [shard_of(space, repo.lower(), 0, SHARDS) for space in ("handlers", "mirrors")]


def empty(conninfo: str) -> None:
    """Empty the database of a journal, if it has tables."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("DROP OWNED BY CURRENT_USER")  # the schema itself is another's up to PostgreSQL 14
