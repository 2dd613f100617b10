"""Occurrences: the deeds of stackit, for logs, metrics and alerts.

A new one is a row of ``OCCURRENCES``, and the place that observes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, get_args

import msgspec

from stackit.api.admin import RequestHead
from stackit.api.events import RefChange, Repo

Level = Literal["info", "warn", "error"]

RefusalReason = Literal[
    "no_secret",  # a request for the webhook while no secret is configured
    "not_found",
    "malformed",  # not HTTP/1.1, or more of it than there may be
    "method",
    "encoding",  # a Content-Encoding
    "too_large",
    "deadline",
    "signature",
    "scope",  # its secret does not speak for the repository that it tells of
    "overload",  # given up in favour of others
    "journal",  # it cannot be made durable now
    "plugin",  # the handler of a plugin's public route answered so
    "replayed",  # a signed body under a new delivery id, where the configuration refuses that
    "rate",  # too many refused requests from one address: the bundled plugin ratelimit
]
"""Reasons for which stackit and its bundled plugins refuse a request of the public side. Others may have their own."""


class OccurrenceType(msgspec.Struct, frozen=True):
    """One row of the table: ``summary`` is the text of the log line, ``fields`` are those that may be set.

    An occurrence of the level ``info`` that has an ``error`` is a warning. ``values`` are those that stackit and its
    bundled plugins give to a field, where these are a closed set: a metric can begin with each of them at 0.
    """

    summary: str
    level: Level
    fields: tuple[str, ...]
    values: Mapping[str, tuple[str, ...]] = MappingProxyType({})


_HANDLING = ("event", "action", "repo", "delivery", "id", "subscriber", "attempts", "seconds")
_FAULT = ("error", "traceback")

OCCURRENCES: Mapping[str, OccurrenceType] = MappingProxyType(
    {
        # A public request was refused.
        "refused": OccurrenceType(
            "request refused",
            "info",
            ("client", "status", "reason", "verified_by", "request"),
            values={"reason": get_args(RefusalReason)},
        ),
        # A delivery is durable. ``outcome`` is "queued" where it has subscribers.
        "accepted": OccurrenceType(
            "delivery accepted",
            "info",
            ("event", "action", "repo", "delivery", "id", "client", "reason", "outcome", "verified_by", "via"),
            values={"outcome": ("queued", "unhandled", "ping", "unrecognised")},
        ),
        # A delivery that is durable already, and handled or in hand.
        "duplicate": OccurrenceType(
            "delivery was here before",
            "info",
            ("event", "action", "repo", "delivery", "id", "client", "outcome", "verified_by", "via"),
        ),
        # ``reason`` is the first delivery id.
        "replayed": OccurrenceType(
            "signed body came back under a new delivery id", "warn", ("event", "repo", "delivery", "id", "reason")
        ),
        "handled": OccurrenceType("event handled", "info", _HANDLING),
        "failed": OccurrenceType("handler failed, will try again", "warn", (*_HANDLING, "retry_in", *_FAULT)),
        "dead": OccurrenceType("handler failed for good, kept as a dead letter", "error", (*_HANDLING, *_FAULT)),
        # A handler kept the reactor from everything else for ``seconds``; at most once a minute for each subscriber.
        "blocked": OccurrenceType(
            "handler blocked the reactor: a function that waits needs thread=True",
            "warn",
            ("event", "repo", "delivery", "id", "subscriber", "seconds"),
        ),
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
        "backstop": OccurrenceType("backstop made its round", "info", ("plugin", "outcome", "seconds", *_FAULT)),
        "healed": OccurrenceType("mirror mended", "warn", ("repo", "reason", "count")),
        # ``outcome`` is "done" (``reason`` is what changed) or "refused" (nothing did, ``error`` tells why).
        "reload": OccurrenceType("reload of the configuration", "info", ("outcome", "reason", "error")),
        # Somebody asked the admin side to change something, or to be let in; ``status`` is that of the answer.
        "audit": OccurrenceType(
            "the admin side was used", "info", ("by", "role", "action", "target", "client", "status", "reason")
        ),
        # Anything else that an operator should read once.
        "notice": OccurrenceType(
            "notice", "warn", ("repo", "delivery", "id", "plugin", "subscriber", "reason", "count", *_FAULT)
        ),
    }
)
"""stackit's own occurrences, by name. A plugin may observe others, of names of its own."""


_MOST_REFS = 20
_LONGEST_REF = 500


class Occurrence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened. ``name`` is one of ``OCCURRENCES``, or a plugin's own; fields that say nothing are None.

    ``client`` is an address without port. ``reason`` of a refusal and ``outcome`` come from small closed sets, fit for
    labels. ``verified_by`` is the file or the variable of the secret by which a delivery verified. ``via`` is
    "api" for a delivery that was missed, and taken from the forge's list of deliveries. ``by`` tells people who asked
    the admin side, ``target`` for what, and ``role`` is what they may do. ``seconds`` and ``retry_in`` are seconds.
    ``missing`` is how many refs of the remote a mirror cannot hold.
    ``traceback`` is there for the first exception of its kind: several lines, without credentials.
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
    via: Literal["api"] | None = None
    by: str | None = None
    role: str | None = None
    target: str | None = None
    state: str | None = None
    cause: str | None = None
    count: int | None = None
    attempts: int | None = None
    seconds: float | None = None
    retry_in: float | None = None
    error: str | None = None
    missing: int | None = None
    traceback: str | None = None
    changes: tuple[RefChange, ...] | None = None
    request: RequestHead | None = None

    LOGGED: ClassVar[tuple[str, ...]] = ()
    """The names of the fields that a log line has."""

    @property
    def summary(self) -> str:
        """The text of a line about it; a plugin's own occurrence has its name as text."""
        known = OCCURRENCES.get(self.name)
        return str(self.name).replace("_", " ") if known is None else known.summary

    @property
    def level(self) -> Level:
        """The level of a line about it."""
        known = OCCURRENCES.get(self.name)
        if known is None or known.level == "info":
            return "info" if self.error is None else "warn"
        return known.level

    def fields(self) -> dict[str, Any]:
        """Return what a line about it shows: the fields that are set, seconds rounded, and some of the refs."""
        fields = {name: value for name in self.LOGGED if (value := getattr(self, name)) is not None}
        for name in ("seconds", "retry_in"):
            if name in fields:
                fields[name] = round(fields[name], 3)
        if self.changes is not None:
            fields["count"] = len(self.changes)
            # A first clone may bring 100,000 refs: a line shows some, the event has all.
            fields["refs"] = [f"{change.kind}:{_shortened(change.ref)}" for change in self.changes[:_MOST_REFS]]
        return fields


Occurrence.LOGGED = tuple(
    each for each in Occurrence.__struct_fields__ if each not in ("name", "missing", "changes", "request", "traceback")
)


def _shortened(ref: str) -> str:
    return ref if len(ref) <= _LONGEST_REF else f"{ref[:_LONGEST_REF]}…"
