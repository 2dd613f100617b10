"""The registry at the nodes of a fleet: the leader changes it, and the others follow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from registry_harness import NOW, build, configured, found, told, url
from shared_journals import PretendNode, SharedJournals
from twisted.internet import reactor
from twisted.internet.task import deferLater
from waiting import until

from stackit import Repo, ReposChange
from stackit.registry import Batch, NotLeaderError, Registry

WIDGET, GADGET = Repo.parse("octo/widget"), Repo.parse("octo/gadget")


class Nodes:
    """Registries of nodes, the first of which leads."""

    def __init__(self) -> None:
        self.journals = SharedJournals(reactor)
        self.nodes: list[PretendNode] = []
        self.registries: list[Registry] = []
        self.notices: list[str] = []
        self.now = NOW

    def start(self, *file: str) -> tuple[Registry, list[ReposChange]]:
        """Start one more node with these repositories in its configuration; return what it tells of, too."""
        node = PretendNode("abc"[len(self.nodes)], leads=not self.nodes)
        registry = Registry(
            configured(*file),
            build=build,
            journal=self.journals.node(),
            reactor=reactor,
            now=lambda: self.now,
            notice=self.notices.append,
            nodes=node,
        )
        changes: list[ReposChange] = []
        registry.load()
        registry.repos.on_change(changes.append)
        self.nodes.append(node)
        self.registries.append(registry)
        return registry, changes


@pytest_twisted.async_yield_fixture
async def nodes() -> AsyncIterator[Nodes]:
    made = Nodes()
    yield made
    for each in made.registries:
        await each.stop()


def names(registry: Registry) -> dict[str, int | None]:
    return {str(each.repo): each.id for each in registry.repos}


@pytest_twisted.ensureDeferred
async def test_what_a_person_adds_and_removes_at_the_leader_is_so_at_every_node(nodes: Nodes) -> None:
    (leader, _), (other, changes) = nodes.start("octo/configured"), nodes.start("octo/configured")
    await leader.add(WIDGET, url("octo/widget"), "hubot")
    await until(lambda: bool(changes))
    assert told(changes.pop()) == {"added": ["octo/widget"]}
    managed = other.repos.get(WIDGET)
    assert managed is not None
    assert (managed.source, managed.added_by) == ("people", "hubot")
    await leader.remove(WIDGET, "hubot")
    await until(lambda: bool(changes))
    assert told(changes.pop()) == {"removed": ["octo/widget"]}
    assert names(leader) == names(other) == {"octo/configured": None}


@pytest_twisted.ensureDeferred
async def test_repositories_that_swap_names_and_one_that_is_purged_do_so_at_every_node(nodes: Nodes) -> None:
    (leader, own), (_, changes) = nodes.start(), nodes.start()
    await leader.discovered(Batch(found=(found(1, "octo/widget"), found(2, "octo/gadget"), found(3, "octo/gone"))))
    await until(lambda: len(changes) == 1)
    await leader.discovered(Batch(found=(found(1, "octo/gadget"), found(2, "octo/widget")), removed={3: "deleted"}))
    await until(lambda: len(changes) == 2)
    await leader.discovered(Batch(purged=(3,)))
    await until(lambda: len(changes) == 3)
    assert [told(each) for each in changes] == [
        {"added": ["octo/gadget", "octo/gone", "octo/widget"]},
        {"moved": ["octo/gadget > octo/widget", "octo/widget > octo/gadget"], "removed": ["octo/gone"]},
        {"purged": ["octo/gone"]},
    ]
    assert [told(each) for each in own] == [told(each) for each in changes]


@pytest_twisted.ensureDeferred
async def test_nothing_is_changed_at_a_node_that_does_not_lead(nodes: Nodes) -> None:
    nodes.start()
    other, _ = nodes.start()
    with pytest.raises(NotLeaderError, match="no node leads the fleet now, and changes which repositories"):
        await other.add(WIDGET, url("octo/widget"), "hubot")
    with pytest.raises(NotLeaderError):
        await other.discovered(Batch(found=(found(1, "octo/widget"),)))
    assert len(other.repos) == 0
    assert await nodes.journals.node().documents("repos") == {}


@pytest_twisted.ensureDeferred
async def test_a_new_leader_reads_what_the_last_one_wrote_before_it_changes_anything(nodes: Nodes) -> None:
    (first, _), (second, changes) = nodes.start("octo/old"), nodes.start("octo/new")
    journal: Any = second._journal
    journal.deaf = True
    await first.discovered(Batch(found=(found(1, "octo/widget"), found(9, "octo/old"))))
    nodes.nodes[0].lead(False)
    nodes.nodes[1].lead(True)
    await until(lambda: second.repos.by_id(1) is not None)
    added = await second.discovered(Batch(found=(found(1, "octo/gadget"),)))
    assert told(added) == {"moved": ["octo/widget > octo/gadget"]}
    assert names(second) == {"octo/gadget": 1, "octo/old": 9, "octo/new": None}
    await until(lambda: first.repos.by_id(1) == second.repos.by_id(1))
    with pytest.raises(NotLeaderError):
        await first.add(GADGET, url("octo/gadget"), "hubot")
    assert len(changes) == 2


@pytest_twisted.ensureDeferred
async def test_a_configuration_is_followed_at_each_node_and_written_down_by_the_leader_alone(nodes: Nodes) -> None:
    (leader, _), (other, _) = nodes.start("octo/widget"), nodes.start("octo/widget")
    await leader.discovered(Batch(seen=(), found=(found(1, "octo/gadget"),)))
    await until(lambda: len(other.repos) == 2)
    other.configure(configured("octo/widget", "octo/third"))
    await until(lambda: len(other.repos) == 3)
    other.configure(configured())
    await until(lambda: names(other) == {"octo/gadget": 1})
    assert names(leader) == {"octo/widget": None, "octo/gadget": 1}
    assert list(await nodes.journals.node().documents("repos")) == ["github:1"]


@pytest_twisted.ensureDeferred
async def test_a_record_that_cannot_be_read_is_told_of_and_left_out(nodes: Nodes) -> None:
    nodes.start()
    other, _ = nodes.start()
    journal = nodes.journals.node()
    await journal.put("repos", {"github:1": b"{"})
    await until(lambda: len(nodes.notices) == 2)
    assert nodes.notices[0] == "the journal's record of the repository github:1 cannot be read, and is left out"
    assert len(other.repos) == 0
    whole = '{"repo":{"owner":"%s","name":"x"},"url":"https://github.com/octo/x.git","source":"people"}'
    await journal.put("repos", {"github:1": b"{}", "name:../x": (whole % "..").encode()})
    await journal.put("repos", {"name:octo/y": (whole % "octo").encode(), "name:z/x": b'{"repo":{"owner":"\xff"}}'})
    await journal.put("repos", {"name:octo/x": (whole % "octo").encode()})
    await until(lambda: len(other.repos) == 1)
    await until(lambda: len(nodes.notices) == 8)
    assert len(set(nodes.notices)) == 4  # once of each, at both nodes


@pytest_twisted.ensureDeferred
async def test_every_node_knows_what_the_forge_has_just_shown_to_the_leader(nodes: Nodes) -> None:
    leader, _ = nodes.start()
    other, changes = nodes.start()
    await leader.discovered(Batch(found=(found(1, "octo/widget"), found(2, "octo/gadget"))))
    await until(lambda: bool(changes))
    leader.confirm(1, WIDGET)
    leader.confirm(2, WIDGET)  # it has another name
    await until(lambda: other.repos.confirmed_at("github:1") is not None)
    assert other.repos.confirmed_at("github:2") is None
    at = other.repos.confirmed_at("github:1")
    assert at is not None
    clock: Any = reactor
    assert abs(at - clock.seconds()) < 30
    journal = nodes.journals.node()
    assert len(await journal.documents("repos-shown")) == 1
    await journal.put("repos-shown", {"x": b"[]", f"{NOW:.3f}": b'[["github:x", "octo/widget"]]', f"{NOW}": b"{"})
    await journal.put("repos-shown", {f"{NOW - 500}": b'[["github:2", "octo/gadget"]]'})
    await deferLater(reactor, 0.2)
    assert other.repos.confirmed_at("github:2") is None
    again = nodes.journals.node()
    before = set(await again.documents("repos-shown"))
    leader.confirm(1, WIDGET)
    nodes.now += 300
    for _ in range(1000):
        if len(await again.documents("repos-shown")) == 1:
            break
        await deferLater(reactor, 0.01)
    assert before.isdisjoint(await again.documents("repos-shown"))  # what is of no use any more is gone
