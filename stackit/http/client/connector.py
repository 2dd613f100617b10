"""New connections to one host, bounded in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from stackit.api.reactor import Reactor
from stackit.http.client.errors import RemoteError
from stackit.http.client.timeouts import Timeouts
from stackit.http.client.tls import ClientTls, TlsFiles
from stackit.text.units import seconds

_UNREACHABLE = (ConnectError, DNSLookupError, DeferredTimeoutError, OSError)
Address: TypeAlias = tuple[str, str, int]
"""Scheme (``http`` or ``https``), host name in ASCII, and port."""
Made = TypeVar("Made", bound=Protocol)


class Connector:
    """Makes connections to one host, with TLS where its scheme asks for it."""

    def __init__(self, reactor: Reactor, address: Address, tls_files: TlsFiles, timeouts: Timeouts) -> None:
        """Raises ValueError for a host that cannot have a certificate."""
        scheme, host, port = address
        self._reactor = reactor
        self._timeout = seconds(timeouts.connect)
        self._endpoint: Any = HostnameEndpoint(reactor, host, port, timeout=self._timeout)
        self._tls = ClientTls(host, tls_files) if scheme == "https" else None
        self._connecting: set[Deferred[Any]] = set()

    async def connect(self, make: Callable[[], Made]) -> Made:
        """Return the protocol that ``make`` makes, connected. Raises RemoteError."""
        factory = Factory.forProtocol(make)
        factory.noisy = False
        endpoint = self._endpoint
        try:
            if self._tls is not None:
                endpoint = wrapClientTLS(self._tls.options(), endpoint)
        except (ValueError, OSError):
            raise RemoteError("unreachable") from None  # a file of TLS that does not hold what it should
        connecting = endpoint.connect(factory)
        # The endpoint's own limit is for each address, and not for finding them.
        connecting.addTimeout(self._timeout, self._reactor, lambda *_: Failure(DeferredTimeoutError()))
        self._connecting.add(connecting)
        try:
            connection: Made = await connecting
        except _UNREACHABLE:
            raise RemoteError("unreachable") from None
        except ConnectingCancelledError:
            raise CancelledError from None
        finally:
            self._connecting.discard(connecting)
        return connection

    def cancel(self) -> None:
        """Give up the connections that are being made."""
        for connecting in list(self._connecting):
            connecting.cancel()
