"""What the operations of one commit share, and the changes that others have to know of once it is durable."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from stackit.journal.packing import bundles
from stackit.journal.postgres.bodies import bundle
from stackit.journal.postgres.connection import Connection
from stackit.journal.postgres.ids import event_id
from stackit.journal.postgres.ownership import handling_id, shard_of
from stackit.journal.postgres.subscribers import MOST, Subscribers
from stackit.journal.records import DueHandling, HandlingId, Shard, Space

_TOUCH = "SELECT pg_logical_emit_message(true, 'stackit', '')"
_BUNDLE_IDS = "SELECT nextval('bundle_ids')"
_BLOCK = 1024  # ids of bundles that one nextval is worth


class Snapshot(msgspec.Struct, frozen=True):
    """Whose work is whose, at one moment, for the writer's thread.

    ``me`` is this process's incarnation, ``epochs`` has the epochs of the shards of which handlings may begin here,
    ``spaces`` the space of each subscriber, ``shards`` is the number of shards of a space.
    """

    me: int
    epochs: Mapping[Shard, int]
    spaces: Mapping[str, Space]
    shards: int


class Changes(msgspec.Struct):
    """Changes of a commit that other processes have to know of: shards and rows of new work, and documents."""

    works: list[tuple[Shard, int]] = msgspec.field(default_factory=list)
    documents: dict[str, set[str]] = msgspec.field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.works or self.documents)


class Bundles:
    """Ids for new bundles: a block of them at a time, which no other process has."""

    def __init__(self) -> None:
        self._next = 0
        self._end = 0

    def id(self, connection: Connection) -> int:
        """Return an id that was never used."""
        if self._next == self._end:
            ((first,),) = connection.execute(_BUNDLE_IDS).fetchall()
            self._next, self._end = first, first + _BLOCK
        self._next += 1
        return self._next - 1

    def bundle(
        self, connection: Connection, bodies: Sequence[bytes | None]
    ) -> tuple[list[tuple[int | None, int | None]], list[tuple[int, bytes]]]:
        """Return the bundle and the place of each body (None: not kept), and the bundles by their ids."""
        places: list[tuple[int | None, int | None]] = [(None, None)] * len(bodies)
        made: list[tuple[int, bytes]] = []
        for together in bundles((at, body) for at, body in enumerate(bodies) if body is not None):
            number = self.id(connection)
            made.append((number, bundle([body for _, body in together])))
            for place, (at, _) in enumerate(together):
                places[at] = number, place
        return places, made


class Commit:
    """One commit, for the operations in it: in the writer's thread.

    ``in_doubt``: an earlier attempt at the same may be there already; ``recovered`` are the events of it that were
    found.
    """

    __slots__ = ("bundles", "changes", "connection", "in_doubt", "recovered", "snapshot", "subscribers")

    def __init__(
        self,
        connection: Connection,
        snapshot: Snapshot,
        subscribers: Subscribers,
        bundles: Bundles,
        *,
        in_doubt: bool = False,
    ) -> None:
        self.connection = connection
        self.snapshot = snapshot
        self.subscribers = subscribers
        self.bundles = bundles
        self.in_doubt = in_doubt
        self.recovered: set[int] = set()
        self.changes = Changes()

    def touch(self) -> None:
        """Write something, so that the commit waits for the disk and for the standby, and so for all before it."""
        self.connection.execute(_TOUCH)

    def numbers(self, keys: Iterable[str]) -> Mapping[str, int]:
        """Return the numbers of subscribers: ``keys`` and others."""
        return self.subscribers.numbers(self.connection, keys)

    def shard(self, subscriber: str, group: str, event: int) -> Shard:
        """Return the shard of a handling."""
        return shard_of(self.snapshot.spaces.get(subscriber, "handlers"), group, event, self.snapshot.shards)

    def due(
        self,
        event: int,
        subscriber: str,
        shard: Shard,
        group: str,
        size: int,
        *,
        attempts: int = 0,
        earlier: Collection[int] = (),
    ) -> DueHandling | None:
        """Return a new handling where it is this process's; else have its owner told, and return None."""
        row = event * MOST + self.subscribers.numbers(self.connection, (subscriber,))[subscriber]
        epoch = self.snapshot.epochs.get(shard)
        if epoch is None:
            self.changes.works.append((shard, row))
            return None
        before: tuple[HandlingId, ...] = tuple(handling_id(each, epoch) for each in earlier)
        id_ = handling_id(row, epoch)
        return DueHandling(id_, event_id(event), subscriber, group, attempts, size, shard, before)
