"""The limits on concurrent fetches, fair among hosts: a remote that hangs does not block the others."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

from twisted.internet.defer import Deferred

Kind: TypeAlias = Literal["quick", "push", "background", "clone"]
"""``quick``: a fast fetch. ``push``: a git fetch for a push or a person. ``background``: a fetch of the backstop or the
start. ``clone``: a first clone."""

EARLY_PER_SLOT = 4
"""The most hanging holders without a slot, as a multiple of the slots. Beyond, the one that hangs longest is ended."""

URGENT_TURNS = 4
"""Of this many turns, one goes to a waiter that is not urgent, however many pushes come."""

_SHARES: Mapping[Kind, tuple[int, int]] = MappingProxyType(
    {"quick": (4, 16), "push": (1, 2), "background": (1, 2), "clone": (1, 2)}
)
"""The slots of one host, and of all, as multiples of the concurrency."""

_ORDERS = ((0, 1, 2), (1, 0, 2), (2, 1, 0))


class SlotPool:
    """At most ``total`` working holders, and ``each`` of one host. Slots that were released early do not count.

    First come, first served, host by host. Urgent waiters go before the others; suspect ones, whose last attempt
    hung, go last. Each rank has a turn now and then.
    """

    def __init__(self, each: int, total: int) -> None:
        self._each = each
        self._total = total
        self._working: Counter[str] = Counter()
        self._early: dict[Slot, None] = {}  # longest first
        self._turns = 0
        self._queues: tuple[dict[str, deque[Waiter]], ...] = ({}, {}, {})

    @property
    def busy(self) -> bool:
        """True while any holder works."""
        return self._working.total() > 0

    def change(self, each: int, total: int) -> None:
        """Have other numbers of holders from now on; those that work go on."""
        self._each, self._total = each, total
        self._serve()

    def acquire(
        self, host: str = "", *, urgent: bool = False, suspect: bool = False, end: Callable[[], None] = lambda: None
    ) -> Waiter:
        """Queue for a slot of this host. ``end`` is called if its holder hangs and has to make way for others."""
        waiter = Waiter(self, host, end)
        self._join(waiter, 2 if suspect else 0 if urgent else 1)
        self._serve()
        return waiter

    def prioritise(self, waiter: Waiter) -> None:
        """Make a waiter urgent."""
        if waiter.rank == 1 and not waiter.turn.called:
            self.leave(waiter)
            self._join(waiter, 0)
            self._serve()

    def leave(self, waiter: Waiter) -> None:
        """Remove a waiter from its queue."""
        queues = self._queues[waiter.rank]
        queues[waiter.host].remove(waiter)
        if not queues[waiter.host]:
            del queues[waiter.host]

    def release_early(self, slot: Slot) -> None:
        """Free the slot of a holder that hangs."""
        if len(self._early) - sum(each.long for each in self._early) >= EARLY_PER_SLOT * self._total:
            longest = next((each for each in self._early if each.hangs and not each.long), None)
            if longest is None:
                return
            del self._early[longest]
            longest.released_early = longest.ended = True
            longest.end()
        slot.released_early = True
        self._early[slot] = None
        self._stop(slot.host)

    def release_long_running(self, slot: Slot) -> None:
        """Free the slot of a holder that takes long, unless ``total`` of those go on already."""
        if sum(each.long for each in self._early) < self._total:
            slot.long = slot.released_early = True
            self._early[slot] = None
            self._stop(slot.host)

    def release(self, slot: Slot) -> None:
        """Free the slot of a holder that has finished."""
        if slot.released_early:
            self._early.pop(slot, None)
        else:
            self._stop(slot.host)

    def _join(self, waiter: Waiter, rank: int) -> None:
        waiter.rank = rank
        self._queues[rank].setdefault(waiter.host, deque()).append(waiter)

    def _stop(self, host: str) -> None:
        self._working[host] -= 1
        if not self._working[host]:
            del self._working[host]
        self._serve()

    def _serve(self) -> None:
        while self._working.total() < self._total:
            waiter = self._next()
            if waiter is None:
                return
            self._working[waiter.host] += 1
            waiter.turn.callback(Slot(self, waiter.host, waiter.end))

    def _next(self) -> Waiter | None:
        turns = self._turns + 1
        order = _ORDERS[0 if turns % URGENT_TURNS else 1 if turns % (2 * URGENT_TURNS) else 2]
        for rank in order:
            queues = self._queues[rank]
            # The hosts that are passed over have all their slots, so they are few.
            host = next((each for each in queues if self._working[each] < self._each), None)
            if host is not None:
                self._turns = turns
                queue = queues.pop(host)
                waiter = queue.popleft()
                if queue:
                    queues[host] = queue  # the other hosts come first now
                return waiter
        return None


class Waiter:
    """A request for a slot: ``turn`` fires with the Slot. Cancelling it leaves the queue."""

    def __init__(self, slots: SlotPool, host: str, end: Callable[[], None]) -> None:
        self.host = host
        self.end = end
        self.rank = 1
        self.turn: Deferred[Slot] = Deferred(lambda _: slots.leave(self))


class Slot:
    """Permission to work. ``release_early`` frees it while the work goes on; ``release`` ends the work."""

    def __init__(self, slots: SlotPool, host: str, end: Callable[[], None]) -> None:
        self.host = host
        self.end = end
        self.released_early = False
        self.ended = False
        """True once its work was ended for others."""
        self.hangs = False
        self.long = False
        """True once it released its slot because it takes long. It is not ended for others."""
        self._slots = slots
        self._released = False

    def release_early(self) -> None:
        """Note that the work hangs, and let another start."""
        self.hangs = True
        if not self.released_early and not self._released:
            self._slots.release_early(self)

    def release_long_running(self) -> None:
        """Note that the work takes long, and let another start."""
        if not self.released_early and not self._released:
            self._slots.release_long_running(self)

    def resume(self) -> None:
        """Note that the work makes progress again."""
        self.hangs = False

    def release(self) -> None:
        if not self._released:
            self._released = True
            self._slots.release(self)


class FetchSlots:
    """A pool of slots for each kind of work, so that no kind waits for another.

    One host has ``concurrency`` slots of a pool, all hosts together twice as many. A fast fetch costs little but
    waiting, and has more.
    """

    def __init__(self, concurrency: int) -> None:
        self._kinds: dict[Kind, SlotPool] = {
            kind: SlotPool(each * concurrency, total * concurrency) for kind, (each, total) in _SHARES.items()
        }

    def change(self, concurrency: int) -> None:
        """Have another number of slots from now on."""
        for kind, (each, total) in _SHARES.items():
            self._kinds[kind].change(each * concurrency, total * concurrency)

    def of(self, kind: Kind) -> SlotPool:
        return self._kinds[kind]

    @property
    def pushing(self) -> bool:
        """True while a push is being fetched."""
        return self._kinds["quick"].busy or self._kinds["push"].busy
