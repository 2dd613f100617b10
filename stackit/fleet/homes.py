"""The nodes and the homes of the mirrors, as the last look at the fleet showed them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence

from twisted.logger import Logger

from stackit.api.errors import describe
from stackit.api.events import Repo
from stackit.api.nodes import Node, Nodes
from stackit.fleet.plan import Planner
from stackit.fleet.view import Member, View
from stackit.journal import Shard
from stackit.journal.postgres.ownership import LEADER, Ownership, row_of, shard_at, shard_of

_log = Logger(namespace="stackit")
Prepare = Callable[[Mapping[int, Node]], object]


class Homes(Nodes):
    """What plugins ask of the fleet, but for ``round``. ``view`` is the last look.

    ``_mark`` tells the owners of shards that copies of their mirrors are here.
    """

    def __init__(self, here: str, ownership: Ownership, planner: Planner) -> None:
        self.view = View()
        self.ownership = ownership
        self._here = here
        self._planner = planner
        self._nodes: Mapping[str, Node] = {}
        self._arriving: Mapping[int, Node] = {}
        self._prepared: set[int] = set()
        self._prepare: list[Prepare] = []
        self._callbacks: list[Callable[[], object]] = []

    @property
    def here(self) -> str:
        """Return the name of this node."""
        return self._here

    def nodes(self) -> Sequence[Node]:
        """Return the nodes by name."""
        return tuple(self._nodes.values())

    def home(self, repo: Repo) -> Node | None:
        """Return the node that has the mirror of a repository, or had it last."""
        shard = shard_of("mirrors", repo.key, 0, self.ownership.shards)
        owner, row = self._owner(shard), self.view.shards.get(shard)
        name = row.home if owner is None and row is not None else owner
        return None if name is None else self._nodes.get(name)

    def is_here(self, repo: Repo) -> bool:
        """Return whether this node owns the shard of a mirror, also while that is being given away."""
        return shard_of("mirrors", repo.key, 0, self.ownership.shards) in self.ownership.epochs

    def copies(self, repo: Repo) -> Sequence[Node]:
        """Return the nodes that keep a further copy."""
        names = self._planner.copies(self.view, self.shard(repo))
        return [self._nodes[name] for name in names if name in self._nodes]

    def leads(self) -> bool:
        """Return whether this node owns the shard of the leader."""
        return self.ownership.owns(LEADER)

    def leader(self) -> Node | None:
        """Return the node that owns the shard of the leader."""
        owner = self._owner(LEADER)
        return None if owner is None else self._nodes.get(owner)

    def _owner(self, shard: Shard) -> str | None:
        """Return the name of the node that owns a shard, with what this one took and gave since the last look."""
        member = self.view.by_incarnation.get(self.ownership.owners.get(shard, 0))
        return None if member is None or member.state == "dead" else member.name

    def shard(self, repo: Repo) -> int:
        """Return the number of a repository's shard."""
        return row_of(shard_of("mirrors", repo.key, 0, self.ownership.shards))[1]

    def arriving(self) -> Mapping[int, Node]:
        """Return the shards that shall come here, and where they are."""
        return self._arriving

    def when_changed(self, callback: Callable[[], object]) -> None:
        """Have a function called after each change."""
        self._callbacks.append(callback)

    def when_arriving(self, prepare: Prepare) -> None:
        """Have a function called with what arrives."""
        self._prepare.append(prepare)
        if self._arriving:
            _call(prepare, self._arriving)

    def prepared(self, shards: Collection[int]) -> None:
        """Tell that copies of all mirrors of these shards are here, if they still are to come."""
        self._prepared.update(number for number in shards if number in self._arriving)
        self._mark([number for number in self._prepared if not self._is_marked(number)])

    @abstractmethod
    def _mark(self, numbers: Collection[int]) -> None: ...

    def _show(self, view: View) -> None:
        """Take a new look for the truth. ``_changed`` tells of it."""
        self.view = view
        self._nodes = {name: _node(member) for name, member in view.by_name.items()}

    def _show_arriving(self, names: Mapping[int, str]) -> None:
        """Take what shall come here, by the names of the nodes that have it, and have it prepared where that is new."""
        before, self._arriving = (
            self._arriving,
            {number: self._nodes[name] for number, name in names.items() if name in self._nodes},
        )
        self._prepared &= self._arriving.keys()
        if not self._prepare:
            self._prepared.update(self._arriving)
        elif _names(before) != _names(self._arriving):
            for prepare in self._prepare:
                _call(prepare, self._arriving)
        self._mark([number for number in self._prepared if not self._is_marked(number)])

    def _changed(self) -> None:
        """Tell those who asked for it that an answer may have changed."""
        for callback in self._callbacks:
            _call(callback)

    def _is_marked(self, number: int) -> bool:
        row = self.view.shards.get(shard_at("m", number))
        return row is not None and row.heir == self.ownership.me


def _names(nodes: Mapping[int, Node]) -> dict[int, str]:
    return {number: node.name for number, node in nodes.items()}


def _node(member: Member) -> Node:
    is_away = member.state == "dead"
    return Node(
        name=member.name,
        incarnation=member.incarnation,
        address=member.address,
        version=member.version,
        roles=member.roles,
        state="away" if member.state == "dead" else member.state,
        since=member.since,
        away_for=max(0.0, -member.left) if is_away else 0.0,
    )


def _call(function: Callable[..., object], *values: object) -> None:
    try:
        function(*values)
    except Exception as fault:  # noqa: BLE001 - a plugin's, which must not end the membership
        _log.error("what a plugin does as the fleet changes failed: {problem}", problem=describe(fault))
