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
    elif fault.kind == "hang":
        await Deferred()
    elif fault.kind == "endless":
        await _go_on(reactor, request)
    else:
        send_head(request, status, {**headers, "Content-Length": str(len(body))})
        if fault.kind == "cut":
            request.write(body[: len(body) // 2])
            request.loseConnection()  # what is written still goes out
        else:
            await _drip(reactor, request, body, fault.pause)


async def _drip(reactor: Reactor, request: Request, body: bytes, pause: float) -> None:
    size = max(1, len(body) // _PIECES)
    for start in range(0, len(body), size):
        request.write(body[start : start + size])
        await sleep(reactor, pause)
    request.finish()


async def _go_on(reactor: Reactor, request: Request) -> None:
    """Send a list that does not end, until the client goes."""
    send_head(request, 200, {"Content-Type": "application/json; charset=utf-8"})
    request.write(b"[")
    while True:
        request.write(b'{"id":1},' * 7000)
        await sleep(reactor, 0)
