"""Notices: to one process or to everybody, none to oneself, and none that one may rest on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import psycopg
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from many_files import many_files
from postgres_front import PostgresFront
from waiting import until

from stackit.journal.postgres.connection import Server
from stackit.journal.postgres.notices import EVERYBODY, Notice, Notices, channel_of, encoded
from stackit.testing.postgres import PostgresServer, database_of

ANY: Sequence[Any] = [None]


class Party:
    """One who listens: ``heard`` has what was told to it, ``missed`` how often it may have missed something."""

    def __init__(self, conninfo: str, incarnation: int) -> None:
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        clock: Any = reactor
        self.heard: list[Notice] = []
        self.missed = 0
        server = Server(conninfo)
        self.notices = Notices(
            lambda: server.connect("notices"), clock, taken=self.heard.extend, missed=self._may_have_missed
        )
        self.notices.start(incarnation)

    def _may_have_missed(self) -> None:
        self.missed += 1

    async def ready(self) -> None:
        """Wait until it listens."""
        done: list[object] = []
        self.notices.beat(done.append)
        await until(lambda: done, "the beat of its thread")

    def of(self, topic: str) -> Sequence[Any]:
        """Return the items that were told of a topic, in order."""
        return [item for notice in self.heard if notice.topic == topic for item in notice.items or ANY]


@pytest_twisted.async_yield_fixture
async def parties(postgres: str) -> AsyncIterator[list[Party]]:
    made = [Party(postgres, incarnation) for incarnation in (1, 2, 3)]
    for party in made:
        await party.ready()
    yield made
    for party in made:
        await party.notices.close()


@pytest_twisted.ensureDeferred
async def test_one_is_told_or_everybody_but_nobody_tells_itself(parties: list[Party]) -> None:
    one, two, three = parties
    one.notices.tell(channel_of(2), "work", [7, 8])
    one.notices.tell(channel_of(1), "work", [9])
    one.notices.tell(EVERYBODY, "documents:repos", ["a"])
    one.notices.tell(EVERYBODY, "end", None)
    await until(lambda: two.of("end") and three.of("end"), "both to hear all of it")
    two.notices.tell(channel_of(1), "end", None)
    await until(lambda: one.of("end"), "the answer")
    assert two.heard == [
        Notice("work", [7, 8]),
        Notice("documents:repos", ["a"]),
        Notice("end", None),
    ]
    assert three.heard == two.heard[1:]
    assert one.heard == [Notice("end", None)]


@pytest_twisted.ensureDeferred
async def test_notices_come_also_where_a_thousand_files_are_open(postgres: str) -> None:
    with many_files():
        one, two = Party(postgres, 1), Party(postgres, 2)
        try:
            await one.ready()
            await two.ready()
            one.notices.tell(channel_of(2), "work", [7])
            await until(lambda: two.of("work"), "the notice")
        finally:
            await one.notices.close()
            await two.notices.close()


@pytest_twisted.ensureDeferred
async def test_much_is_told_in_pieces_and_in_order(parties: list[Party]) -> None:
    one, two, _ = parties
    rows = list(range(2**62, 2**62 + 3000))
    one.notices.tell(channel_of(2), "work", rows[:2000])
    one.notices.tell(channel_of(2), "work", rows[2000:])
    await until(lambda: len(two.of("work")) == 3000, "all rows")
    assert two.of("work") == rows


@pytest_twisted.ensureDeferred
async def test_one_that_enters_anew_hears_what_is_told_to_its_new_self_alone(parties: list[Party]) -> None:
    one, two, _ = parties
    two.notices.listen_as(20)
    await two.ready()
    one.notices.tell(channel_of(2), "work", [1])
    one.notices.tell(channel_of(20), "work", [2])
    await until(lambda: two.of("work"), "what is told to it")
    assert two.of("work") == [2]


@pytest_twisted.ensureDeferred
async def test_one_that_is_cut_off_says_that_it_may_have_missed_something_and_hears_again(
    parties: list[Party], postgres: str
) -> None:
    one, two, three = parties
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    await until(lambda: one.missed and two.missed and three.missed, "all to be there again")
    assert (one.missed, two.missed, three.missed) == (1, 1, 1)
    one.notices.tell(channel_of(2), "work", [1])
    await until(lambda: two.of("work"), "what is told to it")
    assert two.notices.problem is None


@pytest_twisted.ensureDeferred
async def test_what_is_no_notice_is_passed_over(parties: list[Party], postgres: str) -> None:
    one, two, _ = parties
    with psycopg.connect(postgres, autocommit=True) as connection:
        deep = '["work", null, ' + "[" * 7900
        for text in ("", "{}", "[1]", '["work"]', '["work", {"a": 1}]', '["work", [1.5]]', deep):
            connection.execute("SELECT pg_notify(%s, %s)", (channel_of(2), text))
    one.notices.tell(channel_of(2), "work", [1])
    await until(lambda: two.of("work"), "what is told to it")
    assert two.heard == [Notice("work", [1])]


items = st.lists(st.integers(0, 2**63 - 1) | st.text(max_size=40), max_size=1200)


@given(topic=st.text(max_size=40), told=st.none() | items)
def test_any_notice_fits_into_what_postgresql_takes_and_says_all_or_any(topic: str, told: Any) -> None:
    texts = encoded(Notice(topic, told))
    assert all(len(text.encode()) < 8000 and "\0" not in text for text in texts)
    notices = [msgspec.json.decode(text, type=Notice) for text in texts]
    assert {notice.topic for notice in notices} == {topic}
    if told is None:
        assert [notice.items for notice in notices] == [None]
    else:
        assert [item for notice in notices for item in notice.items or []] == told


def test_a_name_that_does_not_fit_is_told_as_any() -> None:
    assert encoded(Notice("documents:x", ["k" * 9000])) == ['["documents:x",null]']


@pytest_twisted.ensureDeferred
async def test_a_node_behind_a_pool_is_told_nothing_by_itself(postgres_server: PostgresServer, postgres: str) -> None:
    with PostgresFront(f"{postgres_server.directory}/.s.PGSQL.{postgres_server.port}", renames=True) as front:
        here = Party(f"host=127.0.0.1 port={front.port} dbname={database_of(postgres)} user=stackit", 1)
        there = Party(postgres, 2)
        try:
            await here.ready()
            await there.ready()
            here.notices.tell(EVERYBODY, "documents:repos", ["a"])
            await until(lambda: there.of("documents:repos"), "the other to hear it")
            there.notices.tell(EVERYBODY, "end", None)
            await until(lambda: here.of("end"), "the answer")
            assert here.of("documents:repos") == []
        finally:
            await here.notices.close()
            await there.notices.close()
