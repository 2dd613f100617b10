"""Deliveries for the tests of a journal, and writes that come together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from outcomes import outcome
from twisted.internet.defer import Deferred, DeferredList

from stackit.journal import AppendResult, DueHandling, EventId, HandlingId, JournalProtocol, NewDelivery, Shard

BODY = b'{"ref":"refs/heads/main"}'
ZEROS, ONE, TWO = "0" * 40, "1" * 40, "2" * 40


def new_delivery(delivery: str, **fields: Any) -> NewDelivery:
    """Return a delivery; one of another id has another body, unless ``body`` says otherwise."""
    body = fields.pop("body", BODY + delivery.encode("utf-8", "backslashreplace"))
    values: dict[str, Any] = {
        "hook": "7",
        "delivery": delivery,
        "event": "push",
        "action": None,
        "repo": "Octo/Widget",
        "received_at": 100.0,
        "digest": hashlib.sha256(body).digest(),
        "body": body,
        "subscribers": ("mirror", "notes:deploy"),
    }
    return NewDelivery(**{**values, **fields})


def due_handling(
    number: int, group: str, size: int, *, shard: int = 0, earlier: Sequence[int] = (), event: int | None = None
) -> DueHandling:
    """Return a handling that is due, the only one of its event, which has the same number if no other is given."""
    return DueHandling(
        HandlingId(number),
        EventId(str(number if event is None else event)),
        "mine:handle",
        group,
        0,
        size,
        Shard(shard),
        tuple(map(HandlingId, earlier)),
    )


def alone(handlings: Iterable[DueHandling]) -> list[DueHandling]:
    """Return handlings as ``due`` shows them: what is earlier is in the same answer."""
    return [msgspec.structs.replace(each, earlier=()) for each in handlings]


def together(*coroutines: Any) -> Deferred[Any]:
    """Run all of them in one turn of the reactor: the success and the result of each, in their order."""
    return DeferredList([Deferred.fromCoroutine(each) for each in coroutines], consumeErrors=True)


async def append_together(journal: JournalProtocol, *deliveries: NewDelivery) -> list[AppendResult]:
    """Append deliveries in one turn of the reactor, and return their results."""
    return [appended for _, appended in await together(*(outcome(journal.append, each) for each in deliveries))]
