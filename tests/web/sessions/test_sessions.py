"""Sessions by themselves: their ends, their bounds, and what the journal keeps of them."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from memory_journal import MemoryJournal
from twisted.internet.task import Clock

from stackit.api.errors import JournalError
from stackit.api.person import Person
from stackit.web.sessions import sessions as module
from stackit.web.sessions.session import csrf_of, key_of
from stackit.web.sessions.sessions import Sessions

HUBOT = Person(id="github:5", name="hubot (id 5)", role="viewer")
OCTOCAT = Person(id="github:6", name="octocat (id 6)", role="operator")
HOUR = 3600.0


class _Time:
    def __init__(self) -> None:
        self.clock = Clock()
        self.offset = 1_000_000.0

    def now(self) -> float:
        return self.offset + float(self.clock.seconds())


@pytest.fixture
def time() -> _Time:
    return _Time()


def made(time: _Time, journal: MemoryJournal | None = None) -> Sessions:
    clock: Any = time.clock  # of a reactor, the journal uses the timers alone
    sessions = Sessions(
        journal or MemoryJournal(clock), reactor=time.clock, now=time.now, idle=8 * HOUR, absolute=24 * HOUR
    )
    sessions.load()
    return sessions


def test_a_session_ends_when_nothing_is_asked_for_long(time: _Time) -> None:
    sessions = made(time)
    token = sessions.create(HUBOT)
    for _ in range(2):
        time.offset += 8 * HOUR - 1
        assert sessions.find(token) is not None
    time.offset += 8 * HOUR
    assert sessions.find(token) is None


def test_a_session_ends_after_a_day_however_much_is_asked(time: _Time) -> None:
    sessions = made(time)
    token = sessions.create(HUBOT)
    for _ in range(23):
        time.offset += HOUR
        assert sessions.find(token) is not None
    time.offset += HOUR
    assert sessions.find(token) is None


def test_a_session_from_the_future_counts_for_nothing(time: _Time) -> None:
    sessions = made(time)
    token = sessions.create(HUBOT)
    time.offset -= 60
    assert sessions.find(token) is not None
    time.offset -= HOUR
    assert sessions.find(token) is None


def test_who_waits_for_the_end_of_a_session_is_told_once_whatever_ends_it(time: _Time) -> None:
    sessions = made(time)
    told: list[str] = []
    token, other = sessions.create(HUBOT), sessions.create(OCTOCAT)
    sessions.when_ended(key_of(token), lambda: told.append("hubot"))
    sessions.when_ended(key_of(other), lambda: told.append("octocat"))
    sessions.when_ended(key_of(other), lambda: told.append("never"))()
    sessions.start()
    sessions.end_user(HUBOT.id)
    assert told == ["hubot"]
    time.clock.advance(8 * HOUR)
    assert told == ["hubot", "octocat"]
    sessions.when_ended(key_of(token), lambda: told.append("at once"))
    assert told[-1] == "at once"


def test_shorter_times_end_what_is_too_old_for_them(time: _Time) -> None:
    sessions = made(time)
    token = sessions.create(HUBOT)
    time.offset += 2 * HOUR
    sessions.change(idle=HOUR, absolute=24 * HOUR)
    assert sessions.all() == []
    assert sessions.find(token) is None


def test_one_person_has_a_bounded_number_of_sessions_and_pushes_out_their_own(time: _Time) -> None:
    sessions = made(time)
    other = sessions.create(OCTOCAT)
    tokens = []
    for _ in range(module.MOST_OF_ONE + 1):
        time.offset += 1
        tokens.append(sessions.create(HUBOT))
    assert sessions.find(tokens[0]) is None
    assert all(sessions.find(each) is not None for each in (other, *tokens[1:]))


def test_there_is_a_bounded_number_of_sessions_in_all(time: _Time) -> None:
    sessions = made(time)
    for number in range(module.MOST + 3):
        sessions.create(Person(id=str(number), name="x", role="viewer"))
    assert len(sessions.all()) == module.MOST


def test_tokens_are_long_and_random_and_what_pages_have_tells_nothing_of_them(time: _Time) -> None:
    sessions = made(time)
    tokens = {sessions.create(Person(id=str(number), name="x", role="viewer")) for number in range(100)}
    assert len(tokens) == 100
    assert {len(each) for each in tokens} == {len("stks_") + 43}
    token = tokens.pop()
    assert key_of(token) != csrf_of(token)
    assert token not in csrf_of(token)
    for wrong in ("", "stks_", token[:-1], token + "=", token.upper(), key_of(token), "\ud800"):
        assert sessions.find(wrong) is None


@pytest_twisted.ensureDeferred
async def test_sessions_outlast_a_restart_with_the_time_of_their_last_request(
    time: _Time, journal: MemoryJournal
) -> None:
    sessions = made(time, journal)
    token, gone = sessions.create(HUBOT), sessions.create(OCTOCAT)
    sessions.end(key_of(gone))
    time.offset += 7 * HOUR
    assert sessions.find(token) is not None
    await sessions.stop()
    time.offset += 7 * HOUR
    sessions = made(time, journal)
    assert sessions.find(gone) is None
    assert sessions.find(token) is not None
    assert sessions.people() == [HUBOT]
    await sessions.stop()


@pytest_twisted.ensureDeferred
async def test_a_document_that_is_none_is_thrown_away(time: _Time, journal: MemoryJournal) -> None:
    await journal.put("sessions", {"a": b"{", "b": b"\xff"})
    sessions = made(time, journal)
    await sessions.stop()
    assert await journal.documents("sessions") == {}


class _FullJournal(MemoryJournal):
    full = True

    async def put(self, collection: str, documents: Any) -> None:
        if self.full:
            raise JournalError("the disk is full")
        await super().put(collection, documents)


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_written_now_is_written_later_also_that_a_session_ended(time: _Time) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    journal = _FullJournal(reactor)
    sessions = made(time, journal)
    sessions.start()
    token = sessions.create(HUBOT)
    gone = sessions.create(OCTOCAT)
    assert sessions.find(token) is not None
    journal.full = False
    time.clock.advance(30)
    await journal.put("other", {})  # it writes in order
    assert len(await journal.documents("sessions")) == 2
    journal.full = True
    sessions.end(key_of(gone))
    journal.full = False
    time.clock.advance(30)
    await journal.put("other", {})
    assert list(await journal.documents("sessions")) == [key_of(token)]
    await sessions.stop()
