"""Bursts, remotes that hang or are gone, deliveries that are lost, and git killed under stackit's hands."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any

import pytest_twisted
from outside import Held, all_ended, check_log, descendants, git_runs, mirror_refs, together

from stackit.testing import PretendGitHub, RefMoved, RunningStackit, push_payload

MAIN = "refs/heads/main"
PUSH_SYNCS = 'stackit_mirror_syncs_total{cause="push"'


async def repos(github: PretendGitHub, *names: str) -> list[dict[str, Any]]:
    tables = [{"name": name, "url": await github.create(name)} for name in names]
    for name in names:
        await github.commit(name)
    return tables


@pytest_twisted.ensureDeferred
async def test_a_burst_of_200_pushes_during_a_fetch_causes_at_most_two_more(
    running_stackit: Any, pretend_github: PretendGitHub
) -> None:
    managed = await repos(pretend_github, "octo/widget")
    server: RunningStackit = await running_stackit(config={"repos": managed, "sync": {"interval": "0"}})
    pretend_github.webhook(server.webhook_url, server.secret or "")
    first = await server.sync("octo/widget")
    assert first.status == 200
    fetched = pretend_github.fetches("octo/widget")

    made = await pretend_github.commit("octo/widget", count=200)
    tips = [made.before, *(commit.id for commit in made.commits)]
    pushes = [
        RefMoved(repo=made.repo, ref=MAIN, before=old, after=new, commits=(commit,))
        for old, new, commit in zip(tips, tips[1:], made.commits, strict=False)
    ]
    with Held(pretend_github):
        sent = [await pretend_github.announce(pushes[0])]

        async def asking() -> bool:
            return bool((await server.admin("GET", "{prefix}/repos/octo/widget")).json()["state"] == "behind")

        await server.until(asking, "the first push to be on its way")
        sent += await together(*(pretend_github.announce(push) for push in pushes[1:]))
        assert {each.status for each in sent} == {202}
    for each in sent:
        await server.wait_for(each.guid, visible=True)
    assert pretend_github.fetches("octo/widget") - fetched <= 3
    assert await mirror_refs(server, "octo/widget") == await pretend_github.refs("octo/widget")
    metrics = await server.metrics()
    assert sum(count for name, count in metrics.items() if name.startswith(PUSH_SYNCS)) <= 3
    assert metrics["stackit_push_visible_seconds_count"] == 200
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_remotes_that_hang_or_are_gone_delay_no_other_and_no_answer(
    running_stackit: Any, pretend_github: PretendGitHub
) -> None:
    managed = await repos(pretend_github, "octo/hangs", "octo/hangs-mid", "octo/hangs-too", "octo/widget")
    managed.append({"name": "octo/gone", "url": "http://127.0.0.1:1/octo/gone.git"})
    for name in ("octo/hangs", "octo/hangs-too"):
        pretend_github.fault(name, "hang")
    pretend_github.fault("octo/hangs-mid", "hang_mid")
    server: RunningStackit = await running_stackit(config={"repos": managed, "sync": {"interval": "0"}, "grace": "1s"})
    pretend_github.webhook(server.webhook_url, server.secret or "")
    stuck = [await pretend_github.push(name) for name in ("octo/hangs", "octo/hangs-mid", "octo/hangs-too")]
    gone = await server.deliver("push", push_payload("octo/gone"), guid="gone")
    assert {gone.status, *(each.status for each in stuck)} == {202}
    for _ in range(3):
        sent = await pretend_github.push("octo/widget")
        assert sent.status == 202
        await server.wait_for(sent.guid, visible=True)
    for each in stuck:
        receipt = await server.receipt(each.guid)
        assert receipt is not None
        assert receipt["state"] == "pending"

    async def failing() -> bool:
        found = (await server.admin("GET", "{prefix}/repos/octo/gone")).json()
        return bool(found["state"] == "failing" and found["error"])

    await server.until(failing, "the remote that is gone to be noticed")
    # And the end is not held up by them either.
    children = descendants(server.pid)
    assert children
    assert await server.stop() == 0
    await all_ended(children)
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_the_backstop_finds_what_no_delivery_told(running_stackit: Any, pretend_github: PretendGitHub) -> None:
    managed = await repos(pretend_github, "octo/widget", "octo/other")
    server: RunningStackit = await running_stackit(config={"repos": managed, "sync": {"interval": "1s"}})
    pretend_github.webhook(server.webhook_url, server.secret or "")

    async def in_step() -> bool:
        found = (await server.admin("GET", "{prefix}/repos")).json()["repos"]
        return [each["state"] for each in found] == ["in_step", "in_step"]

    await server.until(in_step, "the first clones")
    pretend_github.lose_next()
    lost = await pretend_github.push("octo/widget")
    assert lost.status is None
    await pretend_github.set_ref("octo/other", "refs/stackit/hidden", MAIN)
    await pretend_github.force("octo/other")
    await pretend_github.commit("octo/other", "refs/pull/1/head")

    async def found() -> bool:
        other = {ref: oid for ref, oid in (await pretend_github.refs("octo/other")).items() if "pull" not in ref}
        return (
            await mirror_refs(server, "octo/widget") == await pretend_github.refs("octo/widget")
            and await mirror_refs(server, "octo/other") == other
        )

    await server.until(found, "the backstop to find it all")

    async def counted() -> bool:
        metrics = await server.metrics()
        return metrics["stackit_backstop_found_total"] >= 3

    await server.until(counted, "it to be counted")
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_git_killed_under_stackit_is_one_failed_try(running_stackit: Any, pretend_github: PretendGitHub) -> None:
    managed = await repos(pretend_github, "octo/widget")
    server: RunningStackit = await running_stackit(config={"repos": managed, "sync": {"interval": "0"}})
    pretend_github.webhook(server.webhook_url, server.secret or "")
    with Held(pretend_github):
        # There is no mirror yet, so it is git that fetches.
        sent = await pretend_github.push("octo/widget")
        for pid in await git_runs(server):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        async def failed() -> bool:
            receipt = await server.receipt(sent.guid)
            return bool(receipt and receipt["handlings"][0]["error"])

        await server.until(failed, "the failure to be noticed")
    assert (await server.sync("octo/widget")).status == 200
    await server.wait_for(sent.guid, visible=True)
    assert await mirror_refs(server, "octo/widget") == await pretend_github.refs("octo/widget")
    assert await server.stop() == 0
    check_log(server.log)
