"""Webhooks of Apps, organizations and repositories in the pretend GitHub's API, and the lists of their deliveries."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from urllib.parse import parse_qs

import msgspec
import pytest
import pytest_twisted
from api_client import ApiClient, links
from hook_receiver import HookReceiver

from stackit.testing.github import PretendGitHub
from stackit.testing.github_api.apps import PretendApp
from stackit.testing.github_api.attempts import Mishap
from stackit.testing.github_api.clock import DAY

HOOKS = {"contents": "read", "metadata": "read", "organization_hooks": "write", "repository_hooks": "write"}


@pytest_twisted.async_yield_fixture
async def receiver() -> AsyncIterator[HookReceiver]:
    found = HookReceiver()
    yield found
    await found.close()


@pytest_twisted.async_yield_fixture
async def app(github: PretendGitHub, receiver: HookReceiver) -> AsyncIterator[PretendApp]:
    """An App on all repositories of octo, which has octo/widget, with its webhook at the receiver."""
    await github.create("octo/widget")
    made = github.apps.create(permissions=HOOKS)
    await made.install("octo")
    github.hooks.of_app(made).config.url = receiver.url
    yield made


def signed(body: bytes, secret: str) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@pytest_twisted.ensureDeferred
async def test_a_push_goes_to_the_app_that_reaches_the_repository(
    github: PretendGitHub, app: PretendApp, receiver: HookReceiver
) -> None:
    sent = await github.push("octo/widget")
    [taken] = receiver.taken
    assert (sent.status, taken.event) == (202, "push")
    assert taken.headers["x-hub-signature-256"] == signed(taken.body, app.webhook_secret)
    assert taken.headers["x-github-hook-installation-target-type"] == "integration"
    assert taken.headers["x-github-hook-installation-target-id"] == str(app.id)
    assert taken.payload["installation"]["id"] == app.installations[0].id
    await github.create("hubot/other")
    assert (await github.push("hubot/other")).error == "no webhook wants it"
    assert len(receiver.taken) == 1


@pytest_twisted.ensureDeferred
async def test_one_push_has_one_guid_and_each_webhook_signs_with_its_own_secret(
    github: PretendGitHub, app: PretendApp, api: ApiClient, receiver: HookReceiver
) -> None:
    token = await api.token(app.installations[0])
    for path, secret in (("/orgs/octo/hooks", "of octo"), ("/repos/octo/widget/hooks", "of the widget")):
        config = {"url": receiver.url, "content_type": "json", "secret": secret}
        assert (await api.ask("POST", path, token, {"config": config})).status == 201
    await github.hooks.rest()
    assert receiver.names() == ["ping", "ping"]
    github.webhook(receiver.url, "of nobody")
    sent = await github.push("octo/widget")
    assert {each.headers["x-github-delivery"] for each in receiver.taken} == {sent.guid}
    assert len({each.headers["x-github-hook-id"] for each in receiver.taken}) == 4
    kinds = {each.headers["x-github-hook-installation-target-type"] for each in receiver.taken}
    assert kinds == {"integration", "organization", "repository"}
    secrets = ("of nobody", "of the widget", "of octo", app.webhook_secret)
    signatures = {each.headers["x-hub-signature-256"] for each in receiver.taken}
    bodies = [each.body for each in receiver.taken]
    assert len(signatures) == 4
    assert signatures <= {signed(body, secret) for body in bodies for secret in secrets}


@pytest_twisted.ensureDeferred
async def test_the_webhook_of_an_app_is_read_and_changed_and_its_secret_stays_hidden(
    github: PretendGitHub, app: PretendApp, api: ApiClient, receiver: HookReceiver
) -> None:
    own = api.jwt(app)
    shown = (await api.get("/app/hook/config", own)).json()
    assert shown == {"url": receiver.url, "content_type": "json", "insecure_ssl": "0", "secret": "********"}
    for new in ({"secret": "another"}, {"secret": "********"}, {"content_type": "form"}):
        assert (await api.ask("PATCH", "/app/hook/config", own, new)).status == 200
    await github.push("octo/widget")
    [taken] = receiver.taken
    assert taken.headers["content-type"] == "application/x-www-form-urlencoded"
    assert taken.headers["x-hub-signature-256"] == signed(taken.body, "another")
    assert msgspec.json.decode(parse_qs(taken.body.decode())["payload"][0])["ref"] == "refs/heads/main"
    assert (await api.ask("PATCH", "/app/hook/config", own, {"content_type": "xml"})).status == 422
    token = await api.token(app.installations[0])
    assert (await api.get("/app/hook/config", token)).status == 401


@pytest.mark.parametrize("base", ["/orgs/octo/hooks", "/repos/octo/widget/hooks"])
@pytest_twisted.ensureDeferred
async def test_webhooks_of_organizations_and_repositories_live_as_on_github(
    github: PretendGitHub, app: PretendApp, api: ApiClient, receiver: HookReceiver, base: str
) -> None:
    token = await api.token(app.installations[0])
    config = {"url": receiver.url, "content_type": "json", "secret": "s3cret"}
    made = await api.ask("POST", base, token, {"name": "web", "config": config, "events": ["push", "meta"]})
    assert made.status == 201
    one = f"{base}/{made.json()['id']}"
    assert made.json()["config"]["secret"] == "********"
    assert ("last_response" in made.json()) is base.startswith("/repos")
    assert [each["id"] for each in (await api.get(base, token)).json()] == [made.json()["id"]]
    again = await api.ask("POST", base, token, {"config": config, "events": ["push", "meta"]})
    assert (again.status, "already exists" in again.json()["errors"][0]["message"]) == (422, True)

    # PATCH of the config leaves the secret alone; PATCH of the webhook drops it, unless it is sent again.
    assert (await api.ask("PATCH", f"{one}/config", token, {"insecure_ssl": "1"})).json()["secret"] == "********"
    changed = await api.ask("PATCH", one, token, {"config": {"url": receiver.url}, "active": False})
    assert "secret" not in changed.json()["config"]
    assert (changed.json()["config"]["content_type"], changed.json()["active"]) == ("form", False)
    kept = await api.ask("PATCH", one, token, {"config": config, "active": True, "events": ["push", "create", "meta"]})
    assert (kept.json()["config"]["secret"], kept.json()["events"]) == ("********", ["push", "create", "meta"])

    await github.hooks.rest()
    receiver.taken.clear()
    assert (await api.ask("POST", f"{one}/pings", token)).status == 204
    await github.hooks.rest()
    [ping] = receiver.taken
    assert (ping.event, ping.payload["hook_id"]) == ("ping", made.json()["id"])
    listed = (await api.get(f"{one}/deliveries", token)).json()
    assert [each["event"] for each in listed] == ["ping", "ping"]

    receiver.taken.clear()
    assert (await api.ask("DELETE", one, token)).status == 204
    await github.hooks.rest()
    assert receiver.names() == ["meta.deleted"]
    assert (await api.get(one, token)).status == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/orgs/hubot/hooks", 404),
        ("/orgs/octo/hooks/1", 404),
        ("/orgs/octo/hooks/x", 404),
        ("/repos/octo/gadget/hooks", 404),
        ("/repos/hubot/other/hooks", 404),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_a_token_does_not_reach_is_not_found(
    github: PretendGitHub, app: PretendApp, api: ApiClient, path: str, status: int
) -> None:
    await github.create("hubot/other")
    assert (await api.get(path, await api.token(app.installations[0]))).status == status


@pytest_twisted.ensureDeferred
async def test_webhooks_want_their_permissions(github: PretendGitHub, app: PretendApp, api: ApiClient) -> None:
    narrow = await api.token(app.installations[0], {"permissions": {"metadata": "read", "repository_hooks": "read"}})
    assert (await api.get("/orgs/octo/hooks", narrow)).status == 403
    assert (await api.get("/repos/octo/widget/hooks", narrow)).json() == []
    body = {"config": {"url": "http://127.0.0.1:1/"}}
    refused = await api.ask("POST", "/repos/octo/widget/hooks", narrow, body)
    assert (refused.status, refused.json()["message"]) == (403, "Resource not accessible by integration")
    personal = github.tokens.personal(github.owners.get("hubot", "User"), github.owners.get("octo"), permissions={})
    refused = await api.get("/orgs/octo/hooks", personal.value)
    assert (refused.status, refused.json()["message"]) == (403, "Resource not accessible by personal access token")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"config": {}},
        {"config": "here"},
        {"config": {"url": "ftp://x"}},
        {"config": {"url": "http://x", "content_type": "xml"}},
        {"config": {"url": "http://x"}, "events": ["pushes"]},
        {"config": {"url": "http://x"}, "events": "push"},
        {"name": "email", "config": {"url": "http://x"}},
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_webhook_that_makes_no_sense_is_refused(app: PretendApp, api: ApiClient, body: object) -> None:
    answer = await api.ask("POST", "/orgs/octo/hooks", await api.token(app.installations[0]), body)
    assert (answer.status, answer.json()["message"]) == (422, "Validation Failed")


@pytest_twisted.ensureDeferred
async def test_twenty_webhooks_may_want_an_event_and_no_more(app: PretendApp, api: ApiClient) -> None:
    token = await api.token(app.installations[0])
    statuses = []
    for number in range(21):
        config = {"url": f"http://127.0.0.1:1/{number}"}
        statuses.append((await api.ask("POST", "/orgs/octo/hooks", token, {"config": config})).status)
    assert statuses == [201] * 20 + [422]


# Deliveries


@pytest_twisted.ensureDeferred
async def test_deliveries_are_listed_newest_first_and_cursors_lead_through_them(
    github: PretendGitHub, app: PretendApp, api: ApiClient
) -> None:
    sent = [(await github.push("octo/widget")).guid for _ in range(7)]
    seen, url = [], f"{github.api_url}/app/hook/deliveries?per_page=3"
    first = await api.get(url, api.jwt(app))
    # What comes while somebody pages moves no page.
    newest = (await github.push("octo/widget")).guid
    answer = first
    while True:
        seen += [each["guid"] for each in answer.json()]
        if "next" not in links(answer):
            break
        assert links(answer)["next"].startswith(f"{github.api_url}/app/hook/deliveries?per_page=3&cursor=")
        answer = await api.get(links(answer)["next"], api.jwt(app))
    assert seen == sent[::-1]
    assert [each["guid"] for each in (await api.get(url, api.jwt(app))).json()] == [newest, *sent[:-3:-1]]
    assert (await api.get(links(answer)["prev"], api.jwt(app))).json()[0]["guid"] == sent[3]
    assert (await api.get("/app/hook/deliveries?cursor=2", api.jwt(app))).status == 400


@pytest_twisted.ensureDeferred
async def test_a_delivery_shows_its_request_and_its_answer_but_not_the_signed_bytes(
    github: PretendGitHub, app: PretendApp, api: ApiClient, receiver: HookReceiver
) -> None:
    sent = await github.push("octo/widget")
    [item] = (await api.get("/app/hook/deliveries", api.jwt(app))).json()
    installation, repository = app.installations[0].id, github.repositories.of("octo/widget").id
    assert (item["guid"], item["event"], item["action"], item["redelivery"]) == (sent.guid, "push", None, False)
    assert (item["status"], item["status_code"]) == ("OK", 202)
    assert (item["installation_id"], item["repository_id"]) == (installation, repository)
    answer = await api.get(f"/app/hook/deliveries/{item['id']}", api.jwt(app))
    whole = answer.json()
    [taken] = receiver.taken
    assert {name.lower(): value for name, value in whole["request"]["headers"].items()}.items() <= taken.headers.items()
    assert whole["request"]["payload"] == taken.payload
    assert taken.body not in answer.body
    assert msgspec.json.encode(whole["request"]["payload"]) != taken.body
    assert whole["response"]["payload"] == "thanks"
    assert whole["response"]["headers"]["X-Of-The-Receiver"] == "yes"
    assert (await api.get("/app/hook/deliveries/1", api.jwt(app))).status == 404


@pytest_twisted.ensureDeferred
async def test_an_attempt_sends_it_again_with_its_guid_and_a_new_id(
    github: PretendGitHub, app: PretendApp, api: ApiClient, receiver: HookReceiver
) -> None:
    receiver.status = 500
    sent = await github.push("octo/widget")
    [item] = (await api.get("/app/hook/deliveries?status=failure", api.jwt(app))).json()
    assert (item["status_code"], item["status"]) == (500, "Invalid HTTP Response: 500")
    receiver.status = 200
    answer = await api.ask("POST", f"/app/hook/deliveries/{item['id']}/attempts", api.jwt(app))
    assert answer.status == 202
    await github.hooks.rest()
    new, old = (await api.get("/app/hook/deliveries", api.jwt(app))).json()
    assert (new["guid"], new["redelivery"], new["status_code"]) == (sent.guid, True, 200)
    assert (old["guid"], old["redelivery"], old["status_code"]) == (sent.guid, False, 500)
    assert new["id"] > old["id"]
    first, second = receiver.taken
    assert first == second


@pytest.mark.parametrize(
    ("mishap", "code", "status", "came"),
    [
        ("lost", 0, "", 0),
        ("refused", 502, "failed to connect to host", 0),
        ("timed_out", 504, "timed out", 1),
        ("throttled", 0, "throttled", 0),
    ],
)
@pytest_twisted.ensureDeferred
async def test_deliveries_go_wrong_as_they_do_at_github(
    github: PretendGitHub,
    app: PretendApp,
    api: ApiClient,
    receiver: HookReceiver,
    mishap: Mishap,
    code: int,
    status: str,
    came: int,
) -> None:
    github.hooks.of_app(app).spoil(mishap)
    assert (await github.push("octo/widget")).status is None
    assert len(receiver.taken) == came
    [item] = (await api.get("/app/hook/deliveries", api.jwt(app))).json()
    assert (item["status_code"], item["status"]) == (code, status)
    assert (item["throttled_at"] is not None) is (mishap == "throttled")
    # A code that is none is in neither filter.
    listed = {
        each: len((await api.get(f"/app/hook/deliveries?status={each}", api.jwt(app))).json())
        for each in ("success", "failure")
    }
    assert listed == {"success": 0, "failure": 1 if code else 0}
    assert (await github.push("octo/widget")).status == 202


@pytest_twisted.ensureDeferred
async def test_a_receiver_that_is_down_or_slow_is_listed_as_such(
    github: PretendGitHub, app: PretendApp, api: ApiClient, receiver: HookReceiver
) -> None:
    github.hooks.answer_within = 0.1
    receiver.status = None
    await github.push("octo/widget")
    await receiver.close()
    await github.push("octo/widget")
    listed = (await api.get("/app/hook/deliveries", api.jwt(app))).json()
    assert [each["status_code"] for each in listed] == [502, 504]


@pytest_twisted.ensureDeferred
async def test_the_list_lags_and_forgets_by_githubs_clock(
    github: PretendGitHub, app: PretendApp, api: ApiClient
) -> None:
    github.hooks.keeping.listing_lag = 120
    await github.push("octo/widget")
    listed = [len((await api.get("/app/hook/deliveries", api.jwt(app))).json())]
    for passed in (121, 3 * DAY - 130, 10):
        github.clock.advance(passed)
        listed.append(len((await api.get("/app/hook/deliveries", api.jwt(app))).json()))
    assert listed == [0, 1, 1, 0]
    github.hooks.of_app(app).spoil("unlisted")
    await github.push("octo/widget")
    github.clock.advance(121)
    assert (await api.get("/app/hook/deliveries", api.jwt(app))).json() == []


@pytest_twisted.ensureDeferred
async def test_the_last_response_of_a_repositorys_webhook_is_shown(
    github: PretendGitHub, app: PretendApp, api: ApiClient, receiver: HookReceiver
) -> None:
    token = await api.token(app.installations[0])
    body = {"config": {"url": receiver.url}, "events": ["push"]}
    made = (await api.ask("POST", "/repos/octo/widget/hooks", token, body)).json()
    assert made["last_response"] == {"code": None, "status": "unused", "message": None}
    await github.hooks.rest()
    one = f"/repos/octo/widget/hooks/{made['id']}"
    assert (await api.get(one, token)).json()["last_response"]["code"] == 202
    receiver.status = 503
    await github.push("octo/widget")
    assert (await api.get(one, token)).json()["last_response"]["code"] == 503
