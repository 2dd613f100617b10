"""The client of GitHub's API that plugins get for a repository."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from stackit import ApiError, ManagedRepo, Repo, StackitError
from stackit.github.apps.repository_client import RepositoryClient

WIDGET = Repo("octo", "widget")
COMMENTS = "/repos/{owner}/{repo}/issues/{number}/comments"
WRITE = {"contents": "read", "metadata": "read", "issues": "write"}


class Plugin:
    """A plugin's view of a harness: ``managed`` are the repositories that stackit knows, by any name of theirs."""

    def __init__(self, harness: Any) -> None:
        self._harness = harness
        self.managed: dict[Repo, ManagedRepo] = {}

    def github(self, repo: Repo = WIDGET) -> RepositoryClient:
        return RepositoryClient(self._harness.apps, repo, self.managed.get)

    async def outcome(self, asked: Any) -> Any:
        """The outcome of a request, while time passes."""
        running = Deferred.fromCoroutine(asked)
        await self._harness.until(lambda: running.called, 60)
        return await running


@pytest.fixture
def plugin(harness: Any) -> Plugin:
    return Plugin(harness)


async def installed(harness: Any, name: str, *owners: str) -> Any:
    app = harness.github.apps.create(name, permissions=WRITE)
    for owner in owners:
        await app.install(owner)
    return harness.config(app, name)


@pytest_twisted.ensureDeferred
async def test_a_plugin_reads_and_writes_with_what_the_installation_grants(harness: Any, plugin: Plugin) -> None:
    await harness.github.create("octo/widget", private=True)
    harness.apps.change([await installed(harness, "main", "octo")])
    github = plugin.github()
    assert (await plugin.outcome(github.get("/repos/{owner}/{repo}", dict)))["full_name"] == "octo/widget"
    await plugin.outcome(github.send("POST", COMMENTS, {"body": "Thank you!"}, number=7))

    async def comments() -> list[Any]:
        return [page async for page in github.pages(COMMENTS, list[dict[str, Any]], number=7)]

    assert [[each["body"] for each in page] for page in await plugin.outcome(comments())] == [["Thank you!"]]
    assert harness.github.api.refusals == []


@pytest_twisted.ensureDeferred
async def test_the_app_of_a_repository_asks_and_else_the_first_that_is_installed(harness: Any, plugin: Plugin) -> None:
    await harness.github.create("octo/widget", private=True)
    configs = [await installed(harness, "one", "hubot"), await installed(harness, "two", "octo")]
    configs.append(await installed(harness, "three", "octo"))
    harness.apps.change(configs)
    await plugin.outcome(plugin.github().get("/repos/{owner}/{repo}", dict))
    plugin.managed[WIDGET] = ManagedRepo(repo=WIDGET, url="https://github.com/octo/widget.git", app="three")
    await plugin.outcome(plugin.github().get("/repos/{owner}/{repo}", dict))
    owners = [call.caller for call in harness.github.api.calls if call.route == "/repos/{owner}/{repo}"]
    names = {f"installation:{each.id}": each.app.name for each in harness.github.apps.installations.values()}
    assert [names[each] for each in owners] == ["two", "three"]


@pytest_twisted.ensureDeferred
async def test_a_former_name_leads_to_the_repository(harness: Any, plugin: Plugin) -> None:
    await harness.github.create("octo/gadget", private=True)
    harness.apps.change([await installed(harness, "main", "octo")])
    now = Repo("octo", "gadget")
    plugin.managed[WIDGET] = ManagedRepo(repo=now, url="https://github.com/octo/gadget.git", app="main")
    found = await plugin.outcome(plugin.github().get("/repos/{owner}/{repo}", dict))
    assert found["full_name"] == "octo/gadget"


@pytest_twisted.ensureDeferred
async def test_who_may_not_ask_is_told_why(harness: Any, plugin: Plugin) -> None:
    with pytest.raises(StackitError, match=r"configure one with \[\[apps\]\]"):
        await plugin.github().get("/repos/{owner}/{repo}", dict)
    harness.apps.change([await installed(harness, "main", "hubot")])
    with pytest.raises(StackitError, match="App main is not installed for octo"):
        await plugin.outcome(plugin.github().get("/repos/{owner}/{repo}", dict))
    with pytest.raises(StackitError, match="is not at GitHub"):
        await plugin.github(Repo("octo", "widget", host="git.example.org")).get("/x", dict)
    with pytest.raises(ApiError) as problem:
        await plugin.outcome(plugin.github(Repo("hubot", "spoon")).get("/repos/{owner}/{repo}", dict))
    assert problem.value.reason == "not_found"


@pytest_twisted.ensureDeferred
async def test_an_owner_is_another_apps_once_that_is_known_to_be_installed_there_alone(harness: Any) -> None:
    configs = [await installed(harness, "main", "octo", "acme"), await installed(harness, "other", "acme")]
    harness.apps.change(configs)
    assert not harness.apps.is_anothers("other", "octo"), "nothing is asked for that"
    for app in harness.apps:
        await harness.done(app.installations())
    assert harness.apps.is_anothers("other", "Octo")
    for name, owner in (("main", "octo"), ("main", "acme"), ("Other", "acme"), ("other", "hubot")):
        assert not harness.apps.is_anothers(name, owner)
