"""What the SQLite journal holds in memory: nothing of what it has told."""

from __future__ import annotations

import time
import weakref

import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from stackit.journal import NewDelivery
from stackit.journal.sqlite import SQLiteJournal

PATIENCE = 20.0


class Asker:
    """Whoever has an append, which lives as long as the journal keeps the delivery."""

    def __init__(self, told: Deferred[None]) -> None:
        self._told = told

    def __call__(self, _: object) -> None:
        self._told.callback(None)


@pytest_twisted.ensureDeferred
async def test_a_journal_that_idles_keeps_nothing_of_its_last_commit(journal: SQLiteJournal) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    told: Deferred[None] = Deferred()
    asker = Asker(told)
    kept = weakref.ref(asker)
    journal.append(
        NewDelivery(
            hook="7",
            delivery="d1",
            event="push",
            action=None,
            repo="octo/widget",
            received_at=100.0,
            digest=b"d1",
            body=b"{}",
            subscribers=("mirror",),
        ),
        asker,
    )
    del asker
    await told
    until = time.monotonic() + PATIENCE
    while kept() is not None and time.monotonic() < until:
        await deferLater(reactor, 0.01)
    assert kept() is None
