"""Apps that are made from manifests."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import msgspec
import pytest
import pytest_twisted
import treq
from api_client import ApiClient

from stackit.testing.github import PretendGitHub

MANIFEST = {
    "name": "stackit of octo",
    "url": "https://stackit.example",
    "hook_attributes": {"url": "https://stackit.example/api/v1/webhooks/github"},
    "redirect_url": "http://127.0.0.1:8081/setup/done",
    "callback_urls": ["http://127.0.0.1:8081/login/done"],
    "public": False,
    "default_permissions": {"contents": "read", "metadata": "read"},
    "default_events": ["push", "repository"],
}


async def submit(github: PretendGitHub, manifest: Any, where: str = "/organizations/octo/settings/apps/new") -> Any:
    """Submit the form as a browser does that a page of stackit sent there."""
    text = manifest if isinstance(manifest, str) else msgspec.json.encode(manifest).decode()
    url = f"{github.web_url}{where}?state=s1"
    return await treq.post(url, data={"manifest": text}, allow_redirects=False, persistent=False)


def code_of(answer: Any) -> str:
    [location] = answer.headers.getRawHeaders("location")
    assert location.startswith(f"{MANIFEST['redirect_url']}?")
    found = parse_qs(urlsplit(location).query)
    assert found["state"] == ["s1"]
    return str(found["code"][0])


@pytest_twisted.ensureDeferred
async def test_an_app_is_made_of_a_manifest_and_its_secrets_are_given_once(
    github: PretendGitHub, api: ApiClient
) -> None:
    answer = await submit(github, MANIFEST)
    assert answer.code == 302
    code = code_of(answer)
    answered = await api.ask("POST", f"/app-manifests/{code}/conversions")
    assert answered.status == 201
    made = answered.json()
    app = github.apps.issued_by(made["client_id"])
    assert app is not None
    assert (made["id"], made["name"], made["slug"]) == (app.id, "stackit of octo", "stackit-of-octo")
    assert (made["owner"]["login"], made["html_url"]) == ("octo", f"{github.web_url}/apps/stackit-of-octo")
    assert (made["webhook_secret"], made["client_secret"]) == (app.webhook_secret, app.client_secret)
    assert (made["permissions"], made["events"]) == (MANIFEST["default_permissions"], MANIFEST["default_events"])
    assert github.hooks.of_app(app).config.url == MANIFEST["hook_attributes"]["url"]  # type: ignore[index]  # a dict
    now = int(github.clock.now())
    own = jwt.encode({"iat": now, "exp": now + 60, "iss": made["client_id"]}, made["pem"], algorithm="RS256")
    assert (await api.get("/app", own)).json()["id"] == made["id"]
    assert (await api.ask("POST", f"/app-manifests/{code}/conversions")).status == 404


@pytest_twisted.ensureDeferred
async def test_the_code_of_a_manifest_lasts_an_hour(github: PretendGitHub, api: ApiClient) -> None:
    code = code_of(await submit(github, {**MANIFEST, "name": "another"}, "/settings/apps/new"))
    github.clock.advance(3601)
    assert (await api.ask("POST", f"/app-manifests/{code}/conversions")).status == 404
    [app] = github.apps
    assert (app.owner.login, app.owner.kind) == ("octocat", "User")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"redirect_url": ""}, "redirect_url is missing"),
        ({"url": 5}, "Expected `str`"),
        ({"secret": "x"}, "unknown field"),
        ({"name": "x" * 35}, "too long"),
        ({"default_events": ["push", "installation"]}, "unsupported: installation"),
        ({"default_events": ["pushes"]}, "unsupported: pushes"),
        ({"default_permissions": {"metadata": "read"}}, "unsupported: push"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_manifest_that_makes_no_sense_makes_no_app(
    github: PretendGitHub, change: dict[str, Any], told: str
) -> None:
    answer = await submit(github, MANIFEST | change)
    assert answer.code == 422
    assert told in (await answer.text()).replace("&#x27;", "'")
    assert list(github.apps) == []


@pytest_twisted.ensureDeferred
async def test_a_name_is_given_once_and_what_is_no_manifest_is_refused(github: PretendGitHub) -> None:
    await submit(github, MANIFEST)
    assert "already taken" in await (await submit(github, MANIFEST)).text()
    assert (await submit(github, "not json")).code == 422
