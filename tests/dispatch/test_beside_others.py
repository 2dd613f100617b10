"""Dispatch beside other processes: what they record is handled here, and what is theirs by now has no outcome here."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from dispatch_harness import ByHand, Harness, Open, noting
from plugin_maker import ONE, ZEROS, plugin
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from stackit import Event, MirrorInfo, RefChange, RefsChanged, Repo, hookimpl, on
from stackit.journal import (
    AppendResult,
    DueHandling,
    EventId,
    HandlingId,
    NewDelivery,
    Shard,
    Space,
    StoredEvent,
    WorkListener,
)
from stackit.journal.sqlite import SQLiteJournal

SHARD = Shard(7)


class SharedJournal(SQLiteJournal):
    """A journal as one process sees it that shares it with others: the test says what they record, and what they own.

    All handlings are in one shard. ``finished`` notes the outcomes that are written down, ``asked`` counts how often
    the groups were asked for. ``meanwhile`` is what happens between the next count of what is pending and its answer.
    """

    owned = True
    asked = 0
    meanwhile: list[Callable[[], Awaitable[object]]]
    by_others = False
    spaces: Mapping[str, Space] = {}
    elsewhere: Mapping[str, int] = {}
    listener: WorkListener
    appended: list[tuple[DueHandling, NewDelivery]]
    finished: list[HandlingId]

    def subscribe(self, subscribers: Mapping[str, Space]) -> None:
        self.spaces = subscribers

    def listen(self, listener: WorkListener) -> None:
        self.listener, self.appended, self.finished, self.meanwhile = listener, [], [], []

    def owns(self, shard: Shard) -> bool:
        return self.owned

    def append(self, delivery: NewDelivery, done: Callable[[AppendResult | Failure], object]) -> None:
        def appended(result: AppendResult | Failure) -> None:
            assert not isinstance(result, Failure)
            handlings = tuple(msgspec.structs.replace(each, shard=SHARD) for each in result.handlings)
            self.appended += [(each, delivery) for each in handlings]
            done(msgspec.structs.replace(result, handlings=() if self.by_others else handlings))

        super().append(delivery, appended)

    async def pending_elsewhere(self) -> dict[str, int]:
        return dict(self.elsewhere)

    async def pending(self) -> dict[str, int]:
        counted = dict(await super().pending())
        while self.meanwhile:
            await self.meanwhile.pop()()
        return counted

    async def due(self, *args: Any, **options: Any) -> list[DueHandling]:
        found = await super().due(*args, **options) if self.owned else []
        return [msgspec.structs.replace(each, shard=SHARD) for each in found]

    async def due_groups(self, subscriber: str, *, now: float) -> list[str]:
        self.asked += 1
        return await super().due_groups(subscriber, now=now) if self.owned else []

    def finish(self, handling: HandlingId, done: Callable[[Failure | None], object], *, at: float) -> None:
        self.finished.append(handling)
        super().finish(handling, done, at=at)

    async def tell(self, numbers: Iterable[int]) -> None:
        """Others tell of what they recorded; the numbers are those of the handlings."""
        works: list[tuple[DueHandling, StoredEvent]] = []
        for number in numbers:
            due = self.appended[number][0]
            earlier = tuple(each.id for each, _ in self.appended[:number] if each.subscriber == due.subscriber)
            stored = await self.load(due.event_id)
            assert stored is not None
            works.append((msgspec.structs.replace(due, earlier=earlier), stored))
        self.listener.recorded(works)


def shared(one: Harness) -> SharedJournal:
    assert isinstance(one.journal, SharedJournal)
    return one.journal


@pytest_twisted.ensureDeferred
async def test_what_needs_a_mirror_is_handled_where_that_is(harness: Open) -> None:
    @on("push", needs_mirror=True)
    def reads(event: object) -> None: ...

    @on("push")
    def notes(event: object) -> None: ...

    @hookimpl
    def stackit_refs_changed(change: object) -> None: ...

    one = harness(mine=plugin(reads, notes, stackit_refs_changed), journal=SharedJournal)
    assert shared(one).spaces == {
        "mine:reads": "mirrors",
        "mine:notes": "handlers",
        "mine:stackit_refs_changed": "mirrors",
    }


@pytest_twisted.ensureDeferred
async def test_what_others_record_is_handled_here_in_order_whatever_is_told_first(harness: Open) -> None:
    seen: list[str] = []
    one = harness(fine=noting(seen), journal=SharedJournal)
    shared(one).by_others = True
    for _ in range(4):
        await one.take()
    assert seen == []
    await shared(one).tell([2, 0])
    await one.until(lambda: len(seen) == 4)  # the journal shows what was not told of
    await shared(one).tell([3, 1])
    await one.quiet()
    assert seen == ["d1", "d2", "d3", "d4"]


@pytest_twisted.ensureDeferred
async def test_each_handler_of_what_others_record_has_an_event_of_its_own(harness: Open) -> None:
    seen: list[tuple[str, Any]] = []

    @on("*")
    def first(event: Event) -> None:
        event.payload["mark"] = "changed"
        seen.append((event.id, event.delivery))

    @on("*")
    def second(event: Event) -> None:
        seen.append((event.id, event.payload["mark"]))

    one = harness(mine=plugin(first, second), journal=SharedJournal)
    shared(one).by_others = True
    taken = await one.take()
    await shared(one).tell([0, 1])
    await one.until(lambda: len(seen) == 2)
    assert seen == [(taken.id, "d1"), (taken.id, "d1")]


@pytest_twisted.ensureDeferred
async def test_what_is_lost_is_cancelled_and_has_no_outcome(harness: Open) -> None:
    handler = ByHand()
    one = harness(slow=handler, journal=SharedJournal)
    taken = [await one.take() for _ in range(3)]
    assert handler.started == ["d1"]
    shared(one).owned = False
    shared(one).listener.lost([SHARD])
    await one.quiet()
    assert handler.started == ["d1"]
    assert one.dispatch.in_hand() == {}
    assert shared(one).finished == []
    assert {await one_state(one, each) for each in taken} == {("pending", 0)}
    assert not [each for each in one.seen if each.name in ("handled", "failed", "dead")]
    assert [(each.count, each.reason) for each in one.outcomes("notice")] == [
        (1, "1 in hand cancelled: the work is another node's now, which begins it anew")
    ]


@pytest_twisted.ensureDeferred
async def test_what_ends_well_although_it_was_cancelled_has_no_outcome_either(harness: Open) -> None:
    ends: Deferred[None] = Deferred(lambda _: None)  # takes no notice of being cancelled

    @on("*")
    async def stubborn(event: object) -> None:
        with suppress(CancelledError):
            await Deferred()
        await ends

    one = harness(mine=stubborn, journal=SharedJournal)
    taken = await one.take()
    shared(one).owned = False
    shared(one).listener.lost([SHARD])
    ends.callback(None)
    await one.quiet()
    assert (shared(one).finished, await one_state(one, taken)) == ([], ("pending", 0))


@pytest_twisted.ensureDeferred
async def test_what_is_gained_is_handled(harness: Open) -> None:
    seen: list[str] = []
    one = harness(fine=noting(seen), journal=SharedJournal)
    shared(one).owned, shared(one).by_others = False, True
    for _ in range(3):
        await one.take()
    shared(one).owned = True
    shared(one).listener.gained()
    await one.until(lambda: len(seen) == 3)
    assert seen == ["d1", "d2", "d3"]


@pytest_twisted.ensureDeferred
async def test_shards_that_are_gained_one_by_one_are_read_together(harness: Open) -> None:
    seen: list[str] = []
    one = harness(fine=noting(seen), journal=SharedJournal)
    shared(one).owned, shared(one).by_others = False, True
    await one.take()
    before = shared(one).asked
    for _ in range(100):
        shared(one).listener.gained()
    shared(one).owned = True
    shared(one).listener.gained()
    await one.until(lambda: len(seen) == 1)
    await one.quiet()
    assert shared(one).asked - before <= 2


@pytest_twisted.ensureDeferred
async def test_a_drain_waits_for_what_runs_and_begins_nothing(harness: Open) -> None:
    handler = ByHand()
    one = harness(slow=handler, journal=SharedJournal)
    for _ in range(3):
        await one.take()
    shared(one).owned = False
    drained = Deferred.fromCoroutine(shared(one).listener.drain([SHARD]))
    assert not drained.called
    handler.end("d1")
    await drained
    assert (handler.started, len(shared(one).finished)) == (["d1"], 1)
    assert await one.journal.pending() == {"slow:handle": 2}
    await one.quiet()
    assert one.dispatch.pending() == {"slow": 2}


@pytest_twisted.ensureDeferred
async def test_a_drain_that_is_cancelled_does_not_end_as_if_nothing_ran(harness: Open) -> None:
    handler, other = ByHand(), ByHand()
    one = harness(slow=handler, slower=other, journal=SharedJournal)
    await one.take()
    shared(one).owned = False
    draining = Deferred.fromCoroutine(shared(one).listener.drain([SHARD]))
    draining.cancel()
    with pytest.raises(CancelledError):
        await draining
    drained = Deferred.fromCoroutine(shared(one).listener.drain([SHARD]))
    handler.end("d1")
    await one.quiet()
    assert not drained.called
    other.end("d1")
    await drained
    gc.collect()  # an error that nobody took would be told of now


class Arriving:
    """A handler of moved refs, and the mirror that it reads, which comes from another node."""

    def __init__(self) -> None:
        self.arriving = True
        self.looks = 0
        self.look: Callable[[], object] = lambda: None
        self.told: list[str] = []

    @hookimpl
    def stackit_mirror(self, repo: Repo) -> MirrorInfo | None:
        self.looks += 1
        self.look()
        return MirrorInfo(repo=repo, path=Path("/it"), exists=True, state="behind", arriving=self.arriving)

    @hookimpl
    def stackit_refs_changed(self, change: RefsChanged) -> None:
        self.told.append(change.id)

    async def waits(self, one: Harness) -> None:
        """Wait until an event was read that has to wait for it."""
        self.look = one.look
        await one.until(lambda: self.looks > 0)
        await one.quiet()


async def announced_elsewhere(one: Harness) -> tuple[DueHandling, StoredEvent]:
    """Have another process announce moved refs, whose handling is this one's."""
    journal = shared(one)
    journal.owned = False
    await one.announce("octo/widget", RefChange("refs/heads/main", ZEROS, ONE, "created"))
    journal.owned = True
    key = "mine:stackit_refs_changed"
    (group,) = await journal.due_groups(key, now=one.wall())
    (due,) = await journal.due(key, one.wall(), group=group, limit=2)
    stored = await journal.load(due.event_id)
    assert stored is not None
    return due, stored


@pytest_twisted.ensureDeferred
async def test_no_drain_waits_for_an_event_whose_mirror_has_yet_to_come(harness: Open) -> None:
    mine = Arriving()
    one = harness(mine=mine, journal=SharedJournal)
    await announced_elsewhere(one)
    mine.looks = 0
    shared(one).listener.gained()
    await mine.waits(one)
    assert (mine.told, one.dispatch.in_hand()) == ([], {})
    shared(one).owned = False
    drained = Deferred.fromCoroutine(shared(one).listener.drain([SHARD]))
    assert drained.called
    await drained
    mine.arriving = False
    await one.pass_time(1)
    assert mine.told == []
    shared(one).owned = True
    shared(one).listener.gained()
    await one.until(lambda: bool(one.outcomes("handled")))
    assert len(mine.told) == 1


@pytest_twisted.ensureDeferred
async def test_an_event_that_others_tell_of_waits_for_its_mirror_too(harness: Open) -> None:
    mine = Arriving()
    one = harness(mine=mine, journal=SharedJournal)
    await one.quiet()
    told_of = await announced_elsewhere(one)
    mine.looks = 0
    shared(one).listener.recorded([told_of])
    await mine.waits(one)
    await one.pass_time(10)
    assert mine.told == []
    mine.arriving = False
    one.clock.advance(1)
    await one.until(lambda: bool(one.outcomes("handled")))
    assert len(mine.told) == 1


async def one_state(one: Harness, taken: Any) -> tuple[str, int]:
    (handling,) = (await one.receipt(taken)).handlings
    return handling.state, handling.attempts


@pytest_twisted.ensureDeferred
async def test_what_is_pending_is_counted_anew(harness: Open) -> None:
    handler = ByHand()
    one = harness(slow=handler, journal=SharedJournal)
    await one.take()
    shared(one).by_others = True
    await one.take()
    await one.journal.replay(EventId((await one.take()).id), ["gone:handle"], now=one.wall())
    assert one.dispatch.pending() == {"slow": 1}
    for _ in range(2):
        one.dispatch.count_pending()
        await one.quiet()
    assert one.dispatch.pending() == {"slow": 3, "gone:handle": 1}
    assert await one.dispatch.pending_everywhere() == {"slow": 3, "gone:handle": 1}
    shared(one).elsewhere = {"slow:handle": 2, "other:handle": 5}
    assert await one.dispatch.pending_everywhere() == {"slow": 5, "gone:handle": 1, "other:handle": 5}
    assert one.dispatch.pending() == {"slow": 3, "gone:handle": 1}
    assert [each.reason for each in one.outcomes("notice")] == ["1 events wait for gone:handle, which is not loaded"]


@pytest_twisted.ensureDeferred
async def test_what_was_read_and_is_told_of_then_is_counted_once(harness: Open) -> None:
    handler = ByHand()
    one = harness(slow=handler, journal=SharedJournal)
    shared(one).by_others = True
    for _ in range(2):
        await one.take()
    shared(one).listener.gained()
    await one.quiet()
    assert (handler.started, one.dispatch.pending()) == (["d1"], {"slow": 2})
    await shared(one).tell([0, 1])
    assert one.dispatch.pending() == {"slow": 2}
    shared(one).owned = False
    await one.take()
    await shared(one).tell([2])
    assert one.dispatch.pending() == {"slow": 2}


@pytest_twisted.ensureDeferred
async def test_what_ends_or_comes_while_it_is_counted_is_counted_right(harness: Open) -> None:
    handler = ByHand()
    one = harness(slow=handler, journal=SharedJournal)
    await one.take()

    async def end() -> None:
        handler.end("d1")
        await one.until(lambda: one.dispatch.in_hand() == {})

    shared(one).meanwhile.append(end)
    one.dispatch.count_pending()
    await one.quiet()
    assert one.dispatch.pending() == {"slow": 0}
    shared(one).meanwhile.append(one.take)
    one.dispatch.count_pending()
    await one.quiet()
    assert one.dispatch.pending() == {"slow": 1}


@pytest_twisted.ensureDeferred
async def test_what_is_read_again_does_not_begin_once_the_lease_is_over_though_nobody_has_said_so(
    harness: Open,
) -> None:
    class OverMeanwhile(SharedJournal):
        loads = 0

        async def load(self, event_id: EventId) -> StoredEvent | None:
            stored = await super().load(event_id)
            self.loads += 1
            self.owned = self.loads > 1  # as a process whose machine was suspended meanwhile learns from its clock
            return stored

    seen: list[str] = []
    one = harness(mine=noting(seen), journal=OverMeanwhile)
    journal = shared(one)
    journal.by_others = True
    await one.take()
    journal.listener.gained()
    await one.quiet()
    assert (journal.owned, seen, journal.finished, one.dispatch.in_hand()) == (False, [], [], {})
    journal.listener.lost([SHARD])
    await one.quiet()
    journal.owned = True
    journal.listener.gained()
    await one.until(lambda: seen == ["d1"])


async def failed_elsewhere(one: Harness, next_in: float) -> None:
    """Have another process record a delivery, and fail at it: it is to be tried again in so many seconds."""
    journal = shared(one)
    journal.by_others = True
    await one.take()
    (due, _) = journal.appended[0]
    await journal.fail(due.id, at=one.wall(), error="no", next_at=one.wall() + next_in)


@pytest_twisted.ensureDeferred
async def test_a_retry_that_was_planned_by_a_clock_that_was_wrong_is_due_as_soon_as_it_is_taken_over(
    harness: Open,
) -> None:
    seen: list[str] = []
    one = harness(mine=noting(seen), journal=SharedJournal)
    await failed_elsewhere(one, 3 * 3600.0)
    shared(one).listener.gained()
    await one.until(lambda: seen == ["d1"])


@pytest_twisted.ensureDeferred
async def test_no_retry_of_others_is_moved_by_what_the_clock_was_set_by_before_they_were_taken_over(
    harness: Open,
) -> None:
    seen: list[str] = []
    one = harness(mine=noting(seen), journal=SharedJournal)
    await one.quiet()
    one.ahead = 600.0
    await failed_elsewhere(one, 30.0)
    one.dispatch.trust_clock()
    shared(one).listener.gained()
    await one.pass_time(29.0)
    assert seen == []
    await one.pass_time(1.0)
    await one.until(lambda: seen == ["d1"])
