"""Apps of the pretend GitHub: their JWTs, installations and tokens."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import pytest_twisted
from api_client import ApiClient

from stackit.testing.github import PretendGitHub


@pytest.mark.parametrize("base", ["", "/api/v3"])
@pytest_twisted.ensureDeferred
async def test_an_app_sees_itself_and_where_it_is_installed(github: PretendGitHub, api: ApiClient, base: str) -> None:
    app = github.apps.create("stackit", permissions={"contents": "read", "metadata": "read"}, events=["push"])
    octo, hubot = await app.install("octo"), await app.install("hubot")
    seen = (await api.get(f"{base}/app", api.jwt(app))).json()
    assert (seen["id"], seen["client_id"], seen["installations_count"]) == (app.id, app.client_id, 2)
    listed = (await api.get(f"{base}/app/installations", api.jwt(app, iss=app.client_id))).json()
    assert [each["id"] for each in listed] == [octo.id, hubot.id]
    assert listed[0]["account"]["login"] == "octo"
    assert listed[0]["repositories_url"] == f"{github.web_url}{base}/installation/repositories"
    found = await api.get(f"{base}/orgs/hubot/installation", api.jwt(app))
    assert found.json()["id"] == hubot.id


@pytest.mark.parametrize(
    ("claims", "status", "message"),
    [
        ({}, 200, None),
        ({"exp": 600}, 200, None),
        ({"exp": 601}, 401, "'Expiration time' claim ('exp') is too far in the future"),
        ({"exp": -1}, 401, "'Expiration time' claim ('exp') must be a numeric value"),
        ({"iat": 30}, 401, "'Issued at' claim ('iat') must be an Integer"),
        ({"iss": "1"}, 404, "Integration not found"),
        ({"iss": None}, 401, "Missing 'issuer' claim"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_jwt_is_judged_by_githubs_clock(
    github: PretendGitHub, api: ApiClient, claims: dict[str, Any], status: int, message: str | None
) -> None:
    app = github.apps.create()
    github.clock.freeze()
    github.clock.advance(3600)
    now = int(github.clock.now())
    told: dict[str, Any] = {name: now + value if isinstance(value, int) else value for name, value in claims.items()}
    answer = await api.get("/app", api.jwt(app, **told))
    assert answer.status == status
    assert message is None or answer.json()["message"].startswith(message)


@pytest_twisted.ensureDeferred
async def test_another_key_and_a_deleted_one_are_refused(github: PretendGitHub, api: ApiClient) -> None:
    app, other = github.apps.create("one"), github.apps.create("two")
    forged = await api.get("/app", api.jwt(app, key=other.private_key))
    assert (forged.status, forged.json()["message"]) == (401, "A JSON web token could not be decoded")
    await app.delete_keys()
    assert (await api.get("/app", api.jwt(app))).status == 401
    app.add_key()
    assert (await api.get("/app", api.jwt(app))).status == 200


@pytest_twisted.ensureDeferred
async def test_a_token_reaches_what_the_installation_has_and_no_more(github: PretendGitHub, api: ApiClient) -> None:
    for name in ("octo/one", "octo/two", "hubot/three"):
        await github.create(name, private=True)
    app = github.apps.create()
    some, all_of = await app.install("octo", ["octo/one"]), await app.install("hubot")
    token = await api.token(some)
    listed = (await api.get("/installation/repositories", token)).json()
    assert (listed["total_count"], listed["repository_selection"]) == (1, "selected")
    assert [each["full_name"] for each in listed["repositories"]] == ["octo/one"]
    assert [(await api.get(f"/repos/{name}", token)).status for name in ("octo/one", "octo/two", "hubot/three")] == [
        200,
        404,
        404,
    ]
    other = (await api.get("/installation/repositories", await api.token(all_of))).json()
    assert (other["repository_selection"], other["total_count"]) == ("all", 1)
    assert github.tokens.minted == {some.id: 1, all_of.id: 1}


@pytest_twisted.ensureDeferred
async def test_a_token_is_narrowed_to_repositories_and_permissions(github: PretendGitHub, api: ApiClient) -> None:
    for name in ("octo/one", "octo/two"):
        await github.create(name, private=True)
    installation = await github.apps.create(permissions={"contents": "write", "metadata": "read"}).install("octo")
    one, two = github.repositories.of("octo/one"), github.repositories.of("octo/two")
    asked = {"repository_ids": [two.id], "permissions": {"contents": "read", "metadata": "read"}}
    made = (await api.mint(installation, asked)).json()
    assert made["permissions"] == {"contents": "read", "metadata": "read"}
    assert [each["id"] for each in made["repositories"]] == [two.id]
    assert (await api.get("/repos/octo/one", made["token"])).status == 404
    assert (await api.get(f"/repositories/{two.id}", made["token"])).json()["full_name"] == "octo/two"
    for wrong in (
        {"repositories": ["three"]},
        {"repository_ids": [two.id + 1]},
        {"permissions": {"contents": "admin"}},
        {"permissions": {"issues": "read"}},
        {"repository_ids": [one.id] * 501},
        {"repos": ["one"]},
    ):
        assert (await api.mint(installation, wrong)).status == 422


@pytest_twisted.ensureDeferred
async def test_a_token_of_either_format_lasts_an_hour_and_can_be_revoked(github: PretendGitHub, api: ApiClient) -> None:
    github.clock.freeze()
    installation = await github.apps.create().install("octo")
    short = await api.token(installation)
    github.tokens.format = "long"
    long = await api.token(installation)
    forced = (await api.mint(installation, headers={"X-GitHub-Stateless-S2S-Token": "disabled"})).json()["token"]
    assert (len(short), len(forced)) == (40, 40)
    assert 480 < len(long) < 560
    assert long.startswith(f"ghs_{installation.app.id}_eyJ")
    assert long.count(".") == 2
    assert {"-", "_"} <= set(long.partition(".")[2])
    assert (await api.get("/installation/repositories", long)).status == 200
    assert (await api.ask("DELETE", "/installation/token", long)).status == 204
    assert (await api.get("/installation/repositories", long)).status == 401
    github.clock.advance(3599)
    assert (await api.get("/installation/repositories", short)).status == 200
    github.clock.advance(1)
    assert (await api.get("/installation/repositories", short)).json()["message"] == "Bad credentials"


@pytest_twisted.ensureDeferred
async def test_suspended_and_uninstalled_are_told_apart(github: PretendGitHub, api: ApiClient) -> None:
    app = github.apps.create()
    installation = await app.install("octo")
    token = await api.token(installation)
    path = f"/app/installations/{installation.id}"
    assert (await api.ask("PUT", f"{path}/suspended", api.jwt(app))).status == 204
    for answer in (await api.mint(installation), await api.get("/installation/repositories", token)):
        assert (answer.status, answer.json()["message"]) == (403, "This installation has been suspended")
    assert (await api.get(path, api.jwt(app))).json()["suspended_at"] is not None
    assert (await api.ask("DELETE", f"{path}/suspended", api.jwt(app))).status == 204
    assert (await api.get("/installation/repositories", token)).status == 200
    await installation.uninstall()
    assert (await api.mint(installation)).status == 404
    assert (await api.get("/installation/repositories", token)).status == 401
    assert (await api.get("/app/installations", api.jwt(app))).json() == []


@pytest_twisted.ensureDeferred
async def test_each_credential_has_its_own_routes(github: PretendGitHub, api: ApiClient) -> None:
    app, other = github.apps.create("one"), github.apps.create("two")
    installation = await app.install("octo")
    token = await api.token(installation)
    assert (await api.get("/app", token)).json()["message"] == "A JSON web token could not be decoded"
    assert (await api.get("/installation/repositories", api.jwt(app))).status == 401
    assert (await api.get("/installation/repositories")).json()["message"] == "Requires authentication"
    assert (await api.get("/user/repos", token)).status == 403
    assert (await api.get(f"/app/installations/{installation.id}", api.jwt(other))).status == 404


@pytest_twisted.ensureDeferred
async def test_an_installation_is_found_by_what_it_is_on(github: PretendGitHub, api: ApiClient) -> None:
    github.owners.get("hubot", "User")
    await github.create("hubot/notes", private=True)
    await github.create("octo/one")
    app = github.apps.create()
    installation = await app.install("hubot")
    for path in ("/users/hubot/installation", "/repos/hubot/notes/installation"):
        assert (await api.get(path, api.jwt(app))).json()["id"] == installation.id
    for path in ("/orgs/hubot/installation", "/orgs/octo/installation", "/repos/octo/one/installation"):
        assert (await api.get(path, api.jwt(app))).status == 404
    with pytest.raises(ValueError, match="installed on hubot already"):
        await app.install("hubot")
    assert (await api.ask("DELETE", f"/app/installations/{installation.id}", api.jwt(app))).status == 204
    assert (await api.get("/repos/hubot/notes/installation", api.jwt(app))).status == 404


@pytest_twisted.ensureDeferred
async def test_the_last_tokens_of_an_installation_are_revoked_by_its_owner(
    github: PretendGitHub, api: ApiClient
) -> None:
    app = github.apps.create()
    octo, hubot = await app.install("octo"), await app.install("hubot")
    tokens = [await api.token(octo), await api.token(octo), await api.token(hubot)]
    github.tokens.revoke_all(octo)
    assert [(await api.get("/installation/repositories", each)).status for each in tokens] == [401, 401, 200]
    github.tokens.revoke(tokens[2])
    assert (await api.get("/installation/repositories", tokens[2])).status == 401


@pytest_twisted.ensureDeferred
async def test_a_token_comes_as_bearer_as_token_or_as_a_password(github: PretendGitHub, api: ApiClient) -> None:
    token = await api.token(await github.apps.create().install("octo"))
    basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    for said in (f"Bearer {token}", f"token {token}", f"Basic {basic}"):
        assert (await api.get("/installation/repositories", headers={"Authorization": said})).status == 200
    for said in ("Basic ?", f"Bearer {token}x", "Bearer eyJ.eyJ.x"):
        assert (await api.get("/versions", headers={"Authorization": said})).status == 401
    assert github.api.count("/versions", caller="invalid", status=401) == 3


@pytest_twisted.ensureDeferred
async def test_a_body_that_is_no_object_is_refused(github: PretendGitHub, api: ApiClient) -> None:
    installation = await github.apps.create().install("octo")
    path, token = f"/app/installations/{installation.id}/access_tokens", api.jwt(installation.app)
    assert (await api.ask("POST", path, token, [1])).status == 400
    assert (await api.ask("POST", path, token, {"repositories": 1})).status == 422
    assert (await api.ask("POST", path, token, {"repositories": ["a/b/c"]})).status == 422
    assert (await api.ask("POST", path, token, {"permissions": 1})).status == 422
    assert github.tokens.minted == {}
