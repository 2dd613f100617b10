"""Handlers that are held up for longer than a moment: told in one line, and in another once it is over."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from dispatch_harness import Harness, Open, noting

from stackit.dispatch.holdups import MOMENT
from stackit.dispatch.step_file import StepFile

UNREAD = "events that wait in the journal are not handed on: the journal cannot read "
UNCOUNTED = "no handler begins before it is counted in which of them the last process ended"


def said(one: Harness) -> list[str | None]:
    return [each.reason for each in one.outcomes("notice")]


async def break_reading(one: Harness) -> None:
    """Have every question fail, and no write; the journal, which goes by real time, tells nothing of it."""
    one.journal._reading.stop()
    await one.journal._reader.ask(lambda connection: connection.close())


async def pass_time(one: Harness, seconds: float) -> None:
    """Let time pass, and wait for what comes of it, whether questions are answered or not."""
    one.clock.advance(seconds)
    for _ in range(12):
        await one.journal.pending()
        await one.journal._reader.ask(lambda _: None)


@pytest_twisted.ensureDeferred
async def test_events_that_cannot_be_read_are_told_of_until_they_can(harness: Open) -> None:
    seen: list[str] = []
    one = harness(mine=noting(seen))
    taken = await one.take()
    await one.until(lambda: seen == ["d1"])
    await break_reading(one)
    await one.journal.replay(taken.id, None, now=one.wall())  # type: ignore[arg-type]
    one.dispatch.look_again()
    for _ in range(2):
        await pass_time(one, 1.0)
    assert (one.dispatch.problems(), said(one)) == ([], [])  # it may be over in a moment
    for _ in range(2):
        await pass_time(one, 1.0)
    (problem,) = one.dispatch.problems()
    assert problem.startswith(UNREAD)
    assert said(one) == [problem]
    assert one.journal._reader.release_connection()
    await pass_time(one, 1.0)
    await one.until(lambda: seen == ["d1", "d1"])
    assert one.dispatch.problems() == []
    assert said(one) == [problem, "events that wait in the journal are handed on again"]


@pytest_twisted.ensureDeferred
async def test_handlers_that_wait_for_a_count_that_cannot_be_read_are_told_of(harness: Open, tmp_path: Path) -> None:
    seen: list[str] = []
    file = StepFile(tmp_path / "steps", list)
    file.enter(0, "77", "mine:handle")
    one = harness(mine=noting(seen), start=False, steps=StepFile(tmp_path / "steps", list))
    await break_reading(one)
    recovered = one.recover()
    await one.take()
    await pass_time(one, 0.0)  # the cause is known before people are told
    await pass_time(one, MOMENT)
    (problem,) = one.dispatch.problems()
    assert problem.startswith(f"{UNCOUNTED}: the journal cannot read ")
    assert said(one) == [problem]
    assert seen == []
    assert one.journal._reader.release_connection()
    await pass_time(one, 1.0)
    await recovered
    await one.until(lambda: seen == ["d1"])
    assert one.dispatch.problems() == []
    assert said(one) == [problem, "handlers begin: nothing is left to count of how the last process ended"]


@pytest_twisted.ensureDeferred
async def test_a_count_that_nobody_makes_is_told_of_without_a_cause(harness: Open, tmp_path: Path) -> None:
    file = StepFile(tmp_path / "steps", list)
    file.enter(0, "77", "mine:handle")
    one = harness(mine=noting([]), start=False, steps=StepFile(tmp_path / "steps", list))
    await pass_time(one, MOMENT)
    assert one.dispatch.problems() == said(one) == [UNCOUNTED]


@pytest_twisted.ensureDeferred
async def test_what_follows_from_a_problem_that_the_journal_tells_is_not_told_again(
    harness: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = harness(mine=noting([]))
    with monkeypatch.context() as patch:
        patch.setattr(one.journal, "problems", lambda: ["the disk is full"])
        one.dispatch.hold("unwritable")
        await pass_time(one, 2 * MOMENT)
        assert one.dispatch.problems() == said(one) == []
    await pass_time(one, 1.0)  # the journal is well, and still they wait
    line = "no handler begins while its outcome could not be written down"
    assert one.dispatch.problems() == said(one) == [line]
    one.dispatch.release("unwritable")
    assert one.dispatch.problems() == []
    assert said(one) == [line, "handlers begin again: outcomes can be written down"]


@pytest_twisted.ensureDeferred
async def test_a_stop_is_no_end_of_what_held_handlers_up(harness: Open) -> None:
    one = harness(mine=noting([]))
    one.dispatch.hold("unknown", "the journal cannot read it: disk I/O error")
    await pass_time(one, MOMENT)
    line = "no handler begins before it is known which of them are paused: the journal cannot read it: disk I/O error"
    assert said(one) == [line]
    await one.close()
    one.dispatch.release("unknown")
    assert said(one) == [line]
