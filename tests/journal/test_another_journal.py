"""Another journal in SQLite's place: dispatch and the admin routes work with it as they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_twisted
from dispatch_harness import Harness
from memory_journal import MemoryJournal
from twisted.internet.defer import Deferred

from stackit import RefChange, on
from stackit.api.admin import AdminRequest, Response
from stackit.web.admin.deliveries import delivery_routes


class OpenedInMemory(MemoryJournal):
    """A journal that is opened as the harness opens one."""

    @classmethod
    def open(cls, _directory: Path, *, reactor: Any) -> OpenedInMemory:
        return cls(reactor)


class Moody:
    """A handler that fails until it is well, and whose first run takes as long as the test says."""

    def __init__(self) -> None:
        self.is_well = False
        self.first: Deferred[None] | None = None
        self.handled: list[str] = []

    @on("*")
    def handle(self, event: Any) -> Deferred[None] | None:
        if not self.is_well:
            raise OSError("not well today")
        self.handled.append(event.delivery)
        return self.first if len(self.handled) == 1 else None


@pytest_twisted.async_yield_fixture
async def harness(tmp_path: Path) -> AsyncIterator[tuple[Harness, Moody]]:
    moody = Moody()
    journal: Any = OpenedInMemory
    made = Harness(tmp_path, journal=journal, moody=moody)
    yield made, moody
    await made.close()


async def answer(one: Harness, method: str, path: str, *, event_id: str = "", **query: str) -> Response:
    """Return the answer of the admin route of this method and path."""
    routes = {(each.method, each.path): each for each in delivery_routes(one.journal, one.dispatch, one.bus)}
    handler: Any = routes[method, path].handler
    response: Response = await handler(
        AdminRequest(method=method, path=path, args={"id": event_id}, query=query, body=b"")
    )
    return response


@pytest_twisted.ensureDeferred
async def test_an_event_is_retried_dead_listed_and_replayed(harness: tuple[Harness, Moody]) -> None:
    one, moody = harness
    taken = await one.take()
    await one.until(lambda: len(one.outcomes("failed")) == 1)
    await one.pass_time(1.0)
    await one.pass_time(2.0)
    await one.until(lambda: len(one.outcomes("dead")) == 1)
    listed: Any = (await answer(one, "GET", "{prefix}/deliveries", state="dead")).body
    assert [each.id for each in listed.deliveries] == [taken.id]

    moody.is_well = True
    replayed: Any = (await answer(one, "POST", "{prefix}/deliveries/{id}/replay", event_id=taken.id)).body
    assert (replayed.id, replayed.replayed) == (taken.id, 1)
    await one.until(lambda: bool(one.outcomes("handled")))
    assert moody.handled == ["d1"]
    shown: Any = (await answer(one, "GET", "{prefix}/deliveries/{id}", event_id=taken.id)).body
    assert (shown.id, shown.state) == (taken.id, "done")
    assert (await answer(one, "GET", "{prefix}/deliveries/{id}", event_id="1")).status == 404
    again = await one.take(delivery="d1")
    assert (again.id, again.duplicate) == (taken.id, True)


@pytest_twisted.ensureDeferred
async def test_more_events_than_a_queue_keeps_in_memory_are_read_back_in_order(harness: tuple[Harness, Moody]) -> None:
    one, moody = harness
    moody.is_well, moody.first = True, Deferred()
    for _ in range(200):
        await one.take()
    assert moody.handled == ["d1"]
    moody.first.callback(None)
    await one.until(lambda: len(moody.handled) == 200)
    assert moody.handled == [f"d{number}" for number in range(1, 201)]
    await one.until(lambda: len(one.outcomes("handled")) == 200)
    assert dict(one.dispatch.pending()) == {"moody": 0}


@pytest_twisted.ensureDeferred
async def test_announced_refs_are_kept_and_observed(harness: tuple[Harness, Moody]) -> None:
    one, _ = harness
    change = RefChange("refs/heads/main", "0" * 40, "1" * 40, "created")
    await one.announce("Octo/Widget", change)
    assert await one.journal.announced("octo/widget") == {"refs/heads/main": "1" * 40}
    assert one.outcomes("refs_changed")[0].changes == (change,)
