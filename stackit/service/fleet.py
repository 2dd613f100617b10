"""This process as a node of a fleet: its journal, its membership, and what follows from both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from twisted.internet.task import LoopingCall

from stackit.api.admin import Route
from stackit.api.events import Repo
from stackit.api.metrics import Collector
from stackit.api.mirrors import MirrorInfo
from stackit.api.nodes import Nodes
from stackit.api.pages import Page
from stackit.api.reactor import Reactor, looping_call
from stackit.api.threads import MonitoredThread
from stackit.api.version import VERSION
from stackit.config.model import Config
from stackit.dispatch.dispatch import Dispatch
from stackit.fleet.answers import DatabaseState
from stackit.fleet.clock import FleetClock
from stackit.fleet.database import DatabaseWatch
from stackit.fleet.fleet import Fleet
from stackit.fleet.metrics import FleetMetrics
from stackit.fleet.pages import fleet_page
from stackit.fleet.questions import Candidate
from stackit.fleet.routes import fleet_routes
from stackit.fleet.standstill import BusyHandler
from stackit.journal.directory import DirectoryLock
from stackit.journal.postgres.clock import read_clock
from stackit.journal.postgres.connection import Server
from stackit.journal.postgres.journal import PostgresJournal
from stackit.journal.postgres.opening import doubts, node_key
from stackit.journal.postgres.schema import VERSION as SCHEMA
from stackit.journal.sqlite.schema import NAME
from stackit.runtime.clocks import seconds_since_boot
from stackit.service.database_threads import database_threads
from stackit.service.node import ThisNode
from stackit.service.peers import PeerParts

_AWAY = 1.0
"""Seconds without an answer of the database after which deliveries should go to another node."""
_WITHOUT_ROLE = {
    "receive": "deliveries are refused",
    "handle": "events wait",
    "mirror": "mirrors stand still, and events that need them wait",
}
_COUNT_EVERY = 5.0
"""Seconds between two counts of what is pending here."""


class FleetNode(ThisNode):
    """A node: ``start`` enters the fleet, and ``stop`` leaves it."""

    def __init__(
        self,
        config: Config,
        *,
        lock: DirectoryLock,
        reactor: Reactor,
        now: Callable[[], float],
        on_change: Callable[[str | None], None],
        notice: Callable[[str], None],
    ) -> None:
        """Open the journal; ``start`` enters the fleet. ``lock`` holds the state directory, until this node stops.

        Blocks. Raises JournalError where the database cannot be used; the directory is held no more then.
        """
        fleet = config.fleet
        self.receives = "receive" in fleet.roles
        self._problem: str | None = None
        self._dispatch: Dispatch | None = None
        self._holds = False
        self._is_leaving = False
        self._lock = lock
        try:
            self._server = Server(fleet.postgres or "", float(fleet.lease))
            for doubt in doubts(self._server):
                notice(doubt)
            clock = FleetClock(
                read_clock(self._server, seconds_since_boot), seconds=seconds_since_boot, wall_clock=now, notice=notice
            )
            self.now = clock.now
            self.journal = PostgresJournal.open(
                self._server,
                reactor=reactor,
                now=clock.now,
                shards=fleet.shards,
                keep_for=config.journal.keep_for,
                keep_bytes=config.journal.keep_bytes,
                on_change=on_change,
                on_hold=self._hold,
                notice=notice,
            )
        except BaseException:
            self._lock.release()
            raise
        for remark in _remarks(config, self.journal.ownership.shards):
            notice(remark)
        candidate = Candidate(
            name=fleet.node or "",
            address=fleet.address or "",
            version=VERSION,
            schema=SCHEMA,
            roles=fleet.roles,
            lease=float(fleet.lease),
        )
        self._fleet = Fleet(
            self._server,
            candidate,
            self.journal.ownership,
            clock=clock,
            reactor=reactor,
            rehome_after=float(fleet.rehome_after),
            copies=fleet.copies,
            notice=notice,
            entered=self._enter,
            reconnected=self._look_for_server,
        )
        self._database = DatabaseWatch(self._fleet.ask, required=fleet.replicas_required, reactor=reactor)
        self._fleet.when_changed(self._look_at_database)
        self._reactor = reactor
        self._peers: PeerParts | None = None
        self._counting: LoopingCall | None = None

    @property
    def nodes(self) -> Nodes:
        """Return the fleet, as plugins see it."""
        return self._fleet

    def make_peers(self, config: Callable[[], Config], mirror: Callable[[Repo], MirrorInfo | None]) -> PeerParts | None:
        """Make what this node asks of the others, and does for them. Blocks. Raises JournalError."""
        self._peers = PeerParts(
            config,
            node_key(self._server),
            reactor=self._reactor,
            nodes=self._fleet,
            incarnation=lambda: self._fleet.incarnation,
            now=self.now,
            mirror=mirror,
        )
        return self._peers

    def start(self, dispatch: Dispatch) -> None:
        """Enter the fleet: its work comes by shards from now on."""
        self._dispatch = dispatch
        if self._holds:
            dispatch.hold("unwritable")
        self._fleet.listen(dispatch)
        self._fleet.watch_over(lambda: None if (busy := dispatch.at_work()) is None else BusyHandler(*busy))
        self._fleet.startService()
        self._database.startService()
        if self._peers is not None:
            self._peers.watch.startService()
        self._counting = looping_call(self._reactor, dispatch.count_pending)
        self._counting.start(_COUNT_EVERY, now=False)

    async def leave(self) -> None:
        """Give all work away, each shard when nothing runs in it any more. Cancel it to wait no longer."""
        self._is_leaving = True
        await self._fleet.leave()

    async def stop(self) -> None:
        """Leave the fleet: what was not given away is free for the others at once."""
        if self._counting is not None and self._counting.running:
            self._counting.stop()
        self._database.stopService()
        await self._fleet.stopService()

    def release(self) -> None:
        """Release the state directory, when all is closed."""
        self._lock.release()

    # -- what is asked of it -------------------------------------------------------

    def is_closed(self) -> bool:
        """Return whether deliveries should be sent to another node: this one stops, or cannot make them durable.

        Or it drains, and another node that does not takes deliveries, too: what can be kept is not refused.
        """
        if self._problem is not None:
            self.journal.problems()  # whoever asks finds out whether it is over
        return self._is_leaving or self._is_relieved() or self._is_away()

    def problems(self) -> list[str]:
        """Return what is wrong with the membership, the fleet, its database and this node's clock, one line each."""
        unasked = [] if self._peers is None else self._peers.watch.problems()
        own = [*self._fleet.problems(), *self._fleet.clock.problems()]
        return [*own, *self._roles_missing(), *self._database.problems(), *unasked]

    def threads(self) -> Mapping[str, MonitoredThread]:
        """Return the threads of the journal, for the heartbeat."""
        return database_threads(self.journal.threads(), self._is_away)

    def routes(self) -> list[Route]:
        """Return the routes of the admin side about the fleet."""
        between = [] if self._peers is None else self._peers.routes()
        return [*fleet_routes(self._fleet, self._state, self.journal.problems), *between]

    def pages(self) -> list[Page]:
        """Return the page about the fleet."""
        return [fleet_page()]

    def collectors(self) -> list[tuple[str, Collector]]:
        """Return the metrics of the fleet."""
        between = [] if self._peers is None else self._peers.collectors()
        return [("fleet", FleetMetrics(self._fleet, self._state)), ("journal", self.journal.collector()), *between]

    # -- what the journal and the membership tell ----------------------------------

    def journal_changed(self, problem: str | None) -> None:
        """Take note of what keeps the journal from being written; None once it can be."""
        self._problem = problem

    def _hold(self, holds: bool) -> None:
        """Have no handler begin while its outcome could not be written down: it would be called again."""
        self._holds = holds
        if self._dispatch is not None and holds:
            self._dispatch.hold("unwritable")
        elif self._dispatch is not None:
            self._dispatch.release("unwritable")
            self._dispatch.look_again()

    def _enter(self) -> None:
        """Move no retry of others' by what the time of the fleet was set by while this node was out of it."""
        if self._dispatch is not None:
            self._dispatch.trust_clock()

    def _look_for_server(self) -> None:
        """See with every connection where the database is now; what was read meanwhile may be old."""
        self.journal.doubt()
        if self._dispatch is not None:
            self._dispatch.look_again()

    def _look_at_database(self) -> None:
        """Have the database looked at as soon as it answers: this node is in the fleet again."""
        if self._fleet.incarnation is not None:
            self._database.look_again()

    # -- inside --------------------------------------------------------------------

    def _is_away(self) -> bool:
        """Return whether the database takes no writes, or has not answered for a while where nothing is written."""
        return self._problem is not None or (bool(self._fleet.problems()) and self._fleet.silent_for() > _AWAY)

    def _is_relieved(self) -> bool:
        """Return whether this node drains, and another one takes deliveries that does not."""
        return self._fleet.is_draining() and "receive" not in self._fleet.view.alone_with(self._fleet.here)

    def _roles_missing(self) -> list[str]:
        """Return a line for each role that no node has; nothing outside the fleet, which shows no nodes."""
        if self._fleet.incarnation is None:
            return []
        had = {role for each in self._fleet.nodes() if each.state != "away" for role in each.roles}
        return [
            f"no node that is there has the role {role}: {waits}; start one, or add the role to a node"
            for role, waits in _WITHOUT_ROLE.items()
            if role not in had
        ]

    def _state(self) -> DatabaseState | None:
        return self._database.state


def _remarks(config: Config, shards: int) -> Iterator[str]:
    """Yield what of a configuration is not as it may be meant, in a fleet that has so many shards."""
    before = config.state_dir / NAME
    if before.exists():
        yield (
            f"{before} is the journal of a stackit without a fleet, and is not read: stackit journal copy --to "
            "postgres takes it over, before the first start of the fleet; if that is done, or it is of no use, move it "
            "away"
        )
    if shards != config.fleet.shards:
        yield (
            f"the work of this fleet is divided into {shards} shards since its database was made: "
            f"fleet.shards = {config.fleet.shards} changes that no more"
        )
