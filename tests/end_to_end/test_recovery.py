"""An outage, over the whole of stackit: what GitHub could not deliver is taken from its list, each once."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest_twisted
from outside import Notebook, mirror_refs
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet import reactor

from stackit.service.github_status import GitHubStatus
from stackit.testing import PretendGitHub, RunningStackit
from stackit.testing.github_api.apps import PretendApp
from stackit.testing.github_api.hooks import HookConfig

EVENTS = int(os.environ.get("STACKIT_TEST_MISSED", "500"))
DAY = 86400.0
LIST, ONE, ATTEMPTS = (f"/app/hook/deliveries{rest}" for rest in ("", "/{delivery_id}", "/{delivery_id}/attempts"))
REPOS = ("octo/widget", "octo/gadget")


class Outage:
    """A stackit with one App on two repositories, and a notebook that handles pushes and issues, and no stars."""

    def __init__(self, github: PretendGitHub, directory: Path) -> None:
        self.github = github
        self.app: PretendApp = github.apps.create(events=["push", "issues", "star"])
        self.notebook = Notebook(directory / "notebook")
        module = directory / "notebook" / "notebook.py"
        module.write_text(module.read_text().replace('@on("*")', '@on("push", "issues")'))
        files = {"app.pem": self.app.private_key, "app-secret": self.app.webhook_secret}
        for name, content in files.items():
            (directory / name).write_text(content)
            (directory / name).chmod(0o600)
        self.config: dict[str, Any] = {
            "sync": {"interval": "0"},
            "recovery": {"pause": "0", "retention": "3d"},
            "apps": [
                {
                    "name": "main",
                    "app_id": self.app.id,
                    "private_key_file": str(directory / "app.pem"),
                    "secret_files": [str(directory / "app-secret")],
                    "api_url": github.api_url,
                }
            ],
            "repos": [{"name": repo, "url": github.url(repo), "app": "main"} for repo in REPOS],
            "plugins": {"notebook": self.notebook.table},
        }
        self.server = RunningStackit(
            reactor, directory, config=self.config, secret=None, environment=self.notebook.environment
        )

    @property
    def hook(self) -> Any:
        return self.github.hooks.of_app(self.app)

    async def start(self) -> None:
        """Start stackit, and wait until it has looked at the list and taken what was missed."""
        await self.server.start()
        self.hook.config.url = self.server.webhook_url

        async def has_looked() -> bool:
            return await self.metric("stackit_github_recovery_last_success_timestamp_seconds") > 0

        await self.server.until(has_looked, "a look at the list")

    def count(self, route: str) -> int:
        return self.github.api.count(route)

    async def until(self, found: Any, what: str) -> None:
        async def ask() -> Any:
            return found()

        await self.server.until(ask, what, within="5m")  # each delivery is one write to the disk, or more

    async def events(self, count: int) -> dict[str, str]:
        """Let so many things happen at GitHub, of which every tenth is a star.

        Nothing answers: some are judged so by GitHub, others without any judgement. Returns the ids of those that are
        wanted, oldest first, each with its repository.
        """
        self.hook.spoil("lost", count // 2)
        self.hook.spoil("refused", count - count // 2)
        wanted = {}
        for number in range(count):
            repo = REPOS[number % 2]
            if number % 10 == 9:
                payload = {"action": "created", "repository": self.github.repository(repo), "starred_at": None}
                await self.github.hooks.send(self.hook, "star", payload)
            elif number % 50 < 2:
                wanted[(await self.github.push(repo)).guid] = repo
            else:
                payload = {
                    "action": "opened",
                    "repository": self.github.repository(repo),
                    "issue": {"number": number},
                    "sender": {"login": "hubot"},
                }
                wanted[(await self.github.hooks.send(self.hook, "issues", payload)).guid] = repo
        return wanted

    async def redeliver(self, guid: str) -> int | None:
        """Have GitHub send a delivery again; return the status of the answer."""
        sent = await self.github.hooks.redeliver(self.hook, self.hook.deliveries.latest(guid))
        return sent.status

    async def metric(self, name: str) -> float:
        text = (await self.server.admin("GET", "/metrics")).body.decode()
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        values = [each.value for each in samples if each.name == name and each.labels == {"hook": "app:main"}]
        return float(*values)


@pytest_twisted.async_yield_fixture
async def outage(pretend_github: PretendGitHub, tmp_path: Path) -> AsyncIterator[Outage]:
    for repo in REPOS:
        await pretend_github.create(repo)
    made = Outage(pretend_github, tmp_path)
    await made.app.install("octo")
    yield made
    await made.server.stop()


@pytest_twisted.ensureDeferred
async def test_every_missed_delivery_reaches_its_plugin_once_oldest_first(outage: Outage) -> None:
    github, server, notebook = outage.github, outage.server, outage.notebook
    await outage.start()
    first = (await github.push("octo/widget")).guid
    await server.wait_for(first)
    await server.kill()
    wanted = await outage.events(EVENTS)
    outage.hook.spoil("timed_out")  # a person tries in vain: another entry of the same event
    await outage.redeliver(list(wanted)[5])
    await outage.start()
    await outage.until(lambda: len(notebook.seen()) == len(wanted) + 1, "every missed delivery")
    await server.until(lambda: _nothing_pending(server), "the end of all handlings")
    for repo in REPOS:
        seen = [note["guid"] for note in notebook.read() if note["repo"] == repo and note["guid"] != first]
        assert seen == [guid for guid in wanted if wanted[guid] == repo]  # each once, oldest first
    assert outage.count(ONE) == len(wanted)
    assert outage.count(ATTEMPTS) == 0
    assert github.api.refusals == []
    assert await outage.metric("stackit_github_deliveries_recovered_total") == len(wanted)
    receipt = await server.receipt(next(iter(wanted)))
    assert receipt is not None
    assert (receipt["via"], receipt["hook"]) == ("api", str(outage.hook.id))
    for repo in REPOS:
        assert await mirror_refs(server, repo) == await github.refs(repo)
    # One of them comes after all.
    outage.hook.config.url = server.webhook_url
    assert await outage.redeliver(list(wanted)[-1]) == 202
    await server.stop()
    await outage.start()
    await server.until(lambda: _nothing_pending(server), "the second start")
    assert outage.count(ONE) == len(wanted)
    assert set(notebook.seen().values()) == {1}


async def _nothing_pending(server: RunningStackit) -> bool:
    status = (await server.admin("GET", "{prefix}/status")).json()
    return bool(status["pending"] == 0)


@pytest_twisted.ensureDeferred
async def test_a_kill_while_they_are_taken_repeats_and_leaves_none(outage: Outage) -> None:
    server = outage.server
    await outage.start()
    await server.kill()
    wanted = await outage.events(60)
    for part in (10, 25):
        await server.start()
        await outage.until(lambda part=part: outage.count(ONE) >= part, "a part of them")
        await server.kill()
    await server.start()
    await outage.until(lambda: set(outage.notebook.seen()) == set(wanted), "every missed delivery")
    listed = (await server.admin("GET", "{prefix}/deliveries", limit="200")).json()["deliveries"]
    assert sorted(each["delivery"] for each in listed) == sorted(wanted)  # one record of each
    assert {each["via"] for each in listed} == {"api"}
    # Fetched again is what was in hand when the process died, and the one that told the id of the hook.
    assert outage.count(ONE) <= len(wanted) + 2 * 2
    assert outage.count(ATTEMPTS) == 0


@pytest_twisted.ensureDeferred
async def test_an_outage_longer_than_githubs_memory_is_admitted_and_everything_compared(outage: Outage) -> None:
    github, server = outage.github, outage.server
    await outage.start()
    await server.stop()
    pushes: list[list[str]] = []
    for day in range(4):
        github.clock.advance(DAY)
        pushes.append([(await github.push(repo)).guid for repo in REPOS])
        await github.commit("octo/widget", f"refs/heads/day-{day}")  # nobody is told of it
    github.clock.advance(60)
    gone, kept = pushes[0], [guid for day in pushes[1:] for guid in day]
    await outage.start()
    await outage.until(lambda: "may be lost" in server.log, "the admission")
    await outage.until(lambda: set(outage.notebook.seen()) == set(kept), "what is still there")
    await outage.until(lambda: "everything was compared with GitHub" in server.log, "the comparison")
    for repo in REPOS:
        assert await mirror_refs(server, repo) == await github.refs(repo)
    ready = (await server.admin("GET", "/readyz")).json()
    assert [line for line in ready.get("problems", []) if "may be lost" in line] == []
    answer = (await server.admin("GET", "{prefix}/github")).json()
    msgspec.convert(answer, GitHubStatus)  # it is as it is described
    (state,) = answer["recovery"]
    (lost,) = state["lost"]
    assert f"deliveries of app:main from {lost['from']} to {lost['to']} may be lost" in server.log
    assert lost["reconciled_at"] is not None
    seconds = await outage.metric("stackit_github_deliveries_lost_seconds_total")
    assert DAY < seconds < 1.2 * DAY
    assert set(gone).isdisjoint(outage.notebook.seen())
    assert await outage.metric("stackit_github_lost_until_timestamp_seconds") > 0  # the alert
    answer = await server.admin("POST", "{prefix}/recover", acknowledge="1")
    assert answer.json() == {"acknowledged": 1}
    assert await outage.metric("stackit_github_lost_until_timestamp_seconds") == 0


@pytest_twisted.ensureDeferred
async def test_a_reload_that_adds_an_app_looks_at_its_list_at_once(outage: Outage) -> None:
    server = outage.server
    apps, repos = outage.config["apps"], outage.config["repos"]
    outage.config |= {"apps": [], "repos": []}
    server._config = ""
    await server.start()
    assert outage.count(LIST) == 0
    await server.reload(outage.config | {"apps": apps, "repos": repos})
    await outage.until(lambda: outage.count(LIST) == 1, "a look at the list of the new App")


@pytest_twisted.ensureDeferred
async def test_deliveries_of_a_repositorys_own_hook_are_taken_too(outage: Outage, tmp_path: Path) -> None:
    github, server = outage.github, outage.server
    permissions = {"contents": "read", "metadata": "read", "repository_hooks": "read"}
    await outage.app.installations[0].grant(**permissions)
    secret = tmp_path / "widget-secret"
    secret.write_text("the secret of the widget")
    secret.chmod(0o600)
    await server.start()
    config = HookConfig(url=server.webhook_url, content_type="json", secret="the secret of the widget")
    own = github.hooks.create("repository", github.repositories.of("octo/widget").id, config, events=["push"])
    table = {"name": "octo/widget", "url": github.url("octo/widget"), "app": "main", "secret_files": [str(secret)]}
    await server.reload(outage.config | {"public_url": server.url, "hooks": {"interval": "0.5s"}, "repos": [table]})
    name = f"repo:octo/widget/{own.id}"

    async def has_looked() -> bool:
        await server.admin("POST", "{prefix}/recover")
        states = (await server.admin("GET", "{prefix}/github")).json()["recovery"]
        return name in [each["hook"] for each in states if each["seen_at"] is not None]

    await server.until(has_looked, "a look at the list of the hook", within=60)
    assert (await github.push("octo/widget")).status == 202
    await server.stop()
    own.spoil("lost", 3)
    missed = [(await github.push("octo/widget")).guid for _ in range(3)]
    await server.start()
    await outage.until(lambda: set(missed) <= set(outage.notebook.seen()), "what the hook could not deliver")
    receipt = await server.receipt(missed[0])
    assert receipt is not None
    assert (receipt["via"], receipt["hook"]) == ("api", str(own.id))
    assert github.api.count("/repos/{owner}/{repo}/hooks/{hook_id}/deliveries/{delivery_id}") == 3
    assert set(outage.notebook.seen().values()) == {1}
