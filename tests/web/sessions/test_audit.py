"""The audit: every change and every login has a line and an entry, bounded, without a secret."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest_twisted
from admin_server import CSRF, ECHO
from memory_journal import MemoryJournal
from shared_journals import SharedJournals
from twisted.internet import reactor
from twisted.internet.task import Clock
from waiting import until

from stackit import AdminRequest, Response, Route
from stackit.api.admin import Role
from stackit.config.login import LoginConfig
from stackit.web.admin import audit as audit_module
from stackit.web.admin.audit import Audit
from stackit.web.pages.audit import audit_page
from stackit.web.pages.site import Pages
from stackit.web.sessions.session import csrf_of

TOKEN = "the-token-of-operators"
BEARER = f"Authorization: Bearer {TOKEN}"
SYNC = "/api/v1/repos/octo/widget/sync"


@pytest_twisted.ensureDeferred
async def test_every_change_is_written_down_and_nothing_else(people: Any, token_file: Path) -> None:
    side = await people(token_file=token_file)
    await side.ask("GET", "/metrics", BEARER)
    await side.ask("POST", f"{SYNC}?accept=deletions", CSRF, BEARER)
    await side.ask("POST", "/no/such", CSRF, BEARER)
    await side.ask("POST", SYNC, BEARER)
    assert side.deeds == [("token", "POST", f"{SYNC}?accept=deletions", 200)]


@pytest_twisted.ensureDeferred
async def test_a_change_that_fails_is_written_down_too(people: Any, token_file: Path) -> None:
    def broken(_: AdminRequest) -> Response:
        raise RuntimeError("of no use")

    side = await people(token_file=token_file, routes=[Route("DELETE", "/broken", broken)])
    await side.ask("DELETE", "/broken", CSRF, BEARER)
    assert side.deeds == [("token", "DELETE", "/broken", 500)]


@pytest_twisted.ensureDeferred
async def test_logins_refused_logins_and_logouts_are_written_down_without_what_they_brought(
    people: Any, token_file: Path
) -> None:
    side = await people(token_file=token_file)
    await side.log_in("wrong-token-of-somebody")
    cookie = await side.cookie()
    await side.post("/logout", f"csrf={csrf_of(cookie.partition('=')[2])}", cookie)
    assert side.deeds == [
        ("127.0.0.1", "login refused", "/login", 403),
        ("token", "login", "/login", 303),
        ("token", "logout", "/logout", 303),
    ]
    assert {each.client for each in side.seen} == {"127.0.0.1"}
    assert "wrong-token" not in repr(side.seen)


@pytest_twisted.ensureDeferred
async def test_the_deed_of_a_page_is_written_down_as_the_route_that_it_calls_in_the_name_of_the_person(
    people: Any, token_file: Path
) -> None:
    async def act(request: AdminRequest) -> Response:
        done = await side.site.call(request, "POST", "/repos/octo/widget/sync", query={})
        assert (done.status, done.body["by"]) == (200, "token")
        return Response(status=303, headers={"Location": "/"})

    side = await people(token_file=token_file, routes=[*ECHO, Route("POST", "/act", act, form=True)])
    cookie = await side.cookie()
    assert (await side.post("/act", f"csrf={csrf_of(cookie.partition('=')[2])}", cookie)).status == 303
    assert side.deeds[1:] == [("token", "POST", SYNC, 200)]


@pytest_twisted.ensureDeferred
async def test_a_page_gets_no_further_than_the_one_who_asks_for_it(people: Any, token_file: Path) -> None:
    answers = []

    async def act(request: AdminRequest) -> Response:
        for method, path in (("GET", "/audit"), ("POST", "/repos/octo/widget/sync"), ("GET", "/no"), ("PUT", "/audit")):
            answers.append((await side.site.call(request, method, path)).status)
        return Response()

    side = await people(
        token_file=token_file, login=LoginConfig(anonymous="read"), routes=[*ECHO, Route("GET", "/p", act)]
    )
    await side.ask("GET", "/p")
    assert answers == [403, 403, 404, 405]
    assert side.deeds == [("127.0.0.1", "POST", SYNC, 403)]


@pytest_twisted.ensureDeferred
async def test_operators_page_through_it_and_it_outlasts_a_restart(
    people: Any, token_file: Path, journal: MemoryJournal
) -> None:
    side = await people(token_file=token_file, journal=journal)
    for number in range(5):
        await side.ask("POST", f"{SYNC}?n={number}", CSRF, BEARER)
    await side.audit.stop()
    side = await people(token_file=token_file, journal=journal)
    await side.ask("POST", f"{SYNC}?n=5", CSRF, BEARER)
    found, cursor = [], ""
    while cursor is not None:
        page = (await side.ask("GET", f"/api/v1/audit?limit=4{cursor and '&cursor=' + cursor}", BEARER)).json
        found += page["audit"]
        cursor = page["next"]
    assert [each["target"] for each in found] == [f"{SYNC}?n={number}" for number in (5, 4, 3, 2, 1, 0)]
    assert found[0]["by"] == "token"
    for query in ("limit=0", "limit=201", "limit=x", "cursor=x", "other=1"):
        assert (await side.ask("GET", f"/api/v1/audit?{query}", BEARER)).status == 400


@pytest_twisted.ensureDeferred
async def test_it_is_bounded_in_number_and_in_length(people: Any, token_file: Path, journal: MemoryJournal) -> None:
    side = await people(token_file=token_file, journal=journal)
    for number in range(audit_module.MOST + 5):
        side.audit.note(_request(f"/{number}"), 200)
    side.audit.note(_request("/" + "x" * 5000 + "\ud800"), 200)
    await side.audit.stop()
    kept = await journal.documents("audit")
    assert len(kept) == audit_module.MOST
    assert max(map(len, kept.values())) < 1000
    entries, _ = side.audit.page(None, audit_module.MOST)
    assert entries[-1].target == "/6"


@pytest_twisted.ensureDeferred
async def test_strangers_and_viewers_cannot_push_out_what_operators_did(
    people: Any, token_file: Path, journal: MemoryJournal
) -> None:
    side = await people(token_file=token_file, journal=journal)
    side.audit.note(_request("/done"), 200)
    for number in range(2 * audit_module.MOST):
        side.audit.note(_request(f"/{number}"), 403 if number % 2 else 404)
    await side.audit.stop()
    side = await people(token_file=token_file, journal=journal)
    for _ in range(audit_module.MOST):
        side.audit.note(_request("/", role="viewer"), 303)
    entries, _ = side.audit.page(None, 2 * audit_module.MOST)
    assert len(entries) == audit_module.MOST
    assert entries[-1].target == "/done"
    for _ in range(audit_module.MOST - audit_module.MOST_OF_OTHERS):
        side.audit.note(_request("/later"), 200)
    entries, _ = side.audit.page(None, 2 * audit_module.MOST)
    assert [each.role for each in entries].count("viewer") == audit_module.MOST_OF_OTHERS


@pytest_twisted.ensureDeferred
async def test_a_stranger_who_may_look_does_not_fill_the_audit(people: Any, token_file: Path) -> None:
    route = Route("DELETE", "/own", lambda _: Response(status=409), role="viewer")
    side = await people(token_file=token_file, login=LoginConfig(anonymous="read"), routes=[*ECHO, route])
    for _ in range(3):
        assert (await side.post("/logout", "")).status == 303
    assert side.deeds == [], "who has no session changes nothing"
    for _ in range(35):
        assert (await side.ask("DELETE", "/own", CSRF)).status == 409
    assert len(side.deeds) == 30
    assert (await side.ask("DELETE", "/own", CSRF, BEARER)).status == 409
    assert len(side.deeds) == 31


@pytest_twisted.ensureDeferred
async def test_who_is_not_known_behind_a_proxy_goes_by_their_own_address(people: Any) -> None:
    side = await people(client_of=lambda _: "203.0.113.5")
    assert (await side.ask("POST", SYNC, CSRF)).json["by"] == "203.0.113.5"
    assert side.deeds == [("203.0.113.5", "POST", SYNC, 200)]


def _request(path: str, role: Role = "operator") -> AdminRequest:
    return AdminRequest(method="POST", path=path, args={}, query={}, body=b"", by="x", role=role)


@pytest_twisted.ensureDeferred
async def test_its_page_shows_operators_what_was_done_as_text(people: Any, token_file: Path) -> None:
    pages = Pages(
        [audit_page()],
        reactor=reactor,
        now=lambda: 1_000_000.0,
        prefix="/api/v1",
        call=lambda *given, **named: side.site.call(*given, **named),  # noqa: PLW0108 - it is made later
    )
    login = LoginConfig(anonymous="read")
    side = await people(token_file=token_file, login=login, routes=[*ECHO, *pages.routes()])
    side.audit.note(_request("/<script>alert(1)</script>"), 200)
    page = await side.ask("GET", "/audit", BEARER)
    assert page.status == 200
    assert b"&lt;script&gt;alert(1)" in page.body
    refused = await side.ask("GET", "/audit")
    assert refused.status == 403
    assert b"alert(1)" not in refused.body


@pytest_twisted.ensureDeferred
async def test_what_could_not_be_read_at_the_start_comes_before_what_was_written_down_since() -> None:
    journal, clock = MemoryJournal(reactor), [1_000.0]

    def audit() -> Audit:
        return Audit(journal, now=lambda: clock[0], observe=lambda _: None, redact=str, reactor=Clock())

    def request(by: str) -> AdminRequest:
        return AdminRequest(method="POST", path="/x", args={}, query={}, body=b"", by=by)

    first = audit()
    for _ in range(3):
        first.note(request("before"), 200)
    await first.stop()
    clock[0] += 60
    second = audit()
    second.note(request("since"), 200)  # the journal could not be opened yet
    second.load()
    await second.stop()
    third = audit()
    third.load()
    for each in (second, third):
        assert [entry.by for entry in each.page(None, 9)[0]] == ["since", "before", "before", "before"]


def _has_entries(side: Any, count: int) -> bool:
    return len(side.audit.page(None, 9)[0]) == count


@pytest_twisted.ensureDeferred
async def test_every_node_of_a_fleet_has_the_audit_of_all(people: Any, token_file: Path) -> None:
    journals = SharedJournals(reactor)
    a, b = [await people(token_file=token_file, journal=journals.node(), shared=True, node=name) for name in "ab"]
    for count, side in enumerate((a, b, a), 1):
        cookie = f"Cookie: __Host-stackit={(await side.cookie()).partition('=')[2]}"
        for each in (a, b):
            await until(partial(_has_entries, each, count), "what is written down to be known everywhere")
    answers = [(await side.ask("GET", "/api/v1/audit?limit=2", cookie)).json for side in (a, b)]
    assert answers[0] == answers[1]
    following = answers[0]["next"]
    assert following.endswith(".b")
    rest = (await b.ask("GET", f"/api/v1/audit?cursor={following}", cookie)).json["audit"]
    assert [each["node"] for each in [*answers[0]["audit"], *rest]] == ["a", "b", "a"]
    assert (await b.ask("GET", "/api/v1/audit?cursor=000001000000.b/", cookie)).status == 400


WHOLE = '{"id":"%s","at":1,"by":"x","role":"operator","action":"","target":"","client":"","status":1}'
STRANGE = {
    "0001": b"{}",
    "not-a-number.b": (WHOLE % "not-a-number.b").encode(),
    "000000007001.b": (WHOLE % "000000007002.b").encode(),
    "000000007003.b": b'{"by": "\xff',
}


@pytest_twisted.ensureDeferred
async def test_an_entry_that_is_none_keeps_no_node_from_following_the_others() -> None:
    journals, said = SharedJournals(reactor), list[str | None]()

    def audit(node: str) -> Audit:
        return Audit(
            journals.node(),
            now=lambda: 1_000.0,
            observe=lambda each: said.append(each.reason) if each.name == "notice" else None,
            redact=str,
            reactor=reactor,
            node=node,
        )

    def has(audit: Audit, number: int) -> bool:
        return len(audit.page(None, 9)[0]) == number

    def told(number: int) -> bool:
        return len(said) == number

    a, b = audit("a"), audit("b")
    journal = journals.node()
    for number, rest in enumerate(({}, {"000000007004.b": b"[]"})):
        await journal.put("audit", {**STRANGE, **rest})
        b.note(AdminRequest(method="POST", path="/x", args={}, query={}, body=b"", by="octo"), 200)
        await until(partial(has, a, number + 1), "the entry")
        await until(partial(told, 2 * number + 2), "the lines")
    assert set(said) == {
        "4 entries of the audit cannot be read, '000000007001.b' among them: they may be of a newer node",
        "1 entry of the audit cannot be read, '000000007004.b' among them: they may be of a newer node",
    }
    again = audit("a")
    again.load()
    assert has(again, 2)
    assert said[4:] == [
        "5 entries of the audit cannot be read, '000000007001.b' among them: they stay in the journal, for they may be "
        "of a newer node"
    ]
    for each in (a, b, again):
        await each.stop()
    assert STRANGE.keys() <= (await journal.documents("audit")).keys()


@pytest_twisted.ensureDeferred
async def test_an_entry_that_is_none_keeps_no_stackit_from_its_start() -> None:
    journal, said = MemoryJournal(reactor), list[str | None]()
    await journal.put("audit", STRANGE)
    audit = Audit(
        journal, now=lambda: 1_000.0, observe=lambda each: said.append(each.reason), redact=str, reactor=Clock()
    )
    audit.load()
    assert said == ["4 entries of the audit cannot be read, '000000007001.b' among them: they are removed"]
    await audit.stop()
    assert await journal.documents("audit") == {}
