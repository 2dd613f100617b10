"""Bodies on disk: compressed, and those of one commit together in a bundle."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from stackit.api.errors import Permanent
from stackit.journal.packing import bundles, packed, unpacked
from stackit.journal.sqlite import rows

_BODIES = "bodies (event_id, body)"
_BUNDLES = "bundles (first, last, bodies)"

STORED = """
    (SELECT body FROM bodies WHERE event_id = e.id),
    (SELECT bodies FROM bundles WHERE last >= e.id AND first = (SELECT MAX(first) FROM bundles WHERE first <= e.id))
"""
"""Columns with the body of the event ``e``, alone or in a bundle: the arguments of ``load``."""

_FORGET = """
    DELETE FROM bundles WHERE first BETWEEN IFNULL((SELECT MAX(first) FROM bundles WHERE first <= ?), 0) AND ?
        AND NOT EXISTS (SELECT 1 FROM events WHERE id BETWEEN bundles.first AND bundles.last)
"""
_BUNDLE = msgspec.msgpack.Decoder(dict[int, bytes])


def store(connection: sqlite3.Connection, bodies: Sequence[tuple[int, bytes]]) -> None:
    """Store the bodies of events (rows and bodies): of new events that follow each other, or of a single one."""
    alone, together = [], []
    for bundle in bundles(bodies):
        if len(bundle) == 1:
            ((event_id, body),) = bundle
            alone.append((event_id, packed(body)))
        else:
            together.append((bundle[0][0], bundle[-1][0], packed(msgspec.msgpack.encode(dict(bundle)))))
    rows.insert(connection, _BODIES, alone)
    rows.insert(connection, _BUNDLES, together)


def load(event_id: int, alone: bytes | None, bundle: bytes | None) -> bytes | None:
    """Return the body of an event from the columns of ``STORED``; None where none is kept.

    Raises Permanent for a damaged one: no later try can read it either.
    """
    try:
        if alone is not None:
            return unpacked(alone)
        return None if bundle is None else _BUNDLE.decode(unpacked(bundle)).get(event_id)
    except (RuntimeError, msgspec.DecodeError):
        raise Permanent(f"the body of delivery {event_id} is damaged in the journal") from None


def delete_bundles(connection: sqlite3.Connection, event_ids: Sequence[int]) -> None:
    """Delete the bundles of deleted events, but for those that have the body of another event."""
    connection.execute(_FORGET, (min(event_ids), max(event_ids)))
