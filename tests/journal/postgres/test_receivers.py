"""Several receivers on one database: each delivery and each body once, in order, and only the owner's word counts."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import psycopg
import pytest
import pytest_twisted
from journal_values import BODY, ONE, TWO, ZEROS, append_together, new_delivery, together
from outcomes import outcome
from postgres_journals import give, open_node, shards_of
from twisted.internet.defer import Deferred
from waiting import until

from stackit.api.errors import JournalError
from stackit.api.events import RefChange
from stackit.journal import AppendResult, NewDelivery
from stackit.journal.postgres import bodies
from stackit.journal.postgres.journal import PostgresJournal
from stackit.journal.postgres.ownership import LEADER

ROUNDS = 20
_WAITING = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest_twisted.async_yield_fixture
async def receivers(postgres: str) -> AsyncIterator[list[PostgresJournal]]:
    """Three nodes, the first of which owns everything."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    opened = [open_node(postgres, reactor, name=name) for name in "abc"]
    for journal in opened:
        journal.subscribe({"mirror": "mirrors", "notes:deploy": "handlers"})
    give(postgres, opened[0], opened)
    yield opened
    for journal in opened:
        await journal.close()


async def at_all(receivers: Sequence[PostgresJournal], deliveries: Sequence[NewDelivery]) -> list[list[AppendResult]]:
    """Append each delivery at every receiver at once; return the results of each delivery."""
    asked = [outcome(journal.append, each) for each in deliveries for journal in receivers]
    results = [result for _, result in await together(*asked)]
    return [results[at : at + len(receivers)] for at in range(0, len(results), len(receivers))]


def rows(conninfo: str, question: str) -> list[tuple[Any, ...]]:
    """Return the answer of the database itself."""
    with psycopg.connect(conninfo) as connection:
        return connection.execute(question.encode()).fetchall()


@pytest_twisted.ensureDeferred
async def test_one_id_at_three_receivers_at_once_is_one_event(receivers: list[PostgresJournal], postgres: str) -> None:
    for turn in range(ROUNDS):
        deliveries = [new_delivery(f"{turn}-{number}") for number in range(5)]
        for results in await at_all(receivers, deliveries):
            assert sorted(each.status for each in results) == ["duplicate", "duplicate", "new"]
            assert len({each.id for each in results}) == 1
    assert rows(postgres, "SELECT count(*) FROM events") == [(ROUNDS * 5,)]
    assert rows(postgres, "SELECT count(*) FROM work") == [(ROUNDS * 5 * 2,)]


@pytest_twisted.ensureDeferred
async def test_one_id_with_any_number_of_bodies_takes_no_longer_each_time_and_knows_them_all(
    receivers: list[PostgresJournal], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[int] = []
    load = bodies.load

    def counted(event: int, place: int | None, bundled: bytes | None) -> bytes | None:
        loads.append(event)
        return load(event, place, bundled)

    monkeypatch.setattr(bodies, "load", counted)
    deliveries = [new_delivery("a", body=b"%03d" % number) for number in range(40)]
    results = [await outcome(receivers[number % 2].append, each) for number, each in enumerate(deliveries)]
    assert [each.status for each in results] == ["new"] * 40
    assert [each.reused for each in results] == [False] + [True] * 39
    assert len(loads) <= 40 * 8
    again = [await outcome(receivers[2].append, each) for each in deliveries]
    assert [(each.status, each.id) for each in again] == [("duplicate", each.id) for each in results]
    echo = await outcome(receivers[2].append, msgspec.structs.replace(deliveries[0], delivery="b"))
    assert (echo.status, echo.replay_of) == ("new", "a")
    assert (await outcome(receivers[0].append, msgspec.structs.replace(deliveries[0], delivery="b"))).id == echo.id


@pytest_twisted.ensureDeferred
async def test_ids_that_come_crosswise_at_receivers_are_each_recorded_once(
    receivers: list[PostgresJournal], postgres: str
) -> None:
    for turn in range(ROUNDS):
        # Other digests, as of two hooks with a secret each, so that only the ids meet.
        one = [new_delivery(f"{turn}-{number}", digest=b"1 %d %d" % (turn, number)) for number in range(40)]
        other = [msgspec.structs.replace(each, digest=b"2" + each.digest[1:]) for each in reversed(one)]
        asked = [outcome(receivers[0].append, each) for each in one]
        asked += [outcome(receivers[1].append, each) for each in other]
        results = [result for _, result in await together(*asked)]
        assert sorted(each.status for each in results) == ["duplicate"] * 40 + ["new"] * 40
    assert rows(postgres, "SELECT count(*) FROM events") == [(ROUNDS * 40,)]
    assert rows(postgres, "SELECT count(*) FROM digests") == [(ROUNDS * 40,)]


@pytest_twisted.ensureDeferred
async def test_one_body_under_three_ids_at_once_is_handled_once_where_replays_are_refused(
    receivers: list[PostgresJournal], postgres: str
) -> None:
    for turn in range(ROUNDS):
        deliveries = [
            new_delivery(f"{turn}-{number}", body=BODY + b"%d" % turn, refuse_replay=True) for number in range(3)
        ]
        asked = [outcome(journal.append, each) for journal, each in zip(receivers, deliveries, strict=True)]
        results = [result for _, result in await together(*asked)]
        first = next(number for number, each in enumerate(results) if each.replay_of is None)
        assert [each.replay_of for number, each in enumerate(results) if number != first] == [f"{turn}-{first}"] * 2
        assert {each.status for each in results} == {"new"}
    assert rows(postgres, "SELECT count(*) FROM work") == [(ROUNDS * 2,)]


@pytest_twisted.ensureDeferred
async def test_another_body_under_a_known_id_at_three_receivers_is_one_more_event(
    receivers: list[PostgresJournal], postgres: str
) -> None:
    for turn in range(ROUNDS):
        await outcome(receivers[turn % 3].append, new_delivery(f"{turn}"))
        (results,) = await at_all(receivers, [new_delivery(f"{turn}", body=b"another %d" % turn)])
        assert sorted((each.status, each.reused) for each in results) == [
            ("duplicate", False),
            ("duplicate", False),
            ("new", True),
        ]
    assert rows(postgres, "SELECT count(*) FROM events") == [(ROUNDS * 2,)]


@pytest_twisted.ensureDeferred
async def test_a_receiver_gets_the_handlings_of_its_own_shards_with_what_is_pending_before_them(
    receivers: list[PostgresJournal], postgres: str
) -> None:
    owner, other, _ = receivers
    through_other = await outcome(other.append, new_delivery("a"))
    assert (through_other.status, through_other.handlings) == ("new", ())
    through_owner = await outcome(owner.append, new_delivery("b"))
    before = {work.subscriber: work.id for work in await owner_due(owner, "a")}
    assert {work.subscriber: work.earlier for work in through_owner.handlings} == {
        subscriber: (id_,) for subscriber, id_ in before.items()
    }
    # What waits for a retry is not before it: that goes on when its time has come.
    for id_ in before.values():
        await owner.fail(id_, at=101.0, error="no", next_at=9e9)
    later = await outcome(owner.append, new_delivery("c", received_at=102.0))
    assert [work.earlier for work in later.handlings] == [(work.id,) for work in through_owner.handlings]
    # One in another repository has nothing before it.
    elsewhere = await outcome(owner.append, new_delivery("d", repo="octo/elsewhere"))
    assert [work.earlier for work in elsewhere.handlings] == [(), ()]
    give(postgres, other, receivers, shards_of("octo/elsewhere"))
    assert (await outcome(owner.append, new_delivery("e", repo="octo/elsewhere"))).handlings == ()
    assert len((await outcome(other.append, new_delivery("f", repo="octo/elsewhere"))).handlings) == 2


@pytest.mark.parametrize("ends_first", [True, False])
@pytest_twisted.ensureDeferred
async def test_what_ends_with_the_commit_that_brings_the_next_one_is_not_before_it(
    receivers: list[PostgresJournal], ends_first: bool
) -> None:
    owner = receivers[0]
    (work,) = (await outcome(owner.append, new_delivery("a", subscribers=("mirror",)))).handlings
    commits = owner._writer.commits
    asked = [
        lambda: outcome(owner.finish, work.id, at=101.0),
        lambda: outcome(owner.append, new_delivery("b", subscribers=("mirror",))),
    ]
    results = await together(*(each() for each in (asked if ends_first else reversed(asked))))
    assert owner._writer.commits == commits + 1
    (appended,) = [result for _, result in results if isinstance(result, AppendResult)]
    assert [each.earlier for each in appended.handlings] == [()]


@pytest_twisted.ensureDeferred
async def test_each_receiver_counts_what_is_pending_here_and_what_is_elsewhere(
    receivers: list[PostgresJournal], postgres: str
) -> None:
    _, other, third = receivers
    give(postgres, other, receivers, shards_of("octo/elsewhere"))
    await outcome(third.append, new_delivery("a"))
    await outcome(third.append, new_delivery("b", repo="octo/elsewhere"))
    await outcome(third.append, new_delivery("c", repo="octo/elsewhere"))
    one, two, all_three = ({"mirror": number, "notes:deploy": number} for number in (1, 2, 3))
    assert [await each.pending() for each in receivers] == [one, two, {}]
    assert [await each.pending_elsewhere() for each in receivers] == [two, one, all_three]
    # Also what is nobody's, as that of a node that just died.
    with psycopg.connect(postgres) as connection:
        connection.execute("UPDATE shards SET owner = NULL")
    assert await third.pending_elsewhere() == all_three


async def owner_due(owner: PostgresJournal, delivery: str) -> list[Any]:
    """Return the pending handlings of a delivery."""
    found = []
    for subscriber in ("mirror", "notes:deploy"):
        for work in await owner.due(subscriber, 200.0, group="octo/widget", limit=9):
            stored = await owner.load(work.event_id)
            assert stored is not None
            if stored.delivery == delivery:
                found.append(work)
    return found


@pytest_twisted.ensureDeferred
async def test_an_outcome_of_one_who_has_lost_the_shard_changes_nothing(
    receivers: list[PostgresJournal], postgres: str
) -> None:
    late, heir, _ = receivers
    appended = await outcome(late.append, new_delivery("a"))
    mirror, notes = appended.handlings
    give(postgres, heir, receivers)
    assert await outcome(late.finish, mirror.id, at=101.0) is None
    await late.fail(notes.id, at=101.0, error="too late", next_at=None)
    await late.fail(notes.id, at=101.0, error="too late", next_at=200.0)
    assert await heir.pending() == {"mirror": 1, "notes:deploy": 1}
    (taken_up,) = await heir.due("mirror", 200.0, group="octo/widget", limit=9)
    assert (taken_up.attempts, taken_up.id != mirror.id) == (0, True)
    # Also when the shard comes back: the word of an earlier epoch counts no more.
    give(postgres, late, receivers)
    await outcome(late.finish, mirror.id, at=102.0)
    assert await late.pending() == {"mirror": 1, "notes:deploy": 1}
    (again,) = await late.due("mirror", 200.0, group="octo/widget", limit=9)
    await outcome(late.finish, again.id, at=103.0)
    assert await late.pending() == {"notes:deploy": 1}


@pytest_twisted.ensureDeferred
async def test_only_the_home_of_a_mirror_announces(receivers: list[PostgresJournal]) -> None:
    home, other, _ = receivers
    created = (RefChange("refs/heads/main", ZEROS, ONE, "created"),)
    moved = (RefChange("refs/heads/main", ONE, TWO, "updated"),)
    await home.announce("Octo/Widget", created, "push", None, 100.0, ["notes:deploy"])
    with pytest.raises(JournalError, match="Octo/Widget is another node's"):
        await other.announce("Octo/Widget", moved, "push", None, 101.0, ["notes:deploy"])
    assert await other.announced("octo/widget") == {"refs/heads/main": ONE}
    assert await home.pending() == {"notes:deploy": 1}
    assert other.problems() == []


@pytest_twisted.ensureDeferred
async def test_announcements_of_one_commit_succeed_and_fail_each_by_itself(
    receivers: list[PostgresJournal], postgres: str
) -> None:
    home, other, _ = receivers
    give(postgres, other, receivers, shards_of("octo/elsewhere"))
    created = (RefChange("refs/heads/main", ZEROS, ONE, "created"),)
    answers = await together(
        *(home.announce(repo, created, "push", None, 100.0, ()) for repo in ("octo/a", "octo/elsewhere", "octo/b"))
    )
    assert [succeeded for succeeded, _ in answers] == [True, False, True]
    assert [await home.announced(repo) for repo in ("octo/a", "octo/elsewhere", "octo/b")] == [
        {"refs/heads/main": ONE},
        {},
        {"refs/heads/main": ONE},
    ]


@pytest_twisted.ensureDeferred
async def test_an_event_that_is_replayed_is_not_pruned_by_another_node(
    receivers: list[PostgresJournal], postgres: str
) -> None:
    replayer, pruner, _ = receivers
    pruner.change_retention(keep_for=50.0, keep_bytes=2**30)
    appended = await outcome(replayer.append, new_delivery("a"))
    for work in appended.handlings:
        await outcome(replayer.finish, work.id, at=101.0)
    number = int(appended.id)
    with psycopg.connect(postgres) as held:  # a replay that is not through: it has the event, and its row of work
        held.execute("SELECT FROM events WHERE id = %s FOR NO KEY UPDATE", (number,))
        held.execute(
            "INSERT INTO work (id, repo_key, space, shard, next_at) VALUES (%s, '', 'e', 0, 0)", (number * 4096 + 9,)
        )
        assert await pruner.prune(1000.0) == 0
    assert await pruner.prune(1000.0) == 0
    assert await pruner.receipt(appended.id) is not None
    assert len(rows(postgres, "DELETE FROM work RETURNING id")) == 1
    assert await pruner.prune(1000.0) == 1
    with pytest.raises(LookupError):
        await replayer.replay(appended.id, None, now=200.0)


@pytest_twisted.ensureDeferred
async def test_a_node_that_leads_no_more_changes_no_repository(receivers: list[PostgresJournal], postgres: str) -> None:
    one, two, _ = receivers
    changes = [RefChange("refs/heads/main", ZEROS, ONE, "created")]
    await one.announce("octo/widget", changes, "start", None, 1.0, [])
    await one.rename([], "repos", {"github:7": b"first"})
    give(postgres, two, receivers, [LEADER])
    with pytest.raises(JournalError, match="another node leads the fleet by now: nothing was changed"):
        await one.rename([("octo/widget", "octo/gadget")], "repos", {"github:7": b"late"})
    assert one.problems() == []
    assert await two.documents("repos") == {"github:7": b"first"}
    assert await two.announced("octo/widget") == {"refs/heads/main": ONE}
    await two.rename([("octo/widget", "octo/gadget")], "repos", {"github:7": b"second"})
    assert await one.documents("repos") == {"github:7": b"second"}
    assert await one.announced("octo/gadget") == {"refs/heads/main": ONE}


@pytest_twisted.ensureDeferred
async def test_a_replay_waits_for_one_who_prunes_the_event(receivers: list[PostgresJournal], postgres: str) -> None:
    appended = await outcome(receivers[0].append, new_delivery("a"))
    await receivers[0].fail(appended.handlings[0].id, at=101.0, error="no", next_at=None)
    with psycopg.connect(postgres) as pruner:
        pruner.execute("DELETE FROM events WHERE id = %s", (int(appended.id),))
        replayed = Deferred.fromCoroutine(receivers[1].replay(appended.id, None, now=200.0))
        dead = Deferred.fromCoroutine(receivers[2].replay_dead(appended.handlings[0].subscriber, now=200.0))
        await until(lambda: len(rows(postgres, _WAITING)) == 2, "two that wait for the lock")
    with pytest.raises(LookupError):
        await replayed
    assert await dead == []
    assert rows(postgres, "SELECT count(*) FROM work") == [(1,)]


@pytest_twisted.ensureDeferred
async def test_no_delivery_waits_while_thousands_of_refs_are_announced(
    receivers: list[PostgresJournal], postgres: str
) -> None:
    home = receivers[0]
    changes = tuple(RefChange(f"refs/tags/{number}", ZEROS, ONE, "created") for number in range(3000))
    with psycopg.connect(postgres) as held:
        held.execute("LOCK TABLE refs IN EXCLUSIVE MODE")
        announced = Deferred.fromCoroutine(home.announce("octo/a", changes, "push", None, 100.0, ["mirror"]))
        assert (await outcome(home.append, new_delivery("a"))).status == "new"
        assert not announced.called
    (work,) = (await announced).handlings
    assert len(await home.announced("octo/a")) == 3000
    assert [each.id for each in await home.due("mirror", 200.0, group="octo/a", limit=9)] == [work.id]


@pytest_twisted.ensureDeferred
async def test_a_ref_may_have_a_name_that_no_index_takes(receivers: list[PostgresJournal]) -> None:
    home = receivers[0]
    name = "refs/heads/" + "/".join(hashlib.sha256(b"%d" % number).hexdigest() for number in range(120))
    await home.announce("octo/a", (RefChange(name, ZEROS, ONE, "created"),), "push", None, 100.0, ())
    await home.announce("octo/a", (RefChange(name, ONE, TWO, "updated"),), "push", None, 101.0, ())
    assert await home.announced("octo/a") == {name: TWO}
    await home.announce("octo/a", (RefChange(name, TWO, ZEROS, "deleted"),), "push", None, 102.0, ())
    assert await home.announced("octo/a") == {}


@pytest_twisted.ensureDeferred
async def test_what_the_database_cannot_hold_is_refused_at_once_and_holds_nobody_up(
    receivers: list[PostgresJournal],
) -> None:
    long = "".join(hashlib.sha256(b"%d" % number).hexdigest() for number in range(120))
    answers = await together(
        outcome(receivers[0].append, new_delivery("a")),
        outcome(receivers[0].append, new_delivery(long)),
        receivers[0].put(long, {long: b"document"}),
        outcome(receivers[0].append, new_delivery("b")),
    )
    assert [succeeded for succeeded, _ in answers] == [True, False, False, True]
    for _, failure in answers[1:3]:
        line = str(failure.value)
        assert line.startswith("the journal refused a record: index row")
        assert long[:20] not in line
    assert receivers[0].problems() == []


@pytest_twisted.ensureDeferred
async def test_an_hour_that_is_delivered_again_is_told_apart_at_once(
    receivers: list[PostgresJournal], postgres: str
) -> None:
    owner, other, _ = receivers
    wanted = [new_delivery(f"wanted-{number}") for number in range(300)]
    unwanted = [new_delivery(f"unwanted-{number}", subscribers=()) for number in range(20)]
    failed = [new_delivery(f"failed-{number}", subscribers=("mirror",)) for number in range(4)]
    first = await append_together(owner, *wanted, *unwanted, *failed)
    for number, appended in enumerate(first[-4:]):
        await owner.fail(appended.handlings[0].id, at=101.0, error="no", next_at=None if number % 2 else 9e9)
    before = rows(postgres, "SELECT count(*) FROM events")
    again = await append_together(other, *wanted, *unwanted, *failed, new_delivery("new"))
    assert [each.id for each in again[:-1]] == [each.id for each in first]
    assert [each.status for each in again] == ["duplicate"] * 320 + ["again"] * 4 + ["new"]
    assert rows(postgres, "SELECT count(*) FROM events") == [(before[0][0] + 1,)]
    # One that somebody wants now is no duplicate, and one from another hook or with another body is another one.
    later = await append_together(
        other,
        msgspec.structs.replace(unwanted[0], subscribers=("mirror",)),
        msgspec.structs.replace(wanted[0], hook="8"),
        msgspec.structs.replace(wanted[1], body=b"another", digest=b"another"),
        msgspec.structs.replace(wanted[2], via="api", digest=b"as the API has it"),
    )
    assert [each.status for each in later] == ["again", "new", "new", "duplicate"]


@pytest_twisted.ensureDeferred
async def test_any_node_gives_up_an_event_and_its_owner_has_no_say_in_it(receivers: list[PostgresJournal]) -> None:
    owner, other, _ = receivers
    appended = await outcome(owner.append, new_delivery("a"))
    notes = next(each for each in appended.handlings if each.subscriber == "notes:deploy")
    assert await other.give_up(appended.id, "notes:deploy", at=101.0, error="it ended the process")
    await outcome(owner.finish, notes.id, at=102.0)
    await owner.fail(notes.id, at=103.0, error="no", next_at=200.0)
    receipt = await other.receipt(appended.id)
    assert receipt is not None
    states = {each.subscriber: (each.state, each.error) for each in receipt.handlings}
    assert states["notes:deploy"] == ("dead", "it ended the process")
    (replayed,) = await owner.replay(appended.id, ["notes:deploy"], now=300.0)
    await outcome(owner.finish, replayed.id, at=301.0)
    receipt = await other.receipt(appended.id)
    assert receipt is not None
    assert {each.state for each in receipt.handlings if each.subscriber == "notes:deploy"} == {"done"}
