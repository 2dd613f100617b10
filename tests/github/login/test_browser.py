"""The login by a browser, against the pretend GitHub: who comes in, and every way that leads nowhere."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_twisted
from shared_journals import PretendNode, SharedJournals

from stackit.config.model import AdminConfig
from stackit.github.login.attempts import _MOST_USED, OPEN_FOR, Attempts
from stackit.github.login.browser import OF_NO_USE
from stackit.text.own_path import own_path

from .conftest import BASE, Browser, Login


@pytest_twisted.ensureDeferred
async def test_a_member_comes_in_as_a_viewer_and_goes_on_to_where_they_were(login: Login) -> None:
    login.github.members.join(login.octo, login.octocat)
    browser = Browser(login)
    address = await browser.leave("/repositories?state=failing")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    assert asked["client_id"] == login.app.client_id
    assert asked["redirect_uri"] == f"{BASE}/login/github/callback"
    assert asked["code_challenge_method"] == "S256"
    assert asked["prompt"] == "select_account"
    answer = await browser.come_back(await browser.granted(address))
    assert (answer.status, answer.headers["Location"]) == (303, "/repositories?state=failing")
    (person,) = login.door.people()
    assert (person.id.endswith(f":{login.octocat.id}"), person.login, person.role) == (True, "octocat", "viewer")
    assert person.name == f"octocat (id {login.octocat.id})"
    assert login.github.api.count("/user", caller="user:octocat") == 1, "the token of a person asks this alone"
    assert login.github.api.count(caller="user:octocat") == 1
    assert login.github.api.refusals == []


@pytest_twisted.ensureDeferred
async def test_a_member_of_a_team_or_of_a_team_below_it_is_an_operator(login: Login) -> None:
    members = login.github.members
    members.join(login.octo, login.octocat)
    ops = members.team(login.octo, "ops")
    members.join_team(members.team(login.octo, "night", parent=ops), login.octocat)
    await Browser(login).log_in()
    assert [each.role for each in login.door.people()] == ["operator"]


@pytest_twisted.ensureDeferred
async def test_strangers_and_those_who_are_only_invited_are_refused(login: Login) -> None:
    members = login.github.members
    for invited in (False, True):
        if invited:
            members.join(login.octo, login.octocat, state="pending")
            members.join_team(members.team(login.octo, "ops"), login.octocat, state="pending")
        answer = await Browser(login).log_in()
        assert answer.status == 403
        assert "octocat may not come in" in answer.body.decode()
        assert "Set-Cookie" not in answer.headers
    members.join(login.octo, login.octocat)
    answer = await Browser(login).log_in()
    assert [each.role for each in login.door.people()] == ["viewer"], "of the team they are only invited to, no member"
    assert [name for name, _ in login.door.refused] == [f"octocat (id {login.octocat.id})"] * 2


@pytest_twisted.ensureDeferred
async def test_a_state_is_of_use_once_in_the_browser_that_it_was_made_for_and_in_time(login: Login) -> None:
    login.github.members.join(login.octo, login.octocat)
    # The attacker's own way to GitHub and back, which they have somebody else's browser end.
    attacker, victim, nobody = Browser(login), Browser(login), Browser(login)
    query = await attacker.granted(await attacker.leave())
    await victim.leave()
    exchanged = "/login/oauth/access_token"
    for wrong in (victim, nobody):
        answer = await wrong.come_back(query)
        assert (answer.status, OF_NO_USE in answer.body.decode()) == (403, True)
    for changed in ({**query, "state": query["state"][:-1]}, {**query, "state": ""}, {"code": query["code"]}):
        assert (await attacker.come_back(changed)).status == 403
    assert login.github.api.count(exchanged) == 0, "GitHub is not even asked"
    assert (await attacker.come_back(query)).status == 303
    again = await attacker.come_back(query)
    assert (again.status, login.github.api.count(exchanged)) == (403, 1)
    # Even if one of the attacker's cookies got into another browser, it would be used up.
    victim.cookie = attacker.cookie
    assert (await victim.come_back(query)).status == 403
    late = await victim.granted(await victim.leave())
    await login.time.pass_time(OPEN_FOR)
    assert (await victim.come_back(late)).status == 403
    assert login.door.refused == [], "what anybody can send is not written down"


@pytest_twisted.ensureDeferred
async def test_a_code_of_another_attempt_is_of_no_use_for_its_verifier(login: Login) -> None:
    """An attacker who got hold of a victim's code cannot end the login with it in a browser of their own."""
    login.github.members.join(login.octo, login.octocat)
    victim, attacker = Browser(login), Browser(login)
    stolen = await victim.granted(await victim.leave())
    own = await attacker.granted(await attacker.leave())
    answer = await attacker.come_back({**own, "code": stolen["code"]})
    assert (answer.status, "log in again" in answer.body.decode()) == (403, True)
    assert login.door.people() == []


@pytest_twisted.ensureDeferred
async def test_a_no_at_github_and_each_wrong_setting_has_its_line(login: Login) -> None:
    login.github.members.join(login.octo, login.octocat)
    browser = Browser(login)
    login.github.logins.denies = True
    answer = await browser.log_in()
    assert (answer.status, "GitHub was told no" in answer.body.decode()) == (403, True)
    login.github.logins.denies = False
    secret = login.config.login.client_secret_file
    assert secret is not None
    secret.write_text("0123456789abcdef0123456789abcdef01234567")
    answer = await browser.log_in()
    assert "login.client_secret_file" in answer.body.decode()
    assert "0123456789" not in answer.body.decode() + str(login.notices)
    assert any("nobody can log in with GitHub this way" in each for each in login.notices)
    secret.unlink()
    assert (await browser.log_in()).status == 503
    login.let_in(client_secret_file=None)
    answer = await login.ask("GET", "/login/github")
    assert (answer.status, "stackit login" in answer.body.decode()) == (404, True)
    login.let_in(app=None)
    answer = await login.ask("GET", "/login/github")
    assert (answer.status, "login.app" in answer.body.decode()) == (404, True)


@pytest_twisted.ensureDeferred
async def test_while_github_cannot_be_asked_nobody_comes_in_and_that_is_told(login: Login) -> None:
    login.github.members.join(login.octo, login.octocat)
    browser = Browser(login)
    query = await browser.granted(await browser.leave())
    login.github.api.faults.begin("/login/oauth/access_token", "html_503")
    answer = await browser.come_back(query)
    assert (answer.status, "status 503" in answer.body.decode()) == (502, True)
    login.github.api.faults.heal()
    login.github.api.faults.begin("/orgs/{org}/memberships/{username}", "html_503")
    answer = await browser.log_in()
    assert (answer.status, "cannot be known now" in answer.body.decode()) == (503, True)
    assert login.door.people() == []


@pytest_twisted.ensureDeferred
async def test_an_app_that_may_not_see_members_is_told_of(login: Login) -> None:
    login.github.members.join(login.octo, login.octocat)
    (installation,) = login.app.installations
    await installation.withdraw("members")
    answer = await Browser(login).log_in()
    assert answer.status == 503
    assert "give it the permission Members" in answer.body.decode()
    login.let_in(viewers=("acme",), operators=())
    answer = await Browser(login).log_in()
    assert "is not installed for acme" in answer.body.decode()


@pytest_twisted.ensureDeferred
async def test_a_login_of_the_configuration_is_who_it_was_at_first_sight(login: Login) -> None:
    login.let_in(viewers=(), operators=("@OctoCat",))
    assert (await Browser(login).log_in()).status == 303
    await login.github.admin.rename_owner("octocat", "monalisa")
    assert (await Browser(login).log_in()).status == 403, "by another login nobody is named"
    squatter = login.person("octocat")
    assert squatter.id != login.octocat.id
    login.github.logins.browser = squatter
    await login.restart()
    assert (await Browser(login).log_in()).status == 403, "also after a restart"
    assert any("@OctoCat of [login] is not who it was" in each for each in login.notices)
    # The operator means the new one: gone from the configuration once, the login is forgotten.
    for operators in (("@hubot",), ("@octocat",)):
        login.let_in(operators=operators)
        login.part.roles.look()
        await login.time.pass_time(5.0)
    assert (await Browser(login).log_in()).status == 303


@pytest_twisted.ensureDeferred
async def test_over_https_no_other_host_can_plant_the_cookie(login: Login) -> None:
    url = "https://admin.example.org"
    login.config = type(login.config)(
        state_dir=login.config.state_dir,
        admin=AdminConfig(url=url, hosts=("admin.example.org",)),
        apps=login.config.apps,
        login=login.config.login,
    )
    assert login.part.browser.button == f"{url}/login/github"
    answer = await login.ask("GET", "/login/github")
    name, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert name.startswith("__Host-stackit-login=")
    assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= set(attributes)
    login.config = type(login.config)(
        state_dir=login.config.state_dir,
        admin=AdminConfig(url="http://admin.example.org", hosts=("admin.example.org",)),
        apps=login.config.apps,
        login=login.config.login,
    )
    answer = await login.ask("GET", "/login/github")
    assert (answer.status, "unencrypted" in answer.body.decode()) == (404, True)
    assert not login.part.browser.button


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ("/repositories?state=failing&q=octo/w%20x", "/repositories?state=failing&q=octo/w%20x"),
        ("/", "/"),
        ("", "/"),
        ("//evil.example.org/", "/"),
        ("/\\evil.example.org", "/"),
        ("https://evil.example.org/", "/"),
        ("/a\r\nSet-Cookie: x=y", "/"),
        ("/\t/evil.example.org", "/"),
        ("javascript:alert(1)", "/"),
        ("/" + "a" * 2000, "/"),
    ],
)
def test_a_browser_goes_on_to_a_path_of_the_admin_side_alone(asked: str, path: str) -> None:
    assert own_path(asked) == path


def made_with(key: bytes) -> Attempts:
    return Attempts(lambda: 0.0, lambda: key)


def test_an_attempt_shows_none_of_its_secrets_and_its_challenge_is_that_of_its_verifier() -> None:
    attempts = made_with(b"key")
    made, other = attempts.begin("/x"), attempts.begin("/x")
    digest = base64.urlsafe_b64encode(hashlib.sha256(made.verifier.encode()).digest()).rstrip(b"=")
    assert made.challenge == digest.decode()
    assert 43 <= len(made.verifier) <= 128
    assert len({made.cookie, made.state, made.verifier, other.cookie, other.state, other.verifier}) == 6
    assert all(secret not in repr(made) for secret in (made.cookie, made.state, made.verifier))
    assert made_with(b"another").find(made.cookie, made.state) is None, "of another stackit"
    assert made_with(b"key").find(made.cookie, made.state) == made, "of another node"
    assert attempts.find(made.cookie, made.state) == made
    attempts.use(made)
    assert attempts.find(made.cookie, made.state) is None


def test_attempts_without_end_take_bounded_memory_and_keep_nobody_out() -> None:
    attempts = made_with(b"key")
    for _ in range(_MOST_USED + 5):
        attempts._used[str(len(attempts._used))] = OPEN_FOR
    attempts.use(attempts.begin("/"))
    made = attempts.begin("/x")
    assert attempts.find(made.cookie, made.state) == made
    attempts.use(made)
    assert attempts.find(made.cookie, made.state) is None


@pytest_twisted.ensureDeferred
async def test_one_who_comes_back_too_often_waits_and_uses_up_nothing(login: Login) -> None:
    flood = [Browser(login) for _ in range(30)]
    statuses = []
    for each in flood:
        await each.leave()
        made = login.part.browser._attempts.begin("/")
        each.cookie = f"{each.cookie.partition('=')[0]}={made.cookie}"
        statuses.append((await each.come_back({"code": "of-no-use", "state": made.state})).status)
    assert statuses[:10] == [403] * 10
    assert statuses.count(429) > 10
    assert len(login.part.browser._attempts._used) == statuses.count(403)


@pytest_twisted.ensureDeferred
async def test_a_browser_may_come_back_to_another_node_than_it_left_from(login: Login) -> None:
    login.github.members.join(login.octo, login.octocat)
    journals = SharedJournals(login.time)
    parts = []
    for name in ("a", "b"):
        login.journal, login.node = journals.node(), PretendNode(name, leads=name == "b")
        parts.append(login.made())
        parts[-1].start()
    await login.time.pass_time(1.0)
    browser = Browser(login)
    login.part = parts[0]
    address = await browser.leave()
    login.part = parts[1]
    assert (await browser.come_back(await browser.granted(address))).status == 303
    for part in parts:
        await part.stop()
