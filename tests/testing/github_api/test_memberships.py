"""Who belongs to what, as the pretend GitHub's API tells different askers."""

from __future__ import annotations

import pytest_twisted
from api_client import ApiClient

from stackit.testing.github import PretendGitHub
from stackit.testing.github_api.owners import Owner
from stackit.testing.http_client import Answer


def person(github: PretendGitHub, login: str) -> Owner:
    return github.owners.get(login, "User")


@pytest_twisted.ensureDeferred
async def test_an_app_that_may_sees_members_and_those_who_are_invited_only(
    github: PretendGitHub, api: ApiClient
) -> None:
    octo = github.owners.get("octo")
    github.members.join(octo, person(github, "hubot"), role="admin")
    github.members.join(octo, person(github, "octocat"), state="pending")
    person(github, "mona")
    app = github.apps.create(permissions={"members": "read", "metadata": "read"})
    token = await api.token(await app.install("octo"))

    async def membership(login: str) -> Answer:
        return await api.get(f"/orgs/octo/memberships/{login}", token)

    hubot = (await membership("hubot")).json()
    assert (hubot["state"], hubot["role"], hubot["user"]["login"]) == ("active", "admin", "hubot")
    assert (await membership("octocat")).json()["state"] == "pending"
    assert [(await membership(each)).status for each in ("mona", "nobody")] == [404, 404]
    # Who is invited is no member yet.
    statuses = [(await api.get(f"/orgs/octo/members/{each}", token)).status for each in ("hubot", "octocat", "mona")]
    assert statuses == [204, 404, 404]
    assert [each["login"] for each in (await api.get("/orgs/octo/members", token)).json()] == ["hubot"]
    github.members.leave(octo, person(github, "hubot"))
    assert (await membership("hubot")).status == 404


@pytest_twisted.ensureDeferred
async def test_who_is_outside_sees_public_members_only(github: PretendGitHub, api: ApiClient) -> None:
    octo = github.owners.get("octo")
    github.members.join(octo, person(github, "hubot"), public=True)
    github.members.join(octo, person(github, "octocat"))
    app = github.apps.create()
    token = await api.token(await app.install("octo"))
    assert (await api.get("/orgs/octo/memberships/hubot", token)).status == 403
    assert (await api.get("/orgs/octo/members/hubot", token)).status == 204
    hidden = await api.get("/orgs/octo/members/octocat", token)
    assert (hidden.status, hidden.headers["location"]) == (302, f"{github.web_url}/orgs/octo/public_members/octocat")
    assert (await api.get(hidden.headers["location"], token)).status == 404
    assert (await api.get("/orgs/octo/public_members/hubot")).status == 204
    assert [each["login"] for each in (await api.get("/orgs/octo/members", token)).json()] == ["hubot"]


@pytest_twisted.ensureDeferred
async def test_members_of_a_team_below_count(github: PretendGitHub, api: ApiClient) -> None:
    octo = github.owners.get("octo")
    ops = github.members.team(octo, "ops")
    github.members.join_team(github.members.team(octo, "night", parent=ops), person(github, "hubot"), role="maintainer")
    person(github, "octocat")
    app = github.apps.create(permissions={"members": "read", "metadata": "read"})
    token = await api.token(await app.install("octo"))
    found = (await api.get("/orgs/octo/teams/ops/memberships/hubot", token)).json()
    assert (found["state"], found["role"]) == ("active", "maintainer")
    for path in ("ops/memberships/octocat", "nothing/memberships/hubot"):
        assert (await api.get(f"/orgs/octo/teams/{path}", token)).status == 404


@pytest_twisted.ensureDeferred
async def test_a_person_sees_the_own_memberships(github: PretendGitHub, api: ApiClient) -> None:
    octo, hubot = github.owners.get("octo"), person(github, "hubot")
    github.members.join(octo, hubot, state="pending")
    token = github.tokens.personal(hubot, hubot, permissions={}).value
    assert (await api.get("/user/memberships/orgs/octo", token)).json()["state"] == "pending"
    github.owners.get("acme")
    assert (await api.get("/user/memberships/orgs/acme", token)).status == 404
    app = github.apps.create()
    installed = await api.token(await app.install("octo"))
    assert (await api.get("/user/memberships/orgs/octo", installed)).status == 403
