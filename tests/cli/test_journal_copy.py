"""``stackit journal copy`` as a command: which journal and which database it means, and what it says."""

from __future__ import annotations

import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
import pytest_twisted
from journal_values import new_delivery
from outcomes import outcome
from twisted.internet import reactor

from stackit.cli.run import run
from stackit.journal.sqlite import SQLiteJournal

Ran = Callable[..., Awaitable[Any]]


class Done(msgspec.Struct):
    """One command that ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def stackit(tmp_path: Path) -> Ran:
    async def ran(*arguments: object) -> Done:
        out, err = io.StringIO(), io.StringIO()
        status = await run(reactor, [str(each) for each in arguments], environ={}, cwd=tmp_path, out=out, err=err)
        return Done(status, out.getvalue(), err.getvalue())

    return ran


@pytest_twisted.async_yield_fixture
async def configured(tmp_path: Path, postgres: str) -> Any:
    """A configuration of a fleet, beside a journal in SQLite with one delivery and a document."""
    (tmp_path / "twistd.conf").write_text(f'state_dir = "state"\n[fleet]\npostgres = "{postgres}"\nshards = 8\n')
    journal = SQLiteJournal.open(tmp_path / "state", reactor=reactor)
    await outcome(journal.append, new_delivery("a"))
    await journal.put("repos", {"a": b"1"})
    await journal.close()
    yield postgres


@pytest_twisted.ensureDeferred
async def test_the_journal_goes_to_the_database_that_is_configured_and_back(
    stackit: Ran, configured: str, tmp_path: Path
) -> None:
    done = await stackit("journal", "copy")
    assert (done.status, done.err) == (0, "")
    assert done.out == (
        "the database of the fleet: 1 events, 2 handlings pending, 0 dead, 0 refs, 1 documents\n"
        "nothing was changed where they come from\n"
    )
    with psycopg.connect(configured) as connection:
        assert connection.execute("SELECT count(*) FROM work").fetchall() == [(2,)]
        assert connection.execute("SELECT shards FROM version").fetchall() == [(8,)]
    back = await stackit("--json", "journal", "copy", "--from", "postgres", "--state-dir", "back")
    assert (back.status, back.err) == (0, "")
    assert json.loads(back.out) == {
        "to": "sqlite",
        "events": 1,
        "pending": 2,
        "dead": 0,
        "refs": 0,
        "documents": 1,
        "damaged": 0,
    }
    journal = SQLiteJournal.open(tmp_path / "back", reactor=reactor)
    assert await journal.pending() == {"mirror": 1, "notes:deploy": 1}
    await journal.close()


@pytest.mark.parametrize(
    ("arguments", "settings", "status", "told"),
    [
        (["--from", "postgres", "--to", "postgres"], None, 1, "--from and --to are the same"),
        (["--to", "postgres"], "", 2, "fleet.postgres: missing; say where the database is"),
        (["--to", "postgres"], 'postgres = "host=/nowhere password=hunter2"', 2, "a password has no place here"),
        (["--to", "postgres"], 'postgres = "host=/nowhere dbname=x"', 1, "the database of the fleet"),
        (["--to", "sqlite"], None, 1, "is there already: move it out of"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_copied_is_told_in_one_line(
    arguments: list[str], settings: str | None, status: int, told: str, stackit: Ran, configured: str, tmp_path: Path
) -> None:
    if settings is not None:
        (tmp_path / "twistd.conf").write_text(f'state_dir = "state"\n[fleet]\n{settings}\n')
    done = await stackit("journal", "copy", *arguments)
    assert (done.status, done.out, done.err.count("\n")) == (status, "", 1)
    assert told in done.err
    assert "hunter2" not in done.err
