"""Work that one node records and another owns: told or found, in order, and handed on once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from functools import partial
from typing import Any, cast

import psycopg
import pytest
import pytest_twisted
from journal_values import ONE, ZEROS, append_together, new_delivery, together
from outcomes import outcome
from postgres_journals import give, open_node, shards_of
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from waiting import until

from stackit.api.errors import Permanent
from stackit.api.events import RefChange
from stackit.journal import DueHandling, EventId, HandlingId, Shard, StoredEvent
from stackit.journal.postgres.arrivals import Arrivals, Pace
from stackit.journal.postgres.commit import Snapshot
from stackit.journal.postgres.ownership import Ownership, handling_id
from stackit.journal.postgres.reader import Reader

_OFTEN = Pace(new=0.02, old=1.0)


class Hands:
    """One who hands on work: ``works`` are those that were recorded elsewhere."""

    def __init__(self) -> None:
        self.works: list[tuple[DueHandling, StoredEvent]] = []
        self.gains = 0

    def recorded(self, works: Sequence[tuple[DueHandling, StoredEvent]]) -> None:
        self.works += works

    def gained(self) -> None:
        self.gains += 1

    def lost(self, shards: Collection[Shard]) -> None:
        """Take it."""

    async def drain(self, shards: Collection[Shard]) -> None:
        """Take it."""

    @property
    def deliveries(self) -> list[str | None]:
        """The delivery ids of what was recorded, in order."""
        return [stored.delivery for _, stored in self.works]


class Pair:
    """Two nodes: ``one`` receives, ``two`` owns all."""

    def __init__(self, conninfo: str, **settings: Any) -> None:
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        self.conninfo = conninfo
        self.one, self.two = [open_node(conninfo, reactor, name=name, **settings) for name in "ab"]
        self.hands = Hands()
        for journal in (self.one, self.two):
            journal.subscribe({"mirror": "mirrors", "notes:deploy": "handlers"})
            journal.listen(self.hands if journal is self.two else Hands())
        give(conninfo, self.two, [self.one, self.two])

    async def ready(self) -> None:
        """Wait until both listen as who they are."""
        for journal in (self.one, self.two):
            await journal.due_groups("mirror", now=0.0)
            beat: Deferred[object] = Deferred()
            journal.threads()["the journal's notices"].beat(beat.callback)
            await beat

    async def close(self) -> None:
        await self.one.close()
        await self.two.close()


@pytest_twisted.async_yield_fixture
async def pair(postgres: str) -> AsyncIterator[Pair]:
    """Two nodes that look for nothing by themselves: what arrives was told."""
    made = Pair(postgres, pace=Pace(new=3600.0))
    await made.ready()
    yield made
    await made.close()


@pytest_twisted.async_yield_fixture
async def untold(postgres: str) -> AsyncIterator[Pair]:
    """Two nodes that look often, and of which the first does not know whom to tell."""
    made = Pair(postgres, pace=_OFTEN)
    made.one.ownership.owners.clear()
    await made.ready()
    yield made
    await made.close()


@pytest_twisted.ensureDeferred
async def test_what_another_owns_is_told_to_it_with_its_event_and_is_none_of_the_receivers(pair: Pair) -> None:
    appended = await outcome(pair.one.append, new_delivery("a", signer="app:main"))
    assert (appended.status, appended.handlings) == ("new", ())
    assert await pair.one.pending() == {}
    assert await pair.one.due("mirror", 200.0, group="octo/widget", limit=9) == []
    await until(lambda: len(pair.hands.works) == 2, "both handlings")
    for due, stored in pair.hands.works:
        assert stored == await pair.two.load(appended.id)
        assert await pair.two.due(due.subscriber, 200.0, group="octo/widget", limit=9) == [due]
    assert {due.shard for due, _ in pair.hands.works} == set(shards_of("octo/widget"))
    assert await pair.two.pending() == {"mirror": 1, "notes:deploy": 1}


@pytest_twisted.ensureDeferred
async def test_a_notice_of_rows_that_cannot_be_keeps_none_that_are_there(
    pair: Pair, logged_failures: list[Any]
) -> None:
    with psycopg.connect(pair.conninfo, autocommit=True) as connection:
        await outcome(pair.one.append, new_delivery("a"))
        await until(lambda: len(pair.hands.works) == 2, "what is there before")
        notice = '["work", [-9223372036854775809, -1, 0, 9223372036854775808, 99999999999999999999999, "1"]]'
        connection.execute("SELECT pg_notify(%s, %s)", (f"stackit_{pair.two.ownership.me}", notice))
        await outcome(pair.one.append, new_delivery("b"))
        await until(lambda: len(pair.hands.works) == 4, "what is told behind it")
    assert pair.hands.deliveries == ["a", "a", "b", "b"]
    assert logged_failures == []


@pytest_twisted.ensureDeferred
async def test_a_body_that_is_large_or_damaged_is_left_to_be_read_by_itself(pair: Pair) -> None:
    with psycopg.connect(pair.conninfo, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION damage() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN NEW.bodies = 'damaged'; RETURN NEW; END $$"
        )
        await outcome(pair.one.append, new_delivery("large", body=b"x" * 2**19, subscribers=("mirror",)))
        connection.execute("CREATE TRIGGER t BEFORE INSERT ON bundles FOR EACH ROW EXECUTE FUNCTION damage()")
    await outcome(pair.one.append, new_delivery("damaged", subscribers=("mirror",)))
    await until(lambda: len(pair.hands.works) == 2, "both of them")
    assert pair.hands.deliveries == ["large", "damaged"]
    assert [stored.body for _, stored in pair.hands.works] == [None, None]
    large = await pair.two.load(pair.hands.works[0][0].event_id)
    assert large is not None
    assert large.body == b"x" * 2**19
    with pytest.raises(Permanent):
        await pair.two.load(pair.hands.works[1][0].event_id)


@pytest_twisted.ensureDeferred
async def test_events_that_are_loaded_at_once_are_read_together_and_large_ones_by_themselves(pair: Pair) -> None:
    appended = await append_together(
        pair.one,
        *(new_delivery(str(number), body=b"%d" % number, subscribers=("mirror",)) for number in range(100)),
        *(new_delivery(f"large {number}", body=b"%d" % number * 2**19, subscribers=("mirror",)) for number in range(3)),
    )
    await until(lambda: len(pair.hands.works) == 103, "all of them")
    with psycopg.connect(pair.conninfo) as connection:
        connection.execute("UPDATE bundles SET bodies = 'damaged' WHERE first = %s", (int(appended[-1].id),))
    steps = pair.two._reader.steps
    asked = [pair.two.load(each) for each in (*(each.id for each in appended), EventId("999"), EventId("none"))]
    results = [result for _, result in await together(*asked)]
    *stored, damaged, unknown, no_id = results
    assert [each.delivery for each in stored] == [*map(str, range(100)), "large 0", "large 1"]
    assert [each.body for each in stored] == [
        *(b"%d" % number for number in range(100)),
        *(b"%d" % number * 2**19 for number in range(2)),
    ]
    assert damaged.check(Permanent)
    assert (unknown, no_id) == (None, None)
    assert pair.two._reader.steps <= steps + 10


@pytest_twisted.ensureDeferred
async def test_what_ends_while_the_next_one_is_read_is_not_before_it() -> None:
    questions: list[Deferred[Any]] = []

    class Slow:
        """A reader that answers when it is told to."""

        def ask(self, _question: object) -> Deferred[Any]:
            questions.append(Deferred())
            return questions[-1]

    ownership = Ownership(1, 256)
    ownership.epochs[Shard(0)] = 1
    arrivals = Arrivals(
        reader=cast("Reader", Slow()),
        ownership=ownership,
        snapshot=lambda: Snapshot(1, ownership.working(), {}, 256),
        reactor=Clock(),
        now=lambda: 100.0,
        settle=lambda _done: None,
        pace=Pace(),
    )
    arrivals.listener = hands = Hands()
    first, second, third = (handling_id(row << 12 | 1, 1) for row in (1, 2, 3))
    due = DueHandling(third, EventId("3"), "mirror", "octo/widget", 0, 1, Shard(0), (first, second))
    stored = StoredEvent(
        id=EventId("3"),
        kind="delivery",
        hook="github",
        delivery="c",
        event="push",
        action=None,
        repo="octo/widget",
        received_at=100.0,
        signer="",
        via="webhook",
        body=b"{}",
    )
    arrivals.add([3 << 12 | 1])
    arrivals.ended(first)
    questions.pop().callback([(due, stored)])
    assert [each.earlier for each, _ in hands.works] == [(second,)]
    await arrivals.stop()


@pytest_twisted.ensureDeferred
async def test_very_much_is_handed_on_piece_by_piece(pair: Pair) -> None:
    appended = await append_together(
        pair.one, *(new_delivery(str(number), subscribers=("mirror",), repo=None) for number in range(500))
    )
    await until(lambda: len(pair.hands.works) == 500, "all of it")
    handed = [(due.event_id, stored.delivery) for due, stored in pair.hands.works]
    assert sorted(handed) == sorted((each.id, str(number)) for number, each in enumerate(appended))


@pytest_twisted.ensureDeferred
async def test_what_is_told_names_what_has_to_be_handled_first(pair: Pair) -> None:
    for number in range(3):
        await outcome(pair.one.append, new_delivery(str(number), subscribers=("mirror",)))
    await outcome(pair.one.append, new_delivery("other", subscribers=("mirror",), repo="octo/other"))
    await until(lambda: len(pair.hands.works) == 4, "all of it")
    ids = [due.id for due, _ in pair.hands.works]
    assert [due.earlier for due, _ in pair.hands.works] == [(), (ids[0],), (ids[0], ids[1]), ()]
    await outcome(pair.two.finish, ids[0], at=101.0)
    await outcome(pair.one.append, new_delivery("later", subscribers=("mirror",)))
    await until(lambda: len(pair.hands.works) == 5, "the last one")
    assert pair.hands.works[-1][0].earlier == (ids[1], ids[2])


@pytest_twisted.ensureDeferred
async def test_an_event_of_a_receiver_whose_clock_is_ahead_is_not_passed_over_by_a_later_one(pair: Pair) -> None:
    pair.two._arrivals._now = lambda: 100.0
    for delivery, received_at in (("ahead", 105.0), ("behind", 99.0)):
        await outcome(pair.one.append, new_delivery(delivery, received_at=received_at, subscribers=("mirror",)))
    await until(lambda: len(pair.hands.works) == 2, "both of them")
    (first, _), (second, _) = pair.hands.works
    assert second.earlier == (first.id,)
    found = await pair.two.due("mirror", 100.0, group="octo/widget", limit=9)
    assert [each.id for each in found] == [first.id, second.id]
    own = await outcome(pair.two.append, new_delivery("own", received_at=98.0, subscribers=("mirror",)))
    assert own.handlings[0].earlier == (first.id, second.id)
    change = RefChange("refs/heads/main", ZEROS, ONE, "created")
    announced = await pair.two.announce("octo/widget", [change], "push", None, 98.0, ["mirror"])
    assert announced.handlings[0].earlier == (first.id, second.id, own.handlings[0].id)
    (replayed,) = await pair.two.replay(own.id, None, now=98.0)
    assert replayed.earlier == (first.id, second.id)


@pytest_twisted.ensureDeferred
async def test_a_replay_at_another_node_is_told(pair: Pair) -> None:
    appended = await outcome(pair.one.append, new_delivery("a", subscribers=("mirror",)))
    await until(lambda: pair.hands.works, "the first time")
    await outcome(pair.two.finish, pair.hands.works[0][0].id, at=101.0)
    assert await pair.one.replay(appended.id, None, now=102.0) == []
    await until(lambda: len(pair.hands.works) == 2, "the second time")
    assert pair.hands.works[0] == pair.hands.works[1]


@pytest_twisted.ensureDeferred
async def test_nothing_is_handed_on_of_a_shard_that_is_being_given_away_or_lost(pair: Pair) -> None:
    leaving, lost = shards_of("octo/leaving")[1], shards_of("octo/lost")[1]
    assert leaving != lost
    pair.two.ownership.leaving.add(leaving)
    pair.two.ownership.lose([lost])
    for repo in ("octo/leaving", "octo/lost", "octo/widget"):
        await outcome(pair.one.append, new_delivery(repo, repo=repo, subscribers=("mirror",)))
    await until(lambda: pair.hands.works, "what is its own")
    assert pair.hands.deliveries == ["octo/widget"]
    assert await pair.two.pending() == {"mirror": 1}


@pytest_twisted.ensureDeferred
async def test_what_nobody_told_of_is_found(untold: Pair) -> None:
    for number in range(3):
        await outcome(untold.one.append, new_delivery(str(number), subscribers=("mirror",)))
    await until(lambda: len(untold.hands.works) == 3, "what was not told")
    assert untold.hands.deliveries == ["0", "1", "2"]


@pytest_twisted.ensureDeferred
async def test_a_replay_that_nobody_told_of_is_found(untold: Pair) -> None:
    import time  # noqa: PLC0415

    appended = await outcome(untold.one.append, new_delivery("a", subscribers=("mirror",)))
    await until(lambda: untold.hands.works, "the first time")
    await outcome(untold.two.finish, untold.hands.works[0][0].id, at=101.0)
    gains = untold.hands.gains
    looked = [0.0]

    def turned() -> bool:
        latest = untold.two._arrivals._behind or 0
        looked.append(latest)
        return latest > untold.hands.works[0][0].id & 2**63 - 1

    await until(turned, "its id to be an old one")
    await untold.one.replay(appended.id, None, now=time.time())
    await until(lambda: untold.hands.gains > gains, "the look")


@pytest_twisted.ensureDeferred
async def test_each_is_handed_on_once_whoever_finds_it_and_however_fast_it_is_done(untold: Pair) -> None:
    """Half is told and half is found, while all of it ends at once and the looks go on."""
    untold.one.ownership.owners = dict(untold.two.ownership.owners)
    begun: list[HandlingId] = []

    def ended(handling: HandlingId, _: object) -> None:
        running.discard(handling)

    def handle(works: Sequence[tuple[DueHandling, StoredEvent]]) -> None:
        for due, _ in works:
            if due.id not in running:
                begun.append(due.id)
                running.add(due.id)
                untold.two.finish(due.id, partial(ended, due.id), at=101.0)

    running: set[HandlingId] = set()
    untold.hands.recorded = handle  # type: ignore[method-assign]
    for number in range(300):
        if number == 150:
            untold.one.ownership.owners.clear()
        await outcome(untold.one.append, new_delivery(str(number), subscribers=("mirror",), repo=f"octo/{number % 7}"))
    await until(lambda: len(begun) >= 300 and not running, "all of it")
    await untold.two.pending()
    assert len(begun) == len(set(begun)) == 300


@pytest_twisted.ensureDeferred
async def test_documents_that_another_node_changes_are_told_to_those_who_watch(pair: Pair) -> None:
    seen: dict[str, list[Any]] = {"one": [], "two": [], "other": []}
    pair.one.watch("repos", seen["one"].append)
    pair.two.watch("repos", seen["two"].append)
    pair.two.watch("marks", seen["other"].append)
    await pair.one.put("repos", {"a": b"1", "b": None, "\ud800": b"odd"})
    await until(lambda: seen["two"], "the notice")
    assert seen == {"one": [], "two": [frozenset({"a", "b", "\\ud800"})], "other": []}
    assert await pair.two.documents("repos", ["a", "missing"]) == {"a": b"1"}


@pytest_twisted.ensureDeferred
async def test_one_that_is_cut_off_looks_for_what_it_missed(pair: Pair) -> None:
    seen: list[Any] = []
    pair.two.watch("repos", seen.append)
    with psycopg.connect(pair.conninfo, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    appended = await outcome(pair.one.append, new_delivery("a", subscribers=("mirror",)))
    assert appended.status == "new"
    await until(lambda: seen and pair.hands.works, "all of it")
    assert seen[0] is None
    assert pair.hands.deliveries[0] == "a"
    assert await pair.two.pending() == {"mirror": 1}


@pytest_twisted.ensureDeferred
async def test_what_a_node_does_with_work_that_it_has_lost_changes_nothing(pair: Pair) -> None:
    await outcome(pair.one.append, new_delivery("a"))
    await until(lambda: len(pair.hands.works) == 2, "both handlings")
    (first, _), (second, _) = pair.hands.works
    give(pair.conninfo, pair.one, [pair.one, pair.two])
    await outcome(pair.two.finish, first.id, at=101.0)
    await pair.two.fail(second.id, at=101.0, error="late", next_at=None)
    for late in (first, second):
        (due,) = await pair.one.due(late.subscriber, 200.0, group="octo/widget", limit=9)
        assert (due.event_id, due.attempts, due.id != late.id) == (late.event_id, 0, True)
    assert await pair.two.due_groups("mirror", now=200.0) == []
    assert (await pair.two.pending(), await pair.two.dead()) == ({}, {})


@pytest_twisted.ensureDeferred
async def test_work_goes_to_where_its_subscriber_is_now(pair: Pair) -> None:
    handlers, mirrors = shards_of("octo/widget")
    give(pair.conninfo, pair.one, [pair.one, pair.two], [handlers])
    appended = await outcome(pair.one.append, new_delivery("a", subscribers=("notes:deploy",)))
    await outcome(pair.one.append, new_delivery("b", subscribers=("mirror", "other")))
    assert [each.shard for each in appended.handlings] == [handlers]
    await until(lambda: pair.hands.works, "what is the mirror's")
    # Another release: the handler needs the mirror.
    pair.one.subscribe({"notes:deploy": "mirrors"})
    await until(lambda: len(pair.hands.works) == 2, "what is the mirror's now")
    moved, _ = pair.hands.works[1]
    assert (moved.subscriber, moved.event_id, moved.shard) == ("notes:deploy", appended.id, mirrors)
    assert await pair.one.pending() == {"other": 1}
    assert await pair.two.pending() == {"mirror": 1, "notes:deploy": 1}
    await outcome(pair.one.finish, appended.handlings[0].id, at=101.0)
    assert await pair.two.pending() == {"mirror": 1, "notes:deploy": 1}
