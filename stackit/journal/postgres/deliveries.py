"""Appending deliveries: all that is new in one statement, and each delivery exactly once in the whole fleet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from twisted.python.failure import Failure

from stackit.api.errors import JournalError
from stackit.journal.postgres.arrays import Array, Bytes, Chars, Floats, Int2s, Int4s, Int8s, Texts
from stackit.journal.postgres.batch import Results, is_own_fault, pieces, refused
from stackit.journal.postgres.commit import Commit
from stackit.journal.postgres.due import EARLIER, is_due
from stackit.journal.postgres.duplicates import append_checked, plain_duplicates
from stackit.journal.postgres.ids import event_id, storable
from stackit.journal.postgres.ownership import row_of
from stackit.journal.postgres.subscribers import MOST
from stackit.journal.records import AppendResult, NewDelivery, repo_key

# What is not in the answer was here before, by its id or its body, and was not written. That holds between receivers:
# an insert that meets an uncommitted one of the same key waits for that commit. Rows go in in the order of their keys,
# so that two receivers do not wait for each other. Ids are given in the order of receipt.
_APPEND = f"""
WITH given AS MATERIALIZED (
    SELECT nextval('event_ids') AS id, g.*
    FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::float8[], %b::bytea[],
            %b::int4[], %b::text[], %b::text[], %b::int8[], %b::int2[], %b::int2[], %b::int2[]) WITH ORDINALITY
        AS g (hook, delivery, event, action, repo, repo_key, received_at, digest, size, signer, via, bundle, place,
            own_e, own_m, n)
), d AS (
    INSERT INTO digests (digest, event) SELECT digest, id FROM given ORDER BY digest
    ON CONFLICT DO NOTHING RETURNING event
), e AS (
    INSERT INTO events (id, kind, hook, delivery, event, action, repo, repo_key, received_at, digest, size, signer, via,
        bundle, place)
    SELECT g.id, 'd', g.hook, g.delivery, g.event, g.action, g.repo, g.repo_key, g.received_at, g.digest, g.size,
        g.signer, g.via, g.bundle, g.place
    FROM given AS g WHERE g.id IN (SELECT event FROM d) ORDER BY g.delivery, g.hook
    ON CONFLICT (delivery, hook, copy) WHERE kind = 'd' DO NOTHING RETURNING id
), w AS (
    INSERT INTO work (id, repo_key, space, shard, next_at)
    SELECT g.id * 4096 + s.subscriber, g.repo_key, s.space, CASE WHEN s.shard < 0 THEN g.id %% %b ELSE s.shard END,
        g.received_at
    FROM given AS g
    JOIN unnest(%b::int8[], %b::int2[], %b::"char"[], %b::int2[]) AS s (n, subscriber, space, shard) ON s.n = g.n
    WHERE g.id IN (SELECT id FROM e) ORDER BY 1
), b AS (
    INSERT INTO bundles (id, first, last, bodies)
    SELECT u.id, u.first, u.last, u.bodies
    FROM (SELECT v.id, v.bodies, min(g.id) AS first, max(g.id) AS last
        FROM unnest(%b::int8[], %b::bytea[]) AS v (id, bodies) JOIN given AS g ON g.bundle = v.id
        WHERE g.id IN (SELECT id FROM e) GROUP BY 1, 2) AS u
)
SELECT g.n, g.id,
    -- What is still to do in the same repository came before, through another receiver perhaps, and its owner may not
    -- have been told of it yet. Nobody asks but the owner.
    CASE WHEN g.own_e >= 0 THEN ARRAY(SELECT o.id FROM work AS o WHERE o.space = 'e' AND o.shard = g.own_e
        AND o.repo_key = g.repo_key AND o.id < g.id * 4096 AND {is_due("o", "g.received_at")}
        ORDER BY o.id DESC LIMIT {EARLIER}) END,
    CASE WHEN g.own_m >= 0 THEN ARRAY(SELECT o.id FROM work AS o WHERE o.space = 'm' AND o.shard = g.own_m
        AND o.repo_key = g.repo_key AND o.id < g.id * 4096 AND {is_due("o", "g.received_at")}
        ORDER BY o.id DESC LIMIT {EARLIER}) END
FROM given AS g WHERE g.id IN (SELECT id FROM e)
"""


def append(commit: Commit, records: Sequence[NewDelivery]) -> Results:
    """Append deliveries; for one that came before, return the handlings that are left to do.

    What a commit before this one had is looked at behind those that are new, so that it gets larger ids than they do.
    """
    first, *rest = _runs(records)
    sent = [(piece, _encoded(commit, piece)) for piece in pieces(first)]
    yield len(sent)
    cursors = [(piece, commit.connection.execute(_APPEND, values, binary=True)) for piece, values in sent]
    yield 0
    new = [result for piece, cursor in cursors for result in _results(commit, piece, cursor.fetchall())]
    results = _completed(commit, first, new)
    for number, run in enumerate(rest):
        if number % 2 == 0:
            results += _completed(commit, run, [None] * len(run))
            continue
        for piece in pieces(run):
            rows = commit.connection.execute(_APPEND, _encoded(commit, piece), binary=True).fetchall()
            results += _completed(commit, piece, _results(commit, piece, rows))
    return results


def _runs(records: Sequence[NewDelivery]) -> list[list[NewDelivery]]:
    """Return runs of deliveries, by turns of some that may all be new, and of some whose id or body came in this batch.

    The first run may be empty.
    """
    runs: list[list[NewDelivery]] = [[]]
    ids: set[tuple[str, str]] = set()
    digests: set[bytes] = set()
    for record in records:
        identity = record.delivery, record.hook
        came_before = identity in ids or record.digest in digests
        ids.add(identity)
        digests.add(record.digest)
        if came_before == (len(runs) % 2 == 1):
            runs.append([])
        runs[-1].append(record)
    return runs


def _completed(
    commit: Commit, records: Sequence[NewDelivery], results: Sequence[AppendResult | None]
) -> list[AppendResult | Failure]:
    """Append those deliveries that have no result yet, since their id or body may have come before."""
    completed: list[AppendResult | Failure | None] = list(results)
    missing = [number for number, result in enumerate(results) if result is None]
    if missing:
        found = plain_duplicates(commit, [records[number] for number in missing])
        for at, number in enumerate(missing):
            completed[number] = found.get(at) or _checked(commit, records[number])
    return [each for each in completed if each is not None]


def _checked(commit: Commit, record: NewDelivery) -> AppendResult | Failure:
    """Append a delivery whose id or body may have come before, in a transaction of its own."""
    try:
        return append_checked(commit, record)
    except psycopg.Error as error:
        if not is_own_fault(error):
            raise
        return refused(error)
    except JournalError as error:
        return Failure(error)


def _encoded(commit: Commit, records: Sequence[NewDelivery]) -> tuple[Any, ...]:
    """Return the arguments of ``_APPEND``."""
    places, bundles = commit.bundles.bundle(
        commit.connection, [record.body if record.subscribers else None for record in records]
    )
    keys = [repo_key(record.repo) for record in records]
    numbers = commit.numbers(subscriber for record in records for subscriber in record.subscribers)
    works: list[tuple[int, int, str, int]] = []
    own: list[tuple[int, int]] = []
    for at, (record, key) in enumerate(zip(records, keys, strict=True), 1):
        asked = {"e": -1, "m": -1}
        for subscriber in record.subscribers:
            shard = commit.shard(subscriber, key, 0)
            space, number = row_of(shard)
            works.append((at, numbers[subscriber], space, number if key else -1))
            if key and shard in commit.snapshot.epochs:
                asked[space] = number
        own.append((asked["e"], asked["m"]))
    columns: tuple[Array, ...] = (
        Texts([storable(record.hook) for record in records]),
        Texts([storable(record.delivery) for record in records]),
        Texts([storable(record.event) for record in records]),
        Texts([None if record.action is None else storable(record.action) for record in records]),
        Texts([None if record.repo is None else storable(record.repo) for record in records]),
        Texts([storable(key) for key in keys]),
        Floats([record.received_at for record in records]),
        Bytes([record.digest for record in records]),
        Int4s([len(record.body) for record in records]),
        Texts([storable(record.signer) for record in records]),
        Texts([record.via for record in records]),
        Int8s([number for number, _ in places]),
        Int2s([place for _, place in places]),
        Int2s([e for e, _ in own]),
        Int2s([m for _, m in own]),
    )
    return (
        *columns,
        commit.snapshot.shards,
        Int8s([n for n, _, _, _ in works]),
        Int2s([subscriber for _, subscriber, _, _ in works]),
        Chars([space for _, _, space, _ in works]),
        Int2s([shard for _, _, _, shard in works]),
        Int8s([number for number, _ in bundles]),
        Bytes([bodies for _, bodies in bundles]),
    )


def _results(
    commit: Commit, records: Sequence[NewDelivery], rows: Sequence[tuple[Any, ...]]
) -> list[AppendResult | None]:
    """Return what came of each delivery of one statement: None for one that may have come before."""
    results: list[AppendResult | None] = [None] * len(records)
    for n, event, in_e, in_m in sorted(rows):
        record = records[n - 1]
        key = repo_key(record.repo)
        handlings = []
        for subscriber in record.subscribers:
            shard = commit.shard(subscriber, key, event)
            earlier = _of_subscriber(commit, subscriber, (in_e, in_m)[row_of(shard)[0] == "m"])
            handling = commit.due(event, subscriber, shard, key, len(record.body), earlier=earlier)
            if handling is not None:
                handlings.append(handling)
        results[n - 1] = AppendResult(event_id(event), "new", tuple(handlings))
    return results


def _of_subscriber(commit: Commit, subscriber: str, rows: Sequence[int] | None) -> list[int]:
    if not rows:
        return []
    number = commit.numbers((subscriber,))[subscriber]
    return sorted(row for row in rows if row % MOST == number)
