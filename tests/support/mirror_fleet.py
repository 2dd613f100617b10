"""Mirror plugins as the nodes of a fleet, in one process: real git between them; who owns what is as a test says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from mirror_harness import GitHttp, Harness, Upstream, ask, managed, refs
from twisted.internet.defer import succeed
from waiting import until

from stackit import ManagedRepo, Node, Occurrence, RefChange, Repo, StackitError
from stackit.plugins.mirror.fleet.records import MirrorRecord, decode_record

REFSPECS = ("+refs/*:refs/*",)


class Membership:
    """The nodes, and the homes of repositories by key, which a test changes. A repository is its own shard."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.homes: dict[str, str] = {}
        self.copies: dict[str, list[str]] = {}
        self.arriving: dict[str, dict[int, Node]] = {}
        self.prepared: list[tuple[str, int]] = []
        self.keys: dict[str, int] = {}
        self._listeners: list[Callable[[], object]] = []

    def change(self) -> None:
        for each in self._listeners:
            each()

    def give(self, key: str, node: str) -> None:
        """Have a repository's home at a node."""
        self.homes[key] = node
        self.change()

    def listen(self, listener: Callable[[], object]) -> None:
        self._listeners.append(listener)

    def shard(self, key: str) -> int:
        return self.keys.setdefault(key, len(self.keys))


class View:
    """The fleet as one node sees it."""

    def __init__(self, membership: Membership, here: str) -> None:
        self.here = here
        self._all = membership

    def nodes(self) -> Sequence[Node]:
        return list(self._all.nodes.values())

    def home(self, repo: Repo) -> Node | None:
        return self._all.nodes.get(self._all.homes.get(repo.key, ""))

    def is_here(self, repo: Repo) -> bool:
        home = self.home(repo)
        return home is not None and home.name == self.here and home.state != "away"

    def copies(self, repo: Repo) -> Sequence[Node]:
        return [self._all.nodes[each] for each in self._all.copies.get(repo.key, ())]

    def leads(self) -> bool:
        return self.here == min(self._all.nodes)

    def leader(self) -> Node | None:
        return self._all.nodes[min(self._all.nodes)]

    def when_changed(self, callback: Callable[[], object]) -> None:
        self._all.listen(callback)

    def shard(self, repo: Repo) -> int:
        return self._all.shard(repo.key)

    def arriving(self) -> Mapping[int, Node]:
        return self._all.arriving.get(self.here, {})

    def when_arriving(self, prepare: Callable[[Mapping[int, Node]], object]) -> None:
        self._all.listen(lambda: prepare(self.arriving()))

    def prepared(self, shards: Collection[int]) -> None:
        self._all.prepared += [(self.here, each) for each in shards]

    async def round(self, name: str, interval: float) -> bool:
        return True


class Shared:
    """What the nodes share: documents, and the refs that were announced, by the home alone."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, bytes]] = {}
        self.told: dict[str, dict[str, str]] = {}
        self.announcements: list[tuple[str, str, tuple[RefChange, ...], str]] = []
        self.watching: list[tuple[str, str, Callable[[frozenset[str] | None], object]]] = []
        self.broken = False
        self.refused = 0

    def keep(self, node: str, collection: str, documents: Mapping[str, bytes | None]) -> Awaitable[None]:
        if self.broken:
            self.refused += 1
            raise StackitError("the database is away")
        kept = self.documents.setdefault(collection, {})
        for key, document in documents.items():
            if document is None:
                kept.pop(key, None)
            else:
                kept[key] = document
        for other, watched, changed in self.watching:
            if watched == collection and other != node:
                changed(frozenset(documents))
        return succeed(None)

    async def kept(self, collection: str, keys: Collection[str] | None) -> Mapping[str, bytes]:
        if self.broken:
            raise StackitError("the database is away")
        found = self.documents.get(collection, {})
        return {key: each for key, each in found.items() if keys is None or key in keys}


class NodeHarness(Harness):
    """The mirror plugin of one node."""

    def __init__(self, fleet: MirrorFleet, name: str, state: Path, *managed: ManagedRepo, **more: Any) -> None:
        self.fleet = fleet
        self.name = name
        super().__init__(state, *managed, **more)

    def adapt(self) -> None:
        shared, name = self.fleet.shared, self.name
        self.told = shared.told

        async def keep(collection: str, documents: Mapping[str, bytes | None]) -> None:
            await shared.keep(name, collection, documents)

        self.app = msgspec.structs.replace(
            self.app,
            nodes=View(self.fleet.membership, name),
            keep=keep,
            kept=shared.kept,
            documents=lambda collection: dict(shared.documents.get(collection, {})),
            watch=lambda collection, changed: shared.watching.append((name, collection, changed)),
            copy_at=self.fleet.copy_at,
            observe=self._observe,
        )

    async def _announce(self, repo: Repo, changes: tuple[RefChange, ...], cause: str, delivery: str | None) -> None:
        if self.fleet.membership.homes.get(repo.key) != self.name:
            raise StackitError(f"{self.name} announced refs of another node's mirror")
        await super()._announce(repo, changes, cause, delivery)
        self.fleet.shared.announcements.append((self.name, repo.key, changes, cause))
        self.app.observe(Occurrence(name="refs_changed", repo=repo, cause=cause, delivery=delivery, changes=changes))

    def _observe(self, occurrence: Any) -> None:
        self.occurrences.append(occurrence)
        self.mirror.stackit_observe(occurrence)


class MirrorFleet:
    """Nodes by name, each with a directory and an HTTP server of its own that serves its mirrors to the others."""

    def __init__(self, reactor: Any, root: Path) -> None:
        self.reactor = reactor
        self.root = root
        self.membership = Membership()
        self.shared = Shared()
        self.running: dict[str, NodeHarness] = {}
        self._servers: dict[str, GitHttp] = {}
        self._starts = 0

    def start(self, name: str, *managed: ManagedRepo, **more: Any) -> NodeHarness:
        """Start a node, or start it again on its disk."""
        state = self.root / name
        (state / "mirrors").mkdir(parents=True, exist_ok=True)
        if name not in self._servers:
            self._servers[name] = GitHttp(self.reactor, state / "mirrors")
        self._starts += 1
        self.membership.nodes[name] = Node(name=name, incarnation=self._starts, roles=("mirror",))
        self.running[name] = node = NodeHarness(self, name, state, *managed, **more)
        self.membership.change()
        return node

    async def stop(self, name: str) -> None:
        """Stop a node: it is away then, and its mirrors stay its own until a test says otherwise."""
        node = self.running.pop(name)
        await node.stop()
        self.shared.watching = [each for each in self.shared.watching if each[0] != name]
        self.membership.nodes[name] = msgspec.structs.replace(self.membership.nodes[name], state="away")
        self.membership.change()

    async def close(self) -> None:
        for name in list(self.running):
            await self.stop(name)
        for server in self._servers.values():
            await server.stop()

    def asked(self, name: str) -> int:
        """Return how often other nodes asked for the mirrors of a node."""
        return len(self._servers[name].asked)

    def refuse(self, name: str, status: int | None) -> None:
        """Have a node answer other nodes that ask for its mirrors with an error; None: no more."""
        self._servers[name].status = status

    def copy_at(self, managed: ManagedRepo, node: Node) -> ManagedRepo | None:
        url = self._servers[node.name].url(f"{managed.repo.path}.git")
        return msgspec.structs.replace(
            managed, url=url, refspecs=REFSPECS, token_file=None, token_source=None, ca_file=None, keep_forced=False
        )

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition. It is a bound against a hang that fails, and no measurement."""
        await until(condition)


KEY = "octo/widget"
REPO = Repo("octo", "widget")
ONE = "{prefix}/repos/{owner}/{name}"
OF_IT = {"owner": "octo", "name": "widget"}


def in_step(node: NodeHarness, upstream: Upstream) -> bool:
    """Whether the mirror is here, and has what its remote has, and all of that was announced."""
    worker = node.worker()
    return (
        worker is not None
        and worker.state == "in_step"
        and refs(node.path()) == upstream.refs() == node.fleet.shared.told.get(KEY)
        and worker.all_announced
    )


async def two(fleet: MirrorFleet, upstream: Upstream, **more: Any) -> tuple[NodeHarness, NodeHarness]:
    """Two nodes, the first of which has the mirror in step."""
    fleet.membership.homes[KEY] = "a"
    a, b = (fleet.start(name, managed(upstream, **more)) for name in "ab")
    await fleet.until(lambda: in_step(a, upstream))
    return a, b


async def knows(node: NodeHarness) -> None:
    """Wait until a node knows that the mirror is in step at another one."""

    def knows_it() -> bool:
        (mirror,) = node.mirror._all_mirrors()
        return mirror.presumed_state == "in_step"

    await node.fleet.until(knows_it)


def gauges(node: NodeHarness) -> dict[tuple[str, str | None], float]:
    """The metrics of the mirrors at a node, by name and state."""
    metrics = (*node.mirror._metrics.repos.collect(), *node.mirror._metrics.copies.collect())
    samples = [sample for metric in metrics for sample in metric.samples]
    return {(sample.name, sample.labels.get("state")): sample.value for sample in samples}


def record(fleet: MirrorFleet, key: str = KEY) -> MirrorRecord:
    """What the home of a mirror wrote down."""
    found = decode_record(fleet.shared.documents["mirror-homes"][key])
    assert found is not None
    return found


async def shown(node: NodeHarness) -> dict[str, Any]:
    return (await ask(node, "GET", ONE, **OF_IT)).body  # type: ignore[no-any-return]
