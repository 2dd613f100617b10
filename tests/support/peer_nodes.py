"""Nodes in one process, each with an admin side that listens, and a map of which node has what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from admin_server import PREFIXES, Server
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint

from stackit import AdminRequest, ManagedRepo, Repo, Response, Route
from stackit.api.mirrors import MirrorInfo
from stackit.api.nodes import Alone, Node
from stackit.config.fleet import FleetConfig
from stackit.config.model import AdminConfig, Config
from stackit.config.secret import Secret
from stackit.http.client.tls import TlsFiles
from stackit.peers.client import Wait
from stackit.peers.git_service import GitService, ServeLimits
from stackit.peers.peers import Peers
from stackit.web.admin.site import AdminSite, admin_site

TOKEN = "hunter2-hunter2"
BEARER = f"Authorization: Bearer {TOKEN}"
KEY = bytes(range(32))
WIDGET = Repo.parse("octo/widget")


class FleetMap:
    """What every node knows of the fleet: the nodes by name, the home of each repository, and the leader."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.homes: dict[str, str] = {}
        self.leader = "a"
        self.callbacks: list[Callable[[], object]] = []

    def change(self, name: str, **values: Any) -> None:
        """Change what is known of a node, and tell it."""
        self.nodes[name] = msgspec.structs.replace(self.nodes[name], **values)
        for each in self.callbacks:
            each()


class SeenFrom(Alone):
    """The map as one node sees it. ``homes`` are what it takes for the homes, if it is behind."""

    def __init__(self, fleet: FleetMap, here: str) -> None:
        self.fleet = fleet
        self.here = here
        self.homes: Mapping[str, str] | None = None

    def _home(self, repo: Repo) -> str | None:
        return (self.fleet.homes if self.homes is None else self.homes).get(repo.key)

    def nodes(self) -> Sequence[Node]:
        return tuple(self.fleet.nodes.values())

    def home(self, repo: Repo) -> Node | None:
        return self.fleet.nodes.get(self._home(repo) or "")

    def is_here(self, repo: Repo) -> bool:
        return self._home(repo) == self.here

    def leads(self) -> bool:
        return self.fleet.leader == self.here

    def leader(self) -> Node | None:
        return self.fleet.nodes.get(self.fleet.leader)

    def when_changed(self, callback: Callable[[], object]) -> None:
        self.fleet.callbacks.append(callback)


class PeerNode:
    """One node. ``asked`` are the requests that its routes answered, ``noted`` what it wrote down."""

    def __init__(
        self, name: str, seen: SeenFrom, peers: Peers, git: GitService, site: AdminSite, server: Server
    ) -> None:
        self.name = name
        self.seen = seen
        self.peers = peers
        self.git = git
        self.site = site
        self.server = server
        self.asked: list[AdminRequest] = []
        self.noted: list[tuple[str, int]] = []

    @property
    def node(self) -> Node:
        return self.seen.fleet.nodes[self.name]


class PeerFleet:
    """The nodes of a test. ``mirrors`` are the mirrors of each node, by the key of their repository."""

    def __init__(self, reactor: Any) -> None:
        self.map = FleetMap()
        self.nodes: dict[str, PeerNode] = {}
        self.mirrors: dict[str, dict[str, Path]] = {}
        self.clocks: dict[str, float] = {}
        self._reactor = reactor
        self._ports: list[Any] = []

    def seen_from(self, name: str) -> SeenFrom:
        """Return the map as a node sees it."""
        return SeenFrom(self.map, name)

    async def start(
        self,
        name: str,
        *,
        routes: Iterable[Route] = (),
        key: bytes = KEY,
        wait: Wait = Wait(),  # noqa: B008 - frozen
        limits: ServeLimits = ServeLimits(),  # noqa: B008 - frozen
        certificate: Any = None,
        ca: Path | None = None,
        **more: Any,
    ) -> PeerNode:
        """Start a node. ``certificate`` are the options of its TLS, ``ca`` whom it trusts as a client."""
        seen = self.seen_from(name)
        redirects, read_only = more.pop("redirects", False), more.pop("read_only", False)
        table = FleetConfig(postgres="dbname=stackit", node=name, address=more.pop("address", None))
        now = lambda: 1000.0 + self.clocks.get(name, 0.0)  # noqa: E731 - of this node alone

        def incarnation() -> int:
            return self.map.nodes[name].incarnation

        peers = Peers(
            key,
            reactor=self._reactor,
            nodes=seen,
            incarnation=incarnation,
            now=now,
            tls_files=lambda _: TlsFiles(ca_file=ca),
            prefix=PREFIXES[0],
            redirects=redirects,
            wait=wait,
        )
        git = GitService(
            peers.tickets,
            reactor=self._reactor,
            prefixes=PREFIXES,
            incarnation=incarnation,
            mirror=lambda repo: self._mirror(name, repo),
            limits=limits,
        )
        made: list[PeerNode] = []
        config = Config(
            state_dir=Path("unused"),
            api_prefixes=PREFIXES,
            admin=AdminConfig(),
            api_token=Secret(TOKEN),
            read_only=read_only,
            fleet=table,
        )

        def answer(request: AdminRequest) -> Any:
            made[0].asked.append(request)
            return _shown(name, request)

        def note(request: AdminRequest, status: int) -> None:
            made[0].noted.append((request.by, status))

        site = admin_site(
            config,
            [*_routes(answer), *routes],
            self._reactor,
            note=note,
            peers=peers,
            own_handler=git.find,
            limits=more.pop("limits_of_site", None),
            **more,
        )
        if certificate is None:
            endpoint: Any = TCP4ServerEndpoint(self._reactor, 0, interface="127.0.0.1")
        else:
            endpoint = SSL4ServerEndpoint(self._reactor, 0, certificate, interface="127.0.0.1")
        port = await endpoint.listen(site)
        self._ports.append(port)
        server = Server(self._reactor, port.getHost().port)
        scheme = "http" if certificate is None else "https"
        number = len(self.map.nodes) + 1
        self.map.nodes[name] = Node(name=name, incarnation=number, address=f"{scheme}://127.0.0.1:{server.port}")
        made.append(PeerNode(name, seen, peers, git, site, server))
        self.nodes[name] = made[0]
        return made[0]

    def _mirror(self, name: str, repo: Repo) -> MirrorInfo | None:
        path = self.mirrors.get(name, {}).get(repo.key)
        return None if path is None else MirrorInfo(repo=repo, path=path, exists=path.exists(), state="in_step")

    def managed(self, repo: Repo = WIDGET) -> ManagedRepo:
        return ManagedRepo(repo=repo, url="https://github.com/octo/widget.git")

    async def stop(self) -> None:
        for port in self._ports:
            await port.stopListening()
        for each in self.nodes.values():
            each.peers.close()
            await each.git.stop()
            await each.site.wind_down(5)


def _shown(name: str, request: AdminRequest) -> Response:
    person = {"by": request.by, "role": request.role, "client": request.client, "session": request.session}
    body = {"node": name, "args": request.args, "query": request.query, "body": request.body.decode(), **person}
    return Response(body=body, headers={"X-Answered-By": name})


def _routes(answer: Callable[[AdminRequest], Response | Awaitable[Response]]) -> list[Route]:
    one = "{prefix}/repos/{owner}/{name}"
    return [
        Route("GET", one, answer, node="mirror", query=()),
        Route("POST", f"{one}/sync", answer, node="mirror", query=("accept",)),
        Route("POST", "{prefix}/discover", answer, node="leader", query=("dry_run",)),
        Route("POST", "{prefix}/anywhere", answer),
    ]
