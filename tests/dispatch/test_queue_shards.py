"""SubscriberQueue beside other processes: whatever is lost, given away, gained and told of late, order holds."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest
from journal_values import due_handling
from plugin_maker import bus_with, event
from twisted.internet.defer import CancelledError, Deferred

from stackit import on
from stackit.dispatch.entries import Group, QueueEntry, State
from stackit.dispatch.queues import QueueLimits, SubscriberQueue
from stackit.journal import DueHandling, Shard

SHARDS = (Shard(0), Shard(1), Shard(2))
GROUPS = {"": None, "a": SHARDS[0], "b": SHARDS[1], "c": SHARDS[1], "d": SHARDS[2]}
LIMITS = QueueLimits(window=6, share=3, kept_bytes=12)
EPOCH = 10_000


class Row(msgspec.Struct, frozen=True):
    """A pending handling in the journal that all processes share."""

    number: int
    group: str
    shard: Shard


class CancelNoted(msgspec.Struct, eq=False):
    """A task whose cancellation is noted, and which ends when the test says so."""

    was_cancelled: bool = False

    def cancel(self) -> None:
        self.was_cancelled = True


class Walk:
    """A walk at random: one queue, and a journal that other processes record into, and own shards of.

    ``rows`` is what the journal has, oldest first, ``epochs`` are those of the shards that are owned here, ``untold``
    are the rows that others recorded and have not told of: they do so in any order. The lease may be over
    (``in_time``) for a moment before the queue hears that all is lost. ``held`` are groups with an event put back.
    """

    def __init__(self, random: Random) -> None:
        @on("*")
        def handle(event: object) -> None: ...

        (subscriber,) = bus_with(mine=handle).subscribers()
        self.random = random
        self.concurrency = random.randint(1, 3)
        self.rows: list[Row] = []
        self.untold: list[Row] = []
        self.epochs: dict[Shard, int] = {}
        self.leaving: set[Shard] = set()
        self.last_epoch = 0
        self.count = 0
        self.started: list[DueHandling] = []
        self.in_hand: list[QueueEntry] = []
        self.held: list[Group] = []
        self.in_time = True
        self.reads: list[tuple[Callable[[], list[DueHandling]], list[DueHandling], Deferred[list[DueHandling]]]] = []
        self.drains: list[tuple[Shard, Deferred[None]]] = []
        self.queue = SubscriberQueue(
            subscriber, concurrency=self.concurrency, handle=self.handle, read=self.read, owns=self.owns, limits=LIMITS
        )
        self.queue.wake([])

    def handle(self, _queue: SubscriberQueue, entry: QueueEntry) -> None:
        assert self.owns(entry.due.shard)
        assert entry.group not in self.held
        entry.task = CancelNoted()
        self.started.append(entry.due)
        self.in_hand.append(entry)
        assert len(self.running()) <= self.concurrency

    def running(self) -> list[QueueEntry]:
        return [each for each in self.in_hand if each.state is State.RUNNING]

    def owns(self, shard: Shard) -> bool:
        return self.works(shard) and self.in_time

    def works(self, shard: Shard) -> bool:
        """Return whether the journal gives out what is pending in a shard: it looks at no clock."""
        return shard in self.epochs and shard not in self.leaving

    def due(self, row: Row) -> DueHandling:
        """Return a row as the journal gives it out: its id has the epoch in which it is taken up."""
        epoch = self.epochs[row.shard] * EPOCH
        earlier = [epoch + each.number for each in self.rows if each.group == row.group and each.number < row.number]
        return due_handling(
            epoch + row.number, row.group, 3, shard=row.shard, earlier=earlier if row.group else (), event=row.number
        )

    def read(self, _key: str, group: str, limit: int) -> Deferred[list[DueHandling]]:
        def found() -> list[DueHandling]:
            return [self.due(each) for each in self.rows if each.group == group and self.works(each.shard)][:limit]

        reading: Deferred[list[DueHandling]] = Deferred()
        self.reads.append((found, found(), reading))
        return reading

    def wake(self) -> None:
        self.queue.wake(list(dict.fromkeys(each.group for each in self.rows if self.works(each.shard))))

    # -- what happens ---------------------------------------------------------------

    def record(self, group: str) -> Row:
        self.count += 1
        shard = GROUPS[group]
        row = Row(self.count, group, SHARDS[self.count % 3] if shard is None else shard)
        self.rows.append(row)
        return row

    def is_recorded_here(self) -> None:
        for _ in range(self.random.randint(1, 5)):
            row = self.record(self.random.choice(sorted(GROUPS)))
            if self.works(row.shard):
                self.queue.offer(self.due(row), event())

    def is_recorded_elsewhere(self) -> None:
        self.untold += [self.record(self.random.choice(sorted(GROUPS))) for _ in range(self.random.randint(1, 5))]

    def is_told(self) -> None:
        if self.untold:
            row = self.untold.pop(self.random.randrange(len(self.untold)))
            if row in self.rows and self.works(row.shard):
                self.queue.offer(self.due(row), None)

    def gains(self) -> None:
        self.gain(self.random.choice(SHARDS))

    def gain(self, shard: Shard) -> None:
        if shard not in self.epochs:
            self.last_epoch += 1
            self.epochs[shard] = self.last_epoch
        self.keep({shard})  # it may have been on its way to another
        self.wake()

    def keep(self, shards: set[Shard]) -> None:
        """Wait for no drain of these shards any more."""
        self.leaving -= shards
        for each in [each for each in self.drains if each[0] in shards]:
            self.drains.remove(each)
            each[1].addErrback(lambda failure: failure.trap(CancelledError) and None)
            each[1].cancel()

    def lapses(self) -> None:
        self.in_time = False

    def hears_of_that(self) -> None:
        if not self.in_time:
            self.lose(set(SHARDS))
            self.in_time = True

    def puts_back(self) -> None:
        """An event has begun, and its handler has yet to be called."""
        running = self.running()
        if not running:
            return
        entry = self.random.choice(running)
        self.in_hand.remove(entry)
        if not entry.is_lost:
            self.started.remove(entry.due)
            if self.owns(entry.due.shard) and entry.group not in self.held:
                self.held.append(entry.group)
        if not self.queue.put_back(entry):
            self.queue.ended(entry)

    def releases_a_group(self) -> None:
        if self.held:
            self.queue.release_group(self.held.pop(self.random.randrange(len(self.held))))

    def loses(self) -> None:
        self.lose(set(self.random.sample(SHARDS, self.random.randint(1, 3))))

    def lose(self, shards: set[Shard]) -> None:
        for each in shards:
            self.epochs.pop(each, None)
        self.keep(shards)
        hit = [each for each in self.in_hand if each.due.shard in shards and not each.is_lost]
        assert self.queue.lose(shards) == len(hit)
        assert all(isinstance(each.task, CancelNoted) and each.task.was_cancelled for each in hit)

    def drains_one(self) -> None:
        shard = self.random.choice(SHARDS)
        if shard in self.epochs and shard not in self.leaving:
            self.leaving.add(shard)
            self.drains.append((shard, self.queue.drain({shard})))

    def gives(self) -> None:
        """A shard that is drained goes to another process: nothing of it is in hand here."""
        for each in [each for each in self.drains if each[1].called]:
            self.drains.remove(each)
            assert not [entry for entry in self.in_hand if entry.due.shard == each[0] and not entry.is_lost]
            self.leaving.discard(each[0])
            del self.epochs[each[0]]

    def is_configured_anew(self) -> None:
        self.concurrency = self.random.randint(1, 3)
        self.queue.change_concurrency(self.concurrency)

    def is_through(self) -> None:
        running = self.running()
        if running:
            self.queue.handled(self.random.choice(running))

    def ends(self) -> None:
        if self.in_hand:
            self.finish(self.random.choice(self.in_hand))

    def finish(self, entry: QueueEntry) -> None:
        """A handling ends; its outcome counts where the shard is still owned in the epoch in which it was taken up."""
        self.in_hand.remove(entry)
        epoch, number = divmod(entry.due.id, EPOCH)
        counts = self.epochs.get(entry.due.shard) == epoch
        assert counts is not entry.is_lost
        if counts:
            (row,) = (each for each in self.rows if each.number == number)
            self.rows.remove(row)
        self.queue.ended(entry)

    def is_answered(self) -> None:
        if self.reads:
            self.answer(late=self.random.random() < 0.5)

    def answer(self, *, late: bool) -> None:
        """The journal answers with what it holds by now, or with what it held when it was asked."""
        found, before, reading = self.reads.pop(0)
        reading.callback(before if late else found())

    def step(self) -> None:
        often = [self.is_recorded_here, self.is_recorded_elsewhere, self.is_told, self.is_told, self.is_answered]
        often += [self.is_answered, self.is_through, self.ends, self.ends, self.ends, self.ends, self.gains]
        often += [self.puts_back, self.releases_a_group, self.hears_of_that]
        seldom = [self.loses, self.drains_one, self.gives, self.gives, self.lapses, self.is_configured_anew]
        self.random.choice(self.random.choices([often, seldom], [8, 1])[0])()

    # -- what must hold -------------------------------------------------------------

    def look(self) -> None:
        groups = [each.due.group for each in self.running() if each.due.group]
        assert len(groups) == len(set(groups))
        assert self.queue._waiting == sum(len(each.waiting) for each in self.queue._groups.values())
        assert 0 <= self.queue._kept_bytes <= LIMITS.kept_bytes

        # The queue has done by itself whatever it could do.
        done = (len(self.started), len(self.reads))
        self.queue.advance()
        assert (len(self.started), len(self.reads)) == done

        # Each is started once in an epoch, and in the order of its group.
        numbers = [each.id for each in self.started]
        assert len(numbers) == len(set(numbers))
        for group in sorted(GROUPS)[1:]:
            order = [each.id for each in self.started if each.group == group]
            assert order == sorted(order)

    def end_well(self) -> None:
        """All that is pending is handled in the end, and nothing is left of it in memory."""
        self.hears_of_that()
        while self.held:
            self.releases_a_group()
        for shard in SHARDS:
            self.gain(shard)
        for _ in range(20 * (self.count + 1)):
            while self.reads:
                self.answer(late=False)
            if not self.in_hand:
                break
            self.finish(self.in_hand[0])
        assert (self.rows, self.in_hand) == ([], [])
        assert all(drained.called for _, drained in self.drains)
        queue = self.queue
        left: list[Any] = [queue._groups, queue._ready, queue._to_read, queue._known, queue._active, queue._draining]
        assert queue.is_empty()
        assert not any(left)
        assert (queue._waiting, queue._kept_bytes, queue._running) == (0, 0, 0)


@pytest.mark.parametrize("seed", range(30))
def test_whatever_is_told_of_late_lost_given_away_and_gained_order_holds_and_nothing_is_left(seed: int) -> None:
    walk = Walk(Random(seed))
    for _ in range(300):
        walk.step()
        walk.look()
    walk.end_well()


def test_what_is_another_process_s_by_the_time_it_is_offered_is_left_to_that() -> None:
    walk = Walk(Random(1))
    walk.gain(SHARDS[0])
    handling = walk.due(walk.record("a"))
    del walk.epochs[SHARDS[0]]
    walk.queue.lose(SHARDS[:1])
    walk.queue.offer(handling, event())
    assert (walk.started, walk.queue.is_empty()) == ([], True)


def test_what_waits_does_not_begin_once_the_lease_is_over_though_nobody_has_said_so() -> None:
    walk = Walk(Random(1))
    walk.gain(SHARDS[0])
    while walk.reads:
        walk.answer(late=False)
    for _ in range(2):
        walk.queue.offer(walk.due(walk.record("a")), event())
    (running,) = walk.in_hand
    walk.leaving.add(SHARDS[0])  # as a process that stood still learns from its clock
    walk.queue.handled(running)
    assert len(walk.started) == 1
    walk.lose({SHARDS[0]})
    walk.finish(running)
    assert walk.queue.is_empty()
