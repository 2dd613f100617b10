"""Retries that were planned by a clock that was wrong."""

from __future__ import annotations

import psycopg
import pytest_twisted
from journal_values import new_delivery
from outcomes import outcome
from postgres_journals import give, open_node, open_sole, shards_of

NOW = 1_000_000.0
HOUR = 3600.0


@pytest_twisted.ensureDeferred
async def test_whoever_takes_work_over_has_what_is_too_far_away_due_now_and_nothing_else_changed(postgres: str) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    one = open_sole(postgres, reactor)
    two = open_node(postgres, reactor, name="b")
    try:
        for journal in (one, two):
            journal.subscribe({"notes": "handlers"})
        planned = {
            "far": NOW + 3 * HOUR,
            "near": NOW + 60.0,
            "past": NOW - 60.0,
            "untried": None,
            "other": NOW + HOUR * 2,
        }
        for name, next_at in planned.items():
            repo = "octo/other" if name == "other" else "octo/widget"
            made = new_delivery(name, repo=repo, subscribers=("notes",), received_at=NOW + 5.0)
            (due,) = (await outcome(one.append, made)).handlings
            if next_at is not None:
                await one.fail(due.id, at=NOW, error="no", next_at=next_at)
        give(postgres, two, [one, two], shards_of("octo/widget"))
        await two.move_retries(0.0, now=NOW, longest=HOUR)
        with psycopg.connect(postgres, autocommit=True) as connection:
            found = connection.execute("SELECT delivery, next_at FROM work JOIN events ON events.id = work.id >> 12")
            assert dict(found.fetchall()) == {**planned, "far": NOW, "untried": NOW + 5.0}
    finally:
        await one.close()
        await two.close()


@pytest_twisted.ensureDeferred
async def test_a_node_that_stood_still_moves_no_retry_of_shards_that_others_have_taken(postgres: str) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    one = open_sole(postgres, reactor)
    two = open_node(postgres, reactor, name="b")
    try:
        one.subscribe({"notes": "handlers"})
        for repo in ("octo/widget", "octo/other"):
            made = new_delivery(repo, repo=repo, subscribers=("notes",), received_at=NOW)
            (due,) = (await outcome(one.append, made)).handlings
            await one.fail(due.id, at=NOW, error="no", next_at=NOW + 60.0)
        give(postgres, two, [two], shards_of("octo/widget"))  # the first has not heard of it yet
        await one.move_retries(HOUR / 2, now=NOW, longest=HOUR)
        with psycopg.connect(postgres, autocommit=True) as connection:
            found = connection.execute("SELECT delivery, next_at FROM work JOIN events ON events.id = work.id >> 12")
            assert dict(found.fetchall()) == {"octo/widget": NOW + 60.0, "octo/other": NOW + 60.0 + HOUR / 2}
    finally:
        await one.close()
        await two.close()
