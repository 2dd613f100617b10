"""Journals of several nodes over one memory: what one writes of documents and refs, the others are told of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from memory_journal import MemoryJournal
from twisted.internet.defer import DeferredLock

from stackit.api.errors import JournalError
from stackit.api.nodes import Alone, Node

Changed = Callable[[frozenset[str] | None], object]


class SharedJournals:
    """Makes the journals of nodes. ``reactor`` is that of all of them."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._all: list[NodeJournal] = []

    def node(self) -> NodeJournal:
        """The journal of one more node."""
        made = NodeJournal(self._reactor, self._all)
        self._all.append(made)
        return made


class NodeJournal(MemoryJournal):
    """The journal of one node. While it is ``deaf``, it is told of nothing; a ``broken`` one writes nothing.

    Where there is a ``silence``, it answers after that.
    """

    def __init__(self, reactor: Any, all_nodes: list[NodeJournal]) -> None:
        super().__init__(reactor)
        self._all = all_nodes
        self._watchers: defaultdict[str, list[Changed]] = defaultdict(list)
        self.deaf = False
        self.broken = False
        self.questions = 0
        self.silence: DeferredLock | None = None
        if all_nodes:
            self._documents, self._refs = all_nodes[0]._documents, all_nodes[0]._refs

    def watch(self, collection: str, changed: Changed) -> None:
        self._watchers[collection].append(changed)

    def tell(self, collection: str, keys: frozenset[str] | None) -> None:
        """Tell of documents that another node changed."""
        for changed in () if self.deaf else self._watchers[collection]:
            changed(keys)

    async def documents(self, collection: str, keys: Any = None) -> dict[str, bytes]:
        self.questions += 1
        if self.silence is not None:
            await self.silence.run(lambda: None)
        return await super().documents(collection, keys)

    async def rename(
        self, renames: Sequence[tuple[str, str]], collection: str, documents: Mapping[str, bytes | None]
    ) -> None:
        if self.broken:
            raise JournalError("the database is away")
        await super().rename(renames, collection, documents)
        for each in self._all:
            if each is not self:
                each.tell(collection, frozenset(documents))


class PretendNode(Alone):
    """A node of a fleet that leads as long as it is told to."""

    def __init__(self, name: str, *, leads: bool) -> None:
        self.here = name
        self._leads = leads
        self._callbacks: list[Callable[[], object]] = []

    def leads(self) -> bool:
        return self._leads

    def leader(self) -> Node | None:
        return Node(name=self.here) if self._leads else None

    def when_changed(self, callback: Callable[[], object]) -> None:
        self._callbacks.append(callback)

    def lead(self, leads: bool) -> None:
        """Have it lead from now on, or no more."""
        self._leads = leads
        for each in self._callbacks:
            each()
