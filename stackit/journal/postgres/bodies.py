"""Bodies in the database: packed here, and those of one commit together in a bundle.

Payloads resemble each other, so a bundle takes a third of the bytes that its bodies would take alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stackit.api.errors import Permanent
from stackit.journal.packing import packed, unpacked

_BODIES = msgspec.msgpack.Decoder(list[bytes])


def bundle(bodies: Sequence[bytes]) -> bytes:
    """Return bodies as a bundle; the place of each is its number."""
    return packed(msgspec.msgpack.encode(list(bodies)))


def contents(bundled: bytes) -> list[bytes]:
    """Return all bodies of a bundle, by their places; none of a damaged one."""
    try:
        return _BODIES.decode(unpacked(bundled))
    except (RuntimeError, msgspec.DecodeError):
        return []


def load(event: int, place: int | None, bundled: bytes | None) -> bytes | None:
    """Return the body of an event at a place of a bundle; None where none is kept.

    Raises Permanent for a damaged one: no later try can read it either.
    """
    if place is None or bundled is None:
        return None
    try:
        return _BODIES.decode(unpacked(bundled))[place]
    except (RuntimeError, msgspec.DecodeError, IndexError):
        raise Permanent(f"the body of delivery {event} is damaged in the journal") from None
