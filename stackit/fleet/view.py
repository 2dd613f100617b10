"""The fleet as the database showed it at one moment."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Literal

import msgspec

from stackit.journal import Shard

MemberState = Literal["up", "draining", "leaving", "dead"]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One incarnation: a process from its start to its end.

    ``left`` are the seconds until its lease ends, less than 0 where that is over; of a dead one, for how long it has
    been. ``since`` is its start in seconds since the epoch.
    """

    incarnation: int
    name: str
    address: str = ""
    version: str = ""
    roles: tuple[str, ...] = ("receive", "handle", "mirror")
    state: MemberState = "up"
    since: float = 0.0
    left: float = 0.0


class ShardRow(msgspec.Struct, frozen=True, kw_only=True):
    """One shard: which incarnation owns it, and since when (seconds since the epoch).

    ``home`` is the name of the node that has its mirrors, ``heir`` the incarnation that has copies of all of them.
    """

    shard: Shard
    owner: int | None = None
    epoch: int = 0
    since: float = 0.0
    home: str | None = None
    heir: int | None = None


class View(msgspec.Struct, frozen=True, dict=True):
    """The nodes, each with the member that is there or was last, and all shards."""

    members: Sequence[Member] = ()
    shards: Mapping[Shard, ShardRow] = msgspec.field(default_factory=dict)

    @cached_property
    def by_incarnation(self) -> Mapping[int, Member]:
        """The members by incarnation."""
        return {member.incarnation: member for member in self.members}

    @cached_property
    def by_name(self) -> Mapping[str, Member]:
        """The members by name, in the order of the names."""
        return dict(sorted((member.name, member) for member in self.members))

    @cached_property
    def homes(self) -> Collection[str | None]:
        """The names of the nodes that have mirrors."""
        return {row.home for row in self.shards.values()}

    def alone_with(self, name: str) -> Sequence[str]:
        """Return the roles of a node that no other node has that is up: with these it goes on also where it drains."""
        others = {role for each in self.members if each.name != name and each.state == "up" for role in each.roles}
        return [role for role in self.by_name[name].roles if role not in others]

    def owner(self, row: ShardRow) -> Member | None:
        """Return the member that owns a shard: None where it is free to be taken."""
        member = None if row.owner is None else self.by_incarnation.get(row.owner)
        return None if member is None or member.state == "dead" else member


def drain_warning(roles: Sequence[str]) -> str | None:
    """Return a line about the roles that a node keeps while it drains, since it has them alone; None for no roles."""
    return f"it goes on to {', '.join(roles)}: no other node that is up does" if roles else None
