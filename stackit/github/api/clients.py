"""Clients of GitHub's API, and of GitHub Enterprise Servers, that share connections, limits, clocks and counts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prometheus_client.registry import Collector

from stackit.api.reactor import Reactor
from stackit.github.api.api import Api
from stackit.github.api.client import PATIENCE, ApiClient
from stackit.github.api.clock import GitHubClock
from stackit.github.api.counts import RequestCounts
from stackit.github.api.credentials import Credential
from stackit.github.api.etags import ETags
from stackit.github.api.expiries import TokenExpiries
from stackit.github.api.limits import Limits
from stackit.github.api.transport import LARGEST, Transport
from stackit.http.client.tls import TlsFiles
from stackit.text.redaction import redacted
from stackit.text.times import rfc3339


class ApiClients:
    """Makes clients, each for one address and one credential. Nothing is sent before it is asked for."""

    def __init__(
        self,
        reactor: Reactor,
        now: Callable[[], float],
        *,
        clock_of: str = "this machine",
        notice: Callable[[str], None],
        redact: Callable[[str], str] = redacted,
        tls_files: Callable[[str, int], TlsFiles] = lambda _host, _port: TlsFiles(),
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """``now`` is the wall clock, and ``clock_of`` whose that is.

        ``tls_files`` returns the files for TLS with a host and a port. ``environ`` may name a proxy, as for git.
        """
        self._now = now
        self._clock_of = clock_of
        self._notice = notice
        self._redact = redact
        self.transport = Transport(reactor, tls_files, environ=environ)
        """The connections, for requests without a credential of stackit's own."""
        self._etags = ETags(reactor.seconds)
        self._apis: dict[str, Api] = {}
        self.limits = Limits(reactor)
        self.expiries = TokenExpiries()
        self.counts = RequestCounts(self.limits)

    def client(
        self, api_url: str, credential: Credential, *, patience: float = PATIENCE, largest: int = LARGEST
    ) -> ApiClient:
        """Return a client. ``largest`` bounds the bytes of an answer. Raises ValueError for what is no such URL."""
        self.limits.gate(credential.key)  # whose metrics begin now
        return ApiClient(self._api(api_url), credential, patience=patience, largest=largest)

    def clock(self, api_url: str) -> GitHubClock:
        """Return the clock of the GitHub at an address. Raises ValueError for what is no such URL."""
        return self._api(api_url).clock

    def collectors(self) -> Sequence[Collector]:
        """Return the metrics."""
        return [self.counts]

    def status(self) -> dict[str, Any]:
        """Return the state for people: the clock of each GitHub, and what its limits leave to each credential."""
        return {
            "apis": [{"api_url": each.url.text, "clock_offset": each.clock.offset} for each in self._apis.values()],
            "limits": [
                {
                    "credential": key,
                    "resource": resource,
                    "limit": allowance.limit,
                    "remaining": allowance.remaining,
                    "reset_at": rfc3339(allowance.reset),
                    "held_for": gate.hold(resource)[1],
                }
                for key, gate in self.limits
                for resource, allowance in gate.allowances.items()
            ],
        }

    async def close(self) -> None:
        """Close the connections. Nothing may be asked any more."""
        await self.transport.close()

    def _api(self, url: str) -> Api:
        url = url.rstrip("/")
        api = self._apis.get(url)
        if api is None:
            api = Api(
                url,
                transport=self.transport,
                limits=self.limits,
                etags=self._etags,
                counts=self.counts,
                clock=GitHubClock(url.partition("://")[2].partition("/")[0], self._now, self._notice, self._clock_of),
                expiries=self.expiries,
                now=self._now,
                redact=self._redact,
            )
            self._apis[url] = api
        return api
