"""What a mirror cannot hold of its remote is named, and the mirror is not called equal to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from mirror_harness import ZERO, GitHttp, Harness, Upstream, ask, git, managed, pushed, refs

from stackit import StackitError
from stackit.plugins.mirror.refs.listing import Listing
from stackit.plugins.mirror.remote.protocol_v2 import pkt_line
from stackit.plugins.mirror.sync.missing_refs import MissingRefs
from stackit.plugins.mirror.sync.tunables import Tunables

MAIN = "refs/heads/main"
BAD = ("refs/heads/bad..name", "refs/heads/x.lock", "refs/heads/a~b", "refs/heads/@{odd")


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    upstream = Upstream(tmp_path / "upstream")
    for _ in range(4):
        upstream.advance()
    upstream.set("refs/heads/other", upstream.refs()[MAIN])
    return upstream


def make_shallow(directory: Path) -> None:
    """Forget the history below the tips, as a clone with --depth=1 has it."""
    tips = set(refs(directory).values())
    (directory / "shallow").write_text("".join(f"{tip}\n" for tip in sorted(tips)))


def unshallow(directory: Path) -> None:
    (directory / "shallow").unlink()


class Served:
    """An upstream over smart HTTP that also lists refs which no repository can have."""

    def __init__(self, reactor: Any, upstream: Upstream) -> None:
        self.upstream = upstream
        self.http = GitHttp(reactor, upstream.directory.parent)
        self.url = self.http.url("upstream")

    def list_too(self, *names: str) -> None:
        tip = self.upstream.refs()[MAIN]
        self.http.said_too = b"".join(pkt_line(f"{tip} {name}\n".encode()) for name in names)


@pytest_twisted.async_yield_fixture
async def served(upstream: Upstream) -> AsyncIterator[Served]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    served = Served(reactor, upstream)
    yield served
    await served.http.stop()


Open = Callable[..., Harness]


@pytest_twisted.async_yield_fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    harnesses: list[Harness] = []

    def make(remote: Upstream | str, tunables: Tunables = Tunables(), **more: Any) -> Harness:  # noqa: B008 - frozen
        folder = tmp_path / f"state{len(harnesses)}"
        harnesses.append(Harness(folder, managed(remote, **more), tunables=tunables))
        return harnesses[-1]

    yield make
    for harness in harnesses:
        await harness.stop()


async def fails(work: Awaitable[object]) -> str:
    with pytest.raises(StackitError) as caught:
        await work
    return str(caught.value)


async def test_the_text_names_a_few_refs_and_what_to_do() -> None:
    few = MissingRefs(frozenset({"refs/heads/b\udce9\n", "refs/heads/a"}), "why")
    assert str(few) == "the mirror cannot hold 2 refs of the remote: refs/heads/a, refs/heads/b\\xe9?: why"
    many = MissingRefs(frozenset(f"refs/heads/{number}" for number in range(9)), "why")
    assert str(many).endswith("refs/heads/0, refs/heads/1, refs/heads/2 and 6 more: why")
    assert many.without(dict.fromkeys(many.refs)) is None


@pytest.mark.parametrize("most", [1, 1000], ids=["by git clone", "by git fetch"])
@pytest_twisted.ensureDeferred
async def test_a_shallow_remote_gives_no_mirror_and_the_error_says_why(
    opened: Open, upstream: Upstream, most: int
) -> None:
    make_shallow(upstream.directory)
    harness = opened(upstream, Tunables(clone_from=most))
    error = await fails(harness.worker().sync("start"))
    assert "the mirror cannot hold 2 refs of the remote: refs/heads/main, refs/heads/other" in error
    assert "shallow" in error
    assert not harness.path().exists()
    assert harness.worker().state == "failing"
    assert harness.worker().status.verified_at is None
    unshallow(upstream.directory)
    await harness.worker().sync("manual")
    assert refs(harness.path()) == upstream.refs()
    assert harness.worker().state == "in_step"


@pytest_twisted.ensureDeferred
async def test_a_remote_that_became_shallow_leaves_the_mirror_as_it_is_and_behind(
    opened: Open, upstream: Upstream
) -> None:
    harness = opened(upstream)
    await harness.worker().sync("start")
    verified = harness.worker().status.verified_at
    before = refs(harness.path())
    # A commit that the mirror has not lies at the bottom.
    upstream.advance()
    after = upstream.advance()
    (upstream.directory / "shallow").write_text(f"{after}\n")
    answer = await ask(harness, "POST", "{prefix}/repos/{owner}/{name}/sync", owner="octo", name="widget")
    assert answer.status == 409
    assert harness.worker().state == "behind"
    assert harness.worker().status.verified_at == verified
    assert refs(harness.path()) == before
    [told] = harness.named("synced")[-1:]
    assert (told.state, told.missing) == ("behind", 1)
    assert "refs/heads/main: the remote is a shallow clone" in (told.error or "")
    shown = await ask(harness, "GET", "{prefix}/repos/{owner}/{name}", owner="octo", name="widget")
    assert "refs/heads/main" in shown.body["error"]
    error = await fails(harness.push(pushed(harness, before[MAIN], after)))
    assert "refs/heads/main" in error
    assert not harness.named("visible")
    await harness.worker().sync("backstop")
    assert harness.worker().state == "behind"
    unshallow(upstream.directory)
    await harness.push(pushed(harness, before[MAIN], after))
    assert harness.named("visible")
    await harness.worker().sync("manual")
    assert harness.worker().state == "in_step"
    assert harness.named("synced")[-1].missing is None


@pytest.mark.parametrize("most", [1, 1000], ids=["by git clone", "by git fetch"])
@pytest.mark.parametrize("name", BAD)
@pytest_twisted.ensureDeferred
async def test_a_ref_that_git_refuses_is_named_and_the_others_are_followed(
    opened: Open, served: Served, name: str, most: int
) -> None:
    served.list_too(name)
    harness = opened(served.url, Tunables(clone_from=most))
    await harness.worker().sync("start")
    assert refs(harness.path()) == served.upstream.refs()
    assert harness.worker().state == "behind"
    assert harness.worker().status.verified_at is None
    assert name in harness.worker().status.unequal
    upstream = served.upstream
    before, after = upstream.refs()[MAIN], upstream.advance()
    await harness.push(pushed(harness, before, after))
    assert harness.named("visible")
    assert harness.worker().state == "behind", "a push that came does not bring the others"
    await harness.worker().sync("backstop")
    assert harness.worker().state == "behind"
    served.http.said_too = b""
    await harness.worker().sync("backstop")
    assert harness.worker().state == "in_step"


@pytest.mark.parametrize("created", [True, False])
@pytest.mark.parametrize("name", ["refs/heads/bad..name", "refs/heads/x.lock"])
@pytest_twisted.ensureDeferred
async def test_a_push_to_a_ref_that_git_refuses_is_not_done(
    opened: Open, served: Served, name: str, created: bool
) -> None:
    harness = opened(served.url)
    await harness.worker().sync("start")
    served.list_too(name)
    after = served.upstream.refs()[MAIN]
    before = ZERO if created else git(served.upstream.directory, "rev-parse", f"{after}~1")
    error = await fails(harness.push(pushed(harness, before, after, ref=name)))
    assert name in error
    assert harness.worker().state == "behind"
    assert not harness.named("visible")


@pytest_twisted.ensureDeferred
async def test_refs_that_move_come_and_go_between_list_and_fetch_are_not_missing(
    opened: Open, upstream: Upstream
) -> None:
    harness = opened(upstream)
    supervised_git = harness.worker()._refresher._supervised_git
    listing = supervised_git.listing

    async def and_then() -> Listing:
        found: Listing = await listing()
        upstream.advance()
        git(upstream.directory, "update-ref", "-d", "refs/heads/other")
        upstream.set(f"refs/heads/new{len(upstream.refs())}", upstream.refs()[MAIN])
        return found

    supervised_git.listing = and_then
    await harness.worker().sync("start")
    assert harness.worker().state == "in_step"
    await harness.worker().sync("manual")
    assert harness.worker().state == "in_step"
    del supervised_git.listing
    await harness.worker().sync("manual")
    assert refs(harness.path()) == upstream.refs()


@pytest_twisted.ensureDeferred
async def test_a_broken_mirror_is_not_replaced_by_an_empty_one(opened: Open, upstream: Upstream) -> None:
    harness = opened(upstream)
    await harness.worker().sync("start")
    before = refs(harness.path())
    tip = before[MAIN]
    (harness.path() / "objects" / tip[:2] / tip[2:]).unlink()
    make_shallow(upstream.directory)
    await fails(harness.worker().sync("manual"))
    assert (harness.path() / "refs").is_dir()
    assert harness.worker().state == "failing"
    unshallow(upstream.directory)
    await harness.worker().sync("manual")
    assert refs(harness.path()) == upstream.refs() == before
