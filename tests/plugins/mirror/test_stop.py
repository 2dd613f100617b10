"""What the mirror does as a stop begins: what only waits ends, and what works goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from mirror_harness import GitHttp, Harness, Upstream, ask, managed, pushed, refs
from twisted.internet.defer import CancelledError, Deferred

from stackit import sleep
from stackit.plugins.mirror.sync.requests import Stopping
from stackit.plugins.mirror.sync.tunables import Tunables


@pytest.fixture
def upstreams(tmp_path: Path) -> list[Upstream]:
    made = [Upstream(tmp_path / "served" / name) for name in ("one.git", "two.git")]
    for each in made:
        each.advance()
    return made


@pytest_twisted.async_yield_fixture
async def remote(tmp_path: Path) -> AsyncIterator[GitHttp]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    made = GitHttp(reactor, tmp_path / "served")
    yield made
    await made.stop()


@pytest_twisted.async_yield_fixture
async def harness(tmp_path: Path, upstreams: list[Upstream], remote: GitHttp) -> AsyncIterator[Harness]:
    repos = [managed(remote.url(f"{name}.git"), f"octo/{name}") for name in ("one", "two")]
    made = Harness(tmp_path / "state", *repos, concurrency=1, interval=300)
    await made.backstop()
    yield made
    await made.stop()


async def until(harness: Harness, ready: Any) -> None:
    for _ in range(5000):
        if ready():
            return
        await sleep(harness.reactor, 0.01)
    raise AssertionError("it did not come")


async def fails(waiting: Awaitable[Any], kind: type[BaseException]) -> None:
    with pytest.raises(kind):
        await waiting


@pytest_twisted.ensureDeferred
async def test_a_round_that_runs_goes_on_and_all_that_waits_behind_it_ends(
    harness: Harness, upstreams: list[Upstream], remote: GitHttp
) -> None:
    remote.hang_on = b"command=ls-refs"
    one, two = harness.worker("octo/one"), harness.worker("octo/two")
    old = upstreams[0].refs()["refs/heads/main"]
    moved = upstreams[0].advance()
    runs = Deferred.fromCoroutine(one.sync("backstop"))
    await until(harness, lambda: remote._hanging)
    behind = harness.push(pushed(harness, old, moved, name="octo/one"))  # for the next round
    no_slot = Deferred.fromCoroutine(two.sync("backstop"))
    assert two.rounds.busy
    harness.app.stop.begin()
    await fails(no_slot, Stopping)
    answer = await ask(harness, "POST", "{prefix}/repos/{owner}/{name}/sync", owner="octo", name="two")
    assert (answer.status, answer.body) == (503, {"error": "stackit is stopping"})
    await fails(behind, CancelledError)  # so that it stays pending, and no attempt is counted
    assert not runs.called
    assert not two.rounds.busy
    assert len(harness.fetches("octo/two")) == 1
    # The round that ran is over only when its service stops.
    remote.hang_on = None
    await harness.stop()
    await fails(runs, Stopping)
    assert [each.outcome for each in harness.fetches("octo/one")] == ["changed"], "a stop tells nothing of the remote"


@pytest_twisted.ensureDeferred
async def test_a_push_that_waits_for_its_remote_to_show_it_ends_and_nothing_begins_any_more(
    harness: Harness, upstreams: list[Upstream], remote: GitHttp
) -> None:
    old = upstreams[0].refs()["refs/heads/main"]
    announced = upstreams[0].commit(old)
    stale = harness.push(pushed(harness, old, announced, name="octo/one"))
    await until(harness, lambda: len(harness.fetches("octo/one")) > 1)
    assert not stale.called
    harness.app.stop.begin()
    await fails(stale, CancelledError)
    asked = len(remote.asked)
    await fails(harness.push(pushed(harness, old, announced, name="octo/one")), CancelledError)
    await fails(Deferred.fromCoroutine(harness.backstop()), CancelledError)
    assert len(remote.asked) == asked
    assert refs(harness.path("octo/one")) == {"refs/heads/main": old}


@pytest_twisted.ensureDeferred
async def test_no_retry_and_no_second_look_is_left_after_a_stop_has_begun(
    harness: Harness, upstreams: list[Upstream], remote: GitHttp
) -> None:
    before = set(harness.reactor.getDelayedCalls())
    worker = harness.worker("octo/one")
    remote.status = 500
    await fails(Deferred.fromCoroutine(worker.sync("backstop")), Exception)
    assert worker.recheck_after(60, "delivery")
    timers = [each for each in set(harness.reactor.getDelayedCalls()) - before if each.active()]
    assert len(timers) >= 2
    harness.app.stop.begin()
    left = {each for each in harness.reactor.getDelayedCalls() if each.active()} - before
    assert [each for each in left if each.func.__name__ == "ask_quietly"] == []


@pytest_twisted.ensureDeferred
async def test_a_round_whose_remote_says_nothing_ends_at_once(
    tmp_path: Path, upstreams: list[Upstream], remote: GitHttp
) -> None:
    hung = Harness(tmp_path / "hung", managed(remote.url("one.git"), "octo/one"), tunables=Tunables(release_after=0.05))
    remote.hang_on = b"command=ls-refs"
    worker = hung.worker("octo/one")
    clone = Deferred.fromCoroutine(worker.sync("start"))
    await until(hung, lambda: worker._slot._slot is not None and worker._slot._slot.hangs)
    hung.app.stop.begin()
    await fails(clone, Stopping)
    await hung.stop()
