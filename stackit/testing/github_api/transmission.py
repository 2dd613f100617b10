"""Answers that do not arrive as they should."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.web.http import Request

from stackit.api.reactor import Reactor, sleep
from stackit.testing.faults import send_head
from stackit.testing.github_api.api_faults import ApiFault

_PIECES = 50


async def transmit(
    fault: ApiFault, reactor: Reactor, request: Request, status: int, headers: dict[str, str], body: bytes
) -> None:
    """Send an answer with a fault."""
    if fault.kind == "reset":
        assert request.transport is not None  # noqa: S101 - nothing was sent yet
        request.transport.abortConnection()
        return
    if fault.kind == "hang":
        await Deferred()
    send_head(request, status, {**headers, "Content-Length": str(len(body))})
    if fault.kind == "cut":
        request.write(body[: len(body) // 2])
        request.loseConnection()  # what is written still goes out
        return
    size = max(1, len(body) // _PIECES)
    for start in range(0, len(body), size):
        request.write(body[start : start + size])
        await sleep(reactor, fault.pause)
    request.finish()
