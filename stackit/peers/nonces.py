"""Nonces: texts that may be used once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class UsedNonces:
    """The nonces that were used, each for as long as it could be sent again. ``seconds`` is a clock."""

    def __init__(self, seconds: Callable[[], float], keep_for: float) -> None:
        self._seconds = seconds
        self._keep_for = keep_for
        self._known: set[str] = set()
        self._by_age: deque[tuple[float, str]] = deque()

    def __contains__(self, nonce: str) -> bool:
        return nonce in self._known

    def add(self, nonce: str) -> bool:
        """Use a nonce; False where it was used before."""
        now = self._seconds()
        while self._by_age and self._by_age[0][0] + self._keep_for < now:
            self._known.discard(self._by_age.popleft()[1])
        if nonce in self._known:
            return False
        self._known.add(nonce)
        self._by_age.append((now, nonce))
        return True
