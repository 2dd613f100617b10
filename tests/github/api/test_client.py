"""Requests to GitHub's API: what is sent, what is followed, and what an answer has to be."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import pytest_twisted
from api_pair import error_of
from api_server import Say
from twisted.internet.defer import Deferred

from stackit.api.version import VERSION
from stackit.github.api import ApiError, NoCredential, TokenCredential
from stackit.github.api.counts import MOST_ROUTES


class Repository(msgspec.Struct, frozen=True):
    id: int
    full_name: str


class Listing(msgspec.Struct, frozen=True):
    total_count: int
    repositories: list[Repository]


WIDGET = {"id": 1, "full_name": "octo/widget", "private": False}


async def all_pages(pages: Any) -> list[Any]:
    return [page async for page in pages]


@pytest_twisted.ensureDeferred
async def test_a_request_says_who_asks_and_what_it_understands(pair: Any) -> None:
    pair.server.default = Say(WIDGET)
    found = await pair.client.get("/repos/{owner}/{repo}", Repository, owner="octo", repo="widget")
    assert found == Repository(1, "octo/widget")
    (asked,) = pair.server.asked
    assert (asked.method, asked.uri, asked.body) == ("GET", "/repos/octo/widget", b"")
    assert asked.headers["authorization"] == "Bearer ghs_first"
    assert asked.headers["user-agent"] == f"stackit/{VERSION}"
    assert asked.headers["accept"] == "application/vnd.github+json"
    assert asked.headers["x-github-api-version"] == "2022-11-28"


@pytest_twisted.ensureDeferred
async def test_a_base_with_a_path_is_kept_and_values_stay_in_their_place(pair: Any) -> None:
    client = pair.make(base="/api/v3/")
    await client.get("/repos/{owner}/{repo}/git/ref/{ref}", dict, owner="o", repo="a?b#c", ref="heads/x")
    await client.get("/search", dict, {"q": "a b&c", "fork": True})
    assert pair.paths == ["/api/v3/repos/o/a%3Fb%23c/git/ref/heads%2Fx", "/api/v3/search?q=a+b%26c&fork=true"]
    for values in ({"owner": "o"}, {"owner": "o", "repo": ".."}, {"owner": "o", "repo": "w", "x": 1}):
        with pytest.raises(ValueError, match=r"route|cannot be"):
            await client.get("/repos/{owner}/{repo}", dict, **values)
    assert len(pair.paths) == 2


@pytest_twisted.ensureDeferred
async def test_a_write_sends_json_and_need_not_answer(pair: Any) -> None:
    pair.server.answers = [Say(b"", 204), Say({"token": "t"}, 201)]
    assert await pair.client.send("DELETE", "/installation/token") is None
    found = Deferred.fromCoroutine(
        pair.client.send("POST", "/app/installations/{id}/access_tokens", {"a": [1]}, dict, id=7)
    )
    await pair.until(lambda: found.called, passing=1)
    assert await found == {"token": "t"}
    assert pair.server.asked[1].body == b'{"a":[1]}'
    assert pair.server.asked[1].headers["content-type"] == "application/json"


@pytest_twisted.ensureDeferred
async def test_pages_are_followed_by_their_links_alone(pair: Any) -> None:
    base = pair.server.url
    pair.server.answers = [
        Say([WIDGET], headers={"Link": f'<{base}/x?page=7>; rel="next", <{base}/x?page=9>; rel="last"'}),
        Say([], headers={"Link": f'<{base}/x?page=1>; rel="prev first"'}),
        Say([WIDGET]),
    ]
    assert await all_pages(pair.client.pages("/x", list[Repository])) == [[Repository(1, "octo/widget")], []]
    assert pair.paths == ["/x?per_page=100", "/x?page=7"]


@pytest.mark.parametrize(
    "link",
    ["https://elsewhere.example/x?page=2", "/v3/x", "{base}/x?per_page=100", "{base}/../x", "http://me@{host}/x"],
)
@pytest_twisted.ensureDeferred
async def test_a_link_that_leaves_the_api_or_leads_back_ends_the_listing(pair: Any, link: str) -> None:
    base = f"{pair.server.url}/api"
    link = link.format(base=base, host=base.partition("://")[2])
    pair.server.default = Say([], headers={"Link": f'<{link}>; rel="next"'})
    problem = await error_of(all_pages(pair.make(base="/api").pages("/x", list)))
    assert problem.reason == "shape"
    assert len(pair.paths) == 1


@pytest_twisted.ensureDeferred
async def test_a_moved_repository_is_followed_by_its_id(pair: Any) -> None:
    pair.server.answers = [
        Say({"message": "Moved Permanently"}, 301, {"Location": f"{pair.server.url}/repositories/1"}),
        Say(WIDGET),
    ]
    found = await pair.client.get("/repos/{owner}/{repo}", Repository, owner="old", repo="name")
    assert found.full_name == "octo/widget"
    assert pair.paths == ["/repos/old/name", "/repositories/1"]


@pytest_twisted.ensureDeferred
async def test_a_redirect_never_takes_the_token_elsewhere_and_ends(pair: Any) -> None:
    pair.server.answers = [Say({}, 302, {"Location": "http://localhost:1/repositories/1"})]
    assert (await error_of(pair.client.get("/x", dict))).reason == "shape"
    pair.server.default = Say({}, 307, {"Location": "/x"})
    problem = await error_of(pair.client.get("/x", dict))
    assert (problem.reason, "in circles" in str(problem), len(pair.paths)) == ("shape", True, 5)


@pytest.mark.parametrize(
    ("status", "message", "reason"),
    [
        (401, "Bad credentials", "unauthorized"),
        (403, "Resource not accessible by integration", "forbidden"),
        (403, "This installation has been suspended", "suspended"),
        (404, "Not Found", "not_found"),
        (410, "Gone", "not_found"),
        (422, "Validation Failed", "validation"),
        (500, "Server Error", "server"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_refusal_is_one_line_with_its_reason(pair: Any, status: int, message: str, reason: str) -> None:
    pair.server.default = Say({"message": f"{message}\nfor ghs_{'a' * 40}", "status": str(status)}, status)
    problem = await error_of(pair.client.get("/repos/{owner}/{repo}", dict, owner="octo", repo="widget"))
    assert (problem.reason, problem.status, problem.retry_at) == (reason, status, None)
    host = pair.server.url.partition("://")[2]
    assert str(problem) == f"{host}: GET /repos/octo/widget: status {status}: {message} for ***"


@pytest.mark.parametrize("body", [b"<html><body>Unicorn!</body></html>", b'[{"id": 1, "full_n', b"", b'{"a": 1}'])
@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_not_of_the_api_is_no_answer(pair: Any, body: bytes) -> None:
    pair.server.default = Say(body)
    problem = await error_of(pair.client.get("/x", list[Repository]))
    assert (problem.reason, problem.status) == ("shape", 200)


@pytest_twisted.ensureDeferred
async def test_a_page_of_html_in_place_of_an_error_is_an_error_all_the_same(pair: Any) -> None:
    pair.server.answers = [Say(b"<html>maintenance</html>", 503), Say(b"", 503, {"Retry-After": "120"})]
    problem = await error_of(pair.client.get("/x", list))
    assert (problem.reason, str(problem).rpartition(": ")[2]) == ("server", "status 503")
    assert problem.retry_at is None
    later = await error_of(pair.client.get("/x", list))
    assert abs((later.retry_at or 0) - pair.time.now() - 120) < 5


@pytest_twisted.ensureDeferred
async def test_a_rejected_token_is_replaced_and_the_request_sent_again(pair: Any) -> None:
    pair.credential.tokens = ["old", "new"]
    pair.server.answers = [Say({"message": "Bad credentials"}, 401), Say({"ok": 1})]
    assert await pair.client.get("/x", dict) == {"ok": 1}
    assert [each.headers["authorization"] for each in pair.server.asked] == ["Bearer old", "Bearer new"]
    pair.server.answers = [Say({}, 401), Say({"ok": 1})]
    assert (await error_of(pair.client.get("/x", dict))).reason == "unauthorized"


@pytest_twisted.ensureDeferred
async def test_requests_are_counted_by_route_and_status(pair: Any) -> None:
    pair.server.answers = [Say(), Say({}, 404), Say(b"<", 200)]
    for _ in range(3):
        try:
            await pair.client.get("/repos/{owner}/{repo}", dict, owner="octo", repo="widget")
        except ApiError:
            continue
    route = "/repos/{owner}/{repo}"
    values = {
        status: pair.metric("stackit_github_requests_total", route=route, status=status)
        for status in ("200", "404", "403", "network")
    }
    assert values == {"200": 2, "404": 1, "403": 0, "network": 0}


@pytest_twisted.ensureDeferred
async def test_a_server_that_refuses_the_version_is_asked_without_one_from_then_on(pair: Any) -> None:
    refusal = Say({"message": "The X-GitHub-Api-Version header 2022-11-28 is not a supported version"}, 400)
    pair.server.answers = [refusal, Say({"a": 1})]
    assert await pair.client.get("/x", dict) == {"a": 1}
    await pair.make().get("/x", dict)
    versions = [each.headers.get("x-github-api-version") for each in pair.server.asked]
    assert versions == ["2022-11-28", None, None]
    pair.server.answers = [refusal]
    assert (await error_of(pair.client.get("/x", dict))).reason == "validation"


@pytest_twisted.ensureDeferred
async def test_the_state_shows_clock_and_limits(pair: Any) -> None:
    headers = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "4999", "x-ratelimit-reset": "1800000000"}
    pair.server.default = Say(headers=headers)
    await pair.client.get("/x", dict)
    assert pair.clients.status() == {
        "apis": [{"api_url": pair.server.url, "clock_offset": 0.0}],
        "limits": [
            {
                "credential": "main",
                "resource": "core",
                "limit": 5000,
                "remaining": 4999,
                "reset_at": "2027-01-15T08:00:00.000Z",
                "held_for": 0.0,
            }
        ],
    }


@pytest_twisted.ensureDeferred
async def test_routes_with_names_in_them_do_not_make_metrics_without_end(pair: Any) -> None:
    for number in range(MOST_ROUTES + 2):
        pair.clients.counts.count(f"/repos/octo/{number}", "200")
    assert pair.metric("stackit_github_requests_total", route="other", status="200") == 2


@pytest_twisted.ensureDeferred
async def test_a_token_in_a_file_is_read_for_each_request(pair: Any) -> None:
    tokens = ["github_pat_old", "github_pat_old", "github_pat_new", "github_pat_new"]
    credential = TokenCredential("people", lambda: tokens.pop(0))
    pair.server.answers = [Say(), Say({}, 401), Say()]
    client = pair.make(credential)
    for _ in range(2):
        await client.get("/x", dict)
    sent = [each.headers["authorization"].removeprefix("Bearer github_pat_") for each in pair.server.asked]
    assert sent == ["old", "old", "new"]


@pytest_twisted.ensureDeferred
async def test_what_needs_no_credential_is_asked_without_one_and_its_code_is_not_told(pair: Any) -> None:
    pair.server.default = Say({"message": "Not Found"}, 404)
    asked = pair.make(NoCredential("setup")).send("POST", "/app-manifests/{code}/conversions", code="hush")
    assert "hush" not in str(await error_of(asked))
    assert "authorization" not in pair.server.asked[0].headers


@pytest_twisted.ensureDeferred
async def test_a_value_with_a_line_end_stays_in_its_line(pair: Any) -> None:
    pair.server.default = Say({"message": "Not Found"}, 404)
    problem = await error_of(pair.client.get("/repos/{owner}/{repo}", dict, owner="o\nfake line", repo="w" * 600))
    assert "\n" not in str(problem)
    assert len(str(problem)) < 450
