"""Repositories that come, change and go while stackit runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from mirror_harness import GitHttp, Harness, Upstream, ask, managed, pushed, refs
from twisted.internet.defer import Deferred

from stackit import ManagedRepo, Size, StackitError
from stackit.api.reactor import sleep
from stackit.plugins.mirror import MirrorSettings


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    upstream = Upstream(tmp_path / "remotes" / "widget")
    upstream.advance()
    return upstream


@pytest.fixture
def harness(tmp_path: Path, http: GitHttp) -> Iterator[Harness]:
    harness = Harness(tmp_path / "state")
    yield harness
    pytest_twisted.blockon(harness.stop())


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


def manage(harness: Harness, *repos: ManagedRepo) -> None:
    harness.app.repos.replace(repos)


async def rounds(harness: Harness, count: int, name: str = "octo/widget") -> None:
    """Wait for so many rounds of a mirror."""
    while len(harness.fetches(name)) < count:
        await sleep(harness.reactor, 0.01)


@pytest_twisted.ensureDeferred
async def test_a_repository_that_is_new_is_cloned_at_once_and_looked_at_from_then_on(
    harness: Harness, upstream: Upstream
) -> None:
    manage(harness, managed(upstream))
    await rounds(harness, 1)
    assert refs(harness.path()) == upstream.refs() == harness.told["octo/widget"]
    upstream.advance()
    await harness.backstop()
    assert refs(harness.path()) == upstream.refs()
    before = upstream.refs()["refs/heads/main"]
    await harness.push(pushed(harness, before, upstream.advance()))
    assert refs(harness.path()) == upstream.refs()


@pytest_twisted.ensureDeferred
async def test_one_that_goes_is_followed_no_more_and_its_mirror_stays(harness: Harness, upstream: Upstream) -> None:
    manage(harness, managed(upstream))
    await rounds(harness, 1)
    there = refs(harness.path())
    manage(harness)
    upstream.advance()
    await harness.backstop()
    await harness.push(pushed(harness, None, None))
    assert refs(harness.path()) == there
    assert len(harness.fetches()) == 1
    assert [str(each.repo) for each in harness.named("unmanaged")] == ["octo/widget"]
    assert (await ask(harness, "GET", "{prefix}/repos/{owner}/{name}", owner="octo", name="widget")).status == 404
    # It comes back, and what happened meanwhile is announced.
    manage(harness, managed(upstream))
    await rounds(harness, 2)
    assert refs(harness.path()) == upstream.refs() == harness.told["octo/widget"]


@pytest_twisted.ensureDeferred
async def test_another_url_refspecs_and_token_hold_from_the_next_round_which_comes_at_once(
    tmp_path: Path, harness: Harness, upstream: Upstream, http: GitHttp
) -> None:
    http.token = "right"
    token = tmp_path / "token"
    token.write_text("wrong")
    url = http.url("widget")
    manage(harness, managed(url, token_file=token))
    await rounds(harness, 1)
    assert harness.worker().state == "failing"
    right = tmp_path / "right"
    right.write_text("right")
    manage(harness, managed(url, token_file=right))
    await rounds(harness, 2)
    assert harness.worker().state == "in_step"
    assert refs(harness.path()) == upstream.refs()
    other = Upstream(tmp_path / "remotes" / "other")
    other.advance()
    other.set("refs/pull/1/head", other.advance())
    more = ("+refs/*:refs/*",)
    manage(harness, managed(http.url("other"), token_file=right, refspecs=more))
    await rounds(harness, 3)
    assert refs(harness.path()) == other.refs()
    assert harness.worker().state == "in_step"
    # Pushes go there, too, without git.
    before = other.refs()["refs/heads/main"]
    await harness.push(pushed(harness, before, other.advance()))
    assert refs(harness.path()) == other.refs()
    assert harness.named("fallback") == []


@pytest_twisted.ensureDeferred
async def test_a_round_that_runs_keeps_to_its_settings_and_the_next_has_the_new_ones(
    tmp_path: Path, harness: Harness, upstream: Upstream, http: GitHttp
) -> None:
    http.hang_on = b"command=ls-refs"
    manage(harness, managed(http.url("widget")))
    while not http._hanging:
        await sleep(harness.reactor, 0.01)
    other = Upstream(tmp_path / "elsewhere")
    other.advance()
    manage(harness, managed(other))
    assert harness.worker().managed.url == http.url("widget")
    http.hang_on = None
    for request in http._hanging:
        Deferred.fromCoroutine(http._serve(request, b"0014command=ls-refs\n0015object-format=sha10001"))
    await rounds(harness, 2)
    assert harness.worker().managed.url == other.url
    assert refs(harness.path()) == other.refs()


@pytest_twisted.ensureDeferred
async def test_one_that_goes_while_a_round_hangs_and_comes_back_is_never_in_two_hands(
    harness: Harness, upstream: Upstream, http: GitHttp
) -> None:
    http.hang_on = b""
    manage(harness, managed(http.url("widget")))
    while not http.asked:
        await sleep(harness.reactor, 0.01)
    first = harness.worker()
    waiting = harness.push(pushed(harness, None, None))
    http.hang_on = None
    manage(harness)
    with pytest.raises(StackitError, match="managed no more"):
        await waiting
    manage(harness, managed(upstream))
    assert first.rounds.stopped
    await rounds(harness, 2)
    assert harness.worker() is not first
    assert not first.rounds.busy
    assert refs(harness.path()) == upstream.refs()


@pytest_twisted.ensureDeferred
async def test_a_name_in_other_letters_moves_the_mirror(harness: Harness, upstream: Upstream) -> None:
    manage(harness, managed(upstream))
    await rounds(harness, 1)
    manage(harness, managed(upstream, "Octo/Widget"))
    await rounds(harness, 1, "Octo/Widget")
    assert refs(harness.path("Octo/Widget")) == upstream.refs()
    assert len(harness.announcements) == 1


@pytest_twisted.ensureDeferred
async def test_other_settings_hold_from_the_next_fetch_on_also_for_mirrors_that_are_new(
    tmp_path: Path, harness: Harness, upstream: Upstream
) -> None:
    upstream.set("refs/heads/second", upstream.advance())
    manage(harness, managed(upstream))
    await rounds(harness, 1)
    harness.mirror.stackit_reload(MirrorSettings(max_deletions=0.0, min_refs=1, concurrency=1, git_memory=Size(0)))
    other = Upstream(tmp_path / "remotes" / "other")
    other.set("refs/heads/one", other.advance())
    manage(harness, managed(upstream), managed(other, "octo/other"))
    await rounds(harness, 1, "octo/other")
    upstream.delete("refs/heads/second")
    other.delete("refs/heads/one")
    both = (harness.worker(), harness.worker("octo/other"))
    for worker in both:
        await worker.sync("backstop")
        assert worker.state == "behind"
    harness.mirror.stackit_reload(MirrorSettings(max_deletions=1.0))
    for worker in both:
        await worker.sync("backstop")
        assert worker.state == "in_step"
    # The disk is too full for this reserve.
    harness.mirror.stackit_reload(MirrorSettings(reserve=Size(2**60)))
    assert harness.mirror.stackit_health() is not None
    upstream.advance()
    with pytest.raises(StackitError, match=r"plugins\.mirror\.reserve"):
        await harness.worker().sync("backstop")


@pytest_twisted.ensureDeferred
async def test_workers_of_many_that_come_at_once_are_made_in_turns_and_at_once_where_one_is_asked_for(
    harness: Harness, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stackit.plugins.mirror.mirrors.STEP", 0.0)
    names = [f"octo/number-{number}" for number in range(20)]
    manage(harness, *(managed(upstream, name) for name in names))
    mirrors = harness.mirror._mirrors
    assert mirrors is not None
    assert len(mirrors) == 1
    assert harness.worker(names[-1]) is not None
    assert len(mirrors) == 2
    await harness.push(pushed(harness, None, None, name=names[-2]))
    while len(mirrors) < len(names):
        await sleep(harness.reactor, 0)
    await rounds(harness, 1, names[0])
    manage(harness)
    assert len(mirrors) == 0
