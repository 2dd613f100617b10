"""The cases that stackit was made for, with a real mirror of a real remote."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from outside import WEBHOOK, ask, check_log, mirror_refs
from rawhttp import request

from stackit.testing import PretendGitHub, RunningStackit, delivery, payload_for

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")


@pytest_twisted.ensureDeferred
async def test_without_a_secret_the_webhook_does_not_exist(running_stackit: Any) -> None:
    for secret in (None, " \t "):
        server: RunningStackit = await running_stackit(secret=secret, config={"sync": {"interval": "0"}})
        made = delivery("push", secret="anything")
        for method in METHODS:
            for _ in range(5):
                there = await server.ask(method, server.webhook_url, body=made.body, headers=made.headers)
                nowhere = await server.ask(method, f"{server.url}/nowhere", body=made.body, headers=made.headers)
                if there.headers["date"] == nowhere.headers["date"]:
                    break  # else a second began between the two
            assert there.status == 404, method
            assert (there.status, there.body, there.headers) == (nowhere.status, nowhere.body, nowhere.headers)
        assert server.log.count("no webhook secret is configured") == 1
        assert await server.stop() == 0
        check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_a_push_syncs_exactly_its_repository_also_with_the_backstop_off(
    running_stackit: Any, pretend_github: PretendGitHub
) -> None:
    repos = []
    for name in ("octo/widget", "octo/other", "octo/secret"):
        private = "a token" if name == "octo/secret" else None
        repos.append({"name": name, "url": await pretend_github.create(name, private_token=private)})
        await pretend_github.commit(name)
    server: RunningStackit = await running_stackit(config={"repos": repos, "sync": {"interval": "0"}})
    pretend_github.webhook(server.webhook_url, server.secret or "")

    # Nothing that is no push asks a remote; nor does a push that is not signed, or is about another repository.
    assert (await pretend_github.send("ping")).status == 204
    assert (await pretend_github.send("push", {"ref": "refs/heads/main"})).status == 204
    assert (await server.deliver("push", secret="wrong")).status == 401
    stranger = await pretend_github.send("push", payload_for("push", repo="octo/stranger"))
    assert stranger.status == 202
    await server.wait_for(stranger.guid)
    assert pretend_github.requests == []

    sent = await pretend_github.push("Octo/WIDGET")
    assert sent.status == 202
    receipt = await server.wait_for(sent.guid, visible=True)
    assert receipt["repo"] == "octo/widget"
    assert {each.repo for each in pretend_github.requests} == {"octo/widget"}
    assert await mirror_refs(server, "octo/widget") == await pretend_github.refs("octo/widget")

    # By hand, what has no token: the public one works, the private one says why it cannot.
    by_hand = await server.sync("octo/other")
    assert [change["ref"] for change in by_hand.json()["changes"]] == ["refs/heads/main"]
    refused = await server.sync("octo/secret")
    assert refused.status == 502
    assert refused.json()["error"]
    assert (await server.sync("octo/stranger")).status == 404
    states = {each["name"]: each["state"] for each in (await server.admin("GET", "{prefix}/repos")).json()["repos"]}
    assert states == {"octo/widget": "in_step", "octo/other": "in_step", "octo/secret": "failing"}
    assert server.log.count("no credentials: only public repositories refresh") == 1
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_a_flood_is_slowed_down_and_a_signed_delivery_from_the_same_address_is_not(running_stackit: Any) -> None:
    server: RunningStackit = await running_stackit(
        config={"sync": {"interval": "0"}, "plugins": {"ratelimit": {"burst": 5, "per_minute": 1}}}
    )
    unsigned = request(WEBHOOK, "POST", {"X-GitHub-Event": "push"}, b"{}")
    answers = [await ask(server, unsigned) for _ in range(8)]
    assert [each.status for each in answers] == [401] * 5 + [429] * 3
    assert int(answers[-1].headers["retry-after"]) > 0
    for _ in range(8):
        assert (await server.deliver("push")).status == 202
        assert (await server.deliver("push", secret="wrong")).status == 429
    assert await server.stop() == 0
    check_log(server.log)
