"""Retention: what is too old or too much goes, in steps, and what somebody still needs stays."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import pytest_twisted
from journal_values import BODY, append_together, new_delivery
from outcomes import outcome
from postgres_journals import open_sole
from waiting import until

from stackit.api.errors import JournalError
from stackit.journal.postgres.journal import PostgresJournal


class Kept:
    """A journal that keeps events for fifty seconds, and its database."""

    def __init__(self, conninfo: str, **settings: Any) -> None:
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        self.conninfo = conninfo
        self.journal: PostgresJournal = open_sole(conninfo, reactor, keep_for=50.0, **settings)
        self.journal.subscribe({"mirror": "mirrors", "notes:deploy": "handlers"})

    def rows(self, question: str) -> list[tuple[Any, ...]]:
        """Return the answer of the database itself."""
        with psycopg.connect(self.conninfo) as connection:
            return connection.execute(question.encode()).fetchall()

    def count(self, table: str) -> int:
        """Return the number of rows of a table."""
        return int(self.rows(f"SELECT count(*) FROM {table}")[0][0])  # noqa: S608 - a constant

    async def prune(self, now: float) -> list[int]:
        """Prune until nothing is left to prune; return how many went at each step."""
        steps = []
        while removed := await self.journal.prune(now):
            steps.append(removed)
        return steps


@pytest_twisted.async_yield_fixture
async def kept(postgres: str) -> AsyncIterator[Kept]:
    made = Kept(postgres)
    yield made
    await made.journal.close()


async def finished(kept: Kept, *deliveries: Any) -> None:
    """Append deliveries in one commit, and finish all their handlings."""
    for appended in await append_together(kept.journal, *deliveries):
        for work in appended.handlings:
            await outcome(kept.journal.finish, work.id, at=101.0)


@pytest_twisted.ensureDeferred
async def test_old_events_go_with_all_that_belongs_to_them(kept: Kept) -> None:
    await finished(kept, *(new_delivery(str(number)) for number in range(40)))
    await finished(kept, *(new_delivery(f"young-{number}", received_at=300.0) for number in range(3)))
    assert await kept.prune(320.0) == [40]
    tables = ("events", "digests", "outcomes", "bundles", "work")
    assert [kept.count(table) for table in tables] == [3, 3, 6, 1, 0]


@pytest_twisted.ensureDeferred
async def test_a_node_whose_clock_is_ahead_has_nothing_go_too_early(kept: Kept) -> None:
    await finished(
        kept, new_delivery("old", received_at=time.time() - 100), new_delivery("young", received_at=time.time())
    )
    assert await kept.prune(time.time() + 366 * 86400) == [1]
    assert kept.rows("SELECT delivery FROM events") == [("young",)]


@pytest_twisted.ensureDeferred
async def test_a_delivery_stamped_far_ahead_keeps_nothing_that_came_after_it(kept: Kept) -> None:
    for ahead in (1e9, 9e11):  # of a clock that was in another year, and in another age
        await finished(kept, new_delivery(f"before-{ahead}"), new_delivery(f"ahead-{ahead}", received_at=ahead))
        await finished(kept, *(new_delivery(f"{ahead}-{number}", subscribers=()) for number in range(600)))
    await finished(kept, new_delivery("young", received_at=300.0), new_delivery("latest", received_at=1e9))
    assert await kept.prune(320.0) == [500, 500, 204]
    assert kept.rows("SELECT delivery FROM events ORDER BY id") == [("young",), ("latest",)]
    # It goes when what came after it does, and never sooner: this one may have been received just now.
    await finished(kept, new_delivery("later", received_at=301.0))
    assert await kept.prune(350.5) == [1]
    assert await kept.prune(352.0) == [2]
    await finished(kept, new_delivery("alone", received_at=1e9))
    assert await kept.prune(400.0) == []


@pytest_twisted.ensureDeferred
async def test_more_events_than_one_step_takes_go_in_steps(kept: Kept) -> None:
    deliveries = [new_delivery(str(number), subscribers=()) for number in range(1200)]
    await append_together(kept.journal, *deliveries)
    assert await kept.prune(1000.0) == [500, 500, 200]


@pytest_twisted.ensureDeferred
async def test_what_is_received_while_a_round_goes_on_stays(kept: Kept) -> None:
    await append_together(kept.journal, *(new_delivery(str(number), subscribers=()) for number in range(1001)))
    assert await kept.journal.prune(1000.0) == 500
    await append_together(kept.journal, new_delivery("young", received_at=990.0, subscribers=()))
    assert await kept.prune(1000.0) == [500, 1]
    assert kept.rows("SELECT delivery FROM events") == [("young",)]


@pytest_twisted.ensureDeferred
async def test_a_round_that_failed_leaves_nothing_to_the_next(postgres: str) -> None:
    patient = Kept(postgres)
    await append_together(patient.journal, *(new_delivery(str(number), subscribers=()) for number in range(1200)))
    await patient.journal.close()
    kept = Kept(postgres, patience=1.0)
    kept.journal.change_retention(keep_for=10_000.0, keep_bytes=0)
    assert await kept.journal.prune(320.0) == 500
    with psycopg.connect(kept.conninfo) as stranger:
        stranger.execute("LOCK TABLE digests IN SHARE MODE")
        with pytest.raises(JournalError):
            await kept.journal.prune(320.0)
        (problem,) = kept.journal.problems()
        assert problem.startswith("the journal cannot be written to the database: ")
    kept.journal.change_retention(keep_for=10_000.0, keep_bytes=2**30)
    await until(lambda: not kept.journal.problems(), "the end of the problem")
    assert await kept.prune(320.0) == []
    assert kept.count("events") == 700
    await kept.journal.close()


@pytest_twisted.ensureDeferred
async def test_an_event_with_a_pending_handling_stays_with_its_body_and_the_others_of_its_bundle_go(kept: Kept) -> None:
    first, pending, last = await append_together(kept.journal, *(new_delivery(each) for each in "abc"))
    for appended in (first, last):
        for work in appended.handlings:
            await outcome(kept.journal.finish, work.id, at=101.0)
    assert await kept.prune(1000.0) == [2]
    stored = await kept.journal.load(pending.id)
    assert stored is not None
    assert (stored.delivery, stored.body) == ("b", BODY + b"b")
    for work in pending.handlings:
        await kept.journal.fail(work.id, at=102.0, error="no", next_at=None)
    assert await kept.prune(1000.0) == [1]
    assert [kept.count(table) for table in ("events", "outcomes", "bundles")] == [0, 0, 0]


@pytest_twisted.ensureDeferred
async def test_a_body_is_recognised_for_as_long_as_an_event_has_it(kept: Kept) -> None:
    await finished(kept, new_delivery("first", body=BODY))
    await finished(kept, new_delivery("second", body=BODY, received_at=300.0))
    await finished(kept, new_delivery("third", body=BODY, received_at=301.0))
    assert await kept.prune(320.0) == [1]
    again = await outcome(kept.journal.append, new_delivery("fourth", body=BODY, received_at=302.0))
    assert again.replay_of == "second"
    assert (await outcome(kept.journal.append, new_delivery("second", body=BODY))).status == "duplicate"
    for work in again.handlings:
        await outcome(kept.journal.finish, work.id, at=303.0)
    assert await kept.prune(1000.0) == [3]
    assert kept.count("digests") == 0
    assert (await outcome(kept.journal.append, new_delivery("fifth", body=BODY))).replay_of is None


@pytest_twisted.ensureDeferred
async def test_the_oldest_go_while_the_journal_is_too_large(kept: Kept) -> None:
    kept.journal.change_retention(keep_for=10_000.0, keep_bytes=200_000)
    blocks = [hashlib.sha256(b"%d" % number).digest() for number in range(32 * 300)]  # nothing that packs well
    bodies = [b"".join(blocks[at : at + 32]) for at in range(0, len(blocks), 32)]
    for at in range(0, 300, 30):
        some = [new_delivery(str(number), body=bodies[number]) for number in range(at, at + 30)]
        await finished(kept, *some)
    removed = sum(await kept.prune(320.0))
    # Each takes its kilobyte, and another for its places in the tables, by our own reckoning.
    assert 150 <= removed <= 270
    left = [int(delivery) for (delivery,) in kept.rows("SELECT delivery FROM events ORDER BY id")]
    assert left == list(range(removed, 300))
    assert await kept.prune(320.0) == []
    ((size,),) = kept.rows("SELECT sum(octet_length(bodies)) FROM bundles")
    assert size <= 200_000
    stored = await kept.journal.load((await kept.journal.listing(limit=1)).deliveries[0].id)
    assert stored is not None
    assert stored.body == bodies[299]


@pytest_twisted.ensureDeferred
async def test_a_known_id_with_another_body_survives_the_first_of_its_name(kept: Kept) -> None:
    await finished(kept, new_delivery("a", body=BODY))
    await finished(kept, new_delivery("a", body=b"another", received_at=300.0))
    assert await kept.prune(320.0) == [1]
    again = await outcome(kept.journal.append, new_delivery("a", body=b"another", received_at=301.0))
    assert again.status == "duplicate"


@pytest_twisted.ensureDeferred
async def test_dead_rows_of_work_are_vacuumed_while_there_is_work(kept: Kept) -> None:
    for at in range(3):
        await finished(kept, *(new_delivery(f"{at}-{number}") for number in range(150)))
    question = "SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 'work'"
    await until(lambda: kept.rows(question)[0][0] > 0, "a vacuum")
