"""What goes into the journal and what comes out of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

import msgspec

from stackit.api.events import RefChange, RefsChanged, Repo

State = Literal["pending", "done", "dead"]
EventKind = Literal["delivery", "refs"]
STATES: tuple[State, ...] = ("pending", "done", "dead")
REFS_EVENT = RefsChanged.name


class NewDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A verified delivery to write down.

    ``repo`` is ``Owner/name`` as shown, ``received_at`` seconds since the epoch, ``digest``
    what the body is recognised by, ``body`` its JSON text, which is stored only where
    there are ``subscribers`` (keys such as ``plugin:function``). With ``refuse_replay``, a body
    that came before under another delivery id is written down, and reaches nobody.
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


class DueHandling(msgspec.Struct, frozen=True):
    """One event that one subscriber has to handle.

    ``group`` is the repository in lower case, or "": what is handled in order. ``attempts``
    were made already, ``size`` is the length of the event's body in bytes.
    """

    id: int
    event_id: int
    subscriber: str
    group: str
    attempts: int
    size: int


class AppendResult(msgspec.Struct, frozen=True):
    """What became of an append.

    ``new``: not seen before. ``duplicate``: seen before, and done or in hand. ``again``: seen
    before, and ``handlings`` are to be done (again). ``replay_of`` is another delivery id, under
    which the very same body came earlier. ``reused``: another body came earlier under this id.
    """

    id: int
    status: Literal["new", "duplicate", "again"]
    handlings: tuple[DueHandling, ...]
    replay_of: str | None = None
    reused: bool = False


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event as the journal has it; ``body`` is None where none is kept."""

    id: int
    kind: EventKind
    hook: str
    delivery: str | None
    event: str
    action: str | None
    repo: str | None
    received_at: float
    body: bytes | None


class HandlingRow(msgspec.Struct, frozen=True, kw_only=True):
    """How far one subscriber is with one event; times are seconds since the epoch.

    ``error`` is that of the last attempt, ``next_at`` when a pending one is due,
    ``started_at`` when its last attempt began, where that was noted.
    """

    subscriber: str
    state: State
    attempts: int
    error: str | None
    next_at: float | None
    started_at: float | None
    finished_at: float | None


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """One event without its body, and what became of it at every subscriber.

    ``state`` is ``pending`` while any handling is, else ``dead`` if any is, else ``done``.
    """

    id: int
    kind: EventKind
    hook: str
    delivery: str | None
    event: str
    action: str | None
    repo: str | None
    received_at: float
    size: int
    replay_of: str | None
    visible_at: float | None
    state: State
    handlings: tuple[HandlingRow, ...]


class Page(msgspec.Struct, frozen=True):
    """Receipts, newest first, and the cursor of the next page (None: this was the last)."""

    deliveries: list[Receipt]
    next: str | None


def repo_key(repo: str | None) -> str:
    """What a repository is found and grouped by; "" for none."""
    return repo.lower() if repo else ""


def encode_changes(changes: Sequence[RefChange], cause: str) -> bytes:
    """The body of a ``refs`` event.

    Not msgspec: refs that are not UTF-8 are strings with lone surrogates, which the
    standard library's JSON carries as ``\\udcXX`` escapes and msgspec refuses.
    """
    rows = [msgspec.structs.asdict(change) for change in changes]
    return json.dumps({"cause": cause, "changes": rows}, separators=(",", ":")).encode("ascii")


def decode_changes(stored: StoredEvent) -> RefsChanged:
    """The ``RefsChanged`` that ``Journal.announce`` wrote down.

    Raises ValueError for an event that is none, or whose body is not kept.
    """
    if stored.kind != "refs" or stored.body is None or stored.repo is None:
        raise ValueError(f"event {stored.id} holds no ref changes")
    body = json.loads(stored.body)
    return RefsChanged(
        repo=Repo.parse(stored.repo),
        changes=tuple(RefChange(**row) for row in body["changes"]),
        cause=body["cause"],
        delivery=stored.delivery,
        id=str(stored.id),
        received_at=stored.received_at,
    )
