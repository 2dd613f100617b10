"""Questions that nodes ask each other: who may ask, how often, and what is understood."""

from __future__ import annotations

import msgspec
import pytest_twisted
from twisted.internet.task import Clock

from stackit import AdminRequest, Node, Response
from stackit.api.admin import error
from stackit.api.peers import NodeQuestion


class Asked(msgspec.Struct, frozen=True):
    """What one node asks."""

    number: int


class Told(msgspec.Struct, frozen=True):
    """What the other one tells."""

    twice: int


def request(body: bytes = b"", *, client: str = "", via_node: str = "") -> AdminRequest:
    return AdminRequest(
        method="POST", path="/nodes/number", args={}, query={}, body=body, client=client, via_node=via_node
    )


async def tell(question: Asked, _: AdminRequest) -> Told | Response:
    return Told(2 * question.number) if question.number < 100 else error(404, "too large")


def asking(clock: Clock) -> NodeQuestion[Asked, Told]:
    return NodeQuestion("/nodes/number", Asked, Told, tell, summary="Double a number.", seconds=clock.seconds)


class OtherNode:
    """The way to a node that answers ``answer``."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer

    def mark(self, purpose: str, secret: str) -> str:
        return f"{secret}.{purpose}"

    def elsewhere(self, purpose: str, marked: str) -> Node | None:
        return Node(name="b") if marked.endswith(purpose) else None

    async def ask(self, *_: object) -> bytes | None:
        return self.answer


def test_an_address_has_nodes_asked_so_often_and_no_more() -> None:
    clock = Clock()
    question = asking(clock)
    answers = [question.wait(request(client="192.0.2.1")) for _ in range(100)]
    let_in = answers.count(None)
    assert 0 < let_in < 100
    assert answers[:let_in] == [None] * let_in
    assert {each.status for each in answers[let_in:] if each is not None} == {429}
    assert question.wait(request(client="192.0.2.2")) is None
    clock.advance(60)
    assert question.wait(request(client="192.0.2.1")) is None


@pytest_twisted.ensureDeferred
async def test_nodes_alone_are_answered_and_what_is_not_understood_is_told_so() -> None:
    async def answer(body: bytes, via_node: str) -> tuple[int, object]:
        response = asking(Clock()).route().handler(request(body, via_node=via_node))
        assert not isinstance(response, Response)
        told = await response
        return told.status, told.body

    assert (await answer(b'{"number":4}', ""))[0] == 403
    assert await answer(b'{"number":4}', "a") == (200, {"twice": 8})
    assert (await answer(b'{"other":4}', "a"))[0] == 400
    assert (await answer(b'{"number":100}', "a"))[0] == 404


@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_none_or_of_another_version_is_none_here() -> None:
    question, node = asking(Clock()), Node(name="b")
    answers = [b'{"twice":8}', b'{"thrice":12}', b"\xff", None]
    found = [await question.ask(OtherNode(each), node, Asked(4), request()) for each in answers]
    assert found == [Told(8), None, None, None]
