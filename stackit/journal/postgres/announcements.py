"""Announcing that refs moved: the refs, the event and its handlings in one statement, and only by the mirror's home."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from twisted.python.failure import Failure

from stackit.api.errors import JournalError
from stackit.api.events import RefChange
from stackit.api.refs import ref_bytes
from stackit.journal.postgres import work
from stackit.journal.postgres.arrays import Bytes, Chars, Int2s, Texts
from stackit.journal.postgres.batch import Results
from stackit.journal.postgres.bodies import bundle
from stackit.journal.postgres.commit import Commit
from stackit.journal.postgres.due import EARLIER, is_due
from stackit.journal.postgres.ids import event_id, storable
from stackit.journal.postgres.ownership import row_of, shard_of
from stackit.journal.postgres.subscribers import MOST
from stackit.journal.records import REFS_EVENT, SMALL_ANNOUNCEMENT, AppendResult, encode_changes, repo_key

# The fence first: nobody takes the mirror's shard from its owner while this is under way, and who lost it is refused.
_ANNOUNCE = f"""
WITH fence AS MATERIALIZED (
    SELECT 1 FROM shards WHERE space = 'm' AND shard = %(shard)b::int2 AND owner = %(me)b::int8 FOR SHARE
), e AS (
    INSERT INTO events (id, kind, hook, delivery, event, repo, repo_key, received_at, size, bundle, place)
    SELECT nextval('event_ids'), 'r', '', %(delivery)b::text, %(event)b::text, %(repo)b::text, %(key)b::text,
        %(at)b::float8, %(size)b::int4, %(bundle)b::int8, CASE WHEN %(bundle)b::int8 IS NULL THEN NULL ELSE 0 END
    FROM fence RETURNING id
), gone AS (
    DELETE FROM refs WHERE repo_key = %(key)b::text
        AND sha256(ref) = ANY (ARRAY(SELECT sha256(g.ref) FROM unnest(%(gone)b::bytea[]) AS g (ref)))
        AND EXISTS (SELECT 1 FROM fence)
), there AS (
    INSERT INTO refs (repo_key, ref, oid)
    SELECT %(key)b::text, r.ref, r.oid FROM fence, unnest(%(refs)b::bytea[], %(oids)b::text[]) AS r (ref, oid)
    ON CONFLICT (repo_key, sha256(ref)) DO UPDATE SET oid = excluded.oid
), w AS (
    INSERT INTO work (id, repo_key, space, shard, next_at)
    SELECT e.id * 4096 + s.subscriber, %(key)b::text, s.space, s.shard, %(at)b::float8
    FROM e, unnest(%(subscribers)b::int2[], %(spaces)b::"char"[], %(shards)b::int2[]) AS s (subscriber, space, shard)
), b AS (
    INSERT INTO bundles (id, first, last, bodies)
    SELECT %(bundle)b::int8, e.id, e.id, %(body)b::bytea FROM e WHERE %(bundle)b::int8 IS NOT NULL
)
SELECT e.id, ARRAY(SELECT o.id FROM unnest(%(spaces)b::"char"[], %(shards)b::int2[], %(subscribers)b::int2[])
        AS s (space, shard, subscriber)
    CROSS JOIN LATERAL (SELECT w.id FROM work AS w WHERE w.space = s.space AND w.shard = s.shard
        AND w.repo_key = %(key)b::text AND w.id & 4095 = s.subscriber AND w.id < e.id * 4096
        AND {is_due("w", "%(at)b::float8")} ORDER BY w.id DESC LIMIT {EARLIER}) AS o)
FROM e
"""
_RECORDED = """
    SELECT id FROM events WHERE repo_key = %b AND kind = 'r' AND received_at = %b AND size = %b
        AND delivery IS NOT DISTINCT FROM %b::text ORDER BY id DESC LIMIT 1
"""


MANY = 1000
"""Changes of an announcement for which deliveries would have to wait: some 30 µs each."""


class Announcement(msgspec.Struct, frozen=True):
    """Refs that moved: as ``announce`` of the protocol has them."""

    repo: str
    changes: Sequence[RefChange]
    cause: str
    delivery: str | None
    received_at: float
    subscribers: Sequence[str]


def announce(commit: Commit, announcements: Sequence[Announcement]) -> Results:
    """Update the announced refs of repositories, and record the events of it.

    The result of one whose mirror is another node's is a Failure of JournalError.
    """
    sent = [None if _recorded(commit, each) else _encoded(commit, each) for each in announcements]
    yield len(sent)
    cursors = [None if each is None else commit.connection.execute(_ANNOUNCE, each, binary=True) for each in sent]
    yield 0
    results: list[AppendResult | Failure] = []
    for announcement, cursor in zip(announcements, cursors, strict=True):
        if cursor is None:
            results.append(_result_before(commit, announcement))
            continue
        found = cursor.fetchone()
        if found is None:
            results.append(
                Failure(
                    JournalError(f"the mirror of {announcement.repo} is another node's by now: nothing was announced")
                )
            )
            continue
        results.append(_result(commit, announcement, *found))
    return results


def _encoded(commit: Commit, announcement: Announcement) -> dict[str, Any]:
    """Return the arguments of ``_ANNOUNCE``."""
    group = storable(repo_key(announcement.repo))
    subscribers = tuple(dict.fromkeys(announcement.subscribers))
    numbers = commit.numbers(subscribers)
    places = [row_of(commit.shard(subscriber, group, 0)) for subscriber in subscribers]
    there = {ref_bytes(each.ref): each.new for each in announcement.changes if each.kind != "deleted"}
    gone = {ref_bytes(each.ref) for each in announcement.changes if each.kind == "deleted"} - there.keys()
    body = encode_changes(announcement.changes, announcement.cause)
    is_kept = bool(subscribers) or len(body) <= SMALL_ANNOUNCEMENT
    return {
        "shard": row_of(shard_of("mirrors", group, 0, commit.snapshot.shards))[1],
        "me": commit.snapshot.me,
        "delivery": None if announcement.delivery is None else storable(announcement.delivery),
        "event": REFS_EVENT,
        "repo": storable(announcement.repo),
        "key": group,
        "at": float(announcement.received_at),
        "size": len(body),
        "bundle": commit.bundles.id(commit.connection) if is_kept else None,
        "body": bundle([body]) if is_kept else None,
        "gone": Bytes(sorted(gone)),
        "refs": Bytes(list(there)),
        "oids": Texts(list(there.values())),
        "subscribers": Int2s([numbers[subscriber] for subscriber in subscribers]),
        "spaces": Chars([space for space, _ in places]),
        "shards": Int2s([number for _, number in places]),
    }


def _result(commit: Commit, announcement: Announcement, event: int, earlier: Sequence[int]) -> AppendResult:
    group = storable(repo_key(announcement.repo))
    size = len(encode_changes(announcement.changes, announcement.cause))
    numbers = commit.numbers(announcement.subscribers)
    handlings = []
    for subscriber in dict.fromkeys(announcement.subscribers):
        shard = commit.shard(subscriber, group, event)
        before = sorted(row for row in earlier if row % MOST == numbers[subscriber])
        handling = commit.due(event, subscriber, shard, group, size, earlier=before)
        if handling is not None:
            handlings.append(handling)
    return AppendResult(event_id(event), "new", tuple(handlings))


def _recorded(commit: Commit, announcement: Announcement) -> int | None:
    """Return the event of an announcement that an earlier attempt has recorded, where there was one."""
    if not commit.in_doubt:
        return None
    size = len(encode_changes(announcement.changes, announcement.cause))
    delivery = None if announcement.delivery is None else storable(announcement.delivery)
    values = (storable(repo_key(announcement.repo)), float(announcement.received_at), size, delivery)
    found = commit.connection.execute(_RECORDED, values, binary=True).fetchone()
    return None if found is None else int(found[0])


def _result_before(commit: Commit, announcement: Announcement) -> AppendResult:
    """Return the result of an announcement that an earlier attempt has recorded, and of which nobody was told."""
    event = _recorded(commit, announcement)
    assert event is not None  # noqa: S101 - for the type checker
    group = storable(repo_key(announcement.repo))
    size = len(encode_changes(announcement.changes, announcement.cause))
    handlings = work.recorded(commit, event, group, size, announcement.received_at)
    return AppendResult(event_id(event), "new", tuple(handlings))
