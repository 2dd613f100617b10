"""The rules of the admin side: protection, routing, and which node answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType

import msgspec
from twisted.logger import Logger

from stackit.api.address_limiter import AddressLimiter
from stackit.api.admin import AdminRequest, RequestHead, Response, Route, error
from stackit.api.faults import FaultDescriber
from stackit.api.reactor import Reactor
from stackit.bus.timeouts import HandlerTimeout, call, with_timeout
from stackit.secrets.redactor import Redact
from stackit.text.redaction import redacted
from stackit.web.admin.answers import Finish, answer_of, decoded, encode
from stackit.web.admin.cors import Cors
from stackit.web.admin.guard import SAFE_METHODS, Guard, is_form
from stackit.web.admin.peers import Peers
from stackit.web.admin.refusals import (
    busy,
    forbidden,
    in_words,
    login_address,
    nobody,
    other_method,
    too_much,
    unknown_parameter,
)
from stackit.web.admin.router import Match, Router
from stackit.web.codec import parse_query

BODY_CAP = 64 * 1024
"""Bytes of body that an admin request may have."""
_LOOKS = 8
"""Requests of one address that may wait for the journal to tell who asks: strangers must not keep a route busy so."""

_FOLLOW = 1.0
"""Seconds that a node waits with the answer of another one until it knows of what was changed there."""

_READ_ONLY = "stackit is read-only: nothing can be changed while the configuration has read_only = true"
_NO_CORS = Cors()
NOTHING: Mapping[str, str] = MappingProxyType({})
_log = Logger(namespace="stackit")


Note = Callable[[AdminRequest, int], object]
"""Writes down a request that was to change something, and the status of its answer."""

ProblemPage = Callable[[AdminRequest | None, int, str], Response]
"""Makes the page that tells a person an error: of their request (None for a stranger), its status, and its text."""


class Admin:
    """The rules of the admin side, without a connection.

    ``refuse`` is given the head of a request, ``answer`` the whole request: a refused request costs no reading of its
    body. Both return answers that are encoded. ``call`` is for pages, whose every deed is a call of a route. ``guard``
    is the protection, ``read_only`` refuses what changes anything, and ``cors`` shares answers with pages of other
    origins; each may be replaced. ``peers`` are the other nodes of a fleet. A browser that opens a path, or sends a
    form, gets the ``problem_page`` of a refusal, if there is one and the path is none of the API.
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
        peers: Peers | None = None,
    ) -> None:
        """``note`` is told of what was to be changed. Raises StackitError for routes that cannot be served together."""
        self._reactor = reactor
        self._router = Router(routes, prefixes)
        self._prefix = prefixes[0]
        self._prefixes = tuple(f"{each}/".encode() for each in prefixes)
        self._problem_page = problem_page
        self._peers = peers
        self.guard = guard
        self._faults = FaultDescriber(redact)
        self._note = note
        self.read_only = read_only
        self.cors = cors
        self._slowdown = AddressLimiter(reactor.seconds, burst=30, per_minute=30)
        self._looking: Counter[str] = Counter()  # requests of an address of whose sender the journal is asked

    # -- by the head of a request -------------------------------------------------

    def refuse(self, head: RequestHead, address: str, client: str = "") -> Response | None:
        """Return the answer that refuses a request; None for one that may go on.

        ``address`` is the local address of the connection, ``client`` the address of who asks.
        """
        if self._peers is not None and self._peers.is_from_node(head):
            refusal = self._peers.refusal(head)
            return None if refusal is None else self.sealed(head, encode(refusal))
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
        page = self._problem_page(asked, refused.status, in_words(refused))
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
        if self.guard.is_unsure(head):
            return self.guard.refuse_foreign(head, takes_forms=route is not None and route.form) or self._unroutable(
                head
            )
        if asker is None and not (route is not None and route.open):
            # Where a browser goes from here depends on the query, which comes later.
            return None if wants_page(head) else self._refused(client, nobody())
        refused = self.guard.refuse_foreign(head, takes_forms=route is not None and route.form)
        refused = refused or self._unroutable(head) or too_much(route, asker)
        if refused is not None and refused.status == HTTPStatus.FORBIDDEN and not (asker and asker.is_known):
            return self._refused(client, refused)
        return refused

    def _refused(self, client: str, refused: Response) -> Response:
        """Count a refusal of a stranger, and return the answer: that it has to wait, where it was refused too often."""
        return self._slowdown.admit(client) or refused

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
            return other_method(found)
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
        if self._peers is not None and self._peers.is_from_node(head):
            return await self._answer_node(self._peers, head, query, body)
        if self.guard.is_unsure(head):
            waiting = self._slowdown.refusal(client) or (busy() if self._looking[client] >= _LOOKS else None)
            if waiting is not None:
                return self.cors.share(head, self._told(head, waiting))
            if not await self._look_up(head, client):
                self._slowdown.spend(client)
        response = await self._answer(head, query, body, peer, client)
        if head.method not in SAFE_METHODS or "Set-Cookie" in response.headers:
            await self.guard.settled()
        return self.cors.share(head, response)

    async def _look_up(self, head: RequestHead, client: str) -> bool:
        self._looking[client] += 1
        try:
            return await self.guard.look_up(head)
        finally:
            self._looking[client] -= 1
            if not self._looking[client]:
                del self._looking[client]

    def sealed(self, head: RequestHead, response: Response) -> Response:
        """Return an encoded answer as it is sent: another node has to see who gives it."""
        return self._peers.prove(head, response) if self._peers is not None and self.is_from_node(head) else response

    def is_from_node(self, head: RequestHead) -> bool:
        """Return whether a request is another node's, as it says itself."""
        return self._peers is not None and self._peers.is_from_node(head)

    async def _answer(self, head: RequestHead, query: bytes, body: bytes, peer: str, client: str) -> Response:
        asker = self.guard.asker(head, peer)
        found = self._router.find(head.path)
        method, path = head.method.decode("latin-1"), head.path.decode("latin-1")
        match = found.route(method) if found else None
        if asker is None and not (match is not None and match[0].open):
            if not wants_page(head):
                return self._told(head, nobody())
            return encode(Response(status=303, headers={"Location": login_address(head.path, query)}))
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
        refused = too_much(route, asker)
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
        return await self._served(route, request, encode, None if wants_no_redirect(head) else query)

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
            return other_method(found)
        held = self._held(found, method)
        if held is not None:
            return held
        route, args = match
        request = msgspec.structs.replace(
            asked, method=method, path=full, args=args, query=query, body=body, form={}, via_node=""
        )
        if route.role_needed == "operator" and asked.role != "operator":
            self._write_down(route, request, HTTPStatus.FORBIDDEN)
            return forbidden()
        return await self._served(route, request, lambda response: response)

    async def _served(
        self, route: Route, request: AdminRequest, finish: Finish, query: bytes | None = None
    ) -> Response:
        """Answer here, or have the node answer that has what is asked for.

        ``query`` is as it was sent; None for who can be sent nowhere else, as a page.
        """
        unknown = unknown_parameter(route, request)
        if unknown is not None:
            return finish(unknown)
        where = None if self._peers is None else self._peers.elsewhere(route, request.args)
        if self._peers is None or where is None:
            response = await self._handled(route, request, finish)
        elif isinstance(where, Response):
            response = finish(where)
        else:
            redirect = None if query is None else self._peers.redirect(where, request.path, query)
            if redirect is not None:
                return finish(redirect)  # that node writes it down
            answered = await self._peers.ask(where, request)
            await self._follow(route, request, answered)
            response = finish(decoded(answered) if query is None else answered)
        self._write_down(route, request, response.status)
        return response

    async def _follow(self, route: Route, request: AdminRequest, answered: Response) -> None:
        """Wait until this node knows of what another one has changed for it: who asked may ask here again."""
        if route.forwarded is None or answered.status >= HTTPStatus.MULTIPLE_CHOICES:
            return
        try:
            await with_timeout(self._reactor, call(route.forwarded, request, answered), _FOLLOW)
        except HandlerTimeout:
            return
        except Exception as problem:  # noqa: BLE001 - a plugin's: the change is made, whatever becomes of this
            _log.error(
                "admin route {route} cannot be followed: {problem}",
                route=f"{route.method} {route.path}",
                problem=self._faults.describe(problem).error,
            )

    # -- requests of other nodes ------------------------------------------------------

    async def _answer_node(self, peers: Peers, head: RequestHead, query: bytes, body: bytes) -> Response:
        """Answer what another node asks for a person, whom it knows, and of whom it writes down what they do."""
        request = peers.admit(head, query, body)
        if isinstance(request, Response):
            return encode(request)
        found = self._router.find(head.path)
        match = None if found is None else found.route(request.method)
        if found is None or match is None:
            return encode(error(404, "this node has no such path: is it of another version?"))
        route, args = match
        request = msgspec.structs.replace(request, args=args)
        if route.open or route.form:
            return encode(forbidden())
        if route.role_needed == "operator" and request.role != "operator":
            return encode(forbidden())
        refused = self._held(found, request.method) or unknown_parameter(route, request) or peers.moved(route, args)
        return encode(refused) if refused is not None else await self._handled(route, request, encode)

    async def _handled(self, route: Route, request: AdminRequest, finish: Finish) -> Response:
        return await answer_of(route, request, finish, reactor=self._reactor, faults=self._faults)

    def _write_down(self, route: Route, request: AdminRequest, status: int) -> None:
        # The action of a page calls the route that does it, which is written down.
        if request.method.encode() in SAFE_METHODS or route.form:
            return
        # A stranger who may look could fill the log and the journal.
        is_stranger = request.role == "viewer" and not request.session
        if not is_stranger or self._slowdown.admit(request.client) is None:
            self._note(request, status)


def wants_page(head: RequestHead) -> bool:
    """Return whether a browser asks for a page."""
    return head.method in (b"GET", b"HEAD") and accepts_page(head)


def wants_no_redirect(head: RequestHead) -> bool:
    """Return whether who asks follows no redirect: the shell, whose token is for this address."""
    return b"x-stackit-no-redirect" in head.headers


def accepts_page(head: RequestHead) -> bool:
    """Return whether a page may be the answer."""
    return b"text/html" in b",".join(head.headers.get(b"accept", ()))
