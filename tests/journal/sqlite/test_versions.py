"""A journal of an earlier version is brought up to date at the start, with all that is in it."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from journal_values import new_delivery
from outcomes import outcome

from stackit.api.errors import JournalError
from stackit.journal.sqlite import SQLiteJournal, schema
from stackit.journal.sqlite.sizes import Sizes

THIRD = ("signer TEXT NOT NULL DEFAULT '',", "via TEXT NOT NULL DEFAULT 'webhook'")
NEW_SINCE = {1: ("traceback BLOB,", *THIRD), 2: THIRD}
"""The columns that a journal of an earlier version lacks."""


def made_by(version: int, directory: Path) -> None:
    """Make an empty journal as an earlier version did."""
    directory.mkdir(mode=0o700)
    path = directory / "journal.sqlite3"
    path.touch(0o600)
    with closing(schema.connect(path, Sizes())) as connection:
        for statement in schema.TABLES:
            if "TABLE documents" in statement:
                continue
            for column in NEW_SINCE[version]:
                statement = statement.replace(column, "")  # noqa: PLW2901
            connection.execute(re.sub(r",\s*\)$", ")", statement))
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION}")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("PRAGMA journal_mode = WAL")


def columns(path: Path) -> dict[str, list[Any]]:
    """The columns of every table, in order."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: sorted(row[1:] for row in connection.execute(f"PRAGMA table_info({table})")) for table in tables}


@pytest.mark.parametrize("version", NEW_SINCE)
@pytest_twisted.ensureDeferred
async def test_a_journal_of_an_earlier_version_goes_on_with_what_it_has(version: int, tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    made_by(version, tmp_path / "old")
    path = tmp_path / "old/journal.sqlite3"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO events (kind, hook, delivery, event, repo, repo_key, received_at, digest, size)"
            " VALUES ('delivery', '7', 'guid', 'push', 'octo/widget', 'octo/widget', 100.0, x'00', 2)"
        )
        connection.execute(
            "INSERT INTO handlings (event_id, subscriber, repo_key, state, attempts, error, finished_at)"
            " VALUES (1, 'mirror', 'octo/widget', 'dead', 3, 'OSError: no', 101.0)"
        )
    for _ in range(2):
        journal = SQLiteJournal.open(tmp_path / "old", reactor=reactor)
        (receipt,) = (await journal.listing()).deliveries
        assert [(each.state, each.attempts, each.error) for each in receipt.handlings] == [("dead", 3, "OSError: no")]
        assert (receipt.signer, receipt.via) == ("", "webhook")
        assert await journal.tracebacks(receipt.id) == {}
        assert journal.documents_now("repos") == {}
        await journal.close()
    journal = SQLiteJournal.open(tmp_path / "old", reactor=reactor)
    appended = await outcome(journal.append, new_delivery("a", subscribers=("mirror",)))
    await journal.fail(appended.handlings[0].id, at=101.0, error="OSError: no", next_at=None, traceback="lines")
    assert await journal.tracebacks(appended.id) == {"mirror": "lines"}
    await journal.put("repos", {"github:7": b"{}"})
    assert journal.documents_now("repos") == {"github:7": b"{}"}
    await journal.close()


@pytest.mark.parametrize("version", NEW_SINCE)
@pytest_twisted.ensureDeferred
async def test_a_journal_that_was_brought_up_to_date_has_the_tables_of_a_new_one(version: int, tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    made_by(version, tmp_path / "old")
    for name in ("old", "new"):
        await SQLiteJournal.open(tmp_path / name, reactor=reactor).close()
    assert columns(tmp_path / "old/journal.sqlite3") == columns(tmp_path / "new/journal.sqlite3")


def test_a_journal_that_cannot_be_brought_up_to_date_is_left_as_it_was(tmp_path: Path) -> None:
    made_by(1, tmp_path / "old")
    path = tmp_path / "old/journal.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE handlings RENAME TO others")
    with pytest.raises(JournalError, match="cannot be brought up to date"):
        schema.prepare(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
