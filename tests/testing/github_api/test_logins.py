"""Logins of people at the pretend GitHub: the web flow, the device flow, and what becomes of their tokens."""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import pytest_twisted
import treq
from api_client import ApiClient
from hook_receiver import HookReceiver
from twisted.web.http_headers import Headers

from stackit.testing.github import PretendGitHub
from stackit.testing.github_api.apps import PretendApp
from stackit.testing.github_api.logins import DEVICE_GRANT
from stackit.testing.github_api.owners import Owner

CALLBACK = "http://127.0.0.1:8081/login/done"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture
def app(github: PretendGitHub) -> PretendApp:
    made = github.apps.create()
    made.callback_urls = [CALLBACK]
    return made


@pytest.fixture
def hubot(github: PretendGitHub) -> Owner:
    """Who sits at the browser."""
    github.logins.browser = found = github.owners.get("hubot", "User")
    return found


async def authorize(github: PretendGitHub, app: PretendApp, **more: str) -> tuple[str, dict[str, str]]:
    """Go to the page where a person says yes; return where the browser is sent, and the parameters there."""
    asked = {"client_id": app.client_id, "redirect_uri": CALLBACK, "state": "s1", **more}
    url = f"{github.web_url}/login/oauth/authorize?{urlencode(asked)}"
    answer = await treq.get(url, allow_redirects=False, persistent=False)
    assert answer.code == 302
    place = urlsplit(answer.headers.getRawHeaders("location")[0])
    return place._replace(query="").geturl(), {name: values[0] for name, values in parse_qs(place.query).items()}


async def ask(github: PretendGitHub, path: str, accept: str = "application/json", **fields: str) -> Any:
    answer = await treq.post(
        f"{github.web_url}/login/{path}", data=fields, headers=Headers({"Accept": [accept]}), persistent=False
    )
    assert answer.code == 200
    return await answer.json() if "json" in accept else parse_qs(await answer.text())


async def exchange(github: PretendGitHub, app: PretendApp, **fields: str) -> Any:
    given = {"client_id": app.client_id, "client_secret": app.client_secret, **fields}
    return await ask(github, "oauth/access_token", **given)


@pytest_twisted.ensureDeferred
async def test_a_person_logs_in_by_the_browser(
    github: PretendGitHub, api: ApiClient, app: PretendApp, hubot: Owner
) -> None:
    place, came = await authorize(github, app, code_challenge=CHALLENGE, code_challenge_method="S256")
    assert (place, came["state"]) == (CALLBACK, "s1")
    tokens = await exchange(github, app, code=came["code"], redirect_uri=CALLBACK, code_verifier=VERIFIER)
    assert (tokens["expires_in"], tokens["refresh_token_expires_in"], tokens["token_type"]) == (
        28800,
        15811200,
        "bearer",
    )
    assert (tokens["access_token"][:4], tokens["refresh_token"][:4]) == ("ghu_", "ghr_")
    assert (await api.get("/user", tokens["access_token"])).json()["id"] == hubot.id
    again = await exchange(github, app, code=came["code"], redirect_uri=CALLBACK, code_verifier=VERIFIER)
    assert again["error"] == "bad_verification_code"
    renewed = await exchange(github, app, grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert (await api.get("/user", renewed["access_token"])).status == 200
    github.clock.advance(28_801)
    assert (await api.get("/user", tokens["access_token"])).status == 401


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"code_verifier": "w" * 43}, "bad_verification_code"),
        ({}, "bad_verification_code"),
        ({"code_verifier": VERIFIER, "code": "guessed"}, "bad_verification_code"),
        ({"code_verifier": VERIFIER, "redirect_uri": f"{CALLBACK}/"}, "redirect_uri_mismatch"),
        ({"code_verifier": VERIFIER, "client_secret": "wrong"}, "incorrect_client_credentials"),
        ({"code_verifier": VERIFIER, "grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "refresh_token", "refresh_token": "ghr_guessed"}, "bad_refresh_token"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_login_that_is_not_in_order_gets_no_token(
    github: PretendGitHub, app: PretendApp, hubot: Owner, fields: dict[str, str], error: str
) -> None:
    came = (await authorize(github, app, code_challenge=CHALLENGE, code_challenge_method="S256"))[1]
    answer = await exchange(github, app, **({"code": came["code"]} | fields))
    assert (answer["error"], "access_token" in answer) == (error, False)


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"redirect_uri": "http://127.0.0.1:8081/login"}, "redirect_uri_mismatch"),
        ({"redirect_uri": "https://evil.example/"}, "redirect_uri_mismatch"),
        ({"code_challenge": CHALLENGE, "code_challenge_method": "plain"}, "invalid_request"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_nobody_is_sent_elsewhere_than_to_the_registered_callback(
    github: PretendGitHub, app: PretendApp, hubot: Owner, more: dict[str, str], error: str
) -> None:
    place, came = await authorize(github, app, **more)
    assert (place, came["error"], came["state"]) == (CALLBACK, error, "s1")
    github.logins.denies = True
    assert (await authorize(github, app))[1]["error"] == "access_denied"


@pytest_twisted.ensureDeferred
async def test_codes_last_ten_minutes_and_belong_to_one_app(
    github: PretendGitHub, app: PretendApp, hubot: Owner
) -> None:
    other = github.apps.create("other")
    code = (await authorize(github, app))[1]["code"]
    assert (await exchange(github, other, code=code))["error"] == "bad_verification_code"
    code = (await authorize(github, app))[1]["code"]
    github.clock.advance(601)
    assert (await exchange(github, app, code=code))["error"] == "bad_verification_code"


@pytest_twisted.ensureDeferred
async def test_a_device_logs_in_without_a_secret_and_has_to_be_patient(
    github: PretendGitHub, api: ApiClient, app: PretendApp, hubot: Owner
) -> None:
    assert (await ask(github, "device/code", client_id=app.client_id))["error"] == "device_flow_disabled"
    github.logins.device_flow.add(app.id)
    codes = await ask(github, "device/code", client_id=app.client_id)
    assert codes["verification_uri"] == f"{github.web_url}/login/device"
    assert (codes["interval"], codes["expires_in"]) == (5, 900)
    polled = {"client_id": app.client_id, "device_code": codes["device_code"], "grant_type": DEVICE_GRANT}
    errors = [(await ask(github, "oauth/access_token", **polled))["error"] for _ in range(2)]
    assert errors == ["authorization_pending", "slow_down"]
    github.logins.enter(codes["user_code"], hubot)
    github.clock.advance(6)
    answer = await ask(github, "oauth/access_token", **polled)  # ten seconds, since it was in haste
    assert (answer["error"], answer["interval"]) == ("slow_down", 15)
    github.clock.advance(16)
    tokens = await ask(github, "oauth/access_token", **polled)
    assert (await api.get("/user", tokens["access_token"])).json()["login"] == "hubot"
    assert (await ask(github, "oauth/access_token", **polled))["error"] == "incorrect_device_code"


@pytest_twisted.ensureDeferred
async def test_a_device_is_told_no_and_that_it_was_too_late(
    github: PretendGitHub, app: PretendApp, hubot: Owner
) -> None:
    github.logins.device_flow.add(app.id)
    errors = []
    for deny in (True, False):
        codes = await ask(github, "device/code", client_id=app.client_id)
        github.logins.enter(codes["user_code"], hubot, deny=deny)
        github.clock.advance(10 if deny else 901)
        polled = {"client_id": app.client_id, "device_code": codes["device_code"], "grant_type": DEVICE_GRANT}
        errors.append((await ask(github, "oauth/access_token", **polled))["error"])
    assert errors == ["access_denied", "expired_token"]


@pytest_twisted.ensureDeferred
async def test_who_takes_the_login_back_ends_its_tokens_and_the_app_is_told(
    github: PretendGitHub, api: ApiClient, app: PretendApp, hubot: Owner
) -> None:
    receiver = HookReceiver()
    github.hooks.of_app(app).config.url = receiver.url
    tokens = await exchange(github, app, code=(await authorize(github, app))[1]["code"])
    await github.logins.revoke(app, hubot)
    await receiver.close()
    [told] = receiver.taken
    assert (told.name, told.payload["sender"]["id"]) == ("github_app_authorization.revoked", hubot.id)
    assert (await api.get("/user", tokens["access_token"])).status == 401
    renewed = await exchange(github, app, grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert renewed["error"] == "bad_refresh_token"


@pytest_twisted.ensureDeferred
async def test_without_being_asked_for_json_it_answers_with_a_form(
    github: PretendGitHub, app: PretendApp, hubot: Owner
) -> None:
    code = (await authorize(github, app))[1]["code"]
    given = {"client_id": app.client_id, "client_secret": app.client_secret, "code": code}
    assert (await ask(github, "oauth/access_token", "*/*", **given))["access_token"][0].startswith("ghu_")
