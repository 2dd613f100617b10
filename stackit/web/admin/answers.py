"""Answers of routes: the handler is called, and what it returns is made ready to be sent."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.admin import AdminRequest, Response, Route, error, sendable
from stackit.api.faults import FaultDescriber
from stackit.api.reactor import Reactor
from stackit.bus.timeouts import call, with_timeout
from stackit.web.codec import encode_body

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_log = Logger(namespace="stackit")

Finish = Callable[[Response], Response]
"""Makes an answer what the one who asks wants: encoded for a connection, as it is for a page."""


async def answer_of(
    route: Route, request: AdminRequest, finish: Finish, *, reactor: Reactor, faults: FaultDescriber
) -> Response:
    """Return the finished answer of a route's handler. Never raises: a failure is logged, and the answer hides it."""
    answering = with_timeout(reactor, call(route.handler, request), 0)
    answering.addCallback(_checked, finish).addErrback(_failed, route, faults, finish)
    response: Response = await answering
    return response


def encode(response: Response) -> Response:
    """Return an answer that can be sent: its body as bytes or None, its headers complete.

    Raises TypeError or ValueError for a body that is not JSON-able.
    """
    body = encode_body(response.body)
    headers = {**_HEADERS, **response.headers}
    return msgspec.structs.replace(response, body=body, headers=headers)


def decoded(response: Response) -> Response:
    """Return an answer for a page: one that came from another node has its JSON read."""
    if not isinstance(response.body, bytes) or response.content_type != "application/json":
        return response
    try:
        return msgspec.structs.replace(response, body=msgspec.json.decode(response.body))
    except msgspec.DecodeError:
        return response


def _checked(response: object, finish: Finish) -> Response:
    """Return the finished answer of a handler.

    Raises TypeError or ValueError for one that cannot be sent, and what encoding its body raises.
    """
    if not isinstance(response, Response):
        raise TypeError(f"the handler returned {type(response).__name__}, not a Response")
    return finish(sendable(response))


def _failed(failure: Failure, route: Route, faults: FaultDescriber, finish: Finish) -> Response:
    """Log the failure of a handler, and return an answer that does not show it."""
    fault = faults.describe(failure.value)
    whose = f"plugin {route.plugin}: " if route.plugin else ""
    _log.error(
        "{whose}admin route {route} failed: {problem}",
        whose=whose,
        route=f"{route.method} {route.path}",
        problem=fault.error,
        traceback=fault.new_traceback,
    )
    return finish(error(500, "internal error"))
