"""What stackit did, told to every ``stackit_observe``: for logs, metrics and alerts."""

from __future__ import annotations

from typing import Literal

import msgspec

from stackit.api.admin import RequestHead
from stackit.api.events import RefChange, Repo

OccurrenceName = Literal[
    "refused",  # a public request was turned away: reason, status, client, request
    "accepted",  # a delivery is durable: outcome "queued" (has subscribers) or "unhandled" (204)
    "duplicate",  # a delivery that was here before and is handled, or still in hand
    "replayed",  # a signed body came back under a new delivery id: reason names the first one
    "handled",  # a subscriber finished an event: subscriber, seconds, attempts
    "failed",  # a subscriber failed and will be tried again: error, attempts, retry_in
    "dead",  # a subscriber failed for good: error, attempts
    "recovered",  # at start: count events of a subscriber were pending from before
    "refs_changed",  # refs of a mirror moved: repo, changes, cause
    "synced",  # a look at a remote ended: repo, cause, outcome, state of the mirror, seconds, count of changes
    "fallback",  # the fast fetch could not bring a push, so git fetch does: repo, reason
    "visible",  # a pushed commit is in the mirror: seconds since it was received
    "unmanaged",  # a push for a repository that is not managed; told once for each
    "backstop",  # the backstop made its round: outcome, seconds, and plugin and error if one failed
    "healed",  # a fault was mended: repo, reason
    "notice",  # anything else an operator should read once: reason
]


class Occurrence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened. Which fields are set depends on ``name``; the rest are None.

    ``missing`` is how many refs of the remote a mirror cannot hold.
    ``seconds`` and ``retry_in`` are seconds; ``client`` is an address without port;
    ``reason`` of a refusal and ``outcome`` come from small closed sets, fit for labels;
    ``verified_by`` is the file or the variable of the secret by which a delivery verified.
    """

    name: OccurrenceName
    event: str | None = None
    action: str | None = None
    delivery: str | None = None
    id: str | None = None
    repo: Repo | None = None
    plugin: str | None = None
    subscriber: str | None = None
    client: str | None = None
    status: int | None = None
    reason: str | None = None
    outcome: str | None = None
    state: str | None = None
    cause: str | None = None
    error: str | None = None
    attempts: int | None = None
    seconds: float | None = None
    retry_in: float | None = None
    count: int | None = None
    missing: int | None = None
    changes: tuple[RefChange, ...] | None = None
    request: RequestHead | None = None
    verified_by: str | None = None
