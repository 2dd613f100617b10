"""Which shards of the work are this process's, and whose the others are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from zlib import crc32

from stackit.journal.records import HandlingId, Shard, Space

LETTERS = "eml"
"""The spaces as the tables have them: ``e`` for work that any node with handlers does, ``m`` for mirrors and work that
needs them, ``l`` for the leader. The place of a letter is the number of its space in a Shard."""
_PLACES: Mapping[Space, int] = {"handlers": LETTERS.index("e"), "mirrors": LETTERS.index("m")}
_NUMBERS = 4096
"""One more than the largest number that a shard may have in its space."""
LEADER = Shard(LETTERS.index("l") * _NUMBERS)
"""The shard of the leader: its space has no other."""
_EPOCH_AT = 63
"""Bits of a row id in a HandlingId; the epoch is above them."""


def shard_of(space: Space, key: str, event: int, shards: int) -> Shard:
    """Return the shard of a handling: that of its repository (by key), or of its event where it has none."""
    return Shard(_PLACES[space] * _NUMBERS + (crc32(key.encode("utf-8", "surrogatepass")) if key else event) % shards)


def shard_at(letter: str, number: int) -> Shard:
    """Return the Shard of a row of the table: one of ``LETTERS``, and a number."""
    return Shard(LETTERS.index(letter) * _NUMBERS + number)


def row_of(shard: Shard) -> tuple[str, int]:
    """Return the space (a letter) and the number of a Shard, as they are stored."""
    return LETTERS[shard // _NUMBERS], shard % _NUMBERS


def letter_of(space: Space) -> str:
    """Return the letter of a space, as it is stored."""
    return LETTERS[_PLACES[space]]


def handling_id(row: int, epoch: int) -> HandlingId:
    """Return the id of a handling that is taken up in an epoch of its shard."""
    return HandlingId(epoch << _EPOCH_AT | row)


def handling_row(handling: HandlingId) -> tuple[int, int]:
    """Return the row of a handling, and the epoch in which it was taken up."""
    return handling & ((1 << _EPOCH_AT) - 1), handling >> _EPOCH_AT


def _always() -> bool:
    return True


class Ownership:
    """The shards of the fleet. Membership writes it; the journal reads it. All in the reactor's thread.

    ``me`` is this process's incarnation, ``epochs`` has the epoch of each shard that it owns, ``leaving`` those of them
    that are being given away, and ``owners`` the incarnation that owns each shard of the fleet, as far as it is known.
    ``is_in_time`` tells whether the lease still holds: a process that stood still learns of the time before its timers.
    """

    def __init__(self, me: int, shards: int) -> None:
        self.me = me
        self.shards = shards
        self.epochs: dict[Shard, int] = {}
        self.leaving: set[Shard] = set()
        self.owners: dict[Shard, int] = {}
        self.is_in_time: Callable[[], bool] = _always

    def owns(self, shard: Shard) -> bool:
        """Return whether handlings of a shard may begin here now."""
        return shard in self.epochs and shard not in self.leaving and self.is_in_time()

    def working(self) -> dict[Shard, int]:
        """Return the epochs of the shards of which handlings may begin here now."""
        working = self.epochs.copy()  # for each commit: of hundreds of shards, few or none are leaving
        for shard in self.leaving:
            working.pop(shard, None)
        return working

    def lose(self, shards: Iterable[Shard]) -> None:
        """Forget shards: what is done with them from now on is another's."""
        for shard in tuple(shards):
            self.epochs.pop(shard, None)
            self.leaving.discard(shard)
