"""Occurrences: the deeds of stackit, for logs, metrics and alerts.

A new one is a row of ``OCCURRENCES``, and the place that observes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

from stackit.api.admin import RequestHead
from stackit.api.events import RefChange, Repo

Level = Literal["info", "warn", "error"]


class OccurrenceType(msgspec.Struct, frozen=True):
    """One row of the table: ``summary`` is the text of the log line, ``fields`` are those that may be set.

    An occurrence of the level ``info`` that has an ``error`` is a warning.
    """

    summary: str
    level: Level
    fields: tuple[str, ...]


_HANDLING = ("event", "action", "repo", "delivery", "id", "subscriber", "attempts", "seconds")

OCCURRENCES: Mapping[str, OccurrenceType] = MappingProxyType(
    {
        # A public request was refused. ``reason`` is one of a small closed set.
        "refused": OccurrenceType("request refused", "info", ("client", "status", "reason", "verified_by", "request")),
        # A delivery is durable: ``outcome`` is "queued" (it has subscribers), "unhandled", "ping" or "unrecognised".
        "accepted": OccurrenceType(
            "delivery accepted",
            "info",
            ("event", "action", "repo", "delivery", "id", "client", "reason", "outcome", "verified_by"),
        ),
        # A delivery that is durable already, and handled or in hand.
        "duplicate": OccurrenceType(
            "delivery was here before",
            "info",
            ("event", "action", "repo", "delivery", "id", "client", "outcome", "verified_by"),
        ),
        # ``reason`` is the first delivery id.
        "replayed": OccurrenceType(
            "signed body came back under a new delivery id", "warn", ("event", "repo", "delivery", "id", "reason")
        ),
        "handled": OccurrenceType("event handled", "info", _HANDLING),
        "failed": OccurrenceType("handler failed, will try again", "warn", (*_HANDLING, "retry_in", "error")),
        "dead": OccurrenceType("handler failed for good, kept as a dead letter", "error", (*_HANDLING, "error")),
        # At start, once for each subscriber: ``count`` events were pending.
        "recovered": OccurrenceType("events from before the start are taken up again", "info", ("subscriber", "count")),
        "refs_changed": OccurrenceType("refs changed", "info", ("repo", "delivery", "cause", "count", "changes")),
        # ``outcome`` is "changed", "unchanged", "timeout" or "failed"; ``state`` is that of the mirror.
        "synced": OccurrenceType(
            "looked at the remote",
            "info",
            ("repo", "delivery", "outcome", "state", "cause", "count", "seconds", "error", "missing"),
        ),
        # The fast fetch could not bring a push.
        "fallback": OccurrenceType("push goes by git fetch", "info", ("repo", "delivery", "reason")),
        # ``seconds`` since the push was received.
        "visible": OccurrenceType("pushed commit is visible", "info", ("repo", "delivery", "id", "seconds")),
        # Once for each repository.
        "unmanaged": OccurrenceType("push for a repository that is not managed", "info", ("repo", "delivery", "id")),
        # ``outcome`` is "done" or "failed".
        "backstop": OccurrenceType("backstop made its round", "info", ("plugin", "outcome", "seconds", "error")),
        "healed": OccurrenceType("mirror mended", "warn", ("repo", "reason", "count")),
        # Anything else that an operator should read once.
        "notice": OccurrenceType(
            "notice", "warn", ("repo", "delivery", "id", "plugin", "subscriber", "reason", "count", "error")
        ),
    }
)
"""stackit's own occurrences, by name. A plugin may observe others, of names of its own."""


class Occurrence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened. ``name`` is one of ``OCCURRENCES``, or a plugin's own; fields that say nothing are None.

    ``client`` is an address without port. ``reason`` of a refusal and ``outcome`` come from small closed sets, fit for
    labels. ``verified_by`` is the file or the variable of the secret by which a delivery verified. ``seconds`` and
    ``retry_in`` are seconds. ``missing`` is how many refs of the remote a mirror cannot hold.
    """

    name: str
    event: str | None = None
    action: str | None = None
    repo: Repo | None = None
    delivery: str | None = None
    id: str | None = None
    plugin: str | None = None
    subscriber: str | None = None
    client: str | None = None
    status: int | None = None
    reason: str | None = None
    outcome: str | None = None
    verified_by: str | None = None
    state: str | None = None
    cause: str | None = None
    count: int | None = None
    attempts: int | None = None
    seconds: float | None = None
    retry_in: float | None = None
    error: str | None = None
    missing: int | None = None
    changes: tuple[RefChange, ...] | None = None
    request: RequestHead | None = None
