"""A client for any host: requests by method and URL."""

from __future__ import annotations

import re
from collections.abc import Mapping

from stackit.api.reactor import Reactor
from stackit.http.client.connector import Address
from stackit.http.client.errors import RemoteError
from stackit.http.client.pool import ConnectionPool
from stackit.http.client.response import Response
from stackit.http.client.timeouts import Timeouts
from stackit.http.client.tls import TlsFiles
from stackit.http.client.urls import parse_url

_METHODS = {"GET": True, "PUT": True, "DELETE": True, "POST": False, "PATCH": False}
"""The methods; true where a request may reach the host twice (RFC 9110, 9.2.2)."""
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_FRAMING = {"connection", "content-length", "host", "transfer-encoding", "expect", "upgrade", "te", "trailer"}
_LIMIT = 2**20


class Client:
    """Sends requests, and keeps up to ``connections`` to each host between them.

    Redirects are not followed, proxies not used, cookies not kept, and no compression is asked for. ``tls_files`` are
    for every host.
    """

    def __init__(
        self,
        reactor: Reactor,
        *,
        connections: int = 4,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
        tls_files: TlsFiles = TlsFiles(),  # noqa: B008 - frozen
    ) -> None:
        self._reactor = reactor
        self._connections = connections
        self._timeouts = timeouts
        self._tls_files = tls_files
        self._pools: dict[Address, ConnectionPool] = {}

    async def get(self, url: str, *, headers: Mapping[str, str] | None = None, limit: int = _LIMIT) -> Response:
        """``request("GET", …)``."""
        return await self.request("GET", url, headers=headers, limit=limit)

    async def post(
        self, url: str, body: bytes, *, headers: Mapping[str, str] | None = None, limit: int = _LIMIT
    ) -> Response:
        """``request("POST", …)``."""
        return await self.request("POST", url, headers=headers, body=body, limit=limit)

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        limit: int = _LIMIT,
    ) -> Response:
        """Send a request and return the response, whatever its status, with a body of at most ``limit`` bytes.

        ``method`` is GET, PUT, DELETE, POST or PATCH. The last two go over a connection of their own, and are never
        sent twice. Raises RemoteError where no whole response came in time, or a larger one; ValueError for a request
        that cannot be sent.
        """
        if method not in _METHODS:
            raise ValueError(f"the method must be one of {', '.join(_METHODS)}, not {method!r}")
        target = parse_url(url)
        pool = self._pools.get(target.address)
        if pool is None:
            pool = self._pools[target.address] = ConnectionPool(
                self._reactor, target.address, self._connections, self._tls_files, self._timeouts
            )
        lines = [f"{method} {target.path} HTTP/1.1", f"Host: {target.host}", *map(_line, (headers or {}).items())]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        response = await pool.request(head + (body or b""), limit, safe=_METHODS[method])
        if response.too_large:
            raise RemoteError("too_large")
        return response

    async def close(self) -> None:
        """Close all connections. What is under way fails, and nothing may be asked any more."""
        for pool in self._pools.values():
            await pool.close()


def _line(header: tuple[str, str]) -> str:
    name, value = header
    if not _NAME.fullmatch(name) or name.lower() in _FRAMING or not _VALUE.fullmatch(value):
        raise ValueError(f"the header {name!r} cannot be sent")  # its value may be a secret
    return f"{name}: {value}"
