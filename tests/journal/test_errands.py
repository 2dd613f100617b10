"""Errands of a fleet: what the leader, or every node, is to do, whoever was told of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from shared_journals import PretendNode, SharedJournals
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from waiting import until

from stackit.api.nodes import Alone, Node
from stackit.journal.errands import ANSWERS, COLLECTION, Errands

NOW = 1_000_000.0


class Fleet:
    """Three nodes, the first of which leads. ``done`` has who did what; ``fails`` are nodes at which nothing works."""

    def __init__(self) -> None:
        self.journals = SharedJournals(reactor)
        self.done: list[tuple[str, str]] = []
        self.fails: set[str] = set()
        self.up = ["a", "b", "c"]
        self.now = NOW
        self.nodes = {name: Member(name, self) for name in self.up}
        self.errands = {name: self.start(node) for name, node in self.nodes.items()}

    def start(self, node: PretendNode) -> Errands:
        errands = Errands(self.journals.node(), node, reactor=reactor, now=lambda: self.now, shared=True)

        async def do(text: str) -> bool:
            self.done.append((node.here, text))
            return node.here not in self.fails

        errands.on("look", do)
        return errands

    async def kept(self) -> list[int]:
        journal = self.journals.node()
        return [len(await journal.documents(each)) for each in (COLLECTION, ANSWERS)]


class Member(PretendNode):
    def __init__(self, name: str, fleet: Fleet) -> None:
        super().__init__(name, leads=name == "a")
        self._fleet = fleet

    def nodes(self) -> list[Node]:
        return [Node(name=each, state="up" if each in self._fleet.up else "away") for each in ("a", "b", "c")]


@pytest_twisted.async_yield_fixture
async def fleet() -> AsyncIterator[Fleet]:
    made = Fleet()
    yield made
    for each in made.errands.values():
        await each.stop()


@pytest_twisted.ensureDeferred
async def test_the_leader_does_what_any_node_was_told_of(fleet: Fleet) -> None:
    await fleet.errands["b"].tell_leader("look", "octo")
    await until(lambda: fleet.done == [("a", "octo")])
    await fleet.errands["a"].tell_leader("look", "acme")
    await until(lambda: fleet.done == [("a", "octo"), ("a", "acme")])
    while await fleet.kept() != [0, 0]:
        await deferLater(reactor, 0.002)


@pytest_twisted.ensureDeferred
async def test_what_no_leader_was_there_for_is_done_by_the_next_one(fleet: Fleet) -> None:
    fleet.nodes["a"].lead(False)
    await fleet.errands["b"].tell_leader("look", "octo")
    await deferLater(reactor, 0.1)
    assert fleet.done == []
    fleet.nodes["c"].lead(True)
    await until(lambda: fleet.done == [("c", "octo")])


@pytest_twisted.ensureDeferred
async def test_every_node_does_what_one_tells_all(fleet: Fleet) -> None:
    await fleet.errands["b"].tell_all("look", "octo")
    assert fleet.done == [("b", "octo")]
    await until(lambda: sorted(fleet.done) == [("a", "octo"), ("b", "octo"), ("c", "octo")])
    for each in fleet.journals._all:
        each.tell(COLLECTION, None)  # anything may have changed: nothing is done twice
    await deferLater(reactor, 0.2)
    assert len(fleet.done) == 3
    fleet.now += 2 * 3600
    await fleet.errands["b"].tell_all("look", "acme")
    while await fleet.kept() != [1, 0]:  # the first is removed by the leader
        await deferLater(reactor, 0.002)


@pytest.mark.parametrize("fails", ["", "a", "c"])
@pytest_twisted.ensureDeferred
async def test_who_asks_all_knows_whether_it_went_well_everywhere(fleet: Fleet, fails: str) -> None:
    fleet.fails = {fails}
    assert await fleet.errands["a"].ask_all("look", "octo") is (not fails)
    assert sorted(fleet.done) == [("a", "octo"), ("b", "octo"), ("c", "octo")]
    while await fleet.kept() != [0, 0]:
        await deferLater(reactor, 0.002)


@pytest_twisted.ensureDeferred
async def test_a_node_that_goes_meanwhile_has_not_done_it_and_one_that_is_away_is_not_asked(fleet: Fleet) -> None:
    deaf: Any = fleet.journals._all[2]
    deaf.deaf = True
    asked = Deferred.fromCoroutine(fleet.errands["a"].ask_all("look", "octo"))
    await until(lambda: ("b", "octo") in fleet.done)
    assert not asked.called
    fleet.up.remove("c")
    fleet.nodes["a"].lead(True)
    assert await asked is False
    assert await fleet.errands["a"].ask_all("look", "acme") is True


@pytest_twisted.ensureDeferred
async def test_an_errand_of_another_version_is_left_to_those_who_know_it(fleet: Fleet) -> None:
    await fleet.journals.node().put(COLLECTION, {"1": b"{", "2": b'{"kind":"new"}'})
    await fleet.errands["b"].tell_leader("look", "octo")
    await until(lambda: fleet.done == [("a", "octo")])


@pytest_twisted.ensureDeferred
async def test_without_a_fleet_each_is_done_at_once_and_nothing_is_kept() -> None:
    journal = SharedJournals(reactor).node()
    errands = Errands(journal, Alone(), reactor=reactor, now=lambda: NOW, shared=False)
    done: list[str] = []

    async def do(text: str) -> bool:
        done.append(text)
        return text != "bad"

    errands.on("look", do)
    await errands.tell_leader("look", "1")
    await errands.tell_all("look", "2")
    assert [await errands.ask_all("look", text) for text in ("3", "bad")] == [True, False]
    assert done == ["1", "2", "3", "bad"]
    assert await journal.documents(COLLECTION) == {}
    await errands.stop()
