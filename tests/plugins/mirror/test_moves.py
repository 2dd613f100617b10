"""Repositories that get another name: their mirrors move, and nothing is fetched or announced for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from mirror_harness import GitHttp, Harness, Upstream, managed, pushed, refs
from twisted.internet.defer import Deferred

from stackit import ManagedRepo, Push, Repo, ReposChange, StackitError
from stackit.api.reactor import sleep
from stackit.plugins.mirror.repository.identity import read_identity, write_identity

WIDGET, GADGET = "octo/widget", "octo/gadget"


@pytest.fixture
def upstreams(tmp_path: Path) -> dict[str, Upstream]:
    """Two repositories with histories of their own."""
    made = {name: Upstream(tmp_path / "remotes" / name) for name in ("one", "two")}
    for number, upstream in enumerate(made.values(), 1):
        for _ in range(number):
            upstream.advance()
        upstream.advance("refs/heads/other")
    return made


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Harness]]:
    """Starts the plugin with these repositories, always in one state directory."""
    running: list[Harness] = []

    def started(*repos: ManagedRepo) -> Harness:
        running.append(Harness(tmp_path / "state", *repos))
        return running[-1]

    yield started
    pytest_twisted.blockon(running[-1].stop())


@pytest.fixture
def http(tmp_path: Path) -> Iterator[GitHttp]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    http = GitHttp(reactor, tmp_path / "remotes")
    yield http
    pytest_twisted.blockon(http.stop())
    pytest_twisted.blockon(Deferred.fromCoroutine(hung_up(reactor)))


async def hung_up(reactor: Any) -> None:
    """Wait until the server has noticed that its clients are gone."""
    while any("HTTPChannel" in repr(each) for each in reactor.getReaders()):
        await sleep(reactor, 0.01)


def rename(harness: Harness, *repos: ManagedRepo) -> None:
    """Have other repositories managed; what was announced follows their ids, as the registry sees to."""
    change = harness.app.repos.difference(repos)
    taken = [(new.repo.key, harness.told.pop(old.repo.key, {})) for old, new in change.moved]
    harness.told.update(taken)
    harness.app.repos.replace(repos)


async def rounds(harness: Harness, count: int, name: str = WIDGET) -> None:
    """Wait for so many rounds of a mirror."""
    while len(harness.fetches(name)) < count:
        await sleep(harness.reactor, 0.01)


def packs(mirror: Path) -> dict[str, int]:
    """The objects of a mirror, each file with its inode."""
    return {each.name: each.stat().st_ino for each in (mirror / "objects").rglob("*") if each.is_file()}


@pytest_twisted.ensureDeferred
async def test_a_rename_moves_the_mirror_with_all_its_objects_and_tells_nobody_of_new_refs(
    start: Callable[..., Harness], upstreams: dict[str, Upstream]
) -> None:
    harness = start(managed(upstreams["one"], id=7))
    await harness.backstop()
    assert read_identity(harness.path()) == "github:7"
    await harness.reactor_turn()  # the round ends behind its answer
    before, verified = packs(harness.path()), harness.worker().status.verified_at
    rename(harness, managed(upstreams["one"], GADGET, id=7, former=(WIDGET,)))
    assert harness.worker(GADGET).status.verified_at == verified
    await rounds(harness, 1, GADGET)
    assert not harness.path().exists()
    assert packs(harness.path(GADGET)) == before
    assert refs(harness.path(GADGET)) == upstreams["one"].refs()
    assert len(harness.announcements) == 1  # of the clone
    # A push under the old name finds it.
    known = upstreams["one"].refs()["refs/heads/main"]
    await harness.push(pushed(harness, known, upstreams["one"].advance()))
    assert refs(harness.path(GADGET)) == upstreams["one"].refs() == harness.told[GADGET]
    info = harness.mirror.stackit_mirror(Repo.parse(WIDGET))
    assert info is not None
    assert info.path == harness.path(GADGET)
    assert harness.named("unmanaged") == harness.named("healed") == harness.named("notice") == []


@pytest_twisted.ensureDeferred
async def test_two_that_swap_names_swap_their_places(
    start: Callable[..., Harness], upstreams: dict[str, Upstream]
) -> None:
    harness = start(managed(upstreams["one"], id=1), managed(upstreams["two"], GADGET, id=2))
    await harness.backstop()
    before = packs(harness.path()), packs(harness.path(GADGET))
    rename(harness, managed(upstreams["one"], GADGET, id=1), managed(upstreams["two"], WIDGET, id=2))
    await rounds(harness, 2)
    await rounds(harness, 2, GADGET)
    assert (packs(harness.path(GADGET)), packs(harness.path())) == before
    assert refs(harness.path()) == upstreams["two"].refs() == harness.told[WIDGET]
    assert refs(harness.path(GADGET)) == upstreams["one"].refs() == harness.told[GADGET]
    assert len(harness.announcements) == 2
    assert harness.named("notice") == []


@pytest_twisted.ensureDeferred
async def test_a_push_that_waits_for_a_round_which_hangs_goes_on_in_the_new_place(
    start: Callable[..., Harness], upstreams: dict[str, Upstream], http: GitHttp
) -> None:
    harness = start(managed(http.url("one"), id=7))
    await harness.backstop()
    http.hang_on = b""
    known = upstreams["one"].refs()["refs/heads/main"]
    waiting = harness.push(pushed(harness, known, upstreams["one"].advance()))
    while not http._hanging:
        await sleep(harness.reactor, 0.01)
    http.hang_on = None
    rename(harness, managed(http.url("one"), GADGET, id=7, former=(WIDGET,)))
    late = harness.push(pushed(harness, known, upstreams["one"].refs()["refs/heads/main"]))
    await waiting
    await late
    assert refs(harness.path(GADGET)) == upstreams["one"].refs() == harness.told[GADGET]
    assert not harness.path().exists()
    assert WIDGET not in harness.told
    await harness.worker(GADGET).rounds.idle()
    assert [each.error for each in harness.named("synced") if each.error] == []


@pytest_twisted.ensureDeferred
async def test_a_name_that_another_repository_has_now_leaves_the_mirror_of_the_former_alone(
    start: Callable[..., Harness], upstreams: dict[str, Upstream]
) -> None:
    harness = start(managed(upstreams["one"], id=1))
    await harness.backstop()
    before = packs(harness.path())
    harness.told.clear()  # parked by the registry
    rename(harness, managed(upstreams["two"], id=2))
    await rounds(harness, 2)
    assert refs(harness.path()) == upstreams["two"].refs() == harness.told[WIDGET]
    aside = harness.state / "mirrors/.aside/github+1.git"
    assert packs(aside) == before
    (notice,) = harness.named("notice")
    assert notice.reason == f"it is another repository now: the mirror of the former is kept in {aside}"
    # The former one turns up again.
    harness.told[GADGET] = refs(aside)
    rename(harness, managed(upstreams["two"], id=2), managed(upstreams["one"], GADGET, id=1))
    await rounds(harness, 1, GADGET)
    assert packs(harness.path(GADGET)) == before
    assert len(harness.announcements) == 2
    assert not aside.exists()


@pytest_twisted.ensureDeferred
async def test_a_move_that_a_crash_cut_short_is_ended_by_the_next_start(
    start: Callable[..., Harness], upstreams: dict[str, Upstream], tmp_path: Path
) -> None:
    third = Upstream(tmp_path / "remotes" / "three")
    third.advance("refs/heads/third")
    names = (WIDGET, GADGET, "octo/third")
    old = [
        managed(each, name, id=number)
        for number, (each, name) in enumerate(zip((*upstreams.values(), third), names, strict=True), 1)
    ]
    first = start(*old)
    await first.backstop()
    told = {name: dict(each) for name, each in first.told.items()}
    before = [packs(first.path(name)) for name in names]
    await first.stop()
    # The journal has: 1 and 2 swapped, and 3 has a new name. The disk has nothing of it, but one step of 2.
    aside = first.state / "mirrors/.aside/github+2.git"
    aside.parent.mkdir()
    first.path(GADGET).rename(aside)
    new = [
        managed(upstreams["one"], GADGET, id=1),
        managed(upstreams["two"], WIDGET, id=2),
        managed(third, "Acme/Third", id=3, former=("octo/third",)),
    ]
    harness = start()
    harness.told.update({GADGET: told[WIDGET], WIDGET: told[GADGET], "acme/third": told["octo/third"]})
    await harness.stop()
    harness = start(*new)
    harness.told.update({GADGET: told[WIDGET], WIDGET: told[GADGET], "acme/third": told["octo/third"]})
    await harness.backstop()
    assert [packs(harness.path(name)) for name in (GADGET, WIDGET, "Acme/Third")] == before
    assert harness.announcements == []


@pytest_twisted.ensureDeferred
async def test_an_id_that_is_learned_later_is_remembered_by_the_mirror_without_a_round(
    start: Callable[..., Harness], upstreams: dict[str, Upstream]
) -> None:
    harness = start(managed(upstreams["one"]))
    await harness.backstop()
    assert read_identity(harness.path()) is None
    rename(harness, managed(upstreams["one"], id=7, source="discover"))
    assert read_identity(harness.path()) == "github:7"
    assert len(harness.fetches()) == 1
    assert harness.worker().managed.id == 7


@pytest_twisted.ensureDeferred
async def test_a_mirror_of_another_repository_is_never_fetched_into_at_a_start(
    start: Callable[..., Harness], upstreams: dict[str, Upstream]
) -> None:
    first = start(managed(upstreams["one"], id=1))
    await first.backstop()
    before = packs(first.path())
    await first.stop()
    harness = start(managed(upstreams["two"], id=2))
    await harness.backstop()
    aside = harness.state / "mirrors/.aside/github+1.git"
    assert packs(aside) == before
    assert refs(harness.path()) == upstreams["two"].refs()
    (notice,) = harness.named("notice")
    assert notice.reason == f"the mirror at {harness.path()} is that of another repository; it is kept in {aside}"


@pytest_twisted.ensureDeferred
async def test_a_purged_repository_leaves_nothing_and_one_that_came_back_keeps_its_mirror(
    start: Callable[..., Harness], upstreams: dict[str, Upstream]
) -> None:
    one, two = managed(upstreams["one"], id=1), managed(upstreams["two"], GADGET, id=2)
    harness = start(one, two)
    await harness.backstop()
    harness.app.repos.apply(ReposChange(removed=(one,)))
    harness.app.repos.apply(ReposChange(purged=(one, two)))
    while (harness.state / "mirrors/.replaced/github+1~0").exists():
        await sleep(harness.reactor, 0.01)
    assert not harness.path().exists()
    assert refs(harness.path(GADGET)) == upstreams["two"].refs()


@pytest_twisted.ensureDeferred
async def test_an_unmarked_mirror_makes_room_for_the_one_that_is_known_to_be_right(
    start: Callable[..., Harness], upstreams: dict[str, Upstream]
) -> None:
    first = start(managed(upstreams["one"]), managed(upstreams["two"], GADGET))
    await first.backstop()
    write_identity(first.path(GADGET), "github:2")
    await first.stop()
    harness = start(managed(upstreams["two"], id=2, former=(GADGET,)))
    harness.told[WIDGET] = upstreams["two"].refs()
    await harness.backstop()
    assert refs(harness.path()) == upstreams["two"].refs()
    assert refs(harness.state / "mirrors/.aside/octo+widget.git") == upstreams["one"].refs()
    assert harness.announcements == []


@pytest_twisted.ensureDeferred
async def test_a_remote_that_has_nothing_of_the_mirror_waits_until_the_forge_says_whose_it_is(
    start: Callable[..., Harness], upstreams: dict[str, Upstream]
) -> None:
    first = start(managed(upstreams["one"], id=1, source="discover"))
    await first.backstop()
    there = refs(first.path())
    await first.stop()
    # Meanwhile the name became another repository's, and nobody knows.
    harness = start(managed(upstreams["two"], id=1, source="discover"))
    harness.told[WIDGET] = dict(there)
    await harness.backstop()
    assert "may be the name of another repository" in str(harness.worker().status.error)
    late = pushed(harness, there["refs/heads/main"], upstreams["two"].refs()["refs/heads/main"])
    with pytest.raises(StackitError, match="may be the name of another repository"):
        await harness.push(late)
    assert refs(harness.path()) == there
    # It is the same after all: everything in it was replaced.
    harness.app.repos.confirm("github:1", harness.reactor.seconds())
    await harness.worker().sync("manual", accept=True)
    assert refs(harness.path()) == upstreams["two"].refs() == harness.told[WIDGET]
    assert harness.worker().status.error is None


@pytest_twisted.ensureDeferred
async def test_a_push_reaches_the_repository_of_its_id_whatever_name_it_has(
    start: Callable[..., Harness], upstreams: dict[str, Upstream]
) -> None:
    harness = start(managed(upstreams["one"], GADGET, id=1, former=(WIDGET,)), managed(upstreams["two"], id=2))
    await harness.backstop()
    known = upstreams["one"].refs()["refs/heads/main"]
    late = pushed(harness, known, upstreams["one"].advance(), name=WIDGET)
    await harness.push(msgspec.structs.replace(late, repo_id=1))
    assert refs(harness.path(GADGET)) == upstreams["one"].refs()
    rounds_before = len(harness.named("synced"))
    strange = msgspec.structs.replace(pushed(harness, None, None), repo_id=3)
    harness.mirror.stackit_expect(strange)
    assert harness.push(strange).called
    assert len(harness.named("synced")) == rounds_before
    assert [each.delivery for each in harness.named("unmanaged")] == [strange.delivery]


@pytest_twisted.ensureDeferred
async def test_a_push_that_comes_now_says_whose_the_name_is(
    start: Callable[..., Harness], upstreams: dict[str, Upstream]
) -> None:
    harness = start(managed(upstreams["one"], id=1, source="discover"))
    await harness.backstop()
    now = msgspec.structs.replace(pushed(harness, None, None), repo_id=1)
    harness.mirror.stackit_expect(msgspec.structs.replace(now, via="api"))
    assert harness.app.repos.confirmed_at("github:1") is None, "it was missed, and may be days old"
    harness.mirror.stackit_expect(now)
    assert harness.app.repos.confirmed_at("github:1") is not None


@pytest_twisted.ensureDeferred
async def test_a_push_that_another_node_received_says_for_a_minute_whose_the_name_is(
    start: Callable[..., Harness], upstreams: dict[str, Upstream]
) -> None:
    first = start(managed(upstreams["one"], id=1, source="discover"))
    await first.backstop()
    there = refs(first.path())
    await first.stop()
    harness = start(managed(upstreams["two"], id=1, source="discover"))
    harness.told[WIDGET] = dict(there)

    def came() -> Push:
        push = pushed(harness, there["refs/heads/main"], upstreams["two"].refs()["refs/heads/main"])
        return msgspec.structs.replace(push, repo_id=1)

    def long_ago(push: Push) -> Push:
        return msgspec.structs.replace(push, received_at=push.received_at - 600)

    for stale in (long_ago(came()), msgspec.structs.replace(came(), via="api")):
        with pytest.raises(StackitError, match="may be the name of another repository"):
            await harness.push(stale)
    assert refs(harness.path()) == there
    await harness.push(came())
    assert refs(harness.path()) == harness.told[WIDGET] != there
    at = harness.app.repos.confirmed_at("github:1")
    await harness.push(long_ago(came()))
    assert harness.app.repos.confirmed_at("github:1") == at, "an older one changes nothing"
