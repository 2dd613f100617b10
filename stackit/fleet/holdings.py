"""The shards that are this node's: how it gains them, drains those that others shall have, and loses them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from stackit.journal import Shard, WorkListener
from stackit.journal.postgres.ownership import Ownership


class Holdings:
    """Keeps ``ownership`` true, and tells the listeners of each change behind it.

    ``has_drained`` is called when nothing runs any more in a shard that is to be given away.
    """

    def __init__(self, ownership: Ownership, has_drained: Callable[[], object]) -> None:
        self._ownership = ownership
        self._has_drained = has_drained
        self._listeners: list[WorkListener] = []
        self._drains: dict[Shard, Deferred[None]] = {}
        self._drained: set[Shard] = set()

    def listen(self, listener: WorkListener) -> None:
        """Tell one who hands on the work."""
        self._listeners.append(listener)

    def adopt(self, epochs: Mapping[Shard, int]) -> None:
        """Own exactly these shards, as the database shows it."""
        own = self._ownership.epochs
        self.lose([shard for shard, epoch in own.items() if epochs.get(shard) != epoch])
        self.add({shard: epoch for shard, epoch in epochs.items() if shard not in own})

    def add(self, epochs: Mapping[Shard, int]) -> None:
        """Own these shards, too."""
        if epochs:
            self._ownership.epochs.update(epochs)
            self._ownership.owners.update(dict.fromkeys(epochs, self._ownership.me))
            self._gained()

    def lose(self, shards: Iterable[Shard]) -> bool:
        """Own these shards no more: they are, or may be, another's. Returns False where there are none."""
        lost = tuple(shards)
        self._forget(lost)
        if lost:
            for listener in self._listeners:
                listener.lost(lost)
        return bool(lost)

    def lose_all(self) -> bool:
        """Own nothing any more. Returns False where that changes nothing."""
        return self.lose(self._ownership.epochs)

    def follow(self, heirs: Mapping[Shard, int | None]) -> dict[Shard, int | None]:
        """Drain exactly these own shards; returns those of them that are drained, with their heirs."""
        kept = [shard for shard in self._drains if shard not in heirs]
        if kept:
            self._stop_draining(kept)
            self._gained()
        for shard in heirs:
            if shard in self._ownership.epochs and shard not in self._drains:
                self._start_draining(shard)
        return {shard: heirs[shard] for shard in self._drained}

    def have_given(self, owners: Mapping[Shard, int | None]) -> None:
        """Own these shards no more: nothing of them is in hand, and others have them, or nobody (None)."""
        self._forget(tuple(owners))
        for shard, owner in owners.items():
            if owner is None:
                self._ownership.owners.pop(shard, None)
            else:
                self._ownership.owners[shard] = owner

    def _gained(self) -> None:
        for listener in self._listeners:
            listener.gained()

    def _forget(self, shards: Iterable[Shard]) -> None:
        self._stop_draining([shard for shard in shards if shard in self._drains])
        self._ownership.lose(shards)

    def _start_draining(self, shard: Shard) -> None:
        self._ownership.leaving.add(shard)
        draining = self._drains[shard] = Deferred.fromCoroutine(self._drain(shard))
        draining.addErrback(_cancelled)

    async def _drain(self, shard: Shard) -> None:
        for listener in self._listeners:
            await Deferred.fromCoroutine(listener.drain([shard]))
        self._drained.add(shard)
        self._has_drained()

    def _stop_draining(self, shards: Iterable[Shard]) -> None:
        for shard in shards:
            self._drains.pop(shard).cancel()  # first: a listener may end by that, as if it had drained
            self._ownership.leaving.discard(shard)
            self._drained.discard(shard)


def _cancelled(failure: Failure) -> None:
    failure.trap(CancelledError)
