"""SubscriberQueue beside a model: any sequence of offers, reads and ends keeps order, bounds and every event."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from journal_values import due_handling
from plugin_maker import bus_with, event
from twisted.internet.defer import Deferred

from stackit import on
from stackit.dispatch.entries import Group, QueueEntry, State
from stackit.dispatch.queues import QueueLimits, SubscriberQueue
from stackit.journal import DueHandling

GROUPS = ("", "a", "b", "c")
SIZES = (0, 3, 7)
LIMITS = QueueLimits(window=6, share=3, kept_bytes=12)


class QueueMachine(RuleBasedStateMachine):
    """One queue, and a journal that is a list: the model.

    ``due`` is what the journal has, oldest first, until its outcome is on disk. Small bounds are passed soon.
    """

    @initialize(
        concurrency=st.integers(1, 3), ordered=st.booleans(), left=st.lists(st.sampled_from(GROUPS), max_size=9)
    )
    def begin(self, concurrency: int, ordered: bool, left: list[str]) -> None:
        """``left`` are the groups of events that the last process left."""

        @on("*", ordered=ordered)
        def handle(event: object) -> None: ...

        (subscriber,) = bus_with(mine=handle).subscribers()
        self.concurrency = concurrency
        self.ordered = ordered
        self.due: list[DueHandling] = []
        self.started: list[DueHandling] = []
        self.in_hand: list[QueueEntry] = []
        self.held: list[Group] = []
        self.were_back: set[int] = set()
        self.reads: list[tuple[str, int, list[DueHandling], Deferred[list[DueHandling]]]] = []
        self.count = 0
        self.queue = SubscriberQueue(
            subscriber, concurrency=concurrency, handle=self.handle, read=self.read, limits=LIMITS
        )
        self.woken = False
        self.begun: int | None = None  # how many had begun when the queue was held
        for group in left:
            self.comes(group, 1)

    # -- what the queue is given ----------------------------------------------------

    def handle(self, _queue: SubscriberQueue, entry: QueueEntry) -> None:
        assert entry.group not in self.held
        self.started.append(entry.due)
        self.in_hand.append(entry)

    def read(self, _key: str, group: str, limit: int) -> Deferred[list[DueHandling]]:
        self.reads.append((group, limit, self.found(group, limit), Deferred()))
        return self.reads[-1][3]

    def found(self, group: str, limit: int) -> list[DueHandling]:
        return [each for each in self.due if each.group == group][:limit]

    # -- what happens ---------------------------------------------------------------

    def comes(self, group: str, size: int) -> DueHandling:
        self.count += 1
        number = self.count
        handling = due_handling(number, group, size)
        self.due.append(handling)
        return handling

    @rule(group=st.sampled_from(GROUPS), size=st.sampled_from(SIZES), number=st.integers(1, 9))
    def offer(self, group: str, size: int, number: int) -> None:
        for _ in range(number):
            self.queue.offer(self.comes(group, size), event())

    @rule(group=st.sampled_from(GROUPS), number=st.integers(1, 9))
    def a_replay(self, group: str, number: int) -> None:
        """Something is due in the journal that was not offered."""
        for _ in range(number):
            self.comes(group, 1)
        self.wake({group})

    @rule(groups=st.sets(st.sampled_from(GROUPS)))
    def wake(self, groups: set[str]) -> None:
        """The first wake names every group in which something is due, as the journal does."""
        found = set() if self.woken else {each.group for each in self.due}
        self.woken = True
        self.queue.wake(sorted(groups | found))

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data())
    def through(self, data: st.DataObject) -> None:
        """A handler is through; its outcome is still to be written down."""
        entry = data.draw(st.sampled_from(self.in_hand))
        if entry.state is State.RUNNING:
            self.queue.handled(entry)

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.in_hand))
        self.finish(entry)

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        """An event has begun, and finds that what its group needs is not there yet."""
        entry = data.draw(st.sampled_from(self.in_hand))
        if entry.state is State.RUNNING:
            self.in_hand.remove(entry)
            self.started.remove(entry.due)
            self.were_back.add(entry.due.id)
            self.begun = None if self.begun is None else self.begun - 1
            if entry.group not in self.held:
                self.held.append(entry.group)
            assert self.queue.put_back(entry)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release_group(self, data: st.DataObject) -> None:
        group = data.draw(st.sampled_from(self.held))
        self.held.remove(group)
        self.queue.release_group(group)

    def finish(self, entry: QueueEntry) -> None:
        self.in_hand.remove(entry)
        self.due.remove(entry.due)
        self.queue.ended(entry)

    @precondition(lambda self: self.reads)
    @rule()
    def answer(self) -> None:
        """The journal answers with what it holds by now."""
        group, limit, _, reading = self.reads.pop(0)
        reading.callback(self.found(group, limit))

    @precondition(lambda self: self.reads)
    @rule()
    def answer_late(self) -> None:
        """The journal answers with what it held when it was asked: some of it has ended, and more has come."""
        _, _, found, reading = self.reads.pop(0)
        reading.callback(found)

    @precondition(lambda self: self.reads)
    @rule()
    def answer_nothing(self) -> None:
        """The journal cannot be read."""
        *_, reading = self.reads.pop(0)
        reading.errback(OSError("no"))

    @rule()
    def hold(self) -> None:
        """No outcome can be written down from now on."""
        self.queue.hold("unwritable")
        self.begun = len(self.started)

    @rule()
    def release(self) -> None:
        self.begun = None
        self.queue.release("unwritable")

    # -- what must hold -------------------------------------------------------------

    @invariant()
    def bounds_hold(self) -> None:
        if not hasattr(self, "queue"):
            return
        running = [each for each in self.in_hand if each.state is State.RUNNING]
        assert len(running) <= self.concurrency
        assert len(self.in_hand) <= LIMITS.window
        assert self.queue._waiting <= LIMITS.window + LIMITS.share + len(GROUPS) * self.concurrency
        assert 0 <= self.queue._kept_bytes <= LIMITS.kept_bytes
        assert all(len(each.waiting) <= 2 * LIMITS.share + self.concurrency for each in self.queue._groups.values())
        if self.ordered:
            groups = [each.due.group for each in running if each.due.group]
            assert len(groups) == len(set(groups))

    @invariant()
    def whoever_has_something_to_do_is_in_line_and_nobody_else(self) -> None:
        if not hasattr(self, "queue"):
            return
        for group in self.queue._groups.values():
            may_begin = bool(group.waiting) and not group.is_blocked()
            assert self.queue._ready.count(group) == group.in_line
            assert may_begin <= group.in_line <= bool(group.waiting)
            assert not (group.is_aside and group in self.queue._to_read)
            # Something will have it taken up again.
            assert not group.is_aside or (group.in_journal and (group.waiting or group.running or group.is_held))

    @invariant()
    def nothing_begins_while_it_is_held(self) -> None:
        if hasattr(self, "queue"):
            assert self.begun in (None, len(self.started))

    @invariant()
    def each_is_started_once_and_in_the_order_of_its_group(self) -> None:
        if not hasattr(self, "queue"):
            return
        numbers = [each.id for each in self.started]
        assert len(numbers) == len(set(numbers))
        for group in GROUPS:
            # What was put back begins at its turn, unless others need not wait for it.
            out_of_turn = set() if self.ordered and group else self.were_back
            order = [each.id for each in self.started if each.group == group and each.id not in out_of_turn]
            assert order == sorted(order)

    def teardown(self) -> None:
        """Everything is handled in the end, and nothing is left of it in memory."""
        if not hasattr(self, "queue"):
            return
        total = len({*self.started, *self.due})
        self.release()
        while self.held:
            self.queue.release_group(self.held.pop())
        self.wake(set())
        for _ in range(10 * total + 10 * len(GROUPS)):
            while self.reads:
                self.answer()
            if not self.in_hand:
                break
            self.finish(self.in_hand[0])
        assert (self.due, self.in_hand, len(self.started)) == ([], [], total)
        queue = self.queue
        left: list[Any] = [queue._groups, queue._ready, queue._to_read, queue._known, queue._active]
        assert queue.is_empty()
        assert not any(left)
        assert (queue._waiting, queue._kept_bytes, queue._running) == (0, 0, 0)


QueueMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60)
TestQueue = QueueMachine.TestCase
