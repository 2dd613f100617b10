"""GitHub's limits: what they hold back, for how long, and for whom."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import pytest
import pytest_twisted
from api_pair import StubCredential, error_of
from api_server import Say
from twisted.internet.defer import CancelledError, Deferred

from stackit.github.api import ApiError, GitHubClock

PRIMARY = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "0", "x-ratelimit-resource": "core"}


def began(request: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(request)


def primary(pair: Any, seconds: float, **more: str) -> dict[str, str]:
    return {**PRIMARY, "x-ratelimit-reset": str(int(pair.server.now() + seconds)), **more}


@pytest_twisted.ensureDeferred
async def test_requests_of_one_credential_go_one_after_the_other(pair: Any) -> None:
    open_requests: list[Any] = []
    pair.server.default = open_requests.append
    asked = [began(pair.client.get("/x/{n}", dict, n=n)) for n in range(3)]
    for number in range(3):
        await pair.until(lambda: len(open_requests) > number)  # noqa: B023 - it is called at once
        assert pair.paths == [f"/x/{n}" for n in range(number + 1)]
        if number == 0:  # another credential has its own turn
            pair.server.default = Say()
            assert await pair.make(StubCredential("other")).get("/y", dict) == {}
            pair.server.default = open_requests.append
            del pair.server.asked[1]
        open_requests[number].write(b"{}")
        open_requests[number].finish()
    for each in asked:
        assert await each == {}


@pytest_twisted.ensureDeferred
async def test_a_second_passes_between_two_writes(pair: Any) -> None:
    writes = [began(pair.client.send("POST", "/x")) for _ in range(3)]
    read = began(pair.client.get("/y", dict))
    await pair.until(lambda: all(each.called for each in (*writes, read)), passing=0.25)
    first, second, third, _ = (each.at for each in pair.server.asked)
    assert second - first >= 1
    assert third - second >= 1


@pytest.mark.parametrize("status", [403, 429])
@pytest_twisted.ensureDeferred
async def test_nothing_goes_out_until_the_primary_limit_is_reset(pair: Any, status: int) -> None:
    pair.server.answers = [Say({"message": "API rate limit exceeded"}, status, primary(pair, 600))]
    for _ in range(3):
        problem = await error_of(pair.client.get("/x", dict))
        assert problem.reason == "rate_limited"
        assert 595 < (problem.retry_at or 0) - pair.time.now() < 605
    assert len(pair.paths) == 1
    await pair.time.pass_time(595)
    waiting = began(pair.client.get("/x", dict))  # it waits for so little by itself
    await pair.time.pass_time(2)
    assert len(pair.paths) == 1
    await pair.until(lambda: waiting.called, passing=1)
    assert await waiting == {}


@pytest_twisted.ensureDeferred
async def test_the_last_request_that_is_left_is_the_last_that_is_sent(pair: Any) -> None:
    pair.server.answers = [Say({"a": 1}, 200, primary(pair, 3000))]
    assert await pair.client.get("/x", dict) == {"a": 1}
    assert (await error_of(pair.client.get("/x", dict))).reason == "rate_limited"
    assert len(pair.paths) == 1
    assert pair.metric("stackit_github_rate_limit_remaining", app="main", resource="core") == 0


@pytest_twisted.ensureDeferred
async def test_the_reset_is_a_time_of_githubs_clock(pair: Any) -> None:
    pair.server.now = lambda: pair.time.now() - 300
    pair.server.answers = [Say({}, 429, primary(pair, 600))]
    problem = await error_of(pair.client.get("/x", dict))
    assert 595 < (problem.retry_at or 0) - pair.time.now() < 605


@pytest.mark.parametrize(
    ("retry_after", "message", "seconds"),
    [
        ("90", "", 90),
        (None, "You have exceeded a secondary rate limit", 60),
        ("", "You have exceeded a secondary rate limit", 60),
        ("soon", "", 60),
        ("0", "", 60),
    ],
)
@pytest.mark.parametrize("status", [403, 429])
@pytest_twisted.ensureDeferred
async def test_a_secondary_limit_holds_as_long_as_it_says_or_a_minute(
    pair: Any, status: int, retry_after: str | None, message: str, seconds: float
) -> None:
    headers = {"x-ratelimit-remaining": "4000"} | ({} if retry_after is None else {"Retry-After": retry_after})
    pair.server.answers = [Say({"message": message}, status, headers)]
    for _ in range(2):
        problem = await error_of(pair.client.get("/x", dict))
        assert problem.reason == "secondary_limit"
        assert abs((problem.retry_at or 0) - pair.time.now() - seconds) < 5
    assert len(pair.paths) == 1
    await pair.time.pass_time(seconds + 1)
    assert await pair.client.get("/x", dict) == {}


@pytest_twisted.ensureDeferred
async def test_each_further_secondary_limit_doubles_the_pause_until_an_answer_is_good(pair: Any) -> None:
    waits = []
    pair.server.default = Say({"message": "You have exceeded a secondary rate limit"}, 403)
    for _ in range(8):
        problem = await error_of(pair.client.get("/x", dict))
        waits.append(round((problem.retry_at or 0) - pair.time.now()))
        await pair.time.pass_time(waits[-1] + 1)
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert len(pair.paths) == 8
    pair.server.answers = [Say()]
    await pair.client.get("/x", dict)
    problem = await error_of(pair.client.get("/x", dict))
    assert round((problem.retry_at or 0) - pair.time.now()) == 60


@pytest_twisted.ensureDeferred
async def test_a_permission_that_is_missing_is_no_limit(pair: Any) -> None:
    headers = {"x-ratelimit-remaining": "4000"}
    pair.server.answers = [Say({"message": "Resource not accessible by integration"}, 403, headers)]
    assert (await error_of(pair.client.get("/x", dict))).reason == "forbidden"
    assert await pair.client.get("/x", dict) == {}


@pytest_twisted.ensureDeferred
async def test_the_limit_of_one_credential_holds_no_other(pair: Any) -> None:
    pair.server.answers = [Say({}, 429, {"Retry-After": "3600"})]
    await error_of(pair.client.get("/x", dict))
    assert await pair.make(StubCredential("main/2")).get("/x", dict) == {}
    assert (await error_of(pair.client.get("/x", dict))).reason == "secondary_limit"


@pytest_twisted.ensureDeferred
async def test_a_resource_that_is_used_up_holds_no_other(pair: Any) -> None:
    used_up = primary(pair, 600) | {"x-ratelimit-resource": "search"}
    pair.server.answers = [Say({}, 200, used_up)]
    await pair.client.get("/search/repositories", dict)
    assert (await error_of(pair.client.get("/search/repositories", dict))).reason == "rate_limited"
    assert await pair.client.get("/x", dict) == {}


@pytest_twisted.ensureDeferred
async def test_who_gives_up_leaves_the_queue_to_the_others(pair: Any) -> None:
    open_requests: list[Any] = []
    pair.server.answers = [open_requests.append]
    first, second, third = (began(pair.client.get("/x/{n}", dict, n=n)) for n in range(3))
    await pair.until(lambda: open_requests)
    for each in (second, first):
        each.cancel()
        with pytest.raises(CancelledError):
            await each
    assert await third == {}
    assert pair.paths == ["/x/0", "/x/2"]


@pytest_twisted.ensureDeferred
async def test_a_server_that_fails_is_no_end_of_a_secondary_limit(pair: Any) -> None:
    limited = Say({"message": "secondary rate limit"}, 403)
    pair.server.answers = [limited, Say({}, 502), limited]
    reasons = []
    for _ in range(3):
        try:
            await pair.client.get("/x", dict)
        except ApiError as problem:
            reasons.append((problem.reason, problem.retry_at and round(problem.retry_at - pair.time.now())))
        await pair.time.pass_time(61)
    assert reasons == [("secondary_limit", 60), ("server", None), ("secondary_limit", 120)]


@pytest_twisted.ensureDeferred
async def test_at_a_stop_no_request_waits_for_the_end_of_a_limit(pair: Any) -> None:
    pair.server.answers = [Say({}, 429, {"Retry-After": "8"})]
    await error_of(pair.client.get("/x", dict))
    waiting = began(pair.client.get("/x", dict))
    await pair.time.rest()
    assert not waiting.called
    pair.clients.limits.be_impatient()
    assert (await error_of(waiting)).reason == "secondary_limit"
    assert (await error_of(pair.client.get("/x", dict))).reason == "secondary_limit"
    assert len(pair.paths) == 1
    other = pair.make(StubCredential("other"))
    pair.server.answers = [Say({}, 429, {"Retry-After": "8"})]
    for _ in range(2):
        assert (await error_of(other.get("/x", dict))).reason == "secondary_limit"
    assert len(pair.paths) == 2


@pytest_twisted.ensureDeferred
async def test_who_has_no_patience_does_not_queue_behind_who_has(pair: Any) -> None:
    pair.server.answers = [Say({}, 429, {"Retry-After": "60"})]
    await error_of(pair.client.get("/x", dict))
    patient = began(pair.make(patience=600).get("/x", dict))
    await pair.time.rest()
    assert (await error_of(pair.client.get("/x", dict))).reason == "secondary_limit"
    await pair.until(lambda: patient.called, passing=5)
    assert await patient == {}


@pytest_twisted.ensureDeferred
async def test_numbers_and_dates_that_make_no_sense_harm_nothing(pair: Any) -> None:
    for headers in (
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": 15 * "9"},
        {"x-ratelimit-remaining": "-1", "x-ratelimit-reset": "soon", "x-ratelimit-limit": "1e3"},
        {"x-ratelimit-remaining": "7", "x-ratelimit-reset": 11 * "9", "Retry-After": "99999999999999"},
    ):
        pair.server.answers = [
            Say({}, 200, {name: value.encode("utf-8").decode("latin-1") for name, value in headers.items()})
        ]
        await pair.make(StubCredential(str(len(pair.paths)))).get("/x", dict)
    assert pair.clients.status()["limits"][-1]["reset_at"].startswith("5138-")


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 01 Jan 0001 00:00:00 -0000", "Mon, 99 Foo 99999 99:99:99 GMT"])
def test_a_date_that_is_none_leaves_the_clock_as_it_is(date: str) -> None:
    clock = GitHubClock("x", lambda: 1_800_000_000.0, lambda _: None)
    clock.observe(date, 0.1)
    assert clock.offset == 0


def test_it_is_told_whose_clock_is_wrong() -> None:
    told: list[str] = []
    for whose in ({}, {"clock_of": "the fleet's database"}):
        clock = GitHubClock("x", lambda: 1_800_000_000.0, told.append, **whose)
        clock.observe(formatdate(1_800_000_060.0, usegmt=True), 0.1)
    assert [line.partition(" is ")[0] for line in told] == [
        "the clock of this machine",
        "the clock of the fleet's database",
    ]


def test_a_clock_at_the_edge_is_told_of_once() -> None:
    told: list[str] = []
    now = 1_800_000_000.0
    clock = GitHubClock("x", lambda: now, told.append)
    for behind in (31, 28, 33, 20, 40):
        clock.observe(formatdate(now + behind, usegmt=True), 0.1)
    assert len(told) == 1
    for behind in (3, 33):
        clock.observe(formatdate(now + behind, usegmt=True), 0.1)
    assert len(told) == 2
