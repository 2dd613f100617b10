"""The endpoint of a forge's webhooks: admission, verification and the answer.

``Webhook`` is a handler of requests, as ``BoundedSite`` serves it. ``WebhookResource`` serves it under any Site of
twisted.web.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence

import msgspec
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.admin import Refused, RequestHead, Response
from stackit.api.errors import JournalError, describe
from stackit.api.events import DeliveryResult, Event, Push
from stackit.api.forge import GITHUB, Claim, Forge, Unrecognised, qualified_hook
from stackit.api.occurrences import Occurrence
from stackit.http.server.interfaces import ServerRequest
from stackit.http.server.refusals import FAILED, TOO_LARGE, Refusal, method_not_allowed
from stackit.http.server.resource import HandlerResource
from stackit.web import refusals
from stackit.web.failures import log_failure
from stackit.web.webhook_secrets import EVERYTHING, Secrets, Verifier, WebhookSecret

_log = Logger(namespace="stackit")

Take = Callable[[Event, bytes, Callable[[DeliveryResult | Failure], object]], None]

SpeaksFor = Callable[[str, Event], bool]
"""Whether a secret of a scope, other than ``EVERYTHING``, may tell of an event."""


def for_nothing(_scope: str, _event: Event) -> bool:
    """Speak for no event."""
    return False


class SignedBody:
    """The body of a request to the webhook, verified while it streams in.

    The body of a request without a claim is read, so that the sender can be answered, and not kept. ``refused`` is a
    plugin's refusal of the request, which counts unless the body verifies. ``verified_by`` is the label of the secret
    under which it verified, the first of them until ``signer`` chose one. ``sender`` are bytes that keep the
    fingerprints of a forge apart from those of the others.
    """

    __slots__ = (
        "_claim",
        "_sender",
        "_verified",
        "_verifier",
        "head",
        "keep",
        "limit",
        "refused",
        "throttled",
        "verified_by",
    )

    def __init__(
        self,
        head: RequestHead,
        *,
        limit: int,
        verifier: Verifier,
        claim: Claim | None,
        refused: Refusal | None,
        sender: bytes = b"",
    ) -> None:
        self.head = head
        self.limit = limit
        self.keep = claim is not None
        self.throttled = refused is not None
        self.refused = refused
        self.verified_by: str | None = None
        self._verified: Sequence[WebhookSecret] = ()
        self._verifier = verifier
        self._claim = claim
        self._sender = sender
        if claim is not None and claim.before:
            verifier.update(claim.before)

    def update(self, chunk: bytes) -> None:
        """Add a piece of the body."""
        if self._claim is not None:
            self._verifier.update(chunk)

    def verified(self, secrets: Secrets) -> bool:
        """Return whether the whole body has the signature that the head claims, by a secret that is still valid.

        ``secrets`` are those of now: one may have been taken back while the body came.
        """
        if self._claim is not None:
            matching = self._verifier.matches(self._claim.digest)
            self._verified = secrets.still_valid(matching) if matching else ()
            self.verified_by = self._verified[0].label if self._verified else None
        return self.verified_by is not None

    def signer(self, event: Event, speaks_for: SpeaksFor) -> str | None:
        """Return the scope under which the verified event is taken; None where no secret of it speaks for the event.

        A scope that says more than ``EVERYTHING`` comes first.
        """
        everything = None
        for secret in self._verified:
            for scope in secret.scopes:
                if scope == EVERYTHING:
                    everything = everything or secret
                elif speaks_for(scope, event):
                    self.verified_by = secret.label
                    return scope
        if everything is None:
            return None
        self.verified_by = everything.label
        return EVERYTHING

    def fingerprint(self, body: bytes) -> bytes:
        """Return 32 bytes by which a verified body is recognised when it comes again.

        A signature of the body stands for it: hashing a large body takes as long as verifying it. The signature is
        hashed, because together with the body it would be enough to send the delivery again. A hash of the body alone
        can be made by anybody, so the forge is part of it: no forge takes the place of another's delivery.
        """
        claim = self._claim
        digest = hashlib.sha256(self._sender)
        digest.update(claim.digest if claim is not None and claim.covers_body else body)
        return digest.digest()


class Webhook:
    """The rules of the endpoint of one forge.

    ``admit`` asks the plugins before the body is read. ``take`` makes a verified event, with the fingerprint of its
    body, durable and hands it on; it calls back with a ``DeliveryResult``, or with a Failure of JournalError. ``now``
    is the wall clock, ``max_body`` is in bytes. ``client_of`` returns the address of a client behind a trusted proxy,
    None for the one that connected. ``speaks_for`` tells for which events a secret of a scope may speak; one of the
    scope ``EVERYTHING`` may for all. What a secret does not speak for is refused as a wrong signature is.
    """

    __slots__ = (
        "_admit",
        "_client_of",
        "_forge",
        "_max_body",
        "_now",
        "_observe",
        "_secrets",
        "_sender",
        "_speaks_for",
        "_take",
        "on_refused",
    )

    def __init__(
        self,
        forge: Forge,
        *,
        secrets: Secrets,
        admit: Callable[[RequestHead], Refused | None],
        observe: Callable[[Occurrence], None],
        take: Take,
        now: Callable[[], float],
        max_body: int,
        client_of: Callable[[RequestHead], str | None] = lambda _: None,
        speaks_for: SpeaksFor = for_nothing,
    ) -> None:
        self._speaks_for = speaks_for
        self._forge = forge
        self._client_of = client_of
        # A name has no colon. GitHub's fingerprints are of signatures under its own secrets, and need no name.
        self._sender = b"" if forge.name == GITHUB else f"{forge.name}:".encode()
        self._secrets = secrets
        self._admit = admit
        self._observe = observe
        self.on_refused = refusals.RefusalReporter(observe, client_of)
        self._take = take
        self._now = now
        self._max_body = max_body

    def change(self, forge: Forge, secrets: Secrets, max_body: int) -> None:
        """Take deliveries of the same forge by other secrets and bounds.

        A request whose head was read goes on, unless its secret is no longer among these.
        """
        self._forge = forge
        self._secrets = secrets
        self._max_body = max_body

    def known_secrets(self) -> dict[str, bool]:
        """Return the secrets that are configured now, as ``Secrets.known`` does."""
        return self._secrets.known()

    def signed_by(self, body: bytes, digest: bytes) -> str | None:
        """Return the label of a secret that is valid now, and under which a body has a digest; None without one."""
        verifier = self._secrets.begin()
        verifier.update(body)
        found = self._secrets.still_valid(verifier.matches(digest))
        return found[0].label if found else None

    def handle_head(self, head: RequestHead, length: int | None) -> SignedBody | Refusal:
        """Return the body to read, or refuse the request by its head. The caller reports a Refusal to the observers."""
        verifier = self._secrets.begin()
        if not verifier:
            return refusals.NO_SECRET
        if head.method != b"POST":
            return method_not_allowed("POST")
        encodings = head.headers.get(b"content-encoding")
        if encodings is not None and any(each.strip().lower() not in (b"", b"identity") for each in encodings):
            return refusals.ENCODING
        if length is not None and length > self._max_body:
            return TOO_LARGE
        claim = self._forge.claim(head.headers)
        verdict = self._admit(head)
        refused = refusals.from_plugin(verdict) if verdict else None
        if verdict and refused and (claim is None or not verdict.unless_verified):
            return refused
        if claim is None and b"expect" in head.headers:
            return refusals.SIGNATURE  # the sender waits before it sends a body that would change nothing
        return SignedBody(
            head, limit=self._max_body, verifier=verifier, claim=claim, refused=refused, sender=self._sender
        )

    def handle_request(self, request: ServerRequest) -> None:
        """Answer a request that has arrived whole; a delivery is answered once it is durable."""
        signed: SignedBody = request.body_sink
        answer = request.answer
        if not signed.verified(self._secrets):
            answer(self._refuse(signed, signed.refused or refusals.SIGNATURE))
            return
        body = request.body  # once: it is joined anew each time
        event = self._decode(signed, body)
        if not isinstance(event, Event):
            answer(Response(status=204))
            return
        signer = signed.signer(event, self._speaks_for)
        if signer is None:
            answer(self._refuse(signed, signed.refused or refusals.SCOPE))
            return
        if signer != event.signer:
            event = msgspec.structs.replace(event, signer=signer)
        self._take(event, signed.fingerprint(body), lambda taken: answer(self._answer(signed, event, taken)))

    def _answer(self, signed: SignedBody, event: Event, taken: DeliveryResult | Failure) -> Response:
        if isinstance(taken, Failure):
            if taken.check(JournalError):
                return self._refuse(signed, refusals.JOURNAL)
            _log.error("a delivery could not be taken: {problem}", problem=describe(taken.value))
            return FAILED.response
        if taken.refused:
            return self._refuse(signed, refusals.REPLAYED)
        self._observe(
            Occurrence(
                name="duplicate" if taken.duplicate else "accepted",
                event=event.name,
                action=event.action,
                delivery=event.delivery,
                repo=event.repo,
                id=taken.id,
                client=self._client_of(signed.head) or signed.head.client,
                outcome=self._outcome(event, taken),
                verified_by=signed.verified_by,
            )
        )
        if not taken.handled and not isinstance(event, Push):
            return Response(status=204)
        return Response(status=202, body={"id": taken.id, "duplicate": taken.duplicate})

    def _decode(self, signed: SignedBody, body: bytes) -> Event | Unrecognised:
        """Return the event in a verified body; where it is none, tell the observers why."""
        headers = signed.head.headers
        # An id made up here, where the sender gave none, is no duplicate of another.
        delivery = self._forge.delivery(headers) or f"stackit-{uuid.uuid4().hex}"
        hook = qualified_hook(self._forge, self._forge.hook(headers))
        event = self._forge.decode(headers, body, delivery=delivery, hook=hook, received_at=self._now())
        if not isinstance(event, Event):
            self._observe(
                Occurrence(
                    name="accepted",
                    delivery=delivery,
                    outcome="unrecognised",
                    reason=event,
                    verified_by=signed.verified_by,
                )
            )
        return event

    def _outcome(self, event: Event, taken: DeliveryResult) -> str | None:
        """Return the outcome of a delivery for the observers; a duplicate has none of its own."""
        if taken.duplicate:
            return None
        if taken.handled:
            return "queued"
        return "ping" if self._forge.is_ping(event) else "unhandled"

    def _refuse(self, signed: SignedBody, refusal: Refusal) -> Response:
        self.on_refused(signed.head.client, signed.head, refusal, signed.verified_by)
        return refusal.response


class WebhookResource(HandlerResource):
    """The endpoint as a resource, for any ``twisted.web.server.Site``."""

    def __init__(self, webhook: Webhook) -> None:
        super().__init__(webhook, on_refused=webhook.on_refused, on_failure=log_failure)
