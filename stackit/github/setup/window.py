"""The window in which a browser may set up an App: what it has to show, and for how long.

Three secrets of 256 bits, each of a use of its own: the ``ticket`` is in the URL that the command prints, the
``cookie`` goes to the first browser that opens it, and the ``state`` goes by that browser to GitHub and comes back.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable

from stackit.api.reactor import Timers

OPEN_FOR = 900.0
"""Seconds for which a window is open."""
_BYTES = 32


class SetupWindow:
    """One set-up. It is open until its time is over, or it was used.

    ``mark`` returns a secret with the mark of this node.
    """

    def __init__(self, reactor: Timers, mark: Callable[[str], str] = str) -> None:
        self._mark = mark
        self.ticket = self._secret()
        self._cookie: str | None = None
        self._state: str | None = None
        self._seconds: Callable[[], float] = reactor.seconds
        self._deadline = reactor.seconds() + OPEN_FOR
        self._used = False

    @property
    def is_open(self) -> bool:
        """Return whether a browser may still use it."""
        return not self._used and self._seconds() < self._deadline

    def enter(self, ticket: str, cookie: str) -> tuple[str, str] | None:
        """Return the cookie and the state for a browser with the ticket; None for one that may not enter.

        The first browser takes the window; another one has to show the cookie of that one.
        """
        known = self._cookie or self._secret()
        right = hmac.compare_digest(ticket.encode(), self.ticket.encode())
        same = self._cookie is None or hmac.compare_digest(cookie.encode(), known.encode())
        if not (right and same and self.is_open):
            return None
        self._cookie, self._state = known, self._state or self._secret()
        return known, self._state

    def use(self, state: str, cookie: str) -> bool:
        """Return whether a browser comes back from GitHub with what it was given; if so, nobody can again."""
        if self._state is None or self._cookie is None:
            return False
        right = hmac.compare_digest(state.encode(), self._state.encode())
        same = hmac.compare_digest(cookie.encode(), self._cookie.encode())
        if not (right and same and self.is_open):
            return False
        self._used = True
        return True

    def reopen(self) -> None:
        """Let the same browser come back once more, within the time: GitHub could not be asked."""
        self._used = False

    def close(self) -> None:
        """Let nobody use it any more."""
        self._used = True

    def _secret(self) -> str:
        return self._mark(secrets.token_urlsafe(_BYTES))
