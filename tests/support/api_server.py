"""A server that answers as it is told, and remembers what it was asked: a GitHub API of few words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any

import msgspec
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from stackit.testing.listening import LoopbackSite


class Asked(msgspec.Struct, frozen=True):
    """A request; ``headers`` have lower-case names."""

    method: str
    uri: str
    headers: Mapping[str, str]
    body: bytes
    at: float


class Say(msgspec.Struct, frozen=True):
    """An answer. A body that is no bytes is sent as JSON."""

    body: Any = msgspec.field(default_factory=dict)
    status: int = 200
    headers: Mapping[str, str] = {}


Next = Say | Callable[[Any], object]


class ApiServer(Resource):
    """``answers`` are given one after the other, then ``default``; a function is called with Twisted's request.

    ``now`` is the clock of the ``Date`` in every answer, ``seconds`` that of ``Asked.at``.
    """

    isLeaf = True

    def __init__(self, reactor: Any, now: Callable[[], float], seconds: Callable[[], float]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # it is Twisted's
        self.answers: list[Next] = []
        self.default: Next = Say()
        self.asked: list[Asked] = []
        self.now = now
        self._seconds = seconds
        self._site = LoopbackSite(reactor, self)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._site.port}"

    def render(self, request: Any) -> Any:
        headers = {
            name.decode().lower(): values[0].decode() for name, values in request.requestHeaders.getAllRawHeaders()
        }
        asked = Asked(request.method.decode(), request.uri.decode(), headers, request.content.read(), self._seconds())
        self.asked.append(asked)
        answer = self.answers.pop(0) if self.answers else self.default
        request.setHeader("Date", formatdate(self.now(), usegmt=True))
        if not isinstance(answer, Say):
            answer(request)
            return NOT_DONE_YET
        request.setResponseCode(answer.status)
        request.setHeader("Content-Type", "application/json; charset=utf-8")
        for name, value in answer.headers.items():
            request.setHeader(name, value)
        return answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()

    async def stop(self) -> None:
        await self._site.close()
