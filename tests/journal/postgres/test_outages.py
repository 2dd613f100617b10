"""A database that is away, cut off, or waits for a standby: nothing that was confirmed is lost, nothing is twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import pytest_twisted
from journal_values import ONE, ZEROS, new_delivery, together
from outcomes import outcome
from postgres_journals import open_node, open_sole
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from waiting import PATIENCE, until

from stackit.api.errors import JournalError
from stackit.api.events import RefChange
from stackit.journal.postgres.journal import PostgresJournal
from stackit.testing.postgres import PostgresServer, database_of


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of these tests alone, which they stop, freeze and cut off."""
    with PostgresServer() as started:
        yield started


class Opened:
    """The journal of a fleet's only node, and the problems it told of."""

    def __init__(self, server: PostgresServer, conninfo: str, **settings: Any) -> None:
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        self.reactor: Any = reactor
        self.server = server
        self.conninfo = conninfo
        self.told: list[str | None] = []
        self.journal: PostgresJournal = open_sole(conninfo, reactor, on_change=self.told.append, **settings)
        self.journal.subscribe({"mirror": "mirrors", "notes:deploy": "handlers"})

    def sleep(self, seconds: float) -> Deferred[None]:
        return deferLater(self.reactor, seconds, lambda: None)

    async def cut(self) -> None:
        """Cut all connections of the journal's database off."""
        await deferToThread(self.server.cut_connections, database_of(self.conninfo))

    async def cut_after_more(self, done: Collection[object]) -> None:
        """Cut them off as soon as more is done: what is tried again after a cut has its time."""
        before = len(done)
        await self.sleep(0.05)
        await until(lambda: len(done) > before, "more to be done")
        await self.cut()

    async def in_database(self, question: str) -> list[tuple[Any, ...]]:
        """Return the answer of the database itself."""
        return await deferToThread(self.server.execute, question, database=database_of(self.conninfo))

    async def until_found(self, question: str, rows: list[tuple[Any, ...]]) -> None:
        """Wait until the database itself answers so."""
        until = self.reactor.seconds() + PATIENCE
        while (found := await self.in_database(question)) != rows:
            assert self.reactor.seconds() < until, found
            await self.sleep(0.01)


Opening = Callable[..., Opened]


@pytest_twisted.async_yield_fixture
async def opening(server: PostgresServer) -> AsyncIterator[Opening]:
    """Opens journals on a server that runs, which are closed whatever comes of the test."""
    made: list[Opened] = []

    def open_one(conninfo: str, **settings: Any) -> Opened:
        made.append(Opened(server, conninfo, **settings))
        return made[-1]

    yield open_one
    for each in made:
        await each.journal.close()


@pytest.fixture
def opened(server: PostgresServer, opening: Opening) -> Opened:
    """A journal on a server that runs."""
    return opening(server.database())


@pytest_twisted.ensureDeferred
async def test_what_is_recorded_while_connections_are_cut_is_there_once_and_handed_on_once(opened: Opened) -> None:
    journal = opened.journal
    handed: Counter[int] = Counter()
    statuses: Counter[str] = Counter()
    confirmed: list[str] = []
    times = [opened.reactor.seconds()]
    at, stop = 0, False

    async def sender(name: int) -> None:
        nonlocal at
        while not stop:
            at += 1
            delivery = f"{name}-{at}"
            appended = await outcome(journal.append, new_delivery(delivery, repo=f"octo/{name}", received_at=at))
            confirmed.append(appended.id)
            times.append(opened.reactor.seconds())
            statuses[appended.status] += 1
            handed.update(work.id for work in appended.handlings)
            first, second = appended.handlings
            failing = journal.fail(second.id, at=200.0, error="no", next_at=1000.0 + len(confirmed))
            assert all(ended for ended, _ in await together(outcome(journal.finish, first.id, at=200.0), failing))

    senders = together(*(sender(number) for number in range(16)))
    for _ in range(8):
        await opened.cut_after_more(confirmed)
    stop = True
    assert all(succeeded for succeeded, _ in await senders)
    times.append(opened.reactor.seconds())  # what was confirmed last may be no delivery
    assert len(confirmed) > 16
    assert statuses == {"new": len(confirmed)}
    assert (len(set(confirmed)), len(handed), set(handed.values())) == (len(confirmed), 2 * len(confirmed), {1})
    assert await opened.in_database("SELECT count(*) FROM events") == [(len(confirmed),)]
    assert await opened.in_database(
        "SELECT (SELECT count(*) FROM work WHERE attempts = 1), (SELECT count(*) FROM outcomes WHERE attempts = 1)"
    ) == [(len(confirmed), len(confirmed))]
    # People are told of no outage that is shorter than a second, unless the machine makes it longer.
    assert opened.told == [] or max(late - early for early, late in pairwise(times)) > 0.5


@pytest_twisted.ensureDeferred
async def test_refs_that_are_announced_while_connections_are_cut_are_announced_once(opened: Opened) -> None:
    changes = (RefChange("refs/heads/main", ZEROS, ONE, "created"),)
    at, stop = 0, False
    handed: Counter[int] = Counter()

    async def announcer(name: int) -> None:
        nonlocal at
        while not stop:
            at += 1
            result = await opened.journal.announce(f"octo/{name}", changes, "push", None, float(at), ["notes:deploy"])
            handed.update(work.id for work in result.handlings)

    announcers = together(*(announcer(number) for number in range(8)))
    for _ in range(6):
        await opened.cut_after_more(handed)
    stop = True
    assert all(succeeded for succeeded, _ in await announcers)
    assert (len(handed), set(handed.values())) == (at, {1})
    assert await opened.in_database("SELECT count(*) FROM events") == [(at,)]
    assert await opened.journal.pending() == {"notes:deploy": at}


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_away_for_a_moment_costs_no_delivery() -> None:
    with PostgresServer() as server:
        opened = Opened(server, server.database())
        try:
            await outcome(opened.journal.append, new_delivery("before"))
            await deferToThread(server.stop, "immediate")
            asked = [Deferred.fromCoroutine(outcome(opened.journal.append, new_delivery(f"{n}"))) for n in range(3)]
            await until(lambda: opened.told, "a problem that is told of")
            problem = opened.told[0] or ""
            assert "the journal cannot be written to the database: " in problem
            assert "\n" not in problem
            assert problem.partition(": ")[0] in "".join(opened.journal.problems())
            await deferToThread(server.start)
            assert [(await each).status for each in asked] == ["new"] * 3
            await until(lambda: opened.told[-1] is None, "the end of the problem")
            await until(lambda: not opened.journal.problems(), "notices that come again")
        finally:
            await opened.journal.close()


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_silent_is_given_up_in_time_and_what_was_in_doubt_is_there(
    server: PostgresServer, opening: Opening
) -> None:
    opened = opening(server.database(), patience=3.0)
    await outcome(opened.journal.append, new_delivery("before", repo="octo/other"))
    server.pause()
    try:
        with pytest.raises(JournalError, match="written to the database: it does not answer"):
            await outcome(opened.journal.append, new_delivery("a"))
        assert [each for each in opened.told if each is not None]
    finally:
        server.resume()
    await until(lambda: opened.told[-1] is None, "the end of the problem")
    await opened.until_found("SELECT count(*) FROM events", [(2,)])  # the server comes to it in its own time
    # Nobody was given its handlings: those who look when the problem is over find them.
    assert len(await opened.journal.due("mirror", 200.0, group="octo/widget", limit=9)) == 1
    again = await outcome(opened.journal.append, new_delivery("a"))
    assert again.status == "duplicate"


@pytest_twisted.ensureDeferred
async def test_handlers_are_held_at_once_when_no_outcome_can_be_written_down_until_one_can_be(
    server: PostgresServer, opening: Opening
) -> None:
    holds: list[bool] = []
    opened = opening(server.database(), on_hold=holds.append, patience=3.0)

    def are_held() -> bool:
        return holds[-1:] == [True]

    appended = await outcome(opened.journal.append, new_delivery("a"))
    await until(lambda: not are_held(), "handlers to go on")
    name = database_of(opened.conninfo)
    await deferToThread(server.execute, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await opened.cut()
    finished = Deferred.fromCoroutine(outcome(opened.journal.finish, appended.handlings[0].id, at=200.0))
    await until(are_held, "handlers to be held")
    assert not finished.called
    await deferToThread(server.execute, f"ALTER DATABASE {name} RESET default_transaction_read_only")
    await finished
    await until(lambda: not are_held(), "the end of it")
    # Nothing else is to be written, and nobody asks for problems: the end of one is noticed all the same.
    await deferToThread(server.execute, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await opened.cut()
    with pytest.raises(JournalError, match="read-only"):
        await opened.journal.put("marks", {"a": b""})
    await until(are_held, "handlers to be held again")
    await deferToThread(server.execute, f"ALTER DATABASE {name} RESET default_transaction_read_only")
    await until(lambda: not are_held(), "the end of the problem")


@pytest_twisted.ensureDeferred
async def test_a_problem_that_shows_in_turns_in_two_ways_is_told_once_in_each(
    server: PostgresServer, opening: Opening
) -> None:
    opened = opening(server.database(password="secret"), patience=1.5)
    name = database_of(opened.conninfo)
    reasons = ["is not permitted to log in", "is not currently accepting connections"]

    async def bar(*, role: bool, database: bool) -> None:
        """Bar one way in before the other is opened."""
        bars = (
            (role, f"ALTER ROLE guarded {'NOLOGIN' if role else 'LOGIN'}"),
            (database, f"ALTER DATABASE {name} ALLOW_CONNECTIONS {'off' if database else 'on'}"),
        )
        for _, statement in sorted(bars, reverse=True):
            await deferToThread(server.execute, statement)

    def shows(reason: str) -> bool:
        return bool(opened.journal.problems()) and reason in str(opened.journal._writer.problem)

    await bar(role=True, database=True)
    await opened.cut()
    writing = Deferred.fromCoroutine(opened.journal.put("marks", {"a": b""}))
    writing.addErrback(lambda failure: failure.trap(JournalError) and None)
    for _ in range(2):
        await bar(role=True, database=False)
        await until(partial(shows, reasons[0]), "the first reason")
        await bar(role=False, database=True)
        await until(partial(shows, reasons[1]), "the other reason")
    await bar(role=False, database=False)
    await until(lambda: opened.told[-1:] == [None], "the end of the problem")
    assert len(opened.told) == len(set(opened.told))
    assert all(any(reason in (told or "") for told in opened.told) for reason in reasons)
    await writing


_FULL = """
    CREATE FUNCTION {0}() RETURNS {1} LANGUAGE plpgsql AS $$
        BEGIN RAISE 'could not extend file "base/1/2": No space left on device' USING ERRCODE = 'disk_full'; END
    $$
"""
_FILL = (
    _FULL.format("full_disk", "trigger"),
    _FULL.format("full_disk_too", "event_trigger"),
    "CREATE TRIGGER full_disk BEFORE INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION full_disk()",
    "CREATE EVENT TRIGGER full_disk ON ddl_command_start WHEN tag IN ('CREATE TABLE') EXECUTE FUNCTION full_disk_too()",
)
"""Have no table grow any more. The log of the database, on another disk perhaps, takes commits."""


@pytest_twisted.ensureDeferred
async def test_a_database_that_is_full_is_told_of_until_there_is_room_also_where_its_log_has_some(
    server: PostgresServer, opening: Opening
) -> None:
    opened = opening(server.database(), patience=3.0)
    for statement in _FILL:
        await opened.in_database(statement)
    with pytest.raises(
        JournalError, match='"base/1/…": No space left on device; make room on the disk of the database'
    ):
        await outcome(opened.journal.append, new_delivery("a"))

    def tries() -> int:
        return server.log.count("CREATE TEMPORARY TABLE room")

    await until(lambda: tries() >= 2, "two tries to write")
    before = tries()
    assert await opened.journal.pending() == {}
    await opened.journal.put("marks", {"a": b""})
    await until(lambda: tries() > before, "another one")
    assert None not in opened.told
    await opened.in_database("DROP EVENT TRIGGER full_disk")
    await opened.in_database("DROP TRIGGER full_disk ON events")
    await until(lambda: opened.told[-1] is None, "the end of the problem")
    assert (await outcome(opened.journal.append, new_delivery("a"))).status == "new"


@pytest_twisted.ensureDeferred
async def test_readers_and_notices_do_not_stay_at_a_server_that_takes_no_writes_any_more() -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    with PostgresServer() as primary:
        conninfo = primary.database()
        standby = await deferToThread(primary.standby, "s1")
        both = conninfo.replace(f"host={primary.directory}", f"host={primary.directory},{standby.directory}").replace(
            f"port={primary.port}", f"port={primary.port},{standby.port}"
        )
        await deferToThread(primary.wait_for_standbys, "s1")
        writing = open_sole(both, reactor)
        listening = open_node(both, reactor, name="b")
        heard: list[object] = []
        listening.watch("marks", heard.append)
        try:
            # The old one goes on answering those that are connected, and knows nothing of what comes now.
            primary.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            primary.execute("SELECT pg_reload_conf()")
            while primary.execute("SHOW default_transaction_read_only") != [("on",)]:
                await deferLater(reactor, 0.01)
            await deferToThread(standby.promote)
            appended = await outcome(writing.append, new_delivery("a"))
            assert await writing.receipt(appended.id) is not None
            listening.doubt()  # its membership has moved
            await writing.put("marks", {"a": b""})
            await until(lambda: heard, "a notice")
            assert await listening.receipt(appended.id) is not None
            assert await listening.documents("marks") == {"a": b""}
        finally:
            await writing.close()
            await listening.close()


@pytest_twisted.ensureDeferred
async def test_a_lock_that_somebody_holds_is_waited_for(opened: Opened) -> None:
    journal, database = opened.journal, database_of(opened.conninfo)
    await outcome(journal.append, new_delivery("a", subscribers=()))

    def hold(released: Callable[[], bool]) -> None:
        import psycopg  # noqa: PLC0415 - in a thread

        with psycopg.connect(opened.server.conninfo(database)) as held:
            held.execute("LOCK TABLE digests IN ACCESS EXCLUSIVE MODE")
            holding.append(True)
            while not released():
                held.execute("SELECT pg_sleep(0.05)")

    holding: list[bool] = []
    is_released: list[bool] = []
    thread = deferToThread(hold, lambda: bool(is_released))
    await until(lambda: holding, "the lock")
    asked = Deferred.fromCoroutine(outcome(journal.append, new_delivery("b")))
    await opened.sleep(0.3)
    assert not asked.called
    is_released.append(True)
    await thread
    assert (await asked).status == "new"


@pytest_twisted.ensureDeferred
async def test_no_commit_is_confirmed_that_no_standby_has() -> None:
    with PostgresServer() as primary:
        # The warning about a wait that was cancelled comes, even where the role is to be told of errors alone.
        primary.execute("ALTER ROLE stackit SET client_min_messages = error")
        opened = Opened(primary, primary.database(), patience=4.0)
        journal = opened.journal
        try:
            standby = await deferToThread(primary.standby, "one")
            await deferToThread(primary.wait_for_standbys, "one")
            assert (await outcome(journal.append, new_delivery("a"))).status == "new"
            await deferToThread(standby.stop, "immediate")
            waiting = Deferred.fromCoroutine(outcome(journal.append, new_delivery("b")))
            await until(lambda: opened.told, "a problem that is told of")
            # Somebody cancels the wait: for the server, that is a success with a warning.
            for _ in range(2):
                await deferToThread(
                    primary.execute,
                    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
                )
                await opened.sleep(0.3)
            with pytest.raises(JournalError):
                await waiting
            await deferToThread(standby.start)
            await until(lambda: not journal.problems(), "the end of the problem")
            assert (await outcome(journal.append, new_delivery("c"))).status == "new"
            await until(lambda: opened.told[-1] is None, "the end of what was told")
            assert await journal.pending() == {"mirror": 3, "notes:deploy": 3}
        finally:
            await journal.close()
