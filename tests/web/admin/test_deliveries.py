"""The routes of deliveries, over a real journal and a real bus."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from outcomes import outcome

from stackit import Event, RefChange, RefsChanged, RequestHead, hookimpl, on
from stackit.bus.bus import Bus
from stackit.journal import EventId, HandlingId, NewDelivery
from stackit.journal.sqlite import SQLiteJournal
from stackit.web.admin.deliveries import delivery_routes
from stackit.web.admin.guard import Guard
from stackit.web.admin.rules import Admin

RECEIVED = 1_795_459_409.123
BODY = b'{"zen": "caf\\u00e9", "big": 12345678901234567890123, "same": 1, "same": 2}'


class Single:
    @on("push")
    def handle(self, event: Event) -> None:
        """One handler, so that the plugin's name is enough."""


class Several:
    @on("push")
    def first(self, event: Event) -> None:
        """One of two."""

    @hookimpl
    def stackit_refs_changed(self, change: RefsChanged) -> None:
        """The other."""


class Replays:
    """What dispatch would do, as far as the journal is concerned; 3000 is later than anything here."""

    def __init__(self, journal: SQLiteJournal) -> None:
        self._journal = journal

    async def replay(self, event_id: EventId, subscribers: Sequence[str] | None) -> int:
        return len(await self._journal.replay(event_id, subscribers, now=RECEIVED + 3000))

    async def replay_dead(self, subscriber: str) -> int:
        return len(await self._journal.replay_dead(subscriber, now=RECEIVED + 3000))


class Harness:
    """The routes and what is behind them."""

    def __init__(self, journal: SQLiteJournal, reactor: Any) -> None:
        bus = Bus()
        bus.register("single", Single())
        bus.register("several", Several())
        self.journal = journal
        routes = delivery_routes(
            journal,
            Replays(journal),
            bus,
            is_managed=lambda repo: repo.key == "octo/managed",
            now=lambda: RECEIVED + 60,
        )
        self._admin = Admin(routes, reactor=reactor, prefixes=["/api"], guard=Guard(tokens=None, hosts=()))

    async def ask(self, method: str, target: str) -> tuple[int, Any]:
        """The status and the JSON of the answer to a request below the prefix."""
        path, _, query = target.partition("?")
        headers = {b"host": (b"localhost",), b"x-stackit-csrf": (b"1",)}
        head = RequestHead(client="127.0.0.1", method=method.encode(), path=f"/api{path}".encode(), headers=headers)
        response = self._admin.refuse(head, "127.0.0.1") or await self._admin.answer(head, query.encode(), b"")
        body = response.body
        return response.status, json.loads(body) if isinstance(body, bytes) else body

    async def get(self, target: str) -> tuple[int, Any]:
        return await self.ask("GET", target)

    async def post(self, target: str) -> tuple[int, Any]:
        return await self.ask("POST", target)

    async def append(
        self,
        guid: str,
        *subscribers: str,
        event: str = "push",
        action: str | None = None,
        repo: str | None = "Octo/Widget",
    ) -> tuple[EventId, list[HandlingId]]:
        """A delivery in the journal: its id, and the ids of its handlings."""
        appended = await outcome(
            self.journal.append,
            NewDelivery(
                hook="77",
                delivery=guid,
                event=event,
                action=action,
                repo=repo,
                received_at=RECEIVED,
                digest=sha256(guid.encode()).digest(),
                body=BODY,
                subscribers=subscribers,
            ),
        )
        return appended.id, [work.id for work in appended.handlings]


@pytest_twisted.async_yield_fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    directory = tmp_path / "state"
    journal = SQLiteJournal.open(directory, reactor=reactor)
    yield Harness(journal, reactor)
    await journal.close()


# -- reading ----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_receipt_tells_what_became_of_the_delivery_at_each_subscriber(harness: Harness) -> None:
    number, (done, failing, dead) = await harness.append("guid-1", "single:handle", "several:first", "gone:old")
    await outcome(harness.journal.finish, done, at=RECEIVED + 1)
    await harness.journal.fail(failing, at=RECEIVED + 2, error="ValueError: no", next_at=RECEIVED + 60)
    await harness.journal.fail(dead, at=RECEIVED + 3, error="gone", next_at=None)
    await harness.journal.visible(number, RECEIVED + 0.5)

    status, receipt = await harness.get(f"/deliveries/{number}")

    assert status == 200
    handlings = receipt.pop("handlings")
    assert receipt == {
        "id": number,
        "delivery": "guid-1",
        "hook": "77",
        "via": "webhook",
        "event": "push",
        "action": None,
        "repo": "Octo/Widget",
        "received_at": "2026-11-23T18:43:29.123Z",
        "state": "pending",
        "visible_at": "2026-11-23T18:43:29.623Z",
    }
    assert {each["subscriber"]: (each["state"], each["attempts"], each["error"]) for each in handlings} == {
        "single": ("done", 1, None),
        "several:first": ("pending", 1, "ValueError: no"),
        "gone:old": ("dead", 1, "gone"),
    }
    times = {each["subscriber"]: (each["next_at"], each["finished_at"]) for each in handlings}
    assert times["single"] == (None, "2026-11-23T18:43:30.123Z")
    assert times["several:first"] == ("2026-11-23T18:44:29.123Z", None)
    assert all(
        set(each) == {"subscriber", "state", "attempts", "error", "next_at", "finished_at"} for each in handlings
    )


@pytest_twisted.ensureDeferred
async def test_the_payload_comes_on_request_and_exactly_as_it_was_delivered(harness: Harness) -> None:
    number, _ = await harness.append("guid-1", "single:handle")
    assert "payload" not in (await harness.get(f"/deliveries/{number}"))[1]
    assert "payload" not in (await harness.get(f"/deliveries/{number}?payload=0"))[1]
    status, receipt = await harness.get(f"/deliveries/{number}?payload=1")
    assert (status, receipt["id"]) == (200, number)
    assert receipt["payload"] == json.loads(BODY)


@pytest_twisted.ensureDeferred
async def test_the_payload_of_what_nobody_handles_is_not_kept(harness: Harness) -> None:
    number, _ = await harness.append("guid-1")
    status, receipt = await harness.get(f"/deliveries/{number}?payload=1")
    assert (status, receipt["payload"], receipt["handlings"]) == (200, None, [])


@pytest_twisted.ensureDeferred
async def test_a_payload_that_is_damaged_on_disk_is_said_to_be(harness: Harness, tmp_path: Path) -> None:
    number, _ = await harness.append("guid-1", "single:handle")
    with sqlite3.connect(tmp_path / "state" / "journal.sqlite3") as connection:
        connection.execute("UPDATE bodies SET body = substr(body, 1, length(body) - 8)")
    connection.close()
    assert (await harness.get(f"/deliveries/{number}"))[0] == 200
    status, answer = await harness.get(f"/deliveries/{number}?payload=1")
    assert (status, answer) == (500, {"error": f"the body of delivery {number} is damaged in the journal"})


@pytest_twisted.ensureDeferred
async def test_ref_changes_have_a_receipt_with_their_changes_as_payload(harness: Harness) -> None:
    change = RefChange(b"refs/heads/caf\xe9".decode("utf-8", "surrogateescape"), "0" * 40, "1" * 40, "created")
    appended = await harness.journal.announce(
        "octo/widget", [change], "backstop", None, RECEIVED, ["several:stackit_refs_changed"]
    )
    _, page = await harness.get("/deliveries?event=refs_changed")
    assert [each["id"] for each in page["deliveries"]] == [appended.id]
    _, receipt = await harness.get(f"/deliveries/{appended.id}?payload=1")
    assert receipt["delivery"] is None
    assert receipt["handlings"][0]["subscriber"] == "several:stackit_refs_changed"
    assert receipt["payload"]["changes"][0]["ref"] == "refs/heads/caf\udce9"


@pytest.mark.parametrize("number", ["999", "0", "x", "-1", "%D9%A1", "9" * 30, "1.0"])
@pytest_twisted.ensureDeferred
async def test_an_unknown_delivery_is_not_found(harness: Harness, number: str) -> None:
    for method, target in (("GET", f"/deliveries/{number}"), ("POST", f"/deliveries/{number}/replay")):
        status, answer = await harness.ask(method, target)
        assert status == 404
        assert "no such delivery" in answer["error"]


# -- listing ----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_deliveries_are_listed_newest_first_in_pages(harness: Harness) -> None:
    numbers = [(await harness.append(f"guid-{n}"))[0] for n in range(5)]
    seen: list[str] = []
    target = "/deliveries?limit=2"
    pages = 0
    while True:
        status, page = await harness.get(target)
        assert status == 200
        pages += 1
        seen += [each["id"] for each in page["deliveries"]]
        if page["next"] is None:
            break
        target = f"/deliveries?limit=2&cursor={page['next']}"
    assert seen == numbers[::-1]
    assert pages == 3


@pytest_twisted.ensureDeferred
async def test_every_filter_narrows_the_list(harness: Harness) -> None:
    push, (handling,) = await harness.append("guid-1", "single:handle")
    await harness.journal.fail(handling, at=RECEIVED, error="no", next_at=None)
    issue, _ = await harness.append("guid-2", "several:first", event="issues", action="opened", repo="other/one")
    for query, expected in (
        ("delivery=guid-1", [push]),
        ("event=issues", [issue]),
        ("repo=octo/WIDGET", [push]),
        ("state=dead", [push]),
        ("state=pending", [issue]),
        ("state=done", []),
        ("since=2026-11-23T18:43:29Z", [issue, push]),
        ("since=2026-11-23T19:43:29.5%2B01:00", []),
        ("until=2026-11-23T18:43:29.123Z", []),
        ("until=2026-11-23t18:43:29.124z", [issue, push]),
        ("since=1m", [issue, push]),
        ("since=59s", []),
        ("until=59s&event=issues", [issue]),
        ("subscriber=single", [push]),
        ("subscriber=single:handle", [push]),
        ("subscriber=several:first", [issue]),
        ("subscriber=single&state=pending", []),
        ("", [issue, push]),
    ):
        status, page = await harness.get(f"/deliveries?{query}")
        assert (status, [each["id"] for each in page["deliveries"]]) == (200, expected), query


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("limit=0", "limit: expected a whole number from 1 to 200"),
        ("limit=201", "limit:"),
        ("limit=-1", "limit:"),
        ("limit=x", "limit:"),
        ("limit=", "limit:"),
        ("state=broken", "state: expected one of pending, done, dead"),
        ("repo=widget", "repo: not a repository name"),
        ("repo=../x", "repo:"),
        ("cursor=nonsense", "cursor:"),
        ("cursor=", "cursor:"),
        ("event=", "event:"),
        ("delivery=a%20b", "delivery:"),
        ("subscriber=", "subscriber:"),
        ("subscriber=several", "name one: several:first, several:stackit_refs_changed"),
        ("stat=dead", "unknown parameter 'stat'; there is delivery, event,"),
        ("foo=", "unknown parameter 'foo'; there is"),
        ("since=yesterday", "since: expected a time such as 2026-11-23T18:43:29Z, or one ago, such as '90s'"),
        ("since=2026-11-23T18:43:29", "since: expected a time such as"),
        ("until=2026-13-23T18:43:29Z", "until: expected a time such as"),
        ("until=", "until: expected a time such as"),
        ("subscriber=singel", "there is no singel; there is several:first, several:stackit_refs_changed, single"),
        ("subscriber=single:typo&state=dead", "there is no single:typo; there is several:first,"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_filter_that_makes_no_sense_is_refused_with_the_reason(
    harness: Harness, query: str, reason: str
) -> None:
    status, answer = await harness.get(f"/deliveries?{query}")
    assert status == 400
    assert reason in answer["error"]


@pytest_twisted.ensureDeferred
async def test_what_is_dead_at_some_handler_is_found_also_while_another_is_pending(harness: Harness) -> None:
    both, (dying, _) = await harness.append("guid-1", "single:handle", "several:first")
    await harness.journal.fail(dying, at=RECEIVED, error="no", next_at=None)
    mixed, (done, gone) = await harness.append("guid-2", "single:handle", "several:first")
    await outcome(harness.journal.finish, done, at=RECEIVED)
    await harness.journal.fail(gone, at=RECEIVED, error="no", next_at=None)
    found = {}
    for state in ("pending", "dead", "done"):
        _, page = await harness.get(f"/deliveries?state={state}")
        found[state] = [each["id"] for each in page["deliveries"]]
    assert found == {"pending": [both], "dead": [mixed, both], "done": [mixed]}
    _, page = await harness.get("/deliveries?state=dead&subscriber=single")
    assert [(each["id"], each["state"]) for each in page["deliveries"]] == [(both, "pending")]


@pytest_twisted.ensureDeferred
async def test_a_subscriber_that_is_gone_is_known_while_something_of_it_is_kept(harness: Harness) -> None:
    number, (handling,) = await harness.append("guid-1", "gone:old")
    await harness.journal.fail(handling, at=RECEIVED, error="no", next_at=None)
    _, page = await harness.get("/deliveries?subscriber=gone:old&state=dead")
    assert [each["id"] for each in page["deliveries"]] == [number]
    assert await harness.post("/deliveries/replay?state=dead&subscriber=gone:old") == (200, {"replayed": 1})
    status, answer = await harness.post("/deliveries/replay?state=dead&subscriber=gone:odl")
    assert (status, "there is no gone:odl; there is gone:old, several:first" in answer["error"]) == (400, True)


@pytest_twisted.ensureDeferred
async def test_a_repository_that_nobody_knows_is_not_found(harness: Harness) -> None:
    await harness.append("guid-1", "single:handle", event="issues")
    change = RefChange("refs/heads/main", "0" * 40, "1" * 40, "created")
    await harness.journal.announce("octo/changed", [change], "backstop", None, RECEIVED, [])
    for known in ("octo/managed", "octo/widget&event=push", "octo/widget&since=1s", "octo/changed", "OCTO/Managed"):
        assert await harness.get(f"/deliveries?repo={known}") == (200, {"deliveries": [], "next": None}), known
    assert await harness.get("/deliveries?repo=octo/wigdet") == (
        404,
        {"error": "octo/wigdet is not managed, and there is no delivery of it", "deliveries": [], "next": None},
    )


@pytest_twisted.ensureDeferred
async def test_a_misspelt_parameter_is_refused_everywhere(harness: Harness) -> None:
    number, _ = await harness.append("guid-1", "single:handle")
    assert (await harness.get(f"/deliveries/{number}?payload=yes"))[0] == 400
    assert (await harness.get(f"/deliveries/{number}?body=1"))[0] == 400
    assert (await harness.post(f"/deliveries/{number}/replay?subscribers=single"))[0] == 400
    assert (await harness.post("/deliveries/replay?subscriber=single&state=dead&all=1"))[0] == 400


# -- replay -----------------------------------------------------------------------


async def _states(harness: Harness, number: EventId) -> dict[str, str]:
    _, receipt = await harness.get(f"/deliveries/{number}")
    return {each["subscriber"]: each["state"] for each in receipt["handlings"]}


@pytest_twisted.ensureDeferred
async def test_a_replay_goes_to_every_subscriber_that_had_the_delivery(harness: Harness) -> None:
    number, handlings = await harness.append("guid-1", "single:handle", "several:first")
    for handling in handlings:
        await outcome(harness.journal.finish, handling, at=RECEIVED)
    assert await harness.post(f"/deliveries/{number}/replay") == (200, {"id": number, "replayed": 2})
    assert await _states(harness, number) == {"single": "pending", "several:first": "pending"}


@pytest_twisted.ensureDeferred
async def test_a_replay_may_go_to_one_subscriber_also_to_one_that_is_new_or_gone(harness: Harness) -> None:
    number, handlings = await harness.append("guid-1", "single:handle", "gone:old")
    for handling in handlings:
        await outcome(harness.journal.finish, handling, at=RECEIVED)
    for name in ("gone:old", "several:first"):
        assert await harness.post(f"/deliveries/{number}/replay?subscriber={name}") == (
            200,
            {"id": number, "replayed": 1},
        )
    assert await _states(harness, number) == {"single": "done", "gone:old": "pending", "several:first": "pending"}


@pytest_twisted.ensureDeferred
async def test_a_replay_to_a_subscriber_that_never_was_is_refused_with_the_names_there_are(harness: Harness) -> None:
    number, _ = await harness.append("guid-1", "single:handle")
    status, answer = await harness.post(f"/deliveries/{number}/replay?subscriber=singel")
    assert status == 400
    assert "there is no singel; there is several:first, several:stackit_refs_changed, single" in answer["error"]
    assert await _states(harness, number) == {"single": "pending"}


@pytest_twisted.ensureDeferred
async def test_a_delivery_whose_body_is_not_kept_cannot_be_replayed(harness: Harness) -> None:
    number, _ = await harness.append("guid-1")
    status, answer = await harness.post(f"/deliveries/{number}/replay?subscriber=single")
    assert status == 409
    assert "cannot be replayed" in answer["error"]


@pytest_twisted.ensureDeferred
async def test_all_dead_letters_of_a_subscriber_are_replayed_and_nothing_else(harness: Harness) -> None:
    numbers = []
    for guid in ("guid-1", "guid-2"):
        number, (mine, other) = await harness.append(guid, "single:handle", "several:first")
        await harness.journal.fail(mine, at=RECEIVED, error="no", next_at=None)
        await harness.journal.fail(other, at=RECEIVED, error="no", next_at=None)
        numbers.append(number)
    assert await harness.post("/deliveries/replay?subscriber=single&state=dead") == (200, {"replayed": 2})
    for number in numbers:
        assert await _states(harness, number) == {"single": "pending", "several:first": "dead"}
    assert (await harness.post("/deliveries/replay?subscriber=nobody&state=dead"))[0] == 400
    assert await harness.post("/deliveries/replay?subscriber=single&state=dead") == (200, {"replayed": 0})


@pytest.mark.parametrize("query", ["", "subscriber=single", "state=dead", "subscriber=single&state=done"])
@pytest_twisted.ensureDeferred
async def test_a_replay_of_many_must_say_whose_and_which(harness: Harness, query: str) -> None:
    assert (await harness.post(f"/deliveries/replay?{query}"))[0] == 400


@pytest_twisted.ensureDeferred
async def test_a_replay_that_the_journal_cannot_write_is_asked_to_come_back(harness: Harness) -> None:
    number, _ = await harness.append("guid-1", "single:handle")
    await harness.journal.close()
    status, answer = await harness.post(f"/deliveries/{number}/replay")
    assert status == 503
    assert answer["error"]
