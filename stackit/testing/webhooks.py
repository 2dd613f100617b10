"""Deliveries on their way: each is posted once, as GitHub does not try again by itself."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import treq
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.web.client import Agent, HTTPConnectionPool, RequestTransmissionFailed, ResponseFailed
from twisted.web.http_headers import Headers

from stackit.api.reactor import Reactor
from stackit.testing.bare import RefMoved
from stackit.testing.deliveries import SignedDelivery

ANSWER_WITHIN = 10.0
"""Seconds within which GitHub wants an answer ("Best practices for using webhooks"); its Enterprise Server: 30."""


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


class Posted(msgspec.Struct, frozen=True, kw_only=True):
    """The end of an attempt: the answer, or the ``error``. ``late``: the answer did not come in time."""

    seconds: float
    status: int | None = None
    headers: Mapping[str, str] | None = None
    body: bytes = b""
    error: str = ""
    late: bool = False


class Poster:
    """Posts deliveries over kept connections."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = 8
        # A delivery is sent once: trying again over a new connection is not for us to decide.
        self._pool.retryAutomatically = False
        self._client = HTTPClient(Agent(reactor, connectTimeout=ANSWER_WITHIN, pool=self._pool))  # type: ignore[arg-type]  # zope

    async def post(self, url: str, made: SignedDelivery, within: float = ANSWER_WITHIN) -> Posted:
        """Post a delivery, and wait ``within`` seconds for the answer."""
        start = self._reactor.seconds()
        error, late = "", False
        try:
            headers = Headers({name: [value] for name, value in made.headers.items()})
            response = await self._client.post(url, data=made.body, headers=headers, timeout=within)
            body = await treq.content(response)
            pairs = response.headers.getAllRawHeaders()
            return Posted(
                seconds=self._reactor.seconds() - start,
                status=response.code,
                headers={name.decode("latin-1"): b", ".join(values).decode("latin-1") for name, values in pairs},
                body=body,
            )
        except (RequestTransmissionFailed, ResponseFailed) as problem:
            error = "; ".join(reason.getErrorMessage() for reason in problem.reasons) or "no answer"
            late = any(reason.check(CancelledError) for reason in problem.reasons)
        except (ConnectError, ConnectingCancelledError, DNSLookupError) as problem:
            error = str(problem)
        return Posted(seconds=self._reactor.seconds() - start, error=error, late=late)

    async def close(self) -> None:
        """Close the connections that were kept."""
        await self._pool.closeCachedConnections()
