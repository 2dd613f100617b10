"""What this node asks of the others, and what it does for them."""

from __future__ import annotations

from collections.abc import Callable

from stackit.api.admin import Route
from stackit.api.events import Repo
from stackit.api.metrics import Collector
from stackit.api.mirrors import MirrorInfo
from stackit.api.nodes import Nodes
from stackit.api.reactor import Reactor
from stackit.config.model import Config
from stackit.http.client.tls import TlsFiles
from stackit.peers.git_service import GitService
from stackit.peers.metrics import PeerMetrics
from stackit.peers.peers import Peers
from stackit.peers.watch import PeerWatch, here_route


class PeerParts:
    """``peers`` is for the admin side and for mirrors, ``git`` serves mirrors of this node to the others."""

    def __init__(
        self,
        config: Callable[[], Config],
        node_key: bytes,
        *,
        reactor: Reactor,
        nodes: Nodes,
        incarnation: Callable[[], int | None],
        now: Callable[[], float],
        mirror: Callable[[Repo], MirrorInfo | None],
    ) -> None:
        """``config`` returns the configuration of now: its ``[[hosts]]`` say whom to trust."""
        prefixes = config().api_prefixes
        self._nodes = nodes
        self.peers = Peers(
            node_key,
            reactor=reactor,
            nodes=nodes,
            incarnation=incarnation,
            now=now,
            tls_files=lambda url: TlsFiles(**config().access.tls(url)),
            prefix=prefixes[0],
            redirects=config().fleet.forward == "redirect",
        )
        self.git = GitService(
            self.peers.tickets, reactor=reactor, prefixes=prefixes, incarnation=incarnation, mirror=mirror
        )

        self.watch = PeerWatch(self.peers.ask, nodes=nodes, reactor=reactor, prefix=prefixes[0])

    def routes(self) -> list[Route]:
        """Return the route by which nodes see whether this one answers."""
        return [here_route(self._nodes)]

    def collectors(self) -> list[tuple[str, Collector]]:
        """Return the metrics of what nodes ask each other."""
        return [("peers", PeerMetrics(lambda: self.peers.counts, lambda: self.git.counts))]

    async def stop(self) -> None:
        """Break off what is under way between nodes."""
        looking = self.watch.stopService() if self.watch.running else None
        self.peers.close()
        await self.git.stop()
        if looking is not None:
            await looking
