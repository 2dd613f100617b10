"""A client of git's protocol v2 over HTTP, on connections that stay open: a request costs one round trip."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from stackit import ManagedRepo, Reactor
from stackit.http.client import ConnectionPool, RemoteError, Response, parse_retry_after
from stackit.plugins.mirror.remote import protocol_v2
from stackit.plugins.mirror.remote.circuit_breaker import OLD_PROTOCOL, CircuitBreaker
from stackit.plugins.mirror.remote.protocol_v2 import ProtocolError, RefusedError

RETRY_AFTER_429 = 60.0
"""Seconds without requests to a host that answers 429 and names none, as GitHub's documentation asks."""


class AnswerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The most bytes of each kind of answer, which is held in memory. A larger pack or list comes by git."""

    advertisement: int = 64 * 1024
    """In protocol v2 it has capabilities only; in older protocols it lists all refs."""
    listing: int = 64 * 2**20
    pack: int = 16 * 2**20


class Silence:
    """The silence that a host asked for: of all who ask it, or of those who have the same tokens."""

    def __init__(self) -> None:
        self.until = 0.0
        """Its end by the reactor's clock."""

    def last(self, until: float) -> None:
        """Let it last at least until then."""
        self.until = max(self.until, until)


class Remote:
    """The remote of one repository. Methods raise RemoteError, and StackitError for a broken token file.

    ``now`` is the wall clock. ``host`` is the value of the ``Host`` header, ``path`` that of the URL, quoted.
    ``silence`` is what the host asks for.
    """

    def __init__(
        self,
        reactor: Reactor,
        now: Callable[[], float],
        pool: ConnectionPool,
        managed: ManagedRepo,
        host: str,
        path: str,
        limits: AnswerLimits,
        silence: Silence,
    ) -> None:
        self._reactor = reactor
        self._now = now
        self._pool = pool
        self._managed = managed
        self._host = host
        self._path = path
        self._limits = limits
        self._silence = silence
        self._speaks_v2: bool | None = None
        self._old = CircuitBreaker(reactor, OLD_PROTOCOL)
        self._listing = CircuitBreaker(reactor)
        self._packing = CircuitBreaker(reactor)

    @property
    def quiet_until(self) -> float:
        """The reactor's time until which the host wants fewer requests, so that routine checks shall wait."""
        return self._silence.until

    async def check_ready(self) -> None:
        """Return if the remote speaks protocol v2, and no circuit breaker is open.

        The remote is asked once, as git does it, unless git already told (``set_speaks_v2``).
        """
        for breaker in (self._old, self._listing, self._packing):
            breaker.check()
        if not self._speaks_v2:
            await self._discover()

    def set_speaks_v2(self, *, speaks: bool) -> None:
        """Remember if the remote speaks protocol v2, as git has found out."""
        self._speaks_v2 = speaks
        if speaks:
            self._old.succeeded()
        else:
            self._old.failed("protocol")

    def reject_listing(self, problem: ProtocolError) -> RemoteError:
        """Return the error for a list of refs that could not be parsed, and open the circuit breaker of lists."""
        error = _remote_error(problem)
        self._listing.failed(error.reason)
        return error

    async def list_refs(self, prefixes: Iterable[bytes], object_format: str) -> bytes:
        """Return the remote's list of the refs that begin with any of the prefixes, unparsed."""
        return await self.ls_refs(protocol_v2.ls_refs_request(prefixes, object_format))

    async def ls_refs(self, request: bytes, *, patient: bool = False) -> bytes:
        """Return the answer to a ``protocol_v2.ls_refs_request``, unparsed: equal bytes mean equal refs.

        A ``patient`` request waits while many are under way to this host.
        """
        self._old.check()
        self._listing.check()
        if not self._speaks_v2:
            await self._discover()
        with _reporting_to(self._listing):
            return _complete(await self._post(request, self._limits.listing, patient=patient))

    async def fetch_pack(self, wants: Sequence[str], haves: Sequence[str]) -> bytes:
        """Return a pack of ``wants`` and all they need beyond ``haves`` (object ids). ``check_ready`` comes first."""
        # The remote may not have this commit yet, or its pack may be large: neither tells of the next push.
        with _reporting_to(self._packing, ("refused", "too_large")):
            answer = await self._post(protocol_v2.fetch_request(wants, haves, _object_format(wants)), self._limits.pack)
            try:
                return protocol_v2.parse_pack(answer)
            except ProtocolError as problem:
                raise _remote_error(problem) from problem

    async def _discover(self) -> None:
        """Ask the remote for its protocol. Raises RemoteError if that is not v2."""

        def request() -> bytes:
            return self._head("GET", f"/info/refs?service={protocol_v2.SERVICE}", "Accept: */*\r\n")

        with _reporting_to(self._listing):
            answer = await self._ask(request, self._limits.advertisement)
            self._check_status(answer)
            if not answer.too_large and _content_type(answer) != protocol_v2.ADVERTISEMENT_TYPE:
                raise RemoteError("not_git")
        self.set_speaks_v2(speaks=not answer.too_large and protocol_v2.speaks_v2(answer.body))
        self._old.check()

    async def _post(self, request: bytes, limit: int, *, patient: bool = False) -> bytes:
        answer = await self._ask(lambda: self._post_head(len(request)) + request, limit, patient=patient)
        self._check_status(answer)
        if answer.too_large:
            raise RemoteError("too_large")
        if _content_type(answer) != protocol_v2.RESULT_TYPE:
            raise RemoteError("not_git")  # such as the login page of a proxy
        return answer.body

    async def _ask(self, request: Callable[[], bytes], limit: int, *, patient: bool = False) -> Response:
        """Send a request, and again where its token was refused and another try makes sense.

        ``request`` makes it with the token of the moment.
        """
        source = self._managed.token_source
        if source is None:
            return await self._pool.request(request(), limit, patient=patient)
        await source.ready()
        while True:
            token = source.current()
            answer = await self._pool.request(request(), limit, patient=patient)
            if answer.status == 200:
                source.accepted(token)
                return answer
            refused = answer.status in (401, 403, 404) and b"retry-after" not in answer.headers
            if not refused or not await source.rejected(token, answer.status):
                return answer

    def _check_status(self, answer: Response) -> None:
        if answer.status != 200:
            # A redirect, too: the token must not go to another host, and a person has to know that the URL changed.
            raise RemoteError("status", status=answer.status, retry_after=self._retry_after(answer))

    def _post_head(self, length: int) -> bytes:
        return self._head(
            "POST",
            f"/{protocol_v2.SERVICE}",
            f"Content-Type: application/x-{protocol_v2.SERVICE}-request\r\n"
            f"Accept: {protocol_v2.RESULT_TYPE}\r\n"
            f"Content-Length: {length}\r\n",
        )

    def _head(self, method: str, path: str, headers: str) -> bytes:
        credentials = self._managed.authorization()
        authorization = "" if credentials is None else f"Authorization: {credentials}\r\n"
        return (
            f"{method} {self._path}{path} HTTP/1.1\r\n"
            f"Host: {self._host}\r\n"
            "Git-Protocol: version=2\r\n"
            "User-Agent: git/2 (stackit)\r\n"
            f"{headers}{authorization}"
            "\r\n"
        ).encode("ascii")

    def _retry_after(self, answer: Response) -> float | None:
        """Return the seconds in which the remote wants no request.

        Those of a rate limit hold for all who ask the host, or for all with tokens of the same source.
        """
        if answer.status not in (403, 429, 503):
            return None
        value = answer.headers.get(b"retry-after", (b"",))[0].decode("latin-1")
        seconds = parse_retry_after(value, self._now()) if value else None
        if seconds is None and answer.status == 429:
            seconds = RETRY_AFTER_429
        if seconds is not None and answer.status != 503:  # which may be about this repository alone
            self._silence.last(self._reactor.seconds() + seconds)
        return seconds


@contextlib.contextmanager
def _reporting_to(breaker: CircuitBreaker, accepted: tuple[str, ...] = ()) -> Iterator[None]:
    """Report success or failure to the breaker; a rate limit, or a failure with an ``accepted`` reason, is neither."""
    try:
        yield
    except RemoteError as problem:
        if problem.retry_after is None and problem.reason not in accepted:
            breaker.failed(problem.reason)
        raise
    breaker.succeeded()


def _complete(answer: bytes) -> bytes:
    """Return the answer if it is a list of refs with an end. Raises RemoteError."""
    if answer[4:8] == b"ERR ":
        raise RemoteError("refused")
    if not answer.endswith(protocol_v2.FLUSH):
        raise RemoteError("protocol")
    return answer


def _content_type(answer: Response) -> str:
    value = answer.headers.get(b"content-type", (b"",))[0].decode("latin-1")
    return value.partition(";")[0].strip().lower()


def _object_format(oids: Sequence[str]) -> str:
    return "sha256" if oids and len(oids[0]) == 64 else "sha1"


def _remote_error(problem: ProtocolError) -> RemoteError:
    return RemoteError("refused" if isinstance(problem, RefusedError) else "protocol")
