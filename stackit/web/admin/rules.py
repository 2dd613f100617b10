"""The rules of the admin side: protection, routing, answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.admin import AdminRequest, RequestHead, Response, Route, error, sendable
from stackit.api.faults import FaultDescriber
from stackit.api.reactor import Reactor
from stackit.bus.timeouts import call, with_timeout
from stackit.secrets.redactor import Redact
from stackit.text.redaction import redacted
from stackit.web.admin.cors import Cors
from stackit.web.admin.guard import Guard
from stackit.web.admin.router import Router
from stackit.web.codec import encode_body, parse_query

BODY_CAP = 64 * 1024
"""Bytes of body that an admin request may have."""

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_READ_ONLY = "stackit is read-only: nothing can be changed while the configuration has read_only = true"
_NO_CORS = Cors()
_log = Logger(namespace="stackit")


class Admin:
    """The rules of the admin side, without a connection.

    ``refuse`` is given the head of a request, ``answer`` the whole request: a refused request costs no reading of its
    body. Both return answers that are encoded. ``guard`` is the protection, ``read_only`` refuses what changes
    anything, and ``cors`` shares answers with pages of other origins; each may be replaced.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        *,
        reactor: Reactor,
        prefixes: Sequence[str],
        tokens: Callable[[], Sequence[str]] | None,
        hosts: Collection[str] = (),
        label: Callable[[str], str] = lambda _: "a token",
        redact: Redact = redacted,
        read_only: bool = False,
        cors: Cors = _NO_CORS,
    ) -> None:
        """Raises StackitError for routes that cannot be served together."""
        self._reactor = reactor
        self._router = Router(routes, prefixes)
        self.guard = Guard(tokens=tokens, hosts=hosts, label=label)
        self._faults = FaultDescriber(redact)
        self.read_only = read_only
        self.cors = cors

    def refuse(self, head: RequestHead, address: str) -> Response | None:
        """Return the answer that refuses a request; None for one that may go on.

        ``address`` is the local address of the connection.
        """
        guarded = self.guard.refuse_host(head, address)
        preflight = self.cors.preflight(head, self._allow(head)) if guarded is None else None
        if guarded is None and preflight is None and not self._is_open(head):
            guarded = self.guard.refuse(head, address)
        refused = guarded or preflight or self._unroutable(head)
        return self.cors.share(head, encode(refused)) if refused is not None else None

    def _allow(self, head: RequestHead) -> str:
        found = self._router.find(head.path)
        return "" if found is None else found.entry.allow

    def _is_open(self, head: RequestHead) -> bool:
        found = self._router.find(head.path)
        match = found.route(head.method.decode("latin-1")) if found else None
        return match is not None and match[0].open

    def _unroutable(self, head: RequestHead) -> Response | None:
        """Return ``404`` or ``405`` for a request without a route, else None."""
        found = self._router.find(head.path)
        if found is None:
            return error(404, "not found")
        if found.route(head.method.decode("latin-1")) is None:
            allowed = error(405, f"this path answers {found.entry.allow}")
            return Response(status=405, body=allowed.body, headers={"Allow": found.entry.allow})
        if self.read_only and not found.entry.reads(head.method.decode("latin-1")):
            return Response(status=405, body={"error": _READ_ONLY}, headers={"Allow": found.entry.allow_reading})
        return None

    def route(self, head: RequestHead) -> str:
        """Return the route of a request, as it was declared (``GET {prefix}/repos``); "" for none."""
        found = self._router.find(head.path)
        match = found.route(head.method.decode("latin-1")) if found else None
        return f"{match[0].method} {match[0].path}" if match else ""

    async def answer(self, head: RequestHead, query: bytes, body: bytes, peer: str = "") -> Response:
        """Return the answer of the route to a request that ``refuse`` let through. Never raises.

        ``peer`` is the name for people of who asks without a token.
        """
        return self.cors.share(head, await self._answer(head, query, body, peer))

    async def _answer(self, head: RequestHead, query: bytes, body: bytes, peer: str) -> Response:
        found = self._router.find(head.path)
        method = head.method.decode("latin-1")
        match = found.route(method) if found else None
        if match is None:
            return encode(error(404, "not found"))
        route, args = match
        try:
            parameters = parse_query(query)
        except ValueError:
            return encode(
                error(400, "the query cannot be read: it must be at most 32 parameters, percent-encoded UTF-8")
            )
        names = [each.name for each in route.parameters]
        if route.query is not None and (unknown := sorted(parameters.keys() - set(names))):
            there = f"there is {', '.join(names)}" if names else "this path takes none"
            return encode(error(400, f"unknown parameter {unknown[0][:40]!r}; {there}"))
        path = head.path.decode("latin-1")
        cookies = head.headers.get(b"cookie", ())
        cookie = cookies[0].decode("latin-1") if len(cookies) == 1 else ""
        by = self.guard.caller(head) or peer
        last_event_id = head.headers.get(b"last-event-id", (b"",))[0].decode("latin-1")
        asked = AdminRequest(
            method=method,
            path=path,
            args=args,
            query=parameters,
            body=body,
            cookie=cookie,
            by=by,
            last_event_id=last_event_id,
        )
        answering = with_timeout(self._reactor, call(route.handler, asked), 0)
        return await answering.addCallback(_checked).addErrback(_failed, route, self._faults)


def encode(response: Response) -> Response:
    """Return an answer that can be sent: its body as bytes or None, its headers complete.

    Raises TypeError or ValueError for a body that is not JSON-able.
    """
    body = encode_body(response.body)
    headers = {**_HEADERS, **response.headers}
    return msgspec.structs.replace(response, body=body, headers=headers)


def _checked(response: object) -> Response:
    """Return the encoded answer of a handler.

    Raises TypeError or ValueError for one that cannot be sent, and what encoding its body raises.
    """
    if not isinstance(response, Response):
        raise TypeError(f"the handler returned {type(response).__name__}, not a Response")
    return encode(sendable(response))


def _failed(failure: Failure, route: Route, faults: FaultDescriber) -> Response:
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
    return encode(error(500, "internal error"))
