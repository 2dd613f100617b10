"""One token of an installation: made when it is needed first, and renewed before its end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred

from stackit.api.errors import StackitError
from stackit.api.reactor import Timers, sleep
from stackit.github.apps.records import TokenRecord

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

RENEW_BEFORE = 600.0
"""Seconds before its end in which a token is renewed, while the old one is used."""
ENOUGH = 120.0
"""Seconds that a token has to be valid for a use that begins now; with less, the new one is waited for."""
SETTLING = 10.0
"""Seconds after it was made in which GitHub may not know a token everywhere, and its refusals are not believed."""
_DOUBT = 1.0
"""Seconds after which a new token that was taken before, and was refused then, is tried once more."""
_TRY_AGAIN = 60.0
_MOST_REFUSALS, _REFUSALS_WITHIN = 5, 300.0
"""Tokens that are made within so many seconds because the one before was refused: more would not help."""


class Narrowing(msgspec.Struct, frozen=True, kw_only=True):
    """What a token may do, of all that an installation grants.

    ``permissions`` are pairs such as ``("contents", "read")``; none stands for all that there are. ``repository`` is
    the name of the only one that the token is for, without its owner; None stands for all.
    """

    permissions: tuple[tuple[str, str], ...] = (("contents", "read"), ("metadata", "read"))
    repository: str | None = None

    def body(self) -> dict[str, Any]:
        """Return it as the request for a token has it."""
        body: dict[str, Any] = {"permissions": dict(self.permissions)} if self.permissions else {}
        return body | ({"repositories": [self.repository]} if self.repository is not None else {})


class _Token(msgspec.Struct, frozen=True):
    value: str
    expires_at: float
    """By GitHub's clock."""
    made_at: float
    """By the reactor's."""

    def __repr__(self) -> str:
        return "_Token(…)"


class InstallationToken:
    """A token that several use at once, and that is made once for all of them.

    ``make`` is awaited for a new one; it raises StackitError. ``now`` is GitHub's clock.
    """

    def __init__(
        self, reactor: Timers, now: Callable[[], float], make: Callable[[], Coroutine[Any, Any, TokenRecord]]
    ) -> None:
        self.reactor = reactor
        self._now = now
        self._make = make
        self._token: _Token | None = None
        self._making: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []
        self._due: DelayedCall | None = None
        self._used = False
        self._was_taken = self._was_doubted = False
        self._refused_at: deque[float] = deque(maxlen=_MOST_REFUSALS)
        self._stopped = False

    @property
    def left(self) -> float:
        """Return the seconds for which the token is valid; 0 where there is none."""
        return 0.0 if self._token is None else max(0.0, self._token.expires_at - self._now())

    @property
    def expires_at(self) -> float | None:
        """Return when the token ends, in seconds since the epoch by GitHub's clock; None where there is none."""
        return None if self._token is None else self._token.expires_at

    def current(self) -> str:
        """Return the token. Raises StackitError where there is none that is valid."""
        if self._token is None or self.left <= 0:
            raise StackitError("the token of the installation is not made yet")
        self._used = True
        return self._token.value

    async def ready(self) -> None:
        """Have a token that is valid for some minutes. Raises StackitError; the old one does while it is valid."""
        left = self.left
        if left > RENEW_BEFORE:
            return
        if left > ENOUGH:
            self._begin()
            return
        try:
            await self._made()
        except StackitError:
            if self.left <= 0:
                raise

    def judge(self, token: str, status: int) -> float | None:
        """Return in how many seconds a token that was refused is worth another try, after ``ready``; None for never."""
        known = self._token
        if known is None or known.value != token:
            return 0.0  # there is a newer one
        now = self.reactor.seconds()
        if (age := now - known.made_at) < SETTLING:
            if not self._was_taken:
                return min(max(1.0, age), SETTLING - age)
            if not self._was_doubted or status != 401:
                self._was_doubted = True
                return min(_DOUBT, SETTLING - age)
        if status != 401:
            return None
        if len(self._refused_at) == _MOST_REFUSALS and now - self._refused_at[0] < _REFUSALS_WITHIN:
            return None
        if not self._was_taken and self._refused_at and now - self._refused_at[-1] < _REFUSALS_WITHIN:
            return None  # nor was the one before it
        self._refused_at.append(now)
        self._token = None
        return 0.0

    def accepted(self, token: str) -> None:
        """Note that GitHub took a token."""
        if self._token is not None and self._token.value == token:
            self._was_taken = True

    async def rejected(self, token: str, status: int) -> bool:
        """Wait until another try makes sense, and return True; False where the refusal is to be believed."""
        pause = self.judge(token, status)
        if pause is None:
            return False
        if pause:
            await sleep(self.reactor, pause)
        await self.ready()
        return True

    async def _made(self) -> None:
        """Wait for a new token. Those that wait at the same time share one request."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        self._begin()
        try:
            await waiting
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    def _begin(self) -> None:
        """Begin to make a new token, unless that goes on already."""
        if self._making is not None or self._stopped:
            if self._stopped:
                self._end(StackitError("stackit stops"))
            return
        making = Deferred.fromCoroutine(self._renew())
        if not making.called:
            self._making = making

    async def _renew(self) -> None:
        problem: StackitError | None = None
        try:
            made = await self._make()
        except StackitError as refused:
            self._schedule(_TRY_AGAIN)
            problem = refused
        except CancelledError:
            problem = StackitError("stackit stops")
        else:
            self._was_taken = self._was_doubted = False
            self._token = _Token(made.token, made.expires_at.timestamp(), self.reactor.seconds())
            self._used = bool(self._waiting)
            self._schedule(self.left - RENEW_BEFORE)
        self._making = None  # before the others are told: one of them may ask for a token again at once
        self._end(problem)

    def _end(self, problem: StackitError | None) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if problem is None:
                each.callback(None)
            else:
                each.errback(problem)

    def _schedule(self, seconds: float) -> None:
        self._cancel()
        if not self._stopped:
            self._due = self.reactor.callLater(max(1.0, seconds), self._look)

    def _look(self) -> None:
        """Renew a token that was used since it was made. Any other is renewed when it is needed again."""
        self._due = None
        if self._used and self.left <= RENEW_BEFORE:
            self._begin()
        elif self.left > RENEW_BEFORE:  # GitHub's clock was corrected meanwhile
            self._schedule(self.left - RENEW_BEFORE)

    def _cancel(self) -> None:
        if self._due is not None and self._due.active():
            self._due.cancel()
        self._due = None

    def renew(self) -> None:
        """Have a new token soon, if it was in use: it can be made again."""
        if self._used and self.left <= RENEW_BEFORE:
            self._begin()

    def stop(self) -> None:
        """Make no more tokens, and tell those that wait."""
        self._stopped = True
        self._cancel()
        if self._making is not None:
            self._making.cancel()
