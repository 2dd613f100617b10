"""Ends of the process in a handler: counted over restarts, and the third makes its event a dead letter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import pytest_twisted
from dispatch_harness import START, Harness, Open, noting
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import LogEvent

from stackit import on
from stackit.api.errors import JournalError
from stackit.dispatch.crash_counts import CrashCounts
from stackit.dispatch.step_file import StepFile


def unexpected(line: str) -> None:
    raise AssertionError(line)


class Hanging:
    """Two handlers that do not end."""

    @on("*")
    def one_handler(self, event: object) -> Deferred[None]:
        return Deferred()

    @on("*")
    def other(self, event: object) -> Deferred[None]:
        return Deferred()


def ended_in(directory: Path, *steps: tuple[str, str]) -> StepFile:
    """The file as the next start finds it, when the process ended in these steps, the reactor's first."""
    path = directory / "steps"
    path.unlink(missing_ok=True)
    file = StepFile(path, unexpected)
    for place, (event, subscriber) in enumerate(steps):
        file.enter(place, event, subscriber)
    return StepFile(path, unexpected)


def counts(one: Harness, file: StepFile) -> CrashCounts:
    return CrashCounts(file, one.journal, one.bus, now=one.wall)


@pytest_twisted.ensureDeferred
async def test_the_third_end_in_one_handling_makes_it_a_dead_letter(harness: Open, tmp_path: Path) -> None:
    one = harness(mine=Hanging(), start=False)
    taken = await one.take(delivery="guid")
    for times in (1, 2):
        await counts(one, ended_in(tmp_path, (taken.id, "mine:other"))).settle()
        assert [each.reason for each in one.outcomes("notice", "mine:other")][-1] == (
            f"the last process ended in the handler of this event, without a stop: {times} of the 3 times at which it "
            "becomes a dead letter"
        )
        assert (await one.states(taken))["mine:other"] == ("pending", 0, None)
        assert len(await one.journal.documents("crashes")) == times
    file = ended_in(tmp_path, (taken.id, "mine:other"))
    await counts(one, file).settle()
    error = (
        "its handler ended the process 3 times: by a crash in C, by an exit, by the memory that it took, or by a step "
        "without end (the system's log may tell); mend it, and replay the event"
    )
    assert (await one.states(taken))["mine:other"] == ("dead", 1, error)
    assert (await one.states(taken))["mine:one_handler"] == ("pending", 0, None)
    (dead,) = one.outcomes("dead")
    assert (dead.subscriber, dead.event, dead.action, str(dead.repo)) == (
        "mine:other",
        "issues",
        "opened",
        "Octo/Widget",
    )
    assert (dead.delivery, dead.id, dead.attempts, dead.error) == ("guid", taken.id, 1, error)
    assert len(one.outcomes("notice")) == 2
    assert await one.journal.documents("crashes") == {}
    assert file.last != StepFile(tmp_path / "steps", unexpected).last  # counted, and gone
    # A replay begins to count from zero.
    await one.journal.replay_dead("mine:other", now=START)
    await counts(one, ended_in(tmp_path, (taken.id, "mine:other"))).settle()
    assert (await one.states(taken))["mine:other"][0] == "pending"


@pytest_twisted.ensureDeferred
async def test_of_what_was_in_hand_at_each_end_one_is_given_up_at_a_time(harness: Open, tmp_path: Path) -> None:
    one = harness(mine=Hanging(), start=False)
    innocent, poison = await one.take(), await one.take()
    steps = ((poison.id, "mine:other"), (innocent.id, "mine:other"))
    for _ in range(3):
        assert one.outcomes("dead") == []
        await counts(one, ended_in(tmp_path, *steps)).settle()
    assert [each.id for each in one.outcomes("dead")] == [poison.id]
    assert len(await one.journal.documents("crashes")) == 2
    # If it was the other all the time, that is next.
    await counts(one, ended_in(tmp_path, (innocent.id, "mine:other"))).settle()
    assert [each.id for each in one.outcomes("dead")] == [poison.id, innocent.id]
    assert await one.journal.documents("crashes") == {}


@pytest_twisted.ensureDeferred
async def test_nodes_that_count_at_once_lose_no_end(harness: Open, tmp_path: Path) -> None:
    one = harness(mine=Hanging(), start=False)
    taken = await one.take()
    files = []
    for node in "abc":
        (tmp_path / node).mkdir()
        files.append(ended_in(tmp_path / node, (taken.id, "mine:other")))
    await gatherResults([Deferred.fromCoroutine(counts(one, file).settle()) for file in files])
    assert [each.id for each in one.outcomes("dead")] == [taken.id]
    assert await one.journal.documents("crashes") == {}


@pytest_twisted.ensureDeferred
async def test_the_one_that_was_there_most_often_is_given_up(harness: Open, tmp_path: Path) -> None:
    one = harness(mine=Hanging(), start=False)
    innocent, poison = await one.take(), await one.take()
    await counts(one, ended_in(tmp_path, (poison.id, "mine:one_handler"))).settle()
    for _ in range(2):
        steps = ((innocent.id, "mine:one_handler"), (poison.id, "mine:one_handler"))
        await counts(one, ended_in(tmp_path, *steps)).settle()
    assert [each.id for each in one.outcomes("dead")] == [poison.id]


@pytest_twisted.ensureDeferred
async def test_a_start_that_did_not_come_to_its_end_counts_once(harness: Open, tmp_path: Path) -> None:
    one = harness(mine=Hanging(), start=False)
    taken = await one.take()
    file = ended_in(tmp_path, (taken.id, "mine:one_handler"))
    for _ in range(4):
        await counts(one, file).settle()
    assert len(await one.journal.documents("crashes")) == 1
    assert one.outcomes("dead") == []


@pytest_twisted.ensureDeferred
async def test_a_journal_in_trouble_half_way_has_nothing_counted_twice(
    harness: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = harness(mine=Hanging(), start=False)
    poison, innocent = await one.take(), await one.take()
    steps = ((poison.id, "mine:other"), (innocent.id, "mine:other"))
    for _ in range(2):
        await counts(one, ended_in(tmp_path, *steps)).settle()
    third = counts(one, ended_in(tmp_path, *steps))

    put = one.journal.put

    async def in_trouble(collection: str, documents: Mapping[str, bytes | None]) -> None:
        if None in documents.values():  # what is counted, and given up, is so; the counts stay
            raise JournalError("the disk is full")
        await put(collection, documents)

    with monkeypatch.context() as patch:
        patch.setattr(one.journal, "put", in_trouble)
        with pytest.raises(JournalError):
            await third.settle()
    assert [each.id for each in one.outcomes("dead")] == [poison.id]
    await third.settle()
    assert [each.id for each in one.outcomes("dead")] == [poison.id]
    assert len(await one.journal.documents("crashes")) == 2


@pytest_twisted.ensureDeferred
async def test_a_count_that_fails_by_a_fault_holds_up_no_event(
    harness: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged_failures: list[LogEvent]
) -> None:
    seen: list[str] = []
    first = harness(mine=Hanging(), start=False)
    taken = await first.take(delivery="before")
    await first.close()
    two = harness(mine=noting(seen), start=False, steps=ended_in(tmp_path, (taken.id, "mine:handle")))

    async def broken(_: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(two.journal, "receipt", broken)
    await two.take(delivery="after")
    await two.dispatch.recover()
    await two.quiet()
    assert "after" in seen
    (failure,) = logged_failures
    assert failure["log_failure"].check(ZeroDivisionError)
    logged_failures.clear()


@pytest_twisted.ensureDeferred
async def test_only_what_is_pending_is_counted_and_the_counts_of_the_rest_are_forgotten(
    harness: Open, tmp_path: Path
) -> None:
    one = harness(mine=Hanging(), start=False)
    taken = await one.take()
    await counts(one, ended_in(tmp_path, (taken.id, "mine:other"), (taken.id, "mine:one_handler"))).settle()
    await one.journal.put("crashes", {"damaged": b"{"})
    done = next(each for each in await one.journal.due("mine:other", START, group="octo/widget", limit=9))
    await one.journal.fail(done.id, at=START, error="no", next_at=None)
    steps = ((taken.id, "mine:other"), (taken.id, "gone:handler"), ("12345", "mine:other"), ("no id", "mine:other"))
    await counts(one, ended_in(tmp_path, *steps)).settle()
    (left,) = await one.journal.documents("crashes")
    assert left.startswith(f"{taken.id} ")
    assert left.endswith(" mine:one_handler")
    assert len(one.outcomes("notice")) == 2


@pytest_twisted.ensureDeferred
async def test_no_event_begins_before_the_end_of_the_last_process_is_counted(harness: Open, tmp_path: Path) -> None:
    seen: list[str] = []
    first = harness(mine=noting(seen), start=False)
    taken = await first.take(delivery="before")
    await first.until(lambda: len(first.outcomes("handled")) == 1)  # nothing is to be counted
    await first.close()
    two = harness(mine=noting(seen), start=False, steps=ended_in(tmp_path, (taken.id, "mine:handle")))
    await two.take(delivery="after")
    two.dispatch.look_again()
    two.dispatch.hold("unwritable")
    two.dispatch.release("unwritable")
    await two.dispatch.replay(taken.id, None)  # type: ignore[arg-type]
    await two.quiet()
    assert seen == ["before"]
    two.dispatch.hold("unwritable")
    await two.dispatch.recover()
    await two.quiet()
    assert seen == ["before"]
    two.dispatch.release("unwritable")
    await two.until(lambda: len(two.outcomes("handled")) == 2)
    assert seen == ["before", "before", "after"]
