"""The roles of people who are in: looked up every ten minutes, and at once when GitHub tells of a change."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest_twisted
from shared_journals import PretendNode, SharedJournals

from stackit.api.events import Event
from stackit.github.login.pins import Pins
from stackit.github.login.roles import EVERY, GRACE
from stackit.testing.values import event as make_event

from .conftest import Browser, Login


async def inside(login: Login) -> None:
    """Have octocat log in as an operator."""
    members = login.github.members
    members.join(login.octo, login.octocat)
    members.join_team(members.team(login.octo, "ops"), login.octocat)
    assert (await Browser(login).log_in()).status == 303
    login.part.start()
    await login.time.pass_time(10.0)
    assert roles(login) == ["operator"]


def roles(login: Login) -> list[str]:
    return [each.role for each in login.door.people()]


@pytest_twisted.ensureDeferred
async def test_who_leaves_a_team_or_the_organization_is_less_within_ten_minutes(login: Login) -> None:
    await inside(login)
    login.github.members.team(login.octo, "ops").members.clear()
    await login.time.pass_time(EVERY)
    assert roles(login) == ["viewer"]
    await login.github.admin.rename_owner("octocat", "monalisa")
    await login.time.pass_time(EVERY)
    assert [each.login for each in login.door.people()] == ["monalisa"], "a member by whatever name"
    login.github.members.leave(login.octo, login.octocat)
    await login.time.pass_time(EVERY)
    assert roles(login) == []
    assert any("is logged out" in each for each in login.notices)


@pytest_twisted.ensureDeferred
async def test_somebody_else_with_the_login_of_a_member_is_none(login: Login) -> None:
    """GitHub goes on telling of the login, and the id is another one."""
    await inside(login)
    gone = login.octocat
    await login.github.admin.rename_owner("octocat", "monalisa")
    login.github.members.leave(login.octo, gone)
    squatter = login.person("octocat")
    login.github.members.join(login.octo, squatter)
    await login.time.pass_time(EVERY)
    assert roles(login) == []


@pytest_twisted.ensureDeferred
async def test_while_github_is_down_a_role_is_believed_for_an_hour(login: Login) -> None:
    await inside(login)
    login.github.api.faults.begin("/orgs/{org}/memberships/{username}", "html_503")
    await login.time.pass_time(EVERY * 2)
    assert roles(login) == ["operator"]
    told = [each for each in login.notices if "not known anew" in each]
    assert len(told) == 1, "once, however often it is tried"
    assert login.part.status()["problems"]
    await login.time.pass_time(GRACE)
    assert roles(login) == []


@pytest_twisted.ensureDeferred
async def test_when_github_answers_again_nobody_was_logged_out(login: Login) -> None:
    await inside(login)
    login.github.api.faults.begin("/user/{account_id}", "html_503")
    await login.time.pass_time(GRACE - EVERY)
    login.github.api.faults.heal()
    await login.time.pass_time(EVERY)
    assert (roles(login), login.part.status()["problems"]) == (["operator"], [])
    await login.time.pass_time(GRACE)
    assert roles(login) == ["operator"]


@pytest_twisted.ensureDeferred
async def test_another_app_or_none_ends_the_sessions_of_all(login: Login) -> None:
    await inside(login)
    login.let_in(app=None)
    login.part.change(login.config)()
    await login.time.pass_time(5.0)
    assert roles(login) == []


def event(name: str, payload: dict[str, Any], signer: str = "") -> Event:
    return msgspec.structs.replace(make_event(name, payload=payload), signer=signer)


@pytest_twisted.ensureDeferred
async def test_an_event_of_a_member_has_them_looked_at_at_once(login: Login) -> None:
    await inside(login)
    plugin: Any = login.part.plugin()
    login.github.members.leave(login.octo, login.octocat)
    about = {"action": "member_removed", "membership": {"user": {"id": login.octocat.id}}}
    await plugin.organization(event("organization", about))
    await login.time.pass_time(5.0)
    assert roles(login) == []


@pytest_twisted.ensureDeferred
async def test_an_event_of_somebody_else_costs_no_requests(login: Login) -> None:
    await inside(login)
    plugin: Any = login.part.plugin()
    before = len(login.github.api.calls)
    await plugin.membership(event("membership", {"action": "removed", "member": {"id": 1}}))
    await login.time.pass_time(5.0)
    assert len(login.github.api.calls) == before
    await plugin.team(event("team", {"action": "deleted"}))
    await login.time.pass_time(5.0)
    assert len(login.github.api.calls) > before


@pytest_twisted.ensureDeferred
async def test_a_revoked_authorization_ends_the_senders_sessions_and_only_the_app_may_tell(login: Login) -> None:
    await inside(login)
    plugin: Any = login.part.plugin()
    about = {"action": "revoked", "sender": {"id": login.octocat.id}}
    for signer in ("", "owner:octo", "repo:octo/main", "app:other"):
        await plugin.github_app_authorization(event("github_app_authorization", about, signer))
    assert roles(login) == ["operator"]
    await plugin.github_app_authorization(
        event("github_app_authorization", {**about, "sender": {"id": login.octo.id}}, "app:main")
    )
    assert roles(login) == ["operator"]
    await plugin.github_app_authorization(event("github_app_authorization", about, "app:main"))
    assert roles(login) == []


@pytest_twisted.ensureDeferred
async def test_one_node_of_a_fleet_looks_at_everybody_and_the_next_leader_goes_on(login: Login) -> None:
    await inside(login)
    await login.part.stop()
    login.node = PretendNode("b", leads=False)
    await login.restart()
    login.part.start()
    login.github.members.team(login.octo, "ops").members.clear()
    calls = len(login.github.api.calls)
    await login.time.pass_time(2 * EVERY)
    assert len(login.github.api.calls) == calls
    login.node.lead(True)
    await login.time.pass_time(EVERY)
    assert roles(login) == ["viewer"]


@pytest_twisted.ensureDeferred
async def test_the_account_that_any_node_saw_first_has_a_login_for_all_of_them(login: Login) -> None:
    shared = SharedJournals(login.time)
    journals = [shared.node(), shared.node()]
    first, second = (Pins(each, login.time) for each in journals)
    assert await login.done(second.get("octocat")) is None
    assert await login.done(first.pin("octocat", 5)) == 5
    assert await login.done(second.pin("Octocat", 6)) == 5
    await login.done(first.keep([]))
    await login.time.pass_time(1)
    assert await login.done(second.get("octocat")) is None
    for each in (first, second):
        await each.stop()
