"""The proxy of the environment, as git takes it, and connections through it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # it is not documented

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from stackit.github.api.answer import NoAnswer

_VARIABLES = ("https_proxy", "HTTPS_PROXY")
_EXCEPTIONS = ("no_proxy", "NO_PROXY")
_LARGEST_HEAD = 16 * 2**10
_PORT = 1080  # curl's, for a proxy that names none


class Proxy(msgspec.Struct, frozen=True):
    """A proxy that opens tunnels. ``authorization`` is for its header; None without a user."""

    host: str
    port: int
    authorization: str | None = None


def proxy_for(host: str, port: int, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy to a host by TLS; None where the environment names none for it.

    Raises NoAnswer for a proxy of another kind than ``http://``.
    """
    variable = next((name for name in _VARIABLES if environ.get(name)), None)
    if variable is None:
        return None
    exceptions = next((environ[name] for name in _EXCEPTIONS if environ.get(name)), "")
    if proxy_bypass_environment(f"{host}:{port}", {"no": exceptions}):
        return None
    address = environ[variable]
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        kind, name, at = parts.scheme, parts.hostname, parts.port or _PORT
    except ValueError:
        kind, name, at = "", None, _PORT
    if kind != "http" or not name:
        raise NoAnswer("network", f"{variable} names no proxy of the kind http://HOST:PORT, the only one for the API")
    if parts.username is None:
        return Proxy(name, at)
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(name, at, f"Basic {b64encode(user.encode()).decode('ascii')}")


@implementer(IStreamClientEndpoint)
class Tunnel:
    """Connects to a host and a port through a proxy, which ``endpoint`` leads to."""

    def __init__(self, endpoint: Any, proxy: Proxy, host: str, port: int) -> None:
        self._endpoint = endpoint
        shown = f"[{host}]" if ":" in host else host
        lines = [f"CONNECT {shown}:{port} HTTP/1.1", f"Host: {shown}:{port}"]
        if proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        self._request = "\r\n".join([*lines, "", ""]).encode("ascii")

    def connect(self, protocolFactory: Any) -> Deferred[Any]:  # noqa: N803 - Twisted's
        """Return the protocol of the factory once it is connected. The Deferred fails with NoAnswer."""
        factory = Factory.forProtocol(lambda: _Opening(self._request, protocolFactory))
        connected: Deferred[Any] = self._endpoint.connect(factory)
        return connected.addCallback(lambda opening: opening.opened)


class _Opening(Protocol):
    """Asks the proxy for a tunnel, and hands on what comes through it from then on."""

    factory: Any

    def __init__(self, request: bytes, inner: Any) -> None:
        self.opened: Deferred[Any] = Deferred(self._cancel)
        self._request = request
        self._make = inner
        self._head = b""
        self._inner: Any = None

    def connectionMade(self) -> None:
        self._transport().write(self._request)

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if end:
            self._answered(head.partition(b"\r\n")[0], rest)
        elif len(self._head) > _LARGEST_HEAD:
            self._fail("its answer has no end")

    def _answered(self, line: bytes, rest: bytes) -> None:
        version, _, words = line.partition(b" ")
        status = words[:3].decode("latin-1")
        if not version.startswith(b"HTTP/1.") or not status.isdigit():
            self._fail("its answer is not HTTP/1")
        elif status == "407":
            self._fail("it wants other credentials (status 407)")
        elif not status.startswith("2"):
            self._fail(f"it opens no tunnel (status {status})")
        else:
            transport = self._transport()
            self._inner = self._make.buildProtocol(transport.getPeer())
            self._inner.makeConnection(transport)
            self.opened.callback(self._inner)
            if rest:
                self._inner.dataReceived(rest)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif not self.opened.called:
            cause = "it broke off" if reason.check(ConnectionClosed) else reason.getErrorMessage()
            self.opened.errback(Failure(_problem(cause)))

    def _fail(self, text: str) -> None:
        if not self.opened.called:
            self.opened.errback(Failure(_problem(text)))
        self._transport().abortConnection()

    def _cancel(self, _: Deferred[Any]) -> None:
        self._transport().abortConnection()

    def _transport(self) -> Any:
        return self.transport


def _problem(text: str) -> NoAnswer:
    return NoAnswer("network", f"the proxy of https_proxy does not lead there: {text}")
