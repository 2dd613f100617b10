"""Repositories and refs in pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from mirror_harness import Harness, Upstream, managed

from stackit import AdminRequest, Response
from stackit.bus.timeouts import call
from stackit.plugins.mirror.refs.snapshot import Snapshot

REPOS = "{prefix}/repos"
REFS = "{prefix}/repos/{owner}/{name}/refs"


async def get(harness: Harness, path: str, **query: str) -> Any:
    """The body of the answer, or its status if it is a refusal."""
    (route,) = [
        each for each in harness.mirror.stackit_routes(harness.app) if (each.method, each.path) == ("GET", path)
    ]
    args = {"owner": "octo", "name": "widget"} if "{owner}" in path else {}
    answer: Response = await call(
        route.handler, AdminRequest(method="GET", path=path, args=args, query=query, body=b"")
    )
    return msgspec.to_builtins(answer.body) if answer.status == 200 else answer.status


def names(answer: Any) -> list[str]:
    return [each["name"] for each in answer["repos"]]


@pytest_twisted.ensureDeferred
async def test_repositories_by_name_and_state_in_pages(tmp_path: Path, upstream: Upstream) -> None:
    all_names = [f"octo/n{number:02}" for number in range(7)]
    harness = Harness(tmp_path / "state", *(managed(upstream, each) for each in (*reversed(all_names), "hubot/Zoo")))
    await harness.worker("octo/n03").sync("start")
    assert set(await get(harness, REPOS)) == {"repos"}
    first = await get(harness, REPOS, q="OCTO/", limit="4")
    assert (names(first), first["next"]) == (all_names[:4], all_names[3])
    assert (first["states"]["cloning"], first["states"]["in_step"]) == (6, 1)
    rest = await get(harness, REPOS, q="OCTO/", limit="4", cursor=first["next"])
    assert (names(rest), rest["next"]) == (all_names[4:], None)
    assert names(await get(harness, REPOS, state="in_step")) == ["octo/n03"]
    assert names(await get(harness, REPOS, q="zoo")) == ["hubot/Zoo"]
    assert [await get(harness, REPOS, **wrong) for wrong in ({"state": "x"}, {"limit": "0"}, {"limit": "²"})] == [
        400
    ] * 3
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_refs_in_pages_also_of_bytes_that_are_no_text(harness: Harness, upstream: Upstream) -> None:
    oid = upstream.advance()
    for ref in ("refs/heads/a", "refs/heads/b\udcff", "refs/heads/c", "refs/tags/b"):
        upstream.set(ref, oid)
    assert (await get(harness, REFS))["total"] == 0
    await harness.worker().sync("start")
    first = await get(harness, REFS, limit="2")
    assert first["refs"] == [{"ref": "refs/heads/a", "oid": oid}, {"ref": "refs/heads/b\\xff", "oid": oid}]
    assert (first["total"], first["head"]) == (5, "refs/heads/main")
    rest = await get(harness, REFS, limit="3", cursor=first["next"])
    assert [each["ref"] for each in rest["refs"]] == ["refs/heads/c", "refs/heads/main", "refs/tags/b"]
    assert rest["next"] is None
    assert [each["ref"] for each in (await get(harness, REFS, q="tags"))["refs"]] == ["refs/tags/b"]
    assert await get(harness, REFS, cursor="what") == 400
    assert await get(harness, REFS, limit="501") == 400


@pytest_twisted.ensureDeferred
async def test_refs_are_there_before_the_first_round(synced: Harness, upstream: Upstream) -> None:
    later = Harness(synced.state, managed(upstream))
    assert [each["ref"] for each in (await get(later, REFS))["refs"]] == ["refs/heads/main"]
    await later.stop()


@pytest.mark.parametrize("text", [b"", b"heads/", b"0", b"7", b"x1", b"refs/heads/x12", b"nothing"])
@pytest.mark.parametrize("most", [1, 3, 100])
def test_all_pages_together_are_all_that_fits(text: bytes, most: int) -> None:
    refs = {b"refs/heads/x%d" % number: f"{number:040d}" for number in range(40)}
    snapshot = Snapshot.from_refs(refs)
    pages, after = [], b""
    while True:
        found, total, last = snapshot.page(after, most, text)
        pages += found
        assert total == 40
        if last is None:
            break
        after = last
    assert pages == [(ref, oid) for ref, oid in sorted(refs.items()) if text in ref]
