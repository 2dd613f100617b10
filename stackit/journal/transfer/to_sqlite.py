"""From PostgreSQL into SQLite: into a new file, which becomes the journal when it is whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stackit.api.errors import JournalError, Permanent
from stackit.journal import directory as state_directory
from stackit.journal.postgres import bodies as stored_bodies
from stackit.journal.postgres.connection import Connection, Server
from stackit.journal.postgres.receipts import KINDS, STATES
from stackit.journal.sqlite import bodies, digests, schema
from stackit.journal.sqlite.files import log_of
from stackit.journal.transfer.contents import AT_ONCE, Contents, Progress
from stackit.journal.transfer.quiet import quiet

_EVENTS = f"""
    SELECT id, kind, hook, delivery, event, action, repo, repo_key, received_at, digest, size, signer, via, replay_of,
        visible_at, bundle, place
    FROM events WHERE id > %s ORDER BY id LIMIT {AT_ONCE}
"""
_BUNDLES = "SELECT id, bodies FROM bundles WHERE id = ANY (%s::int8[])"
_HANDLINGS = """
    SELECT h.id >> 12, k.key, h.repo_key, h.state, h.attempts, h.error, h.next_at, h.finished_at, h.traceback
    FROM (
        SELECT id, repo_key, 'p'::"char" AS state, attempts, error, next_at, NULL::float8 AS finished_at, traceback
        FROM work WHERE id BETWEEN %(first)s::int8 << 12 AND %(last)s::int8 << 12 | 4095
        UNION ALL
        SELECT id, repo_key, state, attempts, error, NULL, finished_at, traceback
        FROM outcomes WHERE id BETWEEN %(first)s::int8 << 12 AND %(last)s::int8 << 12 | 4095
    ) AS h JOIN subscribers AS k ON k.no = (h.id & 4095) ORDER BY h.id
"""
_LAST_ID = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM event_ids"
_INSERT_EVENT = """
    INSERT INTO events (id, kind, hook, delivery, event, action, repo, repo_key, received_at, digest, size, signer, via,
        replay_of, visible_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_INSERT_HANDLING = """
    INSERT INTO handlings (event_id, subscriber, repo_key, state, attempts, error, next_at, finished_at, traceback)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_FORGET_SEQUENCE = "DELETE FROM sqlite_sequence WHERE name = 'events'"
_SET_SEQUENCE = "INSERT INTO sqlite_sequence (name, seq) VALUES ('events', ?)"
_COUNTED = MappingProxyType(
    {
        "events": "events",
        "pending": "work",
        "dead": "outcomes WHERE state = 'x'",
        "refs": "refs",
        "documents": "documents",
    }
)


def to_sqlite(server: Server, directory: Path, *, progress: Progress) -> Contents:
    """Copy the journal of a database into a state directory, which is made if it is missing. Blocks.

    The ids of events stay what they are. Raises JournalError where a stackit runs here or there, and where the
    directory has a journal already; nothing is changed then.
    """
    state_directory.prepare(directory)
    lock = state_directory.DirectoryLock(directory)
    try:
        journal = directory / schema.NAME
        for there in (journal, log_of(journal)):
            if there.exists():
                raise JournalError(f"{there} is there already: move it out of {directory}, or choose another directory")
        with quiet(server) as source:
            transfer = _Transfer(source, progress)
            schema.create(journal, transfer.run)
            return transfer.contents()
    except sqlite3.Error as error:
        raise JournalError(f"the journal {journal} cannot be made: {error}") from None
    finally:
        lock.release()


class _Transfer:
    """One transfer: from a database into the empty tables of a new journal."""

    def __init__(self, source: Connection, progress: Progress) -> None:
        self._source = source
        self._progress = progress
        self._copied = 0
        self._total = 0
        self._counts: dict[str, int] = {}
        self._damaged = 0

    def run(self, target: schema.Connection) -> None:
        """Copy everything."""
        for name, rows in _COUNTED.items():
            ((self._counts[name],),) = self._source.execute(f"SELECT count(*) FROM {rows}").fetchall()
        self._total = sum(self._counts[name] for name in ("events", "refs", "documents"))
        ((last,),) = self._source.execute(_LAST_ID).fetchall()
        indexed = 0
        for events in self._events():
            self._copy_events(target, events)
            digests.index_when_complete(target, [indexed + 1, events[-1][0]])
            indexed = events[-1][0]
            self._advance(len(events))
        if last > indexed:  # the newest events are not there any more, and their ids not to be given again
            digests.index_when_complete(target, [indexed + 1, last])
            target.execute(_FORGET_SEQUENCE)
            target.execute(_SET_SEQUENCE, (last,))
        self._copy_small(target, "refs", "repo_key, ref, oid")
        self._copy_small(target, "documents", "collection, key, document")

    def contents(self) -> Contents:
        """Return how much was copied."""
        return Contents(**self._counts, damaged=self._damaged)

    def _advance(self, rows: int) -> None:
        self._copied += rows
        self._progress(self._copied, self._total)

    def _events(self) -> Iterator[list[tuple[Any, ...]]]:
        after = 0
        while rows := self._source.execute(_EVENTS, (after,)).fetchall():
            yield rows
            after = rows[-1][0]

    def _copy_events(self, target: schema.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        target.executemany(_INSERT_EVENT, [(id_, KINDS[kind], *rest) for id_, kind, *rest, _, _ in rows])
        bodies.store(target, list(self._bodies(rows)))
        values = {"first": rows[0][0], "last": rows[-1][0]}
        handlings = [
            (event, subscriber, key, STATES[state], *rest)
            for event, subscriber, key, state, *rest in self._source.execute(_HANDLINGS, values)
        ]
        target.executemany(_INSERT_HANDLING, handlings)

    def _bodies(self, rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, bytes]]:
        """Yield the events that have a body, and their bodies."""
        wanted = sorted({row[-2] for row in rows if row[-2] is not None})
        bundles = dict(self._source.execute(_BUNDLES, (wanted,)).fetchall())
        for row in rows:
            try:
                body = stored_bodies.load(row[0], row[-1], bundles.get(row[-2]))
            except Permanent:
                self._damaged += 1
                continue
            if body is not None:
                yield row[0], body

    def _copy_small(self, target: schema.Connection, table: str, columns: str) -> None:
        with self._source.cursor() as cursor:
            cursor.execute(f"SELECT {columns} FROM {table}")
            while rows := cursor.fetchmany(AT_ONCE):
                target.executemany(f"INSERT INTO {table} ({columns}) VALUES (?, ?, ?)", rows)
                self._advance(len(rows))
