"""GitHub's limits, for each credential by itself: no request goes out while one holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec
from twisted.internet.defer import CancelledError, Deferred, DeferredLock

from stackit.api.reactor import Timers, sleep
from stackit.http.client.retry_after import parse_retry_after

CORE = "core"
"""The resource whose requests GitHub counts, unless an answer names another."""
BETWEEN_WRITES = 1.0
"""Seconds from one write to the next."""
FIRST_PAUSE = 60.0
"""Seconds without requests after a secondary limit that names no time. Each further one doubles them."""
_LONGEST_PAUSE = 3600.0
_LONGEST_HOLD = 86400.0
_MARGIN = 1.0
"""Seconds beyond the end of a primary limit: its time has whole seconds."""

LimitKind = Literal["rate_limited", "secondary_limit"]


class Held(Exception):
    """A limit holds for ``seconds`` more; ``kind`` is which."""

    def __init__(self, kind: LimitKind, seconds: float) -> None:
        super().__init__(f"{kind} for {seconds:.0f} seconds")
        self.kind: LimitKind = kind
        self.seconds = seconds


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """The requests that are left of a resource, as GitHub said; ``reset`` is when all are, by GitHub's clock."""

    limit: int
    remaining: int
    reset: float


class Gate:
    """The way out for the requests of one credential: one after the other, in the order in which they came.

    Whoever sends calls ``check``, holds ``lock``, calls ``wait`` before it, and ``learn`` with the answer.
    """

    def __init__(self, reactor: Timers) -> None:
        self.lock = DeferredLock()
        self.allowances: dict[str, Allowance] = {}
        self._reactor = reactor
        self._held: dict[str, float] = {}  # resource -> until when, by the reactor
        self._quiet_until = 0.0
        self._pauses = 0
        self._last_write: float | None = None
        self._waiting: Deferred[None] | None = None
        self._impatient = False

    def check(self, resource: str, patience: float) -> None:
        """Raise Held where a limit holds for longer than ``patience`` seconds."""
        kind, seconds = self.hold(resource)
        if kind is not None and (self._impatient or seconds > patience):
            raise Held(kind, seconds)

    async def wait(self, resource: str, *, write: bool, patience: float) -> None:
        """Wait until a request may go out. Raises Held where a limit holds for longer than ``patience`` seconds."""
        self.check(resource, patience)
        kind, seconds = self.hold(resource)
        if kind is not None:
            await self._wait_for_end(kind, seconds)
        if write and self._last_write is not None:
            await sleep(self._reactor, max(0.0, self._last_write + BETWEEN_WRITES - self._reactor.seconds()))

    async def _wait_for_end(self, kind: LimitKind, seconds: float) -> None:
        self._waiting = waiting = sleep(self._reactor, seconds)
        try:
            await waiting
        except CancelledError:
            if self._impatient:
                raise Held(kind, seconds) from None
            raise
        finally:
            self._waiting = None

    def be_impatient(self) -> None:
        """Have no request wait for the end of a limit from now on: raise Held at once."""
        self._impatient = True
        if self._waiting is not None:
            self._waiting.cancel()

    def hold(self, resource: str) -> tuple[LimitKind | None, float]:
        """Return which limit holds for a resource, and for how many seconds more; None and 0 where none does."""
        now = self._reactor.seconds()
        primary, secondary = self._held.get(resource, 0.0) - now, self._quiet_until - now
        if max(primary, secondary) <= 0:
            return None, 0.0
        return ("rate_limited", primary) if primary >= secondary else ("secondary_limit", secondary)

    def longest_hold(self) -> float:
        """Return for how many seconds more a limit holds for the resource that has to wait longest; 0 for none."""
        return max(0.0, *(until - self._reactor.seconds() for until in (self._quiet_until, *self._held.values())))

    def sent_write(self) -> None:
        """Note that a write is over, however it ended."""
        self._last_write = self._reactor.seconds()

    def learn(
        self, resource: str, status: int, headers: Mapping[str, str], message: str, github_now: float
    ) -> LimitKind | None:
        """Take the limits from an answer; return the one for which the request was refused, if it was.

        ``message`` is GitHub's, ``github_now`` the time by its clock.
        """
        resource = headers.get("x-ratelimit-resource", resource)
        remaining = _number(headers.get("x-ratelimit-remaining"))
        reset = _number(headers.get("x-ratelimit-reset"))
        if remaining is not None:
            limit = _number(headers.get("x-ratelimit-limit"))
            allowance = Allowance(limit=limit or 0, remaining=remaining, reset=reset or 0)
            self.allowances[resource] = allowance
        refused = status in (403, 429)
        if remaining == 0:
            left = FIRST_PAUSE if reset is None else reset - github_now
            self._hold(resource, min(max(left, 0.0) + _MARGIN, _LONGEST_HOLD))
        retry_after = parse_retry_after(headers.get("retry-after", "").strip(), github_now) or 0.0
        if not refused:
            if status < 500:
                self._pauses = 0
            return None
        if remaining == 0:
            self._be_quiet(retry_after)
            return "rate_limited"
        words = message.lower()
        if status == 429 or "retry-after" in headers or "secondary rate limit" in words or "abuse detection" in words:
            self._pauses += 1
            doubled = min(FIRST_PAUSE * 2 ** (self._pauses - 1), _LONGEST_PAUSE)
            self._be_quiet(retry_after if retry_after and self._pauses == 1 else max(doubled, retry_after))
            return "secondary_limit"
        return None

    def _hold(self, resource: str, seconds: float) -> None:
        self._held[resource] = self._reactor.seconds() + seconds

    def _be_quiet(self, seconds: float) -> None:
        self._quiet_until = max(self._quiet_until, self._reactor.seconds() + seconds)


class Limits:
    """The gates of all credentials, each by its key."""

    def __init__(self, reactor: Timers) -> None:
        self._reactor = reactor
        self._gates: dict[str, Gate] = {}
        self._resources: dict[str, str] = {}
        self._impatient = False

    def gate(self, key: str) -> Gate:
        """Return the gate of a credential."""
        gate = self._gates.get(key)
        if gate is None:
            gate = self._gates[key] = Gate(self._reactor)
            if self._impatient:
                gate.be_impatient()
        return gate

    def resource(self, route: str) -> str:
        """Return the resource that GitHub counts the requests of a route for, as far as its answers told."""
        return self._resources.get(route, CORE)

    def learn_resource(self, route: str, resource: str) -> None:
        """Note the resource of a route, which an answer named."""
        if resource == CORE:
            self._resources.pop(route, None)
        else:
            self._resources[route] = resource

    def be_impatient(self) -> None:
        """Have no request wait for the end of a limit from now on, as at a stop."""
        self._impatient = True
        for gate in self._gates.values():
            gate.be_impatient()

    def forget(self, key: str) -> None:
        """Drop the gate of a credential that is used no more, such as that of a removed installation."""
        self._gates.pop(key, None)

    def __iter__(self) -> Iterator[tuple[str, Gate]]:
        return iter(self._gates.items())


def _number(text: str | None) -> int | None:
    # Epoch seconds of eleven digits are a date that can be written.
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 12 else None
