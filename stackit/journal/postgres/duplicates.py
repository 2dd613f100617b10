"""A delivery whose id or body came before: what it is, and what is left to do of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from stackit.api.errors import JournalError, Permanent
from stackit.journal.postgres import bodies, digests, work
from stackit.journal.postgres.arrays import Bools, Bytes, Texts
from stackit.journal.postgres.batch import pieces
from stackit.journal.postgres.commit import Commit
from stackit.journal.postgres.connection import Connection
from stackit.journal.postgres.ids import event_id, storable
from stackit.journal.records import AppendResult, NewDelivery, repo_key

# What is done or in hand, and whose body is the same to the byte, needs no more than a look: many come at once where a
# forge or a person delivers all of an hour again.
_DUPLICATES = """
    SELECT g.n, e.id, e.replay_of
    FROM unnest(%b::text[], %b::text[], %b::bytea[], %b::bool[]) WITH ORDINALITY
        AS g (delivery, hook, digest, wanted, n)
    JOIN events AS e ON e.kind = 'd' AND e.delivery = g.delivery AND e.hook = g.hook AND e.copy = 0
        AND e.digest = g.digest AND e.via = 'webhook'
    WHERE NOT EXISTS (SELECT 1 FROM work AS w WHERE w.id BETWEEN e.id * 4096 AND e.id * 4096 + 4095 AND w.attempts > 0)
        AND NOT EXISTS (
            SELECT 1 FROM outcomes AS o WHERE o.id BETWEEN e.id * 4096 AND e.id * 4096 + 4095 AND o.state = 'x')
        AND (NOT g.wanted
            OR EXISTS (SELECT 1 FROM work AS w WHERE w.id BETWEEN e.id * 4096 AND e.id * 4096 + 4095)
            OR EXISTS (SELECT 1 FROM outcomes AS o WHERE o.id BETWEEN e.id * 4096 AND e.id * 4096 + 4095))
"""
# Locked, so that nobody prunes the event, or does the same with it through another receiver.
_SEEN_ID = """
    SELECT id, digest, size, via, received_at, bundle, place, copy FROM events
    WHERE kind = 'd' AND delivery = %b AND hook = %b ORDER BY copy DESC LIMIT %b FOR UPDATE
"""
# The one with a digest, among any number: found by that, since the id finds all of them.
_SEEN_DIGEST = """
    SELECT id, digest, size, via, received_at, bundle, place, copy FROM events
    WHERE id = ANY (ARRAY(SELECT event FROM digests WHERE digest = %b)
            || ARRAY(SELECT id FROM events WHERE digest = %b AND echo AND delivery = %b AND hook = %b AND kind = 'd'))
        AND kind = 'd' AND delivery = %b AND hook = %b ORDER BY id LIMIT 1 FOR UPDATE
"""
_SEEN_BODY = "SELECT bodies FROM bundles WHERE id = %b"
_SEEN_COPY = """
    SELECT id FROM events WHERE kind = 'd' AND delivery = %b AND digest = %b ORDER BY id LIMIT 1 FOR UPDATE
"""
_EVENT = "SELECT repo_key, size, digest, replay_of, bundle FROM events WHERE id = %b"
_NEXT_ID = "SELECT nextval('event_ids')"
_INSERT = """
    INSERT INTO events (id, kind, hook, delivery, copy, event, action, repo, repo_key, digest, size, signer, via,
        replay_of, echo, received_at, bundle, place)
    VALUES (%b, 'd', %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b)
    ON CONFLICT (delivery, hook, copy) WHERE kind = 'd' DO NOTHING RETURNING id
"""
_CHANGE = """
    UPDATE events SET event = %b, action = %b, repo = %b, repo_key = %b, digest = %b, size = %b, signer = %b, via = %b,
        replay_of = %b, echo = %b, bundle = %b, place = %b
    WHERE id = %b
"""
_INSERT_BUNDLE = "INSERT INTO bundles (id, first, last, bodies) VALUES (%b, %b, %b, %b)"
_DELETE_BUNDLE = """
    DELETE FROM bundles AS b WHERE id = %b
        AND NOT EXISTS (SELECT 1 FROM events AS e WHERE e.id BETWEEN b.first AND b.last AND e.bundle = b.id)
"""
_HANDLED = """
    SELECT EXISTS (SELECT 1 FROM work WHERE id BETWEEN %b AND %b)
        OR EXISTS (SELECT 1 FROM outcomes WHERE id BETWEEN %b AND %b)
"""
_RACES = 10
"""How often a delivery is looked for again that another receiver records at the same moment."""
_COMPARED = 8
"""Events of one id whose bodies are compared, the latest ones. A sender can make any number of them: an earlier one is
known by its digest alone, which is another one under another secret.
"""


class _Seen(msgspec.Struct, frozen=True):
    """An event with the id of a delivery: the columns of ``_SEEN_ID``."""

    event: int
    digest: bytes
    size: int
    via: str
    received_at: float
    bundle: int | None
    place: int | None
    copy: int


class _Raced(Exception):
    """Another receiver recorded the same at this moment."""


def plain_duplicates(commit: Commit, records: Sequence[NewDelivery]) -> dict[int, AppendResult]:
    """Return the results of those deliveries (by their number) that are plain duplicates, as far as a look tells."""
    found: dict[int, AppendResult] = {}
    if commit.in_doubt:
        return found
    asked = [(number, record) for number, record in enumerate(records) if record.via == "webhook"]
    for piece in pieces(asked):
        values = (
            Texts([storable(record.delivery) for _, record in piece]),
            Texts([storable(record.hook) for _, record in piece]),
            Bytes([record.digest for _, record in piece]),
            Bools([bool(record.subscribers) for _, record in piece]),
        )
        for n, event, replay_of in commit.connection.execute(_DUPLICATES, values, binary=True).fetchall():
            found[piece[n - 1][0]] = AppendResult(event_id(event), "duplicate", (), replay_of)
    if found:
        commit.touch()  # what is seen may have been committed by a server that has crashed since, and no standby has it
    return found


def append_checked(commit: Commit, record: NewDelivery) -> AppendResult:
    """Append a delivery whose id or body may have come before, after a look for it. In a transaction of its own."""
    for _ in range(_RACES):
        try:
            with commit.connection.transaction():
                return _append(commit, record)
        except _Raced:
            continue
    raise JournalError(f"delivery {record.delivery} comes by other receivers all the time")


def _append(commit: Commit, record: NewDelivery) -> AppendResult:
    connection = commit.connection
    delivery, hook = storable(record.delivery), storable(record.hook)
    of_that_id = _seen(connection, delivery, hook, record.digest)
    for seen in of_that_id:
        is_ours = seen.digest == record.digest and seen.received_at == record.received_at
        if commit.in_doubt and is_ours and seen.event not in commit.recovered:
            commit.recovered.add(seen.event)
            group = storable(repo_key(record.repo))
            handlings = work.recorded(commit, seen.event, group, len(record.body), record.received_at)
            return AppendResult(event_id(seen.event), "new", tuple(handlings))
    known = next((seen.event for seen in of_that_id if _is_same(commit, seen, record)), None)
    first = digests.first_delivery(connection, record.digest)
    if first == delivery:
        # One event by two hooks (an organization's, and a repository's) that have one secret: no replay. Whoever has
        # seen a delivery could say another hook, though: where replays are refused, it is handled once.
        first = None
        if known is None and record.refuse_replay:
            known, *_ = connection.execute(_SEEN_COPY, (delivery, record.digest), binary=True).fetchone() or (None,)
    if known is not None:
        return _append_again(commit, known, record, first)
    ((event,),) = connection.execute(_NEXT_ID).fetchall()
    first = digests.enter(connection, record.digest, event)
    replay_of = None if first == delivery else first
    subscribers = _wanted(record, replay_of)
    bundle, place = _keep_body(commit, event, record) if subscribers else (None, None)
    copy = 1 + max((seen.copy for seen in of_that_id), default=-1)
    values = (
        event,
        hook,
        delivery,
        copy,
        *_what(record),
        replay_of,
        first is not None,
        record.received_at,
        bundle,
        place,
    )
    if not connection.execute(_INSERT, values, binary=True).fetchall():
        raise _Raced
    group = storable(repo_key(record.repo))
    rows = [work.Row(event, subscriber, group, len(record.body)) for subscriber in subscribers]
    handlings = work.add(commit, rows, record.received_at)
    return AppendResult(event_id(event), "new", tuple(handlings), replay_of, reused=bool(of_that_id))


def _seen(connection: Connection, delivery: str, hook: str, digest: bytes) -> list[_Seen]:
    """Return the latest events of an id, and the one with this digest, in the order of their ids."""
    found = connection.execute(_SEEN_ID, (delivery, hook, _COMPARED), binary=True).fetchall()
    seen = [_Seen(*row) for row in found]
    if len(seen) == _COMPARED and all(each.digest != digest for each in seen):
        identity = delivery, hook
        found = connection.execute(_SEEN_DIGEST, (digest, digest, *identity, *identity), binary=True).fetchall()
        seen += [_Seen(*row) for row in found]
    return sorted(seen, key=lambda each: each.event)


def _is_same(commit: Commit, seen: _Seen, record: NewDelivery) -> bool:
    """Return True for a delivery with the body of an event, as far as that can be told.

    The digest is that of a signature: under another secret, the same body has another one. A body that the API gave
    is the same payload in other bytes.
    """
    if "api" in (seen.via, record.via):
        return True
    if seen.digest == record.digest or seen.size != len(record.body):
        return seen.digest == record.digest
    if seen.bundle is None:
        return True
    found = commit.connection.execute(_SEEN_BODY, (seen.bundle,), binary=True).fetchone()
    try:
        stored = bodies.load(seen.event, seen.place, found[0] if found else None)
    except Permanent:
        return False  # damaged, and this one is not
    return stored is None or stored == record.body


def _append_again(commit: Commit, event: int, record: NewDelivery, first: str | None) -> AppendResult:
    """Append a delivery that came before as this event. ``first`` is the other delivery id of its body, if any."""
    connection = commit.connection
    ((group, size, digest, replay_of, old_bundle),) = connection.execute(_EVENT, (event,), binary=True).fetchall()
    if record.via == "api":
        return AppendResult(event_id(event), "duplicate", (), replay_of)
    ((was_handled,),) = connection.execute(
        _HANDLED, (*work.handlings_of(event), *work.handlings_of(event)), binary=True
    ).fetchall()
    if was_handled:
        waiting, hurried = work.hurry(commit, event, group, size, record.received_at)
        dead, revived = work.revive(commit, event, group, size, record.received_at)
        status: Literal["again", "duplicate"] = "again" if hurried or revived else "duplicate"
        return AppendResult(event_id(event), status, (*waiting, *dead), replay_of)
    if replay_of is None and digest != record.digest:
        replay_of = first
    subscribers = _wanted(record, replay_of)
    if not subscribers:
        return AppendResult(event_id(event), "duplicate", (), replay_of)
    # Nobody wanted it the first time, so its body was not kept. What is at hand is what will be handled, and as what it
    # comes now: the header that names the event is not signed, and may have been another one.
    digests.forget(connection, digest, event)
    is_echo = digests.enter(connection, record.digest, event) is not None
    bundle, place = _keep_body(commit, event, record)
    connection.execute(_CHANGE, (*_what(record), replay_of, is_echo, bundle, place, event), binary=True)
    if old_bundle is not None:
        connection.execute(_DELETE_BUNDLE, (old_bundle,), binary=True)
    group = storable(repo_key(record.repo))
    rows = [work.Row(event, subscriber, group, len(record.body)) for subscriber in subscribers]
    handlings = work.add(commit, rows, record.received_at)
    return AppendResult(event_id(event), "again", tuple(handlings), replay_of)


def _keep_body(commit: Commit, event: int, record: NewDelivery) -> tuple[int, int]:
    number = commit.bundles.id(commit.connection)
    commit.connection.execute(_INSERT_BUNDLE, (number, event, event, bodies.bundle([record.body])), binary=True)
    return number, 0


def _what(record: NewDelivery) -> tuple[object, ...]:
    """Return the values of a delivery in the order of ``_INSERT`` and ``_CHANGE``."""
    return (
        storable(record.event),
        None if record.action is None else storable(record.action),
        None if record.repo is None else storable(record.repo),
        storable(repo_key(record.repo)),
        record.digest,
        len(record.body),
        storable(record.signer),
        record.via,
    )


def _wanted(record: NewDelivery, replay_of: str | None) -> tuple[str, ...]:
    """Return the subscribers of a delivery: none for a replay where replays are refused."""
    return () if record.refuse_replay and replay_of is not None else record.subscribers
