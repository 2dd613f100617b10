"""The remotes of all repositories, which share the connections to each host."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from urllib.parse import quote, urlsplit
from urllib.request import proxy_bypass

from stackit import ManagedRepo, Reactor
from stackit.http.client import Address, ConnectionPool, Timeouts, TlsFiles
from stackit.plugins.mirror.remote.client import Limits, Remote

_PORTS = {"http": 80, "https": 443}
# The variables of curl, and so of git.
_PROXY_VARIABLES = {"http": ("http_proxy",), "https": ("https_proxy", "HTTPS_PROXY")}


class Remotes:
    """Makes remotes, with at most ``most`` connections to each host."""

    def __init__(
        self,
        reactor: Reactor,
        most: int,
        *,
        now: Callable[[], float] = time.time,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
        limits: Limits = Limits(),  # noqa: B008 - frozen
    ) -> None:
        """``now`` is the wall clock, for a ``Retry-After`` that is a date."""
        self._reactor = reactor
        self._now = now
        self._most = most
        self._timeouts = timeouts
        self._limits = limits
        self._pools: dict[tuple[Address, TlsFiles], ConnectionPool] = {}

    def get(self, managed: ManagedRepo) -> Remote | None:
        """Return the remote of a repository, or None if its URL is not HTTP or needs a proxy."""
        parts = urlsplit(managed.url)
        if parts.scheme not in _PORTS or parts.hostname is None or _is_behind_proxy(parts.scheme, parts.hostname):
            return None
        tls = managed.ca_file, managed.client_cert, managed.client_key
        try:
            name = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode("ascii")
            address = (parts.scheme, name, parts.port or _PORTS[parts.scheme])
            pool = self._pools.get((address, tls))
            if pool is None:
                pool = ConnectionPool(self._reactor, address, self._most, tls, self._timeouts)
                self._pools[address, tls] = pool
        except ValueError:
            return None  # not a valid host name or port: git reports the error
        netloc = f"[{name}]" if ":" in name else name
        host = netloc if parts.port is None else f"{netloc}:{parts.port}"
        path = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
        return Remote(self._reactor, self._now, pool, managed, host, path, self._limits)

    async def close(self) -> None:
        """Close all connections. No remote may be used afterwards."""
        for pool in self._pools.values():
            await pool.close()


def _is_behind_proxy(scheme: str, host: str) -> bool:
    """Return True if git, in the environment of this process, would reach the host through a proxy."""
    proxies = any(os.environ.get(name) for name in _PROXY_VARIABLES[scheme])
    return proxies and not proxy_bypass(host)
