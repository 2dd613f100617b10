"""Sessions at the nodes of a fleet: begun at one, of use at all, and over at all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from shared_journals import SharedJournals
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredLock
from waiting import until

from stackit.api.person import Person
from stackit.web.sessions.kept import COLLECTION, PEOPLE, SEEN
from stackit.web.sessions.session import key_of, new_token
from stackit.web.sessions.sessions import Sessions

HUBOT = Person(id="github:5", name="hubot (id 5)", role="operator", confirmed_at=1.0)


@pytest.fixture
def journals() -> SharedJournals:
    return SharedJournals(reactor)


async def log_in(side: Any) -> str:
    """Log in at a node; return the cookie as a browser sends it to all of them, behind one https address."""
    return f"Cookie: __Host-stackit={(await side.cookie()).partition('=')[2]}"


def token_of(cookie: str) -> str:
    return cookie.partition("=")[2]


@pytest_twisted.ensureDeferred
async def test_who_logs_in_at_one_node_is_known_at_another_with_the_very_next_request(
    people: Any, journals: SharedJournals, token_file: Path
) -> None:
    a = await people(token_file=token_file, journal=journals.node(), shared=True)
    deaf = journals.node()
    deaf.deaf = True  # nothing tells it: it has to look
    b = await people(token_file=token_file, journal=deaf, shared=True)
    cookie = await log_in(a)
    for _ in range(2):
        shown = await b.ask("GET", "/api/v1/session", cookie)
        assert (shown.status, shown.json["by"], shown.json["logged_in"]) == (200, "token", True)
    questions = deaf.questions
    await b.ask("GET", "/api/v1/session", cookie)
    assert deaf.questions == questions  # it is looked up once


@pytest_twisted.ensureDeferred
async def test_who_logs_out_at_one_node_is_logged_out_at_all(
    people: Any, journals: SharedJournals, token_file: Path
) -> None:
    a, b = [await people(token_file=token_file, journal=journals.node(), shared=True) for _ in range(2)]
    cookie = await log_in(a)
    assert (await b.ask("GET", "/api/v1/session", cookie)).status == 200
    ended: list[str] = []
    b.sessions.when_ended(key_of(token_of(cookie)), lambda: ended.append("stream"))
    a.sessions.end(key_of(token_of(cookie)))
    await until(lambda: ended == ["stream"])
    for side in (a, b):
        assert (await side.ask("GET", "/api/v1/session", cookie)).status == 401


@pytest_twisted.ensureDeferred
async def test_a_token_that_nobody_has_is_looked_up_once_and_slows_down_who_tries_many(
    people: Any, journals: SharedJournals, token_file: Path
) -> None:
    journal = journals.node()
    side = await people(token_file=token_file, journal=journal, shared=True)
    name = "Cookie: __Host-stackit"
    wrong = f"{name}={new_token()}"
    for _ in range(3):
        assert (await side.ask("GET", "/api/v1/session", wrong)).status == 401
    assert journal.questions == 1
    for text in ("x", "stks_short", "stks_" + "%" * 43):
        assert (await side.ask("GET", "/api/v1/session", f"{name}={text}")).status == 401
    assert journal.questions == 1
    statuses = [(await side.ask("GET", "/api/v1/session", f"{name}={new_token()}")).status for _ in range(60)]
    assert set(statuses) == {401, 429}
    assert journal.questions < 32


@pytest_twisted.ensureDeferred
async def test_strangers_keep_no_more_than_a_few_requests_waiting_for_a_database_that_says_nothing(
    people: Any, journals: SharedJournals, token_file: Path
) -> None:
    journal = journals.node()
    side = await people(token_file=token_file, journal=journal, shared=True)
    before = journal.questions
    journal.silence = silence = DeferredLock()
    await silence.acquire()
    name = "Cookie: __Host-stackit"
    asked = [Deferred.fromCoroutine(side.ask("GET", "/api/v1/session", f"{name}={new_token()}")) for _ in range(20)]
    await until(lambda: sum(each.called for each in asked) == 12)
    assert journal.questions - before == 8
    silence.release()
    journal.silence = None
    statuses = [(await each).status for each in asked]
    assert (statuses.count(503), statuses.count(401)) == (12, 8)


@pytest_twisted.ensureDeferred
async def test_a_session_that_is_not_known_yet_changes_nothing_for_another_site(
    people: Any, journals: SharedJournals, token_file: Path
) -> None:
    a = await people(token_file=token_file, journal=journals.node(), shared=True)
    deaf = journals.node()
    deaf.deaf = True
    b = await people(token_file=token_file, journal=deaf, shared=True)
    cookie = await log_in(a)
    assert (await b.ask("POST", "/api/v1/repos/octo/widget/sync", cookie)).status == 403
    assert (await b.ask("POST", "/api/v1/repos/octo/widget/sync", cookie, "X-Stackit-CSRF: 1")).status == 200


def made(journal: Any, clock: list[float]) -> Sessions:
    sessions = Sessions(journal, reactor=reactor, now=lambda: clock[0], idle=8000.0, absolute=24000.0, shared=True)
    sessions.load()
    sessions.start()
    return sessions


@pytest_twisted.ensureDeferred
async def test_another_role_counts_at_every_node_whatever_else_they_write_meanwhile(journals: SharedJournals) -> None:
    clock = [1000.0]
    a, b = made(journals.node(), clock), made(journals.node(), clock)
    token = a.create(HUBOT)
    await a.settled()
    assert await b.look_up(token)
    clock[0] += 1000.0
    lesser = msgspec.structs.replace(HUBOT, role="viewer", confirmed_at=2.0)
    b.update(lesser)
    a.find(token)  # is seen, and writes that at the same moment
    await until(lambda: a.people() == [lesser])
    later = made(journals.node(), clock)
    assert later.people() == [lesser]
    assert [each.seen_at for each in later.all()] == [2000.0]
    for each in (a, b, later):
        await each.stop()


@pytest_twisted.ensureDeferred
async def test_another_role_counts_at_every_node_though_the_clock_was_set_back_meanwhile(
    journals: SharedJournals,
) -> None:
    clock = [5000.0]
    a, b = made(journals.node(), clock), made(journals.node(), clock)
    token = a.create(msgspec.structs.replace(HUBOT, confirmed_at=5000.0))
    await a.settled()
    assert await b.look_up(token)
    clock[0] = 4800.0
    lesser = msgspec.structs.replace(HUBOT, role="viewer", confirmed_at=4800.0)
    b.update(lesser)
    await until(lambda: a.people() == [lesser])
    later = made(journals.node(), clock)
    assert later.people() == [lesser]
    for each in (a, b, later):
        await each.stop()


@pytest_twisted.ensureDeferred
async def test_a_session_that_was_ended_does_not_come_back_by_what_another_node_writes_of_it(
    journals: SharedJournals,
) -> None:
    clock = [1000.0]
    a, b = made(journals.node(), clock), made(journals.node(), clock)
    token = a.create(HUBOT)
    await a.settled()
    assert await b.look_up(token)
    clock[0] += 1000.0
    a.end(key_of(token))
    b.find(token)  # it does not know yet
    b.update(msgspec.structs.replace(HUBOT, role="viewer", confirmed_at=2.0))
    await until(lambda: b.all() == [])
    await a.stop()
    await b.stop()
    later = made(journals.node(), clock)
    assert later.all() == []
    await later.stop()
    journal = journals.node()
    assert [await journal.documents(each) for each in (COLLECTION, SEEN, PEOPLE)] == [{}, {}, {}]


@pytest_twisted.ensureDeferred
async def test_a_person_who_is_busy_at_one_node_is_idle_at_none(journals: SharedJournals) -> None:
    clock = [1000.0]
    a, b = made(journals.node(), clock), made(journals.node(), clock)
    token = a.create(HUBOT)
    await a.settled()
    assert await b.look_up(token)
    for _ in range(30):
        clock[0] += 500.0
        assert b.find(token) is not None
        await until(lambda: [each.seen_at for each in a.all()] == clock)
        a.sweep()
    assert a.find(token) is not None
    for each in (a, b):
        await each.stop()


@pytest_twisted.ensureDeferred
async def test_what_was_missed_is_read_when_anything_may_have_changed(journals: SharedJournals) -> None:
    clock = [1000.0]
    journal = journals.node()
    journal.deaf = True
    sessions = made(journal, clock)
    other = made(journals.node(), clock)
    gone, kept = other.create(HUBOT), other.create(HUBOT)
    await other.settled()
    assert await sessions.look_up(gone)
    other.end(key_of(gone))
    await other.settled()
    own = sessions.create(HUBOT)
    journal.deaf = False
    journal.tell(COLLECTION, None)
    await until(lambda: {each.key for each in sessions.all()} == {key_of(kept), key_of(own)})
    for each in (sessions, other):
        await each.stop()


@pytest_twisted.ensureDeferred
async def test_what_was_ended_while_the_journal_was_away_stays_so_and_is_told_once_it_is_back(
    journals: SharedJournals,
) -> None:
    clock = [1000.0]
    journal = journals.node()
    a, b = made(journal, clock), made(journals.node(), clock)
    token = a.create(HUBOT)
    await a.settled()
    assert await b.look_up(token)
    journal.broken = True
    a.end(key_of(token))
    await a.settled()
    clock[0] += 1000.0
    a.sweep()
    assert not a.may_be_known(token)
    assert a.find(token) is None
    journal.broken = False
    journal.tell(COLLECTION, None)
    await until(lambda: b.all() == [])
    assert a.find(token) is None
    for each in (a, b):
        await each.stop()
