"""What waits for a person, what is kept, and what does not start without room."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from mirror_harness import ZERO, Harness, Upstream, ask, git, managed, pushed, refs

from stackit import Size, StackitError

SYNC = "{prefix}/repos/{owner}/{name}/sync"


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    upstream = Upstream(tmp_path / "upstream")
    oid = upstream.advance()
    for number in range(24):
        upstream.set(f"refs/heads/b{number}", oid)
    return upstream


@pytest.fixture
def harness(synced: Harness) -> Harness:
    return synced


def empty(upstream: Upstream) -> None:
    for ref in upstream.refs():
        upstream.delete(ref)


@pytest_twisted.ensureDeferred
async def test_deletions_of_more_than_half_wait_for_a_persons_word_and_the_rest_goes_on(
    harness: Harness, upstream: Upstream
) -> None:
    before = upstream.refs()
    for number in range(13):
        upstream.delete(f"refs/heads/b{number}")
    new = upstream.advance()
    done = await harness.worker().sync("backstop")
    assert done.unequal is not None
    assert "deleted 13 of 25 refs" in done.unequal
    assert refs(harness.path()) == before | {"refs/heads/main": new} == harness.told["octo/widget"]
    assert harness.worker().state == "behind"
    [stands] = (await ask(harness, "GET", "{prefix}/repos")).body["repos"]
    assert "accept=deletions" in stands["error"]
    refused = await ask(harness, "POST", SYNC, owner="octo", name="widget")
    assert (refused.status, refused.body) == (409, {"error": done.unequal})
    answer = await ask(harness, "POST", SYNC, owner="octo", name="widget", accept="deletions")
    assert answer.status == 200
    assert [change["kind"] for change in answer.body["changes"]] == ["deleted"] * 13
    assert refs(harness.path()) == upstream.refs() == harness.told["octo/widget"]
    assert harness.worker().state == "in_step"


@pytest_twisted.ensureDeferred
async def test_deletions_of_half_are_followed(harness: Harness, upstream: Upstream) -> None:
    for number in range(12):
        upstream.delete(f"refs/heads/b{number}")
    await harness.worker().sync("backstop")
    assert refs(harness.path()) == upstream.refs()


@pytest_twisted.ensureDeferred
async def test_the_last_ref_of_a_small_repository_waits_too_and_comes_back_by_itself(tmp_path: Path) -> None:
    upstream = Upstream(tmp_path / "small")
    oid = upstream.advance()
    harness = Harness(tmp_path / "small-state", managed(upstream))
    await harness.worker().sync("start")
    upstream.delete("refs/heads/main")
    assert (await harness.worker().sync("backstop")).unequal is not None
    assert refs(harness.path()) == {"refs/heads/main": oid}
    upstream.set("refs/heads/main", oid)
    assert (await harness.worker().sync("backstop")).unequal is None
    assert harness.worker().state == "in_step"
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_push_that_deletes_what_is_held_says_why_it_is_not_done(harness: Harness, upstream: Upstream) -> None:
    oid = upstream.refs()["refs/heads/b1"]
    empty(upstream)
    with pytest.raises(StackitError, match="accept=deletions"):
        await harness.push(pushed(harness, oid, ZERO, "refs/heads/b1"))
    assert len(refs(harness.path())) == 25


@pytest_twisted.ensureDeferred
async def test_another_word_than_deletions_is_refused(harness: Harness) -> None:
    answer = await ask(harness, "POST", SYNC, owner="octo", name="widget", accept="everything")
    assert answer.status == 400


@pytest_twisted.ensureDeferred
async def test_refs_that_the_configuration_asks_for_no_longer_go_and_are_told_as_deleted(
    harness: Harness, upstream: Upstream, tmp_path: Path
) -> None:
    narrowed = managed(upstream, refspecs=("+refs/heads/main:refs/heads/main",))
    again = Harness(tmp_path / "state", narrowed)
    again.told = harness.told
    done = await again.worker().sync("start")
    assert (
        refs(harness.path()) == {"refs/heads/main": upstream.refs()["refs/heads/main"]} == harness.told["octo/widget"]
    )
    assert [change.kind for change in done.changes] == ["deleted"] * 24
    await again.stop()


@pytest_twisted.ensureDeferred
async def test_old_tips_are_kept_where_that_is_configured_and_nobody_is_told_of_them(
    upstream: Upstream, tmp_path: Path
) -> None:
    harness = Harness(tmp_path / "keeping", managed(upstream, keep_forced=True))
    await harness.worker().sync("start")
    base = upstream.refs()["refs/heads/main"]
    git(upstream.directory, "tag", "v1", base)
    lost = [upstream.advance()]
    await harness.worker().sync("push", full=False)
    upstream.set("refs/heads/main", upstream.commit(base))
    await harness.worker().sync("push", full=False)
    lost.append(upstream.refs()["refs/heads/main"])
    upstream.set("refs/heads/main", upstream.commit(base))
    await harness.worker().sync("backstop")
    kept = {f"refs/stackit-kept/heads/main/{oid}": oid for oid in lost}
    assert refs(harness.path()) == upstream.refs() | kept
    assert harness.told["octo/widget"] == upstream.refs()
    await harness.worker().sync("backstop")
    assert harness.fetches()[-1].outcome == "unchanged"
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_crash_after_a_forced_push_loses_no_old_tip(upstream: Upstream, tmp_path: Path) -> None:
    harness = Harness(tmp_path / "keeping", managed(upstream, keep_forced=True))
    await harness.worker().sync("start")
    old = upstream.refs()["refs/heads/main"]
    upstream.set("refs/heads/main", upstream.commit())
    git(harness.path(), "fetch", "--quiet", upstream.url, "+refs/heads/main:refs/heads/main")  # and then the crash
    again = Harness(tmp_path / "keeping", managed(upstream, keep_forced=True))
    again.told = harness.told
    await again.worker().compare()
    assert refs(harness.path())[f"refs/stackit-kept/heads/main/{old}"] == old
    await again.stop()
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_below_the_reserve_nothing_is_fetched_and_what_is_there_is_still_told(
    harness: Harness, upstream: Upstream, tmp_path: Path
) -> None:
    again = Harness(tmp_path / "state", managed(upstream), reserve=Size(2**62))
    upstream.advance()
    with pytest.raises(StackitError, match=r"plugins\.mirror\.reserve"):
        await again.worker().sync("manual")
    assert again.told["octo/widget"] == refs(harness.path())
    assert again.worker().state == "failing"
    assert "nothing is fetched" in str(again.mirror.stackit_health())
    assert harness.mirror.stackit_health() is None
    await again.stop()
