"""The checks of the routes that plugins bring to the public side, and the bound that they share."""

from __future__ import annotations

from typing import Any

import pytest
from clocks import as_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from stackit import PluginError, PublicRequest, PublicRoute, Refused, RequestHead, Response
from stackit.http.server.interfaces import OnRefused
from stackit.http.server.refusals import OVERLOAD, Refusal
from stackit.web.plugin_routes import PluginRoutes

HEAD = RequestHead(client="192.0.2.1", method=b"GET", path=b"/thing", headers={})
POST = RequestHead(client="192.0.2.1", method=b"POST", path=b"/thing", headers={})


def answer(_: PublicRequest) -> Response:
    return Response()


def route(**fields: Any) -> PublicRoute:
    return PublicRoute(**{"method": "GET", "path": "/thing", "handler": answer, "plugin": "mine", **fields})


def unheard(client: str, head: RequestHead | None, refusal: Refusal) -> None:
    """Tell nobody."""


def routes(verdict: Refused | None = None, most: int = 2, on_refused: OnRefused = unheard) -> PluginRoutes:
    return PluginRoutes(
        reactor=as_reactor(Clock()),
        admit=lambda _: verdict,
        on_refused=on_refused,
        most=most,
    )


class Asked:
    """A request that has arrived whole."""

    target = b"/thing"
    body = b""
    body_sink: Any = None

    def __init__(self, head: RequestHead = HEAD) -> None:
        self.head = head
        self.answers: list[Response] = []

    def answer(self, response: Response) -> None:
        self.answers.append(response)

    def fail(self, failure: Any) -> None:
        raise failure.value


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"method": "get"}, "the method must be upper-case letters"),
        ({"method": 7}, "the method must be"),
        ({"path": "thing"}, "the path must be"),
        ({"path": "/thing/"}, "the path must be"),
        ({"path": "//thing"}, "the path must be"),
        ({"path": "/thing/{name}"}, "the path must be"),
        ({"path": "/a\r\nb"}, "the path must be"),
        ({"path": None}, "the path must be"),
        ({"handler": None}, "the handler must be a function"),
        ({"max_body": -1}, "max_body must be"),
        ({"max_body": True}, "max_body must be"),
        ({"max_body": "1 MiB"}, "max_body must be"),
        ({"deadline": 0}, "deadline must be"),
        ({"deadline": float("inf")}, "deadline must be"),
        ({"deadline": float("nan")}, "deadline must be"),
        ({"deadline": None}, "deadline must be"),
        ({"deadline": True}, "deadline must be"),
        ({"deadline": "0"}, "deadline must be"),
        ({"deadline": "30"}, "deadline must be a number of seconds, more than 0, or a text such as '90s'"),
    ],
    ids=str,
)
def test_a_route_that_cannot_be_served_names_its_plugin(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(PluginError) as problem:
        routes().handlers([route(**fields)], ["/api"], [])
    assert str(problem.value).startswith("plugin mine: public route")
    assert reason in str(problem.value)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("path", ["/healthz", "{prefix}/webhooks/github"])
def test_a_path_of_stackit_itself_is_taken(path: str) -> None:
    with pytest.raises(PluginError, match="is there already, from stackit itself"):
        routes().handlers([route(path=path)], ["/api/v1", "/api"], [b"/healthz", b"/api/webhooks/github"])


def test_a_route_that_two_plugins_have_names_both() -> None:
    with pytest.raises(PluginError, match=r"plugin other: public route GET /api/thing: .* from plugin mine"):
        routes().handlers([route(path="{prefix}/thing"), route(path="/api/thing", plugin="other")], ["/api"], [])
    both = [route(), route(method="POST", plugin="other")]
    assert routes().handlers(both, ["/api"], []).keys() == {b"/thing"}


@pytest.mark.parametrize(("unless_verified", "retry_after"), [(True, 7), (False, "7s")])
def test_a_refusal_of_a_plugin_counts_at_once_as_nothing_is_verified_here(
    unless_verified: bool, retry_after: int | str
) -> None:
    verdict = Refused(status=429, reason="rate", retry_after=retry_after, unless_verified=unless_verified)
    (handler,) = routes(verdict).handlers([route()], [], []).values()
    refusal = handler.handle_head(HEAD, 0)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.response.status, refusal.response.headers["Retry-After"]) == ("rate", 429, "7")


def test_no_more_requests_wait_than_there_may_and_each_answer_makes_room() -> None:
    waiting: list[Deferred[Response]] = []

    def wait(_: PublicRequest) -> Any:
        waiting.append(Deferred())
        return waiting[-1]

    (handler,) = routes(most=2).handlers([route(handler=wait)], [], []).values()
    asked = [Asked(), Asked()]
    for each in asked:
        assert not isinstance(handler.handle_head(HEAD, 0), Refusal)
        handler.handle_request(each)
    assert handler.handle_head(HEAD, 0) is OVERLOAD
    waiting[0].callback(Response(body={"n": 1}))
    assert asked[0].answers == [Response(body=b'{"n": 1}\n')]
    assert not isinstance(handler.handle_head(HEAD, 0), Refusal)
    waiting[1].errback(KeyError("x"))
    assert [each.status for each in asked[1].answers] == [500]


def test_requests_whose_bodies_end_late_are_bounded_as_well_and_are_told_to_the_observers() -> None:
    waiting: list[Deferred[Response]] = []
    refused: list[tuple[Any, ...]] = []

    def wait(_: PublicRequest) -> Any:
        waiting.append(Deferred())
        return waiting[-1]

    def on_refused(client: str, head: RequestHead | None, refusal: Refusal) -> None:
        refused.append((client, head, refusal))

    shared = routes(most=2, on_refused=on_refused)
    (handler,) = shared.handlers([route(method="POST", handler=wait)], [], []).values()
    asked = [Asked(POST) for _ in range(5)]
    for _ in asked:  # each body begins while nothing waits
        assert not isinstance(handler.handle_head(POST, 2), Refusal)
    for each in asked:
        handler.handle_request(each)
    assert len(waiting) == 2
    assert [each.answers for each in asked] == [[], [], *[[OVERLOAD.response]] * 3]
    assert refused == [("192.0.2.1", POST, OVERLOAD)] * 3
    for answering in waiting:
        answering.callback(Response())
    assert [[answer.status for answer in each.answers] for each in asked[:2]] == [[200], [200]]
    handler.handle_request(Asked(POST))  # the refused ones are not counted
    assert len(waiting) == 3


def test_a_deadline_may_be_a_text_with_a_unit() -> None:
    asked, clock = Asked(), Clock()
    served = PluginRoutes(reactor=as_reactor(clock), admit=lambda _: None, on_refused=unheard, most=2)
    (handler,) = served.handlers([route(handler=lambda _: Deferred(), deadline="1.5m")], [], []).values()
    assert not isinstance(handler.handle_head(HEAD, 0), Refusal)
    handler.handle_request(asked)
    clock.advance(89)
    assert asked.answers == []
    clock.advance(1)
    assert [each.status for each in asked.answers] == [503]
