"""A remote asked directly over HTTP, on connections that stay open: no process, no handshake, one round trip."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http_headers import Headers

from stackit import ManagedRepo, Reactor
from stackit.plugins.mirror import pktline
from stackit.plugins.mirror.pktline import Listing, ProtocolError, RefusedError

CONNECT_TIMEOUT = 10.0
ANSWER_TIMEOUT = 15.0
"""Seconds for a whole answer; git, which watches progress, does better with a slow one."""
LISTING_LIMIT = 64 * 2**20
PACK_LIMIT = 16 * 2**20
"""Bytes of answer that are worth holding in memory; what is larger, git fetches."""

_HUNG_UP = (RequestTransmissionFailed, ResponseNeverReceived)
_UNREACHABLE = (*_HUNG_UP, ConnectError, ConnectingCancelledError, DNSLookupError, ResponseFailed)


class Unanswered(Exception):
    """The remote did not answer as hoped. ``reason`` is from a small closed set, fit for a metric's label.

    ``retry_after`` is what the remote asked for, in seconds, where it did.
    """

    def __init__(self, reason: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(_in_words(reason, status, retry_after))
        self.reason = reason
        self.status = status
        self.retry_after = retry_after


class Remotes:
    """The connections to all remotes; at most ``concurrency`` are kept to each host."""

    def __init__(self, reactor: Reactor, concurrency: int) -> None:
        self._reactor = reactor
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = concurrency
        self._pool.retryAutomatically = False  # it knows nothing of POST; see Remote._ask
        agent: Any = Agent(reactor, connectTimeout=CONNECT_TIMEOUT, pool=self._pool)
        self._client = HTTPClient(agent)

    def of(self, managed: ManagedRepo) -> Remote | None:
        """The remote of a repository; None where its URL is not HTTP."""
        if urlsplit(managed.url).scheme not in ("http", "https"):
            return None
        return Remote(self._reactor, self._client, managed)

    async def close(self) -> None:
        """Close the connections that wait; nothing may be asked any more."""
        await self._pool.closeCachedConnections()


class Remote:
    """One repository at its remote. Every method raises Unanswered, and StackitError for a broken token file."""

    def __init__(self, reactor: Reactor, client: HTTPClient, managed: ManagedRepo) -> None:
        self._reactor = reactor
        self._client = client
        self._managed = managed
        self._url = f"{managed.url.rstrip('/')}/git-upload-pack"

    async def listing(self, prefixes: Iterable[bytes], object_format: str) -> bytes:
        """The remote's own words on its refs that begin with any of the prefixes: equal words mean equal refs."""
        return await self._ask(pktline.ls_refs(prefixes, object_format), LISTING_LIMIT)

    async def refs_and_pack(
        self, refs: Iterable[bytes], wants: Sequence[str], haves: Sequence[str]
    ) -> tuple[Listing, bytes]:
        """What the remote says of ``refs``, and a pack with ``wants``: asked in the same breath."""
        object_format = _object_format(wants)
        asked: list[Deferred[bytes]] = [
            Deferred.fromCoroutine(self.listing(refs, object_format)),
            Deferred.fromCoroutine(self._ask(pktline.fetch(wants, haves, object_format), PACK_LIMIT)),
        ]
        outcomes: list[Any] = await DeferredList(asked, consumeErrors=True)
        for succeeded, outcome in outcomes:
            if not succeeded:
                outcome.raiseException()
        (_, listed), (_, packed) = outcomes
        try:
            return pktline.listing(listed), pktline.pack(packed)
        except ProtocolError as problem:
            raise _unanswered(problem) from problem

    async def pack(self, wants: Sequence[str], haves: Sequence[str]) -> bytes:
        """A pack with ``wants`` and what they need beyond ``haves``."""
        answer = await self._ask(pktline.fetch(wants, haves, _object_format(wants)), PACK_LIMIT)
        try:
            return pktline.pack(answer)
        except ProtocolError as problem:
            raise _unanswered(problem) from problem

    async def _ask(self, request: bytes, limit: int) -> bytes:
        try:
            return await self._post(request, limit)
        except _HUNG_UP:
            # A connection that was kept had been closed meanwhile. Asking changes nothing, so it may be done twice.
            pass
        except _UNREACHABLE:
            raise Unanswered("unreachable") from None
        try:
            return await self._post(request, limit)
        except _UNREACHABLE:
            raise Unanswered("unreachable") from None

    async def _post(self, request: bytes, limit: int) -> bytes:
        posting = Deferred.fromCoroutine(self._exchange(request, limit))
        overdue = self._reactor.callLater(ANSWER_TIMEOUT, posting.cancel)
        try:
            return await posting
        except CancelledError:
            if overdue.active():
                raise
            raise Unanswered("timeout") from None
        finally:
            if overdue.active():
                overdue.cancel()

    async def _exchange(self, request: bytes, limit: int) -> bytes:
        response = await self._client.post(
            self._url,
            data=request,
            headers=self._headers(),
            # A token must go to no other host, and a move is for a person to know of.
            allow_redirects=False,
        )
        body = _Body(limit)
        response.deliverBody(body)
        answer = await body.done
        if response.code != 200:
            retry_after = response.headers.getRawHeaders(b"retry-after", [b""])[0]
            seconds = float(retry_after) if retry_after.isdigit() and len(retry_after) < 7 else None
            throttled = response.code in (429, 503)
            raise Unanswered("status", status=response.code, retry_after=seconds if throttled else None)
        if body.too_large:
            raise Unanswered("too_large")
        return answer

    def _headers(self) -> Headers:
        headers = {
            "Content-Type": "application/x-git-upload-pack-request",
            "Accept": "application/x-git-upload-pack-result",
            "Git-Protocol": "version=2",
            "User-Agent": "git/2 (stackit)",
        }
        token = self._managed.token()
        if token is not None:
            headers["Authorization"] = f"Basic {b64encode(f'x-access-token:{token}'.encode()).decode('ascii')}"
        return Headers({name: [value] for name, value in headers.items()})


class _Body(Protocol):
    """Collects an answer up to ``limit`` bytes; beyond that, hangs up."""

    def __init__(self, limit: int) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._hang_up())
        self.too_large = False
        self._limit = limit
        self._size = 0
        self._pieces: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._limit:
            self._pieces.append(data)
        elif not self.too_large:
            self.too_large = True
            self._hang_up()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if self.too_large or reason.check(ResponseDone):
            self.done.callback(b"".join(self._pieces))
        else:
            self.done.errback(Failure(ResponseFailed([reason])))

    def _hang_up(self) -> None:
        transport: Any = self.transport
        transport.loseConnection()


def _in_words(reason: str, status: int | None, retry_after: float | None) -> str:
    if retry_after is not None:
        return f"the remote asks for fewer requests: none for {retry_after:g} seconds"
    return reason if status is None else f"{reason} {status}"


def _object_format(oids: Sequence[str]) -> str:
    return "sha256" if oids and len(oids[0]) == 64 else "sha1"


def _unanswered(problem: ProtocolError) -> Unanswered:
    return Unanswered("refused" if isinstance(problem, RefusedError) else "protocol")
