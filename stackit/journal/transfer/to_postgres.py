"""From SQLite into PostgreSQL: in one transaction, so all of it is there or nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from stackit.api.errors import JournalError, Permanent
from stackit.journal import directory as state_directory
from stackit.journal.packing import bundles
from stackit.journal.postgres import opening
from stackit.journal.postgres.bodies import bundle
from stackit.journal.postgres.connection import Connection, Server
from stackit.journal.postgres.ids import storable
from stackit.journal.postgres.ownership import row_of, shard_of
from stackit.journal.postgres.receipts import KINDS, STATES
from stackit.journal.postgres.subscribers import MOST
from stackit.journal.sqlite import bodies, schema
from stackit.journal.sqlite.sizes import Sizes
from stackit.journal.transfer.contents import AT_ONCE, Contents, Progress
from stackit.journal.transfer.quiet import quiet

_EVENTS = f"""
    SELECT id, kind, hook, delivery, event, action, repo, repo_key, received_at, digest, size, signer, via, replay_of,
        visible_at, {bodies.STORED}
    FROM events AS e WHERE id > ? ORDER BY id LIMIT {AT_ONCE}
"""
_ID, _DIGEST, _BODY = 0, 9, slice(-2, None)
"""Where these are in a row of ``_EVENTS``; the body is the arguments of ``bodies.load``."""
_HANDLINGS = """
    SELECT event_id, subscriber, repo_key, state, attempts, error, next_at, finished_at, traceback
    FROM handlings WHERE event_id BETWEEN ? AND ? ORDER BY event_id, id
"""
_ECHOES = "SELECT digest, min(id) FROM events WHERE digest IS NOT NULL GROUP BY digest HAVING count(*) > 1"
_REUSED = "SELECT delivery, hook FROM events WHERE kind = 'delivery' GROUP BY delivery, hook HAVING count(*) > 1"
_LAST_ID = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)"
_COPY_EVENTS = """
    COPY events (id, kind, hook, delivery, copy, event, action, repo, repo_key, received_at, digest, echo, size, signer,
        via, replay_of, visible_at, bundle, place) FROM STDIN
"""
_COPY_WORK = "COPY work (id, repo_key, space, shard, attempts, error, traceback, next_at) FROM STDIN"
_COPY_OUTCOMES = """
    COPY outcomes (id, state, attempts, error, traceback, repo_key, space, shard, finished_at, node) FROM STDIN
"""
_COPY_DIGESTS = "COPY digests (digest, event) FROM STDIN"
_COPY_BUNDLES = "COPY bundles (id, first, last, bodies) FROM STDIN"
_IS_EMPTY = """
    SELECT NOT EXISTS (SELECT 1 FROM events) AND NOT EXISTS (SELECT 1 FROM refs)
        AND NOT EXISTS (SELECT 1 FROM documents)
"""

_KIND_LETTERS = {kind: letter for letter, kind in KINDS.items()}
_STATE_LETTERS = {state: letter for letter, state in STATES.items()}


def to_postgres(directory: Path, server: Server, *, shards: int, progress: Progress) -> Contents:
    """Copy the journal of a state directory into a database, whose tables are made if they are missing. Blocks.

    Every id stays what it is. Raises JournalError where a stackit runs here or there, and where the database has a
    journal already; nothing is changed then.
    """
    journal = directory / schema.NAME
    if not journal.exists():
        raise JournalError(f"there is no journal in {directory}")
    state_directory.check_private(directory)
    lock = state_directory.DirectoryLock(directory)
    try:
        schema.prepare(journal)
        shards = opening.prepare(server, shards)
        with closing(schema.connect(journal, Sizes())) as source, quiet(server) as target:
            source.execute("BEGIN")
            return _Transfer(source, target, shards, progress).run()
    except sqlite3.Error as error:
        raise JournalError(f"the journal {journal} cannot be read: {error}") from None
    finally:
        lock.release()


class _Transfer:
    """One transfer: from an open journal into a database in which there is none."""

    def __init__(self, source: sqlite3.Connection, target: Connection, shards: int, progress: Progress) -> None:
        self._source = source
        self._target = target
        self._shards = shards
        self._progress = progress
        self._copied = 0
        self._total = 0
        self._subscribers: dict[str, int] = {}
        self._first: dict[bytes, int] = {}  # the first event of each digest that several have
        self._copies: dict[tuple[str, str], int] = {}  # of each delivery id and hook that several have: how many so far
        self._bundle = 0
        self._damaged = 0

    def run(self) -> Contents:
        """Copy everything, and say how much it was."""
        ((is_empty,),) = self._target.execute(_IS_EMPTY).fetchall()
        if not is_empty:
            raise JournalError("the database has a journal already: make an empty one, or empty that")
        events, refs, documents = [self._count(table) for table in ("events", "refs", "documents")]
        self._total = events + refs + documents
        self._copy_subscribers()
        self._first = dict(self._source.execute(_ECHOES))
        self._copies = dict.fromkeys(self._source.execute(_REUSED), 0)
        for rows in self._events():
            self._copy_events(rows)
            self._advance(len(rows))
        self._copy_small("refs (repo_key, ref, oid)")
        self._copy_small("documents (collection, key, document)")
        self._set_sequences()
        pending, dead = [self._count(f"handlings WHERE state = '{state}'") for state in ("pending", "dead")]
        return Contents(events, pending, dead, refs, documents, self._damaged)

    def _count(self, table: str) -> int:
        return int(self._source.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def _advance(self, rows: int) -> None:
        self._copied += rows
        self._progress(self._copied, self._total)

    def _copy_subscribers(self) -> None:
        keys = [key for (key,) in self._source.execute("SELECT DISTINCT subscriber FROM handlings ORDER BY 1")]
        if len(keys) >= MOST:
            raise JournalError(f"the journal has had {len(keys)} subscribers, and a fleet can have {MOST - 1}")
        self._subscribers = {key: number for number, key in enumerate(keys, 1)}
        self._copy("COPY subscribers (no, key) FROM STDIN", [(no, key) for key, no in self._subscribers.items()])

    def _events(self) -> Iterator[list[tuple[Any, ...]]]:
        after = 0
        while rows := self._source.execute(_EVENTS, (after,)).fetchall():
            yield rows
            after = rows[-1][_ID]

    def _copy_events(self, rows: Sequence[tuple[Any, ...]]) -> None:
        places = self._copy_bodies([(row[_ID], self._body(row)) for row in rows])
        events = [(*self._event(row), *places.get(row[_ID], (None, None))) for row in rows]
        self._copy(_COPY_EVENTS, events)
        firsts = [(row[_DIGEST], row[_ID]) for row in rows if row[_DIGEST] is not None and not self._is_echo(row)]
        self._copy(_COPY_DIGESTS, firsts)
        self._copy_handlings(rows[0][_ID], rows[-1][_ID])

    def _event(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return an event as a row of the target, but for the place of its body."""
        id_, kind, hook, delivery, event, action, repo, key, at, digest, size, signer, via, *last = row[:-2]
        replay_of, visible = last
        copy = 0
        if kind == "delivery" and (delivery, hook) in self._copies:
            copy = self._copies[delivery, hook]
            self._copies[delivery, hook] = copy + 1
        names = [_text(each) for each in (event, action, repo, key)]
        rest = (at, digest, self._is_echo(row), size, _text(signer), via, _text(replay_of), visible)
        return id_, _KIND_LETTERS[kind], _text(hook), _text(delivery), copy, *names, *rest

    def _is_echo(self, row: tuple[Any, ...]) -> bool:
        """Return whether an earlier event had the same body."""
        return bool(self._first.get(row[_DIGEST], row[_ID]) != row[_ID])

    def _body(self, row: tuple[Any, ...]) -> bytes | None:
        try:
            return bodies.load(row[_ID], *row[_BODY])
        except Permanent:
            self._damaged += 1
            return None

    def _copy_bodies(self, stored: Sequence[tuple[int, bytes | None]]) -> dict[int, tuple[int, int]]:
        """Copy the bodies of events, and return the bundle and the place of each."""
        places: dict[int, tuple[int, int]] = {}
        made = []
        for events in bundles((event, body) for event, body in stored if body is not None):
            self._bundle += 1
            places.update({event: (self._bundle, place) for place, (event, _) in enumerate(events)})
            made.append((self._bundle, events[0][0], events[-1][0], bundle([body for _, body in events])))
        self._copy(_COPY_BUNDLES, made)
        return places

    def _copy_handlings(self, first: int, last: int) -> None:
        work, outcomes = [], []
        for handling in self._source.execute(_HANDLINGS, (first, last)):
            event, subscriber, key, state, attempts, error, next_at, finished_at, traceback = handling
            id_ = event * MOST + self._subscribers[subscriber]
            # Whose work it is in the end is told by whoever subscribes: see spaces.py.
            shard = row_of(shard_of("handlers", key, event, self._shards))
            error = _text(error)
            if state == "pending":
                work.append((id_, _text(key), *shard, attempts, error, traceback, next_at))
            else:
                outcomes.append(
                    (id_, _STATE_LETTERS[state], attempts, error, traceback, _text(key), *shard, finished_at, 0)
                )
        self._copy(_COPY_WORK, work)
        self._copy(_COPY_OUTCOMES, outcomes)

    def _copy_small(self, table: str) -> None:
        name, _, columns = table.partition(" ")
        cursor = self._source.execute(f"SELECT {columns.strip('()')} FROM {name}")
        while rows := cursor.fetchmany(AT_ONCE):
            texts = [tuple(_text(each) if isinstance(each, str) else each for each in row) for row in rows]
            self._copy(f"COPY {table} FROM STDIN", texts)
            self._advance(len(rows))

    def _set_sequences(self) -> None:
        (last,) = self._source.execute(_LAST_ID).fetchone()
        if last:
            self._target.execute("SELECT setval('event_ids', %s)", (last,))
        self._target.execute("SELECT setval('bundle_ids', %s, false)", (self._bundle + 1,))

    def _copy(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            with self._target.cursor() as cursor, cursor.copy(statement) as copy:
                for row in rows:
                    copy.write_row(row)


def _text(text: str | None) -> str | None:
    return None if text is None else storable(text)
