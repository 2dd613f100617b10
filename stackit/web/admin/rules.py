"""The rules of the admin side: protection, routing, answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from urllib.parse import quote

import msgspec
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.address_limiter import AddressLimiter
from stackit.api.admin import AdminRequest, RequestHead, Response, Route, error, sendable
from stackit.api.faults import FaultDescriber
from stackit.api.reactor import Reactor
from stackit.bus.timeouts import call, with_timeout
from stackit.secrets.redactor import Redact
from stackit.text.redaction import redacted
from stackit.web.admin.asker import Asker
from stackit.web.admin.cors import Cors
from stackit.web.admin.guard import SAFE_METHODS, Guard, is_form
from stackit.web.admin.router import Match, Router
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
_LONGEST_NEXT = 1000
_READ_ONLY = "stackit is read-only: nothing can be changed while the configuration has read_only = true"
_NO_CORS = Cors()
NOTHING: Mapping[str, str] = MappingProxyType({})
_log = Logger(namespace="stackit")


Note = Callable[[AdminRequest, int], object]
"""Writes down a request that was to change something, and the status of its answer."""

ProblemPage = Callable[[AdminRequest | None, int, str], Response]
"""Makes the page that tells a person an error: of their request (None for a stranger), its status, and its text."""

LOGIN = "/login"
"""The path of the page to log in at."""


class Admin:
    """The rules of the admin side, without a connection.

    ``refuse`` is given the head of a request, ``answer`` the whole request: a refused request costs no reading of its
    body. Both return answers that are encoded. ``call`` is for pages, whose every deed is a call of a route. ``guard``
    is the protection, ``read_only`` refuses what changes anything, and ``cors`` shares answers with pages of other
    origins; each may be replaced. A browser that opens a path, or sends a form, gets the ``problem_page`` of a refusal,
    if there is one and the path is none of the API.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        *,
        reactor: Reactor,
        prefixes: Sequence[str],
        guard: Guard,
        redact: Redact = redacted,
        note: Note = lambda _, __: None,
        read_only: bool = False,
        cors: Cors = _NO_CORS,
        problem_page: ProblemPage | None = None,
    ) -> None:
        """``note`` is told of what was to be changed. Raises StackitError for routes that cannot be served together."""
        self._reactor = reactor
        self._router = Router(routes, prefixes)
        self._prefix = prefixes[0]
        self._prefixes = tuple(f"{each}/".encode() for each in prefixes)
        self._problem_page = problem_page
        self.guard = guard
        self._faults = FaultDescriber(redact)
        self._note = note
        self.read_only = read_only
        self.cors = cors
        self._slowdown = AddressLimiter(reactor.seconds, burst=30, per_minute=30)

    # -- by the head of a request -------------------------------------------------

    def refuse(self, head: RequestHead, address: str, client: str = "") -> Response | None:
        """Return the answer that refuses a request; None for one that may go on.

        ``address`` is the local address of the connection, ``client`` the address of who asks.
        """
        refused = self._refusal(head, address, client)
        return None if refused is None else self.cors.share(head, self._told(head, refused))

    def _told(self, head: RequestHead, refused: Response) -> Response:
        """Return a refusal, encoded: as a page where a browser shows what comes, else as JSON."""
        if self._problem_page is None or refused.status < HTTPStatus.BAD_REQUEST or not self._shows_pages(head):
            return encode(refused)
        # A host that is not ours is no place to look up who asks.
        asker = None if refused.status == HTTPStatus.MISDIRECTED_REQUEST else self.guard.asker(head, "")
        asked = None
        if asker is not None:
            path = head.path.decode("latin-1")
            asked = AdminRequest(
                method="GET", path=path, args={}, query={}, body=b"", by=asker.by, role=asker.role, csrf=asker.csrf
            )
        page = self._problem_page(asked, refused.status, _in_words(refused))
        return encode(msgspec.structs.replace(page, headers={**page.headers, **refused.headers}))

    def _shows_pages(self, head: RequestHead) -> bool:
        """Return whether a browser shows the answer: it opens a path, or sends a form, outside of the API."""
        return (wants_page(head) or (accepts_page(head) and is_form(head))) and not head.path.startswith(self._prefixes)

    def _refusal(self, head: RequestHead, address: str, client: str) -> Response | None:
        unknown_host = self.guard.refuse_host(head, address)
        if unknown_host is not None:
            return self._refused(client, unknown_host)
        preflight = self.cors.preflight(head)
        if preflight is not None:
            return preflight
        route = self._match(head)
        asker = self.guard.asker(head, "")
        if asker is None and not (route is not None and route.open):
            # Where a browser goes from here depends on the query, which comes later.
            return None if wants_page(head) else self._refused(client, _nobody())
        refused = self.guard.refuse_foreign(head, takes_forms=route is not None and route.form)
        refused = refused or self._unroutable(head) or _too_much(route, asker)
        if refused is not None and refused.status == HTTPStatus.FORBIDDEN and not (asker and asker.is_known):
            return self._refused(client, refused)
        return refused

    def _refused(self, client: str, refused: Response) -> Response:
        """Count a refusal of a stranger, and return the answer: that it has to wait, where it was refused too often."""
        waiting = self._slowdown.refusal(client)
        if waiting is None:
            self._slowdown.spend(client)
        return waiting or refused

    def _match(self, head: RequestHead) -> Route | None:
        found = self._router.find(head.path)
        match = found.route(head.method.decode("latin-1")) if found else None
        return match[0] if match is not None else None

    def _unroutable(self, head: RequestHead) -> Response | None:
        """Return ``404`` or ``405`` for a request without a route, else None."""
        found = self._router.find(head.path)
        if found is None:
            return error(404, "not found")
        if self._match(head) is None:
            return _other_method(found)
        return self._held(found, head.method.decode("latin-1"))

    def _held(self, found: Match, method: str) -> Response | None:
        """Return the answer that refuses a change while stackit is read-only, or None."""
        if not self.read_only or found.entry.reads(method):
            return None
        return Response(status=405, body={"error": _READ_ONLY}, headers={"Allow": found.entry.allow_reading})

    def route(self, head: RequestHead) -> str:
        """Return the route of a request, as it was declared (``GET {prefix}/repos``); "" for none."""
        route = self._match(head)
        return f"{route.method} {route.path}" if route is not None else ""

    # -- the whole request --------------------------------------------------------

    async def answer(self, head: RequestHead, query: bytes, body: bytes, peer: str = "", client: str = "") -> Response:
        """Return the answer of the route to a request that ``refuse`` let through. Never raises.

        ``peer`` is the name for people of who asks without being known, ``client`` their address.
        """
        return self.cors.share(head, await self._answer(head, query, body, peer, client))

    async def _answer(self, head: RequestHead, query: bytes, body: bytes, peer: str, client: str) -> Response:
        asker = self.guard.asker(head, peer)
        found = self._router.find(head.path)
        method, path = head.method.decode("latin-1"), head.path.decode("latin-1")
        match = found.route(method) if found else None
        if asker is None and not (match is not None and match[0].open):
            if not wants_page(head):
                return self._told(head, _nobody())
            return encode(Response(status=303, headers={"Location": _login(head.path, query)}))
        if match is None:
            return self._told(head, error(404, "not found"))
        route, args = match
        try:
            parameters = parse_query(query)
        except ValueError:
            return self._told(
                head, error(400, "the query cannot be read: it must be at most 32 parameters, percent-encoded UTF-8")
            )
        form: Mapping[str, str] = {}
        if route.form and is_form(head):
            try:
                form = parse_query(body)
            except ValueError:
                return self._told(
                    head, error(400, "the form cannot be read: it must be at most 32 fields, percent-encoded")
                )
        refused = _too_much(route, asker)
        if refused is None and asker is not None and route.form and not route.open:
            refused = self.guard.refuse_form(head, asker, form)
        if refused is not None:
            return self._told(head, refused)
        cookies = head.headers.get(b"cookie", ())
        request = AdminRequest(
            method=method,
            path=path,
            args=args,
            query=parameters,
            body=body,
            cookie=cookies[0].decode("latin-1") if len(cookies) == 1 else "",
            by=asker.by if asker is not None else peer,
            role=asker.role if asker is not None else "viewer",
            client=client,
            csrf=asker.csrf if asker is not None else "",
            session=asker.session if asker is not None else "",
            origin=self.guard.page_origin(head),
            form=form,
            last_event_id=head.headers.get(b"last-event-id", (b"",))[0].decode("latin-1"),
        )
        return await self._served(route, request, encode)

    async def call(
        self, asked: AdminRequest, method: str, path: str, *, query: Mapping[str, str] = NOTHING, body: bytes = b""
    ) -> Response:
        """Return the answer of a route, in the name of the one who asked for a page. Never raises.

        ``path`` is without its prefix, percent-encoded. The answer is not encoded.
        """
        full = f"{self._prefix}{path}"
        found = self._router.find(full.encode("latin-1", "replace"))
        if found is None:
            return error(404, "not found")
        match = found.route(method)
        if match is None:
            return _other_method(found)
        held = self._held(found, method)
        if held is not None:
            return held
        route, args = match
        request = msgspec.structs.replace(asked, method=method, path=full, args=args, query=query, body=body, form={})
        if route.role_needed == "operator" and asked.role != "operator":
            self._write_down(route, request, HTTPStatus.FORBIDDEN)
            return _forbidden()
        return await self._served(route, request, lambda response: response)

    async def _served(self, route: Route, request: AdminRequest, finish: Callable[[Response], Response]) -> Response:
        names = [each.name for each in route.parameters]
        if route.query is not None and (unknown := sorted(request.query.keys() - set(names))):
            there = f"there is {', '.join(names)}" if names else "this path takes none"
            return finish(error(400, f"unknown parameter {unknown[0][:40]!r}; {there}"))
        answering = with_timeout(self._reactor, call(route.handler, request), 0)
        answering.addCallback(_checked, finish).addErrback(_failed, route, self._faults, finish)
        response: Response = await answering
        self._write_down(route, request, response.status)
        return response

    def _write_down(self, route: Route, request: AdminRequest, status: int) -> None:
        # The action of a page calls the route that does it, which is written down.
        if request.method.encode() in SAFE_METHODS or route.form:
            return
        if request.role == "viewer" and not request.session:
            # A stranger who may look could fill the log and the journal.
            if self._slowdown.refusal(request.client) is not None:
                return
            self._slowdown.spend(request.client)
        self._note(request, status)


def wants_page(head: RequestHead) -> bool:
    """Return whether a browser asks for a page."""
    return head.method in (b"GET", b"HEAD") and accepts_page(head)


def accepts_page(head: RequestHead) -> bool:
    """Return whether a page may be the answer."""
    return b"text/html" in b",".join(head.headers.get(b"accept", ()))


def _in_words(refused: Response) -> str:
    """Return what a person is told of a refusal."""
    if refused.status == HTTPStatus.UNAUTHORIZED:
        return "You are not logged in, or your login is over."
    if refused.status == HTTPStatus.NOT_FOUND:
        return "There is nothing at this address."
    return str(refused.body["error"]) if isinstance(refused.body, dict) else "It failed."


def _login(path: bytes, query: bytes) -> str:
    """Return the address of the page to log in at, from which one comes back."""
    following = path + (b"?" + query if query else b"")
    return f"{LOGIN}?next={quote(following, safe='/')}" if len(following) <= _LONGEST_NEXT else LOGIN


def _nobody() -> Response:
    refused = error(401, "a bearer token is needed: send Authorization: Bearer TOKEN")
    return msgspec.structs.replace(refused, headers={"WWW-Authenticate": 'Bearer realm="stackit"'})


def _too_much(route: Route | None, asker: Asker | None) -> Response | None:
    """Return the answer that refuses what a viewer may not do, or None."""
    if route is None or asker is None or route.open or route.role_needed == "viewer" or asker.role == "operator":
        return None
    return _forbidden()


def _forbidden() -> Response:
    return error(403, "this takes an operator, and you may only look")


def _other_method(found: Match) -> Response:
    allowed = error(405, f"this path answers {found.entry.allow}")
    return Response(status=405, body=allowed.body, headers={"Allow": found.entry.allow})


def encode(response: Response) -> Response:
    """Return an answer that can be sent: its body as bytes or None, its headers complete.

    Raises TypeError or ValueError for a body that is not JSON-able.
    """
    body = encode_body(response.body)
    headers = {**_HEADERS, **response.headers}
    return msgspec.structs.replace(response, body=body, headers=headers)


def _checked(response: object, finish: Callable[[Response], Response]) -> Response:
    """Return the finished answer of a handler.

    Raises TypeError or ValueError for one that cannot be sent, and what encoding its body raises.
    """
    if not isinstance(response, Response):
        raise TypeError(f"the handler returned {type(response).__name__}, not a Response")
    return finish(sendable(response))


def _failed(failure: Failure, route: Route, faults: FaultDescriber, finish: Callable[[Response], Response]) -> Response:
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
