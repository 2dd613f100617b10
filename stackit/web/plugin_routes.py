"""The public routes of plugins: admission, a cap on the body, a deadline for the answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.admin import Refused, RequestHead, Response, error, sendable
from stackit.api.errors import PluginError
from stackit.api.faults import FaultDescriber
from stackit.api.public import PublicRequest, PublicRoute
from stackit.api.reactor import Reactor
from stackit.bus.timeouts import HandlerTimeout, call, with_timeout
from stackit.http.server.interfaces import BodySink, OnRefused, RequestHandler, ServerRequest
from stackit.http.server.refusals import FAILED, OVERLOAD, RETRY_AFTER, TOO_LARGE, Refusal, method_not_allowed
from stackit.secrets.redactor import Redact
from stackit.text.escape import escape
from stackit.text.redaction import redacted
from stackit.text.units import seconds
from stackit.web import refusals
from stackit.web.codec import encode_body, parse_query
from stackit.web.prefixes import expand

_METHOD = re.compile(r"[A-Z]{1,20}", re.ASCII)
_PATH = re.compile(r"(\{prefix\})?(/[A-Za-z0-9._~-]+)+", re.ASCII)
_log = Logger(namespace="stackit")


class PluginRoutes:
    """Makes handlers of routes, which share a bound on the requests that wait for an answer.

    ``most`` is that bound: a request that waits holds a connection, and webhooks need some, too. ``admit`` asks the
    plugins about a request before its body is read, ``on_refused`` tells the observers about one that was refused.
    """

    def __init__(
        self,
        *,
        reactor: Reactor,
        admit: Callable[[RequestHead], Refused | None],
        on_refused: OnRefused,
        most: int,
        redact: Redact = redacted,
    ) -> None:
        self._reactor = reactor
        self._admit = admit
        self._on_refused = on_refused
        self._most = most
        self._waiting = 0
        self._faults = FaultDescriber(redact)

    def handlers(
        self, routes: Iterable[PublicRoute], prefixes: Sequence[str], taken: Iterable[bytes]
    ) -> dict[bytes, RequestHandler]:
        """Return a handler for each path. ``taken`` are the paths that stackit itself serves.

        Raises PluginError for a route that cannot be served, or that is there already.
        """
        own = frozenset(taken)
        paths: dict[bytes, dict[str, PublicRoute]] = {}
        for route in routes:
            _check(route)
            for path in map(str.encode, expand(route.path, prefixes)):
                methods = paths.setdefault(path, {})
                owner = "stackit itself" if path in own else None
                if route.method in methods:
                    owner = f"plugin {methods[route.method].plugin}"
                if owner is not None:
                    raise _unfit(route, f"{path.decode()} is there already, from {owner}")
                methods[route.method] = route
        return {path: _PathHandler(self, methods) for path, methods in paths.items()}

    def refusal(self, head: RequestHead) -> Refusal | None:
        """Return the refusal of a request by its head; None for one whose body may come."""
        verdict = self._admit(head)
        if verdict is not None:  # ``unless_verified``, too: stackit itself verifies nothing here
            return refusals.from_plugin(verdict)
        return OVERLOAD if self._waiting >= self._most else None

    def answer(self, route: PublicRoute, request: ServerRequest) -> None:
        """Answer a request that has arrived whole, within the deadline of its route."""
        if self._waiting >= self._most:  # others were whole before it, while its body came
            self._on_refused(request.head.client, request.head, OVERLOAD)
            request.answer(OVERLOAD.response)
            return
        try:
            query = parse_query(request.target.partition(b"?")[2])
        except ValueError:
            self._send(request, error(400, "the query must be at most 32 parameters, percent-encoded UTF-8"))
            return
        head = request.head
        asked = PublicRequest(
            client=head.client,
            method=head.method.decode("latin-1"),
            path=head.path.decode("latin-1"),
            query=query,
            headers=head.headers,
            body=request.body,
        )
        self._waiting += 1
        answering: Deferred[Response] = with_timeout(self._reactor, call(route.handler, asked), seconds(route.deadline))
        answering.addBoth(self._answered).addCallback(_checked).addErrback(_failed, route, self._faults)
        answering.addCallback(lambda response: self._send(request, response)).addErrback(request.fail)

    def _answered(self, result: Response | Failure) -> Response | Failure:
        self._waiting -= 1
        return result

    def _send(self, request: ServerRequest, response: Response) -> None:
        if 400 <= response.status < 500:
            self._on_refused(request.head.client, request.head, Refusal("plugin", response))
        request.answer(response)


class _PathHandler:
    """Answers the requests of one path; ``routes`` are its routes by method."""

    def __init__(self, shared: PluginRoutes, routes: Mapping[str, PublicRoute]) -> None:
        self._shared = shared
        self._routes = routes

    def handle_head(self, head: RequestHead, length: int | None) -> BodySink | Refusal:
        route = self._find(head)
        if route is None:
            return method_not_allowed(", ".join(sorted({*self._routes, *(["HEAD"] if "GET" in self._routes else [])})))
        if length is not None and length > route.max_body:
            return TOO_LARGE
        return self._shared.refusal(head) or _KeptBody(route.max_body)

    def handle_request(self, request: ServerRequest) -> None:
        route = self._find(request.head)
        if route is not None:
            self._shared.answer(route, request)

    def _find(self, head: RequestHead) -> PublicRoute | None:
        method = head.method.decode("latin-1")
        return self._routes.get("GET" if method == "HEAD" and "HEAD" not in self._routes else method)


class _KeptBody:
    """Keeps a body of at most ``limit`` bytes."""

    keep = True
    throttled = False

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def update(self, chunk: bytes) -> None:
        """Do nothing: the bytes are kept."""


def _check(route: PublicRoute) -> None:
    if not (isinstance(route.method, str) and _METHOD.fullmatch(route.method)):
        raise _unfit(route, "the method must be upper-case letters")
    if not (isinstance(route.path, str) and _PATH.fullmatch(route.path)):
        raise _unfit(route, "the path must be / or {prefix}/ and plain segments")
    if not callable(route.handler):
        raise _unfit(route, "the handler must be a function")
    if type(route.max_body) is not int or route.max_body < 0:
        raise _unfit(route, "max_body must be a number of bytes")
    try:
        fit = seconds(route.deadline) > 0
    except ValueError:
        fit = False
    if not fit:
        raise _unfit(route, "deadline must be a number of seconds, more than 0, or a text such as '90s'")


def _unfit(route: PublicRoute, reason: str) -> PluginError:
    shown = isinstance(route.method, str) and isinstance(route.path, str)
    where = escape(f"public route {route.method} {route.path}"[:200]) if shown else "public route"
    return PluginError(route.plugin or "stackit", f"{where}: {reason}")


def _checked(response: object) -> Response:
    """Return the response of a handler, ready to send. Raises an exception that names the fault of one that is not."""
    if not isinstance(response, Response):
        raise TypeError(f"the handler returned {type(response).__name__}, not a Response")
    fit = sendable(response)
    if fit.stream is not None:
        raise TypeError("the handler returned a stream, which public routes do not have")
    return Response(status=fit.status, body=encode_body(fit.body), content_type=fit.content_type, headers=fit.headers)


def _failed(failure: Failure, route: PublicRoute, faults: FaultDescriber) -> Response:
    """Log the failure, with its plugin, and return an answer that does not show it."""
    fault = faults.describe(failure.value)
    _log.error(
        "plugin {plugin}: public route {route} failed: {problem}",
        plugin=route.plugin,
        route=f"{route.method} {route.path}",
        problem=fault.error,
        traceback=fault.new_traceback,
    )
    if isinstance(failure.value, HandlerTimeout):
        busy = error(503, "the answer took too long")
        return Response(status=503, body=busy.body, headers={"Retry-After": str(RETRY_AFTER)})
    return FAILED.response
