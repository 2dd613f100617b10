"""Questions while the database is cut off, away, silent or slow: each is answered, or fails in time with one line."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest
import pytest_twisted
from journal_values import new_delivery, together
from outcomes import outcome
from postgres_journals import open_sole
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from waiting import until

from stackit.api.errors import JournalError
from stackit.journal import EventId
from stackit.journal.postgres.connection import Connection, Server
from stackit.journal.postgres.journal import PostgresJournal
from stackit.journal.postgres.reader import Reader
from stackit.testing.postgres import PostgresServer, database_of


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of these tests alone, which they stop, freeze and cut off."""
    with PostgresServer() as started:
        yield started


@pytest_twisted.async_yield_fixture
async def journal(server: PostgresServer) -> AsyncIterator[PostgresJournal]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    opened = open_sole(server.database(), reactor)
    await outcome(opened.append, new_delivery("a"))
    yield opened
    await opened.close()


@pytest_twisted.ensureDeferred
async def test_a_journal_that_can_be_written_and_not_read_is_told_of_and_its_end_too(server: PostgresServer) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    told: list[str] = []
    conninfo = server.database()
    journal = open_sole(conninfo, reactor, notice=told.append)
    of_reader = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND application_name = %s"
    name = database_of(conninfo)
    try:
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        server.execute(of_reader, name, "stackit reader")
        with pytest.raises(JournalError, match="is not currently accepting connections"):
            await journal.documents("paused")
        assert told == []  # not yet: it may be over in a moment
        await until(lambda: told, "the problem")
        (problem,) = journal.problems()
        assert told == [problem]
        assert problem.endswith(
            f'database "{name}" is not currently accepting connections; what waits in the journal is not handled '
            "until it can be read"
        )
        await outcome(journal.append, new_delivery("a"))
    finally:
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    await until(lambda: journal.problems() == [], "the end of the problem")
    assert told == [problem, "the journal can be read again"]
    await journal.close()


def slow(connection: Connection) -> object:
    return connection.execute("SELECT pg_sleep(60)").fetchone()


@pytest_twisted.ensureDeferred
async def test_a_question_whose_connection_is_cut_is_asked_again(
    journal: PostgresJournal, server: PostgresServer
) -> None:
    for _ in range(3):
        server.cut_connections()
        answers = await together(*(journal.receipt(EventId("1")) for _ in range(5)))
        assert all(succeeded and receipt.delivery == "a" for succeeded, receipt in answers)


@pytest_twisted.ensureDeferred
async def test_one_that_is_cut_in_the_middle_is_asked_again_once(server: PostgresServer) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    clock: Any = reactor
    conninfo = server.database()
    database = Server(conninfo)
    reader = Reader(lambda: database.connect("reader"), clock, on_failure=list)
    reader.start()
    tries: list[int] = []

    def question(connection: Connection) -> object:
        tries.append(connection.info.backend_pid)
        return slow(connection)

    def asked(times: int) -> bool:
        return len(tries) == times

    answer = reader.ask(question)
    for number in (1, 2):
        await until(partial(asked, number), "the question")
        await deferToThread(server.cut_connections, database_of(conninfo))
    with pytest.raises(JournalError, match="the journal cannot be read from the database: ") as raised:
        await answer
    assert "\n" not in str(raised.value)
    assert len(set(tries)) == 2
    assert await reader.ask(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)
    await reader.close()


@pytest_twisted.ensureDeferred
async def test_while_the_server_is_away_every_question_fails_soon_with_one_line() -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    with PostgresServer() as server:
        journal = open_sole(server.database(), reactor)
        await outcome(journal.append, new_delivery("a"))
        await deferToThread(server.stop)
        began = time.monotonic()
        answers = await together(
            *(journal.receipt(EventId("1")) for _ in range(50)),
            journal.due_groups("mirror", now=200.0),
            journal.announced("octo/widget"),
            journal.listing(),
        )
        assert time.monotonic() - began < 20
        for succeeded, failure in answers:
            assert not succeeded
            assert isinstance(failure.value, JournalError)
            assert "\n" not in str(failure.value)
        with pytest.raises(JournalError):
            journal.documents_now("repos")
        beats: list[object] = []
        for thread in journal.threads().values():
            thread.beat(beats.append)
            assert thread.lives
        await until(lambda: len(beats) == len(journal.threads()), "the threads to move")
        await until(lambda: journal._exchange.notices.problem and journal.problems(), "the problem")
        assert "notices of other nodes do not come: " in str(journal._exchange.notices.problem)
        await deferToThread(server.start)
        answered: list[Any] = []
        while not answered:
            answered = [receipt for succeeded, receipt in await together(journal.receipt(EventId("1"))) if succeeded]
        assert answered[0].delivery == "a"
        await until(lambda: not journal.problems(), "the end of the problem")
        await journal.close()


@pytest_twisted.ensureDeferred
async def test_a_question_that_takes_too_long_is_given_up_by_the_server(server: PostgresServer) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    clock: Any = reactor
    database = Server(server.database())
    reader = Reader(lambda: database.connect("reader"), clock, on_failure=list, patience=1.0)
    reader.start()
    with pytest.raises(JournalError, match="statement timeout"):
        await reader.ask(slow)
    assert await reader.ask(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)
    await reader.close()


@pytest_twisted.ensureDeferred
async def test_a_server_that_says_nothing_keeps_nobody_from_stopping(server: PostgresServer) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    clock: Any = reactor
    database = Server(server.database())
    reader = Reader(lambda: database.connect("reader"), clock, on_failure=list, grace=0.5)
    reader.connect()
    reader.start()
    server.pause()
    try:
        asked = together(*(waiting(reader) for _ in range(3)))
        await reader.close()
        assert [succeeded for succeeded, _ in await asked] == [False] * 3
        assert not reader.lives
    finally:
        server.resume()


async def waiting(reader: Reader) -> object:
    return await reader.ask(slow)


@pytest_twisted.ensureDeferred
async def test_what_a_question_raises_itself_is_the_askers(journal: PostgresJournal) -> None:
    asked: list[Deferred[Any]] = []
    for fault in (ValueError("a"), LookupError("b"), SystemExit(3)):

        def question(_: Connection, fault: BaseException = fault) -> object:
            raise fault

        asked.append(journal._reader.ask(question))
        with pytest.raises(type(fault)):
            await asked[-1]
    with pytest.raises(JournalError, match="cannot be read"):
        await journal._reader.ask(lambda connection: connection.execute("SELECT nonsense"))
    assert await journal.pending() == {"mirror": 1, "notes:deploy": 1}


@pytest_twisted.ensureDeferred
async def test_nothing_is_answered_once_the_journal_is_closed(postgres: str) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    closed = open_sole(postgres, reactor)
    unanswered = closed._reader.ask(lambda connection: connection.execute("SELECT 7").fetchone())
    await closed.close()
    assert await unanswered == (7,)
    await closed.close()
    for ask in (closed.receipt(EventId("1")), closed.pending(), closed.due_groups("mirror", now=0.0)):
        with pytest.raises(JournalError, match="closed"):
            await ask
    with pytest.raises(JournalError, match="closed"):
        closed.documents_now("repos")
