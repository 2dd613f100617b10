"""Deliveries that come by both ways: sent by the forge, and taken from its list of deliveries."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from journal_values import append_together, new_delivery
from outcomes import outcome

from stackit.journal import JournalProtocol


@pytest.mark.parametrize(("first", "second"), [("webhook", "api"), ("api", "webhook"), ("api", "api")])
@pytest.mark.parametrize("before", [0, 3])
@pytest_twisted.ensureDeferred
async def test_of_two_that_race_by_both_ways_one_is_work(
    first: Any, second: Any, before: int, journal: JournalProtocol
) -> None:
    deliveries = [new_delivery(f"other-{number}", subscribers=()) for number in range(before)]
    # One after the other, with no commit between: the API has re-encoded the payload, so its digest is another.
    deliveries.append(new_delivery("a", body=b'{"a": 1}', subscribers=("mirror",), via=first))
    deliveries.append(new_delivery("a", body=b'{"a":1}', digest=b"another", subscribers=("mirror",), via=second))
    *_, one, two = await append_together(journal, *deliveries)
    assert (one.status, two.status, two.id) == ("new", "duplicate", one.id)
    assert len(one.handlings) == 1
    assert two.handlings == ()
    assert await journal.pending() == {"mirror": 1}


@pytest_twisted.ensureDeferred
async def test_recorded_deliveries_are_told_by_their_hook(journal: JournalProtocol) -> None:
    await outcome(journal.append, new_delivery("a", hook="1"))
    await outcome(journal.append, new_delivery("b", hook="1", subscribers=(), body=b"2"))
    await outcome(journal.append, new_delivery("c", hook="2", body=b"3"))
    await journal.announce("octo/widget", (), "push", "d", 100.0, [])
    assert await journal.recorded("1", ["a", "b", "c", "d", "missing"]) == {"a", "b"}
    assert await journal.recorded("2", ["a", "b", "c"]) == {"c"}
    assert await journal.recorded("", ["a", "b", "c", "d"]) == set()
    assert await journal.recorded("1", []) == set()


@pytest_twisted.ensureDeferred
async def test_many_recorded_deliveries_are_told_at_once(journal: JournalProtocol) -> None:
    for number in range(0, 300, 3):
        await outcome(journal.append, new_delivery(f"id-{number}", hook="1", body=b"%d" % number))
    asked = [f"id-{number}" for number in range(300)]
    assert await journal.recorded("1", asked) == {f"id-{number}" for number in range(0, 300, 3)}
