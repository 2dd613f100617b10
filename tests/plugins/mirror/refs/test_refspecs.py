"""Refspecs as people write them: all refs, some left out, and the mirror's own refs among them."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from mirror_harness import GitHttp, Harness, Upstream, git, managed, pushed, refs

from stackit.api.repos import DEFAULT_REFSPECS
from stackit.plugins.mirror.refs.refspecs import for_git, is_destination

ALL = "+refs/*:refs/*"


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    upstream = Upstream(tmp_path / "remote" / "octo" / "widget.git")
    oid = upstream.advance()
    for name in ("pull/1/head", "pull/2/merge", "notes/commits", "heads/tmp/a", "heads/topic", "stackit-kept/theirs/x"):
        upstream.set(f"refs/{name}", oid)
    git(upstream.directory, "tag", "-a", "-m", "v1", "v1", oid)
    return upstream


def theirs(upstream: Upstream, *left_out: str) -> dict[str, str]:
    return {ref: oid for ref, oid in upstream.refs().items() if not ref.startswith(("refs/stackit-kept/", *left_out))}


@pytest.mark.parametrize("scheme", ["http", "file"])
@pytest.mark.parametrize(
    ("refspecs", "left_out"),
    [
        ((ALL,), ()),
        ((ALL, "^refs/pull/*"), ("refs/pull/",)),
        (("^refs/heads/tm*", ALL, "^refs/heads/topic", "^refs/pull/*/merge"),
         ("refs/heads/tmp", "refs/heads/topic", "refs/pull/2/merge")),
        ((*DEFAULT_REFSPECS, "^refs/heads/tmp/*"), ("refs/heads/tmp/", "refs/pull/", "refs/notes/")),
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_what_is_written_is_what_the_mirror_has(
    upstream: Upstream, server: GitHttp, tmp_path: Path, scheme: str, refspecs: tuple[str, ...], left_out: tuple[str]
) -> None:
    url = server.url("octo/widget.git") if scheme == "http" else upstream.url
    harness = Harness(tmp_path / "state", managed(url, refspecs=refspecs, keep_forced=True), interval=0)
    await harness.worker().sync("start")
    assert refs(harness.path()) == theirs(upstream, *left_out) == harness.told["octo/widget"]
    # A forced push keeps the old tip, and no round after it takes that for something that the remote deleted.
    old = upstream.refs()["refs/heads/main"]
    new = upstream.commit()
    upstream.set("refs/heads/main", new)
    await harness.push(pushed(harness, old, new))
    kept = {f"refs/stackit-kept/heads/main/{old}": old}
    assert refs(harness.path()) == theirs(upstream, *left_out) | kept
    upstream.delete("refs/notes/commits")
    upstream.advance("refs/pull/1/head")
    upstream.set("refs/stackit-kept/theirs/x", new)
    await harness.worker().sync("manual")
    assert refs(harness.path()) == theirs(upstream, *left_out) | kept
    assert harness.told["octo/widget"] == theirs(upstream, *left_out)
    await harness.backstop()
    assert harness.fetches()[-1].outcome == "unchanged"
    assert harness.worker().state == "in_step"
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_push_of_what_is_left_out_asks_for_nothing_to_be_there(
    upstream: Upstream, server: GitHttp, tmp_path: Path
) -> None:
    harness = Harness(tmp_path / "state", managed(server.url("octo/widget.git"), refspecs=(ALL, "^refs/heads/tmp/*")))
    await harness.worker().sync("start")
    for ref in ("refs/heads/tmp/a", "refs/stackit-kept/theirs/x"):
        await harness.push(pushed(harness, upstream.refs()[ref], upstream.advance(ref), ref=ref))
    assert refs(harness.path()) == theirs(upstream, "refs/heads/tmp/")
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_what_is_left_out_from_now_on_goes_without_a_question(upstream: Upstream, tmp_path: Path) -> None:
    for number in range(60):
        upstream.set(f"refs/pull/{number}/head", upstream.refs()["refs/heads/main"])
    harness = Harness(tmp_path / "state", managed(upstream, refspecs=(ALL,)))
    await harness.worker().sync("start")
    await harness.stop()
    again = Harness(tmp_path / "state", managed(upstream, refspecs=(ALL, "^refs/pull/*")))
    again.told = harness.told
    done = await again.worker().sync("backstop")
    assert done.unequal is None
    assert refs(again.path()) == theirs(upstream, "refs/pull/") == again.told["octo/widget"]
    await again.stop()


@pytest_twisted.ensureDeferred
async def test_a_ref_that_lands_in_two_places_is_in_both_and_stays_there(
    upstream: Upstream, server: GitHttp, tmp_path: Path
) -> None:
    def expected() -> dict[str, str]:
        branches = {ref: oid for ref, oid in upstream.refs().items() if ref.startswith("refs/heads/")}
        return branches | {ref.replace("heads", "copies"): oid for ref, oid in branches.items()}

    twice = ("+refs/heads/*:refs/heads/*", "+refs/heads/*:refs/copies/*")
    harness = Harness(tmp_path / "state", managed(server.url("octo/widget.git"), refspecs=twice))
    await harness.worker().sync("start")
    for _ in range(2):
        assert refs(harness.path()) == expected() == harness.told["octo/widget"]
        await harness.worker().sync("manual")
    assert harness.fetches()[-1].outcome == "unchanged"
    event = pushed(harness, upstream.refs()["refs/heads/main"], upstream.advance())
    harness.mirror.stackit_expect(event)
    await harness.push(event)
    assert refs(harness.path()) == expected() == harness.told["octo/widget"]
    await harness.stop()


@pytest.mark.parametrize(
    ("refspec", "left_out"),
    [
        ("+refs/heads/*:refs/heads/*", None),
        (ALL, "^refs/stackit-kept/*"),
        ("+refs/heads/*:refs/*", "^refs/heads/stackit-kept/*"),
        ("+refs/*/head:refs/stackit-*", "^refs/kept/*/head"),
        ("+refs/heads/*:refs/stackit-kept/*", "^refs/heads/*"),
        ("+refs/heads/main:refs/stackit-kept/main", "^refs/heads/main"),
        ("+refs/heads/*:refs/stackit-kept2/*", None),
    ],
)
def test_git_is_kept_from_the_mirrors_own_refs(refspec: str, left_out: str | None) -> None:
    assert for_git((refspec,)) == ((refspec,) if left_out is None else (refspec, left_out))


@pytest.mark.parametrize(
    ("ref", "expected"),
    [("refs/heads/a", True), ("refs/pull/1/head", False), ("refs/stackit-kept/x", False), ("HEAD", False)],
)
def test_what_could_have_come_from_the_remote_is_known_with_what_is_left_out(ref: str, expected: bool) -> None:
    assert is_destination((ALL, "^refs/pull/*"), ref) is expected
