"""The values that go into a journal and come out of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Literal, NewType, get_args

import msgspec

from stackit.api.events import RefChange, RefsChanged, Repo, Via

State = Literal["pending", "done", "dead"]
EventKind = Literal["delivery", "refs"]
STATES: tuple[State, ...] = get_args(State)
REFS_EVENT = RefsChanged.name
SMALL_ANNOUNCEMENT = 16 * 1024
"""Bytes of an announcement of refs that is kept for people to look at, also where nothing handles it."""

EventId = NewType("EventId", str)
"""The id of an event: opaque text, which people see and ask for."""
HandlingId = NewType("HandlingId", int)
"""The id of a handling: an opaque number, which only the journal that gave it out understands."""
Shard = NewType("Shard", int)
"""A part of the work of a fleet, which one node owns: an opaque number."""
ALONE = Shard(0)
"""The shard of all work where one process does all of it."""

Space = Literal["handlers", "mirrors"]
"""Where events are handled: by the owner of the repository's shard, or by the node that has its mirror."""


class NewDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A verified delivery to record.

    ``repo`` is ``Owner/name`` as shown, ``received_at`` seconds since the epoch, ``digest`` what its body is recognised
    by, ``body`` its JSON text, which is kept only where there are ``subscribers`` (keys such as ``plugin:function``).
    With ``refuse_replay``, a body that came before under another delivery id is recorded without any handling.
    ``signer`` and ``via`` are those of the event.
    """

    hook: str
    delivery: str
    event: str
    action: str | None
    repo: str | None
    received_at: float
    digest: bytes
    body: bytes
    subscribers: tuple[str, ...]
    refuse_replay: bool = False
    signer: str = ""
    via: Via = "webhook"


class DueHandling(msgspec.Struct, frozen=True):
    """An event that one subscriber has to handle.

    ``group`` is the repository in lower case, or "": the events of a group are handled in order. ``attempts`` is the
    number of attempts that were made, ``size`` the length of the event's body in bytes. ``earlier`` are those of the
    same group and subscriber that are pending and were recorded before it, through another process perhaps: as far as
    they are known, and none where one process does all.
    """

    id: HandlingId
    event_id: EventId
    subscriber: str
    group: str
    attempts: int
    size: int
    shard: Shard = ALONE
    earlier: tuple[HandlingId, ...] = ()


class AppendResult(msgspec.Struct, frozen=True):
    """The outcome of an append.

    ``status`` is ``new`` for a delivery not seen before, ``duplicate`` for one that is done or in hand, ``again`` for
    one of which ``handlings`` are to be done again, or for the first time. ``replay_of`` is another delivery id, under
    which the same body came earlier. ``reused``: another body came earlier under this delivery id.
    """

    id: EventId
    status: Literal["new", "duplicate", "again"]
    handlings: tuple[DueHandling, ...]
    replay_of: str | None = None
    reused: bool = False


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it was recorded; ``body`` is None where none is kept."""

    id: EventId
    kind: EventKind
    hook: str
    delivery: str | None
    event: str
    action: str | None
    repo: str | None
    received_at: float
    signer: str
    via: Via
    body: bytes | None


class HandlingRow(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of one subscriber with one event; times are seconds since the epoch.

    ``error`` is that of the last attempt, ``next_at`` the time at which a pending one is due.
    """

    subscriber: str
    state: State
    attempts: int
    error: str | None
    next_at: float | None
    finished_at: float | None


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """An event without its body, and its outcome at every subscriber.

    ``state`` is ``pending`` while any handling is, else ``dead`` if any is, else ``done``.
    """

    id: EventId
    kind: EventKind
    hook: str
    delivery: str | None
    event: str
    action: str | None
    repo: str | None
    received_at: float
    signer: str
    via: Via
    size: int
    replay_of: str | None
    visible_at: float | None
    state: State
    handlings: tuple[HandlingRow, ...]


def state_of(handlings: Iterable[HandlingRow]) -> State:
    """Return the state of an event with these handlings, as its receipt has it."""
    states = {handling.state for handling in handlings}
    if "pending" in states:
        return "pending"
    return "dead" if "dead" in states else "done"


class Page(msgspec.Struct, frozen=True):
    """Receipts, newest first, and the cursor of the next page (None for the last page)."""

    deliveries: list[Receipt]
    next: str | None


def repo_key(repo: str | None) -> str:
    """Return the key by which a repository is found and grouped: its name in lower case, "" for none."""
    return repo.lower() if repo else ""


def check_renames(renames: Sequence[tuple[str, str]]) -> None:
    """Raise ValueError where a key is renamed twice, or two get the same."""
    old, new = {each for each, _ in renames}, {each for _, each in renames}
    if len(old) < len(renames) or len(new) < len(renames):
        raise ValueError("a repository cannot be renamed twice at once, nor two to one name")


def encode_changes(changes: Sequence[RefChange], cause: str) -> bytes:
    """Return the body of a ``refs`` event.

    Not msgspec: refs that are not UTF-8 are strings with lone surrogates, which the
    standard library's JSON carries as ``\\udcXX`` escapes and msgspec refuses.
    """
    rows = [msgspec.structs.asdict(change) for change in changes]
    return json.dumps({"cause": cause, "changes": rows}, separators=(",", ":")).encode("ascii")


def decode_changes(stored: StoredEvent) -> RefsChanged:
    """Return the ``RefsChanged`` that ``announce`` recorded.

    Raises ValueError for another kind of event, or one without a body.
    """
    if stored.kind != "refs" or stored.body is None or stored.repo is None:
        raise ValueError(f"event {stored.id} holds no ref changes")
    body = json.loads(stored.body)
    return RefsChanged(
        repo=Repo.parse(stored.repo),
        changes=tuple(RefChange(**row) for row in body["changes"]),
        cause=body["cause"],
        delivery=stored.delivery,
        id=stored.id,
        received_at=stored.received_at,
    )
