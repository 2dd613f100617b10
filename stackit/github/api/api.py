"""One GitHub: its address and its clock, and what all its clients share."""

from __future__ import annotations

from collections.abc import Callable

from stackit.github.api.address import ApiUrl
from stackit.github.api.clock import GitHubClock
from stackit.github.api.counts import RequestCounts
from stackit.github.api.etags import ETags
from stackit.github.api.expiries import TokenExpiries
from stackit.github.api.limits import Limits
from stackit.github.api.transport import Transport


class Api:
    """One GitHub: its address and its clock, and what all its clients share."""

    def __init__(
        self,
        url: str,
        *,
        transport: Transport,
        limits: Limits,
        etags: ETags,
        counts: RequestCounts,
        clock: GitHubClock,
        expiries: TokenExpiries,
        now: Callable[[], float],
        redact: Callable[[str], str],
    ) -> None:
        self.url = ApiUrl(url)
        self.transport = transport
        self.limits = limits
        self.etags = etags
        self.counts = counts
        self.clock = clock
        self.expiries = expiries
        self.now = now
        self.redact = redact
        self.knows_version = True
        """False once it refused the version of the API that was asked for."""
