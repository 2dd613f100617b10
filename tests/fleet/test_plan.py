"""The plans of nodes, played against a table of shards: whatever comes and goes, every shard finds its one owner."""

from __future__ import annotations

from collections import Counter
from math import ceil

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from stackit.fleet.plan import Plan, Planner
from stackit.fleet.view import Member, ShardRow, View
from stackit.journal import Shard
from stackit.journal.postgres.ownership import LEADER, row_of, shard_at

SHARDS = 16
REHOME_AFTER = 100.0
NAMES = st.sampled_from(["a", "b", "c", "d"])
ALL = ("receive", "handle", "mirror")
ROLES = st.sampled_from([ALL, ("receive",), ("handle",), ("mirror",), ("handle", "mirror")])
EVERY = [shard_at(space, number) for space in "em" for number in range(SHARDS)] + [LEADER]


class World:
    """A fleet whose database is two dictionaries. Each node does at once what it plans."""

    def __init__(self) -> None:
        self.members: dict[int, Member] = {}
        self.shards = {shard: ShardRow(shard=shard) for shard in EVERY}
        self.planner = Planner(shards=SHARDS, rehome_after=REHOME_AFTER)
        self.moved_home: list[tuple[ShardRow, ShardRow]] = []

    @property
    def view(self) -> View:
        newest = {member.name: member for member in self.members.values()}
        return View(list(newest.values()), dict(self.shards))

    def member(self, name: str) -> Member | None:
        """The member of this name that is not dead."""
        return next((each for each in self.members.values() if each.name == name and each.state != "dead"), None)

    def change(self, member: Member, **changes: object) -> None:
        self.members[member.incarnation] = msgspec.structs.replace(member, **changes)

    def join(self, name: str, roles: tuple[str, ...] = ALL) -> Member:
        if (older := self.member(name)) is not None:
            self.change(older, state="dead", left=0.0)
        member = Member(incarnation=len(self.members) + 1, name=name, roles=roles)
        self.members[member.incarnation] = member
        return member

    def kill(self, name: str) -> None:
        if (member := self.member(name)) is not None:
            self.change(member, state="dead", left=0.0)

    def age(self, seconds: float) -> None:
        for member in tuple(self.members.values()):
            if member.state == "dead":
                self.change(member, left=member.left - seconds)

    def step(self, member: Member) -> Plan:
        """Do what a member plans: all that arrives is copied at once, and nothing runs in what is given."""
        view = self.view
        plan = self.planner.plan(view, member.incarnation)
        assert not set(plan.take) & set(plan.give)
        for shard in plan.take:
            assert view.owner(self.shards[shard]) is None
            self._own(shard, member)
        for shard, heir in plan.give.items():
            assert view.owner(self.shards[shard]) is member
            self._own(shard, None if heir is None else self.members[heir])
        for shard in plan.arriving:
            self.shards[shard] = msgspec.structs.replace(self.shards[shard], heir=member.incarnation)
        return plan

    def _own(self, shard: Shard, owner: Member | None) -> None:
        row = self.shards[shard]
        home = row.home if owner is None or row_of(shard)[0] != "m" else owner.name
        if home != row.home:
            self.moved_home.append((row, msgspec.structs.replace(row, home=home)))
        incarnation = None if owner is None else owner.incarnation
        self.shards[shard] = ShardRow(shard=shard, owner=incarnation, epoch=row.epoch + 1, home=home)

    def settle(self) -> None:
        """Have everybody do what they plan until nobody plans anything."""
        for _ in range(8):
            plans = [self.step(member) for member in tuple(self.members.values()) if member.state != "dead"]
            if not any(plan.take or plan.give for plan in plans):
                return
        raise AssertionError("the plans come to no end")

    def owners(self, space: str) -> dict[int, Member | None]:
        view = self.view
        return {row_of(shard)[1]: view.owner(row) for shard, row in self.shards.items() if row_of(shard)[0] == space}

    def at_work(self, role: str | None) -> list[Member]:
        """The members that may have work of a role: those that are up, or else those that drain."""
        for state in ("up", "draining"):
            found = [
                each for each in self.members.values() if each.state == state and (role is None or role in each.roles)
            ]
            if found:
                return found
        return []


class Comings(RuleBasedStateMachine):
    """Nodes that join, die, are drained, leave and come back, in any order."""

    @initialize()
    def begin(self) -> None:
        self.world = World()

    @rule(name=NAMES, roles=ROLES)
    def join(self, name: str, roles: tuple[str, ...]) -> None:
        self.world.join(name, roles)

    @rule(name=NAMES)
    def kill(self, name: str) -> None:
        self.world.kill(name)

    @rule(name=NAMES)
    def drain(self, name: str) -> None:
        if (member := self.world.member(name)) is not None:
            self.world.change(member, state="draining")

    @rule(name=NAMES)
    def leave(self, name: str) -> None:
        if (member := self.world.member(name)) is not None:
            self.world.change(member, state="leaving")
            self.world.step(self.world.members[member.incarnation])
            assert not [row for row in self.world.shards.values() if row.owner == member.incarnation]
            self.world.kill(name)

    @rule(seconds=st.sampled_from([1.0, 60.0, 200.0]))
    def wait(self, seconds: float) -> None:
        self.world.age(seconds)

    @rule(name=NAMES)
    def step(self, name: str) -> None:
        if (member := self.world.member(name)) is not None:
            self.world.step(member)

    @rule()
    def settle(self) -> None:
        world = self.world
        world.settle()
        for space, role in (("e", "handle"), ("l", None)):
            workers = world.at_work(role)
            owners = Counter(owner and owner.name for owner in world.owners(space).values())
            assert all(each in workers if workers else each is None for each in world.owners(space).values())
            if space == "e" and workers:
                assert max(owners.values()) <= ceil(SHARDS / len(workers) * 1.05)
        for number, owner in world.owners("m").items():
            home = world.shards[shard_at("m", number)].home
            assert owner is None or owner.name == home
            if owner is None and home is not None and world.at_work("mirror"):
                away = world.view.by_name[home]
                assert away.state == "dead"
                assert -away.left < REHOME_AFTER

    @invariant()
    def mirrors_move_only_to_a_copy_or_when_their_node_is_gone(self) -> None:
        for before, after in self.world.moved_home:
            if before.home is None:
                continue
            former = self.world.view.by_name[before.home]
            heir = before.heir and self.world.members[before.heir].name
            is_gone = former.state == "dead" and -former.left >= REHOME_AFTER
            assert heir == after.home or is_gone or "mirror" not in former.roles
        self.world.moved_home.clear()


TestComings = Comings.TestCase
TestComings.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)


def fleet(*names: str) -> World:
    world = World()
    for name in names:
        world.join(name)
    world.settle()
    return world


def test_handlers_move_as_soon_as_their_node_is_dead_and_mirrors_wait_for_it() -> None:
    world = fleet("a", "b")
    mirrors = {number for number, owner in world.owners("m").items() if owner and owner.name == "b"}
    assert mirrors
    world.kill("b")
    world.settle()
    assert {owner and owner.name for owner in world.owners("e").values()} == {"a"}
    assert {number for number, owner in world.owners("m").items() if owner is None} == mirrors
    world.join("b")
    world.settle()
    assert {number for number, owner in world.owners("m").items() if owner and owner.name == "b"} == mirrors


def test_mirrors_of_a_node_that_is_gone_for_too_long_get_another_home() -> None:
    world = fleet("a", "b")
    world.kill("b")
    world.age(REHOME_AFTER - 1)
    world.settle()
    assert None in world.owners("m").values()
    world.age(1)
    world.settle()
    assert {owner and owner.name for owner in world.owners("m").values()} == {"a"}


def test_mirrors_stay_until_the_newcomer_has_copies_of_them() -> None:
    world = fleet("a")
    newcomer = world.join("b")
    plan = world.planner.plan(world.view, newcomer.incarnation)
    assert plan.arriving
    assert set(plan.arriving.values()) == {"a"}
    assert not [shard for shard in plan.take if row_of(shard)[0] == "m"]
    (old,) = (each for each in world.members.values() if each.name == "a")
    assert not [shard for shard in world.planner.plan(world.view, old.incarnation).give if row_of(shard)[0] == "m"]
    shard = next(iter(plan.arriving))
    world.shards[shard] = msgspec.structs.replace(world.shards[shard], heir=newcomer.incarnation)
    given = world.planner.plan(world.view, old.incarnation).give
    assert {each: heir for each, heir in given.items() if row_of(each)[0] == "m"} == {shard: newcomer.incarnation}


def test_the_leader_stays_the_leader_when_others_join() -> None:
    world = fleet("b")
    for name in ("a", "c", "d"):
        world.join(name)
        world.settle()
    (leader,) = world.owners("l").values()
    assert leader is not None
    assert leader.name == "b"


def test_mirrors_whose_node_is_gone_go_to_the_node_that_has_the_second_copy() -> None:
    world = fleet("a", "b", "c")
    world.planner = Planner(shards=SHARDS, rehome_after=REHOME_AFTER, copies=2)
    world.settle()
    copies = {number: world.planner.copies(world.view, number) for number in range(SHARDS)}
    lost = {number for number, owner in world.owners("m").items() if owner and owner.name == "b"}
    assert all(len(names) == 1 and names[0] != "b" for number, names in copies.items() if number in lost)
    world.kill("b")
    world.age(REHOME_AFTER)
    for member in tuple(world.members.values()):
        world.step(member)
    assert {number: owner and [owner.name] for number, owner in world.owners("m").items() if number in lost} == {
        number: copies[number] for number in lost
    }


def test_without_a_further_copy_no_node_keeps_one() -> None:
    world = fleet("a", "b")
    assert world.planner.copies(world.view, 0) == []


def test_a_node_that_comes_back_has_its_mirrors_again_also_where_others_should_have_them() -> None:
    world = fleet("b")
    world.kill("b")
    other = world.join("a")
    world.join("b")
    assert not [shard for shard in world.planner.plan(world.view, other.incarnation).take if row_of(shard)[0] == "m"]


def test_a_node_that_stops_gives_mirrors_only_to_one_that_has_copies_and_stays_the_home_of_the_others() -> None:
    world = fleet("b")
    newcomer, old = world.join("a"), world.member("b")
    assert old is not None
    shard, *others = world.planner.plan(world.view, newcomer.incarnation).arriving
    world.shards[shard] = msgspec.structs.replace(world.shards[shard], heir=newcomer.incarnation)
    world.change(old, state="leaving")
    given = world.planner.plan(world.view, old.incarnation).give
    assert given[shard] == newcomer.incarnation
    assert others
    assert {given[each] for each in others} == {None}
