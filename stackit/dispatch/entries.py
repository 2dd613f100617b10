"""The events of a queue: how far each is, and the group in which they keep their order."""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Protocol

import msgspec

from stackit.api.events import Event, RefsChanged
from stackit.journal import DueHandling


class State(Enum):
    """The stages of an event on its way through a queue."""

    WAITING = "waiting"
    RUNNING = "running"  # its handler runs
    RECORDING = "recording"  # its handler is through, and its outcome is being written down
    ENDED = "ended"


WAITING, RUNNING, RECORDING, ENDED = State
"""The same as module constants, since an attribute of an Enum costs a call."""


class Group(msgspec.Struct, eq=False):
    """The events of one repository; ``""`` is the group of events without one."""

    name: str
    ordered: bool  # one at a time
    waiting: deque[QueueEntry]
    active: int = 0  # running or recording
    running: int = 0
    in_line: bool = False  # its next event may begin, as soon as there is room
    in_journal: bool = False  # the journal holds more of this group than memory does
    is_aside: bool = False  # it is not read on before one of its events begins or ends, or it is held no more
    arrived: bool = False  # an event came for it while it was being read
    is_held: bool = False  # none of its events may begin yet
    early_since: float | None = None  # when its mirror was first found to be on its way here, by the reactor's clock

    def is_blocked(self) -> bool:
        """Return whether the next event has to wait: for one that runs, or for what the group is held for."""
        return (self.ordered and self.running > 0) or self.is_held


class Task(Protocol):
    """Work that can be cancelled."""

    def cancel(self) -> None:
        """End the work soon."""


class QueueEntry(msgspec.Struct, eq=False):
    """An event that waits or is in hand.

    ``event`` is None if it has to be read from the journal again. ``task``, if there is one, is cancelled when the
    queue is stopped out of grace, or loses the event. ``is_lost``: it is another process's by now, so nothing that
    becomes of it here is an outcome.
    """

    due: DueHandling
    event: Event | RefsChanged | None
    group: Group
    state: State = WAITING
    task: Task | None = None
    is_lost: bool = False
