"""The login of a shell, against the pretend GitHub."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from stackit.api.nodes import Node
from stackit.api.peers import NoAffinity
from stackit.github.login.devices import MOST_OF_ONE
from stackit.github.login.oauth import GitHubUser
from stackit.github.login.steps import Entered

from .conftest import BASE, Login

POLL = "{prefix}/login/device/poll"
OTHER = "people log in by another GitHub than when this login began: begin again"


class Tells(NoAffinity):
    """The other node of a fleet, where a login began, and what it says of it."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def elsewhere(self, purpose: str, marked: str) -> Node | None:
        return Node(name="b") if (purpose, marked) == ("login", "theirs") else None

    async def ask(self, *_: object) -> bytes | None:
        return self._answer


async def begin(login: Login) -> Any:
    login.github.logins.device_flow.add(login.app.id)
    answer = await login.ask("POST", "{prefix}/login/device")
    assert answer.status == 201, answer
    return answer.body


async def poll(login: Login, device: str) -> Any:
    answer = await login.ask("POST", POLL, body=msgspec.json.encode({"device": device}))
    return answer.status, answer.body


@pytest_twisted.ensureDeferred
async def test_a_shell_waits_until_its_code_was_entered_and_gets_a_token_once(login: Login) -> None:
    login.github.members.join(login.octo, login.octocat)
    begun = await begin(login)
    assert begun["verification_uri"] == f"{login.github.web_url}/login/device"
    assert await poll(login, begun["device"]) == (200, {"state": "pending", "interval": 4.0}), (
        "what is left of five seconds"
    )
    asked = login.github.api.count("/login/oauth/access_token")
    assert asked == 0, "a question in haste goes no further"
    await login.time.pass_time(begun["interval"])
    assert (await poll(login, begun["device"]))[1]["state"] == "pending"
    login.github.logins.enter(begun["user_code"], login.octocat)
    await login.time.pass_time(begun["interval"])
    status, done = await poll(login, begun["device"])
    assert (status, done["state"], done["token"], done["role"]) == (200, "done", "stks_a-token", "viewer")
    assert (await poll(login, begun["device"]))[0] == 404
    assert login.github.api.refusals == []


@pytest_twisted.ensureDeferred
async def test_a_no_a_late_code_and_a_stranger_have_their_lines(login: Login) -> None:
    denied, stranger, late = await begin(login), await begin(login), await begin(login)
    login.github.logins.enter(denied["user_code"], login.octocat, deny=True)
    login.github.logins.enter(stranger["user_code"], login.octocat)
    await login.time.pass_time(5.0)
    status, body = await poll(login, denied["device"])
    assert (status, "GitHub was told no" in body["error"]) == (403, True)
    status, body = await poll(login, stranger["device"])
    assert (status, "octocat may not come in" in body["error"]) == (403, True)
    await login.time.pass_time(900.0)
    assert (await poll(login, late["device"]))[0] == 404
    assert (await poll(login, "nothing of that name"))[0] == 404
    assert (await login.ask("POST", POLL, body=b"[]")).status == 400
    assert login.door.people() == []


@pytest_twisted.ensureDeferred
async def test_an_app_without_the_device_flow_and_no_app_are_told_of(login: Login) -> None:
    answer = await login.ask("POST", "{prefix}/login/device")
    assert (answer.status, "Enable Device Flow" in answer.body["error"]) == (403, True)
    login.let_in(app=None)
    answer = await login.ask("POST", "{prefix}/login/device")
    assert (answer.status, "login.app" in answer.body["error"]) == (404, True)


@pytest_twisted.ensureDeferred
async def test_while_github_does_not_answer_a_code_may_still_be_entered(login: Login) -> None:
    login.github.members.join(login.octo, login.octocat)
    begun = await begin(login)
    login.github.api.faults.begin("/login/oauth/access_token", "html_503", times=1)
    login.github.logins.enter(begun["user_code"], login.octocat)
    await login.time.pass_time(5.0)
    assert (await poll(login, begun["device"]))[1]["state"] == "pending"
    await login.time.pass_time(5.0)
    assert (await poll(login, begun["device"]))[1]["state"] == "done"


@pytest_twisted.ensureDeferred
async def test_one_address_cannot_have_all_the_room(login: Login) -> None:
    first, *others = [await begin(login) for _ in range(MOST_OF_ONE + 1)]
    assert (await poll(login, first["device"]))[0] == 404
    assert {(await poll(login, each["device"]))[0] for each in others} == {200}


@pytest_twisted.ensureDeferred
async def test_a_browser_without_a_way_back_logs_in_by_a_code(login: Login) -> None:
    login.github.members.join(login.octo, login.octocat)
    login.github.logins.device_flow.add(login.app.id)
    login.let_in(client_secret_file=None)
    assert login.part.ways() == {"Log in with GitHub, by a code": "/login/code"}
    asked = await login.ask("GET", "/login/code", {"next": "/repositories"})
    assert 'name="next" value="/repositories"' in asked.body.decode()
    assert asked.headers["Referrer-Policy"] == "same-origin", "or the form would come from an unknown origin"
    for origin in ("", "http://admin.example.org"):
        assert (await login.ask("POST", "/login/code", origin=origin)).status == 403
    begun = await login.ask("POST", "/login/code", form={"next": "/repositories"}, origin=BASE)
    assert (begun.status, begun.headers["Location"]) == (303, "/login/code")
    cookie = begun.headers["Set-Cookie"].partition(";")[0]
    (code,) = login.github.logins.waiting
    page = await login.ask("GET", "/login/code", cookie=cookie, origin=BASE)
    assert (page.status, code in page.body.decode()) == (200, True)
    assert float(page.headers["Refresh"]) >= 1
    login.github.logins.enter(code, login.octocat)
    await login.time.pass_time(5.0)
    other = await login.ask("GET", "/login/code", cookie=f"{cookie}x", origin=BASE)
    assert "Get a code" in other.body.decode()
    assert (await login.ask("GET", "/login/code", cookie=cookie, origin=BASE)).status == 303
    assert [each.login for each in login.door.people()] == ["octocat"]
    assert login.door.went_on == ["/repositories"]
    assert "Get a code" in (await login.ask("GET", "/login/code", cookie=cookie, origin=BASE)).body.decode()


@pytest_twisted.ensureDeferred
async def test_a_page_with_a_code_says_why_nobody_logs_in_by_an_app_any_more(login: Login) -> None:
    login.github.logins.device_flow.add(login.app.id)
    login.let_in(client_secret_file=None)
    begun = await login.ask("POST", "/login/code", form={"next": "/repositories"}, origin=BASE)
    cookie = begun.headers["Set-Cookie"].partition(";")[0]
    login.let_in(app=None)
    await login.time.pass_time(5.0)
    page = await login.ask("GET", "/login/code", cookie=cookie, origin=BASE)
    assert (page.status, "login.app" in page.body.decode()) == (404, True)


@pytest_twisted.ensureDeferred
async def test_the_addresses_of_one_network_wait_for_codes_as_one(login: Login) -> None:
    login.github.logins.device_flow.add(login.app.id)
    begun = [
        (await login.ask("POST", "{prefix}/login/device", client=f"2001:db8::{number:x}")).body
        for number in range(1, MOST_OF_ONE + 2)
    ]
    assert (await poll(login, begun[0]["device"]))[0] == 404
    assert {(await poll(login, each["device"]))[0] for each in begun[1:]} == {200}


def by_an_enterprise_server(login: Login) -> None:
    """Add an App of an Enterprise Server: here it answers as the same GitHub by another name."""
    (main,) = login.config.apps
    there = msgspec.structs.replace(main, name="there", web_url=main.web_url.replace("127.0.0.1", "localhost"))
    login.config = msgspec.structs.replace(login.config, apps=(main, there))
    login.apps.change(login.config.apps)


@pytest_twisted.ensureDeferred
async def test_a_person_of_one_github_is_nobody_of_the_one_that_a_reload_put_in_its_place(login: Login) -> None:
    login.github.members.join(login.octo, login.octocat)
    by_an_enterprise_server(login)
    begun = await begin(login)
    login.github.logins.enter(begun["user_code"], login.octocat)
    await login.time.pass_time(5.0)
    polling = Deferred.fromCoroutine(poll(login, begun["device"]))
    assert not polling.called
    login.let_in(app="there")  # while GitHub is asked
    assert await polling == (403, {"error": OTHER})
    assert login.door.people() == []
    assert login.door.refused == [("", OTHER)]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("provider", "status"), [("{here}", 200), ("", 403), ("git.example.org", 403)])
async def test_another_node_is_believed_about_people_of_the_github_of_this_one(
    login: Login, provider: str, status: int
) -> None:
    login.github.members.join(login.octo, login.octocat)
    here = urlsplit(login.github.web_url).netloc.replace(":", "-")
    user = GitHubUser(login.octocat.id, login.octocat.login)
    told = msgspec.to_builtins(Entered(user=user, following="/", provider=provider.format(here=here)))
    if not provider:
        del told["provider"]  # as a node of the release before says it
    login.affinity = Tells(msgspec.json.encode(told))
    login.part = login.made()
    assert (await poll(login, "theirs"))[0] == status
    assert [each.login for each in login.door.people()] == (["octocat"] if status == 200 else [])
    assert login.door.refused == ([] if status == 200 else [("", OTHER)])
