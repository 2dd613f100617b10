"""Where second copies are whole: each node writes down the shards of whose mirrors it has all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import msgspec

from stackit import App, Node, StackitError
from stackit.plugins.mirror.fleet.late_reads import LateReads
from stackit.plugins.mirror.fleet.late_writes import LateWrites

COLLECTION = "mirror-copies"
SOON = 1.0
"""Seconds until it is written that something changed: many copies become whole at once."""
_AGAIN = 1.0
"""Seconds until the journal is asked again after an error, of which it tells by itself."""


class Said(msgspec.Struct, frozen=True):
    """What a node says. ``incarnation`` is that of its process: the next one may have another disk."""

    incarnation: int = 0
    shards: frozenset[int] = frozenset()


class WholeShards:
    """The shards by the node. One that has none, as one that is drained, has no document.

    ``own`` returns those of this node, as they are now. ``changed`` is called with shards of which a node says
    something else than before.
    """

    def __init__(
        self, app: App, *, own: Callable[[], Collection[int]], changed: Callable[[Collection[int]], object]
    ) -> None:
        self._app = app
        self._here = app.nodes.here
        self._own = own
        self._changed = changed
        self._by_node: dict[str, Said] = {}
        self._written: Said | None = None  # by this one; None where that is not known
        self._writes = LateWrites(app.reactor, self._write, again=_AGAIN)
        self._reads = LateReads(app.reactor, self._read, again=_AGAIN)
        self._stopped = False

    def begin(self) -> None:
        """Read what the nodes wrote, and follow. It blocks for as long as that takes."""
        self._app.watch(COLLECTION, self._reads.note)
        try:
            documents = self._app.documents(COLLECTION)
        except StackitError:
            self._reads.note(None)
        else:
            self._written = _decode(documents.get(self._here, b"{}"))
            self._take(documents, None)

    def has(self, node: Node, shard: int) -> bool:
        """Return whether another node has said, since it started, that it has all second copies of a shard."""
        said = self._by_node.get(node.name, Said())
        return said.incarnation == node.incarnation and shard in said.shards

    def is_said(self, shard: int) -> bool:
        """Return whether this node has said so of a shard: a further fetch of its mirrors changes nothing."""
        return self._written is not None and shard in self._written.shards

    def note(self) -> None:
        """Have it written down which are whole here, if that has changed."""
        if not self._stopped:
            self._writes.note(self._here, SOON)

    async def stop(self) -> None:
        """Write what is not written yet, and nothing after that."""
        self._stopped = True
        await self._reads.stop()
        await self._writes.stop()

    async def _write(self, _: Collection[str]) -> None:
        own = Said(self._incarnation(), frozenset(self._own()))
        if own != self._written and (self._written is None or own.shards or self._written.shards):
            self._written = None
            await self._app.keep(COLLECTION, {self._here: msgspec.json.encode(own) if own.shards else None})
            self._written = own

    def _incarnation(self) -> int:
        return next((each.incarnation for each in self._app.nodes.nodes() if each.name == self._here), 0)

    async def _read(self, nodes: Collection[str] | None) -> None:
        self._changed(self._take(await self._app.kept(COLLECTION, nodes), nodes))

    def _take(self, documents: Mapping[str, bytes], nodes: Collection[str] | None) -> Collection[int]:
        """Take what all nodes wrote, or these, one document each; return the shards of which one says otherwise now."""
        changed: set[int] = set()
        for node in self._by_node.keys() | documents.keys() if nodes is None else nodes:
            earlier, now = self._by_node.get(node, Said()), _decode(documents.get(node, b"{}"))
            is_new = earlier.incarnation != now.incarnation
            changed |= now.shards if is_new else earlier.shards ^ now.shards
            if node in documents:
                self._by_node[node] = now
            else:
                self._by_node.pop(node, None)
        return changed


def _decode(document: bytes) -> Said:
    """Return what a document says; nothing for one that another version wrote, and that cannot be read here."""
    try:
        return msgspec.json.decode(document, type=Said)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Said()
