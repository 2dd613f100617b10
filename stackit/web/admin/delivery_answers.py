"""What the routes of deliveries answer, and the parameters that they take."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from stackit.api.events import Via
from stackit.api.schema import Parameter, Timestamp
from stackit.journal.records import State

DEFAULT_LIMIT = 50
MAX_LIMIT = 200

Word = Annotated[str, msgspec.Meta(pattern="^[!-~]{1,200}$")]
Flag = Literal["0", "1"]


class Handling(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of one subscriber with a delivery.

    ``error`` is that of the last attempt, ``next_at`` the time of the next one. ``traceback`` is there only if it was
    asked for.
    """

    subscriber: str
    state: State
    attempts: int
    error: str | None
    next_at: Timestamp | None
    finished_at: Timestamp | None
    traceback: str | msgspec.UnsetType | None = msgspec.UNSET


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery, and its outcome at every subscriber.

    ``id`` is stackit's own, ``delivery`` GitHub's. ``visible_at`` is when the pushed commit was in the mirror.
    ``payload`` is there only if it was asked for, and null if it is not kept.
    """

    id: str
    delivery: str | None
    hook: str
    via: Via
    event: str
    action: str | None
    repo: str | None
    received_at: Timestamp
    state: State
    visible_at: Timestamp | None
    handlings: list[Handling]
    payload: Any | msgspec.UnsetType = msgspec.UNSET


class Deliveries(msgspec.Struct, frozen=True):
    """A page of deliveries, newest first, and the cursor of the next page; null on the last."""

    deliveries: list[Delivery]
    next: str | None


class NoDeliveries(msgspec.Struct, frozen=True):
    """Nobody knows the repository or the subscriber: a list without deliveries, too, as somebody may later."""

    error: str
    deliveries: list[Delivery] = []
    next: str | None = None


class Replayed(msgspec.Struct, frozen=True):
    """How many handlers run again."""

    replayed: int


class ReplayedDelivery(msgspec.Struct, frozen=True):
    """How many handlers run again of a delivery."""

    id: str
    replayed: int


SUBSCRIBER = Parameter("subscriber", "The name of a plugin, or plugin:function where it has several handlers.", Word)
LISTING = (
    Parameter("delivery", "GitHub's id of a delivery.", Word),
    Parameter("event", "The name of an event; refs_changed lists announced ref changes.", Word),
    Parameter("repo", "The name of a repository."),
    Parameter("state", "Deliveries with a handling in this state.", State),
    SUBSCRIBER,
    Parameter("since", "Deliveries that came then or later: RFC 3339 with an offset, or a duration ago (2h)."),
    Parameter("until", "Deliveries that came before: RFC 3339 with an offset, or a duration ago (2h)."),
    Parameter("cursor", "The next of an earlier answer.", Word),
    Parameter(
        "limit",
        f"How many on a page ({DEFAULT_LIMIT} by default).",
        Annotated[int, msgspec.Meta(ge=1, le=MAX_LIMIT)],
    ),
)
SHOWING = (
    Parameter("payload", "Whether to answer the payload, too.", Flag),
    Parameter("traceback", "Whether to answer the traceback of each handling's last failure, too.", Flag),
)
