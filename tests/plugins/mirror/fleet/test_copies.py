"""Copies of mirrors at other nodes: of what is to come, and second ones."""

from __future__ import annotations

import pytest_twisted
from mirror_fleet import KEY, REPO, MirrorFleet, NodeHarness, gauges, in_step, knows, record, shown, two
from mirror_harness import Upstream, managed, pushed, refs

from stackit import Node


@pytest_twisted.ensureDeferred
async def test_a_shard_arrives_after_its_mirrors_and_nobody_looks_twice(fleet: MirrorFleet, upstream: Upstream) -> None:
    a, b = await two(fleet, upstream)
    await knows(b)
    shard = fleet.membership.shard(KEY)
    fleet.membership.arriving["b"] = {shard: fleet.membership.nodes["a"], 77: fleet.membership.nodes["a"]}
    fleet.membership.change()
    await fleet.until(lambda: ("b", shard) in fleet.membership.prepared)
    assert ("b", 77) in fleet.membership.prepared  # nothing is in it
    assert refs(b.path()) == upstream.refs()
    assert (b.fetches(), b.worker()) == ([], None)
    del fleet.membership.arriving["b"]
    assert b.mirror.stackit_mirror(REPO) is None
    fleet.membership.give(KEY, "b")
    comes = b.mirror.stackit_mirror(REPO)  # who reads it may have to wait a moment
    assert comes is not None
    assert (comes.path, comes.arriving) == (b.path(), True)
    await fleet.until(lambda: in_step(b, upstream))
    there = b.mirror.stackit_mirror(REPO)
    assert there is not None
    assert (there.exists, there.arriving) == (True, False)
    assert b.fetches() == []  # no look at the remote
    assert gauges(b)["stackit_mirror_state", "in_step"] == 1
    assert gauges(b)["stackit_mirror_verified_timestamp_seconds", None] > 0
    await fleet.until(lambda: {name for name, _ in gauges(a)} == {"stackit_mirror_copies"})
    assert (await shown(b))["verified_at"] == (await shown(b))["verified_at"] is not None
    announced = len(fleet.shared.announcements)
    before, after = upstream.refs()["refs/heads/main"], upstream.advance()
    await b.push(pushed(b, before, after))
    assert in_step(b, upstream)
    assert len(fleet.shared.announcements) == announced + 1
    # What is no longer here is removed, now that the other node is known to have it.
    await fleet.until(lambda: not a.path().exists() and a.named("notice"))
    assert [each.reason for each in a.named("notice")] == ["node b has the mirror now: it is removed here"]


@pytest_twisted.ensureDeferred
async def test_a_mirror_that_moved_on_after_it_was_copied_is_looked_at(fleet: MirrorFleet, upstream: Upstream) -> None:
    a, b = await two(fleet, upstream)
    shard = fleet.membership.shard(KEY)
    fleet.membership.arriving["b"] = {shard: fleet.membership.nodes["a"]}
    fleet.membership.change()
    await fleet.until(lambda: ("b", shard) in fleet.membership.prepared)
    upstream.advance()
    await a.worker().sync("manual")
    del fleet.membership.arriving["b"]
    announced = len(fleet.shared.announcements)
    fleet.membership.give(KEY, "b")
    await fleet.until(lambda: in_step(b, upstream))
    assert len(fleet.shared.announcements) == announced


@pytest_twisted.ensureDeferred
async def test_a_shard_does_not_wait_for_a_mirror_that_its_home_does_not_have(fleet: MirrorFleet) -> None:
    fleet.membership.homes[KEY] = "a"
    gone = managed("file:///nowhere/at/all.git")
    for name in "ab":
        fleet.start(name, gone, interval=0)
    shard = fleet.membership.shard(KEY)
    fleet.membership.arriving["b"] = {shard: fleet.membership.nodes["a"]}
    fleet.membership.change()
    await fleet.until(lambda: ("b", shard) in fleet.membership.prepared)


@pytest_twisted.ensureDeferred
async def test_a_mirror_stays_where_it_is_while_it_cannot_be_copied(fleet: MirrorFleet, upstream: Upstream) -> None:
    a, b = await two(fleet, upstream)
    await knows(b)
    fleet.refuse("a", 503)
    shard = fleet.membership.shard(KEY)
    fleet.membership.arriving["b"] = {shard: fleet.membership.nodes["a"]}
    fleet.membership.change()
    await fleet.until(lambda: fleet.asked("a"))
    for _ in range(4):
        await move_on(fleet, a, upstream)
    await fleet.until(lambda: b.named("notice"))
    assert "503" in (b.named("notice")[0].reason or "")
    assert ("b", shard) not in fleet.membership.prepared
    fleet.refuse("a", None)
    await move_on(fleet, a, upstream)
    await fleet.until(lambda: ("b", shard) in fleet.membership.prepared)
    assert refs(b.path()) == upstream.refs()


@pytest_twisted.ensureDeferred
async def test_a_second_copy_follows_every_announcement_and_is_there_when_its_home_is_not(
    fleet: MirrorFleet, upstream: Upstream
) -> None:
    fleet.membership.copies[KEY] = ["b"]
    _, b = await two(fleet, upstream)
    a = fleet.running["a"]
    await fleet.until(lambda: b.path().exists() and refs(b.path()) == upstream.refs())
    await fleet.until(lambda: gauges(b)["stackit_mirror_copies", "in_step"] == 1)
    found = b.mirror.stackit_mirror_copy(REPO)  # other nodes may clone it from here, too
    assert found is not None
    assert (found.path, found.exists, b.mirror.stackit_mirror(REPO)) == (b.path(), True, None)
    upstream.set("refs/heads/topic", upstream.advance())
    await a.worker().sync("manual")
    await fleet.until(lambda: refs(b.path()) == upstream.refs())
    upstream.delete("refs/heads/topic")
    await a.worker().sync("manual")
    await fleet.until(lambda: refs(b.path()) == upstream.refs())
    assert {each[0] for each in fleet.shared.announcements} == {"a"}
    await knows(b)
    await fleet.stop("a")
    announced = len(fleet.shared.announcements)
    fleet.membership.copies[KEY] = []
    fleet.membership.give(KEY, "b")
    await fleet.until(lambda: in_step(b, upstream))
    assert b.fetches() == []
    assert len(fleet.shared.announcements) == announced


@pytest_twisted.ensureDeferred
async def test_the_node_that_had_the_second_copy_keeps_it_until_the_next_one_is_whole(
    fleet: MirrorFleet, upstream: Upstream
) -> None:
    fleet.membership.copies[KEY] = ["b"]
    a, b = await two(fleet, upstream)
    await fleet.until(lambda: gauges(b)["stackit_mirror_copies", "in_step"] == 1)
    await knows(b)
    fleet.refuse("a", 503)
    asked = fleet.asked("a")
    c = fleet.start("c", managed(upstream), interval=0)
    fleet.membership.copies[KEY] = ["c"]
    fleet.membership.change()
    await fleet.until(lambda: fleet.asked("a") > asked and gauges(b)["stackit_mirror_copies", "in_step"] == 0)
    await move_on(fleet, a, upstream)
    await fleet.until(lambda: record(fleet).moves > 1)
    assert b.path().exists()
    fleet.refuse("a", None)
    await move_on(fleet, a, upstream)
    await fleet.until(lambda: not b.path().exists())
    assert refs(c.path()) == upstream.refs()
    assert [each.reason for each in b.named("notice")] == ["node a has the mirror now: it is removed here"]


@pytest_twisted.ensureDeferred
async def test_the_former_home_keeps_a_mirror_until_the_second_copy_of_the_new_one_is_whole(
    fleet: MirrorFleet, upstream: Upstream
) -> None:
    a, b = await two(fleet, upstream)
    await knows(b)
    fleet.membership.copies[KEY] = ["c"]
    fleet.membership.nodes["c"] = Node(name="c", roles=("mirror",), state="away")  # it is expected to come
    fleet.membership.give(KEY, "b")
    await fleet.until(lambda: in_step(b, upstream) and record(fleet).is_good and record(fleet).node == "b")
    await knows(a)
    assert a.path().exists()
    c = fleet.start("c", managed(upstream))
    await fleet.until(lambda: not a.path().exists())
    assert refs(c.path()) == upstream.refs()


@pytest_twisted.ensureDeferred
async def test_a_copy_that_cannot_be_fetched_is_told_of_once_and_when_it_can_be_again(
    fleet: MirrorFleet, upstream: Upstream
) -> None:
    fleet.membership.copies[KEY] = ["b"]
    a, b = await two(fleet, upstream)
    await fleet.until(lambda: gauges(b)["stackit_mirror_copies", "in_step"] == 1)
    assert b.named("notice") == []  # also where it was asked for before its home had it

    fleet.refuse("a", 503)
    for _ in range(4):
        await move_on(fleet, a, upstream)
    await fleet.until(lambda: b.named("notice"))
    (line,) = [each.reason or "" for each in b.named("notice")]
    assert line.startswith("the copy of this mirror cannot be fetched from node a: ")
    assert "503" in line
    assert line.endswith("; tried again when refs move, and in the rounds of the backstop")
    fleet.refuse("a", None)
    await move_on(fleet, a, upstream)
    await fleet.until(lambda: refs(b.path()) == upstream.refs())
    await fleet.until(lambda: len(b.named("notice")) == 2)
    assert b.named("notice")[1].reason == "the copy of this mirror is in step with node a again"


@pytest_twisted.ensureDeferred
async def test_a_copy_of_a_mirror_that_its_home_has_not_yet_is_fetched_when_it_has(
    fleet: MirrorFleet, upstream: Upstream
) -> None:
    fleet.membership.homes[KEY] = "a"
    fleet.membership.copies[KEY] = ["b"]
    b = fleet.start("b", managed(upstream), interval=0)
    fleet.start("a", managed("file:///nowhere/at/all.git"), interval=0)
    await fleet.until(lambda: fleet.asked("a"))
    await fleet.until(lambda: gauges(b)["stackit_mirror_copies", "behind"] == 1)
    await fleet.stop("a")
    a = fleet.start("a", managed(upstream), interval=0)
    await fleet.until(lambda: in_step(a, upstream))
    await fleet.until(lambda: gauges(b)["stackit_mirror_copies", "in_step"] == 1)
    assert refs(b.path()) == upstream.refs()
    assert b.named("notice") == []


@pytest_twisted.ensureDeferred
async def test_old_tips_that_are_kept_move_along_and_are_never_deleted(fleet: MirrorFleet, upstream: Upstream) -> None:
    fleet.membership.copies[KEY] = ["b"]
    a, b = await two(fleet, upstream, keep_forced=True)
    await fleet.until(lambda: b.path().exists() and refs(b.path()) == upstream.refs())
    old = upstream.refs()["refs/heads/main"]
    upstream.set("refs/heads/main", upstream.commit())
    await a.worker().sync("manual")
    kept = f"refs/stackit-kept/heads/main/{old}"
    assert refs(a.path())[kept] == old
    fleet.membership.copies[KEY] = []
    fleet.membership.give(KEY, "b")
    await fleet.until(lambda: b.worker() is not None and b.worker().state == "in_step" and b.worker().all_announced)
    assert refs(b.path()).get(kept) == old
    await fleet.until(lambda: record(fleet).is_good and a.worker() is None)
    for _ in range(20):
        await a.reactor_turn()
    assert refs(a.path())[kept] == old


@pytest_twisted.ensureDeferred
async def test_copies_are_maintained_like_any_mirror(fleet: MirrorFleet, upstream: Upstream) -> None:
    fleet.membership.copies[KEY] = ["b"]
    a, b = await two(fleet, upstream)
    await fleet.until(lambda: b.path().exists())
    for node in (a, b):
        assert node.mirror._mirrors is not None
        assert [worker.directory for worker in node.mirror._mirrors.on_this_disk()] == [node.path()]


async def move_on(fleet: MirrorFleet, home: NodeHarness, upstream: Upstream) -> None:
    """Move a ref of the mirror at its home, and wait until the node that keeps a copy has asked for it."""
    asked = fleet.asked("a")
    upstream.advance()
    await home.worker().sync("manual")
    await fleet.until(lambda: fleet.asked("a") > asked)


@pytest_twisted.ensureDeferred
async def test_a_mirror_whose_place_is_refused_it_is_not_said_to_come(fleet: MirrorFleet, upstream: Upstream) -> None:
    fleet.membership.homes[KEY] = "b"
    b = fleet.start("b", managed(upstream, id=1))
    await fleet.until(lambda: in_step(b, upstream))
    await fleet.stop("b")
    (b.state / "mirrors/.aside").touch()  # what is at its place cannot be put there
    b = fleet.start("b", managed(upstream, id=2))
    await fleet.until(lambda: b.named("notice"))
    await fleet.until(lambda: b.mirror.stackit_mirror(REPO) is None)
    assert b.worker() is None
    assert "a mirror cannot be moved" in (b.named("notice")[0].reason or "")
