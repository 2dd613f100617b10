"""Secrets by which every node finds the one that knows what they are for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest_twisted
from peer_nodes import PeerFleet
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from stackit import AdminRequest, Response, Route
from stackit.peers.affinity import NodeAffinity
from stackit.peers.client import Wait

ASKED = AdminRequest(method="GET", path="/", args={}, query={}, body=b"", by="octocat", role="operator", client="::1")
PATH = "/nodes/question"


class Question(msgspec.Struct):
    text: str


def route(heard: list[AdminRequest], answer: Response = Response(body={"said": "yes"})) -> Route:  # noqa: B008
    def tell(request: AdminRequest) -> Response:
        heard.append(request)
        return answer

    return Route("POST", f"{{prefix}}{PATH}", tell, role="viewer")


@pytest_twisted.ensureDeferred
async def test_each_node_finds_the_one_that_marked_a_secret_and_no_other_mark_counts(fleet: PeerFleet) -> None:
    nodes = {name: (await fleet.start(name)).peers.affinity for name in ("a", "b", "c")}
    marked = nodes["a"].mark("login", "secret")
    assert marked.startswith("secret.")
    found = {name: each.elsewhere("login", marked) for name, each in nodes.items()}
    assert [found["a"], found["b"].name, found["c"].name] == [None, "a", "a"]  # type: ignore[union-attr]
    for wrong in (
        "secret",
        marked[:-1],
        f"{marked}x",
        f"x{marked}",
        marked.replace("secret", "secre"),
        "",
        ".",
        "\udcff.",
    ):
        assert nodes["b"].elsewhere("login", wrong) is None, wrong
    stranger = NodeAffinity(bytes(32), nodes=fleet.seen_from("a"), ask=fleet.nodes["a"].peers.ask, prefix="/api/v1")
    assert nodes["b"].elsewhere("login", stranger.mark("login", "secret")) is None


@pytest_twisted.ensureDeferred
async def test_what_was_marked_for_one_purpose_finds_no_node_for_another(fleet: PeerFleet) -> None:
    a, b = [(await fleet.start(name)).peers.affinity for name in ("a", "b")]
    marked = {purpose: a.mark(purpose, "secret") for purpose in ("login", "setup")}
    for purpose, other in (("login", "setup"), ("setup", "login")):
        found = b.elsewhere(purpose, marked[purpose])
        assert found is not None
        assert found.name == "a"
        assert b.elsewhere(other, marked[purpose]) is None


@pytest_twisted.ensureDeferred
async def test_a_node_that_takes_a_question_and_is_silent_gives_no_answer_in_time(fleet: PeerFleet) -> None:
    silent: Deferred[Response] = Deferred()
    await fleet.start("a", routes=[Route("POST", f"{{prefix}}{PATH}", lambda _: silent, role="viewer")])
    asking = (await fleet.start("b", wait=Wait(question=0.2))).peers
    answer = Deferred.fromCoroutine(asking.affinity.ask(fleet.map.nodes["a"], PATH, Question("who?"), ASKED))
    assert await answer.addTimeout(30, reactor) is None
    assert asking.counts["timeout"] == 1
    silent.callback(Response(body={}))


@pytest_twisted.ensureDeferred
async def test_a_node_is_asked_as_a_node_and_for_nobody_else(fleet: PeerFleet) -> None:
    heard: list[AdminRequest] = []
    await fleet.start("a", routes=[route(heard)])
    b = await fleet.start("b", routes=[route([])])
    asking: Any = b.peers.affinity
    answer = await asking.ask(fleet.map.nodes["a"], PATH, Question("who?"), ASKED)
    assert msgspec.json.decode(answer) == {"said": "yes"}
    (request,) = heard
    assert (request.via_node, request.by, request.role, request.client) == ("b", "octocat", "viewer", "::1")
    assert msgspec.json.decode(request.body) == {"text": "who?"}
    await b.server.ask("POST", f"/api/v1{PATH}", "Authorization: Bearer hunter2-hunter2", "X-Stackit-CSRF: 1")
    assert len(heard) == 1, "a request that comes from no node stays where it came"


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_away_or_refuses_gives_no_answer(fleet: PeerFleet) -> None:
    heard: list[AdminRequest] = []
    await fleet.start("a", routes=[route(heard, Response(status=404, body={"error": "no"}))])
    asking: Any = (await fleet.start("b")).peers.affinity
    assert await asking.ask(fleet.map.nodes["a"], PATH, Question("who?"), ASKED) is None
    fleet.map.change("a", state="away")
    assert await asking.ask(fleet.map.nodes["a"], PATH, Question("who?"), ASKED) is None
    assert len(heard) == 1
    fleet.map.change("a", state="up", address="http://127.0.0.1:1")
    assert await asking.ask(fleet.map.nodes["a"], PATH, Question("who?"), ASKED) is None
