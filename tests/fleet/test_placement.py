"""The node that should have a shard."""

from __future__ import annotations

from collections import Counter
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from stackit.fleet.placement import place, ranked

NAMES = st.lists(st.text("abcdefghij0123456789.-", min_size=1, max_size=8), unique=True, min_size=1, max_size=8)
SHARDS = st.sampled_from([1, 16, 64, 256])


@given(NAMES, SHARDS)
def test_everybody_finds_the_same_place_for_every_shard(names: list[str], shards: int) -> None:
    placed = place(sorted(names), shards)
    assert sorted(placed) == list(range(shards))
    assert set(placed.values()) <= set(names)
    assert place(sorted(names, reverse=True), shards) == placed
    assert all(sorted(ranked(names, number)) == sorted(names) for number in range(3))


@given(NAMES, SHARDS)
def test_no_node_gets_much_more_than_its_part(names: list[str], shards: int) -> None:
    most = max(Counter(place(names, shards).values()).values())
    assert most <= ceil(shards / len(names) * 1.05)


@given(NAMES)
def test_a_node_that_joins_takes_its_part_and_leaves_nearly_all_else_where_it_is(names: list[str]) -> None:
    before, after = place(names, 256), place([*names, "newcomer"], 256)
    moved = {number for number in before if before[number] != after[number]}
    between_others = {number for number in moved if after[number] != "newcomer"}
    assert len(moved) <= 2 * ceil(256 / (len(names) + 1))
    assert len(between_others) <= 256 // 8


def test_nobody_gets_anything_where_nobody_is() -> None:
    assert place([], 16) == {}
