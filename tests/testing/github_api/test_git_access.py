"""Who may clone what from the pretend GitHub."""

from __future__ import annotations

import pytest_twisted
from api_client import ApiClient
from git_client import ls_remote

from stackit.testing.github import PretendGitHub


@pytest_twisted.ensureDeferred
async def test_git_needs_a_token_that_reaches_the_repository(github: PretendGitHub, api: ApiClient) -> None:
    one, two = await github.create("octo/one", private=True), await github.create("octo/two", private=True)
    public = await github.create("hubot/public")
    for name in ("octo/one", "octo/two", "hubot/public"):
        await github.commit(name)
    installation = await github.apps.create().install("octo", ["octo/one"])
    token = await api.token(installation)
    assert b"refs/heads/main" in (await ls_remote(one, token)).stdout
    assert b"refs/heads/main" in (await ls_remote(public, token)).stdout
    assert b"not found" in (await ls_remote(two, token)).stderr
    assert b"could not read Username" in (await ls_remote(one)).stderr
    mine = f"installation:{installation.id}"
    assert [(each.repo, each.caller, each.status) for each in github.requests if each.command == "capabilities"] == [
        ("octo/one", mine, 200),
        ("hubot/public", mine, 200),
        ("octo/two", mine, 404),
        ("octo/one", "anonymous", 401),
    ]
    await installation.withdraw("contents")
    assert b"403" in (await ls_remote(one, token)).stderr
    await installation.grant(contents="read")
    assert (await ls_remote(one, token)).status == 0
    await installation.suspend()
    assert b"403" in (await ls_remote(one, token)).stderr
    await installation.unsuspend()
    github.clock.advance(3601)
    assert b"could not read Username" in (await ls_remote(one, token)).stderr


@pytest_twisted.ensureDeferred
async def test_a_new_token_works_after_a_while(github: PretendGitHub, api: ApiClient) -> None:
    url = await github.create("octo/one", private=True)
    github.clock.freeze()
    github.tokens.replication_delay = 100
    token = await api.token(await github.apps.create().install("octo"))
    assert (await api.get("/installation/repositories", token)).status == 401
    assert b"not found" in (await ls_remote(url, token)).stderr
    github.clock.advance(60)
    assert (await api.get("/installation/repositories", token)).status == 403
    assert b"not found" in (await ls_remote(url, token)).stderr
    github.clock.advance(60)
    assert (await api.get("/installation/repositories", token)).status == 200
    assert (await ls_remote(url, token)).status == 0


@pytest_twisted.ensureDeferred
async def test_a_fault_says_whose_token_came(github: PretendGitHub, api: ApiClient) -> None:
    url = await github.create("octo/one", private=True)
    token = await api.token(await github.apps.create().install("octo"))
    github.fault("octo/one", "echo", times=1)
    assert token.encode() in (await ls_remote(url, token)).stderr
