"""Tracebacks: kept beside the error of the last failed attempt, and gone with it."""

from __future__ import annotations

import pytest
import pytest_twisted
from journal_values import new_delivery
from outcomes import outcome

from stackit.journal import EventId, JournalProtocol


@pytest.mark.parametrize("next_at", [200.0, None])
@pytest_twisted.ensureDeferred
async def test_the_traceback_of_the_last_failure_is_given_back(journal: JournalProtocol, next_at: float | None) -> None:
    appended = await outcome(journal.append, new_delivery("a"))
    mirror, notes = appended.handlings
    await journal.fail(mirror.id, at=101.0, error="OSError: no", next_at=150.0, traceback="first\nattempt")
    text = "second\nattempt \ud800 \x00 é"
    await journal.fail(mirror.id, at=101.0, error="OSError: no", next_at=next_at, traceback=text)
    await journal.fail(notes.id, at=101.0, error="OSError: no", next_at=next_at)
    assert await journal.tracebacks(appended.id) in (
        {"mirror": "second\nattempt \\ud800 \x00 é"},
        {"mirror": "second\nattempt \ud800 \x00 é"},
    )


@pytest.mark.parametrize("next_at", [200.0, None])
@pytest_twisted.ensureDeferred
async def test_the_next_failure_takes_it_away(journal: JournalProtocol, next_at: float | None) -> None:
    appended = await outcome(journal.append, new_delivery("a", subscribers=("mirror",)))
    (mirror,) = appended.handlings
    await journal.fail(mirror.id, at=101.0, error="OSError: no", next_at=150.0, traceback="lines")
    await journal.fail(mirror.id, at=102.0, error="OSError: no", next_at=next_at)
    assert await journal.tracebacks(appended.id) == {}


@pytest_twisted.ensureDeferred
async def test_what_is_done_has_none(journal: JournalProtocol) -> None:
    appended = await outcome(journal.append, new_delivery("a", subscribers=("mirror",)))
    (mirror,) = appended.handlings
    await journal.fail(mirror.id, at=101.0, error="OSError: no", next_at=102.0, traceback="lines")
    await outcome(journal.finish, mirror.id, at=103.0)
    assert await journal.tracebacks(appended.id) == {}


@pytest_twisted.ensureDeferred
async def test_a_replay_begins_without_one_and_a_redelivery_keeps_it_as_it_keeps_the_error(
    journal: JournalProtocol,
) -> None:
    appended = await outcome(journal.append, new_delivery("a", subscribers=("mirror",)))
    (mirror,) = appended.handlings
    await journal.fail(mirror.id, at=101.0, error="OSError: no", next_at=900.0, traceback="lines")
    await outcome(journal.append, new_delivery("a", subscribers=("mirror",), received_at=200.0))
    assert await journal.tracebacks(appended.id) == {"mirror": "lines"}
    await journal.replay(appended.id, None, now=300.0)
    receipt = await journal.receipt(appended.id)
    assert receipt is not None
    assert receipt.handlings[0].error is None
    assert await journal.tracebacks(appended.id) == {}


@pytest_twisted.ensureDeferred
async def test_an_event_that_is_not_there_has_none(journal: JournalProtocol) -> None:
    assert await journal.tracebacks(EventId("no such event")) == {}
