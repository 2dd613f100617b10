"""A reactor that is held up for a whole lease: the event whose handler does that is given up.

Its node loses its work then, and whoever takes that would be held up by the same event, one node after the other.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial

import msgspec

from stackit.fleet.session import Link
from stackit.journal import EventId
from stackit.journal.packing import packed
from stackit.journal.postgres.dead_letters import GIVE_UP
from stackit.journal.postgres.ids import event_row

_STEADY = 0.3
"""The part of the lease for which the thread that looks has to have moved: else the whole process stood still."""
_LOOKS = 20
"""Looks in a lease, at least."""
_LONGEST = 0.1
"""Seconds between two looks, at most: between the time at which it gives an event up and the end of the lease, after
which another node may begin with it, there may be no more than half a second."""
_FRAMES = 30
_CHARACTERS = 8000
"""Of the stack that is kept with the dead letter: the innermost frames, and the last of their text."""


class BusyHandler(msgspec.Struct, frozen=True):
    """A handler that the reactor's thread is in: the subscriber's key, its name for people, and the id of the event."""

    subscriber: str
    name: str
    event: EventId


class Standstill:
    """Looks, in the session's thread, whether a handler has held the reactor up until the node is to stop by itself.

    ``until`` is that time, by the clock ``seconds``; None outside the fleet. ``me`` is the incarnation. Both are
    written in the reactor's thread, which calls this. ``at_work`` returns what that thread is in, and is called in
    another.
    """

    def __init__(self, here: str, lease: float, seconds: Callable[[], float]) -> None:
        self.until: float | None = None
        self.me = 0
        self.at_work: Callable[[], BusyHandler | None] = _nothing
        self.every = min(lease / _LOOKS, _LONGEST)
        self._here = here
        self._lease = lease
        self._seconds = seconds
        self._reactor_thread = threading.get_ident()
        self._looked_at = seconds()
        self._steady_since = self._looked_at  # since when the thread that looks has moved all the time
        self._done_until: float | None = None  # the end of the lease for which an event was given up

    def look(self) -> Callable[[Link], BusyHandler | None] | None:
        """Return what is to be asked of the database now: to give up what holds the reactor up, or nothing."""
        now = self._seconds()
        if now - self._looked_at > self._lease * _STEADY:
            self._steady_since = now
        self._looked_at = now
        until = self.until
        is_over = until is not None and until != self._done_until and now >= until
        if not is_over or now - self._steady_since < self._lease * _STEADY:
            return None
        busy = self.at_work()
        if busy is None:
            return None
        self._done_until = until
        return partial(self._give_up, busy=busy, stack=self._stack())

    def _give_up(self, link: Link, busy: BusyHandler, stack: str) -> BusyHandler | None:
        """Make the event a dead letter, while it is this node's; return None where it is not any more."""
        rows = link.rows(
            GIVE_UP,
            subscriber=busy.subscriber,
            event=event_row(busy.event),
            owner=self.me,
            error=f"it held up node {self._here} for the lease of {self._lease:g} s: a function that waits needs "
            "thread=True",
            traceback=packed(stack.encode("utf-8", "backslashreplace")),
            at=None,
            node=self.me,
        )
        return busy if rows else None

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._reactor_thread)  # noqa: SLF001 - what it is for
        return "" if frame is None else "".join(traceback.format_stack(frame, _FRAMES))[-_CHARACTERS:]


def _nothing() -> None:
    return None
