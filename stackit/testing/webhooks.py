"""The webhook of the pretend GitHub: sends signed deliveries, and remembers them for a redelivery."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import msgspec
import treq
from treq.client import HTTPClient
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.web.client import Agent, HTTPConnectionPool, RequestTransmissionFailed, ResponseFailed
from twisted.web.http_headers import Headers

from stackit.api.reactor import Reactor
from stackit.testing.bare import RefMoved
from stackit.testing.deliveries import HOOK_ID, SignedDelivery, delivery

ANSWER_WITHIN = 10.0
"""Seconds within which GitHub wants an answer ("Best practices for using webhooks")."""

_REMEMBERED = 1000


class DeliverySent(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a delivery, as GitHub's page of recent deliveries would show it.

    ``status`` is the status of the answer and ``body`` its body; without an answer (none in time, none at all, or
    the delivery was lost on purpose) ``status`` is None, and ``error`` says why. ``seconds`` is how long it took.
    ``moved`` is the ref change that the delivery told of, where it did.
    """

    guid: str
    status: int | None
    seconds: float
    body: bytes = b""
    error: str = ""
    moved: RefMoved | None = None


class WebhookSender:
    """One webhook. It sends each delivery once: GitHub does not try again by itself."""

    def __init__(self, reactor: Reactor, url: str, secret: str | bytes, *, hook_id: int = HOOK_ID, form: bool) -> None:
        self.url = url
        self.hook_id = hook_id
        self._reactor = reactor
        self._secret = secret
        self._form = form
        self._losing = 0
        self._sent: OrderedDict[str, SignedDelivery] = OrderedDict()
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = 8
        # A delivery is sent once: trying again over a new connection is not for us to decide.
        self._pool.retryAutomatically = False
        self._client = HTTPClient(Agent(reactor, connectTimeout=ANSWER_WITHIN, pool=self._pool))  # type: ignore[arg-type]  # zope

    def lose_next(self, count: int = 1) -> None:
        """Do not send the next ``count`` deliveries, as GitHub does on a bad day."""
        self._losing += count

    async def send(
        self, event: str, payload: Mapping[str, Any] | bytes | None, *, guid: str | None = None
    ) -> DeliverySent:
        """Sign and send a delivery; without ``payload``, one is made up."""
        made = delivery(event, payload, secret=self._secret, guid=guid, hook_id=self.hook_id, form=self._form)
        self._sent[made.guid] = made
        while len(self._sent) > _REMEMBERED:
            self._sent.popitem(last=False)
        if self._losing:
            self._losing -= 1
            return DeliverySent(guid=made.guid, status=None, seconds=0.0, error="lost on purpose")
        return await self._post(made)

    async def redeliver(self, guid: str) -> DeliverySent:
        """Send a delivery again, with the same id, as "Redelivering webhooks" has it. Raises LookupError."""
        if guid not in self._sent:
            raise LookupError(f"no delivery {guid} was ever made, or it is too long ago")
        return await self._post(self._sent[guid])

    async def close(self) -> None:
        """Close the connections that were kept."""
        await self._pool.closeCachedConnections()

    async def _post(self, made: SignedDelivery) -> DeliverySent:
        start = self._reactor.seconds()
        status, body, error = None, b"", ""
        try:
            headers = Headers({name: [value] for name, value in made.headers.items()})
            response = await self._client.post(self.url, data=made.body, headers=headers, timeout=ANSWER_WITHIN)
            status, body = response.code, await treq.content(response)
        except (RequestTransmissionFailed, ResponseFailed) as problem:
            error = "; ".join(reason.getErrorMessage() for reason in problem.reasons) or "no answer"
        except (ConnectError, ConnectingCancelledError) as problem:
            error = str(problem)
        seconds = self._reactor.seconds() - start
        return DeliverySent(guid=made.guid, status=status, seconds=seconds, body=body, error=error)
