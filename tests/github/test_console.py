"""The panel about GitHub at a node that does not lead, where the leader knows most of what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest_twisted
from clocks import as_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from stackit import PageRequest, Panel, Response
from stackit.github.console.pages import github_pages


class Leader:
    """Is asked, and answers when ``answer`` fires."""

    def __init__(self) -> None:
        self.answer: Deferred[Response] = Deferred()

    async def __call__(self, method: str, path: str, *, query: Mapping[str, str] = {}, body: object = None) -> Response:
        assert (method, path) == ("GET", "/github")
        return await self.answer


def shown(clock: Clock, leader: Leader) -> Deferred[str]:
    """The panel, as it will be."""
    (panel,) = (each for each in github_pages(lambda: ["own"], lambda: False, as_reactor(clock)) if type(each) is Panel)
    request = PageRequest(path="/", args={}, query={}, form={}, now=0.0, prefix="/api/v1", api=leader)
    body: Any = panel.show(request)
    return Deferred.fromCoroutine(body).addCallback(str)


@pytest_twisted.ensureDeferred
async def test_what_a_silent_leader_knows_is_not_waited_for_and_what_this_node_knows_is_shown() -> None:
    clock = Clock()
    body = shown(clock, Leader())
    clock.advance(1.0)
    html = await body
    assert "the leader has not answered within 1 s: what it knows of GitHub is not shown here" in html
    assert '<li class="error">own</li>' in html
    assert not clock.getDelayedCalls()


@pytest_twisted.ensureDeferred
async def test_what_the_leader_knows_is_shown_before_what_this_node_knows() -> None:
    clock, leader = Clock(), Leader()
    body = shown(clock, leader)
    clock.advance(0.9)
    leader.answer.callback(Response(body={"problems": ["the leader's", "own"]}))
    html = await body
    assert html.index("the leader&#39;s") < html.index("own")
    assert html.count("own</li>") == 1
    assert not clock.getDelayedCalls()
