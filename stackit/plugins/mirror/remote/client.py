"""A remote asked directly over HTTP, on connections that stay open: no process, no handshake, one round trip."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from urllib.parse import quote, urlsplit
from urllib.request import proxy_bypass

from stackit import ManagedRepo, Reactor
from stackit.http.client import Address, ConnectionPool, RemoteError, Response, Timeouts, TlsFiles, parse_retry_after
from stackit.plugins.mirror.remote import protocol_v2
from stackit.plugins.mirror.remote.circuit_breaker import OLD_PROTOCOL, CircuitBreaker
from stackit.plugins.mirror.remote.protocol_v2 import ProtocolError, RefusedError

__all__ = ["Remote", "RemoteError", "Remotes"]

CAPABILITIES_LIMIT = 64 * 1024
"""Bytes of what a remote says of itself in protocol v2; before, it lists all its refs there."""
LISTING_LIMIT = 64 * 2**20
PACK_LIMIT = 16 * 2**20
"""Bytes of answer that are worth holding in memory; what is larger, git fetches."""
SILENCE = 60.0
"""Seconds for which a host that answers 429 without more is left alone, as GitHub's documentation asks."""

_PORTS = {"http": 80, "https": 443}
# The variables that git knows, which is who asks where there is a proxy.
_PROXIES = {"http": ("http_proxy",), "https": ("https_proxy", "HTTPS_PROXY")}


class Remotes:
    """All remotes, by host; at most ``most`` connections are kept to each."""

    def __init__(
        self,
        reactor: Reactor,
        most: int,
        *,
        now: Callable[[], float] = time.time,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
    ) -> None:
        """``now`` is the wall clock, which tells how far away a date is."""
        self._reactor = reactor
        self._now = now
        self._most = most
        self._timeouts = timeouts
        self._hosts: dict[tuple[Address, TlsFiles], ConnectionPool] = {}

    def get(self, managed: ManagedRepo) -> Remote | None:
        """The remote of a repository; None where its URL is not HTTP, or has to be asked through a proxy."""
        parts = urlsplit(managed.url)
        if parts.scheme not in _PORTS or parts.hostname is None or _is_behind_proxy(parts.scheme, parts.hostname):
            return None
        try:
            name = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode("ascii")
            address = (parts.scheme, name, parts.port or _PORTS[parts.scheme])
            key = (address, _tls_files(managed))
            host = self._hosts.get(key) or ConnectionPool(
                self._reactor, address, self._most, _tls_files(managed), self._timeouts
            )
        except ValueError:
            return None  # no name that a host can have: git says what is wrong with it
        self._hosts[key] = host
        netloc = f"[{name}]" if ":" in name else name
        shown = netloc if parts.port is None else f"{netloc}:{parts.port}"
        path = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
        return Remote(self._reactor, self._now, host, managed, shown, path)

    async def close(self) -> None:
        """Close all connections; nothing may be asked any more."""
        for host in self._hosts.values():
            await host.close()


class Remote:
    """One repository at its remote. Every method raises RemoteError, and StackitError for a broken token file."""

    def __init__(
        self,
        reactor: Reactor,
        now: Callable[[], float],
        host: ConnectionPool,
        managed: ManagedRepo,
        netloc: str,
        path: str,
    ) -> None:
        self._reactor = reactor
        self._now = now
        self._host = host
        self._managed = managed
        self._netloc = netloc
        self._path = path
        self._speaks: bool | None = None
        self._old = CircuitBreaker(reactor, OLD_PROTOCOL)
        self._listing = CircuitBreaker(reactor)
        self._packing = CircuitBreaker(reactor)

    @property
    def quiet_until(self) -> float:
        """Until when the host wants to be asked less, by the reactor's clock: looks that nobody waits for have time."""
        return self._host.quiet_until

    async def check_ready(self) -> None:
        """Return if the remote speaks protocol v2 and answered the last request.

        The remote is asked once, as git does it, unless git already told (``set_speaks_v2``).
        """
        for gate in (self._old, self._listing, self._packing):
            gate.check()
        if not self._speaks:
            await self._introduced()

    def set_speaks_v2(self, *, speaks: bool) -> None:
        """Whether the remote speaks protocol v2, as somebody else found out."""
        self._speaks = speaks
        if speaks:
            self._old.succeeded()
        else:
            self._old.failed("protocol")

    def reject_listing(self, problem: ProtocolError) -> RemoteError:
        """What a list of refs that makes no sense, or is none, amounts to; the remote is left alone for a while."""
        error = _remote_error(problem)
        self._listing.failed(error.reason)
        return error

    async def list_refs(self, prefixes: Iterable[bytes], object_format: str) -> bytes:
        """The remote's own words on its refs that begin with any of the prefixes: equal words mean equal refs."""
        return await self.ls_refs(protocol_v2.ls_refs_request(prefixes, object_format))

    async def ls_refs(self, question: bytes, *, patient: bool = False) -> bytes:
        """Return the answer to a ``protocol_v2.ls_refs_request``.

        A ``patient`` request waits while many are under way to this host.
        """
        self._old.check()
        self._listing.check()
        if not self._speaks:
            await self._introduced()
        with _watched(self._listing):
            return _ended(await self._ask(question, LISTING_LIMIT, patient=patient))

    async def fetch_pack(self, wants: Sequence[str], haves: Sequence[str]) -> bytes:
        """A pack with ``wants`` and what they need beyond ``haves``, of a remote that is ``check_ready``."""
        # It may not have the commit yet, and the pack may be large: the next push is another.
        with _watched(self._packing, ("refused", "too_large")):
            answer = await self._ask(protocol_v2.fetch_request(wants, haves, _object_format(wants)), PACK_LIMIT)
            try:
                return protocol_v2.parse_pack(answer)
            except ProtocolError as problem:
                raise _remote_error(problem) from problem

    async def _introduced(self) -> None:
        """Ask the remote what it speaks. Raises RemoteError where that is not protocol v2."""
        head = self._head("GET", f"/info/refs?service={protocol_v2.SERVICE}", "Accept: */*\r\n")
        with _watched(self._listing):
            answer = await self._host.request(head, CAPABILITIES_LIMIT)
            self._check(answer)
            if not answer.too_large and _content_type(answer) != protocol_v2.ADVERTISEMENT_TYPE:
                raise RemoteError("not_git")
        self.set_speaks_v2(speaks=not answer.too_large and protocol_v2.speaks_v2(answer.body))
        self._old.check()

    async def _ask(self, question: bytes, limit: int, *, patient: bool = False) -> bytes:
        answer = await self._host.request(self._question_head(len(question)) + question, limit, patient=patient)
        self._check(answer)
        if answer.too_large:
            raise RemoteError("too_large")
        if _content_type(answer) != protocol_v2.RESULT_TYPE:
            raise RemoteError("not_git")  # a page of somebody else, whatever is in it
        return answer.body

    def _check(self, answer: Response) -> None:
        if answer.status != 200:
            # Also a redirect: a token must go to no other host, and a move is for a person to know of.
            raise RemoteError("status", status=answer.status, retry_after=self._retry_after(answer))

    def _question_head(self, length: int) -> bytes:
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
            f"Host: {self._netloc}\r\n"
            "Git-Protocol: version=2\r\n"
            "User-Agent: git/2 (stackit)\r\n"
            f"{headers}{authorization}"
            "\r\n"
        ).encode("ascii")

    def _retry_after(self, answer: Response) -> float | None:
        """For how many seconds there shall be no request. A limit on requests holds for the whole host."""
        if answer.status not in (403, 429, 503):
            return None
        said = answer.headers.get(b"retry-after", (b"",))[0].decode("latin-1")
        seconds = parse_retry_after(said, self._now()) if said else None
        if seconds is None and answer.status == 429:
            seconds = SILENCE
        if seconds is not None and answer.status != 503:  # which may be this repository's own trouble
            self._host.quiet_until = max(self._host.quiet_until, self._reactor.seconds() + seconds)
        return seconds


@contextlib.contextmanager
def _watched(gate: CircuitBreaker, accepted: tuple[str, ...] = ()) -> Iterator[None]:
    """Close the gate where the remote does not answer as hoped, but for ``accepted`` reasons; open it where it does."""
    try:
        yield
    except RemoteError as problem:
        if problem.retry_after is None and problem.reason not in accepted:
            gate.failed(problem.reason)
        raise
    gate.succeeded()


def _ended(words: bytes) -> bytes:
    """The words, if they are a list that has an end. Raises RemoteError."""
    if words[4:8] == b"ERR ":
        raise RemoteError("refused")
    if not words.endswith(protocol_v2.FLUSH):
        raise RemoteError("protocol")
    return words


def _content_type(answer: Response) -> str:
    said = answer.headers.get(b"content-type", (b"",))[0].decode("latin-1")
    return said.partition(";")[0].strip().lower()


def _is_behind_proxy(scheme: str, host: str) -> bool:
    """Whether git, as it is run here, would ask this host through a proxy."""
    proxies = any(os.environ.get(name) for name in _PROXIES[scheme])
    return proxies and not proxy_bypass(host)


def _object_format(oids: Sequence[str]) -> str:
    return "sha256" if oids and len(oids[0]) == 64 else "sha1"


def _remote_error(problem: ProtocolError) -> RemoteError:
    return RemoteError("refused" if isinstance(problem, RefusedError) else "protocol")


def _tls_files(managed: ManagedRepo) -> TlsFiles:
    return managed.ca_file, managed.client_cert, managed.client_key
