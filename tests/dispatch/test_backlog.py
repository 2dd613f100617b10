"""Backlog: whatever the journal, the clock and a stop do, no event is forgotten."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from dispatch_harness import GRACE, START, ByHand, Open, failing, noting
from outcomes import outcome
from plugin_maker import ONE, TWO, ZEROS, plugin
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.python.failure import Failure

from stackit import Event, MirrorInfo, Permanent, RefChange, Repo, hookimpl, on
from stackit.api.errors import JournalError
from stackit.journal import HandlingId, NewDelivery
from stackit.journal.sqlite import SQLiteJournal

# -- start and stop --------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_stop_lets_what_is_in_hand_finish_within_the_grace(harness: Open) -> None:
    hand = ByHand()
    one = harness(mine=hand)
    first = await one.take()
    second = await one.take()
    await one.quiet()
    stopped = Deferred.fromCoroutine(one.dispatch.stop())
    one.clock.advance(GRACE / 2)
    assert not stopped.called
    hand.end("d1")
    await stopped
    assert await one.states(first) == {"mine:handle": ("done", 1, None)}
    assert await one.states(second) == {"mine:handle": ("pending", 0, None)}
    assert hand.started == ["d1"]
    assert one.clock.getDelayedCalls() == []


@pytest_twisted.ensureDeferred
async def test_a_stop_leaves_what_outlives_the_grace_pending_without_counting_an_attempt(harness: Open) -> None:
    @on("*")
    async def stubborn(event: object) -> None:
        while True:
            try:
                await Deferred()
            except CancelledError:
                continue

    one = harness(hand=ByHand(), stubborn=stubborn, broken=failing(OSError("no")))
    taken = await one.take()
    await one.until(lambda: bool(one.outcomes("failed")))
    stopped = Deferred.fromCoroutine(one.dispatch.stop())
    one.clock.advance(GRACE)
    await stopped
    assert await one.states(taken) == {
        "hand:handle": ("pending", 0, None),
        "stubborn:stubborn": ("pending", 0, None),
        "broken:handle": ("pending", 1, "OSError: no"),
    }
    assert one.clock.getDelayedCalls() == []
    await one.take()  # one that was on its way in
    await one.quiet()
    assert len(one.outcomes("failed")) == 1


@pytest_twisted.ensureDeferred
async def test_what_was_pending_is_handled_after_the_start_before_what_is_new(harness: Open) -> None:
    hand = ByHand()
    one = harness(mine=hand)
    for number in range(3):
        await one.take(delivery=f"old{number}")
    await one.close()

    seen: list[str] = []
    two = harness(mine=noting(seen), start=False)
    for number in range(3):
        await two.take(delivery=f"new{number}")
    await two.dispatch.recover()
    await two.until(lambda: len(two.outcomes("handled")) == 6)
    assert seen == ["old0", "old1", "old2", "new0", "new1", "new2"]
    assert [each.subscriber for each in two.outcomes("recovered")] == ["mine"]
    assert two.dispatch.pending() == {"mine": 0}


@pytest_twisted.ensureDeferred
async def test_a_retry_that_was_due_while_nothing_ran_comes_at_once_and_a_later_one_in_time(harness: Open) -> None:
    one = harness(mine=failing(OSError("no")), retry_for=100)
    await one.take()
    await one.until(lambda: bool(one.outcomes("failed")))
    await one.close()

    seen: list[str] = []
    two = harness(mine=noting(seen), start=False)
    two.clock.rightNow = START + 0.5
    await two.dispatch.recover()
    await two.quiet()
    assert seen == []
    await two.pass_time(0.5)
    assert seen == ["d1"]
    await two.quiet()
    assert two.dispatch._backlog._timers == {}  # a timer that has gone off is not kept


@pytest_twisted.ensureDeferred
async def test_a_subscriber_that_is_gone_keeps_its_events_and_is_listed(harness: Open) -> None:
    one = harness(mine=ByHand(), other=ByHand())
    await one.take()
    await one.close()

    seen: list[str] = []
    two = harness(other=noting(seen))
    await two.until(lambda: bool(two.outcomes("notice")))
    (notice,) = two.outcomes("notice")
    assert notice.reason == "1 events wait for mine:handle, which is not loaded"
    await two.until(lambda: bool(two.outcomes("handled")))
    assert dict(two.dispatch.pending()) == {"mine:handle": 1, "other": 0}
    await two.close()

    back: list[str] = []
    three = harness(mine=noting(back), other=noting(seen))
    await three.until(lambda: bool(three.outcomes("handled")))
    assert (back, seen) == (["d1"], ["d1"])


@pytest_twisted.ensureDeferred
async def test_ref_changes_of_any_bytes_reach_their_subscribers_also_after_a_restart(harness: Open) -> None:
    changes = (
        RefChange("refs/heads/main", ZEROS, ONE, "created"),
        RefChange("refs/heads/caf\udce9", ONE, TWO, "updated", forced=True),
    )
    told: list[Any] = []

    def telling(fault: Exception | None) -> Any:
        @hookimpl
        def stackit_refs_changed(change: Any) -> None:
            told.append(change)
            if fault is not None:
                raise fault

        return plugin(stackit_refs_changed)

    one = harness(mine=telling(OSError("later")))
    await one.announce("Octo/Widget", *changes)
    await one.until(lambda: bool(one.outcomes("failed")))
    assert one.outcomes("refs_changed")[0].changes == changes
    assert await one.journal.announced("octo/widget") == {"refs/heads/main": ONE, "refs/heads/caf\udce9": TWO}
    await one.close()

    two = harness(mine=telling(None))
    two.clock.advance(1)
    await two.until(lambda: bool(two.outcomes("handled")))
    first, second = told
    assert first.changes == second.changes == changes
    assert (str(second.repo), second.cause, second.id, second.received_at) == ("Octo/Widget", "push", first.id, START)


@pytest_twisted.ensureDeferred
async def test_ref_changes_have_the_path_of_the_mirror_where_it_is_now(harness: Open) -> None:
    told: list[Any] = []

    def telling(place: str | None) -> Any:
        @hookimpl
        def stackit_mirror(repo: Repo) -> MirrorInfo | None:
            return None if place is None else MirrorInfo(repo=repo, path=Path(place), exists=True, state="in_step")

        @hookimpl
        def stackit_refs_changed(change: Any) -> None:
            told.append(change.mirror)
            raise OSError("later")

        return plugin(stackit_mirror, stackit_refs_changed)

    one = harness(mine=telling("/one"))
    await one.announce("octo/widget", RefChange("refs/heads/main", ZEROS, ONE, "created"))
    await one.until(lambda: bool(one.outcomes("failed")))
    await one.close()
    two = harness(mine=telling("/two"))
    two.clock.advance(1)
    await two.until(lambda: bool(two.outcomes("failed") + two.outcomes("dead")))
    await two.close()
    three = harness(mine=telling(None))
    three.clock.advance(10)
    await three.until(lambda: bool(three.outcomes("failed") + three.outcomes("dead")))
    assert told == [Path("/one"), Path("/two"), None]


@pytest_twisted.ensureDeferred
async def test_ref_changes_wait_for_a_mirror_that_comes_from_another_node(harness: Open) -> None:
    arriving = [False]
    told: list[Any] = []

    @hookimpl
    def stackit_mirror(repo: Repo) -> MirrorInfo | None:
        return MirrorInfo(repo=repo, path=Path("/it"), exists=True, state="behind", arriving=arriving[0])

    @hookimpl
    def stackit_refs_changed(change: Any) -> None:
        told.append(change)
        raise OSError("later")

    mine = plugin(stackit_mirror, stackit_refs_changed)
    one = harness(mine=mine)
    await one.announce("octo/widget", RefChange("refs/heads/main", ZEROS, ONE, "created"))
    await one.until(lambda: bool(one.outcomes("failed")))
    await one.close()

    arriving[0] = True
    two = harness(mine=mine, retry_for=100.0)
    two.clock.advance(1)
    await two.quiet()
    await two.close()  # which waits for nothing
    assert (len(told), two.outcomes("failed")) == (1, [])

    three = harness(mine=mine, retry_for=100.0)
    three.clock.advance(1)
    await three.quiet()
    assert len(told) == 1
    arriving[0] = False
    three.clock.advance(1)
    await three.until(lambda: bool(three.outcomes("failed")))
    assert len(told) == 2
    await three.close()

    arriving[0] = True
    four = harness(mine=mine, retry_for=100.0)
    four.clock.advance(10)
    await four.quiet()
    assert len(told) == 2
    four.clock.advance(60)  # it never comes
    await four.until(lambda: bool(four.outcomes("failed")))
    assert len(told) == 3


@pytest_twisted.ensureDeferred
async def test_ref_changes_that_wait_for_a_mirror_hold_up_no_others_and_keep_their_order(harness: Open) -> None:
    arriving = {"octo/gadget", "octo/widget"}
    told: list[str] = []
    hangs = [True]

    @hookimpl
    def stackit_mirror(repo: Repo) -> MirrorInfo | None:
        return MirrorInfo(repo=repo, path=Path("/it"), exists=True, state="behind", arriving=repo.key in arriving)

    @hookimpl
    def stackit_refs_changed(change: Any) -> Deferred[None] | None:
        if hangs[0]:
            return Deferred()
        told.append(f"{change.repo.name} {change.changes[0].ref}")
        return None

    def moved(number: int) -> RefChange:
        return RefChange(f"refs/{number}", ZEROS, ONE, "created")

    mine = plugin(stackit_mirror, stackit_refs_changed)
    one = harness(mine=mine, concurrency=1)
    for repo, number in (("octo/widget", 1), ("octo/widget", 2), ("octo/gadget", 1), ("octo/fine", 1)):
        await one.announce(repo, moved(number))
    await one.close()

    hangs[0] = False
    two = harness(mine=mine, concurrency=1)
    await two.until(lambda: bool(two.outcomes("handled")))
    await two.announce("octo/gadget", moved(2))  # it waits behind the first
    for _ in range(30):
        await two.pass_time(1)
    assert (told, two.dispatch.in_hand()) == (["fine refs/1"], {})
    arriving.remove("octo/widget")
    two.clock.advance(1)
    await two.until(lambda: len(two.outcomes("handled")) == 3)
    assert told[1:] == ["widget refs/1", "widget refs/2"]
    for _ in range(27):
        await two.pass_time(1)
    assert len(told) == 3
    two.clock.advance(10)  # it never comes, and none of its events waits once more
    await two.until(lambda: len(two.outcomes("handled")) == 5)
    assert told[3:] == ["gadget refs/1", "gadget refs/2"]
    assert {each.seconds for each in two.outcomes("handled")} == {0.0}
    assert two.dispatch.pending() == {"mine": 0}


@pytest_twisted.ensureDeferred
async def test_an_event_whose_body_is_gone_is_done_with(harness: Open, tmp_path: Path) -> None:
    one = harness(mine=ByHand())
    taken = await one.take()
    await one.close()
    with sqlite3.connect(tmp_path / "state" / "journal.sqlite3") as connection:
        connection.execute("DELETE FROM bodies")
    connection.close()

    seen: list[str] = []
    two = harness(mine=noting(seen))
    await two.until(lambda: True)
    await two.quiet()
    assert seen == []
    assert (await two.receipt(taken)).state == "done"
    assert two.dispatch.pending() == {"mine": 0}


@pytest_twisted.ensureDeferred
async def test_an_event_that_cannot_be_read_back_has_failed_and_holds_up_no_other(
    harness: Open, tmp_path: Path
) -> None:
    @hookimpl
    def stackit_refs_changed(change: object) -> Deferred[None]:
        return Deferred()

    one = harness(mine=stackit_refs_changed)
    await one.announce("octo/a", RefChange("refs/heads/main", ZEROS, ONE, "created"))
    await one.close()
    with sqlite3.connect(tmp_path / "state" / "journal.sqlite3") as connection:
        connection.execute("UPDATE bodies SET body = 'null'")
    connection.close()

    two = harness(mine=stackit_refs_changed, retry_for=0)
    await two.until(lambda: bool(two.outcomes("dead")))
    (dead,) = two.outcomes("dead")
    assert dead.error is not None
    assert dead.error.startswith("TypeError")


@pytest_twisted.ensureDeferred
async def test_an_event_whose_body_is_damaged_is_a_dead_letter_at_once(harness: Open, tmp_path: Path) -> None:
    one = harness(mine=ByHand())
    await one.take()
    await one.close()
    with sqlite3.connect(tmp_path / "state" / "journal.sqlite3") as connection:
        connection.execute("UPDATE bodies SET body = substr(body, 1, length(body) - 8)")
    connection.close()

    two = harness(mine=noting([]))
    await two.until(lambda: bool(two.outcomes("dead")))
    (dead,) = two.outcomes("dead")
    assert "is damaged in the journal" in (dead.error or "")


# -- trouble ---------------------------------------------------------------------


class Troubled(SQLiteJournal):
    """A journal whose every operation of some kinds fails while there is trouble."""

    trouble: frozenset[str] = frozenset()
    refused = 0

    def _may(self, what: str) -> None:
        if what in self.trouble:
            self.refused += 1
            raise JournalError("the journal cannot write: disk full")

    def _refuses(self, what: str, done: Any) -> bool:
        try:
            self._may(what)
        except JournalError:
            done(Failure())
            return True
        return False

    def append(self, record: Any, done: Any) -> None:
        if not self._refuses("append", done):
            super().append(record, done)

    def finish(self, handling: HandlingId, done: Any, *, at: float) -> None:
        if not self._refuses("finish", done):
            super().finish(handling, done, at=at)

    async def fail(self, *args: Any, **kwargs: Any) -> None:
        self._may("fail")
        await super().fail(*args, **kwargs)

    async def due(self, *args: Any, **kwargs: Any) -> Any:
        self._may("read")
        return await super().due(*args, **kwargs)

    async def due_groups(self, *args: Any, **kwargs: Any) -> Any:
        self._may("read")
        return await super().due_groups(*args, **kwargs)


@pytest_twisted.ensureDeferred
async def test_while_the_journal_cannot_write_outcomes_wait_and_no_handler_runs_twice(harness: Open) -> None:
    seen: list[str] = []
    one = harness(mine=noting(seen), broken=failing(Permanent("no")), journal=Troubled)
    await one.quiet()
    journal: Any = one.journal
    journal.trouble = {"finish", "fail"}
    taken = await one.take()
    await one.quiet()
    for _ in range(3):
        await one.pass_time(1)
    assert journal.refused == 8
    assert one.outcomes("handled") == one.outcomes("dead") == []
    assert (await one.receipt(taken)).state == "pending"
    journal.trouble = frozenset()
    await one.pass_time(1)
    assert await one.states(taken) == {"mine:handle": ("done", 1, None), "broken:handle": ("dead", 1, "Permanent: no")}
    assert seen == ["d1"]
    assert one.outcomes("handled")[0].seconds == 0  # the handler's own time
    assert dict(one.dispatch.pending()) == {"mine": 0, "broken": 0}


@pytest_twisted.ensureDeferred
async def test_a_delivery_that_cannot_be_written_down_reaches_no_handler(harness: Open) -> None:
    seen: list[str] = []
    one = harness(mine=noting(seen), journal=Troubled)
    journal: Any = one.journal
    journal.trouble = {"append"}
    with pytest.raises(JournalError):
        await one.take()
    await one.quiet()
    assert seen == []
    assert one.dispatch.pending() == {"mine": 0}


@pytest_twisted.ensureDeferred
async def test_what_is_in_the_journal_though_it_was_not_confirmed_is_handed_on(harness: Open) -> None:
    seen: list[str] = []
    one = harness(mine=noting(seen))
    await one.take()
    await one.quiet()
    there = NewDelivery(
        hook="7",
        delivery="d2",
        event="issues",
        action="opened",
        repo="Octo/Widget",
        received_at=START,
        digest=b"2",
        body=b'{"action":"opened","issue":{},"repository":{"full_name":"Octo/Widget"}}',
        subscribers=("mine:handle",),
    )
    await outcome(one.journal.append, there)  # and nobody was told
    await one.quiet()
    assert seen == ["d1"]
    one.dispatch.look_again()
    await one.quiet()
    assert seen == ["d1", "d2"]
    assert dict(one.dispatch.pending()) == {"mine": 0}


def expecting(seen: list[str]) -> Any:
    @hookimpl
    def stackit_expect(event: Event) -> None:
        seen.append(event.delivery)

    return plugin(stackit_expect)


@pytest_twisted.ensureDeferred
async def test_an_event_is_expected_before_it_is_durable_where_somebody_will_handle_it(harness: Open) -> None:
    expected: list[str] = []

    @on("issues")
    def handle(event: Event) -> None:
        """Handled."""

    one = harness(mine=handle, ready=expecting(expected), journal=Troubled)
    journal: Any = one.journal
    journal.trouble = {"append"}
    with pytest.raises(JournalError):
        await one.take()
    assert expected == ["d1"]
    journal.trouble = set()
    await one.take(name="star", action="created")
    assert expected == ["d1"]


@pytest_twisted.ensureDeferred
async def test_where_replays_reach_nobody_no_event_is_expected(harness: Open) -> None:
    expected: list[str] = []
    one = harness(mine=noting([]), ready=expecting(expected), refuse_replays=True)
    await one.take()
    assert expected == []


@pytest_twisted.ensureDeferred
async def test_while_the_journal_cannot_be_read_retries_wait_and_none_is_forgotten(harness: Open) -> None:
    faults: list[Exception] = [OSError("no")]
    seen: list[str] = []

    @on("*")
    def handle(event: Any) -> None:
        if faults:
            raise faults.pop()
        seen.append(event.delivery)

    one = harness(mine=handle, journal=Troubled)
    await one.take()
    await one.until(lambda: bool(one.outcomes("failed")))
    await one.quiet()
    journal: Any = one.journal
    journal.trouble = {"read"}
    for _ in range(5):
        await one.pass_time(1)
    assert seen == []
    journal.trouble = frozenset()
    await one.pass_time(1)
    await one.quiet()
    assert seen == ["d1"]


@pytest.mark.parametrize("trouble", [{"finish", "fail", "read"}, {"finish", "fail"}, {"read"}])
@pytest_twisted.ensureDeferred
async def test_a_stop_amid_trouble_ends_and_leaves_nothing_behind(harness: Open, trouble: set[str]) -> None:
    one = harness(mine=ByHand(), broken=failing(OSError("no")), journal=Troubled, retry_for=100, start=False)
    journal: Any = one.journal
    journal.trouble = trouble
    taken = await one.take()
    recovered = Deferred.fromCoroutine(one.dispatch.recover())
    await one.quiet()
    await one.pass_time(1)
    stopped = Deferred.fromCoroutine(one.dispatch.stop())
    one.clock.advance(GRACE)
    await stopped
    assert recovered.called
    assert {state for state, _, _ in (await one.states(taken)).values()} == {"pending"}
    assert one.clock.getDelayedCalls() == []


@pytest.mark.parametrize("trouble", [{"finish", "fail", "read"}, {"finish", "fail"}, {"read"}])
@pytest_twisted.ensureDeferred
async def test_what_waits_for_a_journal_in_trouble_ends_at_once_at_a_stop(harness: Open, trouble: set[str]) -> None:
    seen: list[str] = []
    one = harness(mine=noting(seen), broken=failing(OSError("no")), journal=Troubled, retry_for=100, start=False)
    journal: Any = one.journal
    journal.trouble = trouble
    taken = await one.take()
    recovered = Deferred.fromCoroutine(one.dispatch.recover())
    await one.quiet()
    assert one.clock.getDelayedCalls() != []
    refused = journal.refused
    await Deferred.fromCoroutine(one.dispatch.stop())  # and no time passes
    assert journal.refused > refused  # it was asked once more
    assert recovered.called
    assert one.clock.getDelayedCalls() == []
    assert {state for state, _, _ in (await one.states(taken)).values()} == {"pending"}


@pytest_twisted.ensureDeferred
async def test_what_comes_during_a_stop_is_durable_and_nobody_is_told_to_expect_it(harness: Open) -> None:
    expected: list[str] = []

    @hookimpl
    def stackit_expect(event: Event) -> None:
        expected.append(event.delivery)

    hand = ByHand()
    one = harness(mine=hand, expecting=plugin(stackit_expect))
    await one.take()
    await one.quiet()
    stopped = Deferred.fromCoroutine(one.dispatch.stop())
    assert one.dispatch.in_hand() == {"mine": 1}
    late = [await one.take(delivery="late"), await one.take("octo/other", delivery="other")]
    await one.quiet()
    hand.end("d1")
    await stopped
    assert one.dispatch.in_hand() == {}
    assert (hand.started, expected) == (["d1"], ["d1"])
    for taken in late:
        assert await one.states(taken) == {"mine:handle": ("pending", 0, None)}


@pytest_twisted.ensureDeferred
async def test_a_clock_that_is_set_back_delays_an_event_and_loses_none(harness: Open) -> None:
    seen: list[str] = []
    one = harness(mine=noting(seen), start=False)
    taking = Deferred.fromCoroutine(one.take())  # left to the journal, as long as older events may be in it
    one.clock.rightNow = START - 100
    await taking
    await one.quiet()
    assert seen == []
    await one.pass_time(100)
    assert seen == ["d1"]


@pytest_twisted.ensureDeferred
async def test_thousands_of_events_for_a_plain_function_are_handled(harness: Open) -> None:
    seen: list[str] = []
    one = harness(mine=noting(seen), concurrency=16)
    total = 3000
    takes = [Deferred.fromCoroutine(one.take(f"octo/r{number % 40}")) for number in range(total)]
    await DeferredList(takes, fireOnOneErrback=True)
    await one.until(lambda: len(one.outcomes("handled")) == total)
    assert len(seen) == len(set(seen)) == total
    await one.quiet()
    assert one.dispatch.pending() == {"mine": 0}
    assert one.dispatch._queues["mine:handle"]._groups == {}
