"""The refs of a mirror at one moment: found, moved and compared as if they were a plain dict."""

from __future__ import annotations

import random

import pytest

from stackit import RefChange, ref_bytes
from stackit.plugins.mirror.refs.snapshot import MOST_ASIDE, Snapshot

ZERO = "0" * 40


def oid(number: int) -> str:
    return f"{number:040x}"


def snapshot(refs: dict[str, str]) -> Snapshot:
    return Snapshot.from_refs({ref_bytes(ref): each for ref, each in refs.items()})


NAMES = ["refs/heads/a", "refs/heads/a-b", "refs/heads/a/b", "refs/heads/caf\udce9", "refs/heads/main", "refs/tags/v1"]


def test_no_refs_are_none() -> None:
    assert not Snapshot()
    assert Snapshot().get("refs/heads/main") is None
    assert Snapshot().as_dict() == {}
    assert Snapshot().some(3) == []


@pytest.mark.parametrize("size", range(len(NAMES) + 1))
def test_each_ref_is_found_and_no_other(size: int) -> None:
    refs = {name: oid(number) for number, name in enumerate(NAMES[:size])}
    found = snapshot(refs)
    assert {name: found.get(name) for name in NAMES} == {name: refs.get(name) for name in NAMES}
    assert found.get("refs/heads") is None
    assert found.get("refs/heads/mai") is None
    assert found.as_dict() == refs


@pytest.mark.parametrize("seed", range(5))
def test_moves_leave_what_a_dict_would_have(seed: int) -> None:
    """Updates and creations, one by one and together, over the point at which a new list is made."""
    dice = random.Random(seed)
    refs = {f"refs/heads/{dice.randrange(400)}": oid(number) for number in range(150)}
    moving = snapshot(refs)
    for number in range(2 * MOST_ASIDE):
        names = {f"refs/heads/{dice.randrange(2000)}" for _ in range(dice.choice([1, 1, 3]))}
        changes = [RefChange(name, refs.get(name, ZERO), oid(1000 + number), "updated") for name in sorted(names)]
        before, was = moving, dict(refs)
        moving = moving.moved(changes)
        refs |= {change.ref: change.new for change in changes}
        name = dice.choice(list(refs))
        assert moving.get(name) == refs[name]
        assert before.get(name) == was.get(name), "an older snapshot stays as it was"
    assert moving.as_dict() == refs
    assert moving == snapshot(refs)
    assert hash(moving) == hash(snapshot(refs))
    assert moving != snapshot({**refs, "refs/heads/one-more": oid(1)})


def test_some_are_object_ids_of_refs_as_they_are_now() -> None:
    refs = {f"refs/heads/{number}": oid(number) for number in range(5)}
    moved = snapshot(refs).moved([RefChange("refs/heads/0", oid(0), oid(9), "updated")])
    assert moved.some(3) == [oid(9), oid(1), oid(2)]
    assert set(moved.some(100)) == {oid(number) for number in (9, 1, 2, 3, 4)}
    created = Snapshot().moved([RefChange("refs/heads/new", ZERO, oid(7), "created")])
    assert created.some(2) == [oid(7)]


def test_moving_one_of_a_hundred_thousand_refs_copies_none_of_the_others() -> None:
    found = snapshot({f"refs/heads/{number:06}": oid(number) for number in range(100_000)})
    moved = found.moved([RefChange("refs/heads/050000", oid(50_000), oid(1), "updated")])
    assert moved._listing is found._listing
    assert moved.get("refs/heads/050000") == oid(1)
