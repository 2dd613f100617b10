"""The remotes of all repositories, which share the connections to each host."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from urllib.request import proxy_bypass
from weakref import WeakKeyDictionary

from stackit import ManagedRepo, Reactor, TokenSource
from stackit.http.client import Address, ConnectionPool, Timeouts, TlsFiles, parse_url
from stackit.plugins.mirror.remote.client import AnswerLimits, Remote, Silence

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
        limits: AnswerLimits = AnswerLimits(),  # noqa: B008 - frozen
    ) -> None:
        """``now`` is the wall clock, for a ``Retry-After`` that is a date."""
        self._reactor = reactor
        self._now = now
        self._most = most
        self._timeouts = timeouts
        self._limits = limits
        self._pools: dict[tuple[Address, TlsFiles], ConnectionPool] = {}
        # Tokens of several installations share a host, and each is limited by itself.
        self._silences: WeakKeyDictionary[ConnectionPool | TokenSource, Silence] = WeakKeyDictionary()

    def get(self, managed: ManagedRepo) -> Remote | None:
        """Return the remote of a repository, or None if its URL is not HTTP or needs a proxy."""
        try:
            target = parse_url(managed.url)
            scheme, name, _ = target.address
            if _is_behind_proxy(scheme, name):
                return None
            tls_files = TlsFiles(managed.ca_file, managed.client_cert, managed.client_key)
            pool = self._pools.get((target.address, tls_files))
            if pool is None:
                pool = ConnectionPool(self._reactor, target.address, self._most, tls_files, self._timeouts)
                self._pools[target.address, tls_files] = pool
        except ValueError:
            return None  # not HTTP, or not a valid host name or port: git reports the error
        path = target.path.partition("?")[0].rstrip("/")
        silence = self._silences.setdefault(managed.token_source or pool, Silence())
        return Remote(self._reactor, self._now, pool, managed, target.host, path, self._limits, silence)

    def change_size(self, most: int) -> None:
        """Keep at most so many connections to each host from now on."""
        self._most = most
        for pool in self._pools.values():
            pool.size = most

    async def close(self) -> None:
        """Close all connections. No remote may be used afterwards."""
        for pool in self._pools.values():
            await pool.close()


def _is_behind_proxy(scheme: str, host: str) -> bool:
    """Return True if git, in the environment of this process, would reach the host through a proxy."""
    proxies = any(os.environ.get(name) for name in _PROXY_VARIABLES[scheme])
    return proxies and not proxy_bypass(host)
