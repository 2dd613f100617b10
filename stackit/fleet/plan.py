"""What one node has to do about the shards, decided from what it sees. No database, and no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from stackit.fleet.placement import place, ranked
from stackit.fleet.view import Member, ShardRow, View
from stackit.journal import Shard
from stackit.journal.postgres.ownership import LETTERS, row_of, shard_at

_ROLES = {"e": "handle", "m": "mirror"}
"""The role that a node needs for the shards of a space, by its letter (``LETTERS``). Any node may lead."""


class Plan(msgspec.Struct, frozen=True):
    """The next steps of one node.

    ``take`` are shards that nobody owns and that are its to own. ``give`` are own ones that others should have, by the
    incarnation that gets them; a node that leaves gives what nobody should have to None. ``arriving`` are the shards
    that shall have their home here, once copies of their mirrors are: by the name of their present home.
    """

    take: tuple[Shard, ...] = ()
    give: Mapping[Shard, int | None] = msgspec.field(default_factory=dict)
    arriving: Mapping[Shard, str] = msgspec.field(default_factory=dict)


class Planner:
    """Makes the plans of a node. It remembers nothing but the placements of the last plan, which take long to find.

    ``shards`` is their number in each space, ``rehome_after`` are the seconds for which a node may be gone before it
    loses its mirrors, ``copies`` is the number of nodes that have a mirror.
    """

    def __init__(self, *, shards: int, rehome_after: float, copies: int = 1) -> None:
        self._shards = shards
        self._rehome_after = rehome_after
        self._copies = copies
        self._placed: dict[tuple[tuple[str, ...], int], Mapping[int, str]] = {}

    def plan(self, view: View, me: int) -> Plan:
        """Return what the incarnation ``me`` has to do: nothing where it is dead."""
        member = view.by_incarnation.get(me)
        if member is None or member.state == "dead":
            return Plan()
        # Mirrors that have a home should be where one is, or comes back to; all else where somebody is.
        names = {"home": tuple(self._expected(view)), **{space: tuple(_present(view, space)) for space in LETTERS}}
        questions = {each: (names[each], 1 if each == "l" else self._shards) for each in names}
        self._placed = {each: self._placed.get(each) or place(*each) for each in set(questions.values())}
        targets = {each: _at_work(view, self._placed[question]) for each, question in questions.items()}
        take: list[Shard] = []
        give: dict[Shard, int | None] = {}
        arriving: dict[Shard, str] = {}
        for shard, row in view.shards.items():
            space, number = row_of(shard)
            owner = view.owner(row)
            if owner is None:
                target = self._successor(view, number, row) or targets[space].get(number)
                if self._may_take(view, member, space, row, target):
                    take.append(shard)
                continue
            target = targets["home" if space == "m" else space].get(number)
            if owner is member:
                if member.state == "leaving" or _should_give(member, space, row, target):
                    give[shard] = _heir(space, row, target)
            elif space == "m" and target is member and row.home is not None:
                arriving[shard] = row.home
        return Plan(tuple(take), give, arriving)

    def copies(self, view: View, number: int) -> Sequence[str]:
        """Return the names of the nodes that should keep a further copy of the mirrors of a shard."""
        row = view.shards.get(shard_at("m", number))
        others = [name for name in ranked(self._expected(view), number) if row is None or name != row.home]
        return others[: self._copies - 1]

    def _successor(self, view: View, number: int, row: ShardRow) -> Member | None:
        """Return the member at work that has a further copy of mirrors whose home is gone, if there is one."""
        if row.home is None or self._copies < 2:
            return None
        members = (view.by_name[name] for name in self.copies(view, number))
        return next((member for member in members if member.state == "up"), None)

    def _expected(self, view: View) -> Sequence[str]:
        """Return the names of the nodes that keep mirrors, also of those that are away and may come back to them."""
        away = {name for name, each in view.by_name.items() if name in view.homes and self._may_come_back(each)}
        return sorted(away | set(_present(view, "m")))

    def _may_come_back(self, member: Member) -> bool:
        is_gone = member.state == "dead" and -member.left >= self._rehome_after
        return _has_role(member, "m") and member.state in ("leaving", "dead") and not is_gone

    def _may_take(self, view: View, member: Member, space: str, row: ShardRow, target: Member | None) -> bool:
        """Return whether a shard that nobody owns is this member's to take."""
        if member.state == "leaving" or not _has_role(member, space):
            return False
        if row.home is None:
            return target is member
        home = view.by_name.get(row.home)
        if home is None or not _has_role(home, space):
            return target is member
        if home.state in ("up", "draining"):
            return home is member
        return target is member and not self._may_come_back(home)


def _at_work(view: View, placed: Mapping[int, str]) -> Mapping[int, Member]:
    """Return the members that should own the shards, but for those whose node is away."""
    members = {name: each for name, each in view.by_name.items() if each.state in ("up", "draining")}
    return {number: members[name] for number, name in placed.items() if name in members}


def _present(view: View, space: str) -> Sequence[str]:
    """Return the names of the nodes that may get shards of a space: those that drain where there are no others."""
    for state in ("up", "draining"):
        names = [name for name, each in view.by_name.items() if each.state == state and _has_role(each, space)]
        if names:
            return names
    return []


def _should_give(member: Member, space: str, row: ShardRow, target: Member | None) -> bool:
    """Return whether a member that stays gives an own shard to ``target``."""
    if target is None or target is member:
        return False
    if space == "m":
        return row.heir == target.incarnation
    return space == "e" or member.state == "draining"  # that another would lead as well is no reason to change


def _heir(space: str, row: ShardRow, target: Member | None) -> int | None:
    """Return the incarnation that gets a shard: of mirrors, only one that has copies of them."""
    return None if target is None or (space == "m" and row.heir != target.incarnation) else target.incarnation


def _has_role(member: Member, space: str) -> bool:
    role = _ROLES.get(space)
    return role is None or role in member.roles
