"""The metrics of a fleet, as one node sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import get_args

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from stackit.fleet.answers import DatabaseState, ShownState
from stackit.fleet.fleet import Fleet
from stackit.fleet.routes import overview


class FleetMetrics(Collector):
    """The nodes, this node's work, lease and clock, and the database.

    A node that is out of the fleet tells of nothing but that: what it saw last would keep alerts going.
    """

    def __init__(self, fleet: Fleet, database: Callable[[], DatabaseState | None]) -> None:
        self._fleet = fleet
        self._database = database

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        state = self._database()
        seen = overview(self._fleet, state)
        is_out = self._fleet.incarnation is None
        states = Counter[str](["out"] if is_out else (node.state for node in seen.nodes))
        nodes = GaugeMetricFamily("stackit_fleet_nodes", "Nodes of the fleet, by their state.", labels=["state"])
        for each in get_args(ShownState):
            nodes.add_metric([each], states[each])
        yield nodes
        own = next((node for node in seen.nodes if node.here), None)
        shards = GaugeMetricFamily(
            "stackit_fleet_shards", "Shards that this node owns, by their kind.", labels=["kind"]
        )
        shards.add_metric(["handlers"], 0 if own is None else own.handlers)
        shards.add_metric(["mirrors"], 0 if own is None else own.mirrors)
        yield shards
        unowned = GaugeMetricFamily("stackit_fleet_unowned_shards", "Shards that no node owns.", labels=["kind"])
        for kind, number in seen.unowned.items():
            unowned.add_metric([kind], number)
        yield unowned
        yield GaugeMetricFamily(
            "stackit_fleet_leader", "Whether this node is the leader.", value=float(own is not None and own.leader)
        )
        yield GaugeMetricFamily(
            "stackit_fleet_lease_left_seconds",
            "Seconds until this node would stop by itself, unless the database answers.",
            value=self._fleet.lease_left(),
        )
        yield GaugeMetricFamily(
            "stackit_fleet_clock_ahead_seconds",
            "Seconds by which the clock of this node is ahead of the database's; less than 0 where it is behind.",
            value=self._fleet.clock.ahead(),
        )
        yield GaugeMetricFamily(
            "stackit_database_up", "Whether the database of the fleet answered last.", value=float(state is not None)
        )
        if state is None:
            return
        yield GaugeMetricFamily("stackit_database_bytes", "Bytes of the database of the fleet.", value=state.size)
        if state.standbys is not None:
            yield GaugeMetricFamily(
                "stackit_database_standbys", "Standbys that a commit waits for.", value=state.standbys
            )
            yield GaugeMetricFamily(
                "stackit_database_standby_lag_seconds",
                "Seconds by which the slowest of the standbys that a commit waits for is behind.",
                value=state.lag or 0.0,
            )
