"""Clients of GitHub by other authors, unchanged, against the pretend GitHub.

githubkit's models are made from GitHub's OpenAPI description, and reject what has another shape; PyGithub is written by
hand, and older than many of the routes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import githubkit
import msgspec
import pytest
import pytest_twisted
import treq
from github import Auth, Github, GithubException, GithubIntegration
from githubkit import webhooks
from githubkit.cache import MemCacheStrategy
from hook_receiver import HookReceiver
from twisted.internet.threads import deferToThread

from stackit.testing.github import PretendGitHub
from stackit.testing.github_api.apps import Installation

Result = TypeVar("Result")

GRANTED = {
    "contents": "read",
    "metadata": "read",
    "members": "read",
    "organization_hooks": "write",
    "repository_hooks": "write",
}


@pytest_twisted.async_yield_fixture
async def receiver() -> AsyncIterator[HookReceiver]:
    found = HookReceiver()
    yield found
    await found.close()


@pytest_twisted.async_yield_fixture
async def octo(github: PretendGitHub, receiver: HookReceiver) -> AsyncIterator[Installation]:
    """An App on all repositories of octo: a public one and a private one."""
    await github.create("octo/widget")
    await github.create("octo/secret", private=True)
    app = github.apps.create(permissions=GRANTED, events=["push", "repository"])
    github.hooks.of_app(app).config.url = receiver.url
    yield await app.install("octo")


async def blocking(function: Callable[[], Result]) -> Result:
    """Run a client that blocks, while the pretend GitHub goes on."""
    found: Result = await deferToThread(function)
    return found


def as_app(github: PretendGitHub, installation: Installation) -> Any:
    """githubkit with the JWT of an App. It keeps tokens by the id of the installation, so each client has its cache."""
    auth = githubkit.AppAuthStrategy(installation.app.id, installation.app.private_key)
    cache = MemCacheStrategy()
    return githubkit.GitHub(auth, base_url=github.api_url, http_cache=False, auto_retry=False, cache_strategy=cache)


def as_installation(github: PretendGitHub, installation: Installation) -> Any:
    """githubkit with tokens of an installation, which it fetches by itself."""
    app = as_app(github, installation)
    return app.with_auth(app.auth.as_installation(installation.id))


@pytest_twisted.ensureDeferred
async def test_githubkit_understands_apps_installations_and_their_repositories(
    github: PretendGitHub, octo: Installation
) -> None:
    app, installed = as_app(github, octo), as_installation(github, octo)

    def ask() -> None:
        assert app.rest.apps.get_authenticated().parsed_data.slug == octo.app.slug
        [listed] = app.rest.apps.list_installations().parsed_data
        assert (listed.id, listed.account.login, listed.suspended_at) == (octo.id, "octo", None)
        assert app.rest.apps.get_installation(octo.id).parsed_data == listed
        assert app.rest.apps.get_org_installation("octo").parsed_data == listed
        assert app.rest.apps.get_repo_installation("octo", "widget").parsed_data == listed
        token = app.rest.apps.create_installation_access_token(
            octo.id, repositories=["widget"], permissions={"contents": "read"}
        ).parsed_data
        assert [each.name for each in token.repositories] == ["widget"]
        page = installed.rest.apps.list_repos_accessible_to_installation(per_page=1)
        assert page.parsed_data.total_count == 2
        every = installed.rest.paginate(
            installed.rest.apps.list_repos_accessible_to_installation,
            map_func=lambda response: response.parsed_data.repositories,
            per_page=1,
        )
        assert [each.full_name for each in every] == ["octo/widget", "octo/secret"]
        assert [each.name for each in installed.rest.repos.list_for_org("octo").parsed_data] == ["widget", "secret"]
        one = installed.rest.repos.get("octo", "secret").parsed_data
        assert (one.private, one.visibility, one.owner.id) == (True, "private", octo.owner.id)

    await blocking(ask)


@pytest_twisted.ensureDeferred
async def test_githubkit_follows_a_repository_that_was_renamed(github: PretendGitHub, octo: Installation) -> None:
    number = github.repositories.of("octo/widget").id
    await github.admin.rename("octo/widget", "gadget")
    installed = as_installation(github, octo)
    found = await blocking(lambda: installed.rest.repos.get("octo", "widget").parsed_data)
    assert (found.id, found.full_name) == (number, "octo/gadget")


@pytest_twisted.ensureDeferred
async def test_githubkit_understands_accounts_memberships_and_what_the_api_says_of_itself(
    github: PretendGitHub, octo: Installation
) -> None:
    hubot = github.owners.get("hubot", "User")
    github.members.join(octo.owner, hubot, role="admin")
    github.members.join_team(github.members.team(octo.owner, "ops"), hubot)
    installed = as_installation(github, octo)
    person = githubkit.GitHub(
        github.tokens.personal(hubot, octo.owner, permissions={"metadata": "read"}).value, base_url=github.api_url
    )

    def ask() -> None:
        rest = installed.rest
        assert rest.orgs.get("octo").parsed_data.id == octo.owner.id
        assert rest.users.get_by_username("hubot").parsed_data.id == hubot.id
        assert person.rest.users.get_authenticated().parsed_data.login == "hubot"
        membership = rest.orgs.get_membership_for_user("octo", "hubot").parsed_data
        assert (membership.state, membership.role) == ("active", "admin")
        assert person.rest.orgs.get_membership_for_authenticated_user("octo").parsed_data.user.id == hubot.id
        assert [each.login for each in rest.orgs.list_members("octo").parsed_data] == ["hubot"]
        assert rest.orgs.check_membership_for_user("octo", "hubot").status_code == 204
        assert rest.teams.get_membership_for_user_in_org("octo", "ops", "hubot").parsed_data.state == "active"
        assert [each.name for each in rest.repos.list_for_user("octo").parsed_data] == ["widget"]
        assert {each.full_name for each in person.rest.repos.list_for_authenticated_user().parsed_data} == {
            "octo/widget",
            "octo/secret",
        }
        limit = rest.rate_limit.get().parsed_data.resources.core
        assert limit.remaining == limit.limit - limit.used
        assert rest.meta.get().parsed_data.verifiable_password_authentication is False
        assert "2022-11-28" in map(str, rest.meta.get_all_versions().parsed_data)

    await blocking(ask)


@pytest.mark.parametrize("owner", ["organization", "repository"])
@pytest_twisted.ensureDeferred
async def test_githubkit_manages_webhooks(
    github: PretendGitHub, octo: Installation, receiver: HookReceiver, owner: str
) -> None:
    installed = as_installation(github, octo)
    rest, where = (
        (installed.rest.orgs, ("octo",)) if owner == "organization" else (installed.rest.repos, ("octo", "widget"))
    )
    config = {"url": receiver.url, "content_type": "json", "secret": "s3cret"}

    def manage() -> None:
        made = rest.create_webhook(*where, name="web", config=config, events=["push"]).parsed_data
        assert [each.id for each in rest.list_webhooks(*where).parsed_data] == [made.id]
        assert rest.get_webhook(*where, made.id).parsed_data.config.secret == "********"
        rest.update_webhook(*where, made.id, active=True, events=["push", "create"])
        update = rest.update_webhook_config_for_org if owner == "organization" else rest.update_webhook_config_for_repo
        assert update(*where, made.id, content_type="form").parsed_data.content_type == "form"
        assert rest.ping_webhook(*where, made.id).status_code == 204
        [*_, created] = rest.list_webhook_deliveries(*where, made.id).parsed_data
        assert created.event == "ping"
        whole = rest.get_webhook_delivery(*where, made.id, created.id).parsed_data
        assert (whole.guid, whole.request.payload.model_extra["hook_id"]) == (created.guid, made.id)
        assert rest.redeliver_webhook_delivery(*where, made.id, created.id).status_code == 202
        assert rest.delete_webhook(*where, made.id).status_code == 204

    await blocking(manage)
    await github.hooks.rest()


@pytest_twisted.ensureDeferred
async def test_githubkit_reads_the_webhook_of_an_app_and_its_deliveries(
    github: PretendGitHub, octo: Installation, receiver: HookReceiver
) -> None:
    sent = [(await github.push("octo/widget")).guid for _ in range(5)]
    app = as_app(github, octo)

    def ask() -> None:
        apps = app.rest.apps
        config = apps.get_webhook_config_for_app().parsed_data
        assert (config.url, config.secret) == (receiver.url, "********")
        assert apps.update_webhook_config_for_app(content_type="form").parsed_data.content_type == "form"
        page = apps.list_webhook_deliveries(per_page=2)
        assert [each.guid for each in page.parsed_data] == sent[:2:-1]
        whole = apps.get_webhook_delivery(page.parsed_data[0].id).parsed_data
        assert whole.request.payload.model_extra["repository"]["full_name"] == "octo/widget"
        assert apps.redeliver_webhook_delivery(page.parsed_data[0].id).status_code == 202

    await blocking(ask)
    await github.hooks.rest()


@pytest_twisted.ensureDeferred
async def test_githubkit_understands_every_event_of_a_change(
    github: PretendGitHub, octo: Installation, receiver: HookReceiver
) -> None:
    octo.app.events += ["meta", "public"]
    acme = await octo.app.install("acme")
    await octo.suspend()
    await octo.unsuspend()
    await octo.grant(contents="write")
    await octo.remove("octo/secret")
    await octo.add("octo/secret")
    await github.push("octo/widget")
    await github.admin.rename("octo/widget", "gadget")
    for change in (github.admin.archive, github.admin.unarchive, github.admin.privatize, github.admin.publicize):
        await change("octo/gadget")
    await github.admin.set_topics("octo/gadget", ["mirror"])
    await github.admin.transfer("octo/gadget", "acme")
    await github.admin.rename_owner("acme", "acme-labs")
    await github.create("acme-labs/new")
    await github.admin.delete("acme-labs/new")
    await acme.uninstall()
    known = {each.name for each in receiver.taken}
    for each in receiver.taken:
        webhooks.parse(each.event, each.body)
    assert known >= {
        "installation.created",
        "installation.deleted",
        "installation.new_permissions_accepted",
        "installation.suspend",
        "installation.unsuspend",
        "installation_repositories.added",
        "installation_repositories.removed",
        "installation_target.renamed",
        "push",
        "repository.archived",
        "repository.created",
        "repository.deleted",
        "repository.edited",
        "repository.privatized",
        "repository.publicized",
        "repository.renamed",
        "repository.transferred",
        "repository.unarchived",
    }


@pytest_twisted.ensureDeferred
async def test_githubkit_is_refused_in_githubs_words(github: PretendGitHub, octo: Installation) -> None:
    app = as_app(github, octo)

    def refused(ask: Callable[[], object]) -> tuple[int, str]:
        with pytest.raises(githubkit.exception.RequestFailed) as caught:
            ask()
        return caught.value.response.status_code, caught.value.response.json()["message"]

    def ask() -> list[tuple[int, str]]:
        return [
            refused(lambda: app.rest.apps.get_org_installation("nobody")),
            refused(lambda: app.rest.apps.create_installation_access_token(octo.id)),
        ]

    await octo.suspend()
    assert await blocking(ask) == [(404, "Not Found"), (403, "This installation has been suspended")]


@pytest_twisted.ensureDeferred
async def test_githubkit_knows_both_kinds_of_limits(github: PretendGitHub, octo: Installation) -> None:
    installed = as_installation(github, octo)
    limits = github.api.limits

    def refused(kind: type[Exception]) -> None:
        with pytest.raises(kind):
            installed.rest.repos.get("octo", "widget")

    await blocking(lambda: installed.rest.repos.get("octo", "widget"))
    for status in (403, 429):
        limits.exhaust(octo, status=status)
        await blocking(lambda: refused(githubkit.exception.PrimaryRateLimitExceeded))
        limits.lift(octo)
        limits.hold(octo, retry_after="60", status=status)
        await blocking(lambda: refused(githubkit.exception.SecondaryRateLimitExceeded))
        limits.lift(octo)
    await blocking(lambda: installed.rest.repos.get("octo", "widget"))


@pytest_twisted.ensureDeferred
async def test_githubkit_gets_what_it_has_for_nothing(github: PretendGitHub, octo: Installation) -> None:
    token = github.tokens.mint(octo).value
    caching = githubkit.GitHub(token, base_url=github.api_url, cache_strategy=MemCacheStrategy())

    def ask() -> list[str]:
        return [caching.rest.repos.get("octo", "widget").parsed_data.full_name for _ in range(3)]

    assert await blocking(ask) == ["octo/widget"] * 3
    answers = [each.status for each in github.api.calls if each.route == "/repos/{owner}/{repo}"]
    assert answers == [200, 304, 304]
    assert github.api.limits.of(octo).used == 1


@pytest_twisted.ensureDeferred
async def test_githubkit_comments_on_a_pull_request(github: PretendGitHub, octo: Installation) -> None:
    await octo.grant(pull_requests="write")
    installed = as_installation(github, octo)

    def comment() -> None:
        issues = installed.rest.issues
        made = issues.create_comment("octo", "widget", 7, body="Thank you.").parsed_data
        assert [each.id for each in issues.list_comments("octo", "widget", 7).parsed_data] == [made.id]
        assert made.user.login == f"{octo.app.slug}[bot]"

    await blocking(comment)
    assert github.comments.of("octo/widget", 7) == ["Thank you."]


# PyGithub


def pygithub(github: PretendGitHub, auth: Any) -> Any:
    return Github(auth=auth, base_url=github.api_url, retry=None, seconds_between_requests=0, seconds_between_writes=0)


def app_auth(installation: Installation) -> Any:
    return Auth.AppAuth(installation.app.id, installation.app.private_key)


@pytest_twisted.ensureDeferred
async def test_pygithub_lists_the_repositories_of_an_installation(github: PretendGitHub, octo: Installation) -> None:
    await github.create_many("octo", 68)

    def ask() -> list[str]:
        integration = GithubIntegration(auth=app_auth(octo), base_url=github.api_url)
        [installation] = list(integration.get_installations())
        assert integration.get_org_installation("octo").id == installation.id == octo.id
        assert integration.get_app().slug == octo.app.slug
        return [each.full_name for each in installation.get_repos()]

    assert await blocking(ask) == [str(each.repo) for each in octo.repositories()]


@pytest_twisted.ensureDeferred
async def test_pygithub_follows_a_rename_and_reads_by_a_token(github: PretendGitHub, octo: Installation) -> None:
    await github.admin.rename("octo/secret", "hidden")

    def ask() -> None:
        client = pygithub(github, app_auth(octo).get_installation_auth(octo.id))
        found = client.get_repo("octo/secret")
        assert (found.full_name, found.private, found.id) == (
            "octo/hidden",
            True,
            github.repositories.of("octo/hidden").id,
        )
        assert [each.name for each in client.get_organization("octo").get_repos()] == ["widget", "hidden"]
        with pytest.raises(GithubException) as caught:
            client.get_repo("octo/other")
        assert caught.value.status == 404

    await blocking(ask)


@pytest_twisted.ensureDeferred
async def test_pygithub_manages_webhooks_and_reads_their_deliveries(
    github: PretendGitHub, octo: Installation, receiver: HookReceiver
) -> None:
    config = {"url": receiver.url, "content_type": "json", "secret": "s3cret"}

    def make() -> Any:
        repo = pygithub(github, app_auth(octo).get_installation_auth(octo.id)).get_repo("octo/widget")
        made = repo.create_hook("web", config, ["push"], active=True)
        assert [each.id for each in repo.get_hooks()] == [made.id]
        made.edit("web", config, ["push", "create"])
        made.ping()
        return repo, made

    repo, made = await blocking(make)
    for _ in range(33):
        await github.push("octo/widget")

    def read() -> list[str]:
        deliveries = list(repo.get_hook_deliveries(made.id))
        assert (
            repo.get_hook_delivery(made.id, deliveries[0].id).request.payload["repository"]["full_name"]
            == "octo/widget"
        )
        assert repo.get_hook(made.id).last_response.code == 202
        made.delete()
        return [each.event for each in deliveries]

    assert sorted(await blocking(read)) == ["ping"] * 2 + ["push"] * 33


@pytest_twisted.ensureDeferred
async def test_githubkit_converts_a_manifest_and_logs_people_in(github: PretendGitHub, octo: Installation) -> None:
    app, hubot = octo.app, github.owners.get("hubot", "User")
    app.callback_urls = ["http://127.0.0.1:8081/done"]
    github.logins.device_flow.add(app.id)
    code = github.logins.authorize(app, hubot, app.callback_urls[0])
    manifest = {"url": "https://stackit.example", "redirect_url": "http://127.0.0.1:8081/made"}
    submitted = await treq.post(
        f"{github.web_url}/settings/apps/new",
        data={"manifest": msgspec.json.encode(manifest).decode()},
        allow_redirects=False,
        persistent=False,
    )
    made = submitted.headers.getRawHeaders("location")[0].partition("?code=")[2]

    def client(auth: Any) -> Any:
        return githubkit.GitHub(auth, base_url=github.api_url, http_cache=False, cache_strategy=MemCacheStrategy())

    def ask() -> None:
        with client(githubkit.UnauthAuthStrategy()) as anonymous:
            converted = anonymous.rest.apps.create_from_manifest(made).parsed_data
        assert converted.pem.startswith("-----BEGIN RSA PRIVATE KEY-----")
        oauth = githubkit.OAuthAppAuthStrategy(app.client_id, app.client_secret)
        with client(oauth.as_web_user(code)) as web:
            assert web.rest.users.get_authenticated().parsed_data.id == hubot.id

        def enter(codes: dict[str, Any]) -> None:
            github.logins.enter(codes["user_code"], hubot)

        device = githubkit.OAuthDeviceAuthStrategy(app.client_id, enter)
        with client(device) as other:
            assert other.rest.users.get_authenticated().parsed_data.id == hubot.id

    await blocking(ask)
