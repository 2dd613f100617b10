"""Answers that another node writes bit by bit: they come as they are written, and end as theirs do."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from peer_nodes import BEARER, WIDGET, PeerFleet
from twisted.internet import reactor
from twisted.internet.task import deferLater
from waiting import until

from stackit import AdminRequest, Response, Route
from stackit.api.admin import BodyStream
from stackit.peers.client import Wait

GET = f"GET /api/flow/octo/widget HTTP/1.1\r\nHost: localhost\r\n{BEARER}\r\nLast-Event-ID: e-7\r\n\r\n".encode()
LAST = b"0\r\n\r\n"
LONG = 3.0
"""Seconds in which a head comes also on a busy machine."""


class Flows:
    """A route at the node with the mirror; ``streams`` are what it writes to."""

    def __init__(self) -> None:
        self.streams: list[BodyStream] = []
        self.ends: list[str] = []
        self.requests: list[AdminRequest] = []

    def begin(self, request: AdminRequest) -> Response:
        def write(stream: BodyStream) -> None:
            self.streams.append(stream)
            stream.when_ended(self.ends.append)
            stream.write(b"first")

        self.requests.append(request)
        return Response(content_type="text/plain", headers={"X-Accel-Buffering": "no"}, stream=write)

    async def opened(self, fleet: PeerFleet, wait: Wait = Wait()) -> Any:  # noqa: B008 - frozen
        """A client whose stream has begun."""
        route = Route("GET", "{prefix}/flow/{owner}/{name}", self.begin, node="mirror")
        for name in ("a", "b"):
            await fleet.start(name, routes=[route], wait=wait)
        fleet.map.homes[WIDGET.key] = "b"
        reader = await fleet.nodes["a"].server.connect()
        reader.transport.write(GET)
        await until(lambda: reader.received.endswith(b"first\r\n"))
        return reader


@pytest_twisted.ensureDeferred
async def test_what_is_written_there_comes_at_once(fleet: PeerFleet) -> None:
    flows = Flows()
    reader = await flows.opened(fleet, Wait(answer=LONG, body=LONG))
    head = reader.received.partition(b"\r\n\r\n")[0].decode()
    assert "Content-Type: text/plain" in head
    assert "X-Accel-Buffering: no" in head
    assert flows.requests[0].last_event_id == "e-7"
    await deferLater(reactor, LONG + 0.5)  # a stream has no time limit
    flows.streams[0].write(b"second")
    await until(lambda: b"second" in reader.received)
    flows.streams[0].finish()
    await reader.lost
    assert reader.received.endswith(LAST)
    assert flows.ends == ["finished"]


@pytest_twisted.ensureDeferred
async def test_what_breaks_there_breaks_here_and_is_not_taken_for_whole(fleet: PeerFleet) -> None:
    flows = Flows()
    reader = await flows.opened(fleet)
    flows.streams[0].break_off()
    await reader.lost
    assert not reader.received.endswith(LAST)


@pytest_twisted.ensureDeferred
async def test_it_ends_there_when_the_client_hangs_up_here(fleet: PeerFleet) -> None:
    flows = Flows()
    reader = await flows.opened(fleet)
    reader.transport.loseConnection()
    await until(lambda: flows.ends == ["closed"])


@pytest_twisted.ensureDeferred
async def test_it_ends_when_the_node_goes_away(fleet: PeerFleet) -> None:
    flows = Flows()
    reader = await flows.opened(fleet)
    fleet.map.change("b", state="away")
    await reader.lost
    assert not reader.received.endswith(LAST)
    await until(lambda: flows.ends == ["closed"])


@pytest_twisted.ensureDeferred
async def test_a_client_that_does_not_read_holds_up_the_writer_there(fleet: PeerFleet) -> None:
    flows = Flows()
    reader = await flows.opened(fleet)
    paused: list[bool] = []
    flows.streams[0].pace(lambda: paused.append(True), lambda: paused.append(False))
    reader.transport.pauseProducing()
    sent = 0
    while not paused or not paused[-1]:
        flows.streams[0].write(b"x" * 2**16)
        sent += 2**16
        assert sent < 2**26, "nobody was told to wait"
        await deferLater(reactor, 0)
    reader.transport.resumeProducing()
    await until(lambda: paused[-1] is False)
    flows.streams[0].finish()
    await reader.lost
    assert reader.received.count(b"x") >= sent
    assert reader.received.endswith(LAST)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest_twisted.ensureDeferred
async def test_a_stream_that_nobody_reads_ends(fleet: PeerFleet, method: str) -> None:
    flows = Flows()
    await flows.opened(fleet, Wait(body=0.1))
    a = fleet.nodes["a"]
    asked = AdminRequest(method=method, path="/api/v1/flow/octo/widget", args={}, query={}, body=b"", by="octocat")
    answer = await a.peers.ask(fleet.nodes["b"].node, asked)
    assert answer.status == 200
    assert (answer.stream is None) is (method == "HEAD")
    await until(lambda: flows.ends == ["closed"])
    assert flows.streams[0] is not flows.streams[-1]
