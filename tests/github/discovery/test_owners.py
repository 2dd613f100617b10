"""Listings of organizations and users, with a token."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest_twisted
from discovery_harness import DiscoveryHarness

from stackit.config.discover import DiscoverTable

READ = {"contents": "read", "metadata": "read"}


async def by_token(harness: DiscoveryHarness, directory: Path, kind: str, login: str, person: str) -> str:
    """Have the repositories of an owner discovered, with a token that ``person`` made for them; return it."""
    github = harness.github
    owner = github.owners.get(login, "Organization" if kind == "organization" else "User")
    token = github.tokens.personal(github.owners.get(person, "User"), owner, permissions=READ).value
    (directory / "token").write_text(f"{token}\n")
    table = DiscoverTable(token_file=directory / "token", api_url=github.api_url)
    harness.tables = (msgspec.structs.replace(table, **{kind: login}),)
    return token


@pytest_twisted.ensureDeferred
async def test_the_repositories_of_an_organization_are_found_and_git_gets_the_same_token(
    harness: DiscoveryHarness, tmp_path: Path
) -> None:
    await by_token(harness, tmp_path, "organization", "octo", "hubot")
    await harness.github.create("octo/public")
    await harness.github.create("octo/private", private=True)
    await harness.github.create("acme/other")
    (report,) = await harness.look()
    assert (report.listing, report.problem) == ("organization octo", None)
    assert harness.names() == {"octo/public", "octo/private"}
    record = harness.record("octo/private")
    assert (record.app, record.token_file) == (None, str(tmp_path / "token"))
    assert record.url == f"{harness.github.web_url}/octo/private.git"
    await harness.github.admin.rename("octo/private", "hidden")
    assert await harness.changes() == {"octo/hidden": "moved"}


@pytest_twisted.ensureDeferred
async def test_the_limit_of_a_token_is_not_that_of_an_app_of_the_owners_name(
    harness: DiscoveryHarness, tmp_path: Path
) -> None:
    await by_token(harness, tmp_path, "organization", "main", "hubot")
    await harness.look()
    by_key = dict(harness.clients.limits)
    assert by_key[str(tmp_path / "token")].allowances
    assert not by_key["main"].allowances, "that is the App's"
    samples = [sample for family in harness.clients.counts.collect() for sample in family.samples]
    labels = {each.labels["app"] for each in samples if each.name == "stackit_github_rate_limit_remaining"}
    assert labels == {str(tmp_path / "token")}


@pytest_twisted.ensureDeferred
async def test_a_user_whose_own_token_it_is_has_private_repositories_found_too(
    harness: DiscoveryHarness, tmp_path: Path
) -> None:
    await by_token(harness, tmp_path, "user", "hubot", "hubot")
    await harness.github.create("hubot/public")
    await harness.github.create("hubot/private", private=True)
    assert set(await harness.changes()) == {"hubot/public", "hubot/private"}


@pytest_twisted.ensureDeferred
async def test_a_token_that_is_refused_or_belongs_to_somebody_else_removes_nothing_unseen(
    harness: DiscoveryHarness, tmp_path: Path
) -> None:
    token = await by_token(harness, tmp_path, "organization", "octo", "hubot")
    await harness.github.create_many("octo", 12)
    await harness.look()
    harness.github.tokens.revoke(token)
    (report,) = await harness.look()
    assert report.problem is not None
    assert token not in report.problem
    (tmp_path / "token").write_text("")
    (report,) = await harness.look()
    assert report.problem == f"token file {tmp_path / 'token'} does not hold one token"
    # One that sees public repositories alone has a listing that is complete, and lacks them all.
    other = harness.github.tokens.personal(
        harness.github.owners.get("stranger", "User"), harness.github.owners.get("acme"), permissions=READ
    )
    (tmp_path / "token").write_text(other.value)
    (report,) = await harness.look()
    assert report.problem is None
    assert report.held is not None
    assert harness.states() == {"held": 12}
