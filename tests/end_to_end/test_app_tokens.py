"""Tokens of GitHub Apps, as an operator meets them: renewed unseen, refused for a reason, and never by all at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest_twisted
from outside import check_log, mirror_refs
from twisted.internet.defer import Deferred

from stackit.service.github_status import GitHubStatus
from stackit.testing import RunningStackit
from stackit.testing.github import PretendGitHub
from stackit.testing.github_api.apps import Installation, PretendApp

Start = Callable[..., Awaitable[RunningStackit]]
HOUR = 3600.0


async def installed(github: PretendGitHub, name: str, repo: str) -> tuple[PretendApp, Installation]:
    """An App on the repositories of an owner, one of which is there, private, and has a commit."""
    app = github.apps.create(name)
    made = await app.install(repo.partition("/")[0])
    await github.create(repo, private=True)
    await github.commit(repo)
    return app, made


def tables(directory: Path, github: PretendGitHub, apps: dict[str, PretendApp], **more: Any) -> dict[str, Any]:
    """The configuration of Apps by their names, each of the repository that it is on."""
    for name, app in apps.items():
        (directory / f"{name}.pem").write_text(app.private_key)
        (directory / f"{name}-secret").write_text(app.webhook_secret)
    return {
        "sync": {"interval": "1h"},
        "apps": [
            {
                "name": name,
                "app_id": app.id,
                "private_key_file": directory / f"{name}.pem",
                "secret_files": [directory / f"{name}-secret"],
                "api_url": github.api_url,
            }
            for name, app in apps.items()
        ],
        "repos": [
            {"name": str(repository.repo), "app": name}
            for name, app in apps.items()
            for repository in app.installations[0].repositories()
        ],
    } | more


def send_to(github: PretendGitHub, stackit: RunningStackit, *apps: PretendApp) -> None:
    """Have the webhooks of Apps send to a stackit."""
    for app in apps:
        github.hooks.of_app(app).config.url = stackit.webhook_url


async def mirrored(stackit: RunningStackit, github: PretendGitHub, repo: str) -> None:
    """Wait until a mirror is in step, and equal to its repository."""

    async def is_equal() -> bool:
        in_step = await state(stackit, repo) == "in_step"
        return in_step and await mirror_refs(stackit, repo) == await github.refs(repo)

    await stackit.until(is_equal, f"the mirror of {repo}")


async def state(stackit: RunningStackit, repo: str) -> str:
    """The state of a mirror, "" for one that is not managed."""
    return str((await stackit.admin("GET", f"{{prefix}}/repos/{repo}")).json().get("state", ""))


async def count(stackit: RunningStackit, name: str, **labels: str) -> float:
    """The sum of the samples of a metric with these labels."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    samples = (await stackit.metrics()).items()
    return sum(value for key, value in samples if key.startswith(name) and all(each in key for each in wanted))


@pytest_twisted.ensureDeferred
async def test_three_hours_of_pushes_cost_four_tokens_and_no_failure(
    pretend_github: PretendGitHub, running_stackit: Start, tmp_path: Path
) -> None:
    github = pretend_github
    app, installation = await installed(github, "stackit", "octo/widget")
    found = {"repos": [], "discover": [{"app": "main"}]}
    stackit = await running_stackit(config=tables(tmp_path, github, {"main": app}) | found)
    send_to(github, stackit, app)
    await mirrored(stackit, github, "octo/widget")
    for _ in range(24):
        github.clock.advance(450)  # which stackit does not know: GitHub refuses the token before stackit renews it
        sent = await github.push("octo/widget")
        assert sent.status == 202
        await stackit.wait_for(sent.guid, visible=True)
    assert await mirror_refs(stackit, "octo/widget") == await github.refs("octo/widget")
    assert github.tokens.minted[installation.id] <= 4
    assert await count(stackit, "stackit_mirror_syncs_total", outcome="failed") == 0
    assert await count(stackit, "stackit_mirror_fallbacks_total", reason="status") == 0
    assert await count(stackit, "stackit_github_token_mints_total", app="main", result="made") <= 4
    assert await count(stackit, "stackit_github_token_mints_total", app="main", result="failed") == 0
    check_log(stackit.log)


@pytest_twisted.ensureDeferred
async def test_a_clone_that_outlives_its_token_finishes_its_later_steps(
    pretend_github: PretendGitHub, running_stackit: Start, tmp_path: Path
) -> None:
    github = pretend_github
    app, installation = await installed(github, "stackit", "octo/widget")
    config = tables(tmp_path, github, {"main": app})
    github.fault("octo/widget", "drip", pause=0.004)
    stackit = await running_stackit(config=config)

    async def is_listed() -> bool:
        return any(each.command == "ls-refs" for each in github.requests)

    await stackit.until(is_listed, "the list of refs")
    github.clock.advance(HOUR + 1)
    github.heal("octo/widget")
    await mirrored(stackit, github, "octo/widget")
    assert github.tokens.minted[installation.id] == 2
    assert await state(stackit, "octo/widget") == "in_step"
    assert await count(stackit, "stackit_mirror_syncs_total", outcome="failed") == 0


@pytest_twisted.ensureDeferred
async def test_a_new_token_is_given_the_time_to_become_known_and_a_revoked_one_is_replaced(
    pretend_github: PretendGitHub, running_stackit: Start, tmp_path: Path
) -> None:
    github = pretend_github
    github.tokens.format, github.tokens.replication_delay = "long", 4.0
    app, installation = await installed(github, "stackit", "octo/widget")
    stackit = await running_stackit(config=tables(tmp_path, github, {"main": app}))
    send_to(github, stackit, app)
    await mirrored(stackit, github, "octo/widget")
    assert github.tokens.minted[installation.id] == 1
    github.tokens.replication_delay = 0.0
    github.tokens.revoke_all(installation)
    sent = await github.push("octo/widget")
    await stackit.wait_for(sent.guid, visible=True)
    assert github.tokens.minted[installation.id] == 2
    assert await count(stackit, "stackit_mirror_syncs_total", outcome="failed") == 0
    assert await state(stackit, "octo/widget") == "in_step"
    for token in github.tokens._tokens:
        assert token not in stackit.log
        assert token.encode() not in (await stackit.admin("GET", "{prefix}/github")).body


@pytest_twisted.ensureDeferred
async def test_a_deleted_key_is_told_once_and_is_no_matter_to_other_apps(
    pretend_github: PretendGitHub, running_stackit: Start, tmp_path: Path
) -> None:
    github = pretend_github
    app, installation = await installed(github, "stackit", "octo/widget")
    other, _ = await installed(github, "other", "acme/tool")
    stackit = await running_stackit(config=tables(tmp_path, github, {"main": app, "other": other}))
    send_to(github, stackit, app, other)
    await mirrored(stackit, github, "octo/widget")
    await mirrored(stackit, github, "acme/tool")
    await app.delete_keys()
    github.tokens.revoke_all(installation)
    before = github.api.count("/app/installations/{installation_id}/access_tokens")
    for _ in range(3):
        await github.push("octo/widget")
        assert (await stackit.sync("octo/widget")).status == 503
    assert await state(stackit, "octo/widget") == "no_access"
    assert github.api.count("/app/installations/{installation_id}/access_tokens") - before <= 2
    notices = [line for line in stackit.log.splitlines() if "notice" in line and "GitHub refuses its key" in line]
    assert len(notices) == 1
    ready = await stackit.admin("GET", "/readyz")
    assert [each for each in ready.json()["problems"] if each.startswith("App main: GitHub refuses its key")]
    assert await count(stackit, "stackit_github_app_authorized", app="main") == 0
    assert await count(stackit, "stackit_github_app_authorized", app="other") == 1
    sent = await github.push("acme/tool")
    await stackit.wait_for(sent.guid, visible=True)
    assert await state(stackit, "acme/tool") == "in_step"
    # Another key in the file is tried by itself, and the mirror follows without a push.
    (tmp_path / "main.pem").write_text(app.add_key())
    await mirrored(stackit, github, "octo/widget")
    assert (await stackit.admin("GET", "/readyz")).status == 200


@pytest_twisted.ensureDeferred
async def test_a_suspended_installation_is_a_state_and_its_end_is_seen_at_once(
    pretend_github: PretendGitHub, running_stackit: Start, tmp_path: Path
) -> None:
    github = pretend_github
    app, installation = await installed(github, "stackit", "octo/widget")
    stackit = await running_stackit(config=tables(tmp_path, github, {"main": app}))
    send_to(github, stackit, app)
    await mirrored(stackit, github, "octo/widget")
    await installation.suspend()

    async def is_suspended() -> bool:
        return await state(stackit, "octo/widget") == "suspended"

    await stackit.until(is_suspended, "the state suspended")
    listed = (await stackit.admin("GET", "{prefix}/repos/octo/widget")).json()
    assert listed["error"] == "App main has no token for it now: stackit status says why", "no round has met it"
    tried = github.api.count("/app/installations/{installation_id}/access_tokens")
    await github.commit("octo/widget")
    for _ in range(5):
        answer = await stackit.sync("octo/widget")
        assert answer.status == 503
        assert "is suspended: unsuspend it in the settings of octo" in answer.json()["error"]
    assert github.api.count("/app/installations/{installation_id}/access_tokens") == tried
    assert await mirror_refs(stackit, "octo/widget")  # what was there is there still
    answer = (await stackit.admin("GET", "{prefix}/github")).json()
    msgspec.convert(answer, GitHubStatus)  # it is as it is described
    (shown,) = answer["apps"][0]["installations"]
    assert (shown["account"], shown["state"]) == ("octo", "suspended")
    assert await count(stackit, "stackit_github_installations", app="main", state="suspended") == 1
    unsuspended = Deferred.fromCoroutine(installation.unsuspend())
    await mirrored(stackit, github, "octo/widget")
    await unsuspended
    assert (await stackit.admin("GET", "/readyz")).status == 200


@pytest_twisted.ensureDeferred
async def test_a_reload_takes_other_apps(pretend_github: PretendGitHub, running_stackit: Start, tmp_path: Path) -> None:
    github = pretend_github
    app, _ = await installed(github, "stackit", "octo/widget")
    other, _ = await installed(github, "other", "acme/tool")
    stackit = await running_stackit(config=tables(tmp_path, github, {"main": app}))
    await mirrored(stackit, github, "octo/widget")
    both = tables(tmp_path, github, {"main": app, "other": other})
    said = await stackit.reload(both)
    assert "apps" in said
    await mirrored(stackit, github, "acme/tool")
    assert github.tokens.minted[app.installations[0].id] == 1  # kept
    both["apps"][1]["token_per"] = "repository"
    assert "apps" in await stackit.reload(both)
    await github.commit("acme/tool")
    await stackit.sync("acme/tool")
    await mirrored(stackit, github, "acme/tool")
    assert {each.repository_ids for each in github.tokens._tokens.values()} == {
        None,
        frozenset([github.repositories.of("acme/tool").id]),
    }
    refused = await stackit.reload(tables(tmp_path, github, {"main": app}) | {"repos": both["repos"]})
    assert "no [[apps]] is called 'other' (there are: main)" in refused
