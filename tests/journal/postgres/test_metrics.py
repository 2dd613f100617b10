"""The metrics of a node's writes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_twisted
from journal_values import new_delivery
from postgres_journals import open_node
from twisted.internet.defer import Deferred, gatherResults

from stackit.journal.postgres.journal import PostgresJournal


@pytest_twisted.async_yield_fixture
async def journal(postgres: str) -> AsyncIterator[PostgresJournal]:
    """One node."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    opened = open_node(postgres, reactor, name="a")
    yield opened
    await opened.close()


def readings(journal: PostgresJournal) -> dict[str, float]:
    return {
        sample.name: sample.value
        for family in journal.collector().collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@pytest_twisted.ensureDeferred
async def test_deliveries_that_come_together_share_a_commit(journal: PostgresJournal) -> None:
    before = readings(journal)
    asked: list[Deferred[Any]] = [Deferred() for _ in range(32)]
    for number, each in enumerate(asked):
        journal.append(new_delivery(f"{number}"), each.callback)
    assert readings(journal)["stackit_database_writes_waiting"] >= 31
    await gatherResults(asked)
    after = readings(journal)
    assert after["stackit_database_writes_total"] - before["stackit_database_writes_total"] == 32
    assert 1 <= after["stackit_database_commits_total"] - before["stackit_database_commits_total"] < 32
    assert after["stackit_database_commit_seconds_total"] > before["stackit_database_commit_seconds_total"]
    assert after["stackit_database_writes_waiting"] == 0
