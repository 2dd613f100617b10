"""Requests that another node answers: who asks, what comes back, and what is said where no answer comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from admin_server import CSRF
from certificates import Authority, server_options
from peer_nodes import BEARER, TOKEN, WIDGET, PeerFleet
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

from stackit import AdminRequest, Response, Route
from stackit.http.server.site import Limits
from stackit.peers.client import Wait


class Says(Protocol):
    """Answers anything with the same bytes."""

    transport: Any

    def __init__(self, said: bytes) -> None:
        self._said = said

    def dataReceived(self, _data: bytes) -> None:
        self.transport.write(self._said)
        self.transport.loseConnection()


FULL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
SYNC = "/api/v1/repos/octo/widget/sync"
ONE = "/api/v1/repos/octo/widget"
ASKED = AdminRequest(method="GET", path="/", args={}, query={}, body=b"", by="octocat", role="operator", client="::1")


async def pair(fleet: PeerFleet, **more: Any) -> tuple[Any, Any]:
    """Two nodes; the mirror of octo/widget is at the second, which does not lead."""
    a, b = await fleet.start("a", **more), await fleet.start("b", **more)
    fleet.map.homes[WIDGET.key] = "b"
    return a, b


@pytest_twisted.ensureDeferred
async def test_any_node_answers_with_what_the_one_with_the_mirror_says(fleet: PeerFleet) -> None:
    a, b = await pair(fleet)
    answer = await a.server.ask("POST", f"{SYNC}?accept=deletions&accept=de%20l", BEARER, CSRF, body=b'{"x": 1}')
    assert answer.status == 200
    assert answer.json == {
        "node": "b",
        "args": {"owner": "octo", "name": "widget"},
        "query": {"accept": "de l"},
        "body": '{"x": 1}',
        "by": "STACKIT_API_TOKEN",
        "role": "operator",
        "client": "127.0.0.1",
        "session": "",
    }
    assert answer.headers["x-answered-by"] == "b"
    assert answer.headers["cache-control"] == "no-store"
    assert not [name for name in answer.headers if name.startswith("x-stackit-node")]
    local = await b.server.ask("POST", SYNC, BEARER, CSRF)
    assert (local.status, local.json["by"], local.json["node"]) == (200, answer.json["by"], "b")
    assert len(a.asked) == 0
    assert len(b.asked) == 2


@pytest_twisted.ensureDeferred
async def test_a_long_query_and_a_large_body_arrive(fleet: PeerFleet) -> None:
    a, _ = await pair(fleet)
    body, text = b"x" * 65_000, "%C3%A9 ".replace(" ", "%20") * 800
    answer = await a.server.ask("POST", f"{SYNC}?accept={text}", BEARER, CSRF, body=body)
    assert answer.status == 200
    assert answer.json["query"] == {"accept": "é " * 800}
    assert len(answer.json["body"]) == 65_000


@pytest_twisted.ensureDeferred
async def test_what_gets_too_long_on_the_way_is_refused_as_that_or_left_behind(fleet: PeerFleet) -> None:
    a, b = await pair(fleet)
    answer = await a.server.ask("POST", f"{SYNC}?accept={'|' * 7000}", BEARER, CSRF)
    assert (answer.status, answer.json["error"]) == (
        414,
        f"node b at {b.node.address} cannot be asked this: the path and the query are too long; see stackit fleet",
    )
    answer = await a.server.ask("POST", SYNC, BEARER, CSRF, f"Last-Event-ID: {'y' * 5000}")
    assert answer.status == 200
    assert [each.last_event_id for each in b.asked] == [""]
    assert (a.peers.counts["too_long"], a.peers.counts["stranger"]) == (1, 0)


@pytest_twisted.ensureDeferred
async def test_it_is_written_down_once_where_the_person_asked(fleet: PeerFleet) -> None:
    a, b = await pair(fleet)
    await a.server.ask("POST", SYNC, BEARER, CSRF)
    assert [status for _, status in a.noted] == [200]
    assert b.noted == []


@pytest_twisted.ensureDeferred
async def test_the_leader_answers_what_is_done_once_and_any_node_the_rest(fleet: PeerFleet) -> None:
    a, b = await pair(fleet)
    assert (await b.server.ask("POST", "/api/discover?dry_run=1", BEARER, CSRF)).json["node"] == "a"
    assert (await b.server.ask("POST", "/api/anywhere", BEARER, CSRF)).json["node"] == "b"
    fleet.map.leader = "b"
    assert (await b.server.ask("POST", "/api/discover", BEARER, CSRF)).json["node"] == "b"
    assert (await a.server.ask("POST", "/api/discover", BEARER, CSRF)).json["node"] == "b"
    fleet.map.leader = "nobody"
    nobody = await a.server.ask("POST", "/api/discover", BEARER, CSRF)
    assert (nobody.status, nobody.headers["retry-after"]) == (503, "1")
    assert "stackit fleet" in nobody.json["error"]


@pytest_twisted.ensureDeferred
async def test_a_page_asks_the_other_node_as_its_person_and_gets_values(fleet: PeerFleet) -> None:
    a, b = await pair(fleet)
    shown = await a.site.call(ASKED, "GET", "/repos/octo/widget")
    assert (shown.status, shown.body["node"], shown.body["by"]) == (200, "b", "octocat")
    viewer = msgspec.structs.replace(ASKED, role="viewer")
    assert (await a.site.call(viewer, "GET", "/repos/octo/widget")).body["role"] == "viewer"
    assert (await a.site.call(viewer, "POST", "/repos/octo/widget/sync")).status == 403
    assert len(b.asked) == 2


@pytest_twisted.ensureDeferred
async def test_what_is_refused_here_is_asked_nowhere(fleet: PeerFleet) -> None:
    a, b = await pair(fleet)
    for status, headers, path in (
        (401, (CSRF,), SYNC),
        (403, (BEARER,), SYNC),
        (400, (BEARER, CSRF), f"{SYNC}?all=1"),
        (404, (BEARER, CSRF), f"{SYNC}/x"),
    ):
        assert (await a.server.ask("POST", path, *headers)).status == status
    assert b.asked == []


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_read_only_changes_nothing_for_others_either(fleet: PeerFleet) -> None:
    a = await fleet.start("a")
    b = await fleet.start("b", read_only=True)
    fleet.map.homes[WIDGET.key] = "b"
    assert (await a.server.ask("POST", SYNC, BEARER, CSRF)).status == 405
    assert (await a.server.ask("GET", ONE, BEARER)).status == 200
    assert len(b.asked) == 1


@pytest_twisted.ensureDeferred
async def test_head_brings_no_body(fleet: PeerFleet) -> None:
    a, b = await pair(fleet)
    answer = await a.server.ask("HEAD", ONE, BEARER)
    assert (answer.status, answer.body, answer.headers["x-answered-by"]) == (200, b"", "b")
    assert len(b.asked) == 1


@pytest_twisted.ensureDeferred
async def test_a_client_is_sent_to_the_other_node_where_that_is_wished_and_pages_are_not(fleet: PeerFleet) -> None:
    a, b = await pair(fleet, redirects=True)
    answer = await a.server.ask("POST", f"{SYNC}?accept=deletions", BEARER, CSRF)
    assert answer.status == 307
    assert answer.headers["location"] == f"{b.node.address}{SYNC}?accept=deletions"
    assert TOKEN not in str(answer)
    assert a.noted == []
    assert (await a.site.call(ASKED, "GET", "/repos/octo/widget")).body["node"] == "b"
    shell = await a.server.ask("POST", SYNC, BEARER, CSRF, "X-Stackit-No-Redirect: 1")
    assert (shell.status, shell.json["node"]) == (200, "b")


@pytest_twisted.ensureDeferred
async def test_a_node_answers_to_the_name_by_which_others_send_people_to_it(fleet: PeerFleet) -> None:
    named = await fleet.start("a", address="https://node-a.example.org:8443")
    assert (await named.server.ask("GET", ONE, BEARER, host="node-a.example.org:8443")).status != 421
    assert (await named.server.ask("GET", ONE, BEARER, host="evil.example.org")).status == 421


@pytest.mark.parametrize("state", ["away", "unreachable", "nowhere", "here"])
@pytest_twisted.ensureDeferred
async def test_a_node_that_cannot_answer_is_named_in_one_line(fleet: PeerFleet, state: str) -> None:
    a, b = await pair(fleet)
    if state == "away":
        fleet.map.change("b", state="away")
    elif state == "unreachable":
        fleet.map.change("b", address="http://127.0.0.1:1")
    elif state == "nowhere":
        fleet.map.homes.clear()
    else:
        a.seen.homes = {WIDGET.key: "a"}
        fleet.map.homes[WIDGET.key] = "a"
        a.seen.is_here = lambda _: False  # it was here by name, and is not yet again
    answer = await a.server.ask("GET", ONE, BEARER)
    assert answer.status == (502 if state in ("away", "unreachable") else 503)
    assert "\n" not in answer.json["error"]
    assert "stackit fleet" in answer.json["error"]
    if answer.status == 502:
        assert "node b" in answer.json["error"]
    assert b.asked == []


@pytest_twisted.ensureDeferred
async def test_a_node_that_gives_no_answer_in_time_is_a_504_to_who_only_looks(fleet: PeerFleet) -> None:
    silent: Deferred[Response] = Deferred()

    slow = Route("GET", "{prefix}/slow/{owner}/{name}", lambda _: silent, node="mirror")
    a, _ = await pair(fleet, routes=[slow], wait=Wait(answer=0.2))
    answer = await a.server.ask("GET", "/api/slow/octo/widget", BEARER)
    assert answer.status == 504
    assert "node b" in answer.json["error"]
    silent.callback(Response(body={}))


@pytest_twisted.ensureDeferred
async def test_a_change_waits_for_as_long_as_its_node_is_there(fleet: PeerFleet) -> None:
    """A first clone takes hours, and a node that is gone takes none."""
    waiting: list[Deferred[Response]] = []

    def wait(_: AdminRequest) -> Any:
        waiting.append(Deferred())
        return waiting[-1]

    slow = Route("POST", "{prefix}/slow/{owner}/{name}", wait, node="mirror")
    a, _ = await pair(fleet, routes=[slow], wait=Wait(answer=0.05))
    for is_gone in (False, True):
        asking = Deferred.fromCoroutine(a.server.ask("POST", "/api/slow/octo/widget", BEARER, CSRF))
        while len(waiting) < 1 + is_gone:
            await deferLater(reactor, 0.01)
        await deferLater(reactor, 0.2)
        assert not asking.called
        if is_gone:
            fleet.map.change("b", state="away")
        else:
            waiting[0].callback(Response(body={"done": True}))
        answer = await asking
        assert answer.status == (502 if is_gone else 200)
        assert not is_gone or "went away" in answer.json["error"]
    waiting[1].callback(Response(body={}))


@pytest_twisted.ensureDeferred
async def test_what_has_moved_meanwhile_is_not_passed_on_again(fleet: PeerFleet) -> None:
    a, b = await pair(fleet)
    b.seen.homes = {WIDGET.key: "a"}  # each takes the other one for its home
    answer = await a.server.ask("GET", ONE, BEARER)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert "has just moved" in answer.json["error"]
    assert (a.asked, b.asked) == ([], [])


@pytest_twisted.ensureDeferred
async def test_a_node_that_was_started_anew_is_asked_again_and_does_it_once(fleet: PeerFleet) -> None:
    a, b = await pair(fleet)
    behind = b.node
    fleet.map.change("b", incarnation=77)
    a.seen.home = lambda _: behind
    assert (await a.server.ask("POST", SYNC, BEARER, CSRF)).json["node"] == "b"
    assert len(b.asked) == 1


@pytest_twisted.ensureDeferred
async def test_a_node_that_has_too_much_to_do_says_so_itself(fleet: PeerFleet) -> None:
    waiting: list[Deferred[Response]] = []

    def wait(_: AdminRequest) -> Any:
        waiting.append(Deferred())
        return waiting[-1]

    slow = Route("POST", "{prefix}/slow/{owner}/{name}", wait, node="mirror")
    a = await fleet.start("a", routes=[slow])
    await fleet.start("b", routes=[slow], limits_of_site=Limits(connections=4))
    fleet.map.homes[WIDGET.key] = "b"
    first = Deferred.fromCoroutine(a.server.ask("POST", "/api/slow/octo/widget", BEARER, CSRF))
    while not waiting:
        await deferLater(reactor, 0.01)
    second = await a.server.ask("POST", "/api/slow/octo/widget", BEARER, CSRF)
    assert second.status == 503
    assert "too many requests of this kind" in second.json["error"], "its own words, which are proven"
    waiting[0].callback(Response(body={"done": True}))
    assert (await first).json == {"done": True}


@pytest_twisted.ensureDeferred
async def test_a_site_that_turns_away_is_taken_for_no_stranger(fleet: PeerFleet) -> None:
    a, _ = await pair(fleet)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(lambda: Says(FULL)))
    fleet.map.change("b", address=f"http://127.0.0.1:{port.getHost().port}")
    answer = await a.server.ask("GET", ONE, BEARER)
    await port.stopListening()
    assert answer.status == 503
    assert "node b" in answer.json["error"]
    assert "too much to do" in answer.json["error"]


@pytest_twisted.ensureDeferred
async def test_an_address_that_leads_to_another_node_is_told_and_nothing_is_done_there(fleet: PeerFleet) -> None:
    a, b = await pair(fleet)
    c = await fleet.start("c")
    fleet.map.change("b", address=c.node.address)
    answer = await a.server.ask("POST", SYNC, BEARER, CSRF)
    assert answer.status == 502
    assert "the address of node b leads to node c" in answer.json["error"]
    assert (b.asked, c.asked) == ([], [])


@pytest_twisted.ensureDeferred
async def test_clocks_that_are_far_apart_are_told(fleet: PeerFleet) -> None:
    a, b = await pair(fleet)
    for apart in (-3600.0, 3600.0):
        fleet.clocks["b"] = apart
        answer = await a.server.ask("GET", ONE, BEARER)
        assert answer.status == 502
        assert "3600 s apart" in answer.json["error"]
    fleet.clocks["b"] = 20.0
    assert (await a.server.ask("GET", ONE, BEARER)).status == 200
    assert len(b.asked) == 1


@pytest_twisted.ensureDeferred
async def test_a_node_of_another_fleet_is_neither_served_nor_believed(fleet: PeerFleet) -> None:
    a, b = await fleet.start("a"), await fleet.start("b", key=b"another key of thirty-two bytes!")
    fleet.map.homes[WIDGET.key] = "b"
    answer = await a.server.ask("GET", ONE, BEARER)
    assert answer.status == 502
    assert "does not know the key of this fleet" in answer.json["error"]
    assert b.asked == []


@pytest_twisted.ensureDeferred
async def test_what_is_no_stackit_is_not_believed(fleet: PeerFleet) -> None:
    body = b'{"state": "in_step"}'
    said = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    a, _ = await pair(fleet)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(lambda: Says(said)))
    fleet.map.change("b", address=f"http://127.0.0.1:{port.getHost().port}")
    answer = await a.server.ask("GET", ONE, BEARER)
    await port.stopListening()
    assert answer.status == 502
    assert "in_step" not in answer.body.decode()


@pytest_twisted.ensureDeferred
async def test_over_tls_the_certificate_of_the_node_has_to_be_trusted(fleet: PeerFleet, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    options = server_options(*authority.issue("node"))
    knows, b = await fleet.start("a", ca=authority.ca), await fleet.start("b", certificate=options)
    (tmp_path / "other").mkdir()
    stranger = await fleet.start("c", ca=Authority(tmp_path / "other").ca)
    fleet.map.homes[WIDGET.key] = "b"
    assert (await knows.server.ask("GET", ONE, BEARER)).json["node"] == "b"
    answer = await stranger.server.ask("GET", ONE, BEARER)
    assert answer.status == 502
    assert "certificate" in answer.json["error"]
    assert "ca_file" in answer.json["error"]
    assert len(b.asked) == 1


@pytest_twisted.ensureDeferred
async def test_a_node_that_forwards_a_change_answers_when_it_knows_of_it_or_after_a_second(fleet: PeerFleet) -> None:
    heard: list[tuple[str, int, bytes]] = []
    known: Deferred[None] = Deferred()

    async def follow(request: AdminRequest, response: Response) -> None:
        assert isinstance(response.body, bytes)
        heard.append((request.path, response.status, response.body))
        if request.query.get("how") == "fails":
            raise ValueError("not this one")
        await (known if request.query.get("how") == "soon" else Deferred())

    def change(request: AdminRequest) -> Response:
        return Response(status=409 if request.query.get("how") == "refused" else 201, body={"done": True})

    route = Route("POST", "{prefix}/change", change, node="leader", forwarded=follow)
    b = (await fleet.start("a", routes=[route]), await fleet.start("b", routes=[route]))[1]
    asking = Deferred.fromCoroutine(b.server.ask("POST", "/api/v1/change?how=soon", BEARER, CSRF))
    while not heard:
        await deferLater(reactor, 0.01)
    assert not asking.called
    known.callback(None)
    assert (await asking).status == 201
    assert heard == [("/api/v1/change", 201, b'{"done": true}\n')]
    for how, status, times in (("never", 201, 2), ("fails", 201, 3), ("refused", 409, 3)):
        assert (await b.server.ask("POST", f"/api/v1/change?how={how}", BEARER, CSRF)).status == status
        assert len(heard) == times
    assert (await fleet.nodes["a"].server.ask("POST", "/api/v1/change", BEARER, CSRF)).status == 201
    assert len(heard) == 3, "the node that made the change knows of it"
