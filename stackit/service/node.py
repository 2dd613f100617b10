"""This process's place among those that share its journal: the only one, or one of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from stackit.api.admin import AdminRequest, Response, Route, error
from stackit.api.events import Repo
from stackit.api.metrics import Collector
from stackit.api.mirrors import MirrorInfo
from stackit.api.nodes import Alone, Nodes
from stackit.api.pages import Page
from stackit.api.threads import MonitoredThread
from stackit.config.model import Config
from stackit.dispatch.dispatch import Dispatch
from stackit.fleet.answers import fleet_route
from stackit.journal import JournalProtocol

if TYPE_CHECKING:
    from stackit.service.peers import PeerParts


class ThisNode(Protocol):
    """What the service asks of this process's place: ``SingleNode``, or in a fleet ``FleetNode``."""

    receives: bool
    """Whether it takes deliveries at all."""
    now: Callable[[], float]
    """The clock of all who share its journal, in seconds since the epoch: for what one writes there and others read."""

    @property
    def nodes(self) -> Nodes:
        """The nodes, as plugins see them."""

    def make_peers(self, config: Callable[[], Config], mirror: Callable[[Repo], MirrorInfo | None]) -> PeerParts | None:
        """Make what this node asks of the others, and does for them; return None where there is nobody.

        ``config`` returns the configuration of now, ``mirror`` a mirror that is here. Blocks. Raises JournalError.
        """

    def start(self, dispatch: Dispatch) -> None:
        """Take part in the work, once the queues are open. ``leave`` and ``stop`` end that."""

    async def leave(self) -> None:
        """Give all work away, each part of it when nothing runs in it any more. Cancel it to wait no longer."""

    async def stop(self) -> None:
        """Take part no more: what was not given away is left to others."""

    def release(self) -> None:
        """Let another process have this one's place, when all is closed."""

    def journal_changed(self, problem: str | None) -> None:
        """Take note of what keeps the journal from being written; None once it can be."""

    def is_closed(self) -> bool:
        """Return whether deliveries should be sent elsewhere."""

    def problems(self) -> Sequence[str]:
        """Return what an operator has to know of it, a line each, for ``/readyz``."""

    def threads(self) -> Mapping[str, MonitoredThread]:
        """Return the threads of the journal, by their names, for the heartbeat."""

    def routes(self) -> Sequence[Route]:
        """Return the routes of the admin side about the fleet."""

    def pages(self) -> Sequence[Page]:
        """Return the pages about the fleet."""

    def collectors(self) -> list[tuple[str, Collector]]:
        """Return the metrics of the fleet, each with the name of its part."""


class SingleNode(ThisNode):
    """This process without a fleet: everything is here, and it takes deliveries for as long as it listens."""

    def __init__(self, journal: JournalProtocol, now: Callable[[], float]) -> None:
        """``now`` is the wall clock."""
        self.receives = True
        self.now = now
        self._nodes = Alone()
        self._journal = journal

    @property
    def nodes(self) -> Nodes:
        return self._nodes

    def make_peers(
        self,
        config: Callable[[], Config],  # noqa: ARG002 - of use in a fleet
        mirror: Callable[[Repo], MirrorInfo | None],  # noqa: ARG002 - of use in a fleet
    ) -> None:
        return None

    def start(self, dispatch: Dispatch) -> None:
        """Do nothing: all work is this process's."""

    async def leave(self) -> None:
        """Do nothing: nobody takes over."""

    async def stop(self) -> None:
        """Do nothing: nobody takes over."""

    def release(self) -> None:
        """Do nothing: the journal has the state directory, and releases it when it is closed."""

    def journal_changed(self, problem: str | None) -> None:
        """Do nothing: deliveries that cannot be written are refused, and there is nowhere else to send them."""

    def is_closed(self) -> bool:
        return False

    def problems(self) -> list[str]:
        return []

    def threads(self) -> Mapping[str, MonitoredThread]:
        return self._journal.threads()

    def routes(self) -> list[Route]:
        return [fleet_route(_no_fleet)]

    def pages(self) -> list[Page]:
        return []

    def collectors(self) -> list[tuple[str, Collector]]:
        return []


def _no_fleet(_: AdminRequest) -> Response:
    return error(404, "this stackit is not in a fleet: [fleet] in its configuration would make it a node of one")
