"""What the routes of a fleet answer, and the one that is there without a fleet, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from stackit.api.admin import AdminRequest, Response, Route
from stackit.api.schema import Timestamp

ShownState = Literal["up", "draining", "leaving", "away", "out"]
"""The state of a node: as other nodes see it, or ``out`` where it is the one that answers, and is out of the fleet."""


class DatabaseState(msgspec.Struct, frozen=True):
    """What the server told.

    ``server`` is its version, ``size`` the bytes of the database. ``standbys`` are those that a commit waits for, and
    ``lag`` is by how many seconds the last of them is behind: None where it is not, or there is none. Both are None
    where the user of the database may not see the standbys.
    """

    server: str
    size: int
    standbys: int | None
    lag: float | None


class ShownNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node, and its part of the work.

    ``here`` is the node that answers; its ``state`` is ``out`` while it is out of the fleet and does nothing of the
    work. ``leader`` does what is done once. ``handlers`` and ``mirrors`` are the shards that it owns, ``homes`` those
    whose mirrors are on its disk. ``away_for`` are seconds.
    """

    name: str
    state: ShownState
    here: bool
    leader: bool
    address: str
    version: str
    roles: tuple[str, ...]
    incarnation: int
    since: Timestamp
    away_for: float
    handlers: int
    mirrors: int
    homes: int


class FleetAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The fleet, as the node that answers sees it.

    ``shards`` is the number of shards of each kind, ``unowned`` how many of them nobody owns now, by their kind.
    ``lease_left`` are the seconds until this node would stop by itself, ``clock_ahead`` those by which its clock is
    ahead of the database's (less than 0: behind). ``problems`` are those of its journal, of its membership and of its
    clock. While it is out of the fleet, the other nodes are as it saw them last, and it knows of nothing that
    is unowned.
    """

    node: str
    shards: int
    unowned: dict[str, int]
    lease_left: float
    clock_ahead: float
    nodes: list[ShownNode]
    database: DatabaseState | None
    problems: list[str]


class Draining(msgspec.Struct, frozen=True):
    """Whether a node gives its work away.

    ``warning`` is a line for people where no other node can have all of it.
    """

    node: str
    draining: bool
    warning: str | None = None


def fleet_route(show: Callable[[AdminRequest], Response]) -> Route:
    """Return the route that shows the fleet."""
    return Route(
        "GET",
        "{prefix}/fleet",
        show,
        query=(),
        summary="Show the nodes of the fleet, their work, and their database.",
        returns=FleetAnswer,
        errors={404: "there is no fleet"},
    )
