"""Limits of the pretend GitHub's API."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from api_client import ApiClient
from twisted.internet.defer import Deferred, gatherResults

from stackit.testing.github import PretendGitHub

LIST = "/installation/repositories"


@pytest_twisted.ensureDeferred
async def test_each_caller_has_a_limit_of_its_own(github: PretendGitHub, api: ApiClient) -> None:
    github.api.limits.per_hour = 3
    app = github.apps.create()
    first, second = await app.install("octo"), await app.install("hubot")
    token, other = await api.token(first), await api.token(second)
    answers = [await api.get(LIST, token) for _ in range(3)]
    assert [each.headers["x-ratelimit-remaining"] for each in answers] == ["2", "1", "0"]
    assert github.api.limits.ban_points.total() == 0
    refused = await api.get(LIST, token)
    assert (refused.status, refused.headers["x-ratelimit-remaining"]) == (403, "0")
    assert refused.json()["message"] == f"API rate limit exceeded for installation ID {first.id}."
    assert github.api.limits.ban_points == {f"installation:{first.id}": 1}
    assert (await api.get(LIST, other)).status == 200
    github.clock.advance(int(refused.headers["x-ratelimit-reset"]) - github.clock.now())
    assert (await api.get(LIST, await api.token(first))).status == 200


@pytest.mark.parametrize("status", [403, 429])
@pytest_twisted.ensureDeferred
async def test_who_is_not_told_of_a_limit_is_not_blamed_for_it(
    github: PretendGitHub, api: ApiClient, status: int
) -> None:
    installation = await github.apps.create().install("octo")
    token = await api.token(installation)
    github.api.limits.exhaust(installation, seconds=100, status=status)
    for points in (0, 1, 2):
        assert (await api.get(LIST, token)).status == status
        assert github.api.limits.ban_points.total() == points
    github.clock.advance(101)
    assert (await api.get(LIST, token)).status == 200


@pytest.mark.parametrize(("retry_after", "seen"), [("7", "7"), ("", ""), (None, None)])
@pytest_twisted.ensureDeferred
async def test_a_secondary_limit_has_a_retry_after_or_a_blank_one_or_none(
    github: PretendGitHub, api: ApiClient, retry_after: str | None, seen: str | None
) -> None:
    app = github.apps.create()
    github.clock.freeze()
    github.api.limits.hold(app, seconds=7, retry_after=retry_after, status=429)
    refused = await api.get("/app", api.jwt(app))
    assert (refused.status, refused.headers.get("retry-after")) == (429, seen)
    assert "secondary rate limit" in refused.json()["message"]
    assert int(refused.headers["x-ratelimit-remaining"]) > 0
    assert github.api.limits.ban_points.total() == 0
    await api.get("/app", api.jwt(app))
    assert github.api.limits.ban_points == {f"app:{app.id}": 1}
    github.clock.advance(8)
    assert (await api.get("/app", api.jwt(app))).status == 200


@pytest_twisted.ensureDeferred
async def test_too_many_points_in_a_minute_or_requests_at_once_bring_a_secondary_limit(
    github: PretendGitHub, api: ApiClient
) -> None:
    limits = github.api.limits
    limits.points_per_minute, limits.concurrent = 20, 2
    github.clock.freeze()
    writes, reads = github.apps.create("writes"), github.apps.create("reads")
    installation = await writes.install("octo")
    minted = [(await api.mint(installation)).status for _ in range(5)]
    assert minted == [201, 201, 201, 201, 403]
    assert limits.hasty_writes == {f"app:{writes.id}": 4}
    github.clock.advance(61)
    assert (await api.mint(installation)).status == 201
    assert limits.hasty_writes == {f"app:{writes.id}": 4}
    github.api.latency = 0.05
    asked = [Deferred.fromCoroutine(api.get("/app", api.jwt(reads))) for _ in range(3)]
    answers: list[Any] = await gatherResults(asked)
    assert sorted(each.status for each in answers) == [200, 200, 403]
    assert limits.most_concurrent[f"app:{reads.id}"] == 3


@pytest_twisted.ensureDeferred
async def test_what_a_token_knows_already_is_free_for_this_token_alone(github: PretendGitHub, api: ApiClient) -> None:
    await github.create("octo/one")
    installation = await github.apps.create().install("octo")
    token, other = await api.token(installation), await api.token(installation)
    tag = (await api.get(LIST, token)).headers["etag"]
    known = await api.get(LIST, token, headers={"If-None-Match": tag})
    assert (known.status, known.body, known.headers["x-ratelimit-used"]) == (304, b"", "1")
    assert (await api.get(LIST, other, headers={"If-None-Match": tag})).status == 200
    await github.admin.archive("octo/one")
    assert (await api.get(LIST, token, headers={"If-None-Match": tag})).status == 200


@pytest_twisted.ensureDeferred
async def test_the_limits_can_be_asked_for_and_cost_nothing(github: PretendGitHub, api: ApiClient) -> None:
    installation = await github.apps.create().install("octo")
    token = await api.token(installation)
    await api.get(LIST, token)
    for _ in range(2):
        core = (await api.get("/rate_limit", token)).json()["resources"]["core"]
        assert (core["limit"], core["used"], core["remaining"]) == (5000, 1, 4999)
    assert (await api.get("/rate_limit")).json()["rate"]["limit"] == 60


@pytest_twisted.ensureDeferred
async def test_an_enterprise_server_has_no_limits(github: PretendGitHub, api: ApiClient) -> None:
    github.api.limits.enabled = False
    github.api.limits.per_hour = 0
    answer = await api.get("/app", api.jwt(github.apps.create()))
    assert answer.status == 200
    assert not any(name.startswith("x-ratelimit") for name in answer.headers)
    assert (await api.get("/rate_limit")).json()["message"] == "Rate limiting is not enabled."
