"""Faults of the pretend GitHub's API, and what it does not answer at all."""

from __future__ import annotations

from typing import Any, cast

import pytest
import pytest_twisted
from api_client import ApiClient, links
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed
from twisted.web.http_headers import Headers
from waiting import until

from stackit.testing.github import PretendGitHub
from stackit.testing.github_api.answers import ApiAnswer, ApiRequest
from stackit.testing.http_client import Answer

LIST = "/installation/repositories"


@pytest_twisted.async_yield_fixture
async def token(github: PretendGitHub, api: ApiClient) -> Any:
    """A token of an installation with 25 repositories."""
    await github.create_many("octo", 25)
    yield await api.token(await github.apps.create().install("octo"))


@pytest.mark.parametrize(
    ("kind", "status", "body"),
    [
        ("html", 200, b"<!DOCTYPE html>"),
        ("html_503", 503, b"<!DOCTYPE html>"),
        ("blank", 200, b""),
        ("echo", 500, b'{"message":"Server Error: asked with Bearer ghs_'),
        (500, 500, b'{"message":"Server Error"'),
        (401, 401, b'{"message":"Bad credentials"'),
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_answer_is_replaced(
    github: PretendGitHub, api: ApiClient, token: str, kind: Any, status: int, body: bytes
) -> None:
    github.api.faults.begin(LIST, kind, times=2)
    for _ in range(2):
        answer = await api.get(LIST, token)
        assert (answer.status, answer.body[: len(body)]) == (status, body)
        assert (answer.body == b"") == (kind == "blank")
    assert (await api.get(LIST, token)).json()["total_count"] == 25


@pytest_twisted.ensureDeferred
async def test_an_answer_has_another_shape_and_is_json_still(github: PretendGitHub, api: ApiClient, token: str) -> None:
    async def seen(kind: Any) -> Any:
        github.api.faults.begin(LIST, kind, times=1)
        return (await api.get(LIST, token)).json()

    assert await seen("empty") == {"total_count": 0, "repository_selection": "all", "repositories": []}
    assert isinstance((await seen("shape"))["repositories"], dict)
    assert all("id" not in each and "full_name" in each for each in (await seen("items"))["repositories"])
    github.api.faults.begin("/app/installations", "shape")
    app = next(iter(github.apps))
    assert isinstance((await api.get("/app/installations", api.jwt(app))).json(), dict)


@pytest_twisted.ensureDeferred
async def test_one_page_of_many_fails(github: PretendGitHub, api: ApiClient, token: str) -> None:
    github.api.faults.begin(LIST, 500, page=3)
    url, statuses = f"{LIST}?per_page=10", []
    while url:
        answer = await api.get(url, token)
        statuses.append(answer.status)
        url = links(answer).get("next", "")
    assert statuses == [200, 200, 500]
    github.api.faults.heal(LIST)
    assert len(await api.pages(f"{LIST}?per_page=10", token)) == 3


@pytest_twisted.ensureDeferred
async def test_an_answer_is_cut_reset_or_never_comes(github: PretendGitHub, api: ApiClient, token: str) -> None:
    whole = (await api.get(LIST, token)).body
    github.api.faults.begin(LIST, "drip", times=1, pause=0.001)
    assert (await api.get(LIST, token)).body == whole
    github.api.faults.begin(LIST, "cut", times=1)
    with pytest.raises(ResponseFailed):
        await api.get(LIST, token)
    github.api.faults.begin(LIST, "reset", times=1)
    with pytest.raises(ResponseFailed):
        await api.get(LIST, token)
    github.api.faults.begin(LIST, "hang", times=1)
    asked = github.api.count(LIST)
    waiting: Deferred[Answer] = Deferred.fromCoroutine(api.get(LIST, token))
    await until(lambda: github.api.count(LIST) > asked, "the request that hangs")
    assert (await api.get(LIST, token)).status == 200
    assert not waiting.called
    waiting.addErrback(lambda _: None)
    waiting.cancel()


class Enough(Protocol):
    """Reads until it has had enough."""

    transport: Any  # a zope interface, which mypy does not know

    def __init__(self) -> None:
        self.read = 0
        self.over: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.read += len(data)
        if self.read > 1_000_000:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.over.callback(None)


@pytest_twisted.ensureDeferred
async def test_an_answer_goes_on_and_on(github: PretendGitHub, api: ApiClient, token: str) -> None:
    github.api.faults.begin(LIST, "endless", times=1)
    headers = Headers({"Authorization": [f"Bearer {token}"], "User-Agent": ["test"]})
    response: Any = await api.agent.request(b"GET", f"{github.web_url}{LIST}".encode(), headers)
    enough = Enough()
    response.deliverBody(enough)
    await enough.over
    assert enough.read > 1_000_000


@pytest_twisted.ensureDeferred
async def test_a_refused_mint_makes_no_token(github: PretendGitHub, api: ApiClient) -> None:
    installation = await github.apps.create().install("octo")
    github.api.faults.begin("/app/installations/{installation_id}/access_tokens", 500, times=1)
    assert (await api.mint(installation)).status == 500
    assert github.tokens.minted == {}


@pytest_twisted.ensureDeferred
async def test_a_repository_vanishes_between_two_pages_and_takes_another_with_it(
    github: PretendGitHub, api: ApiClient, token: str
) -> None:
    github.api.after_page(LIST, 1, lambda: github.admin.delete("octo/r00002"))
    pages = await api.pages(f"{LIST}?per_page=10", token)
    listed = [each["name"] for page in pages for each in page["repositories"]]
    assert len(listed) == 24
    assert "r00011" not in listed
    assert (await api.get("/repos/octo/r00011", token)).status == 200


@pytest_twisted.ensureDeferred
async def test_an_unknown_fault_is_refused(github: PretendGitHub) -> None:
    with pytest.raises(ValueError, match="no such fault: 'sulk'"):
        github.api.faults.begin(LIST, cast("Any", "sulk"))


@pytest_twisted.ensureDeferred
async def test_what_nobody_should_ask_is_remembered(github: PretendGitHub, api: ApiClient) -> None:
    unknown = await api.get("/repos/octo/one/unknown?x=1")
    assert (unknown.status, unknown.json()["message"], unknown.json()["status"]) == (404, "Not Found", "404")
    assert (await api.get("/versions", headers={"X-GitHub-Api-Version": "2019-01-01"})).status == 400
    assert (await api.get("/versions", headers={"User-Agent": ""})).status == 403
    assert github.api.refusals == [
        "GET /repos/octo/one/unknown: no such route",
        "GET /versions: no API version 2019-01-01",
        "GET /versions: no User-Agent",
    ]
    assert (await api.get("/versions")).json() == ["2022-11-28", "2026-03-10"]
    assert (await api.get("/meta", base=github.api_url)).json()["hooks"] == ["127.0.0.1/32"]


@pytest_twisted.ensureDeferred
async def test_a_route_that_breaks_is_remembered(
    github: PretendGitHub, api: ApiClient, logged_failures: list[Any]
) -> None:
    def broken(request: ApiRequest) -> ApiAnswer:
        raise ZeroDivisionError("broken")

    github.router.add("GET", "/broken", broken)
    with pytest.raises(ResponseFailed):
        await api.get("/broken")
    assert github.api.refusals == ["GET /broken: broken"]
    assert len(logged_failures) == 1
    logged_failures.clear()
