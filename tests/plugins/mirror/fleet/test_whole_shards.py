"""What nodes tell each other of second copies that are whole."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from clocks import as_reactor
from mirror_fleet import Membership, Shared, View
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from stackit import App, Node, Repos
from stackit.plugins.mirror.fleet.whole_shards import COLLECTION, SOON, Said, WholeShards


async def never(*_: object) -> Any:
    """Raises AssertionError: nothing is announced."""
    raise AssertionError


class Fleet:
    """Node ``a``, which has whole copies of shard 1, and what it hears of ``b``."""

    def __init__(self, root: Path) -> None:
        membership = Membership()
        membership.nodes = {name: Node(name=name, incarnation=at, roles=("mirror",)) for at, name in enumerate("ab", 1)}
        self.b = membership.nodes["b"]
        self.clock = Clock()
        self.shared = Shared()
        self.own: set[int] = {1}
        self.changes: list[set[int]] = []
        self.fault: Exception | None = None

        async def keep(collection: str, documents: Mapping[str, bytes | None]) -> None:
            await self.shared.keep("a", collection, documents)

        app = App(
            reactor=as_reactor(self.clock),
            version="0",
            state_dir=root,
            repos=Repos([]),
            sync_interval=0,
            grace=0,
            observe=lambda _: None,
            announced=never,
            announce=never,
            visible=never,
            pending=dict,
            nodes=View(membership, "a"),
            keep=keep,
            kept=self.shared.kept,
            documents=lambda collection: dict(self.shared.documents.get(collection, {})),
            watch=lambda collection, changed: self.shared.watching.append(("a", collection, changed)),
        )
        self.whole = WholeShards(app, own=lambda: self.own, changed=self._changed)
        self.whole.begin()

    def _changed(self, shards: Collection[int]) -> None:
        fault, self.fault = self.fault, None
        if fault is not None:
            raise fault
        self.changes.append(set(shards))

    def says(self, *shards: int, incarnation: int = 2) -> None:
        """Have ``b`` write down of which shards it has whole copies."""
        self.shared.keep("b", COLLECTION, {"b": msgspec.json.encode(Said(incarnation, frozenset(shards)))})

    def written(self) -> Said | None:
        """Return what ``a`` wrote."""
        document = self.shared.documents.get(COLLECTION, {}).get("a")
        return None if document is None else msgspec.json.decode(document, type=Said)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def test_what_another_process_of_a_node_said_does_not_count(fleet: Fleet) -> None:
    fleet.says(3, 4, incarnation=1)
    assert not fleet.whole.has(fleet.b, 3)
    fleet.says(3, 4)
    assert fleet.whole.has(fleet.b, 3)
    fleet.says(4, 5)
    assert fleet.changes == [{3, 4}, {3, 4}, {3, 5}]
    assert not fleet.whole.has(fleet.b, 3)


def test_a_node_without_whole_copies_leaves_no_document(fleet: Fleet) -> None:
    fleet.whole.note()
    fleet.clock.advance(SOON)
    assert fleet.written() == Said(1, frozenset({1}))
    fleet.own.clear()
    fleet.whole.note()
    fleet.clock.advance(SOON)
    assert fleet.written() is None
    fleet.own.add(2)
    fleet.whole.note()
    fleet.clock.advance(SOON)
    assert fleet.written() == Said(1, frozenset({2}))


def test_what_could_not_be_read_is_read_again(fleet: Fleet) -> None:
    fleet.shared.broken = True
    fleet.shared.watching[0][2](frozenset({"b"}))
    fleet.shared.broken = False
    fleet.says(3)
    assert not fleet.whole.has(fleet.b, 3)
    fleet.clock.advance(1)
    assert fleet.whole.has(fleet.b, 3)


@pytest_twisted.ensureDeferred
async def test_after_a_fault_it_reads_on_and_writes_at_its_end(fleet: Fleet, logged_failures: list[LogEvent]) -> None:
    fleet.fault = ValueError("of ours")
    fleet.says(3)
    (fault,) = logged_failures
    logged_failures.clear()
    assert isinstance(fault["log_failure"].value, ValueError)
    fleet.says(3, 4)
    assert fleet.whole.has(fleet.b, 4)
    fleet.whole.note()
    await fleet.whole.stop()
    assert fleet.written() == Said(1, frozenset({1}))
