"""Many remotes that hang, and clones that go on for ever, beside mirrors that are well."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from mirror_harness import GitHttp, Harness, SilentRemote, Upstream, managed, pushed, refs
from twisted.internet.defer import CancelledError, Deferred, gatherResults

from stackit import StackitError
from stackit.plugins.mirror.sync.fetch_slots import EARLY_PER_SLOT
from stackit.plugins.mirror.sync.tunables import Tunables
from stackit.testing import PretendGitHub

MAIN = "refs/heads/main"
WIDGET = "octo/widget"
HUNG = [f"hung/r{number}" for number in range(28)]
PUSHED = [f"hung/pushed{number}" for number in range(12)]
ENDLESS = [f"endless/r{number}" for number in range(4)]


class Started:
    """What ends with the test, whatever becomes of it: harnesses, and what waits for their mirrors.

    A test that fails half-way would leave children behind that hang, for which later tests wait.
    """

    def __init__(self) -> None:
        self._harnesses: list[Harness] = []
        self._waiting: list[Deferred[Any]] = []

    def harness(self, *arguments: Any, **more: Any) -> Harness:
        self._harnesses.append(Harness(*arguments, **more))
        return self._harnesses[-1]

    def quietly(self, waiting: Deferred[Any]) -> Deferred[Any]:
        """Have a sync or a push go on in the background; it may fail or be cancelled."""
        waiting.addErrback(lambda failure: failure.trap(StackitError, CancelledError) and None)
        self._waiting.append(waiting)
        return waiting

    async def end(self) -> None:
        for each in self._harnesses:
            await each.stop()
        await gatherResults(self._waiting)


@pytest.fixture
def started() -> Iterator[Started]:
    started = Started()
    yield started
    pytest_twisted.blockon(Deferred.fromCoroutine(started.end()))


Serve = Callable[[Path], GitHttp]


@pytest.fixture
def serve(reactor: Any) -> Iterator[Serve]:
    """Starts servers of what is in a directory."""
    servers: list[GitHttp] = []

    def start(root: Path) -> GitHttp:
        servers.append(GitHttp(reactor, root))
        return servers[-1]

    yield start
    for each in servers:
        pytest_twisted.blockon(each.stop())


@pytest.mark.parametrize("by_git", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_push_arrives_beside_forty_that_hang_and_four_clones_without_end(
    pretend_github: PretendGitHub, hung: SilentRemote, tmp_path: Path, started: Started, by_git: bool
) -> None:
    urls = {name: await pretend_github.create(name) for name in (WIDGET, *PUSHED, *ENDLESS)}
    for name in urls:
        await pretend_github.commit(name)
    urls |= dict.fromkeys(HUNG, hung.url)
    if by_git:
        urls[WIDGET] = f"file://{pretend_github.path(WIDGET)}"
    harness = started.harness(tmp_path / "state", *(managed(url, name) for name, url in urls.items()))
    await gatherResults([Deferred.fromCoroutine(harness.worker(name).sync("start")) for name in (WIDGET, *PUSHED)])
    for name in ENDLESS:
        pretend_github.fault(name, "endless")
    moved = {name: await pretend_github.commit(name) for name in (WIDGET, *PUSHED)}
    for name in PUSHED:
        pretend_github.fault(name, "hang")
    others = [
        started.quietly(Deferred.fromCoroutine(harness.worker(name).sync("start"))) for name in (*ENDLESS, *HUNG)
    ] + [
        started.quietly(harness.push(pushed(harness, moved[name].before, moved[name].after, name=name)))
        for name in PUSHED
    ]
    while sum(each.command == "fetch" and each.repo in ENDLESS for each in pretend_github.requests) < len(ENDLESS):
        await harness.reactor_turn()
    await harness.push(pushed(harness, moved[WIDGET].before, moved[WIDGET].after))
    assert refs(harness.path())[MAIN] == moved[WIDGET].after
    assert len(harness.seen) == 1
    assert not any(each.called for each in others), "they hang, and go on, for much longer"


@pytest_twisted.ensureDeferred
async def test_a_clone_comes_to_its_end_while_pushes_never_stop(tmp_path: Path, started: Started) -> None:
    busy, new = Upstream(tmp_path / "busy.git"), Upstream(tmp_path / "new.git")
    first = busy.advance()
    new.advance()
    names = [f"octo/busy{number}" for number in range(3)]
    harness = started.harness(
        tmp_path / "state", *(managed(busy, name) for name in names), managed(new, "octo/new"), concurrency=1
    )
    await gatherResults([Deferred.fromCoroutine(harness.worker(name).sync("start")) for name in names])
    cloning = Deferred.fromCoroutine(harness.worker("octo/new").sync("start"))
    before = first
    for _ in itertools.takewhile(lambda _: not cloning.called, range(1000)):
        after = busy.advance()
        await gatherResults([harness.push(pushed(harness, before, after, name=name)) for name in names])
        before = after
    assert cloning.called
    assert refs(harness.path("octo/new")) == new.refs()


@pytest_twisted.ensureDeferred
async def test_a_small_clone_does_not_wait_for_one_that_takes_long(
    pretend_github: PretendGitHub, tmp_path: Path, started: Started
) -> None:
    urls = {name: await pretend_github.create(name) for name in (ENDLESS[0], WIDGET)}
    for name in urls:
        await pretend_github.commit(name)
    pretend_github.fault(ENDLESS[0], "endless")
    harness = started.harness(
        tmp_path / "state",
        *(managed(url, name) for name, url in urls.items()),
        concurrency=1,
        tunables=Tunables(release_long_after=0.2),
    )
    endless = started.quietly(Deferred.fromCoroutine(harness.worker(ENDLESS[0]).sync("start")))
    await harness.worker().sync("start")
    assert not endless.called


@pytest_twisted.ensureDeferred
async def test_looks_at_remotes_that_hang_let_others_have_their_turn(
    hung: SilentRemote, tmp_path: Path, started: Started
) -> None:
    """All on one host, by one slot."""
    upstream = Upstream(tmp_path / "remote.git")
    upstream.advance()
    names = [f"hung/r{number}" for number in range(20)]
    harness = started.harness(
        tmp_path / "state",
        *(managed(hung.url, name) for name in names),
        managed(upstream),
        concurrency=1,
        tunables=Tunables(release_after=0.05),
    )
    waiting = [started.quietly(Deferred.fromCoroutine(harness.worker(name).sync("start"))) for name in names]
    await harness.worker().sync("start")
    assert refs(harness.path()) == upstream.refs()
    # More than so many do not hang at once: those that hang longest are ended, say why, and are tried again later.
    while sum(each.called for each in waiting) < len(names) - 2 * (EARLY_PER_SLOT + 1):
        await harness.reactor_turn()
    ended = [harness.worker(name).status for name in names if harness.worker(name).status.error is not None]
    assert {each.error for each in ended} == {"no progress, and others wait: git was ended"}
    assert all(each.timeouts == 1 and each.paused() for each in ended)


@pytest_twisted.ensureDeferred
async def test_a_remote_that_hung_last_time_waits_behind_those_that_did_not(
    serve: Serve, tmp_path: Path, started: Started
) -> None:
    upstream = Upstream(tmp_path / "remote" / "octo" / "widget.git")
    upstream.advance()
    server = serve(tmp_path / "remote")
    names = ["octo/a", "octo/b", "octo/c"]
    url = server.url("octo/widget.git")
    harness = started.harness(
        tmp_path / "state", *(managed(url, name) for name in names), concurrency=1, tunables=Tunables(stall=3.0)
    )
    server.hang_on = b"command=ls-refs"
    with pytest.raises(StackitError, match="no progress"):
        await harness.worker("octo/a").sync("start")
    server.hang_on = None
    for name in names:  # whatever a busy machine takes from here on
        harness.worker(name)._refresher._supervised_git._tunables = Tunables()
    taken = await harness.worker("octo/b")._slot._slots.of("clone").acquire(url.split("/")[2]).turn
    syncing = [Deferred.fromCoroutine(harness.worker(name).sync("start")) for name in names]
    taken.release()
    await gatherResults(syncing)
    assert [str(each.repo) for each in harness.named("synced")] == ["octo/a", "octo/b", "octo/c", "octo/a"]


@pytest_twisted.ensureDeferred
async def test_a_push_that_comes_while_a_look_waits_takes_it_along(tmp_path: Path, started: Started) -> None:
    upstream = Upstream(tmp_path / "remote.git")
    before = upstream.advance()
    harness = started.harness(tmp_path / "state", managed(upstream), concurrency=1)
    await harness.worker().sync("start")
    taken = await harness.worker()._slot._slots.of("background").acquire().turn
    looking = Deferred.fromCoroutine(harness.worker().sync("backstop"))
    await harness.reactor_turn()
    assert not looking.called
    await harness.push(pushed(harness, before, upstream.advance()))
    await looking
    assert refs(harness.path()) == upstream.refs()
    assert len(harness.fetches()) == 2
    taken.release()
