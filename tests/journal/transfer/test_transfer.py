"""A journal goes from SQLite into PostgreSQL and back, and nothing of it is lost on the way."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
import pytest_twisted
from journal_values import ONE, TWO, ZEROS, append_together, new_delivery
from outcomes import outcome
from postgres_journals import SHARDS, empty, open_node, open_sole

from stackit.api.errors import JournalError
from stackit.api.events import RefChange
from stackit.journal import JournalProtocol, Receipt
from stackit.journal.directory import DirectoryLock
from stackit.journal.postgres.connection import Server
from stackit.journal.sqlite import SQLiteJournal
from stackit.journal.transfer.contents import Contents
from stackit.journal.transfer.to_postgres import to_postgres
from stackit.journal.transfer.to_sqlite import to_sqlite

MANY = 1300
"""More than are read, written or indexed at once."""


def silent(_done: int, _total: int) -> None:
    """Take no notice of the progress."""


def open_sqlite(directory: Path) -> SQLiteJournal:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    clock: Any = reactor
    return SQLiteJournal.open(directory, reactor=clock)


async def fill(journal: JournalProtocol) -> None:
    """Bring a bit of everything into a journal."""
    await append_together(journal, *(new_delivery(f"many-{number}", repo=f"octo/{number}") for number in range(MANY)))
    done = await outcome(journal.append, new_delivery("done", signer="app:main", via="api"))
    for work in done.handlings:
        await outcome(journal.finish, work.id, at=101.0)
    await journal.visible(done.id, 102.5)
    dead = await outcome(journal.append, new_delivery("dead\x00\ud800", action="opened"))
    await journal.fail(dead.handlings[0].id, at=103.0, error="no \x00", next_at=None, traceback="in\nlines")
    await journal.fail(dead.handlings[1].id, at=103.0, error="later", next_at=900.0, traceback="more\nlines")
    await outcome(journal.append, new_delivery("unwanted", subscribers=(), repo=None))
    await outcome(journal.append, new_delivery("reused", body=b"{}"))
    await outcome(journal.append, new_delivery("reused", body=b"[]"))
    await outcome(journal.append, new_delivery("replayed", body=b"{}", refuse_replay=True))
    await outcome(journal.append, new_delivery("large", body=b'"' + b"x" * 200_000 + b'"'))
    odd = b"refs/heads/\xff".decode("utf-8", "surrogateescape")
    changes = (RefChange("refs/heads/main", ZEROS, ONE, "created"), RefChange(odd, ZEROS, TWO, "created"))
    await journal.announce("Octo/Widget", changes, "push", "done", 104.0, ["mirror", "late"])
    await journal.put("repos", {"a": b"\x00\xff", "b": b"two"})
    await journal.put("marks", {"a": b""})


async def contents(journal: JournalProtocol) -> dict[str, Any]:
    """Return all that people and programs can see of a journal, with what has no order of its own in one."""
    receipts: list[Receipt] = []
    for event in (None, "refs_changed"):
        cursor = None
        while True:
            page = await journal.listing(event=event, cursor=cursor, limit=500)
            receipts += page.deliveries
            cursor = page.next
            if cursor is None:
                break
    return {
        "receipts": [
            msgspec.structs.replace(each, handlings=tuple(sorted(each.handlings, key=lambda row: row.subscriber)))
            for each in receipts
        ],
        "events": [await journal.load(each.id) for each in receipts],
        "tracebacks": [sorted((await journal.tracebacks(each.id)).items()) for each in receipts],
        "refs": sorted((await journal.announced("octo/widget")).items()),
        "documents": [sorted((await journal.documents(each)).items()) for each in ("repos", "marks")],
        "counts": [sorted((await counted()).items()) for counted in (journal.pending, journal.dead)],
        "subscribers": sorted(await journal.subscribers()),
        "groups": sorted(await journal.due_groups("mirror", now=2000.0)),
        "due": [
            (each.event_id, each.attempts, each.size)
            for each in await journal.due("mirror", 2000.0, group="octo/widget", limit=99)
        ],
        "next": await journal.next_due("notes:deploy", after=200.0),
    }


def in_text(value: Any) -> str:
    """Return contents with each NUL as PostgreSQL can have it: escaped."""
    return repr(value).replace(r"\\x00", r"\x00")


@pytest_twisted.ensureDeferred
async def test_a_journal_goes_into_postgresql_and_back_and_is_the_same(postgres: str, tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    here, back = tmp_path / "here", tmp_path / "back"
    journal: JournalProtocol = open_sqlite(here)
    await fill(journal)
    before = await contents(journal)
    await journal.close()
    steps: list[tuple[int, int]] = []
    copied = to_postgres(here, Server(postgres), shards=SHARDS, progress=lambda *step: steps.append(step))
    events = MANY + 8
    assert copied == Contents(events=events, pending=2 * MANY + 9, dead=1, refs=2, documents=3)
    assert steps[-1] == (events + 5, events + 5)
    assert steps == sorted(steps)
    assert len(steps) > 3

    journal = open_sole(postgres, reactor)
    there = await contents(journal)
    assert in_text(there) == in_text(before)
    for body in (b"{}", b"[]"):
        again = await outcome(journal.append, new_delivery("reused", body=body))
        assert (again.status, again.reused) == ("duplicate", False)
    echo = await outcome(journal.append, new_delivery("replayed", body=b"{}", refuse_replay=True))
    assert (echo.status, echo.replay_of) == ("duplicate", "reused")
    await journal.close()
    with psycopg.connect(postgres) as connection:
        connection.execute("UPDATE nodes SET state = 'dead'")
        connection.execute(
            "INSERT INTO subscribers (no, key) SELECT n, 'gone:' || n FROM generate_series(99, 4095) AS n"
        )

    assert to_sqlite(Server(postgres), back, progress=silent) == copied
    journal = open_sqlite(back)
    assert await contents(journal) == there
    await journal.close()
    # What is in a new database then has numbers again for new subscribers.
    empty(postgres)
    assert to_postgres(back, Server(postgres), shards=SHARDS, progress=silent) == copied
    with psycopg.connect(postgres) as connection:
        found = connection.execute("SELECT key FROM subscribers ORDER BY key").fetchall()
    assert [key for (key,) in found] == there["subscribers"]


@pytest.mark.parametrize("way", ["to postgresql", "to sqlite"])
@pytest_twisted.ensureDeferred
async def test_what_comes_after_a_transfer_is_recognised_and_gets_new_ids(
    way: str, postgres: str, tmp_path: Path
) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    week = 7 * 86400
    journal: JournalProtocol
    journal = open_sqlite(tmp_path / "here") if way == "to postgresql" else open_sole(postgres, reactor)
    await append_together(journal, *(new_delivery(f"many-{number}", subscribers=()) for number in range(MANY)))
    kept = await outcome(journal.append, new_delivery("kept"))
    gone = await outcome(journal.append, new_delivery("gone", subscribers=()))
    while await journal.prune(9 * week):
        pass
    assert await journal.load(gone.id) is None
    await journal.close()
    if way == "to postgresql":
        to_postgres(tmp_path / "here", Server(postgres), shards=SHARDS, progress=silent)
        journal = open_sole(postgres, reactor)
    else:
        with psycopg.connect(postgres) as connection:
            connection.execute("UPDATE nodes SET state = 'dead'")
        to_sqlite(Server(postgres), tmp_path / "there", progress=silent)
        journal = open_sqlite(tmp_path / "there")
    again = await outcome(journal.append, new_delivery("kept"))
    assert (again.status, again.id) == ("duplicate", kept.id)
    replayed = await outcome(journal.append, new_delivery("other", body=b'{"ref":"refs/heads/main"}kept'))
    assert replayed.replay_of == "kept"
    assert int(replayed.id) > int(gone.id)
    assert (await outcome(journal.append, new_delivery("gone"))).status == "new"
    await journal.close()


@pytest_twisted.ensureDeferred
async def test_a_body_that_is_damaged_is_left_out_and_said(postgres: str, tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    journal: JournalProtocol = open_sqlite(tmp_path / "here")
    appended = await outcome(journal.append, new_delivery("a"))
    await journal.close()
    with sqlite3.connect(tmp_path / "here" / "journal.sqlite3") as connection:
        connection.execute("UPDATE bodies SET body = x'00'")
    copied = to_postgres(tmp_path / "here", Server(postgres), shards=SHARDS, progress=silent)
    assert (copied.events, copied.pending, copied.damaged) == (1, 2, 1)
    journal = open_sole(postgres, reactor)
    stored = await journal.load(appended.id)
    assert stored is not None
    assert stored.body is None
    await journal.close()


Prepare = Callable[[str, Path], object]


def a_document_in_the_database(conninfo: str, directory: Path) -> None:
    to_postgres(directory, Server(conninfo), shards=SHARDS, progress=silent)
    with psycopg.connect(conninfo) as connection:
        connection.execute("INSERT INTO documents VALUES ('repos', 'a', '')")


def a_node_at_work(conninfo: str, directory: Path) -> None:
    to_postgres(directory, Server(conninfo), shards=SHARDS, progress=silent)
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            "INSERT INTO nodes (name, address, version, schema, roles, until)"
            " VALUES ('busy', '', '', 1, '{}', clock_timestamp() + interval '1 hour')"
        )


def no_journal(_: str, directory: Path) -> None:
    (directory / "journal.sqlite3").unlink()


def a_stackit_that_runs(_: str, directory: Path) -> object:
    return DirectoryLock(directory)


@pytest.mark.parametrize(
    ("prepare", "refusal"),
    [
        (a_document_in_the_database, "the database has a journal already"),
        (a_node_at_work, "nodes of the fleet are at work: stop busy first"),
        (no_journal, "there is no journal in "),
        (a_stackit_that_runs, "is held by another stackit"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_nothing_goes_into_postgresql_where_something_is_in_the_way(
    prepare: Prepare, refusal: str, postgres: str, tmp_path: Path
) -> None:
    await open_sqlite(tmp_path).close()
    kept = prepare(postgres, tmp_path)
    with pytest.raises(JournalError, match=refusal):
        to_postgres(tmp_path, Server(postgres), shards=SHARDS, progress=silent)
    del kept


@pytest_twisted.ensureDeferred
async def test_a_transfer_that_is_broken_off_leaves_nothing_behind(postgres: str, tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    def break_off(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    journal: JournalProtocol = open_sqlite(tmp_path / "here")
    await fill(journal)
    before = await contents(journal)
    await journal.close()
    with pytest.raises(KeyboardInterrupt):
        to_postgres(tmp_path / "here", Server(postgres), shards=SHARDS, progress=break_off)
    copied = to_postgres(tmp_path / "here", Server(postgres), shards=SHARDS, progress=silent)
    with pytest.raises(KeyboardInterrupt):
        to_sqlite(Server(postgres), tmp_path / "back", progress=break_off)
    assert {each.name for each in (tmp_path / "back").iterdir()} == {"lock"}
    assert to_sqlite(Server(postgres), tmp_path / "back", progress=silent) == copied
    assert {each.name for each in (tmp_path / "back").iterdir()} == {"journal.sqlite3", "lock"}
    journal = open_sole(postgres, reactor)
    assert in_text(await contents(journal)) == in_text(before)
    await journal.close()


@pytest_twisted.ensureDeferred
async def test_tables_that_are_too_new_are_not_copied(postgres: str, tmp_path: Path) -> None:
    await open_sqlite(tmp_path / "there").close()
    to_postgres(tmp_path / "there", Server(postgres), shards=SHARDS, progress=silent)
    with psycopg.connect(postgres) as connection:
        connection.execute("UPDATE version SET schema = 99, oldest = 99")
    with pytest.raises(JournalError, match="too old for its fleet: the database has tables of version 99"):
        to_sqlite(Server(postgres), tmp_path / "new", progress=silent)
    assert not (tmp_path / "new" / "journal.sqlite3").exists()


@pytest_twisted.ensureDeferred
async def test_nothing_comes_out_of_postgresql_where_something_is_in_the_way(postgres: str, tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    with pytest.raises(JournalError, match="there is no journal in the database"):
        to_sqlite(Server(postgres), tmp_path / "new", progress=silent)
    await open_node(postgres, reactor, name="busy").close()
    with pytest.raises(JournalError, match="stop busy first"):
        to_sqlite(Server(postgres), tmp_path / "new", progress=silent)
    await open_sqlite(tmp_path / "there").close()
    with pytest.raises(JournalError, match="is there already"):
        to_sqlite(Server(postgres), tmp_path / "there", progress=silent)
    assert not (tmp_path / "new" / "journal.sqlite3").exists()
