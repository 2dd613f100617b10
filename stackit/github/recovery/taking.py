"""Take a delivery that GitHub tells of as if it had come: decoded, durable, and on its way to the handlers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Literal

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from stackit.api.events import DeliveryResult, Event
from stackit.api.occurrences import Occurrence
from stackit.github.forge import GitHub
from stackit.github.payloads import decode
from stackit.github.recovery.records import Detail, Listed
from stackit.github.recovery.source import DeliverySource

Outcome = Literal["recovered", "duplicate", "scope", "shape", "too_large"]
"""A delivery was taken; was here already; or is not taken: its hook may not speak for the repository, it is no event,
or larger than what the webhook takes.
"""

Take = Callable[[Event, bytes, Callable[[DeliveryResult | Failure], object]], None]
SpeaksFor = Callable[[str, Event], bool]
"""Whether a signer may speak for the repository of an event."""

Verify = Callable[[bytes, bytes], str | None]
"""Return the label of the webhook secret under which a body has this digest; None where there is none."""


class Taker:
    """Takes deliveries by ``take``, which is dispatch's.

    GitHub tells the payload as JSON inside JSON: the bytes that were signed are gone. What is told is trusted because
    TLS shows that it is GitHub who tells it, to the App's key or to a token.
    """

    def __init__(
        self,
        *,
        take: Take,
        observe: Callable[[Occurrence], None],
        now: Callable[[], float],
        speaks_for: SpeaksFor,
        verify: Verify,
        max_body: Callable[[], int],
    ) -> None:
        """``max_body`` returns the bytes of a body that the webhook takes."""
        self._take = take
        self._observe = observe
        self._now = now
        self._speaks_for = speaks_for
        self._verify = verify
        self._max_body = max_body
        self._forge = GitHub()

    def hook(self, detail: Detail) -> str:
        """Return the id of the hook that sent a delivery, "" where it does not say."""
        return self._forge.hook(detail.headers)

    async def take(self, source: DeliverySource, entry: Listed, detail: Detail) -> Outcome:
        """Take a delivery. Raises JournalError where it cannot be made durable now."""
        if len(detail.payload) > self._max_body():
            reason = f"{source.name} told of a delivery that is larger than webhook.max_body: it is left out"
            self._observe(Occurrence(name="notice", delivery=entry.guid, reason=reason))
            return "too_large"
        names = detail.headers.get(b"x-github-event", ())
        name = names[0].decode("latin-1") if len(names) == 1 else entry.event
        decoded = decode(
            name, detail.payload, id="", delivery=entry.guid, hook=self.hook(detail), received_at=self._now()
        )
        if decoded is None:
            self._observe(
                Occurrence(name="accepted", delivery=entry.guid, outcome="unrecognised", reason="shape", via="api")
            )
            return "shape"
        event = msgspec.structs.replace(decoded, signer=source.signer, via="api")
        if not self._speaks_for(source.signer, event):
            reason = f"{source.name} told of a delivery for {event.repo}, which is not its own: it is left out"
            self._observe(Occurrence(name="notice", delivery=entry.guid, repo=event.repo, reason=reason))
            return "scope"
        claim = self._forge.claim(detail.headers)
        # The same digest as that of the webhook, where GitHub tells the signature.
        digest = hashlib.sha256(claim.digest if claim is not None else detail.payload).digest()
        verified_by = self._verify(detail.payload, claim.digest) if claim is not None else None
        result = await self._durable(event, digest)
        self._observe(
            Occurrence(
                name="duplicate" if result.duplicate else "accepted",
                event=event.name,
                action=event.action,
                delivery=event.delivery,
                repo=event.repo,
                id=result.id,
                outcome=None if result.duplicate else "queued" if result.handled else "unhandled",
                verified_by=verified_by,
                via="api",
            )
        )
        return "duplicate" if result.duplicate else "recovered"

    async def _durable(self, event: Event, digest: bytes) -> DeliveryResult:
        taken: Deferred[DeliveryResult] = Deferred()
        self._take(event, digest, taken.callback)
        return await taken


def compact(payload: msgspec.Raw) -> bytes:
    """Return the payload as GitHub writes one: without blanks between values. Raises ValueError."""
    return msgspec.json.format(bytes(payload), indent=-1)
