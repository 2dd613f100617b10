"""What a node owns, drains and loses, whatever those do who hand on the work."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from twisted.internet.defer import CancelledError, Deferred

from stackit.fleet.holdings import Holdings
from stackit.journal import DueHandling, Shard, StoredEvent
from stackit.journal.postgres.ownership import Ownership


class EndsWhenCancelled:
    """A listener with something in hand for ever, that takes the end of a drain for that of its work."""

    def recorded(self, works: Sequence[tuple[DueHandling, StoredEvent]]) -> None: ...

    def gained(self) -> None: ...

    def lost(self, shards: Collection[Shard]) -> None: ...

    async def drain(self, shards: Collection[Shard]) -> None:
        try:
            await Deferred[None]()
        except CancelledError:
            return


def test_a_shard_whose_drain_was_given_up_is_not_drained() -> None:
    one, two = Shard(1), Shard(2)
    holdings = Holdings(Ownership(1, 8), lambda: None)
    holdings.listen(EndsWhenCancelled())
    holdings.add({one: 1, two: 1})
    assert holdings.follow({one: 7, two: 7}) == {}
    assert holdings.follow({two: 7}) == {}  # the one that should get it is gone again
    holdings.lose_all()
    assert holdings.follow({}) == {}
    holdings.add({one: 2, two: 2})
    assert holdings.follow({one: 7, two: 7}) == {}
    holdings.lose_all()
