"""One subscriber's queue: what is in hand, what waits in memory, and what stays in the journal.

The journal is the queue. A SubscriberQueue keeps a bounded stretch of it in memory, by group (the repository). A group
that outgrows its share is left in the journal and read back when its turn comes. So neither a slow subscriber nor one
busy repository costs memory, or holds up the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import Literal

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.events import Event, RefsChanged
from stackit.bus.subscribers import Subscriber
from stackit.dispatch.entries import ENDED, RECORDING, RUNNING, Group, QueueEntry
from stackit.dispatch.group_reader import GroupReader, Read
from stackit.dispatch.holdups import HoldOfAll
from stackit.journal import DueHandling, HandlingId, Shard

_log = Logger(namespace="stackit")


class QueueLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of what one queue holds in memory.

    At most ``window`` events wait or are in hand, and ``share`` of one group wait. Waiting events keep their bodies up
    to ``kept_bytes`` in all; beyond that an event is read again when it is due.
    """

    window: int = 1024
    share: int = 32
    kept_bytes: int = 8 * 2**20


_DEFAULT_LIMITS = QueueLimits()

Handle = Callable[["SubscriberQueue", QueueEntry], None]
Hold = Literal["paused", HoldOfAll]
"""Why no event of a queue may begin: a person paused it, or what holds all of them."""


def everything(_shard: Shard) -> bool:
    """Own every shard, as one process does that has the journal for itself."""
    return True


class SubscriberQueue:
    """Hand one subscriber its events: in order within a group, fair between groups, bounded in number and bytes.

    ``handle(queue, entry)`` begins to handle one event. It calls ``handled(entry)`` as soon as the handler is through,
    and ``ended(entry)`` when the outcome is on disk, in any order and at any time.
    ``read(key, group, limit)`` returns what is due of a group in the journal, oldest first.
    ``owns(shard)`` says whether events of a shard may begin here; the others are left in the journal.
    Whatever either of them raises, the queue goes on. ``moves`` counts the events that have begun or ended.
    While anything holds the queue, it ``is_held``: no event begins, and new ones are left in the journal. So may a
    group be held.
    """

    __slots__ = (
        "_active",
        "_advancing",
        "_concurrency",
        "_draining",
        "_groups",
        "_handle",
        "_holds",
        "_kept_bytes",
        "_known",
        "_limits",
        "_owns",
        "_reader",
        "_ready",
        "_running",
        "_stopped",
        "_to_read",
        "_waiting",
        "_woken",
        "is_held",
        "moves",
        "subscriber",
    )

    def __init__(
        self,
        subscriber: Subscriber,
        *,
        concurrency: int,
        handle: Handle,
        read: Read,
        owns: Callable[[Shard], bool] = everything,
        limits: QueueLimits = _DEFAULT_LIMITS,
    ) -> None:
        self.subscriber = subscriber
        self.moves = 0
        self.is_held = False
        self._holds: set[Hold] = set()
        self._concurrency = concurrency
        self._handle = handle
        self._owns = owns
        self._limits = limits
        self._groups: dict[str, Group] = {}
        self._ready: deque[Group] = deque()  # groups whose next event may begin, each once, first come first served
        self._reader = GroupReader(subscriber.key, read, self._take)
        self._to_read = self._reader.groups  # looked at for each event
        self._known: set[HandlingId] = set()  # ids of handlings that wait or are in hand
        self._active: dict[HandlingId, QueueEntry] = {}  # running or recording, by id
        self._running = 0
        self._waiting = 0
        self._kept_bytes = 0
        self._woken = False
        self._advancing = False
        self._stopped: Deferred[None] | None = None
        self._draining: list[tuple[set[HandlingId], Deferred[None]]] = []

    def offer(self, due: DueHandling, event: Event | RefsChanged | None) -> None:
        """Add a new event: to memory if there is room; else it is read from the journal later.

        Before the first ``wake`` the journal may hold older events of any group, which go first; so may it where other
        processes record, which tell of theirs in an order of their own. ``event`` is None for one that is to be loaded.
        """
        if due.id in self._known or not self._owns(due.shard):
            return  # a read of the journal has shown it already, or it is another's by now
        group = self._groups.get(due.group) or self._add_group(due.group)
        is_next = not due.earlier or not group.ordered or self._known.issuperset(due.earlier)
        if is_next and self._is_idle() and not (group.in_journal or group.waiting or group.is_blocked()):
            self._known.add(due.id)  # the usual case: no other event is before it, so it need not queue
            self._start(QueueEntry(due, event, group))
            return
        if (
            not (self._woken and is_next)
            or self.is_held
            or group.in_journal
            or self._waiting >= self._limits.window
            or len(group.waiting) >= self._limits.share
        ):
            self._reader.add(group)
        else:
            self._add(due, event, group)
        self.advance()

    def may_have(self, due: DueHandling) -> bool:
        """Return whether an event may begin here and is not in the queue, as far as that was read, nor in hand."""
        return due.id not in self._known and self._owns(due.shard)

    def may_begin(self, entry: QueueEntry) -> bool:
        """Return whether the handler of an event in hand may begin: what took time may have cost its shard."""
        return not entry.is_lost and self._owns(entry.due.shard)

    def change_concurrency(self, concurrency: int) -> None:
        """Have at most so many events in hand from now on; what runs goes on."""
        self._concurrency = concurrency
        self.advance()

    def hold(self, reason: Hold) -> None:
        """Begin no event from now on, until ``release`` of this reason; what is in hand goes on."""
        self._holds.add(reason)
        self.is_held = True

    def release(self, reason: Hold) -> None:
        """Begin events again, unless another reason is left: those in memory, and what was left in the journal."""
        self._holds.discard(reason)
        self.is_held = bool(self._holds)
        self.advance()

    def wake(self, groups: list[str]) -> None:
        """Read these groups from the journal, in which something is due for them."""
        self._woken = True
        self._reader.retry_failed()
        for name in groups:
            self._reader.add(self._groups.get(name) or self._add_group(name))
        self.advance()

    def advance(self) -> None:
        """Start what may start, and read more where there is room."""
        if self._advancing or self.is_held:  # called by what it started: the loop below sees the change
            return
        self._advancing = True
        try:
            while (self._stopped is None and not self.is_held) and (
                (self._ready and self._start_next()) or (self._to_read and self._read_next())
            ):
                pass
        finally:
            self._advancing = False

    def handled(self, entry: QueueEntry) -> None:
        """Let the next event begin: the handler is through with this one, which is not on disk yet."""
        entry.state = RECORDING
        group = entry.group
        group.running -= 1
        self._running -= 1
        if group.waiting or group.is_aside:
            self._take_up(group)
        if self._ready or self._to_read:
            self.advance()

    def ended(self, entry: QueueEntry, failure: Failure | None = None) -> None:
        """Forget an event whose outcome is on disk, or that was cancelled. Calls after the first do nothing."""
        if failure is not None and self._stopped is None and not entry.is_lost:
            _log.failure("a handling of {subscriber} failed", failure, subscriber=self.subscriber.key)
        if entry.state is ENDED:
            return
        if entry.state is RUNNING:
            self.handled(entry)
        entry.state = ENDED
        self.moves += 1
        group = entry.group
        group.active -= 1
        del self._active[entry.due.id]
        self._known.discard(entry.due.id)
        if self._reader.ended is not None:
            self._reader.ended.add(entry.due.id)
        if self._draining:
            self._note_drained(entry.due.id)
        self._forget_if_empty(group)
        if self._stopped is not None:
            if not self._active and not self._stopped.called:
                self._stopped.callback(None)
        elif self._ready or self._to_read:
            self.advance()

    def put_back(self, entry: QueueEntry) -> bool:
        """Let an event that has begun, but not its handler, wait again: its group is held until ``release_group``.

        False if it cannot wait here any more: it is left in the journal then.
        """
        due, group = entry.due, entry.group
        if self._stopped is not None or entry.is_lost or not self._owns(due.shard):
            return False
        group.is_held = True
        group.waiting.appendleft(QueueEntry(due, None, group))
        self._waiting += 1
        entry.state = ENDED
        self.moves += 1
        group.active -= 1
        group.running -= 1
        self._running -= 1
        del self._active[due.id]
        if self._draining:
            self._note_drained(due.id)
        self.advance()
        return True

    def release_group(self, group: Group) -> None:
        """Begin events of a group again that was held."""
        group.is_held = False
        self._take_up(group)
        self.advance()

    def lose(self, shards: Collection[Shard]) -> int:
        """Cancel what is in hand of these shards, and drop what waits; return how many were in hand.

        They are another's: what comes of them is no outcome. A group stays blocked until what ran of it has ended.
        """
        self._drop(shards)
        lost = [each for each in self._active.values() if each.due.shard in shards and not each.is_lost]
        for each in lost:
            each.is_lost = True
        for each in lost:
            if each.task is not None:
                each.task.cancel()
        self.advance()
        return len(lost)

    def drain(self, shards: Collection[Shard]) -> Deferred[None]:
        """Drop what waits of these shards, which are no longer its own; fires when nothing is in hand of them."""
        self._drop(shards)
        in_hand = {each.due.id for each in self._active.values() if each.due.shard in shards}
        drained: Deferred[None] = Deferred()
        if in_hand:
            self._draining.append((in_hand, drained))
        else:
            drained.callback(None)
        self.advance()
        return drained

    def stop(self) -> Deferred[None]:
        """Start nothing more, and return a Deferred that fires when what is in hand has ended.

        Cancelling the Deferred cancels what is in hand.
        """
        stopped: Deferred[None] = Deferred(self._cancel_active)
        self._stopped = stopped
        self._reader.stop()
        if not self._active:
            stopped.callback(None)
        return stopped

    def has_due(self) -> bool:
        """Return whether an event should have begun, or is handled and not written down.

        None should begin while anything holds the queue, nor be written down while that is what cannot be done. An
        event that waits for an older one of its group, whose handler runs, is where it should be.
        """
        return (len(self._active) > self._running and "unwritable" not in self._holds) or (
            not self.is_held and any(not group.is_blocked() for group in (*self._ready, *self._reader.waiting()))
        )

    def in_hand(self) -> int:
        """Return how many events have begun and have not ended."""
        return len(self._active)

    def is_empty(self) -> bool:
        """Return whether nothing is in hand, waits, or is to be read."""
        return not (self._active or self._waiting or self._reader.waiting())

    # -- groups and entries -------------------------------------------------------

    def _add_group(self, name: str) -> Group:
        ordered = self.subscriber.options.ordered and name != ""
        group = self._groups[name] = Group(name, ordered, deque())
        return group

    def _forget_if_empty(self, group: Group) -> None:
        if not (group.active or group.waiting or group.in_journal):
            self._groups.pop(group.name, None)

    def _add(self, due: DueHandling, event: Event | RefsChanged | None, group: Group) -> None:
        if event is not None and self._kept_bytes + due.size <= self._limits.kept_bytes:
            self._kept_bytes += due.size
        else:
            event = None
        self._known.add(due.id)
        group.waiting.append(QueueEntry(due, event, group))
        self._waiting += 1
        if not group.in_line:
            self._take_up(group)

    def _take_up(self, group: Group) -> None:
        """Put a group in line that has something to do again, by what has changed of it: to begin, or to be read.

        Until then it is in no line, so that it costs nothing how many groups wait.
        """
        if group.waiting and not group.in_line and not group.is_blocked():
            group.in_line = True
            self._ready.append(group)
        if group.is_aside:
            self._reader.take_up(group)

    def _drop(self, shards: Collection[Shard]) -> None:
        """Forget what waits of these shards, and what is being read of them; the journal keeps it."""
        self._reader.lost.update(shards)
        for group in list(self._groups.values()):
            dropped = [each for each in group.waiting if each.due.shard in shards]
            if dropped:
                self._leave_in_journal(group, dropped)
                if not group.waiting:
                    group.in_line = False
                    group.early_since = None
                self._take_up(group)
                self._forget_if_empty(group)
        in_line = [each for each in self._ready if each.in_line]
        self._ready.clear()
        self._ready.extend(in_line)

    def _leave_in_journal(self, group: Group, entries: Collection[QueueEntry]) -> None:
        for each in entries:
            group.waiting.remove(each)
            self._known.discard(each.due.id)
            if each.event is not None:
                self._kept_bytes -= each.due.size
        self._waiting -= len(entries)

    def _note_drained(self, handling: HandlingId) -> None:
        for each in list(self._draining):
            in_hand, drained = each
            in_hand.discard(handling)
            if not in_hand:
                self._draining.remove(each)
                drained.callback(None)

    # -- starting -----------------------------------------------------------------

    def _has_room(self) -> bool:
        return self._running < self._concurrency and len(self._active) < self._limits.window

    def _is_idle(self) -> bool:
        """Return whether a new event may be started at once."""
        if not self._woken or self._ready or self._advancing or self.is_held:
            return False
        return self._stopped is None and self._has_room()

    def _start_next(self) -> bool:
        while self._ready and self._has_room():
            group = self._ready[0]
            if group.is_blocked():  # it is held since it was put in line
                self._ready.popleft()
                group.in_line = False
                continue
            if not self._owns(group.waiting[0].due.shard):
                return False  # the lease ran out while this process stood still: it hears so in a moment
            self._ready.popleft()
            group.in_line = False
            entry = group.waiting.popleft()
            self._waiting -= 1
            if entry.event is not None:
                self._kept_bytes -= entry.due.size
            self._start(entry)
            if group.is_aside or (group.waiting and not group.ordered):
                self._take_up(group)
            return True
        return False

    def _start(self, entry: QueueEntry) -> None:
        entry.state = RUNNING
        entry.group.active += 1
        entry.group.running += 1
        self._running += 1
        self._active[entry.due.id] = entry
        self.moves += 1
        try:
            self._handle(self, entry)
        except BaseException:  # noqa: BLE001 - whatever it is, the events behind this one get their turn
            self.ended(entry, Failure())

    def _cancel_active(self, _: Deferred[None]) -> None:
        for entry in list(self._active.values()):
            if entry.task is not None:
                entry.task.cancel()

    # -- reading ------------------------------------------------------------------

    def _read_next(self) -> bool:
        is_crowded = self._waiting > self._limits.window // 2
        if is_crowded and self._running >= self._concurrency:
            return False
        return self._reader.read_next(self._room)

    def _room(self, group: Group) -> int:
        """Return how many more events of a group to take into memory, where one may be read at all.

        That is 0 only until one of its own events begins or ends, or until it is held no more.
        """
        if self._waiting <= self._limits.window // 2:
            return self._limits.share if len(group.waiting) <= self._limits.share // 2 else 0
        # If all events in memory wait behind something stuck, the journal may have one that can run.
        return 0 if group.waiting or group.is_blocked() else 1

    def _take(self, group: Group, due: list[DueHandling], room: int) -> None:
        """Add what was read from the journal of a group, up to ``room`` events that are not in memory."""
        new = [each for each in due if each.id not in self._known]
        for each in new[:room]:
            self._add(each, None, group)
        if len(new) > room:  # events ended during the read, and others came in their place
            self._reader.add(group)
        self._forget_if_empty(group)
        self.advance()
