"""Bodies on disk: compressed, together, pruned, and never taken for whole when damaged."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from journal_values import BODY, append_together, new_delivery
from outcomes import outcome

from stackit.api.errors import Permanent
from stackit.journal.sqlite import SQLiteJournal, bodies


def rows(tmp_path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(tmp_path / "state" / "journal.sqlite3")) as connection:
        return connection.execute(query).fetchall()


@pytest_twisted.ensureDeferred
async def test_a_body_takes_a_fraction_of_its_size(journal: SQLiteJournal, tmp_path: Path) -> None:
    body = json.dumps(
        [{"url": f"https://api.github.com/repos/octo/widget/{number}"} for number in range(2000)]
    ).encode()
    appended = await outcome(journal.append, new_delivery("a", body=body))
    with sqlite3.connect(tmp_path / "state" / "journal.sqlite3") as connection:
        ((length,),) = connection.execute("SELECT LENGTH(body) FROM bodies").fetchall()
    connection.close()
    assert length < len(body) / 4
    stored = await journal.load(appended.id)
    assert stored is not None
    assert stored.body == body


@pytest_twisted.ensureDeferred
async def test_one_id_with_any_number_of_bodies_takes_no_longer_each_time_and_knows_them_all(
    journal: SQLiteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[int] = []
    load = bodies.load

    def counted(event: int, *stored: Any) -> bytes | None:
        loads.append(event)
        return load(event, *stored)

    monkeypatch.setattr(bodies, "load", counted)
    deliveries = [new_delivery("a", body=b"%03d" % number) for number in range(40)]
    results = [await outcome(journal.append, each) for each in deliveries]
    assert [each.status for each in results] == ["new"] * 40
    assert len(loads) <= 40 * 8
    again = [await outcome(journal.append, each) for each in deliveries]
    assert [(each.status, each.id) for each in again] == [("duplicate", each.id) for each in results]


@pytest_twisted.ensureDeferred
async def test_a_damaged_body_is_never_taken_for_one(journal: SQLiteJournal, tmp_path: Path) -> None:
    body = os.urandom(20_000).hex().encode()
    appended = await outcome(journal.append, new_delivery("a", body=body))
    for at in (10, 5_000, -1):

        def damaged(stored: bytes, at: int = at) -> bytes:
            return stored[:at] + bytes([stored[at] ^ 1]) + (stored[at + 1 :] if at != -1 else b"")

        change(tmp_path, damaged)
        with pytest.raises(Permanent, match=f"the body of delivery {appended.id} is damaged"):
            await journal.load(appended.id)
        change(tmp_path, damaged)
    assert await journal.load(appended.id) is not None


@pytest_twisted.ensureDeferred
async def test_bodies_of_one_commit_that_say_the_same_take_hardly_more_than_one(
    journal: SQLiteJournal, tmp_path: Path
) -> None:
    same = os.urandom(4_000).hex().encode()
    bodies = [b"%s%d" % (same, number) for number in range(7)]
    arrived = await append_together(
        journal, *(new_delivery(str(number), body=body) for number, body in enumerate(bodies))
    )
    ((length,),) = rows(tmp_path, "SELECT LENGTH(bodies) FROM bundles")
    assert length < 2 * len(same)
    assert [stored and stored.body for stored in [await journal.load(each.id) for each in arrived]] == bodies


@pytest_twisted.ensureDeferred
async def test_no_more_than_a_bounded_number_of_bytes_lies_together(journal: SQLiteJournal, tmp_path: Path) -> None:
    sizes = [20_000, 20_000, 20_000, 20_000, 200_000, 10, 10]
    bodies = [os.urandom(size) for size in sizes]
    arrived = await append_together(
        journal, *(new_delivery(str(number), body=body) for number, body in enumerate(bodies))
    )
    ids = [int(each.id) for each in arrived]
    assert rows(tmp_path, "SELECT event_id FROM bodies") == [(ids[3],), (ids[4],)]
    assert rows(tmp_path, "SELECT first, last FROM bundles") == [(ids[0], ids[2]), (ids[5], ids[6])]
    assert [stored and stored.body for stored in [await journal.load(each.id) for each in arrived]] == bodies


@pytest_twisted.ensureDeferred
async def test_damage_where_bodies_lie_together_is_told_for_each_of_them(
    journal: SQLiteJournal, tmp_path: Path
) -> None:
    arrived = await append_together(journal, *(new_delivery(name, body=os.urandom(20_000)) for name in "abc"))
    ((whole,),) = rows(tmp_path, "SELECT bodies FROM bundles")
    changed = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in (0, 10, 30_000)]
    for damaged in (*changed, whole[:-1]):
        with sqlite3.connect(tmp_path / "state" / "journal.sqlite3") as connection:
            connection.execute("UPDATE bundles SET bodies = ?", (damaged,))
        connection.close()
        for each in arrived:
            with pytest.raises(Permanent, match=f"the body of delivery {each.id} is damaged"):
                await journal.load(each.id)


@pytest_twisted.ensureDeferred
async def test_bodies_that_lie_together_go_when_none_of_them_is_needed(journal: SQLiteJournal, tmp_path: Path) -> None:
    week = 7 * 86400
    early = await append_together(
        journal, *(new_delivery(f"early-{number}", subscribers=("mirror",)) for number in range(3))
    )
    late = await append_together(
        journal, *(new_delivery(f"late-{number}", subscribers=("mirror",)) for number in range(3))
    )
    waiting = early[1]
    for each in (early[0], early[2], *late):
        await outcome(journal.finish, each.handlings[0].id, at=101.0)
    assert await journal.prune(week + 150.0) == 5
    assert rows(tmp_path, "SELECT first, last FROM bundles") == [(int(early[0].id), int(early[2].id))]
    stored = await journal.load(waiting.id)
    assert stored is not None
    assert stored.body == BODY + b"early-1"
    await outcome(journal.finish, waiting.handlings[0].id, at=101.0)
    assert await journal.prune(week + 150.0) == 1
    assert rows(tmp_path, "SELECT first, last FROM bundles") == []


@pytest_twisted.ensureDeferred
async def test_beyond_its_size_the_journal_forgets_the_oldest_and_no_more_than_needed(tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    journal = SQLiteJournal.open(tmp_path / "state", reactor=reactor, keep_bytes=2**20)
    works = []
    for number in range(30):
        body = os.urandom(100_000)
        works += (
            await outcome(journal.append, new_delivery(str(number), subscribers=("mirror",), body=body))
        ).handlings
    for work in works[1:]:
        await outcome(journal.finish, work.id, at=101.0)
    pruned = 0
    while step := await journal.prune(101.0):
        pruned += step
    left = [receipt.delivery for receipt in (await journal.listing(limit=100)).deliveries]
    await journal.close()
    assert left[-1] == "0"  # the oldest of all, but pending
    assert left[:-1] == [str(number) for number in range(29, 29 - len(left) + 1, -1)]
    assert 7 <= len(left) <= 10
    assert pruned == 30 - len(left)


@pytest_twisted.ensureDeferred
async def test_bodies_that_lie_together_are_no_more_than_needed_either(tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    journal = SQLiteJournal.open(tmp_path / "state", reactor=reactor, keep_bytes=2**20)
    arrived = []
    for number in range(30):
        arrived += await append_together(
            journal,
            *(new_delivery(f"{number}-{part}", subscribers=("mirror",), body=os.urandom(20_000)) for part in "abcde"),
        )
    for each in arrived[1:]:
        await outcome(journal.finish, each.handlings[0].id, at=101.0)
    while await journal.prune(101.0):
        pass
    left = [receipt.id for receipt in (await journal.listing(limit=200)).deliveries]
    await journal.close()
    assert left[-1] == arrived[0].id  # pending
    assert left[:-1] == [each.id for each in reversed(arrived)][: len(left) - 1]
    assert 35 <= len(left) <= 50


def change(tmp_path: Path, how: Callable[[bytes], bytes]) -> None:
    with sqlite3.connect(tmp_path / "state" / "journal.sqlite3") as connection:
        ((stored,),) = connection.execute("SELECT body FROM bodies").fetchall()
        connection.execute("UPDATE bodies SET body = ?", (how(stored),))
    connection.close()
