"""A listing compared with what is known: by id, so that a name never tells what a repository is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stackit.api.events import Repo
from stackit.config.discover import DiscoverTable, DiscoveryConfig
from stackit.github.discovery.difference import Difference, Found, Known, difference, missing
from stackit.github.discovery.listed import ListedOwner, ListedRepo
from stackit.github.discovery.removal_guard import objection
from stackit.github.discovery.rules import Decision, Rule

RULE = Rule("discover[1]", DiscoverTable(app="main"))


def found(number: int, name: str, *, mirrored: bool = True, details: object = None) -> Found:
    repo = ListedRepo(
        id=number,
        full_name=f"octo/{name}",
        owner=ListedOwner(1, "octo"),
        private=False,
        fork=False,
        archived=False,
    )
    return Found(repo, Decision(mirrored, "discover[1]: …", RULE), details)


def known(**names: int) -> dict[int, Known]:
    return {number: Known(number, Repo("octo", name)) for name, number in names.items()}


def names(repos: Mapping[int, Known]) -> dict[str, int]:
    return {each.repo.key: each.id for each in repos.values() if each.mirrored}


def told(listing: Iterable[Found], repos: Mapping[int, Known]) -> dict[str, list[int]]:
    result = difference(listing, repos, names(repos))
    return {part: ids for part in Difference.__struct_fields__ if (ids := [each.id for each in getattr(result, part)])}


def test_a_repository_is_new_by_its_id_and_moved_by_its_name() -> None:
    before = known(a=1, b=2)
    assert told([found(1, "a"), found(2, "b2"), found(3, "c")], before) == {"added": [3], "moved": [2]}
    assert told([found(1, "A")], before) == {"moved": [1]}  # letter case is part of a name that is shown
    assert told([found(1, "a", details="other")], before) == {"changed": [1]}


def test_a_name_that_another_repository_has_is_not_taken_from_it() -> None:
    before = known(a=1, b=2)
    assert told([found(3, "a")], before) == {"contested": [3]}
    assert told([found(1, "b")], before) == {"contested": [1]}
    assert told([found(1, "b"), found(3, "a")], before) == {"contested": [3, 1]}
    assert told([found(1, "b", mirrored=False)], before) == {"left_out": [1]}


def test_two_that_swap_names_move_together() -> None:
    before = known(a=1, b=2, c=3)
    assert told([found(1, "b"), found(2, "a")], before) == {"moved": [1, 2]}
    assert told([found(1, "b"), found(2, "c"), found(3, "a")], before) == {"moved": [1, 2, 3]}
    assert told([found(1, "b"), found(2, "c")], before) == {"contested": [1, 2]}


def test_two_that_show_one_name_wait_both() -> None:
    assert told([found(1, "a"), found(2, "a")], {}) == {"contested": [1, 2]}


def test_a_repository_that_was_left_out_or_removed_comes_again() -> None:
    before = {1: Known(1, Repo("octo", "a"), mirrored=False)}
    assert told([found(1, "a")], before) == {"added": [1]}
    assert told([found(1, "a", mirrored=False)], before) == {}
    assert told([found(1, "a", mirrored=False)], known(a=1)) == {"left_out": [1]}


IDS = st.integers(1, 6)
NAMES = st.sampled_from("abcdefg")
KNOWN = st.dictionaries(NAMES, IDS).map(lambda table: known(**{name: number for number, name in _inverted(table)}))
LISTINGS = st.dictionaries(IDS, st.tuples(NAMES, st.booleans())).map(
    lambda table: [found(number, name, mirrored=mirrored) for number, (name, mirrored) in table.items()]
)


def _inverted(table: dict[str, Any]) -> Iterable[tuple[int, str]]:
    return {number: name for name, number in table.items()}.items()


@given(KNOWN, LISTINGS)
def test_what_is_added_and_moved_together_gives_no_name_to_two(before: dict[int, Known], listing: list[Found]) -> None:
    result = difference(listing, before, names(before))
    after = {each.id: each.repo.key for each in before.values()}
    after |= {each.id: each.repo.key for each in (*result.added, *result.moved)}
    assert len(set(after.values())) == len(after)


@given(KNOWN, LISTINGS)
def test_each_repository_of_a_listing_is_in_one_part_or_as_it_was(
    before: dict[int, Known], listing: list[Found]
) -> None:
    result = difference(listing, before, names(before))
    parts = [each.id for part in Difference.__struct_fields__ for each in getattr(result, part)]
    assert len(parts) == len(set(parts))
    as_it_was = {each.id for each in listing} - set(parts)
    for each in listing:
        if each.id in as_it_was:
            there = before.get(each.id)
            assert there is None or not each.decision.mirrored or there.repo == each.repo
            assert each.decision.mirrored is (there is not None)


@given(KNOWN, LISTINGS)
def test_after_a_listing_without_contest_the_next_changes_nothing(
    before: dict[int, Known], listing: list[Found]
) -> None:
    result = difference(listing, before, names(before))
    after = dict(before)
    for each in (*result.added, *result.moved):
        after[each.id] = Known(each.id, each.repo)
    for each in result.left_out:
        after[each.id] = Known(each.id, each.repo, mirrored=False)
    again = difference(listing, after, names(after))
    assert not (again.added or again.moved or again.left_out) or result.contested or result.left_out
    assert {each.id for each in again.contested} <= {each.id for each in result.contested}


@given(KNOWN, st.sets(IDS))
def test_what_a_listing_lacks_is_missing_and_nothing_else(before: dict[int, Known], listed: set[int]) -> None:
    assert {each.id for each in missing(before, listed)} == set(before) - listed


# -- the guard --------------------------------------------------------------------

GUARD = DiscoveryConfig()


def held(known: int, vanished: int, listed: int) -> bool:
    return objection(GUARD, known=known, vanished=vanished, listed=listed, source="app main at octo") is not None


def test_mass_disappearance_is_held_and_the_loss_of_one_is_not() -> None:
    assert held(100, 60, 40)
    assert held(100, 21, 79)
    assert not held(100, 20, 80)
    assert not held(100, 1, 99)
    assert not held(9, 8, 1)  # fewer than [discovery] min_repos


def test_the_objection_says_what_to_do() -> None:
    text = objection(GUARD, known=100, vanished=60, listed=40, source="app main at octo") or ""
    assert text.startswith(
        "60 of 100 repositories are gone from the listing of app main at octo, or left out by a rule"
    )
    assert text.endswith("stackit discover --accept-removals")


@given(st.integers(1, 10_000))
def test_an_empty_listing_removes_nothing(known: int) -> None:
    assert held(known, known, 0)


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_more_that_vanish_are_held_as_well(known: int, vanished: int) -> None:
    vanished = min(known, vanished)
    if held(known, vanished, listed=1):
        assert held(known, min(known, vanished + 1), listed=1)
