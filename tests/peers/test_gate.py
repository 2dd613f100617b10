"""Attacks on the gate for other nodes: whatever a stranger sends, or sends again, nothing is done."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import pytest_twisted
from admin_server import CSRF, Answer
from hypothesis import given
from hypothesis import strategies as st
from log_capture import lines_logged
from peer_nodes import KEY, PeerFleet, PeerNode
from peer_nodes import WIDGET as REPO

from stackit.peers.claims import Claims, Keys, digest_of

SYNC = "/api/v1/repos/octo/widget/sync"
BODY = b'{"x": 1}'
KEYS = Keys(KEY)


def claims(node: PeerNode, **other: Any) -> Claims:
    """What a node says of ``POST SYNC`` with ``BODY``, but for what is other."""
    said = Claims(
        node="a",
        to="b",
        incarnation=node.node.incarnation,
        method="POST",
        path=digest_of(SYNC.encode()),
        query=digest_of(b"accept=deletions"),
        body=digest_of(BODY),
        at=1000.0,
        once="never before",
        by="octocat",
        role="operator",
    )
    return msgspec.structs.replace(said, **other)


async def alone(fleet: PeerFleet) -> PeerNode:
    """A node with the mirror of octo/widget."""
    fleet.map.homes[REPO.key] = "b"
    return await fleet.start("b")


async def send(node: PeerNode, header: str, *more: str, query: str = "?accept=deletions", body: bytes = BODY) -> Answer:
    return await node.server.ask("POST", f"{SYNC}{query}", f"Authorization: {header}", *more, body=body)


@pytest_twisted.ensureDeferred
async def test_what_a_node_says_is_done_once(fleet: PeerFleet) -> None:
    node = await alone(fleet)
    header = KEYS.sign(claims(node))
    first = await send(node, header)
    assert (first.status, first.json["by"]) == (200, "octocat")
    again = await send(node, header)
    assert again.status == 401
    assert "was here before" in again.json["error"]
    assert len(node.asked) == 1


@pytest.mark.parametrize(
    ("other", "status"),
    [
        ({"method": "GET"}, 401),
        ({"path": digest_of(b"/api/v1/repos/octo/gadget/sync")}, 401),
        ({"path": digest_of(SYNC.replace("v1/", "").encode())}, 401),
        ({"path": SYNC}, 401),
        ({"query": digest_of(b"")}, 401),
        ({"body": digest_of(b"")}, 401),
        ({"body": ""}, 401),
        ({"at": 1000.0 - 61}, 401),
        ({"at": 1000.0 + 61}, 401),
        ({"incarnation": 99}, 421),
        ({"to": "c"}, 421),
        ({"role": "viewer"}, 403),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_was_said_of_another_request_counts_for_none(
    fleet: PeerFleet, other: dict[str, Any], status: int
) -> None:
    node = await alone(fleet)
    assert (await send(node, KEYS.sign(claims(node, **other)))).status == status
    assert node.asked == []


@pytest.mark.parametrize("key", [bytes(32), KEY[::-1], KEY + b"\0"])
@pytest_twisted.ensureDeferred
async def test_another_key_opens_nothing_and_neither_does_a_proof_of_another_kind(fleet: PeerFleet, key: bytes) -> None:
    node = await alone(fleet)
    said = KEYS.sign(claims(node)).rpartition(".")[0]
    ticket = node.peers.tickets.make(REPO.key, node.node.incarnation)
    with lines_logged() as lines:
        for header in (
            Keys(key).sign(claims(node)),
            said,
            f"{said}.",
            f"{said}.{'0' * 64}",
            f"{said}.{KEYS.prove('never before', b'')}",
            f"{said}.{ticket.rpartition('-')[2]}",
            "Stackit-Node",
            "stackit-node .",
            f"Bearer {ticket}",
        ):
            assert (await send(node, header, CSRF)).status == 401, header
    assert node.asked == []
    assert "admin request refused client=127.0.0.1 status=401 reason=node" in lines
    assert KEY.hex() not in " ".join(lines)
    assert repr(KEYS) == "Keys()"


def test_a_key_that_is_no_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="too short"):
        Keys(b"")


@pytest_twisted.ensureDeferred
async def test_two_headers_and_a_token_beside_it_are_no_way_in(fleet: PeerFleet) -> None:
    node = await alone(fleet)
    header = KEYS.sign(claims(node))
    for more in (f"Authorization: {header}", "Authorization: Bearer x"):
        assert (await send(node, header, more, CSRF)).status == 401
    assert node.asked == []


@pytest_twisted.ensureDeferred
async def test_pages_and_forms_are_served_to_no_node(fleet: PeerFleet) -> None:
    """Who logs in, and what a form does, is of the node that a browser is at."""
    node = await alone(fleet)
    for path in ("/login", "/logout", "/nothing"):
        said = claims(node, path=digest_of(path.encode()), query=digest_of(b""), body=digest_of(b""), once=path)
        answer = await node.server.ask("POST", path, f"Authorization: {KEYS.sign(said)}")
        assert answer.status == 404


@pytest_twisted.ensureDeferred
async def test_a_node_without_an_incarnation_lets_nobody_in(fleet: PeerFleet) -> None:
    node = await alone(fleet)
    said = claims(node)
    fleet.map.change("b", incarnation=0)
    assert (await send(node, KEYS.sign(said))).status == 503
    assert node.asked == []


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_no_byte_of_what_is_said_can_be_another(where: int, change: int) -> None:
    said = Claims(
        node="a",
        to="b",
        incarnation=1,
        method="GET",
        path="/",
        query="",
        body="",
        at=1.0,
        once="x",
        by="o",
        role="viewer",
    )
    header = bytearray(KEYS.sign(said).encode())
    assert KEYS.read(bytes(header)) == said
    begin = header.index(b" ") + 1
    header[begin + where % (len(header) - begin)] ^= change
    assert KEYS.read(bytes(header)) is None


@given(st.binary(max_size=300))
def test_whatever_comes_is_read_without_an_error(header: bytes) -> None:
    assert KEYS.read(header) is None
    assert KEYS.read(b"stackit-node " + header) is None
