"""One subscriber's queue: what it has in hand, what waits, and what stays in the journal.

The journal is the queue. A queue keeps a bounded stretch of it in memory, by group
(the repository): a group that outgrows its share is left in the journal and read
back when its turn comes, so that neither a slow subscriber nor one busy
repository costs memory, or holds up the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.errors import describe, place
from stackit.api.events import Event, RefsChanged
from stackit.bus.subscribers import Subscriber
from stackit.dispatch.coroutines import Run
from stackit.journal import DueHandling

_log = Logger(namespace="stackit")

WINDOW = 1024
"""Events of one subscriber that wait in memory, at most."""
SHARE = 32
"""Events of one group among them, at most."""
KEPT_BYTES = 8 * 2**20
"""Bytes of waiting bodies that are kept; beyond that an event is read again when it is due."""


class _Group(msgspec.Struct, eq=False):
    name: str
    ordered: bool  # one at a time
    waiting: deque[Item]
    active: int = 0  # in hand: the handler runs, or its outcome is being written down
    running: int = 0  # of these, whose handler runs
    in_journal: bool = False  # the journal holds more of this group than memory does
    arrived: bool = False  # something came for it while it was being read

    def is_blocked(self) -> bool:
        """Whether what waits has to wait for what runs."""
        return self.ordered and self.running > 0


class Item(msgspec.Struct, eq=False):
    """A handling that waits or is in hand, with its event where that is still at hand."""

    handling: DueHandling
    event: Event | RefsChanged | None
    group: _Group
    queue: SubscriberQueue
    running: bool = False  # its handler runs
    later: Run[None] | None = None

    def start(self, running: Coroutine[Deferred[Any], Any, None]) -> None:
        """Run what takes longer to the recorded outcome; it is cancelled when the queue is."""
        self.later = Run(running, self._ended, self._ended)
        self.later.start()

    def _ended(self, result: Failure | None) -> None:
        self.queue.ended(self, result)


Handle = Callable[["SubscriberQueue", Item], None]
Read = Callable[[str, str, int], Deferred[list[DueHandling]]]


class SubscriberQueue:
    """Hands one subscriber its events: ordered within a group, fair between groups, bounded.

    ``handle`` begins with one event; it says ``handled`` as soon as the handler is through, and ``ended`` when the
    outcome is on disk, or leaves that to what it starts by ``Item.start``, which never fails but when it is
    cancelled. ``read(key, group, limit)`` gives what is due of a group in the journal, oldest first.
    Whatever either of them raises, the queue goes on. ``moves`` counts the handlings that have begun or ended.
    """

    __slots__ = (
        "_active",
        "_advancing",
        "_concurrency",
        "_ended",
        "_groups",
        "_handle",
        "_kept",
        "_known",
        "_put_off",
        "_read",
        "_reading",
        "_ready",
        "_running",
        "_stopped",
        "_to_read",
        "_waiting",
        "_woken",
        "moves",
        "subscriber",
    )

    def __init__(self, subscriber: Subscriber, *, concurrency: int, handle: Handle, read: Read) -> None:
        self.subscriber = subscriber
        self.moves = 0
        self._concurrency = subscriber.options.concurrency or concurrency
        self._handle = handle
        self._read = read
        self._groups: dict[str, _Group] = {}
        self._ready: deque[_Group] = deque()  # groups with something waiting, each once, first come first served
        self._to_read: deque[_Group] = deque()  # groups with something in the journal, each once
        self._put_off: list[_Group] = []  # groups in the journal that could not be read
        self._known: set[int] = set()  # handlings waiting or in hand
        self._ended: set[int] = set()  # handlings that ended during the present read, which may still show them
        self._waiting = 0
        self._kept = 0
        self._reading: Deferred[Any] | None = None
        self._active: dict[int, Item] = {}  # by handling
        self._running = 0
        self._woken = False
        self._advancing = False
        self._stopped: Deferred[None] | None = None

    def offer(self, handling: DueHandling, event: Event | RefsChanged) -> None:
        """Something new: into memory if there is room, else it waits in the journal.

        Before the first ``wake`` the journal may hold older events of any group, which go first.
        """
        if handling.id in self._known:
            return  # a read of the journal has shown it already
        group = self._group(handling.group)
        if self._is_idle() and not (group.in_journal or group.waiting or group.is_blocked()):
            self._known.add(handling.id)  # the usual case: nobody is before it, so it need not queue
            self._start(Item(handling, event, group, self))
            return
        if not self._woken or group.in_journal or self._waiting >= WINDOW or len(group.waiting) >= SHARE:
            self._leave_in_journal(group)
        else:
            self._add(handling, event, group)
        self.advance()

    def wake(self, groups: list[str]) -> None:
        """These groups have something due in the journal; what others get from now on is all they have."""
        self._woken = True
        self._to_read.extend(self._put_off)
        self._put_off.clear()
        for name in groups:
            self._leave_in_journal(self._group(name))
        self.advance()

    def advance(self) -> None:
        """Start what may start, and read more where there is room."""
        if self._advancing:  # called by what it started: the loop below sees what has changed
            return
        self._advancing = True
        try:
            while self._stopped is None and (
                (self._ready and self._start_next()) or (self._to_read and self._read_next())
            ):
                pass
        finally:
            self._advancing = False

    def handled(self, item: Item) -> None:
        """The handler is through with this one: the next need not wait until that is on disk."""
        item.running = False
        item.group.running -= 1
        self._running -= 1
        self.advance()

    def ended(self, item: Item, failure: Failure | None = None) -> None:
        """The outcome of this one is on disk, or it was cancelled: it is no longer in hand."""
        if failure is not None and self._stopped is None:
            _log.failure("a handling of {subscriber} failed", failure, subscriber=self.subscriber.key)
        handling = item.handling.id
        if self._active.pop(handling, None) is None:
            return  # what was told of its end has failed, and tells it once more
        self.moves += 1
        if item.running:
            self.handled(item)
        self._known.discard(handling)
        if self._reading is not None:
            self._ended.add(handling)
        item.group.active -= 1
        self._forget(item.group)
        if self._stopped is None:
            self.advance()
        elif not self._active and not self._stopped.called:
            self._stopped.callback(None)

    def stop(self) -> Deferred[None]:
        """Start nothing more; the result comes when what is in hand has ended. Cancelling it cancels all of that."""
        stopped: Deferred[None] = Deferred(self._cut_short)
        self._stopped = stopped
        if self._reading is not None:
            self._reading.cancel()
        if not self._active:
            stopped.callback(None)
        return stopped

    def waits(self) -> bool:
        """Whether something is due that has not begun, or is handled and not written down.

        What waits for an older event of its group, whose handler runs, is where it should be.
        """
        return len(self._active) > self._running or any(
            not group.is_blocked() for group in (*self._ready, *self._to_read, *self._put_off)
        )

    def is_empty(self) -> bool:
        """Whether it knows of nothing to do."""
        return not (self._active or self._ready or self._to_read or self._put_off)

    # -- inside -------------------------------------------------------------------

    def _group(self, name: str) -> _Group:
        group = self._groups.get(name)
        if group is None:
            ordered = self.subscriber.options.ordered and name != ""
            group = self._groups[name] = _Group(name, ordered, deque())
        return group

    def _leave_in_journal(self, group: _Group) -> None:
        group.arrived = True
        if not group.in_journal:
            group.in_journal = True
            self._to_read.append(group)

    def _add(self, handling: DueHandling, event: Event | RefsChanged | None, group: _Group) -> None:
        if handling.id in self._known:
            return
        if event is not None and self._kept + handling.size <= KEPT_BYTES:
            self._kept += handling.size
        else:
            event = None
        self._known.add(handling.id)
        if not group.waiting:
            self._ready.append(group)
        group.waiting.append(Item(handling, event, group, self))
        self._waiting += 1

    def _has_room(self) -> bool:
        return self._running < self._concurrency and len(self._active) < WINDOW

    def _is_idle(self) -> bool:
        """Whether what comes now may be started now."""
        return self._woken and not self._ready and not self._advancing and self._stopped is None and self._has_room()

    def _start_next(self) -> bool:
        if not self._has_room():
            return False
        for _ in range(len(self._ready)):
            group = self._ready.popleft()
            if group.is_blocked():
                self._ready.append(group)
                continue
            item = group.waiting.popleft()
            self._waiting -= 1
            if group.waiting:
                self._ready.append(group)
            if item.event is not None:
                self._kept -= item.handling.size
            self._start(item)
            return True
        return False

    def _start(self, item: Item) -> None:
        item.group.active += 1
        item.group.running += 1
        self._running += 1
        item.running = True
        self._active[item.handling.id] = item
        self.moves += 1
        try:
            self._handle(self, item)
        except BaseException:  # noqa: BLE001 - whatever it is, those behind this one get their turn
            self.ended(item, Failure())

    def _cut_short(self, _: Deferred[None]) -> None:
        for item in list(self._active.values()):
            if item.later is not None:
                item.later.cancel()

    def _forget(self, group: _Group) -> None:
        if not (group.active or group.waiting or group.in_journal):
            self._groups.pop(group.name, None)

    def _read_next(self) -> bool:
        if self._reading is not None:
            return False
        for _ in range(len(self._to_read)):
            group = self._to_read.popleft()
            room = self._room(group)
            if room:
                self._start_reading(group, room)
                return True
            self._to_read.append(group)
        return False

    def _room(self, group: _Group) -> int:
        """How many more events of a group to take into memory."""
        if self._waiting <= WINDOW // 2:
            return SHARE if len(group.waiting) <= SHARE // 2 else 0
        # Where all that is in memory waits behind something stuck, the journal may have what can run.
        idle = self._running < self._concurrency
        return 1 if idle and not group.waiting and not group.is_blocked() else 0

    def _start_reading(self, group: _Group, room: int) -> None:
        group.arrived = False
        # What is in memory is in the journal, too, and comes along.
        limit = room + len(group.waiting) + group.active
        self._ended.clear()

        def ended(handlings: list[DueHandling] | Failure) -> None:
            self._reading = None
            if isinstance(handlings, Failure):
                # Read again at the next wake: at once it would most likely fail again, and again.
                self._put_off.append(group)
                if self._stopped is None:
                    _log.error(
                        "what is due for {subscriber} cannot be read: {problem}{place}",
                        subscriber=self.subscriber.key,
                        problem=describe(handlings.value),
                        place=place(handlings.value),
                    )
                return
            for handling in handlings:
                if handling.id not in self._ended:
                    self._add(handling, None, group)
            if group.arrived or len(handlings) == limit:
                self._to_read.append(group)
            else:
                group.in_journal = False
                self._forget(group)
            self.advance()

        self._reading = reading = maybeDeferred(self._read, self.subscriber.key, group.name, limit)
        reading.addBoth(ended)
