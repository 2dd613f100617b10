"""The removal of mirrors that another node has: what could be the only second copy stays, but not for ever."""

from __future__ import annotations

from pathlib import Path
from threading import enumerate as threads
from typing import Any

import pytest
from clocks import as_reactor
from mirror_fleet import KEY, REPO, Membership, View
from mirror_harness import managed
from twisted.internet.task import Clock

from stackit import App, Node, Occurrence, Repos
from stackit.plugins.mirror.fleet.disposal import KEPT_FOR, Disposal
from stackit.plugins.mirror.fleet.records import MirrorRecord
from stackit.plugins.mirror.repository.places import Places

EACH = managed("file:///nowhere/at/all.git")


async def never(*_: object) -> Any:
    """Raises AssertionError: nothing is announced."""
    raise AssertionError


class Mirror:
    """A mirror on the disk of ``b`` that ``a`` has, whose second copy is another node's to keep."""

    def __init__(self, root: Path) -> None:
        membership = Membership()
        membership.nodes = {name: Node(name=name, roles=("mirror",)) for name in "ab"}
        membership.homes[KEY] = "a"
        self.clock = Clock()
        self.told: list[Occurrence] = []
        self.is_wanted = self.is_copied = False
        places = Places(root, lambda *_: None)
        self.path = places.place(REPO)
        self.path.mkdir(parents=True)
        app = App(
            reactor=as_reactor(self.clock),
            version="0",
            state_dir=root,
            repos=Repos([EACH]),
            sync_interval=0,
            grace=0,
            observe=self.told.append,
            announced=never,
            announce=never,
            visible=never,
            pending=dict,
            nodes=View(membership, "b"),
        )
        record = MirrorRecord(node="a", state="in_step", verified_at=1.0)
        self.disposal = Disposal(
            app,
            places,
            record=lambda _: record,
            is_wanted=lambda _: self.is_wanted,
            is_copied=lambda _: self.is_copied,
            again=lambda _: self.disposal.check(EACH),
        )
        self.disposal.add([KEY])
        self.disposal.check(EACH)


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path)


def is_removed(mirror: Mirror) -> bool:
    for each in threads():
        if each.name == "deletion of a mirror":
            each.join()
    return not mirror.path.exists()


def test_a_mirror_stays_until_its_second_copy_is_whole(mirror: Mirror) -> None:
    assert mirror.disposal.is_held(KEY)
    assert not is_removed(mirror)
    mirror.is_copied = True
    mirror.disposal.check(EACH)
    assert is_removed(mirror)
    assert [each.reason for each in mirror.told] == ["node a has the mirror now: it is removed here"]
    assert not mirror.disposal.is_held(KEY)
    mirror.disposal.stop()
    assert mirror.clock.getDelayedCalls() == []


def test_a_mirror_whose_second_copy_never_becomes_whole_stays_for_some_hours(mirror: Mirror) -> None:
    mirror.clock.advance(KEPT_FOR / 2)
    mirror.disposal.check(EACH)
    mirror.clock.advance(KEPT_FOR / 2 - 1)
    assert not is_removed(mirror)
    mirror.clock.advance(1)
    assert is_removed(mirror)


def test_a_mirror_that_was_wanted_meanwhile_stays_as_long_again(mirror: Mirror) -> None:
    mirror.clock.advance(KEPT_FOR / 2)
    mirror.disposal.add([KEY])
    mirror.disposal.check(EACH)
    mirror.clock.advance(KEPT_FOR / 2)
    assert not is_removed(mirror)
    mirror.clock.advance(KEPT_FOR / 2)
    assert is_removed(mirror)
