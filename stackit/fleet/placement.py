"""Which node should have which shard: rendezvous hashing, with a bound on what one node gets."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from math import ceil

_SLACK = 0.05
"""How much more than its equal part a node may get. With less, more shards move when a node joins or goes."""


def score(name: str, number: int) -> int:
    """Return how well a node suits a shard: the same for everybody who asks, and like dice for each pair."""
    return int.from_bytes(blake2b(f"{name}/{number}".encode(), digest_size=8).digest(), "big")


def ranked(names: Sequence[str], number: int) -> list[str]:
    """Return the nodes in the order in which they suit a shard, best first."""
    return sorted(names, key=lambda name: (-score(name, number), name))


def place(names: Sequence[str], shards: int) -> dict[int, str]:
    """Return the node that should have each of so many ``shards``, by its number; nothing where there is no node.

    Each shard goes to the node that suits it best and has room. So a node that joins takes its part from all others,
    and hardly anything moves between those.
    """
    if not names:
        return {}
    room = dict.fromkeys(names, ceil(shards / len(names) * (1 + _SLACK)))
    placed: dict[int, str] = {}
    for _, number, name in sorted((-score(name, number), number, name) for number in range(shards) for name in room):
        if number not in placed and room[name]:
            placed[number] = name
            room[name] -= 1
    return placed
