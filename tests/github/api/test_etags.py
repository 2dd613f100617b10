"""Answers that GitHub need not send again."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from api_pair import StubCredential, error_of
from api_server import Say

from stackit.github.api.answer import HttpAnswer
from stackit.github.api.etags import LARGEST, LIFETIME, MOST, ETags

TAG = {"ETag": 'W/"a1"'}
UNCHANGED = Say(b"", 304)


def tags(pair: Any) -> list[str | None]:
    return [each.headers.get("if-none-match") for each in pair.server.asked]


@pytest_twisted.ensureDeferred
async def test_an_unchanged_answer_is_the_one_that_was_kept_with_its_links(pair: Any) -> None:
    link = {"Link": f'<{pair.server.url}/x?page=2>; rel="next"'}
    pair.server.answers = [Say([1], headers=TAG | link), Say([2]), UNCHANGED, Say([3])]
    for expected in ([[1], [2]], [[1], [3]]):
        assert [page async for page in pair.client.pages("/x", list[int])] == expected
    assert tags(pair) == [None, None, 'W/"a1"', None]
    assert pair.metric("stackit_github_requests_total", route="/x", status="304") == 1


@pytest_twisted.ensureDeferred
async def test_an_answer_is_kept_for_the_token_that_got_it_and_for_an_hour(pair: Any) -> None:
    pair.server.default = Say({}, headers=TAG)
    other = pair.make(StubCredential("main", "ghs_other"))
    for client in (pair.client, other, pair.client):
        await client.get("/x", dict)
    await pair.time.pass_time(LIFETIME + 1)
    await pair.client.get("/x", dict)
    assert tags(pair) == [None, None, 'W/"a1"', None]


@pytest_twisted.ensureDeferred
async def test_a_304_that_nobody_asked_for_is_no_answer(pair: Any) -> None:
    pair.server.default = UNCHANGED
    assert (await error_of(pair.client.get("/x", dict))).reason == "shape"


def test_what_is_kept_is_bounded() -> None:
    kept = ETags(lambda: 0.0)
    kept.put("t", "huge", HttpAnswer(200, {"etag": "x"}, bytes(LARGEST + 1)))
    assert kept.get("t", "huge") is None
    count = MOST // LARGEST + 2
    for number in range(count):
        kept.put("t", str(number), HttpAnswer(200, {"etag": "x"}, bytes(LARGEST)))
    assert [kept.get("t", str(number)) is None for number in range(count)] == [True, True] + [False] * (count - 2)
