"""Slots for work of which only so much goes on at once: who comes when all are taken waits for a while."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.base import DelayedCall

from stackit.api.reactor import Timers


class Slots:
    """``most`` at once, as many again wait for at most ``patience`` seconds. ``taken`` are those that go on."""

    def __init__(self, reactor: Timers, most: int, patience: float) -> None:
        self.taken = 0
        self._reactor = reactor
        self._most = most
        self._patience = patience
        self._waiting: dict[Callable[[], object], tuple[DelayedCall, Callable[[], object]]] = {}
        self._closed = False

    @property
    def is_full(self) -> bool:
        """Whether nobody may even wait."""
        return self._closed or len(self._waiting) >= self._most

    def ask(self, begin: Callable[[], object], give_up: Callable[[], object]) -> None:
        """Have ``begin`` called when there is a slot, which calls ``enter`` if it makes use of it; or ``give_up``."""
        if self.taken < self._most and not self._closed:
            begin()
        elif self.is_full:
            give_up()
        else:
            timer = self._reactor.callLater(self._patience, self._give_up, begin)
            self._waiting[begin] = (timer, give_up)

    def enter(self) -> None:
        """Take a slot. ``leave`` has to follow."""
        self.taken += 1

    def leave(self) -> None:
        """Free a slot: who waits longest is next."""
        self.taken -= 1
        while self._waiting and self.taken < self._most:
            begin = next(iter(self._waiting))
            timer, _ = self._waiting.pop(begin)
            timer.cancel()
            begin()

    def close(self) -> None:
        """Give up all who wait, and whoever comes from now on."""
        self._closed = True
        for begin, (timer, _) in list(self._waiting.items()):
            timer.cancel()
            self._give_up(begin)

    def _give_up(self, begin: Callable[[], object]) -> None:
        _, give_up = self._waiting.pop(begin)
        give_up()
