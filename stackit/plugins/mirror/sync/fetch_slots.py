"""Who may work at once, and whose turn is next: neither one that hangs nor a slow host stands in the way of others."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Literal, TypeAlias

from twisted.internet.defer import Deferred

Kind: TypeAlias = Literal["quick", "push", "look", "clone"]
"""``quick``: a push by the fast road. ``push``: what git fetches for a push or a person. ``look``: what nobody waits
for. ``clone``: a mirror that is made."""

LENDABLE = 4
"""Those that hang are at most this many times as many as may work; beyond, the one that hangs longest is ended."""

HURRIED = 4
"""Of so many turns, one goes to those that nobody waits for, however many pushes come."""

_ORDERS = ((0, 1, 2), (1, 0, 2), (2, 1, 0))


class Slots:
    """At most ``in_all`` holders that have not lent their slot, and ``each`` of one host.

    In the order of asking, host by host; but those in a hurry go before those that are not, and those in doubt, whose
    last attempt hung, go behind both. All have a turn now and then.
    """

    def __init__(self, each: int, in_all: int) -> None:
        self._each = each
        self._in_all = in_all
        self._working: Counter[str] = Counter()
        self._lent: dict[Slot, None] = {}  # longest first
        self._turns = 0
        self._lines: tuple[dict[str, deque[Place]], ...] = ({}, {}, {})

    @property
    def busy(self) -> bool:
        """Whether any holder works."""
        return self._working.total() > 0

    def acquire(
        self, host: str = "", *, hurried: bool = False, doubtful: bool = False, end: Callable[[], None] = lambda: None
    ) -> Place:
        """A place in the line of a host. ``end`` is called where it hangs, and has to make way for others that do."""
        place = Place(self, host, end)
        self._join(place, 2 if doubtful else 0 if hurried else 1)
        self._serve()
        return place

    def hurry(self, place: Place) -> None:
        """Somebody waits for this one now."""
        if place.rank == 1 and not place.turn.called:
            self.leave(place)
            self._join(place, 0)
            self._serve()

    def leave(self, place: Place) -> None:
        """Give up waiting."""
        line = self._lines[place.rank]
        line[place.host].remove(place)
        if not line[place.host]:
            del line[place.host]

    def lend(self, slot: Slot) -> None:
        """Let another work meanwhile, as this one hangs."""
        if len(self._lent) - sum(each.long for each in self._lent) >= LENDABLE * self._in_all:
            longest = next((each for each in self._lent if each.hangs and not each.long), None)
            if longest is None:
                return
            del self._lent[longest]
            longest.lent = longest.ended = True
            longest.end()
        slot.lent = True
        self._lent[slot] = None
        self._stop(slot.host)

    def lend_long(self, slot: Slot) -> None:
        """Let another work meanwhile, as this one takes long; not beside more than ``in_all`` of those."""
        if sum(each.long for each in self._lent) < self._in_all:
            slot.long = slot.lent = True
            self._lent[slot] = None
            self._stop(slot.host)

    def release(self, slot: Slot) -> None:
        """Let another work from now on."""
        if slot.lent:
            self._lent.pop(slot, None)
        else:
            self._stop(slot.host)

    def _join(self, place: Place, rank: int) -> None:
        place.rank = rank
        self._lines[rank].setdefault(place.host, deque()).append(place)

    def _stop(self, host: str) -> None:
        self._working[host] -= 1
        if not self._working[host]:
            del self._working[host]
        self._serve()

    def _serve(self) -> None:
        while self._working.total() < self._in_all:
            place = self._next()
            if place is None:
                return
            self._working[place.host] += 1
            place.turn.callback(Slot(self, place.host, place.end))

    def _next(self) -> Place | None:
        turns = self._turns + 1
        order = _ORDERS[0 if turns % HURRIED else 1 if turns % (2 * HURRIED) else 2]
        for rank in order:
            line = self._lines[rank]
            # At most so many hosts are passed over as have all the slots that they can have.
            host = next((each for each in line if self._working[each] < self._each), None)
            if host is not None:
                self._turns = turns
                queue = line.pop(host)
                place = queue.popleft()
                if queue:
                    line[host] = queue  # the other hosts come first now
                return place
        return None


class Place:
    """A place in a line; ``turn`` fires with a Slot when it is this one's turn, and cancelling it leaves the line."""

    def __init__(self, slots: Slots, host: str, end: Callable[[], None]) -> None:
        self.host = host
        self.end = end
        self.rank = 1
        self.turn: Deferred[Slot] = Deferred(lambda _: slots.leave(self))


class Slot:
    """Permission to work. ``lend`` lets another work meanwhile; ``release`` gives it back, once and for all."""

    def __init__(self, slots: Slots, host: str, end: Callable[[], None]) -> None:
        self.host = host
        self.end = end
        self.lent = False
        self.ended = False
        """Whether it had to make way."""
        self.hangs = False
        self.long = False
        """Whether it lent its slot because it takes long, and is not ended for others."""
        self._slots = slots
        self._released = False

    def lend(self) -> None:
        """There is no sign of life."""
        self.hangs = True
        if not self.lent and not self._released:
            self._slots.lend(self)

    def lend_long(self) -> None:
        """It takes long, and those that do not should not wait for it."""
        if not self.lent and not self._released:
            self._slots.lend_long(self)

    def alive(self) -> None:
        """There is one again."""
        self.hangs = False

    def release(self) -> None:
        if not self._released:
            self._released = True
            self._slots.release(self)


class Places:
    """Slots of each kind, so that none waits for one of another kind.

    One host has ``concurrency`` of them, for all hosts there are twice as many. The fast road costs little but waiting,
    and has more.
    """

    def __init__(self, concurrency: int) -> None:
        self._kinds: dict[Kind, Slots] = {
            "quick": Slots(4 * concurrency, 16 * concurrency),
            "push": Slots(concurrency, 2 * concurrency),
            "look": Slots(concurrency, 2 * concurrency),
            "clone": Slots(concurrency, 2 * concurrency),
        }

    def of(self, kind: Kind) -> Slots:
        return self._kinds[kind]

    @property
    def pushing(self) -> bool:
        """Whether a push is being brought at this moment."""
        return self._kinds["quick"].busy or self._kinds["push"].busy
