"""A receiver of webhooks that takes every delivery down."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from stackit.testing.listening import LoopbackSite


class Taken(msgspec.Struct, frozen=True):
    """A delivery that came. ``headers`` have lower-case names."""

    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> str:
        return self.headers["x-github-event"]

    @property
    def payload(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def name(self) -> str:
        """The event and its action, as ``repository.renamed``."""
        action = self.payload.get("action")
        return f"{self.event}.{action}" if action else self.event


class HookReceiver(Resource):
    """Answers each delivery with ``status``, or never with None. ``taken`` are the deliveries so far."""

    isLeaf = True

    def __init__(self) -> None:
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        Resource.__init__(self)
        self.status: int | None = 202
        self.taken: list[Taken] = []
        self._site = LoopbackSite(reactor, self)
        self.url = f"http://127.0.0.1:{self._site.port}/hook"

    def names(self) -> list[str]:
        """Return the events and actions that came, and forget them."""
        found = [each.name for each in self.taken]
        self.taken.clear()
        return found

    def render(self, request: Request) -> bytes | int:
        headers = {
            name.decode().lower(): values[0].decode() for name, values in request.requestHeaders.getAllRawHeaders()
        }
        assert request.content is not None
        self.taken.append(Taken(headers, request.content.read()))
        if self.status is None:
            return NOT_DONE_YET
        request.setResponseCode(self.status)
        request.setHeader("X-Of-The-Receiver", "yes")
        return b"thanks"

    async def close(self) -> None:
        await self._site.close()
