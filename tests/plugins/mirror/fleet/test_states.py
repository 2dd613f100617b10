"""What the nodes know of each other's mirrors, and what they delete by that."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import pytest_twisted
from mirror_fleet import KEY, OF_IT, ONE, REPO, MirrorFleet, in_step, knows, record, shown, two
from mirror_harness import Upstream, ask, managed
from twisted.internet.protocol import Factory, Protocol

from stackit import StackitError


@pytest_twisted.ensureDeferred
async def test_only_the_home_mirrors_and_every_node_knows_of_it(fleet: MirrorFleet, upstream: Upstream) -> None:
    a, b = await two(fleet, upstream)
    await fleet.until(
        lambda: b.mirror._all_mirrors() and next(iter(b.mirror._all_mirrors())).presumed_state == "in_step"
    )
    assert b.worker() is None
    assert not b.path().exists()
    here, there = await shown(a), await shown(b)
    assert (here["node"], here["path"]) == ("a", str(a.path()))
    assert {each: there[each] for each in ("node", "path", "state", "error", "verified_at")} == {
        each: here[each] for each in ("node", "path", "state", "error", "verified_at")
    }
    listed = (await ask(b, "GET", "{prefix}/repos")).body["repos"]
    assert listed == [there]
    assert b.mirror.stackit_mirror(REPO) is b.mirror.stackit_mirror_copy(REPO) is None
    assert a.mirror.stackit_mirror(REPO) == a.mirror.stackit_mirror_copy(REPO)
    assert (await ask(b, "POST", f"{ONE}/sync", **OF_IT)).status == 503
    assert b.fetches() == []


@pytest_twisted.ensureDeferred
async def test_nothing_is_announced_before_the_database_knows_the_new_home(
    fleet: MirrorFleet, upstream: Upstream
) -> None:
    fleet.membership.homes[KEY] = "a"
    fleet.shared.broken = True
    a = fleet.start("a", managed(upstream))
    for _ in range(20):
        await a.reactor_turn()
    assert a.worker() is None
    assert fleet.shared.announcements == []
    fleet.shared.broken = False
    await fleet.until(lambda: in_step(a, upstream))


@pytest_twisted.ensureDeferred
async def test_a_new_home_that_has_to_clone_first_says_so_at_once(
    fleet: MirrorFleet, upstream: Upstream, reactor: Any
) -> None:
    await two(fleet, upstream)
    await fleet.until(lambda: record(fleet).state == "in_step")
    for name in "ab":
        await fleet.stop(name)
    silent = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
    fleet.membership.give(KEY, "b")
    fleet.start("b", managed(f"http://127.0.0.1:{silent.getHost().port}/widget.git"))
    await fleet.until(lambda: (record(fleet).node, record(fleet).state) == ("b", "cloning"))
    await fleet.stop("b")
    await silent.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_mirror_stays_on_disk_while_its_new_home_has_none(fleet: MirrorFleet, upstream: Upstream) -> None:
    a, b = await two(fleet, upstream)
    await fleet.until(lambda: record(fleet).state == "in_step")
    await fleet.stop("b")
    fleet.membership.give(KEY, "b")
    await fleet.until(lambda: a.worker() is None)
    for _ in range(20):
        await a.reactor_turn()
    left_behind = a.mirror.stackit_mirror_copy(REPO)
    assert left_behind is not None
    assert (left_behind.state, (await shown(a))["state"]) == ("behind", "behind")  # b has not compared what it has
    assert (left_behind.path, left_behind.path.exists()) == (a.path(), True)
    b = fleet.start("b", managed(upstream))
    await fleet.until(lambda: in_step(b, upstream))
    await fleet.until(lambda: not a.path().exists())
    assert (await shown(a))["state"] == "in_step"


@pytest_twisted.ensureDeferred
async def test_a_mirror_stays_on_disk_while_its_home_that_started_again_may_have_lost_its_own(
    fleet: MirrorFleet, upstream: Upstream
) -> None:
    a, b = await two(fleet, upstream)
    await fleet.stop("a")
    fleet.membership.give(KEY, "b")
    await fleet.until(lambda: in_step(b, upstream))
    await fleet.until(lambda: record(fleet).node == "b" and record(fleet).is_good)
    await fleet.stop("b")
    shutil.rmtree(b.path())
    upstream.directory.rename(upstream.directory.with_name("gone.git"))
    a = fleet.start("a", managed(upstream))
    b = fleet.start("b", managed(upstream))
    await fleet.until(b.path().exists)  # it has it from the only one that is left
    assert a.path().exists()
    upstream.directory.with_name("gone.git").rename(upstream.directory)
    await b.worker().sync("manual")
    await fleet.until(lambda: not a.path().exists())


@pytest_twisted.ensureDeferred
async def test_a_repository_that_is_managed_no_more_has_no_record(fleet: MirrorFleet, upstream: Upstream) -> None:
    a, b = await two(fleet, upstream)
    for node in (a, b):
        node.app.repos.replace([])
    await fleet.until(lambda: not fleet.shared.documents.get("mirror-homes"))
    assert a.path().exists()  # its mirror stays, as without a fleet


@pytest_twisted.ensureDeferred
async def test_a_node_that_wakes_late_does_not_have_the_last_word(fleet: MirrorFleet, upstream: Upstream) -> None:
    _, b = await two(fleet, upstream)
    await knows(b)
    stale = fleet.shared.documents["mirror-homes"][KEY]
    fleet.membership.give(KEY, "b")
    await fleet.until(lambda: in_step(b, upstream))
    await fleet.until(lambda: record(fleet).node == "b" and not record(fleet).inherited)
    fleet.shared.keep("a", "mirror-homes", {KEY: stale})
    await fleet.until(lambda: record(fleet).node == "b")


@pytest_twisted.ensureDeferred
async def test_states_are_written_when_the_database_is_back(fleet: MirrorFleet, upstream: Upstream) -> None:
    a, _ = await two(fleet, upstream)
    await fleet.until(lambda: record(fleet).state == "in_step")
    fleet.shared.broken = True
    upstream.directory.rename(upstream.directory.with_name("gone.git"))
    with pytest.raises(StackitError):
        await a.worker().sync("manual")
    await fleet.until(lambda: fleet.shared.refused)
    assert record(fleet).state == "in_step"
    fleet.shared.broken = False
    await fleet.until(lambda: record(fleet).state == "failing")
