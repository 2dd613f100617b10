"""How bodies are recognised: from memory, from the index, and after a restart."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from journal_values import BODY, ONE, ZEROS, new_delivery
from outcomes import outcome

from stackit.api.errors import JournalError
from stackit.api.events import RefChange
from stackit.journal.sqlite import SQLiteJournal, deliveries
from stackit.journal.sqlite.sizes import Sizes


@pytest.fixture
def open_small(tmp_path: Path) -> Callable[..., SQLiteJournal]:
    """Opens a journal whose digests go into the index after every so many events."""

    def opened(together: int, **settings: Any) -> SQLiteJournal:
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        return SQLiteJournal.open(tmp_path / "state", reactor=reactor, sizes=Sizes(digests=together), **settings)

    return opened


def _digests(directory: Path) -> list[int]:
    """The events whose digests are in the index."""
    with closing(sqlite3.connect(directory / "state" / "journal.sqlite3")) as connection:
        return [event_id for (event_id,) in connection.execute("SELECT event_id FROM digests ORDER BY event_id")]


@pytest_twisted.ensureDeferred
async def test_a_body_is_recognised_from_memory_from_the_index_and_after_a_restart(
    tmp_path: Path, open_small: Callable[..., SQLiteJournal]
) -> None:
    journal = open_small(8)
    for number in range(1, 21):
        # Announcements have ids of the same row; two bodies, those of 1 and 19, are the same.
        if number % 5 == 0:
            await journal.announce(
                "octo/widget", (RefChange(f"r{number}", ZEROS, ONE, "created"),), "push", None, 1, ()
            )
        else:
            await outcome(journal.append, new_delivery(f"d{number}", body=BODY + str(number % 18).encode()))
    assert _digests(tmp_path) == [1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 16]

    async def known() -> dict[int, str | None]:
        again: dict[int, str | None] = {}
        for number in range(18):
            made = new_delivery(f"again-{number}-{len(again)}", body=BODY + str(number).encode())
            again[number] = (await outcome(journal.append, made)).replay_of
        return again

    await journal.close()
    journal = open_small(8)
    named = {number: f"d{number}" for number in range(18) if number % 5}
    assert await known() == {0: "d18", 5: None, 10: None, 15: None, **named}
    await journal.close()


@pytest_twisted.ensureDeferred
async def test_a_commit_that_is_taken_back_forgets_no_body(
    tmp_path: Path, open_small: Callable[..., SQLiteJournal]
) -> None:
    journal = open_small(8)
    for number in range(5):
        await outcome(journal.append, new_delivery(f"before-{number}"))

    def refused(connection: Any) -> None:
        deliveries.append(connection, [new_delivery(f"taken-back-{number}") for number in range(10)])
        connection.execute("INSERT INTO events (id) VALUES (1)")

    with pytest.raises(JournalError, match="refused"):
        await journal._writer.submit(refused)
    assert _digests(tmp_path) == []
    for kind, first_one in (("before", "before-0"), ("taken-back", None)):
        body = new_delivery(f"{kind}-0").body
        assert (await outcome(journal.append, new_delivery(f"{kind}-again", body=body))).replay_of == first_one
    await journal.close()


@pytest_twisted.ensureDeferred
async def test_a_body_whose_event_is_forgotten_is_not_recognised(
    tmp_path: Path, open_small: Callable[..., SQLiteJournal]
) -> None:
    journal = open_small(4, keep_for=10.0)
    for number in range(6):
        await outcome(journal.append, new_delivery(f"d{number}", subscribers=() if number < 5 else ("mirror",)))
    assert await journal.prune(1000.0) == 5
    assert _digests(tmp_path) == []
    for number in range(6):
        first = new_delivery(f"d{number}")
        again = await outcome(journal.append, msgspec.structs.replace(first, delivery=f"again-{number}"))
        assert again.replay_of == (None if number < 5 else "d5")
    await journal.close()


@pytest_twisted.ensureDeferred
async def test_a_delivery_that_came_again_with_another_body_is_recognised_by_that(
    open_small: Callable[..., SQLiteJournal],
) -> None:
    journal = open_small(4)
    for number in range(6):  # the first is in the index by then, the last is not
        await outcome(journal.append, new_delivery(f"d{number}", subscribers=()))
    for number in (0, 5):
        other = new_delivery(f"d{number}", body=BODY + b"D%d" % number)  # as long as the one that is not kept
        assert (await outcome(journal.append, other)).status == "again"
        old = await outcome(journal.append, new_delivery(f"old-{number}", body=new_delivery(f"d{number}").body))
        new = await outcome(journal.append, new_delivery(f"new-{number}", body=other.body))
        assert (old.replay_of, new.replay_of) == (None, f"d{number}")
    await journal.close()
