"""HTTP to GitHub's API: one pool of connections, answers bounded in bytes and in time.

Not by treq's own client, which cannot reach an IPv6 address, keeps cookies, and unpacks what is compressed without a
bound; but by Twisted's ``Agent``, which that client is made of.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from io import BytesIO
from types import MappingProxyType
from typing import Any

from OpenSSL.SSL import Error as SSLError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    FileBodyProducer,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from stackit.api.errors import describe, wrapped
from stackit.api.reactor import Reactor
from stackit.github.api.answer import HttpAnswer, NoAnswer
from stackit.github.api.proxy import Tunnel, proxy_for
from stackit.http.client.tls import ClientTls, TlsFiles

TIMEOUT = 30.0
"""Seconds for a whole exchange. GitHub itself gives up after ten."""
CONNECT_TIMEOUT = 10.0
LARGEST = 32 * 2**20
"""Bytes of an answer, unpacked."""
_IDLE = 50
"""Seconds for which a connection is kept; GitHub keeps it for a minute."""
_GZIP = 31  # zlib's word for a gzip header
_FAULTS = (
    CancelledError,
    ConnectError,
    ConnectionClosed,
    DNSLookupError,
    DeferredTimeoutError,
    OSError,  # a file for TLS
    RequestTransmissionFailed,
    ResponseFailed,
    SSLError,
    ValueError,  # another such file; a host that cannot have a certificate
)


class Transport:
    """Sends requests over connections that are kept between them. Follows no redirect, and keeps no cookie."""

    def __init__(
        self,
        reactor: Reactor,
        tls_files: Callable[[str, int], TlsFiles] = lambda _host, _port: TlsFiles(),
        *,
        timeout: float = TIMEOUT,
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """``tls_files`` returns the files for TLS with a host and a port. ``environ`` may name a proxy for TLS."""
        self._reactor = reactor
        self._timeout = timeout
        self._pool = _pool(reactor, persistent=True)
        endpoints = _Endpoints(reactor, tls_files, environ)
        self._kept = Agent.usingEndpointFactory(reactor, endpoints, pool=self._pool)
        # A write never goes over a connection that was kept: if that broke, nobody knew whether it arrived.
        self._fresh = Agent.usingEndpointFactory(reactor, endpoints, pool=_pool(reactor, persistent=False))

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None, *, largest: int = LARGEST
    ) -> HttpAnswer:
        """Return the answer to a request, whatever its status. Raises NoAnswer where no whole one came in time."""
        begun = self._reactor.seconds()
        exchange = Deferred.fromCoroutine(self._exchange(method, url, headers, body, largest))
        timer = self._reactor.callLater(self._timeout, exchange.cancel)
        try:
            status, found, content = await exchange
        except NoAnswer:
            raise
        except _FAULTS as fault:
            if not timer.active():
                raise NoAnswer("network", f"no whole answer within {self._timeout:g} seconds") from None
            if _is_cancelled(fault):
                raise CancelledError from None
            raise NoAnswer("network", _cause(fault)) from None
        finally:
            if timer.active():
                timer.cancel()
        return HttpAnswer(status, found, content, self._reactor.seconds() - begun)

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, largest: int
    ) -> tuple[int, Mapping[str, str], bytes]:
        sent = Headers({name: [value] for name, value in headers.items()})
        sent.setRawHeaders("Accept-Encoding", ["gzip"])
        agent: Any = self._kept if method in ("GET", "HEAD") else self._fresh
        producer = None if body is None else FileBodyProducer(BytesIO(body))
        response: Any = await agent.request(method.encode("ascii"), url.encode("ascii"), sent, producer)
        found = {
            name.decode("latin-1").lower(): values[0].decode("latin-1")
            for name, values in response.headers.getAllRawHeaders()
        }
        content = await _Body.of(response, largest)
        if found.get("content-encoding", "").strip().lower() in ("gzip", "x-gzip"):
            content = _unpacked(content, largest)
        return response.code, found, content

    async def close(self) -> None:
        """Close the connections that are kept."""
        await self._pool.closeCachedConnections()


class _Body(Protocol):
    """Takes the body of a response, at most ``largest`` bytes."""

    def __init__(self, largest: int) -> None:
        self.done: Deferred[bytes] = Deferred(self._cancel)
        self._largest = largest
        self._pieces: list[bytes] = []
        self._size = 0

    @classmethod
    def of(cls, response: Any, largest: int) -> Deferred[bytes]:
        """Return the body. The Deferred fails with NoAnswer where it is too large or cut off."""
        body = cls(largest)
        response.deliverBody(body)
        return body.done

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._largest:
            self._pieces.append(data)
        elif not self.done.called:
            self._stop()
            self.done.errback(Failure(_too_large(self._largest)))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone):
            self.done.callback(b"".join(self._pieces))
        else:
            # Without a length, nobody can tell a whole body from one that was cut.
            self.done.errback(Failure(NoAnswer("network", "the connection broke off in the middle of the answer")))

    def _cancel(self, _: Deferred[bytes]) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.transport is not None:
            self.transport.stopProducing()  # closes it, and waits for no goodbye of TLS


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """Connects to the hosts of URLs, with the files for TLS that each has."""

    def __init__(self, reactor: Reactor, tls_files: Callable[[str, int], TlsFiles], environ: Mapping[str, str]) -> None:
        self._reactor = reactor
        self._environ = environ
        self._tls_files = tls_files
        self._tls: dict[tuple[str, int], tuple[TlsFiles, ClientTls]] = {}

    def endpointForURI(self, uri: URI) -> Any:
        """Return an IStreamClientEndpoint.

        Raises ValueError and OSError for files that cannot be used, NoAnswer for such a proxy.
        """
        host, port = uri.host.decode("ascii"), uri.port
        if uri.scheme != b"https":
            return self._direct(host, port)
        proxy = proxy_for(host, port, self._environ)
        if proxy is None:
            return wrapClientTLS(self._options(host, port), self._direct(host, port))
        tunnel: Any = Tunnel(self._direct(proxy.host, proxy.port), proxy, host, port)
        return wrapClientTLS(self._options(host, port), tunnel)

    def _direct(self, host: str, port: int) -> Any:
        return HostnameEndpoint(self._reactor, host, port, timeout=CONNECT_TIMEOUT)

    def _options(self, host: str, port: int) -> Any:
        files = self._tls_files(host, port)
        known = self._tls.get((host, port))
        if known is None or known[0] != files:
            known = self._tls[host, port] = files, ClientTls(host, files)
        return known[1].options()


def _pool(reactor: Reactor, *, persistent: bool) -> HTTPConnectionPool:
    pool = HTTPConnectionPool(reactor, persistent=persistent)
    pool.cachedConnectionTimeout = _IDLE
    return pool


def _unpacked(packed: bytes, largest: int) -> bytes:
    unpack = zlib.decompressobj(_GZIP)
    try:
        plain = unpack.decompress(packed, largest + 1)
    except zlib.error:
        raise NoAnswer("network", "the answer is compressed, and broken") from None
    if len(plain) > largest:
        raise _too_large(largest)
    if not unpack.eof:
        raise NoAnswer("network", "the answer is compressed, and cut off")
    return plain


def _too_large(largest: int) -> NoAnswer:
    return NoAnswer("too_large", f"the answer is larger than {largest / 2**20:g} MiB")


def _is_cancelled(fault: Exception) -> bool:
    return isinstance(fault, CancelledError) or any(isinstance(each, CancelledError) for each in wrapped(fault))


def _cause(fault: Exception) -> str:
    if isinstance(fault, DNSLookupError):
        return "its name cannot be resolved"
    text = describe(fault)
    if "certificate verify failed" in text:
        return "its certificate is not signed by an authority that is trusted; see ca_file in [[hosts]]"
    if "VerificationError" in text:
        return "its certificate is for another name"
    if isinstance(fault, ConnectError):
        return f"no connection: {text.partition(': ')[2] or text}"
    return text
