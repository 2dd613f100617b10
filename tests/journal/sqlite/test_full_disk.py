"""A disk that is full when stackit starts: the journal is opened once there is room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import pytest_twisted
from full_disk import full_disk
from outcomes import outcome
from twisted.internet.defer import Deferred

from stackit.api.errors import JournalError
from stackit.journal import NewDelivery
from stackit.journal.sqlite import SQLiteJournal

RECORD = NewDelivery(
    hook="7",
    delivery="first",
    event="push",
    action=None,
    repo="octo/widget",
    received_at=100.0,
    digest=b"first",
    body=b"{}",
    subscribers=("mirror",),
)


def open_journal(directory: Path, changes: list[str | None]) -> SQLiteJournal:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    return SQLiteJournal.open(directory, reactor=reactor, on_change=changes.append)


@pytest.mark.parametrize("room", [0, 4096, 40_000, 70_000])
@pytest.mark.parametrize("is_there", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_journal_on_a_full_disk_opens_when_there_is_room(tmp_path: Path, room: int, is_there: bool) -> None:
    state = tmp_path / "state"
    changes: list[str | None] = []
    if is_there:
        journal = open_journal(state, [])
        await outcome(journal.append, RECORD)
        await journal.close()
    with full_disk(room):
        journal = open_journal(state, changes)
        assert "the disk is full" in (journal._writer.problem or "the disk is full: it opened")
        with pytest.raises(JournalError, match=r"full|I/O error"):
            await outcome(journal.append, _with(os.urandom(100_000)))
        assert journal._writer.problem is not None
    assert (await outcome(journal.append, _with(b"[]"))).status == "new"
    assert {each.delivery for each in (await journal.listing()).deliveries} >= {"full"}
    assert changes[-1] is None
    assert journal.problems() == []
    await journal.close()


def _with(body: bytes) -> NewDelivery:
    return NewDelivery(
        hook="7",
        delivery="full",
        event="push",
        action=None,
        repo="octo/widget",
        received_at=100.0,
        digest=b"full",
        body=body,
        subscribers=("mirror",),
    )


@pytest_twisted.ensureDeferred
async def test_what_is_asked_of_it_meanwhile_is_told_why_not(tmp_path: Path) -> None:
    with full_disk():
        journal = open_journal(tmp_path / "state", [])
        assert "the disk is full" in " ".join(journal.problems())
        for question in (journal.listing(), journal.pending(), journal.announced("octo/widget"), journal.prune(1e9)):
            with pytest.raises(JournalError):
                await question
    await journal.close()


@pytest_twisted.ensureDeferred
async def test_it_can_be_closed_before_there_was_room(tmp_path: Path) -> None:
    with full_disk():
        await open_journal(tmp_path / "state", []).close()
    journal = open_journal(tmp_path / "state", [])
    assert (await outcome(journal.append, RECORD)).status == "new"
    await journal.close()


@pytest_twisted.ensureDeferred
async def test_a_fault_that_no_room_mends_stops_the_start_also_on_a_full_disk(tmp_path: Path) -> None:
    state = tmp_path / "state"
    await open_journal(state, []).close()
    (state / "journal.sqlite3").write_bytes(b"not a journal" * 1000)
    with full_disk(), pytest.raises(JournalError, match="damaged"):
        open_journal(state, [])
    (tmp_path / "file").touch(mode=0o600)
    with full_disk(), pytest.raises(JournalError, match="not a directory"):
        open_journal(tmp_path / "file", [])


@pytest_twisted.ensureDeferred
async def test_a_directory_that_somebody_else_took_meanwhile_is_not_shared(tmp_path: Path) -> None:
    with full_disk():
        waiting = open_journal(tmp_path / "state", [])
        assert "full" in (waiting._writer.problem or "")
    with pytest.raises(JournalError, match="held by another stackit"):
        open_journal(tmp_path / "state", [])
    done: Deferred[object] = Deferred()
    waiting.append(RECORD, done.callback)
    await done
    await waiting.close()
