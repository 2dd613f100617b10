"""The other nodes of the fleet, for the admin side of this one, and for mirrors that are fetched from there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote

import msgspec

from stackit.api.admin import AdminRequest, RequestHead, Response, Route, error
from stackit.api.events import Repo
from stackit.api.nodes import Node, Nodes
from stackit.api.reactor import Reactor
from stackit.api.repos import ManagedRepo
from stackit.http.client.tls import TlsFiles
from stackit.peers.affinity import NodeAffinity
from stackit.peers.claims import Keys
from stackit.peers.client import PeerClient, Wait, failed
from stackit.peers.copy_token import CopyToken
from stackit.peers.gate import Gate, moved
from stackit.peers.git_service import PATH
from stackit.peers.tickets import Tickets

_EVERY_REF = ("+refs/*:refs/*",)


class Peers:
    """Finds the node that answers a request, asks it, and lets in what other nodes ask.

    ``node_key`` is the key that the nodes of the fleet share, ``incarnation`` returns that of this process (None while
    it has none). ``tls_files`` returns the files of TLS for a URL. ``prefix`` is the first prefix of the API.
    With ``redirects``, who asks is sent to the other node, where that is possible.
    """

    def __init__(
        self,
        node_key: bytes,
        *,
        reactor: Reactor,
        nodes: Nodes,
        incarnation: Callable[[], int | None],
        now: Callable[[], float],
        tls_files: Callable[[str], TlsFiles],
        prefix: str,
        redirects: bool = False,
        wait: Wait = Wait(),  # noqa: B008 - frozen
    ) -> None:
        keys = Keys(node_key)
        self.tickets = Tickets(keys.ticket, now)
        self._nodes = nodes
        self._prefix = prefix
        self._tls_files = tls_files
        self._redirects = redirects
        self._gate = Gate(keys, here=nodes.here, incarnation=incarnation, now=now, seconds=reactor.seconds)
        self._client = PeerClient(keys, reactor=reactor, nodes=nodes, now=now, tls_files=tls_files, wait=wait)
        self.affinity = NodeAffinity(keys.affinity, nodes=nodes, ask=self._client.question, prefix=prefix)

    # -- requests that come from other nodes ------------------------------------------

    def is_from_node(self, head: RequestHead) -> bool:
        """Return whether a request is another node's, as it says itself."""
        return self._gate.is_from_node(head)

    def refusal(self, head: RequestHead) -> Response | None:
        """Return the answer that refuses a node's request by its head; None for one whose body may come."""
        return self._gate.refusal(head)

    def admit(self, head: RequestHead, query: bytes, body: bytes) -> AdminRequest | Response:
        """Return the request of the person for whom a node asks, without ``args``; or the answer that refuses it."""
        return self._gate.admit(head, query, body)

    def prove(self, head: RequestHead, response: Response) -> Response:
        """Return an encoded answer to a node with the proof of who gives it."""
        return self._gate.prove(head, response)

    def moved(self, route: Route, args: Mapping[str, str]) -> Response | None:
        """Return the answer to a node that asks for what is not here; None for what is."""
        return None if self.elsewhere(route, args) is None else moved(_subject(route, args))

    # -- requests that go to other nodes ----------------------------------------------

    def elsewhere(self, route: Route, args: Mapping[str, str]) -> Node | Response | None:
        """Return the node that has to answer a request; None for this one, an answer where there is none."""
        nodes = self._nodes
        if route.node == "any":
            return None
        if route.node == "leader":
            if nodes.leads():
                return None
            node = nodes.leader()
        else:
            try:
                repo = Repo.parse(f"{args['owner']}/{args['name']}")
            except ValueError:
                return None  # the handler says what is wrong with it
            if nodes.is_here(repo):
                return None
            node = nodes.home(repo)
        if node is None or node.name == nodes.here:
            return _nowhere(
                f"this node does not know now who has {_subject(route, args)}: come again soon; see stackit fleet"
            )
        if node.state == "away":
            return error(502, f"{_subject(route, args)} is at node {node.name}, which is away; see stackit fleet")
        return node

    async def ask(self, node: Node, request: AdminRequest) -> Response:
        """Return the answer of a node to a request, not encoded; one that says why, where it gives none."""
        return await self._client.ask(node, request)

    def redirect(self, node: Node, path: str, query: bytes) -> Response | None:
        """Return the answer that sends a client to a node; None where its request is forwarded."""
        if not self._redirects:
            return None
        if not node.address:
            return failed(node, "unreachable")
        there = f"{node.address.rstrip('/')}{path}{'?' if query else ''}{query.decode('latin-1')}"
        body = {"error": f"node {node.name} answers this, at {there}", "node": node.name}
        return Response(status=307, body=body, headers={"Location": there})

    @property
    def counts(self) -> Mapping[str, int]:
        """How many requests other nodes were asked, by result."""
        return self._client.counts

    # -- mirrors ------------------------------------------------------------------------

    def copy_at(self, managed: ManagedRepo, node: Node) -> ManagedRepo | None:
        """Return a managed repository whose remote is the mirror of a node; None for one that cannot be reached."""
        if not node.address or node.state == "away":
            return None
        path = quote(managed.repo.path, safe="/")
        url = f"{node.address.rstrip('/')}{self._prefix}{PATH}{path}"
        files = self._tls_files(url)
        return msgspec.structs.replace(
            managed,
            url=url,
            refspecs=_EVERY_REF,
            token_file=None,
            token_scheme="bearer",  # noqa: S106 - no secret
            token_source=CopyToken(self.tickets, managed.repo.key, node.incarnation),
            app=None,
            ca_file=files.ca_file,
            client_cert=files.client_cert,
            client_key=files.client_key,
        )

    def close(self) -> None:
        """Break off what other nodes are asked."""
        self._client.close()


def _subject(route: Route, args: Mapping[str, str]) -> str:
    return "what is done at one node only" if route.node == "leader" else f"{args['owner']}/{args['name']}"[:150]


def _nowhere(text: str) -> Response:
    return msgspec.structs.replace(error(503, text), headers={"Retry-After": "1"})
