"""The rules of the webhook endpoint: what is let in, and what it is answered.

``Webhook`` is a handler of requests, as ``BoundedSite`` serves it. ``WebhookResource`` serves it under any Site of
twisted.web.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable
from functools import lru_cache

from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.admin import Refused, RequestHead, Response, error
from stackit.api.errors import JournalError, describe
from stackit.api.events import DeliveryResult, Event, Push
from stackit.api.occurrences import Occurrence
from stackit.github import signature
from stackit.github.event_types import PING
from stackit.github.payloads import Encoding, decode, json_text
from stackit.github.signature import Secrets, Verifier
from stackit.http.server.interfaces import ServerRequest
from stackit.http.server.refusals import FAILED, TOO_LARGE, Refusal, method_not_allowed
from stackit.http.server.resource import HandlerResource
from stackit.web import refusals
from stackit.web.failures import log_failure

_log = Logger(namespace="stackit")

Take = Callable[[Event, bytes, Callable[[DeliveryResult | Failure], object]], None]

_DELIVERY = re.compile(rb"[A-Za-z0-9-]{1,64}")
_HOOK = re.compile(rb"[0-9]+")
_LONGEST_HOOK = 20


class SignedUpload:
    """The body of a request to the webhook, while it streams in.

    One that cannot turn out to be signed is read only so that its sender can be answered; none of it
    is kept. ``refused`` is what a plugin has against the request, unless it verifies. ``verified_by`` is the label
    of the secret by which it did.
    """

    __slots__ = ("_claimed", "_verifier", "head", "keep", "limit", "refused", "throttled", "verified_by")

    def __init__(
        self, head: RequestHead, *, limit: int, verifier: Verifier, claimed: bytes | None, refused: Refusal | None
    ) -> None:
        self.head = head
        self.limit = limit
        self.keep = claimed is not None
        self.throttled = refused is not None
        self.refused = refused
        self.verified_by: str | None = None
        self._verifier = verifier
        self._claimed = claimed

    def update(self, chunk: bytes) -> None:
        if self._claimed is not None:
            self._verifier.update(chunk)

    def verified(self) -> bool:
        """Whether the whole body carries the signature that the head claims."""
        if self._claimed is not None:
            self.verified_by = self._verifier.matches(self._claimed)
        return self.verified_by is not None

    @property
    def fingerprint(self) -> bytes:
        """What a verified body is recognised by when it comes back: 32 bytes.

        A signature that verified stands for the body, and hashing a large one again takes as long as verifying it.
        It is hashed itself, since whoever has body and signature can send them.
        """
        return hashlib.sha256(self._claimed or b"").digest()


class Webhook:
    """The endpoint's rules.

    ``admit`` asks the plugins before the body is read. ``take`` makes a verified event (with the
    fingerprint of its body) durable, hands it on, and calls back with what became of it, or with a Failure of
    JournalError. ``now`` is the wall clock; ``max_body`` is in bytes; ``accepts`` is how JSON may come, see
    ``json_text``.
    """

    __slots__ = (
        "_accepts",
        "_admit",
        "_max_body",
        "_now",
        "_observe",
        "_secrets",
        "_take",
    )

    def __init__(
        self,
        *,
        secrets: Secrets,
        admit: Callable[[RequestHead], Refused | None],
        observe: Callable[[Occurrence], None],
        take: Take,
        now: Callable[[], float],
        max_body: int,
        accepts: Encoding = "any",
    ) -> None:
        self._accepts = accepts
        self._secrets = secrets
        self._admit = admit
        self._observe = observe
        self._take = take
        self._now = now
        self._max_body = max_body

    def handle_head(self, head: RequestHead, length: int | None) -> SignedUpload | Refusal:
        """Judge a request by its head, in the order of the contract. The caller observes a Refusal."""
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
        claimed = signature.parse(head.headers.get(signature.HEADER, ()))
        verdict = self._admit(head)
        refused = _refusal(verdict) if verdict else None
        if verdict and refused and (claimed is None or not verdict.unless_verified):
            return refused
        if claimed is None and b"expect" in head.headers:
            return refusals.SIGNATURE  # its sender waits to be asked for a body that would change nothing
        return SignedUpload(head, limit=self._max_body, verifier=verifier, claimed=claimed, refused=refused)

    def handle_request(self, request: ServerRequest) -> None:
        """Answer a request that has arrived whole: one that makes a delivery, once that is durable."""
        upload: SignedUpload = request.body_sink
        answer = request.answer
        if not upload.verified():
            answer(self._turn_away(upload, upload.refused or refusals.SIGNATURE))
            return
        delivery, hook = _identity(upload.head)
        event = self._recognise(upload.head, request.body, delivery, hook)
        if not isinstance(event, Event):
            said = Occurrence(
                name="accepted",
                delivery=delivery,
                outcome="unrecognised",
                reason=event,
                verified_by=upload.verified_by,
            )
            answer(self._nothing_to_do(said))
            return
        self._take(event, upload.fingerprint, lambda taken: answer(self._answer(upload, event, taken)))

    def _answer(self, upload: SignedUpload, event: Event, taken: DeliveryResult | Failure) -> Response:
        if isinstance(taken, Failure):
            if taken.check(JournalError):
                return self._turn_away(upload, refusals.JOURNAL)
            _log.error("a delivery could not be taken: {problem}", problem=describe(taken.value))
            return FAILED.response
        if taken.refused:
            return self._turn_away(upload, refusals.REPLAYED)
        self._observe(
            Occurrence(
                name="duplicate" if taken.duplicate else "accepted",
                event=event.name,
                action=event.action,
                delivery=event.delivery,
                repo=event.repo,
                id=taken.id,
                client=upload.head.client,
                outcome=_outcome(event, taken),
                verified_by=upload.verified_by,
            )
        )
        if not taken.handled and not isinstance(event, Push):
            return Response(status=204)
        return Response(status=202, body={"id": taken.id, "duplicate": taken.duplicate})

    def _recognise(self, head: RequestHead, body: bytes, delivery: str, hook: str) -> Event | str:
        """The event, or what is wrong with it."""
        names = head.headers.get(b"x-github-event", ())
        types = head.headers.get(b"content-type", ())
        if len(names) != 1:
            return "event_name"
        text = None if len(types) > 1 else json_text(body, types[0] if types else None, self._accepts)
        if text is None:
            return "content_type"
        event = decode(
            names[0].decode("latin-1"),
            text,
            id="",
            delivery=delivery,
            hook=hook,
            received_at=self._now(),
        )
        return "shape" if event is None else event

    def _nothing_to_do(self, occurrence: Occurrence) -> Response:
        self._observe(occurrence)
        return Response(status=204)

    def _turn_away(self, upload: SignedUpload, refusal: Refusal) -> Response:
        self.on_refused(upload.head.client, upload.head, refusal, upload.verified_by)
        return refusal.response

    def on_refused(
        self, client: str, head: RequestHead | None, refusal: Refusal, verified_by: str | None = None
    ) -> None:
        """Tell the observers about a request that was refused. ``client`` is an address."""
        self._observe(
            Occurrence(
                name="refused",
                reason=refusal.reason,
                status=refusal.response.status,
                client=client,
                request=head,
                verified_by=verified_by,
            )
        )


def _outcome(event: Event, taken: DeliveryResult) -> str | None:
    """What becomes of a delivery; of a duplicate, nothing more."""
    if taken.duplicate:
        return None
    if taken.handled:
        return "queued"
    return PING if event.name == PING else "unhandled"


def _identity(head: RequestHead) -> tuple[str, str]:
    """The delivery's id and its hook's; an id made up here where none can be believed, so that it is no duplicate."""
    deliveries = head.headers.get(b"x-github-delivery", ())
    hooks = head.headers.get(b"x-github-hook-id", ())
    sound = len(deliveries) == 1 and _DELIVERY.fullmatch(deliveries[0])
    delivery = deliveries[0].decode("ascii") if sound else f"stackit-{uuid.uuid4().hex}"
    return delivery, _hook_id(hooks[0]) if len(hooks) == 1 and len(hooks[0]) <= _LONGEST_HOOK else ""


@lru_cache(maxsize=256)
def _hook_id(value: bytes) -> str:
    """Few hooks send all deliveries."""
    return value.decode("ascii") if _HOOK.fullmatch(value) else ""


def _refusal(refused: Refused) -> Refusal:
    texts = {429: "too many refused requests", 403: "forbidden"}
    headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
    body = error(refused.status, texts.get(refused.status, "refused")).body
    return Refusal(refused.reason, Response(status=refused.status, body=body, headers=headers))


class WebhookResource(HandlerResource):
    """The endpoint as a resource, for any ``twisted.web.server.Site``."""

    def __init__(self, webhook: Webhook) -> None:
        super().__init__(webhook, on_refused=webhook.on_refused, on_failure=log_failure)
