"""Mirrors whose home moves: nothing is announced that did not happen, and nothing that did is missing."""

from __future__ import annotations

import msgspec
import pytest
import pytest_twisted
from mirror_fleet import KEY, MirrorFleet, in_step, record, two
from mirror_harness import GitHttp, Upstream, ask, git, managed, pushed, refs

from stackit import Repo, ReposChange
from stackit.plugins.mirror.sync.requests import Elsewhere


@pytest_twisted.ensureDeferred
async def test_the_new_home_of_a_mirror_clones_it_from_the_node_that_had_it(
    fleet: MirrorFleet, upstream: Upstream, server: GitHttp
) -> None:
    fleet.membership.homes[KEY] = "a"
    url = server.url("octo/widget.git")
    a, b = (fleet.start(name, managed(url)) for name in "ab")
    await fleet.until(lambda: in_step(a, upstream))
    git(a.path(), "update-ref", "refs/stackit-kept/heads/main/old", upstream.refs()["refs/heads/main"])
    announced = len(fleet.shared.announcements)
    fleet.membership.give(KEY, "b")
    await fleet.until(lambda: b.worker() is not None and b.worker().state == "in_step" and b.worker().all_announced)
    assert fleet.asked("a") > 0
    assert sum((each.reason or "").startswith("cloned from") for each in b.named("notice")) == 1
    assert "refs/stackit-kept/heads/main/old" in refs(b.path())
    assert len(fleet.shared.announcements) == announced  # a move is no change of a ref
    await fleet.until(lambda: a.worker() is None)


@pytest_twisted.ensureDeferred
async def test_a_mirror_that_is_older_than_what_was_announced_announces_no_step_back(
    fleet: MirrorFleet, upstream: Upstream, server: GitHttp
) -> None:
    """``a`` has it, is away while ``b`` goes on, and gets it back on its old disk while the remote does not answer."""
    fleet.membership.homes[KEY] = "a"
    repo = managed(server.url("octo/widget.git"))
    for number in range(30):
        upstream.set(f"refs/heads/gone-{number}", upstream.refs()["refs/heads/main"])
    a = fleet.start("a", repo)
    await fleet.until(lambda: in_step(a, upstream))
    await fleet.stop("a")
    b = fleet.start("b", repo)
    fleet.membership.give(KEY, "b")
    await fleet.until(lambda: in_step(b, upstream))
    upstream.advance()
    for number in range(30):
        upstream.delete(f"refs/heads/gone-{number}")
    await b.worker().sync("manual", accept=True)  # so many at once have to be accepted, but not twice
    assert in_step(b, upstream)
    await fleet.stop("b")
    server.status = 503
    announced = list(fleet.shared.announcements)
    fleet.membership.homes[KEY] = "a"
    a = fleet.start("a", repo)
    await fleet.until(lambda: a.worker() is not None and a.worker().state == "failing")
    assert fleet.shared.announcements == announced
    server.status = None
    before, after = upstream.refs()["refs/heads/main"], upstream.advance()
    await a.push(pushed(a, before, after))
    assert in_step(a, upstream)
    (change,) = fleet.shared.announcements[len(announced) :]
    assert [(each.ref, each.old, each.new, each.kind) for each in change[2]] == [
        ("refs/heads/main", before, after, "updated")
    ]


@pytest_twisted.ensureDeferred
async def test_a_mirror_says_so_while_nobody_works_on_it(
    fleet: MirrorFleet, upstream: Upstream, server: GitHttp
) -> None:
    fleet.membership.homes[KEY] = "a"
    repo = managed(server.url("octo/widget.git"))
    a, b = fleet.start("a", repo), fleet.start("b", repo)
    await fleet.until(lambda: in_step(a, upstream))

    async def errors() -> list[str | None]:
        route = "{prefix}/repos/{owner}/{name}"
        return [(await ask(each, "GET", route, owner="octo", name="widget")).body["error"] for each in (a, b)]

    assert (await errors())[0] is None
    fleet.membership.nodes["a"] = msgspec.structs.replace(fleet.membership.nodes["a"], state="away")
    fleet.membership.change()  # it is out of the fleet, and its process goes on
    await fleet.until(lambda: a.worker() is None)
    assert await errors() == [
        "this node has no part of the work now: stackit fleet",
        "its node a is away: stackit fleet",
    ]


@pytest_twisted.ensureDeferred
async def test_a_home_that_was_restarted_announces_what_moved_before_without_its_remote(
    fleet: MirrorFleet, upstream: Upstream, server: GitHttp
) -> None:
    fleet.membership.homes[KEY] = "a"
    repo = managed(server.url("octo/widget.git"))
    a = fleet.start("a", repo)
    await fleet.until(lambda: in_step(a, upstream))
    await fleet.stop("a")
    oid = upstream.advance()
    git(a.path(), "fetch", "--quiet", str(upstream.directory), "+refs/heads/main:refs/heads/main")  # and then it died
    server.status = 503
    a = fleet.start("a", repo)
    await fleet.until(lambda: fleet.shared.told[KEY]["refs/heads/main"] == oid)
    assert fleet.shared.announcements[-1][3] == "start"


@pytest_twisted.ensureDeferred
async def test_a_push_for_a_mirror_that_moves_waits_and_one_that_is_elsewhere_is_tried_again(
    fleet: MirrorFleet, upstream: Upstream
) -> None:
    a, b = await two(fleet, upstream)
    before, after = upstream.refs()["refs/heads/main"], upstream.advance()
    fleet.membership.give(KEY, "b")
    handled = b.push(pushed(b, before, after))  # before its worker is made
    await handled
    assert in_step(b, upstream)
    await fleet.until(lambda: a.worker() is None)
    await a.push(pushed(a, before, after)).addCallbacks(
        lambda _: (_ for _ in ()).throw(AssertionError("handled")), lambda failure: failure.trap(Elsewhere)
    )


@pytest_twisted.ensureDeferred
async def test_a_renamed_mirror_may_have_another_home_which_gets_it_from_the_first(
    fleet: MirrorFleet, upstream: Upstream
) -> None:
    a, b = await two(fleet, upstream, id=7)
    (old,) = a.app.repos
    new = msgspec.structs.replace(old, repo=Repo.parse("octo/gadget"), former=(KEY,))
    announced = len(fleet.shared.announcements)
    fleet.shared.told["octo/gadget"] = fleet.shared.told.pop(KEY)
    fleet.membership.homes["octo/gadget"] = "b"
    for node in (a, b):
        node.app.repos.apply(ReposChange(moved=((old, new),)))
    late = pushed(a, None, None, ref=None)  # by the former name, it comes to the node that had the mirror
    with pytest.raises(Elsewhere):
        await a.push(late)
    await fleet.until(lambda: b.worker("octo/gadget") is not None and b.worker("octo/gadget").state == "in_step")
    assert refs(b.path("octo/gadget")) == upstream.refs()
    assert fleet.asked("a") > 0
    assert len(fleet.shared.announcements) == announced
    await fleet.until(lambda: record(fleet, "octo/gadget").is_good)
    await a.push(msgspec.structs.replace(late, received_at=late.received_at - 60))  # all was looked at since
    await fleet.until(lambda: list(a.state.glob("mirrors/.aside/*")) == [])
    assert not a.path().exists()


@pytest_twisted.ensureDeferred
async def test_a_renamed_mirror_is_said_to_come_while_its_last_round_ends(
    fleet: MirrorFleet, upstream: Upstream, server: GitHttp
) -> None:
    fleet.membership.homes |= {KEY: "a", "octo/gadget": "a"}
    a = fleet.start("a", managed(server.url("octo/widget.git"), id=7))
    await fleet.until(lambda: in_step(a, upstream))
    server.hang_on = b""
    asked = len(server.asked)
    before, after = upstream.refs()["refs/heads/main"], upstream.advance()
    handled = a.push(pushed(a, before, after))
    await fleet.until(lambda: len(server.asked) > asked)
    server.hang_on = None
    (old,) = a.app.repos
    new = msgspec.structs.replace(old, repo=Repo.parse("octo/gadget"), former=(KEY,))
    fleet.shared.told["octo/gadget"] = fleet.shared.told.pop(KEY)
    a.app.repos.apply(ReposChange(moved=((old, new),)))

    def is_there() -> bool:
        coming = a.mirror.stackit_mirror(new.repo)
        assert coming is not None
        assert coming.path == a.path("octo/gadget")
        return coming.exists

    assert not is_there()
    await fleet.until(is_there)
    await handled
    assert refs(a.path("octo/gadget")) == upstream.refs() == fleet.shared.told["octo/gadget"]


@pytest.mark.parametrize("starts_again", [False, True])
@pytest_twisted.ensureDeferred
async def test_what_was_left_behind_under_a_former_name_is_removed(
    fleet: MirrorFleet, upstream: Upstream, *, starts_again: bool
) -> None:
    a, b = await two(fleet, upstream, id=7)
    await fleet.stop("b")
    fleet.membership.give(KEY, "b")
    await fleet.until(lambda: a.worker() is None)
    (old,) = a.app.repos
    new = msgspec.structs.replace(old, repo=Repo.parse("octo/gadget"), former=(KEY,))
    fleet.shared.told["octo/gadget"] = fleet.shared.told.pop(KEY)
    fleet.membership.homes["octo/gadget"] = "b"
    a.app.repos.apply(ReposChange(moved=((old, new),)))
    assert a.path().exists()
    if starts_again:
        await fleet.stop("a")
        a = fleet.start("a", new)
    b = fleet.start("b", new)
    await fleet.until(lambda: b.path("octo/gadget").exists() and not a.path().exists())
    assert [each.reason for each in a.named("notice")][-1:] == ["node b has the mirror now: it is removed here"]
