"""How many fetches run at once, and whose turn is next: a hung one does not stand in the way."""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred

LENDABLE = 4
"""Fetches in all, hung ones included, are at most this many times the concurrency."""


HURRIED = 4
"""Of so many turns, one goes to a look that nobody waits for, however many pushes come."""


class Slot:
    """Permission to work. ``lend`` lets another work meanwhile; ``release`` gives it back, once and for all."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._lent = False
        self._released = False

    def lend(self) -> None:
        if not self._lent and not self._released:
            self._lent = True
            self._slots._lend()  # noqa: SLF001 - two halves of one idea

    def release(self) -> None:
        if not self._released:
            self._released = True
            self._slots._release(lent=self._lent)  # noqa: SLF001 - two halves of one idea


class Slots:
    """At most ``concurrency`` holders that have not lent their slot.

    In the order of asking; but those in a hurry (a push, a person) go before those that are not (a look at
    every repository), which still have every fourth turn.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._working = 0
        self._lent = 0
        self._turns = 0
        self._line: deque[Deferred[Slot]] = deque()
        self._hurried: deque[Deferred[Slot]] = deque()

    def acquire(self) -> Deferred[Slot]:
        """Fires when it is this one's turn; cancelling leaves the line."""
        place: Deferred[Slot] = Deferred(self._leave)
        self._line.append(place)
        self._serve()
        return place

    def hurry(self, place: Deferred[Slot]) -> None:
        """Somebody waits for this one now."""
        if place in self._line:
            self._line.remove(place)
            self._hurried.append(place)

    def _leave(self, place: Deferred[Slot]) -> None:
        (self._line if place in self._line else self._hurried).remove(place)

    def _lend(self) -> None:
        self._working -= 1
        self._lent += 1
        self._serve()

    def _release(self, *, lent: bool) -> None:
        if lent:
            self._lent -= 1
        else:
            self._working -= 1
        self._serve()

    def _serve(self) -> None:
        most = LENDABLE * self._concurrency
        while self._working < self._concurrency and self._working + self._lent < most:
            place = self._next()
            if place is None:
                return
            self._working += 1
            place.callback(Slot(self))

    def _next(self) -> Deferred[Slot] | None:
        if not self._line and not self._hurried:
            return None
        self._turns += 1
        patient = self._line and (not self._hurried or self._turns % HURRIED == 0)
        return (self._line if patient else self._hurried).popleft()
