"""Events with their bodies, as handlers get them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from stackit.journal.postgres import bodies
from stackit.journal.postgres.arrays import Int8s
from stackit.journal.postgres.connection import Connection
from stackit.journal.postgres.ids import event_id
from stackit.journal.postgres.receipts import KINDS
from stackit.journal.records import StoredEvent

LARGE = 256 * 2**10
"""Bytes of a body that is read when its turn comes, and not together with others."""
COLUMNS = "e.id, e.kind, e.hook, e.delivery, e.event, e.action, e.repo, e.received_at, e.signer, e.via, e.place"
"""What ``stored`` is made of, but for the last: the place of the body in its bundle."""

_LOAD = f"SELECT {COLUMNS}, b.bodies FROM events AS e LEFT JOIN bundles AS b ON b.id = e.bundle WHERE e.id = %s"
_BUNDLES = "SELECT id, bodies FROM bundles WHERE id = ANY (%s)"
_SMALL = f"SELECT e.bundle, {COLUMNS} FROM events AS e WHERE e.id = ANY (%s) AND e.size <= {LARGE}"


def load(connection: Connection, row: int) -> StoredEvent | None:
    """Return an event with its body. Raises Permanent for a damaged one."""
    found = connection.execute(_LOAD, (row,)).fetchone()
    return None if found is None else stored(found[:-2], bodies.load(row, found[-2], found[-1]))


def load_small(connection: Connection, rows: Collection[int]) -> dict[int, StoredEvent]:
    """Return those of these events, by their rows, whose body is neither large nor damaged."""
    found = connection.execute(_SMALL, (Int8s(sorted(rows)),)).fetchall()
    kept = bundled_bodies(connection, {each[0] for each in found} - {None})
    events: dict[int, StoredEvent] = {}
    for bundle, *event, place in found:
        body = body_at(kept, bundle, place)
        if body is not None or place is None:
            events[event[0]] = stored(event, body)
    return events


def bundled_bodies(connection: Connection, bundles: Collection[int]) -> dict[int, list[bytes]]:
    """Return the bodies in each of these bundles, which many events share."""
    if not bundles:
        return {}
    found = connection.execute(_BUNDLES, (Int8s(sorted(bundles)),)).fetchall()
    return {number: bodies.contents(bundled) for number, bundled in found}


def body_at(kept: Mapping[int, Sequence[bytes]], bundle: int | None, place: int | None) -> bytes | None:
    """Return the body at a place of a bundle, of those that are at hand; None where it is none of them, or damaged."""
    if bundle is None or place is None or place >= len(kept.get(bundle, ())):
        return None
    return kept[bundle][place]


def stored(event: Sequence[Any], body: bytes | None) -> StoredEvent:
    """Return an event of its columns, without the place of its body."""
    number, kind, hook, delivery, name, action, repo, received_at, signer, via = event
    return StoredEvent(
        id=event_id(number),
        kind=KINDS[kind],
        hook=hook,
        delivery=delivery,
        event=name,
        action=action,
        repo=repo,
        received_at=received_at,
        signer=signer,
        via=via,
        body=body,
    )
