"""Who may look at a webhook, and who may change it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from stackit.api.errors import StackitError
from stackit.api.events import Repo
from stackit.api.repos import ManagedRepo, Repos
from stackit.config.access import Labelled, OwnerTable
from stackit.config.apps import AppConfig
from stackit.config.model import Config
from stackit.github.api import ApiClients, ApiError
from stackit.github.apps import Apps
from stackit.github.hooks.access import HookAccess, api_of
from stackit.github.hooks.found import Hook
from stackit.github.hooks.inspection import inspect, listed
from stackit.github.hooks.target import HookTarget
from stackit.github.hooks.wanted import WantedHook
from stackit.secrets.redactor import Redactor
from stackit.testing.github import PretendGitHub
from stackit.testing.github_api.hooks import HookConfig

REPO, OWNER, APP = HookTarget("repo", "octo/widget"), HookTarget("owner", "octo"), HookTarget("app", "main")
URL = "https://stackit.example.org/api/v1/webhooks/github"
WANTED = WantedHook(urls=(URL,))


class Accessed:
    """A pretend GitHub with an App, and stackit's access to the webhooks there."""

    def __init__(self, github: PretendGitHub, reactor: Any, directory: Path) -> None:
        self.github = github
        self.directory = directory
        self.owners: dict[str, Labelled] = {}
        self.repos = Repos()
        self.clients = ApiClients(reactor, github.clock.now, notice=print)
        self.apps = Apps(
            (), reactor=reactor, now=github.clock.now, clients=self.clients, redact=Redactor(), notice=print
        )
        self.access = HookAccess(self.apps, self.clients, self.repos, self.config)

    def config(self) -> Config:
        return Config(state_dir=self.directory, owners=self.owners)

    async def install(self, **permissions: str) -> None:
        app = self.github.apps.create("main", permissions={"contents": "read", "metadata": "read", **permissions})
        key = self.directory / "key.pem"
        key.write_text(app.private_key)
        await app.install("octo")
        self.apps.change(
            [AppConfig(name="main", issuer=str(app.id), private_key_file=key, api_url=self.github.api_url)]
        )

    def hook(self, target: HookTarget, url: str = URL, **more: Any) -> int:
        """Make a webhook at GitHub, and return its id."""
        kind, number = "organization", self.github.owners.get("octo").id
        if target.kind == "repo":
            kind, number = "repository", self.github.repositories.of("octo/widget").id
        config = HookConfig(url=url, content_type="json", secret="hush")
        return self.github.hooks.create(kind, number, config, events=["push"], **more).id  # type: ignore[arg-type]


@pytest_twisted.async_yield_fixture
async def accessed(pretend_github: PretendGitHub, tmp_path: Path) -> AsyncIterator[Accessed]:
    from twisted.internet import reactor  # noqa: PLC0415

    await pretend_github.create("octo/widget")
    made = Accessed(pretend_github, reactor, tmp_path)
    yield made
    await made.apps.stop()
    await made.clients.close()


@pytest.mark.parametrize(("target", "permission"), [(REPO, "repository_hooks"), (OWNER, "organization_hooks")], ids=str)
@pytest_twisted.ensureDeferred
async def test_an_app_looks_with_a_token_for_webhooks_alone(
    accessed: Accessed, target: HookTarget, permission: str
) -> None:
    await accessed.install(**{permission: "read"})
    number = accessed.hook(target)
    found = await listed(target, await accessed.access.client(target))
    assert [each.id for each in found] == [number]
    with pytest.raises(StackitError, match=r"may not change webhooks of octo: give it .*Read and write"):
        await accessed.access.client(target, write=True)
    (token,) = accessed.github.tokens
    assert dict(token.permissions) == {permission: "read"}, "it may do nothing else"


@pytest_twisted.ensureDeferred
async def test_what_an_app_lacks_is_told_and_no_token_is_asked_for(accessed: Accessed) -> None:
    await accessed.install()
    with pytest.raises(StackitError, match=r'"Repository permissions: Webhooks: Read-only", and accept that for octo'):
        await accessed.access.client(REPO)
    assert not any(accessed.github.tokens.minted.values())


@pytest_twisted.ensureDeferred
async def test_without_anybody_the_ways_out_are_told(accessed: Accessed) -> None:
    with pytest.raises(StackitError, match=r"name a token_file .* in \[\[repos\]\], or an App"):
        await accessed.access.client(REPO)
    with pytest.raises(StackitError, match=r"name a token_file .* in \[\[owners\]\], or an App"):
        await accessed.access.client(OWNER)
    with pytest.raises(StackitError, match=r"no \[\[apps\]\] is called main"):
        await accessed.access.client(APP)


@pytest.mark.parametrize("target", [REPO, OWNER], ids=str)
@pytest_twisted.ensureDeferred
async def test_who_adds_a_repository_cannot_have_its_owners_token_sent_to_another_host(
    accessed: Accessed, target: HookTarget
) -> None:
    file = accessed.directory / "token"
    file.write_text("ghp_of_nobody_0123456789\n")
    accessed.owners["octo"] = Labelled(OwnerTable(name="octo", token_file=file), "owners[1]")
    elsewhere = ManagedRepo(
        repo=Repo("octo", "widget"), url="https://evil.example.org/octo/widget.git", source="people"
    )
    accessed.repos.replace([elsewhere])
    assert (await accessed.access.client(target)).api_url == "https://api.github.com"
    found = ManagedRepo(repo=Repo("octo", "gadget"), url="https://ghe.example.org/octo/gadget.git", source="discover")
    accessed.repos.replace([elsewhere, found])
    assert (await accessed.access.client(target)).api_url == "https://ghe.example.org/api/v3"


@pytest_twisted.ensureDeferred
async def test_a_file_with_a_token_comes_before_an_app(accessed: Accessed) -> None:
    await accessed.install(repository_hooks="write")
    file = accessed.directory / "token"
    file.write_text("ghp_of_nobody_0123456789\n")
    accessed.repos.replace([ManagedRepo(repo=Repo("octo", "widget"), url=accessed.github.url("octo/widget"))])
    accessed.owners["octo"] = Labelled(OwnerTable(name="octo", token_file=file), "owners[1]")
    client = await accessed.access.client(REPO, write=True)
    assert client.api_url == accessed.github.api_url
    with pytest.raises(ApiError) as refused:
        await client.get(REPO.list_route, list[Hook], **REPO.values)
    assert refused.value.reason == "unauthorized"
    file.unlink()
    with pytest.raises(StackitError, match=r"token file .* cannot be read: No such file"):
        await client.get(REPO.list_route, list[Hook], **REPO.values)


@pytest.mark.parametrize(
    ("url", "api"),
    [
        ("https://github.com/octo/widget.git", "https://api.github.com"),
        ("ssh://git@github.com/octo/widget.git", "https://api.github.com"),
        ("https://octo.ghe.com/octo/widget.git", "https://api.octo.ghe.com"),
        ("https://git.example.org:8443/octo/widget.git", "https://git.example.org:8443/api/v3"),
        ("ssh://git@git.example.org:2222/octo/widget.git", "https://git.example.org/api/v3"),
        ("http://127.0.0.1:8080/octo/widget.git", "http://127.0.0.1:8080/api/v3"),
        ("file:///srv/git/widget.git", "https://api.github.com"),
    ],
)
def test_the_api_is_that_of_the_github_where_the_repositories_are(url: str, api: str) -> None:
    assert api_of(url) == api


@pytest.mark.parametrize("target", [REPO, OWNER], ids=str)
@pytest_twisted.ensureDeferred
async def test_the_webhook_that_is_meant_is_the_known_one_else_the_one_that_sends_here(
    accessed: Accessed, target: HookTarget
) -> None:
    await accessed.install(repository_hooks="read", organization_hooks="read")
    none = await inspect(target, accessed.access, WANTED, None)
    assert [each.kind for each in none.faults] == ["missing"]
    other = accessed.hook(target, "https://staging.example.org/api/webhooks/github")
    accessed.hook(target, "https://chat.example.org/hooks/1")
    near = await inspect(target, accessed.access, WANTED, None)
    assert near.found is None
    assert f"the one with the id {other} sends to https://staging.example.org" in near.faults[0].text
    known = await inspect(target, accessed.access, WANTED, other)
    assert known.found is not None
    assert [each.kind for each in known.faults] == ["elsewhere"]
    right = accessed.hook(target)
    for id_of_before in (None, 4711):
        found = await inspect(target, accessed.access, WANTED, id_of_before)
        assert found.found is not None
        assert (found.found.id, found.faults) == (right, ())
    gone = await inspect(target, accessed.access, WantedHook(urls=("https://x.example.org/",)), 4711)
    assert [each.kind for each in gone.faults] == ["deleted"]
