"""The watch over webhooks, and changes of secrets, in simulated time on a pretend GitHub."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest_twisted
from twisted.internet.defer import Deferred

from stackit import AdminRequest, Event, ManagedRepo, Occurrence, RefChange, Repo, Response
from stackit.api.errors import JournalError
from stackit.api.repos import Repos
from stackit.config.apps import AppConfig
from stackit.config.model import Config, HooksConfig
from stackit.config.scopes import ScopedSecret
from stackit.github.api import ApiClients
from stackit.github.apps import Apps
from stackit.github.hooks.part import HooksPart
from stackit.github.hooks.rotation import KEEP_OLD
from stackit.secrets.redactor import Redactor
from stackit.testing.github import PretendGitHub
from stackit.testing.github_api.hooks import Hook
from stackit.testing.timelapse import Timelapse
from stackit.text.units import Duration

PUBLIC = "https://stackit.example.org"
URL = f"{PUBLIC}/api/v1/webhooks/github"
GRANTED = {"contents": "read", "metadata": "read", "repository_hooks": "write", "organization_hooks": "write"}


class Documents:
    """The documents of a journal."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.is_open = True

    async def put(self, collection: str, documents: Mapping[str, bytes | None]) -> None:
        assert collection == "hooks"
        for key, each in documents.items():
            self.kept.pop(key, None)
            if each is not None:
                self.kept[key] = each

    def documents_now(self, collection: str) -> dict[str, bytes]:
        assert collection == "hooks"
        if not self.is_open:
            raise JournalError("the journal is not open yet")
        return dict(self.kept)

    async def documents(self, collection: str, keys: Any = None) -> dict[str, bytes]:
        return self.documents_now(collection)


class Watching:
    """The part, of which nothing is received: what it would hear of is told by ``hear``."""

    def __init__(self, time: Timelapse, github: PretendGitHub, directory: Path) -> None:
        self.time = time
        self.github = github
        self.directory = directory
        self.notices: list[str] = []
        self.refreshed = 0
        self.repos = Repos()
        self.journal = Documents()
        self.app = github.apps.create("main", owner="octo", permissions=GRANTED)
        key, self.secret_file = directory / "key.pem", directory / "secret"
        key.write_text(self.app.private_key)
        self.secret_file.write_text(self.app.webhook_secret)
        web, api = github.web_url, github.api_url
        self.config = Config(
            state_dir=directory,
            public_url=PUBLIC,
            hooks=HooksConfig(interval=Duration(600)),
            apps=(AppConfig(name="main", issuer=str(self.app.id), private_key_file=key, api_url=api, web_url=web),),
        )
        self.clients = ApiClients(time, time.now, notice=self.notices.append)
        self.apps = Apps(
            self.config.apps,
            reactor=time,
            now=time.now,
            clients=self.clients,
            redact=Redactor(),
            notice=self.notices.append,
        )
        self.part = self._part()

    def another(self, tell_leader: Any = None, *, what_was_heard: Any = None, was_told: Any = None) -> HooksPart:
        """The part at another node."""
        return self._part(tell_leader=tell_leader, tell_what_was_heard=what_was_heard, was_told=was_told)

    def _part(self, **more: Any) -> HooksPart:
        def refresh() -> None:
            self.refreshed += 1

        return HooksPart(
            reactor=self.time,
            now=self.time.now,
            apps=self.apps,
            clients=self.clients,
            repos=self.repos,
            config=lambda: self.config,
            journal=self.journal,
            patterns=lambda: {"push"},
            refresh=refresh,
            notice=self.notices.append,
            **more,
        )

    def change(self, **settings: Any) -> None:
        self.config = Config(**{each: getattr(self.config, each) for each in Config.__struct_fields__} | settings)

    async def restart(self) -> None:
        """End the part, and have another one from what it left."""
        await self.part.stop()
        self.part = self._part()
        self.part.start()

    async def do(self, action: str, **query: str) -> Response:
        """Ask a route, and let the time pass that the answer takes."""
        asked = self.ask(action, **query)
        for _ in range(60):
            if asked.called:
                break
            await self.time.pass_time(2.0)
        return await asked

    def ask(self, action: str, **query: str) -> Deferred[Response]:
        (route,) = [each for each in self.part.routes() if each.path.endswith(f"/hooks/{action}")]
        request = AdminRequest(method="POST", path=route.path, args={}, query=query, body=b"")

        async def handle() -> Response:
            answer: Any = await route.handler(request)  # type: ignore[misc]  # all of them are coroutines
            assert isinstance(answer, Response)
            return msgspec.structs.replace(answer, body=msgspec.to_builtins(answer.body))

        return Deferred.fromCoroutine(handle())

    def hear(self, file: Path | str, **more: Any) -> None:
        """Have a delivery verify by the secret in a file."""
        plugin: Any = self.part.plugin()
        plugin.stackit_observe(Occurrence(name="accepted", verified_by=str(file), **more))

    def app_hook(self, url: str) -> Hook:
        hook = self.github.hooks.of_app(self.app)
        hook.config.url = url
        return hook

    def alarms(self) -> list[str]:
        return list(self.part.problems())


@pytest_twisted.async_yield_fixture
async def watching(tmp_path: Path) -> AsyncIterator[Watching]:
    from twisted.internet import reactor  # noqa: PLC0415

    time = Timelapse(reactor)
    github = PretendGitHub(time.now)
    await github.start(reactor, tmp_path / "github")
    await github.create("octo/widget")
    made = Watching(time, github, tmp_path)
    await made.app.install("octo")
    made.part.start()
    yield made
    await made.part.stop()
    await made.apps.stop()
    await made.clients.close()
    await github.stop()


@pytest_twisted.ensureDeferred
async def test_an_app_that_is_of_use_for_its_tokens_alone_has_no_webhook_to_watch(watching: Watching) -> None:
    for url in ("", "https://another.example.org/hook"):
        watching.app_hook(url)
        await watching.time.pass_time(600)
        assert watching.alarms() == []
    watching.app_hook(URL).config.content_type = "form"
    await watching.time.pass_time(600)
    (alarm,) = watching.alarms()
    assert "sends form, and not json; mend it: stackit hook update app:main" in alarm
    watching.app_hook("https://another.example.org/hook")
    watching.change(scoped_secrets=(ScopedSecret("app:main", watching.secret_file),))
    await watching.time.pass_time(600)
    assert any(f"sends to https://another.example.org/hook, and not to {URL}" in each for each in watching.alarms())


@pytest_twisted.ensureDeferred
async def test_the_secret_of_an_owner_may_be_that_of_the_webhooks_of_repositories(watching: Watching) -> None:
    watching.change(scoped_secrets=(ScopedSecret("owner:octo", watching.secret_file),))
    await watching.time.pass_time(20)
    (alarm,) = watching.alarms()
    assert alarm == (
        "the webhook of octo is not there: GitHub tells stackit of nothing; mend it: stackit hook create octo"
    )
    watching.hear(watching.secret_file, event="push", repo=Repo("octo", "widget"))
    await watching.time.pass_time(600)
    assert watching.alarms() == []
    await watching.restart()  # which is remembered
    await watching.time.pass_time(20)
    assert watching.alarms() == []
    watching.journal.is_open = False
    await watching.restart()  # also where the journal cannot be read at the start
    watching.journal.is_open = True
    await watching.time.pass_time(20)
    assert watching.alarms() == []
    answer = await watching.do("create", hook="octo")
    assert answer.status == 200
    (hook,) = watching.github.hooks.of("organization", watching.github.owners.get("octo").id)
    assert (hook.config.url, hook.events) == (URL, ["meta", "push"])
    assert hook.config.secret == watching.app.webhook_secret, "the one that the configuration has for it"
    watching.github.hooks.remove(hook)
    await watching.time.pass_time(600)
    assert "was deleted at GitHub" in watching.alarms()[0]
    assert (await watching.do("forget", hook="octo")).status == 200


@pytest_twisted.ensureDeferred
async def test_a_new_secret_that_no_delivery_has_shown_waits_for_one_and_outlives_a_restart(watching: Watching) -> None:
    assert (await watching.do("create", hook="octo/widget")).status == 200
    (hook,) = watching.github.hooks.of("repository", watching.github.repositories.of("octo/widget").id)
    current = watching.directory / "webhook-secrets" / "repo+octo+widget"
    upcoming = current.with_name("repo+octo+widget+next")
    old = hook.config.secret
    assert current.read_text().strip() == old
    answer = await watching.do("rotate", hook="octo/widget")
    assert answer.status == 200
    assert (answer.body["done"], answer.body["secret_file"]) == ("waiting", str(upcoming))
    assert hook.config.secret == upcoming.read_text().strip() != old
    assert current.read_text().strip() == old, "both are valid"
    await watching.restart()
    refreshed = watching.refreshed
    watching.hear(current)
    await watching.time.pass_time(KEEP_OLD + 1)
    assert upcoming.exists(), "a delivery by the old one proves nothing"
    watching.hear(upcoming)
    await watching.time.pass_time(KEEP_OLD / 2)
    assert current.read_text().strip() == old, "deliveries may be under way"
    await watching.time.pass_time(KEEP_OLD)
    assert current.read_text().strip() == hook.config.secret
    assert not upcoming.exists()
    assert watching.refreshed == refreshed + 1
    assert watching.notices[-1] == (
        "the webhook of octo/widget: GitHub signs with the new secret, and the old one is removed"
    )
    said = " ".join(watching.notices)
    assert str(old) not in said
    assert str(hook.config.secret) not in said


@pytest_twisted.ensureDeferred
async def test_a_change_that_github_refuses_leaves_both_secrets_and_the_next_command_goes_on(
    watching: Watching,
) -> None:
    await watching.do("create", hook="octo/widget")
    (hook,) = watching.github.hooks.of("repository", watching.github.repositories.of("octo/widget").id)
    old = hook.config.secret
    (installation,) = watching.app.installations
    await installation.withdraw("repository_hooks")
    answer = await watching.do("rotate", hook="octo/widget")
    assert answer.status == 502
    assert hook.config.secret == old
    await installation.grant(repository_hooks="write")
    assert (await watching.do("rotate", hook="octo/widget")).body["done"] == "waiting"
    new = hook.config.secret
    assert (await watching.do("rotate", hook="octo/widget")).body["done"] == "waiting"
    assert hook.config.secret == new != old, "it is the same new one, however often"


@pytest_twisted.ensureDeferred
async def test_one_change_of_a_secret_at_a_time(watching: Watching) -> None:
    await watching.do("create", hook="octo/widget")
    first = watching.ask("rotate", hook="octo/widget")
    await watching.time.pass_time(3)
    second = await watching.do("rotate", hook="octo/widget")
    assert second.status == 502
    assert "is being changed already" in second.body["error"]
    await watching.time.pass_time(60)
    assert (await first).body["done"] == "waiting"


@pytest_twisted.ensureDeferred
async def test_a_command_ends_the_change_that_was_about_to_end_by_itself(watching: Watching) -> None:
    await watching.do("create", hook="octo/widget")
    (hook,) = watching.github.hooks.of("repository", watching.github.repositories.of("octo/widget").id)
    assert (await watching.do("rotate", hook="octo/widget")).body["done"] == "waiting"
    current = watching.directory / "webhook-secrets" / "repo+octo+widget"
    upcoming = watching.directory / "webhook-secrets" / "repo+octo+widget+next"
    watching.hear(upcoming)
    await watching.time.pass_time(KEEP_OLD - 2)
    again = watching.ask("rotate", hook="octo/widget", keep_old="60s")
    await watching.time.pass_time(5)
    assert upcoming.exists(), "the command has not seen a delivery yet"
    watching.hear(upcoming)
    await watching.time.pass_time(50)
    assert upcoming.exists(), "the command says how long the old secret stays"
    await watching.time.pass_time(30)
    assert (await again).body["done"] == "changed"
    assert current.read_text().strip() == hook.config.secret
    assert not upcoming.exists()


@pytest_twisted.ensureDeferred
async def test_the_secret_of_an_app_that_was_set_up_here_stays_in_its_file(watching: Watching) -> None:
    watching.change(scoped_secrets=(ScopedSecret("app:main", watching.secret_file),))
    hook = watching.app_hook(URL)
    old = watching.app.webhook_secret
    answered = watching.ask("rotate", hook="app:main")
    await watching.time.pass_time(2)
    assert (await answered).body["done"] == "waiting", "GitHub has no delivery to send again"
    assert watching.secret_file.read_text() == old
    watching.hear(watching.directory / "webhook-secrets" / "app+main+next")
    await watching.time.pass_time(KEEP_OLD + 1)
    assert watching.secret_file.read_text().strip() == hook.config.secret != old
    assert list((watching.directory / "webhook-secrets").iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_what_an_app_does_not_tell_of_is_named_with_the_page_that_grants_it(watching: Watching) -> None:
    watching.app_hook(URL)
    watching.app.events = ["repository"]
    del watching.app.permissions["metadata"]
    await watching.time.pass_time(20)
    page = (
        f"{watching.github.web_url}/organizations/octo/settings/apps/main/permissions, then stackit hook check app:main"
    )
    assert watching.alarms() == [
        f"the webhook of the App main does not tell of push, which a handler wants; mend it: {page}",
        "the webhook of the App main is of use only in part: the App lacks the permission metadata: read; "
        f"mend it: {page}",
    ]
    watching.app.events, watching.app.permissions["metadata"] = ["push", "repository"], "read"
    await watching.time.pass_time(600)
    assert watching.alarms() == []
    hook = watching.app_hook("https://old.example.org/api/v1/webhooks/github")
    hook.config.content_type = "form"
    assert (await watching.do("update", hook="app:main")).status == 200
    assert (hook.config.url, hook.config.content_type) == (URL, "json")
    assert hook.config.secret == watching.app.webhook_secret


@pytest_twisted.ensureDeferred
async def test_a_webhook_that_tells_of_its_end_is_looked_at_at_once_and_believed_where_nobody_may_look(
    watching: Watching,
) -> None:
    await watching.do("create", hook="octo/widget")
    number = watching.github.repositories.of("octo/widget").id
    (hook,) = watching.github.hooks.of("repository", number)
    plugin: Any = watching.part.plugin()
    body = b'{"action":"deleted","hook_id":7,"hook":{"type":"Repository"}}'
    repo = Repo("octo", "widget")
    told = Event(name="meta", action="deleted", id="1", delivery="d", received_at=0.0, body=body, repo=repo)
    await plugin.deleted(told)
    assert watching.alarms() == [], "the one that is watched is there"
    watching.github.hooks.remove(hook)
    await plugin.deleted(told)
    assert watching.alarms() == [
        "the webhook of octo/widget was deleted at GitHub; mend it: stackit hook create octo/widget"
    ]
    await watching.do("create", hook="octo/widget")
    assert watching.alarms() == []
    (installation,) = watching.app.installations
    await installation.uninstall()
    asked = Deferred.fromCoroutine(plugin.deleted(told))
    await watching.time.pass_time(60)
    await asked
    assert "was deleted at GitHub" in watching.alarms()[0]


@pytest_twisted.ensureDeferred
async def test_the_end_of_a_webhook_that_nobody_watches_is_told(watching: Watching) -> None:
    plugin: Any = watching.part.plugin()
    body = b'{"action":"deleted","hook_id":7,"hook":{"type":"Organization"},"organization":{"login":"acme"}}'
    told = Event(name="meta", action="deleted", id="1", delivery="d", received_at=0.0, body=body)
    await plugin.deleted(told)
    assert watching.notices == [
        "the webhook of acme (id 7) was deleted at GitHub; make another: stackit hook create acme"
    ]
    assert watching.alarms() == []


@pytest_twisted.ensureDeferred
async def test_an_apps_secret_tells_of_the_end_of_no_other_webhook(watching: Watching) -> None:
    plugin: Any = watching.part.plugin()
    for body, repo in (
        (b'{"action":"deleted","hook":{"type":"Organization"},"organization":{"login":"acme"}}', None),
        (b'{"action":"deleted","hook":{"type":"Repository"}}', Repo("octo", "widget")),
    ):
        told = Event(
            name="meta",
            action="deleted",
            id="1",
            delivery="d",
            received_at=0.0,
            body=body,
            repo=repo,
            signer="app:main",
        )
        await plugin.deleted(told)
    assert [each for each in [*watching.notices, *watching.alarms()] if "deleted" in each] == []


@pytest_twisted.ensureDeferred
async def test_what_nobody_may_look_at_is_unknown_and_no_alarm(watching: Watching) -> None:
    (installation,) = watching.app.installations
    await installation.withdraw("organization_hooks")
    watching.change(scoped_secrets=(ScopedSecret("owner:octo", watching.secret_file),))
    await watching.time.pass_time(20)
    assert watching.alarms() == []
    (hook,) = [each for each in watching.part.status() if each.hook == "octo"]
    assert 'may not see webhooks of octo: give it "Organization permissions: Webhooks: Read-only"' in str(hook.problem)
    (family,) = [each for collector in watching.part.collectors() for each in collector.collect()]
    assert {sample.labels["fault"]: sample.value for sample in family.samples}["unchecked"] == 1
    # It is granted, and no event told of that.
    installation.permissions["organization_hooks"] = "read"
    await watching.time.pass_time(600)
    assert "is not there" in watching.alarms()[0]


@pytest_twisted.ensureDeferred
async def test_with_an_interval_of_0_github_is_asked_nothing(watching: Watching) -> None:
    watching.app_hook(URL).config.content_type = "form"
    watching.change(hooks=HooksConfig(interval=Duration(0)))
    watching.part.change(watching.config)()
    await watching.time.pass_time(3600)
    assert watching.alarms() == []
    watching.change(hooks=HooksConfig(interval=Duration(600)))
    watching.part.change(watching.config)()
    await watching.time.pass_time(20)
    assert len(watching.alarms()) == 1


@pytest_twisted.ensureDeferred
async def test_a_key_that_github_refuses_is_named_as_that(watching: Watching) -> None:
    watching.app_hook(URL)
    await watching.app.delete_keys()
    (shown,) = (await watching.do("check", hook="app:main")).body["hooks"]
    assert shown["problem"].startswith("App main: GitHub refuses its key: put a valid one in ")
    answer = await watching.do("update", hook="app:main")
    assert (answer.status, answer.body["error"]) == (502, shown["problem"])


@pytest_twisted.ensureDeferred
async def test_what_makes_no_sense_is_refused_with_the_way_out(watching: Watching) -> None:
    for action, query, status, text in (
        ("create", {"hook": ""}, 400, "expected app:NAME, ORGANIZATION or OWNER/NAME"),
        ("create", {"hook": "app:main"}, 502, "stackit hook update app:main"),
        ("create", {"hook": "app:other"}, 502, "an App has its webhook from the start"),
        ("ping", {"hook": "app:other"}, 502, "no [[apps]] is called other (there are: main)"),
        ("ping", {"hook": "app:main"}, 502, "to send again: push to a repository that it is installed for"),
        ("create", {"hook": "octo/none"}, 502, "GitHub shows no octo/none to this App or token: check the name"),
        ("update", {"hook": "octo/widget"}, 502, "is not there: stackit hook create octo/widget"),
        ("update", {"hook": "octo/widget", "id": "7"}, 502, "there is no webhook with the id 7"),
        ("rotate", {"hook": "octo/widget", "keep_old": "soon"}, 400, "keep_old: "),
        ("forget", {"hook": "octo/widget"}, 502, "stackit knows nothing of the webhook of octo/widget"),
    ):
        answer = await watching.do(action, **query)
        assert (answer.status, text in answer.body["error"]) == (status, True), answer.body
    watching.change(public_url=None)
    assert "set public_url" in (await watching.do("create", hook="octo/widget")).body["error"]


@pytest_twisted.ensureDeferred
async def test_a_node_that_does_not_lead_tells_the_leader_of_the_end_of_a_webhook(watching: Watching) -> None:
    told: list[str] = []

    async def tell_leader(text: str) -> None:
        told.append(text)

    other = watching.another(tell_leader)
    plugin: Any = other.plugin()
    body = b'{"action":"deleted","hook_id":7,"hook":{"type":"Organization"},"organization":{"login":"acme"}}'
    await plugin.deleted(Event(name="meta", action="deleted", id="1", delivery="d", received_at=0.0, body=body))
    assert (watching.notices, told) == ([], ["acme 7"])
    assert await watching.part.told_of_end(told[0])
    assert watching.notices == [
        "the webhook of acme (id 7) was deleted at GitHub; make another: stackit hook create acme"
    ]


@pytest_twisted.ensureDeferred
async def test_a_node_that_leads_again_knows_the_webhooks_that_another_one_has_made_meanwhile(
    watching: Watching,
) -> None:
    await watching.restart()
    await watching.part.stop()
    calls = len(watching.github.api.calls)
    watching.part.change(watching.config)()
    await watching.time.pass_time(700)
    assert len(watching.github.api.calls) == calls  # it looks at nothing
    watching.journal.kept["owner:octo"] = b'{"scope":"owner:octo","id":5}'
    watching.part.start()
    await watching.time.pass_time(60)
    assert any("octo" in each for each in watching.alarms())


@pytest_twisted.ensureDeferred
async def test_a_new_secret_counts_that_another_node_has_heard_of(watching: Watching) -> None:
    told: list[str] = []

    async def tell(text: str) -> None:
        told.append(text)

    await watching.restart()
    other = watching.another(what_was_heard=tell)
    assert (await watching.do("create", hook="octo/widget")).status == 200
    assert (await watching.do("rotate", hook="octo/widget")).body["done"] == "waiting"
    current = watching.directory / "webhook-secrets" / "repo+octo+widget"
    upcoming = current.with_name("repo+octo+widget+next")
    secret = upcoming.read_text()
    plugin: Any = other.plugin()
    for label in (str(current), str(upcoming), None):
        plugin.stackit_observe(Occurrence(name="accepted", verified_by=label, repo=Repo("octo", "widget")))
    assert len(told) == 1
    assert str(watching.directory) not in told[0]  # it may be another directory there
    assert await watching.part.hear(told[0])
    assert not await watching.part.hear("{")
    await watching.time.pass_time(2 * KEEP_OLD)
    assert current.read_text() == secret
    assert not upcoming.exists()


@pytest_twisted.ensureDeferred
async def test_a_ping_counts_that_another_node_has_heard(watching: Watching) -> None:
    told: list[str] = []

    async def tell(text: str) -> None:
        told.append(text)

    await watching.do("create", hook="octo/widget")
    plugin: Any = watching.another(what_was_heard=tell).plugin()
    asked = watching.ask("ping", hook="octo/widget")
    await watching.time.pass_time(1)
    plugin.stackit_observe(
        Occurrence(name="accepted", outcome="ping", verified_by="a label", repo=Repo("octo", "widget"))
    )
    assert await watching.part.hear(told[0])
    await watching.time.pass_time(1)
    assert (await asked).body["done"] == "pinged"


@pytest_twisted.ensureDeferred
async def test_a_webhook_is_silent_only_if_no_node_was_told_of_what_the_backstop_of_any_found(
    watching: Watching,
) -> None:
    await watching.do("create", hook="octo/widget")
    watching.repos.replace([ManagedRepo(repo=Repo("octo", "widget"), url="https://github.com/octo/widget.git")])
    told: list[str] = []

    async def tell(text: str) -> None:
        told.append(text)

    asked: list[tuple[str, float]] = []
    answers = [True, False]

    async def was_told(repo: Repo, since: float) -> bool:
        asked.append((str(repo), since))
        return answers.pop(0) if len(answers) > 1 else answers[0]

    await watching.part.stop()
    watching.part = watching.another(was_told=was_told)
    watching.part.start()
    plugin: Any = watching.another(what_was_heard=tell).plugin()
    moved = (RefChange("refs/heads/main", "0" * 40, "1" * 40, "updated"),)
    for alarms in (0, 1):
        plugin.stackit_observe(
            Occurrence(name="refs_changed", cause="backstop", changes=moved, repo=Repo("octo", "widget"))
        )
        assert await watching.part.hear(told.pop())
        await watching.time.pass_time(1300)
        assert sum("is silent" in each for each in watching.alarms()) == alarms
    assert [name for name, _ in asked[:2]] == ["octo/widget", "octo/widget"]
    assert asked[0][1] < watching.time.now() - 1300
