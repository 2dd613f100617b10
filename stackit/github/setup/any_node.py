"""A browser, or a command, that comes to another node of the fleet than the one where its set-up began."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal

import msgspec

from stackit.api.admin import AdminRequest, Response, Route, error
from stackit.api.peers import Affinity, NodeQuestion
from stackit.github.pages import cookie_of
from stackit.github.setup import pages

PATH = "/nodes/setup"
"""Behind a prefix of the API: where a node is asked for a set-up that began there."""

PURPOSE = "setup"
"""What the secrets of a set-up are marked for."""

Handler = Callable[[AdminRequest], Response | Awaitable[Response]]


class SetupQuestion(msgspec.Struct, frozen=True):
    """What came to another node: the name of the handler, the query, and the cookie of the set-up."""

    handler: str
    query: Mapping[str, str]
    cookie: str


class SetupAnswer(msgspec.Struct, frozen=True):
    """The answer to that, for whoever asked there."""

    status: int
    body: bytes
    content_type: str
    headers: Mapping[str, str]


class AnyNode:
    """Has the node answer where a set-up began. ``handlers`` are what it is asked for there, by names.

    ``seconds`` is a clock that never runs backwards.
    """

    def __init__(self, affinity: Affinity, handlers: Mapping[str, Handler], seconds: Callable[[], float]) -> None:
        self._affinity = affinity
        self._handlers = handlers
        self._question = NodeQuestion[SetupQuestion, SetupAnswer](
            PATH,
            SetupQuestion,
            SetupAnswer,
            self._tell,
            summary="Answer somebody at another node whose set-up of an App began here.",
            seconds=seconds,
        )

    def routes(self) -> Sequence[Route]:
        """Return the route by which other nodes ask."""
        return [self._question.route()]

    async def answer(self, request: AdminRequest, handler: str, secret: str) -> Response | Literal[False] | None:
        """Return the answer of the node where a set-up began, by one of its secrets; False where it gives none.

        None where it began here, or at no node. An address that asks too often has to wait.
        """
        node = self._affinity.elsewhere(PURPOSE, secret)
        if node is None:
            return None
        waiting = self._question.wait(request)
        if waiting is not None:
            return waiting
        question = SetupQuestion(handler, request.query, cookie_of(request.cookie, pages.COOKIE))
        found = await self._question.ask(self._affinity, node, question, request)
        if found is None:
            return False
        return Response(status=found.status, body=found.body, content_type=found.content_type, headers=found.headers)

    async def _tell(self, question: SetupQuestion, request: AdminRequest) -> SetupAnswer | Response:
        handler = self._handlers.get(question.handler)
        if handler is None:
            return error(404, "this is of another version of stackit")
        cookie = f"{pages.COOKIE}={question.cookie}"
        answer = handler(msgspec.structs.replace(request, method="GET", query=question.query, cookie=cookie))
        response = await answer if inspect.isawaitable(answer) else answer
        body = response.body if isinstance(response.body, bytes) else msgspec.json.encode(response.body)
        return SetupAnswer(response.status, body, response.content_type, response.headers)
