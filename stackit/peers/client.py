"""Requests to other nodes, each as the person who asked here."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import quote, urlencode

import msgspec
from twisted.internet.defer import CancelledError

from stackit.api.admin import AdminRequest, BodyStream, Response, error
from stackit.api.nodes import Node, Nodes
from stackit.api.reactor import Reactor
from stackit.http.client.connector import Connector
from stackit.http.client.errors import RemoteError
from stackit.http.client.exchange import Exchange, ResponseHead
from stackit.http.client.timeouts import Timeouts
from stackit.http.client.tls import TlsFiles
from stackit.http.client.urls import parse_url
from stackit.peers.answers import INCARNATION, PROOF, REFUSAL, canonical, passed_on
from stackit.peers.claims import Claims, Keys, digest_of, is_same

_MOST = 32 * 2**20
"""Bytes of an answer that is read whole."""
_LONGEST_HEAD = 15 * 2**10
"""Bytes of the line and the headers of a request: a node takes a little more. What has to be escaped gets longer."""
_LONGEST_EVENT_ID = 1000
"""Characters of a ``Last-Event-ID`` that goes along: the claims have to fit into a header."""
_QUERY = "/:@!$'()*,;?~"
"""Characters of a query that stay as they are: it must not get much longer than it was."""
_PATH = "/%:@!$&'()*+,;=~"
"""Those of a path, which comes as it was sent here: what is escaped in it must not be escaped again."""
# What is told of a node by the reason of a RemoteError. The metrics count by these, too.
_REASONS = {
    "unreachable": "does not answer",
    "timeout": "does not answer in time",
    "tls": "shows a certificate that this node does not trust (see ca_file in [[hosts]])",
    "protocol": "gives an answer that is none of stackit's",
    "too_long": "cannot be asked this: the path and the query are too long",
    "too_large": "gives an answer that is too large",
    "stranger": "does not know the key of this fleet: is its address that of a node on the same database?",
    "busy": "has too much to do to answer",
    "gone": "went away meanwhile",
    "stops": "was asked by one that stops now",
}


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds: for a connection, for the answer to a GET, and for a body whose head has come.

    ``question`` is for what nodes ask each other, be it a GET or not: the other one may have to ask GitHub, twice.
    """

    connect: float = 5.0
    answer: float = 30.0
    question: float = 90.0
    body: float = 30.0


class PeerClient:
    """Asks other nodes. A request that changes something has no time limit here, as it has none there.

    It ends when its node goes away. ``tls_files`` returns the files of TLS for a URL.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        reactor: Reactor,
        nodes: Nodes,
        now: Callable[[], float],
        tls_files: Callable[[str], TlsFiles],
        wait: Wait = Wait(),  # noqa: B008 - frozen
    ) -> None:
        self._keys = keys
        self._reactor = reactor
        self._nodes = nodes
        self._now = now
        self._tls_files = tls_files
        self._wait = wait
        self._connecting: set[Connector] = set()
        self._open: dict[Exchange, Node] = {}
        self.counts = Counter(dict.fromkeys(("answered", "refused", *_REASONS), 0))
        self._is_closed = False
        nodes.when_changed(self._look)

    async def ask(self, node: Node, request: AdminRequest) -> Response:
        """Return the answer of a node, not encoded; an error in its place names the node. Never raises RemoteError."""
        return await self._answered(node, request, self._wait.answer if request.method in ("GET", "HEAD") else None)

    async def question(self, node: Node, request: AdminRequest) -> Response:
        """Return the answer to what nodes alone ask, as ``ask`` does; it has to come in time."""
        return await self._answered(node, request, self._wait.question)

    def close(self) -> None:
        """Break off what is under way."""
        self._is_closed = True
        for connector in list(self._connecting):
            connector.cancel()
        for exchange in list(self._open):
            exchange.give_up("stops")

    async def _answered(self, node: Node, request: AdminRequest, within: float | None) -> Response:
        try:
            response = await self._ask(node, request, node.incarnation, within)
            if response.headers.get(REFUSAL) == "incarnation":  # it was started anew, which is not known here yet
                told = response.headers.get(INCARNATION, "")
                response = await self._ask(node, request, int(told) if told.isdecimal() else 0, within)
        except RemoteError as problem:
            self.counts[problem.reason] += 1
            return failed(node, problem.reason)
        reason = response.headers.get(REFUSAL)
        if reason is None or reason == "moved":
            self.counts["answered"] += 1
            return response
        self.counts["refused"] += 1
        return error(502, f"node {node.name} at {node.address} refuses this node: {_text(response)}; see stackit fleet")

    def _look(self) -> None:
        """Break off what was asked of nodes that are gone."""
        there = {(each.name, each.incarnation) for each in self._nodes.nodes() if each.state != "away"}
        for exchange, node in list(self._open.items()):
            if (node.name, node.incarnation) not in there:
                exchange.give_up("gone")

    async def _ask(self, node: Node, request: AdminRequest, incarnation: int, within: float | None) -> Response:
        try:
            base = parse_url(node.address)
            timeouts = Timeouts(connect=self._wait.connect)
            connector = Connector(self._reactor, base.address, self._tls_files(node.address), timeouts)
        except ValueError:
            raise RemoteError("unreachable") from None
        method = "GET" if request.method == "HEAD" else request.method
        path, query = quote(request.path, safe=_PATH), urlencode(dict(request.query), safe=_QUERY)
        claims = Claims(
            node=self._nodes.here,
            to=node.name,
            incarnation=incarnation,
            method=method,
            path=digest_of(path.encode()),
            query=digest_of(query.encode()),
            body=digest_of(request.body),
            at=self._now(),
            once=secrets.token_urlsafe(18),
            by=request.by,
            role=request.role,
            client=request.client,
            session=request.session,
            last_event_id=request.last_event_id if len(request.last_event_id) <= _LONGEST_EVENT_ID else "",
        )
        lines = [
            f"{method} {base.path.rstrip('/')}{path}{'?' if query else ''}{query} HTTP/1.1",
            f"Host: {base.host}",
            f"Authorization: {self._keys.sign(claims)}",
            f"Content-Length: {len(request.body)}",
            "Connection: close",
        ]
        head = "\r\n".join([*lines, "", ""]).encode("ascii")
        if len(head) > _LONGEST_HEAD:
            raise RemoteError("too_long")
        exchange = await self._connect(connector)
        self._open[exchange] = node
        exchange.when_closed(lambda: self._open.pop(exchange, None))
        answered = await exchange.head(head + request.body, within=within)
        return await self._answer(exchange, answered, claims.once, has_body=request.method != "HEAD")

    async def _connect(self, connector: Connector) -> Exchange:
        self._connecting.add(connector)
        try:
            return await connector.connect(lambda: Exchange(self._reactor))
        except CancelledError:
            if self._is_closed:
                raise RemoteError("stops") from None
            raise
        finally:
            self._connecting.discard(connector)

    async def _answer(self, exchange: Exchange, head: ResponseHead, once: str, *, has_body: bool) -> Response:
        kind = head.headers.get(b"content-type", (b"application/json",))[-1].decode("latin-1")
        response = Response(status=head.status, content_type=kind, headers=passed_on(head.headers))
        if head.length is None:
            response = msgspec.structs.replace(response, stream=self._stream(exchange))
        else:
            body = await exchange.body(_MOST, within=self._wait.body)
            response = msgspec.structs.replace(response, body=body)
        proof = head.headers.get(PROOF.lower().encode(), (b"",))[-1].decode("latin-1")
        if not is_same(proof, self._keys.prove(once, canonical(response))):
            exchange.abort()
            # The site itself turns away what is too much for it, and knows nothing of nodes.
            raise RemoteError("busy" if head.status == HTTPStatus.SERVICE_UNAVAILABLE else "stranger")
        if response.stream is not None and not has_body:
            exchange.abort()
            return msgspec.structs.replace(response, stream=None)
        return response

    def _stream(self, exchange: Exchange) -> Callable[[BodyStream], object]:
        """Return the writer of a body that comes bit by bit. One that is not called soon has nobody who reads it."""
        unread = self._reactor.callLater(self._wait.body, exchange.abort)
        exchange.when_closed(lambda: unread.cancel() if unread.active() else None)

        def write(stream: BodyStream) -> None:
            unread.cancel()
            stream.when_ended(lambda _: exchange.abort())
            stream.pace(exchange.pause, exchange.resume)
            exchange.stream(stream.write, lambda how: stream.finish() if how == "complete" else stream.break_off())

        return write


def failed(node: Node, reason: str) -> Response:
    """Return the answer for a node that gave none."""
    status = {"timeout": 504, "busy": 503, "too_long": 414}.get(reason, 502)
    said = _REASONS.get(reason, reason)
    return error(status, f"node {node.name} at {node.address or 'no address'} {said}; see stackit fleet")


def _text(response: Response) -> str:
    try:
        return str(msgspec.json.decode(response.body or b"", type=dict[str, str]).get("error"))[:200]
    except msgspec.DecodeError:
        return f"status {response.status}"
