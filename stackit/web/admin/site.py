"""The admin side as a site: the rules of ``rules``, served within the bounds of ``BoundedSite``."""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from stackit.api.admin import RequestHead, Response, Role, Route
from stackit.api.reactor import Reactor
from stackit.config.model import Config
from stackit.http.server.connection import Connection
from stackit.http.server.interfaces import BodySink, RequestHandler, ServerRequest
from stackit.http.server.refusals import RETRY_AFTER, TOO_LARGE, Refusal
from stackit.http.server.site import BoundedSite, Limits
from stackit.secrets.redactor import Redact
from stackit.text.redaction import redacted
from stackit.web.admin.answers import encode
from stackit.web.admin.cors import Cors
from stackit.web.admin.guard import Guard
from stackit.web.admin.peers import Peers
from stackit.web.admin.rules import BODY_CAP, Admin, Note, ProblemPage
from stackit.web.admin.streams import Streams
from stackit.web.admin.tokens import Tokens
from stackit.web.connection_capacity import room_for_admin, room_for_connections
from stackit.web.failures import log_failure
from stackit.web.sessions.sessions import Sessions

_BUSY = encode(
    Response(
        status=503,
        body={"error": "too many requests of this kind wait for their answers: come again later"},
        headers={"Retry-After": str(RETRY_AFTER)},
    )
)
_SMALL = 256 * 2**10
MOST_UNSENT = 64 * 2**20
"""Bytes of answers that viewers may leave unread, in all: a payload may have 25 MiB."""
_NOT_LOGGED = {204, 404, 405, 429}
_REASONS = {401: "not_known", 403: "forbidden", 421: "host"}
ClientOf = Callable[[RequestHead], str | None]
FindHandler = Callable[[bytes], RequestHandler | None]
Call = Callable[..., Coroutine[Any, Any, Response]]
_log = Logger(namespace="stackit")


def no_handler(_path: bytes) -> RequestHandler | None:
    """Return None: no path has a handler of its own."""
    return None


def admin_site(
    config: Config,
    routes: Iterable[Route],
    reactor: Reactor,
    *,
    limits: Limits | None = None,
    client_of: ClientOf = lambda _: None,
    redact: Redact = redacted,
    sessions: Sessions | None = None,
    note: Note = lambda _, __: None,
    problem_page: ProblemPage | None = None,
    peers: Peers | None = None,
    own_handler: FindHandler = no_handler,
) -> AdminSite:
    """Return the admin side of a configuration. Raises StackitError for routes that cannot be served.

    ``client_of`` returns the address of a client behind a trusted proxy, and None for others. ``redact`` is for what
    routes fail with, ``sessions`` are those of people. ``note`` is told of what was to be changed.
    ``problem_page`` makes the page that a browser gets in place of an error. ``peers`` are the other nodes of a fleet.
    ``own_handler`` returns the handler of a path that has one of its own, beside these rules; None for most.
    """
    if limits is None:
        connections = room_for_admin(room_for_connections())
        limits = Limits(deadline=30.0, connections=connections, memory=connections * BODY_CAP)
    admin = Admin(
        routes,
        reactor=reactor,
        prefixes=config.api_prefixes,
        guard=guard(config, sessions),
        redact=redact,
        read_only=config.read_only,
        cors=Cors(config.admin.cors_origins),
        note=note,
        problem_page=problem_page,
        peers=peers,
    )
    return AdminSite(admin, reactor=reactor, limits=limits, client_of=client_of, own_handler=own_handler)


def tokens(config: Config) -> Tokens | None:
    """Return the tokens of the admin side, their files read; None where it needs none."""
    fixed = [config.api_token] if config.api_token is not None else []
    return Tokens(fixed, config.admin.token_files) if fixed or config.admin.token_files else None


def guard(config: Config, sessions: Sessions | None) -> Guard:
    """Return the protection of the admin side that a configuration asks for; its token files are read."""
    found = tokens(config)
    return Guard(
        tokens=found,
        hosts=[*config.admin.hosts, *_own_hosts(config)],
        label=found.label if found is not None else str,
        sessions=sessions,
        login=config.login,
        url=config.admin.url,
    )


def _own_hosts(config: Config) -> list[str]:
    """Return the name by which other nodes of a fleet send people here."""
    address = config.fleet.address
    return [urlsplit(address).netloc] if config.fleet.is_configured and address is not None else []


class AdminSite(BoundedSite):
    """A site whose every path is answered by the rules of the admin side.

    A refused request is a line in the log. It is no occurrence ``refused``: those are about strangers, and the rate
    limiter slows down their addresses.
    """

    def __init__(
        self,
        admin: Admin,
        *,
        reactor: Reactor,
        limits: Limits,
        client_of: ClientOf,
        own_handler: FindHandler = no_handler,
    ) -> None:
        on_refused = partial(_log_refusal, client_of)
        super().__init__({}, reactor=reactor, on_refused=on_refused, on_failure=log_failure, limits=limits)
        self._admin = admin
        self._client_of = client_of
        self._own_handler = own_handler
        self._waiting: Counter[str] = Counter()  # requests by route
        self.streams = Streams(reactor, self._role)

    @property
    def guard(self) -> Guard:
        """The protection as it is now."""
        return self._admin.guard

    @property
    def call(self) -> Call:
        """Answer a call of a page, in the name of the one who asked for it: see ``Admin.call``."""
        return self._admin.call

    def client(self, head: RequestHead) -> str:
        """Return the address of who asks, also behind a trusted proxy."""
        return self._client_of(head) or head.client

    def peer(self, head: RequestHead, connection: Connection) -> str:
        """Return the name for people of who asks without being known: an address, or the user of a socket."""
        return self._client_of(head) or _peer(connection)

    def _role(self, head: RequestHead) -> Role | None:
        asker = self.guard.asker(head, "", is_seen=False)
        return None if asker is None else asker.role

    def change_guard(self, guard: Guard) -> None:
        """Protect the admin side by other tokens and names, from the next request on."""
        self._admin.guard = guard
        self.streams.check()

    def change_reach(self, *, read_only: bool, cors_origins: Collection[str]) -> None:
        """Allow other changes, and pages of other origins, from the next request on."""
        self._admin.read_only = read_only
        self._admin.cors = Cors(cors_origins)

    def bounded(self, head: RequestHead, response: Response) -> Response:
        """Return an answer; another one in place of a large one, while too much lies here that clients do not read.

        Operators get every answer.
        """
        size = len(response.body) if isinstance(response.body, bytes) else 0
        if size <= _SMALL or self.unsent == 0 or self.unsent + size <= MOST_UNSENT or self._role(head) == "operator":
            return response
        return _BUSY

    def admit(self, route: str) -> bool:
        """Return whether one more request of a route may wait for its answer. If so, ``answered`` has to follow.

        A route has no time limit, and a client that hung up is not always noticed. So a route may have a quarter of all
        connections, and a 32nd of them once half of all connections wait.
        """
        most = self.limits.connections // (4 if self._waiting.total() < self.limits.connections // 2 else 32)
        if self._waiting[route] >= max(1, most):
            return False
        self._waiting[route] += 1
        return True

    def answered(self, route: str) -> None:
        """Count a request that ``admit`` let in as answered."""
        self._waiting[route] -= 1

    def find_handler(self, path: bytes, connection: Connection) -> RequestHandler:
        """Return the handler of a request on this connection, whatever its path."""
        return self._own_handler(path) or _AdminHandler(self, self._admin, connection)


def _log_refusal(client_of: ClientOf, client: str, head: RequestHead | None, refusal: Refusal) -> None:
    if refusal.response.status not in _NOT_LOGGED:
        behind_proxy = None if head is None else client_of(head)
        _log.warn(
            "admin request refused client={client} status={status} reason={reason}",
            client=behind_proxy or client,
            status=refusal.response.status,
            reason=refusal.reason,
        )


class _Body(BodySink):
    """The body of an admin request, kept whole."""

    limit = BODY_CAP
    keep = True
    throttled = False

    def update(self, chunk: bytes) -> None:
        """Do nothing with the piece: the site keeps it."""


def _peer(connection: Connection) -> str:
    """Return the name for people of a peer: its address, or the user at the other end of a unix socket."""
    host = getattr(connection.transport.getPeer(), "host", None)
    if host is not None:
        return str(host)
    try:
        handle: Any = connection.transport.getHandle()
        _, user, _ = struct.unpack(
            "3i", handle.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        )
    except (AttributeError, OSError):
        return "the socket"
    return f"the socket (user {user})"


class _AdminHandler:
    """The handler of one request on a connection."""

    def __init__(self, site: AdminSite, admin: Admin, connection: Connection) -> None:
        self._site = site
        self._admin = admin
        self._connection = connection
        self._address = str(getattr(connection.transport.getHost(), "host", "localhost"))

    def handle_head(self, head: RequestHead, length: int | None) -> BodySink | Refusal:
        """Refuse the request by its head, or return the sink of its body."""
        refused = self._admin.refuse(head, self._address, self._site.client(head))
        if refused is not None:
            reason = "node" if self._admin.is_from_node(head) else _REASONS.get(refused.status, "admin")
            return Refusal(reason, refused)
        return TOO_LARGE if length is not None and length > BODY_CAP else _Body()

    def handle_request(self, request: ServerRequest) -> None:
        """Answer a request that has arrived whole."""
        route = self._admin.route(request.head)
        if not self._site.admit(route):
            request.answer(self._admin.sealed(request.head, _BUSY))
            return
        query, body = request.target.partition(b"?")[2], request.body

        def answered(result: Any) -> Any:
            self._site.answered(route)
            return result

        # It goes on when the client hangs up: others may wait for the same sync, and a replay must not stop half way.
        peer, client = self._site.peer(request.head, self._connection), self._site.client(request.head)
        answering = Deferred.fromCoroutine(self._admin.answer(request.head, query, body, peer, client))
        answering.addBoth(answered).addCallback(partial(self._site.streams.watched, request.head))
        answering.addCallback(partial(self._site.bounded, request.head))
        answering.addCallback(partial(self._admin.sealed, request.head))
        answering.addCallback(request.answer).addErrback(request.fail)
